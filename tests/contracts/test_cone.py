"""The cone projector against enumeration in extended precision, and the theorems of projections on cones.

Tolerances: a multiplier solved on the Gramian has relative error eps / pivot with pivots above 1e-2, and everything
below is corrected in doubled precision; 1e-12 leaves two decades, the project asks for 1e-10.
"""

import numpy as np
import pytest
from conftest import eps_of
from jacobians import families, length, project, unit

from orthotheory.arrays import device_of, dtype_name, to_host
from orthotheory.surgery import cone
from orthotheory.surgery.compensated import dot

SHAPES = [(2, 5), (3, 12), (4, 2), (5, 3), (5, 12), (5, 1)]
ALL_FAMILIES = list(families(1, 3, 4))


def kkt(jacobian, g, found):
    """Largest violation of the conditions for unit rows and unit g, each measured on its own, in extended precision."""
    wide = np.longdouble
    size = np.max(np.abs(g), axis=-1, keepdims=True)
    size = np.where(size > 0, size, 1.0)
    j, g, x = jacobian.astype(wide), (g / size).astype(wide), (found.point / size).astype(wide)
    reach = length(g)[..., 0]
    hx = x @ np.swapaxes(unit(j), -1, -2)
    v = (found.multipliers / size).astype(wide) * length(j)[..., 0][..., None, :]
    stationarity = length(x - g - v @ unit(j))[..., 0] / np.maximum(1, v.max(axis=-1))
    residuals = [np.max(-hx, axis=-1), np.max(-v, axis=-1), np.max(np.abs(np.minimum(v, hx)), axis=-1), stationarity]
    alive = np.any(j != 0, axis=-1).any(axis=-1)[..., None] & (reach > 0)
    return max(float(np.max(np.where(alive, r / np.where(reach > 0, reach, 1), 0))) for r in residuals)


@pytest.mark.parametrize("label", ALL_FAMILIES)
def test_every_kkt_condition_holds_to_1e_12_on_the_hard_suite(label):
    for m, n in [*SHAPES, (8, 6), (16, 30), (12, 4)]:
        jacobian = families(12, m, n)[label]
        found = cone.project(jacobian, jacobian)
        assert found.residual.max() <= 1e-12
        if label not in ("tiny", "huge"):  # multipliers of rows of 1e-150 are fine, their products in the check are not
            assert kkt(jacobian, jacobian, found) <= 1e-12


@pytest.mark.parametrize("label", ALL_FAMILIES)
@pytest.mark.parametrize("route", ["auto", "rows"])
def test_the_projection_is_the_enumerated_one(label, route):
    for m, n in SHAPES:
        jacobian = families(20, m, n, seed=1)[label]
        scale = np.max(np.abs(jacobian), axis=(-2, -1), keepdims=True)
        scale = np.where(scale > 0, scale, 1.0)
        g = scale * np.random.default_rng(m).standard_normal((20, 2, n))
        error = length(cone.project(jacobian, g, route=route).point / scale - project(jacobian, g / scale))
        assert (error / length(g / scale)).max() <= 1e-12


def test_a_certificate_fails_for_a_point_that_is_not_the_projection():
    jacobian = families(20, 4, 6)["conflicting"]
    found = cone.project(jacobian, jacobian)
    moved = found._replace(point=found.point + 1e-6, multipliers=found.multipliers)
    assert kkt(jacobian, jacobian, moved) > 1e-9


def test_the_naive_gramian_route_fails_where_the_rows_do_not():
    """The failure gallery: rows opposite to 1e-6, solved on the Gramian alone, miss the projection by far."""
    jacobian = families(50, 4, 6)["nearly opposite rows"]
    h = unit(jacobian)
    v, hard = cone.by_gramian(h @ np.swapaxes(h, 1, 2), h @ np.swapaxes(h, 1, 2))
    naive = h + np.where(np.isfinite(v), v, 0) @ h
    true = project(h, h)
    assert hard.any()
    assert length(naive - true).max() > 1e-7
    assert length(cone.project(h, h).point - true).max() <= 1e-12


def test_moreau_the_two_parts_are_orthogonal_and_the_projection_is_idempotent():
    for label, jacobian in families(20, 4, 6, seed=3).items():
        if label in ("tiny", "huge", "zero"):
            continue
        g = np.random.default_rng(0).standard_normal((20, 3, 6))
        x = cone.project(jacobian, g).point
        assert np.abs(np.sum(x * (x - g), axis=-1)).max() <= 1e-12 * (g**2).sum(axis=-1).max()
        assert np.abs(cone.project(jacobian, x).point - x).max() <= 1e-11


def test_the_projection_never_lengthens_a_difference():
    rng = np.random.default_rng(0)
    jacobian = families(50, 5, 6)["conflicting"]
    a, b = rng.standard_normal((2, 50, 4, 6))
    gap = length(cone.project(jacobian, a).point - cone.project(jacobian, b).point)
    assert np.all(gap <= length(a - b) * (1 + 1e-12))


def test_a_point_of_the_cone_stays_exactly():
    jacobian = families(20, 3, 6)["generic"]
    inside = np.linalg.pinv(jacobian) @ np.abs(np.random.default_rng(0).standard_normal((20, 3, 1)))  # J x > 0
    found = cone.project(jacobian, inside[..., 0])
    assert np.array_equal(found.point, inside[..., 0])
    assert not found.multipliers.any()


