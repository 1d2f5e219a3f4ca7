"""Every method on equal terms: one rule for the learning rate, the same problems and seeds, cost beside steps.

The protocol, the same for every method and problem:

1. Constant learning rate, no weight decay, every other hyper-parameter at its default.
2. Rates 10^(j/3) from 1e-3 to 10 on tuning seeds. While the best rate is the smallest or the largest, the grid grows
   by a decade on that side, at most `extensions` times; a best rate that still lies at the edge is flagged.
3. Equal budget: the rate with the smallest median of the final loss, the mean over the last fifth of the run of
   f - f* in units of its first value. Equal stationary loss: the rate that is soonest at or below the level of the
   problem and stays there to the end of the run.
4. Both rates run again on fresh seeds, which alone are reported: starts and noise that no choice has seen. Start and
   noise belong to the seed: every method and rate begins at the same weights and meets the same draws.
5. A method whose state holds more than `MOST_STATE` numbers a weight on a problem is not run there: a row with its
   reason.
6. A run that meets a non-finite number, ends above its start or raises is a row with its reason and loses to others.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from . import counting, methods, problems
from .arrays import generator
from .comparison_tasks import TASKS as TASKS
from .comparison_tasks import Task as Task
from .methods import Method
from .ranking import Standing as Standing
from .ranking import standing as standing
from .sweep import Sweep, run_sweep
from .sweep.analyse import steps_to
from .sweep.config import LOSS, rate
from .sweep.execute import build_problem

FLOOR = 1e-16  # a relative loss below the rounding error of its computation is not resolved
MOST_STATE = 100  # numbers a weight: a dense preconditioner of all weights, or a window of a thousand gradients
NOT_RUN = "not run: a state of {:.0f} numbers a weight"
RULES = ("budget", "level")


class NotComparable(ValueError):
    """A method that the protocol cannot run; the message says why."""


@dataclass(frozen=True)
class Protocol:
    """How many rates and seeds; the defaults are the paper's."""

    per_decade: int = 3
    lowest: int = -3
    highest: int = 1
    extensions: int = 3
    tuning_seeds: int = 5
    seeds: int = 20

    def grid(self) -> list[int]:
        """Return the first grid, as the j of the rates 10^(j / per_decade)."""
        return list(range(self.lowest * self.per_decade, self.highest * self.per_decade + 1))

    def rate(self, j: Any) -> Any:
        """Return the learning rates of grid points."""
        return np.vectorize(lambda i: rate(int(i), self.per_decade), otypes=[float])(j)


PAPER = Protocol()
SMOKE = Protocol(per_decade=1, extensions=1, tuning_seeds=2, seeds=3)


@dataclass(frozen=True)
class Outcome:
    """One method on one problem.

    Attributes
    ----------
    rates : array (R,)
        All rates that were tried.
    tuned, diverged : array (R,)
        Median final loss on the tuning seeds, and how many of them diverged.
    reasons : tuple of str (R,)
        Why the first diverged run of each rate did; empty where none did.
    chosen : dict
        The rate by rule; NaN for "level" where no rate reached it.
    at_edge : dict
        Whether that rate lies at the edge of the grid, after all extensions.
    final, steps_to_level : dict of arrays (seeds,)
        By rule, on the fresh seeds: final loss in units of the first, infinite where diverged; the first recorded
        step from which the loss stays at or below the level, infinite where there is none.
    failed : dict
        Why the first diverged fresh seed did, by rule.
    """

    method: str
    task: str
    rates: np.ndarray
    tuned: np.ndarray
    diverged: np.ndarray
    reasons: tuple[str, ...]
    chosen: dict[str, float]
    at_edge: dict[str, bool]
    final: dict[str, np.ndarray]
    steps_to_level: dict[str, np.ndarray]
    failed: dict[str, str]


def participant(name: str, lr: Any, **hyper: Any) -> Method:
    """Return the method of a name as the protocol runs it; other hyper-parameters only where a claim is about them.

    Raises NotComparable for one without a learning rate, or that cannot be built from it alone.
    """
    try:
        return methods.make(**_setup(name, **hyper), lr=lr)
    except NotComparable:
        raise
    except (TypeError, ValueError) as error:
        raise NotComparable(f"{name} cannot be built from a learning rate alone: {error}") from error


