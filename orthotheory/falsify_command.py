"""The command `falsify`: parse, call, print."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from .names import closest
from .options import JSON, Option, names_option, parse
from .storage import plain, read_json, writable_folder, write_json


def falsify_command(arguments: list[str]) -> int:
    """Search for counterexamples to theorems, conjectures and claims; the worst case is stored and can be replayed.

    Exit code 0: what is held true survives, and what is known to be false falls; with --planted, nine of ten objects
    have all their planted mistakes caught.
    """
    from .theory.falsify import BUDGET, SECONDS, replay

    options = [
        names_option("labels of theorems, conjectures or claims; all theorems and conjectures without"),
        Option("budget", int, BUDGET, "cases that are checked, for each label or mistake"),
        Option("seconds", float, SECONDS, "time after which a search ends within its budget"),
        Option("seed", int, 0, "of the search"),
        Option("planted", bool, False, "plant mistakes (control, sign, constant, order) and count those caught"),
        Option("replay", Path | None, None, "check the stored case of a witness again"),
        Option("out", Path, Path("results") / "falsify", "folder for witnesses"),
        JSON,
    ]
    o = parse(options, arguments, "falsify", (falsify_command.__doc__ or "").split("\n\n")[0])
    if o.replay:
        witness = read_json(o.replay)
        witness = witness.get("witness", witness)
        verdict = replay(witness, _statement(witness["label"]))
        _print([verdict.row()], o.json, ("label", "kind", "holds", "worst", "bound", "witness"))
        return 0
    return (_planted if o.planted else _search)(o)


def _statement(label: str) -> Any:
    """Return the theorem behind a label of any kind."""
    from . import claims, theory
    from .claims.contract import as_theorem
    from .theory.conjectures import CONJECTURES

    statements = {**theory.TABLE, **{name: c.theorem for name, c in CONJECTURES.items()}}
    closest(label, {**claims.TABLE, **statements}, "theorem, conjecture or claim")
    return statements[label] if label in statements else as_theorem(claims.TABLE[label])


def _labels(o: Any) -> list[str]:
    from . import theory
    from .theory.conjectures import CONJECTURES

    return list(o.names) or [*theory.TABLE, *(() if o.planted else CONJECTURES)]


def _watched(labels: list[str], o: Any) -> Any:
    from tqdm import tqdm

    return labels if o.json else tqdm(labels, desc="falsify", leave=False, dynamic_ncols=True, disable=None)


def _search(o: Any) -> int:
    from .theory.conjectures import CONJECTURES
    from .theory.falsify import falsify

    folder, rows, as_known = writable_folder(o.out), [], True
    for label in _watched(_labels(o), o):
        row = falsify(_statement(label), o.budget, o.seed, seconds=o.seconds).row()
        path = folder / f"{label}.json"
        write_json(path, row)
        rows.append({**row, "replay": f"orthotheory falsify {label} --replay {path}"})
        as_known &= row["falsified"] == (label in CONJECTURES and CONJECTURES[label].status == "refuted")
    _print(rows, o.json, ("label", "kind", "falsified", "worst", "bound", "evaluations", "family"))
    if not o.json:
        for row in rows if o.names else ():
            print(f"\nworst case of {row['label']}: {row['witness']['description']}\n  {row['replay']}")
    return 0 if as_known else 1


def _planted(o: Any) -> int:
    from .theory.falsify import plant

    rows = [plant(_statement(label), o.budget, o.seed, seconds=o.seconds).row() for label in _watched(_labels(o), o)]
    write_json(writable_folder(o.out) / "planted.json", rows)
    caught = sum(row["caught"] for row in rows)
    if o.json:
        _print(rows, True, ())
    else:
        short = {"caught": "caught", "missed": "MISSED", "not known false": "-"}
        names = list(dict.fromkeys(name for row in rows for name in row["mutants"]))
        table = [{**row, **{name: short.get(row["mutants"].get(name), "") for name in names}} for row in rows]
        _print(table, False, ("label", "kind", "caught", "tightness", *names))
        print(
            f"\nAll known mistakes caught of {caught} of {len(rows)} objects. A mistake counts where the fixed cases,"
        )
        print("which the search does not see, refute it; -: they do not, so that it is not known to be false.")
    return 0 if caught >= 0.9 * len(rows) else 1


def _print(rows: list[dict[str, Any]], as_json: bool, columns: tuple[str, ...]) -> None:
    if as_json:
        print(json.dumps(plain(rows), indent=2))
        return
    cells = [[f"{row[c]:.6g}" if isinstance(row[c], float) else str(row[c]) for c in columns] for row in rows]
    widths = [max(map(len, column)) for column in zip(columns, *cells, strict=True)]
    for line in [columns, *cells]:
        print("  ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)).rstrip())
