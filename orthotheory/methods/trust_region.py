"""Steepest descent in any norm: a step of fixed radius, or one scaled by the dual norm of the gradient."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

from .. import norms
from ..arrays import Array, Scalar
from ..norms import Norm
from .contract import Card, Method, decay, ema, zeros_like

SPECTRAL = norms.Spectral()


class Averaged(NamedTuple):
    """The average gradient, which starts at the first gradient, and the number of steps taken."""

    momentum: Array
    steps: int


@dataclass(frozen=True)
class _Steepest(Method):
    """What both share: M_0 = G_0, M <- momentum M + (1 - momentum) G."""

    norm: Any = SPECTRAL  # type: ignore[misc]  # a Norm, or the name of one

    def __post_init__(self) -> None:
        super().__post_init__()
        if isinstance(self.norm, str):
            object.__setattr__(self, "norm", norms.make(self.norm))
        if not isinstance(self.norm, Norm):
            raise TypeError(f"norm must be a norm or the name of one ({', '.join(norms.names())}); got {self.norm!r}.")

    def init(self, w):
        return Averaged(zeros_like(w), 0)

    def _average(self, grad, state):
        m = grad if state.steps == 0 else ema(state.momentum, grad, self.momentum)  # type: ignore[attr-defined]
        return m, Averaged(m, state.steps + 1)


@dataclass(frozen=True)
class TrustRegion(_Steepest):
    """Minimize the linear model over a ball: W <- (1 - lr weight_decay) W + lr lmo(M).

    Parameters
    ----------
    norm : Norm
        The geometry: Spectral gives orthogonalized descent, MaxEntry sign descent, Frobenius the normalized
        gradient.
    lr : float or array (batch)
        Radius of the step, measured in `norm`.
    momentum : float or array (batch)
        Averaging factor of the gradients; the first average is the first gradient.

    Notes
    -----
    Deterministic bound: theorem `trust-region-nonconvex` [kovalev2025understanding]. Cost: one LMO a step.
    """

    card = Card(
        "Non-Euclidean trust region",
        "kovalev2025understanding",
        "2503.12645",
        "fixed radius, any norm",
        "published",
        "The paper's full text was not read: the rule is the one its abstract and the theory notes state.",
    )

    lr: Scalar = 0.02
    momentum: Scalar = 0.0
    weight_decay: Scalar = 0.0

    def update(self, w, grad, state):
        m, state = self._average(grad, state)
        return decay(w, self.lr, self.weight_decay) + self.lr * self.norm.lmo(m), state


@dataclass(frozen=True)
class DualScaled(_Steepest):
    """Minimize the linear model plus the squared norm over 2 lr: W <- (1 - lr weight_decay) W - lr sharp(M).

    The step has length lr |M|_dual in `norm`, so lr is an inverse smoothness constant: lr = 1 / L descends.
    In the spectral norm this is PolarGrad, in the Frobenius norm gradient descent.
    """

    card = Card(
        "Steepest descent, dual-norm scaled", "bernstein2024old", "2409.20325", "sharp operator, any norm", "published"
    )

    lr: Scalar = 0.02
    momentum: Scalar = 0.0
    weight_decay: Scalar = 0.0

    def update(self, w, grad, state):
        m, state = self._average(grad, state)
        return decay(w, self.lr, self.weight_decay) - self.lr * self.norm.sharp(m), state
