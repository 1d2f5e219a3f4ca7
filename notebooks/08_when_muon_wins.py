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
# # When Muon wins and when it loses
#
# A spectral step moves every singular direction of the gradient by one length. Whether that helps depends on what the
# lengths would have been: it is right where the *errors* are alike and the curvatures are not, and wrong the other way
# round. This notebook makes both sides precise, on quadratics and with noise: which theorem predicts a win, which a
# loss, where the border runs, and what is only measured.
#
# All methods have one constant rate, tuned on seeds that are not reported; "the spectral step" is
# $X_{k+1}=X_k-\eta\operatorname{polar}(G_k)$ without momentum, which is what the theorems speak of. Every number below
# is printed by the cell above it. `ORTHOTHEORY_SIZE` is `smoke` (default) or `paper`.

# %%
import os

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from IPython.display import Markdown, Math, display
from ipywidgets import FloatLogSlider, FloatSlider, IntSlider
from matplotlib.colors import LinearSegmentedColormap

import orthotheory as ot
from orthotheory import comparison, norms, problems, regimes
from orthotheory.plotting.sliders import explore
from orthotheory.methods import DualScaled, GradientDescent, TrustRegion
from orthotheory.plotting import COLORS
from orthotheory.theory import derivations_noise, floors, quadratic_rates
from orthotheory.theory.quadratic_rates import diagonal_problem

# %matplotlib inline

SIZE = os.environ.get("ORTHOTHEORY_SIZE", "smoke")
if SIZE not in ("smoke", "paper"):
    raise ValueError(f"ORTHOTHEORY_SIZE is smoke or paper; got {SIZE!r}.")
PAGE = ot.plotting.STYLE | {"figure.dpi": 140}
DASHED = {"ls": (0, (4, 2)), "lw": 0.9}
GRADIENT, SPECTRAL_COLOR, SCALED = COLORS["black"], COLORS["vermilion"], COLORS["green"]
FIGURES = ot.reproduce.load_figures(ot.reproduce.find_root())
SPECTRAL, FROBENIUS = norms.Spectral(), norms.Frobenius()


def sentence(text):
    display(Markdown(text))


def state(label):
    """Show a theorem of the ledger and, where it has one, its symbolic proof."""
    theorem = ot.theory.get(label)
    sentence(f"**{theorem.title}** (`{label}`, *{theorem.kind}*)")
    display(Math(theorem.statement))
    for step in theorem.proof() if theorem.proof else ():
        display(Math(step))


# %% [markdown]
# ## 1. Two ways down
#
# Where the error shares its singular vectors with the curvature, both methods act on the singular values $s_i$ alone:
# gradient descent *multiplies* each by $1-\eta h_i$, the spectral step *subtracts* $\eta$ from each.

# %%
state("gradient-modes")
state("spectral-condition-free")


# %% [markdown]
# Six modes, curvatures from $1/\kappa$ (light) to 1 (dark). Left: gradient descent waits for the flattest mode and, at
# its best rate $2/(L+\mu)$, as long for the sharpest, which overshoots. Middle: spectral descent arrives with all modes
# at once, whatever $\kappa$, and then jumps across the optimum for ever. Right: the loss. Move $\kappa$ and the budget:
# at small $\kappa$ the straight line loses against the exponential, at large $\kappa$ it wins until the exponential has
# had its time.


