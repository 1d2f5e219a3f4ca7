"""What AdamP, Adafactor, diffGrad, the cosine subspaces, adaptive memory and AdaPreLoRA do exactly."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterator
from typing import Any

import numpy as np

from ..methods import Adam, AdamP, AdaptiveMemory, DiffGrad, Muon, Trion
from ..methods.adafactor import rank_one
from ..methods.adaprelora import factor_steps
from ..methods.dct import best_columns, dct_matrix
from .contract import Size, Theorem
from .methods_adaptive import Steps, gaussian, one_plus_distance, weights_after

Cases = Iterator[tuple[str, Any]]


def path_from(case: Steps) -> np.ndarray:
    """Return the weights from a start of ones over the steps, shape (steps + 1, m, n)."""
    w = np.ones_like(case.grads[0])
    state, path = case.method.init(w), [w]
    for g in case.grads:
        w, state = case.method.step(w, g, state)
        path.append(w)
    return np.array(path)


def _projecting(size: Size, *, delta: float = 1e3) -> Cases:
    for nesterov in (False, True):
        method = AdamP(lr=0.05, eps=0.0, delta=delta, nesterov=nesterov)
        yield f"nesterov {nesterov}", Steps(method, gaussian((4, 3), 20 if size == "smoke" else 200, 1))


adamp_norm_growth = Theorem(
    label="adamp-norm-growth",
    title="Weights of a projected method grow by the squares of the steps alone",
    statement=r"\|W_{t+1}\|_F^2=\|W_t\|_F^2+\|W_{t+1}-W_t\|_F^2",
    assumes=(),
    kind="identity",
    lhs=lambda c: np.sum(path_from(c)[1:] ** 2, axis=(1, 2)),
    rhs=lambda c: np.sum(path_from(c)[:-1] ** 2, axis=(1, 2)) + np.sum(np.diff(path_from(c), axis=0) ** 2, axis=(1, 2)),
    cases=_projecting,
    broken=lambda t: dataclasses.replace(t, cases=lambda size: _projecting(size, delta=0.0)),
    mistake="a threshold of zero: nothing is projected",
    source="[heo2021adamp]",
    tolerance=1e-12,
)


def _moments(size: Size, *, rank: int = 1) -> Cases:
    rng = np.random.default_rng(1)
    for m, n in ((2, 3), (5, 5), (1, 4)) if rank == 1 else ((2, 3), (5, 5)):
        yield f"{m} x {n}, rank {rank}", rng.uniform(0.1, 1, (m, rank)) @ rng.uniform(0.1, 1, (rank, n))


adafactor_rank_one = Theorem(
    label="adafactor-rank-one",
    title="The factored second moment is exact at rank one",
    statement=r"\operatorname{rank}V=1:\quad \frac{V\mathbf 1\,\mathbf 1^\top V}{\mathbf 1^\top V\mathbf 1}=V",
    assumes=(),
    kind="identity",
    lhs=lambda v: rank_one(v.sum(axis=1, keepdims=True), v.sum(axis=0, keepdims=True)),
    rhs=lambda v: v,
    cases=_moments,
    broken=lambda t: dataclasses.replace(t, cases=lambda size: _moments(size, rank=2)),
    mistake="second moments of rank two",
    source="[shazeer2018adafactor]",
    tolerance=1e-13,
)


def _constant(size: Size, *, drift: float = 0.0) -> Cases:
    for scale in (1e-3, 1.0, 1e3):
        (g,) = gaussian((3, 4), 1)
        yield f"size {scale:g}", tuple(scale * (1 + drift * k) * g for k in range(6))


def later_steps(method: Any, grads: tuple[np.ndarray, ...]) -> np.ndarray:
    """Return the displacements after the first step."""
    return np.diff(weights_after(method, grads), axis=0)


diffgrad_half_adam = Theorem(
    label="diffgrad-half-adam",
    title="Where the gradient stands still diffGrad is Adam at half the learning rate",
    statement=r"G_{t-1}=G_t:\quad \Delta^{\text{diffGrad}}_t=\tfrac12\,\Delta^{\text{Adam}}_t",
    assumes=(),
    kind="identity",
    lhs=lambda g: later_steps(DiffGrad(lr=0.1, eps=0.0), g),
    rhs=lambda g: later_steps(Adam(lr=0.1, eps=0.0), g) / 2,
    cases=_constant,
    broken=lambda t: dataclasses.replace(t, cases=lambda size: _constant(size, drift=0.1)),
    mistake="a gradient that drifts by a tenth a step",
    source="ours, on [dubey2019diffgrad]",
    tolerance=1e-11,
    reason="differences of weights that grow to 6 steps",
)


def captured(x: np.ndarray, rank: int, ranking: str) -> float:
    """Return the Frobenius residual of x outside the chosen cosine columns."""
    q = best_columns(x, dct_matrix(x.shape[1]), rank, ranking)  # type: ignore[arg-type]
    return float(np.linalg.norm(x - x @ q @ q.T))


def least_residual(x: np.ndarray, rank: int) -> float:
    """Return the least residual over all choices of cosine columns, by trying them all."""
    q = dct_matrix(x.shape[1])
    choices = itertools.combinations(range(x.shape[1]), rank)
    return min(float(np.linalg.norm(x - x @ q[:, list(c)] @ q[:, list(c)].T)) for c in choices)


def _heavy(size: Size) -> Cases:
    rng = np.random.default_rng(2)
    for i in range(10 if size == "smoke" else 100):
        yield f"heavy-tailed 5 x 7, draw {i}", rng.standard_t(1.5, (5, 7))


dct_l2_optimal = Theorem(
    label="dct-l2-optimal",
    title="Ranking cosine columns by energy leaves the least residual of all choices",
    statement=r"\|X-XQ_rQ_r^\top\|_F=\min_{|S|=r}\|X-XQ_SQ_S^\top\|_F\quad\text{for the }r\text{ largest }\|Xq_j\|_2",
    assumes=(),
    kind="identity",
    lhs=lambda x: [captured(x, 3, "l2")],
    rhs=lambda x: [least_residual(x, 3)],
    cases=_heavy,
    broken=lambda t: dataclasses.replace(t, lhs=lambda x: [captured(x, 3, "l1")]),
    mistake="ranking by the sum of magnitudes, the default of the code",
    source="ours, on [modoranu2025fft]",
    tolerance=1e-10,
)


def _momentum(size: Size) -> Cases:
    for shape in ((5, 4), (3, 7), (4, 4)):
        yield f"{shape[0]} x {shape[1]}", gaussian(shape, 12, 3)


def trion_against_muon(grads: tuple[np.ndarray, ...], missing: int = 0) -> float:
    """Return 1 + the distance of Trion's weights at full rank (less `missing`) from those of heavy-ball Muon."""
    trion = Trion(rank=min(grads[0].shape) - missing, plan="exact")
    muon = Muon(variant="moonlight", nesterov=False, plan="exact", shape_factor="max-aspect")
    return one_plus_distance(weights_after(trion, grads), weights_after(muon, grads))


