"""Whole runs in compiled code: one thread carries a run through all its steps, its matrices in the nearest cache.

The program is recorded from the problem's own `grad` and the method's own `update`, so that every method whose step
consists of entry-wise operations, sums and maxima over a matrix, and polynomials in its Gram matrix is served.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from . import loop
from .arrays import Array, check_number, generator
from .kernels import compiled
from .kernels.recording import Program, Symbol, Unrecordable
from .methods import BlockMethod, Method
from .methods.contract import RANGES, leaves_of, with_leaves
from .names import closest
from .problems import Problem
from .problems.noise import Gaussian, HeavyTailed, LowRank
from .storage import array_digest

LONGEST = 256  # side of a matrix; beyond, a BLAS is as fast
ADDITIVE = (Gaussian, HeavyTailed, LowRank)  # noise that does not look at the gradient
NOISE_BYTES = 2**25
OF_WEIGHTS = {"value", "gap", "distance", "weight_norm", "weight_spectral", "iterate"}  # recorders without a gradient


def why_not(problem: Problem, method: Method) -> str:
    """Return why compiled runs do not serve a problem and a method, "" where they do."""
    program = _recorded(problem, method)
    return program if isinstance(program, str) else ""


def _recorded(problem: Problem, method: Method) -> Program | str:
    """Return the program of a step, or why there is none."""
    if not compiled():
        return "numba is not installed (the extra `fast`)"
    if isinstance(method, BlockMethod) or method.oracle != "grad" or type(problem.start) is not np.ndarray:
        return "compiled runs are of one NumPy matrix and its gradient"
    if problem.noise is not None and type(problem.noise) not in ADDITIVE:
        return f"{type(problem.noise).__name__} noise is not additive"
    if problem.start.ndim != 2 or max(problem.start.shape) > LONGEST:
        return f"compiled runs are of one matrix with sides up to {LONGEST}"
    try:
        return record_step(problem, method)
    except (Unrecordable, TypeError, ValueError, AttributeError, NotImplementedError) as error:
        return f"{type(method).__name__} on {type(problem).__name__}: {error}"


def serves(problem: Problem, method: Method) -> bool:
    """Say whether `run` takes a problem and a method; `why_not` says why it does not."""
    return not why_not(problem, method)


def record_step(problem: Problem, method: Method) -> Program:
    """Record one step: gradient, noise, update."""
    m, n = problem.start.shape
    program = Program(m, n, problem.start.dtype)
    w = program.matrix("w")
    grad = problem.grad(w)
    if problem.noise is not None:
        grad = grad + program.matrix("noise")
    record_update(program, method, w, grad, problem.start)
    _record_health(program, w, grad)
    return program


def record_look(problem: Problem, method: Method, names: Sequence[str]) -> tuple[Program, list[str]]:
    """Record what is looked at between steps; return also the names of those recorders that a program can compute."""
    m, n = problem.start.shape
    program = Program(m, n, problem.start.dtype)
    w = program.matrix("w")
    grad = problem.grad(w)
    served = []
    for name in names:
        try:
            program.result(name, loop.RECORDERS[name](loop.Moment(problem, method, w, grad, None)))
            served.append(name)
        except (Unrecordable, TypeError, ValueError, AttributeError, NotImplementedError):
            continue  # the reference computes it, or says why it cannot
    _record_health(program, w, grad)
    return program, served


def _record_health(program: Program, w: Symbol, grad: Symbol) -> None:
    """Watch for the first non-finite number: 0 x is zero, or poisons its sum."""
    for name, symbol in (("bad weights", w), ("bad gradient", grad)):
        poison = (symbol * 0.0).__array_namespace__().sum(symbol * 0.0, axis=(-2, -1))
        program.outputs.append((name, poison.index))


def record_update(program: Program, method: Method, w: Symbol, grad: Symbol, like: np.ndarray) -> None:
    """Record the step of a method from the gradient on; outputs are "w" and "state 0", "state 1", ..."""
    copy = object.__new__(type(method))  # past __init__: the values are checked already
    arrays = {k: program.scalar(k) for k, v in method.config().items() if k in RANGES and np.ndim(v)}
    copy.__dict__.update({**method.__dict__, **arrays})
    before = method.init(like)
    state = with_leaves(before, (_symbol_of(program, i, leaf) for i, leaf in enumerate(leaves_of(before))))
    following, after = copy.update(w, grad, state)
    for i, (old, new) in enumerate(zip(leaves_of(before), leaves_of(after), strict=True)):
        if isinstance(old, np.ndarray):
            program.output(f"state {i}", new)
        elif not (isinstance(new, Symbol) and new.index == (program.step() + 1).index):
            raise Unrecordable("a count in the state that is not that of the steps")
    program.output("w", following)


def _zero_states(method: Method, problem: Problem) -> list[str]:
    """Return which matrices of a method's state are zero at first, whatever the weights."""
    m, n = problem.start.shape
    program = Program(m, n, problem.start.dtype)
    try:
        leaves = leaves_of(method.init(program.matrix("w")))  # type: ignore[arg-type]
    except (Unrecordable, TypeError, AttributeError):
        return []
    zero = program.number(0.0).index
    return [
        f"state {i}"
        for i, leaf in enumerate(leaves)
        if isinstance(leaf, Symbol) and leaf.node.op == "fill" and leaf.node.args == (zero,)
    ]


def _symbol_of(program: Program, i: int, leaf: Any) -> Symbol:
    if isinstance(leaf, np.ndarray) and leaf.shape == (program.rows, program.columns) and leaf.dtype == program.dtype:
        return program.matrix(f"state {i}")
    if type(leaf) is int and leaf == 0:
        return program.step()
    raise Unrecordable("a state that is neither a matrix like the weights nor the number of steps")