# %%
def two_ways(condition=300.0, budget=60):
    errors = np.array([0.75, 1.0, 0.55, 0.9, 0.65, 0.8])
    problem = diagonal_problem(problems.log_spectrum(6, condition), errors)
    low, top = 1 / condition, 1.0
    methods = {
        "gradient": GradientDescent(lr=2 / (low + top) if condition > 1 else 1.0),
        "spectral": TrustRegion(SPECTRAL, lr=1.3 / budget),
    }
    with matplotlib.rc_context(PAGE):
        _, axes = plt.subplots(1, 3, figsize=(6.8, 2.3))
        for ax, (name, method), color in zip(axes, methods.items(), (GRADIENT, SPECTRAL_COLOR), strict=False):
            trace = ot.run(problem, method, int(budget), record=("iterate", "gap"))
            modes = np.abs(np.diagonal(trace["iterate"], axis1=1, axis2=2))
            for i, shade in enumerate(np.linspace(1, 0.25, 6)):
                ax.plot(modes[:, i], color=color, alpha=shade, lw=1.0)
            ax.set(xlabel="step", ylim=(0, 1.05), title=name)
            axes[2].plot(np.maximum(trace["gap"] / trace["gap"][0], 1e-16), color=color)
        axes[0].set_ylabel("$|s_i|$")
        axes[2].set(xlabel="step", ylabel="loss", yscale="log", title=rf"$\kappa={condition:.0f}$")
        plt.show()


explore(two_ways, condition=lambda: FloatLogSlider(300, min=0, max=4, description="κ"),
        budget=lambda: IntSlider(60, min=10, max=600, description="budget"))  # fmt: skip

# %% [markdown]
# ## 2. The border, and eleven regimes
#
# Left, in every cell both methods are tuned anew; blue: gradient descent is ahead, orange: the spectral step. The line
# is computed from the two closed forms without running either method. Right, other regimes and more rivals, with 95 %
# intervals over seeds; in gray what theorems predict against gradient descent.

# %%
figure, _ = FIGURES["when-muon-wins"]
data = figure.data(SIZE)
with matplotlib.rc_context(PAGE):
    figure.draw(data, plt.figure(figsize=figure.size))
    plt.show()
against = regimes.RIVALS.index("gd")
sides = pd.DataFrame(
    {
        "predicted against gradient descent": [r.predicted for r in regimes.REGIMES],
        "by": [", ".join(r.predicted_by) or "-" for r in regimes.REGIMES],
        "decades": data["mean"][:, against],
        "± (95 %)": data["half width"][:, against],
        "measured": [{-1: "wins", 0: "undecided", 1: "loses"}[int(s)] for s in data["side"][:, against]],
    },
    index=[r.task.label for r in regimes.REGIMES],
)
for regime, (_, row) in zip(regimes.REGIMES, sides.iterrows(), strict=True):
    assert row["measured"] in ("undecided", regime.predicted) or regime.predicted == "open"
sides.style.format("{:.2f}", subset=["decades", "± (95 %)"])

# %% [markdown]
# Three things to see. *One*: the border runs along $K\approx\kappa$ up to a factor: a spectral step of constant radius
# is a method for few steps on ill-conditioned problems. *Two*: plain momentum is a strong rival there, for
# $\sqrt\kappa$ is small. *Three*: against the normalized gradient and the sign, which have a constant radius too, the
# long run is no loss: what loses there is the fixed radius, not the geometry. Flat curvature, an error of rank one and
# weak noise remain losses against the normalized gradient.
#
# ## 3. Duality: flat curvature or flat errors
#
# Scale the spectral step by the dual norm, $X-\frac1L\|G\|_*\operatorname{polar}(G)$, and the fixed radius is gone.
# What is left is the geometry, and it has an exact dual: one step of gradient descent is enough where the *curvature*
# is flat, one scaled spectral step where the *error* is.

# %%
state("one-step-duality")
state("slow-mode")

# %% [markdown]
# The plane between the two: curvatures spread over $\kappa$, errors over $\tau$, paired at random, both methods with
# tuned rates. Left: the error shares its singular vectors with the curvature. Right: it does not, and the advantage is
# smaller, though it remains.

# %%
SPREADS = 10.0 ** np.arange(0, 4 if SIZE == "smoke" else 5)
SIDE, BUDGET = 6, 40


