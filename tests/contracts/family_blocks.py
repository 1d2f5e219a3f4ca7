"""What the contract asks of Drop-Muon, LANTON (on one matrix) and the symmetry-compatible maps, with references."""

import numpy as np

from orthotheory import methods, problems
from orthotheory.methods import LANTON, DropMuon, SymmetryCompatible

SPECTRAL_MAPS = ("symmetry-right-spectral", "symmetry-left-spectral")
EASY_LR = {
    "drop-muon": 0.3, "lanton": 0.01, "symmetry-row-norm": 0.01, "symmetry-centered-row-norm": 0.01,
    **dict.fromkeys(SPECTRAL_MAPS, 0.01),
}  # fmt: skip
FIXED_RADIUS = {
    "lanton": ({}, 1e-12),
    "symmetry-row-norm": ({"eps": 0.0}, 1e-12),
    "symmetry-centered-row-norm": ({"eps": 0.0}, 1e-12),
    **dict.fromkeys(SPECTRAL_MAPS, ({"eps": 0.0}, 1e-10)),  # inverse roots of Gram matrices: their condition, below 1e2
}
PROPORTIONAL = {"drop-muon": ({"momentum": 0.5}, 1e-12)}
ROTATION_EQUIVARIANT = {"drop-muon": {}, "lanton": {}, **{name: {} for name in SPECTRAL_MAPS}}


def zero_column_sums():
    """A quadratic with A = I whose error has zero column sums: what centered steps can reach."""
    problem = problems.quadratic(rows=4, columns=3, left_condition=1.0, right_condition=3.0, seed=1)
    error = problem.start - problem.optimum
    problem.start = problem.optimum + error - error.mean(axis=0)
    return problem


EASY_PROBLEM = {"symmetry-centered-row-norm": zero_column_sums()}


def svd_polar(m):
    u, _, vh = np.linalg.svd(m, full_matrices=False)
    return u @ vh


def drop_muon(w, grads, lr, beta):
    m = np.zeros_like(w)
    for g in grads:
        m = beta * m + (1 - beta) * g
        w = w - lr * np.linalg.svd(m, compute_uv=False).sum() * svd_polar(m)
    return w


def lanton(w, grads, lr, beta):
    m = np.zeros_like(w)
    for g in grads:
        m = beta * m + (1 - beta) * g
        w = w - lr * svd_polar(m)
    return w


def symmetric(w, grads, lr, beta, beta2, eps, kind):
    m, s = np.zeros_like(w), 0.0
    center = np.eye(w.shape[0]) - np.ones((w.shape[0],) * 2) / w.shape[0]
    for t, g in enumerate(grads, start=1):
        m = beta * m + (1 - beta) * g
        if kind == "row-norm":
            d = m / (np.linalg.norm(m, axis=1, keepdims=True) + eps)
        elif kind == "centered-row-norm":
            c = center @ m
            d = center @ (c / (np.linalg.norm(c, axis=1, keepdims=True) + eps))
        else:
            s = beta2 * s + (1 - beta2) * (g.T @ g if kind == "right-spectral" else g @ g.T)
            values, vectors = np.linalg.eigh(s / (1 - beta2**t) + eps * np.eye(len(s)))
            root = (vectors / np.sqrt(values)) @ vectors.T
            d = m @ root if kind == "right-spectral" else root @ m
        w = w - lr * d
    return w


REFERENCES = {
    "drop-muon on one layer": (DropMuon(momentum=0.6), lambda w, g: drop_muon(w, g, 0.1, 0.6)),
    "lanton on one layer": (LANTON(), lambda w, g: lanton(w, g, 0.01, 0.95)),
    **{
        f"symmetry-compatible {kind}": (
            SymmetryCompatible(map=kind, eps=0.01),
            lambda w, g, kind=kind: symmetric(w, g, 0.01, 0.9, 0.95, 0.01, kind),
        )
        for kind in ("row-norm", "centered-row-norm", "right-spectral", "left-spectral")
    },
}
assert set(FIXED_RADIUS) | set(PROPORTIONAL) <= set(methods.names())
