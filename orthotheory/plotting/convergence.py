"""Pictures of convergence: traces with dashed bounds in their colors, and labels at the ends of lines."""

from __future__ import annotations

import numpy as np

from .style import COLORS

DRAWABLE = 1e250  # beyond it a logarithmic axis overflows


def draw_bounded(ax, k: np.ndarray, measured: np.ndarray, bound: np.ndarray, color: str, label: str = "") -> None:
    """Draw a trace and its bound, the bound dashed in the same color."""
    ax.plot(k, measured, color=color, label=label)
    ax.plot(k, bound, color=color, ls=(0, (4, 2)), lw=0.9)


def spread_labels(
    ax, ys: list[float], labels: list[str], colors: list[str], x: float = 1.01, gap: float = 0.055
) -> None:
    """Write labels to the right of an axis at the heights of the lines' ends, moved apart where they would overlap.

    `ys` are data values; `gap` is the least distance in axis fractions.
    """
    heights = ax.transAxes.inverted().transform(
        ax.transData.transform([(0.0, y) if ax.get_xscale() == "linear" else (ax.get_xlim()[0], y) for y in ys])
    )[:, 1]
    order = np.argsort(heights)
    placed = np.clip(heights[order], 0.0, 1.0)
    for _ in range(200):  # push neighbors apart symmetrically until none overlap
        for i in range(len(placed) - 1):
            lack = gap - (placed[i + 1] - placed[i])
            if lack > 1e-9:
                placed[i] -= lack / 2
                placed[i + 1] += lack / 2
        placed += max(0.0, -0.03 - placed[0]) - max(0.0, placed[-1] - 1.03)
    for position, i in zip(placed, order, strict=True):
        ax.annotate(
            labels[i],
            (1.0, float(np.clip(heights[i], 0, 1))),
            (x + 0.03, float(position)),
            xycoords="axes fraction",
            textcoords="axes fraction",
            color=colors[i],
            va="center",
            fontsize=8,
            annotation_clip=False,
            arrowprops={
                "arrowstyle": "-",
                "color": colors[i],
                "lw": 0.5,
                "shrinkA": 1,
                "shrinkB": 0,
                "relpos": (0, 0.5),
            },
        )


def draw_trace(trace_table, label: str, fig) -> None:
    """Draw what `orthotheory run` recorded: the gap where it is known, else the value, and the gradient norm."""
    left, right = fig.subplots(1, 2)
    k = trace_table["k"].to_numpy()
    column = "gap" if "gap" in trace_table else "value"
    names = {"gap": "$f - f^*$", "value": "$f$", "gradient_norm": "dual norm of the gradient",
             "stationarity": "distance of 0 to the hull of the gradients"}  # fmt: skip
    slope = "gradient_norm" if "gradient_norm" in trace_table else "stationarity"
    for ax, name, color in ((left, column, COLORS["blue"]), (right, slope, COLORS["vermilion"])):
        y = trace_table[name].to_numpy()
        positive = (y > 0) & (y < DRAWABLE)
        logarithmic = name != "value" and bool(positive.any()) and y[positive].max() > 10 * y[positive].min()
        drawn = positive if logarithmic else np.abs(y) < DRAWABLE
        ax.plot(k, np.where(drawn, y, np.nan), color=color)
        ax.set(yscale="log" if logarithmic else "linear", xlabel="step", ylabel=names[name])
    fig.suptitle(label, fontsize=9)
