"""Running steps: every plan is its scalar map on the singular values, whatever the implementation, layout or block.

A polynomial on the Gram side has an error of n eps times the sum of its terms, which is at most the amplification
|p(s) / s| <= 1 / low of what follows; a rational step that of its inverse, 1 / pole. Tolerances say which.
"""

from fractions import Fraction

import numpy as np
import pytest
from conftest import eps_of, rotation
from hypothesis import given, settings
from hypothesis import strategies as st

from orthotheory.arrays import device_of, dtype_name, to_host
from orthotheory.polar.engine import apply, check_blocks
from orthotheory.polar.evaluate import by_sastre, sastre, taylor
from orthotheory.polar.minimax import compose, optimal_step
from orthotheory.polar.newton import newton_steps
from orthotheory.polar.normalization import Normalization
from orthotheory.polar.rational import rational
from orthotheory.polar.spectrum import Lanczos
from orthotheory.polar.stability import restarts, rounding
from orthotheory.polar.symmetric import Reference
from orthotheory.polar.zolotarev import zolotarev

LOW = 0.05
EXACT = Normalization(bound="exact")
SHAPES = {"square": (60, 60), "tall": (120, 50), "wide": (50, 120), "row": (1, 6), "column": (6, 1)}
PLANS = {
    "linear": (((0.5,),), None),
    "cubics": (compose((3, 3, 3), LOW).coefficients, None),
    "quintics": (compose((5, 5), LOW).coefficients, None),
    "degrees 7 and 13": (compose((7, 13), LOW).coefficients, None),
    "degree 9": (compose((9,), LOW).coefficients, None),
    "degree 17": (compose((17,), LOW).coefficients, None),
    "Zolotarev": ((zolotarev(2, LOW),), None),
    "rational with a cubic term": ((rational(2, LOW),), None),
    "rational with a quintic term": ((rational(1, LOW, degree=5),), None),
    "Newton": (newton_steps(LOW)[:3], None),
    "quintics in one block": (compose((5, 5), LOW).coefficients, (2,)),
    "three steps in two blocks": ((*compose((5, 9), LOW).coefficients, (1.5, -0.5)), (1, 2)),
    "rational steps in one block": ((zolotarev(1, LOW), zolotarev(1, 0.3)), (2,)),
}


def with_singular_values(s, rows, columns, seed=0):
    rng = np.random.default_rng(seed)
    u, v = rotation(rows, rng), rotation(columns, rng)
    return (u[:, : len(s)] * np.asarray(s)) @ v[:, : len(s)].T


def exact_value(step, s):
    """The scalar map, polynomials in rational arithmetic: the monomial form of degree 17 loses five digits."""
    if isinstance(step, tuple):
        return np.array(
            [float(sum(Fraction(c) * Fraction(x) ** (2 * i + 1) for i, c in enumerate(step))) for x in s.tolist()]
        )
    return step(s)


def expected_factor(steps, s, rows, columns, scale=1.0):
    s = np.asarray(s) / scale
    for step in steps:
        s = exact_value(step, s)
    return with_singular_values(s, rows, columns)


def tolerance(g, amplification=1 / LOW**2):
    return 8 * max(g.shape[-2:]) * eps_of(g) * amplification


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES.keys())
@pytest.mark.parametrize("plan", PLANS.values(), ids=PLANS.keys())
def test_a_plan_is_its_scalar_map_on_the_singular_values(xp, plan, shape, dtype):
    steps, blocks = plan
    s = np.geomspace(1.0, LOW, min(shape))
    g = with_singular_values(s, *shape).astype(dtype)
    out = apply(xp.asarray(g), steps, blocks, EXACT)
    assert dtype_name(out) == dtype
    assert device_of(out) == xp.device
    np.testing.assert_allclose(to_host(out), expected_factor(steps, s, *shape), atol=tolerance(g))


