"""What the papers on polar decompositions and orthonormalized updates say about steps, stability and orthonormality."""

from __future__ import annotations

import functools
from collections.abc import Callable

import numpy as np

from ..arrays import Array
from ..polar.algorithms import ALGORITHMS
from ..polar.newton import NewtonStep, newton_steps
from ..polar.subspace import power_step
from ..polar.svd import exact
from ..polar.zolotarev import Zolotarev, zolotarev, zolotarev_image
from ..problems import orthogonal
from ..theory.contract import Size
from .contract import Claim, Verdict

EPS = float(np.finfo(float).eps)
CONVERGED = 4 * EPS  # within a few roundings of one
STABLE = 8.0  # a backward error is called of rounding size up to this many times n eps


def steps_needed(steps: tuple[NewtonStep, ...], low: float) -> int:
    """Count the steps until a dense set of singular values in [low, 1] is within a few roundings of one."""
    s = np.geomspace(low, 1.0, 4001)
    for count, step in enumerate(steps, start=1):
        s = step(s)
        if np.abs(s - 1).max() <= CONVERGED:
            return count
    raise ArithmeticError(f"{len(steps)} steps do not suffice from {low:g}.")


def at_most_nine(scaled: bool, size: Size) -> Verdict:
    """Judge whether Newton's iteration converges within nine steps for all condition numbers up to 1e16."""
    counts = []
    for low in np.geomspace(1e-16, 0.9, 9 if size == "smoke" else 65).tolist():
        steps = (*newton_steps(low), NewtonStep(1.0)) if scaled else (NewtonStep(1.0),) * 99
        counts.append(steps_needed(steps, low))
    return Verdict(
        "holds" if max(counts) <= 9 else "refuted",
        measured=max(counts),
        expected="9 steps or fewer",
        evidence={"steps at condition 1e16": counts[0], "intervals": len(counts)},
    )


def two_iterations(t: int, size: Size) -> Verdict:
    """Judge whether two Zolotarev steps with t poles bring [1e-16, 1] to within a few roundings of one."""
    low = 1e-16
    first: Zolotarev = zolotarev(t, low)
    second = zolotarev(t, zolotarev_image(first.order, low))
    s = np.geomspace(low, 1.0, 20_001 if size == "smoke" else 400_001)
    error = float(np.abs(second(first(s)) - 1).max())
    return Verdict(
        "holds" if error <= CONVERGED + 8 * EPS else "refuted",  # eight terms of the sum round as well
        measured=error,
        expected="at most 12 eps = 2.7e-15",
        evidence={"order": first.order, "after one step": float(np.abs(first(s) - 1).max())},
    )


def backward_errors(factor: Callable[[Array], Array], size: Size) -> list[tuple[float, float]]:
    """Return (condition, backward error / (n eps)) of computed polar factors P, H the symmetric part of P^T G.

    The error is the largest of |P^T P - I|, |G - P H| / |G| and the negative part of H over |G|, in the spectral norm.
    Up to a condition number of 1e11 and n = 64 no iteration hands a matrix to the SVD.
    """
    rng = np.random.default_rng(0)
    rows = []
    for condition in np.geomspace(1e1, 1e11, 6 if size == "smoke" else 31):
        for n in (6, 24) if size == "smoke" else (6, 24, 64):
            m = n + int(rng.integers(0, n))
            s = condition ** -np.linspace(0, 1, n)
            g = (orthogonal(m, rng)[:, :n] * s) @ orthogonal(n, rng)
            p = factor(g)
            h = p.T @ g
            h = (h + h.T) / 2
            worst = max(
                float(np.linalg.norm(p.T @ p - np.eye(n), 2)),
                float(np.linalg.norm(g - p @ h, 2)),
                -float(np.linalg.eigvalsh(h)[0]),
            )
            rows.append((float(condition), worst / (n * EPS)))
    return rows


