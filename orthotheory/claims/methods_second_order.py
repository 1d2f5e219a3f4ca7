"""Claims on Sophia, Shampoo and MKOR: run time and condition, what Shampoo's powers approximate, counted costs."""

from __future__ import annotations

import functools
from collections.abc import Callable

import numpy as np

from ..counting import count_operations
from ..methods import Shampoo, Sophia
from ..methods.mkor import rank_one_inverse
from ..problems import orthogonal
from ..theory.contract import Size
from ..theory.methods_counted import inverse_anew
from ..theory.methods_preconditioned import power_step
from ..theory.orthogonality import polar
from .contract import Claim, Verdict
from .methods_subspaces import mean_interval


def sophia_steps(condition: float, turned: bool, seed: int, limit: int) -> tuple[int, float]:
    """Return the steps of Sophia to a gap of 1e-6 of the first, and the share of clipped entries until then."""
    rng, n = np.random.default_rng(seed), 8
    q = orthogonal(n, rng) if turned else np.eye(n)
    h = (q * np.geomspace(1, condition, n)) @ q.T
    method = Sophia(lr=0.1, beta1=0.0, gamma=1.0, period=1, curvature=lambda w, d: h @ d, seed=seed)
    w = rng.choice([-1, 1], (n, 1)) * rng.uniform(1, 3, (n, 1))
    state, first, clipped = method.init(w), float((w * (h @ w)).sum()), 0
    steps = 0
    while steps < limit:
        steps += 1
        following, state = method.step(w, h @ w, state)
        clipped += int(np.sum(np.abs(following - w) > 0.1 * (1 - 1e-9)))
        w = following
        if float((w * (h @ w)).sum()) <= 1e-6 * first:
            break
    return steps, clipped / (steps * n)


def free_of_condition(turned: bool, size: Size) -> Verdict:
    """Judge whether the mean steps of Sophia at conditions 1 to 1e6 stay within a factor of 1.5 of each other."""
    seeds, limit = (3, 600) if size == "smoke" else (10, 1000)
    means: list[float] = []
    evidence: dict[str, float] = {}
    for condition in (1.0, 1e2, 1e4, 1e6):
        runs = [sophia_steps(condition, turned, seed, limit) for seed in range(seeds)]
        steps, shares = (np.array(column, dtype=float) for column in zip(*runs, strict=True))
        means.append(float(steps.mean()))
        half = mean_interval(steps)[1]
        name = f"condition {condition:g}"
        evidence |= {f"steps, {name}": means[-1], f"steps, {name}, half width": half}
        evidence[f"clipped share, {name}"] = float(shares.mean())
    ratio = max(means) / min(means)
    return Verdict(
        "holds" if ratio < 1.5 else "refuted",
        measured=ratio,
        expected="most steps over least below 1.5",
        evidence=evidence | {"limit of steps": limit},
    )


def _gradients(rng: np.random.Generator, count: int, m: int, n: int) -> np.ndarray:
    """Return gradients whose second moment is a sum of three Kronecker products."""
    total = np.zeros((count, m, n))
    for _ in range(3):
        left, right = rng.standard_normal((m, m)), rng.standard_normal((n, n))
        total += left @ rng.standard_normal((count, m, n)) @ right * rng.uniform(0.2, 1)
    return total


def _cosine(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.sum(a * b) / (np.linalg.norm(a) * np.linalg.norm(b)))


def _power(a: np.ndarray, power: float) -> np.ndarray:
    values, vectors = np.linalg.eigh(a)
    return (vectors * np.maximum(values, 1e-300) ** power) @ vectors.T


def closer_than_shampoo(power: float, size: Size) -> Verdict:
    """Judge whether L^p (x) R^p is closer in angle to the second moment than L^(1/2) (x) R^(1/2)."""
    rng, (m, n) = np.random.default_rng(1), (4, 5)
    found: dict[str, list[float]] = {k: [] for k in ("own", "half", "best", "second step")}
    for _ in range(20 if size == "smoke" else 300):
        g = _gradients(rng, 300, m, n)
        rearranged = np.einsum("kij,kpq->ipjq", g, g).reshape(m * m, n * n) / len(g)
        sides = power_step(g)
        left, right = sides[: m * m].reshape(m, m), sides[m * m :].reshape(n, n)

        def angle(a, b, r=rearranged):
            return float(a.ravel() @ r @ b.ravel() / (np.linalg.norm(a) * np.linalg.norm(b) * np.linalg.norm(r)))

        found["own"].append(angle(_power(left, power), _power(right, power)))
        found["half"].append(angle(_power(left, 0.5), _power(right, 0.5)))
        found["second step"].append(angle(rearranged @ right.ravel(), rearranged.T @ left.ravel()))
        s = np.linalg.svd(rearranged, compute_uv=False)
        found["best"].append(float(s[0] / np.linalg.norm(s)))
    mean, half = mean_interval(np.array(found["own"]) - np.array(found["half"]))
    return Verdict(
        "holds" if mean - half > 0 else "refuted",
        measured=mean,
        expected="a mean gain in cosine over Shampoo's powers 1/2 above 0 by its whole interval",
        evidence={f"cosine, {k}": float(np.mean(v)) for k, v in found.items()}
        | {"power": power, "half width of the gain": half},
    )


