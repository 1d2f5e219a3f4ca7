"""Pairwise repair: each gradient is corrected against the others in turn, so the order matters."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from ..arrays import Array, array_namespace, backend_of, device_of
from .contract import Card, Rows, Weighted, divide, gram

Order = Literal["random", "given"]


def orders(rows: Rows, order: Order, rng: np.random.Generator) -> Array:
    """Return for each Jacobian and each row the order in which it meets all rows, (..., m, m)."""
    *shape, _ = rows.unit.shape
    host = np.broadcast_to(np.arange(shape[-1]), (*shape, shape[-1]))
    return backend_of(rows.unit).asarray(rng.permuted(host, axis=-1) if order == "random" else host)


def pick(values: Array, index: Array) -> Array:
    """Return values[..., index] for one index a row."""
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
