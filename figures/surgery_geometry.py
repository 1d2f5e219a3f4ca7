"""Aggregators in the plane: updates against the cone that no objective minds, their turning under scaling, and Muon."""

import numpy as np

from orthotheory import surgery
from orthotheory.plotting import COLORS, Figure
from orthotheory.plotting.geometry import diagonal
from orthotheory.polar import polar_factor
from orthotheory.surgery.orthogonal import spectral_cone_step

RULES = {
    "mean": ("mean", COLORS["black"]),
    "upgrad": ("UPGrad", COLORS["vermilion"]),
    "mgda": ("MGDA", COLORS["blue"]),
    "config": ("ConFIG", COLORS["green"]),
}
LABELS = ((0.45, 138), (1.3e-2, 104), (85, 110), (1.3e-2, 80))
GRADIENTS = np.array([[1.35, 0.75], [-0.8, 0.6]])
CONSTRAINT, UPDATE = np.array([1.0, -3.0]), np.array([4.0, 1.0])


def data(size):
    scales = np.geomspace(1e-2, 1e2, 101 if size == "smoke" else 401)
    jacobians = np.stack([scales, np.ones_like(scales)], axis=-1)[..., None] * GRADIENTS
    out = {"gradients": GRADIENTS, "scales": scales, "projections": surgery.project(GRADIENTS, GRADIENTS).point}
    for name in RULES:
        rule = surgery.make(name)
        out[f"update {name}"] = rule(GRADIENTS)
        x = rule(jacobians)
        out[f"angle {name}"] = np.degrees(np.arctan2(x[:, 1], x[:, 0]))
    # the cone: within 90 degrees of both gradients
    angles = np.degrees(np.arctan2(GRADIENTS[:, 1], GRADIENTS[:, 0]))
    out["edges"] = np.array([angles.max() - 90, angles.min() + 90])
    matrices = diagonal(np.stack([UPDATE, CONSTRAINT]))
    step = spectral_cone_step(matrices[0], matrices[1:])
    polar = polar_factor(matrices[0])
    out |= {"polar": np.diagonal(polar), "cone step": np.diagonal(step.direction), "update": UPDATE,
            "constraint": CONSTRAINT}  # fmt: skip
    return out


def arrow(ax, tip, color, *, width=1.2, tail=(0, 0), dashed=False):
    style = {"arrowstyle": "-|>", "color": color, "lw": width, "shrinkA": 0, "shrinkB": 0, "mutation_scale": 8}
    ax.annotate("", tip, tail, arrowprops=style | ({"ls": (0, (3, 2))} if dashed else {}))


def wedge(ax, edges, radius):
    turn = np.radians(np.linspace(*edges, 50))
    rim = radius * np.stack([np.cos(turn), np.sin(turn)], axis=-1)
    ax.fill(*np.vstack([[0, 0], rim]).T, color=COLORS["green"], alpha=0.13, lw=0)


