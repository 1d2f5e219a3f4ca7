"""The property table: every "yes" is measured over labeled samplers, every "no" by its stored counterexample.

Violations are relative to the longest row; 1e-9 leaves room for cond up to 1e5 of random dependent rows.
"""

import numpy as np
import pytest

from orthotheory import surgery
from orthotheory.surgery import properties, search
from orthotheory.surgery.counterexamples import LARGER
from orthotheory.surgery.properties import DECLARED, FAILS, HOLDS, PROPERTIES, counterexample, in_domain, violation

CELLS = [(n, p, c) for n, cells in DECLARED.items() for p, c in zip(PROPERTIES, cells.split(), strict=True)]


def samplers(m, n, count=4, seed=0):
    """Labeled batches: generic, conflicting, dependent, wild scales, ties, a zero row, both kinds of stationarity."""
    rng = np.random.default_rng([seed, m, n])
    g = rng.standard_normal((count, m, n))
    alternating = np.where(np.arange(m) % 2, 1.0, -1.0)[:, None]
    found = {
        "generic": g,
        "conflicting": g + 2 * rng.standard_normal((count, 1, n)) * alternating,
        "rank two": rng.standard_normal((count, m, 2)) @ rng.standard_normal((count, 2, n)),
        "row scales": g * 10.0 ** rng.uniform(-3, 3, (count, m, 1)),
        "small integers": rng.integers(-2, 3, (count, m, n)).astype(float),
        "a zero row": np.concatenate([g[:, 1:], 0 * g[:, :1]], axis=1),
    }
    v = rng.uniform(0.5, 2, (count, m, 1))
    strong = np.concatenate([g[:, :-1], -(v[:, :-1] * g[:, :-1]).sum(axis=1, keepdims=True) / v[:, -1:]], axis=1)
    found["strongly stationary"] = strong
    if m > 2 and n > 1:  # two opposite rows, and others that all gain along a direction orthogonal to them
        weak = g.copy()
        weak[:, 1] = -2 * weak[:, 0]
        weak[:, 2:, 0] = np.abs(weak[:, 2:, 0]) + 0.5
        weak[:, :2, 0] = 0.0
        found["weakly stationary"] = weak
    return found


SLOW_OR_RANDOM = ("cagrad", "cagrad-1", "random", "pcgrad", "gradvac", "graddrop")
TIES = ("small integers", "rank two", "row scales", "a zero row", "strongly stationary", "weakly stationary")
SHAPES = [(4, 6), (5, 3), (4, 9)]


@pytest.mark.parametrize(("name", "label"), [(n, p) for n, p, c in CELLS if c in "yf2u"])
def test_what_is_declared_holds_on_the_samplers(name, label):
    cell = DECLARED[name].split()[list(PROPERTIES).index(label)]
    seen = 0
    slow = name in ("cagrad", "cagrad-1")
    for m, n in [(2, 4), (2, 2)] if cell == "2" else SHAPES[: 1 if slow else None]:
        for family, j in samplers(m, n, count=2 if slow else 4).items():
            if cell == "u" and family in TIES:
                continue
            mask = in_domain(label, j) & (properties.full_rank(j) if cell == "f" else True)
            if mask.any():
                assert violation(name, label, j[mask]).max() <= HOLDS, family
                seen += mask.sum()
    assert seen


@pytest.mark.parametrize(("name", "label"), [(n, p) for n, p, c in CELLS if c in "nf2"])
def test_what_is_denied_has_a_counterexample(name, label):
    cell = DECLARED[name].split()[list(PROPERTIES).index(label)]
    j = counterexample(name, label)
    assert j is not None
    assert in_domain(label, j[None]).all()
    assert violation(name, label, j[None])[0] >= FAILS
    if cell == "f":
        assert not properties.full_rank(j[None])[0]
    if cell == "2":
        assert len(j) != 2


def test_nothing_else_has_a_counterexample_and_every_name_has_a_row():
    assert set(properties.COUNTEREXAMPLES) == {(n, p) for n, p, c in CELLS if c in "nf2"}
    assert list(DECLARED) == surgery.names()
    rows = properties.table()
    assert [row["name"] for row in rows] == surgery.names()
    assert all(set(PROPERTIES) < set(row) for row in rows)


def test_stationarity_of_the_counterexamples_is_that_of_a_linear_program():
    """An independent answer: maximize the least weight of a convex combination that is zero."""
    from scipy.optimize import linprog

    for (name, label), rows in properties.COUNTEREXAMPLES.items():
        if PROPERTIES[label].domain not in ("strong", "weak", "not strong"):
            continue
        j = np.array(rows, float)
        m, n = j.shape
        equal = np.vstack([np.c_[j.T, np.zeros(n)], np.r_[np.ones(m), 0.0]])
        least = linprog(
            np.r_[np.zeros(m), -1.0],
            A_ub=np.c_[-np.eye(m), np.ones(m)],
            b_ub=np.zeros(m),
            A_eq=equal,
            b_eq=np.r_[np.zeros(n), 1.0],
            bounds=[(0, None)] * (m + 1),
        )
        weak = least.status == 0
        strong = weak and -least.fun > 1e-9
        expected = {"strong": strong, "weak": weak and not strong, "not strong": not strong}[PROPERTIES[label].domain]
        assert expected, (name, label)


def test_the_guarantees_survive_zero_rows_and_row_scales():
    """Adding a zero row or rescaling rows by 1e-8 to 1e8 leaves every non-conflicting aggregator non-conflicting."""
    rng = np.random.default_rng(0)
    for name, label, cell in CELLS:
        if label == "non-conflicting" and cell == "y":
            for family, j in samplers(4, 6, seed=3).items():
                for changed in (
                    np.concatenate([j, np.zeros_like(j[:, :1])], axis=1),
                    j * 10.0 ** rng.uniform(-8, 8, (len(j), 4, 1)),
                ):
                    assert violation(name, label, changed).max() <= 1e-7, (name, family)


