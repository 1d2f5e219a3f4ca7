"""Orthogonal parametrizations: exact identities, the parity of the Cayley-Neumann series, what rotations can reach."""

import numpy as np
import pytest
from conftest import rotation

from orthotheory.arrays import device_of, dtype_name, to_host
from orthotheory.polar.parametrizations import (
    align,
    cayley,
    cayley_neumann,
    cayley_neumann_defect,
    givens_product,
    householder_product,
    tree_pairs,
)

EPS = np.finfo(float).eps


def skew(shape, seed=0, size=1.0):
    """A random skew-symmetric matrix of the given spectral norm."""
    a = np.random.default_rng(seed).standard_normal(shape)
    s = a - np.swapaxes(a, -1, -2)
    return size * s / np.linalg.norm(s, 2, axis=(-2, -1))[..., None, None]


def defect(r):
    return np.linalg.norm(np.swapaxes(r, -1, -2) @ r - np.eye(r.shape[-1]), 2, axis=(-2, -1))


@pytest.mark.parametrize("size", [1e-300, 0.1, 1.0, 50.0])
def test_the_cayley_transform_is_a_rotation_and_its_inverse_that_of_minus_s(xp, size):
    s = skew((2, 5, 5), size=size)
    r = cayley(xp.asarray(s))
    assert dtype_name(r) == "float64"
    assert device_of(r) == xp.device
    # I - S has the condition number sqrt(1 + |S|^2)
    assert np.all(defect(to_host(r)) < 32 * 25 * EPS * np.hypot(1, size))
    np.testing.assert_allclose(np.linalg.det(to_host(r)), 1.0, rtol=1e-10)
    transposed = np.swapaxes(to_host(r), -1, -2)
    np.testing.assert_allclose(to_host(cayley(xp.asarray(-s))), transposed, atol=32 * 25 * EPS * np.hypot(1, size))


def test_the_other_order_of_the_factors_is_the_transpose():
    """The exact branch of the authors' code has (I - S)(I + S)^-1, the series (I + S)(I - S)^-1."""
    s = skew((4, 4), 1, 0.3)
    other = (np.eye(4) - s) @ np.linalg.inv(np.eye(4) + s)
    np.testing.assert_allclose(other, cayley(s).T, atol=1e-14)
    series = cayley_neumann(s, 40)
    assert np.linalg.norm(series - cayley(s)) < 1e-14
    assert np.linalg.norm(series - other) > 0.5  # switching between the branches inverts the rotation


@pytest.mark.parametrize("terms", range(2, 9))
def test_the_series_is_the_transform_times_what_the_theorem_says(xp, terms):
    s = skew((3, 6, 6), 2, 0.7)
    r = to_host(cayley_neumann(xp.asarray(s), terms))
    expected = cayley(s) @ (np.eye(6) - np.linalg.matrix_power(s, terms - 1))
    np.testing.assert_allclose(r, expected, atol=1e-13)
    angles = np.abs(np.linalg.eigvals(s).imag)
    np.testing.assert_allclose(defect(r), cayley_neumann_defect(angles, terms), atol=1e-13)


@pytest.mark.parametrize(
    ("theta", "terms", "expected"),
    [(0.5, 5, 0.121), (0.5, 4, 0.0156), (0.5, 6, 9.8e-4), (0.1, 5, 2e-4), (0.1, 4, 1e-6), (0.1, 6, 1e-10)],
)
def test_the_defects_of_the_survey(theta, terms, expected):
    assert cayley_neumann_defect(np.array([theta]), terms) == pytest.approx(expected, rel=5e-3)
    s = theta * np.array([[0.0, -1.0], [1.0, 0.0]])
    assert defect(cayley_neumann(s, terms)) == pytest.approx(expected, rel=5e-3)


@pytest.mark.parametrize("dtype", ["float64", "complex128"])
@pytest.mark.parametrize("count", [1, 3, 5, 8])
def test_the_compact_form_is_the_product_of_the_reflections(xp, dtype, count):
    rng = np.random.default_rng(3)
    u = rng.standard_normal((2, 5, count))
    if dtype == "complex128":
        u = u + 1j * rng.standard_normal(u.shape)
    u *= 10.0 ** rng.uniform(-200, 200, (2, 1, count))  # lengths do not matter
    h = to_host(householder_product(xp.asarray(u)))
    for member, vectors in zip(h, u, strict=True):
        expected = np.eye(5, dtype=dtype)
        for i in range(count):
            v = vectors[:, i] / np.abs(vectors[:, i]).max()
            expected = expected @ (np.eye(5) - 2 * np.outer(v, v.conj()) / np.vdot(v, v).real)
        np.testing.assert_allclose(member, expected, atol=64 * 25 * EPS)
        assert np.linalg.matrix_rank(member - np.eye(5), tol=1e-10) <= count  # an adaptation of rank r


def test_equal_reflections_cancel():
    u = np.random.default_rng(4).standard_normal((4, 1))
    np.testing.assert_allclose(householder_product(np.concatenate([u, u], axis=1)), np.eye(4), atol=1e-14)


@pytest.mark.parametrize("n", [2, 3, 4, 7, 8])
def test_the_tree_has_n_minus_one_rotations_in_rounds_of_disjoint_planes_and_sends_any_vector_to_any_other(n):
    pairs = tree_pairs(n)
    assert len(pairs) == n - 1
    rng = np.random.default_rng(n)
    v, w = rng.standard_normal((2, n))
    w *= np.linalg.norm(v) / np.linalg.norm(w)
    to_first, back = (givens_product(align(x), pairs, n) for x in (v, w))
    np.testing.assert_allclose(back.T @ to_first @ v, w, atol=1e-13)
    assert np.linalg.norm(to_first @ to_first.T - np.eye(n)) < 1e-13
    assert np.linalg.det(to_first) == pytest.approx(1.0)


def test_three_dimensions_are_too_many_for_two_rotations():
    """For n = 3 the entry in row 2 and column 3 of every product vanishes; that of a rotation need not."""
    for seed in range(20):
        q = givens_product(np.random.default_rng(seed).uniform(-3, 3, 2), tree_pairs(3), 3)
        assert abs(q[1, 2]) < 1e-15
    assert abs(rotation(3, np.random.default_rng(5))[1, 2]) > 0.1


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: cayley(np.ones((2, 3))), ValueError, "cayley needs square matrices; got 2 x 3"),
        (lambda: cayley(np.eye(2)), ValueError, r"cayley needs skew-symmetric matrices, S = -S\^T; take"),
        (lambda: cayley_neumann(np.zeros((2, 2)), 1), ValueError, "terms must be at least 2; got 1"),
        (lambda: householder_product(np.zeros((3, 1))), ValueError, "needs nonzero columns"),
        (lambda: householder_product(np.ones(3)), ValueError, "householder_product needs a matrix"),
        (
            lambda: givens_product([0.1], tree_pairs(4), 4),
            ValueError,
            r"one angle for each of the 3 planes; got shape \(1,\)",
        ),
    ],
    ids=["not square", "not skew", "one term", "zero column", "vector", "too few angles"],
)
def test_what_parametrizes_nothing_is_refused(call, error, message):
    with pytest.raises(error, match=message):
        call()
