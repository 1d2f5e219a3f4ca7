r"""Odd rational functions with a cubic term: on the Gram side they cost what Zolotarev's cost and reach further.

A rational step with t poles forms F = gain (I + sum_j a_j (R + c_j I)^-1) from R = X X^H. Adding a multiple of R to F
costs no product, so the natural family is

    p(s) = s (b_0 + b_1 s^2 + sum_j a_j / (s^2 + c_j)),      type (2 t + 3, 2 t),

of which Zolotarev's functions, type (2 t + 1, 2 t), are the case b_1 = 0. Here: the best approximation of 1 in it, by
exchange; it equioscillates at 2 t + 3 points. The construction is ours; nothing of it is in [nakatsukasa2016computing].
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass

import numpy as np

from ..arrays import Array
from .schedule import Interval
from .zolotarev import zolotarev


@dataclass(frozen=True)
class Rational:
    """The odd rational step s -> s (b_0 + b_1 s^2 + sum_j a_j / (s^2 + c_j)), made by `rational`.

    Parameters
    ----------
    coefficients : (b_0, b_1)
    residues, poles : tuples of t floats
        a_j and c_j > 0, in units of the squared singular values.
    input_interval : (low, high)
        Where it is the best approximation of 1, with the image (1 - E, 1 + E).
    """

    coefficients: tuple[float, float]
    residues: tuple[float, ...]
    poles: tuple[float, ...]
    input_interval: Interval

    def __call__(self, s: Array) -> Array:
        """Map singular values."""
        t = s * s
        b0, b1 = self.coefficients
        return s * (b0 + b1 * t + sum(a / (t + c) for a, c in zip(self.residues, self.poles, strict=True)))

    def slope(self, s: Array) -> Array:
        """Return the derivative."""
        t = s * s
        b0, b1 = self.coefficients
        terms = zip(self.residues, self.poles, strict=True)
        return b0 + 3 * b1 * t + sum(a * (c - t) / (t + c) ** 2 for a, c in terms)

    @property
    def extremes(self) -> tuple[float, ...]:
        """The positive zeros of the derivative, ascending."""
        b0, b1 = self.coefficients
        poles = [np.polynomial.Polynomial([c, 1.0]) for c in self.poles]
        total = np.polynomial.Polynomial([b0, 3 * b1]) * math.prod((p * p for p in poles), start=1.0)
        for j, (a, c) in enumerate(zip(self.residues, self.poles, strict=True)):
            others = math.prod((p * p for i, p in enumerate(poles) if i != j), start=1.0)
            total = total + np.polynomial.Polynomial([a * c, -a]) * others
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
def rational(t: int, low: float, high: float = 1.0) -> Rational:
    """Build the best approximation of 1 on [low, high] with t poles and a cubic term.

    Raises
    ------
    ValueError
        Where t < 1, the interval is empty, or so wide or narrow that double precision cannot level the error.

    Notes
    -----
    Exchange from the Zolotarev function with one pole more, whose last pole is sent to infinity. Memoized.

    >>> step = rational(1, 0.1)
    >>> bool(step.error < 0.6 * zolotarev(1, 0.1).centred().error)
    True
    """
    if t < 1:
        raise ValueError(f"t, the number of poles, must be at least 1; got {t}.")
    if not 0 < low < high < math.inf:
        raise ValueError(f"The interval needs 0 < low < high; got ({low:g}, {high:g}).")
    theta, reference = _start(t, low / high)
    for _ in range(60):
        theta = _level(theta, reference, t)
        step = _step(theta, t, (low / high, 1.0))
        ends = step.input_interval
        inside = [x for x in step.extremes if ends[0] < x < ends[1]]
        if len(inside) != 2 * t + 1:
            raise ValueError(f"No best step with {t} poles and a cubic term was found on ({low:g}, {high:g}).")
        moved = np.array([ends[0], *inside, ends[1]])
        errors = np.abs(1 - step(moved))
        if errors.max() - errors.min() <= 1e-9 * errors.max() + 1e-14:
            return Rational(
                coefficients=(step.coefficients[0] / high, step.coefficients[1] / high**3),
                residues=tuple(a * high for a in step.residues),
                poles=tuple(c * high**2 for c in step.poles),
                input_interval=(float(low), float(high)),
            )
        reference = moved
    raise ValueError(f"The exchange for {t} poles and a cubic term did not settle on ({low:g}, {high:g}).")


def _start(t: int, low: float) -> tuple[np.ndarray, np.ndarray]:
    """Return parameters (b_0, b_1, a_j, log c_j, E) and a reference to start from."""
    z = zolotarev(t + 1, low).centred()
    last = int(np.argmax(z.poles))
    a, c = (z.gain * z.residues[last], z.poles[last])
    rest = [j for j in range(t + 1) if j != last]
    theta = np.array([
        z.gain + a / c, -a / c**2, *(z.gain * z.residues[j] for j in rest),
        *(math.log(z.poles[j]) for j in rest), 1 - z(low),
    ])  # fmt: skip
    points = np.array([low, *z.extremes, 1.0])
    return theta, np.delete(points, -2)


def _step(theta: np.ndarray, t: int, interval: Interval) -> Rational:
    b0, b1, *rest = theta[:-1].tolist()
    return Rational((b0, b1), tuple(rest[:t]), tuple(math.exp(c) for c in rest[t:]), interval)


def _level(theta: np.ndarray, x: np.ndarray, t: int) -> np.ndarray:
    """Solve p(x_i) + (-1)^i E = 1 by damped Newton steps."""
    signs = (-1.0) ** np.arange(len(x))
    squares = x * x

    def residual(theta):
        with np.errstate(over="ignore"):
            return _step(theta, t, (0, 1))(x) + signs * theta[-1] - 1

    f = residual(theta)
    for _ in range(50):
        a, c = theta[2 : 2 + t], np.exp(theta[2 + t : 2 + 2 * t])
        inverse = 1 / (squares[:, None] + c)
        jacobian = np.column_stack(
            [x, x**3, x[:, None] * inverse, -x[:, None] * a * c * inverse**2, signs]
        )
        change = np.linalg.solve(jacobian, -f)
        length = min(1.0, 1.0 / max(1e-300, np.abs(change[2 + t : 2 + 2 * t]).max()))
        while length > 1e-4:
            trial = theta + length * change
            g = residual(trial)
            if np.all(np.isfinite(g)) and np.abs(g).max() < np.abs(f).max() * (1 - 0.1 * length) + 1e-15:
                break
            length /= 2
        else:
            return theta
        theta, f = trial, g
        if np.abs(f).max() < 1e-14:
            break
    return theta
