"""The pictures of the ledgers and the page of the claims show what the rows say."""

from __future__ import annotations

import re

import numpy as np
import pytest
from matplotlib.figure import Figure

from orthotheory import theory
from orthotheory.cli import command
from orthotheory.plotting.ledger import draw_evidence, draw_sides
from orthotheory.typeset.web import write_page

ROW = {
    "label": "a-claim",
    "source": "someone2020title, version 2",
    "statement": "x < y & more",
    "verdict": "holds_if",
    "condition": "x > 0",
    "measured": -2.5,
    "expected": "a number",
    "evidence": {"runs": 3, "not reached": np.inf, "zero": 0.0},
    "control": {"subject": "another", "verdict": "refuted", "measured": 7.0, "fails": True},
}


def test_every_number_of_a_claim_stands_in_its_picture():
    fig = Figure()
    draw_evidence(ROW, fig)
    (ax,) = fig.axes
    assert [t.get_text() for t in ax.get_yticklabels()] == ["measured", "control", *ROW["evidence"]]
    assert [t.get_text() for t in ax.texts] == ["-2.5", "7", "3", "inf", "0"]
    dots = [line for line in ax.lines if line.get_marker() in ("o", "X")]
    assert [line.get_xdata()[0] for line in dots] == [-2.5, 7.0, 3.0, 0.0]


def test_the_picture_of_a_theorem_has_both_sides_and_the_control():
    theorem = theory.get("exact-accounting")
    text, case = next(iter(theorem.cases("smoke")))
    fig = Figure()
    draw_sides(theorem, case, text, fig)
    left, right, control = (line.get_ydata() for line in fig.axes[0].lines)
    np.testing.assert_allclose(left, right, rtol=1e-10)
    assert np.abs(control - left).max() > 1e-4


def test_the_page_escapes_counts_cites_and_repeats(tmp_path):
    bibliography = tmp_path / "a.bib"
    bibliography.write_text("@misc{someone2020title,\n  title = {A {Title}},\n  year = {2020}\n}\n")
    drawn = tmp_path / "figure.png"
    drawn.write_bytes(b"png")
    page = write_page(tmp_path / "page", [ROW], "smoke", bibliography=bibliography, figures={"a-claim": [drawn]})
    text = page.read_text()
    assert "x &lt; y &amp; more" in text
    assert "(A Title)" in text
    assert "Condition: x &gt; 0." in text
    assert "<code>orthotheory claims a-claim --size smoke</code>" in text
    for picture in re.findall(r"img src='([^']+)'", text):
        assert (page.parent / picture).is_file()
    assert "1 claims" in text
    assert "the check is void" not in text
    void = {**ROW, "control": {**ROW["control"], "fails": False}}
    assert "the check is void" in write_page(tmp_path / "page", [void], "smoke").read_text()


@pytest.mark.parametrize("flags", [[], ["--html"]])
def test_a_named_claim_shows_its_evidence_and_leaves_its_picture(tmp_path, capsys, flags):
    assert command(["claims", "auon-unit-ball-package", "--out", str(tmp_path), *flags]) == 0
    shown = capsys.readouterr().out
    assert (tmp_path / "auon-unit-ball-package.png").stat().st_size > 5000
    assert ("index.html" in shown) == bool(flags)
    assert ("control measured" in shown) != bool(flags)
