"""When a spectral step of fixed radius wins and when it loses, with the theorems that say so.

Two kinds of evidence, both with every rate tuned on seeds that are not reported: `REGIMES`, problems raced under the
protocol of `comparison`, and the plane of condition number and budget, where the aligned half has a closed form.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from . import norms, problems
from .arrays import generator
from .comparison import FLOOR, PAPER, Protocol, Task, compare
from .loop import run
from .methods import GradientDescent, TrustRegion
from .problems import KroneckerQuadratic, log_spectrum
from .theory.contract import Size
from .theory.cycle import staircase

SPECTRAL, FROBENIUS = norms.Spectral(), norms.Frobenius()
SPECTRAL_STEP = "trust-region"
RIVALS = ("gd", "heavy-ball", "normalized-gd", "sign")
SMOKE = Protocol(per_decade=2, extensions=1, tuning_seeds=2, seeds=5)


class Regime(NamedTuple):
    """A problem, and what is predicted of the spectral step against gradient descent: "wins", "loses" or "open".

    `predicted_by` are labels of theorems (all about constant rates, as here); "open" is measured only. Strong noise: a
    spectral step of radius lr acts like gradient descent of rate lr E|Z|_* / (mn sigma), so that at equal speed the
    floor of theorem `spectral-noise-floor` is r m n / (E|Z|_*)^2 > 1 times that of `heavy-ball-variance` with b = 0.
    """

    task: Task
    predicted: str
    predicted_by: tuple[str, ...] = ()


def _quadratic(condition: float, noise: str = "", **options: Any) -> dict[str, Any]:
    extra = {"noise": {"name": noise, **options}} if noise else {}
    return {"name": "quadratic", "rows": 8, "columns": 8, "left_condition": condition, **extra}


CONDITION_FREE = ("spectral-condition-free", "gradient-modes")
REGIMES = (
    Regime(Task("aligned error, $\\kappa=10^3$", _quadratic(1e3), "commuting"), "wins", CONDITION_FREE),
    Regime(Task("flat error, $\\kappa=10^3$", _quadratic(1e3), "flat"), "wins", CONDITION_FREE),
    Regime(Task("generic error, $\\kappa=10^3$", _quadratic(1e3)), "open"),
    Regime(Task("noise of rank one", _quadratic(100.0, "low-rank", sigma=0.3), "commuting"), "open"),
    Regime(
        Task("noise without variance", _quadratic(100.0, "heavy-tailed", sigma=0.03, freedom=1.5), "commuting"), "open"
    ),
    Regime(
        Task("long budget, $\\kappa=30$", _quadratic(30.0), "commuting", 600, 6),
        "loses",
        ("spectral-cycle-commuting", "gradient-modes"),
    ),
    Regime(Task("flat curvature", _quadratic(1.0)), "loses", ("one-step-duality", "spectral-cycle-commuting")),
    Regime(Task("error of rank one, $\\kappa=10^2$", _quadratic(100.0), "low-rank"), "loses", ("low-rank-error",)),
    Regime(
        Task("weak noise, $\\kappa=3$", _quadratic(3.0, "gaussian", sigma=0.01)),
        "loses",
        ("heavy-ball-variance", "spectral-cycle-commuting"),
    ),
    Regime(
        Task("strong noise, $\\kappa=3$", _quadratic(3.0, "gaussian", sigma=1.0)),
        "loses",
        ("heavy-ball-variance", "spectral-noise-floor"),
    ),
    Regime(Task("vector (star-convex)", {"name": "star-convex"}), "open"),
)


class Ratio(NamedTuple):
    """log10 of the spectral step's loss over a rival's, paired by seed: mean and half-width of its 95 % interval."""

    mean: np.ndarray
    half_width: np.ndarray

    @property
    def side(self) -> np.ndarray:
        """-1 where the spectral step wins, 1 where it loses, 0 where the interval contains 0."""
        return np.where(np.abs(self.mean) > self.half_width, np.sign(self.mean), 0.0)


def paired(spectral: np.ndarray, rival: np.ndarray, level: float = 0.95) -> Ratio:
    """Compare losses over the same seeds, the last axis; a run that diverged (infinite) counts as a loss of 1."""
    from scipy.special import stdtrit

    log_spectral, log_rival = (np.log10(np.clip(x, FLOOR, 1.0)) for x in (spectral, rival))
    difference = log_spectral - log_rival
    seeds = difference.shape[-1]
    if seeds < 2:
        raise ValueError(f"An interval over seeds needs at least two of them; got {seeds}.")
    width = stdtrit(seeds - 1, (1 + level) / 2) * difference.std(axis=-1, ddof=1) / np.sqrt(seeds)
    return Ratio(difference.mean(axis=-1), width)


def race(regime: Regime, size: Size = "smoke", rivals: Sequence[str] = RIVALS) -> Ratio:
    """Race the spectral step against each rival on one regime; the ratio has shape (rivals)."""
    protocol = PAPER if size == "paper" else SMOKE
    finals = [compare(name, regime.task, protocol).final["budget"] for name in (SPECTRAL_STEP, *rivals)]
    return paired(finals[0], np.array(finals[1:]))


class Plane(NamedTuple):
    """Ratios to gradient descent over condition numbers (axis 0) and budgets (axis 1), measured and predicted.

    `predicted` is NaN where no closed form is known (a generic error).
    """

    conditions: np.ndarray
    budgets: np.ndarray
    measured: Ratio
    predicted: np.ndarray


RANK = 6


def plane(size: Size = "smoke", error: str = "commuting") -> Plane:
    """Tune both methods in every cell of the plane and compare them on fresh seeds.

    Errors are "commuting" (aligned) or "generic", with singular values of order 1; rates are `rate_grid`. A cell is
    judged by the mean gap of the last fifth of the run. Where the error commutes, the same rates and seeds go through
    the closed forms of theorems `gradient-modes` and `spectral-cycle-commuting`.
    """
    paper = size == "paper"
    conditions, budgets = np.logspace(0, 3, 7 if paper else 4), 2 ** np.arange(3, 9 if paper else 7)
    choosing, fresh = (range(4), 12) if paper else (range(2), 4)
    shape = len(conditions), len(budgets)
    mean, half, predicted = np.full((3, *shape), np.nan)
    for i, condition in enumerate(conditions):
        problem, draw = _cell(float(condition), error)
        for j, budget in enumerate(int(b) for b in budgets):
            seeds = range(len(choosing), len(choosing) + fresh)
            finals, formulas = [], []
            for kind in ("spectral", "gradient"):
                rates = rate_grid(kind, problem, budget)
                tuned = np.log10(final_gap(kind, problem, draw(choosing), rates, budget)).mean(axis=1)
                best = rates[np.argmin(tuned)][None]
                finals.append(final_gap(kind, problem, draw(seeds), best, budget)[0])
                if error == "commuting":
                    formulas.append(closed_form(kind, problem, draw(seeds), best, budget)[0])
            ratio = paired(finals[0], finals[1])
            mean[i, j], half[i, j] = float(ratio.mean), float(ratio.half_width)
            if formulas:
                predicted[i, j] = float(paired(formulas[0], formulas[1]).mean)
    return Plane(conditions, budgets, Ratio(mean, half), predicted)


def _cell(condition: float, error: str):
    """Return f = tr(E^T A E) / 2 around 0 and a function that draws first errors for seeds, (seeds, m, m)."""
    basis = problems.orthogonal(RANK, generator(1000))
    a = (basis * log_spectrum(RANK, condition)) @ basis.T
    zero = np.zeros((RANK, RANK))
    problem = KroneckerQuadratic((a + a.T) / 2, np.eye(RANK), zero, zero)

    def draw(seeds: Sequence[int]) -> np.ndarray:
        out = []
        for seed in seeds:
            rng = generator(seed)
            if error == "generic":
                out.append(rng.standard_normal((RANK, RANK)) / np.sqrt(RANK))
            else:
                out.append((basis * rng.uniform(0.3, 1.0, RANK)) @ problems.orthogonal(RANK, rng).T)
        return np.array(out)

    return problem, draw


def rate_grid(kind: str, problem: KroneckerQuadratic, budget: int, points: int = 12) -> np.ndarray:
    """Return rates up to 1.95 / L for gradients; radii around 1 / budget, the least that arrives, for polar steps."""
    if kind == "gradient":
        return np.geomspace(0.2, 1.95, points) / float(problem.smoothness(FROBENIUS))
    return np.geomspace(0.3, 12.0, points) / budget


def final_gap(kind: str, problem: KroneckerQuadratic, errors: np.ndarray, rates: np.ndarray, budget: int) -> np.ndarray:
    """Run a method from every error at every rate; return the relative gap of the last fifth, (rates, seeds)."""
    start = np.broadcast_to(errors, (len(rates), *errors.shape))
    lr = np.broadcast_to(rates[:, None], start.shape[:2])
    method: Any = GradientDescent(lr=lr) if kind == "gradient" else TrustRegion(SPECTRAL, lr=lr)
    return _last_fifth(run(problem, method, budget, record=("gap",), start=start)["gap"])


def closed_form(
    kind: str, problem: KroneckerQuadratic, errors: np.ndarray, rates: np.ndarray, budget: int
) -> np.ndarray:
    """Return the same number from the modes s_i alone: (1 - lr h_i)^k s_i, or the staircase down to a 2-cycle."""
    h, u = np.linalg.eigh(problem.form.a)
    s = np.linalg.norm(np.swapaxes(errors, -1, -2) @ u, axis=-2)  # (seeds, r): |E^T u_i|, as B = I
    s = np.broadcast_to(s, (len(rates), *s.shape))
    lr: Any = rates[:, None, None]
    if kind == "gradient":
        modes = s * (1 - lr * h) ** np.arange(budget + 1)[:, None, None, None]
    else:
        modes = staircase(s, lr, budget)
    return _last_fifth(np.sum(h * modes**2, axis=-1) / 2)


def _last_fifth(gaps: np.ndarray) -> np.ndarray:
    relative = gaps / gaps[0]
    return np.maximum(relative[-max(1, (len(gaps) - 1) // 5) :].mean(axis=0), FLOOR)
