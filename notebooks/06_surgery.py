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
# # Gradient surgery: what no objective minds, and what an optimizer makes of it
#
# Several objectives $f_1,\dots,f_m$ of the same weights have gradients $g_1,\dots,g_m$, the rows of a Jacobian $J$.
# *Surgery* maps $J$ to one update $d$; the step is $x-\eta d$. The update does not *conflict* if it lies in the cone
#
# $$\mathcal C=\{d : Jd\ge0\},$$
#
# for then no objective rises to first order. This notebook draws the cone in two and three dimensions, follows
# trajectories to Pareto sets that are known in closed form, checks bounds with explicit constants, and then asks
# what is left of a guarantee once the update is orthogonalized, as Muon does, or preconditioned, as Adam does.
#
# UPGrad is from *Jacobian Descent for Multi-Objective Optimization* (Quinton, Rey, 2024), MGDA from Désidéri (2012);
# the constants of the bounds are ours. Sliders need a running kernel.
# `ORTHOTHEORY_SIZE` is `smoke` (default) or `paper`.

# %%
import os
from functools import partial

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from IPython.display import Markdown, Math, display
from ipywidgets import FloatLogSlider, FloatSlider

import orthotheory as ot
from orthotheory import claims, problems, surgery
from orthotheory.plotting.sliders import explore
from orthotheory.methods import Adam, GradientDescent, Muon, Surgery
from orthotheory.plotting import COLORS
from orthotheory.polar import polar_factor
from orthotheory.surgery import properties as guarantees
from orthotheory.surgery.orthogonal import progress, project_in_metric, spectral_cone_step, spectral_mgda
from orthotheory.theory import surgery as rates
from orthotheory.theory import surgery_orthogonal as meets

# %matplotlib inline

SIZE = os.environ.get("ORTHOTHEORY_SIZE", "smoke")
if SIZE not in ("smoke", "paper"):
    raise ValueError(f"ORTHOTHEORY_SIZE is smoke or paper; got {SIZE!r}.")
PAGE = ot.plotting.STYLE | {"figure.dpi": 140}
FIGURES = ot.reproduce.load_figures(ot.reproduce.find_root())
RULES = {
    "mean": COLORS["black"],
    "upgrad": COLORS["vermilion"],
    "mgda": COLORS["blue"],
    "config": COLORS["green"],
    "pcgrad": COLORS["orange"],
}


def paper_figure(name):
    """Draw a figure of the paper from fresh data; return the data."""
    figure, _ = FIGURES[name]
    data = figure.data(SIZE)
    with matplotlib.rc_context(PAGE):
        figure.draw(data, plt.figure(figsize=figure.size))
        plt.show()
    return data


def arrow(ax, tip, color, width=1.3):
    style = {"arrowstyle": "-|>", "color": color, "lw": width, "shrinkA": 0, "shrinkB": 0, "mutation_scale": 9}
    ax.annotate("", tip, (0, 0), arrowprops=style)


def ledger(items, row):
    rows = pd.DataFrame([row(item, SIZE) for item in items]).set_index("label")
    rows["control fails"] = [c["fails"] for c in rows["control"]]
    assert rows["control fails"].all()
    return rows


# %% [markdown]
# ## 1. The cone in the plane
#
# Two gradients, the cone between their normals (green), and the updates of five rules. Turn the second gradient and
# change its length: the cone does not depend on the length, the mean does. PCGrad is twice UPGrad for two objectives.


