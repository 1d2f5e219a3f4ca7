"""The GPU beside its peers: small and large orthogonalization, a whole sweep, fused steps, cone projections.

    python -m venv peers && peers/bin/pip install torch==2.13.0 "jax[cuda12]"
    python benchmarks/gpu.py --peers peers/bin/python    on a machine with a GPU; writes results/gpu-*.json
    python benchmarks/gpu.py --table                     rewrites the README's table from the stored results
    python benchmarks/gpu.py --rehearse                  tiny sizes on this processor: does every contestant run?

Every contestant is a process of its own, builds, compiles and checks itself against float64 before any timing, and is
fired in rotation. A time is the median between two events of the device. Inputs are random, and as many of them take
turns as fill the second-level cache twice.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from rotation import Contestant, race

RESULTS = Path(__file__).parent / "results"
README = Path(__file__).parent.parent / "README.md"
BEGIN, END = "<!-- GPU table: benchmarks/gpu.py --table -->", "<!-- end of the GPU table -->"
CONTESTANTS = Path(__file__).parent / "gpu_contestants.py"


class Comparison(NamedTuple):
    """One workload: its sizes for a GPU and for a rehearsal, who runs it, and what is to be reached."""

    title: str
    task: str
    size: tuple[int, ...]
    rehearsal: tuple[int, ...]
    contestants: tuple[str, ...]
    goal: str  # words for the table
    reached: Callable[[dict[str, Any]], float | None]  # the number that the goal speaks about
    floor: float  # the goal's number
    above: bool = True


def times_faster(our: str, *peers: str) -> Callable[[dict[str, Any]], float | None]:
    """Return how many times faster we are than the fastest of the peers that ran, None where none did."""

    def ratio(rows):
        others = [rows[p]["milliseconds"] for p in peers if p in rows]
        return min(others) / rows[our]["milliseconds"] if others and our in rows else None

    return ratio


def value(our: str, name: str) -> Callable[[dict[str, Any]], float | None]:
    """Return a number that a contestant derived from its time."""
    return lambda rows: rows[our].get(name) if our in rows else None


SMALL = ("kernel", "plain CuPy", "torch", "torch compile", "jax")
COMPARISONS = (
    Comparison("five Newton-Schulz steps, 4096 of 64 x 64, float32", "small", (4096, 64, 64), (40, 16, 16), SMALL,
               "5 x the fastest peer", times_faster("kernel", *SMALL[1:]), 5),
    Comparison("five Newton-Schulz steps, 16384 of 32 x 32, float32", "small", (16384, 32, 32), (40, 8, 8), SMALL,
               "5 x the fastest peer", times_faster("kernel", *SMALL[1:]), 5),
    Comparison("one 8192 x 2048, 16 bits", "large", (8192, 2048), (96, 32), ("kernel", "triangles", "torch half"),
               "1.5 x torch at its efficiency", times_faster("kernel", "triangles", "torch half"), 1.5),
    Comparison("one 8192 x 8192, 16 bits", "large", (8192, 8192), (64, 64), ("kernel", "triangles", "torch half"),
               "1.5 x torch at its efficiency", times_faster("kernel", "triangles", "torch half"), 1.5),
    Comparison("1024 Muon runs of 500 steps, 32 x 32", "sweep", (64, 500, 32), (2, 20, 32),
               ("replayed", "stepped", "processor"), "20 x the processor", times_faster("replayed", "processor"), 20),
    Comparison("the same beside JAX", "sweep", (64, 500, 32), (2, 20, 32), ("replayed", "jax"),
               "faster than JAX", times_faster("replayed", "jax"), 1),
    *(Comparison(f"{name} step on 1024 of 256 x 256, float32", f"step {name}", (1024, 256, 256), (4, 8, 8),
                 ("kernel", "plain CuPy"), "85 % of the copy rate", value("kernel", "share of copy"), 0.85)
      for name in ("lion", "sign", "auon")),
    Comparison("UPGrad, a million Jacobians (3, 100), float64", "upgrad", (1_000_000, 3, 100), (200, 3, 10),
               ("kernel", "plain CuPy"), "under 1 s", value("kernel", "seconds"), 1, above=False),
)  # fmt: skip


def derived(row: dict[str, Any]) -> dict[str, Any]:
    """Add what follows from a time: seconds, and the share of the rate at which a copy moves the same bytes."""
    row["seconds"] = row["milliseconds"] / 1e3
    if "copy" in row:
        row["share of copy"] = row["copy"] / row["milliseconds"]
    return row


def compare(comparison: Comparison, device: str, peers: str | None, rounds: int) -> dict[str, Any]:
    """Race one comparison; what cannot run is left out with its reason on stderr."""
    size = comparison.size if device == "cuda" else comparison.rehearsal
    contestants = []
    for kind in comparison.contestants:
        python = peers if kind.startswith("torch") or kind == "jax" else sys.executable
        if python:
            job = json.dumps({"task": comparison.task, "kind": kind, "size": size, "device": device})
            contestants.append(Contestant(kind, (python, str(CONTESTANTS), job)))
    rows = race(contestants, threads=2, rounds=rounds, calls=3)
    if comparison.task == "sweep":  # judged here: the peers' interpreter has not got the package
        import sweeps

        seeds, steps, n = size
        sweeps.SIZES[n] = (seeds, steps)
        truth = sweeps.ours(n, "reference", "float64")()
        for row in rows.values():
            row["median error"] = float(np.median(np.abs(np.asarray(row.pop("losses")) - truth) / np.abs(truth)))
    return {name: derived(row) for name, row in rows.items()}


def device_name() -> str:
    """Return the GPU's name, its driver and CuPy's version."""
    from orthotheory import gpu_report

    rows = {row["label"]: row["measured"] for row in gpu_report.examine()}
    return f"{rows['GPU']}; {rows['CUDA']}"


def table(results: dict[str, dict[str, Any]]) -> str:
    """Return the README's table, one line a comparison and device; "not measured" where there is no result."""
    lines = ["| on one GPU | measured | goal | device |", "| --- | --- | --- | --- |"]
    for comparison in COMPARISONS:
        found = [(r["device"], r["comparisons"][comparison.title]) for r in results.values()
                 if comparison.title in r["comparisons"]]  # fmt: skip
        for device, rows in found or [("", {})]:
            reached = comparison.reached(rows) if rows else None
            text = "not measured" if reached is None else f"{reached:.3g}"
            lines.append(f"| {comparison.title} | {text} | {comparison.goal} | {device} |")
    return "\n".join(lines)


