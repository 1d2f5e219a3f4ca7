"""The ledger: what source papers claim, how it is checked, and what came out."""

from __future__ import annotations

from ..names import closest
from . import (
    auon,
    convergence,
    cost,
    lion,
    methods_curvature,
    methods_noise,
    methods_orthogonalized,
    methods_stochastic,
    minimax,
    orthogonalization,
    schedules,
    zoo,
)
from .contract import Claim, Verdict, ledger_row

_CLAIMS = (
    *auon.CLAIMS,
    *cost.CLAIMS,
    *convergence.CLAIMS,
    *lion.CLAIMS,
    *methods_curvature.CLAIMS,
    *methods_noise.CLAIMS,
    *methods_orthogonalized.CLAIMS,
    *methods_stochastic.CLAIMS,
    *minimax.CLAIMS,
    *orthogonalization.CLAIMS,
    *schedules.CLAIMS,
    *zoo.CLAIMS,
)
TABLE: dict[str, Claim] = {claim.label: claim for claim in _CLAIMS}


def names() -> list[str]:
    """Return the labels of all claims."""
    return list(TABLE)


def get(label: str) -> Claim:
    """Return a claim by its label.

    >>> get("auon-reconditions").control_must_be
    'holds'
    """
    return closest(label, TABLE, "claim")


__all__ = ["TABLE", "Claim", "Verdict", "get", "ledger_row", "names"]
