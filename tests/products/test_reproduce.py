"""The chain: only what is out of date runs, damage is repaired, nothing is lost, numbers come from the ledger."""

from __future__ import annotations

import functools
import re
import shutil
from pathlib import Path

import numpy as np
import pytest

from orthotheory import reproduce as chain
from orthotheory import theory
from orthotheory.plotting import Figure, render
from orthotheory.reproduce import Layout, ReproduceError, find_root, load_figures, read_data, reproduce
from orthotheory.storage import DamagedFile, read_json
from orthotheory.typeset import typeset
from orthotheory.typeset.cells import escape, number, source
from orthotheory.typeset.orthogonalization import (
    COMPARED,
    DIVERGED,
    benchmark_table,
    cheapest_cost,
    plan_numbers,
    plan_table,
    precision_table,
    quintic_numbers,
    race_numbers,
    read_races,
    schedule_table,
)

ROOT = Path(__file__).parents[2]

TINY_FIGURE = """
import numpy as np
from orthotheory.plotting import Figure
FIGURE = Figure("tiny", r"A \\result{tiny}{mean}.", ("exact-accounting",), lambda size: {"y": np.arange(5.0)},
                lambda data, fig: fig.subplots().plot(data["y"]), (2, 1), lambda data: {"mean": data["y"].mean()})
"""


@pytest.fixture
def checkout(tmp_path, monkeypatch):
    """A checkout with one tiny figure, one theorem and no claims, so that the whole chain takes a second."""
    (tmp_path / "figures").mkdir()
    (tmp_path / "figures" / "tiny.py").write_text(TINY_FIGURE)
    shutil.copytree(ROOT / "paper", tmp_path / "paper", ignore=shutil.ignore_patterns("generated", "main.pdf"))
    keep = {"newton-schulz-factor": theory.get("newton-schulz-factor")}
    monkeypatch.setattr(theory, "TABLE", keep)
    from orthotheory import claims

    monkeypatch.setattr(claims, "TABLE", {})
    return tmp_path


def run(root, **options):
    return reproduce(root, "smoke", jobs=1, pdf=False, **options)


ALL = ["theorem newton-schulz-factor", "data tiny", "figure tiny", "tables and numbers"]


def test_the_first_run_does_everything_and_the_second_nothing(checkout):
    assert sorted(run(checkout).ran) == sorted(ALL)
    again = run(checkout)
    assert again.ran == []
    assert sorted(again.kept) == sorted(ALL)


def test_force_runs_everything_again(checkout):
    run(checkout)
    assert sorted(run(checkout, force=True).ran) == sorted(ALL)


def test_a_changed_figure_file_reruns_what_depends_on_it_and_nothing_else(checkout):
    run(checkout)
    path = checkout / "figures" / "tiny.py"
    path.write_text(path.read_text().replace("arange(5.0)", "arange(6.0)"))
    assert sorted(run(checkout).ran) == ["data tiny", "figure tiny", "tables and numbers"]


