"""Muon: momentum, then the polar factor; four front ends that ship under the name."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple

from .. import norms
from ..arrays import Array, Scalar
from ..names import closest
from ..polar import MUON_JORDAN, MUON_TORCH, POLAR_EXPRESS_DION, AnyPlan, check_plan, polar_factor
from .contract import Card, Method, decay, ema, heavy_ball, zeros_like

# Shape factors s(m, n) on the orthogonalized direction; m rows are outputs, n columns inputs.
SHAPE_FACTORS: dict[str, Callable[[int, int], float]] = {
    "none": lambda m, n: 1.0,
    "max-aspect": lambda m, n: math.sqrt(max(1.0, m / n)),
    "aspect": lambda m, n: math.sqrt(m / n),
    "match-rms": lambda m, n: 0.2 * math.sqrt(max(m, n)),
}


# The repository of Dion calls its Polar Express with epsilon 1e-8 added to the norm.
POLAR_EXPRESS_AS_CALLED = replace(
    POLAR_EXPRESS_DION, normalization=replace(POLAR_EXPRESS_DION.normalization, epsilon=1e-8)
)


class FrontEnd(NamedTuple):
    """How one implementation accumulates, looks ahead, orthogonalizes and scales."""

    accumulate: Callable[[Array, Array, Scalar], Array]
    look_ahead: Callable[[Array, Array, Scalar], Array]
    plan: AnyPlan
    shape_factor: str


VARIANTS = {
    "jordan": FrontEnd(ema, ema, MUON_JORDAN, "max-aspect"),
    "torch": FrontEnd(ema, ema, MUON_TORCH, "max-aspect"),
    "moonlight": FrontEnd(heavy_ball, heavy_ball, MUON_JORDAN, "match-rms"),
    "dion": FrontEnd(heavy_ball, heavy_ball, POLAR_EXPRESS_AS_CALLED, "aspect"),
}


@dataclass(frozen=True)
class Muon(Method):
    """Step along the polar factor of the Nesterov momentum.

        M <- momentum M + (1 - momentum) G          (moonlight, dion: M <- momentum M + G)
        D  = momentum M + (1 - momentum) G          (moonlight, dion: D = momentum M + G; no nesterov: D = M)
        W <- (1 - lr weight_decay) W - lr s polar(D)

    Parameters
    ----------
    lr : float or array (batch)
        Radius of the step in the spectral norm, before the shape factor s.
    momentum, weight_decay : float or array (batch)
        Averaging factor; decoupled decay (not multiplied by s).
    nesterov : bool
        Orthogonalize the look-ahead D instead of M.
    variant : "jordan", "torch", "moonlight" or "dion"
        Sets the accumulation, the plan and the shape factor unless they are given.
    plan : str, Schedule, Plan, Adaptive or None
        How the polar factor is computed; None takes the steps that the variant ships.
    shape_factor : str or None
        A key of `SHAPE_FACTORS`; None takes the variant's.

    Notes
    -----
    Steepest descent in the spectral norm with a fixed radius [jordan2024muon]. The shipped plan maps into
    [0.68, 1.21], not to 1. The names "muon-torch", "muon-moonlight" and "muon-dion" have the defaults of each: lr 1e-3
    and weight_decay 0.1 for two, 0.01 and 0.01 without nesterov for the last. Cost: 30 n^3 operations for a square.
    """

    card = Card(
        "Muon",
        "jordan2024muon",
        "",
        "fixed radius, spectral norm",
        "exact",
        "The references run Newton-Schulz in bfloat16; here it runs in the dtype of the weights. Torch's docstring "
        "says heavy ball, its code averages; both give one direction. Dion's cautious decay is left out.",
    )
    norm = norms.Spectral()

    lr: Scalar = 0.02
    momentum: Scalar = 0.95
    nesterov: bool = True
    weight_decay: Scalar = 0.0
    variant: Literal["jordan", "torch", "moonlight", "dion"] = "jordan"
    plan: AnyPlan | None = None
    shape_factor: str | None = None

    class State(NamedTuple):
        """The momentum matrix."""

        momentum: Array

    def __post_init__(self):
        super().__post_init__()
        closest(self.variant, VARIANTS, "Muon variant")
        if self.plan is not None:
            check_plan(self.plan)
        if self.shape_factor is not None:
            closest(self.shape_factor, SHAPE_FACTORS, "shape factor")

    def init(self, w):
        return self.State(zeros_like(w))

    def update(self, w, grad, state):
        front = VARIANTS[self.variant]
        m = front.accumulate(state.momentum, grad, self.momentum)
        direction = front.look_ahead(m, grad, self.momentum) if self.nesterov else m
        scale = SHAPE_FACTORS[self.shape_factor or front.shape_factor](*w.shape[-2:])
        orthogonal = polar_factor(direction, front.plan if self.plan is None else self.plan)
        return decay(w, self.lr, self.weight_decay) - self.lr * scale * orthogonal, self.State(m)
