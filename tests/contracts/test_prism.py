"""PRISM, reconstructed: the fit is the minimum it claims to be, the step stays in its basin, the spectrum is used."""

import numpy as np
import pytest
from conftest import eps_of, hard_matrices, rotation

from orthotheory.arrays import device_of, dtype_name, to_host
from orthotheory.polar import POLAR_EXPRESS, newton_schulz, polar_factor
from orthotheory.polar.prism import INTERVALS, SERIES, fitted, moments, prism, prism_step


def with_values(s, n, seed=0):
    rng = np.random.default_rng(seed)
    return (rotation(len(s), rng) * s) @ rotation(n, rng)[: len(s)]


def residual(x, alpha, order):
    """|I - X_+ X_+^T|_F after the step with that coefficient, from the singular values of X."""
    s = np.linalg.svd(x, compute_uv=False)
    r = 1 - s**2
    after = s * (sum(c * r**i for i, c in enumerate(SERIES[:order])) + alpha * r**order)
    return np.linalg.norm(1 - after**2)


@pytest.mark.parametrize("order", INTERVALS)
@pytest.mark.parametrize("seed", range(4))
def test_with_the_whole_space_as_sketch_the_coefficient_minimizes_the_residual(order, seed):
    s = np.random.default_rng(seed).uniform(0.05, 1.1, 6)
    x = with_values(s, 8, seed)
    step = prism_step(x, np.eye(6), order=order)
    grid = np.linspace(*INTERVALS[order], 20_001)
    values = [residual(x, a, order) for a in grid[::50]]
    assert INTERVALS[order][0] <= step.alpha <= INTERVALS[order][1]
    assert residual(x, float(step.alpha), order) <= min(values) * (1 + 1e-12)
    after = np.linalg.svd(step.x, compute_uv=False)
    assert np.linalg.norm(1 - after**2) == pytest.approx(residual(x, float(step.alpha), order), rel=1e-10)


def test_the_moments_are_those_of_the_sketch(xp):
    rng = np.random.default_rng(1)
    a = rng.standard_normal((2, 5, 5)) / 4
    r, z = (a + np.swapaxes(a, -1, -2)) / 2, rng.standard_normal((3, 5))
    found = moments(xp.asarray(r), xp.asarray(z), 7)
    for k in range(8):
        expected = [np.trace(z @ np.linalg.matrix_power(b, k) @ z.T) for b in r]
        np.testing.assert_allclose(found[:, k], expected, rtol=1e-12, atol=1e-14)


def test_a_moment_that_is_not_finite_falls_back_to_newton_schulz():
    assert fitted(np.full((2, 11), np.nan), 2).tolist() == [INTERVALS[2][0]] * 2


@pytest.mark.parametrize("order", INTERVALS)
def test_every_coefficient_of_the_interval_maps_the_basin_into_itself_and_small_values_grow(order):
    s = np.linspace(1e-6, 1.155, 200_001)
    r = 1 - s**2
    for alpha in np.linspace(*INTERVALS[order], 101):
        factor = sum(c * r**i for i, c in enumerate(SERIES[:order])) + alpha * r**order
        assert (s * factor).min() > 0
        assert (s * factor).max() <= 1.155
        assert factor[s < 1].min() >= 1


@pytest.mark.parametrize("label", [label for label in hard_matrices() if label not in ("ill-conditioned", "zero")])
@pytest.mark.parametrize("order", INTERVALS)
def test_it_converges_to_the_polar_factor(xp, label, order):
    g = hard_matrices()[label]
    if label == "one zero row":
        g = np.delete(g, 2, axis=0)
    x = to_host(prism(xp.asarray(g), steps=45, order=order))
    s = np.linalg.svd(g, compute_uv=False)
    kept = s[s > 1e-12 * s.max(initial=1e-300)]
    condition = kept.max(initial=1) / kept.min(initial=1) if "batch" not in label else np.linalg.cond(g).max(initial=1)
    atol = 128 * eps_of(g) * g.shape[-1] * g.shape[-2] * condition
    if label not in ("rank one", "rank two"):  # rounding grows in the null space of these, as in any such iteration
        np.testing.assert_allclose(x, polar_factor(g), atol=atol)
    assert x.shape == g.shape


def test_on_a_wide_gaussian_matrix_it_needs_four_steps_where_a_worst_case_design_needs_seven():
    g = np.random.default_rng(2).standard_normal((64, 256))
    factor = polar_factor(g)

    def error(x):
        return np.linalg.norm(x - factor, 2)

    assert error(prism(g, steps=4)) < 1e-3
    assert error(POLAR_EXPRESS.apply(g, steps=6)) > 1e-3
    assert error(newton_schulz(5, 5).apply(g)) > 1e-2
    # and on a spectrum down to 1e-3 the worst-case design is the better one
    hard = with_values(np.geomspace(1, 1e-3, 64), 64)
    worst = np.linalg.norm(prism(hard, steps=8) - polar_factor(hard), 2)
    assert np.linalg.norm(POLAR_EXPRESS.apply(hard) - polar_factor(hard), 2) < worst


def test_what_it_is_made_of_is_seeded_scale_free_and_respects_its_neighbors(xp):
    g = np.random.default_rng(3).standard_normal((3, 4, 6))
    first = to_host(prism(xp.asarray(g), rng=5, steps=6))
    np.testing.assert_array_equal(to_host(prism(xp.asarray(g * 2.0**-700), rng=5, steps=6)), first)
    spoiled = g.copy()
    spoiled[1, 0, 0] = np.nan
    after = to_host(prism(xp.asarray(spoiled), rng=5, steps=6))
    np.testing.assert_array_equal(after[[0, 2]], first[[0, 2]])
    assert np.isnan(after[1]).all()
    np.testing.assert_array_equal(to_host(prism(xp.asarray(np.zeros((3, 4))))), np.zeros((3, 4)))
    single = prism(xp.asarray(g, dtype="float32"))
    assert dtype_name(single) == "float32"
    assert device_of(single) == xp.device
    z = g + 1j * np.random.default_rng(4).standard_normal(g.shape)
    np.testing.assert_allclose(to_host(prism(xp.asarray(z), steps=20)), polar_factor(z), atol=1e-11)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"order": 3}, "order must be 1 or 2; got 3"),
        ({"steps": 0}, "steps and sketch must be at least 1; got steps=0, sketch=8"),
        ({"sketch": 0}, "sketch=0"),
    ],
    ids=["order", "steps", "sketch"],
)
def test_what_does_not_exist_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        prism(np.eye(2), **options)


def test_the_moments_of_a_complex_hermitian_matrix_are_real_traces():
    rng = np.random.default_rng(0)
    a = rng.standard_normal((5, 5)) + 1j * rng.standard_normal((5, 5))
    r, z = (a + a.conj().T) / 10, rng.standard_normal((3, 5))
    traces = [np.trace(z @ np.linalg.matrix_power(r, k) @ z.T) for k in range(5)]
    assert np.abs(np.imag(traces)).max() < 100 * np.finfo(float).eps  # Z R^k Z^T is Hermitian
    assert np.allclose(moments(r, z, 4), np.real(traces), rtol=1e3 * np.finfo(float).eps)
