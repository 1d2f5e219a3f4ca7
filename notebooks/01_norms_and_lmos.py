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
# # Norms and their linear minimization oracles
#
# An orthogonalized optimizer is steepest descent in a matrix norm. The norm enters through one function, its
# *linear minimization oracle*
#
# $$\operatorname{lmo}(G)\in\operatorname*{arg\,min}_{\|D\|\le 1}\langle G,D\rangle,\qquad
# \langle G,\operatorname{lmo}(G)\rangle=-\|G\|_*,\qquad \langle A,B\rangle=\operatorname{tr}(A^\top B),$$
#
# where $\|\cdot\|_*$ is the dual norm. For the spectral norm $\operatorname{lmo}(G)=-UV^\top$: that is
# orthogonalization. This notebook states what a norm object promises, runs each promise on matrices that break
# careless code, and shows where a promise ends: at rank deficiency, where the oracle is not unique, and at the
# polynomials that replace it in practice.
#
# Every number below is printed by the cell above it. `ORTHOTHEORY_SIZE` is `smoke` (default) or `paper`.

# %%
import dataclasses
import os
from fractions import Fraction

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import sympy
from IPython.display import Markdown, Math, display

import orthotheory as ot
from orthotheory.plotting import COLORS, geometry
from orthotheory.plotting.convergence import spread_labels
from orthotheory.theory import derivations

# %matplotlib inline

SIZE = os.environ.get("ORTHOTHEORY_SIZE", "smoke")
if SIZE not in ("smoke", "paper"):
    raise ValueError(f"ORTHOTHEORY_SIZE is smoke or paper; got {SIZE!r}.")
PAGE = ot.plotting.STYLE | {"figure.dpi": 140}
EPS = np.finfo(float).eps
norms = ot.norms


def inner(a, b):
    return np.sum(a * b, axis=(-2, -1))


# %% [markdown]
# ## 1. The table
#
# A norm has a value, a dual and an LMO, and `ot.norms.make` finds it by name. Here they all look at one gradient.
# `rank` and `nonzeros` say what the LMO does with it: the nuclear norm moves one singular direction, the
# entrywise sum moves one entry, the spectral norm moves everything by the same length.

# %%
G = np.array([[4.0, -1, 0, 2], [1, 3, -2, 0], [0, 1, 1, -1]])
OPTIONS = {
    "entry-lp": {"p": 3.0},
    "schatten": {"p": 3.0},
    "ky-fan": {"k": 2},
    "dual-ky-fan": {"k": 2},
    "scaled": {"norm": norms.Spectral(), "factor": 2.0},
    **{f"product-{kind}": {"blocks": (norms.Spectral(), norms.MaxEntry())} for kind in ("max", "sum", "root")},
}
EVERY = {name: norms.make(name, **OPTIONS.get(name, {})) for name in norms.names()}
MATRIX = {name: norm for name, norm in EVERY.items() if isinstance(norm, norms.Norm) and norm.core_axes == 2}


def show_matrix(d):
    d = np.atleast_2d(d)
    return "\n".join(" ".join(f"{v:6.2f}" if abs(v) > 1e-9 else "     ." for v in row) for row in d)


rows = []
for name, norm in EVERY.items():
    if name == "euclidean":  # a norm of vectors
        example = G.ravel()
    elif isinstance(norm, norms.Product):  # a norm of tuples: two layers
        example = (G, G[:2, :2])
    else:
        example = G
    d = norm.lmo(example)
    blocks = [np.atleast_2d(b) for b in (d if isinstance(d, tuple) else (d,))]
    rows.append(
        {
            "norm": name,
            "value": norm.value(example),
            "dual value": norm.dual(example),
            "rank": " + ".join(str(np.linalg.matrix_rank(b)) for b in blocks),
            "nonzeros": " + ".join(str(np.sum(np.abs(b) > 1e-9)) for b in blocks),
            "lmo": "\n".join(show_matrix(b) for b in blocks) if name != "euclidean" else "as frobenius",
        }
    )
table = pd.DataFrame(rows).set_index("norm")
print("G =", show_matrix(G), sep="\n")
print("singular values of G:", *ot.polar.thin_svd(G).s.round(3))
table.style.format("{:.3f}", subset=["value", "dual value"]).set_properties(
    **{"white-space": "pre", "font-family": "monospace", "text-align": "right"}
)

# %% [markdown]
# The same table as a picture. Each square is one entry of the LMO; orange is positive, blue negative, and the
# color scale is that of each matrix. Compare `spectral` with `max-entry` (sign descent) and with `row-max`
# (row-normalized descent): three ways to spread the step, by singular direction, by entry, by row.

# %%
with matplotlib.rc_context(PAGE):
    shown = {"G": G, **{name: norm.lmo(G) for name, norm in MATRIX.items() if name != "scaled"}}
    fig, axes = plt.subplots(4, 5, figsize=(6.5, 4.6))
    palette = matplotlib.colors.LinearSegmentedColormap.from_list(
        "signed", [COLORS["blue"], "#FFFFFF", COLORS["vermilion"]]
    )
    for ax, (name, d) in zip(axes.flat, shown.items(), strict=False):
        peak = np.abs(d).max()
        ax.pcolormesh(d[::-1], cmap=palette, vmin=-peak, vmax=peak, edgecolors=COLORS["gray"], lw=0.4, clip_on=False)
        ax.set(aspect="equal", xticks=[], yticks=[])
        ax.spines[:].set_visible(False)
        label = "gradient $G$" if name == "G" else name
        ax.set_xlabel(label, labelpad=2, fontweight="bold" if name == "G" else "normal")
    for ax in axes.flat[len(shown) :]:
        ax.axis("off")
    plt.show()

