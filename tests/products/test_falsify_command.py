"""The command `falsify` as a user meets it, and the committed table of planted mistakes: its counterexamples replay."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from orthotheory import claims, theory
from orthotheory.storage import read_json, write_json
from orthotheory.theory.contract import Theorem
from orthotheory.theory.falsify import statements

ROOT = Path(__file__).parents[2]
STORED = ROOT / "benchmarks" / "results" / "falsify.json"


def _bowl(bound: float, **parts) -> Theorem:
    """|z| <= bound, whose fixed case lies where no search of the sample comes."""

    def sample(rng):
        z = rng.standard_normal(2)
        return f"z = {z}", z

    facts = {
        "label": "bowl", "title": "", "statement": "", "assumes": (), "kind": "upper", "lhs": lambda z: [np.hypot(*z)],
        "rhs": lambda z: [bound], "cases": lambda size: [("far", np.array([100.0, 0.0]))], "sample": sample,
        "broken": lambda t: _bowl(-1.0), "mistake": "a negative radius", "source": "ours",
    }  # fmt: skip
    return Theorem(**{**facts, **parts})


def test_a_search_stores_its_worst_case_and_the_printed_command_replays_it(cli, tmp_path):
    code, out, _ = cli("falsify", "lion-k-mix", "--budget", "20")
    assert code == 0
    assert "worst case of lion-k-mix" in out
    line = next(text for text in out.splitlines() if "--replay" in text)
    stored = read_json(tmp_path / "results" / "falsify" / "lion-k-mix.json")
    code, out, _ = cli(*line.split()[1:], "--json")
    assert code == 0
    assert json.loads(out)[0]["worst"] == stored["worst"]


def test_several_labels_of_every_kind_are_searched_in_processes(cli):
    labels = ("lion-k-mix", "sign-sharpest-cycle", "auon-reconditions")
    code, out, err = cli("falsify", *labels, "--budget", "5", "--json")
    rows = json.loads(out)
    assert code == 0  # the refuted conjecture falls, and nothing else
    assert err == ""
    assert [row["label"] for row in rows] == list(labels)
    assert [row["falsified"] for row in rows] == [False, True, False]


@pytest.mark.parametrize("wrong", ["lion-k-mx", "sharpest-cicle", "auon-recondition"])
def test_an_unknown_label_is_answered_with_the_nearest_one_and_exit_code_2(cli, wrong):
    code, out, err = cli("falsify", wrong)
    assert code == 2
    assert out == ""
    nearest = {"lion-k-mx": "lion-k-mix", "sharpest-cicle": "sharpest-cycle", "auon-recondition": "auon-reconditions"}
    assert nearest[wrong] in err


def test_help_names_the_options_and_wrong_options_exit_with_2(cli):
    code, out, _ = cli("falsify", "--help")
    assert code == 0
    for option in ("--budget", "--seconds", "--seed", "--planted", "--replay", "--out", "--jobs", "--json"):
        assert option in out
    assert cli("falsify", "--budgets", "5")[0] == 2
    assert cli("falsify", "lion-k-mix", "--budget", "0")[0] == 2


def test_a_theorem_that_falls_makes_the_command_fail(cli, monkeypatch):
    monkeypatch.setitem(theory.TABLE, "lion-k-mix", theory.get("lion-k-mix").control())
    code, out, _ = cli("falsify", "lion-k-mix", "--budget", "5")
    assert code == 1
    assert "True" in out


def test_a_missing_witness_is_named(cli):
    code, _, err = cli("falsify", "--replay", "nowhere.json")
    assert code == 1
    assert "nowhere.json" in err


def test_planted_mistakes_are_counted_stored_and_replayed(cli, tmp_path):
    code, out, _ = cli("falsify", "lion-k-mix", "--planted", "--budget", "20", "--out", "here")
    assert code == 0
    assert "caught of 1 of 1 objects" in out
    table = tmp_path / "here" / "falsify.json"
    code, out, _ = cli("falsify", "--replay", str(table), "--json")
    assert code == 0
    assert [row["falsified"] for row in json.loads(out)] == [True] * 4


def test_a_missed_mistake_is_shown_and_makes_the_command_fail(cli, monkeypatch):
    monkeypatch.setitem(theory.TABLE, "bowl", _bowl(200.0))
    code, out, _ = cli("falsify", "bowl", "--planted", "--budget", "40")
    assert code == 1
    assert "MISSED" in out
    assert "caught of 0 of 1 objects" in out


def test_a_stored_counterexample_that_is_none_makes_the_replay_fail(cli, tmp_path):
    cli("falsify", "lion-k-mix", "--planted", "--budget", "5", "--out", "here")
    stored = read_json(tmp_path / "here" / "falsify.json")
    (row,) = stored["rows"]
    row["label"], row["mutants"] = "gpm-forgetting", {"constant below what is attained": row["mutants"]["own control"]}
    row["tightness"] = 1e6  # a bound far above what is attained, which no case violates
    write_json(tmp_path / "loose.json", stored)
    assert cli("falsify", "--replay", str(tmp_path / "loose.json"))[0] == 1


def _stored_rows():
    return read_json(STORED)["rows"] if STORED.is_file() else []


def test_the_committed_table_names_what_there_is_and_nine_of_ten_objects_have_every_mistake_caught():
    rows, known = _stored_rows(), {**claims.TABLE, **statements()}
    labels = [row["label"] for row in rows]
    assert len(set(labels)) == len(labels)
    assert len(set(labels) & set(known)) >= 0.9 * len(known)
    caught = [row["caught"] for row in rows if row["label"] in known]
    assert sum(caught) >= 0.9 * len(known)
    for row in rows:  # the word is not taken for it: each mistake that counts has its counterexample
        counted = [m for m in row["mutants"].values() if m["outcome"] != "not known false"]
        assert row["caught"] == (bool(counted) and all(m["witness"] and m["outcome"] == "caught" for m in counted))


def test_counterexamples_of_the_committed_table_are_counterexamples_again(cli):
    known = statements()
    quick = [r["label"] for r in _stored_rows() if r["label"] in known and r["evaluations"] == 200]
    code, out, _ = cli("falsify", *quick[::6], "--replay", str(STORED), "--jobs", "1", "--json")
    rows = json.loads(out)
    assert code == 0
    assert len(rows) > 20
    assert all(row["falsified"] for row in rows)


def test_theorems_show_the_worst_case_of_the_stored_search(cli, monkeypatch):
    monkeypatch.chdir(ROOT)
    stored = next(row for row in _stored_rows() if row["label"] == "lion-k-mix")
    (row,) = json.loads(cli("theorems", "lion-k-mix", "--json")[1])
    assert row["searched"] == stored["worst"]
    assert "searched" in cli("theorems", "lion-k-mix")[1]


def test_a_ledger_on_two_cores_gives_the_same_rows_and_names_its_slowest_checks(cli):
    labels = ("newton-schulz-factor", "lion-k-mix")
    one, two = (json.loads(cli("theorems", *labels, "--jobs", jobs, "--json")[1]) for jobs in ("1", "2"))
    assert all(row.pop("seconds") >= 0 for row in [*one, *two])
    assert one == two
    code, out, _ = cli("theorems", *labels, "--slowest", "1")
    assert code == 0
    assert "2 checks in" in out
    assert len(out.splitlines()) == 9  # two headed tables with a line between them
