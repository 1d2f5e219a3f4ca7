"""What the contract asks of AMSGrad, AdamP, SGDP, Adafactor, Lookahead, diffGrad and Sophia, and their references."""

import numpy as np

from orthotheory import methods
from orthotheory.arrays import standard_normal
from orthotheory.methods import SGDP, Adafactor, Adam, AdamP, AMSGrad, DiffGrad, GradientDescent, Lookahead, Sophia

EASY_LR = {
    "amsgrad": 0.03, "amsgrad-paper": 0.1, "adamp": 0.02, "sgdp": 0.1, "adafactor": 0.03, "lookahead": 1.0,
    "lookahead-adam": 0.03, "diffgrad": 0.03, "sophia": 0.01,
}  # fmt: skip
FIXED_RADIUS = {
    "amsgrad": ({"eps": 0.0}, 1e-12),
    "amsgrad-paper": ({"eps": 0.0}, 1e-12),
    "adamp": ({"eps": 0.0}, 1e-12),
    "adafactor": ({"eps": 0.0}, 1e-12),
    "lookahead-adam": ({"inner": Adam(eps=0.0)}, 1e-12),
}
PROPORTIONAL = {"lookahead": ({}, 1e-12)}
OTHER_SCALE = {"sgdp": {"delta": 10.0}, "diffgrad": {}, "sophia": {"gamma": 100.0}}  # sgdp: where it projects
NOT_EQUIVARIANT_HYPER = {"sgdp": {"delta": 10.0}}  # rows are projected
ROTATION_EQUIVARIANT = {"lookahead": {}}


def adafactor_decay():
    """The factor of two zero gradients: lr 1/4 times the weights' root mean square, which itself shrinks."""
    size = np.sqrt(np.mean(np.random.default_rng(0).standard_normal((5, 4)) ** 2))
    first = 1 - 0.125 * size
    return first * (1 - 0.125 * size * first)


DECAY_FACTOR = {"adamp": (1 - 0.0125) ** 2, "adafactor": adafactor_decay()}


def amsgrad(w, grads, lr, beta1, beta2, eps, *, corrected):
    m = v = largest = np.zeros_like(w)
    for t, g in enumerate(grads, start=1):
        m = beta1 * m + (1 - beta1) * g
        v = beta2 * v + (1 - beta2) * g**2
        largest = np.maximum(largest, v)
        if corrected:
            w = w - lr * (m / (1 - beta1**t)) / (np.sqrt(largest / (1 - beta2**t)) + eps)
        else:
            w = w - lr * m / (np.sqrt(largest) + eps)
    return w


def project(w, g, p, delta):
    """Rows first, then the layer, as the authors loop over views."""
    for view in (w.shape, (1, w.size)):
        wv, gv, pv = w.reshape(view), g.reshape(view), p.reshape(view)
        cosine = np.abs((wv * gv).sum(axis=1) / np.linalg.norm(wv, axis=1) / np.linalg.norm(gv, axis=1))
        if cosine.max() < delta / np.sqrt(view[1]):
            unit = wv / (np.linalg.norm(wv, axis=1, keepdims=True) + 1e-8)
            return (pv - unit * (unit * pv).sum(axis=1, keepdims=True)).reshape(w.shape), 0.1
    return p, 1.0


def adamp(w, grads, lr, wd, delta, *, nesterov=False):
    m = v = np.zeros_like(w)
    for t, g in enumerate(grads, start=1):
        m = 0.9 * m + 0.1 * g
        v = 0.999 * v + 0.001 * g**2
        p, factor = project(w, g, (0.9 * m + 0.1 * g if nesterov else m) / (np.sqrt(v / (1 - 0.999**t)) + 1e-8), delta)
        w = w * (1 - lr * wd * factor) - lr / (1 - 0.9**t) * p
    return w


def sgdp(w, grads, lr, mu, wd, delta, *, nesterov):
    b = np.zeros_like(w)
    for g in grads:
        b = mu * b + g
        d, factor = project(w, g, g + mu * b if nesterov else b, delta)
        if not nesterov:
            b = d
        w = w * (1 - lr * wd * factor / (1 - mu)) - lr * d
    return w


def adafactor(w, grads, lr, beta1, wd):
    r, c, m = 0.0, 0.0, np.zeros_like(w)
    for t, g in enumerate(grads, start=1):
        b = min(0.999, 1 - t**-0.8)
        r = b * r + (1 - b) * (g**2 + 1e-30).sum(axis=1)
        c = b * c + (1 - b) * (g**2 + 1e-30).sum(axis=0)
        u = g / np.sqrt(np.outer(r, c) / r.sum())
        u = u / max(1.0, np.sqrt(np.mean(u**2)))
        a = max(1e-3, np.sqrt(np.mean(w**2))) * min(lr, t**-0.5)
        m = beta1 * m + (1 - beta1) * a * u
        w = w - a * wd * w - m
    return w


