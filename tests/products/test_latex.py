"""The PDF is built or refused: what LaTeX only warns of, and a reader would miss, stops it too."""

from __future__ import annotations

import pytest

from orthotheory.latex import LatexError, build_pdf, engine_found

pytestmark = pytest.mark.skipif(not engine_found(), reason="no TeX engine here")
WHOLE = "A reference to Section~\\ref{sec:one}."


def build(folder, body: str):
    """Build a paper of one section."""
    paper, generated, figures = folder / "paper", folder / "generated", folder / "figures"
    for part in (paper / "sections", generated, figures):
        part.mkdir(parents=True)
    text = f"\\documentclass{{article}}\\begin{{document}}\\section{{One}}\\label{{sec:one}}{body}\\end{{document}}"
    (paper / "main.tex").write_text(text)
    (paper / "references.bib").write_text("")
    build_pdf(paper, generated, figures, folder / "build", folder / "main.pdf")
    return folder / "main.pdf"


def test_a_whole_paper_is_built(tmp_path):
    assert build(tmp_path, WHOLE).read_bytes().startswith(b"%PDF")


@pytest.mark.parametrize(
    ("body", "complaint"),
    [
        ("Section~\\ref{sec:two}.", "undefined references"),
        ("\\begin{table}[t]\\rule{1pt}{900pt}\\end{table}", "Float too large"),
        ("\\undefinedmacro", "LaTeX stopped"),
    ],
)
def test_what_a_reader_would_miss_stops_the_build(tmp_path, body, complaint):
    with pytest.raises(LatexError, match=complaint):
        build(tmp_path, body)
    assert not (tmp_path / "main.pdf").exists()
