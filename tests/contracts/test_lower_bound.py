"""The lower bound of every product-only scheme against the optimum, its definition and ball arithmetic."""

import math

import mpmath
import numpy as np
import pytest
import scipy.optimize
from hypothesis import given, settings
from hypothesis import strategies as st

from orthotheory.polar.cost import COUNTS, PLAIN
from orthotheory.polar.lower_bound import error_bound, smallest_degree
from orthotheory.polar.minimax import optimal_step
from orthotheory.polar.proof import prove_error_bound
from orthotheory.polar.sequences import DEGREES, cheapest

TARGETS = (1e-1, 1e-2, 1e-4, 1e-8)


@given(st.integers(1, 16), st.floats(-16, -0.02))
@settings(max_examples=60, deadline=None)
def test_the_bound_is_below_the_optimum_and_within_a_percent_of_it(inner_degree, exponent):
    low = 10.0**exponent
    bound, best = error_bound(inner_degree, low), optimal_step(2 * inner_degree + 1, low).error
    assert bound <= best * (1 + 1e-10)
    assert bound >= 0.985 * best


def reference_bound(n: int, low: float) -> mpmath.mpf:
    """The bound from its definition: zeros found one by one, products multiplied out, the integral by quadrature."""
    with mpmath.workdps(60):
        low = mpmath.mpf(low)
        b, half, middle = (1 - low) / (1 + low), (1 - low**2) / 2, (1 + low**2) / 2

        def phase(phi, i):
            return (n + 1) * phi - mpmath.atan2(b * mpmath.sin(phi), 1 + b * mpmath.cos(phi)) - i * mpmath.pi

        phis = [mpmath.findroot(lambda p, i=i: phase(p, i), (0, mpmath.pi), solver="anderson") for i in range(1, n + 1)]
        t = [mpmath.mpf(1), *(middle + half * mpmath.cos(p) for p in phis), low**2]
        weights = [abs(1 / mpmath.fprod(a - c for c in t if c != a)) for a in t]
        value = mpmath.fsum((-1) ** i * w / mpmath.sqrt(a) for i, (a, w) in enumerate(zip(t, weights, strict=True)))
        return abs(value) / mpmath.fsum(w / mpmath.sqrt(a) for a, w in zip(t, weights, strict=True))


@pytest.mark.parametrize(("inner_degree", "low"), [(1, 0.1), (2, 0.7), (5, 1e-2), (12, 0.1), (20, 0.3)])
def test_the_closed_form_is_the_divided_difference_over_its_points(inner_degree, low):
    exact = float(reference_bound(inner_degree, low))
    closed = error_bound(inner_degree, low)
    assert closed <= exact * (1 + 1e-12)
    assert closed == pytest.approx(exact, rel=1e-3)  # the lower sum of the integral


@pytest.mark.parametrize(("inner_degree", "low"), [(100, 0.05), pytest.param(828, 1e-3, marks=pytest.mark.slow)])
def test_a_polynomial_of_high_degree_comes_close_to_the_bound(inner_degree, low):
    """Level the error on the points of the bound: its maximum is above the optimum, the bound below."""
    n, b = inner_degree, (1 - low) / (1 + low)
    phi = [
        scipy.optimize.brentq(
            lambda p, i=i: (n + 1) * p - np.arctan2(b * np.sin(p), 1 + b * np.cos(p)) - i * np.pi, 0, 4
        )
        for i in range(n + 2)
    ]
    tau, half = np.cos(phi), (1 - low**2) / 2
    x = np.sqrt(low**2 + half * (1 + tau))
    rows = np.column_stack([x[:, None] * np.polynomial.chebyshev.chebvander(tau, n), (-1.0) ** np.arange(n + 2)])
    h = np.linalg.solve(rows, np.ones(n + 2))[:-1]
    tau = np.cos(np.linspace(0, np.pi, 40 * n))
    x = np.sqrt(low**2 + half * (1 + tau))
    largest = np.max(np.abs(1 - x * np.polynomial.chebyshev.chebval(tau, h)))
    assert error_bound(n, low) <= largest <= 1.03 * error_bound(n, low)


