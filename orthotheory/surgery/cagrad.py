"""Conflict-averse descent: the best worst objective in a ball around the mean gradient."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, NamedTuple

from ..arrays import Array, array_namespace, check_number, device_of
from . import doubled
from .bargaining import is_stationary
from .cone import flat, put
from .contract import Card, Rows, Weighted, divide, expand, reduce, rows_of
from .dual_cone import project_mean
from .mgda import min_norm

TURNS = 80  # trade-offs tried; a few are needed
LEAST, MOST = 1e-36, 1e300  # of them
WELL = 1e-3  # sines and relative lengths from which float64 is enough for a face
CLEAR = 1e-9  # relative slack or multiplier from which its sign is beyond rounding


@dataclass(frozen=True)
class CAGrad(Weighted):
    """Conflict-averse gradient: the best worst objective in a ball around the mean gradient g0.

        x = argmax_{|x - g0| <= c |g0|} min_i g_i . x  =  g0 + sum_i a_i g_i,   a >= 0

    On the face where the rows S share the least value, with P the projector orthogonal to the differences g_i - g_k,

        x = P g0 + s P g_k,    s^2 |P g_k|^2 = c^2 |g0|^2 - |g0 - P g0|^2,    sum_i a_i = s

    S is read from points of least norm in the hull of the rows (1 - t) g_i + t g0, t = 1 / (1 + s), s bracketed between
    roots of this equation; the signs of a and of the slacks end the search, and are settled in doubled precision where
    float64 is not enough. Where the value is zero (Pareto stationary and the ball meets the dual cone) the maximizers
    are many and the one nearest to g0, its projection on the cone, is returned: the limit of the others.
    Non-conflicting for c >= 1; c = 0 is the mean. Cost: about five small cone projections.

    Parameters
    ----------
    c : float
        Radius of the ball relative to |g0|.
    rescale : "none", "linear" or "quadratic"
        Divide by 1, 1 + c or 1 + c^2, as the authors' code offers.
    """

    c: float = 0.5
    rescale: Literal["none", "linear", "quadratic"] = "none"
    card = Card(
        "CAGrad",
        "liu2021conflict",
        "exact",
        "solved exactly; where the dual vanishes the authors' code returns about g0 and TorchJD 0, ours the nearest "
        "maximizer",
    )

    def __post_init__(self):
        check_number(self.c, "CAGrad.c", open_high=True)
        if self.rescale not in ("none", "linear", "quadratic"):
            raise ValueError(f"CAGrad.rescale must be none, linear or quadratic; got {self.rescale!r}.")

    def coefficients(self, rows, *rng):
        return self._solve(rows)[0]

    def point(self, rows, *rng):
        return self._solve(rows)[1]

    def _solve(self, rows: Rows) -> tuple[Array, Array]:
        xp = array_namespace(rows.unit)
        *batch, m, n = rows.unit.shape
        items = flat(rows)
        mean = xp.mean(items.relative, axis=-2)
        radius = self.c * _length(mean)
        a, x = project_mean(items)
        inside = is_stationary(items) & (_length(x - mean) <= radius * (1 + 1e-12))
        a, x = xp.where(inside, a, items.scale / m), xp.where(inside, x, mean)
        left = xp.nonzero(~inside[:, 0] & (radius[:, 0] > 0))[0]
        if left.shape[0]:
            found_a, found_x = best_worst(Rows(*(xp.take(t, left, axis=0) for t in items)), self.c)
            a, x = put(a, left, found_a), put(x, left, found_x)
        rescale = {"none": 1.0, "linear": 1 + self.c, "quadratic": 1 + self.c**2}[self.rescale]
        return xp.reshape(a / rescale, (*batch, m)), xp.reshape(x / rescale, (*batch, n))


class Face(NamedTuple):
    """The maximizer of the ball on the face of some rows, and what says whether it is that of all rows."""

    s: Array  # (b, 1); 0 where the ball does not reach the face
    a: Array  # (b, m), multipliers in g0 + a @ rows
    x: Array  # (b, n)
    right: Array  # (b, 1): no multiplier and no slack is negative beyond rounding
    well: Array  # (b, 1): float64 was enough for that, and for x


def best_worst(rows: Rows, c: float) -> tuple[Array, Array]:
    """Return coefficients of the unit rows and the maximizer, for one batch axis of rows whose mean is not zero.

    What is not settled from the first face that looks right is bisected.
    """
    xp = array_namespace(rows.unit)
    a, x, support, well = search(rows, c)
    hard = xp.nonzero(~well[:, 0])[0]
    for bisect in (False, True):
        if hard.shape[0] == 0:
            break
        some = Rows(*(xp.take(value, hard, axis=0) for value in rows))
        if bisect:
            new_a, new_x, support, _ = search(some, c, bisect=True)
            a, x = put(a, hard, new_a), put(x, hard, new_x)
        else:
            support = xp.take(support, hard, axis=0)
        new_a, new_x, right = settle(some, c, support)
        a = put(a, hard, xp.where(right, new_a, xp.take(a, hard, axis=0)))
        x = put(x, hard, xp.where(right, new_x, xp.take(x, hard, axis=0)))
        hard = xp.take(hard, xp.nonzero(~right[:, 0])[0])
    return a, x


def search(rows: Rows, c: float, bisect: bool = False) -> tuple[Array, Array, Array, Array]:
    """Return coefficients, point, support and whether float64 was enough, for each item."""
    xp, m = array_namespace(rows.unit), rows.unit.shape[-2]
    g, q = reduce(rows)
    mean = xp.mean(g, axis=-2)
    radius = c * _length(mean)
    number = xp.arange(g.shape[0], device=device_of(g))
    s = xp.full_like(radius, c)
    low, high = xp.zeros_like(s), xp.full_like(s, MOST)
    done: list[tuple[Array, ...]] = []
    for turn in range(TURNS):
        t = 1 / (1 + s)
        w, z = _hull(g, mean, t)
        support = w > 0
        face = on_face(g, mean, radius, support)
        right = face.right & (face.well | (not bisect))
        stop = right[:, 0] | (turn + 1 == TURNS)
        if bool(xp.any(stop)):
            here = xp.nonzero(stop)[0]
            found = (number, xp.where(right, face.a, w * s), xp.where(right, face.x, z / t), support, right & face.well)
            done.append(tuple(xp.take(value, here, axis=0) for value in found))
            rest = xp.nonzero(~stop)[0]
            if rest.shape[0] == 0:
                break
            g, mean, radius, number, s, low, high, t, z, root = (
                xp.take(value, rest, axis=0) for value in (g, mean, radius, number, s, low, high, t, z, face.s)
            )
        else:
            root = face.s
        far = _length(z / t - mean) >= radius
        low, high = xp.where(far, low, s), xp.where(far, s, high)
        middle = xp.where(high < MOST, xp.sqrt(xp.clip(low, LEAST, None)) * xp.sqrt(high), 16 * s)
        s = xp.where((root > low) & (root < high) & (turn % 4 != 3) & (not bisect), root, middle)
    order = xp.argsort(xp.concat([part[0] for part in done]))
    a, x, support, well = (xp.take(xp.concat([part[i] for part in done]), order, axis=0) for i in range(1, 5))
    return rows.scale * (1 / m + a), expand(x, q), support, well


def on_face(g: Array, mean: Array, radius: Array, support: Array) -> Face:
    """Return the point of the face in float64, from singular values of the normalized differences of its rows."""
    xp = array_namespace(g)
    length = xp.sqrt(xp.sum(g * g, axis=-1))
    first = _first(length, support)
    base = xp.sum(xp.where(first[..., None], g, xp.zeros_like(g)), axis=-2)
    others = (support & ~first)[..., None]
    d = xp.where(others, g - base[:, None, :], xp.zeros_like(g))
    size = _length(d)
    size = xp.where(size > 1e-14 * length[..., None], size, xp.zeros_like(size))
    u, sines, vh = xp.linalg.svd(divide(d, size + xp.zeros_like(d)), full_matrices=False)
    kept = sines > 1e-13 * xp.clip(sines[:, :1], 1e-300, None)

    def split(v: Array) -> tuple[Array, Array]:
        along = xp.where(kept, (vh @ v[..., None])[..., 0], xp.zeros_like(sines))
        inside = (along[:, None, :] @ vh)[:, 0, :]
        return v - inside, divide((u @ divide(along, sines)[..., None])[..., 0], size[..., 0])

    flat_mean, y = split(mean)
    up, v = split(base)
    reach, rise = _length(mean - flat_mean), _length(up)
    along = xp.sqrt(xp.clip((radius - reach) * (radius + reach), 0.0, None))
    met = rise > 1e-14 * _length(base)
    s = xp.where(met, divide(along, rise), xp.zeros_like(rise))
    a = -(y + s * v)
    a = xp.where(first, s - xp.sum(a, axis=-1, keepdims=True), a)
    x = flat_mean + s * up
    part = length * xp.abs(a)
    whole = _length(mean) + xp.sum(part, axis=-1, keepdims=True)
    value = (g @ x[..., None])[..., 0]
    slack = divide(value - xp.sum(xp.where(first, value, 0 * value), axis=-1, keepdims=True), length + 0 * value)
    margin = xp.where(support, length * a, slack) / xp.where(whole > 0, whole, xp.ones_like(whole))
    worst = xp.min(margin, axis=-1, keepdims=True)
    least = xp.min(xp.where(kept, sines, xp.ones_like(sines)), axis=-1, keepdims=True)
    well = (least > WELL) & (rise > WELL * _length(base)) & (along > WELL * radius)
    right = met & (along > 0) & (worst > xp.where(well, -1e-13 * xp.ones_like(worst), -1e-6 * xp.ones_like(worst)))
    return Face(s, a, x, right, well & (worst > CLEAR))


def settle(rows: Rows, c: float, support: Array) -> tuple[Array, Array, Array]:
    """Return coefficients, maximizer and whether all signs are right, by exchanges on the Gramian in 32 digits.

    The least multiplier leaves the support while one is negative; the row of least slack enters it otherwise.
    """
    xp, m = array_namespace(rows.unit), rows.unit.shape[-2]
    scale = rows.scale
    gram = doubled.gram(rows.unit) * (scale[:, :, None] * scale[:, None, :])
    length = xp.sqrt(xp.linalg.diagonal(gram.high))
    with_mean = gram.sum() / float(m)  # g_i . g0
    square = with_mean.sum() / float(m)
    budget = square * (doubled.doubled(c, square.high) * c)
    for _ in range(4 * m + 8):
        first = _first(length, support)
        pick = first[:, None, :]
        column = gram.where(pick).sum()  # g_i . g_k
        corner, mean_k = column.where(first).sum(), with_mean.where(first).sum()
        differences = gram - column.at((..., None)) - column.at((..., None, slice(None))) + corner.at((..., None, None))
        down = with_mean - mean_k.at((..., None))
        along = column - corner.at((..., None))
        (y, v), _ = doubled.solve(differences, [down, along], support & ~first)
        left = budget - (y * down).sum()
        rise = corner - (v * along).sum()
        met = (rise.high > 1e-26 * corner.high) & (left.high > 0)
        s = (left.where(met) / rise.where(met, 1.0)).sqrt()
        a = -(y + v * s.at((..., None)))
        a = (s.at((..., None)) - a.sum().at((..., None))).where(first, a)
        w = a + doubled.doubled(1.0, length) / float(m)
        value = doubled.multiply(gram, w)
        value = value - value.where(first).sum().at((..., None))
        share = length * a.high
        whole = xp.sqrt(square.high)[:, None] + xp.sum(xp.abs(share), axis=-1, keepdims=True)
        leaves = xp.where(support, share, xp.zeros_like(share)) / whole
        enters = xp.where(support, xp.zeros_like(share), divide(value.high, length * whole))
        least = xp.min(leaves, axis=-1, keepdims=True)
        lowest = xp.min(enters, axis=-1, keepdims=True)
        drops, adds = least < -1e-20, (least >= -1e-20) & (lowest < -1e-22)
        right = met[:, None] & ~drops & ~adds
        if not bool(xp.any(drops | adds)):
            break
        support = (support & ~(drops & (leaves == least))) | (adds & (enters == lowest))
    coefficients = w * scale
    return coefficients.high, doubled.combine(coefficients, rows.unit), right


def _first(length: Array, support: Array) -> Array:
    """Mark the shortest row of each support, the base of its differences, (b, m)."""
    xp = array_namespace(length)
    key = xp.where(support, length, xp.full_like(length, math.inf))
    number = xp.arange(length.shape[-1], device=device_of(length))
    return number == xp.argmin(key, axis=-1, keepdims=True)


def _length(x: Array) -> Array:
    xp = array_namespace(x)
    return xp.sqrt(xp.sum(x * x, axis=-1, keepdims=True))


def _hull(g: Array, mean: Array, t: Array) -> tuple[Array, Array]:
    """Return weights and the point of least norm in the hull of the rows (1 - t) g_i + t mean; rounding is 0."""
    xp = array_namespace(g)
    mixed = rows_of((1 - t[..., None]) * g + t[..., None] * mean[..., None, :])
    w, z = min_norm(mixed)
    noise = 1e-13 * xp.min(mixed.length, axis=-1, keepdims=True)
    return w, mixed.peak * xp.where(_length(z) > noise, z, xp.zeros_like(z))
