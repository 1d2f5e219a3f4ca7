"""Racing contestants fairly: one process each, fired in rotation, accuracy beside every time.

A contestant is a script that calls `serve`; the coordinator starts all of a race, waits until each has built, compiled
and checked itself, then fires them one at a time. Separate processes because the thread pools of two BLAS libraries in
one process disturb each other; a pause before each because workers of a pool spin for a while after a call.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

# Set on some machines for the sake of old OpenBLAS builds; they slow a current one down.
UNSET = ("OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE")


@dataclass(frozen=True)
class Contestant:
    """A command that serves, under a name."""

    name: str
    command: tuple[str, ...]


def race(
    contestants: Sequence[Contestant], *, threads: int, rounds: int = 7, calls: int = 2, pause: float = 0.1
) -> dict[str, dict[str, Any]]:
    """Time contestants in rotation; each answers an untimed call and `calls` timed ones a round.

    Returns, by name, what the contestant reported about itself, and the median with quartiles in milliseconds.
    """
    environment = {key: value for key, value in os.environ.items() if key not in UNSET}
    for library in ("OPENBLAS", "OMP", "MKL"):
        environment[f"{library}_NUM_THREADS"] = str(threads)
    environment["XLA_FLAGS"] = f"--xla_cpu_multi_thread_eigen={'true' if threads > 1 else 'false'}"
    workers: dict[str, subprocess.Popen] = {}
    try:
        reports, seconds = {}, {}
        for contestant in contestants:  # one after the other: each checks itself with the whole machine
            worker = subprocess.Popen(
                contestant.command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
            )
            workers[contestant.name] = worker
            reports[contestant.name] = _answer(worker, contestant.name)
            seconds[contestant.name] = []
        for _ in range(rounds):
            for name, worker in workers.items():
                wait_for_quiet(pause)
                worker.stdin.write(f"{calls}\n")
                worker.stdin.flush()
                seconds[name] += _answer(worker, name)["seconds"]
    finally:
        for worker in workers.values():
            worker.stdin.close()
            worker.wait(timeout=30)
    return {name: {**reports[name], **summary(seconds[name])} for name in workers}


def wait_for_quiet(pause: float, *, busy: float = 0.1, patience: float = 1.5) -> None:
    """Pause, and go on pausing while other processes use more than a tenth of the machine, up to `patience` seconds.

    Spinning pool threads count as busy, so this also waits until the last contestant's workers are parked. Where
    there is no /proc/stat it is one pause.
    """
    began = time.monotonic()
    while True:
        before = _ticks()
        time.sleep(pause)
        after = _ticks()
        total = after[1] - before[1]
        used = 1 - (after[0] - before[0]) / total if total else 0.0
        if used <= busy or time.monotonic() - began > patience:
            return


def _ticks() -> tuple[int, int]:
    """Return (idle, all) processor ticks so far; equal growth of both where the system does not tell."""
    try:
        with open("/proc/stat") as file:
            ticks = [int(x) for x in file.readline().split()[1:9]]
    except OSError:
        return (0, 0)
    return ticks[3] + ticks[4], sum(ticks)


def _answer(worker: subprocess.Popen, name: str) -> dict[str, Any]:
    line = worker.stdout.readline()
    if not line:
        raise RuntimeError(f"{name} ended before it answered; its messages are above.")
    return json.loads(line)


def summary(seconds: Sequence[float]) -> dict[str, Any]:
    """Return the median and the quartiles in milliseconds."""
    low, middle, high = (1e3 * q for q in statistics.quantiles(seconds, n=4))
    return {"milliseconds": middle, "quartiles": [low, high], "calls": len(seconds)}


def by_clock(call: Callable[[], object]) -> float:
    """Return the seconds of a call by the host's clock."""
    began = time.perf_counter()
    call()
    return time.perf_counter() - began


def serve(
    call: Callable[[], object],
    report: Mapping[str, Any],
    clock: Callable[[Callable[[], object]], float] = by_clock,
) -> None:
    """Answer a coordinator: first the report, then the times of as many calls as each line asks for."""
    print(json.dumps({**report, "kernels": kernels()}), flush=True)
    for line in sys.stdin:
        call()
        print(json.dumps({"seconds": [clock(call) for _ in range(int(line))]}), flush=True)


def processor() -> str:
    """Return the processor's name and its widest vector unit, where the system tells."""
    try:
        with open("/proc/cpuinfo") as file:
            facts = dict(line.split(":", 1) for line in file.read().split("\n\n")[0].splitlines() if ":" in line)
    except OSError:
        return "unknown"
    facts = {key.strip(): value.strip() for key, value in facts.items()}
    units = facts.get("flags", "").split()
    widest = next((unit for unit in ("avx512f", "avx2", "avx") if unit in units), "")
    return f"{facts.get('model name', 'unknown')} {widest}".strip()


def kernels() -> list[str]:
    """Return which BLAS kernels run in this process, where threadpoolctl can say."""
    try:
        from threadpoolctl import threadpool_info
    except ImportError:
        return []
    pools = (pool for pool in threadpool_info() if pool.get("user_api") == "blas")
    return sorted({f"{p['internal_api']} {p['version']} {p.get('architecture')} x{p['num_threads']}" for p in pools})
