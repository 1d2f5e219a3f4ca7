"""P1: one step is enough for gradient descent where the curvature is flat, for polar factors where the error is."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from .. import norms
from ..arrays import to_host
from ..methods import DualScaled, GradientDescent
from ..polar import polar_factor
from ..problems import KroneckerQuadratic
from .contract import Assumption, Size, Theorem
from .quadratic_rates import diagonal_problem

SPECTRAL = norms.Spectral()


class OneStep(NamedTuple):
    """One step: a problem, a method, and whether it should arrive."""

    problem: KroneckerQuadratic
    method: Any


def _one_step_cases(size: Size, uneven: float = 0.0) -> Iterator[tuple[str, OneStep]]:
    rng = np.random.default_rng(1)
    for r in (2, 4, 7):
        curvature, level = rng.uniform(0.1, 3.0, r), float(rng.uniform(0.5, 2.0))
        tilt = 1 + uneven * np.linspace(0, 1, r)
        flat = diagonal_problem(curvature[0] * tilt, rng.uniform(0.5, 2.0, r))
        even = diagonal_problem(curvature, level * tilt)
        descent: Any = GradientDescent(lr=1 / float(flat.smoothness(norms.Frobenius())))
        scaled: Any = DualScaled(SPECTRAL, lr=1 / float(even.smoothness(SPECTRAL)))
        yield f"flat curvature, rank {r}", OneStep(flat, descent)
        yield f"flat error, rank {r}", OneStep(even, scaled)


def _is_flat(case: OneStep) -> bool:
    """Test that gradients meet one curvature h and lr h = 1, or polar factors one error and lr L = 1."""
    problem, method = case.problem, case.method
    error = to_host(problem.start) - to_host(problem.optimum)
    if isinstance(method, GradientDescent):
        h = np.outer(problem.form.left, problem.form.right)
        return bool(np.ptp(h) <= 1e-12 * h.max() and np.isclose(method.lr * h.max(), 1, rtol=1e-12))
    s = np.linalg.svd(error, compute_uv=False)
    # an isometry of errors commutes where the gradient's polar factor is its own
    commutes = np.allclose(polar_factor(problem.form.a @ error @ problem.form.b) * s[0], error, atol=1e-10 * s[0])
    product = method.lr * float(problem.smoothness(SPECTRAL))
    return bool(np.ptp(s) <= 1e-12 * s[0] and commutes and np.isclose(product, 1, rtol=1e-12))


FLAT = Assumption("curvature is flat for gradients, or errors for polar factors, and lr fits it", _is_flat)
PLAIN = Assumption(
    "the method is gradient descent, or dual-scaled in the spectral norm, without momentum",
    lambda c: (
        isinstance(c.method, GradientDescent | DualScaled)
        and getattr(c.method, "momentum", 0) == 0
        and (isinstance(c.method, GradientDescent) or c.method.norm == SPECTRAL)
    ),
)


def error_after_one_step(case: OneStep) -> np.ndarray:
    """Return 1 + |E_1|_F / |E_0|_F."""
    w, _ = case.method.step(
        case.problem.start, case.problem.grad(case.problem.start), case.method.init(case.problem.start)
    )
    return np.array([1 + np.linalg.norm(w - case.problem.optimum) / np.linalg.norm(case.problem.start)])


def prove_duality() -> list[str]:
    """Prove both halves on three modes: s - h s / h, and s - (sum h_i s / L) with L = sum h_i."""
    import sympy as sp

    h = sp.symbols("h1:4", positive=True)
    s = sp.symbols("s", positive=True)
    total = sum(h)
    residual = sp.simplify(s - sum(x * s for x in h) / total)
    if residual != 0:
        raise ArithmeticError(f"scaled spectral descent leaves {residual}")
    return [r"s_i-\tfrac1h\,h s_i=0", r"s-\tfrac1{\sum h_i}\sum_i h_is=0\quad\text{for every }h"]


one_step_duality = Theorem(
    label="one-step-duality",
    title="One step is enough: flat curvature for gradients, flat errors for polar factors",
    statement=r"E_1=0\text{ for gradient descent if }h_i=h,\ \eta=1/h;\qquad "
    r"E_1=0\text{ for }X-\tfrac1L\|G\|_*\operatorname{polar}(G)\text{ if }|s_i|=s",
    assumes=(PLAIN, FLAT),
    kind="identity",
    lhs=error_after_one_step,
    rhs=lambda c: np.ones(1),
    cases=_one_step_cases,
    # the flatness is what is broken: the control drops that assumption
    broken=lambda t: dataclasses.replace(t, assumes=(PLAIN,), cases=lambda size: _one_step_cases(size, uneven=0.01)),
    mistake="curvature and errors uneven by one percent",
    source="ours",
    tolerance=1e-13,
    reason="one product, one SVD of a well-conditioned 7 x 7 matrix",
    proof=prove_duality,
)

THEOREMS = (one_step_duality,)
