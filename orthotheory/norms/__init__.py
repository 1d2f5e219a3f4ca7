"""Norms on matrices, with dual, LMO, sharp operator, projection and prox, and the table that finds them by name."""

from __future__ import annotations

from ..names import build, closest
from .contract import Norm
from .product import Product, ProductMax, ProductRoot, ProductSum
from .scaled import OneToRms, RmsToInf, RmsToRms, Scaled
from .table import (
    ColumnMax,
    ColumnPeakSum,
    ColumnSum,
    DualKyFan,
    EntryLp,
    Euclidean,
    Frobenius,
    KyFan,
    MaxEntry,
    Nuclear,
    OneToOne,
    RowMax,
    RowSum,
    Schatten,
    Spectral,
    SumEntry,
)

TABLE: dict[str, type] = {
    "spectral": Spectral,
    "nuclear": Nuclear,
    "frobenius": Frobenius,
    "euclidean": Euclidean,
    "max-entry": MaxEntry,
    "sum-entry": SumEntry,
    "entry-lp": EntryLp,
    "row-max": RowMax,
    "row-sum": RowSum,
    "column-max": ColumnMax,
    "column-sum": ColumnSum,
    "one-to-one": OneToOne,
    "column-peak-sum": ColumnPeakSum,
    "schatten": Schatten,
    "ky-fan": KyFan,
    "dual-ky-fan": DualKyFan,
    "rms-to-rms": RmsToRms,
    "one-to-rms": OneToRms,
    "rms-to-inf": RmsToInf,
    "scaled": Scaled,
    "product-max": ProductMax,
    "product-sum": ProductSum,
    "product-root": ProductRoot,
}


def names() -> list[str]:
    """Return the names that `make` knows."""
    return list(TABLE)


def make(name: str, **options) -> Norm | Product:
    """Build a norm by name.

    >>> make("schatten", p=3.0)
    Schatten(p=3.0)
    """
    return build(closest(name, TABLE, "norm"), options, name)


__all__ = [
    "TABLE",
    "ColumnMax",
    "ColumnPeakSum",
    "ColumnSum",
    "DualKyFan",
    "EntryLp",
    "Euclidean",
    "Frobenius",
    "KyFan",
    "MaxEntry",
    "Norm",
    "Nuclear",
    "OneToOne",
    "OneToRms",
    "Product",
    "ProductMax",
    "ProductRoot",
    "ProductSum",
    "RmsToInf",
    "RmsToRms",
    "RowMax",
    "RowSum",
    "Scaled",
    "Schatten",
    "Spectral",
    "SumEntry",
    "make",
    "names",
]