trion_full_rank = Theorem(
    label="trion-full-rank",
    title="Trion at full rank is heavy-ball Muon",
    statement=r"r=\min(m,n):\quad \operatorname{polar}(MQ)\,Q^\top=\operatorname{polar}(M),\ M_{t+1}=\mu M_t+G_{t+1}",
    assumes=(),
    kind="identity",
    lhs=lambda g: [trion_against_muon(g)],
    rhs=lambda g: [1.0],
    cases=_momentum,
    broken=lambda t: dataclasses.replace(t, lhs=lambda g: [trion_against_muon(g, 1)]),
    mistake="one column less",
    source="ours, on [modoranu2025fft]",
    tolerance=1e-11,
    reason="polar factors of momenta with condition below 1e3",
)


@dataclasses.dataclass(frozen=True)
class Planes:
    """Memory, gradient, step size and pull of the two-plane model."""

    d: np.ndarray
    g: np.ndarray
    lr: float
    pull: float

    def model(self, z: np.ndarray) -> float:
        """Return max(<g, z>, <d, z>) + |z|^2 / 2 lr + pull |z + lr d|^2 / 2 lr."""
        planes = max(np.sum(self.g * z), np.sum(self.d * z))
        away = np.sum((z + self.lr * self.d) ** 2)
        return float(planes + (np.sum(z * z) + self.pull * away) / (2 * self.lr))

    def step(self) -> np.ndarray:
        """Return the step of the method from memory d."""
        method = AdaptiveMemory(lr=self.lr, pull=self.pull)
        w = np.zeros_like(self.d)
        return method.step(w, self.g, method.State(self.d, 1))[0]

    def minimizer(self) -> np.ndarray:
        """Return the model's minimizer by the best of its three kinds: one plane active, or both."""
        d, g, lr, pull = self.d, self.g, self.lr, self.pull
        ends = [-lr * (p + pull * d) / (1 + pull) for p in (d, g)]
        base = ends[1]  # both active: the projection of the one-plane minimizer on <g - d, z> = 0
        normal = g - d
        ends.append(base - normal * np.sum(normal * base) / np.sum(normal * normal))
        return min(ends, key=self.model)


