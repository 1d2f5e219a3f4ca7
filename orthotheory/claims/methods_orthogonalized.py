"""Claims on the relatives of Muon: whether their steps descend, stay bounded, and measure what they say."""

from __future__ import annotations

import functools
from collections.abc import Callable

import numpy as np

from ..arrays import Array
from ..methods import Adam, AdaMuon, Conda, Method, Muon, OrthDion, Scion, ShippedQDWH
from ..norms import RmsToRms
from ..polar import MUON_JORDAN, polar_factor
from ..theory.contract import Size
from ..theory.methods_adaptive import last_step
from ..theory.methods_geometry import dual_norm, next_dual_norm, random_rotations
from ..theory.rates import upper_mean
from .contract import Claim, Verdict
from .orthogonalization import dion_direction, orthonormal_update

# AdaMuon: polar(sign(G)) against G

SIGNS = np.array(
    [[1, -1, 1, 1, -1], [-1, -1, 1, 1, -1], [1, 1, 1, -1, 1], [-1, 1, 1, 1, -1], [1, -1, -1, 1, 1]], dtype=float
)


def ascending_witness(weight: float = 1000.0) -> np.ndarray:
    """Return a 5 x 5 gradient G with <G, polar(sign G)> < 0: one entry of SIGNS, on which polar disagrees, is large."""
    g = SIGNS.copy()
    g[1, 4] *= weight
    return g


def descends(direction: Callable[[Array], Array], size: Size) -> Verdict:
    """Judge whether -direction(G) is a descent direction for every G."""
    rng = np.random.default_rng(0)
    subjects = [ascending_witness(), *(rng.standard_normal((5, 5)) for _ in range(100 if size == "smoke" else 2000))]
    alignment = [float((g * direction(g)).sum() / np.linalg.svd(g, compute_uv=False).sum()) for g in subjects]
    return Verdict(
        "holds" if min(alignment) > 0 else "refuted",
        measured=min(alignment),
        expected="<G, D> > 0 for every G",
        evidence={"witness": alignment[0], "smallest of the random ones": min(alignment[1:])},
    )


# Condition numbers of updates


def update_conditions(methods: tuple[Method, ...], size: Size) -> np.ndarray:
    """Return the condition numbers, shape (methods, draws), of the 50th update on a mean gradient with unit noise."""
    found = []
    for seed in range(12 if size == "smoke" else 60):
        rng = np.random.default_rng([2024, seed])
        shape = ((6, 9), (9, 6))[seed % 2]
        mean = rng.standard_normal(shape) * np.geomspace(1, 0.1, shape[1])
        grads = mean + rng.standard_normal((50, *shape))
        found.append([np.linalg.cond(last_step(m, tuple(grads))) for m in methods])
    return np.array(found).T


def better_conditioned(method: Method, other: Method, size: Size) -> Verdict:
    """Judge whether the mean logarithm of the ratio of condition numbers is negative, one-sided at 95 percent."""
    own, others, adam, muon = update_conditions((method, other, Adam(lr=1.0), Muon(lr=1.0, plan="exact")), size)
    end = float(upper_mean(np.log(own / others)))
    return Verdict(
        "holds" if end < 0 else "refuted",
        measured=float(np.exp(end)),
        expected="a ratio of condition numbers (geometric mean) whose upper end is below 1",
        evidence={
            "median condition number": float(np.median(own)),
            "median of the other": float(np.median(others)),
            "median of Adam": float(np.median(adam)),
            "median of Muon": float(np.median(muon)),
        },
    )


def stays_orthogonal(method: Method, size: Size) -> Verdict:
    """Judge whether updates have condition number 1, to the rounding of 50 steps of weights."""
    own = update_conditions((method,), size)[0]
    return Verdict(
        "holds" if own.max() < 1 + 1e-10 else "refuted",
        measured=float(np.median(own)),
        expected="condition number 1",
        evidence={"smallest": float(own.min()), "median": float(np.median(own)), "largest": float(own.max())},
    )


# Scion


def highest_start() -> float:
    """Return the singular value that Muon's five quintic steps send highest."""
    s = np.logspace(-4, -0.01, 200001)
    return float(s[np.argmax(MUON_JORDAN.singular_value_map(s))])


def stays_bounded(plan, size: Size) -> Verdict:
    """Judge whether constrained Scion keeps |W| <= radius, on a constant gradient that Muon's steps send highest."""
    method = Scion(lr=0.1, radius=2.0, plan=plan)
    u, _, vh = np.linalg.svd(np.random.default_rng(0).standard_normal((8, 8)))
    top = highest_start()  # the rest of the Frobenius norm is spread over the other directions
    s = np.array([top, *([np.sqrt((1 - top**2) / 7)] * 7)])
    w, g = np.zeros((8, 8)), (u * s) @ vh
    state, worst = method.init(w), 0.0
    for _ in range(100 if size == "smoke" else 400):
        w, state = method.step(w, g, state)
        worst = max(worst, float(RmsToRms().value(w)) / method.radius)
    return Verdict(
        "holds" if worst <= 1 + 1e-12 else "refuted",
        measured=worst,
        expected="at most 1 radius",
        evidence={"largest norm over the radius": worst},
    )


