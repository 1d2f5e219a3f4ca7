"""What an optimizer does to surgery: conflicts after the polar factor, and old outputs after projected gradients."""

import numpy as np

from orthotheory import surgery
from orthotheory.claims.continual import OPTIMIZERS, change_of_old_outputs, leak_in
from orthotheory.claims.surgery import cosines, upgrad_then_polar
from orthotheory.plotting import COLORS, Figure
from orthotheory.polar import polar_factor
from orthotheory.surgery.orthogonal import spectral_mgda

DIRECTIONS = {
    "mean, then polar": (lambda g: polar_factor(g.mean(axis=0)), COLORS["black"]),
    "UPGrad, then polar": (upgrad_then_polar, COLORS["orange"]),
    "UPGrad alone": (
        lambda g: surgery.UPGrad()(g.reshape(len(g), -1)).reshape(g.shape[1:]), COLORS["gray"],
    ),
    "spectral MGDA": (lambda g: spectral_mgda(g).direction, COLORS["vermilion"]),
}  # fmt: skip
COMMON = np.array([0.02, 0.05, 0.1, 0.2, 0.35, 0.5, 0.7, 1.0])
PRECISIONS = ("float64", "float32", "float16")


def data(size):
    draws, rng = (40 if size == "smoke" else 400), np.random.default_rng(0)
    out = {"common": COMMON}
    share = {name: np.zeros(len(COMMON)) for name in DIRECTIONS}
    for i, common in enumerate(COMMON):
        for _ in range(draws):
            g = rng.standard_normal((3, 6, 4))
            g -= (1 - common) * g.mean(axis=0)
            flat = g.reshape(3, -1)
            for name, (direction, _) in DIRECTIONS.items():
                share[name][i] += cosines(flat, direction(g).ravel()).min() < -1e-7
    out |= {f"share {name}": 100 * value / draws for name, value in share.items()}
    seeds = range(3 if size == "smoke" else 20)
    out["optimizers"] = np.array([max(change_of_old_outputs(m, s) for s in seeds) for m in OPTIMIZERS.values()])
    out["precisions"] = np.array([max(leak_in(dtype, s) for s in seeds) for dtype in PRECISIONS])
    return out


def draw(data, fig):
    left, right = fig.subplots(1, 2, width_ratios=[1, 1.25])
    for name, (_, color) in DIRECTIONS.items():
        if name == "UPGrad alone":  # zero everywhere, said in the caption
            continue
        left.plot(data["common"], data[f"share {name}"], "o-", ms=3, color=color)
    left.set(xscale="log", xlim=(0.018, 1.05), ylim=(-4, 104), yticks=[0, 50, 100])
    left.set(xlabel="share of the mean gradient that is kept", ylabel="draws in conflict, %")
    left.set_xticks([0.02, 0.1, 0.5, 1], ["0.02", "0.1", "0.5", "1"], minor=False)
    left.minorticks_off()
    left.text(0.34, 58, "mean,\nthen polar", color=COLORS["black"], fontsize=8)
    left.text(0.021, 60, "UPGrad,\nthen polar", color=COLORS["orange"], fontsize=8)
    left.text(0.021, 4, "spectral MGDA", color=COLORS["vermilion"], fontsize=8)

    labels = [*OPTIMIZERS, *(f"quintic in {p}" for p in PRECISIONS)]
    values = np.concatenate([data["optimizers"], data["precisions"]])
    color = [COLORS["vermilion"]] * 2 + [COLORS["black"], COLORS["green"], COLORS["purple"]] + [COLORS["orange"]] * 3
    y = np.arange(len(labels))[::-1]
    right.hlines(y, 1e-17, values, color=color, lw=0.8, alpha=0.6)
    right.scatter(values, y, s=18, color=color, zorder=3)
    right.set(xscale="log", xlim=(3e-17, 3), yticks=y)
    right.set_yticklabels(labels)
    right.tick_params(axis="y", length=0)
    right.set_xlabel("relative change of old outputs")


def numbers(data):
    return {
        "polar at the least share": float(data["share UPGrad, then polar"][0]),
        "mean at the least share": float(data["share mean, then polar"][0]),
        "upgrad": float(data["share UPGrad alone"].max()),
        "spectral": float(data["share spectral MGDA"].max()),
        "polar at half": float(data["share UPGrad, then polar"][list(COMMON).index(0.5)]),
        "muon": float(data["optimizers"][0]),
        "adam": float(data["optimizers"][3]),
        "sign": float(data["optimizers"][4]),
        **{p: float(v) for p, v in zip(PRECISIONS, data["precisions"], strict=True)},
    }


FIGURE = Figure(
    name="surgery-orthogonalized",
    caption=(
        r"Left: share of draws in which a direction raises one of three objectives, for Gaussian gradient matrices "
        r"($6\times4$) of which a share of the mean is kept (abscissa); below it they pull apart. UPGrad's update never "
        r"does (\result{surgery-orthogonalized}{upgrad}\%), its polar factor in up to \result{surgery-orthogonalized}{polar at the least share}\% of "
        r"the draws, spectral MGDA in \result{surgery-orthogonalized}{spectral}\%. Right: change of a linear layer's "
        r"outputs on old inputs, relative to the size of the step, when an optimizer sees only gradients that were "
        r"projected away from those inputs: rounding for Muon, \result{surgery-orthogonalized}{adam} for Adam, "
        r"\result{surgery-orthogonalized}{sign} for signs; last rows: one application of Muon's quintic in three "
        r"precisions."
    ),
    shows=("orthogonalize-after-surgery", "spectral-mgda-saddle", "polar-keeps-projection", "muon-keeps-old-outputs"),
    data=data,
    draw=draw,
    numbers=numbers,
    size=(6.5, 2.3),
)
