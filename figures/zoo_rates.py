"""How much a wrong learning rate costs each method: the grid of the comparison around the best rate."""

import numpy as np

from orthotheory.plotting import Figure
from orthotheory.plotting.rows import heat_rows

TOP = 2.0
REACH = 2.0  # decades of the rate to either side
FACTOR = 2.0  # a rate is good where the loss is within this factor of the best


def around_the_best(data):
    """Return offsets in decades and the median over problems of log10(loss / best loss), shape (methods, offsets).

    A cell that no problem tried is NaN; a diverged run is infinite.
    """
    x = np.log10(data["rates"])
    step = np.diff(x).min()
    offsets = np.arange(-round(REACH / step), round(REACH / step) + 1)
    tuned = np.log10(data["tuned"])
    out = np.full((*tuned.shape[:2], len(offsets)), np.nan)
    for i, j in np.ndindex(*tuned.shape[:2]):
        best = int(np.nanargmin(tuned[i, j]))
        where = best + offsets
        inside = (where >= 0) & (where < len(x))
        if np.isfinite(tuned[i, j, best]):
            out[i, j, inside] = tuned[i, j, where[inside]] - tuned[i, j, best]
    with np.errstate(invalid="ignore"):
        seen = ~np.isnan(out).all(axis=1)
        median = np.where(seen, np.nanmedian(np.where(seen[:, None], out, 0.0), axis=1), np.nan)
    return offsets * step, median


def width(data):
    """Return per method the median over problems of the decades of rates within `FACTOR` of the best loss."""
    step = np.diff(np.log10(data["rates"])).min()
    best = np.nanmin(data["tuned"], axis=2, keepdims=True)
    good = (data["tuned"] <= FACTOR * best) & np.isfinite(best)
    return np.median(good.sum(axis=2) * step, axis=1)


def draw(data, fig):
    rows = np.argsort(-width(data), kind="stable")
    offsets, median = around_the_best(data)
    half = np.diff(offsets).min() / 2
    values = np.where(np.isinf(median), TOP * 2, median)[rows]
    heat_rows(fig, data["methods"][rows], [("", values, None)], top=TOP,
              extent=(offsets[0] - half, offsets[-1] + half, "decades from the best rate"),
              label="decades of loss above the best rate, median over the problems (gray: not tried)")  # fmt: skip


def numbers(data):
    found, names = width(data), data["methods"]
    rows = np.argsort(found, kind="stable")
    out = {"factor": FACTOR, "median width": float(np.median(found)), "narrowest": float(found[rows[0]]),
           "widest": float(found[rows[-1]]), "narrowest method": str(names[rows[0]]),
           "widest method": str(names[rows[-1]]), "divergent share": float(data["diverged"].mean())}  # fmt: skip
    return out | {f"width {name}": float(w) for name, w in zip(names, found, strict=True)}


FIGURE = Figure(
    name="zoo-rates",
    caption=(
        r"Sensitivity to the learning rate. For each method, loss at rates around the best one, relative to the loss there, "
        r"median over the problems of Figure~\ref{fig:zoo-ranking}. Rows are sorted by the width of the range of rates whose loss is "
        r"within a factor of \result{zoo-rates}{factor} of the best, from the widest: its median over the problems is between "
        r"\result{zoo-rates}{narrowest} and \result{zoo-rates}{widest} decades. All losses are medians over the tuning seeds."
    ),
    shows=(),
    data="zoo-ranking",
    draw=draw,
    numbers=numbers,
    size=(6.5, 6.4),
)