# %% [markdown]
# ## 2. The LMO is steepest descent
#
# Three problems have one solution direction, with $G^\sharp=-\|G\|_*\operatorname{lmo}(G)$ (`norm.sharp`):
#
# | problem | minimizer | minimum |
# |---|---|---|
# | $\min_{\|D\|\le\eta}\langle G,D\rangle$ (trust region) | $\eta\operatorname{lmo}(G)$ | $-\eta\|G\|_*$ |
# | $\min_D\langle G,D\rangle+\tfrac L2\|D\|^2$ (descent lemma) | $-G^\sharp/L$ | $-\|G\|_*^2/(2L)$ |
# | both | $\min(\eta,\|G\|_*/L)\operatorname{lmo}(G)$ | |
#
# So a fixed radius *is* steepest descent with the adaptive constant $\|G\|_*/\eta$. Along a direction $X$ the
# best multiple reaches $-\langle G,X\rangle^2/(2L\|X\|^2)$; as a share of the minimum that is 1 for the LMO and
# at most 1 for all others. Below, the shares of the best of many random directions, of the plain gradient and of
# the polar factor. The last two say what one geometry's step is worth in another.

# %%
rng = np.random.default_rng(9)
directions = {"the LMO": None, "best random": rng.standard_normal((10_000, *G.shape)), "-G": -G}
directions["-polar(G)"] = -ot.polar_factor(G)
shares = {}
for name, norm in MATRIX.items():
    shares[name] = {}
    for label, x in directions.items():
        x = norm.lmo(G) if x is None else x
        shares[name][label] = np.max((inner(G, x) / (norm.value(x) * norm.dual(G))) ** 2)
    step = -norm.sharp(G)  # the minimizer for L = 1
    model = inner(G, step) + norm.value(step) ** 2 / 2
    shares[name]["residual of the minimum"] = abs(model / (-(norm.dual(G) ** 2) / 2) - 1)
shares = pd.DataFrame(shares).T
assert (shares[["the LMO", "best random", "-G", "-polar(G)"]] <= 1 + 100 * EPS).all(axis=None)
shares.style.format("{:.3f}").format("{:.0e}", subset=["residual of the minimum"])

# %% [markdown]
# For a Schatten norm all of this happens in the plane of singular values: below, the unit balls among the
# matrices $\operatorname{diag}(x,y)$, the gradients as gray ticks at $-G$, and their LMOs as arrows.

# %%
BALLS = {
    "nuclear": norms.Nuclear(),
    "Schatten-4/3": norms.Schatten(4 / 3),
    "Frobenius": norms.Frobenius(),
    "Schatten-4": norms.Schatten(4.0),
    "spectral": norms.Spectral(),
}
ANGLES = np.deg2rad(np.arange(16) * 22.5 + 11.25)
with matplotlib.rc_context(PAGE):
    fig, axes = plt.subplots(1, len(BALLS), figsize=(6.5, 1.7))
    for ax, (name, norm) in zip(axes, BALLS.items(), strict=True):
        geometry.draw_ball(ax, geometry.ball_boundary(norm), geometry.lmo_targets(norm, ANGLES), ANGLES, name)
    plt.show()
for name, norm in BALLS.items():
    targets = np.unique(geometry.lmo_targets(norm, ANGLES).round(9) + 0.0, axis=0)
    print(f"{name:13s} {len(ANGLES)} gradients, {len(targets):2d} different LMOs")

# %% [markdown]
# The diagonal plane hides one thing: there the spectral norm is the largest entry. The symmetric matrices
# $\begin{pmatrix}a&c\\c&b\end{pmatrix}$, drawn at $(a,b,\sqrt2c)$ so that the Frobenius norm is the Euclidean
# length, tell them apart. An LMO is an *extreme point* of the ball: orange, the LMOs of random symmetric
# gradients (pale: on the far side). The spectral ball is two cones glued along a circle: its extreme points are
# $\pm I$ and the circle of reflections. The nuclear ball is the convex hull of two circles, the rank-one
# $\pm uu^\top$. In the box of the largest entry only corners are left; in the Frobenius ball every point is
# extreme, and the LMO keeps the gradient's direction.


# %%
def symmetric(points):
    """Matrices [[a, c], [c, b]] of points (a, b, sqrt(2) c)."""
    a, b, c = points[..., 0], points[..., 1], points[..., 2] / np.sqrt(2)
    return np.stack([np.stack([a, c], axis=-1), np.stack([c, b], axis=-1)], axis=-2)


def coordinates(x):
    return np.stack([x[..., 0, 0], x[..., 1, 1], np.sqrt(2) * x[..., 0, 1]], axis=-1)


