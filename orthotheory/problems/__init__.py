"""Problems with known optimum and constants per norm, noise models, and the table that finds them by name."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from ..names import UnknownName, build, closest, suggestion
from .constrained import Constrained, StarConvex, digits_budget, projection, spectral_face, star_convex
from .contract import Constant, Problem
from .digits import SoftmaxRegression, digits
from .multi_objective import Fonseca, MultiObjective, Quadratics, Squares, fonseca, pareto_quadratics, squares
from .multi_tasks import LayerTasks, RetainAndForget, layer_tasks, retain_and_forget, task_matrices
from .network import TwoLayer, network
from .noise import NOISES, Gaussian, HeavyTailed, LowRank, Minibatch
from .quadratic import KroneckerQuadratic, LeastSquares, least_squares, log_spectrum, orthogonal, quadratic
from .ramp import Ramp, best_radius, ramp
from .separable import Separable, layers

TABLE: dict[str, Callable[..., Problem]] = {
    "quadratic": quadratic,
    "least-squares": least_squares,
    "digits": digits,
    "ramp": ramp,
    "projection": projection,
    "spectral-face": spectral_face,
    "star-convex": star_convex,
    "digits-budget": digits_budget,
    "pareto-quadratics": pareto_quadratics,
    "squares": squares,
    "fonseca": fonseca,
    "layer-tasks": layer_tasks,
    "task-matrices": task_matrices,
    "retain-forget": retain_and_forget,
    "layers": layers,
    "network": network,
}


def names() -> list[str]:
    """Return the names that `make` knows."""
    return list(TABLE)


def make(name: str, **options: Any) -> Problem:
    """Build a problem by name.

    `noise` is a noise model, or a mapping such as {"name": "gaussian", "sigma": 0.1}.

    >>> make("quadratic", rows=4, columns=3).start.shape
    (4, 3)
    """
    factory = closest(name, TABLE, "problem")
    known = inspect.signature(factory).parameters
    for option in options:
        if option not in known:
            raise UnknownName(f"{name} has no option {option!r}; {suggestion(option, known)}")
    built = dict(options)
    if isinstance(built.get("noise"), dict):
        noise = dict(built["noise"])
        kind = noise.pop("name", None)
        if kind is None:
            raise ValueError(f"noise needs a 'name', one of {', '.join(NOISES)}; got {options['noise']!r}.")
        built["noise"] = build(closest(kind, NOISES, "noise"), noise, kind)
    problem = factory(**built)
    defaults = {p.name: p.default for p in known.values()}
    problem.config = {"name": name, **{k: v for k, v in {**defaults, **options}.items() if k != "device"}}
    return problem


__all__ = [
    "NOISES",
    "TABLE",
    "Constant",
    "Constrained",
    "Fonseca",
    "Gaussian",
    "HeavyTailed",
    "KroneckerQuadratic",
    "LayerTasks",
    "LeastSquares",
    "LowRank",
    "Minibatch",
    "MultiObjective",
    "Problem",
    "Quadratics",
    "Ramp",
    "RetainAndForget",
    "Separable",
    "SoftmaxRegression",
    "Squares",
    "StarConvex",
    "TwoLayer",
    "best_radius",
    "digits",
    "fonseca",
    "layer_tasks",
    "layers",
    "least_squares",
    "log_spectrum",
    "make",
    "names",
    "network",
    "orthogonal",
    "pareto_quadratics",
    "quadratic",
    "ramp",
    "retain_and_forget",
    "squares",
    "task_matrices",
]
