"""Smoothness and strong convexity of the form D -> tr(D^T A D B) in every norm (theorem `smoothness-quadratic`).

The constant is the supremum, or the infimum, of <D, H D> / |D|^2. A convex form is largest at an extreme point
of the ball: rank-one matrices, partial isometries, sign matrices, single entries. Where that leads to a
closed form the constant is exact, elsewhere it is a bound and says so.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass

import numpy as np

from ..norms import (
    ColumnMax,
    ColumnPeakSum,
    ColumnSum,
    DualKyFan,
    EntryLp,
    Frobenius,
    KyFan,
    MaxEntry,
    Norm,
    Nuclear,
    OneToOne,
    RowMax,
    RowSum,
    Schatten,
    Spectral,
    SumEntry,
)
from ..norms.scaled import Rescaled
from .contract import Constant


@dataclass(frozen=True)
class Form:
    """The factors of H = B (x) A on the host, with their eigenvalues in descending order."""

    a: np.ndarray
    b: np.ndarray

    @functools.cached_property
    def left(self) -> np.ndarray:
        """Eigenvalues of A, descending."""
        return np.linalg.eigvalsh(self.a)[::-1]

    @functools.cached_property
    def right(self) -> np.ndarray:
        """Eigenvalues of B, descending."""
        return np.linalg.eigvalsh(self.b)[::-1]

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns of the matrices on which the form acts."""
        return self.a.shape[0], self.b.shape[0]

    @property
    def top(self) -> float:
        """The largest eigenvalue of H."""
        return float(self.left[0] * self.right[0])

    @property
    def bottom(self) -> float:
        """The smallest eigenvalue of H."""
        return float(self.left[-1] * self.right[-1])

    def paired(self) -> np.ndarray:
        """Return lambda_i(A) lambda_i(B) for i = 1, ..., min(m, n), both sorted."""
        r = min(self.shape)
        return self.left[:r] * self.right[:r]


def is_diagonal(a: np.ndarray) -> bool:
    """Say whether every off-diagonal entry is an exact zero."""
    return not np.any(a - np.diag(np.diag(a)))


@functools.singledispatch
def smoothness(norm: Norm, form: Form) -> Constant:
    """Return the smoothness constant; refuses a norm for which none is known."""
    raise _unknown(norm)


@smoothness.register
def _(norm: Frobenius, form: Form) -> Constant:
    return Constant(form.top, "exact", "lambda_1(A) lambda_1(B)")


@smoothness.register
def _(norm: Nuclear, form: Form) -> Constant:
    return Constant(form.top, "exact", "the ball's extreme points have rank one")


@smoothness.register
def _(norm: Spectral, form: Form) -> Constant:
    return Constant(float(form.paired().sum()), "exact", "sum_i lambda_i(A) lambda_i(B): von Neumann and Horn")


@smoothness.register
def _(norm: Schatten, form: Form) -> Constant:
    if norm.p <= 2:
        return Constant(form.top, "exact", "attained at rank one")
    return Constant(_power_sum(form.paired(), norm.p), "exact", "l_{p/(p-2)} norm of the paired eigenvalues")


@smoothness.register
def _(norm: KyFan, form: Form) -> Constant:
    whole = float(form.paired().sum()) / norm.k**2
    return Constant(max(form.top, whole), "exact", "extreme points: rank one, and isometries over k")


@smoothness.register
def _(norm: DualKyFan, form: Form) -> Constant:
    return Constant(float(form.paired()[: norm.k].sum()), "exact", "extreme points: partial isometries of rank k")


@smoothness.register
def _(norm: SumEntry, form: Form) -> Constant:
    return Constant(float(np.diag(form.a).max() * np.diag(form.b).max()), "exact", "extreme points: single entries")


@smoothness.register
def _(norm: MaxEntry, form: Form) -> Constant:
    if is_diagonal(form.a) and is_diagonal(form.b):
        return Constant(float(np.trace(form.a) * np.trace(form.b)), "exact", "tr A tr B: both factors are diagonal")
    crude = math.prod(form.shape) * form.top
    return Constant(min(float(np.abs(form.a).sum() * np.abs(form.b).sum()), crude), "upper", "sign matrices: NP-hard")


@smoothness.register
def _(norm: EntryLp, form: Form) -> Constant:
    if norm.p in (1.0, 2.0, math.inf):
        return smoothness({1.0: SumEntry(), 2.0: Frobenius(), math.inf: MaxEntry()}[norm.p], form)
    if norm.p > 2 and is_diagonal(form.a) and is_diagonal(form.b):
        curvatures = np.outer(np.diag(form.a), np.diag(form.b)).ravel()
        return Constant(_power_sum(curvatures, norm.p), "exact", "l_{p/(p-2)} norm of the diagonal curvatures")
    grow = math.prod(form.shape) ** max(0.0, 1 - 2 / norm.p)
    return Constant(form.top * grow, "upper", "through the Frobenius norm")


