"""Problems over a ball: their optima are KKT points, independent solvers agree, and Lion-K settles there."""

from __future__ import annotations

import numpy as np
import pytest
from threadpoolctl import threadpool_limits

from orthotheory import norms, problems, run
from orthotheory.methods import LionK, TrustRegion
from orthotheory.problems.solvers import frank_wolfe, projected_gradient, proximal_gradient

CASES = {
    "projection on the spectral ball": {"name": "projection"},
    "projection on the nuclear ball": {"name": "projection", "ball": "nuclear"},
    "projection on the box": {"name": "projection", "ball": "max-entry"},
    "projection on the row ball": {"name": "projection", "ball": "row-max"},
    "optimum inside": {"name": "spectral-face", "location": "inside"},
    "optimum on a face": {"name": "spectral-face", "location": "face"},
    "optimum at a vertex": {"name": "spectral-face", "location": "vertex"},
    "digits with a budget": {"name": "digits-budget"},
}


@pytest.fixture(autouse=True)
def one_thread():
    with threadpool_limits(1):
        yield


@pytest.fixture(params=CASES, scope="module")
def problem(request):
    return problems.make(**CASES[request.param])


def test_the_optimum_is_feasible_and_a_kkt_point(problem):
    assert problem.ball.value(problem.optimum) <= problem.radius * (1 + 1e-12)
    scale = problem.radius * float(problem.ball.dual(problem.grad(problem.start)))
    assert abs(problem.gap(problem.optimum)) <= 1e-9 * scale  # the digits are solved to 1e-10


def test_a_point_next_to_the_optimum_is_no_kkt_point(problem):
    away = problem.ball.project(problem.optimum * 0.9 + 0.01, problem.radius)
    assert problem.gap(away) > 1e-4


def test_projected_gradient_finds_the_optimum(problem):
    solution = projected_gradient(problem, problem.ball, problem.radius)
    # the gap bounds f(x) - f*, and each value is rounded
    assert solution.value - problem.optimal_value <= 1e-10 + 1e-13 * abs(solution.value)
    assert solution.value >= problem.optimal_value - 1e-9 * (1 + abs(solution.value))


def test_frank_wolfe_with_line_search_agrees_on_the_digits_to_1e_8():
    problem = problems.make("digits-budget")
    other = frank_wolfe(problem, problem.ball, problem.radius, tolerance=1e-9, limit=500)
    assert other.gaps[-1] <= 1e-8
    assert abs(other.value - problem.optimal_value) <= 1e-8


@pytest.mark.parametrize("ball", ["nuclear", "spectral", "row-max"])
def test_lion_k_settles_at_the_optimum_up_to_its_step_size(ball):
    names = {"nuclear": "spectral", "spectral": "nuclear", "row-max": "row-sum"}  # K is the dual of the ball's norm
    problem = problems.make("projection", ball=ball, scale=2.0)
    distances = []
    for lr in (0.02, 0.002):
        method = LionK(names[ball], lr=lr, weight_decay=1 / problem.radius)
        trace = run(problem, method, int(30 / lr), record=("distance",), every=int(1 / lr))
        distances.append(trace["distance"][-3:].mean())
    # In proportion to lr where K has a kink at the solution, to rounding where it has none.
    size = float(np.linalg.norm(problem.optimum))
    assert distances[1] < max(0.2 * distances[0], 1e-9 * size)
    assert distances[0] < 0.1 * size


def test_muon_with_decay_settles_at_the_digits_optimum():
    problem = problems.make("digits-budget")
    method = LionK("nuclear", lr=0.005, beta1=0.9, beta2=0.9, weight_decay=1 / problem.radius)
    trace = run(problem, method, 1200, record=("gap", "distance"), every=50)
    assert trace["gap"][-1] < 1e-3 * trace["gap"][0]
    assert trace["distance"][-1] < 0.05 * float(np.linalg.norm(problem.optimum))


def test_without_decay_the_same_steps_leave_the_ball():
    """The negative control of the two tests above."""
    problem = problems.make("digits-budget")
    trace = run(problem, TrustRegion(lr=0.005), 600, record=("weight_norm",), every=600)
    assert trace["weight_norm"][-1] > 3 * problem.radius


class TestStarConvex:
    """f = (1 + sin(4 theta)^2 / 2) |x|^2."""

    inner = problems.StarConvex(np.array([[1.0, 0.0]]))
    points = np.random.default_rng(0).standard_normal((4000, 1, 2))

    def test_it_is_star_convex_around_zero(self):
        pairing = np.sum(self.inner.grad(self.points) * self.points, axis=(-2, -1))
        np.testing.assert_allclose(pairing, 2 * self.inner.value(self.points), rtol=1e-12)

    def test_it_is_not_convex(self):
        x, y = self.points[:2000], self.points[2000:]
        middle = self.inner.value((x + y) / 2)
        assert np.any(middle > (self.inner.value(x) + self.inner.value(y)) / 2 + 1e-3)

    def test_the_smoothness_bound_is_not_beaten_and_nearly_attained(self):
        step = 1e-5 * np.random.default_rng(1).standard_normal(self.points.shape)
        change = np.linalg.norm(self.inner.grad(self.points + step) - self.inner.grad(self.points), axis=(-2, -1))
        ratio = np.max(change / np.linalg.norm(step, axis=(-2, -1)))
        bound = float(self.inner.smoothness(norms.Frobenius()))
        assert 0.99 * bound < ratio <= bound * (1 + 1e-3)  # the finite step sees the third derivative

    def test_an_unknown_norm_and_a_wrong_shape_are_refused(self):
        with pytest.raises(ValueError, match="knows its smoothness in"):
            self.inner.smoothness(norms.RowMax())
        with pytest.raises(ValueError, match=r"shape \(..., 1, 2\); got \(2, 2\)"):
            problems.StarConvex(np.zeros((2, 2)))


def test_an_optimum_outside_the_ball_is_refused():
    inner = problems.quadratic(rows=3, columns=3)
    with pytest.raises(ValueError, match="must lie in the ball of radius 1"):
        problems.Constrained(inner, norms.Spectral(), 1.0, 5 * np.eye(3))


@pytest.mark.parametrize(("norm", "weight"), [(norms.SumEntry(), 0.3), (norms.Nuclear(), 0.5), (norms.RowSum(), 0.4)])
def test_proximal_gradient_solves_the_penalized_problem(norm, weight):
    """Optimality: -grad f lies in weight times the dual ball and is aligned with x."""
    problem = problems.quadratic(rows=5, columns=4, left_condition=5.0, alignment="generic", seed=3)
    solution = proximal_gradient(problem, norm, weight)
    g = problem.grad(solution.x)
    assert norm.dual(g) <= weight * (1 + 1e-8)
    assert abs(np.sum(-g * solution.x) - weight * norm.value(solution.x)) <= 1e-8 * (1 + norm.value(solution.x))


def test_proximal_gradient_on_a_separable_problem_is_the_prox():
    target = np.random.default_rng(4).standard_normal((4, 3))
    problem = problems.KroneckerQuadratic(np.eye(4), np.eye(3), target, np.zeros((4, 3)))
    solution = proximal_gradient(problem, norms.Nuclear(), 0.7)
    np.testing.assert_allclose(solution.x, norms.Nuclear().prox(target, 0.7), atol=1e-9)


def test_proximal_gradient_says_when_it_did_not_arrive():
    with pytest.raises(RuntimeError, match="left a map of"):
        proximal_gradient(problems.quadratic(rows=3, columns=3), norms.Nuclear(), 0.1, limit=2)
