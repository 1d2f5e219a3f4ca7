"""Planted mistakes: what the search of `falsify` makes of statements that are known to be false."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from .contract import AssumptionFails, Theorem, Verdict, check, combine
from .falsify import BUDGET, SECONDS, falsify, replay

CHANGE = 0.01  # of a constant in an identity
SHARE = 0.9  # of the largest ratio that the fixed cases attain, as the constant of a bound
UNKNOWN = "not known false"


def mutations(theorem: Theorem, tightness: float) -> dict[str, Theorem]:
    """Return a theorem's planted mistakes: its own control, the sign, the constant and, of a bound, the order."""

    def scaled(factor: float) -> Theorem:
        return dataclasses.replace(theorem, rhs=lambda case: factor * np.asarray(theorem.rhs(case), dtype=float))

    control = theorem.control()
    if control.cases is not theorem.cases:  # the mistake is in the cases: draw from those
        control = dataclasses.replace(control, sample=None)
    planted = {"own control": control, "sign of the right side": scaled(-1.0)}
    if theorem.kind in ("identity", "asymptotic"):
        change = max(CHANGE, 2 * theorem.tolerance)
        return {**planted, "constant larger": scaled(1 + change), "constant smaller": scaled(1 - change)}
    planted["order of the sides"] = dataclasses.replace(theorem, lhs=theorem.rhs, rhs=theorem.lhs, kind="upper")
    if tightness > 0:
        planted["constant below what is attained"] = scaled(SHARE * tightness)
    return planted


@dataclass(frozen=True)
class Mutant:
    """What the search made of one mistake.

    `outcome` is "caught", "missed", or "not known false" where the theorem's fixed cases, which the search does not
    see, do not refute it either; only those that they refute count. `witness` replays the counterexample, `worst`
    is its number.
    """

    outcome: str
    worst: float = np.nan
    evaluations: int = 0
    witness: dict[str, Any] = dataclasses.field(default_factory=dict)


@dataclass(frozen=True)
class Planted:
    """A statement, the worst case that the search found for it, and what became of its planted mistakes."""

    label: str
    kind: str
    tightness: float
    family: str
    worst: float
    evaluations: int
    survives: bool
    witness: dict[str, Any]
    mutants: dict[str, Mutant]
    seconds: float

    @property
    def caught(self) -> bool:
        """Whether every mistake that is known to be false was caught, and there was one."""
        counted = [m.outcome for m in self.mutants.values() if m.outcome != UNKNOWN]
        return bool(counted) and all(outcome == "caught" for outcome in counted)

    def row(self) -> dict[str, Any]:
        """Return the outcome as a plain row."""
        return {**dataclasses.asdict(self), "caught": self.caught}


def plant(
    theorem: Theorem,
    budget: int = BUDGET,
    seed: int = 0,
    *,
    seconds: float = SECONDS,
    mistakes: Collection[str] | None = None,
) -> Planted:
    """Search a theorem, and each of its planted mistakes (or those named), for a counterexample, a budget each."""
    start = time.perf_counter()
    cases = list(theorem.cases("smoke"))
    verdict = combine([check(theorem, case, text) for text, case in cases])
    outcome, search = {}, falsify(theorem, budget, seed, seconds=seconds)
    for name, mutant in mutations(theorem, verdict.tightness).items():
        if mistakes is not None and name not in mistakes:
            continue
        fixed = cases if mutant.cases is theorem.cases else list(mutant.cases("smoke"))
        if all(_holds(mutant, case) for _, case in fixed):
            outcome[name] = Mutant(UNKNOWN)
        else:
            found = falsify(mutant, budget, seed, seconds=seconds)
            outcome[name] = Mutant(
                "caught" if found.falsified else "missed", found.worst, found.evaluations, found.witness
            )
    return Planted(
        theorem.label, theorem.kind, verdict.tightness, search.family, search.worst, search.evaluations,
        not search.falsified, search.witness, outcome, time.perf_counter() - start,
    )  # fmt: skip


def replay_planted(theorem: Theorem, row: Mapping[str, Any]) -> dict[str, Verdict]:
    """Check the stored counterexamples to a theorem's planted mistakes again; a sound row gives only failures."""
    mutants = mutations(theorem, row["tightness"])
    caught = {name: m["witness"] for name, m in row["mutants"].items() if m["outcome"] == "caught"}
    return {name: replay(witness, mutants[name]) for name, witness in caught.items()}


def _holds(theorem: Theorem, case: Any) -> bool:
    try:
        return check(theorem, case).holds
    except AssumptionFails:
        return True
