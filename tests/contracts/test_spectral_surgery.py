"""Spectral MGDA and its relatives: certificates against independent solutions, and what they refuse."""

import numpy as np
import pytest
import scipy.optimize
from conftest import eps_of, rotation

from orthotheory import surgery
from orthotheory.arrays import device_of, dtype_name, to_host
from orthotheory.polar import polar_factor
from orthotheory.surgery.orthogonal import (
    SpectralMGDA,
    progress,
    project_in_metric,
    spectral_cone_step,
    spectral_mgda,
)

GAP = 1e-12  # of the largest gradient; the solver stops at 1e-13


def gaussian(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape)


def opposite():
    g = gaussian(4, 3, 3)
    g[1] = -g[0]
    return g


HARD = {
    "Gaussian": gaussian(3, 4, 4),
    "tall": gaussian(2, 7, 3),
    "wide": gaussian(4, 2, 6),
    "one row": gaussian(3, 1, 5),
    "one column": gaussian(3, 5, 1),
    "one objective": gaussian(1, 4, 3),
    "more objectives than entries": gaussian(9, 2, 2),
    "rank one each": gaussian(3, 5, 1) @ gaussian(3, 1, 4, seed=1),
    "opposite": opposite(),
    "nearly opposite": np.stack([np.eye(3), -np.eye(3) + 1e-6 * gaussian(3, 3)]),
    "a zero gradient": np.stack([np.zeros((3, 3)), gaussian(3, 3)]),
    "all zero": np.zeros((2, 3, 4)),
    "duplicates": np.stack([gaussian(3, 3)] * 3),
    "scales 1e-4 to 1e4": gaussian(3, 4, 4) * np.array([1e-4, 1.0, 1e4])[:, None, None],
    "tiny": 1e-300 * gaussian(3, 4, 4),
    "huge": 1e300 * gaussian(3, 4, 4),
    "batch": gaussian(2, 3, 3, 4, 5),
}


def nuclear(x):
    return np.linalg.svd(x, compute_uv=False).sum(axis=-1)


def largest(g):
    return np.maximum(nuclear(g).max(axis=-1), np.finfo(float).tiny)


# The certificate


@pytest.mark.parametrize("name", HARD)
def test_the_two_bounds_enclose_the_saddle_value_tightly(name, xp):
    g, limit = HARD[name], 1e-8 if name == "nearly opposite" else GAP  # there the finish does not find the faces
    step = spectral_mgda(xp.asarray(g))
    direction, weights, lower, upper = (to_host(x) for x in step)
    assert (weights >= 0).all()
    np.testing.assert_allclose(weights.sum(axis=-1), 1, rtol=1e-14)
    assert (np.linalg.norm(direction, 2, axis=(-2, -1)) <= 1 + 1e-12).all()
    size = largest(g)
    scaled = g / size[..., None, None, None]
    # both numbers are what they say, evaluated here from direction and weights alone
    guaranteed = np.sum(scaled * direction[..., None, :, :], axis=(-2, -1)).min(axis=-1)
    combined = nuclear(np.sum(weights[..., None, None] * scaled, axis=-3))
    np.testing.assert_allclose(lower / size, guaranteed, atol=1e-13)
    np.testing.assert_allclose(upper / size, combined, atol=1e-13)
    assert (to_host(step.gap) / size <= limit).all()
    assert (to_host(step.gap) / size >= -1e-13).all()


@pytest.mark.parametrize("seed", range(6))
def test_two_objectives_agree_with_a_search_on_a_line(seed):
    g = gaussian(2, 5, 4, seed=seed) - 0.4 * gaussian(5, 4, seed=100 + seed)
    found = scipy.optimize.minimize_scalar(
        lambda t: float(nuclear(t * g[0] + (1 - t) * g[1])), bounds=(0, 1), method="bounded", options={"xatol": 1e-12}
    )
    assert float(spectral_mgda(g).upper) == pytest.approx(found.fun, rel=1e-8)