def follows_full_matrix(square: bool, reference: bool, size: Size) -> Verdict:
    """Judge whether Shampoo (or its square) turns less from full-matrix AdaGrad's step than from the polar factor's."""
    rng, (m, n) = np.random.default_rng(2), (4, 5)
    full, from_polar, first = [], [], []
    for _ in range(30 if size == "smoke" else 150):
        g = _gradients(rng, 60, m, n)
        method = Shampoo(lr=1.0, eps=1e-9, square=square)
        w = np.zeros((m, n))
        state, moment = method.init(w), 1e-9 * np.eye(m * n)
        for k, grad in enumerate(g[:1] if reference else g):
            following, state = method.step(w, grad, state)
            moment = moment + np.outer(grad, grad)
            step, w = w - following, following
            if k == 0:
                first.append(_cosine(step, polar(grad)))
        full.append(_cosine(step.ravel(), _power(moment, -0.5) @ grad.ravel()))
        from_polar.append(_cosine(step, polar(grad)))
    mean, half = mean_interval(np.array(full) - np.array(from_polar))
    return Verdict(
        "holds" if mean - half > 0 else "refuted",
        measured=mean,
        expected="a mean difference of cosines above 0 by its whole interval",
        evidence={
            "cosine to full-matrix AdaGrad": float(np.mean(full)),
            "cosine to the polar factor": float(np.mean(from_polar)),
            "cosine to the polar factor, first step": float(np.mean(first)),
            "half width": half,
        },
    )


def grows_like(update: Callable, power: float, size: Size) -> Verdict:
    """Judge whether the operations of one update of a k x k factor grow like k to a power, between the largest two."""
    rng = np.random.default_rng(3)
    sides = (16, 32, 64, 128) if size == "smoke" else (32, 64, 128, 256, 512)
    counts = []
    for k in sides:
        v = rng.standard_normal((k, 1))
        counts.append(count_operations(lambda j, v=v: update(j, v), np.eye(k)))
    slopes = np.diff(np.log(counts)) / np.log(2)
    return Verdict(
        "holds" if abs(slopes[-1] - power) < 0.05 else "refuted",
        measured=float(slopes[-1]),
        expected=f"the exponent {power:g} within 0.05, without timing",
        evidence={f"operations over k^{power:g}, k = {k}": c / k**power for k, c in zip(sides, counts, strict=True)},
    )


CLAIMS = (
    Claim(
        "mkor-quadratic-cost", "mozaffari2023mkor",
        "Updating an inverse factor costs a number of operations quadratic in its side.",
        functools.partial(grows_like, rank_one_inverse, 2.0), functools.partial(grows_like, inverse_anew, 2.0),
        "the inverse formed anew", "refuted",
    ),
    Claim(
        "sophia-condition-free", "liu2023sophia",
        "Sophia's run time does not depend on the condition of a quadratic whose curvature lies along the axes.",
        functools.partial(free_of_condition, False), functools.partial(free_of_condition, True),
        "the same spectra in a turned basis", "refuted",
    ),
    Claim(
        "shampoo-square-closer", "morwani2024new",
        "The square of Shampoo's factors is closer to the second moment than they are.",
        functools.partial(closer_than_shampoo, 1.0), functools.partial(closer_than_shampoo, 0.25),
        "their square roots", "refuted",
    ),
    Claim(
        "shampoo-full-matrix", "gupta2018shampoo",
        "With accumulation Shampoo's step is closer to that of full-matrix AdaGrad than to the polar factor.",
        functools.partial(follows_full_matrix, False, False), functools.partial(follows_full_matrix, False, True),
        "the first step, which is the polar factor", "refuted",
    ),
)  # fmt: skip
