"""MKOR: Kronecker factors whose inverses move by rank-one updates, at quadratic cost."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from ..arrays import Array, Scalar, array_namespace, check_number, device_of, frobenius
from ..polar import thin_svd
from .contract import Card, Method, decay, heavy_ball, ratio, zeros_like

Statistics = Callable[[Array], tuple[Array, Array]]  # w -> (mean output gradient (..., m, 1), mean input (..., n, 1))


def rank_one_inverse(j: Array, v: Array, keep: float = 0.95) -> Array:
    """Return P - P v v^T P / (1 + v^T P v) with P = keep J + (1 - keep) I, the inverse of P^-1 + v v^T.

    Shapes: J (..., k, k) symmetric, v (..., k, 1). From J <= I follows P <= I and the result <= I. Cost O(k^2).
    """
    xp = array_namespace(j)
    p = keep * j + (1 - keep) * xp.eye(j.shape[-1], dtype=j.dtype, device=device_of(j))
    x = p @ v
    return p - (x @ x.mT) / (1 + v.mT @ x)


@dataclass(frozen=True)
class MKOR(Method):
    """Precondition from both sides by inverse factors that are updated by rank one, and keep the gradient's length.

        every `period` steps:  J_g, J_a <- rank_one_inverse(J_g, g), rank_one_inverse(J_a, a)   (both start at I)
        D = J_g G J_a,   D <- D |G|_F / |D|_F,   M <- momentum M + D
        W <- (1 - lr weight_decay) W - lr M

    Parameters
    ----------
    statistics : function w -> (g, a), or None
        What the method needs beyond a gradient, a pure function: batch means of the layer's output gradient
        (..., m, 1) and input (..., n, 1). None takes sqrt(s_1) times the leading singular vectors of G: the two up to
        a factor for a batch of one sample, where G = g a^T. That stand-in is ours.

    Notes
    -----
    The recursion is not the inverse of an average of v v^T (claim `mkor-ema-inverse`). The authors' code resets a
    factor to I when an entry passes 2; from J = I that cannot happen, for J <= I always (theorem `mkor-no-reset`), so
    there is no reset here. Cost: 4 m^2 + 4 n^2 a factor update (theorem `mkor-cost`), two products a step.
    """

    card = Card(
        "MKOR",
        "mozaffari2023mkor",
        "2306.01685",
        "gradient descent with a Kronecker preconditioner of fixed length",
        "exact",
        "As in the authors' code for one layer without bias, followed by momentum SGD; without half precision and "
        "the clamp of inputs to +-100. Without a statistics function g and a are a stand-in of ours.",
    )

    lr: Scalar = 0.01
    momentum: Scalar = 0.9
    weight_decay: Scalar = 0.0
    statistics: Statistics | None = None
    period: int = 10
    keep: float = 0.95

    class State(NamedTuple):
        """Momentum, inverse factors (..., m, m) and (..., n, n), steps taken."""

        momentum: Array
        left: Array
        right: Array
        steps: int

    def __post_init__(self):
        super().__post_init__()
        check_number(self.period, "MKOR.period", low=1)
        check_number(self.keep, "MKOR.keep", open_low=True, high=1.0)

    def init(self, w):
        xp = array_namespace(w)
        one = 1 + zeros_like(w[..., :1, :1])
        left, right = (xp.eye(k, dtype=w.dtype, device=device_of(w)) * one for k in w.shape[-2:])
        return self.State(zeros_like(w), left, right, 0)

    def means(self, w: Array, grad: Array) -> tuple[Array, Array]:
        """Return the output gradient and the input, or their stand-ins."""
        if self.statistics is not None:
            return self.statistics(w)
        u, s, vh = thin_svd(grad)
        root = array_namespace(s).sqrt(s[..., :1])[..., None]
        return root * u[..., :, :1], root * vh[..., :1, :].mT

    def update(self, w, grad, state):
        left, right = state.left, state.right
        if state.steps % self.period == 0:
            g, a = self.means(w, grad)
            left, right = rank_one_inverse(left, g, self.keep), rank_one_inverse(right, a, self.keep)
        d = left @ grad @ right
        d = d * ratio(frobenius(grad, keepdims=True), frobenius(d, keepdims=True))
        m = heavy_ball(state.momentum, d, self.momentum)
        return decay(w, self.lr, self.weight_decay) - self.lr * m, self.State(m, left, right, state.steps + 1)
