"""The variants for tensor cores with their products emulated by g++: everything around the hardware's instruction.

The instruction itself (its order of sums, its layout) is compiled in CI and compared on a GPU alone.
"""

import numpy as np
import pytest

from orthotheory.arrays import backend, cuda_is_available, to_host
from orthotheory.kernels import cuda
from orthotheory.kernels.cuda import Kernels
from orthotheory.kernels.cuda.processors import Host, host_compiler
from orthotheory.polar import MUON_QUINTIC, newton_schulz, polar_factor

pytestmark = pytest.mark.skipif(host_compiler() is None, reason="g++ is not installed")
UNITS = {"float16": 2.0**-11, "bfloat16": 2.0**-8, "float32": 2.0**-11}  # float32 is rounded to tf32
BACKWARDS = Kernels(Host(backwards=True))
SHAPES = [(1, 1), (5, 3), (16, 16), (17, 40), (64, 64), (100, 30), (128, 128)]


def rounded(x, dtype):
    """float32 numbers rounded to 16 bits."""
    if dtype == "float16":
        return x.astype("float16").astype("float32")
    word = np.ascontiguousarray(x, "float32").view("uint32")
    return ((word + 0x7FFF + ((word >> 16) & 1)) & np.uint32(0xFFFF0000)).view("float32")


def stored(x, dtype):
    """The same as the kernels take them."""
    return x.astype("float16") if dtype == "float16" else (rounded(x, dtype).view("uint32") >> 16).astype("uint16")


def read(x, dtype):
    return x.astype("float32") if dtype == "float16" else (x.astype("uint32") << 16).view("float32")


def published_loop(g, coefficients, dtype):
    """The Newton-Schulz loop of 16-bit products as it is published, in NumPy with sums in float32."""
    x = rounded((g / np.linalg.norm(g, axis=(1, 2), keepdims=True)).astype("float32"), dtype)
    x = x if x.shape[1] <= x.shape[2] else x.swapaxes(1, 2)
    for a, b, c in coefficients:
        r = rounded(x @ x.swapaxes(1, 2), dtype)
        p = rounded(b * r + c * rounded(r @ r, dtype), dtype)
        x = rounded(a * x + rounded(p @ x, dtype), dtype)
    return x if g.shape[1] <= g.shape[2] else x.swapaxes(1, 2)


def tensor_polar(g, coefficients, dtype, kernels=cuda.host):
    return read(kernels.small_polar_tensor(stored(g, dtype), coefficients, dtype=dtype), dtype)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_the_16_bit_state_is_as_accurate_as_the_published_loop(shape, dtype):
    g = rounded(np.random.default_rng(0).standard_normal((2, *shape)).astype("float32"), dtype)
    exact = MUON_QUINTIC.apply(g.astype(float))
    mine = np.abs(tensor_polar(g, MUON_QUINTIC.coefficients, dtype) - exact).max()
    published = np.abs(published_loop(g, MUON_QUINTIC.coefficients, dtype) - exact).max()
    # one step's own roundings at a singular value 1: |c_1| + 2 |c_2| + 1 < 10 units, and luck differs by a factor
    assert 0 < mine <= 2 * published + 10 * UNITS[dtype]


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_a_contraction_forgets_all_roundings_but_the_last(dtype):
    rng = np.random.default_rng(1)
    u, v = (np.linalg.qr(rng.standard_normal((3, 30, 30)))[0] for _ in range(2))
    g = rounded(((u * np.linspace(0.5, 1, 30)) @ v).astype("float32"), dtype)
    x = tensor_polar(g, newton_schulz(12).coefficients, dtype)
    # Newton-Schulz has derivative 0 at 1: what is left is made in the last step, three roundings of norm sqrt(30) / 30
    assert np.abs(x - polar_factor(g.astype(float))).max() <= 6 * UNITS[dtype]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_the_order_of_the_threads_changes_no_bit(shape):
    g = np.random.default_rng(2).standard_normal((2, *shape)).astype("float32")
    mine, theirs = (tensor_polar(g, MUON_QUINTIC.coefficients, "float16", k) for k in (cuda.host, BACKWARDS))
    assert np.array_equal(mine, theirs)
    a = g.astype("float16")
    assert np.array_equal(cuda.host.symmetric_tensor(a, gamma=1.0), BACKWARDS.symmetric_tensor(a, gamma=1.0))


