"""Newton, QDWH and Zolotarev steps: weights against the elliptic functions of mpmath, the printed numbers, images."""

import mpmath
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_polar_algorithms import EPS, rounding, with_factor

from orthotheory.arrays import to_host
from orthotheory.names import UnknownName
from orthotheory.polar.newton import NewtonStep, excess_after, newton, newton_steps
from orthotheory.polar.qdwh import halley_weights, qdwh, qdwh_steps
from orthotheory.polar.zolotarev import (
    Zolotarev,
    two_step_t,
    two_steps,
    zolotarev,
    zolotarev_error,
    zolotarev_image,
)

# Scaled Newton


def test_newtons_interval_recursion_has_the_printed_errors():
    assert [f"{excess_after(k, 1e-3):.1e}" for k in (4, 5, 6)] == ["5.9e-04", "4.3e-08", "2.3e-16"]
    assert f"{excess_after(7, 1e-8):.1e}" == "1.1e-13"
    assert f"{excess_after(8, 1e-16):.1e}" == "3.6e-14"
    assert excess_after(9, 1e-16) < EPS / 2


@pytest.mark.parametrize("low", [1e-16, 1e-8, 1e-3, 0.5])
def test_newtons_weights_are_the_recursion_of_byers_and_xu(low):
    expected = [1 / np.sqrt(low), np.sqrt(2 * np.sqrt(low) / (1 + low))]
    while len(expected) < 12:
        expected.append(np.sqrt(2 / (expected[-1] + 1 / expected[-1])))
    weights = [step.weight for step in newton_steps(low)]
    np.testing.assert_allclose(weights, expected[: len(weights)], rtol=64 * EPS)
    assert len(weights) <= 9


@settings(max_examples=50, deadline=None)
@given(weight=st.floats(1e-3, 1e3), low=st.floats(1e-3, 1.0), width=st.floats(1.0, 1e3))
def test_the_image_of_a_newton_step_is_that_of_a_grid(weight, low, width):
    step = NewtonStep(weight)
    values = step(np.geomspace(low, low * width, 4001))
    image = step.image(low, low * width)
    # between grid points ln(s) moves by at most 7 / 4000, and the step by half the square of that near its minimum
    np.testing.assert_allclose(image, (values.min(), values.max()), rtol=2e-6)
    assert image[0] <= values.min() * (1 + 4 * EPS)


@pytest.mark.parametrize("step", [NewtonStep(0.7), zolotarev(1, 1e-3), zolotarev(4, 1e-5), qdwh_steps(1e-8)[0]])
@pytest.mark.parametrize("dtype", ["float64", "complex128"])
def test_a_step_on_a_matrix_is_the_scalar_map_on_its_singular_values(xp, step, dtype):
    s = np.array([1.0, 0.3, 0.02])
    g, _ = with_factor(s, 3, 3, 6, dtype)
    values = with_factor(step(s), 3, 3, 6, dtype)[0]
    np.testing.assert_allclose(to_host(step.apply(xp.asarray(g))), values, atol=50 * abs(values).max() * rounding(g))


def test_higham_and_optimal_scaling_stop_by_themselves_after_few_steps(monkeypatch):
    from orthotheory.polar import newton as module

    counts = []
    original = module._step
    monkeypatch.setattr(module, "_step", lambda *arguments: (counts.append(1), original(*arguments))[1])
    for condition in (1e1, 1e6, 1e12):
        g, _ = with_factor(np.geomspace(1, 1 / condition, 12), 12, 12, 7)
        for scaling in ("higham", "optimal"):
            counts.clear()
            newton(g, scaling=scaling)
            assert 3 <= len(counts) <= 10  # the nine of the bound, and one that shows that nothing moves any more


def test_an_unknown_scaling_lists_the_nearest():
    with pytest.raises(UnknownName, match="Unknown scaling 'higam'; did you mean 'higham'"):
        newton(np.eye(2), scaling="higam")


# QDWH


