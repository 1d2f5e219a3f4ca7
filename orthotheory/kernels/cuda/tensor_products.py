"""The variants for tensor cores as functions of arrays. Nothing chooses them before a GPU has measured them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import numpy as np

from ...arrays import Array, dtype_name
from .processors import Processor
from .sources import tensor

THREADS = 256
SIDE, DEPTH = 128, 32  # of symmetric_tensor.cu


class TensorProducts:
    """Products of 16-bit numbers, and of float32 rounded to tf32, with sums in float32, on one processor."""

    processor: Processor

    def small_polar_tensor(
        self,
        g: Array,
        coefficients: Sequence[Sequence[float]],
        *,
        safety: float = 1.0,
        epsilon: float = 0.0,
        clamp: bool = False,
        dtype: str | None = None,
    ) -> Array:
        """Return what `small_polar` does, with a state of 16 bits: X, R and P are rounded after each product.

        Parameters
        ----------
        g : array (..., m, n), min(m, n) <= 128
            float16, or the bits of bfloat16 as uint16 with `dtype="bfloat16"`; X must fit the shared memory.

        Raises
        ------
        ValueError, TypeError
            For another shape or dtype.

        Notes
        -----
        As accurate as the published 16-bit loops: a singular value carries a few roundings of 16 bits times the slope
        of the steps that follow. small_polar_tensor.cu has the cost.
        """
        dtype = dtype or dtype_name(g)
        if dtype not in ("float16", "bfloat16") or g.ndim < 2 or not coefficients:
            raise TypeError(
                f"small_polar_tensor needs matrices of float16 or bfloat16 and a step; got {dtype}, {g.shape}."
            )
        m, n = (int(side) for side in g.shape[-2:])
        strides = (n, 1) if m <= n else (1, n)
        m, n = min(m, n), max(m, n)
        shared = tensor_memory(m, n)
        if not 1 <= m <= 128 or shared > self.processor.shared_limit:
            raise ValueError(
                f"small_polar_tensor needs 1 <= min(m, n) <= 128 and {shared} bytes of shared memory, of which there "
                f"are {self.processor.shared_limit}; got {m} x {n}."
            )
        xp = self.processor.xp
        g = xp.ascontiguousarray(g)
        out, terms = xp.empty_like(g), max(map(len, coefficients))
        table = tuple(float(c) for step in coefficients for c in [*step, *[0.0] * (terms - len(step))])
        if g.size:
            sizes = [np.int32(v) for v in (len(coefficients), terms, m, n, *strides)]
            self.processor.launch(
                tensor("small_polar_tensor", dtype), g.size // (m * n), THREADS, shared,
                g, out, self.processor.constants(table, "float32"), *sizes, np.float32(safety), np.float32(epsilon),
                np.int32(clamp),
            )  # fmt: skip
        return out

    def symmetric_tensor(
        self,
        a: Array,
        b: Array | None = None,
        d: Array | None = None,
        *,
        alpha: float = 1.0,
        beta: float = 0.0,
        gamma: float = 0.0,
        dtype: str | None = None,
    ) -> Array:
        """Return C = alpha A B^T + beta D + gamma I as `symmetric_product`, on tensor cores.

        Parameters, result and errors are those of `symmetric_product`, for float16, bfloat16 and float32, whose entries
        of A and B are rounded to tf32.
        """
        dtype = dtype or dtype_name(a)
        b = a if b is None else b
        check_symmetric_operands("symmetric_tensor", a, b, d, beta, dtype, ("float16", "bfloat16", "float32"))
        *batch, m, k = map(int, a.shape)
        xp = self.processor.xp
        c = xp.empty((*batch, m, m), a.dtype)
        strips, count = -(-m // SIDE), math.prod(batch)
        if count and m:
            a = xp.ascontiguousarray(a)
            b = a if b is a else xp.ascontiguousarray(b)
            number = 4 if dtype == "float32" else 2
            self.processor.launch(
                tensor("symmetric_tensor", dtype), count * strips * (strips + 1) // 2, THREADS,
                2 * SIDE * (DEPTH + 16) * number + THREADS // 32 * 1024, a, b,
                c if d is None else xp.ascontiguousarray(d), c, *map(np.float32, (alpha, beta, gamma)),
                *map(np.int32, (m, k, strips)),
            )  # fmt: skip
        return c


def check_symmetric_operands(
    who: str, a: Array, b: Array, d: Array | None, beta: float, dtype: str, allowed: Iterable[str]
) -> None:
    """Refuse what alpha A B^T + beta D is not defined for, saying what came."""
    if dtype not in allowed or a.ndim < 2:
        raise TypeError(f"{who} needs matrices of {', '.join(allowed)}; got {dtype}, {a.shape}.")
    *batch, m, _ = map(int, a.shape)
    if b.shape != a.shape or b.dtype != a.dtype:
        raise ValueError(f"{who} needs b like a, {a.shape} {a.dtype}; got {b.shape} {b.dtype}.")
    if (beta and d is None) or (d is not None and (d.shape != (*batch, m, m) or d.dtype != a.dtype)):
        got = "none" if d is None else f"{d.shape} {d.dtype}"
        raise ValueError(f"{who} needs d of shape {(*batch, m, m)} and {a.dtype} with beta; got {got}.")


def tensor_memory(m: int, n: int) -> int:
    """Return the bytes of shared memory of small_polar_tensor.cu."""
    rows, columns = -(-m // 16) * 16, -(-n // 16) * 16
    return 2 * (rows * (columns + 16) + 2 * rows * (rows + 16)) + THREADS // 32 * 1024
