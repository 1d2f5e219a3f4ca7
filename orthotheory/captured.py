"""Whole runs on a GPU in few launches: the steps between two records are captured once as a CUDA graph and replayed.

A step on small matrices is many short kernels, and starting them one by one from Python is work of its own. A graph is
started once for many steps. Off the GPU the same pass is repeated without a graph:
this is how it is tested.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from . import loop
from .arrays import Array, array_namespace, backend_of, check_number, cupy_module, to_host
from .methods import Method, lift
from .methods.contract import leaves_of, with_leaves
from .names import closest
from .problems import Problem
from .storage import digest

LONGEST = 64  # steps of one graph
Carry = list[Array]  # the weights, the state, where runs were lost, the step number: what a pass reads and overwrites


def why_not(problem: Problem, method: Method) -> str:
    """Return why replayed runs do not serve a problem and a method, "" where they do."""
    if problem.noise is not None:
        return "noise is drawn on the host, step by step"
    if isinstance(problem.start, tuple):
        method = lift(method, len(problem.start))
    w, _ = loop._first_weights(method, problem.start, None)
    before = method.init(w)
    after = method.step(w, getattr(problem, method.oracle)(w), before)[1]
    for old, new in zip(leaves_of(before), leaves_of(after), strict=True):
        if not hasattr(old, "shape"):
            return f"the state of {type(method).__name__} holds a number that is not on the device"
        if old.shape != new.shape or old.dtype != new.dtype:
            return f"the state of {type(method).__name__} changes its shape"
    return ""


class NotCaptured(RuntimeError):
    """A pass that a CUDA graph cannot hold, e.g. one with a factorization that waits for the host."""


class Repeated:
    """A pass that is called again and again; it leaves its result in the buffers it read."""

    def __init__(self, advance: Callable[[Carry], Carry], buffers: Carry):
        self._advance, self._buffers = advance, buffers

    def launch(self, times: int) -> None:
        """Advance the buffers so many passes."""
        for _ in range(times):
            self._pass()

    def _pass(self) -> None:
        for buffer, x in zip(self._buffers, self._advance(list(self._buffers)), strict=True):
            buffer[...] = x


class Graph(Repeated):
    """The same as one CUDA graph. Its temporaries live in a memory pool of its own, which nothing else may use."""

    def __init__(self, advance: Callable[[Carry], Carry], buffers: Carry):
        cupy = cupy_module()
        super().__init__(advance, buffers)
        before = [b.copy() for b in buffers]
        self._pass()
        expected = [b.copy() for b in buffers]
        cupy.cuda.get_current_stream().synchronize()
        self._pool, self._stream = cupy.cuda.MemoryPool(), cupy.cuda.Stream(non_blocking=True)
        with self._stream, cupy.cuda.using_allocator(self._pool.malloc):
            self._pass()  # fills the pool: nothing may be allocated while a graph is captured
            self._stream.begin_capture()
            try:
                self._pass()
            except Exception as error:
                self._abandon()
                raise NotCaptured(f"{type(error).__name__}: {error}") from error
            self._graph = self._stream.end_capture()
        for _ in range(2):  # a graph that remembers what it should read anew shows here
            for buffer, x in zip(buffers, before, strict=True):
                buffer[...] = x
            self.launch(1)
            if not all(_close(b, x) for b, x in zip(buffers, expected, strict=True)):
                raise NotCaptured("the replayed steps differ from the steps")
        for buffer, x in zip(buffers, before, strict=True):
            buffer[...] = x

    def _abandon(self) -> None:
        import contextlib

        with contextlib.suppress(Exception):  # an invalidated capture has to be ended, and says so
            self._stream.end_capture()

    def launch(self, times: int) -> None:
        """Advance the buffers so many passes, and wait for the last."""
        cupy = cupy_module()
        cupy.cuda.get_current_stream().synchronize()
        for _ in range(times):
            self._graph.launch(self._stream)
        self._stream.synchronize()


def _close(x: Array, y: Array) -> bool:
    a, b = to_host(x), to_host(y)
    tolerance = 1e3 * np.finfo(a.dtype).eps if a.dtype.kind == "f" else 0.0
    return bool(np.allclose(a, b, rtol=tolerance, atol=tolerance * float(np.max(np.abs(b), initial=0)), equal_nan=True))


def _on_gpu(x: Array) -> bool:
    return bool(array_namespace(x).__name__.endswith("cupy"))


def _pass_of(advance: Callable[[Carry], Carry], buffers: Carry) -> Repeated:
    """Capture a pass where the buffers are on a GPU; where that fails, say so once and repeat it."""
    if not _on_gpu(buffers[0]):
        return Repeated(advance, buffers)
    start = [b.copy() for b in buffers]
    try:
        return Graph(advance, buffers)
    except NotCaptured as error:
        logging.getLogger("orthotheory").warning("Steps are launched one by one, no CUDA graph holds them: %s", error)
        for buffer, x in zip(buffers, start, strict=True):
            buffer[...] = x
        return Repeated(advance, buffers)


@np.errstate(over="ignore", invalid="ignore")
def run(
    problem: Problem,
    method: Method,
    steps: int = 100,
    *,
    record: Sequence[str] | Mapping[str, loop.Recorder] = ("value", "gap", "gradient_norm"),
    every: int = 1,
    batch: tuple[int, ...] | None = None,
    seed: int | np.random.Generator = 0,
    start: Array | None = None,
) -> loop.Trace:
    """Run a method on a problem as `loop.run` does, from record to record without the host.

    Raises
    ------
    ValueError
        Where replayed runs do not serve the pair, with the reason.

    Notes
    -----
    The steps are those of `loop.run`, kernel by kernel, so that the numbers are the same up to the order in which a
    library sums. Capturing takes about as long as `min(every, 64)` steps, three times; record rarely.
    """
    check_number(steps, "steps", low=0)
    check_number(every, "every", low=1)
    if reason := why_not(problem, method):
        raise ValueError(f"Replayed runs do not serve this: {reason}. Use orthotheory.run.")
    recorders = record if isinstance(record, Mapping) else {n: closest(n, loop.RECORDERS, "record") for n in record}
    first = problem.start if start is None else start
    if isinstance(first, tuple):
        method = lift(method, len(first))
    w, batch = loop._first_weights(method, first, batch)
    oracle, _ = loop._oracles(problem, method)
    tree, size = (w, method.init(w)), len(batch)
    here = backend_of(leaves_of(w)[0])
    flags = [here.asarray(np.full(batch, -1, np.int64)), here.asarray(np.zeros((), np.int64))]
    buffers: Carry = [here.xp.asarray(leaf, copy=True) for leaf in leaves_of(tree)] + flags

    def step(carry: Carry) -> Carry:
        *leaves, lost, k = carry
        w, state = with_leaves(tree, leaves)
        grad = oracle(w)
        for odd, x in enumerate((w, grad)):
            lost = here.xp.where(loop._finite(x, size) | (lost >= 0), lost, 2 * k + odd)
        return [*leaves_of(method.step(w, grad, state)), lost, k + 1]

    def repeat(count: int) -> Callable[[Carry], Carry]:
        def several(carry: Carry) -> Carry:
            for _ in range(count):
                carry = step(carry)
            return carry

        return several

    length = max(d for d in range(1, min(every, LONGEST) + 1) if every % d == 0)
    setup = {"steps": steps, "every": every, "seed": seed, "batch": batch, "target": None, "engine": "replayed"}
    setup["start"] = "the problem's" if start is None else digest(start)
    kept: dict[str, list[np.ndarray]] = {name: [] for name in recorders}
    ks: list[int] = []
    stopped_by, began, k = "steps", time.perf_counter(), 0
    several: Repeated | None = None
    codes = np.full(batch, -1)
    try:
        while True:
            w, state = with_leaves(tree, buffers[:-2])
            grad = oracle(w)
            codes = to_host(buffers[-2])
            for odd, x in enumerate((w, grad)):
                codes = np.where(loop._non_finite(x, size) & (codes < 0), 2 * k + odd, codes)
            if codes.size and (codes >= 0).all():
                when, odd = divmod(int(codes.max()), 2)
                stopped_by = f"non-finite {('weights', 'gradient')[odd]} at step {when}"
                break
            following = method.step(w, grad, state)[0] if k < steps and loop.NEEDS_STEP & set(recorders) else None
            moment = loop.Moment(problem, method, w, grad, None if following is None else loop._minus(following, w))
            for name, recorder in recorders.items():
                missing = following is None and name in loop.NEEDS_STEP
                kept[name].append(np.full(batch, np.nan) if missing else to_host(recorder(moment)))
            ks.append(k)
            if k == steps:
                break
            if k + every <= steps:
                several = several or _pass_of(repeat(length), buffers)
                several.launch(every // length)
            else:
                Repeated(step, buffers).launch(steps - k)
            k = min(k + every, steps)
    except KeyboardInterrupt:
        stopped_by = f"interrupted at step {k}"
    non_finite_at = np.where(codes >= 0, codes // 2, -1)
    return loop._trace(problem, method, ks, kept, stopped_by, non_finite_at, began, setup)
