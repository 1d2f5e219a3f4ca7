"""Algorithms for the polar factor against the exact one, against each other and against the printed numbers.

The factor of a matrix with N entries and condition number kappa is determined up to about kappa eps; `rounding` is
32 N eps, as in `test_polar`, to be multiplied by kappa, and by kappa^2 for the Gram matrix (`sensitivity`).
"""

import itertools

import mpmath
import numpy as np
import pytest
import scipy.linalg
from conftest import eps_of, hard_matrices, rotation
from hypothesis import given, settings
from hypothesis import strategies as st

from orthotheory.arrays import device_of, dtype_name, to_host
from orthotheory.names import UnknownName
from orthotheory.polar import polar_factor
from orthotheory.polar.algorithms import ALGORITHMS
from orthotheory.polar.gram import gram_eigen
from orthotheory.polar.jacobi import (
    _tournament,
    hermitian_sweep,
    jacobi,
    off_square,
    orthogonalize_columns,
    rotate_hermitian,
)
from orthotheory.polar.newton import newton
from orthotheory.polar.qdwh import qdwh, qdwh_steps
from orthotheory.polar.reduction import operator_norm_bound, spectrum_bounds, through_square
from orthotheory.polar.zolotarev import zolo_pd

EPS = float(np.finfo(float).eps)
SHAPES = {"square": (5, 5), "tall": (7, 3), "wide": (3, 7), "row": (1, 6), "column": (6, 1), "batch": (2, 3, 4, 5)}
ITERATIONS = ["newton", "newton-higham", "newton-optimal", "qdwh", "zolo-pd"]
NAMES = list(ALGORITHMS)
NOT_EMPTY = [label for label in hard_matrices() if label != "empty batch"]


def rounding(x) -> float:
    return 32 * eps_of(x) * x.shape[-1] * x.shape[-2]


def sensitivity(name: str, condition: float, x) -> float:
    """The unavoidable error; the Gram matrix squares the condition until the SVD takes over."""
    squared = name == "gram-eigen" and condition < eps_of(x) ** -0.25
    return rounding(x) * (condition**2 if squared else condition)


def generic(shape, seed=0, dtype="float64"):
    rng = np.random.default_rng(seed)
    x = rng.standard_normal(shape)
    return (x + 1j * rng.standard_normal(shape) if "complex" in dtype else x).astype(dtype)


def unitary(size, rng, dtype="float64"):
    if "complex" not in dtype:
        return rotation(size, rng)
    return np.linalg.qr(rng.standard_normal((size, size)) + 1j * rng.standard_normal((size, size)))[0]


def with_factor(s, rows, columns, seed=0, dtype="float64"):
    """A matrix with singular values s and its polar factor, null spaces mapped to zero."""
    rng = np.random.default_rng(seed)
    u, v = unitary(rows, rng, dtype)[:, : len(s)], unitary(columns, rng, dtype)[:, : len(s)]
    s = np.asarray(s)
    return ((u * s) @ v.conj().T).astype(dtype), (u * (s > 0)) @ v.conj().T


# What every algorithm shares


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("label", NOT_EMPTY)
def test_every_algorithm_returns_the_exact_factor_of_the_hard_matrices(xp, name, label):
    g = hard_matrices()[label]
    p = to_host(ALGORITHMS[name](xp.asarray(g)))
    expected = polar_factor(g)
    s = np.linalg.svd(g / max(np.abs(g).max(), 1e-300), compute_uv=False)
    kept = s > max(g.shape[-2:]) * EPS * s[..., :1]
    smallest = np.where(kept, s, np.inf).min(axis=-1)
    condition = (s[..., 0] / smallest).max()
    np.testing.assert_allclose(p, expected, atol=max(1.0, condition) * sensitivity(name, 1.0, g))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("dtype", ["float64", "float32", "complex128", "complex64"])
