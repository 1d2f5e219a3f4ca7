"""Lion-K in a plane of matrices, for three K: trajectories enter the constraint set and end at the constrained optimum."""

import numpy as np

from orthotheory import convex, loop
from orthotheory.methods.lion_k import LionK
from orthotheory.plotting import COLORS, Figure
from orthotheory.problems import KroneckerQuadratic
from orthotheory.problems.solvers import projected_gradient
from orthotheory.theory.lion_k import score

PANELS = {
    "l1": (r"$K=\|\cdot\|_1$: Lion", "purple"),
    "l2": r"$K=\|\cdot\|_F$: normalized momentum",
    "nuclear": (r"$K=\|\cdot\|_{\mathrm{nuc}}$: Muon", "vermilion"),
}
PANELS["l2"] = (PANELS["l2"], "blue")
SWAP = np.array([[0.0, 1.0], [1.0, 0.0]])
STARTS, LR, DECAY, SPAN = 12, 0.005, 1.0, 2.1


def matrices(points):
    """Return x I + y J, J the exchange: a plane that every K here maps to itself."""
    return points[..., 0, None, None] * np.eye(2) + points[..., 1, None, None] * SWAP


def points(x):
    return np.stack([x[..., 0, 0], x[..., 0, 1]], axis=-1)


def problem():
    curvature = 1.0 * np.eye(2) + 0.6 * SWAP  # eigenvalues 1.6 and 0.4
    return KroneckerQuadratic(curvature, np.eye(2), matrices(np.array([1.35, 0.55])), np.zeros((2, 2)))


def data(size):
    f, steps = problem(), 900 if size == "smoke" else 2500
    angles = 2 * np.pi * (np.arange(STARTS) + 0.5) / STARTS
    starts = matrices(2.0 * np.stack([np.cos(angles), np.sin(angles)], axis=-1))
    rays = np.stack([np.cos(a := np.linspace(0, 2 * np.pi, 721)), np.sin(a)], axis=-1)
    axis = np.linspace(-SPAN, SPAN, 81)
    grid = matrices(np.stack(np.meshgrid(axis, axis), axis=-1))
    out = {"axis": axis, "value": f.value(grid), "optimum": points(f.optimum), "lr": np.array(LR)}
    for name in PANELS:
        method = LionK(name, lr=LR, beta1=0.9, beta2=0.95, weight_decay=DECAY, warm_start=True)
        record = ("iterate", "gradient_norm", "gradient_inner")
        trace = loop.run(f, method, steps, record=record, start=starts)
        best = projected_gradient(f, method.k.ball, 1 / DECAY)
        out[f"set {name}"] = rays / method.k.ball.value(matrices(rays))[:, None] / DECAY
        out[f"path {name}"] = points(trace["iterate"])[::5]
        out[f"best {name}"] = points(best.x)
        out[f"score {name}"] = score(trace)[-1]
    return out


def draw(data, fig):
    levels = 0.06 * 1.9 ** np.arange(9)
    for ax, (name, (title, color)) in zip(fig.subplots(1, 3), PANELS.items(), strict=True):
        ax.contour(
            data["axis"], data["axis"], data["value"], levels=levels, colors=COLORS["gray"], linewidths=0.35, alpha=0.6
        )
        ax.fill(*data[f"set {name}"].T, color=COLORS[color], alpha=0.18, lw=0)
        ax.plot(*data[f"set {name}"].T, color=COLORS[color], lw=0.9, ls=(0, (4, 2)))
        paths = data[f"path {name}"]
        for path in np.moveaxis(paths, 1, 0):
            ax.plot(*path.T, color=COLORS[color], lw=0.9)
            ax.plot(*path[0], "o", ms=2.2, color=COLORS[color])
        ax.plot(*data["optimum"], "o", ms=5, mfc="w", mec=COLORS["black"], mew=1.0, zorder=4)
        ax.plot(*data[f"best {name}"], "o", ms=5, color=COLORS["black"], zorder=4)
        ax.set(xlim=(-SPAN, SPAN), ylim=(-SPAN, SPAN), aspect="equal", xticks=[-1, 0, 1], yticks=[-1, 0, 1])
        ax.set_xlabel("$x$")
        ax.text(0.5, 1.02, title, ha="center", va="bottom", color=COLORS[color], transform=ax.transAxes)
        if name == "l1":
            ax.set_ylabel("$y$")


def numbers(data):
    ends = {
        name: np.linalg.norm(data[f"path {name}"][-1] - data[f"best {name}"], axis=-1).max() * np.sqrt(2)
        for name in PANELS
    }
    return {"step": float(data["lr"]), "largest distance": float(max(ends.values()))} | {
        f"distance {name}": float(end) for name, end in ends.items()
    }


FIGURE = Figure(
    name="lion-k-phase-portraits",
    caption="",
    shows=("lion-k-contraction", "lion-k-score"),
    data=data,
    draw=draw,
    numbers=numbers,
    size=(6.5, 2.5),
)
