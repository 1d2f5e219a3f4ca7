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
# # The zoo: every method on equal terms
#
# The package holds the optimizers of the literature around Muon, each as its own paper or code has it. This notebook
# shows what is in the table, what one step of each costs, what each does to an ill-conditioned gradient, and how they
# compare when every one of them is tuned by the same rule and judged on seeds that no choice has seen.
#
# Every number below is printed by the cell above it. `ORTHOTHEORY_SIZE` is `smoke` (default) or `paper`.

# %%
import dataclasses
import os

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from IPython.display import Markdown, display

import orthotheory as ot
from orthotheory import comparison
from orthotheory.comparison import PAPER, TASKS, compare, cost, participants, standing, update_conditions
from orthotheory.plotting import COLORS

# %matplotlib inline

SIZE = os.environ.get("ORTHOTHEORY_SIZE", "smoke")
if SIZE not in ("smoke", "paper"):
    raise ValueError(f"ORTHOTHEORY_SIZE is smoke or paper; got {SIZE!r}.")
PAGE = ot.plotting.STYLE | {"figure.dpi": 140}
PROTOCOL = dataclasses.replace(PAPER, tuning_seeds=3, seeds=8) if SIZE == "smoke" else PAPER


def sentence(text):
    display(Markdown(text))


# %% [markdown]
# ## 1. Who takes part, and what a step costs
#
# A method takes part with a constant learning rate, without weight decay and with every other hyper-parameter at its
# default. What cannot be run like this is left out with its reason. Costs are *counted* on a $32\times32$ matrix,
# over the first twenty steps: matrix products, factorizations (SVD, QR, eigendecomposition, solves), and both in units
# of one product.

# %%
names, left_out = participants()
costs = pd.DataFrame(
    [
        {"method": name, "status": ot.methods.TABLE[name].method.card.status, **dataclasses.asdict(cost(name))}
        for name in names
    ]
).set_index("method")
sentence(f"{len(names)} methods take part, {len(left_out)} are left out.")
for reason in left_out.values():
    sentence(f"* {reason}")
costs.sort_values("total").round(2)

# %% [markdown]
# ## 2. What the update does to a gradient
#
# Twenty steps along one constant gradient of condition number $10^3$: the momentum is then the gradient, and the
# condition number of the update is the work of the method. Signs and other entrywise maps have no reason to respect
# singular values; a scalar factor keeps them all.

# %%
conditions = pd.Series({name: np.median(update_conditions(name, seeds=5)) for name in names}).sort_values()
display(conditions.to_frame("condition number of the update").T)
kept = conditions[np.isclose(conditions, 1e3, rtol=1e-3)]
below = (conditions < 2).sum()
sentence(f"Of {len(conditions)} methods, {below} bring it below 2; it is kept by {', '.join(kept.index)}.")

# %% [markdown]
# ## 3. The rule
#
# For each method and problem: rates $10^{j/3}$ from $10^{-3}$ to $10$, all rates and tuning seeds in one batch. While
# the best rate lies at the edge, the grid grows on that side. The chosen rate then runs on fresh seeds, which alone
# are reported. Two questions are asked: which loss after an equal *budget*, and how many steps to an equal
# *stationary* loss, a level at or below which the run then stays. They choose different rates.

# %%
SHOWN = {
    "gd": "black", "nesterov": "gray", "adam": "green", "lion": "purple",
    "muon": "vermilion", "polargrad": "orange", "auon": "blue", "namo": "sky",
}  # fmt: skip
tasks = {task.label: task for task in TASKS}
task = tasks["two-sided"]
outcomes = {name: compare(name, task, PROTOCOL) for name in SHOWN}
with plt.rc_context(PAGE):
    fig, ax = plt.subplots(figsize=(6.5, 3))
    for name, color in SHOWN.items():
        o = outcomes[name]
        ax.plot(o.rates, np.where(np.isfinite(o.tuned), o.tuned, np.nan), color=COLORS[color], marker=".", label=name)
        ax.plot(o.chosen["budget"], o.tuned.min(), "o", color=COLORS[color], ms=6)
    lowest = min(np.nanmin(outcomes[name].tuned) for name in SHOWN)
    ax.set(xscale="log", yscale="log", ylim=(lowest / 4, 3), xlabel="learning rate", ylabel="final loss / first loss")
    ax.legend(loc="center left", bbox_to_anchor=(1, 0.5))
    plt.show()

