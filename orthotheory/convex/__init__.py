"""Convex functions K for Lion-K, with subgradients and conjugates, and the table that finds them by name."""

from __future__ import annotations

from collections.abc import Callable

from .. import norms
from ..names import build, closest
from .contract import ConvexFunction
from .functions import HalfSquare, LogCosh, MoreauEnvelope, NormFunction, Power, RowBlocks, Separable, Sqrt

TABLE: dict[str, Callable[..., ConvexFunction]] = {
    "l1": lambda: NormFunction(norms.SumEntry()),
    "l2": lambda: NormFunction(norms.Frobenius()),
    "max-entry": lambda: NormFunction(norms.MaxEntry()),
    "lp": lambda p=1.5: NormFunction(norms.EntryLp(p)),
    "nuclear": lambda: NormFunction(norms.Nuclear()),
    "spectral": lambda: NormFunction(norms.Spectral()),
    "schatten": lambda p=1.5: NormFunction(norms.Schatten(p)),
    "ky-fan": lambda k=2: NormFunction(norms.KyFan(k)),
    "dual-ky-fan": lambda k=2: NormFunction(norms.DualKyFan(k)),
    "row-sum": lambda: NormFunction(norms.RowSum()),
    "column-sum": lambda: NormFunction(norms.ColumnSum()),
    "huber": lambda delta=0.1: MoreauEnvelope(norms.SumEntry(), delta),
    "huber-nuclear": lambda delta=0.1: MoreauEnvelope(norms.Nuclear(), delta),
    "huber-rows": lambda delta=0.1: MoreauEnvelope(norms.RowSum(), delta),
    "sqrt": lambda epsilon=0.1: Separable(Sqrt(epsilon)),
    "sqrt-nuclear": lambda epsilon=0.1: Separable(Sqrt(epsilon), "singular values"),
    "log-cosh": lambda: Separable(LogCosh()),
    "log-cosh-nuclear": lambda: Separable(LogCosh(), "singular values"),
    "power": lambda p=1.5: Separable(Power(p)),
    "half-square": lambda: HalfSquare(norms.Frobenius()),
    "half-square-nuclear": lambda: HalfSquare(norms.Nuclear()),
}


def names() -> list[str]:
    """Return the names that `make` knows."""
    return list(TABLE)


def make(name: str, **options) -> ConvexFunction:
    """Build a convex function by name.

    >>> make("huber", delta=0.5).name
    'MoreauEnvelope'
    """
    return build(closest(name, TABLE, "convex function"), options, name)


__all__ = [
    "TABLE",
    "ConvexFunction",
    "HalfSquare",
    "LogCosh",
    "MoreauEnvelope",
    "NormFunction",
    "Power",
    "RowBlocks",
    "Separable",
    "Sqrt",
    "make",
    "names",
]
