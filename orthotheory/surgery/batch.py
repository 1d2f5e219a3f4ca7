"""UPGrad of many small Jacobians in few passes: compiled where numba is installed, and the same in array operations.

Both work on the Gramian alone and mark the Jacobians that it does not settle: rows of extreme length, a pivot below
`cone.PIVOT`, a cycle, or an entry that is not finite. The general solver takes those.
"""

from __future__ import annotations

from typing import Literal

import numpy as np

from .. import kernels
from ..arrays import Array, array_namespace, backend_of, device_of
from .cone import PIVOT, chunks
from .pivoting import LANE_BYTES, Normal, pivot

Kernel = Literal["auto", "numba", "numpy"]
SMALL, LARGE = 1e-200, 1e200  # squared lengths between them neither overflow nor vanish in what follows
WORTH_COMPILING = 256  # Jacobians


def upgrad(j: Array, share: Array, kernel: Kernel, route: str) -> tuple[Array, Array]:
    """Return sum_i share_i P(g_i) of each Jacobian (b, m, n), and which ones are left undone, (b,)."""
    on_host = type(j) is np.ndarray
    if kernel == "numba" and not (on_host and kernels.compiled()):
        raise RuntimeError(
            "kernel='numba' needs numba and a NumPy array; install orthotheory[fast], or use kernel='numpy'."
        )
    many = kernel == "numba" or (j.shape[0] >= WORTH_COMPILING and j.shape[1] <= 32)
    if on_host and kernel != "numpy" and many and kernels.compiled():
        from ..kernels.cpu import upgrad as compiled

        x, status = np.empty((j.shape[0], j.shape[2])), np.empty(j.shape[0], np.int64)
        compiled(np.ascontiguousarray(j), share, route == "rows", PIVOT, x, status)
        return x, status != 0
    xp = array_namespace(j)
    if route == "rows" or j.shape[1] == 1:
        return +j[:, 0, :], xp.ones((j.shape[0],), dtype=xp.bool, device=device_of(j))
    b, m, n = j.shape
    parts = [_part(j[s, :, :], share) for s in chunks(b, max(64, LANE_BYTES // (8 * m * max(n, (m - 1) ** 2))), j)]
    return xp.concat([p[0] for p in parts]), xp.concat([p[1] for p in parts])


def _part(j: Array, share: Array) -> tuple[Array, Array]:
    """The same for a part that fits the cache. The own row of a projection is left out: h_i . x = |x|^2 there."""
    xp = array_namespace(j)
    b, m, _ = j.shape
    native = type(j) is np.ndarray
    with np.errstate(over="ignore", invalid="ignore"):  # what overflows is left undone
        g = np.vecdot(j[:, :, None, :], j[:, None, :, :]) if native and m < 6 else j @ xp.matrix_transpose(j)
    c = +xp.permute_dims(g, (1, 2, 0))  # lanes last
    square = xp.stack([c[i, i, :] for i in range(m)])
    undone = ~xp.all((square > SMALL) & (square < LARGE), axis=0)
    d = xp.sqrt(xp.where(undone[None, :], xp.ones_like(square), square))
    inverse = 1 / d
    c = xp.where(undone[None, None, :], xp.zeros_like(c), c * inverse[:, None, :] * inverse[None, :, :])
    rest = np.array([[k for k in range(m) if k != i] for i in range(m)])
    where = backend_of(j)
    inner = where.asarray((rest.T[:, None, :] * m + rest.T[None, :, :]).reshape(-1))
    outer = where.asarray((rest.T * m + np.arange(m)).reshape(-1))
    flat = xp.reshape(c, (m * m, b))
    system = Normal(
        xp.reshape(xp.take(flat, inner, axis=0), (m - 1, m - 1, m * b)),
        xp.reshape(xp.take(flat, outer, axis=0), (m - 1, m * b)),
    )
    found = pivot(system, m * b, m - 1)
    hard = xp.reshape(~(found.solved & (found.least >= PIVOT)), (m, b))
    position = np.array([[k - (k > i) for i in rest[k]] for k in range(m)])  # of row k among the others of row i
    v = xp.take(xp.reshape(found.v, ((m - 1) * m, b)), where.asarray((position * m + rest).reshape(-1)), axis=0)
    reach = xp.take(share[:, None] * d, where.asarray(rest.reshape(-1)), axis=0)
    w = share[:, None] + inverse * xp.sum(xp.reshape(v * reach, (m, m - 1, b)), axis=1)
    w = xp.permute_dims(w, (1, 0))
    with np.errstate(over="ignore", invalid="ignore"):
        x = np.vecmat(w, j) if native else (w[:, None, :] @ j)[:, 0, :]
    return x, undone | xp.any(hard, axis=0)
