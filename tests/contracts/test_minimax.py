"""Optimal odd polynomials against mpmath, linear programs, searches and the published tables.

Errors are accurate to 1e-13 of themselves where the interval is [1 - d, 1 + d] with d <= 0.6, floors (1 - E) to 1e-13
of themselves everywhere. `close` is 64 eps. In a chain the rounding of one step is multiplied by the slope of the next,
13 (quintic) to 50 at the upper end of its interval: `rounding` adds this up.
"""

import math

import numpy as np
import pytest
import scipy.optimize
from hypothesis import given, settings
from hypothesis import strategies as st

from orthotheory.polar import MUON_QUINTIC, SCHEDULES, polar_factor
from orthotheory.polar.exchange import DEGREES, _near, _wide, classical_coefficient, level
from orthotheory.polar.express import DION_ROWS, PAPER_ROWS
from orthotheory.polar.minimax import (
    Composition,
    classical_step,
    compose,
    contraction,
    delta_orthogonalization,
    gain,
    optimal_cubic,
    optimal_step,
    step_map,
)
from orthotheory.polar.multiprecision import chain_precisely, optimal_step_precisely
from orthotheory.theory.minimax import image_error, published_bound

close = 64 * np.finfo(float).eps
SOME = (3, 5, 7, 9, 13, 17, 25, 33)
LOWS = (1e-16, 1e-8, 1e-3, 0.1, 0.25, 0.5, 0.9, 1 - 1e-6)


def printed(text: str, value: float) -> bool:
    """Whether a value, rounded to as many digits, is what is printed."""
    mantissa, _, exponent = text.partition("e")
    half_unit = 0.5 * 10.0 ** (int(exponent or 0) - len(mantissa.partition(".")[2]))
    return abs(float(text) - value) <= half_unit * (1 + 1e-6)


def rounding(chain) -> float:
    """What float64 loses in a chain: per step 8 eps of its largest terms, times the slopes of the steps after it."""
    lost = 0.0
    for row, (_, high) in zip(chain.coefficients, chain.intervals, strict=False):
        powers = np.arange(1, 2 * len(row), 2)
        slope = abs(np.sum(powers * row * high ** (powers - 1.0)))
        lost = lost * max(slope, row[0]) + 8 * np.finfo(float).eps * np.sum(np.abs(row) * high**powers)
    return lost


# One step


@pytest.mark.parametrize("degree", SOME)
@pytest.mark.parametrize("low", LOWS)
def test_a_step_in_float64_is_the_one_of_mpmath(degree, low):
    step, referee = optimal_step(degree, low), optimal_step_precisely(degree, low, digits=30)
    assert referee.width <= 1e-25
    assert step.floor == pytest.approx(float(referee.floor), rel=1e-13)
    assert step.error == pytest.approx(float(referee.error), rel=1e-11 if degree > 20 else 1e-13)
    tolerance = 1e-9 if degree > 20 else 1e-12  # of what a change of basis with integers up to 4^q loses
    np.testing.assert_allclose(step.coefficients, [float(c) for c in referee.coefficients], rtol=tolerance)
    np.testing.assert_allclose(
        step.points, [float(x) for x in referee.points], rtol=1e-9
    )  # the square root of the level


@pytest.mark.parametrize("degree", DEGREES)
def test_every_degree_levels_its_error_from_both_sides_of_the_switch(degree):
    q = (degree - 1) // 2
    for solve in (_near, _wide):
        _, error, floor, _, _ = solve(q, 0.41, 0.59)
        assert error == pytest.approx(level(q, 0.41, 0.59).error, rel=1e-10)
        assert floor == pytest.approx(1 - error, rel=close)


