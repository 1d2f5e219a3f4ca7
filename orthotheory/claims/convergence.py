"""Convergence at a constant step: Muon hovers at a floor, nuclear scaling removes it."""

from __future__ import annotations

import functools
from collections.abc import Callable

import numpy as np

from ..loop import run
from ..methods import Method, Muon, PolarGrad
from ..norms import Spectral
from ..problems import KroneckerQuadratic, quadratic
from ..theory import fit_exponent
from ..theory.contract import Size
from .contract import Claim, Verdict

CONVERGED = 1e-10  # of the first gap
EXPECTED = "the gap falls ten orders of magnitude for every constant step"


STEP_SIZES = np.array([0.08, 0.04, 0.02, 0.01])


def final_gaps(method_for: Callable[[np.ndarray, KroneckerQuadratic], Method], size: Size) -> np.ndarray:
    """Return the mean gap over the last tenth of a run relative to the first gap, shape (seeds, step sizes)."""
    steps = 1500 if size == "smoke" else 3000
    gaps = []
    for seed in range(4 if size == "smoke" else 12):
        problem = quadratic(rows=6, columns=4, left_condition=4.0, right_condition=2.0, alignment="generic", seed=seed)
        gap = run(problem, method_for(STEP_SIZES, problem), steps, record=("gap",))["gap"]
        gaps.append(gap[-steps // 10 :].mean(axis=0) / gap[0])
    return np.array(gaps)


def converges_at_constant_step(method_for, size: Size) -> Verdict:
    """Judge whether the gap falls to 1e-10 of its first value for every constant step size and seed."""
    gaps = final_gaps(method_for, size)
    worst = float(gaps.max())
    if worst <= CONVERGED:
        return Verdict("holds", worst, EXPECTED, {"runs": gaps.size})
    fit = fit_exponent(STEP_SIZES, gaps)
    return Verdict(
        "refuted", worst, EXPECTED,
        {
            "runs": gaps.size, "smallest relative gap": float(gaps.min()), "exponent of the floor in lr": fit.slope,
            "exponent low": fit.low, "exponent high": fit.high,
        },
    )  # fmt: skip


def _muon(lr: np.ndarray, problem: KroneckerQuadratic) -> Method:
    return Muon(lr=lr, plan="exact", shape_factor="none")


def _polargrad(lr: np.ndarray, problem: KroneckerQuadratic) -> Method:
    # The same four step sizes, as shares of the largest stable one.
    return PolarGrad(lr=lr / STEP_SIZES[0] / float(problem.smoothness(Spectral())), momentum=0.0)


CLAIMS = (
    Claim(
        "muon-constant-step-converges", "folklore, against lau2025polargrad",
        "Muon with a constant learning rate converges to the minimizer of a deterministic quadratic.",
        functools.partial(converges_at_constant_step, _muon),
        functools.partial(converges_at_constant_step, _polargrad),
        "PolarGrad without momentum: the same direction scaled by the nuclear norm", "holds",
    ),
)  # fmt: skip
