"""Dot products in twice the working precision, by error-free transformations [ogita2005accurate].

a + b = s + e,   a b = p + e     exactly in floating point, barring overflow and underflow
"""

from __future__ import annotations

from ..arrays import Array, array_namespace

SPLITTER = 134217729.0  # 2^27 + 1 cuts a float64 into two halves of 26 bits [dekker1971floating]


def two_sum(a: Array, b: Array) -> tuple[Array, Array]:
    """Return s = fl(a + b) and its error, without assuming |a| >= |b|."""
    s = a + b
    t = s - a
    return s, (a - (s - t)) + (b - t)


def two_product(a: Array, b: Array) -> tuple[Array, Array]:
    """Return p = fl(a b) and its error, for magnitudes below 1e300 whose products are normal."""
    p = a * b
    a1, a2 = _split(a)
    b1, b2 = _split(b)
    return p, a2 * b2 - (((p - a1 * b1) - a2 * b1) - a1 * b2)


def dot(a: Array, b: Array) -> tuple[Array, Array]:
    """Return sum_i a_i b_i over the last axis as an unevaluated sum of two numbers, as if in doubled precision."""
    xp = array_namespace(a, b)
    s, e = two_product(a, b)
    e = xp.sum(e, axis=-1)
    while s.shape[-1] > 1:
        half = s.shape[-1] // 2
        rest = s[..., 2 * half :]
        s, carry = two_sum(s[..., :half], s[..., half : 2 * half])
        e = e + xp.sum(carry, axis=-1)
        s = xp.concat([s, rest], axis=-1) if rest.shape[-1] else s
    return s[..., 0], e


def _split(a: Array) -> tuple[Array, Array]:
    t = SPLITTER * a
    high = t - (t - a)
    return high, a - high
