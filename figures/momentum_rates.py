"""Three momenta, three exponents: runs tuned to their budget, fitted slopes with intervals over seeds, wrong schedules."""

import numpy as np

from orthotheory.plotting import COLORS, Figure
from orthotheory.plotting.convergence import spread_labels
from orthotheory.theory.rates import SCHEDULES, momentum_rates

# name in theory.rates: (key of its numbers, label, color)
ROWS = {
    "EMA": ("ema", "EMA", COLORS["blue"]),
    "IGT": ("igt", "IGT", COLORS["vermilion"]),
    "IGT, a = 1/(k+1)": ("harmonic", "IGT, $a_k=1/(k+1)$", COLORS["green"]),
    "EMA on IGT's schedule": ("ema on igt", "EMA, IGT's $a,\\eta$", COLORS["purple"]),
    "plain average of gradients": ("plain average", "plain average", COLORS["gray"]),
}


def data(size):
    rates = momentum_rates(size)
    assert list(rates) == list(ROWS)
    fits = [rate.fit for rate in rates.values()]
    return {
        "budgets": rates["EMA"].budgets,
        "means": np.array([rate.means for rate in rates.values()]),  # (schedules, seeds, budgets)
        "exponent": np.array([rate.schedule.exponent for rate in rates.values()]),
        "slope": np.array([[fit.low, fit.slope, fit.high] for fit in fits]),
        "local": np.array([fit.local for fit in fits]),
        "verdict": np.array([rate.verdict for rate in rates.values()]),
    }


def draw(data, fig):
    left, right = fig.subplots(1, 2, width_ratios=(1.15, 1))
    k, right_ones = data["budgets"], len(SCHEDULES)
    lines = list(ROWS.values())
    for i, (_, _, color) in enumerate(lines):
        y = data["means"][i]
        left.fill_between(k, y.min(axis=0), y.max(axis=0), color=color, alpha=0.2, lw=0)
        left.plot(k, y.mean(axis=0), color=color, marker="o", ms=2.5, lw=1.0 if i < right_ones else 0.8)
        if i < right_ones:
            left.plot(k, y[:, -1].mean() * (k / k[-1]) ** data["exponent"][i], color=color, ls=(0, (4, 2)), lw=0.9)
    left.set(xscale="log", yscale="log", xlim=(k[0] / 1.15, k[-1] * 1.1), xlabel="budget $K$, tuned to it")
    left.set_ylabel(r"mean of $\|\nabla f(X_k)\|_*$, second half")
    left.set_xticks(k, [f"{b}" for b in k])
    left.tick_params(axis="x", which="minor", bottom=False, labelbottom=False)
    ends = [data["means"][i, :, -1].mean() for i in range(len(lines))]
    spread_labels(left, ends, [label for _, label, _ in lines], [color for *_, color in lines], gap=0.07)
    for i, (_, label, color) in enumerate(lines):
        row, (low, slope, high) = -i, data["slope"][i]
        x, side = (high + 0.015, "left") if i < right_ones else (low - 0.02, "right")
        right.text(x, row + 0.03, label, ha=side, va="center", fontsize=7.5, color=color)
        right.plot([low, high], [row, row], color=color, lw=2.2, solid_capstyle="butt")
        right.plot(slope, row, "o", color=color, ms=4.5)
        right.plot(data["local"][i], np.full(data["local"].shape[1], row - 0.24), "|", color=color, ms=5, mew=0.8)
        right.plot([data["exponent"][i]] * 2, [row - 0.4, row + 0.4], color=COLORS["black"], ls=(0, (2, 1.2)), lw=1.0)
    right.axhline(0.5 - right_ones, color=COLORS["gray"], lw=0.5)
    right.set(yticks=[], xlim=(-0.56, 0.08), ylim=(-len(lines) + 0.4, 0.75), xlabel="exponent of $K$")
    right.set_xticks([-1 / 2, -1 / 3, -1 / 4, 0], ["$-1/2$", "$-1/3$", "$-1/4$", "$0$"], fontsize=7)
    right.spines["left"].set_visible(False)
    for group, y, side in ((data["verdict"][:right_ones], 0.56, "bottom"), (data["verdict"][right_ones:], 0.44, "top")):
        text = ", ".join(sorted(set(group)))
        right.text(0.08, y - right_ones, text, ha="right", va=side, fontsize=7.5, style="italic", color=COLORS["gray"])


def numbers(data):
    out = {
        "seeds": str(data["means"].shape[1]),
        "first budget": str(data["budgets"][0]),
        "last budget": str(data["budgets"][-1]),
    }
    for (key, _, _), (low, slope, high), verdict in zip(ROWS.values(), data["slope"], data["verdict"], strict=True):
        out |= {key: float(slope), f"{key} low": float(low), f"{key} high": float(high), f"{key} verdict": str(verdict)}
    return out


def _interval(key):
    parts = (rf"\result{{momentum-rates}}{{{key}{end}}}" for end in ("", " low", " high"))
    return "${}$ $[{}, {}]$".format(*parts)


FIGURE = Figure(
    name="momentum-rates",
    caption=(
        r"Spectral descent along three momenta (theorems \texttt{trust-region-momentum}, \texttt{extrapolation-bound}, "
        r"\texttt{extrapolation-cancels}) on a $6\times6$ quadratic with Gaussian noise, each budget $K$ a run of its own with the "
        r"$\eta$ and $a$ that theory prescribes for it. Left: mean gradient norm over the second half of the run (lines: mean, "
        r"bands: all \result{momentum-rates}{seeds} seeds) and the predicted power of $K$ through the last point (dashed). Right: "
        r"fitted exponents with 95\% bootstrap intervals over seeds, the first budget dropped and the bound's next term fitted along; "
        r"theory's exponent dashed; ticks below each row: slopes between neighboring budgets. An average at the current "
        rf"point: {_interval('ema')}; at the extrapolated point (IGT): {_interval('igt')}; with $a_k=1/(k+1)$: "
        rf"{_interval('harmonic')}. The last two rows are wrong schedules, the same without extrapolation; their lag does not "
        r"shrink with the noise, and they must be judged slower: "
        rf"{_interval('ema on igt')} and {_interval('plain average')}. Extrapolation this far is safe on quadratics only."
    ),
    shows=("trust-region-momentum", "extrapolation-bound", "extrapolation-cancels"),
    data=data,
    draw=draw,
    numbers=numbers,
    size=(6.5, 2.9),
)
