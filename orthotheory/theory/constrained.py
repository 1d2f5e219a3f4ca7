"""T3, T6 and the iterate bound: weight decay turns a trust region into a Frank-Wolfe method on a norm ball.

All constants are ours. With R = 1 / lambda and gamma = lr lambda the step is X+ = (1 - gamma) X + gamma R lmo(M).
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterator
from typing import Any

import numpy as np

from ..loop import Trace, run
from ..methods import Muon, TrustRegion
from ..polar import MUON_QUINTIC
from ..problems import Constrained, KroneckerQuadratic, digits_budget, projection, quadratic, spectral_face, star_convex
from .batched import Job, run_together
from .certificates import prove
from .contract import Assumption, Case, Size, Theorem
from .descent import EVERY_STEP, NO_NOISE, SINGLE, SMOOTH, prefix_mean
from .lion_k import INSIDE, RECORD, SHORT_STEPS, score

BALLS = ("spectral", "nuclear", "max-entry", "row-max", "frobenius")


def _frank_wolfe_bound(trace: Trace, power: float = 1.0) -> np.ndarray:
    o = trace.method
    step, radius = o.lr * o.weight_decay, 1 / o.weight_decay
    smoothness = float(trace.problem.smoothness(o.norm))
    start = trace["value"][0] - trace.problem.optimal_value
    return (1 - step) ** (power * np.arange(1, trace.steps + 1)) * start + 2 * smoothness * radius**2 * step


def _constrained_problems(size: Size) -> Iterator[tuple[str, Constrained]]:
    seeds = range(1 if size == "smoke" else 4)
    for seed in seeds:
        for ball in BALLS:
            yield f"projection on the {ball} ball, seed {seed}", projection(ball=ball, scale=2.0, seed=seed)
        for location in ("inside", "face", "vertex"):
            yield f"quadratic with its optimum {location}, seed {seed}", spectral_face(location=location, seed=seed)
        yield f"star-convex and not convex, seed {seed}", star_convex(seed=seed)
    yield "digits with a spectral budget", digits_budget()


def _constrained_cases(size: Size, momentum: float) -> Iterator[tuple[str, Trace]]:
    steps = 300 if size == "smoke" else 1000
    jobs: list[Job] = []
    for text, problem in _constrained_problems(size):
        for step in (0.01, 0.1):
            decay = 1 / problem.radius
            method = TrustRegion(problem.ball, lr=step / decay, weight_decay=decay, momentum=momentum)
            jobs.append((f"{text}, gamma {step}", problem, method, steps // 10 if "digits" in text else steps))
    yield from run_together(jobs, RECORD)


def _has_the_ball_of_the_decay(case: Case) -> bool:
    problem, o = case.problem, case.method
    return (
        isinstance(problem, Constrained) and problem.ball == o.norm and np.isclose(problem.radius * o.weight_decay, 1)
    )


def _is_star_convex_along_the_run(case: Case) -> bool:
    problem: Any = case.problem
    x = case["iterate"]
    pairing = np.sum(problem.grad(x) * (x - problem.optimum), axis=(-2, -1))
    gap = case["value"] - problem.optimal_value
    return bool(np.all(pairing >= gap - 1e-9 * (1 + np.abs(case["value"]))))


DECAYED = Assumption(
    "the method is a trust region with weight decay",
    lambda t: isinstance(t.method, TrustRegion) and t.method.weight_decay > 0,
)
MEMORYLESS = Assumption("there is no momentum", lambda t: t.method.momentum == 0)
SAME_BALL = Assumption(
    "the feasible set is the ball of radius 1 / lambda in the method's norm", _has_the_ball_of_the_decay
)
STAR_CONVEX = Assumption("f is star-convex around the minimizer, tested at the iterates", _is_star_convex_along_the_run)

constrained_star_convex = Theorem(
    label="constrained-star-convex",
    title="Weight decay makes a trust region a Frank-Wolfe method",
    statement=(
        r"f(X_K)-f^*\le(1-\gamma)^K\bigl(f(X_0)-f^*\bigr)+2LR^2\gamma,\qquad "
        r" X_{k+1}=(1-\gamma)X_k+\gamma R\,\mathrm{lmo}(\nabla f(X_k)),\ R=1/\lambda,\ \gamma=\lambda\eta"
    ),
    assumes=(SINGLE, DECAYED, MEMORYLESS, SAME_BALL, STAR_CONVEX, INSIDE, SHORT_STEPS, NO_NOISE, SMOOTH, EVERY_STEP),
    kind="upper",
    lhs=lambda t: (t["value"] - t.problem.optimal_value)[1:],
    rhs=_frank_wolfe_bound,
    cases=lambda size: _constrained_cases(size, momentum=0.0),
    broken=lambda t: dataclasses.replace(t, rhs=lambda trace: _frank_wolfe_bound(trace, power=1.5)),
    mistake="one and a half times the rate, (1 - gamma)^(3K/2)",
    source="ours; form as in [kovalev2025understanding]",
    proof=functools.partial(prove, "constrained-star-convex"),
)


def _scion_bound(trace: Trace, descent_share: float = 1.0) -> np.ndarray:
    o = trace.method
    step, radius = o.lr * o.weight_decay, 1 / o.weight_decay
    smoothness = float(trace.problem.smoothness(o.norm))
    value = trace["value"]
    descent = (value[0] - value[1:]) / (step * np.arange(1, trace.steps + 1))
    drift = 2 * smoothness * radius**2 * step * (1 + 2 * o.momentum / (1 - o.momentum))
    return descent_share * descent + drift


scion_constrained = Theorem(
    label="scion-constrained",
    title="The Frank-Wolfe gap of constrained Scion",
    statement=(
        r"\frac1K\sum_{k<K}\max_{\|V\|\le R}\langle\nabla f(X_k),X_k-V\rangle\le\frac{f(X_0)-f(X_K)}{\gamma K}"
        r"+2LR^2\gamma\Bigl(1+\frac{2\beta}{1-\beta}\Bigr)"
    ),
    assumes=(SINGLE, DECAYED, SAME_BALL, INSIDE, SHORT_STEPS, NO_NOISE, SMOOTH, EVERY_STEP),
    kind="upper",
    lhs=lambda t: prefix_mean(score(t)[:-1]) / t.method.weight_decay,
    rhs=_scion_bound,
    cases=lambda size: _constrained_cases(size, momentum=0.9),
    broken=lambda t: dataclasses.replace(t, rhs=lambda trace: _scion_bound(trace, descent_share=0.9)),
    mistake="a tenth less of the descent",
    source="ours; the method is [pethick2025training]'s",
)

QUINTIC_TOP = MUON_QUINTIC.image(0.0, 1.0)[1]


def _iterate_bound(trace: Trace, top: float) -> np.ndarray:
    o = trace.method
    shrink = (1 - o.lr * o.weight_decay) ** trace.k
    return shrink * trace["weight_norm"][0] + (1 - shrink) * top / o.weight_decay


def _quintic_cases(size: Size) -> Iterator[tuple[str, Trace]]:
    method = Muon(lr=0.1, weight_decay=0.5, plan="muon-quintic", shape_factor="none")
    for seed in range(2 if size == "smoke" else 10):
        problem = quadratic(rows=6, columns=5, alignment="generic", seed=seed)
        yield f"quadratic, seed {seed}", run(problem, method, 200, record=RECORD)
    # A nearly constant gradient on whose spectrum five steps of the quintic come close to their largest value.
    grid = np.geomspace(1e-4, 1.0, 200_001)
    worst = grid[np.argmax(MUON_QUINTIC.singular_value_map(grid))]
    far = -1e6 * np.diag([np.sqrt(1 - worst**2), worst, 0.0])
    problem = KroneckerQuadratic(np.eye(3), np.eye(3), far, np.zeros((3, 3)))
    yield "far target", run(problem, method, 200, record=RECORD)


def _is_decayed_quintic(case: Case) -> bool:
    o = case.method
    return isinstance(o, Muon) and o.plan == "muon-quintic" and o.shape_factor == "none" and o.weight_decay > 0


iterate_bound_quintic = Theorem(
    label="iterate-bound-quintic",
    title="Where Muon's iterates stay with an inexact polar factor",
    statement=r"\|X_k\|_2\le(1-\eta\lambda)^k\|X_0\|_2+\bigl(1-(1-\eta\lambda)^k\bigr)\,\hat p/\lambda,\qquad "
    r"\hat p=\max_{[0,1]}p",
    assumes=(
        SHORT_STEPS,
        Assumption("the method is Muon with the quintic, no shape factor and weight decay", _is_decayed_quintic),
    ),
    kind="upper",
    lhs=lambda t: t["weight_norm"],
    rhs=lambda t: _iterate_bound(t, QUINTIC_TOP),
    cases=_quintic_cases,
    broken=lambda t: dataclasses.replace(t, rhs=lambda trace: _iterate_bound(trace, 1.0)),
    mistake="1 in place of the polynomial's maximum, as for the exact polar factor",
    source="ours; the coefficients are [jordan2024muon]'s",
)  # fmt: skip


THEOREMS = (constrained_star_convex, scion_constrained, iterate_bound_quintic)
