"""Gradient surgery: what its rules promise, what their usual code delivers, and what an optimizer makes of it.

A conflict is measured by the cosine of an update with a gradient, so that short gradients count as much as long ones.
"""

from __future__ import annotations

import functools
from collections.abc import Callable

import numpy as np

from .. import surgery
from ..loop import run
from ..methods import GradientDescent
from ..methods.surgery import Surgery
from ..polar import polar_factor
from ..problems import squares
from ..surgery import Aggregator, project
from ..surgery.orthogonal import project_in_metric, spectral_mgda
from ..theory.contract import Size
from .contract import Claim, Verdict

Rule = Callable[[np.ndarray], np.ndarray]  # (m, n) -> (n,)
ROUNDING = 1e-9  # cosines and relative errors below it are rounding on the matrices used here
NO_CONFLICT = "no update with a negative cosine to a gradient"


def cosines(jacobian: np.ndarray, update: np.ndarray) -> np.ndarray:
    """Return the cosine of the update with each gradient, 0 where one of them vanishes; shape (m,)."""
    lengths = np.linalg.norm(jacobian, axis=-1) * np.linalg.norm(update)
    return np.divide(jacobian @ update, lengths, out=np.zeros(len(jacobian)), where=lengths > 0)


def conflicting_jacobians(count: int, seed: int = 0) -> list[np.ndarray]:
    """Return Jacobians of two to six objectives that pull against each other, with rows of lengths 1e-2 to 1e2."""
    rng = np.random.default_rng(seed)
    found = []
    for _ in range(count):
        m = int(rng.integers(2, 7))
        n = int(rng.integers(m, 20))
        rows = rng.standard_normal((m, n)) - 0.8 * rng.standard_normal(n)
        rows -= rng.uniform(0.5, 0.95) * rows.mean(axis=0)
        found.append(10.0 ** rng.uniform(-2, 2, (m, 1)) * rows)
    return found


def ridged_upgrad(jacobian: np.ndarray, *, norm_eps: float = 1e-4, reg_eps: float = 1e-4) -> np.ndarray:
    """Return UPGrad by the recipe of TorchJD's defaults: G over its trace, or 0 below `norm_eps`, plus a ridge.

    The quadratic programs min v^T G v over v >= u are solved exactly, as projections on the cone of a square root of G.
    """
    m = len(jacobian)
    gramian = jacobian @ jacobian.T
    trace = np.trace(gramian)
    gramian = (gramian / trace if trace >= norm_eps else 0 * gramian) + reg_eps * np.eye(m)
    root = np.linalg.cholesky(gramian)  # rows with this Gramian
    start = np.eye(m) / m
    weights = start + project(root, start @ root).multipliers
    return weights.sum(axis=0) @ jacobian


def keeps_the_properties(rule: Rule, size: Size) -> Verdict:
    """Judge whether a rule is non-conflicting, linear under positive scaling of rows, and both for a small Jacobian."""
    rng = np.random.default_rng(1)
    conflict, nonlinear, small = 0.0, 0.0, 0.0
    matrices = conflicting_jacobians(60 if size == "smoke" else 1000)
    for j in matrices:
        conflict = max(conflict, -cosines(j, rule(j)).min())
        tiny = 1e-3 * j / np.linalg.norm(j)
        small = max(small, -cosines(tiny, rule(tiny)).min())
        a, b = rng.uniform(0.1, 10, (2, len(j), 1))
        whole, parts = rule((a + b) * j), rule(a * j) + rule(b * j)
        nonlinear = max(nonlinear, float(np.linalg.norm(whole - parts) / np.linalg.norm(whole)))
    worst = max(conflict, nonlinear, small)
    return Verdict(
        "holds" if worst <= ROUNDING else "refuted", worst, f"all three below {ROUNDING:g}",
        {"matrices": len(matrices), "largest conflict": float(conflict), "error of linearity": nonlinear,
         "largest conflict at norm 1e-3": float(small)},
    )  # fmt: skip


