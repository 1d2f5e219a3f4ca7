# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
#     text_representation:
#       extension: .py
#       format_name: percent
#       format_version: '1.3'
#       jupytext_version: 1.19.6
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Lion-K: one method for every convex function
#
# Take a convex function $K$ of a matrix with its least value at 0, and step along its subgradient:
#
# $$C=\beta_1M+(1-\beta_1)G,\qquad W\leftarrow(1-\eta\lambda)W+\eta\,\partial K(-C),\qquad
# M\leftarrow\beta_2M+(1-\beta_2)G .$$
#
# That is Lion-K (Chen, Liu, Liang, Liu, *Lion Secretly Solves Constrained Optimization*, 2023). With the $\ell_1$
# norm it is Lion, with the nuclear norm Muon with weight decay. The weight decay $\lambda$ is not a detail: the
# subgradients of $K$ fill the domain of the conjugate $K^*$, and the iterates approach $1/\lambda$ times its
# closure, the *constraint set* $C$. This notebook runs what can be proved about it, each time with a negative
# control, and measures what "solves the constrained problem" is worth at a fixed step size.
#
# The method and its Lyapunov function are the paper's; the constants of the discrete bounds are ours. Every number
# below is printed by the cell above it. `ORTHOTHEORY_SIZE` is `smoke` (default) or `paper`.

# %%
import dataclasses
import os

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from IPython.display import Markdown, Math, display

import orthotheory as ot
from orthotheory import convex
from orthotheory.methods import HeavyBall, Lion, Muon, NormalizedGD, Signum
from orthotheory.methods.lion_k import LionK
from orthotheory.plotting import COLORS
from orthotheory.plotting.convergence import spread_labels
from orthotheory.problems.solvers import projected_gradient
from orthotheory.theory import constrained, derivations, lion_k, lion_k_flow

# %matplotlib inline

SIZE = os.environ.get("ORTHOTHEORY_SIZE", "smoke")
if SIZE not in ("smoke", "paper"):
    raise ValueError(f"ORTHOTHEORY_SIZE is smoke or paper; got {SIZE!r}.")
PAGE = ot.plotting.STYLE | {"figure.dpi": 140}
DASHED = {"ls": (0, (4, 2)), "lw": 0.9}
COLOR = {"l1": COLORS["purple"], "nuclear": COLORS["vermilion"], "l2": COLORS["blue"]}
FIGURES = ot.reproduce.load_figures(ot.reproduce.find_root())
norms, problems = ot.norms, ot.problems


def sentence(text):
    display(Markdown(text))


def paper_figure(name):
    """Draw a figure of the paper from fresh data; return the data."""
    figure, _ = FIGURES[name]
    data = figure.data(SIZE)
    with matplotlib.rc_context(PAGE):
        figure.draw(data, plt.figure(figsize=figure.size))
        plt.show()
    return data


def inner(a, b):
    return np.sum(a * b, axis=(-2, -1))


# %% [markdown]
# ## 1. The table of K
#
# A convex function here has a value, a subgradient, a conjugate and the norm whose ball is the closure of
# $\operatorname{dom}K^*$ (none where $K^*$ is finite everywhere). All look at one matrix $G$; with
# $S\in\partial K(G)$ the Fenchel-Young equality $K(G)+K^*(S)=\langle G,S\rangle$ certifies value, subgradient and
# conjugate at once. `|S|` is measured in the ball: 1 for a norm (the step has a fixed length), below 1 for a
# smoothed one. The last two columns are $K^*$ inside and outside.

# %%
G = np.array([[2.0, -1, 0.5], [0.3, 1, -2]])
rows = []
for name in convex.names():
    k = convex.make(name)
    s = k.subgradient(G)
    rows.append(
        {
            "K": name,
            "K(G)": float(k.value(G)),
            "ball of dom K*": k.ball.name if k.ball is not None else "none: everywhere finite",
            "smooth": k.is_smooth,
            "rank S": int(np.linalg.matrix_rank(s, tol=1e-9)),
            "nonzeros of S": int(np.sum(np.abs(s) > 1e-12)),
            "|S|": float(k.ball.value(s)) if k.ball is not None else np.nan,
            "Fenchel-Young": float(abs(k.value(G) + k.conjugate(s) - inner(G, s))),
            "K*(S/2)": float(k.conjugate(s / 2)),
            "K*(4S)": float(k.conjugate(4 * s)),
        }
    )
