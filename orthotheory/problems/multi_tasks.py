"""Tasks as several objectives: regression tasks of one layer, and losses to keep beside one to raise."""

from __future__ import annotations

import functools
from typing import Literal

import numpy as np

from ..arrays import Array, Backend, array_namespace, backend, backend_of, frobenius, generator, to_host
from ..names import closest
from ..norms import Norm
from .contract import Constant, Dtype
from .curvature import Form, smoothness
from .multi_objective import MultiObjective, Quadratics, in_norm
from .noise import Gaussian
from .tasks import LinearTask, RetainForget
from .tasks import retain_forget as draw_pair
from .tasks import task_matrices as draw_matrices
from .tasks import task_sequence as draw_tasks


class LayerTasks(MultiObjective):
    """f_t(W) = |W X_t - Y_t|_F^2 / (2 samples) of weights W (out, in): one regression task each.

    Where the tasks agree on the inputs that they share, every W with W X_t = Y_t for all t is optimal for all of them;
    these W are the Pareto set, an affine space. Where they disagree its distance is not known in closed form.
    """

    def __init__(self, tasks: list[LinearTask], start: Array, *, noise=None):
        if not tasks or any(t.inputs.shape[0] != start.shape[-1] for t in tasks):
            raise ValueError(f"start is (out, in) and each task has inputs (in, samples); start: {tuple(start.shape)}.")
        self.tasks, self.start, self.noise = tasks, start, noise
        self.objectives = len(tasks)
        self.minima = tuple(self._residual(t.inputs, t.targets) for t in tasks)

    @staticmethod
    def _residual(inputs: Array, targets: Array) -> float:
        """Return min_W |W X - Y|_F^2 / (2 samples); 0 at rounding level."""
        x, y = to_host(inputs).astype(np.float64), to_host(targets).astype(np.float64)
        rest = np.linalg.lstsq(x.T, y.T, rcond=None)[0].T @ x - y
        least = float(np.sum(rest**2)) / (2 * x.shape[1])
        return least if least > 1e-20 * float(np.sum(y**2)) else 0.0

    def values(self, w):
        return array_namespace(w).stack([t.loss(w) for t in self.tasks], axis=-1)

    def jacobian(self, w):
        return array_namespace(w).stack([t.grad(w) for t in self.tasks], axis=-3)

    def smoothness_of(self, i):
        x = to_host(self.tasks[i].inputs).astype(np.float64)
        return Constant(float(np.linalg.norm(x, 2) ** 2 / x.shape[1]), "exact", "W -> W X X^T / samples")

    def smoothness(self, norm: Norm) -> Constant:
        grams = [(x := to_host(t.inputs).astype(np.float64)) @ x.T / x.shape[1] for t in self.tasks]
        mean = sum(grams) / len(grams)
        return smoothness(norm, Form(np.eye(self.start.shape[-2]), (mean + mean.T) / 2))

    @functools.cached_property
    def _together(self) -> tuple[Array, Array]:
        """All targets and the pseudoinverse of all inputs; refuses tasks that cannot all be solved."""
        x = np.hstack([to_host(t.inputs).astype(np.float64) for t in self.tasks])
        y = np.hstack([to_host(t.targets).astype(np.float64) for t in self.tasks])
        dtype = str(to_host(self.start).dtype)
        inverse = np.linalg.pinv(x, rcond=max(x.shape) * np.finfo(dtype).eps)
        if np.linalg.norm(y @ inverse @ x - y) > 1e-4 * np.linalg.norm(y):
            raise ValueError(
                "The tasks disagree on inputs that they share, so that no weights solve all of them and the distance "
                "to the Pareto set is not known; use shared=0 and tasks * rank <= inputs, or record 'stationarity'."
            )
        where = backend_of(self.start)
        return where.asarray(y, dtype=dtype), where.asarray(inverse, dtype=dtype)

    def pareto_distance(self, w):
        targets, inverse = self._together
        xp = array_namespace(w)
        x = xp.concat([t.inputs for t in self.tasks], axis=-1)
        return frobenius((w @ x - targets) @ inverse)


