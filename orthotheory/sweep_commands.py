"""The commands `sweep` and `results`: parse, call, print."""

from __future__ import annotations

import dataclasses
import functools
import json
import sys
from pathlib import Path
from typing import Any, Literal

from .options import JSON, Option, parse
from .storage import plain

LONG = 60  # rows up to which the table of best rates is printed whole
BARS = 12  # methods up to which each has a bar of its own


def sweep_command(arguments: list[str]) -> int:
    """Run a grid of methods, hyper-parameters, seeds and problems; what is finished is kept and never run again."""
    from .sweep import Store, Sweep, plan, run_sweep
    from .sweep.config import change

    options = [
        Option("file", tuple[str, ...], (), "a TOML file such as figures/sweeps/example.toml", positional=True),
        Option("set", tuple[str, ...], (), "changes in TOML, such as methods.muon.lr=[0.01,0.02] steps=50"),
        Option("dry_run", bool, False, "only count: runs, parts, and what they will cost"),
        Option("resume", bool, False, "go on with the sweep in --out; needs no file"),
        Option("jobs", int, 2, "processes, one BLAS thread each"),
        Option("device", str, "cpu", "cpu, or cuda: one worker a GPU"),
        Option("scheduler", str | None, None, "address of a Dask scheduler, tcp://..., whose workers run the chunks"),
        Option("chunk", int | None, None, "runs in one batch at most; what fits the cache without"),
        Option("engine", Literal["reference", "compiled"], "reference", "how trajectories are computed"),
        Option("out", Path | None, None, "folder of the results; runs/NAME without"),
        JSON,
    ]
    o = parse(options, arguments, "sweep", (sweep_command.__doc__ or "").strip())
    if len(o.file) > 1:
        raise ValueError(f"sweep takes one file; got {', '.join(o.file)}.")
    if o.resume and o.out is None and not o.file:
        raise ValueError("Say which sweep to resume: --resume --out FOLDER, or its file.")
    folder = o.out or Path("runs") / (Path(o.file[0]).stem if o.file else "sweep")
    if o.resume and not (folder / "sweep.json").is_file():
        raise ValueError(
            f"There is nothing to resume in {folder}: it holds no sweep.json. Leave --resume out to start."
        )
    if o.file:
        sweep = Sweep.read(o.file[0], o.set)
    elif o.resume:
        sweep = Sweep.from_mapping(change(Store(folder).sweep().config(), o.set))
    else:
        sweep = Sweep.from_mapping(change({}, o.set))
    if o.dry_run:
        found = Store(folder).parts() if folder.is_dir() else {}
        return _forecast(sweep, plan(sweep, found, jobs=o.jobs, device=o.device, chunk=o.chunk, engine=o.engine), o)
    watch = _Bars(sweep, sys.stderr.isatty() and not o.json)
    try:
        results = run_sweep(sweep, folder, jobs=o.jobs, device=o.device, scheduler=o.scheduler, chunk=o.chunk,
                            engine=o.engine, watch=watch)  # fmt: skip
    except (KeyboardInterrupt, OSError) as stop:
        watch.close()
        why = "interrupted" if isinstance(stop, KeyboardInterrupt) else str(stop)
        print(f"orthotheory: {why}; {_kept(sweep, folder, o, watch.done)} of {sweep.runs} runs are kept. Go on with:\n"
              f"  orthotheory sweep --resume --out {folder}", file=sys.stderr)  # fmt: skip
        return 130 if isinstance(stop, KeyboardInterrupt) else 1
    watch.close()
    for path in results.damaged:
        print(f"orthotheory: {path.name} was damaged; its runs were computed again", file=sys.stderr)
    _report(results, folder, o.json)
    return 0


def results_command(arguments: list[str]) -> int:
    """List the sweeps below runs/, or show, plot or export the one in a folder."""
    from .sweep import Results
    from .sweep.store import describe

    options = [
        Option("folder", tuple[Path, ...], (), "folder of a sweep; none lists those below runs/", positional=True),
        Option("export", Literal["csv", "netcdf"] | None, None, "write the table next to the parts"),
        Option("plot", bool, False, "draw the last value against the learning rate, and the best runs"),
        Option("column", str | None, None, "the record to judge by; the first without"),
        Option("engine", Literal["reference", "compiled"], "reference", "the engine that the sweep was run with"),
        Option("device", str, "cpu", "the device that the sweep was run on"),
        JSON,
    ]
    o = parse(options, arguments, "results", (results_command.__doc__ or "").strip())
    if not o.folder:
        rows = [describe(path.parent) for path in sorted(Path("runs").glob("**/sweep.json"))]
        lines = [f"{r['folder']}: {r['finished'] or 'not all'} of {r['runs']} runs, hash {r['hash']}" for r in rows]
        _print_json(rows) if o.json else print("\n".join(lines) or "No sweeps below runs/.")
        return 0
    for folder in o.folder:
        if not (folder / "sweep.json").is_file():
            raise ValueError(f"There is no sweep in {folder}. `orthotheory results` alone lists those below runs/.")
        results = Results.read(folder, device=o.device, engine=o.engine)
        for path in results.damaged:
            print(f"orthotheory: {path.name} was damaged; run the sweep again with --resume", file=sys.stderr)
        if o.export:
            print(f"wrote {results.export(folder / ('results.csv' if o.export == 'csv' else 'results.nc'))}")
        if o.plot:
            for path in _plot(results, folder, o.column):
                print(f"wrote {path}")
        _report(results, folder, o.json, o.column)
    return 0


