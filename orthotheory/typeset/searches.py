"""What the searches and the long confirmations found, as the paper includes it: from stored results, if any."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..storage import read_json
from .cells import escape, long_table, number, table

Rows = list[dict[str, Any]]


def read_planted(path: Path | None) -> Rows:
    """Return the rows that `orthotheory falsify --planted` stored, one for each object."""
    return read_json(path)["rows"] if path is not None and path.is_file() else []


def read_confirmations(path: Path | None) -> dict[str, Rows]:
    """Return the rows of `benchmarks/confirmations.py` by part."""
    stored = read_json(path) if path is not None and path.is_file() else {}
    return {part: found["rows"] for part, found in stored.items()}


def planted_table(rows: Rows) -> str:
    """Return, for each object, the worst case that the search found and the planted mistakes that it caught."""
    lines = []
    for row in rows:
        known = {name: m["outcome"] for name, m in row["mutants"].items() if m["outcome"] != "not known false"}
        missed = [name for name, outcome in known.items() if outcome == "missed"]
        equal, worst = row["kind"] in ("identity", "asymptotic"), float(row["worst"])
        deviation = f"error {number(worst)}" if equal else f"ratio {number(worst, 4)}"
        found = "verdict kept" if row["survives"] else "verdict changes"
        lines.append(
            f"\\texttt{{{row['label']}}} & {row['kind']} & {found if row['kind'] == 'claim' else deviation} & "
            f"{row['evaluations']} & {len(known) - len(missed)} of {len(known)} & {escape(', '.join(missed))} \\\\\n"
        )
    head = "object & kind & worst found & cases & caught & missed \\\\\n"
    return long_table("lllrl>{\\raggedright\\arraybackslash}p{0.2\\linewidth}", head, lines)


def planted_numbers(rows: Rows) -> dict[tuple[str, str], Any]:
    """Return the counts behind the table: objects, those with every mistake caught, mistakes, and those not counted."""
    outcomes = [m["outcome"] for row in rows for m in row["mutants"].values()]
    counts: dict[tuple[str, str], Any] = {
        ("planted", "objects"): len(rows),
        ("planted", "objects caught"): sum(row["caught"] for row in rows),
        ("planted", "mistakes"): len(outcomes) - outcomes.count("not known false"),
        ("planted", "mistakes caught"): outcomes.count("caught"),
        ("planted", "not known false"): outcomes.count("not known false"),
    }
    for row in rows:
        counts["planted", f"worst of {row['label']}"] = float(row["worst"])
    return counts if rows else {}


def momentum_table(rows: Rows) -> str:
    """Return the exponents of momentum on new seeds and problems: a line a schedule, a column a confirmation.

    Behind each stands half the length of its 95 % interval; an asterisk marks an interval that misses the theory.
    """
    fits: dict[tuple[str, float], list[str]] = {}
    for row in rows:
        half = (float(row["high"]) - float(row["low"])) / 2
        missed = "" if row["verdict"] == "consistent" else "^*"
        cell = f"${float(row['slope']):.3f}{{\\scriptstyle\\,\\pm\\,{half:.3f}}}{missed}$"
        fits.setdefault((row["schedule"], float(row["theory"])), []).append(cell)
    if not fits:
        return ""
    lines = [" & ".join([escape(s), number(theory), *cells]) + " \\\\\n" for (s, theory), cells in fits.items()]
    count = max(map(len, fits.values()))
    head = f"schedule & theory & \\multicolumn{{{count}}}{{c}}{{fitted on new seeds and problems}} \\\\\n"
    return table("lr" + "r" * count, head, lines)


def confirmation_numbers(confirmations: dict[str, Rows]) -> dict[tuple[str, str], Any]:
    """Return the numbers of the confirmations: momentum's verdicts counted, the conjectures' by shape and size."""
    counts: dict[tuple[str, str], Any] = {}
    for part, prefix in (("momentum-rates", ""), ("momentum-rates-all-steps", "all steps, ")):
        slopes: dict[str, list[float]] = {}
        for row in confirmations.get(part, []):
            name = f"{prefix}{row['schedule']}"
            slopes.setdefault(name, []).append(row["slope"])
            for key in ("runs", row["verdict"]):
                at = ("momentum-confirmation", f"{name}, {key}")
                counts[at] = counts.get(at, 0) + 1
        for name, found in slopes.items():
            counts["momentum-confirmation", f"{name}, mean slope"] = sum(found) / len(found)
    cycles = confirmations.get("sharpest-cycle", [])
    if cycles:
        counts["sharpest-cycle", "confirmation runs"] = sum(row["runs"] for row in cycles)
        counts["sharpest-cycle", "confirmation below"] = sum(row["below"] for row in cycles)
    for row in confirmations.get("shrinking-radius", []):
        for key in ("exponent", "low", "high"):
            counts["shrinking-radius-growth", f"{key}, size {row['size']}"] = row[key]
    return counts
