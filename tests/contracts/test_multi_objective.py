"""Problems with several objectives: gradients, Pareto sets in closed form, and runs of surgery through the one loop."""

import math

import numpy as np
import pytest
import scipy.optimize
from conftest import eps_of

from orthotheory import methods, problems, run, surgery
from orthotheory.arrays import backend, device_of, dtype_name, to_host
from orthotheory.methods import Adam, GradientDescent, Muon, Surgery
from orthotheory.norms import Frobenius, MaxEntry, Spectral
from orthotheory.problems.multi_objective import Quadratics, hull_distance

CPU = backend("cpu")
BUILDERS = {
    "two quadratics": lambda xp, **o: problems.pareto_quadratics(rows=3, columns=2, device=xp, **o),
    "three quadratics, shared curvature": lambda xp, **o: problems.pareto_quadratics(
        objectives=3, rows=3, curvature="shared", scale_ratio=10.0, device=xp, **o
    ),
    "squares": lambda xp, **o: problems.squares(size=3, scale_ratio=4.0, device=xp, **o),
    "Fonseca": lambda xp, **o: problems.fonseca(size=3, device=xp, **o),
    "tasks of a layer": lambda xp, **o: problems.layer_tasks(
        tasks=3, outputs=2, inputs=7, rank=2, samples=6, device=xp, **o
    ),
    "retain and forget": lambda xp, **o: problems.retain_and_forget(size=5, retain=2, device=xp, **o),
}
NO_DISTANCE = (problems.RetainAndForget,)
each_problem = pytest.mark.parametrize("build", BUILDERS.values(), ids=BUILDERS.keys())


def points(problem, count, seed=0, spread=1.5):
    rng = np.random.default_rng(seed)
    return to_host(problem.start) + spread * rng.standard_normal((count, *problem.start.shape))


# Values and gradients


@each_problem
def test_the_jacobian_is_the_central_difference_of_the_values(build, xp):
    """With h = 1e-5 and third derivatives below 20 the truncation is 20 h^2 / 6; values of 100 round it by 2e-9."""
    problem, h = build(xp), 1e-5
    rng = np.random.default_rng(1)
    for w in points(problem, 3):
        jacobian = to_host(problem.jacobian(xp.asarray(w)))
        assert jacobian.shape == (problem.objectives, *w.shape)
        for _ in range(3):
            d = rng.standard_normal(w.shape)
            ends = [to_host(problem.values(xp.asarray(w + s * h * d))) for s in (1, -1)]
            np.testing.assert_allclose((ends[0] - ends[1]) / (2 * h), np.sum(jacobian * d, axis=(-2, -1)), atol=1e-7)


@each_problem
def test_as_one_problem_it_is_the_mean_of_its_objectives(build, xp):
    problem = build(xp)
    w = xp.asarray(points(problem, 4))
    values = to_host(problem.values(w))
    np.testing.assert_allclose(to_host(problem.value(w)), values.mean(axis=-1), rtol=1e-14)
    np.testing.assert_allclose(to_host(problem.grad(w)), to_host(problem.jacobian(w)).mean(axis=-3), atol=1e-13)
    for i in range(problem.objectives):
        one = problem.objective(i)
        np.testing.assert_array_equal(to_host(one.value(w)), values[:, i])
        np.testing.assert_array_equal(to_host(one.grad(w)), to_host(problem.jacobian(w))[:, i])


@each_problem
def test_float32_stays_float32_on_its_device(build, xp):
    problem = build(xp, dtype="float32")
    w = problem.start
    arrays = [problem.values(w), problem.jacobian(w), problem.value(w)]
    if not isinstance(problem, NO_DISTANCE):
        arrays.append(problem.pareto_distance(w))
    for array in arrays:
        assert dtype_name(array) == "float32"
        assert device_of(array) == xp.device


@each_problem
def test_no_pair_of_points_beats_the_smoothness_of_an_objective_and_some_pair_comes_near(build, xp):
    problem = build(xp)
    rng = np.random.default_rng(3)
    for i in range(problem.objectives):
        center = (1 - 2 * i) * problem.end if isinstance(problem, problems.Fonseca) else 0 * problem.start
        one, best = problem.objective(i), 0.0
        for scale in (1e-3, 1.0):
            a, b = (to_host(center) + scale * rng.standard_normal((300, *problem.start.shape)) for _ in range(2))
            difference = to_host(one.grad(xp.asarray(a))) - to_host(one.grad(xp.asarray(b)))
            ratio = np.linalg.norm(difference, axis=(-2, -1)) / np.linalg.norm(a - b, axis=(-2, -1))
            best = max(best, float(ratio.max()))
        limit = float(one.smoothness(Frobenius()))
        assert 0.5 * limit <= best <= limit * (1 + 1e-9)


