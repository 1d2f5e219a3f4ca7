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


def test_heavy_ball_is_behind_gradient_descent_for_about_two_roots_of_the_condition_number():
    _, descent, ball, *_ = np.array([ch.worst_errors(ch.Spectrum(0.01, 1.0, k)) for k in range(1, 60)]).T
    behind = ball > descent
    crossing = 1 + int(np.flatnonzero(~behind)[0])
    assert 20 <= crossing <= 22
    assert behind[: crossing - 1].all()
    assert not behind[crossing - 1 :].any()


def test_the_errors_of_the_recursion_are_the_polynomial():
    case = ch.Spectrum(0.1, 2.0, 6)
    h = np.linspace(0.1, 2.0, 50)
    t = np.polynomial.chebyshev.Chebyshev.basis(6)
    expected = t(case.center - 2 * h / 1.9) / t(case.center)
    np.testing.assert_allclose(ch.run_modes(h, ch.chebyshev_coefficients(case)), expected, atol=1e-13)


def test_equal_ends_are_refused():
    with pytest.raises(AssumptionFails, match="mu < L"):
        check(get("chebyshev-optimum"), ch.Spectrum(1.0, 1.0, 3))
