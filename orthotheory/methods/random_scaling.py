"""Momentum with steps of random, exponentially distributed length."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from ..arrays import Array, Scalar, generator
from .contract import Card, Method, heavy_ball, zeros_like


@dataclass(frozen=True)
class RandomScaling(Method):
    """Heavy ball with each step scaled by an exponential draw.

        D <- momentum D - lr G,   W <- W + s D,   s ~ Exp(1)

    Parameters
    ----------
    random : bool
        False sets s = 1, the plain heavy ball, for contrast.
    seed : int
        Of s, the same for all members of a batch.

    Notes
    -----
    E f(X + s D) - f(X) = E <grad f(X + s D), D> exactly, for any f with a gradient almost everywhere (claim
    `random-scaling-identity`), and only for the exponential law. E s = Var s = 1: noisier on smooth functions.
    """

    card = Card(
        "SGDM with random scaling",
        "zhang2024random",
        "2405.09742",
        "Frobenius norm",
        "reconstructed",
        "Read in the abstract; the rule follows the framework of online descent with decay.",
    )

    lr: Scalar = 0.01
    momentum: Scalar = 0.9
    random: bool = True
    seed: int = 0

    class State(NamedTuple):
        """Displacement and steps taken."""

        displacement: Array
        steps: int

    def init(self, w):
        return self.State(zeros_like(w), 0)

    def update(self, w, grad, state):
        d = heavy_ball(state.displacement, -self.lr * grad, self.momentum)
        s = float(generator(self.seed + state.steps).exponential()) if self.random else 1.0
        return w + s * d, self.State(d, state.steps + 1)
