"""W2: sweeps of Muon runs, 16 learning rates x seeds, float32, beside JAX, torch.compile and a torch.optim.Muon loop.

W6: entry-wise steps on (1024, 32, 32) float32, beside NumPy with temporaries and torch. Peers have an environment:

    python -m venv peers && peers/bin/pip install torch==2.13.0 jax
    python benchmarks/sweeps.py --peers peers/bin/python

A time holds everything, from the starts on the host to the last losses on the host. A peer and we take the same runs,
and beside a time stands the largest relative distance of the losses from those of float64. torch.optim.Muon
orthogonalizes in bfloat16, one run at a time; some of the runs are taken, and the time is scaled to all.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path

import numpy as np
from rotation import Contestant, processor, race, serve

RATES = np.geomspace(1e-3, 1e-1, 16)
SIZES = {8: (64, 200), 16: (64, 60), 32: (32, 100), 64: (16, 20), 128: (8, 5)}  # side: seeds, steps
RESULTS = Path(__file__).parent / "results" / "sweeps.json"
# ours, peer, sizes, gates, goals
TARGETS = (
    ("compiled", "jax", (8, 16, 32, 64, 128), (8, 5.5, 4, 4, 2), (20, 12, 9, 7, 4)),
    ("compiled", "torch compile", (32, 64), (2, 2), (4, 3.5)),
    ("compiled", "torch loop", (32,), (120,), (250,)),
    ("numpy", "jax", (32, 64, 128), (1.3, 1.8, 1.3), (2, 3, 2.2)),
)
ELEMENTWISE = {"lion": (10, 16), "adam": (9, 14), "auon": (10, 16)}
STEPS = ((3.4445, -4.7750, 2.0315),) * 5


def workload(n: int, dtype: str = "float32") -> tuple[np.ndarray, ...]:
    """Return A, B, the optimum, one start a seed, and the rates; A and B have condition 100 and 10."""
    from_seed = np.random.Generator(np.random.Philox(n))
    factors = []
    for condition in (100.0, 10.0):
        q = np.linalg.qr(from_seed.standard_normal((n, n)))[0]
        a = (q * np.geomspace(1, 1 / condition, n)) @ q.T
        factors.append((a + a.T) / 2)
    optimum = from_seed.standard_normal((n, n))
    starts = from_seed.standard_normal((SIZES[n][0], n, n))
    # rounded once to float32, so that float64 solves the very same problem
    return tuple(x.astype("float32").astype(dtype) for x in (*factors, optimum, starts, RATES))


def ours(n: int, engine: str, dtype: str = "float32"):
    """Return a call that gives the last losses (16, seeds)."""
    from orthotheory import loop, methods
    from orthotheory.problems.quadratic import KroneckerQuadratic

    a, b, optimum, starts, rates = workload(n, dtype)
    seeds, steps = SIZES[n]
    problem = KroneckerQuadratic(a, b, optimum, starts[0])

    def part(run, some):
        method = methods.make("muon", lr=rates[:, None])
        trace = run(problem, method, steps, record=("value",), every=steps, batch=(16, len(some)), start=some)
        return trace["value"][-1]

    if engine == "compiled":
        from orthotheory import trajectories

        return lambda: part(trajectories.run, starts)
    if engine == "reference":
        return lambda: part(loop.run, starts)
    size = 1 if n >= 64 else max(1, seeds // 16)
    chunks = [starts[i : i + size] for i in range(0, seeds, size)]
    from concurrent.futures import ProcessPoolExecutor

    pool = ProcessPoolExecutor(2, initializer=_process, initargs=(n,))
    groups = np.array_split(rates, 2 if n > 64 else 1)  # large matrices, fewer of them at once

    def call():
        parts = [list(pool.map(_part_in_process, chunks, [some] * len(chunks))) for some in groups]
        return np.concatenate([np.concatenate(part, axis=1) for part in parts])

    return call


def _process(n: int) -> None:
    global _N
    from threadpoolctl import threadpool_limits

    threadpool_limits(1)
    _N = n


def _part_in_process(some: np.ndarray, rates: np.ndarray) -> np.ndarray:
    from orthotheory import loop, methods
    from orthotheory.problems.quadratic import KroneckerQuadratic

    a, b, optimum, starts, _ = workload(_N)
    problem, steps = KroneckerQuadratic(a, b, optimum, starts[0]), SIZES[_N][1]
    method = methods.make("muon", lr=rates[:, None])
    batch = (len(rates), len(some))
    return loop.run(problem, method, steps, record=("value",), every=steps, batch=batch, start=some)["value"][-1]


def by_jax(n: int):
    """Return the same by JAX: one run, mapped over rates and seeds, compiled."""
    import jax
    import jax.numpy as jnp

    a, b, optimum, starts, rates = map(jnp.asarray, workload(n))
    steps = SIZES[n][1]

    def one(rate, w):
        def step(_, state):
            w, m = state
            g = a @ (w - optimum) @ b
            m = 0.95 * m + 0.05 * g
            x = 0.95 * m + 0.05 * g
            x = x / (jnp.sqrt((x * x).sum()) + 1e-7)
            for first, second, third in STEPS:
                r = x @ x.T
                x = first * x + (second * r + third * (r @ r)) @ x
            return w - rate * x, m

        w, _ = jax.lax.fori_loop(0, steps, step, (w, jnp.zeros_like(w)))
        e = w - optimum
        return 0.5 * (e * (a @ e @ b)).sum()

    every = jax.jit(jax.vmap(jax.vmap(one, (None, 0)), (0, None)))
    return lambda: np.asarray(every(rates, starts))


def by_torch(n: int, compiled: bool):
    """Return the same by torch, all runs in one batch."""
    import torch

    torch.set_grad_enabled(False)
    a, b, optimum, starts, rates = map(torch.from_numpy, workload(n))
    seeds, steps = SIZES[n]
    rate = rates.repeat_interleave(seeds)[:, None, None]

    def step(w, m):
        g = a @ (w - optimum) @ b
        m = torch.lerp(m, g, 0.05)
        x = torch.lerp(m, g, 0.05)
        x = x / (torch.linalg.matrix_norm(x, keepdim=True) + 1e-7)
        for first, second, third in STEPS:
            r = torch.bmm(x, x.mT)
            x = torch.baddbmm(x, torch.baddbmm(r, r, r, beta=second, alpha=third), x, beta=first)
        return w - rate * x, m

    step = torch.compile(step) if compiled else step

    def call():
        w = starts.repeat(16, 1, 1)
        m = torch.zeros_like(w)
        for _ in range(steps):
            w, m = step(w, m)
        e = w - optimum
        return (0.5 * (e * (a @ e @ b)).sum((1, 2))).reshape(16, seeds).numpy()

    return call


def by_torch_loop(n: int, runs: int):
    """Return a loop of torch.optim.Muon over some runs."""
    import torch

    a, b, optimum, starts, rates = map(torch.from_numpy, workload(n))
    steps = SIZES[n][1]

    def call():
        for i in range(runs):
            w = torch.nn.Parameter(starts[i].clone())
            optimizer = torch.optim.Muon([w], lr=float(rates[i]), weight_decay=0.0)
            for _ in range(steps):
                w.grad = a @ (w.detach() - optimum) @ b
                optimizer.step()

    return call


def entrywise(name: str, engine: str):
    """Return a step of one method on (1024, 32, 32), by the package with temporaries, or fused."""
    rng = np.random.Generator(np.random.Philox(0))
    w, g = (rng.standard_normal((1024, 32, 32)).astype("float32") for _ in range(2))
    if engine == "torch":
        import torch

        torch.set_grad_enabled(False)
        w, g = torch.from_numpy(w), torch.from_numpy(g)
        if name == "adam":
            p = torch.nn.Parameter(w)
            p.grad = g
            optimizer = torch.optim.AdamW([p], lr=1e-3, weight_decay=0.0, fused=True)
            return optimizer.step
        m = torch.zeros_like(w)

        def lion(w, m):
            u = torch.sign(0.9 * m + 0.1 * g)
            w.sub_(1e-3 * u)
            m.mul_(0.99).add_(0.01 * g)

        fused = torch.compile(lion)
        return lambda: fused(w, m)
    from orthotheory import methods

    method = methods.make(name)
    state = method.init(w)
    if engine == "numpy":
        return lambda: method.step(w, g, state)
    from orthotheory.fused import Step

    step = Step(method, w)
    return lambda: step(g)


def work(job: dict) -> None:
    """Serve as one contestant."""
    kind, n = job["kind"], job["n"]
    if job["task"] == "entrywise":
        call = entrywise(n, kind)
        call()
        serve(call, {})
        return
    calls = {
        "compiled": lambda: ours(n, "compiled"),
        "numpy": lambda: ours(n, "numpy"),
        "jax": lambda: by_jax(n),
        "torch batched": lambda: by_torch(n, False),
        "torch compile": lambda: by_torch(n, True),
        "torch loop": lambda: by_torch_loop(n, 8),
    }
    call = calls[kind]()
    losses = call()
    report = {}
    if losses is not None:
        truth = np.load(job["truth"])
        report = {"error": float(np.max(np.abs(losses - truth) / np.abs(truth)))}
        report["median error"] = float(np.median(np.abs(losses - truth) / np.abs(truth)))
    serve(call, report)


def contest(task: str, n, kinds: list[str], peers: str | None, folder: str, rounds: int, calls: int) -> dict:
    """Race contestants; torch and JAX by the peers' interpreter."""
    truth = str(Path(folder) / f"truth-{n}.npy")
    if task == "sweep":
        np.save(truth, ours(n, "reference", "float64")())
    contestants = []
    for kind in kinds:
        python = peers if kind.startswith(("torch", "jax")) else sys.executable
        if python:
            job = json.dumps({"task": task, "kind": kind, "n": n, "truth": truth})
            contestants.append(Contestant(kind, (python, __file__, "--work", job)))
    return race(contestants, threads=2, rounds=rounds, calls=calls)


