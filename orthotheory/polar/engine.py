"""Running a plan: one Gram matrix gives the normalization and the first block of steps, each further block its own.

One real NumPy matrix goes through SciPy's BLAS (`symmetric.Blas`); everything else is array-API code with the same
formulas (`symmetric.Reference`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np

from .. import kernels
from ..arrays import Array, array_namespace, check_matrix, device_of, magnitude
from . import evaluate
from .evaluate import Step
from .newton import NewtonStep
from .normalization import Normalization
from .schedule import FROBENIUS
from .symmetric import Blas, Operations, Reference, Symmetric, fits_blas, laid_out, moderate

LOOP_FROM = 48  # shorter side from which the members of a NumPy batch run one by one through `Blas`


class GramRule(Protocol):
    """A normalization that asks the Gram matrix, such as `spectrum.Lanczos`."""

    def of_operations(self, ops: Operations, gram: Symmetric) -> Array:
        """Return the divisor of each matrix, shape (...)."""


def apply(
    g: Array,
    steps: Sequence[Step],
    blocks: Sequence[int] | None = None,
    normalization: Normalization | GramRule = FROBENIUS,
    *,
    gram_dtype: Any = None,
    rows: int | None = None,
) -> Array:
    """Run odd steps on the singular values of each matrix, several on one Gram matrix where they share a block.

        X <- G / sigma;   for each block: R = X X^H, F = h(R), X <- F X

    Parameters
    ----------
    g : array (..., m, n)
        Real or complex, tall, wide or square.
    steps : polynomials, `Zolotarev` or `NewtonStep`
        In the order in which they act.
    blocks : sizes, optional
        How many steps share a Gram matrix; they add up to the number of steps. Ones, the default, re-form it before
        every step. A Newton step is a block of its own.
    normalization : Normalization, or a rule that asks the Gram matrix
        sigma, so that the singular values of G / sigma lie in the interval of the first step.
    gram_dtype : dtype or its name, optional
        Precision of the first block's Gram side, "float64" for float32 matrices whose condition number float32
        cannot square. The product with X stays in the dtype of g.
    rows : int, optional
        Take each `rows` consecutive rows as a matrix of its own (the heads of an attention layer).

    Returns
    -------
    array (..., m, n)
        p(G / sigma) for the composed odd function p. Zero gives zero, a non-finite matrix NaN for itself alone.

    Raises
    ------
    ValueError, TypeError
        For blocks that do not add up, a Newton step that shares a block, rows that do not divide m, a vector or a
        dtype that is not floating.
    NotPositiveDefinite
        Where a rational step has a pole below the rounding errors of the Gram matrix: give `gram_dtype`, or use QDWH.

    Notes
    -----
    A power of two on g changes no bit. Cost with n <= m, r = m / n: r products and one symmetric product of r a
    block, and what `evaluate.block` takes on the short side.
    """
    check_matrix(g, "apply", complex_allowed=True)
    blocks = check_blocks(steps, blocks)
    if rows is not None:
        if rows < 1 or g.shape[-2] % rows:
            raise ValueError(f"rows must divide the {g.shape[-2]} rows of each matrix; got {rows}.")
        xp = array_namespace(g)
        heads = xp.reshape(g, (*g.shape[:-2], g.shape[-2] // rows, rows, g.shape[-1]))
        return xp.reshape(apply(heads, steps, blocks, normalization, gram_dtype=gram_dtype), g.shape)
    if fits_blas(g):
        return _apply_one(g, steps, blocks, normalization, gram_dtype)
    many = type(g) is np.ndarray and min(g.shape[-2:]) >= LOOP_FROM and math.prod(g.shape[:-2])
    if many and fits_blas(g[(0,) * (g.ndim - 2)]):
        out = np.empty_like(g)
        for index in np.ndindex(*g.shape[:-2]):
            out[index] = _apply_one(g[index], steps, blocks, normalization, gram_dtype)
        return out
    return _apply_many(g, steps, blocks, normalization, gram_dtype)


def check_blocks(steps: Sequence[Step], blocks: Sequence[int] | None) -> tuple[int, ...]:
    """Return the sizes of the blocks, ones where none are given; refuse sizes that do not fit the steps."""
    sizes = (1,) * len(steps) if blocks is None else tuple(blocks)
    if sum(sizes) != len(steps) or min(sizes, default=0) < 1:
        raise ValueError(f"blocks {sizes} must be positive and add up to the {len(steps)} steps.")
    start = 0
    for size in sizes:
        if size > 1 and any(isinstance(step, NewtonStep) for step in steps[start : start + size]):
            raise ValueError(f"A Newton step works on X itself; blocks {sizes} make it share a Gram matrix.")
        start += size
    return sizes


def run(
    ops: Operations, x: Array, gram: Symmetric | None, steps: Sequence[Step], blocks: Sequence[int], scale: float = 1.0,
    gram_dtype: Any = None,
) -> Array:  # fmt: skip
    """Return the composed steps of X / scale for wide X; `gram` is X X^H or None, and is used up."""
    start = 0
    for size in blocks:
        chunk = tuple(steps[start : start + size])
        start += size
        previous = x
        if isinstance(chunk[0], NewtonStep):
            x = ops.newton(x, chunk[0].weight / scale)
        else:
            if gram is None:
                gram = ops.gram(x if gram_dtype is None else ops.cast(x, gram_dtype))
            x = _advance(ops, x, gram, chunk, scale)
        if start > size:
            ops.discard(previous)
        gram, scale, gram_dtype = None, 1.0, None
    return x


def _advance(ops: Operations, x: Array, gram: Symmetric, steps: tuple[Step, ...], scale: float) -> Array:
    """Return the composed steps of X / scale, given X X^H, which is used up."""
    if len(steps) == 1:
        factor, f = evaluate.split_factor(ops, gram, steps[0], scale)
    else:
        factor, f = 1.0, evaluate.block(ops, gram, steps, scale)
    f = ops.like(f, x)
    y = ops.apply(f, x, factor)
    ops.free(f)
    return y


def _apply_one(g, steps, blocks, normalization, gram_dtype, unit: float = 1.0) -> np.ndarray:
    """Run a plan on one real NumPy matrix; it was divided by `unit`, which matters to a normalization with epsilon."""
    if isinstance(normalization, Normalization) and not normalization.is_scaling:
        return _apply_one(normalization(g), steps, blocks, _IDENTITY, gram_dtype)
    wide = g.shape[0] <= g.shape[1]
    x = laid_out(g if wide else g.T)
    ops = Blas.of_thread()
    ops.forget(keep=max(x.shape))
    gram = ops.gram(x if gram_dtype is None else ops.cast(x, gram_dtype))
    square = ops.trace(gram)
    if not moderate(square, g.dtype):
        return _rescaled(g, steps, blocks, normalization, gram_dtype)
    sigma = divisor(ops, gram, normalization, unit)
    if any(isinstance(step, NewtonStep) for step in steps) and g.shape[0] != g.shape[1]:
        q, r = ops.qr(x)
        ops.free(gram)
        y = q(run(ops, r, None, steps, blocks, sigma))
    else:
        y = run(ops, x, gram, steps, blocks, sigma, gram_dtype)
    return y if wide else y.T


def _rescaled(g, steps, blocks, normalization, gram_dtype) -> np.ndarray:
    """Run a plan on g divided by a power of two next to its largest entry; zero and non-finite matrices end here."""
    size = magnitude(g)
    unit = float(size.scale[0, 0])
    y = size.normalize(g)
    if not size.finite[0, 0] or not y.any():
        return y + size.nan()
    return _apply_one(y, steps, blocks, normalization, gram_dtype, unit)


def _apply_many(g, steps, blocks, normalization, gram_dtype) -> Array:
    """Run a plan on a batch of matrices of any namespace."""
    gpu = kernels.gpu(g)
    reformed = gram_dtype is None and max(blocks) == 1
    if gpu and reformed and gpu.takes_schedule(g, steps, normalization):
        return gpu.run_schedule(g, steps, normalization)
    xp = array_namespace(g)
    if isinstance(normalization, Normalization) and not normalization.is_scaling:
        g, normalization = normalization(g), _IDENTITY
    size = magnitude(g)
    y = size.normalize(g)
    wide = g.shape[-2] <= g.shape[-1]
    x = y if wide else y.mT
    ops = Reference()
    gram = ops.gram(x if gram_dtype is None else ops.cast(x, gram_dtype))
    zero = ops.trace(gram)[..., None, None] == 0
    sigma = divisor(ops, gram, normalization, size.scale[..., 0, 0])[..., None, None]
    sigma = xp.where(zero, xp.ones_like(sigma), sigma)
    x, gram = x / xp.astype(sigma, x.dtype), gram / sigma**2
    if any(isinstance(step, NewtonStep) for step in steps):
        q, r = ops.qr(x)
        r = xp.where(zero, xp.eye(r.shape[-1], dtype=r.dtype, device=device_of(r)), r)
        x = q(xp.where(zero, xp.zeros_like(r), run(ops, r, None, steps, blocks)))
    else:
        x = run(ops, x, gram, steps, blocks, 1.0, gram_dtype)
    return (x if wide else x.mT) + size.nan()


def divisor(ops: Operations, gram: Symmetric, normalization: Normalization | GramRule, unit: Any = 1.0) -> Any:
    """Return sigma of `normalization` for each matrix from its Gram matrix, both of g / unit."""
    if isinstance(normalization, _Identity):
        return 0.0 * ops.trace(gram) + 1.0 / unit
    if not isinstance(normalization, Normalization):
        return normalization.of_operations(ops, gram)
    bound = _BOUNDS[normalization.bound](ops, gram)
    if normalization.epsilon == 0.0:
        return normalization.safety * bound
    epsilon = normalization.epsilon / unit
    if normalization.rule == "clamp":
        low = normalization.safety * bound
        return max(low, epsilon) if isinstance(low, float) else array_namespace(low).maximum(low, epsilon)
    return normalization.safety * bound + epsilon


def _schatten_8(ops: Operations, gram: Symmetric) -> Any:
    square = ops.product(gram, gram)
    value = ops.frobenius(square) ** 0.25
    ops.free(square)
    return value


_BOUNDS = {
    "frobenius": lambda ops, gram: ops.trace(gram) ** 0.5,
    "schatten-4": lambda ops, gram: ops.frobenius(gram) ** 0.5,
    "schatten-8": _schatten_8,
    "row-sum": lambda ops, gram: ops.row_sum(gram) ** 0.5,
    "exact": lambda ops, gram: ops.largest_eigenvalue(gram) ** 0.5,
}


class _Identity:
    """The normalization of what is normalized."""


_IDENTITY = _Identity()
