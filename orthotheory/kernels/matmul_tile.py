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


LOOKS = 100_000  # at the work of other threads before this one returns: some 0.1 ms


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

    @contextlib.contextmanager
    def claims(self, shared: str, grain: str, stop: str) -> Iterator[str]:
        """Repeat for each item that this thread gets, `grain` at a time, from a counter that it shares with others.

        Beside the counter lies that of items done; a thread without work looks at it for a while, as others often end
        sooner than the system would wake it.
        """
        label = self.name()[1:]
        self.put(f"br label %{label}.claim")
        self.lines.append(f"{label}.claim:")
        start = self.let(f"atomicrmw add ptr {shared}, i64 {grain} monotonic")
        left = self.let(f"icmp slt i64 {start}, {stop}")
        self.put(f"br i1 {left}, label %{label}.work, label %{label}.done")
        self.lines.append(f"{label}.work:")
        until = self.let(f"add i64 {start}, {grain}")
        inside = self.let(f"icmp slt i64 {until}, {stop}")
        until = self.let(f"select i1 {inside}, i64 {until}, i64 {stop}")
        with self.loop(start, until) as item:
            yield item
        ready = self.let(f"getelementptr i64, ptr {shared}, i64 1")
        self.put(f"{self.name()} = atomicrmw add ptr {ready}, i64 {self.let(f'sub i64 {until}, {start}')} release")
        self.put(f"br label %{label}.claim")
        self.lines.append(f"{label}.done:")
        looks = self.slot("i64", "0")
        place = self.let(f"getelementptr i64, ptr {shared}, i64 1")
        self.put(f"br label %{label}.wait")
        self.lines.append(f"{label}.wait:")
        ended = self.let(f"load atomic i64, ptr {place} acquire, align 8")
        count = self.let(f"load i64, ptr {looks}")
        self.put(f"store i64 {self.let(f'add i64 {count}, 1')}, ptr {looks}")
        whole = self.let(f"icmp sge i64 {ended}, {stop}")
        enough = self.let(f"or i1 {whole}, {self.let(f'icmp sge i64 {count}, {LOOKS}')}")
        self.put(f"br i1 {enough}, label %{label}.end, label %{label}.wait")
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
    for i, j, h, w, mirrored in _tiles(product, target):
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


def _tiles(product: Product, target: Target) -> Iterator[tuple[int, int, int, int, int]]:
    """Cut a product into tiles: first row and column, rows, register columns, and how many of those to mirror.

    Of a symmetric product each block of rows ends at the diagonal.
    """
    unit = 1 if target.interleaved else target.lanes  # columns of a register
    columns = -(-product.columns // unit) * unit
    height, width = _tile(product, target)
    if not product.symmetric:
        for j in range(0, columns, width * unit):
            for i in range(0, product.rows, height):
                yield i, j, min(height, product.rows - i), min(width, (columns - j) // unit), 0
        return
    block = max(height, unit)
    for top in range(0, columns, block):
        end = min(top + block, columns)
        for j in range(0, end, width * unit):
            w = min(width, (end - j) // unit)
            h = block if w == 1 else height  # few columns want many rows
            mirrored = sum(j + (v + 1) * unit <= top for v in range(w))
            for i in range(top, end, h):
                yield i, j, min(h, end - i), w, mirrored


def _parameters(target: Target, mirror: bool = False) -> str:
    more = ", ptr %e" if mirror else ""
    return f"ptr %a, ptr %b, ptr %c, ptr %d{more}, {target.scalar} %alpha, {target.scalar} %beta"


def _tile(product: Product, target: Target) -> tuple[int, int]:
    """Return rows and register columns of a tile."""
    many = target.registers == 32
    if target.interleaved:
        return (4, 4) if many else (3, 3)
    if product.symmetric:
        return min(target.lanes, 8 if many else 4), 2  # what is mirrored has a power of two of rows
    if product.columns <= target.lanes:
        return (16 if many else 8), 1
    return (8, 2) if many else (6, 2) if target.bytes * target.lanes == 32 else (4, 2)


def _emit_tile(product: Product, target: Target, h: int, w: int, mirrored: int, module: dict[str, str]) -> str:
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
    for v in range(mirrored):
        column = [done[r, v] for r in range(h)]
        if t.interleaved:
            for r, x in enumerate(column):
                f.store(t.vector, x, f.at("%e", (v * product.c_row + r) * lanes))
        else:
            for r, x in enumerate(_transposed(f, column)):
                f.store(f"<{h} x {t.scalar}>", x, f.at("%e", (v * t.lanes + r) * product.c_row))
    module[name] = f.text(f"define internal void {name}({_parameters(t, True)}) noinline")
    return name


def _transposed(f: Function, rows: list[str]) -> list[str]:
    """Transpose registers, a power of two of them, by exchanging blocks of 1, 2, 4, ... entries."""
    t, h = f.target, len(rows)
    n = t.lanes

    def shuffled(pair: str, picked: list[int]) -> str:
        listed = ", ".join(f"i32 {k}" for k in picked)
        return f.let(f"shufflevector {pair}, <{len(picked)} x i32> <{listed}>")

    step = 1
    while step < h:
        for i in range(h):
            if i & step:
                continue
            pair = f"{t.vector} {rows[i]}, {t.vector} {rows[i | step]}"
            low = [k if not k & step else n + k - step for k in range(n)]
            high = [k + step if not k & step else n + k for k in range(n)]
            rows[i], rows[i | step] = shuffled(pair, low), shuffled(pair, high)
        step *= 2
    if h == n:
        return rows
    # register i holds, one after the other, the rows i, h + i, 2 h + i, ... of the transpose
    parts = [range(first, first + h) for first in range(0, n, h)]
    return [shuffled(f"{t.vector} {row}, {t.vector} poison", list(part)) for part in parts for row in rows]
