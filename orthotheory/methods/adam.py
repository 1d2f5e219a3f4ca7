"""Adam, with decoupled weight decay (AdamW) where it is asked for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from .. import norms
from ..arrays import Array, Scalar, array_namespace
from .contract import Card, Method, decay, ema, zeros_like


@dataclass(frozen=True)
class Adam(Method):
    """Entrywise steps of size about lr.

        M <- beta1 M + (1 - beta1) G,   V <- beta2 V + (1 - beta2) G * G
        W <- (1 - lr weight_decay) W - lr (M / (1 - beta1^t)) / (sqrt(V / (1 - beta2^t)) + eps)

    A zero gradient history gives a zero step for eps > 0; with eps = 0 the quotient 0 / 0 is taken as 0.
    """

    card = Card(
        "Adam",
        "kingma2014adam",
        "1412.6980",
        "adaptive diagonal; sign descent in the limit",
        "published",
        "eps stands outside the root; weight_decay is decoupled (AdamW).",
    )
    norm = norms.MaxEntry()

    lr: Scalar = 1e-3
    beta1: Scalar = 0.9
    beta2: Scalar = 0.999
    eps: Scalar = 1e-8
    weight_decay: Scalar = 0.0

    class State(NamedTuple):
        """First and second moments, and the number of steps taken."""

        first: Array
        second: Array
        steps: int

    def init(self, w):
        return self.State(zeros_like(w), zeros_like(w), 0)

    def update(self, w, grad, state):
        t = state.steps + 1
        first = ema(state.first, grad, self.beta1)
        second = ema(state.second, grad * grad, self.beta2)
        xp = array_namespace(w)
        root = xp.sqrt(second / (1 - self.beta2**t)) + self.eps
        direction = xp.where(root > 0, first / xp.where(root > 0, root, 1 + zeros_like(root)), zeros_like(root))
        step = self.lr * direction / (1 - self.beta1**t)
        return decay(w, self.lr, self.weight_decay) - step, self.State(first, second, t)
