"""L2 to L4 in discrete time: approach to the constraint set, the KKT score and its bounds.

All constants are ours. S(X) = |grad f|_* + lambda <grad f, X> is the score: nonnegative inside the ball of radius
1 / lambda and zero exactly at a KKT point.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterator
from typing import Any

import numpy as np

from .. import convex
from ..arrays import to_host
from ..convex import NormFunction
from ..loop import Trace, run
from ..methods.lion_k import LionK
from ..problems import Gaussian, digits, quadratic
from ..problems.curvature import expansion
from .batched import Job, run_together
from .certificates import prove
from .contract import Assumption, Case, Size, Theorem
from .descent import EVERY_STEP, NO_NOISE, SMOOTH, prefix_mean
from .rates import upper_mean

RECORD = ("value", "gradient_norm", "gradient_inner", "weight_norm", "iterate")


def score(trace: Trace) -> np.ndarray:
    """Return S(X_k) = |grad f(X_k)|_* + lambda <grad f(X_k), X_k>, before each step."""
    return trace["gradient_norm"] + trace.method.weight_decay * trace["gradient_inner"]


def score_bound(trace: Trace, descent_share: float = 1.0) -> np.ndarray:
    """Return (f_0 - f_K) / (lr K) + 2 L lr + 4 L lr beta1 / (1 - beta2) for K = 1, ..., steps."""
    o = trace.method
    smoothness = float(trace.problem.smoothness(o.norm))
    steps = np.arange(1, trace.steps + 1)
    value = trace["value"]
    drift = 2 * smoothness * o.lr + 4 * smoothness * o.lr * o.beta1 / (1 - o.beta2)
    return descent_share * (value[0] - value[1:]) / (o.lr * steps) + drift


def distance_to_set(trace: Trace) -> np.ndarray:
    """Return the Frobenius distance of each iterate to (1 / lambda) times the closure of dom K*."""
    return to_host(trace.method.k.distance(trace["iterate"], 1 / trace.method.weight_decay))


def _contraction(trace: Trace, power: float = 1.0) -> np.ndarray:
    rate = 1 - trace.method.lr * trace.method.weight_decay
    return rate ** (power * trace.k) * distance_to_set(trace)[0]


def _distance_floor(side):
    # A distance below rounding of the iterates counts as zero on both sides.
    return lambda trace: np.maximum(side(trace), 1e-12 * np.max(np.abs(trace["iterate"][0])))


def kkt_residuals(trace: Trace) -> np.ndarray:
    """Return two residuals that must equal the score, shape (2, records).

    lambda times the Frank-Wolfe gap <g, X - V> at the vertex V = R lmo(g), R = 1 / lambda; and Fenchel-Young's
    residual K(-g) + K*(lambda X) + <g, lambda X> of the optimality condition lambda X in dK(-g).
    """
    o, x = trace.method, trace["iterate"]
    g = to_host(trace.problem.grad(x))
    vertex = o.norm.lmo(g) / o.weight_decay
    gap = o.weight_decay * np.sum(g * (x - vertex), axis=(-2, -1))
    fenchel = o.k.value(-g) + o.k.conjugate(o.weight_decay * x) + o.weight_decay * np.sum(g * x, axis=(-2, -1))
    return np.stack([gap, fenchel])


def _norm_functions() -> dict[str, Any]:
    return {name: convex.make(name) for name in ("l1", "nuclear", "l2", "row-sum", "ky-fan", "spectral")}


def _inside_cases(size: Size) -> Iterator[tuple[str, Trace]]:
    steps, decay = 300 if size == "smoke" else 1500, 0.7
    jobs: list[Job] = []
    starts = []
    for name, k in _norm_functions().items():
        for seed in range(1 if size == "smoke" else 4):
            problem = quadratic(
                rows=5, columns=4, left_condition=10.0, alignment="generic", basis="standard", seed=seed
            )
            for lr, beta1, beta2 in ((0.02, 0.9, 0.9), (0.05, 0.9, 0.99), (0.05, 0.0, 0.0)):
                method = LionK(k, lr=lr, beta1=beta1, beta2=beta2, weight_decay=decay, warm_start=True)
                jobs.append((f"K = {name}, lr {lr}, betas {beta1}, {beta2}, seed {seed}", problem, method, steps))
                starts.append(problem.start * 0.5 / (decay * float(k.ball.value(problem.start))))
    real = digits()
    jobs.append(("digits, K = nuclear", real, LionK("nuclear", lr=0.02, weight_decay=0.5, warm_start=True), steps // 5))
    yield from run_together(jobs, RECORD, [*starts, real.start])


def _outside_cases(size: Size) -> Iterator[tuple[str, Trace]]:
    for name in ("l1", "nuclear", "l2", "row-sum", "ky-fan", "spectral", "huber", "sqrt-nuclear", "log-cosh"):
        for seed in range(2 if size == "smoke" else 10):
            problem = quadratic(rows=4, columns=3, alignment="generic", seed=seed)
            k: Any = convex.make(name)
            method = LionK(k, lr=0.1, weight_decay=0.5)
            start = problem.start * 8.0 / (0.5 * float(k.ball.value(problem.start)))
            yield f"K = {name}, seed {seed}", run(problem, method, 80, record=RECORD, start=start)


def _is_warm_lion_k_of_a_norm(case: Case) -> bool:
    return isinstance(case.method, LionK) and isinstance(case.method.k, NormFunction) and case.method.warm_start


def _stays_inside(case: Case) -> bool:
    return bool(np.all(case["weight_norm"] * case.method.weight_decay <= 1 + 1e-12))


INSIDE = Assumption("the iterates lie in the ball of radius 1 / lambda", _stays_inside)
SHORT_STEPS = Assumption("lr lambda <= 1", lambda t: t.method.lr * t.method.weight_decay <= 1)

lion_k_contraction = Theorem(
    label="lion-k-contraction",
    title="Discrete Lion-K approaches its constraint set",
    statement=r"\operatorname{dist}(X_k,C)\le(1-\eta\lambda)^k\operatorname{dist}(X_0,C)"
    r"\quad\text{for any directions in dom}\,K^*",
    assumes=(
        SHORT_STEPS,
        Assumption("the conjugate of K has a bounded domain", lambda t: t.method.k.ball is not None),
    ),
    kind="upper",
    lhs=_distance_floor(distance_to_set),
    rhs=_distance_floor(_contraction),
    cases=_outside_cases,
    broken=lambda t: dataclasses.replace(t, rhs=_distance_floor(lambda trace: _contraction(trace, power=2.0))),
    mistake="twice the rate",
    source="ours",
    tolerance=1e-9,
    reason="rounding of the iterates, which are ten times the distance",
)

lion_k_discrete = Theorem(
    label="lion-k-discrete",
    title="The KKT score of Lion-K",
    statement=(
        r"\frac1K\sum_{k<K}S(X_k)\le\frac{f(X_0)-f(X_K)}{\eta K}+2L\eta+\frac{4L\eta\beta_1}{1-\beta_2},\qquad "
        r" S(X)=\|\nabla f(X)\|_*+\lambda\langle\nabla f(X),X\rangle"
    ),
    assumes=(
        Assumption("the method is Lion-K of a norm that starts at the first gradient", _is_warm_lion_k_of_a_norm),
        INSIDE, SHORT_STEPS, NO_NOISE, SMOOTH, EVERY_STEP,
    ),
    kind="upper",
    lhs=lambda t: prefix_mean(score(t)[:-1]),
    rhs=score_bound,
    cases=_inside_cases,
    broken=lambda t: dataclasses.replace(t, rhs=lambda trace: score_bound(trace, descent_share=0.9)),
    mistake="a tenth less of the descent",
    source="ours",
    proof=functools.partial(prove, "lion-k-discrete"),
)  # fmt: skip

lion_k_score = Theorem(
    label="lion-k-score",
    title="Three equal residuals of the constrained problem",
    statement=(
        r"S(X)=\lambda\max_{\|V\|\le1/\lambda}\langle\nabla f(X),X-V\rangle"
        r"=K(-\nabla f(X))+K^*(\lambda X)+\langle\nabla f(X),\lambda X\rangle"
    ),
    assumes=(Assumption("K is a norm", lambda t: isinstance(t.method.k, NormFunction)), INSIDE),
    kind="identity",
    lhs=lambda t: kkt_residuals(t) + t["gradient_norm"],
    rhs=lambda t: np.stack([score(t), score(t)]) + t["gradient_norm"],
    cases=lambda size: _inside_cases("smoke"),  # an identity at each of 5,000 iterates
    broken=lambda t: dataclasses.replace(t, rhs=lambda trace: _wrong_conjugate(trace)),
    mistake="the primal norm of the gradient in place of the dual one",
    source="ours",
    tolerance=1e-12,
    reason="both sides are shifted by the dual gradient norm, so that rounding is relative to the terms of the score",
)


def _wrong_conjugate(trace: Trace) -> np.ndarray:
    g = to_host(trace.problem.grad(trace["iterate"]))
    wrong = trace.method.norm.value(g) + trace.method.weight_decay * trace["gradient_inner"]
    return np.stack([wrong, wrong]) + trace["gradient_norm"]


def averaging_variance(beta1: float, beta2: float) -> float:
    """Return v, the stationary sum of squared weights in the mix C of independent gradients."""
    return (1 - beta1) ** 2 + beta1**2 * (1 - beta2) / (1 + beta2)


def squared_weights(betas: tuple[float, float]) -> np.ndarray:
    """Return the sum of squared weights of the mix, counted from its definition over a long memory."""
    beta1, beta2 = betas
    memory = np.arange(int(40 / (1 - beta2)) + 1)
    return np.asarray([(1 - beta1) ** 2 + np.sum((beta1 * (1 - beta2) * beta2**memory) ** 2)])


def prove_best_mix() -> list[str]:
    """Prove with SymPy that v is least at beta1 = (1 + beta2) / 2, where it is (1 - beta2) / 2."""
    import sympy

    b1, b2 = sympy.symbols("beta_1 beta_2", positive=True)
    v = (1 - b1) ** 2 + b1**2 * (1 - b2) / (1 + b2)
    (best,) = sympy.solve(sympy.diff(v, b1), b1)
    residuals = [sympy.simplify(best - (1 + b2) / 2), sympy.simplify(v.subs(b1, best) - (1 - b2) / 2)]
    curvature = sympy.simplify(sympy.diff(v, b1, 2) - 4 / (1 + b2))
    if any(r != 0 for r in (*residuals, curvature)):
        raise ArithmeticError(f"the best mix is not (1 + beta2) / 2: residuals {residuals}, {curvature}")
    return [
        f"v={sympy.latex(v)}",
        f"\\beta_1={sympy.latex(best)}",
        f"v={sympy.latex(sympy.simplify(v.subs(b1, best)))}",
    ]


def _random_betas(rng: np.random.Generator) -> tuple[str, tuple[float, float]]:
    b = tuple(rng.uniform(0.0, 0.999, size=2).tolist())
    return f"betas {b}", b


lion_k_mix = Theorem(
    label="lion-k-mix",
    title="The noise that Lion-K's mix lets through",
    statement=(
        r"v=(1-\beta_1)^2+\beta_1^2\frac{1-\beta_2}{1+\beta_2}\ \text{is least at}\ \beta_1=\tfrac{1+\beta_2}{2},"
        r"\ \text{where}\ v=\tfrac{1-\beta_2}{2}"
    ),
    assumes=(Assumption("both factors lie in [0, 1)", lambda b: 0 <= b[0] < 1 and 0 <= b[1] < 1),),
    kind="identity",
    lhs=squared_weights,
    rhs=lambda b: np.asarray([averaging_variance(*b)]),
    sample=_random_betas,
    cases=lambda size: [(f"betas {b}", b) for b in ((0.9, 0.99), (0.0, 0.9), (0.95, 0.9), (0.5, 0.5), (0.995, 0.99))],
    broken=lambda t: dataclasses.replace(t, rhs=lambda b: np.asarray([averaging_variance(b[1], b[0])])),
    mistake="the two factors exchanged",
    source="ours",
    tolerance=1e-12,
    reason="the memory is cut where its weights fall below rounding",
    proof=prove_best_mix,
)


def _upper_mean_score(trace: Trace) -> np.ndarray:
    """Return the upper confidence end of the mean over seeds of the prefix mean score."""
    return upper_mean(prefix_mean(score(trace)[:-1]))


def _noisy_bound(trace: Trace, descent_share: float = 1.0) -> np.ndarray:
    o = trace.method
    form = trace.problem.form
    sigma = trace.problem.noise.sigma * np.sqrt(np.prod(form.shape))
    rho = expansion(o.norm.dual_norm, form)
    smoothness = float(trace.problem.smoothness(o.norm))
    steps = np.arange(1, trace.steps + 1)
    descent = (trace["value"][0].mean() - trace["value"][1:].mean(axis=1)) / (o.lr * steps)
    drift = 2 * smoothness * o.lr + 4 * smoothness * o.lr * o.beta1 / (1 - o.beta2)
    noise = 2 * rho * sigma * (np.sqrt(averaging_variance(o.beta1, o.beta2)) + o.beta1 / ((1 - o.beta2) * steps))
    return descent_share * descent + drift + noise


def _noisy_cases(size: Size) -> Iterator[tuple[str, Trace]]:
    seeds, steps = 20, 300 if size == "smoke" else 1500
    for name in ("l1", "nuclear", "l2"):
        k: Any = convex.make(name)
        for sigma, beta1, beta2 in ((3.0, 0.9, 0.9), (3.0, 0.95, 0.9), (1e-4, 0.5, 0.5)):
            problem = quadratic(rows=4, columns=3, basis="standard", alignment="generic", noise=Gaussian(sigma))
            start = np.broadcast_to(problem.start * 0.5 / float(k.ball.value(problem.start)), (seeds, 4, 3)).copy()
            method = LionK(k, lr=1e-4, beta1=beta1, beta2=beta2, weight_decay=1.0, warm_start=True)
            trace = run(problem, method, steps if sigma > 1 else 100, record=RECORD, start=start)
            yield f"K = {name}, betas {beta1}, {beta2}, sigma {sigma}, {seeds} seeds", trace


lion_k_stochastic = Theorem(
    label="lion-k-stochastic",
    title="The KKT score of Lion-K under noise",
    statement=(
        r"\frac1K\sum_{k<K}\mathbb{E}\,S(X_k)\le\frac{\Delta}{\eta K}+2L\eta+\frac{4L\eta\beta_1}{1-\beta_2}"
        r"+2\rho\sigma\sqrt v+\frac{2\rho\sigma\beta_1}{(1-\beta_2)K}"
    ),
    assumes=(
        Assumption("the method is Lion-K of a norm that starts at the first gradient", _is_warm_lion_k_of_a_norm),
        Assumption("the noise is Gaussian, E|noise|_F^2 = sigma^2", lambda t: isinstance(t.problem.noise, Gaussian)),
        Assumption("there are 20 independent seeds", lambda t: t["value"].shape[1:] == (20,)),
        INSIDE, SHORT_STEPS, SMOOTH, EVERY_STEP,
    ),
    kind="upper",
    lhs=_upper_mean_score,
    rhs=_noisy_bound,
    cases=_noisy_cases,
    broken=lambda t: dataclasses.replace(t, rhs=lambda trace: _noisy_bound(trace, descent_share=0.9)),
    mistake="a tenth less of the descent, where the noise is weak",
    source="ours",
)  # fmt: skip

THEOREMS = (
    lion_k_contraction, lion_k_discrete, lion_k_stochastic, lion_k_mix, lion_k_score,
)  # fmt: skip
