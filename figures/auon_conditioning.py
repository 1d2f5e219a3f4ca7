"""AuON beside Muon: condition numbers before and after, and its trajectory on top of momentum SGD."""

import numpy as np

from orthotheory import loop, norms
from orthotheory.claims.auon import condition_number, ill_conditioned_matrices
from orthotheory.methods import AuON, HeavyBall, Muon
from orthotheory.methods.auon import auon_direction
from orthotheory.plotting import COLORS, Figure
from orthotheory.polar import MUON_JORDAN, polar_factor
from orthotheory.problems import quadratic

LR = 0.5


class _NesterovSGD(HeavyBall):
    """W <- W - lr (beta M + (1 - beta) G) with the averaged M: AuON's package without the cosh."""

    def update(self, w, grad, state):
        m = self.momentum * state.momentum + (1 - self.momentum) * grad
        return w - self.lr * (self.momentum * m + (1 - self.momentum) * grad), self.State(m)


def data(size):
    matrices = ill_conditioned_matrices(30 if size == "smoke" else 200, seed=5)
    updates = {"AuON": auon_direction, "Muon": lambda g: polar_factor(g, MUON_JORDAN), "polar factor": polar_factor}
    out = {name: np.array([condition_number(update(g)) for g in matrices]) for name, update in updates.items()}
    out["before"] = np.array([condition_number(g) for g in matrices])
    problem = quadratic(rows=32, columns=32, left_condition=100.0, alignment="generic", seed=0)
    methods = {
        "AuON package": AuON(lr=LR, variant="package"),
        "momentum SGD": _NesterovSGD(lr=LR, momentum=0.95),
        "Muon": Muon(lr=0.1),
    }
    for name, method in methods.items():
        trace = loop.run(problem, method, 100 if size == "smoke" else 500, record=("gap", "iterate"))
        out[f"gap {name}"], out[f"iterate {name}"] = trace["gap"], trace["iterate"]
        out["k"] = trace.k
    distance = norms.Frobenius().value(out.pop("iterate AuON package") - (sgd := out.pop("iterate momentum SGD")))
    out["departure"] = distance / norms.Frobenius().value(sgd - sgd[:1] + 1e-300)
    out.pop("iterate Muon")
    return out


def draw(data, fig):
    left, right = fig.subplots(1, 2)
    before = data["before"]
    left.plot([5, 1e6], [5, 1e6], color=COLORS["gray"], lw=0.7)
    left.annotate(
        "unchanged",
        (2e3, 2e3),
        (-4, 3),
        textcoords="offset points",
        rotation=37,
        fontsize=8,
        color=COLORS["gray"],
        ha="center",
    )
    left.plot(before, data["AuON"], "o", ms=2.5, color=COLORS["blue"], mew=0)
    left.plot(before, data["Muon"], "s", ms=2.5, color=COLORS["vermilion"], mew=0)
    left.plot(before, data["polar factor"], "^", ms=2.5, color=COLORS["orange"], mew=0)
    for text, y, color in (("AuON", 8e5, "blue"), ("Muon", 2e3, "vermilion"), ("polar factor", 1.25, "orange")):
        left.annotate(text, (1.1e6, y), color=COLORS[color], fontsize=8, annotation_clip=False, va="center")
    left.set(
        xscale="log", yscale="log", xlabel=r"condition number of the momentum", ylabel="condition number\nof the update"
    )
    k = data["k"]
    right.plot(k, data["gap momentum SGD"], color=COLORS["black"], lw=3.5, alpha=0.3)
    right.plot(k, data["gap AuON package"], color=COLORS["blue"], lw=1.1)
    right.plot(k, data["gap Muon"], color=COLORS["vermilion"])
    right.text(
        0.27, 0.86, "AuON (package)\non momentum SGD", color=COLORS["blue"], fontsize=8, transform=right.transAxes
    )
    right.annotate(
        "Muon",
        (k[-1], data["gap Muon"][-1]),
        (-2, 9),
        textcoords="offset points",
        color=COLORS["vermilion"],
        fontsize=8,
        ha="right",
    )
    right.set(yscale="log", xlabel="step", ylabel="$f-f^*$")


def numbers(data):
    return {"largest departure": float(data["departure"][1:].max())}


FIGURE = Figure(
    name="auon-conditioning",
    caption=(
        r"Claim \texttt{auon-reconditions}, refuted. Left: condition number of the update against that of the momentum, for "
        r"random ill-conditioned matrices. AuON multiplies by a scalar and leaves it unchanged to rounding; Muon's five "
        r"Newton-Schulz steps lower it, the exact polar factor makes it 1. Right: on a $32\times32$ quadratic the package's "
        r"AuON runs on top of momentum SGD with the same step size (gray band below): the iterates differ by at most "
        r"\result{auon-conditioning}{largest departure} of the distance traveled."
    ),
    shows=("auon-reconditions", "auon-unit-ball-paper", "auon-unit-ball-package"),
    data=data,
    draw=draw,
    numbers=numbers,
    size=(6.5, 2.6),
)
