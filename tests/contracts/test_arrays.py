"""Arrays: namespaces, devices, draws, validation and the scaling that keeps the whole floating-point range."""

import re
import sys
import types

import array_api_compat
import array_api_compat.numpy
import array_api_strict
import numpy as np
import pytest
from conftest import eps_of, strict_backend
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays as array_strategy

from orthotheory import arrays
from orthotheory.arrays import (
    Backend,
    array_namespace,
    backend,
    backend_of,
    check_matrix,
    check_number,
    device_of,
    dtype_name,
    frobenius,
    generator,
    inner,
    magnitude,
    per_matrix,
    standard_normal,
    to_host,
)
from orthotheory.norms import Euclidean, Spectral

LARGEST = float(np.finfo(np.float64).max)
SMALLEST = float(np.finfo(np.float64).smallest_subnormal)


# Namespaces and devices


def test_numpy_arrays_have_the_compat_namespace():
    assert array_namespace(np.zeros(1), np.zeros(2)) is array_api_compat.numpy


def test_strict_arrays_have_their_own_namespace():
    assert array_namespace(strict_backend().asarray([1.0])) is array_api_strict


def test_python_scalars_do_not_decide_the_namespace(xp):
    x = xp.asarray([1.0])
    assert array_namespace(x, 2.0, 3) is array_namespace(x)


@pytest.mark.parametrize("bad", [[1.0, 2.0], "text", None], ids=["list", "string", "nothing"])
def test_what_is_no_array_is_refused_with_its_kind_and_the_remedy(bad):
    with pytest.raises(TypeError, match=f"Expected arrays of one kind .* got {type(bad).__name__}.*numpy.asarray"):
        array_namespace(bad)


def test_arrays_of_two_libraries_are_refused_with_both_kinds():
    with pytest.raises(TypeError, match="got Array, ndarray"):
        array_namespace(np.zeros(1), strict_backend().asarray([1.0]))


def test_asarray_puts_values_on_the_device_with_the_dtype_asked_for(xp):
    x = xp.asarray([[1.0, 2.0]], dtype="float32")
    assert device_of(x) == xp.device
    assert dtype_name(x) == "float32"
    assert backend_of(x).xp is array_namespace(x)
    assert backend_of(x).device == xp.device


def test_asarray_copies_what_it_is_given():
    host = np.zeros(3)
    x = backend("cpu").asarray(host)
    host[0] = 1.0
    assert x[0] == 0.0


def test_the_cpu_is_the_default_device(monkeypatch):
    monkeypatch.delenv(arrays.DEVICE_VARIABLE, raising=False)
    assert backend() == backend("cpu") == Backend(array_api_compat.numpy, "cpu")


def test_a_backend_passes_through():
    chosen = strict_backend()
    assert backend(chosen) is chosen


@pytest.mark.parametrize("name", ["gpu", "CPU", "cpu:0", "cuda:x", "cuda:-1", ""])
def test_an_unknown_device_lists_the_allowed_ones(name, monkeypatch):
    monkeypatch.setattr(arrays, "cuda_is_available", lambda: False)
    with pytest.raises(ValueError, match=f"Unknown device {name!r}; allowed are 'cpu', 'cuda' and 'cuda:<number>'"):
        backend(name)


@pytest.mark.parametrize("name", ["cuda", "cuda:1"])
def test_an_absent_gpu_is_refused_in_one_sentence_and_never_replaced(name, monkeypatch):
    monkeypatch.setattr(arrays, "cuda_is_available", lambda: False)
    with pytest.raises(RuntimeError, match=f"device {name!r} needs CuPy and a CUDA GPU") as error:
        backend(name)
    assert re.fullmatch(r"[^.\n]*\.", str(error.value))
    assert "device='cpu'" in str(error.value)


def test_no_gpu_is_seen_where_cupy_is_not_installed(monkeypatch):
    monkeypatch.setitem(sys.modules, "cupy", None)  # makes `import cupy` raise ImportError
    assert not arrays.cuda_is_available()


def test_no_gpu_is_seen_where_cupy_is_installed_without_one(monkeypatch):
    monkeypatch.setitem(sys.modules, "cupy", types.SimpleNamespace(is_available=lambda: False))
    assert not arrays.cuda_is_available()


@pytest.fixture
def two_gpus(monkeypatch):
    """A stand-in for CuPy on a machine with two devices."""
    cuda = types.SimpleNamespace(
        runtime=types.SimpleNamespace(getDeviceCount=lambda: 2), Device=lambda number: f"Device {number}"
    )
    monkeypatch.setitem(sys.modules, "cupy", types.SimpleNamespace(is_available=lambda: True, cuda=cuda))
    namespace = types.SimpleNamespace()
    monkeypatch.setitem(sys.modules, "array_api_compat.cupy", namespace)
    monkeypatch.setattr(array_api_compat, "cupy", namespace, raising=False)
    return namespace


