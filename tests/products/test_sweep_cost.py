"""What `sweep --dry-run` tells: operations by the formulas, seconds within a factor of what the sweep then takes."""

from __future__ import annotations

import time

from orthotheory.sweep import Sweep, forecast, plan, run_sweep


def test_the_counted_operations_are_those_of_the_formulas():
    """On n x n quadratics a gradient A E B has two products and Muon's five steps have fifteen."""
    n, steps, runs = 8, 7, 6
    quadratic = {"quadratic": {"rows": n, "columns": n}}
    cost = {
        name: forecast(plan(Sweep(quadratic, {name: {"lr": [0.1, 0.2]}}, steps=steps, seeds=3), {}))
        for name in ("gd", "muon")
    }
    assert cost["gd"].products == 2 * 2 * n**3 * runs * steps
    assert cost["muon"].products - cost["gd"].products == 15 * 2 * n**3 * runs * steps
    assert cost["gd"].operations > cost["gd"].products
    assert (cost["gd"].runs, cost["gd"].parts, cost["gd"].uncounted) == (runs, 1, 0)


def test_the_forecast_of_seconds_is_within_a_factor_of_three(tmp_path):
    """Methods whose steps differ by a factor of thirty, on problems that differ by ten."""
    cases = {"small": {"name": "quadratic", "rows": 6, "columns": 4, "noise": {"name": "gaussian"}},
             "large": {"name": "quadratic", "rows": 40, "columns": 30}}  # fmt: skip
    rates = {name: {"lr": {"from": 1e-3, "to": 0.1, "per_decade": 2}} for name in ("gd", "muon", "polargrad", "soap")}
    grid = Sweep(cases, rates, steps=150, every=10, seeds=4)
    told = forecast(plan(grid, {}, chunk=10), jobs=1)
    began = time.perf_counter()
    run_sweep(grid, tmp_path, chunk=10)
    assert 1 / 3 < told.seconds / (time.perf_counter() - began) < 3
    assert told.probes == told.parts


def test_nothing_missing_costs_nothing():
    assert forecast([]).seconds == forecast([]).operations == 0
