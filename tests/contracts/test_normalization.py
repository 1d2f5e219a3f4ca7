"""Upper bounds of the spectral norm: never below it, free from the Gram matrix, blind to scale.

A bound from a computed m x m Gram matrix of an m x n matrix has a relative error of at most
(n sqrt(m) + m^2) eps in the worst case; `rounding` is 4 times that.
"""

import numpy as np
import pytest
from conftest import eps_of, hard_matrices

from orthotheory.arrays import device_of, dtype_name, to_host
from orthotheory.names import UnknownName
from orthotheory.polar import Normalization
from orthotheory.polar.normalization import BOUNDS, tightness

SCALINGS = [bound for bound in BOUNDS if bound != "aol"]
SHAPES = {"square": (5, 5), "tall": (7, 3), "wide": (3, 7), "row": (1, 6), "column": (6, 1), "batch": (2, 3, 4, 5)}


def rounding(x) -> float:
    m, n = sorted(x.shape[-2:])
    return 4 * eps_of(x) * (n * m**0.5 + m * m)


def generic(shape, seed=0, dtype="float64"):
    rng = np.random.default_rng(seed)
    x = rng.standard_normal(shape)
    return (x + 1j * rng.standard_normal(shape) if "complex" in dtype else x).astype(dtype)


def independent(bound, g):
    """The bounds from singular values or, where they do not decide, entry by entry; a divisor for each row."""
    s = np.linalg.svd(g, compute_uv=False)
    g = g if g.shape[-2] <= g.shape[-1] else np.swapaxes(g, -1, -2)
    rows = np.sqrt(np.abs(np.einsum("...ik,...jk->...ij", g, g.conj())).sum(axis=-1))
    powers = {"frobenius": 2, "schatten-4": 4, "schatten-8": 8}
    if bound == "aol":
        return rows[..., None]
    value = {"exact": s.max(axis=-1), "row-sum": rows.max(axis=-1)}
    power = powers.get(bound, 2)
    return value.get(bound, (s**power).sum(axis=-1) ** (1 / power))[..., None, None]


@pytest.mark.parametrize("dtype", ["float64", "float32", "complex128", "complex64"])
@pytest.mark.parametrize("bound", BOUNDS)
@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES.keys())
def test_each_rule_divides_by_its_formula_times_the_safety_factor(xp, bound, shape, dtype):
    g = generic(shape, dtype=dtype)
    out = Normalization(bound=bound, safety=1.02)(xp.asarray(g))
    assert dtype_name(out) == dtype
    assert device_of(out) == xp.device
    divisor = 1.02 * independent(bound, g)
    if shape[-2] > shape[-1]:
        divisor = np.swapaxes(divisor, -1, -2)
    np.testing.assert_allclose(to_host(out), g / divisor, rtol=rounding(g))


@pytest.mark.parametrize("label", hard_matrices())
@pytest.mark.parametrize("bound", BOUNDS)
def test_no_hard_matrix_leaves_the_unit_spectral_ball(xp, bound, label):
    g = hard_matrices()[label]
    out = to_host(Normalization(bound=bound)(xp.asarray(g)))
    assert np.all(np.isfinite(out))
    assert np.linalg.svd(out, compute_uv=False).max(initial=0) <= 1 + rounding(g)
    assert np.all((out == 0) == (g == 0))


@pytest.mark.parametrize("bound", BOUNDS)
def test_a_matrix_of_rank_one_attains_every_bound_so_the_top_is_one_over_the_safety_factor(xp, bound):
    rng = np.random.default_rng(1)
    left = rng.choice([-1.0, 1.0], 6) if bound == "row-sum" else rng.standard_normal(6)
    g = np.outer(left, rng.standard_normal(9))
    normalization = Normalization(bound=bound, safety=1.25)
    top = to_host(tightness(normalization, xp.asarray(g)))
    assert normalization.top == 0.8
    np.testing.assert_allclose(top, 0.8, rtol=rounding(g))


@pytest.mark.parametrize("bound", BOUNDS)
@pytest.mark.parametrize("dtype", ["float64", "complex64"])
@pytest.mark.parametrize("given_square", [False, True], ids=["the Gram matrix alone", "its square as well"])
def test_the_divisor_comes_free_with_the_gram_matrix(xp, bound, dtype, given_square):
    g = generic((2, 4, 6), 2, dtype)
    gram = g @ np.conj(np.swapaxes(g, -1, -2))
    square = xp.asarray(gram @ gram) if given_square else None
    normalization = Normalization(bound=bound, safety=1.5)
    divisor = normalization.of_gram(xp.asarray(gram), square)
    assert divisor.shape == ((2, 4, 1) if bound == "aol" else (2, 1, 1))
    np.testing.assert_allclose(to_host(divisor), 1.5 * independent(bound, g), rtol=rounding(g))
    np.testing.assert_allclose(g / to_host(divisor), to_host(normalization(xp.asarray(g))), rtol=rounding(g))


