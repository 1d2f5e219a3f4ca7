"""W1 and W4: orthogonalizing one matrix, beside torch, SciPy and JAX; every time stands beside its accuracy.

W1 is float32: the LMO efficiency 0.98 of <G, X> / (|X|_2 |G|_*), or |X - polar(G)|_2 of 1e-2 and 1e-4. W4 is float64
to rounding: |X^T X - I|_2 and |G - X H|_F / |G|_F of 2e-14. Peers live in another environment:

    python -m venv peers && peers/bin/pip install torch==2.13.0 jax scipy threadpoolctl
    python benchmarks/orthogonalization.py --peers peers/bin/python
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import time
from pathlib import Path

import numpy as np
from rotation import Contestant, processor, race, serve

W1_SHAPES = ((512, 512), (1024, 1024), (512, 2048), (256, 4096))
W4_SHAPES = ((512, 512), (1024, 1024), (1024, 256))
RESULTS = Path(__file__).parent / "results" / "orthogonalization.json"
# Gates and goals of the project, as ratios to the named peers.
TARGETS = {
    "efficiency gaussian": (("torch muon5",), (1.3, 1.3, 2.6, 2.0), (2.5, 3, 5, 5)),
    "efficiency log": (("torch muon5",), (1.1, 1.1, 1.9, 1.7), (2, 2.2, 3.5, 4)),
    "error 1e-2": (("torch express10", "torch svd"), (2, 2, 2.2, 2.4), (4, 4, 4.5, 6)),
    "error 1e-4": (("torch express10", "torch svd"), (1.15, 1.25, 1.7, 2.5), (2.2, 2.2, 3.5, 5.5)),
    "polar 1e2": (("scipy polar",), (2.6, 1.7, 3.4), (5, 3, 7)),
    "polar 1e8": (("scipy polar",), (1.4, 1.2, 1.5), (2.7, 2.2, 3.5)),
    "polar 1e14": (("scipy polar",), (1.2, 1.0, 1.5), (2.3, 1.6, 3.5)),
}


def matrix(shape: tuple[int, int], kind: str, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return G, its singular values and its polar factor in float64; "gaussian", or a condition number, log-spaced."""
    rng = np.random.Generator(np.random.Philox(seed))
    rank = min(shape)
    if kind == "gaussian":
        g = rng.standard_normal(shape)
        u, s, vh = np.linalg.svd(g, full_matrices=False)
        return g, s, u @ vh
    u, v = (np.linalg.qr(rng.standard_normal((side, rank)))[0] for side in shape)
    s = np.geomspace(1.0, 1 / float(kind), rank)
    return (u * s) @ v.T, s, u @ v.T


def quality(g: np.ndarray, s: np.ndarray, p: np.ndarray, x: np.ndarray) -> dict[str, float]:
    """Return what is claimed of a result, computed in float64."""
    x = np.asarray(x, dtype=float)
    if x.shape[0] < x.shape[1]:
        g, p, x = g.T, p.T, x.T
    h = x.T @ g
    h = (h + h.T) / 2
    return {
        "efficiency": float(np.sum(g * x) / (np.linalg.norm(x, 2) * s.sum())),
        "error": float(np.linalg.norm(x - p, 2)),
        "orthogonality": float(np.linalg.norm(x.T @ x - np.eye(x.shape[1]), 2)),
        "backward": float(np.linalg.norm(g - x @ h) / np.linalg.norm(g)),
    }


def contestant(name: str, g: np.ndarray, express: list[list[float]]):
    """Return a call without arguments and what it does with its array, for a name like "torch express 10"."""
    library, method, *options = name.split()
    if library == "orthotheory":
        from orthotheory.polar.adaptive import Adaptive

        value, *ends = map(float, options)
        plan = Adaptive(**{method: value}, interval=(ends[0], 1.0) if ends else None)
        return lambda: plan.apply(g)
    if library == "scipy":
        import scipy.linalg

        return lambda: scipy.linalg.polar(g)[0]
    if library == "torch":
        import torch

        torch.set_grad_enabled(False)
        t = torch.from_numpy(g)
        if method == "svd":

            def by_svd():
                u, _, vh = torch.linalg.svd(t, full_matrices=False)
                return u @ vh

            return by_svd
        rows, safety = iteration(method, express)
        return lambda: newton_schulz(t, rows, safety, torch.addmm)
    import jax

    rows, safety = iteration(method, express)
    compiled = jax.jit(
        lambda t: newton_schulz(t, rows, safety, lambda c, a, b, beta, alpha: beta * c + alpha * (a @ b))
    )
    t = jax.device_put(g)
    return lambda: compiled(t).block_until_ready()


