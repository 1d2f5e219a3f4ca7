"""QR bases are orthonormal and are not polar factors; power steps and sketches against what they converge to."""

import numpy as np
import pytest
from conftest import hard_matrices
from test_polar_algorithms import EPS, SHAPES, generic, rounding, unitary, with_factor

from orthotheory.arrays import device_of, dtype_name, to_host
from orthotheory.polar import polar_factor
from orthotheory.polar import qr as module
from orthotheory.polar.qr import cholesky_qr2, householder_qr, randomized_cholesky_qr
from orthotheory.polar.subspace import power_step, randomized_polar

BASES = {"householder": householder_qr, "cholesky twice": cholesky_qr2, "randomized": randomized_cholesky_qr}
every_basis = pytest.mark.parametrize("basis", BASES.values(), ids=BASES.keys())


def tall(x):
    return x if x.shape[-2] >= x.shape[-1] else np.conj(np.swapaxes(x, -1, -2))


def gram(x):
    return np.conj(np.swapaxes(x, -1, -2)) @ x


def identity_like(x):
    return np.broadcast_to(np.eye(x.shape[-1]), (*x.shape[:-2], x.shape[-1], x.shape[-1]))


# QR


@every_basis
@pytest.mark.parametrize("dtype", ["float64", "float32", "complex128", "complex64"])
@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES.keys())
def test_a_basis_times_a_triangle_with_a_positive_diagonal_is_the_matrix(xp, basis, shape, dtype):
    g = generic(shape, dtype=dtype)
    q = basis(xp.asarray(g))
    assert dtype_name(q) == dtype
    assert device_of(q) == xp.device
    assert q.shape == shape
    q, g = tall(to_host(q)), tall(g)
    np.testing.assert_allclose(gram(q), identity_like(q), atol=rounding(g))
    r = np.conj(np.swapaxes(q, -1, -2)) @ g
    np.testing.assert_allclose(np.tril(r, -1), 0, atol=rounding(g) * np.abs(g).max())
    diagonal = np.diagonal(r, axis1=-2, axis2=-1)
    assert np.all(diagonal.real > 0)
    np.testing.assert_allclose(diagonal.imag, 0, atol=rounding(g) * np.abs(g).max())
    np.testing.assert_allclose(q @ r, g, atol=rounding(g) * np.abs(g).max())


@every_basis
@pytest.mark.parametrize("label", [label for label in hard_matrices() if label != "empty batch"])
def test_the_columns_are_orthonormal_at_every_rank(xp, basis, label):
    g = hard_matrices()[label]
    q = tall(to_host(basis(xp.asarray(g))))
    np.testing.assert_allclose(gram(q), identity_like(q), atol=2 * rounding(g))


@every_basis
def test_full_rank_makes_the_basis_unique_and_the_scale_does_not_matter(basis):
    g = with_factor(np.geomspace(1, 1e-5, 6), 300, 6, 1)[0]
    expected = np.linalg.qr(g)
    expected = expected.Q * np.sign(np.diag(expected.R))
    np.testing.assert_allclose(basis(g), expected, atol=1e5 * 6 * EPS)
    for exponent in (-990, 990):
        np.testing.assert_array_equal(basis(g * 2.0**exponent), basis(g))


@every_basis
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_member_that_is_not_finite_gives_nan_and_leaves_its_neighbors_untouched(xp, basis, bad):
    clean = generic((3, 5, 2), 2)
    dirty = clean.copy()
    dirty[1, 0, 1] = bad
    before, after = (to_host(basis(xp.asarray(x))) for x in (clean, dirty))
    np.testing.assert_array_equal(after[[0, 2]], before[[0, 2]])
    assert np.all(np.isnan(after[1]))
    assert basis(xp.asarray(np.zeros((0, 4, 3)))).shape == (0, 4, 3)


@every_basis
def test_a_basis_is_not_the_polar_factor_unless_the_columns_are_orthogonal(basis):
    g = generic((40, 8), 3)
    assert np.linalg.norm(basis(g) - polar_factor(g), 2) > 0.1
    order = np.random.default_rng(0).permutation(8)
    assert np.linalg.norm(basis(g[:, order]) - basis(g)[:, order], 2) > 0.1  # it depends on the order of the columns
    np.testing.assert_allclose(polar_factor(g[:, order]), polar_factor(g)[:, order], atol=rounding(g))
    orthogonal = polar_factor(g) * np.arange(1.0, 9.0)
    np.testing.assert_allclose(basis(orthogonal), polar_factor(orthogonal), atol=rounding(g))


