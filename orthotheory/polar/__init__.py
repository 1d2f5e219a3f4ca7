"""The polar factor U V^T of a matrix: exact, or by a frozen polynomial schedule."""

from __future__ import annotations

from ..arrays import Array, array_namespace, check_matrix, magnitude
from ..names import closest
from .express import POLAR_EXPRESS, POLAR_EXPRESS_5, POLAR_EXPRESS_DION, polar_express
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
from .svd import ThinSVD, svd_of_moderate, thin_svd

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
Plan = str | Schedule


def names() -> list[str]:
    """Return the names of plans that `polar_factor` knows."""
    return ["exact", *SCHEDULES]


def check_plan(plan: Plan) -> None:
    """Refuse what is neither "exact", the name of a schedule nor a `Schedule`."""
    if not isinstance(plan, Schedule):
        closest(plan, dict.fromkeys(names()), "plan")


def polar_factor(g: Array, plan: Plan = "exact") -> Array:
    """Return the polar factor U V^T over the nonzero singular values of each matrix, without any scaling.

    Parameters
    ----------
    g : array (..., m, n)
        Real or complex, tall, wide or square.
    plan : str or Schedule
        "exact" (thin SVD), the name of a schedule, or a `Schedule`.

    Returns
    -------
    array (..., m, n)
        Singular values 1 where g has nonzero ones and 0 elsewhere; polar(0) = 0. A schedule returns them in
        its output interval instead, if those of g / |g|_F lie in its input interval.

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
    if isinstance(plan, Schedule):
        return plan.apply(g)
    if plan != "exact":
        check_plan(plan)
        return SCHEDULES[plan].apply(g)
    size = magnitude(g)
    u, s, vh = svd_of_moderate(size.normalize(g))
    rank = array_namespace(s).astype(s > 0, s.dtype)
    return (u * rank[..., None, :]) @ vh + size.nan()


__all__ = [
    "MUON_JORDAN",
    "MUON_QUINTIC",
    "MUON_TORCH",
    "NEWTON_SCHULZ_CUBIC",
    "NEWTON_SCHULZ_QUINTIC",
    "POLAR_EXPRESS",
    "POLAR_EXPRESS_5",
    "POLAR_EXPRESS_DION",
    "SCHEDULES",
    "Normalization",
    "Plan",
    "Schedule",
    "ThinSVD",
    "check_plan",
    "names",
    "newton_schulz",
    "polar_express",
    "polar_factor",
    "thin_svd",
]
