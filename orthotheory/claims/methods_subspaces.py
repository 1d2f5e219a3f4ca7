"""Claims on subspaces: every law of the projector, and what cosine columns capture next to singular vectors."""

from __future__ import annotations

import functools
from collections.abc import Callable

import numpy as np

from ..methods.dct import dct_matrix
from ..problems import orthogonal
from ..theory.contract import Size
from ..theory.methods_subspaces import LAWS, energies, flow
from .contract import Claim, Verdict


def hamiltonian_falls(stale: bool, size: Size) -> Verdict:
    """Judge whether f + |m|^2 / 2a never rises along the flow with any of the laws of the projector."""
    seeds = range(1 if size == "smoke" else 8)
    worst, evidence = -np.inf, {}
    for name, law in LAWS.items():
        rises, left = [], []
        for seed in seeds:
            values, losses, _ = flow(law, seed).path(stale=stale)
            rises.append(float(np.max(values[1:] / values[:-1] - 1)))
            left.append(float(losses[-1] / losses[0]))
        worst = max(worst, *rises)
        evidence[f"f left, {name}"] = float(np.median(left))
    return Verdict(
        "holds" if worst < 1e-10 else "refuted",
        measured=worst,
        expected="no relative rise over an interval, for ten laws",
        evidence=evidence,
    )


def mean_interval(values: np.ndarray | list[float]) -> tuple[float, float]:
    """Return the mean and half the width of its 95 percent interval, normal."""
    return float(np.mean(values)), 1.96 * float(np.std(values, ddof=1)) / len(values) ** 0.5


Family = Callable[[np.random.Generator, int], np.ndarray]


def gaussian(rng: np.random.Generator, n: int) -> np.ndarray:
    """Return a Gaussian matrix."""
    return rng.standard_normal((n, n))


def low_rank(rng: np.random.Generator, n: int) -> np.ndarray:
    """Return a matrix of rank n / 4 in random directions."""
    return rng.standard_normal((n, n // 4)) @ rng.standard_normal((n // 4, n))


def power_law(rng: np.random.Generator, n: int) -> np.ndarray:
    """Return a matrix with singular values 1 / i in random directions."""
    return (orthogonal(n, rng) / np.arange(1, n + 1)) @ orthogonal(n, rng)


def smooth(rng: np.random.Generator, n: int) -> np.ndarray:
    """Return rows that are stationary autoregressive sequences of correlation 0.95."""
    x = rng.standard_normal((n, n))
    for j in range(1, n):
        x[:, j] = 0.95 * x[:, j - 1] + (1 - 0.95**2) ** 0.5 * x[:, j]
    return x


def cosine_made(rng: np.random.Generator, n: int) -> np.ndarray:
    """Return a matrix with singular values 1 / i whose right singular vectors are cosine columns."""
    return (orthogonal(n, rng) / np.arange(1, n + 1)) @ dct_matrix(n)[:, rng.permutation(n)].T


FAMILIES: dict[str, Family] = {
    "Gaussian": gaussian, "low rank": low_rank, "power law": power_law, "smooth rows": smooth,
}  # fmt: skip


def matches_svd(families: dict[str, Family], size: Size) -> Verdict:
    """Judge whether a quarter of the cosine columns, the best, holds 95 percent of the energy that an SVD holds."""
    rng, n = np.random.default_rng(0), 32
    draws = 20 if size == "smoke" else 400
    evidence, lows, highs = {}, [], []
    for name, family in families.items():
        shares: dict[str, list[float]] = {"cosine": [], "random": []}
        for _ in range(draws):
            x = family(rng, n)
            e = energies(x, n // 4)
            shares["cosine"].append(e["cosine"] / e["svd"])
            shares["random"].append(float(np.sum((x @ orthogonal(n, rng)[:, : n // 4]) ** 2)) / e["svd"])
        for key, values in shares.items():
            mean, half = mean_interval(values)
            evidence[f"{name}, {key}"], evidence[f"{name}, {key}, half width"] = mean, half
            if key == "cosine":
                lows.append(mean - half)
                highs.append(mean + half)
    passing = [low > 0.95 for low in lows]
    outcome = "holds" if all(passing) else "holds_if" if any(passing) else "refuted"
    return Verdict(
        outcome,  # type: ignore[arg-type]
        measured=float(min(highs)),
        expected="a mean share above 0.95 of the energy of the leading singular vectors, by its whole interval",
        evidence=evidence,
        condition="the rows are smooth, so that their covariance is nearly diagonal in cosines"
        if outcome == "holds_if"
        else "",
    )


CLAIMS = (
    Claim(
        "online-subspace-any-projector", "liang2024memory",
        "In continuous time momentum in a subspace lowers its Hamiltonian whatever the law of the projector.",
        functools.partial(hamiltonian_falls, False),
        functools.partial(hamiltonian_falls, True),
        "the gradient projected with the projector of the interval before", "refuted",
    ),
    Claim(
        "dct-matches-svd", "modoranu2025fft",
        "The best cosine columns capture almost the energy that as many singular vectors capture.",
        functools.partial(matches_svd, FAMILIES),
        functools.partial(matches_svd, {"cosine singular vectors": cosine_made}),
        "matrices whose right singular vectors are cosine columns", "holds",
    ),
)  # fmt: skip