def spread_errors(basis, spread, aligned, seeds):
    """Errors of singular values 1 to 1/spread in random order, (seeds, m, m)."""
    out = []
    for seed in seeds:
        rng = np.random.default_rng(seed)
        left = basis if aligned else problems.orthogonal(SIDE, rng)
        values = rng.permutation(problems.log_spectrum(SIDE, spread))
        out.append((left * values) @ problems.orthogonal(SIDE, rng).T)
    return np.array(out)


def final(problem, method, rates, errors):
    """Relative gap after the budget, (rates, seeds)."""
    start = np.broadcast_to(errors, (len(rates), *errors.shape))
    lr = np.broadcast_to(rates[:, None], start.shape[:2])
    gap = ot.run(problem, method(lr), BUDGET, record=("gap",), start=start)["gap"]
    return np.maximum(gap[-1] / gap[0], comparison.FLOOR)


def duality(aligned):
    tuning, fresh = range(4), range(4, 10 if SIZE == "smoke" else 16)
    basis = problems.orthogonal(SIDE, np.random.default_rng(100))
    mean, side = np.empty((2, len(SPREADS), len(SPREADS)))
    for i, condition in enumerate(SPREADS):
        a = (basis * problems.log_spectrum(SIDE, condition)) @ basis.T
        zero = np.zeros((SIDE, SIDE))
        problem = problems.KroneckerQuadratic((a + a.T) / 2, np.eye(SIDE), zero, zero)
        grids = {
            "scaled": (lambda lr: DualScaled(SPECTRAL, lr=lr), float(problem.smoothness(SPECTRAL))),
            "gradient": (lambda lr: GradientDescent(lr=lr), float(problem.smoothness(FROBENIUS))),
        }
        for j, spread in enumerate(SPREADS):
            losses = []
            for method, smoothness in grids.values():
                rates = np.array([0.25, 0.5, 0.75, 1.0, 1.2, 1.4, 1.6, 1.8, 1.95]) / smoothness
                tuned = np.log10(final(problem, method, rates, spread_errors(basis, spread, aligned, tuning)))
                best = rates[np.argmin(tuned.mean(axis=1))][None]
                losses.append(final(problem, method, best, spread_errors(basis, spread, aligned, fresh))[0])
            ratio = regimes.paired(*losses)
            mean[i, j], side[i, j] = ratio.mean, ratio.side
    return mean, side


WINS = LinearSegmentedColormap.from_list("wins", [SPECTRAL_COLOR, "white", COLORS["blue"]])
maps = {"aligned": duality(True), "generic": duality(False)}
with matplotlib.rc_context(PAGE):
    fig, axes = plt.subplots(1, 2, figsize=(5.6, 2.5), sharey=True)
    ticks = np.arange(len(SPREADS))
    for ax, (name, (mean, side)) in zip(axes, maps.items(), strict=True):
        mesh = ax.pcolormesh(ticks, ticks, mean.T, cmap=WINS, vmin=-6, vmax=6, shading="nearest")
        for i, j in np.ndindex(mean.shape):
            text = f"{mean[i, j]:.1f}" if side[i, j] else "="
            strong = abs(mean[i, j]) > 4
            ax.text(i, j, text, ha="center", va="center", fontsize=7, color="white" if strong else "black")
        ax.set(xlabel=r"spread of the curvature $\kappa$", title=name)
        ax.set_xticks(ticks, [f"$10^{t}$" for t in ticks])
    axes[0].set_ylabel(r"spread of the error $\tau$")
    axes[0].set_yticks(ticks, [f"$10^{t}$" for t in ticks])
    fig.colorbar(mesh, ax=axes, label="decades over gradient descent", extend="both")
    plt.show()
assert np.all(maps["aligned"][0][1:, 0] < -3)  # a flat error, whatever the curvature
assert np.all(np.abs(maps["aligned"][0][0]) < 0.5)  # flat curvature: both are down to rounding

