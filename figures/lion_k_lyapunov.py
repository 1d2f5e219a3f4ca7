"""The Lyapunov function of the Lion-K flow falls while the loss rises, and its fall is two nonnegative terms."""

import numpy as np

from orthotheory import convex
from orthotheory.plotting import COLORS, Figure
from orthotheory.problems import quadratic
from orthotheory.theory.lion_k_flow import LionKFlow, lyapunov_slope

END = 4.0


def data(size):
    problem = quadratic(rows=3, columns=2, left_condition=4.0, alignment="generic", seed=1)
    flow = LionKFlow(problem, convex.make("sqrt-nuclear"))
    x0 = np.random.default_rng(1).standard_normal((3, 2))
    x0 *= 0.5 / (flow.weight_decay * float(flow.k.ball.value(x0)))
    # The momentum starts uphill, so that the loss rises first.
    trace = flow.integrate(x0, 2 * problem.grad(x0), np.linspace(0, END, 4001))
    every = 10
    first, second = flow.dissipation(trace.x, trace.m)
    slope, rise = lyapunov_slope(trace), np.diff(trace.lyapunov).max()
    return {
        "t": trace.t[::every], "lyapunov": trace.lyapunov[::every], "value": trace.value[::every],
        "first": first[::every], "second": second[::every], "t slope": trace.t[3:-3][::every],
        "slope": slope[::every], "error": np.abs(slope - (first + second)[3:-3]).max(), "rise of H": rise,
    }  # fmt: skip


def draw(data, fig):
    left, right = fig.subplots(1, 2)
    t, h, f = data["t"], data["lyapunov"], data["value"]
    top = int(np.argmax(f))
    left.axvspan(0, t[top], color=COLORS["vermilion"], alpha=0.1, lw=0)
    left.plot(t, h, color=COLORS["blue"])
    left.plot(t, f, color=COLORS["vermilion"])
    left.annotate("$H$", (0.12, h[0]), (3, 0), textcoords="offset points", color=COLORS["blue"], va="center")
    left.annotate(
        r"$\alpha f$", (0.04, f[0]), (7, -6), textcoords="offset points", color=COLORS["vermilion"], va="center"
    )
    left.annotate(
        "the loss rises,\n$H$ falls", (t[top], h[0]), (18, -2), textcoords="offset points", va="top", fontsize=8,
        color=COLORS["vermilion"],
    )  # fmt: skip
    left.set(xlabel="time $t$", ylabel=r"$H$ and $\alpha f$", xlim=(0, END), xticks=range(5))
    right.stackplot(t, data["first"], data["second"], colors=[COLORS["sky"], COLORS["orange"]], lw=0, alpha=0.6)
    right.plot(data["t slope"], data["slope"], color=COLORS["blue"], ls=(0, (4, 2)), lw=1.1)
    right.set(xlabel="time $t$", ylabel="rate of fall of $H$", xlim=(0, END), ylim=(0, None), xticks=range(5))
    labels = (
        (r"$-dH/dt$, difference quotient", (0.62, 3.25), (1.25, 3.2), COLORS["blue"]),
        (r"$\frac{c}{\varepsilon}\,\langle T-M,\nabla K(T)-\nabla K(M)\rangle$", (0.75, 1.9), (1.25, 2.35), "#946600"),
        (
            r"$\frac{\gamma+\lambda}{1+\varepsilon\lambda}\,\langle T-Y,\nabla K(T)-\nabla K(Y)\rangle$",
            (1.15, 0.45), (1.55, 1.25), "#1f6fa3",
        ),
    )  # fmt: skip
    for text, at, place, color in labels:
        line = {"arrowstyle": "-", "color": color, "lw": 0.6, "shrinkA": 1, "shrinkB": 0, "relpos": (0, 0.4)}
        right.annotate(text, at, place, color=color, fontsize=8, va="center", arrowprops=line)


def numbers(data):
    rise = data["value"].max() - data["value"][0]
    return {
        "rise of the loss": float(rise),
        "share of the rise": 100 * float(rise / data["value"][0]),
        "error": float(data["error"]),
    }


FIGURE = Figure(
    name="lion-k-lyapunov",
    caption=(
        r"The Lion-K flow with a smoothed nuclear norm, started inside the constraint set with a momentum that points "
        r"uphill. Left: the loss $\alpha f$ rises by \result{lion-k-lyapunov}{share of the rise}\% at first "
        r"(shaded), while $H$ falls throughout, theorem \texttt{lion-k-lyapunov}; $H$ may be "
        r"negative since $K^*$ is. Right: the rate of this fall (dashed, a sixth-order difference quotient of $H$) is the sum "
        r"of two nonnegative pairings (stacked areas), theorem \texttt{lion-k-dissipation}, here up to "
        r"\result{lion-k-lyapunov}{error}. That of $T$ and $M$ vanishes "
        r"where the momentum rests, that of $T$ and $Y$ where $X$ does, as nearly at the top of the loss."
    ),
    shows=("lion-k-lyapunov", "lion-k-dissipation"),
    data=data,
    draw=draw,
    numbers=numbers,
    size=(6.5, 2.5),
)