@pytest.mark.parametrize("bound", ["frobenius", "schatten-4", "schatten-8", "row-sum", "exact"])
def test_the_divisor_from_the_gram_matrix_is_the_normalization(xp, bound):
    g = np.random.default_rng(1).standard_normal((30, 70))
    normalization = Normalization(bound=bound, safety=1.1)
    out = to_host(apply(xp.asarray(g), ((1.0,),), None, normalization))
    np.testing.assert_allclose(out, to_host(normalization(xp.asarray(g))), atol=tolerance(g, 1.0))


@pytest.mark.parametrize("rule", ["add", "clamp"])
@pytest.mark.parametrize("size", [1.0, 1e-20])
def test_an_epsilon_counts_in_the_units_of_the_input(xp, rule, size):
    g = size * np.random.default_rng(1).standard_normal((6, 9))
    normalization = Normalization(1e-7, rule)
    out = to_host(apply(xp.asarray(g), ((1.0,),), None, normalization))
    np.testing.assert_allclose(out, to_host(normalization(xp.asarray(g))), rtol=1e-12)


def test_rows_scaled_one_by_one_are_normalized_before(xp):
    g = np.random.default_rng(1).standard_normal((6, 9))
    normalization = Normalization(bound="aol")
    out = to_host(apply(xp.asarray(g), ((1.0,),), None, normalization))
    np.testing.assert_allclose(out, to_host(normalization(xp.asarray(g))), rtol=1e-12)


@pytest.mark.parametrize("plan", PLANS.values(), ids=PLANS.keys())
@pytest.mark.parametrize("order", ["C", "F"])
def test_a_power_of_two_changes_no_bit(plan, order):
    g = np.asarray(np.random.default_rng(2).standard_normal((60, 60)), order=order)
    expected = apply(g, *plan, Lanczos())
    for exponent in (-900, -333, -1, 7, 333, 900):
        np.testing.assert_array_equal(apply(g * 2.0**exponent, *plan, Lanczos()), expected)


@pytest.mark.parametrize("plan", PLANS.values(), ids=PLANS.keys())
@pytest.mark.parametrize("shape", [(7, 4), (70, 60)])
def test_a_batch_is_its_members_zero_stays_zero_and_nan_stays_alone(xp, plan, shape):
    g = np.stack([with_singular_values(np.geomspace(1, LOW, min(shape)), *shape, seed) for seed in range(5)])
    g[1] = 0
    g[3, 2, 1] = np.nan
    before = g.copy()
    out = to_host(apply(xp.asarray(g), *plan, EXACT))
    np.testing.assert_array_equal(g, before)  # the input is never scratch
    np.testing.assert_array_equal(out[1], np.zeros(shape))
    assert np.isnan(out[3]).all()
    for i in (0, 2, 4):
        alone = to_host(apply(xp.asarray(g[i]), *plan, EXACT))
        np.testing.assert_allclose(out[i], alone, atol=tolerance(g))


def test_a_view_with_gaps_is_the_matrix_that_it_shows():
    g = np.random.default_rng(0).standard_normal((120, 180))[::2, ::3]
    np.testing.assert_array_equal(apply(g, *PLANS["quintics"]), apply(g.copy(), *PLANS["quintics"]))


def test_an_empty_batch_gives_an_empty_batch(xp):
    for shape in ((0, 4, 3), (2, 0, 60, 60)):
        assert apply(xp.asarray(np.zeros(shape)), ((1.5, -0.5),)).shape == shape


@pytest.mark.parametrize("shape", [(5, 9), (9, 5), (3, 5, 5)])
@pytest.mark.parametrize("name", ["quintics", "degree 17", "rational with a cubic term", "quintics in one block"])
def test_complex_matrices_keep_their_phases(xp, name, shape):
    rng = np.random.default_rng(4)
    g = rng.standard_normal(shape) + 1j * rng.standard_normal(shape)
    steps, blocks = PLANS[name]
    out = to_host(apply(xp.asarray(g), steps, blocks, Normalization()))
    u, s, vh = np.linalg.svd(g, full_matrices=False)
    values = s / np.linalg.norm(s, axis=-1, keepdims=True)
    for step in steps:
        values = np.stack([exact_value(step, row) for row in values.reshape(-1, values.shape[-1])]).reshape(
            values.shape
        )
    np.testing.assert_allclose(out, (u * values[..., None, :]) @ vh, atol=tolerance(g))


