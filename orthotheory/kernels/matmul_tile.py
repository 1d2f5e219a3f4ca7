"""Small matrix products in vector LLVM IR: register tiles whose sizes and strides are known when they are compiled.

C = alpha A B + beta D of row-major matrices. Accumulators stay in registers over the whole inner dimension; alpha and
beta act in the store. An element of A is broadcast, so that its strides are free: Y^T Y needs no transposed copy. A
symmetric product computes the tiles on and below the diagonal and stores the transposes of the others.

In the interleaved layout (`Target.lanes` problems side by side) every element is a vector and nothing is broadcast,
except the elements of a matrix that all problems share.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np


class Target(NamedTuple):
    """What the code is made for: a dtype, the entries of a vector register, and the number of registers."""

    dtype: str
    lanes: int
    registers: int
    interleaved: bool = False

    @property
    def scalar(self) -> str:
        """The IR's name of the dtype."""
        return {"float32": "float", "float64": "double"}[self.dtype]

    @property
    def vector(self) -> str:
        """The IR's type of a register."""
        return f"<{self.lanes} x {self.scalar}>"

    @property
    def bytes(self) -> int:
        """Bytes of an entry."""
        return np.dtype(self.dtype).itemsize

    @property
    def each(self) -> str:
        """The IR's type of what each problem has one of."""
        return self.vector if self.interleaved else self.scalar


@functools.cache
def vector_width() -> tuple[int, int]:
    """Return the bytes and the number of this processor's vector registers: AVX-512, AVX2, or 128 bits."""
    import llvmlite.binding as llvm

    features = llvm.get_host_cpu_features()
    if features.get("avx512f") and features.get("avx512vl"):
        return 64, 32
    if features.get("avx2") and features.get("fma"):
        return 32, 16
    return 16, 16


@dataclass
class Function:
    """The body of an IR function in the making."""

    target: Target
    lines: list[str] = field(default_factory=list)
    slots: list[str] = field(default_factory=list)
    count: int = 0

    def name(self) -> str:
        """Return a name not used before."""
        self.count += 1
        return f"%v{self.count}"

    def put(self, text: str) -> None:
        """Append an instruction without a result."""
        self.lines.append("  " + text)

    def let(self, text: str) -> str:
        """Append an instruction and return its result."""
        name = self.name()
        self.put(f"{name} = {text}")
        return name

    def slot(self, kind: str, value: str | None = None) -> str:
        """Return a variable, which the optimizer keeps in a register."""
        name = self.name()
        self.slots.append(f"  {name} = alloca {kind}")
        if value is not None:
            self.put(f"store {kind} {value}, ptr {name}")
        return name

    def load(self, kind: str, pointer: str) -> str:
        """Load a value, or read a variable."""
        return self.let(f"load {kind}, ptr {pointer}, align {self.target.bytes}")

    def store(self, kind: str, value: str, pointer: str) -> None:
        """Store a value."""
        self.put(f"store {kind} {value}, ptr {pointer}, align {self.target.bytes}")

    def at(self, pointer: str, offset: int | str) -> str:
        """Return a pointer so many entries on."""
        return pointer if offset == 0 else self.let(f"getelementptr {self.target.scalar}, ptr {pointer}, i64 {offset}")

    def splat(self, value: str) -> str:
        """Return a register with one value in all places."""
        t = self.target
        first = self.let(f"insertelement {t.vector} poison, {t.scalar} {value}, i64 0")
        zeros = f"<{t.lanes} x i32> zeroinitializer"
        return self.let(f"shufflevector {t.vector} {first}, {t.vector} poison, {zeros}")

    @contextlib.contextmanager
    def loop(self, start: int | str, stop: int | str, step: int = 1) -> Iterator[str]:
        """Repeat what is appended inside, with the counter."""
        label = self.name()[1:]
        counter = self.slot("i64", str(start))
        self.put(f"br label %{label}.test")
        self.lines.append(f"{label}.test:")
        i = self.let(f"load i64, ptr {counter}")
        more = self.let(f"icmp slt i64 {i}, {stop}")
        self.put(f"br i1 {more}, label %{label}.body, label %{label}.end")
        self.lines.append(f"{label}.body:")
        yield i
        following = self.let(f"add i64 {i}, {step}")
        self.put(f"store i64 {following}, ptr {counter}")
        self.put(f"br label %{label}.test")
        self.lines.append(f"{label}.end:")

    def text(self, head: str) -> str:
        """Return the function."""
        return "\n".join([head + " {", "entry:", *self.slots, *self.lines, "  ret void", "}"])


class Product(NamedTuple):
    """A product's shape and strides, in entries (of a problem)."""

    rows: int
    columns: int
    inner: int
    a_row: int
    a_inner: int
    b_row: int
    c_row: int
    shared_a: bool = False
    shared_b: bool = False
    adds: bool = False  # beta D
    symmetric: bool = False


