"""Batched block principal pivoting: min |v|-quadratic over v >= 0, many small problems at a time.

    v >= 0,   y = q + C v >= 0,   v * y = 0

A support F is guessed, v_F is solved for with v = 0 elsewhere, and every violated sign changes sides; where that has
not helped for three sweeps only the last violated index changes (Murty's rule, finite for a positive definite C)
[kim2011fast, judice1994block]. Problems lie along the last axis ("lanes"), so that each of the m elimination steps is
one array operation for all of them, on every backend.
"""

from __future__ import annotations

from typing import NamedTuple, Protocol

from .. import kernels
from ..arrays import Array, array_namespace, device_of

PATIENCE = 3  # sweeps without fewer violations before single exchanges
LANE_BYTES = 1 << 20  # lanes that are solved together fit a core's cache


class System(Protocol):
    """A batch of problems with lanes last."""

    @property
    def singular(self) -> float:
        """Relative squared pivots up to here count as zero."""

    def start(self) -> Array:
        """Return the first support, (m, lanes)."""

    def take(self, index: Array) -> System:
        """Return the lanes with these numbers."""

    def solve(self, support: Array) -> tuple[Array, Array, Array]:
        """Return v and y of shape (m, lanes), and the smallest relative squared pivot, (lanes)."""


class Normal(NamedTuple):
    """C v_F = -q_F by elimination without square roots; C is the Gramian of nearly unit rows."""

    c: Array  # (m, m, lanes)
    q: Array  # (m, lanes)

    @property
    def singular(self) -> float:
        """Relative squared pivots up to here are rounding errors of the Gramian."""
        return 1e-13

    def start(self):
        return self.q < 0

    def take(self, index):
        xp = array_namespace(self.q)
        return Normal(xp.take(self.c, index, axis=2), xp.take(self.q, index, axis=1))

    def solve(self, support):
        xp = array_namespace(self.q)
        m = self.q.shape[0]
        one = xp.ones_like(self.q[0, :])
        a = xp.where(support[:, None, :] & support[None, :, :], self.c, xp.zeros_like(self.c))
        b = xp.where(support, -self.q, xp.zeros_like(self.q))
        least, pivots = one, []
        for k in range(m):
            here = support[k, :]
            d = a[k, k, :]
            relative = xp.where(here, d / xp.where(here, self.c[k, k, :], one), one)
            least = xp.minimum(least, relative)
            d = xp.where(here & (relative > self.singular), d, one)
            pivots.append(d)
            if k + 1 < m:
                ratio = a[k + 1 :, k, :] / d
                a[k + 1 :, k + 1 :, :] -= ratio[:, None, :] * a[k, k + 1 :, :][None, :, :]
                b[k + 1 :, :] -= ratio * b[k, :][None, :]
        v = back_substitute(a, b, pivots)
        v = xp.where(support, v, xp.zeros_like(v))
        y = self.q + xp.sum(self.c * v[None, :, :], axis=1)
        return v, y, least


class LeastSquares(NamedTuple):
    """v_F = argmin |R_F v + p| by modified Gram-Schmidt, which does not square the condition; y = R^T (R v + p)."""

    r: Array  # (rows, m, lanes)
    p: Array  # (rows, lanes)

    def start(self):
        xp = array_namespace(self.p)
        return xp.sum(self.r * self.p[:, None, :], axis=0) < 0

    def take(self, index):
        xp = array_namespace(self.p)
        return LeastSquares(xp.take(self.r, index, axis=2), xp.take(self.p, index, axis=1))

    @property
    def singular(self) -> float:
        """Relative squared pivots up to here mean that a row depends on others, to 1e-12."""
        return 1e-24

    def factor(self, support: Array) -> tuple[Array, Array, Array]:
        """Return orthonormal directions of R_F, the strict triangle and the pivots, and the smallest squared pivot.

        Modified Gram-Schmidt; what is outside the support has a zero direction and pivot 1.
        """
        xp = array_namespace(self.p)
        m = self.r.shape[1]
        a = xp.where(support[None, :, :], self.r, xp.zeros_like(self.r))
        whole = xp.sum(a * a, axis=0)
        one = xp.ones_like(self.p[0, :])
        t = xp.zeros((m, m, self.p.shape[1]), dtype=self.p.dtype, device=device_of(self.p))
        least = one
        for k in range(m):
            square = xp.sum(a[:, k, :] ** 2, axis=0)
            relative = xp.where(support[k, :], square / xp.where(support[k, :], whole[k, :], one), one)
            least = xp.minimum(least, relative)
            d = xp.where(support[k, :] & (relative > self.singular), xp.sqrt(square), one)
            t[k, k, :] = d
            a[:, k, :] /= d
            if k + 1 < m:
                t[k, k + 1 :, :] = xp.sum(a[:, k, :][:, None, :] * a[:, k + 1 :, :], axis=0)
                a[:, k + 1 :, :] -= a[:, k, :][:, None, :] * t[k, k + 1 :, :][None, :, :]
        return a, t, least

    def solve(self, support):
        xp = array_namespace(self.p)
        m = self.r.shape[1]
        directions, t, least = self.factor(support)
        z, residual = xp.zeros_like(t[0, :, :]), +self.p
        for k in range(m):
            z[k, :] = -xp.sum(directions[:, k, :] * residual, axis=0)
            residual = residual + z[k, :] * directions[:, k, :]
        v = back_substitute(t, z, [t[k, k, :] for k in range(m)])
        y = xp.sum(self.r * residual[:, None, :], axis=0)
        return xp.where(support, v, xp.zeros_like(v)), y, least


