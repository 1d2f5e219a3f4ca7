"""Compiling CUDA sources without a GPU: NVIDIA's run-time compiler, driven through ctypes.

The library is found in the wheel `nvidia-cuda-nvrtc-cu12` (extra `test`) or in a CUDA toolkit. This is how the tests
check the kernels; on a GPU CuPy compiles them itself.
"""

from __future__ import annotations

import ctypes
import ctypes.util
import functools
import importlib.util
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple


class CompilationError(RuntimeError):
    """A source that does not compile; the message is the compiler's log."""


@functools.cache
def library() -> ctypes.CDLL | None:
    """Return the compiler, or None where it is not installed."""
    found = ctypes.util.find_library("nvrtc")
    for path in [*_files("lib/libnvrtc.so.*"), *([Path(found)] if found else [])]:
        try:
            return ctypes.CDLL(str(path), mode=ctypes.RTLD_GLOBAL)
        except OSError:  # a wheel without its companions, or of another platform
            continue
    return None


def version() -> tuple[int, int] | None:
    """Return the compiler's version, None where it is not installed."""
    lib = library()
    if lib is None:
        return None
    major, minor = ctypes.c_int(), ctypes.c_int()
    lib.nvrtcVersion(ctypes.byref(major), ctypes.byref(minor))
    return major.value, minor.value


def header_folders() -> tuple[str, ...]:
    """Return the folder with cuda_fp16.h, cuda_bf16.h and mma.h, which 16-bit variants include, if there is one."""
    return tuple(str(p.parent) for p in _files("include/mma.h"))[:1]


class Compiled(NamedTuple):
    """Machine code (a cubin), what a thread of it uses, and the log."""

    code: bytes
    registers: int
    spilled: int  # bytes
    log: str


def compile_source(text: str, architecture: str, options: Sequence[str] = (), *, name: str = "kernel.cu") -> Compiled:
    """Compile a source with one kernel for one architecture, e.g. "sm_90".

    Raises
    ------
    CompilationError
        With the compiler's log.
    RuntimeError
        Where NVRTC is not installed.
    """
    lib = library()
    if lib is None:
        raise RuntimeError("NVRTC is not installed; install nvidia-cuda-nvrtc-cu12, or orthotheory[test].")
    program = ctypes.c_void_p()
    flags = [
        f"--gpu-architecture={architecture}",
        "-std=c++17",
        "--ptxas-options=-v",
        *options,
        *(f"-I{f}" for f in header_folders()),
    ]
    _check(lib, lib.nvrtcCreateProgram(ctypes.byref(program), text.encode(), name.encode(), 0, None, None))
    try:
        packed = (ctypes.c_char_p * len(flags))(*(flag.encode() for flag in flags))
        failed = lib.nvrtcCompileProgram(program, len(flags), packed)
        log = _read(lib, "ProgramLog", program).rstrip(b"\0").decode(errors="replace")
        if failed:
            raise CompilationError(log)
        registers, spilled = (
            int(found.group(1)) if (found := re.search(pattern, log)) else 0
            for pattern in (r"Used (\d+) registers", r"(\d+) bytes spill stores")
        )
        return Compiled(_read(lib, "CUBIN", program), registers, spilled, log)
    finally:
        lib.nvrtcDestroyProgram(ctypes.byref(program))


def _read(lib: ctypes.CDLL, what: str, program: ctypes.c_void_p) -> bytes:
    size = ctypes.c_size_t()
    _check(lib, getattr(lib, f"nvrtcGet{what}Size")(program, ctypes.byref(size)))
    text = ctypes.create_string_buffer(size.value)
    _check(lib, getattr(lib, f"nvrtcGet{what}")(program, text))
    return text.raw


def _check(lib: ctypes.CDLL, status: int) -> None:
    if status:
        lib.nvrtcGetErrorString.restype = ctypes.c_char_p
        raise RuntimeError(f"NVRTC: {lib.nvrtcGetErrorString(status).decode()}.")


def _files(pattern: str) -> Iterator[Path]:
    """Yield matching files of NVIDIA's wheels, then of a toolkit."""
    spec = importlib.util.find_spec("nvidia")
    for place in spec.submodule_search_locations or () if spec else ():
        yield from sorted(Path(place).glob(f"*/{pattern}"))
    for folder in sorted(Path("/usr/local").glob("cuda*"), reverse=True):
        yield from sorted(folder.glob(pattern.replace("lib/", "lib64/")))
