"""Steps of fixed length in the Frobenius and in the max-entry norm: normalized gradient, sign descent, Signum."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from .. import norms
from ..arrays import Array, Scalar, array_namespace
from .contract import Card, Method, decay, ema, zeros_like


@dataclass(frozen=True)
class NormalizedGD(Method):
    """Step of Frobenius length lr along the negative gradient; a zero gradient gives no step.

    W <- (1 - lr weight_decay) W - lr G / |G|_F
    """

    card = Card("Normalized gradient descent", "classical", "", "fixed radius, Frobenius norm", "published")

    lr: Scalar = 0.1
    weight_decay: Scalar = 0.0

    def init(self, w: Array) -> tuple[()]:
        return ()

    def update(self, w, grad, state):
        return decay(w, self.lr, self.weight_decay) + self.lr * self.norm.lmo(grad), state


@dataclass(frozen=True)
class SignDescent(Method):
    """Step of max-entry length lr against the signs of the gradient, with sign(0) = 0.

    W <- (1 - lr weight_decay) W - lr sign(G)
    """

    card = Card("Sign descent", "bernstein2018signsgd", "1802.04434", "fixed radius, max-entry norm", "published")
    norm = norms.MaxEntry()

    lr: Scalar = 0.01
    weight_decay: Scalar = 0.0

    def init(self, w: Array) -> tuple[()]:
        return ()

    def update(self, w, grad, state):
        return decay(w, self.lr, self.weight_decay) - self.lr * array_namespace(grad).sign(grad), state


@dataclass(frozen=True)
class Signum(Method):
    """Sign descent on an exponential moving average.

    M <- momentum M + (1 - momentum) G
    W <- (1 - lr weight_decay) W - lr sign(M)
    """

    card = Card("Signum", "bernstein2018signsgd", "1802.04434", "fixed radius, max-entry norm, momentum", "published")
    norm = norms.MaxEntry()

    lr: Scalar = 0.01
    momentum: Scalar = 0.9
    weight_decay: Scalar = 0.0

    class State(NamedTuple):
        """The average gradient."""

        momentum: Array

    def init(self, w):
        return self.State(zeros_like(w))

    def update(self, w, grad, state):
        m = ema(state.momentum, grad, self.momentum)
        return decay(w, self.lr, self.weight_decay) - self.lr * array_namespace(m).sign(m), self.State(m)