def _setup(name: str, **hyper: Any) -> dict[str, Any]:
    """Return the configuration of a method without its learning rate."""
    fields = {field.name for field in dataclasses.fields(methods.TABLE[name].method)}
    if "lr" not in fields:
        raise NotComparable(f"{name} has no learning rate.")
    return {"name": name, **({"weight_decay": 0.0} if "weight_decay" in fields else {}), **hyper}


def tuning(protocol: Protocol | None = None) -> Sweep:
    """Return the first grid of the protocol, with what rule 5 leaves out, as a sweep: `figures/sweeps/zoo.toml`."""
    protocol = protocol or PAPER
    lr = {"from": rate(protocol.lowest * protocol.per_decade, protocol.per_decade),
          "to": rate(protocol.highest * protocol.per_decade, protocol.per_decade),
          "per_decade": protocol.per_decade}  # fmt: skip
    runs = {}
    for m in participants()[0]:
        large = [t.label for t in TASKS if _state_on(m, t) > MOST_STATE]
        runs[m] = {**_setup(m), "lr": lr, **({"not_on": large} if large else {})}
    return Sweep({t.label: t.problem_of_a_sweep() for t in TASKS}, runs, seeds=protocol.tuning_seeds)


def participants(names: Iterable[str] | None = None) -> tuple[list[str], dict[str, str]]:
    """Return the methods that take part, and why the others do not."""
    taking_part, left_out = [], {}
    for name in methods.names() if names is None else names:
        try:
            method = participant(name, 1.0)
            if (size := _state_size(method, np.zeros((8, 8)))) > MOST_STATE:
                raise NotComparable(f"{name} keeps {size:.0f} numbers a weight even of a small matrix.")
            taking_part.append(name)
        except NotComparable as error:
            left_out[name] = str(error)
    return taking_part, left_out


def compare(name: str, task: Task, protocol: Protocol = PAPER, **hyper: Any) -> Outcome:
    """Tune a method on a problem and report it on fresh seeds, by the rules of this module."""
    return compare_all([name], [task], protocol, hyper=hyper)[name, task.label]


def compare_all(
    names: Iterable[str],
    tasks: Iterable[Task],
    protocol: Protocol = PAPER,
    *,
    hyper: Mapping[str, Any] | None = None,
    folder: str | Path | None = None,
    jobs: int = 1,
) -> dict[tuple[str, str], Outcome]:
    """Compare methods on problems: each round, of the first grid, of extensions and of fresh seeds, is one sweep.

    Parameters
    ----------
    hyper : mapping, optional
        Hyper-parameters of all methods other than their defaults.
    folder, jobs
        Of `sweep.run_sweep`: with a folder a comparison that is killed goes on where it was.

    Returns
    -------
    dict
        From (method, label of the problem) to its `Outcome`.
    """
    measure = _Measure([(name, task) for task in tasks for name in names], protocol, dict(hyper or {}), folder, jobs)
    found: dict[int, dict[int, _Measured]] = {i: {} for i in range(len(measure.pairs))}
    new = {i: protocol.grid() for i in found}
    for extension in range(protocol.extensions + 1):
        for i, rates in measure(new, range(protocol.tuning_seeds)).items():
            found[i] |= rates
        new = {i: beyond for i in new if (beyond := _beyond(found[i], protocol))}
        if extension == protocol.extensions or not new:
            break
    best = {i: {rule: _best(rates, rule) for rule in RULES} for i, rates in found.items()}
    picks = {i: [j for j in dict.fromkeys(chosen.values()) if j is not None] for i, chosen in best.items()}
    reported = measure(picks, range(protocol.tuning_seeds, protocol.tuning_seeds + protocol.seeds))
    return {
        (name, task.label): _outcome(name, task, protocol, found[i], best[i], reported[i])
        for i, (name, task) in enumerate(measure.pairs)
    }


def _beyond(measured: Mapping[int, _Measured], protocol: Protocol) -> list[int]:
    """Return the grid points next to a best rate at the edge; none for a method that loses every run."""
    grid, best, step = sorted(measured), [_best(measured, rule) for rule in RULES], protocol.per_decade
    if not any(np.isfinite(m.final).any() for m in measured.values()):
        return []
    below = [grid[0] - step + i for i in range(step)] if grid[0] in best else []
    return below + ([grid[-1] + 1 + i for i in range(step)] if grid[-1] in best else [])