rng = np.random.default_rng(0)
SPACE = {name: norms.make(name) for name in ("nuclear", "frobenius", "spectral", "max-entry")}
# A grid around the axis a = b = 1, so that the ridges of the balls fall on grid lines.
axis = np.array([1, 1, 0]) / np.sqrt(2)
side, up = np.array([1, -1, 0]) / np.sqrt(2), np.array([0, 0, 1.0])
tilt, turn = np.meshgrid(np.linspace(0, np.pi, 181), np.linspace(2 * np.pi, 0, 241))
rays = np.stack([np.cos(tilt), np.sin(tilt) * np.cos(turn), np.sin(tilt) * np.sin(turn)], axis=-1)
rays = rays @ np.stack([axis, side, up])
ELEVATION, AZIMUTH = 20, -72
e, a = np.deg2rad((ELEVATION, AZIMUTH))
light = matplotlib.colors.LightSource(azdeg=195, altdeg=40)
camera = np.array([np.cos(e) * np.cos(a), np.cos(e) * np.sin(a), np.sin(e)])
with matplotlib.rc_context(PAGE):
    fig, axes = plt.subplots(1, 4, figsize=(6.5, 2.3), subplot_kw={"projection": "3d", "computed_zorder": False})
    for ax, (name, norm) in zip(axes, SPACE.items(), strict=True):
        points = coordinates(norm.lmo(symmetric(rng.standard_normal((400, 3)))))
        surface = rays / norm.value(symmetric(rays))[..., None]
        front = points @ camera > 0
        ax.plot_surface(
            *np.moveaxis(surface, -1, 0),
            color="#CFE6F5",
            lightsource=light,
            rstride=1,
            cstride=1,
            lw=0,
            antialiased=False,
        )
        ax.scatter(*points[~front].T, s=2, color=COLORS["vermilion"], alpha=0.15, depthshade=False, lw=0)
        ax.scatter(*points[front].T, s=3, color=COLORS["vermilion"], depthshade=False, lw=0)
        ax.set(xlim=(-1.1, 1.1), ylim=(-1.1, 1.1), zlim=(-1.5, 1.5))
        ax.set_box_aspect((2.2, 2.2, 3.0), zoom=1.05)
        ax.set_proj_type("ortho")
        ax.view_init(elev=ELEVATION, azim=AZIMUTH)
        ax.axis("off")
        ax.text2D(0.5, -0.04, name, transform=ax.transAxes, ha="center", va="top")
    plt.show()

# %% [markdown]
# ## 3. Identities, on matrices that break careless code
#
# Every norm must satisfy, for all $G$, $X$ and all radii $R$, $t$:
#
# * attainment: $\|\operatorname{lmo}(G)\|=1$ and $\langle G,\operatorname{lmo}(G)\rangle=-\|G\|_*$;
# * Hölder: $|\langle G,X\rangle|\le\|G\|_*\|X\|$;
# * projection: $P=\operatorname{proj}_{R}(X)$ has $\|P\|\le R$ and, for $\|X\|>R$,
#   $\langle X-P,P\rangle=R\|X-P\|_*$;
# * Moreau: $X=\operatorname{prox}_{t\|\cdot\|}(X)+\operatorname{proj}_{t\,B_*}(X)$, with $B_*$ the dual ball.
#
# A word on the last one. The package *defines* `prox` by Moreau's identity, so that the identity itself cannot
# fail and testing it would be idle. What can fail is that the result is a proximal point: $Q=\operatorname{prox}$
# is one if and only if $\|X-Q\|_*\le t$ and $\langle X-Q,Q\rangle=t\|Q\|$. That is what we measure.

# %%
rng = np.random.default_rng(1)
generic = rng.standard_normal((5, 4))
u, v = ot.problems.orthogonal(5, rng)[:, :4], ot.problems.orthogonal(4, rng)
HARD = {
    "generic": generic,
    "rank one": np.outer(rng.standard_normal(5), rng.standard_normal(4)),
    "rank two": rng.standard_normal((5, 2)) @ rng.standard_normal((2, 4)),
    "repeated singular values": (u * np.array([2.0, 2, 1, 1])) @ v.T,
    "isometry": u @ v.T,
    "condition 1e9": (u * np.array([1.0, 1e-3, 1e-6, 1e-9])) @ v.T,
    "tiny, 1e-150": 1e-150 * generic,
    "huge, 1e150": 1e150 * generic,
    "one zero row": generic * np.array([1.0, 1, 0, 1, 1])[:, None],
    "wide": rng.standard_normal((2, 9)),
    "row": rng.standard_normal((1, 6)),
    "column": rng.standard_normal((6, 1)),
    "scalar": np.array([[-3.0]]),
}
PARTNERS = 50 if SIZE == "smoke" else 2000


def residuals(norm, x, rng):
    """Relative residual of each identity at one matrix; a Hölder ratio below 1 counts as zero."""
    d, dual, value = norm.lmo(x), norm.dual(x), norm.value(x)
    others = rng.standard_normal((PARTNERS, *x.shape))
    hoelder = np.abs(inner(x / dual, others)) / norm.value(others)
    radius, t = 0.4 * value, 0.4 * dual
    p, q = norm.project(x, radius), norm.prox(x, t)
    outside, inside = x - p, x - q
    return {
        "|lmo| = 1": abs(norm.value(d) - 1),
        "⟨G, lmo⟩ = -dual": abs(inner(x / dual, d) + 1),
        "Hölder": max(0.0, hoelder.max() - 1),
        "projection feasible": max(0.0, norm.value(p) / radius - 1),
        "projection optimal": abs(inner(outside / norm.dual(outside), p / radius) - 1),
        "prox in the dual ball": max(0.0, norm.dual(inside) / t - 1),
        "prox aligned": abs(inner(inside / t, q / norm.value(q)) - 1) if norm.value(q) > 0 else 0.0,
    }


