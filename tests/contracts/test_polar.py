"""Polar factors: the exact one against SciPy, schedules against their scalar maps and the published facts.

Singular vectors of a matrix of N entries carry errors of a few N eps times its condition, the polar factor as well:
`rounding` is 32 N eps, to be multiplied by the condition number where the matrix has one.
"""

import dataclasses
import functools

import numpy as np
import pytest
import scipy.linalg
from conftest import eps_of, hard_matrices, rotation, signed_permutation
from hypothesis import given, settings
from hypothesis import strategies as st

from orthotheory.arrays import device_of, dtype_name, to_host
from orthotheory.names import UnknownName
from orthotheory.polar import (
    ALGORITHMS,
    MUON_JORDAN,
    MUON_QUINTIC,
    MUON_TORCH,
    NEWTON_SCHULZ_CUBIC,
    NEWTON_SCHULZ_QUINTIC,
    POLAR_EXPRESS,
    POLAR_EXPRESS_5,
    POLAR_EXPRESS_DION,
    SCHEDULES,
    Normalization,
    Schedule,
    names,
    newton_schulz,
    polar_express,
    polar_factor,
    thin_svd,
)

SHAPES = {"square": (5, 5), "tall": (7, 3), "wide": (3, 7), "row": (1, 6), "column": (6, 1), "batch": (2, 3, 4, 5)}
AS_SHIPPED = {"muon-jordan", "muon-torch"}
SCALE_FREE = [name for name in names() if name not in AS_SHIPPED]
QUINTIC = (3.4445, -4.7750, 2.0315)


def rounding(x) -> float:
    return 32 * eps_of(x) * x.shape[-1] * x.shape[-2]


