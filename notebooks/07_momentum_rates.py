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
# # Rates with momentum: one noise, three averages, three exponents
#
# A polar factor throws the size of its argument away, and with it the information that noise is small. So a spectral
# step needs an average of gradients before it (and not after: theorem `order-matters`). An average has a price: it
# *lags*. This notebook takes the price apart, removes it, and measures what that is worth. On quadratics with noise,
# spectral descent with the step and the average that theory prescribes for a budget of $K$ steps reaches a mean
# gradient norm of order
#
# | average $M_k$ of gradients | taken at | exponent of $K$ |
# |---|---|---|
# | exponential, $M_k=(1-a)M_{k-1}+aG_k$ | $X_k$ | $-1/4$ |
# | the same | $Y_k=X_k+\frac{1-a}a(X_k-X_{k-1})$ | $-1/3$ |
# | plain, $a_k=1/(k+1)$ | $Y_k$ | $-1/2$ |
#
# An exponent is claimed only from several seeds, with an interval, and beside a schedule that must fail. Every number
# below is printed by the cell above it. `ORTHOTHEORY_SIZE` is `smoke` (default) or `paper`.

# %%
import json
import os

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from IPython.display import Markdown, Math, display
from ipywidgets import FloatLogSlider, IntSlider
from scipy.optimize import linprog
from scipy.stats import binom

import orthotheory as ot
from orthotheory import problems
from orthotheory.plotting.sliders import explore
from orthotheory.plotting import COLORS
from orthotheory.polar import polar_factor
from orthotheory.theory import derivations, derivations_noise, quadratic_rates
from orthotheory.theory.rates import SCHEDULES

# %matplotlib inline

SIZE = os.environ.get("ORTHOTHEORY_SIZE", "smoke")
if SIZE not in ("smoke", "paper"):
    raise ValueError(f"ORTHOTHEORY_SIZE is smoke or paper; got {SIZE!r}.")
PAGE = ot.plotting.STYLE | {"figure.dpi": 140}
DASHED = {"ls": (0, (4, 2)), "lw": 0.9}
PLAIN, IGT, HARMONIC = COLORS["blue"], COLORS["vermilion"], COLORS["green"]
FIGURES = ot.reproduce.load_figures(ot.reproduce.find_root())


def sentence(text):
    display(Markdown(text))


# %% [markdown]
# ## 1. What an average costs
#
# With unbiased noise $\xi_k$ the error of the momentum, $e_k=M_k-\nabla f(X_k)$, obeys
# $e_k=(1-a)\bigl(e_{k-1}+\nabla f(X_{k-1})-\nabla f(X_k)\bigr)+a\,\xi_k$. The second term in the bracket is the lag: it
# grows like $L\eta/a$ when $a$ is small. The noise alone would shrink like $\sqrt a$:

# %%
sentence(derivations_noise.average_variance().markdown())
theorem = ot.theory.get("trust-region-momentum")
display(Math(theorem.statement))
sentence(f"**{theorem.title}** (`{theorem.label}`, *{theorem.kind}*; {theorem.source}).")

# %% [markdown]
# The two prices against each other: the error of the momentum, over $a$, at a fixed radius. Blue: at the current
# point. Orange: at the extrapolated point of the next section. Dashed: the noise alone, $\sigma\sqrt{a/(2-a)}$, by the
# formula just derived. Move the radius: the lag scales with it, the noise does not.

# %%
problem = problems.quadratic(rows=6, columns=6, left_condition=10.0, alignment="generic")
SIGMA = 0.1  # of each entry