def _planes(size: Size) -> Cases:
    rng = np.random.default_rng(4)
    for i in range(12 if size == "smoke" else 200):
        d, g = rng.standard_normal((2, 3, 2)) * 10 ** rng.uniform(-1, 1, (2, 1, 1))
        pull = float(rng.choice([0.0, 0.1, 2.0]))
        yield f"pull {pull:g}, draw {i}", Planes(d, g, 0.3, pull)


adaptive_memory_proximal = Theorem(
    label="adaptive-memory-proximal",
    title="The adaptive factor makes the momentum step a proximal step of two planes",
    statement=(
        r"-\eta d_{t+1}=\arg\min_z\ \max(\langle g,z\rangle,\langle d,z\rangle)"
        r"+\tfrac1{2\eta}\|z\|^2+\tfrac\lambda{2\eta}\|z+\eta d\|^2"
    ),
    assumes=(),
    kind="identity",
    lhs=lambda c: [one_plus_distance(c.step(), c.minimizer())],
    rhs=lambda c: [1.0],
    cases=_planes,
    broken=lambda t: dataclasses.replace(
        t, lhs=lambda c: [one_plus_distance(-c.lr * ((0.9 + c.pull) * c.d + 0.1 * c.g) / (1 + c.pull), c.minimizer())]
    ),
    mistake="a fixed factor of 0.9",
    source="ours, on [topollai2025adaptive]",
    tolerance=1e-10,
)


@dataclasses.dataclass(frozen=True)
class Factors:
    """Factors B and A, a target and positive weights of rows and columns."""

    b: np.ndarray
    a: np.ndarray
    target: np.ndarray
    p: np.ndarray
    q: np.ndarray

    def steps(self) -> tuple[np.ndarray, np.ndarray]:
        """Return dB and dA."""
        return factor_steps(self.b, self.a, self.target, self.p, self.q)

    def tangent(self) -> np.ndarray:
        """Return dB A + B dA."""
        db, da = self.steps()
        return db @ self.a + self.b @ da

    def projection(self, *, weighted: bool = True) -> np.ndarray:
        """Return the projection of the target on the tangent space by dense least squares."""
        (m, r), n = self.b.shape, self.a.shape[1]
        left = np.einsum("ik,lj->ijkl", np.eye(m), self.a).reshape(m * n, m * r)
        right = np.einsum("il,jk->ijlk", self.b, np.eye(n)).reshape(m * n, r * n)
        basis = np.hstack([left, right])
        root = np.sqrt(self.p * self.q).ravel() if weighted else np.ones(m * n)
        best = np.linalg.lstsq(root[:, None] * basis, root * self.target.ravel(), rcond=1e-12)[0]
        return (basis @ best).reshape(m, n)

    def turned(self, x: np.ndarray) -> Factors:
        """Return the same product in the factors B X, X^-1 A."""
        return dataclasses.replace(self, b=self.b @ x, a=np.linalg.solve(x, self.a))

    def imbalance(self, x: np.ndarray | float = 0.0) -> float:
        """Return the weighted |dB A - B dA| for dB + B x, dA - x A."""
        db, da = self.steps()
        x = x * np.eye(self.b.shape[1]) if isinstance(x, float) else x
        gap = (db + self.b @ x) @ self.a - self.b @ (da - x @ self.a)
        return float(np.sqrt(np.sum(self.p * self.q * gap**2)))


