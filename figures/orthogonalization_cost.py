"""Error against cost for every algorithm, in exact arithmetic, with what no plan of products can do."""

import numpy as np

from orthotheory.plotting import COLORS, Figure
from orthotheory.polar import MUON_QUINTIC, newton_schulz, polar_express
from orthotheory.polar.cost import COUNTS
from orthotheory.polar.lower_bound import error_bound, smallest_degree
from orthotheory.polar.plan import image
from orthotheory.polar.sequences import DEGREES, NEWTON, POLES, cheapest, reach
from orthotheory.polar.zolotarev import SMALLEST_QR_FREE_POLE, zolotarev, zolotarev_error, zolotarev_image

LOW, ASPECTS = 1e-3, (1, 4)
LEAST = 1e-16
# One QDWH step: QR of a 2n x n matrix, 26/6 products by operation count; or Gram matrix, Cholesky, two solutions.
QR_STEP, GRAM_STEP = 13 / 3, COUNTS.symmetric + 1 / 6 + 1
PUBLISHED = {
    "Newton-Schulz": newton_schulz(16, 5).coefficients,
    "Muon": MUON_QUINTIC.coefficients[:1] * 9,
    "Polar Express": polar_express(9).coefficients,
}
OPTIMAL = {"optimal\nquintics": 5, "degree\n9": 9, "degree\n17": 17}


def published(rows):
    """Return the largest |1 - p| after each step of a table, from exact images."""
    ends = [image(rows[:k], LOW, 1.0) for k in range(1, len(rows) + 1)]
    return [max(1 - low, high - 1) for low, high in ends]


def greedy(kind):
    """Return the errors of equal optimal steps until they are below `LEAST`."""
    floor, error = 2 * LOW / (1 + LOW), (1 - LOW) / (1 + LOW)
    errors = []
    while not errors or errors[-1] > LEAST:
        floor, error = reach(kind, floor, error)
        errors.append(error)
    return errors


def direct(degree, steps, aspect):
    """Return the costs of 1, 2, ... direct steps of one degree."""
    return [COUNTS.composed(k * COUNTS.inner(degree), k, k, 0, aspect) for k in range(1, steps + 1)]


def qdwh(aspect):
    """Return costs and errors of QDWH's steps: by QR while the pole is small, then by Cholesky."""
    cost = 2 * aspect * COUNTS.factorization if aspect > 1 else 0.0
    low, costs, errors = LOW, [], []
    while not errors or errors[-1] > LEAST:
        cost += QR_STEP if zolotarev(1, low).poles[0] < SMALLEST_QR_FREE_POLE else GRAM_STEP
        loss = zolotarev_error(3, low)
        costs.append(cost)
        errors.append(loss / (2 - loss))
        low = zolotarev_image(3, low)
        if low == 1:
            break
    return costs, errors


def frontier(kinds, aspect):
    """Return costs and errors of the cheapest plans of given kinds of steps, any blocks, for falling targets."""
    points = {}
    for target in np.geomspace(0.9, 1e-15, 91):
        cost, _, reached = min(cheapest(LOW, target, aspect, COUNTS, kinds), key=lambda o: (o[0], o[2].error))
        points[cost] = min(reached.error, points.get(cost, 1.0))
    costs = sorted(points)
    return costs, np.minimum.accumulate([points[c] for c in costs])


def data(size):
    out = {}
    for aspect in ASPECTS:
        lines = {name: (direct(5, len(rows), aspect), published(rows)) for name, rows in PUBLISHED.items()}
        for name, degree in OPTIMAL.items():
            errors = greedy(degree)
            lines[name] = direct(degree, len(errors), aspect), errors
        newton = greedy(NEWTON)
        lines["Newton"] = [COUNTS.composed(k, 0, 0, k, aspect) for k in range(1, len(newton) + 1)], newton
        lines["QDWH"] = qdwh(aspect)
        lines["best polynomial plan"] = frontier(DEGREES, aspect)
        lines["best plan, Zolotarev steps too"] = frontier((*DEGREES, *POLES), aspect)
        lines["SVD"] = [COUNTS.svd * aspect], [2.0**-52]
        products = np.arange(0, 16)
        lines["bound"] = (
            aspect * (1 + COUNTS.symmetric) + COUNTS.symmetric * products,
            [error_bound(2**m, LOW) for m in products],
        )
        for name, (costs, errors) in lines.items():
            out[f"{name} {aspect}"] = np.array([costs, np.maximum(errors, 1e-17)])
    # what is left to win: inner products of the best plan over those that are proven necessary
    targets = np.array([1e-1, 1e-2, 1e-4, 1e-8])
    best = [min(cheapest(LOW, t, 1.0, COUNTS, DEGREES, blocks=1), key=lambda o: o[0])[0] for t in targets]
    used = (np.array(best) - 1 - COUNTS.symmetric) / COUNTS.symmetric
    out["targets"] = np.array([targets, used, [smallest_degree(LOW, error=t).inner_products for t in targets]])
    return out


