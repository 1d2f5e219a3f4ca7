"""Arrays of unevaluated sums high + low of two float64 numbers: about 32 digits on every backend [dekker1971floating].

For the few m x m systems whose answer is well conditioned in the Jacobian given but not in any rounding of it, as for
rows that are opposite or equal to 1e-6: the Gramian squares such a condition, and 32 digits bear that.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from ..arrays import Array, array_namespace, device_of
from .compensated import dot, two_product, two_sum
from .contract import divide

DIGITS = 106  # binary, of a pair
SINGULAR = 1e-25  # squared sine of a row to the others up to which it depends on them


@dataclass(frozen=True)
class Doubled:
    """high + low with |low| <= eps |high|; arithmetic broadcasts and errs by about 1e-31."""

    high: Array
    low: Array

    def __add__(self, other: Any) -> Doubled:
        other = doubled(other, self.high)
        s, e = two_sum(self.high, other.high)
        t, f = two_sum(self.low, other.low)
        s, e = two_sum(s, e + t)
        return Doubled(*two_sum(s, e + f))

    def __sub__(self, other: Any) -> Doubled:
        return self + -doubled(other, self.high)

    def __neg__(self) -> Doubled:
        return Doubled(-self.high, -self.low)

    def __mul__(self, other: Any) -> Doubled:
        other = doubled(other, self.high)
        p, e = two_product(self.high, other.high)
        return Doubled(*two_sum(p, e + (self.high * other.low + self.low * other.high)))

    def __truediv__(self, other: Any) -> Doubled:
        """Divide; 0 where the divisor is 0."""
        other = doubled(other, self.high)
        xp = array_namespace(self.high)
        zero = other.high == 0
        by = Doubled(xp.where(zero, xp.ones_like(other.high), other.high), other.low)
        alive = 1.0 - xp.astype(zero, by.high.dtype)
        q = doubled(self.high / by.high * alive, self.high)
        q = q + (self - by * q).high / by.high * alive
        return q + (self - by * q).high / by.high * alive

    def sqrt(self) -> Doubled:
        """Return the square root, 0 for what is not positive."""
        xp = array_namespace(self.high)
        alive = self.high > 0
        r = xp.sqrt(xp.where(alive, self.high, xp.zeros_like(self.high)))
        return (doubled(r, r) + (self - doubled(r, r) * r).high / xp.where(alive, 2 * r, xp.ones_like(r))).where(alive)

    def diagonal(self) -> Doubled:
        """Return the diagonals of matrices."""
        xp = array_namespace(self.high)
        return Doubled(xp.linalg.diagonal(self.high), xp.linalg.diagonal(self.low))

    def where(self, mask: Array, other: Any = 0.0) -> Doubled:
        """Return these numbers where `mask`, `other` elsewhere."""
        xp, other = array_namespace(self.high), doubled(other, self.high)
        return Doubled(xp.where(mask, self.high, other.high), xp.where(mask, self.low, other.low))

    def sum(self) -> Doubled:
        """Return the sum over the last axis."""
        xp = array_namespace(self.high)
        s = self
        while s.high.shape[-1] > 1:
            half = s.high.shape[-1] // 2
            folded = s.at((..., slice(half))) + s.at((..., slice(half, 2 * half)))
            if 2 * half < s.high.shape[-1]:
                rest = s.at((..., slice(2 * half, None)))
                folded = Doubled(
                    xp.concat([folded.high, rest.high], axis=-1), xp.concat([folded.low, rest.low], axis=-1)
                )
            s = folded
        return s.at((..., 0))

    def at(self, key: Any) -> Doubled:
        """Return the entries at a basic index."""
        return Doubled(self.high[key], self.low[key])

    def take(self, index: Array) -> Doubled:
        """Return the items with these numbers along the first axis."""
        xp = array_namespace(self.high)
        return Doubled(xp.take(self.high, index, axis=0), xp.take(self.low, index, axis=0))


def of(x: Array | Doubled) -> Array:
    """Return x rounded to float64."""
    return x.high if isinstance(x, Doubled) else x


def total(x: Any) -> Any:
    """Return the sum over the last axis of an array or a `Doubled`."""
    return x.sum() if isinstance(x, Doubled) else array_namespace(x).sum(x, axis=-1)


def root(x: Any) -> Any:
    """Return the square root of an array or a `Doubled`."""
    return x.sqrt() if isinstance(x, Doubled) else array_namespace(x).sqrt(x)


def ratio(a: Any, b: Any) -> Any:
    """Return a / b, 0 where b is 0, of two arrays or a `Doubled` and either."""
    return a / b if isinstance(a, Doubled) else divide(a, b + array_namespace(a).zeros_like(a))


def keep(x: Any, mask: Array) -> Any:
    """Return x where `mask`, 0 elsewhere."""
    return (
        x.where(mask) if isinstance(x, Doubled) else array_namespace(x).where(mask, x, array_namespace(x).zeros_like(x))
    )


def entries(x: Any, key: Any) -> Any:
    """Return the entries at a basic index."""
    return x.at(key) if isinstance(x, Doubled) else x[key]


def doubled(x: Any, like: Array) -> Doubled:
    """Return x with a low part of 0."""
    if isinstance(x, Doubled):
        return x
    xp = array_namespace(like)
    x = x if hasattr(x, "dtype") else xp.full_like(like, x)
    return Doubled(x, xp.zeros_like(x))


def gram(rows: Array, others: Array | None = None) -> Doubled:
    """Return the inner products of rows (..., m, n) and others, from exact products of slices [ozaki2012error].

    Cost: 15 to 28 products of matrices.
    """
    xp, n = array_namespace(rows), rows.shape[-1]
    bits = (55 - math.ceil(math.log2(n))) // 2  # n products of two such slices are summed without rounding
    a = _slices(rows, bits)
    b = [xp.matrix_transpose(x) for x in (a if others is None else _slices(others, bits))]
    total = doubled(0.0, a[0] @ b[0])
    for order in range(len(a) - 1, -1, -1):  # small ones first
        for i in range(order + 1):
            total = total + a[i] @ b[order - i]
    return total


def _slices(x: Array, bits: int) -> list[Array]:
    """Cut numbers into multiples of powers of two that a row shares: `DIGITS` binary digits of its largest entry."""
    xp = array_namespace(x)
    peak = xp.max(xp.abs(x), axis=-1, keepdims=True)
    unit = 2.0 ** (xp.ceil(xp.log2(xp.where(peak > 0, peak, xp.ones_like(peak)))) + 1 - bits)
    parts = []
    for _ in range(-(-DIGITS // bits)):
        near = xp.round(x / unit) * unit
        parts.append(near)
        x, unit = x - near, unit * 2.0**-bits
    return parts


def multiply(a: Doubled, w: Doubled) -> Doubled:
    """Return the products a w of matrices (..., m, m) and vectors (..., m)."""
    return (a * w.at((..., None, slice(None)))).sum()


def combine(w: Doubled, rows: Array) -> Array:
    """Return sum_i w_i row_i for rows (..., m, n), rounded once."""
    xp = array_namespace(rows)
    columns = xp.matrix_transpose(rows)
    high, tail = dot(columns, w.high[..., None, :] + xp.zeros_like(columns))
    return high + (tail + (columns @ w.low[..., None])[..., 0])


def solve(a: Doubled, b: list[Doubled], active: Array) -> tuple[list[Doubled], Array]:
    """Solve a y = b for Gramians a (..., m, m) and right-hand sides (..., m) on the rows that are active, (..., m).

    By elimination on the diagonal. A row that depends on active rows before it, to `SINGULAR`, takes no part: its y is
    0. Returned are the solutions and which rows took part.
    """
    xp, m = array_namespace(a.high), a.high.shape[-1]
    a = a.where(active[..., :, None] & active[..., None, :])
    b, kept, pivots = [x.where(active) for x in b], [], []
    whole, number = [a.high[..., k, k] for k in range(m)], xp.arange(m, device=device_of(a.high))
    for k in range(m):
        pivot = a.at((..., k, k))
        good = active[..., k] & (pivot.high > SINGULAR * whole[k])
        pivots.append(pivot.where(good, 1.0))
        kept.append(good)
        column = a.at((..., slice(None), k)).where(good[..., None])
        ratio = (column / pivots[k].at((..., None))).where(number > k)
        a = a - ratio.at((..., slice(None), None)) * a.at((..., k, slice(None))).at((..., None, slice(None)))
        b = [x - ratio * x.at((..., k, None)) for x in b]
    return [_back(a, x, pivots, kept) for x in b], xp.stack(kept, axis=-1)


def _back(a: Doubled, b: Doubled, pivots: list[Doubled], kept: list[Array]) -> Doubled:
    """Solve the upper triangular systems; what was not kept is 0."""
    xp, m = array_namespace(a.high), len(pivots)
    y: list[Doubled] = [b.at((..., 0))] * m
    for k in range(m - 1, -1, -1):
        rest = b.at((..., k))
        for i in range(k + 1, m):
            rest = rest - a.at((..., k, i)) * y[i]
        y[k] = (rest / pivots[k]).where(kept[k])
    return Doubled(xp.stack([part.high for part in y], axis=-1), xp.stack([part.low for part in y], axis=-1))
