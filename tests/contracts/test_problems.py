"""Problems: gradients, optima, constants per norm that no direction beats, unbiased noise, the ramp's promises."""

import math

import numpy as np
import pytest
import scipy.optimize
import scipy.stats
from conftest import eps_of

from orthotheory import methods, norms, problems, run
from orthotheory.arrays import Backend, backend, device_of, dtype_name, to_host
from orthotheory.names import UnknownName
from orthotheory.norms import (
    ColumnMax,
    ColumnPeakSum,
    ColumnSum,
    DualKyFan,
    EntryLp,
    Euclidean,
    Frobenius,
    KyFan,
    MaxEntry,
    Nuclear,
    OneToOne,
    OneToRms,
    RmsToInf,
    RmsToRms,
    RowMax,
    RowSum,
    Scaled,
    Schatten,
    Spectral,
    SumEntry,
)
from orthotheory.problems import (
    Gaussian,
    HeavyTailed,
    KroneckerQuadratic,
    LeastSquares,
    LowRank,
    Minibatch,
    Ramp,
    SoftmaxRegression,
    best_radius,
    log_spectrum,
)
from orthotheory.problems.contract import Problem
from orthotheory.problems.curvature import Form, expansion

CPU = backend("cpu")


def small_softmax(xp: Backend = CPU, dtype="float64", noise=None):
    """Softmax regression on 20 random samples of 4 features in 3 classes."""
    rng = np.random.default_rng(0)
    inputs = xp.asarray(rng.standard_normal((20, 4)), dtype=dtype)
    return SoftmaxRegression(inputs, rng.integers(3, size=20), classes=3, regularization=0.05, noise=noise)


BUILDERS = {
    "quadratic, commuting, random basis": lambda xp, **o: problems.quadratic(rows=5, columns=4, device=xp, **o),
    "quadratic, generic, standard basis": lambda xp, **o: problems.quadratic(
        rows=4, columns=5, right_condition=7.0, alignment="generic", basis="standard", device=xp, **o
    ),
    "least squares": lambda xp, **o: problems.least_squares(samples=30, rows=4, columns=3, device=xp, **o),
    "ramp": lambda xp, **o: problems.ramp(budget=10, curvature=2.0, device=xp, **o),
    "softmax": lambda xp, **o: small_softmax(xp, **o),
}
each_problem = pytest.mark.parametrize("build", BUILDERS.values(), ids=BUILDERS.keys())


# Values, gradients and optima


@each_problem
def test_the_gradient_is_the_central_difference_of_the_value(build, xp):
    """With h = 1e-4 and third derivatives below 10 the truncation is below 10 h^2 / 6 = 2e-8.

    Values of at most 100 round the quotient by 100 eps / h = 2e-10. On the ramp the points stay off the kink.
    """
    problem, h = build(xp), 1e-4
    rng = np.random.default_rng(1)
    start = to_host(problem.start)
    for w in (start, to_host(problem.optimum) + 0.1 * rng.standard_normal(start.shape)):
        grad = to_host(problem.grad(xp.asarray(w)))
        for _ in range(5):
            d = rng.standard_normal(start.shape)
            d /= np.linalg.norm(d)
            ends = [float(to_host(problem.value(xp.asarray(w + sign * h * d)))) for sign in (1, -1)]
            assert (ends[0] - ends[1]) / (2 * h) == pytest.approx((grad * d).sum(), abs=3e-8)


@each_problem
def test_a_batch_of_weights_gives_a_batch_of_values_and_gradients(build, xp):
    problem = build(xp)
    w = np.random.default_rng(2).standard_normal((2, 3, *problem.start.shape))
    values, grads = problem.value(xp.asarray(w)), problem.grad(xp.asarray(w))
    assert values.shape == (2, 3)
    assert grads.shape == w.shape
    for index in np.ndindex(2, 3):
        alone = xp.asarray(w[index])
        # sums of at most 100 terms in another order
        np.testing.assert_allclose(to_host(values)[index], to_host(problem.value(alone)), rtol=100 * eps_of(w))
        np.testing.assert_allclose(
            to_host(grads)[index], to_host(problem.grad(alone)), atol=100 * eps_of(w) * np.abs(w).max()
        )


@each_problem
def test_every_backend_has_the_same_problem_and_the_same_numbers(build, xp):
    here, numpy = build(xp), build(CPU)
    w = np.random.default_rng(3).standard_normal(numpy.start.shape)
    np.testing.assert_array_equal(to_host(here.start), numpy.start)
    # solved and drawn on the host: the same bits
    np.testing.assert_array_equal(to_host(here.optimum), numpy.optimum)
    assert here.optimal_value == numpy.optimal_value
    tolerance = 100 * eps_of(w) * np.abs(w).max()  # sums of at most 100 terms in another order
    np.testing.assert_allclose(to_host(here.value(xp.asarray(w))), numpy.value(w), rtol=100 * eps_of(w))
    np.testing.assert_allclose(to_host(here.grad(xp.asarray(w))), numpy.grad(w), atol=tolerance)
    assert device_of(here.grad(xp.asarray(w))) == xp.device


