"""CoSO and Sculpting Subspaces: train in a subspace of the gradient or of the weights that old tasks do not need."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

from ..arrays import Array, array_namespace, check_matrix, check_number, device_of
from ..names import closest
from ..polar.svd import thin_svd
from .subspace import Subspace, frequent_directions


@dataclass(frozen=True)
class CoSO:
    """Adam in a moving subspace of the gradient, outside the subspace of old tasks.

        G' = (I - M M^T) G;   every `interval` steps P = leading left singular vectors of G'
        W <- W - lr P Adam(P^T G')

    Parameters
    ----------
    rank, sketch_rank : int
        Dimension of the moving subspace, and rows of the sketch of the gradients seen.
    interval : int
        Steps between changes of the subspace.
    energy : float
        Share of the sketched energy that joins M at the end of a task.
    carry : "rotate" or "reset"
        A change of P leaves Adam's moments in the old coordinates: rotate the first one (the second restarts from its
        mean), or reset both. Carrying them over unchanged is meaningless.

    Notes
    -----
    A left projection: M^T (W_end - W_start) = 0 whatever Adam does, as every step is P times something with M^T P = 0.
    It protects old outputs W^T x where weights are stored (in, out); for (out, in) pass the transpose.
    Formulas from a summary of [cheng2025continuous], not from its code; the rule for the moments is ours.
    """

    lr: float = 0.01
    rank: int = 2
    sketch_rank: int = 8
    interval: int = 10
    energy: float = 0.98
    beta1: float = 0.9
    beta2: float = 0.999
    eps: float = 1e-8
    carry: Literal["rotate", "reset"] = "rotate"

    class State(NamedTuple):
        """The basis of the moving subspace, Adam's moments in its coordinates, the sketch and the counters."""

        memory: Subspace
        p: Array  # (m, rank), zero before the first step
        first: Array  # (rank, n)
        second: Array  # (rank, n)
        sketch: Array
        steps: int

    def __post_init__(self) -> None:
        check_number(self.lr, "CoSO.lr", open_low=True, open_high=True)
        check_number(self.energy, "CoSO.energy", high=1.0)
        closest(self.carry, {"rotate": 0, "reset": 0}, "rule")
        for name in ("rank", "sketch_rank", "interval"):
            check_number(getattr(self, name), f"CoSO.{name}", low=1)

    def init(self, w: Array, memory: Subspace | None = None) -> State:
        """Return the state at the start of a task."""
        check_matrix(w, "CoSO")
        xp = array_namespace(w)
        memory = memory if memory is not None else Subspace.empty(w.shape[-2], like=w)
        m, n = w.shape
        sketch, p, moment = (
            xp.zeros(shape, dtype=w.dtype, device=device_of(w))
            for shape in ((self.sketch_rank, m), (m, min(self.rank, m, n)), (min(self.rank, m, n), n))
        )
        return self.State(memory, p, moment, moment, sketch, 0)

    def step(self, w: Array, grad: Array, state: State) -> tuple[Array, State]:
        """Return the next weights and state for one matrix (m, n)."""
        xp = array_namespace(w)
        g = state.memory.outside(grad, "left")
        memory, p, m, v, sketch, steps = state
        if steps % self.interval == 0:
            u, s, _ = thin_svd(g)
            new = memory.outside(u[:, : p.shape[1]] * xp.astype(s[: p.shape[1]] > 0, u.dtype), "left")
            if self.carry == "reset":
                m, v = 0 * m, 0 * v
            else:
                m, v = (new.mT @ p) @ m, 0 * v + xp.mean(v, axis=0, keepdims=True)
            p = new
        low = p.mT @ g
        m = self.beta1 * m + (1 - self.beta1) * low
        v = self.beta2 * v + (1 - self.beta2) * low * low
        since = (steps % self.interval if self.carry == "reset" else steps) + 1
        direction = (m / (1 - self.beta1**since)) / (xp.sqrt(v / (1 - self.beta2**since)) + self.eps)
        sketch = frequent_directions(sketch, g.mT)
        return w - self.lr * (p @ direction), self.State(memory, p, m, v, sketch, steps + 1)

    def end_task(self, state: State) -> Subspace:
        """Return M with the leading sketched gradient directions appended, orthonormal to it."""
        return state.memory.extend_by_energy(state.sketch.mT, self.energy)


class Sculpted(NamedTuple):
    """W = U_high S_high V_high^T + U_low S_low V_low^T; the high block is frozen, the low one trains."""

    u_high: Array  # (m, r)
    s_high: Array  # (r,)
    vh_high: Array  # (r, n)
    u_low: Array  # (m, k)
    s_low: Array  # (k,)
    vh_low: Array  # (k, n)

    def weight(self) -> Array:
        """Return W."""
        high = (self.u_high * self.s_high) @ self.vh_high
        return high + (self.u_low * self.s_low) @ self.vh_low

    def gradients(self, grad: Array) -> tuple[Array, Array, Array]:
        """Return the gradients by U_low, S_low and V_low^T of a loss whose gradient by W is `grad`."""
        xp = array_namespace(grad)
        inner = self.u_low.mT @ grad @ self.vh_low.mT
        return (
            grad @ (self.vh_low.mT * self.s_low),
            xp.linalg.diagonal(inner),
            (self.u_low * self.s_low).mT @ grad,
        )

    def project(self, du: Array, ds: Array, dvh: Array) -> tuple[Array, Array, Array]:
        """Return the changes with the frozen directions removed: dU - U_h U_h^T dU, dV^T - dV^T V_h V_h^T; dS is free.

        Applied to gradients it protects the frozen block under plain gradient descent alone; Adam scales by
        coordinate afterwards, so that there the *update* must be projected (claim `sculpting-keeps-critical`).
        """
        du = du - self.u_high @ (self.u_high.mT @ du)
        dvh = dvh - (dvh @ self.vh_high.mT) @ self.vh_high
        return du, ds, dvh

    def move(self, du: Array, ds: Array, dvh: Array) -> Sculpted:
        """Return the factors after an additive change of the low block; U_low does not stay orthonormal."""
        return self._replace(u_low=self.u_low + du, s_low=self.s_low + ds, vh_low=self.vh_low + dvh)

    def leak(self, w: Array) -> Array:
        """Return the largest change of the frozen block U_h^T W V_h = S_h and of the cross blocks, relative to S.

        Cross blocks are measured against the complements of the frozen directions; they start at zero.
        """
        xp = array_namespace(w)
        left, right = self.u_high.mT @ w, w @ self.vh_high.mT
        core = left @ self.vh_high.mT
        corner = core - self.s_high * xp.eye(core.shape[0], dtype=w.dtype, device=device_of(w))
        pieces = (corner, left - core @ self.vh_high, right - self.u_high @ core)
        return max(float(xp.max(xp.abs(x))) for x in pieces) / float(xp.max(self.s_high))


def sculpt(w: Array, rank: int) -> Sculpted:
    """Split a weight (m, n) at `rank` singular values; the rest trains [nayak2025sculpting].

    The projection is as in the authors' notebook; their rule that chooses `rank` by layer is not part of this.
    """
    check_matrix(w, "sculpt")
    if not 1 <= rank < min(w.shape[-2:]):
        raise ValueError(f"rank must lie between 1 and min(m, n) - 1 = {min(w.shape[-2:]) - 1}; got {rank}.")
    u, s, vh = thin_svd(w)
    return Sculpted(u[:, :rank], s[:rank], vh[:rank, :], u[:, rank:], s[rank:], vh[rank:, :])


__all__ = ["CoSO", "Sculpted", "sculpt"]
