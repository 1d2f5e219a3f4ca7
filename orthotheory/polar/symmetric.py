"""The operations that every plan is made of: products with symmetric results, twice with one meaning.

`Reference` is array-API code (batched, complex, any namespace). `Blas` takes one real NumPy matrix in float32 or
float64 through SciPy's BLAS and computes one triangle of whatever is symmetric. Both agree to rounding.

All symmetric matrices of one call are functions of one Gram matrix: they commute, so their products are symmetric.
"""

from __future__ import annotations

import itertools
import math
import threading
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np

from ..arrays import Array, array_namespace, device_of, frobenius
from . import blas
from .newton import NewtonStep
from .reduction import adjoint

Symmetric = Any  # an array for `Reference`, a `Triangle` for `Blas`
MIRROR = 64  # columns reflected at a time: a panel of them stays in the cache


class NotPositiveDefinite(ArithmeticError):
    """A Cholesky factorization met a pivot that is not positive."""


class Operations(Protocol):
    """What an implementation provides, for wide matrices x (..., n, m) and symmetric n x n ones p, q."""

    def gram(self, x: Array) -> Symmetric:
        """Return x x^H."""

    def product(
        self, p: Symmetric, q: Symmetric, alpha: float = 1.0, beta: float = 0.0, r: Symmetric = None
    ) -> Symmetric:
        """Return alpha p q + beta r for commuting p and q; r is used up."""

    def shift(self, p: Symmetric, constant: float) -> Symmetric:
        """Return p + constant I; p is used up."""

    def copy(self, p: Symmetric) -> Symmetric:
        """Return a copy that may be used up."""

    def combine(self, constant: float, terms: Sequence[tuple[float, Symmetric]]) -> Symmetric:
        """Return constant I + the sum of c p over the terms (c, p)."""

    def add(self, p: Symmetric, c: float, q: Symmetric) -> Symmetric:
        """Return p + c q; p is used up."""

    def inverse(self, p: Symmetric, shift: float) -> Symmetric:
        """Return (p + shift I)^-1 of a positive definite matrix."""

    def apply(self, p: Symmetric, x: Array, alpha: float = 1.0) -> Array:
        """Return alpha p x."""

    def matvec(self, p: Symmetric, v: Array) -> Array:
        """Return p v for vectors v (..., n)."""

    def scale(self, c: float, x: Array) -> Array:
        """Return c x."""

    def trace(self, p: Symmetric) -> Array:
        """Return the trace, shape (...)."""

    def frobenius(self, p: Symmetric) -> Array:
        """Return the Frobenius norm, shape (...)."""

    def row_sum(self, p: Symmetric) -> Array:
        """Return the largest absolute row sum, shape (...)."""

    def largest_eigenvalue(self, p: Symmetric) -> Array:
        """Return the largest eigenvalue, shape (...), at the cost of all of them."""

    def newton(self, x: Array, weight: float) -> Array:
        """Return (w x + (w x)^-H) / 2 for square nonsingular x."""

    def qr(self, x: Array) -> tuple[Callable[[Array], Array], Array]:
        """Factor x = r q with q q^H = I; return the function y -> y q and the square r."""

    def cast(self, x: Array, dtype: str) -> Array:
        """Return x in another precision."""

    def like(self, p: Symmetric, x: Array) -> Symmetric:
        """Return p in the precision of x."""

    def free(self, *matrices: Symmetric) -> None:
        """Say that nobody needs these matrices any more."""

    def discard(self, x: Array) -> None:
        """Say that nobody needs this result of `apply` any more."""


class Reference:
    """The operations as formulas, on arrays of any namespace with leading batch axes."""

    def gram(self, x):
        xp = array_namespace(x)
        return x @ (xp.conj(x).mT if xp.isdtype(x.dtype, "complex floating") else x.mT)

    def product(self, p, q, alpha=1.0, beta=0.0, r=None):
        return alpha * (p @ q) + beta * r if beta else alpha * (p @ q)

    def shift(self, p, constant):
        return p + constant * self._eye(p)

    def copy(self, p):
        return p

    def add(self, p, c, q):
        return p + c * q

    def combine(self, constant, terms):
        return self.shift(sum(c * p for c, p in terms), constant)

    def inverse(self, p, shift):
        return array_namespace(p).linalg.inv(self.shift(p, shift))

    def apply(self, p, x, alpha=1.0):
        return alpha * (p @ x)

    def matvec(self, p, v):
        return (p @ v[..., None])[..., 0]

    def scale(self, c, x):
        return c * x

    def trace(self, p):
        xp = array_namespace(p)
        return xp.real(xp.linalg.trace(p)) if xp.isdtype(p.dtype, "complex floating") else xp.linalg.trace(p)

    def frobenius(self, p):
        return frobenius(p)

    def row_sum(self, p):
        xp = array_namespace(p)
        return xp.max(xp.sum(xp.abs(p), axis=-1), axis=-1)

    def largest_eigenvalue(self, p):
        xp = array_namespace(p)
        top = xp.linalg.eigvalsh(p)[..., -1]
        return xp.maximum(top, xp.zeros_like(top))

    def newton(self, x, weight):
        return NewtonStep(weight).apply(x)

    def qr(self, x):
        q, r = array_namespace(x).linalg.qr(adjoint(x), mode="reduced")
        return (lambda y: y @ adjoint(q)), adjoint(r)

    def cast(self, x, dtype):
        xp = array_namespace(x)
        return xp.astype(x, getattr(xp, str(dtype)))

    def like(self, p, x):
        return array_namespace(p).astype(p, x.dtype)

    def free(self, *matrices):
        pass

    def discard(self, x):
        pass

    def _eye(self, p):
        return array_namespace(p).eye(p.shape[-1], dtype=p.dtype, device=device_of(p))


