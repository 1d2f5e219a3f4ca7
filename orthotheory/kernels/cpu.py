"""UPGrad of many small Jacobians by numba: one pass over each Jacobian, its quadratic programs in registers and cache.

The reference is `surgery.dual_cone`; an item whose pivots or signs leave a doubt is marked and left to it.
"""

from __future__ import annotations

import math

import numba as nb
import numpy as np

from .lanes import EPS, LANES, LARGE, MOST, SMALL, combination, first_sweeps, inner_products

CHUNKS = 64
FAST = {"reassoc", "contract", "nsz"}


@nb.njit
def _least_squares(r, m, i, index, size, q, t, v, rest):
    """Solve min |R_F v + r_i| by modified Gram-Schmidt; return the smallest squared pivot, and R v + r_i in `rest`."""
    least = 1.0
    for e in range(m):
        rest[e] = r[e, i]
    for a in range(size):
        for e in range(m):
            q[a, e] = r[e, index[a]]
    for a in range(size):
        s = 0.0
        for e in range(m):
            s += q[a, e] * q[a, e]
        if s < least:
            least = s
        if s <= 1e-24:
            return s
        t[a, a] = math.sqrt(s)
        for e in range(m):
            q[a, e] /= t[a, a]
        for b in range(a + 1, size):
            s = 0.0
            for e in range(m):
                s += q[a, e] * q[b, e]
            t[a, b] = s
            for e in range(m):
                q[b, e] -= s * q[a, e]
        s = 0.0
        for e in range(m):
            s -= q[a, e] * rest[e]
        v[a] = s
        for e in range(m):
            rest[e] += s * q[a, e]
    for a in range(size - 1, -1, -1):
        s = v[a]
        for b in range(a + 1, size):
            s -= t[a, b] * v[b]
        v[a] = s / t[a, a]
    return least


@nb.njit(fastmath=FAST)
def _factor(j, d, q, r):
    """Modified Gram-Schmidt of the unit rows: rows = R^T Q with R upper triangular."""
    m, n = j.shape
    for k in range(m):
        a, row = q[k], j[k]
        scale = 1.0 / d[k] if d[k] > 0.0 else 0.0
        for t in range(n):
            a[t] = row[t] * scale
    for k in range(m):
        a = q[k]
        s = 0.0
        for t in range(n):
            s += a[t] * a[t]
        r[k, k] = math.sqrt(s)
        scale = 1.0 / r[k, k] if r[k, k] > 1e-15 else 0.0
        for t in range(n):
            a[t] *= scale
        for e in range(k):
            r[k, e] = 0.0
        for e in range(k + 1, m):
            other = q[e]
            s = 0.0
            for t in range(n):
                s += a[t] * other[t]
            r[k, e] = s
            for t in range(n):
                other[t] -= s * a[t]


@nb.njit(fastmath=FAST)
def _gramian(j, d, c):
    """Write the row norms and the cosines; return whether every row is zero or of moderate length."""
    m, n = j.shape
    for i in range(m):
        a = j[i]
        for k in range(0, i, 2):  # two at a time: a row is read once for both; c[i, i] may be written twice
            e, f = j[k], j[k + 1]
            s, r = 0.0, 0.0
            for t in range(n):
                s += a[t] * e[t]
                r += a[t] * f[t]
            c[i, k], c[i, k + 1] = s, r
        if i % 2 == 0:
            s = 0.0
            for t in range(n):
                s += a[t] * a[t]
            c[i, i] = s
    for i in range(m):
        s = c[i, i]
        if not (SMALL < s < LARGE):
            if s != 0.0:
                return False
            for t in range(n):
                if j[i, t] != 0.0:
                    return False
            d[i] = 0.0
        else:
            d[i] = math.sqrt(s)
    for i in range(m):
        c[i, i] = 1.0
        for k in range(i):
            both = d[i] * d[k]
            s = c[i, k] / both if both > 0.0 else 0.0
            c[i, k] = s
            c[k, i] = s
    return True


@nb.njit(fastmath=FAST)
def _combine(j, w, x):
    """Write sum_i w_i j_i."""
    m, n = j.shape
    row, s = j[0], w[0]
    for t in range(n):
        x[t] = s * row[t]
    for i in range(1, m):
        row, s = j[i], w[i]
        for t in range(n):
            x[t] += s * row[t]


