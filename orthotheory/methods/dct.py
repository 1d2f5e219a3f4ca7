"""DCT-AdamW and Trion: subspaces made of the best columns of one fixed orthogonal matrix."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np

from .. import norms
from ..arrays import Array, Scalar, array_namespace, backend_of, check_number, dtype_name
from ..names import closest
from ..polar import MUON_JORDAN, AnyPlan, check_plan, polar_factor
from .contract import Card, Method, decay, zeros_like
from .galore import start_in_subspace, subspace_rank
from .moments import Moments
from .muon import SHAPE_FACTORS

Ranking = Literal["l1", "l2"]


def dct_matrix(size: int) -> np.ndarray:
    """Return the orthogonal matrix of the third cosine transform: sqrt(2/n) cos(pi i (2j + 1) / 2n), row 0 over sqrt 2.

    >>> q = dct_matrix(3)
    >>> bool(np.allclose(q @ q.T, np.eye(3)))
    True
    """
    i, j = np.arange(size)[:, None], np.arange(size)[None, :]
    q = math.sqrt(2 / size) * np.cos(math.pi * i * (2 * j + 1) / (2 * size))
    q[0] *= math.sqrt(0.5)
    return q


def best_columns(x: Array, basis: Array, rank: int, ranking: Ranking = "l1") -> Array:
    """Return the `rank` columns of an orthogonal basis (n, n) on which x (..., m, n) is longest, (..., n, rank).

    The length of a column of x @ basis is its sum of magnitudes ("l1", as in the authors' code) or of squares ("l2").
    The latter leaves the least Frobenius residual of all choices of columns (theorem `dct-l2-optimal`),
    between rank / n of the energy of x and that of its leading singular vectors (theorem `dct-energy`).
    """
    xp = array_namespace(x)
    s = xp.abs(x @ basis)
    length = xp.sum(s if ranking == "l1" else s * s, axis=-2)
    order = xp.argsort(length, axis=-1, descending=True)[..., :rank]
    places = xp.arange(basis.shape[-1], dtype=order.dtype, device=order.device)
    return basis @ xp.astype(places[:, None] == order[..., None, :], x.dtype)


@dataclass(frozen=True)
class DCTAdamW(Method):
    """AdamW in the best columns of a cosine transform, with error feedback.

        A = G + E;   at t = 1 and when T divides t:  Q_r = best columns for A, moments turned by Q_old^T Q_r
        A_r = A Q_r,   E = A - A_r Q_r^T
        W <- (1 - lr weight_decay) W - lr [Adam's direction for A_r] Q_r^T       (for m >= n; else transposed)

    Parameters
    ----------
    rank : int or None
        Columns kept; None takes a quarter of the shorter side, at least 1.
    period : int
        T.
    ranking : "l1" or "l2"
        How columns are ranked; l1 is the authors' default and not the best (claim `dct-l1-ranking`).
    error_feedback, rotate : bool
        Keep E; turn the moments, m <- m R and v <- |v R| with R = Q_old^T Q_r, when the columns change.

    Notes
    -----
    Cost: a product with Q (or a fast transform, which this does not use) and two with Q_r.
    """

    card = Card(
        "DCT-AdamW",
        "modoranu2025fft",
        "2505.17967",
        "adaptive diagonal in a cosine subspace",
        "exact",
        "As in the authors' code, without 8-bit error feedback; the defaults of rank, period and switches are ours.",
    )
    norm = norms.MaxEntry()

    lr: Scalar = 1e-3
    beta1: Scalar = 0.9
    beta2: Scalar = 0.999
    eps: Scalar = 1e-8
    weight_decay: Scalar = 0.0
    rank: int | None = None
    period: int = 1
    ranking: Ranking = "l1"
    error_feedback: bool = True
    rotate: bool = True

    class State(NamedTuple):
        """Moments in the subspace, the columns Q_r, the error (..., m, n), steps taken (of W^T where m < n)."""

        moments: Moments
        basis: Array
        error: Array
        steps: int

    def __post_init__(self):
        super().__post_init__()
        check_number(self.rank or 1, "DCTAdamW.rank", low=1)
        check_number(self.period, "DCTAdamW.period", low=1)
        closest(self.ranking, {"l1": 0, "l2": 0}, "ranking")

    def init(self, w):
        w = w if w.shape[-2] >= w.shape[-1] else w.mT
        moments, basis = start_in_subspace(w, self.rank)
        return self.State(moments, basis, zeros_like(w), 0)

    def update(self, w, grad, state):
        if w.shape[-2] < w.shape[-1]:
            turned, state = self.update(w.mT, grad.mT, state)
            return turned.mT, state
        xp = array_namespace(w)
        t, basis, moments = state.steps + 1, state.basis, state.moments
        a = grad + state.error if self.error_feedback else grad
        if t == 1 or t % self.period == 0:
            q = backend_of(w).asarray(dct_matrix(w.shape[-1]), dtype=dtype_name(w))
            basis = best_columns(a, q, basis.shape[-1], self.ranking)
            if self.rotate:
                turn = state.basis.mT @ basis
                moments = Moments(moments.first @ turn, xp.abs(moments.second @ turn))
        low = a @ basis
        error = a - low @ basis.mT if self.error_feedback else state.error
        moments = moments.after(low, self.beta1, self.beta2)
        step = self.lr * moments.corrected(t, self.beta1, self.beta2, self.eps) @ basis.mT
        return decay(w, self.lr, self.weight_decay) - step, self.State(moments, basis, error, t)


@dataclass(frozen=True)
class Trion(Method):
    """Orthogonalize the momentum in the best columns of a cosine transform, and keep the rest.

        M <- M + G,   Q_r = best columns for M,   S = M Q_r,   M <- M - (1 - momentum) S Q_r^T
        W <- (1 - lr weight_decay) W - lr s polar(S) Q_r^T        (s as in Muon)

    Parameters
    ----------
    rank, ranking
        As in `DCTAdamW`.
    shape_factor : str
        A key of `SHAPE_FACTORS`.

    Notes
    -----
    A wide matrix takes *rows* of the transform from the left, as the authors' code does (DCT-AdamW takes columns). The
    step has the singular values of polar(S). At full rank it is heavy-ball Muon (theorem `trion-full-rank`). Cost: a
    product with Q, two with Q_r, a polar factor of rank columns.
    """

    card = Card(
        "Trion",
        "modoranu2025fft",
        "2505.17967",
        "spectral norm, cosine subspace",
        "exact",
        "As in the authors' code, whose cache-miss path has undefined names; rank and decay defaults are ours.",
    )
    norm = norms.Spectral()

    lr: Scalar = 0.02
    momentum: Scalar = 0.95
    weight_decay: Scalar = 0.0
    rank: int | None = None
    ranking: Ranking = "l1"
    plan: AnyPlan = MUON_JORDAN
    shape_factor: str = "max-aspect"

    class State(NamedTuple):
        """The momentum buffer."""

        momentum: Array

    def __post_init__(self):
        super().__post_init__()
        check_number(self.rank or 1, "Trion.rank", low=1)
        check_plan(self.plan)
        closest(self.ranking, {"l1": 0, "l2": 0}, "ranking")
        closest(self.shape_factor, SHAPE_FACTORS, "shape factor")

    def init(self, w):
        return self.State(zeros_like(w))

    def update(self, w, grad, state):
        wide = w.shape[-2] < w.shape[-1]
        m = state.momentum + grad
        x = m.mT if wide else m
        q = backend_of(w).asarray(dct_matrix(x.shape[-1]), dtype=dtype_name(w))
        basis = best_columns(x, q.mT if wide else q, subspace_rank(self.rank, w), self.ranking)
        low = x @ basis
        seen, step = low @ basis.mT, polar_factor(low, self.plan) @ basis.mT
        if wide:
            seen, step = seen.mT, step.mT
        scale = SHAPE_FACTORS[self.shape_factor](*w.shape[-2:])
        following = decay(w, self.lr, self.weight_decay) - self.lr * scale * step
        return following, self.State(m - (1 - self.momentum) * seen)
