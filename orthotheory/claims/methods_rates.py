"""Claims on rates: FISMO at a fixed batch, AdAdaGrad by iterations, adaptive memory, random scaling."""

from __future__ import annotations

import dataclasses
import functools

import numpy as np

from ..loop import run
from ..methods import FISMO, AdAdaGrad, AdaptiveMemory, GradientDescent, HeavyBall, Method, RandomScaling
from ..problems import Gaussian, quadratic
from ..theory.contract import Size
from ..theory.rates import fit_exponent, upper_mean
from .contract import Claim, Verdict

# FISMO: mean squared gradient norm against the number of steps, at a rate tuned for each number


def squared_gradient_exponent(method: Method, noise: float, size: Size) -> Verdict:
    """Judge which reading the mean squared gradient norm follows, 1/T or 1/sqrt(T): 95 percent, cut midway at -3/4."""
    seeds, budgets = (4, (25, 50, 100)) if size == "smoke" else (8, (50, 100, 200, 400))
    problem = quadratic(
        rows=4, columns=5, left_condition=10.0, right_condition=3.0, alignment="generic", seed=11, noise=Gaussian(noise)
    )
    rates, found = np.geomspace(0.002, 1.0, 8 if size == "smoke" else 13)[:, None], []
    for steps in budgets:
        trace = run(
            problem, dataclasses.replace(method, lr=rates),  # type: ignore[call-arg]
            steps, record=("gradient_frobenius",), every=5,
            batch=(len(rates), seeds),
        )  # fmt: skip
        squares = (trace["gradient_frobenius"] ** 2).mean(axis=0)
        found.append(squares[squares.mean(axis=1).argmin()])
    fit = fit_exponent(budgets, np.array(found).T)
    return Verdict(
        "holds" if fit.high < -0.75 else "refuted",
        measured=fit.slope,
        expected="an exponent whose upper end is below -3/4",
        evidence={"lower end": fit.low, "upper end": fit.high},
    )


# AdAdaGrad


def gradients_and_samples(seed: int, adapt: bool, limit: int) -> tuple[np.ndarray, np.ndarray]:
    """Return least squared gradient norms and samples used so far, on w^2 / 2 with unit noise a sample."""
    rng, method, batch = np.random.default_rng([1912, seed]), AdAdaGrad(lr=20.0), 16
    w = np.full((4, 3), 10.0)
    state = method.init(w)
    squares: list[float] = []
    used: list[int] = []
    while batch < limit and len(squares) < 40:
        samples = w + rng.standard_normal((batch, *w.shape))
        squares.append(float((w**2).sum()))
        used.append(batch)
        w, state = method.step(w, samples.mean(axis=0), state)
        batch = method.next_batch(samples) if adapt else batch
    return np.minimum.accumulate(squares), np.cumsum(used)