def _plot(results, folder: Path, column: str | None):
    """Draw lines where there are few methods, a map of distances to the best where there are many."""
    from .plotting import save_figure
    from .plotting.sweep import FEW, draw_lines, draw_map, figure_size

    column = column or results.sweep.record[0]
    best, at_best = results.best_rates(column), results.at_best_rates(column)
    draw: Any
    if best["method"].nunique() <= FEW:
        draw = functools.partial(draw_lines, results.final(column), at_best.summary(column), column)
    else:
        first = at_best.table.query("k == 0").groupby(["problem", "method"])[column].median().rename("first")
        best = best.join(first, on=["problem", "method"])
        targets = len(results.sweep.targets) == len(results.sweep.problems)
        if targets:
            steps = at_best.time_to_target(column=column).groupby(["problem", "method"])["steps"].median()
            best = best.join(steps, on=["problem", "method"])
        draw = functools.partial(draw_map, best, targets)
    return save_figure(draw, folder / "sweep", figure_size(best))


def _kept(sweep, folder: Path, o, told: int) -> int:
    """Count the runs that are kept: the last part may have been written and not yet told."""
    from .sweep import Store, plan

    try:
        todo = plan(sweep, Store(folder).parts(), device=o.device, engine=o.engine)
    except OSError:  # a disk without room for the list of them
        return told
    return sweep.runs - sum(work.runs for work in todo)


class _Bars:
    """A bar for the whole sweep, with the time left, and one a method; silent where nobody watches."""

    def __init__(self, sweep, wanted: bool):
        self.done = 0
        self._bars: dict[str | None, Any] = {}
        if wanted:
            from tqdm import tqdm

            counts: dict[str, int] = {}
            for g in sweep.groups():
                counts[g.method] = counts.get(g.method, 0) + len(g.lrs) * len(g.seeds)
            self._bars[None] = tqdm(total=sweep.runs, desc="sweep", unit="run", dynamic_ncols=True)
            if len(counts) <= BARS:
                self._bars |= {m: tqdm(total=n, desc=m, unit="run", leave=False) for m, n in counts.items()}

    def __call__(self, work, runs: int) -> None:
        self.done += runs
        for name in (None, work.group.method) if work else (None,):
            if name in self._bars:
                self._bars[name].update(runs)

    def close(self) -> None:
        for bar in self._bars.values():
            bar.close()


def _forecast(sweep, todo, o) -> int:
    """Print how many runs and parts there are to do, and what they will cost."""
    from .sweep import forecast

    cost = forecast(todo, jobs=o.jobs, device=o.device, engine=o.engine)
    if o.json:
        _print_json({**dataclasses.asdict(cost), "runs": sweep.runs, "missing": cost.runs})
        return 0
    print(f"{sweep.runs} runs, {cost.runs} of them missing, in {cost.parts} parts")
    if cost.runs:
        share = 100 * cost.products / max(cost.operations, 1.0)
        print(f"about {cost.operations:.2g} floating-point operations, {share:.0f}% of them in matrix products")
        if cost.uncounted:
            print(f"(without {cost.uncounted} runs of methods whose operations cannot be counted)")
        print(f"about {_duration(cost.seconds)} with {o.jobs} jobs, by {cost.probes} short runs on this machine")
    return 0


def _duration(seconds: float) -> str:
    for size, unit in ((3600.0, "h"), (60.0, "min")):
        if seconds >= 2 * size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.1f} s"


def _report(results, folder: Path, as_json: bool, column: str | None = None) -> None:
    best = results.best_rates(column)
    if as_json:
        _print_json({"folder": str(folder), "runs": results.sweep.runs, "best": best.to_dict("records"),
                     "lost": results.diverged().to_dict("records"),
                     "damaged": [p.name for p in results.damaged]})  # fmt: skip
        return
    shown = best
    if len(best) > LONG:  # the whole is a picture or an export
        print("The three best methods on each problem; all of them with --json, --plot or --export:")
        leading = best.sort_values("final", kind="stable").groupby("problem", sort=False).head(3).index
        shown = best.loc[sorted(leading)]
    print(shown.to_string(index=False, float_format=lambda x: f"{x:.3g}"))
    if best["at edge"].any():
        print("at edge: the best rate is the smallest or largest of its grid; widen the grid there.")
    if results.older:
        print(f"{results.older} parts are of an older state of the package; a new folder has all runs of one.")
    for problem in _indifferent(results, column):
        print(f"{problem}: every seed gave the same run; give it noise or start, or one seed.")
    print(f"{results.sweep.runs} runs in {folder}")


def _indifferent(results, column: str | None) -> list[str]:
    """Return the problems on which no run depends on its seed, where there are several seeds."""
    if len(results.sweep.groups()[0].seeds) < 2:
        return []
    kinds = results.final(column).groupby(["problem", "method", "lr"], dropna=False)["final"].nunique()
    most = kinds.groupby("problem", sort=False).max()
    return [str(problem) for problem in most.index[most < 2]]


def _print_json(content: Any) -> None:
    print(json.dumps(plain(content), indent=2))