@each_problem
def test_the_optimum_has_a_zero_gradient_the_optimal_value_and_nothing_below(build, xp):
    problem = build(xp)
    optimum = to_host(problem.optimum)
    assert np.abs(to_host(problem.grad(problem.optimum))).max() <= 1e-12  # Newton's tolerance; the others are exact
    best = float(problem.optimal_value)
    assert float(to_host(problem.value(problem.optimum))) == pytest.approx(best, abs=10 * eps_of(optimum))
    rng = np.random.default_rng(4)
    others = optimum + rng.standard_normal((200, *optimum.shape)) * rng.choice([1e-3, 0.1, 10.0], (200, 1, 1))
    assert np.all(to_host(problem.value(xp.asarray(others))) >= best)
    assert float(to_host(problem.value(problem.start))) > best


@each_problem
def test_float32_stays_float32(build, xp):
    problem = build(xp, dtype="float32")
    for array in (problem.start, problem.optimum, problem.value(problem.start), problem.grad(problem.start)):
        assert dtype_name(array) == "float32"


@each_problem
def test_without_noise_the_noisy_gradient_is_the_gradient(build):
    problem = build(CPU)
    np.testing.assert_array_equal(
        problem.noisy_grad(problem.start, np.random.default_rng(0)), problem.grad(problem.start)
    )


def test_the_bare_contract_implements_nothing():
    w = np.zeros((2, 2))
    for call in (Problem().value, Problem().grad, Problem().smoothness, Problem().strong_convexity):
        with pytest.raises(NotImplementedError):
            call(w)


# Quadratics and least squares


@pytest.mark.parametrize("basis", ["random", "standard"])
def test_a_quadratic_has_the_condition_numbers_asked_for_log_spaced(basis):
    problem = problems.quadratic(rows=6, columns=3, left_condition=100.0, right_condition=10.0, basis=basis)
    for factor, condition in ((problem.a, 100.0), (problem.b, 10.0)):
        eigenvalues = np.linalg.eigvalsh(factor)
        expected = np.geomspace(1 / condition, 1.0, len(factor))
        np.testing.assert_allclose(eigenvalues, expected, atol=32 * len(factor) * eps_of(factor))
        assert (basis == "standard") == bool(np.all(factor == np.diag(np.diag(factor))))


def test_alignment_says_whether_the_error_shares_the_singular_vectors():
    for alignment, commutes in (("commuting", True), ("generic", False)):
        problem = problems.quadratic(rows=5, columns=4, right_condition=50.0, alignment=alignment)
        e = problem.start - problem.optimum
        commutators = [problem.a @ e @ e.T - e @ e.T @ problem.a, problem.b @ e.T @ e - e.T @ e @ problem.b]
        # the start is optimum + e: its roundings enter e with eps times the weights of size 3
        largest = max(np.abs(c).max() for c in commutators)
        assert (largest < 1e-13) == commutes
        assert commutes or largest > 1e-2


def test_a_seed_gives_the_same_quadratic_and_another_seed_another():
    one, same, other = (problems.quadratic(rows=3, columns=3, seed=s) for s in (1, 1, 2))
    np.testing.assert_array_equal(one.a, same.a)
    np.testing.assert_array_equal(one.start, same.start)
    assert not np.array_equal(one.optimum, other.optimum)


def test_the_value_of_a_quadratic_is_half_the_curvature_of_the_error():
    problem = problems.quadratic(rows=4, columns=3, right_condition=5.0)
    w = np.random.default_rng(5).standard_normal((4, 3))
    e = (w - problem.optimum).ravel()
    hessian = np.kron(problem.a, problem.b)  # of the row-major vector
    np.testing.assert_allclose(problem.value(w), e @ hessian @ e / 2, rtol=1e-14)
    np.testing.assert_allclose(problem.grad(w).ravel(), hessian @ e, atol=1e-14)
    np.testing.assert_allclose(problem.curvature(w), w.ravel() @ hessian @ w.ravel(), rtol=1e-14)


def test_least_squares_is_the_mean_of_squares_and_its_optimum_solves_the_normal_equations():
    problem = problems.least_squares(samples=40, rows=5, columns=3, condition=30.0, seed=6)
    c, y = problem.inputs, problem.targets
    # the spectrum comes from a product with entries of size sqrt(40): its relative rounding, times the condition
    np.testing.assert_allclose(np.linalg.cond(c), 30.0, rtol=100 * 30 * eps_of(c))
    w = np.random.default_rng(7).standard_normal((5, 3))
    for x in (w, problem.optimum, problem.start):
        # value and formula share only the sum: 120 squares, and the gap to the optimum is a difference
        np.testing.assert_allclose(problem.value(x), ((c @ x - y) ** 2).sum() / 80, rtol=1000 * eps_of(c))
    np.testing.assert_allclose(problem.grad(w), c.T @ (c @ w - y) / 40, atol=1000 * eps_of(c))
    assert np.abs(c.T @ (c @ problem.optimum - y) / 40).max() <= 1000 * eps_of(c)
    assert problem.optimal_value == pytest.approx(((c @ problem.optimum - y) ** 2).sum() / 80, rel=1e-14)


