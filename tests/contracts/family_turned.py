"""What the contract asks of ROOT, ARO, Conda, FISMO and SWAN, with straight-line re-implementations."""

import numpy as np

from orthotheory import methods, problems
from orthotheory.methods import ARO, FISMO, ROOT, SWAN, Conda

EASY_LR = {
    "root": 0.03, "root-readme": 0.03, "aro-sign": 0.01, "aro-sign-polar": 0.01, "aro-sinkhorn": 0.01,
    "aro-adam": 0.01, "conda": 0.02, "fismo": 0.01, "swan": 0.01,
}  # fmt: skip
FIXED_RADIUS = {
    "root": ({"plan": "exact"}, 1e-7),  # 1e-9 is added to a threshold of about 1
    "aro-sign": ({}, 1e-12),
    "aro-sign-polar": ({}, 1e-12),
    "aro-sinkhorn": ({}, 1e-12),
    "aro-adam": ({"eps": 0.0}, 1e-12),
    "conda": ({"eps": 0.0}, 1e-12),
    "swan": ({}, 1e-12),
}
OTHER_SCALE = {"root-readme": {"plan": "exact"}, "fismo": {}}
ROTATION_EQUIVARIANT = {"fismo": {}}


def zero_row_sums():
    """The easy quadratic, whose Hessian acts from the left alone, from an error with zero row sums, as SWAN needs."""
    easy = problems.quadratic(rows=4, columns=3, left_condition=3.0, seed=1)
    error = easy.start - easy.optimum
    easy.start = easy.optimum + error - error.mean(axis=1, keepdims=True)
    return easy


EASY_PROBLEM = {"swan": zero_row_sums()}


def newton_schulz(m):
    a, b, c = 3.4445, -4.7750, 2.0315
    x = m.T if m.shape[0] > m.shape[1] else m
    x = x / (np.linalg.norm(x) + 1e-7)
    for _ in range(5):
        gram = x @ x.T
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x.T if m.shape[0] > m.shape[1] else x


def svd_polar(m):
    u, _, vh = np.linalg.svd(m, full_matrices=False)
    return u @ vh


def root(w, grads, lr, mu, wd, *, readme):
    m = np.zeros_like(w)
    for g in grads:
        m = mu * m + g
        d = m if readme else g + mu * m
        threshold = 1.0 if readme else np.quantile(np.abs(d), 0.9) + 1e-9
        outliers = np.sign(d) * np.maximum(np.abs(d) - threshold, 0)
        w = w - lr * wd * w - 0.2 * np.sqrt(max(w.shape)) * lr * newton_schulz(d - outliers)
    return w


def positive_q(x):
    q, r = np.linalg.qr(x)
    return q * np.sign(np.diag(r))


def sinkhorn(x):
    rows, columns = x.shape
    for _ in range(5):
        x = np.sqrt(columns) * x / np.linalg.norm(x, axis=1)[:, None]
        x = np.sqrt(rows) * x / np.linalg.norm(x, axis=0)
    return x


def flush(x):
    return np.where(np.abs(x) <= 1e-13 * np.abs(x).max(), 0, x)


def aro(w, grads, lr, beta, f, rotate):
    if w.shape[0] > w.shape[1]:
        return aro(w.T, [g.T for g in grads], lr, beta, f, rotate).T
    m, r = np.zeros_like(w), np.eye(w.shape[0])
    for g in grads:
        m = beta * m + (1 - beta) * g
        x = m @ f(flush(r.T @ m)).T
        r = rotate(x) if np.linalg.matrix_rank(x, rtol=1e-13) == len(x) else r
        w = w - lr * r @ f(flush(r.T @ m))
    return w


def aro_adam(w, grads, lr, beta, beta2):
    if w.shape[0] > w.shape[1]:
        return aro_adam(w.T, [g.T for g in grads], lr, beta, beta2).T
    m, v, r = np.zeros_like(w), np.zeros_like(w), np.eye(w.shape[0])
    for t, g in enumerate(grads, start=1):
        m = beta * m + (1 - beta) * g

        def adam(x, t=t, v=v):
            v = beta2 * v + (1 - beta2) * x**2
            return x / (1 - beta**t) / (np.sqrt(v / (1 - beta2**t)) + 1e-8), v

        x = m @ adam(flush(r.T @ m))[0].T
        r = positive_q(x) if np.linalg.matrix_rank(x, rtol=1e-13) == len(x) else r
        f, v = adam(flush(r.T @ m))
        w = w - lr * r @ f
    return w


