r"""Odd rational functions with a polynomial part: on the Gram side a cubic term costs nothing.

A rational step with t poles forms F = gain (I + sum_j a_j (R + c_j I)^-1) from R = X X^H. Adding a multiple of R to F
costs no product, and a multiple of R^2 one, so the natural families are

    p(s) = s (b_0 + b_1 s^2 + ... + sum_j a_j / (s^2 + c_j)),      type (2 t + d, 2 t), d = 3 or 5,

of which Zolotarev's functions, type (2 t + 1, 2 t), are the case d = 1. Here: the best approximation of 1 among them,
by exchange; it equioscillates at 2 t + (d + 3) / 2 points. The construction is ours, not [nakatsukasa2016computing]'s.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass

import numpy as np

from ..arrays import Array
from .schedule import Interval
from .zolotarev import zolotarev, zolotarev_error

NARROW = 1e-5


@dataclass(frozen=True)
class Rational:
    """The odd rational step s -> s (b_0 + b_1 s^2 + ... + sum_j a_j / (s^2 + c_j)), made by `rational`.

    Parameters
    ----------
    coefficients : (b_0, b_1) or (b_0, b_1, b_2)
        Of the polynomial part, lowest first.
    residues, poles : tuples of t floats
        a_j and c_j > 0, in units of the squared singular values.
    input_interval : (low, high)
        Where it is the best approximation of 1, with the image (1 - E, 1 + E).
    """

    coefficients: tuple[float, ...]
    residues: tuple[float, ...]
    poles: tuple[float, ...]
    input_interval: Interval

    def __call__(self, s: Array) -> Array:
        """Map singular values."""
        t = s * s
        total = sum(a / (t + c) for a, c in zip(self.residues, self.poles, strict=True))
        return s * (total + sum(b * t**i for i, b in enumerate(self.coefficients)))

    @property
    def degree(self) -> int:
        """Degree of the polynomial part, as an odd polynomial."""
        return 2 * len(self.coefficients) - 1

    @property
    def extremes(self) -> tuple[float, ...]:
        """The positive zeros of the derivative, ascending."""
        squares = [np.polynomial.Polynomial([c, 1.0]) ** 2 for c in self.poles]
        slope = np.polynomial.Polynomial([(2 * i + 1) * b for i, b in enumerate(self.coefficients)])
        total = math.prod(squares, start=slope)
        for j, (a, c) in enumerate(zip(self.residues, self.poles, strict=True)):
            others = (square for i, square in enumerate(squares) if i != j)
            total = total + math.prod(others, start=np.polynomial.Polynomial([a * c, -a]))
        roots = total.roots()
        real = roots[np.abs(roots.imag) <= 1e-9 * np.abs(roots)].real
        return tuple(sorted(math.sqrt(t) for t in real if t > 0))

    def image(self, low: float, high: float) -> Interval:
        """Return the image of [low, high], from its ends and the extremes inside."""
        points = [low, high, *(p for p in self.extremes if low < p < high)]
        values = [float(self(p)) for p in points]
        return min(values), max(values)

    @property
    def error(self) -> float:
        """Largest |1 - p| over the input interval."""
        low, high = self.image(*self.input_interval)
        return max(1 - low, high - 1)


@functools.lru_cache(maxsize=4096)
def rational(t: int, low: float, high: float = 1.0, *, degree: int = 3) -> Rational:
    """Build the best approximation of 1 on [low, high] with t poles and a polynomial part.

    Parameters
    ----------
    t : int
        Number of poles, at least 1.
    low, high : float
        Singular values, 0 < low < high.
    degree : 3 or 5
        Of the polynomial part.

    Raises
    ------
    ValueError
        Where t < 1, the degree is another, the interval is empty, or so narrow that the Zolotarev step of t poles has
        an error below 1e-5: the problem is then too ill-conditioned for double precision, and the step not needed.

    Notes
    -----
    Exchange from the Zolotarev function with one pole more, whose last pole is expanded around infinity. Memoized;
    some milliseconds otherwise.

    >>> step = rational(1, 0.1)
    >>> bool(step.error < 0.5 * zolotarev(1, 0.1).centred().error)
    True
    """
    if t < 1 or degree not in (3, 5):
        raise ValueError(f"A step needs at least 1 pole and degree 3 or 5; got {t} poles and degree {degree}.")
    if not 0 < low < high < math.inf:
        raise ValueError(f"The interval needs 0 < low < high; got ({low:g}, {high:g}).")
    ends = low / high, 1.0
    if zolotarev_error(2 * t + 1, ends[0]) < 2 * NARROW:
        raise ValueError(f"({low:g}, {high:g}) is so narrow that a Zolotarev step of {t} poles is within {NARROW:g}.")
    q = (degree + 1) // 2
    theta, reference = _start(t, q, ends[0])
    for _ in range(60):
        theta = _level(theta, reference, q)
        step = _step(theta, q, ends)
        inside = [x for x in step.extremes if ends[0] < x < ends[1]]
        if len(inside) != len(reference) - 2:
            break
        reference = np.array([ends[0], *inside, ends[1]])
        errors = np.abs(1 - step(reference))
        if errors.max() - errors.min() <= 1e-9 * errors.max() + 1e-14:
            return Rational(
                coefficients=tuple(b / high ** (2 * i + 1) for i, b in enumerate(step.coefficients)),
                residues=tuple(a * high for a in step.residues),
                poles=tuple(c * high**2 for c in step.poles),
                input_interval=(float(low), float(high)),
            )
    raise ValueError(f"The exchange for {t} poles and degree {degree} did not settle on ({low:g}, {high:g}).")


def _start(t: int, q: int, low: float) -> tuple[np.ndarray, np.ndarray]:
    """Return parameters (b_i, a_j, log c_j, E) and a reference to start from."""
    z = zolotarev(t + 1, low).centred()
    order = np.argsort(z.poles)
    a, c = z.gain * np.array(z.residues)[order], np.array(z.poles)[order]
    b = a[-1] / c[-1] * (-1 / c[-1]) ** np.arange(q)
    b[0] += z.gain
    theta = np.concatenate([b, a[:-1], np.log(c[:-1]), [1 - z(low)]])
    points = np.array([low, *z.extremes, 1.0])
    return theta, points if q == 3 else np.delete(points, -2)


def _step(theta: np.ndarray, q: int, interval: Interval) -> Rational:
    t = (len(theta) - 1 - q) // 2
    values = theta.tolist()
    return Rational(tuple(values[:q]), tuple(values[q : q + t]), tuple(map(math.exp, values[q + t : -1])), interval)


def _level(theta: np.ndarray, x: np.ndarray, q: int) -> np.ndarray:
    """Solve p(x_i) + (-1)^i E = 1 by damped Newton steps."""
    t = (len(theta) - 1 - q) // 2
    signs = (-1.0) ** np.arange(len(x))
    powers = x[:, None] ** (2 * np.arange(q) + 1)
    f = _step(theta, q, (0.0, 1.0))(x) + signs * theta[-1] - 1
    for _ in range(50):
        a, c = theta[q : q + t], np.exp(theta[q + t : -1])
        inverse = 1 / (x[:, None] ** 2 + c)
        rows = np.column_stack([powers, x[:, None] * inverse, -x[:, None] * a * c * inverse**2, signs])
        change = np.linalg.solve(rows, -f)
        length = min(1.0, 1.0 / max(1e-300, np.abs(change[q + t : -1]).max()))  # poles move by a factor e at most
        while length > 1e-4:
            trial = theta + length * change
            g = _step(trial, q, (0.0, 1.0))(x) + signs * trial[-1] - 1
            if np.abs(g).max() < np.abs(f).max() * (1 - 0.1 * length) + 1e-15:
                break
            length /= 2
        else:
            return theta
        theta, f = trial, g
        if np.abs(f).max() < 1e-14:
            break
    return theta