def worst(norm):
    """The worst residual of each identity over the hard matrices, and where the worst of all occurs."""
    rng = np.random.default_rng(2)
    frame = pd.DataFrame({label: residuals(norm, x, rng) for label, x in HARD.items()})
    return {**frame.max(axis=1), "worst at": frame.max().idxmax()}


def shaded(frame):
    return frame.style.format("{:.0e}", subset=frame.columns[:-1])


identities = pd.DataFrame({name: worst(norm) for name, norm in MATRIX.items()}).T
shaded(identities)

# %%
numbers = identities.drop(columns="worst at").astype(float)
peak = numbers.stack().idxmax()
display(
    Markdown(
        f"{len(MATRIX)} norms, {len(HARD)} matrices, {numbers.shape[1]} identities: the worst residual is "
        f"**{numbers.max().max():.1e}** (`{peak[0]}`, {peak[1]}, at the matrix "
        f"*{identities.loc[peak[0], 'worst at']}*), "
        f"which is {numbers.max().max() / EPS:.0f} units of rounding."
    )
)

# %% [markdown]
# **Negative control.** A check that cannot fail is a defect. Four broken norms: a spectral norm that takes itself
# for its own dual, sign descent sold as the spectral LMO, a projection that rescales instead of clipping
# (feasible, not optimal), and one that stops short of the ball. Together they must make every identity fail.


# %%
class SelfDual(norms.Spectral):
    dual_norm = property(lambda self: norms.Spectral())


class SignsAsLmo(norms.Spectral):
    def lmo(self, g):
        return norms.MaxEntry().lmo(g)


class RescaledProjection(norms.Spectral):
    def project(self, x, radius=1.0):
        return x * np.minimum(1.0, radius / self.value(x))[..., None, None]


class StopsShort(norms.Spectral):
    def project(self, x, radius=1.0):
        return super().project(x, 1.5 * radius)

    def prox(self, x, t=1.0):
        return super().prox(x, 1.5 * t)


CONTROLS = (SelfDual, SignsAsLmo, RescaledProjection, StopsShort)
broken = pd.DataFrame({cls.__name__: worst(cls()) for cls in CONTROLS}).T
failures = broken.drop(columns="worst at").astype(float) > 0.1
assert failures.any(axis=1).all(), "a control did not fail"
assert failures.any(axis=0).all(), "an identity was never seen to fail"
shaded(broken)

# %% [markdown]
# ## 4. Duals by optimization
#
# The dual norm is a maximum, so that it can be attacked without knowing the formula. Left: the best of $N$ random
# points of the unit ball never exceeds $\|G\|_*$, and closes in slowly: the search is blind to corners. Right: an
# attack that uses the projection alone, $D_t=\operatorname{proj}_1(tG)$. As $t\to\infty$ it must reach the dual
# value; in a ball with corners it arrives at finite $t$ and the curve ends.

# %%
SAMPLES, REPEATS = (2**12, 16) if SIZE == "smoke" else (2**14, 64)
ATTACKED = {
    "spectral": COLORS["vermilion"],
    "nuclear": COLORS["blue"],
    "frobenius": COLORS["black"],
    "max-entry": COLORS["purple"],
    "row-max": COLORS["green"],
    "schatten": COLORS["orange"],
}
rng = np.random.default_rng(3)
g = rng.standard_normal((3, 2))
g /= norms.Frobenius().value(g)
points = rng.standard_normal((REPEATS, SAMPLES, 3, 2))
counts = np.unique(np.geomspace(1, SAMPLES, 40).astype(int))
scales = np.geomspace(0.1, 1e4, 400)
search, push = {}, {}
for name in ATTACKED:
    norm = MATRIX[name]
    ratios = inner(points, g) / norm.value(points) / norm.dual(g)
    search[name] = 1 - np.maximum.accumulate(ratios, axis=1)[:, counts - 1]
    push[name] = 1 - inner(norm.project(scales[:, None, None] * g, 1.0), g) / norm.dual(g)

with matplotlib.rc_context(PAGE):
    fig, (left, right) = plt.subplots(1, 2, figsize=(6.5, 2.6), sharey=False)
    for name, color in ATTACKED.items():
        left.plot(counts, np.median(search[name], axis=0), color=color)
        y = np.where(push[name] > 4 * EPS, push[name], np.nan)
        right.plot(scales, y, color=color)
        if np.isnan(y).any():  # where the ball is touched and the dual value reached
            last = np.flatnonzero(~np.isnan(y))[-1]
            right.plot(scales[last], y[last], "o", ms=3, color=color)
    left.set(xscale="log", yscale="log", xlabel=f"random points $N$ (median of {REPEATS} searches)")
    left.set_ylabel(r"missing part $1-\langle G,D\rangle/\|G\|_*$")
    right.set(xscale="log", yscale="log", xlabel="push $t$", ylim=(1e-9, 2))
    ends = [np.median(search[n], axis=0)[-1] for n in ATTACKED]
    spread_labels(left, ends, list(ATTACKED), list(ATTACKED.values()), gap=0.075)
    right.annotate("arrived", (9, 3e-3), fontsize=8, color=COLORS["gray"])
    right.annotate("schatten, $p=3$:\nnever arrives", (300, 3e-6), fontsize=8, color=ATTACKED["schatten"])
    plt.show()

