"""What a Gram matrix tells, and plans chosen by it: quadratures against moments, choices against what they promised."""

import numpy as np
import pytest
from conftest import rotation

from orthotheory.arrays import device_of, to_host
from orthotheory.polar import polar_factor
from orthotheory.polar.adaptive import Adaptive, by_interval
from orthotheory.polar.cost import CostModel
from orthotheory.polar.rational import rational
from orthotheory.polar.spectrum import Lanczos, condition, condition_of_square, density, lanczos
from orthotheory.polar.symmetric import Blas, Reference

# Weights of a machine with dear inverses, so that nothing is measured in a test.
COSTS = CostModel(symmetric=0.75, cholesky_inverse=1.3, inverse=2.5, factorization=6.0, svd=25.0)

BOTH = [Adaptive(efficiency=0.95, costs=COSTS), Adaptive(accuracy=1e-3, costs=COSTS)]


def log_spaced(n, m, kappa, seed=0):
    rng = np.random.default_rng(seed)
    u, v = rotation(n, rng), rotation(m, rng)
    k = min(n, m)
    return (u[:, :k] * np.geomspace(1, 1 / kappa, k)) @ v[:, :k].T, u[:, :k] @ v[:, :k].T


def spectra(n=200):
    rng = np.random.default_rng(1)
    return {
        "Gaussian": rng.standard_normal((n, n)),
        "wide Gaussian": rng.standard_normal((n, 4 * n)),
        "log-spaced": log_spaced(n, n, 1e3)[0],
        "decaying like 1 / j": (rotation(n, rng) / np.arange(1, n + 1)) @ rotation(n, rng),
        "decaying like 1 / sqrt j": (rotation(n, rng) / np.sqrt(np.arange(1, n + 1))) @ rotation(n, rng),
    }


@pytest.mark.parametrize("ops", [Blas(), Reference()], ids=["blas", "reference"])
def test_the_quadrature_is_exact_for_polynomials_in_the_gram_matrix(ops):
    g = np.random.default_rng(0).standard_normal((60, 60)) / 10
    rule = lanczos(ops, ops.gram(g), 5, seed=3)
    from orthotheory.polar.spectrum import _start

    v, r = _start(60, 3, "d"), g @ g.T
    for power in range(10):  # degree below 2 * 5
        exact = v @ np.linalg.matrix_power(r, power) @ v
        assert rule.mean(lambda s, k=power: s ** (2 * k)) == pytest.approx(exact, rel=1e-10)
    exact = v @ np.linalg.matrix_power(r, 10) @ v
    assert rule.mean(lambda s: s**20) != pytest.approx(exact, rel=1e-6)  # and no further


def test_batches_of_any_namespace_have_the_quadratures_of_their_members(xp):
    g = np.random.default_rng(0).standard_normal((3, 20, 30))
    ops = Reference()
    many = lanczos(ops, ops.gram(xp.asarray(g)))
    for i in range(3):
        one = lanczos(Blas(), Blas().gram(g[i].copy()))
        np.testing.assert_allclose(many.values[i], one.values, rtol=1e-9)
        np.testing.assert_allclose(many.weights[i], one.weights, rtol=1e-7, atol=1e-12)
    divisor = Lanczos().of_operations(ops, ops.gram(xp.asarray(g)))
    assert device_of(divisor) == xp.device
    np.testing.assert_allclose(to_host(divisor), 1.02 * lanczos(ops, ops.gram(xp.asarray(g)), 16).top, rtol=1e-12)


@pytest.mark.parametrize("label", spectra())
def test_the_estimate_of_sigma_1_is_below_it_and_close(label):
    g = spectra()[label]
    ops = Blas()
    ratio = float(lanczos(ops, ops.gram(g)).top) / np.linalg.norm(g, 2)
    assert 0.97 < ratio <= 1 + 1e-12


