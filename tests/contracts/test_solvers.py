"""The reference solvers agree with each other and with closed forms, and their gap bounds what is left."""

import numpy as np
import pytest
from threadpoolctl import threadpool_limits

from orthotheory import norms, problems
from orthotheory.problems.solvers import (
    away_step_frank_wolfe,
    frank_wolfe,
    frank_wolfe_gap,
    line_search,
    projected_gradient,
)


@pytest.fixture(autouse=True)
def one_thread():
    """Thousands of small products: threads cost ten times what they save."""
    with threadpool_limits(1):
        yield


def projection_problem(seed=0, shape=(5, 4)):
    """f = |X - Y|_F^2 / 2 with Gaussian Y of size 2."""
    target = 2.0 * np.random.default_rng(seed).standard_normal(shape)
    return problems.KroneckerQuadratic(np.eye(shape[0]), np.eye(shape[1]), target, np.zeros(shape))


def skewed_problem(seed=0):
    """A strongly convex quadratic whose curvature couples the rows; condition number below 100."""
    rng = np.random.default_rng(seed)
    a = rng.standard_normal((5, 5))
    a = a @ a.T / 5 + 0.05 * np.eye(5)
    return problems.KroneckerQuadratic((a + a.T) / 2, np.eye(4), 2.0 * rng.standard_normal((5, 4)), np.zeros((5, 4)))


BALLS = {
    "spectral": norms.Spectral(),
    "nuclear": norms.Nuclear(),
    "max-entry": norms.MaxEntry(),
    "row-max": norms.RowMax(),
    "frobenius": norms.Frobenius(),
    "sum-entry": norms.SumEntry(),
}
# Radii at which plain Frank-Wolfe reaches a gap of 1e-10 within 4000 steps.
SMALL = {"spectral": 1.0, "nuclear": 3.0, "max-entry": 1.0, "row-max": 2.5, "frobenius": 3.0, "sum-entry": 1.0}


@pytest.mark.parametrize("name", BALLS)
def test_both_solvers_find_the_projection_on_a_small_ball(name):
    """A gap of 1e-10 bounds both f - f* and, as f is 1-strongly convex, |X - X*|^2 / 2: 1.5e-5 in X."""
    problem, ball, radius = projection_problem(), BALLS[name], SMALL[name]
    closed = ball.project(problem.optimum, radius)
    value = 0.5 * np.sum((closed - problem.optimum) ** 2)
    projected, conditional = projected_gradient(problem, ball, radius), frank_wolfe(problem, ball, radius, limit=4000)
    for solution in (projected, conditional):
        assert ball.value(solution.x) <= radius * (1 + 1e-12)
        assert solution.value == pytest.approx(value, abs=1e-8)
        assert solution.value == pytest.approx(float(problem.value(solution.x)), abs=1e-12)
        assert solution.gaps[-1] <= 1e-10
        np.testing.assert_allclose(solution.x, closed, atol=1.5e-5)
    assert projected.value == pytest.approx(conditional.value, abs=1e-8)


@pytest.mark.parametrize("share", [0.3, 0.8])
@pytest.mark.parametrize("name", BALLS)
def test_the_projected_gradient_finds_the_projection_at_any_radius_and_frank_wolfe_comes_close(name, share):
    """Plain Frank-Wolfe is slow where the solution lies within a face: there its own gap says how far it is."""
    problem, ball = projection_problem(1), BALLS[name]
    radius = share * float(ball.value(problem.optimum))
    closed = ball.project(problem.optimum, radius)
    value = 0.5 * np.sum((closed - problem.optimum) ** 2)
    projected = projected_gradient(problem, ball, radius)
    assert projected.value == pytest.approx(value, abs=1e-10)
    np.testing.assert_allclose(projected.x, closed, atol=1.5e-5)
    conditional = frank_wolfe(problem, ball, radius, limit=300)
    # f - f* <= 2 L D^2 / (k + 2) with the Frobenius diameter D: at most 2 sqrt(20) radius for these balls
    assert conditional.value - value <= min(conditional.gaps.min(), 2 * 4 * 20 * radius**2 / 302) + 1e-10
    assert conditional.value >= value - 1e-10


@pytest.mark.parametrize("name", ["spectral", "nuclear", "row-max", "sum-entry"])
def test_both_solvers_agree_where_the_projection_is_no_answer(name):
    problem, ball = skewed_problem(), BALLS[name]
    projected = projected_gradient(problem, ball, 1.0)
    conditional = frank_wolfe(problem, ball, 1.0, limit=6000, tolerance=1e-9)
    assert projected.value == pytest.approx(conditional.value, abs=1e-8)
    naive = float(problem.value(ball.project(problem.optimum, 1.0)))
    assert naive > projected.value + 1e-3