table = pd.DataFrame(rows).set_index("K")
assert (table["Fenchel-Young"] < 1e-12).all()
table.style.format("{:.3f}", subset=["K(G)", "|S|", "K*(S/2)", "K*(4S)"], na_rep="-").format(
    "{:.0e}", subset="Fenchel-Young"
)

# %% [markdown]
# The ball of $K=$ a norm is that of the dual norm: the $\ell_1$ norm leads to a box, the nuclear norm to the
# spectral ball, the spectral norm to the nuclear ball (sparse in rank), the sum of row norms to a bound on each
# row. A smoothed norm keeps the ball and adds a finite $K^*$ inside, a barrier or a penalty. Half a square has no
# ball: its weight decay is a penalty and no constraint.
#
# ## 2. What it contains
#
# Each row runs a known method and Lion-K with the matching constants on one quadratic, and compares the iterates.
# The control changes $\beta_1$ by 0.05.

# %%
quad = problems.quadratic(rows=6, columns=4, left_condition=10.0, alignment="generic", seed=0)
B = 0.9
PAIRS = {
    "Lion": (Lion(lr=0.02, beta1=0.9, beta2=0.99, weight_decay=0.3), ("l1", 0.02, 0.9, 0.99)),
    "Signum with decay": (Signum(lr=0.02, momentum=B, weight_decay=0.3), ("l1", 0.02, B, B)),
    "Muon with decay": (
        Muon(lr=0.02, momentum=B, plan="exact", shape_factor="none", nesterov=False, weight_decay=0.3),
        ("nuclear", 0.02, B, B),
    ),
    "Muon, Nesterov": (
        Muon(lr=0.02, momentum=B, plan="exact", shape_factor="none", weight_decay=0.3),
        ("nuclear", 0.02, B**2, B),
    ),
    "normalized GD": (NormalizedGD(lr=0.02, weight_decay=0.3), ("l2", 0.02, 0.0, 0.0)),
    "heavy ball": (HeavyBall(lr=0.02 * (1 - B), momentum=B, weight_decay=0.03 / (1 - B)), ("half-square", 0.02, B, B)),
}


def departure(known, name, lr, beta1, beta2):
    decay = known.weight_decay * known.lr / lr  # heavy ball counts its lr per sum, not per average
    ours = LionK(name, lr=lr, beta1=beta1, beta2=beta2, weight_decay=decay)
    x, y = (ot.run(quad, method, 200, record=("iterate",))["iterate"] for method in (known, ours))
    return np.abs(x - y).max() / np.abs(x).max()


recovered = pd.DataFrame(
    [
        {
            "method": title,
            "K": name,
            "beta1": beta1,
            "beta2": beta2,
            "relative departure": departure(known, name, lr, beta1, beta2),
            "control": departure(known, name, lr, beta1 + 0.05, beta2),
        }
        for title, (known, (name, lr, beta1, beta2)) in PAIRS.items()
    ]
).set_index("method")
assert (recovered["relative departure"] < 1e-8).all()  # the polar factor amplifies rounding near a kink
assert (recovered["control"] > 1e-5).all()
recovered.style.format("{:.2f}", subset=["beta1", "beta2"]).format("{:.0e}", subset=["relative departure", "control"])

# %% [markdown]
# Muon is matched with its *exact* polar factor and without shape factor. The shipped quintic is no subgradient of
# anything (its singular value map is not monotone), so that theorems on Lion-K do not apply to it as they stand.
#
# ## 3. The flow and its Lyapunov function
#
# In continuous time, with $T=M+\varepsilon M'$,
#
# $$M'=-\alpha\nabla f(X)-\gamma M,\qquad X'=\nabla K(T)-\lambda X .$$
#
# The loss alone may rise; with $c=\frac{1-\varepsilon\gamma}{1+\varepsilon\lambda}$ and $\varepsilon\gamma\le1$,
#
# $$H=\alpha f+\frac\gamma\lambda K^*(\lambda X)+c\,[K^*(\lambda X)+K(M)-\lambda\langle M,X\rangle]$$
#
# does not. The two theorems, as the package states them:

