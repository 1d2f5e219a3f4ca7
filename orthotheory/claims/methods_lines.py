"""The claim on diffGrad's three functions on the line."""

from __future__ import annotations

import functools

import numpy as np

from ..methods import Adam, DiffGrad, Method
from ..theory.contract import Size
from .contract import Claim, Verdict

# Derivatives of the three functions and their lowest points right of -0.9 (-1 is the start). They are rebuilt from
# memory of the paper's, with their kinks and bumps; continuity at the kinks fixes the constants but for 0.02 at -0.9.


def bump(x: np.ndarray) -> np.ndarray:
    """Return the derivative of (x + 0.3)^2 left of 0 and (x - 0.2)^2 + 0.05 right of it."""
    return np.where(x <= 0, 2 * (x + 0.3), 2 * (x - 0.2))


def waves(x: np.ndarray) -> np.ndarray:
    """Return the derivative of -40 x - 35.15 left of -0.9 and x^3 + x sin 8x + 0.85 right of it."""
    return np.where(x <= -0.9, -40.0, 3 * x**2 + np.sin(8 * x) + 8 * x * np.cos(8 * x))


def kinks(x: np.ndarray) -> np.ndarray:
    """Return a derivative of x^2 where |x| > 0.5, 0.75 - |x| where |x| > 0.4, and 7 |x| / 8 elsewhere."""
    a = np.abs(x)
    return np.where(a > 0.5, 2 * x, np.where(a > 0.4, -1.0, 7 / 8) * np.where(x >= 0, 1.0, -1.0))


LINES = {"bump": (bump, -0.3), "waves": (waves, -0.64292), "kinks": (kinks, 0.0)}


def reached(kind: type[Method], lr: np.ndarray, beta1: np.ndarray, steps: int) -> dict[str, np.ndarray]:
    """Return for each function which settings end, on average over 100 steps, within 0.05 of the lowest point."""
    found = {}
    for name, (slope, lowest) in LINES.items():
        method, w, tail = kind(lr=lr, beta1=beta1), -np.ones((len(lr), 1, 1)), []  # type: ignore[call-arg]
        state = method.init(w)
        for t in range(steps):
            w, state = method.step(w, slope(w), state)
            tail += [w[:, 0, 0]] * (t >= steps - 100)
        found[name] = np.mean(np.abs(np.array(tail) - lowest), axis=0) < 0.05
    return found


def reaches_lowest_points(one: bool, size: Size) -> Verdict:
    """Judge whether diffGrad from -1 ends at the lowest point of each function for all lr and beta1 of a grid."""
    rates = np.array([0.1]) if one else np.geomspace(0.03, 0.3, 5 if size == "smoke" else 41)
    betas = np.array([0.95]) if one else np.array([0.9, 0.95])
    lr, beta1 = (x.ravel() for x in np.meshgrid(rates, betas))
    own, adam = (reached(kind, lr, beta1, 600 if size == "smoke" else 2000) for kind in (DiffGrad, Adam))
    evidence = {"settings": float(len(lr))}
    for name in LINES:
        evidence[f"share of settings, diffGrad, {name}"] = float(own[name].mean())
        evidence[f"share of settings, Adam, {name}"] = float(adam[name].mean())
        evidence[f"share, diffGrad alone, {name}"] = float((own[name] & ~adam[name]).mean())
        evidence[f"share, Adam alone, {name}"] = float((adam[name] & ~own[name]).mean())
    share = float(np.mean(np.all(list(own.values()), axis=0)))
    return Verdict(
        "holds" if share == 1.0 else "refuted",
        measured=share,
        expected="all settings within 0.05 of the lowest point on all three functions, a share of 1",
        evidence=evidence,
    )


CLAIMS = (
    Claim(
        "diffgrad-lowest-points", "dubey2019diffgrad, functions rebuilt from memory",
        "From -1 diffGrad ends at the lowest points of three functions on the line that have other minima.",
        functools.partial(reaches_lowest_points, False), functools.partial(reaches_lowest_points, True),
        "one setting, lr 0.1 and beta1 0.95, for which Adam passes two of the three lowest points", "holds",
    ),
)  # fmt: skip