def momentum_run(grad, start, lr, share, steps, extrapolate, seeds=8, seed=0):
    """Return exact gradients, momentum errors and what averaging the noise alone would leave, (steps, ..., m, n).

    `share` is a number, an array that broadcasts over leading axes, or None for 1/(k+1).
    """
    rng = np.random.default_rng(seed)
    lead = () if share is None else np.shape(share)[:-3]
    x = before = np.broadcast_to(start, (*lead, seeds, *start.shape))
    momentum = noise = np.zeros_like(x)
    gradients, errors, noises = [], [], []
    for k in range(steps):
        a = 1 / (k + 1) if k == 0 or share is None else share
        xi = SIGMA * rng.standard_normal((seeds, *start.shape))
        at = x + (1 - a) / a * (x - before) if extrapolate else x
        momentum = (1 - a) * momentum + a * (grad(at) + xi)
        noise = (1 - a) * noise + a * xi
        gradients.append(grad(x))
        errors.append(momentum - gradients[-1])
        noises.append(noise)
        x, before = x - lr * polar_factor(momentum), x
    return np.array(gradients), np.array(errors), np.array(noises)


def rms(errors):
    """Root mean square Frobenius norm over steps and seeds."""
    return np.sqrt(np.mean(np.sum(errors**2, axis=(-2, -1)), axis=(0, -1)))


def prices(lr=0.02):
    shares = np.geomspace(0.03, 1, 11)
    alone = 6 * SIGMA * np.sqrt(shares / (2 - shares))
    with matplotlib.rc_context(PAGE):
        _, ax = plt.subplots(figsize=(4.6, 2.7))
        for extrapolate, color, label in ((False, PLAIN, "at $X_k$"), (True, IGT, "at $Y_k$")):
            _, errors, _ = momentum_run(
                problem.grad, problem.start, lr, shares[:, None, None, None], 400, extrapolate, seeds=4
            )
            found = rms(errors[200:])
            ax.plot(shares, found, "o-", ms=3, color=color)
            ax.annotate(label, (shares[0], found[0]), (-4, 0), textcoords="offset points", ha="right", va="center",
                        color=color, fontsize=8)  # fmt: skip
        ax.plot(shares, alone, color=COLORS["black"], **DASHED)
        ax.set(xscale="log", yscale="log", xlabel="$a$", ylabel="error of the momentum", xlim=(0.016, 1.1))
        ax.set_title(rf"$\eta={lr:g}$", fontsize=8, loc="right")
        plt.show()
    print(f"largest distance of the extrapolated run from the formula: {np.abs(found / alone - 1).max():.0%}")


explore(prices, lr=lambda: FloatLogSlider(0.02, min=-3, max=-1, description="η"))

# %% [markdown]
# ## 2. Extrapolation removes the lag
#
# Implicit gradient transport (Arnold and others, 2019) takes the gradient at
# $Y_k=X_k+\frac{1-a}a(X_k-X_{k-1})$, so far ahead that the average of stale gradients is the gradient *here*, as long
# as the Hessian is constant. SymPy, for a symmetric Hessian of symbols:

# %%
sentence(derivations_noise.extrapolation().markdown())

# %% [markdown]
# So the error is averaged noise and nothing else, to rounding, whatever the radius:

# %%
STEPS = 250
runs = {
    name: momentum_run(problem.grad, problem.start, 0.05, 0.1, STEPS, extrapolate, seeds=1)
    for name, extrapolate in (("at $X_k$", False), ("at $Y_k$", True))
}
with matplotlib.rc_context(PAGE):
    fig, ax = plt.subplots(figsize=(5.6, 2.4))
    for (name, (_, errors, _)), color in zip(runs.items(), (PLAIN, IGT), strict=True):
        size = np.linalg.norm(errors[:, 0], axis=(-2, -1))
        ax.plot(size, color=color, lw=1.0)
        ax.annotate(name, (STEPS, size[-1]), (4, 0), textcoords="offset points", color=color, va="center", fontsize=8)
    alone = np.linalg.norm(runs["at $Y_k$"][2][:, 0], axis=(-2, -1))
    ax.plot(alone, color=COLORS["black"], ls=(0, (1, 2)), lw=1.2)
    ax.set(xlabel="step $k$", ylabel=r"$\|M_k-\nabla f(X_k)\|_F$", yscale="log", xlim=(0, STEPS))
    plt.show()