def scaled_and_with_a_zero_row(j, seed):
    """The Jacobians with row scales of 1e-8 to 1e8, with a zero row, and with both."""
    scaled = j * 10.0 ** np.random.default_rng(seed).uniform(-8, 8, (*j.shape[:2], 1))
    return scaled, *(np.concatenate([x, np.zeros_like(x[:, :1])], axis=1) for x in (j, scaled))


@pytest.mark.parametrize("c", [1.0, 2.0])
def test_cagrad_has_no_conflict_at_row_scales_of_1e_8_to_1e8_nor_with_zero_rows(c):
    rule = surgery.make("cagrad", c=c)
    for m, n in [(2, 4), (3, 2), (4, 6), (5, 3)]:
        for family, j in samplers(m, n, seed=3).items():
            for x, most in zip(scaled_and_with_a_zero_row(j, m), (1e-6, 1e-9, 1e-6), strict=True):
                assert properties.conflict(rule, x).max() <= most, (family, m)


def test_cagrad_by_an_optimizer_on_the_gramian_conflicts_at_these_row_scales():
    """The control: the usual code minimizes the dual over the simplex without looking at the lengths of the rows."""
    from scipy.optimize import minimize

    def usual(jacobian):
        updates = []
        for j in jacobian:
            mean = j.mean(axis=0)
            size = np.linalg.norm(mean)

            def dual(w, j=j, mean=mean, size=size):
                return j.T @ w @ mean + size * np.linalg.norm(j.T @ w)

            sums_to_one = {"type": "eq", "fun": lambda w: w.sum() - 1}
            w = minimize(dual, np.full(len(j), 1 / len(j)), bounds=[(0, 1)] * len(j), constraints=sums_to_one).x
            least = j.T @ w
            updates.append(mean + size * least / np.linalg.norm(least))
        return np.array(updates)

    usual.homogeneity = 1.0
    scaled, *_ = scaled_and_with_a_zero_row(samplers(4, 6, seed=3)["conflicting"], 4)
    assert properties.conflict(usual, scaled).max() > 1e-3


def test_linearity_under_scaling_of_upgrad_to_1e_10_where_a_ridge_loses_it():
    j = samplers(5, 12, count=40)["conflicting"]
    j = j * 10.0 ** np.random.default_rng(0).uniform(-2, 2, (40, 5, 1))
    assert violation("upgrad", "scaling-linear", j).max() <= 1e-10

    def with_ridge(jacobian):  # the normalization and the ridge of the common implementation, solved exactly
        updates = []
        for a in jacobian:
            g = a @ a.T
            g = g / np.trace(g) + 1e-4 * np.eye(len(a))
            root = np.linalg.cholesky(g).T
            v = surgery.project(root, root).multipliers
            updates.append((np.eye(len(a)) + v).mean(axis=0) @ a)
        return np.array(updates)

    with_ridge.homogeneity = 1.0
    assert properties.nonlinear_scaling(with_ridge, j).max() > 1e-4


@pytest.mark.parametrize(("name", "label"), [(n, p) for n, p, c in CELLS if c == "l"])
def test_what_holds_in_law_holds_for_one_jacobian_with_the_same_draws(name, label):
    """Keeping the draws couples both sides, so that equality for all draws is equality in law."""
    for m, n in SHAPES:
        for family, j in samplers(m, n).items():
            j = j[in_domain(label, j)]
            if len(j):
                assert search.violations(name, label, j).max() <= HOLDS, family


def test_the_enumeration_counts_every_integer_jacobian_of_a_size():
    """x (1 + x) / (1 - x) generates an entry by size, and a shape m x n is a divisor of the number of entries."""
    for size in range(1, 9):
        batches = list(search.jacobians(size))
        assert all(search.size(j) == size for batch in batches for j in batch)
        series = np.zeros(size + 1)
        series[1:] = np.r_[1, np.full(size - 1, 2)]  # one entry of 1 unit of shape: 0, then +-1, +-2, ...
        power, wanted = np.eye(1, size + 1)[0], 0
        for entries in range(1, size + 1):
            power = np.convolve(power, series)[: size + 1]
            wanted += power[size] * sum(entries % m == 0 for m in range(1, entries + 1))
        seen = {(b.shape[1:], j.tobytes()) for b in batches for j in b}
        assert len(seen) == sum(map(len, batches)) == wanted


def test_the_search_finds_the_small_counterexamples_again_and_no_smaller_one():
    small = {c: j for c, j in properties.COUNTEREXAMPLES.items() if search.size(j) <= 6 and c[0] not in SLOW_OR_RANDOM}
    found = search.smallest(small, 6)
    assert {c: j.tolist() for c, j in found.items()} == small
    assert len(small) > 100


def test_a_stored_counterexample_that_is_not_the_smallest_is_noticed():
    """The control: [[-2], [1]] is one for Constant as well, but a smaller one comes first."""
    found = search.smallest([("constant", "non-conflicting")], 5)
    assert found["constant", "non-conflicting"].tolist() != [[-2], [1]]


@pytest.mark.slow
def test_every_counterexample_up_to_size_13_is_the_smallest_of_all_integer_jacobians():
    found = search.smallest(search.denied(), 13)
    assert {c: j.tolist() for c, j in found.items()} == {
        c: j for c, j in properties.COUNTEREXAMPLES.items() if c not in LARGER
    }
    assert all(search.size(properties.COUNTEREXAMPLES[c]) > 13 for c in LARGER)
