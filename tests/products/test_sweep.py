"""Sweeps: one schema, batches that change no bit, parts that are kept, answers over seeds."""

from __future__ import annotations

import json
import sys
import tomllib
from pathlib import Path

import numpy as np
import pytest

from orthotheory import cli, loop, methods, problems
from orthotheory.names import UnknownName
from orthotheory.sweep import Results, Store, Sweep, decades, plan, run_chunk, run_sweep, scheduler
from orthotheory.sweep.analyse import median_interval, steps_to

ROOT = Path(__file__).parents[2]
NOISY = {"name": "quadratic", "rows": 4, "columns": 3, "noise": {"name": "gaussian", "sigma": 0.01}}
GRID = Sweep(
    problems={"noisy": {**NOISY, "start": "generic"}},
    methods={"GD": {"name": "gd", "lr": [0.1, 1.0]}, "Muon": {"name": "muon", "lr": [0.05, 0.01], "nesterov": False}},
    steps=6,
    every=3,
    seeds=2,
    record=("value", "gap"),
)


def wider(**changes) -> Sweep:
    return Sweep.from_mapping({**GRID.config(), **changes})


def test_the_table_has_one_row_for_each_run_and_recorded_step():
    table = run_sweep(GRID).to_pandas()
    assert len(table) == 2 * 2 * 2 * 3
    assert list(table.columns) == ["problem", "method", "lr", "seed", "k", "value", "gap", "reason"]
    assert not table.duplicated(["method", "lr", "seed", "k"]).any()


def test_a_batched_deterministic_group_equals_its_single_runs():
    quiet = Sweep({"quadratic": {"rows": 4, "columns": 3}}, GRID.methods, steps=5, record=("gap",))
    table = run_sweep(quiet).to_pandas()
    for label, config in quiet.methods.items():
        hyper = {k: v for k, v in config.items() if k not in ("name", "lr")}
        for lr in config["lr"]:
            method = methods.make(config["name"], lr=lr, **hyper)
            single = loop.run(problems.make("quadratic", rows=4, columns=3), method, 5)
            rows = table[(table["method"] == label) & (table["lr"] == lr)]
            np.testing.assert_allclose(rows["gap"], single["gap"], rtol=1e-12)


# Determinism


@pytest.mark.parametrize(
    "noise", [{"name": "gaussian"}, {"name": "heavy-tailed"}, {"name": "low-rank"}, {"name": "minibatch", "size": 4}]
)
def test_every_chunking_gives_the_same_bits(noise):
    name = "least-squares" if noise["name"] == "minibatch" else "quadratic"
    problem = {"name": name, "rows": 5, "columns": 3, "noise": noise}
    rates = {"muon": {"lr": [0.01, 0.1, 1.0]}, "adam": {"lr": [0.01, 0.1]}}
    grid = Sweep({"p": problem}, rates, steps=12, seeds=[4, 1, 2])
    whole = run_sweep(grid).table
    assert whole["loss"].nunique() > 100
    for chunk in (1, 2, 5):
        assert run_sweep(grid, chunk=chunk).table.equals(whole)


def test_a_batch_beyond_the_size_at_which_numpy_works_in_place_gives_the_bits_of_its_runs(monkeypatch):
    """13 rates x 5 seeds of 64 x 10 numbers are 325 KiB; as one batch this method sums in another order."""
    problem = {"name": "digits", "samples": 60, "noise": {"name": "minibatch", "size": 16}}
    method, rest = {"name": "aro-sign-polar"}, (12, 4, ["value"], "start")
    rates = [float(x) for x in np.logspace(-3, 1, 13)]
    batch = run_chunk(problem, method, rates, range(5), *rest).records["value"]
    alone = run_chunk(problem, method, rates[9:10], [1], *rest).records["value"]
    np.testing.assert_array_equal(alone[:, 0, 0], batch[:, 9, 1])
    monkeypatch.setattr("orthotheory.sweep.execute.IN_PLACE", 2**30)
    whole = run_chunk(problem, method, rates, range(5), *rest).records["value"]
    assert (whole != batch).any() or sys.platform != "linux"  # the control; elsewhere NumPy has no such temporaries


