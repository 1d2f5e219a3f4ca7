"""The cost of orthogonalization, by counting the operations that the code performs; nothing is timed."""

from __future__ import annotations

import functools
from collections.abc import Callable

import numpy as np

from ..methods.auon import auon_direction
from ..polar import MUON_QUINTIC
from ..theory import fit_exponent
from ..theory.contract import Size
from .contract import Claim, Verdict


class CountingArray(np.ndarray):
    """A NumPy array that counts the arithmetic done on it: 2 m n k for a product, one per entry otherwise."""

    operations = 0.0

    def __array_ufunc__(self, ufunc, method, *inputs, out=None, **options):
        plain = [np.asarray(x) if isinstance(x, CountingArray) else x for x in inputs]
        if out is not None:
            options["out"] = tuple(np.asarray(x) if isinstance(x, CountingArray) else x for x in out)
        result = getattr(ufunc, method)(*plain, **options)
        if ufunc is np.matmul:
            CountingArray.operations += 2.0 * np.size(result) * np.shape(plain[0])[-1]
        elif method == "reduce":
            CountingArray.operations += float(np.size(plain[0]))
        else:
            CountingArray.operations += float(np.size(result))
        return result.view(CountingArray) if isinstance(result, np.ndarray) else result


def count_operations(function: Callable, x: np.ndarray) -> float:
    """Return the operations of one call."""
    CountingArray.operations = 0.0
    function(x.view(CountingArray))
    return CountingArray.operations


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


CLAIMS = (
    Claim(
        "newton-schulz-quadratic-cost", "maity2025auon, versions 1 and 2",
        "Newton-Schulz brings the orthogonalization of a square matrix down to a quadratic number of operations.",
        functools.partial(quadratic_in_the_side, MUON_QUINTIC.apply),
        functools.partial(quadratic_in_the_side, auon_direction),
        "AuON's scaling, which is linear in the number of entries", "holds",
    ),
)  # fmt: skip
