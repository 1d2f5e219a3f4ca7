"""The kernels as functions of arrays: shapes checked, launch sizes chosen, the same for every processor."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from ...arrays import Array, dtype_name
from .optimizer_steps import MOST_THREADS, Steps
from .sources import ACCUMULATORS, C_TYPES, MOST_ROWS, PATCHES, TILES, variant
from .tensor_products import TensorProducts, check_symmetric_operands

PIVOT_THREADS = 128
PRODUCT_DEPTH = 16  # columns of a strip in symmetric_product.cu
WIDE_FROM = 256  # rows


class Pivots(NamedTuple):
    """Solutions v of shape (m, lanes) with their certificate, each of shape (lanes)."""

    v: Array
    least: Array
    residual: Array
    solved: Array


class Kernels(Steps, TensorProducts):
    """Every kernel of the package on one processor; arrays are of its library, contiguous, and on one device."""

    def takes_cone(self, q: Array) -> bool:
        """Say whether `cone_pivot` takes these products, (m, lanes)."""
        dtype = dtype_name(q)
        return (
            1 <= q.shape[0] <= MOST_ROWS
            and dtype in ("float32", "float64")
            and self.processor.compiles(variant("cone_pivot", dtype, M=int(q.shape[0])))
        )

    def small_polar(
        self,
        g: Array,
        coefficients: Sequence[Sequence[float]],
        *,
        safety: float = 1.0,
        epsilon: float = 0.0,
        clamp: bool = False,
        dtype: str | None = None,
        tile: int | None = None,
    ) -> Array:
        """Run odd polynomials on the singular values of each matrix, one block of threads a matrix.

            X <- G / (safety |G|_F + epsilon);   X <- (c_0 I + c_1 R + c_2 R^2 + ...) X,  R = X X^T, for each step

        Parameters
        ----------
        g : array (..., m, n), min(m, n) <= 128
            float32, float64, float16, or the bits of bfloat16 as uint16 with `dtype="bfloat16"`. Sums and the state
            are float32 for 16-bit matrices: only the input and the result are rounded.
        coefficients : one sequence a step, lowest degree first
        safety, epsilon, clamp
            As in `polar.Normalization`; `clamp` takes the larger of the two terms instead of their sum.
        tile : 2, 4 or 8, optional
            Side of a thread's part of a product, for measurements; min(m, n) <= 16 tile.

        Returns
        -------
        array (..., m, n)
            In the dtype of g. Zero gives zero, a matrix that is not finite NaN for itself alone.

        Raises
        ------
        ValueError, TypeError
            For a shape or dtype that the kernel does not have (`small_polar_fits`), or no step.

        Notes
        -----
        Cost and occupancy stand in small_polar.cu. The reference is `polar.Schedule.apply`; sums differ in order.
        """
        dtype = dtype or dtype_name(g)
        if dtype not in C_TYPES or not coefficients or g.ndim < 2:
            raise TypeError(f"small_polar needs matrices of {', '.join(C_TYPES)} and a step; got {dtype}, {g.shape}.")
        m, n = int(g.shape[-2]), int(g.shape[-1])
        if not self.small_polar_fits((m, n), dtype, tile):
            raise ValueError(
                f"small_polar needs 1 <= min(m, n) <= 128 (16 times a tile of 2, 4 or 8 that is asked for) and the "
                f"shared memory for it; got {m} x {n} {dtype}{f' with tile {tile}' if tile else ''}."
            )
        xp = self.processor.xp
        g = xp.ascontiguousarray(g)
        out = xp.empty_like(g)
        if g.size == 0:
            return out
        wide = m <= n
        strides = (n, 1) if wide else (1, n)
        m, n = min(m, n), max(m, n)
        tile, number = tile or tile_of(m), np.dtype("float64" if dtype == "float64" else "float32")
        width = panel_width(m, n, number.itemsize, self.processor.shared_limit, tile)
        threads = polar_threads(m, n, tile)
        shared = polar_memory(m, width, number.itemsize, tile)
        terms = max(map(len, coefficients))
        table = tuple(float(c) for step in coefficients for c in [*step, *[0.0] * (terms - len(step))])
        work = out if width >= n else xp.empty(g.shape, number)
        sizes = [np.int32(v) for v in (len(coefficients), terms, m, n, *strides, width)]
        self.processor.launch(
            variant("small_polar", dtype, TILE=tile), g.size // (m * n), threads, shared,
            g, out, work, self.processor.constants(table, number.name), *sizes,
            number.type(safety), number.type(epsilon), np.int32(clamp),
        )  # fmt: skip
        return out

    def cone_pivot(self, c: Array, q: Array) -> Pivots:
        """Solve v >= 0, y = q + C v >= 0, v * y = 0 for many small C by block principal pivoting, a thread each.

        Parameters
        ----------
        c : array (m, m, lanes), m <= 8
            Gramians of unit rows; float32 or float64.
        q : array (m, lanes)
            In the dtype of c.

        Returns
        -------
        Pivots
            v >= 0 of shape (m, lanes); the smallest relative pivot, the residual max_i |min(v_i, y_i)| and whether all
            signs were right, (lanes). What is not solved is left to another method.

        Raises
        ------
        ValueError, TypeError
            For more than 8 rows, shapes that do not match, or another dtype.

        Notes
        -----
        The reference is `surgery.pivoting.pivot` on `Normal`, with the same sweeps. Cost: cone_pivot.cu.
        """
        m, lanes = int(q.shape[0]), int(q.shape[-1])
        dtype = dtype_name(q)
        if not 1 <= m <= MOST_ROWS or c.shape != (m, m, lanes) or q.ndim != 2:
            raise ValueError(
                f"cone_pivot needs c (m, m, lanes) and q (m, lanes) with m <= {MOST_ROWS}; got {c.shape}, {q.shape}."
            )
        if dtype not in ("float32", "float64") or dtype_name(c) != dtype:
            raise TypeError(f"cone_pivot needs float32 or float64, the same twice; got {dtype_name(c)} and {dtype}.")
        xp = self.processor.xp
        v, least, residual = (xp.empty(shape, q.dtype) for shape in (q.shape, lanes, lanes))
        solved = xp.empty(lanes, np.int32)
        if lanes:
            self.processor.launch(
                variant("cone_pivot", dtype, M=m), -(-lanes // PIVOT_THREADS), PIVOT_THREADS, 0,
                xp.ascontiguousarray(c), xp.ascontiguousarray(q), v, least, residual, solved, np.int64(lanes),
            )  # fmt: skip
        return Pivots(v, least, residual, solved != 0)

    def symmetric_product(
        self,
        a: Array,
        b: Array | None = None,
        d: Array | None = None,
        *,
        alpha: float = 1.0,
        beta: float = 0.0,
        gamma: float = 0.0,
        dtype: str | None = None,
        patch: int | None = None,
    ) -> Array:
        """Return C = alpha A B^T + beta D + gamma I, one triangle computed and mirrored.

        Parameters
        ----------
        a : array (..., m, k)
            float32, float64, float16, or the bits of bfloat16 as uint16 with `dtype="bfloat16"`.
        b : array (..., m, k), optional
            A itself if not given: the Gram matrix. Otherwise A B^T must be symmetric, as it is for commuting symmetric
            factors; this is not checked, and the lower triangle is what comes out.
        d : array (..., m, m), optional
            Symmetric; needed where beta is not 0.
        patch : 4 or 8, optional
            Side of a thread's part, a sixteenth of a block's; 8 from 256 rows on, where there are blocks enough.

        Returns
        -------
        array (..., m, m)
            Symmetric to the bit, in the dtype of a; sums are float32 for 16-bit numbers.

        Raises
        ------
        ValueError, TypeError
            For shapes that do not match, a missing d, or another dtype.

        Notes
        -----
        Cost: half the operations of a general product, symmetric_product.cu.
        """
        dtype = dtype or dtype_name(a)
        b = a if b is None else b
        check_symmetric_operands("symmetric_product", a, b, d, beta, dtype, C_TYPES)
        *batch, m, k = map(int, a.shape)
        xp = self.processor.xp
        c = xp.empty((*batch, m, m), a.dtype)
        number = np.float64 if dtype == "float64" else np.float32
        patch = patch or (8 if m >= WIDE_FROM else 4)
        if patch not in PATCHES:
            raise ValueError(f"symmetric_product needs a patch of {PATCHES}; got {patch}.")
        side = 16 * patch
        strips, count = -(-m // side), math.prod(batch)
        if count and m:
            a = xp.ascontiguousarray(a)
            b = a if b is a else xp.ascontiguousarray(b)
            d = c if d is None else xp.ascontiguousarray(d)
            self.processor.launch(
                variant("symmetric_product", dtype, PATCH=patch), count * strips * (strips + 1) // 2, MOST_THREADS,
                2 * PRODUCT_DEPTH * (side + 4) * np.dtype(number).itemsize,
                a, b, d, c, number(alpha), number(beta), number(gamma), np.int32(m), np.int32(k), np.int32(strips),
            )  # fmt: skip
        return c

    def takes_schedule(self, g: Array, steps: Sequence[Any], normalization: Any) -> bool:
        """Say whether `small_polar` is this normalization followed by these steps, each a tuple of coefficients."""
        return (
            getattr(normalization, "bound", "") == "frobenius"
            and bool(steps)
            and all(isinstance(step, tuple) for step in steps)
            and self.small_polar_fits(g.shape, dtype_name(g))
            and self.processor.compiles(variant("small_polar", dtype_name(g), TILE=tile_of(min(g.shape[-2:]))))
        )

    def run_schedule(self, g: Array, steps: Sequence[Any], normalization: Any) -> Array:
        """Return `small_polar` behind a `polar.Normalization`."""
        clamp = normalization.rule == "clamp"
        return self.small_polar(g, steps, safety=normalization.safety, epsilon=normalization.epsilon, clamp=clamp)

    def small_polar_fits(self, shape: tuple[int, ...], dtype: str, tile: int | None = None) -> bool:
        """Say whether `small_polar` takes matrices of this shape and dtype on this processor."""
        if len(shape) < 2:
            return False
        m, n = min(shape[-2:]), max(shape[-2:])
        tile = tile or tile_of(m)
        if not 1 <= m <= 16 * tile or tile not in TILES or dtype not in ACCUMULATORS:
            return False
        return panel_width(m, n, 8 if dtype == "float64" else 4, self.processor.shared_limit, tile) > 0


def tile_of(m: int) -> int:
    """Return the side of a thread's tile: at most 16 tiles along the short side."""
    return 2 if m <= 16 else 4 if m <= 64 else 8


