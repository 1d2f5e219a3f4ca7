"""Rules that keep one loss while changing another, and updates tangent to spheres: what their papers claim."""

from __future__ import annotations

import functools
from collections.abc import Callable

import numpy as np

from ..problems.tasks import flat_valley, retain_forget
from ..surgery.retain import Bloop
from ..surgery.tangent import Lattice
from ..surgery.unlearning import disentangle, trust_region_step
from ..theory import fit_exponent
from ..theory.contract import Size
from ..theory.retain import rayleigh_run
from .contract import Claim, Verdict

Direction = Callable[[np.ndarray, np.ndarray], np.ndarray]  # (forget, retain) -> direction
ROUNDING = 1e-11
NOISE = 0.3  # of each coordinate, in units of the length of the main gradient


def keeps_retain_losses(direction: Direction, size: Size) -> Verdict:
    """Judge "unchanged to first order iff orthogonal": slope 2 along the direction, slope 1 with a tangential part."""
    steps = 10.0 ** np.linspace(-4, -1, 7)
    changes: list[np.ndarray] = []
    mixed: list[np.ndarray] = []
    for seed in range(6 if size == "smoke" else 40):
        p = retain_forget(seed=seed)
        g, r = p.forget.grad(p.start)[0], p.retain.grad(p.start)
        d = direction(g, r)
        tangential = d + 0.1 * np.linalg.norm(d) * r[0] / np.linalg.norm(r[0])
        for x, found in ((d, changes), (tangential, mixed)):
            moved = p.retain.value(p.start + steps[:, None] * x) - p.retain.value(p.start)
            found.append(np.abs(moved).max(axis=1))
    slope, other = (fit_exponent(steps, np.array(c)) for c in (changes, mixed))
    holds = slope.low > 1.95 and other.high < 1.05
    return Verdict(
        "holds" if holds else "refuted",
        measured=slope.slope,
        expected="change of the retain losses of order 2 in the step; of order 1 once a tangential part is added",
        evidence={
            "order low": slope.low,
            "order high": slope.high,
            "order with a tangential part": other.slope,
            "problems": len(changes),
        },
    )


def is_optimal_in_trust_region(step: Callable[..., np.ndarray], size: Size) -> Verdict:
    """Judge a step in a diagonal metric against 20,000 random feasible directions, and its own feasibility."""
    rng = np.random.default_rng(0)
    leak, margin, nearest = 0.0, np.inf, 0.0
    for seed in range(3 if size == "smoke" else 10):
        n, k = 12, 4
        g, r = rng.standard_normal(n), rng.standard_normal((k, n))
        metric = 10.0 ** np.random.default_rng(seed).uniform(-1, 1, n)
        d = step(g, r, metric)
        leak = max(leak, float(np.abs(r @ d).max() / np.linalg.norm(d)))
        rivals = rng.standard_normal((20_000, n - k)) @ np.linalg.svd(r)[2][k:]
        rivals /= np.sqrt(np.sum(rivals**2 / metric, axis=1))[:, None]
        best = float((rivals @ g).max())
        margin, nearest = min(margin, float(g @ d) / best), max(nearest, best / float(g @ d))
    holds = leak <= ROUNDING and margin >= 1 - 1e-12
    return Verdict(
        "holds" if holds else "refuted",
        measured=leak,
        expected="a retain change at rounding level, and no feasible direction that forgets faster",
        evidence={"smallest value over the best of 20,000": margin, "best of 20,000 over the value": nearest},
    )


def _unit_step(g: np.ndarray, r: np.ndarray, metric: np.ndarray) -> np.ndarray:
    return trust_region_step(g, r, 1.0, metric)


def _project_then_precondition(g: np.ndarray, r: np.ndarray, metric: np.ndarray) -> np.ndarray:
    d = metric * disentangle(g, r).gradient  # what Adam makes of a projected gradient
    return d / np.sqrt(np.sum(d**2 / metric))


def average_keeps_orthogonality(shares: np.ndarray, size: Size) -> Verdict:
    """Judge whether the leak of Bloop under gradient noise shrinks with the averaging constant and beats no average.

    The leak is the root mean square of <r, g> / (|g_aux| |g|), r what is left of the auxiliary gradient, g the true
    main gradient at a fixed point.
    """
    p, warm, steps = flat_valley(seed=0), 200, 1000 if size == "smoke" else 10_000
    g, aux = p.main_grad(p.start), p.aux_grad(p.start)
    shape = (4 if size == "smoke" else 12, len(shares), len(g))
    main, other = (np.broadcast_to(x, shape) for x in (g, aux))
    rng, rule, squares = np.random.default_rng(0), Bloop(lam=1.0, averaging=shares), np.zeros(shape[:2])
    state = rule.init(main)
    for k in range(warm + steps):
        noisy = main + NOISE * np.linalg.norm(g) * rng.standard_normal(shape)
        update, state = rule.step(noisy, other, state)
        if k >= warm:
            squares += ((update - noisy) @ g / (np.linalg.norm(aux) * np.linalg.norm(g))) ** 2
    runs = np.sqrt(squares / steps)
    fit = fit_exponent(np.geomspace(1, 1 / 30, len(shares)), runs)
    gain = float(np.max(runs[:, -1] / runs[:, 0]))
    plain = abs(aux @ g) / (np.linalg.norm(aux) * np.linalg.norm(g))
    keeps = fit.low > 0.3 and gain < 0.5
    condition = "up to a leak of order sqrt(averaging); the average must be fast against the drift of the gradient"
    return Verdict(
        "holds_if" if keeps else "refuted",
        measured=fit.slope,
        expected="a leak that vanishes with the averaging constant",
        evidence={
            "leak without an average": float(runs[:, 0].mean()),
            "leak at averaging 1/30": float(runs[:, -1].mean()),
            "leak of the plain sum": float(plain),
            "exponent low": fit.low,
            "exponent high": fit.high,
        },
        condition=condition if keeps else "",
    )


