"""Merge task matrices T_t = W_t - W_0: isotropic spectra, orthogonal projection of a stream, curvature weights, hulls.

Tasks are stacked, (tasks, m, n).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, NamedTuple

from ..arrays import Array, array_namespace, check_matrix, check_number, device_of, dtype_name, frobenius, to_host
from ..names import closest
from ..polar.svd import thin_svd
from .contract import divide


def check_tasks(tasks: Array, who: str) -> None:
    """Refuse what is not a non-empty stack (tasks, m, n) of finite matrices, naming the task that is not finite."""
    check_matrix(tasks, who)
    if tasks.ndim != 3 or not tasks.shape[0]:
        raise ValueError(f"{who} needs a stack of at least one task, shape (tasks, m, n); got {tuple(tasks.shape)}.")
    finite = to_host(array_namespace(tasks).all(array_namespace(tasks).isfinite(tasks), axis=(1, 2)))
    if not finite.all():
        raise ValueError(f"{who}: task {int((~finite).argmax())} has an entry that is not finite; leave the task out.")


def isotropic(matrix: Array, *, rank_aware: bool = False) -> Array:
    """Return mean(s) U V^T for matrix = U diag(s) V^T: the polar factor, with the nuclear norm kept.

    At rank deficiency the null spaces have no U V^T; the authors' code puts mean(s) on whatever the SVD returns there.
    `rank_aware` takes the partial isometry and the mean over the nonzero singular values instead, which keeps the
    nuclear norm as well and makes no directions up.
    """
    check_matrix(matrix, "isotropic")
    xp = array_namespace(matrix)
    u, s, vh = thin_svd(matrix)
    if not rank_aware:
        return xp.mean(s, axis=-1)[..., None, None] * (u @ vh)
    on = xp.astype(s > 0, s.dtype)
    count = xp.sum(on, axis=-1)
    mean = divide(xp.sum(s, axis=-1), count)
    return mean[..., None, None] * ((u * on[..., None, :]) @ vh)


def iso_c(tasks: Array, *, rank_aware: bool = False) -> Array:
    """Return the isotropic form of the sum of the tasks, shape (m, n) [marczak2025task]."""
    check_tasks(tasks, "iso_c")
    return isotropic(array_namespace(tasks).sum(tasks, axis=0), rank_aware=rank_aware)


def iso_cts(tasks: Array, common: float = 0.8) -> Array:
    """Return isotropic merging with a common and task-specific subspaces, shape (m, n).

        U_c: leading k left singular vectors of the sum;   R_t = (I - U_c U_c^T) T_t
        U = polar([U_1, ..., U_T, U_c]), V likewise from the leading triplets of R_t;   merged = mean(s) U V^T

    Parameters
    ----------
    common : float
        Share of the min(m, n) directions that is common; moved so that the rest divides by the number of tasks.

    Notes
    -----
    The common part is removed on the left alone, as the authors do, so that the V blocks are not orthogonal before the
    polar factor [marczak2025task]. Cost: tasks + 3 SVDs.
    """
    check_tasks(tasks, "iso_cts")
    check_number(common, "common", high=1.0)
    xp = array_namespace(tasks)
    count, size = tasks.shape[0], min(tasks.shape[1:])
    each = round((size - int(size * common)) / count)
    k = size - each * count
    if k < 0:
        raise ValueError(f"iso_cts: {count} tasks cannot share {size} directions with common = {common:g}; raise it.")
    u, s, vh = thin_svd(xp.sum(tasks, axis=0))
    u_common = u[:, :k]
    left, right, spectrum = [], [], []
    for t in range(count):
        rest = tasks[t, ...] - u_common @ (u_common.mT @ tasks[t, ...])
        ut, st, vt = thin_svd(rest)
        left.append(ut[:, :each])
        right.append(vt[:each, :])
        spectrum.append(st[:each])
    left, right, spectrum = [*left, u_common], [*right, vh[:k, :]], [*spectrum, s[:k]]
    big_u, _, small_u = thin_svd(xp.concat(left, axis=1))
    big_v, _, small_v = thin_svd(xp.concat(right, axis=0))
    return xp.mean(xp.concat(spectrum)) * ((big_u @ small_u) @ (big_v @ small_v))


@dataclass(frozen=True)
class OPCM:
    """Merge a stream of tasks: add of each new one only what is orthogonal to the merged one, at constant norm.

        T = U diag(s) V^T,   N = U^T T_new V with its leading k x k block and its diagonal zeroed,   C = U N V^T
        T <- (lam T + C) / lam',   |T| = the mean norm of the tasks so far

    Parameters
    ----------
    alpha : float
        k is the number of leading singular values with a cumulative share of at most alpha.
    variant : "zeroed" or "copy"
        zeroed: as in the paper and in the later revision of the code. copy: an earlier revision zeroed the diagonal of
        a copy, so that outside the block it stays, and <C, T> is not 0.

    Notes
    -----
    zeroed: <C, T>_F = 0, by the zero diagonal alone, and lam grows like sqrt(t) [tang2025merging]. U and V are not
    completed: C = T_new - U_k N_kk V_k^T - (diagonal part) needs the thin SVD only. The norm is that of this matrix;
    the authors take the norm of the whole model. Memory: one matrix, whatever the number of tasks.
    """

    alpha: float = 0.5
    variant: Literal["zeroed", "copy"] = "zeroed"

    class State(NamedTuple):
        """The merged task matrix, its scale lam, the mean task norm and the number of tasks."""

        merged: Array
        scale: Array
        mean_norm: Array
        tasks: int

    def __post_init__(self) -> None:
        check_number(self.alpha, "OPCM.alpha", high=1.0)
        closest(self.variant, {"zeroed": 0, "copy": 0}, "OPCM variant")

    def init(self, task: Array) -> State:
        """Return the state after the first task (m, n)."""
        check_tasks(task[None, ...], "OPCM")
        norm = frobenius(task)
        return self.State(task, array_namespace(norm).ones_like(norm), norm, 1)

    def novel(self, merged: Array, task: Array) -> Array:
        """Return C, the part of a task that is added."""
        xp = array_namespace(merged)
        u, s, vh = thin_svd(merged)
        shares = divide(xp.cumulative_sum(s), xp.sum(s))
        above = to_host(shares > self.alpha)
        k = int(above.argmax())  # the first one above alpha; none above gives 0, as in the authors' code
        n = u.mT @ task @ vh.mT
        removed = (u[:, :k] @ n[:k, :k]) @ vh[:k, :]
        if self.variant == "zeroed":
            removed = removed + (u[:, k:] * xp.linalg.diagonal(n)[k:]) @ vh[k:, :]
        return task - removed

    def step(self, task: Array, state: State) -> State:
        """Return the state after one more task."""
        check_tasks(task[None, ...], "OPCM")
        xp = array_namespace(task)
        count = state.tasks + 1
        mean_norm = state.mean_norm + (frobenius(task) - state.mean_norm) / count
        total = state.scale * state.merged + self.novel(state.merged, task)
        norm = frobenius(total)
        ratio = xp.where(norm > 0, divide(mean_norm, norm), xp.ones_like(norm))
        return self.State(total * ratio, 1 / ratio, mean_norm, count)


def decouple(
    tasks: Array,
    *,
    axis: Literal["columns", "rows"] = "columns",
    renormalize: bool = False,
    power: float = 1.0,
) -> Array:
    """Merge norms and directions of the columns (or rows) separately: mean norm times mean direction, shape (m, n).

    Every task then has the same say in the direction, whatever its norm. The norms are averaged as
    (mean of norm^power)^(1 / power), from nearly geometric (power -> 0) to the largest (power -> infinity). The axis,
    the power and whether the mean direction is scaled back to length 1 are reconstructed [zheng2025decouple].
    """
    check_number(power, "power", open_low=True, open_high=True)
    check_tasks(tasks, "decouple")
    closest(axis, {"columns": 0, "rows": 0}, "axis")
    xp = array_namespace(tasks)
    along = -2 if axis == "columns" else -1
    norms = xp.linalg.vector_norm(tasks, axis=along, keepdims=True)
    mean = xp.mean(divide(tasks, norms), axis=0)
    if renormalize:
        mean = divide(mean, xp.linalg.vector_norm(mean, axis=along, keepdims=True))
    if power == 1:
        return xp.mean(norms, axis=0) * mean
    top = xp.max(norms, axis=0)
    return top * xp.mean(divide(norms, top + xp.zeros_like(norms)) ** power, axis=0) ** (1 / power) * mean


def orthogonalize_factors(factors: Array, *, gamma: float = 0.1, steps: int = 100) -> Array:
    """Return low-rank factors (tasks, r, n) moved so that their row spaces interfere less, by gradient descent.

    minimizes sum_{i != j} |A_i A_j^T|_F^2 + gamma sum_i |A_i - A_i(0)|_F^2

    The rule is that of [zheng2025decouple] with squared norms, the step 1 / (12 sum |A_i|^2 + 2 gamma) ours.
    """
    check_tasks(factors, "orthogonalize_factors")
    check_number(gamma, "gamma", open_high=True)
    xp = array_namespace(factors)
    a = factors
    lipschitz = 12 * xp.sum(a * a) + 2 * gamma
    if not bool(lipschitz > 0):
        return a
    for _ in range(steps):
        gram = a.mT @ a  # (tasks, n, n)
        others = xp.sum(gram, axis=0)[None, ...] - gram
        a = a - (4 * a @ others + 2 * gamma * (a - factors)) / lipschitz
    return a


def interference(factors: Array) -> Array:
    """Return sum_{i != j} |A_i A_j^T|_F^2 of factors (tasks, r, n)."""
    xp = array_namespace(factors)
    products = factors[:, None, ...] @ factors[None, ...].mT
    squares = xp.sum(products * products, axis=(-2, -1))
    return xp.sum(squares) - xp.sum(xp.linalg.diagonal(squares))


def ota(
    weights: Array,
    moments: Array,
    base: Array,
    *,
    power: float = 0.5,
    eps: float = 1e-8,
    normalize: bool = False,
    threshold: float | None = None,
    rank_one: bool = False,
) -> Array:
    """Average weights by their curvature: base + sum_t P_t (W_t - base) / sum_t P_t with P_t = v_t^power + eps.

    Parameters
    ----------
    weights, moments : array (tasks, ...)
        Weights of each model and their second moments v >= 0.
    base : array (...)
        The common start, and the value where every task is masked.
    normalize : bool
        Divide v^power by its mean over each task first.
    threshold : float or None
        Entries with v (W - base)^2 below it are left out.
    rank_one : bool
        Replace v (m, n) by (row sums)(column sums) / total, all that has to be stored.

    Notes
    -----
    For quadratic losses with diagonal Hessians H_t, v = H_t, power = 1 and eps = 0 the result is the minimizer of the
    summed loss. Where all weights P are zero the result is `base` [mahdavinia2025harnessing].
    """
    xp = array_namespace(weights, moments, base)
    if weights.shape != moments.shape or weights.shape[1:] != base.shape or weights.ndim < 2:
        raise ValueError(
            f"ota needs weights and moments (tasks, ...) and a base (...); got {tuple(weights.shape)}, "
            f"{tuple(moments.shape)} and {tuple(base.shape)}."
        )
    if bool(xp.any(moments < 0)):
        raise ValueError("ota needs second moments v >= 0; one of them is negative.")
    check_number(power, "power", open_low=True, open_high=True)
    v = moments
    if rank_one:
        check_matrix(v, "ota (rank_one)")
        total = xp.sum(v, axis=(-2, -1), keepdims=True)
        rows, columns = xp.sum(v, axis=-1, keepdims=True), xp.sum(v, axis=-2, keepdims=True)
        v = rows * divide(columns, total)
    axes = tuple(range(1, v.ndim))
    p = v**power
    if normalize:
        p = p / (xp.mean(p, axis=axes, keepdims=True) + eps)
    p = p + eps
    moved = weights - base
    if threshold is not None:
        p = xp.where(v * moved * moved >= threshold, p, xp.zeros_like(p))
    return base + divide(xp.sum(p * moved, axis=0), xp.sum(p, axis=0))


class HullPoint(NamedTuple):
    """A point of conv{W_t}, its weights, and the Frank-Wolfe gap of each step, above f - min f for convex f."""

    point: Array  # (m, n)
    weights: Array  # (tasks,)
    gaps: Array  # (steps,)


def frank_wolfe(
    tasks: Array,
    grad: Callable[[Array], Array],
    *,
    steps: int = 100,
    rule: Literal["linear", "cosine"] = "linear",
    scale: float = 1.0,
) -> HullPoint:
    """Merge by Frank-Wolfe on the hull of the models: W <- W + 2 scale / (t + 2) (V - W).

    Parameters
    ----------
    grad : function of a point
        Gradient of the loss to be minimized.
    rule : "linear" or "cosine"
        V minimizes <grad, V>: the linear minimization, with f - min f <= 2 L diam^2 / (t + 2) for scale 1. Or the
        cosine of grad and V, as in the authors' code, which has no such guarantee.

    Notes
    -----
    Starts at the mean of the models. `gaps` are those of the linear rule in either case [chen2025fw],
    [jaggi2013revisiting].
    """
    check_tasks(tasks, "frank_wolfe")
    closest(rule, {"linear": 0, "cosine": 0}, "rule")
    check_number(scale, "scale", high=1.0, open_low=True)
    xp = array_namespace(tasks)
    count = tasks.shape[0]
    weights = xp.full((count,), 1 / count, dtype=tasks.dtype, device=device_of(tasks))
    lengths = frobenius(tasks)
    eye = xp.eye(count, dtype=tasks.dtype, device=device_of(tasks))
    gaps = []
    for t in range(steps):
        point = xp.sum(weights[:, None, None] * tasks, axis=0)
        g = grad(point)
        scores = xp.sum(g * tasks, axis=(-2, -1))
        gaps.append(xp.sum(weights * scores) - xp.min(scores))
        best = int(xp.argmin(scores if rule == "linear" else divide(scores, lengths)))
        weights = weights + 2 * scale / (t + 2) * (eye[best, :] - weights)
    return HullPoint(xp.sum(weights[:, None, None] * tasks, axis=0), weights, xp.stack(gaps))


class Core(NamedTuple):
    """Tasks B_t A_t = U M_t V^T in a common basis: the core matrices M_t (tasks, k, k) and the bases."""

    u: Array  # (m, k)
    cores: Array  # (tasks, k, l)
    vh: Array  # (l, n)

    def expand(self, core: Array) -> Array:
        """Return U M V^T."""
        return self.u @ core @ self.vh


def core_space(b: Array, a: Array) -> Core:
    """Return the core form of low-rank tasks B_t (tasks, m, r) times A_t (tasks, r, n), without forming any (m, n).

    Lossless: U spans all B_t and V all A_t. Merging in the core equals merging in full for every rule that depends on
    the nonzero singular triplets alone (sum, rank-aware isotropic). Plain Iso-C takes its mean over tasks * r values
    in the core and over min(m, n) in full, and so differs by that ratio; rules by coordinate (signs, magnitudes) do
    not commute at all [panariello2025accurate].
    """
    check_tasks(b, "core_space (B)")
    check_tasks(a, "core_space (A)")
    if b.shape[0] != a.shape[0] or b.shape[2] != a.shape[1] or b.dtype != a.dtype:
        raise ValueError(
            f"core_space needs B (tasks, m, r) and A (tasks, r, n); got {tuple(b.shape)} {dtype_name(b)} and "
            f"{tuple(a.shape)} {dtype_name(a)}."
        )
    xp = array_namespace(b, a)
    u = thin_svd(xp.reshape(xp.permute_dims(b, (1, 0, 2)), (b.shape[1], -1))).u
    vh = thin_svd(xp.reshape(a, (-1, a.shape[2]))).vh
    return Core(u, (u.mT @ b) @ (a @ vh.mT), vh)


def osrm(inputs: Array, rank: int) -> Array:
    """Return A (rank, n) with A A^T = I that minimizes |Z A^T|_F over the inputs Z (samples, n) of the other tasks.

    The last right singular vectors of Z: an adapter B A then changes the outputs on Z as little as any can, not at all
    if rank <= n - rank(Z) [zhang2025unraveling]. After training, `task @ A^T` is the best B for a given task matrix.
    Cost: a full SVD of Z.
    """
    check_tasks(inputs[None, ...], "osrm")
    n = inputs.shape[-1]
    if not 1 <= rank <= n:
        raise ValueError(f"rank must lie between 1 and n = {n}; got {rank}.")
    xp = array_namespace(inputs)
    peak = xp.max(xp.abs(inputs))
    vh = xp.linalg.svd(inputs / xp.where(peak > 0, peak, xp.ones_like(peak)), full_matrices=True).Vh
    return xp.flip(vh, axis=-2)[..., :rank, :]


__all__ = [
    "OPCM",
    "Core",
    "HullPoint",
    "core_space",
    "decouple",
    "frank_wolfe",
    "interference",
    "iso_c",
    "iso_cts",
    "isotropic",
    "orthogonalize_factors",
    "osrm",
    "ota",
]
