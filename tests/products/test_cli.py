"""The command line as a user meets it: outcomes, files, JSON, exit codes, and answers to mistakes."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from orthotheory import claims, methods, norms, problems, theory
from orthotheory.arrays import cuda_is_available
from orthotheory.cli import COMMANDS
from orthotheory.storage import read_table

ROOT = Path(__file__).parents[2]


def test_run_writes_a_table_a_manifest_and_a_plot(cli, tmp_path):
    code, out, _ = cli("run", "--problem", "quadratic", "--method", "muon", "--lr", "0.02", "--steps", "200")
    assert code == 0
    assert "muon on quadratic: 200 steps" in out
    (folder,) = (tmp_path / "runs").iterdir()
    assert {f.name for f in folder.iterdir()} == {"trace.parquet", "trace.json", "trace.pdf", "trace.png"}
    table, manifest = read_table(folder / "trace.parquet")
    assert len(table) == 201
    assert manifest["config"]["method"]["lr"] == 0.02
    assert table["gap"].iloc[-1] < 0.01 * table["gap"].iloc[0]


def test_run_shows_a_progress_bar_and_can_be_told_not_to(cli):
    assert "100%" in cli("run", "--steps", "20")[2]
    assert cli("run", "--steps", "20", "--no-progress")[2] == ""


def test_run_gives_json(cli):
    code, out, _ = cli("run", "--steps", "5", "--json")
    row = json.loads(out)
    assert code == 0
    assert row["verdict"] == "steps"
    assert set(row["measured"]) == {"value", "gap", "gradient_norm"}


def test_run_takes_the_options_of_the_problem_the_method_and_the_noise(cli):
    line = (
        "run --problem=least-squares --method=trust-region --norm row-max --momentum 0.5 --rows 6 "
        "--noise minibatch --noise-size 8 --steps 5 --json --out here"
    )
    code, out, _ = cli(*line.split())
    assert code == 0
    manifest = json.loads(Path(json.loads(out)["files"][1]).read_text())
    assert manifest["config"]["problem"]["rows"] == 6
    assert manifest["config"]["method"]["momentum"] == 0.5
    assert "RowMax" in manifest["config"]["method"]["norm"]
    assert "Minibatch(size=8" in manifest["config"]["noise"]


def test_run_puts_surgery_in_front_of_a_method(cli):
    line = "run --problem pareto-quadratics --method gd --lr 0.5 --surgery upgrad --steps 30 --no-progress --json"
    code, out, _ = cli(*line.split())
    row = json.loads(out)
    assert code == 0
    assert row["label"] == "upgrad-gd on pareto-quadratics"
    first, last = row["measured"]["stationarity"]
    assert last < 1e-3 * first


def test_run_leaves_the_gap_out_where_the_minimum_is_not_known(cli):
    code, out, _ = cli("run", "--problem", "fonseca", "--method", "gd", "--steps", "3", "--json")
    assert code == 0
    assert set(json.loads(out)["measured"]) == {"value", "gradient_norm"}


def test_the_same_configuration_writes_the_same_numbers(cli, tmp_path):
    cli("run", "--noise", "gaussian", "--steps", "10", "--out", "a")
    cli("run", "--noise", "gaussian", "--steps", "10", "--out", "b")
    first, second = (read_table(next((tmp_path / x).glob("*/trace.parquet")))[0] for x in "ab")
    assert first.equals(second)


def test_a_diverging_run_says_where_keeps_what_came_before_and_fails(cli, tmp_path):
    code, out, err = cli("run", "--method", "gd", "--lr", "100", "--steps", "2000", "--no-progress")
    assert code == 1
    assert "non-finite" in out
    assert "at step" in err
    assert "smaller --lr" in err
    assert list(tmp_path.glob("runs/*/trace.parquet"))


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_explains_itself(cli, name):
    code, out, _ = cli(name, "--help")
    assert code == 0
    assert "--json" in out


def test_the_overview_lists_every_command(cli):
    code, out, _ = cli("--help")
    assert code == 0
    assert all(name in out for name in COMMANDS)
    assert cli()[1] == out


@pytest.mark.parametrize(
    ("arguments", "answer"),
    [
        (["runn"], "did you mean 'run'"),
        (["run", "--method", "muonn"], "did you mean 'muon'"),
        (["run", "--problem", "quadratc"], "did you mean 'quadratic'"),
        (["run", "--noise", "gausian"], "did you mean 'gaussian'"),
        (["run", "--stepz", "3"], "--steps"),
        (["run", "--momentun", "0.5"], "--momentum"),
        (["run", "--method", "trust-region", "--norm", "spectrl"], "did you mean 'spectral'"),
        (["run", "--plan", "polar-expres"], "did you mean 'polar-express'"),
        (["run", "--problem", "squares", "--surgery", "upgrat"], "did you mean 'upgrad'"),
        (["run", "--problem", "quadratic", "--surgery", "upgrad"], "needs a problem with several objectives"),
        (["theorems", "exact-acounting"], "did you mean 'exact-accounting'"),
        (["claims", "auon-recondition"], "did you mean 'auon-reconditions'"),
        (["claims", "--jsn"], "--json"),
        (["methods", "--jsn"], "--json"),
        (["figures", "unit-bals", "--root", str(ROOT)], "did you mean 'unit-balls'"),
        (["run", "--lr", "-1"], "Muon.lr must lie in (0, inf); got -1"),
        (["run", "--lr", "nan"], "got nan"),
        (["run", "--steps", "-5"], "steps must lie in [0, inf); got -5"),
        (["run", "--left-condition", "0.5"], "condition must lie in [1, inf); got 0.5"),
        (["run", "--alignment", "sideways"], "commuting"),
        (["run", "--noise", "minibatch"], "needs a problem that is a mean over samples"),
        (["run", "--device", "tpu"], "allowed are 'cpu', 'cuda'"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_mistake_is_answered_with_the_right_way_and_exit_code_2(cli, arguments, answer):
    code, out, err = cli(*arguments)
    assert code == 2, (out, err)
    assert answer in err + out


def test_an_absent_gpu_is_refused_in_one_sentence(cli, monkeypatch):
    from orthotheory import arrays

    monkeypatch.setattr(arrays, "cuda_is_available", lambda: False)
    code, _, err = cli("run", "--device", "cuda")
    assert code == 1
    assert "needs CuPy and a CUDA GPU" in err
    assert err.count("\n") == 1


def test_an_output_folder_that_cannot_be_written_is_named_before_anything_runs(cli, tmp_path):
    (tmp_path / "file").write_text("in the way")
    code, _, err = cli("run", "--out", "file/below")
    assert code == 1
    assert "Cannot write to the folder" in err
    assert "--out" in err


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_without_permission_is_named(cli, tmp_path):
    (tmp_path / "locked").mkdir(mode=0o500)
    assert "Cannot write to the folder" in cli("run", "--out", "locked/x")[2]


@pytest.mark.parametrize(
    ("name", "labels"),
    [
        ("methods", methods.names(more=True)),
        ("norms", norms.names()),
        ("problems", problems.names()),
    ],
)
def test_a_listing_names_everything_in_text_and_json(cli, name, labels):
    text = cli(name)[1]
    rows = json.loads(cli(name, "--json")[1])
    assert [row["label"] for row in rows] == labels
    assert all(label in text for label in labels)
    assert all({"label", "source", "kind", "verdict", "measured", "expected", "control"} <= set(row) for row in rows)


@pytest.mark.parametrize(
    ("name", "label", "keys"),
    [
        ("theorems", "newton-schulz-factor", {"label", "source", "kind", "verdict", "measured", "bound", "control"}),
        ("claims", "auon-reconditions", {"label", "source", "kind", "verdict", "measured", "expected", "control"}),
    ],
)
def test_a_ledger_gives_every_field_as_json(cli, name, label, keys):
    code, out, _ = cli(name, label, "--json")
    (row,) = json.loads(out)
    assert code == 0
    assert keys <= set(row)
    assert row["control"]["fails"] is True


def test_a_ledger_prints_the_verdict_and_the_control(cli):
    code, out, _ = cli("theorems", "newton-schulz-factor")
    assert code == 0
    assert "holds" in out
    assert "fails, as it must" in out


def test_a_violated_theorem_makes_the_command_fail(cli, monkeypatch):
    broken = theory.get("newton-schulz-factor").control()
    monkeypatch.setitem(theory.TABLE, "newton-schulz-factor", broken)
    code, out, _ = cli("theorems", "newton-schulz-factor")
    assert code == 1
    assert "violated" in out


def test_a_control_that_does_not_fail_makes_the_command_fail(cli, monkeypatch):
    import dataclasses

    claim = claims.get("auon-reconditions")
    monkeypatch.setitem(claims.TABLE, claim.label, dataclasses.replace(claim, control=claim.check))
    code, out, _ = cli("claims", claim.label)
    assert code == 1
    assert "DOES NOT FAIL" in out


def test_figures_are_listed_from_the_checkout(cli):
    code, out, _ = cli("figures", "--root", str(ROOT), "--json")
    assert code == 0
    assert {row["label"] for row in json.loads(out)} == {
        "auon-conditioning", "cycle-staircase", "digits-losses", "lion-k-distance", "lion-k-lyapunov",
        "lion-k-phase-portraits", "momentum-rates", "orthogonalization-cost", "orthogonalization-efficiency",
        "orthogonalization-maps", "orthogonalization-precision", "surgery-geometry", "surgery-orthogonalized",
        "surgery-trajectories",
        "trust-region-envelope", "unit-balls", "when-muon-wins", "zoo-conditioning", "zoo-ranking", "zoo-rates",
    }  # fmt: skip


def test_the_surgery_listing_names_every_aggregator_and_every_rule_with_its_status(cli):
    from orthotheory import surgery
    from orthotheory.surgery import rules

    code, text, _ = cli("surgery")
    rows = json.loads(cli("surgery", "--json")[1])
    assert code == 0
    assert [row["label"] for row in rows] == [*surgery.names(), *rules.names()]
    assert {row["verdict"] for row in rows} <= {"exact", "secondary", "reconstructed"}
    assert all(row["label"] in text for row in rows)
    assert {"aggregator", "merging", "sequence"} <= {row["family"] for row in rows}


def test_the_property_table_has_a_counterexample_for_every_cell_that_is_not_yes(cli):
    from orthotheory import surgery
    from orthotheory.surgery.properties import PROPERTIES

    code, text, _ = cli("surgery", "--properties")
    rows = json.loads(cli("surgery", "--properties", "--json")[1])
    assert code == 0
    assert {row["name"] for row in rows} == set(surgery.names())
    assert all(row["name"] in text for row in rows)
    assert all(f"{label}: {p.statement}" in text for label, p in PROPERTIES.items())
    for row in rows:
        short = {label for label in PROPERTIES if row[label] in ("no", "full rank", "two rows")}
        assert set(row["counterexamples"]) == short
        assert all(row["counterexamples"].values())


def test_outside_a_checkout_the_figures_command_says_what_to_do(cli):
    code, _, err = cli("figures")
    assert code == 1
    assert "Run this inside a clone, or pass --root" in err


def test_the_doctor_finds_this_environment_whole(cli):
    code, out, _ = cli("doctor", "--json")
    rows = {row["label"]: row for row in json.loads(out)}
    assert code == 0
    assert rows["numpy"]["verdict"] == "works"
    assert rows["arithmetic"]["verdict"] == "works"


def test_the_doctor_of_the_gpu_says_what_is_there_and_fails_where_there_is_none(cli, monkeypatch):
    monkeypatch.setattr("orthotheory.gpu_report.compiled_without_gpu", lambda: [])
    code, out, _ = cli("doctor", "--gpu", "--json")
    rows = {row["label"]: row for row in json.loads(out)}
    assert rows["GPU"]["verdict"] == ("works" if cuda_is_available() else "absent")
    assert (code == 0) == all(row["verdict"] == "works" for row in rows.values())


def test_the_version_is_printed(cli):
    import orthotheory

    assert cli("--version")[1].strip() == f"orthotheory {orthotheory.__version__}"
