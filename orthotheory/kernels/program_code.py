"""From a planned program to LLVM IR: fused loops, reductions and tile products, one run after another."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from .entry_code import Operations, constant
from .matmul_tile import Function, Product, emit
from .program_plan import LEAVES, SUMS, Plan, row_distance
from .recording import Unrecordable, symmetric


@dataclass
class Compiler(Plan):
    """Emits one program for one target; `text` is the module, with the function `advance`."""

    module: dict[str, str] = field(default_factory=dict)
    declared: set[str] = field(default_factory=set)

    def __post_init__(self):
        super().__post_init__()
        self.operations = Operations(self.target, self.declared)

    def number(self, f: Function, i: int, kind: str) -> str:
        """Return a number or a scalar of a run as a value of the given type."""
        t, node = self.target, self.nodes[i]
        value, own = self.values[i], {"number": "double"}.get(node.kind, t.each)
        if node.logical:
            if kind == t.vector and own != t.vector:
                first = f.let(f"insertelement <{t.lanes} x i1> poison, i1 {value}, i64 0")
                zeros = f"<{t.lanes} x i32> zeroinitializer"
                value = f.let(f"shufflevector <{t.lanes} x i1> {first}, <{t.lanes} x i1> poison, {zeros}")
            return value
        if own == "double" and kind != "double" and t.scalar != "double":
            value, own = f.let(f"fptrunc double {value} to float"), "float"
        return f.splat(value) if kind == t.vector and own != t.vector else value

    def pointer(self, f: Function, i: int) -> str:
        """Return where a matrix lies."""
        node = self.nodes[i]
        if node.op == "input":
            return self.pointers[node.detail]
        if node.op == "constant":
            return self.pointers[f"constant {node.detail} {int(node.flipped)}"]
        return f.at("%ws", self.buffer[i] * (self.target.lanes if self.target.interleaved else 1))

    def names(self) -> list[str]:
        """Return the pointers the function takes: inputs and outputs of a run, then what all runs share."""
        own = [self.nodes[i].detail for i in self.used if self.nodes[i].op == "input"]
        own += [name for name, i in self.program.outputs if self.is_stored(name, i) and name not in own]
        return own + self.shared()

    def is_stored(self, name: str, i: int) -> bool:
        """Whether an output goes to memory of its own: a matrix, or a number a run that is no test of health."""
        return self.nodes[self.root(i)].kind == "matrix" or not name.startswith("bad ")

    def shared(self) -> list[str]:
        """Return the names of constants: their number, and whether they stand for a transpose."""
        return [
            f"constant {n.detail} {int(n.flipped)}" for n in (self.nodes[i] for i in self.used) if n.op == "constant"
        ]

    def text(self) -> str:
        """Return the module."""
        t = self.target
        f = Function(t)
        lanes = t.lanes if t.interleaved else 1
        own = [n for n in self.names() if not n.startswith("constant")]
        bases = {
            n: f.let(f"load ptr, ptr {f.let(f'getelementptr ptr, ptr %matrices, i64 {k}')}")
            for k, n in enumerate(self.names())
        }
        numbers = {}
        for i in self.used:
            if self.nodes[i].op == "number":
                at = f.let(f"getelementptr double, ptr %numbers, i64 {self.nodes[i].detail}")
                numbers[i] = f.let(f"load double, ptr {at}")
        beta = {}
        for i in self.used:
            if self.nodes[i].op == "product":
                for d in self.nodes[i].detail:
                    if d is not None and d not in beta:
                        x = f.let(f"load double, ptr {f.let(f'getelementptr double, ptr %numbers, i64 {d}')}")
                        beta[d] = x if t.scalar == "double" else f.let(f"fptrunc double {x} to float")
        self.factors = beta
        with f.claims("%next", "%grain", "%last") as run:
            offset = f.let(f"mul i64 {run}, {self.layout.size * lanes}")
            single = f.let(f"mul i64 {run}, {lanes}")
            one_each = {n for n, i in self.program.outputs if self.nodes[self.root(i)].kind != "matrix"}
            still = {n: f.at(bases[n], single if n in one_each else offset) for n in own if n != "noise"}
            scalars = {}
            row = f.let(f"mul i64 {run}, {max(len(self.program.scalars), 1) * lanes}")
            for k in self.used:
                if self.nodes[k].op == "scalar":
                    place = f.at("%hyper", row)
                    scalars[k] = f.load(t.each, f.at(place, self.program.scalars.index(self.nodes[k].detail) * lanes))
            with f.loop("%begin", "%end") as step:
                self.pointers = {**bases, **still}
                if "noise" in own:
                    past = f.let(f"sub i64 {step}, %begin")
                    which = f.let(f"add i64 {f.let(f'mul i64 {past}, %total')}, {run}")
                    self.pointers["noise"] = f.at(bases["noise"], f.let(f"mul i64 {which}, {self.layout.size * lanes}"))
                self.values = {**numbers, **scalars}
                for k in self.used:
                    if self.nodes[k].op == "step":
                        self.values[k] = f.let(f"sitofp i64 {step} to double")
                for phase in range(self.last + 1):
                    self._phase(f, phase)
                self._report(f, run, step)
                for name, i in self.program.outputs:
                    if name in one_each and self.is_stored(name, i):
                        f.store(t.each, self.number(f, i, t.each), self.pointers[name])
        head = (
            "define void @advance(ptr %matrices, ptr %hyper, ptr %numbers, ptr %ws, ptr %next, i64 %grain, i64 %last, "
            "i64 %begin, i64 %end, i64 %total, ptr %codes)"
        )
        self.module["advance"] = f.text(head)
        return "\n".join([*sorted(self.declared), *self.module.values()])

    def _report(self, f: Function, run: str, step: str) -> None:
        """Write 2 step (weights) or 2 step + 1 (gradient) at the first step that meets a non-finite number."""
        t = self.target
        for name, out in self.program.outputs:
            if not name.startswith("bad "):
                continue
            sick = f.let(f"fcmp uno {t.each} {self.values[out]}, {self.values[out]}")
            code = f.let(f"add i64 {f.let(f'shl i64 {step}, 1')}, {int(name == 'bad gradient')}")
            for lane in range(t.lanes if t.interleaved else 1):
                one = f.let(f"extractelement <{t.lanes} x i1> {sick}, i64 {lane}") if t.interleaved else sick
                index = f.let(f"add i64 {f.let(f'mul i64 {run}, {t.lanes}')}, {lane}") if t.interleaved else run
                at = f.let(f"getelementptr i64, ptr %codes, i64 {index}")
                old = f.let(f"load i64, ptr {at}")
                new = f.let(f"and i1 {one}, {f.let(f'icmp slt i64 {old}, 0')}")
                f.put(f"store i64 {f.let(f'select i1 {new}, i64 {code}, i64 {old}')}, ptr {at}")

    def _phase(self, f: Function, phase: int) -> None:
        for i in self.used:
            node = self.nodes[i]
            if node.kind in ("number", "scalar") and node.op not in (*LEAVES, *SUMS) and self.ready[i] == phase:
                kind = "double" if node.kind == "number" else self.target.each
                values = [self.number(f, a, kind) for a in self.args(i)]
                self.values[i] = self.operations.entrywise(f, node, values, kind, [False] * len(values))
            elif node.op == "fill" and node.kind == "scalar" and phase == 0:
                self.values[i] = self.number(f, node.args[0], self.target.each)
        reductions = [i for i in self.used if self.nodes[i].op in SUMS and self.ready[i] - 1 == phase]
        stores = [
            (i, self.pointer(f, i))
            for i in self.used
            if self.is_loop(i) and i in self.buffer and self.phase[i] == phase
        ]
        stores += [(i, self.pointers[name]) for i, name in self.stores.get(phase, [])]
        stores = [
            (i, p) for i, p in stores if not (self.nodes[i].op == "input" and self.pointers[self.nodes[i].detail] == p)
        ]
        if reductions or stores:
            self._loop(f, phase, reductions, stores)
        for i in self.used:
            if self.nodes[i].op == "product" and self.ready[i] - 1 == phase:
                self._product(f, i)

    def _loop(self, f: Function, phase: int, reductions: list[int], stores: list[tuple[int, str]]) -> None:
        t, at = self.target, self.layout
        unit = 1 if t.interleaved else t.lanes
        runs = [(at.rows, at.columns, at.stride)]
        if t.interleaved or at.columns == at.stride:
            runs = [(1, at.rows * at.columns, 0)]
        ((rows, columns, stride),) = runs
        whole, tail = columns // unit, columns % unit
        repeat = next(r for r in (4, 3, 2, 1) if whole % r == 0)
        starts = {i: constant(t.scalar, 0.0 if self.nodes[i].op == "sum" else -np.inf) for i in reductions}
        sums = {(i, r): f.slot(t.vector, f"splat ({t.scalar} {starts[i]})") for i in reductions for r in range(repeat)}
        lanes = t.lanes if t.interleaved else 1
        with f.loop(0, rows) as row:
            base = f.let(f"mul i64 {row}, {stride}")
            if whole:
                with f.loop(0, whole * unit, unit * repeat) as column:
                    index = f.let(f"add i64 {base}, {column}")
                    pending = []
                    for r in range(repeat):
                        place = f.let(f"add i64 {index}, {r * unit}")
                        pending += self._entries(
                            f, phase, place, lanes, reductions, stores, {i: sums[i, r] for i in reductions}
                        )
                    for value, p in pending:
                        f.store(t.vector, value, p)
            if tail:
                place = f.let(f"add i64 {base}, {whole * unit}")
                chosen = {i: sums[i, 0] for i in reductions}
                for value, p in self._entries(f, phase, place, lanes, reductions, stores, chosen, tail):
                    mask = self._mask(tail)
                    if at.padded:
                        f.store(t.vector, f.let(f"select {mask}, {t.vector} {value}, {t.vector} zeroinitializer"), p)
                    else:
                        name = f"@llvm.masked.store.v{t.lanes}{'f32' if t.scalar == 'float' else 'f64'}.p0"
                        self.declared.add(f"declare void {name}({t.vector}, ptr, i32, <{t.lanes} x i1>)")
                        f.put(f"call void {name}({t.vector} {value}, ptr {p}, i32 {t.bytes}, {mask})")
        for i in reductions:
            combine = "fadd" if self.nodes[i].op == "sum" else "maximum"
            total = f.let(f"load {t.vector}, ptr {sums[i, 0]}")
            for r in range(1, repeat):
                other = f.let(f"load {t.vector}, ptr {sums[i, r]}")
                total = (
                    f.let(f"fadd {t.vector} {total}, {other}")
                    if combine == "fadd"
                    else self.operations.call(f, "maximum", t.vector, total, other, flags="nsz")
                )
            if not t.interleaved:
                suffix = f"v{t.lanes}{'f32' if t.scalar == 'float' else 'f64'}"
                if combine == "fadd":
                    self.declared.add(f"declare {t.scalar} @llvm.vector.reduce.fadd.{suffix}({t.scalar}, {t.vector})")
                    total = f.let(
                        f"call reassoc {t.scalar} @llvm.vector.reduce.fadd.{suffix}({t.scalar} 0.0, {t.vector} {total})"
                    )
                else:
                    self.declared.add(f"declare {t.scalar} @llvm.vector.reduce.fmaximum.{suffix}({t.vector})")
                    total = f.let(f"call {t.scalar} @llvm.vector.reduce.fmaximum.{suffix}({t.vector} {total})")
            self.values[i] = total

    def _mask(self, tail: int) -> str:
        bits = ", ".join(f"i1 {'true' if k < tail else 'false'}" for k in range(self.target.lanes))
        return f"<{self.target.lanes} x i1> <{bits}>"

    def _entries(self, f, phase, place, lanes, reductions, stores, sums, tail: int = 0) -> list[tuple[str, str]]:
        """Compute the entries at one place; return what is to be stored there."""
        t = self.target
        memo: dict[int, str] = {}
        scaled = f.let(f"mul i64 {place}, {lanes}") if lanes > 1 else place

        def load(pointer: str) -> str:
            if tail and not self.layout.padded:
                name = f"@llvm.masked.load.v{t.lanes}{'f32' if t.scalar == 'float' else 'f64'}.p0"
                self.declared.add(f"declare {t.vector} {name}(ptr, i32, <{t.lanes} x i1>, {t.vector})")
                listed = f"ptr {pointer}, i32 {t.bytes}, {self._mask(tail)}, {t.vector} zeroinitializer"
                return f.let(f"call {t.vector} {name}({listed})")
            return f.load(t.vector, pointer)

        def value(i: int) -> str:
            if i in memo:
                return memo[i]
            node = self.nodes[i]
            if node.kind in ("number", "scalar"):
                result = self.number(f, i, t.vector)
            elif node.op == "fill":
                result = self.number(f, node.args[0], t.vector)
            elif node.op == "constant" and t.interleaved:
                result = f.splat(f.load(t.scalar, f.at(self.pointer(f, i), place)))
            elif self.is_loop(i) and self.phase[i] == phase:
                args = self.args(i)
                values = [value(a) for a in args]
                result = self.operations.entrywise(
                    f, node, values, t.vector, [self.nodes[a].kind != "matrix" for a in args]
                )
            else:
                result = load(f.at(self.pointer(f, i), scaled))
            memo[i] = result
            return result

        for i in reductions:
            x = value(self.args(i)[0])
            old = f.let(f"load {t.vector}, ptr {sums[i]}")
            new = (
                f.let(f"fadd contract {t.vector} {old}, {x}")
                if self.nodes[i].op == "sum"
                else self.operations.call(f, "maximum", t.vector, old, x, flags="nsz")
            )
            if tail:
                new = f.let(f"select {self._mask(tail)}, {t.vector} {new}, {t.vector} {old}")
            f.put(f"store {t.vector} {new}, ptr {sums[i]}")
        return [(value(i), f.at(p, scaled)) for i, p in stores]

    def _product(self, f: Function, i: int) -> None:
        node, at = self.nodes[i], self.layout
        if not at.padded:
            raise Unrecordable("a product of matrices that are not laid out for it")
        first, second = (self._operand(a) for a in node.args[:2])
        swapped = node.kind == "matrix" and node.flipped == self.program.tall  # what is held is the transpose
        if swapped:
            first, second = ((n, not turned, sym) for n, turned, sym in (second, first))
        (a, a_turned, a_sym), (b, b_turned, b_sym) = first, second
        if b_turned and not b_sym:
            raise Unrecordable("a product whose right factor is held transposed")
        a_shape, b_shape = self._held(a), self._held(b)
        turned = a_turned or a_sym  # of a symmetric factor, columns: neighbors lie side by side
        rows = a_shape[1] if a_turned else a_shape[0]
        inner = a_shape[0] if a_turned else a_shape[1]
        product = Product(
            rows, b_shape[1], inner,
            a_row=1 if turned else a_shape[2], a_inner=a_shape[2] if turned else 1, b_row=b_shape[2], c_row=at.stride,
            shared_a=self.nodes[a].op == "constant", shared_b=self.nodes[b].op == "constant",
            adds=len(node.args) == 3, symmetric=node.kind == "short",
        )  # fmt: skip
        name = emit(product, self.target, self.module)
        alpha, beta = node.detail
        d = self.pointer(f, self.root(node.args[2])) if len(node.args) == 3 else "null"
        t = self.target.scalar
        listed = f"ptr {self.pointer(f, a)}, ptr {self.pointer(f, b)}, ptr {self.pointer(f, i)}, ptr {d}"
        f.put(f"call void {name}({listed}, {t} {self.factors[alpha]}, {t} {self.factors.get(beta, '0.0')})")

    def _operand(self, i: int) -> tuple[int, bool, bool]:
        """Return the node, whether what is held is its transpose, and whether that does not matter."""
        node, root = self.nodes[i], self.root(i)
        if node.kind == "short":
            return root, False, True
        if node.op == "constant":
            if not symmetric(self.program.constants[node.detail]):
                raise Unrecordable("a product with a constant that is not symmetric")
            return root, False, True
        return root, node.flipped == self.program.tall, False

    def _held(self, i: int) -> tuple[int, int, int]:
        """Return rows, columns and stride of what is held."""
        node, at = self.nodes[i], self.layout
        if node.op == "constant":
            c = self.program.constants[node.detail]
            if c.shape[0] == c.shape[1] and c.shape[0] in (self.program.rows, self.program.columns):
                return c.shape[0], c.shape[0], row_distance(c.shape[0], self.target)
        if node.kind == "short":
            return at.columns, at.columns, at.stride
        return at.rows, at.columns, at.stride
