"""The style is data: one dict of Matplotlib parameters and the colors, safe for color-blind readers."""

from __future__ import annotations

from typing import Any

# Okabe and Ito's palette, by name.
COLORS = {
    "black": "#000000",
    "orange": "#E69F00",
    "sky": "#56B4E9",
    "green": "#009E73",
    "yellow": "#F0E442",
    "blue": "#0072B2",
    "vermilion": "#D55E00",
    "purple": "#CC79A7",
    "gray": "#777777",
}

METHOD_COLORS = {
    "muon": COLORS["vermilion"],
    "muon-torch": COLORS["vermilion"],
    "muon-moonlight": COLORS["vermilion"],
    "polargrad": COLORS["orange"],
    "trust-region": COLORS["vermilion"],
    "auon": COLORS["blue"],
    "auon-package": COLORS["blue"],
    "hybrid-auon": COLORS["sky"],
    "hybrid-auon-package": COLORS["sky"],
    "gd": COLORS["black"],
    "heavy-ball": COLORS["black"],
    "nesterov": COLORS["black"],
    "normalized-gd": COLORS["gray"],
    "adam": COLORS["green"],
    "sign": COLORS["purple"],
    "signum": COLORS["purple"],
    "lion": COLORS["purple"],
}

# mathtext instead of LaTeX, fixed hash salt, fonts embedded as outlines: bytes stay the same from run to run.
STYLE: Any = {
    "font.family": "serif",
    "mathtext.fontset": "cm",
    "font.size": 9,
    "axes.labelsize": 9,
    "axes.titlesize": 9,
    "xtick.labelsize": 8,
    "ytick.labelsize": 8,
    "legend.fontsize": 8,
    "legend.frameon": False,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.7,
    "xtick.major.width": 0.7,
    "ytick.major.width": 0.7,
    "lines.linewidth": 1.3,
    "figure.constrained_layout.use": True,
    "savefig.dpi": 200,
    "pdf.fonttype": 42,
    "svg.hashsalt": "orthotheory",
}
