"""Optimal odd polynomials for the polar factor: one step by Remez' exchange, and their greedy composition.

The step of degree 2q + 1 for [l, u] is the odd polynomial p(x) = x h(x^2) with the smallest max |1 - p(x)|. It is
unique, and 1 - p takes the values E, -E, E, ... at q + 2 points: l, the q interior zeros of p', and u. These zeros are
roots of a polynomial of degree q in t = x^2, so the exchange needs no grid. Everything depends on l / u only: inside
(`exchange`) the interval is [1 - d, 1 + d], and neither a tiny l nor a tiny error loses digits. Theorems
`equioscillation` and `greedy-composition`; `multiprecision` is the referee.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.polynomial import chebyshev
from numpy.polynomial.polynomial import Polynomial

from ..arrays import Array
from .exchange import Leveled, classical_coefficient, classical_step, cubic, half_degree, level
from .schedule import Interval, Schedule, with_image


@dataclass(frozen=True)
class OptimalStep:
    """The best odd polynomial of a degree for the constant 1 on an interval.

    Parameters
    ----------
    interval : (low, high)
        Where it is optimal.
    coefficients : tuple of float
        (a, b, c, ...) of a x + b x^3 + c x^5 + ... Evaluating them in float64 costs 1e-10 at degree 17, 4e-4 at 33
        (low = 1e-3): the powers are ill conditioned there, whatever the method.
    error : float
        E, the largest |1 - p| on the interval.
    floor : float
        1 - E = p(low), to full relative accuracy where it is tiny. The image of the interval is [floor, 2 - floor].
    points : tuple of float
        The degree q + 2 points where 1 - p = E, -E, E, ...
    chebyshev : tuple of float
        h(t) in Chebyshev polynomials of t = x^2 on [low^2, high^2], well conditioned at every degree.
    """

    interval: Interval
    coefficients: tuple[float, ...]
    error: float
    floor: float
    points: tuple[float, ...]
    chebyshev: tuple[float, ...]

    @property
    def degree(self) -> int:
        """The degree 2q + 1."""
        return 2 * len(self.coefficients) - 1

    def __call__(self, x: Array) -> Array:
        """Evaluate p at host values, from the Chebyshev form (Clenshaw)."""
        low, high = self.interval
        x = np.asarray(x, dtype=float)
        tau = (2 * (x / high) ** 2 - (low / high) ** 2 - 1) / ((1 - low / high) * (1 + low / high) or 1.0)
        return x * chebyshev.chebval(tau, self.chebyshev)

    def bracket(self) -> Interval:
        """Return min |e(x_i)| and max |e(x_i)| over the points, which enclose the optimum (de la Vallee-Poussin).

        Up to rounding, about 1e-15 of absolute size: `multiprecision` and `proof` make it tight and rigorous.
        """
        sizes = np.abs(1 - self(np.array(self.points)))
        return float(sizes.min()), float(sizes.max())


def optimal_step(degree: int, low: float, high: float = 1.0) -> OptimalStep:
    """Return the odd polynomial of this degree with the smallest max |1 - p| on [low, high].

    Parameters
    ----------
    degree : int
        Odd, 3 to 33.
    low, high : float
        0 < low <= high. At low = high the step is the limit, which is the Pade step x sum c_k (1 - x^2)^k.

    Raises
    ------
    ValueError
        For another degree or interval, or where high ** -degree leaves the range of float64.

    Notes
    -----
    Remez' exchange from Chebyshev points, quadratically convergent, memoized; about 1 ms. The error is accurate to
    about 1e-13 of itself for d <= 0.6 and to 1e-14 absolutely above, `floor` to 1e-13 of itself down to low / high =
    1e-16 and below. Degree 3 in closed form (`optimal_cubic`) [grishina2025accelerating] [amsel2025polar].

    >>> step = optimal_step(5, 1e-3)
    >>> [round(c, 6) for c in step.coefficients], round(step.error, 8)
    ([8.470329, -25.108075, 18.629276], 0.9915297)
    """
    q = half_degree(degree)
    low, high = check_interval(low, high)
    center = low / 2 + high / 2
    return _scaled(level(q, low / center, (high - low) / (high + low)), center, (low, high))


def optimal_cubic(low: float, high: float = 1.0) -> tuple[float, float, float]:
    """Return a, b and E of the optimal a x + b x^3 on [low, high], in closed form.

    alpha = sqrt(3 / (u^2 + u l + l^2)), beta = 4 / (2 + u l (u + l) alpha^3):
    a = 3 alpha beta / 2, b = -alpha^3 beta / 2, E = beta - 1 [amsel2025polar] [grishina2025accelerating].

    >>> [round(x, 8) for x in optimal_cubic(1e-3)]
    [5.18010214, -5.17492205, 0.9948199]
    """
    low, high = check_interval(low, high)
    center = low / 2 + high / 2
    (a, b), error, *_ = cubic(1, low / center, (high - low) / (high + low))
    return a / center, b / center**3, float(error)


@dataclass(frozen=True)
class Composition:
    """A greedy chain of optimal steps.

    Parameters
    ----------
    degrees : tuple of int
        Of each step.
    cushion, safety : float
        As given to `compose`.
    coefficients : tuple of tuples of float
        As they are applied: the safety factor is inside.
    intervals : tuple of (low, high)
        One more than steps: what each step is designed for, and last the image.
    errors : tuple of float
        After each step the largest |1 - p(...)| on the interval of the first, to full relative accuracy when small.
    digits : int or None
        Decimal digits of the design; None is float64.
    decimals : tuple of tuples of str
        With `digits`, the coefficients to that many digits.
    """

    degrees: tuple[int, ...]
    cushion: float
    safety: float
    coefficients: tuple[tuple[float, ...], ...]
    intervals: tuple[Interval, ...]
    errors: tuple[float, ...]
    digits: int | None = None
    decimals: tuple[tuple[str, ...], ...] = ()

    @property
    def error(self) -> float:
        """The error after the last step."""
        return self.errors[-1]

    @property
    def image(self) -> Interval:
        """The interval after the last step."""
        return self.intervals[-1]

    @property
    def slope(self) -> float:
        """The derivative of the composed polynomial at zero, the gain of tiny singular values."""
        return float(np.prod([step[0] for step in self.coefficients]))

    def __call__(self, x: Array) -> Array:
        """Evaluate the composed polynomial at host values."""
        x = np.asarray(x, dtype=float)
        for step in self.coefficients:
            x = x * Polynomial(step)(x * x)
        return x

    def schedule(self, name: str, *, source: str = "", **fields: Any) -> Schedule:
        """Return the chain as a `Schedule`; further fields (normalization) are passed on."""
        made = f"minimax degrees {self.degrees} on {self.intervals[0]}, cushion {self.cushion}, safety {self.safety}"
        return with_image(
            name=name,
            coefficients=self.coefficients,
            source=f"{source}; {made}" if source else made,
            input_interval=self.intervals[0],
            **fields,
        )


def compose(
    degrees: Sequence[int],
    low: float,
    high: float = 1.0,
    *,
    cushion: float = 0.0,
    safety: float = 1.0,
    digits: int | None = None,
) -> Composition:
    """Compose optimal steps greedily: each is the best for the image of the steps before it.

    Parameters
    ----------
    degrees : sequence of int
        One odd degree a step, 3 to 33.
    low, high : float
        The interval of the singular values, 0 < low <= high.
    cushion : float
        A step is designed for [max(low, cushion * high), high] and then, where the cushion acts, multiplied so that
        its image of the true [low, high] is centered on 1: a smaller slope at zero, and less overshoot above `high`.
    safety : float
        Every step but the last is evaluated at x / safety.
    digits : int, optional
        Design with mpmath to that many digits (at least 16); the cushion and the safety factor are float64 only.

    Raises
    ------
    ValueError
        For an empty list, a degree or an interval that `optimal_step` refuses, cushion outside [0, 1), safety < 1.

    Notes
    -----
    Among all compositions of these degrees in this order the greedy one has the smallest error (theorem
    `greedy-composition`), since the error of a step is a monotone function of the ratio of its interval. Cushion and
    safety as in [amsel2025polar]; cubic steps are centered by their interior maximum, where the authors only treat
    the quintic.

    >>> round(compose([5] * 6, 1e-3).error, 12)
    0.000916472189
    """
    degrees = tuple(degrees)
    if not degrees:
        raise ValueError("compose needs at least one degree; got none.")
    if not 0 <= cushion < 1:
        raise ValueError(f"cushion is a share of the upper end, in [0, 1); got {cushion}.")
    if not 1 <= safety < np.inf:
        raise ValueError(f"safety is a factor of at least 1; got {safety}.")
    low, high = check_interval(low, high)
    if digits is not None:
        if cushion or safety != 1:
            raise ValueError("digits= is for the pure chain; cushion and safety are applied in float64 only.")
        from .multiprecision import compose_precisely

        return compose_precisely(degrees, low, high, digits)
    for degree in degrees:
        half_degree(degree)
    floor, spread, center = 2 * low / (low + high), (high - low) / (high + low), low / 2 + high / 2
    intervals, errors, coefficients = [(low, high)], [], []
    for i, degree in enumerate(degrees):
        if cushion * high > low:
            step = optimal_step(degree, cushion * high, high)
            value = _value(step.coefficients, low)
            factor = 2 / (value + 1 + step.error)
            row, floor = tuple(factor * c for c in step.coefficients), factor * value
            spread = 1 - floor
        else:
            step = _scaled(level(half_degree(degree), floor, spread), center, (low, high))
            row, floor, spread = step.coefficients, step.floor, step.error
        if safety != 1 and i < len(degrees) - 1:
            row = tuple(c / safety ** (2 * j + 1) for j, c in enumerate(row))
            floor = _value(row, low)
            spread = 1 - floor
        low, high, center = floor, 2 - floor, 1.0
        coefficients.append(row)
        errors.append(spread)
        intervals.append((low, high))
    return Composition(degrees, cushion, safety, tuple(coefficients), tuple(intervals), tuple(errors))


def delta_orthogonalization(degrees: Sequence[int], delta: float, high: float = 1.0) -> Composition:
    """Return the chain with |1 - p| <= delta down to the smallest possible singular value.

    It is the minimax chain on [l, high] with l chosen so that its error is delta. For one step it also has the largest
    slope at zero among all odd polynomials of its degree with |1 - p| <= delta on [x, high], for every x from l to the
    first interior extremum: the difference of a steeper one would have q + 1 positive zeros (theorem
    `steepest-step`). The aim is that of [grishina2025accelerating]; this characterization is ours, the authors'
    algorithm was not consulted.

    Raises
    ------
    ValueError
        For delta outside (0, 1), or so close to 1 that l / high < 1e-300.

    >>> chain = delta_orthogonalization([5] * 5, 0.3)
    >>> round(chain.error, 10), chain.intervals[0][0] < 1e-3
    (0.3, True)
    """
    if not 0 < delta < 1:
        raise ValueError(f"delta is an error in (0, 1); got {delta}.")
    floor, spread = 1 - delta, delta
    for degree in reversed(tuple(degrees)):
        floor, spread = _preimage(half_degree(degree), floor, spread)
    low = high * floor / (1 + spread)
    if not low > 1e-300 * high:
        raise ValueError(f"delta = {delta} is reached from below 1e-300 * high; take fewer steps or a smaller delta.")
    return compose(degrees, low, high)


def step_map(degree: int, floor: float, spread: float | None = None) -> Interval:
    """Return (1 - E, E) of the optimal step on [floor, 2 - floor]; `spread` = 1 - floor, where it is known better.

    The map by which chains are planned: increasing in `floor`, so that a larger floor before a step is a larger one
    after it.
    """
    step = level(half_degree(degree), floor, 1 - floor if spread is None else spread)
    return step.floor, step.error


@lru_cache
def gain(degree: int) -> float:
    """Return the limit of the growth of low / high in one step for low -> 0: 3 sqrt(3) / 2 for the cubic.

    >>> [round(gain(d), 2) for d in (3, 5, 7, 9, 13, 17)]
    [2.6, 4.26, 5.93, 7.61, 10.97, 14.34]
    """
    tiny = 1e-30  # 1 - E = gain * tiny (1 + O(tiny))
    return step_map(degree, tiny, 1.0)[0] / tiny


def contraction(degree: int) -> float:
    """Return the constant of E = 2 c_{q+1} d^(q+1) (1 + O(d)) for [1 - d, 1 + d] (theorem `minimax-asymptotics`).

    It is 2^q times smaller than that of the classical step.

    >>> contraction(3), contraction(5)
    (0.75, 0.625)
    """
    return 2 * classical_coefficient(half_degree(degree) + 1)


def check_interval(low: float, high: float) -> Interval:
    """Return the ends as floats; refuse what is not 0 < low <= high < infinity."""
    low, high = float(low), float(high)
    if not 0 < low <= high < np.inf:
        raise ValueError(f"An interval of singular values has 0 < low <= high < infinity; got [{low}, {high}].")
    return low, high


def _value(coefficients: Sequence[float], x: float) -> float:
    return x * float(Polynomial(coefficients)(x * x))


def _scaled(step: Leveled, center: float, interval: Interval) -> OptimalStep:
    """Return the step for arguments that are `center` times larger."""
    with np.errstate(over="ignore", divide="ignore", invalid="ignore"):
        powers = np.float64(center) ** (2 * np.arange(len(step.coefficients)) + 1)
        coefficients = np.array(step.coefficients) / powers
    if not np.isfinite(coefficients).all():
        raise ValueError(
            f"Degree {2 * len(powers) - 1} for {interval}: coefficients outside the range of float64; scale the matrix."
        )
    return OptimalStep(
        interval,
        tuple(coefficients.tolist()),
        step.error,
        step.floor,
        tuple(center * x for x in step.points),
        tuple(c / center for c in step.chebyshev),
    )


def _preimage(q: int, floor: float, spread: float) -> Interval:
    """Return (1 - d, d) of the interval whose optimal step leaves the error `spread` = 1 - floor."""
    from scipy.optimize import brentq

    def ends(logit: float) -> Interval:
        return float(1 / (1 + np.exp(logit))), float(1 / (1 + np.exp(-logit)))

    def excess(logit: float) -> float:
        step = level(q, *ends(logit))
        return float(np.log(step.error / step.floor)) - target

    target = float(np.log(spread / floor))
    low, width = target, 1.0  # an optimal step never enlarges the error
    while excess(low + width) < 0:
        width *= 2
    return ends(float(brentq(excess, low, low + width, xtol=1e-15, rtol=1e-15)))


__all__ = [
    "Composition",
    "OptimalStep",
    "classical_step",
    "compose",
    "contraction",
    "delta_orthogonalization",
    "gain",
    "optimal_cubic",
    "optimal_step",
    "step_map",
]