def test_the_first_qdwh_weights_at_1e_minus_3_are_the_printed_ones():
    a, b, c = halley_weights(1e-3)
    assert (f"{a:.2f}", f"{b:.3e}", f"{c:.3e}") == ("251.99", "1.575e+04", "1.600e+04")
    np.testing.assert_allclose(halley_weights(1 - 1e-9), (3, 1, 3), atol=1e-7)


def test_qdwhs_interval_recursion_has_the_printed_errors():
    low, errors = 1e-3, []
    for _ in range(4):
        a, b, c = halley_weights(low)
        low = low * (a + b * low**2) / (1 + c * low**2)
        errors.append(1 - low)
    assert [f"{e:.1e}" for e in errors[:3]] == ["7.5e-01", "3.7e-02", "8.4e-07"]
    assert errors[3] <= 2 * EPS
    assert f"{zolotarev_error(3**5, 1e-16):.1e}" == "1.9e-13"
    assert zolotarev_error(3**6, 1e-16) < EPS / 2


def test_qdwh_takes_at_most_six_steps_and_five_at_condition_1e10():
    assert max(len(qdwh_steps(low)) for low in np.geomspace(1e-16, 0.99, 300)) == 6
    assert len(qdwh_steps(1e-10)) == 5
    assert len(qdwh_steps(1e-3, 2.0**-24)) == 4


def test_qdwh_at_condition_1e10_has_the_printed_orthogonality_and_backward_error():
    n = 64
    g, _ = with_factor(np.geomspace(1, 1e-10, n), n, n, 8)
    for low in (None, 1e-11):
        p = qdwh(g, low=low)
        h = p.T @ g
        assert np.linalg.norm(p.T @ p - np.eye(n), 2) <= 1e-14  # printed 2.3e-15, of another matrix
        assert np.linalg.norm(h - h.T, 2) <= 3e-15  # printed 6e-16


def test_a_newton_schulz_polish_leaves_the_factor_and_does_not_hurt(xp):
    g, expected = with_factor(np.geomspace(1, 1e-4, 6), 9, 6, 9)
    np.testing.assert_allclose(to_host(qdwh(xp.asarray(g), polish=True)), expected, atol=1e4 * rounding(g))


def test_the_gram_form_would_lose_the_digits_that_the_qr_form_keeps():
    g, _ = with_factor(np.geomspace(1, 1e-9, 12), 12, 12, 10)
    step = qdwh_steps(1e-9)[0]
    expected = with_factor(step(np.geomspace(1, 1e-9, 12)), 12, 12, 10)[0]
    gram_form = step.gain * (g + step.residues[0] * g @ np.linalg.inv(g.T @ g + step.poles[0] * np.eye(12)))
    assert np.linalg.norm(step.apply(g) - expected, 2) < 1e-10  # the gain at 1e-9 is 1e6: 1e6 eps n
    assert np.linalg.norm(gram_form - expected, 2) > 1e-6


# Zolotarev's functions


def reference(t, low, digits=360):
    """Gain, residues and poles by the elliptic functions of mpmath; digits beyond 1 - low^2."""
    with mpmath.workdps(digits):
        low, n = mpmath.mpf(low), 2 * t + 1
        m = 1 - low**2
        k = mpmath.ellipk(m)
        c = [
            low**2 * (mpmath.ellipfun("sn", j * k / n, m=m) / mpmath.ellipfun("cn", j * k / n, m=m)) ** 2
            for j in range(1, n)
        ]
        poles, zeros = c[0::2], c[1::2]
        gain = mpmath.fprod((1 + p) / (1 + z) for p, z in zip(poles, zeros, strict=True))
        residues = [-mpmath.fprod(p - z for z in zeros) / mpmath.fprod(p - q for q in poles if q != p) for p in poles]
        value = gain * low * mpmath.fprod((low**2 + z) / (low**2 + p) for p, z in zip(poles, zeros, strict=True))
        return gain, residues, poles, value


