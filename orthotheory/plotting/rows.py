"""Many methods as rows in two halves, for pictures of a page: heat maps beside each other with shared row names."""

from __future__ import annotations

import numpy as np

from .style import COLORS

MISSING = "#DDDDDD"


def halves(count: int) -> list[np.ndarray]:
    """Return the row numbers of the left and of the right half."""
    return np.array_split(np.arange(count), 2)


def heat_rows(fig, names, panels, *, top: float, label: str, columns=None, extent=None) -> None:
    """Draw heat maps of shape (rows, columns), light where the value is 0 and dark from `top`; NaN is gray.

    Parameters
    ----------
    panels : list of (title, values, marks)
        `marks` (or None) is a mask of cells that get a dot.
    columns : sequence of str, optional
        Names of the columns, written on top.
    extent : (low, high, label), optional
        Values of the first and last column instead, on an axis below.
    """
    import matplotlib

    color_map = matplotlib.colormaps["cividis_r"].with_extremes(bad=MISSING)
    axes = np.atleast_2d(fig.subplots(1, 2 * len(panels), width_ratios=[1] * (2 * len(panels))))[0]
    image = None
    for half, rows in enumerate(halves(len(names))):
        for i, (title, values, marks) in enumerate(panels):
            ax = axes[half * len(panels) + i]
            limits = None if extent is None else (extent[0], extent[1], len(rows) - 0.5, -0.5)
            shown = np.ma.masked_invalid(np.asarray(values)[rows])
            image = ax.imshow(
                shown, cmap=color_map, vmin=0, vmax=top, aspect="auto", interpolation="nearest", extent=limits
            )
            if marks is not None:
                y, x = np.nonzero(np.asarray(marks)[rows])
                ax.plot(x, y, ".", ms=2.2, color=COLORS["vermilion"], mew=0)
            ax.set_yticks(range(len(rows)), names[rows] if i == 0 else [], fontsize=5.5)
            ax.tick_params(length=0, pad=2)
            if columns is not None:
                ax.xaxis.tick_top()
                ax.set_xticks(range(len(columns)), columns, rotation=90, fontsize=5.5)
            if extent is not None:
                ax.tick_params(axis="x", length=2, labelsize=6)
                ax.axvline(0, color=COLORS["vermilion"], lw=0.6)
                ax.set_xlabel(extent[2], fontsize=7)
            if title:
                ax.set_xlabel(title, fontsize=7)
            ax.spines[:].set_visible(False)
    bar = fig.colorbar(image, ax=axes.tolist(), location="bottom", fraction=0.012, pad=0.01, aspect=60, extend="max")
    bar.set_label(label, fontsize=7)
    bar.ax.tick_params(labelsize=6, length=2)
    bar.outline.set_visible(False)
