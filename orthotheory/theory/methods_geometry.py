"""What steps keep or bound by their geometry: ARO, SWAN, routers, FISMO, Scion, Gluon, PolarGrad, Drop-Muon."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..loop import run
from ..methods import FISMO, SWAN, DropMuon, Gluon, Muon, PolarGrad, Scion, SymmetryCompatible, start_law
from ..methods.aro import ROTATIONS
from ..methods.drop_muon import probabilities
from ..methods.spd import inverse_root
from ..norms import Frobenius, RmsToRms, Spectral
from ..problems import layers, orthogonal, quadratic
from .contract import Assumption, Size, Theorem
from .methods_adaptive import Steps, gaussian, last_step, one_plus_distance, weights_after

# ARO


@dataclass(frozen=True)
class Rotated:
    """A momentum, a rotation before the step, and the rule for the next one."""

    momentum: np.ndarray
    before: np.ndarray
    rule: str


def dual_norm(case: Rotated) -> list[float]:
    """Return |R^T M|_1, the dual norm of the sign base."""
    return [float(np.abs(case.before.T @ case.momentum).sum())]


def next_dual_norm(case: Rotated) -> list[float]:
    """Return |R_+^T M|_1 after the rotation."""
    f = np.sign(case.before.T @ case.momentum)
    after, _ = ROTATIONS[case.rule](case.momentum @ f.T)
    return [float(np.abs(after.T @ case.momentum).sum())]


def random_rotations(size: Size, rule: str) -> Iterator[tuple[str, Rotated]]:
    """Yield random momenta and rotations, 8 x 24."""
    rng = np.random.default_rng(0)
    for i in range(60 if size == "smoke" else 300):
        yield f"draw {i}", Rotated(rng.standard_normal((8, 24)), orthogonal(8, rng), rule)


aro_polar_rotation = Theorem(
    label="aro-polar-rotation",
    title="The polar rotation does not lower ARO's dual norm",
    statement=r"\|R^\top M\|_\star\le\|R_+^\top M\|_\star,\quad R_+=\operatorname{polar}(M f(R^\top M)^\top)",
    assumes=(),
    kind="upper",
    lhs=dual_norm,
    rhs=next_dual_norm,
    cases=lambda size: random_rotations(size, "polar"),
    broken=lambda t: dataclasses.replace(t, cases=lambda size: random_rotations(size, "qr")),
    mistake="the Q factor in place of the polar factor",
    source="ours",
    tolerance=1e-13,
    reason="sums of 200 entries",
)

# Sums that a step keeps


def _plus_one(x: np.ndarray) -> list[float]:
    return [1.0 + float(x)]


swan_row_sums = Theorem(
    label="swan-row-sums",
    title="SWAN never moves the row sums",
    statement=r"W_t\mathbf 1=W_0\mathbf 1",
    assumes=(),
    kind="identity",
    lhs=lambda case: _plus_one(np.abs(weights_after(case.method, case.grads)[-1].sum(axis=1)).max()),
    rhs=lambda case: [1.0],
    cases=lambda size: (
        (f"{m} x {n}, rescaled: {rescale}", Steps(SWAN(lr=1.0, rescale=rescale), gaussian((m, n), 20)))
        for m, n in ((5, 9), (9, 5), (6, 6))
        for rescale in (False, True)
    ),
    broken=lambda t: dataclasses.replace(
        t, cases=lambda size: [("Muon, 5 x 9", Steps(Muon(lr=1.0, plan="exact"), gaussian((5, 9), 20)))]
    ),
    mistake="Muon, whose gradients are not centered",
    source="ours",
    tolerance=1e-11,
    reason="20 steps of length sqrt(mn) < 10: 20 * 10 * condition (below 1e3) * eps",
)


def _router_gradients(count: int = 10) -> tuple[np.ndarray, ...]:
    """Gradients of a softmax router, experts x inputs: columns sum to zero."""
    rng = np.random.default_rng(3)
    grads = []
    for _ in range(count):
        logits, inputs = rng.standard_normal((8, 20)), rng.standard_normal((5, 20))
        p = np.exp(logits) / np.exp(logits).sum(axis=0)
        grads.append((p - np.eye(8)[:, rng.integers(8, size=20)]) @ inputs.T / 20)
    return tuple(grads)


def _sum_keeping(size: Size) -> Iterator[tuple[str, Steps]]:
    yield "polar", Steps(Muon(lr=1.0, plan="exact"), _router_gradients())
    yield "PolarGrad", Steps(PolarGrad(lr=1.0), _router_gradients())
    for name in ("centered-row-norm", "left-spectral", "right-spectral"):
        yield name, Steps(SymmetryCompatible(lr=1.0, map=name), _router_gradients())  # type: ignore[arg-type]


router_column_sums = Theorem(
    label="router-column-sums",
    title="Polar factors and centered maps keep the router's column sums",
    statement=r"\mathbf 1^\top G_t=0\ \Rightarrow\ \mathbf 1^\top W_t=\mathbf 1^\top W_0",
    assumes=(
        Assumption(
            "columns of the gradients sum to zero",
            lambda case: max(np.abs(g.sum(axis=0)).max() for g in case.grads) < 1e-14,
        ),
    ),
    kind="identity",
    lhs=lambda case: _plus_one(np.abs(weights_after(case.method, case.grads)[-1].sum(axis=0)).max()),
    rhs=lambda case: [1.0],
    cases=_sum_keeping,
    broken=lambda t: dataclasses.replace(
        t, cases=lambda size: [("row-norm", Steps(SymmetryCompatible(lr=1.0), _router_gradients()))]
    ),
    mistake="rows divided by their length without centering",
    source="ours",
    tolerance=1e-9,
    reason="10 steps; the left root is 1e4 on the null vector of the Gram matrix, whose eps 1e-8 it inverts",
)


@dataclass(frozen=True)
class Turned:
    """A map and the group elements that act on its gradients from the left and from the right."""

    map: str
    left: np.ndarray
    right: np.ndarray


def _own_groups(size: Size) -> Iterator[tuple[str, Turned]]:
    rng = np.random.default_rng(4)
    for name in ("row-norm", "centered-row-norm"):
        yield name, Turned(name, np.eye(6)[rng.permutation(6)], orthogonal(4, rng))
    for name in ("right-spectral", "left-spectral"):
        yield name, Turned(name, orthogonal(6, rng), orthogonal(4, rng))


def _equivariance(case: Turned) -> list[float]:
    grads = gaussian((6, 4), 5)
    method = SymmetryCompatible(map=case.map, lr=1.0, eps=1e-3)  # type: ignore[arg-type]
    turned = weights_after(method, tuple(case.left @ g @ case.right for g in grads))[-1]
    return [one_plus_distance(turned, case.left @ weights_after(method, grads)[-1] @ case.right)]


symmetry_equivariance = Theorem(
    label="symmetry-equivariance",
    title="Each symmetry-compatible map turns with its group",
    statement=r"D(LGR)=L\,D(G)\,R\quad\text{for }(L,R)\text{ in the group of the map}",
    assumes=(),
    kind="identity",
    lhs=_equivariance,
    rhs=lambda case: [1.0],
    cases=_own_groups,
    broken=lambda t: dataclasses.replace(
        t, cases=lambda size: [("row-norm", Turned("row-norm", orthogonal(6, np.random.default_rng(5)), np.eye(4)))]
    ),
    mistake="a rotation of the rows, for row-norm",
    source="ours",
    tolerance=1e-11,
    reason="inverse roots of Gram matrices with eigenvalues above 1e-3: 1e3 * 20 eps",
)

# FISMO


def _fismo_parts(grads: tuple[np.ndarray, ...]):
    method = FISMO(lr=1.0, momentum=0.0)
    w, state = np.zeros_like(grads[0]), None
    state = method.init(w)
    for g in grads:
        before = w
        w, state = method.step(w, g, state)
    return w - before, state


def _fismo_metric(grads: tuple[np.ndarray, ...]) -> list[float]:
    step, state = _fismo_parts(grads)
    left, right = (inverse_root(x, -0.5) for x in (state.left, state.right))
    return [float(np.linalg.norm(left @ step @ right, 2)), -float((grads[-1] * step).sum())]


def _fismo_best(grads: tuple[np.ndarray, ...]) -> list[float]:
    _, state = _fismo_parts(grads)
    whitened = inverse_root(state.left) @ grads[-1] @ inverse_root(state.right)
    return [1.0, float(np.linalg.svd(whitened, compute_uv=False).sum())]


fismo_metric = Theorem(
    label="fismo-metric",
    title="FISMO's step is the LMO of its metric",
    statement=r"\|P^{1/2}\Delta Q^{1/2}\|_2=1,\quad-\langle G,\Delta\rangle=\|P^{-1/2}GQ^{-1/2}\|_*\quad(\beta=0)",
    assumes=(),
    kind="identity",
    lhs=_fismo_metric,
    rhs=_fismo_best,
    cases=lambda size: ((f"{m} x {n}", gaussian((m, n), 6)) for m, n in ((6, 9), (9, 6), (5, 5))),
    broken=lambda t: dataclasses.replace(
        t,
        lhs=lambda grads: [float(np.linalg.norm(_fismo_parts(grads)[0], 2)), _fismo_metric(grads)[1]],
    ),
    mistake="the plain spectral norm of the step",
    source="ours",
    tolerance=1e-10,
    reason="factors of condition below 1e4",
)

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

THEOREMS = (
    aro_polar_rotation,
    swan_row_sums,
    router_column_sums,
    symmetry_equivariance,
    fismo_metric,
    scion_is_muon,
    scion_stays_in_its_ball,
    gluon_is_polargrad,
    polargrad_linear_rate,
    drop_muon_descent,
)
