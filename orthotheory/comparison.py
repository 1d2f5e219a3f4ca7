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
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from . import counting, methods, problems
from .arrays import generator
from .methods import Method
from .sweep import Chunk, Sweep, run_chunk
from .sweep.analyse import steps_to
from .sweep.config import LOSS, rate
from .sweep.execute import build_problem

FLOOR = 1e-16  # a relative loss below the rounding error of its computation is not resolved
MOST_STATE = 100  # numbers a weight: a dense preconditioner of all weights, or a window of a thousand gradients
RULES = ("budget", "level")


class NotComparable(ValueError):
    """A method that the protocol cannot run; the message says why."""


@dataclass(frozen=True)
class Task:
    """A problem of the comparison.

    Parameters
    ----------
    label : str
    problem : mapping
        `{"name": ..., **options}` for `problems.make`.
    error : "generic", "commuting", "low-rank", "flat" or "start"
        First error W - W*: Gaussian; sharing the singular vectors of the Hessian; of rank one; with equal singular
        values; or, where the optimum is not to be used, Gaussian weights of variance 1 / rows.
    level : float
        The stationary loss at which methods are compared, in units of the first.
    """

    label: str
    problem: Mapping[str, Any]
    error: str = "generic"
    steps: int = 100
    every: int = 2
    level: float = 1e-2


def _quadratic(**options: Any) -> dict[str, Any]:
    return {"name": "quadratic", "rows": 12, "columns": 8, **options}


_MINIBATCH = {"name": "minibatch", "size": 32, "independent": True}
TASKS = (
    Task("well conditioned", _quadratic(left_condition=10.0)),
    Task("one-sided", _quadratic(left_condition=1000.0)),
    Task("two-sided", _quadratic(left_condition=30.0, right_condition=30.0)),
    Task("aligned", _quadratic(left_condition=30.0, right_condition=30.0), "commuting"),
    Task("low-rank error", _quadratic(left_condition=100.0), "low-rank"),
    Task("flat error", _quadratic(left_condition=100.0), "flat"),
    Task("little noise", _quadratic(left_condition=100.0, noise={"name": "gaussian", "sigma": 0.03}), level=3e-2),
    Task("much noise", _quadratic(left_condition=100.0, noise={"name": "gaussian", "sigma": 0.3}), level=3e-1),
    Task("least squares", {"name": "least-squares", "rows": 12, "columns": 8, "condition": 30.0}),
    Task("digits", {"name": "digits", "samples": 300, "noise": _MINIBATCH}, "start", 60, 6, 0.1),
    Task("network", {"name": "network", "samples": 300, "noise": _MINIBATCH}, "start", 60, 6, 0.2),
)


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
    tasks = {
        t.label: {**t.problem, "start": t.error, "steps": t.steps, "every": t.every, "target": t.level} for t in TASKS
    }
    runs = {}
    for m in participants()[0]:
        large = [t.label for t in TASKS if _state_on(m, t) > MOST_STATE]
        runs[m] = {**_setup(m), "lr": lr, **({"not_on": large} if large else {})}
    return Sweep(tasks, runs, seeds=protocol.tuning_seeds)


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
    choosing = range(protocol.tuning_seeds)
    measured: dict[int, _Measured] = {}
    new = protocol.grid()
    for extension in range(protocol.extensions + 1):  # a method that loses every run is not extended
        measured |= dict(zip(new, _measure(name, hyper, task, protocol.rate(new), choosing), strict=True))
        grid = sorted(measured)
        best = {rule: _best(measured, rule) for rule in RULES}
        below, above = grid[0] in best.values(), grid[-1] in best.values()
        lost = not any(np.isfinite(m.final).any() for m in measured.values())
        if extension == protocol.extensions or lost or not (below or above):
            break
        step = protocol.per_decade
        new = [j - step + i for j in grid[:1] if below for i in range(step)]
        new += [j + 1 + i for j in grid[-1:] if above for i in range(step)]
    fresh = range(protocol.tuning_seeds, protocol.tuning_seeds + protocol.seeds)
    picks = [best["budget"] if best[rule] is None else best[rule] for rule in RULES]
    reported = dict(zip(RULES, _measure(name, hyper, task, protocol.rate(picks), fresh), strict=True))
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