def generic(shape, seed=0, dtype="float64"):
    """A Gaussian matrix; complex where the dtype is."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal(shape)
    return (x + 1j * rng.standard_normal(shape) if "complex" in dtype else x).astype(dtype)


def with_singular_values(s, rows, columns, seed=0):
    rng = np.random.default_rng(seed)
    u, v = rotation(rows, rng), rotation(columns, rng)
    return (u[:, : len(s)] * np.asarray(s)) @ v[:, : len(s)].T


def singular_values(x):
    return np.linalg.svd(x, compute_uv=False)


def muon_polynomial(x):
    a, b, c = QUINTIC
    return a * x + b * x**3 + c * x**5


@functools.cache
def steepest(name) -> float:
    """sup |P'| of the composed map on [0, top], by the chain rule on a grid: the condition of a schedule on matrices.

    The divided differences (P(s) - P(t)) / (s - t) and (P(s) + P(t)) / (s + t) of an odd map are means of P'. For
    Polar Express and the classical sets the supremum is the gain at zero, below 7000.
    """
    schedule = SCHEDULES[name]
    s = np.concatenate(
        [[0.0], np.geomspace(1e-8, 1e-3, 100_001), np.linspace(1e-3, schedule.normalization.top, 400_001)]
    )
    slope = np.ones_like(s)
    for step in schedule.coefficients:
        slope *= sum((2 * i + 1) * c * s ** (2 * i) for i, c in enumerate(step))
        s = sum(c * s ** (2 * i + 1) for i, c in enumerate(step))
    return float(np.abs(slope).max())


def sensitivity(name, g) -> float:
    return np.linalg.cond(g).max() if name in ALGORITHMS else steepest(name)


def test_the_sensitivity_of_the_sets_for_accuracy_is_their_gain_at_zero():
    for name in ("polar-express", "polar-express-5", "newton-schulz-cubic", "newton-schulz-quintic", "you-6"):
        assert steepest(name) == pytest.approx(SCHEDULES[name].slope, rel=1e-9)
        assert steepest(name) < 7000
    assert steepest("polar-express-raw-5") > 50 * SCHEDULES["polar-express-raw-5"].slope  # at s = 1, without safety


# The exact factor


@pytest.mark.parametrize("dtype", ["float64", "float32", "complex128", "complex64"])
@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES.keys())
def test_exact_is_scipys_polar_factor(xp, shape, dtype):
    g = generic(shape, dtype=dtype)
    factor = polar_factor(xp.asarray(g))
    assert dtype_name(factor) == dtype
    assert device_of(factor) == xp.device
    host = to_host(factor)
    for index in np.ndindex(*shape[:-2]):
        expected = scipy.linalg.polar(g[index])[0]
        condition = np.linalg.cond(g[index])
        np.testing.assert_allclose(host[index], expected, atol=condition * rounding(g))


@pytest.mark.parametrize("name", names())
def test_the_polar_factor_of_zero_is_zero(xp, name):
    for shape in SHAPES.values():
        factor = to_host(polar_factor(xp.asarray(np.zeros(shape)), name))
        np.testing.assert_array_equal(factor, np.zeros(shape))


@pytest.mark.parametrize("label", [label for label in hard_matrices() if label != "empty batch"])
def test_exact_is_a_partial_isometry_of_the_rank_of_the_matrix_aligned_with_it(xp, label):
    g = hard_matrices()[label]
    p = to_host(polar_factor(xp.asarray(g)))
    scaled = g / max(np.abs(g).max(), 1e-300)
    ranks = np.linalg.matrix_rank(scaled)
    s = singular_values(p)
    np.testing.assert_allclose(s, (np.arange(s.shape[-1]) < ranks[..., None]).astype(float), atol=rounding(g))
    # G^T P = (G^T G)^(1/2): symmetric, positive semidefinite, and its trace is the nuclear norm
    h = np.swapaxes(scaled, -1, -2) @ p
    np.testing.assert_allclose(h, np.swapaxes(h, -1, -2), atol=rounding(g) * np.abs(h).max())
    nuclear = singular_values(scaled).sum(axis=-1)
    np.testing.assert_allclose(np.trace(h, axis1=-2, axis2=-1), nuclear, rtol=rounding(g))
    assert np.all(np.linalg.eigvalsh((h + np.swapaxes(h, -1, -2)) / 2) >= -rounding(g) * nuclear[..., None])


def test_singular_values_at_rounding_level_count_as_zero_and_those_above_do_not():
    floor = 5 * np.finfo(float).eps  # max(m, n) eps, NumPy's rule for the rank
    for small, rank in ((0.01 * floor, 1), (100 * floor, 2)):
        s = singular_values(polar_factor(np.diag([1.0, small, 0, 0, 0])))
        np.testing.assert_allclose(s, [1, rank - 1, 0, 0, 0], atol=32 * np.finfo(float).eps)


def test_an_empty_batch_gives_an_empty_batch(xp):
    for name in names():
        assert polar_factor(xp.asarray(np.zeros((0, 4, 3))), name).shape == (0, 4, 3)


def test_thin_svd_restores_the_matrix_over_the_whole_range(xp):
    for label, g in hard_matrices().items():
        u, s, vh = map(to_host, thin_svd(xp.asarray(g)))
        peak = np.abs(g).max(initial=0)
        np.testing.assert_allclose((u * s[..., None, :]) @ vh, g, atol=rounding(g) * peak, err_msg=label)
        assert np.all(np.diff(s, axis=-1) <= 0), label


# What every plan shares


@pytest.mark.parametrize("name", SCALE_FREE)
@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES.keys())
def test_a_power_of_two_changes_no_bit(xp, name, shape):
    g = generic(shape, 1)
    expected = to_host(polar_factor(xp.asarray(g), name))
    for exponent in (-990, -333, -1, 7, 500, 990):
        np.testing.assert_array_equal(to_host(polar_factor(xp.asarray(g * 2.0**exponent), name)), expected)


@pytest.mark.parametrize("name", SCALE_FREE)
@settings(max_examples=15, deadline=None)
@given(exponent=st.floats(-300, 299))
def test_any_positive_factor_changes_nothing_but_roundings(name, exponent):
    # g * factor is g with relative errors eps / 2; the factor answers with its condition number, a schedule with the
    # largest derivative of its map
    g = generic((4, 3), 2)
    np.testing.assert_allclose(
        polar_factor(g * 10.0**exponent, name), polar_factor(g, name), atol=sensitivity(name, g) * rounding(g)
    )


@pytest.mark.parametrize("name", sorted(AS_SHIPPED))
def test_the_shipped_plans_shrink_small_matrices_their_epsilon_breaks_scale_invariance(xp, name):
    g = generic((4, 3), 3)
    g /= np.linalg.norm(g)
    full = np.linalg.norm(to_host(polar_factor(xp.asarray(g), name)))
    small = np.linalg.norm(to_host(polar_factor(xp.asarray(g * 1e-9), name)))
    # |X_0| is 1e-9 / 1e-7 = 1/100 (clamp) or 1/101 (add) instead of 1
    start = g / (100 if name == "muon-torch" else 101)
    assert small < 0.999 * full
    expected = singular_values(start)
    for _ in range(5):
        expected = muon_polynomial(expected)
    np.testing.assert_allclose(small, np.linalg.norm(expected), rtol=rounding(g))
    # without the epsilon the same coefficients do not see the scale
    np.testing.assert_allclose(
        np.linalg.norm(polar_factor(g * 1e-9, "muon-quintic")),
        np.linalg.norm(polar_factor(g, "muon-quintic")),
        rtol=1e-12,
    )


@pytest.mark.parametrize("name", names())
@pytest.mark.parametrize("dtype", ["float64", "complex128"])
def test_transposes_rotations_and_batches_commute_with_the_factor(xp, name, dtype):
    g = generic((2, 3, 4, 5), 4, dtype)
    rng = np.random.default_rng(5)
    # AOL scales rows one by one: it commutes with their permutations and signs alone
    q = (rotation if is_scaling(name) else signed_permutation)(4, rng)
    r = rotation(5, rng)
    atol = sensitivity(name, g) * rounding(g)
    p = to_host(polar_factor(xp.asarray(g), name))
    turned = to_host(polar_factor(xp.asarray((q @ g @ r).astype(dtype)), name))
    np.testing.assert_allclose(turned, q @ p @ r, atol=atol)
    flipped = np.ascontiguousarray(np.swapaxes(g, -1, -2))
    np.testing.assert_allclose(to_host(polar_factor(xp.asarray(flipped), name)), np.swapaxes(p, -1, -2), atol=atol)
    adjoint = np.conj(flipped)
    np.testing.assert_allclose(
        to_host(polar_factor(xp.asarray(adjoint), name)), np.conj(np.swapaxes(p, -1, -2)), atol=atol
    )
    alone = to_host(polar_factor(xp.asarray(g[1, 2]), name))
    np.testing.assert_allclose(p[1, 2], alone, atol=atol)


@pytest.mark.parametrize("name", names())
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_member_that_is_not_finite_gives_nan_and_leaves_its_neighbors_untouched(xp, name, bad):
    clean = generic((3, 4, 3), 6)
    dirty = clean.copy()
    dirty[1, 0, 2] = bad
    before, after = (to_host(polar_factor(xp.asarray(x), name)) for x in (clean, dirty))
    np.testing.assert_array_equal(after[[0, 2]], before[[0, 2]])
    assert np.all(np.isnan(after[1]))


@pytest.mark.parametrize("name", names())
def test_float32_stays_float32(xp, name):
    factor = polar_factor(xp.asarray(generic((4, 3)), dtype="float32"), name)
    assert dtype_name(factor) == "float32"
    assert device_of(factor) == xp.device


@pytest.mark.parametrize(
    ("bad", "error", "message"),
    [
        (np.zeros(7), ValueError, r"polar_factor needs a matrix, shape \(\.\.\., m, n\); got shape \(7,\)"),
        (np.zeros((0, 3)), ValueError, "polar_factor needs at least one entry"),
        (np.eye(2, dtype=int), TypeError, "polar_factor needs float32, float64, complex64 or complex128; got int64"),
    ],
    ids=["vector", "no entries", "integers"],
)
def test_what_is_no_floating_matrix_is_refused(xp, bad, error, message):
    with pytest.raises(error, match=message):
        polar_factor(xp.asarray(bad))


@pytest.mark.parametrize(
    ("wrong", "right"),
    [("exat", "exact"), ("polar-expres", "polar-express"), ("newton-schultz-cubic", "newton-schulz-cubic")],
)
def test_a_misspelt_plan_lists_the_nearest(wrong, right):
    with pytest.raises(UnknownName, match=f"Unknown plan '{wrong}'; did you mean '{right}'"):
        polar_factor(np.eye(2), wrong)


# Schedules


@pytest.mark.parametrize("schedule", SCHEDULES.values(), ids=SCHEDULES.keys())
def test_a_schedule_is_frozen_and_found_by_its_own_name(schedule):
    assert SCHEDULES[schedule.name] is schedule
    with pytest.raises(dataclasses.FrozenInstanceError):
        schedule.coefficients = ()
    with pytest.raises(TypeError):
        schedule.coefficients[0][0] = 1.0
    with pytest.raises(dataclasses.FrozenInstanceError):
        schedule.normalization.epsilon = 1.0
    assert schedule.steps == len(schedule.coefficients)
    assert hash(schedule) == hash(dataclasses.replace(schedule))
    assert schedule.source


def grid_image(schedule, points=2_000_001):
    """The composed polynomial on a dense log-spaced grid, by NumPy's polyval."""
    s = np.geomspace(*schedule.input_interval, points)
    for step in schedule.coefficients:
        ascending = np.zeros(2 * len(step))
        ascending[1::2] = step
        s = np.polynomial.polynomial.polyval(s, ascending)
    return s.min(), s.max()


