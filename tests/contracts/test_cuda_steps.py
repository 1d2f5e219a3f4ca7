"""The kernels of optimizer steps, compiled by g++, against the methods' own updates in NumPy.

Tolerance: an entry of a step is a few operations, each of relative error eps, on numbers as large as the largest of
weights and step; sums over N entries add sqrt(N) eps or so, 64 eps covers them for the sizes here.
"""

import numpy as np
import pytest
from conftest import eps_of
from hypothesis import given, settings
from hypothesis import strategies as st

from orthotheory import kernels, methods
from orthotheory.arrays import backend, cuda_is_available, to_host
from orthotheory.fused import OnDevice
from orthotheory.kernels import cuda
from orthotheory.kernels.cuda import Kernels
from orthotheory.kernels.cuda.processors import Host, host_compiler

pytestmark = pytest.mark.skipif(host_compiler() is None, reason="g++ is not installed")
SHAPES = [(1, 1), (3, 5, 7), (2, 2, 4, 16), (1, 130, 140), (2, 90, 200)]


def close(x, y, eps):
    assert x.shape == y.shape
    assert np.array_equal(np.isfinite(x), np.isfinite(y))
    with np.errstate(invalid="ignore"):
        assert np.nanmax(np.abs(x - y), initial=0) <= 64 * eps * np.nanmax(np.abs(y), initial=1)


def host_step(method, w, m, g, kernels=cuda.host):
    """The kernel's step with the hyper-parameters of a method, in place on w and m."""
    name = type(method).__name__
    if name == "AuON":
        paper = method.variant == "paper"
        kernels.auon_step(
            w, m, g, lr=method.lr, momentum=method.momentum, weight_decay=method.weight_decay,
            gamma=(1.0 if paper else 1.5) if method.gamma is None else method.gamma,
            factor=max(1.0, w.shape[-2] / w.shape[-1]) ** 0.5 if paper else 1.0,
            nesterov=method.nesterov, normalized=paper,
        )  # fmt: skip
    elif name == "Lion":
        kernels.sign_step(
            "lion", w, m, g, lr=method.lr, beta1=method.beta1, beta2=method.beta2, weight_decay=method.weight_decay
        )
    elif name == "Signum":
        kernels.sign_step("signum", w, m, g, lr=method.lr, beta1=method.momentum, weight_decay=method.weight_decay)
    else:
        kernels.sign_step("sign", w, None, g, lr=method.lr, weight_decay=method.weight_decay)


METHODS = {
    "auon": {},
    "auon-package": {"weight_decay": 0.1},
    "auon plain": {"nesterov": False, "gamma": 3.0},
    "lion": {"weight_decay": 0.1},
    "signum": {"weight_decay": 0.1},
    "sign": {"weight_decay": 0.1},
}


def make(label, **hyper):
    return methods.make(label.split()[0], **{**METHODS[label], **hyper})


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("label", METHODS)
def test_four_steps_are_the_methods_own(label, dtype):
    rng = np.random.default_rng(0)
    for shape in SHAPES:
        method = make(label)
        w = rng.standard_normal(shape).astype(dtype)
        state, mine, m = method.init(w), w.copy(), np.zeros_like(w)
        for _ in range(4):
            g = rng.standard_normal(shape).astype(dtype)
            host_step(method, mine, m, g)
            w, state = method.step(w, g, state)
            close(mine, w, eps_of(w))
            if state:
                close(m, state.momentum, eps_of(w))


def test_hyper_parameters_may_differ_between_matrices():
    rng = np.random.default_rng(1)
    for label in ("auon", "lion", "signum", "sign"):
        method = make(label, lr=np.array([0.1, 0.01, 0.001]), **({"weight_decay": 0.0} if label == "auon" else {}))
        w, g = rng.standard_normal((2, 3, 4, 5))
        mine, m = w.copy(), np.zeros_like(w)
        host_step(method, mine, m, g)
        close(mine, method.step(w, g, method.init(w))[0], eps_of(w))


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 40), st.integers(1, 40), st.integers(1, 7), st.booleans(), st.integers(0, 9))
def test_momentum_mix_and_norm_do_not_depend_on_the_parts(rows, columns, parts, nesterov, seed):
    rng = np.random.default_rng(seed)
    scale = 10.0 ** rng.uniform(-300, 300, (2, 1, 1))
    m, g = scale * rng.standard_normal((2, 2, rows, columns))
    average = 0.9 * m + (1 - 0.9) * g
    direction = 0.9 * average + (1 - 0.9) * g if nesterov else average
    mine = m.copy()
    found, norms = cuda.host.momentum_mix(mine, g, momentum=0.9, nesterov=nesterov, parts=parts)
    reach = np.abs(m) + np.abs(g)  # the two terms may cancel
    assert np.all(np.abs(mine - average) <= 4 * eps_of(g) * reach)
    assert np.all(np.abs(found - direction) <= 4 * eps_of(g) * reach)
    peak = np.abs(found).max(axis=(1, 2), keepdims=True)
    exact = peak[:, 0, 0] * np.sqrt(((found / peak) ** 2).sum(axis=(1, 2)))
    np.testing.assert_allclose(norms, exact, rtol=1e-13)