def test_a_gpu_is_chosen_by_its_number(two_gpus):
    assert backend("cuda") == Backend(two_gpus, "Device 0")
    assert backend("cuda:1") == Backend(two_gpus, "Device 1")


@pytest.mark.usefixtures("two_gpus")
def test_a_gpu_number_past_the_last_names_the_ones_that_exist():
    with pytest.raises(RuntimeError, match="'cuda:2' does not exist; this machine has cuda:0 to cuda:1"):
        backend("cuda:2")


def test_the_environment_variable_chooses_the_device(monkeypatch):
    monkeypatch.setattr(arrays, "cuda_is_available", lambda: False)
    monkeypatch.setenv("ORTHOTHEORY_DEVICE", "cuda")
    with pytest.raises(RuntimeError, match="needs CuPy"):
        backend()
    assert backend("cpu").device == "cpu"  # what is passed goes first
    monkeypatch.setenv("ORTHOTHEORY_DEVICE", "abacus")
    with pytest.raises(ValueError, match="Unknown device 'abacus'"):
        backend()
    monkeypatch.setenv("ORTHOTHEORY_DEVICE", "")
    assert backend().device == "cpu"


# The host and the draws


def test_to_host_returns_the_same_numbers_from_every_backend(xp):
    host = np.array([[1.0, -2.5], [3.0, np.inf]])
    back = to_host(xp.asarray(host))
    assert type(back) is np.ndarray
    np.testing.assert_array_equal(back, host)


@pytest.mark.parametrize("number", [3, 2.5, True, 1j, np.float32(0.5)], ids=repr)
def test_to_host_takes_numbers(number):
    assert to_host(number).shape == ()
    assert to_host(number)[()] == number


def test_a_seed_gives_the_same_normals_on_every_backend(xp):
    like = xp.asarray(np.zeros((1, 1)))
    draws = standard_normal((4, 3), 7, like=like)
    assert device_of(draws) == xp.device
    np.testing.assert_array_equal(to_host(draws), np.random.Generator(np.random.Philox(7)).standard_normal((4, 3)))


def test_float32_normals_are_the_rounded_float64_ones(xp):
    like = xp.asarray(np.zeros((1, 1)), dtype="float32")
    draws = standard_normal((50,), 7, like=like)
    assert dtype_name(draws) == "float32"
    expected = np.random.Generator(np.random.Philox(7)).standard_normal(50).astype(np.float32)
    np.testing.assert_array_equal(to_host(draws), expected)


def test_a_generator_goes_on_and_a_seed_starts_again():
    like, rng = np.zeros(1), generator(3)
    assert generator(rng) is rng
    first, second = standard_normal((2,), rng, like=like), standard_normal((2,), rng, like=like)
    assert not np.array_equal(first, second)
    np.testing.assert_array_equal(first, standard_normal((2,), 3, like=like))
    assert not np.array_equal(first, standard_normal((2,), 4, like=like))


# Validation


def test_a_vector_instead_of_a_matrix_is_told_to_use_euclidean(xp):
    with pytest.raises(ValueError, match="Spectral") as error:
        Spectral().value(xp.asarray(np.zeros(7)))
    assert str(error.value) == "Spectral needs a matrix, shape (..., m, n); got shape (7,). Use Euclidean for vectors."


def test_a_number_instead_of_a_vector_is_refused(xp):
    with pytest.raises(ValueError, match=r"Euclidean needs a vector, shape \(\.\.\., n\); got shape \(\)\."):
        Euclidean().value(xp.asarray(np.array(1.0)))


@pytest.mark.parametrize("dtype", ["int64", "bool", "complex128"])
def test_a_dtype_that_is_not_real_floating_is_refused_not_cast(xp, dtype):
    with pytest.raises(TypeError, match=f"f needs float32, float64; got {dtype}. Convert first"):
        check_matrix(xp.asarray(np.ones((2, 2)), dtype=dtype), "f")


def test_complex_matrices_pass_where_they_are_allowed(xp):
    check_matrix(xp.asarray(np.ones((2, 2)), dtype="complex128"), "f", complex_allowed=True)
    with pytest.raises(TypeError, match="f needs float32, float64, complex64 or complex128; got int32"):
        check_matrix(xp.asarray(np.ones((2, 2)), dtype="int32"), "f", complex_allowed=True)


