"""What is missing, in chunks that fit the cache, over processes or a Dask cluster, until every run is there."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from ..arrays import backend
from .analyse import Results, assemble
from .config import Group, Sweep
from .execute import Chunk, build_problem, largest_chunk, run_chunk
from .store import Part, Store, missing, older

PATIENCE = 3  # deaths of workers in a row without a finished chunk


class Work(NamedTuple):
    """A chunk to compute."""

    key: str
    group: Group
    lrs: tuple[float | None, ...]
    seeds: tuple[int, ...]

    @property
    def runs(self) -> int:
        """How many runs it holds."""
        return len(self.lrs) * len(self.seeds)


class WorkerDied(RuntimeError):
    """Workers died again and again; the message says on what and what to do."""


def run_sweep(
    sweep: Sweep,
    folder: str | Path | None = None,
    *,
    jobs: int = 1,
    device: str = "cpu",
    scheduler: str | None = None,
    chunk: int | None = None,
    engine: str = "reference",
    watch: Callable[[Work | None, int], None] = lambda work, runs: None,
) -> Results:
    """Run what is missing of a grid and return all of it.

    Parameters
    ----------
    folder : path, optional
        Where parts are kept as they complete; what a whole part holds is never computed again.
    jobs : int
        Processes, one BLAS thread each. With device="cuda" one a GPU.
    scheduler : str, optional
        Address of a Dask scheduler (`tcp://...`) whose workers run the chunks instead; only this process writes.
    chunk : int, optional
        Runs of one batch at most; by default what fits the cache, or half the free memory of a GPU.
    engine : "reference" or "compiled"
        See `run_chunk`.
    watch : function (work, runs)
        Called with None and the number of runs that are there already, then with each finished chunk.

    Notes
    -----
    The numbers depend on neither chunk, jobs, scheduler nor order, to the last bit on one machine. Between devices and
    libraries, whose sums have another order, they differ by at most `steps` rounding units of the first value, unless a
    run itself amplifies rounding: one whose rate is beyond the stable ones, as the default radius of Scion is on small
    problems in float32, or a method that divides by a difference (`m-fac`, `aro-adam`).
    A worker that dies takes its chunk with it, which is run again; one that is out of memory goes on with halves of it.
    An interrupt or a full disk leaves whole parts: the same call goes on.

    >>> grid = Sweep({"quadratic": {"rows": 4, "columns": 3}}, {"gd": {"lr": [0.1, 1.0]}}, steps=3)
    >>> run_sweep(grid).to_pandas().shape
    (8, 7)
    """
    backend(device)  # refuse one that is not there before anything is written
    if jobs < 1 or (chunk is not None and chunk < 1):
        raise ValueError(f"jobs and chunk must be at least 1; got {jobs} and {chunk}.")
    store = None if folder is None else Store(folder)
    began = time.perf_counter()
    if store and not store.holds(sweep):
        store.seal(sweep)
    found = {key: list(parts) for key, parts in (store.parts(_keys(sweep, device, engine)) if store else {}).items()}
    damaged = list(store.damaged) if store else []
    todo = plan(sweep, found, jobs=jobs, device=device, chunk=chunk, engine=engine)
    watch(None, sweep.runs - sum(w.runs for w in todo))
    for work, done in _computed(todo, jobs, device, scheduler, engine):
        part = (
            store.write(work.key, work.group, work.lrs, work.seeds, done, device)
            if store
            else _unwritten(work, done, device)
        )
        found.setdefault(work.key, []).append(part)
        watch(work, work.runs)
    if store and (todo or not store.holds(sweep, finished=True)):
        store.seal(sweep, finished=sweep.runs, seconds=time.perf_counter() - began)
    return Results(sweep, assemble(sweep, found, device, engine), damaged=damaged, older=older(found))


def plan(
    sweep: Sweep, found: dict[str, list[Part]], *, jobs: int = 1, device: str = "cpu", chunk: int | None = None,
    engine: str = "reference",
) -> list[Work]:  # fmt: skip
    """Return the chunks that no part holds."""
    blocks: dict[tuple[str, tuple, tuple], Work] = {}
    for group in sweep.groups():
        key = group.key(device, engine)
        for lrs, seeds in missing(group, found.get(key, [])):
            blocks.setdefault((key, lrs, seeds), Work(key, group, lrs, seeds))  # equal groups under two labels run once
    pieces = max(1, -(-jobs // max(len(blocks), 1)))  # so that no worker is idle
    work: list[Work] = []
    for block in blocks.values():
        size = chunk or min(largest_chunk(build_problem(block.group.problem_config), device), -(-block.runs // pieces))
        work += _cut(block, size)
    return work


def _cut(block: Work, size: int) -> Iterator[Work]:
    """Cut a block into pieces of at most `size` runs, along the rates first."""
    rates = max(1, size // len(block.seeds))
    seeds = min(size, len(block.seeds))
    for i in range(0, len(block.lrs), rates):
        for j in range(0, len(block.seeds), seeds):
            yield block._replace(lrs=block.lrs[i : i + rates], seeds=block.seeds[j : j + seeds])


def _keys(sweep: Sweep, device: str, engine: str) -> set[str]:
    return {group.key(device, engine) for group in sweep.groups()}


def _unwritten(work: Work, chunk: Chunk, device: str) -> Part:
    from .store import rows

    return Part(Path(), work.key, {"lrs": work.lrs, "seeds": work.seeds}, rows(work.lrs, work.seeds, chunk))


def _computed(todo: list[Work], jobs: int, device: str, scheduler: str | None, engine: str) -> Iterator[Any]:
    """Yield (work, chunk) as they complete; chunks of a worker that died are run again."""
    waiting = dict(enumerate(todo))
    deaths = 0
    while waiting:
        before = len(waiting)
        try:
            for i, chunk in _parallel(waiting, jobs, device, scheduler, engine):
                yield waiting.pop(i), chunk
            return
        except _died() as error:
            deaths = 0 if len(waiting) < before else deaths + 1
            if deaths >= PATIENCE:
                first = next(iter(waiting.values()))
                raise WorkerDied(
                    f"Workers died {deaths} times with nothing finished, {len(waiting)} chunks left, the next "
                    f"{first.group.method} on {first.group.problem}. Was there enough memory? Fewer --jobs or a "
                    "smaller --chunk need less; what was finished is kept."
                ) from error


def _parallel(waiting: dict[int, Work], jobs: int, device: str, scheduler: str | None, engine: str) -> Iterator[Any]:
    if scheduler is None and (jobs == 1 or len(waiting) == 1):
        for i, work in list(waiting.items()):
            yield _perform(i, work, device, engine, None)
        return
    from joblib import Parallel, delayed, parallel_config

    devices = _devices(device)
    here = os.getpid()
    tasks = [delayed(_perform)(i, work, devices[n % len(devices)], engine, here)
             for n, (i, work) in enumerate(waiting.items())]  # fmt: skip
    workers = len(devices) if device.startswith("cuda") else jobs
    with contextlib.ExitStack() as stack:
        if scheduler is None:
            stack.enter_context(parallel_config("loky", n_jobs=min(workers, len(tasks)), inner_max_num_threads=1))
        else:
            from distributed import Client

            stack.enter_context(Client(scheduler, set_as_default=False))
            stack.enter_context(parallel_config("dask", scheduler_host=scheduler, n_jobs=-1))
        yield from Parallel(return_as="generator_unordered", batch_size=1)(tasks)


def _perform(i: int, work: Work, device: str, engine: str, parent: int | None) -> tuple[int, Chunk]:
    if parent is not None and os.getpid() != parent:
        with contextlib.suppress(ValueError):  # not the main thread: no signal comes here
            signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, which ends its workers
    g = work.group
    return i, run_chunk(g.problem_config, g.method_config, work.lrs, work.seeds, g.steps, g.every, g.record, g.start,
                        engine=engine, device=device)  # fmt: skip


def _devices(device: str) -> list[str]:
    if device != "cuda":
        return [device]
    import array_api_compat.cupy as xp

    return [f"cuda:{i}" for i in range(len(xp.__array_namespace_info__().devices()))]


def _died() -> tuple[type[BaseException], ...]:
    """Return the errors by which executors say that a worker died; a Dask cluster runs its chunks again by itself."""
    from concurrent.futures import BrokenExecutor

    try:
        from joblib.externals.loky.process_executor import TerminatedWorkerError
    except ImportError:
        return (BrokenExecutor,)
    return (BrokenExecutor, TerminatedWorkerError)
