# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
#     text_representation:
#       extension: .py
#       format_name: percent
#       format_version: '1.3'
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Descent with a fixed radius, and its rate
#
# Orthogonalized descent takes steps of a fixed length: $X_{k+1}=X_k+\eta\operatorname{lmo}(\nabla f(X_k))$ with the LMO of
# some norm (the previous notebook). This notebook runs the theorem that bounds it, splits the bound into the parts it is
# made of, finds the cycle where the run ends, and measures rates, with three questions kept apart: *does the bound hold at
# every step? how tight is it? what exponent is fitted, with which interval?*
#
# Every number below is printed by the cell above it. `ORTHOTHEORY_SIZE` is `smoke` (default) or `paper`.

# %%
import dataclasses
import itertools
import os

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from IPython.display import Markdown, Math, display

import orthotheory as ot
from orthotheory.plotting import COLORS
from orthotheory.plotting.convergence import spread_labels
from orthotheory.theory import cycle, descent

# %matplotlib inline

SIZE = os.environ.get("ORTHOTHEORY_SIZE", "smoke")
if SIZE not in ("smoke", "paper"):
    raise ValueError(f"ORTHOTHEORY_SIZE is smoke or paper; got {SIZE!r}.")
PAGE = ot.plotting.STYLE | {"figure.dpi": 140}
DASHED = {"ls": (0, (4, 2)), "lw": 0.9}
norms, problems = ot.norms, ot.problems
TrustRegion = ot.methods.TrustRegion


def sentence(text):
    display(Markdown(text))


# %% [markdown]
# ## 1. The statement
#
# A theorem is an object: it carries its LaTeX, its assumptions as *tests*, the two sides as functions of a trace, and a
# version of itself with a deliberate mistake.

# %%
theorem = ot.theory.get("trust-region-nonconvex")
display(Math(theorem.statement))
sentence(
    f"**{theorem.title}** (`{theorem.label}`, kind *{theorem.kind}*; {theorem.source}). It assumes that\n\n"
    + "\n".join(f"* {a.text}" + (";" if a is not theorem.assumes[-1] else ".") for a in theorem.assumes)
    + f"\n\nIts negative control: {theorem.mistake}."
)

# %% [markdown]
# Here $L$ is the smoothness constant *in the norm of the step*, and $\|\cdot\|_*$ the dual norm. The proof is one line a
# step: smoothness gives $f(X_{k+1})\le f(X_k)-\eta\|\nabla f(X_k)\|_*+L\eta^2/2$; sum and divide by $\eta K$.
#
# ## 2. The bound and the traces
#
# One ill-conditioned quadratic, eight norms, each with its own $L$. The radius is four times the best one for the budget, so
# that the run reaches the floor. Divided by $L\eta/2$, all eight bounds are one curve (dashed), and all traces must lie below.

# %%
STEPS = 1000 if SIZE == "smoke" else 5000
NORMS = {
    "spectral": (norms.Spectral(), COLORS["vermilion"]),
    "frobenius": (norms.Frobenius(), COLORS["black"]),
    "nuclear": (norms.Nuclear(), COLORS["blue"]),
    "max-entry": (norms.MaxEntry(), COLORS["purple"]),
    "row-max": (norms.RowMax(), COLORS["green"]),
    "column-max": (norms.ColumnMax(), COLORS["sky"]),
    "dual-ky-fan, k = 2": (norms.DualKyFan(2), COLORS["orange"]),
    "schatten, p = 4": (norms.Schatten(4.0), COLORS["gray"]),
}
RECORD = (*descent.RECORD, "step_curvature")
problem = problems.quadratic(
    rows=6, columns=4, left_condition=30.0, right_condition=5.0, alignment="generic", basis="standard", seed=0
)
traces = {}
for name, (norm, _) in NORMS.items():
    lr = 4 * problems.best_radius(problem, norm, STEPS)
    traces[name] = ot.run(problem, TrustRegion(norm, lr=lr), STEPS, record=RECORD)


def floor(trace):
    """L lr / 2, the part of the bound that does not vanish."""
    return float(trace.problem.smoothness(trace.method.norm)) * trace.method.lr / 2


control = theorem.control()
counts = np.arange(1, STEPS + 1)
with matplotlib.rc_context(PAGE):
    fig, ax = plt.subplots(figsize=(5.6, 3.0))
    for name, (_, color) in NORMS.items():
        ax.plot(counts, theorem.lhs(traces[name]) / floor(traces[name]), color=color, lw=1.1)
    any_trace = traces["spectral"]
    ax.plot(counts, theorem.rhs(any_trace) / floor(any_trace), color=COLORS["black"], **DASHED)
    ax.plot(counts, control.rhs(any_trace) / floor(any_trace), color=COLORS["gray"], ls=(0, (1, 2)), lw=0.9)
    ax.axhline(1, color=COLORS["gray"], lw=0.5)
    ax.set(xscale="log", yscale="log", xlim=(1, STEPS), ylim=(0.4, None), xlabel="steps $K$")
    ax.set_ylabel(r"mean $\|\nabla f\|_*$ of $K$ steps, over $L\eta/2$")
    ax.annotate("bound", (2, 40), (8, 3), textcoords="offset points")
    ax.annotate("bound with $L$ halved", (STEPS, 0.5), (-2, 4), textcoords="offset points", ha="right",
                color=COLORS["gray"])  # fmt: skip
    at = 3
    starts = [(theorem.lhs(t) / floor(t))[at] for t in traces.values()]
    order = np.argsort(starts)
    text = "top to bottom at $K=1$:"
    ax.text(1.15, 1.55 * 0.62, text, fontsize=0.1, alpha=0)
    ends = [(theorem.lhs(t) / floor(t))[0] for t in traces.values()]
    spread_labels(ax, [1.0] * len(traces), list(NORMS), [c for _, c in NORMS.values()], gap=0.07)
    plt.show()