@each_problem
def test_each_minimum_is_attained_by_no_descent_below_it(build, xp):
    problem = build(xp)
    for i in range(problem.objectives):
        one = problem.objective(i)
        if problem.minima[i] == -math.inf:
            ray = [float(to_host(one.value(xp.asarray(t * to_host(problem.start))))) for t in (10.0, 100.0, 1000.0)]
            assert ray[2] < 5 * ray[1] < 25 * ray[0] < 0  # it falls without end, here about linearly
            continue
        found = scipy.optimize.minimize(
            lambda x, f=one: float(to_host(f.value(xp.asarray(x.reshape(problem.start.shape))))),
            to_host(problem.start).ravel(),
            tol=1e-12,
        )
        assert found.fun >= problem.minima[i] - 1e-12
        if not isinstance(problem, NO_DISTANCE):
            assert found.fun == pytest.approx(problem.minima[i], abs=1e-8)  # the square of the solver's error


@each_problem
@pytest.mark.parametrize("norm", [Spectral(), MaxEntry()], ids=["spectral", "max entry"])
def test_no_pair_of_points_beats_the_smoothness_in_another_norm(build, norm):
    problem = build(CPU)
    rng = np.random.default_rng(4)
    a, b = rng.standard_normal((2, 300, *problem.start.shape))
    for one in (problem, problem.objective(0), problem.objective(problem.objectives - 1)):
        ratio = norm.dual(one.grad(a) - one.grad(b)) / norm.value(a - b)
        assert ratio.max() <= float(one.smoothness(norm)) * (1 + 1e-9)


# Pareto sets


def test_a_pareto_point_of_quadratics_has_a_vanishing_combination_of_gradients(xp):
    problem = BUILDERS["two quadratics"](xp)
    p = np.random.default_rng(0).dirichlet([1, 1], size=20)
    jacobian = to_host(problem.jacobian(problem.pareto_point(xp.asarray(p))))
    combined = np.sum(p[:, :, None, None] * jacobian, axis=1)
    assert np.abs(combined).max() <= 100 * eps_of(p) * np.abs(jacobian).max()


@pytest.mark.parametrize("name", ["two quadratics", "three quadratics, shared curvature"])
def test_the_distance_is_zero_on_the_pareto_set_and_that_of_a_dense_sample_elsewhere(name, xp):
    problem = BUILDERS[name](xp)
    rng = np.random.default_rng(1)
    m = problem.objectives
    inside = problem.pareto_point(xp.asarray(rng.dirichlet(np.ones(m), size=10)))
    assert np.abs(to_host(problem.pareto_distance(inside))).max() <= 1e-12
    far = points(problem, 5, seed=2)
    weights = (
        np.stack([t := np.linspace(0, 1, 20_001), 1 - t], axis=-1) if m == 2 else rng.dirichlet(np.ones(m), 60_000)
    )
    sample = to_host(problem.pareto_point(xp.asarray(weights)))
    nearest = np.array([np.linalg.norm(sample - w, axis=(-2, -1)).min() for w in far])
    distance = to_host(problem.pareto_distance(xp.asarray(far)))
    assert (distance <= nearest + 1e-12).all()
    # the sample misses the nearest point by its spacing, a few hundredths for three objectives
    np.testing.assert_allclose(distance, nearest, rtol=1e-6 if m == 2 else 2e-2)


def test_the_distance_of_a_batch_is_that_of_each_member():
    problem = BUILDERS["two quadratics"](CPU)
    w = points(problem, 6).reshape(2, 3, *problem.start.shape)
    whole = problem.pareto_distance(w)
    assert whole.shape == (2, 3)
    for index in np.ndindex(2, 3):
        assert whole[index] == pytest.approx(float(problem.pareto_distance(w[index])), rel=1e-12)


def test_the_segment_of_fonseca_is_critical_and_points_beside_it_are_dominated(xp):
    problem = BUILDERS["Fonseca"](xp)
    along = np.linspace(-1, 1, 9)[:, None, None] * to_host(problem.end)
    assert np.abs(to_host(problem.pareto_distance(xp.asarray(along)))).max() <= 1e-15
    jacobian = to_host(problem.jacobian(xp.asarray(along)))
    for j in jacobian:
        assert hull_distance(j.reshape(2, -1)) <= 1e-15
    beside = along[4] + 0.3 * np.array([[1.0], [-1.0], [0.0]]) / math.sqrt(2)
    values = to_host(problem.values(xp.asarray(np.stack([along[4], beside]))))
    assert (values[0] < values[1]).all()
    assert float(to_host(problem.pareto_distance(xp.asarray(beside)))) == pytest.approx(0.3, rel=1e-12)


