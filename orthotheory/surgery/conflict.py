"""Pairwise repair: each gradient is corrected against the others in turn, so the order matters."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from ..arrays import Array, array_namespace, backend_of, check_number, device_of
from . import doubled
from .cone import flat, put
from .contract import Aggregator, Card, Rows, Weighted, divide, expand, gram, reduce, rows_of

Order = Literal["random", "given"]
WELL = 1e-3  # share of its length that a row keeps, from which float64 is enough
VANISHED = 2.0**-46  # what rounding leaves of a row that is opposite to another, relative to the row


def orders(rows: Rows, order: Order, rng: np.random.Generator) -> Array:
    """Return for each Jacobian and each row the order in which it meets all rows, (..., m, m)."""
    *shape, _ = rows.unit.shape
    host = np.broadcast_to(np.arange(shape[-1]), (*shape, shape[-1]))
    return backend_of(rows.unit).asarray(rng.permuted(host, axis=-1) if order == "random" else host)


def pick(values: Array, index: Array) -> Array:
    """Return values[..., i, index_i], or values[..., index_i] where all rows share the values."""
    if values.ndim == index.ndim:
        return array_namespace(values).take_along_axis(values, index, axis=-1)
    return array_namespace(values).take_along_axis(values, index[..., None], axis=-1)[..., 0]


@dataclass(frozen=True)
class PCGrad(Weighted):
    """Projecting conflicting gradients: each row loses, in random order, its component against every other.

        v = g_i;   for j != i:  v <- v - min(0, v.g_j) / |g_j|^2 g_j;        x = sum_i v_i

    A sum, not a mean. For two rows it is twice UPGrad; for more the last correction may undo an earlier one, so the
    result conflicts and depends on the order. Cost: m^2 steps of m^2 operations on the Gramian.

    Parameters
    ----------
    order : "random" or "given"
        The order in which a row meets the others; "given" is that of the rows.
    seed : int
        Decides the random orders, one for each row of each Jacobian, together with the number of the step.
    """

    order: Order = "random"
    seed: int = 0
    card = Card("PCGrad", "yu2020gradient", "exact")
    random = True

    def coefficients(self, rows, *rng):
        xp = array_namespace(rows.unit)
        m = rows.unit.shape[-2]
        c = gram(rows.unit)
        square = rows.norm**2
        turn = orders(rows, self.order, *rng)
        number = xp.arange(m, device=device_of(c))
        a = xp.eye(m, dtype=c.dtype, device=device_of(c)) * rows.scale[..., None, :]  # row i: coefficients of v_i
        for step in range(m):
            j = turn[..., step]
            product = pick(a @ c, j)
            product = xp.where((product < 0) & (j != number), product, xp.zeros_like(product))
            here = xp.astype(j[..., None] == number, c.dtype)
            a = a - here * divide(product[..., None], square[..., None, :] + xp.zeros_like(a))
        return xp.sum(a, axis=-2)


@dataclass(frozen=True)
class GradVac(Aggregator):
    """Gradient vaccine: raise the cosine of each row with every other to a moving target.

        v = g_i;  for j != i, with phi = cos(v, g_j) < t_ij:
            v <- v + |v| (t sqrt(1 - phi^2) - phi sqrt(1 - t^2)) / (|g_j| sqrt(1 - t^2)) g_j,   so that cos(v, g_j) = t
            t_ij <- (1 - beta) t_ij + beta phi                     x = sum_i v_i

    The targets start at 0, where one step is PCGrad. The state is (targets, number of the step). Cost: m^2 steps on
    vectors of length min(m, n).

    Parameters
    ----------
    beta : float
        Rate of the moving average.
    order, seed
        As in PCGrad.
    """

    beta: float = 0.5
    order: Order = "random"
    seed: int = 0
    card = Card(
        "GradVac",
        "wang2021gradient",
        "exact",
        "no epsilon in the denominators; targets are kept below 1 - 1e-12; a row of which others left only rounding "
        "has no cosine",
    )
    random = True
    stateful = True

    def __post_init__(self):
        check_number(self.beta, "GradVac.beta", high=1.0)

    def start(self, jacobian):
        xp, m = array_namespace(jacobian), jacobian.shape[-2]
        return xp.zeros((*jacobian.shape[:-2], m, m), dtype=xp.float64, device=device_of(jacobian)), 0

    def advance(self, jacobian, state):
        target, count = state
        rows = rows_of(jacobian)
        xp, (*batch, m, n) = array_namespace(rows.unit), rows.unit.shape
        items, turn = flat(rows), xp.reshape(orders(rows, self.order, self.draws(count)), (-1, m, m))
        given = xp.reshape(target, (-1, m, m))
        g, q = reduce(items)
        v, target, least = vaccinate(g, given, turn, self.beta)
        x = expand(xp.sum(v, axis=-2), q)
        hard = xp.nonzero(least < WELL)[0]
        if hard.shape[0]:
            some, given, turn = (xp.take(value, hard, axis=0) for value in (items.relative, given, turn))
            v, exact, _ = vaccinate(doubled.doubled(some, some), given, turn, self.beta)
            x = put(x, hard, xp.sum(v.high, axis=-2))
            target = put(target, hard, exact)
        return rows.peak * xp.reshape(x, (*batch, n)), (xp.reshape(target, (*batch, m, m)), count + 1)


def vaccinate(g: Any, target: Array, turn: Array, beta: float) -> tuple[Any, Array, Array]:
    """Return the corrected rows (b, m, n), the next targets, and the least a row was left with of its length, (b,).

    `g` is an array or `Doubled`: what others left of an opposite row carries the rounding errors of the whole row.
    """
    xp, m = array_namespace(target), turn.shape[-1]
    number = xp.arange(m, device=device_of(target))
    length = doubled.root(doubled.total(g * g))
    unit = doubled.ratio(g, doubled.entries(length, (..., None)))
    start, v, least = doubled.of(length), g, xp.ones_like(target[:, 0, 0])
    for step in range(m):
        j = turn[..., step]
        here = xp.astype(j[..., None] == number, target.dtype)  # (b, m, m): row i meets row j
        if isinstance(unit, doubled.Doubled):
            other: Any = doubled.Doubled(here @ unit.high, here @ unit.low)
        else:
            other = here @ unit
        size, along = doubled.root(doubled.total(v * v)), doubled.total(v * other)
        phi, rest = doubled.ratio(along, size), v - other * doubled.entries(along, (..., None))
        across = doubled.root(doubled.total(rest * rest))  # |v| sqrt(1 - phi^2)
        meets = (j != number) & (doubled.of(size) > VANISHED * start) & (pick(start, j) > 0)
        t = xp.clip(xp.sum(here * target, axis=-1), -1 + 1e-12, 1 - 1e-12)
        below = phi - t
        gain = across * (t / xp.sqrt(1 - t**2)) - along
        v = v + other * doubled.entries(doubled.keep(gain, meets & (doubled.of(below) < 0)), (..., None))
        target = target + here * xp.where(meets, beta * doubled.of(below), xp.zeros_like(t))[..., None]
        share = xp.where(meets, doubled.of(size) / xp.where(start > 0, start, xp.ones_like(start)), xp.ones_like(start))
        least = xp.minimum(least, xp.min(share, axis=-1))
    return v, target, least