@given(st.sampled_from(SOME), st.floats(1e-12, 0.99), st.floats(0.01, 100))
@settings(max_examples=40, deadline=None)
def test_the_error_equioscillates_at_q_plus_two_points_and_depends_on_the_ratio_alone(degree, ratio, high):
    step = optimal_step(degree, ratio * high, high)
    points = np.array(step.points)
    assert len(points) == (degree + 3) // 2
    assert (np.diff(points) > 0).all()
    e = (1 - step(points)) * (-1.0) ** np.arange(len(points))
    np.testing.assert_allclose(e, step.error, atol=1e-12)
    low, high = step.bracket()
    assert low <= step.error + 1e-12
    assert step.error <= high + 1e-12
    assert step.error == pytest.approx(optimal_step(degree, ratio).error, rel=1e-9)
    assert optimal_step(degree, ratio).floor == pytest.approx(step.floor, rel=1e-12)


@given(st.sampled_from(SOME), st.floats(-30, -0.01), st.floats(1e-6, 2.0))
@settings(max_examples=60, deadline=None)
def test_the_map_of_a_step_is_monotone_and_improves_every_interval(degree, exponent, more):
    low = math.exp(exponent)
    high = low + (1 - low) * (1 - math.exp(-more))
    floor, error = step_map(degree, low)
    assert floor > low
    assert step_map(degree, high)[0] >= floor * (1 - close)
    if degree < 33:
        assert step_map(degree + 2, low)[1] <= error * (1 + 1e-10)


@pytest.mark.parametrize("degree", [5, 7, 9])
@pytest.mark.parametrize("low", [1e-2, 0.2])
def test_a_linear_program_on_a_grid_finds_no_better_polynomial_and_almost_as_good_a_one(degree, low):
    q = (degree - 1) // 2
    x = np.geomspace(low, 1.0, 1500)
    rows = x[:, None] * np.polynomial.chebyshev.chebvander(2 * x**2 - 1, q)
    one = np.ones((len(x), 1))
    found = scipy.optimize.linprog(
        [0] * (q + 1) + [1], np.block([[rows, -one], [-rows, -one]]), np.r_[one, -one], bounds=(None, None)
    )
    error = optimal_step(degree, low).error
    # On the grid the best is at most the optimum; points x_i are missed by half a cell, the error there by its square.
    assert error * (1 - 2e-4) <= found.fun <= error * (1 + 1e-7)


def test_the_cubic_in_closed_form_is_the_exchange():
    for low in np.geomspace(1e-12, 0.999, 60):
        a, b, error = optimal_cubic(low)
        center, floor, d = (1 + low) / 2, 2 * low / (1 + low), (1 - low) / (1 + low)
        coefficients, e, rest, _, _ = (_near if d <= 0.6 else _wide)(1, floor, d)
        np.testing.assert_allclose([a, b], np.array(coefficients) / [center, center**3], rtol=1e-10)
        assert error == pytest.approx(e, rel=1e-10)
        assert optimal_step(3, low).floor == pytest.approx(rest, rel=1e-10)
        # as the papers write it
        alpha = math.sqrt(3 / (1 + low + low**2))
        beta = 4 / (2 + low * (1 + low) * alpha**3)
        np.testing.assert_allclose([a, b], [1.5 * alpha * beta, -0.5 * alpha**3 * beta], rtol=1e-13)
        assert error == pytest.approx(beta - 1, abs=1e-14)


def test_the_cubic_from_a_thousandth_has_its_three_printed_numbers():
    for text, value in zip(("5.180102143", "-5.174922046", "0.99481990"), optimal_cubic(1e-3), strict=True):
        assert printed(text, value)


@pytest.mark.parametrize("degree", SOME)
def test_the_step_of_a_point_is_the_classical_one_and_nearby_steps_tend_to_it(degree):
    at = optimal_step(degree, 1.0)
    assert (at.error, at.floor) == (0.0, 1.0)
    np.testing.assert_allclose(at.coefficients, classical_step(degree), rtol=close)
    # their Chebyshev correction is 2 c_{q+1} d^{q+1} in units of the interval, d^j of which is lost by a power
    np.testing.assert_allclose(optimal_step(degree, 1 - 2e-9).coefficients, classical_step(degree), rtol=1e-7)
    scaled = optimal_step(degree, 2.0, 2.0)
    np.testing.assert_allclose(
        scaled.coefficients, np.array(classical_step(degree)) / 2.0 ** np.arange(1, degree + 1, 2)
    )


