"""Sven, which a gradient does not suffice: its own contract, and what else the others do not share."""

import numpy as np
import pytest
from conftest import eps_of

from orthotheory import methods
from orthotheory.arrays import array_namespace, to_host
from orthotheory.methods import AdAdaGrad, Lookahead, Sven
from orthotheory.methods.sven import sven_direction


def linear(inputs, targets, xp):
    a, y = xp.asarray(inputs), xp.asarray(targets)

    def residuals(w):
        ns = array_namespace(w)
        flat = ns.reshape(w, (*w.shape[:-2], w.shape[-2] * w.shape[-1], 1))
        return (a @ flat)[..., 0] - y, ns.broadcast_to(a, (*w.shape[:-2], *a.shape))

    return residuals


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("batch", [(), (3,), (0,)], ids=str)
def test_sven_solves_linear_least_squares_in_one_step_and_keeps_shape_dtype_and_batch(dtype, batch, xp):
    rng = np.random.default_rng(0)
    inputs, targets = (rng.standard_normal(s).astype(dtype) for s in ((4, 6), (4,)))
    method = methods.make("sven", lr=1.0, residuals=linear(inputs, targets, xp))
    start = rng.standard_normal((*batch, 2, 3)).astype(dtype)
    w, _ = method.step(xp.asarray(start), xp.asarray(0 * start), method.init(xp.asarray(start)))
    host = to_host(w)
    assert host.shape == (*batch, 2, 3)
    assert host.dtype == dtype
    expected = start.reshape(*batch, 6) - (start.reshape(*batch, 6) @ inputs.T - targets) @ np.linalg.pinv(inputs).T
    # condition of the inputs below 10, sizes below 10
    np.testing.assert_allclose(host.reshape(*batch, 6), expected, atol=100 * 6 * eps_of(inputs))


def test_sven_drops_small_singular_values_and_keeps_a_rank():
    jacobian = np.diag([1.0, 0.5, 1e-4])
    residuals = np.ones(3)
    np.testing.assert_array_equal(sven_direction(residuals, jacobian), [1.0, 2.0, 0.0])
    np.testing.assert_array_equal(sven_direction(residuals, jacobian, rank=1), [1.0, 0.0, 0.0])
    np.testing.assert_allclose(sven_direction(residuals, jacobian, rtol=0.0), [1.0, 2.0, 1e4], rtol=1e-12)
    np.testing.assert_array_equal(sven_direction(residuals, 0 * jacobian), np.zeros(3))


def test_a_jacobian_that_is_not_finite_leaves_its_neighbors_untouched():
    rng = np.random.default_rng(1)
    residuals, jacobian = rng.standard_normal((2, 3)), rng.standard_normal((2, 3, 5))
    clean = sven_direction(residuals, jacobian)
    jacobian[0, 1, 2] = np.nan
    dirty = sven_direction(residuals, jacobian)
    np.testing.assert_array_equal(dirty[1], clean[1])
    assert np.isnan(dirty[0]).all()


def test_sven_says_what_it_needs():
    w = np.ones((2, 3))
    with pytest.raises(ValueError, match="needs per-sample residuals and their Jacobian, a gradient is not enough"):
        Sven().step(w, w, ())
    assert "sven" in methods.names(more=True)
    assert "sven" not in methods.names()


def test_the_norm_test_grows_the_batch_only_when_it_must():
    method = AdAdaGrad(threshold=0.5)
    calm = np.ones((8, 2, 2)) + 0.01 * np.random.default_rng(2).standard_normal((8, 2, 2))
    assert method.next_batch(calm) == 8
    noisy = np.ones((8, 2, 2)) + 10 * np.random.default_rng(2).standard_normal((8, 2, 2))
    mean = noisy.mean(axis=0)
    variance = ((noisy - mean) ** 2).sum() / 7
    assert method.next_batch(noisy) == int(np.ceil(variance / (0.25 * (mean**2).sum()))) > 8
    assert method.next_batch(np.zeros((8, 2, 2))) == 8
    with pytest.raises(ValueError, match=r"at least two gradients, shape \(B, m, n\); got \(1, 2, 2\)"):
        method.next_batch(np.zeros((1, 2, 2)))


@pytest.mark.parametrize("name", ["muon", "adam", "soap", "psgd"])
def test_lookahead_wraps_any_method_and_with_a_full_pull_changes_nothing(name):
    rng = np.random.default_rng(3)
    inner = methods.make(name)
    w, plain = np.ones((4, 3)), np.ones((4, 3))
    wrapped = Lookahead(lr=inner.lr, inner=inner, pull=1.0, period=2)
    state, own = wrapped.init(w), inner.init(plain)
    for g in rng.standard_normal((6, 4, 3)):
        w, state = wrapped.step(w, g, state)
        plain, own = inner.step(plain, g, own)
    # slow + (fast - slow) rounds three times
    np.testing.assert_allclose(w, plain, rtol=0, atol=6 * 4 * eps_of(w))
