"""What a theorem is: a statement, tested assumptions, two sides that are computed, and a control that fails."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

Kind = Literal["identity", "tight", "upper", "asymptotic"]
Size = Literal["smoke", "paper"]
Case = Any  # a Trace, a problem or an algebraic object: whatever `lhs` and `rhs` understand


class AssumptionFails(ValueError):
    """A theorem was applied where one of its assumptions does not hold."""


@dataclass(frozen=True)
class Assumption:
    """A sentence and the test that it holds for a case."""

    text: str
    holds: Callable[[Case], bool]


@dataclass(frozen=True)
class Theorem:
    """A statement that can be run.

    Parameters
    ----------
    label : str
        Its name in tests, figures, captions and the paper.
    statement : str
        LaTeX, as the paper prints it.
    assumes : tuple of Assumption
        Tested on every case before the theorem is applied.
    kind : "identity", "tight", "upper" or "asymptotic"
        identity: both sides are equal. upper: lhs <= rhs at every entry. tight: upper, and attained in every case.
        asymptotic: equal in the last entry.
    lhs, rhs : functions of a case
        Arrays of one shape.
    cases : function of a size
        Where it is checked; each case comes with its description.
    broken : function of the theorem
        The same theorem with a deliberate mistake, the negative control: its check must fail.
    mistake : str
        What the control breaks.
    source : str
        Key of the bibliography, or "ours".
    tolerance : float
        Relative: of rounding for identities and bounds, of attainment for tight ones. `reason` derives it.
    proof : function or None
        A symbolic proof: returns steps and raises where a residual is not zero.
    sample : function of a generator, or None
        A random case with its description, for `falsify`; without it the seeds of `cases` are drawn anew.
    """

    label: str
    title: str
    statement: str
    assumes: tuple[Assumption, ...]
    kind: Kind
    lhs: Callable[[Case], Any]
    rhs: Callable[[Case], Any]
    cases: Callable[[Size], Iterable[tuple[str, Case]]]
    broken: Callable[[Theorem], Theorem]
    mistake: str
    source: str
    tolerance: float = 1e-10
    reason: str = "rounding"
    proof: Callable[[], list[str]] | None = None
    sample: Callable[[np.random.Generator], tuple[str, Case]] | None = None

    def control(self) -> Theorem:
        """Return the theorem with its deliberate mistake."""
        return self.broken(self)


@dataclass(frozen=True)
class Verdict:
    """The outcome of a check.

    `worst` is the largest relative error of an identity, or the largest lhs / rhs of a bound; `tightness` the
    largest lhs / rhs; `witness` describes the case where it occurred.
    """

    label: str
    kind: Kind
    holds: bool
    worst: float
    tightness: float
    witness: str
    cases: int
    bound: float

    def row(self) -> dict[str, Any]:
        """Return the verdict as a plain row."""
        return dataclasses.asdict(self)


def check(theorem: Theorem, case: Case, description: str = "given case") -> Verdict:
    """Check a theorem on one case.

    Raises
    ------
    AssumptionFails
        Where an assumption does not hold for the case, with its text.
    """
    for assumption in theorem.assumes:
        if not assumption.holds(case):
            raise AssumptionFails(f"{theorem.label} assumes that {assumption.text}; this fails for {description}.")
    lhs, rhs = (np.asarray(side(case), dtype=float) for side in (theorem.lhs, theorem.rhs))
    if lhs.shape != rhs.shape or lhs.size == 0:
        raise ValueError(
            f"{theorem.label}: the sides have shapes {lhs.shape} and {rhs.shape}; they must agree, non-empty."
        )
    if not (np.isfinite(lhs).all() and np.isfinite(rhs).all()):
        return Verdict(theorem.label, theorem.kind, False, np.inf, np.inf, f"{description}: not finite", 1, np.nan)
    scale = np.maximum(np.abs(rhs), np.finfo(float).tiny)
    with np.errstate(over="ignore"):  # against a right side of zero the ratio is infinite
        error = float(np.max(np.abs(lhs - rhs) / scale))
        # Above 1 exactly where lhs > rhs, whatever the sign of the right side.
        ratio = float(np.max(np.where(rhs >= 0, lhs / scale, 1 + (lhs - rhs) / scale)))
    if theorem.kind == "identity":
        worst, bound = error, theorem.tolerance
        holds = worst <= bound
    elif theorem.kind == "asymptotic":
        worst, bound = float(np.abs(lhs.flat[-1] - rhs.flat[-1]) / scale.flat[-1]), theorem.tolerance
        holds = worst <= bound
    else:
        worst, bound = ratio, 1.0
        holds = worst <= 1.0 + (1e-10 if theorem.kind == "tight" else theorem.tolerance)
        if theorem.kind == "tight":
            holds = holds and ratio >= 1.0 - theorem.tolerance
    return Verdict(theorem.label, theorem.kind, bool(holds), worst, ratio, description, 1, bound)


def verify(theorem: Theorem, size: Size = "smoke") -> Verdict:
    """Check a theorem on all its cases; the verdict is that of the worst one."""
    return combine([check(theorem, case, text) for text, case in theorem.cases(size)])


def verify_control(theorem: Theorem, size: Size = "smoke") -> Verdict:
    """Check the broken theorem on the same cases; a sound check says that it does not hold."""
    return verify(theorem.control(), size)


def combine(verdicts: list[Verdict]) -> Verdict:
    """Return one verdict for several cases: it holds where each does, and its witness is the worst case."""
    if not verdicts:
        raise ValueError("A theorem needs at least one case.")
    failing = [v for v in verdicts if not v.holds]
    worst = max(failing or verdicts, key=lambda v: v.worst)
    tightness = max(v.tightness for v in verdicts)
    return dataclasses.replace(worst, holds=not failing, tightness=tightness, cases=len(verdicts))


def ledger_row(theorem: Theorem, size: Size = "smoke") -> dict[str, Any]:
    """Return what the ledger and `--json` show: verdict, measured, bound and whether the control failed."""
    broken = theorem.control()
    cases = list(theorem.cases(size))
    verdict = combine([check(theorem, case, text) for text, case in cases])
    if broken.cases is not theorem.cases:
        cases = list(broken.cases(size))
    control = combine([check(broken, case, text) for text, case in cases])
    return {
        "label": theorem.label,
        "title": theorem.title,
        "source": theorem.source,
        "kind": theorem.kind,
        "verdict": "holds" if verdict.holds else "violated",
        "measured": verdict.worst,
        "bound": verdict.bound,
        "tightness": verdict.tightness,
        "cases": verdict.cases,
        "witness": verdict.witness,
        "control": {"mistake": theorem.mistake, "fails": not control.holds, "measured": control.worst},
    }