def _factors(size: Size) -> Cases:
    rng = np.random.default_rng(5)
    for m, n, r in ((5, 4, 2), (3, 7, 1), (4, 4, 3)):
        b, a, target = (rng.standard_normal(s) for s in ((m, r), (r, n), (m, n)))
        yield f"{m} x {n}, rank {r}", Factors(b, a, target, rng.uniform(0.1, 3, (m, 1)), rng.uniform(0.1, 3, (1, n)))


def _gauge(rank: int) -> np.ndarray:
    return np.eye(rank) + 0.3 * np.random.default_rng(6).standard_normal((rank, rank))


adaprelora_projection = Theorem(
    label="adaprelora-projection",
    title="AdaPreLoRA's factor steps make the weighted projection on the tangent space",
    statement=r"\dot BA+B\dot A=\arg\min_{T\in T_{BA}}\ \sum_{ij}p_iq_j\,(T_{ij}-D_{ij})^2",
    assumes=(),
    kind="identity",
    lhs=lambda c: [one_plus_distance(c.tangent(), c.projection())],
    rhs=lambda c: [1.0],
    cases=_factors,
    broken=lambda t: dataclasses.replace(
        t, rhs=lambda c: [one_plus_distance(c.projection(weighted=False), c.projection())]
    ),
    mistake="the projection without weights",
    source="ours, on [bian2026adaprelora]",
    tolerance=1e-10,
)

adaprelora_gauge = Theorem(
    label="adaprelora-gauge",
    title="AdaPreLoRA's step of the product does not depend on its factors",
    statement=r"(B,A)\to(BX,X^{-1}A)\quad\text{leaves}\quad \dot BA+B\dot A\quad\text{as it is}",
    assumes=(),
    kind="identity",
    lhs=lambda c: [one_plus_distance(c.turned(_gauge(c.b.shape[1])).tangent(), c.tangent())],
    rhs=lambda c: [1.0],
    cases=_factors,
    broken=lambda t: dataclasses.replace(t, lhs=_plain_gradients),
    mistake="plain gradients of the factors",
    source="ours, on [bian2026adaprelora]",
    tolerance=1e-10,
)


def _plain_gradients(c: Factors) -> list[float]:
    def product_step(f: Factors) -> np.ndarray:
        return f.target @ f.a.T @ f.a + f.b @ f.b.T @ f.target

    return [one_plus_distance(product_step(c.turned(_gauge(c.b.shape[1]))), product_step(c))]


def _other_gauges(c: Factors) -> np.ndarray:
    rng, r = np.random.default_rng(7), c.b.shape[1]
    return np.array([c.imbalance(0.1 * rng.standard_normal((r, r))) for _ in range(100)])


adaprelora_balanced = Theorem(
    label="adaprelora-balanced",
    title="AdaPreLoRA's factor steps have the least imbalance of all that make the same step",
    statement=r"\|\dot BA-B\dot A\|_H\le\|(\dot B+BX)A-B(\dot A-XA)\|_H\quad\text{for all }X",
    assumes=(),
    kind="upper",
    lhs=lambda c: np.full(100, c.imbalance()),
    rhs=_other_gauges,
    cases=_factors,
    broken=lambda t: dataclasses.replace(t, lhs=lambda c: np.full(100, c.imbalance(0.5))),
    mistake="the pair shifted by X = I / 2",
    source="ours, on [bian2026adaprelora]",
    tolerance=1e-12,
)

THEOREMS = (
    adamp_norm_growth,
    adafactor_rank_one,
    diffgrad_half_adam,
    dct_l2_optimal,
    trion_full_rank,
    adaptive_memory_proximal,
    adaprelora_projection,
    adaprelora_gauge,
    adaprelora_balanced,
)
