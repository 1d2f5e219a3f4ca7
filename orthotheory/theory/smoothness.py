"""Q1: the spectral smoothness of a Kronecker quadratic: its closed form, the direction that attains it, an ascent."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import numpy as np

from .. import norms
from ..arrays import to_host
from ..polar import polar_factor
from ..problems import KroneckerQuadratic, quadratic
from .contract import Assumption, Case, Size, Theorem


def sharpest_direction(problem: KroneckerQuadratic, starts: int = 5, limit: int = 10_000, seed: int = 0) -> np.ndarray:
    """Maximize <D, H D> over the spectral unit ball by the ascent D <- polar(H D) from random starts.

    Each step maximizes a linear minorant of the convex form, so the value never falls. The ascent ends when a
    hundred steps gain less than 1e-12, at the latest after `limit`: it converges linearly, at a rate that goes to 1
    with the condition number of A or B, so that its value is a lower bound only. Returns the best D, (m, n).
    """
    a, b = problem.form.a, problem.form.b
    d = polar_factor(np.random.default_rng(seed).standard_normal((starts, *problem.form.shape)))
    values = np.zeros(starts)
    for _ in range(limit // 100):
        for _ in range(100):
            d = polar_factor(a @ d @ b)
        before, values = values, np.sum(d * (a @ d @ b), axis=(-2, -1))
        if np.max(values - before) <= 1e-12 * np.max(values):
            break
    return d[int(np.argmax(values))]


def aligned_direction(problem: KroneckerQuadratic) -> np.ndarray:
    """Return D = sum_i u_i v_i^T of the leading eigenvectors of A and B, (m, n): a lower certificate without ascent."""
    (_, u), (_, v) = np.linalg.eigh(problem.form.a), np.linalg.eigh(problem.form.b)
    r = min(problem.form.shape)
    return u[:, ::-1][:, :r] @ v[:, ::-1][:, :r].T


def generalized_sharpness(problem: KroneckerQuadratic) -> np.ndarray:
    """Return the largest <D, H D> known: of the aligned direction, or of an ascent that might exceed it."""
    directions = np.stack([aligned_direction(problem), sharpest_direction(problem, limit=300)])
    return np.max(np.sum(directions * (problem.form.a @ directions @ problem.form.b), axis=(1, 2)), keepdims=True)


def _cases(size: Size) -> Iterator[tuple[str, KroneckerQuadratic]]:
    rng = np.random.default_rng(1)
    for i in range(12 if size == "smoke" else 100):
        m, n = (int(k) for k in rng.integers(2, 9, size=2))
        left, right = (float(10 ** rng.uniform(0, 3)) for _ in range(2))
        text = f"{m} x {n}, condition numbers {left:.0f} and {right:.0f}, seed {i}"
        yield (
            text,
            quadratic(rows=m, columns=n, left_condition=left, right_condition=right, alignment="generic", seed=i),
        )


def _has_kronecker_hessian(case: Case) -> bool:
    d = np.linspace(-1.0, 1.0, to_host(case.start).size).reshape(case.form.shape)
    change = case.grad(case.optimum + d) - case.grad(case.optimum)
    return bool(np.allclose(change, case.form.a @ d @ case.form.b, rtol=1e-9, atol=1e-12))


smoothness_quadratic = Theorem(
    label="smoothness-quadratic",
    title="Spectral smoothness of a quadratic",
    statement=r"\sup_{\|D\|_2\le 1}\langle D, ADB\rangle=\sum_{i\le\min(m,n)}\lambda_i(A)\,\lambda_i(B)",
    assumes=(Assumption("the Hessian is B (x) A with A, B positive semidefinite", _has_kronecker_hessian),),
    kind="tight",
    lhs=generalized_sharpness,
    rhs=lambda p: np.asarray([p.smoothness(norms.Spectral()).value]),
    cases=_cases,
    broken=lambda t: dataclasses.replace(t, rhs=lambda p: np.asarray([p.smoothness(norms.Frobenius()).value])),
    mistake="the Frobenius constant on the right",
    source="ours; the upper bound uses von Neumann's trace inequality [horn1991topics]",
    tolerance=1e-12,
    reason="two eigendecompositions and products of at most 8 x 8 matrices, rounded at 1e-16",
)
