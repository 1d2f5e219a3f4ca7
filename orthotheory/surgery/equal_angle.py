"""Directions that make equal angles with all gradients."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

from ..arrays import Array, array_namespace
from ..polar.svd import svd_of_moderate
from . import doubled
from .compensated import dot
from .cone import flat, put
from .contract import Card, Rows, Weighted, divide, preference

Length = Literal["projections", "shortest", "longest", "harmonic", "arithmetic", "geometric"]
LENGTHS = ("projections", "shortest", "longest", "harmonic", "arithmetic", "geometric")
WELL = 1e-2  # s_min / s_1 of the unit rows from which one SVD is enough


class EqualProjection(NamedTuple):
    """b = H^+ p for the unit rows H, (..., n), and a + a_low with b = (a + a_low) @ rows.unit, (..., m)."""

    b: Array
    a: Array
    a_low: Array


def equal_projection(rows: Rows, p: Array) -> EqualProjection:
    """Solve H b = p with least norm, in least squares where the rows are dependent.

    Zero rows take no part. Singular values up to max(m, n) eps s_1 count as zero, and so does a b of 32 m eps |p|, as
    opposite rows leave it. Independent rows that are ill-conditioned are solved again on the Gramian in 32 digits, so
    that b and sum(a) are accurate to rounding up to cond(H) of about 1e8. Cost: one SVD.
    """
    xp = array_namespace(rows.unit)
    *batch, m, n = rows.unit.shape
    items = flat(rows)
    alive = items.norm > 0
    p = xp.reshape(p + xp.zeros_like(rows.norm), items.norm.shape)
    p = xp.where(alive, p, xp.zeros_like(p))
    h = divide(items.unit, items.norm[..., None] + xp.zeros_like(items.unit))
    u, s, vh = svd_of_moderate(h)
    y = divide((xp.matrix_transpose(u) @ p[..., None])[..., 0], s)
    size, wanted = (xp.sqrt(xp.sum(a * a, axis=-1, keepdims=True)) for a in (y, p))
    y = xp.where(size > 32 * m * float(xp.finfo(p.dtype).eps) * wanted, y, xp.zeros_like(y))
    b = (xp.matrix_transpose(vh) @ y[..., None])[..., 0]
    a = divide((u @ divide(y, s)[..., None])[..., 0], items.norm)
    low = xp.zeros_like(a)
    rank, rows_alive = (xp.sum(xp.astype(t, s.dtype), axis=-1) for t in (s > 0, alive))
    least = xp.min(xp.where(s > 0, s, s[:, :1]), axis=-1)
    hard = (rank == rows_alive) & (least < WELL * s[:, 0])
    index = xp.nonzero(hard)[0]
    if index.shape[0]:
        unit, wanted, active = (xp.take(value, index, axis=0) for value in (items.unit, p, alive))
        square = doubled.gram(unit)
        (exact,), kept = doubled.solve(square, [square.diagonal().sqrt() * wanted], active)
        good = xp.all(kept | ~active, axis=-1)
        before = (xp.take(value, index, axis=0) for value in (b, a, low))
        after = (doubled.combine(exact, unit), exact.high, exact.low)
        new = (xp.where(good[:, None], *pair) for pair in zip(after, before, strict=True))
        b, a, low = (put(total, index, value) for total, value in zip((b, a, low), new, strict=True))
    shapes = (*batch, m)
    return EqualProjection(xp.reshape(b, (*batch, n)), xp.reshape(a, shapes), xp.reshape(low, shapes))


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
        found, factor = self._solve(rows)
        return factor * found.a

    def point(self, rows, *rng):
        found, factor = self._solve(rows)
        return factor * found.b

    def _solve(self, rows: Rows) -> tuple[EqualProjection, Array]:
        """Return b and 1 / sum(v) in units of the shortest row; v_i = a_i / scale_i is not rounded."""
        xp = array_namespace(rows.unit)
        found = equal_projection(rows, xp.ones_like(rows.norm))
        low = xp.min(xp.where(rows.scale > 0, rows.scale, xp.full_like(rows.scale, 2.0)), axis=-1, keepdims=True)
        v, v_low = divide(found.a * low, rows.scale), divide(found.a_low * low, rows.scale)
        total, tail = dot(v, xp.ones_like(v))
        total = (total + (tail + xp.sum(v_low, axis=-1)))[..., None]
        vanishes = xp.abs(total) <= 1e-12 * xp.sum(xp.abs(v), axis=-1, keepdims=True)
        total = xp.abs(total) if self.sign_safe else total
        return found, xp.where(vanishes, xp.zeros_like(total), low / xp.where(vanishes, xp.ones_like(total), total))


def common_length(lengths: Array, kind: Length) -> Array:
    """Return the least, the largest or a mean of the positive numbers among `lengths`, (..., m) to (..., 1).

    0 where all are zero.
    """
    xp = array_namespace(lengths)
    alive = lengths > 0
    longest = xp.max(lengths, axis=-1, keepdims=True)
    shortest = xp.min(xp.where(alive, lengths, longest), axis=-1, keepdims=True)
    if kind in ("shortest", "longest"):
        return shortest if kind == "shortest" else longest
    count = xp.sum(xp.astype(alive, lengths.dtype), axis=-1, keepdims=True)
    if kind == "arithmetic":
        return divide(xp.sum(lengths, axis=-1, keepdims=True), count)
    if kind == "harmonic":
        return divide(count * shortest, xp.sum(divide(shortest, lengths), axis=-1, keepdims=True))
    logs = xp.where(alive, xp.log(xp.where(alive, lengths, xp.ones_like(lengths))), xp.zeros_like(lengths))
    mean = xp.exp(divide(xp.sum(logs, axis=-1, keepdims=True), count))
    return xp.where(count > 0, mean, xp.zeros_like(mean))


@dataclass(frozen=True)
class ConFIG(Weighted):
    """Conflict-free inverse gradients: the direction of given cosines, as long as the gradients' projections together.

        b = H^+ p,   u = b / |b|,   x = (sum_i l_i cos(g_i, u)) u            H the unit rows,  l_i = |g_i| or one length

    Non-conflicting at full row rank, and there linear under positive row scaling for l_i = |g_i|. Cost: one SVD of the
    unit rows.

    Parameters
    ----------
    preference : sequence of m numbers, optional
        Wanted cosines up to a common factor; all equal if not given.
    length : "projections", "shortest", "longest", "harmonic", "arithmetic" or "geometric"
        l_i: the row's own length, or for all rows the least, the largest or that mean of their lengths.
    """

    preference: Any = None
    length: Length = "projections"
    card = Card("ConFIG", "liu2025config", "exact", "a zero row takes no part, also in a common length")

    def __post_init__(self):
        if self.length not in LENGTHS:
            raise ValueError(f"ConFIG.length must be one of {', '.join(LENGTHS)}; got {self.length!r}.")

    def coefficients(self, rows, *rng):
        found, factor = self._solve(rows)
        return factor * found.a

    def point(self, rows, *rng):
        found, factor = self._solve(rows)
        return factor * found.b

    def _solve(self, rows: Rows) -> tuple[EqualProjection, Array]:
        xp = array_namespace(rows.unit)
        found = equal_projection(rows, preference(self.preference, rows))
        along = (rows.unit @ found.b[..., None])[..., 0]
        if self.length == "projections":
            parts = rows.scale * along
        else:
            parts = common_length(rows.length, self.length) * divide(along, rows.norm)
        length = xp.sum(parts, axis=-1, keepdims=True)
        return found, divide(length, xp.sum(found.b**2, axis=-1, keepdims=True))