def test_the_classical_steps_are_the_printed_ones():
    assert classical_step(3) == (3 / 2, -1 / 2)
    assert classical_step(5) == (15 / 8, -10 / 8, 3 / 8)
    assert classical_step(7) == (35 / 16, -35 / 16, 21 / 16, -5 / 16)
    assert classical_step(9) == (315 / 128, -420 / 128, 378 / 128, -180 / 128, 35 / 128)
    assert [classical_coefficient(k) for k in range(5)] == [1, 1 / 2, 3 / 8, 5 / 16, 35 / 128]


@pytest.mark.parametrize("degree", SOME)
def test_a_classical_step_has_its_constant_in_the_error_and_a_zero_of_its_order(degree):
    q = (degree - 1) // 2
    w = 1e-2
    p = math.sqrt(1 - w) * np.polynomial.polynomial.polyval(w, [classical_coefficient(k) for k in range(q + 1)])
    rest = sum(classical_coefficient(k) * w**k for k in range(q + 1, q + 40)) * math.sqrt(1 - w)
    assert p == pytest.approx(1 - rest, rel=close)
    assert rest == pytest.approx(classical_coefficient(q + 1) * w ** (q + 1), rel=2 * w)
    value = (1 - w) ** 0.5 * np.polynomial.polynomial.polyval(1 - w, classical_step(degree))
    assert value == pytest.approx(p, rel=1e-13 * 4**q)  # the powers alternate


def test_the_gains_at_small_intervals_are_the_printed_ones():
    assert gain(3) == pytest.approx(1.5 * math.sqrt(3), rel=1e-14)
    for degree, text in zip((3, 5, 7, 9, 13, 17), ("2.60", "4.26", "5.93", "7.61", "10.97", "14.34"), strict=True):
        assert printed(text, gain(degree))
        assert step_map(degree, 1e-12)[0] / 1e-12 == pytest.approx(gain(degree), rel=1e-11)


def test_the_contractions_near_one_are_three_quarters_five_eighths_and_so_on():
    assert [contraction(d) for d in (3, 5, 7)] == [3 / 4, 5 / 8, 35 / 64]
    for degree in SOME:
        q = (degree - 1) // 2
        assert step_map(degree, 1 - 1e-8, 1e-8)[1] / 1e-8 ** (q + 1) == pytest.approx(contraction(degree), rel=1e-7)


@given(st.sampled_from(DEGREES), st.floats(-300, -0.05), st.booleans())
@settings(max_examples=60, deadline=None)
def test_the_exchange_settles_at_both_ends_of_the_range_of_float64(degree, exponent, tiny_floor):
    small = 10.0**exponent
    q, floor, spread = (degree - 1) // 2, *((small, 1 - small) if tiny_floor else (1 - small, small))
    leveled = level(q, floor, spread)
    assert (np.diff(leveled.points) >= 0).all()
    if tiny_floor:
        assert floor < leveled.floor <= gain(degree) * floor * (1 + 1e-12)
    else:
        assert leveled.error <= contraction(degree) * spread ** (q + 1) * (1 + 1e-10 + 2 * q * spread)


# Composition

