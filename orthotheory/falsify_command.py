"""The command `falsify`: parse, call, print."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

from .ledger_commands import over_cores, watched
from .listing import help_of, print_json, print_rows
from .names import closest
from .options import JOBS, JSON, Option, names_option, parse
from .storage import machine, plain, read_json, writable_folder, write_json

SHARE = 0.9  # of the objects, whose planted mistakes must all be caught
MARKS = {"caught": "caught", "missed": "MISSED", "not known false": "-"}


def falsify_command(arguments: list[str]) -> int:
    """Search for counterexamples to theorems, conjectures and claims; the worst case is stored and can be replayed.

    Exit code 0: what is held true survives, and what is known to be false falls; with --planted, nine of ten objects
    have all their planted mistakes caught; with --replay, every counterexample is one again.
    """
    from .theory.falsify import BUDGET, SECONDS

    options = [
        names_option("labels; without, all theorems and conjectures, and with --planted the claims too"),
        Option("budget", int, BUDGET, "cases that are checked, for each label or mistake"),
        Option("seconds", float, SECONDS, "processor time after which a search ends within its budget"),
        Option("seed", int, 0, "of the search"),
        Option("planted", bool, False, "plant mistakes (control, sign, constant, order) and count those caught"),
        Option("replay", Path | None, None, "check the cases of a stored witness or of a stored table again"),
        Option(
            "out",
            Path,
            Path("results") / "falsify",
            "folder for witnesses, or for the rows of falsify.json",
        ),
        JOBS,
        JSON,
    ]
    o = parse(options, arguments, "falsify", help_of(falsify_command))
    for label in o.names:
        closest(label, _everything(), "theorem, conjecture or claim")
    if o.replay:
        return _replay(o)
    return (_planted if o.planted else _search)(o)


def _everything() -> dict[str, Any]:
    from . import claims
    from .theory.falsify import statements

    return {**claims.TABLE, **statements()}


def statement_behind(label: str) -> Any:
    """Return the theorem behind a label of any kind."""
    from . import claims
    from .claims.contract import as_theorem
    from .theory.falsify import statements

    found = closest(label, _everything(), "theorem, conjecture or claim")
    return as_theorem(claims.TABLE[label]) if label not in statements() else found


def _refuted(label: str) -> bool:
    from .theory.conjectures import CONJECTURES

    return label in CONJECTURES and CONJECTURES[label].status == "refuted"


def _search(o: Any) -> int:
    from .theory.falsify import statements

    folder, labels = writable_folder(o.out), list(o.names) or list(statements())
    one = functools.partial(_search_one, budget=o.budget, seed=o.seed, seconds=o.seconds)
    rows = list(watched(over_cores(one, labels, o.jobs), len(labels), "falsify", o.json))
    for row in rows:
        path = folder / f"{row['label']}.json"
        write_json(path, row)
        row["replay"] = f"orthotheory falsify --replay {path}"
    print_rows(rows, o.json, ("label", "kind", "falsified", "worst", "bound", "evaluations", "family"))
    for row in rows if o.names and not o.json else ():
        print(f"\nworst case of {row['label']}: {row['witness']['description']}\n  {row['replay']}")
    return 0 if all(row["falsified"] == _refuted(row["label"]) for row in rows) else 1


def _search_one(label: str, **options: Any) -> dict[str, Any]:
    from .theory.falsify import falsify

    return falsify(statement_behind(label), **options).row()


def _planted(o: Any) -> int:
    folder, labels = writable_folder(o.out), list(o.names) or list(_everything())
    one = functools.partial(_plant_one, budget=o.budget, seed=o.seed, seconds=o.seconds)
    rows = plain(list(watched(over_cores(one, labels, o.jobs), len(labels), "falsify", o.json)))
    path = folder / "falsify.json"
    before = read_json(path)["rows"] if path.is_file() else []
    by_label = {row["label"]: row for row in [*before, *rows]}  # named objects replace their rows of an earlier table
    kept = [by_label[label] for label in _everything() if label in by_label]
    write_json(path, {"machine": machine(), "rows": kept})
    return _show_planted(rows, o.json)


def _plant_one(label: str, **options: Any) -> dict[str, Any]:
    from .theory.falsify import statements
    from .theory.planted import plant

    claim = label not in statements()
    mistakes = ("own control",) if claim else None  # a verdict is a word: no sign, no constant
    row = plant(statement_behind(label), mistakes=mistakes, **options).row()
    return {**row, "kind": "claim" if claim else row["kind"], "settings": options}


def _show_planted(rows: list[dict[str, Any]], as_json: bool) -> int:
    caught = sum(row["caught"] for row in rows)
    if as_json:
        print_json(rows)
        return 0 if caught >= SHARE * len(rows) else 1
    names = list(dict.fromkeys(name for row in rows for name in row["mutants"]))
    marks = [{n: MARKS[m["outcome"]] for n, m in row["mutants"].items()} for row in rows]
    table = [{**dict.fromkeys(names), **row, **found} for row, found in zip(rows, marks, strict=True)]
    print_rows(table, False, ("label", "kind", "caught", "tightness", "worst", *names))
    print(f"\nAll known mistakes caught of {caught} of {len(rows)} objects. A mistake counts where the fixed cases,")
    print("which the search does not see, refute it; -: they do not, so that it is not known to be false.")
    return 0 if caught >= SHARE * len(rows) else 1


def _replay(o: Any) -> int:
    from .theory.falsify import replay

    stored = read_json(o.replay)
    if "rows" not in stored:
        witness = stored.get("witness", stored)
        verdict = replay(witness, statement_behind(witness["label"]))
        print_rows([verdict.row()], o.json, ("label", "kind", "holds", "worst", "bound", "witness"))
        return 0
    labels = [row["label"] for row in stored["rows"]]
    chosen = [row for row in stored["rows"] if row["label"] in (o.names or labels)]
    again = list(watched(over_cores(_replay_row, chosen, o.jobs), len(chosen), "replay", o.json))
    rows = [row for found in again for row in found]
    print_rows(rows, o.json, ("label", "mistake", "falsified", "worst", "stored", "witness"))
    return 0 if all(row["falsified"] for row in rows) else 1


def _replay_row(row: dict[str, Any]) -> list[dict[str, Any]]:
    from .theory.planted import replay_planted

    return [
        {
            "label": row["label"], "mistake": name, "falsified": not verdict.holds, "worst": verdict.worst,
            "stored": float(row["mutants"][name]["worst"]), "witness": verdict.witness,
        }
        for name, verdict in replay_planted(statement_behind(row["label"]), row).items()
    ]  # fmt: skip
