"""Trajectories of aggregated descent: to a curved Pareto set, under bounds, where MGDA stops, and how units matter."""

import numpy as np

from orthotheory import loop, surgery
from orthotheory.methods import GradientDescent, Surgery
from orthotheory.plotting import COLORS, Figure
from orthotheory.plotting.convergence import draw_bounded
from orthotheory.problems import Quadratics, fonseca, pareto_quadratics, squares
from orthotheory.surgery.limits import scale_curve
from orthotheory.theory.surgery import (
    RECORD,
    largest_smoothness,
    mgda_bound,
    root_mean_square,
    total_smoothness,
    upgrad_bound,
)

RULES = {
    "mean": ("mean", COLORS["black"]),
    "upgrad": ("UPGrad", COLORS["vermilion"]),
    "mgda": ("MGDA", COLORS["blue"]),
}
STARTS = np.array([[-1.9, -1.3], [1.9, 1.6], [-0.6, 1.8]])
CORNERS = np.array([[1.6, 0.35], [0.5, 1.7], [-1.5, 1.2], [-1.2, -0.5], [1.3, -1.3]])
SCALED = RULES | {"config": ("ConFIG", COLORS["green"]), "nash-mtl": ("Nash-MTL", COLORS["purple"])}
SHARE = 0.02  # scale of the second objective


def two_quadratics():
    """Two quadratics of unequal scale whose Pareto set is a curve."""
    curvatures = np.array([np.diag([1.0, 0.12]), SHARE * np.diag([0.15, 1.0])])
    centers = np.array([[[-1.0], [-0.8]], [[1.0], [0.8]]])
    return Quadratics(curvatures, centers, np.zeros((2, 1)))


def data(size):
    steps = 2000 if size == "smoke" else 6000
    problem = two_quadratics()
    t = np.linspace(0, 1, 301)
    axis = np.linspace(-2.2, 2.2, 121)
    plane = np.stack(np.meshgrid(axis, axis), axis=-1)[..., None]
    out = {
        "axis": axis,
        "values": problem.values(plane),
        "pareto": problem.pareto_point(np.stack([t, 1 - t], -1))[..., 0],
    }
    for name in RULES:
        method = Surgery(surgery.make(name), GradientDescent(lr=1.0))
        trace = loop.run(problem, method, steps, record=("iterate",), every=4, start=STARTS[..., None])
        out[f"path {name}"] = trace["iterate"][..., 0]
        out[f"distance {name}"] = problem.pareto_distance(trace["iterate"][-1])
        edge = squares(size=2, scale_ratio=3.0)
        method = Surgery(surgery.make(name), GradientDescent(lr=0.2))
        trace = loop.run(edge, method, 400, record=("iterate",), start=CORNERS[..., None])
        out[f"corner {name}"] = trace["iterate"][..., 0]
    slow = fonseca(size=4, seed=1)
    slow.start = slow.start + 0.8 * np.array([[1.0], [-1.0], [1.0], [-1.0]])  # far out, where the bells are flat
    count = 200 if size == "smoke" else 2000
    for name, lr, bound in (
        ("upgrad", 1 / total_smoothness(slow), upgrad_bound), ("mgda", 1 / largest_smoothness(slow), mgda_bound),
    ):  # fmt: skip
        trace = loop.run(slow, Surgery(surgery.make(name), GradientDescent(lr=lr)), count, record=RECORD)
        out[f"mean square {name}"], out[f"bound {name}"] = root_mean_square(trace), bound(trace)[0]
    out["k"] = np.arange(1, count + 1)
    out["factors"] = np.geomspace(0.1, 10, 9 if size == "smoke" else 21)
    for name in SCALED:  # Nash-MTL's steps of fixed length never settle, and do not depend on the factor either
        count = 50 if name == "nash-mtl" else 400 if size == "smoke" else 1500
        curve = scale_curve(
            surgery.make(name), pareto_quadratics(rows=2, condition=4.0, seed=3), out["factors"], steps=count
        )
        out[f"moved {name}"], out[f"rest {name}"] = curve.moved, curve.distance
    return out