def iteration(method: str, express: list[list[float]]) -> tuple[list[list[float]], float]:
    """Return rows and safety factor of Muon's five steps or of so many of Polar Express."""
    if method == "muon5":
        return [[3.4445, -4.7750, 2.0315]] * 5, 1.0
    count = int(method.removeprefix("express"))
    return (express + [[1.875, -1.25, 0.375]] * count)[:count], 1.01


def newton_schulz(g, rows, safety, addmm):
    """Run quintic steps in the fused form, on the shorter side."""
    x = g.T if g.shape[0] > g.shape[1] else g
    x = x / (safety * (x * x).sum() ** 0.5 + 1e-7)
    for a, b, c in rows:
        r = x @ x.T
        x = addmm(x, addmm(r, r, r, beta=b, alpha=c), x, beta=a, alpha=1.0)
    return x.T if g.shape[0] > g.shape[1] else x


def work(job: dict) -> None:
    """Be one contestant: build, check, report, then serve."""
    g, s, p = matrix(tuple(job["shape"]), job["kind"])
    cast = g.astype(job["dtype"])
    call = contestant(job["name"], cast, job["express"])
    report: dict = quality(g, s, p, np.asarray(call()))
    if job["name"].startswith("orthotheory"):
        report |= choosing(job["name"], cast)
    serve(call, report)


def choosing(name: str, g: np.ndarray) -> dict:
    """Return which plan is chosen and how long the choice takes, estimate included."""
    from orthotheory.polar import adaptive
    from orthotheory.polar.cost import measured
    from orthotheory.polar.spectrum import condition, density, lanczos
    from orthotheory.polar.symmetric import Blas

    _, method, *options = name.split()
    value, *ends = map(float, options)
    x = g if g.shape[0] <= g.shape[1] else g.T
    ops, costs, aspect = Blas(), measured(x.shape, str(g.dtype)), round(x.shape[1] / x.shape[0], 3)
    single = g.dtype == np.float32
    gram = ops.gram(x if method == "efficiency" or ends else x.astype(float))

    def choose():
        if method == "efficiency":
            return adaptive.by_density(density(ops, gram), value, costs, aspect)
        top = float(lanczos(ops, gram).top)
        low = ends[0] / adaptive.POLYNOMIAL_MARGIN if ends else 0.5 / condition(ops, gram, top)
        return adaptive.by_interval(adaptive._bucket(low), value, single, costs, aspect) if low else None

    seconds = []
    for _ in range(9):
        began = time.perf_counter()
        choice = choose()
        seconds.append(time.perf_counter() - began)
    told = {"choosing milliseconds": 1e3 * float(np.median(seconds))}
    if choice is not None:
        told |= {"steps": [list(kind) for kind in choice.kinds], "predicted": choice.predicted,
                 "gram dtype": choice.gram_dtype}  # fmt: skip
    return told


