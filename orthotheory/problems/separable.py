"""Problems in several matrices: the sum of one problem a block, with the constants of each."""

from __future__ import annotations

import math
from collections.abc import Sequence

from ..arrays import Backend, check_number
from ..norms import Norm, Product, ProductMax, ProductRoot
from .contract import Constant, Dtype, Problem
from .noise import Gaussian
from .quadratic import quadratic


class Separable(Problem):
    """f(W_1, ..., W_b) = sum_l f_l(W_l); weights, gradients, start and optimum are tuples. Each part has its noise."""

    def __init__(self, parts: Sequence[Problem]):
        if not parts:
            raise ValueError("Separable needs at least one part.")
        self.parts = tuple(parts)
        self.start = tuple(part.start for part in parts)
        self.noise = None if all(part.noise is None for part in parts) else tuple(part.noise for part in parts)
        if all(part.optimum is not None for part in parts):
            self.optimum = tuple(part.optimum for part in parts)
        minima = [part.optimal_value for part in parts if part.optimal_value is not None]
        if len(minima) == len(parts):
            self.optimal_value = math.fsum(minima)

    def value(self, w):
        return sum(part.value(x) for part, x in zip(self.parts, w, strict=True))

    def grad(self, w):
        return tuple(part.grad(x) for part, x in zip(self.parts, w, strict=True))

    def noisy_grad(self, w, rng):
        return tuple(part.noisy_grad(x, rng) for part, x in zip(self.parts, w, strict=True))

    def curvature(self, d):
        """Return <d, H d>, shape (batch)."""
        return sum(part.curvature(x) for part, x in zip(self.parts, d, strict=True))  # type: ignore[attr-defined]

    def block_smoothness(self, norm: Norm) -> tuple[Constant, ...]:
        """Return L_l of each block, all measured in `norm`."""
        return tuple(part.smoothness(norm) for part in self.parts)

    def smoothness(self, norm: Norm | Product) -> Constant:
        """Return L in a product norm: the sum of the L_l for the maximum, the largest for the root of squares."""
        constants = self._constants(norm, "smoothness")
        total = sum if isinstance(norm, ProductMax) else max
        return Constant(total(map(float, constants)), _kind(constants), "of the blocks, which do not interact")

    def strong_convexity(self, norm: Norm | Product) -> Constant:
        constants = self._constants(norm, "strong_convexity")
        return Constant(min(map(float, constants)), _kind(constants), "the weakest block")

    def _constants(self, norm, what):
        if not isinstance(norm, ProductMax | ProductRoot):
            raise TypeError(f"Separable needs a ProductMax or ProductRoot norm for its constants; got {norm!r}.")
        return [getattr(part, what)(block) for part, block in zip(self.parts, norm.blocks, strict=True)]


def _kind(constants):
    kinds = {c.kind for c in constants}
    return kinds.pop() if len(kinds) == 1 else ("upper" if "lower" not in kinds else "lower")


def layers(
    *,
    smoothness: tuple[float, ...] = (4.0, 1.0, 1.0),
    noise_levels: tuple[float, ...] = (),
    rows: int = 8,
    columns: int = 8,
    condition: float = 10.0,
    dtype: Dtype = "float64",
    seed: int = 0,
    device: str | Backend | None = None,
) -> Separable:
    """Build a sum of quadratics, one a layer, the first the farthest from the output.

    Parameters
    ----------
    smoothness : tuple of float
        Largest curvature of each layer in the Frobenius norm: its Hessian has eigenvalues from L_l / condition to L_l.
    noise_levels : tuple of float
        Standard deviation of the gradient noise of each layer; empty for none.
    """
    for value in smoothness:
        check_number(value, "smoothness", open_low=True, open_high=True)
    if noise_levels and len(noise_levels) != len(smoothness):
        raise ValueError(f"{len(smoothness)} layers need as many noise levels; got {len(noise_levels)}.")
    parts = []
    for i, constant in enumerate(smoothness):
        part = quadratic(
            rows=rows, columns=columns, left_condition=condition, dtype=dtype, seed=seed + 1000 * i, device=device,
            noise=Gaussian(noise_levels[i]) if noise_levels else None,
        )  # fmt: skip
        part.a = float(constant) * part.a
        parts.append(part)
    return Separable(parts)
