"""Tables of the section on gradient surgery."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .. import surgery
from ..claims import continual, merging, retain, sequences
from ..claims import surgery as surgery_claims
from ..surgery.properties import PROPERTIES
from ..surgery.properties import table as properties_of_aggregators
from ..surgery.rules import RULES
from ..theory import retain as retain_theorems
from ..theory import surgery as surgery_theorems
from ..theory import surgery_orthogonal, surgery_projections
from .cells import escape, number, source, table

# The labels of the section on gradient surgery, which has ledgers of its own.
OF_SURGERY = {
    item.label
    for items in (
        *(module.CLAIMS for module in (surgery_claims, continual, retain, sequences, merging)),
        *(module.THEOREMS for module in (surgery_theorems, surgery_orthogonal, surgery_projections, retain_theorems)),
    )
    for item in items
}


def surgery_tables() -> dict[str, str]:
    """Return the tables of aggregators, rules and properties by file name."""
    return {
        "aggregators.tex": card_table({n: ("", e.aggregator.card) for n, e in surgery.TABLE.items()}),
        "rules.tex": card_table({n: (r.family, r.card) for n, r in RULES.items()}),
        "properties.tex": property_table(),
    }


def card_table(cards: Mapping[str, tuple[str, Any]]) -> str:
    """Return the cards of aggregators or rules as a table; the family is left out where all are empty."""
    families = any(family for family, _ in cards.values())
    lines = [
        f"\\texttt{{{name}}} & {family + ' & ' if families else ''}{escape(card.title)} & {source(card.source)} & "
        f"{card.status} \\\\\n"
        for name, (family, card) in cards.items()
    ]
    head = f"name & {'family & ' if families else ''}title & source & status \\\\\n"
    wide = ">{\\raggedright\\arraybackslash}p{0.28\\linewidth}>{\\raggedright\\arraybackslash}p{0.21\\linewidth}l"
    return table(f"l{'l' if families else ''}{wide}", head, lines)


def property_table() -> str:
    """Return the properties of the aggregators: a dot where one holds, f at full row rank, 2 for two rows."""
    signs = {
        "yes": "$\\bullet$",
        "no": "",
        "full rank": "f",
        "two rows": "2",
        "up to ties": "t",
        "in law": "l",
        "-": "--",
    }
    lines = [
        f"\\texttt{{{row['name']}}} & {number(row['degree'])} & {' & '.join(signs[row[p]] for p in PROPERTIES)} \\\\\n"
        for row in properties_of_aggregators()
    ]
    turned = " & ".join(f"\\rotatebox{{90}}{{{label}}}" for label in ("degree", *PROPERTIES))
    return table("l" + "c" * (1 + len(PROPERTIES)), f"aggregator & {turned} \\\\\n", lines)
