"""Lookahead: slow weights that follow every few steps of any other method."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from ..arrays import Array, Scalar, check_number
from .contract import Card, Method
from .gradient import GradientDescent


@dataclass(frozen=True)
class Lookahead(Method):
    """Take `period` steps of a method, then go back part of the way.

        W <- inner step;   every k steps:  S <- S + pull (W - S),  W <- S

    Parameters
    ----------
    lr : float or array (batch)
        Learning rate of the inner method; it replaces that of `inner`.
    inner : Method
        Any method of one matrix; its state is kept when the weights are pulled back.
    period, pull : int, float
        k, and the share of the way that the slow weights S follow.

    Notes
    -----
    On a noisy quadratic the slow weights of gradient descent have a stationary variance below that of the fast ones
    by a closed factor (claim `lookahead-variance`); the mean contracts more slowly (theorem `lookahead-mean`,
    claim `lookahead-mean-rate`). Scale, rotations and the norm are
    those of the inner method. Cost: that of the inner method.
    """

    card = Card(
        "Lookahead",
        "zhang2019lookahead",
        "1907.08610",
        "that of the inner method",
        "published",
        "The inner state is kept at a pull (the paper also considers resetting and averaging it).",
    )

    lr: Scalar = 0.1
    inner: Method = field(default_factory=GradientDescent)
    period: int = 5
    pull: float = 0.5

    class State(NamedTuple):
        """Slow weights, the state of the inner method, steps taken."""

        slow: Array
        inner: Any
        steps: int

    def __post_init__(self):
        super().__post_init__()
        check_number(self.period, "Lookahead.period", low=1)
        check_number(self.pull, "Lookahead.pull", open_low=True, high=1.0)

    @property
    def norm(self):  # type: ignore[override]
        """The norm of the inner method."""
        return self.inner.norm

    def batch_shapes(self):
        return super().batch_shapes() + self.inner.batch_shapes()

    def init(self, w):
        return self.State(w, self.inner.init(w), 0)

    def update(self, w, grad, state):
        t = state.steps + 1
        inner = dataclasses.replace(self.inner._broadcast(w), lr=self.lr)  # type: ignore[call-arg]
        fast, moved = inner.update(w, grad, state.inner)
        if t % self.period:
            return fast, self.State(state.slow, moved, t)
        slow = state.slow + self.pull * (fast - state.slow)
        return slow, self.State(slow, moved, t)