@pytest.mark.parametrize("victim", ["data/tiny.npz", "theorems/newton-schulz-factor.json", "figures/tiny.pdf"])
@pytest.mark.parametrize("damage", ["cut off", "deleted"])
def test_a_damaged_output_is_made_again(checkout, victim, damage):
    run(checkout)
    path = checkout / "results" / "smoke" / victim
    whole = path.read_bytes()
    path.unlink() if damage == "deleted" else path.write_bytes(whole[: len(whole) // 2])
    assert run(checkout).ran
    assert path.stat().st_size == len(whole)
    assert run(checkout).ran == []


def test_a_half_written_manifest_costs_a_rerun_and_no_error(checkout):
    run(checkout)
    manifest = checkout / "results" / "smoke" / "manifest.json"
    manifest.write_text(manifest.read_text()[:50])
    assert sorted(run(checkout).ran) == sorted(ALL)


def test_a_failing_task_is_named_and_what_finished_is_kept(checkout):
    (checkout / "figures" / "bad.py").write_text(
        TINY_FIGURE.replace('"tiny"', '"bad"').replace('{"y": np.arange(5.0)}', '{"y": 1 / 0}')
    )
    with pytest.raises(ReproduceError, match=r"(?s)what finished is kept.*data bad: ZeroDivisionError"):
        run(checkout)
    done = read_json(checkout / "results" / "smoke" / "manifest.json")["tasks"]
    assert set(done) == {"theorem newton-schulz-factor", "data tiny"}
    (checkout / "figures" / "bad.py").unlink()
    assert sorted(run(checkout).ran) == ["figure tiny", "tables and numbers"]


def test_the_smoke_size_leaves_the_committed_places_alone(checkout):
    run(checkout)
    assert not (checkout / "figures" / "out").exists()
    assert not (checkout / "paper" / "generated").exists()


def test_without_a_tex_engine_one_line_says_what_to_install(checkout, monkeypatch):
    monkeypatch.setattr(chain, "engine_found", lambda: False)
    remarks = reproduce(checkout, "smoke", jobs=1).remarks
    assert len(remarks) == 1
    assert "apt-get install" in remarks[0]
    assert "\n" not in remarks[0]


def test_a_file_in_figures_without_a_figure_is_named(checkout):
    (checkout / "figures" / "empty.py").write_text("x = 1\n")
    with pytest.raises(ReproduceError, match=r"empty\.py must define FIGURE"):
        run(checkout)


def test_a_figure_may_draw_the_data_of_another_and_bring_a_table(checkout):
    (checkout / "figures" / "second.py").write_text(
        TINY_FIGURE.replace('"tiny", r"A', '"second", r"A').replace('lambda size: {"y": np.arange(5.0)}', '"tiny"')
        .replace('data["y"].mean()})', 'data["y"].mean()}, lambda data: f"sum {data[\'y\'].sum()}")')
    )  # fmt: skip
    done = sorted(run(checkout).ran)
    assert done == sorted([*ALL, "figure second"])
    assert "sum 10.0" in (checkout / "results" / "smoke" / "generated" / "second.tex").read_text()
    (checkout / "figures" / "tiny.py").unlink()
    with pytest.raises(ReproduceError, match="second draws the data of 'tiny', which has none"):
        run(checkout)


def test_the_root_is_found_from_below_and_missed_elsewhere(checkout, tmp_path_factory):
    assert find_root(checkout / "figures") == checkout
    with pytest.raises(ReproduceError, match="No checkout"):
        find_root(tmp_path_factory.mktemp("elsewhere"))


def test_stored_data_is_read_without_executing_what_it_contains(tmp_path):
    path = tmp_path / "x.npz"
    np.savez(path, x=np.array([{"a": 1}], dtype=object), allow_pickle=True)
    with pytest.raises(DamagedFile):
        read_data(path)


FIGURES = load_figures(ROOT)


@functools.cache
def smoke_data(name):
    return {key: np.asarray(value) for key, value in FIGURES[name][0].data("smoke").items()}


@pytest.mark.parametrize("name", FIGURES)
def test_a_paper_figure_draws_the_same_bytes_twice_and_says_what_it_shows(name, tmp_path):
    from orthotheory import claims

    figure, _ = FIGURES[name]
    data = smoke_data(figure.data_name)
    first, second = (render(figure, data, tmp_path / x) for x in "ab")
    for one, two in zip(first, second, strict=True):
        assert one.read_bytes() == two.read_bytes()
        assert one.stat().st_size > 2000
    assert set(figure.shows) <= set(theory.names()) | set(claims.names())
    assert all(isinstance(v, str) or np.isfinite(v) for v in figure.numbers(data).values())


@pytest.mark.parametrize("name", FIGURES)
def test_a_committed_figure_exists(name):
    assert all((Layout(ROOT, "paper").figures / f"{name}.{kind}").is_file() for kind in ("pdf", "png"))


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (12, "12"),
        (12.0, "12"),
        (-3, r"\ensuremath{-3}"),
        (1.20244, "1.20"),
        (0.0123456, "0.0123"),
        (2.4e-16, r"\ensuremath{2.4\times10^{-16}}"),
        (1.5e7, r"\ensuremath{1.5\times10^{7}}"),
        (-1.234, r"\ensuremath{-1.23}"),
        (float("inf"), r"\ensuremath{\infty}"),
        ("a_b", r"a\_b"),
    ],
)
def test_numbers_are_typeset(value, text):
    assert number(value) == text


