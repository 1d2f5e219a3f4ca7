"""Entry-wise operations in LLVM IR, on numbers or on registers: arithmetic, comparisons, and functions of one entry."""

from __future__ import annotations

import struct
from dataclasses import dataclass

import numpy as np

from .matmul_tile import Function, Target
from .recording import Node

COMPARE = {
    "equal": "oeq", "not_equal": "une", "less": "olt", "less_equal": "ole", "greater": "ogt", "greater_equal": "oge",
}  # fmt: skip
ARITHMETIC = {"add": "fadd", "subtract": "fsub", "multiply": "fmul", "divide": "fdiv"}
CALLS = {"sqrt": "sqrt", "abs": "fabs", "floor": "floor", "log2": "log2", "exp": "exp", "pow": "pow",
         "maximum": "maximum", "minimum": "minimum"}  # fmt: skip


def constant(kind: str, value: float) -> str:
    """Return a number as the IR writes it."""
    value = float(np.float32(value)) if kind == "float" else value
    return f"0x{struct.unpack('<Q', struct.pack('<d', value))[0]:016X}"


@dataclass
class Operations:
    """Appends operations to a function; `declared` collects the intrinsics that they call."""

    target: Target
    declared: set[str]

    def call(self, f: Function, op: str, kind: str, *values: str, flags: str = "") -> str:
        """Call an intrinsic on values of one type."""
        suffix = {"float": "f32", "double": "f64"}.get(
            kind
        ) or f"v{self.target.lanes}{'f32' if 'float' in kind else 'f64'}"
        self.declared.add(f"declare {kind} @llvm.{op}.{suffix}({', '.join([kind] * len(values))})")
        listed = ", ".join(f"{kind} {v}" for v in values)
        return f.let(f"call {flags} {kind} @llvm.{op}.{suffix}({listed})")

    def entrywise(self, f: Function, node: Node, values: list[str], kind: str, shared: list[bool]) -> str:
        """Return one operation on values of one type; `shared` says which are one number for a whole matrix."""
        op = node.op
        if op == "divide" and shared == [False, True]:
            tiny, up = (2.0**-100, 2.0**24) if "float" in kind else (2.0**-1000, 2.0**53)
            x, s = values
            small = f.let(f"fcmp olt {kind} {self.call(f, 'fabs', kind, s)}, {self.full(kind, tiny)}")
            lift = f.let(
                f"select {self.test(kind)} {small}, {kind} {self.full(kind, up)}, {kind} {self.full(kind, 1.0)}"
            )
            inverse = f.let(f"fdiv {kind} {self.full(kind, 1.0)}, {f.let(f'fmul {kind} {s}, {lift}')}")
            return f.let(f"fmul {kind} {f.let(f'fmul {kind} {x}, {lift}')}, {inverse}")
        if op in ARITHMETIC:
            return f.let(f"{ARITHMETIC[op]} contract {kind} {values[0]}, {values[1]}")
        if op in COMPARE:
            return f.let(f"fcmp {COMPARE[op]} {kind} {values[0]}, {values[1]}")
        if op in ("logical_and", "logical_or"):
            return f.let(f"{op.removeprefix('logical_')} {self.test(kind)} {values[0]}, {values[1]}")
        if op == "logical_not":
            yes = "true" if kind in ("float", "double") else "splat (i1 true)"
            return f.let(f"xor {self.test(kind)} {values[0]}, {yes}")
        if op == "negative":
            return f.let(f"fneg {kind} {values[0]}")
        if op == "where":
            own = self.test(kind) if node.logical else kind
            return f.let(f"select {self.test(kind)} {values[0]}, {own} {values[1]}, {own} {values[2]}")
        if op == "isfinite":
            return f.let(f"fcmp olt {kind} {self.call(f, 'fabs', kind, values[0])}, {self.full(kind, np.inf)}")
        if op == "sign":
            x, test = values[0], self.test(kind)
            above = f.let(f"fcmp ogt {kind} {x}, {self.full(kind, 0.0)}")
            below = f.let(f"fcmp olt {kind} {x}, {self.full(kind, 0.0)}")
            low = f.let(f"select {test} {below}, {kind} {self.full(kind, -1.0)}, {kind} {x}")
            return f.let(f"select {test} {above}, {kind} {self.full(kind, 1.0)}, {kind} {low}")
        if op == "power_of_two":
            whole = self.integers(kind)
            mask = 0x7F800000 if "float" in kind else 0x7FF0000000000000
            bits = f.let(f"bitcast {kind} {values[0]} to {whole}")
            return f.let(f"bitcast {whole} {f.let(f'and {whole} {bits}, {self.full_integer(kind, mask)}')} to {kind}")
        if op == "cosh":
            return self.cosh(f, values[0], kind)
        return self.call(f, CALLS[op], kind, *values)

    def cosh(self, f: Function, x: str, kind: str) -> str:
        """Return cosh x = 2^(k-1) (E + O) + 2^(-k-1) (E - O): e^r in even and odd part, |x| = k log 2 + r."""
        narrow = "float" in kind
        full, whole = (lambda v: self.full(kind, v)), self.integers(kind)
        top = full(89.0 if narrow else 710.4)
        y = self.call(f, "fabs", kind, x)
        y = f.let(f"select {self.test(kind)} {f.let(f'fcmp olt {kind} {top}, {y}')}, {kind} {top}, {kind} {y}")
        magic = 1.5 * 2.0 ** (23 if narrow else 52)  # a sum with it ends in the nearest integer
        scaled = f.let(f"fmul contract {kind} {y}, {full(1 / np.log(2))}")
        shifted = f.let(f"fadd contract {kind} {scaled}, {full(magic)}")
        k = f.let(f"fsub {kind} {shifted}, {full(magic)}")
        r = y
        high = 0.693359375 if narrow else 6.93147180369123816490e-01  # few bits, so that k high is exact
        for part in (high, float(np.log(2) - high) if narrow else 1.90821492927058770002e-10):
            r = f.let(f"fsub contract {kind} {r}, {f.let(f'fmul contract {kind} {k}, {full(part)}')}")
        square = f.let(f"fmul {kind} {r}, {r}")
        parts = []
        for start in (0, 1):
            coefficients = [1 / float(np.prod(np.arange(1.0, j + 1))) for j in range(start, 8 if narrow else 14, 2)]
            value = full(coefficients[-1])
            for c in reversed(coefficients[:-1]):
                value = f.let(f"fadd contract {kind} {f.let(f'fmul contract {kind} {value}, {square}')}, {full(c)}")
            parts.append(value)
        even, odd = parts[0], f.let(f"fmul {kind} {parts[1]}, {r}")
        bias, shift = (127, 23) if narrow else (1023, 52)
        integer = self.full_integer
        n = f.let(f"bitcast {kind} {shifted} to {whole}")
        bits = struct.unpack("<i" if narrow else "<q", struct.pack("<f" if narrow else "<d", magic))[0]
        n = f.let(f"sub {whole} {n}, {integer(kind, bits)}")
        sides = []
        for sign in ("add", "sub"):
            e = f.let(f"{sign} {whole} {integer(kind, bias - 1)}, {n}")
            good = f.let(f"icmp sgt {whole} {e}, {integer(kind, 0)}")
            e = f.let(f"select {self.test(kind)} {good}, {whole} {e}, {whole} {integer(kind, 0)}")
            power = f.let(f"bitcast {whole} {f.let(f'shl {whole} {e}, {integer(kind, shift)}')} to {kind}")
            half = f.let(f"f{sign} {kind} {even}, {odd}")
            sides.append(f.let(f"fmul {kind} {half}, {power}"))
        return f.let(f"fadd {kind} {sides[0]}, {sides[1]}")

    def full(self, kind: str, value: float) -> str:
        """Return a constant in all places of a type."""
        if kind in ("float", "double"):
            return constant(kind, value)
        return f"splat ({self.target.scalar} {constant(self.target.scalar, value)})"

    def integers(self, kind: str) -> str:
        """Return the type of integers as wide as a type of numbers."""
        one = "i32" if "float" in kind else "i64"
        return one if kind in ("float", "double") else f"<{self.target.lanes} x {one}>"

    def full_integer(self, kind: str, value: int) -> str:
        """Return an integer in all places of such a type."""
        one = "i32" if "float" in kind else "i64"
        return str(value) if kind in ("float", "double") else f"splat ({one} {value})"

    def test(self, kind: str) -> str:
        """Return the type of a comparison of values of a type."""
        return "i1" if kind in ("float", "double") else f"<{self.target.lanes} x i1>"
