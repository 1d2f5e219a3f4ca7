"""Claims on what the relatives of Muon do with outliers, momentum and a constant learning rate."""

from __future__ import annotations

import functools

import numpy as np

from ..loop import run
from ..methods import FISMO, NAMO, Method, Muon
from ..methods.root import clip_entries, quantile
from ..methods.spd import inverse_root
from ..polar import polar_factor
from ..problems import quadratic
from ..theory.contract import Size
from .contract import Claim, Verdict


def cosine(a: np.ndarray, b: np.ndarray) -> float:
    """Return the cosine of the angle between two matrices."""
    return float((a * b).sum() / (np.linalg.norm(a) * np.linalg.norm(b)))


def clipping_helps(outliers: float, size: Size) -> Verdict:
    """Judge whether ROOT's clipping brings the polar factor closer to that of the gradient without outliers."""
    rng = np.random.default_rng(0)
    gains, plain, clipped = [], [], []
    for _ in range(20 if size == "smoke" else 200):
        clean = rng.standard_normal((32, 4)) @ rng.standard_normal((4, 32)) + 0.1 * rng.standard_normal((32, 32))
        hit = rng.random(clean.shape) < 0.1
        g = clean + outliers * np.abs(clean).max() * hit * rng.choice([-1.0, 1.0], clean.shape)
        target = polar_factor(clean)
        plain.append(cosine(polar_factor(g), target))
        clipped.append(cosine(polar_factor(clip_entries(g, quantile(np.abs(g), 0.9))), target))
        gains.append(clipped[-1] - plain[-1])
    mean, error = float(np.mean(gains)), float(np.std(gains) / np.sqrt(len(gains)))
    return Verdict(
        "holds" if mean > 3 * error else "refuted",
        measured=mean,
        expected="a mean gain in the cosine above three standard errors",
        evidence={
            "median cosine, clipped": float(np.median(clipped)),
            "median cosine, not clipped": float(np.median(plain)),
            "standard error of the gain": error,
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


def converges_at_constant_rate(method: Method, size: Size) -> Verdict:
    """Judge whether late gaps on exact gradients keep falling at a constant lr, by a decade; a floor has ratio 1."""
    worst, last = 0.0, 0.0
    for seed in range(1 if size == "smoke" else 10):
        problem = quadratic(rows=6, columns=6, left_condition=10.0, alignment="generic", seed=seed)
        gap = run(problem, method, 2000, record=("gap",), every=20)["gap"]
        worst = max(worst, float(gap[-10:].max() / gap[8:18].max()))
        last = max(last, float(gap[-1] / gap[0]))
    return Verdict(
        "holds" if worst < 0.1 else "refuted",
        measured=worst,
        expected="the largest gap of the last tenth at most 1e-3 of that of steps 160 to 340",
        evidence={"ratio": worst, "last gap over the first": last},
    )


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
        functools.partial(converges_at_constant_rate, Muon(lr=0.1, plan="exact", shape_factor="none")),
        "Muon at the same learning rate", "refuted",
    ),
)  # fmt: skip
