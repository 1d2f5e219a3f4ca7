"""What a claim is: a sentence of a paper in our words, a check that could have come out otherwise, and a control."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, Literal, get_args

from ..theory.contract import Size, Theorem

Outcome = Literal["holds", "refuted", "holds_if", "reported"]


@dataclass(frozen=True)
class Verdict:
    """The outcome of a check.

    Parameters
    ----------
    outcome : "holds", "refuted", "holds_if" or "reported"
        "holds_if" comes with a `condition`; "reported" is for what a small machine cannot test.
    measured : float
        The deciding number.
    expected : str
        What the claim would need it to be.
    evidence : dict
        Every other number, by name; the paper prints them from here.
    """

    outcome: Outcome
    measured: float
    expected: str
    evidence: dict[str, float] = field(default_factory=dict)
    condition: str = ""


@dataclass(frozen=True)
class Claim:
    """A statement of the literature that can be judged.

    Parameters
    ----------
    label : str
        Its name in the ledger, tests, figures and the paper.
    source : str
        Key of the bibliography, with the version where versions differ.
    statement : str
        One sentence in our words.
    check : function of a size
        Returns the verdict; the same function judges the control on another subject.
    control : function of a size
        The same check where the answer must be another one.
    control_text : str
        What the control judges.
    control_must_be : Outcome
        The answer that shows that the check can come out otherwise.
    """

    label: str
    source: str
    statement: str
    check: Callable[[Size], Verdict]
    control: Callable[[Size], Verdict]
    control_text: str
    control_must_be: Outcome


def as_theorem(claim: Claim) -> Theorem:
    """Return "other draws give the same verdict" as an identity, so that a claim is searched like a theorem."""
    known = get_args(Outcome)
    recorded = 1 + known.index(claim.check("smoke").outcome)
    return Theorem(
        label=claim.label,
        title=claim.statement,
        statement=claim.statement,
        assumes=(),
        kind="identity",
        lhs=lambda verdict: [1 + known.index(verdict.outcome)],
        rhs=lambda verdict: [recorded],
        cases=lambda size: iter([(claim.label, claim.check(size))]),
        broken=lambda t: replace(t, cases=lambda size: iter([(claim.control_text, claim.control(size))])),
        mistake=claim.control_text,
        source=claim.source,
        tolerance=0.0,
        reason="a verdict is one of four words",
    )


def ledger_row(claim: Claim, size: Size = "smoke") -> dict[str, Any]:
    """Return what the ledger and `--json` show."""
    verdict, control = claim.check(size), claim.control(size)
    works = control.outcome == claim.control_must_be and control.outcome != verdict.outcome
    return {
        "label": claim.label,
        "source": claim.source,
        "kind": "claim",
        "statement": claim.statement,
        "verdict": verdict.outcome,
        "condition": verdict.condition,
        "measured": verdict.measured,
        "expected": verdict.expected,
        "evidence": verdict.evidence,
        "control": {
            "subject": claim.control_text,
            "verdict": control.outcome,
            "measured": control.measured,
            "fails": works,
        },
    }