@pytest.mark.parametrize("seed", range(3))
def test_three_objectives_agree_with_a_general_solver(seed):
    g = gaussian(3, 4, 4, seed=seed)
    best = min(
        scipy.optimize.minimize(
            lambda w: float(nuclear(np.tensordot(w, g, 1))),
            start,
            bounds=[(0, 1)] * 3,
            constraints={"type": "eq", "fun": lambda w: w.sum() - 1},
            method="SLSQP",
            options={"ftol": 1e-14, "maxiter": 500},
        ).fun
        for start in np.vstack([np.full(3, 1 / 3), 0.8 * np.eye(3) + 0.1])
    )
    step = spectral_mgda(g)
    assert float(step.upper) <= best * (1 + GAP)
    assert float(step.upper) == pytest.approx(best, rel=1e-5)  # the solver's accuracy at kinks


def test_at_rank_deficiency_the_direction_is_not_the_polar_factor():
    g = np.stack([np.diag([1.0, 1.0]), np.diag([2.0, -1.0])])
    step = spectral_mgda(g)
    np.testing.assert_allclose(step.direction, np.diag([1.0, 0.5]), atol=1e-6)
    assert float(step.lower) == pytest.approx(1.5, rel=1e-9)
    assert progress(g, np.diag([1.0, 0.0])).min() == 1.0


def test_at_full_rank_it_is_the_polar_factor():
    g = gaussian(2, 3, 3) + 5 * np.eye(3)
    step = spectral_mgda(g)
    combined = np.tensordot(step.weights, g, 1)
    assert np.linalg.cond(combined) < 100
    np.testing.assert_allclose(step.direction, polar_factor(combined), atol=1e-6)


def test_orthogonal_changes_of_basis_turn_the_direction_along():
    g, rng = gaussian(3, 4, 5), np.random.default_rng(1)
    u, v = rotation(4, rng), rotation(5, rng)
    np.testing.assert_allclose(spectral_mgda(u @ g @ v).direction, u @ spectral_mgda(g).direction @ v, atol=1e-5)


def test_opposite_gradients_are_critical():
    step = spectral_mgda(opposite())
    assert 0 <= float(step.upper) <= GAP * largest(opposite())


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_kind_dtype_and_device_are_those_of_the_gradients(xp, dtype):
    for x in spectral_mgda(xp.asarray(HARD["wide"], dtype=dtype)):
        assert dtype_name(x) == dtype
        assert device_of(x) == xp.device


def test_an_empty_batch_gives_an_empty_batch(xp):
    step = spectral_mgda(xp.asarray(np.zeros((0, 3, 4, 5))))
    assert [x.shape for x in step] == [(0, 4, 5), (0, 3), (0,), (0,)]


def test_a_batch_is_solved_as_its_members_are():
    g = HARD["batch"]
    whole = spectral_mgda(g)
    for index in np.ndindex(2, 3):
        assert whole.upper[index] == pytest.approx(float(spectral_mgda(g[index]).upper), rel=1e-7)


@pytest.mark.parametrize(
    ("g", "match"),
    [
        (np.zeros((3, 3)), "shape"),
        (np.full((2, 3, 3), np.nan), "finite"),
        (np.stack([np.eye(2), np.full((2, 2), np.inf)]), "finite"),
        (np.zeros((2, 0, 3)), "empty"),
        (np.zeros((0, 3, 3)), "empty"),
    ],
)
def test_bad_gradients_are_refused(g, match):
    with pytest.raises(ValueError, match=match):
        spectral_mgda(g)


# As an aggregator


def test_one_row_is_mgda():
    j = gaussian(20, 4, 7)
    np.testing.assert_allclose(SpectralMGDA(rows=1)(j), surgery.MGDA()(j), atol=1e-6 * np.abs(j).max())


@pytest.mark.parametrize("rows", [1, 2, 3])
def test_every_objective_descends_by_the_square_of_the_spectral_norm(rows, xp):
    j = gaussian(10, 4, 12) - 0.5 * gaussian(12)
    x = to_host(SpectralMGDA(rows=rows)(xp.asarray(j)))
    square = np.linalg.norm(x.reshape(10, rows, -1), 2, axis=(-2, -1)) ** 2
    assert ((j @ x[..., None])[..., 0].min(axis=-1) >= square - 1e-10).all()


def test_it_is_homogeneous_of_degree_one():
    j = gaussian(3, 12)
    np.testing.assert_allclose(SpectralMGDA(rows=3)(1e5 * j), 1e5 * SpectralMGDA(rows=3)(j), rtol=1e-5, atol=1e-3)


