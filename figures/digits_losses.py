"""All methods on softmax regression of the digits data, each at the best learning rate of its grid."""

import numpy as np

from orthotheory.plotting import METHOD_COLORS, Figure
from orthotheory.plotting.convergence import spread_labels
from orthotheory.sweep import Sweep, run_sweep

GRIDS = {
    "gd": ("gd", (-2, 1.5), {}),
    "heavy-ball": ("heavy-ball", (-2.5, 1), {}),
    "nesterov": ("nesterov", (-2.5, 0.5), {}),
    "adam": ("adam", (-3, 0.5), {}),
    "normalized-gd": ("normalized-gd", (-2.5, 0.5), {}),
    "sign": ("sign", (-4, -0.5), {}),
    "signum": ("signum", (-4, -0.5), {}),
    "lion": ("lion", (-4, -0.5), {}),
    "muon": ("muon", (-3.5, 0), {}),
    "polargrad": ("polargrad", (-2.5, 1), {}),
    "auon": ("auon", (-3, 0.5), {}),
    "auon-package": ("auon-package", (-1.5, 2), {}),
    "hybrid-auon": ("hybrid-auon", (-3, 0.5), {}),
}
DASHES = {"heavy-ball": "--", "nesterov": ":", "signum": "--", "lion": ":", "auon-package": "--", "polargrad": "-"}


def sweep(size):
    points = 5 if size == "smoke" else 15
    methods = {
        label: {"name": name, "lr": [float(f"{10**x:.4g}") for x in np.linspace(*ends, points)], **hyper}
        for label, (name, ends, hyper) in GRIDS.items()
    }
    return Sweep(
        problems={"digits": {}},
        methods=methods,
        steps=40 if size == "smoke" else 300,
        every=2,
        record=("gap", "accuracy"),
    )


def data(size):
    results = run_sweep(sweep(size))
    table, best = results.to_pandas(), results.best_rates("gap")
    out = {
        "method": best["method"].to_numpy(dtype=str),
        "lr": best["lr"].to_numpy(),
        "at_edge": best["at edge"].to_numpy(dtype=bool),
        "points": np.array(len(next(iter(sweep(size).methods.values()))["lr"])),
    }
    for label, lr in zip(best["method"], best["lr"], strict=True):
        line = table[(table["method"] == label) & (table["lr"] == lr)].sort_values("k")
        out["k"], out[f"gap {label}"] = line["k"].to_numpy(), line["gap"].to_numpy()
    return out


def draw(data, fig):
    ax = fig.subplots()
    labels, colors, ends = [], [], []
    for label, lr in zip(data["method"], data["lr"], strict=True):
        gap = np.minimum.accumulate(data[f"gap {label}"])
        ax.plot(data["k"], gap, color=METHOD_COLORS[label], ls=DASHES.get(label, "-"))
        labels.append(f"{label}, lr {lr:.2g}")
        colors.append(METHOD_COLORS[label])
        ends.append(gap[-1])
    ax.set(yscale="log", xlabel="step", ylabel="$f-f^*$, best so far", xlim=(0, data["k"][-1]))
    fig.canvas.draw()
    spread_labels(ax, ends, labels, colors)


def numbers(data):
    gaps = {f"final gap {label}": float(np.min(data[f"gap {label}"])) for label in data["method"]}
    counts = {"steps": data["k"][-1], "grid points": data["points"], "at edge": data["at_edge"].sum()}
    return {**gaps, **{key: int(value) for key, value in counts.items()}}


FIGURE = Figure(
    name="digits-losses",
    caption=(
        r"Full-batch softmax regression on the digits data ($W\in\mathbb{R}^{64\times10}$, optimum known to $10^{-12}$ in the "
        r"gradient). Each method at the learning rate of its grid with the smallest final gap; lines show the best gap so far. "
        r"A fixed radius leaves a floor, so that the best rate trades the floor against the distance to travel; steps that "
        r"shrink with the gradient leave none."
    ),
    shows=("muon-constant-step-converges",),
    data=data,
    draw=draw,
    numbers=numbers,
    size=(6.5, 3.4),
)