# %%
for theorem in (lion_k_flow.lion_k_lyapunov, lion_k_flow.lion_k_dissipation):
    display(Math(theorem.statement))
sentence(derivations.lion_k_dissipation().markdown())

# %% [markdown]
# SymPy derives it, and raises if the difference of the two sides is not 0. `U`, `V`, `Z` stand for $\nabla K(M)$,
# $\nabla K(T)$ and $\lambda X=\nabla K(Y)$: every term of $dH/dt$ pairs
# one of $M,T,Y$ with one of these, so that a polynomial identity in six scalars proves the one in matrices. Both
# products are nonnegative because a gradient of a convex function is monotone. On a run that starts with a
# momentum pointing uphill:

# %%
flow = paper_figure("lion-k-lyapunov")
rise = flow["value"].max() - flow["value"][0]
print(
    f"the loss rises by {rise:.3f} from {flow['value'][0]:.3f}; the largest increment of H is {flow['rise of H']:.1e}"
)
print(f"dH/dt by differences against the formula: {flow['error']:.1e}")
assert rise > 0 >= flow["rise of H"]

# %% [markdown]
# The ledger checks all smooth $K$ of the table that have a flow, each with its control:

# %%
FLOW = (lion_k_flow.lion_k_lyapunov, lion_k_flow.lion_k_dissipation, lion_k_flow.lion_k_phase)


def ledger(theorems):
    rows = pd.DataFrame([ot.theory.ledger_row(theorem, "smoke") for theorem in theorems]).set_index("label")
    rows["control fails"] = [c["fails"] for c in rows["control"]]
    rows["the mistake"] = [c["mistake"] for c in rows["control"]]
    assert (rows["verdict"] == "holds").all()
    assert rows["control fails"].all()
    columns = ["kind", "verdict", "cases", "measured", "witness", "control fails", "the mistake"]
    return rows[columns].style.format({"measured": "{:.3g}"})


ledger(FLOW)

# %% [markdown]
# Here *measured* is the worst relative error of an identity, and the worst left side over right side of a bound
# (of $H$ after a step over $H$ before, both shifted to at least 1). The flow needs a smooth $K$; for a norm, the
# smoothed one stands in, and the discrete method below needs no smoothness.
#
# ## 4. Phase portraits
#
# The plane of the matrices $\bigl(\begin{smallmatrix}x&y\\y&x\end{smallmatrix}\bigr)$ is mapped to itself by all three
# $K$, and looks different to each: entries are $x,y$, singular values $|x\pm y|$. One quadratic, three constraint
# sets, and three different answers, none of which is the minimum of $f$.

# %%
portraits = paper_figure("lion-k-phase-portraits")
plane = FIGURES["lion-k-phase-portraits"][0]
print({key: f"{float(value):.2g}" for key, value in plane.numbers(portraits).items()})

# %% [markdown]
# Paths from the right pass beside the minimum of $f$ without stopping: there the gradient is small, but the step has
# a fixed length, and the weight decay pulls them on into the set. Near the solution the paths of the $\ell_1$ and of
# the nuclear norm turn sharply, where the direction jumps from one corner of its ball to another; those of the
# Frobenius norm, whose ball has no corners, do not.
#
# ## 5. The approach to the set
#
# Whatever the directions are, as long as they lie in the set's unit ball:

# %%
contraction = lion_k.lion_k_contraction
display(Math(contraction.statement))

# %%
distances = paper_figure("lion-k-distance")
print({key: f"{float(value):.3g}" for key, value in FIGURES["lion-k-distance"][0].numbers(distances).items()})
ledger((contraction,))

# %% [markdown]
# Left: the dashed line is the bound. Right: what weight decay does to the spectrum under Muon. Large singular values
# fall to $1/\lambda$ and are held there, small ones *grow*, up to where the loss wants them. Decoupled weight decay
# on an orthogonalized step does not shrink a spectrum, it caps it.
#
# The bound needs an *exact* subgradient. With the quintic, singular values of the direction exceed 1, and so does the
# cap:

# %%
quintic = constrained.iterate_bound_quintic
display(Math(quintic.statement))
print(f"largest value of the quintic on [0, 1]: {constrained.QUINTIC_TOP:.4f}")
ledger((quintic,))