@pytest.mark.parametrize("label", spectra())
def test_the_predicted_efficiency_is_that_of_the_map(label):
    g = spectra()[label]
    s = np.linalg.svd(g, compute_uv=False)
    ops = Blas()
    rule = density(ops, ops.gram(g))
    for step in (rational(1, 0.1), rational(2, 0.02)):
        sample = rule.quantiles()
        predicted, true = (float(np.sum(x * step(x / s[0])) / (1 + step.error) / x.sum()) for x in (sample, s))
        # one start vector: a standard error of (2 / n)^(1/2) = 10 % of the loss, and what eight nodes cannot resolve
        assert abs(predicted - true) < 0.5 * (1 - true)


def test_a_matrix_of_rank_one_or_of_one_row_has_one_value():
    for g in (np.outer(np.ones(5), np.ones(7)), np.full((1, 4), 2.0)):
        ops = Blas()
        rule = density(ops, ops.gram(g))
        assert float(rule.top) == pytest.approx(np.linalg.norm(g, 2), rel=1e-12)


@pytest.mark.parametrize("kappa", [3.0, 1e3, 1e6])
def test_the_condition_estimate_is_below_the_truth_and_close(kappa):
    g, _ = log_spaced(80, 80, kappa)
    ops = Blas()
    estimate = condition(ops, ops.gram(g), 1.0)
    # from below, but the smallest eigenvalue of the Gram matrix carries an error of n eps, kappa^2 n eps of itself
    assert 0.8 * kappa < estimate < kappa * (1 + 1e-8 + 80 * np.finfo(float).eps * kappa**2)


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("kappa", [1e3, 1e8, 1e12])
def test_the_condition_by_lu_goes_further(kappa, order):
    g, _ = log_spaced(80, 80, kappa)
    estimate = condition_of_square(np.asarray(g, order=order), 1.0)
    assert 0.8 * kappa < estimate < kappa * (1 + 1e-8 + 80 * np.finfo(float).eps * kappa)


def test_the_condition_is_estimated_in_any_namespace(xp):
    g, _ = log_spaced(20, 30, 100.0)
    ops = Reference()
    assert condition(ops, ops.gram(xp.asarray(g)), 1.0) == pytest.approx(100.0, rel=1e-9)


def test_a_condition_beyond_the_gram_matrix_is_infinite():
    g, _ = log_spaced(80, 80, 1e12)
    ops = Blas()
    assert condition(ops, ops.gram(g), 1.0) == np.inf


# Choosing


def efficiency(g, x):
    x = x.astype(float)
    return np.sum(g * x) / (np.linalg.norm(x, 2) * np.linalg.norm(g, "nuc"))


@pytest.mark.parametrize("wanted", [0.9, 0.98])
@pytest.mark.parametrize("label", spectra())
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_an_efficiency_is_reached_up_to_the_resolution_of_the_estimate(label, wanted, dtype):
    g = spectra()[label]
    x = Adaptive(efficiency=wanted, costs=COSTS).apply(g.astype(dtype))
    assert x.dtype == dtype
    assert efficiency(g, x) > wanted - 0.3 * (1 - wanted)


@pytest.mark.parametrize("shape", [(90, 90), (60, 150), (150, 60)])
@pytest.mark.parametrize("given", [True, False], ids=["interval given", "interval estimated"])
@pytest.mark.parametrize(("dtype", "accuracy"), [("float32", 1e-2), ("float32", 2e-4), ("float64", 1e-8)])
def test_an_accuracy_is_reached(shape, given, dtype, accuracy):
    kappa = 200.0
    g, p = log_spaced(*shape, kappa)
    plan = Adaptive(accuracy=accuracy, interval=(1 / kappa, 1.0) if given else None, costs=COSTS)
    assert np.linalg.norm(plan.apply(g.astype(dtype)) - p, 2) < accuracy


@pytest.mark.parametrize("kappa", [1e2, 1e8, 1e12])
@pytest.mark.parametrize("shape", [(90, 90), (60, 150)])
def test_rounding_accuracy_means_orthogonality_and_a_small_backward_error(shape, kappa):
    g, _ = log_spaced(*shape, kappa)
    x = Adaptive(accuracy=1e-14, interval=(0.5 / kappa, 1.0), costs=COSTS).apply(g)
    assert np.linalg.norm(x @ x.T - np.eye(shape[0]), 2) < 2e-14
    h = g @ x.T
    h = (h + h.T) / 2
    assert np.linalg.norm(g - h @ x) < 2e-14 * np.linalg.norm(g)
    assert np.linalg.eigvalsh(h)[0] > -1e-14


