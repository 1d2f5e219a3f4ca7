"""What the contract asks of Dion, Orth-Dion, Dion2 and NorDion2, with straight-line re-implementations."""

import numpy as np

from orthotheory import methods
from orthotheory.arrays import standard_normal
from orthotheory.methods import Dion, Dion2, NorDion2, OrthDion

EASY_LR = {"muon-dion": 0.01, "dion": 0.01, "orth-dion": 0.01, "dion2": 0.01, "nordion2": 0.01}
EASY_HYPER = {"dion2": {"fraction": 0.5}, "nordion2": {"fraction": 0.5}}
FIXED_RADIUS = {
    "muon-dion": ({"plan": "exact"}, 1e-12),
    "dion": ({"eps": 0.0}, 1e-12),
    "orth-dion": ({"eps": 0.0}, 1e-12),
    "dion2": ({"plan": "exact"}, 1e-12),
    "nordion2": ({"plan": "exact"}, 2e-6),  # its epsilon 1e-8
}
# The start basis of Dion and the selection of Dion2 are tied to the axes: only the left side of Dion turns along.
ROTATION_EQUIVARIANT = {"muon-dion": {"plan": "exact"}}

POLAR_EXPRESS = [
    (8.156554524902461, -22.48329292557795, 15.878769915207462),
    (4.042929935166739, -2.808917465908714, 0.5000178451051316),
    (3.8916678022926607, -2.772484153217685, 0.5060648178503393),
    (3.285753657755655, -2.3681294933425376, 0.46449024233003106),
    (2.3465413258596377, -1.7097828382687081, 0.42323551169305323),
]


def polar_express(m, epsilon=1e-8):
    x = m.T if m.shape[0] > m.shape[1] else m
    x = x / (1.02 * np.linalg.norm(x) + epsilon)
    for a, b, c in POLAR_EXPRESS:
        gram = x @ x.T
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x.T if m.shape[0] > m.shape[1] else x


def positive_qr(x):
    q, r = np.linalg.qr(x)
    return q * np.sign(np.diag(r)), r


def muon(w, grads, lr, mu, wd):
    m = np.zeros_like(w)
    for g in grads:
        m = mu * m + g
        w = (1 - lr * wd) * w - lr * np.sqrt(w.shape[0] / w.shape[1]) * polar_express(m)
    return w


def dion(w, grads, lr, mu, wd, rank, *, orthonormal):
    m, q = np.zeros_like(w), standard_normal((w.shape[1], rank), 0, like=w)
    for g in grads:
        b = m + g
        p = positive_qr(b @ q)[0]
        r = b.T @ p
        m = b - (1 - mu) * p @ r.T
        q = positive_qr(r)[0] if orthonormal else r / (np.sqrt((r**2).sum(axis=0)) + 1e-8)
        w = (1 - lr * wd) * w - lr * np.sqrt(w.shape[0] / w.shape[1]) * p @ q.T
    return w


def dion2(w, grads, lr, mu, wd, fraction, *, even):
    m, v = np.zeros_like(w), np.zeros((w.shape[0], 1))
    w = w.copy()
    scale = np.sqrt(w.shape[0] / w.shape[1])
    columns = not even and w.shape[0] > w.shape[1]
    size = w.shape[1] if columns else w.shape[0]
    for g in grads:
        m = m + g
        lengths = np.abs(m).sum(axis=0 if columns else 1)
        keep = np.argsort(-lengths, kind="stable")[: max(1, int(np.ceil(fraction * size)))]
        index = np.ix_(range(w.shape[0]), keep) if columns else np.ix_(keep, range(w.shape[1]))
        o = polar_express(m[index])
        if even:
            v[keep] = 0.95 * v[keep] + 0.05 * (o**2).mean(axis=1, keepdims=True)
            scaled = o / (np.sqrt(v[keep]) + 1e-8)
            o = scaled * np.linalg.norm(o) / (np.linalg.norm(scaled) + 1e-8)
        m[index] *= mu
        w *= 1 - lr * wd
        w[index] -= lr * scale * o
    return w


REFERENCES = {
    "muon of dion": (methods.make("muon-dion"), lambda w, g: muon(w, g, 0.01, 0.95, 0.01)),
    "dion at rank 2": (Dion(rank=2), lambda w, g: dion(w, g, 0.01, 0.95, 0.01, 2, orthonormal=False)),
    "orth-dion at rank 2": (OrthDion(rank=2), lambda w, g: dion(w, g, 0.01, 0.95, 0.01, 2, orthonormal=True)),
    "dion at full rank": (
        Dion(lr=0.1),
        lambda w, g: dion(w, g, 0.1, 0.95, 0.01, min(w.shape), orthonormal=False),
    ),
    "dion2": (Dion2(), lambda w, g: dion2(w, g, 0.01, 0.95, 0.01, 0.25, even=False)),
    "dion2 at half": (Dion2(fraction=0.5), lambda w, g: dion2(w, g, 0.01, 0.95, 0.01, 0.5, even=False)),
    "nordion2 at half": (NorDion2(fraction=0.5), lambda w, g: dion2(w, g, 0.01, 0.95, 0.01, 0.5, even=True)),
}
