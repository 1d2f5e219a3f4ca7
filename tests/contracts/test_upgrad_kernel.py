"""Eight Jacobians in registers, one alone, and the array operations say the same as the factored rows."""

import numpy as np
import pytest

from orthotheory import surgery
from orthotheory.kernels import compiled

KERNELS = ["numpy", *(["numba"] if compiled() else [])]


def hard(m, n, count, rng):
    """Return Jacobians in strong conflict, and among them those that a vector register must leave to others."""
    sign = np.where(np.arange(m) % 2, 1.0, -1.0)[:, None]
    j = rng.standard_normal((count, m, n)) + rng.standard_normal((count, 1, n)) * sign
    j[3, 0] = 0.0
    j[10] *= 1e-150
    j[12] *= 10.0 ** rng.uniform(-4, 4, (m, 1))
    j[17, 1] = -j[17, 0] + 1e-6 * rng.standard_normal(n)
    j[18, 1] = -2 * j[18, 0]
    j[24] = 0.0
    return j


def certify(jacobian, x):
    """Return the largest conflict of updates with rows, relative to |row| |J|_F; both are scaled first."""
    rows = jacobian / np.maximum(np.abs(jacobian).max((1, 2), keepdims=True), 1e-300)
    x = x / np.maximum(np.abs(jacobian).max((1, 2)), 1e-300)[:, None]
    length = np.linalg.norm(rows, axis=2)
    inner = (rows @ x[..., None])[..., 0] / np.where(length > 0, length, 1)
    return -(inner / np.maximum(np.linalg.norm(rows, axis=(1, 2)), 1e-300)[:, None]).min()


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("n", [5, 100])
@pytest.mark.parametrize("m", range(2, 10))
def test_updates_of_many_jacobians_are_those_of_the_factored_rows(m, n, kernel):
    jacobian = hard(m, n, 43, np.random.default_rng(m))
    x = surgery.make("upgrad", kernel=kernel)(jacobian)
    expected = surgery.project(jacobian, jacobian, route="rows").point.mean(axis=1)
    size = np.abs(jacobian).max((1, 2))[:, None] + (np.abs(jacobian).max((1, 2)) == 0)[:, None]
    # the Gramian squares the condition of the rows, which cone.PIVOT bounds where it is used
    np.testing.assert_allclose(x / size, expected / size, rtol=0, atol=1e-11)
    assert certify(jacobian, x) < 1e-10


@pytest.mark.parametrize("kernel", KERNELS)
def test_a_jacobian_does_not_depend_on_its_neighbors_and_a_bad_one_is_named(kernel):
    jacobian = hard(5, 20, 30, np.random.default_rng(0))
    rule = surgery.make("upgrad", kernel=kernel)
    whole = rule(jacobian)
    for part in (slice(0, 8), slice(5, 14), slice(29, 30)):
        np.testing.assert_allclose(rule(jacobian[part]), whole[part], rtol=1e-10, atol=0)
    jacobian[9, 2, 3] = np.inf
    with pytest.raises(ValueError, match=r"row 2 of Jacobian \(9,\)"):
        rule(jacobian)


def test_blocks_of_array_operations_do_not_show(monkeypatch):
    from orthotheory.surgery import batch

    jacobian = hard(4, 20, 43, np.random.default_rng(1))
    rule = surgery.make("upgrad", kernel="numpy")
    whole = rule(jacobian)
    monkeypatch.setattr(batch, "BLOCK", 16)
    np.testing.assert_allclose(rule(jacobian), whole, rtol=1e-12, atol=0)
