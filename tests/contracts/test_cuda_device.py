"""The way to the GPU without a GPU: a stand-in for CuPy that compiles what it is given with g++ and checks launches."""

import ctypes
import logging
import subprocess
from types import SimpleNamespace

import numpy as np
import pytest

from orthotheory.kernels import cuda
from orthotheory.kernels.cuda import Kernels, processors, sources
from orthotheory.kernels.cuda.processors import Device, Host, host_compiler
from orthotheory.polar import MUON_QUINTIC

pytestmark = pytest.mark.skipif(host_compiler() is None, reason="g++ is not installed")
SCALARS = {np.int32: ctypes.c_int, np.int64: ctypes.c_longlong, np.float32: ctypes.c_float, np.float64: ctypes.c_double}


class StandIn:
    """What the kernels use of CuPy, with NumPy arrays."""

    def __init__(self, folder):
        self.folder, self.launches, self.broken = folder, [], ()
        self.cuda = SimpleNamespace(
            Device=lambda number=0: SimpleNamespace(id=number, compute_capability="90"),
            runtime=SimpleNamespace(deviceGetAttribute=lambda what, device: 232448 if what == 97 else None),
        )

    def __getattr__(self, name):
        return getattr(np, name)

    def RawKernel(self, code, name, options):
        return RawKernel(self, code, name, options)


class RawKernel:
    def __init__(self, cupy, code, name, options):
        self.cupy, self.name, self.max_dynamic_shared_size_bytes = cupy, name, 48 * 1024
        self.code, self.options, self._kernel = code, options, None

    @property
    def kernel(self):
        if self.name in self.cupy.broken:
            raise RuntimeError('kernel.cu(1): catastrophic error: cannot open source file "x.h"\n1 error')
        if self._kernel is None:
            path = self.cupy.folder / f"{self.name}.cpp"
            path.write_text(self.code)
            flags = ["-O1", "-shared", "-fPIC", "-Wno-unknown-pragmas", *self.options]
            subprocess.run(["g++", *flags, str(path), "-o", str(path.with_suffix(".so"))], check=True)
            self._kernel = ctypes.CDLL(str(path.with_suffix(".so")))
        return self._kernel

    def __call__(self, grid, block, args, shared_mem=0):
        assert 1 <= grid[0] < 2**31
        assert 32 <= block[0] <= 1024
        assert shared_mem <= self.max_dynamic_shared_size_bytes  # more must be asked for before the launch
        self.cupy.launches.append(self.name)
        packed = []
        for a in args:
            if isinstance(a, np.ndarray):
                assert a.flags.c_contiguous
                packed.append(ctypes.c_void_p(a.ctypes.data))
            elif type(a) is np.uintp:
                packed.append(ctypes.c_void_p(int(a)))
            else:
                packed.append(SCALARS[type(a)](a))  # CuPy passes a NumPy scalar by its size: the type must be right
        for index in range(grid[0]):
            self.kernel.prepare_block(ctypes.c_longlong(index), block[0], shared_mem, 0)
            getattr(self.kernel, self.name)(*packed)


@pytest.fixture
def stand_in(tmp_path, monkeypatch):
    caches = (
        processors.device_kernel, processors._compiles, processors._shared_limit, processors._constants
    )  # fmt: skip
    for cache in caches:
        cache.cache_clear()
    cupy = StandIn(tmp_path)
    monkeypatch.setattr(processors, "cupy_module", lambda: cupy)
    yield cupy
    for cache in caches:
        cache.cache_clear()


def test_every_kernel_is_launched_as_cupy_takes_it(stand_in):
    device, rng = Kernels(Device()), np.random.default_rng(0)
    g = rng.standard_normal((3, 70, 80)).astype("float32")
    found = device.small_polar(g, MUON_QUINTIC.coefficients)  # needs more than 48 KiB
    assert np.array_equal(found, cuda.host.small_polar(g, MUON_QUINTIC.coefficients))
    assert np.array_equal(device.symmetric_product(g, gamma=1.0), cuda.host.symmetric_product(g, gamma=1.0))
    c, q = np.ascontiguousarray(np.tile(np.eye(3)[..., None], 5)), rng.standard_normal((3, 5))
    assert np.array_equal(device.cone_pivot(c, q).v, np.maximum(-q, 0))
    w, m = rng.standard_normal((2, 3, 4, 5))
    direction, norms = device.momentum_mix(m, w, momentum=0.5)  # a null pointer for the weights
    np.testing.assert_allclose(norms, np.linalg.norm(direction, axis=(1, 2)), rtol=1e-14)
    before = w.copy()
    device.sign_step("sign", w, None, direction, lr=np.array([0.1, 0.2, 0.0]))
    np.testing.assert_allclose(w, before - np.array([0.1, 0.2, 0.0])[:, None, None] * np.sign(direction))
    device.auon_step(w, m, direction, lr=0.1, momentum=0.5)
    half = g[:, :20, :30].astype("float16")
    device.small_polar_tensor(half, MUON_QUINTIC.coefficients)
    device.symmetric_tensor(half)
    assert set(stand_in.launches) == {path.stem for path in sources.HERE.glob("*.cu")}


def test_a_kernel_that_does_not_compile_there_is_named_once_and_left_out(stand_in, caplog):
    stand_in.broken = ("small_polar",)
    device, g = Kernels(Device()), np.zeros((2, 3, 3), "float32")
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            assert not device.takes_schedule(g, MUON_QUINTIC.coefficients, MUON_QUINTIC.normalization)
        assert device.takes_steps(g)
    (record,) = caplog.records
    assert "small_polar IN=float ACC=float TILE=2 does not compile, plain CuPy is used instead" in record.getMessage()
    assert "\n" not in record.getMessage()


def run_on_host(monkeypatch, name, body, *, backwards=False, threads=32):
    text = (sources.HERE / "phases.cuh").read_text() + f"KERNEL {name}(double* x) {{ {body} }}"
    monkeypatch.setattr(processors, "source", lambda kernel: text)
    x = np.arange(float(threads))
    Host(backwards=backwards).launch(sources.Variant(name), 1, threads, 8 * threads, x)
    return x


def test_a_race_between_threads_of_a_phase_shows_in_the_host_build(monkeypatch):
    """The negative control of every test that turns the order of the threads around."""
    racy = "PHASE { x[thread] = x[(thread + 1) % block_threads]; }"
    safe = """PRIVATE(double, own, 1); PHASE { MINE(own)[0] = x[(thread + 1) % block_threads]; }
              PHASE { x[thread] = MINE(own)[0]; }"""
    one, other = (run_on_host(monkeypatch, "racy", racy, backwards=b) for b in (False, True))
    assert not np.array_equal(one, other)
    one, other = (run_on_host(monkeypatch, "safe", safe, backwards=b) for b in (False, True))
    assert np.array_equal(one, other)
    assert np.array_equal(one, np.roll(np.arange(32.0), -1))


def test_shared_memory_that_is_read_before_it_is_written_is_nan(monkeypatch):
    early = "double* s = shared_memory<double>(); PHASE { x[thread] = thread ? s[thread] : 1.0; }"
    x = run_on_host(monkeypatch, "early", early)
    assert x[0] == 1.0
    assert np.isnan(x[1:]).all()


def test_a_source_that_gcc_refuses_is_reported_with_its_log(monkeypatch):
    with pytest.raises(RuntimeError, match=r"(?s)g\+\+ refuses wrong.*UNKNOWN"):
        run_on_host(monkeypatch, "wrong", "UNKNOWN y;")
