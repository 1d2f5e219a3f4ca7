"""Exponents: recovered where they are planted, refused from one run."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy.stats import binom

from orthotheory.storage import read_json
from orthotheory.theory import fit_exponent
from orthotheory.theory.rates import upper_mean

CONFIRMATIONS = Path(__file__).parents[2] / "benchmarks" / "results" / "confirmations.json"
X = np.array([8.0, 16.0, 32.0, 64.0, 128.0])


def _runs(exponent, noise, runs=20, seed=0):
    rng = np.random.default_rng(seed)
    return 3.0 * X**exponent * np.exp(noise * rng.standard_normal((runs, X.size)))


@pytest.mark.parametrize("exponent", [-1.0, -0.5, -0.25, 2.0])
def test_a_planted_exponent_lies_in_the_interval(exponent):
    fit = fit_exponent(X, _runs(exponent, 0.1))
    assert fit.contains(exponent)
    assert fit.high - fit.low < 0.1


def test_a_wrong_exponent_does_not_lie_in_the_interval():
    fit = fit_exponent(X, _runs(-0.5, 0.05))
    assert not fit.contains(-0.25)
    assert fit.verdict(-0.5) == "consistent"
    assert fit.verdict(-0.25) == "faster"
    assert fit.verdict(-1.0) == "slower"


def test_the_interval_covers_about_as_often_as_it_says():
    hits = sum(fit_exponent(X, _runs(-0.5, 0.3, seed=s), resamples=400).contains(-0.5) for s in range(200))
    # binomial(200, 0.9): the percentile bootstrap over 20 runs is a little narrow; five standard deviations
    assert hits >= 200 * 0.9 - 5 * np.sqrt(200 * 0.9 * 0.1)


def test_local_slopes_show_where_a_power_law_bends():
    y = np.vstack([X**-1.0 + 0.05, X**-1.0 + 0.051])
    local = fit_exponent(X, y).local
    assert local[0] < local[-1] < 0


@pytest.mark.parametrize(
    ("x", "y", "message"),
    [
        (X, X**-1.0, "never claimed from one run"),
        (X[:1], np.ones((3, 1)), "at least 2 points"),
        (X, np.ones((3, 4)), r"got \(5,\) and \(3, 4\)"),
        (X, -np.ones((3, 5)), "positive"),
        (X, np.full((3, 5), np.nan), "positive finite"),
    ],
)
def test_what_is_no_evidence_is_refused(x, y, message):
    with pytest.raises(ValueError, match=message):
        fit_exponent(x, y)


def test_the_upper_end_of_a_mean_covers_as_often_as_it_says_and_needs_two_seeds():
    draws = np.random.default_rng(1).standard_normal((4000, 8))
    covered = np.mean(upper_mean(draws, 0.95) >= 0)
    # binomial(4000, 0.95), five standard deviations; the normal quantile in place of Student's would give 0.93
    assert abs(covered - 0.95) <= 5 * np.sqrt(0.95 * 0.05 / 4000)
    with pytest.raises(ValueError, match="at least two"):
        upper_mean(draws[:, :1])


def test_a_correction_recovers_the_exponent_of_a_power_law_that_is_only_approached():
    y = 3 * X**-0.5 * np.exp(2 / X) * np.exp(0.001 * np.random.default_rng(0).standard_normal((20, X.size)))
    assert not fit_exponent(X, y).contains(-0.5)
    assert fit_exponent(X, y, correction=1.0).contains(-0.5)


def test_dropped_points_do_not_count_and_some_must_be_left():
    y = _runs(-0.5, 0.01)
    y[:, 0] *= 100
    assert fit_exponent(X, y, drop=1).slope == pytest.approx(-0.5, abs=0.02)
    with pytest.raises(ValueError, match="left after dropping"):
        fit_exponent(X, y, drop=4)


@pytest.mark.slow
def test_the_three_exponents_of_momentum_lie_in_their_intervals_and_wrong_schedules_are_slower():
    from orthotheory.theory.rates import SCHEDULES, WRONG, momentum_rates

    rates = momentum_rates("paper")
    assert {name: rates[name].verdict for name in SCHEDULES} == dict.fromkeys(SCHEDULES, "consistent")
    assert {name: rates[name].verdict for name in WRONG} == dict.fromkeys(WRONG, "slower")


def test_the_stored_confirmation_misses_no_more_exponents_than_its_level_allows_and_the_wrong_schedules_are_slower():
    from orthotheory.theory.rates import SCHEDULES, WRONG

    rows = read_json(CONFIRMATIONS)["momentum-rates"]["rows"]
    right = [r for r in rows if r["schedule"] in SCHEDULES]
    wrong = [r for r in rows if r["schedule"] in WRONG]
    misses = sum(not r["low"] <= r["theory"] <= r["high"] for r in right)
    assert binom.sf(misses - 1, len(right), 0.05) > 0.05
    assert all(r["low"] > r["theory"] and r["verdict"] == "slower" for r in wrong)
    # the rule before it, with means over all steps, fails the same test: it can fail
    before = [r for r in read_json(CONFIRMATIONS)["momentum-rates-all-steps"]["rows"] if r["schedule"] in SCHEDULES]
    misses = sum(not r["low"] <= r["theory"] <= r["high"] for r in before)
    assert binom.sf(misses - 1, len(before), 0.05) < 0.05


def test_the_first_local_slope_of_the_stored_confirmation_is_computed_again():
    from orthotheory.theory.rates import SCHEDULES, _mean_gradients

    row = read_json(CONFIRMATIONS)["momentum-rates"]["rows"][0]
    seeds = (row["seed"], row["problem_seed"])
    means = [
        np.log(_mean_gradients(SCHEDULES[row["schedule"]], k, row["runs"], seeds, 0.5)).mean() for k in (500, 1000)
    ]
    # chaos of the cycle may carry another rounding of LAPACK into the digits that a thousand steps leave
    assert (means[1] - means[0]) / np.log(2) == pytest.approx(row["local"][0], abs=5e-3)


def test_no_run_of_the_stored_confirmation_ends_below_the_sharpest_cycle_and_steps_grow_slower_than_the_root():
    stored = read_json(CONFIRMATIONS)
    cycles, steps = stored["sharpest-cycle"]["rows"], stored["shrinking-radius"]["rows"]
    assert sum(row["runs"] for row in cycles) >= 20_000
    assert [row["below"] for row in cycles] == [0] * len(cycles)
    assert all(row["low"] > 0.05 and row["high"] < 0.5 for row in steps)