# %% [markdown]
# A word against too much enthusiasm. What the scaled step may lose is a *slow mode*: while the other modes change their
# signs every step, one that lags behind falls by $1-2h/L$ only, with the spectral $L$, the sum of all curvatures. Which
# one lags depends on the start; here it is the flattest.

# %%
found = quadratic_rates.slow_run()
with matplotlib.rc_context(PAGE):
    fig, ax = plt.subplots(figsize=(4.6, 2.4))
    for name, color in (("scaled", SCALED), ("gradient", GRADIENT)):
        ax.plot(found["k"], found[name] / found[name][0], color=color)
        ax.annotate(name, (found["k"][-1], found[name][-1] / found[name][0]), (4, 0), textcoords="offset points",
                    color=color, fontsize=8, va="center", annotation_clip=False)  # fmt: skip
    line = found["scaled"][50] / found["scaled"][0] * float(found["factor"]) ** (2 * (found["k"] - 50.0))
    ax.plot(found["k"], line, color=SCALED, **DASHED)
    ax.set(yscale="log", xlabel="step", ylabel="loss", ylim=(1e-9, 2))
    plt.show()
last = found["scaled"][-100:]
print(f"measured factor a step {np.sqrt((last[-1] / last[0]) ** (1 / 99)):.4f}, slow mode {float(found['factor']):.4f}")


# %% [markdown]
# And its threshold is sharp: the step $c/L$ with every mode alternating multiplies the gradient norm by exactly $c-1$.


# %%
def threshold(c=2.05):
    h = np.array([1.0, 0.7, 0.4, 1.6])
    problem = diagonal_problem(h, 1 + np.array([0.02, -0.03, 0.01, 0.0]))
    trace = ot.run(problem, DualScaled(SPECTRAL, lr=c / float(problem.smoothness(SPECTRAL))), 12,
                   record=("gradient_norm",))  # fmt: skip
    factors = trace["gradient_norm"][1:] / trace["gradient_norm"][:-1]
    print(f"c = {c}: factors from {factors.min():.6f} to {factors.max():.6f}; theorem scaled-threshold: {c - 1:.6f}")


explore(threshold, c=lambda: FloatSlider(2.05, min=1.9, max=2.5, step=0.05))

# %% [markdown]
# ## 4. Directions that were already right
#
# If the error has rank one, gradient descent moves along it and nothing else. A polar factor of full rank moves *all*
# directions by $\eta$, also those that are at the optimum, as soon as noise or rounding gives them a sign.

# %%
state("low-rank-error")


def needless(rank=6):
    lr, h = 0.05, np.linspace(1.0, 0.2, int(rank))
    floor = {"exact zeros": lr**2 * h[0] / 8, "kicked": lr**2 * (h[0] / 8 + h[1:].sum() / 4)}
    with matplotlib.rc_context(PAGE):
        _, ax = plt.subplots(figsize=(4.6, 2.3))
        for label, rest, color in (("exact zeros", 0.0, COLORS["green"]), ("kicked", 1e-12, SPECTRAL_COLOR)):
            problem = diagonal_problem(h, [20.5 * lr, *np.full(int(rank) - 1, rest)])
            gap = ot.run(problem, TrustRegion(SPECTRAL, lr=lr), 60, record=("gap",))["gap"]
            ax.plot((gap[1:] + gap[:-1]) / 2, color=color)
            ax.axhline(floor[label], color=color, **DASHED)
            ax.annotate(label, (60, floor[label]), (3, 0), textcoords="offset points", color=color, fontsize=8,
                        va="center", annotation_clip=False)  # fmt: skip
            assert np.isclose((gap[-1] + gap[-2]) / 2, floor[label])
        ax.set(yscale="log", xlabel="step", ylabel="loss, mean of two steps", xlim=(0, 60))
        ax.set_title(f"rank {rank}", fontsize=8, loc="right")
        plt.show()


explore(needless, rank=lambda: IntSlider(6, min=2, max=12))