_, errors, noises = runs["at $Y_k$"]
cancelled = np.abs(errors - noises).max()
lag = np.abs(runs["at $X_k$"][1] - runs["at $X_k$"][2]).max()
print(f"error minus averaged noise: {cancelled:.1e} at Y, {lag:.1e} at X (the control)")
assert cancelled < 1e-11 < 1e-2 < lag

# %% [markdown]
# ## 3. From the bound to the exponents
#
# With $a=K^{-\alpha}$ and $\eta=K^{-\beta}$ every term of a bound is a power of $1/K$, and the sum is as good as its
# slowest term: the best exponent is a small linear program, $\max\min_j(\text{power}_j)$. The terms:
# $\Delta/(\eta K)$, $L\eta$, the noise $\sigma\sqrt a$, the start $\sigma/(aK)$, and the lag: $L\eta/a$ at $X_k$,
# nothing at $Y_k$ on a quadratic, $T\eta^2/a^2$ at $Y_k$ with a Hessian that changes (theorem `extrapolation-bound`).

# %%
COMMON = {"gap": (0, -1, 1), "curvature": (0, 1, 0), "noise": (0.5, 0, 0), "start": (-1, 0, 1)}  # alpha, beta, 1
LAGS = {
    "EMA": {"lag": (-1, 1, 0)},
    "IGT": {},
    "IGT, Hessian changes": {"lag": (-2, 2, 0)},
}


def best_exponent(terms):
    """Maximize t with t <= p alpha + q beta + c for all terms (p, q, c)."""
    rows = np.array(list(terms.values()))
    solved = linprog([0, 0, -1], A_ub=np.column_stack([-rows[:, :2], np.ones(len(rows))]), b_ub=rows[:, 2])
    return solved.x


powers = {name: best_exponent(COMMON | lag) for name, lag in LAGS.items()}
for name, schedule in SCHEDULES.items():
    if name in powers:
        assert np.isclose(-powers[name][2], schedule.exponent)
table = pd.DataFrame(powers, index=["alpha", "beta", "rate"]).T
table["steps to accuracy eps"] = [f"eps^-{1 / t:.3g}" for t in table["rate"]]
table.style.format("{:.3f}", subset=["alpha", "beta", "rate"])

# %% [markdown]
# That is $\epsilon^{-4}$ for plain momentum, which is known to be optimal for noise of bounded variance and a smooth
# function; $\epsilon^{-3.5}$ where the Hessian is Lipschitz, the order in the abstract of Kovalev (2025); and
# $\epsilon^{-3}$ on a quadratic. (The radius of the middle row is not unique on a quadratic: any $\beta$ from $1/3$ to
# $2/3$ will do, and the runs use $2/3$.) With $a_k=1/(k+1)$ the noise term is a mean of $k^{-1/2}$, hence $K^{-1/2}$,
# which no constant $a$ reaches. All constants here are ours.
#
# ## 4. The exponents, measured
#
# Each budget is a run of its own with its own $a$ and $\eta$. The rule: the mean is taken over the second half of the
# run, when the descent from the start has ended; the first budget is dropped; the next term is fitted along; the
# interval is a bootstrap over the seeds. The last two schedules are wrong on purpose: the same steps and averages
# without extrapolation. They must come out slower.

# %%
figure, _ = FIGURES["momentum-rates"]
data = figure.data(SIZE)
with matplotlib.rc_context(PAGE):
    figure.draw(data, plt.figure(figsize=figure.size))
    plt.show()
keys = ["EMA", "IGT", "IGT, a = 1/(k+1)", "EMA on IGT's schedule", "plain average of gradients"]
rates = pd.DataFrame(
    {
        "exponent of theory": data["exponent"],
        "fitted": data["slope"][:, 1],
        "interval": [f"[{low:.3f}, {high:.3f}]" for low, _, high in data["slope"]],
        "local slopes": [", ".join(f"{s:.3f}" for s in row) for row in data["local"]],
        "verdict": data["verdict"],
    },
    index=keys,
)
assert set(rates["verdict"][3:]) == {"slower"}
rates.style.format("{:.3f}", subset=["exponent of theory", "fitted"])

