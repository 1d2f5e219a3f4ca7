"""What the contract asks of PSGD, MKOR, M-FAC, AdAdaGrad, random scaling, adaptive memory and AdaPreLoRA."""

import numpy as np

from orthotheory import methods
from orthotheory.arrays import generator, standard_normal
from orthotheory.methods import MFAC, MKOR, PSGD, AdAdaGrad, AdaPreLoRA, AdaptiveMemory, RandomScaling

EASY_LR = {
    "psgd": 0.05, "psgd-triangular": 0.05, "psgd-low-rank": 0.05, "psgd-x-shape": 0.05, "mkor": 0.1,
    "m-fac": 3e-3, "adadagrad": 1.0,
    "adadagrad-coordinates": 0.3, "random-scaling": 0.05, "adaptive-memory": 0.5, "adaprelora": 0.01,
}  # fmt: skip
EASY_HYPER = {"m-fac": {"damping": 0.1, "window": 16}, "adaprelora": {"rank": 3}}
FIXED_RADIUS = {
    "psgd": ({}, 1e-12),
    "psgd-triangular": ({}, 1e-12),
    "psgd-low-rank": ({}, 1e-12),
    "psgd-x-shape": ({}, 1e-12),
    "adadagrad": ({"eps": 0.0}, 1e-12),
    "adadagrad-coordinates": ({"eps": 0.0}, 1e-12),
    "adaprelora": ({"eps": 0.0}, 1e-12),
}
PROPORTIONAL = {"random-scaling": ({}, 1e-12), "adaptive-memory": ({}, 1e-12)}
OTHER_SCALE = {"mkor": {}, "m-fac": {}}
ROTATION_EQUIVARIANT = {"mkor": {}, "m-fac": {}, "adadagrad": {}, "random-scaling": {}, "adaptive-memory": {}}


def probes(w, k, seed=0):
    return standard_normal(w.shape, seed + 10 + k, like=w)


def start_scale(g, v):
    return ((v**2).sum() / (g**2).sum()) ** 0.25


def psgd_triangular(w, grads, lr, mu, curvature=None):
    q = np.eye(w.size)
    for k, g in enumerate(grads):
        v = probes(w, k)
        h = g if curvature is None else curvature(w, v)
        if k == 0:
            q = start_scale(h, v) * q
        a, b = q @ h.ravel(), np.linalg.solve(q.T, v.ravel())
        q = q - mu / (a @ a + b @ b) * np.triu(np.outer(a, a) - np.outer(b, b)) @ q
        w = w - lr * (q.T @ q @ g.ravel()).reshape(w.shape)
    return w


def psgd_x_shape(w, grads, lr, mu):
    size = w.size
    mask = (np.eye(size) + np.eye(size)[::-1]) > 0
    q = np.eye(size)
    for k, g in enumerate(grads):
        v = probes(w, k).ravel()
        q = start_scale(g, v) * q if k == 0 else q
        a, b = q @ g.ravel(), np.linalg.solve(q.T, v)
        pull = np.where(mask, np.outer(a, a) - np.outer(b, b), 0.0)
        q = q - mu / (a @ a + b @ b) * pull @ q
        w = w - lr * (q.T @ q @ g.ravel()).reshape(w.shape)
    return w


def psgd_kronecker(w, grads, lr, mu):
    left, right = np.eye(w.shape[0]), np.eye(w.shape[1])
    smooth_left = smooth_right = 0.0
    for k, g in enumerate(grads):
        v = probes(w, k)
        if k == 0:
            left, right = (np.sqrt(start_scale(g, v)) * x for x in (left, right))
        a = left @ g @ right.T
        b = np.linalg.inv(left).T @ v @ np.linalg.inv(right)
        bound = np.abs(a @ a.T + b @ b.T).sum(axis=1).max()
        smooth_left = max(0.9 * smooth_left + 0.1 * bound, bound)
        bound = np.abs(a.T @ a + b.T @ b).sum(axis=1).max()
        smooth_right = max(0.9 * smooth_right + 0.1 * bound, bound)
        left = left - mu / smooth_left * np.triu(a @ a.T - b @ b.T) @ left
        right = right - mu / smooth_right * np.triu(a.T @ a - b.T @ b) @ right
        w = w - lr * left.T @ left @ g @ right.T @ right
    return w