def test_rows_that_do_not_divide_the_gradient_are_refused():
    with pytest.raises(ValueError, match="multiple"):
        SpectralMGDA(rows=5)(np.ones((2, 12)))
    with pytest.raises(ValueError, match="rows"):
        SpectralMGDA(rows=0)


# The cone step


@pytest.mark.parametrize("seed", range(5))
def test_the_cone_step_is_feasible_and_no_random_feasible_step_is_better(seed):
    rng = np.random.default_rng(seed)
    g, constraints = rng.standard_normal((4, 3)), rng.standard_normal((2, 4, 3))
    step = spectral_cone_step(g, constraints)
    assert float(step.gap) <= GAP * nuclear(g)
    assert (progress(constraints, step.direction) >= 0).all()
    assert np.linalg.norm(step.direction, 2) <= 1 + 1e-12
    rivals = polar_factor(g + 2 * rng.standard_normal((4000, 4, 3)))
    feasible = np.all(np.sum(constraints * rivals[:, None], axis=(-2, -1)) >= 0, axis=-1)
    assert feasible.sum() > 100
    assert np.sum(g * rivals[feasible], axis=(-2, -1)).max() <= float(step.upper)


def test_where_the_polar_factor_is_feasible_the_cone_step_is_the_polar_factor():
    g = gaussian(4, 3)
    step = spectral_cone_step(g, g[None] + 0.01 * gaussian(2, 4, 3, seed=1))
    np.testing.assert_allclose(step.direction, polar_factor(g), atol=1e-6)
    assert float(step.upper) == pytest.approx(float(nuclear(g)), rel=1e-6)


def test_the_cone_step_does_better_than_surgery_before_orthogonalizing():
    """diag(10, 1) is in the cone of diag(1, -9); its polar factor is not."""
    g, constraint = np.diag([10.0, 1.0]), np.diag([1.0, -9.0])
    assert progress(constraint[None], polar_factor(g))[0] == pytest.approx(-8, rel=1e-14)
    step = spectral_cone_step(g, constraint[None])
    assert progress(constraint[None], step.direction)[0] >= 0
    assert float(step.lower) == pytest.approx(10 + 1 / 9, rel=1e-6)  # D = diag(1, 1/9)


def test_a_cone_without_interior_gives_a_feasible_step_and_says_what_is_missing():
    g, wall = gaussian(3, 3), gaussian(3, 3, seed=1)
    step = spectral_cone_step(g, np.stack([wall, -wall]))
    assert (progress(np.stack([wall, -wall]), step.direction) >= 0).all()
    assert float(step.upper) >= float(step.lower) >= 0


def test_a_gradient_of_another_shape_is_refused():
    with pytest.raises(ValueError, match="one dtype"):
        spectral_cone_step(np.ones((3, 2)), np.ones((2, 3, 3)))


# In the optimizer's metric


@pytest.mark.parametrize("seed", range(5))
def test_surgery_in_a_metric_is_feasible_and_nearest_in_that_metric(seed, xp):
    rng = np.random.default_rng(seed)
    j, g, metric = rng.standard_normal((3, 6)), rng.standard_normal(6), 10.0 ** rng.uniform(-1, 1, 6)
    d = to_host(project_in_metric(*(xp.asarray(x) for x in (j, g, metric))))
    scale = np.linalg.norm(j, axis=1).max() * np.linalg.norm(metric * g)
    assert (j @ d >= -100 * eps_of(d) * scale).all()

    def cost(x):
        return np.sum((x - metric * g) ** 2 / metric)

    rival = scipy.optimize.minimize(
        cost, d + 0.1, constraints={"type": "ineq", "fun": lambda x: j @ x}, method="SLSQP", options={"ftol": 1e-14}
    )
    assert cost(d) <= rival.fun + 1e-7 * (1 + rival.fun)


def test_the_euclidean_metric_is_the_projection():
    j, g = gaussian(4, 3, 6), gaussian(4, 6)
    np.testing.assert_allclose(project_in_metric(j, g, np.ones(6)), surgery.project(j, g).point, atol=1e-14)


@pytest.mark.parametrize("metric", [np.zeros(6), np.ones(5), -np.ones(6)])
def test_a_metric_that_is_not_positive_is_refused(metric):
    with pytest.raises(ValueError, match="positive"):
        project_in_metric(gaussian(3, 6), gaussian(6), metric)