# %% [markdown]
# How to read it. The interval is over seeds: it knows nothing of the bend of a curve that only approaches its power,
# which the local slopes show, most of all for IGT. The fitted next term accounts for most of the bend, at the price of
# a wider interval. *Consistent* is what the interval of this many seeds allows to say, not a proof of the exponent.
# *Slower* for the two controls says that the check can fail.
#
# It has failed. Step size and noise were chosen by looking at runs with these seeds, so a confirmation on other seeds
# and problems, fixed before they were run, is what counts. The first rule took means over all steps and did not pass;
# the one above came after it, with another set of seeds and problems (`benchmarks/confirmations.py`):

# %%
stored = json.loads((ot.reproduce.find_root() / "benchmarks" / "results" / "confirmations.json").read_text())
rows = {}
for part, rule in (("momentum-rates-all-steps", "all steps"), ("momentum-rates", "second half")):
    for name in keys:
        verdicts = [row["verdict"] for row in stored[part]["rows"] if row["schedule"] == name]
        expected = "consistent" if name in SCHEDULES else "slower"
        rows[rule, name] = {"expected": expected, "as expected": verdicts.count(expected), "of": len(verdicts)}
confirmed = pd.DataFrame(rows).T
for rule in ("all steps", "second half"):
    right = confirmed.loc[rule].loc[list(SCHEDULES)]
    misses, runs = int((right["of"] - right["as expected"]).sum()), int(right["of"].sum())
    chance = binom.sf(misses - 1, runs, 0.05)
    print(f"{rule}: {misses} of {runs} intervals miss; 95 % intervals miss as often with probability {chance:.2g}")
confirmed

# %% [markdown]
# ## 5. Where extrapolation ends
#
# $Y_k$ lies $k$ steps ahead when $a_k=1/(k+1)$. On a quadratic that is exact, anywhere else it asks the function about
# a place where it will never be. The same three averages on $\sum\log\cosh X_{ij}$, whose gradient saturates:

# %%
BUDGETS = 125 * 2 ** np.arange(4 if SIZE == "smoke" else 6)
start = 2 * np.random.default_rng(0).standard_normal((6, 6))
choices = {
    "EMA": (False, -1 / 2, -3 / 4, PLAIN),
    "IGT": (True, -4 / 7, -5 / 7, IGT),
    "IGT, $a_k=1/(k+1)$": (True, None, -1 / 2, HARMONIC),
}
found = {}
for name, (extrapolate, share_power, lr_power, _) in choices.items():
    means = []
    for budget in map(int, BUDGETS):
        share = None if share_power is None else budget**share_power
        gradients, _, _ = momentum_run(np.tanh, start, 12 * budget**lr_power, share, budget, extrapolate, seeds=6)
        means.append(np.linalg.svd(gradients, compute_uv=False).sum(axis=-1).mean(axis=0))
    found[name] = np.array(means).T
with matplotlib.rc_context(PAGE):
    fig, ax = plt.subplots(figsize=(4.8, 2.6))
    for name, (*_, color) in choices.items():
        y = found[name]
        ax.fill_between(BUDGETS, y.min(axis=0), y.max(axis=0), color=color, alpha=0.2, lw=0)
        ax.plot(BUDGETS, y.mean(axis=0), "o-", ms=3, color=color)
        ax.annotate(name, (BUDGETS[-1], y[:, -1].mean()), (5, 0), textcoords="offset points", color=color, fontsize=8,
                    va="center", annotation_clip=False)  # fmt: skip
    ax.set(xscale="log", yscale="log", xlabel="budget $K$", ylabel=r"mean of $\|\nabla f(X_k)\|_*$")
    ax.set_xticks(BUDGETS, [f"{b}" for b in BUDGETS])
    ax.tick_params(axis="x", which="minor", bottom=False, labelbottom=False)
    plt.show()