# %% [markdown]
# ## 6. The KKT score
#
# Inside the set, how far is a point from solving $\min f$ over it? For $K$ a norm, three classical residuals are one
# number, the *score* $S$: the dual norm with the inner product, $\lambda$ times the Frank-Wolfe gap, and the
# Fenchel-Young residual of the optimality condition $\lambda X\in\partial K(-\nabla f(X))$.

# %%
display(Math(lion_k.lion_k_score.statement))


def small_problem(seed, scale=2.0):
    """A small quadratic whose minimum is `scale` times a Gaussian matrix; runs start at zero."""
    q = problems.quadratic(rows=4, columns=3, left_condition=5.0, alignment="generic", seed=seed)
    return problems.KroneckerQuadratic(q.a, q.b, scale * q.optimum, np.zeros((4, 3)))


SCORE = ("value", "gradient_norm", "gradient_inner", "weight_norm", "iterate")
scored = {
    name: ot.run(small_problem(0), LionK(name, lr=0.02, weight_decay=1.0, warm_start=True), 400, record=SCORE)
    for name in COLOR
}
rows = []
with matplotlib.rc_context(PAGE):
    fig, ax = plt.subplots(figsize=(4.6, 2.5))
    for name, trace in scored.items():
        assert ot.theory.check(lion_k.lion_k_score, trace, name).holds
        s, (gap, fenchel) = lion_k.score(trace), lion_k.kkt_residuals(trace)
        ax.plot(trace.k, np.maximum(s, 1e-6), color=COLOR[name])
        ax.plot(trace.k[::20], np.maximum(gap, 1e-6)[::20], "o", ms=4.5, mfc="none", mec=COLOR[name], mew=0.8)
        ax.plot(trace.k[10::20], np.maximum(fenchel, 1e-6)[10::20], "x", ms=3.5, color=COLOR[name], mew=0.8)
        best = projected_gradient(trace.problem, trace.method.norm, 1.0)
        half = (best.x + trace.problem.optimum) / 2
        g, h = trace.problem.grad(best.x), trace.problem.grad(half)
        rows.append(
            {
                "K": name,
                "largest difference of the three": max(np.abs(gap - s).max(), np.abs(fenchel - s).max()),
                "least score of the run": s.min(),
                "score at the constrained minimum": float(trace.method.norm.dual(g) + inner(g, best.x)),
                "outside, halfway to the minimum of f": float(trace.method.norm.dual(h) + inner(h, half)),
            }
        )
    ax.set(yscale="log", xlabel="step $k$", ylabel="score $S(X_k)$", ylim=(1e-4, 20), xlim=(0, 400))
    spread_labels(
        ax, [max(lion_k.score(t)[-50:].mean(), 1e-4) for t in scored.values()], list(scored), list(COLOR.values())
    )
    plt.show()
pd.DataFrame(rows).set_index("K").style.format("{:.1e}")

# %% [markdown]
# Line: the score; rings: Frank-Wolfe gap; crosses: Fenchel-Young. It is nonnegative inside the set only: outside,
# $S$ may be negative (last column), and a small $S$ says nothing there.
#
# ## 7. The discrete bound, and its control

# %%
discrete = lion_k.lion_k_discrete
display(Math(discrete.statement))
sentence("It assumes that " + "; ".join(a.text for a in discrete.assumes) + ".")

# %% [markdown]
# Dashed: the bound. Dotted: a wrong one, without the terms that grow with $\eta$, which every run must break.


# %%
def without_drift(trace):
    o, smoothness = trace.method, float(trace.problem.smoothness(trace.method.norm))
    return discrete.rhs(trace) - smoothness * o.lr * (2 + 4 * o.beta1 / (1 - o.beta2))


