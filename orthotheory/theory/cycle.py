"""Q3: where everything commutes, fixed-step spectral descent ends in a 2-cycle that attains the floor of T1."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from .. import norms
from ..arrays import to_host
from ..loop import Trace, run
from ..methods import TrustRegion
from ..problems import quadratic
from .contract import Assumption, Case, Size, Theorem
from .descent import EVERY_STEP, FIXED_RADIUS, NO_NOISE, QUADRATIC, SINGLE

RECORD = ("value", "gap", "gradient_norm", "iterate", "step_norm")


def cycle_mean_gradient(trace: Trace) -> np.ndarray:
    """Return the mean dual gradient norm over each of the last four periods of two steps."""
    last = trace["gradient_norm"][-9:-1]
    return (last[0::2] + last[1::2]) / 2


def cycle_floor(trace: Trace, norm: norms.Norm | None = None) -> np.ndarray:
    """Return L lr / 2, the floor of theorem `trust-region-nonconvex`, with L in the spectral norm."""
    smoothness = float(trace.problem.smoothness(norm or norms.Spectral()))
    return np.full(4, smoothness * trace.method.lr / 2)


class CommonBasis(NamedTuple):
    """Singular vectors of the first error, the curvature along each pair, and the errors in these coordinates."""

    u: np.ndarray  # (m, r)
    v: np.ndarray  # (n, r)
    curvatures: np.ndarray  # (r,), descending
    coordinates: np.ndarray  # (records, r), s_i(k)


def common_basis(trace: Trace) -> CommonBasis:
    """Return the coordinates in which a commuting run decouples, by decreasing curvature."""
    form = trace.problem.form
    errors = trace["iterate"] - to_host(trace.problem.optimum)
    u, _, vh = np.linalg.svd(errors[0], full_matrices=False)
    curvatures = np.sum(u * (form.a @ u), axis=0) * np.sum(vh.T * (form.b @ vh.T), axis=0)
    order = np.argsort(-curvatures, kind="stable")
    u, v = u[:, order], vh.T[:, order]
    return CommonBasis(u, v, curvatures[order], np.einsum("mi,kmn,ni->ki", u, errors, v))


def staircase(initial: np.ndarray, lr: float, steps: int) -> np.ndarray:
    """Return the predicted s_i(k): s <- s - lr sign(s), whatever the curvature; shape (steps + 1, r)."""
    s = [np.asarray(initial, dtype=float)]
    for _ in range(steps):
        s.append(s[-1] - lr * np.sign(s[-1]))
    return np.stack(s)


def commutation_defects(trace: Trace) -> np.ndarray:
    """Return the error outside the common singular basis at each record, relative to the first error."""
    basis = common_basis(trace)
    errors = trace["iterate"] - to_host(trace.problem.optimum)
    inside = (basis.u * basis.coordinates[:, None, :]) @ basis.v.T
    return np.linalg.norm(errors - inside, axis=(1, 2)) / np.linalg.norm(errors[0])


def commutation_defect(trace: Trace) -> float:
    """Return the largest of `commutation_defects`."""
    return float(commutation_defects(trace).max())


def _commutes(case: Case) -> bool:
    paired = np.sum(case.problem.form.paired())
    sorted_alike = abs(np.sum(common_basis(case).curvatures) - paired) <= 1e-12 * paired
    return sorted_alike and commutation_defect(case) <= 1e-12


def _avoids_zero(case: Case) -> bool:
    # A coordinate whose first value is a multiple of lr would reach zero and rest there.
    share = np.abs(common_basis(case).coordinates[0]) / case.method.lr
    return bool(np.min(np.abs(share - np.round(share))) > 1e-9)


def _has_arrived(case: Case) -> bool:
    return bool(case.steps >= np.max(np.abs(common_basis(case).coordinates[0])) / case.method.lr + 10)


def _cases(size: Size) -> Iterator[tuple[str, Trace]]:
    # The standard basis: there the arithmetic keeps what commutes exactly commuting. In a random basis rounding
    # breaks it, and the defect can grow fourfold a step (tests/theorems/test_cycle.py).
    rng = np.random.default_rng(3)
    for seed in range(8 if size == "smoke" else 50):
        m, n = (int(k) for k in rng.integers(2, 8, size=2))
        lr = float(rng.uniform(0.02, 0.11))
        problem = quadratic(rows=m, columns=n, left_condition=50.0, right_condition=7.0, basis="standard", seed=seed)
        trace = run(problem, TrustRegion(norms.Spectral(), lr=lr), int(1.6 / lr) + 20, record=RECORD)
        yield f"{m} x {n}, lr {lr:.3f}, seed {seed}", trace


spectral_cycle_commuting = Theorem(
    label="spectral-cycle-commuting",
    title="The cycle of fixed-step spectral descent",
    statement=r"\tfrac12\bigl(\|\nabla f(X_k)\|_*+\|\nabla f(X_{k+1})\|_*\bigr)"
    r"=\frac{\eta}{2}\sum_{i\le r}\lambda_i(A)\lambda_i(B)=\frac{L\eta}{2}"
    r"\quad\text{for all }k\ge\max_i s_i(0)/\eta",
    assumes=(
        SINGLE,
        FIXED_RADIUS,
        NO_NOISE,
        EVERY_STEP,
        QUADRATIC,
        Assumption("the norm is the spectral norm", lambda t: t.method.norm == norms.Spectral()),
        Assumption("the errors share their singular vectors with A and B, in their order", _commutes),
        Assumption("no singular value of the first error is a multiple of lr", _avoids_zero),
        Assumption("the run is longer than the largest error over lr", _has_arrived),
    ),
    kind="identity",
    lhs=cycle_mean_gradient,
    rhs=cycle_floor,
    cases=_cases,
    broken=lambda t: dataclasses.replace(t, rhs=lambda trace: cycle_floor(trace, norms.Frobenius())),
    mistake="the Frobenius constant in place of the spectral one",
    source="ours",
    tolerance=1e-12,
    reason="rounding of a hundred steps whose gradients stay within a factor 100 of each other",
)
