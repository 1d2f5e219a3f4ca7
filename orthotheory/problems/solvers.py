"""Reference solvers for smooth convex problems over a norm ball, on the host: two independent ways to one answer.

They serve to compute constrained optima and as baselines; each returns the point and the history of its
Frank-Wolfe gap max_{|V| <= R} <grad f(X), X - V>, which bounds f(X) - f* for a convex f.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..arrays import to_host
from ..norms import Norm, SumEntry
from .contract import Problem


@dataclass(frozen=True)
class Solution:
    """A point of the ball, its value, and the Frank-Wolfe gap before every step and at the end."""

    x: np.ndarray
    value: float
    gaps: np.ndarray

    @property
    def steps(self) -> int:
        """Steps taken."""
        return len(self.gaps) - 1


def frank_wolfe_gap(ball: Norm, radius: float, x: np.ndarray, grad: np.ndarray) -> float:
    """Return max over the ball of <grad, x - v>; zero exactly at a constrained stationary point."""
    return float(np.sum(grad * x) + radius * to_host(ball.dual(grad)))


def projected_gradient(problem: Problem, ball: Norm, radius: float, *, tolerance=1e-10, limit=100_000) -> Solution:
    """Minimize by Nesterov's accelerated projected gradient with restarts; stops at a gap of `tolerance`.

    Raises RuntimeError where the gap stays above `tolerance` for `limit` steps.
    """
    from ..norms import Frobenius

    step = 1 / float(problem.smoothness(Frobenius()))
    x = ball.project(to_host(problem.start), radius)
    y, t, gaps = x, 1.0, []
    for _ in range(limit):
        gaps.append(frank_wolfe_gap(ball, radius, x, to_host(problem.grad(x))))
        if gaps[-1] <= tolerance:
            return Solution(x, float(problem.value(x)), np.array(gaps))
        following = ball.project(y - step * to_host(problem.grad(y)), radius)
        if np.sum((y - following) * (following - x)) > 0:  # the momentum points uphill: restart
            y, t = x, 1.0
            following = ball.project(y - step * to_host(problem.grad(y)), radius)
        t_next = (1 + np.sqrt(1 + 4 * t * t)) / 2
        y = following + (t - 1) / t_next * (following - x)
        x, t = following, t_next
    raise RuntimeError(
        f"The projected gradient left a gap of {gaps[-1]:.1e} after {limit} steps; allowed is {tolerance:g}."
    )


def frank_wolfe(
    problem: Problem, ball: Norm, radius: float, *, rule: str = "line-search", tolerance=1e-10, limit=100_000
) -> Solution:
    """Minimize by Frank-Wolfe: open-loop steps 2 / (k + 2), or exact line search along the segment.

    Returns after `limit` steps even if the gap is larger than `tolerance`: the method may be that slow.
    """
    if rule not in ("open-loop", "line-search"):
        raise ValueError(f"rule must be 'open-loop' or 'line-search'; got {rule!r}.")
    x, gaps = ball.project(to_host(problem.start), radius), []
    for k in range(limit + 1):
        grad = to_host(problem.grad(x))
        gaps.append(frank_wolfe_gap(ball, radius, x, grad))
        if gaps[-1] <= tolerance or k == limit:
            break
        direction = radius * ball.lmo(grad) - x
        gamma = 2 / (k + 2) if rule == "open-loop" else line_search(problem, x, direction, 1.0)
        x = x + gamma * direction
    return Solution(x, float(problem.value(x)), np.array(gaps))


def away_step_frank_wolfe(problem: Problem, radius: float, *, tolerance=1e-10, limit=100_000) -> Solution:
    """Minimize over the l1 ball, a polytope, with away steps: linear convergence on strongly convex functions.

    The vertices are +-radius at one entry; the iterate is kept as a convex combination of those in use.
    """
    ball = SumEntry()
    shape = to_host(problem.start).shape
    weights: dict[tuple[int, int], float] = {(0, 1): 0.5, (0, -1): 0.5}  # (flat index, sign): the center
    gaps = []

    def vertex(key: tuple[int, int]) -> np.ndarray:
        v = np.zeros(int(np.prod(shape)))
        v[key[0]] = radius * key[1]
        return v.reshape(shape)

    x = np.zeros(shape)
    for k in range(limit + 1):
        grad = to_host(problem.grad(x))
        gaps.append(frank_wolfe_gap(ball, radius, x, grad))
        if gaps[-1] <= tolerance or k == limit:
            break
        flat = grad.ravel()
        best = int(np.argmax(np.abs(flat)))
        toward = (best, -int(np.sign(flat[best])) or 1)
        away = max(weights, key=lambda key: flat[key[0]] * key[1])
        away_gap = radius * flat[away[0]] * away[1] - float(np.sum(grad * x))
        if gaps[-1] >= away_gap:
            direction, longest, key, sign = vertex(toward) - x, 1.0, toward, 1
        else:
            share = weights[away]
            direction, longest, key, sign = x - vertex(away), share / max(1 - share, 1e-300), away, -1
        gamma = line_search(problem, x, direction, longest)
        for other in weights:
            weights[other] *= 1 - sign * gamma
        weights[key] = weights.get(key, 0.0) + sign * gamma
        weights = {key: share for key, share in weights.items() if share > 1e-15}
        x = x + gamma * direction
    return Solution(x, float(problem.value(x)), np.array(gaps))


def line_search(problem: Problem, x: np.ndarray, direction: np.ndarray, longest: float) -> float:
    """Return the exact minimizer of f(x + gamma direction) over [0, longest] by bisecting the slope of a convex f."""

    def slope(gamma: float) -> float:
        return float(np.sum(to_host(problem.grad(x + gamma * direction)) * direction))

    if slope(longest) <= 0:
        return longest
    low, high = 0.0, longest
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if slope(middle) < 0 else (low, middle)
    return (low + high) / 2


def proximal_gradient(problem: Problem, norm: Norm, weight: float, *, tolerance=1e-10, limit=100_000) -> Solution:
    """Minimize f + weight * norm by accelerated proximal gradient; `gaps` holds the lengths of the prox-gradient map.

    Raises RuntimeError where that length stays above `tolerance` for `limit` steps.
    """
    from ..norms import Frobenius

    step = 1 / float(problem.smoothness(Frobenius()))
    x = to_host(problem.start)
    y, t, gaps = x, 1.0, []
    for _ in range(limit):
        following = norm.prox(y - step * to_host(problem.grad(y)), weight * step)
        gaps.append(float(np.linalg.norm(following - y)) / step)
        if gaps[-1] <= tolerance:
            value = float(problem.value(following)) + weight * float(norm.value(following))
            return Solution(following, value, np.array(gaps))
        if np.sum((y - following) * (following - x)) > 0:
            t = 1.0
        t_next = (1 + np.sqrt(1 + 4 * t * t)) / 2
        y = following + (t - 1) / t_next * (following - x)
        x, t = following, t_next
    raise RuntimeError(f"Proximal gradient left a map of {gaps[-1]:.1e} after {limit} steps; allowed is {tolerance:g}.")