# %%
def plane(angle=140.0, length=0.8):
    turn = np.radians(angle)
    jacobian = np.array([[1.4, 0.3], [length * np.cos(turn), length * np.sin(turn)]])
    with matplotlib.rc_context(PAGE):
        _, ax = plt.subplots(figsize=(3.6, 2.7))
        directions = np.radians(np.linspace(0, 360, 1441))
        rays = np.stack([np.cos(directions), np.sin(directions)], axis=-1)
        inside = (rays @ jacobian.T >= 0).all(axis=-1)
        if inside.any():
            middle = np.angle(np.sum(np.exp(1j * directions[inside])))
            width = np.abs(np.angle(np.exp(1j * (directions[inside] - middle)))).max()
            fan = np.linspace(middle - width, middle + width, 60)
            ax.fill(*np.vstack([[0, 0], 3 * np.stack([np.cos(fan), np.sin(fan)], axis=-1)]).T, color=COLORS["green"],
                    alpha=0.13, lw=0)  # fmt: skip
        for i, g in enumerate(jacobian):
            arrow(ax, g, COLORS["gray"], 1.6)
            ax.text(*(1.1 * g), f"$g_{i + 1}$", color=COLORS["gray"], ha="center", va="center")
        for name, color in RULES.items():
            arrow(ax, surgery.make(name)(jacobian), color)
            ax.plot([], [], color=color, label=name)
        ax.set(xlim=(-1.8, 1.8), ylim=(-0.7, 1.8), aspect="equal")
        ax.axis("off")
        ax.legend(loc="upper left", bbox_to_anchor=(1, 1))
        plt.show()


explore(
    plane,
    angle=partial(FloatSlider, value=140, min=0, max=180, step=5, description="angle of g2"),
    length=partial(FloatLogSlider, value=0.8, min=-1, max=0.3, step=0.05, description="length of g2"),
)

# %% [markdown]
# The projection on the cone is the only solver that most rules need. It comes with a certificate: the
# complementarity residual, measured at the point that is returned. Nothing is regularized, so zero, opposite,
# dependent and very long rows are ordinary input:

# %%
rng = np.random.default_rng(0)
base = rng.standard_normal((4, 6))
near = base.copy()
near[1] = -near[0] + 1e-6 * near[1]
HARD = {
    "Gaussian": base,
    "a zero row": base * np.array([1.0, 0, 1, 1])[:, None],
    "opposite rows": np.vstack([base[:3], -base[0]]),
    "nearly opposite, 1e-6": near,
    "rank two": base[:, :2] @ rng.standard_normal((2, 6)),
    "row lengths 1e-4 to 1e4": base * np.geomspace(1e-4, 1e4, 4)[:, None],
    "norm 1e-150": 1e-150 * base,
}
rows = []
for name, jacobian in HARD.items():
    found = surgery.project(jacobian, jacobian)
    # after the ridge: cosine of the worst conflict of UPGrad's usual recipe
    usual = -claims.surgery.cosines(jacobian, claims.surgery.ridged_upgrad(jacobian)).min()
    exact = -claims.surgery.cosines(jacobian, surgery.make("upgrad")(jacobian)).min()
    rows.append(
        {
            "Jacobian": name,
            "residual": float(found.residual.max()),
            "needed the rows": bool(found.refined.any()),
            "conflict with a ridge": max(usual, 0),
            "conflict, exact": max(exact, 0),
        }
    )
table = pd.DataFrame(rows).set_index("Jacobian")
assert (table["residual"] <= 1e-10).all()
table.style.format("{:.0e}", subset=["residual", "conflict with a ridge", "conflict, exact"])

# %% [markdown]
# At rank two with four rows the only point of the cone may be 0; what is returned is then rounding, and the cosine of
# rounding with a gradient says nothing.
#
# Which rule guarantees what? The table is generated: each *yes* is tested over labeled samplers of Jacobians,
# everything else has a stored counterexample.

# %%
properties = pd.DataFrame(guarantees.table()).set_index("name").drop(columns="title")
properties.style.format({"degree": "{:.3g}"})

# %% [markdown]
# Two of the counterexamples: PCGrad in conflict with a gradient, and the mean where it should vanish.

# %%
for name, label in (("pcgrad", "non-conflicting"), ("mean", "strong-zero")):
    witness = guarantees.counterexample(name, label)
    assert witness is not None
    update = surgery.make(name)(witness)
    print(f"{name}, {label}: J = {witness.tolist()}, update {update.round(3).tolist()}")

