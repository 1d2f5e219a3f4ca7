"""SciPy's BLAS and LAPACK on blocks of one Fortran-ordered matrix, in place: float32 or float64, upper triangles.

SciPy's own wrappers want whole arrays; the recursive algorithms of `symmetric` need blocks with a leading dimension
and no copies. The pointers come from `scipy.linalg.cython_blas` and `cython_lapack`, SciPy's interface for this
purpose. Blocks are NumPy views whose columns are contiguous. Nothing is checked: `symmetric` is the caller.
"""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

Block = np.ndarray  # two axes, the first one contiguous
Call = tuple[Any, tuple]  # a routine and its arguments, bound to places in memory
LEAF = 64  # side below which LAPACK factors as fast as halves would

_NAME = ctypes.pythonapi.PyCapsule_GetName
_NAME.restype, _NAME.argtypes = ctypes.c_char_p, [ctypes.py_object]
_POINTER = ctypes.pythonapi.PyCapsule_GetPointer
_POINTER.restype, _POINTER.argtypes = ctypes.c_void_p, [ctypes.py_object, ctypes.c_char_p]


@functools.cache
def available() -> bool:
    """Say whether SciPy's pointers take 32-bit integers, as this module passes them."""
    try:
        from scipy.linalg import cython_blas

        return b"int *" in _NAME(cython_blas.__pyx_capi__["dgemm"])
    except (ImportError, KeyError):
        return False


@functools.cache
def _routine(name: str, dtype: np.dtype) -> Any:
    """Return the routine for a dtype as a foreign function; calling it releases the interpreter lock."""
    from scipy.linalg import cython_blas, cython_lapack

    full = {"f": "s", "d": "d"}[dtype.char] + name
    capsule = cython_blas.__pyx_capi__.get(full) or cython_lapack.__pyx_capi__[full]
    return ctypes.CFUNCTYPE(None)(_POINTER(capsule, _NAME(capsule)))


@functools.cache
def _norm_routine(dtype: np.dtype) -> Any:
    from scipy.linalg import cython_lapack

    kind, full = (ctypes.c_float, "slansy") if dtype.char == "f" else (ctypes.c_double, "dlansy")
    capsule = cython_lapack.__pyx_capi__[full]
    return ctypes.CFUNCTYPE(kind)(_POINTER(capsule, _NAME(capsule)))


@functools.cache
def _dot_routine(dtype: np.dtype) -> Any:
    from scipy.linalg import cython_blas

    full = {"f": "dsdot", "d": "ddot"}[dtype.char]
    capsule = cython_blas.__pyx_capi__[full]
    return ctypes.CFUNCTYPE(ctypes.c_double)(_POINTER(capsule, _NAME(capsule)))


@functools.cache
def _letter(letter: str) -> Any:
    return ctypes.byref(ctypes.c_char(letter.encode()))


def _integer(value: int) -> Any:
    return ctypes.byref(ctypes.c_int(value))


def _number(value: float, like: np.ndarray) -> Any:
    return ctypes.byref((ctypes.c_float if like.dtype.char == "f" else ctypes.c_double)(value))


def _data(a: np.ndarray) -> ctypes.c_void_p:
    return ctypes.c_void_p(a.ctypes.data)