def _outcome(name, task, protocol, measured, best, fresh) -> Outcome:
    grid = sorted(measured)
    reported = {rule: fresh[best["budget"] if j is None else j] for rule, j in best.items()}
    if best["level"] is None:
        reported["level"] = _Measured.lost(protocol.seeds, "no rate reached the level")
    return Outcome(
        method=name,
        task=task.label,
        rates=protocol.rate(grid),
        tuned=np.array([np.median(measured[j].final) for j in grid]),
        diverged=np.array([sum(map(bool, measured[j].reasons)) for j in grid]),
        reasons=tuple(next(filter(None, measured[j].reasons), "") for j in grid),
        chosen={rule: np.nan if j is None else float(protocol.rate(j)) for rule, j in best.items()},
        at_edge={rule: j in (grid[0], grid[-1]) for rule, j in best.items()},
        final={rule: m.final for rule, m in reported.items()},
        steps_to_level={rule: m.steps_to_level for rule, m in reported.items()},
        failed={rule: next(filter(None, m.reasons), "") for rule, m in reported.items()},
    )


def table(outcomes: Iterable[Outcome]):
    """Return one row per method, problem, phase, rate (and seed, where reported), with the reason of diverged runs."""
    import pandas

    rows: list[dict[str, Any]] = []
    for o in outcomes:
        head = {"method": o.method, "task": o.task}
        for lr, final, diverged, reason in zip(o.rates, o.tuned, o.diverged, o.reasons, strict=True):
            rows.append({**head, "phase": "tuning", "lr": lr, "final": final, "diverged": diverged, "reason": reason})
        for rule in RULES:
            for seed, (final, steps) in enumerate(zip(o.final[rule], o.steps_to_level[rule], strict=True)):
                found = {"lr": o.chosen[rule], "seed": seed, "final": final, "steps to level": steps}
                lost = {"diverged": int(not final <= 1), "reason": o.failed[rule] if not final <= 1 else ""}
                rows.append({**head, "phase": rule, **found, "at edge": o.at_edge[rule], **lost})
    return pandas.DataFrame(rows)


@dataclass(frozen=True)
class Cost:
    """What one step of a method costs on a square matrix: n x n x n products, factorizations, and both in products."""

    products: float
    factorizations: float
    total: float


def cost(name: str, *, side: int = 32, steps: int = 20) -> Cost:
    """Count the mean cost of a step over the first `steps`; entrywise work, of lower order in n, is left out."""
    rng = generator(0)
    w = rng.standard_normal((1, side, side)).view(counting.CountingArray)
    method = participant(name, 1e-3)
    state = method.init(w)
    counting.reset()
    for _ in range(steps):
        w, state = method.step(w, rng.standard_normal((1, side, side)).view(counting.CountingArray), state)
    count, unit = counting.CountingArray, 2.0 * side**3 * steps
    return Cost(count.products / unit, count.factorizations / steps, (count.products + count.factored) / unit)


def update_conditions(
    name: str, *, shape: tuple[int, int] = (16, 12), condition: float = 1e3, steps: int = 20, seeds: int = 20
) -> np.ndarray:
    """Return the condition number of the last of some steps along one constant gradient, shape (seeds).

    Every method sees the same gradients: log-spaced singular values, random singular vectors. Their average is
    the gradient, so that the condition number of the momentum is that of the gradient. Infinite for an update without
    full rank.
    """
    drawn = []
    for seed in range(seeds):
        rng = generator(seed)
        u, v = (problems.orthogonal(k, rng)[:, : min(shape)] for k in shape)
        drawn.append(((u * problems.log_spectrum(min(shape), condition)) @ v.T, rng.standard_normal(shape)))
    grad, w = (np.array(x) for x in zip(*drawn, strict=True))
    method = participant(name, 1e-2)
    state = method.init(w)
    for _ in range(steps):
        before = w
        w, state = method.step(w, grad, state)
    s = np.linalg.svd(w - before, compute_uv=False)
    lost = s[:, -1] <= 1e3 * np.finfo(float).eps * np.maximum(s[:, 0], np.abs(w).max(axis=(1, 2)))
    return np.where(lost, np.inf, s[:, 0] / np.where(lost, 1.0, s[:, -1]))