@pytest.mark.parametrize("schedule", SCHEDULES.values(), ids=SCHEDULES.keys())
def test_the_output_interval_is_the_image_of_the_input_interval(schedule):
    # The second derivative of the compositions in log s is at most 3.5e5 (five steps of Polar Express), and the grid
    # points are ln(1000) / 2e6 = 3.5e-6 apart: the extremes are met to 3.5e5 * (3.5e-6)^2 / 8 = 5e-7.
    np.testing.assert_allclose(schedule.output_interval, grid_image(schedule), atol=5e-7)


def is_scaling(name) -> bool:
    return name in ALGORITHMS or SCHEDULES[name].normalization.is_scaling


def aol_scaled(g):
    """Rows of the wide orientation over the square roots of the absolute row sums of their Gram matrix."""
    if g.shape[0] > g.shape[1]:
        return aol_scaled(g.T).T
    return g / np.sqrt(np.abs(g @ g.T).sum(axis=1, keepdims=True))


@pytest.mark.parametrize("schedule", SCHEDULES.values(), ids=SCHEDULES.keys())
@pytest.mark.parametrize("shape", [(5, 5), (8, 4), (4, 8)], ids=["square", "tall", "wide"])
def test_a_schedule_on_a_matrix_is_the_scalar_map_on_its_singular_values(xp, schedule, shape):
    s = np.geomspace(1.0, 0.02, min(shape))
    g = with_singular_values(s, *shape)
    norm = schedule.normalization
    if norm.bound == "aol":
        left, normalized, right = np.linalg.svd(aol_scaled(g), full_matrices=False)
    else:
        assert norm.bound == "frobenius"
        normalized = s / np.linalg.norm(s)
    if norm.epsilon:  # |g|_F is 1.4 here: the clamp does not act
        length = np.linalg.norm(s)
        normalized = s / (length + norm.epsilon if norm.rule == "add" else length)
    expected = normalized / norm.safety
    for step in schedule.coefficients:
        expected = sum(c * expected ** (2 * i + 1) for i, c in enumerate(step))
    restored = (left * expected) @ right if norm.bound == "aol" else with_singular_values(expected, *shape)
    out = to_host(schedule.apply(xp.asarray(g)))
    np.testing.assert_allclose(out, restored, atol=steepest(schedule.name) * rounding(g))
    np.testing.assert_allclose(schedule.singular_value_map(normalized / norm.safety), expected, rtol=1e-12)


