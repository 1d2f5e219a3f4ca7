"""The kernels of optimizer steps as functions of arrays: in place, in as few passes as their sums allow."""

from __future__ import annotations

import math

import numpy as np

from ...arrays import Array, Scalar, dtype_name
from .processors import Processor
from .sources import variant

MOST_THREADS = 256
ENTRIES = 4  # that a thread takes in an element-wise pass
ONE_BLOCK = 16384  # entries of a matrix that one block takes
REMEMBERED = 4096  # equal hyper-parameters that are kept on the device
RULES = ("sign", "signum", "lion")  # of sign_step.cu, in its order


class Steps:
    """Element-wise steps on one processor; hyper-parameters are numbers or arrays over the batch axes."""

    def __init__(self, processor: Processor):
        self.processor = processor

    def takes_steps(self, w: Array) -> bool:
        """Say whether `sign_step` and `auon_step` take weights of this dtype."""
        dtype = dtype_name(w)
        steps = ("sign_step", "auon_step")
        return dtype in ("float32", "float64") and all(self.processor.compiles(variant(s, dtype)) for s in steps)

    def sign_step(
        self,
        rule: str,
        w: Array,
        m: Array | None,
        g: Array,
        *,
        lr: Scalar,
        beta1: Scalar = 0.0,
        beta2: Scalar = 0.0,
        weight_decay: Scalar = 0.0,
    ) -> None:
        """Take a step of sign descent, Signum or Lion in one pass, in place on the weights and the momentum.

            W <- (1 - lr weight_decay) W - lr sign(D);   D and M by `rule`: "sign", "signum" or "lion", sign_step.cu

        Parameters
        ----------
        w, m, g : arrays (..., rows, columns)
            Weights, momentum (None for "sign") and gradient; float32 or float64, contiguous.
        lr, beta1, beta2, weight_decay : float or array (batch)
        """
        _, size, dtype = self._check_step(w, g, m)
        if rule not in RULES or (m is None) != (rule == "sign"):
            raise ValueError(
                f"sign_step knows the rules {', '.join(RULES)}, with a momentum but for sign; got {rule!r}."
            )
        hyper = [self._for_each(value, w) for value in (lr, beta1, beta2, weight_decay)]
        if w.size:
            self.processor.launch(
                variant("sign_step", dtype), -(-w.size // (MOST_THREADS * ENTRIES)), MOST_THREADS, 0,
                w, m, self.processor.xp.ascontiguousarray(g), *hyper, np.int32(RULES.index(rule)),
                np.int64(size), np.int64(w.size), np.int32(ENTRIES),
            )  # fmt: skip

    def momentum_mix(
        self, m: Array, g: Array, *, momentum: Scalar, nesterov: bool = True, parts: int | None = None
    ) -> tuple[Array, Array]:
        """Average the gradient into m, in place; return the direction and its Frobenius norms, in one pass.

            M <- momentum M + (1 - momentum) G;   D = momentum M + (1 - momentum) G, or M without nesterov;   |D|_F

        The norm neither overflows nor vanishes. `parts` is how many blocks share a matrix (chosen by size).
        """
        self._check_step(m, g)
        direction = self.processor.xp.empty(m.shape, m.dtype)
        norms = self._auon(None, m, g, direction, (0.0, momentum, 0.0), 1.0, 1.0, nesterov, False, parts)
        return direction, norms

    def auon_step(
        self,
        w: Array,
        m: Array,
        g: Array,
        *,
        lr: Scalar,
        momentum: Scalar,
        weight_decay: Scalar = 0.0,
        gamma: float = 1.0,
        factor: float = 1.0,
        nesterov: bool = True,
        normalized: bool = True,
        parts: int | None = None,
    ) -> Array:
        """Take AuON's step in place on the weights and the momentum; return |D|_F, shape (batch).

            W <- (1 - lr weight_decay) W - factor lr Y / (rho + 1e-8),   X = D / (|D|_F + 1e-7)

        with rho^2 the mean of cosh^2(gamma X) and Y = X where `normalized` (the paper), D otherwise (the package). One
        launch where a block serves a matrix, three otherwise; auon_step.cu has the formulas and the cost.
        """
        self._check_step(w, g, m)
        hyper = (lr, momentum, weight_decay)
        return self._auon(w, m, g, None, hyper, gamma, factor, nesterov, normalized, parts)

    def _auon(self, w, m, g, direction, hyper, gamma, factor, nesterov, normalized, parts) -> Array:
        count, size, dtype = self._check_step(m, g)
        xp, number = self.processor.xp, m.dtype.type
        parts = parts or (1 if size <= ONE_BLOCK else min(MOST_THREADS, size // (ONE_BLOCK // 2)))
        norms, lengths, cosines = (xp.empty(shape, m.dtype) for shape in (count, (count, parts, 3), (count, parts)))
        last = 1 if w is None else 2
        arrays = (w, m, xp.ascontiguousarray(g), direction, norms, lengths, cosines)
        scalars = [number(gamma), number(factor), *map(np.int32, (nesterov, normalized, direction is not None))]
        arguments = [*arrays, *(self._for_each(value, m) for value in hyper), *scalars, np.int64(size), np.int32(parts)]
        for stages in [(0, last)] if parts == 1 else [(i, i) for i in range(last + 1)]:
            if m.size:
                self.processor.launch(
                    variant("auon_step", dtype), count * parts, MOST_THREADS, 3 * MOST_THREADS * m.dtype.itemsize,
                    *arguments, *map(np.int32, stages),
                )  # fmt: skip
        return norms.reshape(m.shape[:-2])

    def _check_step(self, w: Array, g: Array, m: Array | None = None) -> tuple[int, int, str]:
        """Refuse arrays that a step cannot take in place; return the number of matrices, their size and the dtype."""
        dtype = dtype_name(w)
        if dtype not in ("float32", "float64"):
            raise TypeError(f"A fused step needs float32 or float64; got {dtype}.")
        for x in (g, w) if m is None else (g, m, w):
            fits = x.shape == w.shape and x.dtype == w.dtype and x.ndim >= 2
            if not fits or (x is not g and not x.flags.c_contiguous):
                raise ValueError(
                    f"A fused step needs matrices of one shape and dtype, {w.shape} {dtype}, and contiguous weights "
                    f"and momentum, which it overwrites; got {x.shape} {x.dtype}{', not contiguous' if fits else ''}."
                )
        return math.prod(w.shape[:-2]), math.prod(w.shape[-2:]), dtype

    def _for_each(self, value: Scalar, w: Array) -> Array:
        """Return a hyper-parameter as one number a matrix of w."""
        xp, batch = self.processor.xp, w.shape[:-2]
        count = math.prod(batch)
        if getattr(value, "shape", ()) == ():
            number = float(value)
            if count <= REMEMBERED:
                return self.processor.constants((number,) * count, dtype_name(w))
            return xp.full(count, number, w.dtype)
        value = xp.broadcast_to(value, batch).astype(w.dtype)
        return xp.ascontiguousarray(value).reshape(-1)
