"""Recording what a method does: its own `update`, run on symbols instead of arrays, gives a straight-line program.

A `Symbol` stands for a matrix (m, n), for one number a run, or for a number shared by all runs. It answers to the
array API as far as the methods of the package use it; anything else raises `Unrecordable`, and the reference serves.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

Kind = Literal["number", "scalar", "matrix", "short"]
# number: float64, one for all runs. scalar: one a run, in the dtype of the weights. matrix: (m, n) or its transpose.
# short: a symmetric polynomial in a Gram matrix, on the short side.


class Unrecordable(Exception):
    """What a method asks of its arrays has no place in a recorded program."""


@dataclass(frozen=True)
class Node:
    """One operation: its name, the nodes it acts on, what it gives, and what it needs to know beyond that."""

    op: str
    args: tuple[int, ...]
    kind: Kind
    logical: bool = False
    flipped: bool = False  # stands for the transpose of an (m, n) matrix
    detail: Any = None


@dataclass
class Program:
    """Nodes in the order of their recording, with the numbers and constant matrices they refer to.

    The values of numbers are data, not code: two methods that differ in a number alone share a compiled program.
    """

    rows: int
    columns: int
    dtype: np.dtype
    nodes: list[Node] = field(default_factory=list)
    numbers: list[float] = field(default_factory=list)
    constants: list[np.ndarray] = field(default_factory=list)
    inputs: list[str] = field(default_factory=list)  # matrices, by name
    scalars: list[str] = field(default_factory=list)  # hyper-parameters with a value a run
    outputs: list[tuple[str, int]] = field(default_factory=list)
    found: dict[Any, int] = field(default_factory=dict)

    @property
    def tall(self) -> bool:
        """Whether matrices are held as they are; otherwise transposed, so that the long side comes first."""
        return self.rows > self.columns

    def add(self, *args, **options) -> int:
        """Return the index of a node, a new one or its equal."""
        node = Node(*args, **options)
        if node not in self.found:
            self.found[node] = len(self.nodes)
            self.nodes.append(node)
        return self.found[node]

    def matrix(self, name: str) -> Symbol:
        """Return the symbol of an input matrix (m, n)."""
        if name not in self.inputs:
            self.inputs.append(name)
        return Symbol(self, self.add("input", (), "matrix", detail=name))

    def scalar(self, name: str) -> Symbol:
        """Return the symbol of an input with one value a run."""
        if name not in self.scalars:
            self.scalars.append(name)
        return Symbol(self, self.add("scalar", (), "scalar", detail=name))

    def step(self) -> Symbol:
        """Return the number of steps taken before this one."""
        return Symbol(self, self.add("step", (), "number"))

    def number(self, value: float) -> Symbol:
        """Return a number; equal ones are one."""
        key = ("number", float(value).hex())
        if key not in self.found:
            self.numbers.append(float(value))
            self.found[key] = self.add("number", (), "number", detail=len(self.numbers) - 1)
        return Symbol(self, self.found[key])

    def constant(self, value: np.ndarray, flipped: bool = False) -> int:
        """Return a matrix shared by all runs."""
        key = ("constant", id(value), value.shape)
        if key not in self.found:
            if value.dtype != self.dtype:
                raise Unrecordable(f"a constant of dtype {value.dtype} among matrices of {self.dtype}")
            self.constants.append(value)
            self.found[key] = len(self.constants) - 1
        return self.add("constant", (), "matrix", flipped=flipped, detail=self.found[key])

    def output(self, name: str, symbol: Symbol) -> None:
        """Say where a matrix goes."""
        if symbol.node.kind != "matrix" or symbol.node.flipped:
            raise Unrecordable(f"{name} must be a matrix (m, n)")
        self.outputs.append((name, symbol.index))

    def result(self, name: str, symbol: Symbol) -> None:
        """Say where a number a run goes."""
        if not isinstance(symbol, Symbol) or symbol.kind not in ("scalar", "number") or symbol.node.logical:
            raise Unrecordable(f"{name} must be one number a run")
        self.outputs.append((name, symbol.index))

    def structure(self) -> tuple:
        """Return what the code depends on: everything but the values of numbers and constants."""
        shapes = tuple((c.shape, symmetric(c)) for c in self.constants)
        return (self.rows, self.columns, str(self.dtype), tuple(self.nodes), shapes, tuple(self.outputs))


def symmetric(x: np.ndarray) -> bool:
    """Whether a constant equals its transpose."""
    return x.ndim == 2 and x.shape[0] == x.shape[1] and np.array_equal(x, x.T)


ELEMENTWISE = {
    "add": 2, "subtract": 2, "multiply": 2, "divide": 2, "pow": 2, "maximum": 2, "minimum": 2,
    "equal": 2, "not_equal": 2, "less": 2, "less_equal": 2, "greater": 2, "greater_equal": 2,
    "logical_and": 2, "logical_or": 2, "logical_not": 1, "negative": 1, "abs": 1, "sqrt": 1, "sign": 1,
    "floor": 1, "log2": 1, "exp": 1, "cosh": 1, "isfinite": 1, "where": 3,
}  # fmt: skip
TESTS = {"equal", "not_equal", "less", "less_equal", "greater", "greater_equal", "isfinite"}
LOGIC = {"logical_and", "logical_or", "logical_not"}


class Symbol:
    """A value of a program in the making; immutable."""

    __array_ufunc__ = None  # NumPy arrays leave their operators to us
    __hash__ = object.__hash__

    def __init__(self, program: Program, index: int, linear: tuple[dict[int, float], float] | None = None):
        self.program, self.index = program, index
        self.linear = linear  # of kind "short": coefficients of products, and of the identity

    @property
    def node(self) -> Node:
        """The operation that gives it."""
        return self.program.nodes[self.index]

    @property
    def kind(self) -> Kind:
        """What it stands for."""
        return "short" if self.linear is not None else self.node.kind

    @property
    def shape(self) -> tuple[int, ...]:
        """(m, n), its transpose, (k, k) on the short side, or (1, 1)."""
        p = self.program
        if self.kind == "short":
            return (min(p.rows, p.columns),) * 2
        if self.kind == "matrix":
            return (p.columns, p.rows) if self.node.flipped else (p.rows, p.columns)
        return (1, 1)

    ndim = 2
    device = "recording"

    @property
    def dtype(self):
        """The dtype of the weights."""
        return bool_ if self.node.logical else self.program.dtype

    @property
    def mT(self):
        """The transpose, which costs nothing."""
        if self.kind != "matrix":
            return self
        node = self.node
        if node.op == "transpose":
            return Symbol(self.program, node.args[0])
        flipped = not node.flipped
        return Symbol(self.program, self.program.add("transpose", (self.index,), "matrix", node.logical, flipped))

    def __array_namespace__(self, api_version=None):
        return _NAMESPACE

    def __bool__(self):
        raise Unrecordable("a decision on a value that is known only when the program runs")

    __float__ = __int__ = __index__ = __len__ = __iter__ = __bool__

    def __getitem__(self, key):
        key = key if isinstance(key, tuple) else (key,)
        if self.kind in ("scalar", "number") and all(k is Ellipsis or k is None or k == 0 for k in key):
            return self
        raise Unrecordable(f"an index {key} into a {self.kind}")

    def __add__(self, other):
        if self.kind == "short" or (isinstance(other, Symbol) and other.kind == "short"):
            return _polynomials().total(self, other)
        fused = _polynomials().product_plus(self, other)
        return _record(self.program, "add", self, other) if fused is None else fused

    def __radd__(self, other):
        return self + other

    def __sub__(self, other):
        return _record(self.program, "subtract", self, other)

    def __rsub__(self, other):
        return _record(self.program, "subtract", other, self)

    def __mul__(self, other):
        if self.kind == "short":
            return _polynomials().scaled(self, other)
        return _record(self.program, "multiply", self, other)

    __rmul__ = __mul__

    def __truediv__(self, other):
        return _record(self.program, "divide", self, other)

    def __rtruediv__(self, other):
        return _record(self.program, "divide", other, self)

    def __pow__(self, other):
        if isinstance(other, int | float) and other == 2:
            return self * self
        return _record(self.program, "pow", self, other)

    def __rpow__(self, other):
        node = self.node
        if isinstance(other, int | float) and other == 2 and node.op == "floor":
            below = self.program.nodes[node.args[0]]
            if below.op == "log2":  # 2^floor(log2 x): the exponent bits of x
                return _record(self.program, "power_of_two", Symbol(self.program, below.args[0]))
        return _record(self.program, "pow", other, self)

    def __neg__(self):
        return _record(self.program, "negative", self)

    def __abs__(self):
        return _record(self.program, "abs", self)

    def __matmul__(self, other):
        return _polynomials().matmul(self.program, self, other)

    def __rmatmul__(self, other):
        return _polynomials().matmul(self.program, other, self)

    def __eq__(self, other):
        return _record(self.program, "equal", self, other)

    def __ne__(self, other):
        return _record(self.program, "not_equal", self, other)

    def __lt__(self, other):
        return _record(self.program, "less", self, other)

    def __le__(self, other):
        return _record(self.program, "less_equal", self, other)

    def __gt__(self, other):
        return _record(self.program, "greater", self, other)

    def __ge__(self, other):
        return _record(self.program, "greater_equal", self, other)

    def __and__(self, other):
        return _record(self.program, "logical_and", self, other)

    __rand__ = __and__

    def __or__(self, other):
        return _record(self.program, "logical_or", self, other)

    def __invert__(self):
        return _record(self.program, "logical_not", self)


bool_ = np.dtype(bool)


def _symbol(program: Program, value: Any, flipped: bool = False) -> Symbol:
    if isinstance(value, Symbol):
        return value
    if isinstance(value, bool | int | float | np.generic) or (isinstance(value, np.ndarray) and value.ndim == 0):
        return program.number(float(value))
    if isinstance(value, np.ndarray) and value.ndim == 2:
        return Symbol(program, program.constant(value, flipped))
    raise Unrecordable(f"a {type(value).__name__} among symbols")


def _polynomials():
    from . import gram_polynomials  # it needs symbols

    return gram_polynomials


def _record(program: Program, op: str, *values) -> Symbol:
    flips = [v.node.flipped for v in values if isinstance(v, Symbol) and v.kind == "matrix"]
    symbols = [_symbol(program, v, bool(flips) and flips[0]) for v in values]
    if any(s.kind == "short" for s in symbols):
        raise Unrecordable(f"{op} of a matrix on the short side")
    matrices = [s for s in symbols if s.kind == "matrix"]
    if len({(s.node.flipped, s.shape) for s in matrices}) > 1:
        raise Unrecordable(f"{op} of matrices of different shapes")
    kind: Kind = "matrix" if matrices else "scalar" if any(s.kind == "scalar" for s in symbols) else "number"
    logical = op in TESTS or op in LOGIC or (op == "where" and symbols[1].node.logical)
    flipped = bool(matrices) and matrices[0].node.flipped
    return Symbol(program, program.add(op, tuple(s.index for s in symbols), kind, logical, flipped))


def _reduce(op: str, x: Symbol, axis, keepdims: bool) -> Symbol:
    both = axis is None or {a % 2 for a in (axis if isinstance(axis, tuple) else (axis,))} == {0, 1}
    if x.kind in ("scalar", "number") and both:
        return x
    if x.kind != "matrix" or not both:
        raise Unrecordable(f"{op} along axis {axis} of a {x.kind}")
    return Symbol(x.program, x.program.add(op, (x.index,), "scalar", x.node.logical))


class _Namespace:
    """The part of the array API that methods use, on symbols."""

    __name__ = "recording"  # array-api-compat asks what it was given

    def __getattr__(self, name: str):
        if name.startswith("__"):
            raise AttributeError(name)
        if name not in ELEMENTWISE:
            raise Unrecordable(f"the function {name}")
        return lambda *values: _record(next(v.program for v in values if isinstance(v, Symbol)), name, *values)

    def sum(self, x, *, axis=None, keepdims=False):
        return _reduce("sum", x, axis, keepdims)

    def max(self, x, *, axis=None, keepdims=False):
        return _reduce("max", x, axis, keepdims)

    def mean(self, x, *, axis=None, keepdims=False):
        return _reduce("sum", x, axis, keepdims) / math.prod(x.shape)

    def square(self, x):
        return x * x

    def clip(self, x, low, high):
        return self.minimum(self.maximum(x, low), high)

    def zeros_like(self, x):
        return self.full_like(x, 0.0)

    def ones_like(self, x):
        return self.full_like(x, 1.0)

    def full_like(self, x, value):
        if x.kind == "short":
            raise Unrecordable("a constant matrix on the short side")
        number = x.program.number(value)
        return Symbol(x.program, x.program.add("fill", (number.index,), x.kind, flipped=x.node.flipped))

    def astype(self, x, dtype):
        if np.dtype(dtype) != x.dtype:
            raise Unrecordable(f"a cast from {x.dtype} to {dtype}")
        return x

    def eye(self, size, *, dtype=None, device=None):
        return _polynomials().Eye()

    def isdtype(self, dtype, kind):
        return np.isdtype(dtype, kind)

    def finfo(self, dtype):
        return np.finfo(dtype)

    def where(self, condition, x, y):
        return _record(condition.program, "where", condition, x, y)


_NAMESPACE = _Namespace()