@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES.keys())
def test_every_shape_and_dtype_gives_scipys_polar_factor_in_kind(xp, name, shape, dtype):
    g = generic(shape, dtype=dtype)
    p = ALGORITHMS[name](xp.asarray(g))
    assert dtype_name(p) == dtype
    assert device_of(p) == xp.device
    assert p.shape == shape
    for index in np.ndindex(*shape[:-2]):
        expected = scipy.linalg.polar(g[index])[0]
        np.testing.assert_allclose(
            to_host(p)[index], expected, atol=sensitivity(name, float(np.linalg.cond(g[index])), g)
        )


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("condition", [1e1, 1e4, 1e8, 1e12])
@pytest.mark.parametrize("dtype", ["float64", "complex128"])
def test_orthonormality_and_direction_are_at_rounding_level_whatever_the_condition(name, condition, dtype):
    n = 20
    g, expected = with_factor(np.geomspace(1, 1 / condition, n), 31, n, 1, dtype)
    p = ALGORITHMS[name](g)
    assert np.linalg.norm(p.conj().T @ p - np.eye(n), 2) <= 2 * n * EPS
    assert np.linalg.norm(p - expected, 2) <= sensitivity(name, condition, g)
    if name != "gram-eigen" or condition > EPS**-0.25:  # the Gram matrix is not backward stable
        h = p.conj().T @ g
        assert np.linalg.norm(h - h.conj().T, 2) <= 8 * n * EPS
        assert np.linalg.norm(g - p @ (h + h.conj().T) / 2, 2) <= 8 * n * EPS


@pytest.mark.parametrize("name", NAMES)
def test_float32_at_condition_1e3_stays_within_the_floor_of_the_dtype(xp, name):
    g, expected = with_factor(np.geomspace(1, 1e-3, 64), 64, 64, 2)
    p = to_host(ALGORITHMS[name](xp.asarray(g, dtype="float32"))) if name != "jacobi-random" else jacobi(np.float32(g))
    assert p.dtype == np.float32
    # rounding the input moves the factor by |dG| / (2 s_min), here 2e-6; an orthogonal reduction and the iteration add
    # as much again, a few thousand rotations more
    share = 1 if "jacobi" in name else 1 / 8
    assert np.linalg.norm(p - expected, 2) <= share * np.finfo(np.float32).eps * 1e3


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES.keys())
def test_a_power_of_two_changes_no_bit(xp, name, shape):
    g = generic(shape, 1)
    expected = to_host(ALGORITHMS[name](xp.asarray(g)))
    for exponent in (-990, -1, 990):
        np.testing.assert_array_equal(to_host(ALGORITHMS[name](xp.asarray(g * 2.0**exponent))), expected)


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=10, deadline=None)
@given(exponent=st.floats(-300, 299))
def test_any_positive_factor_changes_nothing_but_roundings(name, exponent):
    g = generic((4, 3), 2)
    np.testing.assert_allclose(
        ALGORITHMS[name](g * 10.0**exponent), ALGORITHMS[name](g), atol=sensitivity(name, np.linalg.cond(g), g)
    )


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("dtype", ["float64", "complex128"])
def test_rotations_transposes_and_batches_commute_with_the_factor(xp, name, dtype):
    g = generic((2, 2, 4, 5), 4, dtype)
    rng = np.random.default_rng(5)
    q, r = unitary(4, rng, dtype), unitary(5, rng, dtype)
    atol = sensitivity(name, np.linalg.cond(g).max(), g)
    algorithm = ALGORITHMS[name]
    p = to_host(algorithm(xp.asarray(g)))
    np.testing.assert_allclose(to_host(algorithm(xp.asarray((q @ g @ r).astype(dtype)))), q @ p @ r, atol=atol)
    flipped = np.ascontiguousarray(np.swapaxes(g, -1, -2))
    np.testing.assert_allclose(to_host(algorithm(xp.asarray(flipped))), np.swapaxes(p, -1, -2), atol=atol)
    np.testing.assert_allclose(to_host(algorithm(xp.asarray(g[1, 1]))), p[1, 1], atol=atol)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("bad", [np.nan, np.inf, 0.0, 1e-7], ids=["nan", "infinity", "zero", "ill-conditioned"])
def test_no_bit_of_a_member_depends_on_its_neighbors(xp, name, bad):
    clean = generic((3, 4, 3), 6)
    other = clean.copy()
    other[1] = bad if bad != 1e-7 else with_factor([1.0, bad, bad], 4, 3)[0]
    before, after = (to_host(ALGORITHMS[name](xp.asarray(x))) for x in (clean, other))
    np.testing.assert_array_equal(after[[0, 2]], before[[0, 2]])
    if not np.isfinite(bad):
        assert np.all(np.isnan(after[1]))
    if bad == 0.0:
        np.testing.assert_array_equal(after[1], np.zeros((4, 3)))