@pytest.mark.parametrize("dtype", ["float64", "complex128"])
def test_one_cholesky_qr_loses_the_square_of_the_condition_and_the_second_repairs_it(dtype):
    for condition in (1e2, 1e4, 1e6):
        g = with_factor(np.geomspace(1, 1 / condition, 8), 50, 8, 4, dtype)[0]
        once, sound = module._cholesky_qr(g)
        assert np.all(sound)
        defect = np.linalg.norm(gram(once) - np.eye(8), 2)
        assert 1e-3 * condition**2 * EPS < defect < 8 * condition**2 * EPS + 64 * EPS
        assert np.linalg.norm(gram(cholesky_qr2(g)) - np.eye(8), 2) <= 32 * EPS


def test_past_its_condition_cholesky_hands_over_to_householder_and_the_sketched_one_does_not(monkeypatch):
    called = []
    original = module._signed_qr
    monkeypatch.setattr(module, "_signed_qr", lambda x: (called.append(x.shape), original(x))[1])
    for condition, calls in ((1e5, 0), (1e10, 1)):
        g = with_factor(np.geomspace(1, 1 / condition, 8), 300, 8, 5)[0]
        called.clear()
        np.testing.assert_allclose(gram(cholesky_qr2(g)), np.eye(8), atol=64 * EPS)
        assert called == [(300, 8)] * calls
        called.clear()
        np.testing.assert_allclose(gram(randomized_cholesky_qr(g)), np.eye(8), atol=64 * EPS)
        assert called == [(128, 8)]  # the sketch alone: 128 ceil(1.25 * 8 / 128) rows


def test_the_sketch_is_drawn_from_the_seed_and_square_and_wide_matrices_need_none(xp):
    g = generic((200, 4), 6)
    one, same, other = (to_host(randomized_cholesky_qr(xp.asarray(g), rng)) for rng in (1, 1, 2))
    np.testing.assert_array_equal(one, same)
    assert np.any(one != other)
    np.testing.assert_allclose(one, other, atol=rounding(g))  # Q is unique
    for shape in ((4, 4), (4, 6)):
        h = generic(shape, 7)
        np.testing.assert_array_equal(
            to_host(randomized_cholesky_qr(xp.asarray(h))), to_host(householder_qr(xp.asarray(h)))
        )


@every_basis
def test_what_is_no_floating_matrix_is_refused(basis):
    with pytest.raises(ValueError, match="needs a matrix"):
        basis(np.zeros(3))
    with pytest.raises(TypeError, match="got int64"):
        basis(np.eye(3, dtype=int))


# Dion's power step


@pytest.mark.parametrize("dtype", ["float64", "complex128"])
def test_a_power_step_is_dions_formula(xp, dtype):
    m, q = generic((2, 7, 5), 8, dtype), generic((2, 5, 3), 9, dtype)
    step = power_step(xp.asarray(m), xp.asarray(q))
    p = householder_qr(m @ q)
    r = np.conj(np.swapaxes(m, -1, -2)) @ p
    np.testing.assert_allclose(to_host(step.p), p, atol=rounding(m))
    np.testing.assert_allclose(to_host(step.r), r, atol=rounding(m) * np.abs(r).max())
    np.testing.assert_allclose(to_host(step.q), r / np.linalg.norm(r, axis=-2, keepdims=True), atol=rounding(m))
    assert device_of(step.q) == xp.device
    assert dtype_name(step.q) == dtype


def test_power_steps_converge_to_the_polar_factor_of_the_leading_part():
    s = np.array([8.0, 4.0, 2.0, 0.2, 0.1])
    m, _ = with_factor(s, 7, 5, 10)
    leading = with_factor(s * (s > 1), 7, 5, 10)[1]
    q = generic((5, 3), 11)
    for _ in range(60):
        step = power_step(m, q)
        q = step.q
    np.testing.assert_allclose(step.p @ step.q.T, leading, atol=1e-13)  # (1/2)^(2 * 60) is below the rounding
    np.testing.assert_allclose(step.p @ step.r.T, with_factor(s * (s > 1), 7, 5, 10)[0], atol=1e-12)


def test_from_a_cold_start_the_columns_of_q_have_unit_length_and_are_not_orthogonal():
    step = power_step(generic((9, 6), 12), generic((6, 3), 13))
    np.testing.assert_allclose(np.diag(gram(step.q)), 1, atol=8 * EPS)
    assert np.abs(gram(step.q) - np.eye(3)).max() > 0.05
    # the squared singular values of P Q^T are the eigenvalues of the correlations of the columns
    s = np.linalg.svd(step.p @ step.q.T, compute_uv=False)[:3]
    np.testing.assert_allclose(np.sort(s**2), np.linalg.eigvalsh(gram(step.q)), atol=16 * EPS)


def test_zero_and_not_finite_momenta_keep_the_warm_start(xp):
    m = np.stack([generic((6, 4), 14), np.zeros((6, 4)), np.full((6, 4), np.nan)])
    q = generic((3, 4, 2), 15)
    step = power_step(xp.asarray(m), xp.asarray(q))
    np.testing.assert_array_equal(to_host(step.p)[1:], 0)
    np.testing.assert_array_equal(to_host(step.r)[1:], 0)
    np.testing.assert_array_equal(to_host(step.q)[1:], q[1:])
    np.testing.assert_array_equal(to_host(step.q)[0], to_host(power_step(xp.asarray(m[0]), xp.asarray(q[0])).q))