def test_squares_are_critical_where_an_entry_vanishes_but_only_zero_is_pareto(xp):
    problem = BUILDERS["squares"](xp)
    w = np.array([[0.0], [1.0], [2.0]])
    assert hull_distance(to_host(problem.jacobian(xp.asarray(w))).reshape(3, -1)) == 0
    assert (to_host(problem.values(xp.asarray(0 * w))) <= to_host(problem.values(xp.asarray(w)))).all()
    assert float(to_host(problem.pareto_distance(xp.asarray(w)))) == pytest.approx(math.sqrt(5), rel=1e-14)


@pytest.mark.parametrize("scale", [1e-300, 1.0, 1e300])
def test_the_hull_distance_is_that_of_a_known_triangle_at_every_scale(scale):
    triangle = np.array([[1.0, 1.0], [1.0, -1.0], [3.0, 0.0]])
    assert hull_distance(scale * triangle) == pytest.approx(scale, rel=1e-12)
    assert hull_distance(scale * (triangle - [1.5, 0.0])) <= 1e-15 * scale
    assert hull_distance(0 * triangle) == 0


def test_three_generic_quadratics_refuse_the_distance_and_say_what_to_use():
    problem = problems.pareto_quadratics(objectives=3)
    with pytest.raises(ValueError, match="shared"):
        problem.pareto_distance(problem.start)


def test_tasks_on_disjoint_inputs_are_solved_together_and_the_distance_is_to_those_weights(xp):
    problem = BUILDERS["tasks of a layer"](xp)
    w = to_host(problem.start)
    x = np.hstack([to_host(t.inputs) for t in problem.tasks])
    y = np.hstack([to_host(t.targets) for t in problem.tasks])
    nearest = w + (y - w @ x) @ np.linalg.pinv(x)
    assert to_host(problem.values(xp.asarray(nearest))).max() <= 1e-24
    assert float(to_host(problem.pareto_distance(problem.start))) == pytest.approx(
        np.linalg.norm(nearest - w), rel=1e-9
    )
    assert float(to_host(problem.pareto_distance(xp.asarray(nearest)))) <= 1e-12


def test_tasks_that_disagree_refuse_the_distance_and_say_what_to_use():
    problem = problems.layer_tasks(tasks=3, inputs=7, rank=2, shared=1)
    with pytest.raises(ValueError, match="disagree"):
        problem.pareto_distance(problem.start)
    assert run(problem, Surgery("mgda", "gd", lr=0.1), 2, record=("stationarity",))["stationarity"][-1] > 0


def test_a_retain_forget_pair_refuses_the_distance():
    problem = problems.make("retain-forget")
    with pytest.raises(ValueError, match="stationarity"):
        problem.pareto_distance(problem.start)


def test_bad_problems_are_refused():
    eye, start = np.array([np.eye(2)] * 2), np.zeros((2, 1))
    with pytest.raises(ValueError, match="centers"):
        Quadratics(eye, np.zeros((3, 2, 1)), start)
    with pytest.raises(ValueError, match="positive definite"):
        Quadratics(np.array([np.eye(2), np.diag([1.0, 0.0])]), np.zeros((2, 2, 1)), start)
    with pytest.raises(ValueError, match="positive"):
        problems.Squares(np.array([1.0, 0.0]), start)
    with pytest.raises(ValueError, match="column vector"):
        problems.Fonseca(np.zeros((2, 2)))
    with pytest.raises(ValueError, match="objectives 0 to 1"):
        problems.squares(size=2).objective(2)


# Runs


def plain_loop(problem, name, lr, steps):
    w, rule = problem.start, surgery.make(name)
    for _ in range(steps):
        jacobian = problem.jacobian(w)
        w = w - lr * rule(jacobian.reshape(problem.objectives, -1)).reshape(w.shape)
    return w


@pytest.mark.parametrize("name", ["mean", "upgrad", "mgda"])
def test_surgery_before_gradient_descent_is_the_plain_loop(name):
    problem = BUILDERS["two quadratics"](CPU)
    trace = run(problem, Surgery(name, "gd", lr=0.3), 20, record=("iterate", "values", "pareto_distance"))
    np.testing.assert_allclose(trace["iterate"][-1], plain_loop(problem, name, 0.3, 20), rtol=1e-13)
    np.testing.assert_array_equal(trace["values"][-1], problem.values(trace["iterate"][-1]))
    assert trace["values"].shape == (21, 2)
    assert trace["pareto_distance"][-1] < trace["pareto_distance"][0]