class Standing(NamedTuple):
    """Where methods stand on one problem, in decades (log10); all of shape (methods)."""

    mean: np.ndarray
    half_width: np.ndarray
    behind: np.ndarray
    tied: np.ndarray


def standing(values: np.ndarray, *, level: float = 0.95) -> Standing:
    """Compare methods over the same seeds.

    Parameters
    ----------
    values : array (methods, seeds)
        Positive, infinite where a run is lost; two or more seeds.

    Returns
    -------
    Standing
        `mean` of log10 with the half-width of its Student interval; `behind`, how far the mean lies above the best
        one; `tied`, not distinguished from the best: the one-sided interval of the mean paired difference, at a level
        shared among all methods (Bonferroni), contains 0. A method that loses a run is infinitely far behind.
    """
    from scipy.special import stdtrit

    logs = np.log10(values)
    count, seeds = logs.shape
    if seeds < 2:
        raise ValueError(f"An interval over seeds needs at least two of them; got {seeds}.")
    whole = np.isfinite(logs).all(axis=1)
    if not whole.any():
        never = np.full(count, np.inf)
        return Standing(never, never, never, whole)
    mean, half, behind, tied = (np.full(count, x) for x in (np.inf, np.inf, np.inf, False))
    logs = logs[whole]
    mean[whole] = logs.mean(axis=1)
    half[whole] = stdtrit(seeds - 1, (1 + level) / 2) * logs.std(axis=1, ddof=1) / np.sqrt(seeds)
    difference = logs - logs[np.argmin(logs.mean(axis=1))]
    behind[whole] = difference.mean(axis=1)
    shared = stdtrit(seeds - 1, 1 - (1 - level) / count)
    tied[whole] = behind[whole] <= shared * difference.std(axis=1, ddof=1) / np.sqrt(seeds)
    return Standing(mean, half, behind, tied)


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


def _measure(name: str, hyper: Mapping[str, Any], task: Task, rates: np.ndarray, seeds: range) -> list[_Measured]:
    """Run all rates and seeds as one chunk of a sweep."""
    if not len(rates):
        return []
    if (size := _state_on(name, task, **hyper)) > MOST_STATE:
        reason = f"not run: a state of {size:.0f} numbers a weight"
        return [_Measured.lost(len(seeds), reason)] * len(rates)
    chunk = run_chunk(task.problem, _setup(name, **hyper), list(map(float, rates)), seeds, task.steps, task.every,
                      [LOSS], task.error)  # fmt: skip
    final, steps, reasons = judge(chunk, task.level)
    return [_Measured(final[i], steps[i], tuple(reasons[i])) for i in range(len(rates))]


def _state_on(name: str, task: Task, **hyper: Any) -> float:
    """Return the numbers that a method keeps for each weight of a problem."""
    return _state_size(participant(name, 1e-3, **hyper), build_problem(task.problem).start)


def _state_size(method: Method, w: Any) -> float:
    """Return the entries of the first state over those of the weights."""
    state = (methods.lift(method, len(w)) if isinstance(w, tuple) else method).init(w)

    def entries(x) -> int:
        return sum(map(entries, x)) if isinstance(x, tuple) else int(np.prod(getattr(x, "shape", ())))

    return entries(state) / entries(w)


def judge(chunk: Chunk, level: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the final loss, the steps to the level and the reason of divergence (or ""), each of shape (batch)."""
    loss, k = chunk.records[LOSS], chunk.k
    lost = chunk.reasons != ""
    relative = np.maximum(loss / loss[0], FLOOR)
    tail = k > 0.8 * k[-1] if len(k) > 1 else np.array([True])
    final = np.where(lost, np.inf, relative[tail].mean(axis=0))
    final = np.where(np.isfinite(final), final, np.inf)
    steps = np.where(lost, np.inf, steps_to(relative, level, k))
    return final, steps, np.where(lost, chunk.reasons, np.where(final > 1, "ended above its start", ""))
