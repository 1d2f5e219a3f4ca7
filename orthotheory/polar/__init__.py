"""The polar factor U V^T of a matrix: by an algorithm, a published schedule, or a plan made for it."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from ..arrays import Array, check_matrix
from ..names import closest
from .adaptive import Adaptive
from .algorithms import ALGORITHMS
from .certificate import Certificate, certify, planned_efficiency
from .express import POLAR_EXPRESS, POLAR_EXPRESS_5, POLAR_EXPRESS_DION, polar_express
from .frechet import polar_condition, polar_derivative, polar_derivative_adjoint
from .half import HalfPrecision
from .plan import Plan
from .planner import alternatives, plan_for
from .presets import PRESETS
from .schedule import (
    MUON_JORDAN,
    MUON_QUINTIC,
    MUON_TORCH,
    NEWTON_SCHULZ_CUBIC,
    NEWTON_SCHULZ_QUINTIC,
    Normalization,
    Schedule,
    newton_schulz,
)
from .svd import ThinSVD, thin_svd

SCHEDULES: dict[str, Schedule] = {
    schedule.name: schedule
    for schedule in (
        NEWTON_SCHULZ_CUBIC,
        NEWTON_SCHULZ_QUINTIC,
        MUON_QUINTIC,
        MUON_JORDAN,
        MUON_TORCH,
        POLAR_EXPRESS,
        POLAR_EXPRESS_5,
        POLAR_EXPRESS_DION,
        *PRESETS,
    )
}


@runtime_checkable
class Applicable(Protocol):
    """What orthogonalizes matrices: a `Schedule`, a `Plan`, an `Adaptive` choice, or one's own."""

    def apply(self, g: Array) -> Array:
        """Return the orthogonalized matrices."""


AnyPlan = str | Applicable


def names() -> list[str]:
    """Return the names of algorithms and schedules that `polar_factor` knows."""
    return [*ALGORITHMS, *SCHEDULES]


def check_plan(plan: AnyPlan) -> None:
    """Refuse what is neither a name in `names()` nor applicable."""
    if not isinstance(plan, Applicable):
        closest(plan, dict.fromkeys(names()), "plan")


def polar_factor(g: Array, plan: AnyPlan = "exact") -> Array:
    """Return the polar factor U V^T over the nonzero singular values of each matrix, without any scaling.

    Parameters
    ----------
    g : array (..., m, n)
        Real or complex, tall, wide or square.
    plan : str, Schedule, Plan or Adaptive
        "exact" (thin SVD) or the name of another algorithm or schedule (`names()`); a `Schedule`; what `plan_for` made;
        an `Adaptive` accuracy or efficiency.

    Returns
    -------
    array (..., m, n)
        Singular values 1 where g has nonzero ones and 0 elsewhere; polar(0) = 0. A schedule or a plan returns them
        in its output interval instead, if those of the normalized matrix lie in its input interval.

    Raises
    ------
    UnknownName
        For a plan that is not in `names()`.
    ValueError, TypeError
        For a vector, an empty matrix or a dtype that is not floating.

    Notes
    -----
    A positive factor on g changes nothing, over the whole floating-point range, for "exact" and every schedule
    whose normalization has epsilon 0. At rank deficiency the null spaces are mapped to zero (a partial
    isometry), as Newton-Schulz does; `norms.Spectral(completion="orthonormal")` is the other choice. A
    matrix with a non-finite entry gives NaN. Cost: one SVD, or the schedule's products [higham2008functions].

    >>> import numpy as np
    >>> polar_factor(np.array([[3.0, 0.0], [0.0, -0.5]]))
    array([[ 1.,  0.],
           [ 0., -1.]])
    """
    check_matrix(g, "polar_factor", complex_allowed=True)
    if isinstance(plan, str) and plan in ALGORITHMS:
        return ALGORITHMS[plan](g)
    check_plan(plan)
    return (SCHEDULES[plan] if isinstance(plan, str) else plan).apply(g)


__all__ = [
    "ALGORITHMS",
    "MUON_JORDAN",
    "MUON_QUINTIC",
    "MUON_TORCH",
    "NEWTON_SCHULZ_CUBIC",
    "NEWTON_SCHULZ_QUINTIC",
    "POLAR_EXPRESS",
    "POLAR_EXPRESS_5",
    "POLAR_EXPRESS_DION",
    "SCHEDULES",
    "Adaptive",
    "AnyPlan",
    "Certificate",
    "HalfPrecision",
    "Normalization",
    "Plan",
    "Schedule",
    "ThinSVD",
    "alternatives",
    "certify",
    "check_plan",
    "names",
    "newton_schulz",
    "plan_for",
    "planned_efficiency",
    "polar_condition",
    "polar_derivative",
    "polar_derivative_adjoint",
    "polar_express",
    "polar_factor",
    "thin_svd",
]
