"""The contract of a norm: value, dual, lmo, sharp, project, prox, over batches and the whole floating-point range."""

from __future__ import annotations

from dataclasses import dataclass

from ..arrays import (
    Array,
    Scalar,
    array_namespace,
    check_matrix,
    check_number,
    finite_matrices,
    per_matrix,
    power_of_two_scale,
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
        y, scale = self._enter(x, "value")
        return self._drop(scale) * self._value(y)

    def dual(self, g: Array) -> Array:
        """Return max <g, d> over the unit ball, shape (batch)."""
        return self.dual_norm.value(g)

    def lmo(self, g: Array) -> Array:
        """Return argmin <g, d> over the unit ball: the steepest descent direction, of length 1 in this norm."""
        y, _ = self._enter(g, "lmo")
        return self._lmo(y) + self._nan(g)

    def sharp(self, g: Array) -> Array:
        """Return -dual(g) lmo(g), the maximizer of <g, x> - value(x)^2 / 2; its length is dual(g)."""
        xp = array_namespace(g)
        y, scale = self._enter(g, "sharp")
        d = self._lmo(y)
        last = tuple(range(-self.core_axes, 0))
        return scale * xp.sum(y * d, axis=last, keepdims=True) * d + self._nan(g)

    def project(self, x: Array, radius: Scalar = 1.0) -> Array:
        """Return the nearest point (Frobenius) of the ball of the given radius; `radius` may be a batch array."""
        check_number(radius, "radius")
        y, scale = self._enter(x, "project")
        return scale * self._project(y, per_matrix(radius, x, self.core_axes) / scale) + self._nan(x)

    def prox(self, x: Array, t: Scalar = 1.0) -> Array:
        """Return argmin_p value(p) t + |p - x|_F^2 / 2, by Moreau: x minus its projection on t times the dual ball."""
        check_number(t, "t")
        return x - self.dual_norm.project(x, t)

    def _enter(self, x: Array, what: str) -> tuple[Array, Array]:
        check_matrix(x, self.name, axes=self.core_axes)
        xp = array_namespace(x)
        scale = power_of_two_scale(x, self.core_axes)
        finite = finite_matrices(x, self.core_axes)
        y = xp.where(finite, x / scale, xp.zeros_like(x))
        return y, xp.where(finite, scale, xp.full_like(scale, float("nan"))) if what == "value" else scale

    def _nan(self, x: Array) -> Array:
        """Return NaN for the matrices with a non-finite entry, else 0, shape (..., 1, 1)."""
        xp = array_namespace(x)
        finite = finite_matrices(x, self.core_axes)
        zero = xp.zeros_like(x[(..., *([slice(0, 1)] * self.core_axes))])
        return xp.where(finite, zero, xp.full_like(zero, float("nan")))

    def _drop(self, x: Array) -> Array:
        """Drop the trailing core axes of length 1."""
        return x[(..., *([0] * self.core_axes))]

    def _value(self, x: Array) -> Array:
        raise NotImplementedError

    def _lmo(self, g: Array) -> Array:
        raise NotImplementedError

    def _project(self, x: Array, radius: Array) -> Array:
        raise NotImplementedError
