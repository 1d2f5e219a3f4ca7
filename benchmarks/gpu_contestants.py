"""The contestants of benchmarks/gpu.py: each a call on one library, and a check of what it returns beside float64.

python benchmarks/gpu_contestants.py '{"task": "small", "kind": "torch", "size": [4096, 64, 64], "device": "cuda"}'
"""

from __future__ import annotations

import contextlib
import itertools
import json
import statistics
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
from rotation import by_clock, serve

QUINTIC = ((3.4445, -4.7750, 2.0315),) * 5
CACHE = 2 * 60 * 2**20  # bytes: twice the second-level cache of the largest GPU we know


def small_polar(kind: str, size, device: str):
    """Return a call and a check of five quintic steps on a batch."""
    host = np.random.default_rng(0).standard_normal(size).astype(np.float32)
    copies = max(1, -(-CACHE // (2 * host.nbytes))) if device == "cuda" else 1
    if kind.startswith("torch") or kind == "jax":
        step, put, get = torch_steps(kind, device) if kind != "jax" else jax_steps()
        inputs = [put(host) for _ in range(copies)]
        turn = itertools.cycle(inputs)
        return lambda: step(next(turn)), lambda x: error_of(get(x), host)
    from orthotheory.arrays import backend, to_host
    from orthotheory.polar.schedule import MUON_QUINTIC

    inputs = [backend(device).asarray(host) for _ in range(copies)]
    turn = itertools.cycle(inputs)
    return lambda: MUON_QUINTIC.apply(next(turn)), lambda x: error_of(to_host(x), host)


def error_of(x: np.ndarray, host: np.ndarray) -> dict[str, float]:
    """Return the largest distance of the first 64 results from float64."""
    g = host[:64].astype(np.float64)
    y = g / np.linalg.norm(g, axis=(1, 2), keepdims=True)
    for a, b, c in QUINTIC:
        r = y @ y.swapaxes(1, 2)
        y = a * y + (b * r + c * r @ r) @ y
    return {"error": float(np.abs(x[:64] - y).max())}


def torch_steps(kind: str, device: str):
    """Return the batched loop of torch, eager or compiled, and the ways in and out."""
    import torch

    torch.set_grad_enabled(False)

    def steps(x):
        x = x / torch.linalg.matrix_norm(x, keepdim=True)
        for a, b, c in QUINTIC:
            r = torch.bmm(x, x.mT)
            x = torch.baddbmm(x, torch.baddbmm(r, r, r, beta=b, alpha=c), x, beta=a)
        return x

    put = lambda x: torch.from_numpy(x).to(device)  # noqa: E731
    return torch.compile(steps) if kind == "torch compile" else steps, put, lambda x: x.cpu().numpy()


def jax_steps():
    """Return the same for JAX, compiled."""
    import jax
    import jax.numpy as jnp

    jax.config.update("jax_default_matmul_precision", "float32")

    def steps(x):
        x = x / jnp.sqrt((x * x).sum((1, 2), keepdims=True))
        for a, b, c in QUINTIC:
            r = x @ x.mT
            x = a * x + (b * r + c * (r @ r)) @ x
        return x

    compiled = jax.jit(steps)
    return lambda x: compiled(x).block_until_ready(), jnp.asarray, np.asarray


def large_polar(kind: str, size, device: str):
    """Return a call and a check of five quintic steps on one large matrix in 16 bits; torch's loop as it ships."""
    host = np.random.default_rng(0).standard_normal(size).astype(np.float32)
    if kind == "torch half":
        import torch

        torch.set_grad_enabled(False)
        g = torch.from_numpy(host).to(device)
        if size[0] > size[1]:
            g = g.mT

        def call():
            x = g.bfloat16()
            x = x / (x.norm() + 1e-7)
            for a, b, c in QUINTIC:
                r = x @ x.mT
                x = torch.addmm(x, torch.addmm(r, r, r, beta=b, alpha=c), x, beta=a)
            return x

        def check(x):
            y, f = x.float(), g.float()
            return {
                "efficiency": float((y * f).sum() / (torch.linalg.svdvals(f).sum() * torch.linalg.matrix_norm(y, 2)))
            }

        return call, check
    from orthotheory.arrays import backend, inner, to_host
    from orthotheory.norms import Nuclear, Spectral
    from orthotheory.polar import HalfPrecision

    g = backend(device).asarray(host)

    def check(x):
        return {"efficiency": float(to_host(inner(g, x) / (Nuclear().value(g) * Spectral().value(x))))}

    plan = HalfPrecision(triangles=kind == "triangles")
    return lambda: plan.apply(g), check


def sweep(kind: str, size, device: str):
    """Return a call and a check of a sweep of Muon runs over 16 rates and some seeds."""
    import sweeps

    seeds, steps, n = size
    sweeps.SIZES[n] = (seeds, steps)
    if kind == "jax":
        call = sweeps.by_jax(n)
    elif kind == "processor":
        call = sweeps.ours(n, "compiled")
    else:
        from orthotheory import captured, loop, methods
        from orthotheory.arrays import backend
        from orthotheory.problems.quadratic import KroneckerQuadratic

        a, b, optimum, starts, rates = map(backend(device).asarray, sweeps.workload(n))
        problem = KroneckerQuadratic(a, b, optimum, starts[0])
        method = methods.make("muon", lr=rates[:, None])
        run = captured.run if kind == "replayed" else loop.run
        setup = {"record": ("value",), "every": steps, "batch": (16, seeds), "start": starts}
        call = lambda: run(problem, method, steps, **setup)["value"][-1]  # noqa: E731
    return call, lambda x: {"losses": np.asarray(x, float).tolist()}


def fused_step(name: str):
    """Return the task of one element-wise step."""

    def task(kind: str, size, device: str):
        from orthotheory import methods
        from orthotheory.arrays import backend, to_host

        rng = np.random.default_rng(0)
        w, g = (rng.standard_normal(size).astype(np.float32) for _ in range(2))
        there = backend(device)
        method = methods.make(name)
        reference = method.step(w.astype(float), g.astype(float), method.init(w.astype(float)))[0]
        w, g = there.asarray(w), there.asarray(g)
        if kind == "kernel":
            from orthotheory.fused import Step

            step = Step(method, w)
            call = lambda: step(g)  # noqa: E731
        else:
            state = method.init(w)
            call = lambda: method.step(w, g, state)[0]  # noqa: E731
        return (
            call,
            lambda x: {"error": float(np.abs(to_host(x) - reference).max()), **copy_rate(there, w, name)},
        )

    return task


def copy_rate(there, w, name: str) -> dict[str, float]:
    """Return the bytes that a step must move, and the milliseconds of a copy that moves as many."""
    arrays = {"sign": 3, "lion": 5, "auon": 5}[name]  # read w, g (m), write w (m)
    y = there.xp.empty_like(w)

    def copy():
        y[...] = w

    return {
        "bytes": arrays * w.nbytes,
        "copy": 1e3 * statistics.median(timer(there)(copy) for _ in range(15)) * arrays / 2,
    }


def upgrad(kind: str, size, device: str):
    """Return a call and a check of UPGrad on many Jacobians."""
    from orthotheory import surgery
    from orthotheory.arrays import backend, to_host

    host = np.random.default_rng(0).standard_normal(size)
    j, rule = backend(device).asarray(host), surgery.make("upgrad")
    few = host[:1000]
    truth = surgery.project(few, few, route="rows").point.mean(axis=1)
    return lambda: rule(j), lambda x: {"error": float(np.abs(to_host(x[:1000]) - truth).max())}


TASKS = {"small": small_polar, "large": large_polar, "sweep": sweep, "upgrad": upgrad,
         **{f"step {name}": fused_step(name) for name in ("lion", "sign", "auon")}}  # fmt: skip


def timer(there) -> Callable[[Callable], float]:
    """Return what takes the seconds of a call: events of the device, or the clock of the host."""
    if there.device == "cpu":
        return by_clock
    from orthotheory.gpu_report import events

    return lambda call: events(call, 1)


def by_torch_events(call: Callable) -> float:
    """Return the seconds of a call between two events of torch."""
    import torch

    began, ended = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    began.record()
    call()
    ended.record()
    ended.synchronize()
    return began.elapsed_time(ended) / 1e3


def work(job: dict[str, Any]) -> None:
    """Serve as one contestant."""
    kind, device = job["kind"], job["device"]
    whole_run = job["task"] in ("sweep", "upgrad") or kind == "jax"  # these end on the host, by the host's clock
    clock = by_clock
    plain: Any = contextlib.nullcontext()
    if device == "cuda" and kind.startswith("torch"):
        clock = by_torch_events
    elif not kind.startswith("torch") and kind != "jax":
        from orthotheory.arrays import backend
        from orthotheory.kernels import cuda

        plain = cuda.plain() if kind in ("plain CuPy", "stepped") else plain
        clock = by_clock if whole_run else timer(backend(device))
    with plain:
        call, check = TASKS[job["task"]](kind, tuple(job["size"]), device)
        report = check(call())
        serve(call, report, clock)


if __name__ == "__main__":
    work(json.loads(sys.argv[1]))