@pytest.mark.parametrize("name", methods.names())
def test_a_run_alone_gives_the_bits_of_the_run_in_a_batch(name):
    method = {"name": name}
    problem = {"name": "quadratic", "rows": 6, "columns": 4, "noise": {"name": "gaussian", "sigma": 0.1}}
    batch = run_chunk(problem, method, [0.01, 0.1, 0.3], [0, 1], 8, 2, ["value"], "generic", engine="reference")
    for i, lr in enumerate([0.01, 0.1, 0.3]):
        alone = run_chunk(problem, method, [lr], [1], 8, 2, ["value"], "generic", engine="reference")
        np.testing.assert_array_equal(alone.records["value"][:, 0, 0], batch.records["value"][:, i, 1])


def test_two_workers_give_the_bits_of_one(tmp_path):
    assert run_sweep(GRID, tmp_path, jobs=2, chunk=1).table.equals(run_sweep(GRID).table)


def test_the_rates_share_the_noise_of_a_seed_and_seeds_differ():
    chunk = run_chunk(NOISY, {"name": "gd"}, [1e-9, 2e-9], [0, 1], 1, 1, ["gap"], "generic")
    assert chunk.records["gap"][0, 0, 0] == chunk.records["gap"][0, 1, 0] != chunk.records["gap"][0, 0, 1]


# Parts


def test_a_finished_part_is_never_computed_again(tmp_path, monkeypatch):
    first = run_sweep(GRID, tmp_path)
    monkeypatch.setattr(scheduler, "run_chunk", lambda *a, **k: pytest.fail("computed again"))
    assert run_sweep(GRID, tmp_path).table.equals(first.table)
    assert Results.read(tmp_path).table.equals(first.table)


@pytest.mark.parametrize(
    ("change", "new"),
    [
        ({"seeds": 3}, {(lr, 2) for lr in (0.1, 1.0, 0.05, 0.01)}),
        ({"methods": {**GRID.methods, "Sign": {"name": "sign", "lr": 0.01}}}, {(0.01, 0), (0.01, 1)}),
        ({"methods": {"GD": {"name": "gd", "lr": [0.1, 0.5, 1.0]}}}, {(0.5, 0), (0.5, 1)}),
        ({"methods": {"renamed": {"name": "gd", "lr": 0.1}}}, set()),
    ],
    ids=["a seed", "a method", "a rate", "a label"],
)
def test_a_new_value_of_the_grid_computes_only_what_is_new(tmp_path, change, new):
    run_sweep(GRID, tmp_path)
    grid = wider(**change)
    todo = plan(grid, Store(tmp_path).parts())
    assert {(lr, seed) for work in todo for lr in work.lrs for seed in work.seeds} == new
    assert run_sweep(grid, tmp_path).table.equals(run_sweep(grid).table)


def test_other_steps_compute_everything_anew(tmp_path):
    run_sweep(GRID, tmp_path)
    assert sum(w.runs for w in plan(wider(steps=7), Store(tmp_path).parts())) == GRID.runs


def test_a_part_says_what_it_came_from(tmp_path):
    run_sweep(GRID, tmp_path)
    part = next(iter(Store(tmp_path).parts().values()))[0]
    assert part.manifest["problem"]["noise"] == NOISY["noise"]
    assert {"method", "lrs", "seeds", "engine", "seconds", "machine"} <= set(part.manifest)
    sealed = json.loads((tmp_path / "sweep.json").read_text())
    assert (sealed["finished"], sealed["hash"]) == (GRID.runs, GRID.digest)


# The schema


