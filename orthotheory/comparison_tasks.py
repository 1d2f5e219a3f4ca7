"""The problems on which all methods are compared."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


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

    def problem_of_a_sweep(self) -> dict[str, Any]:
        """Return the problem as a sweep has it."""
        return {**self.problem, "start": self.error, "steps": self.steps, "every": self.every, "target": self.level}


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
