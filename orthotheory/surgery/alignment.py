"""Aligned multi-task learning: the polar factor of the Jacobian."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from ..arrays import array_namespace
from ..polar.svd import svd_of_moderate
from .contract import Card, Weighted, divide, preference

SCALES = ("min", "median", "rmse")


@dataclass(frozen=True)
class AlignedMTL(Weighted):
    """Independent component alignment: give the Jacobian equal singular values, then average.

        J = U S V^T,    x = s V U^T p,    s = min, median or root mean square of the nonzero singular values

    So x is s times the polar factor of J, transposed, times p: the orthogonalization of Muon applied to the Jacobian.
    Not non-conflicting, and discontinuous where the rank changes. Cost: one SVD.

    Parameters
    ----------
    scale : "min", "median" or "rmse"
        The common singular value; the lower median where their number is even.
    preference : sequence of m numbers, optional
        The weights p; 1/m each if not given.
    """

    scale: Literal["min", "median", "rmse"] = "min"
    preference: Any = None
    card = Card(
        "Aligned-MTL",
        "senushkin2023independent",
        "exact",
        "the rank is that of the singular values of J, at max(m, n) eps; the code decides on the squares",
    )

    def __post_init__(self):
        if self.scale not in SCALES:
            raise ValueError(f"AlignedMTL.scale must be one of {', '.join(SCALES)}; got {self.scale!r}.")

    def coefficients(self, rows, *rng):
        xp = array_namespace(rows.unit)
        u, s, _, common = self._factor(rows)
        p = (xp.matrix_transpose(u) @ (preference(self.preference, rows) + xp.zeros_like(rows.norm))[..., None])[..., 0]
        return common * (u @ divide(p, s)[..., None])[..., 0] * rows.scale

    def point(self, rows, *rng):
        xp = array_namespace(rows.unit)
        u, s, vh, common = self._factor(rows)
        p = (xp.matrix_transpose(u) @ (preference(self.preference, rows) + xp.zeros_like(rows.norm))[..., None])[..., 0]
        p = xp.where(s > 0, p, xp.zeros_like(p))
        return common * (xp.matrix_transpose(vh) @ p[..., None])[..., 0]

    def _factor(self, rows):
        xp = array_namespace(rows.unit)
        u, s, vh = svd_of_moderate(rows.relative)
        rank = xp.sum(xp.astype(s > 0, s.dtype), axis=-1, keepdims=True)
        if self.scale == "rmse":
            return u, s, vh, xp.sqrt(divide(xp.sum(s * s, axis=-1, keepdims=True), rank))
        last = xp.astype(rank, xp.int64) - 1
        index = last if self.scale == "min" else last - last // 2
        return u, s, vh, xp.take_along_axis(s, xp.clip(index, 0, None), axis=-1)
