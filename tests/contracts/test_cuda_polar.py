"""The kernel of small polar factors, compiled by g++, against the schedules in NumPy; on a GPU against itself there.

Tolerance: a product of length k adds k eps to singular values of order 1, and the schedule stretches what is small by
its slope at zero, where it is steepest: `slope * k * eps`. 16-bit input adds the rounding of the result.
"""

import logging

import numpy as np
import pytest
from conftest import hard_matrices
from hypothesis import given, settings
from hypothesis import strategies as st

from orthotheory import kernels
from orthotheory.arrays import backend, cuda_is_available, to_host
from orthotheory.kernels import cuda
from orthotheory.kernels.cuda import Kernels, calls
from orthotheory.kernels.cuda.processors import Host, host_compiler
from orthotheory.polar import MUON_JORDAN, MUON_QUINTIC, MUON_TORCH, NEWTON_SCHULZ_CUBIC, SCHEDULES, engine

needs_compiler = pytest.mark.skipif(host_compiler() is None, reason="g++ is not installed")
pytestmark = needs_compiler
SHAPES = [
    (1, 1), (3, 2), (1, 6), (6, 1), (16, 16), (17, 33), (40, 23), (64, 64), (65, 70), (128, 128), (4, 500), (100, 300),
]  # fmt: skip
BACKWARDS = Kernels(Host(backwards=True))


def small_polar(g, schedule, kernels=cuda.host):
    rule = schedule.normalization
    return kernels.small_polar(
        g, schedule.coefficients, safety=rule.safety, epsilon=rule.epsilon, clamp=rule.rule == "clamp"
    )


def error_bound(schedule, g, eps=2.0**-23):
    m, n = g.shape[-2:]
    return schedule.slope * max(m, n) * eps


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_the_kernel_is_the_schedule_in_float32(shape):
    g = np.random.default_rng(0).standard_normal((3, *shape))
    for schedule in (MUON_QUINTIC, SCHEDULES["polar-express-5"]):
        x = small_polar(g.astype("float32"), schedule)
        assert x.dtype == np.float32
        assert np.abs(x - schedule.apply(g.astype("float32").astype(float))).max() <= error_bound(schedule, g)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_the_order_of_the_threads_changes_no_bit(shape):
    """A thread that read what another writes in the same phase would show here: a race on a GPU."""
    g = np.random.default_rng(1).standard_normal((2, *shape)).astype("float32")
    assert np.array_equal(small_polar(g, MUON_QUINTIC), small_polar(g, MUON_QUINTIC, BACKWARDS))


def test_every_tile_and_every_amount_of_memory_gives_the_same_map():
    """Panels of 8 columns, as where the shared memory is short, and tiles that are larger than they need be."""
    for shape in [(1, 1), (13, 13), (9, 50), (30, 30)]:
        g = np.random.default_rng(7).standard_normal((2, *shape)).astype("float32")
        for tile in (2, 4, 8):
            narrow = Host()
            narrow.shared_limit = calls.polar_memory(shape[0], 8, 4, tile)
            for build in (cuda.host, Kernels(narrow)):
                if shape[0] <= 16 * tile:
                    x = build.small_polar(g, MUON_QUINTIC.coefficients, tile=tile)
                    assert np.abs(x - MUON_QUINTIC.apply(g.astype(float))).max() <= error_bound(MUON_QUINTIC, g)
    with pytest.raises(ValueError, match="with tile 2"):
        cuda.host.small_polar(np.zeros((33, 33)), MUON_QUINTIC.coefficients, tile=2)


@pytest.mark.parametrize("label", hard_matrices())
def test_hard_matrices_have_the_schedules_answer(label):
    with np.errstate(over="ignore"):
        g = hard_matrices()[label].astype("float32")  # "huge" overflows: a matrix of infinities
    for schedule in (MUON_QUINTIC, MUON_JORDAN, MUON_TORCH, NEWTON_SCHULZ_CUBIC):
        x = small_polar(g, schedule)
        assert x.shape == g.shape
        if not np.isfinite(g).all():
            assert np.isnan(x).all()
            continue
        assert np.abs(x - schedule.apply(g.astype(float))).max(initial=0) <= error_bound(schedule, g)


@pytest.mark.parametrize("scale", [2.0**-140, 1e-30, 1e30, 2.0**120])
def test_a_power_of_two_changes_no_bit_without_epsilon(scale):
    g = np.random.default_rng(2).standard_normal((2, 6, 9)).astype("float32")
    g = np.ldexp(np.round(np.ldexp(g, 6)), -6)  # so that the smallest multiples, subnormal numbers, are exact
    power = np.float32(2.0 ** np.floor(np.log2(scale)))
    assert np.array_equal(small_polar(g * power, MUON_QUINTIC), small_polar(g, MUON_QUINTIC))


def test_what_is_not_finite_stays_in_its_matrix():
    g = np.random.default_rng(3).standard_normal((4, 5, 6)).astype("float32")
    clean = small_polar(g, MUON_QUINTIC)
    g[1, 2, 3], g[2, 0, 0] = np.nan, -np.inf
    x = small_polar(g, MUON_QUINTIC)
    assert np.isnan(x[1:3]).all()
    assert np.array_equal(x[[0, 3]], clean[[0, 3]])


def test_an_empty_batch_is_an_empty_batch():
    assert small_polar(np.zeros((0, 3, 4), "float32"), MUON_QUINTIC).shape == (0, 3, 4)


