"""The one loop: run(problem, method, steps) -> Trace."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from .arrays import Array, array_namespace, check_number, frobenius, generator, inner, to_host
from .methods import Method, lift
from .names import closest
from .norms import Norm, Nuclear, ProductMax, Spectral
from .problems import Problem
from .storage import array_digest, plain, read_table, write_table


class Moment(NamedTuple):
    """What a recorder sees: before step k, with the step that follows (None after the last).

    On a problem of several matrices `w`, `grad` and `step` are tuples.
    """

    problem: Problem
    method: Method
    w: Array
    grad: Array
    step: Array | None


Recorder = Callable[[Moment], Array]


def _gap(t: Moment) -> Array:
    if t.problem.optimal_value is None:
        raise ValueError(f"The minimum of {type(t.problem).__name__} is not known; record 'value' instead of 'gap'.")
    return t.problem.value(t.w) - t.problem.optimal_value


def _blocks(x: Array) -> tuple[Array, ...]:
    return x if isinstance(x, tuple) else (x,)


def _minus(x: Array, y: Array) -> Array:
    return tuple(a - b for a, b in zip(x, y, strict=True)) if isinstance(x, tuple) else x - y


def _frobenius(x: Array) -> Array:
    if not isinstance(x, tuple):
        return frobenius(x)
    return array_namespace(*x).sqrt(sum(frobenius(b) ** 2 for b in x))


def _largest_spectral(x: Array) -> Array:
    values = [Spectral().value(b) for b in _blocks(x)]
    return functools.reduce(array_namespace(*values).maximum, values)


def _flat(x: Array) -> Array:
    if not isinstance(x, tuple):
        return x
    xp = array_namespace(*x)
    return xp.concat([xp.reshape(b, (*b.shape[:-2], b.shape[-2] * b.shape[-1])) for b in x], axis=-1)


def _step_curvature(t: Moment) -> Array:
    return t.problem.curvature(t.step)  # type: ignore[attr-defined]


def _stationarity(t: Moment) -> Array:
    from .surgery.mgda import MGDA

    rows = t.problem.jacobian(t.w)  # type: ignore[attr-defined]
    flat = array_namespace(rows).reshape(rows, (*rows.shape[:-2], rows.shape[-2] * rows.shape[-1]))
    return frobenius(MGDA()(flat)[..., None])


def _norm(t: Moment):
    norm = t.method.norm
    return ProductMax((norm,) * len(t.w)) if isinstance(t.w, tuple) and isinstance(norm, Norm) else norm


RECORDERS: dict[str, Recorder] = {
    "value": lambda t: t.problem.value(t.w),
    "gap": _gap,
    "distance": lambda t: _frobenius(_minus(t.w, t.problem.optimum)),
    "gradient_norm": lambda t: _norm(t).dual(t.grad),
    "gradient_frobenius": lambda t: _frobenius(t.grad),
    "gradient_nuclear": lambda t: sum(Nuclear().value(g) for g in _blocks(t.grad)),
    "gradient_inner": lambda t: sum(inner(g, w) for g, w in zip(_blocks(t.grad), _blocks(t.w), strict=True)),
    "weight_norm": lambda t: _norm(t).value(t.w),
    "weight_spectral": lambda t: _largest_spectral(t.w),
    "step_norm": lambda t: _norm(t).value(t.step),
    "step_curvature": _step_curvature,
    "accuracy": lambda t: t.problem.accuracy(t.w),  # type: ignore[attr-defined]
    "iterate": lambda t: _flat(t.w),  # of a tuple: all entries in a row
    "values": lambda t: t.problem.values(t.w),  # type: ignore[attr-defined]
    "pareto_distance": lambda t: t.problem.pareto_distance(t.w),  # type: ignore[attr-defined]
    "stationarity": _stationarity,
}
NEEDS_STEP = {"step_norm", "step_curvature"}
NEEDS_OBJECTIVES = {"values", "pareto_distance", "stationarity"}  # of a problem with several


@dataclass(frozen=True)
class Trace:
    """What a run recorded: host arrays by name, shape (records, *batch), and how it came about.

    Attributes
    ----------
    k : array (records,)
        Step numbers; records are taken before the step, the last one after the last step.
    records : dict of arrays
        By recorder name; `trace["gap"]` is short for `trace.records["gap"]`.
    stopped_by : str
        "steps", "target", "interrupted at step k", or "non-finite <quantity> at step k".
    non_finite_at : int array (*batch)
        The step at which a run of the batch first met a non-finite number, -1 for none.
    """

    problem: Any
    method: Any
    k: np.ndarray
    records: dict[str, np.ndarray]
    stopped_by: str
    non_finite_at: np.ndarray
    seconds: float
    config: Mapping[str, Any] = field(default_factory=dict)

    def __getitem__(self, name: str) -> np.ndarray:
        return closest(name, self.records, "record")

    def __contains__(self, name: str) -> bool:
        return name in self.records

    @property
    def steps(self) -> int:
        """Steps actually taken, up to the last record."""
        return int(self.k[-1]) if len(self.k) else 0

    def to_pandas(self):
        """Return a table with one row per recorded step and run; matrices are left out."""
        import pandas

        scalars = {n: v for n, v in self.records.items() if v.shape[1:] == self.non_finite_at.shape}
        runs = self.non_finite_at.size  # 1 where there is no batch axis
        columns: dict[str, np.ndarray] = {"k": np.repeat(self.k, runs)}
        if self.non_finite_at.ndim:
            columns["run"] = np.tile(np.arange(runs), len(self.k))
        columns |= {name: values.reshape(-1) for name, values in scalars.items()}
        return pandas.DataFrame(columns)

    def write(self, folder: str | Path) -> Path:
        """Write trace.parquet and its manifest trace.json atomically; return the table's path."""
        path = Path(folder) / "trace.parquet"
        outcome = {"stopped_by": self.stopped_by, "seconds": self.seconds}
        write_table(path, self.to_pandas(), {"config": self.config, **outcome})
        return path

    @staticmethod
    def read(folder: str | Path):
        """Return (table, manifest) of a written trace; refuses a half-written one."""
        return read_table(Path(folder) / "trace.parquet")