@pytest.mark.parametrize("low", [1e-100, 1e-16, 1e-12, 1e-8, 1e-3, 0.1, 0.9, 1 - 1e-9])
@pytest.mark.parametrize("t", [1, 2, 5, 8])
def test_the_coefficients_are_those_of_mpmaths_elliptic_functions(t, low):
    gain, residues, poles, value = reference(t, low, 260 if low < 1e-16 else 60)
    step = zolotarev(t, low)
    rtol = 8 * (np.log(4 / low) + t) * EPS
    np.testing.assert_allclose(float(step.gain / gain), 1, rtol=rtol)
    np.testing.assert_allclose([float(a / b) for a, b in zip(step.residues, residues, strict=True)], 1, rtol=rtol)
    np.testing.assert_allclose([float(a / b) for a, b in zip(step.poles, poles, strict=True)], 1, rtol=rtol)
    np.testing.assert_allclose(float(zolotarev_image(2 * t + 1, low) / value), 1, rtol=1e-13)
    # the error is exp(-pi rho) with rho of order 2 t + 1 over ln(1 / low): its roundings grow with the exponent
    error = mpmath.mpf(1) - value
    if error > 1e-40:
        np.testing.assert_allclose(float(zolotarev_error(2 * t + 1, low) / error), 1, rtol=1e-12)


def test_zolotarev_with_one_pole_at_1e_minus_3_has_the_printed_constants():
    step = zolotarev(1, 1e-3)
    a, b, c = halley_weights(1e-3)
    assert f"{step.gain:.8f}" == f"{b / c:.8f}" == "0.98431324"
    zero = step.residues[0] + step.poles[0]  # c_2
    assert f"{step.gain * zero / step.poles[0]:.5f}" == f"{a:.5f}" == "251.99211"  # the reference prints 251.99210
    assert f"{step.poles[0]:.4e}" == f"{1 / c:.4e}" == "6.2499e-05"


def test_two_steps_have_the_printed_errors():
    printed = {(2, 1e-3): "2.8e-06", (3, 1e-3): "1.7e-12", (4, 1e-8): "1.4e-08", (5, 1e-8): "6.5e-13"}
    printed |= {(7, 1e-16): "1.9e-12", (8, 1e-16): "5.0e-16"}
    for (t, low), error in printed.items():
        assert f"{zolotarev_error((2 * t + 1) ** 2, low):.1e}" == error


@pytest.mark.parametrize("low", [1e-16, 1e-8, 1e-3, 0.2])
@pytest.mark.parametrize("t", [1, 3, 8])
def test_the_error_equioscillates_at_the_end_points_and_all_extremes(t, low):
    step = zolotarev(t, low)
    points = np.array([low, *step.extremes, 1.0])
    values = step(points)
    assert len(points) == 2 * t + 2
    assert np.all(np.diff(points) > 0)
    rtol = 64 * (np.log(4 / low) + t) * EPS
    np.testing.assert_allclose(values[0::2], values[0], rtol=rtol)
    np.testing.assert_allclose(values[1::2], 1.0, rtol=rtol)
    grid = step(np.geomspace(low, 1.0, 20001))
    assert values[0] * (1 - rtol) <= grid.min()
    assert grid.max() <= 1 + rtol
    assert step.error == pytest.approx(1 - values[0], rel=1e-6, abs=rtol)


@settings(max_examples=40, deadline=None)
@given(t=st.integers(1, 6), exponent=st.floats(-6, -0.1), left=st.floats(-8, 0.5), width=st.floats(0, 3))
def test_the_image_of_any_interval_is_that_of_a_grid(t, exponent, left, width):
    step = zolotarev(t, 10.0**exponent)
    low, high = 10.0**left, 10.0 ** (left + width)
    values = step(np.geomspace(low, high, 20001))
    np.testing.assert_allclose(step.image(low, high), (values.min(), values.max()), rtol=1e-4)