@smoothness.register
def _(norm: ColumnMax, form: Form) -> Constant:
    return _line_max(form.left[0], form.b, form.right[0], "lambda_1(A) tr B: B is diagonal")


@smoothness.register
def _(norm: RowMax, form: Form) -> Constant:
    return _line_max(form.right[0], form.a, form.left[0], "tr A lambda_1(B): A is diagonal")


@smoothness.register
def _(norm: ColumnSum, form: Form) -> Constant:
    return Constant(float(form.left[0] * np.diag(form.b).max()), "exact", "extreme points: one column")


@smoothness.register
def _(norm: RowSum, form: Form) -> Constant:
    return Constant(float(np.diag(form.a).max() * form.right[0]), "exact", "extreme points: one row")


@smoothness.register
def _(norm: OneToOne, form: Form) -> Constant:
    bound = float(np.abs(form.a).max() * np.abs(form.b).sum())
    return Constant(min(bound, form.shape[1] * form.top), "upper", "extreme points: one entry in each column")


@smoothness.register
def _(norm: ColumnPeakSum, form: Form) -> Constant:
    cut = min(float(np.abs(form.a).sum()), form.shape[0] * form.left[0])
    return Constant(float(cut * np.diag(form.b).max()), "upper", "extreme points: one column of signs")


@smoothness.register
def _(norm: Rescaled, form: Form) -> Constant:
    base = smoothness(norm.base, form)
    return Constant(norm.radius(*form.shape) ** 2 * base.value, base.kind, base.reason)


def strong_convexity(norm: Norm, form: Form) -> Constant:
    """Return inf <D, H D> / |D|^2: exact where rank-one matrices have |D| = |D|_F = c, else a lower bound."""
    scale, base = 1.0, norm
    while isinstance(base, Rescaled):
        scale, base = scale * base.radius(*form.shape) ** 2, base.base
    exact = isinstance(base, Frobenius | Spectral | DualKyFan | KyFan) and expansion(base, form) == 1.0
    exact = exact or (isinstance(base, Schatten) and base.p >= 2)
    value = scale * form.bottom / expansion(base, form) ** 2
    return Constant(value, "exact" if exact else "lower", "lambda_min(A) lambda_min(B), through the Frobenius norm")


def expansion(norm: Norm, form: Form) -> float:
    """Return c, the largest |D| at |D|_F = 1."""
    m, n = form.shape
    r = min(m, n)
    if isinstance(norm, Rescaled):
        return expansion(norm.base, form) / norm.radius(m, n)
    by_type = {
        **dict.fromkeys((Frobenius, Spectral, MaxEntry, RowMax, ColumnMax), 1.0),
        Nuclear: math.sqrt(r),
        SumEntry: math.sqrt(m * n),
        RowSum: math.sqrt(m),
        ColumnSum: math.sqrt(n),
        OneToOne: math.sqrt(m),
        ColumnPeakSum: math.sqrt(n),
    }
    if isinstance(norm, Schatten):
        return r ** max(0.0, 1 / norm.p - 0.5)
    if isinstance(norm, EntryLp):
        return (m * n) ** max(0.0, 1 / norm.p - 0.5)
    if isinstance(norm, KyFan):
        return math.sqrt(min(norm.k, r))
    if isinstance(norm, DualKyFan):
        return max(1.0, math.sqrt(r) / norm.k)
    if type(norm) not in by_type:
        raise _unknown(norm)
    return by_type[type(norm)]


def _unknown(norm) -> TypeError:
    return TypeError(
        f"No constant is known for {norm!r}; quadratics know the norms on one matrix, such as norms.Spectral()."
    )


def _power_sum(values: np.ndarray, p: float) -> float:
    """Return the l_{p/(p-2)} norm, which is the sum at p = inf."""
    exponent = 1.0 if p == math.inf else p / (p - 2)
    peak = float(values.max())
    return peak * float(((values / peak) ** exponent).sum()) ** (1 / exponent) if peak > 0 else 0.0


def _line_max(other_top: float, factor: np.ndarray, factor_top: float, reason: str) -> Constant:
    if is_diagonal(factor):
        return Constant(float(other_top * np.trace(factor)), "exact", reason)
    bound = min(float(np.abs(factor).sum()), factor.shape[0] * float(factor_top))
    return Constant(float(other_top) * bound, "upper", "lines of unit length")
