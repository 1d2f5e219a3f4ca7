"""The Lyapunov function of the Lion-K flow falls while the loss rises, and its fall is two nonnegative terms."""

import numpy as np

from orthotheory import convex
from orthotheory.plotting import COLORS, Figure
from orthotheory.problems import quadratic
from orthotheory.theory.lion_k_flow import LionKFlow, lyapunov_slope


def data(size):
    flow = LionKFlow(
        quadratic(rows=3, columns=2, left_condition=4.0, alignment="generic", seed=2), convex.make("sqrt-nuclear")
    )
    x0 = np.random.default_rng(2).standard_normal((3, 2))
    x0 *= 0.5 / (flow.weight_decay * float(flow.k.ball.value(x0)))
    # The momentum starts uphill, so that the loss rises first.
    trace = flow.integrate(x0, 2 * flow.problem.grad(x0), np.linspace(0, 8, 801 if size == "smoke" else 8001))
    every = 1 if size == "smoke" else 10
    first, second = flow.dissipation(trace.x, trace.m)[:, 3:-3]
    return {
        "t": trace.t[3:-3][::every], "lyapunov": trace.lyapunov[3:-3][::every], "value": trace.value[3:-3][::every],
        "slope": lyapunov_slope(trace)[::every], "first": first[::every], "second": second[::every],
    }  # fmt: skip


def draw(data, fig):
    left, right = fig.subplots(1, 2)
    t = data["t"]
    left.plot(t, data["lyapunov"], color=COLORS["blue"])
    left.plot(t, data["value"], color=COLORS["vermilion"])
    right.stackplot(t, data["first"], data["second"], colors=[COLORS["sky"], COLORS["orange"]], lw=0, alpha=0.7)
    right.plot(t, data["slope"], color=COLORS["blue"], ls=(0, (4, 2)), lw=1.0)
    left.set(xlabel="time $t$")
    right.set(xlabel="time $t$", ylabel="$-dH/dt$")


def numbers(data):
    rise = data["value"].max() - data["value"][0]
    return {"rise of the loss": float(rise), "largest rise of H": float(np.diff(data["lyapunov"]).max())}


FIGURE = Figure(
    name="lion-k-lyapunov",
    caption="",
    shows=("lion-k-lyapunov", "lion-k-dissipation"),
    data=data,
    draw=draw,
    numbers=numbers,
    size=(6.5, 2.5),
)
