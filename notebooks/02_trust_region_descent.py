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
# # Descent with a fixed radius, and its rate
#
# Orthogonalized descent takes steps of a fixed length: $X_{k+1}=X_k+\eta\operatorname{lmo}(\nabla f(X_k))$ with
# the LMO of some norm (the previous notebook). This notebook runs the theorem that bounds it, splits the bound
# into the parts it is made of, finds the cycle where the run ends, and measures rates, with three questions kept
# apart: *does the bound hold at every step? how tight is it? what exponent is fitted, with which interval?*
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
from orthotheory.theory import cycle, derivations, descent

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
# A theorem is an object: it carries its LaTeX, its assumptions as *tests*, the two sides as functions of a trace,
# and a version of itself with a deliberate mistake.

# %%
theorem = ot.theory.get("trust-region-nonconvex")
display(Math(theorem.statement))
sentence(
    f"**{theorem.title}** (`{theorem.label}`, kind *{theorem.kind}*; {theorem.source}). It assumes that\n\n"
    + "\n".join(f"* {a.text}" + (";" if a is not theorem.assumes[-1] else ".") for a in theorem.assumes)
    + f"\n\nIts negative control: {theorem.mistake}."
)

# %% [markdown]
# Here $L$ is the smoothness constant *in the norm of the step*, and $\|\cdot\|_*$ the dual norm. The proof is one
# line a step: smoothness gives $f(X_{k+1})\le f(X_k)-\eta\|\nabla f(X_k)\|_*+L\eta^2/2$; sum and divide by
# $\eta K$. The package also has it as a *certificate*: the best bound that follows from these inequalities is a linear
# program in the values and gradient norms, and its rational multipliers $\lambda$ are verified by SymPy.

# %%
for step in theorem.proof()[:2]:
    display(Math(step))

# %% [markdown]
# And what is $L$? On a quadratic with Hessian $D\mapsto ADB$ it is the largest $\langle D,ADB\rangle$ over the unit
# ball. Where $D$ commutes with $A$ and $B$ it is derived by hand, or by SymPy, in the spectral norm and in Schatten
# norms; that nothing else does better is the proof of theorem `smoothness-quadratic`. Compared with the constants of
# the code; the control pairs the spectra the wrong way round.

# %%
left_spectrum, right_spectrum = np.array([2.0, 0.9, 0.3]), np.array([1.5, 1.1, 0.2])
paired = problems.KroneckerQuadratic(np.diag(left_spectrum), np.diag(right_spectrum), np.zeros((3, 3)), np.eye(3))
rows = {}
for p, norm in ((None, norms.Spectral()), (3, norms.Schatten(3.0)), (4, norms.Schatten(4.0))):
    derived = derivations.commuting_smoothness(p)
    if p != 3:
        sentence(derived.markdown())
    value = derived.numeric("smoothness", ("a1", "a2", "a3", "b1", "b2", "b3"))
    rows[derived.title] = {
        "derived": value(*left_spectrum, *right_spectrum),
        "code": float(paired.smoothness(norm)),
        "control": value(*left_spectrum, *right_spectrum[::-1]),
    }
sentence(derivations.exchange().markdown())
constants = pd.DataFrame(rows).T
assert np.allclose(constants["derived"], constants["code"], rtol=1e-12)
assert (constants["control"] < 0.9 * constants["code"]).all()
constants.style.format("{:.6f}")

# %% [markdown]
# ## 2. The bound and the traces
#
# One ill-conditioned quadratic in five norms, each with its own $L$, and softmax regression on the digits data in
# two. The radius is four times the best one for the budget, so that the run reaches the floor. Left: in units of
# $L\eta/2$ all bounds of one budget are one curve (dashed), and every trace must lie below. Right: measured over
# bound, linear. Dotted: the **negative control**, the same bound with $L$ halved; a trace above it refutes the
# broken theorem.

# %%
STEPS = 1000 if SIZE == "smoke" else 3000
RECORD = (*descent.RECORD, "step_curvature")
COLOR = {
    "spectral": COLORS["vermilion"],
    "frobenius": COLORS["black"],
    "nuclear": COLORS["blue"],
    "max-entry": COLORS["purple"],
    "row-max": COLORS["green"],
}
diagonal = problems.quadratic(
    rows=6, columns=4, left_condition=30.0, right_condition=5.0, alignment="generic", basis="standard", seed=0
)
digits = problems.digits()


def descend(problem, norm, steps, factor=4.0, record=RECORD, budget=None, **hyper):
    lr = factor * problems.best_radius(problem, norm, budget or steps)
    return ot.run(problem, TrustRegion(norm, lr=lr, **hyper), steps, record=record)


def floor(trace):
    """L lr / 2, the part of the bound that does not vanish."""
    return float(trace.problem.smoothness(trace.method.norm)) * trace.method.lr / 2


traces = {name: descend(diagonal, norms.make(name), STEPS) for name in COLOR}
real = {
    name: descend(digits, norms.make(name), 500, record=descent.RECORD, budget=STEPS)
    for name in ("spectral", "frobenius")
}
runs = [(name, t, COLOR[name], "-") for name, t in traces.items()]
runs += [(f"digits, {name}", t, COLOR[name], (0, (1, 1))) for name, t in real.items()]