@pytest.mark.parametrize("parts", [1, 2, 5])
def test_the_parts_of_a_matrix_give_one_step(parts):
    rng = np.random.default_rng(2)
    w, m, g = rng.standard_normal((3, 2, 9, 11)).astype("float32")
    one = [x.copy() for x in (w, m)]
    norms = cuda.host.auon_step(w, m, g, lr=0.1, momentum=0.95, parts=parts)
    expected = cuda.host.auon_step(*one, g, lr=0.1, momentum=0.95, parts=1)
    np.testing.assert_allclose(norms, expected, rtol=1e-6)
    close(w, one[0], 2.0**-23)


@pytest.mark.parametrize("magnitude", [0.0, 1e-300, 1e-160, 1e160, 1e300])
def test_norms_neither_overflow_nor_vanish(magnitude):
    g = magnitude * np.ones((1, 8, 8))
    _, norms = cuda.host.momentum_mix(g.copy(), g, momentum=0.0)
    np.testing.assert_allclose(norms, [8 * magnitude], rtol=1e-14)
    mixed = g.copy()
    mixed[0, 0, 0] = 1.0
    _, norms = cuda.host.momentum_mix(mixed.copy(), mixed, momentum=0.0)
    np.testing.assert_allclose(norms, [np.hypot(1.0, np.sqrt(63) * magnitude)], rtol=1e-14)


@pytest.mark.parametrize("label", METHODS)
def test_what_is_not_finite_stays_in_its_matrix_or_entry(label):
    rng = np.random.default_rng(3)
    w, g = rng.standard_normal((2, 3, 4, 5))
    g[1, 2, 3] = np.nan
    method = make(label)
    mine, m = w.copy(), np.zeros_like(w)
    host_step(method, mine, m, g)
    close(mine, method.step(w, g, method.init(w))[0], eps_of(w))
    assert np.isfinite(mine[[0, 2]]).all()


def test_the_order_of_the_threads_changes_no_bit():
    rng = np.random.default_rng(4)
    w, m, g = rng.standard_normal((3, 3, 17, 19)).astype("float32")
    for label in METHODS:
        mine, other = (w.copy(), m.copy()), (w.copy(), m.copy())
        host_step(make(label), *mine, g)
        host_step(make(label), *other, g, Kernels(Host(backwards=True)))
        assert all(np.array_equal(x, y) for x, y in zip(mine, other, strict=True))


def test_what_does_not_fit_is_refused():
    w = np.zeros((2, 3))
    with pytest.raises(ValueError, match="not contiguous"):
        cuda.host.sign_step("sign", w.T, None, w.T, lr=0.1)  # a transposed gradient alone is copied
    with pytest.raises(ValueError, match="one shape"):
        cuda.host.sign_step("lion", w, w, np.zeros((3, 2)), lr=0.1)
    with pytest.raises(ValueError, match="rules sign, signum, lion"):
        cuda.host.sign_step("lion", w, None, w, lr=0.1)
    with pytest.raises(TypeError, match="float32 or float64; got int64"):
        cuda.host.momentum_mix(np.zeros((2, 2), int), np.zeros((2, 2), int), momentum=0.5)
    assert cuda.host.auon_step(*np.zeros((3, 0, 2, 2)), lr=0.1, momentum=0.5).shape == (0,)


@pytest.mark.parametrize("label", METHODS)
def test_fused_steps_on_a_device_are_the_methods_own(label, monkeypatch):
    """The host build stands in for the GPU; hyper-parameters vary over the batch, gradients are not contiguous."""
    launched = []

    class Counted(Kernels):
        def _check_step(self, *arrays):
            launched.append(len(arrays))
            return super()._check_step(*arrays)

    monkeypatch.setattr(kernels, "gpu", lambda x: Counted(Host()))
    rng = np.random.default_rng(6)
    method = make(label, lr=np.array([[0.1], [0.01]]))
    w = rng.standard_normal((2, 3, 7, 5))
    step, state = OnDevice(method, w), method.init(w)
    for _ in range(3):
        g = rng.standard_normal((2, 3, 5, 7)).swapaxes(2, 3)
        w, state = method.step(w, g, state)
        close(step(g), w, eps_of(w))
    assert len(launched) >= 3
    with pytest.raises(ValueError, match="one shape"):
        step(g[:, :2])


def test_what_has_no_kernel_takes_the_methods_own_step(xp):
    rng = np.random.default_rng(7)
    w, g = rng.standard_normal((2, 3, 4, 5))
    for method in (methods.make("auon", gamma=np.array([1.0, 2.0, 3.0])), methods.make("heavy-ball")):
        expected = method.step(w, g, method.init(w))[0]
        if hasattr(getattr(method, "gamma", None), "shape"):
            method = methods.make("auon", gamma=xp.asarray(method.gamma))
        step = OnDevice(method, xp.asarray(w))
        assert step.kernels is None
        close(to_host(step(xp.asarray(g))), expected, eps_of(w))


@pytest.mark.skipif(not cuda_is_available(), reason="CuPy sees no GPU here")
@pytest.mark.parametrize("label", METHODS)
def test_the_gpu_agrees_with_the_host_build(label):
    w, m, g = np.random.default_rng(5).standard_normal((3, 2, 150, 170)).astype("float32")
    there = [backend("cuda").asarray(x) for x in (w, m, g)]
    host_step(make(label), *there, cuda.device)
    host_step(make(label), w, m, g)
    close(to_host(there[0]), w, 2.0**-22)
