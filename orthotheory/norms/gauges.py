"""Symmetric gauge functions: norms of vectors that ignore order and sign, the atoms of every matrix norm here.

A gauge acts on the last axis of an array (..., N). Lifted to the entries, the rows and columns or the
singular values of a matrix it becomes a matrix norm (`lifts.py`); von Neumann's theorem makes value, dual,
LMO, projection and prox lift with it. Sources: [parikh2014proximal], [watson1992characterization].
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from ..arrays import Array, array_namespace

BISECTIONS = 80  # halvings of a bracket: past float64's 53 bits, with room for a bracket that is wide


class Gauge(Protocol):
    """What a lift needs; `lmo` is argmin <g, d> over the unit ball, 0 at g = 0."""

    @property
    def dual(self) -> Gauge:
        """The dual gauge."""

    def value(self, v: Array) -> Array:
        """Return the norm over the last axis."""

    def lmo(self, g: Array) -> Array:
        """Return the minimizer of <g, d> over the unit ball."""

    def project(self, v: Array, radius: Array) -> Array:
        """Return the nearest point of the ball; `radius` has shape (..., 1)."""


@dataclass(frozen=True)
class L1:
    """Sum of magnitudes."""

    @property
    def dual(self) -> Gauge:
        return LInf()

    def value(self, v):
        xp = array_namespace(v)
        return xp.sum(xp.abs(v), axis=-1)

    def lmo(self, g):
        xp = array_namespace(g)
        first = xp.argmax(xp.abs(g), axis=-1, keepdims=True) == _positions(g)
        return -xp.where(first, xp.sign(g), xp.zeros_like(g))

    def project(self, v, radius):
        xp = array_namespace(v)
        a = xp.abs(v)
        descending = xp.sort(a, axis=-1, descending=True)
        counts = xp.astype(_positions(v) + 1, v.dtype)
        excess = (xp.cumulative_sum(descending, axis=-1) - radius) / counts
        threshold = xp.max(excess, axis=-1, keepdims=True)  # the prefix mean excess peaks at the support's end
        outside = xp.sum(a, axis=-1, keepdims=True) > radius
        shrunk = xp.sign(v) * xp.maximum(a - threshold, xp.zeros_like(a))
        return xp.where(outside, shrunk, v)


@dataclass(frozen=True)
class L2:
    """Euclidean norm."""

    @property
    def dual(self) -> Gauge:
        return self

    def value(self, v):
        xp = array_namespace(v)
        return xp.sqrt(xp.sum(v * v, axis=-1))

    def lmo(self, g):
        return -_divide(g, self.value(g)[..., None])

    def project(self, v, radius):
        xp = array_namespace(v)
        length = self.value(v)[..., None]
        return xp.where(length > radius, _divide(v, length) * radius, v)


@dataclass(frozen=True)
class LInf:
    """Largest magnitude."""

    @property
    def dual(self) -> Gauge:
        return L1()

    def value(self, v):
        xp = array_namespace(v)
        return xp.max(xp.abs(v), axis=-1)

    def lmo(self, g):
        return -array_namespace(g).sign(g)

    def project(self, v, radius):
        xp = array_namespace(v)
        return xp.sign(v) * xp.minimum(xp.abs(v), radius + xp.zeros_like(v))


@dataclass(frozen=True)
class Lp:
    """(sum |v|^p)^(1/p) for 1 < p < inf; `lp_gauge` picks the closed forms at 1, 2 and inf."""

    p: float

    @property
    def dual(self) -> Gauge:
        return lp_gauge(self.p / (self.p - 1))

    def value(self, v):
        xp = array_namespace(v)
        peak = xp.max(xp.abs(v), axis=-1, keepdims=True)
        return peak[..., 0] * xp.sum(xp.abs(_divide(v, peak)) ** self.p, axis=-1) ** (1 / self.p)

    def lmo(self, g):
        xp = array_namespace(g)
        conjugate = self.p / (self.p - 1)
        share = xp.abs(_divide(g, self.dual.value(g)[..., None]))
        return -xp.sign(g) * share ** (conjugate - 1)

    def project(self, v, radius):
        # KKT with u = radius * w: radius w + lam w^(p-1) = |v|, |w|_p = 1. Bisect lam in [0, |v|_q].
        xp = array_namespace(v)
        a = xp.abs(v)
        high = self.dual.value(v)[..., None]
        low = xp.zeros_like(high)
        usable = xp.where(radius > 0, radius + low, xp.ones_like(high))
        for _ in range(BISECTIONS):
            lam = (low + high) / 2
            too_long = self.value(self._shrink(a, usable, lam))[..., None] > 1
            low, high = xp.where(too_long, lam, low), xp.where(too_long, high, lam)
        shrunk = xp.sign(v) * self._shrink(a, usable, high) * radius
        return xp.where(self.value(v)[..., None] > radius, shrunk, v)

    def _shrink(self, a, radius, lam):
        """Solve radius w + lam w^(p-1) = a by Newton from above; convex and increasing in z, w = z^s."""
        xp = array_namespace(a)
        s, t = (1.0, self.p - 1) if self.p >= 2 else (1 / (self.p - 1), 1.0)
        z = (a / radius) ** (1 / s)
        usable = xp.where(lam > 0, lam, xp.ones_like(lam))
        z = xp.where(lam > 0, xp.minimum(z, (a / usable) ** (1 / t)), z)
        for _ in range(12):  # the start solves the equation within a factor 2, so convergence is fast at once
            residual = radius * z**s + lam * z**t - a
            slope = radius * s * z ** (s - 1) + lam * t * z ** (t - 1)
            z = xp.maximum(z - _divide(residual, slope), xp.zeros_like(z))
        return z**s


@dataclass(frozen=True)
class TopSum:
    """Sum of the k largest magnitudes (Ky Fan's gauge); of all of them where k exceeds N."""

    k: int

    @property
    def dual(self) -> Gauge:
        return Capped(self.k)

    def value(self, v):
        xp = array_namespace(v)
        return xp.sum(xp.sort(xp.abs(v), axis=-1, descending=True)[..., : min(self.k, v.shape[-1])], axis=-1)

    def lmo(self, g):
        xp = array_namespace(g)
        a = xp.abs(g)
        one_wins = xp.max(a, axis=-1, keepdims=True) >= xp.sum(a, axis=-1, keepdims=True) / self.k
        return xp.where(one_wins, L1().lmo(g), -xp.sign(g) / self.k)

    def project(self, v, radius):
        return project_by_dual(self, v, radius)


@dataclass(frozen=True)
class Capped:
    """max(largest magnitude, sum of magnitudes / k), the dual of `TopSum(k)`."""

    k: int

    @property
    def dual(self) -> Gauge:
        return TopSum(self.k)

    def value(self, v):
        xp = array_namespace(v)
        return xp.maximum(LInf().value(v), L1().value(v) / self.k)

    def lmo(self, g):
        xp = array_namespace(g)
        order = xp.argsort(xp.abs(g), axis=-1, descending=True, stable=True)
        rank = xp.argsort(order, axis=-1, stable=True)
        return -xp.where(rank < self.k, xp.sign(g), xp.zeros_like(g))

    def project(self, v, radius):
        # clip(|v| - theta, 0, radius) with sum k * radius; the sum is piecewise linear in theta, so interpolate.
        xp = array_namespace(v)
        a = xp.abs(v)
        radius = radius + xp.zeros_like(a[..., :1])
        zero = xp.zeros_like(a)
        breaks = xp.concat([zero[..., :1], a, xp.maximum(a - radius, zero)], axis=-1)
        pieces = a[..., None, :] - breaks[..., :, None]
        sums = xp.sum(xp.minimum(xp.maximum(pieces, xp.zeros_like(pieces)), radius[..., None]), axis=-1)
        target = self.k * radius
        above, below = sums >= target, sums <= target
        left = xp.max(xp.where(above, breaks, xp.zeros_like(breaks)), axis=-1, keepdims=True)
        right = xp.min(xp.where(below, breaks, xp.max(breaks, axis=-1, keepdims=True)), axis=-1, keepdims=True)
        sum_left = xp.min(xp.where(above, sums, sums[..., :1]), axis=-1, keepdims=True)
        sum_right = xp.max(xp.where(below, sums, xp.zeros_like(sums)), axis=-1, keepdims=True)
        theta = left + (right - left) * _divide(sum_left - target, sum_left - sum_right)
        theta = xp.where(sums[..., :1] > target, theta, xp.zeros_like(theta))
        return xp.sign(v) * xp.minimum(xp.maximum(a - theta, zero), radius)


def lp_gauge(p: float) -> Gauge:
    """Return the l_p gauge, in closed form at p = 1, 2 and inf."""
    closed: dict[float, Gauge] = {1.0: L1(), 2.0: L2(), float("inf"): LInf()}
    return closed.get(float(p)) or Lp(float(p))


def project_by_dual(norm, x, radius):
    """Project through Moreau: x - project_dual(x, lam), with lam found by bisection so that the value is radius.

    Serves where the dual ball has a closed projection and the ball itself has none.
    """
    xp = array_namespace(x)
    high = norm.dual.value(x)
    high = high[(..., *([None] * (x.ndim - high.ndim)))]
    low = xp.zeros_like(high)
    for _ in range(BISECTIONS):
        lam = (low + high) / 2
        value = norm.value(x - norm.dual.project(x, lam))
        too_long = value[(..., *([None] * (x.ndim - value.ndim)))] > radius
        low, high = xp.where(too_long, lam, low), xp.where(too_long, high, lam)
    value = norm.value(x)
    outside = value[(..., *([None] * (x.ndim - value.ndim)))] > radius
    return xp.where(outside, x - norm.dual.project(x, high), x)


def _positions(v: Array) -> Array:
    """Return 0, 1, ..., N - 1 along the last axis, on the device of `v`."""
    import array_api_compat

    return array_namespace(v).arange(v.shape[-1], device=array_api_compat.device(v))


def _divide(a: Array, b: Array) -> Array:
    """Return a / b, and 0 where b is 0."""
    xp = array_namespace(a, b)
    return xp.where(b != 0, a / xp.where(b != 0, b, xp.ones_like(b)), xp.zeros_like(a))
