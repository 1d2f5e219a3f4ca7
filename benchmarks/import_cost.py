"""W5: what `import orthotheory` costs beside `import numpy`, in fresh interpreters, interleaved, median with quartiles.

Reads the peak memory from /proc, so it needs Linux.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
from pathlib import Path

from orthotheory.storage import machine

PROBE = """
import time, sys
began = time.perf_counter()
import {module}
seconds = time.perf_counter() - began
heavy = [m for m in ("scipy", "sympy", "matplotlib", "pandas", "numba", "cupy", "sklearn") if m in sys.modules]
peak = next(line for line in open("/proc/self/status") if line.startswith("VmHWM")).split()[1]
print(seconds, int(peak) / 1024, ",".join(heavy))
"""


def probe(module: str) -> tuple[float, float, str]:
    done = subprocess.run(
        [sys.executable, "-c", PROBE.format(module=module)], capture_output=True, text=True, check=True
    )
    seconds, megabytes, *heavy = done.stdout.split()
    return float(seconds), float(megabytes), heavy[0] if heavy else ""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "import_cost.json")
    options = parser.parse_args()
    rounds = options.rounds
    subjects = {"numpy": "numpy", "orthotheory": "orthotheory", "orthotheory and numpy": "numpy, orthotheory"}
    samples: dict[str, list[tuple[float, float, str]]] = {name: [] for name in subjects}
    for module in subjects.values():
        probe(module)  # warm the file cache
    for _ in range(rounds):
        for name, module in subjects.items():
            samples[name].append(probe(module))
    rows = {}
    for name, values in samples.items():
        seconds = sorted(v[0] for v in values)
        rows[name] = {
            "milliseconds": 1e3 * statistics.median(seconds),
            "quartiles": [1e3 * q for q in statistics.quantiles(seconds, n=4)[::2]],
            "peak MiB": statistics.median(v[1] for v in values),
            "heavy modules": values[0][2],
        }
    base, whole = rows["numpy"], rows["orthotheory and numpy"]
    result = {
        "rounds": rounds, "machine": machine(), "rows": rows,
        "time ratio": whole["milliseconds"] / base["milliseconds"],
        "added MiB": whole["peak MiB"] - base["peak MiB"],
    }  # fmt: skip
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