def psgd_low_rank(w, grads, lr, mu, rank):
    n = w.size
    u, v = (0.1 / np.sqrt(n * rank) * standard_normal((n, rank), i, like=w) for i in (1, 2))
    d = np.ones(n)
    for k, g in enumerate(grads):
        probe, h = probes(w, k).ravel(), g.ravel()
        if k == 0:
            d = start_scale(h, probe) * d
        q = (np.eye(n) + u @ v.T) * d
        p = q.T @ q
        a, b = q @ h, np.linalg.solve(q.T, probe)
        slope = p @ h * h - probe * np.linalg.solve(p, probe)
        d = d - mu * d * slope / np.abs(slope).max()
        length = np.linalg.norm
        if generator(k).integers(2):
            bound = length(a) * length(v @ (v.T @ a)) + length(b) * length(v @ (v.T @ b))
            u = u - mu / bound * (np.outer(a, a @ v) - np.outer(b, b @ v)) @ (np.eye(rank) + v.T @ u)
        else:
            bound = length(a) * length(u @ (u.T @ a)) + length(b) * length(u @ (u.T @ b))
            turned = np.eye(n) + v @ u.T
            v = v - mu / bound * turned @ (np.outer(a, a @ u) - np.outer(b, b @ u))
        q = (np.eye(n) + u @ v.T) * d
        w = w - lr * (q.T @ (q @ h)).reshape(w.shape)
    return w


def bowl(w, d):
    """A diagonal Hessian, 2 + w^2, acting on d."""
    return 2 * d + w * w * d


def mkor(w, grads, lr, mu, period, means):
    left, right, m = np.eye(w.shape[0]), np.eye(w.shape[1]), np.zeros_like(w)
    for k, grad in enumerate(grads):
        if k % period == 0:
            vectors = means(grad)
            factors = []
            for j, v in zip((left, right), vectors, strict=True):
                p = 0.95 * j + 0.05 * np.eye(len(j))
                factors.append(np.linalg.inv(np.linalg.inv(p) + np.outer(v, v)))
            left, right = factors
        d = left @ grad @ right
        m = mu * m + d * np.linalg.norm(grad) / np.linalg.norm(d)
        w = w - lr * m
    return w


def leading(grad):
    u, s, vh = np.linalg.svd(grad)
    return np.sqrt(s[0]) * u[:, 0], np.sqrt(s[0]) * vh[0]


def mfac(w, grads, lr, mu, l2, window, damping):
    seen, v = [], np.zeros(w.size)
    for g in grads:
        g = (g + l2 * w).ravel()
        seen = [*seen, g][-window:]
        fisher = damping * np.eye(w.size) + sum(np.outer(x, x) for x in seen) / window
        v = mu * v + (1 - mu) * np.linalg.solve(fisher, g)
        w = w - lr * v.reshape(w.shape)
    return w


def adagrad(w, grads, lr, *, coordinates):
    total = 0.0
    for g in grads:
        total = total + (g**2 if coordinates else (g**2).sum())
        w = w - lr * g / np.sqrt(1e-16 + total)
    return w


def random_scaling(w, grads, lr, mu, seed, *, random=True):
    d = 0.0
    for k, g in enumerate(grads):
        d = mu * d - lr * g
        w = w + (generator(seed + k).exponential() if random else 1.0) * d
    return w


def adaptive_memory(w, grads, lr, pull):
    d = grads[0]
    for k, g in enumerate(grads):
        if k:
            b = ((pull * d + g) * (g - d)).sum() / ((g - d) ** 2).sum()
            b = min(1.0, max(0.0, b))
            d = (b + pull) / (1 + pull) * d + (1 - b) / (1 + pull) * g
        w = w - lr * d
    return w


