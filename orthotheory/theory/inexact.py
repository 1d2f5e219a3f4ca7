"""N6: the price of an inexact linear minimization oracle, with exact gradients and along averaged noisy ones.

An oracle of quality (lo, hi) answers M with a D such that <M, D> <= -lo |M|_* and |D| <= hi.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np

from .. import norms
from ..polar import MUON_QUINTIC
from ..problems import KroneckerQuadratic, quadratic
from . import certificates
from .contract import Assumption, Size, Theorem
from .descent import prefix_mean
from .rates import upper_mean

SPECTRAL = norms.Spectral()
SEEDS = 20
Oracle = Callable[[np.ndarray, np.random.Generator, int], np.ndarray]


class Inexact(NamedTuple):
    """A run X + lr D_k along an oracle's answers to averages M_k; records are (steps,) or (steps, seeds).

    `efficiencies` are -<M, D> / |M|_*, `lengths` |D|, `duals` |grad f(X_k)|_*.
    """

    problem: KroneckerQuadratic
    duals: np.ndarray
    efficiencies: np.ndarray
    lengths: np.ndarray
    lo: float
    hi: float
    lr: float
    share: float = 1.0
    sigma: float = 0.0  # root of E |noise|_F^2


def inexact_run(
    problem: KroneckerQuadratic,
    oracle: Oracle,
    quality: tuple[float, float] | None,
    lr: float,
    steps: int,
    share: float = 1.0,
    sigma: float = 0.0,
    seeds: int | None = None,
) -> Inexact:
    """Run M <- (1 - a) M + a (grad + noise) from the first gradient, X <- X + lr oracle(M).

    Without a `quality` it is what the run met: the least efficiency and the largest length.
    """
    rng = np.random.default_rng(5)
    batch = () if seeds is None else (seeds,)
    x = np.broadcast_to(problem.start, (*batch, *problem.start.shape))
    m, records = np.zeros_like(x), []
    for k in range(steps):
        g = problem.grad(x)
        noise = sigma / np.sqrt(problem.start.size) * rng.standard_normal(x.shape) if sigma else 0.0
        m = (1 - share) * m + share * (g + noise) if k else g + noise
        d = oracle(m, rng, k)
        records.append((SPECTRAL.dual(g), -np.sum(m * d, axis=(-2, -1)) / SPECTRAL.dual(m), SPECTRAL.value(d)))
        x = x + lr * d
    duals, efficiencies, lengths = (np.array(part) for part in zip(*records, strict=True))
    lo, hi = quality or (float(efficiencies.min()), float(lengths.max()))
    return Inexact(problem, duals, efficiencies, lengths, lo, hi, lr, share, sigma)


def scattered(lo: float, hi: float) -> Oracle:
    """Return an oracle whose singular values are uniform in [lo, hi]."""

    def answer(m, rng, k):
        u, _, vh = np.linalg.svd(m, full_matrices=False)
        return -(u * rng.uniform(lo, hi, (*m.shape[:-2], 1, u.shape[-1]))) @ vh

    return answer


def turned(lo: float, hi: float) -> Oracle:
    """Return an oracle -hi U R V^T, R turning by arccos(lo / hi): <M, D> = -lo |M|_* for every M, r even."""

    def answer(m, rng, k):
        u, s, vh = np.linalg.svd(m, full_matrices=False)
        c = lo / hi
        plane = np.array([[c, -np.sqrt(1 - c**2)], [np.sqrt(1 - c**2), c]])
        return -hi * u @ np.kron(np.eye(s.shape[-1] // 2), plane) @ vh

    return answer


def quintic(m, rng, k) -> np.ndarray:
    """Return Muon's answer: five steps of the quintic."""
    return -MUON_QUINTIC.apply(m)


def isotropic() -> KroneckerQuadratic:
    """Return |X|_F^2 / 2 on 2 x 2 matrices from I: L = 2, and a turned oracle keeps multiples of rotations."""
    return KroneckerQuadratic(np.eye(2), np.eye(2), np.zeros((2, 2)), np.eye(2))


def _exact_cases(size: Size) -> Iterator[tuple[str, Inexact]]:
    steps = 200 if size == "smoke" else 800
    problem = quadratic(rows=5, columns=4, alignment="generic", basis="standard")
    lr = 0.05 * np.sqrt(float(problem.smoothness(SPECTRAL)))
    for lo, hi in ((1.0, 1.0), (0.7, 1.2), (0.3, 1.0)):
        yield f"[{lo}, {hi}], random", inexact_run(problem, scattered(lo, hi), (lo, hi), lr, steps)
        # the radius of the cycle is lr hi^2 / (2 lo) in each singular value
        yield f"[{lo}, {hi}], turned", inexact_run(isotropic(), turned(lo, hi), (lo, hi), 0.1 * lo / hi, steps)
    yield "Muon's quintic", inexact_run(problem, quintic, None, lr, steps)


