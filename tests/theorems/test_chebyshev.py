"""Finite-time rates on quadratics: between the extreme points nothing is worse, and momentum pays off late."""

from __future__ import annotations

import numpy as np
import pytest

from orthotheory.theory import chebyshev as ch
from orthotheory.theory import check, get
from orthotheory.theory.contract import AssumptionFails
from orthotheory.theory.quadratic_rates import heavy_ball_errors, polyak


@pytest.mark.parametrize("steps", [1, 4, 25])
def test_no_curvature_between_the_extreme_points_is_worse(steps):
    case = ch.Spectrum(0.01, 1.0, steps)
    dense = np.linspace(0.01, 1.0, 4001)
    constant = [(2 / 1.01, 0.0)] * steps
    found = [
        np.abs(ch.run_modes(dense, ch.chebyshev_coefficients(case))).max(),
        np.abs(ch.run_modes(dense, constant)).max(),
        heavy_ball_errors(polyak(dense, steps))[-1].max(),
    ]
    np.testing.assert_allclose(found, ch.worst_errors(case)[:3], rtol=1e-10)


@pytest.mark.parametrize("condition", [1e2, 1e4, 1e5])
def test_heavy_ball_is_behind_gradient_descent_for_a_root_of_the_condition_number_times_its_logarithm(condition):
    """(1 + k (1 + rho)) rho^k against 1 to leading order: k = c sqrt(kappa) with c = log(kappa) / 4 + log(2 c) / 2."""
    factor = 1.0
    for _ in range(50):
        factor = np.log(condition) / 4 + np.log(2 * factor) / 2
    expected = factor * np.sqrt(condition)
    behind = {}
    for k in (1, int(0.85 * expected), int(1.15 * expected) + 1, int(3 * expected)):
        _, descent, ball, *_ = ch.worst_errors(ch.Spectrum(1 / condition, 1.0, k))
        behind[k] = bool(ball > descent)
    assert list(behind.values()) == [True, True, False, False]
    if condition > 1e4:  # the control: no multiple of the root alone serves all conditions
        assert 1.5 * 2.1 * np.sqrt(condition) < expected


def test_the_errors_of_the_recursion_are_the_polynomial():
    case = ch.Spectrum(0.1, 2.0, 6)
    h = np.linspace(0.1, 2.0, 50)
    t = np.polynomial.chebyshev.Chebyshev.basis(6)
    expected = t(case.center - 2 * h / 1.9) / t(case.center)
    np.testing.assert_allclose(ch.run_modes(h, ch.chebyshev_coefficients(case)), expected, atol=1e-13)


def test_equal_ends_are_refused():
    with pytest.raises(AssumptionFails, match="mu < L"):
        check(get("chebyshev-optimum"), ch.Spectrum(1.0, 1.0, 3))
