"""Descent along an aggregated gradient: what no objective loses, and how fast Pareto criticality is approached.

The rates are ours, with explicit constants and without convexity; that UPGrad converges to the Pareto front on convex
objectives is a result of [quinton2024jacobian].
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from ..loop import Trace, run
from ..methods import GradientDescent
from ..methods.surgery import Surgery
from ..norms import Frobenius
from ..problems import Fonseca, MultiObjective, Quadratics, fonseca, pareto_quadratics, squares
from ..surgery import MGDA, UPGrad, make
from .batched import split
from .contract import Assumption, Case, Size, Theorem
from .descent import EVERY_STEP, NO_NOISE, SINGLE, prefix_mean

RECORD = ("value", "values", "step_norm", "stationarity")


def total_smoothness(problem: MultiObjective) -> float:
    """Return L of the sum of the objectives, in the Frobenius norm."""
    return problem.objectives * float(problem.smoothness(Frobenius()))


def largest_smoothness(problem: MultiObjective) -> float:
    """Return the largest L of one objective, in the Frobenius norm."""
    return max(float(problem.smoothness_of(i)) for i in range(problem.objectives))


def update_norms(trace: Trace) -> np.ndarray:
    """Return |x_k|_F of the aggregated gradients, from the steps lr x_k."""
    return trace["step_norm"][:-1] / _lr(trace)


def root_mean_square(trace: Trace) -> np.ndarray:
    """Return ((1/K) sum_{k<K} |x_k|^2)^1/2 for K = 1, ..., steps."""
    return np.sqrt(prefix_mean(update_norms(trace) ** 2))


def least_criticality(trace: Trace) -> np.ndarray:
    """Return min_{k<K} of the distance of 0 to the hull of the gradients, for K = 1, ..., steps."""
    return np.minimum.accumulate(trace["stationarity"][:-1])


def both_sides(trace: Trace) -> np.ndarray:
    """Return the two left sides, shape (2, steps)."""
    return np.stack([least_criticality(trace), root_mean_square(trace)])


def upgrad_bound(trace: Trace, smoothness_share: float = 1.0) -> np.ndarray:
    """Return (2 L Delta / K)^1/2 for K = 1, ..., steps, once for each left side."""
    problem, steps = trace.problem, np.arange(1, trace.steps + 1)
    gap = problem.objectives * (trace["value"][0] - float(problem.optimal_value or 0.0))
    return np.tile(np.sqrt(2 * smoothness_share * total_smoothness(problem) * gap / steps), (2, 1))


def mgda_bound(trace: Trace, smoothness_share: float = 1.0) -> np.ndarray:
    """Return (Delta / (K lr (1 - L lr / 2)))^1/2 for K = 1, ..., steps, once for each left side."""
    problem, lr, steps = trace.problem, _lr(trace), np.arange(1, trace.steps + 1)
    gap = float(np.min(trace["values"][0] - np.asarray(problem.minima)))
    slope = lr * (1 - smoothness_share * largest_smoothness(problem) * lr / 2)
    return np.tile(np.sqrt(gap / (slope * steps)), (2, 1))


def _lr(trace: Trace) -> float:
    return float(trace.method.optimizer.lr)


def opposed(strength: float, share: float = 1e-4) -> Quadratics:
    """Return two quadratics that pull apart along x with `strength` and fall together along y: UPGrad is then slowest.

    UPGrad's update is (0, 2 y) up to 1 / strength^2, the gradient of the sum, and gradient descent on the sum solves
    the quadratic in y in one step: the bound for K = 1 is attained in the limit.
    """
    curvature = np.array([np.diag([share, 1.0])] * 2)
    centers = np.array([[[-strength / share], [0.0]], [[strength / share], [0.0]]])
    return Quadratics(curvature, centers, np.array([[0.0], [1.0]]))


def twins() -> Quadratics:
    """Return one isotropic quadratic twice: MGDA is gradient descent, and one step of lr = 1 / L attains its bound."""
    centers = np.zeros((2, 2, 1))
    return Quadratics(np.array([np.eye(2)] * 2), centers, np.array([[0.6], [0.8]]))


def problems_of(size: Size) -> Iterator[tuple[str, MultiObjective]]:
    """Return multi-objective problems: convex and not, two to five objectives, conflicting in all degrees."""
    seeds = range(1 if size == "smoke" else 2)
    for seed in seeds:
        for m in (2, 3, 5):
            yield f"{m} generic quadratics, seed {seed}", pareto_quadratics(objectives=m, rows=4, columns=2, seed=seed)
        shared = pareto_quadratics(objectives=3, rows=3, curvature="shared", scale_ratio=100.0, seed=seed)
        yield f"3 quadratics of scales 1 to 0.01, seed {seed}", shared
        yield f"element-wise squares, seed {seed}", squares(size=4, scale_ratio=10.0, seed=seed)
        yield f"Fonseca, seed {seed}", fonseca(size=3, seed=seed)


def _upgrad_cases(size: Size) -> Iterator[tuple[str, Trace]]:
    steps = 80 if size == "smoke" else 300
    for text, problem in problems_of(size):
        method = Surgery(UPGrad(), GradientDescent(lr=1 / total_smoothness(problem)))
        yield text, run(problem, method, steps, record=RECORD)
    tight = opposed(1e3)
    yield "opposed", run(tight, Surgery(UPGrad(), GradientDescent(lr=1 / total_smoothness(tight))), 1, record=RECORD)


def _mgda_cases(size: Size) -> Iterator[tuple[str, Trace]]:
    steps = 60 if size == "smoke" else 300
    for text, problem in problems_of(size):
        shares = np.array([1.0, 1.6])
        lrs = shares / largest_smoothness(problem)
        both = run(problem, Surgery(MGDA(), GradientDescent(lr=lrs)), steps, record=RECORD, batch=(2,))
        methods = [Surgery(MGDA(), GradientDescent(lr=float(lr))) for lr in lrs]
        for share, trace in zip(shares, split(both, [problem] * 2, methods), strict=True):
            yield f"{text}, lr {share} / L", trace
    yield "twins", run(twins(), Surgery(MGDA(), GradientDescent(lr=1.0)), 1, record=RECORD)


class Candidate(NamedTuple):
    """A problem, a point and an aggregated gradient there, for the largest step that no objective minds."""

    problem: MultiObjective
    w: np.ndarray
    update: np.ndarray  # X, of the shape of w

    def first_order(self) -> np.ndarray:
        """Return <g_i, X>, shape (m,)."""
        return np.sum(self.problem.jacobian(self.w) * self.update, axis=(-2, -1))

    def largest_lr(self) -> float:
        """Return min_i 2 <g_i, X> / (L_i |X|^2)."""
        constants = np.array([float(self.problem.smoothness_of(i)) for i in range(self.problem.objectives)])
        return max(float(np.min(2 * self.first_order() / constants) / np.sum(self.update**2)), 0.0)

    def conflicts(self) -> bool:
        """Say whether an objective rises to first order, beyond the rounding of an inner product that is 0."""
        lengths = np.linalg.norm(self.problem.jacobian(self.w), axis=(-2, -1)) * np.linalg.norm(self.update)
        return bool((self.first_order() < -1e-13 * lengths).any())


def after(candidate: Candidate, share: float = 1.0) -> np.ndarray:
    """Return the objectives after a step of `share` times the largest lr."""
    return candidate.problem.values(candidate.w - share * candidate.largest_lr() * candidate.update)


def _candidates(size: Size) -> Iterator[tuple[str, Candidate]]:
    rng = np.random.default_rng(0)
    round_ones = [("isotropic", pareto_quadratics(objectives=3, rows=3, condition=1.0, curvature="shared"))]
    for text, problem in [*problems_of(size), *round_ones]:
        for name in ("upgrad", "dual-proj", "mgda"):
            w = problem.start + 0.3 * rng.standard_normal(problem.start.shape)
            jacobian = problem.jacobian(w)
            flat = jacobian.reshape(problem.objectives, -1)
            yield f"{name}, {text}", Candidate(problem, w, make(name)(flat).reshape(w.shape))


def _uses(kind: type) -> Assumption:
    def holds(case: Case) -> bool:
        method = case.method
        return (
            isinstance(method, Surgery)
            and isinstance(method.aggregator, kind)
            and isinstance(method.optimizer, GradientDescent)
            and getattr(method.aggregator, "preference", None) is None
        )

    return Assumption(f"the step is gradient descent along {kind.__name__}, without preference", holds)


def _lr_is_inverse_total(case: Case) -> bool:
    return bool(np.isclose(_lr(case) * total_smoothness(case.problem), 1.0, rtol=1e-12))


upgrad_rate = Theorem(
    label="upgrad-rate",
    title="UPGrad approaches Pareto criticality",
    statement=(
        r"\min_{k<K}\operatorname{dist}(0,\operatorname{conv}\{\nabla f_i(x_k)\})\le"
        r"\Bigl(\frac1K\sum_{k<K}\|d_k\|^2\Bigr)^{1/2}\le\sqrt{\frac{2L\,(F(x_0)-\inf F)}{K}},\qquad "
        r"x_{k+1}=x_k-\tfrac1L d_k"
    ),
    assumes=(
        SINGLE,
        NO_NOISE,
        EVERY_STEP,
        _uses(UPGrad),
        Assumption("the step size is 1 / L, L the smoothness of the sum", _lr_is_inverse_total),
        Assumption("the infimum of the sum is known, or 0 bounds it", lambda t: isinstance(t.problem, Fonseca) or
                   t.problem.optimal_value is not None),
    ),
    kind="upper",
    lhs=both_sides,
    rhs=upgrad_bound,
    cases=_upgrad_cases,
    broken=lambda t: dataclasses.replace(t, rhs=lambda trace: upgrad_bound(trace, smoothness_share=0.9)),
    mistake="L short by a tenth",
    source="ours; for convex objectives [quinton2024jacobian] proves convergence",
)  # fmt: skip

mgda_rate = Theorem(
    label="mgda-rate",
    title="MGDA approaches Pareto criticality",
    statement=(
        r"\min_{k<K}\|d_k\|\le\Bigl(\frac1K\sum_{k<K}\|d_k\|^2\Bigr)^{1/2}\le"
        r"\Bigl(\frac{\min_i(f_i(x_0)-\inf f_i)}{K\eta(1-L\eta/2)}\Bigr)^{1/2},\qquad x_{k+1}=x_k-\eta d_k"
    ),
    assumes=(
        SINGLE,
        NO_NOISE,
        EVERY_STEP,
        _uses(MGDA),
        Assumption("the step size is below 2 / L", lambda t: _lr(t) < 2 / largest_smoothness(t.problem)),
    ),
    kind="upper",
    lhs=both_sides,
    rhs=mgda_bound,
    cases=_mgda_cases,
    broken=lambda t: dataclasses.replace(t, rhs=lambda trace: mgda_bound(trace, smoothness_share=0.9)),
    mistake="L short by a tenth",
    source="ours; form as in [fliege2019complexity]",
)

surgery_descent = Theorem(
    label="surgery-descent",
    title="The longest step that no objective minds",
    statement=(
        r"\eta\le\min_i\frac{2\langle\nabla f_i(x),d\rangle}{L_i\|d\|^2}\quad\Longrightarrow\quad "
        r"f_i(x-\eta d)\le f_i(x)\ \text{for all }i"
    ),
    assumes=(
        Assumption("the update is not in conflict with an objective", lambda c: not c.conflicts()),
        Assumption("the update is not zero", lambda c: bool(np.any(c.update != 0))),
    ),
    kind="upper",
    lhs=after,
    rhs=lambda candidate: candidate.problem.values(candidate.w),
    cases=_candidates,
    broken=lambda t: dataclasses.replace(t, lhs=lambda candidate: after(candidate, share=1.1)),
    mistake="a step longer by a tenth",
    source="ours",
)

THEOREMS = (upgrad_rate, mgda_rate, surgery_descent)
