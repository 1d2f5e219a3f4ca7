"""PolarGrad: the polar factor scaled by the nuclear norm."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

from .. import norms
from ..arrays import Array, Scalar, array_namespace, check_number, inner, magnitude
from ..names import closest
from ..polar import AnyPlan, check_plan, polar_factor
from ..polar.qdwh import qdwh_steps
from ..polar.zolotarev import newton_schulz_polish
from .contract import Card, Method, decay, ema, ratio, zeros_like

SHIPPED_LOW = 2.0**-52  # where the authors' QDWH starts its lower bound
MOST_STEPS = len(qdwh_steps(SHIPPED_LOW))


@dataclass(frozen=True)
class ShippedQDWH:
    """QDWH as the authors ship it: a fixed number of steps from the bound 2^-52, then one Newton-Schulz step.

        X = G / sqrt(|G|_1 |G|_inf)
        X <- X (a I + b X^T X) (I + c X^T X)^-1  `steps` times,   then X <- (3 X - X X^T X) / 2

    Two steps, their default, leave singular values between about 0.1 and 1.0; six are the polar factor to rounding.
    As a plan: `PolarGrad(plan=ShippedQDWH())`, or `methods.make("polargrad-shipped")`.
    """

    steps: int = 2

    def __post_init__(self):
        check_number(self.steps, "ShippedQDWH.steps", low=1, high=MOST_STEPS)

    def apply(self, g: Array) -> Array:
        """Orthogonalize each matrix; zero stays zero, a non-finite one gives NaN."""
        xp = array_namespace(g)
        size = magnitude(g)
        x = size.normalize(g)
        bound = [xp.max(xp.sum(xp.abs(x), axis=axis, keepdims=True), axis=(-2, -1), keepdims=True) for axis in (-2, -1)]
        x = ratio(x, xp.sqrt(bound[0] * bound[1]))
        wide = x.shape[-2] < x.shape[-1]
        x = x.mT if wide else x
        for step in qdwh_steps(SHIPPED_LOW)[: self.steps]:
            x = step.apply(x)
        x = newton_schulz_polish(x)
        return (x.mT if wide else x) + size.nan()


@dataclass(frozen=True)
class PolarGrad(Method):
    """Steepest descent in the spectral norm, scaled by the nuclear norm.

        momentum-first:  M <- momentum M + (1 - momentum) G,   U = polar(M),   nu = <M, U>
                         W <- (1 - lr weight_decay) W - lr nu U
        polar-first:     U = polar(G),   nu = <G, U>,   M <- momentum M + (1 - momentum) U
                         W <- (1 - lr weight_decay) W - lr nu M

    Parameters
    ----------
    lr : float or array (batch)
        Inverse smoothness: on a function L-smooth in the spectral norm lr = 1 / L descends.
    variant : "momentum-first" or "polar-first"
        What is averaged: gradients (default) or polar factors.
    plan : str, Schedule, Plan or Adaptive
        How the polar factor is computed.
    """

    card = Card(
        "PolarGrad",
        "lau2025polargrad",
        "2505.21799",
        "sharp operator, spectral norm",
        "exact",
        "The authors' code orthogonalizes by QDWH with 2 inner steps, which is far from the polar factor (singular "
        "values 0.1 to 1.0): plan=ShippedQDWH(). Here the plan is exact unless another is given.",
    )
    norm = norms.Spectral()

    lr: Scalar = 0.02
    momentum: Scalar = 0.95
    weight_decay: Scalar = 0.0
    variant: Literal["momentum-first", "polar-first"] = "momentum-first"
    plan: AnyPlan = "exact"

    class State(NamedTuple):
        """The average gradient, or the average polar factor."""

        momentum: Array

    def __post_init__(self):
        super().__post_init__()
        closest(self.variant, {"momentum-first": 0, "polar-first": 0}, "PolarGrad variant")
        check_plan(self.plan)

    def init(self, w):
        return self.State(zeros_like(w))

    def update(self, w, grad, state):
        if self.variant == "momentum-first":
            m = ema(state.momentum, grad, self.momentum)
            direction = polar_factor(m, self.plan)
            nu = inner(m, direction)
        else:
            u = polar_factor(grad, self.plan)
            nu = inner(grad, u)
            m = direction = ema(state.momentum, u, self.momentum)
        step = self.lr * nu[..., None, None] * direction
        return decay(w, self.lr, self.weight_decay) - step, self.State(m)
