"""Many runs as one: members of one shape and one method, each with its own problem and numbers, then split again."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Sequence
from numbers import Number
from typing import Any

import numpy as np

from ..arrays import inner
from ..loop import Trace, run
from ..methods import Method
from ..problems import Constrained, KroneckerQuadratic, Problem, StarConvex

Job = tuple[str, Problem, Method, int]  # description, problem, method, steps


def _function(problem: Problem) -> Problem:
    return problem.inner if isinstance(problem, Constrained) else problem


class Stack(Problem):
    """Quadratics of one shape on the host, f_i on the i-th matrix of a batch; no noise."""

    def __init__(self, parts: Sequence[Problem]):
        forms: list[Any] = [_function(p) for p in parts]
        self.a, self.b, self.center = (np.stack([getattr(f, n) for f in forms]) for n in ("a", "b", "optimum"))
        self.offset = np.array([f.optimal_value for f in forms])
        self.start = np.stack([p.start for p in parts])
        self.optimum = np.stack([np.asarray(p.optimum) for p in parts])
        self.optimal_value = np.array([p.optimal_value for p in parts])  # type: ignore[assignment]

    def curvature(self, d):
        """Return <d, H d>, shape (batch)."""
        return inner(d, self.a @ d @ self.b)

    def value(self, w):
        return 0.5 * self.curvature(w - self.center) + self.offset

    def grad(self, w):
        return self.a @ (w - self.center) @ self.b


def _kind(problem: Problem, method: Method, steps: int) -> tuple:
    function = _function(problem)
    # quadratics stack, star-convex functions are all one, and any other problem joins itself alone
    what = type(function) if isinstance(function, KroneckerQuadratic | StarConvex) else id(problem)
    what = KroneckerQuadratic if isinstance(function, KroneckerQuadratic) else what
    fixed = tuple(
        (f.name, repr(v) if not isinstance(v, Number) or isinstance(v, bool) else "number")
        for f in dataclasses.fields(method)  # type: ignore[arg-type]
        for v in (getattr(method, f.name),)
    )
    return what, np.shape(problem.start), type(method), fixed, steps


def _joint(methods: Sequence[Method]) -> Method:
    """Return the method whose numbers are arrays where they differ."""
    changes = {}
    for f in dataclasses.fields(methods[0]):  # type: ignore[arg-type]
        values = [getattr(m, f.name) for m in methods]
        if isinstance(values[0], Number) and any(v != values[0] for v in values):
            changes[f.name] = np.array(values, dtype=float)
    return dataclasses.replace(methods[0], **changes)  # type: ignore[type-var]


def split(trace: Trace, problems: Sequence[Problem], methods: Sequence[Method]) -> list[Trace]:
    """Return the trace of each member of a batch, with its own problem and method."""
    out = []
    for i, (problem, method) in enumerate(zip(problems, methods, strict=True)):
        records = {name: values[:, i] for name, values in trace.records.items()}
        lost = trace.non_finite_at[i]
        out.append(dataclasses.replace(trace, problem=problem, method=method, records=records, non_finite_at=lost))
    return out


def run_together(
    jobs: Iterable[Job], record: Sequence[str], starts: Sequence[Any] | None = None
) -> Iterator[tuple[str, Trace]]:
    """Run jobs, those of one kind as one batch, and yield each trace in the order of the jobs.

    `starts` are first weights where they are not the problems'. Noisy problems are refused: their draws would change.
    """
    jobs = list(jobs)
    first = [j[1].start for j in jobs] if starts is None else list(starts)
    groups: dict[tuple, list[int]] = {}
    for i, (text, problem, method, steps) in enumerate(jobs):
        if problem.noise is not None:
            raise ValueError(f"run_together needs exact gradients; {text} has noise {problem.noise!r}.")
        groups.setdefault(_kind(problem, method, steps), []).append(i)
    traces: dict[int, Trace] = {}
    for members in groups.values():
        parts = [jobs[i][1] for i in members]
        together = Stack(parts) if isinstance(_function(parts[0]), KroneckerQuadratic) else parts[0]
        method = _joint([jobs[i][2] for i in members])
        trace = run(together, method, jobs[members[0]][3], record=record, start=np.stack([first[i] for i in members]))
        members_of = split(trace, parts, [jobs[i][2] for i in members])
        traces.update(zip(members, members_of, strict=True))
    for i, (text, *_) in enumerate(jobs):
        yield text, traces[i]