def test_one_row_or_column_is_a_problem_as_well():
    for rows, columns in ((1, 5), (5, 1), (1, 1)):
        problem = problems.quadratic(rows=rows, columns=columns)
        assert problem.start.shape == (rows, columns)
        assert problem.smoothness(Spectral()).value == pytest.approx(1.0, rel=1e-12)  # eigenvalues 1 lead


# Constants per norm

NORMS = {
    "spectral": Spectral(),
    "nuclear": Nuclear(),
    "frobenius": Frobenius(),
    "max-entry": MaxEntry(),
    "sum-entry": SumEntry(),
    **{f"entry-lp p={p:g}": EntryLp(p) for p in (1.0, 1.5, 2.0, 3.0, math.inf)},
    "row-max": RowMax(),
    "row-sum": RowSum(),
    "column-max": ColumnMax(),
    "column-sum": ColumnSum(),
    "one-to-one": OneToOne(),
    "column-peak-sum": ColumnPeakSum(),
    **{f"schatten p={p:g}": Schatten(p) for p in (1.0, 1.5, 2.0, 3.0, math.inf)},
    **{f"ky-fan k={k}": KyFan(k) for k in (1, 2, 9)},
    **{f"dual-ky-fan k={k}": DualKyFan(k) for k in (1, 2, 9)},
    "rms-to-rms": RmsToRms(),
    "one-to-rms": OneToRms(),
    "rms-to-inf": RmsToInf(),
    "dual of rms-to-rms": RmsToRms().dual_norm,
    "scaled spectral": Scaled(Spectral(), 3.0),
}
each_norm = pytest.mark.parametrize("norm", NORMS.values(), ids=NORMS.keys())
QUADRATICS = {
    "diagonal": {"rows": 5, "columns": 4, "basis": "standard"},
    "random basis, tall": {"rows": 5, "columns": 3},
    "random basis, wide": {"rows": 3, "columns": 6},
    "isotropic right factor": {"rows": 4, "columns": 4, "right_condition": 1.0},
    "nearly flat, where isometries beat rank one": {
        "rows": 6,
        "columns": 6,
        "left_condition": 1.2,
        "right_condition": 1.1,
    },
}
each_quadratic = pytest.mark.parametrize(
    "problem",
    [problems.quadratic(**{"left_condition": 30.0, "right_condition": 5.0, **o}) for o in QUADRATICS.values()],
    ids=QUADRATICS.keys(),
)


def directions(problem, norm):
    """Directions that a norm's curvature may be largest or smallest along: random, structured, and ascended."""
    a, b = problem.a, problem.b
    m, n = problem.start.shape
    r = min(m, n)
    rng = np.random.default_rng(8)
    left, u = np.linalg.eigh(a)
    right, v = np.linalg.eigh(b)
    left, u, right, v = left[::-1], u[:, ::-1], right[::-1], v[:, ::-1]
    paired = left[:r] * right[:r]
    curvatures = np.outer(np.diag(a), np.diag(b))
    found = list(rng.standard_normal((60, m, n)))
    found += [np.outer(x, y) for x in u.T for y in v.T]  # rank one along the eigenvectors
    found += [u[:, :k] @ v[:, :k].T for k in range(1, r + 1)]  # aligned partial isometries
    found += [(u[:, :r] * paired ** (1 / (p - 2))) @ v[:, :r].T for p in (3.0,)]  # Schatten's maximizer
    found += [curvatures ** (1 / (p - 2)) for p in (3.0,)]  # the entrywise one
    found += [np.eye(m)[:, [i]] @ np.eye(n)[[j]] for i in range(m) for j in range(n)]  # single entries
    found += [np.ones((m, n)), np.outer(u[:, 0], np.ones(n)), np.outer(np.ones(m), v[:, 0])]
    found += [np.outer(u[:, 0], row) for row in np.eye(n)] + [np.outer(column, v[:, 0]) for column in np.eye(m)]
    ascended = np.array(found)
    for _ in range(30):  # a convex form grows when its linearization is maximized over the ball
        ascended = -norm.lmo(a @ ascended @ b)
    return np.concatenate([np.array(found), ascended])


@each_norm
@each_quadratic
def test_no_direction_beats_the_smoothness_and_an_exact_one_is_attained(problem, norm):
    """The ratio <D, H D> / (L |D|^2) is at most 1, to 1000 roundings; where L is exact it reaches 1 - 1e-6."""
    constant = problem.smoothness(norm)
    d = directions(problem, norm)
    ratios = problem.curvature(d) / (float(constant) * norm.value(d) ** 2)
    assert ratios.max() <= 1 + 1000 * eps_of(d)
    assert constant.kind in ("exact", "upper")
    if constant.kind == "exact":
        assert ratios.max() >= 1 - 1e-6
    assert constant.reason