def draw(data, fig):
    (left, middle), (right, last) = fig.subplots(2, 2)
    for i in range(2):
        levels = data["values"][..., i].max() * 0.5 ** np.arange(1, 8)[::-1]
        left.contour(data["axis"], data["axis"], data["values"][..., i], levels=levels, colors=COLORS["gray"],
                     linewidths=0.3, alpha=0.5)  # fmt: skip
    left.plot(*data["pareto"].T, color=COLORS["green"], lw=3.5, alpha=0.45, solid_capstyle="round")
    for name, (label, color) in RULES.items():
        for path in np.moveaxis(data[f"path {name}"], 1, 0):
            left.plot(*path.T, color=color, lw=1.0)
            left.plot(*path[-1], "o", ms=4, mec="w", mew=0.5, color=color, zorder=4)
        left.plot([], [], color=color, label=label)
    left.plot(*STARTS.T, "o", ms=3, mfc="w", mec=COLORS["black"], mew=0.8, ls="", zorder=5)
    left.set(xlim=(-2.2, 2.2), ylim=(-2.2, 2.2), aspect="equal", xticks=[-2, 0, 2], yticks=[-2, 0, 2])
    left.legend(loc="lower right", handlelength=1.2, borderaxespad=0.1, labelspacing=0.15)

    for name, height, va in (("upgrad", 1.15, "bottom"), ("mgda", 0.85, "top")):
        label, color = RULES[name]
        draw_bounded(middle, data["k"], data[f"mean square {name}"], data[f"bound {name}"], color)
        middle.text(1.3, height * data[f"mean square {name}"][0], label, color=color, fontsize=8, va=va)
    middle.set(xscale="log", yscale="log", xlabel="steps $K$", xlim=(1, data["k"][-1]), ylim=(6e-3, None))
    middle.set_ylabel(r"$(\frac{1}{K}\sum\|d_k\|^2)^{1/2}$")

    right.axhline(0, color=COLORS["green"], lw=0.7, ls=":")
    right.axvline(0, color=COLORS["green"], lw=0.7, ls=":")
    for name, (_, color) in RULES.items():
        for path in np.moveaxis(data[f"corner {name}"], 1, 0):
            right.plot(*path.T, color=color, lw=1.0)
            right.plot(*path[-1], "o", ms=4, mec="w", mew=0.5, color=color, zorder=4)
    right.plot(*CORNERS.T, "o", ms=3, mfc="w", mec=COLORS["black"], mew=0.8, ls="", zorder=5)
    right.set(xlim=(-2, 2), ylim=(-2, 2), aspect="equal", xticks=[-2, 0, 2], yticks=[-2, 0, 2])

    for name, (label, color) in SCALED.items():
        last.plot(data["factors"], data[f"moved {name}"], color=color, lw=1.2, label=label)
    last.set(xscale="log", xlabel="factor of the first objective", ylabel="the end point moves by")
    last.legend(loc="upper center", ncols=2, handlelength=1.2, columnspacing=0.8, labelspacing=0.15)
    last.set_ylim(-0.05, 1.35 * max(data[f"moved {name}"].max() for name in SCALED))


def numbers(data):
    ends = {name: np.linalg.norm(data[f"corner {name}"][-1], axis=-1) for name in RULES}
    ratio = {name: float((data[f"mean square {name}"] / data[f"bound {name}"]).max()) for name in ("upgrad", "mgda")}
    return {
        "scale": 1 / SHARE,
        "largest final distance": max(float(data[f"distance {name}"].max()) for name in RULES),
        "least rest of mgda": float(ends["mgda"].min()),
        "largest rest of upgrad": float(ends["upgrad"].max()),
        "tightest upgrad": ratio["upgrad"],
        "tightest mgda": ratio["mgda"],
        "config moves": float(data["moved config"].max()),
        "mgda moves": float(data["moved mgda"].max()),
    }


FIGURE = Figure(
    name="surgery-trajectories",
    caption=(
        r"Top left: gradient descent along three aggregates from three starts (rings), on two quadratics (contours) of which "
        r"the second is \result{surgery-trajectories}{scale} times smaller; all end on the Pareto set (green), the mean "
        r"near the minimizer of the large one, MGDA near that of the small one. Top right: root mean square of the updates on "
        r"a pair of non-convex bells, below the bounds of theorems \texttt{upgrad-rate} and \texttt{mgda-rate} (dashed), at "
        r"most \result{surgery-trajectories}{tightest upgrad} and \result{surgery-trajectories}{tightest mgda} of them. "
        r"Bottom left: element-wise squares, whose only Pareto point is the origin. On the axes one gradient vanishes, and MGDA "
        r"stops there, at least \result{surgery-trajectories}{least rest of mgda} away; UPGrad, here equal to the mean, comes "
        r"within \result{surgery-trajectories}{largest rest of upgrad}. Bottom right: how far the end point moves along the "
        r"Pareto set of two quadratics when the first is measured in another unit: up to "
        r"\result{surgery-trajectories}{mgda moves} with MGDA, \result{surgery-trajectories}{config moves} with ConFIG, and "
        r"not at all with Nash-MTL, whose update does not depend on row scales."
    ),
    shows=("upgrad-rate", "mgda-rate", "mgda-reaches-pareto"),
    data=data,
    draw=draw,
    numbers=numbers,
    size=(6.5, 5.0),
)