def conda(w, grads, lr, beta1, beta2, wd, period, scale):
    m, v = np.zeros_like(w), 0.0
    right = w.shape[0] >= w.shape[1]
    for k, g in enumerate(grads):
        m = beta1 * m + (1 - beta1) * g
        if k % period == 0:
            u, _, vh = np.linalg.svd(m, full_matrices=False)
        gp, mp = (g @ vh.T, m @ vh.T) if right else (u.T @ g, u.T @ m)
        v = beta2 * v + (1 - beta2) * gp**2
        d = mp / (np.sqrt(v) + 1e-8)
        size = lr * np.sqrt(1 - beta2 ** (k + 1)) / (1 - beta1 ** (k + 1)) * scale
        w = w - size * (d @ vh if right else u @ d)
        w = w - lr * wd * w
    return w


def spd_power(a, power):
    values, vectors = np.linalg.eigh(a)
    return (vectors * values**power) @ vectors.T


def fismo(w, grads, lr, beta, gamma, mu):
    rows, columns = w.shape
    p, q, m = np.eye(rows), np.eye(columns), np.zeros_like(w)
    for g in grads:
        p = gamma * p + (1 - gamma) * (g @ np.linalg.inv(q) @ g.T / columns + mu * np.trace(p) / rows * np.eye(rows))
        p = rows * p / np.trace(p)
        q = gamma * q + (1 - gamma) * (g.T @ np.linalg.inv(p) @ g / rows + mu * np.trace(q) / columns * np.eye(columns))
        q = columns * q / np.trace(q)
        left, right = spd_power(p, -0.5), spd_power(q, -0.5)
        m = beta * m + (1 - beta) * left @ g @ right
        w = w - lr * left @ svd_polar(m) @ right
    return w


def swan(w, grads, lr, *, rescale):
    for g in grads:
        s = (g - g.mean(axis=1, keepdims=True)) / g.std(axis=1, keepdims=True)
        u, sigma, vh = np.linalg.svd(s, full_matrices=False)
        kept = sigma > 1e-12 * sigma[0]  # n rows of n entries that sum to zero have rank n - 1
        d = u[:, kept] @ vh[kept]
        if rescale:
            d = d * np.linalg.norm(s) / np.linalg.norm(d)
        w = w - lr * d
    return w


REFERENCES = {
    "root of the code": (ROOT(lr=0.01), lambda w, g: root(w, g, 0.01, 0.95, 0.1, readme=False)),
    "root of the readme": (
        methods.make("root-readme", lr=0.01),
        lambda w, g: root(w, g, 0.01, 0.95, 0.1, readme=True),
    ),
    "aro of the sign": (ARO(), lambda w, g: aro(w, g, 1e-3, 0.95, np.sign, positive_q)),
    "aro of the sign by polar rotations": (
        ARO(rotation="polar"),
        lambda w, g: aro(w, g, 1e-3, 0.95, np.sign, svd_polar),
    ),
    "aro of sinkhorn": (
        methods.make("aro-sinkhorn", lr=0.01),
        lambda w, g: aro(w, g, 0.01, 0.95, sinkhorn, positive_q),
    ),
    "aro of adam": (methods.make("aro-adam", momentum=0.9), lambda w, g: aro_adam(w, g, 1e-3, 0.9, 0.95)),
    "conda": (Conda(weight_decay=0.1), lambda w, g: conda(w, g, 1e-3, 0.9, 0.999, 0.1, 2000, 1.0)),
    "conda with a basis every three steps": (
        Conda(lr=0.01, beta2=0.99, period=3, scale=0.25),
        lambda w, g: conda(w, g, 0.01, 0.9, 0.99, 0.0, 3, 0.25),
    ),
    "fismo": (FISMO(), lambda w, g: fismo(w, g, 0.02, 0.95, 0.95, 0.01)),
    "swan": (SWAN(), lambda w, g: swan(w, g, 0.01, rescale=False)),
    "swan rescaled": (SWAN(rescale=True), lambda w, g: swan(w, g, 0.01, rescale=True)),
}