def stored() -> dict[str, dict[str, Any]]:
    """Return the stored results by file name."""
    return {path.name: json.loads(path.read_text()) for path in sorted(RESULTS.glob("gpu-*.json"))}


def with_table(readme: str) -> str:
    """Return the README's text with its table of today's results."""
    before, _, rest = readme.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n{table(stored())}\n{END}{after}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peers", help="interpreter of an environment with torch and JAX")
    parser.add_argument("--only", help="comparisons whose title or task contains this")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--rehearse", action="store_true", help="tiny sizes on this processor; nothing is stored")
    parser.add_argument("--if-present", action="store_true", help="end with a sentence where there is no GPU")
    parser.add_argument("--table", action="store_true", help="rewrite the README's table and end")
    options = parser.parse_args()
    if options.table:
        README.write_text(with_table(README.read_text(encoding="utf-8")), encoding="utf-8")
        return
    from orthotheory.arrays import backend, cuda_is_available
    from orthotheory.storage import machine

    device = "cpu" if options.rehearse else "cuda"
    if options.if_present and not cuda_is_available():
        print("No GPU here: benchmarks/gpu.py measured nothing.")
        return
    if device == "cuda":
        backend(device)  # refuses with one sentence where there is none
    result: dict[str, Any] = {"machine": machine(), "comparisons": {}}
    for comparison in COMPARISONS:
        if options.only and options.only not in comparison.title and options.only != comparison.task:
            continue
        rows = compare(comparison, device, options.peers, options.rounds)
        result["comparisons"][comparison.title] = rows
        reached = comparison.reached(rows)
        print(comparison.title, f"{reached:.3g} (goal {comparison.goal})" if reached else "no peer", flush=True)
        for name, row in rows.items():
            print("   ", name, {k: v for k, v in row.items() if k not in ("kernels", "quartiles")}, flush=True)
        if device == "cuda":
            result["device"] = device_name()
            name = "".join(c if c.isalnum() else "-" for c in result["device"].split(";")[0].lower())
            (RESULTS / f"gpu-{name}.json").write_text(json.dumps(result, indent=2) + "\n")
    if device == "cuda":
        README.write_text(with_table(README.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    main()