def test_a_wide_float32_matrix_is_served_on_one_gram_matrix_in_float64():
    g, p = log_spaced(40, 640, 1e3)
    choice = by_interval(9e-4, 1e-4, True, COSTS, 16.0)
    assert choice.gram_dtype == "float64"
    assert choice.blocks == (len(choice.steps),)
    x = Adaptive(accuracy=1e-4, interval=(1e-3, 1.0), costs=COSTS).apply(g.astype("float32"))
    assert np.linalg.norm(x - p, 2) < 1e-4


def test_cheaper_is_chosen_where_less_is_wanted():
    tight, loose = (by_interval(1e-2, accuracy, True, COSTS, 1.0) for accuracy in (1e-3, 1e-1))
    assert loose.cost < tight.cost
    assert loose.predicted <= 1e-1
    assert tight.predicted <= 1e-3


@pytest.mark.parametrize(
    "plan", [Adaptive(efficiency=0.95, costs=COSTS), Adaptive(accuracy=1e-3, costs=COSTS)], ids=str
)
def test_zero_nan_scale_and_batches_are_as_for_every_plan(xp, plan):
    g = np.stack([log_spaced(9, 7, 10.0, seed)[0] for seed in range(4)])
    g[1] = 0
    g[2, 3, 3] = np.inf
    out = to_host(plan.apply(xp.asarray(g)))
    np.testing.assert_array_equal(out[1], 0)
    assert np.isnan(out[2]).all()
    for member, factor in ((0, 1.0), (3, 1.0), (3, 2.0**600), (3, 2.0**-600)):
        alone = to_host(plan.apply(xp.asarray(g[member] * factor)))
        np.testing.assert_array_equal(alone, out[member])


@pytest.mark.parametrize(
    "plan", [Adaptive(efficiency=0.95, costs=COSTS), Adaptive(accuracy=1e-3, costs=COSTS)], ids=str
)
def test_a_view_with_gaps_is_the_matrix_that_it_shows(plan):
    g = np.random.default_rng(0).standard_normal((20, 60))[::2, ::3]
    np.testing.assert_array_equal(plan.apply(g), plan.apply(g.copy()))


@pytest.mark.parametrize("shape", [(50, 50), (40, 70)])
@pytest.mark.parametrize("kappa", [1e3, 1e9])
def test_the_interval_is_found_in_float64_up_to_conditions_that_the_gram_matrix_cannot_show(shape, kappa):
    g, p = log_spaced(*shape, kappa)
    x = Adaptive(accuracy=1e-14, costs=COSTS).apply(g)
    assert np.linalg.norm(x @ x.T - np.eye(shape[0]), 2) < 2e-14
    assert np.linalg.norm(x - p, 2) < 32 * max(shape) * np.finfo(float).eps * kappa


def test_an_interval_that_does_not_hold_gives_the_exact_factor_or_its_own_map_but_no_error():
    g, _ = log_spaced(60, 60, 1e9)
    x = Adaptive(accuracy=1e-3, interval=(0.5, 1.0), costs=COSTS).apply(g)
    assert np.linalg.norm(x, 2) < 1.01
    x = Adaptive(accuracy=1e-3, interval=(1e-9, 1.0), costs=COSTS).apply(np.outer(g[0], g[0]))
    assert np.isfinite(x).all()


def test_a_singular_matrix_gets_the_exact_factor():
    g = np.outer(np.arange(1.0, 7), np.arange(1.0, 6))
    x = Adaptive(accuracy=1e-6, costs=COSTS).apply(g)
    np.testing.assert_allclose(x, polar_factor(g), atol=1e-14)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "one of the two"),
        ({"efficiency": 0.9, "accuracy": 0.1}, "one of the two"),
        ({"efficiency": 1.0}, "efficiency must lie in"),
        ({"accuracy": 0.1, "interval": (1.0, 0.5)}, "0 < low < high"),
    ],
    ids=["none", "both", "one", "interval"],
)
def test_what_cannot_be_wanted_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        Adaptive(**options)