control = theorem.control()
with matplotlib.rc_context(PAGE):
    fig, (left, right) = plt.subplots(1, 2, figsize=(6.8, 2.9))
    for _, trace, color, ls in runs:
        counts = np.arange(1, trace.steps + 1)
        left.plot(counts, theorem.lhs(trace) / floor(trace), color=color, lw=1.0, ls=ls)
        left.plot(counts, theorem.rhs(trace) / floor(trace), color=COLORS["black"], **DASHED)
        right.plot(counts, theorem.lhs(trace) / theorem.rhs(trace), color=color, ls=ls)
    counts, trace = np.arange(1, STEPS + 1), traces["spectral"]
    left.plot(counts, control.rhs(trace) / floor(trace), color=COLORS["gray"], ls=(0, (1, 2)), lw=0.9)
    right.plot(counts, control.rhs(trace) / theorem.rhs(trace), color=COLORS["gray"], ls=(0, (1, 2)), lw=0.9)
    right.axhline(1, color=COLORS["black"], **DASHED)
    left.set(xscale="log", yscale="log", xlim=(1, STEPS), ylim=(0.15, 200), xlabel="steps $K$")
    left.set_ylabel(r"mean $\|\nabla f\|_*$ of $K$ steps, over $L\eta/2$")
    left.annotate("bound", (STEPS / 16 / 29, 30), (5, 2), textcoords="offset points")
    right.annotate(
        "$L$ halved", (STEPS, 0.5), (-2, -8), textcoords="offset points", ha="right", color=COLORS["gray"], fontsize=8
    )
    right.set(xscale="log", xlim=(1, STEPS), ylim=(0, 1.06), xlabel="steps $K$", ylabel="measured over bound")
    ends = [(theorem.lhs(t) / theorem.rhs(t))[-1] for _, t, _, _ in runs]
    spread_labels(right, ends, [name for name, *_ in runs], [color for *_, color, _ in runs], gap=0.08)
    plt.show()

rows = []
for name, trace, _, _ in runs:
    verdict = ot.theory.check(theorem, trace, name)
    excess = theorem.lhs(trace) / control.rhs(trace)
    rows.append(
        {
            "run": name,
            "L": float(trace.problem.smoothness(trace.method.norm)),
            "L is": trace.problem.smoothness(trace.method.norm).kind,
            "holds at every K": verdict.holds,
            "largest measured / bound": verdict.worst,
            "control fails": not ot.theory.check(control, trace, name).holds,
            "first at K": int(np.argmax(excess > 1)) + 1 if (excess > 1).any() else None,
        }
    )
verdicts = pd.DataFrame(rows).set_index("run")
assert verdicts["holds at every K"].all()
verdicts.style.format("{:.3f}", subset=["L", "largest measured / bound"]).format(
    "{:.0f}", subset="first at K", na_rep="-"
)

# %% [markdown]
# The digits' constant is an upper bound of $L$ (Böhning's), so that the halved constant need not be refuted
# there: a control has a case where it must fail, not every case. Their mean falls below $L\eta/2$, which is the
# floor of the bound, not of every run. The ledger checks all cases of the theorem and its control:

# %%
labels = ("smoothness-quadratic", "exact-accounting", "trust-region-nonconvex", "spectral-cycle-commuting")
ledger = pd.DataFrame([ot.theory.ledger_row(ot.theory.get(label), "smoke") for label in labels]).set_index("label")
ledger["control fails"] = [c["fails"] for c in ledger["control"]]
ledger["the mistake"] = [c["mistake"] for c in ledger["control"]]
assert (ledger["verdict"] == "holds").all()
assert ledger["control fails"].all()
ledger[["kind", "verdict", "cases", "measured", "tightness", "witness", "control fails", "the mistake"]].style.format(
    {"measured": "{:.3g}", "tightness": "{:.6f}"}
)

# %% [markdown]
# ## 3. Assumptions are tests
#
# A theorem that is applied where it does not hold must say so. Each row changes one thing, and `check` raises
# `AssumptionFails`. The last column ignores the refusal and computes both sides anyway: above 1, the assumption
# is not pedantry, the bound is false without it. Momentum makes the final cycle longer and so lifts the floor,
# noise lifts it too, weight decay pulls the run to another point.

# %%
NOISY = problems.quadratic(
    rows=6, columns=4, left_condition=30.0, right_condition=5.0, alignment="generic", basis="standard", seed=0,
    noise=problems.Gaussian(sigma=0.1),
)  # fmt: skip
spectral = norms.Spectral()
changed = {
    "nothing": traces["spectral"],
    "momentum 0.9": descend(diagonal, spectral, STEPS, momentum=0.9),
    "weight decay 0.5": descend(diagonal, spectral, STEPS, weight_decay=0.5),
    "Gaussian noise": descend(NOISY, spectral, STEPS, factor=1.0),
    "Muon instead": ot.run(
        diagonal, ot.methods.make("muon", lr=traces["spectral"].method.lr), STEPS, record=descent.RECORD
    ),
}
rows = []
for name, trace in changed.items():
    try:
        answer = "holds" if ot.theory.check(theorem, trace, name).holds else "violated"
    except ot.theory.AssumptionFails as refusal:
        answer = f"AssumptionFails: {refusal}"
    rows.append(
        {"changed": name, "check": answer, "largest measured / bound": np.max(theorem.lhs(trace) / theorem.rhs(trace))}
    )
table = pd.DataFrame(rows).set_index("changed")
assert table["check"].iloc[1:].str.startswith("AssumptionFails").all()
table.style.format("{:.2f}", subset=["largest measured / bound"]).set_properties(**{"text-align": "left"})

# %% [markdown]
# ## 4. Exact accounting
#
# On a quadratic the descent lemma is an equality, and so the bound has an exact version:

# %%
accounting = ot.theory.get("exact-accounting")
display(Math(accounting.statement))

