"""A second solution of every aggregator, in extended precision and by other algorithms than the package's.

Projections, least norms and CAGrad enumerate active sets; the bargaining rules run Newton's method on the dual
potential; equal angles and Aligned-MTL take singular values from one-sided Jacobi rotations; everything else is the
published formula line by line. All take (b, m, n) in `numpy.longdouble`.
"""

from __future__ import annotations

import numpy as np
from jacobians import Wide, length, min_norm, project, remove, solve, span, subsets, unit

EPS = 2.0**-52
FAMILIES = (
    "generic",
    "conflicting",
    "a zero row",
    "duplicate rows",
    "rank-deficient",
    "nearly opposite rows",
    "nearly equal rows",
    "opposite rows",
    "row scales 1e-4 to 1e4",
    "small integers",
)


def hostile(each: int, m: int, n: int, seed: int) -> np.ndarray:
    """`each` Jacobians of each of the ten families, (10 each, m, n), in the order of FAMILIES."""
    rng = np.random.default_rng([seed, m, n])
    batch = rng.standard_normal((len(FAMILIES), each, m, n))
    alternating = np.where(np.arange(m) % 2, 1.0, -1.0)[:, None]
    rank = max(1, min(m, n) // 2)
    batch[1] += 3 * rng.standard_normal((each, 1, n)) * alternating
    batch[2, :, m // 2] = 0.0
    batch[3, :, -1] = batch[3, :, 0]
    batch[4] = rng.standard_normal((each, m, rank)) @ rng.standard_normal((each, rank, n))
    if m > 1:
        batch[5, :, -1] = 1e-6 * batch[5, :, -1] - batch[5, :, 0]
        batch[6, :, -1] = 1e-6 * batch[6, :, -1] + batch[6, :, 0]
        batch[7, :, -1] = -2 * batch[7, :, 0]
    batch[8] *= 10.0 ** rng.uniform(-4, 4, (each, m, 1))
    batch[9] = rng.integers(-2, 3, (each, m, n))
    return batch.reshape(-1, m, n)


def combine(w, j):
    return np.einsum("bm,bmn->bn", w, j)


# The cone and the hull


def upgrad(j):
    return project(j, j).mean(axis=1)


def dual_proj(j):
    return project(j, j.mean(axis=1, keepdims=True))[:, 0]


def a_gem(j):
    if j.shape[1] == 1:
        return j[:, 0]
    return project(j[:, 1:].mean(axis=1, keepdims=True), j[:, :1])[:, 0]


def gem(j, margin=0.5, eps=1e-3):
    """Enumerate which multipliers sit at the margin; the feasible point of least value."""
    g, r = j[:, 0], j[:, 1:]
    k = r.shape[1]
    if k == 0:
        return g
    a, c = r @ np.swapaxes(r, 1, 2) + Wide(eps) * np.eye(k), np.einsum("bmn,bn->bm", r, g)
    best, x = np.full(len(j), np.inf, Wide), g.copy()
    for subset in subsets(k, k):
        free = np.isin(np.arange(k), subset)
        v = np.full(c.shape, margin, Wide)
        if free.any():
            rhs = -c[:, free] - a[:, free][:, :, ~free].sum(axis=2) * margin
            v[:, free] = solve(a[:, free][:, :, free], rhs[..., None])[..., 0]
        value = np.einsum("bi,bij,bj->b", v, a, v) / 2 + np.einsum("bi,bi->b", v, c)
        take = (v >= margin).all(axis=1) & (value < best)
        best, x = np.where(take, value, best), np.where(take[:, None], g + combine(v, r), x)
    return np.where((c < 0).any(axis=1)[:, None], x, g)


def cagrad(j, c):
    """Enumerate the objectives that share the least value; x is closed-form on each set. The nearest maximizer where
    the Jacobian is stationary and the ball meets the cone."""
    g0, nearest = j.mean(axis=1), dual_proj(j)
    rho = c * length(g0)
    best, x = np.full(len(j), -np.inf, Wide), g0.copy()
    for subset in subsets(j.shape[1], min(j.shape[1], j.shape[2] + 1)):
        if not subset:
            continue
        base = j[:, subset[0]]
        basis = span([j[:, i] - base for i in subset[1:]])
        free, rest = remove(g0[:, None], basis)[:, 0], remove(base[:, None], basis)[:, 0]
        up = np.where(length(rest) > 1e-17 * length(base), unit(rest), 0)
        left = rho**2 - np.sum((g0 - free) ** 2, axis=-1, keepdims=True)
        candidate = free + np.sqrt(np.maximum(left, 0)) * up
        value = np.einsum("bmn,bn->bm", j, candidate).min(axis=1)
        take = (value > best) & (left[:, 0] >= 0)
        best, x = np.where(take, value, best), np.where(take[:, None], candidate, x)
    stationary = length(min_norm(unit(j))) <= 1e-10
    inside = length(nearest - g0) <= rho * (1 + 1e-12)
    return np.where(stationary & inside, nearest, x)


# Bargaining


def bargaining(j, alpha):
    """Damped Newton on |x|^2 / 2 - sum U(g_i . x) from the point of least norm, where every g_i . x > 0."""
    start = min_norm(unit(j))
    stationary = (length(start) <= 1e-10)[:, 0]
    j = np.where(stationary[:, None, None], np.ones_like(j), j)
    basis = np.stack(span([j[:, i] for i in range(j.shape[1])]), axis=2)  # (b, n, m), zero where dependent
    g = j @ basis
    y = np.where(stationary[:, None], g.mean(axis=1), (start[:, None] @ basis)[:, 0])
    s = np.einsum("bmr,br->bm", g, y)
    weight = (np.sum(s ** (1 - Wide(alpha)), axis=1, keepdims=True) / np.sum(y * y, axis=1, keepdims=True)) ** (
        1 / (1 + Wide(alpha))
    )
    y = y * weight  # the minimizer along the ray
    for _ in range(300):
        s = np.einsum("bmr,br->bm", g, y)
        w = s ** -Wide(alpha)
        scaled = np.sqrt(alpha * w / s)[..., None] * g
        hessian = np.eye(g.shape[2]) + np.swapaxes(scaled, 1, 2) @ scaled
        step = -solve(hessian, (y - np.einsum("bm,bmr->br", w, g))[..., None])[..., 0]
        change = np.max(np.abs(np.einsum("bmr,br->bm", g, step) / s), axis=1, keepdims=True)
        y = y + step * np.minimum(1, 0.5 / np.maximum(change, 1e-30))
        if change.max() < 1e-15:
            break
    return np.where(stationary[:, None], 0, (basis @ y[..., None])[..., 0])


# Equal angles


def equal_angle(j):
    """b = H^+ 1 and its coefficients c, b = H^T c, by the singular values of the unit rows; zero rows take no part."""
    h = unit(j)
    u, s, v = jacobi(h)
    alive = s > max(j.shape[1:]) * EPS * s[:, :1]
    p = np.any(h != 0, axis=-1).astype(Wide)
    y = np.where(alive, np.einsum("bmr,bm->br", u, p) / np.where(alive, s, 1), 0)
    y = np.where(length(y) > 1e-13 * length(p), y, 0)
    b, c = times(v, y), times(u, np.where(alive, y / np.where(alive, s, 1), 0))
    for i in np.nonzero(np.any(alive & (s < 1e-6 * s[:, :1]), axis=1) & (alive.sum(axis=1) == p.sum(axis=1)))[0]:
        b[i], c[i] = fifty_digits(j[i], p[i] > 0)  # where even 64 bits of mantissa are few
    return b, c


def fifty_digits(j, rows):
    """The same for one Jacobian with independent rows: b = J^T v with G v = sqrt(diag G)."""
    import mpmath

    with mpmath.workdps(50):
        a = mpmath.matrix(j[rows].astype(float).tolist())  # the entries were float64
        g = a * a.T
        d = [mpmath.sqrt(g[i, i]) for i in range(a.rows)]
        v = mpmath.lu_solve(g, mpmath.matrix(d))
        b, c = np.array((a.T * v).tolist())[:, 0], np.zeros(len(j), Wide)
        c[rows] = [Wide(mpmath.nstr(v[i] * d[i], 25)) for i in range(a.rows)]
        return np.array([Wide(mpmath.nstr(x, 25)) for x in b]), c


def config(j):
    direction = unit(equal_angle(j)[0])
    return np.einsum("bmn,bn->b", j, direction)[:, None] * direction


def imtl_g(j, safe=False):
    b, c = equal_angle(j)
    size = length(j)[..., 0]
    v = np.where(size > 0, c / np.where(size > 0, size, 1), 0)
    total = v.sum(axis=1, keepdims=True)
    vanishes = np.abs(total) <= 1e-12 * np.abs(v).sum(axis=1, keepdims=True)
    total = np.where(vanishes, 1, np.abs(total) if safe else total)
    return np.where(vanishes, 0, b / total)


# Spectra


def jacobi(a):
    """Singular triplets (u, s, v), a = u s v^T, s descending, by one-sided Jacobi rotations of the rows."""
    a = np.array(a, Wide)
    b, m, _ = a.shape
    u = np.zeros((b, m, m), Wide) + np.eye(m, dtype=Wide)
    whole = np.sum(a**2, axis=(1, 2))
    for _ in range(40):
        worst = 0.0
        for i in range(m):
            for k in range(i + 1, m):
                x, y, z = (np.sum(a[:, s] * a[:, t], axis=1) for s, t in ((i, i), (k, k), (i, k)))
                alive = np.minimum(x, y) > 1e-60 * whole  # what is less is rounding of a dependent row
                off = np.where(alive, np.abs(z), 0) / np.sqrt(np.where(alive, x * y, 1))
                worst = max(worst, float(np.max(off, initial=0)))
                turn = np.arctan2(2 * z, x - y) / 2
                c, s = np.cos(turn)[:, None], np.sin(turn)[:, None]
                a[:, i], a[:, k] = c * a[:, i] + s * a[:, k], c * a[:, k] - s * a[:, i]
                u[:, :, i], u[:, :, k] = c * u[:, :, i] + s * u[:, :, k], c * u[:, :, k] - s * u[:, :, i]
        if worst < 1e-18:
            break
    s = length(a)[..., 0]
    order = np.argsort(-s, axis=1)
    s = np.take_along_axis(s, order, axis=1)
    a, u = np.take_along_axis(a, order[..., None], axis=1), np.take_along_axis(u, order[:, None], axis=2)
    return u, s, np.swapaxes(unit(a), 1, 2)


def aligned_mtl(j):
    u, s, v = jacobi(j)
    alive = s > max(j.shape[1:]) * EPS * s[:, :1]
    least = np.min(np.where(alive, s, np.inf), axis=1, keepdims=True)
    least = np.where(np.isfinite(least), least, 0)
    return least * np.einsum("bnr,br->bn", v, np.where(alive, u.mean(axis=1), 0))


# Line by line


def weigh(w, j):
    return combine(w / w.sum(axis=1, keepdims=True), j)


def pcgrad(j, turn):
    items, total = np.arange(len(j)), np.zeros_like(j[:, 0])
    for i in range(j.shape[1]):
        v = j[:, i].copy()
        for step in range(j.shape[1]):
            other = j[items, turn[:, i, step]]
            square = np.sum(other**2, axis=1)
            product = np.where((turn[:, i, step] == i) | (square == 0), 0, np.sum(v * other, axis=1))
            v -= (np.minimum(product, 0) / np.where(square > 0, square, 1))[:, None] * other
        total += v
    return total


def gradvac(state, j, turn, beta=0.5):
    b, m, _ = j.shape
    target = np.zeros((b, m, m), Wide) if state is None else state.copy()
    items, total, size = np.arange(b), np.zeros_like(j[:, 0]), length(j)[..., 0]
    for i in range(m):
        v = j[:, i].copy()
        for step in range(m):
            k = turn[:, i, step]
            other, reach = unit(j[items, k]), length(v)[:, 0]
            meets = (k != i) & (size[items, k] > 0) & (reach > 64 * EPS * size[:, i]) & (size[:, i] > 0)
            along = np.sum(v * other, axis=1)
            phi = np.clip(along / np.where(meets, reach, 1), -1, 1)
            across = length(v - along[:, None] * other)[:, 0]  # |v| sqrt(1 - phi^2), which must not cancel
            t = np.clip(target[items, i, k], -1 + Wide(1e-12), 1 - Wide(1e-12))
            gain = across * t / np.sqrt(1 - t**2) - along
            v += np.where(meets & (phi < t), gain, 0)[:, None] * other
            target[items, i, k] = np.where(meets, (1 - Wide(beta)) * t + Wide(beta) * phi, target[items, i, k])
        total += v
    return total, target


def graddrop(j, u):
    positive, negative = np.maximum(j, 0).sum(axis=1), np.minimum(j, 0).sum(axis=1)
    total = positive - negative
    p = np.where(total > 0, positive / np.where(total > 0, total, 1), 0.5)
    return np.where(p > u, positive, 0) + np.where(p < u, negative, 0)


def krum(j, f):
    updates = np.zeros_like(j[:, 0])
    for item, g in enumerate(j):
        square = np.sum((g[:, None] - g[None]) ** 2, axis=-1)
        score = [np.sort(np.delete(d, i))[: len(g) - f - 2].sum() for i, d in enumerate(square)]
        updates[item] = g[int(np.argmin(score))]
    return updates


def trimmed_mean(j, trim):
    return np.sort(j, axis=1)[:, trim : j.shape[1] - trim].mean(axis=1)


# Those with a memory: (state, j, k) -> (update, state)


def simplex(v):
    """Project on the simplex by bisection for the threshold, which is not how the package does it."""
    low, high = v.min(axis=1, keepdims=True) - 1, v.max(axis=1, keepdims=True)
    for _ in range(6):  # then exactly, from the support
        middle = (low + high) / 2
        above = np.maximum(v - middle, 0).sum(axis=1, keepdims=True) > 1
        low, high = np.where(above, middle, low), np.where(above, high, middle)
    for _ in range(v.shape[1] + 1):  # Michelot's finite iteration from below
        inside = v > low
        low = (np.where(inside, v, 0).sum(axis=1, keepdims=True) - 1) / inside.sum(axis=1, keepdims=True)
    return np.maximum(v - low, 0)


def softmax(v):
    e = np.exp(v - v.max(axis=1, keepdims=True))
    return e / e.sum(axis=1, keepdims=True)


def uniform(j):
    return np.full(j.shape[:2], 1, Wide) / j.shape[1]


def times(a, w):
    return np.einsum("bij,bj->bi", a, w)


def gram(j):
    return j @ np.swapaxes(j, 1, 2)


def sdmgrad(state, j, lr=10, momentum=0.5, steps=20):
    """One Jacobian in fifty digits, as twenty steps of ten lengths multiply a rounding by up to 1e20."""
    import mpmath

    with mpmath.workdps(50):
        m, g = len(j), [[mpmath.mpf(float(x)) for x in row] for row in j]
        a = [[mpmath.fdot(x, y) for y in g] for x in g]
        scale = (mpmath.fsum(mpmath.sqrt(a[i][i]) for i in range(m)) / m) ** 2 or mpmath.mpf(1)
        pull, w, v = mpmath.mpf(0.3 * (1 / m)), [mpmath.mpf(float(x)) for x in state], [mpmath.mpf(0)] * m
        for _ in range(steps):
            v = [momentum * v[i] + mpmath.fdot(a[i], [x + pull for x in w]) / scale for i in range(m)]
            y = [w[i] - lr * v[i] for i in range(m)]
            threshold, total = None, -1
            for k, x in enumerate(sorted(y, reverse=True), 1):
                total += x
                threshold = total / k if threshold is None or x > total / k else threshold
            w = [max(x - threshold, 0) for x in y]
        x = [mpmath.fdot([u + pull for u in w], column) / mpmath.mpf(1.3) for column in zip(*g, strict=True)]
        return np.array([float(u) for u in x]), np.array([float(u) for u in w])


def modo(state, j, k):
    w = uniform(j) if state is None else state
    w = simplex(w - Wide(0.1) * (times(gram(j), w) + Wide(0.1) * w))
    return combine(w, j), w


def moco(state, j, k):
    y, w = (np.zeros_like(j), uniform(j)) if state is None else state
    y = y - Wide(0.5) / np.sqrt(Wide(k)) * (y - j)
    w = softmax(w - Wide(0.1) / np.sqrt(Wide(k)) * times(gram(y), w))
    return combine(w, y), (y, w)


def excess_mtl(state, j, k):
    total, log_w, start = (np.zeros_like(j), np.zeros(j.shape[:2], Wide), None) if state is None else state
    total = total + j**2
    e = (j**2 / np.sqrt(total + Wide(1e-7))).sum(axis=2)
    if start is None:
        return combine(np.ones_like(log_w), j), (total, log_w, e)
    log_w = log_w + e / (start + Wide(1e-7))
    return combine(j.shape[1] * softmax(log_w), j), (total, log_w, start)


def db_mtl(state, j, k):
    y = np.zeros_like(j) if state is None else state
    y = j + Wide(0.9) / np.sqrt(Wide(k)) * (y - j)
    return (length(y).max(axis=1, keepdims=True) * unit(y)).sum(axis=1), y


MEMORY = {"modo": modo, "moco": moco, "excess-mtl": excess_mtl, "db-mtl": db_mtl}