def iterations_suffice(adapt: bool, size: Size) -> Verdict:
    """Judge whether the least squared gradient norm falls at least like 1 / K in the iterations, after the descent."""
    runs = [gradients_and_samples(seed, adapt, 10_000) for seed in range(6 if size == "smoke" else 30)]
    last = min(len(squares) for squares, _ in runs)
    iterations = np.arange(last // 2, last)  # the first half is descent at little noise
    by_iteration = fit_exponent(iterations + 1, np.array([squares[iterations] for squares, _ in runs]))
    low, high = (f(used[i] for _, used in runs) for f, i in ((max, last // 2), (min, last - 1)))
    samples = np.geomspace(low, high, 6)
    interpolated = [np.exp(np.interp(np.log(samples), np.log(used), np.log(squares))) for squares, used in runs]
    by_sample = fit_exponent(samples, np.array(interpolated))
    return Verdict(
        "holds" if by_iteration.high <= -1 else "refuted",
        measured=by_iteration.slope,
        expected="an exponent in the iterations whose upper end is at most -1",
        evidence={
            "upper end, in iterations": by_iteration.high,
            "exponent in samples": by_sample.slope,
            "lower end, in samples": by_sample.low,
            "upper end, in samples": by_sample.high,
        },
    )


# Adaptive memory against momentum tuned on a grid

LEARNING_RATES = np.geomspace(0.05, 3.9, 14)


def needs_no_tuning(momenta: tuple[float, ...], size: Size) -> Verdict:
    """Judge the gap of adaptive memory over that of the best momentum of a grid, both at their best learning rate."""
    ends: list[float] = []
    evidence: dict[str, float] = {}
    for condition in (100.0, 1000.0):
        logs = []
        for seed in range(700, 704 if size == "smoke" else 715):
            problem = quadratic(rows=8, columns=8, left_condition=condition, alignment="generic", seed=seed)
            methods = (AdaptiveMemory(lr=LEARNING_RATES), *(HeavyBall(lr=LEARNING_RATES, momentum=b) for b in momenta))
            own, *others = (
                float(np.nanmin(run(problem, m, 200, record=("gap",), every=200)["gap"][-1])) for m in methods
            )
            logs.append(np.log(own / min(others)))
        ends.append(float(upper_mean(np.array(logs))))
        evidence[f"gap over the best momentum's at condition {condition:g}"] = float(np.exp(np.mean(logs)))
        evidence[f"upper end at condition {condition:g}"] = float(np.exp(ends[-1]))
    return Verdict(
        "holds" if max(ends) < 0 else "refuted",
        measured=float(np.exp(max(ends))),
        expected="a ratio of gaps after 200 steps (geometric mean) whose upper end is below 1",
        evidence=evidence,
    )


# Random scaling on a function with a kink


def gradient_over_neighborhood_falls(average: bool, size: Size) -> Verdict:
    """Judge whether the gradient of sum |w_i|, averaged over the last N iterates, falls with N: exponent below -1/2."""
    windows, runs = (50, 100, 200, 400), 6 if size == "smoke" else 30
    method = RandomScaling(lr=0.01, momentum=0.9, seed=77)
    w = np.random.default_rng(77).standard_normal((runs, 1, 10))
    state, grads, path = method.init(w), [], []
    for _ in range(300 + max(windows)):
        grads.append(np.sign(w))
        path.append(w)
        w, state = method.step(w, grads[-1], state)
    last = np.array(grads)
    means = np.array(
        [
            np.linalg.norm(last[-n:].mean(axis=0)[:, 0], axis=-1)
            if average
            else np.linalg.norm(last[-n:, :, 0], axis=-1).mean(axis=0)
            for n in windows
        ]
    )
    fit = fit_exponent(windows, means.T)
    spread = float(np.sqrt(np.mean(np.var(np.array(path)[-max(windows) :], axis=0))))
    return Verdict(
        "holds" if fit.high < -0.5 else "refuted",
        measured=fit.slope,
        expected="an exponent in N whose upper end is below -1/2",
        evidence={"upper end": fit.high, "norm at the longest window": float(means[-1].mean()), "spread": spread},
    )


CLAIMS = (
    Claim(
        "fismo-rate", "xu2026fismo, the abstract without its root",
        "At a fixed batch the mean squared gradient norm falls like 1/T.",
        functools.partial(squared_gradient_exponent, FISMO(momentum=0.0), 0.3),
        functools.partial(squared_gradient_exponent, GradientDescent(), 0.0),
        "gradient descent on exact gradients", "holds",
    ),
    Claim(
        "adadagrad-iterations", "lau2024adadagrad, abstract",
        "With batches from the norm test the least squared gradient falls at least like 1/K in the iterations.",
        functools.partial(iterations_suffice, True), functools.partial(iterations_suffice, False),
        "a fixed batch", "refuted",
    ),
    Claim(
        "adaptive-memory-needs-no-tuning", "topollai2025adaptive, in our reconstruction",
        "The adaptive factor reaches a smaller gap on quadratics than the best fixed momentum of a grid.",
        functools.partial(needs_no_tuning, (0.0, 0.5, 0.8, 0.9, 0.95)), functools.partial(needs_no_tuning, (0.0,)),
        "no momentum in place of the grid", "holds",
    ),
    Claim(
        "random-scaling-neighborhood", "zhang2024random",
        "On a function with a kink the gradient averaged over nearby iterates vanishes.",
        functools.partial(gradient_over_neighborhood_falls, True),
        functools.partial(gradient_over_neighborhood_falls, False),
        "the gradient at each iterate", "refuted",
    ),
)  # fmt: skip
