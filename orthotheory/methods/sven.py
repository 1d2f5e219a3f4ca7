"""Sven: a truncated pseudo-inverse of the Jacobian of per-sample residuals."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from ..arrays import Array, Scalar, array_namespace, check_number
from ..polar import thin_svd
from .contract import Card, Method, decay

Residuals = Callable[[Array], tuple[Array, Array]]  # w -> (residuals (..., B), Jacobian (..., B, m n)), rows of vec W


def sven_direction(residuals: Array, jacobian: Array, rank: int | None = None, rtol: float = 1e-3) -> Array:
    """Return V S^-1 U^T r over the singular values of the Jacobian that are at least rtol times the largest.

    Shapes: residuals (..., B), Jacobian (..., B, p); result (..., p). `rank` keeps only so many. 0 for a zero Jacobian.
    Cost: one thin SVD.
    """
    xp = array_namespace(residuals, jacobian)
    u, s, vh = thin_svd(jacobian)
    kept = (s >= rtol * s[..., :1]) & (s > 0)
    if rank is not None:
        kept = kept & (xp.arange(s.shape[-1], device=s.device) < rank)
    inverse = xp.where(kept, 1 / xp.where(kept, s, xp.ones_like(s)), xp.zeros_like(s))
    return (vh.mT @ (inverse[..., None] * (u.mT @ residuals[..., None])))[..., 0]


@dataclass(frozen=True)
class Sven(Method):
    """Move by the least step that annuls all linearized residuals at once.

        r, J = residuals(W)   (J: derivative of r by vec W, row after row),   J = U S V^T
        W <- (1 - lr weight_decay) W - lr V S^-1 U^T r   (singular values below rtol s_1 and past `rank` dropped)

    Parameters
    ----------
    residuals : function w -> (r (..., B), J (..., B, m n))
        What the method needs in place of a gradient, a pure function. The authors take r = loss^(kappa / 2) of each
        sample with kappa = 2, so r is the loss itself; signed residuals y - f are possible too.

    Raises
    ------
    ValueError
        In `step`, without a residual function: a gradient alone does not determine the step.

    Notes
    -----
    With B <= mn, full row rank, signed linear residuals and lr = 1 it solves in one step, else r contracts by 1 - lr
    (theorem `sven-linear`). With r = (y - f)^2, a double root, y - f contracts by 1 - lr / 2 at best (theorem
    `sven-double-root`). The gradient that `step` gets is not used. Cost: a thin SVD of B x mn.
    """

    card = Card(
        "Sven",
        "brightthonney2026sven",
        "2604.01279",
        "Gauss-Newton by pseudo-inverse; Euclidean length of the step",
        "exact",
        "As in the authors' plain optimizer with a full SVD; decay is its decoupled kind.",
    )

    lr: Scalar = 0.1
    weight_decay: Scalar = 0.0
    residuals: Residuals | None = None
    rank: int | None = None
    rtol: float = 1e-3

    def __post_init__(self):
        super().__post_init__()
        check_number(self.rank or 1, "Sven.rank", low=1)
        check_number(self.rtol, "Sven.rtol", high=1.0)

    def init(self, w):
        return ()

    def update(self, w, grad, state):
        if self.residuals is None:
            raise ValueError(
                "Sven needs per-sample residuals and their Jacobian, a gradient is not enough; "
                "pass residuals=function of w that returns arrays (..., B) and (..., B, m n)."
            )
        direction = sven_direction(*self.residuals(w), self.rank, self.rtol)
        step = array_namespace(w).reshape(direction, w.shape)
        return decay(w, self.lr, self.weight_decay) - self.lr * step, state
