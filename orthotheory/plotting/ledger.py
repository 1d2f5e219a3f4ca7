"""Pictures of the ledgers: the evidence of a claim, the two sides of a theorem."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from .style import COLORS

SIZE = (6.5, 2.6)


def draw_evidence(row: Mapping[str, Any], fig) -> None:
    """Draw every number of a claim's row: what decided, the same number of its control, and the further evidence.

    The axis is logarithmic, and linear around zero where a number is not positive; the value stands beside its dot.
    """
    numbers = {"measured": row["measured"], "control": row["control"]["measured"], **row["evidence"]}
    finite = {name: float(v) for name, v in numbers.items() if np.isfinite(v)}
    ax = fig.subplots()
    fig.set_size_inches(SIZE[0], 0.9 + 0.24 * max(len(numbers), 3))
    sizes = [abs(v) for v in finite.values() if v]
    if finite and min(finite.values()) > 0:
        ax.set_xscale("log")
    else:
        ax.set_xscale("symlog", linthresh=min(sizes, default=1.0))
        ax.xaxis.set_major_locator(_few(sizes))
        ax.axvline(0, color=COLORS["gray"], lw=0.5, zorder=0)
    colors = {"measured": COLORS["vermilion"], "control": COLORS["gray"]}
    for y, name in enumerate(numbers):
        value = finite.get(name)
        text = f"{numbers[name]:.3g}"
        if value is not None:
            ax.plot(value, y, "X" if name == "control" else "o", color=colors.get(name, COLORS["blue"]), markersize=5)
        ax.annotate(text, (1.01, y), xycoords=("axes fraction", "data"), va="center", fontsize=7)
    ax.set_yticks(range(len(numbers)), list(numbers), fontsize=7)
    ax.set_ylim(len(numbers) - 0.5, -0.5)
    ax.tick_params(axis="x", labelsize=7)
    ax.set_title(
        f"{row['label']}: {row['verdict']}; its control: {row['control']['verdict']}".replace("_", " "), fontsize=8
    )


def draw_sides(theorem, case: Any, description: str, fig) -> None:
    """Draw both sides of a theorem on a case, and the right side of its control."""
    sides = {"left side": theorem.lhs(case), "right side": theorem.rhs(case), "control": theorem.control().rhs(case)}
    colors = (COLORS["vermilion"], COLORS["black"], COLORS["gray"])
    ax = fig.subplots()
    flat = {name: np.asarray(values, dtype=float).ravel() for name, values in sides.items()}
    for (name, values), color, style in zip(flat.items(), colors, ("-", "--", ":"), strict=True):
        few = len(values) <= 40
        ax.plot(
            np.arange(1, len(values) + 1), values, style, marker="o" if few else None, color=color, ms=3, label=name
        )
    everything = np.concatenate(list(flat.values()))
    if len(everything) and np.all(everything > 0) and everything.max() > 30 * everything.min():
        ax.set_yscale("log")
    ax.set_xlabel("entry (a step, a seed or a matrix)")
    ax.legend(fontsize=7)
    ax.set_title(f"{theorem.label} ({theorem.kind}), {description}", fontsize=8)


def _few(sizes: list[float]):
    from matplotlib.ticker import SymmetricalLogLocator

    smallest, largest = (min(sizes, default=1.0), max(sizes, default=1.0))
    decades = np.log10(largest / smallest) if largest > smallest else 1.0
    locator = SymmetricalLogLocator(base=10 ** max(1, int(np.ceil(decades / 4))), linthresh=smallest)
    locator.set_params(numticks=7)
    return locator