def lookahead(w, grads, step, k, pull):
    slow, state = w, None
    for t, g in enumerate(grads, start=1):
        w, state = step(w, g, state)
        if t % k == 0:
            slow = slow + pull * (w - slow)
            w = slow
    return w


def descend(w, g, state):
    return w - 0.1 * g, state


def adam_step(w, g, state):
    m, v, t = state or (0.0, 0.0, 0)
    m, v, t = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g**2, t + 1
    return w - 0.1 * (m / (1 - 0.9**t)) / (np.sqrt(v / (1 - 0.999**t)) + 1e-8), (m, v, t)


def diffgrad(w, grads, lr):
    m = v = last = np.zeros_like(w)
    for t, g in enumerate(grads, start=1):
        m = 0.9 * m + 0.1 * g
        v = 0.999 * v + 0.001 * g**2
        friction = 1 / (1 + np.exp(-np.abs(last - g)))
        w = w - lr * np.sqrt(1 - 0.999**t) / (1 - 0.9**t) * friction * m / (np.sqrt(v) + 1e-8)
        last = g
    return w


def sophia(w, grads, lr, gamma, estimate, *, code=False):
    m = h = np.zeros_like(w)
    for k, g in enumerate(grads):
        m = 0.96 * m + 0.04 * g
        if k % 10 == 0:
            h = 0.99 * h + 0.01 * estimate(w, g, k)
        size = gamma * h + 1e-12 if code else np.maximum(gamma * h, 1e-12)
        w = w - lr * np.clip(m / size, -1, 1)
    return w


def cubic_curvature(w, d):
    """A diagonal Hessian w^2 - 1/3 acting on d: negative near zero, where entries take sign steps."""
    return d * (w * w) - d / 3


def hutchinson(w, g, k):
    u = standard_normal(w.shape, k, like=w)
    return u * cubic_curvature(w, u)


REFERENCES = {
    "amsgrad of torch": (AMSGrad(lr=0.1), lambda w, g: amsgrad(w, g, 0.1, 0.9, 0.999, 1e-8, corrected=True)),
    "amsgrad of the paper": (
        AMSGrad(lr=0.1, beta2=0.9, variant="paper"),
        lambda w, g: amsgrad(w, g, 0.1, 0.9, 0.9, 1e-8, corrected=False),
    ),
    "adamp": (AdamP(weight_decay=0.3), lambda w, g: adamp(w, g, 1e-3, 0.3, 0.1)),
    "adamp that projects often": (
        AdamP(lr=0.1, weight_decay=0.3, delta=1.2, nesterov=True),
        lambda w, g: adamp(w, g, 0.1, 0.3, 1.2, nesterov=True),
    ),
    "sgdp": (SGDP(weight_decay=0.03), lambda w, g: sgdp(w, g, 0.1, 0.9, 0.03, 0.1, nesterov=True)),
    "sgdp that projects its buffer": (
        SGDP(delta=1.2, nesterov=False),
        lambda w, g: sgdp(w, g, 0.1, 0.9, 0.0, 1.2, nesterov=False),
    ),
    "adafactor": (Adafactor(), lambda w, g: adafactor(w, g, 0.01, 0.0, 0.0)),
    "adafactor with momentum and decay": (
        Adafactor(lr=0.1, beta1=0.9, weight_decay=0.3),
        lambda w, g: adafactor(w, g, 0.1, 0.9, 0.3),
    ),
    "lookahead": (Lookahead(), lambda w, g: lookahead(w, g, descend, 5, 0.5)),
    "lookahead over adam": (
        methods.make("lookahead-adam", lr=0.1, period=3, pull=0.8),
        lambda w, g: lookahead(w, g, adam_step, 3, 0.8),
    ),
    "diffgrad": (DiffGrad(lr=0.1), lambda w, g: diffgrad(w, g, 0.1)),
    "sophia on the empirical fisher": (
        Sophia(lr=0.1, gamma=1000.0, samples=4.0),
        lambda w, g: sophia(w, g, 0.1, 1000.0, lambda w, g, k: 4 * g**2),
    ),
    "sophia by hutchinson": (
        Sophia(lr=0.1, gamma=10.0, curvature=cubic_curvature),
        lambda w, g: sophia(w, g, 0.1, 10.0, hutchinson),
    ),
    "sophia of the code": (
        Sophia(lr=0.1, gamma=100.0, variant="code"),
        lambda w, g: sophia(w, g, 0.1, 100.0, lambda w, g, k: g**2, code=True),
    ),
}
assert GradientDescent(lr=0.1) == Lookahead().inner  # the reference `descend` takes this step