best = pd.DataFrame(
    {
        "random search, best / dual": {n: 1 - search[n].min() for n in ATTACKED},
        "projection, best / dual": {n: 1 - push[n].min() for n in ATTACKED},
        "exceeds dual by (rounding units)": {n: max(0, -min(push[n].min(), search[n].min())) / EPS for n in ATTACKED},
    }
)
best.style.format({best.columns[0]: "{:.6f}", best.columns[1]: "{:.12f}", best.columns[2]: "{:.1f}"})

# %% [markdown]
# ## 5. Rank deficiency: the spectral LMO is not unique
#
# Where $G=U\Sigma V^\top$ with rank $r<\min(m,n)$, every $-UV^\top+W$ is a minimizer, for $W$ on the null spaces
# with $\|W\|_2\le1$. The package makes the choice explicit. `Spectral()` takes $W=0$, a partial isometry: the
# minimizer of least Frobenius norm, and the limit of the Schatten-$p$ LMOs. `Spectral(completion="orthonormal")`
# takes the $W$ that the SVD happens to return. Newton-Schulz maps a zero singular value to zero, so that it lands
# on the first.

# %%
rng = np.random.default_rng(4)
deficient = rng.standard_normal((5, 2)) @ rng.standard_normal((2, 4))
spectral = norms.Spectral()
choices = {
    "completion zero": spectral.lmo(deficient),
    "completion orthonormal": norms.Spectral(completion="orthonormal").lmo(deficient),
    "Newton-Schulz, quintic": -ot.polar_factor(deficient, "newton-schulz-quintic"),
    "Muon's quintic": -ot.polar_factor(deficient, "muon-quintic"),
    **{f"Schatten-{p:g}": norms.Schatten(float(p)).lmo(deficient) for p in (10, 100, 1000)},
}
zero = choices["completion zero"]
pd.DataFrame(
    {
        name: {
            "singular values": np.array2string(ot.polar.thin_svd(d).s, precision=3, suppress_small=True),
            "⟨G, D⟩ / dual": inner(deficient, d) / spectral.dual(deficient),
            "|D|_2": spectral.value(d),
            "|D|_F": norms.Frobenius().value(d),
            "distance to completion zero": norms.Frobenius().value(d - zero),
        }
        for name, d in choices.items()
    }
).T.style.format("{:.3g}", subset=["⟨G, D⟩ / dual", "|D|_2", "|D|_F", "distance to completion zero"])

# %% [markdown]
# Both completions reach $-\|G\|_*$; as minimizers they are equal, as steps they are not. Which one a run takes is
# decided by noise. Add $\varepsilon Z$ to $G$: the exact polar factor of the sum has full rank for *every*
# $\varepsilon$ above rounding, so that it stays at a distance from $UV^\top$ that does not depend on
# $\varepsilon$: the LMO is not continuous there. A polynomial cannot jump. It amplifies small singular values by
# a bounded factor, and decides at a threshold of its own.

# %%
rng = np.random.default_rng(5)
z = rng.standard_normal((8, 5, 4)) / np.sqrt(20)
unit = deficient / spectral.value(deficient)
noise = np.geomspace(1e-17, 1e-1, 129)
perturbed = unit + noise[:, None, None, None] * z
PLANS = {
    "exact": ("exact", COLORS["black"]),
    "Newton-Schulz quintic, 14": (ot.polar.NEWTON_SCHULZ_QUINTIC, COLORS["green"]),
    "Polar Express, 8": (ot.polar.POLAR_EXPRESS, COLORS["blue"]),
    "Muon's quintic, 5": (ot.polar.MUON_QUINTIC, COLORS["vermilion"]),
}
jumps = {}
for name, (plan, _) in PLANS.items():
    jump = ot.polar_factor(perturbed, plan) - ot.polar_factor(unit, plan)
    jumps[name] = np.median(norms.Frobenius().value(jump), axis=1)
full = np.sqrt(min(unit.shape) - np.linalg.matrix_rank(unit))
with matplotlib.rc_context(PAGE):
    fig, ax = plt.subplots(figsize=(5.4, 2.6))
    for name, (_, color) in PLANS.items():
        ax.plot(noise, jumps[name], color=color, ls=(0, (3, 3)) if name.startswith("Polar") else "-")
    ax.axhline(full, color=COLORS["gray"], ls=(0, (1, 2)), lw=0.9)
    ax.annotate(r"$\sqrt{\min(m,n)-r}$", (2e-17, full), (0, 4), textcoords="offset points", color=COLORS["gray"])
    ax.set(xscale="log", yscale="log", ylim=(1e-4, 5), xlim=(1e-17, 0.1))
    ax.set(xlabel=r"relative noise $\varepsilon$", ylabel=r"$\|p(G+\varepsilon Z)-p(G)\|_F$")
    for name, (x, y, ha) in {
        "exact": (5e-15, 0.02, "left"),
        "Newton-Schulz quintic, 14": (4e-7, 0.012, "right"),
        "Polar Express, 8": (4e-7, 0.0045, "right"),
        "Muon's quintic, 5": (4e-6, 0.0004, "left"),
    }.items():
        ax.text(x, y, name, color=PLANS[name][1], ha=ha, va="center", fontsize=8)
    plt.show()