@nb.njit(fastmath=FAST, inline="always")
def _solve(i, c, r, by_rows, pivot, factored, size, members, square, low, v, rest):
    """Project unit row i by block principal pivoting; its own constraint is never needed: h_i . x = |x|^2 there.

    Supports are bit masks, and rows with equal supports share a Cholesky factor. Returns the support that is factored,
    its size and whether this failed: a pivot too small, or a cycle.
    """
    m = c.shape[0]
    mask = 0
    for k in range(m):
        if c[i, k] < 0.0:
            mask |= 1 << k
    best, patience, sweep = m + 1, 3, 0
    while True:
        if mask != factored or by_rows:
            size, least = 0, 1.0
            for k in range(m):
                if (mask >> k) & 1:
                    members[size] = k
                    size += 1
            if by_rows:
                least = _least_squares(r, m, i, members, size, square, low, v, rest)
            else:
                for a in range(size):
                    ia = members[a]
                    s = 1.0
                    for e in range(a):
                        z = c[ia, members[e]]
                        for f in range(e):
                            z -= low[a, f] * low[e, f]
                        z *= low[e, e]
                        low[a, e] = z
                        s -= z * z
                    least = min(least, s)
                    if s < pivot:
                        break
                    low[a, a] = 1.0 / math.sqrt(s)
            factored = mask
            if least < pivot:
                return factored, size, True
        largest = 0.0
        if not by_rows:
            for a in range(size):
                s = -c[i, members[a]]
                for e in range(a):
                    s -= low[a, e] * v[e]
                v[a] = s * low[a, a]
            for a in range(size - 1, -1, -1):
                s = v[a]
                for e in range(a + 1, size):
                    s -= low[e, a] * v[e]
                v[a] = s * low[a, a]
        for a in range(size):
            largest = max(largest, abs(v[a]))
        slack = -4 * m * EPS * (1 + largest)
        wrong, bad, last = 0, 0, 0
        for a in range(size):
            if v[a] < slack:
                wrong |= 1 << members[a]
                bad += 1
                last = members[a]
        for k in range(m):
            if k != i and not ((mask >> k) & 1):
                y = 0.0
                if by_rows:
                    for e in range(m):
                        y += r[e, k] * rest[e]
                else:
                    y = c[i, k]
                    for e in range(size):
                        y += c[k, members[e]] * v[e]
                if y < slack:
                    wrong |= 1 << k
                    bad += 1
                    last = max(last, k)
        if wrong == 0:
            return factored, size, False
        if bad < best:
            best, patience = bad, 3
        else:
            patience -= 1
        mask ^= wrong if patience >= 0 else 1 << last
        sweep += 1
        if sweep > 4 * m + 12:
            return factored, size, True


@nb.njit(parallel=True, cache=True, fastmath=FAST)
def upgrad(j, share, by_rows, pivot, x, status):
    """Write sum_i share_i P(g_i) of each Jacobian (b, m, n) to x (b, n).

    Up to eight rows, eight Jacobians at a time: their first sweeps run in vector registers, and what is not solved
    then, or has rows of extreme length, is solved alone. Status 0: done; 1: left to the reference, for its scale, its
    condition or a cycle.
    """
    count, m, n = j.shape
    lanes = LANES if 2 <= m <= MOST and not by_rows else 1
    blocks = -(-count // lanes)
    for chunk in nb.prange(CHUNKS):
        d, w, v, rest = np.empty(m), np.empty(m), np.empty(m), np.empty(m)
        c, r, square, low = np.empty((m, m)), np.empty((m, m)), np.empty((m, m)), np.empty((m, m))
        q = np.empty((m, n)) if by_rows else np.empty((1, 1))
        members, todo = np.empty(m, np.int64), np.zeros(m + 1, np.int64)
        pairs = m * (m + 1) // 2 if lanes > 1 else 1
        partial, cosines = np.empty((pairs, LANES, LANES)), np.empty((pairs, LANES))
        norms, weights = np.empty((m, LANES)), np.empty((m, LANES))
        for block in range(chunk * blocks // CHUNKS, (chunk + 1) * blocks // CHUNKS):
            first = block * lanes
            left = 0
            todo[m] = -1
            if lanes > 1 and first + lanes <= count:
                for lane in range(LANES):
                    inner_products(j, first + lane, partial, lane)  # type: ignore[call-arg]
                first_sweeps(m, partial, share, pivot, cosines, norms, weights, todo)  # type: ignore[call-arg]
                for i in range(m):
                    left |= todo[i]
            for lane in range(min(lanes, count - first)):
                item = first + lane
                alone = (todo[m] >> lane) & 1
                if not alone and not (left >> lane) & 1:
                    combination(j, item, weights, lane, x)  # type: ignore[call-arg]
                    status[item] = 0
                    continue
                rows, out = j[item], x[item]
                if alone:
                    if not _gramian(rows, d, c):
                        status[item] = 1
                        continue
                    if by_rows:
                        _factor(rows, d, q, r)
                    for i in range(m):
                        w[i] = share[i]
                else:
                    for i in range(m):
                        d[i], w[i] = norms[i, lane], weights[i, lane]
                        for k in range(i + 1):
                            c[i, k] = cosines[i * (i + 1) // 2 + k, lane]
                            c[k, i] = c[i, k]
                factored, size, failed = -1, 0, False
                for turn in range(m):
                    i = 2 * turn if 2 * turn < m else 2 * turn - m + 1 - m % 2  # even first: in conflicts they agree
                    if not alone and not (todo[i] >> lane) & 1:
                        continue
                    factored, size, failed = _solve(
                        i, c, r, by_rows, pivot, factored, size, members, square, low, v, rest
                    )
                    if failed:
                        break
                    for a in range(size):
                        k = members[a]
                        w[k] += share[i] * v[a] * (d[i] / d[k])
                status[item] = failed
                _combine(rows, w, out)
