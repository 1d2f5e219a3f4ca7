"""When a spectral step wins and when it loses: the plane of condition and budget, and regimes with what predicts them."""

import numpy as np

from orthotheory.plotting import COLORS, Figure
from orthotheory.regimes import REGIMES, RIVALS, plane, race

ERRORS = {"commuting": "aligned error", "generic": "generic error"}
STYLES = {"gd": ("gradient descent", COLORS["black"], "o"), "heavy-ball": ("heavy ball", COLORS["sky"], "s"),
          "normalized-gd": ("normalized gradient", COLORS["orange"], "D"), "sign": ("sign", COLORS["purple"], "^")}  # fmt: skip
REACH = 2.6  # decades; what lies beyond is written as a number
THEOREMS = tuple(dict.fromkeys(label for regime in REGIMES for label in regime.predicted_by))


def data(size):
    out = {}
    for error in ERRORS:
        found = plane(size, error)
        out |= {"conditions": found.conditions, "budgets": found.budgets, f"{error} mean": found.measured.mean,
                f"{error} side": found.measured.side, f"{error} predicted": found.predicted}  # fmt: skip
    ratios = [race(regime, size) for regime in REGIMES]
    return out | {
        "mean": np.array([r.mean for r in ratios]),  # (regimes, rivals)
        "half width": np.array([r.half_width for r in ratios]),
        "side": np.array([r.side for r in ratios]),
    }


def draw(data, fig):
    from matplotlib.colors import LinearSegmentedColormap

    both, right = fig.subfigures(1, 2, width_ratios=(1, 1.85))
    axes = both.subplots(2, 1, sharex=True)
    colors = LinearSegmentedColormap.from_list("wins", [COLORS["vermilion"], "white", COLORS["blue"]])
    x, y = np.log10(data["conditions"]), np.log2(data["budgets"])
    for ax, (error, title) in zip(axes, ERRORS.items(), strict=True):
        mesh = ax.pcolormesh(
            x, y, data[f"{error} mean"].T, cmap=colors, vmin=-2, vmax=2, shading="nearest", edgecolors="face", lw=0.2
        )
        i, j = np.nonzero(data[f"{error} side"] == 0)
        ax.plot(x[i], y[j], "o", color=COLORS["gray"], ms=2)
        if np.isfinite(data[f"{error} predicted"]).all():
            ax.contour(x, y, data[f"{error} predicted"].T, levels=[0.0], colors=[COLORS["black"]], linewidths=1.2)
        ax.set(yticks=y, yticklabels=[f"{b}" for b in data["budgets"]], ylabel="budget $K$")
        ax.set_title(title, fontsize=8, loc="left", pad=3)
    axes[1].set(xlabel=r"condition $\kappa$", xticks=[0, 1, 2, 3], xticklabels=["$1$", "$10$", "$10^2$", "$10^3$"])
    bar = both.colorbar(mesh, ax=axes, location="bottom", shrink=0.95, aspect=25, extend="both", ticks=[-2, 0, 2])
    bar.set_label("decades of loss over gradient descent", fontsize=7.5)
    _draw_regimes(data, right.subplots())