def test_python_and_toml_and_flags_give_one_sweep(tmp_path):
    file = tmp_path / "grid.toml"
    file.write_text(
        'steps = 6\nevery = 3\nseeds = 2\nrecord = ["value", "gap"]\n[problems.noisy]\nname = "quadratic"\nrows = 4\n'
        'columns = 3\nstart = "generic"\nnoise = { name = "gaussian", sigma = 0.01 }\n[methods.GD]\nname = "gd"\n'
        'lr = [0.1, 1.0]\n[methods.Muon]\nname = "muon"\nlr = [0.05, 0.01]\nnesterov = false\n'
    )
    assert Sweep.read(file).digest == GRID.digest
    assert Sweep.read(file, ["steps=7"]).steps == 7
    ranged = Sweep.read(file, ["methods.GD.lr={from=0.1,to=1.0,per_decade=1}"])
    assert ranged.groups() == GRID.groups()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"stepps": 3}, "did you mean 'steps'"),
        ({"record": ["vale"]}, "did you mean 'value'"),
        ({"record": ["iterate"]}, "is an array"),
        ({"problems": {"quadratc": {}}}, "did you mean 'quadratic'"),
        ({"problems": {"quadratic": {"row": 3}}}, "did you mean 'rows'"),
        ({"problems": {"quadratic": {"noise": {"name": "gaussian", "sigm": 1}}}}, "did you mean 'sigma'"),
        ({"problems": {"quadratic": {"start": "genric"}}}, "did you mean 'generic'"),
        ({"methods": {"muon": {"lr": 0.1, "weight_decy": 0.1}}}, "did you mean 'weight_decay'"),
        ({"methods": {"muon": {"lr": {"from": 0.1, "to": 1.0, "per_decad": 3}}}}, "did you mean 'per_decade'"),
        ({"methods": {"muon": {"lr": [0.1, 0.1]}}}, "names a rate twice"),
        ({"methods": {"muon": {"lr": [-0.1]}}}, "positive"),
        ({"seeds": 0}, "seeds"),
        ({"seeds": [1, 1]}, "different"),
        ({"steps": 2.5}, "whole number"),
        ({"methods": {}}, "at least one"),
        ({"methods": {"muon": {"lr": 0.1, "not_onn": ["noisy"]}}}, "did you mean 'not_on'"),
        ({"methods": {"muon": {"lr": 0.1, "on": ["nosy"]}}}, "did you mean 'noisy'"),
        ({"methods": {"muon": {"lr": 0.1, "on": "noisy"}}}, "is a list of problems"),
        ({"methods": {"muon": {"lr": 0.1, "not_on": ["noisy"]}}}, "no problem to run on"),
        ({"problems": {"quadratic": {"start": [[1.0], [2.0, 3.0]]}}}, "a matrix of finite numbers"),
    ],
)
def test_a_wrong_grid_is_refused_with_what_is_right(change, message):
    with pytest.raises((UnknownName, ValueError), match=message):
        wider(**change)


def test_a_list_is_a_grid_and_each_point_a_method(tmp_path):
    grid = wider(methods={"muon": {"lr": [0.01, 0.1], "momentum": [0.0, 0.9]}})
    table = run_sweep(grid).to_pandas()
    assert list(dict.fromkeys(table["method"])) == ["muon momentum=0.0", "muon momentum=0.9"]
    assert set(table["momentum"]) == {0.0, 0.9}
    assert grid.runs == 8


def test_a_method_runs_on_the_problems_that_on_and_not_on_leave_it(tmp_path):
    file = tmp_path / "grid.toml"
    file.write_text(
        'steps = 3\n[problems.a]\nname = "quadratic"\n[problems.b]\nname = "quadratic"\nseed = 1\n'
        '[methods.gd]\nlr = 1.0\n[methods.muon]\nlr = 0.1\nnot_on = ["b"]\n[methods.sign]\nlr = 0.1\non = ["b"]\n'
    )
    grid = Sweep.read(file)
    pairs = [(g.problem, g.method) for g in grid.groups()]
    assert pairs == [("a", "gd"), ("a", "muon"), ("b", "gd"), ("b", "sign")]
    assert [g[:2] for g in Sweep.read(file, ['methods.muon.not_on=["a"]']).groups()][-2:] == [
        ("b", "muon"),
        ("b", "sign"),
    ]
    quadratic = {"a": {"name": "quadratic"}, "b": {"name": "quadratic", "seed": 1}}
    runs = {"gd": {"lr": 1.0}, "muon": {"lr": 0.1, "not_on": ["b"]}, "sign": {"lr": 0.1, "on": ["b"]}}
    assert Sweep(quadratic, runs, steps=3).digest == grid.digest == Sweep.from_mapping(grid.config()).digest
    assert "not_on" not in grid.groups()[1].method_config  # what is computed does not depend on where else


def test_first_weights_may_be_numbers():
    first = np.arange(12.0).reshape(4, 3)
    grid = Sweep({"quadratic": {"rows": 4, "columns": 3, "start": first}}, {"gd": {"lr": 0.1}}, steps=2, seeds=2)
    problem = problems.make("quadratic", rows=4, columns=3)
    trace = loop.run(problem, methods.make("gd", lr=0.1), 2, start=first)
    for _, run in run_sweep(grid).table.groupby("seed"):
        np.testing.assert_allclose(run["loss"], trace["gap"], rtol=1e-12)
    wrong = Sweep({"quadratic": {"rows": 3, "columns": 4, "start": first}}, {"gd": {"lr": 0.1}}, steps=2)
    assert "one matrix (4, 3); the problem needs [(3, 4)]" in run_sweep(wrong).diverged()["reason"].item()


