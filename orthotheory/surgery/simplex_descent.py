"""Momentum descent of a quadratic on the simplex: in float64 with a bound of its rounding error, or in whole numbers.

    repeat:  v <- mu v + B (w + p),   w <- P(w - lr v),     B = A / s^2,   s the mean of the roots of diag(A)

P projects on {w >= 0, sum w = 1}; it is non-expansive, and blind to a common shift of its argument. With
Q = I - 1 1^T / m, errors e of w and f of Q v therefore obey

    f <- mu f + |Q B Q| e + r,     e <- |I - lr Q B Q| e + lr mu f + lr r + r'          (spectral norms)

with r and r' the roundings of one step, and e <- 0 where the largest entry leads by more than 1 + 2 e: P is then
constant. Without momentum and for lr |Q B Q| <= 2 a step is non-expansive and roundings only add up; where it is not,
they grow by up to |I - lr Q B Q| + lr mu |Q B Q| / (1 - mu) a step, about ten for lr = 10, until a vertex forgets them.
"""

from __future__ import annotations

import math
from operator import mul
from typing import Any

import numpy as np

from ..arrays import Array, array_namespace, device_of
from ..polar.svd import svd_of_moderate
from .contract import Rows, divide

EPS = 2.0**-53
HUGE = 1e290  # products with it stay finite


def project_simplex(v: Array) -> Array:
    """Project on {w >= 0, sum w = 1} over the last axis, by sorting [held1974validation]."""
    xp = array_namespace(v)
    v = v - xp.max(v, axis=-1, keepdims=True)  # the projection does not see a common shift
    ordered = xp.sort(v, axis=-1, descending=True)
    count = xp.arange(1, v.shape[-1] + 1, dtype=v.dtype, device=device_of(v))
    threshold = xp.max((xp.cumulative_sum(ordered, axis=-1) - 1) / count, axis=-1, keepdims=True)
    return xp.maximum(v - threshold, xp.zeros_like(v))


def _size(x: Array, axes: Any = -1) -> Array:
    xp = array_namespace(x)
    return xp.sqrt(xp.sum(x * x, axis=axes))


def descend(rule: Any, one: Rows, two: Rows, start: Array, pull: Array) -> tuple[Array, Array]:
    """Return w for A = J1 J2^T, (b, m), and a bound of its distance to the w of exact arithmetic, (b,).

    `rule` has lr, momentum and iterations; `one` and `two` hold the rows of J1 and J2, one batch axis; `start` is
    (b, m), `pull` is p, (m,). A bound that is not finite says nothing. Cost: the Gramian, two singular values and
    `iterations` products with it.
    """
    lr, mu = float(rule.lr), float(rule.momentum)
    xp, (_, m, n) = array_namespace(one.unit), one.unit.shape
    a = one.relative @ xp.matrix_transpose(two.relative)
    square = xp.linalg.diagonal(a)
    off = (n + 2) * EPS * one.length * two.length  # of diag(A)
    s = xp.sum(xp.sqrt(xp.clip(square, 0.0, None)), axis=-1) / m
    off_s = xp.sum(divide(1.5 * off, xp.sqrt(xp.maximum(square, off))), axis=-1) / m + (m + 3) * EPS * s
    b = divide(a, (s * s)[:, None, None] + xp.zeros_like(a))
    size = _size(b, (-2, -1))
    wrong = (n + 2) * EPS * divide(_size(one.length) * _size(two.length), s * s) + (
        3 * divide(off_s, s) + 4 * EPS
    ) * size
    eye = xp.eye(m, dtype=a.dtype, device=device_of(a))
    seen = (eye - 1 / m) @ b @ (eye - 1 / m)
    known = xp.isfinite(size) & (divide(off_s, s) < 0.1) & (size < HUGE**0.5)
    seen = xp.where(known[:, None, None], seen, xp.zeros_like(seen))
    gain, keep = (svd_of_moderate(x)[1][:, 0] + 4 * m * EPS * (1 + lr * size) for x in (seen, eye - lr * seen))
    w, v, e, f = start, xp.zeros_like(start), xp.zeros_like(s), xp.zeros_like(s)
    for _ in range(rule.iterations):
        pulled = w + pull
        v = mu * v + (b @ pulled[..., None])[..., 0]
        y = w - lr * v
        length, high = _size(pulled), _size(v)
        rounded = wrong * length + EPS * ((m + 4) * size * length + 3 * high)
        e, f = keep * e + lr * mu * f + lr * rounded, mu * f + gain * e + rounded
        e = e + EPS * (4 * lr * high + 4 * m * (m + 2))  # of y, hence of its projection
        w = project_simplex(y)
        if m > 1:
            ordered = xp.sort(y, axis=-1)
            e = xp.where(ordered[:, -1] - ordered[:, -2] > 1 + 2 * e, xp.zeros_like(e), e)
        e = xp.clip(e, None, 2.0)  # two points of the simplex are not farther
    return w, xp.where(known, e, xp.full_like(e, xp.inf))


