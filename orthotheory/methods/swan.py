"""SWAN: a gradient with standardized rows, orthogonalized; no state."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from .. import norms
from ..arrays import Array, Scalar, array_namespace, frobenius, magnitude
from ..polar import AnyPlan, check_plan, polar_factor
from .contract import Card, Method, ratio


def standardize_rows(g: Array) -> Array:
    """Return each row minus its mean, over its population standard deviation; a constant row gives zero.

    A row counts as constant where its spread is at most 16 eps times its largest entry, which rounding leaves.
    """
    xp = array_namespace(g)
    size = magnitude(g)
    x = size.normalize(g)
    centered = x - xp.mean(x, axis=-1, keepdims=True)
    spread = xp.sqrt(xp.mean(centered * centered, axis=-1, keepdims=True))
    floor = 16 * float(xp.finfo(g.dtype).eps) * xp.max(xp.abs(x), axis=-1, keepdims=True)
    spread = xp.where(spread > floor, spread, xp.zeros_like(spread))
    return ratio(centered, spread) + size.nan()


@dataclass(frozen=True)
class SWAN(Method):
    """Standardize the rows of the gradient, whiten, step.

        S = (G - row mean) / row standard deviation,   D = (S S^T)^(-1/2) S = polar(S)
        rescaled:  D <- D |S|_F / |D|_F
        W <- W - lr D

    Parameters
    ----------
    lr : float or array (batch)
    rescale : bool
        Bring D to the length of S, sqrt(mn) at full rank of rows.
    plan : str, Schedule, Plan or Adaptive
        The authors run Newton-Schulz; exact here unless another is given.

    Notes
    -----
    The rows of S sum to zero, and so do those of D: no step moves W 1 (theorem `swan-row-sums`), so SWAN reaches a
    minimizer only from a start with its row sums. Cost: one polar factor a step.
    """

    card = Card(
        "SWAN",
        "ma2024swan",
        "2412.13148",
        "spectral norm of row-standardized gradients",
        "published",
        "Read in a transcription; whether the length is restored differs between readings.",
    )
    norm = norms.Spectral()

    lr: Scalar = 0.01
    rescale: bool = False
    plan: AnyPlan = "exact"

    class State(NamedTuple):
        """Nothing."""

    def __post_init__(self):
        super().__post_init__()
        check_plan(self.plan)

    def init(self, w):
        return self.State()

    def update(self, w, grad, state):
        s = standardize_rows(grad)
        d = polar_factor(s, self.plan)
        if self.rescale:
            d = ratio(d, frobenius(d, keepdims=True)) * frobenius(s, keepdims=True)
        return w - self.lr * d, state
