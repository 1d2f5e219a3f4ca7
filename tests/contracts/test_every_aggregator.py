"""All aggregators on 10,000 Jacobians of ten hostile families, m = 1..8 and n = 1..30, against `surgery_references`.

The error is relative to the longest row or the update, whichever is longer, and must not exceed 1e-10, whatever the
condition: what the given doubles define is what counts. Two rules define no single update, and are checked for what
they do define:

- CR-MOGM averages least-norm weights, which dependent rows leave open: any minimizer will do, and is checked to be one.
- Flag's subspace is an eigenspace: each reweighting must give an eigenvector, to eps over nothing but the matrix.
"""

import numpy as np
import pytest
import surgery_references as reference
from jacobians import Wide, length, min_norm, unit

from orthotheory import surgery

SOLUTIONS = {
    "mean": lambda j: j.mean(axis=1),
    "sum": lambda j: j.sum(axis=1),
    "constant": lambda j: np.einsum("m,bmn->bn", np.arange(j.shape[1]) - 0.5, j),
    "upgrad": reference.upgrad,
    "dual-proj": reference.dual_proj,
    "gem": reference.gem,
    "a-gem": reference.a_gem,
    "mgda": min_norm,
    "nash-mtl": lambda j: reference.bargaining(j, 1),
    "fairgrad": lambda j: reference.bargaining(j, 2),
    "config": reference.config,
    "imtl-g": reference.imtl_g,
    "imtl-g-safe": lambda j: reference.imtl_g(j, safe=True),
    "aligned-mtl": reference.aligned_mtl,
    "krum": lambda j: reference.krum(j, min(1, j.shape[1] - 3)),
    "trimmed-mean": lambda j: reference.trimmed_mean(j, int(j.shape[1] > 2)),
}


def make(name, m):
    given = {
        "constant": {"weight": tuple(np.arange(m) - 0.5)},
        "krum": {"byzantine": max(0, min(1, m - 3))},
        "trimmed-mean": {"trim": int(m > 2)},
    }
    return surgery.make(name, **given.get(name, {}))


def orders(rule, count, j):
    b, m, _ = j.shape
    return rule.draws(count).permuted(np.broadcast_to(np.arange(m), (b, m, m)), axis=-1)


def relative(x, expected, *jacobians):
    size = np.maximum(length(expected)[:, 0], Wide(1e-300))
    for j in jacobians:
        size = np.maximum(size, length(j).max(axis=(1, 2)))
    return (length(x - expected)[:, 0] / size).astype(float)


def of_one_jacobian(name, j):
    rule, wide = make(name, j.shape[1]), j.astype(Wide)
    x = rule(j)
    if name == "random":
        expected = reference.weigh(np.exp(rule.draws(0).standard_normal(j.shape[:2])).astype(Wide), wide)
    elif name == "pcgrad":
        expected = reference.pcgrad(wide, orders(rule, 0, j))
    elif name == "graddrop":
        expected = reference.graddrop(wide, rule.draws(0).random((j.shape[0], j.shape[2])))
    elif name in ("cagrad", "cagrad-1"):
        expected = reference.cagrad(wide, Wide(rule.c))
    else:
        expected = SOLUTIONS[name](wide)
    scale = () if name in ("nash-mtl", "fairgrad") else (j,)
    return relative(x, expected, *scale)


def of_a_sequence(name, j):
    rule, worst = make(name, j.shape[1]), 0.0
    state, known = rule.init(j), None
    for k in range(1, 4):
        now = j if name == "gradvac" else np.roll(j, k, axis=0)
        wide = now.astype(Wide)
        if name == "gradvac":
            expected, known = reference.gradvac(known, wide, orders(rule, k - 1, j))
        else:
            expected, known = reference.MEMORY[name](known, wide, k)
        x, state = rule.step(now, state)
        worst = np.maximum(worst, relative(x, expected, now))
    return worst


def of_sdmgrad(j):
    rule, worst = surgery.make("sdmgrad"), 0.0
    state = rule.init(j)
    for _ in range(2):
        expected, weights = (np.array(a) for a in zip(*map(reference.sdmgrad, state, j), strict=True))
        x, state = rule.step(j, state)
        worst = np.maximum(worst, relative(x, expected.astype(Wide), j))
        worst = np.maximum(worst, np.abs(state - weights).max(axis=1))
    return worst


