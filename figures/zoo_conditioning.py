"""The condition number of every method's update after twenty steps along one ill-conditioned gradient."""

import numpy as np

from orthotheory.comparison import participants, update_conditions
from orthotheory.plotting import COLORS, Figure
from orthotheory.plotting.rows import halves

CONDITION, LAST = 1e3, 1e5  # of the gradient; where the axis ends


def data(size):
    names, _ = participants()
    seeds = 3 if size == "smoke" else 20
    found = np.array([update_conditions(name, condition=CONDITION, seeds=seeds) for name in names])
    return {"methods": np.array(names), "conditions": found, "gradient": np.array(CONDITION)}


def draw(data, fig):
    median = np.median(data["conditions"], axis=1)
    rows = np.argsort(median, kind="stable")
    axes = fig.subplots(1, 2)
    for ax, half in zip(axes, halves(len(rows)), strict=True):
        chosen = rows[half]
        values = np.minimum(data["conditions"][chosen], LAST)
        y = np.arange(len(chosen))
        for x, style in ((1.0, "-"), (float(data["gradient"]), (0, (4, 2)))):
            ax.axvline(x, color=COLORS["gray"], lw=0.7, ls=style)
        ax.hlines(y, *np.quantile(values, [0.25, 0.75], axis=1), color=COLORS["sky"], lw=1.6)
        full = median[chosen] < LAST
        ax.plot(median[chosen][full], y[full], "o", ms=2.5, color=COLORS["blue"], mew=0)
        ax.plot(np.full((~full).sum(), LAST), y[~full], ">", ms=3, color=COLORS["vermilion"], mew=0, clip_on=False)
        ax.set(xscale="log", xlim=(0.8, LAST), ylim=(len(chosen) - 0.4, -0.6), xlabel="condition number of the update")
        ax.set_xticks(10.0 ** np.arange(5))
        ax.set_yticks(y, data["methods"][chosen], fontsize=5.5)
        ax.tick_params(axis="y", length=0, pad=2)


def numbers(data):
    median = np.median(data["conditions"], axis=1)
    out = {
        "gradient": float(data["gradient"]), "methods": len(median), "beyond": int((median >= LAST).sum()),
        "below 2": int((median < 2).sum()), "kept": int(np.isclose(median, data["gradient"], rtol=1e-3).sum()),
    }  # fmt: skip
    names = dict(zip(data["methods"], median, strict=True))
    return out | {f"median {m}": float(c) for m, c in names.items() if np.isfinite(c)}


FIGURE = Figure(
    name="zoo-conditioning",
    caption=(
        r"Condition number of the update after twenty steps along one constant gradient of condition number "
        r"\result{zoo-conditioning}{gradient} (dashed), so that the momentum has the same; dots: medians over random singular vectors, "
        r"bars: their middle half; triangles: beyond the axis, or not of full rank. \result{zoo-conditioning}{below 2} of "
        r"\result{zoo-conditioning}{methods} methods bring it below 2, \result{zoo-conditioning}{kept} keep it to three digits."
    ),
    shows=("auon-reconditions",),
    data=data,
    draw=draw,
    numbers=numbers,
    size=(6.5, 6.0),
)