def _draw_regimes(data, ax):
    from matplotlib.lines import Line2D

    for row, regime in enumerate(REGIMES):
        for column, (_, color, marker) in enumerate(STYLES.values()):
            mean, half, level = data["mean"][row, column], data["half width"][row, column], row + 0.17 * (column - 1.5)
            if abs(mean) <= REACH:
                ax.plot([mean - half, mean + half], [level, level], color=color, lw=1.0)
                ax.plot(mean, level, marker, color=color, ms=3)
            else:
                ax.annotate(f"{mean:+.0f}", (np.sign(mean) * REACH, level), (np.sign(mean) * (REACH - 0.5 - 0.6 * (column % 2)), level),
                            color=color, fontsize=6, va="center", ha="center",
                            arrowprops={"arrowstyle": "->", "color": color, "lw": 0.7, "shrinkA": 5, "shrinkB": 0})  # fmt: skip
        ax.annotate(regime.task.label, (0, row), (-6, 4), xycoords=("axes fraction", "data"), ha="right", va="center",
                    textcoords="offset points", fontsize=7.5, annotation_clip=False)  # fmt: skip
        why = ", ".join(regime.predicted_by) or "measured only"
        ax.annotate(f"{regime.predicted}: {why}" if regime.predicted_by else why, (0, row), (-6, -5),
                    xycoords=("axes fraction", "data"), textcoords="offset points", ha="right", va="center",
                    fontsize=5.5, color=COLORS["gray"], annotation_clip=False)  # fmt: skip
        if row:
            ax.axhline(row - 0.5, color=COLORS["gray"], lw=0.3, alpha=0.5)
    ax.axvline(0, color=COLORS["black"], lw=0.8)
    ax.set(ylim=(len(REGIMES) - 0.5, -0.5), xlim=(-REACH, REACH), yticks=[])
    ax.set_xlabel("decades of loss over each rival")
    ax.spines["left"].set_visible(False)
    above = {"xycoords": "axes fraction", "fontsize": 7.5, "va": "bottom"}
    ax.annotate("spectral wins", (0.46, 1.005), ha="right", color=COLORS["vermilion"], **above)
    ax.annotate("loses", (0.54, 1.005), color=COLORS["blue"], **above)
    handles = [Line2D([], [], color=c, marker=m, ms=3, lw=1.0, label=label) for label, c, m in STYLES.values()]
    ax.legend(handles=handles, ncols=4, loc="lower right", bbox_to_anchor=(1.02, 1.03), fontsize=7, borderpad=0.2,
              handlelength=1.0, handletextpad=0.4, columnspacing=0.9)  # fmt: skip


def numbers(data):
    out = {"regimes": str(len(REGIMES)), "reach": REACH}
    for error in ERRORS:
        side = data[f"{error} side"]
        out |= {f"{error} wins": str(int(np.sum(side < 0))), f"{error} loses": str(int(np.sum(side > 0))),
                f"{error} cells": str(side.size), f"{error} best": float(10 ** -data[f"{error} mean"].min())}  # fmt: skip
    predicted, side = data["commuting predicted"], data["commuting side"]
    out["sides predicted"] = str(int(np.sum((np.sign(predicted) == side) & (side != 0))))
    out["sides decided"] = str(int(np.sum(side != 0)))
    told = np.array([{"wins": -1, "loses": 1, "open": 0}[r.predicted] for r in REGIMES])
    out["predictions"] = str(int(np.sum(told != 0)))
    out["predictions met"] = str(int(np.sum((told != 0) & (told == data["side"][:, RIVALS.index("gd")]))))
    return out


FIGURE = Figure(
    name="when-muon-wins",
    caption=(
        r"When a spectral step of constant radius wins and when it loses; every method has its own constant rate, tuned on other "
        r"seeds. Left: loss after $K$ steps against gradient descent's, on quadratics of condition $\kappa$; gray dots: undecided by "
        r"the 95\% interval over seeds; line: where theorems \texttt{spectral-cycle-commuting} and \texttt{gradient-modes}, evaluated "
        r"at the same rates, put the two at par. They give the side of \result{when-muon-wins}{sides predicted} of "
        r"the \result{when-muon-wins}{sides decided} decided cells. Ill-conditioned and early it wins, well-conditioned or late it loses. "
        r"Right: \result{when-muon-wins}{regimes} regimes, the same comparison with four rivals (95\% intervals, paired by seed; numbers: "
        r"decades beyond the axis). In gray, what the named theorems predict against gradient descent; "
        r"\result{when-muon-wins}{predictions met} of \result{when-muon-wins}{predictions} predictions are met, the other regimes are only "
        r"measured. Where the curvature is ill conditioned, heavy ball at its default momentum is level with the spectral step or ahead of it."
    ),
    shows=THEOREMS,
    data=data,
    draw=draw,
    numbers=numbers,
    size=(6.5, 4.6),
)
