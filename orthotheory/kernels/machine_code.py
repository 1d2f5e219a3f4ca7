"""From LLVM IR to a function: this processor's instructions, compiled once and kept between processes.

What is kept is named by a hash of the IR, the compiler's version, the processor and its features, and begins with a
hash of itself: a file that is damaged, or was made elsewhere, is made again. The folder is the user's own, as it holds
code that is run.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import time
from pathlib import Path
from typing import Any, NamedTuple

from ..storage import cache_folder, write_atomically

HASH = 32  # bytes


class Compiled(NamedTuple):
    """A C function, which releases Python's lock while it runs, how many seconds it took to make, and how."""

    call: Any
    seconds: float
    found: bool  # made by an earlier process
    engine: object  # keeps the code alive


def features(width: int = 64) -> str:
    """Return this processor's features with registers of so many bytes at most."""
    import llvmlite.binding as llvm

    host = llvm.get_host_cpu_features()
    wider = {64: "", 32: "avx512f", 16: "avx"}[width]  # without the first of a family, none of it
    return host.flatten() + (f",-{wider}" if host.get(wider) else "")


def machine_for(width: int = 64):
    """Return the compiler's idea of this processor."""
    import llvmlite.binding as llvm

    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    return llvm.Target.from_default_triple().create_target_machine(
        cpu=llvm.get_host_cpu_name(), features=features(width), opt=3, reloc="pic", codemodel="jitdefault"
    )


def compile_ir(text: str, name: str, *kinds, width: int = 64) -> Compiled:
    """Return a function of a module, kept or compiled, with the given argument types; registers of `width` bytes."""
    import llvmlite.binding as llvm

    began = time.perf_counter()
    machine, kept = machine_for(width), _path(text, width)
    module = llvm.parse_assembly(text)
    module.triple, module.data_layout = machine.triple, str(machine.target_data)
    code = _read(kept)
    if code is None:
        builder = llvm.create_pass_builder(machine, llvm.create_pipeline_tuning_options(speed_level=2))
        builder.getModulePassManager().run(module, builder)
    engine = llvm.create_mcjit_compiler(module, machine)
    engine.set_object_cache(lambda _, made: _write(kept, made), lambda _: code)
    engine.finalize_object()
    call = ctypes.CFUNCTYPE(None, *kinds)(engine.get_function_address(name))
    return Compiled(call, time.perf_counter() - began, code is not None, engine)


def _path(text: str, width: int) -> Path:
    import llvmlite
    import llvmlite.binding as llvm

    made_by = (llvmlite.__version__, llvm.llvm_version_info, llvm.get_host_cpu_name(), features(width), text)
    return cache_folder() / "code" / f"{hashlib.sha256(repr(made_by).encode()).hexdigest()}.o"


def _read(path: Path) -> bytes | None:
    """Return code that was kept, where it is whole and nobody else could have written it."""
    try:
        if hasattr(os, "getuid"):
            folder, file = path.parent.stat(), path.stat()
            if folder.st_mode & 0o022 or {folder.st_uid, file.st_uid} != {os.getuid()}:
                return None
        content = path.read_bytes()
    except OSError:
        return None
    return content[HASH:] if hashlib.sha256(content[HASH:]).digest() == content[:HASH] else None


def _write(path: Path, code: bytes) -> None:
    """Keep code; a folder that cannot be written means one compilation a process."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        write_atomically(path, lambda part: part.write_bytes(hashlib.sha256(code).digest() + code))
    except OSError:
        pass