# %% [markdown]
# ## 2. The cone in space
#
# Three gradients, the three edges of their cone, and the updates. With three rows a pairwise repair is no longer a
# projection: PCGrad's last correction may undo an earlier one.


# %%
def space(turn=20.0, spread=0.76):
    tilt = np.radians([90, 210, 330])
    jacobian = np.stack([np.cos(tilt), np.sin(tilt), np.full(3, 1.0 - spread)], axis=-1)
    jacobian *= np.array([1.0, 0.6, 1.2])[:, None]
    edges = np.linalg.inv(jacobian).T
    edges /= np.linalg.norm(edges, axis=1)[:, None]
    edges *= 0.7 * np.sign(np.sum(edges * jacobian, axis=1))[:, None]
    with matplotlib.rc_context(PAGE | {"figure.constrained_layout.use": False}):
        from mpl_toolkits.mplot3d.art3d import Poly3DCollection

        fig = plt.figure(figsize=(4.4, 3.3))
        ax = fig.add_subplot(projection="3d")
        for i, j in ((0, 1), (1, 2), (2, 0)):
            face = [np.zeros(3), edges[i], edges[j]]
            ax.add_collection3d(Poly3DCollection([face], facecolor=COLORS["green"], alpha=0.18, edgecolor="none"))
        for g in jacobian:
            ax.quiver(0, 0, 0, *g, color=COLORS["gray"], lw=1.6, arrow_length_ratio=0.1)
        for name in ("mean", "upgrad", "mgda", "pcgrad"):
            x = surgery.make(name)(jacobian) / (3 if name == "pcgrad" else 1)  # PCGrad is a sum
            ax.quiver(0, 0, 0, *x, color=RULES[name], lw=1.6, arrow_length_ratio=0.15)
            ax.plot([], [], [], color=RULES[name], label=name)
        ax.set(xlim=(-1, 1), ylim=(-1, 1), zlim=(0, 0.6), xticks=[], yticks=[], zticks=[])
        ax.set_box_aspect((2, 2, 1), zoom=1.5)
        ax.view_init(22, turn)
        ax.legend(loc="center left", bbox_to_anchor=(1.1, 0.5))
        plt.show()
    worst = {name: float(-claims.surgery.cosines(jacobian, surgery.make(name)(jacobian)).min()) for name in RULES}
    print({name: f"{max(value, 0):.3f}" for name, value in worst.items()}, "(cosine of the worst conflict)")


explore(
    space,
    turn=partial(FloatSlider, value=20, min=-180, max=180, step=10, description="view"),
    spread=partial(FloatSlider, value=0.76, min=0.2, max=0.96, step=0.02, description="spread"),
)

# %% [markdown]
# ## 3. Trajectories, and how fast they approach
#
# Two quadratics whose Pareto set $X(p)=(\sum p_iA_i)^{-1}\sum p_iA_ic_i$ is a curve, two bells that are not convex,
# and element-wise squares, whose only Pareto point is the origin:

# %%
trajectories = paper_figure("surgery-trajectories")
print({key: f"{float(value):.3g}" for key, value in FIGURES["surgery-trajectories"][0].numbers(trajectories).items()})

# %% [markdown]
# Where one starts decides where one ends, and so does the rule. The distance to the Pareto set along a run, by rule
# and by the scale of the second objective:


# %%
def distances(scale=0.02):
    problem = problems.pareto_quadratics(rows=3, columns=1, condition=10.0, scale_ratio=1 / scale, seed=3)
    with matplotlib.rc_context(PAGE):
        _, ax = plt.subplots(figsize=(4.6, 2.4))
        for name in ("mean", "upgrad", "mgda", "config"):
            method = Surgery(name, GradientDescent(lr=1.0))
            trace = ot.run(problem, method, 1500, record=("pareto_distance",), every=10)
            ax.plot(trace.k, np.maximum(trace["pareto_distance"], 1e-12), color=RULES[name], label=name)
        ax.set(yscale="log", xlabel="step $k$", ylabel="distance to the Pareto set", xlim=(0, 1500), ylim=(1e-12, 10))
        ax.legend(loc="upper left", bbox_to_anchor=(1, 1))
        plt.show()


