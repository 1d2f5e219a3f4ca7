"""Lengths of steps and layers: Scion, Gluon, PolarGrad's rate, Drop-Muon's decrease and cost."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..loop import run
from ..methods import DropMuon, Gluon, Muon, PolarGrad, Scion, start_law
from ..methods.drop_muon import probabilities
from ..norms import Frobenius, RmsToRms, Spectral
from ..problems import layers, orthogonal, quadratic
from .contract import Size, Theorem
from .methods_adaptive import Steps, gaussian, last_step, one_plus_distance, weights_after

# Scion and Gluon

_RADIUS, _LR = 5.0, 0.02


def _scion_gradients(size: Size) -> Iterator[tuple[str, Steps]]:
    method = Scion(lr=_LR, momentum=0.9, radius=_RADIUS, plan="exact")
    for m, n in ((6, 9), (9, 6), (5, 5)):
        yield f"{m} x {n}", Steps(method, gaussian((m, n), 300 if size == "paper" else 60))


def _as_muon(weight_decay: float) -> Muon:
    return Muon(
        lr=_LR * _RADIUS, momentum=0.9, nesterov=False, weight_decay=weight_decay, plan="exact", shape_factor="aspect"
    )


scion_is_muon = Theorem(
    label="scion-is-muon",
    title="Constrained Scion is Muon with decay",
    statement=r"\eta_{\mathrm{Muon}}=\eta\rho,\ \lambda=1/\rho\ \Rightarrow\ W_t^{\mathrm{Scion}}=W_t^{\mathrm{Muon}}",
    assumes=(),
    kind="identity",
    lhs=lambda case: [
        one_plus_distance(
            weights_after(case.method, case.grads)[-1], weights_after(_as_muon(1 / _RADIUS), case.grads)[-1]
        )
    ],
    rhs=lambda case: [1.0],
    cases=_scion_gradients,
    broken=lambda t: dataclasses.replace(
        t,
        lhs=lambda case: [
            one_plus_distance(weights_after(case.method, case.grads)[-1], weights_after(_as_muon(1.0), case.grads)[-1])
        ],
    ),
    mistake="decay 1 in place of 1 / radius",
    source="ours",
    tolerance=1e-11,
    reason="the same polar factors, products in another order",
)
scion_stays_in_its_ball = Theorem(
    label="scion-stays-in-its-ball",
    title="Constrained Scion stays in its ball",
    statement=r"\|W_0\|\le\rho,\ \eta\in[0,1]\ \Rightarrow\ \|W_t\|\le\rho",
    assumes=(),
    kind="upper",
    lhs=lambda case: RmsToRms().value(weights_after(case.method, case.grads)),
    rhs=lambda case: np.full(len(case.grads), _RADIUS),
    cases=lambda size: ((text, Steps(case.method, case.grads[:1] * 400)) for text, case in _scion_gradients("smoke")),
    broken=lambda t: dataclasses.replace(
        t,
        cases=lambda size: (
            (text, Steps(dataclasses.replace(case.method, constrained=False), case.grads[:1] * 400))
            for text, case in _scion_gradients("smoke")
        ),
    ),
    mistake="the unconstrained form",
    source="ours",
    tolerance=1e-12,
    reason="rounding of 400 sums",
)
gluon_is_polargrad = Theorem(
    label="gluon-is-polargrad",
    title="Gluon without growth of the smoothness is PolarGrad",
    statement=r"L^1=0\ \Rightarrow\ \text{Gluon}=\text{PolarGrad with }\eta=1/L^0",
    assumes=(),
    kind="identity",
    lhs=lambda case: [
        one_plus_distance(
            last_step(case.method, case.grads), last_step(PolarGrad(lr=1 / 3.0, momentum=0.6), case.grads)
        )
    ],
    rhs=lambda case: [1.0],
    cases=lambda size: (
        (f"{m} x {n}", Steps(Gluon(l0=3.0, momentum=0.6), gaussian((m, n), 10))) for m, n in ((6, 9), (5, 5))
    ),
    broken=lambda t: dataclasses.replace(
        t, cases=lambda size: [("l1 = 0.1", Steps(Gluon(l0=3.0, l1=0.1, momentum=0.6), gaussian((6, 9), 10)))]
    ),
    mistake="a smoothness that grows with the gradient",
    source="ours",
    tolerance=1e-12,
    reason="one polar factor, from one SVD in two ways; weights of size 10 round a step of size 3",
)

# PolarGrad's rate


@dataclass(frozen=True)
class Rate:
    """A trace of gaps, with rank and condition number of the problem."""

    gaps: np.ndarray
    rank: int
    condition: float


def _rates(size: Size, constant_radius: bool = False) -> Iterator[tuple[str, Rate]]:
    for seed in range(4 if size == "smoke" else 20):
        problem = quadratic(rows=6, columns=8, left_condition=10.0, right_condition=5.0, alignment="generic", seed=seed)
        smooth, strong = float(problem.smoothness(Frobenius())), float(problem.strong_convexity(Frobenius()))
        lr = 1 / (6 * smooth)
        method: Any = PolarGrad(lr=lr, momentum=0.0)
        if constant_radius:
            method = Muon(lr=0.1, momentum=0.0, plan="exact", shape_factor="none")
        gaps = run(problem, method, 400, record=("gap",))["gap"]
        yield f"seed {seed}", Rate(gaps[gaps > 1e-12 * gaps[0]], 6, smooth / strong)


polargrad_linear_rate = Theorem(
    label="polargrad-linear-rate",
    title="PolarGrad converges linearly",
    statement=r"f(W_{k+1})-f^\star\le\Bigl(1-\frac{1}{r\kappa}\Bigr)(f(W_k)-f^\star),\quad\eta=\frac{1}{rL}",
    assumes=(),
    kind="upper",
    lhs=lambda case: case.gaps[1:] / case.gaps[:-1],
    rhs=lambda case: np.full(len(case.gaps) - 1, 1 - 1 / (case.rank * case.condition)),
    cases=_rates,
    broken=lambda t: dataclasses.replace(t, cases=lambda size: _rates(size, constant_radius=True)),
    mistake="the polar factor with a constant radius, which stalls",
    source="ours",
    tolerance=1e-9,
    reason="gaps above 1e-12 of the first, each rounded by 1e-15 of the first",
)

# Drop-Muon


@dataclass(frozen=True)
class Layered:
    """Layer constants in the spectral norm, a law of the first layer, dual norms, and the expected decrease."""

    constants: tuple[float, ...]
    law: tuple[float, ...]
    duals: np.ndarray
    decrease: float


def _layered(size: Size) -> Iterator[tuple[str, Layered]]:
    """Quadratics with generic errors, and round ones with isometries as errors, where a step arrives."""
    rng = np.random.default_rng(0)
    for shape in ((4.0, 1.0, 1.0), (1.0, 4.0, 1.0), (1.0, 1.0, 4.0)):
        for condition in (1.0, 10.0):
            problem: Any = layers(smoothness=shape, rows=4, columns=4, condition=condition)
            constants = tuple(float(c) for c in problem.block_smoothness(Spectral()))
            start = problem.start
            if condition == 1.0:
                start = tuple(x + orthogonal(4, rng) for x in problem.optimum)
            for law in (start_law(constants), (0.2, 0.3, 0.5)):
                decrease = 0.0
                for first, chance in enumerate(law):
                    certain = tuple(float(i == first) for i in range(3))
                    method = DropMuon(lr=tuple(1 / c for c in constants), law=certain)
                    w, _ = method.step(start, problem.grad(start), method.init(start))
                    decrease += chance * float(problem.value(start) - problem.value(w))
                duals = np.array([float(Spectral().dual(g)) for g in problem.grad(start)])
                yield f"{shape}, condition {condition:g}, law {law}", Layered(constants, law, duals, decrease)


def _promised(case: Layered, p: np.ndarray) -> list[float]:
    return [float((p * case.duals**2 / (2 * np.array(case.constants))).sum())]


drop_muon_descent = Theorem(
    label="drop-muon-descent",
    title="Expected decrease of Drop-Muon",
    statement=r"\sum_l\frac{p_l}{2L_l}\|\nabla_l f\|_*^2\le f-\mathbb E f^+,\quad p_l=\Pr(l\in S),\ \gamma_l=1/L_l",
    assumes=(),
    kind="upper",
    lhs=lambda case: _promised(case, probabilities(case.law, 3)),
    rhs=lambda case: [case.decrease],
    cases=_layered,
    broken=lambda t: dataclasses.replace(t, lhs=lambda case: _promised(case, np.ones(3))),
    mistake="all layers counted as updated",
    source="ours",
    tolerance=1e-12,
    reason="sums of three layers",
)


@dataclass(frozen=True)
class LayerCosts:
    """Smoothness of the layers, the cost of passing each backward, and of all forward, which no law saves."""

    constants: tuple[float, ...]
    costs: tuple[float, ...]
    forward: float = 0.0


def law_cost(case: LayerCosts, law: tuple[float, ...] | None) -> float:
    """Return cost times number of steps to the accuracy of the bound, over that of full updates."""
    p, constants, costs = probabilities(law, len(case.costs)), np.array(case.constants), np.array(case.costs)
    full = constants.max() * (case.forward + costs.sum())
    return float(np.max(constants / p) * (case.forward + p @ costs) / full)


def least_cost(case: LayerCosts) -> list[float]:
    """Return the least ratio over all laws: a linear program in r_l = K p_l, nondecreasing with r_l >= L_l."""
    from scipy.optimize import linprog

    count = len(case.costs)
    order = np.eye(count)[:-1] - np.eye(count)[1:]
    costs = np.array(case.costs) + case.forward * (np.arange(count) == count - 1)  # r_b = K forward passes
    solved = linprog(costs, A_ub=order, b_ub=np.zeros(count - 1), bounds=[(c, None) for c in case.constants])
    return [solved.fun / (max(case.constants) * sum(costs))]


def _layer_costs(size: Size) -> Iterator[tuple[str, LayerCosts]]:
    for constants in ((4.0, 1.0, 1.0), (1.0, 4.0, 1.0), (1.0, 1.0, 4.0), (1.0, 1.0, 1.0)):
        for forward in (0.0, 1.5):
            yield f"{constants}, forward {forward}", LayerCosts(constants, (1.0, 1.0, 1.0), forward)
    rng = np.random.default_rng(0)
    for i in range(4 if size == "smoke" else 40):
        constants, costs = np.exp(rng.standard_normal((2, 5)))
        yield f"draw {i}", LayerCosts(tuple(constants.tolist()), tuple(costs.tolist()))


drop_muon_cost = Theorem(
    label="drop-muon-cost",
    title="The cheapest law of Drop-Muon in the model",
    statement=r"\min_q\max_l\frac{L_l}{p_l}\Bigl(c_0+\sum_l p_lc_l\Bigr)=c_0\max_lL_l+\sum_l c_l\max_{j\le l}L_j:\ "
    r"\text{that of full updates iff }L_1=\max_lL_l",
    assumes=(),
    kind="identity",
    lhs=least_cost,
    rhs=lambda case: [law_cost(case, start_law(case.constants))],
    cases=_layer_costs,
    broken=lambda t: dataclasses.replace(t, rhs=lambda case: [law_cost(case, None)]),
    mistake="full updates as the cheapest law",
    source="ours, on [gruntkowska2025drop]",
    tolerance=1e-7,
    reason="the linear program is solved to a primal feasibility of 1e-7",
)

THEOREMS = (
    scion_is_muon,
    scion_stays_in_its_ball,
    gluon_is_polargrad,
    polargrad_linear_rate,
    drop_muon_descent,
    drop_muon_cost,
)