# %% [markdown]
# The mean gradient norm is a *gap term* (what $f$ has fallen) plus a *curvature term* (what the steps have cost).
# The bound replaces the first by all that $f$ could fall and the second by the sharpest direction there is. Solid
# bars: the two terms; dots: the measured mean, computed from the gradients alone. Hollow: the two terms of the
# bound, always of height 1.

# %%
BUDGETS = (10, 100, STEPS)
with matplotlib.rc_context(PAGE):
    fig, ax = plt.subplots(figsize=(6.5, 2.8))
    place, ticks, names = 0.0, [], []
    for budget in BUDGETS:
        for name, color in COLOR.items():
            trace, k = traces[name], budget - 1
            bound = theorem.rhs(trace)[k]
            gap = descent.accounting(trace, curvature_share=0.0)[k] / bound
            cost = accounting.rhs(trace)[k] / bound - gap
            ax.bar(place, gap, color=color, width=0.8, alpha=0.95, lw=0)
            ax.bar(place, cost, bottom=gap, color=color, width=0.8, alpha=0.4, lw=0)
            ax.plot(place, theorem.lhs(trace)[k] / bound, "o", ms=4, mfc="w", mec=COLORS["black"], mew=0.9)
            allowed = 1 - floor(trace) / bound
            ax.bar(place, allowed, color="none", edgecolor=COLORS["gray"], lw=0.6, width=0.9)
            ax.bar(place, 1 - allowed, bottom=allowed, color="none", edgecolor=COLORS["gray"], lw=0.6, width=0.9)
            ticks.append(place)
            names.append(name)
            place += 1
        ax.text(place - (len(COLOR) + 1) / 2, 1.04, f"$K={budget}$", ha="center")
        place += 1
    ax.set_xticks(ticks, names, rotation=55, ha="right", rotation_mode="anchor")
    ax.tick_params(axis="x", length=0)
    ax.set(ylabel="share of the bound", ylim=(0, 1.12), xlim=(-0.7, place + 2.4))
    ax.text(place - 1.3, 0.02, "gap term\n(full color)", fontsize=8, va="bottom")
    ax.text(place - 1.3, 0.62, "curvature\nterm (pale)", fontsize=8, va="center")
    plt.show()

errors = {name: ot.theory.check(accounting, trace, name).worst for name, trace in traces.items()}
broken = {name: ot.theory.check(accounting.control(), trace, name).worst for name, trace in traces.items()}
print(f"identity at all K up to {STEPS}: largest relative error {max(errors.values()):.1e}")
print(f"control, {accounting.mistake}: smallest error {min(broken.values()):.1e}")
assert max(errors.values()) < 1e-12 < min(broken.values())

# %% [markdown]
# ## 5. Tightness is curvature alignment
#
# For large $K$ the gap terms vanish, and measured over bound becomes $\frac1K\sum_k\langle P_k,HP_k\rangle/L$:
# the bound is tight exactly if the steps point along the sharpest directions of the norm. Random quadratics in
# random bases, each at one, four and sixteen times the best radius (size of the dot). Filled: $L$ is exact.
# Hollow: only an upper bound of $L$ is known (for the largest entry $L$ is NP-hard), and what is missing to 1 may
# be the constant's fault.

# %%
PROBLEMS, LONG = (3, 400) if SIZE == "smoke" else (5, 1200)
points = []
for seed in range(PROBLEMS):
    general = problems.quadratic(
        rows=5, columns=4, left_condition=30.0, right_condition=5.0, alignment="generic", seed=seed
    )
    for name in COLOR:
        for factor in (1.0, 4.0, 16.0):
            trace = descend(general, norms.make(name), LONG, factor=factor)
            share = np.mean(trace["step_curvature"][:-1]) / trace.method.lr**2 / (2 * floor(trace) / trace.method.lr)
            tight = (theorem.lhs(trace) / theorem.rhs(trace))[-1]
            exact = general.smoothness(trace.method.norm).kind == "exact"
            points.append((name, factor, share, tight, exact))
with matplotlib.rc_context(PAGE):
    fig, ax = plt.subplots(figsize=(3.6, 3.2))
    ax.plot([0.5, 1], [0.5, 1], color=COLORS["gray"], lw=0.7)
    for name, factor, share, tight, exact in points:
        size = {1.0: 2.5, 4.0: 4.0, 16.0: 6.0}[factor]
        ax.plot(share, tight, "o", ms=size, mfc=COLOR[name] if exact else "none", mec=COLOR[name], mew=0.8)
    ax.set(xlim=(0.55, 1.02), ylim=(0.55, 1.02), aspect="equal", xticks=[0.6, 0.8, 1], yticks=[0.6, 0.8, 1])
    ax.set_xlabel(r"curvature alignment, mean $\langle P,HP\rangle/L$")
    ax.set_ylabel("measured over bound")
    for line, name in enumerate(COLOR):
        ax.text(0.98, 0.32 - 0.065 * line, name, color=COLOR[name], fontsize=8, ha="right", transform=ax.transAxes)
    plt.show()
far = [abs(share - tight) for _, factor, share, tight, _ in points if factor == 16.0]
near = [abs(share - tight) for _, factor, share, tight, _ in points if factor == 1.0]
print(f"largest distance from the diagonal: {max(far):.3f} at 16 times the best radius (large dots),")
print(f"{max(near):.3f} at the best radius (small dots), where the gap term is half of the bound")

# %% [markdown]
# ## 6. The cycle and the floor
#
# Why does the mean end on $L\eta/2$ and not below? In the spectral norm the end of the run is known exactly,
# where the first error shares its singular vectors with $A$ and $B$:

