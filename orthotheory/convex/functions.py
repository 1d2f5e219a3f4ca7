"""Convex functions by construction: a norm, its Moreau envelope, half its square, separable ones, blocks of rows."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, Protocol

from .. import norms
from ..arrays import Array, array_namespace, check_matrix, check_number, magnitude
from ..norms import Norm
from ..polar import thin_svd
from .contract import ConvexFunction


@dataclass(frozen=True)
class NormFunction(ConvexFunction):
    """K = a norm; subgradient -lmo(x), which is 0 at 0; K* the indicator of the dual unit ball.

    SumEntry gives Lion, Nuclear gives Muon with weight decay, Frobenius the normalized gradient.
    """

    norm: Norm = norms.SumEntry()  # noqa: RUF009  (frozen, without state)

    @property
    def ball(self) -> Norm:
        return self.norm.dual_norm

    @property
    def is_smooth(self) -> bool:
        return False

    def value(self, x):
        return self.norm.value(x)

    def subgradient(self, x):
        # The LMO of the dual ball is where <x, .> is largest: the subdifferential of the norm.
        return -self.norm.dual_norm.lmo(x)

    def conjugate(self, y):
        return self._outside(y)


@dataclass(frozen=True)
class MoreauEnvelope(ConvexFunction):
    """K(x) = min_p norm(p) + |x - p|_F^2 / (2 delta), Huber's function for the l1 norm.

    gradient: projection of x / delta on the dual unit ball; K* = delta |y|_F^2 / 2 on that ball [parikh2014proximal].
    """

    norm: Norm = norms.SumEntry()  # noqa: RUF009
    delta: float = 0.1

    def __post_init__(self) -> None:
        check_number(self.delta, "delta", open_low=True, open_high=True)
        object.__setattr__(self, "delta", float(self.delta))  # a NumPy number would cast float32

    @property
    def ball(self) -> Norm:
        return self.norm.dual_norm

    def value(self, x):
        g = self.subgradient(x)
        xp = array_namespace(x)
        return xp.sum(x * g - 0.5 * self.delta * g * g, axis=(-2, -1))

    def subgradient(self, x):
        check_matrix(x, self.name)
        return self.norm.dual_norm.project(x / self.delta, 1.0)

    def conjugate_gradient(self, y):
        return self.delta * y

    def conjugate(self, y):
        outside = self._outside(y)
        return 0.5 * self.delta * array_namespace(y).sum(y * y, axis=(-2, -1)) + outside


@dataclass(frozen=True)
class HalfSquare(ConvexFunction):
    """K = norm^2 / 2; K* half the square of the dual norm, finite everywhere; the subgradient has length norm(x).

    Frobenius gives heavy ball, whose weight decay is then an l2 penalty and no constraint.
    """

    norm: Norm = norms.Frobenius()  # noqa: RUF009

    @property
    def ball(self) -> None:
        return None

    @property
    def is_smooth(self) -> bool:
        return self.norm == norms.Frobenius()

    def value(self, x):
        return 0.5 * self.norm.value(x) ** 2

    def subgradient(self, x):
        return self.norm.dual_norm.sharp(x)

    def conjugate(self, y):
        return 0.5 * self.norm.dual(y) ** 2

    def conjugate_gradient(self, y):
        return self.norm.sharp(y)


class ScalarFunction(Protocol):
    """An even convex function of a number with its derivative and conjugate; `bounded` where dom K* is [-1, 1]."""

    bounded: bool

    def value(self, s: Array) -> Array:
        """Return the value, entry by entry."""

    def slope(self, s: Array) -> Array:
        """Return the derivative."""

    def conjugate(self, t: Array) -> Array:
        """Return the conjugate inside its domain."""

    def conjugate_slope(self, t: Array) -> Array:
        """Return the derivative of the conjugate in the interior of its domain, the inverse of `slope`."""


@dataclass(frozen=True)
class Sqrt:
    """sqrt(s^2 + epsilon^2), a smoothed magnitude; conjugate -epsilon sqrt(1 - t^2)."""

    epsilon: float = 0.1
    bounded = True

    def __post_init__(self) -> None:
        check_number(self.epsilon, "epsilon", open_low=True, open_high=True)
        object.__setattr__(self, "epsilon", float(self.epsilon))  # a NumPy number would cast float32

    def value(self, s):
        xp = array_namespace(s)
        return xp.hypot(s, xp.full_like(s, self.epsilon))

    def slope(self, s):
        return s / self.value(s)

    def conjugate(self, t):
        xp = array_namespace(t)
        return -self.epsilon * xp.sqrt(xp.maximum(1 - t * t, xp.zeros_like(t)))

    def conjugate_slope(self, t):
        return self.epsilon * t / array_namespace(t).sqrt(1 - t * t)


@dataclass(frozen=True)
class LogCosh:
    """log cosh s; slope tanh s; conjugate the binary entropy ((1 + t) log(1 + t) + (1 - t) log(1 - t)) / 2."""

    bounded = True

    def value(self, s):
        xp = array_namespace(s)
        a = xp.abs(s)
        half = xp.sinh(xp.minimum(a, xp.ones_like(a)) / 2)  # cosh s = 1 + 2 sinh^2(s / 2): no cancellation near 0
        return xp.where(a < 1, xp.log1p(2 * half * half), a + xp.log1p(xp.exp(-2 * a)) - math.log(2.0))

    def slope(self, s):
        return array_namespace(s).tanh(s)

    def conjugate(self, t):
        xp = array_namespace(t)
        small = xp.where(xp.abs(t) < 0.5, t, xp.zeros_like(t))  # near 0 the two terms below cancel
        near = small * xp.atanh(small) + 0.5 * xp.log1p(-small * small)
        return xp.where(xp.abs(t) < 0.5, near, 0.5 * (_x_log_x(1 + t) + _x_log_x(1 - t)))

    def conjugate_slope(self, t):
        return array_namespace(t).atanh(t)


@dataclass(frozen=True)
class Power:
    """|s|^p / p with p > 1; slope sign(s) |s|^(p-1); conjugate |t|^q / q."""

    p: float = 1.5
    bounded = False

    def __post_init__(self) -> None:
        check_number(self.p, "p", low=1.0, open_low=True, open_high=True)
        object.__setattr__(self, "p", float(self.p))  # a NumPy number would cast float32

    def value(self, s):
        return array_namespace(s).abs(s) ** self.p / self.p

    def slope(self, s):
        xp = array_namespace(s)
        return xp.sign(s) * xp.abs(s) ** (self.p - 1)

    def conjugate(self, t):
        q = self.p / (self.p - 1)
        return array_namespace(t).abs(t) ** q / q

    def conjugate_slope(self, t):
        xp = array_namespace(t)
        return xp.sign(t) * xp.abs(t) ** (1 / (self.p - 1))


@dataclass(frozen=True)
class Separable(ConvexFunction):
    """Sum of an even scalar function over the entries, or over the singular values, of a matrix.

    Over the singular values value, gradient and conjugate lift with them (Davis, von Neumann).
    """

    scalar: ScalarFunction = Sqrt()
    over: Literal["entries", "singular values"] = "entries"

    def __post_init__(self) -> None:
        if self.over not in ("entries", "singular values"):
            raise ValueError(f"over must be 'entries' or 'singular values'; got {self.over!r}.")

    @property
    def ball(self) -> Norm | None:
        if not self.scalar.bounded:
            return None
        return norms.MaxEntry() if self.over == "entries" else norms.Spectral()

    def value(self, x):
        return self._sum(self.scalar.value, x)

    def subgradient(self, x):
        check_matrix(x, self.name)
        return self._apply(self.scalar.slope, x)

    def conjugate_gradient(self, y):
        check_matrix(y, self.name)
        return self._apply(self.scalar.conjugate_slope, y)

    def conjugate(self, y):
        outside = self._outside(y)
        xp = array_namespace(y)
        inside = xp.where(outside[..., None, None] == 0, y, xp.zeros_like(y))
        return self._sum(self.scalar.conjugate, inside) + outside

    def _apply(self, function, x):
        if self.over == "entries":
            return function(x)
        u, s, vh = thin_svd(x)
        return (u * function(s)[..., None, :]) @ vh

    def _sum(self, function, x):
        check_matrix(x, self.name)
        xp = array_namespace(x)
        if self.over == "entries":
            return xp.sum(function(x), axis=(-2, -1))
        size = magnitude(x)  # svdvals would refuse the whole batch for one NaN
        s = xp.linalg.svdvals(size.normalize(x)) * size.scale[..., 0] + size.nan()[..., 0]
        return xp.sum(function(s), axis=-1)


@dataclass(frozen=True)
class RowBlocks(ConvexFunction):
    """Sum of convex functions of consecutive blocks of rows: one function a layer, stacked in one matrix.

    Parameters
    ----------
    blocks : tuple of (rows, ConvexFunction)
        The numbers of rows add up to those of the matrix.
    """

    blocks: tuple[tuple[int, ConvexFunction], ...] = ()

    def __post_init__(self) -> None:
        if not self.blocks or any(rows < 1 for rows, _ in self.blocks):
            raise ValueError(f"RowBlocks needs (rows, function) pairs with positive rows; got {self.blocks!r}.")

    @property
    def is_smooth(self) -> bool:
        return all(k.is_smooth for _, k in self.blocks)

    @property
    def ball(self) -> None:
        return None  # one ball a block: `project` and `conjugate` go through the blocks

    def value(self, x):
        return sum(k.value(part) for k, part in self._parts(x))

    def subgradient(self, x):
        return array_namespace(x).concat([k.subgradient(part) for k, part in self._parts(x)], axis=-2)

    def conjugate(self, y):
        return sum(k.conjugate(part) for k, part in self._parts(y))

    def conjugate_gradient(self, y):
        return array_namespace(y).concat([k.conjugate_gradient(part) for k, part in self._parts(y)], axis=-2)

    def project(self, y, radius=1.0):
        return array_namespace(y).concat([k.project(part, radius) for k, part in self._parts(y)], axis=-2)

    def _parts(self, x):
        check_matrix(x, self.name)
        total = sum(rows for rows, _ in self.blocks)
        if x.shape[-2] != total:
            raise ValueError(f"RowBlocks has {total} rows in its blocks; got a matrix of shape {tuple(x.shape)}.")
        first = 0
        for rows, k in self.blocks:
            yield k, x[..., first : first + rows, :]
            first += rows


def _x_log_x(x: Array) -> Array:
    xp = array_namespace(x)
    positive = xp.where(x > 0, x, xp.ones_like(x))
    return xp.where(x > 0, x * xp.log(positive), xp.zeros_like(x))
