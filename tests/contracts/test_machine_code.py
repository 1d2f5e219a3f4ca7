"""Compiled code for narrower registers, code kept between processes, and what is refused."""

import ctypes
import os

import numpy as np
import pytest
from test_kernels import both, close, make

from orthotheory.kernels import compiled as installed

pytestmark = pytest.mark.skipif(not installed(), reason="numba is not installed")
REGISTERS = {"AVX2": (32, 16), "SSE": (16, 16)}  # bytes of a register, registers


@pytest.fixture(params=REGISTERS)
def narrow(request, monkeypatch):
    from orthotheory.kernels import programs

    monkeypatch.setattr(programs, "vector_width", lambda: REGISTERS[request.param])
    return REGISTERS[request.param][0]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", ["muon", "auon"])
@pytest.mark.parametrize("shape", [(8, 8), (24, 37)], ids=str)
def test_narrow_registers_run_what_the_loop_runs(narrow, name, shape, dtype):
    from orthotheory import trajectories
    from orthotheory.kernels.programs import CompiledProgram

    problem, method = make(name, *shape, dtype)
    mine, theirs = both(problem, method)
    close(mine["iterate"], theirs["iterate"], dtype)
    target = CompiledProgram(trajectories.record_step(problem, method)).target
    assert target.lanes * np.dtype(dtype).itemsize == narrow


@pytest.mark.parametrize(
    ("width", "wider", "own"), [(64, (), "zmm"), (32, ("zmm",), "ymm"), (16, ("zmm", "ymm"), "xmm")]
)
def test_code_for_narrow_registers_uses_no_wider_ones(width, wider, own):
    import llvmlite.binding as llvm

    from orthotheory.kernels.machine_code import machine_for
    from orthotheory.kernels.matmul_tile import vector_width

    if not llvm.get_default_triple().startswith("x86_64") or vector_width()[0] < width:
        pytest.skip("this processor has no such registers")
    lanes = width // 4
    text = f"""define void @f(ptr %x) {{
      %a = load <{lanes} x float>, ptr %x, align 4
      %b = fadd <{lanes} x float> %a, %a
      store <{lanes} x float> %b, ptr %x, align 4
      ret void }}"""
    assembly = machine_for(width).emit_assembly(llvm.parse_assembly(text))
    assert own in assembly
    assert not any(register in assembly for register in wider)


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("ORTHOTHEORY_CACHE", str(tmp_path))
    return tmp_path / "code"


def compile_answer(answer=42.0):
    from orthotheory.kernels.machine_code import compile_ir

    text = f"define void @give(ptr %x) {{\n  store double {answer:e}, ptr %x\n  ret void\n}}"
    code = compile_ir(text, "give", ctypes.c_void_p)
    out = np.zeros(1)
    code.call(out.ctypes.data)
    assert out[0] == answer
    return code


def test_code_that_was_kept_is_not_compiled_again(cache):
    assert not compile_answer().found
    assert compile_answer().found
    assert not compile_answer(43.0).found
    assert len(list(cache.iterdir())) == 2


@pytest.mark.parametrize("damage", [lambda b: b[:-5], lambda b: b"", lambda b: b[:40] + bytes([b[40] ^ 1]) + b[41:]])
def test_damaged_code_is_made_again(cache, damage):
    compile_answer()
    (file,) = cache.iterdir()
    whole = file.read_bytes()
    file.write_bytes(damage(whole))
    assert not compile_answer().found
    assert file.read_bytes() == whole


def test_code_in_a_folder_that_others_may_write_is_not_run(cache):
    compile_answer()
    cache.chmod(0o777)
    assert not compile_answer().found


def test_a_cache_that_cannot_be_written_is_done_without(monkeypatch, tmp_path):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("ORTHOTHEORY_CACHE", os.fspath(tmp_path / "file"))
    assert not compile_answer().found


def test_a_constant_that_is_not_symmetric_is_refused_after_one_that_is_was_compiled():
    from orthotheory.kernels.programs import CompiledProgram
    from orthotheory.kernels.recording import Program, Unrecordable

    a = np.random.default_rng(0).standard_normal((6, 6))

    def program(constant):
        p = Program(6, 6, np.dtype("float64"))
        p.output("w", constant @ p.matrix("w"))
        return CompiledProgram(p)

    program(a + a.T)
    with pytest.raises(Unrecordable, match="not symmetric"):
        program(a)
