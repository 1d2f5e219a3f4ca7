"""AdaMuon: the polar factor of the sign, divided entrywise by a running root mean square."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

from .. import norms
from ..arrays import Array, Scalar, array_namespace, frobenius
from ..polar import MUON_JORDAN, AnyPlan, check_plan, polar_factor
from .contract import Card, Method, decay, ema, ratio, zeros_like


@dataclass(frozen=True)
class AdaMuon(Method):
    """Orthogonalize the sign of the momentum, then normalize its entries as Adam does.

        M <- momentum M + (1 - momentum) G,   O = polar(sign(momentum M + (1 - momentum) G))
        V <- momentum V + (1 - momentum) O * O,   A = O / (sqrt(V) + eps)
        W <- (1 - lr weight_decay) W - lr 0.2 sqrt(mn) A / (|A|_F + eps)

    Parameters
    ----------
    lr : float or array (batch)
        Five times the root mean square of a step's entries.
    momentum : float or array (batch)
        One factor for M and V.
    plan : str, Schedule, Plan or Adaptive
        How the polar factor is computed.

    Notes
    -----
    The root mean square of a step is 0.2 lr for any gradient (theorem `adamuon-rms`), and its first step is
    0.2 lr sign(O) (theorem `adamuon-first-step`): the entries of a polar factor, without its singular values. A step
    need not descend (claim `adamuon-descends`). No bias correction of V: the last line cancels it. Cost: one polar
    factor a step.
    """

    card = Card(
        "AdaMuon",
        "si2025adamuon",
        "2507.11005",
        "none exactly; fixed Frobenius norm",
        "exact",
        "As in the authors' GPT-2 file. Their Megatron file accumulates M <- momentum M + G, which has the same sign. "
        "Common ports leave the sign out.",
    )
    norm = norms.Frobenius()

    lr: Scalar = 0.02
    momentum: Scalar = 0.95
    nesterov: bool = True
    weight_decay: Scalar = 0.01
    eps: Scalar = 1e-8
    plan: AnyPlan = MUON_JORDAN

    class State(NamedTuple):
        """The momentum matrix and the mean squares of the entries of O."""

        momentum: Array
        second: Array

    def __post_init__(self):
        super().__post_init__()
        check_plan(self.plan)

    def init(self, w):
        return self.State(zeros_like(w), zeros_like(w))

    def update(self, w, grad, state):
        xp = array_namespace(w)
        m = ema(state.momentum, grad, self.momentum)
        o = polar_factor(xp.sign(ema(m, grad, self.momentum) if self.nesterov else m), self.plan)
        second = ema(state.second, o * o, self.momentum)
        adapted = ratio(o, xp.sqrt(second) + self.eps)
        length = 0.2 * math.sqrt(w.shape[-2] * w.shape[-1])
        step = length * ratio(adapted, frobenius(adapted, keepdims=True) + self.eps)
        return decay(w, self.lr, self.weight_decay) - self.lr * step, self.State(m, second)
