"""AdamP and SGDP: no radial component in the steps of weights whose scale does not matter."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

from .. import norms
from ..arrays import Array, Scalar, array_namespace, check_number, frobenius, inner
from .contract import Card, Method, decay, ema, heavy_ball, ratio, row_norms, zeros_like
from .moments import Moments


def without_radial_part(
    w: Array, grad: Array, step: Array, eps: Scalar, delta: float, decay_ratio: float
) -> tuple[Array, Array]:
    """Return the step without its component along w, where w looks scale invariant, and the factor of the decay.

        rows:  max_i |cos(g_i, w_i)| < delta / sqrt(n)   then  p_i <- p_i - u_i <u_i, p_i>,  u_i = w_i / (|w_i| + eps)
        else the matrix as one row:  |cos(G, W)| < delta / sqrt(mn)

    A row of zeros has cosine 0. The factor, shape (..., 1, 1), is `decay_ratio` where projected and 1 elsewhere.
    """
    xp = array_namespace(w)
    rows, columns = w.shape[-2:]
    cosine = xp.abs(ratio(xp.sum(grad * w, axis=-1, keepdims=True), row_norms(grad) * row_norms(w)))
    by_row = xp.max(cosine, axis=-2, keepdims=True) < delta / math.sqrt(columns)
    size = frobenius(w, keepdims=True)
    whole = xp.abs(ratio(inner(grad, w)[..., None, None], frobenius(grad, keepdims=True) * size))
    by_layer = ~by_row & (whole < delta / math.sqrt(rows * columns))
    unit = xp.where(by_row, ratio(w, row_norms(w) + eps), ratio(w, size + eps))
    along = xp.sum(unit * step, axis=-1, keepdims=True)
    along = xp.where(by_row, along, xp.sum(along, axis=-2, keepdims=True))
    projected = by_row | by_layer
    one = xp.ones_like(size)
    return xp.where(projected, step - unit * along, step), xp.where(projected, decay_ratio * one, one)


@dataclass(frozen=True)
class AdamP(Method):
    """Adam without the radial component of a step.

        M <- beta1 M + (1 - beta1) G,   V <- beta2 V + (1 - beta2) G * G
        P = M / (sqrt(V / (1 - beta2^t)) + eps),   P, c <- without_radial_part(W, G, P)
        W <- (1 - lr weight_decay c) W - lr / (1 - beta1^t) P

    Parameters
    ----------
    delta, decay_ratio : float
        How small the cosine of weights and gradient must be; factor c on the decay of projected weights.
    nesterov : bool
        Look ahead, beta1 M + (1 - beta1) G, in the numerator.

    Notes
    -----
    A projected step is orthogonal to W, so |W_{t+1}|^2 = |W_t|^2 + |step|^2 (theorem `adamp-norm-growth`); momentum
    alone adds a positive cross term (claim `momentum-speeds-norm-growth`). Rows are the channels.
    """

    card = Card(
        "AdamP",
        "heo2021adamp",
        "2006.08217",
        "adaptive diagonal, projected on the tangent space of a sphere",
        "exact",
        "As in the authors' code, which adds eps to |w| where its paper does not.",
    )
    norm = norms.MaxEntry()

    lr: Scalar = 1e-3
    beta1: Scalar = 0.9
    beta2: Scalar = 0.999
    eps: Scalar = 1e-8
    weight_decay: Scalar = 0.0
    nesterov: bool = False
    delta: float = 0.1
    decay_ratio: float = 0.1

    class State(NamedTuple):
        """Moments and steps taken."""

        moments: Moments
        steps: int

    def __post_init__(self):
        super().__post_init__()
        check_number(self.delta, "AdamP.delta")
        check_number(self.decay_ratio, "AdamP.decay_ratio")

    def init(self, w):
        return self.State(Moments.zeros(w), 0)

    def update(self, w, grad, state):
        t = state.steps + 1
        moments = state.moments.after(grad, self.beta1, self.beta2)
        ahead = ema(moments.first, grad, self.beta1) if self.nesterov else moments.first
        root = array_namespace(w).sqrt(moments.second / (1 - self.beta2**t))
        p, c = without_radial_part(w, grad, ratio(ahead, root + self.eps), self.eps, self.delta, self.decay_ratio)
        step = self.lr / (1 - self.beta1**t) * p
        return decay(w, self.lr, self.weight_decay * c) - step, self.State(moments, t)


@dataclass(frozen=True)
class SGDP(Method):
    """Momentum descent without the radial component of a step.

        B <- momentum B + (1 - dampening) G,   D = G + momentum B (nesterov) or B
        D, c <- without_radial_part(W, G, D)
        W <- (1 - lr weight_decay c / (1 - momentum)) W - lr D

    Notes
    -----
    Without nesterov the authors' code projects in place, so the stored B is projected too; as here.
    """

    card = Card(
        "SGDP",
        "heo2021adamp",
        "2006.08217",
        "Frobenius norm, projected on the tangent space of a sphere",
        "exact",
        "As in the authors' code; lr, momentum and nesterov are those of its README (the class has none, 0 and off).",
    )

    lr: Scalar = 0.1
    momentum: Scalar = 0.9
    weight_decay: Scalar = 0.0
    eps: Scalar = 1e-8
    dampening: float = 0.0
    nesterov: bool = True
    delta: float = 0.1
    decay_ratio: float = 0.1

    class State(NamedTuple):
        """The momentum buffer."""

        momentum: Array

    def __post_init__(self):
        super().__post_init__()
        check_number(self.dampening, "SGDP.dampening", high=1.0)
        check_number(self.delta, "SGDP.delta")
        check_number(self.decay_ratio, "SGDP.decay_ratio")

    def init(self, w):
        return self.State(zeros_like(w))

    def update(self, w, grad, state):
        b = heavy_ball(state.momentum, (1 - self.dampening) * grad, self.momentum)
        d = heavy_ball(b, grad, self.momentum) if self.nesterov else b
        d, c = without_radial_part(w, grad, d, self.eps, self.delta, self.decay_ratio)
        shrunk = decay(w, self.lr, self.weight_decay * c / (1 - self.momentum))
        return shrunk - self.lr * d, self.State(b if self.nesterov else d)
