"""Norms whose unit ball is a multiple of another's: fixed multiples and those that depend on the shape."""

from __future__ import annotations

import math
from dataclasses import dataclass

from ..arrays import check_number
from .contract import Norm
from .table import ColumnMax, RowMax, Spectral


@dataclass(frozen=True)
class Rescaled(Norm):
    """value(x) / radius(m, n) of a base norm: the unit ball is the base ball of that radius."""

    @property
    def base(self) -> Norm:
        """The norm that is rescaled."""
        raise NotImplementedError

    def radius(self, m: int, n: int) -> float:
        """Return the radius of the unit ball, measured in the base norm."""
        raise NotImplementedError

    @property
    def left_group(self) -> str:  # type: ignore[override]
        return self.base.left_group

    @property
    def right_group(self) -> str:  # type: ignore[override]
        return self.base.right_group

    @property
    def dual_norm(self) -> Norm:
        return _Inverse(self)

    def _value(self, x):
        return self.base._value(x) / self.radius(*x.shape[-2:])

    def _lmo(self, g):
        return self.radius(*g.shape[-2:]) * self.base._lmo(g)

    def _project(self, x, radius):
        return self.base._project(x, radius * self.radius(*x.shape[-2:]))


@dataclass(frozen=True)
class Scaled(Rescaled):
    """The norm whose unit ball is the ball of the given radius of `norm`: value(x) = norm.value(x) / radius."""

    norm: Norm
    factor: float = 1.0

    def __post_init__(self) -> None:
        check_number(self.factor, "factor", open_low=True, open_high=True)

    @property
    def base(self) -> Norm:
        return self.norm

    def radius(self, m: int, n: int) -> float:
        return float(self.factor)


@dataclass(frozen=True)
class RmsToRms(Rescaled):
    """Operator norm from RMS to RMS vectors, sqrt(n/m) s_1 for x of shape (m, n); LMO -sqrt(m/n) U V^T."""

    base = Spectral()

    def radius(self, m: int, n: int) -> float:
        return math.sqrt(m / n)


@dataclass(frozen=True)
class OneToRms(Rescaled):
    """Operator norm from l1 to RMS vectors, max_j |x^j| / sqrt(m); LMO -sqrt(m) g^j / |g^j| in each column."""

    base = ColumnMax()

    def radius(self, m: int, n: int) -> float:
        return math.sqrt(m)


@dataclass(frozen=True)
class RmsToInf(Rescaled):
    """Operator norm from RMS to l_inf vectors, max_i sqrt(n) |x_i|; LMO -g_i / (sqrt(n) |g_i|) in each row."""

    base = RowMax()

    def radius(self, m: int, n: int) -> float:
        return 1 / math.sqrt(n)


@dataclass(frozen=True)
class _Inverse(Rescaled):
    """The dual of a rescaled norm: the dual of the base, with the inverse radius."""

    primal: Rescaled

    @property
    def base(self) -> Norm:
        return self.primal.base.dual_norm

    @property
    def dual_norm(self) -> Norm:
        return self.primal

    @property
    def name(self) -> str:
        return f"dual of {self.primal.name}"

    def radius(self, m: int, n: int) -> float:
        return 1 / self.primal.radius(m, n)
