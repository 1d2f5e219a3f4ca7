"""What listings share: rows with the same keys, printed as a table or as JSON."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from .options import JSON, parse
from .storage import plain


def print_listing(arguments, function, rows, columns, headings=None) -> int:
    """Print rows for a command that takes no option but --json; return its exit code."""
    o = parse([JSON], arguments, name_of(function), help_of(function))
    print_rows(rows, o.json, columns, headings)
    return 0


def new_row(label: str, source: str, kind: str, verdict: str | None, **more: Any) -> dict[str, Any]:
    """Return a row with the keys that every listing shares."""
    return {"label": label, "source": source, "kind": kind, "verdict": verdict, "measured": None, "expected": None,
            "control": None, **more}  # fmt: skip


def sound(row: Mapping[str, Any]) -> bool:
    """Say whether a row of a ledger is not violated, with a control that fails."""
    return row["control"]["fails"] and row["verdict"] != "violated"


def name_of(function: Callable) -> str:
    """Return the name of the command that a function is."""
    return function.__name__.removesuffix("_command")


def help_of(thing: Any) -> str:
    """Return the first paragraph of a docstring in one line."""
    return (inspect.getdoc(thing) or "").split("\n\n")[0].replace("\n", " ")


def print_json(content: Any) -> None:
    """Print JSON for machines."""
    print(json.dumps(plain(content), indent=2))


def print_rows(rows: list[dict[str, Any]], as_json: bool, columns: Sequence[str], headings=None) -> None:
    """Print the chosen columns as a table, or everything as JSON; `headings` rename columns."""
    if as_json:
        print_json(rows)
        return
    cells = [[_cell(row, column) for column in columns] for row in rows]
    titles = [(headings or {}).get(c, c) for c in columns]
    widths = [max(map(len, column)) for column in zip(titles, *cells, strict=True)]
    for line in [titles, ["-" * w for w in widths], *cells]:
        print("  ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)).rstrip())


def _cell(row: Mapping[str, Any], column: str) -> str:
    value = row.get("bound", row.get("expected")) if column == "bound" else row.get(column)
    if column == "control" and isinstance(value, dict):
        return "fails, as it must" if value["fails"] else "DOES NOT FAIL"
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, list | tuple):
        return ", ".join(map(str, value))
    return "" if value is None else str(value)