@pytest.mark.parametrize("schedule", SCHEDULES.values(), ids=SCHEDULES.keys())
def test_singular_values_of_the_input_interval_land_in_the_output_interval(schedule):
    low, high = schedule.input_interval
    s = np.geomspace(low, 0.9 * high, 6)
    out = schedule.singular_value_map(s)
    assert schedule.output_interval[0] - 1e-12 <= out.min()
    assert out.max() <= schedule.output_interval[1] + 1e-12


def test_the_normalizations_are_the_three_that_ship(xp):
    g = generic((3, 4), 7)
    length = np.linalg.norm(g)
    for normalization, expected in (
        (Normalization(), g / length),
        (Normalization(safety=1.02), g / (1.02 * length)),
        (Normalization(0.5, "add"), g / (length + 0.5)),
        (Normalization(0.5, "clamp"), g / length),
        (Normalization(100.0, "clamp"), g / 100.0),
    ):
        np.testing.assert_allclose(to_host(normalization(xp.asarray(g))), expected, rtol=rounding(g))
    assert MUON_JORDAN.normalization == Normalization(1e-7, "add")
    assert MUON_TORCH.normalization == Normalization(1e-7, "clamp")


# Published facts


def test_muons_polynomial_has_its_local_maximum_at_05545_of_12024():
    a, b, c = MUON_QUINTIC.coefficients[0]
    assert (a, b, c) == QUINTIC
    assert MUON_QUINTIC.coefficients == MUON_JORDAN.coefficients == MUON_TORCH.coefficients == (QUINTIC,) * 5
    critical = np.sqrt(np.roots([5 * c, 3 * b, a]))
    assert sorted(round(float(x), 4) for x in critical) == [0.5545, 1.0501]
    assert round(muon_polynomial(critical.min()), 4) == 1.2024
    assert round(muon_polynomial(critical.max()), 4) == 0.6818
    assert round(muon_polynomial(1.0), 4) == 0.7010


