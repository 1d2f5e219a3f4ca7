"""Generalized smoothness over coupled layers: the constants, what is refused, and the trap of the literal reading."""

from __future__ import annotations

import numpy as np
import pytest

from orthotheory import norms
from orthotheory.theory import check, get
from orthotheory.theory import relaxed_smoothness as rs
from orthotheory.theory.contract import AssumptionFails

RNG = np.random.default_rng(4)
START = (RNG.standard_normal((3, 3)), RNG.standard_normal((3, 3)))


def test_the_constant_of_cosh_solves_its_equation():
    d = 1 / rs.COSH_L1
    assert 2 * (np.exp(d) - 1 - d) / d**2 == pytest.approx(rs.COSH_L1, rel=1e-14)


def test_the_gradients_are_those_of_the_values():
    for layers in (
        rs.coupled_cosh(norms.Spectral(), START, 0.7),
        rs.coupled_quadratic(norms.Spectral(), START, 0.7),
    ):
        d = (RNG.standard_normal((3, 3)), RNG.standard_normal((3, 3)))
        at = [layers.value(tuple(x + t * y for x, y in zip(START, d, strict=True))) for t in (1e-5, -1e-5)]
        slope = sum(np.sum(g * y) for g, y in zip(layers.grad(START), d, strict=True))
        # central differences: third derivatives of size 100 times 1e-10, and 1e-16 / 1e-5 of rounding
        assert (at[0] - at[1]) / 2e-5 == pytest.approx(slope, rel=1e-7)


def test_constants_that_leave_the_coupling_out_are_refused():
    blind = rs.coupled_quadratic(norms.Spectral(), (np.eye(3), np.eye(3)), 0.5, blind=True)
    with pytest.raises(AssumptionFails, match="aggregate"):
        check(get("relaxed-descent"), rs.descend(blind, 3))


def test_the_growth_of_the_smoothness_is_needed():
    layers = rs.coupled_cosh(norms.MaxEntry(), (4 * START[0], 4 * START[1]), 0.5)
    assert rs.aggregate_holds(layers, [layers.start])
    assert not rs.aggregate_holds(layers._replace(l1=0.0), [layers.start])
    run = rs.descend(layers, 40)
    assert check(get("relaxed-smoothness"), run).holds
    smooth = rs.smallest_gradient(run) ** 2 * np.arange(1, 41) / (4 * layers.l0 * (run.values[0] - layers.least))
    assert smooth.max() > 1  # sqrt(2 L0 gap / K) alone, as for an L0-smooth function


@pytest.mark.parametrize("coupling", [1e-3, 0.5])
def test_the_literal_condition_refuses_every_coupling_whatever_its_constants(coupling):
    x, other = START
    layers = rs.coupled_quadratic(norms.Spectral(), START, coupling)._replace(l0=1e9, l1=1e9)
    pair = ((x, other), (x, other + 1.0))
    with pytest.raises(AssumptionFails, match="pairs"):
        check(get("literal-separable"), rs.Literal(layers, [pair]))
    assert check(get("relaxed-descent"), rs.descend(rs.coupled_quadratic(norms.Spectral(), START, coupling), 5)).holds