@each_norm
@each_quadratic
def test_no_direction_beats_the_strong_convexity_and_an_exact_one_is_attained(problem, norm):
    constant = problem.strong_convexity(norm)
    d = directions(problem, norm)
    ratios = problem.curvature(d) / norm.value(d) ** 2
    assert float(constant) > 0
    # The smallest ratio comes from products that cancel: errors of 1000 eps times the largest curvature.
    assert ratios.min() >= float(constant) - 1000 * eps_of(d) * ratios.max()
    assert constant.kind in ("exact", "lower")
    if constant.kind == "exact":
        assert ratios.min() <= float(constant) * (1 + 1e-6)


@each_norm
def test_a_smaller_constant_would_be_beaten_where_it_is_called_exact(norm):
    """The negative control: one percent less fails, so the test above can."""
    problem = problems.quadratic(rows=5, columns=4, left_condition=30.0, right_condition=5.0, basis="standard")
    constant = problem.smoothness(norm)
    if constant.kind != "exact":
        assert type(norm) in (OneToOne, ColumnPeakSum, EntryLp)  # where no closed form is known for diagonal factors
        return
    d = directions(problem, norm)
    assert (problem.curvature(d) / norm.value(d) ** 2).max() > 0.99 * float(constant)


@each_norm
def test_the_expansion_is_the_largest_norm_at_frobenius_norm_one(norm):
    problem = problems.quadratic(rows=5, columns=4)
    d = directions(problem, norm.dual_norm)
    d = np.concatenate([d, -norm.dual_norm.lmo(d)])
    largest = (norm.value(d) / np.sqrt((d**2).sum(axis=(1, 2)))).max()
    assert expansion(norm, problem.form) == pytest.approx(largest, rel=1e-9)


def test_which_constants_are_exact_depends_on_the_basis_only_where_it_must():
    diagonal = problems.quadratic(rows=4, columns=3, basis="standard")
    turned = problems.quadratic(rows=4, columns=3, right_condition=5.0)
    for norm in (Spectral(), Nuclear(), Frobenius(), Schatten(3.0), KyFan(2), DualKyFan(2), SumEntry(), RowSum()):
        assert diagonal.smoothness(norm).kind == turned.smoothness(norm).kind == "exact"
    for norm in (MaxEntry(), RowMax(), ColumnMax(), EntryLp(3.0)):
        assert diagonal.smoothness(norm).kind == "exact"
        assert turned.smoothness(norm).kind == "upper"


def test_the_spectral_constant_lies_between_the_frobenius_one_and_the_rank_times_it():
    problem = problems.quadratic(rows=6, columns=4, left_condition=20.0, right_condition=3.0)
    frobenius, spectral = (float(problem.smoothness(norm)) for norm in (Frobenius(), Spectral()))
    assert frobenius < spectral < 4 * frobenius


def test_equal_norms_by_other_names_have_equal_constants():
    problem = problems.quadratic(rows=5, columns=4, left_condition=20.0, right_condition=3.0)
    for one, other in (
        (Spectral(), Schatten(math.inf)),
        (Spectral(), KyFan(1)),
        (Nuclear(), KyFan(4)),
        (Nuclear(), DualKyFan(1)),
        (Frobenius(), EntryLp(2.0)),
        (MaxEntry(), EntryLp(math.inf)),
        (SumEntry(), EntryLp(1.0)),
    ):
        for constant in (problem.smoothness, problem.strong_convexity):
            assert float(constant(one)) == pytest.approx(float(constant(other)), rel=1e-12)


@pytest.mark.parametrize(
    "norm", [Euclidean(), norms.ProductMax((Spectral(),)), "spectral"], ids=["vectors", "a product", "a name"]
)
def test_a_norm_without_a_known_constant_is_refused_not_guessed(norm):
    problem = problems.quadratic(rows=3, columns=3)
    for constant in (problem.smoothness, problem.strong_convexity):
        with pytest.raises(TypeError, match=r"No constant is known for .*; quadratics know the norms on one matrix"):
            constant(norm)


def test_a_norm_of_ones_own_is_refused_not_guessed():
    class Own(norms.Norm):
        pass

    problem = problems.quadratic(rows=3, columns=3)
    for constant in (problem.smoothness, problem.strong_convexity):
        with pytest.raises(TypeError, match=r"No constant is known for .*Own\(\)"):
            constant(Own())


@each_norm
def test_softmax_curvature_lies_between_its_lower_and_its_upper_bound(norm):
    """<D, H D> from a central difference of gradients, whose truncation of about 10 h^2 = 1e-7 is allowed for."""
    problem, h = small_softmax(), 1e-4
    rng = np.random.default_rng(9)
    upper, lower = problem.smoothness(norm), problem.strong_convexity(norm)
    assert (upper.kind, lower.kind) == ("upper", "lower")
    for scale in (0.0, 0.3, 3.0):
        w = scale * rng.standard_normal(problem.start.shape)
        d = rng.standard_normal((200, *w.shape))
        d[100:] = -norm.lmo(d[100:])
        d /= norm.value(d)[:, None, None]
        curvature = (d * (problem.grad(w + h * d) - problem.grad(w - h * d))).sum(axis=(1, 2)) / (2 * h)
        size = (d**2).sum(axis=(1, 2)).max()
        assert curvature.max() <= float(upper) + 1e-6 * size
        assert curvature.min() >= float(lower) - 1e-6 * size


