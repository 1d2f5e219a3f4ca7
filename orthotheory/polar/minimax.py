"""Optimal odd polynomials for the polar factor: one step by Remez' exchange, and their greedy composition.

The step of degree 2q + 1 for [l, u] is the odd polynomial p(x) = x h(x^2) with the smallest max |1 - p(x)|. It is
unique, and 1 - p takes the values E, -E, E, ... at q + 2 points: l, the q interior zeros of p', and u. These zeros are
roots of a polynomial of degree q in t = x^2, so the exchange needs no grid. Everything depends on l / u only; inside,
the interval is scaled to [1 - d, 1 + d] and both d and 1 - d are carried, so that neither a tiny l nor a tiny error
loses digits. Theorems `equioscillation` and `greedy-composition`; `multiprecision` is the referee.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.polynomial import chebyshev
from numpy.polynomial.polynomial import Polynomial

from ..arrays import Array
from .schedule import Interval, Schedule, with_image

DEGREES = range(3, 34, 2)
NEAR = 0.6  # up to this d the step is computed as a correction of the Pade step, with full relative accuracy of E
_S = (1 + np.cos(np.pi * (np.arange(40) + 0.5) / 40)) / 2  # Gauss nodes of the weight 1 / sqrt(s (1 - s)) on [0, 1]


def classical_coefficient(k: int) -> float:
    """Return c_k = binomial(2k, k) / 4^k, the Taylor coefficients of (1 - w)^(-1/2).

    >>> [classical_coefficient(k) for k in range(4)]
    [1.0, 0.5, 0.375, 0.3125]
    """
    c = 1.0
    for j in range(1, k + 1):
        c *= (2 * j - 1) / (2 * j)
    return c


@lru_cache
def classical_step(degree: int) -> tuple[float, ...]:
    """Return the Newton-Schulz (Pade) polynomial x sum_{k <= q} c_k (1 - x^2)^k of a degree 2q + 1.

    1 - p has a zero of order q + 1 at 1, and 0 <= p <= 1 on [0, 1] (theorem `newton-schulz-factor` for q = 1, 2).

    >>> classical_step(5)
    (1.875, -1.25, 0.375)
    """
    q = _half(degree)
    h = Polynomial([0.0])
    for k in range(q, -1, -1):
        h = h * Polynomial([1.0, -1.0]) + classical_coefficient(k)
    return tuple(float(c) for c in h.coef)


@dataclass(frozen=True)
class OptimalStep:
    """The best odd polynomial of a degree for the constant 1 on an interval.

    Parameters
    ----------
    interval : (low, high)
        Where it is optimal.
    coefficients : tuple of float
        (a, b, c, ...) of a x + b x^3 + c x^5 + ... Evaluated in float64 they cost 1e-10 at degree 17, 4e-4 at 33 (low = 1e-3).
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
    ([8.470329, -25.108075, 18.629276], 0.99151646)
    """
    q = _half(degree)
    low, high = check_interval(low, high)
    center = low / 2 + high / 2
    return _scaled(_normalized(q, low / center, (high - low) / (high + low)), center, (low, high))


def optimal_cubic(low: float, high: float = 1.0) -> tuple[float, float, float]:
    """Return a, b and E of the optimal a x + b x^3 on [low, high], in closed form.

    alpha = sqrt(3 / (u^2 + u l + l^2)), beta = 4 / (2 + u l (u + l) alpha^3):
    a = 3 alpha beta / 2, b = -alpha^3 beta / 2, E = beta - 1 [amsel2025polar] [grishina2025accelerating].

    >>> [round(x, 8) for x in optimal_cubic(1e-3)]
    [5.18010214, -5.17492205, 0.9948199]
    """
    low, high = check_interval(low, high)
    center = low / 2 + high / 2
    (a, b), error, *_ = _cubic(1, low / center, (high - low) / (high + low))
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
        _half(degree)
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
            step = _scaled(_normalized(_half(degree), floor, spread), center, (low, high))
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
        floor, spread = _preimage(_half(degree), floor, spread)
    low = high * floor / (1 + spread)
    if not low > 1e-300 * high:
        raise ValueError(f"delta = {delta} is reached from below 1e-300 * high; take fewer steps or a smaller delta.")
    return compose(degrees, low, high)


def step_map(degree: int, floor: float, spread: float | None = None) -> Interval:
    """Return (1 - E, E) of the optimal step on [floor, 2 - floor]; `spread` = 1 - floor, where it is known better.

    The map by which chains are planned: increasing in `floor`, so that a larger floor before a step is a larger one
    after it.
    """
    step = _normalized(_half(degree), floor, 1 - floor if spread is None else spread)
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
    return 2 * classical_coefficient(_half(degree) + 1)


def check_interval(low: float, high: float) -> Interval:
    """Return the ends as floats; refuse what is not 0 < low <= high < infinity."""
    low, high = float(low), float(high)
    if not 0 < low <= high < np.inf:
        raise ValueError(f"An interval of singular values has 0 < low <= high < infinity; got [{low}, {high}].")
    return low, high


def _value(coefficients: Sequence[float], x: float) -> float:
    return x * float(Polynomial(coefficients)(x * x))


def _half(degree: int) -> int:
    if degree not in DEGREES:
        raise ValueError(f"degree must be odd, from 3 to 33; got {degree}.")
    return (int(degree) - 1) // 2


# Everything below is on [1 - d, 1 + d]: `floor` is 1 - d, `spread` is d, both to full relative accuracy.


@lru_cache(maxsize=1 << 16)
def _normalized(q: int, floor: float, spread: float) -> OptimalStep:
    solver = _cubic if q == 1 else _near if spread <= NEAR else _wide
    coefficients, error, rest, points, series = solver(q, floor, spread)
    parts = (tuple(float(c) for c in part) for part in (points, series))
    return OptimalStep((floor, 2 - floor), tuple(float(c) for c in coefficients), float(error), float(rest), *parts)


def _scaled(step: OptimalStep, center: float, interval: Interval) -> OptimalStep:
    """Return the step for arguments that are `center` times larger."""
    with np.errstate(over="ignore", divide="ignore", invalid="ignore"):
        powers = np.float64(center) ** (2 * np.arange(len(step.coefficients)) + 1)
        coefficients = np.array(step.coefficients) / powers
    if not np.isfinite(coefficients).all():
        raise ValueError(
            f"The coefficients of degree {step.degree} for {interval} leave the range of float64; scale the matrix."
        )
    return OptimalStep(
        interval,
        tuple(coefficients.tolist()),
        step.error,
        step.floor,
        tuple(center * x for x in step.points),
        tuple(c / center for c in step.chebyshev),
    )


def _cubic(q: int, floor: float, d: float) -> tuple:
    """Return coefficients, E, 1 - E, the points and the Chebyshev form in closed form: E = tanh(-log(y) / 2)."""
    alpha = (1 + d * d / 3) ** -0.5
    y = floor * (2 - floor) * alpha**3
    rate = -np.log(y) if d > 0.5 else 1.5 * np.log1p(d * d / 3) - np.log1p(-d * d)
    beta = 2 / (1 + y)
    a, b = 1.5 * alpha * beta, -0.5 * alpha**3 * beta
    return (a, b), np.tanh(rate / 2), y * beta, (floor, 1 / alpha, 2 - floor), (a + b * (1 + d * d), 2 * d * b)


def _exchange(q: int, floor: float, d: float, solve: Callable) -> tuple[Array, float, Array]:
    """Level the error on the points, move them to its extrema, repeat; return the series, the level, the points.

    Points are tau in [-1, 1], with t = x^2 = 1 + d^2 + 2 d tau. `solve(tau, x)` returns the series in tau, the level
    and the series whose roots are the interior extrema.
    """
    xi = -np.cos(np.pi * np.arange(q + 2) / (q + 1))
    tau = xi + d * (xi * xi - 1) / 2
    for _ in range(30):
        x = np.sqrt(floor * floor + 2 * d * (1 + tau))
        series, level, slope = solve(tau, x)
        roots = np.sort(chebyshev.chebroots(slope).real)
        moved = np.max(np.abs(roots - tau[1:-1]))
        tau = np.concatenate([[-1.0], np.clip(roots, -1, 1), [1.0]])
        if moved < 1e-8:  # the level is right to the square of it
            return series, level, np.concatenate([[floor], x[1:-1], [2 - floor]])
    raise ArithmeticError(f"Remez' exchange did not settle for degree {2 * q + 1} on [{floor}, {2 - floor}].")


def _wide(q: int, floor: float, d: float) -> tuple:
    """Solve h(t_i) -+ floor f / x_i = 0 or 2 / x_i for h and f = (1 - E) / floor, which stays of order 1."""
    sign = (-1.0) ** np.arange(q + 2)

    def solve(tau: Array, x: Array) -> tuple:
        rows = np.column_stack([chebyshev.chebvander(tau, q), -sign * floor / x])
        *h, f = np.linalg.solve(rows, (1 - sign) / x)
        moving = chebyshev.chebmul([(1 + d * d) / d, 2.0], chebyshev.chebder(h))
        return h, f, chebyshev.chebadd(h, moving)

    h, f, x = _exchange(q, floor, d, solve)
    return _monomials(h, floor, d, 0), 1 - floor * f, floor * f, x, h


def _near(q: int, floor: float, d: float) -> tuple:
    """Solve for the correction of the Pade step, in units of d^(q+1); d = 0 is the limit.

    With w = 1 - x^2 the Pade step leaves 1 - p = x w^(q+1) (1/pi) int_0^1 s^(q+1) / (1 - w s) ds / sqrt(s (1 - s)),
    by Gauss quadrature without cancellation (the pole stays at 0.19 from [0, 1]: 2.3^-80), and p' = (2q + 1) c_q w^q.
    """
    sign = (-1.0) ** np.arange(q + 2)
    slope = (2 * q + 1) * classical_coefficient(q) * (-2.0) ** q * chebyshev.chebpow([d / 2, 1.0], q)

    def remainder(tau: Array) -> Array:
        w = -(d + 2 * tau)  # in units of d
        return w ** (q + 1) * np.mean(_S ** (q + 1) / (1 - d * w[:, None] * _S), axis=1)

    def solve(tau: Array, x: Array) -> tuple:
        *g, level = np.linalg.solve(np.column_stack([chebyshev.chebvander(tau, q), sign / x]), remainder(tau))
        moving = chebyshev.chebadd(d * np.array(g), chebyshev.chebmul([1 + d * d, 2 * d], chebyshev.chebder(g)))
        return g, level, chebyshev.chebadd(slope, moving)

    g, level, x = _exchange(q, floor, d, solve)
    error = level * d ** (q + 1)
    nodes = chebyshev.chebpts1(q + 1)
    h = (1 + d * d + 2 * d * nodes) ** -0.5 + d ** (q + 1) * (chebyshev.chebval(nodes, g) - remainder(nodes))
    series = np.linalg.solve(chebyshev.chebvander(nodes, q), h)
    coefficients = np.array(classical_step(2 * q + 1)) + _monomials(g, floor, d, q + 1)
    return coefficients, error, 1 - error, x, series


def _monomials(series: Sequence[float], floor: float, d: float, power: int) -> Array:
    """Return d^power sum_k a_k T_k(tau) in powers of t, through s = (t - floor^2) / (4 d), where nothing cancels.

    In powers of s in [0, 1] the Chebyshev polynomials have integer coefficients of alternating sign, and so has a
    function like 1 / sqrt(t) in them.
    """
    shifted = [Polynomial([1.0]), Polynomial([-1.0, 2.0])]
    while len(shifted) < len(series):
        shifted.append(Polynomial([-2.0, 4.0]) * shifted[-1] - shifted[-2])
    in_s = sum((a * t for a, t in zip(series, shifted, strict=False)), Polynomial([0.0])).coef
    in_t = Polynomial([0.0])
    for j in reversed(range(len(in_s))):
        in_t = in_t * Polynomial([-floor * floor, 1.0]) + in_s[j] * d ** (power - j) / 4.0**j
    return in_t.coef


def _preimage(q: int, floor: float, spread: float) -> Interval:
    """Return (1 - d, d) of the interval whose optimal step leaves the error `spread` = 1 - floor."""
    from scipy.optimize import brentq

    def ends(logit: float) -> Interval:
        return float(1 / (1 + np.exp(logit))), float(1 / (1 + np.exp(-logit)))

    def excess(logit: float) -> float:
        step = _normalized(q, *ends(logit))
        return float(np.log(step.error / step.floor)) - target

    target = float(np.log(spread / floor))
    low, width = target, 1.0  # an optimal step never enlarges the error
    while excess(low + width) < 0:
        width *= 2
    return ends(float(brentq(excess, low, low + width, xtol=1e-15, rtol=1e-15)))
