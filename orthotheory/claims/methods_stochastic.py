"""Claims on AMSGrad, AdamP, Adafactor, Lookahead, random scaling and AdAdaGrad."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable

import numpy as np

from ..arrays import generator
from ..methods import SGDP, AdAdaGrad, Adam, AMSGrad, HeavyBall, Lookahead, Method
from ..methods.adafactor import rank_one
from ..theory.contract import Size
from .contract import Claim, Verdict


def solves_the_periodic_problem(method: Method, size: Size) -> Verdict:
    """Judge whether x ends at -1, the best point of [-1, 1], for f_t = C x if t = 1 mod 3 and -x else."""
    c, lr, steps = 4.0, 1.0, 3000 if size == "smoke" else 40_000
    w, path = np.zeros((1, 1)), []
    state = method.init(w)
    for t in range(1, steps + 1):
        g = np.full((1, 1), c if t % 3 == 1 else -1.0)
        moved, state = dataclasses.replace(method, lr=lr / t**0.5).step(w, g, state)  # type: ignore[call-arg]
        w = np.clip(moved, -1, 1)
        path.append(w[0, 0])
    mean = float(np.mean(path[-steps // 3 :]))
    return Verdict(
        "holds" if mean < -0.9 else "refuted",
        measured=mean,
        expected="a mean of the last third of the iterates below -0.9",
        evidence={"C": c, "steps": steps, "last iterate": float(path[-1])},
    )


def cross_term_is_positive(method: Method, size: Size) -> Verdict:
    """Judge whether |W|^2 grows by more than the squared steps on a scale-invariant loss -<A, W> / |W|."""
    rng = np.random.default_rng(0)
    w, a = rng.standard_normal((1, 20)), rng.standard_normal((1, 20))
    state, start, squares = method.init(w), float((w**2).sum()), 0.0
    for _ in range(200 if size == "smoke" else 5000):
        unit = w / np.linalg.norm(w)
        grad = -(a - unit * (unit * a).sum()) / np.linalg.norm(w)
        following, state = method.step(w, grad, state)
        squares += float(((following - w) ** 2).sum())
        w = following
    share = (float((w**2).sum()) - start - squares) / squares
    return Verdict(
        "holds" if share > 0.1 else "refuted",
        measured=share,
        expected="a cross term above a tenth of the sum of squared steps",
        evidence={"norm at the end over its start": float(np.linalg.norm(w)) / start**0.5},
    )


def frobenius_loss(v: np.ndarray, s: np.ndarray) -> float:
    """Return |V - S|_F^2."""
    return float(((v - s) ** 2).sum())


def divergence(v: np.ndarray, s: np.ndarray) -> float:
    """Return sum V log(V / S) - V + S."""
    return float((v * np.log(v / s) - v + s).sum())


def best_rank_one(loss: Callable[[np.ndarray, np.ndarray], float], size: Size) -> Verdict:
    """Judge whether the factored second moment has the least loss of the positive rank-one matrices tried."""
    rng = np.random.default_rng(1)
    worst = 0.0
    for _ in range(20 if size == "smoke" else 300):
        v = rng.uniform(0.05, 1, (5, 4)) ** 2
        r, c = v.sum(axis=1, keepdims=True), v.sum(axis=0, keepdims=True)
        own = loss(v, rank_one(r, c))
        u, s, vh = np.linalg.svd(v)
        others = [s[0] * np.outer(np.abs(u[:, 0]), np.abs(vh[0]))]
        for scale in (1e-3, 1e-2, 0.1):
            turned = [x * np.exp(scale * rng.standard_normal(x.shape)) for x in (r, c)]
            others.append(turned[0] * turned[1] / v.sum())
        worst = max(worst, *(own / loss(v, other) for other in others))
    return Verdict(
        "holds" if worst <= 1 + 1e-9 else "refuted",
        measured=worst,
        expected="a loss of at most that of every other rank-one matrix",
        evidence={},
    )


def lookahead_variance(lr: float, pull: float, period: int) -> float:
    """Return the stationary variance of the slow weights over that of gradient descent, curvature 1."""
    q = 1 - lr
    top = pull**2 * (1 - q ** (2 * period))
    return top / (top + 2 * pull * (1 - pull) * (1 - q**period))


def has_variance(formula: Callable[[float, float, int], float], size: Size) -> Verdict:
    """Judge a formula for the stationary variance of Lookahead's slow weights on w^2 / 2 with unit gradient noise."""
    chains, pulls = (40_000, 30) if size == "smoke" else (100_000, 60)
    rng, worst, values = np.random.default_rng(2), 0.0, {}
    for lr, pull, period in ((0.1, 0.5, 5), (0.3, 0.8, 3), (0.05, 0.3, 8)):
        method = Lookahead(lr=lr, pull=pull, period=period)
        plain = lr**2 / (1 - (1 - lr) ** 2)
        start = np.sqrt(plain * lookahead_variance(lr, pull, period))
        w = start * rng.standard_normal((chains, 1, 1))
        state, found = method.init(w), []
        for _ in range(pulls):
            for _ in range(period):
                w, state = method.step(w, w + rng.standard_normal(w.shape), state)
            found.append(float(np.mean(w**2)))
        measured = float(np.mean(found[pulls // 2 :])) / plain
        values[f"lr {lr:g}, pull {pull:g}, period {period}"] = measured
        worst = max(worst, abs(measured / formula(lr, pull, period) - 1))
    return Verdict(
        "holds" if worst < 0.02 else "refuted",
        measured=worst,
        expected="a relative error below 2 percent; the sampling error is about 0.5",
        evidence=values,
    )


def contracts_like_its_inner(pull: float, size: Size) -> Verdict:
    """Judge whether Lookahead's mean falls as fast per gradient as that of gradient descent at the same lr.

    The rate of the slow weights is ((1 - pull) + pull q^k)^(1/k) a step, q = 1 - lr on w^2 / 2. Evidence: the rate of
    gradient descent with the lr that gives it Lookahead's stationary variance, 2 V / (1 + V).
    """
    worst, evidence, ahead = 0.0, {}, 0
    grid = [(lr, k) for lr in (0.05, 0.1, 0.3, 0.6) for k in (3, 5, 10)]
    for lr, period in grid:
        method, w = Lookahead(lr=lr, pull=pull, period=period), np.ones((1, 1))
        state, pulls = method.init(w), 3
        for _ in range(pulls * period):
            w, state = method.step(w, w, state)  # the mean sees no noise
        rate, own = float(w[0, 0]) ** (1 / (pulls * period)), 1 - lr
        variance = lookahead_variance(lr, pull, period) * lr / (2 - lr)
        matched = 1 - 2 * variance / (1 + variance)
        worst = max(worst, float(np.log(own) / np.log(rate)))
        ahead += rate < matched * (1 - 1e-12)
        if (lr, period) == (0.1, 5):
            evidence = {"rate": rate, "rate of descent": own, "rate of descent at equal variance": matched}
    return Verdict(
        "holds" if worst < 1 + 1e-9 else "refuted",
        measured=worst,
        expected="as many gradients for a decade of the mean as gradient descent, a ratio of 1",
        evidence=evidence | {"settings": len(grid), "settings ahead at equal variance": ahead},
    )


def scaling_identity(random: bool, size: Size) -> Verdict:
    """Judge E f(x + s d) - f(x) = E <grad f(x + s d), d> for f the sum of magnitudes, s exponential or 1."""
    rng, draws = np.random.default_rng(3), 100_000 if size == "smoke" else 2_000_000
    gaps, allowed = [], []
    for seed in range(5):
        x, d = rng.standard_normal((2, 1, 4))
        s = generator(seed).exponential(size=(draws, 1)) if random else np.ones((draws, 1))
        moved = x + s * d
        gap = np.abs(moved).sum(axis=1) - np.abs(x).sum() - (np.sign(moved) * d).sum(axis=1)
        gaps.append(abs(float(gap.mean())))
        allowed.append(4 * float(gap.std()) / draws**0.5 + 1e-12)
    return Verdict(
        "holds" if all(g <= a for g, a in zip(gaps, allowed, strict=True)) else "refuted",
        measured=max(gaps),
        expected="a mean difference of at most 4 standard errors at every pair",
        evidence={"draws": draws, "largest difference allowed": max(allowed)},
    )


def batch_follows_the_gradient(adapt: bool, size: Size) -> Verdict:
    """Judge whether the batch grows like 1 / |gradient|^2 on w^2 / 2 with unit noise a sample."""
    rng, method, batch = np.random.default_rng(4), AdAdaGrad(lr=20.0), 16
    w = 10 * np.ones((4, 3))
    state = method.init(w)
    sizes: list[int] = []
    norms: list[float] = []
    limit = 20_000 if size == "smoke" else 1_000_000
    while batch < limit and len(sizes) < 200:
        samples = w + rng.standard_normal((batch, 4, 3))
        sizes.append(batch)
        norms.append(float((w**2).sum()))
        w, state = method.step(w, samples.mean(axis=0), state)
        batch = method.next_batch(samples) if adapt else batch
    moving = [i for i, b in enumerate(sizes) if b > 16 or not adapt]
    slope = float(np.polyfit(np.log([norms[i] for i in moving]), np.log([sizes[i] for i in moving]), 1)[0])
    return Verdict(
        "holds" if -1.3 <= slope <= -0.7 else "refuted",
        measured=slope,
        expected="exponent -1 of the batch in the squared gradient norm, within 0.3",
        evidence={"steps": len(sizes), "samples": float(sum(sizes)), "last batch": sizes[-1]},
    )


CLAIMS = (
    Claim(
        "amsgrad-periodic", "reddi2018convergence",
        "On the periodic online problem AMSGrad ends at the best point.",
        functools.partial(solves_the_periodic_problem, AMSGrad(beta1=0.0, beta2=1 / 17, variant="paper")),
        functools.partial(solves_the_periodic_problem, Adam(beta1=0.0, beta2=1 / 17)),
        "Adam, which ends at the worst point", "refuted",
    ),
    Claim(
        "momentum-speeds-norm-growth", "heo2021adamp",
        "Momentum makes scale-invariant weights grow by more than their squared steps.",
        functools.partial(cross_term_is_positive, HeavyBall(lr=0.1, momentum=0.9)),
        functools.partial(cross_term_is_positive, SGDP(lr=0.1, momentum=0.9, eps=0.0, delta=1e3)),
        "SGDP, which projects every step", "refuted",
    ),
    Claim(
        "adafactor-best-rank-one", "ours, on shazeer2018adafactor",
        "Adafactor's second moment is the nearest rank-one matrix in the Frobenius norm.",
        functools.partial(best_rank_one, frobenius_loss),
        functools.partial(best_rank_one, divergence),
        "the I-divergence, which it minimizes", "holds",
    ),
    Claim(
        "lookahead-variance", "zhang2019lookahead",
        "The slow weights of Lookahead over gradient descent have the closed stationary variance of the paper.",
        functools.partial(has_variance, lookahead_variance),
        functools.partial(has_variance, lambda lr, pull, period: 1.0),
        "the variance of gradient descent itself", "refuted",
    ),
    Claim(
        "lookahead-mean-rate", "ours, on zhang2019lookahead",
        "Lookahead lowers the variance without slowing the mean.",
        functools.partial(contracts_like_its_inner, 0.5), functools.partial(contracts_like_its_inner, 1.0),
        "a pull of one, which is gradient descent", "holds",
    ),
    Claim(
        "random-scaling-identity", "zhang2024random",
        "With exponential step lengths the mean change of a function is the mean of gradient times displacement.",
        functools.partial(scaling_identity, True),
        functools.partial(scaling_identity, False),
        "steps of length one", "refuted",
    ),
    Claim(
        "adadagrad-batch-growth", "ours, on lau2024adadagrad",
        "The norm test makes the batch grow like the inverse square of the gradient.",
        functools.partial(batch_follows_the_gradient, True),
        functools.partial(batch_follows_the_gradient, False),
        "a fixed batch", "refuted",
    ),
)  # fmt: skip