class Triangle:
    """A symmetric matrix: Fortran-ordered, the upper triangle valid, the lower one if `full`."""

    __slots__ = ("a", "full")

    def __init__(self, a: np.ndarray, full: bool = False):
        self.a, self.full = a, full

    def mirror(self) -> np.ndarray:
        """Reflect the upper triangle once and return the whole matrix."""
        if not self.full:
            n = self.a.shape[0]
            for j in range(0, n, MIRROR):
                panel = slice(j, min(n, j + MIRROR))
                if j:
                    self.a[panel, :j] = self.a[:j, panel].T
                corner = self.a[panel, panel]
                np.copyto(corner, corner.T, where=_BELOW[: corner.shape[0], : corner.shape[0]])
            self.full = True
        return self.a


_THREAD = threading.local()
_BELOW = np.tril(np.ones((MIRROR, MIRROR), bool), -1)


class Blas:
    """The operations on one real matrix, float32 or float64, by SciPy's BLAS and LAPACK alone.

    NumPy's and SciPy's BLAS have two thread pools whose workers spin after a call; alternating them costs more than
    the products, so nothing here calls NumPy's. An instance keeps its scratch and serves one thread.
    """

    def __init__(self):
        self._scratch: dict[tuple[tuple[int, ...], str], list[np.ndarray]] = {}
        self._inverses: dict[tuple, blas.SymmetricInverse] = {}  # by place in memory, shape and dtype

    @classmethod
    def of_thread(cls) -> Blas:
        """Return the instance of this thread: fresh memory costs as much as a tenth of a product."""
        if not hasattr(_THREAD, "blas"):
            _THREAD.blas = cls()
        return _THREAD.blas

    def forget(self, *, keep: int = 0) -> None:
        """Drop the scratch, all but that of sides up to `keep`."""
        self._scratch = {key: stack for key, stack in self._scratch.items() if max(key[0]) <= keep}
        if len(self._inverses) > 64:
            self._inverses.clear()

    def _take(self, shape, dtype) -> np.ndarray:
        """Return scratch of a shape, Fortran-ordered, with any contents."""
        stack = self._scratch.get((shape, dtype.char))
        return stack.pop() if stack else np.empty(shape, dtype, order="F")

    def _give(self, a: np.ndarray) -> None:
        self._scratch.setdefault((a.shape, a.dtype.char), []).append(a)

    def gram(self, x):
        c = self._take((x.shape[0], x.shape[0]), x.dtype)
        if x.flags.f_contiguous:
            blas.syrk(1.0, x, 0.0, c, "N")
        else:
            blas.syrk(1.0, x.T, 0.0, c, "T")
        return Triangle(c)

    def product(self, p, q, alpha=1.0, beta=0.0, r=None):
        a, b = p.mirror(), q.mirror()
        c = r.a if beta else self._take(a.shape, a.dtype)
        if p is q:
            blas.syrk(alpha, a, beta, c)
        else:
            for panel in _panels(a.shape[0]):
                blas.gemm(alpha, a[: panel.stop], b[:, panel], beta, c[: panel.stop, panel])
        return Triangle(c)

    def shift(self, p, constant):
        if constant:
            diagonal(p.a)[...] += p.a.dtype.type(constant)
        return p

    def copy(self, p):
        a = self._take(p.a.shape, p.a.dtype)
        np.copyto(a, p.a)
        return Triangle(a, p.full)

    def add(self, p, c, q):
        blas.axpy(c, q.a, p.a)  # the unused triangle may hold anything, so this is not NumPy's sum
        p.full = p.full and q.full
        return p

    def combine(self, constant, terms):
        (c, first), *rest = terms
        total = self.copy(first)
        blas.scal(c, total.a)
        for factor, p in rest:
            total = self.add(total, factor, p)
        return self.shift(total, constant)

    def inverse(self, p, shift):
        work = self.shift(self.copy(p), shift)
        key = work.a.ctypes.data, work.a.shape, work.a.dtype.char
        if key not in self._inverses:
            self._inverses[key] = blas.SymmetricInverse(work.a)
        if not self._inverses[key]():
            raise NotPositiveDefinite
        work.full = False
        return work

    def apply(self, p, x, alpha=1.0):
        if x.flags.f_contiguous:
            y = self._take(x.shape, x.dtype)
            blas.symm(alpha, p.a, x, 0.0, y, "L")
            return y
        y = self._take(x.shape[::-1], x.dtype)
        blas.symm(alpha, p.a, x.T, 0.0, y, "R")
        return y.T

    def discard(self, x):
        self._give(x if x.flags.f_contiguous else x.T)

    def matvec(self, p, v):
        y = np.empty_like(v)
        blas.symv(p.a, v, y)
        return y

    def scale(self, c, x):
        return x * x.dtype.type(c)

    def trace(self, p):
        return float(np.sum(diagonal(p.a), dtype=np.float64))

    def frobenius(self, p):
        return blas.symmetric_norm(p.a, "F")

    def row_sum(self, p):
        return blas.symmetric_norm(p.a, "1")

    def largest_eigenvalue(self, p):
        from scipy.linalg import eigvalsh

        n = p.a.shape[0]
        return max(0.0, float(eigvalsh(p.a, lower=False, subset_by_index=(n - 1, n - 1), check_finite=False)[0]))

    def newton(self, x, weight):
        inverse = np.array(x)
        if blas.inverse(inverse if x.flags.f_contiguous else inverse.T):
            raise np.linalg.LinAlgError("A Newton step met a singular matrix: use an exact plan, which sees the rank.")
        kind = x.dtype.type
        y = x * kind(weight / 2)
        for j in range(0, len(x), MIRROR):
            panel = slice(j, j + MIRROR)
            if x.flags.f_contiguous:
                y[:, panel] += (inverse[panel] * kind(0.5 / weight)).T
            else:
                y[panel] += (inverse[:, panel] * kind(0.5 / weight)).T
        return y

    def qr(self, x):
        from scipy.linalg import qr

        q, r = qr(x.T, mode="economic", check_finite=False)
        return (lambda y: _times(y, q)), np.ascontiguousarray(r.T)

    def cast(self, x, dtype):
        return x.astype(dtype)

    def like(self, p, x):
        return p if p.a.dtype == x.dtype else Triangle(p.mirror().astype(x.dtype), True)

    def free(self, *matrices):
        for p in matrices:
            self._give(p.a)


