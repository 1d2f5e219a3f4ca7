"""AuON [maity2025auon]: what its scalar does to a momentum matrix.

The sentences about a spectral-norm trust region, about O(n^2) for Newton-Schulz and about one Newton-Schulz step
stand in versions 1 and 2 of the paper; versions 3 and 4 (from December 2025) dropped them and call Muon cubic.
"Linear time" and "reconditions ill-posed updates" stand in all versions.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable

import numpy as np

from ..arrays import Array
from ..methods.auon import auon_direction, cosh_rms, hybrid_auon_direction, unit_frobenius
from ..norms import Spectral
from ..polar import MUON_QUINTIC, newton_schulz, polar_factor
from ..polar.schedule import critical_points
from ..problems import orthogonal
from ..theory import fit_exponent
from ..theory.contract import Size
from .contract import Claim, Verdict

Update = Callable[[Array], Array]
RECONDITIONS_BELOW = 0.5  # the claim needs at least a halved condition number, on every matrix
BALL_TOLERANCE = 1e-12  # rounding of a spectral norm near 1


def ill_conditioned_matrices(count: int, seed: int = 0) -> list[np.ndarray]:
    """Return momentum matrices of several shapes with condition numbers from 1e1 to 1e6."""
    rng = np.random.default_rng(seed)
    matrices = []
    for _ in range(count):
        m, n = (int(k) for k in rng.integers(2, 25, size=2))
        r = min(m, n)
        condition = 10 ** rng.uniform(1, 6)
        s = condition ** -np.sort(np.concatenate([[0.0, 1.0], rng.uniform(size=max(0, r - 2))])[:r])
        u, v = orthogonal(m, rng)[:, :r], orthogonal(n, rng)[:, :r]
        matrices.append(10 ** rng.uniform(-3, 3) * (u * s) @ v.T)
    return matrices


def condition_number(x: np.ndarray) -> float:
    """Return s_1 / s_r with r = min(m, n)."""
    s = np.linalg.svd(x, compute_uv=False)
    return float(s[0] / s[-1])


def reconditions(update: Update, size: Size) -> Verdict:
    """Judge whether an update map lowers the condition number of every hard momentum matrix."""
    matrices = ill_conditioned_matrices(100 if size == "smoke" else 1000)
    before = np.array([condition_number(g) for g in matrices])
    after = np.array([condition_number(update(g)) for g in matrices])
    ratio = after / before
    change = float(np.max(np.abs(ratio - 1) / (before * np.finfo(float).eps)))
    return Verdict(
        "holds" if ratio.max() < RECONDITIONS_BELOW else "refuted",
        measured=float(np.median(ratio)),
        expected=f"condition number after / before below {RECONDITIONS_BELOW} on every matrix",
        evidence={
            "matrices": len(matrices),
            "smallest ratio": float(ratio.min()),
            "largest ratio": float(ratio.max()),
            "largest condition number": float(before.max()),
            "largest change in units of rounding": change,
        },
    )


def stays_in_unit_ball(update: Update, size: Size) -> Verdict:
    """Judge whether an update map has spectral norm at most 1, by random search and a built adversary."""
    rng = np.random.default_rng(1)
    largest, spectral = 0.0, Spectral()
    candidates = ill_conditioned_matrices(100 if size == "smoke" else 1000, seed=1)
    side = 64 if size == "smoke" else 256
    for scale in (1e-2, 1.0, 100.0):
        candidates.append(scale * rng.standard_normal((side, side)))
        candidates.append(scale * np.outer(rng.standard_normal(side), rng.standard_normal(side)))
    candidates += [peak_matrix(side, power) for power in (1, 2, 3)]
    for g in candidates:
        largest = max(largest, float(spectral.value(update(g))))
    return Verdict(
        "holds" if largest <= 1 + BALL_TOLERANCE else "refuted",
        measured=largest,
        expected="spectral norm of the update at most 1",
        evidence={"matrices": len(candidates), "adversary side": side},
    )


def peak_matrix(side: int, tail: int = 1) -> np.ndarray:
    """Return a diagonal matrix of unit Frobenius norm whose largest singular value Muon's quintic sends to its peak.

    s_1 = 0.5545 is the maximizer of the polynomial; the rest is spread evenly over a share 1 / `tail` of the others.
    """
    peak = critical_points(MUON_QUINTIC.coefficients[0])[0]
    others = max(1, (side - 1) // tail)
    s = np.zeros(side)
    s[0] = peak
    s[1 : 1 + others] = math.sqrt((1 - peak**2) / others)
    return np.diag(s)


def highest_quintic_value() -> float:
    """Return sup of Muon's quintic on [0, 1], the spectral norm that its iterates can reach."""
    return MUON_QUINTIC.image(0.0, 1.0)[1]


