"""What the contract asks of Scion, Gluon and PolarGrad's further forms, with straight-line re-implementations."""

import numpy as np

from orthotheory import methods
from orthotheory.methods import Gluon, PolarGrad, Scion, ShippedQDWH

EASY_LR = {
    "scion": 0.01, "scion-unconstrained": 0.01, "gluon": 0.5, "polargrad-polar-first": 0.1, "polargrad-shipped": 0.1,
}  # fmt: skip
EASY_HYPER = {"scion": {"radius": 1.0}, "scion-unconstrained": {"radius": 1.0}}
STILL = {"scion": {"constrained": False}}
FIXED_RADIUS = {"scion": ({"plan": "exact"}, 1e-12), "scion-unconstrained": ({"plan": "exact"}, 1e-12)}
PROPORTIONAL = {
    "gluon": ({"momentum": 0.5}, 1e-12),
    "polargrad-polar-first": ({}, 1e-12),
    "polargrad-shipped": ({}, 1e-12),
}
ROTATION_EQUIVARIANT = {
    "scion": {"plan": "exact"},
    "scion-unconstrained": {"plan": "exact"},
    "gluon": {"l1": 0.5},
    "polargrad-polar-first": {},
}


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


def shipped_qdwh(g, steps):
    """Three divisions by hand: the weights of Halley's iteration from the lower bound, then the polish."""
    x = g.T if g.shape[0] < g.shape[1] else g
    x = x / np.sqrt(np.abs(x).sum(axis=0).max() * np.abs(x).sum(axis=1).max())
    low = 2.0**-52
    for _ in range(steps):
        d = (4 * (1 - low**2) / low**4) ** (1 / 3)
        a = np.sqrt(1 + d) + 0.5 * np.sqrt(8 - 4 * d + 8 * (2 - low**2) / (low**2 * np.sqrt(1 + d)))
        b = (a - 1) ** 2 / 4
        c = a + b - 1
        k = x.shape[1]
        q, _ = np.linalg.qr(np.vstack([np.sqrt(c) * x, np.eye(k)]))
        x = b / c * x + (a - b / c) / np.sqrt(c) * q[: x.shape[0]] @ q[x.shape[0] :].T
        low = low * (a + b * low**2) / (1 + c * low**2)
    x = 1.5 * x - 0.5 * x @ (x.T @ x)
    return x.T if g.shape[0] < g.shape[1] else x


def polargrad(w, grads, lr, beta, polar):
    m = np.zeros_like(w)
    for g in grads:
        m = beta * m + (1 - beta) * g
        u = polar(m)
        w = w - lr * (m * u).sum() * u
    return w


def direction(d, kind, normalized=True, k=1):
    rows, columns = d.shape
    if kind == "spectral":
        return np.sqrt(rows / columns if normalized else rows) * newton_schulz(d)
    if kind == "spectral-max":
        return max(1.0, np.sqrt(rows / columns)) * newton_schulz(d)
    if kind == "conv":
        return np.sqrt(rows / (columns / k)) / k * newton_schulz(d)
    if kind == "sign":
        return np.sign(d) / (columns if normalized else 1)
    if kind == "column":
        return d / (np.sqrt((d**2).mean(axis=0)) + 1e-8) / (columns if normalized else 1)
    if kind == "row":
        return d / (np.sqrt((d**2).mean(axis=1, keepdims=True)) + 1e-8) / (columns if normalized else 1)
    return d / (np.sqrt((d**2).mean()) + 1e-8)


def scion(w, grads, lr, alpha, radius, kind, *, constrained, normalized=True, k=1):
    d = np.zeros_like(w)
    for g in grads:
        d = (1 - alpha) * d + alpha * g
        w = (1 - lr if constrained else 1) * w - lr * radius * direction(d, kind, normalized, k)
    return w


def gluon(w, grads, l0, l1, beta):
    m = np.zeros_like(w)
    for g in grads:
        m = beta * m + (1 - beta) * g
        dual = np.linalg.svd(m, compute_uv=False).sum()
        w = w - dual / (l0 + l1 * dual) * svd_polar(m)
    return w


REFERENCES = {
    "scion with its defaults": (Scion(), lambda w, g: scion(w, g, 1e-3, 1.0, 50.0, "spectral", constrained=True)),
    "scion unconstrained": (
        methods.make("scion-unconstrained", momentum=0.9),
        lambda w, g: scion(w, g, 1e-3, 0.1, 50.0, "spectral", constrained=False),
    ),
    "gluon": (Gluon(l0=3.0, l1=0.5, momentum=0.6), lambda w, g: gluon(w, g, 3.0, 0.5, 0.6)),
    "polargrad with the shipped two steps": (
        methods.make("polargrad-shipped"),
        lambda w, g: polargrad(w, g, 0.02, 0.95, lambda m: shipped_qdwh(m, 2)),
    ),
    "polargrad with four shipped steps": (
        PolarGrad(plan=ShippedQDWH(4)),
        lambda w, g: polargrad(w, g, 0.02, 0.95, lambda m: shipped_qdwh(m, 4)),
    ),
}
for kind in ("spectral-max", "conv", "sign", "column", "row", "bias"):
    REFERENCES[f"scion, {kind}"] = (
        Scion(direction=kind, momentum=0.8, kernel=2 if kind == "conv" else 1),
        lambda w, g, kind=kind: scion(w, g, 1e-3, 0.2, 50.0, kind, constrained=True, k=2 if kind == "conv" else 1),
    )
for kind in ("spectral", "sign", "column", "row"):
    REFERENCES[f"scion, {kind}, not normalized"] = (
        Scion(direction=kind, momentum=0.8, normalized=False),
        lambda w, g, kind=kind: scion(w, g, 1e-3, 0.2, 50.0, kind, constrained=True, normalized=False),
    )