@dataclass(frozen=True)
class _Measured:
    """One rate on several seeds."""

    final: np.ndarray
    steps_to_level: np.ndarray
    reasons: tuple[str, ...]

    @staticmethod
    def lost(seeds: int, reason: str) -> _Measured:
        """Return what counts where nothing was reached."""
        return _Measured(np.full(seeds, np.inf), np.full(seeds, np.inf), (reason,) * seeds)


def _best(measured: Mapping[int, _Measured], rule: str) -> int | None:
    """Return the grid point that a rule chooses; ties go to the smaller final loss, then to the smaller rate."""
    finals = {j: float(np.median(m.final)) for j, m in measured.items()}
    if rule == "budget":
        return min(sorted(finals), key=finals.__getitem__)
    soonest = {j: float(np.median(m.steps_to_level)) for j, m in measured.items()}
    j = min(sorted(soonest), key=lambda j: (soonest[j], finals[j]))
    return j if np.isfinite(soonest[j]) else None


@dataclass(frozen=True)
class _Measure:
    """Run rates and seeds of pairs of method and problem as one sweep."""

    pairs: Sequence[tuple[str, Task]]
    protocol: Protocol
    hyper: Mapping[str, Any]
    folder: str | Path | None
    jobs: int

    def __call__(self, wanted: Mapping[int, Sequence[int]], seeds: range) -> dict[int, dict[int, _Measured]]:
        """Return by pair and grid point what was measured."""
        out: dict[int, dict[int, _Measured]] = {}
        runs, tasks = {}, {}
        for i, grid in wanted.items():
            name, task = self.pairs[i]
            if (size := _state_on(name, task, **self.hyper)) > MOST_STATE:
                out[i] = dict.fromkeys(
                    grid, _Measured.lost(len(seeds), f"not run: a state of {size:.0f} numbers a weight")
                )
            elif grid:
                lrs = [float(lr) for lr in self.protocol.rate(list(grid))]
                runs[f"{i}"] = {**_setup(name, **self.hyper), "lr": lrs, "on": [task.label]}
                tasks[task.label] = task.problem_of_a_sweep()
        if runs:
            found = run_sweep(Sweep(tasks, runs, seeds=tuple(seeds)), self.folder, jobs=self.jobs).table
            for label, rows in found.groupby("method", sort=False):
                i = int(label)
                out[i] = _measured(rows, wanted[i], len(seeds), self.pairs[i][1].level)
        return out


def _measured(rows, grid: Sequence[int], seeds: int, level: float) -> dict[int, _Measured]:
    """Judge the rows of one method on one problem, in the order rate, seed, step."""
    shape = (len(grid), seeds, -1)
    loss = np.moveaxis(rows[LOSS].to_numpy().reshape(shape), 2, 0)
    k, reasons = rows["k"].to_numpy()[: len(loss)], rows["reason"].to_numpy(dtype=object).reshape(shape)[..., 0]
    final, steps, reasons = judge(k, loss, reasons, level)
    return {j: _Measured(final[i], steps[i], tuple(reasons[i])) for i, j in enumerate(grid)}


def _state_on(name: str, task: Task, **hyper: Any) -> float:
    """Return the numbers that a method keeps for each weight of a problem."""
    return _state_size(participant(name, 1e-3, **hyper), build_problem(task.problem).start)


def _state_size(method: Method, w: Any) -> float:
    """Return the entries of the first state over those of the weights."""
    state = (methods.lift(method, len(w)) if isinstance(w, tuple) else method).init(w)

    def entries(x) -> int:
        return sum(map(entries, x)) if isinstance(x, tuple) else int(np.prod(getattr(x, "shape", ())))

    return entries(state) / entries(w)


def judge(
    k: np.ndarray, loss: np.ndarray, reasons: np.ndarray, level: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the final loss, the steps to the level and the reason of divergence (or ""), each of shape (batch).

    `loss` has shape (records, batch), `reasons` (batch): why a run ended early, "" where it did not.
    """
    lost = reasons != ""
    relative = np.maximum(loss / loss[0], FLOOR)
    tail = k > 0.8 * k[-1] if len(k) > 1 else np.array([True])
    final = np.where(lost, np.inf, relative[tail].mean(axis=0))
    final = np.where(np.isfinite(final), final, np.inf)
    steps = np.where(lost, np.inf, steps_to(relative, level, k))
    return final, steps, np.where(lost, reasons, np.where(final > 1, "ended above its start", ""))
