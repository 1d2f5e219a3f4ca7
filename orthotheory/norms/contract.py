"""The contract of a norm: value, dual, lmo, sharp, project, prox, over batches and the whole floating-point range."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..arrays import (
    Array,
    Magnitude,
    Scalar,
    array_namespace,
    check_matrix,
    check_number,
    magnitude,
    per_matrix,
)


@dataclass(frozen=True)
class Norm:
    """A norm on matrices (..., m, n); the batch axes come first.

    A subclass states `_value`, `_lmo`, `_project` and `dual_norm` for entries of moderate size; this class
    scales by a power of two, so that tiny and huge matrices lose nothing, and lets a matrix with a
    non-finite entry give NaN without harm to its neighbors in the batch.

    Identities that `tests/contracts/test_norms.py` holds every norm to: value(lmo(g)) = 1 and
    <g, lmo(g)> = -dual(g) for g != 0, Hoelder, Moreau, optimality of project and prox, equivariance.
    The LMO of the zero matrix is the zero matrix.
    """

    core_axes = 2
    # The groups under which the norm is invariant, acting from the left and from the right.
    left_group = "signed permutations"
    right_group = "signed permutations"

    @property
    def name(self) -> str:
        """The name by which `norms.make` finds it."""
        return type(self).__name__

    @property
    def dual_norm(self) -> Norm:
        """The norm whose value is `dual`."""
        raise NotImplementedError

    def value(self, x: Array) -> Array:
        """Return the norm of each matrix, shape (batch)."""
        y, size = self._enter(x)
        return self._drop(size.scale + size.nan()) * self._value(y)

    def dual(self, g: Array) -> Array:
        """Return max <g, d> over the unit ball, shape (batch)."""
        return self.dual_norm.value(g)

    def lmo(self, g: Array) -> Array:
        """Return argmin <g, d> over the unit ball: the steepest descent direction, of length 1 in this norm."""
        y, size = self._enter(g)
        return self._lmo(y) + size.nan()

    def sharp(self, g: Array) -> Array:
        """Return -dual(g) lmo(g), the maximizer of <g, x> - value(x)^2 / 2; its length is dual(g)."""
        y, size = self._enter(g)
        d = self._lmo(y)
        last = tuple(range(-self.core_axes, 0))
        return size.scale * array_namespace(g).sum(y * d, axis=last, keepdims=True) * d + size.nan()

    @np.errstate(over="ignore", invalid="ignore")  # a radius past the range, in units of a tiny x, is infinite: x stays
    def project(self, x: Array, radius: Scalar = 1.0) -> Array:
        """Return the nearest point (Frobenius) of the ball of the given radius; `radius` may be a batch array."""
        check_number(radius, "radius")
        y, size = self._enter(x)
        return size.scale * self._project(y, per_matrix(radius, x, self.core_axes) / size.scale) + size.nan()

    def prox(self, x: Array, t: Scalar = 1.0) -> Array:
        """Return argmin_p t value(p) + |p - x|_F^2 / 2, by Moreau: x minus its projection on t times the dual ball."""
        check_number(t, "t")
        return x - self.dual_norm.project(x, t)

    def _enter(self, x: Array) -> tuple[Array, Magnitude]:
        check_matrix(x, self.name, axes=self.core_axes)
        size = magnitude(x, self.core_axes)
        return size.normalize(x), size

    def _drop(self, x: Array) -> Array:
        """Drop the trailing core axes of length 1."""
        return x[(..., *([0] * self.core_axes))]

    def _value(self, x: Array) -> Array:
        raise NotImplementedError

    def _lmo(self, g: Array) -> Array:
        raise NotImplementedError

    def _project(self, x: Array, radius: Array) -> Array:
        raise NotImplementedError