@pytest.mark.parametrize("bound", BOUNDS)
def test_the_gram_of_tiny_huge_zero_and_non_finite_matrices_has_a_defined_divisor(xp, bound):
    gram = np.stack([np.diag([4.0, 1.0])] * 5)
    gram *= np.array([1.0, 1e-300, 1e300, 0.0, np.nan])[:, None, None]
    divisor = to_host(Normalization(bound=bound).of_gram(xp.asarray(gram)))[..., 0, 0]
    unit = to_host(Normalization(bound=bound).of_gram(xp.asarray(gram[:1])))[0, 0, 0]
    np.testing.assert_allclose(divisor[:3] / unit, [1.0, 1e-150, 1e150], rtol=1e-14)
    assert divisor[3] == 1.0
    assert np.isnan(divisor[4])


@pytest.mark.parametrize("bound", BOUNDS)
@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES.keys())
def test_a_power_of_two_changes_no_bit_of_the_normalized_matrix(xp, bound, shape):
    g = generic(shape, 3)
    normalization = Normalization(bound=bound)
    expected = to_host(normalization(xp.asarray(g)))
    for exponent in (-990, -333, -1, 7, 500, 990):
        np.testing.assert_array_equal(to_host(normalization(xp.asarray(g * 2.0**exponent))), expected)


@pytest.mark.parametrize("bound", BOUNDS)
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_non_finite_member_gives_nan_and_leaves_its_neighbors_untouched(xp, bound, bad):
    clean = generic((3, 4, 3), 6)
    dirty = clean.copy()
    dirty[1, 0, 2] = bad
    before, after = (to_host(Normalization(bound=bound)(xp.asarray(x))) for x in (clean, dirty))
    np.testing.assert_array_equal(after[[0, 2]], before[[0, 2]])
    assert np.all(np.isnan(after[1])) or (bad == np.inf and np.any(np.isnan(after[1])))


def test_the_bounds_are_ordered_as_their_schatten_norms(xp):
    g = xp.asarray(generic((20, 6, 8), 4))
    frobenius, four, eight, exact = (
        to_host(tightness(Normalization(bound=b), g)) for b in ("frobenius", "schatten-4", "schatten-8", "exact")
    )
    assert np.all(frobenius < four)
    assert np.all(four < eight)
    assert np.all(eight < exact)
    np.testing.assert_allclose(exact, 1.0, rtol=1e-13)


@pytest.mark.parametrize("bound", SCALINGS)
def test_the_scalings_keep_the_direction_of_each_matrix(xp, bound):
    g = generic((4, 5), 5)
    out = to_host(Normalization(bound=bound)(xp.asarray(g)))
    np.testing.assert_allclose(out / np.linalg.norm(out), g / np.linalg.norm(g), atol=rounding(g))
    assert Normalization(bound=bound).is_scaling


def test_aol_scaling_changes_the_direction(xp):
    g = generic((4, 5), 5)
    out = to_host(Normalization(bound="aol")(xp.asarray(g)))
    assert np.linalg.norm(out / np.linalg.norm(out) - g / np.linalg.norm(g)) > 0.01
    assert not Normalization(bound="aol").is_scaling


@pytest.mark.parametrize("bound", BOUNDS)
def test_the_epsilon_of_shipped_code_acts_on_the_chosen_bound(xp, bound):
    g = generic((3, 4), 7)
    divisor = independent(bound, g)
    for rule, expected in (("add", g / (divisor + 0.5)), ("clamp", g / np.maximum(divisor, 0.5))):
        out = to_host(Normalization(0.5, rule, bound=bound)(xp.asarray(g)))
        np.testing.assert_allclose(out, expected, rtol=rounding(g))
    np.testing.assert_allclose(to_host(Normalization(1e3, "clamp", bound=bound)(xp.asarray(g))), g / 1e3, rtol=1e-15)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"bound": "schaten-4"}, UnknownName, "Unknown bound of the spectral norm 'schaten-4'; did you mean 'schatten"),
        ({"rule": "ad"}, UnknownName, "Unknown rule for epsilon 'ad'; did you mean 'add'"),
        ({"safety": 0.0}, ValueError, r"safety must lie in \(0, inf\); got 0"),
        ({"epsilon": -1e-7}, ValueError, "epsilon must lie in"),
    ],
    ids=["bound", "rule", "safety", "epsilon"],
)
def test_a_normalization_that_does_not_exist_is_refused(options, error, message):
    with pytest.raises(error, match=message):
        Normalization(**options)


@pytest.mark.parametrize(("rule", "divisor"), [("add", 1.5 * 5 + 2), ("clamp", 1.5 * 5)])
def test_the_safety_factor_multiplies_the_bound_and_not_epsilon(rule, divisor):
    g = np.diag([3.0, 4.0])
    assert np.allclose(Normalization(2.0, rule, safety=1.5)(g), g / divisor, rtol=8 * np.finfo(float).eps)
    assert np.allclose(Normalization(2.0, rule, safety=1.5)(g / 10), g / 10 / (2.75 if rule == "add" else 2.0))
