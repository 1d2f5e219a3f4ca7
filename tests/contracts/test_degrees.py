"""The best chains of degrees against exhaustive search and the printed table; the lower bound against the optimum."""

import itertools
import math

import mpmath
import numpy as np
import pytest
import scipy.optimize
from hypothesis import given, settings
from hypothesis import strategies as st

from orthotheory.polar.degrees import DEGREES, best_degrees, frontier, inner_products
from orthotheory.polar.lower_bound import error_bound, smallest_degree
from orthotheory.polar.minimax import compose, optimal_step
from orthotheory.polar.proof import prove_error_bound

TARGETS = (1e-1, 1e-2, 1e-4, 1e-8)
SETS = {"cubic": (3,), "quintic": (5,), "up to 9": (3, 5, 7, 9), "up to 17": DEGREES}


def direct(ratio, symmetric):
    """Products of n x n matrices of the ordinary iteration: K r (1 + s) + s M."""
    return lambda steps, inner: steps * ratio * (1 + symmetric) + symmetric * inner


def gram(ratio, symmetric, blocks):
    """The same with all steps in so many blocks on the Gram matrix: B r (1 + s) + s M + 3 s (K - B)."""

    def cost(steps, inner):
        b = min(blocks, steps)
        return b * ratio * (1 + symmetric) + symmetric * inner + 3 * symmetric * (steps - b)

    return cost


COSTS = {  # (cost, set of degrees): the products for the four errors, from 1e-3
    ("square, symmetric", "cubic"): (12, 13.5, 15, 16.5),
    ("square, symmetric", "quintic"): (12, 12, 14, 14),
    ("square, symmetric", "up to 9"): (9.5, 10, 11.5, 12.5),
    ("square, symmetric", "up to 17"): (8.5, 10, 10.5, 11.5),
    ("square, plain", "cubic"): (16, 18, 20, 22),
    ("square, plain", "quintic"): (18, 18, 21, 21),
    ("square, plain", "up to 9"): (15, 16, 18, 20),
    ("square, plain", "up to 17"): (14, 16, 17, 19),
    ("square, plain, one block", "up to 9"): (18, 19, 22, 24),
    ("aspect 4, symmetric", "cubic"): (48, 54, 60, 66),
    ("aspect 4, symmetric", "quintic"): (39, 39, 45.5, 45.5),
    ("aspect 4, symmetric", "up to 9"): (27.5, 28, 34, 35),
    ("aspect 4, symmetric", "up to 17"): (22, 28, 28.5, 29.5),
    ("aspect 4, symmetric, two blocks", "quintic"): (21, 21, 23, 23),
    ("aspect 4, symmetric, two blocks", "up to 9"): (18.5, 19, 20.5, 21.5),
    ("aspect 4, symmetric, two blocks", "up to 17"): (17.5, 19, 19.5, 20.5),
    ("aspect 4, symmetric, one block", "quintic"): (16.5, 16.5, 18.5, 18.5),
    ("aspect 4, symmetric, one block", "up to 9"): (14, 14.5, 16, 17),
    ("aspect 4, symmetric, one block", "up to 17"): (13, 14.5, 15, 16),
    ("aspect 4, symmetric, three blocks", "quintic"): (25.5, 25.5, 27.5, 27.5),
    ("aspect 4, symmetric, three blocks", "up to 9"): (23, 23.5, 25, 26),
    ("aspect 4, plain", "quintic"): (54, 54, 63, 63),
    ("aspect 4, plain", "up to 17"): (32, 40, 41, 43),
    ("aspect 4, plain, two blocks", "quintic"): (34, 34, 38, 38),
    ("aspect 4, plain, one block", "quintic"): (29, 29, 33, 33),
    ("aspect 4, plain, one block", "up to 17"): (22, 25, 26, 28),
}
MODELS = {
    "square, symmetric": direct(1, 0.5),
    "square, plain": direct(1, 1.0),
    "square, plain, one block": gram(1, 1.0, 1),
    "aspect 4, symmetric": direct(4, 0.5),
    "aspect 4, symmetric, one block": gram(4, 0.5, 1),
    "aspect 4, symmetric, two blocks": gram(4, 0.5, 2),
    "aspect 4, symmetric, three blocks": gram(4, 0.5, 3),
    "aspect 4, plain": direct(4, 1.0),
    "aspect 4, plain, one block": gram(4, 1.0, 1),
    "aspect 4, plain, two blocks": gram(4, 1.0, 2),
}


@pytest.mark.parametrize(("model", "degrees"), COSTS, ids=[f"{m}, {d}" for m, d in COSTS])
def test_the_printed_table_of_costs_is_reproduced(model, degrees):
    cost = MODELS[model]
    chains = [best_degrees(1e-3, error=error, cost=cost, degrees=SETS[degrees]) for error in TARGETS]
    assert [cost(c.steps, c.inner_products) for c in chains] == list(COSTS[model, degrees])