def _leading(a: Block) -> Any:
    return ctypes.byref(ctypes.c_int(a.strides[1] // a.itemsize if a.shape[1] > 1 else max(1, a.shape[0])))


def run(call: Call) -> None:
    """Make a bound call."""
    routine, arguments = call
    routine(*arguments)


def gemm(alpha: float, a: Block, b: Block, beta: float, c: Block, turn_a: str = "N", turn_b: str = "N") -> None:
    """C <- alpha op(A) op(B) + beta C."""
    inner = a.shape[1] if turn_a == "N" else a.shape[0]
    _routine("gemm", c.dtype)(
        _letter(turn_a), _letter(turn_b), _integer(c.shape[0]), _integer(c.shape[1]), _integer(inner),
        _number(alpha, c), _data(a), _leading(a), _data(b), _leading(b), _number(beta, c), _data(c), _leading(c),
    )  # fmt: skip


def syrk(alpha: float, a: Block, beta: float, c: Block, turn: str = "N") -> None:
    """C <- alpha A A^T + beta C, or A^T A with turn "T"; upper triangle of C."""
    run(_syrk(alpha, a, beta, c, turn))


def _syrk(alpha: float, a: Block, beta: float, c: Block, turn: str) -> Call:
    inner = a.shape[1] if turn == "N" else a.shape[0]
    return _routine("syrk", c.dtype), (
        _letter("U"), _letter(turn), _integer(c.shape[0]), _integer(inner), _number(alpha, c), _data(a), _leading(a),
        _number(beta, c), _data(c), _leading(c),
    )  # fmt: skip


def symm(alpha: float, a: Block, b: Block, beta: float, c: Block, side: str = "L") -> None:
    """C <- alpha A B + beta C, or B A with side "R", for the symmetric A whose upper triangle is given."""
    _routine("symm", c.dtype)(
        _letter(side), _letter("U"), _integer(c.shape[0]), _integer(c.shape[1]), _number(alpha, c), _data(a),
        _leading(a), _data(b), _leading(b), _number(beta, c), _data(c), _leading(c),
    )  # fmt: skip


def recurrence(a: Block, vectors: Sequence[np.ndarray]) -> tuple[Callable, Callable, Callable, Callable]:
    """Bind the operations of a three-term recurrence to a symmetric matrix and vectors that are named by index.

    Returns matvec(i, j): v_j <- A v_i; dot(i, j), accumulated in double precision; axpy(c, i, j): v_j <- c v_i + v_j;
    scal(c, i). Binding once halves the time of a step of a few microseconds of arithmetic.
    """
    upper, size, one, lead = _letter("U"), _integer(a.shape[0]), _integer(1), _leading(a)
    unit, zero, matrix = _number(1.0, a), _number(0.0, a), _data(a)
    data = [_data(v) for v in vectors]
    number = (ctypes.c_float if a.dtype.char == "f" else ctypes.c_double)(0.0)
    scalar = ctypes.byref(number)
    symv, inner, add, times = (_routine("symv", a.dtype), _dot_routine(a.dtype),
                               _routine("axpy", a.dtype), _routine("scal", a.dtype))  # fmt: skip

    def matvec(i: int, j: int) -> None:
        symv(upper, size, unit, matrix, lead, data[i], one, zero, data[j], one)

    def dot(i: int, j: int) -> float:
        return inner(size, data[i], one, data[j], one)

    def axpy(c: float, i: int, j: int) -> None:
        number.value = c
        add(size, scalar, data[i], one, data[j], one)

    def scal(c: float, i: int) -> None:
        number.value = c
        times(size, scalar, data[i], one)

    return matvec, dot, axpy, scal


def symv(a: Block, x: np.ndarray, y: np.ndarray) -> None:
    """Y <- A x for the symmetric A whose upper triangle is given."""
    one = _integer(1)
    _routine("symv", a.dtype)(
        _letter("U"), _integer(a.shape[0]), _number(1.0, a), _data(a), _leading(a), _data(x), one, _number(0.0, a),
        _data(y), one,
    )  # fmt: skip


def _trmm(alpha: float, a: Block, b: Block, side: str, turn: str) -> Call:
    """B <- alpha op(A) B, or alpha B op(A) with side "R", for the upper triangular A."""
    return _routine("trmm", b.dtype), (
        _letter(side), _letter("U"), _letter(turn), _letter("N"), _integer(b.shape[0]), _integer(b.shape[1]),
        _number(alpha, b), _data(a), _leading(a), _data(b), _leading(b),
    )  # fmt: skip


class SymmetricInverse:
    """The calls that replace the upper triangle of a positive definite matrix by that of its inverse, in place.

    LAPACK's own potrf and potri work at a third of the speed of a product on small matrices. Halving turns nearly all
    work into products: with A = [[A11, A12], [., A22]] and V11 = U11^-1 in the place of A11 = U11^T U11,

        A12 <- V11^T A12 = U12,  A22 <- A22 - U12^T U12,  V22 in its place,  A12 <- -V11 A12 V22,

    and then A <- V V^T. A matrix in one place of memory needs the same calls again: they are bound once.
    """

    def __init__(self, a: Block):
        self._info = ctypes.c_int(0)
        self._calls: list[Call] = []
        self._halve(a)
        self._calls.append(self._factorization("lauum", a, "U"))

    def __call__(self) -> bool:
        """Invert; return False where a pivot is not positive."""
        self._info.value = 0
        for routine, arguments in self._calls:
            routine(*arguments)
            if self._info.value:
                return False
        return True

    def _halve(self, a: Block) -> None:
        n = a.shape[0]
        if n <= LEAF:
            self._calls += [self._factorization("potrf", a, "U"), self._factorization("trtri", a, "U", "N")]
            return
        h = n // 2
        v11, a12, a22 = a[:h, :h], a[:h, h:], a[h:, h:]
        self._halve(v11)
        self._calls += [_trmm(1.0, v11, a12, "L", "T"), _syrk(-1.0, a12, 1.0, a22, "T")]
        self._halve(a22)
        self._calls += [_trmm(-1.0, v11, a12, "L", "N"), _trmm(1.0, a22, a12, "R", "N")]

    def _factorization(self, name: str, a: Block, *options: str) -> Call:
        letters = map(_letter, options)
        arguments = (*letters, _integer(a.shape[0]), _data(a), _leading(a), ctypes.byref(self._info))
        return _routine(name, a.dtype), arguments


def axpy(alpha: float, x: Block, y: Block) -> None:
    """Y <- alpha X + Y for whole arrays."""
    one = _integer(1)
    _routine("axpy", y.dtype)(_integer(y.size), _number(alpha, y), _data(x), one, _data(y), one)


def scal(alpha: float, x: Block) -> None:
    """X <- alpha X for a whole array."""
    if alpha != 1.0:
        _routine("scal", x.dtype)(_integer(x.size), _number(alpha, x), _data(x), _integer(1))


def trsv(a: Block, x: np.ndarray, turn: str = "N") -> None:
    """X <- op(U)^-1 x for the upper triangular U."""
    _routine("trsv", a.dtype)(
        _letter("U"), _letter(turn), _letter("N"), _integer(a.shape[0]), _data(a), _leading(a), _data(x), _integer(1)
    )


def dot(x: np.ndarray, y: np.ndarray) -> float:
    """Return the inner product of two vectors, accumulated in double precision."""
    return _dot_routine(x.dtype)(_integer(x.size), _data(x), _integer(1), _data(y), _integer(1))


def potrf(a: Block) -> int:
    """A <- U with A = U^T U; returns LAPACK's info, positive where A is not positive definite."""
    info = ctypes.c_int(0)
    _routine("potrf", a.dtype)(_letter("U"), _integer(a.shape[0]), _data(a), _leading(a), ctypes.byref(info))
    return info.value


def symmetric_norm(a: Block, kind: str) -> float:
    """Return the norm "F" (Frobenius), "1" (row sums) or "M" (largest entry) from the upper triangle."""
    work = np.empty(a.shape[0], a.dtype)
    return float(
        _norm_routine(a.dtype)(_letter(kind), _letter("U"), _integer(a.shape[0]), _data(a), _leading(a), _data(work))
    )


def inverse(a: Block) -> int:
    """A <- A^-1 by LU with partial pivoting; returns LAPACK's info, positive where A is singular."""
    n = a.shape[0]
    pivots = np.empty(n, np.int32)
    info = ctypes.c_int(0)
    size, lead, flag = _integer(n), _leading(a), ctypes.byref(info)
    _routine("getrf", a.dtype)(size, size, _data(a), lead, _data(pivots), flag)
    if info.value:
        return info.value
    work = np.empty(64 * n, a.dtype)  # 64 columns: LAPACK's own block size
    _routine("getri", a.dtype)(size, _data(a), lead, _data(pivots), _data(work), _integer(work.size), flag)
    return info.value