def test_a_run_of_a_sweep_is_a_trace_that_a_theorem_takes():
    from orthotheory import theory

    problem = {"rows": 4, "columns": 3, "alignment": "generic"}
    record = ("value", "gap", "gradient_norm", "step_norm")
    rates = {"trust-region": {"norm": "spectral", "lr": [0.05, 0.1]}, "gd": {"lr": 1e6}}
    results = run_sweep(Sweep({"quadratic": problem}, rates, steps=200, record=record))
    trace = results.trace("quadratic", "trust-region", lr=0.1)
    direct = loop.run(
        problems.make("quadratic", **problem), methods.make("trust-region", norm="spectral", lr=0.1), 200, record=record
    )
    for name in record:
        np.testing.assert_allclose(trace[name], direct[name], rtol=1e-9)
    assert theory.check(theory.get("trust-region-nonconvex"), trace).holds
    lost = results.trace("quadratic", "gd")
    assert lost.stopped_by == f"non-finite at step {lost.non_finite_at}"
    assert len(lost.k) == lost.non_finite_at  # the records before it
    with pytest.raises(ValueError, match="names 2 runs"):
        results.trace("quadratic", "trust-region")
    with pytest.raises(ValueError, match="names 0 runs"):
        results.trace("quadratic", "muon")


def test_ranges_share_their_points():
    assert set(decades(0.1, 10.0, 3)) < set(decades(0.01, 10.0, 3))
    with pytest.raises(ValueError, match="powers"):
        decades(0.15, 1.0, 3)


# Answers


def test_the_best_rate_is_found_a_diverged_one_never_wins_and_an_edge_is_flagged():
    grids = {"gd": {"lr": [0.01, 1.0, 1e6]}, "sign": {"lr": [1e-4, 1e-3]}}
    results = run_sweep(Sweep({"quadratic": {}}, grids, steps=300, every=300))
    best = results.best_rates().set_index("method")
    assert best.loc["gd", "lr"] == 1.0
    assert not best.loc["gd", "at edge"]
    assert best.loc["sign", "at edge"]
    lost = results.diverged()
    assert lost["lr"].tolist() == [1e6]
    assert lost["reason"].str.fullmatch(r"non-finite at step \d+").all()


def test_a_run_that_raises_loses_nothing_for_the_others(monkeypatch):
    def fail_above(self, w, grad, state):
        if np.any(np.asarray(self.lr) > 5):
            raise np.linalg.LinAlgError("no factorization")
        return w - self.lr * grad, state

    grid = Sweep({"quadratic": {"rows": 4, "columns": 3}}, {"gd": {"lr": [0.1, 10.0]}}, steps=3)
    whole = run_sweep(grid).table
    monkeypatch.setattr(methods.GradientDescent, "update", fail_above)
    table = run_sweep(grid).table
    assert set(table.loc[table["lr"] == 10.0, "reason"]) == {"LinAlgError: no factorization"}
    np.testing.assert_allclose(table.loc[table["lr"] == 0.1, "loss"], whole.loc[whole["lr"] == 0.1, "loss"])


def test_the_time_to_a_target_is_that_of_the_last_stay():
    k = np.arange(5)
    assert steps_to(np.array([1, 0.05, 0.5, 0.05, 0.05]), 0.1, k) == 3
    assert steps_to(np.array([1, 0.05, 0.05, 0.05, np.nan]), 0.1, k) == np.inf
    results = run_sweep(Sweep({"quadratic": {"target": 1e-2}}, {"gd": {"lr": [1e-6, 1.0]}}, steps=200))
    steps = results.time_to_target().set_index("lr")["steps"]
    assert steps[1e-6] == np.inf
    assert 0 < steps[1.0] < 200


def test_the_bootstrap_interval_of_the_median_covers_it():
    """Over 400 samples of 20 normal values the 95% interval covers 0 at least 90% of the time."""
    rng = np.random.default_rng(0)
    ends = np.array([median_interval(rng.standard_normal(20)) for _ in range(400)])
    assert 0.90 <= np.mean((ends[:, 0] <= 0) & (ends[:, 1] >= 0)) <= 0.99


def test_the_dataset_and_the_exports_hold_the_table(tmp_path):
    import pandas
    import xarray

    results = run_sweep(GRID)
    data = results.to_xarray()
    one = results.table.iloc[-1]
    # a dictionary: `method` is also the name of an argument of sel
    picked = data["gap"].sel({name: one[name] for name in ("problem", "method", "lr", "seed", "k")})
    assert float(picked) == one["gap"]
    with xarray.open_dataset(results.export(tmp_path / "t.nc"), engine="scipy") as back:
        np.testing.assert_array_equal(back["gap"].values, data["gap"].values)
    read = pandas.read_csv(results.export(tmp_path / "t.csv"))
    np.testing.assert_allclose(read["gap"], results.table["gap"], rtol=1e-15)
    with pytest.raises(ValueError, match="csv"):
        results.export(tmp_path / "t.pickle")


