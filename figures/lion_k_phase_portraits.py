"""Lion-K in a plane of matrices, for three K: paths enter the constraint set and end at the constrained optimum."""

import numpy as np
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from orthotheory import loop
from orthotheory.methods.lion_k import LionK
from orthotheory.plotting import COLORS, Figure
from orthotheory.problems import KroneckerQuadratic
from orthotheory.problems.solvers import projected_gradient
from orthotheory.theory.lion_k import score

PANELS = {
    "l1": ("$K$: sum of magnitudes (Lion)", COLORS["purple"]),
    "l2": ("$K$: Frobenius norm", COLORS["blue"]),
    "nuclear": ("$K$: nuclear norm (Muon)", COLORS["vermilion"]),
}
EXCHANGE = np.array([[0.0, 1.0], [1.0, 0.0]])
DECAY, STARTS, WIDTH = 1.0, 12, 2.1


def matrices(points):
    """Return x I + y J of points (..., 2), J the exchange; every K here maps the plane of these to itself."""
    return points[..., 0, None, None] * np.eye(2) + points[..., 1, None, None] * EXCHANGE


def points(x):
    return np.stack([x[..., 0, 0], x[..., 0, 1]], axis=-1)


def circle(angles):
    return np.stack([np.cos(angles), np.sin(angles)], axis=-1)


def data(size):
    lr, steps, every = (0.005, 1200, 10) if size == "smoke" else (0.001, 12000, 40)
    curvature = np.eye(2) + 0.6 * EXCHANGE  # curvatures 1.6 along the diagonal of the plane and 0.4 across
    f = KroneckerQuadratic(curvature, np.eye(2), matrices(np.array([1.35, 0.55])), np.zeros((2, 2)))
    starts = matrices(2.0 * circle(2 * np.pi * (np.arange(STARTS) + 0.5) / STARTS))
    rays = circle(np.linspace(0, 2 * np.pi, 721))
    axis = np.linspace(-WIDTH, WIDTH, 81)
    value = f.value(matrices(np.stack(np.meshgrid(axis, axis), axis=-1)))
    out = {"axis": axis, "value": value, "optimum": points(f.optimum), "lr": np.array(lr)}
    for name in PANELS:
        method = LionK(name, lr=lr, weight_decay=DECAY, warm_start=True)
        record = ("iterate", "gradient_norm", "gradient_inner")
        trace = loop.run(f, method, steps, record=record, every=every, start=starts)
        ball = method.k.ball
        out[f"set {name}"] = rays / ball.value(matrices(rays))[:, None] / DECAY
        out[f"path {name}"] = points(trace["iterate"])
        out[f"best {name}"] = points(projected_gradient(f, ball, 1 / DECAY).x)
        out[f"score {name}"] = score(trace)[-1]
    return out


def draw(data, fig):
    levels = 0.06 * 1.9 ** np.arange(9)
    for ax, (name, (title, color)) in zip(fig.subplots(1, 3, sharey=True), PANELS.items(), strict=True):
        contours = {"levels": levels, "colors": COLORS["gray"], "linewidths": 0.35, "alpha": 0.6}
        ax.contour(data["axis"], data["axis"], data["value"], **contours)
        ax.fill(*data[f"set {name}"].T, color=color, alpha=0.2, lw=0)
        ax.plot(*data[f"set {name}"].T, color=color, lw=0.9, ls=(0, (4, 2)))
        for path in np.moveaxis(data[f"path {name}"], 1, 0):
            ax.plot(*path.T, color=color, lw=0.9)
            ax.plot(*path[0], "o", ms=2.2, color=color)
        ax.plot(*data["optimum"], "o", ms=5, mfc="w", mec=COLORS["black"], mew=1.0, zorder=4)
        ax.plot(*data[f"best {name}"], "o", ms=5, mec="w", mew=0.6, color=COLORS["black"], zorder=4)
        ax.set(xlim=(-WIDTH, WIDTH), ylim=(-WIDTH, WIDTH), aspect="equal", xticks=[-1, 0, 1], yticks=[-1, 0, 1])
        ax.set_xlabel("$x$")
        ax.set_title(title, color=color)
        if name == "l1":
            ax.set_ylabel("$y$")
    dot = {"ls": "", "marker": "o", "ms": 5}
    fig.legend(
        handles=[
            Line2D([], [], mfc="w", mec=COLORS["black"], **dot, label="minimum of $f$"),
            Line2D([], [], color=COLORS["black"], **dot, label="minimum of $f$ over the set"),
            Patch(fc=COLORS["gray"], alpha=0.4, label=r"the set, $1/\lambda$ times the dual ball of $K$"),
        ],
        loc="outside lower center",
        ncols=3,
        handletextpad=0.4,
    )


def numbers(data):
    misses = [np.linalg.norm(data[f"path {name}"][-1] - data[f"best {name}"], axis=-1).max() for name in PANELS]
    return {
        "inverse lr": round(1 / float(data["lr"])),
        "largest distance": float(np.sqrt(2) * max(misses)),  # Frobenius: each coordinate stands in two entries
        "largest score": max(float(data[f"score {name}"].max()) for name in PANELS),
    }


FIGURE = Figure(
    name="lion-k-phase-portraits",
    caption=(
        r"Discrete Lion-K among the matrices $\bigl(\begin{smallmatrix}x&y\\y&x\end{smallmatrix}\bigr)$, for one quadratic $f$ "
        r"(contours) and three $K$, from twelve starts. While the direction does not change, a path is a straight line to "
        r"$1/\lambda$ times that direction, a point of the constraint set; by theorem \texttt{lion-k-contraction} the distance "
        r"to the set falls at least like $(1-\eta\lambda)^k$. The unconstrained minimum (ring) lies outside all three sets; "
        r"with $\eta=1/\result{lion-k-phase-portraits}{inverse lr}$ all paths end within "
        r"\result{lion-k-phase-portraits}{largest distance} (Frobenius) of the constrained minimum (dot, computed by projected "
        r"gradient), with a KKT score, theorem \texttt{lion-k-score}, of at most "
        r"\result{lion-k-phase-portraits}{largest score}: at a fixed step size not at the minimum, but near it."
    ),
    shows=("lion-k-contraction", "lion-k-score"),
    data=data,
    draw=draw,
    numbers=numbers,
    size=(6.5, 2.85),
)
