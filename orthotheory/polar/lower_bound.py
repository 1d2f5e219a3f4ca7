"""What no polynomial method can do: a proven lower bound of the error of every odd polynomial of a degree.

Let h have degree N and t = x^2. At any N + 2 points of [l^2, 1] a divided difference annihilates h, so that

    max |1 - x h(x^2)| >= |sum_i w_i / x_i| / sum_i |w_i| / x_i,    w_i = 1 / omega'(t_i),  omega(t) = prod (t - t_i),

with equality for some h at the optimal points. As 1 / x = (1/pi) int_0^inf ds / (sqrt(s) (s + t)), the numerator is
(1/pi) int_0^inf ds / (sqrt(s) |omega(-s)|): positive, nothing cancels. We take, in tau in [-1, 1] and with
b = (1 - l) / (1 + l), omega = (tau^2 - 1) (U_N(tau) + b U_{N-1}(tau)). Its zeros come close to the optimal points, and
its values and the sum over its zeros are closed forms. Ours; theorem `polynomial-lower-bound`.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from ..arrays import Array
from .minimax import check_interval


def error_bound(inner_degree: int, low: float, high: float = 1.0) -> float:
    """Return a lower bound of max |1 - x h(x^2)| on [low, high] for all polynomials h of a degree N.

    Parameters
    ----------
    inner_degree : int
        N >= 1; the odd polynomial has the degree 2N + 1.
    low, high : float
        0 < low < high.

    Returns
    -------
    float
        Proven up to rounding, about 1e-13: the integral of a decreasing function is replaced by its lower sum, and
        all terms are positive; `proof.prove_error_bound` is the same in ball arithmetic. Measured: within 1 percent of
        the optimum, from N = 1 to 828.

    >>> round(error_bound(8, 0.1), 4)  # the optimum is 0.0943
    0.0936
    """
    if inner_degree < 1:
        raise ValueError(f"inner_degree must be at least 1; got {inner_degree}.")
    low, high = check_interval(low, high)
    if low == high:
        return 0.0
    n, ratio = float(inner_degree), low / high
    gap = 2 * ratio / (1 + ratio)  # 1 - b
    b = 1 - gap
    # the sum over the zeros of U_N + b U_{N-1} of 1 / (x |omega'|) = (1 + b) / (A + B tau)
    slope = (2 * n + 1) * b
    eta = 2 * np.arcsinh(np.sqrt(gap * (1 + n * gap) / slope / 2))  # cosh(eta) = A / B
    tanh, sinh, excess = np.tanh(n * eta), np.sinh(eta), 2 * np.sinh(eta / 2) ** 2
    logarithmic = ((n + 1) * (excess + sinh * tanh) + 1 + n * gap) / (sinh + (excess + gap) * tanh) - 1 / np.tanh(eta)
    weights = (1 + b) * logarithmic / (slope * sinh)
    weights += 1 / (2 * (n + 1 + b * n)) + 1 / (2 * ratio * (1 + n * gap))  # x = 1 and x = low
    # int_0^inf 2 dv / |omega(-v^2)|, tau = -cosh(xi), from the right ends of its cells
    v = cells(ratio)
    half = (1 - ratio) * (1 + ratio) / 2
    xi = 2 * np.arcsinh(np.sqrt((ratio**2 + v**2) / half / 2))
    with np.errstate(over="ignore"):
        ends = np.expm1(xi) + gap, np.exp(-2 * n * xi) * (np.expm1(-xi) + gap)
        omega = np.sinh(xi) * np.exp(n * xi) * (ends[0] - ends[1]) / 2
        integral = np.sum(np.diff(v) / omega[1:])
    return float(2 * integral / (np.pi * half * weights))


def cells(ratio: float) -> Array:
    """Return the ends of the cells over which the integral is bounded from below, denser towards 0 at the scale l."""
    return ratio * np.sinh(np.linspace(0.0, np.arcsinh(4 / ratio), 1 << 14))


@dataclass(frozen=True)
class DegreeBound:
    """No odd polynomial below this degree reaches an error on an interval.

    Parameters
    ----------
    interval, error
        What is to be reached.
    inner_degree : int
        The smallest N = deg h that is not excluded.
    excluded : float
        The proven error of every polynomial with deg h = N - 1 (above `error`); infinity for N = 0.
    """

    interval: tuple[float, float]
    error: float
    inner_degree: int
    excluded: float

    @property
    def degree(self) -> int:
        """The degree 2N + 1 of the odd polynomial."""
        return 2 * self.inner_degree + 1

    @property
    def inner_products(self) -> int:
        """The fewest products that form some h(R), deg h = N, from R = X X^T: each at most doubles the degree."""
        return max(0, self.inner_degree - 1).bit_length()

    @property
    def products(self) -> int:
        """The fewest products in all that form p(X) from X, in whatever order and blocks: ditto."""
        return (self.degree - 1).bit_length()


@lru_cache
def smallest_degree(low: float, high: float = 1.0, *, error: float) -> DegreeBound:
    """Return the smallest degree that may reach |1 - p| <= error on [low, high]; all smaller ones cannot.

    Raises
    ------
    ValueError
        For an error outside (0, 1) or an interval that is none.

    Notes
    -----
    Bisection on `error_bound`, a few ms. The optimum decreases with the degree, so the one value `excluded` is the
    certificate. The asymptotic size of the optimum, (1 - l) / sqrt(pi l N) b^N by [eremenko2007uniform], is not used.

    >>> bound = smallest_degree(1e-3, error=1e-8)
    >>> bound.degree, bound.inner_products
    (16763, 14)
    """
    low, high = check_interval(low, high)
    if not 0 < error < 1:
        raise ValueError(f"error must lie in (0, 1); got {error}.")
    if (high - low) / (high + low) <= error:
        return DegreeBound((low, high), error, 0, np.inf)
    inside, outside = 0, 1  # N = 0 has the error (high - low) / (high + low)
    while error_bound(outside, low, high) > error:
        inside, outside = outside, 2 * outside
    while outside - inside > 1:
        middle = (inside + outside) // 2
        inside, outside = (middle, outside) if error_bound(middle, low, high) > error else (inside, middle)
    excluded = error_bound(inside, low, high) if inside else (high - low) / (high + low)
    return DegreeBound((low, high), error, outside, excluded)
