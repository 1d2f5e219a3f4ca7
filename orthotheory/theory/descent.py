"""T1 and Q2: fixed-radius descent is bounded by the smoothness constant and accounted for exactly on a quadratic."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterator
from typing import Any

import numpy as np

from .. import norms
from ..loop import Trace
from ..methods import TrustRegion
from ..problems import KroneckerQuadratic, best_radius, digits, least_squares, quadratic, ramp
from .batched import Job, run_together
from .certificates import prove
from .contract import Assumption, Case, Size, Theorem

RECORD = ("value", "gap", "gradient_norm", "step_norm")


def prefix_mean(values: np.ndarray) -> np.ndarray:
    """Return the means of the first 1, 2, ... values along the first axis."""
    counts = np.arange(1, len(values) + 1).reshape(-1, *[1] * (values.ndim - 1))
    return np.cumsum(values, axis=0) / counts


def prefix_mean_gradient(trace: Trace) -> np.ndarray:
    """Return (1/K) sum_{k<K} of the dual gradient norm for K = 1, ..., steps."""
    return prefix_mean(trace["gradient_norm"][:-1])


def envelope(trace: Trace, curvature_share: float = 1.0) -> np.ndarray:
    """Return gap_0 / (lr K) + L lr / 2 for K = 1, ..., steps; `curvature_share` multiplies L."""
    lr = trace.method.lr
    smoothness = curvature_share * float(trace.problem.smoothness(trace.method.norm))
    steps = np.arange(1, trace.steps + 1)
    return trace["gap"][0] / (lr * steps) + smoothness * lr / 2


def accounting(trace: Trace, curvature_share: float = 1.0) -> np.ndarray:
    """Return (f_0 - f_K) / (lr K) + (lr / 2) mean_{k<K} <P_k, H P_k> with step k = lr P_k."""
    lr = trace.method.lr
    steps = np.arange(1, trace.steps + 1)
    value = trace["value"]
    curvature = np.cumsum(trace["step_curvature"][:-1]) / steps / lr**2
    return (value[0] - value[1:]) / (lr * steps) + curvature_share * lr / 2 * curvature


def _is_fixed_radius(case: Case) -> bool:
    method = case.method
    return isinstance(method, TrustRegion) and method.momentum == 0 and method.weight_decay == 0


def _has_unit_steps(case: Case) -> bool:
    return bool(np.all(case["step_norm"][:-1] <= case.method.lr * (1 + 1e-9)))


FIXED_RADIUS = Assumption("the method is X + lr lmo(grad f(X)) with a fixed radius lr", _is_fixed_radius)
UNIT_STEPS = Assumption("every step has at most length lr in the norm", _has_unit_steps)
SINGLE = Assumption("the trace is of one run, not of a batch", lambda t: t.non_finite_at.ndim == 0)
NO_NOISE = Assumption("the gradients are exact", lambda t: t.problem.noise is None)
SMOOTH = Assumption("L bounds the smoothness from above", lambda t: t.problem.smoothness(t.method.norm).kind != "lower")
EVERY_STEP = Assumption("every step was recorded", lambda t: bool(np.all(np.diff(t.k) == 1)))
QUADRATIC = Assumption("the problem is a quadratic", lambda t: isinstance(t.problem, KroneckerQuadratic))

GEOMETRIES = (
    norms.Spectral(),
    norms.Frobenius(),
    norms.MaxEntry(),
    norms.RowMax(),
    norms.ColumnMax(),
    norms.Nuclear(),
    norms.DualKyFan(2),
    norms.Schatten(4.0),
    norms.RmsToRms(),
)


def _envelope_cases(size: Size) -> Iterator[tuple[str, Trace]]:
    steps = 300 if size == "smoke" else 1000
    seeds = range(1 if size == "smoke" else 5)
    shape: Any = {"rows": 6, "columns": 4, "left_condition": 30.0, "right_condition": 5.0, "basis": "standard"}
    jobs: list[Job] = []
    for norm in GEOMETRIES:
        for seed in seeds:
            for alignment in ("commuting", "generic"):
                problem = quadratic(**shape, alignment=alignment, seed=seed)
                method = TrustRegion(norm, lr=4 * best_radius(problem, norm, steps))
                jobs.append((f"{alignment} quadratic, {norm.name}, seed {seed}", problem, method, steps))
    for budget in (10, steps):
        slow = ramp(budget=budget)
        method = TrustRegion(norms.Spectral(), lr=best_radius(slow, norms.Spectral(), budget))
        jobs.append((f"ramp for {budget} steps", slow, method, budget))
    real = digits()
    for norm in (norms.Spectral(), norms.Frobenius()):
        method = TrustRegion(norm, lr=best_radius(real, norm, steps))
        jobs.append((f"digits, {norm.name}", real, method, steps // 4))
    yield from run_together(jobs, RECORD)


def _accounting_cases(size: Size) -> Iterator[tuple[str, Trace]]:
    steps = 200 if size == "smoke" else 500
    jobs: list[Job] = []
    for seed in range(2 if size == "smoke" else 10):
        problems = {
            "generic quadratic": quadratic(rows=7, columns=5, right_condition=10.0, alignment="generic", seed=seed),
            "commuting quadratic": quadratic(rows=5, columns=7, right_condition=10.0, seed=seed),
            "least squares": least_squares(samples=40, rows=6, columns=4, condition=5.0, seed=seed),
        }
        for text, problem in problems.items():
            for norm in (norms.Spectral(), norms.MaxEntry(), norms.Frobenius()):
                jobs.append((f"{text}, {norm.name}, seed {seed}", problem, TrustRegion(norm, lr=0.05), steps))
    yield from run_together(jobs, (*RECORD, "step_curvature"))


trust_region_nonconvex = Theorem(
    label="trust-region-nonconvex",
    title="Fixed-radius steepest descent",
    statement=(
        r"\min_{k<K}\|\nabla f(X_k)\|_*\le\frac1K\sum_{k<K}\|\nabla f(X_k)\|_*"
        r"\le\frac{f(X_0)-\inf f}{\eta K}+\frac{L\eta}{2}"
    ),
    assumes=(SINGLE, FIXED_RADIUS, UNIT_STEPS, NO_NOISE, SMOOTH, EVERY_STEP),
    kind="upper",
    lhs=prefix_mean_gradient,
    rhs=envelope,
    cases=_envelope_cases,
    broken=lambda t: dataclasses.replace(t, rhs=lambda trace: envelope(trace, curvature_share=0.5)),
    mistake="L halved",
    source="ours; form as in [kovalev2025understanding]",
    proof=functools.partial(prove, "trust-region-nonconvex"),
)

exact_accounting = Theorem(
    label="exact-accounting",
    title="Exact accounting on a quadratic",
    statement=(
        r"\frac1K\sum_{k<K}\|\nabla f(X_k)\|_*=\frac{f(X_0)-f(X_K)}{\eta K}"
        r"+\frac{\eta}{2K}\sum_{k<K}\langle P_k,HP_k\rangle,\qquad X_{k+1}=X_k-\eta P_k"
    ),
    assumes=(SINGLE, FIXED_RADIUS, NO_NOISE, EVERY_STEP, QUADRATIC),
    kind="identity",
    lhs=prefix_mean_gradient,
    rhs=accounting,
    cases=_accounting_cases,
    broken=lambda t: dataclasses.replace(t, rhs=lambda trace: accounting(trace, curvature_share=0.99)),
    mistake="the curvature term short by one percent",
    source="ours",
    tolerance=1e-12,
    reason="a sum of K terms of order one in float64; the ledger demands 1e-12",
)
