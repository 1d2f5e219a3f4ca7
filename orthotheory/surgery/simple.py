"""Fixed and random weights: what every surgery is compared with."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from ..arrays import backend_of
from .contract import Card, Weighted


@dataclass(frozen=True)
class Mean(Weighted):
    """The mean gradient, x = sum_i g_i / m."""

    card = Card("Mean", "", "exact")

    def coefficients(self, rows, *rng):
        return rows.scale / rows.scale.shape[-1]


@dataclass(frozen=True)
class Sum(Weighted):
    """The gradient of the sum, x = sum_i g_i."""

    card = Card("Sum", "", "exact")

    def coefficients(self, rows, *rng):
        return +rows.scale


@dataclass(frozen=True)
class Constant(Weighted):
    """A fixed combination, x = sum_i w_i g_i.

    Parameters
    ----------
    weight : sequence of m numbers
        May be negative.
    """

    weight: Any = (1.0,)
    card = Card("Constant", "", "exact")

    def __post_init__(self):
        if np.ndim(self.weight) != 1 or not np.all(np.isfinite(self.weight)):
            raise ValueError(f"Constant.weight must be a sequence of finite numbers; got {self.weight!r}.")

    def coefficients(self, rows, *rng):
        if len(self.weight) != rows.scale.shape[-1]:
            raise ValueError(f"Constant has {len(self.weight)} weights and the Jacobian {rows.scale.shape[-1]} rows.")
        return backend_of(rows.unit).asarray(self.weight, "float64") * rows.scale


@dataclass(frozen=True)
class Random(Weighted):
    """Random loss weighting: w = softmax of standard normals, drawn anew in every step.

    Parameters
    ----------
    seed : int
        Decides the draws together with the number of the step.
    """

    seed: int = 0
    card = Card("Random", "lin2022reasonable", "exact")
    random = True

    def coefficients(self, rows, *rng):
        z = np.exp(rng[0].standard_normal(rows.scale.shape))
        return backend_of(rows.unit).asarray(z / z.sum(axis=-1, keepdims=True)) * rows.scale


__all__ = ["Constant", "Mean", "Random", "Sum"]