for name, (plan, _) in PLANS.items():
    threshold = noise[np.flatnonzero(jumps[name] > full / 2)[0]]
    slope = "" if plan == "exact" else f", 1 / slope at 0 is {1 / np.prod([c[0] for c in plan.coefficients]):.0e}"
    print(f"{name:26s} half of the jump at relative noise {threshold:.0e}{slope}")

# %% [markdown]
# ## 6. Equivariance
#
# A norm that depends on the singular values alone does not change under $X\mapsto QXR^\top$ with orthogonal $Q$,
# $R$, and its LMO turns with the gradient: $\operatorname{lmo}(QGR^\top)=Q\operatorname{lmo}(G)R^\top$. The
# descent then does not depend on the basis in which a layer's inputs and outputs are written. Row, column and
# entry norms lack this. Each norm declares its groups as `left_group` and `right_group`; here they are measured.
# Dark: the action changes the norm.

# %%
rng = np.random.default_rng(6)
DRAWS = 20 if SIZE == "smoke" else 500


def signed_permutation(size, rng):
    return np.eye(size)[rng.permutation(size)] * rng.choice([-1.0, 1.0], size)


GROUPS = {"orthogonal": ot.problems.orthogonal, "signed permutations": signed_permutation}
frobenius = norms.Frobenius()
x = rng.standard_normal((DRAWS, 5, 4))
rows = []
for side, size in (("left", 5), ("right", 4)):
    for group, draw in GROUPS.items():
        q = np.stack([draw(size, rng) for _ in range(DRAWS)])
        act = {"left": lambda y, q=q: q @ y, "right": lambda y, q=q: y @ q}[side]
        for name, norm in MATRIX.items():
            turned = act(norm.lmo(x))
            rows.append(
                {
                    "norm": name,
                    "action": f"{side}, {group}",
                    "value": np.max(np.abs(norm.value(act(x)) / norm.value(x) - 1)),
                    "lmo": np.max(frobenius.value(norm.lmo(act(x)) - turned) / frobenius.value(turned)),
                    "declared": group != "orthogonal" or getattr(norm, f"{side}_group") == "orthogonal",
                }
            )
equivariance = pd.DataFrame(rows)
agrees = (equivariance["value"] < 1e-10) == equivariance["declared"]
follows = (equivariance["lmo"] < 1e-10) == equivariance["declared"]

with matplotlib.rc_context(PAGE):
    fig, axes = plt.subplots(1, 2, figsize=(6.5, 4.4), sharey=True)
    for ax, quantity, text in zip(axes, ("value", "lmo"), ("value", "LMO"), strict=True):
        grid = equivariance.pivot(index="norm", columns="action", values=quantity)
        grid = grid.loc[list(MATRIX), list(equivariance["action"].unique())]
        dark = grid.to_numpy() > 1e-10
        two = matplotlib.colors.ListedColormap(["#FFFFFF", COLORS["blue"]])
        ax.pcolormesh(dark, cmap=two, edgecolors="#CCCCCC", clip_on=False)
        for (i, j), change in np.ndenumerate(grid.to_numpy()):
            label = f"{change:.0e}" if change < 0.01 else f"{change:.2f}"
            ax.text(j + 0.5, i + 0.5, label, ha="center", va="center", fontsize=6.5, color="w" if dark[i, j] else "k")
        ax.set_xticks(np.arange(4) + 0.5, [c.replace(", ", "\n").replace(" perm", "\nperm") for c in grid.columns])
        ax.set_yticks(np.arange(len(grid)) + 0.5, grid.index)
        ax.set_xlabel(f"largest relative change of the {text}")
        ax.tick_params(length=0, labelsize=7)
        ax.set_ylim(len(grid), 0)
        ax.spines[:].set_visible(False)
    plt.show()
print(f"declared groups agree with the measured ones in {agrees.sum()} of {len(agrees)} cases (value),")
print(f"and in {follows.sum()} of {len(follows)} cases (LMO)")
assert agrees.all()
assert follows.all()

# %% [markdown]
# ## 7. What runs in practice: polynomial schedules
#
# Muon does not compute $UV^\top$ by an SVD. It divides by $\|G\|_F$ and applies an odd polynomial a few times,
# which acts on the singular values alone. In the package a `Schedule` is indivisible: coefficients,
# normalization, and the output interval that its input interval is mapped into, computed from the critical points
# of each step (`schedule.image`). Left: five steps of four schedules, with the output band of Muon and of Polar
# Express over the input intervals that they were designed for. Right: the largest $|p(s)-1|$ over $s\in[\ell,1]$
# against the number of steps.

# %%
polar = ot.polar
LOW = polar.POLAR_EXPRESS.input_interval[0]
FIVE = {
    "Newton-Schulz cubic": (polar.newton_schulz(5, 3), COLORS["sky"]),
    "Newton-Schulz quintic": (polar.newton_schulz(5, 5), COLORS["green"]),
    "Muon's quintic": (polar.MUON_QUINTIC, COLORS["vermilion"]),
    "Polar Express": (polar.POLAR_EXPRESS_5, COLORS["blue"]),
}


