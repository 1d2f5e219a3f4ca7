"""Claims on preconditioners and subspaces: MKOR, PSGD, M-FAC, GaLore, Online Subspace Descent, FRUGAL, Trion."""

from __future__ import annotations

import functools
from collections.abc import Callable

import numpy as np

from ..loop import run
from ..methods import FRUGAL, MFAC, PSGD, GaLore, Method, OnlineSubspaceDescent
from ..methods.dct import best_columns, dct_matrix
from ..methods.mkor import rank_one_inverse
from ..problems import orthogonal, quadratic
from ..theory.contract import Size
from .contract import Claim, Verdict

NEVER = 10**9  # a period that no run reaches


def ema_inverse(j: np.ndarray, v: np.ndarray) -> np.ndarray:
    """Return the inverse of 0.95 J^-1 + 0.05 v v^T, by Sherman and Morrison.

    A skew part of rounding would grow by 1 / 0.95 a step, hence the symmetric part alone.
    """
    p = j / 0.95
    updated = p - 0.05 * (p @ v) @ (p @ v).T / (1 + 0.05 * float((v.T @ p @ v)[0, 0]))
    return (updated + updated.T) / 2


def inverts_the_average(update: Callable, size: Size) -> Verdict:
    """Judge whether an update of J keeps the inverse of the average F <- 0.95 F + 0.05 v v^T, both from I."""
    rng, k = np.random.default_rng(0), 6
    j, f = np.eye(k), np.eye(k)
    for _ in range(50 if size == "smoke" else 1000):
        v = rng.standard_normal((k, 1))
        j, f = update(j, v), 0.95 * f + 0.05 * v @ v.T
    distance = float(np.linalg.norm(j @ f - np.eye(k)))
    own, other = np.linalg.eigvalsh((j + j.T) / 2), 1 / np.linalg.eigvalsh(f)
    return Verdict(
        "holds" if distance < 1e-9 else "refuted",
        measured=distance,
        expected="|J F - I|_F at rounding level",
        evidence={
            "least eigenvalue of J": float(own[0]), "largest eigenvalue of J": float(own[-1]),
            "least eigenvalue of the inverse": float(other.min()),
            "largest eigenvalue of the inverse": float(other.max()),
        },
    )  # fmt: skip


