"""W3: UPGrad on 10,000 Jacobians of (m, 100) against a loop over TorchJD, and on one of (32, 10,000).

    python benchmarks/surgery.py --torchjd PYTHON

PYTHON is the interpreter of an environment with torch and torchjd; without it the peer is left out. Every contestant
runs in its own process, is built and compiled before any timing, and is then fired in rotation with pauses. Beside its
time stands its accuracy: the largest distance of its first hundred updates from the mean of the projections by the QR
route, relative to |J|_F. The KKT residual is that of all m projections of every Jacobian.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from pathlib import Path

WORKER = """
import json, sys, time
import numpy as np
m, n, count, kind = int(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), sys.argv[4]
rng = np.random.default_rng(0)
sign = np.where(np.arange(m) % 2, 1.0, -1.0)[:, None]
j = (rng.standard_normal((count, m, n)) + rng.standard_normal((count, 1, n)) * sign)[: int(sys.argv[7])]
if kind == "torchjd":
    import torch
    from torchjd.aggregation import UPGrad
    torch.set_num_threads(1)
    tensors, rule = [torch.from_numpy(a) for a in j], UPGrad()
    run = lambda: np.stack([rule(t).numpy() for t in tensors])
elif kind == "gramian":
    run = lambda: j @ np.swapaxes(j, 1, 2)
else:
    from orthotheory import surgery
    kernel, route = kind.split(" ")
    rule = surgery.make("upgrad", kernel=kernel, route=route)
    run = lambda: rule(j)
x = run()
if sys.argv[5] != "-" and kind != "gramian":
    np.save(sys.argv[5], x[: int(sys.argv[6])])
print("ready", flush=True)
for line in sys.stdin:
    run()
    times = []
    for _ in range(int(line)):
        began = time.perf_counter()
        run()
        times.append(time.perf_counter() - began)
    print(json.dumps(times), flush=True)
"""


def accuracy(m: int, n: int, count: int, sample: int, files: dict[str, Path]) -> tuple[dict[str, float], float, float]:
    """Return the largest error of each contestant relative to |J|_F, the KKT residual, the share beyond the Gramian."""
    import numpy as np

    from orthotheory import surgery

    rng = np.random.default_rng(0)
    sign = np.where(np.arange(m) % 2, 1.0, -1.0)[:, None]
    j = rng.standard_normal((count, m, n)) + rng.standard_normal((count, 1, n)) * sign
    found = surgery.project(j, j)
    share = float(np.any(found.refined, axis=-1).mean())
    truth = surgery.project(j[:sample], j[:sample], route="rows").point.mean(axis=1)
    size = np.linalg.norm(j[:sample], axis=(1, 2))
    errors = {
        k: float((np.linalg.norm(np.load(f)[:sample] - truth[: len(np.load(f))], axis=1) / size).max())
        for k, f in files.items()
    }
    return errors, float(found.residual.max()), share


def contest(m: int, n: int, count: int, kinds: dict[str, tuple[str, int]], rounds: int, folder: Path) -> dict:
    """Race the contestants, name -> (interpreter, Jacobians it runs), in rotation; milliseconds for `count` of them."""
    workers, files, sample = {}, {}, min(100, count)
    for kind, (python, own) in kinds.items():
        files[kind] = folder / f"{kind.replace(' ', '-')}.npy"
        workers[kind] = subprocess.Popen(
            [python, "-c", WORKER, str(m), str(n), str(count), kind, str(files[kind]), str(sample), str(own)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        if workers[kind].stdout.readline().strip() != "ready":
            raise RuntimeError(f"The contestant {kind!r} did not start.")
    samples: dict[str, list[float]] = {kind: [] for kind in kinds}
    for _ in range(rounds):
        for kind, worker in workers.items():
            time.sleep(0.1)  # spinning thread pools park
            worker.stdin.write("1\n" if kind == "torchjd" else "3\n")
            worker.stdin.flush()
            scale = 1e3 * count / kinds[kind][1]
            samples[kind] += [scale * t for t in json.loads(worker.stdout.readline())]
    for worker in workers.values():
        worker.stdin.close()
        worker.wait()
    files.pop("gramian", None)
    errors, residual, share = accuracy(m, n, count, sample, files)
    rows = {}
    for kind, values in samples.items():
        rows[kind] = {
            "milliseconds": statistics.median(values),
            "quartiles": statistics.quantiles(values, n=4)[::2],
            "error": errors.get(kind),
        }
    peer = rows.get("torchjd", {}).get("milliseconds")
    for row in rows.values():
        row["ratio"] = None if peer is None else peer / row["milliseconds"]
    return {"m": m, "n": n, "count": count, "KKT residual": residual, "share beyond the Gramian": share, "rows": rows}


def main() -> None:
    import tempfile

    from orthotheory.storage import machine

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--torchjd", help="interpreter of an environment with torchjd")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--sizes", type=int, nargs="*", default=[2, 3, 5, 8, 32], help="m; 32 is the single Jacobian")
    parser.add_argument("--count", type=int, default=10_000)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "surgery.json")
    options = parser.parse_args()
    if options.rounds < 2:
        parser.error("--rounds must be at least 2: quartiles are reported")
    own = ["numba auto", "numba rows", "numpy auto"]
    kept = json.loads(options.out.read_text())["results"] if options.out.exists() else []
    results = {result["m"]: result for result in kept}  # of sizes that do not run now
    with tempfile.TemporaryDirectory() as folder:
        for m in options.sizes:
            n, count = (10_000, 1) if m == 32 else (100, options.count)
            kinds = {
                kind: (sys.executable, count) for kind in (["numba auto", "numpy auto", "gramian"] if m == 32 else own)
            }
            if options.torchjd:
                kinds["torchjd"] = (options.torchjd, min(200, count))  # a loop: time is proportional
            results[m] = contest(m, n, count, kinds, options.rounds, Path(folder))
            print(json.dumps(results[m], indent=2), flush=True)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(
        json.dumps(
            {"rounds": options.rounds, "machine": machine(), "results": [results[m] for m in sorted(results)]}, indent=2
        )
        + "\n"
    )


if __name__ == "__main__":
    main()
