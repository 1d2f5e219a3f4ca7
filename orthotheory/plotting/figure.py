"""What a paper figure is: the data it needs, a pure drawing function, and a caption that names what it shows."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..storage import write_atomically
from ..theory.contract import Size
from .style import STYLE

Data = Mapping[str, np.ndarray]


@dataclass(frozen=True)
class Figure:
    """One figure of the paper; lives in `figures/<name>.py` as FIGURE.

    Parameters
    ----------
    name : str
        File name of the rendered figure and label in the paper.
    caption : str
        LaTeX; what a reader sees. `\\result{label}{key}` prints a number that a claim measured.
    shows : tuple of str
        Labels of the theorems and claims that it shows.
    data : function of a size, or str
        Computes host arrays by name; they are stored and read without executing anything. The name of another
        figure instead draws the data of that one.
    draw : function (data, fig)
        Draws on a Matplotlib figure; computes nothing.
    size : (float, float)
        Width and height in inches.
    numbers : function of the data
        Named numbers for the caption and the text, printed by `\\result{name}{key}` to three digits, or as they are if
        they come as strings.
    table : function of the data, optional
        Returns LaTeX that is written to generated/<name>.tex.
    """

    name: str
    caption: str
    shows: tuple[str, ...]
    data: Callable[[Size], Data] | str
    draw: Callable[[Data, object], None]
    size: tuple[float, float] = (6.5, 2.6)
    numbers: Callable[[Data], Mapping[str, float | str]] = lambda data: {}
    table: Callable[[Data], str] | None = None

    @property
    def data_name(self) -> str:
        """The figure whose data this one draws."""
        return self.data if isinstance(self.data, str) else self.name


def render(figure: Figure, data: Data, folder: Path) -> list[Path]:
    """Draw a paper figure into a folder as PDF and PNG; return both paths."""
    folder.mkdir(parents=True, exist_ok=True)
    return save_figure(lambda canvas: figure.draw(data, canvas), folder / figure.name, figure.size)


def save_figure(draw: Callable[[Any], None], stem: Path, size: tuple[float, float]) -> list[Path]:
    """Draw and write `stem`.pdf (vector) and .png; the bytes do not depend on the day or the machine's name."""
    import matplotlib
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure as Canvas

    logging.getLogger("fontTools").setLevel(logging.ERROR)  # it remarks on dates inside the mathtext fonts
    with matplotlib.rc_context(STYLE):
        canvas = Canvas(figsize=size)
        FigureCanvasAgg(canvas)
        draw(canvas)
        pdf, png = stem.with_name(f"{stem.name}.pdf"), stem.with_name(f"{stem.name}.png")
        undated = {"CreationDate": None, "ModDate": None, "Producer": None, "Creator": None}
        write_atomically(pdf, lambda part: canvas.savefig(part, format="pdf", metadata=undated))
        write_atomically(png, lambda part: canvas.savefig(part, format="png", metadata={"Software": None}))
    return [pdf, png]
