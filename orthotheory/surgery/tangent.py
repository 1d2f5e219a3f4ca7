"""Updates tangent to spheres: the radial projection of AdamP and SGDP, and Lattice's orthogonal state update.

A loss that depends on w / |w| alone has a gradient orthogonal to w; a step d with <w, d> = 0 lengthens w by
|w + d|^2 = |w|^2 + |d|^2 and by nothing more.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

from ..arrays import Array, Scalar, array_namespace, check_matrix, check_number, device_of, magnitude, per_matrix
from .contract import divide
from .retain import check_vectors, component, dot


def cosine(a: Array, b: Array) -> Array:
    """Return the cosine of the angle between vectors (..., n), shape (..., 1); 0 where one of them is zero."""
    xp = array_namespace(a, b)
    size_a, size_b = magnitude(a, axes=1), magnitude(b, axes=1)
    x, y = size_a.normalize(a), size_b.normalize(b)
    return divide(dot(x, y), xp.sqrt(dot(x, x)) * xp.sqrt(dot(y, y))) + size_a.nan() + size_b.nan()


class Projected(NamedTuple):
    """A projected update, the view that triggered, and the factor of the weight decay."""

    update: Array  # (..., m, n)
    view: Array  # (...), 0 none, 1 rows, 2 the whole matrix, in the dtype of the weights
    decay_factor: Array  # (...), 1 or decay_ratio


@dataclass(frozen=True)
class RadialProjection:
    """Take the part along the weights out of an update, where the gradient looks like that of a scale-invariant loss.

        rows first, then the whole matrix:  if max |cos(grad, w)| < delta / sqrt(dim):  u <- u - w <w, u> / |w|^2

    Parameters
    ----------
    delta : float
        Threshold of the trigger; 0.1 in the authors' code.
    decay_ratio : float
        Factor of the weight decay where the projection acts (the norm hardly grows any more, so that decay would shrink
        it); 0.1 in the authors' code.

    Notes
    -----
    The trigger looks at the gradient, the projection changes the update. AdamP is Adam and SGDP momentum SGD with
    this projection before the step [heo2021adamp]. A zero row has cosine 0 and is left alone. A vector parameter is
    left alone by the authors; here it is a matrix with one row.
    """

    delta: float = 0.1
    decay_ratio: float = 0.1

    def __post_init__(self) -> None:
        check_number(self.delta, "RadialProjection.delta", open_high=True)
        check_number(self.decay_ratio, "RadialProjection.decay_ratio", high=1.0)

    def __call__(self, update: Array, w: Array, grad: Array) -> Projected:
        """Project an update; all three arrays have shape (..., m, n)."""
        check_vectors("RadialProjection", axes=2, update=update, w=w, grad=grad)
        xp = array_namespace(w)
        rows, columns = w.shape[-2:]
        flat = (*w.shape[:-2], 1, rows * columns)
        by_row = xp.max(xp.abs(cosine(grad, w)), axis=(-2, -1)) < self.delta / math.sqrt(columns)
        whole = [xp.reshape(x, flat) for x in (update, w, grad)]
        by_matrix = xp.abs(cosine(whole[2], whole[1]))[..., 0, 0] < self.delta / math.sqrt(rows * columns)
        in_rows = component(update, w).rest
        in_matrix = xp.reshape(component(whole[0], whole[1]).rest, w.shape)
        projected = xp.where(by_row[..., None, None], in_rows, xp.where(by_matrix[..., None, None], in_matrix, update))
        projected = projected + magnitude(update).nan() + magnitude(w).nan() + magnitude(grad).nan()
        one = xp.ones(w.shape[:-2], dtype=w.dtype, device=device_of(w))
        view = xp.where(by_row, one, xp.where(by_matrix, 2 * one, 0 * one))
        return Projected(projected, view, xp.where(by_row | by_matrix, self.decay_ratio * one, one))


@dataclass(frozen=True)
class Lattice:
    """Write into memory slots only what is orthogonal to them.

        readout(k) = sum_i k_i s_i / |s_i|,   e = h - readout(k)
        s_i <- s_i + rate (k_i / |s_i|) (I - s_i s_i^T / |s_i|^2) e

    Parameters
    ----------
    rate : float or array (batch)
        Step size of the write.
    orthogonal : bool
        False leaves out the projection, the delta rule for comparison: s_i <- s_i + rate (k_i / |s_i|) e.

    Notes
    -----
    The write is a gradient step on |e|^2 / 2 through the normalization of the slots, reconstructed from the abstract
    of [karami2025lattice]; so is `write_chunk`, in our form. Each change is orthogonal to its slot, so the slots never
    get shorter, and a slot parallel to e stays where it is. A zero slot has no direction: it reads as zero, stays.
    """

    rate: Scalar = 1.0
    orthogonal: bool = True

    def __post_init__(self) -> None:
        check_number(self.rate, "Lattice.rate", open_high=True)

    def readout(self, slots: Array, key: Array) -> Array:
        """Return the value stored under a key (..., slots), shape (..., n), from slots (..., slots, n)."""
        self._check(slots, key)
        return (key[..., None, :] @ _directions(slots)[0])[..., 0, :]

    def write(self, slots: Array, key: Array, value: Array) -> Array:
        """Return the slots after a value (..., n) was written under a key (..., slots)."""
        error = value - self.readout(slots, key)
        directions, length = _directions(slots)
        novel = array_namespace(slots).broadcast_to(error[..., None, :], slots.shape)
        if self.orthogonal:
            novel = component(novel, directions).rest
        return slots + per_matrix(self.rate, slots) * divide(key[..., None], length) * novel

    def write_chunk(self, slots: Array, keys: Array, values: Array) -> Array:
        """Return the slots after a chunk of values (..., t, n) was written under keys (..., t, slots) in parallel.

            S <- S + rate D^-1 P(K^T E),   E = V - K S_hat,   D = diag(|s_i|),   P(X)_i = (I - s_hat_i s_hat_i^T) x_i

        All errors are those of the slots before the chunk, so that it is two matrix products; one write at a time
        differs from it by O(rate^2), and a chunk of one is `write`. Every change is orthogonal to its slot.
        """
        xp = array_namespace(slots)
        if keys.ndim != slots.ndim or values.shape[:-1] != keys.shape[:-1] or values.shape[-1:] != slots.shape[-1:]:
            raise ValueError(
                f"Lattice.write_chunk needs keys (..., t, slots) and values (..., t, n) for slots (..., slots, n); got "
                f"{tuple(keys.shape)}, {tuple(values.shape)} and {tuple(slots.shape)}."
            )
        self._check(slots, keys[..., 0, :] if keys.shape[-2] else slots[..., 0])
        directions, length = _directions(slots)
        novel = xp.matrix_transpose(keys) @ (values - keys @ directions)
        if self.orthogonal:
            novel = component(novel, directions).rest
        return slots + per_matrix(self.rate, slots) * divide(novel, length + xp.zeros_like(novel))

    def _check(self, slots: Array, key: Array) -> None:
        check_matrix(slots, "Lattice (slots)")
        if key.shape != slots.shape[:-1] or key.dtype != slots.dtype:
            raise ValueError(
                f"Lattice needs keys of shape (..., slots) and the dtype of the slots; got {tuple(key.shape)} for "
                f"slots {tuple(slots.shape)}."
            )


def _directions(slots: Array) -> tuple[Array, Array]:
    """Return the unit slots (zero for a zero slot) and their lengths, shape (..., slots, 1)."""
    xp = array_namespace(slots)
    size = magnitude(slots, axes=1)
    s = size.normalize(slots)
    length = xp.sqrt(dot(s, s))
    return divide(s, length) + size.nan(), length * size.scale + size.nan()


__all__ = ["Lattice", "Projected", "RadialProjection", "cosine"]
