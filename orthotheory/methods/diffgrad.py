"""diffGrad: Adam with a friction that falls to one half where the gradient stops changing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from .. import norms
from ..arrays import Array, Scalar, array_namespace
from .contract import Card, Method, decay, zeros_like
from .moments import Moments, bias_rate


@dataclass(frozen=True)
class DiffGrad(Method):
    """Multiply Adam's step by a sigmoid of the last change of the gradient.

        F = 1 / (1 + exp(-|G_{t-1} - G_t|)), entrywise, G_0 = 0
        W <- (1 - lr weight_decay) W - lr sqrt(1 - beta2^t) / (1 - beta1^t) F * M / (sqrt(V) + eps)

    Notes
    -----
    F lies in [1/2, 1), so near a minimum the method is Adam at half the learning rate (theorem `diffgrad-half-adam`).
    Whether that leads to lower minima depends on lr and beta1 (claim `diffgrad-lowest-points`).
    The sigmoid sees the unit of the gradient: the method is not scale invariant.
    """

    card = Card(
        "diffGrad",
        "dubey2019diffgrad",
        "1909.11015",
        "adaptive diagonal",
        "published",
        "Read in a transcription; a common port takes sqrt(V + 1e-15) + eps. Decay is ours.",
    )
    norm = norms.MaxEntry()

    lr: Scalar = 1e-3
    beta1: Scalar = 0.9
    beta2: Scalar = 0.999
    eps: Scalar = 1e-8
    weight_decay: Scalar = 0.0

    class State(NamedTuple):
        """Moments, the last gradient, steps taken."""

        moments: Moments
        last: Array
        steps: int

    def init(self, w):
        return self.State(Moments.zeros(w), zeros_like(w), 0)

    def update(self, w, grad, state):
        xp = array_namespace(w)
        t = state.steps + 1
        moments = state.moments.after(grad, self.beta1, self.beta2)
        friction = 1 / (1 + xp.exp(-xp.abs(state.last - grad)))
        step = self.lr * bias_rate(t, self.beta1, self.beta2) * friction * moments.quotient(self.eps)
        return decay(w, self.lr, self.weight_decay) - step, self.State(moments, grad, t)
