"""Running chunks of a group: learning rates x seeds are the batch axes, and no number depends on who shares a batch.

Every seed has its own stream of noise, drawn for each of its runs alike (common random numbers over the rates), and
every operation of the core acts on each matrix by itself, so that a chunk of one run gives the bits of a chunk of all.
From 256 KiB on NumPy writes sums into their first term, in the memory order of that, and a later sum over the matrix
then adds in another order: batches stay below.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import json
import math
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from .. import loop, methods, problems
from ..arrays import backend, backend_of, dtype_name, free_memory, generator, release_memory
from ..names import closest
from .config import LOSS
from .starts import starts

CACHE = 2**20  # bytes that the working set of a chunk shall fit
COPIES = 8  # weights, gradient, momentum and temporaries of one run
FEWEST, MOST = 8, 512  # runs of a chunk: fewer leave the time to the interpreter, more leave much to lose
IN_PLACE = 2**18  # bytes of an array from which NumPy reuses temporaries
GPU_SHARE, GPU_MOST = 0.5, 2**16  # of the free memory of a GPU, whose batches hide its latency; and runs at most

FAILURES = (ArithmeticError, ValueError, np.linalg.LinAlgError)


class Chunk(NamedTuple):
    """What a chunk recorded: shape (records, rates, seeds) by name, and why runs ended early ("" where they did not).

    From the step at which a run met a non-finite number its records are NaN.
    """

    k: np.ndarray
    records: dict[str, np.ndarray]
    reasons: np.ndarray
    seconds: float
    engine: str


class Streams(np.random.Generator):
    """A generator for a batch (rates, seeds): each seed draws from its own Philox stream, the rates share the draws."""

    def __init__(self, seeds: Sequence[int], rates: int):
        super().__init__(np.random.Philox(0))
        self._own = [generator(seed) for seed in seeds]
        self._rates = rates

    def standard_normal(self, size=None, *args, **kwargs):  # type: ignore[override]
        return self._stack("standard_normal", size)

    def standard_t(self, df, size=None):  # type: ignore[override]
        return self._stack("standard_t", size, df)

    def integers(self, low, high=None, size=None, **kwargs):  # type: ignore[override]
        return self._stack("integers", size, low, high)

    def _stack(self, name: str, size, *parameters) -> np.ndarray:
        if tuple(size[:2]) != (self._rates, len(self._own)):
            raise ValueError(f"Noise in a sweep is drawn for each run: shape (rates, seeds, ...); got {size}.")
        drawn = np.stack([getattr(rng, name)(*parameters, size=tuple(size[2:])) for rng in self._own])
        return np.broadcast_to(drawn, size)


def run_chunk(
    problem: Mapping[str, Any],
    method: Mapping[str, Any],
    lrs: Sequence[float | None],
    seeds: Sequence[int],
    steps: int,
    every: int,
    record: Sequence[str],
    start: str | list | None = None,
    *,
    engine: str = "reference",
    device: str = "cpu",
) -> Chunk:
    """Run all rates and seeds of one problem and method as one batch.

    Parameters
    ----------
    problem, method : mapping
        `{"name": ..., **options}`; the method without lr, with `surgery` where it has one.
    lrs : sequence of float
        None for a method at its own rate.
    start : str or matrix, optional
        A name of `starts.STARTS`, or numbers (m, n); without it every run begins at the problem's start.
    engine : "reference" or "compiled"
        Compiled trajectories (on a GPU: replayed CUDA graphs) give the same numbers to rounding, not to the last bit,
        hence only where they are asked for; a method or problem that they do not serve is refused with the reason.

    Notes
    -----
    Where the batch raises, its runs go on alone: one loses nothing to another, and one that raises is a reason. Where
    memory runs out, it goes on in halves; a single run that does not fit is a reason.
    """
    with one_blas_thread():
        began = time.perf_counter()
        try:
            k, records, reasons = _halving(problem, method, lrs, seeds, steps, every, record, start, engine, device)
        except NotServed as error:
            raise ValueError(str(error)) from None
        return Chunk(k, records, reasons, time.perf_counter() - began, engine)


def _loop_of(engine: str, problem, method) -> Callable[..., loop.Trace]:
    """Return the loop that an engine stands for; refuses what the compiled one does not serve."""
    closest(engine, dict.fromkeys(("reference", "compiled")), "engine")
    if engine == "reference":
        return loop.run
    from .. import captured, trajectories

    where = trajectories if isinstance(_first_block(problem.start), np.ndarray) else captured  # on a GPU: CUDA graphs
    if reason := where.why_not(problem, method):
        raise NotServed(f"The compiled engine does not serve this: {reason}. Use engine='reference'.")
    return where.run


class NotServed(Exception):
    """The compiled engine was asked for what it does not serve."""


def _halving(problem, method, lrs, seeds, *rest):
    """Run a batch, in halves along its longer axis where it is too large for its bits, or for the memory."""
    steps, every, record, _, engine, device = rest
    runs = len(lrs) * len(seeds)
    if runs == 1 or device != "cpu" or engine != "reference" or runs * _bytes(build_problem(problem)) < IN_PLACE:
        with contextlib.suppress(MemoryError):  # that of CuPy is one
            return _run(problem, method, lrs, seeds, *rest)
        release_memory(device if isinstance(device, str) else "cpu")
        if runs == 1:
            return _nothing(steps, every, record, "MemoryError: one run alone does not fit")
    if (axis := int(len(lrs) < len(seeds))) == 0:
        middle = -(-len(lrs) // 2)
        halves = [(lrs[:middle], seeds), (lrs[middle:], seeds)]
    else:
        middle = -(-len(seeds) // 2)
        halves = [(lrs, seeds[:middle]), (lrs, seeds[middle:])]
    done = [_halving(problem, method, *half, *rest) for half in halves]
    records = {name: np.concatenate([part[1][name] for part in done], axis=axis + 1) for name in record}
    return done[0][0], records, np.concatenate([part[2] for part in done], axis=axis)


def _run(problem, method, lrs, seeds, steps, every, record, start, engine, device):
    built = build_problem(problem, device)
    rates = None if None in lrs else np.asarray(lrs, dtype=dtype_name(_first_block(built.start)))
    batch = (len(lrs), len(seeds))
    try:
        optimizer = build_method(method, rates, built)
        run = _loop_of(engine, built, optimizer)
        trace = run(
            built, optimizer, steps, record={name: _recorder(name) for name in record}, every=every, batch=batch,
            seed=Streams(seeds, len(lrs)), start=None if start is None else starts(built, start, seeds),
        )  # fmt: skip
    except FAILURES as error:
        if len(lrs) * len(seeds) == 1:
            return _nothing(steps, every, record, f"{type(error).__name__}: {error}")
        rows = [[_run(problem, method, [lr], [s], steps, every, record, start, engine, device) for s in seeds]
                for lr in lrs]  # fmt: skip
        records = {n: np.concatenate([np.concatenate([c[1][n] for c in row], 2) for row in rows], 1) for n in record}
        return rows[0][0][0], records, np.block([[c[2] for c in row] for row in rows])
    if trace.stopped_by.startswith("interrupted"):
        raise KeyboardInterrupt
    k = recorded_steps(steps, every)
    lost = trace.non_finite_at
    gone = (lost >= 0) & (k[:, None, None] >= lost)
    records = {}
    for name, values in trace.records.items():
        whole = np.full((len(k), *batch), np.nan)
        whole[: len(values)] = values
        records[name] = np.where(gone, np.nan, whole)
    reasons = np.full(batch, "", dtype=object)
    for index in zip(*np.nonzero(lost >= 0), strict=True):
        reasons[index] = f"non-finite at step {lost[index]}"
    return k, records, reasons


def recorded_steps(steps: int, every: int) -> np.ndarray:
    """Return the steps that are recorded: each `every`, and the last."""
    return np.unique([*range(0, steps + 1, every), steps])


def _nothing(steps, every, record, reason):
    k = recorded_steps(steps, every)
    return k, {n: np.full((len(k), 1, 1), np.nan) for n in record}, np.full((1, 1), reason, dtype=object)


def build_method(method: Mapping[str, Any], rates, problem):
    """Return the method of a configuration, with its rates (R) as an array (R, 1) over the batch, or one rate."""
    hyper = dict(method)
    name, aggregator = hyper.pop("name"), hyper.pop("surgery", None)
    if isinstance(rates, float):
        hyper["lr"] = rates
    elif rates is not None:
        hyper["lr"] = backend_of(_first_block(problem.start)).asarray(np.asarray(rates)[:, None])
    built = methods.make(name, **hyper)
    return methods.Surgery(aggregator, built) if aggregator else built


def build_problem(problem: Mapping[str, Any], device: str = "cpu"):
    """Return the problem of a configuration; minibatches are drawn for each seed."""
    return _built(json.dumps(problem, sort_keys=True), device)


@functools.lru_cache(maxsize=32)
def _built(text: str, device: str):
    options = json.loads(text)
    if device != "cpu":
        options["device"] = backend(device)
    built = problems.make(**options)
    if isinstance(built.noise, problems.Minibatch):
        built.noise = dataclasses.replace(built.noise, independent=True)
    return built


def _first_block(start):
    return start[0] if isinstance(start, tuple) else start


def _recorder(name: str):
    return loss if name == LOSS else closest(name, loop.RECORDERS, "record")


def loss(t) -> np.ndarray:
    """Return value minus the optimal value, where that is known."""
    return t.problem.value(t.w) - (t.problem.optimal_value or 0.0)


def _bytes(problem) -> int:
    """Return the bytes of the weights of one run."""
    blocks = problem.start if isinstance(problem.start, tuple) else (problem.start,)
    return sum(math.prod(b.shape) * (8 if "64" in dtype_name(b) else 4) for b in blocks)


def largest_chunk(problem, device: str = "cpu") -> int:
    """Return how many runs of a problem fit the cache, or half the free memory of a GPU."""
    size, free = _bytes(problem), free_memory(device)
    room, most = (CACHE, MOST) if free is None else (int(GPU_SHARE * free), GPU_MOST)
    return min(max(room // (COPIES * size), FEWEST), most)


@functools.cache
def _controller():
    from threadpoolctl import ThreadpoolController

    return ThreadpoolController()


def one_blas_thread():
    """Return a context with one BLAS thread: matrices are small, and sums then have one order."""
    try:
        return _controller().limit(limits=1)
    except ImportError:
        return contextlib.nullcontext()
