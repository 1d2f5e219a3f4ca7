"""Claims on what the relatives of Muon do with outliers, momentum and a constant learning rate."""

from __future__ import annotations

import functools

import numpy as np

from ..loop import run
from ..methods import FISMO, NAMO, NAMOD, Method, Muon, PolarGrad
from ..methods.root import clip_entries, quantile
from ..methods.spd import inverse_root
from ..polar import polar_factor
from ..problems import Gaussian, Problem, quadratic
from ..theory.contract import Size
from ..theory.rates import upper_mean
from .contract import Claim, Verdict


def cosine(a: np.ndarray, b: np.ndarray) -> float:
    """Return the cosine of the angle between two matrices."""
    return float((a * b).sum() / (np.linalg.norm(a) * np.linalg.norm(b)))


def clipping_helps(outliers: float, size: Size) -> Verdict:
    """Judge whether ROOT's clipping brings the polar factor closer to that of the gradient without outliers."""
    rng = np.random.default_rng(20261124)
    gains, plain, clipped = [], [], []
    for _ in range(20 if size == "smoke" else 200):
        clean = rng.standard_normal((32, 4)) @ rng.standard_normal((4, 32)) + 0.1 * rng.standard_normal((32, 32))
        hit = rng.random(clean.shape) < 0.1
        g = clean + outliers * np.abs(clean).max() * hit * rng.choice([-1.0, 1.0], clean.shape)
        target = polar_factor(clean)
        plain.append(cosine(polar_factor(g), target))
        clipped.append(cosine(polar_factor(clip_entries(g, quantile(np.abs(g), 0.9))), target))
        gains.append(clipped[-1] - plain[-1])
    end = -float(upper_mean(-np.array(gains)))
    return Verdict(
        "holds" if end > 0 else "refuted",
        measured=end,
        expected="a mean gain in the cosine whose lower end, one-sided at 95 percent, is above 0",
        evidence={
            "mean gain": float(np.mean(gains)),
            "median cosine, clipped": float(np.median(clipped)),
            "median cosine, not clipped": float(np.median(plain)),
            "smallest gain": min(gains),
        },
    )


def is_lmo_of_momentum(momentum: float, size: Size) -> Verdict:
    """Judge whether FISMO's step is the LMO of the averaged gradient in the current metric."""
    rng = np.random.default_rng(0)
    method = FISMO(lr=1.0, momentum=momentum)
    efficiency = []
    for _ in range(5 if size == "smoke" else 50):
        w = average = np.zeros((6, 9))
        state, scales = method.init(w), np.ones((6, 9))
        for _ in range(20):
            scales = scales * np.exp(0.3 * rng.standard_normal((6, 1)))  # the metric changes while the average lasts
            g = scales * rng.standard_normal((6, 9))
            average = momentum * average + (1 - momentum) * g
            following, state = method.step(w, g, state)
            step, w = w - following, following
        whitened = inverse_root(state.left) @ average @ inverse_root(state.right)
        efficiency.append(float((average * step).sum() / np.linalg.svd(whitened, compute_uv=False).sum()))
    return Verdict(
        "holds" if min(efficiency) > 1 - 1e-9 else "refuted",
        measured=min(efficiency),
        expected="<M, D> equal to the dual norm of M",
        evidence={"smallest": min(efficiency), "largest": max(efficiency)},
    )


def starts(problem: Problem, count: int) -> np.ndarray:
    """Return first weights with independent Gaussian errors, shape (count, m, n)."""
    assert problem.optimum is not None
    return problem.optimum + np.random.default_rng(3111).standard_normal((count, *problem.start.shape))


