"""Subspaces that grow with the tasks: an orthonormal basis, its complement, energy rules and truncated-SVD updating."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

from ..arrays import (
    Array,
    array_namespace,
    check_matrix,
    check_number,
    device_of,
    dtype_name,
    frobenius,
    magnitude,
    to_host,
)
from ..names import closest
from ..polar.svd import thin_svd
from .contract import divide

Side = Literal["left", "right"]


@dataclass(frozen=True)
class Subspace:
    """A subspace of R^n by an orthonormal basis M (n, r), and the projections on it and on its complement.

        side "right":  X (I - M M^T) keeps X x for x in the subspace (inputs of a linear layer, weights (out, n))
        side "left":   (I - M M^T) X keeps M^T X only

    `Subspace.empty(n, like=x)` is where a sequence of tasks starts. One subspace, no batch: ranks differ.
    """

    basis: Array

    def __post_init__(self) -> None:
        b = self.basis
        if b.ndim != 2 or b.shape[0] < 1 or b.shape[1] > b.shape[0]:
            raise ValueError(f"Subspace needs an orthonormal basis (n, r) with r <= n; got shape {tuple(b.shape)}.")

    @classmethod
    def empty(cls, n: int, *, like: Array) -> Subspace:
        """Return the zero subspace of R^n, of the kind, dtype and device of `like`."""
        xp = array_namespace(like)
        return cls(xp.zeros((n, 0), dtype=like.dtype, device=device_of(like)))

    @property
    def dimension(self) -> int:
        """The dimension r."""
        return self.basis.shape[1]

    @property
    def capacity(self) -> int:
        """The dimension n - r of the complement: what later tasks may still use."""
        return self.basis.shape[0] - self.basis.shape[1]

    def inside(self, x: Array, side: Side = "right") -> Array:
        """Return X M M^T (right) or M M^T X (left)."""
        self._check(x, side)
        if not self.dimension:
            return array_namespace(x).zeros_like(x)
        return (x @ self.basis) @ self.basis.mT if side == "right" else self.basis @ (self.basis.mT @ x)

    def outside(self, x: Array, side: Side = "right") -> Array:
        """Return X (I - M M^T) or (I - M M^T) X, projected twice: the error is one rounding of |X|."""
        once = x - self.inside(x, side)
        return once - self.inside(once, side)

    def extend(self, vectors: Array) -> Subspace:
        """Return the span with further columns (n, k); those already inside, to rounding, are dropped.

        Columns are measured after scaling to unit length, so that no long one hides a short one.
        """
        self._check(vectors, "left")
        _check_finite(vectors, "Subspace.extend")
        xp = array_namespace(vectors)
        rows = magnitude(vectors.mT, axes=1).normalize(vectors.mT)
        unit = divide(rows, xp.linalg.vector_norm(rows, axis=-1, keepdims=True)).mT
        new = self.outside(unit, "left")
        u, s, _ = thin_svd(new)
        # what is left of a unit vector inside the subspace is rounding, at most a few eps in each of n entries
        floor = 8 * max(unit.shape) * float(xp.finfo(unit.dtype).eps)
        return self._append(u[:, : int(xp.sum(xp.astype(s > floor, xp.int64)))])

    def extend_by_energy(self, activations: Array, energy: float) -> Subspace:
        """Return the span with the leading left singular vectors of what is new, until `energy` of |A|_F^2 is inside.

        r = min {r : |M M^T A|^2 + s_1^2 + ... + s_r^2 >= energy |A|^2},   s of (I - M M^T) A

        `energy` = 1 takes all that is above rounding.
        """
        self._check(activations, "left")
        _check_finite(activations, "Subspace.extend_by_energy")
        check_number(energy, "energy", high=1.0)
        xp = array_namespace(activations)
        a = divide(activations, xp.max(xp.abs(activations)))
        new = self.outside(a, "left")
        u, s, _ = thin_svd(new)
        total = float(xp.sum(a * a))
        s2 = to_host(s * s).astype(float)
        floor = (8 * max(a.shape) * float(xp.finfo(a.dtype).eps)) ** 2 * total
        kept = total - float(xp.sum(new * new))
        count = 0
        while count < len(s2) and s2[count] > floor and (energy == 1.0 or kept < energy * total):
            kept += s2[count]
            count += 1
        return self._append(u[:, :count])

    def defect(self) -> float:
        """Return |M^T M - I|_2, the loss of orthonormality."""
        xp = array_namespace(self.basis)
        if not self.dimension:
            return 0.0
        gram = self.basis.mT @ self.basis
        return float(
            xp.linalg.matrix_norm(gram - xp.eye(self.dimension, dtype=gram.dtype, device=device_of(gram)), ord=2)
        )

    def _append(self, u: Array) -> Subspace:
        xp = array_namespace(self.basis)
        u = u[:, : min(self.capacity, u.shape[1])]
        if not u.shape[1]:
            return self
        q, _ = xp.linalg.qr(self.outside(u, "left"), mode="reduced")  # orthonormal to the basis once more
        return Subspace(xp.concat([self.basis, q], axis=1))

    def _check(self, x: Array, side: Side) -> None:
        closest(side, {"left": 0, "right": 0}, "side")
        check_matrix(x, "Subspace")
        n = self.basis.shape[0]
        if x.shape[-1 if side == "right" else -2] != n or x.dtype != self.basis.dtype:
            wanted = f"(..., m, {n})" if side == "right" else f"(..., {n}, k)"
            raise ValueError(
                f"A subspace of R^{n} acts on the {side} of a matrix {wanted} of dtype {dtype_name(self.basis)}; "
                f"got {tuple(x.shape)} {dtype_name(x)}."
            )


def _check_finite(x: Array, who: str) -> None:
    xp = array_namespace(x)
    if not bool(xp.all(xp.isfinite(x))):
        raise ValueError(f"{who} needs finite vectors; an entry is infinite or not a number. Leave that sample out.")


def principal_angles(a: Array, b: Array) -> Array:
    """Return the principal angles between the spans of orthonormal columns (n, p) and (n, q), ascending.

    From the sine where it is small and the cosine elsewhere, so that both ends are accurate [bjorck1973numerical].
    """
    xp = array_namespace(a, b)
    if a.shape[-1] < b.shape[-1]:
        a, b = b, a
    cos = xp.linalg.svd(a.mT @ b, full_matrices=False).S
    sin = xp.flip(xp.linalg.svd(b - a @ (a.mT @ b), full_matrices=False).S, axis=-1)
    one = xp.ones_like(cos)
    return xp.where(cos * cos < 0.5, xp.acos(xp.minimum(cos, one)), xp.asin(xp.minimum(sin, one)))


def count_below_energy(s: Array, energy: float) -> int:
    """Return #{r : (s_1^2 + ... + s_r^2) / |s|^2 < energy}: the rank that GPM's code keeps after its first task.

    One less than the smallest rank that reaches the energy, which is the rule of its text.
    """
    s2 = to_host(s).astype(float) ** 2
    total = s2.sum()
    return 0 if total == 0 else int(((s2.cumsum() / total) < energy).sum())


class TruncatedSVD(NamedTuple):
    """A_k = u diag(s) vh, and how much all truncations so far may have lost."""

    u: Array  # (..., m, k)
    s: Array  # (..., k)
    vh: Array  # (..., k, n)
    discarded: Array  # (...), sum of the Frobenius norms dropped, an upper bound of |A - A_k|_F


def truncated_svd(a: Array, rank: int) -> TruncatedSVD:
    """Return the leading `rank` triplets of each matrix and the norm of the rest."""
    _check_rank(rank)
    check_matrix(a, "truncated_svd")
    u, s, vh = thin_svd(a)
    kept = min(rank, s.shape[-1])
    return TruncatedSVD(u[..., :kept], s[..., :kept], vh[..., :kept, :], _tail(s, kept))


def append_columns(factors: TruncatedSVD, columns: Array, rank: int) -> TruncatedSVD:
    """Return the truncated SVD of [A_k, E] from that of A_k, without forming it.

        Q R = (I - U U^T) E,   [[S, U^T E], [0, R]] = F T K^T,   U <- [U, Q] F,   V <- blkdiag(V, I) K

    Notes
    -----
    Exact for [A_k, E]; after any number of updates |A - A_k|_F <= `discarded`, the sum of the norms that the
    truncations dropped, theorem `svd-update-error` [zha1999updating, brand2006fast]. The projection is done twice, and
    U is orthonormal to a few eps an update. A zero singular value comes with zero vectors: beyond the rank QR would
    make directions up. Cost: one QR of (m, c) and one SVD of order k + c for c columns, against an SVD of (m, n + c).
    """
    _check_rank(rank)
    check_matrix(columns, "append_columns")
    u, s, vh, discarded = factors
    if columns.shape[:-1] != u.shape[:-1] or columns.dtype != u.dtype:
        raise ValueError(f"append_columns needs columns {tuple(u.shape[:-1])} + (c,); got {tuple(columns.shape)}.")
    xp = array_namespace(u)
    inside = u.mT @ columns
    rest = columns - u @ inside
    correction = u.mT @ rest
    q, r = xp.linalg.qr(rest - u @ correction, mode="reduced")
    k, c = s.shape[-1], columns.shape[-1]
    batch = s.shape[:-1]
    diagonal = s[..., None] * xp.eye(k, dtype=s.dtype, device=device_of(s))
    corner = xp.zeros((*batch, r.shape[-2], k), dtype=s.dtype, device=device_of(s))
    core = xp.concat([xp.concat([diagonal, inside + correction], axis=-1), xp.concat([corner, r], axis=-1)], axis=-2)
    f, t, kh = thin_svd(core)
    kept = min(rank, t.shape[-1])
    there = xp.astype(t[..., :kept] > 0, t.dtype)
    left = (xp.concat([u, q], axis=-1) @ f[..., :kept]) * there[..., None, :]
    n = vh.shape[-1]
    eye = xp.broadcast_to(xp.eye(c, dtype=s.dtype, device=device_of(s)), (*batch, c, c))
    zeros_right = xp.zeros((*batch, k, c), dtype=s.dtype, device=device_of(s))
    zeros_left = xp.zeros((*batch, c, n), dtype=s.dtype, device=device_of(s))
    extended = xp.concat([xp.concat([vh, zeros_right], axis=-1), xp.concat([zeros_left, eye], axis=-1)], axis=-2)
    return TruncatedSVD(
        left, t[..., :kept], there[..., None] * (kh[..., :kept, :] @ extended), discarded + _tail(t, kept)
    )


def _tail(s: Array, rank: int) -> Array:
    return frobenius(s[..., None, rank:]) if s.shape[-1] > rank else 0 * s[..., 0]


def frequent_directions(sketch: Array, rows: Array) -> Array:
    """Return a sketch B (l, n) of all rows so far: stack, then shrink the squared singular values by the (l+1)-st.

    0 <= A^T A - B^T B, and |A^T A - B^T B|_2 <= |A - A_j|_F^2 / (l + 1 - j) for every j <= l
    [ghashami2016frequent]. Start with zeros.
    """
    check_matrix(sketch, "frequent_directions (sketch)")
    check_matrix(rows, "frequent_directions (rows)")
    if rows.shape[-1] != sketch.shape[-1] or rows.dtype != sketch.dtype:
        raise ValueError(
            f"frequent_directions needs rows (..., k, {sketch.shape[-1]}) of dtype {dtype_name(sketch)}; "
            f"got {tuple(rows.shape)} {dtype_name(rows)}."
        )
    xp = array_namespace(sketch)
    size = sketch.shape[-2]
    _, s, vh = thin_svd(xp.concat([sketch, rows], axis=-2))
    if s.shape[-1] < size:  # fewer columns than sketch rows: nothing has to go
        missing = xp.zeros((*s.shape[:-1], size - s.shape[-1], sketch.shape[-1]), dtype=s.dtype, device=device_of(s))
        return xp.concat([s[..., None] * vh, missing], axis=-2)
    last = s[..., size : size + 1] if s.shape[-1] > size else 0 * s[..., :1]
    kept = s[..., :size]
    shrunk = xp.sqrt(xp.clip((kept - last) * (kept + last), 0.0, None))
    return shrunk[..., None] * vh[..., :size, :]


def _check_rank(rank: int) -> None:
    if not isinstance(rank, int) or rank < 1:
        raise ValueError(f"rank must be a positive integer; got {rank!r}.")


__all__ = [
    "Side",
    "Subspace",
    "TruncatedSVD",
    "append_columns",
    "count_below_energy",
    "frequent_directions",
    "principal_angles",
    "truncated_svd",
]