def of_cr_mogm(j):
    rule, worst, wide = make("cr-mogm", j.shape[1]), 0.0, j.astype(Wide)
    state, least = rule.init(j), min_norm(wide)
    for _ in range(3):
        x, after = rule.step(j, state)
        inner = (after - Wide(rule.alpha) * state) / (1 - Wide(rule.alpha))
        expected = Wide(rule.alpha) * reference.combine(state.astype(Wide), wide) + (1 - Wide(rule.alpha)) * least
        worst = np.maximum(worst, relative(x, expected, j))
        worst = np.maximum(worst, relative(reference.combine(inner, wide), least, j))
        simplex = np.maximum(-inner.min(axis=1), np.abs(inner.sum(axis=1) - 1))
        worst, state = np.maximum(worst, simplex.astype(float)), after
    return worst


def of_flag(j):
    """|A y - (y.A y) y| <= 1e-10 |A| for the weighted A of the directions before, and y.A y the largest eigenvalue."""
    h, worst = unit(j.astype(Wide)), 0.0
    total = h.sum(axis=1)
    a, known = np.ones(h.shape[:2], Wide), np.ones(len(h), bool)
    for k in range(11):
        x = surgery.make("flag", iterations=k)(j).astype(Wide)
        y, alive = unit(x), length(x)[:, 0] > 1e-3  # where y . sum h vanishes the update hides its direction
        rows = a[..., None] * h
        along = np.einsum("bmn,bn->bm", rows, y)
        value, size = np.sum(along**2, axis=1), np.sum(rows**2, axis=(1, 2))
        top = reference.jacobi(rows)[1][:, 0] ** 2
        miss = length(reference.combine(along, rows) - value[:, None] * y)[:, 0] + np.abs(top - value)
        miss = np.maximum(miss / np.where(size > 0, size, 1), relative(x, np.sum(y * total, axis=1)[:, None] * y))
        known = known & alive
        worst = np.maximum(worst, np.where(known, miss, 0).astype(float))
        a = (np.maximum(1 - np.einsum("bmn,bn->bm", h, y) ** 2, 0) + Wide(1e-7)) ** Wide(-0.25)
    return worst


def errors(name, j):
    """The error of each Jacobian."""
    if name in ("sdmgrad", "cr-mogm", "flag"):
        return {"sdmgrad": of_sdmgrad, "cr-mogm": of_cr_mogm, "flag": of_flag}[name](j)
    return of_a_sequence(name, j) if name in (*reference.MEMORY, "gradvac") else of_one_jacobian(name, j)


@pytest.mark.parametrize("name", surgery.names())
def test_every_aggregator_is_its_second_solution_on_hostile_jacobians(name):
    for m, n in [(1, 3), (2, 5), (3, 2), (4, 8), (5, 13)]:
        if name == "krum" and m < 3:
            continue
        error = errors(name, reference.hostile(2, m, n, seed=30))
        assert np.all(error <= 1e-10), (m, n, error.max())


def test_the_comparison_sees_an_error_of_1e_9():
    j = reference.hostile(2, 4, 8, seed=30)
    expected = reference.upgrad(j.astype(Wide))
    moved = surgery.make("upgrad")(j) + 1e-9 * length(j).max(axis=(1, 2))[:, None] * np.eye(8)[0]
    assert relative(moved, expected, j).min() > 1e-10


def test_krum_refuses_one_and_two_rows():
    for m in (1, 2):
        with pytest.raises(ValueError, match="at least 3 rows"):
            surgery.make("krum", byzantine=0)(np.ones((m, 3)))


@pytest.mark.slow
@pytest.mark.parametrize("name", surgery.names())
def test_every_aggregator_is_its_second_solution_on_10_000_jacobians(name, capsys):
    count, worst = 0, 0.0
    for m in range(3 if name == "krum" else 1, 9):
        for n in (1, 2, 3, 5, 8, 13, 20, 30):
            error = errors(name, reference.hostile(22 if name == "krum" else 16, m, n, seed=31))
            count, worst = count + len(error), max(worst, float(error.max()))
    with capsys.disabled():
        print(f"\n{name}: {count} Jacobians, largest error {worst:.0e}")
    assert count >= 10_000
    assert worst <= 1e-10
