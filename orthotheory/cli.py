"""The `orthotheory` command; thin: parse, call, print.

Exit codes: 0 fine, 1 a check or a task failed, 2 wrong usage, 130 interrupted.
"""

from __future__ import annotations

import inspect
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

from .falsify_command import falsify_command
from .ledger_commands import LEDGER_COLUMNS, claims_command, theorems_command
from .listing import help_of, new_row, print_json, print_listing, print_rows, sound
from .names import UnknownName, closest
from .options import JOBS, JSON, REQUIRED, ROOT, Option, RunSchema, names_option, parse, peek, size_option
from .sweep_commands import results_command, sweep_command
from .version import __version__


def command(arguments: Sequence[str]) -> int:
    """Run one command line and return its exit code; messages for people go to stderr."""
    if not arguments or arguments[0] in ("-h", "--help"):
        print(_overview())
        return 0
    if arguments[0] in ("-V", "--version"):
        print(f"orthotheory {__version__}")
        return 0
    try:
        return closest(arguments[0], COMMANDS, "command")(list(arguments[1:]))
    except SystemExit as stop:  # the parser has printed its help or its complaint
        return int(stop.code or 0)
    except (UnknownName, ValueError, TypeError) as error:
        return _complain(error, 2)
    except ImportError as error:
        return _complain(f"{error}. The command needs: pip install 'orthotheory[lab]'", 1)
    except BrokenPipeError:  # the reader of our output has left; the flush at exit must not complain again
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except (OSError, RuntimeError) as error:
        return _complain(error, 1)
    except KeyboardInterrupt:
        return _complain("interrupted; what was finished is kept", 130)


def run_command(arguments: list[str]) -> int:
    """Run a method on a problem, print the outcome, write a table and a plot."""
    from . import loop, methods, problems
    from .plotting import save_figure
    from .plotting.convergence import draw_trace
    from .storage import digest, writable_folder

    problem_factory = closest(peek(arguments, "--problem") or "quadratic", problems.TABLE, "problem")
    method_entry = closest(peek(arguments, "--method") or "muon", methods.TABLE, "method")
    noise_name = peek(arguments, "--noise")
    noise_type = closest(noise_name, problems.NOISES, "noise") if noise_name else None
    schema = RunSchema(problem_factory, method_entry, noise_type)
    o = parse(schema.options, arguments, "run", help_of(run_command))

    noise = {"noise": {"name": o.noise, **schema.given("noise", o)}} if o.noise else {}
    problem = problems.make(o.problem, **schema.given("problem", o), **noise, device=o.device)
    method = methods.make(o.method, **schema.given("method", o))
    method = methods.Surgery(o.surgery, method) if o.surgery else method
    record = ["value", "gap", "stationarity" if o.surgery else "gradient_norm"]
    record = [name for name in record if name != "gap" or problem.optimal_value is not None]
    label = f"{o.surgery}-{o.method}" if o.surgery else o.method
    config = [problem.config, label, method.config(), o.steps, o.every, o.seed, o.device]
    folder = writable_folder(o.out / f"{o.problem}-{label}-{digest(config)[:8]}")
    watch = o.progress and not o.json
    trace = loop.run(problem, method, o.steps, record=record, every=o.every, seed=o.seed, progress=watch)
    table = trace.write(folder)
    files = [table, table.with_suffix(".json")]
    title = f"{label} on {o.problem}"
    if len(trace.k):
        files += save_figure(lambda fig: draw_trace(trace.to_pandas(), title, fig), folder / "trace", (6.5, 2.6))
    smoothness = problem.smoothness(method.norm)
    outcome = {
        "label": title,
        "source": method.card.source,
        "kind": "run",
        "verdict": trace.stopped_by,
        "steps": trace.steps,
        "seconds": trace.seconds,
        "measured": {name: [float(v[0]), float(v[-1])] for name, v in trace.records.items() if len(v)},
        "smoothness": {"norm": method.norm.name, "value": float(smoothness), "kind": smoothness.kind},
        "files": [str(f) for f in files],
    }
    print_json(outcome) if o.json else _print_outcome(outcome)
    if trace.stopped_by.startswith("non-finite"):
        return _complain(f"the run met {trace.stopped_by}; a smaller --lr may help. What came before is kept.", 1)
    return 130 if trace.stopped_by.startswith("interrupted") else 0