# ARO


def rotation_raises(rule: str, size: Size) -> Verdict:
    """Judge whether the new rotation never lowers the dual norm of the sign base."""
    cases = [case for _, case in random_rotations(size, rule)]
    change = [next_dual_norm(c)[0] / dual_norm(c)[0] - 1 for c in cases]
    lowered = sum(c < -1e-12 for c in change)
    return Verdict(
        "holds" if lowered == 0 else "refuted",
        measured=lowered / len(cases),
        expected="no case in which the dual norm falls",
        evidence={"cases": len(cases), "lowered": lowered, "largest fall": -min(change)},
    )


# Orth-Dion


def orth_dion_direction(m: Array, q: Array) -> Array:
    """Return P Q^T of one step of Orth-Dion from a start basis."""
    method = OrthDion(rank=q.shape[-1], lr=1.0, weight_decay=0.0)
    w = np.zeros_like(m)
    after, _ = method.step(w, m, method.init(w)._replace(basis=q))
    return -after / np.sqrt(m.shape[0] / m.shape[1])


# PolarGrad as shipped


def reaches_polar_factor(steps: int, size: Size) -> Verdict:
    """Judge whether the shipped QDWH gives the polar factor of ordinary matrices to 1e-6."""
    rng = np.random.default_rng(0)
    errors, low = [], []
    for _ in range(5 if size == "smoke" else 50):
        g = rng.standard_normal((32, 32))
        x = ShippedQDWH(steps).apply(g)
        errors.append(float(np.linalg.norm(x - polar_factor(g), 2)))
        low.append(float(np.linalg.svd(x, compute_uv=False)[-1]))
    return Verdict(
        "holds" if max(errors) <= 1e-6 else "refuted",
        measured=max(errors),
        expected="spectral-norm distance to the polar factor at most 1e-6",
        evidence={"largest distance": max(errors), "smallest singular value": min(low)},
    )


CLAIMS = (
    Claim(
        "adamuon-descends", "si2025adamuon",
        "Orthogonalizing the sign of the momentum gives a descent direction.",
        functools.partial(descends, lambda g: polar_factor(np.sign(g))), functools.partial(descends, polar_factor),
        "the polar factor of the gradient itself", "holds",
    ),
    Claim(
        "adamuon-orthogonal-updates", "si2025adamuon",
        "The second moment leaves the update orthogonal.",
        functools.partial(stays_orthogonal, AdaMuon(lr=1.0)),
        functools.partial(stays_orthogonal, Muon(lr=1.0, plan="exact")),
        "the polar factor", "holds",
    ),
    Claim(
        "conda-conditioning", "wang2025conda",
        "Adam in the momentum's singular basis makes better conditioned updates than Adam.",
        functools.partial(better_conditioned, Conda(lr=1.0, period=1), Adam(lr=1.0)),
        functools.partial(better_conditioned, Conda(lr=1.0, period=1), Muon(lr=1.0, plan="exact")),
        "Muon in place of Adam", "refuted",
    ),
    Claim(
        "scion-bounded-weights", "pethick2025training, the authors' code",
        "Constrained Scion keeps the weights within the radius of its ball.",
        functools.partial(stays_bounded, MUON_JORDAN), functools.partial(stays_bounded, "exact"),
        "the exact LMO in place of five quintic steps", "holds",
    ),
    Claim(
        "aro-rotation-raises-dual-norm", "gong2026aro",
        "The rotation chosen from the momentum and the base map raises the dual norm in which the base descends.",
        functools.partial(rotation_raises, "qr"), functools.partial(rotation_raises, "polar"),
        "the polar rotation in place of QR", "holds",
    ),
    Claim(
        "orth-dion-orthonormal-update", "nakamori2026orthdion",
        "With the right factor orthonormalized, the nonzero singular values of the low-rank update are one.",
        functools.partial(orthonormal_update, orth_dion_direction),
        functools.partial(orthonormal_update, dion_direction),
        "Dion's columns of length one", "holds_if",
    ),
    Claim(
        "polargrad-two-steps", "lau2025polargrad, the authors' code",
        "QDWH with the default of two inner steps computes the polar factor.",
        functools.partial(reaches_polar_factor, 2), functools.partial(reaches_polar_factor, 4),
        "four inner steps", "holds",
    ),
)  # fmt: skip