def rows(quick: bool) -> list[dict]:
    """Return the races: a label, the matrix, the contestants and the criterion."""
    table = []
    for i, shape in enumerate(W1_SHAPES):
        for kind, label in (("gaussian", "efficiency gaussian"), ("1e3", "efficiency log")):
            names = ["orthotheory efficiency 0.98", "torch muon5", "torch express6", "jax muon5"]
            table.append(
                {"target": label, "index": i, "shape": shape, "kind": kind, "dtype": "float32", "names": names}
            )
        names = ["torch express10", "torch svd", "scipy polar"]
        for accuracy in ("1e-2", "1e-4"):
            ours = [f"orthotheory accuracy {accuracy} 1e-3", f"orthotheory accuracy {accuracy}"]
            table.append({"target": f"error {accuracy}", "index": i, "shape": shape, "kind": "1e3", "dtype": "float32",
                          "names": ours + names})  # fmt: skip
    for i, shape in enumerate(W4_SHAPES):
        for kind in ("1e2", "1e8", "1e14"):
            ours = [f"orthotheory accuracy 1e-14 {0.5 / float(kind):g}", "orthotheory accuracy 1e-14"]
            table.append({"target": f"polar {kind}", "index": i, "shape": shape, "kind": kind, "dtype": "float64",
                          "names": [*ours, "scipy polar", "torch svd"]})  # fmt: skip
    return [row for row in table if min(row["shape"]) <= 512 and max(row["shape"]) <= 512] if quick else table


def reached(target: str, result: dict) -> bool:
    """Say whether a result meets the criterion of its row."""
    kind, value = target.split()
    if kind == "efficiency":
        return result["efficiency"] >= 0.98
    if kind == "error":
        return result["error"] <= float(value)
    return max(result["orthogonality"], result["backward"]) <= 2e-14


def judge(row: dict, results: dict) -> dict:
    """Return the ratio to the best peer of the target, one that reaches the criterion where there is one."""
    peers, gates, goals = TARGETS[row["target"]]
    here = [p for p in peers if p in results]
    ours = results[row["names"][0]]
    if not here:
        return {"reached": reached(row["target"], ours)}
    able = [p for p in here if reached(row["target"], results[p])] or here
    best = min(able, key=lambda p: results[p]["milliseconds"])
    return {
        "reached": reached(row["target"], ours), "peer": best, "peer reached": reached(row["target"], results[best]),
        "ratio": results[best]["milliseconds"] / ours["milliseconds"],
        "gate": gates[row["index"]], "goal": goals[row["index"]],
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peers", help="the interpreter of an environment with torch, jax and scipy")
    parser.add_argument("--quick", action="store_true", help="512 x 512 alone, three rounds")
    parser.add_argument("--only", default="", help="a pattern: rows whose label matches; the others keep their results")
    parser.add_argument("--threads", type=int, nargs="+", default=[2, 1])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--out", type=Path, default=RESULTS)
    parser.add_argument("--work", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.work:
        return work(json.loads(options.work))
    from orthotheory.polar.express import PAPER_ROWS
    from orthotheory.storage import machine

    express = [[c / 1.01 ** (2 * i + 1) for i, c in enumerate(row)] for row in PAPER_ROWS[:7]] + [list(PAPER_ROWS[7])]
    kept = json.loads(options.out.read_text())["rows"] if options.out.exists() else {}
    for threads in options.threads:
        for row in rows(options.quick):
            label = f"{row['target']}, {row['shape'][0]} x {row['shape'][1]}, {threads} threads"
            if not re.search(options.only, label):
                continue
            contestants = []
            for name in row["names"]:
                own = name.startswith(("orthotheory", "scipy"))
                if own or options.peers:
                    job = {key: row[key] for key in ("shape", "kind", "dtype")} | {"name": name, "express": express}
                    python = sys.executable if own else options.peers
                    contestants.append(Contestant(name, (python, __file__, "--work", json.dumps(job))))
            results = race(contestants, threads=threads, rounds=3 if options.quick else options.rounds)
            verdict = judge(row, results)
            kept[label] = {"verdict": verdict, "contestants": results}
            print(label, json.dumps(verdict))
            for name, r in results.items():
                low, high = r["quartiles"]
                print(f"    {name:40s} {r['milliseconds']:8.2f} [{low:.2f}-{high:.2f}] ms  efficiency "
                      f"{r['efficiency']:.4f}  error {r['error']:.1e}  orthogonality {r['orthogonality']:.1e}  "
                      f"backward {r['backward']:.1e}  {r.get('steps', '')}")  # fmt: skip
            options.out.parent.mkdir(parents=True, exist_ok=True)
            options.out.write_text(
                json.dumps({"machine": {**machine(), "processor": processor()}, "rows": kept}, indent=1) + "\n"
            )


if __name__ == "__main__":
    main()