def test_groups_of_rows_are_matrices_of_their_own(xp):
    g = np.random.default_rng(5).standard_normal((2, 12, 7))
    steps = PLANS["quintics"][0]
    out = to_host(apply(xp.asarray(g), steps, rows=4))
    for i in range(3):
        part = slice(4 * i, 4 * i + 4)
        np.testing.assert_allclose(
            out[:, part], to_host(apply(xp.asarray(g[:, part].copy()), steps)), atol=tolerance(g)
        )
    with pytest.raises(ValueError, match="rows must divide the 12 rows of each matrix; got 5"):
        apply(xp.asarray(g), steps, rows=5)


def test_a_gram_side_in_float64_takes_float32_to_its_floor():
    low = 1e-3
    s = np.geomspace(1, low, 96)
    g = with_singular_values(s, 96, 96).astype("float32")
    step = zolotarev(2, low)
    exact = expected_factor((step,), s, 96, 96)
    single, double = (
        np.linalg.norm(apply(g, (step,), None, EXACT, gram_dtype=d) - exact, 2) for d in (None, "float64")
    )
    # The input is rounded by eps / 2 and magnified by |Z(s) / s| <= 1 / low; in float32 the inverse adds eps / pole.
    assert double < 0.5 * eps_of(g) / low
    assert 0.01 * eps_of(g) / min(step.poles) < single < eps_of(g) / min(step.poles)


@pytest.mark.parametrize(
    ("steps", "blocks", "message"),
    [
        (((1.0,),) * 3, (2, 2), r"blocks \(2, 2\) must be positive and add up to the 3 steps"),
        (((1.0,),) * 2, (2, 0), r"blocks \(2, 0\) must be positive"),
        ((*newton_steps(0.1)[:1], (1.5, -0.5)), (2,), "A Newton step works on X itself"),
    ],
    ids=["too many", "empty block", "shared Newton step"],
)
def test_blocks_that_do_not_fit_are_refused(steps, blocks, message):
    with pytest.raises(ValueError, match=message):
        apply(np.eye(3), steps, blocks)


def test_what_is_no_floating_matrix_is_refused(xp):
    with pytest.raises(ValueError, match="apply needs a matrix"):
        apply(xp.asarray(np.zeros(3)), ((1.0,),))
    with pytest.raises(TypeError, match="apply needs float32"):
        apply(xp.asarray(np.eye(3, dtype=int)), ((1.0,),))
    assert check_blocks(((1.0,),) * 3, None) == (1, 1, 1)


# Evaluation schemes


@settings(max_examples=60, deadline=None)
@given(st.floats(1e-4, 0.9), st.integers(0, 10_000))
def test_three_products_give_degree_17_exactly(low, seed):
    step = optimal_step(17, low).coefficients
    t = np.random.default_rng(seed).uniform(0, 1, 5)
    h = [float(sum(Fraction(c) * Fraction(x) ** i for i, c in enumerate(step))) for x in t.tolist()]
    ops = CountingReference()
    value = by_sastre(ops, np.diag(t), sastre(step))
    assert ops.products == 3
    # parameters of some tens at most: an error of eps times their products
    np.testing.assert_allclose(np.diagonal(value), h, atol=5e3 * np.finfo(float).eps * max(1, np.abs(h).max()))


class CountingReference(Reference):
    products = 0

    def product(self, *args):
        self.products += 1
        return super().product(*args)


@pytest.mark.parametrize(("degree", "count"), [(3, 0), (5, 1), (7, 2), (9, 2), (13, 3), (17, 3), (33, 6)])
def test_a_step_takes_as_many_products_as_the_cost_model_says(degree, count):
    from orthotheory.polar.cost import inner_products
    from orthotheory.polar.evaluate import factor

    ops = CountingReference()
    factor(ops, np.diag(np.linspace(0.1, 1, 4)), optimal_step(degree, 0.2).coefficients)
    assert ops.products == count == inner_products(degree)