def muon(steps):
    """Muon's coefficients for any number of steps."""
    return dataclasses.replace(polar.MUON_QUINTIC, coefficients=polar.MUON_QUINTIC.coefficients[:1] * steps)


FAMILIES = {
    "Newton-Schulz cubic": lambda q: polar.newton_schulz(q, 3),
    "Newton-Schulz quintic": lambda q: polar.newton_schulz(q, 5),
    "Muon's quintic": muon,
    "Polar Express": polar.polar_express,
}
STEPS = np.arange(1, 21)
errors = {
    name: [max(abs(1 - end) for end in family(int(q)).image(LOW, 1.0)) for q in STEPS]
    for name, family in FAMILIES.items()
}
s = np.geomspace(1e-5, 1, 2000)
with matplotlib.rc_context(PAGE):
    fig, (left, right) = plt.subplots(1, 2, figsize=(6.5, 2.8), width_ratios=(1.15, 1))
    for name, (schedule, color) in FIVE.items():
        left.plot(s, schedule.singular_value_map(s), color=color)
        if name in ("Muon's quintic", "Polar Express"):
            (a, b), (low, high) = schedule.input_interval, schedule.output_interval
            left.fill_between([a, b], low, high, color=color, alpha=0.15, lw=0)
    for name, (x, y, ha) in {
        "Newton-Schulz cubic": (0.12, 0.3, "left"),
        "Newton-Schulz quintic": (0.016, 0.4, "right"),
        "Muon's quintic": (4e-3, 1.27, "center"),
        "Polar Express": (4.5e-4, 0.6, "right"),
    }.items():
        text = name.replace("Newton-Schulz ", "Newton-\nSchulz\n")
        left.text(x, y, text, color=FIVE[name][1], fontsize=8, ha=ha, va="center")
    left.axhline(1, color=COLORS["gray"], lw=0.6)
    left.set(xscale="log", ylabel="after five steps, $p(s)$", ylim=(0, 1.4))
    left.set_xlabel(r"singular value $s$ of $G/\|G\|_F$")
    for name, values in errors.items():
        y = np.maximum(values, 1e-16)
        right.plot(STEPS, y, color=FIVE[name][1], marker="o", ms=2)
    for name, (x, y) in {
        "Newton-Schulz cubic": (20.6, errors["Newton-Schulz cubic"][-1]),
        "Newton-Schulz quintic": (14.6, 1e-10),
        "Muon's quintic": (20.6, errors["Muon's quintic"][-1]),
        "Polar Express": (8.2, 1e-11),
    }.items():
        text = name.replace("Newton-Schulz ", "Newton-\nSchulz\n").replace("Muon's ", "Muon's\n").replace("r E", "r\nE")
        right.text(x, y, text, color=FIVE[name][1], fontsize=8, va="center")
    right.set(yscale="log", xlabel="steps", xticks=[1, 5, 10, 15, 20], ylim=(3e-17, 6), xlim=(0, 26))
    right.set_ylabel(rf"$\max|1-p(s)|$ over $[10^{{{np.log10(LOW):.0f}}},1]$")
    plt.show()

slopes = {name: float(np.prod([c[0] for c in schedule.coefficients])) for name, schedule in polar.SCHEDULES.items()}
pd.DataFrame(
    {
        name: {
            "steps": schedule.steps,
            "input from": schedule.input_interval[0],
            "output low": schedule.output_interval[0],
            "output high": schedule.output_interval[1],
            "price hi/lo": schedule.output_interval[1] / schedule.output_interval[0],
            "slope at 0": slopes[name],
            "low end from 1e-4": schedule.image(1e-4, 1.0)[0],
        }
        for name, schedule in polar.SCHEDULES.items()
    }
).T.style.format("{:.4g}").format("{:.12f}", subset=["output low"])

# %% [markdown]
# The bands are statements about matrices, and we can test them as such. For random $G$ whose normalized singular
# values lie in the input interval: the singular values of `polar_factor(G, schedule)` must lie in the output
# interval $[\mathrm{lo},\mathrm{hi}]$, so that $D=-p(G)$ is an *inexact* LMO, with $\|D\|_2\le\mathrm{hi}$ and
# $\langle G,D\rangle\le-\mathrm{lo}\,\|G\|_*$. The bound of fixed-radius descent (next notebook) survives that at
# the price $\mathrm{hi}/\mathrm{lo}$. **Negative control:** singular values below the input interval must break
# the band.

# %%
rng = np.random.default_rng(7)
COUNT = 200 if SIZE == "smoke" else 5000


def with_singular_values(s, rng):
    return ot.problems.orthogonal(len(s), rng) * s @ ot.problems.orthogonal(len(s), rng)


def band_violation(schedule, inside):
    """Largest excess over the output interval, and the extreme quotients ⟨G, -D⟩ / dual and |D|_2."""
    excess, quotients, lengths = 0.0, [], []
    for _ in range(COUNT):
        low = schedule.input_interval[0] * schedule.normalization.safety
        s = np.exp(rng.uniform(np.log(low), 0, 6)) if inside else np.array([1, 1, 1, 1, 1, rng.uniform(0, 0.1) * low])
        s[0] = 1.0
        if inside:  # after the division by |G|_F the smallest must still be in the interval
            s = np.maximum(s, 1.001 * low * np.linalg.norm(s))
        g = with_singular_values(s, rng)
        d = ot.polar_factor(g, schedule)
        values = polar.thin_svd(d).s
        low_end, high_end = schedule.output_interval
        excess = max(excess, values.max() - high_end, low_end - values.min())
        quotients.append(inner(g, d) / spectral.dual(g))
        lengths.append(spectral.value(d))
    return {"excess over the band": excess, "min ⟨G, -D⟩ / dual": min(quotients), "max |D|_2": max(lengths)}


