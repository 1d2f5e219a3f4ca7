"""Every CUDA kernel compiles for each architecture without a GPU, and one that is broken is reported with its log."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from orthotheory.kernels.cuda import calls, nvrtc, sources

pytestmark = pytest.mark.skipif(nvrtc.library() is None, reason="NVRTC is not installed (nvidia-cuda-nvrtc-cu12)")
REGISTERS = 65536  # of a streaming multiprocessor
THREADS = {"cone_pivot": calls.PIVOT_THREADS}
NEEDS_HEADERS = ("WITH_HALF", "")


@pytest.mark.parametrize("what", sources.variants(), ids=str)
def test_a_kernel_compiles_for_every_architecture(what):
    if NEEDS_HEADERS in what.macros and not nvrtc.header_folders():
        pytest.skip("cuda_fp16.h is not installed (nvidia-cuda-runtime-cu12)")

    def compiled(architecture):
        return nvrtc.compile_source(sources.source(what.kernel), architecture, what.options, name=str(what))

    with ThreadPoolExecutor(len(sources.ARCHITECTURES)) as pool:
        results = list(pool.map(compiled, sources.ARCHITECTURES))
    for made in results:
        assert made.code.startswith(b"\x7fELF")
        assert what.kernel.encode() in made.code
        assert "warning" not in made.log
        assert made.spilled == 0
        assert 0 < made.registers * THREADS.get(what.kernel, calls.MOST_THREADS) <= REGISTERS


def test_a_broken_kernel_is_reported_with_its_log():
    what = sources.variants()[0]
    broken = sources.source(what.kernel).replace("const IN* g,", "const UNKNOWN* g,")
    assert broken != sources.source(what.kernel)
    with pytest.raises(nvrtc.CompilationError, match='"UNKNOWN" is undefined'):
        nvrtc.compile_source(broken, "sm_80", what.options, name="broken.cu")


def test_an_architecture_that_does_not_exist_is_refused():
    with pytest.raises((nvrtc.CompilationError, RuntimeError), match=r"architecture|NVRTC"):
        nvrtc.compile_source("", "sm_12")