def converges_at_constant_rate(method: Method, size: Size) -> Verdict:
    """Judge whether the largest gap of a window falls in the next one of twice its length.

    The rate promised for exact gradients, |G| of order K^-1/2, halves the gap of a strongly convex function when K
    doubles; a floor keeps it. The upper end of the mean ratio of the largest gaps of (T, 2T] and (2T, 4T] over starts,
    one-sided at 95 percent, must be below sqrt(1/2), midway between both. Gaps at rounding level count as converged.
    """
    window = 1000 if size == "smoke" else 2000
    problem = quadratic(rows=6, columns=6, left_condition=10.0, alignment="generic", seed=3111)
    first = starts(problem, 6 if size == "smoke" else 12)
    gap = run(problem, method, 4 * window, record=("gap",), every=10, start=first, batch=first.shape[:1])["gap"]
    early, late = (gap[a : 2 * a].max(axis=0) / gap[0] for a in (window // 10, window // 5))
    rounding = 1e-28  # (1e-14)^2: the error of the weights is rounded to 50 units
    ratio = float(np.exp(upper_mean(np.log((late + rounding) / (early + rounding)))))
    converged = bool((late < 100 * rounding).all())
    return Verdict(
        "holds" if ratio < 0.5**0.5 or converged else "refuted",
        measured=ratio,
        expected="largest gaps, late over earlier, whose ratio has its upper end below sqrt(1/2), or are rounding",
        evidence={"largest late gap over the first": float(late.max()), "smallest": float(late.min())},
    )


def floor_is_lower(method: Method, size: Size, noise_seed: int = 1) -> Verdict:
    """Judge whether the late gap under noise is below Muon's at the same radius, one-sided at 95 percent."""
    levels = (0.1, 1.0) if size == "smoke" else (0.03, 0.1, 1.0)
    ends: list[float] = []
    evidence: dict[str, float] = {}
    for sigma in levels:
        problem = quadratic(
            rows=6, columns=6, left_condition=10.0, alignment="generic", seed=2026, noise=Gaussian(sigma)
        )
        first = starts(problem, 6 if size == "smoke" else 12)
        floors = []
        for subject, seed in ((method, noise_seed), (_MUON, 2)):
            trace = run(
                problem, subject, 600, record=("gap",), every=10, start=first, batch=first.shape[:1], seed=seed
            )  # fmt: skip
            floors.append(trace["gap"][40:].mean(axis=0))
        ends.append(float(upper_mean(np.log(floors[0] / floors[1]))))
        evidence |= {f"floor at noise {sigma:g}": float(floors[0].mean())}
        evidence |= {f"Muon's floor at noise {sigma:g}": float(floors[1].mean())}
    return Verdict(
        "holds" if max(ends) < 0 else "refuted",
        measured=float(np.exp(max(ends))),
        expected="a ratio of floors (geometric mean) whose upper end is below 1 at every noise level",
        evidence=evidence,
    )


_MUON = Muon(lr=0.05, plan="exact", shape_factor="none", nesterov=False)
_SAME_RADIUS = 0.05 / (0.2 * 6**0.5)  # the code of NAMO-D multiplies lr by 0.2 sqrt(max(m, n))

CLAIMS = (
    Claim(
        "root-clipping-helps", "he2025root",
        "Clipping the momentum at a quantile brings the polar factor closer to that without outliers.",
        functools.partial(clipping_helps, 1.0), functools.partial(clipping_helps, 0.0),
        "gradients without outliers, of which a tenth of the entries is clipped as well", "refuted",
    ),
    Claim(
        "fismo-momentum-lmo", "xu2026fismo",
        "The step with momentum is the best one in the metric for the averaged gradient.",
        functools.partial(is_lmo_of_momentum, 0.95), functools.partial(is_lmo_of_momentum, 0.0),
        "no momentum", "holds",
    ),
    Claim(
        "namo-constant-rate", "zhang2026namo",
        "The adaptive scale lets the orthogonalized step converge on exact gradients at a constant learning rate.",
        functools.partial(converges_at_constant_rate, NAMO(lr=0.1, weight_decay=0.0, plan="exact")),
        functools.partial(converges_at_constant_rate, PolarGrad(lr=0.1, momentum=0.0)),
        "PolarGrad, whose step is scaled by the dual norm of the gradient", "holds",
    ),
    Claim(
        "namo-noise-floor", "zhang2026namo",
        "The scalar scale adapts to noise: at one learning rate the floor is below Muon's.",
        functools.partial(floor_is_lower, NAMO(lr=0.05, weight_decay=0.0, variant="paper")),
        functools.partial(floor_is_lower, _MUON),
        "Muon with other noise", "refuted",
    ),
    Claim(
        "namo-d-noise-floor", "zhang2026namo",
        "The scales of the columns adapt to noise: at one learning rate the floor is below Muon's.",
        functools.partial(
            floor_is_lower, NAMOD(lr=_SAME_RADIUS, weight_decay=0.0, plan="exact", nesterov=False)
        ),
        functools.partial(floor_is_lower, _MUON),
        "Muon with other noise", "refuted",
    ),
)  # fmt: skip