def methods_command(arguments: list[str]) -> int:
    """List the optimizers with their cards."""
    from . import methods

    rows = []
    for name, entry in {**methods.TABLE, **methods.NEEDS_MORE}.items():
        card, source = entry.method.card, entry.source or entry.method.card.source
        defaults = methods.make(name).config() if name in methods.TABLE else {}  # others need more than a gradient
        rows.append(
            new_row(name, source, "method", card.status, title=card.title, arxiv=card.arxiv, geometry=card.geometry,
                 differences=card.differences, defaults=defaults)
        )  # fmt: skip
    columns = ("label", "verdict", "geometry", "source")
    return print_listing(arguments, methods_command, rows, columns, {"verdict": "status"})


def norms_command(arguments: list[str]) -> int:
    """List the norms with their duals and LMOs."""
    from . import norms

    rows = [new_row(name, "ours, checked by the contract test", "norm", None, statement=help_of(norm))
            for name, norm in norms.TABLE.items()]  # fmt: skip
    return print_listing(arguments, norms_command, rows, ("label", "statement"))


def problems_command(arguments: list[str]) -> int:
    """List the problems and their options."""
    from . import problems

    rows = []
    for name, factory in problems.TABLE.items():
        parameters = inspect.signature(factory).parameters.values()
        options = {p.name: p.default for p in parameters if p.name != "device"}
        rows.append(new_row(name, "ours", "problem", None, statement=help_of(factory), options=options))
    return print_listing(arguments, problems_command, rows, ("label", "statement"))


def surgery_command(arguments: list[str]) -> int:
    """List the rules of gradient surgery with their cards, or the properties of the aggregators."""
    from . import surgery
    from .surgery.rules import RULES

    properties = Option("properties", bool, False, "print which aggregator has which property")
    o = parse([properties, JSON], arguments, "surgery", help_of(surgery_command))
    if o.properties:
        return _print_properties(o.json)
    rows = [
        new_row(name, card.source, "surgery", card.status, family=family, title=card.title,
                differences=card.differences)
        for name, family, card in [
            *((name, "aggregator", entry.aggregator.card) for name, entry in surgery.TABLE.items()),
            *((name, rule.family, rule.card) for name, rule in RULES.items()),
        ]
    ]  # fmt: skip
    print_rows(rows, o.json, ("label", "family", "verdict", "title", "source"), {"verdict": "status"})
    return 0


def _print_properties(as_json: bool) -> int:
    """Print the generated table; JSON adds the counterexample behind every cell that is not a plain yes."""
    from .surgery.properties import PROPERTIES, counterexample, table

    rows = table()
    if as_json:
        refuted = ("no", "full rank", "two rows")
        stored = [{p: counterexample(row["name"], p) for p in PROPERTIES if row[p] in refuted} for row in rows]
        print_json([{**row, "counterexamples": found} for row, found in zip(rows, stored, strict=True)])
        return 0
    signs = {"yes": "y", "no": "-", "full rank": "f", "two rows": "2", "up to ties": "t", "in law": "l", "-": "?"}
    numbers = {label: str(i) for i, label in enumerate(PROPERTIES, 1)}
    short = [{"name": row["name"], "degree": f"{row['degree']:.3g}", **{p: signs[row[p]] for p in PROPERTIES}}
             for row in rows]  # fmt: skip
    print_rows(short, False, ("name", "degree", *PROPERTIES), numbers)
    print("\ny: holds, f: at full row rank, 2: for two rows, t: up to ties, l: in law, ?: not claimed either way,")
    print("-: fails, with a stored counterexample (--json)")
    for label, p in PROPERTIES.items():
        print(f"{numbers[label]:>3}  {label}: {p.statement}")
    return 0


