"""The referee of `minimax`: the same exchange with mpmath, to any number of digits, and with its own bracket.

It shares with `exchange` only the starting points; the equations are solved in powers of t = x^2 with as many guard
digits as their condition takes. The bracket min |e(x_i)| <= E <= max |e| (de la Vallee-Poussin) says how far from
optimal a polynomial is, whatever way it was found; `proof` makes the same bracket rigorous.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from .exchange import half_degree, level
from .minimax import Composition, check_interval

Real = Any  # mpmath's mpf


@dataclass(frozen=True)
class PreciseStep:
    """The best odd polynomial of a degree on [low, high], as mpmath numbers.

    Parameters
    ----------
    interval : (low, high)
        Where it is optimal.
    coefficients : tuple
        Lowest degree first.
    error, floor : mpf
        E and 1 - E.
    points : tuple
        The q + 2 points.
    bracket : (low, high)
        min |e(x_i)| and the largest |e| on the interval.
    """

    interval: tuple[Real, Real]
    coefficients: tuple[Real, ...]
    error: Real
    floor: Real
    points: tuple[Real, ...]
    bracket: tuple[Real, Real]

    @property
    def width(self) -> float:
        """The relative width of the bracket; the level of the equioscillation is at least as good."""
        return float((self.bracket[1] - self.bracket[0]) / self.bracket[1]) if self.bracket[1] else 0.0


def optimal_step_precisely(
    degree: int, low: float | Real, high: float | Real = 1.0, *, digits: int = 50
) -> PreciseStep:
    """Return the optimal step on [low, high] with E, 1 - E and the coefficients to that many digits.

    Parameters
    ----------
    degree : int
        Odd, 3 to 33.
    low, high : float or mpf
        Taken exactly as the binary numbers they are.
    digits : int
        At least 16.

    Raises
    ------
    ValueError
        For a degree or an interval that `optimal_step` refuses, low = high, or fewer than 16 digits.

    >>> step = optimal_step_precisely(5, 1e-3, digits=40)
    >>> step.width < 1e-25, round(float(step.error), 12)
    (True, 0.991529696304)
    """
    import mpmath

    half_degree(degree)
    check_digits(digits)
    check_interval(float(low), float(high))
    with mpmath.workdps(2 * digits + 40):
        low, high = mpmath.mpf(low), mpmath.mpf(high)
        center = (low + high) / 2
        step = _level(degree, low / center, (high - low) / (high + low), digits)
        return _scaled(step, center, (low, high))


def compose_precisely(degrees: Sequence[int], low: float, high: float, digits: int) -> Composition:
    """Return `minimax.compose(degrees, low, high, digits=digits)`."""
    import mpmath

    steps = chain_precisely(degrees, low, high, digits=digits)
    return Composition(
        tuple(degrees),
        0.0,
        1.0,
        tuple(tuple(float(c) for c in step.coefficients) for step in steps),
        ((low, high), *((float(step.floor), float(2 - step.floor)) for step in steps)),
        tuple(float(step.error) for step in steps),
        digits,
        tuple(tuple(mpmath.nstr(c, digits) for c in step.coefficients) for step in steps),
    )


def chain_precisely(degrees: Sequence[int], low: float, high: float = 1.0, *, digits: int = 50) -> list[PreciseStep]:
    """Return the greedy chain as `PreciseStep`s, each with its bracket."""
    import mpmath

    check_digits(digits)
    for degree in degrees:
        half_degree(degree)
    with mpmath.workdps(2 * digits + 40):
        low, high = mpmath.mpf(low), mpmath.mpf(high)
        steps = [optimal_step_precisely(degrees[0], low, high, digits=digits)]
        for degree in degrees[1:]:
            steps.append(_level(degree, steps[-1].floor, steps[-1].error, digits))
    return steps


def check_digits(digits: int) -> None:
    """Refuse fewer digits than float64 has."""
    if digits < 16:
        raise ValueError(f"digits must be at least 16, float64 has that many; got {digits}.")


def _level(degree: int, floor: Real, spread: Real, digits: int) -> PreciseStep:
    """Solve on [1 - d, 1 + d]: E is of the size d^(q+1), and the powers of t lose as much again."""
    import mpmath

    q = half_degree(degree)
    if not spread:
        raise ValueError("low = high leaves nothing to level; use minimax.classical_step.")
    lost = (2 * q + 2) * max(0.0, -float(mpmath.log10(spread))) - 2 * float(mpmath.log10(floor)) + 2 * q
    with mpmath.workdps(digits + 20 + int(lost)):
        points = _start(q, floor, spread)
        for _ in range(4 + int(np.log2(digits + lost))):
            h, error = _solve(q, points)
            moved = [floor, *(_extremum(h, x) for x in points[1:-1]), 2 - floor]
            change = max(abs(x - y) for x, y in zip(points, moved, strict=True)) / spread
            if change < mpmath.mpf(10) ** (-digits / 2 - 5):  # the level is right to the square of it
                break
            points = moved
        else:
            raise ArithmeticError(f"The exchange did not settle for degree {degree}, 1 - d = {mpmath.nstr(floor, 5)}.")
        sizes = [[abs(1 - x * mpmath.polyval(h[::-1], x * x)) for x in at] for at in (points, moved)]
        bracket = (min(sizes[0]), max(sizes[1]))
        return PreciseStep((floor, 2 - floor), tuple(h), error, 1 - error, tuple(moved), bracket)


def _start(q: int, floor: Real, spread: Real) -> list[Real]:
    import mpmath

    if spread > 1e-4:
        inner = [mpmath.mpf(x) for x in level(q, float(floor), float(spread)).points[1:-1]]
    else:  # the limit for d -> 0; in float64 the points would be lost beside 1
        inner = [1 - spread * mpmath.cos(mpmath.pi * i / (q + 1)) for i in range(1, q + 1)]
    return [floor, *inner, 2 - floor]


def _solve(q: int, points: list[Real]) -> tuple[list[Real], Real]:
    import mpmath

    rows = mpmath.matrix([[x ** (2 * k + 1) for k in range(q + 1)] + [(-1) ** i] for i, x in enumerate(points)])
    *h, error = mpmath.lu_solve(rows, mpmath.ones(q + 2, 1))
    return h, error


def _extremum(h: list[Real], x: Real) -> Real:
    """Return the zero of p' nearest to x, by Newton's method in t for sum (2k + 1) h_k t^k."""
    import mpmath

    slope = [(2 * k + 1) * c for k, c in enumerate(h)][::-1]
    t, last = x * x, mpmath.inf
    while True:
        value, derivative = mpmath.polyval(slope, t, derivative=True)
        move = value / derivative
        if not abs(move) < last:  # down to rounding: it shrinks no more
            return mpmath.sqrt(t)
        t, last = t - move, abs(move)


def _scaled(step: PreciseStep, center: Real, interval: tuple[Real, Real]) -> PreciseStep:
    coefficients = tuple(c / center ** (2 * k + 1) for k, c in enumerate(step.coefficients))
    return PreciseStep(
        interval, coefficients, step.error, step.floor, tuple(center * x for x in step.points), step.bracket
    )
