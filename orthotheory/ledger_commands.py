"""The commands `theorems` and `claims`: the ledgers, checked on several cores."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from .listing import help_of, name_of, print_rows, sound
from .names import closest
from .options import JOBS, JSON, Option, names_option, parse, size_option
from .storage import read_json

LEDGER_COLUMNS = ("label", "kind", "verdict", "measured", "bound", "control")


def theorems_command(arguments: list[str]) -> int:
    """Check theorems, with the controls that must fail; conjectures come last, with their numerical evidence."""
    from . import theory
    from .theory.conjectures import CONJECTURES

    def searched(o: Any, rows: list[dict[str, Any]]) -> None:
        found = stored_searches()
        for row in rows:
            row["searched"] = found.get(row["label"], {}).get("worst")

    table, columns = [*theory.TABLE, *CONJECTURES], (*LEDGER_COLUMNS[:-1], "tightness", "searched", "control")
    return _ledger(arguments, theorems_command, table, columns=columns, complete=searched)


def stored_searches() -> dict[str, dict[str, Any]]:
    """Return, by label, what `falsify --planted` found: the rows of the committed table, in a checkout."""
    from .reproduce import ReproduceError, find_root

    try:
        path = find_root(None) / "benchmarks" / "results" / "falsify.json"
    except ReproduceError:
        return {}
    return {row["label"]: row for row in read_json(path)["rows"]} if path.is_file() else {}


def claims_command(arguments: list[str]) -> int:
    """Judge claims of the literature, each with its control; named ones with their evidence and picture."""
    from . import claims

    page = Option("html", bool, False, "write a static page of them, with pictures and commands")
    out = Option("out", Path, Path("runs") / "claims", "folder for pictures and the page")
    return _ledger(arguments, claims_command, list(claims.TABLE), (page, out), _show_claims)


def _ledger(
    arguments: list[str],
    function: Callable,
    table: Sequence[str],
    more: Sequence[Option] = (),
    show: Callable | None = None,
    columns: Sequence[str] = LEDGER_COLUMNS,
    complete: Callable | None = None,
) -> int:
    kind = name_of(function)
    slow = Option("slowest", int, 0, "print so many of the slowest checks with their processor seconds")
    options = [names_option("labels to check; all without"), size_option("smoke"), JOBS, slow, *more, JSON]
    o = parse(options, arguments, kind, help_of(function))
    labels = [closest(label, {name: name for name in table}, kind.removesuffix("s")) for label in o.names] or table
    start = time.perf_counter()
    rows = list(watched(over_cores(functools.partial(_row, kind, o.size), labels, o.jobs), len(labels), kind, o.json))
    total = time.perf_counter() - start
    if complete:
        complete(o, rows)
    print_rows(rows, o.json, columns)
    if o.slowest and not o.json:
        slowest = sorted(rows, key=lambda row: -row["seconds"])[: o.slowest]
        together = sum(row["seconds"] for row in rows)
        print(f"\n{len(rows)} checks in {total:.1f} s, {together:.1f} s of processor time; the slowest:")
        print_rows(slowest, False, ("label", "seconds"))
    if show:
        show(o, rows)
    return 0 if all(sound(row) for row in rows) else 1


def _row(kind: str, size: Any, label: str) -> dict[str, Any]:
    from . import claims, theory
    from .theory import conjectures

    start = time.process_time()
    if kind == "claims":
        row = claims.ledger_row(claims.TABLE[label], size)
    elif label in conjectures.CONJECTURES:
        row = conjectures.ledger_row(conjectures.CONJECTURES[label], size)
    else:
        row = theory.ledger_row(theory.TABLE[label], size)
    return {**row, "seconds": time.process_time() - start}


def over_cores(function: Callable[[Any], Any], labels: Sequence[Any], jobs: int) -> Iterator[Any]:
    """Yield a function of each label in order: from processes with one BLAS thread each, or from this one."""
    jobs = min(jobs, len(labels))
    if jobs <= 1:
        yield from map(function, labels)
        return
    from joblib import Parallel, delayed

    yield from Parallel(n_jobs=jobs, return_as="generator", inner_max_num_threads=1, backend="loky")(
        delayed(function)(label) for label in labels
    )


def watched(rows: Iterator[Any], total: int, what: str, quiet: bool) -> Iterator[Any]:
    """Show a progress bar while rows come in, for a person at a terminal."""
    from tqdm import tqdm

    disable = True if quiet else None  # None: only where stderr is a terminal
    return iter(tqdm(rows, total=total, desc=what, unit="check", leave=False, dynamic_ncols=True, disable=disable))


def _show_claims(o: Any, rows: list[dict[str, Any]]) -> None:
    """Write the page, or print the evidence of the claims that were named and draw their pictures."""
    from .plotting import save_figure
    from .plotting.ledger import SIZE, draw_evidence
    from .storage import writable_folder

    if o.html:
        from .typeset.web import write_page

        print(f"wrote {write_page(o.out, rows, o.size, **_checkout_pictures())}")
        return
    for row in rows if o.names and not o.json else ():
        print(f"\n{row['label']}: {row['statement']}")
        print(f"  {'source':<38}{row['source']}")
        print(f"  {'verdict':<38}{row['verdict']}{', if ' + row['condition'] if row['condition'] else ''}")
        print(f"  {'needed':<38}{row['expected']}")
        for name, value in {"measured": row["measured"], **row["evidence"]}.items():
            print(f"  {name:<38}{value:.6g}")
        print(f"  {'control':<38}{row['control']['subject']}")
        print(f"  {'control measured':<38}{row['control']['measured']:.6g} ({row['control']['verdict']})")
        stem, draw = writable_folder(o.out) / row["label"], functools.partial(draw_evidence, row)
        print(f"  {'picture':<38}{save_figure(draw, stem, SIZE)[1]}")


def _checkout_pictures() -> dict[str, Any]:
    """Return the bibliography and the drawn figures by claim, where the current folder lies in a checkout."""
    from .reproduce import Layout, ReproduceError, find_root, load_figures

    try:
        root = find_root(None)
    except ReproduceError:
        return {}
    figures: dict[str, list[Path]] = {}
    for name, (figure, _) in load_figures(root).items():
        drawn = Layout(root, "paper").figures / f"{name}.png"
        for label in figure.shows if drawn.is_file() else ():
            figures.setdefault(label, []).append(drawn)
    return {"bibliography": root / "paper" / "references.bib", "figures": figures}