WORST = {  # degree, low: the error after 1, 2, ... steps
    (3, 1e-1): ".607 .307 7.2e-2 3.9e-3 1.2e-5 1.0e-10",
    (3, 1e-2): ".950 .876 .716 .444 .156 1.8e-2 2.6e-4 4.9e-8",
    (3, 1e-3): ".995 .987 .966 .914 .796 .568 .265 5.4e-2",
    (5, 1e-1): ".453 6.3e-2 1.5e-4 2.3e-12",
    (5, 1e-2): ".919 .707 .269 1.25e-2 1.2e-6 1e-18",
    (5, 1e-3): ".992 .965 .860 .546 .1134 9.16e-4 4.8e-10 7e-29",
    (5, 1e-4): ".999 .996 .985 .937 .764 .353 2.9e-2 1.5e-5",
    (9, 1e-2): ".861 .358 3.0e-3 1.3e-13",
    (9, 1e-3): ".985 .892 .450 9.85e-3 4.6e-11",
    (9, 1e-4): ".998 .989 .917 .538 2.5e-2 4.9e-9",
    (17, 1e-2): ".757 4.3e-2 1.8e-13",
    (17, 1e-3): ".972 .676 1.4e-2 7.5e-18",
    (17, 1e-4): ".997 .960 .576 3.0e-3 8e-24",
}


@pytest.mark.parametrize(("degree", "low"), WORST)
def test_the_worst_case_table_is_reproduced_to_its_printed_digits(degree, low):
    texts = WORST[degree, low].split()
    for text, error in zip(texts, compose([degree] * len(texts), low).errors, strict=True):
        assert printed(text, error), (text, error)


def test_six_quintic_steps_from_a_thousandth_leave_the_printed_error():
    assert printed("9.164721887e-4", compose([5] * 6, 1e-3).error)
    precise = compose([5] * 6, 1e-3, digits=40)
    assert printed("9.164721887e-4", precise.error)
    assert precise.digits == 40
    assert len(precise.decimals) == 6


QUINTICS = (
    ("8.470328804", "-25.10807471", "18.6292756"),
    ("4.182834183", "-3.10870111", "0.5806066814"),
    ("3.961857279", "-2.954063746", "0.562976118"),
    ("3.286586217", "-2.464720135", "0.5073576939"),
    ("2.273749994", "-1.644660368", "0.4161909275"),
    ("1.888716197", "-1.265157225", "0.3765189256"),
)
NONICS = (
    ("15.07601467", "-148.071777", "493.1781595", "-634.1868701", "275.989397"),
    ("7.156002324", "-17.47097066", "14.67876141", "-4.776703743", "0.526692441"),
    ("5.241844507", "-11.95687204", "10.4883283", "-3.659642779", "0.4372377138"),
    ("2.78290961", "-4.301226935", "3.986806071", "-1.772327602", "0.2970979543"),
)


@pytest.mark.parametrize(("degree", "rows"), [(5, QUINTICS), (9, NONICS)], ids=["quintic", "degree nine"])
def test_the_optimal_chains_from_a_thousandth_are_reproduced_to_their_printed_digits(degree, rows):
    chain = compose([degree] * (len(rows) + 1), 1e-3)
    for row, coefficients in zip(rows, chain.coefficients, strict=False):
        for text, value in zip(row, coefficients, strict=True):
            assert printed(text, value), (text, value)
    # the next step is the classical one, up to the last error; its powers amplify it
    np.testing.assert_allclose(chain.coefficients[-1], classical_step(degree), rtol=20 * chain.errors[-2])


@pytest.mark.parametrize(
    ("aspect", "texts"),
    [(2, (".27", "1.3e-2", "1.2e-6")), (4, ("8.6e-2", "3.9e-4", "3.8e-11")), (8, ("2.9e-2", "1.5e-5", "2e-15"))],
)
def test_gaussian_matrices_of_an_aspect_ratio_need_few_quintic_steps(aspect, texts):
    root = math.sqrt(aspect)  # the Marchenko-Pastur edges are sqrt(m) - sqrt(n) and sqrt(m) + sqrt(n)
    chain = compose([5] * 3, root - 1, root + 1)
    assert all(printed(text, error) for text, error in zip(texts, chain.errors, strict=True)), chain.errors


