"""What the contract asks of Shampoo, SOAP and the subspace methods, with straight-line re-implementations."""

import numpy as np

from orthotheory.arrays import generator, standard_normal
from orthotheory.methods import FRUGAL, SOAP, DCTAdamW, GaLore, OnlineSubspaceDescent, Shampoo, Trion

EASY_LR = {
    "shampoo": 0.2, "shampoo-square": 0.2, "soap": 0.02, "galore": 0.08, "online-subspace-descent": 0.08,
    "frugal": 0.01, "dct-adamw": 0.02, "trion": 0.01,
}  # fmt: skip
# The easy problem has a full-rank error: a subspace of one dimension would stall, which is a fact of its own.
EASY_HYPER = {"galore": {"rank": 3}, "online-subspace-descent": {"rank": 3}, "trion": {"rank": 2}}
FIXED_RADIUS = {
    "shampoo": ({"eps": 0.0}, 1e-10),  # roots of eigenvalues: 1e-12 over the condition of the Gram matrices
    "shampoo-square": ({"eps": 0.0}, 1e-10),
    "soap": ({"eps": 0.0}, 1e-12),
    "galore": ({"eps": 0.0}, 1e-12),
    "online-subspace-descent": ({"eps": 0.0}, 1e-10),  # P's own epsilon 1e-8 sees a gradient of fixed size
    "frugal": ({"eps": 0.0}, 1e-12),
    "dct-adamw": ({"eps": 0.0}, 1e-12),
    "trion": ({"plan": "exact"}, 1e-12),
}
ROTATION_EQUIVARIANT = {"shampoo": {}, "shampoo-square": {}, "soap": {}}
DECAY_FACTOR = {"soap": 0.875}  # the first call takes no step


def spd_power(a, power):
    values, vectors = np.linalg.eigh(a)
    return (vectors * values**power) @ vectors.T


def shampoo(w, grads, lr, eps, *, square=False):
    left, right = eps * np.eye(w.shape[0]), eps * np.eye(w.shape[1])
    for g in grads:
        left, right = left + g @ g.T, right + g.T @ g
        power = -0.5 if square else -0.25
        scale = np.sqrt(np.trace(left)) if square else 1.0
        w = w - lr * scale * spd_power(left, power) @ g @ spd_power(right, power)
    return w


def signed(u):
    return u * np.where(u.max(axis=0) >= -u.min(axis=0), 1.0, -1.0)


def completed(u):
    return np.hstack([u, np.linalg.qr(u, mode="complete")[0][:, u.shape[1] :]])


def soap(w, grads, lr, beta, wd, period):
    first, *rest = grads
    left, right = (1 - beta) * first @ first.T, (1 - beta) * first.T @ first
    u, _, vh = np.linalg.svd(first, full_matrices=False)
    ql, qr = completed(signed(u)), completed(signed(vh.T))
    m = v = np.zeros_like(w)
    for t, g in enumerate(rest, start=1):
        m = beta * m + (1 - beta) * g
        v = beta * v + (1 - beta) * (ql.T @ g @ qr) ** 2
        n = (ql.T @ m @ qr) / (np.sqrt(v) + 1e-8)
        w = w - lr * np.sqrt(1 - beta**t) / (1 - beta**t) * ql @ n @ qr.T
        w = w - lr * wd * w
        left, right = beta * left + (1 - beta) * g @ g.T, beta * right + (1 - beta) * g.T @ g
        if t % period == 0:
            i = np.argsort(-np.diag(ql.T @ left @ ql))
            j = np.argsort(-np.diag(qr.T @ right @ qr))
            v = v[i][:, j]
            ql, qr = np.linalg.qr(left @ ql[:, i])[0], np.linalg.qr(right @ qr[:, j])[0]
    return w


def adam_root(m, v, t, eps):
    return np.sqrt(1 - 0.999**t) / (1 - 0.9**t) * m / (np.sqrt(v) + eps)


def galore(w, grads, lr, rank, period, scale, wd):
    if w.shape[0] < w.shape[1]:
        return galore(w.T, [g.T for g in grads], lr, rank, period, scale, wd).T
    m = v = 0.0
    for t, g in enumerate(grads, start=1):
        if t == 1 or t % period == 0:
            p = signed(np.linalg.svd(g, full_matrices=False)[2].T[:, :rank])
        m, v = 0.9 * m + 0.1 * g @ p, 0.999 * v + 0.001 * (g @ p) ** 2
        w = w - lr * scale * adam_root(m, v, t, 1e-6) @ p.T
        w = w - lr * wd * w
    return w


def subspace_descent(w, grads, lr, rank, scale, projector_lr):
    if w.shape[0] < w.shape[1]:
        return subspace_descent(w.T, [g.T for g in grads], lr, rank, scale, projector_lr).T
    m = v = pm = pv = 0.0
    p = signed(np.linalg.svd(grads[0], full_matrices=False)[2].T[:, :rank])
    for t, g in enumerate(grads, start=1):
        m, v = 0.9 * m + 0.1 * g @ p, 0.999 * v + 0.001 * (g @ p) ** 2
        w = w - lr * scale * adam_root(m, v, t, 1e-6) @ p.T
        x = g / np.linalg.norm(g)
        e = x @ p @ p.T - x
        d = 2 * (x.T @ e @ p + e.T @ x @ p)
        pm, pv = 0.9 * pm + 0.1 * d, 0.999 * pv + 0.001 * d**2
        p = p - projector_lr * (pm / (1 - 0.9**t)) / (np.sqrt(pv / (1 - 0.999**t)) + 1e-8)
    return w


