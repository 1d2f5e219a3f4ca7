"""The cost of orthogonalization, by counting the operations that the code performs; nothing is timed."""

from __future__ import annotations

import functools
from collections.abc import Callable

import numpy as np

from ..counting import CountingArray, count_operations
from ..methods.auon import auon_direction
from ..polar import MUON_QUINTIC
from ..theory import fit_exponent
from ..theory.contract import Size
from .contract import Claim, Verdict


def quadratic_in_the_side(function: Callable, size: Size) -> Verdict:
    """Judge whether the operation count of an orthogonalization grows like n^2 with the side of a square matrix."""
    sides = np.array([16, 32, 64, 128, 256] if size == "smoke" else [32, 64, 128, 256, 512, 1024])
    rng = np.random.default_rng(0)
    counts = np.array([[count_operations(function, rng.standard_normal((n, n))) for n in sides] for _ in range(2)])
    tail = fit_exponent(sides[-3:].astype(float), counts[:, -3:])
    holds = tail.high <= 2.1
    return Verdict(
        "holds" if holds else "refuted",
        measured=tail.slope,
        expected="exponent 2 in the side n",
        evidence={
            "largest side": int(sides[-1]),
            "operations over n^3 at the largest side": float(counts[0, -1] / sides[-1] ** 3),
            "operations over n^2 at the largest side": float(counts[0, -1] / sides[-1] ** 2),
            "last local exponent": tail.local[-1],
        },
    )


__all__ = ["CLAIMS", "CountingArray", "count_operations", "quadratic_in_the_side"]

CLAIMS = (
    Claim(
        "newton-schulz-quadratic-cost", "maity2025auon, versions 1 and 2",
        "Newton-Schulz brings the orthogonalization of a square matrix down to a quadratic number of operations.",
        functools.partial(quadratic_in_the_side, MUON_QUINTIC.apply),
        functools.partial(quadratic_in_the_side, auon_direction),
        "AuON's scaling, which is linear in the number of entries", "holds",
    ),
)  # fmt: skip