def test_an_interior_optimum_is_found_without_the_constraint():
    problem = skewed_problem()
    ball = norms.Spectral()
    solution = projected_gradient(problem, ball, 2 * float(ball.value(problem.optimum)))
    assert solution.value == pytest.approx(0.0, abs=1e-10)
    away = away_step_frank_wolfe(problem, 2 * float(np.abs(problem.optimum).sum()))
    assert away.value == pytest.approx(0.0, abs=1e-10)


@pytest.mark.parametrize("radius", [3.0, 100.0], ids=["on the boundary", "inside"])
def test_the_projected_gradient_is_accelerated(radius):
    """Steps like sqrt(condition) log(gap / tolerance), 900 here, where the plain method takes condition times that.

    Without the momentum it takes 16000 steps here, without the restarts 10000.
    """
    easy = problems.quadratic(rows=5, columns=4, left_condition=1000.0, alignment="generic", seed=1)
    problem = problems.KroneckerQuadratic(easy.a, easy.b, easy.optimum, np.zeros((5, 4)))
    solution = projected_gradient(problem, norms.Spectral(), radius)
    assert solution.steps <= np.sqrt(1000.0) * np.log(solution.gaps[0] / 1e-10)


def test_open_loop_steps_are_two_over_k_plus_two():
    problem, ball = skewed_problem(), norms.MaxEntry()
    first = ball.lmo(problem.grad(problem.start))
    second = first / 3 + 2 / 3 * ball.lmo(problem.grad(first))
    for steps, expected in ((1, first), (2, second)):
        solution = frank_wolfe(problem, ball, 1.0, rule="open-loop", limit=steps)
        np.testing.assert_allclose(solution.x, expected, atol=1e-15)


# The gap


@pytest.mark.parametrize("rule", ["line-search", "open-loop"])
def test_the_gap_bounds_what_is_left_at_every_step(rule):
    problem, ball, radius = skewed_problem(2), norms.Nuclear(), 3.0
    best = projected_gradient(problem, ball, radius).value
    for steps in (0, 1, 2, 5, 20, 100):
        solution = frank_wolfe(problem, ball, radius, rule=rule, limit=steps)
        assert solution.steps == steps or solution.gaps[-1] <= 1e-10
        assert solution.value - best <= solution.gaps[-1] + 1e-12
        assert solution.gaps[-1] == frank_wolfe_gap(ball, radius, solution.x, problem.grad(solution.x))
        assert np.all(solution.gaps >= 0)


def test_the_gap_is_the_largest_product_over_vertices():
    rng = np.random.default_rng(3)
    x, grad = rng.standard_normal((2, 4, 3))
    gap = frank_wolfe_gap(norms.SumEntry(), 2.0, x, grad)
    vertices = [s * 2.0 * np.eye(12)[i].reshape(4, 3) for i in range(12) for s in (-1, 1)]
    assert gap == pytest.approx(max(np.sum(grad * (x - v)) for v in vertices), rel=1e-13)


def test_a_gap_without_the_radius_would_not_bound_it():
    """The negative control: the linear part alone is below f - f* somewhere on the way."""
    problem, ball, radius = skewed_problem(2), norms.Nuclear(), 3.0
    best = projected_gradient(problem, ball, radius).value
    x = frank_wolfe(problem, ball, radius, limit=5).x
    assert problem.value(x) - best > np.sum(problem.grad(x) * x)


def test_open_loop_steps_converge_at_the_rate_of_the_theory():
    """f - f* <= 2 L D^2 / (k + 2), D = 2 * 3 the Frobenius diameter of the nuclear ball of radius 3."""
    problem, ball, radius = skewed_problem(2), norms.Nuclear(), 3.0
    best = projected_gradient(problem, ball, radius).value
    smoothness = float(problem.smoothness(norms.Frobenius()))
    for steps in (1, 10, 100, 1000):
        left = frank_wolfe(problem, ball, radius, rule="open-loop", limit=steps).value - best
        assert left <= 2 * smoothness * (2 * radius) ** 2 / (steps + 2)


