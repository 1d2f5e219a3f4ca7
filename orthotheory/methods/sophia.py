"""Sophia: momentum over an estimate of the Hessian's diagonal, clipped entrywise."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, NamedTuple

from .. import norms
from ..arrays import Array, Scalar, array_namespace, check_number, standard_normal
from ..names import closest
from .contract import Card, Method, decay, ema, ratio, zeros_like

HessianProduct = Callable[[Array, Array], Array]  # (w, d) -> H(w) d, shapes (..., m, n), a pure function


def clipped_quotient(m: Array, h: Array) -> Array:
    """Return m / h clipped to [-1, 1], for h >= 0; the sign of m where h is 0."""
    xp = array_namespace(m)
    return xp.where(xp.abs(m) >= h, xp.sign(m), ratio(m, h))


@dataclass(frozen=True)
class Sophia(Method):
    """Step by the clipped quotient of momentum and curvature.

        M <- beta1 M + (1 - beta1) G;   every k steps:  H <- beta2 H + (1 - beta2) E
        W <- (1 - lr weight_decay) W - lr clip(M / max(gamma H, eps), 1)

    Parameters
    ----------
    lr : float or array (batch)
        Largest step of an entry.
    gamma : float or array (batch)
        Where the clipping starts.
    curvature : function (w, d) -> H(w) d, or None
        What the method needs beyond a gradient, as a pure function among the hyper-parameters. E = u * H u with a
        Gaussian u is then Hutchinson's estimate of the diagonal. None takes E = samples G * G.
    samples : float
        Batch size in E = samples G * G. With labels drawn from the model G * G is the Gauss-Newton-Bartlett
        estimate; with the training gradient it is the empirical Fisher diagonal, which is not the paper's.
    period, seed : int
        k; of u, the same for all members of a batch.
    variant : "paper" or "code"
        max(gamma H, eps) or gamma H + eps as the denominator.

    Notes
    -----
    Where H <= 0 the step is that of sign descent. With exact H, beta1 = beta2 = 0 and gamma = 1 unclipped coordinates
    of a diagonal quadratic contract by 1 - lr whatever the condition (theorem `sophia-axis-aligned`); not so after a
    rotation (its control). With the estimated diagonal and clipping: claim `sophia-condition-free`.
    """

    card = Card(
        "Sophia",
        "liu2023sophia",
        "2305.14342",
        "clipped diagonal Newton; sign descent where clipped",
        "published",
        "Read in a transcription; the code's rho = 0.04 for gamma is from memory. Without a curvature function the "
        "diagonal is the empirical Fisher's, not the paper's estimate.",
    )
    norm = norms.MaxEntry()

    lr: Scalar = 1e-3
    beta1: Scalar = 0.96
    beta2: Scalar = 0.99
    gamma: Scalar = 0.01
    eps: Scalar = 1e-12
    weight_decay: Scalar = 0.0
    curvature: HessianProduct | None = None
    samples: float = 1.0
    period: int = 10
    seed: int = 0
    variant: Literal["paper", "code"] = "paper"

    class State(NamedTuple):
        """Average gradient, diagonal of the Hessian, steps taken."""

        first: Array
        diagonal: Array
        steps: int

    def __post_init__(self):
        super().__post_init__()
        check_number(self.samples, "Sophia.samples", open_low=True, open_high=True)
        check_number(self.period, "Sophia.period", low=1)
        closest(self.variant, {"paper": 0, "code": 0}, "Sophia variant")

    def init(self, w):
        return self.State(zeros_like(w), zeros_like(w), 0)

    def estimate(self, w: Array, grad: Array, step: int) -> Array:
        """Return E, an estimate of the diagonal of the Hessian."""
        if self.curvature is None:
            return self.samples * grad * grad
        u = standard_normal(w.shape[-2:], self.seed + step, like=w) + zeros_like(w)
        return u * self.curvature(w, u)

    def update(self, w, grad, state):
        xp = array_namespace(w)
        m = ema(state.first, grad, self.beta1)
        h = state.diagonal
        if state.steps % self.period == 0:
            h = ema(h, self.estimate(w, grad, state.steps), self.beta2)
        size = self.gamma * h
        if self.variant == "paper":
            size = xp.maximum(size, self.eps + zeros_like(w))
        else:
            size = xp.clip(size, min=0.0) + self.eps
        step = self.lr * clipped_quotient(m, size)
        return decay(w, self.lr, self.weight_decay) - step, self.State(m, h, state.steps + 1)
