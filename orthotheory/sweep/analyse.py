"""From rows to answers: best rates, intervals over seeds, time to a target, and the runs that were lost."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ..loop import Trace
from .config import Group, Sweep

RUN = ["problem", "method", "lr", "seed"]


@dataclass(frozen=True)
class Results:
    """The table of a sweep: one row per run and recorded step.

    Attributes
    ----------
    table : pandas.DataFrame
        problem, method, the hyper-parameters that vary, lr, seed, k, one column a recorder, and `reason`, the same in
        all rows of a run: why it ended early, "" where it did not. After that step its records are NaN.
    damaged : list of Path
        Parts that were found damaged and computed again.
    older : int
        Parts that were computed by other sources of the package than these, before a method, say, was changed.
    """

    sweep: Sweep
    table: Any
    damaged: list[Path] = field(default_factory=list)
    older: int = 0

    @classmethod
    def read(cls, folder: str | Path, *, device: str = "cpu", engine: str = "reference") -> Results:
        """Read the finished runs of the sweep in a folder; a damaged part is left out and named in `damaged`."""
        from .store import Store, older

        store = Store(folder)
        sweep = store.sweep()
        found = store.parts({group.key(device, engine) for group in sweep.groups()})
        return cls(sweep, assemble(sweep, found, device, engine), damaged=store.damaged, older=older(found))

    def to_pandas(self):
        """Return a copy of the table."""
        return self.table.copy()

    def to_xarray(self):
        """Return a Dataset over (problem, method, lr, seed, k), NaN where a grid has no point."""
        import xarray

        names = [*self.sweep.record, "reason"]
        frame = self.table.drop_duplicates([*RUN, "k"]).set_index([*RUN, "k"])[names]
        data = xarray.Dataset.from_dataframe(frame)
        data["reason"] = data["reason"].fillna("").astype(str).max("k") if len(frame) else data["reason"]
        data.attrs["hash"] = self.sweep.digest
        return data

    def trace(self, problem: str, method: str, *, lr: float | None = None, seed: int | None = None):
        """Return one run as a `loop.Trace`, as theorems take it; name `lr` and `seed` where there are several.

        Raises ValueError where the labels, rate and seed name no run, or several.
        """
        from .execute import build_method, build_problem

        rows = self.table[(self.table["problem"] == problem) & (self.table["method"] == method)]
        if lr is not None:
            rows = rows[rows["lr"] == lr]
        if seed is not None:
            rows = rows[rows["seed"] == seed]
        if len(found := rows[["lr", "seed"]].drop_duplicates()) != 1:
            raise ValueError(
                f"{method} on {problem} with lr={lr} and seed={seed} names {len(found)} runs; name one "
                f"of the problems {', '.join(self.sweep.problems)}, a method, and where there are several lr and seed."
            )
        group = next(g for g in self.sweep.groups() if (g.problem, g.method) == (problem, method))
        built, rate = build_problem(group.problem_config), float(found["lr"].iloc[0])
        reason = str(rows["reason"].iloc[0])
        lost = int(reason.rsplit(" ", 1)[1]) if reason.startswith("non-finite at step ") else -1
        kept = rows[rows["k"] < lost] if lost >= 0 else rows
        optimizer = build_method(group.method_config, None if np.isnan(rate) else rate, built)
        records = {name: kept[name].to_numpy() for name in self.sweep.record}
        return Trace(built, optimizer, kept["k"].to_numpy(), records, reason or "steps", np.array(lost), 0.0,
                     {"sweep": self.sweep.digest})  # fmt: skip

    def final(self, column: str | None = None):
        """Return one row a run: its last value of a column (infinite where lost) and its reason."""
        column = column or self.sweep.record[0]
        last = self.table.loc[self.table.groupby(["problem", "method"])["k"].transform("max") == self.table["k"]]
        last = last[[*RUN, column, "reason"]].rename(columns={column: "final"}).reset_index(drop=True)
        last["final"] = last["final"].where(np.isfinite(last["final"]), np.inf)
        return last

    def best_rates(self, column: str | None = None):
        """Return per problem and method the rate with the smallest median of the last value over the seeds.

        Lost runs count as infinite; `at edge` says that the grid ends there and should be wider, `lost` how many runs
        of all rates were lost. `low` and `high` are the bootstrap interval of the median.
        """
        import pandas

        rows = []
        for (problem, method), group in self.final(column).groupby(["problem", "method"], sort=False):
            by_rate = group.groupby("lr", dropna=False)["final"]
            medians = by_rate.median()
            lr = medians.idxmin() if medians.index.notna().all() else np.nan
            values = group.loc[group["lr"] == lr, "final"] if np.isfinite(lr) else group["final"]
            low, high = median_interval(values.to_numpy())
            rows.append({
                "problem": problem, "method": method, "lr": float(lr), "final": float(np.median(values)), "low": low,
                "high": high, "at edge": bool(len(medians) > 1 and lr in (medians.index.min(), medians.index.max())),
                "lost": int((group["reason"] != "").sum()), "runs": len(group),
            })  # fmt: skip
        return pandas.DataFrame(rows)

    def at_best_rates(self, column: str | None = None) -> Results:
        """Return the runs at the best rate of each problem and method; all of a method that has its own rate."""
        best = self.best_rates(column)[["problem", "method", "lr"]].rename(columns={"lr": "best"})
        merged = self.table.merge(best, on=["problem", "method"], how="left")
        kept = (merged["lr"] == merged["best"]) | merged["lr"].isna()
        return dataclasses.replace(self, table=merged[kept].drop(columns="best").reset_index(drop=True))

    def summary(self, column: str | None = None, *, level: float = 0.95):
        """Return per problem, method, rate and step the median over seeds with its bootstrap interval."""
        import pandas

        column = column or self.sweep.record[0]
        rows = []
        keys = ["problem", "method", "lr", "k"]
        for key, group in self.table.groupby(keys, sort=False, dropna=False):
            values = group[column].fillna(np.inf).to_numpy()
            low, high = median_interval(values, level=level)
            rows.append(
                dict(zip(keys, key, strict=True)) | {"median": float(np.median(values)), "low": low, "high": high}
            )
        return pandas.DataFrame(rows)

    def time_to_target(self, target: float | None = None, column: str | None = None):
        """Return one row a run: the first recorded step from which a column stays at or below the target.

        The target is in units of the first value; by default that of each problem. Infinite where a run has none.
        """
        import pandas

        column = column or self.sweep.record[0]
        rows = []
        for key, group in self.table.groupby(RUN, sort=False, dropna=False):
            level = self.sweep.targets.get(str(key[0])) if target is None else target
            if level is None:
                raise ValueError(f"The problem {key[0]} has no target; pass one, or state target = ... in the sweep.")
            group = group.sort_values("k")
            values = group[column].to_numpy()
            steps = steps_to(values / values[0], level, group["k"].to_numpy())
            rows.append({**dict(zip(RUN, key, strict=True)), "steps": float(steps), "reason": group["reason"].iloc[0]})
        return pandas.DataFrame(rows)

    def diverged(self):
        """Return one row for each run that was lost, with its reason."""
        return self.final().query("reason != ''").drop(columns="final").reset_index(drop=True)

    def export(self, path: str | Path) -> Path:
        """Write the table as .csv, .nc (NetCDF) or .parquet, by the ending of the name."""
        from ..storage import write_atomically

        path = Path(path)
        writers = {
            ".csv": lambda part: self.table.to_csv(part, index=False),
            ".nc": lambda part: self.to_xarray().to_netcdf(part, engine="scipy"),
            ".parquet": lambda part: self.table.to_parquet(part, index=False),
        }
        if path.suffix not in writers:
            raise ValueError(f"Export writes {', '.join(writers)}; got {path.name}.")
        write_atomically(path, writers[path.suffix])
        return path


def steps_to(relative: np.ndarray, level: float, k: np.ndarray) -> np.ndarray:
    """Return the first recorded step from which a run stays at or below a level, infinite where there is none.

    relative : array (records, *batch); NaN is above every level.
    """
    above = ~(relative <= level)
    after = np.where(above.any(axis=0), len(above) - np.argmax(above[::-1], axis=0), 0)  # first record of the last stay
    return np.where(after < len(above), k[np.minimum(after, len(k) - 1)].astype(float), np.inf)


def median_interval(values: np.ndarray, *, level: float = 0.95, draws: int = 1000) -> tuple[float, float]:
    """Return the percentile bootstrap interval of a median, from a fixed seed; (x, x) for one value."""
    if len(values) == 1 or (values == values[0]).all():
        return float(values[0]), float(values[0])
    rng = np.random.Generator(np.random.Philox(0))
    medians = np.sort(np.median(np.sort(values)[rng.integers(len(values), size=(draws, len(values)))], axis=1))
    tail = (1 - level) / 2 * (draws - 1)
    return float(medians[int(np.floor(tail))]), float(medians[int(np.ceil(draws - 1 - tail))])


def assemble(sweep: Sweep, found: Mapping[str, list[Any]], device: str, engine: str):
    """Return the table of a sweep from its parts: each run once, in the order of the grid."""
    import pandas

    varied = list(dict.fromkeys(name for g in sweep.groups() for name in g.varied))
    tables = []
    for group in sweep.groups():
        if (whole := _of_group(group, found.get(group.key(device, engine), []))) is not None:
            labels = {"problem": group.problem, "method": group.method, **{v: group.varied.get(v) for v in varied}}
            for i, (name, value) in enumerate(labels.items()):
                whole.insert(i, name, value)
            tables.append(whole)
    columns = ["problem", "method", *varied, "lr", "seed", "k", *sweep.record, "reason"]
    if not tables:
        return pandas.DataFrame(columns=columns)
    return pandas.concat(tables, ignore_index=True)[columns]


def _of_group(group: Group, parts: list[Any]):
    import pandas

    taken: set = set()
    pieces = []
    for part in parts:
        wanted = {(lr, s) for lr, s in part.runs if lr in group.lrs and s in group.seeds} - taken
        if not wanted:
            continue
        taken |= wanted
        table = part.table
        if len(wanted) < len(part.runs):
            rates = [None if np.isnan(lr) else lr for lr in table["lr"]]
            table = table[[run in wanted for run in zip(rates, table["seed"], strict=True)]]
        pieces.append(table)
    if not pieces:
        return None
    whole = pandas.concat(pieces, ignore_index=True)
    rank = {lr: i for i, lr in enumerate(group.lrs)}
    whole["_lr"] = [rank[None if np.isnan(lr) else lr] for lr in whole["lr"]]
    whole["_seed"] = whole["seed"].map({s: i for i, s in enumerate(group.seeds)})
    return whole.sort_values(["_lr", "_seed", "k"], kind="stable").drop(columns=["_lr", "_seed"]).reset_index(drop=True)