def backward_stable(factors: dict[str, Callable[[Array], Array]], size: Size) -> Verdict:
    """Judge whether the backward errors stay at rounding level for all condition numbers."""
    worst = {name: max(error for _, error in backward_errors(factor, size)) for name, factor in factors.items()}
    return Verdict(
        "holds" if max(worst.values()) <= STABLE else "refuted",
        measured=max(worst.values()),
        expected=f"at most {STABLE:g} n eps, whatever the condition number",
        evidence={f"{name}, backward error / (n eps)": value for name, value in worst.items()},
    )


def gram_alone(g: Array) -> Array:
    """Return G (G^T G)^(-1/2) by eigendecomposition, without any safeguard."""
    w, v = np.linalg.eigh(g.T @ g)
    return g @ (v / np.sqrt(np.maximum(w, EPS**2 * w[-1]))) @ v.T


def dion_direction(m: Array, q: Array) -> Array:
    """Return Dion's direction P Q^T after one warm-started step."""
    step = power_step(m, q)
    return step.p @ step.q.T


def orthonormal_direction(m: Array, q: Array) -> Array:
    """Return P polar(R)^T: the same step with the columns orthonormalized instead of normalized."""
    step = power_step(m, q)
    return step.p @ exact(step.r).T


def orthonormal_update(direction: Callable[[Array, Array], Array], size: Size) -> Verdict:
    """Judge whether all nonzero singular values of the direction are one, for warm starts of every quality."""
    rng = np.random.default_rng(0)
    cold: list[float] = []
    warm: list[float] = []
    for _ in range(20 if size == "smoke" else 200):
        m, q = rng.standard_normal((24, 16)), rng.standard_normal((16, 4))
        v = np.linalg.svd(m)[2][:4].T
        for start, spread in ((q, cold), (v, warm)):
            s = np.linalg.svd(direction(m, start), compute_uv=False)[:4]
            spread.append(float(np.abs(s - 1).max()))
    tolerance = 1e3 * EPS
    always, sometimes = max(cold) <= tolerance, max(warm) <= tolerance
    return Verdict(
        "holds" if always and sometimes else "holds_if" if sometimes else "refuted",
        measured=max(cold),
        expected="all nonzero singular values 1, to rounding",
        evidence={
            "largest deviation, random warm start": max(cold),
            "median deviation, random warm start": float(np.median(cold)),
            "largest deviation, warm start at the singular vectors": max(warm),
        },
        condition="" if always else "the warm start consists of singular vectors: columns are only normalized",
    )


CLAIMS = (
    Claim(
        "newton-nine-iterations", "byers2008new",
        "Newton's iteration with their scaling converges to about 1e-16 in at most nine steps for every condition "
        "number up to 1e16.",
        functools.partial(at_most_nine, True), functools.partial(at_most_nine, False),
        "Newton's iteration without scaling", "refuted",
    ),
    Claim(
        "zolotarev-two-iterations", "nakatsukasa2016computing",
        "With Zolotarev's functions of order 17 the polar decomposition converges in two iterations in double "
        "precision.",
        functools.partial(two_iterations, 8), functools.partial(two_iterations, 7),
        "order 15", "refuted",
    ),
    Claim(
        "newton-qdwh-backward-stable", "nakatsukasa2016computing, abstract",
        "Scaled Newton and QDWH compute the polar decomposition in a backward stable way.",
        functools.partial(backward_stable, {name: ALGORITHMS[name] for name in ("newton", "newton-higham", "qdwh")}),
        functools.partial(backward_stable, {"Gram eigendecomposition": gram_alone}),
        "G (G^T G)^(-1/2) by eigendecomposition of the Gram matrix", "refuted",
    ),
    Claim(
        "dion-orthonormal-update", "ahn2025dion, title and the authors' code",
        "Dion's update, one warm-started power step with normalized columns, is orthonormalized: its nonzero singular "
        "values are one.",
        functools.partial(orthonormal_update, dion_direction),
        functools.partial(orthonormal_update, orthonormal_direction),
        "the same step with its columns orthonormalized", "holds",
    ),
)  # fmt: skip
