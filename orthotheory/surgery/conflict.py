"""Pairwise repair: each gradient is corrected against the others in turn, so the order matters."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from ..arrays import Array, array_namespace, backend_of, check_number, device_of
from .contract import Aggregator, Card, Rows, Weighted, combine, compress, divide, gram, rows_of

Order = Literal["random", "given"]
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
        xp, m = array_namespace(rows.unit), rows.unit.shape[-2]
        g = compress(rows)
        length = xp.sqrt(xp.sum(g * g, axis=-1))
        unit = divide(g, length[..., None] + xp.zeros_like(g))
        turn = orders(rows, self.order, self.draws(count))
        number = xp.arange(m, device=device_of(g))
        a = xp.eye(m, dtype=g.dtype, device=device_of(g)) + xp.zeros_like(target)
        v = +g
        for step in range(m):
            j = turn[..., step]
            here = xp.astype(j[..., None] == number, g.dtype)  # (..., m, m): row i meets row j
            other, size = here @ unit, xp.sqrt(xp.sum(v * v, axis=-1))
            along = xp.sum(v * other, axis=-1)
            phi = xp.clip(divide(along, size), -1.0, 1.0)
            across = xp.sqrt(xp.sum((v - along[..., None] * other) ** 2, axis=-1))  # |v| sqrt(1 - phi^2)
            t = xp.clip(xp.sum(here * target, axis=-1), -1 + 1e-12, 1 - 1e-12)
            meets = (j != number) & (size > VANISHED * length) & (pick(length, j) > 0)
            gain = across * t / xp.sqrt(1 - t**2) - along
            gain = xp.where(meets & (phi < t), gain, xp.zeros_like(gain))
            v = v + gain[..., None] * other
            a = a + here * divide(gain[..., None], length[..., None, :] + xp.zeros_like(a))
            rate = xp.where(meets, self.beta + xp.zeros_like(phi), xp.zeros_like(phi))
            target = target + here * (rate * (phi - t))[..., None]
        coefficients = xp.sum(a, axis=-2) * rows.scale
        return rows.peak * combine(coefficients, rows.unit), (target, count + 1)