def _times(y: np.ndarray, q: np.ndarray) -> np.ndarray:
    """Return y q^T in SciPy's BLAS."""
    out = np.empty((y.shape[0], q.shape[0]), y.dtype, order="F")
    q = np.asfortranarray(q)
    blas.gemm(1.0, np.asfortranarray(y), q, 0.0, out, "N", "T")
    return out


def diagonal(a: np.ndarray) -> np.ndarray:
    """Return the diagonal of a Fortran-ordered square matrix as a writable view."""
    return a.ravel(order="K")[:: a.shape[0] + 1]


def _panels(n: int) -> list[slice]:
    """Cut the columns so that products stay wide enough: four panels cost 5/8 of a full product, eight 9/16."""
    count = max(1, min(8, n // 128))
    edges = [n * i // count for i in range(count + 1)]
    return [slice(i, j) for i, j in itertools.pairwise(edges)]


def laid_out(x: np.ndarray) -> np.ndarray:
    """Return the matrix itself where rows or columns are contiguous, a copy otherwise."""
    return x if x.flags.c_contiguous or x.flags.f_contiguous else np.ascontiguousarray(x)


def fits_blas(g: Array) -> bool:
    """Say whether `Blas` takes the array: one real NumPy matrix in float32 or float64 of this machine's layout."""
    plain = type(g) is np.ndarray and g.ndim == 2 and g.dtype.char in "fd" and g.dtype.isnative and g.flags.aligned
    return plain and blas.available()


def moderate(square: float, dtype: np.dtype) -> bool:
    """Say whether a squared Frobenius norm leaves room for squares and fourth powers on both sides."""
    exponent = 0.25 * math.log2(float(np.finfo(dtype).max))  # 32 or 256
    return math.isfinite(square) and square > 0 and abs(math.log2(square)) < exponent
