"""The ledgers of theorems, claims and methods, and the figures, as the paper includes them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .. import methods
from ..plotting import Figure
from .cells import escape, long_table, number, source


def number_macros(numbers: Mapping[tuple[str, str], Any]) -> str:
    """Return the definitions behind \\result{label}{key}; an unknown pair stops LaTeX with an error."""
    lines = [
        f"\\expandafter\\def\\csname result@{label}@{key}\\endcsname{{{number(value)}}}\n"
        for (label, key), value in sorted(numbers.items())
    ]
    macro = (
        "\\newcommand{\\result}[2]{\\ifcsname result@#1@#2\\endcsname\\csname result@#1@#2\\endcsname"
        "\\else\\PackageError{orthotheory}{No result #2 of #1}{The ledger has no such number.}\\fi}\n"
        "\\newcommand{\\statement}[1]{\\ifcsname statement@#1\\endcsname\\csname statement@#1\\endcsname"
        "\\else\\PackageError{orthotheory}{No theorem #1}{The package has no such theorem.}\\fi}\n"
    )
    return macro + "".join(lines)


def theorem_table(rows: list[dict[str, Any]]) -> str:
    """Return the ledger of theorems as a table."""
    lines = [
        f"\\texttt{{{r['label']}}} & {r['kind']} & {r['verdict']} & {r['cases']} & {_deviation(r)} & "
        f"{'fails' if r['control']['fails'] else 'PASSES'}: {escape(r['control']['mistake'])} \\\\\n"
        for r in rows
    ]
    head = "theorem & kind & verdict & cases & worst & control \\\\\n"
    return long_table("lllrl>{\\raggedright\\arraybackslash}p{0.30\\linewidth}", head, lines)


def claim_table(rows: list[dict[str, Any]]) -> str:
    """Return the ledger of claims as a table."""
    lines = []
    for r in rows:
        control = f"{r['control']['verdict'].replace('_', ' ')} on {escape(r['control']['subject'])}"
        claim = f"\\texttt{{{r['label']}}}: {escape(r['statement'])} ({source(r['source'])})"
        measured = f"{r['verdict'].replace('_', ' ')} & {number(r['measured'])}"
        lines.append(f"{claim} & {measured} & {escape(r['expected'])} & {control} \\\\\n")
    column = ">{\\raggedright\\arraybackslash}p{%s\\linewidth}"
    head = "claim & verdict & measured & the claim needs & control \\\\\n"
    return long_table(f"{column % '0.30'}lr{column % '0.20'}{column % '0.21'}", head, lines)


def method_table() -> str:
    """Return the cards of all methods as a table that may break across pages."""
    lines = []
    for name, entry in methods.TABLE.items():
        card, cited = entry.method.card, source(entry.source or entry.method.card.source)
        lines.append(f"\\texttt{{{name}}} & {escape(card.geometry)} & {cited} & {card.status} \\\\\n")
    return long_table(
        "l>{\\raggedright\\arraybackslash}p{0.30\\linewidth}>{\\raggedright\\arraybackslash}p{0.25\\linewidth}l",
        "method & geometry & source & status \\\\\n",
        lines,
    )


def figure_macro(figure: Figure) -> str:
    """Return the definition behind \\paperfigure{name}; the caption names the labels that the figure shows."""
    shows = ", ".join(f"\\texttt{{{label}}}" for label in figure.shows)
    tail = f" Shows: {shows}." if shows else ""
    return (
        f"\\expandafter\\def\\csname paperfigure@{figure.name}\\endcsname{{\\begin{{figure}}[t]\\centering\n"
        f"\\includegraphics[width=\\linewidth]{{figures/{figure.name}.pdf}}\n"
        f"\\caption{{{figure.caption}{tail}}}\\label{{fig:{figure.name}}}\\end{{figure}}}}\n"
    )


def _deviation(row: dict[str, Any]) -> str:
    if row["kind"] == "identity":
        return f"error {number(row['measured'])}"
    return f"ratio {number(row['measured'], 4)}"
