"""Grids of runs: learning rates and seeds are batch axes, one batched run a method, one tidy table."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from . import methods, problems
from .arrays import backend_of, dtype_name
from .loop import run
from .storage import DamagedFile, digest, plain, read_table, write_table


@dataclass(frozen=True)
class Sweep:
    """A grid: one problem, several methods with their learning rates, a number of seeds.

    Parameters
    ----------
    problem : mapping
        `{"name": ..., **options}` for `problems.make`.
    methods : mapping
        From a display name to `{"name": ..., "lr": [...], **hyper}` for `methods.make`.
    steps, every : int
    seeds : int
        Noise seeds 0, 1, ...; one for a deterministic problem.
    record : tuple of str
        Scalar recorders.
    """

    problem: Mapping[str, Any]
    methods: Mapping[str, Mapping[str, Any]]
    steps: int = 100
    every: int = 1
    seeds: int = 1
    record: tuple[str, ...] = ("value", "gap", "gradient_norm")

    def parts(self) -> dict[str, dict[str, Any]]:
        """Return the configuration of each batched run by display name."""
        shared = {"problem": self.problem, "steps": self.steps, "every": self.every, "seeds": self.seeds}
        return {label: {**shared, "record": self.record, "method": m} for label, m in self.methods.items()}


def run_sweep(sweep: Sweep, folder: Path | None = None, *, jobs: int = 1, progress: bool = False):
    """Run a grid and return a table with columns method, lr, seed, k and one per recorder.

    With a folder every finished part is written there (Parquet and manifest, atomically) and is never computed
    again; a damaged part is computed anew. `jobs` parts run at a time in processes.
    """
    import pandas
    from joblib import Parallel, delayed

    parts = sweep.parts()
    tasks = (delayed(_part)(label, config, folder) for label, config in parts.items())
    finished = Parallel(n_jobs=min(jobs, max(len(parts), 1)), return_as="generator")(tasks)
    if progress:
        from tqdm import tqdm

        finished = tqdm(finished, total=len(parts), desc="sweep", unit="method")
    return pandas.concat(list(finished), ignore_index=True)


def best_rates(table, column: str = "gap"):
    """Return per method the learning rate with the smallest median final value, and whether it is at the grid's edge.

    Non-finite runs count as infinitely bad.
    """
    import pandas

    last = table[table["k"] == table["k"].max()].copy()
    last[column] = last[column].where(np.isfinite(last[column]), np.inf)
    rows = []
    for label, group in last.groupby("method", sort=False):
        medians = group.groupby("lr")[column].median()
        lr = float(medians.idxmin())
        edge = len(medians) > 1 and lr in (medians.index.min(), medians.index.max())
        rows.append({"method": label, "lr": lr, column: float(medians.min()), "at_edge": bool(edge)})
    return pandas.DataFrame(rows)


def _part(label: str, config: Mapping[str, Any], folder: Path | None):
    path = None if folder is None else Path(folder) / f"{digest(config)}.parquet"
    if path is not None and path.exists():
        try:
            return read_table(path)[0].assign(method=label)
        except DamagedFile:
            path.unlink()
    table = _run_part(config).assign(method=label)
    if path is not None:
        write_table(path, table, {"config": plain(config)})
    return table


def _run_part(config: Mapping[str, Any]):
    import pandas

    problem = problems.make(**config["problem"])
    hyper = dict(config["method"])
    rates = np.atleast_1d(np.asarray(hyper.pop("lr"), dtype=dtype_name(problem.start)))
    lr = backend_of(problem.start).asarray(rates[:, None])
    method = methods.make(**hyper, lr=lr)
    batch = (len(rates), config["seeds"])
    trace = run(problem, method, config["steps"], record=config["record"], every=config["every"], batch=batch)
    k, rate, seed = np.meshgrid(trace.k, rates, np.arange(config["seeds"]), indexing="ij")
    columns = {"lr": rate.ravel(), "seed": seed.ravel(), "k": k.ravel()}
    return pandas.DataFrame({**columns, **{name: values.ravel() for name, values in trace.records.items()}})