bands = pd.concat(
    {
        case: pd.DataFrame(
            {
                s.name: {**band_violation(s, case == "inside"), "lo": s.output_interval[0], "hi": s.output_interval[1]}
                for s in (polar.MUON_QUINTIC, polar.POLAR_EXPRESS_5, polar.NEWTON_SCHULZ_QUINTIC)
            }
        ).T
        for case in ("inside", "control: below")
    }
)
assert (bands.loc["inside", "excess over the band"] < 1e-12).all()
assert (bands.loc["control: below", "excess over the band"] > 0.05).all()
bands.style.format("{:.3g}")

# %% [markdown]
# ## 8. Two symbolic checks
#
# **The LMO by Lagrange.** Maximize $\langle g,x\rangle$ over $\sum x_i^p=1$ for $g>0$ (signs follow by symmetry, and
# singular vectors for a Schatten norm). `derivations.lmo` lets SymPy solve stationarity, then the constraint; each step
# is checked and raises where a residual is not zero. The multiplier of a norm constraint *is* the dual norm.

# %%
display(Markdown(derivations.lmo(3).markdown()))

# %% [markdown]
# The same for four exponents, compared with the code, entry-wise and on singular values; the control takes another
# exponent:

# %%
rng = np.random.default_rng(8)
g = rng.uniform(0.01, 10, (1000, 3))
rows = {}
for name in ("3/2", "2", "3", "4"):
    derived, p = derivations.lmo(name), float(Fraction(name))
    x = np.stack(derived.numeric("maximizer", ("g1", "g2", "g3"))(*g.T), axis=-1)
    dual = derived.numeric("dual", ("g1", "g2", "g3"))(*g.T)
    u, v = ot.problems.orthogonal(3, rng), ot.problems.orthogonal(3, rng)
    entries, values = norms.EntryLp(p), norms.Schatten(p)
    rows[f"$p={name}$"] = {
        "maximizer": f"${sympy.latex(derived.results['maximizer'][0])}$",
        "entries: LMO": np.abs(entries.lmo(g[:, None, :])[:, 0] + x).max(),
        "dual (relative)": np.abs(entries.dual(g[:, None, :]) / dual - 1).max(),
        "singular values: LMO": np.abs(values.lmo(u * g[:, None, :] @ v.T) + u * x[:, None, :] @ v.T).max(),
        "control: p + 1/2": np.abs(norms.EntryLp(p + 0.5).lmo(g[:, None, :])[:, 0] + x).max(),
    }
lagrange = pd.DataFrame(rows).T
numeric = ["entries: LMO", "dual (relative)", "singular values: LMO"]
assert (lagrange[numeric] < 1e-12).all(axis=None)
assert (lagrange["control: p + 1/2"] > 0.01).all()
lagrange.style.format("{:.1e}", subset=[*numeric, "control: p + 1/2"])

# %% [markdown]
# **Why Newton-Schulz converges and Muon's quintic does not.** Theorem `newton-schulz-factor`: for the classical
# coefficients $1-p(x)$ has a double (cubic) or triple (quintic) zero at $x=1$, hence quadratic and cubic
# convergence. The coefficients follow from the order alone, as the odd polynomial of least degree that is so flat at 1;
# the theorem's `proof()` factors the polynomials that the code uses and raises where a residual is not zero. The
# negative control puts Muon's coefficients in; it must fail.

# %%
for order in (2, 3):
    display(Markdown(derivations.newton_schulz(order).markdown()))
theorem = ot.theory.get("newton-schulz-factor")
display(Math(theorem.statement))
for step in theorem.proof():
    display(Math(step))
row = ot.theory.ledger_row(theorem, SIZE)
control = row["control"]
print(f"{theorem.label}: {row['verdict']}, residual {row['measured']:.0e} (allowed {row['bound']:.0e})")
print(f"control, {control['mistake']}: fails = {control['fails']}, residual {control['measured']:.2f}")
a, b, c = polar.MUON_QUINTIC.coefficients[0]
print(f"Muon's p(1) = {a + b + c:.4f}: 1 is not even a fixed point, so that more steps do not help")
assert row["verdict"] == "holds"
assert control["fails"]

# %% [markdown]
# ## What to take along
#
# * A norm is its identities; all of them hold here to rounding, and each check was seen to fail on a broken norm.
# * The spectral LMO is steepest descent that moves all singular directions by one length. It is unique, and
#   continuous, only at full rank; a schedule decides by its slope at zero what counts as rank.
# * Orthogonal invariance on both sides belongs to the norms of the singular values alone (von Neumann); row,
#   column and entry norms measure a basis, and their steps turn when it turns.
# * Muon's polynomial is an inexact LMO with a known price, not an approximation that improves with more steps.
#
# Next: what a fixed radius does on a problem, in `02_trust_region_descent`.
