"""Schedules in float16: as efficient as in float64, on sizes and scales where float16 itself would underflow."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from conftest import hard_matrices

from orthotheory.arrays import to_host
from orthotheory.polar import MUON_QUINTIC, NEWTON_SCHULZ_CUBIC, POLAR_EXPRESS, HalfPrecision, polar_factor

UNIT = 2.0**-11


def host_or_gpu(xp):
    """The strict namespace has no float16."""
    if not hasattr(xp.xp, "float16"):
        pytest.skip("this array library has no float16")
    return xp


def efficiency(g, x) -> float:
    """<G, X> / (|G|_* |X|): how much of the possible decrease a step along X takes."""
    return float(np.sum(g * x) / (np.linalg.norm(g, "nuc") * np.linalg.norm(x, 2)))


@pytest.mark.parametrize("schedule", [MUON_QUINTIC, POLAR_EXPRESS, NEWTON_SCHULZ_CUBIC], ids=lambda s: s.name)
@pytest.mark.parametrize("shape", [(48, 48), (20, 150), (150, 20)], ids=str)
@pytest.mark.parametrize("scale", [1.0, 1e-30, 1e30])
def test_it_is_as_efficient_as_the_schedule_in_float64(xp, schedule, shape, scale):
    xp = host_or_gpu(xp)
    g = scale * np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    x = to_host(HalfPrecision(schedule).apply(xp.asarray(g)))
    assert x.dtype == np.float32
    exact = schedule.apply(g.astype(np.float64))
    assert efficiency(g / scale, x) == pytest.approx(efficiency(g / scale, exact), abs=4 * UNIT)


def test_entries_of_a_large_gram_matrix_are_lost_in_plain_float16():
    """The control: of 8192 x 8192 normalized they are near 8192^(-3/2), where the spacing of float16 is 5 % of them."""
    entries = 8192.0**-1.5 * np.random.default_rng(0).standard_normal(10**5)
    for scale, low, high in ((1.0, 0.01, 0.1), (2.0**13, 0.0, UNIT)):
        rounded = (scale * entries).astype(np.float16).astype(float) / scale
        assert low <= np.linalg.norm(rounded - entries) / np.linalg.norm(entries) < high


def allowance(g) -> float:
    """Four roundings a step (the state, S, F, their product) times the steepest slope of the steps that follow."""
    s = np.linalg.svd(g, compute_uv=False)
    values = np.linspace(s.min(), s.max(), 2000) / (np.linalg.norm(s) or 1.0)
    total = 0.0
    for k in range(MUON_QUINTIC.steps):
        values, _ = stepped(values, k)
        after, slope = values, np.ones_like(values)
        for later in range(k + 1, MUON_QUINTIC.steps):
            after, derivative = stepped(after, later)
            slope = slope * derivative
        total += 4 * UNIT * np.abs(slope).max() * values.max() * np.sqrt(len(s))
    return total


def stepped(s, k):
    """One step on singular values, and its derivative."""
    a, b, c = MUON_QUINTIC.step(k)
    return a * s + b * s**3 + c * s**5, a + 3 * b * s**2 + 5 * c * s**4


@pytest.mark.parametrize("label", [k for k, g in hard_matrices().items() if g.ndim == 2])
def test_hard_matrices_have_the_values_of_the_schedule_to_the_rounding_that_its_slopes_carry(xp, label):
    xp = host_or_gpu(xp)
    g = hard_matrices()[label]
    x = to_host(HalfPrecision().apply(xp.asarray(g)))
    np.testing.assert_allclose(x, MUON_QUINTIC.apply(g), rtol=0, atol=allowance(g))


def test_batches_are_their_matrices_one_by_one(xp):
    xp = host_or_gpu(xp)
    for label in ("batch", "empty batch"):
        g = hard_matrices()[label]
        x = to_host(HalfPrecision().apply(xp.asarray(g)))
        assert x.shape == g.shape
        for i in np.ndindex(g.shape[:-2]):
            np.testing.assert_allclose(x[i], to_host(HalfPrecision().apply(xp.asarray(g[i]))), atol=2 * UNIT)


def test_a_matrix_that_is_not_finite_is_nan_for_itself_alone(xp):
    xp = host_or_gpu(xp)
    g = np.random.default_rng(0).standard_normal((3, 4, 5)).astype(np.float32)
    whole = to_host(HalfPrecision().apply(xp.asarray(g)))
    g[1, 2, 3] = np.inf
    x = to_host(HalfPrecision().apply(xp.asarray(g)))
    assert np.isnan(x[1]).all()
    np.testing.assert_array_equal(x[[0, 2]], whole[[0, 2]])


def test_it_is_a_plan_of_the_polar_factor():
    g = np.random.default_rng(0).standard_normal((4, 5))
    np.testing.assert_array_equal(polar_factor(g, HalfPrecision()), HalfPrecision().apply(g))


def test_what_it_cannot_run_is_refused():
    longer = dataclasses.replace(MUON_QUINTIC, coefficients=((2.0, -1.5, 0.6, -0.1),))
    with pytest.raises(ValueError, match="steps of degree 3 and 5"):
        HalfPrecision(longer)
    with pytest.raises(TypeError, match="float32 or float64"):
        HalfPrecision().apply(np.ones((2, 2), np.float16))
