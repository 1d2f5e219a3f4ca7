"""The derivative of the polar factor against differences in 50 digits, the symbolic 2 x 2 factor and a Sylvester solve.

In floating point L(G, E) has an error of a few N eps times the condition number of G and its own size: `rounding` is
32 N eps cond(G), multiplied by the size of L.
"""

import mpmath
import numpy as np
import pytest
import scipy.linalg
from conftest import eps_of, hard_matrices

from orthotheory.arrays import device_of, dtype_name, to_host
from orthotheory.polar import polar_factor
from orthotheory.polar.frechet import polar_condition, polar_derivative, polar_derivative_adjoint

SHAPES = {"square": (4, 4), "tall": (5, 3), "wide": (3, 5), "row": (1, 4), "column": (4, 1), "scalar": (1, 1)}
DTYPES = ["float64", "complex128"]


def rounding(g) -> float:
    return 32 * eps_of(g) * g.shape[-1] * g.shape[-2] * np.linalg.cond(g).max()


def draw(shape, seed, dtype="float64"):
    rng = np.random.default_rng(seed)
    x = rng.standard_normal(shape)
    return (x + 1j * rng.standard_normal(shape) if "complex" in dtype else x).astype(dtype)


def inner(a, b):
    return float((a.conj() * b).real.sum())


def exact_factor(g):
    """U V^H in mpmath's working precision, from its SVD."""
    tall = g.rows >= g.cols
    u, _, vh = mpmath.svd(g if tall else g.H)
    factor = u[:, : vh.rows] * vh
    return factor if tall else factor.H


def difference_quotient(g, e):
    """Central difference with h = 1e-15 in 50 digits: truncation h^2 = 1e-30, cancellation 1e-35."""
    with mpmath.workdps(50):
        h = mpmath.mpf(10) ** -15
        a, b = (mpmath.matrix(x.tolist()) for x in (g, e))
        quotient = (exact_factor(a + h * b) - exact_factor(a - h * b)) / (2 * h)
        return np.array(quotient.tolist(), dtype=complex).reshape(g.shape)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES.keys())
def test_the_derivative_is_the_limit_of_difference_quotients(xp, shape, dtype):
    g, e = draw(shape, 1, dtype), draw(shape, 2, dtype)
    derivative = polar_derivative(xp.asarray(g), xp.asarray(e))
    assert dtype_name(derivative) == dtype
    assert device_of(derivative) == xp.device
    expected = difference_quotient(g, e)
    atol = rounding(g) * float(polar_condition(g)) * np.linalg.norm(e) + 1e-16
    np.testing.assert_allclose(to_host(derivative), expected, atol=atol)


@pytest.mark.parametrize("dtype", DTYPES)
def test_an_ill_conditioned_matrix_has_the_derivative_of_the_differences(dtype):
    u, v = (np.linalg.qr(draw((3, 3), seed, dtype))[0] for seed in (3, 4))
    g = (u * np.array([1.0, 1e-2, 1e-4])) @ v
    e = draw((3, 3), 5, dtype)
    expected = difference_quotient(g, e)
    assert np.linalg.norm(expected) > 50  # large where the smallest singular values are
    atol = rounding(g) * float(polar_condition(g)) * np.linalg.norm(e)
    np.testing.assert_allclose(polar_derivative(g, e), expected, atol=atol)


@pytest.mark.parametrize("negative", [False, True], ids=["rotation", "reflection"])
def test_the_two_by_two_derivative_is_the_symbolic_one(negative):
    import sympy

    a, b, c, d = sympy.symbols("a b c d", real=True)
    if negative:  # det < 0: the nearest reflection
        angle = sympy.atan2(c + b, a - d)
        factor = sympy.Matrix([[sympy.cos(angle), sympy.sin(angle)], [sympy.sin(angle), -sympy.cos(angle)]])
        g = np.array([[1.0, 0.3], [0.7, -2.0]])
    else:
        angle = sympy.atan2(c - b, a + d)
        factor = sympy.Matrix([[sympy.cos(angle), -sympy.sin(angle)], [sympy.sin(angle), sympy.cos(angle)]])
        g = np.array([[1.0, 0.3], [-0.7, 2.0]])
    values = dict(zip((a, b, c, d), g.ravel().tolist(), strict=True))
    np.testing.assert_allclose(np.array(factor.subs(values), dtype=float), polar_factor(g), atol=rounding(g))
    for k, symbol in enumerate((a, b, c, d)):
        e = np.zeros(4)
        e[k] = 1.0
        expected = np.array(factor.diff(symbol).subs(values), dtype=float)
        np.testing.assert_allclose(polar_derivative(g, e.reshape(2, 2)), expected, atol=rounding(g))


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_square_derivative_solves_the_sylvester_equation(dtype):
    """Q^H L = W with H W + W H = Q^H E - E^H Q, H the positive factor."""
    g, e = draw((5, 5), 6, dtype), draw((5, 5), 7, dtype)
    q, h = scipy.linalg.polar(g)
    right = q.conj().T @ e
    expected = q @ scipy.linalg.solve_sylvester(h, h, right - right.conj().T)
    atol = rounding(g) * float(polar_condition(g)) * np.linalg.norm(e)
    np.testing.assert_allclose(polar_derivative(g, e), expected, atol=atol)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES.keys())