class RetainAndForget(MultiObjective):
    """Losses to keep low and one to raise, its sign turned: f_1, ..., f_k retain, f_{k+1} = -forget; w is (n, 1).

    The last objective has no minimum, and no point is best for all: the Pareto set is not known in closed form.
    """

    def __init__(self, pair: RetainForget, *, noise=None):
        self.pair, self.noise = pair, noise
        self.start = pair.start[:, None]
        self.objectives = pair.retain.inputs.shape[0] + 1
        self.minima = (0.0,) * (self.objectives - 1) + (-np.inf,)  # lower bounds of the first k

    def values(self, w):
        x = w[..., 0]
        return array_namespace(w).concat([self.pair.retain.value(x), -self.pair.forget.value(x)], axis=-1)

    def jacobian(self, w):
        x = w[..., 0]
        return array_namespace(w).concat([self.pair.retain.grad(x), -self.pair.forget.grad(x)], axis=-2)[..., None]

    def smoothness_of(self, i):
        constants = np.concatenate([self.pair.retain.smoothness(), self.pair.forget.smoothness()])
        return Constant(float(constants[i]), "exact", "|A^T A|_2 / samples, where a residual vanishes")

    def smoothness(self, norm: Norm) -> Constant:
        mean = float(np.mean([float(self.smoothness_of(i)) for i in range(self.objectives)]))
        return in_norm(norm, mean, self.start.shape)

    def pareto_distance(self, w):
        raise ValueError("The Pareto set of a retain-forget pair is not known; use the record 'stationarity'.")


def layer_tasks(
    *,
    tasks: int = 4,
    outputs: int = 4,
    inputs: int = 24,
    rank: int = 4,
    shared: int = 0,
    samples: int = 30,
    dtype: Dtype = "float64",
    seed: int = 0,
    noise: Gaussian | None = None,
    device: str | Backend | None = None,
) -> LayerTasks:
    """Build regression tasks of one linear layer on random input subspaces, with a Gaussian start."""
    where = backend(device)
    drawn = draw_tasks(tasks=tasks, outputs=outputs, inputs=inputs, rank=rank, shared=shared, samples=samples,
                       seed=seed, dtype=dtype, device=where)  # fmt: skip
    start = where.asarray(generator(seed + 1).standard_normal((outputs, inputs)), dtype=dtype)
    return LayerTasks(drawn, start, noise=noise)


def retain_and_forget(
    *,
    size: int = 20,
    retain: int = 4,
    samples: int = 12,
    overlap: float = 0.7,
    dtype: Dtype = "float64",
    seed: int = 0,
    noise: Gaussian | None = None,
    device: str | Backend | None = None,
) -> RetainAndForget:
    """Build losses to keep and one to raise, whose inputs share a mean direction in the proportion `overlap`."""
    pair = draw_pair(n=size, retain=retain, samples=samples, overlap=overlap, seed=seed, dtype=dtype, device=device)
    return RetainAndForget(pair, noise=noise)


def task_matrices(
    *,
    tasks: int = 4,
    rows: int = 8,
    columns: int = 6,
    kind: Literal["random", "low-rank"] = "random",
    rank: int = 2,
    dtype: Dtype = "float64",
    seed: int = 0,
    noise: Gaussian | None = None,
    device: str | Backend | None = None,
) -> Quadratics:
    """Build f_t(W) = |W - T_t|_F^2 / 2 for random task matrices T_t, from W = 0: merging as several objectives.

    The Pareto set is the convex hull of the task matrices, in which every merged matrix sum p_t T_t lies.
    """
    closest(kind, dict.fromkeys(("random", "low-rank")), "kind of tasks")
    where = backend(device)
    t = draw_matrices(tasks=tasks, rows=rows, columns=columns, kind=kind, rank=rank, seed=seed, dtype=dtype,
                      device=where)  # fmt: skip
    eye = where.asarray(np.broadcast_to(np.eye(rows), (tasks, rows, rows)).copy(), dtype=dtype)
    return Quadratics(eye, t, where.asarray(np.zeros((rows, columns)), dtype=dtype), noise=noise)
