"""Dion and Orth-Dion: a low-rank direction from one warm-started power step, with error feedback."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

from .. import norms
from ..arrays import Array, Scalar, array_namespace, check_number, standard_normal
from ..polar.qr import householder_qr
from ..polar.subspace import power_step
from .contract import Card, Method, decay, zeros_like


@dataclass(frozen=True)
class Dion(Method):
    """Step along a rank-r stand-in of the polar factor, and keep what it has not seen.

        B  = M + G,   P = qr(B Q),   R = B^T P
        M <- B - (1 - momentum) P R^T
        Q <- R with columns divided by their length + eps
        W <- (1 - lr weight_decay) W - lr sqrt(m/n) P Q^T

    Parameters
    ----------
    lr, momentum, weight_decay, eps : float or array (batch)
    rank : int or None
        Columns of P and Q; None takes min(m, n), the full rank.
    seed : int
        Of the first Q, Gaussian; the same for all members of a batch.

    Notes
    -----
    The columns of Q have length one but are not orthogonal, so |P Q^T|_2 lies between 1 and sqrt(r) and reaches
    sqrt(r) (claim `dion-orthonormal-update`, theorem `dion-root-rank`). At full rank B is the heavy-ball buffer
    (theorem `dion-full-rank-momentum`). A zero B keeps Q and gives no step. Cost: 2 products with r columns and a QR.
    """

    card = Card(
        "Dion",
        "ahn2025dion",
        "2504.05295",
        "spectral norm, low rank; not bounded by 1",
        "exact",
        "As in the authors' simple implementation; their reference may transpose, and use a randomized Cholesky QR.",
    )
    norm = norms.Spectral()

    lr: Scalar = 0.01
    momentum: Scalar = 0.95
    weight_decay: Scalar = 0.01
    eps: Scalar = 1e-8
    rank: int | None = None
    seed: int = 0

    class State(NamedTuple):
        """The buffer M (..., m, n) and the right basis Q (..., n, r)."""

        momentum: Array
        basis: Array

    def __post_init__(self):
        super().__post_init__()
        if self.rank is not None:
            check_number(self.rank, f"{type(self).__name__}.rank", low=1)

    def init(self, w):
        rows, columns = w.shape[-2:]
        rank = min(rows, columns, self.rank or columns)
        start = standard_normal((columns, rank), self.seed, like=w)
        return self.State(zeros_like(w), start + zeros_like(w[..., :1, :1]))

    def update(self, w, grad, state):
        b = state.momentum + grad
        p, r, normalized = power_step(b, state.basis, epsilon=self.eps)
        m = b - (1 - self.momentum) * (p @ r.mT)
        q = self.right_basis(r, normalized)
        scale = math.sqrt(w.shape[-2] / w.shape[-1])
        return decay(w, self.lr, self.weight_decay) - self.lr * scale * (p @ q.mT), self.State(m, q)

    def right_basis(self, r: Array, normalized: Array) -> Array:
        """Return Q from R: its columns at length one."""
        return normalized


@dataclass(frozen=True)
class OrthDion(Dion):
    """Dion with an orthonormal right factor: Q <- qr(R) in place of columns of length one.

    |P Q^T|_2 = 1 then holds at every step (claim `orth-dion-orthonormal-update`). A zero buffer keeps Q.
    """

    card = Card(
        "Orth-Dion",
        "nakamori2026orthdion",
        "2605.16341",
        "spectral norm, low rank",
        "published",
        "Read in a transcription; the shape factor and the decay are Dion's. QR with a positive diagonal.",
    )

    def right_basis(self, r, normalized):
        xp = array_namespace(r)
        seen = xp.any(r != 0, axis=(-2, -1), keepdims=True)
        return xp.where(seen, householder_qr(r), normalized)
