"""Evaluating one step or a block of steps on the Gram matrix: few products, or Cholesky inverses.

A step maps X to F X with F = h(R), R = X X^H. For an odd polynomial p(s) = s h(s^2), h has half its degree; for
s -> s (b_0 + b_1 s^2 + sum_j a_j / (s^2 + c_j)), h(R) = b_0 I + b_1 R + sum_j a_j (R + c_j I)^-1.

Products for h of degree q: Paterson and Stockmeyer (0, 1, 2, 2, 3, 3 for q = 1 to 6), Sastre's three for q = 8.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from fractions import Fraction
from typing import NamedTuple

from .newton import NewtonStep
from .rational import Rational
from .schedule import critical_points
from .symmetric import Operations, Symmetric
from .zolotarev import Zolotarev

Polynomial = tuple[float, ...]  # odd coefficients, lowest first
Step = Polynomial | Zolotarev | Rational | NewtonStep


def block(ops: Operations, gram: Symmetric, steps: Sequence[Step], scale: float = 1.0) -> Symmetric:
    """Return F with (the composed steps)(X / scale) = F X, from the Gram matrix of X; destroys `gram`.

        R <- R / scale^2;   F = h_1(R), then R <- F R F, F <- h_2(R) F, ...

    Parameters
    ----------
    gram : symmetric matrix of `ops`
        X X^H.
    steps : polynomials and rational steps
    scale : float
        Folded into the coefficients of the first step, exactly for a power of two.

    Notes
    -----
    Cost: the steps' own products and three more for each step after the first. Rounding errors of R are relative to
    its norm, so small singular values suffer as they would with a squared condition number: `stability` predicts it.
    """
    first, *rest = steps
    total = previous = factor(ops, ops.copy(gram) if rest else gram, first, scale)
    for i, step in enumerate(rest):
        half = ops.product(gram, previous)  # the first factor carries 1 / scale
        ops.free(gram)
        gram = ops.product(half, previous)
        ops.free(half)
        current = factor(ops, ops.copy(gram) if i + 1 < len(rest) else gram, step)
        combined = ops.product(current, total)
        ops.free(*{id(p): p for p in (previous, total)}.values())
        total, previous = combined, current
    return total


def factor(ops: Operations, gram: Symmetric, step: Step, scale: float = 1.0) -> Symmetric:
    """Return F = h(R / scale^2) / scale for one step, R the given Gram matrix, which is used up."""
    c, f = split_factor(ops, gram, step, scale)
    if c == 1.0:
        return f
    total = ops.combine(0.0, [(c, f)])
    ops.free(f)
    return total


def split_factor(ops: Operations, gram: Symmetric, step: Step, scale: float = 1.0) -> tuple[float, Symmetric]:
    """Return (c, F / c) with a number c that costs nothing in the product with X; uses up `gram`."""
    if isinstance(step, NewtonStep):
        raise ValueError("A Newton step works on X itself and cannot share a Gram matrix: give it a block of its own.")
    if isinstance(step, Zolotarev | Rational):
        return by_inverses(ops, gram, step, scale)
    if len(step) == 2 and step[1]:
        a, b = scaled(step, scale)
        return b, ops.shift(gram, a / b)
    if len(step) in (3, 5) and step[-1]:
        return 1.0, by_squares(ops, gram, scaled(step, scale))
    if len(step) == 9 and (scheme := sastre(step)):
        total = by_sastre(ops, gram, scheme, scale)
    else:
        total = by_paterson_stockmeyer(ops, gram, step, scale)
    ops.free(gram)
    return 1.0, total


def scaled(step: Polynomial, scale: float) -> Polynomial:
    """Return the coefficients of p(s / scale); the power of two in the scale causes no rounding."""
    mantissa, exponent = math.frexp(scale)
    powers = (2 * i + 1 for i in range(len(step)))
    return tuple(math.ldexp(c / mantissa**k, -exponent * k) for c, k in zip(step, powers, strict=True))


def by_inverses(
    ops: Operations, gram: Symmetric, step: Zolotarev | Rational, scale: float = 1.0
) -> tuple[float, Symmetric]:
    """Return (c, F / c) for F = (b_0 I + b_1 R + b_2 R^2 + sum_j a_j (R + c_j I)^-1)(R / scale^2) / scale.

    One Cholesky inverse a pole; c is the coefficient of the first, so that no pass over the matrices is spent on it.
    Without b_2 the term b_1 R is one addition; with it b_1 R + b_2 R^2 is a completed square. Uses up `gram`.
    """
    unit = scale * scale
    gain = step.gain if isinstance(step, Zolotarev) else 1.0
    b = (gain, 0.0) if isinstance(step, Zolotarev) else step.coefficients
    total: Symmetric = None
    for a, c in zip(step.residues, step.poles, strict=True):
        inverse = ops.inverse(gram, c * unit)
        if total is None:
            first, total = gain * a * unit / scale, inverse
        else:
            total = ops.add(total, a / step.residues[0], inverse)
            ops.free(inverse)
    b0, b1, b2 = (*(x / unit**i / scale / first for i, x in enumerate(b)), 0.0)[:3]
    if b2:
        p = b1 / (2 * b2)
        shifted = ops.shift(gram, p)
        total = ops.product(shifted, shifted, b2, 1.0, total)
        b0 -= b2 * p * p
    elif b1:
        total = ops.add(total, b1, gram)
    ops.free(gram)
    return first, ops.shift(total, b0)


def by_squares(ops: Operations, gram: Symmetric, h: Polynomial) -> Symmetric:
    """Return the sum of h_i R^i of degree 2 or 4 by completing squares, in one or two; uses up `gram`.

        h_2 (R + p)^2 + q,    h_4 ((R + p)^2 + w)^2 + e (R + p) + q

    A square is a symmetric rank-k update, the cheapest product there is, and shifts touch the diagonal alone.
    """
    *_, next_to_top, top = h
    p = next_to_top / ((len(h) - 1) * top)
    shifted = ops.shift(gram, p)
    rest = taylor(h, -p)
    if len(h) == 3:
        return ops.shift(ops.product(shifted, shifted, top), rest[0])
    w = rest[2] / (2 * top)
    square = ops.shift(ops.product(shifted, shifted), w)
    total = ops.product(square, square, top, rest[1], shifted)
    ops.free(square)
    return ops.shift(total, rest[0] - top * w * w)


def taylor(h: Polynomial, center: float) -> list[float]:
    """Return the coefficients of h(center + x) in x."""
    b = list(h)
    for i in range(len(b) - 1):
        for j in range(len(b) - 2, i - 1, -1):
            b[j] += center * b[j + 1]
    return b


def by_paterson_stockmeyer(ops: Operations, gram: Symmetric, step: Polynomial, scale: float = 1.0) -> Symmetric:
    """Return h(R / scale^2) / scale: Horner's rule in A^k with polynomials of degree below k as coefficients.

    A = 2 R / top^2 - I has its spectrum in [-1, 1], where the coefficients are small.
    """
    degree = len(step) - 1
    if degree <= 1:
        return ops.combine(step[0] / scale, [(step[1] / scale**3 if degree else 0.0, gram)])
    top, *shifted = _shifted(step)
    h = [c / scale for c in shifted]
    k = min(range(2, degree + 1), key=lambda k: k - 1 + -(-degree // k) - 1)
    powers = [_centered(ops, gram, top * scale)]
    while len(powers) < k:
        powers.append(ops.product(powers[-1], powers[0]))
    rows = [h[i : i + k] for i in range(0, degree + 1, k)]
    if len(rows) > 1 and len(rows[-1]) == 1:  # the leading row may reach degree k
        rows[-2:] = [[*rows[-2], *rows[-1]]]
    *lower, leading = rows
    total = _linear(ops, leading, powers)
    for row in reversed(lower):
        following = ops.product(total, powers[-1], 1.0, 1.0, _linear(ops, row, powers))
        ops.free(total)
        total = following
    ops.free(*powers)
    return total


def _centered(ops: Operations, gram: Symmetric, top: float) -> Symmetric:
    """Return 2 R / top^2 - I."""
    return ops.combine(-1.0, [(2 / top**2, gram)])


def _linear(ops: Operations, row: Sequence[float], powers: list[Symmetric]) -> Symmetric:
    return ops.combine(row[0], list(zip(row[1:], powers, strict=False)))


class Sastre(NamedTuple):
    """Parameters of h(R) of degree 8 with three products, in A = 2 R / top^2 - I.

    y = A^2 (c4 A^2 + c3 A),  h = (y + d2 A^2 + d1 A)(y + e2 A^2) + e0 y + b2 A^2 + b1 A + b0
    """

    top: float
    c4: float
    c3: float
    d2: float
    d1: float
    e2: float
    e0: float
    b2: float
    b1: float
    b0: float


@functools.lru_cache(maxsize=256)
def sastre(step: Polynomial) -> Sastre | None:
    """Return the parameters for an odd polynomial of degree 17, or None where they are not real.

    In the monomial variable parameters of minimax polynomials reach 1e4; in A, with spectrum in [-1, 1], some tens:
    the difference is three digits of the result. The shift is done in rational arithmetic. Every minimax step of
    degree 17 tried, and the Pade one, has real parameters [sastre2018efficient].
    """
    top, *b = _shifted(step)
    if not b[8] > 0 or b[7] == 0:
        return None
    c4 = math.sqrt(b[8])
    c3 = b[7] / (2 * c4)
    both = (b[6] - c3**2) / c4  # d2 + e2
    d1 = (b[5] - c3 * both) / c4
    half = (both - c4 * d1 / c3) / 2
    discriminant = half**2 + c4 * b[3] / c3 - b[4] + c3 * d1
    if discriminant < 0:
        return None
    candidates = []
    for root in (math.sqrt(discriminant), -math.sqrt(discriminant)):
        e2 = half + root
        e0 = (b[3] - d1 * e2) / c3
        candidates.append(Sastre(top, c4, c3, both - e2, d1, e2, e0, b[2], b[1], b[0]))
    return min(candidates, key=lambda s: max(map(abs, s)))


@functools.lru_cache(maxsize=256)
def _shifted(step: Polynomial) -> tuple[float, ...]:
    """Return the last critical point `top`, and the coefficients of h in A, R = top^2 (A + 1) / 2, rounded once."""
    top = max(critical_points(step), default=1.0)
    half = Fraction(top) ** 2 / 2
    b, none = [Fraction(0)], Fraction(0)
    for c in reversed(step):  # Horner: b <- b half (A + 1) + c
        b = [half * (low + high) for low, high in zip([*b, none], [none, *b], strict=True)]
        b[0] += Fraction(c)
    return (top, *map(float, b[: len(step)]))


def by_sastre(ops: Operations, gram: Symmetric, s: Sastre, scale: float = 1.0) -> Symmetric:
    """Return h(R / scale^2) / scale by three products."""
    a = _centered(ops, gram, s.top * scale)
    a2 = ops.product(a, a)
    inner = ops.combine(0.0, [(s.c4, a2), (s.c3, a)])
    y = ops.product(a2, inner)
    left = ops.combine(0.0, [(1 / scale, y), (s.d2 / scale, a2), (s.d1 / scale, a)])
    right = ops.combine(0.0, [(1.0, y), (s.e2, a2)])
    rest = ops.combine(s.b0 / scale, [(s.e0 / scale, y), (s.b2 / scale, a2), (s.b1 / scale, a)])
    total = ops.product(left, right, 1.0, 1.0, rest)
    ops.free(a, a2, inner, y, left, right)
    return total
