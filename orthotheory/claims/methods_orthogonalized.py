"""Claims on the relatives of Muon: whether their steps descend, stay bounded, and measure what they say."""

from __future__ import annotations

import functools
from collections.abc import Callable

import numpy as np

from ..arrays import Array
from ..methods import LANTON, OrthDion, Scion, ShippedQDWH, start_law
from ..methods.drop_muon import probabilities
from ..methods.lanton import layer_rates
from ..norms import RmsToRms
from ..polar import MUON_JORDAN, polar_factor
from ..problems import layers
from ..theory.contract import Size
from ..theory.methods_geometry import dual_norm, next_dual_norm, random_rotations
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


# Drop-Muon: cost of a bound, in layers passed by backpropagation


def cost_ratio(constants: tuple[float, ...], law: tuple[float, ...] | None, *, by_layers: bool) -> float:
    """Return the cost of the theorem's number of steps under a law over that of full updates."""
    count = len(constants)
    p = probabilities(law, count)
    steps = float((1 / max(constants)) / np.min(p / np.array(constants)))
    return steps * (float(p.sum()) / count if by_layers else 1.0)


def partial_updates_pay(by_layers: bool, size: Size) -> Verdict:
    """Judge whether dropping layers is cheaper exactly when the first layer does not have the largest constant."""
    ratios = {c: cost_ratio(c, start_law(c), by_layers=by_layers) for c in ((4.0, 1, 1), (1.0, 4, 1), (1.0, 1, 4))}
    right = all((ratio < 1 - 1e-12) == (c[0] < max(c)) for c, ratio in ratios.items())
    return Verdict(
        "holds" if right else "refuted",
        measured=min(ratios.values()),
        expected="cheaper than full updates if and only if the first constant is not the largest",
        evidence={f"cost over full updates at {c}": ratio for c, ratio in ratios.items()},
    )


# LANTON


def rates_follow_noise(smoothness: tuple[float, ...], noise: tuple[float, ...], size: Size) -> Verdict:
    """Judge whether the rates fall strictly with the noise of the layers and the quietest has rate 1."""
    problem = layers(smoothness=smoothness, noise_levels=noise)
    method = LANTON(lr=0.02)
    rng = np.random.default_rng(0)
    w, state = problem.start, method.init(problem.start)
    for _ in range(100 if size == "smoke" else 1000):
        w, state = method.step(w, problem.noisy_grad(w, rng), state)
    rates = [float(r[0, 0]) for r in layer_rates(state.noise, method.alpha, (0,) * len(noise))]
    order = np.argsort(noise)
    falls = bool(np.all(np.diff(np.array(rates)[order]) < 0)) and rates[order[0]] == 1.0
    return Verdict(
        "holds" if falls else "refuted",
        measured=min(rates),
        expected="rates in (0, 1], falling with the noise",
        evidence={f"rate at noise {s:g}": r for s, r in zip(noise, rates, strict=True)},
    )


CLAIMS = (
    Claim(
        "adamuon-descends", "si2025adamuon",
        "Orthogonalizing the sign of the momentum gives a descent direction.",
        functools.partial(descends, lambda g: polar_factor(np.sign(g))), functools.partial(descends, polar_factor),
        "the polar factor of the gradient itself", "holds",
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
    Claim(
        "drop-muon-full-updates", "gruntkowska2025drop, abstract",
        "Full updates are not optimal unless the layers' smoothness constants are special.",
        functools.partial(partial_updates_pay, True), functools.partial(partial_updates_pay, False),
        "cost counted in steps instead of layers", "refuted",
    ),
    Claim(
        "lanton-measures-noise", "hao2025noise, in our reconstruction",
        "Differences of successive gradients order the layers' rates by their noise.",
        functools.partial(rates_follow_noise, (1.0, 1.0, 1.0), (1.0, 3.0, 10.0)),
        functools.partial(rates_follow_noise, (1.0, 1000.0), (0.1, 0.0)),
        "a layer without noise that drifts fast beside a noisy one", "refuted",
    ),
)  # fmt: skip