def test_float64_matrices_are_computed_in_float64():
    for shape in [(5, 7), (30, 30), (33, 12)]:
        g = np.random.default_rng(4).standard_normal((2, *shape))
        x = small_polar(g, MUON_QUINTIC)
        assert np.abs(x - MUON_QUINTIC.apply(g)).max() <= error_bound(MUON_QUINTIC, g, 2.0**-52)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_16_bit_matrices_lose_only_the_rounding_of_the_result(dtype):
    g = np.random.default_rng(5).standard_normal((3, 20, 40)).astype("float32")
    if dtype == "float16":
        low = g.astype("float16")
        exact, x = low.astype("float32"), cuda.host.small_polar(low, MUON_QUINTIC.coefficients).astype("float32")
        unit = 2.0**-11
    else:
        bits = (g.view("uint32") >> 16).astype("uint16")
        exact = widen(bits)
        x, unit = widen(cuda.host.small_polar(bits, MUON_QUINTIC.coefficients, dtype="bfloat16")), 2.0**-8
    wide = small_polar(exact, MUON_QUINTIC)
    assert np.all(np.abs(x - wide) <= unit * np.abs(wide) + 2.0**-25)
    assert np.abs(x - wide).max() > 2.0**-23  # it was rounded


def widen(bits):
    return (bits.astype("uint32") << 16).view("float32")


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 20), st.integers(1, 40), st.integers(0, 4), st.integers(1, 4), st.integers(0, 9))
def test_any_shape_and_rank_of_any_odd_polynomial(m, n, rank, steps, seed):
    rng = np.random.default_rng(seed)
    g = (rng.standard_normal((2, m, rank)) @ rng.standard_normal((2, rank, n))).astype("float32")
    table = [rng.uniform(-1, 1, rng.integers(1, 5)) for _ in range(steps)]
    table = [step / np.abs(step).sum() for step in table]  # maps [0, 1] into [-1, 1]
    x = cuda.host.small_polar(g, table)
    u, s, v = np.linalg.svd(g.astype(float), full_matrices=False)
    length = np.sqrt((s * s).sum(axis=-1, keepdims=True))
    s = s / np.where(length > 0, length, 1)
    for step in table:
        s = sum(c * s ** (2 * i + 1) for i, c in enumerate(step))
    # a step stretches an error by at most sum |c_i| (2 i + 1) <= 7 and adds at most 4 products of length 40
    assert np.abs(x - (u * s[:, None, :]) @ v).max() <= 2.0**-23 * 4 * 40 * 7.0**steps


def test_what_the_kernel_does_not_take_is_refused():
    with pytest.raises(ValueError, match="min"):
        cuda.host.small_polar(np.zeros((129, 129), "float32"), MUON_QUINTIC.coefficients)
    with pytest.raises(TypeError, match="int64"):
        cuda.host.small_polar(np.zeros((3, 3), int), MUON_QUINTIC.coefficients)
    with pytest.raises(TypeError, match="a step"):
        cuda.host.small_polar(np.zeros((3, 3)), ())
    assert not cuda.host.small_polar_fits((7,), "float32")
    assert not cuda.host.small_polar_fits((0, 7), "float32")
    assert not cuda.host.small_polar_fits((128, 128), "float64")  # 256 KiB for two matrices


def test_an_old_gpu_is_named_in_one_sentence(caplog):
    cuda._capable.cache_clear()
    with caplog.at_level(logging.WARNING):
        assert not cuda._capable(0, "61")
        assert not cuda._capable(0, "61")
        assert cuda._capable(1, "80")
    (record,) = caplog.records
    assert record.getMessage() == (
        "cuda:0 has compute capability 6.1 and the kernels need 7.0; plain CuPy is used instead."
    )


def test_schedules_and_plans_reach_the_kernel_where_there_is_a_gpu(monkeypatch):
    """The host build stands in for the GPU: the wiring is what a CuPy array takes."""
    g = np.random.default_rng(6).standard_normal((3, 6, 9)).astype("float32")
    expected = {s.name: s.apply(g) for s in SCHEDULES.values()}
    served = []

    class Counted(Kernels):
        def small_polar(self, *arguments, **options):
            served.append(len(arguments[0]))
            return super().small_polar(*arguments, **options)

    monkeypatch.setattr(kernels, "gpu", lambda x: Counted(Host()))
    for schedule in SCHEDULES.values():
        served.clear()
        x = schedule.apply(g)
        assert bool(served) == (schedule.normalization.bound == "frobenius")
        assert np.abs(x - expected[schedule.name]).max() <= 2 * error_bound(schedule, g)
    served.clear()
    assert np.array_equal(MUON_QUINTIC.apply(g.astype(complex)).real.shape, g.shape)  # complex has no kernel
    engine._apply_many(g, MUON_QUINTIC.coefficients, (1,) * 5, MUON_QUINTIC.normalization, None)
    engine._apply_many(g, MUON_QUINTIC.coefficients, (5,), MUON_QUINTIC.normalization, None)
    assert served == [3]


def test_arrays_of_the_host_are_not_served():
    assert not cuda.serves(np.zeros(3))
    assert kernels.gpu(np.zeros(3)) is None
    if not cuda_is_available():
        assert not cuda.available()


@pytest.mark.skipif(not cuda_is_available(), reason="CuPy sees no GPU here")
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_the_gpu_agrees_with_the_host_build(shape):
    g = np.random.default_rng(0).standard_normal((3, *shape)).astype("float32")
    x = to_host(small_polar(backend("cuda").asarray(g), MUON_QUINTIC, cuda.device))
    assert np.abs(x - small_polar(g, MUON_QUINTIC)).max() <= 2 * error_bound(MUON_QUINTIC, g)