explore(distances, scale=partial(FloatLogSlider, value=0.02, min=-3, max=0, step=0.25, description="scale of f2"))
# %% [markdown]
# The two bounds of the middle panel above, as the package states them. Neither needs convexity.

# %%
for theorem in rates.THEOREMS:
    display(Markdown(f"`{theorem.label}`"), Math(theorem.statement))

# %%
shown = ledger(rates.THEOREMS, ot.theory.ledger_row)
shown["the mistake"] = [c["mistake"] for c in shown["control"]]
assert (shown["verdict"] == "holds").all()
shown[["kind", "verdict", "cases", "measured", "witness", "the mistake"]].style.format({"measured": "{:.6f}"})

# %% [markdown]
# All three are attained up to rounding or in a limit: *measured* is the largest left side over right side. For UPGrad
# the witness is a pair of quadratics that pull apart ever more strongly along one axis.
#
# ## 4. Orthogonalizing after surgery
#
# Muon steps along the polar factor of an update. For $M=\operatorname{diag}(a,1)$ and a gradient
# $G=\operatorname{diag}(1,1-a)$ the update descends by $\langle G,M\rangle=1$, and its polar factor, the identity,
# ascends by $a-2$:

# %%
update, gradient = meets.elongated(10.0)
print(f"<G, M> = {np.sum(gradient * update):g},  <G, polar M> = {np.sum(gradient * polar_factor(update)):g}")
step = spectral_cone_step(update, gradient[None])
print(f"the best step of the ball that respects G: diag{tuple(np.diag(step.direction).round(4).tolist())}")
print(f"  it descends along M by {float(step.lower):.6f}; no feasible step reaches {float(step.upper):.6f}")
geometry = paper_figure("surgery-geometry")

# %% [markdown]
# The right order: surgery in the geometry of the step. Over the spectral ball the best guaranteed descent is
#
# $$\max_{\|D\|_2\le1}\min_i\langle G_i,D\rangle=\min_{w\in\Delta}\Bigl\|\sum_iw_iG_i\Bigr\|_* .$$
#
# The right side as a function of $w$ for two matrices, with its minimum, and what the polar factor of $G_w$ would
# guarantee at each $w$. Where a singular value vanishes the function has a kink: there $D$ is not the polar factor.


# %%
def saddle(tilt=1.0):
    pair = np.stack([np.diag([1.0, 1.0]), np.diag([2.0, -tilt])])
    found = spectral_mgda(pair)
    t = np.linspace(0, 1, 401)
    mixes = t[:, None, None] * pair[0] + (1 - t[:, None, None]) * pair[1]
    value = np.linalg.svd(mixes, compute_uv=False).sum(axis=-1)
    guaranteed = np.array([progress(pair, polar_factor(x)).min() for x in mixes])
    with matplotlib.rc_context(PAGE):
        _, ax = plt.subplots(figsize=(4.6, 2.4))
        ax.plot(t, value, color=COLORS["blue"], label=r"$\|G_w\|_*$")
        ax.plot(t, guaranteed, color=COLORS["orange"], label=r"$\min_i\langle G_i,\mathrm{polar}(G_w)\rangle$")
        ax.plot(found.weights[0], found.lower, "o", color=COLORS["vermilion"], label="spectral MGDA")
        ax.set(xlabel="$w_1$", xlim=(0, 1))
        ax.legend(loc="upper left", bbox_to_anchor=(1, 1))
        plt.show()
    diagonal = tuple(np.diag(found.direction).round(4).tolist())
    print(f"D = diag{diagonal}, its value in [{found.lower:.9f}, {found.upper:.9f}]")


explore(saddle, tilt=partial(FloatSlider, value=1.0, min=-0.5, max=3, step=0.1, description="tilt"))
# %% [markdown]
# How often does it matter? Left below: share of random draws in conflict. Right: the other direction, where
# orthogonalization is the good case. An update that was projected away from old inputs stays so under the polar
# factor, not under Adam or signs.