def test_text_is_escaped_and_keys_become_citations():
    assert escape("50% of_x & y #1") == r"50\% of\_x \& y \#1"
    assert escape("see [higham2008functions]") == r"see \citet{higham2008functions}"
    assert source("maity2025auon, versions 1 and 2") == r"\citet{maity2025auon}, versions 1 and 2"


def test_the_facts_about_the_quintic_that_the_paper_quotes():
    """By evaluation on a fine grid, independently of critical points."""
    facts = {key: float(value) for (_, key), value in quintic_numbers().items()}
    x = np.linspace(0, 1.25, 1_250_001)
    p = 3.4445 * x - 4.7750 * x**3 + 2.0315 * x**5
    rising, falling = x < 0.8, x > 0.8
    peak, dip = x[rising][np.argmax(p[rising])], x[falling][np.argmin(p[falling])]
    expected = {
        "peak at": peak,
        "peak": p[rising].max(),
        "dip at": dip,
        "dip": p[falling].min(),
        "largest": p[x <= 1].max(),
    }
    assert expected == pytest.approx({key: facts[key] for key in expected}, abs=6e-5)  # four printed digits
    assert facts["at one"] == pytest.approx(3.4445 - 4.7750 + 2.0315, abs=6e-5)


def test_every_number_of_a_ledger_row_reaches_the_paper(tmp_path):
    figure = Figure("f", "caption", (), lambda size: {}, lambda d, f: None, (1, 1), lambda d: {"n": 3.0})
    rows = [theory.ledger_row(theory.get("newton-schulz-factor"))]
    claim = {
        "label": "c", "source": "ours", "statement": "S.", "verdict": "holds", "measured": 0.25, "expected": "1",
        "evidence": {"deep": 7}, "control": {"subject": "x", "verdict": "refuted", "measured": 2.0, "fails": True},
    }  # fmt: skip
    typeset(tmp_path, rows, [claim], {"f": (figure, {})})
    numbers = (tmp_path / "numbers.tex").read_text()
    for key, value in (("c@measured", "0.250"), ("c@deep", "7"), ("f@n", "3"), ("newton-schulz-factor@cases", "2")):
        assert f"result@{key}\\endcsname{{{value}}}" in numbers


def test_every_row_of_the_ledgers_and_every_card_of_surgery_stands_in_one_table(tmp_path):
    from orthotheory import claims, surgery
    from orthotheory.surgery import rules

    control = {"subject": "x", "verdict": "refuted", "measured": 2.0, "fails": True, "mistake": "m"}
    common = {"source": "ours", "verdict": "holds", "measured": 0.25, "control": control}
    theorems = [
        {"label": n, "kind": "upper", "bound": 1.0, "tightness": 0.5, "cases": 2, **common} for n in theory.names()
    ]
    judged = [{"label": n, "statement": "S.", "expected": "1", "evidence": {}, **common} for n in claims.names()]
    typeset(tmp_path, theorems, judged, {})
    for kind, names in (("theorems", theory.names()), ("claims", claims.names())):
        text = (tmp_path / f"{kind}.tex").read_text() + (tmp_path / f"surgery_{kind}.tex").read_text()
        assert [text.count(f"\\texttt{{{name}}}") for name in names] == [1] * len(names)
        assert "upgrad" in (tmp_path / f"surgery_{kind}.tex").read_text()
    for table, names in (("aggregators", surgery.names()), ("rules", rules.names())):
        text = (tmp_path / f"{table}.tex").read_text()
        assert all(text.count(f"\\texttt{{{name}}}") == 1 for name in names)


def test_every_citation_of_cards_and_ledgers_is_in_the_bibliography():
    from orthotheory import claims, methods

    known = set(re.findall(r"@\w+\{([^,]+),", (ROOT / "paper" / "references.bib").read_text()))
    texts = [entry.method.card.source for entry in methods.TABLE.values()]
    texts += [c.source for c in claims.TABLE.values()] + [t.source for t in theory.TABLE.values()]
    for path in (ROOT / "orthotheory").rglob("*.py"):
        texts += re.findall(r"\[([a-z]+(?:19|20)\d\d[a-z]+)\]", path.read_text())
    cited = {key for text in texts for key in re.findall(r"\b[a-z]+(?:19|20)\d\d[a-z]+\b", text)}
    assert cited <= known, cited - known


