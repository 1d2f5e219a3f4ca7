"""Scaled Newton for the polar factor: X <- (w X + (w X)^-H) / 2, with three rules for the weight w."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass

from ..arrays import Array, array_namespace, frobenius
from ..names import closest
from .reduction import adjoint, through_square
from .schedule import Interval

MORE_STEPS = 30  # far more than any rule needs from the smallest ratio that double precision can hold


@dataclass(frozen=True)
class NewtonStep:
    """The step s -> (w s + 1 / (w s)) / 2 with one weight w > 0: it sends s and 1 / (w^2 s) to the same value >= 1."""

    weight: float

    def __post_init__(self):  # a NumPy number would decide the dtype of the result
        object.__setattr__(self, "weight", float(self.weight))

    def __call__(self, s: Array) -> Array:
        """Map singular values."""
        return (self.weight * s + 1 / (self.weight * s)) / 2

    def apply(self, x: Array) -> Array:
        """Map the singular values of nonsingular square matrices (..., k, k). Cost: one inverse."""
        return _step(x, adjoint(array_namespace(x).linalg.inv(x)), self.weight)

    def image(self, low: float, high: float) -> Interval:
        """Return the exact image of [low, high]: the minimum 1 is at s = 1 / w."""
        ends = float(self(low)), float(self(high))
        return (1.0 if low <= 1 / self.weight <= high else min(ends)), max(ends)


@functools.lru_cache(maxsize=1024)
def newton_steps(low: float, target: float = 2.0**-51) -> tuple[NewtonStep, ...]:
    """Return the steps with the weights of Byers and Xu that bring [low, 1] to within target of one.

    The default, two eps of double precision, is what the roundings of a step leave. The first weight low^(-1/2) makes
    the interval symmetric about one on a logarithmic scale; a step then gives [1, h], and the next weight h^(-1/2)
    does the same: h <- cosh(ln(h) / 2), starting at h = 1 / low (theorem `newton-scaling-interval`). These weights are
    optimal for the interval. From low = 1e-16 nine steps suffice for double precision (theorem `newton-nine-steps`)
    [byers2008new].

    >>> len(newton_steps(1e-16)), len(newton_steps(1e-3))
    (9, 6)
    """
    low = float(low)
    steps = [NewtonStep(low**-0.5)] if excess_after(0, low) > target else []
    while excess_after(len(steps), low) > target:
        steps.append(NewtonStep((1 + excess_after(len(steps), low)) ** -0.5))
    return tuple(steps)


def excess_after(steps: int, low: float) -> float:
    """Return h - 1, the distance from one after so many steps from [low, 1], without cancellation.

    >>> f"{excess_after(8, 1e-16):.1e}"
    '3.6e-14'
    """
    excess = (1 - low) / low
    for _ in range(steps):
        excess = 2 * math.sinh(math.log1p(excess) / 4) ** 2
    return excess


def newton(g: Array, *, scaling: str = "byers-xu", low: float | None = None) -> Array:
    """Return the polar factor by scaled Newton iteration.

        X <- (w X + (w X)^-H) / 2

    Parameters
    ----------
    g : array (..., m, n)
        Real or complex, tall, wide or square.
    scaling : "byers-xu", "higham" or "optimal"
        How w is chosen: in advance from the lower bound of the singular values; from the norms of X and its inverse,
        w = (|X^-1|_1 |X^-1|_inf / (|X|_1 |X|_inf))^(1/4); or w = (s_1 s_k)^(-1/2) from the singular values of the
        matrix, which is for reference, since who has them needs no iteration.
    low : float, optional
        Lower bound of the smallest over the largest singular value, for all matrices; "byers-xu" alone uses it.
        Measured on the triangular factor where it is not given.

    Returns
    -------
    array (..., m, n)
        The polar factor, by the rules of `reduction.through_square`: null spaces are mapped to zero, although Newton's
        iteration itself is only defined for nonsingular matrices.

    Raises
    ------
    UnknownName
        For a scaling that is none of the three.
    ValueError, TypeError
        As `polar_factor`; for low outside (0, 1).

    Notes
    -----
    Cost: one inverse (about 1 product) a step, at most nine steps in double precision, after the QR and the inverse
    that all algorithms here begin with [higham1986computing], [byers2008new], [higham2008functions].
    """
    return through_square(g, "newton", closest(scaling, SCALINGS, "scaling"), low=low)


def _byers_xu(x: Array, low: float) -> Array:
    for step in newton_steps(low, 2 * float(array_namespace(x).finfo(x.dtype).eps)):
        x = step.apply(x)
    return x


def _higham(x: Array, low: float) -> Array:
    return _iterate(x, lambda x, inverse: _one_inf(inverse) ** 0.25 / _one_inf(x) ** 0.25)


def _optimal(x: Array, low: float) -> Array:
    xp = array_namespace(x)
    s = xp.linalg.svdvals(x)

    def weight(x: Array, inverse: Array) -> Array:
        nonlocal s
        w = (xp.max(s, axis=-1) * xp.min(s, axis=-1)) ** -0.5
        s = (w[:, None] * s + 1 / (w[:, None] * s)) / 2
        return w

    return _iterate(x, weight)


SCALINGS = {"byers-xu": _byers_xu, "higham": _higham, "optimal": _optimal}


def _iterate(x: Array, weight: Callable[[Array, Array], Array]) -> Array:
    """Iterate until each matrix stands still; one that does is not touched again.

    The scaling is dropped after a relative change below 1e-2, where Newton's own convergence is quadratic: a change
    below 2 sqrt(eps) therefore leaves an error below eps.
    """
    xp = array_namespace(x)
    close, done = 1e-2, 2 * float(xp.finfo(x.dtype).eps) ** 0.5
    change = xp.full_like(x[:, 0, 0], math.inf, dtype=xp.finfo(x.dtype).dtype)
    for _ in range(MORE_STEPS):
        if bool(xp.all(change <= done)):
            break
        inverse = xp.linalg.inv(x)
        w = xp.where(change <= close, xp.ones_like(change), weight(x, inverse))
        new = _step(x, adjoint(inverse), w[:, None, None])
        new = xp.where((change <= done)[:, None, None], x, new)
        change = xp.where(change <= done, change, frobenius(new - x) / frobenius(new))
        x = new
    return x


def _step(x: Array, inverse_adjoint: Array, weight: float | Array) -> Array:
    return (weight * x + inverse_adjoint / weight) / 2


def _one_inf(x: Array) -> Array:
    """Return |X|_1 |X|_inf."""
    xp = array_namespace(x)
    columns, rows = (xp.max(xp.sum(xp.abs(x), axis=axis), axis=-1) for axis in (-2, -1))
    return columns * rows
