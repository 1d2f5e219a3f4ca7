"""AdaPreLoRA: the step of two low-rank factors that comes closest to Adafactor's step of their product."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from ..arrays import Array, Scalar, array_namespace, check_number, standard_normal
from ..polar import thin_svd
from .contract import Card, Method, ema, ratio, zeros_like
from .galore import subspace_rank


def pseudo_inverse(a: Array) -> Array:
    """Return the pseudo-inverse of (..., p, q); singular values up to max(p, q) eps times the largest count as zero."""
    xp = array_namespace(a)
    u, s, vh = thin_svd(a)
    kept = s > max(a.shape[-2:]) * float(xp.finfo(a.dtype).eps) * s[..., :1]
    inverse = xp.where(kept, 1 / xp.where(kept, s, xp.ones_like(s)), xp.zeros_like(s))
    return (vh.mT * inverse[..., None, :]) @ u.mT


def factor_steps(b: Array, a: Array, target: Array, p: Array, q: Array) -> tuple[Array, Array]:
    """Return dB (..., m, r) and dA (..., r, n) with dB A + B dA the nearest to `target` in the weights p_i q_j.

    p (..., m, 1) and q (..., 1, n) are positive. Of all pairs with the same sum this is the balanced one: each takes
    half of the part that both could make. Rank-deficient factors move on their range.
    """
    b_inverse = pseudo_inverse(array_namespace(p).sqrt(p) * b) * array_namespace(p).sqrt(p).mT  # (B^T P B)^-1 B^T P
    a_inverse = array_namespace(q).sqrt(q).mT * pseudo_inverse(a * array_namespace(q).sqrt(q))  # Q A^T (A Q A^T)^-1
    left, right = target @ a_inverse, b_inverse @ target
    return left - b @ (b_inverse @ left) / 2, right - (right @ a_inverse) @ a / 2


@dataclass(frozen=True)
class AdaPreLoRA(Method):
    """Train W = W_0 + B A by the factor steps nearest to Adafactor's direction.

        R, C <- beta2 (R, C) + (1 - beta2) (row, column means of G * G),   p_i q_j = sqrt(R_i C_j / mean R) + eps
        D = G / (p q^T),   dB, dA minimize |dB A + B dA - D| in the weights p_i q_j, balanced
        B <- B - lr dB,   A <- A - lr dA,   W = W_0 + B A

    Parameters
    ----------
    rank : int or None
        Of the factors; None takes a quarter of the shorter side, at least 1.
    seed : int
        Of the first A, Gaussian over sqrt(n); B starts at 0, so that W starts at W_0.

    Notes
    -----
    The step is the weighted projection of D on the tangent space of rank-r matrices, whatever factors represent the
    product, and the balanced one of all factor steps (theorems `adaprelora-projection`, `adaprelora-gauge`). It takes
    the gradient with respect to W. Cost: SVDs of the factors and 6 products with them.
    """

    card = Card(
        "AdaPreLoRA",
        "bian2026adaprelora",
        "2605.08734",
        "Adafactor's metric on the tangent space of low-rank matrices",
        "reconstructed",
        "Read in the abstract; the closed form, the metric's power (the root of Adafactor's moment), the start and "
        "the place of eps are ours.",
    )

    lr: Scalar = 0.01
    beta2: Scalar = 0.999
    eps: Scalar = 1e-8
    rank: int | None = None
    seed: int = 0

    class State(NamedTuple):
        """Factors B (..., m, r) and A (..., r, n), means of squares (..., m, 1) and (..., 1, n), steps taken."""

        left: Array
        right: Array
        rows: Array
        columns: Array
        steps: int

    def __post_init__(self):
        super().__post_init__()
        check_number(self.rank or 1, "AdaPreLoRA.rank", low=1)

    def init(self, w):
        r, n = subspace_rank(self.rank, w), w.shape[-1]
        a = standard_normal((r, n), self.seed, like=w) / n**0.5 + zeros_like(w[..., :1, :])
        return self.State(zeros_like(w[..., :, :r]), a, zeros_like(w[..., :, :1]), zeros_like(w[..., :1, :]), 0)

    def update(self, w, grad, state):
        xp = array_namespace(w)
        t = state.steps + 1
        square = grad * grad
        rows = ema(state.rows, xp.mean(square, axis=-1, keepdims=True), self.beta2)
        columns = ema(state.columns, xp.mean(square, axis=-2, keepdims=True), self.beta2)
        corrected = 1 - self.beta2**t
        p, q = xp.sqrt(rows / corrected) + self.eps, xp.sqrt(columns / corrected) + self.eps
        p = ratio(p, xp.sqrt(xp.mean(p * p, axis=-2, keepdims=True)))
        target = ratio(grad, p * q)
        d_left, d_right = factor_steps(state.left, state.right, target, p, q)
        b, a = state.left - self.lr * d_left, state.right - self.lr * d_right
        return w + (b @ a - state.left @ state.right), self.State(b, a, rows, columns, t)
