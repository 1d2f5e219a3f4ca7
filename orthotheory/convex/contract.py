"""The contract of a convex function K of a matrix: value, subgradient, conjugate, domain of the conjugate."""

from __future__ import annotations

import math
from dataclasses import dataclass

from ..arrays import Array, Scalar, array_namespace, check_matrix, frobenius
from ..norms import Norm

# A dual norm may exceed 1 by rounding, so many units of it at least, before a point counts as outside dom K*.
DOMAIN_SLACK = 1e-9
DOMAIN_ROUNDINGS = 256


@dataclass(frozen=True)
class ConvexFunction:
    """A convex function of matrices (..., m, n) with K(0) = min K.

    Lion-K steps along a subgradient of K; its limit set is the closure of the domain of the conjugate, scaled
    by 1 / weight_decay. A subclass states `value`, `subgradient`, `conjugate` and `ball`; fifteen lines
    suffice. `tests/contracts/test_convex.py` holds every one to Fenchel-Young's equality at the subgradient,
    Fenchel-Young's inequality elsewhere, monotonicity of the subgradient and the conjugate of the conjugate.
    """

    @property
    def name(self) -> str:
        """The name of the class."""
        return type(self).__name__

    @property
    def ball(self) -> Norm | None:
        """The norm whose closed unit ball is the closure of dom K*; None where no ball bounds it."""
        raise NotImplementedError

    @property
    def is_smooth(self) -> bool:
        """Say whether K is differentiable everywhere."""
        return True

    def value(self, x: Array) -> Array:
        """Return K(x), shape (batch)."""
        raise NotImplementedError

    def subgradient(self, x: Array) -> Array:
        """Return an element of dK(x): 0 at 0, nothing along zero singular vectors, the first of tied maxima."""
        raise NotImplementedError

    def conjugate(self, y: Array) -> Array:
        """Return K*(y) = sup_x <x, y> - K(x), shape (batch); inf outside the domain."""
        raise NotImplementedError

    def conjugate_gradient(self, y: Array) -> Array:
        """Return the gradient of K* in the interior of its domain; for functions where it exists there."""
        raise TypeError(f"The conjugate of {self.name} has no gradient of use; take a smooth K such as sqrt-nuclear.")

    def project(self, y: Array, radius: Scalar = 1.0) -> Array:
        """Return the nearest point of `radius` times the closure of dom K*."""
        return y if self.ball is None else self.ball.project(y, radius)

    def distance(self, y: Array, radius: Scalar = 1.0) -> Array:
        """Return the Frobenius distance to `radius` times the closure of dom K*, shape (batch)."""
        return frobenius(y - self.project(y, radius))

    def _outside(self, y: Array) -> Array:
        """Return 0 inside the unit ball, inf outside and NaN where y is not finite, shape (batch)."""
        check_matrix(y, self.name)
        xp = array_namespace(y)
        size = self.ball.value(y) if self.ball is not None else xp.zeros_like(y[..., 0, 0])
        slack = max(DOMAIN_SLACK, DOMAIN_ROUNDINGS * float(xp.finfo(y.dtype).eps))
        outside = xp.where(size <= 1 + slack, xp.zeros_like(size), xp.full_like(size, math.inf))
        return xp.where(xp.isnan(size), size, outside)