def cures_norm_growth(projected: bool, size: Size) -> Verdict:
    """Judge whether the norm of a scale-invariant weight grows by the squares of its steps alone."""
    runs = [rayleigh_run(projected, seed) for seed in range(5 if size == "smoke" else 20)]
    others = [rayleigh_run(not projected, seed) for seed in range(len(runs))]
    growth = np.array([r.norms[-1] - r.norms[0] for r in runs])
    squares = np.array([r.steps.sum() for r in runs])
    excess = float(np.abs(growth / squares - 1).max())
    other = np.array([r.norms[-1] - r.norms[0] for r in others])
    return Verdict(
        "holds" if excess <= 1e-10 else "refuted",
        measured=excess,
        expected="growth of |w|^2 equal to the sum of squared steps",
        evidence={
            "runs": len(runs),
            "mean growth": float(growth.mean()),
            "mean growth of the other rule": float(other.mean()),
            "excess of momentum 0.9 in the limit, 2 beta / (1 - beta)": 18.0,
        },
    )


def writes_only_what_is_new(rule: Lattice, size: Size) -> Verdict:
    """Judge whether every write to every slot is orthogonal to it; recall errors are recorded beside."""
    other = Lattice(rule.rate, orthogonal=not rule.orthogonal)
    worst, recall = 0.0, np.zeros((2, 2))
    for seed in range(3 if size == "smoke" else 20):
        for i, repeated in enumerate((False, True)):
            rng = np.random.default_rng(seed)
            start = rng.standard_normal((8, 16))
            keys = rng.standard_normal((1 if repeated else 30, 8))
            values = 0.5 * rng.standard_normal((len(keys), 16))
            for j, r in enumerate((rule, other)):
                slots = start
                for k in range(30):
                    key, value = keys[k % len(keys)], values[k % len(keys)]
                    moved = r.write(slots, key, value)
                    if r is rule:
                        inner = np.abs(np.sum((moved - slots) * slots, axis=1))
                        change, length = (np.linalg.norm(x, axis=1) for x in (moved - slots, slots))
                        seen = change > 1e-3 * length  # below it the rounding of the slot shows in the cosine
                        worst = max([worst, *(inner / (change * length))[seen]])
                    slots = moved
                error = np.linalg.norm(values - np.array([r.readout(slots, k) for k in keys]), axis=1)
                recall[i, j] += float(np.mean(error / np.linalg.norm(values, axis=1)))
    runs = 3 if size == "smoke" else 20
    return Verdict(
        "holds" if worst <= 1e-12 else "refuted",
        measured=float(worst),
        expected="a cosine of every change with its slot at rounding level",
        evidence={
            "recall error, repeated pair": recall[1, 0] / runs,
            "recall error of the other rule, repeated pair": recall[1, 1] / runs,
            "recall error, thirty pairs": recall[0, 0] / runs,
            "recall error of the other rule, thirty pairs": recall[0, 1] / runs,
        },
    )


_SHARES = np.geomspace(1, 1 / 30, 4)

CLAIMS = (
    Claim(
        "unlearning-first-order", "zhou2025geometric",
        "Retain losses are unchanged to first order if and only if the update is orthogonal to their gradients.",
        functools.partial(keeps_retain_losses, lambda g, r: disentangle(g, r).update),
        functools.partial(keeps_retain_losses, lambda g, r: g),
        "the forget gradient without projection", "refuted",
    ),
    Claim(
        "unlearning-optimal", "zhou2025geometric",
        "The projection in the optimizer's metric gives the best retain-invariant step of a trust region.",
        functools.partial(is_optimal_in_trust_region, _unit_step),
        functools.partial(is_optimal_in_trust_region, _project_then_precondition),
        "a Euclidean projection before the preconditioner, as when Adam acts last", "refuted",
    ),
    Claim(
        "bloop-average", "hsieh2024careful",
        "A moving average of the main gradient keeps the auxiliary update orthogonal to it under minibatch noise.",
        functools.partial(average_keeps_orthogonality, _SHARES),
        functools.partial(average_keeps_orthogonality, np.ones(4)),
        "projection on the noisy gradient itself", "refuted",
    ),
    Claim(
        "adamp-norm-growth", "heo2021adamp",
        "Removing the radial part of a momentum step cures the excess growth of scale-invariant weights.",
        functools.partial(cures_norm_growth, True),
        functools.partial(cures_norm_growth, False),
        "momentum without the projection", "refuted",
    ),
    Claim(
        "lattice-novel", "karami2025lattice",
        "Each memory slot is changed only by what is orthogonal to it.",
        functools.partial(writes_only_what_is_new, Lattice(rate=0.3)),
        functools.partial(writes_only_what_is_new, Lattice(rate=0.3, orthogonal=False)),
        "the delta rule, without the projection", "refuted",
    ),
)  # fmt: skip