control = dataclasses.replace(discrete, rhs=without_drift)
LONG = 1500 if SIZE == "smoke" else 6000
rows = []
with matplotlib.rc_context(PAGE):
    fig, axes = plt.subplots(1, 3, figsize=(6.8, 2.5), sharey=True)
    for ax, name in zip(axes, COLOR, strict=True):
        method = LionK(name, lr=0.05, beta1=0.9, beta2=0.9, weight_decay=1.0, warm_start=True)
        trace = ot.run(small_problem(0, scale=0.3), method, LONG, record=SCORE)
        k = np.arange(1, LONG + 1)
        ax.plot(k, discrete.lhs(trace), color=COLOR[name])
        ax.plot(k, discrete.rhs(trace), color=COLOR[name], **DASHED)
        ax.plot(k, control.rhs(trace), color=COLORS["gray"], ls=(0, (1, 2)), lw=0.9)
        ax.set(xscale="log", yscale="log", xlabel="steps $K$", xlim=(1, LONG), ylim=(1e-3, 200))
        ax.text(0.96, 0.98, name, color=COLOR[name], transform=ax.transAxes, ha="right", va="top")
        verdict = ot.theory.check(discrete, trace, name)
        rows.append(
            {
                "K": name,
                "holds at every K": verdict.holds,
                "largest measured / bound": verdict.worst,
                "at the end": (discrete.lhs(trace) / discrete.rhs(trace))[-1],
                "control fails": not ot.theory.check(control, trace, name).holds,
            }
        )
    axes[0].set_ylabel("mean score of the first $K$ steps")
    axes[0].annotate("bound", (6, discrete.rhs(trace)[5]), (0, 12), textcoords="offset points", fontsize=8)
    axes[0].text(0.05, 0.05, "dotted: control", color=COLORS["gray"], fontsize=8, transform=axes[0].transAxes)
    plt.show()
verdicts = pd.DataFrame(rows).set_index("K")
assert verdicts["holds at every K"].all()
assert verdicts["control fails"].all()
verdicts.style.format("{:.3f}", subset=["largest measured / bound", "at the end"])

# %% [markdown]
# With noise of deviation $\sigma$ the bound gains a term $2\rho\sigma\sqrt v$, where $v$ is the share of the noise that
# the two averages let through. SymPy finds the best mix:

# %%
for step in lion_k.lion_k_mix.proof():
    display(Math(step))

# %%
ledger((discrete, lion_k.lion_k_score, lion_k.lion_k_stochastic, lion_k.lion_k_mix))

# %% [markdown]
# ## 8. Does Lion solve the constrained problem?
#
# The score's bound has a part that does not vanish with the number of steps but is proportional to $\eta$. Is it
# real? Runs of $36/(\eta\lambda)$ steps or more, several step sizes and problems, the mean score of the last
# fifth. Two kinds of problems: one whose minimum is held by the set *at most partly* (entries or
# singular values are free), and one whose minimum lies so far outside that the subgradient of $K$ at the solution is
# *unique*.

# %%
SEEDS = 4 if SIZE == "smoke" else 8
LRS = np.geomspace(0.008, 0.128, 5)
STEPS = int(36 / LRS[0])
PARTLY, FAR = {"l1": 2.0, "nuclear": 0.6, "l2": 0.15}, {"l1": 200.0, "nuclear": 20.0, "l2": 1.0}
final, miss, held = {}, {}, {}


def share_held(name, x):
    """Share of the entries, singular values or the norm that lie on the boundary of the unit ball."""
    sizes = {"l1": np.abs(x), "nuclear": np.linalg.svdvals(x), "l2": norms.Frobenius().value(x)}[name]
    return np.mean(sizes > 1 - 1e-5)


for kind, scales in (("partly", PARTLY), ("far", FAR)):
    for name, scale in scales.items():
        final[kind, name], miss[kind, name] = np.empty((2, SEEDS, len(LRS)))
        held[kind, name] = []
        for seed in range(SEEDS):
            f = small_problem(seed, scale)
            method = LionK(name, lr=LRS, weight_decay=1.0, warm_start=True)
            record = ("gradient_norm", "gradient_inner", "iterate")
            trace = ot.run(f, method, STEPS, record=record, every=7)
            late = len(trace.k) // 5
            best = projected_gradient(f, method.norm, 1.0, tolerance=1e-11).x
            held[kind, name].append(share_held(name, best))
            final[kind, name][seed] = lion_k.score(trace)[-late:].mean(axis=0)
            miss[kind, name][seed] = norms.Frobenius().value(trace["iterate"][-late:] - best).mean(axis=0)
fits = {name: ot.theory.fit_exponent(LRS, final["partly", name]) for name in PARTLY}
near = {name: ot.theory.fit_exponent(LRS, miss["partly", name]) for name in PARTLY}