def polar_threads(m: int, n: int, tile: int) -> int:
    """Return a power of two: a thread for each tile of an m x m product, more for a long X, at most 256."""
    wanted = max(math.ceil(m / tile) ** 2, m * n // tile**2, 32)
    return min(MOST_THREADS, 1 << (wanted - 1).bit_length())


def polar_memory(m: int, width: int, itemsize: int, tile: int) -> int:
    """Return the bytes of shared memory for two m x m matrices, a panel and the sums of the threads."""
    padded = math.ceil(m / tile) * tile
    line = (math.ceil(width / 4) | 1) * 4  # an odd number of packs
    return (2 * padded * padded + padded * line + MOST_THREADS) * itemsize


def panel_width(m: int, n: int, itemsize: int, limit: int, tile: int) -> int:
    """Return how many columns of X stay in shared memory: all of them if they fit, 0 if not even one pack does."""
    if polar_memory(m, n, itemsize, tile) <= limit:
        return n
    room = (limit - polar_memory(m, 0, itemsize, tile)) // (math.ceil(m / tile) * tile * itemsize)
    return max(0, room // 8 * 8)  # an even number of packs becomes odd by the one that `polar_memory` counts for 0


__all__ = ["Kernels", "Pivots", "panel_width", "polar_memory", "polar_threads", "tile_of"]
