"""The kernel of symmetric products, compiled by g++, against NumPy.

Tolerance: a sum of k products carries at most k eps times the sum of their magnitudes.
"""

import numpy as np
import pytest
from conftest import eps_of
from hypothesis import given, settings
from hypothesis import strategies as st

from orthotheory.arrays import backend, cuda_is_available, to_host
from orthotheory.kernels import cuda
from orthotheory.kernels.cuda import Kernels
from orthotheory.kernels.cuda.processors import Host, host_compiler

pytestmark = pytest.mark.skipif(host_compiler() is None, reason="g++ is not installed")


def close(c, exact, reach, k, eps):
    assert np.all(np.abs(c - exact) <= (k + 4) * eps * reach)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("shape", [(1, 1), (1, 70), (63, 5), (64, 64), (65, 33), (130, 200)], ids=str)
def test_a_gram_matrix_with_its_sum_is_numpys(shape, dtype):
    rng = np.random.default_rng(0)
    a = rng.standard_normal((2, *shape)).astype(dtype)
    d = rng.standard_normal((2, shape[0], shape[0])).astype(dtype)
    d = d + d.swapaxes(1, 2)
    wide, eye = a.astype(np.longdouble), np.eye(shape[0])
    exact = 0.5 * wide @ wide.swapaxes(1, 2) - 2.0 * d + 3.0 * eye
    reach = 0.5 * np.abs(a) @ np.abs(a).swapaxes(1, 2) + 2.0 * np.abs(d) + 3.0 * eye
    for patch in (4, 8):
        c = cuda.host.symmetric_product(a, d=d, alpha=0.5, beta=-2.0, gamma=3.0, patch=patch)
        close(c, exact, reach, shape[1], eps_of(a))
        assert np.array_equal(c, c.swapaxes(1, 2))
        assert c.dtype == dtype


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 80), st.integers(0, 3), st.integers(0, 9))
def test_a_product_of_commuting_factors_is_the_polynomial(n, degree, seed):
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((n, n))
    r = x @ x.T / np.linalg.norm(x) ** 2
    r = (r + r.T) / 2
    p, exact = rng.standard_normal() * np.eye(n), None
    coefficients = rng.standard_normal(degree + 1)
    p = coefficients[-1] * np.eye(n)
    for c in coefficients[-2::-1]:  # Horner: P <- P R + c I, in one call each
        p = cuda.host.symmetric_product(p, r, gamma=c)
    values, vectors = np.linalg.eigh(r)
    exact = (vectors * np.polyval(coefficients[::-1], values)) @ vectors.T
    assert np.abs(p - exact).max() <= 8 * n * 2.0**-52 * max(1, np.abs(coefficients).sum())


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_16_bit_factors_are_summed_in_float32(dtype):
    rng = np.random.default_rng(1)
    a = rng.standard_normal((70, 300)).astype("float32")
    if dtype == "float16":
        low = a.astype("float16")
        exact, c, unit = low.astype(float), cuda.host.symmetric_product(low).astype(float), 2.0**-11
    else:
        low = (a.view("uint32") >> 16).astype("uint16")
        exact, unit = widen(low).astype(float), 2.0**-8
        c = widen(cuda.host.symmetric_product(low, dtype="bfloat16"))
    reach = np.abs(exact) @ np.abs(exact).T
    gram = exact @ exact.T
    assert np.all(np.abs(c - gram) <= unit * np.abs(gram) + 300 * 2.0**-24 * reach + 2.0**-24)


def widen(bits):
    return (bits.astype("uint32") << 16).view("float32")


def test_zero_huge_and_not_finite_entries_stay_where_they_belong():
    a = np.zeros((3, 4, 5), "float32")
    a[1, 2, 3], a[2] = np.inf, 1e30
    c = cuda.host.symmetric_product(a)
    assert not c[0].any()
    assert c[1, 2, 2] == np.inf
    assert np.isinf(c[2]).all()  # 5e60 overflows, as in NumPy
    assert np.isfinite(cuda.host.symmetric_product(a[:1], alpha=np.inf, gamma=1.0)).sum() == 0  # inf * 0 is NaN
    assert cuda.host.symmetric_product(np.zeros((0, 3, 2))).shape == (0, 3, 3)
    assert np.array_equal(cuda.host.symmetric_product(np.zeros((2, 0)), gamma=2.0), 2 * np.eye(2))


def test_the_order_of_the_threads_changes_no_bit():
    a = np.random.default_rng(2).standard_normal((2, 100, 40)).astype("float32")
    backwards = Kernels(Host(backwards=True)).symmetric_product(a, gamma=1.0)
    assert np.array_equal(backwards, cuda.host.symmetric_product(a, gamma=1.0))


def test_a_product_that_is_not_symmetric_is_noticed_by_its_upper_triangle():
    """The negative control: the kernel mirrors the lower triangle, so that a wrong use cannot agree with NumPy."""
    a, b = np.random.default_rng(3).standard_normal((2, 6, 6))
    c = cuda.host.symmetric_product(a, b)
    assert np.abs(np.tril(c - a @ b.T)).max() <= 1e-14
    assert np.abs(np.triu(c - a @ b.T, 1)).max() > 0.1


def test_what_does_not_fit_is_refused():
    a = np.ones((3, 4))
    with pytest.raises(ValueError, match="b like a"):
        cuda.host.symmetric_product(a, np.ones((4, 4)))
    with pytest.raises(ValueError, match=r"d of shape \(3, 3\)"):
        cuda.host.symmetric_product(a, beta=1.0)
    with pytest.raises(ValueError, match="patch"):
        cuda.host.symmetric_product(a, patch=5)
    with pytest.raises(TypeError, match="complex128"):
        cuda.host.symmetric_product(a.astype(complex))


@pytest.mark.skipif(not cuda_is_available(), reason="CuPy sees no GPU here")
def test_the_gpu_agrees_with_the_host_build():
    a = np.random.default_rng(2).standard_normal((2, 200, 300)).astype("float32")
    found = to_host(cuda.symmetric_product(backend("cuda").asarray(a), gamma=1.0))
    reach = np.abs(a) @ np.abs(a).swapaxes(1, 2) + 1
    close(found, cuda.host.symmetric_product(a, gamma=1.0), reach, 300, 2.0**-22)