with matplotlib.rc_context(PAGE):
    fig, (left, right) = plt.subplots(1, 2, figsize=(6.8, 2.7))
    for name, color in COLOR.items():
        y = final["partly", name]
        left.fill_between(LRS, y.min(axis=0), y.max(axis=0), color=color, alpha=0.2, lw=0)
        left.plot(LRS, np.exp(np.log(y).mean(axis=0)), "o-", ms=3, color=color)
        right.plot(LRS, np.maximum(np.abs(final["far", name]).max(axis=0), 1e-17), "o-", ms=3, color=color)
    left.plot(LRS, 6 * LRS, color=COLORS["black"], **DASHED)
    left.annotate("slope 1", (LRS[1], 6 * LRS[1]), (0, 6), textcoords="offset points", fontsize=8, ha="right")
    for ax, text in ((left, "at most partly held"), (right, "unique subgradient")):
        ax.set(xscale="log", yscale="log", xlabel=r"step size $\eta$")
        ax.text(0.97, 0.93 if ax is right else 0.03, text, fontsize=8, transform=ax.transAxes, ha="right")
    left.set(ylabel="final score", ylim=(1e-3, 1.5))
    right.set(ylim=(1e-17, 1e-8))
    for ax in (left, right):
        ends = [line.get_ydata()[-1] for line in ax.lines if line.get_marker() == "o"]
        spread_labels(ax, ends, list(COLOR), list(COLOR.values()), gap=0.075)
    plt.show()


def interval(fit):
    return f"{fit.slope:.3f} [{fit.low:.3f}, {fit.high:.3f}]"


pd.DataFrame(
    {
        name: {
            "partly: share held": f"{np.min(held['partly', name]):.2f} to {np.max(held['partly', name]):.2f}",
            "final score ~ lr^p, p": interval(fits[name]),
            "local p, smallest to largest lr": ", ".join(f"{p:.2f}" for p in fits[name].local),
            "distance ~ lr^p, p": interval(near[name]),
            "far: share held": f"{np.min(held['far', name]):.2f} to {np.max(held['far', name]):.2f}",
            "far: largest score": f"{np.abs(final['far', name]).max():.1e}",
            "far: largest distance": f"{miss['far', name].max():.1e}",
        }
        for name in PARTLY
    }
).T

# %% [markdown]
# So the answer is *yes, up to $O(\eta)$, unless it is exact*:
#
# * Where some entry, singular value or direction is free at the solution, the gradient vanishes on it, $\partial K$
#   has a kink there, and a step of fixed length has to chatter around it: score and distance are of the order of
#   $\eta$. (The local exponents are largest at the largest $\eta$, which lifts the fit above 1; an interval
#   over seeds knows nothing of that bias.)
# * Where $\partial K$ is a single point at the solution, the iteration has the fixed point
#   $\lambda X=\partial K(-\nabla f(X))$ and converges to it at a fixed step size. What is left of the score is
#   rounding and, at the smallest $\eta$, the end of the run; what is left of the distance is the accuracy of the
#   reference solution, whose Frank-Wolfe gap is $10^{-11}$.
#
# And two limits of the slogan. The solution is a *KKT point*; only for a convex $f$ that is the minimum. And a smoothed
# $K$ is not a small change of the method but of the problem: it settles where $f+\frac1\lambda K^*(\lambda W)$ is
# stationary, at any step size. Its score does not shrink with $\eta$, it shrinks with the smoothing:

# %%
SMOOTHING = np.array([0.4, 0.2, 0.1, 0.05])
bias = np.empty((2, 2, len(SMOOTHING)))
for i, lr in enumerate((0.01, 0.0025)):
    for j, epsilon in enumerate(SMOOTHING):
        smooth = convex.make("sqrt-nuclear", epsilon=epsilon)
        trace = ot.run(
            small_problem(0, 0.6), LionK(smooth, lr=lr, weight_decay=1.0), int(24 / lr), record=SCORE, every=50
        )
        x = trace["iterate"][-1]
        g = trace.problem.grad(x)
        bias[0, i, j] = lion_k.score(trace)[-1]
        bias[1, i, j] = np.abs(g + smooth.conjugate_gradient(x)).max()
