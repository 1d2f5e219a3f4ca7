"""GaLore: Adam on the gradient's coordinates in its leading singular vectors."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from .. import norms
from ..arrays import Array, Scalar, check_number
from ..polar import thin_svd
from .contract import Card, Method, decay, zeros_like
from .moments import Moments, bias_rate
from .soap import fixed_signs


def subspace_rank(rank: int | None, w: Array) -> int:
    """Return the rank on the shorter side of w; None takes a quarter of it, at least 1."""
    side = min(w.shape[-2:])
    return max(1, side // 4) if rank is None else min(rank, side)


def leading_basis(g: Array, rank: int) -> Array:
    """Return the leading singular vectors of g on its shorter side (right ones of a square), (..., side, rank)."""
    u, _, vh = thin_svd(g)
    return fixed_signs((vh.mT if g.shape[-2] >= g.shape[-1] else u)[..., :, :rank])


def project(g: Array, basis: Array) -> Array:
    """Return G P where m >= n, and P^T G elsewhere."""
    return g @ basis if g.shape[-2] >= g.shape[-1] else basis.mT @ g


def lift_back(low: Array, basis: Array, like: Array) -> Array:
    """Return N P^T where m >= n, and P N elsewhere: the adjoint of `project`."""
    return low @ basis.mT if like.shape[-2] >= like.shape[-1] else basis @ low


def start_in_subspace(w: Array, rank: int | None) -> tuple[Moments, Array]:
    """Return zero moments in a subspace of the rank, and a zero basis."""
    r = subspace_rank(rank, w)
    tall = w.shape[-2] >= w.shape[-1]
    low, basis = (w, w.mT) if tall else (w.mT, w)
    low = zeros_like(low[..., :, :r])
    return Moments.zeros(low if tall else low.mT), zeros_like(basis[..., :, :r])


@dataclass(frozen=True)
class GaLore(Method):
    """Adam in a subspace of singular vectors that is found anew every T steps.

        at t = 1 and when T divides t:  P = leading singular vectors of G on its shorter side
        N = Adam's direction for G P (or P^T G),   W <- W - lr scale N P^T (or P N)
        W <- (1 - lr weight_decay) W

    Parameters
    ----------
    rank : int or None
        Of P; None takes a quarter of the shorter side, at least 1.
    period, scale : int, float
        T and the paper's alpha.

    Notes
    -----
    Nothing moves outside the span of P: with a fixed P of too low a rank descent stalls (claim
    `galore-fixed-subspace`). The moments are not turned when P changes, so the result depends on the signs of singular
    vectors; ours make the largest entry of each positive. Cost: 2 products with P, an SVD every T steps.
    """

    card = Card(
        "GaLore",
        "zhao2024galore",
        "2403.03507",
        "adaptive diagonal in a singular subspace",
        "published",
        "Read in a transcription and a port; eps is added to the uncorrected root. T counts steps from 1.",
    )
    norm = norms.MaxEntry()

    lr: Scalar = 0.01
    beta1: Scalar = 0.9
    beta2: Scalar = 0.999
    eps: Scalar = 1e-6
    weight_decay: Scalar = 0.0
    rank: int | None = None
    period: int = 200
    scale: float = 0.25

    class State(NamedTuple):
        """Moments in the subspace, the basis (..., shorter side, rank), steps taken."""

        moments: Moments
        basis: Array
        steps: int

    def __post_init__(self):
        super().__post_init__()
        check_number(self.rank or 1, "GaLore.rank", low=1)
        check_number(self.period, "GaLore.period", low=1)
        check_number(self.scale, "GaLore.scale", open_low=True, open_high=True)

    def init(self, w):
        return self.State(*start_in_subspace(w, self.rank), 0)

    def update(self, w, grad, state):
        t, basis = state.steps + 1, state.basis
        if t == 1 or t % self.period == 0:
            basis = leading_basis(grad, basis.shape[-1])
        moments = state.moments.after(project(grad, basis), self.beta1, self.beta2)
        step = self.lr * self.scale * bias_rate(t, self.beta1, self.beta2)
        w = w - step * lift_back(moments.quotient(self.eps), basis, w)
        return decay(w, self.lr, self.weight_decay), self.State(moments, basis, t)
