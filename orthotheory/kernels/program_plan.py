"""When the operations of a recorded program run, and where their results lie.

A program is cut into phases. A phase computes numbers, then passes once over the entries of the matrices, then closes
its reductions, then runs its products; a matrix that a later phase needs is kept in a buffer. Entry-wise operations
run as late as they can, so that what they read need not be kept twice.
"""

from __future__ import annotations

from dataclasses import dataclass

from .matmul_tile import Target
from .recording import Program, Unrecordable

SUMS = ("sum", "max")
LEAVES = ("input", "constant", "number", "scalar", "step", "fill")


@dataclass(frozen=True)
class Layout:
    """How a matrix lies in memory: rows of so many entries at a distance, the long side first, or all in a row."""

    rows: int
    columns: int
    stride: int
    padded: bool = True  # entries between `columns` and `stride` are there, and zero

    @staticmethod
    def of(program: Program, target: Target) -> Layout:
        """Return the layout of the matrices that products meet."""
        long, short = sorted((program.rows, program.columns), reverse=True)
        if target.interleaved:
            return Layout(long, short, short)
        return Layout(long, short, row_distance(short, target))

    @property
    def size(self) -> int:
        """Entries of a matrix with its padding."""
        return self.rows * self.stride if self.padded else self.rows * self.columns


def row_distance(size: int, target: Target) -> int:
    """Return the distance of rows of so many entries: whole registers, and no multiple of 512 bytes.

    Columns of a power of two would share few sets of the cache.
    """
    if target.interleaved:
        return size
    stride = -(-size // target.lanes) * target.lanes
    return stride + target.lanes if stride > target.lanes and stride * target.bytes % 512 == 0 else stride


@dataclass
class Plan:
    """The phases, buffers and stores of one program for one target."""

    program: Program
    target: Target
    layout: Layout

    def __post_init__(self):
        self.nodes = self.program.nodes
        self.used = self._used()
        self._schedule()
        self._place()

    def root(self, i: int) -> int:
        """Return the node behind transposes."""
        while self.nodes[i].op == "transpose":
            i = self.nodes[i].args[0]
        return i

    def args(self, i: int) -> list[int]:
        """Return the nodes a node acts on."""
        return [self.root(a) for a in self.nodes[i].args]

    def _used(self) -> list[int]:
        wanted, stack = set(), [self.root(i) for _, i in self.program.outputs]
        while stack:
            i = stack.pop()
            if i not in wanted:
                wanted.add(i)
                stack += self.args(i)
        return sorted(wanted)

    def is_loop(self, i: int) -> bool:
        """Whether a node is an entry-wise matrix."""
        node = self.nodes[i]
        return node.kind == "matrix" and node.op not in (*LEAVES, "product", *SUMS)

    def _schedule(self) -> None:
        ready: dict[int, int] = {}
        for i in self.used:
            node = self.nodes[i]
            latest = max((ready[a] for a in self.args(i)), default=0)
            ready[i] = latest + (node.op in SUMS or node.op == "product")
        self.ready = ready
        self.last = max((ready[i] for i in self.used), default=0)
        self.phase = {i: self.last if self.is_loop(i) else ready[i] for i in self.used}
        for i in reversed(self.used):  # an argument of a loop runs no later than the loop
            node = self.nodes[i]
            limit = ready[i] - 1 if node.op in SUMS or node.op == "product" else self.phase[i]
            for a in self.args(i):
                if self.is_loop(a):
                    self.phase[a] = min(self.phase[a], limit)

    def reads(self, i: int) -> list[tuple[int, bool]]:
        """Return the phases that read a matrix, and whether in a product."""
        found = []
        for j in self.used:
            if i in self.args(j):
                op = self.nodes[j].op
                found.append((self.ready[j] - 1 if op in SUMS or op == "product" else self.phase[j], op == "product"))
        return found

    def _place(self) -> None:
        """Choose a buffer for each matrix that is needed after its loop, and where outputs are stored."""
        self.stores: dict[int, list[tuple[int, str]]] = {}  # phase: (node, output)
        targets: dict[str, int] = dict(self.program.outputs)
        until: dict[int, int] = {}
        for i in self.used:
            node = self.nodes[i]
            if node.kind not in ("matrix", "short") or node.op in LEAVES:
                continue
            phases = self.reads(i)
            if node.op == "product":
                until[i] = max((p for p, _ in phases), default=self.last)
            elif any(p != self.phase[i] or in_product for p, in_product in phases):
                if node.logical:
                    raise Unrecordable("a test kept from one pass to the next")
                until[i] = max(p for p, _ in phases)
        inputs = {self.nodes[i].detail: i for i in self.used if self.nodes[i].op == "input"}
        for name, out in targets.items():
            i = self.root(out)
            if self.nodes[i].kind != "matrix":
                continue
            when = self.phase[i] if self.is_loop(i) else self.last
            blocked = name in inputs and any(p > when or (p >= when and prod) for p, prod in self.reads(inputs[name]))
            if name in inputs:  # another output may be this very input
                blocked = blocked or any(self.root(o) == inputs[name] for o in targets.values() if o != out)
            if blocked and when < self.last:
                when = self.last
                until[i] = self.last
            elif not self.is_loop(i):
                until[i] = self.last
            self.stores.setdefault(when, []).append((i, name))
        self.buffer: dict[int, int] = {}
        free: dict[str, list[int]] = {"matrix": [], "short": []}
        self.places: list[int] = []
        total = 0
        begins = {
            i: self.phase[i] if self.is_loop(i) else self.ready[i] - 1 for i in until if self.nodes[i].op not in LEAVES
        }
        active: list[tuple[int, int]] = []
        short = self.layout.stride * (self.layout.stride if not self.target.interleaved else self.layout.columns)
        for i in sorted(begins, key=begins.__getitem__):
            for end, j in [a for a in active if a[0] < begins[i]]:
                active.remove((end, j))
                free[self.nodes[j].kind].append(self.buffer[j])
            kind = self.nodes[i].kind
            if free[kind]:
                self.buffer[i] = free[kind].pop()
            else:
                self.buffer[i] = total
                total += self.layout.size if kind == "matrix" else short
                total = -(-total // 16) * 16
            active.append((until[i], i))
        self.workspace = total * (self.target.lanes if self.target.interleaved else 1)