# %%
cycle_theorem = ot.theory.get("spectral-cycle-commuting")
display(Math(cycle_theorem.statement))
sentence("It assumes that " + "; ".join(a.text for a in cycle_theorem.assumes) + ".")

# %% [markdown]
# Each singular value of the error walks down a staircase, $s_i\leftarrow s_i-\eta\operatorname{sign}(s_i)$,
# *whatever its curvature* $h_i$, and then alternates between $s_i(0)\bmod\eta$ and that minus $\eta$. The two
# gradients of the cycle differ from start to start; their mean does not.

# %%
CYCLE_RECORD = (*cycle.RECORD, "step_curvature")
LR = 0.11
LINES = (COLORS["vermilion"], COLORS["blue"], COLORS["green"], COLORS["purple"])
curvatures = problems.log_spectrum(4, 250.0)
staircase_problem = problems.KroneckerQuadratic(
    np.diag(curvatures), np.eye(4), np.zeros((4, 4)), np.diag([0.6, 0.95, 0.35, 0.8])
)
trace = ot.run(staircase_problem, TrustRegion(spectral, lr=LR), 26, record=CYCLE_RECORD)
basis = cycle.common_basis(trace)
predicted = cycle.staircase(basis.coordinates[0], LR, trace.steps)
signs = np.sign(basis.coordinates[0])
mean = (trace["gradient_norm"][:-1] + trace["gradient_norm"][1:]) / 2
with matplotlib.rc_context(PAGE):
    fig, (left, right) = plt.subplots(1, 2, figsize=(6.5, 2.6), width_ratios=(1.4, 1))
    for i, color in enumerate(LINES):
        left.step(trace.k, predicted[:, i] * signs[i], where="post", color=color, lw=0.9, alpha=0.7)
        left.plot(trace.k, basis.coordinates[:, i] * signs[i], "o", ms=2.5, color=color)
        left.annotate(
            rf"$h_{i + 1}={basis.curvatures[i]:.2g}$", (0, abs(basis.coordinates[0, i])), (-4, 0),
            textcoords="offset points", ha="right", va="center", color=color, fontsize=8,
        )  # fmt: skip
    left.axhspan(-LR, LR, color=COLORS["gray"], alpha=0.15, lw=0)
    left.annotate(
        r"$\pm\eta$", (26, LR), (3, 0), textcoords="offset points", va="center", fontsize=8, annotation_clip=False
    )
    left.set(xlabel="step $k$", ylabel="singular value of the error", xlim=(-7, 26), xticks=range(0, 26, 5))
    right.plot(trace.k, trace["gradient_norm"], "o", ms=2.5, color=COLORS["sky"])
    right.plot(trace.k[:-1] + 0.5, mean, color=COLORS["blue"])
    right.axhline(floor(trace), color=COLORS["blue"], **DASHED)
    right.annotate(r"$L\eta/2$", (0, floor(trace)), (0, 3), textcoords="offset points", color=COLORS["blue"])
    right.annotate("mean of two steps", (6.5, 0.11), color=COLORS["blue"], fontsize=8)
    right.set(xlabel="step $k$", ylabel=r"$\|\nabla f(X_k)\|_*$", yscale="log", ylim=(0.05, 1))
    right.set_yticks([0.05, 0.1, 0.2, 0.5, 1], ["0.05", "0.1", "0.2", "0.5", "1"])
    right.minorticks_off()
    plt.show()
verdict = ot.theory.check(cycle_theorem, trace)
print(
    f"{cycle_theorem.label}: holds = {verdict.holds}, relative error {verdict.worst:.0e} (allowed {verdict.bound:.0e})"
)
print(f"largest distance from the predicted staircase: {np.max(np.abs(predicted - basis.coordinates)):.0e}")

# %% [markdown]
# ## 7. What rounding does to it
#
# The same theorem in a random basis, in floating point: the error commutes with $A$ and $B$ to rounding only. In
# exact arithmetic nothing would change. On the machine two things can happen. Linearize the two-cycle at an
# off-diagonal pair $(e_{ij},e_{ji})$ in the common basis, with $A=\operatorname{diag}(a)$,
# $B=\operatorname{diag}(b)$ and $h_i=a_ib_i$ there. The polar factor turns by $w/(|g_i|+|g_j|)$ with
# $w=\sigma_ia_ib_je_{ij}-\sigma_ja_jb_ie_{ji}$, $\sigma=\operatorname{sign}g$, so that the sum
# $\sigma_ie_{ij}+\sigma_je_{ji}$ stays and $w$ is multiplied, over the two steps of a cycle, by
#
# $$\rho_{ij}=1-\frac{x(1-x)}{\theta(1-\theta)},\qquad x=\frac{a_ib_j+a_jb_i}{h_i+h_j},\qquad
# \theta=\frac{h_i|s_i|+h_j|s_j|}{\eta\,(h_i+h_j)}.$$
#
# (For a rectangular matrix a direction beyond the last singular value counts as a partner with $h_j=0$; here all
# are square.) Where the eigenvalues are paired in order, $x\le1$ by rearrangement, and the cycle **repels** if
# $x(1-x)>2\theta(1-\theta)$ for some pair, i.e. if its rests lie near an end of the step. Paired out of order,
# $x>1$, $\rho>1$: it repels **always**. This is theorem `cycle-multiplier`, ours and of first order only; SymPy
# multiplies the factors of the two steps, and the figure tests it. Rounding supplies the perturbation,
# `cycle.commutation_defect` measures it.

# %%
for step in ot.theory.get("cycle-multiplier").proof():
    display(Math(step))

# %%
SEEDS, LENGTH = (24, 260) if SIZE == "smoke" else (120, 400)
SMALL = 0.05


