"""Lion-K: Lion with the subgradient of any convex function in place of the sign."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

from .. import convex, norms
from ..arrays import Array, Scalar
from ..convex import ConvexFunction
from ..norms import Norm
from .contract import Card, Method, decay, ema, zeros_like


@dataclass(frozen=True)
class LionK(Method):
    """Step along the subgradient of a convex function K at a mix of momentum and gradient.

        C  = beta1 M + (1 - beta1) G
        W <- (1 - lr weight_decay) W + lr dK(-C)
        M <- beta2 M + (1 - beta2) G

    Parameters
    ----------
    k : ConvexFunction or str
        The function, or its name in `convex.names()`.
    lr : float or array (batch)
        Step; its length is at most lr in `convex.ball` where the conjugate of K has a bounded domain.
    beta1, beta2 : float or array (batch)
        Mix of the step and factor of the memory. beta1 = beta2 is plain momentum.
    weight_decay : float or array (batch)
        lambda; the iterates approach (1 / lambda) times the closure of dom K*, and settle where
        f + (1 / lambda) K*(lambda W) has a stationary point, up to O(lr) [chen2023lion].
    warm_start : bool
        Start the memory at the first gradient instead of zero, as theorem `lion-k-discrete` assumes.

    Notes
    -----
    K = l1: Lion. K = nuclear norm: Muon with decay; with its Nesterov mix at beta1 = beta^2, beta2 = beta.
    K = l2: normalized gradient. K = |.|^2 / 2: heavy ball. Theorems `lion-k-*`.
    """

    card = Card(
        "Lion-K",
        "chen2023lion",
        "2310.05898",
        "the ball of dom K*",
        "published",
        "The paper's discrete theorem was not read; the discrete bounds here are ours.",
    )

    k: Any = "nuclear"
    lr: Scalar = 1e-3
    beta1: Scalar = 0.9
    beta2: Scalar = 0.99
    weight_decay: Scalar = 0.1
    warm_start: bool = False

    class State(NamedTuple):
        """The slow average of gradients, and the number of steps taken."""

        momentum: Array
        steps: int

    def __post_init__(self):
        super().__post_init__()
        if isinstance(self.k, str):
            object.__setattr__(self, "k", convex.make(self.k))
        if not isinstance(self.k, ConvexFunction):
            raise TypeError(f"k must be a convex function or the name of one; got {self.k!r}.")

    @property
    def norm(self) -> Norm:  # type: ignore[override]
        """The norm whose ball is the closure of dom K*, the Frobenius norm where that is everything."""
        return self.k.ball or norms.Frobenius()

    def init(self, w):
        return self.State(zeros_like(w), 0)

    def update(self, w, grad, state):
        m = grad if self.warm_start and state.steps == 0 else state.momentum
        direction = self.k.subgradient(-ema(m, grad, self.beta1))
        w = decay(w, self.lr, self.weight_decay) + self.lr * direction
        return w, self.State(ema(m, grad, self.beta2), state.steps + 1)
