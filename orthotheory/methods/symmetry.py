"""Updates that turn with the symmetry group of a block: rows that may be permuted, sides that may be rotated."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

from .. import norms
from ..arrays import Array, Scalar, array_namespace, device_of
from ..names import closest
from .contract import Card, Method, decay, ema, ratio, row_norms, zeros_like
from .spd import inverse_root

MAPS = ("row-norm", "centered-row-norm", "right-spectral", "left-spectral")


def center_columns(x: Array) -> Array:
    """Return C x with C = I - 1 1^T / m: each column minus its mean."""
    return x - array_namespace(x).mean(x, axis=-2, keepdims=True)


@dataclass(frozen=True)
class SymmetryCompatible(Method):
    """Step along a map of the momentum that is equivariant under the group of the block.

        M <- momentum M + (1 - momentum) G,   W <- (1 - lr weight_decay) W - lr D
        row-norm            D_i = M_i / (|M_i| + eps)               permuted rows, rotated columns (embeddings, heads)
        centered-row-norm   D = C rownorm(C M),  C = I - 11^T/m     and a common shift of all rows (routers)
        right-spectral      D = M (S + eps I)^(-1/2),  S <- beta2 S + (1 - beta2) G^T G       both sides rotated
        left-spectral       D = (S + eps I)^(-1/2) M,  S <- beta2 S + (1 - beta2) G G^T       both sides rotated

    Parameters
    ----------
    lr, momentum, beta2, eps, weight_decay : float or array (batch)
    map : str

    Notes
    -----
    The gradients of a softmax router have columns that sum to zero; row-norm and the sign break that, centering and
    polar factors keep it (theorem `router-column-sums`). For general layers the group gives PolarGrad and Muon.
    Cost: linear for the row maps; one eigenvalue decomposition and two products for the spectral ones.
    """

    card = Card(
        "Symmetry-compatible updates",
        "lau2026symmetry",
        "2605.18106",
        "equivariant under the group of the block",
        "reconstructed",
        "The principle is the paper's; the formulas, momentum and averages are ours, made to satisfy it.",
    )
    norm = norms.RowMax()

    lr: Scalar = 0.01
    momentum: Scalar = 0.9
    beta2: Scalar = 0.95
    eps: Scalar = 1e-8
    weight_decay: Scalar = 0.0
    map: Literal["row-norm", "centered-row-norm", "right-spectral", "left-spectral"] = "row-norm"

    class State(NamedTuple):
        """Average gradient, average Gram matrix (1 x 1 for the row maps), steps taken."""

        momentum: Array
        gram: Array
        steps: int

    def __post_init__(self):
        super().__post_init__()
        closest(self.map, dict.fromkeys(MAPS), "symmetry-compatible map")

    def init(self, w):
        side = {"right-spectral": w.shape[-1], "left-spectral": w.shape[-2]}.get(self.map, 1)
        xp = array_namespace(w)
        gram = xp.zeros((*w.shape[:-2], side, side), dtype=w.dtype, device=device_of(w))
        return self.State(zeros_like(w), gram, 0)

    def update(self, w, grad, state):
        m = ema(state.momentum, grad, self.momentum)
        gram = state.gram
        if self.map == "row-norm":
            d = ratio(m, row_norms(m) + self.eps)
        elif self.map == "centered-row-norm":
            centered = center_columns(m)
            d = center_columns(ratio(centered, row_norms(centered) + self.eps))
        else:
            right = self.map == "right-spectral"
            gram = ema(gram, grad.mT @ grad if right else grad @ grad.mT, self.beta2)
            corrected = gram / (1 - self.beta2 ** (state.steps + 1))
            eye = array_namespace(w).eye(gram.shape[-1], dtype=w.dtype, device=device_of(w))
            root = inverse_root(corrected + self.eps * eye)
            d = m @ root if right else root @ m
        return decay(w, self.lr, self.weight_decay) - self.lr * d, self.State(m, gram, state.steps + 1)
