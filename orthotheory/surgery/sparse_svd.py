"""Truncated-SVD updating with sparse columns: the work grows with their nonzeros, not with the size of the matrix."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from ..polar.svd import thin_svd
from .subspace import _check_rank, truncated_svd

REFRESH = 1e6  # condition of a mixing factor above which the basis is multiplied out


class FactoredSVD(NamedTuple):
    """A_k = (base mix) diag(s) (right_base right_mix)^T, the singular vectors as products that are not multiplied out.

    `work` counts the multiplications so far. Host arrays: a sparse update touches the rows of its nonzeros alone.
    """

    base: np.ndarray  # (m, k)
    mix: np.ndarray  # (k, k)
    s: np.ndarray  # (k,)
    right_base: np.ndarray  # (n, k)
    right_mix: np.ndarray  # (k, k)
    discarded: float  # sum of the norms dropped, an upper bound of |A - A_k|_F
    work: int

    def left(self) -> np.ndarray:
        """Return U, multiplied out."""
        return self.base @ self.mix

    def right(self) -> np.ndarray:
        """Return V, multiplied out."""
        return self.right_base @ self.right_mix


def factored_svd(a: np.ndarray, rank: int) -> FactoredSVD:
    """Return the leading `rank` triplets of a host matrix (m, n) of at least this rank, to be updated."""
    u, s, vh, discarded = truncated_svd(a, rank)
    if len(s) < rank or not s[-1] > 0:
        raise ValueError(f"factored_svd needs a matrix of rank at least {rank}; start with more columns.")
    eye = np.eye(rank, dtype=u.dtype)
    return FactoredSVD(u, eye, s, vh.T.copy(), eye, float(discarded), 0)


def append_sparse_columns(factors: FactoredSVD, columns: Any) -> FactoredSVD:
    """Return the truncated SVD of [A_k, E] for sparse columns E (a SciPy sparse matrix), without a dense pass over U.

        C = U^T E,   G = E^T E - C^T C = W L W^T,   Q = (E - U C) W L^(-1/2)   (never formed)
        [[S, C], [0, L^(1/2) W^T]] = F T K^T,   U <- U (F_1 - C Z) + E Z,   Z = W L^(-1/2) F_2

    Notes
    -----
    U = base mix: the first term changes mix, the second adds E Z mix^-1 to the rows of base where E has nonzeros; V
    likewise. The Gram matrix squares the condition of what is new: directions below sqrt(eps) |E| count as known, spans
    are right to that, and U loses orthonormality by eps over the squared sine of a new column to the old span, where
    the dense `append_columns` loses eps. The rank stays that of the factors. A mixing factor of condition above 1e6 is
    multiplied out. Work: nnz (2 k + c) + O((k + c)^3) multiplications, against O(m (k + c)^2); base is copied, not
    changed. Reconstructed from the abstract of [deng2024fast].
    """
    from scipy import sparse

    base, mix, s, right_base, right_mix, discarded, work = factors
    k = len(s)
    _check_rank(k)
    if not sparse.issparse(columns):
        raise TypeError(f"append_sparse_columns needs a SciPy sparse matrix; got {type(columns).__name__}.")
    if columns.shape[0] != len(base) or columns.dtype != base.dtype:
        raise ValueError(
            f"append_sparse_columns needs columns ({len(base)}, c) of dtype {base.dtype}; got {columns.shape} "
            f"{columns.dtype}."
        )
    e = columns.tocsr()
    rows = np.flatnonzero(np.diff(e.indptr))  # the only rows of U that are read or written
    e, c = e[rows], columns.shape[1]
    if not np.isfinite(e.data).all():
        raise ValueError("append_sparse_columns needs finite entries; one is infinite or not a number.")
    inside = mix.T @ (e.T @ base[rows]).T
    gram = (e.T @ e).toarray() - inside.T @ inside
    values, vectors = np.linalg.eigh((gram + gram.T) / 2)
    floor = float(np.finfo(base.dtype).eps) * max(float((e.multiply(e)).sum()), np.finfo(float).tiny)
    new = values > floor
    root = np.sqrt(values[new])
    core = np.block([[np.diag(s), inside], [np.zeros((int(new.sum()), k)), root[:, None] * vectors[:, new].T]])
    f, t, kh = thin_svd(core.astype(base.dtype))
    z = (vectors[:, new] / root) @ f[k:, :k]
    mix = mix @ (f[:k, :k] - inside @ z)
    right_mix = right_mix @ kh[:k, :k].T
    base, mix, more = _add_rows(base, mix, rows, e @ z)
    right_base = np.concatenate([right_base, np.zeros((c, k), dtype=base.dtype)])
    last = np.arange(len(right_base) - c, len(right_base))
    right_base, right_mix, again = _add_rows(right_base, right_mix, last, kh[:k, k:].T)
    work += e.nnz * (2 * k + c) + 20 * (k + c) ** 3 + 10 * c**3 + 8 * k**3 + 3 * c * k * (k + c) + more + again
    dropped = float(np.linalg.norm(t[k:]))
    return FactoredSVD(base, mix, t[:k], right_base, right_mix, discarded + dropped, work)


def _add_rows(base: np.ndarray, mix: np.ndarray, rows: np.ndarray, added: np.ndarray) -> tuple:
    """Return the factors of base mix with `added` on some rows, and the extra work where they are multiplied out."""
    extra = 0
    if np.linalg.cond(mix) > REFRESH:
        base, mix, extra = base @ mix, np.eye(len(mix), dtype=base.dtype), base.size * len(mix)
    else:
        base = base.copy()
    base[rows] += np.linalg.solve(mix.T, added.T).T
    return base, mix, extra


def dense_work(m: int, n: int, k: int, c: int) -> int:
    """Return the multiplications of `append_columns` for c columns: two projections, a QR, the core, both products."""
    return 4 * m * k * c + 2 * m * c * c + 20 * (k + c) ** 3 + m * (k + c) * k + n * k * k


__all__ = ["FactoredSVD", "append_sparse_columns", "dense_work", "factored_svd"]