@pytest.mark.parametrize("shape", [(0, 3), (3, 0), (2, 0, 3)], ids=str)
def test_a_matrix_without_entries_is_refused(xp, shape):
    with pytest.raises(ValueError, match=re.escape(f"f needs at least one entry in each matrix; got shape {shape}")):
        check_matrix(xp.asarray(np.zeros(shape)), "f")


def test_an_empty_batch_is_no_error(xp):
    check_matrix(xp.asarray(np.zeros((0, 3, 2))), "f")


@pytest.mark.parametrize(
    ("value", "limits", "interval"),
    [
        (-1.0, {}, r"\[0, inf\); got -1"),
        (float("nan"), {}, r"\[0, inf\); got nan"),
        (0.0, {"open_low": True}, r"\(0, inf\); got 0"),
        (1.0, {"high": 1.0, "open_high": True}, r"\[0, 1\); got 1"),
        (2, {"high": 1.0}, r"\[0, 1\]; got 2"),
        (np.array([0.5, -3.0, 0.1]), {}, r"\[0, inf\); got -3"),
        (float("inf"), {"open_high": True}, r"\[0, inf\); got inf"),
    ],
    ids=["negative", "nan", "open low end", "open high end", "above", "one entry of an array", "infinite"],
)
def test_a_number_outside_its_interval_is_refused_with_the_interval(value, limits, interval):
    with pytest.raises(ValueError, match=f"x must lie in {interval}"):
        check_number(value, "x", **limits)


@pytest.mark.parametrize("value", [0.0, 5, np.array([0.0, 2.0]), float("inf")], ids=["0", "5", "array", "inf"])
def test_a_number_inside_its_interval_passes(value):
    check_number(value, "x")


@pytest.mark.parametrize("value", [True, 1j, np.array(["a"])], ids=["bool", "complex", "text"])
def test_what_is_not_a_real_number_is_a_type_error(value):
    with pytest.raises(TypeError, match="x must be a real number or an array of them"):
        check_number(value, "x")


def test_a_negative_radius_is_refused(xp):
    x = xp.asarray(np.eye(2))
    with pytest.raises(ValueError, match=r"radius must lie in \[0, inf\); got -1"):
        Spectral().project(x, -1.0)
    with pytest.raises(ValueError, match=r"t must lie in \[0, inf\); got -1"):
        Spectral().prox(x, -1.0)


# Hyper-parameters over the batch axes


def test_a_python_number_stays_a_python_number(xp):
    for number in (2, 0.5, True):
        assert per_matrix(number, xp.asarray(np.zeros((3, 2, 2)))) is number


@pytest.mark.parametrize("scalar", [np.float64(0.5), np.float32(0.5), np.int64(2)], ids=lambda s: type(s).__name__)
def test_a_numpy_number_becomes_a_python_number_so_that_nothing_is_cast(xp, scalar):
    like = xp.asarray(np.ones((2, 2)), dtype="float32")
    product = per_matrix(scalar, like) * like
    assert dtype_name(product) == "float32"
    np.testing.assert_array_equal(to_host(product), np.full((2, 2), float(scalar), dtype=np.float32))


def test_a_batch_array_gets_trailing_axes(xp):
    like = xp.asarray(np.zeros((3, 2, 4, 5)))
    assert per_matrix(xp.asarray(np.ones((3, 2))), like).shape == (3, 2, 1, 1)
    assert per_matrix(xp.asarray(np.ones(2)), like).shape == (2, 1, 1)
    assert per_matrix(xp.asarray(np.ones((3, 1))), like).shape == (3, 1, 1, 1)
    assert per_matrix(xp.asarray(np.ones((3, 2, 4))), like, axes=1).shape == (3, 2, 4, 1)


@pytest.mark.parametrize("shape", [(3,), (2, 3), (2, 3, 2), (4, 5)], ids=str)
def test_an_array_that_does_not_fit_the_batch_is_refused(xp, shape):
    with pytest.raises(ValueError, match=re.escape(f"shape {shape} does not broadcast over the batch axes (3, 2)")):
        per_matrix(xp.asarray(np.ones(shape)), xp.asarray(np.zeros((3, 2, 4, 5))))


@pytest.mark.parametrize("shape", [(3,), ()], ids=["batch", "no axes"])
def test_an_array_of_another_dtype_is_refused_not_cast(xp, shape):
    like = xp.asarray(np.zeros((3, 2, 2)), dtype="float32")
    with pytest.raises(TypeError, match="has dtype float64 and the matrices float32"):
        per_matrix(xp.asarray(np.ones(shape)), like)


