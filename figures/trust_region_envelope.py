"""The bound of fixed-radius descent as an envelope with traces below it, and the rate it implies over a slow family."""

import numpy as np

from orthotheory import norms, problems
from orthotheory.plotting import COLORS, Figure
from orthotheory.plotting.convergence import draw_bounded
from orthotheory.problems import best_radius
from orthotheory.sweep import Sweep, run_sweep
from orthotheory.theory import fit_exponent
from orthotheory.theory.descent import RECORD, envelope, prefix_mean_gradient

RADII = (0.16, 0.04, 0.01)
RADIUS_COLORS = (COLORS["vermilion"], COLORS["blue"], COLORS["green"])


def data(size):
    steps = 300 if size == "smoke" else 3000
    slope = {"rows": 8, "columns": 6, "left_condition": 30.0, "right_condition": 5.0, "basis": "standard", "seed": 1}
    rates = {"trust-region": {"norm": "spectral", "lr": RADII}}
    left = run_sweep(Sweep({"quadratic": slope}, rates, steps=steps, record=RECORD))
    out = {"k": np.arange(1, steps + 1), "radii": np.array(RADII)}
    for i, lr in enumerate(RADII):
        trace = left.trace("quadratic", "trust-region", lr=lr)
        out[f"mean {i}"], out[f"bound {i}"] = prefix_mean_gradient(trace), envelope(trace)
    budgets = np.array([8, 16, 32, 64] if size == "smoke" else [8, 16, 32, 64, 128, 256, 512, 1024, 2048])
    seeds = 3 if size == "smoke" else 10
    for family in ("ramp", "quadratic"):
        out[family], out[f"{family} bound"] = tuned_gradients(family, budgets, seeds)
    out["budgets"] = budgets
    return out


def tuned_gradients(family, budgets, seeds):
    """Return min_k |grad|_* after K steps at the best radius for K, and the bound sqrt(2 L gap / K), shape (seeds, K)."""
    rng = np.random.default_rng(0)
    norm, cases, runs, bounds = norms.Spectral(), {}, {}, []
    for seed in range(seeds):
        gap, curvature = 10 ** rng.uniform(-1, 1, size=2)
        for budget in map(int, budgets):
            if family == "ramp":
                case = {"name": "ramp", "budget": budget, "gap": gap, "curvature": curvature, "seed": seed}
            else:
                case = {"name": "quadratic", "rows": 5, "columns": 4, "left_condition": 30.0, "right_condition": 5.0,
                        "alignment": "generic", "seed": seed}  # fmt: skip
            problem = problems.make(**case)
            lr, label = best_radius(problem, norm, budget), f"{seed} {budget}"
            cases[label] = {**case, "steps": budget}
            runs[label] = {"name": "trust-region", "norm": "spectral", "lr": lr, "on": [label]}
            bounds.append(float(problem.smoothness(norm)) * lr)
    table = run_sweep(Sweep(cases, runs, record=("gradient_norm",))).table
    before_the_last = table[table["k"] < table.groupby("problem")["k"].transform("max")]
    least = before_the_last.groupby("problem", sort=False)["gradient_norm"].min().to_numpy()
    return least.reshape(seeds, -1), np.array(bounds).reshape(seeds, -1)


def draw(data, fig):
    left, right = fig.subplots(1, 2)
    k = data["k"]
    for i, (lr, color) in enumerate(zip(data["radii"], RADIUS_COLORS, strict=True)):
        draw_bounded(left, k, data[f"mean {i}"], data[f"bound {i}"], color)
        left.annotate(
            rf"$\eta={lr:g}$",
            (k[-1], data[f"mean {i}"][-1]),
            (4, -2),
            textcoords="offset points",
            color=color,
            va="center",
            fontsize=8,
            annotation_clip=False,
        )
    left.set(xscale="log", yscale="log", xlabel="steps $K$", ylabel=r"mean $\|\nabla f\|_*$ of the first $K$ steps")
    budgets = data["budgets"]
    for family, color, label in (("ramp", COLORS["purple"], "ramp"), ("quadratic", COLORS["sky"], "quadratic")):
        ratio = data[family] / data[f"{family} bound"]
        mid = np.median(ratio, axis=0)
        right.fill_between(budgets, ratio.min(axis=0), ratio.max(axis=0), color=color, alpha=0.25, lw=0)
        right.plot(budgets, mid, color=color, marker="o", ms=3)
        right.annotate(
            label,
            (budgets[-1], mid[-1]),
            (7, 0),
            textcoords="offset points",
            color=color,
            va="center",
            fontsize=8,
            annotation_clip=False,
        )
    right.axhline(1.0, color=COLORS["black"], ls=(0, (4, 2)), lw=0.9)
    right.plot(budgets[[0, -1]], [0.5, 0.5], color=COLORS["gray"], ls=(0, (1, 2)), lw=0.9)
    right.annotate("bound", (budgets[0], 1.0), (0, 3), textcoords="offset points", fontsize=8)
    right.annotate(
        "half of it", (budgets[0], 0.5), (0, 3), textcoords="offset points", fontsize=8, color=COLORS["gray"]
    )
    right.set(
        xscale="log",
        yscale="log",
        ylim=(0.15, 1.3),
        yticks=[0.2, 0.5, 1.0],
        yticklabels=["0.2", "0.5", "1"],
        xlabel="budget $K$, radius tuned to it",
        ylabel=r"$\min_k\|\nabla f\|_* \;/\; \sqrt{2L\Delta/K}$",
    )
    right.tick_params(axis="y", which="minor", left=False, labelleft=False)
    right.tick_params(axis="x", which="minor", labelbottom=False)


def numbers(data):
    out = {}
    for family in ("ramp", "quadratic"):
        fit = fit_exponent(data["budgets"], data[family] / data[f"{family} bound"][:, :1])
        out |= {f"{family} exponent": fit.slope, f"{family} low": fit.low, f"{family} high": fit.high}
        out[f"{family} largest quotient"] = float((data[family] / data[f"{family} bound"]).max())
    return out


FIGURE = Figure(
    name="trust-region-envelope",
    caption=(
        r"Theorem \texttt{trust-region-nonconvex}. Left: the mean dual gradient norm of spectral descent with three fixed "
        r"radii on a quadratic (solid) stays below $\Delta/(\eta K)+L\eta/2$ (dashed) at every $K$ and meets its floor. Right: "
        r"with the radius tuned to the budget $K$, the smallest gradient norm over the bound $\sqrt{2L\Delta/K}$; lines: median, "
        r"bands: all seeds. Ramps, whose gradient does not shrink in $K$ steps, approach one half from below; quadratics stay "
        r"in a band below it, held up by the floor $L\eta/2$. The gradient norm itself has the fitted exponent "
        r"\result{trust-region-envelope}{ramp exponent} in $K$ on ramps, where all seeds agree, and "
        r"\result{trust-region-envelope}{quadratic exponent} on quadratics, with the 95\% interval "
        r"[\result{trust-region-envelope}{quadratic low}, \result{trust-region-envelope}{quadratic high}]; a quotient that "
        r"still rises with $K$ puts the exponent above $-1/2$."
    ),
    shows=("trust-region-nonconvex",),
    data=data,
    draw=draw,
    numbers=numbers,
    size=(6.5, 2.6),
)
