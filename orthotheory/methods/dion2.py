"""Dion2 and NorDion2: orthogonalize only the rows (or columns) with the most accumulated gradient."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

from .. import norms
from ..arrays import Array, Scalar, array_namespace, check_number, frobenius
from ..names import closest
from ..polar import AnyPlan, check_plan, polar_factor
from .contract import Card, Method, decay, ratio, zeros_like
from .muon import POLAR_EXPRESS_AS_CALLED, SHAPE_FACTORS
from .normuon import normalize_rows


class Selection(NamedTuple):
    """A permutation of the rows that puts the k longest (in l1) first, and its inverse; ties keep their order."""

    order: Array  # (..., m)
    inverse: Array  # (..., m)
    kept: int

    def take(self, x: Array) -> Array:
        """Return the selected rows, (..., k, n)."""
        return _permute(x, self.order)[..., : self.kept, :]

    def put(self, chosen: Array, rest: Array) -> Array:
        """Return `rest` with its selected rows replaced by `chosen`."""
        waiting = _permute(rest, self.order)[..., self.kept :, :]
        return _permute(array_namespace(rest).concat([chosen, waiting], axis=-2), self.inverse)


def select_rows(m: Array, fraction: float) -> Selection:
    """Return the max(1, ceil(fraction m)) rows of largest l1 norm."""
    xp = array_namespace(m)
    order = xp.argsort(-xp.sum(xp.abs(m), axis=-1), axis=-1, stable=True)
    return Selection(order, xp.argsort(order, axis=-1, stable=True), max(1, math.ceil(fraction * m.shape[-2])))


def _permute(x: Array, order: Array) -> Array:
    xp = array_namespace(x)
    return xp.take_along_axis(x, xp.broadcast_to(order[..., None], x.shape), axis=-2)


@dataclass(frozen=True)
class Dion2(Method):
    """Orthogonalize the slices of the buffer with the largest l1 norm, and let only those decay.

        M <- M + G,   S = the k longest rows of M (columns where n < m),   O = polar(S)
        M_S <- momentum M_S
        W <- (1 - lr weight_decay) W,   W_S <- W_S - lr s O

    Parameters
    ----------
    lr, momentum, weight_decay : float or array (batch)
    fraction : float
        k = max(1, ceil(fraction size)), size the number of slices.
    plan : str, Schedule, Plan or Adaptive
    shape_factor : str
        s(m, n) of the whole matrix: "aspect" (default) or "match-rms".

    Notes
    -----
    With fraction 1 this is heavy-ball Muon without look-ahead (theorem `dion2-whole-is-muon`). A step has rank at most
    k and |.|_2 = lr s for an exact plan. Slices that wait accumulate without decay, so none waits forever. Cost: one
    polar factor of k slices.
    """

    card = Card(
        "Dion2",
        "ahn2025dion2",
        "2512.16928",
        "spectral norm on the selected slices",
        "exact",
        "The code runs Polar Express in bfloat16, with epsilon 1e-8; here in the dtype of the weights. Its repository "
        "trains with fraction 0.5 and lr 0.02.",
    )
    norm = norms.Spectral()
    rows_only: ClassVar[bool] = False

    lr: Scalar = 0.01
    momentum: Scalar = 0.95
    weight_decay: Scalar = 0.01
    fraction: float = 0.25
    plan: AnyPlan = POLAR_EXPRESS_AS_CALLED
    shape_factor: str = "aspect"

    class State(NamedTuple):
        """The buffer M."""

        momentum: Array

    def __post_init__(self):
        super().__post_init__()
        check_number(self.fraction, f"{type(self).__name__}.fraction", open_low=True, high=1.0)
        check_plan(self.plan)
        closest(self.shape_factor, SHAPE_FACTORS, "shape factor")

    def init(self, w):
        return self.State(zeros_like(w))

    def update(self, w, grad, state):
        turned = not self.rows_only and w.shape[-2] > w.shape[-1]  # columns are the shorter side
        m = state.momentum + grad
        m, x = (m.mT, w.mT) if turned else (m, w)
        chosen = select_rows(m, self.fraction)
        s = chosen.take(m)
        o, rest = self.direction(s, chosen, state)
        m = chosen.put(self.momentum * s, m)
        x = decay(x, self.lr, self.weight_decay)
        scale = SHAPE_FACTORS[self.shape_factor](*w.shape[-2:])
        x = chosen.put(chosen.take(x) - self.lr * scale * o, x)
        return (x.mT, self.State(m.mT, *rest)) if turned else (x, self.State(m, *rest))

    def direction(self, s: Array, chosen: Selection, state) -> tuple[Array, tuple[Array, ...]]:
        """Return what the selected slices move along, and the further state."""
        return polar_factor(s, self.plan), ()


@dataclass(frozen=True)
class NorDion2(Dion2):
    """Dion2 on rows, whose selected directions are evened out as in NorMuon and keep their Frobenius norm.

    The mean squares of rows that are not selected stay as they are.
    """

    card = Card(
        "NorDion2",
        "ahn2025dion2",
        "2512.16928",
        "spectral norm on the selected rows, evened out",
        "exact",
        "In the repository of Dion2, not in its paper; it selects rows whatever the shape.",
    )
    rows_only = True

    beta2: Scalar = 0.95
    eps: Scalar = 1e-8

    class State(NamedTuple):  # type: ignore[assignment]
        """The buffer M, and the mean squares of the rows of the directions, (..., m, 1)."""

        momentum: Array
        second: Array

    def init(self, w):
        return self.State(zeros_like(w), zeros_like(w[..., :1]))

    def direction(self, s, chosen, state):
        o = polar_factor(s, self.plan)
        even, second = normalize_rows(o, chosen.take(state.second), self.beta2, self.eps)
        kept = ratio(frobenius(o, keepdims=True), frobenius(even, keepdims=True) + self.eps)
        return even * kept, (chosen.put(second, state.second),)