# Magnitude: the whole floating-point range


def test_the_scale_is_a_power_of_two_that_brings_the_peak_to_one_and_two(xp):
    for exponent in range(-1020, 1021, 60):
        x = xp.asarray(np.array([[1.5, -0.25], [0.0, 1.0]]) * 2.0**exponent)
        size = magnitude(x)
        assert size.scale.shape == (1, 1)
        assert float(to_host(size.scale)[0, 0]) == 2.0**exponent
        np.testing.assert_array_equal(to_host(size.normalize(x)), [[1.5, -0.25], [0.0, 1.0]])


@pytest.mark.parametrize(
    "peak", [LARGEST, np.nextafter(2.0**1000, 0), 1e300, 1.0, 1e-300, 2.0**-1022, 1e-310, SMALLEST]
)
def test_scaling_and_back_changes_no_bit_of_any_finite_matrix(xp, peak):
    x = xp.asarray(np.array([[peak, -peak], [0.0, peak / 2]]))
    size = magnitude(x)
    y = size.normalize(x)
    assert np.all(np.abs(to_host(y)) <= 2)
    np.testing.assert_array_equal(to_host(y * size.scale), to_host(x))


@given(
    array_strategy(
        np.float64, (2, 3, 2), elements=st.floats(allow_nan=False, allow_infinity=False, allow_subnormal=True)
    )
)
def test_scaling_and_back_changes_no_bit_but_what_underflows_beside_a_peak(x):
    size = magnitude(x)
    y = size.normalize(x)
    assert np.all(np.abs(y) <= 2)
    mantissa, _ = np.frexp(size.scale)
    assert np.all(mantissa == 0.5)  # a power of two
    # An entry 2^1022 below its peak may lose bits below the smallest subnormal: half a unit there, times the scale.
    assert np.all(np.abs(y * size.scale - x) <= size.scale * SMALLEST)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_largest_and_the_smallest_number_of_a_dtype_are_measured(xp, dtype):
    info = np.finfo(dtype)
    for number in (info.max, info.smallest_normal, info.smallest_subnormal):
        x = xp.asarray([[number, 0.0]], dtype=dtype)
        assert dtype_name(magnitude(x).scale) == dtype
        assert float(to_host(frobenius(x))) == number


def test_the_zero_matrix_has_scale_one(xp):
    size = magnitude(xp.asarray(np.zeros((2, 2))))
    assert float(to_host(size.scale)[0, 0]) == 1.0
    assert bool(to_host(size.finite)[0, 0])


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_matrix_that_is_not_finite_is_marked_and_its_neighbor_is_not(xp, bad):
    x = xp.asarray(np.array([[[1.0, bad]], [[4.0, 3.0]]]))
    size = magnitude(x)
    np.testing.assert_array_equal(to_host(size.finite)[:, 0, 0], [False, True])
    np.testing.assert_array_equal(to_host(size.scale)[:, 0, 0], [1.0, 4.0])
    np.testing.assert_array_equal(to_host(size.normalize(x)), [[[0.0, 0.0]], [[1.0, 0.75]]])
    np.testing.assert_array_equal(to_host(size.nan())[:, 0, 0], [np.nan, 0.0])


def test_complex_matrices_are_scaled_over_the_whole_range(xp):
    for peak in (1e300, 1.0, 1e-300, 1e-310, SMALLEST):
        x = xp.asarray(np.array([[peak, 1j * peak]]), dtype="complex128")
        size = magnitude(x)
        y = to_host(size.normalize(x))
        assert np.all(np.abs(y) <= 2)
        np.testing.assert_array_equal(y * to_host(size.scale), to_host(x))


def test_frobenius_neither_overflows_nor_vanishes(xp):
    host = np.random.default_rng(0).standard_normal((3, 4, 2))
    expected = np.sqrt((host**2).sum(axis=(1, 2)))
    for exponent in (-1000, 0, 1000):
        value = to_host(frobenius(xp.asarray(host * 2.0**exponent)))
        # Eight squares and sums: each rounding costs eps / 2 relative, in the code and here.
        np.testing.assert_allclose(value * 2.0**-exponent, expected, rtol=8 * eps_of(value))
    assert frobenius(xp.asarray(host), keepdims=True).shape == (3, 1, 1)


def test_inner_sums_over_each_matrix(xp):
    a, b = np.arange(12.0).reshape(2, 2, 3), np.ones((2, 2, 3))
    np.testing.assert_array_equal(to_host(inner(xp.asarray(a), xp.asarray(b))), [15.0, 51.0])