def _answers(case: Inexact) -> bool:
    reached = np.min(case.efficiencies) >= case.lo * (1 - 1e-12)
    return bool(0 < case.lo <= case.hi and reached and np.max(case.lengths) <= case.hi * (1 + 1e-12))


ANSWERS = Assumption("every answer of the oracle has <M, D> <= -lo |M|_* and |D| <= hi", _answers)


def inexact_bound(case: Inexact, power: int = 2) -> np.ndarray:
    """Return (1/lo) [gap/(lr K) + L lr hi^2/2 + (lo + hi) (L lr hi (1-a)/a + rho sigma (sqrt(a/(2-a)) + 1/(aK)))]."""
    lo, hi, lr, a = case.lo, case.hi, case.lr, case.share
    k, problem = np.arange(1, len(case.duals) + 1), case.problem
    smoothness, gap = float(problem.smoothness(SPECTRAL)), float(problem.value(problem.start))
    lag = smoothness * lr * hi * (1 - a) / a
    noise = np.sqrt(min(problem.start.shape)) * case.sigma * (np.sqrt(a / (2 - a)) + 1 / (a * k))
    return (gap / (lr * k) + smoothness * lr * hi**power / 2 + (lo + hi) * (lag + noise)) / lo


EXACT = Assumption("the gradients are exact and there is no average", lambda c: c.sigma == 0 and c.share == 1)

inexact_oracle = Theorem(
    label="inexact-oracle",
    title="The price of an inexact oracle",
    statement=r"\frac1K\sum_{k<K}\|\nabla f(X_k)\|_*\le\frac{\Delta}{\ell\eta K}+\frac{L\eta h^2}{2\ell},\qquad "
    r"\langle G,D\rangle\le-\ell\|G\|_*,\ \|D\|\le h;\quad\text{best }\eta:\ \frac h\ell\sqrt{2L\Delta/K}",
    assumes=(ANSWERS, EXACT),
    kind="upper",
    lhs=lambda c: prefix_mean(c.duals),
    rhs=inexact_bound,
    cases=_exact_cases,
    broken=lambda t: dataclasses.replace(t, rhs=lambda c: inexact_bound(c, power=1)),
    mistake="h in place of its square",
    source="ours; consistent with [kim2026convergence]",
    proof=functools.partial(certificates.prove, "inexact-oracle"),
)


def _noisy_cases(size: Size) -> Iterator[tuple[str, Inexact]]:
    steps = 200 if size == "smoke" else 600
    problem = quadratic(rows=4, columns=3, alignment="generic", basis="standard", left_condition=10.0)
    for lo, hi in ((0.9, 1.1), (0.5, 1.5)):
        for share, lr in ((0.3, 0.03), (0.1, 0.01)):
            run = inexact_run(problem, scattered(lo, hi), (lo, hi), lr, steps, share, 1.0, SEEDS)
            yield f"[{lo}, {hi}], a = {share}, strong noise", run
        weak = inexact_run(isotropic(), turned(lo, hi), (lo, hi), 0.05, steps, 1.0, 1e-5, SEEDS)
        yield f"[{lo}, {hi}], turned, a = 1, weak noise", weak
    yield "Muon's quintic", inexact_run(problem, quintic, None, 0.02, steps, 0.2, 0.5, SEEDS)


inexact_momentum = Theorem(
    label="inexact-momentum",
    title="The price of an inexact oracle along averaged noisy gradients",
    statement=r"\frac1K\sum_{k<K}\mathbb E\|\nabla f(X_k)\|_*\le\frac1\ell\Bigl[\frac{\Delta}{\eta K}+\frac{L\eta h^2}2"
    r"+(\ell+h)\Bigl(L\eta h\frac{1-a}a+\rho\sigma\sqrt{\frac a{2-a}}+\frac{\rho\sigma}{aK}\Bigr)\Bigr]",
    assumes=(
        ANSWERS,
        Assumption("there are 20 independent seeds", lambda c: c.duals.shape[1:] == (SEEDS,)),
        Assumption("0 < a <= 1", lambda c: 0 < c.share <= 1),
    ),
    kind="upper",
    lhs=lambda c: upper_mean(prefix_mean(c.duals)),
    rhs=inexact_bound,
    cases=_noisy_cases,
    broken=lambda t: dataclasses.replace(t, rhs=lambda c: inexact_bound(c, power=1)),
    mistake="h in place of its square",
    source="ours; for relative errors of the polar factor consistent with [kim2026convergence]",
)

THEOREMS = (inexact_oracle, inexact_momentum)
