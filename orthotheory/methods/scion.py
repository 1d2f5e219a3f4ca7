"""Scion: steps of a fixed radius in a norm chosen for each layer, towards its ball or without one."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

from .. import norms
from ..arrays import Array, Scalar, array_namespace, check_number, to_host
from ..names import closest
from ..norms import Norm
from ..norms.scaled import Rescaled
from ..polar import MUON_JORDAN, AnyPlan, check_plan, polar_factor
from .contract import Card, Method, column_norms, ema, ratio, row_norms, zeros_like


@dataclass(frozen=True)
class Ball(Rescaled):
    """The norm whose unit ball is the ball of radius `size(m, n)` of `inner`."""

    inner: Norm
    size: Callable[[int, int], float]

    @property
    def base(self) -> Norm:
        return self.inner

    def radius(self, m: int, n: int) -> float:
        return self.size(m, n)


class Direction(NamedTuple):
    """How the code moves in one norm: `unit` divides, `size` is the length in the norm `inner` that it restores.

    `plain` is the length where the code's `normalized` is off, None where it has no such switch.
    """

    inner: Norm
    unit: Callable[[Array, Scalar, AnyPlan], Array]  # (d, eps, plan) -> direction of length 1 in `inner`
    size: Callable[[int, int, int], float]  # (m, n, kernel area)
    plain: Callable[[int, int, int], float] | None = None


def _polar(d, eps, plan):
    return polar_factor(d, plan)


def _sign(d, eps, plan):
    return array_namespace(d).sign(d)


def _columns(d, eps, plan):  # the code divides by the root mean square + eps
    rms = column_norms(d) / math.sqrt(d.shape[-2])
    return ratio(d, rms + eps) / math.sqrt(d.shape[-2])


def _rows(d, eps, plan):
    rms = row_norms(d) / math.sqrt(d.shape[-1])
    return ratio(d, rms + eps) / math.sqrt(d.shape[-1])


def _whole(d, eps, plan):
    entries = d.shape[-2] * d.shape[-1]
    xp = array_namespace(d)
    rms = xp.sqrt(xp.sum(d * d, axis=(-2, -1), keepdims=True) / entries)
    return ratio(d, rms + eps) / math.sqrt(entries)


DIRECTIONS: dict[str, Direction] = {
    "spectral": Direction(norms.Spectral(), _polar, lambda m, n, k: math.sqrt(m / n), lambda m, n, k: math.sqrt(m)),
    "spectral-max": Direction(norms.Spectral(), _polar, lambda m, n, k: math.sqrt(max(1.0, m / n))),
    "conv": Direction(norms.Spectral(), _polar, lambda m, n, k: math.sqrt(m / (n / k)) / k),
    "sign": Direction(norms.MaxEntry(), _sign, lambda m, n, k: 1.0 / n, lambda m, n, k: 1.0),
    "column": Direction(norms.ColumnMax(), _columns, lambda m, n, k: math.sqrt(m) / n, lambda m, n, k: math.sqrt(m)),
    "row": Direction(norms.RowMax(), _rows, lambda m, n, k: 1.0 / math.sqrt(n), lambda m, n, k: math.sqrt(n)),
    "bias": Direction(norms.Frobenius(), _whole, lambda m, n, k: math.sqrt(m * n)),
}


@dataclass(frozen=True)
class Scion(Method):
    """Average gradients and step to the LMO of a ball; constrained, the weights stay in the ball of that radius.

        D <- momentum D + (1 - momentum) G
        constrained:    W <- (1 - lr) W + lr radius lmo(D)
        unconstrained:  W <- W + lr radius lmo(D)

    Parameters
    ----------
    lr : float or array (batch)
        Share of the way to the LMO, at most 1 where constrained.
    momentum : float or array (batch)
        The usual factor. The code's `momentum` is one minus it: its default is 0 here, the recommended 0.1 is 0.9.
    radius : float
        rho, chosen a layer: 50 for hidden layers and 3000 for the head in the authors' examples.
    direction : str
        The norm: "spectral" (of the layer, sqrt(m/n) polar), "spectral-max" (at least 1), "conv" (kernel flattened to
        rows of n = inputs times kernel area), "sign", "column", "row" or "bias" (a vector as n x 1).
    normalized : bool
        The code's `normalized`: off, the length does not shrink with the number of inputs.
    kernel : int
        Area of the convolution kernel, for "conv".
    eps : float or array (batch)
        Added to the root mean squares, outside.
    plan : str, Schedule, Plan or Adaptive
        How the polar factor is computed.

    Notes
    -----
    Constrained Scion is Muon with lr radius and weight decay 1 / radius (theorem `scion-is-muon`). With an exact LMO
    and a start in the ball, |W| <= radius at every step (theorem `scion-stays-in-its-ball`); the shipped five quintic
    steps reach 1.2024 of it (claim `scion-bounded-weights`). Layers of several norms: `methods.Blockwise`. The light
    variant, which keeps the buffer in the gradient, takes the same steps.
    """

    card = Card(
        "Scion",
        "pethick2025training",
        "2502.07529",
        "fixed radius, a norm a layer",
        "exact",
        "Newton-Schulz runs in bfloat16 in the code. Its initialization on the boundary of the ball is not part of the "
        "step.",
    )

    lr: Scalar = 1e-3
    momentum: Scalar = 0.0
    radius: float = 50.0
    direction: str = "spectral"
    constrained: bool = True
    normalized: bool = True
    kernel: int = 1
    eps: Scalar = 1e-8
    plan: AnyPlan = MUON_JORDAN

    class State(NamedTuple):
        """The average gradient."""

        momentum: Array

    def __post_init__(self):
        super().__post_init__()
        rule = closest(self.direction, DIRECTIONS, "Scion direction")
        check_plan(self.plan)
        check_number(self.radius, "Scion.radius", open_low=True, open_high=True)
        check_number(self.kernel, "Scion.kernel", low=1)
        if not self.normalized and rule.plain is None:
            raise ValueError(f"Scion(direction={self.direction!r}) has no normalized=False.")
        if self.constrained and (to_host(self.lr) > 1).any():
            raise ValueError(f"Scion.lr must be at most 1 where constrained, a share of the way; got {self.lr}.")

    @property
    def norm(self) -> Norm:  # type: ignore[override]
        """The norm in which the LMO has length one."""
        return Ball(DIRECTIONS[self.direction].inner, self._size)

    def _size(self, m: int, n: int) -> float:
        rule: Any = DIRECTIONS[self.direction]
        return (rule.size if self.normalized else rule.plain)(m, n, self.kernel)

    def init(self, w):
        return self.State(zeros_like(w))

    def update(self, w, grad, state):
        d = ema(state.momentum, grad, self.momentum)
        vertex = -self._size(*w.shape[-2:]) * DIRECTIONS[self.direction].unit(d, self.eps, self.plan)
        kept = (1 - self.lr) * w if self.constrained else w
        return kept + self.lr * self.radius * vertex, self.State(d)
