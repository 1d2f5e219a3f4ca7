"""Symbolic derivations: each result is the number that the code computes, and a wrong result is not."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

from orthotheory import convex, norms, problems
from orthotheory.polar import NEWTON_SCHULZ_CUBIC, NEWTON_SCHULZ_QUINTIC, polar_factor
from orthotheory.theory import derivations, derivations_noise, floors, lion_k_flow, quadratic_rates

CLOSE = {"rtol": 1e-12, "atol": 0}  # a dozen operations in float64
G = np.array([0.7, 1.9, 0.4])
NAMES = ("g1", "g2", "g3")


@pytest.mark.parametrize(("order", "schedule"), [(2, NEWTON_SCHULZ_CUBIC), (3, NEWTON_SCHULZ_QUINTIC)])
def test_the_polynomial_that_is_flattest_at_one_is_the_schedule_of_newton_and_schulz(order, schedule):
    derived = derivations.newton_schulz(order)
    assert [float(c) for c in derived.results["coefficients"]] == list(schedule.coefficients[0])  # dyadic: exact
    error = 1e-3  # one step: the error is raised to the power `order`, times the next factor at 1
    x = np.diag([1 - error, 1.0])
    a, b, *c = schedule.coefficients[0]
    stepped = a * x + b * x @ x.T @ x + sum(ci * x @ x.T @ x @ x.T @ x for ci in c)
    assert np.isclose(1 - stepped[0, 0], derived.numeric("complement", "x")(1 - error), rtol=1e-4)
    assert not np.isclose(1 - stepped[0, 0], derivations.newton_schulz(5 - order).numeric("complement", "x")(1 - error))
    assert np.allclose(polar_factor(x), np.eye(2))


@pytest.mark.parametrize("p", ["3/2", 2, 3, 4])
def test_the_lmo_by_lagrange_is_that_of_the_schatten_norm_and_not_of_another_exponent(p):
    derived = derivations.lmo(p)
    norm, other = norms.Schatten(float(Fraction(p))), norms.Schatten(2.5)
    u, v = (problems.orthogonal(3, np.random.default_rng(i)) for i in range(2))
    g = (u * G) @ v.T
    claimed = -(u * derived.numeric("maximizer", NAMES)(*G)) @ v.T
    assert np.allclose(norm.lmo(g), claimed, rtol=0, atol=1e-14)
    assert np.isclose(float(norm.dual(g)), derived.numeric("dual", NAMES)(*G), **CLOSE)
    assert np.abs(other.lmo(g) - claimed).max() > 0.02


def test_a_ball_without_a_single_maximum_is_refused():
    with pytest.raises(ValueError, match="p > 1"):
        derivations.lmo(1)
    with pytest.raises(ValueError, match="rank one"):
        derivations.commuting_smoothness(2)


@pytest.mark.parametrize(("p", "norm"), [(None, norms.Spectral()), (3, norms.Schatten(3.0)), (4, norms.Schatten(4.0))])
def test_the_commuting_smoothness_is_the_constant_of_the_problem_and_not_with_one_spectrum_turned_around(p, norm):
    a, b = np.array([2.0, 0.9, 0.3]), np.array([1.5, 1.1, 0.2])
    derived = derivations.commuting_smoothness(p).numeric("smoothness", ("a1", "a2", "a3", "b1", "b2", "b3"))
    problem = problems.KroneckerQuadratic(np.diag(a), np.diag(b), np.zeros((3, 3)), np.eye(3))
    assert np.isclose(float(problem.smoothness(norm)), derived(*a, *b), **CLOSE)
    assert derived(*a, *b[::-1]) < 0.9 * derived(*a, *b)


def test_an_exchange_gains_the_product_of_the_differences():
    gain = derivations.exchange().numeric("gain", ("a1", "a2", "b1", "b2"))
    rng = np.random.default_rng(0)
    a, b = np.sort(rng.random((2, 2)))[:, ::-1]
    assert gain(*a, *b) == pytest.approx(a @ b - a @ b[::-1])
    assert gain(*a, *b) > 0 > gain(*a, *b[::-1])


def test_the_double_root_of_heavy_ball_is_its_run_at_the_sharpest_curvature():
    case = quadratic_rates.polyak(np.array([1.0, 25.0]), 30)
    k = np.arange(1, 31)
    derived = derivations.heavy_ball_double_root().numeric("errors", ("r", "k"))
    rate = np.sqrt(case.momentum)
    run = quadratic_rates.heavy_ball_errors(case)[:, 1]
    assert np.allclose(
        run, np.abs([derived(rate, float(i)) + 0j for i in k]), rtol=1e-9
    )  # condition: 30 steps at a double root
    assert not np.allclose(run, rate**k, rtol=0.1)


def test_the_dissipation_of_the_lion_k_flow_is_that_of_its_samples_and_not_with_the_two_gradients_exchanged():
    flow = lion_k_flow.LionKFlow(problems.quadratic(rows=1, columns=1), convex.make("sqrt"))
    x, m = np.array([[0.3]]), np.array([[1.7]])
    _, _, t = flow.velocity(x, m)
    y = flow.k.conjugate_gradient(flow.weight_decay * x)
    constants = flow.gamma, flow.epsilon, flow.weight_decay
    slopes = flow.k.subgradient(m), flow.k.subgradient(t), flow.weight_decay * x
    derived = derivations.lion_k_dissipation()
    names = ("gamma", "epsilon", "lambda", "M", "T", "Y", "U", "V", "Z")
    terms = [derived.numeric(name, names) for name in ("dissipation", "slope")]
    values = [float(np.squeeze(v)) for v in (*constants, m, t, y, *slopes)]
    assert np.allclose(terms[0](*values), flow.dissipation(x, m), **CLOSE)
    assert terms[1](*values) == pytest.approx(-float(flow.dissipation(x, m).sum()), rel=1e-12)
    values[6], values[7] = values[7], values[6]
    assert not np.allclose(terms[0](*values), flow.dissipation(x, m), rtol=0.1)


def test_the_noise_in_an_average_is_the_variance_of_its_chains():
    derived = derivations_noise.average_variance()
    rng, a, steps, chains = np.random.default_rng(0), 0.2, 60, 20_000
    constant = plain = np.zeros(chains)
    for k in range(steps):
        xi = 0.7 * rng.standard_normal(chains)
        constant = (1 - a) * constant + a * xi
        plain = plain + (xi - plain) / (k + 1)
    band = 5 * np.sqrt(2 / chains)  # five standard errors of a variance
    assert np.var(constant) == pytest.approx(derived.numeric("constant", ("a", "sigma"))(a, 0.7), rel=band)
    assert np.var(plain) == pytest.approx(derived.numeric("plain", ("k", "sigma"))(steps, 0.7), rel=band)
    assert np.var(constant) != pytest.approx(a * 0.7**2, rel=band)  # the control: without the factor 1 / (2 - a)


def test_extrapolated_momentum_errs_by_averaged_noise_and_plain_momentum_by_the_derived_drift_too():
    derived = derivations_noise.extrapolation()
    h, a = np.array([[2.0, 0.5], [0.5, 1.0]]), 0.3
    x, before, error, xi = np.random.default_rng(1).standard_normal((4, 2))
    names = ("a", "h00", "h01", "h11", "x0", "x1", "y0", "y1", "e0", "e1", "xi0", "xi1")
    values = (a, h[0, 0], h[0, 1], h[1, 1], *x, *before, *error, *xi)
    claimed, drift = (np.array(derived.numeric(name, names)(*values)) for name in ("extrapolated", "drift"))
    for point, lag in ((x + (1 - a) / a * (x - before), 0), (x, drift)):
        momentum = (1 - a) * (h @ before + error) + a * (h @ point + xi)
        assert np.allclose(momentum - h @ x, claimed + lag, rtol=0, atol=1e-14)
    assert np.abs(drift).max() > 0.1


def test_the_floor_of_sign_descent_is_that_of_its_exact_stationary_law():
    case = floors.Sign(1.0, 0.002, 1.0, 4000)
    derived = derivations_noise.sign_floor().numeric("floor", ("eta", "sigma"))
    measured = floors.sign_loss(case)[0]
    # the next term is of relative order eta h / sigma = 0.002
    assert measured == pytest.approx(derived(case.lr, case.sigma), rel=4e-3)
    assert measured != pytest.approx(derived(case.lr, case.sigma) / np.sqrt(np.pi / 2), rel=0.1)


def test_the_price_of_a_polar_factor_under_strong_noise_is_the_quotient_of_the_two_floors():
    derived = derivations_noise.strong_noise_price()
    price = derived.numeric("price", ("m", "n", "r", "nu"))
    for m, n in ((1, 1), (3, 2)):
        case = floors.Chains(np.eye(m), np.eye(n), 1e-4, 1.0, 1, 0, 0, 0)
        rate = case.lr * floors.mean_nuclear(m, n) / (m * n * case.sigma)
        gradient = m * n / 2 * floors.variance_formula(floors.Mode(1.0, rate, 0.0, case.sigma))[0]
        quotient = floors.high_noise_floor(case)[0] / gradient
        assert quotient == pytest.approx(price(m, n, min(m, n), floors.mean_nuclear(m, n)), rel=2 * rate)
        assert quotient > 1.05
    assert float(derived.results["scalar"]) == pytest.approx(np.pi / 2)
    # |Z|_* of a large square matrix approaches its limit like 1 / n^2
    assert price(40, 40, 40, floors.mean_nuclear(40, 40, draws=200)) == pytest.approx(
        float(derived.results["square"]), rel=5e-3
    )


def test_a_derivation_renders_its_steps_and_a_residual_that_does_not_vanish_is_an_error():
    import sympy

    text = derivations.lmo(3).markdown()
    assert text.startswith("**The LMO of the Schatten-3 ball.**")
    assert text.count("\n") == 1 + len(derivations.lmo(3).steps)
    with pytest.raises(ArithmeticError, match="the residual is x"):
        derivations._vanishes(sympy.Symbol("x"), "a planted mistake")
    with pytest.raises(ValueError, match="name them all"):
        derivations.exchange().numeric("gain", ("a1",))
