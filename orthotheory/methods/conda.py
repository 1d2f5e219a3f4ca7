"""Conda: Adam's second moment in the singular basis of the momentum, on one side."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from .. import norms
from ..arrays import Array, Scalar, array_namespace, check_number
from ..polar import thin_svd
from .contract import Card, Method, decay, ema, ratio, zeros_like


@dataclass(frozen=True)
class Conda(Method):
    """Turn momentum and gradient into the momentum's singular basis, divide as Adam does, turn back.

        M <- beta1 M + (1 - beta1) G
        every T steps:  B = U (m < n) or V (m >= n) of the SVD of M
        G' = B^T G or G B,  M' = B^T M or M B,   V <- beta2 V + (1 - beta2) G' * G'
        W <- W - lr scale sqrt(1 - beta2^t) / (1 - beta1^t) B (M' / (sqrt(V) + eps))   (or (...) B^T)
        W <- (1 - lr weight_decay) W

    Parameters
    ----------
    lr, beta1, beta2, eps, weight_decay : float or array (batch)
    period : int
        T, steps between two bases; V is not turned when the basis changes.
    scale : float
        Further factor on the step. The class default is 1; the authors train with 0.25, T = 2000, betas (0.9, 0.99).

    Notes
    -----
    Adam in a turned frame: with a constant gradient and T = 1 the step tends to U sign(V^T), of root mean square 1 and
    not orthogonal (theorem `conda-steady-step`). Turning the rows of a wide problem turns the steps along; the other
    side does not. The sign of singular vectors cancels. Cost: two products, and an SVD every T steps.
    """

    card = Card(
        "Conda",
        "wang2025conda",
        "2509.24218",
        "adaptive diagonal in the momentum's left or right singular basis",
        "exact",
        "Mode std of the code. The paper's formula (in a transcription) turns from the left only and has no scale.",
    )
    norm = norms.MaxEntry()

    lr: Scalar = 1e-3
    beta1: Scalar = 0.9
    beta2: Scalar = 0.999
    eps: Scalar = 1e-8
    weight_decay: Scalar = 0.0
    period: int = 2000
    scale: float = 1.0

    class State(NamedTuple):
        """Average gradient, second moments in the basis, the basis (square, the shorter side), steps taken."""

        first: Array
        second: Array
        basis: Array
        steps: int

    def __post_init__(self):
        super().__post_init__()
        check_number(self.period, "Conda.period", low=1)
        check_number(self.scale, "Conda.scale", open_low=True, open_high=True)

    def init(self, w):
        side = min(w.shape[-2:])
        return self.State(zeros_like(w), zeros_like(w), zeros_like(w[..., :side, :side]), 0)

    def update(self, w, grad, state):
        xp = array_namespace(w)
        right = w.shape[-2] >= w.shape[-1]
        t = state.steps + 1
        m = ema(state.first, grad, self.beta1)
        basis = state.basis
        if state.steps % self.period == 0:
            u, _, vh = thin_svd(m)
            basis = vh.mT if right else u
        turn = (lambda x: x @ basis) if right else (lambda x: basis.mT @ x)
        second = ema(state.second, turn(grad) ** 2, self.beta2)
        d = ratio(turn(m), xp.sqrt(second) + self.eps)
        d = d @ basis.mT if right else basis @ d
        rate = self.lr * (1 - self.beta2**t) ** 0.5 / (1 - self.beta1**t) * self.scale
        return decay(w - rate * d, self.lr, self.weight_decay), self.State(m, second, basis, t)
