"""The distance of Lion-K to its constraint set falls geometrically; weight decay caps singular values at 1 / lambda."""

import numpy as np

from orthotheory import loop
from orthotheory.methods.lion_k import LionK
from orthotheory.plotting import COLORS, Figure
from orthotheory.plotting.convergence import spread_labels
from orthotheory.problems import KroneckerQuadratic, quadratic
from orthotheory.problems.solvers import projected_gradient
from orthotheory.theory.lion_k import distance_to_set

DECAY = 0.5
LINES = {
    "l1": ("sum of magnitudes", COLORS["purple"]),
    "spectral": ("spectral", COLORS["blue"]),
    "ky-fan": ("Ky Fan 2", COLORS["orange"]),
    "row-sum": ("sum of row norms", COLORS["green"]),
    "nuclear": ("nuclear", COLORS["vermilion"]),
    "l2": ("Frobenius", COLORS["gray"]),
}


def data(size):
    form = quadratic(rows=6, columns=4, left_condition=10.0, alignment="generic", seed=0)
    # The optimum lies far outside every set, so that the loss pulls outwards.
    problem = KroneckerQuadratic(form.a, form.b, 10 * form.optimum, form.start)
    direction = np.random.default_rng(50).standard_normal((6, 4))
    lr = 0.05
    out = {"rate": np.array(1 - lr * DECAY)}
    for name in LINES:
        method = LionK(name, lr=lr, weight_decay=DECAY)
        start = direction * 10 / (DECAY * float(method.norm.value(direction)))
        trace = loop.run(problem, method, 240, record=("iterate",), start=start)
        distance = distance_to_set(trace)
        out["k"], out[f"distance {name}"] = trace.k, distance / distance[0]
    return out | spectrum(size)


def spectrum(size):
    """Singular values of W under K = nuclear norm; some start above 1 / lambda, some below."""
    lr, steps = (0.02, 600) if size == "smoke" else (0.005, 2400)
    problem = quadratic(rows=6, columns=6, left_condition=3.0, alignment="generic", seed=4)
    u, _, vh = np.linalg.svd(np.random.default_rng(3).standard_normal((6, 6)))
    start = u * (np.array([5.0, 3.6, 2.4, 1.5, 0.7, 0.2]) / DECAY) @ vh
    method = LionK("nuclear", lr=lr, weight_decay=DECAY)
    trace = loop.run(problem, method, steps, record=("iterate", "weight_norm"), start=start)
    best = projected_gradient(problem, method.k.ball, 1 / DECAY)
    shrink = (1 - lr * DECAY) ** trace.k
    return {
        "time": lr * trace.k, "singular values": np.linalg.svd(trace["iterate"], compute_uv=False) * DECAY,
        "best": np.linalg.svd(best.x, compute_uv=False) * DECAY,
        "cap": 1 + shrink * (trace["weight_norm"][0] * DECAY - 1),
        "lr": np.array(lr),
    }  # fmt: skip


def draw(data, fig):
    left, right = fig.subplots(1, 2, width_ratios=(1, 1.1))
    k, floor = data["k"], 2e-4
    for name, (_, color) in LINES.items():
        left.plot(k, np.maximum(data[f"distance {name}"], floor / 10), color=color)
    bound = data["rate"] ** k
    left.plot(k, bound, color=COLORS["black"], ls=(0, (4, 2)), lw=0.9)
    left.annotate(r"$(1-\eta\lambda)^k$", (k[120], bound[120]), (5, 3), textcoords="offset points", fontsize=8)
    left.set(yscale="log", xlabel="step $k$", ylim=(floor, 1.2), xlim=(0, k[-1]))
    left.set_ylabel("distance to the set, over the first")
    label, color = LINES["l2"]
    left.text(140, 3.5e-4, f"{label}:\nenters the set", color=color, fontsize=8, ha="right", va="center")
    rest = [name for name in LINES if name != "l2"]
    fig.canvas.draw()
    ends = [data[f"distance {name}"][-1] for name in rest]
    spread_labels(left, ends, [LINES[name][0] for name in rest], [LINES[name][1] for name in rest], gap=0.075)

    t, color = data["time"], COLORS["vermilion"]
    right.axhline(1, color=COLORS["gray"], lw=0.7)
    right.plot(t, data["singular values"], color=color, lw=1.1)
    right.plot(t, data["cap"], color=color, ls=(0, (4, 2)), lw=0.9)
    right.plot(np.full(6, t[-1]), data["best"], "o", color=COLORS["black"], ms=3, clip_on=False, zorder=5)
    i = len(t) // 6
    right.annotate(
        "bound of the largest", (t[i], data["cap"][i]), (5, 3), textcoords="offset points", color=color, fontsize=8
    )
    right.annotate(
        "dots: the constrained\nminimum", (t[-1], 1.15), (0, 4), textcoords="offset points", ha="right", fontsize=8
    )
    right.set(xlabel=r"time $\eta k$", ylabel=r"$\lambda\,\sigma_i(W_k)$", xlim=(0, t[-1]), ylim=(-0.1, 5.1))


def numbers(data):
    ratio = {name: float((data[f"distance {name}"] / data["rate"] ** data["k"])[-1]) for name in LINES}
    miss = np.abs(data["singular values"][-1] - data["best"]).max()
    return {
        "steps": int(data["k"][-1]),
        "tightest": max(ratio.values()),
        "enters at": int(np.argmax(data["distance l2"] == 0)),
        "inverse lr": round(1 / float(data["lr"])),
        "largest miss": float(miss),
    }


FIGURE = Figure(
    name="lion-k-distance",
    caption=(
        r"Theorem \texttt{lion-k-contraction}. Left: Frobenius distance of discrete Lion-K to its constraint set, "
        r"$1/\lambda$ times the dual ball of $K$, for six norms $K$, each divided by its first value; the minimum of the loss "
        r"lies far outside every set, so that the loss pulls outwards. The bound (dashed) does not depend on the loss, and "
        r"for the sum of magnitudes the distance after \result{lion-k-distance}{steps} steps is still "
        r"\result{lion-k-distance}{tightest} of it, at the same rate. Right: the six singular values of a matrix "
        r"under $K$ = nuclear norm (Muon with weight decay, $\eta=1/\result{lion-k-distance}{inverse lr}$). The largest stays below "
        r"$1/\lambda$ plus $(1-\eta\lambda)^k$ times its first excess (dashed, by the same induction); those that the loss would make larger end on it, the others at "
        r"their values in the constrained minimum (dots, by projected gradient), here up to "
        r"\result{lion-k-distance}{largest miss} of $1/\lambda$."
    ),
    shows=("lion-k-contraction",),
    data=data,
    draw=draw,
    numbers=numbers,
    size=(6.5, 2.6),
)