@pytest.mark.parametrize("name", NAMES)
def test_a_batch_with_every_kind_of_member_is_put_back_in_order(xp, name):
    kinds = [generic((4, 3), 8), np.zeros((4, 3)), np.outer(np.ones(4), [1.0, 2.0, 3.0]), generic((4, 3), 9)]
    kinds += [with_factor([1.0, 1e-3, 10.0**-k], 4, 3, k)[0] for k in range(3, 8)]
    p = to_host(ALGORITHMS[name](xp.asarray(np.stack(kinds))))
    for one, g in zip(p, kinds, strict=True):
        np.testing.assert_allclose(one, to_host(ALGORITHMS[name](xp.asarray(g))), atol=1e7 * rounding(g))


@pytest.mark.parametrize("name", NAMES)
def test_empty_batches_stay_empty(xp, name):
    for shape in ((0, 4, 3), (2, 0, 3, 5)):
        assert ALGORITHMS[name](xp.asarray(np.zeros(shape))).shape == shape


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("scale", [5e-324, 1e-308, 1e-300, 1.7e308])
def test_both_ends_of_the_floating_point_range_are_served(xp, name, scale):
    g = np.array([[scale, 0.0], [0.0, -scale], [0.0, 0.0]])
    np.testing.assert_allclose(
        to_host(ALGORITHMS[name](xp.asarray(g))), [[1, 0], [0, -1], [0, 0]], atol=8 * EPS, rtol=0
    )


@pytest.mark.parametrize("name", NAMES)
def test_what_is_no_floating_matrix_is_refused(xp, name):
    with pytest.raises(ValueError, match=r"needs a matrix, shape \(\.\.\., m, n\); got shape \(7,\)"):
        ALGORITHMS[name](xp.asarray(np.zeros(7)))
    with pytest.raises(ValueError, match="needs at least one entry"):
        ALGORITHMS[name](xp.asarray(np.zeros((0, 3))))
    with pytest.raises(TypeError, match="needs float32, float64, complex64 or complex128; got int64"):
        ALGORITHMS[name](xp.asarray(np.eye(2, dtype=int)))


# The reduction: QR, bound, rank


@settings(max_examples=50, deadline=None)
@given(exponent=st.floats(0, 11), size=st.integers(1, 12), seed=st.integers(0, 10**6))
def test_the_measured_bound_is_a_power_of_four_below_the_true_ratio_and_not_much(exponent, size, seed):
    s = 10.0 ** -np.linspace(0, exponent if size > 1 else 0.0, size)
    r = np.linalg.qr(with_factor(s, size, size, seed)[0])[1]
    top, (bound,) = spectrum_bounds(r[None], floor=size * EPS)
    ratio = s[-1] / top[0]
    assert s[0] * (1 - 1e-12) <= top[0] <= np.sqrt(size) * s[0] * (1 + 1e-12)
    assert bound <= ratio * (1 + 1e-3)  # the inverse is as accurate as the condition permits, 1e11 eps n
    assert bound >= ratio / (4 * np.sqrt(size)) * (1 - 1e-3) or bound == 0.25
    assert np.log2(bound) % 2 == 0
    assert bound <= 0.25


def test_singular_and_doubtful_matrices_have_the_bound_zero():
    r = np.stack([np.zeros((3, 3)), np.diag([1.0, 1.0, 0.0]), np.diag([1.0, 1.0, 1e-16]), np.eye(3)])
    r[2, 0, 2] = 1.0
    np.testing.assert_array_equal(spectrum_bounds(r, floor=3 * EPS)[1], [0, 0, 0, 0.25])
    # an inverse that overflows: no number is made of it
    huge = np.eye(200) - np.triu(np.full((200, 200), 40.0), 1)
    assert spectrum_bounds(huge[None], floor=200 * EPS)[1] == 0


def test_the_bound_of_the_spectral_norm_is_the_smaller_of_two():
    assert operator_norm_bound(np.eye(9)[None])[0] == 1  # the Frobenius norm is 3
    ones = np.ones((1, 4, 4))
    ones[0, 0, 1:] = ones[0, 1:, 0] = 0
    assert operator_norm_bound(ones)[0] == pytest.approx(3, rel=4 * EPS)
    g = generic((50, 6, 6), 3)
    assert np.all(operator_norm_bound(g) >= np.linalg.norm(g, 2, axis=(-2, -1)))


