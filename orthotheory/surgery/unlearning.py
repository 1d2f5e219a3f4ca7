"""Geometric disentanglement: forget along what the retain gradients do not see, in the optimizer's metric.

Reconstructed from the abstract and the public description of [zhou2025geometric]; no code was read.
"""

from __future__ import annotations

from typing import NamedTuple

from ..arrays import Array, Scalar, array_namespace, check_matrix, check_number, dtype_name, magnitude, per_matrix
from ..polar.svd import thin_svd
from .cone import project
from .contract import divide
from .retain import dot


class Disentangled(NamedTuple):
    """The retain-safe part of a forget gradient.

    `gradient` is g_perp, `update` is M g_perp, `gain` = sqrt(<g_perp, M g_perp>) is the first-order change of the
    forget loss per unit of budget, 0 exactly where the forget gradient lies in the span of the retain gradients: then
    no retain-safe forgetting exists to first order.
    """

    gradient: Array  # (..., n)
    update: Array  # (..., n)
    gain: Array  # (...)


def row_basis(rows: Array) -> Array:
    """Return orthonormal vectors that span the rows (..., k, n), shape (..., k or fewer, n); missing ones are zero.

    Rows are scaled to unit length first, which changes no span and lets no long row hide a short one. The rank is
    NumPy's `matrix_rank` of the unit rows.
    """
    xp = array_namespace(rows)
    size = magnitude(rows, axes=1)
    r = size.normalize(rows)
    _, s, vh = thin_svd(divide(r, xp.sqrt(dot(r, r))) + size.nan())
    return vh * xp.astype(s > 0, vh.dtype)[..., None] + 0 * s[..., None]


def disentangle(forget: Array, retain: Array, metric: Array | None = None) -> Disentangled:
    """Return the part of the forget gradient whose update leaves every retain loss unchanged to first order.

        g_perp = g - R^T (R M R^T)^+ R M g,   d = M g_perp,   R d = 0

    Parameters
    ----------
    forget : array (..., n)
        Gradient of the loss to be changed.
    retain : array (..., k, n)
        Retain gradients, the rows of R; any rank, any scales.
    metric : array (..., n) or (n,), or None
        Positive diagonal M of the optimizer: its update for a gradient g is M g (Adam: 1 / (sqrt(v) + eps)). None is
        the Euclidean metric.

    Notes
    -----
    Computed as M^(1/2) (I - Q Q^T) M^(1/2) g with Q an orthonormal basis of the rows of R M^(1/2), which never squares
    a condition number. d / gain solves max <g, d> subject to R d = 0 and <d, M^-1 d> <= 1, theorem
    `unlearning-trust-region`. Projecting in the Euclidean metric and multiplying by M afterwards does not keep
    R d = 0; nor does any momentum or clipping by coordinate applied after the projection. A remainder at rounding
    level, 8 max(k, n) eps of M^(1/2) g, is returned as zero. Cost: one SVD of (k, n).
    """
    _check(forget, retain)
    xp = array_namespace(forget, retain)
    root = _root(metric, forget)
    size, rows = magnitude(forget, axes=1), magnitude(retain, axes=1)
    g = size.normalize(forget) * root
    basis = row_basis(rows.normalize(retain) * root[..., None, :] + rows.nan())
    rest = g
    for _ in range(2):  # the second pass removes the rounding of the first
        rest = rest - ((rest[..., None, :] @ basis.mT) @ basis)[..., 0, :]
    floor = 8 * max(retain.shape[-2:]) * float(xp.finfo(forget.dtype).eps)
    rest = xp.where(dot(rest, rest) > floor**2 * dot(g, g), rest, 0 * rest) + size.nan()
    gain = xp.sqrt(dot(rest, rest)) * size.scale
    return Disentangled(rest / root * size.scale, rest * root * size.scale, gain[..., 0])


def trust_region_step(forget: Array, retain: Array, radius: Scalar, metric: Array | None = None) -> Array:
    """Return argmax <g, d> over R d = 0, <d, M^-1 d> <= radius^2; zero where no direction helps.

    Its value is radius * gain. `radius` may be an array over the batch.
    """
    check_number(radius, "radius", open_high=True)
    _, update, gain = disentangle(forget, retain, metric)
    return per_matrix(radius, forget, axes=1) * divide(update, gain[..., None])


def safe_step(forget: Array, retain: Array, radius: Scalar) -> Array:
    """Return argmax <g, d> over R d <= 0, |d| <= radius: retain losses may fall, but none may rise, to first order.

    The projection of g on the cone {d : R d <= 0}, scaled to the radius; zero where g lies in the polar cone, the
    nonnegative combinations of the rows. Its value is at least that of `trust_region_step`. Euclidean metric.
    """
    check_number(radius, "radius", open_high=True)
    _check(forget, retain)
    point = project(-retain, forget).point
    size = magnitude(point, axes=1)
    p = size.normalize(point)
    length = array_namespace(forget).sqrt(dot(p, p))
    return per_matrix(radius, forget, axes=1) * divide(p, length)


def joint_update(
    forget: Array, retain: Array, *, weights: Array | None = None, descend: Scalar = 1.0, ascend: Scalar = 1.0
) -> Array:
    """Return descend r - ascend g_perp, r = R^T weights: subtracted, it lowers the retain losses, raises the other.

    Parameters
    ----------
    weights : array (..., k) or None
        Weights of the retain losses; the mean if None.

    Notes
    -----
    <r, update> = descend |r|^2 for every `ascend`: forgetting costs the weighted retain loss nothing to first order.
    Among steps -(s r) + e with R e = 0 of a given length, its negative maximizes descend s |r|^2 + ascend <g, e>, the
    weighted sum of what the retain part gains and what the safe part forgets. Reconstructed: the authors' optimum was
    not read.
    """
    _check(forget, retain)
    xp = array_namespace(forget, retain)
    if weights is None:
        r = xp.mean(retain, axis=-2)
    else:
        r = (weights[..., None, :] @ retain)[..., 0, :]
    safe = disentangle(forget, retain).gradient
    return per_matrix(descend, forget, axes=1) * r - per_matrix(ascend, forget, axes=1) * safe


def _root(metric: Array | None, forget: Array) -> Array:
    xp = array_namespace(forget)
    if metric is None:
        return xp.ones_like(forget)
    if metric.dtype != forget.dtype or metric.shape[-1:] != forget.shape[-1:]:
        raise ValueError(
            f"metric is the diagonal of M, shape (..., {forget.shape[-1]}) and dtype {dtype_name(forget)}; "
            f"got {tuple(metric.shape)} {dtype_name(metric)}."
        )
    check_number(metric, "metric", open_low=True, open_high=True)
    return xp.broadcast_to(xp.sqrt(metric), forget.shape)


def _check(forget: Array, retain: Array) -> None:
    check_matrix(forget, "disentangle (forget)", axes=1)
    check_matrix(retain, "disentangle (retain)", hint=" One retain gradient is a matrix with one row.")
    if retain.shape[:-2] + retain.shape[-1:] != forget.shape or retain.dtype != forget.dtype:
        raise ValueError(
            "disentangle needs a forget gradient (..., n) and retain gradients (..., k, n) of one dtype; got "
            f"{tuple(forget.shape)} {dtype_name(forget)} and {tuple(retain.shape)} {dtype_name(retain)}."
        )


__all__ = ["Disentangled", "disentangle", "joint_update", "row_basis", "safe_step", "trust_region_step"]