pd.DataFrame(
    {
        "score, lr 0.01": bias[0, 0],
        "score, lr 0.0025": bias[0, 1],
        "gradient of f + K*(lambda W) / lambda, lr 0.01": bias[1, 0],
        "the same, lr 0.0025": bias[1, 1],
    },
    index=pd.Index(SMOOTHING, name="smoothing"),
).style.format("{:.1e}")

# %% [markdown]
# ## 9. A new K in under twenty lines
#
# An even convex function of a number, with its slope and conjugate, is enough; `Separable` lifts it to entries or to
# singular values. Here is soft thresholding, $k(s)=\frac12\max(|s|-\tau,0)^2$ with $k^*(t)=\frac12t^2+\tau|t|$. Its
# conjugate is finite everywhere, so that the weight decay constrains nothing, but penalizes: Lion-K then minimizes
# $f+\frac\lambda2\|W\|_F^2+\tau\|W\|_1$, the elastic net, or with singular values its low-rank version.


# %%
@dataclasses.dataclass(frozen=True)
class Threshold:
    """max(|s| - tau, 0)^2 / 2; slope is soft thresholding; conjugate t^2 / 2 + tau |t|."""

    tau: float = 1.0
    bounded = False

    def value(self, s):
        return 0.5 * np.maximum(np.abs(s) - self.tau, 0) ** 2

    def slope(self, s):
        return np.sign(s) * np.maximum(np.abs(s) - self.tau, 0)

    def conjugate(self, t):
        return 0.5 * t**2 + self.tau * np.abs(t)

    def conjugate_slope(self, t):
        return t + self.tau * np.sign(t)


# %% [markdown]
# Before use: Fenchel-Young at the subgradient and elsewhere, and monotonicity, on random matrices, as the contract test
# does. Then runs against a proximal gradient method that knows nothing of Lion-K.

# %%
rng = np.random.default_rng(0)
x, y = 3 * rng.standard_normal((2, 500, 4, 3))
rows = []
for over in ("entries", "singular values"):
    k = convex.Separable(Threshold(1.0), over)
    s = k.subgradient(x)
    assert np.allclose(k.value(x) + k.conjugate(s), inner(x, s))
    assert (k.value(x) + k.conjugate(y) >= inner(x, y) - 1e-10).all()
    assert (inner(x - y, s - k.subgradient(y)) >= -1e-10).all()

    lam, tau = 0.1, 0.7
    f = small_problem(1, 3.0)
    trace = ot.run(
        f, LionK(convex.Separable(Threshold(tau), over), lr=0.3, weight_decay=lam), 4000, record=("iterate",)
    )
    end = trace["iterate"][-1]

    penalty = norms.SumEntry() if over == "entries" else norms.Nuclear()
    w, step = np.zeros((4, 3)), 1 / (float(f.smoothness(norms.Frobenius())) + lam)
    for _ in range(2000):
        w = penalty.prox(w - step * (f.grad(w) + lam * w), step * tau)
    rows.append(
        {
            "over": over,
            "nonzeros": int(np.sum(np.abs(end) > 1e-9)),
            "of proximal gradient": int(np.sum(np.abs(w) > 1e-9)),
            "rank": int(np.linalg.matrix_rank(end, tol=1e-9)),
            "of proximal gradient ": int(np.linalg.matrix_rank(w, tol=1e-9)),
            "largest difference": np.abs(end - w).max(),
        }
    )
found = pd.DataFrame(rows).set_index("over")
assert (found["largest difference"] < 1e-8).all()
found.style.format("{:.0e}", subset="largest difference")

# %% [markdown]
# The zeros are exact to rounding, at a fixed step size: this $K$ is differentiable, so that nothing has to chatter.
#
# ## What to take along
#
# * $K$ decides the geometry: its subgradient is the step, the domain of its conjugate the constraint set. Muon with
#   weight decay is the nuclear norm's member, Lion the $\ell_1$ norm's.
# * The set is approached at least like $(1-\eta\lambda)^k$, whatever the loss. Weight decay caps a spectrum at
#   $1/\lambda$.
# * Along the flow $H$ falls and $f$ need not. SymPy proves the identity, differences of a run confirm it.
# * At a fixed step size the constrained problem is solved up to $O(\eta)$ at a kink of $K$, exactly where
#   $\partial K$ is unique, and for a smoothed $K$ it is another problem that is solved, exactly.