def test_the_softmax_bound_is_met_within_a_factor_two_at_zero():
    """At w = 0 with two classes the probabilities are 1/2, where Boehning's bound is attained along (1, -1)."""
    rng = np.random.default_rng(10)
    problem = SoftmaxRegression(rng.standard_normal((30, 3)), rng.integers(2, size=30), classes=2, regularization=1e-6)
    top = np.linalg.eigh(problem.inputs.T @ problem.inputs)[1][:, -1]
    d = np.outer(top, [1.0, -1.0]) / math.sqrt(2)
    h = 1e-4
    curvature = (d * (problem.grad(h * d) - problem.grad(-h * d))).sum() / (2 * h)
    assert curvature == pytest.approx(float(problem.smoothness(Frobenius())), rel=1e-6)


# Digits


@pytest.fixture(scope="module")
def digits():
    return problems.make("digits", regularization=1e-2)


def test_digits_has_a_gradient_below_1e_12_at_its_optimum(digits):
    assert digits.start.shape == (64, 10)
    gradient = np.linalg.norm(digits.grad(digits.optimum))
    assert gradient <= 1.1e-12  # Newton's tolerance, and the roundings of another order of sums
    # by strong convexity the value is then exact to |grad|^2 / (2 mu)
    assert gradient**2 / (2 * digits.regularization) <= 1e-20
    np.testing.assert_allclose(digits.value(digits.optimum), digits.optimal_value, rtol=1e-13)


@pytest.mark.parametrize(("samples", "regularization"), [(1, 1e-6), (60, 1e-3), (61, 1e-3)])
def test_the_optimum_of_few_digits_is_found_where_the_value_has_no_digits_left_to_fall(samples, regularization):
    problem = problems.make("digits", samples=samples, regularization=regularization)
    assert np.linalg.norm(problem.grad(problem.optimum)) <= 2e-12  # the solver's 1e-12, evaluated in another order


def test_digits_optimal_value_is_confirmed_by_another_solver_from_another_start(digits):
    start = 0.1 * np.random.default_rng(11).standard_normal((64, 10))
    result = scipy.optimize.minimize(
        lambda w: (float(digits.value(w.reshape(64, 10))), digits.grad(w.reshape(64, 10)).ravel()),
        start.ravel(),
        jac=True,
        method="L-BFGS-B",
        options={"maxiter": 2000, "maxfun": 4000, "ftol": 1e-15, "gtol": 1e-7},
    )
    bound = float((digits.grad(result.x.reshape(64, 10)) ** 2).sum()) / (2 * digits.regularization)
    assert bound <= 1e-8
    assert -1e-14 <= result.fun - digits.optimal_value <= bound + 1e-14  # 1e-14: the rounding of a value of about 1/2


def test_digits_accuracy_counts_the_right_answers(digits):
    share_of_zeros = np.mean(digits.labels == 0)  # all logits tie at w = 0: the first class wins
    assert digits.accuracy(digits.start) == pytest.approx(share_of_zeros, rel=1e-12)
    assert 0.95 < digits.accuracy(digits.optimum) < 1.0
    guesses = (digits.inputs @ digits.optimum).argmax(axis=1)
    assert digits.accuracy(digits.optimum) == pytest.approx(np.mean(guesses == digits.labels), rel=1e-12)
    both = digits.accuracy(np.stack([digits.start, digits.optimum]))
    assert both.shape == (2,)


def test_softmax_survives_logits_that_would_overflow():
    problem = small_softmax()
    w = 1e4 * np.random.default_rng(12).standard_normal(problem.start.shape)
    assert np.isfinite(problem.value(w))
    assert np.all(np.isfinite(problem.grad(w)))


# Noise

DRAWS = 20_000
NOISE = {
    "gaussian": (Gaussian(0.3), 0.3),
    "heavy-tailed with five degrees of freedom": (HeavyTailed(0.3, 5.0), 0.3),
    "low rank one": (LowRank(0.3), 0.3),
    "low rank two": (LowRank(0.3, rank=2), 0.3),
}


def noise_of(problem, w, count=DRAWS, seed=0):
    """Draws of the noise, as one batch of runs at the same weights."""
    batch = np.broadcast_to(w, (count, *w.shape))
    return problem.noisy_grad(batch, np.random.default_rng(seed)) - problem.grad(batch)


@pytest.mark.parametrize(("noise", "sigma"), NOISE.values(), ids=NOISE.keys())
def test_noise_is_unbiased_with_the_stated_second_moment(noise, sigma):
    """Means of 20000 draws within 5 of their standard errors: a fixed seed, by chance wrong once in 10^5 per entry.

    Five degrees of freedom have a fourth moment, so that the square has a standard error.
    """
    problem = problems.quadratic(rows=4, columns=3, noise=noise)
    draws = noise_of(problem, problem.start)
    error = draws.std(axis=0) / math.sqrt(DRAWS)
    assert np.all(np.abs(draws.mean(axis=0)) <= 5 * error)
    squares = (draws**2).sum(axis=(1, 2))
    assert abs(squares.mean() - 12 * sigma**2) <= 5 * squares.std() / math.sqrt(DRAWS)


