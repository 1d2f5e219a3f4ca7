"""Pictures of a sweep: the last value over the learning rate, and the best run of each method over its steps."""

from __future__ import annotations

import numpy as np


def draw_sweep(final, summary, fig) -> None:
    """Draw one row a problem. `final` has one row a run, `summary` one a problem, method, rate and step."""
    names = list(dict.fromkeys(final["problem"]))
    axes = fig.subplots(len(names), 2, squeeze=False)
    for (left, right), name in zip(axes, names, strict=True):
        for method, runs in final[final["problem"] == name].groupby("method", sort=False):
            medians = runs.groupby("lr")["final"].median()
            (line,) = left.plot(medians.index, medians.where(np.isfinite(medians)), ".-", label=method)
            lines = summary[(summary["problem"] == name) & (summary["method"] == method)]
            best = lines[lines["lr"] == medians.idxmin()] if len(medians) else lines
            right.plot(best["k"], best["median"], color=line.get_color())
            right.fill_between(best["k"], best["low"], best["high"], color=line.get_color(), alpha=0.2, lw=0)
        left.set(xscale="log", yscale="log", xlabel="learning rate", ylabel=f"{name}: last value")
        right.set(yscale="log", xlabel="step", ylabel="at the best rate")
        left.legend(fontsize=6)
