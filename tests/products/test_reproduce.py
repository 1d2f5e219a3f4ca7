"""The chain: only what is out of date runs, damage is repaired, nothing is lost, numbers come from the ledger."""

from __future__ import annotations

import functools
import shutil
from pathlib import Path

import numpy as np
import pytest

from orthotheory import reproduce as chain
from orthotheory import theory
from orthotheory.plotting import Figure, render
from orthotheory.reproduce import Layout, ReproduceError, find_root, load_figures, read_data, reproduce
from orthotheory.storage import DamagedFile, read_json
from orthotheory.typeset import escape, number, quintic_numbers, source, typeset

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


def test_every_citation_of_cards_and_ledgers_is_in_the_bibliography():
    import re

    from orthotheory import claims, methods

    known = set(re.findall(r"@\w+\{([^,]+),", (ROOT / "paper" / "references.bib").read_text()))
    texts = [entry.method.card.source for entry in methods.TABLE.values()]
    texts += [c.source for c in claims.TABLE.values()] + [t.source for t in theory.TABLE.values()]
    for path in (ROOT / "orthotheory").rglob("*.py"):
        texts += re.findall(r"\[([a-z]+(?:19|20)\d\d[a-z]+)\]", path.read_text())
    cited = {key for text in texts for key in re.findall(r"\b[a-z]+(?:19|20)\d\d[a-z]+\b", text)}
    assert cited <= known, cited - known