def defects(trace):
    """The commutation defect at each step: the package's, on the first and the k-th record."""
    w = trace["iterate"]
    window = lambda k: dataclasses.replace(trace, records={"iterate": w[[0, k]]})  # noqa: E731
    return np.array([cycle.commutation_defect(window(k)) for k in range(len(w))])


def predicted_growth(trace, k):
    """sqrt|rho| of all pairs, the predicted factors per step, largest first, from the errors at step k."""
    basis, form = cycle.common_basis(trace), trace.problem.form
    a, b = np.diag(basis.u.T @ form.a @ basis.u), np.diag(basis.v.T @ form.b @ basis.v)
    h, s = a * b, np.abs(basis.coordinates[k])
    i, j = np.triu_indices(len(h), 1)
    x = (a[i] * b[j] + a[j] * b[i]) / (h[i] + h[j])
    theta = (h[i] * s[i] + h[j] * s[j]) / (trace.method.lr * (h[i] + h[j]))
    return np.sort(np.sqrt(np.abs(1 - x * (1 - x) / (theta * (1 - theta)))))[::-1]


rows, kept = [], {}
for seed in range(SEEDS):
    rounded = problems.quadratic(rows=5, columns=5, left_condition=50.0, right_condition=7.0, seed=seed)
    trace = ot.run(rounded, TrustRegion(spectral, lr=SMALL), LENGTH, record=CYCLE_RECORD)
    defect = defects(trace)
    arrival = int(np.max(np.abs(cycle.common_basis(trace).coordinates[0])) / SMALL) + 2
    pairs = predicted_growth(trace, arrival)
    growth = pairs[0]
    ended = np.flatnonzero(defect > 1e-6)
    rising = np.flatnonzero(defect > 1e-12)
    rising = rising[rising + 2 < ended[0]] if len(ended) else rising[:0]
    measured = np.median(np.sqrt(defect[rising + 2] / defect[rising])) if len(rising) else np.nan
    mean = (trace["gradient_norm"][:-1] + trace["gradient_norm"][1:]) / 2
    departure = np.abs(mean / floor(trace) - 1)
    kept[seed] = (defect, departure, arrival, growth)
    rows.append(
        {
            "predicted": growth,
            "measured": measured,
            "nearest pair": pairs[np.argmin(np.abs(pairs - measured))],
            "largest defect": defect.max(),
            "largest departure": departure[arrival:].max(),
            "last departure": departure[-1],
        }
    )
rounding = pd.DataFrame(rows)
fate = np.where(rounding["predicted"] < 1, "predicted to hold", "predicted to repel")
groups = rounding.groupby(fate)
pd.DataFrame(
    {
        "runs": groups.size(),
        "largest defect": groups["largest defect"].max(),
        "smallest defect": groups["largest defect"].min(),
        "largest departure of the mean from the floor": groups["largest departure"].max(),
        "its median at the last step": groups["last departure"].median(),
        "its largest at the last step": groups["last departure"].max(),
    }
).T.style.format("{:.2g}")

# %%
stable = rounding["predicted"] < 1
assert (rounding["largest defect"][stable] < 1e-12).all(), "a cycle predicted to hold has grown"
fitted = rounding[rounding["measured"].notna()]
error = (np.log(fitted["measured"]) / np.log(fitted["predicted"]) - 1).abs()
slower = fitted["nearest pair"] < fitted["predicted"]
sentence(
    f"Of {len(rounding)} runs, {stable.sum()} were predicted to hold and kept their defect at rounding. Of the "
    f"{(~stable).sum()} others {(rounding['largest defect'][~stable] > 1e-10).sum()} passed 1e-10 within {LENGTH} "
    f"steps; the slowest was predicted to grow by a factor of {rounding['predicted'][~stable].min():.3f} a step. "
    f"Over the {len(fitted)} that crossed six decades the measured rate of growth differs from the predicted one by "
    f"{error.median():.4%} in the median. In {slower.sum()} of them it is nearer to the factor of a slower pair, "
    f"presumably one that reached its cycle earlier and had a head start; in the {(~slower).sum()} others the largest "
    f"difference is {error[~slower].max():.1%}, where the lead changes hands inside the window."
)