def test_five_classical_steps_are_far_from_the_optimal_ones():
    def after(degree, steps):
        return image_error((classical_step(degree),) * steps, 1e-3)

    assert after(3, 20) <= 1e-4 < after(3, 19)
    assert printed("0.58", after(3, 15))
    assert printed("1.9e-2", after(5, 12))


def test_the_order_of_mixed_degrees_matters_and_the_lowest_first_is_best():
    first, last = compose([3, 17, 17, 17], 1e-3).error, compose([17, 17, 17, 3], 1e-3).error
    assert printed("7.08e-5", first)
    assert printed("1.46e-4", last)
    assert first < compose([17, 3, 17, 17], 1e-3).error < compose([17, 17, 3, 17], 1e-3).error < last


@pytest.mark.parametrize(("degrees", "text"), [((3, 3), "0.53517290"), ((3, 5), "0.37334"), ((5, 3), "0.37527")])
def test_a_global_search_over_two_steps_ends_at_the_greedy_chain(degrees, text):
    low, greedy = 0.05, compose(degrees, 0.05).error
    assert printed(text, greedy)
    first = np.array(compose(degrees, low).coefficients[0])

    def error(shape):  # the scale of the first step does not matter: the second absorbs it
        row = (1.0, *shape)
        x = np.r_[np.geomspace(low, 1.0, 4000)]
        y = x * np.polynomial.polynomial.polyval(x * x, row)
        image = MUON_QUINTIC.__class__("", (row,), "", (low, 1.0), (0.0, 0.0)).image(low, 1.0)
        assert image[0] <= y.min() + close
        assert y.max() <= image[1] + close
        return optimal_step(degrees[1], *image).error if image[0] > 0 else 1.0

    best = min(
        (
            scipy.optimize.minimize(error, start, method="Nelder-Mead", options={"xatol": 1e-9, "fatol": 1e-13})
            for start in first[1:] / first[0] * np.exp(np.random.default_rng(0).uniform(-1, 0.2, (3, len(first) - 1)))
        ),
        key=lambda r: r.fun,
    )
    assert best.fun >= greedy * (1 - 1e-12)
    assert best.fun == pytest.approx(greedy, rel=1e-5)


def test_the_published_bound_is_true_and_says_almost_nothing():
    chain = compose([5] * 7, 1e-3)
    bound = published_bound(chain)
    assert (np.array(chain.errors) <= bound).all()
    assert printed("0.998", bound[-1])
    assert printed("4.8e-10", chain.error)


@given(st.lists(st.sampled_from((3, 5, 7, 9)), min_size=1, max_size=5), st.floats(1e-6, 0.9))
@settings(max_examples=30, deadline=None)
def test_the_image_is_what_the_schedule_computes_from_critical_points(degrees, low):
    chain = compose(degrees, low)
    schedule = chain.schedule("chain", source="here")
    assert schedule.coefficients == chain.coefficients
    assert schedule.input_interval == (low, 1.0)
    np.testing.assert_allclose(schedule.output_interval, chain.image, atol=rounding(chain))
    assert chain.image == (chain.intervals[-1][0], 2 - chain.intervals[-1][0])
    x = np.geomspace(low, 1.0, 50)
    np.testing.assert_allclose(chain(x), schedule.singular_value_map(x), atol=rounding(chain))


def test_a_chain_orthogonalizes_a_matrix_to_its_error():
    rng = np.random.default_rng(0)
    u, v = (np.linalg.qr(rng.standard_normal((8, 8)))[0] for _ in range(2))
    s = np.geomspace(1, 1e-2, 8)
    g = (u * (s / np.linalg.norm(s))) @ v.T
    chain = compose([3, 9, 5, 5], 1e-2 / np.linalg.norm(s))
    defect = np.linalg.norm(polar_factor(g, chain.schedule("own")) - u @ v.T, 2)
    assert defect <= chain.error * (1 + 1e-9) + 1e-12
    assert defect > chain.error / 10


# Published tables