# Color, dashes, and where the label stands: panel, cost, error, alignment.
LOOK = {
    "Newton-Schulz": ("gray", "-", (0, 18.4, 3e-3, "center")),
    "Muon": ("vermilion", "-", (1, 52.0, 0.08, "center")),
    "Polar Express": ("orange", "-", (1, 49.0, 1e-9, "left")),
    "optimal\nquintics": ("sky", "-", (1, 36.3, 3e-6, "center")),
    "degree\n9": ("blue", "--", (1, 37.0, 1e-11, "left")),
    "degree\n17": ("blue", ":", (1, 23.3, 3e-12, "center")),
    "QDWH": ("green", ":", (1, 20.3, 1e-14, "left")),
    "SVD": ("black", "", (1, 45.0, 3e-16, "left")),
}
LISTED = {
    "best polynomial plan": ("blue", "-"),
    "best plan, Zolotarev steps too": ("green", "-"),
    "Newton": ("green", "--"),
}
DASHED = (0, (4, 2))


def draw(data, fig):
    from matplotlib.lines import Line2D

    axes = fig.subplots(1, 2, sharey=True, width_ratios=(1, 1.4))
    for ax, aspect, right in zip(axes, ASPECTS, (30, 66), strict=True):
        costs, errors = data[f"bound {aspect}"]
        ax.fill_between(costs, errors, 1e-17, step="post", color=COLORS["gray"], alpha=0.15, lw=0)
        ax.step(costs, errors, where="post", color=COLORS["black"], ls=DASHED, lw=0.9)
        for name, (color, ls, *_) in (LOOK | LISTED).items():
            costs, errors = data[f"{name} {aspect}"]
            look = {"lw": 0.9, "marker": "o", "ms": 2}
            if name.startswith("best"):
                look = {"lw": 1.8, "drawstyle": "steps-post"}
            ax.plot(costs, errors, ls=ls, color=COLORS[color], **look)
        ax.set(yscale="log", xlim=(0, right), ylim=(1e-16, 1.5), xlabel=f"cost in products, aspect {aspect}")
    for name, (color, _, (panel, cost, error, align)) in LOOK.items():
        axes[panel].text(cost, error, name, color=COLORS[color], fontsize=7.5, ha=align, va="center")
    handles = [Line2D([], [], color=COLORS[c], ls=ls, lw=1.8 if "best" in n else 0.9) for n, (c, ls) in LISTED.items()]
    handles.append(Line2D([], [], color=COLORS["black"], ls=DASHED, lw=0.9))
    fig.legend(handles, [*LISTED, "bound for products alone"], loc="outside lower center", ncols=4, fontsize=7.5)
    axes[0].set_ylabel(r"largest $|1-p|$ on $[10^{-3},1]$")


def numbers(data):
    _, used, needed = data["targets"]
    return {"least excess": float((used / needed).min()), "largest excess": float((used / needed).max())}


FIGURE = Figure(
    name="orthogonalization-cost",
    caption=(
        r"Worst error from $[10^{-3},1]$ against cost, in exact arithmetic and by operation counts (a product of which the "
        r"result is symmetric counts one half). Left: square matrices; right: four times as long as wide, where composing "
        r"steps on the Gram matrix is what saves. Iterations are drawn step by step as published or applied directly; thick "
        r"lines are the cheapest plans over all sequences of steps and restarts. No plan of products alone enters the gray "
        r"region (Theorem \texttt{polynomial-lower-bound}); the best ones use \result{orthogonalization-cost}{least excess} to "
        r"\result{orthogonalization-cost}{largest excess} times the inner products that are necessary. Operation counts are "
        r"not time: an inverse or an SVD costs more than it counts."
    ),
    shows=("polynomial-lower-bound", "greedy-composition"),
    data=data,
    draw=draw,
    numbers=numbers,
    size=(6.5, 3.6),
)
