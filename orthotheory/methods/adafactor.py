"""Adafactor: the second moment from its row and column sums, steps relative to the weights."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

from .. import norms
from ..arrays import Array, Scalar, array_namespace, check_number, frobenius
from .contract import Card, Method, decay, ema, ratio, zeros_like


def rank_one(rows: Array, columns: Array) -> Array:
    """Return R C / sum(R), the nonnegative rank-one matrix with row sums R (..., m, 1) and column sums C (..., 1, n).

    It minimizes the I-divergence sum V log(V / S) - V + S over rank-one S > 0, and is V where V has rank one.
    """
    return ratio(rows, array_namespace(rows).sum(rows, axis=-2, keepdims=True)) * columns


def root_mean_square(x: Array) -> Array:
    """Return the root mean square of the entries, shape (..., 1, 1)."""
    return frobenius(x, keepdims=True) / math.sqrt(x.shape[-2] * x.shape[-1])


@dataclass(frozen=True)
class Adafactor(Method):
    """Divide by the root of a rank-one second moment, clip, and step relative to the weights.

        b = min(beta2, 1 - t^(-4/5)),   R, C <- b (R, C) + (1 - b) (row sums, column sums) of G * G + eps
        U = G / sqrt(R C / sum R),   U <- U / max(1, rms(U) / clip)
        a = max(floor, rms(W)) min(lr, 1 / sqrt(t)),   M <- beta1 M + (1 - beta1) a U
        W <- (1 - a weight_decay) W - M

    Parameters
    ----------
    lr : float or array (batch)
        Cap of the relative step size; the paper's is 0.01.
    beta1, beta2 : float or array (batch)
        Momentum, off by default; cap of the second-moment factor, which the paper does not have.
    floor, clip : float
        Smallest rms(W) that counts; the largest rms of U.

    Notes
    -----
    The factored moment is exact where the second moment has rank one (theorem `adafactor-rank-one`) and the
    I-divergence minimizer elsewhere, not the Frobenius one (claim `adafactor-best-rank-one`). Memory m + n.
    """

    card = Card(
        "Adafactor",
        "shazeer2018adafactor",
        "1804.04235",
        "adaptive, rank-one diagonal",
        "published",
        "The cap beta2, the average of scaled updates and the decay by the adaptive rate are those of common ports.",
    )
    norm = norms.MaxEntry()

    lr: Scalar = 0.01
    beta1: Scalar = 0.0
    beta2: Scalar = 0.999
    eps: Scalar = 1e-30
    weight_decay: Scalar = 0.0
    floor: float = 1e-3
    clip: float = 1.0

    class State(NamedTuple):
        """Averaged update, row sums (..., m, 1), column sums (..., 1, n), steps taken."""

        momentum: Array
        rows: Array
        columns: Array
        steps: int

    def __post_init__(self):
        super().__post_init__()
        check_number(self.floor, "Adafactor.floor", open_high=True)
        check_number(self.clip, "Adafactor.clip", open_low=True)

    def init(self, w):
        return self.State(zeros_like(w), zeros_like(w[..., :, :1]), zeros_like(w[..., :1, :]), 0)

    def update(self, w, grad, state):
        xp = array_namespace(w)
        t = state.steps + 1
        b = xp.clip(self.beta2 + zeros_like(w[..., :1, :1]), max=1 - t**-0.8)
        square = grad * grad + self.eps
        rows = ema(state.rows, xp.sum(square, axis=-1, keepdims=True), b)
        columns = ema(state.columns, xp.sum(square, axis=-2, keepdims=True), b)
        u = ratio(grad, xp.sqrt(rank_one(rows, columns)))
        u = u / xp.clip(root_mean_square(u) / self.clip, min=1.0)
        cap = xp.clip(self.lr + zeros_like(b), max=t**-0.5)
        a = xp.clip(root_mean_square(w), min=self.floor) * cap
        m = ema(state.momentum, a * u, self.beta1)
        return decay(w, a, self.weight_decay) - m, self.State(m, rows, columns, t)