def forward_substitute(t: Array, b: Array) -> Array:
    """Solve the lower triangular systems T^T w = b; b is overwritten."""
    xp = array_namespace(t)
    for k in range(b.shape[0]):
        if k:
            b[k, :] -= xp.sum(t[:k, k, :] * b[:k, :], axis=0)
        b[k, :] /= t[k, k, :]
    return b


def back_substitute(a: Array, b: Array, pivots: list[Array]) -> Array:
    """Solve the upper triangular systems; b is overwritten."""
    xp = array_namespace(a)
    for k in range(len(pivots) - 1, -1, -1):
        if k + 1 < len(pivots):
            b[k, :] -= xp.sum(a[k, k + 1 :, :] * b[k + 1 :, :], axis=0)
        b[k, :] /= pivots[k]
    return b


class Pivoted(NamedTuple):
    """Solutions v >= 0 of shape (m, lanes), their smallest pivot, and whether all signs were right."""

    v: Array
    least: Array
    solved: Array


def pivot(system: System, lanes: int, m: int) -> Pivoted:
    """Run block principal pivoting for up to 4 m + 12 sweeps; finished problems leave the batch."""
    if isinstance(system, Normal) and (gpu := kernels.gpu(system.q)) and gpu.takes_cone(system.q):
        found = gpu.cone_pivot(system.c, system.q)
        return Pivoted(found.v, found.least, found.solved)
    support = system.start()
    xp, device = array_namespace(support), device_of(support)
    eps = float(xp.finfo(xp.float64).eps)
    number = xp.arange(lanes, device=device)
    best = xp.full((lanes,), m + 1, dtype=number.dtype, device=device)
    patience = xp.full_like(best, PATIENCE)
    order = xp.arange(m, device=device)[:, None]
    parts: list[tuple[Array, Array, Array, Array]] = []
    for sweep in range(4 * m + 12):
        v, y, least = system.solve(support)
        slack = 4 * m * eps * (1 + xp.max(xp.abs(v), axis=0))
        wrong = xp.where(support, v < -slack, y < -slack)
        count = xp.sum(xp.astype(wrong, best.dtype), axis=0)
        lost = ~(least > system.singular)  # a dependent support: leave it to another method
        done = (count == 0) | lost
        last = sweep == 4 * m + 11
        if last or bool(xp.any(done)):
            keep = xp.ones_like(done) if last else done
            if bool(xp.all(keep)):
                parts.append((number, v, least, (count == 0) & ~lost))
                break
            index = xp.nonzero(done)[0]
            right = xp.take((count == 0) & ~lost, index)
            parts.append((xp.take(number, index), xp.take(v, index, axis=1), xp.take(least, index), right))
            rest = xp.nonzero(~done)[0]
            system = system.take(rest)
            number, best, patience, count = (xp.take(a, rest) for a in (number, best, patience, count))
            support, wrong = xp.take(support, rest, axis=1), xp.take(wrong, rest, axis=1)
        better = count < best
        patience = xp.where(better, xp.full_like(patience, PATIENCE), patience - 1)
        best = xp.where(better, count, best)
        single = wrong & (order == xp.max(xp.where(wrong, order, xp.full_like(order, -1)), axis=0, keepdims=True))
        support = support ^ xp.where((patience >= 0)[None, :], wrong, single)
    where = xp.argsort(xp.concat([p[0] for p in parts]))
    v = xp.take(xp.concat([p[1] for p in parts], axis=1), where, axis=1)
    least, solved = (xp.take(xp.concat([p[i] for p in parts]), where) for i in (2, 3))
    return Pivoted(xp.maximum(v, xp.zeros_like(v)), least, solved)
