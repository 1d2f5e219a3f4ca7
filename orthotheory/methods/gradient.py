"""Gradient descent and its two classical accelerations: Polyak's heavy ball and Nesterov's method."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from ..arrays import Array, Scalar
from .contract import Card, Method, decay, heavy_ball, zeros_like


@dataclass(frozen=True)
class GradientDescent(Method):
    """Step along the negative gradient.

        W <- (1 - lr weight_decay) W - lr G

    Parameters
    ----------
    lr : float or array (batch)
        Step per unit of gradient; descends on an L-smooth function for lr < 2 / L (Frobenius norm).
    weight_decay : float or array (batch)
        Decoupled decay.
    """

    card = Card("Gradient descent", "classical", "", "steepest descent, Frobenius norm", "published")

    lr: Scalar = 0.1
    weight_decay: Scalar = 0.0

    def init(self, w: Array) -> tuple[()]:
        return ()

    def update(self, w, grad, state):
        return decay(w, self.lr, self.weight_decay) - self.lr * grad, state


@dataclass(frozen=True)
class HeavyBall(Method):
    """Polyak's heavy ball.

        M <- momentum M + G
        W <- (1 - lr weight_decay) W - lr M

    On a quadratic with curvature in [mu, L] the best constants are lr = 4 / (sqrt L + sqrt mu)^2 and
    momentum = ((sqrt kappa - 1) / (sqrt kappa + 1))^2.
    """

    card = Card("Heavy ball", "polyak1964some", "", "Frobenius norm with momentum", "published")

    lr: Scalar = 0.1
    momentum: Scalar = 0.9
    weight_decay: Scalar = 0.0

    class State(NamedTuple):
        """The accumulated gradient."""

        momentum: Array

    def init(self, w):
        return self.State(zeros_like(w))

    def update(self, w, grad, state):
        m = heavy_ball(state.momentum, grad, self.momentum)
        return decay(w, self.lr, self.weight_decay) - self.lr * m, self.State(m)


@dataclass(frozen=True)
class Nesterov(Method):
    """Nesterov's accelerated gradient with constant momentum; the weights are the extrapolated points Y.

    X+ = Y - lr G(Y)
    Y+ = X+ + momentum (X+ - X)
    """

    card = Card(
        "Nesterov's accelerated gradient",
        "nesterov1983method",
        "",
        "Frobenius norm with momentum",
        "published",
        "The weights are the points at which the gradient is taken; the state holds the plain iterate.",
    )

    lr: Scalar = 0.1
    momentum: Scalar = 0.9

    class State(NamedTuple):
        """The iterate before extrapolation."""

        iterate: Array

    def init(self, w):
        return self.State(w)

    def update(self, w, grad, state):
        x = w - self.lr * grad
        return x + self.momentum * (x - state.iterate), self.State(x)
