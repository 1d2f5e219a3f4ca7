"""The norms by name: entries, rows and columns, singular values.

The table of duals, LMOs and projections is N1 of the theory notes; every row is checked by the contract test.
"""

from __future__ import annotations

from dataclasses import dataclass

from ..arrays import Array, check_number
from ..polar.svd import svd_of_moderate
from .contract import Norm
from .gauges import L1, L2, Capped, Gauge, LInf, TopSum, lp_gauge
from .lifts import EntrywiseNorm, LineNorm, SingularValueNorm


@dataclass(frozen=True)
class Euclidean(EntrywiseNorm):
    """Euclidean norm of vectors (..., n); its own dual."""

    core_axes = 1
    gauge = L2()

    @property
    def dual_norm(self) -> Norm:
        return self


@dataclass(frozen=True)
class Frobenius(EntrywiseNorm):
    """sqrt(sum x_ij^2); its own dual; LMO -g / |g|_F: normalized gradient descent."""

    left_group = "orthogonal"
    right_group = "orthogonal"
    gauge = L2()

    @property
    def dual_norm(self) -> Norm:
        return self


@dataclass(frozen=True)
class MaxEntry(EntrywiseNorm):
    """max |x_ij|; dual SumEntry; LMO -sign(g), with sign(0) = 0: sign descent."""

    gauge = LInf()

    @property
    def dual_norm(self) -> Norm:
        return SumEntry()


@dataclass(frozen=True)
class SumEntry(EntrywiseNorm):
    """sum |x_ij|; dual MaxEntry; LMO at the first largest entry alone: greedy coordinate descent."""

    gauge = L1()

    @property
    def dual_norm(self) -> Norm:
        return MaxEntry()


@dataclass(frozen=True)
class EntryLp(EntrywiseNorm):
    """(sum |x_ij|^p)^(1/p), 1 <= p <= inf; the dual has 1/p + 1/q = 1."""

    p: float = 2.0

    def __post_init__(self) -> None:
        check_number(self.p, "p", low=1.0)

    @property
    def gauge(self) -> Gauge:
        return lp_gauge(self.p)

    @property
    def dual_norm(self) -> Norm:
        return EntryLp(conjugate_exponent(self.p))


@dataclass(frozen=True)
class RowMax(LineNorm):
    """Largest Euclidean row (the 2 -> inf operator norm); dual RowSum; LMO normalizes each row."""

    right_group = "orthogonal"
    outer_gauge = LInf()

    @property
    def dual_norm(self) -> Norm:
        return RowSum()


@dataclass(frozen=True)
class RowSum(LineNorm):
    """Sum of the Euclidean rows; dual RowMax; LMO normalizes the first largest row alone."""

    right_group = "orthogonal"
    outer_gauge = L1()

    @property
    def dual_norm(self) -> Norm:
        return RowMax()


@dataclass(frozen=True)
class ColumnMax(LineNorm):
    """Largest Euclidean column (the 1 -> 2 operator norm); dual ColumnSum; LMO normalizes each column."""

    left_group = "orthogonal"
    by_columns = True
    outer_gauge = LInf()

    @property
    def dual_norm(self) -> Norm:
        return ColumnSum()


@dataclass(frozen=True)
class ColumnSum(LineNorm):
    """Sum of the Euclidean columns; dual ColumnMax; LMO normalizes the first largest column alone."""

    left_group = "orthogonal"
    by_columns = True
    outer_gauge = L1()

    @property
    def dual_norm(self) -> Norm:
        return ColumnMax()


@dataclass(frozen=True)
class OneToOne(LineNorm):
    """Largest column in l1 (the 1 -> 1 operator norm); dual ColumnPeakSum; LMO has one entry in each column."""

    by_columns = True
    inner_gauge = L1()
    outer_gauge = LInf()

    @property
    def dual_norm(self) -> Norm:
        return ColumnPeakSum()


@dataclass(frozen=True)
class ColumnPeakSum(LineNorm):
    """Sum over the columns of the largest magnitude; dual OneToOne; LMO is the signs of the first largest column."""

    by_columns = True
    inner_gauge = LInf()
    outer_gauge = L1()

    @property
    def dual_norm(self) -> Norm:
        return OneToOne()


@dataclass(frozen=True)
class Spectral(SingularValueNorm):
    """Largest singular value; dual Nuclear; LMO -U V^T: orthogonalized descent.

    The LMO is not unique at rank deficiency: -U V^T + W works for every W on the null spaces with
    |W|_2 <= 1. `completion="zero"` takes W = 0, as Newton-Schulz does: a partial isometry, the LMO of least
    Frobenius norm. `completion="orthonormal"` takes the W that the SVD happens to give: min(m, n) unit
    singular values, also at g = 0, but not a function of g alone.
    """

    completion: str = "zero"
    gauge = LInf()

    def __post_init__(self) -> None:
        if self.completion not in ("zero", "orthonormal"):
            raise ValueError(f"completion must be 'zero' or 'orthonormal'; got {self.completion!r}.")

    @property
    def dual_norm(self) -> Norm:
        return Nuclear()

    def _lmo(self, g: Array) -> Array:
        if self.completion == "zero":
            return super()._lmo(g)
        u, _, vh = svd_of_moderate(g)
        return -(u @ vh)


@dataclass(frozen=True)
class Nuclear(SingularValueNorm):
    """Sum of the singular values; dual Spectral; LMO -u_1 v_1^T of the first largest singular value."""

    gauge = L1()

    @property
    def dual_norm(self) -> Norm:
        return Spectral()


@dataclass(frozen=True)
class Schatten(SingularValueNorm):
    """l_p norm of the singular values, 1 <= p <= inf; the dual has 1/p + 1/q = 1."""

    p: float = 2.0

    def __post_init__(self) -> None:
        check_number(self.p, "p", low=1.0)

    @property
    def gauge(self) -> Gauge:
        return lp_gauge(self.p)

    @property
    def dual_norm(self) -> Norm:
        return Schatten(conjugate_exponent(self.p))


@dataclass(frozen=True)
class KyFan(SingularValueNorm):
    """Sum of the k largest singular values; dual DualKyFan(k); LMO -u_1 v_1^T or -U V^T / k, the better of the two."""

    k: int = 1

    def __post_init__(self) -> None:
        _check_rank(self.k)

    @property
    def gauge(self) -> Gauge:
        return TopSum(self.k)

    @property
    def dual_norm(self) -> Norm:
        return DualKyFan(self.k)


@dataclass(frozen=True)
class DualKyFan(SingularValueNorm):
    """max(s_1, (sum s) / k); dual KyFan(k); LMO the polar factor of the k leading singular triples."""

    k: int = 1

    def __post_init__(self) -> None:
        _check_rank(self.k)

    @property
    def gauge(self) -> Gauge:
        return Capped(self.k)

    @property
    def dual_norm(self) -> Norm:
        return KyFan(self.k)


def conjugate_exponent(p: float) -> float:
    """Return q with 1/p + 1/q = 1."""
    if p == 1:
        return float("inf")
    return 1.0 if p == float("inf") else p / (p - 1)


def _check_rank(k: int) -> None:
    if isinstance(k, bool) or not isinstance(k, int) or k < 1:
        raise ValueError(f"k must be a positive integer, the number of singular values; got {k!r}.")
