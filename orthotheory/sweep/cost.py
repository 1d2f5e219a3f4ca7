"""What a sweep will cost before it runs: operations by counting, seconds by a short calibration on this machine."""

from __future__ import annotations

import json
import os
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from .. import counting, loop
from ..arrays import generator, to_host
from ..methods import lift
from .execute import FAILURES, build_method, build_problem, run_chunk
from .scheduler import Work
from .store import Store

BUDGET = 4.0  # seconds that the calibration may take
FEW, MORE = 2, 12  # steps of its two runs: their difference is the cost of steps, the rest that of a chunk
COUNTED = 10  # steps over which operations are counted: some methods refresh their state every tenth


@dataclass(frozen=True)
class Forecast:
    """What is missing and what it will cost.

    Attributes
    ----------
    runs, parts : int
        Runs that are missing, and the parts in which they are computed.
    operations, products : float
        Floating-point operations of all gradients and steps, and those of matrix products among them; entries that are
        recorded are left out.
    uncounted : int
        Runs of methods that cannot be counted, whose operations are left out.
    seconds : float
        On this machine with the given jobs, without the start of processes.
    probes : int
        Chunks that were run for a few steps to calibrate it; the others follow by a factor of the method times a factor
        of the problem.
    """

    runs: int
    parts: int
    operations: float
    products: float
    uncounted: int
    seconds: float
    probes: int


def forecast(todo: Sequence[Work], *, jobs: int = 1, engine: str = "reference", device: str = "cpu") -> Forecast:
    """Return what chunks will cost; `scheduler.plan` gives them."""
    operations = products = 0.0
    uncounted = 0
    counts: dict[str, Any] = {}
    for work in todo:
        found = count_step(work, counts)
        if found is None:
            uncounted += work.runs
        else:
            operations += found[0] * work.runs * work.group.steps
            products += found[1] * work.runs * work.group.steps
    seconds, probes = _seconds(todo, engine, device)
    workers = max(1, min(jobs, os.cpu_count() or 1, len(todo)))
    return Forecast(sum(w.runs for w in todo), len(todo), operations, products, uncounted, seconds / workers, probes)


def count_step(work: Work, known: dict[str, Any]) -> tuple[float, float] | None:
    """Return the mean operations of one run's gradient and step, and its products; None where they cannot be counted.

    `known` keeps what was counted: steps by method and shape, gradients by problem.
    """
    group = work.group
    problem = build_problem(group.problem_config)
    rate = None if work.lrs[0] is None else min(x for x in work.lrs if x is not None)
    blocks = problem.start if isinstance(problem.start, tuple) else (problem.start,)
    key = json.dumps(
        [group.method_config, [b.shape for b in blocks], getattr(problem, "objectives", 1)], sort_keys=True
    )
    whose = json.dumps(group.problem_config, sort_keys=True)
    try:
        if whose not in known or key not in known:
            method = build_method(group.method_config, rate, problem)
            first = tuple(np.array(to_host(b))[None].view(counting.CountingArray) for b in blocks)
            w = first if isinstance(problem.start, tuple) else first[0]
            method = lift(method, len(first)) if isinstance(w, tuple) else method
            exact, noisy = loop._oracles(problem, method)
            counting.reset()
            grad = exact(w) if problem.noise is None else noisy(w, generator(0))
            known[whose] = _counted(1)
            if key not in known:
                known[key] = _count_steps(method, w, grad)
        gradient, step = known[whose], known[key]
    except (*FAILURES, TypeError, AttributeError):
        gradient = known.setdefault(whose, None)
        step = known.setdefault(key, None)
    return None if step is None or gradient is None else (gradient[0] + step[0], gradient[1] + step[1])


def _count_steps(method, w, grad) -> tuple[float, float]:
    rng = generator(0)
    state = method.init(w)
    counting.reset()
    for _ in range(COUNTED):
        blocks = grad if isinstance(grad, tuple) else (grad,)
        drawn = tuple(rng.standard_normal(b.shape).astype(b.dtype).view(counting.CountingArray) for b in blocks)
        w, state = method.step(w, drawn if isinstance(grad, tuple) else drawn[0], state)
    return _counted(COUNTED)


def _counted(steps: int) -> tuple[float, float]:
    return counting.CountingArray.operations / steps, counting.CountingArray.products / steps


def _seconds(todo: Sequence[Work], engine: str, device: str) -> tuple[float, int]:
    """Return the seconds of all chunks on one worker, and how many were probed."""
    if not todo:
        return 0.0, 0
    order = generator(0).permutation(len(todo))
    for work in todo:
        build_problem(work.group.problem_config, device)  # once a process
    probe(todo[order[0]], FEW, engine, device)  # imports and first calls
    began, found = time.perf_counter(), []
    for i in order:
        work = todo[i]
        few, more = min(work.group.steps, FEW), min(work.group.steps, MORE)
        short, _ = probe(work, few, engine, device)
        long = probe(work, more, engine, device)[0] if more > few else short
        step = max(long - short, 0.05 * long) / (more - few) if more > few else short / max(few, 1)
        found.append((work, step, max(short - few * step, 0.0)))
        if time.perf_counter() - began > BUDGET:
            break
    fixed = float(np.mean([f for _, _, f in found])) + _writing(todo[order[0]], engine, device)
    steps = np.exp(_log_additive([(w.group.method, w.group.problem) for w, _, _ in found],
                                 np.log([max(s, 1e-9) for _, s, _ in found]),
                                 [(w.group.method, w.group.problem) for w in todo]))  # fmt: skip
    return float(sum(w.group.steps * s + fixed for w, s in zip(todo, steps, strict=True))), len(found)


def probe(work: Work, steps: int, engine: str, device: str):
    """Run a chunk for a few steps; return its seconds and what it gave."""
    g = work.group
    began = time.perf_counter()
    chunk = run_chunk(g.problem_config, g.method_config, work.lrs, work.seeds, steps, g.every, g.record, g.start,
                      engine=engine, device=device)  # fmt: skip
    return time.perf_counter() - began, chunk


def _writing(work: Work, engine: str, device: str) -> float:
    """Return the seconds that one part takes to be written and flushed."""
    chunk = probe(work, min(work.group.steps, MORE), engine, device)[1]
    with tempfile.TemporaryDirectory() as folder:
        store = Store(folder)
        store.write("warm", work.group, work.lrs, work.seeds, chunk, device)  # loads pyarrow
        began = time.perf_counter()
        store.write("timed", work.group, work.lrs, work.seeds, chunk, device)
        return time.perf_counter() - began


def _log_additive(seen: list[tuple[str, str]], logs: np.ndarray, wanted: list[tuple[str, str]]) -> np.ndarray:
    """Fit log seconds = mean + method + problem by least squares and evaluate it; the mean for what was not seen."""
    names = {key: i for i, key in enumerate({(side, pair[side]): None for pair in [*seen, *wanted] for side in (0, 1)})}

    def design(pairs):
        rows = np.zeros((len(pairs), len(names)))
        for row, pair in zip(rows, pairs, strict=True):
            row[[names[side, pair[side]] for side in (0, 1)]] = 1.0
        return rows

    mean = float(np.mean(logs))
    effects = np.linalg.lstsq(design(seen), logs - mean, rcond=None)[0]
    return mean + design(wanted) @ effects