def test_the_degrees_from_a_thousandth_need_as_many_products_as_is_printed():
    bounds = [smallest_degree(1e-3, error=error) for error in TARGETS]
    assert [b.inner_products for b in bounds] == [10, 11, 12, 14]
    assert [b.degree for b in bounds] == [1657, 3645, 7907, 16763]
    for bound, error in zip(bounds, TARGETS, strict=True):
        assert bound.excluded > error >= error_bound(bound.inner_degree, 1e-3)
    # all products, of square matrices: the best chain takes at most 1.34 times what any polynomial method takes
    assert [b.products for b in bounds] == [11, 12, 13, 15]
    used = [min(cheapest(1e-3, error, 1.0, PLAIN, DEGREES, blocks=0))[0] for error in TARGETS]
    assert used == [14, 16, 17, 19]
    assert max(u / b.products for u, b in zip(used, bounds, strict=True)) <= 1.34


@pytest.mark.parametrize(("inner_degree", "low"), [(1, 0.3), (16, 0.1), (827, 1e-3), (8380, 1e-3), (3, 1e-12)])
def test_the_bound_in_float64_is_the_one_in_ball_arithmetic(inner_degree, low):
    proven = prove_error_bound(inner_degree, low)
    assert proven == pytest.approx(error_bound(inner_degree, low), rel=1e-11)
    if inner_degree <= 16:
        assert proven < optimal_step(2 * inner_degree + 1, low).error


@pytest.mark.parametrize("error", TARGETS)
def test_the_excluded_degrees_are_excluded_with_certainty(error):
    assert prove_error_bound(smallest_degree(1e-3, error=error).inner_degree - 1, 1e-3) > error


def test_the_asymptotic_size_is_no_bound():
    n, low = 20, 0.1
    size = (1 - low) / math.sqrt(math.pi * low * n) * ((1 - low) / (1 + low)) ** n
    assert size == pytest.approx(6.5e-3, rel=0.01)
    assert error_bound(n, low) == pytest.approx(5.9e-3, rel=0.01)
    assert error_bound(16, low) <= optimal_step(33, low).error < size * 2.5


@pytest.mark.parametrize("low", [1e-16, 1e-8, 0.1, 0.999])
@pytest.mark.parametrize("error", [0.9, 1e-3, 1e-12])
def test_the_smallest_degree_is_not_above_that_of_a_chain(low, error):
    bound = smallest_degree(low, error=error)
    assert bound.excluded > error
    for _, _, reached in cheapest(low, error, 1.0, COUNTS, (3, 5)):
        assert bound.degree <= math.prod(reached.kinds)


def test_the_bound_shrinks_with_the_degree_and_scales_with_the_interval():
    values = [error_bound(n, 1e-3) for n in (1, 2, 5, 10, 100, 1000, 10**4, 10**5)]
    assert values == sorted(values, reverse=True)
    assert error_bound(7, 0.3, 3.0) == pytest.approx(error_bound(7, 0.1), rel=1e-13)
    assert error_bound(3, 1.0) == 0.0
    assert error_bound(10**9, 0.5) == 0.0
    assert smallest_degree(0.9, error=0.2).degree == 1


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: error_bound(0, 0.1), "inner_degree must be at least 1"),
        (lambda: error_bound(3, 0.0), "0 < low <= high"),
        (lambda: prove_error_bound(0, 0.1), "degrees of at least 1 and low < high"),
        (lambda: prove_error_bound(3, 0.5, 0.5), "degrees of at least 1 and low < high"),
        (lambda: smallest_degree(0.1, error=1.5), r"error must lie in \(0, 1\)"),
    ],
)
def test_a_bound_of_nothing_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()
