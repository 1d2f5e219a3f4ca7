"""NAMO and NAMO-D: the polar factor, scaled as Adam would scale the norm of the gradient or of its columns."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, NamedTuple

from .. import norms
from ..arrays import Array, Scalar, array_namespace, check_number, frobenius
from ..names import closest
from ..polar import MUON_JORDAN, AnyPlan, check_plan, polar_factor
from .contract import Card, Method, column_norms, decay, ema, ratio, zeros_like

CORRECTION_EPS = 1e-12  # added to 1 - momentum^t, as in the authors' code


class State(NamedTuple):
    """The momentum matrix, the mean square of gradient norms, and the number of steps taken."""

    momentum: Array
    second: Array
    steps: int


def bias_correction(momentum: Scalar, beta2: Scalar, t: int) -> Scalar:
    """Return sqrt(1 - beta2^t) / (1 - momentum^t + 1e-12)."""
    return (1 - beta2**t) ** 0.5 / (1 - momentum**t + CORRECTION_EPS)


@dataclass(frozen=True)
class NAMO(Method):
    """Scale the polar factor of the momentum by the ratio of its norm to the root mean square of gradient norms.

        M <- momentum M + (1 - momentum) G,   v <- beta2 v + (1 - beta2) |G|_F^2
        N  = momentum M + (1 - momentum) G      (paper: N = M)
        a  = sqrt(1 - beta2^t) / (1 - momentum^t) |N|_F / (sqrt(v) + eps)
        paper:  W <- W - lr a (polar(N) + weight_decay W)
        code:   W <- (1 - weight_decay min(lr a, 1)) W - min(0.2 sqrt(max(m, n)) lr a, 1) polar(N)

    Parameters
    ----------
    lr, momentum, beta2, weight_decay, eps : float or array (batch)
    variant : "code" or "paper"
    nesterov : bool or None
        None takes the look-ahead N in the code's form and M in the paper's.
    plan : str, Schedule, Plan, Adaptive or None
        None takes Muon's five steps (code) or the exact polar factor (paper).

    Notes
    -----
    With the look-ahead the bias correction does not fit: the first a is 1 + momentum (theorem `namo-first-scale`).
    Without eps no step depends on the scale of the gradients; a is at most 1.82 (theorem `namo-scale-bound`).
    Decay follows a: a zero gradient decays nothing. Cost: one polar factor a step.
    """

    card = Card(
        "NAMO",
        "zhang2026namo",
        "2602.17080",
        "spectral norm, radius by an Adam-like scalar",
        "exact",
        "Code and paper differ in the look-ahead, the shape factor, the caps at 1 and what multiplies the decay; eps "
        "stands outside the root in the code, inside in its docstring. The paper's form was read in a transcription.",
    )
    norm = norms.Spectral()

    lr: Scalar = 0.01
    momentum: Scalar = 0.95
    beta2: Scalar = 0.99
    weight_decay: Scalar = 0.1
    eps: Scalar = 1e-8
    variant: Literal["code", "paper"] = "code"
    nesterov: bool | None = None
    plan: AnyPlan | None = None

    def __post_init__(self):
        super().__post_init__()
        closest(self.variant, {"code": 0, "paper": 0}, "NAMO variant")
        if self.plan is not None:
            check_plan(self.plan)

    def init(self, w):
        return State(zeros_like(w), zeros_like(w[..., :1, :1]), 0)

    def update(self, w, grad, state):
        t, code = state.steps + 1, self.variant == "code"
        m = ema(state.momentum, grad, self.momentum)
        second = ema(state.second, frobenius(grad, keepdims=True) ** 2, self.beta2)
        n = ema(m, grad, self.momentum) if (code if self.nesterov is None else self.nesterov) else m
        xp = array_namespace(w)
        a = bias_correction(self.momentum, self.beta2, t) * ratio(
            frobenius(n, keepdims=True), xp.sqrt(second) + self.eps
        )
        orthogonal = polar_factor(n, (MUON_JORDAN if code else "exact") if self.plan is None else self.plan)
        radius = self.lr * a
        shrink = xp.clip(radius, max=1.0) if code else radius
        if code:
            radius = xp.clip(0.2 * math.sqrt(max(w.shape[-2:])) * radius, max=1.0)
        return decay(w, shrink, self.weight_decay) - radius * orthogonal, State(m, second, t)


@dataclass(frozen=True)
class NAMOD(Method):
    """NAMO with one scale a column (an input coordinate), clamped around their mean.

        M <- momentum M + (1 - momentum) G,   N = momentum M + (1 - momentum) G
        V_j <- beta2 V_j + (1 - beta2) |G_j|^2,   s_j = |N_j| / (sqrt(V_j) + eps),   s_j <- clip(s_j, c mean, mean / c)
        b_j = lr sqrt(1 - beta2^t) / (1 - momentum^t) s_j
        W_j <- max(0, 1 - weight_decay min(b_j, 1)) W_j - min(0.2 sqrt(max(m, n)) b_j, 1) polar(N)_j

    Parameters
    ----------
    clamp : float or None
        c in (0, 1]; None leaves the scales as they are.

    Notes
    -----
    With an exact polar factor of full column rank the condition number of a step is at most 1 / c^2, and that is
    attained (theorem `namo-d-condition`). Cost: one polar factor a step.
    """

    card = Card(
        "NAMO-D",
        "zhang2026namo",
        "2602.17080",
        "spectral norm, radius a column",
        "exact",
        "As in the authors' code; its YAML files set clamp 0.01 and lr 0.012.",
    )
    norm = norms.Spectral()

    lr: Scalar = 0.01
    momentum: Scalar = 0.95
    beta2: Scalar = 0.99
    weight_decay: Scalar = 0.1
    eps: Scalar = 1e-8
    nesterov: bool = True
    clamp: float | None = 0.75
    plan: AnyPlan = MUON_JORDAN

    def __post_init__(self):
        super().__post_init__()
        check_plan(self.plan)
        if self.clamp is not None:
            check_number(self.clamp, "NAMOD.clamp", open_low=True, high=1.0)

    def init(self, w):
        return State(zeros_like(w), zeros_like(w[..., :1, :]), 0)

    def update(self, w, grad, state):
        xp = array_namespace(w)
        t = state.steps + 1
        m = ema(state.momentum, grad, self.momentum)
        n = ema(m, grad, self.momentum) if self.nesterov else m
        second = ema(state.second, column_norms(grad) ** 2, self.beta2)
        s = ratio(column_norms(n), xp.sqrt(second) + self.eps)
        if self.clamp is not None:
            mean = xp.mean(s, axis=-1, keepdims=True)
            s = xp.minimum(xp.maximum(s, self.clamp * mean), mean / self.clamp)
        b = self.lr * bias_correction(self.momentum, self.beta2, t) * s
        kept = xp.clip(1 - self.weight_decay * xp.clip(b, max=1.0), min=0.0)
        radius = xp.clip(0.2 * math.sqrt(max(w.shape[-2:])) * b, max=1.0)
        return kept * w - radius * polar_factor(n, self.plan), State(m, second, t)