def test_low_rank_noise_has_its_rank():
    for rank in (1, 2):
        problem = problems.quadratic(rows=5, columns=4, noise=LowRank(0.3, rank=rank))
        s = np.linalg.svd(noise_of(problem, problem.start, count=50), compute_uv=False)
        # noise is a difference of gradients of size 10: what is zero is below 20 * 10 eps
        assert np.all(s[:, rank:] < 200 * eps_of(s))
        assert np.all(s[:, rank - 1] > 1e-6)


@pytest.mark.parametrize("freedom", [1.0, 1.5])
def test_noise_without_a_variance_has_the_quartile_of_students_t(freedom):
    problem = problems.quadratic(rows=4, columns=3, noise=HeavyTailed(0.3, freedom))
    draws = noise_of(problem, problem.start).ravel()
    quartile = scipy.stats.t(freedom, scale=0.3).ppf(0.75)
    # 240000 draws: the share below the quartile has standard error sqrt(.75 * .25 / 240000) = 9e-4; five of them
    assert abs(np.mean(draws < quartile) - 0.75) <= 5 * 9e-4


def test_heavy_tails_are_heavier_than_gaussian_ones():
    kurtosis = {}
    for noise in (Gaussian(0.3), HeavyTailed(0.3, 5.0)):
        problem = problems.quadratic(rows=4, columns=3, noise=noise)
        kurtosis[type(noise)] = scipy.stats.kurtosis(noise_of(problem, problem.start).ravel())
    # 6 / (5 - 4) = 6 in the limit, 0 for the normal; sample values of the first scatter widely below
    assert abs(kurtosis[Gaussian]) < 0.1
    assert kurtosis[HeavyTailed] > 1.5


@pytest.mark.parametrize("noise", [Gaussian(0.0), HeavyTailed(0.0), LowRank(0.0)], ids=["gaussian", "t", "low rank"])
def test_noise_of_size_zero_is_no_noise(noise):
    problem = problems.quadratic(rows=4, columns=3, noise=noise)
    np.testing.assert_array_equal(noise_of(problem, problem.start, count=3), np.zeros((3, 4, 3)))


@pytest.mark.parametrize(
    "noise", [Gaussian(0.3), HeavyTailed(0.3), LowRank(0.3, 2), Minibatch(7)], ids=["gaussian", "t", "low", "minibatch"]
)
def test_a_seed_gives_the_same_noise_on_every_backend_and_another_seed_another(noise, xp):
    here = problems.least_squares(samples=30, rows=4, columns=3, noise=noise, device=xp)
    numpy = problems.least_squares(samples=30, rows=4, columns=3, noise=noise)
    one = to_host(here.noisy_grad(here.start, np.random.default_rng(1)))
    same, other = (numpy.noisy_grad(numpy.start, np.random.default_rng(seed)) for seed in (1, 2))
    np.testing.assert_allclose(one, same, atol=1000 * eps_of(one))  # sums of 30 terms of size 10 in another order
    assert np.abs(one - other).max() > 1e-3


@pytest.mark.parametrize(
    "noise",
    [Gaussian(np.float64(0.3)), HeavyTailed(np.float64(0.3)), LowRank(np.float64(0.3)), Minibatch(4)],
    ids=["gaussian", "t", "low rank", "minibatch"],
)
def test_noise_keeps_the_dtype_also_with_numpy_numbers(noise, xp):
    problem = problems.least_squares(samples=30, rows=4, columns=3, noise=noise, dtype="float32", device=xp)
    grad = problem.noisy_grad(problem.start, np.random.default_rng(0))
    assert dtype_name(grad) == "float32"
    assert device_of(grad) == xp.device


def sampled_problems():
    return {
        "least squares": problems.least_squares(samples=12, rows=4, columns=3, noise=Minibatch(5)),
        "softmax": small_softmax(noise=Minibatch(5)),
    }


@pytest.mark.parametrize("label", sampled_problems())
def test_the_mean_over_single_samples_is_the_gradient_exactly(label):
    problem = sampled_problems()[label]
    w = np.random.default_rng(13).standard_normal(problem.start.shape)
    singles = [problem.sample_grad(w, np.array([i])) for i in range(problem.samples)]
    np.testing.assert_allclose(np.mean(singles, axis=0), problem.grad(w), atol=1000 * eps_of(w))
    everything = problem.sample_grad(w, np.arange(problem.samples))
    np.testing.assert_allclose(everything, problem.grad(w), atol=1000 * eps_of(w))


@pytest.mark.parametrize("label", sampled_problems())
def test_minibatches_are_unbiased_and_their_variance_falls_with_their_size(label):
    """4000 minibatches: the mean within 5 standard errors, the second moment the one of sampling with replacement."""
    problem = sampled_problems()[label]
    w = np.random.default_rng(14).standard_normal(problem.start.shape)
    rng = np.random.default_rng(15)
    draws = np.array([problem.noisy_grad(w, rng) for _ in range(4000)]) - problem.grad(w)
    assert np.all(np.abs(draws.mean(axis=0)) <= 5 * draws.std(axis=0) / math.sqrt(4000))
    singles = np.array([problem.sample_grad(w, np.array([i])) for i in range(problem.samples)])
    variance = ((singles - problem.grad(w)) ** 2).sum(axis=(1, 2)).mean()
    squares = (draws**2).sum(axis=(1, 2))
    assert abs(squares.mean() - variance / 5) <= 5 * squares.std() / math.sqrt(4000)