def exactly(rule: Any, one: np.ndarray, other: np.ndarray, start: np.ndarray, pull: np.ndarray) -> list[float]:
    """Return the same w for one pair of Jacobians (m, n), to 2^-64, in numbers of as many bits as the steps can lose.

    A and its products are whole numbers; a step multiplies errors by at most 2 + lr |B|_F / (1 - mu), and one factor
    more is kept for the rounding of s. Cost: `iterations` m^2 products of such numbers.
    """
    a, m = _gramian(one, other), len(start)
    square = [max(a[i][i], 0) for i in range(m)]
    if not any(square):  # B = 0
        return [float(x) for x in start]
    size = m * m * m * max(abs(x) for row in a for x in row) // sum(map(math.isqrt, square)) ** 2 + 1  # >= |B|_F
    grows = 2 + math.ceil(rule.lr) * size * math.ceil(1 / (1 - rule.momentum))
    bits = 80 + (rule.iterations + 1) * grows.bit_length()
    s = sum(math.isqrt(x << 2 * bits) for x in square) // m
    b = [[(x << 3 * bits) // (s * s) for x in row] for row in a]
    (up, down), (keep, by) = map(_dyadic, (rule.lr, rule.momentum))
    w, p = ([_fixed(float(x), bits) for x in values] for values in (start, pull))
    v, whole = [0] * m, 1 << bits
    for _ in range(rule.iterations):
        pulled = [x + y for x, y in zip(w, p, strict=True)]
        v = [(keep * x >> by) + (sum(map(mul, row, pulled)) >> bits) for x, row in zip(v, b, strict=True)]
        y = [x - (up * z >> down) for x, z in zip(w, v, strict=True)]
        total, threshold = -whole, max(y) - whole - 1
        for k, x in enumerate(sorted(y, reverse=True), 1):
            if x <= threshold:
                break
            total += x
            threshold = total // k
        w = [max(x - threshold, 0) for x in y]
    return [x / whole for x in w]


def _dyadic(x: float) -> tuple[int, int]:
    """Return whole numbers k and e with x = k 2^-e."""
    up, down = float(x).as_integer_ratio()
    return up, down.bit_length() - 1


def _fixed(x: float, bits: int) -> int:
    up, down = _dyadic(x)
    return (up << bits) >> down


def _gramian(one: np.ndarray, other: np.ndarray) -> list[list[int]]:
    """Return J1 J2^T as whole numbers of one common unit, from exact products of slices [ozaki2012error]."""
    bits = (53 - int(one.shape[1]).bit_length()) // 2
    left, low = _slices(one, bits)
    right, high = (left, low) if other is one else _slices(other, bits)
    depth = len(left) + len(right) - 2
    total = np.zeros((len(one), len(one)), object)
    for i, x in enumerate(left):
        for k, y in enumerate(right):
            total += (x @ y.T).astype(np.int64).astype(object) * (1 << bits * (depth - i - k))
    least = (int(low.min()), int(high.min()))
    return [
        [int(total[i, k]) << int(low[i] - least[0] + high[k] - least[1]) for k in range(len(one))]
        for i in range(len(one))
    ]


def _slices(x: np.ndarray, bits: int) -> tuple[list[np.ndarray], np.ndarray]:
    """Cut rows into whole numbers of at most `bits` bits, the first of unit 2^e, each next of 2^-bits of it, and e."""
    peak = np.max(np.abs(x), axis=1, keepdims=True)
    e = np.frexp(np.where(peak > 0, peak, 1.0))[1] - bits
    parts: list[np.ndarray] = []
    rest = np.ldexp(x, -e)
    while not parts or np.any(rest):
        near = np.trunc(rest)
        parts.append(near)
        rest = np.ldexp(rest - near, bits)
    return parts, e[:, 0]
