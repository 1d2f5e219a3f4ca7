"""Published coefficient sets and their normalizations: which combinations are safe, biased, robust or efficient."""

from __future__ import annotations

import functools
from collections.abc import Iterable

import numpy as np

from ..arrays import Array
from ..polar import MUON_QUINTIC, NEWTON_SCHULZ_CUBIC, SCHEDULES, Normalization, Schedule
from ..polar.lint import BASIN, lint, peak_and_fixed_point
from ..polar.minimax import compose
from ..polar.presets import ROOT_ROWS, root
from ..theory.contract import Size
from ..theory.orthogonality import polar
from .contract import Claim, Verdict

UNBIASED = 1e-6  # relative: far above rounding, far below any scaling of rows
ROBUST = 1.5  # what a set sends [0, 1] to has to stay below, for any number of steps


def singular_values(g: Array) -> np.ndarray:
    """Return the singular values in ascending order, good to 1e-8 of the largest, from the smaller Gram matrix."""
    short = g if g.shape[0] <= g.shape[1] else g.T
    return np.sqrt(np.maximum(np.linalg.eigvalsh(short @ short.T), 0.0))


def alignment(g: Array, x: Array) -> float:
    """Return <G, X> / (|X|_2 |G|_*), 1 for the best update in a spectral ball and negative for one that ascends."""
    return float(np.sum(g * x) / (singular_values(x)[-1] * singular_values(g).sum()))


def adversaries(size: Size) -> list[np.ndarray]:
    """Return matrices that a gradient can be: rank one, one direction that dominates to any degree, Gaussian."""
    rng = np.random.default_rng(0)
    side = 16 if size == "smoke" else 64
    matrices = [np.outer(rng.standard_normal(side), rng.standard_normal(side)), rng.standard_normal((side, side))]
    for share in np.linspace(0.5, 1.0, 11 if size == "smoke" else 501):
        s = np.full(side, np.sqrt((1 - share**2) / (side - 1)))
        s[0] = share
        matrices.append(np.diag(s))
    return matrices


def any_set_behind_frobenius(schedules: Iterable[Schedule], size: Size) -> Verdict:
    """Judge whether every set, behind the Frobenius norm, gives a direction of descent inside (0, sqrt 3)."""
    matrices = adversaries(size)
    worst, largest, bad = 1.0, 0.0, set()
    schedules = list(schedules)
    for schedule in schedules:
        plain = Schedule(schedule.name, schedule.coefficients, schedule.source, (1e-3, 1.0), (0.0, 1.0))
        for g in matrices:
            x = plain.apply(g)
            value, norm = alignment(g, x), float(singular_values(x)[-1])
            worst, largest = min(worst, value), max(largest, norm)
            if value <= 0 or norm >= BASIN:
                bad.add(schedule.name)
    rank_one = matrices[0] / np.linalg.norm(matrices[0])
    aol = SCHEDULES["emerging-aol"]
    return Verdict(
        "refuted" if bad else "holds",
        measured=worst,
        expected="<G, X> > 0 and |X|_2 < sqrt 3 on every matrix",
        evidence={
            "sets": len(schedules),
            "sets that fail": len(bad),
            "largest spectral norm": largest,
            "the AOL set on rank one": float(np.sum(rank_one * aol.apply(rank_one))),
            "its first step at 1": float(aol.singular_value_map(np.float64(1.0), steps=1)),
        },
    )


def keeps_the_polar_factor(normalization: Normalization, size: Size) -> Verdict:
    """Judge whether a normalization leaves the polar factor alone, on Gaussian matrices and on rows of unequal size."""
    rng = np.random.default_rng(1)
    side = 64 if size == "smoke" else 512
    bias = {}
    for name, shape in (("square", (side, side)), ("wide", (side, 4 * side))):
        for rows, spread in (("equal rows", 0.0), ("unequal rows", 1.0)):
            g = rng.standard_normal(shape) * np.exp(spread * rng.standard_normal((side, 1)))
            difference = polar(normalization(g)) - polar(g)
            bias[f"{name}, {rows}"] = float(np.linalg.norm(difference) / np.sqrt(side))
    worst = max(bias.values())
    return Verdict(
        "holds" if worst <= UNBIASED else "refuted",
        measured=worst,
        expected="relative change of the polar factor by rounding alone",
        evidence={"side": side, **bias},
    )