def test_the_polar_express_table_is_the_chain_with_its_odd_cushion():
    chain = compose([5] * 8, 1e-3, cushion=0.02407327424182761)
    np.testing.assert_allclose(chain.coefficients[:6], PAPER_ROWS[:6], rtol=1e-14)
    # row 7 is for an error of 1e-3, and the authors lost digits there: mpmath confirms ours
    np.testing.assert_allclose(chain.coefficients[6], PAPER_ROWS[6], rtol=1e-10)
    referee = optimal_step_precisely(5, *chain.intervals[6], digits=30)
    np.testing.assert_allclose(chain.coefficients[6], [float(c) for c in referee.coefficients], rtol=1e-15)
    np.testing.assert_allclose(chain.coefficients[7], PAPER_ROWS[7], rtol=1e-8)
    shipped = SCHEDULES["polar-express"].coefficients[0]
    np.testing.assert_allclose([c / 1.01**k for c, k in zip(chain.coefficients[0], (1, 3, 5), strict=True)], shipped)


def test_the_cushion_of_the_comment_gives_another_table():
    assert printed("8.319686", compose([5], 1e-3, cushion=0.02).coefficients[0][0])


def test_the_dion_table_is_five_steps_with_its_safety_and_cushion():
    chain = compose([5] * 5, 1e-3, cushion=0.02, safety=1.02)
    np.testing.assert_allclose(chain.coefficients, DION_ROWS, rtol=1e-14)
    assert chain.safety == 1.02


def test_the_cans_triples_are_the_pure_chain_to_four_decimals():
    chain = compose([5] * 5, 1e-3)
    for row, coefficients in zip(SCHEDULES["cans-5"].coefficients, chain.coefficients, strict=True):
        assert [round(c, 4) for c in coefficients] == list(row)


@pytest.mark.parametrize("degrees", [(5, 5, 5, 5), (3, 3, 3, 3, 3), (9, 9, 9), (3, 7, 5)])
@pytest.mark.parametrize("safety", [1.0, 1.01])
def test_a_cushioned_chain_keeps_the_interval_inside_what_it_says(degrees, safety):
    chain, plain = compose(degrees, 1e-3, cushion=0.02, safety=safety), compose(degrees, 1e-3)
    low, high = chain.schedule("cushioned").output_interval
    assert chain.image[0] - rounding(chain) <= low
    assert high <= chain.image[1] + rounding(chain)
    if safety == 1.0:
        np.testing.assert_allclose((low, high), chain.image, atol=rounding(chain))
    assert chain.error >= plain.error
    assert chain.coefficients[0][0] < plain.coefficients[0][0]  # the slope at zero is what the cushion gives up


# A given tolerance


@pytest.mark.parametrize(("degrees", "delta"), [((5,), 0.3), ((3,), 0.9), ((5,) * 5, 0.3), ((3, 9, 17), 1e-6)])
def test_a_chain_for_a_tolerance_has_this_error_and_reaches_down_as_far_as_it_can(degrees, delta):
    chain = delta_orthogonalization(degrees, delta)
    low = chain.intervals[0][0]
    assert chain.error == pytest.approx(delta, rel=1e-9)
    assert compose(degrees, 0.999 * low).error > delta
    wider = delta_orthogonalization(degrees, delta, 4.0)
    assert wider.intervals[0] == (pytest.approx(4 * low), 4.0)


def test_no_linear_program_finds_a_steeper_step_within_the_tolerance():
    chain = delta_orthogonalization([5], 0.3)
    first = optimal_step(5, *chain.intervals[0]).points[1]
    for start in (chain.intervals[0][0], 0.5 * (chain.intervals[0][0] + first), first):
        x = np.linspace(start, 1.0, 3000)
        rows = np.stack([x, x**3, x**5], axis=-1)
        sides = np.r_[np.full(len(x), 1.3), np.full(len(x), -0.7)]
        found = scipy.optimize.linprog([-1, 0, 0], np.vstack([rows, -rows]), sides, bounds=(None, None))
        # On a grid a polynomial may leave the tolerance by the square of a cell: a little more is possible.
        assert chain.slope * (1 - 1e-7) <= -found.fun <= chain.slope * (1 + 1e-4)


