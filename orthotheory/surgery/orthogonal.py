"""Surgery meets orthogonalization: descent directions of several matrix objectives in the spectral norm.

Orthogonalizing an update after surgery voids its guarantee (`progress` of diag(10, 1) along diag(1, -9) is 1, after
the polar factor -8). The right order is to do surgery in the geometry of the step: over the spectral ball

    max_{|D| <= 1} min_i <G_i, D>  =  min_{w in simplex} |sum_i w_i G_i|_*        spectral MGDA
    max {<G, D> : |D| <= 1, <G_i, D> >= 0}  =  min_{w >= 0} |G + sum_i w_i G_i|_*   spectral cone step

Both are one problem for one solver, an interior-point path and a finish on the faces that it has found, which end with
two numbers that enclose the optimum. At full
rank D is the polar factor of the combination; at rank deficiency it is a particular element of the subdifferential of
the nuclear norm, which the path finds as well.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from ..arrays import Array, array_namespace, backend_of, check_matrix, check_number, magnitude, to_host
from .cone import project
from .contract import Aggregator, Card

CLOSE = 1e-13  # gap over the largest gradient at which a problem is done
SHRINK = 0.1  # reduction of mu once a step is centered
STEPS = 80  # rounding ends the progress before
POLISH = 5  # Newton steps where it did so, quadratically convergent
ZEROS = (1e-5, 1e-7)  # weights, and singular values over the largest gradient, that may then be zero


class SpectralStep(NamedTuple):
    """A step of the spectral ball and the proof that no other is better by more than `upper - lower`.

    Attributes
    ----------
    direction : array (..., p, q)
        D with |D|_2 <= 1. It is the descent direction's negative, as an update is: step to W - lr D.
    weights : array (..., m)
        The minimizing weights.
    lower : array (...)
        What D guarantees: min_i <G_i, D>, or <G, D> for the cone step.
    upper : array (...)
        |sum w_i G_i|_*, which no D of the ball exceeds (and, for the cone step, no feasible one).
    """

    direction: Array
    weights: Array
    lower: Array
    upper: Array

    @property
    def gap(self) -> Array:
        """Return upper - lower, a bound of what D falls short."""
        return self.upper - self.lower


def progress(gradients: Array, update: Array) -> Array:
    """Return <G_i, D>, the first-order descent along -D, for (..., m, p, q) and (..., p, q): shape (..., m)."""
    xp = array_namespace(gradients, update)
    return xp.sum(gradients * update[..., None, :, :], axis=(-2, -1))


def spectral_mgda(gradients: Array) -> SpectralStep:
    """Return the direction of the spectral ball that descends the worst objective most.

    Parameters
    ----------
    gradients : array (..., m, p, q)
        One matrix for each objective.

    Raises
    ------
    ValueError, TypeError
        For fewer than three axes, an empty one, a dtype that is not real floating, or an entry that is not finite.

    Notes
    -----
    Theorem `spectral-mgda-saddle`. `upper` is 0 exactly at Pareto critical points. Computed in float64 and returned in
    the dtype of the gradients. The gap is at most 1e-12 of the largest gradient in all cases of the tests but nearly
    opposite gradients (2e-8 at 1e-6), and it says so itself. Cost: 20 to 80 Newton steps, each one SVD of (p, q) and
    m^2 products of the size of G.

    >>> import numpy as np
    >>> step = spectral_mgda(np.array([[[1.0, 0], [0, 1]], [[2.0, 0], [0, -1]]]))
    >>> step.direction.round(6).tolist(), float(step.lower.round(6))  # the polar factor would be diag(1, 0): 1
    ([[1.0, 0.0], [0.0, 0.5]], 1.5)
    """
    return _solve(gradients, None)


def spectral_cone_step(gradient: Array, constraints: Array) -> SpectralStep:
    """Return the direction of the spectral ball that descends `gradient` most and ascends no constraint.

    Parameters
    ----------
    gradient : array (..., p, q)
        G, such as the mean gradient or that of a new task.
    constraints : array (..., m, p, q)
        G_i whose objectives must not rise to first order: <G_i, D> >= 0.

    Notes
    -----
    What GEM does in the Euclidean norm, in the norm of the step: `polar_factor(gradient)` where that is feasible.
    `upper` bounds what any feasible D attains. Where only D = 0 is feasible the minimum over w is not attained: the
    weights then grow, and the gap tells how far the path came.
    """
    check_matrix(gradient, "spectral_cone_step")
    if gradient.shape != (*constraints.shape[:-3], *constraints.shape[-2:]) or gradient.dtype != constraints.dtype:
        raise ValueError(
            "spectral_cone_step needs a gradient (..., p, q) and constraints (..., m, p, q) of one dtype; got "
            f"{tuple(gradient.shape)} {gradient.dtype} and {tuple(constraints.shape)} {constraints.dtype}."
        )
    return _solve(constraints, gradient)


@dataclass(frozen=True)
class SpectralMGDA(Aggregator):
    """MGDA in the geometry of Muon: x = |G_w|_* D with D and w from `spectral_mgda`.

    The length is the dual norm, as in dual-scaled steepest descent: x is 0 at Pareto critical points, homogeneous of
    degree 1, and <g_i, x> >= |x|_2^2 for all i, as in MGDA with the Euclidean norm. One row is MGDA.

    Parameters
    ----------
    rows : int
        Each gradient of the Jacobian (..., m, n) is a matrix (rows, n / rows).
    """

    rows: int = 1
    card = Card(
        "Spectral MGDA", "desideri2012multiple", "reconstructed", "ours: MGDA's saddle problem, with the spectral norm"
    )

    def __post_init__(self) -> None:
        check_number(self.rows, "SpectralMGDA.rows", low=1)

    def update(self, jacobian, *rng):
        xp = array_namespace(jacobian)
        *batch, m, n = jacobian.shape
        if n % self.rows:
            raise ValueError(
                f"SpectralMGDA(rows={self.rows}) needs gradients of a multiple of that many entries; got {n}."
            )
        shape = (*batch, m, self.rows, n // self.rows)
        step = spectral_mgda(xp.reshape(xp.astype(jacobian, xp.float64, copy=False), shape))
        return xp.reshape(step.lower[..., None, None] * step.direction, (*batch, n))


def project_in_metric(jacobian: Array, gradient: Array, metric: Array) -> Array:
    """Do surgery in the optimizer's metric: the update nearest to M g, in that metric, that ascends no objective.

        d = argmin <d - M g, M^-1 (d - M g)>  s.t.  J d >= 0   =   M^1/2 P(M^1/2 g),   P onto {z : J M^1/2 z >= 0}

    Parameters
    ----------
    jacobian : array (..., m, n)
    gradient : array (..., n)
        What the optimizer would step on alone: its update is M g.
    metric : array (n,) or (..., n)
        Positive diagonal M; Adam's is 1 / (sqrt(v) + eps).

    Notes
    -----
    Projecting first and preconditioning after voids the guarantee as orthogonalizing does: M times a point of the cone
    need not lie in it (claim `precondition-after-surgery`). Cost: one cone projection.
    """
    xp = array_namespace(jacobian, gradient, metric)
    host = to_host(metric)
    if not (host.shape[-1:] == gradient.shape[-1:] and (host > 0).all()):
        raise ValueError(f"metric needs n = {gradient.shape[-1]} positive entries; got shape {tuple(metric.shape)}.")
    root = xp.sqrt(metric)
    return root * project(jacobian * root[..., None, :], gradient * root).point


def _solve(gradients: Array, offset: Array | None) -> SpectralStep:
    check_matrix(gradients, "spectral surgery", axes=3)
    xp = array_namespace(gradients)
    whole = gradients if offset is None else xp.concat([gradients, offset[..., None, :, :]], axis=-3)
    if not bool(xp.all(xp.isfinite(whole))):
        raise ValueError("Spectral surgery needs finite gradients; an entry is infinite or not a number.")
    if 0 in whole.shape[:-3]:
        zero = xp.sum(gradients, axis=(-2, -1))
        return SpectralStep(xp.sum(gradients, axis=-3), zero, xp.sum(zero, axis=-1), xp.sum(zero, axis=-1))
    tall = whole.shape[-2] > whole.shape[-1]
    g = xp.astype(whole.mT if tall else whole, xp.float64, copy=False)
    size = magnitude(g, axes=3)
    g = g / size.scale
    m = gradients.shape[-3]
    path = _Path(g[..., :m, :, :], None if offset is None else g[..., m, :, :])
    direction, weights, lower, upper = path.follow()
    scale = size.scale[..., 0, 0, 0]
    found = SpectralStep(direction.mT if tall else direction, weights, lower * scale, upper * scale)
    return SpectralStep(*(xp.astype(x, gradients.dtype, copy=False) for x in found))


class _Path:
    """The central path of min |base + sum w_i G_i|_* over the simplex, or over w >= 0 where there is a base.

    The barrier problem is max_D <G_w, D> + mu log det(I - D D^T), whose value phi(w) sums
    max_d s d + mu log(1 - d^2) over the singular values of G_w, at d = s / (r + mu), r = sqrt(s^2 + mu^2). It is the
    conjugate of a self-concordant barrier, hence phi / mu is self-concordant, and so is psi = phi / mu - sum log w:
    damped Newton steps 1 / (1 + decrement) cannot fail. A step inside the Dikin ellipsoid corrects D to first order,
    which makes it feasible for the current mu.
    """

    def __init__(self, rows: Array, base: Array | None):
        xp = self.xp = array_namespace(rows)
        self.rows, self.simplex = rows, base is None
        self.base = xp.zeros_like(rows[..., 0, :, :]) if base is None else base
        every = xp.concat([rows, self.base[..., None, :, :]], axis=-3)
        big = xp.sqrt(xp.max(xp.sum(every * every, axis=(-2, -1)), axis=-1))
        self.big = xp.where(big > 0, big, xp.ones_like(big))
        self.eye = xp.eye(rows.shape[-3], dtype=rows.dtype, device=backend_of(rows).device)

    def follow(self) -> list[Array]:
        """Return the D, w, lower and upper with the smallest gap that the path met."""
        xp = self.xp
        best: list[Array] = []
        w, mu = xp.ones_like(self.rows[..., 0, 0]) / self.rows.shape[-3], self.big
        for _ in range(STEPS):
            y, decrement, new = self._newton(w, mu)
            if best:
                better = new[3] - new[2] < best[3] - best[2]
                new = [xp.where(_trailing(better, a), a, b) for a, b in zip(new, best, strict=True)]
            best = new
            running = best[3] - best[2] > CLOSE * self.big
            if not bool(xp.any(running)):
                break
            centered = decrement < 0.5
            step = xp.where(centered, xp.ones_like(decrement), 1 / (1 + decrement))
            w = xp.where(running[..., None], w * (1 + step[..., None] * y), w)
            mu = xp.where(running & centered & (mu > 1e-15 * self.big), SHRINK * mu, mu)
        for zero in ZEROS if bool(xp.any(running)) else ():
            new = self._polished(best, zero)
            better = new[3] - new[2] < best[3] - best[2]  # false for what is not a number
            best = [xp.where(_trailing(better, a), a, b) for a, b in zip(new, best, strict=True)]
        return best

    def _polished(self, found: list[Array], zero: float) -> list[Array]:
        """Finish where rounding ends the path: weights and singular values below `zero` are taken for zeros.

        With N the null spaces of G_w, Newton's method for w, X and v solves N_L^T G_w N_R = 0 and, for the active i,
        <G_i, polar(G_w) + N_L X N_R^T> = v; X starts at the path's. Without the simplex v is 0, up to a margin for
        rounding. The certificate decides whether the result is taken.
        """
        xp, rows = self.xp, self.rows
        d, w = found[0], found[1]
        lengths = xp.sqrt(xp.sum(rows * rows, axis=(-2, -1)))
        active = xp.astype(w * (1.0 if self.simplex else lengths / self.big[..., None]) > zero, w.dtype)
        w = active * w
        if self.simplex:
            w = w / xp.sum(w, axis=-1, keepdims=True)
        mine = active[..., None]
        for _ in range(POLISH):
            mixed = self.base + xp.sum(w[..., None, None] * rows, axis=-3)
            u, s, vh = xp.linalg.svd(mixed, full_matrices=False)
            kept = xp.astype(s > zero * self.big[..., None], w.dtype)
            inverse = kept / xp.where(kept > 0, s, xp.ones_like(s))
            ki, kj, si, sj = kept[..., :, None], kept[..., None, :], s[..., :, None], s[..., None, :]
            right = (vh * ki).mT  # the kept right singular vectors
            inside = u.mT[..., None, :, :] @ rows
            a = inside @ right[..., None, :, :]
            outside = inside - a @ right.mT[..., None, :, :]
            skew = (a - a.mT) / 2 * (ki * kj)[..., None, :, :]
            hessian = _pairs(skew, 2 * ki * kj / xp.where(si + sj > 0, si + sj, xp.ones_like(si)))
            hessian = hessian + _pairs(outside, inverse[..., :, None] * xp.ones_like(outside[..., 0, :, :]))
            below = a * (1 - ki)[..., None, :, :]  # null rows, kept columns
            hessian = hessian + _pairs(below, inverse[..., None, :] * xp.ones_like(ki))
            cut = xp.reshape(outside * (1 - ki)[..., None, :, :], (*w.shape, u.shape[-1] * vh.shape[-1]))
            q, r = xp.linalg.qr((cut * mine).mT)
            start = u.mT @ d
            start = (1 - ki) * (start - (start @ right) @ right.mT)
            base = (u * kept[..., None, :]) @ vh + u @ start
            bend = _products(below.mT @ start[..., None, :, :], outside * inverse[..., None, :, None])
            hessian = hessian - bend - bend.mT  # the null spaces turn with w
            left_over = xp.reshape((1 - ki) * (u.mT @ mixed - (u.mT @ mixed @ right) @ right.mT), cut[..., 0, :].shape)
            k, one = r.shape[-2], mine if self.simplex else 0 * mine
            corner = xp.zeros((*w.shape[:-1], k + 1, k + 1), dtype=w.dtype, device=backend_of(w).device)
            border = xp.concat([r.mT, -one], axis=-1)
            system = xp.concat(
                [xp.concat([hessian * mine * mine.mT, border], axis=-1), xp.concat([border.mT, corner], axis=-1)],
                axis=-2,
            )
            margin = 0.0 if self.simplex else 1e-14 * lengths
            force = active * (margin - progress(rows, base))
            rest = xp.concat([force, -(q.mT @ left_over[..., None])[..., 0], 0 * force[..., :1]], axis=-1)
            solved = (xp.linalg.pinv(system, rtol=1e-12) @ rest[..., None])[..., 0]
            m = w.shape[-1]
            change = (q @ solved[..., m : m + k, None])[..., 0]
            polished = [base + u @ xp.reshape(change, start.shape), w, xp.sum(s, axis=-1)]
            d, w = polished[0], w + active * solved[..., :m]
        d, w, upper = polished
        return self._certified(d, w * xp.astype(w > 0, w.dtype), upper)

    def _newton(self, w: Array, mu: Array):
        """Return the step y (w moves to w (1 + y)), its length in the local norm, and (D, w, lower, upper).

        In the basis of the singular vectors of G_w the second derivative of phi scales the symmetric part of a
        direction by mu (1 + mu / t) / (r_i + mu)(r_j + mu), the skew part by (t + mu) / (r_i + mu)(r_j + mu) and what
        lies outside the row space by 1 / (r_i + mu), with t between r_i and r_j: no differences, so nothing cancels.
        """
        xp, rows = self.xp, self.rows
        u, s, vh = xp.linalg.svd(self.base + xp.sum(w[..., None, None] * rows, axis=-3), full_matrices=False)
        e, ee = mu[..., None], mu[..., None, None]
        r = xp.sqrt(s * s + e * e)
        d = (u * (s / (r + e))[..., None, :]) @ vh
        inside = u.mT[..., None, :, :] @ rows
        v = vh.mT[..., None, :, :]
        outside = inside - (inside @ v) @ vh[..., None, :, :]
        inside = inside @ v
        si, sj, ri, rj = s[..., :, None], s[..., None, :], r[..., :, None] + ee, r[..., None, :] + ee
        total = xp.where(si + sj > 0, si + sj, xp.ones_like(si + sj))
        t = xp.where(si + sj > 0, (si * (rj - ee) + sj * (ri - ee)) / total, ee)
        even, odd, rest = ee * (1 + ee / t) / (ri * rj), (t + ee) / (ri * rj), xp.ones_like(outside[..., 0, :, :]) / ri
        symmetric, skew = (inside + inside.mT) / 2, (inside - inside.mT) / 2
        hessian = _pairs(symmetric, even) + _pairs(skew, odd) + _pairs(outside, rest)
        ww = w[..., :, None] * w[..., None, :]
        system = hessian * ww / ee + self.eye
        trace = xp.sum(xp.linalg.diagonal(system), axis=-1)[..., None, None]
        system = system + 1e-15 * trace * self.eye  # at rounding level: the flat directions of phi
        if self.simplex:  # along w itself phi is linear; the constraint, met by nu below, absorbs this term
            system = system + trace * ww / xp.sum(w * w, axis=-1)[..., None, None]
        pull = 1 - progress(rows, d) * w / e
        solved = xp.linalg.solve(system, xp.stack([pull, w], axis=-1))
        y, toward = solved[..., 0], solved[..., 1]
        if self.simplex:
            nu = (1 - xp.sum(w * (1 + y), axis=-1)) / xp.sum(w * toward, axis=-1)
            y = y + nu[..., None] * toward
        decrement = xp.sqrt(xp.clip(xp.sum(y[..., None, :] * system * y[..., :, None], axis=(-2, -1)), 0.0, None))
        move = (w * y)[..., None, None]
        flat, out = xp.sum(move * inside, axis=-3), xp.sum(move * outside, axis=-3)
        d = d + u @ ((even * (flat + flat.mT) + odd * (flat - flat.mT)) @ vh / 2 + rest * out)
        return y, decrement, self._certified(d, w, xp.sum(s, axis=-1))

    def _certified(self, d: Array, w: Array, upper: Array) -> list[Array]:
        """Return (D, w, lower, upper) with D in the ball and feasible: valid bounds whatever the path did."""
        xp = self.xp
        top = xp.linalg.svdvals(d)[..., 0]
        d = d / xp.where(top > 1, top, xp.ones_like(top))[..., None, None]
        worst = xp.min(progress(self.rows, d), axis=-1)
        if self.simplex:
            total = xp.sum(w, axis=-1)  # 1 up to what the linear systems leave
            return [d, w / total[..., None], worst, upper / total]
        d = xp.where(_trailing(worst >= 0, d), d, xp.zeros_like(d))
        # the weights may be large: the combination then carries a rounding of its parts
        parts = xp.sum(w * xp.sqrt(xp.sum(self.rows * self.rows, axis=(-2, -1))), axis=-1)
        return [d, w, xp.sum(self.base * d, axis=(-2, -1)), upper + 8 * float(xp.finfo(d.dtype).eps) * parts]


def _pairs(a: Array, weight: Array) -> Array:
    """Return sum_ij weight_ij a_k,ij a_l,ij, shape (..., m, m)."""
    return _products(a * weight[..., None, :, :], a)


def _products(a: Array, b: Array) -> Array:
    """Return the inner products <a_k, b_l> of matrices, shape (..., m, m)."""
    xp = array_namespace(a)
    flat = (*a.shape[:-2], a.shape[-2] * a.shape[-1])
    return xp.reshape(a, flat) @ xp.reshape(b, flat).mT


def _trailing(flags: Array, like: Array) -> Array:
    """Give flags of shape (batch) the trailing axes of `like`."""
    return flags[(..., *([None] * (like.ndim - flags.ndim)))]
