"""Directions that make equal angles with all gradients."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ..arrays import Array, array_namespace
from ..polar.svd import svd_of_moderate
from .contract import Card, Rows, Weighted, divide, preference


def equal_projection(rows: Rows, p: Array) -> tuple[Array, Array]:
    """Return b = H^+ p for the unit rows H, and its coefficients c with b = H^T c; shapes (..., n) and (..., m).

    Zero rows take no part. Singular values up to max(m, n) eps s_1 count as zero, and so does a b of 32 m eps |p|, as
    opposite rows leave it. The error is eps cond(H). Cost: one SVD.
    """
    xp = array_namespace(rows.unit)
    h = divide(rows.unit, rows.norm[..., None] + xp.zeros_like(rows.unit))
    u, s, vh = svd_of_moderate(h)
    y = divide((xp.matrix_transpose(u) @ xp.where(rows.norm > 0, p, xp.zeros_like(p))[..., None])[..., 0], s)
    size, wanted = (xp.sqrt(xp.sum(a * a, axis=-1, keepdims=True)) for a in (y, p))
    y = xp.where(size > 32 * p.shape[-1] * float(xp.finfo(p.dtype).eps) * wanted, y, xp.zeros_like(y))
    b = (xp.matrix_transpose(vh) @ y[..., None])[..., 0]
    return b, (u @ divide(y, s)[..., None])[..., 0]


@dataclass(frozen=True)
class IMTLG(Weighted):
    """Impartial multi-task learning, gradient form: weights of sum 1 with all projections g_i . x / |g_i| equal.

        v = D^-1 (H H^T)^+ 1,   w = v / sum(v)         H the unit rows, D the row norms; v = G^-1 d at full row rank

    The sum may be negative, and then x is an ascent direction for every objective. Cost: one SVD of the unit rows.

    Parameters
    ----------
    sign_safe : bool
        Divide by |sum(v)| instead, so that every projection is positive at full row rank (ours).
    """

    sign_safe: bool = False
    card = Card(
        "IMTL-G",
        "liu2021towards",
        "exact",
        "at rank deficiency the pseudo-inverse is that of the unit rows, not of the Gramian, so that row lengths do "
        "not decide the rank; sign_safe is ours",
    )

    def coefficients(self, rows, *rng):
        xp = array_namespace(rows.unit)
        _, c = equal_projection(rows, xp.ones_like(rows.norm))
        low = xp.min(xp.where(rows.length > 0, rows.length, xp.full_like(rows.length, 2.0)), axis=-1, keepdims=True)
        v = divide(c * low, rows.length)  # weights in units of the shortest row
        total = xp.sum(v, axis=-1, keepdims=True)
        vanishes = xp.abs(total) <= 1e-12 * xp.sum(xp.abs(v), axis=-1, keepdims=True)
        total = xp.abs(total) if self.sign_safe else total
        w = divide(c * low, rows.norm * xp.where(vanishes, xp.ones_like(total), total))
        return xp.where(vanishes, xp.zeros_like(w), w)


@dataclass(frozen=True)
class ConFIG(Weighted):
    """Conflict-free inverse gradients: the direction of given cosines, as long as the gradients' projections together.

        b = H^+ p,   u = b / |b|,   x = (sum_i g_i . u) u            H the unit rows

    Non-conflicting and linear under positive row scaling at full row rank. Cost: one SVD of the unit rows.

    Parameters
    ----------
    preference : sequence of m numbers, optional
        Wanted cosines up to a common factor; all equal if not given.
    """

    preference: Any = None
    card = Card("ConFIG", "liu2025config", "exact")

    def coefficients(self, rows, *rng):
        xp = array_namespace(rows.unit)
        b, c = equal_projection(rows, preference(self.preference, rows) + xp.zeros_like(rows.norm))
        square = xp.sum(b * b, axis=-1, keepdims=True)
        length = xp.sum(rows.scale * (rows.unit @ b[..., None])[..., 0], axis=-1, keepdims=True)
        return divide(c * divide(length, square), rows.norm)
