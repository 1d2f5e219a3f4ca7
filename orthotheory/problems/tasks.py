"""Generators for surgery: retain/forget pairs, flat valleys, task sequences, task matrices, sparse streams, a chain.

Everything is drawn on the host from a seed and moved to the device, so that all backends see the same numbers.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np

from ..arrays import Array, Backend, array_namespace, backend, check_number, generator, to_host
from ..names import closest
from .quadratic import log_spectrum, orthogonal


@dataclass(frozen=True)
class LogCosh:
    """k smooth, convex, non-quadratic losses f_j(w) = mean_i log cosh(<a_ji, w> - b_ji) of a vector w (..., n).

    inputs (k, samples, n), targets (k, samples).
    """

    inputs: Array
    targets: Array

    def value(self, w: Array) -> Array:
        """Return the losses, shape (..., k)."""
        xp = array_namespace(w)
        z = xp.abs(self._residual(w))
        return xp.mean(z + xp.log1p(xp.exp(-2 * z)), axis=-1) - float(np.log(2))

    def grad(self, w: Array) -> Array:
        """Return the gradients as the rows of a Jacobian, shape (..., k, n)."""
        xp = array_namespace(w)
        slope = xp.tanh(self._residual(w)) / self.inputs.shape[-2]
        return (slope[..., None, :] @ self.inputs)[..., 0, :]

    def smoothness(self) -> np.ndarray:
        """Return L_j = |A_j^T A_j|_2 / samples, the exact Lipschitz constants of the gradients (attained at z = 0)."""
        a = to_host(self.inputs)
        return np.linalg.norm(a, 2, axis=(1, 2)) ** 2 / a.shape[1]

    def _residual(self, w: Array) -> Array:
        return (self.inputs @ w[..., None, :, None])[..., 0] - self.targets


class RetainForget(NamedTuple):
    """Losses to be kept, a loss to be raised, and a point where none of the gradients vanishes."""

    retain: LogCosh
    forget: LogCosh
    start: Array  # (n,)


def retain_forget(
    *,
    n: int = 20,
    retain: int = 4,
    samples: int = 12,
    overlap: float = 0.7,
    seed: int = 0,
    dtype: str = "float64",
    device: str | Backend | None = None,
) -> RetainForget:
    """Build `retain` losses and one forget loss whose inputs share a mean direction in the proportion `overlap`."""
    check_number(overlap, "overlap", high=1.0)
    rng, where = generator(seed), backend(device)
    common = rng.standard_normal((1, 1, n))

    def losses(k):
        a = overlap * common + (1 - overlap) * rng.standard_normal((k, samples, n))
        return LogCosh(*(where.asarray(x, dtype) for x in (a / np.sqrt(n), 0.5 * rng.standard_normal((k, samples)))))

    return RetainForget(losses(retain), losses(1), where.asarray(rng.standard_normal(n), dtype))


@dataclass(frozen=True)
class FlatValley:
    """A main loss that is flat in some coordinates, and an auxiliary loss that pulls out of the valley and along it.

        main(w) = sum_{i < steep} h_i w_i^2 / 2,   aux(w) = |w - target|^2 / 2

    Among the minimizers of `main` the best auxiliary value is sum_{i < steep} target_i^2 / 2, at w = (0, target_flat).
    """

    curvature: Array  # (n,), zero in the flat coordinates
    target: Array  # (n,)
    start: Array  # (n,)

    def main(self, w: Array) -> Array:
        """Return the main loss, shape (...)."""
        return 0.5 * array_namespace(w).sum(self.curvature * w * w, axis=-1)

    def main_grad(self, w: Array) -> Array:
        """Return its gradient."""
        return self.curvature * w

    def aux_grad(self, w: Array) -> Array:
        """Return the gradient of the auxiliary loss."""
        return w - self.target

    def valley_distance(self, w: Array) -> Array:
        """Return |w_flat - target_flat|, what is left to gain inside the valley."""
        xp = array_namespace(w)
        return xp.linalg.vector_norm(xp.where(self.curvature == 0, w - self.target, xp.zeros_like(w)), axis=-1)


def flat_valley(
    *, steep: int = 5, flat: int = 5, condition: float = 10.0, seed: int = 0, dtype: str = "float64", device=None
) -> FlatValley:
    """Build a valley of `flat` dimensions with log-spaced curvatures across it."""
    rng, where = generator(seed), backend(device)
    curvature = np.concatenate([log_spectrum(steep, condition), np.zeros(flat)])
    target, start = rng.standard_normal((2, steep + flat))
    return FlatValley(*(where.asarray(x, dtype) for x in (curvature, target, start)))


class LinearTask(NamedTuple):
    """A regression task of a linear layer: W inputs ~ targets."""

    inputs: Array  # (in, samples)
    targets: Array  # (out, samples)

    def loss(self, w: Array) -> Array:
        """Return |W X - Y|_F^2 / (2 samples), shape (...)."""
        r = w @ self.inputs - self.targets
        return array_namespace(w).sum(r * r, axis=(-2, -1)) / (2 * self.inputs.shape[-1])

    def grad(self, w: Array) -> Array:
        """Return (W X - Y) X^T / samples."""
        return (w @ self.inputs - self.targets) @ self.inputs.mT / self.inputs.shape[-1]


def task_sequence(
    *,
    tasks: int = 5,
    outputs: int = 4,
    inputs: int = 24,
    rank: int = 4,
    shared: int = 0,
    samples: int = 30,
    seed: int = 0,
    dtype: str = "float64",
    device: str | Backend | None = None,
) -> list[LinearTask]:
    """Build tasks whose inputs span random subspaces of dimension `rank`, the first `shared` directions in common.

    Every task has its own true weight, so that old and new tasks disagree on what they share.
    """
    check_number(shared, "shared", high=rank)
    check_number(rank, "rank", low=1, high=inputs)
    rng, where = generator(seed), backend(device)
    common = rng.standard_normal((inputs, shared))
    out = []
    for _ in range(tasks):
        basis = np.linalg.qr(np.concatenate([common, rng.standard_normal((inputs, rank - shared))], axis=1))[0]
        x = basis @ rng.standard_normal((rank, samples))
        y = rng.standard_normal((outputs, inputs)) @ x
        out.append(LinearTask(where.asarray(x, dtype), where.asarray(y, dtype)))
    return out


class LowRankTasks(NamedTuple):
    """Adapters B_t A_t."""

    b: Array  # (tasks, m, r)
    a: Array  # (tasks, r, n)

    def matrices(self) -> Array:
        """Return the task matrices, (tasks, m, n)."""
        return self.b @ self.a


def adapters(
    *, tasks: int = 4, rows: int = 15, columns: int = 20, rank: int = 3, seed: int = 0, dtype="float64", device=None
) -> LowRankTasks:
    """Build Gaussian adapters."""
    rng, where = generator(seed), backend(device)
    b, a = rng.standard_normal((tasks, rows, rank)), rng.standard_normal((tasks, rank, columns))
    return LowRankTasks(where.asarray(b, dtype), where.asarray(a, dtype))


def task_matrices(
    *,
    tasks: int = 4,
    rows: int = 16,
    columns: int = 12,
    kind: Literal["random", "low-rank", "planted"] = "random",
    rank: int = 2,
    common: float = 1.0,
    seed: int = 0,
    dtype: str = "float64",
    device: str | Backend | None = None,
) -> Array:
    """Return task matrices (tasks, rows, columns).

    random: Gaussian. low-rank: of rank `rank`. planted: `common` times one strong matrix of rank `rank` that all share,
    plus a weak part of rank `rank` of each task's own, in directions orthogonal to those of the others.
    """
    closest(kind, {"random": 0, "low-rank": 0, "planted": 0}, "kind of tasks")
    rng, where = generator(seed), backend(device)
    if kind == "random":
        return where.asarray(rng.standard_normal((tasks, rows, columns)), dtype)
    if kind == "low-rank":
        return where.asarray(
            rng.standard_normal((tasks, rows, rank)) @ rng.standard_normal((tasks, rank, columns)), dtype
        )
    if (tasks + 1) * rank > min(rows, columns):
        raise ValueError(f"planted tasks need (tasks + 1) * rank <= min(rows, columns); got {(tasks + 1) * rank}.")
    u, v = orthogonal(rows, rng), orthogonal(columns, rng)
    blocks = [slice(i * rank, (i + 1) * rank) for i in range(tasks + 1)]
    shared = u[:, blocks[0]] @ v[:, blocks[0]].T
    own = [u[:, s] @ v[:, s].T for s in blocks[1:]]
    return where.asarray(np.stack([common * shared + o / 4 for o in own]), dtype)


class DiagonalQuadratics(NamedTuple):
    """f_t(W) = sum h_t (W - W_t)^2 / 2, entry by entry."""

    curvatures: Array  # (tasks, m, n), nonnegative
    optima: Array  # (tasks, m, n)

    def joint_minimizer(self) -> Array:
        """Return sum h_t W_t / sum h_t."""
        xp = array_namespace(self.optima)
        return xp.sum(self.curvatures * self.optima, axis=0) / xp.sum(self.curvatures, axis=0)


def diagonal_quadratics(
    *,
    tasks: int = 4,
    rows: int = 6,
    columns: int = 5,
    condition: float = 1e4,
    seed: int = 0,
    dtype="float64",
    device=None,
) -> DiagonalQuadratics:
    """Build quadratics with log-uniform curvatures and Gaussian optima."""
    rng, where = generator(seed), backend(device)
    curvatures = condition ** -rng.uniform(size=(tasks, rows, columns))
    return DiagonalQuadratics(*(where.asarray(x, dtype) for x in (curvatures, rng.standard_normal(curvatures.shape))))


@dataclass(frozen=True)
class SparseStream:
    """Samples y = A x with an orthogonal A and Bernoulli-Gaussian x of unit variance."""

    truth: np.ndarray  # (n, n)
    density: float

    def draw(self, count: int, rng: np.random.Generator) -> np.ndarray:
        """Return samples (n, count)."""
        n = len(self.truth)
        x = rng.standard_normal((n, count)) * (rng.uniform(size=(n, count)) < self.density) / np.sqrt(self.density)
        return self.truth @ x


def sparse_stream(*, n: int = 16, density: float = 0.2, seed: int = 0) -> SparseStream:
    """Build a stream with a Haar-random dictionary."""
    check_number(density, "density", high=1.0, open_low=True)
    return SparseStream(orthogonal(n, generator(seed)), density)


@dataclass(frozen=True)
class Chain:
    """A deterministic chain of states with linear values V(s) = <phi_s, w>, reward at the end, discount gamma."""

    features: np.ndarray  # (states, n)
    rewards: np.ndarray  # (states,)
    discount: float

    def residual(self, w: np.ndarray) -> np.ndarray:
        """Return r_s + gamma V(s + 1) - V(s), with V = 0 after the last state."""
        return self.rewards + self._next() @ w - self.features @ w

    def gradients(self, w: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the forward and the backward gradient of the mean of residual^2 / 2; their sum is the true one."""
        delta = self.residual(w) / len(self.rewards)
        return -delta @ self.features, delta @ self._next()

    def values(self) -> np.ndarray:
        """Return the true values of all states."""
        return self.discount ** np.arange(len(self.rewards))[::-1] * self.rewards[-1]

    def _next(self) -> np.ndarray:
        return self.discount * np.concatenate([self.features[1:], np.zeros((1, self.features.shape[1]))])


def chain(*, states: int = 8, features: int = 8, discount: float = 0.9, seed: int = 0) -> Chain:
    """Build a chain with random features; as many features as states make every value function exact."""
    rng = generator(seed)
    rewards = np.zeros(states)
    rewards[-1] = 1.0
    return Chain(np.eye(states) if features == states else rng.standard_normal((states, features)), rewards, discount)