rates = np.log(rounding["predicted"])
examples = {
    "holds": (rounding["predicted"][stable].idxmax(), COLORS["blue"]),
    "repels": ((rates - np.log(1.35)).abs().idxmin(), COLORS["orange"]),
    "repels fast": ((rates - np.log(2.2)).abs().idxmin(), COLORS["vermilion"]),
}
with matplotlib.rc_context(PAGE):
    fig, (left, middle, right) = plt.subplots(1, 3, figsize=(7.6, 2.7))
    for seed, color in examples.values():
        defect, departure, arrival, growth = kept[seed]
        left.plot(defect, color=color)
        if growth > 1:
            start = np.flatnonzero(defect > 1e-11)[0]
            line = np.arange(start - 6, start + np.log(2e9) / np.log(growth))
            left.plot(line, 2 * defect[start] * growth ** (line - start), color=COLORS["black"], **DASHED)
        middle.plot(np.arange(len(departure)), np.maximum(departure, 2e-17), color=color)
    for text, (seed, color) in examples.items():
        defect, _, _, growth = kept[seed]
        height = {"holds": 1e-15, "repels": 1e-10, "repels fast": 0.1}[text]
        at = np.argmax(defect > height) if text == "repels" else {"holds": 0.6 * len(defect)}.get(text, defect.argmax())
        place = (at, 4 * height if text == "holds" else height)
        left.annotate(f"{growth:.2f}", place, (5, 0), textcoords="offset points", color=color, fontsize=8)
    left.set(yscale="log", xlabel="step $k$", ylabel="commutation defect", ylim=(1e-16, 1))
    middle.set(yscale="log", xlabel="step $k$", ylim=(1e-17, 100))
    middle.set_ylabel(r"$|$mean gradient$\,/\,\mathrm{floor}-1|$")
    right.plot([1, 9], [1, 9], color=COLORS["gray"], lw=0.7)
    right.axvline(1, color=COLORS["gray"], lw=0.7, ls=(0, (1, 2)))
    right.plot(fitted["predicted"], fitted["measured"], "o", ms=3, color=COLORS["vermilion"], mew=0)
    slow = rounding[~stable & rounding["measured"].isna()]
    right.plot(rounding["predicted"][stable], np.full(stable.sum(), 0.93), "o", ms=3, mfc="none", color=COLORS["blue"])
    right.plot(slow["predicted"], np.full(len(slow), 0.93), "o", ms=3, mfc="none", color=COLORS["orange"])
    right.text(0.57, 0.8, "never grew", color=COLORS["blue"], fontsize=8, va="top")
    right.set(xscale="log", yscale="log", xlim=(0.5, 10), ylim=(0.6, 10))
    for axis in (right.xaxis, right.yaxis):
        axis.set_major_formatter(matplotlib.ticker.FormatStrFormatter("%g"))
        axis.set_minor_formatter(matplotlib.ticker.NullFormatter())
        axis.set_major_locator(matplotlib.ticker.FixedLocator([0.5, 1, 2, 5, 10]))
    right.set(xlabel="predicted growth a step", ylabel="measured growth a step")
    plt.show()

# %% [markdown]
# Left: the defect of three runs; the number and the dashed line are the predicted growth a step. Middle: where
# the cycle repels, the run leaves it at a visible defect, and then the mean gradient **returns** to $L\eta/2$: it
# has found another cycle with the same mean and gentler rests. Right: predicted against measured growth for all
# runs. So the theorem's assumption `in their order` and its tolerance on the commutation are both needed, and the
# conclusion outlives them.
#
# ## 8. Conjecture: the sharpest cycle attracts
#
# From random starts, where nothing commutes, the run ends in a two-cycle too, and *in every run so far* its
# curvature was the largest there is: $\langle P,HP\rangle=L$. This is numerical evidence for a **conjecture**,
# not a theorem. Three pictures of it.
#
# **Evidence.** Missing alignment $1-\langle P_k,HP_k\rangle/L$ of random starts on several quadratics: median and
# worst run.

# %%
STARTS, FAMILY, WAIT = (100, 3, 500) if SIZE == "smoke" else (300, 6, 1000)
evidence = []
with matplotlib.rc_context(PAGE):
    fig, ax = plt.subplots(figsize=(5.2, 2.5))
    for seed, color in zip(range(FAMILY), [*list(LINES), COLORS["orange"], COLORS["sky"]], strict=False):
        general = problems.quadratic(
            rows=5, columns=4, left_condition=30.0, right_condition=5.0, alignment="generic", seed=seed
        )
        first = general.optimum + np.random.default_rng(seed).standard_normal((STARTS, 5, 4))
        trace = ot.run(general, TrustRegion(spectral, lr=SMALL), WAIT, record=("step_curvature",), start=first)
        sharpness = float(general.smoothness(spectral))
        missing = 1 - trace["step_curvature"][:-1] / SMALL**2 / sharpness
        evidence.append(missing[-1])
        k, missing = trace.k[:-1:2], missing[::2]  # every second step: the cycle has period two
        ax.plot(k, np.maximum(np.median(missing, axis=1), 1e-16), color=color)
        ax.plot(k, np.maximum(missing.max(axis=1), 1e-16), color=color, **DASHED)
    ax.set(yscale="log", ylim=(5e-17, 2), xlabel="step $k$", ylabel=r"$1-\langle P_k,HP_k\rangle/L$")
    ax.annotate("median of\nthe starts", (150, 1e-11), ha="right", fontsize=8)
    ax.annotate("worst start (dashed)", (0.42, 0.78), xycoords="axes fraction", fontsize=8)
    plt.show()
evidence = np.array(evidence)
print(f"{evidence.size} runs, {FAMILY} problems, {WAIT} steps: {np.sum(evidence > 1e-6)} end below (1 - 1e-6) L;")
print(f"largest missing alignment {evidence.max():.1e}")

# %% [markdown]
# **Other cycles exist, and repel.** Diagonal $A$, $B$, $X_0$ commute exactly, also in floating point. Pair the
# eigenvalues in opposite order and the run stays in a cycle of smaller curvature; the theorem refuses
# (`in their order`). A perturbation of rounding size is enough to leave it for the sharpest one, as $\rho>1$
# predicts.

# %%
rising_order = np.diag(problems.log_spectrum(4, 50.0)[::-1].copy())
falling_order = np.diag(problems.log_spectrum(4, 7.0))
rng = np.random.default_rng(1)
bump = rng.standard_normal((4, 4))
rows = {}
for size in (0.0, 1e-13, 1e-8):
    crossed = problems.KroneckerQuadratic(
        rising_order, falling_order, np.zeros((4, 4)), np.diag([0.61, 0.957, 0.353, 0.81]) + size * bump
    )
    trace = ot.run(crossed, TrustRegion(spectral, lr=SMALL), 400, record=CYCLE_RECORD)
    share = trace["step_curvature"] / SMALL**2 / float(crossed.smoothness(spectral))
    rows[f"perturbed by {size:g}"] = {f"alignment at step {k}": share[k] for k in (10, 25, 50, 100, 399)}
    if size == 0:
        paired = np.sum(np.diag(rising_order) * np.diag(falling_order)) / float(crossed.smoothness(spectral))
        try:
            ot.theory.check(cycle_theorem, trace, "the crossed pairing")
        except ot.theory.AssumptionFails as refusal:
            print(refusal)
        print(
            f"alignment of the crossed pairing: {paired:.6f}; "
            f"predicted growth {predicted_growth(trace, 30)[0]:.1f} a step"
        )