class _NoGradient:
    """A problem without a gradient, of which the noise alone is left."""

    def grad(self, w: Array) -> Array:
        return np.zeros_like(w)


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
    threads: int | None = None,
) -> loop.Trace:
    """Run a method on a problem as `loop.run` does, in compiled code; the same numbers to rounding, and the same noise.

    Parameters
    ----------
    threads : int, optional
        By default OMP_NUM_THREADS, or the processors of this process.

    Raises
    ------
    ValueError
        Where compiled runs do not serve the pair, with the reason.

    Notes
    -----
    Values, gaps, distances and norms that need no singular values are computed by a program too; what else is recorded
    is computed by the reference from the iterates, so record it rarely where speed matters. A program is compiled once
    a process for each shape and method, in 0.1 to 1 s; hyper-parameters do not enter the code.
    """
    from .kernels.programs import CompiledProgram
    from .kernels.programs import threads as available

    check_number(steps, "steps", low=0)
    check_number(every, "every", low=1)
    program = _recorded(problem, method)
    if isinstance(program, str):
        raise ValueError(f"Compiled runs do not serve this: {program}. Use orthotheory.run.")
    recorders = record if isinstance(record, Mapping) else {n: closest(n, loop.RECORDERS, "record") for n in record}
    w = problem.start if start is None else start
    if batch is None:
        batch = np.broadcast_shapes(*method.batch_shapes(), w.shape[:-2])
    w, batch = np.broadcast_to(w, (*batch, *w.shape[-2:])), tuple(batch)
    method._broadcast(w)  # refuses hyper-parameters that do not fit
    rng, count, workers = generator(seed), max(int(np.prod(batch)), 0), threads or available()
    setup = {"steps": steps, "every": every, "seed": seed, "batch": batch, "target": None, "engine": "compiled"}
    setup["start"] = "the problem's" if start is None else array_digest(start)
    began = time.perf_counter()
    named = list(recorders) if isinstance(record, Sequence) else []
    look, served = record_look(problem, method, [name for name in named if name not in loop.NEEDS_STEP])
    code, eye = CompiledProgram(program), CompiledProgram(look)
    wide = lambda x: np.broadcast_to(x, w.shape)  # noqa: E731
    arrays = {"w": code.pack(w), **{name: code.zeros(count) for name in _zero_states(method, problem)}}
    if any(name.startswith("state") and name not in arrays for name in code.names):
        arrays |= {f"state {i}": code.pack(wide(x)) for i, x in enumerate(leaves_of(method.init(w))) if np.ndim(x)}
    hyper = {k: np.broadcast_to(getattr(method, k), batch).reshape(count) for k in code.program.scalars}
    scalars, nothing = code.pack_scalars(hyper, count), eye.pack_scalars({}, count)
    codes = np.full(len(scalars) * code.lanes, -1, np.int64)
    seen = {name: np.empty(len(codes), w.dtype) for name in served}
    weights = lambda: code.unpack(arrays["w"], count).reshape(*batch, *w.shape[-2:])  # noqa: E731
    others = {name: recorder for name, recorder in recorders.items() if name not in served}
    peek = not isinstance(record, Sequence) or bool(loop.NEEDS_STEP & set(recorders))
    longest = max(1, NOISE_BYTES // max(arrays["w"].nbytes, 1)) if problem.noise is not None else steps
    kept: dict[str, list[np.ndarray]] = {name: [] for name in recorders}
    ks: list[int] = []
    stopped_by, k = "steps", 0
    with ThreadPoolExecutor(workers) as pool:
        try:
            while count:
                recorded = k % every == 0 or k == steps
                if recorded:
                    eye({"w": arrays["w"], **seen}, nothing, k, k + 1, codes, pool, workers)
                    row = {name: seen[name][:count].reshape(batch).copy() for name in served}
                    here = weights() if others else None
                    grad = problem.grad(here) if others and not set(others) <= OF_WEIGHTS else None
                if (codes[:count] >= 0).all():
                    when, odd = divmod(int(codes[:count].max()), 2)
                    stopped_by = f"non-finite {('weights', 'gradient')[odd]} at step {when}"
                    break
                ahead = 1 if peek and recorded else min(longest, every - k % every)
                following = min(k + ahead, steps)
                if following > k:
                    if problem.noise is not None:
                        draws = [problem.noise(_NoGradient(), w, rng) for _ in range(k, following)]
                        arrays["noise"] = np.stack([code.pack(wide(x)) for x in draws])
                    code(arrays, scalars, k, following, codes, pool, workers)
                if recorded and others:
                    taken = weights() - here if peek and following > k else here if following > k else None
                    moment = loop.Moment(problem, method, here, grad, taken)
                    for name, recorder in others.items():
                        missing = moment.step is None and name in loop.NEEDS_STEP
                        row[name] = np.full(batch, np.nan) if missing else loop.to_host(recorder(moment))
                if recorded:
                    ks.append(k)
                    for name in recorders:
                        kept[name].append(row[name])
                if k == steps:
                    break
                k = following
        except KeyboardInterrupt:
            stopped_by = f"interrupted at step {k}"
    if stopped_by.startswith("non-finite"):  # the step that met it may have been recorded before it was taken
        ks = [step for step in ks if step < when]
        kept = {name: values[: len(ks)] for name, values in kept.items()}
    found = codes[:count].reshape(batch)
    non_finite_at = np.where(found >= 0, found // 2, -1)
    return loop._trace(problem, method, ks, kept, stopped_by, non_finite_at, began, setup)
