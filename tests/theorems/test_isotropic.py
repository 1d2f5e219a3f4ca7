"""Numbers behind the isotropic curvature model: two roads to its moments, and the ratios as the power grows."""

from __future__ import annotations

import numpy as np
import pytest

from orthotheory.theory import check, get
from orthotheory.theory.contract import AssumptionFails
from orthotheory.theory.isotropic import (
    Isotropic,
    dirichlet_moments,
    optimal_update,
    softer_update,
    sphere_rule,
    weighted_squares,
)

G = np.array([4.0, 2.0, 1.0])


def test_the_series_gives_the_moments_of_the_sphere():
    nodes, weights = sphere_rule()
    a = np.array([2.0, 0.7, 0.1])
    by_rule = [weights @ (nodes**2 @ a) ** k for k in range(12)]
    np.testing.assert_allclose(dirichlet_moments(a, np.full(3, 0.5), 11), by_rule, rtol=1e-12)


def test_the_weighted_moments_are_those_of_the_rule():
    nodes, weights = sphere_rule()
    q = np.array([1.2, 0.8])
    squares = nodes[:, :2] ** 2
    by_rule = (weights * (squares @ q**2) ** 3) @ squares
    np.testing.assert_allclose(weighted_squares(Isotropic(G[:2], 3, 8), q), by_rule, rtol=1e-12)


@pytest.mark.parametrize(
    ("power", "first", "second"), [(4, 2.25, 1.57), (8, 1.56, 1.29), (20, 1.20, 1.11), (60, 1.07, 1.04)]
)
def test_the_ratios_of_the_optimal_update_are_the_known_ones(power, first, second):
    q = optimal_update(Isotropic(G, 3, power))
    # the reference states two decimals of a mean over draws
    np.testing.assert_allclose(q[:2] / q[2], (first, second), atol=0.01)


def test_an_odd_power_lies_between_its_neighbors():
    ratios = [softer_update(Isotropic(G, 3, p))[0] / softer_update(Isotropic(G, 3, p))[2] for p in (2, 3, 4)]
    np.testing.assert_allclose(ratios, (4.0, 2.78, 2.25), atol=0.01)


def test_both_solvers_agree():
    np.testing.assert_allclose(softer_update(Isotropic(G, 3, 4.0)), optimal_update(Isotropic(G, 3, 4)), rtol=1e-5)


def test_the_ratio_falls_with_the_power_in_every_draw():
    rng = np.random.default_rng(5)
    for _ in range(5):
        g = np.sort(10 ** rng.uniform(-1, 1, 3))[::-1]
        spread = [optimal_update(Isotropic(g, 4, p)) for p in (2, 4, 8, 16, 32)]
        assert np.all(np.diff([q[0] / q[-1] for q in spread]) < 0)


def test_a_power_below_two_is_refused():
    with pytest.raises(AssumptionFails, match="does not fall"):
        check(get("isotropic-order"), Isotropic(G, 3, 1.9))


def test_a_singular_gradient_is_refused_at_the_wall():
    with pytest.raises(AssumptionFails, match="full rank"):
        check(
            get("isotropic-wall"),
            get("isotropic-wall").cases("smoke").__next__()[1]._replace(gradient=np.array([1.0, 0.0])),
        )
