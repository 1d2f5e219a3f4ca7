"""Momentum whose factor follows from a model of two planes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from ..arrays import Array, Scalar, array_namespace, check_number, inner
from .contract import Card, Method, decay, ratio, zeros_like
from .psgd import squared


def memory_factor(d: Array, g: Array, pull: float) -> Array:
    """Return b in [0, 1], shape (..., 1, 1), that minimizes |(b + pull) d + (1 - b) g|^2: 0 where d = g.

    b = clip(<pull d + g, g - d> / |g - d|^2). pull = 0 gives the point of least norm on the segment from g to d.
    """
    xp = array_namespace(d, g)
    difference = g - d
    return xp.clip(ratio(inner(pull * d + g, difference)[..., None, None], squared(difference)), 0.0, 1.0)


@dataclass(frozen=True)
class AdaptiveMemory(Method):
    """Momentum with a factor from the last gradient and the memory.

        b = clip(<pull D + G, G - D> / |G - D|^2, 0, 1)
        D <- ((b + pull) D + (1 - b) G) / (1 + pull),   W <- (1 - lr weight_decay) W - lr D      (first D = G)

    Parameters
    ----------
    pull : float
        Weight of the proximity to the last step.

    Notes
    -----
    -lr D minimizes max(<G, z>, <D, z>) + |z|^2 / 2 lr + pull |z + lr D|^2 / 2 lr, D the old one (theorem
    `adaptive-memory-proximal`). The first D is the first gradient: from D = 0 the rule would stay at 0.
    """

    card = Card(
        "Adaptive memory momentum",
        "topollai2025adaptive",
        "2510.04988",
        "Frobenius norm",
        "reconstructed",
        "The step was read in a summary, the factor b is our minimizer of the model, with a memory plane through the "
        "same value; the start and the default of pull are ours. The AdamW form is left out.",
    )

    lr: Scalar = 0.1
    weight_decay: Scalar = 0.0
    pull: float = 0.1

    class State(NamedTuple):
        """The memory D and steps taken."""

        memory: Array
        steps: int

    def __post_init__(self):
        super().__post_init__()
        check_number(self.pull, "AdaptiveMemory.pull", open_high=True)

    def init(self, w):
        return self.State(zeros_like(w), 0)

    def update(self, w, grad, state):
        d = state.memory if state.steps else grad
        b = memory_factor(d, grad, self.pull)
        d = ((b + self.pull) * d + (1 - b) * grad) / (1 + self.pull)
        return decay(w, self.lr, self.weight_decay) - self.lr * d, self.State(d, state.steps + 1)