@pytest.mark.parametrize("name", NAMES)
def test_the_rank_is_decided_by_the_rule_of_numpy(name):
    floor = 6 * EPS
    for small, rank in ((0.01 * floor, 2), (100 * floor, 3)):
        g, _ = with_factor([1.0, 0.5, small], 6, 6, 3)
        s = np.linalg.svd(ALGORITHMS[name](g), compute_uv=False)
        np.testing.assert_allclose(s, [1, 1, rank - 2, 0, 0, 0], atol=8 * rounding(g))


def test_without_the_decision_on_the_rank_an_iteration_invents_singular_values():
    g, expected = with_factor([1.0, 0.5, 0.0], 3, 3, 4)

    def qdwh_alone(x):
        for step in qdwh_steps(EPS):
            x = step.apply(x)
        return x

    np.testing.assert_allclose(qdwh(g), expected, atol=rounding(g))
    assert np.linalg.norm(qdwh_alone(g) - expected, 2) > 0.1


@pytest.mark.parametrize("algorithm", [newton, qdwh, zolo_pd])
@pytest.mark.parametrize("low", [1e-16, EPS, 1e-6, 0.5])
def test_a_lower_bound_of_ones_own_is_used_for_the_weights(xp, algorithm, low):
    g, expected = with_factor([1.0, 0.9, 0.8], 5, 3, 5)
    np.testing.assert_allclose(to_host(algorithm(xp.asarray(g), low=low)), expected, atol=rounding(g))


@pytest.mark.parametrize("low", [0.0, -1.0, 1.0, 2.0, np.nan])
def test_a_lower_bound_outside_the_unit_interval_is_refused(low):
    with pytest.raises(ValueError, match=r"low must lie in \(0, 1\)"):
        qdwh(np.eye(2), low=low)


def test_the_solver_sees_nonsingular_square_matrices_in_the_unit_ball_with_their_bound():
    seen = []

    def solve(x, low):
        s = np.linalg.svd(x, compute_uv=False)
        assert x.shape[-1] == x.shape[-2] == 3
        assert s.max() <= 1 + 8 * EPS
        assert s.min() >= low
        seen.append((low, len(x)))
        return polar_factor(x)

    batch = np.stack([with_factor([1.0, 0.5, 10.0**-k], 5, 3, k)[0] for k in (0, 0, 6, 30)])
    through_square(batch, "test", solve)
    assert sorted(count for _, count in seen) == [1, 2]  # the fourth has rank two
    assert min(low for low, _ in seen) <= 1e-6


# Jacobi


@pytest.mark.parametrize("k", [2, 4, 6, 8, 14])
def test_every_pair_of_columns_meets_exactly_once_in_a_tournament(k):
    columns, met = np.arange(k), []
    for half, order in _tournament(k, np.random.default_rng(0)):
        columns = columns[order]
        met += [frozenset(pair) for pair in zip(columns[:half], columns[half:], strict=True)]
    assert sorted(map(sorted, met)) == sorted(map(list, itertools.combinations(range(k), 2)))


@pytest.mark.parametrize("pivots", ["cyclic", "random"])
@pytest.mark.parametrize("k", [1, 2, 5, 8])
@pytest.mark.parametrize("dtype", ["float64", "complex128"])
def test_one_sided_jacobi_is_a_singular_value_decomposition(xp, pivots, k, dtype):
    g = generic((3, 9, k), 11, dtype)
    x, v, sweeps = orthogonalize_columns(xp.asarray(g), pivots=pivots)
    x, v = to_host(x), to_host(v)
    np.testing.assert_allclose(g @ v, x, atol=rounding(g))
    np.testing.assert_allclose(v @ np.conj(np.swapaxes(v, -1, -2)), np.broadcast_to(np.eye(k), (3, k, k)), atol=1e-13)
    s = -np.sort(-np.linalg.norm(x, axis=-2), axis=-1)[..., :k]
    np.testing.assert_allclose(s, np.linalg.svd(g, compute_uv=False), rtol=1e-13)
    assert sweeps <= (10 if pivots == "cyclic" else 40)