@pytest.mark.parametrize("steps", [1, 2, 3, 5, 8, 20])
def test_muons_composition_never_exceeds_12024_on_the_unit_interval_and_attains_it(steps):
    repeated = dataclasses.replace(MUON_QUINTIC, coefficients=(QUINTIC,) * steps)
    _, high = repeated.image(0.0, 1.0)
    assert round(high, 4) == 1.2024
    # log-spaced: what reaches the maximum in the last step starts at about 0.55 / 3.4445^(steps - 1)
    values = np.geomspace(3.4445**-steps / 10, 1.0, 1_000_001)
    for _ in range(steps):
        values = muon_polynomial(values)
    assert round(values.max(), 4) == 1.2024


def test_muons_polynomial_does_not_converge_to_one():
    values = np.linspace(0.01, 1.0, 1001)
    for _ in range(200):
        values = muon_polynomial(values)
    # after 200 steps the singular values still spread over the attracting band
    np.testing.assert_allclose([values.min(), values.max()], [0.6819, 1.1343], atol=1e-4)
    # five steps bring [0.01, 1] into [0.6818, 1.1344], and what starts lower up to the maximum
    np.testing.assert_allclose(MUON_QUINTIC.output_interval, (0.6818, 1.1344), atol=5e-5)
    np.testing.assert_allclose(MUON_QUINTIC.image(0.002, 1.0), (0.6818, 1.2024), atol=5e-5)


def test_muons_five_steps_leave_small_singular_values_short():
    assert round(float(MUON_QUINTIC.singular_value_map(np.float64(1e-3))), 4) == 0.4705
    assert round(3.4445**5) == 485
    assert float(MUON_QUINTIC.singular_value_map(np.float64(1e-9))) == pytest.approx(485e-9, rel=1e-3)


PAPER_ROWS = [  # Algorithm 1 of the Polar Express paper, as printed
    (8.28721201814563, -23.595886519098837, 17.300387312530933),
    (4.107059111542203, -2.9478499167379106, 0.5448431082926601),
    (3.9486908534822946, -2.908902115962949, 0.5518191394370137),
    (3.3184196573706015, -2.488488024314874, 0.51004894012372),
    (2.300652019954817, -1.6689039845747493, 0.4188073119525673),
    (1.891301407787398, -1.2679958271945868, 0.37680408948524835),
    (1.8750014808534479, -1.2500016453999487, 0.3750001645474248),
    (1.875, -1.25, 0.375),
]


