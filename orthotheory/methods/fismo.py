"""FISMO: Muon in a Kronecker-factored metric made of gradients."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from .. import norms
from ..arrays import Array, Scalar, array_namespace, check_number, device_of
from ..polar import AnyPlan, check_plan, polar_factor
from .contract import Card, Method, ema, zeros_like
from .spd import inverse_root, symmetrize, trace


@dataclass(frozen=True)
class FISMO(Method):
    """Whiten the gradient by two factors, orthogonalize its average, whiten the step.

        P <- m S / tr S,   S = beta2 P + (1 - beta2) (G Q^-1 G^T / n + damping tr(P)/m I)
        Q <- n S / tr S,   S = beta2 Q + (1 - beta2) (G^T P^-1 G / m + damping tr(Q)/n I)
        M <- momentum M + (1 - momentum) P^(-1/2) G Q^(-1/2)
        W <- W - lr P^(-1/2) polar(M) Q^(-1/2)

    Parameters
    ----------
    lr : float or array (batch)
        Radius of the step in |P^(1/2) D Q^(1/2)|_2.
    momentum, beta2 : float or array (batch)
        Averaging of the whitened gradient and of the factors.
    damping : float
        Share of the identity in the factors, in units of their mean eigenvalue.
    plan : str, Schedule, Plan or Adaptive

    Notes
    -----
    P = Q = I is Muon. Without momentum the step is the LMO of the metric, <G, D> = -|P^(-1/2) G Q^(-1/2)|_*; with it
    the average mixes gradients that were whitened by different factors (theorem `fismo-metric`). The spectral norm of
    the step itself is not bounded by lr. Cost: two eigenvalue decompositions, about eight products, a polar factor.
    """

    card = Card(
        "FISMO",
        "xu2026fismo",
        "2601.21750",
        "fixed radius, spectral norm of a Kronecker metric",
        "published",
        "Read in a transcription; no code was found. Ours: the start P = Q = I and all default values. Eigenvalues of "
        "a factor at rounding level count as zero.",
    )
    norm = norms.Spectral()

    lr: Scalar = 0.02
    momentum: Scalar = 0.95
    beta2: Scalar = 0.95
    damping: float = 0.01
    plan: AnyPlan = "exact"

    class State(NamedTuple):
        """The average whitened gradient, and the factors P (..., m, m) and Q (..., n, n)."""

        momentum: Array
        left: Array
        right: Array

    def __post_init__(self):
        super().__post_init__()
        check_number(self.damping, "FISMO.damping", open_high=True)
        check_plan(self.plan)

    def init(self, w):
        left, right = (_identity(k, w) for k in w.shape[-2:])
        return self.State(zeros_like(w), left, right)

    def update(self, w, grad, state):
        rows, columns = w.shape[-2:]
        q = inverse_root(state.right, 1.0)
        left = self._factor(state.left, grad @ q @ grad.mT / columns)
        p = inverse_root(left, 1.0)
        right = self._factor(state.right, grad.mT @ p @ grad / rows)
        p, q = inverse_root(left), inverse_root(right)
        m = ema(state.momentum, p @ grad @ q, self.momentum)
        return w - self.lr * (p @ polar_factor(m, self.plan) @ q), self.State(m, left, right)

    def _factor(self, old: Array, new: Array) -> Array:
        size = old.shape[-1]
        s = ema(old, new + self.damping * trace(old) / size * _identity(size, old), self.beta2)
        return symmetrize(size * s / trace(s))


def _identity(size: int, like: Array) -> Array:
    eye = array_namespace(like).eye(size, dtype=like.dtype, device=device_of(like))
    return eye + zeros_like(like[..., :1, :1])
