"""Options of ConFIG and Flag: the length of the update, and terms for pairs of gradients."""

import numpy as np
import pytest
from jacobians import families, length, unit

from orthotheory import surgery
from orthotheory.arrays import to_host
from orthotheory.surgery import properties

MEANS = {
    "shortest": lambda size: size.min(axis=1),
    "longest": lambda size: size.max(axis=1),
    "arithmetic": lambda size: size.mean(axis=1),
    "harmonic": lambda size: 1 / (1 / size).mean(axis=1),
    "geometric": lambda size: size.prod(axis=1) ** (1 / size.shape[1]),
}
FULL = ("generic", "conflicting", "row scales 1e-4 to 1e4")


@pytest.mark.parametrize("kind", MEANS)
@pytest.mark.parametrize("family", FULL)
def test_config_with_a_common_length_is_the_sum_of_cosines_times_it(family, kind):
    j = families(5, 3, 6, seed=2)[family]
    x = surgery.make("config", length=kind)(j)
    direction = unit(np.stack([np.linalg.pinv(h.astype(float)) @ np.ones(3) for h in unit(j)]))
    cosines = np.einsum("bmn,bn->bm", unit(j), direction)
    expected = (MEANS[kind](length(j)[..., 0]) * cosines.sum(axis=1))[:, None] * direction
    np.testing.assert_allclose(x, expected, atol=1e-10 * np.abs(expected).max())
    np.testing.assert_allclose(unit(x), unit(surgery.make("config")(j)), atol=1e-12)


@pytest.mark.parametrize("kind", ["projections", *MEANS])
def test_only_the_length_by_projections_and_the_arithmetic_mean_are_linear_under_row_scaling(kind):
    j = families(5, 3, 6, seed=2)["generic"]
    error = properties.nonlinear_scaling(surgery.make("config", length=kind), j)
    if kind in ("projections", "arithmetic"):
        assert error.max() <= 1e-12
    else:
        assert error.max() > 1e-3


@pytest.mark.parametrize("kind", MEANS)
def test_config_with_a_common_length_passes_over_zero_rows_and_bears_extreme_scales(kind):
    rule = surgery.make("config", length=kind)
    j = families(4, 3, 6, seed=2)["generic"]
    with_zero = np.concatenate([j, np.zeros_like(j[:, :1])], axis=1)
    np.testing.assert_allclose(rule(with_zero), rule(j), rtol=1e-12)
    for scale in (1e-300, 1e300):
        np.testing.assert_allclose(rule(scale * j) / scale, rule(j), rtol=1e-12)
    assert not rule(0 * j).any()


def test_config_of_equal_lengths_does_not_depend_on_the_kind():
    j = 3.0 * np.asarray(unit(families(5, 3, 6, seed=2)["conflicting"]), float)
    updates = [surgery.make("config", length=kind)(j) for kind in ("projections", *MEANS)]
    for x in updates[1:]:
        np.testing.assert_allclose(x, updates[0], atol=1e-12)


def flag(j, rank, iterations, pairs):
    """The published loop, with every ordered pair as a column of its own, on the n x n matrix of the columns."""
    m = len(j)
    h = np.asarray(unit(j), float)
    columns = [(1.0, x) for x in h]
    columns += [(pairs / (m * (m - 1)), h[i] - h[k]) for i in range(m) for k in range(m) if i != k]
    a = [factor for factor, _ in columns]
    for step in range(iterations + 1):
        form = sum(w * w * np.outer(x, x) for w, (_, x) in zip(a, columns, strict=True))
        y = np.linalg.eigh(form)[1][:, -rank:]
        if step < iterations:
            a = [factor * (abs(1 - np.sum((y.T @ x) ** 2)) + 1e-7) ** -0.25 for factor, x in columns]
    return y @ (y.T @ h.sum(axis=0)) / rank


@pytest.mark.parametrize(("rank", "pairs"), [(1, 0.0), (1, 2.0), (2, 5.0), (3, 0.5)])
def test_flag_with_pairs_is_the_loop_over_ordered_pairs(rank, pairs):
    for family in ("generic", "row scales 1e-4 to 1e4"):
        j = families(6, 4, 7, seed=3)[family]
        x = surgery.make("flag", rank=rank, iterations=3, pairs=pairs)(j)
        expected = [flag(one, rank, 3, pairs) for one in j]
        np.testing.assert_allclose(x, expected, atol=1e-10)
    assert np.abs(x - surgery.make("flag", rank=rank, iterations=3, pairs=pairs + 1)(j)).max() > 1e-4


def test_pairs_turn_the_subspace_of_flag_toward_the_differences():
    """Without pairs it holds the direction that two rows share, with heavy ones that in which they differ."""
    j = np.array([[1.0, 0.3], [1.0, -0.3]])
    assert abs(unit(surgery.make("flag", iterations=0)(j))[0]) > 0.999
    assert np.abs(surgery.make("flag", iterations=0, pairs=100.0)(j)).max() < 1e-12


def test_flag_with_pairs_follows_the_kind_of_the_jacobian_and_takes_one_row(xp):
    j = families(6, 4, 7, seed=3)["generic"]
    rule = surgery.make("flag", pairs=1.0)
    np.testing.assert_allclose(to_host(rule(xp.asarray(j))), rule(j), atol=1e-9)
    np.testing.assert_allclose(rule(j[:, :1]), unit(j[:, 0]), atol=1e-14)