# %% [markdown]
# The same outcomes as a table, with the diverged rates as rows that say why.

# %%
rows = comparison.table(outcomes.values())
lost = rows[(rows["phase"] == "tuning") & (rows["diverged"] > 0)]
sentence(f"{len(lost)} of {(rows['phase'] == 'tuning').sum()} rates lost at least one tuning seed.")
lost[["method", "lr", "diverged", "reason"]].head(8)

# %% [markdown]
# ## 4. Who is ahead, and is the difference real?
#
# All methods meet the same starts and the same noise, so that differences are paired. A method is *tied* with the best
# of the column where the interval of the mean difference, at a level shared among the methods, contains zero.

# %%
PICKED = ("two-sided", "low-rank error", "flat error", "much noise")
columns, faster = {}, {}
for label in PICKED:
    found = {name: compare(name, tasks[label], PROTOCOL) for name in SHOWN}
    s = standing(np.array([o.final["budget"] for o in found.values()]))
    columns[label] = [
        f"{m:.2f} ± {h:.2f}{' *' if t else ''}" for m, h, t in zip(s.mean, s.half_width, s.tied, strict=True)
    ]
    faster[label] = [np.median(o.steps_to_level["level"]) for o in found.values()]
sentence("Final loss, log10 of its first value, mean ± half of the 95% interval; * tied with the best:")
display(pd.DataFrame(columns, index=list(SHOWN)))
sentence("Median steps until the loss stays at the level of the problem (inf: never within the budget):")
display(pd.DataFrame(faster, index=list(SHOWN)))

# %% [markdown]
# ## 5. The budget decides
#
# PolarGrad's step shrinks with the gradient, Muon's does not: at a constant rate Muon has a floor. Whether that
# matters depends on how long the run is. The momentum of both averages over twenty steps, and Adam's over ten, which
# a short run pays for.

# %%
budgets = (50, 100, 300) if SIZE == "smoke" else (50, 100, 300, 1000)
names_here = ("polargrad", "muon", "adam", "nesterov")
reached = {
    steps: [
        np.log10(compare(name, dataclasses.replace(task, steps=steps, every=steps // 25), PROTOCOL).final["budget"])
        for name in names_here
    ]
    for steps in budgets
}
with plt.rc_context(PAGE):
    fig, ax = plt.subplots(figsize=(4.6, 2.8))
    for i, name in enumerate(names_here):
        logs = np.array([reached[steps][i] for steps in budgets])
        color = COLORS[SHOWN[name]]
        ax.fill_between(budgets, 10 ** logs.min(axis=1), 10 ** logs.max(axis=1), color=color, alpha=0.2, lw=0)
        ax.plot(budgets, 10 ** logs.mean(axis=1), color=color, marker="o", ms=3, label=name)
    ax.set(xscale="log", yscale="log", xlabel="budget in steps, rate tuned to it", ylabel="final loss / first loss")
    ax.set_xticks(budgets, [f"{steps}" for steps in budgets])
    ax.tick_params(axis="x", which="minor", bottom=False, labelbottom=False)
    ax.legend(loc="center left", bbox_to_anchor=(1, 0.5))
    plt.show()

# %% [markdown]
# ## 6. What the literature says of it
#
# Three comparative statements that can be judged at this size, each with the same check on another subject, which
# must come out otherwise.

# %%
for claim in ot.claims.zoo.CLAIMS:
    row = ot.claims.ledger_row(claim, "smoke")
    condition = f" ({row['condition']})" if row["condition"] else ""
    sentence(
        f"**`{row['label']}`** ({row['source']}). {row['statement']} Verdict: **{row['verdict']}**{condition}. "
        f"Control, {row['control']['subject']}: {row['control']['verdict']}."
    )

# %% [markdown]
# What this does not say: the problems are small and the runs short, momentum and the other hyper-parameters stay at
# defaults that were chosen for large networks, and a method that loses here may win there. It says who is ahead under a
# rule that is the same for all and can be run again.
