"""NorMuon: Muon whose rows are divided by a running root mean square."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, NamedTuple

from .. import norms
from ..arrays import Array, Scalar, array_namespace, frobenius
from ..names import closest
from ..polar import MUON_JORDAN, AnyPlan, check_plan, polar_factor
from .contract import Card, Method, decay, ema, ratio, zeros_like


def normalize_rows(o: Array, second: Array, beta2: Scalar, eps: Scalar) -> tuple[Array, Array]:
    """Return O with its rows divided by sqrt(v) + eps, v <- beta2 v + (1 - beta2) mean_j O_ij^2, and v (..., m, 1)."""
    xp = array_namespace(o)
    v = ema(second, xp.mean(o * o, axis=-1, keepdims=True), beta2)
    return ratio(o, xp.sqrt(v) + eps), v


@dataclass(frozen=True)
class NorMuon(Method):
    """Divide the rows of Muon's direction by their running root mean square, and restore the length.

        M <- momentum M + (1 - momentum) G,   O = polar(momentum M + (1 - momentum) G)
        v <- beta2 v + (1 - beta2) mean_j O_ij^2,   N = O / (sqrt(v) + eps)       (row by row)
        code:   U = sqrt(max(1, m/n)) N |O|_F / (|N|_F + eps)
        paper:  U = 0.2 sqrt(mn) N / |N|_F
        W <- (1 - lr weight_decay) W - lr U

    Parameters
    ----------
    lr, momentum, beta2, eps, weight_decay : float or array (batch)
    variant : "code" or "paper"
        What the length is restored to: that of O, or a root mean square of 0.2.
    plan : str, Schedule, Plan or Adaptive
        How the polar factor is computed.

    Notes
    -----
    With exact polar factors and m <= n all rows of O have length one, and NorMuon is Muon (theorem `normuon-is-muon`).
    No bias correction: the restored length cancels it. Cost: one polar factor a step.
    """

    card = Card(
        "NorMuon",
        "li2025normuon",
        "2510.05491",
        "spectral norm, rows evened out",
        "exact",
        "The paper's listing (read in a transcription) rescales to a root mean square of 0.2, the code keeps the "
        "Frobenius norm of O. The repository of Dion has eps 1e-8.",
    )
    norm = norms.Spectral()

    lr: Scalar = 0.02
    momentum: Scalar = 0.95
    beta2: Scalar = 0.95
    nesterov: bool = True
    weight_decay: Scalar = 0.0
    eps: Scalar = 1e-10
    variant: Literal["code", "paper"] = "code"
    plan: AnyPlan = MUON_JORDAN

    class State(NamedTuple):
        """The momentum matrix, and the mean squares of the rows of O, (..., m, 1)."""

        momentum: Array
        second: Array

    def __post_init__(self):
        super().__post_init__()
        closest(self.variant, {"code": 0, "paper": 0}, "NorMuon variant")
        check_plan(self.plan)

    def init(self, w):
        return self.State(zeros_like(w), zeros_like(w[..., :1]))

    def update(self, w, grad, state):
        m = ema(state.momentum, grad, self.momentum)
        direction = polar_factor(ema(m, grad, self.momentum) if self.nesterov else m, self.plan)
        even, second = normalize_rows(direction, state.second, self.beta2, self.eps)
        length = frobenius(even, keepdims=True)
        rows, columns = w.shape[-2:]
        if self.variant == "paper":
            step = 0.2 * math.sqrt(rows * columns) * ratio(even, length)
        else:
            kept = frobenius(direction, keepdims=True)
            step = math.sqrt(max(1.0, rows / columns)) * kept * ratio(even, length + self.eps)
        return decay(w, self.lr, self.weight_decay) - self.lr * step, self.State(m, second)
