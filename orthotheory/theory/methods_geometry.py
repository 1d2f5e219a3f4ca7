"""What steps keep or bound by their geometry: ARO, SWAN, routers, symmetry-compatible maps and FISMO."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from ..methods import FISMO, SWAN, Muon, PolarGrad, SymmetryCompatible
from ..methods.aro import ROTATIONS
from ..methods.spd import inverse_root
from ..problems import orthogonal
from .contract import Assumption, Size, Theorem
from .methods_adaptive import Steps, gaussian, one_plus_distance, weights_after

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

THEOREMS = (
    aro_polar_rotation,
    swan_row_sums,
    router_column_sums,
    symmetry_equivariance,
    fismo_metric,
)