def test_a_taylor_shift_is_the_polynomial_around_another_point():
    h = (1.0, -2.0, 0.5, 3.0)
    shifted = taylor(h, 0.7)
    x = np.linspace(-1, 1, 7)
    np.testing.assert_allclose(np.polyval(shifted[::-1], x), np.polyval(h[::-1], 0.7 + x), atol=1e-14)


# Rational steps with a polynomial part


@pytest.mark.parametrize("degree", [3, 5])
@pytest.mark.parametrize("t", [1, 2, 3])
@pytest.mark.parametrize("low", [1e-3, 1e-2, 0.1, 0.2])
def test_a_rational_step_equioscillates_and_lies_between_two_zolotarev_steps(low, t, degree):
    step = rational(t, low, degree=degree)
    points = np.array([low, *(x for x in step.extremes if low < x < 1), 1.0])
    errors = (step(points) - 1) * (-1.0) ** np.arange(len(points))
    assert len(points) == 2 * t + (degree + 3) // 2  # as many as parameters and the error: it is the best one
    np.testing.assert_allclose(errors, -step.error, rtol=1e-6)
    assert zolotarev(t + 2, low).centred().error < step.error < zolotarev(t, low).centred().error
    grid = np.geomspace(low, 1, 20_001)
    assert np.abs(step(grid) - 1).max() <= step.error * (1 + 1e-9)


def test_a_rational_step_scales_with_its_interval():
    step, scaled = rational(2, 0.05), rational(2, 0.1, 2.0)
    s = np.linspace(0.05, 1, 9)
    np.testing.assert_allclose(scaled(2 * s), step(s), rtol=1e-9)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [((0, 0.1), "at least 1 pole"), ((1, 0.5, 0.2), "0 < low < high"), ((3, 0.9), "so narrow")],
)
def test_a_rational_step_that_cannot_be_built_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        rational(*arguments)


# Stability of Gram-side blocks


def gram_side_errors(sizes, seeds=3, n=192):
    steps = compose((5,) * 7, 1e-3).coefficients
    errors = []
    for seed in range(seeds):
        rng = np.random.default_rng(seed)
        u, v = rotation(n, rng), rotation(n, rng)
        g = ((u * np.geomspace(1, 1e-3, n)) @ v.T).astype("float32")
        errors.append(np.linalg.norm(apply(g, steps, sizes, EXACT).astype(float) - u @ v.T, 2))
    return steps, np.median(errors)


@pytest.mark.parametrize("sizes", [(1,) * 7, (2, 5), (1, 2, 4), (2, 2, 3), (3, 4)], ids=str)
def test_the_predicted_rounding_of_blocks_is_that_of_runs_in_float32_within_a_factor_of_three(sizes):
    steps, measured = gram_side_errors(sizes)
    assert measured / 3 < rounding(steps, sizes, 1e-3) < 3 * measured


def test_a_pure_gram_iteration_in_float32_is_useless_at_condition_1000_and_predicted_so():
    steps, measured = gram_side_errors((7,))
    assert measured > 0.1
    assert rounding(steps, (7,), 1e-3) > 0.1


def test_restarts_are_chosen_to_stay_within_twice_the_direct_iteration():
    steps, direct = gram_side_errors((1,) * 7)
    chosen = restarts(steps, 1e-3)
    assert 1 < len(chosen) < 7
    assert gram_side_errors(chosen)[1] < 2.5 * direct  # predicted 2, seeds vary by a quarter
    assert restarts(compose((5, 5, 5), 0.7).coefficients, 0.7) == (3,)  # a good interval needs none
    with pytest.raises(ValueError, match="up to 12 steps"):
        restarts(((1.5, -0.5),) * 13, 0.1)
