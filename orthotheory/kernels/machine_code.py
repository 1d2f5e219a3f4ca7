"""From LLVM IR to a function: this processor's instructions, compiled once a process."""

from __future__ import annotations

import ctypes
import time
from typing import Any, NamedTuple


class Compiled(NamedTuple):
    """A C function, which releases Python's lock while it runs, and how many seconds it took to make."""

    call: Any
    seconds: float
    engine: object  # keeps the code alive


def _machine():
    import llvmlite.binding as llvm

    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    return llvm.Target.from_default_triple().create_target_machine(
        cpu=llvm.get_host_cpu_name(),
        features=llvm.get_host_cpu_features().flatten(),
        opt=3,
        reloc="pic",
        codemodel="jitdefault",
    )


def compile_ir(text: str, name: str, *kinds) -> Compiled:
    """Compile a module and return one of its functions, with arguments of the given ctypes."""
    import llvmlite.binding as llvm

    began = time.perf_counter()
    machine = _machine()
    module = llvm.parse_assembly(text)
    module.triple, module.data_layout = machine.triple, str(machine.target_data)
    builder = llvm.create_pass_builder(machine, llvm.create_pipeline_tuning_options(speed_level=2))
    builder.getModulePassManager().run(module, builder)
    engine = llvm.create_mcjit_compiler(module, machine)
    engine.finalize_object()
    call = ctypes.CFUNCTYPE(None, *kinds)(engine.get_function_address(name))
    return Compiled(call, time.perf_counter() - began, engine)
