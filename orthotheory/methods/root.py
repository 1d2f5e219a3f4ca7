"""ROOT: clip the largest entries of the momentum, then orthogonalize with coefficients tuned for the shape."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, NamedTuple

from .. import norms
from ..arrays import Array, Scalar, array_namespace, check_number
from ..names import closest
from ..polar import MUON_JORDAN, AnyPlan, check_plan, polar_factor
from ..polar.presets import ROOT_ROWS, root
from .contract import Card, Method, decay, heavy_ball, zeros_like

THRESHOLD_EPS = 1e-9  # added to the quantile, as in the authors' code


def quantile(x: Array, q: float) -> Array:
    """Return the q-quantile of the entries of each matrix, linearly interpolated, shape (..., 1, 1)."""
    xp = array_namespace(x)
    ordered = xp.sort(xp.reshape(x, (*x.shape[:-2], x.shape[-2] * x.shape[-1])), axis=-1)
    place = q * (ordered.shape[-1] - 1)
    low = math.floor(place)
    below, above = ordered[..., low], ordered[..., min(low + 1, ordered.shape[-1] - 1)]
    return (below + (place - low) * (above - below))[..., None, None]


def clip_entries(x: Array, threshold: Array) -> Array:
    """Return x with entries limited to [-threshold, threshold]: x minus its soft-thresholded part."""
    xp = array_namespace(x)
    return xp.sign(x) * xp.minimum(xp.abs(x), threshold + zeros_like(x))


def plan_of_shape(m: int, n: int) -> AnyPlan:
    """Return the five steps that ROOT runs on a shape: tuned ones for four shapes, Muon's for all others."""
    return root((m, n)) if (min(m, n), max(m, n)) in ROOT_ROWS else MUON_JORDAN


@dataclass(frozen=True)
class ROOT(Method):
    """Muon on a momentum whose outlying entries are clipped.

        M <- momentum M + G
        code:    D = momentum M + G,  e = the 0.9-quantile of |D| + 1e-9
        readme:  D = M,               e = threshold
        W <- (1 - lr weight_decay) W - lr 0.2 sqrt(max(m, n)) polar(clip(D, -e, e))

    Parameters
    ----------
    lr, momentum, weight_decay : float or array (batch)
    variant : "code" or "readme"
    quantile : float
        Share of entries that are not clipped, in the code's form.
    threshold : float
        The fixed threshold of the readme's form, in units of the gradient; its value is ours.
    plan : str, Schedule, Plan, Adaptive or None
        None takes the authors' coefficients for the shape, which are Muon's outside four shapes.

    Notes
    -----
    The quantile clips a tenth of the entries at every step, outliers or not. The coefficients for 2048 x 2048 are not
    a map of [0, 1] into a bounded set (claim `root-dimension-robust`). Cost: a sort and a polar factor.
    """

    card = Card(
        "ROOT",
        "he2025root",
        "2511.20626",
        "fixed radius, spectral norm, of clipped momentum",
        "exact",
        "The readme's algorithm has a given threshold and no look-ahead. Code runs Newton-Schulz in float32.",
    )
    norm = norms.Spectral()

    lr: Scalar = 1e-3
    momentum: Scalar = 0.95
    weight_decay: Scalar = 0.1
    variant: Literal["code", "readme"] = "code"
    quantile: float = 0.9
    threshold: float = 1.0
    plan: AnyPlan | None = None

    class State(NamedTuple):
        """The heavy-ball buffer."""

        momentum: Array

    def __post_init__(self):
        super().__post_init__()
        closest(self.variant, {"code": 0, "readme": 0}, "ROOT variant")
        check_number(self.quantile, "ROOT.quantile", high=1.0)
        check_number(self.threshold, "ROOT.threshold", open_low=True, open_high=True)
        if self.plan is not None:
            check_plan(self.plan)

    def init(self, w):
        return self.State(zeros_like(w))

    def update(self, w, grad, state):
        xp = array_namespace(w)
        m = heavy_ball(state.momentum, grad, self.momentum)
        if self.variant == "code":
            d = heavy_ball(m, grad, self.momentum)
            threshold = quantile(xp.abs(d), self.quantile) + THRESHOLD_EPS
        else:
            d, threshold = m, xp.full_like(w[..., :1, :1], self.threshold)
        plan = plan_of_shape(*w.shape[-2:]) if self.plan is None else self.plan
        step = 0.2 * math.sqrt(max(w.shape[-2:])) * polar_factor(clip_entries(d, threshold), plan)
        return decay(w, self.lr, self.weight_decay) - self.lr * step, self.State(m)
