"""Gluon: LMO steps whose length fits a smoothness that grows with the gradient."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

from .. import norms
from ..arrays import Array, Scalar, check_number
from ..norms import Norm
from .contract import Card, Method, ema, ratio, zeros_like

SPECTRAL = norms.Spectral()


@dataclass(frozen=True)
class Gluon(Method):
    """Step along the LMO of the average gradient, with the length for (L0, L1)-smooth functions.

        M <- momentum M + (1 - momentum) G,   t = |M|_dual / (l0 + l1 |M|_dual)
        W <- W + lr t lmo(M)

    Parameters
    ----------
    lr : float or array (batch)
        Multiplies the length; 1 is the rule.
    momentum : float or array (batch)
    l0, l1 : float
        Smoothness of the layer: |H| <= l0 + l1 |gradient|_dual in the norm.
    norm : Norm or str

    Notes
    -----
    With l1 = 0 and no momentum this is PolarGrad at lr = 1 / l0 (theorem `gluon-is-polargrad`); for l1 |M| >> l0 the
    step has the fixed radius 1 / l1. Layers with constants of their own: `methods.Blockwise`. Cost: an LMO and a norm.
    """

    card = Card(
        "Gluon",
        "riabinin2025gluon",
        "2505.13416",
        "any norm, radius by generalized smoothness",
        "published",
        "The deterministic rule for the length is stated from memory of the paper, applied here to the average.",
    )

    lr: Scalar = 1.0
    momentum: Scalar = 0.0
    l0: float = 1.0
    l1: float = 0.0
    norm: Any = SPECTRAL  # type: ignore[misc]  # a Norm, or the name of one

    class State(NamedTuple):
        """The average gradient."""

        momentum: Array

    def __post_init__(self):
        super().__post_init__()
        if isinstance(self.norm, str):
            object.__setattr__(self, "norm", norms.make(self.norm))
        if not isinstance(self.norm, Norm):
            raise TypeError(f"norm must be a norm or the name of one ({', '.join(norms.names())}); got {self.norm!r}.")
        for name in ("l0", "l1"):
            check_number(getattr(self, name), f"Gluon.{name}", open_high=True)
        if self.l0 == self.l1 == 0:
            raise ValueError("Gluon needs l0 or l1 above zero.")

    def init(self, w):
        return self.State(zeros_like(w))

    def update(self, w, grad, state):
        m = ema(state.momentum, grad, self.momentum)
        dual = self.norm.dual(m)[..., None, None]
        length = ratio(dual, self.l0 + self.l1 * dual)
        return w + self.lr * length * self.norm.lmo(m), self.State(m)
