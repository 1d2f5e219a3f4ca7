"""Races of sweeps, fused steps and cone projections as tables and numbers, from the stored results of `benchmarks/`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..storage import read_json
from .cells import table

Stored = Mapping[str, Any]
AGAINST = {"jax": "JAX", "torch compile": "torch.compile", "torch loop": "torch loop"}


def read_stored(path: Path | None) -> Stored:
    """Return a stored result, empty where there is none."""
    return read_json(path) if path is not None and path.is_file() else {}


def _times(rows: Mapping[str, Stored], one: str, other: str) -> float | None:
    """Return how many times faster one contestant is than another."""
    return rows[other]["milliseconds"] / rows[one]["milliseconds"] if one in rows and other in rows else None


def _cell(ratio: float | None) -> str:
    return "" if ratio is None else f"{ratio:.{0 if ratio >= 100 else 1 if ratio >= 10 else 2}f}"


def sweep_table(stored: Stored) -> str:
    """Return the ratios of whole sweeps of Muon runs, one line a side of the matrices."""
    lines = []
    for n, race in sorted(stored.get("sweeps", {}).items(), key=lambda item: int(item[0])):
        rows = race["rows"]
        ratios = [_times(rows, "compiled", peer) for peer in AGAINST] + [_times(rows, "numpy", "jax")]
        ours = rows["compiled"]
        cells = [n, str(16 * race["seeds"]), str(race["steps"]), f"{ours['milliseconds']:.0f}", *map(_cell, ratios)]
        lines.append(" & ".join(cells) + " \\\\\n")
    head = (
        " & & & & \\multicolumn{3}{c}{compiled, times faster than} & NumPy than \\\\\n"
        "side & runs & steps & ms & " + " & ".join(AGAINST.values()) + " & JAX \\\\\n"
    )
    return table("rrrrrrrr", head, lines) if lines else ""


def cone_table(stored: Stored) -> str:
    """Return the ratios of UPGrad on batches of Jacobians to a loop over TorchJD, one line a number of rows."""
    lines = []
    for race in stored.get("results", []):
        rows = race["rows"]
        kinds = {"compiled": "numba auto", "NumPy": "numpy auto", "QR": "numba rows"}
        ratios = [_times(rows, kind, "torchjd") for kind in kinds.values()]
        error = max(rows[kind]["error"] for kind in kinds.values() if kind in rows)
        cells = [str(race["count"]), str(race["m"]), str(race["n"]), *map(_cell, ratios), f"{error:.0e}"]
        lines.append(" & ".join(cells) + " \\\\\n")
    head = "Jacobians & $m$ & $n$ & compiled & NumPy & QR route & error \\\\\n"
    return table("rrrrrrr", head, lines) if lines else ""


def speed_numbers(sweeps: Stored, cones: Stored) -> dict[tuple[str, str], float]:
    """Return the number of races in each table (0 without results), and the ratios of the fused steps to NumPy."""
    numbers = {("sweep races", "count"): float(len(sweeps.get("sweeps", {}))),
               ("cone races", "count"): float(len(cones.get("results", [])))}  # fmt: skip
    for name, race in sweeps.get("entrywise", {}).items():
        if (ratio := _times(race["rows"], "fused", "numpy")) is not None:
            numbers["sweep races", f"{name} fused"] = ratio
    return numbers