# The command


def test_the_example_is_counted_run_resumed_plotted_and_exported(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    file = str(ROOT / "figures" / "sweeps" / "example.toml")
    tomllib.loads(Path(file).read_text())
    assert cli.command(["sweep", file, "--set", "steps=10", "seeds=2", "--dry-run"]) == 0
    assert "80 runs, 80 of them missing" in capsys.readouterr().out
    assert not (tmp_path / "runs").exists()
    assert cli.command(["sweep", file, "--set", "steps=10", "seeds=2", "--jobs", "1"]) == 0
    assert cli.command(["sweep", "--resume", "--out", "runs/example", "--dry-run"]) == 0
    assert "80 runs, 0 of them missing" in capsys.readouterr().out
    assert cli.command(["results", "runs/example", "--plot", "--export", "netcdf"]) == 0
    assert {p.name for p in Path("runs/example").glob("*.p*g")} == {"sweep.png"}
    assert Path("runs/example/results.nc").is_file()
    assert cli.command(["results"]) == 0
    assert "80 of 80 runs" in capsys.readouterr().out
    assert cli.command(["sweep", "--resume", "--out", "nowhere"]) == 2
    assert "nothing to resume" in capsys.readouterr().err
    assert cli.command(["results", "nowhere"]) == 2
    assert "There is no sweep in nowhere" in capsys.readouterr().err
    assert cli.command(["sweep", "nowhere.toml"]) == 2
    assert "There is no file nowhere.toml" in capsys.readouterr().err


def test_parts_of_other_sources_are_kept_counted_and_said(tmp_path, capsys, monkeypatch):
    assert run_sweep(GRID, tmp_path).older == 0
    monkeypatch.setattr("orthotheory.sweep.store.code", lambda: "changed")
    assert run_sweep(wider(seeds=3), tmp_path).older == 2
    assert cli.command(["results", str(tmp_path)]) == 0
    assert "2 parts are of an older state of the package" in capsys.readouterr().out


def test_seeds_that_change_nothing_are_said(tmp_path, capsys):
    (tmp_path / "grid.toml").write_text(
        "steps = 3\nseeds = 2\n[methods.gd]\nlr = 0.1\n"
        '[problems.quadratic]\n[problems.noisy]\nname = "quadratic"\nnoise = {name = "gaussian"}\n'
    )
    assert cli.command(["sweep", str(tmp_path / "grid.toml"), "--out", str(tmp_path / "out"), "--jobs", "1"]) == 0
    said = capsys.readouterr().out
    assert "quadratic: every seed gave the same run" in said
    assert "noisy: every seed" not in said


def test_the_compiled_engine_gives_the_numbers_of_the_reference_to_rounding():
    pytest.importorskip("numba", reason="the extra fast is not installed")
    problem = {"name": "quadratic", "rows": 6, "columns": 4, "noise": {"name": "gaussian", "sigma": 0.1}}
    setup = ({"name": "muon"}, [0.01, 0.1], [0, 1, 2], 50, 10, ["value", "gap"])
    mine, theirs = (run_chunk(problem, *setup, engine=engine) for engine in ("compiled", "reference"))
    assert (mine.engine, theirs.engine) == ("compiled", "reference")
    for name in ("value", "gap"):
        np.testing.assert_allclose(mine.records[name], theirs.records[name], rtol=1e-10)  # 50 steps, 500 eps each


def test_the_compiled_engine_says_what_it_does_not_serve():
    pytest.importorskip("numba", reason="the extra fast is not installed")
    with pytest.raises(ValueError, match="does not serve this: NorMuon"):
        run_chunk({"name": "quadratic"}, {"name": "normuon"}, [0.01], [0], 5, 1, ["value"], engine="compiled")


def test_a_rate_that_a_method_refuses_is_a_reason_and_the_other_rates_run():
    setup = ([0.1, 10.0], [0, 1], 5, 5, ["value"])
    done = run_chunk({"name": "quadratic"}, {"name": "scion"}, *setup)
    assert np.isfinite(done.records["value"][:, 0]).all()
    assert np.isnan(done.records["value"][:, 1]).all()
    assert all("at most 1 where constrained" in reason for reason in done.reasons[1])