def test_zero_and_not_finite_matrices_and_an_empty_batch():
    g = np.random.default_rng(3).standard_normal((4, 5, 20)).astype("float16")
    clean = cuda.host.small_polar_tensor(g, MUON_QUINTIC.coefficients)
    g[1], g[2, 0, 0] = 0, np.inf
    x = cuda.host.small_polar_tensor(g, MUON_QUINTIC.coefficients)
    assert not x[1].any()
    assert np.isnan(x[2]).all()
    assert np.array_equal(x[[0, 3]], clean[[0, 3]])
    assert cuda.host.small_polar_tensor(g[:0], MUON_QUINTIC.coefficients).shape == (0, 5, 20)
    assert cuda.host.symmetric_tensor(g[:0]).shape == (0, 5, 5)


@pytest.mark.parametrize("dtype", UNITS)
@pytest.mark.parametrize("shape", [(1, 1), (130, 70), (200, 33)], ids=str)
def test_a_gram_matrix_with_its_sum_is_numpys(shape, dtype):
    rng = np.random.default_rng(4)
    a = rng.standard_normal((2, *shape)).astype("float32")
    d = rng.standard_normal((2, shape[0], shape[0])).astype("float32")
    d = d + d.swapaxes(1, 2)
    if dtype != "float32":
        a, d = rounded(a, dtype), rounded(d, dtype)
        packed = [stored(x, dtype) for x in (a, d)]
    else:
        packed = [a, d]
    c = cuda.host.symmetric_tensor(packed[0], d=packed[1], alpha=0.5, beta=-2.0, gamma=3.0, dtype=dtype)
    c = c if dtype == "float32" else read(c, dtype)
    eye = np.eye(shape[0])
    exact = 0.5 * a.astype(float) @ a.swapaxes(1, 2).astype(float) - 2.0 * d + 3.0 * eye
    reach = 0.5 * np.abs(a) @ np.abs(a).swapaxes(1, 2) + 2.0 * np.abs(d) + 3.0 * eye
    inputs = 2.1 * UNITS["float32"] * reach if dtype == "float32" else UNITS[dtype] * np.abs(exact)
    assert np.all(np.abs(c - exact) <= inputs + (shape[1] + 4) * 2.0**-24 * reach)
    assert np.array_equal(c, c.swapaxes(1, 2))


def test_tf32_is_coarser_than_float32():
    """The negative control: the emulation rounds, or the test above would compare two float32 products."""
    a = np.random.default_rng(5).standard_normal((40, 40)).astype("float32")
    exact = a.astype(float) @ a.T.astype(float)
    fine, coarse = (np.abs(f(a) - exact).max() for f in (cuda.host.symmetric_product, cuda.host.symmetric_tensor))
    assert coarse > 30 * fine


def test_what_does_not_fit_is_refused():
    with pytest.raises(TypeError, match="float16 or bfloat16"):
        cuda.host.small_polar_tensor(np.zeros((3, 3)), MUON_QUINTIC.coefficients)
    with pytest.raises(ValueError, match="shared memory"):
        cuda.host.small_polar_tensor(np.zeros((128, 4000), "float16"), MUON_QUINTIC.coefficients)
    with pytest.raises(TypeError, match="float64"):
        cuda.host.symmetric_tensor(np.zeros((3, 3)))
    with pytest.raises(ValueError, match="d "):
        cuda.host.symmetric_tensor(np.zeros((3, 3), "float16"), beta=1.0)


@pytest.mark.skipif(not cuda_is_available(), reason="CuPy sees no GPU here")
@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_the_gpu_agrees_with_the_emulation(dtype):
    g = rounded(np.random.default_rng(6).standard_normal((4, 60, 100)).astype("float32"), dtype)
    there = backend("cuda").asarray(stored(g, dtype))
    exact = MUON_QUINTIC.apply(g.astype(float))
    found = read(to_host(cuda.small_polar_tensor(there, MUON_QUINTIC.coefficients, dtype=dtype)), dtype)
    mine = np.abs(tensor_polar(g, MUON_QUINTIC.coefficients, dtype) - exact).max()
    assert np.abs(found - exact).max() <= 2 * mine + 4 * UNITS[dtype]
    gram = read(to_host(cuda.symmetric_tensor(there, dtype=dtype)), dtype)
    wide = g.astype(float)
    reach = np.abs(wide) @ np.abs(wide).swapaxes(1, 2)
    assert np.all(np.abs(gram - wide @ wide.swapaxes(1, 2)) <= UNITS[dtype] * reach)
