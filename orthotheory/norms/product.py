"""Norms on tuples of matrices (the layers of a network): the largest, the sum or the root of squares of block norms.

Scion and Modula use max_l |W_l| / radius_l [pethick2025training]: `ProductMax((Scaled(norm, radius), ...))`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from ..arrays import Array, Magnitude, Scalar, array_namespace, check_number, magnitude, per_matrix
from .contract import Norm
from .gauges import BISECTIONS, L1, L2, Gauge, LInf

Blocks = tuple[Array, ...]


@dataclass(frozen=True)
class Product:
    """A gauge of the block norms; every function takes and returns a tuple with one array a block.

    All blocks share their batch axes. The gradient's block dual norms decide how the LMO splits its length.
    """

    blocks: tuple[Norm, ...]

    def __post_init__(self) -> None:
        if not self.blocks or not all(isinstance(b, Norm) for b in self.blocks):
            raise ValueError(f"{type(self).__name__} needs a tuple of norms, one a block; got {self.blocks!r}.")
        if any(b.core_axes != 2 for b in self.blocks):
            raise ValueError(f"{type(self).__name__} needs norms of matrices; use Frobenius on (n, 1) for a vector.")

    @property
    def name(self) -> str:
        """The name by which `norms.make` finds it."""
        return type(self).__name__

    @property
    def gauge(self) -> Gauge:
        """The gauge across the blocks."""
        raise NotImplementedError

    @property
    def dual_norm(self) -> Product:
        """The product of the dual block norms under the dual gauge."""
        twin = {"ProductMax": ProductSum, "ProductSum": ProductMax, "ProductRoot": ProductRoot}[self.name]
        return twin(tuple(b.dual_norm for b in self.blocks))

    def value(self, x: Blocks) -> Array:
        """Return the norm of each tuple, shape (batch)."""
        lengths = self._lengths(self.blocks, x)
        size = magnitude(lengths, axes=1)
        return (size.scale + size.nan())[..., 0] * self.gauge.value(size.normalize(lengths))

    def dual(self, g: Blocks) -> Array:
        """Return max sum_l <g_l, d_l> over the unit ball, shape (batch)."""
        return self.dual_norm.value(g)

    def lmo(self, g: Blocks) -> Blocks:
        """Return the minimizer over the unit ball: block LMOs with the lengths of the gauge's LMO."""
        lengths = self._lengths(tuple(b.dual_norm for b in self.blocks), g)
        size = magnitude(lengths, axes=1)
        weights = size.nan() - self.gauge.lmo(size.normalize(lengths))
        return tuple(
            weights[..., i, None, None] * b.lmo(gi) for i, (b, gi) in enumerate(zip(self.blocks, g, strict=True))
        )

    def sharp(self, g: Blocks) -> Blocks:
        """Return -dual(g) lmo(g), blockwise."""
        size = self.dual(g)[..., None, None]
        return tuple(-size * d for d in self.lmo(g))

    @np.errstate(over="ignore", invalid="ignore")  # a radius past the range, in units of a tiny x, is infinite: x stays
    def project(self, x: Blocks, radius: Scalar = 1.0) -> Blocks:
        """Return the nearest tuple of the ball.

        Every block keeps within a length t_l. The multiplier of that constraint is dual(x_l - project(x_l, t_l)),
        decreasing in t_l; the optimum shares it out as the gauge asks. Cost: one projection a block for the
        maximum, BISECTIONS of them for the sum and BISECTIONS^2 for the root of squares.
        """
        check_number(radius, "radius")
        size = magnitude(self._lengths(self.blocks, x), axes=1)
        size = Magnitude(size.scale[..., None], size.finite[..., None])
        y = tuple(size.normalize(xi) for xi in x)
        radius = per_matrix(radius, x[0]) / size.scale
        outside = self.value(y)[..., None, None] > radius
        xp = array_namespace(*x)
        near = [
            b.project(yi, t[..., 0, 0])
            for b, yi, t in zip(self.blocks, y, self._project_lengths(y, radius), strict=True)
        ]
        return tuple(size.scale * xp.where(outside, p, yi) + size.nan() for p, yi in zip(near, y, strict=True))

    def prox(self, x: Blocks, t: Scalar = 1.0) -> Blocks:
        """Return the proximal point of t times the norm, by Moreau."""
        return tuple(xi - pi for xi, pi in zip(x, self.dual_norm.project(x, t), strict=True))

    def _project_lengths(self, x, radius):
        raise NotImplementedError

    def _lengths(self, norms, x):
        if len(x) != len(norms):
            raise ValueError(f"{self.name} has {len(norms)} blocks; got a tuple of {len(x)} arrays.")
        xp = array_namespace(*x)
        return xp.stack([norm.value(xi) for norm, xi in zip(norms, x, strict=True)], axis=-1)


@dataclass(frozen=True)
class ProductMax(Product):
    """max_l |x_l|: every block moves its full length."""

    gauge: ClassVar[Gauge] = LInf()

    def _project_lengths(self, x, radius):
        return [radius] * len(x)


@dataclass(frozen=True)
class ProductSum(Product):
    """sum_l |x_l|, the dual of ProductMax: only the block with the largest dual norm moves."""

    gauge: ClassVar[Gauge] = L1()

    def _project_lengths(self, x, radius):
        # Here one multiplier serves all blocks: t_l(lam) = |prox_{lam}(x_l)|; bisect until the lengths sum to radius.
        return self._common_multiplier(
            x, radius, lambda block, xi, lam: _column(block.value(block.prox(xi, lam[..., 0, 0])))
        )

    def _common_multiplier(self, x, radius, length_at):
        xp = array_namespace(*x)
        duals = [_column(b.dual(xi)) for b, xi in zip(self.blocks, x, strict=True)]
        high = duals[0]
        for other in duals[1:]:
            high = xp.maximum(high, other)
        low = xp.zeros_like(high)
        for _ in range(BISECTIONS):
            lam = (low + high) / 2
            lengths = xp.concat([length_at(b, xi, lam) for b, xi in zip(self.blocks, x, strict=True)], axis=-1)
            too_long = self.gauge.value(lengths)[..., None] > radius
            low, high = xp.where(too_long, lam, low), xp.where(too_long, high, lam)
        return [length_at(b, xi, high) for b, xi in zip(self.blocks, x, strict=True)]


@dataclass(frozen=True)
class ProductRoot(ProductSum):
    """sqrt(sum_l |x_l|^2): block l moves |g_l|_* over the root of the sum of their squares."""

    gauge: ClassVar[Gauge] = L2()

    def _project_lengths(self, x, radius):
        # Stationarity: the multiplier of block l is (mu / radius) t_l. Solve |prox_{mu t / radius}(x_l)| = t.
        xp = array_namespace(*x)
        usable = xp.where(radius > 0, radius, xp.ones_like(radius))

        def length_at(block, xi, mu):
            low, high = xp.zeros_like(mu), _column(block.value(xi))
            for _ in range(BISECTIONS):
                t = (low + high) / 2
                too_short = _column(block.value(block.prox(xi, (mu * t / usable)[..., 0, 0]))) > t
                low, high = xp.where(too_short, t, low), xp.where(too_short, high, t)
            return high

        # mu is at most the dual norm of x, hence at most sqrt(L) times the largest dual norm of a block.
        scaled = self._common_multiplier(x, radius, lambda b, xi, lam: length_at(b, xi, lam * len(x) ** 0.5))
        zero = [xp.zeros_like(t) for t in scaled]
        return [xp.where(radius > 0, t, z) for t, z in zip(scaled, zero, strict=True)]


def _column(v: Array) -> Array:
    return v[..., None, None]
