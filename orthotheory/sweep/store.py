"""A folder of parts: each whole or absent, named by its content, and never executed when read.

A part is one Parquet file, `<group>.<sha256 of the file>.parquet`: rows (lr, seed, k, records, reason), and in its
metadata what they came from. It is written beside its name, flushed, and renamed, so that a crash leaves a whole file
or a temporary one; one that does not match its name is damaged and computed again. Equal runs of two sweeps that write
at once are equal rows, and the first part that holds a run serves it.
"""

from __future__ import annotations

import functools
import hashlib
import io
import json
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ..storage import DamagedFile, machine, plain, read_json, writable_folder, write_atomically, write_text
from .config import Group, Sweep
from .execute import Chunk

MANIFEST = "sweep.json"
SCIENCE = ("arrays.py", "convex", "loop.py", "methods", "norms", "polar", "problems", "surgery")  # of the numbers
STALE = 600.0  # seconds after which a temporary file is one that a crash has left: writing a part takes milliseconds
Run = tuple[float | None, int]  # learning rate and seed


class Part(NamedTuple):
    """A part that matches its name: the runs it holds, what it came from, and its table."""

    path: Path
    group: str
    manifest: dict[str, Any]
    table: Any

    @property
    def runs(self) -> set[Run]:
        """The learning rates and seeds it holds."""
        return {(lr, seed) for lr in self.manifest["lrs"] for seed in self.manifest["seeds"]}


class Store:
    """The parts in a folder.

    Attributes
    ----------
    damaged : list of Path
        Files that `parts` found not to match their names; they are deleted, so that their runs are computed again.
    """

    def __init__(self, folder: str | Path):
        self.folder = writable_folder(folder)
        self.damaged: list[Path] = []
        self._sweep_up()

    @property
    def manifest(self) -> Path:
        """The file that says which sweep the folder holds."""
        return self.folder / MANIFEST

    def seal(self, sweep: Sweep, **more: Any) -> None:
        """Write the manifest: configuration, its hash, machine, versions, and what is given."""
        described = {"config": sweep.config(), "hash": sweep.digest, "runs": sweep.runs, "machine": machine()}
        # not sorted: the order of methods is that of the table
        write_text(self.manifest, json.dumps(plain({**described, **more}), indent=2) + "\n")

    def holds(self, sweep: Sweep, *, finished: bool = False) -> bool:
        """Say whether the manifest is that of a sweep, and of all its runs."""
        try:
            content = read_json(self.manifest)
            return content["hash"] == sweep.digest and (not finished or content.get("finished") == sweep.runs)
        except (DamagedFile, KeyError, TypeError):
            return False

    def sweep(self) -> Sweep:
        """Return the sweep of the manifest."""
        content = read_json(self.manifest)
        try:
            return Sweep.from_mapping(content["config"])
        except (KeyError, TypeError) as error:
            raise DamagedFile(f"{self.manifest} holds no sweep ({error}); run the sweep again.") from error

    def parts(self, groups: Iterable[str] | None = None) -> dict[str, list[Part]]:
        """Return the whole parts by group, in the order of their names; damaged ones are deleted and remembered."""
        wanted = None if groups is None else set(groups)
        found: dict[str, list[Part]] = {}
        for path in sorted(self.folder.glob("*.parquet")):
            group = path.name.partition(".")[0]
            if wanted is not None and group not in wanted:
                continue
            try:
                found.setdefault(group, []).append(_read(path, group))
            except FileNotFoundError:  # another sweep has cleared it away
                continue
            except DamagedFile:
                self.damaged.append(path)
                path.unlink(missing_ok=True)
        return found

    def write(self, key: str, group: Group, lrs, seeds, chunk: Chunk, device: str) -> Part:
        """Write a part and return it."""
        import pyarrow
        from pyarrow import parquet

        manifest = {
            "problem": group.problem_config, "method": group.method_config, "lrs": lrs, "seeds": seeds,
            "steps": group.steps, "every": group.every, "record": group.record, "start": group.start,
            "engine": chunk.engine, "device": device, "seconds": chunk.seconds, "machine": machine(), "code": code(),
        }  # fmt: skip
        table = rows(lrs, seeds, chunk)
        arrow = pyarrow.Table.from_pandas(table, preserve_index=False)
        text = json.dumps(plain(manifest), sort_keys=True).encode()
        buffer = io.BytesIO()
        parquet.write_table(arrow.replace_schema_metadata({**(arrow.schema.metadata or {}), b"part": text}), buffer)
        content = buffer.getvalue()
        path = self.folder / f"{key}.{hashlib.sha256(content).hexdigest()[:16]}.parquet"
        write_atomically(path, lambda part: part.write_bytes(content))
        return Part(path, key, json.loads(text), table)

    def _sweep_up(self) -> None:
        for path in self.folder.glob(".*.part"):
            try:
                if time.time() - path.stat().st_mtime > STALE:
                    path.unlink()
            except FileNotFoundError:
                continue