pd.DataFrame(rows).T.style.format("{:.6f}")

# %% [markdown]
# **It is special to the spectral norm.** For sign descent the same sentence would solve an NP-hard problem from
# any start, and it is false. On $3\times3$ quadratics the sharpest sign matrix can be found by trying all of
# them; the final alignment of random starts often stays below 1 (purple), while the spectral runs on the same
# problems all reach it (orange).

# %%
SIGNS = np.array(list(itertools.product([-1.0, 1.0], repeat=9))).reshape(-1, 3, 3)
MANY, SPAN = (60, 1500) if SIZE == "smoke" else (200, 2500)
FINE = 0.02
finals = {"max-entry": [], "spectral": []}
for seed in range(8):
    tiny = problems.quadratic(
        rows=3, columns=3, left_condition=30.0, right_condition=5.0, alignment="generic", seed=seed
    )
    first = tiny.optimum + np.random.default_rng(seed).standard_normal((MANY, 3, 3))
    best = {"max-entry": tiny.curvature(SIGNS).max(), "spectral": float(tiny.smoothness(spectral))}
    for name in finals:
        method = TrustRegion(norms.make(name), lr=FINE)
        trace = ot.run(tiny, method, SPAN, record=("step_curvature",), start=first)
        finals[name].append(trace["step_curvature"][-9:-1].mean(axis=0) / FINE**2 / best[name])
finals = {name: np.array(values) for name, values in finals.items()}
with matplotlib.rc_context(PAGE):
    fig, ax = plt.subplots(figsize=(5.2, 2.3))
    for name, shift in (("max-entry", -0.16), ("spectral", 0.16)):
        for seed, values in enumerate(finals[name]):
            levels, counts = np.unique(values.round(6), return_counts=True)
            ax.scatter(
                np.full(len(levels), seed + shift), levels, s=4 + 60 * counts / MANY, color=COLOR[name], lw=0, alpha=0.8
            )
    ax.set(xlabel="problem (area: share of the starts)", ylabel=r"final $\langle P,HP\rangle/$sup", ylim=(0.4, 1.06))
    ax.set_xticks(range(8))
    ax.text(-0.2, 0.9, "sign descent", color=COLOR["max-entry"], fontsize=8)
    ax.text(-0.2, 0.83, "spectral", color=COLOR["spectral"], fontsize=8)
    plt.show()
for name, values in finals.items():
    below = np.sum(values < 1 - 1e-6)
    print(f"{name:9s} {below} of {values.size} runs end below the supremum, the lowest at {values.min():.3f}")

# %% [markdown]
# ## 9. The rate
#
# The bound at its best radius, $\eta=\sqrt{2\Delta/(LK)}$ with $\Delta=f(X_0)-\inf f$, is $\sqrt{2L\Delta/K}$:
# exponent $-\frac12$ in the budget $K$. What exponent does a run show? For each budget the radius is tuned anew,
# over several seeds, and `ot.theory.fit_exponent` fits the slope with a bootstrap interval over the seeds; it
# refuses a single run. Three questions, three columns: the **bound** (largest measured over bound), the
# **exponent** (slope, interval, local slopes), and the **constant** (the curve's distance from the bound). Three
# families:
#
# * *ramp*: a slope of constant steepness that a budget of $K$ steps cannot leave; built anew for each $K$, it
#   exhausts the bound up to a factor;
# * *quadratic*, mean gradient at the prescribed radius;
# * *quadratic in hindsight*: smallest gradient of the run, at the best radius of a grid.

# %%
BUDGETS = 2 ** np.arange(3, 10 if SIZE == "smoke" else 12)
SEEDS = 6 if SIZE == "smoke" else 10
GRID = np.geomspace(1 / 128, 4, 41)
at_edge = 0
measured = {name: np.empty((SEEDS, len(BUDGETS))) for name in ("ramp", "quadratic", "quadratic in hindsight")}
units = {name: np.empty((SEEDS, len(BUDGETS))) for name in measured}  # sqrt(2 L gap)
rng = np.random.default_rng(0)
for seed in range(SEEDS):
    gap, curvature = (float(v) for v in 10 ** rng.uniform(-1, 1, size=2))
    hill = problems.quadratic(
        rows=5, columns=4, left_condition=30.0, right_condition=5.0, alignment="generic", seed=seed
    )
    for j, budget in enumerate(int(k) for k in BUDGETS):
        slope = problems.ramp(budget=budget, gap=gap, curvature=curvature, seed=seed)
        for name, case in (("ramp", slope), ("quadratic", hill)):
            radius = problems.best_radius(case, spectral, budget)
            trace = ot.run(case, TrustRegion(spectral, lr=radius), budget, record=descent.RECORD)
            assert ot.theory.check(theorem, trace, f"{name}, K = {budget}, seed {seed}").holds
            measured[name][seed, j] = theorem.lhs(trace)[-1]
            units[name][seed, j] = theorem.rhs(trace)[-1] * np.sqrt(budget)
        name = "quadratic in hindsight"
        swept = ot.run(hill, TrustRegion(spectral, lr=radius * GRID), budget, record=("gradient_norm",))
        smallest = swept["gradient_norm"][:-1].min(axis=0)
        measured[name][seed, j] = smallest.min()
        at_edge += int(np.argmin(smallest) in (0, len(GRID) - 1))
        units[name][seed, j] = units["quadratic"][seed, j]