def test_a_batch_of_runs_shares_the_minibatch():
    problem = sampled_problems()["least squares"]
    batch = np.broadcast_to(problem.start, (3, 4, 3))
    grads = problem.noisy_grad(batch, np.random.default_rng(16))
    np.testing.assert_allclose(grads, np.broadcast_to(grads[0], grads.shape), rtol=100 * eps_of(grads))


def test_minibatches_of_a_problem_without_samples_are_refused():
    problem = problems.quadratic(rows=3, columns=3, noise=Minibatch(4))
    with pytest.raises(
        TypeError, match=r"needs a problem that is a mean over samples .* got KroneckerQuadratic. Use Gau"
    ):
        problem.noisy_grad(problem.start, np.random.default_rng(0))


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: Gaussian(-1.0), r"sigma must lie in \[0, inf\); got -1"),
        (lambda: HeavyTailed(0.1, 0.0), r"freedom must lie in \(0, inf\); got 0"),
        (lambda: LowRank(0.1, 0), r"rank must lie in \[1, inf\); got 0"),
        (lambda: Minibatch(0), r"size must lie in \[1, inf\); got 0"),
        (lambda: Gaussian(float("nan")), r"sigma must lie in \[0, inf\); got nan"),
    ],
    ids=["sigma", "freedom", "rank", "size", "nan"],
)
def test_noise_that_makes_no_sense_is_refused(build, message):
    with pytest.raises(ValueError, match=message):
        build()


# The ramp


def test_the_ramp_starts_at_the_gap_and_the_kink_is_smooth():
    problem = problems.ramp(budget=50, gap=2.5, curvature=3.0)
    assert float(problem.value(problem.start)) == pytest.approx(2.5, rel=1e-13)
    d, kink = problem.direction, problem.slope / problem.curvature
    for side in (1 - 1e-9, 1 + 1e-9):
        w = side * kink * d / (d**2).sum()
        assert float(problem.value(w)) == pytest.approx(problem.slope**2 / (2 * 3.0), rel=1e-8)
        np.testing.assert_allclose(problem.grad(w), problem.slope * d, atol=1e-8 * problem.slope)


@pytest.mark.parametrize("budget", [1, 5, 100])
def test_the_best_fixed_radius_just_fails_to_leave_the_ramp_in_its_budget(budget):
    problem = problems.ramp(budget=budget, gap=0.7, curvature=2.0, seed=3)
    radius = best_radius(problem, Spectral(), budget)
    assert radius == pytest.approx(math.sqrt(2 * 0.7 / (2.0 * budget)), rel=1e-12)
    trace = run(problem, methods.TrustRegion(Spectral(), lr=radius), budget + 1, record=("gradient_norm", "iterate"))
    np.testing.assert_allclose(trace["gradient_norm"], problem.slope, rtol=1e-9)  # the slope at every step
    end = (trace["iterate"][-1] * problem.direction).sum()
    assert end == pytest.approx(problem.slope / problem.curvature, rel=1e-9)  # budget + 1 steps end at the kink
    bound = 0.7 / (radius * budget) + 2.0 * radius / 2
    # the theorem's bound over what is met: solving gap = (K + 1) radius slope + slope^2 / (2 L) gives this, near 2
    u = 1 / budget
    assert bound / problem.slope == pytest.approx(1 + u + math.sqrt((1 + u) ** 2 + u), rel=1e-9)


@each_norm
def test_the_ramp_is_smooth_with_the_curvature_times_the_squared_dual_of_its_direction(norm):
    problem = problems.ramp(budget=5, curvature=2.0)
    constant = problem.smoothness(norm)
    assert constant.kind == "exact"
    assert float(problem.strong_convexity(norm)) == 0.0
    rng = np.random.default_rng(17)
    d = np.concatenate([rng.standard_normal((50, 4, 3)), norm.lmo(problem.direction)[None]])
    d /= norm.value(d)[:, None, None]
    h = 1e-3 * problem.slope / problem.curvature  # inside the bowl, where the form is quadratic and differences exact
    curvature = (d * (problem.grad(h * d) - problem.grad(-h * d))).sum(axis=(1, 2)) / (2 * h)
    assert curvature.max() <= float(constant) * (1 + 1e-12)
    assert curvature[-1] == pytest.approx(float(constant), rel=1e-12)


