"""A recorded program ready to run: packed arrays in, packed arrays out, on all threads."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from .machine_code import Compiled, compile_ir
from .matmul_tile import Target, vector_width
from .program_code import Compiler
from .program_plan import Layout, row_distance
from .recording import Program

INTERLEAVED_UP_TO = 16  # longest side for which problems lie side by side in the registers
SHARES = 16  # for each thread, so that one that comes late or is held up costs little
_CODE: dict[tuple, tuple[Compiler, Compiled]] = {}


def target_for(program: Program, *, flat: bool = False) -> Target:
    """Return the registers and the layout for a program: problems side by side where matrices are small."""
    width, registers = vector_width()
    size = program.dtype.itemsize
    small = max(program.rows, program.columns) <= INTERLEAVED_UP_TO and not flat
    return Target(str(program.dtype), width // size, registers, small)


def threads() -> int:
    """Return how many threads a run uses: OMP_NUM_THREADS where it is set, else the processors of this process."""
    wanted = os.environ.get("OMP_NUM_THREADS", "")
    if wanted.isdigit() and int(wanted) > 0:
        return int(wanted)
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class CompiledProgram:
    """The machine code of a program, found or made.

    Parameters
    ----------
    flat : bool
        Matrices lie as the caller has them, all entries in a row: for programs without products.
    """

    def __init__(self, program: Program, *, flat: bool = False):
        self.program, self.target = program, target_for(program, flat=flat)
        size = program.rows * program.columns
        self.layout = Layout(1, size, size, padded=False) if flat else Layout.of(program, self.target)
        key = (program.structure(), self.target, self.layout)
        if key not in _CODE:
            plan = Compiler(program, self.target, self.layout)
            kinds = (*[ctypes.c_void_p] * 5, *[ctypes.c_int64] * 5, ctypes.c_void_p)
            width = self.target.lanes * program.dtype.itemsize
            _CODE[key] = plan, compile_ir(plan.text(), "advance", *kinds, width=width)
        self.compiler, self.code = _CODE[key]
        self.names = self.compiler.names()
        self.numbers = np.array([*program.numbers, 0.0])
        self.constants = {name: self._constant(name) for name in self.compiler.shared()}

    @property
    def lanes(self) -> int:
        """Runs that lie side by side."""
        return self.target.lanes if self.target.interleaved else 1

    def _constant(self, name: str) -> np.ndarray:
        _, index, flipped = name.split()
        value = self.program.constants[int(index)]
        nodes = self.program.nodes
        mine = {i for i, n in enumerate(nodes) if n.op == "constant" and n.detail == int(index)}
        if any(n.op == "product" and mine & set(n.args[:2]) for n in nodes):
            stride = row_distance(value.shape[1], self.target)
            rows, held = len(value), value
        else:
            held = value if bool(int(flipped)) != self.program.tall else value.T
            rows, stride = (self.layout.rows, self.layout.stride) if self.layout.padded else held.shape
        packed = aligned((rows, stride), value.dtype)
        packed[:, : held.shape[1]] = held
        return packed

    def zeros(self, count: int) -> np.ndarray:
        """Return zero matrices in the layout of the code."""
        blocks, at = -(-count // self.lanes), self.layout
        if self.target.interleaved:
            return aligned((blocks, at.rows, at.columns, self.lanes), self.program.dtype)
        return aligned((count, at.rows, at.stride), self.program.dtype)

    def pack(self, x: np.ndarray) -> np.ndarray:
        """Copy matrices (..., m, n) to the layout of the code; runs that fill up the last register are zero."""
        held = x if self.program.tall else x.swapaxes(-1, -2)
        count, (rows, columns) = int(np.prod(x.shape[:-2])), held.shape[-2:]
        packed = self.zeros(count)
        if not self.target.interleaved:
            packed.reshape(*x.shape[:-2], rows, -1)[..., :columns] = held
            return packed
        whole = np.zeros((len(packed) * self.lanes, rows, columns), x.dtype)
        whole[:count].reshape(held.shape)[...] = held
        packed[...] = whole.reshape(-1, self.lanes, rows, columns).transpose(0, 2, 3, 1)
        return packed

    def unpack(self, packed: np.ndarray, count: int) -> np.ndarray:
        """Copy packed matrices back to (count, m, n)."""
        if self.target.interleaved:
            held = packed.transpose(0, 3, 1, 2).reshape(-1, *packed.shape[1:3])[:count]
        else:
            held = packed[..., : self.layout.columns]
        return np.array(
            held if self.program.tall else held.swapaxes(-1, -2), order="C"
        )  # never a view: runs go on in place

    def pack_scalars(self, values: Mapping[str, np.ndarray], count: int) -> np.ndarray:
        """Copy hyper-parameters with a value a run, (count) each."""
        names = self.program.scalars
        blocks = -(-count // self.lanes)
        packed = np.zeros((blocks, max(len(names), 1), self.lanes), self.program.dtype)
        for k, name in enumerate(names):
            row = np.zeros(blocks * self.lanes, self.program.dtype)
            row[:count] = values[name]
            packed[:, k] = row.reshape(blocks, self.lanes)
        return packed

    def __call__(
        self, arrays: Mapping[str, np.ndarray], scalars: np.ndarray, begin: int, end: int,
        codes: np.ndarray | None = None, pool: ThreadPoolExecutor | None = None, workers: int = 1,
    ) -> None:  # fmt: skip
        """Take the steps `begin` to `end` of all runs, in place."""
        total = len(scalars)
        pointers = [(arrays if n in arrays else self.constants)[n].ctypes.data for n in self.names]
        matrices = (ctypes.c_void_p * len(pointers))(*pointers)
        where = None if codes is None else codes.ctypes.data

        following = np.zeros(2, np.int64)  # the first run that no thread has claimed, and how many are done
        grain = max(1, total // (SHARES * workers))

        def work() -> None:
            space = aligned((self.compiler.workspace + 16,), self.program.dtype)
            self.code.call(
                ctypes.addressof(matrices), scalars.ctypes.data, self.numbers.ctypes.data, space.ctypes.data,
                following.ctypes.data, grain, total, begin, end, total, where,
            )  # fmt: skip

        others = [] if pool is None else [pool.submit(work) for _ in range(min(workers, total) - 1)]
        work()  # this thread too
        for other in others:
            if not other.cancel() and following[1] < total:  # it began, and is not done
                other.result()


def aligned(shape: tuple[int, ...], dtype) -> np.ndarray:
    """Return zeros whose first entry begins a cache line."""
    size, item = int(np.prod(shape)), np.dtype(dtype).itemsize
    whole = np.zeros(size + 64 // item, dtype)
    start = (-whole.ctypes.data % 64) // item
    return whole[start : start + size].reshape(shape)