def rows_of(table):
    return [line.removesuffix("\\\\").split(" & ") for line in table.splitlines() if line.endswith("\\\\")]


def test_the_table_of_schedules_has_a_row_for_each_and_names_the_unsafe_ones():
    body = {row[0]: row for row in rows_of(schedule_table())[1:]}
    assert len(body) == len(COMPARED) + 2
    assert {name for name, row in body.items() if "(error)" in row[-1]} == {"emerging-aol", "root-2048x2048"}
    # by a grid, independently of the exact images
    from orthotheory.polar import SCHEDULES

    s = np.geomspace(1e-2, 1, 200_001)
    for name in ("you-6", "cubic-5", "deepseek-v4"):
        error = np.abs(1 - SCHEDULES[name].singular_value_map(s)).max()
        printed = re.sub(r"\\ensuremath|[{}]", "", body[name][5]).replace(r"\times10^", "e")
        assert float(printed) == pytest.approx(error, rel=0.05)


def test_the_table_of_plans_states_what_the_planner_says_and_no_cost_below_the_bound():
    from orthotheory.polar import plan_for

    _, *body = rows_of(plan_table())[1:]
    assert len(body) == 8
    for row in body:
        polynomial, bound = [float(x) for x in row[2:11]], float(row[12])
        assert min(polynomial) >= bound
        assert 1.0 < min(polynomial) / bound < 1.6
    for shape, line in (((8, 8), body[2]), ((8, 32), body[6])):  # quintics overshoot 1e-4: rounding changes nothing
        assert plan_for(shape, accuracy=1e-4, families=["quintic"]).cost == float(line[8])
    assert cheapest_cost(1e-2, 1, "quintic") == (12.0, "5 5 5 5 5 5")
    assert plan_numbers()["plans", "most percent saved 4"] == 67  # reference, section 8


def test_the_table_of_precisions_says_how_many_draws_diverged():
    data = {"floors methods": np.array(["floor", "unsafe"]), "floors draws": np.array(5)}
    for dtype in ("float32", "float16", "bfloat16"):
        data[f"floors {dtype}"] = np.array([[[1e-3, 0], [np.inf, 4]], [[2e-3, 0], [DIVERGED / 4, 1]]])
    first, second, *_ = rows_of(precision_table(data))[1:]
    assert first[2:] == ["0.0010", "-- (4 of 5 diverged) "]
    assert second[3].startswith("2.5 (1 of 5 diverged)")


def test_the_table_of_races_shows_what_was_reached_beside_every_time_and_is_empty_without_results(tmp_path):
    from orthotheory.storage import write_json

    path = tmp_path / "races.json"
    assert benchmark_table(read_races(path)) == benchmark_table(read_races(None)) == ""
    assert race_numbers(read_races(path)) == {("races", "count"): 0.0}
    result = {"efficiency": 0.985, "error": 0.5, "orthogonality": 0.5}
    race = {
        "verdict": {
            "reached": True,
            "peer": "torch muon5",
            "peer reached": False,
            "ratio": 2.5,
            "gate": 1.3,
            "goal": 2.5,
        },
        "contestants": {"orthotheory": result | {"milliseconds": 10.0}, "torch muon5": result | {"milliseconds": 25.0}},
    }
    alone = {"verdict": {"reached": True}, "contestants": {"orthotheory": result | {"milliseconds": 1.0}}}
    labels = ("efficiency gaussian, 512 x 512, 2 threads", "error 1e-2, 512 x 512, 2 threads")
    write_json(path, {"machine": {}, "rows": dict(zip(labels, (race, alone), strict=True))})
    (row,) = rows_of(benchmark_table(read_races(path)))[2:]
    assert row[0] == r"$e\ge0.98$, gaussian"
    assert row[2:6] == ["10.0", "0.985", "torch muon5*", "2.50"]
    assert [cell.strip() for cell in row[6:]] == [""] * 4
    assert race_numbers(read_races(path))["races", "largest ratio"] == 2.5