@pytest.mark.parametrize("t", [1, 4])
def test_the_centred_step_halves_the_error_and_is_the_best_multiple(t):
    step = zolotarev(t, 1e-4)
    centred = step.centred()
    low, high = centred.image(1e-4, 1.0)
    assert low + high == pytest.approx(2, abs=4 * EPS)
    assert centred.error == pytest.approx(step.error / (2 - step.error), rel=1e-12)
    assert centred.error < step.error
    for factor in (0.999, 1.001):
        worse = Zolotarev(centred.gain * factor, centred.residues, centred.poles, centred.input_interval)
        assert worse.error > centred.error


def test_the_units_of_the_interval_only_scale_the_argument():
    one, other = zolotarev(3, 1e-3), zolotarev(3, 7e-3, 7.0)
    s = np.geomspace(1e-3, 1, 50)
    np.testing.assert_allclose(other(7 * s), one(s), rtol=64 * EPS)
    np.testing.assert_allclose(other.extremes, 7 * np.array(one.extremes), rtol=1e-10)
    assert other.input_interval == (7e-3, 7.0)
    assert one is zolotarev(3, 1e-3)  # memoized
    assert hash(one) == hash(Zolotarev(one.gain, one.residues, one.poles, one.input_interval))


def test_numpy_numbers_do_not_stay_in_the_memory():
    low = np.float64(0.123456)
    numbers = [zolotarev(2, low).gain, *zolotarev(2, low).poles, zolotarev(2, low).input_interval[0]]
    numbers += [newton_steps(low)[0].weight, qdwh_steps(low)[0].gain, qdwh_steps(low)[1].poles[0]]
    numbers += [two_steps(low, EPS)[1].residues[0], two_steps(low, EPS)[0].input_interval[0]]
    assert all(type(number) is float for number in numbers)


def test_no_odd_rational_function_of_the_type_that_was_tried_is_better():
    step = zolotarev(2, 1e-3).centred()
    rng = np.random.default_rng(0)
    grid = np.concatenate([np.geomspace(1e-3, 1, 4001), step.extremes])
    for size in (1e-1, 1e-2, 1e-3, 1e-4):
        for _ in range(50):
            factors = np.exp(size * rng.standard_normal(5))
            other = Zolotarev(
                step.gain * factors[0],
                tuple(np.array(step.residues) * factors[1:3]),
                tuple(np.array(step.poles) * factors[3:]),
                step.input_interval,
            )
            assert np.abs(other(grid) - 1).max() > step.error


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((0, 0.1), "t, the number of poles, must be at least 1; got 0"),
        ((1, 0.0), r"needs 0 < low <= high; got \(0, 1\)"),
        ((1, 2.0), r"needs 0 < low <= high; got \(2, 1\)"),
        ((1, np.nan), "needs 0 < low <= high"),
        ((1, 1e-200), "low / high must be at least 1e-150"),
    ],
)
def test_an_interval_that_cannot_be_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        zolotarev(*arguments)


def test_an_interval_of_one_point_has_the_limit():
    step = zolotarev(2, 1.0)
    assert step(1.0) == pytest.approx(1, abs=4 * EPS)
    x = 1 - 1e-2
    assert abs(1 - step(x)) == pytest.approx((1e-2 / 2) ** 5 * 2, rel=0.1)  # order 5


def test_zolo_pd_chooses_the_fewest_poles_that_two_steps_allow():
    for low in np.geomspace(1e-16, 0.5, 40):
        t = two_step_t(low, EPS)
        assert zolotarev_error((2 * t + 1) ** 2, low) <= EPS or t == 8
        assert t == 1 or zolotarev_error((2 * t - 1) ** 2, low) > EPS
        first, second = two_steps(low, EPS)
        assert first.order == second.order == 2 * t + 1
        # the second step is designed for the image of the first
        assert second.input_interval[0] == pytest.approx(first.image(low, 1.0)[0], rel=1e-9)
    assert two_step_t(1e-16, EPS) == 8


def test_two_steps_from_1e_minus_16_reach_a_few_roundings():
    first, second = two_steps(1e-16, EPS)
    s = np.geomspace(1e-16, 1, 100_001)
    assert np.abs(second(first(s)) - 1).max() <= 16 * EPS  # 5e-16 and the roundings of eight terms