# mpmath


@pytest.mark.parametrize(
    ("degrees", "low"),
    [((5,) * 7, 1e-3), ((17, 17, 17, 17), 1e-3), ((3, 9, 33), 1e-16)],
    ids=["quintics", "17", "mixed"],
)
def test_precise_steps_are_level_to_thirty_digits_and_their_bracket_is_closed(degrees, low):
    import mpmath

    with mpmath.workdps(400):
        for step in chain_precisely(degrees, low, digits=40):
            level = [
                (-1) ** i * (1 - mpmath.fsum(c * x ** (2 * k + 1) for k, c in enumerate(step.coefficients)))
                for i, x in enumerate(step.points)
            ]
            assert max(level) - min(level) <= mpmath.mpf("1e-30") * step.error
            assert step.width <= 1e-25
            assert abs(step.floor + step.error - 1) <= mpmath.mpf("1e-40")


def test_a_precise_chain_is_the_float64_chain():
    precise, quick = compose([3, 9, 5, 17], 1e-5, digits=25), compose([3, 9, 5, 17], 1e-5)
    assert isinstance(precise, Composition)
    np.testing.assert_allclose(precise.errors, quick.errors, rtol=1e-12)
    for ours, theirs in zip(quick.coefficients, precise.coefficients, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-11)
    assert float(precise.decimals[0][0]) == precise.coefficients[0][0]
    assert len(precise.decimals[0][0]) > 20


# What is refused


@pytest.mark.parametrize("degree", [1, 2, 4, 35, -3])
def test_a_degree_that_is_not_odd_from_3_to_33_is_refused(degree):
    with pytest.raises(ValueError, match=f"degree must be odd, from 3 to 33; got {degree}"):
        optimal_step(degree, 0.1)


@pytest.mark.parametrize("interval", [(0.0, 1.0), (-1.0, 1.0), (2.0, 1.0), (0.1, np.inf), (np.nan, 1.0), (0.1, np.nan)])
def test_what_is_no_interval_of_singular_values_is_refused(interval):
    for call in (optimal_cubic, lambda *i: optimal_step(5, *i), lambda *i: compose([5], *i)):
        with pytest.raises(ValueError, match="0 < low <= high < infinity"):
            call(*interval)


def test_an_interval_whose_coefficients_leave_float64_is_refused():
    assert optimal_step(5, 1e-41, 1e-40).error == pytest.approx(optimal_step(5, 0.1).error, rel=1e-12)
    with pytest.raises(ValueError, match="outside the range of float64; scale the matrix"):
        optimal_step(5, 1e-101, 1e-100)


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        (([], 0.1), {}, "at least one degree"),
        (([5], 0.1), {"cushion": 1.0}, r"cushion is a share of the upper end, in \[0, 1\); got 1.0"),
        (([5], 0.1), {"safety": 0.9}, "safety is a factor of at least 1; got 0.9"),
        (([5], 0.1), {"digits": 10}, "digits must be at least 16"),
        (([5], 0.1), {"digits": 30, "safety": 1.01}, "float64 only"),
        (([5, 4], 0.1), {}, "degree must be odd"),
        (([5], 1.0), {"digits": 30}, "nothing to level"),
    ],
)
def test_a_composition_that_makes_no_sense_is_refused(arguments, options, message):
    with pytest.raises(ValueError, match=message):
        compose(*arguments, **options)


@pytest.mark.parametrize("delta", [0.0, 1.0, -0.1, np.nan])
def test_a_tolerance_outside_zero_and_one_is_refused(delta):
    with pytest.raises(ValueError, match=r"delta is an error in \(0, 1\)"):
        delta_orthogonalization([5], delta)
