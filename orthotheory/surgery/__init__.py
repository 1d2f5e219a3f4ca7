"""Gradient surgery: from the Jacobian of several objectives, one gradient a row, to one update.

    aggregator = make("upgrad")
    x = aggregator(jacobian)          # (..., m, n) -> (..., n); the step is -lr x

A stateful one is driven by `init(jacobian)` and `step(jacobian, state)`; calling it takes the first step.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from ..names import build, closest
from .alignment import AlignedMTL
from .bargaining import FairGrad, NashMTL
from .cagrad import CAGrad
from .cone import Projection, project
from .conflict import GradVac, PCGrad
from .contract import Aggregator, Card, Weighted, factor
from .derivative import Directional, jvp, project_jvp
from .dual_cone import AGEM, GEM, DualProj, UPGrad
from .equal_angle import IMTLG, ConFIG
from .mgda import MGDA
from .robust import Flag, GradDrop, Krum, TrimmedMean
from .simple import Constant, Mean, Random, Sum
from .stochastic import CRMOGM, DBMTL, ExcessMTL, MoCo, MoDo, SDMGrad


class Entry(NamedTuple):
    """An aggregator class and the options that a name presets."""

    aggregator: type[Aggregator]
    preset: dict[str, Any] = {}  # noqa: RUF012


TABLE: dict[str, Entry] = {
    "mean": Entry(Mean),
    "sum": Entry(Sum),
    "constant": Entry(Constant),
    "random": Entry(Random),
    "upgrad": Entry(UPGrad),
    "dual-proj": Entry(DualProj),
    "gem": Entry(GEM),
    "a-gem": Entry(AGEM),
    "mgda": Entry(MGDA),
    "cagrad": Entry(CAGrad),
    "cagrad-1": Entry(CAGrad, {"c": 1.0}),
    "pcgrad": Entry(PCGrad),
    "gradvac": Entry(GradVac),
    "imtl-g": Entry(IMTLG),
    "imtl-g-safe": Entry(IMTLG, {"sign_safe": True}),
    "config": Entry(ConFIG),
    "nash-mtl": Entry(NashMTL),
    "fairgrad": Entry(FairGrad, {"alpha": 2.0}),
    "aligned-mtl": Entry(AlignedMTL),
    "sdmgrad": Entry(SDMGrad),
    "modo": Entry(MoDo),
    "moco": Entry(MoCo),
    "cr-mogm": Entry(CRMOGM),
    "excess-mtl": Entry(ExcessMTL),
    "db-mtl": Entry(DBMTL),
    "graddrop": Entry(GradDrop),
    "krum": Entry(Krum),
    "trimmed-mean": Entry(TrimmedMean),
    "flag": Entry(Flag),
}


def names() -> list[str]:
    """Return the names that `make` knows."""
    return list(TABLE)


def make(name: str, **options) -> Aggregator:
    """Build an aggregator by name; the name's presets give way to what is passed.

    >>> import numpy as np
    >>> make("upgrad")(np.array([[1.0, 0.0], [-1.0, 1.0]]))
    array([0.25, 0.75])
    """
    entry = closest(name, TABLE, "aggregator")
    return build(entry.aggregator, {**entry.preset, **options}, name)


__all__ = [
    "AGEM",
    "CRMOGM",
    "DBMTL",
    "GEM",
    "IMTLG",
    "MGDA",
    "TABLE",
    "Aggregator",
    "AlignedMTL",
    "CAGrad",
    "Card",
    "ConFIG",
    "Constant",
    "Directional",
    "DualProj",
    "Entry",
    "ExcessMTL",
    "FairGrad",
    "Flag",
    "GradDrop",
    "GradVac",
    "Krum",
    "Mean",
    "MoCo",
    "MoDo",
    "NashMTL",
    "PCGrad",
    "Projection",
    "Random",
    "SDMGrad",
    "Sum",
    "TrimmedMean",
    "UPGrad",
    "Weighted",
    "factor",
    "jvp",
    "make",
    "names",
    "project",
    "project_jvp",
]
