"""What AdamP, Adafactor, diffGrad, the cosine subspaces, Lookahead and adaptive memory do exactly."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterator
from typing import Any

import numpy as np

from ..methods import Adam, AdamP, AdaptiveMemory, DiffGrad, Lookahead, Muon, Trion
from ..methods.adafactor import rank_one
from ..methods.dct import best_columns, dct_matrix
from ..problems import orthogonal
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
class Pulled:
    """Lookahead over gradient descent on w^T H w / 2, for a number of pulls."""

    hessian: np.ndarray
    method: Lookahead
    pulls: int = 6

    def slow(self) -> np.ndarray:
        """Return the weights after each pull, from a start of ones."""
        w = np.ones((len(self.hessian), 1))
        state, found = self.method.init(w), []
        for _ in range(self.pulls):
            for _ in range(self.method.period):
                w, state = self.method.step(w, self.hessian @ w, state)
            found.append(w)
        return np.array(found)

    def closed(self, pull: float) -> np.ndarray:
        """Return the same from the powers of (1 - pull) I + pull (I - lr H)^k."""
        eye, w = np.eye(len(self.hessian)), np.ones((len(self.hessian), 1))
        inner = np.linalg.matrix_power(eye - self.method.lr * self.hessian, self.method.period)
        cycle = (1 - pull) * eye + pull * inner
        return np.array([np.linalg.matrix_power(cycle, i + 1) @ w for i in range(self.pulls)])


def _pulled(size: Size) -> Cases:
    rng = np.random.default_rng(8)
    for lr, pull, period in ((0.1, 0.5, 5), (0.9, 0.8, 3), (0.4, 0.3, 8), (1.9, 0.5, 5)):
        q = orthogonal(5, rng)
        text = f"lr {lr:g}, pull {pull:g}, period {period}"
        yield text, Pulled((q * np.geomspace(0.05, 1, 5)) @ q.T, Lookahead(lr=lr, pull=pull, period=period))


lookahead_mean = Theorem(
    label="lookahead-mean",
    title="The mean of Lookahead's slow weights moves by one matrix a pull",
    statement=r"\mathbb E\,S_{j+1}=\bigl[(1-\alpha)I+\alpha(I-\eta H)^k\bigr]\,\mathbb E\,S_j",
    assumes=(),
    kind="identity",
    lhs=lambda c: [one_plus_distance(a, b) for a, b in zip(c.slow(), c.closed(c.method.pull), strict=True)],
    rhs=lambda c: np.ones(c.pulls),
    cases=_pulled,
    broken=lambda t: dataclasses.replace(
        t, lhs=lambda c: [one_plus_distance(a, b) for a, b in zip(c.slow(), c.closed(1.0), strict=True)]
    ),
    mistake="the matrix of k inner steps, without the pull",
    source="[zhang2019lookahead]",
    tolerance=1e-12,
    reason="48 steps of a matrix of norm below 1: the mean is linear, so zero noise shows it exactly",
)

THEOREMS = (
    lookahead_mean,
    adamp_norm_growth,
    adafactor_rank_one,
    diffgrad_half_adam,
    dct_l2_optimal,
    trion_full_rank,
    adaptive_memory_proximal,
)