def test_the_line_search_stops_at_the_least_point_of_the_segment():
    problem = skewed_problem(4)
    rng = np.random.default_rng(5)
    x, direction = rng.standard_normal((2, 5, 4))
    direction *= -np.sign(np.sum(direction * problem.grad(x)))  # downhill
    best = -np.sum(direction * problem.grad(x)) / float(problem.curvature(direction))
    assert line_search(problem, x, direction, 10 * best) == pytest.approx(best, rel=1e-12)
    assert line_search(problem, x, direction, 0.5 * best) == 0.5 * best
    assert line_search(problem, x, -direction, 1.0) == pytest.approx(0.0, abs=1e-15)


# Away steps on the l1 ball


@pytest.mark.parametrize("radius", [1.0, 6.0, 12.0])
@pytest.mark.parametrize("seed", [0, 1])
def test_away_steps_and_the_projected_gradient_agree_on_the_l1_ball(radius, seed):
    problem, ball = skewed_problem(seed), norms.SumEntry()
    away, projected = away_step_frank_wolfe(problem, radius), projected_gradient(problem, ball, radius)
    assert away.gaps[-1] <= 1e-10
    assert away.value == pytest.approx(projected.value, abs=1e-10)
    # mu / 2 |X - X*|^2 <= gap on both sides, with mu >= 0.05
    np.testing.assert_allclose(away.x, projected.x, atol=2 * np.sqrt(2 * 1e-10 / 0.05))
    assert ball.value(away.x) <= radius * (1 + 1e-9)


def first_below(gaps, level):
    return int(np.argmax(gaps <= level)) if np.any(gaps <= level) else len(gaps)


@pytest.mark.parametrize("radius", [6.0, 12.0])
def test_away_steps_converge_linearly_where_plain_frank_wolfe_does_not(radius):
    """Linear: another four digits take about as many steps as four digits before. Sublinear: 1e4 times as many."""
    problem = skewed_problem()
    away = away_step_frank_wolfe(problem, radius)
    early = first_below(away.gaps, 1e-5) - first_below(away.gaps, 1e-1)
    late = first_below(away.gaps, 1e-9) - first_below(away.gaps, 1e-5)
    assert late <= 2 * early + 10
    assert away.steps < 300
    plain = frank_wolfe(problem, norms.SumEntry(), radius, limit=2000)
    assert plain.gaps.min() > 1e-3
    # its least gap falls like 1 / k: between 250 and 2000 steps by about 8, and far less than the 1e4 of linear rates
    assert plain.gaps[:250].min() / plain.gaps.min() < 100


# Digits: a real problem with a spectral budget


def test_both_solvers_agree_on_the_digits_with_a_spectral_budget():
    problem, ball, radius = problems.digits(), norms.Spectral(), 0.5
    projected = projected_gradient(problem, ball, radius, tolerance=1e-9)
    conditional = frank_wolfe(problem, ball, radius, tolerance=1e-9, limit=200)
    assert projected.value == pytest.approx(conditional.value, abs=1e-8)
    for solution in (projected, conditional):
        assert ball.value(solution.x) == pytest.approx(radius, rel=1e-9)  # the budget is used up
    assert projected.value > problem.optimal_value + 0.1


# Errors


def test_an_unknown_rule_is_refused():
    with pytest.raises(ValueError, match="rule must be 'open-loop' or 'line-search'; got 'armijo'"):
        frank_wolfe(projection_problem(), norms.Spectral(), 1.0, rule="armijo")


def test_a_projected_gradient_that_does_not_arrive_says_how_far_it_is():
    with pytest.raises(RuntimeError, match=r"left a gap of \d.*e[+-]\d+ after 2 steps; allowed is 1e-10"):
        projected_gradient(skewed_problem(), norms.Nuclear(), 6.0, limit=2)


@pytest.mark.parametrize("solver", [projected_gradient, frank_wolfe], ids=lambda f: f.__name__)
def test_a_negative_radius_is_refused(solver):
    with pytest.raises(ValueError, match=r"radius must lie in \[0, inf\); got -1"):
        solver(projection_problem(), norms.Spectral(), -1.0)


@pytest.mark.parametrize("solver", [frank_wolfe, away_step_frank_wolfe], ids=lambda f: f.__name__)
def test_a_limit_returns_what_there_is_with_its_gap(solver):
    arguments = (skewed_problem(), norms.SumEntry(), 6.0) if solver is frank_wolfe else (skewed_problem(), 6.0)
    solution = solver(*arguments, limit=3)
    assert solution.steps == 3
    assert solution.gaps[-1] > 1e-10