def adaprelora(w, grads, lr, rank, beta2):
    """The weighted least-squares problem for the tangent step solved as such; the factors by half and half."""
    start, (rows, columns) = w, w.shape
    b, a = np.zeros((rows, rank)), standard_normal((rank, columns), 0, like=w) / np.sqrt(columns)
    r = c = 0.0
    for t, g in enumerate(grads, start=1):
        r = beta2 * r + (1 - beta2) * (g**2).mean(axis=1)
        c = beta2 * c + (1 - beta2) * (g**2).mean(axis=0)
        p, q = np.sqrt(r / (1 - beta2**t)) + 1e-8, np.sqrt(c / (1 - beta2**t)) + 1e-8
        p = p / np.sqrt(np.mean(p**2))
        target = g / np.outer(p, q)
        pi_a = np.diag(q) @ a.T @ np.linalg.inv(a @ np.diag(q) @ a.T)
        pi_b = np.zeros((rank, rows)) if t == 1 else np.linalg.inv(b.T @ np.diag(p) @ b) @ b.T @ np.diag(p)
        db = (np.eye(rows) - 0.5 * b @ pi_b) @ target @ pi_a
        da = pi_b @ target @ (np.eye(columns) - 0.5 * pi_a @ a)
        b, a = b - lr * db, a - lr * da
    return start + b @ a


REFERENCES = {
    "psgd, kronecker": (PSGD(), lambda w, g: psgd_kronecker(w, g, 0.01, 0.1)),
    "psgd, triangular": (PSGD(geometry="triangular"), lambda w, g: psgd_triangular(w, g, 0.01, 0.1)),
    "psgd, triangular, on hessian products": (
        PSGD(geometry="triangular", curvature=bowl, precond_lr=0.5),
        lambda w, g: psgd_triangular(w, g, 0.01, 0.5, bowl),
    ),
    "psgd, x shape": (methods.make("psgd-x-shape"), lambda w, g: psgd_x_shape(w, g, 0.01, 0.1)),
    "psgd, low rank": (PSGD(geometry="low-rank", rank=3), lambda w, g: psgd_low_rank(w, g, 0.01, 0.1, 3)),
    "mkor": (MKOR(), lambda w, g: mkor(w, g, 0.01, 0.9, 10, leading)),
    "mkor with new factors every three steps": (MKOR(period=3), lambda w, g: mkor(w, g, 0.01, 0.9, 3, leading)),
    "m-fac": (MFAC(), lambda w, g: mfac(w, g, 1e-3, 0.0, 0.0, 1024, 1e-5)),
    "m-fac with a short window, decay and an average": (
        MFAC(momentum=0.9, l2=0.1, window=6, damping=0.1),
        lambda w, g: mfac(w, g, 1e-3, 0.9, 0.1, 6, 0.1),
    ),
    "adadagrad": (AdAdaGrad(), lambda w, g: adagrad(w, g, 0.1, coordinates=False)),
    "adadagrad by coordinates": (
        methods.make("adadagrad-coordinates"),
        lambda w, g: adagrad(w, g, 0.1, coordinates=True),
    ),
    "random scaling": (RandomScaling(seed=5), lambda w, g: random_scaling(w, g, 0.01, 0.9, 5)),
    "random scaling without it": (
        RandomScaling(random=False),
        lambda w, g: random_scaling(w, g, 0.01, 0.9, 0, random=False),
    ),
    "adaptive memory": (AdaptiveMemory(), lambda w, g: adaptive_memory(w, g, 0.1, 0.1)),
    "adaptive memory without pull": (AdaptiveMemory(pull=0.0), lambda w, g: adaptive_memory(w, g, 0.1, 0.0)),
    "adaprelora": (AdaPreLoRA(rank=2, lr=0.1), lambda w, g: adaprelora(w, g, 0.1, 2, 0.999)),
}
