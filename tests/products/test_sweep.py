"""Sweeps: a batched run equals single runs, finished parts are kept, damaged ones computed anew, diverged ones lose."""

from __future__ import annotations

import numpy as np
import pytest

from orthotheory import loop, methods, problems, sweep
from orthotheory.sweep import Sweep, best_rates, run_sweep

GRID = Sweep(
    problem={"name": "quadratic", "rows": 4, "columns": 3, "noise": {"name": "gaussian", "sigma": 0.01}},
    methods={"GD": {"name": "gd", "lr": [0.1, 1.0]}, "Muon": {"name": "muon", "lr": [0.05, 0.01], "nesterov": False}},
    steps=6,
    every=3,
    seeds=2,
)


def test_the_table_has_one_row_for_each_run_and_recorded_step():
    table = run_sweep(GRID)
    assert len(table) == 2 * 2 * 2 * 3
    assert set(table.columns) == {"method", "lr", "seed", "k", "value", "gap", "gradient_norm"}
    assert sorted(table["k"].unique()) == [0, 3, 6]


def test_a_batched_deterministic_part_equals_its_single_runs():
    quiet = Sweep({"name": "quadratic", "rows": 4, "columns": 3}, GRID.methods, steps=5)
    table = run_sweep(quiet)
    for label, config in quiet.methods.items():
        hyper = {k: v for k, v in config.items() if k not in ("name", "lr")}
        for lr in config["lr"]:
            method = methods.make(config["name"], lr=lr, **hyper)
            single = loop.run(problems.make(**quiet.problem), method, 5)
            rows = table[(table["method"] == label) & (table["lr"] == lr)].sort_values("k")
            np.testing.assert_allclose(rows["gap"], single["gap"], rtol=1e-12)


def test_seeds_give_different_noise():
    table = run_sweep(GRID)
    last = table[(table["k"] == 6) & (table["method"] == "GD") & (table["lr"] == 0.1)]
    assert last["gap"].nunique() == 2


def test_a_finished_part_is_never_computed_again(tmp_path, monkeypatch):
    first = run_sweep(GRID, tmp_path)
    monkeypatch.setattr(sweep, "_run_part", lambda config: pytest.fail("computed again"))
    assert run_sweep(GRID, tmp_path).equals(first)


def test_a_new_method_computes_only_itself(tmp_path, monkeypatch):
    run_sweep(GRID, tmp_path)
    computed = []
    original = sweep._run_part
    monkeypatch.setattr(
        sweep, "_run_part", lambda config: computed.append(config["method"]["name"]) or original(config)
    )
    wider = Sweep(GRID.problem, {**GRID.methods, "Sign": {"name": "sign", "lr": [0.01]}}, steps=6, every=3, seeds=2)
    assert set(run_sweep(wider, tmp_path)["method"]) == {"GD", "Muon", "Sign"}
    assert computed == ["sign"]


def test_a_half_written_part_is_computed_anew(tmp_path):
    first = run_sweep(GRID, tmp_path)
    victim = next(tmp_path.glob("*.parquet"))
    victim.write_bytes(victim.read_bytes()[:100])
    assert run_sweep(GRID, tmp_path).equals(first)


def test_two_workers_give_the_numbers_of_one(tmp_path):
    assert run_sweep(GRID, jobs=2).equals(run_sweep(GRID))


def test_the_best_rate_is_found_a_diverged_one_never_wins_and_an_edge_is_flagged():
    grids = {"gd": {"name": "gd", "lr": [0.01, 1.0, 50.0]}, "sign": {"name": "sign", "lr": [1e-4, 1e-3]}}
    grid = Sweep({"name": "quadratic"}, grids, steps=300, every=300)
    best = best_rates(run_sweep(grid)).set_index("method")
    assert best.loc["gd", "lr"] == 1.0
    assert not best.loc["gd", "at_edge"]
    assert best.loc["sign", "at_edge"]


def test_a_misspelt_key_is_refused_with_the_nearest_right_one():
    with pytest.raises(ValueError, match="did you mean 'weight_decay'"):
        run_sweep(Sweep({"name": "quadratic"}, {"muon": {"name": "muon", "lr": [0.1], "weight_decy": 0.1}}))
    with pytest.raises(ValueError, match="did you mean 'rows'"):
        run_sweep(Sweep({"name": "quadratic", "row": 3}, GRID.methods))