def test_the_adjoint_is_an_adjoint_and_the_derivative_is_positive_semidefinite(xp, shape, dtype):
    g, e, y = (draw(shape, seed, dtype) for seed in (8, 9, 10))
    image = to_host(polar_derivative(xp.asarray(g), xp.asarray(e)))
    pulled = to_host(polar_derivative_adjoint(xp.asarray(g), xp.asarray(y)))
    size = np.linalg.norm(e) * np.linalg.norm(y) * float(polar_condition(g))
    assert abs(inner(image, y) - inner(e, pulled)) <= rounding(g) * size + 1e-15
    assert inner(e, image) >= -rounding(g) * np.linalg.norm(e) ** 2 * float(polar_condition(g)) - 1e-15


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES.keys())
def test_the_condition_number_is_the_norm_of_the_derivative(xp, shape, dtype):
    """The matrix of E -> L(G, E) on real coordinates, column by column: its largest singular value."""
    g = draw(shape, 11, dtype)
    basis = np.eye(g.size).reshape(-1, *shape).astype(dtype)
    if "complex" in dtype:
        basis = np.concatenate([basis, 1j * basis])
    columns = polar_derivative(np.broadcast_to(g, basis.shape), basis).reshape(len(basis), -1)
    matrix = np.concatenate([columns.real, columns.imag], axis=1) if "complex" in dtype else columns
    norm = np.linalg.norm(matrix, 2)
    condition = to_host(polar_condition(xp.asarray(g)))
    np.testing.assert_allclose(condition, norm, rtol=rounding(g), atol=1e-15)


def test_the_condition_is_that_of_the_two_smallest_singular_values_only_for_square_real_matrices():
    s = np.array([3.0, 1.0, 0.01])
    assert polar_condition(np.diag(s)) == pytest.approx(2 / 1.01, rel=1e-14)
    assert polar_condition(np.diag(s).astype(complex)) == pytest.approx(100.0, rel=1e-13)
    assert polar_condition(np.concatenate([np.diag(s), np.zeros((3, 1))], axis=1)) == pytest.approx(100.0, rel=1e-13)


@pytest.mark.parametrize("exponent", [-300, -20, 15, 300])
def test_the_derivative_scales_like_the_inverse_of_the_matrix(xp, exponent):
    g, e = draw((4, 3), 12), draw((4, 3), 13)
    unit = to_host(polar_derivative(xp.asarray(g), xp.asarray(e)))
    scaled = to_host(polar_derivative(xp.asarray(g * 2.0**exponent), xp.asarray(e)))
    np.testing.assert_array_equal(scaled * 2.0**exponent, unit)
    assert float(polar_condition(g * 2.0**exponent)) * 2.0**exponent == polar_condition(g)


def test_moving_along_the_matrix_changes_nothing():
    g = draw((4, 6), 14)
    np.testing.assert_allclose(polar_derivative(g, g), 0, atol=rounding(g))


DEFICIENT = ["zero", "rank one", "rank two"]


@pytest.mark.parametrize("label", DEFICIENT)
def test_a_rank_deficient_matrix_is_refused_with_what_to_do(label):
    g = hard_matrices()[label]
    with pytest.raises(ValueError, match=r"no derivative at a matrix of rank below \d: a small change .* Perturb"):
        polar_derivative(g, np.ones_like(g))
    assert polar_condition(g) == np.inf


def test_the_member_of_a_batch_that_is_deficient_is_named():
    g = draw((2, 3, 3), 15)
    g[1] = np.diag([1.0, 1.0, 0.0])
    with pytest.raises(ValueError, match=r"\(member \(1,\) of the batch\)"):
        polar_derivative(g, g)
    condition = polar_condition(g)
    assert np.isfinite(condition[0])
    assert condition[1] == np.inf


def test_batches_are_their_members_and_an_empty_batch_is_empty(xp):
    g, e = draw((2, 3, 4, 3), 16), draw((2, 3, 4, 3), 17)
    together = to_host(polar_derivative(xp.asarray(g), xp.asarray(e)))
    for index in np.ndindex(2, 3):
        np.testing.assert_allclose(together[index], polar_derivative(g[index], e[index]), atol=rounding(g))
    empty = xp.asarray(np.zeros((0, 4, 3)))
    assert polar_derivative(empty, empty).shape == (0, 4, 3)
    assert polar_condition(empty).shape == (0,)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_member_that_is_not_finite_gives_nan_and_leaves_its_neighbors_untouched(xp, bad):
    g, e = draw((3, 3, 4), 18), draw((3, 3, 4), 19)
    before = to_host(polar_derivative(xp.asarray(g), xp.asarray(e)))
    g[1, 0, 0] = bad
    after = to_host(polar_derivative(xp.asarray(g), xp.asarray(e)))
    np.testing.assert_array_equal(after[[0, 2]], before[[0, 2]])
    assert np.all(np.isnan(after[1]))
    assert np.isnan(to_host(polar_condition(xp.asarray(g)))[1])


def test_float32_stays_float32(xp):
    g = xp.asarray(draw((3, 4), 20), dtype="float32")
    assert dtype_name(polar_derivative(g, g)) == "float32"
    assert dtype_name(polar_condition(g)) == "float32"


@pytest.mark.parametrize(
    ("g", "e", "error", "message"),
    [
        (np.eye(3), np.ones((3, 2)), ValueError, "must be 3 x 3 in float64, as the matrix; got 3 x 2 in float64"),
        (np.eye(2), np.ones((2, 2), np.float32), ValueError, "got 2 x 2 in float32"),
        (np.ones(3), np.ones(3), ValueError, "polar_derivative needs a matrix"),
        (np.eye(2, dtype=int), np.eye(2), TypeError, "polar_derivative needs float32"),
    ],
    ids=["shapes", "dtypes", "vector", "integers"],
)
def test_what_has_no_derivative_is_refused(g, e, error, message):
    with pytest.raises(error, match=message):
        polar_derivative(g, e)