# %%
conflicts = paper_figure("surgery-orthogonalized")
print({key: f"{float(value):.2g}" for key, value in FIGURES["surgery-orthogonalized"][0].numbers(conflicts).items()})

# %%
shown = ledger(meets.THEOREMS, ot.theory.ledger_row)
shown["the mistake"] = [c["mistake"] for c in shown["control"]]
assert (shown["verdict"] == "holds").all()
shown[["kind", "verdict", "cases", "measured", "the mistake"]].style.format({"measured": "{:.3g}"})

# %% [markdown]
# ## 5. Running an optimizer behind surgery
#
# `Surgery(aggregator, optimizer)` is a method like any other. Here it steps on two matrix quadratics; recorded is the
# objective that suffers most in a step, relative to its value. With gradient descent no objective ever rises; Adam
# and Muon change the direction.

# %%
problem = problems.pareto_quadratics(objectives=3, rows=5, columns=4, curvature="shared", condition=30.0, seed=1)
OPTIMIZERS = {
    "gradient descent": GradientDescent(lr=0.5),
    "Adam": Adam(lr=0.02),
    "Muon": Muon(lr=0.02, momentum=0.0, nesterov=False, plan="exact", shape_factor="none"),
}
rows = []
for name, optimizer in OPTIMIZERS.items():
    trace = ot.run(problem, Surgery("upgrad", optimizer), 300, record=("values", "pareto_distance", "stationarity"))
    rise = np.diff(trace["values"], axis=0) / trace["values"][:-1]
    rows.append(
        {
            "optimizer": name,
            "steps that raise an objective, %": 100 * np.mean((rise > 1e-12).any(axis=1)),
            "largest relative rise": max(rise.max(), 0),
            "final distance to the Pareto set": trace["pareto_distance"][-1],
        }
    )
after = pd.DataFrame(rows).set_index("optimizer")
assert after.iloc[0, 0] == 0
assert (after.iloc[1:, 0] > 0).all()
after.style.format("{:.3g}")

# %% [markdown]
# For a diagonal preconditioner $M$ the remedy is a projection in its metric, $d=M^{1/2}P(M^{1/2}g)$ on the cone of
# $JM^{1/2}$:

# %%
jacobian, metric = rng.standard_normal((3, 8)), 10.0 ** rng.uniform(-2, 2, 8)
g = jacobian.mean(axis=0) - 0.9 * jacobian[0]
wrong = metric * surgery.project(jacobian, g).point
right = project_in_metric(jacobian, g, metric)
print(f"projected, then preconditioned: worst first-order change {(jacobian @ wrong).min():+.3f}")
print(f"projected in the metric:        worst first-order change {(jacobian @ right).min():+.1e}")
assert (jacobian @ wrong).min() < 0
assert (jacobian @ right).min() > -1e-9

# %% [markdown]
# ## 6. What the literature claims, judged
#
# Each claim has a control on which the same check must come out otherwise.

# %%
judged = ledger([*claims.surgery.CLAIMS, *claims.continual.CLAIMS], claims.ledger_row)
judged["control"] = [f"{c['verdict']}: {c['subject']}" for c in judged["control"]]
judged[["statement", "verdict", "condition", "measured", "control"]].style.format({"measured": "{:.3g}"})

# %% [markdown]
# ## What to keep
#
# * A projection on the cone needs no ridge: scale the rows, solve exactly, return the residual.
# * UPGrad approaches criticality at $\sqrt{2L\Delta_F/K}$ and MGDA at $\sqrt{\Delta_{\min}/(K\eta(1-L\eta/2))}$,
#   without convexity. Critical is not optimal: MGDA may stop where one gradient vanishes.
# * A guarantee of surgery is one about the *update*. The polar factor, a preconditioner and momentum void it; surgery
#   in the geometry of the step keeps it.
# * Projections are different: the polar factor keeps them exactly, coordinate-wise optimizers do not.