def scheduling() -> str:
    """Return how the contestants are scheduled beside whatever else runs; `chrt -r 10` puts them before it."""
    policies = {os.SCHED_RR: "before other processes (SCHED_RR)"} if hasattr(os, "SCHED_RR") else {}
    return policies.get(os.sched_getscheduler(0), "among other processes") if policies else "unknown"


def main() -> None:
    import tempfile

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work")
    parser.add_argument("--peers", help="interpreter of an environment with torch and JAX")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--sizes", type=int, nargs="*", default=list(SIZES))
    parser.add_argument("--entrywise", nargs="*", default=list(ELEMENTWISE))
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args()
    if options.work:
        work(json.loads(options.work))
        return
    from orthotheory.storage import machine

    old = json.loads(options.out.read_text()) if options.out.exists() else {}
    results = {
        "machine": machine(),
        "processor": processor(),
        "scheduling": scheduling(),
        "sweeps": old.get("sweeps", {}),
        "entrywise": old.get("entrywise", {}),
    }
    with tempfile.TemporaryDirectory() as folder:
        for n in options.sizes:
            kinds = ["compiled", "jax", "torch batched"]
            kinds += ["torch compile"] if n in (32, 64) else []
            kinds += ["torch loop"] if n == 32 else []
            kinds += ["numpy"] if n >= 32 else []
            rows = contest("sweep", n, kinds, options.peers, folder, options.rounds, 1)
            seeds, steps = SIZES[n]
            if "torch loop" in rows:
                scale = 16 * seeds / 8
                loop = rows["torch loop"]
                loop["milliseconds"] *= scale
                loop["quartiles"] = [q * scale for q in loop["quartiles"]]
            ratios = {}
            for our, peer, sizes, gates, goals in TARGETS:
                if n in sizes and our in rows and peer in rows:
                    i = sizes.index(n)
                    ratio = rows[peer]["milliseconds"] / rows[our]["milliseconds"]
                    ratios[f"{our} against {peer}"] = {"ratio": ratio, "gate": gates[i], "goal": goals[i]}
            results["sweeps"][str(n)] = {"seeds": seeds, "steps": steps, "rows": rows, "ratios": ratios}
            print(
                n,
                json.dumps(ratios),
                {k: (round(r["milliseconds"], 1), r.get("error")) for k, r in rows.items()},
                flush=True,
            )
        for name in options.entrywise:
            kinds = ["numpy", "fused"] + (["torch"] if name != "auon" else [])
            rows = contest("entrywise", name, kinds, options.peers, folder, options.rounds, 5)
            gate, goal = ELEMENTWISE[name]
            ratios = {
                f"fused against {k}": {"ratio": rows[k]["milliseconds"] / rows["fused"]["milliseconds"]}
                for k in kinds
                if k != "fused" and k in rows
            }
            ratios["fused against numpy"] |= {"gate": gate, "goal": goal}
            results["entrywise"][name] = {"rows": rows, "ratios": ratios}
            print(name, json.dumps(ratios), flush=True)
    options.out.write_text(json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    main()
