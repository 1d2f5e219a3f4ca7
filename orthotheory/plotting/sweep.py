"""Pictures of a sweep: rates and best runs as lines for a few methods, distances to the best as a map for many."""

from __future__ import annotations

import numpy as np

from .convergence import spread_labels
from .rows import heat_rows
from .style import METHOD_COLORS

FEW = 10  # methods that lines can show
CYCLE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#7F7F7F", "#8B4513", "#4B0082")
TOP, DARK = 2.0, 4.0  # decades behind the best that count for the order, at most; from which colors end
RESOLVED = 1e-6  # smaller shares of the first value count as equal: who is next to the optimum is there


def figure_size(best) -> tuple[float, float]:
    """Return the size of the picture of a sweep in inches."""
    methods, problems = best["method"].nunique(), best["problem"].nunique()
    return (6.5, 1.9 + 0.07 * methods) if methods > FEW else (6.5, 2.3 * problems)


def draw_lines(final, summary, column: str, fig) -> None:
    """Draw one row a problem: the last value over the rate, and the best run of each method over its steps.

    `final` has one row a run, `summary` one a problem, method and step, at the best rate of the method.
    """
    names = list(dict.fromkeys(final["problem"]))
    methods = list(dict.fromkeys(final["method"]))
    colors = {m: METHOD_COLORS.get(m, CYCLE[i % len(CYCLE)]) for i, m in enumerate(methods)}
    if len(set(colors.values())) < len(colors):
        colors = dict(zip(methods, CYCLE, strict=False))
    for (left, right), name in zip(fig.subplots(len(names), 2, squeeze=False), names, strict=True):
        ends, labels = [], []
        for method, runs in final[final["problem"] == name].groupby("method", sort=False):
            groups = runs.groupby("lr")["final"]
            medians = groups.median()
            style = {"color": colors[method], "marker": "o", "ms": 2.5}
            left.plot(medians.index, medians.where(np.isfinite(medians)), **style)
            left.fill_between(medians.index, *(groups.quantile(q).replace(np.inf, np.nan) for q in (0.25, 0.75)),
                              color=colors[method], alpha=0.15, lw=0)  # fmt: skip
            best = summary[(summary["problem"] == name) & (summary["method"] == method)]
            right.plot(best["k"], best["median"], color=colors[method])
            right.fill_between(best["k"], best["low"], best["high"], color=colors[method], alpha=0.2, lw=0)
            if len(best) and np.isfinite(best["median"].iloc[-1]):
                ends.append(best["median"].iloc[-1])
                labels.append(method)
        first = summary.loc[(summary["problem"] == name) & (summary["k"] == 0), "median"].max()
        kind = "log" if np.nanmin(final.loc[final["problem"] == name, "final"]) > 0 else "linear"
        left.set(xscale="log", yscale=kind, xlabel="learning rate", ylabel=f"last {column.replace('_', ' ')}")
        if kind == "log":  # what diverges leaves at the top
            least = final.loc[final["problem"] == name, "final"].min()
            left.set_ylim(least / 2, max(10 * first, 20 * least))
        right.set(yscale=kind, xlabel="step", ylabel=f"{column.replace('_', ' ')} at the best rate")
        right.set_xlim(0, summary["k"].max())
        if len(names) > 1:
            left.set_title(name, loc="left", fontsize=8)
        fig.canvas.draw()
        spread_labels(right, ends, labels, [colors[m] for m in labels])


def draw_map(best, targets: bool, fig) -> None:
    """Draw each method's distance to the best one in decades, a column a problem, the methods in two halves.

    `best` has one row a problem and method, as of `Results.best_rates`, with the `first` value, and where `targets` the
    `steps` to the target.
    """
    problems, methods = (list(dict.fromkeys(best[key])) for key in ("problem", "method"))

    def grid(values):
        wide = best.assign(shown=values).pivot(index="method", columns="problem", values="shown")
        return wide.loc[methods, problems].to_numpy(float)

    def behind(values):
        logs = np.log10(np.where(np.isfinite(values), values, np.nan))
        return logs - np.min(np.where(np.isnan(logs), np.inf, logs), axis=0)

    last = behind(np.maximum(grid(best["final"] / best["first"]), RESOLVED))
    edge = (grid(best["at edge"]) == 1) & np.isfinite(last)
    rows = np.argsort(np.where(np.isnan(last), TOP, np.minimum(last, TOP)).mean(axis=1), kind="stable")
    panels = [("last value", last[rows], edge[rows])]
    if targets:
        panels.append(("steps to the target", behind(grid(best["steps"]))[rows], None))
    label = (
        "decades behind the best method, each at its best rate; below $10^{-6}$ of the start all are equal\n"
        "(dot: that rate ends its grid; gray: not run, lost, or target not reached)"
    )
    heat_rows(fig, np.array(methods)[rows], panels, top=DARK, columns=problems, label=label)