def draw(data, fig):
    left, middle, right = fig.subplots(1, 3, width_ratios=[1.25, 1.05, 1.2])
    wedge(left, data["edges"], 3)
    for i, (g, p) in enumerate(zip(data["gradients"], data["projections"], strict=True)):
        arrow(left, g, COLORS["gray"], width=1.5)
        left.plot(*np.stack([g, p]).T, color=COLORS["gray"], lw=0.7, ls=":")
        left.plot(*p, "o", ms=2.5, color=COLORS["vermilion"])
        left.text(*(1.07 * g + [0, 0.02]), f"$g_{i + 1}$", color=COLORS["gray"], ha="center", va="bottom")
    for name, (_, color) in RULES.items():
        arrow(left, data[f"update {name}"], color)
    left.set(xlim=(-0.95, 1.5), ylim=(-0.1, 1.45), aspect="equal", xticks=[], yticks=[])
    left.text(-0.5, 1.3, r"$Jx\geq0$", color=COLORS["green"], ha="center")
    left.spines[["left", "bottom"]].set_visible(False)

    middle.axhspan(*data["edges"], color=COLORS["green"], alpha=0.13, lw=0)
    for name, (_, color) in RULES.items():
        middle.plot(data["scales"], data[f"angle {name}"], color=color)
    middle.set(xscale="log", xlim=(1e-2, 1e2), ylim=(20, 155), yticks=[45, 90, 135])
    middle.set(xlabel="scale of $g_1$", ylabel="direction, degrees")
    for (x, y), (label, color), ha in zip(LABELS, RULES.values(), ("left", "left", "right", "left"), strict=True):
        middle.text(x, y, label, color=color, fontsize=8, ha=ha, va="center")

    edge = np.degrees(np.arctan2(data["constraint"][0], -data["constraint"][1]))
    wedge(right, (edge - 180, edge), 3)
    square = np.array([[1, 1], [-1, 1], [-1, -1], [1, -1], [1, 1]])
    right.plot(*square.T, color=COLORS["gray"], lw=0.9)
    arrow(right, data["update"] / data["update"].max() * 1.25, COLORS["black"])
    arrow(right, data["polar"], COLORS["orange"], width=1.5)
    arrow(right, data["cone step"], COLORS["vermilion"], width=1.5)
    arrow(right, 0.35 * data["constraint"], COLORS["gray"], width=1.5)
    right.text(0.98, 1.04, r"$\mathrm{polar}\,M$", color=COLORS["orange"], ha="right", va="bottom")
    right.text(1.28, 0.3, "$M$", color=COLORS["black"], va="bottom", ha="left")
    right.text(1.05, 0.62, "cone step", color=COLORS["vermilion"], va="center", ha="left", fontsize=8)
    right.text(0.42, -0.86, "$G$", color=COLORS["gray"], ha="left")
    right.text(-0.96, -0.93, "spectral ball", color=COLORS["gray"], fontsize=8, va="bottom")
    right.set(xlim=(-1.15, 1.75), ylim=(-1.15, 1.4), aspect="equal", xticks=[], yticks=[])
    right.spines[["left", "bottom"]].set_visible(False)


def numbers(data):
    inside = {n: (data[f"angle {n}"] >= data["edges"][0] - 1e-9) & (data[f"angle {n}"] <= data["edges"][1] + 1e-9)
              for n in RULES}  # fmt: skip
    return {
        "percent of mean outside": 100 * float(np.mean(~inside["mean"])),
        "percent of others outside": 100 * float(np.mean(~(inside["upgrad"] & inside["mgda"] & inside["config"]))),
        "polar": float(data["constraint"] @ data["polar"]),
        "update": float(data["constraint"] @ data["update"]),
        "second": float(data["cone step"][1]),
    }


FIGURE = Figure(
    name="surgery-geometry",
    caption=(
        r"Left: two conflicting gradients, the cone (green) of updates along which neither objective rises to first "
        r"order, the projections of the gradients on it (dots; UPGrad is their mean), and four updates. Middle: their "
        r"directions as the first gradient is scaled. The mean leaves the cone on \result{surgery-geometry}{percent of "
        r"mean outside}\% of this range; "
        r"ConFIG does not turn, UPGrad turns and stays inside, MGDA follows the shorter gradient. Right: diagonal "
        r"matrices. $M=\diag(4,1)$ does not conflict with $G=\diag(1,-3)$, $\inner GM=\result{surgery-geometry}{update}$, "
        r"but its polar factor does, $\inner G{\polar M}=\result{surgery-geometry}{polar}$; the best step of the "
        r"spectral ball that respects $G$ ends at $(1,\result{surgery-geometry}{second})$."
    ),
    shows=("polar-voids-surgery", "orthogonalize-after-surgery"),
    data=data,
    draw=draw,
    numbers=numbers,
    size=(6.5, 2.3),
)
