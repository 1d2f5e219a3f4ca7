"""Lion and the constrained problem [chen2023lion]: what "Lion secretly solves constrained optimization" means."""

from __future__ import annotations

import functools
from collections.abc import Callable

import numpy as np

from ..loop import run
from ..methods import Lion, Method, SignDescent
from ..problems import Constrained, projection
from ..theory import fit_exponent
from ..theory.contract import Size
from .contract import Claim, Verdict

RATES = np.array([0.02, 0.01, 0.005, 0.0025])
SOLVED = 0.05  # of the first Frank-Wolfe gap, at the smallest rate
CONDITION = (
    "lambda > 0, a KKT point (the minimizer where f is convex), "
    "and up to O(lr) at a fixed step where K has a kink there"
)


def final_gaps(method_for: Callable[[Constrained], Method], size: Size) -> np.ndarray:
    """Return the mean Frank-Wolfe gap over the last tenth of a run, relative to the first, shape (seeds, rates)."""
    steps = 3000 if size == "smoke" else 6000
    gaps = []
    for seed in range(4 if size == "smoke" else 12):
        problem = projection(ball="max-entry", radius=0.7, rows=4, columns=3, seed=seed)
        record = {"gap": lambda t: t.problem.gap(t.w)}
        gap = run(problem, method_for(problem), steps, record=record, every=10)["gap"]
        gaps.append(np.abs(gap[-len(gap) // 10 :]).mean(axis=0) / gap[0])
    return np.array(gaps)


def solves_the_constrained_problem(method_for, size: Size) -> Verdict:
    """Judge whether the Frank-Wolfe gap of min f over the box of radius 1 / lambda vanishes with the step size."""
    gaps = final_gaps(method_for, size)
    fit = fit_exponent(RATES, gaps)
    worst = float(gaps[:, -1].max())
    vanishes = worst <= SOLVED and fit.low >= 0.8
    return Verdict(
        "holds_if" if vanishes else "refuted",
        measured=fit.slope,
        expected="a gap that vanishes in proportion to the step size",
        evidence={
            "runs": gaps.size,
            "relative gap at the smallest rate": worst,
            "relative gap at the largest rate": float(gaps[:, 0].max()),
            "exponent low": fit.low,
            "exponent high": fit.high,
        },
        condition=CONDITION if vanishes else "",
    )


def _lion(problem: Constrained) -> Method:
    return Lion(lr=RATES, weight_decay=1 / problem.radius)


def _sign_without_decay(problem: Constrained) -> Method:
    return SignDescent(lr=RATES)


CLAIMS = (
    Claim(
        "lion-solves-constrained", "chen2023lion",
        "Lion with weight decay minimizes f over the box of radius 1 / weight decay.",
        functools.partial(solves_the_constrained_problem, _lion),
        functools.partial(solves_the_constrained_problem, _sign_without_decay),
        "sign descent without weight decay", "refuted",
    ),
)  # fmt: skip
