"""Jacobians that break careless surgery, and independent solutions in extended precision by enumerating supports.

`numpy.longdouble` has 64 bits of mantissa on x86, so that the references carry about 1e-19 times the condition; where
it is only float64 they carry 1e-16 and the same tolerances still hold for all but the nearly opposite rows.
"""

from __future__ import annotations

import itertools

import numpy as np

Wide = np.longdouble


def families(count: int, m: int, n: int, seed: int = 0) -> dict[str, np.ndarray]:
    """Labeled batches (count, m, n): generic, conflicting, dependent, opposite, nearly so, zero rows, wild scales."""
    rng = np.random.default_rng([seed, m, n])
    generic = rng.standard_normal((count, m, n))
    alternating = np.where(np.arange(m) % 2, 1.0, -1.0)[:, None]
    rank = max(1, min(m, n) // 2)
    last, first = generic.copy(), generic[:, 0]
    last[:, -1] = 0.0
    pair = {}
    for label, sign in (("opposite", -1.0), ("equal", 1.0)):
        exact, near = generic.copy(), generic.copy()
        exact[:, -1] = sign * first
        near[:, -1] = sign * first + 1e-6 * rng.standard_normal((count, n))
        pair[f"{label} rows"], pair[f"nearly {label} rows"] = exact, near
    return {
        "generic": generic,
        "conflicting": generic + 3 * rng.standard_normal((count, 1, n)) * alternating,
        "rank-deficient": rng.standard_normal((count, m, rank)) @ rng.standard_normal((count, rank, n)),
        **pair,
        "a zero row": last,
        "row scales 1e-4 to 1e4": generic * 10.0 ** rng.uniform(-4, 4, (count, m, 1)),
        "row scales 1e-8 to 1e8": generic * 10.0 ** rng.uniform(-8, 8, (count, m, 1)),
        "small integers": rng.integers(-1, 2, (count, m, n)).astype(float),
        "zero": np.zeros((count, m, n)),
        "tiny": 1e-150 * generic,
        "huge": 1e150 * generic,
    }


def length(x):
    return np.sqrt(np.sum(x * x, axis=-1, keepdims=True))


def unit(x):
    size = length(x)
    return np.where(size > 0, x / np.where(size > 0, size, 1), 0)


def subsets(m: int, largest: int):
    return itertools.chain.from_iterable(itertools.combinations(range(m), r) for r in range(largest + 1))


def span(vectors):
    """An orthonormal basis by Gram-Schmidt, twice, of a list of (b, n); dependent vectors become zero."""
    basis = []
    for v in vectors:
        size, w = length(v), v
        for _ in range(2):
            for q in basis:
                w = w - np.sum(q * w, axis=-1, keepdims=True) * q
        basis.append(np.where(length(w) > 1e-13 * size, unit(w), 0))
    return basis


def remove(x, basis):
    """x without its components in the basis; x is (b, k, n)."""
    for _ in range(2):
        for q in basis:
            x = x - (x @ q[..., None]) * q[:, None, :]
    return x


def project(jacobian, g):
    """The projections of g (b, k, n) on {x : J x >= 0}: the nearest feasible among those on every face."""
    h, g = unit(scaled(jacobian)), np.asarray(g, Wide)
    best, x = np.full(g.shape[:-1], np.inf, Wide), np.zeros_like(g)
    for subset in subsets(h.shape[1], min(h.shape[1:])):
        candidate = remove(g, span([h[:, i] for i in subset]))
        feasible = np.min(candidate @ np.swapaxes(h, 1, 2), axis=-1) >= -1e-16 * length(g)[..., 0]
        distance = np.sum((candidate - g) ** 2, axis=-1)
        take = feasible & (distance < best)
        best, x = np.where(take, distance, best), np.where(take[..., None], candidate, x)
    return x


def min_norm(jacobian):
    """The point of least norm in the hull: of the least points of all affine hulls, the longest with g_i.x >= |x|^2."""
    j = np.asarray(jacobian, Wide)
    best, x = np.full(j.shape[0], -1, Wide), np.zeros_like(j[:, 0])
    shortest = length(j).min(axis=(1, 2))
    for subset in subsets(j.shape[1], min(j.shape[1], j.shape[2] + 1)):
        if not subset:
            continue
        base = j[:, subset[0]]
        candidate = remove(base[:, None, :], span([j[:, i] - base for i in subset[1:]]))[:, 0]
        square = np.sum(candidate**2, axis=-1)
        slack = np.min(np.einsum("bmn,bn->bm", j, candidate) - square[:, None], axis=-1)
        reach = np.max(length(j), axis=(1, 2)) * shortest
        take = (slack >= -1e-16 * reach) & (square > best)
        best, x = np.where(take, square, best), np.where(take[:, None], candidate, x)
    return x


def scaled(jacobian):
    """Each matrix over its largest entry's power of two, in extended precision; zero stays zero."""
    j = np.asarray(jacobian, Wide)
    peak = np.max(np.abs(j), axis=(-2, -1), keepdims=True)
    return j / np.where(peak > 0, peak, 1)


def solve(a, b):
    """Gaussian elimination with partial pivoting in extended precision, (b, m, m) and (b, m, k)."""
    a, b = np.array(a, Wide), np.array(b, Wide)
    items, m = np.arange(len(a)), a.shape[1]
    for k in range(m):
        p = k + np.argmax(np.abs(a[:, k:, k]), axis=1)
        for x in (a, b):
            x[items, k], x[items, p] = x[items, p], x[items, k].copy()
        with np.errstate(all="ignore"):
            ratio = np.nan_to_num(a[:, k + 1 :, k] / a[:, k, k][:, None])
        a[:, k + 1 :] -= ratio[..., None] * a[:, k][:, None]
        b[:, k + 1 :] -= ratio[..., None] * b[:, k][:, None]
    for k in range(m - 1, -1, -1):
        with np.errstate(all="ignore"):
            b[:, k] = (b[:, k] - np.einsum("bj,bjk->bk", a[:, k, k + 1 :], b[:, k + 1 :])) / a[:, k, k][:, None]
    return b
