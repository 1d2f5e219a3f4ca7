"""A plan: which steps orthogonalize a matrix, how they are grouped, from which interval, at what cost and error."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ..arrays import Array
from .cost import CostModel
from .newton import NewtonStep
from .normalization import Normalization
from .schedule import Interval, critical_points, odd_value
from .spectrum import Lanczos
from .zolotarev import Zolotarev

Step = Any  # a tuple of odd coefficients, a Zolotarev or a NewtonStep


@dataclass(frozen=True)
class Plan:
    """Steps that bring the singular values of an interval to 1, with what is known about them before they run.

    Parameters
    ----------
    steps : tuple
        Odd polynomials (tuples of coefficients), rational steps (`Zolotarev`) or Newton steps, in order.
    blocks : tuple of int
        How many steps share a Gram matrix: those of a block are composed on the short side and applied once.
        Ones are the direct iteration, one block of all is the pure Gram iteration.
    normalization : Normalization or Lanczos
        What brings the matrix into the interval.
    interval, image : (low, high)
        Singular values of the normalized matrix in the first are proven, in exact arithmetic, to land in the second.
    shape : (m, n)
        What the plan was made for; it applies to any.
    dtype : str
        The precision that the rounding error was predicted for.
    cost : float
        Predicted, in products of n x n matrices (n the shorter side), under `costs`.
    error : float
        Predicted spectral-norm distance to the polar factor, rounding included (`probe.predicted_error`).
    efficiency : float or None
        Predicted <G, X> / (|X|_2 |G|_*) where the plan was made for it.
    reason : str
        Why this one.
    """

    steps: tuple[Step, ...]
    blocks: tuple[int, ...]
    normalization: Normalization | Lanczos
    interval: Interval
    image: Interval
    shape: tuple[int, int]
    dtype: str
    costs: CostModel
    cost: float
    error: float
    efficiency: float | None = None
    gram_dtype: str | None = None
    reason: str = ""

    def __post_init__(self):
        if sum(self.blocks) != len(self.steps) or min(self.blocks, default=0) < 1:
            raise ValueError(f"blocks {self.blocks} must be positive and add up to the {len(self.steps)} steps.")

    @property
    def name(self) -> str:
        """The steps in short: degrees of polynomials, z and the number of poles, n for Newton; | between blocks."""
        parts, start = [], 0
        for size in self.blocks:
            parts.append(" ".join(label(step) for step in self.steps[start : start + size]))
            start += size
        return " | ".join(parts)

    @property
    def exact_error(self) -> float:
        """The distance to the polar factor in exact arithmetic, at most."""
        return max(1 - self.image[0], self.image[1] - 1)

    @property
    def seconds(self) -> float | None:
        """Predicted time, where the costs were measured."""
        return None if self.costs.seconds is None else self.cost * self.costs.seconds

    def row(self) -> dict[str, Any]:
        """Return the plan as plain data, coefficients included."""
        return {
            "cost": self.cost, "seconds": self.seconds, "error": self.error, "exact error": self.exact_error,
            "efficiency": self.efficiency, "precision": self.gram_dtype or self.dtype, "interval": self.interval,
            "image": self.image, "blocks": self.blocks, "normalization": dataclasses.asdict(self.normalization),
            "steps": [step if isinstance(step, tuple) else dataclasses.asdict(step) for step in self.steps],
        }  # fmt: skip

    def singular_value_map(self, s: Array) -> Array:
        """Apply the composed scalar function to singular values of the normalized matrix."""
        for step in self.steps:
            s = value(step, s)
        return s

    def apply(self, g: Array) -> Array:
        """Orthogonalize each matrix; zero stays zero."""
        from .engine import apply

        return apply(g, self.steps, self.blocks, self.normalization, gram_dtype=self.gram_dtype)


def label(step: Step) -> str:
    """Return a step in short.

    >>> label((1.5, -0.5))
    '3'
    """
    if isinstance(step, Zolotarev):
        return f"z{len(step.poles)}"
    return "n" if isinstance(step, NewtonStep) else str(2 * len(step) - 1)


def value(step: Step, s: Array) -> Array:
    """Apply one step to singular values."""
    return odd_value(step, s) if isinstance(step, tuple) else step(s)


def image(steps: Sequence[Step], low: float, high: float) -> Interval:
    """Return the exact image of [low, high] under the composed steps, from end points and critical points."""
    for step in steps:
        if isinstance(step, tuple):
            points = [low, high, *(p for p in critical_points(step) if low < p < high)]
            values = [float(odd_value(step, p)) for p in points]
            low, high = min(values), max(values)
        else:
            low, high = step.image(low, high)
    return low, high