def figures_command(arguments: list[str]) -> int:
    """List the paper's figures, or draw those that are named."""
    from .reproduce import Layout, find_root, load_figures, reproduce

    everything = Option("all", bool, False, "draw all of them")
    options = [names_option("figures to draw; none lists them"), everything, size_option("paper"), JOBS, ROOT, JSON]
    o = parse(options, arguments, "figures", help_of(figures_command))
    root = find_root(o.root)
    found = load_figures(root)
    for name in o.names:
        closest(name, found, "figure")
    chosen = set(found) if o.all else set(o.names)
    if chosen:
        reproduce(root, o.size, jobs=o.jobs, only=chosen, progress=sys.stderr.isatty() and not o.json)
    layout, rows = Layout(root, o.size), []
    for name, (figure, source) in found.items():
        if not chosen or name in chosen:
            files = [f for f in (layout.figures / f"{name}.{kind}" for kind in ("pdf", "png")) if f.is_file()]
            verdict = "drawn" if len(files) == 2 else "not drawn"
            paths = [f.relative_to(root).as_posix() for f in files]
            here = source.relative_to(root).as_posix()
            rows.append(new_row(name, here, "figure", verdict, shows=figure.shows, files=paths))
    print_rows(rows, o.json, ("label", "verdict", "source", "shows"))
    return 0


def reproduce_command(arguments: list[str]) -> int:
    """Run the experiments, draw the figures, write tables and numbers, print the ledgers, build the paper."""
    from .reproduce import find_root, ledger, reproduce

    force = Option("force", bool, False, "run everything again")
    pdf = Option("pdf", bool, True, "build the paper where a TeX engine is found")
    o = parse([size_option("paper"), JOBS, force, pdf, ROOT, JSON], arguments, "reproduce", help_of(reproduce_command))
    root = find_root(o.root)
    # A bar for a person at a terminal, a line a task for a log.
    watched = sys.stderr.isatty() and not o.json
    say = (lambda text: None) if watched or o.json else print
    report = reproduce(root, o.size, jobs=o.jobs, force=o.force, pdf=o.pdf, say=say, progress=watched)
    rows = {kind: ledger(root, o.size, kind) for kind in ("theorems", "claims")}
    if o.json:
        print_json({"ran": report.ran, "kept": report.kept, "remarks": report.remarks, **rows})
    else:
        for kind, ledger_rows in rows.items():
            print(f"\n{kind.capitalize()}")
            print_rows(ledger_rows, False, LEDGER_COLUMNS)
        print()
        kept = len(report.kept)
        done = f"{len(report.ran)} tasks ran, {kept} were up to date."
        print(done if report.ran else f"Nothing to do: all {kept} tasks are up to date.")
        for remark in report.remarks:
            print(remark)
    return 0 if all(sound(row) for row in rows["theorems"] + rows["claims"]) else 1


