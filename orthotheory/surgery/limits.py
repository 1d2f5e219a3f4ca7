"""Where descent with an aggregator ends, and how that point moves when one objective is measured in another unit."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from ..arrays import check_number
from ..problems.multi_objective import Quadratics
from .contract import Aggregator


class ScaleCurve(NamedTuple):
    """End points of trajectories, one for each factor of the first objective."""

    factors: np.ndarray  # (b,)
    points: np.ndarray  # (b, rows, columns)
    distance: np.ndarray  # (b,), to the Pareto set, which does not depend on the factor
    moved: np.ndarray  # (b,), Frobenius distance to the end point of the factor nearest to 1


def scale_curve(rule: Aggregator, problem: Quadratics, factors: Any, *, steps: int = 2000) -> ScaleCurve:
    """Descend on s f_1, f_2, ..., f_m for each factor s, and return where that ends.

        W <- W - A(J) / (m L max(s, 1)),     L the largest curvature: short enough for rules that sum rows

    For two objectives or proportional curvatures, on the host. The Pareto set is the same for all factors: only the
    point of it that is reached moves. A rule with A(diag(c) J) = A(J), as Nash-MTL, does not move at all. A rule of
    degree 0 takes steps 1 / (1 + t) along A(J), whose length says nothing about the distance that is left.

    Raises ValueError for factors that are not positive and finite. Cost: `steps` aggregations of a batch of Jacobians.
    """
    s = np.asarray(factors, float)
    check_number(s, "factors", open_low=True, open_high=True)
    if s.ndim != 1 or not len(s):
        raise ValueError(f"factors must be a non-empty sequence of positive numbers; got shape {s.shape}.")
    top = max(float(problem.smoothness_of(i)) for i in range(problem.objectives))
    w = np.broadcast_to(problem.start, (len(s), *problem.start.shape)).copy()
    weight = np.ones((len(s), problem.objectives, 1, 1))
    weight[:, 0] = s[:, None, None]
    lr = 1 / (top * np.maximum(s, 1.0) * problem.objectives)
    state: Any = None
    for t in range(steps):
        j = (weight * problem.jacobian(w)).reshape(len(s), problem.objectives, -1)
        state = rule.init(j) if state is None else state
        x, state = rule.step(j, state)
        length = lr if rule.homogeneity else np.full(len(s), 1 / (1 + t))
        w = w - (length[:, None] * x).reshape(w.shape)
    home = w[np.argmin(np.abs(np.log(s)))]
    return ScaleCurve(s, w, problem.pareto_distance(w), np.linalg.norm(w - home, axis=(-2, -1)))


__all__ = ["ScaleCurve", "scale_curve"]
