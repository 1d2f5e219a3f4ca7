"""Lion: the sign of a mix of momentum and gradient, with decoupled weight decay."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from .. import norms
from ..arrays import Array, Scalar, array_namespace
from .contract import Card, Method, decay, ema, zeros_like


@dataclass(frozen=True)
class Lion(Method):
    """Sign of one average for the step, another average for the memory.

        C  = beta1 M + (1 - beta1) G
        W <- (1 - lr weight_decay) W - lr sign(C)
        M <- beta2 M + (1 - beta2) G

    With weight decay the iterates approach the box |W_ij| <= 1 / weight_decay [chen2023lion].
    """

    card = Card("Lion", "chen2023symbolic", "2302.06675", "fixed radius, max-entry norm", "exact")
    norm = norms.MaxEntry()

    lr: Scalar = 1e-3
    beta1: Scalar = 0.9
    beta2: Scalar = 0.99
    weight_decay: Scalar = 0.0

    class State(NamedTuple):
        """The slow average of gradients."""

        momentum: Array

    def init(self, w):
        return self.State(zeros_like(w))

    def update(self, w, grad, state):
        direction = array_namespace(w).sign(ema(state.momentum, grad, self.beta1))
        w = decay(w, self.lr, self.weight_decay) - self.lr * direction
        return w, self.State(ema(state.momentum, grad, self.beta2))