def gaussian_spectrum(shape: tuple[int, int], size: Size) -> np.ndarray:
    """Return the singular values over the Frobenius norm of a Gaussian matrix of that shape, from a smaller draw.

    The spectrum of a smaller matrix of the same aspect ratio is rescaled to the norm of the true size.
    """
    rows, columns = shape
    side = 256 if size == "smoke" else 1024
    g = np.random.default_rng(2).standard_normal((side, side * columns // rows))
    return singular_values(g) / np.sqrt(side * columns / rows) / np.sqrt(rows)


def robust_across_dimensions(shapes: Iterable[tuple[int, int]], size: Size) -> Verdict:
    """Judge whether the set of each shape keeps [0, 1] bounded for ever and is more accurate than Muon's there."""
    shapes = list(shapes)
    evidence: dict[str, float] = {}
    highest, better = 0.0, True
    for shape in shapes:
        schedule, s = root(shape), gaussian_spectrum(shape, size)
        own, muon = (1 - plan.singular_value_map(s) for plan in (schedule, MUON_QUINTIC))
        label = f"{shape[0]}x{shape[1]}"
        evidence |= {
            f"rms error {label}": float(np.sqrt(np.mean(own**2))),
            f"rms error of Muon {label}": float(np.sqrt(np.mean(muon**2))),
        }
        better = better and bool(np.mean(own**2) < np.mean(muon**2))
        highest = max(highest, schedule.image(0.0, 1.0)[1])
    turning, peak, fixed = peak_and_fixed_point(root(shapes[0]).coefficients[0])
    beyond = np.mean(root(shapes[0]).singular_value_map(np.linspace(0, 1, 100_001)) > 2)
    escapes = any(p > f for _, p, f in (peak_and_fixed_point(root(shape).coefficients[0]) for shape in shapes))
    return Verdict(
        "holds" if better and not escapes and highest <= ROBUST else "refuted",
        measured=highest,
        expected=f"more accurate than Muon's set, and singular values in [0, 1] stay below {ROBUST}",
        evidence={
            **evidence,
            "peak at": turning,
            "peak": peak,
            "repelling fixed point": fixed,
            "share of [0, 1] that comes out above 2": float(beyond),
        },
    )


def as_efficient(other: Schedule, size: Size) -> Verdict:
    """Judge whether Muon's five steps give at least the linear decrease of another schedule on Gaussian matrices."""
    draws = 1 if size == "smoke" else 5
    muon, others = [], []
    for seed in range(draws):
        for shape in ((256, 256), (256, 1024)):
            g = np.random.default_rng(seed).standard_normal(shape)
            muon.append(alignment(g, MUON_QUINTIC.apply(g)))
            others.append(alignment(g, other.apply(g)))
    ratio = float(np.min(np.array(muon) / np.array(others)))
    return Verdict(
        "holds" if ratio >= 1 else "refuted",
        measured=ratio,
        expected="at least the efficiency of the other schedule",
        evidence={
            "Muon 256x256": muon[0],
            "other 256x256": others[0],
            "Muon 256x1024": muon[1],
            "other 256x1024": others[1],
            "products of Muon": 15,
            "products of the other": sum(len(step) for step in other.coefficients),
        },
    )


@functools.cache
def four_minimax_quintics() -> Schedule:
    """Return the minimax quintics on [1e-2, 1] in four steps: 12 products of a square matrix."""
    return compose((5,) * 4, 1e-2).schedule("minimax-quintic-4")


def _three_cubics() -> Schedule:
    return Schedule("cubic", NEWTON_SCHULZ_CUBIC.first(3), "kovarik1970some", (1e-3, 1.0), (0.0, 1.0))


def _without_errors() -> list[Schedule]:
    return [s for s in SCHEDULES.values() if not any(f.severity == "error" for f in lint(s))]


CLAIMS = (
    Claim(
        "any-set-behind-frobenius", "nvidia2025emerging, the code runs every set behind the Frobenius norm",
        "Any published coefficient set may be combined with Frobenius normalization.",
        lambda size: any_set_behind_frobenius(SCHEDULES.values(), size),
        lambda size: any_set_behind_frobenius(_without_errors(), size),
        "the sets in which the linter finds no error", "holds",
    ),
    Claim(
        "aol-scaling-keeps-the-polar-factor", "ours, on boissin2025turbo",
        "AOL scaling prepares a matrix for fewer steps and leaves its polar factor alone.",
        functools.partial(keeps_the_polar_factor, Normalization(bound="aol")),
        functools.partial(keeps_the_polar_factor, Normalization(bound="schatten-8")),
        "division by the Schatten-8 norm, which is as free", "holds",
    ),
    Claim(
        "root-dimension-robust", "he2025root, the authors' code",
        "Coefficients tuned for each matrix shape orthogonalize robustly across dimensions.",
        functools.partial(robust_across_dimensions, list(ROOT_ROWS)),
        functools.partial(robust_across_dimensions, [shape for shape in ROOT_ROWS if shape[0] != shape[1]]),
        "the three sets for rectangles", "holds",
    ),
    Claim(
        "muon-five-steps-suffice", "ours, on jordan2024muon",
        "Muon's five tuned quintic steps give at least the linear decrease of four minimax quintic steps.",
        lambda size: as_efficient(four_minimax_quintics(), size),
        lambda size: as_efficient(_three_cubics(), size),
        "three classical cubic steps in place of the minimax ones", "holds",
    ),
)  # fmt: skip