def psgd_limit(signed: bool, size: Size) -> Verdict:
    """Judge whether P of the triangular PSGD tends to |H|^-1 (or H^-1), H indefinite with condition 10."""
    rng = np.random.default_rng(1)
    q = orthogonal(3, rng)
    values = np.array([0.3, -1.0, 3.0])
    h, inverse = (q * values) @ q.T, (q / (values if signed else np.abs(values))) @ q.T
    w = np.zeros((3, 1))
    state, average, phases = None, np.zeros((3, 3)), (0.5, 0.1, 0.02)
    steps = 3000 if size == "smoke" else 10_000
    for step in phases:
        method = PSGD(geometry="triangular", precond_lr=step, curvature=lambda w, d: h @ d)
        state = method.init(w) if state is None else state
        for k in range(steps):
            _, state = method.step(w, w, state)
            if step == phases[-1] and k >= steps // 2:
                average += state.factors[0].T @ state.factors[0] / (steps - steps // 2)
    error = float(np.linalg.norm(average - inverse) / np.linalg.norm(inverse))
    return Verdict(
        "holds" if error < 0.1 else "refuted",
        measured=error,
        expected="a relative error below 0.1, the noise of the last step size",
        evidence={"steps": len(phases) * steps, "condition of P": float(np.linalg.cond(average))},
    )


def early_steps_are_long(filled: bool, size: Size) -> Verdict:
    """Judge whether M-FAC's t-th step on a constant gradient is m / t times that of a full window."""
    g, m = np.random.default_rng(2).standard_normal((3, 2)), 64 if size == "smoke" else 1024
    method, w = MFAC(lr=1.0, window=m), np.zeros((3, 2))
    state, lengths = method.init(w), []
    for _ in range(2 * m):
        following, state = method.step(w, g, state)
        lengths.append(float(np.linalg.norm(following - w)))
    lengths = lengths[m:] if filled else lengths
    counts = np.array([1, 2, m // 2])
    factors = np.array([lengths[t - 1] for t in counts]) / lengths[-1]
    worst = float(np.max(np.abs(factors * counts / m - 1)))
    return Verdict(
        "holds" if worst < 0.01 else "refuted",
        measured=worst,
        expected="a relative error of the factor m / t below 1 percent (damping over curvature)",
        evidence={"window": m, "first step over the last": float(factors[0])},
    )


def converges(method: Method, size: Size) -> Verdict:
    """Judge whether a method brings a full-rank quadratic below a hundredth of its first gap, without noise."""
    problem = quadratic(rows=8, columns=8, left_condition=3.0, seed=3)
    trace = run(problem, method, 1500 if size == "smoke" else 20_000, record=("gap",), every=50)
    share = float(trace["gap"].min() / trace["gap"][0])
    return Verdict(
        "holds" if share < 0.01 else "refuted",
        measured=share,
        expected="a least gap below a hundredth of the first",
        evidence={"last gap over the first": float(trace["gap"][-1] / trace["gap"][0])},
    )


def subspace_aligns(projector_lr: float, size: Size) -> Verdict:
    """Judge whether the span of P turns to the leading right singular vectors of a gradient that stays."""
    rng, draws = np.random.default_rng(4), 3 if size == "smoke" else 20
    left, right = (np.stack([orthogonal(n, rng)[:, :6] for _ in range(draws)]) for n in (8, 6))
    fixed = (left * np.array([4, 3, 1, 0.5, 0.3, 0.1])) @ right
    method = OnlineSubspaceDescent(rank=2, projector_lr=projector_lr)
    w = np.zeros((draws, 8, 6))
    state = method.init(w)
    for g in [rng.standard_normal(w.shape)] + [fixed] * 3000:
        w, state = method.step(w, g, state)
    leading = np.linalg.svd(fixed)[2][:, :2].mT
    span = np.linalg.qr(state.basis)[0]
    cosines = np.linalg.svd(leading.mT @ span, compute_uv=False)[:, -1]
    worst = float(np.sqrt(np.maximum(0.0, 1 - cosines**2)).max())
    return Verdict(
        "holds" if worst < 0.05 else "refuted",
        measured=worst,
        expected="a sine of the largest angle below 0.05",
        evidence={},
    )


def picks_the_best_columns(ranking: str, size: Size) -> Verdict:
    """Judge whether a ranking of cosine columns leaves the least Frobenius residual on heavy-tailed matrices."""
    rng, count, worse, largest = np.random.default_rng(5), 200 if size == "smoke" else 2000, 0, 1.0
    basis = dct_matrix(24)
    for _ in range(count):
        x = rng.standard_t(1.5, (24, 24))
        energy = np.sort(((x @ basis) ** 2).sum(axis=0))
        best = float(energy[:-6].sum()) ** 0.5
        q = best_columns(x, basis, 6, ranking)  # type: ignore[arg-type]
        ratio = float(np.linalg.norm(x - x @ q @ q.T)) / best
        worse += ratio > 1 + 1e-9
        largest = max(largest, ratio)
    return Verdict(
        "holds" if worse == 0 else "refuted",
        measured=worse / count,
        expected="no draw with a larger residual than the best columns",
        evidence={"draws": count, "largest ratio of residuals": largest},
    )


_STALLED = GaLore(lr=0.05, rank=2, period=NEVER)
CLAIMS = (
    Claim(
        "mkor-ema-inverse", "mozaffari2023mkor",
        "MKOR's factors are the inverses of exponential averages of rank-one statistics.",
        functools.partial(inverts_the_average, rank_one_inverse),
        functools.partial(inverts_the_average, ema_inverse),
        "Sherman and Morrison's update of the average itself", "holds",
    ),
    Claim(
        "psgd-fixed-point", "pooladzandi2024curvature",
        "PSGD's preconditioner tends to the inverse of the absolute Hessian.",
        functools.partial(psgd_limit, False),
        functools.partial(psgd_limit, True),
        "the inverse of the Hessian with its signs", "refuted",
    ),
    Claim(
        "mfac-warm-up", "ours, on frantar2021mfac",
        "While its window fills, M-FAC's steps along seen gradients are longer by the window over their number.",
        functools.partial(early_steps_are_long, False),
        functools.partial(early_steps_are_long, True),
        "steps after the window is full", "refuted",
    ),
    Claim(
        "galore-fixed-subspace", "ours, on zhao2024galore",
        "Adam in a fixed subspace of low rank converges.",
        functools.partial(converges, _STALLED),
        functools.partial(converges, GaLore(lr=0.05, rank=8, period=NEVER)),
        "the subspace of full rank", "holds",
    ),
    Claim(
        "frugal-does-not-stall", "ours, on zmushko2024frugal",
        "With sign descent outside, Adam in a fixed subspace of low rank converges.",
        functools.partial(converges, FRUGAL(lr=0.01, projection="svd", period=NEVER)),
        functools.partial(converges, _STALLED),
        "GaLore in a fixed subspace of the same rank", "refuted",
    ),
    Claim(
        "online-subspace-aligns", "liang2024memory",
        "Under a constant gradient the learned subspace turns to the leading singular vectors.",
        functools.partial(subspace_aligns, 0.005),
        functools.partial(subspace_aligns, 0.0),
        "a projector that is not trained", "refuted",
    ),
    Claim(
        "dct-l1-ranking", "modoranu2025fft, the public code",
        "Ranking cosine columns by their sums of magnitudes picks those that approximate a matrix best.",
        functools.partial(picks_the_best_columns, "l1"),
        functools.partial(picks_the_best_columns, "l2"),
        "ranking by energy", "holds",
    ),
)  # fmt: skip
