"""Polynomial steps in buffers are the formula, and a batch changes no bit."""

import numpy as np
import pytest

from orthotheory.polar import blocked
from orthotheory.polar.presets import MUON_QUINTIC


def formula(x, coefficients):
    for a, *rest in coefficients:
        q = x @ x.swapaxes(-1, -2)
        polynomial = sum(c * np.linalg.matrix_power(q, k + 1) for k, c in enumerate(rest)) if rest else 0 * q
        x = a * x + polynomial @ x
    return x


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(
    "shape", [(5, 7), (7, 5), (3, 6, 6), (2, 3, 4, 9), (40, 33, 20), (2, 1, 5), (0, 3, 4)], ids=str
)
def test_steps_in_buffers_are_the_formula(shape, dtype):
    x = np.random.default_rng(0).standard_normal(shape)
    x = (x / np.sqrt(np.sum(x**2, axis=(-2, -1), keepdims=True))).astype(dtype)
    coefficients = ((3.4445, -4.7750, 2.0315), (1.5, -0.5), (2.0,), (2.0, -1.5, 0.5, -0.1))
    mine, truth = blocked.run(x, coefficients), formula(x.astype(float), coefficients)
    assert mine.dtype == x.dtype
    assert mine.shape == x.shape
    # a step may stretch an error by its first coefficient: their product is below 21, a few roundings each
    assert np.abs(mine - truth).max(initial=0) <= 21 * 16 * np.finfo(dtype).eps * np.abs(truth).max(initial=1)


@pytest.mark.parametrize("n", [8, 32, 100])
def test_a_batch_changes_no_bit_and_a_bad_neighbor_no_matrix(n):
    x = np.random.default_rng(1).standard_normal((37, n, n)).astype("float32")
    x[5] = np.nan
    whole = MUON_QUINTIC.apply(x)
    for i in (0, 4, 6, 36):
        assert np.array_equal(MUON_QUINTIC.apply(x[i]), whole[i])
    assert np.isnan(whole[5]).all()
    assert np.isfinite(np.delete(whole, 5, axis=0)).all()


def test_the_input_is_left_alone():
    x = np.random.default_rng(2).standard_normal((4, 6, 5))
    before = x.copy()
    MUON_QUINTIC.apply(x)
    assert np.array_equal(x, before)