def emit(product: Product, target: Target, module: dict[str, str]) -> str:
    """Add the functions of a product to a module, name -> text, and return the name of the one to call.

    It takes pointers to A, B, C and D and the numbers alpha and beta, of the dtype.
    """
    name = "@product_" + "_".join(str(int(x)) for x in product)
    if name in module:
        return name
    f = Function(target)
    lanes = target.lanes if target.interleaved else 1
    height, width = _tile(product, target)
    step = width * (1 if target.interleaved else target.lanes)
    columns = product.columns if target.interleaved else -(-product.columns // target.lanes) * target.lanes
    rows = columns if product.symmetric else product.rows
    for j in range(0, columns, step):
        w = min(step, columns - j) // (1 if target.interleaved else target.lanes)
        for i in range(0, rows, height):
            if product.symmetric and i + height <= j:
                continue
            mirrored = product.symmetric and i >= j + step
            h = min(height, rows - i)
            tile = _emit_tile(product, target, h, w, mirrored, module)
            pointers = [
                f.at("%a", i * product.a_row * (1 if product.shared_a else lanes)),
                f.at("%b", j * (1 if product.shared_b else lanes)),
                f.at("%c", (i * product.c_row + j) * lanes),
                f.at("%d", (i * product.c_row + j) * lanes),
                f.at("%c", (j * product.c_row + i) * lanes),
            ]
            listed = ", ".join(f"ptr {p}" for p in pointers)
            t = target.scalar
            f.put(f"call void {tile}({listed}, {t} %alpha, {t} %beta)")
    module[name] = f.text(f"define internal void {name}({_parameters(target)}) noinline")
    return name


def _parameters(target: Target, mirror: bool = False) -> str:
    more = ", ptr %e" if mirror else ""
    return f"ptr %a, ptr %b, ptr %c, ptr %d{more}, {target.scalar} %alpha, {target.scalar} %beta"


def _tile(product: Product, target: Target) -> tuple[int, int]:
    """Return rows and register columns of a tile."""
    if target.interleaved:
        return (4, 4) if target.registers == 32 else (3, 3)
    registers = -(-product.columns // target.lanes)
    if product.symmetric:
        return target.lanes, 1
    if registers == 1:
        return (16, 1) if target.registers == 32 else (8, 1)
    return (8, 2) if target.registers == 32 else (6, 2) if target.bytes * target.lanes == 32 else (4, 2)


def _emit_tile(product: Product, target: Target, h: int, w: int, mirrored: bool, module: dict[str, str]) -> str:
    key = (*product[2:], h, w, mirrored)
    name = "@tile_" + "_".join(str(int(x)) for x in key)
    if name in module:
        return name
    f, t = Function(target), target
    lanes = t.lanes if t.interleaved else 1
    zero = "zeroinitializer"
    sums = {(r, v): f.slot(t.vector, zero) for r in range(h) for v in range(w)}
    pa, pb = f.slot("ptr", "%a"), f.slot("ptr", "%b")
    a_lanes, b_lanes = (1 if s else lanes for s in (product.shared_a, product.shared_b))

    def steps(count: int) -> None:
        a0, b0 = f.let(f"load ptr, ptr {pa}"), f.let(f"load ptr, ptr {pb}")
        for k in range(count):
            b = []
            for v in range(w):
                at = f.at(b0, (k * product.b_row + v * (1 if t.interleaved else t.lanes)) * b_lanes)
                b.append(f.splat(f.load(t.scalar, at)) if t.interleaved and product.shared_b else f.load(t.vector, at))
            for r in range(h):
                at = f.at(a0, (r * product.a_row + k * product.a_inner) * a_lanes)
                whole = t.interleaved and not product.shared_a
                a = f.load(t.vector, at) if whole else f.splat(f.load(t.scalar, at))
                for v in range(w):
                    term = f.let(f"fmul contract {t.vector} {a}, {b[v]}")
                    total = f.let(f"load {t.vector}, ptr {sums[r, v]}")
                    f.put(f"store {t.vector} {f.let(f'fadd contract {t.vector} {total}, {term}')}, ptr {sums[r, v]}")
        f.put(f"store ptr {f.at(a0, count * product.a_inner * a_lanes)}, ptr {pa}")
        f.put(f"store ptr {f.at(b0, count * product.b_row * b_lanes)}, ptr {pb}")

    unroll = product.inner if product.inner <= 16 else 8
    if product.inner > unroll:
        with f.loop(0, product.inner // unroll * unroll, unroll):
            steps(unroll)
        if product.inner % unroll:
            steps(product.inner % unroll)
    else:
        steps(product.inner)
    alpha, beta = f.splat("%alpha"), f.splat("%beta")
    done = {}
    for (r, v), total in sums.items():
        x = f.let(f"fmul contract {t.vector} {alpha}, {f.let(f'load {t.vector}, ptr {total}')}")
        place = (r * product.c_row + v * (1 if t.interleaved else t.lanes)) * lanes
        if product.adds:
            y = f.let(f"fmul contract {t.vector} {beta}, {f.load(t.vector, f.at('%d', place))}")
            x = f.let(f"fadd contract {t.vector} {y}, {x}")
        f.store(t.vector, x, f.at("%c", place))
        done[r, v] = x
    if mirrored and t.interleaved:
        for (r, v), x in done.items():
            f.store(t.vector, x, f.at("%e", (v * product.c_row + r) * lanes))
    elif mirrored:
        for r, x in enumerate(_transposed(f, [done[r, 0] for r in range(h)])):
            f.store(t.vector, x, f.at("%e", r * product.c_row))
    module[name] = f.text(f"define internal void {name}({_parameters(t, True)}) noinline")
    return name


def _transposed(f: Function, rows: list[str]) -> list[str]:
    """Transpose a square of registers by exchanging blocks of 1, 2, 4, ... entries."""
    t, n = f.target, len(rows)
    step = 1
    while step < n:
        for i in range(n):
            if i & step:
                continue
            pair = f"{t.vector} {rows[i]}, {t.vector} {rows[i | step]}"
            low = ", ".join(f"i32 {j if not j & step else n + j - step}" for j in range(n))
            high = ", ".join(f"i32 {j + step if not j & step else n + j}" for j in range(n))
            rows[i], rows[i | step] = (f.let(f"shufflevector {pair}, <{n} x i32> <{mask}>") for mask in (low, high))
        step *= 2
    return rows