def never_ascends_all(rule: Rule, size: Size) -> Verdict:
    """Judge whether an update never raises all objectives at once: three independent gradients, two nearly parallel."""
    rng = np.random.default_rng(2)
    count, ascents = 500 if size == "smoke" else 4000, 0
    for _ in range(count):
        j = rng.standard_normal((3, 8))
        j[1] = j[0] + 0.3 * rng.standard_normal(8)
        j *= 10.0 ** rng.uniform(-1.5, 1.5, (3, 1))
        ascents += bool((cosines(j, rule(j)) < -ROUNDING).all())
    return Verdict(
        "holds" if ascents == 0 else "refuted", ascents / count, "a share of 0 of the draws",
        {"draws": count, "percent": 100 * ascents / count},
    )  # fmt: skip


def frank_wolfe_mgda(jacobian: np.ndarray, *, steps: int = 100, stop: float = 1e-3) -> np.ndarray:
    """Return MGDA by Frank-Wolfe with exact line search, `steps` of them or until a step is below `stop`."""
    gramian = jacobian @ jacobian.T
    w = np.full(len(gramian), 1 / len(gramian))
    for _ in range(steps):
        slope = gramian @ w
        t = int(np.argmin(slope))
        gap, curvature = w @ slope - slope[t], w @ slope - 2 * slope[t] + gramian[t, t]
        step = float(np.clip(gap / curvature, 0, 1)) if curvature > 0 else 0.0
        w = (1 - step) * w
        w[t] += step
        if step < stop:
            break
    return w @ jacobian


def conflicts_with_none(rule: Rule, size: Size) -> Verdict:
    """Judge whether an update has no negative cosine with a gradient, on conflicting Jacobians."""
    matrices = conflicting_jacobians(100 if size == "smoke" else 2000, seed=3)
    worst = np.array([-cosines(j, rule(j)).min() for j in matrices])
    return Verdict(
        "holds" if worst.max() <= ROUNDING else "refuted", float(max(worst.max(), 0)), NO_CONFLICT,
        {"matrices": len(matrices), "share in conflict": float(np.mean(worst > ROUNDING))},
    )  # fmt: skip


def conflict_free_for_any_number(rule: Rule, size: Size) -> Verdict:
    """Judge whether a rule is free of conflict on Gaussian Jacobians of two rows, and of three."""
    rng = np.random.default_rng(4)
    count = 400 if size == "smoke" else 5000
    share, worst = {}, {}
    for m in (2, 3):
        found = np.array([-cosines(j, rule(j)).min() for j in rng.standard_normal((count, m, 3))])
        share[m], worst[m] = float(np.mean(found > ROUNDING)), float(max(found.max(), 0))
    two, three = (worst[m] <= ROUNDING for m in (2, 3))
    return Verdict(
        "holds" if two and three else "holds_if" if two else "refuted", share[3], NO_CONFLICT,
        {"draws": count, "share with two": share[2], "share with three": share[3],
         "percent with three": 100 * share[3], "largest conflict with three": worst[3]},
        condition="" if three else "there are two objectives",
    )  # fmt: skip


def reaches_the_pareto_set(name: str, size: Size) -> Verdict:
    """Judge whether descent on element-wise squares, whose one Pareto point is 0, ends there from every start."""
    ends, criticality = [], []
    for seed in range(5 if size == "smoke" else 40):
        problem = squares(size=3, scale_ratio=4.0, seed=seed)
        method = Surgery(surgery.make(name), GradientDescent(lr=1.0))
        trace = run(problem, method, 200, record=("pareto_distance", "stationarity"), every=200)
        ends.append(trace["pareto_distance"][-1] / trace["pareto_distance"][0])
        criticality.append(trace["stationarity"][-1])
    return Verdict(
        "holds" if max(ends) <= 1e-6 else "refuted", float(np.max(ends)),
        "distance to the Pareto set below 1e-6 of the first one",
        {"runs": len(ends), "least relative distance": float(np.min(ends)),
         "largest distance of 0 to the hull at the end": float(np.max(criticality))},
    )  # fmt: skip


def spectral_conflicts(direction: Rule, size: Size) -> Verdict:
    """Judge whether a direction of the spectral ball, from gradients (m, p, q), descends every objective."""
    rng = np.random.default_rng(5)
    count, worst = 100 if size == "smoke" else 2000, []
    for _ in range(count):
        g = rng.standard_normal((int(rng.integers(2, 6)), 6, 4))
        g -= rng.uniform(0.5, 0.98) * g.mean(axis=0)  # a small common part, as late in training
        worst.append(-cosines(g.reshape(len(g), -1), direction(g).ravel()).min())
    bad = np.array(worst) > 1e-7  # spectral MGDA's path ends at a relative gap of 1e-8
    return Verdict(
        "refuted" if bad.any() else "holds", float(np.mean(bad)), "a share of 0 of the draws in conflict",
        {"draws": count, "percent": 100 * float(np.mean(bad)), "largest conflict": float(max(np.max(worst), 0))},
    )  # fmt: skip


