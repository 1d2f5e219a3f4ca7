"""Shampoo and its square: Kronecker preconditioners from accumulated Gram matrices."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from .. import norms
from ..arrays import Array, Scalar, array_namespace, device_of
from .contract import Card, Method, decay, zeros_like
from .spd import inverse_root, trace


def shampoo_direction(g: Array, left: Array, right: Array, *, square: bool = False) -> Array:
    """Return L^(-1/4) G R^(-1/4), or sqrt(tr L) L^(-1/2) G R^(-1/2) for the square.

    The two read the second moment of vec(G) as L^(1/2) (x) R^(1/2) and as L (x) R / tr L. Powers are on the range.
    With L = G G^T and R = G^T G the first is the polar factor of G.
    """
    if not square:
        return inverse_root(left, 0.25) @ g @ inverse_root(right, 0.25)
    return array_namespace(g).sqrt(trace(left)) * (inverse_root(left, 0.5) @ g @ inverse_root(right, 0.5))


@dataclass(frozen=True)
class Shampoo(Method):
    """Precondition from both sides by fourth roots of accumulated Gram matrices.

        L <- L + G G^T,   R <- R + G^T G   (both start at eps I)
        W <- (1 - lr weight_decay) W - lr L^(-1/4) G R^(-1/4)

    Parameters
    ----------
    square : bool
        Take sqrt(tr L) L^(-1/2) G R^(-1/2) instead: the second moment of vec(G) is read as L (x) R / tr L, the square
        of Shampoo's L^(1/2) (x) R^(1/2) up to scale.

    Notes
    -----
    The first step for eps = 0 is the polar factor (theorem `shampoo-polar`). L (x) R is one power step from the
    identity towards the best Kronecker approximation of the second moment (theorem `shampoo-square-power-step`),
    which is closer to it than L^(1/2) (x) R^(1/2) (claim `shampoo-square-closer`).
    Eigenvalues at rounding level count as zero. Cost: two eigenvalue decompositions and 4 products.
    """

    card = Card(
        "Shampoo",
        "gupta2018shampoo",
        "1802.09568",
        "spectral norm without accumulation; adaptive Kronecker",
        "published",
        "The square follows [morwani2024new]; some ports use the power 1/2 without the trace. Decay is ours.",
    )
    norm = norms.Spectral()

    lr: Scalar = 0.1
    eps: Scalar = 1e-4
    weight_decay: Scalar = 0.0
    square: bool = False

    class State(NamedTuple):
        """Sums of G G^T (..., m, m) and G^T G (..., n, n), without eps I."""

        left: Array
        right: Array

    def init(self, w):
        return self.State(zeros_like(w @ w.mT), zeros_like(w.mT @ w))

    def update(self, w, grad, state):
        left, right = state.left + grad @ grad.mT, state.right + grad.mT @ grad
        xp, where = array_namespace(w), device_of(w)
        damped = [a + self.eps * xp.eye(a.shape[-1], dtype=w.dtype, device=where) for a in (left, right)]
        direction = shampoo_direction(grad, *damped, square=self.square)
        return decay(w, self.lr, self.weight_decay) - self.lr * direction, self.State(left, right)