def test_the_scale_does_not_matter_without_the_authors_epsilon_and_does_with_it():
    m, q = generic((6, 4), 16), generic((4, 2), 17)
    expected = power_step(m, q)
    for scale in (2.0**-900, 2.0**900):
        step = power_step(scale * m, q)
        np.testing.assert_array_equal(step.q, expected.q)
        np.testing.assert_array_equal(step.r, scale * expected.r)
    small = power_step(1e-8 * m, q, epsilon=1e-8)
    length = np.linalg.norm(1e-8 * expected.r, axis=0)
    np.testing.assert_allclose(np.linalg.norm(small.q, axis=0), length / (length + 1e-8), rtol=1e-12)


def test_a_warm_start_that_does_not_fit_is_refused():
    with pytest.raises(ValueError, match=r"q of shape \(\.\.\., 4, rank\) with rank <= 4; got \(5, 2\)"):
        power_step(np.ones((6, 4)), np.ones((5, 2)))
    with pytest.raises(ValueError, match=r"with rank <= 3; got \(4, 4\)"):
        power_step(np.ones((3, 4)), np.ones((4, 4)))
    with pytest.raises(ValueError, match=r"epsilon must lie in \[0, inf\)"):
        power_step(np.ones((3, 4)), np.ones((4, 1)), epsilon=-1.0)


# Randomized polar factors


@pytest.mark.parametrize("dtype", ["float64", "float32", "complex128"])
@pytest.mark.parametrize("shape", [(30, 20), (20, 30), (2, 12, 16)], ids=["tall", "wide", "batch"])
def test_the_randomized_factor_is_exact_when_the_sketch_covers_the_rank(xp, shape, dtype):
    g = (generic((*shape[:-1], 3), 18, dtype) @ generic((*shape[:-2], 3, shape[-1]), 19, dtype)).astype(dtype)
    p = randomized_polar(xp.asarray(g), 3)
    assert dtype_name(p) == dtype
    s = np.linalg.svd(g, compute_uv=False)
    np.testing.assert_allclose(to_host(p), polar_factor(g), atol=(s[..., 0] / s[..., 2]).max() * rounding(g))


@pytest.mark.parametrize("powers", [0, 1, 2])
def test_the_value_of_the_step_is_the_nuclear_norm_of_what_the_sketch_caught(powers):
    s = 0.7 ** np.arange(20)
    g, _ = with_factor(s, 30, 20, 20)
    x = randomized_polar(g, 4, oversampling=4, powers=powers)
    values = np.linalg.svd(x, compute_uv=False)
    np.testing.assert_allclose(values, np.arange(20) < 8, atol=rounding(g))
    caught = np.sum(g * x)
    assert caught <= s[:8].sum() * (1 + 1e-12)  # no subspace of dimension 8 has more (Ky Fan)
    assert caught >= (0.8, 0.98, 0.995)[powers] * s[:8].sum()


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_the_randomized_factor_serves_zero_tiny_huge_and_not_finite_members(xp, bad):
    g = np.stack([generic((6, 5), 21), np.zeros((6, 5)), np.full((6, 5), bad)])
    p = to_host(randomized_polar(xp.asarray(g), 5))
    np.testing.assert_allclose(p[0], polar_factor(g[0]), atol=np.linalg.cond(g[0]) * rounding(g))
    np.testing.assert_array_equal(p[1], 0)
    assert np.all(np.isnan(p[2]))
    for scale in (2.0**-990, 2.0**990):
        np.testing.assert_array_equal(to_host(randomized_polar(xp.asarray(scale * g), 5))[0], p[0])
    assert randomized_polar(xp.asarray(np.zeros((0, 4, 3))), 2).shape == (0, 4, 3)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rank": 0}, "rank must be an integer of at least 1; got 0"),
        ({"rank": 1.5}, "rank must be an integer"),
        ({"rank": 1, "powers": -1}, "powers must be an integer of at least 0; got -1"),
        ({"rank": 1, "oversampling": -2}, "oversampling must be an integer of at least 0; got -2"),
    ],
)
def test_a_sketch_that_cannot_be_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        randomized_polar(np.eye(3), **options)


def test_the_basis_turns_on_the_left_alone():
    g, rng = generic((9, 4), 22), np.random.default_rng(23)
    u, v = unitary(9, rng), unitary(4, rng)
    np.testing.assert_allclose(householder_qr(u @ g), u @ householder_qr(g), atol=np.linalg.cond(g) * rounding(g))
    assert np.linalg.norm(householder_qr(g @ v) - householder_qr(g) @ v, 2) > 0.1
