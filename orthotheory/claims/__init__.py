"""The ledger: what source papers claim, how it is checked, and what came out."""

from __future__ import annotations

from ..names import closest
from . import (
    auon,
    continual,
    convergence,
    cost,
    lion,
    merging,
    methods_blocks,
    methods_curvature,
    methods_lines,
    methods_noise,
    methods_orthogonalized,
    methods_rates,
    methods_second_order,
    methods_stochastic,
    methods_subspaces,
    minimax,
    orthogonalization,
    parametrizations,
    retain,
    schedules,
    sequences,
    surgery,
    zoo,
)  # fmt: skip
from .contract import Claim, Verdict, ledger_row

_MODULES = (
    auon, cost, convergence, lion, minimax, orthogonalization, schedules, parametrizations, methods_orthogonalized,
    methods_blocks, methods_rates, methods_noise, methods_stochastic, methods_curvature, methods_second_order,
    methods_subspaces, methods_lines, zoo, surgery, continual, retain, sequences, merging,
)  # fmt: skip
TABLE: dict[str, Claim] = {claim.label: claim for module in _MODULES for claim in module.CLAIMS}


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
