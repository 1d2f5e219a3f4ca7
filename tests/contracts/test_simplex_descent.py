"""The inner loop of SDMGrad: the bound of its rounding error holds, and whole numbers take over where it is large."""

import jacobians
import numpy as np
import pytest
import surgery_references

from orthotheory import surgery
from orthotheory.surgery import simplex_descent
from orthotheory.surgery.contract import rows_of

FAMILIES = jacobians.families(6, 4, 7, seed=5)


def both(rule, j, second=None):
    """w in float64, its bound, and w in whole numbers, from uniform weights."""
    one = rows_of(j)
    two = one if second is None else rows_of(second)
    m = j.shape[1]
    start, pull = np.full(j.shape[:2], 1 / m), np.full(m, rule.lam / m)
    w, bound = simplex_descent.descend(rule, one, two, start, pull)
    exact = [
        simplex_descent.exactly(rule, x, y, z, pull) for x, y, z in zip(one.relative, two.relative, start, strict=True)
    ]
    return w, bound, np.array(exact)


def test_the_bound_holds_where_an_error_of_order_one_came_before_a_lead_of_order_one():
    """A vertex is sure where the lead exceeds the error of what is projected, which the simplex does not limit."""
    for m, n in [(2, 2), (2, 13), (3, 1), (8, 13)]:
        j = surgery_references.hostile(16, m, n, seed=31)
        w, bound, exact = both(surgery.make("sdmgrad"), j)
        assert np.all(np.sqrt(np.sum((w - exact) ** 2, axis=1)) <= bound + 2.0**-53), (m, n)


@pytest.mark.parametrize("lr", [0.1, 1.0, 10.0])
@pytest.mark.parametrize("family", FAMILIES)
def test_the_error_of_float64_is_within_its_bound(family, lr):
    rule = surgery.make("sdmgrad", lr=lr)
    other = np.roll(FAMILIES["generic"], 1, axis=0)
    for second in (None, FAMILIES[family] + 0.1 * other * np.abs(FAMILIES[family]).max()):
        w, bound, exact = both(rule, FAMILIES[family], second)
        error = np.sqrt(np.sum((w - exact) ** 2, axis=1))
        assert np.all(error <= bound + 2.0**-53)


def test_roundings_of_float64_do_grow_to_errors_of_order_one():
    """The control of the bound: it is large because the error is."""
    j = np.random.default_rng(0).integers(-2, 3, (200, 6, 3)).astype(float)
    w, bound, exact = both(surgery.make("sdmgrad"), j)
    error = np.sqrt(np.sum((w - exact) ** 2, axis=1))
    assert error.max() > 1e-3
    assert np.all(error <= bound + 2.0**-53)


def test_a_non_expansive_step_adds_roundings_up_and_does_not_multiply_them():
    """lr |Q B Q| <= 2 without momentum; |B| <= trace(B) <= m^2, as the mean root of the diagonal is 1."""
    for family, j in FAMILIES.items():
        for steps in (20, 200):
            rule = surgery.make("sdmgrad", lr=2 / 16, momentum=0.0, iterations=steps)
            w = np.full(j.shape[:2], 1 / 4)
            _, bound = simplex_descent.descend(rule, rows_of(j), rows_of(j), w, rule.lam * w[0])
            assert bound.max() <= steps * 1e-13, family


def test_whole_numbers_are_the_exact_gramian():
    from fractions import Fraction

    rng = np.random.default_rng(3)
    j, k = (rng.standard_normal((2, 3, 9)) * 10.0 ** rng.integers(-30, 30, (2, 3, 9)))[:]
    found = simplex_descent._gramian(j, k)
    wanted = [[sum(Fraction(a) * Fraction(b) for a, b in zip(x, y, strict=True)) for y in k] for x in j]
    ratio = Fraction(found[0][0]) / wanted[0][0]
    assert all(Fraction(found[i][n]) == ratio * wanted[i][n] for i in range(3) for n in range(3))


def test_sdmgrad_of_a_batch_with_one_unsettled_jacobian_changes_that_one_alone():
    rng = np.random.default_rng(0)
    j = rng.standard_normal((30, 3, 100))
    rule = surgery.make("sdmgrad")
    w, bound, exact = both(rule, j)
    easy = bound <= 1e-11
    assert 0 < easy.sum() < len(j)
    _, after = rule.step(j, rule.init(j))
    np.testing.assert_array_equal(after, np.where(easy[:, None], w, exact))


def test_two_samples_whose_products_have_no_positive_diagonal_leave_the_weights():
    j = np.random.default_rng(0).standard_normal((2, 3, 5))
    rule = surgery.make("sdmgrad")
    _, w = rule.step(j, rule.init(j), -j)
    np.testing.assert_array_equal(w, np.full((2, 3), 1 / 3))


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("options", [{"iterations": 1000}, {"momentum": 0.99}, {"lr": 1e6}, {"iterations": 0}])
def test_long_and_wild_loops_stay_on_the_simplex_without_a_warning(options):
    j = FAMILIES["row scales 1e-8 to 1e8"][:2]
    rule = surgery.make("sdmgrad", **options)
    _, w = rule.step(j, rule.init(j))
    assert w.min() >= 0
    np.testing.assert_allclose(w.sum(axis=1), 1, atol=1e-14)
