"""Where a kernel runs: compiled by CuPy for a GPU, or by g++ for this processor, the threads of a block in turn."""

from __future__ import annotations

import ctypes
import functools
import logging
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from ...arrays import Array, cupy_module
from .sources import Variant, source

_log = logging.getLogger(__name__)
OPT_IN = 97  # cudaDevAttrMaxSharedMemoryPerBlockOptin


class Processor(Protocol):
    """Launches variants of kernels on arrays of one library."""

    @property
    def xp(self) -> Any:
        """Namespace of the arrays."""

    @property
    def shared_limit(self) -> int:
        """Bytes of shared memory that a block may have."""

    def constants(self, values: tuple[float, ...], dtype: str) -> Array:
        """Return numbers as an array, remembered."""

    def compiles(self, what: Variant) -> bool:
        """Say whether a variant can be compiled here; the reason against is logged once."""

    def launch(self, what: Variant, blocks: int, threads: int, shared: int, *arguments: Any) -> None:
        """Run a kernel with its arrays and NumPy scalars; `shared` bytes of memory a block."""


class Device:
    """The current GPU, through CuPy; kernels are compiled at their first use and kept in CuPy's cache on disk."""

    @property
    def xp(self) -> Any:
        return cupy_module()

    @property
    def shared_limit(self) -> int:
        return _shared_limit(self.xp.cuda.Device().id)

    def constants(self, values, dtype):
        return _constants(values, dtype, self.xp.cuda.Device().id)

    def compiles(self, what):
        return _compiles(what, self.xp.cuda.Device().id)

    def launch(self, what, blocks, threads, shared, *arguments):
        kernel = device_kernel(what)
        if shared > 48 * 1024:  # more must be asked for
            kernel.max_dynamic_shared_size_bytes = shared
        nowhere = np.uintp(0)  # a null pointer
        kernel((blocks,), (threads,), tuple(nowhere if a is None else a for a in arguments), shared_mem=shared)


@functools.cache
def device_kernel(what: Variant) -> Any:
    """Return a variant for the GPUs, compiled at its first launch."""
    return cupy_module().RawKernel(source(what.kernel), what.kernel, ("-std=c++17", *what.options))


@functools.cache
def _compiles(what: Variant, device: int) -> bool:
    try:
        return device_kernel(what).kernel is not None
    except Exception as error:  # of the compiler, of its headers, or of the driver: CuPy's own way remains
        _log.warning("cuda:%d: %s does not compile, plain CuPy is used instead: %s", device, what, _first_line(error))
        return False


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


@functools.cache
def _shared_limit(device: int) -> int:
    return int(cupy_module().cuda.runtime.deviceGetAttribute(OPT_IN, device))


@functools.lru_cache(maxsize=512)
def _constants(values: tuple[float, ...], dtype: str, device: int) -> Array:
    return cupy_module().asarray(np.asarray(values, dtype))


class Host:
    """This processor, through g++: the arithmetic of the kernels without a GPU, for tests. Slow.

    Shared memory is NaN before each block. `backwards` runs the threads of each phase in the opposite order: what a
    thread reads from another in the same phase, a race on a GPU, then changes the result.
    """

    xp = np
    shared_limit = 232448  # of sm_90

    def __init__(self, *, backwards: bool = False):
        self.backwards = backwards

    def constants(self, values, dtype):
        return np.asarray(values, dtype)

    def compiles(self, what):
        return host_compiler() is not None

    def launch(self, what, blocks, threads, shared, *arguments):
        if shared > self.shared_limit or threads > 1024:
            raise ValueError(f"{what}: a block of {threads} threads with {shared} bytes does not exist.")
        build = host_library(what)
        kernel = getattr(build, what.kernel)
        packed = [_argument(a) for a in arguments]
        for block in range(blocks):
            build.prepare_block(ctypes.c_longlong(block), threads, shared, int(self.backwards))
            kernel(*packed)


def _argument(value: Any) -> Any:
    if value is None or isinstance(value, np.ndarray):
        return ctypes.c_void_p(None if value is None else value.ctypes.data)
    kinds: dict[type, Any] = {np.int32: ctypes.c_int, np.int64: ctypes.c_longlong, np.float32: ctypes.c_float}
    return kinds.get(type(value), ctypes.c_double)(value)


def host_compiler() -> str | None:
    """Return the path of g++, None where it is not installed."""
    import shutil

    return shutil.which("g++")


@functools.cache
def _folder() -> Any:
    import tempfile

    return tempfile.TemporaryDirectory(prefix="orthotheory-kernels-")


@functools.cache
def host_library(what: Variant) -> ctypes.CDLL:
    """Compile a variant with g++ and load it.

    Raises
    ------
    RuntimeError
        Where g++ is not installed, or with its log where it refuses the source.
    """
    import subprocess

    compiler = host_compiler()
    if compiler is None:
        raise RuntimeError("The host build of the kernels needs g++; install it.")
    folder = Path(_folder().name)
    stem = f"{what.kernel}-{abs(hash(what)):x}"
    path, text = folder / f"{stem}.so", folder / f"{stem}.cpp"
    text.write_text(source(what.kernel), encoding="utf-8")
    command = [compiler, "-std=c++17", "-O1", "-shared", "-fPIC", "-Wno-unknown-pragmas", *what.options]
    done = subprocess.run([*command, str(text), "-o", str(path)], capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"g++ refuses {what}:\n{done.stderr}")
    return ctypes.CDLL(str(path))