def _read(path: Path, group: str) -> Part:
    import pyarrow
    from pyarrow import parquet

    content = path.read_bytes()
    if path.name != f"{group}.{hashlib.sha256(content).hexdigest()[:16]}.parquet":
        raise DamagedFile(f"{path} does not match its name: it was cut off or changed.")
    arrow = parquet.read_table(pyarrow.BufferReader(content))
    return Part(path, group, json.loads(arrow.schema.metadata[b"part"]), arrow.to_pandas())


def older(found: Mapping[str, list[Part]]) -> int:
    """Return how many parts were computed by other sources than these."""
    return sum(part.manifest.get("code", code()) != code() for parts in found.values() for part in parts)


@functools.cache
def code() -> str:
    """Return a short hash of the sources that the numbers come from."""
    package = Path(__file__).parents[1]
    total = hashlib.sha256()
    for name in SCIENCE:
        whole = package / name
        for path in sorted(whole.rglob("*.py")) if whole.is_dir() else [whole]:
            total.update(path.read_bytes())
    return total.hexdigest()[:16]


def rows(lrs, seeds, chunk: Chunk):
    """Return the table of a chunk: one row per rate, seed and recorded step."""
    import pandas

    rates = np.array([np.nan if lr is None else lr for lr in lrs], dtype=float)
    shape = (len(lrs), len(seeds), len(chunk.k))
    columns: dict[str, Any] = {
        "lr": np.broadcast_to(rates[:, None, None], shape).ravel(),
        "seed": np.broadcast_to(np.asarray(seeds, dtype=np.int64)[:, None], shape).ravel(),
        "k": np.broadcast_to(chunk.k.astype(np.int64), shape).ravel(),
    }
    columns |= {name: np.moveaxis(values, 0, -1).ravel() for name, values in chunk.records.items()}
    reasons = np.broadcast_to(chunk.reasons[..., None], shape).ravel()
    return pandas.DataFrame({**columns, "reason": pandas.Series(reasons, dtype="str")})


def missing(group: Group, parts: Iterable[Part]) -> list[tuple[tuple[float | None, ...], tuple[int, ...]]]:
    """Return the runs of a group that no part holds, as blocks (rates, seeds)."""
    held: set[Run] = set().union(*(part.runs for part in parts))
    by_seeds: dict[tuple[int, ...], list[float | None]] = {}
    for lr in group.lrs:
        if lacking := tuple(seed for seed in group.seeds if (lr, seed) not in held):
            by_seeds.setdefault(lacking, []).append(lr)
    return [(tuple(lrs), seeds) for seeds, lrs in by_seeds.items()]


def describe(folder: str | Path) -> Mapping[str, Any]:
    """Return what the manifest of a folder says: configuration, hash, runs, finished, seconds, machine."""
    return {"folder": str(folder), "finished": None, "seconds": None, **read_json(Path(folder) / MANIFEST)}
