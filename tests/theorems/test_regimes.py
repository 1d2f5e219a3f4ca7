"""Regimes in which a spectral step wins or loses: closed forms against runs, intervals, and two sure cases."""

from __future__ import annotations

import numpy as np
import pytest

from orthotheory import regimes, theory


@pytest.mark.parametrize("kind", ["spectral", "gradient"])
def test_the_closed_form_of_an_aligned_run_is_the_run_and_halved_curvature_is_not(kind):
    problem, draw = regimes._cell(100.0, "commuting")
    errors, rates = draw(range(4)), regimes.rate_grid(kind, problem, 32)
    measured = regimes.final_gap(kind, problem, errors, rates, 32)
    # sums of squares of modes that 32 steps round by about 1e-15 each, relative to gaps of at least 1e-5
    assert np.allclose(regimes.closed_form(kind, problem, errors, rates, 32), measured, rtol=1e-8)
    wrong = rates / 2
    assert not np.allclose(regimes.closed_form(kind, problem, errors, wrong, 32), measured, rtol=0.1)


def test_the_spectral_step_loses_where_curvature_is_flat_and_wins_where_it_is_not():
    found = regimes.plane("smoke", "commuting")
    assert np.all(found.measured.side[0] == 1)
    assert found.measured.side[-1, -1] == -1
    decided = found.measured.side != 0
    assert np.array_equal(np.sign(found.predicted)[decided], found.measured.side[decided])
    assert np.isnan(regimes.plane("smoke", "generic").predicted).all()


@pytest.mark.parametrize(("label", "side"), [("flat error, $\\kappa=10^3$", -1), ("flat curvature", 1)])
def test_a_race_of_a_sure_regime_falls_to_the_predicted_side(label, side):
    regime = next(r for r in regimes.REGIMES if r.task.label == label)
    assert regime.predicted == {-1: "wins", 1: "loses"}[side]
    assert regimes.race(regime, "smoke", rivals=("gd",)).side.tolist() == [side]


def test_every_prediction_names_theorems_of_the_ledger_and_an_open_one_names_none():
    for regime in regimes.REGIMES:
        assert bool(regime.predicted_by) == (regime.predicted != "open")
        assert set(regime.predicted_by) <= set(theory.names())


def test_a_paired_ratio_has_an_interval_a_diverged_run_counts_as_no_progress_and_one_seed_is_refused():
    same = np.array([1e-3, 1e-4, 1e-5])
    ratio = regimes.paired(10 * same, same)
    assert np.isclose(ratio.mean, 1)
    assert ratio.side == 1
    assert regimes.paired(same, same[::-1]).side == 0
    assert np.isclose(regimes.paired(same, np.full(3, np.inf)).mean, -4)
    with pytest.raises(ValueError, match="at least two"):
        regimes.paired(same[:1], same[:1])
