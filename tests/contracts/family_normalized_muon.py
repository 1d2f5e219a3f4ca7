"""What the contract asks of NorMuon, AdaMuon, NAMO and NAMO-D, with straight-line re-implementations in NumPy."""

import numpy as np

from orthotheory import methods
from orthotheory.methods import NAMO, NAMOD, AdaMuon, NorMuon

EASY_LR = {
    "normuon": 0.01, "normuon-paper": 0.01, "adamuon": 0.01, "namo": 0.03, "namo-paper": 0.03, "namo-d": 0.03,
}  # fmt: skip
# The epsilon 1e-10 of NorMuon acts on row lengths of about 0.2; Muon's on Frobenius norms of about 0.1.
FIXED_RADIUS = {
    "normuon": ({"plan": "exact"}, 1e-12),
    "normuon-paper": ({"plan": "exact"}, 1e-12),
    "adamuon": ({}, 1e-12),  # the sign has no scale
    "namo": ({"plan": "exact", "eps": 0.0}, 1e-12),
    "namo-paper": ({"eps": 0.0}, 1e-12),
    "namo-d": ({"plan": "exact", "eps": 0.0}, 1e-12),
}
ROTATION_EQUIVARIANT = {"namo": {"plan": "exact"}, "namo-paper": {}}
DECAY_FACTOR = {"namo": 1.0, "namo-paper": 1.0, "namo-d": 1.0}  # their decay follows the gradient


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


def normuon(w, grads, lr, beta, beta2, wd, *, paper, polar):
    rows, columns = w.shape
    m, v = np.zeros_like(w), np.zeros((rows, 1))
    for g in grads:
        m = beta * m + (1 - beta) * g
        o = polar((1 - beta) * g + beta * m)
        v = beta2 * v + (1 - beta2) * (o**2).mean(axis=1, keepdims=True)
        scaled = o / (np.sqrt(v) + 1e-10)
        if paper:
            scaled *= 0.2 * np.sqrt(rows * columns) / np.linalg.norm(scaled)
        else:
            scaled *= np.sqrt(max(1, rows / columns)) * np.linalg.norm(o) / (np.linalg.norm(scaled) + 1e-10)
        w = w * (1 - lr * wd) - lr * scaled
    return w


def adamuon(w, grads, lr, beta, wd):
    m, v = np.zeros_like(w), np.zeros_like(w)
    for g in grads:
        m = beta * m + (1 - beta) * g
        o = newton_schulz(np.sign((1 - beta) * g + beta * m))
        v = beta * v + (1 - beta) * o**2
        o = o / (np.sqrt(v) + 1e-8)
        o = 0.2 * np.sqrt(o.size) / (np.linalg.norm(o) + 1e-8) * o
        w = w - lr * wd * w - lr * o
    return w


def namo(w, grads, lr, mu1, mu2, wd, *, paper, polar):
    m, v = np.zeros_like(w), 0.0
    for t, g in enumerate(grads, start=1):
        m = mu1 * m + (1 - mu1) * g
        v = mu2 * v + (1 - mu2) * (g**2).sum()
        n = m if paper else (1 - mu1) * g + mu1 * m
        a = np.sqrt(1 - mu2**t) / (1 - mu1**t + 1e-12) * np.linalg.norm(n) / (np.sqrt(v) + 1e-8)
        if paper:
            w = w - lr * a * (polar(n) + wd * w)
        else:
            w = (1 - wd * min(lr * a, 1)) * w
            w = w - min(0.2 * np.sqrt(max(w.shape)) * lr * a, 1) * polar(n)
    return w


def namo_d(w, grads, lr, mu1, mu2, wd, clamp):
    m, v = np.zeros_like(w), np.zeros(w.shape[1])
    w = w.copy()
    for t, g in enumerate(grads, start=1):
        m = mu1 * m + (1 - mu1) * g
        n = (1 - mu1) * g + mu1 * m
        o = newton_schulz(n)
        v = mu2 * v + (1 - mu2) * (g**2).sum(axis=0)
        s = np.sqrt((n**2).sum(axis=0)) / (np.sqrt(v) + 1e-8)
        if clamp is not None:
            s = np.clip(s, clamp * s.mean(), s.mean() / clamp)
        for j in range(w.shape[1]):
            b = lr * np.sqrt(1 - mu2**t) / (1 - mu1**t + 1e-12) * s[j]
            w[:, j] = max(0, 1 - wd * min(b, 1)) * w[:, j] - min(0.2 * np.sqrt(max(w.shape)) * b, 1) * o[:, j]
    return w


REFERENCES = {
    "normuon of the code": (
        NorMuon(weight_decay=0.3),
        lambda w, g: normuon(w, g, 0.02, 0.95, 0.95, 0.3, paper=False, polar=newton_schulz),
    ),
    "normuon of the paper": (
        methods.make("normuon-paper", beta2=0.9, plan="exact"),
        lambda w, g: normuon(w, g, 0.02, 0.95, 0.9, 0.0, paper=True, polar=svd_polar),
    ),
    "adamuon": (AdaMuon(), lambda w, g: adamuon(w, g, 0.02, 0.95, 0.01)),
    "namo of the code": (
        NAMO(lr=0.1),
        lambda w, g: namo(w, g, 0.1, 0.95, 0.99, 0.1, paper=False, polar=newton_schulz),
    ),
    "namo of the code at its caps": (
        NAMO(lr=1.2),
        lambda w, g: namo(w, g, 1.2, 0.95, 0.99, 0.1, paper=False, polar=newton_schulz),
    ),
    "namo of the paper": (
        methods.make("namo-paper"),
        lambda w, g: namo(w, g, 0.01, 0.95, 0.99, 0.1, paper=True, polar=svd_polar),
    ),
    "namo-d": (NAMOD(), lambda w, g: namo_d(w, g, 0.01, 0.95, 0.99, 0.1, 0.75)),
    "namo-d at its caps, without a clamp": (
        NAMOD(lr=1.2, clamp=None),
        lambda w, g: namo_d(w, g, 1.2, 0.95, 0.99, 0.1, None),
    ),
}
