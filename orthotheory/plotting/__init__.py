"""Figures: style, geometry of norm balls, convergence traces with their bounds; every draw is a pure function."""

from __future__ import annotations

from . import convergence, geometry
from .figure import Figure, render, save_figure
from .style import COLORS, METHOD_COLORS, STYLE

__all__ = ["COLORS", "METHOD_COLORS", "STYLE", "Figure", "convergence", "geometry", "render", "save_figure"]