def upgrad_then_polar(gradients: np.ndarray) -> np.ndarray:
    """Return the polar factor of UPGrad's update of matrices (m, p, q)."""
    return polar_factor(surgery.UPGrad()(gradients.reshape(len(gradients), -1)).reshape(gradients.shape[1:]))


def metric_conflicts(update: Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray], size: Size) -> Verdict:
    """Judge whether an update made with a diagonal preconditioner, as Adam's, descends every objective."""
    rng = np.random.default_rng(6)
    count = 100 if size == "smoke" else 2000
    worst = []
    for j in conflicting_jacobians(count, seed=6):
        metric = 10.0 ** rng.uniform(-2, 2, j.shape[1])
        worst.append(-cosines(j, update(j, j.mean(axis=0), metric)).min())
    bad = np.array(worst) > ROUNDING
    return Verdict(
        "refuted" if bad.any() else "holds", float(max(np.max(worst), 0)), NO_CONFLICT,
        {"draws": count, "percent": 100 * float(np.mean(bad))},
    )  # fmt: skip


def _project_then_precondition(jacobian, gradient, metric):
    return metric * project(jacobian, gradient).point


def _rule(aggregator: Aggregator) -> Rule:
    return lambda jacobian: aggregator(jacobian)


CLAIMS = (
    Claim(
        "upgrad-ridge-properties", "quinton2024jacobian, the package's defaults",
        "UPGrad with the usual normalization and ridge is non-conflicting and linear under scaling of rows.",
        functools.partial(keeps_the_properties, ridged_upgrad),
        functools.partial(keeps_the_properties, _rule(surgery.UPGrad())),
        "UPGrad without ridge", "holds",
    ),
    Claim(
        "imtl-g-descends", "liu2021towards",
        "IMTL-G, which gives all gradients equal projections, never ascends all objectives at full row rank.",
        functools.partial(never_ascends_all, _rule(surgery.IMTLG())),
        functools.partial(never_ascends_all, _rule(surgery.IMTLG(sign_safe=True))),
        "IMTL-G with the sign of its sum of weights removed", "holds",
    ),
    Claim(
        "mgda-frank-wolfe", "desideri2012multiple, as usually coded",
        "A hundred Frank-Wolfe steps give MGDA: the update conflicts with no gradient.",
        functools.partial(conflicts_with_none, frank_wolfe_mgda),
        functools.partial(conflicts_with_none, _rule(surgery.MGDA())),
        "MGDA solved exactly", "holds",
    ),
    Claim(
        "pcgrad-conflict-free", "yu2020gradient",
        "PCGrad removes the conflicts between gradients, whatever their number.",
        functools.partial(conflict_free_for_any_number, _rule(surgery.PCGrad())),
        functools.partial(conflict_free_for_any_number, _rule(surgery.UPGrad())),
        "UPGrad", "holds",
    ),
    Claim(
        "mgda-reaches-pareto", "ours, on desideri2012multiple",
        "On convex objectives MGDA ends at a Pareto point, not only at a critical one.",
        functools.partial(reaches_the_pareto_set, "mgda"),
        functools.partial(reaches_the_pareto_set, "upgrad"),
        "UPGrad", "holds",
    ),
    Claim(
        "orthogonalize-after-surgery", "ours, on jordan2024muon and quinton2024jacobian",
        "The polar factor of a non-conflicting update is non-conflicting: surgery may precede Muon.",
        functools.partial(spectral_conflicts, upgrad_then_polar),
        functools.partial(spectral_conflicts, lambda g: spectral_mgda(g).direction),
        "spectral MGDA, surgery in the geometry of the step", "holds",
    ),
    Claim(
        "precondition-after-surgery", "ours, on kingma2014adam",
        "A diagonal preconditioner after a projection on the cone keeps its guarantee.",
        functools.partial(metric_conflicts, _project_then_precondition),
        functools.partial(metric_conflicts, project_in_metric),
        "the projection in the metric of the preconditioner", "holds",
    ),
)  # fmt: skip