def cosh_factor_bounds(gamma_of_bound: float, size: Size) -> Verdict:
    """Judge cosh(gamma / sqrt N) <= rho <= sqrt(1 + sinh(gamma)^2 / N) at gamma = 1, and rho - 1 of order 1 / N."""
    rng = np.random.default_rng(2)
    gamma, sides = 1.0, [2, 4, 8, 16, 32, 64] + ([] if size == "smoke" else [128, 256])
    runs, worst, widest = 5, -math.inf, 0.0
    excess = np.empty((runs, len(sides)))
    for j, side in enumerate(sides):
        count = side * side
        low = math.cosh(gamma_of_bound / math.sqrt(count))
        high = math.sqrt(1 + math.sinh(gamma_of_bound) ** 2 / count)
        spike = np.zeros((side, side))
        spike[0, 0] = 1.0
        flat = np.full((side, side), 1 / side)
        draws = [rng.standard_normal((side, side)) ** 3 for _ in range(runs)]
        values = [
            float(cosh_rms(unit_frobenius(x) if x is not spike else x, gamma)[0, 0]) for x in [spike, flat, *draws]
        ]
        # unit_frobenius adds 1e-7 to the norm: rho then falls short by at most 2e-7 of rho - 1
        slack = 3e-7 * (high - 1) + 4 * np.finfo(float).eps
        worst = max(worst, *(low - v - slack for v in values), *(v - high - slack for v in values))
        widest = max(widest, (high - low) * count)
        excess[:, j] = np.array(values[2:]) - 1
    fit = fit_exponent(np.array(sides[-3:], dtype=float) ** 2, excess[:, -3:])  # the tail: an asymptotic statement
    order_one_over_n = fit.low >= -1.02 and fit.high <= -0.98
    return Verdict(
        "holds" if worst <= 0 and order_one_over_n else "refuted",
        measured=fit.slope,
        expected="exponent -1 in the number of entries, and no violation of the bounds",
        evidence={
            "largest violation": float(worst),
            "exponent low": fit.low,
            "exponent high": fit.high,
            "largest N times width of the bounds": widest,
            "excess at 512 x 512, lower": math.cosh(1 / 512) - 1,
            "excess at 512 x 512, upper": math.sqrt(1 + math.sinh(1) ** 2 / 512**2) - 1,
        },
    )


_paper = functools.partial(auon_direction, variant="paper")
_package = functools.partial(auon_direction, variant="package")


def _hybrid_classical(g: Array) -> Array:
    x = newton_schulz(1, 3).apply(g)
    return x / (cosh_rms(x) ** 2 + 1e-8)


CLAIMS = (
    Claim(
        "auon-reconditions", "maity2025auon",
        "AuON reconditions ill-posed updates.",
        functools.partial(reconditions, _paper),
        functools.partial(reconditions, polar_factor),
        "the polar factor, Muon's exact update", "holds",
    ),
    Claim(
        "auon-unit-ball-paper", "maity2025auon, versions 1 and 2",
        "The update of AuON, as the paper writes it, lies in the unit spectral ball.",
        functools.partial(stays_in_unit_ball, _paper),
        functools.partial(stays_in_unit_ball, _package),
        "the package's form", "refuted",
    ),
    Claim(
        "auon-unit-ball-package", "maity2025auon, the public package",
        "The update of AuON, as the package computes it, lies in the unit spectral ball.",
        functools.partial(stays_in_unit_ball, _package),
        functools.partial(stays_in_unit_ball, _paper),
        "the paper's form", "holds",
    ),
    Claim(
        "hybrid-auon-unit-ball", "maity2025auon",
        "The update of Hybrid-AuON lies in the unit spectral ball.",
        functools.partial(stays_in_unit_ball, hybrid_auon_direction),
        functools.partial(stays_in_unit_ball, _hybrid_classical),
        "Hybrid-AuON with the classical cubic in place of Muon's quintic", "holds",
    ),
    Claim(
        "auon-cosh-factor", "ours, on maity2025auon",
        "AuON's scalar is 1 + O(1/N) for N entries, within explicit bounds.",
        functools.partial(cosh_factor_bounds, 1.0),
        functools.partial(cosh_factor_bounds, 0.9),
        "the bounds with gamma = 0.9 in place of 1", "refuted",
    ),
)  # fmt: skip