pd.DataFrame(
    {name: {f"K = {k}": v for k, v in zip(BUDGETS, y.mean(axis=0), strict=True)} for name, y in found.items()}
).T.style.format("{:.2f}")

# %% [markdown]
# The plain average stays where it started: its gradients are taken so far out that they say nothing about the place
# where the iterate is. A constant $a$ reaches a bounded number of steps ahead; with the schedule of the bound for a
# Lipschitz Hessian it is ahead of plain momentum here, and gains with the budget. (No exponent is claimed: there is no
# fitted interval.)
#
# ## 6. Momentum without noise: the double root
#
# Without noise momentum is for speed. Heavy ball with Polyak's constants has the rate
# $\rho=\frac{\sqrt\kappa-1}{\sqrt\kappa+1}$, and at both ends of the spectrum a double root, so that the error is
# $\rho^k$ times a polynomial: a fit of a pure exponential to the first steps measures neither.

# %%
theorem = ot.theory.get("heavy-ball-rate")
display(Math(theorem.statement))
for step in theorem.proof():
    display(Math(step))
sentence(derivations.heavy_ball_double_root().markdown())


def double_root(condition=100, steps=80):
    case = quadratic_rates.polyak(problems.log_spectrum(9, float(condition)), int(steps))
    errors, rate, k = quadratic_rates.heavy_ball_errors(case), np.sqrt(case.momentum), np.arange(1, int(steps) + 1)
    with matplotlib.rc_context(PAGE):
        _, ax = plt.subplots(figsize=(5.0, 2.6))
        ax.plot(k, errors[:, 1:-1], color=COLORS["sky"], lw=0.5)
        ax.plot(k, errors[:, np.argmax(case.curvatures)], color=COLORS["vermilion"], lw=1.6)
        ax.plot(k, quadratic_rates.heavy_ball_envelope(case)[:, 0], color=COLORS["black"], **DASHED)
        ax.plot(k, rate**k, color=COLORS["gray"], ls=(0, (1, 2)), lw=1.0)
        ax.annotate(r"$\rho^k$", (k[-1], rate ** k[-1]), (4, 0), textcoords="offset points", color=COLORS["gray"],
                    va="center", fontsize=8)  # fmt: skip
        ax.set(yscale="log", xlabel="step $k$", ylabel="$|x_k|$", xlim=(0, steps))
        ax.set_ylim(rate ** k[-1] / 30, 10)
        ax.set_title(rf"$\kappa={condition}$", fontsize=8, loc="right")
        plt.show()


explore(double_root, condition=lambda: IntSlider(100, min=2, max=2000, description="κ"),
        steps=lambda: IntSlider(80, min=20, max=300, description="steps"))  # fmt: skip

# %% [markdown]
# Orange: the mode of the largest curvature, on the envelope (dashed). Thin: the modes between. Dotted: $\rho^k$ alone.
#
# ## 7. The ledger
#
# The theorems of this notebook on their cases, each with the mistake that its control makes:

# %%
labels = ("trust-region-momentum", "extrapolation-cancels", "extrapolation-bound", "order-matters", "heavy-ball-rate",
          "heavy-ball-variance")  # fmt: skip
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
# * An average trades noise against lag, and the best trade is $K^{-1/4}$; the exponent is not a property of the
#   optimizer but of the schedule, and the wrong schedule is measurably slower.
# * Extrapolation cancels the lag exactly where the Hessian is constant: $K^{-1/3}$ with a constant $a$, $K^{-1/2}$ with
#   a plain average. Elsewhere a far extrapolation does harm.
# * An exponent needs seeds, an interval, local slopes, a control, and a confirmation on seeds that no choice has seen.
#
# Next: `08_when_muon_wins`.