def test_powers_of_two_on_rows_and_points_change_nothing():
    rng = np.random.default_rng(0)
    jacobian = families(20, 4, 6)["nearly opposite rows"]
    g = rng.standard_normal((20, 2, 6))
    rows, points = 2.0 ** rng.integers(-30, 30, (20, 4, 1)), 2.0 ** rng.integers(-30, 30, (20, 2, 1))
    expected = points * cone.project(jacobian, g).point
    assert np.array_equal(cone.project(rows * jacobian, points * g).point, expected)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_every_backend_gives_the_same_projection(xp, dtype):
    jacobian = families(6, 4, 5)["small integers"].reshape(2, 3, 4, 5).astype(dtype)
    g = np.random.default_rng(0).standard_normal((2, 3, 5)).astype(dtype)
    found = cone.project(xp.asarray(jacobian), xp.asarray(g))
    expected = cone.project(jacobian, g)
    assert dtype_name(found.point) == dtype
    assert device_of(found.point) == xp.device
    assert found.residual.shape == (2, 3)
    # the same float64 arithmetic in another order of sums
    np.testing.assert_allclose(to_host(found.point), expected.point, atol=32 * eps_of(g) + 1e-13)


def test_extremes_have_defined_answers():
    jacobian = np.array([[1e300, -1e300], [0.0, 1e-300]])
    found = cone.project(jacobian, np.array([-1e300, 1e300]))
    np.testing.assert_allclose(found.point, [0.0, 0.0], atol=1e284)
    assert found.residual <= 1e-15
    assert cone.project(np.zeros((3, 2)), np.array([1.0, -2.0])).point.tolist() == [1.0, -2.0]
    assert cone.project(np.eye(2), np.zeros(2)).point.tolist() == [0.0, 0.0]
    assert cone.project(np.zeros((0, 3, 2)), np.zeros((0, 2))).point.shape == (0, 2)
    assert cone.project(np.ones((4, 3, 2)), np.zeros((4, 0, 2))).point.shape == (4, 0, 2)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_bad_row_is_refused_by_name(bad):
    jacobian = np.ones((2, 3, 4))
    jacobian[1, 2, 0] = bad
    with pytest.raises(ValueError, match=r"row 2 of Jacobian \(1,\)"):
        cone.project(jacobian, np.ones((2, 4)))
    with pytest.raises(ValueError, match="row 0"):
        cone.project(np.ones((3, 4)), np.full(4, bad))


def test_wrong_shapes_dtypes_and_routes_are_refused():
    with pytest.raises(ValueError, match=r"g of shape \(..., n\)"):
        cone.project(np.ones((3, 4)), np.ones(3))
    with pytest.raises(TypeError, match="one dtype"):
        cone.project(np.ones((3, 4)), np.ones(4, "float32"))
    with pytest.raises(ValueError, match="route must be"):
        cone.project(np.ones((3, 4)), np.ones(4), route="gram")
    with pytest.raises(TypeError, match="float32"):
        cone.project(np.ones((3, 4), dtype=int), np.ones(4, dtype=int))


def test_compensated_dot_products_carry_doubled_precision():
    from fractions import Fraction

    rng = np.random.default_rng(0)
    for size in (1, 2, 3, 7, 64):
        a, b = rng.standard_normal((2, size)) * 10.0 ** rng.uniform(-8, 8, (2, size))
        high, low = dot(a, b)
        exact = sum(Fraction(float(s)) * Fraction(float(t)) for s, t in zip(a, b, strict=True))
        reach = sum(abs(Fraction(float(s)) * Fraction(float(t))) for s, t in zip(a, b, strict=True))
        error = abs(Fraction(float(high)) + Fraction(float(low)) - exact)
        assert error <= size * (2.0**-53) ** 2 * 8 * reach
        assert error < abs(Fraction(float(a @ b)) - exact) or error <= 2.0**-80 * reach


@pytest.mark.slow
def test_ten_thousand_jacobians_in_extended_precision(capsys):
    count, worst = 0, 0.0
    for m, n in SHAPES:
        for label, jacobian in families(155, m, n, seed=7).items():
            if label in ("tiny", "huge", "zero"):
                continue
            found = cone.project(jacobian, jacobian)
            error = length(found.point - project(jacobian, jacobian))[..., 0]
            size = length(jacobian)[..., 0]
            worst = max(worst, float((error / np.where(size > 0, size, 1)).max()))
            assert found.residual.max() <= 1e-12
            count += len(jacobian)
    with capsys.disabled():
        print(f"\n{count} Jacobians, all rows projected: largest relative error {worst:.1e}")
    assert worst <= 1e-10


def test_where_scipys_active_set_method_stops_early_the_projection_does_not():
    """Rows (-x, -1) of the lifted least-norm problem of (3, -3), (0, -3), (-2, -3), (2, -3): thrice dependent."""
    from scipy.optimize import nnls

    rows = -np.array([[3.0, -3.0, 3.0], [0.0, -3.0, 3.0], [-2.0, -3.0, 3.0], [2.0, -3.0, 3.0]])
    e = np.array([0.0, 0.0, 1.0])
    found = cone.project(rows, e)
    assert found.residual <= 1e-14
    np.testing.assert_allclose(found.point, project(rows[None], e[None, None])[0, 0].astype(float), atol=1e-15)
    a = unit(rows).T
    ours = cone.lawson_hanson(a, -e)
    assert np.linalg.norm(a @ ours + e) <= nnls(a, -e)[1] * (1 + 1e-14)
    rng = np.random.default_rng(0)
    for _ in range(500):
        a = unit(rng.integers(-2, 3, (5, 3)).astype(float)).T
        b = rng.integers(-2, 3, 3) + 0.0
        v = cone.lawson_hanson(a, b)
        assert np.abs(np.minimum(v, a.T @ (a @ v - b)))[np.any(a != 0, axis=0)].max(initial=0) <= 1e-13