# %% [markdown]
# ## 5. Noise
#
# At a fixed rate noise leaves a floor. That of gradient descent is quadratic in $\sigma$, that of a spectral or sign
# step linear, and does not see the curvature: small noise is the regime of the gradient. What of strong noise? Then
# the polar factor is, on average, the gradient over the noise, so that it *is* gradient descent, at another rate. At
# equal speed the two floors have a fixed quotient, at least 1:

# %%
state("heavy-ball-variance")
sentence(derivations_noise.sign_floor().markdown())
sentence(derivations_noise.strong_noise_price().markdown())

# %%
SIGMAS = np.geomspace(3e-3, 1.0, 6 if SIZE == "smoke" else 9)
crossed = floors.crossover(SIGMAS, chains=40 if SIZE == "smoke" else 200, steps=300, lr=0.03)
with matplotlib.rc_context(PAGE):
    fig, ax = plt.subplots(figsize=(4.8, 2.6))
    ax.plot(SIGMAS, crossed["spectral"], "o-", ms=3, color=SPECTRAL_COLOR)
    ax.plot(SIGMAS, crossed["high"], color=SPECTRAL_COLOR, **DASHED)
    ax.axhline(float(crossed["low"]), color=SPECTRAL_COLOR, ls=(0, (1, 2)), lw=0.9)
    ax.plot(SIGMAS, crossed["sgd"], color=GRADIENT)
    ax.annotate("SGD, formula", (SIGMAS[1], crossed["sgd"][1]), (8, -6), textcoords="offset points", fontsize=8)
    ax.annotate("spectral", (SIGMAS[0], crossed["spectral"][0]), (0, 6), textcoords="offset points", fontsize=8,
                color=SPECTRAL_COLOR)  # fmt: skip
    ax.set(xscale="log", yscale="log", xlabel=r"noise $\sigma$", ylabel=r"stationary loss at $\eta=0.03$")
    plt.show()
sigma, nu = SIGMAS[-1], floors.mean_nuclear(3, 3)
print(f"strongest noise: measured over `spectral-noise-floor` {crossed['spectral'][-1] / crossed['high'][-1]:.3f}")
same_speed = 9 * sigma**2 * (0.03 * nu / (9 * sigma)) / 4  # floor of gradient descent at the rate of equal speed
price = derivations_noise.strong_noise_price().numeric("price", ("m", "n", "r", "nu"))(3, 3, 3, nu)
print(f"over that of gradient descent at equal speed {crossed['spectral'][-1] / same_speed:.3f}, derived {price:.3f}")

# %% [markdown]
# Dashed: the strong-noise floor; dotted: the least loss of the noise-free cycle. Equal rates are not equal terms,
# though (a length is not a rate), so the race again, tuned, over $\sigma$ and two kinds of noise of one variance. Under
# full Gaussian noise the spectral step ends a little behind, as the quotient says. Under noise of *rank one* it is far
# ahead, and more so with more noise: the outlier is one singular direction, whose length a polar factor does not see.

# %%
LEVELS = (0.01, 0.1, 1.0) if SIZE == "smoke" else (0.003, 0.01, 0.03, 0.1, 0.3, 1.0)
protocol = regimes.SMOKE if SIZE == "smoke" else comparison.PAPER
races = {}
for noise in ("gaussian", "low-rank"):
    for sigma in LEVELS:
        quadratic = {"name": "quadratic", "rows": 8, "columns": 8, "left_condition": 100.0,
                     "noise": {"name": noise, "sigma": sigma}}  # fmt: skip
        task = comparison.Task(f"{noise} {sigma}", quadratic, "commuting")
        finals = [comparison.compare(name, task, protocol).final["budget"] for name in ("trust-region", "gd")]
        races[noise, sigma] = regimes.paired(*finals)