# Options


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("quadratic", {"left_condition": 0.5}, r"condition must lie in \[1, inf\); got 0.5"),
        ("quadratic", {"right_condition": math.inf}, r"condition must lie in \[1, inf\); got inf"),
        ("quadratic", {"alignment": "comuting"}, "Unknown alignment 'comuting'; did you mean 'commuting'"),
        ("quadratic", {"basis": "eigen"}, "Unknown basis 'eigen'; known are random, standard"),
        ("quadratic", {"rows": 0}, r"rows must lie in \[1, inf\); got 0"),
        ("quadratic", {"columns": -2}, r"columns must lie in \[1, inf\); got -2"),
        ("quadratic", {"colums": 3}, "quadratic has no option 'colums'; did you mean 'columns'"),
        ("least-squares", {"samples": 3, "rows": 5}, r"samples must lie in \[5, inf\); got 3"),
        ("least-squares", {"condition": 0.0}, r"condition must lie in \[1, inf\); got 0"),
        ("ramp", {"budget": 0}, r"budget must lie in \[1, inf\); got 0"),
        ("ramp", {"gap": 0.0}, r"gap must lie in \(0, inf\); got 0"),
        ("ramp", {"curvature": -1.0}, r"curvature must lie in \(0, inf\); got -1"),
        ("digits", {"regularization": 0.0}, r"regularization must lie in \(0, inf\); got 0"),
        ("quadratc", {}, "Unknown problem 'quadratc'; did you mean 'quadratic'"),
        (
            "quadratic",
            {"noise": {"sigma": 0.1}},
            "noise needs a 'name', one of gaussian, heavy-tailed, low-rank, minibatch",
        ),
        ("quadratic", {"noise": {"name": "gausian"}}, "Unknown noise 'gausian'; did you mean 'gaussian'"),
        (
            "quadratic",
            {"noise": {"name": "gaussian", "sigm": 1.0}},
            "gaussian has no option 'sigm'; did you mean 'sigma'",
        ),
        ("quadratic", {"device": "gpu"}, "Unknown device 'gpu'; allowed are"),
    ],
    ids=lambda value: str(value) if not isinstance(value, str) or len(value) < 20 else "",
)
def test_a_bad_option_is_refused_with_what_is_allowed(name, options, message):
    with pytest.raises(ValueError, match=message):
        problems.make(name, **options)


def test_make_builds_noise_from_a_mapping_and_records_the_configuration():
    problem = problems.make(
        "quadratic", rows=3, columns=2, noise={"name": "low-rank", "sigma": 0.2, "rank": 2}, device="cpu"
    )
    assert problem.noise == LowRank(0.2, 2)
    assert problem.config["name"] == "quadratic"
    assert problem.config["rows"] == 3
    assert problem.config["left_condition"] == 100.0  # the defaults are recorded as well
    assert problem.config["noise"] == {"name": "low-rank", "sigma": 0.2, "rank": 2}
    assert "device" not in problem.config
    assert problems.make("quadratic", noise=Gaussian(0.5)).noise == Gaussian(0.5)


@pytest.mark.parametrize("name", ["quadratic", "least-squares", "ramp"])
def test_every_name_builds_its_problem(name):
    problem = problems.make(name)
    assert type(problem) in (KroneckerQuadratic, LeastSquares, Ramp)
    assert problem.config["name"] == name


def spd(size):
    return np.diag(np.linspace(1.0, 2.0, size))


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        (
            (spd(3), spd(2), np.zeros((2, 3)), np.zeros((3, 2))),
            r"optimum and start \(m, n\); got \(3, 3\), \(2, 2\), \(2, 3\)",
        ),
        ((spd(3), np.ones((2, 3)), np.zeros((3, 3)), np.zeros((3, 3))), r"A is \(m, m\), B \(n, n\)"),
        (
            (np.triu(np.ones((2, 2))), spd(2), np.zeros((2, 2)), np.zeros((2, 2))),
            r"A must be symmetric; symmetrize it as \(A \+ A\^T\) / 2",
        ),
        ((spd(2), -spd(2), np.zeros((2, 2)), np.zeros((2, 2))), "B must be positive semidefinite; .* is -2"),
    ],
    ids=["shapes", "a factor that is not square", "not symmetric", "indefinite"],
)
def test_a_quadratic_from_bad_parts_is_refused(parts, message):
    with pytest.raises(ValueError, match=message):
        KroneckerQuadratic(*parts)


def test_least_squares_from_bad_parts_is_refused():
    with pytest.raises(ValueError, match=r"inputs are \(N, m\) and targets \(N, n\); got \(4, 3\) and \(5, 2\)"):
        LeastSquares(np.zeros((4, 3)), np.zeros((5, 2)), np.zeros((3, 2)))


def test_log_spectrum_runs_from_one_to_the_inverse_condition():
    np.testing.assert_allclose(log_spectrum(5, 16.0), [1, 0.5, 0.25, 0.125, 0.0625], rtol=1e-15)
    np.testing.assert_array_equal(log_spectrum(1, 100.0), [1.0])


def test_a_form_of_the_host_pairs_the_sorted_eigenvalues():
    form = Form(np.diag([1.0, 5.0, 2.0]), np.diag([3.0, 7.0]))
    np.testing.assert_allclose(form.paired(), [35.0, 6.0], rtol=1e-15)
    assert form.top == pytest.approx(35.0)
    assert form.bottom == pytest.approx(3.0)


def test_unknown_names_are_value_errors():
    assert issubclass(UnknownName, ValueError)