@np.errstate(over="ignore", invalid="ignore")  # overflow is reported below, with its step
def run(
    problem: Problem,
    method: Method,
    steps: int = 100,
    *,
    record: Sequence[str] | Mapping[str, Recorder] = ("value", "gap", "gradient_norm"),
    every: int = 1,
    batch: tuple[int, ...] | None = None,
    seed: int | np.random.Generator = 0,
    start: Array | None = None,
    target: float | None = None,
    progress: bool = False,
) -> Trace:
    """Run a method on a problem and record what happens.

    Parameters
    ----------
    steps : int
        Number of steps.
    record : names of `RECORDERS`, or a mapping from names to functions of a `Moment`
        What to keep; the last record of a quantity that needs a following step is NaN.
    every : int
        Record each so many steps, and after the last.
    batch : tuple of int, optional
        Batch axes in front of the weights; by default the joint shape of array hyper-parameters.
    seed : int or generator
        Seed of the gradient noise.
    start : array (..., m, n) or tuple of arrays, optional
        First weights instead of `problem.start`.
    target : float, optional
        Stop once the gap of every run is at most this.
    progress : bool
        Show a bar (needs tqdm).

    Notes
    -----
    On a problem whose start is a tuple of matrices a method of one matrix acts on each block (`methods.lift`).
    A non-finite number ends a run, says at which step and in which quantity, and keeps what was recorded; in
    a batch the other runs go on. On a GPU this is looked at where something is recorded and every 64 steps, in one
    transfer, so that steps in between wait for nothing. An interrupt (Ctrl-C) likewise returns what there is.

    >>> from orthotheory import methods, problems
    >>> trace = run(problems.make("quadratic", rows=4, columns=4), methods.make("gd", lr=1.0), 50)
    >>> trace.stopped_by, bool(trace["gap"][-1] < trace["gap"][0])
    ('steps', True)
    """
    check_number(steps, "steps", low=0)
    check_number(every, "every", low=1)
    recorders = record if isinstance(record, Mapping) else {n: closest(n, RECORDERS, "record") for n in record}
    first = problem.start if start is None else start
    if isinstance(first, tuple):
        method = lift(method, len(first))
    w, batch = _first_weights(method, first, batch)
    oracle, noisy_oracle = _oracles(problem, method)
    rng = generator(seed)
    state = method.init(w)
    setup = {"steps": steps, "every": every, "seed": seed, "batch": batch, "target": target}
    setup["start"] = "the problem's" if start is None else array_digest(start)
    kept: dict[str, list[np.ndarray]] = {name: [] for name in recorders}
    ks: list[int] = []
    watch = _Watch(batch)
    stopped_by, began = "steps", time.perf_counter()
    bar = _bar(steps, type(method).__name__, progress)
    try:
        for k in range(steps + 1):
            # a noisy run meets the exact gradient, which may be dear, only where something is recorded
            exact = problem.noise is None or k % every == 0 or k == steps or target is not None
            grad = oracle(w) if exact else noisy_oracle(w, rng)
            recorded = k % every == 0 or k == steps or target is not None
            watch.look(k, w, grad)
            if (recorded or watch.due) and (lost := watch.settle()):
                return _trace(problem, method, ks, kept, lost, watch.non_finite_at, began, setup)
            following = None
            if k < steps:
                noisy = noisy_oracle(w, rng) if exact and problem.noise is not None else grad
                following, next_state = method.step(w, noisy, state)
            reached = target is not None and bool(np.all(to_host(problem.value(w) - problem.optimal_value) <= target))
            if k % every == 0 or k == steps or reached:
                moment = Moment(problem, method, w, grad, None if following is None else _minus(following, w))
                for name, recorder in recorders.items():
                    missing = moment.step is None and name in NEEDS_STEP
                    kept[name].append(np.full(batch, np.nan) if missing else to_host(recorder(moment)))
                ks.append(k)
            if reached:
                stopped_by = "target"
                break
            if following is not None:
                w, state = following, next_state
                bar.update()
    except KeyboardInterrupt:
        stopped_by = f"interrupted at step {k}"
    finally:
        bar.close()
    watch.settle()
    return _trace(problem, method, ks, kept, stopped_by, watch.non_finite_at, began, setup)