with matplotlib.rc_context(PAGE):
    fig, ax = plt.subplots(figsize=(4.8, 2.5))
    for noise, color, label in (("gaussian", COLORS["blue"], "Gaussian"), ("low-rank", SPECTRAL_COLOR, "rank one")):
        mean, half = (np.array([getattr(races[noise, s], part) for s in LEVELS]) for part in ("mean", "half_width"))
        ax.errorbar(LEVELS, mean, half, color=color, marker="o", ms=3, capsize=2, lw=1.2)
        ax.annotate(label, (LEVELS[-1], mean[-1]), (6, 0), textcoords="offset points", color=color, fontsize=8,
                    va="center", annotation_clip=False)  # fmt: skip
    ax.axhline(0, color=COLORS["gray"], lw=0.7)
    ax.set(xscale="log", xlabel=r"noise $\sigma$", ylabel="decades of loss over\ngradient descent")
    plt.show()
assert races["low-rank", LEVELS[-1]].side == -1

# %% [markdown]
# Two more losses, each a theorem with an exact example. Noise that is *skewed* turns signs around on average: without
# momentum before the polar factor (and whatever momentum after it) the step walks uphill. And at a kink there is
# nothing to converge to.

# %%
state("order-matters")
state("nonsmooth-stall")

# %% [markdown]
# ## 6. In which metric?
#
# The worst-case guarantees say the same in one line. To make the *nuclear* norm of the gradient small, the bound of the
# spectral step needs $2L_2\Delta/\epsilon^2$ steps and that of gradient descent $2rL_F\Delta/\epsilon^2$: never worse.
# To make the *Frobenius* norm small, it is $2L_2\Delta/\epsilon^2$ against $2L_F\Delta/\epsilon^2$: never better. The
# gain of the one and the loss of the other multiply to $r$:

# %%
state("smoothness-chain")
table = {}
for condition in (1.0, 10.0, 100.0, 1e4):
    problem = problems.quadratic(rows=8, columns=8, left_condition=condition)
    spectral, frobenius = float(problem.smoothness(SPECTRAL)), float(problem.smoothness(FROBENIUS))
    table[f"$\\kappa={condition:g}$"] = {
        "$L_2/L_F$": spectral / frobenius,
        "nuclear target: GD's steps over Muon's": 8 * frobenius / spectral,
        "Frobenius target: GD's steps over Muon's": frobenius / spectral,
    }
table = pd.DataFrame(table).T
assert np.allclose(table.iloc[:, 0] * table.iloc[:, 1], 8)
table.style.format("{:.2f}")

# %% [markdown]
# ## 7. The ledger

# %%
labels = ("gradient-modes", "spectral-condition-free", "one-step-duality", "slow-mode", "scaled-threshold",
          "low-rank-error", "sign-floor", "spectral-noise-floor", "order-matters", "nonsmooth-stall",
          "smoothness-chain")  # fmt: skip
ledger = pd.DataFrame([ot.theory.ledger_row(ot.theory.get(label), "smoke") for label in labels]).set_index("label")
ledger["control fails"] = [c["fails"] for c in ledger["control"]]
ledger["the mistake"] = [c["mistake"] for c in ledger["control"]]
assert (ledger["verdict"] == "holds").all()
assert ledger["control fails"].all()
ledger[["kind", "verdict", "measured", "tightness", "control fails", "the mistake"]].style.format(
    "{:.3g}", subset=["measured", "tightness"]
)

# %% [markdown]
# ## What to take along
#
# * **It wins** where curvatures differ and errors do not: ill-conditioned problems, early, with the error spread over
#   many singular directions; and against noise that sits in few of them.
# * **It loses** where the curvature is flat, in long runs at a constant radius, with errors of low rank, under weak
#   noise, and a little under strong isotropic noise. It stalls where noise is skewed and nothing averages it first.
# * Scaling by the dual norm cures the fixed radius, not the slow mode, and adds a threshold.
# * A momentum of 0.9 on plain gradients is level with the spectral step, or ahead of it, at condition numbers of a
#   thousand: a comparison with gradient descent alone flatters.
