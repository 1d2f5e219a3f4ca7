"""Polynomial steps on small NumPy matrices: a cacheful of them at a time, in buffers that are used again.

NumPy answers x.T @ x by a symmetric product, which for sides up to 64 is two to four times slower than a general one;
x.T @ y with y a copy of x is that. X' = X (a I + p(Q)) needs no pass over X beside the product and the copy.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..arrays import Array

LONGEST = 128  # side; beyond, a product is not small
BUFFER = 2**17  # bytes of one of the five buffers: all fit the second cache, and none is given back to the system


def takes(x: Array) -> bool:
    """Say whether `run` takes x: a decision on shape and dtype alone, so that batches change no bit."""
    return type(x) is np.ndarray and x.dtype in (np.float32, np.float64) and max(x.shape[-2:]) <= LONGEST


def run(x: np.ndarray, coefficients: Sequence[tuple[float, ...]]) -> np.ndarray:
    """Apply odd polynomials (a, b, c, ...) in turn: X <- X (a I + b Q + c Q^2 + ...) with Q = X^T X.

    Of a wide matrix it is the transpose that is multiplied. Cost: 4 m n^2 + 2 n^3 operations a quintic, m >= n.
    """
    wide = x.shape[-2] < x.shape[-1]
    held = x.swapaxes(-1, -2) if wide else x
    m, n = held.shape[-2:]
    flat = held.reshape(-1, m, n)
    out = np.empty(flat.shape, x.dtype)
    size = min(max(1, BUFFER // max(m * n * x.itemsize, 1)), max(len(flat), 1))
    copies = np.empty((size, m, n), x.dtype)
    squares = [np.empty((size, n, n), x.dtype) for _ in range(3)]
    for first in range(0, len(flat), size):
        here = out[first : first + size]
        here[...] = flat[first : first + size]
        copy, q, p, r = (buffer[: len(here)] for buffer in (copies, *squares))
        copy[...] = here
        for a, *rest in coefficients:
            if not rest:
                here *= a
                copy *= a
                continue
            np.matmul(here.mT, copy, out=q)
            np.multiply(q, rest[-1], out=p)
            for c in reversed(rest[:-1]):
                np.einsum("kii->ki", p)[...] += c  # a view of the diagonals
                np.matmul(p, q, out=r)
                p, r = r, p
            np.einsum("kii->ki", p)[...] += a
            np.matmul(here, p, out=copy)
            here[...] = copy
    result = out.reshape(held.shape)
    return result.swapaxes(-1, -2) if wide else result
