"""The contract of a problem: values, gradients, noise, optimum, and constants that say whether they are exact."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from ..arrays import Array
from ..norms import Norm

Dtype = Literal["float64", "float32"]


@dataclass(frozen=True)
class Constant:
    """A constant of a problem, with its standing: exact, or an upper or lower bound of the best one."""

    value: float
    kind: Literal["exact", "upper", "lower"]
    reason: str = ""

    def __float__(self) -> float:
        return float(self.value)


class Problem:
    """A function of a matrix (..., m, n); every method maps over the batch axes. Knows no optimizer.

    Attributes
    ----------
    start : array (m, n)
        Where runs begin.
    optimum, optimal_value
        A minimizer and the minimum, or None where unknown.
    noise : Noise or None
        What `noisy_grad` adds to the gradient.
    config : mapping
        Name and options from which `problems.make` built it; recorded with every run.
    """

    start: Array
    optimum: Array | None = None
    optimal_value: float | None = None
    noise: Any = None
    config: Mapping[str, Any] = {}

    def value(self, w: Array) -> Array:
        """Return f(w), shape (batch)."""
        raise NotImplementedError

    def grad(self, w: Array) -> Array:
        """Return the gradient, of the shape of w."""
        raise NotImplementedError

    def noisy_grad(self, w: Array, rng: np.random.Generator) -> Array:
        """Return an unbiased estimate of the gradient; the gradient itself where there is no noise."""
        return self.grad(w) if self.noise is None else self.noise(self, w, rng)

    def smoothness(self, norm: Norm) -> Constant:
        """Return L with <grad f(x) - grad f(y), x - y> <= L |x - y|^2, measured in `norm`."""
        raise NotImplementedError

    def strong_convexity(self, norm: Norm) -> Constant:
        """Return mu with <grad f(x) - grad f(y), x - y> >= mu |x - y|^2, measured in `norm`."""
        raise NotImplementedError
