"""UPGrad of many small Jacobians in few passes: compiled where numba is installed, and the same in array operations.

Both work on the Gramian alone and mark the Jacobians that it does not settle: rows of extreme length, a pivot below
`cone.PIVOT`, a cycle, or an entry that is not finite. The general solver takes those.
"""

from __future__ import annotations

import functools
from typing import Literal

import numpy as np

from .. import kernels
from ..arrays import Array, array_namespace, backend_of, device_of
from .cone import PIVOT, chunks
from .pivoting import LANE_BYTES, Normal, pivot

Kernel = Literal["auto", "numba", "numpy"]
SMALL, LARGE = 1e-200, 1e200  # squared lengths between them neither overflow nor vanish in what follows
WORTH_COMPILING = 256  # Jacobians
FEW = 8  # rows whose systems are written out entry by entry
BLOCK = 4096  # Jacobians whose cosines fit a core's second cache


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
    if on_host and m <= FEW:
        x, undone = np.empty((b, n)), np.empty(b, bool)
        for start in range(0, b, BLOCK):
            s = slice(start, min(start + BLOCK, b))
            _few(j[s], share, x[s], undone[s])
        return x, undone
    parts = [_part(j[s, :, :], share) for s in chunks(b, max(64, LANE_BYTES // (8 * m * max(n, (m - 1) ** 2))), j)]
    return xp.concat([p[0] for p in parts]), xp.concat([p[1] for p in parts])


def _few(j: np.ndarray, share: np.ndarray, x: np.ndarray, undone: np.ndarray) -> None:
    """Do a block of NumPy arrays: the first sweep of each row without gathering, the rest by `pivot`."""
    b, m, _ = j.shape
    with np.errstate(over="ignore", invalid="ignore"):  # what overflows is left undone
        if m < 6:
            c = np.empty((m, m, b))
            for i in range(m):
                for k in range(i + 1):
                    np.vecdot(j[:, i], j[:, k], out=c[k, i])
                    c[i, k] = c[k, i]
        else:
            c = np.ascontiguousarray((j @ np.swapaxes(j, 1, 2)).transpose(1, 2, 0))
    square = c[range(m), range(m)]
    undone[:] = ~np.all((square > SMALL) & (square < LARGE), axis=0)
    square[:, undone] = 1.0
    d = np.sqrt(square)
    inverse = 1 / d
    for i in range(m):
        for k in range(i):
            c[i, k] *= inverse[i]
            c[i, k] *= inverse[k]
            c[i, k][undone] = 0.0
            c[k, i] = c[i, k]
        c[i, i] = 1.0
    total, left = np.zeros((m, b)), []
    for i in range(m):
        v, solved = _first_sweep(c, i)
        reach = np.where(solved, share[i] * d[i], 0.0)
        for k, value in v.items():
            total[k] += reach * value
        left.append(np.nonzero(~solved)[0])
    counts = [len(index) for index in left]
    if any(counts):
        rest = [np.array([k for k in range(m) if k != i]) for i in range(m)]
        inner = np.concatenate([c[np.ix_(rest[i], rest[i], left[i])] for i in range(m)], axis=2)
        outer = np.concatenate([c[i][np.ix_(rest[i], left[i])] for i in range(m)], axis=1)
        found = pivot(Normal(inner, outer), sum(counts), m - 1)
        hard = ~(found.solved & (found.least >= PIVOT))
        for i, lanes in enumerate(np.split(np.arange(sum(counts)), np.cumsum(counts)[:-1])):
            undone[left[i][hard[lanes]]] = True
            for at, k in enumerate(rest[i]):
                total[k, left[i]] += share[i] * d[i, left[i]] * found.v[at, lanes]
    w = share[:, None] + inverse * total
    with np.errstate(over="ignore", invalid="ignore"):
        np.vecmat(w.T, j, out=x)


def _first_sweep(c: np.ndarray, i: int) -> tuple[dict[int, np.ndarray], np.ndarray]:
    """Solve C_FF v = -c_F on the support F of negative cosines with row i; return v and where it is the solution."""
    m = c.shape[0]
    rest = [k for k in range(m) if k != i]
    inside = {k: c[i, k] < 0 for k in rest}
    a = {(p, q): np.where(inside[p] & inside[q], c[p, q], 0.0) for p in rest for q in rest if q < p}
    a |= {(p, p): np.ones_like(c[i, i]) for p in rest}
    z = {p: np.where(inside[p], -c[i, p], 0.0) for p in rest}
    least, inverse, low = np.ones_like(c[i, i]), {}, {}
    for at, k in enumerate(rest):
        np.minimum(least, a[k, k], out=least)
        inverse[k] = 1 / np.maximum(a[k, k], PIVOT)
        for r in rest[at + 1 :]:
            low[r, k] = a[r, k] * inverse[k]
            for q in rest[at + 1 : rest.index(r) + 1]:
                a[r, q] -= low[r, k] * a[q, k]
            z[r] -= low[r, k] * z[k]
    v: dict[int, np.ndarray] = {}
    for k in reversed(rest):
        v[k] = z[k] * inverse[k]
        for r in v:
            if r > k:
                v[k] -= low[r, k] * v[r]
    largest = np.zeros_like(least)
    for value in v.values():
        np.maximum(largest, np.abs(value), out=largest)
    slack = -4 * m * np.finfo(float).eps * (1 + largest)
    solved = least >= PIVOT
    for p in rest:
        y = +c[i, p]
        for q in rest:
            y += c[p, q] * v[q]
        solved &= np.where(inside[p], v[p], y) >= slack
    return v, solved


@functools.cache
def _others(m: int) -> tuple[np.ndarray, ...]:
    """Return where the systems of the others of each row lie in a Gramian, and where their solutions' entries lie."""
    rest = np.array([[k for k in range(m) if k != i] for i in range(m)])
    inner, outer = rest.T[:, None, :] * m + rest.T[None, :, :], rest.T * m + np.arange(m)
    position = np.array([[k - (k > i) for i in rest[k]] for k in range(m)])  # of row k among the others of row i
    return tuple(index.reshape(-1) for index in (inner, outer, position * m + rest, rest))


def _part(j: Array, share: Array) -> tuple[Array, Array]:
    """The same for a part that fits the cache. The own row of a projection is left out: h_i . x = |x|^2 there."""
    xp = array_namespace(j)
    b, m, _ = j.shape
    native = type(j) is np.ndarray
    with np.errstate(over="ignore", invalid="ignore"):  # what overflows is left undone
        c = +xp.permute_dims(j @ xp.matrix_transpose(j), (1, 2, 0))  # lanes last
    square = xp.stack([c[i, i, :] for i in range(m)])
    undone = ~xp.all((square > SMALL) & (square < LARGE), axis=0)
    d = xp.sqrt(xp.where(undone[None, :], xp.ones_like(square), square))
    inverse = 1 / d
    c = xp.where(undone[None, None, :], xp.zeros_like(c), c * inverse[:, None, :] * inverse[None, :, :])
    where = backend_of(j)
    inner, outer, own, rest = (where.asarray(index) for index in _others(m))
    flat = xp.reshape(c, (m * m, b))
    system = Normal(
        xp.reshape(xp.take(flat, inner, axis=0), (m - 1, m - 1, m * b)),
        xp.reshape(xp.take(flat, outer, axis=0), (m - 1, m * b)),
    )
    found = pivot(system, m * b, m - 1)
    hard = xp.reshape(~(found.solved & (found.least >= PIVOT)), (m, b))
    v = xp.take(xp.reshape(found.v, ((m - 1) * m, b)), own, axis=0)
    reach = xp.take(share[:, None] * d, rest, axis=0)
    w = share[:, None] + inverse * xp.sum(xp.reshape(v * reach, (m, m - 1, b)), axis=1)
    w = xp.permute_dims(w, (1, 0))
    with np.errstate(over="ignore", invalid="ignore"):
        x = np.vecmat(w, j) if native else (w[:, None, :] @ j)[:, 0, :]
    return x, undone | xp.any(hard, axis=0)