def test_the_loop_runs_surgery_on_every_backend(xp):
    problem = problems.pareto_quadratics(device=xp)
    record = ("values", "value", "stationarity", "pareto_distance", "step_norm")
    here = run(problem, Surgery("upgrad", Adam(lr=0.05)), 5, record=record)
    there = run(problems.pareto_quadratics(), Surgery("upgrad", Adam(lr=0.05)), 5, record=record)
    for name in record:
        np.testing.assert_allclose(here[name], there[name], rtol=1e-9, err_msg=name)


def test_a_sweep_of_rates_is_one_batch():
    problem = BUILDERS["three quadratics, shared curvature"](CPU)
    rates = np.array([0.1, 0.2, 0.4])
    trace = run(problem, Surgery("mgda", GradientDescent(lr=rates)), 10, batch=(3,), record=("values", "stationarity"))
    assert trace["values"].shape == (11, 3, 3)
    for i, lr in enumerate(rates):
        alone = run(problem, Surgery("mgda", "gd", lr=float(lr)), 10, record=("values",))
        np.testing.assert_allclose(trace["values"][:, i], alone["values"], rtol=1e-12)


def test_the_stationarity_record_is_the_distance_of_zero_to_the_hull_of_gradients():
    problem = BUILDERS["three quadratics, shared curvature"](CPU)
    trace = run(problem, Surgery("mean", "gd", lr=0.1), 10, record=("stationarity", "iterate"))
    for w, value in zip(trace["iterate"], trace["stationarity"], strict=True):
        assert value == pytest.approx(hull_distance(problem.jacobian(w).reshape(3, -1)), rel=1e-10, abs=1e-14)


def test_a_stateful_aggregator_keeps_its_state_between_steps():
    problem = problems.squares(size=2, noise=problems.Gaussian(0.1))
    rule = surgery.make("moco")
    method = Surgery(rule, "gd", lr=0.1)
    trace = run(problem, method, 3, record=("iterate",), seed=5)
    rng = np.random.Generator(np.random.Philox(5))
    w, state = problem.start, None
    for k in range(3):
        jacobian = problem.noisy_jacobian(w, rng).reshape(2, -1)
        state = rule.init(jacobian) if state is None else state
        update, state = rule.step(jacobian, state)
        w = w - 0.1 * update.reshape(w.shape)
        np.testing.assert_allclose(trace["iterate"][k + 1], w, rtol=1e-13)


def test_noise_is_unbiased_and_independent_between_objectives():
    problem = problems.squares(size=3, noise=problems.Gaussian(0.5))
    w = np.broadcast_to(problem.start, (20_000, 3, 1))
    noise = problem.noisy_jacobian(w, np.random.default_rng(0)) - problem.jacobian(w)
    flat = noise.reshape(len(w), -1)
    deviation = 0.5 / math.sqrt(len(w))
    assert np.abs(flat.mean(axis=0)).max() <= 5 * deviation  # five standard deviations
    covariance = np.cov(flat.T)
    assert np.abs(covariance - 0.25 * np.eye(9)).max() <= 5 * 0.25 * math.sqrt(2 / len(w))


def test_a_problem_of_one_objective_is_refused_by_surgery():
    with pytest.raises(TypeError, match="several objectives"):
        run(problems.quadratic(rows=2, columns=2), Surgery("upgrad", "gd"), 1)


def test_a_gap_to_an_unknown_minimum_is_refused():
    with pytest.raises(ValueError, match="record 'value'"):
        run(problems.fonseca(), methods.make("gd"), 1, record=("gap",))


def test_an_ordinary_method_runs_on_the_mean():
    problem = BUILDERS["two quadratics"](CPU)
    # the least curvature of the mean is above 0.1: 400 steps of rate 1 leave less than (1 - 0.1)^400 of the error
    trace = run(problem, methods.make("gd", lr=1.0), 400, record=("distance", "pareto_distance"), every=400)
    assert trace["distance"][-1] <= 1e-12
    assert trace["pareto_distance"][-1] <= 1e-12


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        ({"aggregator": "upgrat"}, "upgrad"),
        ({"aggregator": 3}, "aggregator must be"),
        ({"optimizer": "gdd"}, "gd"),
        ({"optimizer": Surgery()}, "method of one objective"),
        ({"optimizer": Muon(), "lr": 0.1}, "given by name"),
    ],
)
def test_a_bad_surgery_is_refused(arguments, match):
    with pytest.raises((TypeError, ValueError), match=match):
        Surgery(**arguments)


def test_a_jacobian_of_the_wrong_shape_is_refused():
    w = np.zeros((2, 3))
    method = Surgery()
    with pytest.raises(ValueError, match="one gradient for each objective"):
        method.step(w, np.zeros((2, 3)), method.init(w))
