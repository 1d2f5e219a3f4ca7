"""The PDF of the paper: a build folder with sources, generated parts and figures, and latexmk in it."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

from .storage import write_atomically

TEX_HINT = (
    "No TeX engine found: the PDF was not built. On Debian: apt-get install --no-install-recommends latexmk lmodern "
    "texlive-latex-recommended texlive-fonts-recommended texlive-latex-extra texlive-science"
)
RERUN = ("Rerun to get", "Label(s) may have changed")
# A float too large for its page is cut off at its end: half a table is gone, and the build goes on.
COMPLAINTS = ("undefined references", "undefined citations", "There were undefined", "Float too large for page")
FIXED_DATE = {"SOURCE_DATE_EPOCH": "1700000000", "FORCE_SOURCE_DATE": "1"}  # the same bytes on every day


class LatexError(RuntimeError):
    """LaTeX stopped, or left a reference open; the message quotes it and names the log."""


def engine_found() -> bool:
    """Say whether latexmk and pdflatex are installed."""
    return shutil.which("latexmk") is not None and shutil.which("pdflatex") is not None


def paper_sources(paper: Path) -> list[Path]:
    """Return what people wrote: main.tex, the sections and the bibliography."""
    return sorted([paper / "main.tex", paper / "references.bib", *paper.glob("sections/*.tex")])


def build_pdf(paper: Path, generated: Path, figures: Path, build: Path, pdf: Path) -> None:
    """Build the paper in a fresh folder and put the PDF in place once it is whole."""
    shutil.rmtree(build, ignore_errors=True)
    for source in paper_sources(paper):
        target = build / source.relative_to(paper)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(source, target)
    shutil.copytree(generated, build / "generated")
    shutil.copytree(figures, build / "figures", ignore=shutil.ignore_patterns("*.png"))
    command = ["latexmk", "-pdf", "-halt-on-error", "-interaction=nonstopmode", "main.tex"]
    environment = {**os.environ, **FIXED_DATE}
    done = subprocess.run(command, cwd=build, env=environment, capture_output=True, text=True, errors="replace")
    log = build / "main.log"
    text = log.read_text(errors="replace") if log.exists() else done.stdout
    if done.returncode != 0:
        lines = [line for line in text.splitlines() if line.startswith("!") or "Error" in line]
        raise LatexError(f"LaTeX stopped: {'; '.join(lines[:3]) or done.stderr[-300:]} (log: {log})")
    for _ in range(3):  # latexmk can miss a change of the auxiliary file within one second
        if not any(mark in text for mark in RERUN):
            break
        subprocess.run(["pdflatex", *command[2:]], cwd=build, env=environment, capture_output=True, check=False)
        text = log.read_text(errors="replace")
    else:
        raise LatexError(f"The references of the paper do not settle (log: {log}).")
    for complaint in COMPLAINTS:
        if complaint in text:
            raise LatexError(f"LaTeX complains of the paper: {complaint} (log: {log}).")
    write_atomically(pdf, lambda part: part.write_bytes((build / "main.pdf").read_bytes()))
