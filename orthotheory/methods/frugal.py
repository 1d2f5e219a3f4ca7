"""FRUGAL: Adam in a subspace, sign descent on the rest of the gradient."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np

from .. import norms
from ..arrays import Array, Scalar, array_namespace, backend_of, check_number, dtype_name, generator, standard_normal
from ..names import closest
from ..polar.qr import householder_qr
from .contract import Card, Method, decay, zeros_like
from .galore import leading_basis, lift_back, project
from .moments import Moments


@dataclass(frozen=True)
class FRUGAL(Method):
    """Give the gradient's part in a subspace to Adam, the rest to sign descent.

        every T steps:  P = a new basis on the shorter side, moments reset to 0
        W <- (1 - lr weight_decay) W,   A = G P (or P^T G),   E = G - A P^T (or G - P A)
        W <- W - lr [Adam's direction for A] P^T - lr residual_scale sign(E)

    Parameters
    ----------
    density : float
        Rank of P as a share of the shorter side, rounded; 0 is sign descent, 1 with columns is Adam.
    projection : "columns", "svd" or "random"
        Random coordinates, leading singular vectors of G, or a random orthonormal basis.
    residual : "sign" or "gradient"
        What the rest gets.
    period, seed : int
        T; of the random choices, the same for all members of a batch.

    Notes
    -----
    Density 0 is sign descent and density 1 Adam exactly (theorem `frugal-ends`); the state holds density times Adam's
    two moments, and the basis (theorem `frugal-state`). Moves in all directions where a low-rank method stalls (claim
    `frugal-does-not-stall`). Entries of E at rounding level, 8 max(m, n) eps times the largest of G, count as zero:
    their signs would be arbitrary. Cost: 2 products with P.
    """

    card = Card(
        "FRUGAL",
        "zmushko2024frugal",
        "2411.07837",
        "adaptive diagonal in a subspace, sign descent outside",
        "exact",
        "As in the authors' templates with reset moments (the paper also re-projects them); blocks of layers are left "
        "out, and rounding the rank, the random draws and the zeroing of rounding errors are ours.",
    )
    norm = norms.MaxEntry()

    lr: Scalar = 1e-3
    beta1: Scalar = 0.9
    beta2: Scalar = 0.999
    eps: Scalar = 1e-8
    weight_decay: Scalar = 0.0
    density: float = 0.25
    projection: Literal["columns", "svd", "random"] = "columns"
    residual: Literal["sign", "gradient"] = "sign"
    residual_scale: float = 1.0
    period: int = 200
    seed: int = 0

    class State(NamedTuple):
        """Moments in the subspace, the basis, steps taken."""

        moments: Moments
        basis: Array
        steps: int

    def __post_init__(self):
        super().__post_init__()
        check_number(self.density, "FRUGAL.density", high=1.0)
        check_number(self.period, "FRUGAL.period", low=1)
        check_number(self.residual_scale, "FRUGAL.residual_scale", open_high=True)
        closest(self.projection, {"columns": 0, "svd": 0, "random": 0}, "FRUGAL projection")
        closest(self.residual, {"sign": 0, "gradient": 0}, "FRUGAL residual")

    def init(self, w):
        tall = w.shape[-2] >= w.shape[-1]
        rank = math.floor(self.density * min(w.shape[-2:]) + 0.5)
        low = zeros_like(w[..., :, :rank] if tall else w[..., :rank, :])
        return self.State(Moments.zeros(low), zeros_like((w.mT if tall else w)[..., :, :rank]), 0)

    def new_basis(self, grad: Array, like: Array, draw: int) -> Array:
        """Return the basis of the given draw, of the shape of `like`."""
        side, rank = like.shape[-2:]
        if self.projection == "svd":
            return leading_basis(grad, rank)
        if self.projection == "random":
            return householder_qr(standard_normal((side, side), self.seed + draw, like=grad))[:, :rank] + zeros_like(
                like
            )
        chosen = np.eye(side)[:, generator(self.seed + draw).permutation(side)[:rank]]
        return backend_of(grad).asarray(chosen, dtype=dtype_name(grad)) + zeros_like(like)

    def update(self, w, grad, state):
        xp = array_namespace(w)
        since, basis, moments = state.steps % self.period, state.basis, state.moments
        if since == 0:
            basis = self.new_basis(grad, basis, state.steps // self.period)
            moments = Moments.zeros(moments.first)
        low = project(grad, basis)
        rest = grad - lift_back(low, basis, grad)
        largest = xp.max(xp.abs(grad), axis=(-2, -1), keepdims=True)
        floor = 8 * max(w.shape[-2:]) * float(xp.finfo(w.dtype).eps) * largest
        rest = xp.where(xp.abs(rest) <= floor, zeros_like(rest), rest)
        moments = moments.after(low, self.beta1, self.beta2)
        direction = lift_back(moments.corrected(since + 1, self.beta1, self.beta2, self.eps), basis, w)
        direction = direction + self.residual_scale * (xp.sign(rest) if self.residual == "sign" else rest)
        return decay(w, self.lr, self.weight_decay) - self.lr * direction, self.State(moments, basis, state.steps + 1)
