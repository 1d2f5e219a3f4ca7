"""AuON and Hybrid-AuON: a scalar made of hyperbolic cosines, in the paper's form and in the package's form.

The two differ, and both matter: the paper divides the normalized momentum by the scalar, the package divides the
momentum itself. Claims `auon-*` say what follows.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple

from .. import norms
from ..arrays import Array, Scalar, array_namespace, frobenius, to_host
from ..names import closest
from ..polar import MUON_JORDAN
from .contract import Card, Method, decay, ema, zeros_like

VARIANTS = ("paper", "package")
NORMALIZE_EPS = 1e-7  # added to the Frobenius norm, as in the authors' code
SCALE_EPS = 1e-8  # added to the scalar


def cosh_rms(u: Array, gamma: Scalar = 1.0) -> Array:
    """Return rho = sqrt(mean_ij cosh^2(gamma u_ij)) of each matrix, shape (..., 1, 1).

    For |u|_F = 1 and N entries: cosh(gamma / sqrt N) <= rho <= sqrt(1 + sinh(gamma)^2 / N), claim `auon-cosh-factor`.
    """
    xp = array_namespace(u)
    c = xp.cosh(gamma * u)
    return xp.sqrt(xp.mean(c * c, axis=(-2, -1), keepdims=True))


def unit_frobenius(m: Array) -> Array:
    """Return m / (|m|_F + 1e-7), the authors' normalization."""
    return m / (frobenius(m, keepdims=True) + NORMALIZE_EPS)


def auon_direction(m: Array, variant: str = "paper", gamma: Scalar | None = None) -> Array:
    """Return AuON's update for a momentum matrix, a positive scalar times `m`.

    paper:    X / (rho(X) + 1e-8),  X = m / (|m|_F + 1e-7),  gamma = 1
    package:  m / (rho(X) + 1e-8),                           gamma = 1.5
    """
    x = unit_frobenius(m)
    if variant == "paper":
        return x / (cosh_rms(x, 1.0 if gamma is None else gamma) + SCALE_EPS)
    return m / (cosh_rms(x, 1.5 if gamma is None else gamma) + SCALE_EPS)


def hybrid_auon_direction(m: Array, variant: str = "paper", ns_steps: int | None = None) -> Array:
    """Return Hybrid-AuON's update: Muon's quintic on the normalized momentum, then a scalar.

    paper:    one step, then X / (mean cosh^2(X) + 1e-8): the mean square, without a root
    package:  five steps, then X / (rho(X / |X|_F) + 1e-8) with gamma = 1.5
    """
    steps = ns_steps if ns_steps is not None else {"paper": 1, "package": 5}[variant]
    x = replace(MUON_JORDAN, coefficients=MUON_JORDAN.coefficients[:1] * steps).apply(m)
    if variant == "paper":
        return x / (cosh_rms(x) ** 2 + SCALE_EPS)
    return x / (cosh_rms(unit_frobenius(x), 1.5) + SCALE_EPS)


class Momentum(NamedTuple):
    """The momentum matrix, the only state of both methods."""

    momentum: Array


@dataclass(frozen=True)
class AuON(Method):
    """Divide the Nesterov momentum by the root mean square of its hyperbolic cosine, which is 1 + O(1/N).

        M <- momentum M + (1 - momentum) G,   D = momentum M + (1 - momentum) G
        paper:    W <- W - lr sqrt(max(1, m/n)) X / rho(X),   X = D / |D|_F
        package:  W <- (1 - lr weight_decay) W - lr D / rho_1.5(X)

    Parameters
    ----------
    lr : float or array (batch)
        paper: a length in the Frobenius norm, up to 1 + O(1/N). package: a step per unit of gradient.
    variant : "paper" or "package"
        The paper text with the original script, or the public package.
    weight_decay : float or array (batch)
        Decoupled, in the package only.
    gamma : float or None
        Argument scale of the cosh; None takes 1 (paper) or 1.5 (package).

    Notes
    -----
    To O(1/N) the paper's form is normalized gradient descent with momentum and the package's form is momentum SGD
    [maity2025auon]. Zero momentum gives no step. Cost: linear in the mn entries.
    """

    card = Card(
        "AuON",
        "maity2025auon",
        "2509.24320",
        "paper: Frobenius ball; package: none (scaled gradient)",
        "exact",
        "Paper and package differ in what is divided, in gamma, in the shape factor (the original script's) and "
        "in weight decay. The paper's prose does not spell out the Nesterov mix; its script has it, in bfloat16.",
    )

    lr: Scalar = 0.055
    momentum: Scalar = 0.95
    nesterov: bool = True
    weight_decay: Scalar = 0.0
    variant: Literal["paper", "package"] = "paper"
    gamma: Scalar | None = None

    def __post_init__(self):
        super().__post_init__()
        _check_variant(self, "AuON")

    def init(self, w):
        return Momentum(zeros_like(w))

    def update(self, w, grad, state):
        m = ema(state.momentum, grad, self.momentum)
        direction = ema(m, grad, self.momentum) if self.nesterov else m
        shape_factor = math.sqrt(max(1.0, w.shape[-2] / w.shape[-1])) if self.variant == "paper" else 1.0
        step = self.lr * shape_factor * auon_direction(direction, self.variant, self.gamma)
        return decay(w, self.lr, self.weight_decay) - step, Momentum(m)


@dataclass(frozen=True)
class HybridAuON(Method):
    """Newton-Schulz steps of Muon's quintic, then AuON's scalar; see `hybrid_auon_direction`.

        W <- (1 - lr weight_decay) W - lr hybrid(D),   D the Nesterov momentum

    Parameters
    ----------
    ns_steps : int or None
        None takes one step (paper) or five (the package's default, against the paper's claim of one).
    """

    card = Card(
        "Hybrid-AuON",
        "maity2025auon",
        "2509.24320",
        "spectral, not bounded by 1",
        "exact",
        "Paper: one Newton-Schulz step and the mean square of the cosh, no root. Package: five steps and the root.",
    )
    norm = norms.Spectral()

    lr: Scalar = 0.055
    momentum: Scalar = 0.95
    nesterov: bool = True
    weight_decay: Scalar = 0.0
    variant: Literal["paper", "package"] = "paper"
    ns_steps: int | None = None

    def __post_init__(self):
        super().__post_init__()
        _check_variant(self, "HybridAuON")
        if self.ns_steps is not None and self.ns_steps < 1:
            raise ValueError(f"ns_steps must be at least 1; got {self.ns_steps}.")

    def init(self, w):
        return Momentum(zeros_like(w))

    def update(self, w, grad, state):
        m = ema(state.momentum, grad, self.momentum)
        direction = ema(m, grad, self.momentum) if self.nesterov else m
        step = self.lr * hybrid_auon_direction(direction, self.variant, self.ns_steps)
        return decay(w, self.lr, self.weight_decay) - step, Momentum(m)


def _check_variant(method, name: str) -> None:
    closest(method.variant, dict.fromkeys(VARIANTS), f"{name} variant")
    if method.variant == "paper" and (to_host(method.weight_decay) != 0).any():
        raise ValueError(f"{name}(variant='paper') has no weight decay; use variant='package', or weight_decay=0.")


__all__ = ["AuON", "HybridAuON", "auon_direction", "cosh_rms", "hybrid_auon_direction", "unit_frobenius"]
