"""Online orthogonal dictionary learning by Frank-Wolfe on the spectral ball: momentum, polar factor, decay."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from ..arrays import Array, array_namespace, check_matrix, check_number
from ..polar import AnyPlan, check_plan, polar_factor


@dataclass(frozen=True)
class OrthogonalDictionary:
    """Maximize E |D^T y|_p^p over |D|_2 <= 1, the hull of the orthogonal matrices, from a stream of samples.

        F <- (1 - rho_t) F + rho_t grad,   rho_t = (t + 1)^(-1/2)
        D <- (1 - gamma_t) D + gamma_t polar(F),   gamma_t = (t + 1)^(-3/4)

    Parameters
    ----------
    power : float
        p > 2; 3 or 4 are usual. Maximizing a convex function on the ball ends at a vertex, an orthogonal matrix.
    plan : str or Schedule
        How the polar factor is computed; the linear maximization is exact for "exact" alone.

    Notes
    -----
    This is Muon (momentum, then polar factor) with a weight decay of gamma_t and a step of gamma_t: the same linear
    maximization, on a ball. Every iterate is feasible. The exponents are those of stochastic Frank-Wolfe with momentum,
    for which the rate O(ln t / t^(1/4)) is stated; the constants are reconstructed [xue2021online].
    """

    power: float = 4.0
    plan: AnyPlan = "exact"

    class State(NamedTuple):
        """The averaged gradient and the number of steps."""

        average: Array
        steps: int

    def __post_init__(self) -> None:
        check_number(self.power, "OrthogonalDictionary.power", low=2.0, open_low=True, open_high=True)
        check_plan(self.plan)

    def init(self, d: Array) -> State:
        """Return the state before the first step, for a start D (..., n, n) in the spectral ball."""
        check_matrix(d, "OrthogonalDictionary")
        return self.State(array_namespace(d).zeros_like(d), 0)

    def gradient(self, d: Array, samples: Array) -> Array:
        """Return the gradient of mean |D^T y|_p^p over samples (..., n, count), as columns."""
        xp = array_namespace(d, samples)
        z = d.mT @ samples
        slope = self.power * xp.sign(z) * xp.abs(z) ** (self.power - 1)
        return samples @ slope.mT / samples.shape[-1]

    def step(self, d: Array, samples: Array, state: State) -> tuple[Array, State]:
        """Return the next dictionary and state for a batch of samples (..., n, count)."""
        check_matrix(samples, "OrthogonalDictionary (samples)")
        rho, gamma = (state.steps + 1.0) ** -0.5, (state.steps + 1.0) ** -0.75
        average = (1 - rho) * state.average + rho * self.gradient(d, samples)
        vertex = polar_factor(average, self.plan)
        return (1 - gamma) * d + gamma * vertex, self.State(average, state.steps + 1)


def frank_wolfe_gap(d: Array, gradient: Array) -> Array:
    """Return max_{|V|_2 <= 1} <gradient, V - D> = |gradient|_* - <gradient, D>, shape (batch)."""
    from ..norms import Spectral

    xp = array_namespace(d, gradient)
    return Spectral().dual(gradient) - xp.sum(gradient * d, axis=(-2, -1))


def signed_permutation_error(d: Array, truth: Array) -> float:
    """Return min |D - A P|_F / sqrt(n) over signed permutations P, by the assignment problem."""
    import numpy as np
    from scipy.optimize import linear_sum_assignment

    from ..arrays import to_host

    overlap = to_host(truth).T @ to_host(d)
    rows, columns = linear_sum_assignment(-np.abs(overlap))
    matched = np.zeros_like(overlap)
    matched[rows, columns] = np.sign(overlap[rows, columns])
    return float(np.linalg.norm(to_host(d) - to_host(truth) @ matched) / np.sqrt(len(overlap)))


__all__ = ["OrthogonalDictionary", "frank_wolfe_gap", "signed_permutation_error"]