fits = {name: ot.theory.fit_exponent(BUDGETS, y) for name, y in measured.items()}
late = {name: ot.theory.fit_exponent(BUDGETS[-4:], y[:, -4:]) for name, y in measured.items()}
pd.DataFrame(
    {
        name: {
            "largest measured / bound": np.max(measured[name] / units[name] * np.sqrt(BUDGETS)),
            "median at the last K": np.median((measured[name] / units[name])[:, -1] * np.sqrt(BUDGETS[-1])),
            "slope": f"{fit.slope:.3f} [{fit.low:.3f}, {fit.high:.3f}]",
            "slope, last four budgets": f"{late[name].slope:.3f} [{late[name].low:.3f}, {late[name].high:.3f}]",
            "first, last local slope": f"{fit.local[0]:.3f}, {fit.local[-1]:.3f}",
            "-1/2 by the interval": fit.verdict(-0.5),
            "the same, last four": late[name].verdict(-0.5),
        }
        for name, fit in fits.items()
    }
).T.style.format("{:.3f}", subset=["largest measured / bound", "median at the last K"])

# %%
try:
    ot.theory.fit_exponent(BUDGETS, measured["ramp"][:1])
except ValueError as refusal:
    print(refusal)
families = {"ramp": COLORS["purple"], "quadratic": COLORS["blue"], "quadratic in hindsight": COLORS["green"]}
between = np.sqrt(BUDGETS[:-1] * BUDGETS[1:])
with matplotlib.rc_context(PAGE):
    fig, (left, right) = plt.subplots(1, 2, figsize=(6.8, 2.8))
    for name, color in families.items():
        y = measured[name] / units[name]
        left.fill_between(BUDGETS, y.min(axis=0), y.max(axis=0), color=color, alpha=0.2, lw=0)
        left.plot(BUDGETS, np.exp(np.log(y).mean(axis=0)), color=color, marker="o", ms=2.5)
        right.plot(between, fits[name].local, color=color, marker="o", ms=2.5)
    left.plot(BUDGETS, BUDGETS**-0.5, color=COLORS["black"], **DASHED)
    left.set(xscale="log", yscale="log", xlabel="budget $K$, radius tuned to it")
    left.set_ylabel(r"$\|\nabla f\|_*\;/\;\sqrt{2L\Delta}$")
    left.annotate("bound, $K^{-1/2}$", (BUDGETS[2], BUDGETS[2] ** -0.5), (4, 4), textcoords="offset points", fontsize=8)
    for exponent in (-0.5, -1.0):
        right.axhline(exponent, color=COLORS["gray"], ls=(0, (1, 2)), lw=0.9)
    right.set(xscale="log", xlabel="budget $K$", ylabel="local exponent", yticks=[-1.25, -1, -0.75, -0.5, -0.25])
    right.set_ylim(-1.35, -0.2)
    spread_labels(
        right,
        [fits[n].local[-1] for n in families],
        ["ramp", "quadratic", "quadratic\nin hindsight"],
        list(families.values()),
    )
    plt.show()
deviation = (np.array(fits["ramp"].local) + 0.5) * between
print(f"hindsight: the best radius lies at an end of the grid in {at_edge} of {SEEDS * len(BUDGETS)} cases")
print("ramp, (local exponent + 1/2) x K:", *deviation.round(2), "(constant: the exponent tends to -1/2 like 1/K)")

# %% [markdown]
# How to read it:
#
# * **Bound holds** at all prefixes of all runs at the prescribed radius: `check` ran on each.
# * **Ramp.** Every seed gives the same curve up to a scale, so that the interval has no width and misses
#   $-\frac12$: an interval over seeds knows nothing of the bias at finite $K$. The local slopes do: they approach
#   $-\frac12$ like $1/K$ (the last line). This family has the rate of the bound with half its constant: only the
#   gap term is used, a ramp has no curvature.
# * **Quadratic, prescribed radius.** The local exponent tends to $-\frac12$ too, and the mean gradient to the
#   bound *itself* (`median at the last K`): the run arrives, so that the gap term is used up, and then sits on
#   the floor $L\eta/2$, the other half. At its own best radius the bound is nearly attained by a plain quadratic.
#   Again the interval misses $-\frac12$, and for the same reason.
# * **Hindsight** on the same quadratics is faster, near $K^{-1}$: a smaller radius still arrives in $K$ steps and
#   its floor is lower. The bound is not violated, its exponent is just not theirs. That a bound holds says
#   nothing about the exponent of a run, and a fitted exponent says nothing about the bound.
#
# ## What to take along
#
# * Fixed-radius descent obeys $\frac{\Delta}{\eta K}+\frac{L\eta}2$ in every norm tried, on real data too; with
#   half the constant the statement is refuted in each run whose $L$ is exact.
# * The bound is tight as far as the steps are aligned with the sharpest curvature; spectral descent aligns
#   itself.
# * Its floor is the mean of a two-cycle, exact where things commute. Whether a commuting cycle survives rounding
#   is decided by its rests, by a formula; its mean survives in either case. That the sharpest cycle attracts is a
#   conjecture for the spectral norm and false for sign descent.
# * A rate needs seeds, an interval, local slopes and a tuned radius; and even then it is a rate of the family.