def plan_command(arguments: list[str]) -> int:
    """Plan how to orthogonalize matrices of a shape: the cheapest steps, the alternatives, and the lower bound."""
    from .polar.planner import FAMILIES, alternatives, product_bound

    options = [
        Option("rows", int, REQUIRED, "rows of the matrices", positional=True),
        Option("columns", int, REQUIRED, "columns of the matrices", positional=True),
        Option("dtype", Literal["float32", "float64"], "float32", "precision of the matrices"),
        Option("accuracy", float | None, None, "wanted distance to the polar factor in the spectral norm"),
        Option("efficiency", float | None, None, "wanted <G, X> / (|X|_2 |G|_*) instead, e.g. 0.98"),
        Option("low", float | None, None, "smallest over largest singular value (1e-3; a Gaussian spectrum)"),
        Option("costs", Literal["counts", "measured"], "counts", "operation counts, or what this machine needs"),
        Option("families", tuple[str, ...], (), f"only some kinds of steps: {', '.join(FAMILIES)}"),
        JSON,
    ]
    o = parse(options, arguments, "plan", help_of(plan_command))
    if o.accuracy is None and o.efficiency is None:
        raise ValueError("Say what is wanted: --accuracy 1e-2, or --efficiency 0.98.")
    interval = None if o.low is None else (o.low, 1.0)
    plans = alternatives((o.rows, o.columns), o.dtype, accuracy=o.accuracy, efficiency=o.efficiency, interval=interval,
                         costs=o.costs, families=o.families or None)  # fmt: skip
    best = plans[0]
    rows = [new_row(plan.name, plan.costs.source, "plan", plan.reason, **plan.row()) for plan in plans]
    bound = product_bound(plans, o.accuracy)
    if o.json:
        print_json({"plans": rows, "bound": {**bound._asdict(), "best": bound.best and bound.best.name}})
        return 0
    spectrum = "a Gaussian spectrum" if best.efficiency else f"singular values in [{best.interval[0]:.3g}, 1]"
    wanted = f"accuracy {o.accuracy:g}" if o.accuracy else f"efficiency {o.efficiency:g}"
    print(f"{o.rows} x {o.columns} in {o.dtype}, {wanted}, {spectrum} after division by sigma_1")
    print(f"costs in products of n x n matrices, n = {min(o.rows, o.columns)}: {best.costs.source}\n")
    columns = ["label", "cost", "seconds", "efficiency", "error", "exact error", "precision", "verdict"]
    columns = [c for c in columns if rows[0][c] is not None]
    print_rows(rows, False, columns, {"label": "plan", "verdict": "why"})
    print("\nDegrees of polynomials, z with its number of poles, n for Newton; | forms a new Gram matrix.")
    print(bound)
    return 0


def doctor_command(arguments: list[str]) -> int:
    """Say what works on this machine and what would make more of it work."""
    from . import doctor, gpu_report

    gpu = Option("gpu", bool, False, "the GPU instead: what it is, its kernels, its share of the peak")
    o = parse([JSON, gpu], arguments, "doctor", help_of(doctor_command))
    rows = gpu_report.examine() if o.gpu else doctor.examine()
    print_rows(rows, o.json, ("label", "verdict", "measured", "expected"))
    failing = ("broken", "absent") if o.gpu else ("broken",)  # who asks for the GPU needs one
    return 1 if any(row["verdict"] in failing for row in rows) else 0


COMMANDS: dict[str, Callable[[list[str]], int]] = {
    "run": run_command,
    "sweep": sweep_command,
    "results": results_command,
    "methods": methods_command,
    "norms": norms_command,
    "problems": problems_command,
    "surgery": surgery_command,
    "theorems": theorems_command,
    "falsify": falsify_command,
    "claims": claims_command,
    "figures": figures_command,
    "reproduce": reproduce_command,
    "plan": plan_command,
    "doctor": doctor_command,
}


def _overview() -> str:
    lines = [f"orthotheory {__version__}: theorems that run, claims that are judged", ""]
    lines += ["usage: orthotheory COMMAND [options]", ""]
    lines += [f"  {name:<11}{help_of(function)}" for name, function in COMMANDS.items()]
    return "\n".join([*lines, "", "orthotheory COMMAND --help explains a command."])


def _complain(message: object, code: int) -> int:
    print(f"orthotheory: {message}", file=sys.stderr)
    return code


def _print_outcome(outcome: Mapping[str, Any]) -> None:
    steps, seconds = outcome["steps"], outcome["seconds"]
    print(f"{outcome['label']}: {steps} steps in {seconds:.2f} s, stopped by: {outcome['verdict']}")
    for name, (first, last) in outcome["measured"].items():
        print(f"  {name:<16}{first:>12.4g}  ->{last:>12.4g}")
    smoothness = outcome["smoothness"]
    print(f"  smoothness in {smoothness['norm']}: {smoothness['value']:.4g} ({smoothness['kind']})")
    print("\n".join(["  wrote", *(f"    {f}" for f in outcome["files"])]))