@pytest.mark.parametrize(("low", "costs"), [(1e-2, (6, 7.5, 8, 9)), (1e-4, (11.5, 12, 13.5, 14))])
def test_the_printed_sensitivity_to_the_lower_end_is_reproduced(low, costs):
    cost = direct(1, 0.5)
    chains = [best_degrees(low, error=error, cost=cost) for error in TARGETS]
    assert [cost(c.steps, c.inner_products) for c in chains] == list(costs)


@pytest.mark.parametrize(
    ("error", "degrees", "expected", "reached"),
    [
        (1e-1, "up to 9", (5, 9, 9, 9), 0.058),
        (1e-1, "up to 17", (9, 17, 17), 0.083),
        (1e-2, "up to 9", (9, 9, 9, 9), 9.8e-3),
        (1e-2, "up to 17", (3, 9, 17, 17), 3.7e-3),
        (1e-4, "up to 9", (3, 9, 9, 9, 9), 4.3e-5),
        (1e-4, "up to 17", (3, 17, 17, 17), 7.1e-5),
        (1e-8, "up to 9", (9,) * 5, 4.6e-11),
        (1e-8, "up to 17", (9, 17, 17, 17), 7e-11),
    ],
)
def test_the_printed_best_chains_are_found(error, degrees, expected, reached):
    chain = best_degrees(1e-3, error=error, cost=direct(1, 0.5), degrees=SETS[degrees])
    assert chain.degrees == expected
    assert chain.error == pytest.approx(reached, rel=0.03)  # two printed digits
    assert chain.composition().error == pytest.approx(chain.error, rel=1e-10)


def test_three_and_five_times_five_reaches_a_hundredth_at_half_a_product_less():
    chain = compose((3, 5, 5, 5, 5, 5), 1e-3)
    assert chain.error <= 1e-2
    assert direct(1, 0.5)(6, 5) == 11.5 == direct(1, 0.5)(6, 6) - 0.5


@pytest.mark.parametrize("low", [0.02, 0.2])
@pytest.mark.parametrize("error", [0.3, 1e-3])
def test_an_exhaustive_search_over_all_sequences_agrees(low, error):
    degrees = (3, 5, 9)
    table = {(c.steps, c.inner_products): c for c in frontier(low, error=error, degrees=degrees)}
    best = {}
    for steps in range(1, 6):
        for sequence in itertools.product(degrees, repeat=steps):
            inner, reached = sum(map(inner_products, sequence)), compose(sequence, low).error
            if reached <= error:
                best[steps, inner] = min(best.get((steps, inner), 1.0), reached)
    undominated = {
        key: reached
        for key, reached in best.items()
        if not any(other != key and other[0] <= key[0] and other[1] <= key[1] for other in best)
    }
    assert {key for key in table if key[0] <= 5} == set(undominated)
    for key, reached in undominated.items():
        assert table[key].error == pytest.approx(reached, rel=1e-9)


def test_a_frontier_trades_steps_for_inner_products():
    chains = frontier(1e-3, error=1e-4)
    assert all(c.error <= 1e-4 and sum(map(inner_products, c.degrees)) == c.inner_products for c in chains)
    steps, inner = ([getattr(c, name) for c in chains] for name in ("steps", "inner_products"))
    assert steps == sorted(set(steps))
    assert inner == sorted(set(inner), reverse=True)
    assert inner[-1] == 0  # the cubic chain
    assert frontier(1e-3, error=1e-4) is chains


def test_an_interval_that_is_already_near_needs_one_step():
    assert frontier(0.999, error=1e-3)[-1].degrees == (3,)
    assert frontier(1.0, error=1e-15)[-1].degrees == (3,)


def test_the_products_inside_a_step_are_the_stated_ones():
    stated = {3: 0, 5: 1, 7: 2, 9: 2, 13: 3, 17: 3}
    assert {d: inner_products(d) for d in stated} == stated


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"error": 0.0}, r"error must lie in \(0, 1\)"),
        ({"error": 1.0}, r"error must lie in \(0, 1\)"),
        ({"error": 0.1, "degrees": ()}, "at least one degree"),
        ({"error": 0.1, "degrees": (4,)}, "degree must be odd"),
    ],
)
def test_a_table_that_makes_no_sense_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        frontier(0.1, **options)


# The lower bound


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
    chains = [best_degrees(1e-3, error=error, cost=direct(1, 1.0)) for error in TARGETS]
    used = [direct(1, 1.0)(c.steps, c.inner_products) for c in chains]
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
    chain = best_degrees(low, error=error, cost=direct(1, 0.5), degrees=(3, 5))
    degree = math.prod(chain.degrees)
    assert bound.degree <= degree


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