def test_jacobi_finds_small_singular_values_of_a_graded_matrix_to_all_digits():
    # B with unit columns and a condition of a few, scaled by columns: relative accuracy, where the SVD is lost
    n = 6
    b = rotation(n, np.random.default_rng(12)) + 0.1 * generic((n, n), 12)
    b /= np.linalg.norm(b, axis=0)
    g = b * 10.0 ** -np.array([15.0, 0.0, 9.0, 3.0, 12.0, 6.0])
    exact = np.array(sorted((float(x) for x in exact_singular_values(g)), reverse=True))
    ours = np.sort(np.linalg.norm(orthogonalize_columns(g)[0], axis=0))[::-1]
    np.testing.assert_allclose(ours, exact, rtol=64 * n * EPS)
    assert np.abs(np.linalg.svd(g, compute_uv=False) / exact - 1).max() > 64 * n * EPS


def exact_singular_values(g):
    with mpmath.workdps(60):
        return mpmath.svd_r(mpmath.matrix(g.tolist()), compute_uv=False)


def test_the_seed_and_nothing_else_decides_the_random_pivots(xp):
    g = generic((7, 6), 13)
    one, same = (to_host(jacobi(xp.asarray(g), pivots="random", rng=3)) for _ in range(2))
    np.testing.assert_array_equal(one, same)
    np.testing.assert_allclose(one, jacobi(g, pivots="random", rng=3), atol=1e3 * EPS)
    assert np.any(one != to_host(jacobi(xp.asarray(g), pivots="random", rng=4)))
    with pytest.raises(UnknownName, match="Unknown pivots 'ciclic'; did you mean 'cyclic'"):
        jacobi(g, pivots="ciclic")


@pytest.mark.parametrize("dtype", ["float64", "complex128"])
def test_a_two_sided_rotation_annihilates_its_pivot_keeps_the_eigenvalues_and_removes_its_square(xp, dtype):
    a = generic((4, 5, 5), 14, dtype)
    a = a + np.conj(np.swapaxes(a, -1, -2))
    p, q = np.array([0, 1, 2, 4]), np.array([1, 4, 3, 0])
    rotated = to_host(rotate_hermitian(xp.asarray(a), xp.asarray(p), xp.asarray(q)))
    index = np.arange(4)
    np.testing.assert_allclose(rotated[index, p, q], 0, atol=1e-14)
    np.testing.assert_allclose(np.linalg.eigvalsh(rotated), np.linalg.eigvalsh(a), atol=1e-13)
    removed = to_host(off_square(xp.asarray(a))) - off_square(rotated)
    np.testing.assert_allclose(removed, 2 * np.abs(a[index, p, q]) ** 2, atol=1e-12)


@pytest.mark.parametrize("pivots", ["cyclic", "random"])
def test_sweeps_diagonalize_and_keep_the_eigenvalues(xp, pivots):
    a = generic((2, 4, 4), 16, "complex128")
    a = a + np.conj(np.swapaxes(a, -1, -2))
    b = xp.asarray(a)
    for seed in range(40 if pivots == "random" else 8):
        b = hermitian_sweep(b, pivots=pivots, rng=seed)
    b = to_host(b)
    assert off_square(b).max() < 1e-20
    diagonal = np.sort(np.diagonal(b, axis1=-2, axis2=-1).real, axis=-1)
    np.testing.assert_allclose(diagonal, np.linalg.eigvalsh(a), atol=1e-12)


# The Gram matrix


def test_the_gram_eigendecomposition_loses_the_square_of_the_condition_and_stops_in_time():
    errors = {}
    for condition in (1e1, 1e2, 1e3, 5e3, 1e4):
        g, expected = with_factor(np.geomspace(1, 1 / condition, 16), 24, 16, 15)
        p = gram_eigen(g)
        errors[condition] = np.linalg.norm(p - expected, 2)
        assert np.linalg.norm(p.T @ p - np.eye(16), 2) <= 32 * EPS
    assert errors[5e3] > 8 * 5e3 * EPS  # more than the unavoidable kappa eps
    assert errors[5e3] <= 5e3**2 * EPS * 16
    assert errors[1e4] <= 16 * 1e4 * EPS  # the SVD has taken over, at eps^(-1/4) = 8192
