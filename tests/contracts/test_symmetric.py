"""The operations of plans: SciPy's BLAS against the array-API formulas, on every layout.

A product of n terms carries a relative error of n eps at most; an inverse that times its condition number.
"""

import numpy as np
import pytest
from conftest import eps_of

from orthotheory.polar.symmetric import Blas, NotPositiveDefinite, Reference, Triangle, diagonal, moderate

SIDES = (1, 5, 64, 65, 150, 300)
DTYPES = ("float32", "float64")


def wide(n, dtype, order, seed=0, aspect=2):
    x = np.random.default_rng(seed).standard_normal((n, aspect * n)).astype(dtype)
    return np.asarray(x, order=order)


def whole(p):
    """The symmetric matrix of a triangle; the other triangle may hold anything."""
    if not isinstance(p, Triangle):
        return p
    return np.triu(p.a) + np.triu(p.a, 1).T


def tolerance(x, factor=1.0):
    return 8 * x.shape[-1] * eps_of(x) * factor


def both(n, dtype, order="C"):
    """x, then (operations, Gram matrix, another function of it) for both implementations."""
    x = wide(n, dtype, order)
    rows = []
    for ops in (Blas(), Reference()):
        gram = ops.gram(x)
        rows.append((ops, gram, ops.inverse(gram, float(n))))
    return x, rows


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("n", SIDES)
def test_gram_product_sum_and_inverse_agree_with_the_formulas(n, order, dtype):
    x, ((fast, r, w), (plain, r0, w0)) = both(n, dtype, order)
    size = np.linalg.norm(r0, 2)
    np.testing.assert_allclose(whole(r), r0, atol=tolerance(x, size))
    condition = (size + n) / n
    np.testing.assert_allclose(whole(w), w0, atol=tolerance(x, condition / n))
    np.testing.assert_allclose(whole(w) @ (r0 + n * np.eye(n)), np.eye(n), atol=tolerance(x, condition))
    np.testing.assert_allclose(whole(fast.product(r, r)), plain.product(r0, r0), atol=tolerance(x, size**2))
    np.testing.assert_allclose(whole(fast.product(r, w)), plain.product(r0, w0), atol=tolerance(x, size * condition))
    np.testing.assert_allclose(
        whole(fast.product(r, r, 0.5, 2.0, fast.copy(w))),
        plain.product(r0, r0, 0.5, 2.0, w0),
        atol=tolerance(x, size**2),
    )
    np.testing.assert_allclose(
        whole(fast.combine(3.0, [(2.0, r), (-1.0, w)])),
        plain.combine(3.0, [(2.0, r0), (-1.0, w0)]),
        atol=tolerance(x, size),
    )
    np.testing.assert_allclose(whole(fast.add(fast.copy(r), -2.0, w)), plain.add(r0, -2.0, w0), atol=tolerance(x, size))
    np.testing.assert_allclose(whole(fast.shift(fast.copy(r), 7.0)), plain.shift(r0, 7.0), atol=tolerance(x, size))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("n", SIDES)
def test_products_with_the_matrix_keep_its_layout_and_agree(n, order, dtype):
    x, ((fast, r, _), (plain, r0, _)) = both(n, dtype, order)
    y = fast.apply(r, x, 0.25)
    assert y.flags[f"{order}_CONTIGUOUS"]
    assert y.dtype == x.dtype
    np.testing.assert_allclose(y, plain.apply(r0, x, 0.25), atol=tolerance(x, np.linalg.norm(x, 2) ** 3))
    v = x[:, 0].copy()
    np.testing.assert_allclose(fast.matvec(r, v), plain.matvec(r0, v), atol=tolerance(x, np.linalg.norm(x, 2) ** 3))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("n", SIDES)
def test_norms_and_trace_read_one_triangle_and_agree(n, dtype):
    x, ((fast, r, _), (plain, r0, _)) = both(n, dtype)
    r.a[np.tril_indices(n, -1)] = np.nan  # what is not the triangle must not be read
    for name in ("trace", "frobenius", "row_sum", "largest_eigenvalue"):
        assert float(getattr(fast, name)(r)) == pytest.approx(float(getattr(plain, name)(r0)), rel=tolerance(x)), name


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("order", ["C", "F"])
def test_newton_and_qr_agree_up_to_the_signs_of_the_rows(order, dtype):
    x = wide(70, dtype, order, aspect=1)
    condition = np.linalg.cond(x)
    np.testing.assert_allclose(
        Blas().newton(x, 0.3),
        Reference().newton(x, 0.3),
        atol=tolerance(x, condition * np.linalg.norm(np.linalg.inv(x), 2)),
    )
    x = wide(70, dtype, order)
    back, square = Blas().qr(x)
    assert square.shape == (70, 70)
    np.testing.assert_allclose(back(square), x, atol=tolerance(x, np.linalg.norm(x, 2)))
    eye = np.eye(70, dtype=dtype)
    np.testing.assert_allclose(back(eye) @ back(eye).T, eye, atol=tolerance(x))


def test_scratch_that_comes_back_dirty_does_no_harm():
    x = wide(130, "float64", "C")
    ops = Blas()
    first = whole(ops.inverse(ops.gram(x), 1.0)).copy()
    for _ in range(3):
        p = ops.gram(x)
        p.a[np.tril_indices(130, -1)] = np.nan
        w = ops.inverse(p, 1.0)
        np.testing.assert_array_equal(whole(w), first)
        w.a[...] = np.inf
        ops.free(p, w)


@pytest.mark.parametrize("dtype", DTYPES)
def test_an_indefinite_matrix_is_said_to_be_so(dtype):
    ops = Blas()
    gram = ops.gram(wide(130, dtype, "C"))
    with pytest.raises(NotPositiveDefinite):
        ops.inverse(gram, -100.0)


def test_a_copy_is_another_matrix_and_the_diagonal_a_view():
    ops = Blas()
    gram = ops.gram(wide(5, "float64", "C"))
    before = whole(gram).copy()
    ops.shift(ops.copy(gram), 3.0)
    np.testing.assert_array_equal(whole(gram), before)
    diagonal(gram.a)[...] = 0
    assert ops.trace(gram) == 0


@pytest.mark.parametrize(
    ("square", "expected"), [(1.0, True), (0.0, False), (1e-200, False), (1e30, False), (np.nan, False)]
)
def test_moderate_leaves_room_for_fourth_powers_in_float32(square, expected):
    assert moderate(square, np.dtype("float32")) is expected