def frugal(w, grads, lr, density, period, wd, basis, *, sign=True):
    if w.shape[0] < w.shape[1]:
        return frugal(w.T, [g.T for g in grads], lr, density, period, wd, basis, sign=sign).T
    rank = int(np.floor(density * w.shape[1] + 0.5))
    for k, g in enumerate(grads):
        t = k % period + 1
        if t == 1:
            p, m, v = basis(g, k // period)[:, :rank], 0.0, 0.0
        m, v = 0.9 * m + 0.1 * g @ p, 0.999 * v + 0.001 * (g @ p) ** 2
        rest = g - g @ p @ p.T
        rest = np.where(np.abs(rest) < 1e-12, 0.0, rest)
        d = (m / (1 - 0.9**t)) / (np.sqrt(v / (1 - 0.999**t)) + 1e-8) @ p.T + (np.sign(rest) if sign else rest)
        w = (1 - lr * wd) * w - lr * d
    return w


def columns(g, draw):
    return np.eye(g.shape[1])[:, generator(draw).permutation(g.shape[1])]


def singular(g, draw):
    return np.linalg.svd(g, full_matrices=False)[2].T


def random_basis(g, draw):
    return np.linalg.qr(standard_normal((g.shape[1], g.shape[1]), draw, like=g))[0]


def transform(n):
    from scipy.fft import dct

    return dct(np.eye(n), type=3, norm="ortho", axis=1)


def dct_adamw(w, grads, lr, rank, period, *, rotate=True, feedback=True, power=1):
    if w.shape[0] < w.shape[1]:
        return dct_adamw(w.T, [g.T for g in grads], lr, rank, period, rotate=rotate, feedback=feedback, power=power).T
    full = transform(w.shape[1])
    error, m, v, old = np.zeros_like(w), 0.0, 0.0, None
    for t, g in enumerate(grads, start=1):
        a = g + error
        if t == 1 or t % period == 0:
            q = full[:, np.argsort(-(np.abs(a @ full) ** power).sum(axis=0))[:rank]]
            if rotate and old is not None:
                m, v = m @ (old.T @ q), np.abs(v @ (old.T @ q))
            old = q
        low = a @ q
        error = a - low @ q.T if feedback else error
        m, v = 0.9 * m + 0.1 * low, 0.999 * v + 0.001 * low**2
        w = w - lr * (m / (1 - 0.9**t)) / (np.sqrt(v / (1 - 0.999**t)) + 1e-8) @ q.T
    return w


def newton_schulz(m):
    a, b, c = 3.4445, -4.7750, 2.0315
    x = m.T if m.shape[0] > m.shape[1] else m
    x = x / (np.linalg.norm(x) + 1e-7)
    for _ in range(5):
        gram = x @ x.T
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x.T if m.shape[0] > m.shape[1] else x


def trion(w, grads, lr, mu, rank):
    full, m = transform(min(w.shape)), np.zeros_like(w)
    scale = np.sqrt(max(1.0, w.shape[0] / w.shape[1]))
    for g in grads:
        m = m + g
        if w.shape[0] >= w.shape[1]:
            s = m @ full
            keep = np.argsort(-np.abs(s).sum(axis=0))[:rank]
            m = m - (1 - mu) * s[:, keep] @ full[:, keep].T
            w = w - lr * scale * newton_schulz(s[:, keep]) @ full[:, keep].T
        else:
            s = full @ m
            keep = np.argsort(-np.abs(s).sum(axis=1))[:rank]
            m = m - (1 - mu) * full[keep].T @ s[keep]
            w = w - lr * scale * full[keep].T @ newton_schulz(s[keep])
    return w


REFERENCES = {
    "shampoo": (Shampoo(), lambda w, g: shampoo(w, g, 0.1, 1e-4)),
    "shampoo square": (Shampoo(eps=0.1, square=True), lambda w, g: shampoo(w, g, 0.1, 0.1, square=True)),
    "soap": (SOAP(), lambda w, g: soap(w, g, 3e-3, 0.95, 0.01, 10)),
    "soap with a basis every three steps": (SOAP(lr=0.03, period=3), lambda w, g: soap(w, g, 0.03, 0.95, 0.01, 3)),
    "galore": (GaLore(weight_decay=0.3), lambda w, g: galore(w, g, 0.01, 1, 200, 0.25, 0.3)),
    "galore of rank two with new bases": (
        GaLore(lr=0.1, rank=2, period=6),
        lambda w, g: galore(w, g, 0.1, 2, 6, 0.25, 0.0),
    ),
    "online subspace descent": (
        OnlineSubspaceDescent(rank=2, projector_lr=1e-4),  # starts where its gradient is rounding over eps
        lambda w, g: subspace_descent(w, g, 0.01, 2, 0.25, 1e-4),
    ),
    "frugal": (FRUGAL(weight_decay=0.3), lambda w, g: frugal(w, g, 1e-3, 0.25, 200, 0.3, columns)),
    "frugal by singular vectors": (
        FRUGAL(projection="svd", density=0.5, period=7),
        lambda w, g: frugal(w, g, 1e-3, 0.5, 7, 0.0, singular),
    ),
    "frugal in random bases with a plain residual": (
        FRUGAL(projection="random", density=0.5, period=7, residual="gradient"),
        lambda w, g: frugal(w, g, 1e-3, 0.5, 7, 0.0, random_basis, sign=False),
    ),
    "dct-adamw": (DCTAdamW(rank=2), lambda w, g: dct_adamw(w, g, 1e-3, 2, 1)),
    "dct-adamw by l2, without feedback or turning": (
        DCTAdamW(rank=2, period=4, ranking="l2", error_feedback=False, rotate=False),
        lambda w, g: dct_adamw(w, g, 1e-3, 2, 4, rotate=False, feedback=False, power=2),
    ),
    "trion": (Trion(rank=2), lambda w, g: trion(w, g, 0.02, 0.95, 2)),
}
