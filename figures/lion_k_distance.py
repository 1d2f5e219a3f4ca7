"""The distance of Lion-K to its constraint set falls geometrically; weight decay caps the singular values at 1 / lambda."""

import numpy as np

from orthotheory import convex, loop
from orthotheory.methods.lion_k import LionK
from orthotheory.plotting import COLORS, Figure
from orthotheory.problems import quadratic
from orthotheory.problems.solvers import projected_gradient
from orthotheory.theory.lion_k import distance_to_set

LR, DECAY = 0.05, 0.5
LINES = {
    "l1": ("l1", "purple"),
    "row-sum": ("row sum", "green"),
    "l2": ("l2", "black"),
    "nuclear": ("nuclear", "vermilion"),
    "ky-fan": ("Ky Fan 2", "orange"),
    "spectral": ("spectral", "blue"),
}


def data(size):
    problem = quadratic(rows=6, columns=4, alignment="generic", seed=1)
    out = {"rate": np.array(1 - LR * DECAY)}
    for name in LINES:
        method = LionK(name, lr=LR, weight_decay=DECAY)
        start = -problem.optimum * 10 / (DECAY * float(method.norm.value(problem.optimum)))
        trace = loop.run(problem, method, 300, record=("iterate",), start=start)
        distance = distance_to_set(trace)
        out["k"], out[f"distance {name}"] = trace.k, distance / distance[0]
    return out | spectrum(size)


def spectrum(size):
    """Singular values of W under K = nuclear norm: some start above 1 / lambda, some below."""
    rng = np.random.default_rng(3)
    problem = quadratic(rows=6, columns=6, left_condition=3.0, alignment="generic", seed=4)
    u, _, vh = np.linalg.svd(rng.standard_normal((6, 6)))
    start = u * (np.array([5.0, 3.6, 2.4, 1.5, 0.7, 0.2]) / DECAY) @ vh
    method = LionK("nuclear", lr=0.01, weight_decay=DECAY)
    trace = loop.run(problem, method, 2000, record=("iterate",), every=5, start=start)
    best = projected_gradient(problem, method.k.ball, 1 / DECAY)
    return {
        "steps": trace.k, "singular values": np.linalg.svd(trace["iterate"], compute_uv=False),
        "singular values of the optimum": np.linalg.svd(best.x, compute_uv=False),
        "cap": 1 / DECAY + (1 - 0.01 * DECAY) ** trace.k * 4.0 / DECAY,
    }  # fmt: skip


def draw(data, fig):
    left, right = fig.subplots(1, 2)
    for name, (label, color) in LINES.items():
        y = data[f"distance {name}"]
        left.plot(data["k"], np.where(y > 1e-12, y, np.nan), color=COLORS[color], label=label)
    left.plot(data["k"], data["rate"] ** data["k"], color="k", ls=(0, (4, 2)), lw=0.9)
    left.legend()
    left.set(yscale="log", xlabel="step $k$", ylim=(1e-4, 1.3))
    right.plot(data["steps"], data["singular values"], color=COLORS["vermilion"])
    right.plot(data["steps"], data["cap"], color="k", ls=(0, (4, 2)), lw=0.9)
    right.axhline(1 / DECAY, color="gray")
    right.plot(np.full(6, data["steps"][-1]), data["singular values of the optimum"], "o", color="k", ms=3)


FIGURE = Figure(
    name="lion-k-distance",
    caption="",
    shows=("lion-k-contraction",),
    data=data,
    draw=draw,
    size=(6.5, 2.5),
)
