"""AMSGrad: Adam with a second moment that never decreases."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

from .. import norms
from ..arrays import Array, Scalar, array_namespace
from ..names import closest
from .contract import Card, Method, decay, ratio, zeros_like
from .moments import Moments


@dataclass(frozen=True)
class AMSGrad(Method):
    """Divide by the largest second moment so far.

        M <- beta1 M + (1 - beta1) G,   V <- beta2 V + (1 - beta2) G * G,   Vmax <- max(Vmax, V)
        W <- (1 - lr weight_decay) W - lr M / (sqrt(Vmax) + eps)

    Parameters
    ----------
    variant : "torch" or "paper"
        "torch" divides M by 1 - beta1^t and Vmax by 1 - beta2^t (the maximum is of uncorrected moments); the paper
        corrects nothing.

    Notes
    -----
    On the paper's periodic problem Adam ends at the worst point and AMSGrad at the best (claim `amsgrad-periodic`).
    """

    card = Card(
        "AMSGrad",
        "reddi2018convergence",
        "1904.09237",
        "adaptive diagonal, steps that only shrink",
        "published",
        "The paper corrects no bias, torch does; eps stands outside the root, decay is decoupled.",
    )
    norm = norms.MaxEntry()

    lr: Scalar = 1e-3
    beta1: Scalar = 0.9
    beta2: Scalar = 0.999
    eps: Scalar = 1e-8
    weight_decay: Scalar = 0.0
    variant: Literal["torch", "paper"] = "torch"

    class State(NamedTuple):
        """Moments, the largest second moment, steps taken."""

        moments: Moments
        largest: Array
        steps: int

    def __post_init__(self):
        super().__post_init__()
        closest(self.variant, {"torch": 0, "paper": 0}, "AMSGrad variant")

    def init(self, w):
        return self.State(Moments.zeros(w), zeros_like(w), 0)

    def update(self, w, grad, state):
        xp = array_namespace(w)
        t = state.steps + 1
        moments = state.moments.after(grad, self.beta1, self.beta2)
        largest = xp.maximum(state.largest, moments.second)
        m, v = moments.first, largest
        if self.variant == "torch":
            m, v = m / (1 - self.beta1**t), v / (1 - self.beta2**t)
        step = self.lr * ratio(m, xp.sqrt(v) + self.eps)
        return decay(w, self.lr, self.weight_decay) - step, self.State(moments, largest, t)
