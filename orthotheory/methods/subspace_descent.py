"""Online Subspace Descent: GaLore with a projector that is itself trained."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from ..arrays import Array, check_number, frobenius
from .contract import Card, decay, ratio
from .galore import GaLore, leading_basis, lift_back, project, start_in_subspace
from .moments import Moments, bias_rate


def projector_gradient(g: Array, basis: Array) -> Array:
    """Return the gradient with respect to P of |G P P^T - G|_F^2, G scaled to Frobenius norm 1 (tall; else G^T)."""
    x = ratio(g, frobenius(g, keepdims=True))
    x = x if g.shape[-2] >= g.shape[-1] else x.mT
    residual = x @ basis @ basis.mT - x
    return 2 * (x.mT @ (residual @ basis) + residual.mT @ (x @ basis))


@dataclass(frozen=True)
class OnlineSubspaceDescent(GaLore):
    """Adam in a subspace, then one Adam step of the subspace's basis.

        P = leading singular vectors of the first gradient
        N = Adam's direction for G P (or P^T G),   W <- W - lr scale N P^T (or P N),   W <- (1 - lr weight_decay) W
        P <- P - projector_lr Adam's direction for the gradient of |G' P P^T - G'|_F^2,   G' = G / |G|_F

    Parameters
    ----------
    projector_lr : float
        Learning rate of P; by default 1 / 200, as with the authors' gap.

    Notes
    -----
    In continuous time the momentum's Hamiltonian falls whatever the law of P (theorems `online-subspace-lyapunov` and
    `online-subspace-adam`), which alone does not make the loss fall (claim `online-subspace-any-projector`).
    With a fixed gradient the span of P turns to the leading singular vectors (claim `online-subspace-aligns`). At full
    rank an orthogonal P is stationary. Cost: 6 products with P, no SVD after the first.
    """

    card = Card(
        "Online Subspace Descent",
        "liang2024memory",
        "2408.12857",
        "adaptive diagonal in a learned subspace",
        "exact",
        "As in the authors' code, which leaves out the paper's penalty |P^T P - I|^2; no decay of P.",
    )

    projector_lr: float = 0.005

    class State(NamedTuple):
        """Moments in the subspace, the basis, the moments of the basis, steps taken."""

        moments: Moments
        basis: Array
        basis_moments: Moments
        steps: int

    def __post_init__(self):
        super().__post_init__()
        check_number(self.projector_lr, "OnlineSubspaceDescent.projector_lr", open_high=True)

    def init(self, w):
        moments, basis = start_in_subspace(w, self.rank)
        return self.State(moments, basis, Moments.zeros(basis), 0)

    def update(self, w, grad, state):
        t, basis = state.steps + 1, state.basis
        if t == 1:
            basis = leading_basis(grad, basis.shape[-1])
        moments = state.moments.after(project(grad, basis), self.beta1, self.beta2)
        step = self.lr * self.scale * bias_rate(t, self.beta1, self.beta2)
        w = w - step * lift_back(moments.quotient(self.eps), basis, w)
        learned = state.basis_moments.after(projector_gradient(grad, basis), 0.9, 0.999)
        turned = basis - self.projector_lr * learned.corrected(t, 0.9, 0.999, 1e-8)
        return decay(w, self.lr, self.weight_decay), self.State(moments, turned, learned, t)
