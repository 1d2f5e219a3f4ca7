"""Where aggregators end when one objective is rescaled, against points of the Pareto set in closed form."""

import numpy as np
import pytest

from orthotheory import problems, surgery
from orthotheory.surgery.limits import scale_curve

FACTORS = np.array([0.1, 1.0, 10.0])


@pytest.fixture
def problem():
    return problems.pareto_quadratics(rows=2, condition=4.0, seed=3)


@pytest.mark.parametrize("name", ["mean", "sum"])
def test_the_mean_ends_at_the_pareto_point_whose_weights_are_the_factors(problem, name):
    """Contraction by 1 - 1/(8 max(s, 1)) a step at least at condition 4 in the mean: 1e-10 within 2000 steps."""
    curve = scale_curve(surgery.make(name), problem, FACTORS)
    wanted = problem.pareto_point(np.stack([FACTORS, np.ones(3)], axis=1) / (1 + FACTORS[:, None]))
    assert np.abs(curve.points - wanted).max() <= 1e-10
    assert curve.moved[1] == 0
    assert curve.moved[[0, 2]].min() > 0.1


@pytest.mark.parametrize("name", ["upgrad", "mgda", "dual-proj", "nash-mtl"])
def test_a_rule_without_conflict_ends_in_the_pareto_set_for_every_factor(problem, name):
    """1e-10 of a distance that starts near 3: linear convergence has reached rounding by then."""
    assert scale_curve(surgery.make(name), problem, FACTORS, steps=4000).distance.max() <= 1e-10


def test_what_does_not_see_row_scales_does_not_move(problem):
    """Nash-MTL's trajectories agree to the rounding of each step; the mean's differ, which is the control."""
    assert scale_curve(surgery.make("nash-mtl"), problem, FACTORS, steps=50).moved.max() <= 1e-9
    assert scale_curve(surgery.make("mean"), problem, FACTORS, steps=50).moved.max() > 1e-3


@pytest.mark.parametrize("factors", [[], [0.0], [-1.0], [[1.0]], [np.inf]])
def test_factors_that_are_no_scales_are_refused(problem, factors):
    with pytest.raises(ValueError, match="factors"):
        scale_curve(surgery.make("mean"), problem, factors)


@pytest.mark.parametrize("kind", ["random", "low-rank"])
def test_merging_random_task_matrices_ends_in_their_hull(kind):
    """MGDA from 0 moves straight to the nearest point of the hull; the mean ends at the mean of the tasks."""
    problem = problems.task_matrices(kind=kind, seed=1)
    near = scale_curve(surgery.make("mgda"), problem, [1.0])
    assert near.distance.max() <= 1e-9
    start = float(np.asarray(problem.pareto_distance(problem.start)))
    assert np.linalg.norm(near.points[0]) == pytest.approx(start, rel=1e-9)
    mean = scale_curve(surgery.make("mean"), problem, [1.0])
    assert np.abs(mean.points[0] - problem.centers.mean(axis=0)).max() <= 1e-10
    assert np.linalg.norm(mean.points[0]) > start * (1 + 1e-3)