def test_polar_express_is_the_published_table_at_the_argument_over_101():
    for row, published in zip(POLAR_EXPRESS.coefficients[:7], PAPER_ROWS, strict=False):
        restored = [c * 1.01**power for c, power in zip(row, (1, 3, 5), strict=True)]
        np.testing.assert_allclose(restored, published, rtol=4 * np.finfo(float).eps)  # a power, a quotient, a product
    assert POLAR_EXPRESS.coefficients[0][0] * 1.01 == 8.28721201814563
    assert POLAR_EXPRESS.coefficients[7] == PAPER_ROWS[7]
    assert POLAR_EXPRESS.normalization == Normalization(safety=1.01)


def test_polar_express_of_other_lengths_is_a_prefix_or_repeats_the_last_row():
    assert POLAR_EXPRESS_5.coefficients == POLAR_EXPRESS.coefficients[:5]
    assert polar_express(10).coefficients == (*POLAR_EXPRESS.coefficients, PAPER_ROWS[7], PAPER_ROWS[7])
    with pytest.raises(ValueError, match="steps must be at least 1; got 0"):
        polar_express(0)


def test_dions_table_is_the_published_one():
    assert POLAR_EXPRESS_DION.coefficients == (
        (8.156554524902461, -22.48329292557795, 15.878769915207462),
        (4.042929935166739, -2.808917465908714, 0.5000178451051316),
        (3.8916678022926607, -2.772484153217685, 0.5060648178503393),
        (3.285753657755655, -2.3681294933425376, 0.46449024233003106),
        (2.3465413258596377, -1.7097828382687081, 0.42323551169305323),
    )
    assert POLAR_EXPRESS_DION.normalization == Normalization(safety=1.02)


def test_polar_express_converges_to_one_where_muon_does_not():
    low, high = POLAR_EXPRESS.output_interval
    assert 1 - 1e-3 < low <= high < 1 + 1e-3
    low, high = MUON_QUINTIC.output_interval
    assert high - low > 0.4


def test_twenty_cubic_newton_schulz_steps_reach_1e_4_from_1e_3():
    assert NEWTON_SCHULZ_CUBIC.steps == 20
    assert NEWTON_SCHULZ_CUBIC.coefficients == ((1.5, -0.5),) * 20
    low, high = NEWTON_SCHULZ_CUBIC.output_interval
    assert 1 - 1e-4 <= low <= high <= 1 + 1e-15
    assert newton_schulz(16, 3).output_interval[0] < 1 - 1e-4  # the steps are needed


def test_the_quintic_newton_schulz_schedule_reaches_1e_4_as_well():
    assert NEWTON_SCHULZ_QUINTIC.coefficients[0] == (1.875, -1.25, 0.375)
    low, high = NEWTON_SCHULZ_QUINTIC.output_interval
    assert 1 - 1e-4 <= low <= high <= 1 + 1e-15


@pytest.mark.parametrize(("degree", "order"), [(3, 2), (5, 3)])
def test_newton_schulz_converges_with_the_order_of_its_zero_at_one(degree, order):
    error = 1e-3
    once = 1 - float(newton_schulz(1, degree).singular_value_map(np.float64(1 - error)))
    constant = {3: 1.5, 5: 2.5}[degree]  # (x + 2) / 2 and (3 x^2 + 9 x + 8) / 8 at x = 1
    assert once == pytest.approx(constant * error**order, rel=1e-3)


@pytest.mark.parametrize(
    ("options", "message"),
    [((5, 4), "degree must be 3 or 5; got 4"), ((0, 3), "steps must be at least 1; got 0")],
    ids=["degree", "steps"],
)
def test_a_newton_schulz_schedule_that_does_not_exist_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        newton_schulz(*options)


def test_a_schedule_of_ones_own_is_a_plan(xp):
    own = Schedule("own", ((2.0, -1.0),), "here", (0.0, 1.0), (0.0, 1.0887))
    x = generic((3, 2), 8)
    x /= np.linalg.norm(x)
    np.testing.assert_allclose(to_host(polar_factor(xp.asarray(7 * x), own)), 2 * x - x @ x.T @ x, atol=rounding(x))