def _oracles(problem: Problem, method: Method):
    """Return the gradient and its noisy version: of the problem, or of each of its objectives (a Jacobian)."""
    if not hasattr(problem, method.oracle):
        raise TypeError(
            f"{type(method).__name__} needs a problem with several objectives (a {method.oracle}); got "
            f"{type(problem).__name__}. See 'orthotheory problems'."
        )
    return getattr(problem, method.oracle), getattr(problem, f"noisy_{method.oracle}")


def _trace(problem, method, ks, kept, stopped_by, non_finite_at, began, setup) -> Trace:
    whole = min((len(v) for v in kept.values()), default=0)  # an interrupt may fall between two recorders
    records = {name: np.asarray(values[:whole]) for name, values in kept.items()}
    config = {
        "problem": dict(problem.config) or repr(problem),
        "noise": repr(problem.noise),
        "method": {"class": type(method).__name__, **method.config()},
        **setup,
    }
    seconds = time.perf_counter() - began
    return Trace(
        problem, method, np.asarray(ks[:whole], dtype=int), records, stopped_by, non_finite_at, seconds, plain(config)
    )


class _Watch:
    """Which runs of a batch met a non-finite number, and when; a device is asked as rarely as the records allow."""

    PATIENCE = 64  # steps that runs which are all lost may go on unnoticed on a device

    def __init__(self, batch: tuple[int, ...]):
        self.non_finite_at = np.full(batch, -1)
        self._seen: list[tuple[int, str, Array]] = []

    def look(self, k: int, weights: Array, gradient: Array) -> None:
        """Note what is finite at step k, where the arrays live."""
        for quantity, x in (("weights", weights), ("gradient", gradient)):
            self._seen.append((k, quantity, _finite(x, self.non_finite_at.ndim)))

    @property
    def due(self) -> bool:
        """Whether to settle now: at every step on the host, where looking costs nothing."""
        return len(self._seen) >= 2 * self.PATIENCE or isinstance(self._seen[-1][2], np.ndarray | np.generic)

    def settle(self) -> str:
        """Bring what was noted to the host, in one crossing; return why the runs are over, or ""."""
        seen, self._seen = self._seen, []
        flags = [finite for _, _, finite in seen]
        if flags and not isinstance(flags[0], np.ndarray | np.generic):
            flags = list(to_host(array_namespace(*flags).stack(flags)))
        for (k, quantity, _), finite in zip(seen, flags, strict=True):
            if finite.all():
                continue
            self.non_finite_at = np.where(~finite & (self.non_finite_at < 0), k, self.non_finite_at)
            if (self.non_finite_at >= 0).all():
                return f"non-finite {quantity} at step {k}"
        return ""


def _finite(x: Array, batch_axes: int) -> Array:
    """Return whether each run of the batch is finite, where the arrays live."""
    flags = (array_namespace(b).isfinite(b) for b in _blocks(x))
    whole = [array_namespace(f).all(f, axis=tuple(range(batch_axes, f.ndim))) for f in flags]
    return functools.reduce(lambda f, g: f & g, whole)


def _non_finite(x: Array, batch_axes: int) -> np.ndarray:
    return ~to_host(_finite(x, batch_axes))


def _first_weights(method, w, batch):
    if batch is None:
        batch = np.broadcast_shapes(*method.batch_shapes(), *(b.shape[:-2] for b in _blocks(w)))
    whole = tuple(
        array_namespace(b).broadcast_to(b, (*batch, *b.shape[-2:])) + array_namespace(b).zeros_like(b)
        for b in _blocks(w)
    )
    return (whole if isinstance(w, tuple) else whole[0]), tuple(batch)


class _Silent:
    def update(self) -> None:
        pass

    def close(self) -> None:
        pass


def _bar(total: int, label: str, wanted: bool):
    if not wanted:
        return _Silent()
    from tqdm import tqdm

    return tqdm(total=total, desc=label, unit="step", dynamic_ncols=True)
