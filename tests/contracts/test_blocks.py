"""Methods and problems on tuples of matrices: lifting, coupling, per-block hyper-parameters, refusals."""

import numpy as np
import pytest
from conftest import eps_of

from orthotheory import methods, norms, problems, run
from orthotheory.arrays import to_host

LIFTED = ["gd", "adam", "muon", "polargrad", "lion"]


def two_blocks(seed=0):
    rng = np.random.default_rng(seed)
    shapes = [(4, 3), (2, 5)]
    return tuple(rng.standard_normal(s) for s in shapes), [
        tuple(rng.standard_normal(s) for s in shapes) for _ in range(4)
    ]


@pytest.mark.parametrize("name", LIFTED)
def test_a_lifted_method_does_to_each_block_what_it_does_to_a_matrix(name, xp):
    w, grads = two_blocks()
    method = methods.make(name)
    lifted = methods.lift(method, 2)
    together = tuple(xp.asarray(x) for x in w)
    state = lifted.init(together)
    for g in grads:
        together, state = lifted.step(together, tuple(xp.asarray(x) for x in g), state)
    for i in range(2):
        alone, own = xp.asarray(w[i]), method.init(xp.asarray(w[i]))
        for g in grads:
            alone, own = method.step(alone, xp.asarray(g[i]), own)
        np.testing.assert_array_equal(to_host(together[i]), to_host(alone))


def test_blocks_may_have_methods_of_their_own():
    w, (g, *_) = two_blocks()
    mixed = methods.Blockwise((methods.make("muon"), methods.make("adam")))
    after, _ = mixed.step(w, g, mixed.init(w))
    np.testing.assert_array_equal(after[1], methods.make("adam").step(w[1], g[1], methods.make("adam").init(w[1]))[0])
    assert mixed.norm == norms.ProductMax((norms.Spectral(), norms.MaxEntry()))
    assert methods.lift(mixed, 2) is mixed


def test_a_run_on_a_tuple_is_the_sum_of_the_runs_on_its_parts():
    problem = problems.make("layers", smoothness=(4.0, 1.0), rows=5, columns=3)
    names = ("value", "gap", "gradient_nuclear", "weight_spectral", "step_curvature")
    method = methods.make("muon", lr=np.array([0.01, 0.1]), plan="exact")
    together = run(problem, method, 30, record=names)
    parts = [run(part, method, 30, record=names) for part in problem.parts]
    for name in names:
        combine = np.maximum if name == "weight_spectral" else np.add
        expected = combine(*(part[name] for part in parts))
        np.testing.assert_allclose(together[name], expected, rtol=10 * eps_of(expected))  # one more sum
    assert together["gap"].shape == (31, 2)
    assert together.stopped_by == "steps"


def test_every_recorder_that_needs_no_labels_works_on_tuples():
    from orthotheory.loop import NEEDS_OBJECTIVES, RECORDERS

    problem = problems.make("layers", noise_levels=(1.0, 2.0, 3.0))
    names = [name for name in RECORDERS if name not in {"accuracy", *NEEDS_OBJECTIVES}]
    trace = run(problem, methods.make("muon"), 3, record=names)
    assert trace["distance"][0] == pytest.approx(
        np.sqrt(sum(np.sum((a - b) ** 2) for a, b in zip(problem.start, problem.optimum, strict=True)))
    )
    assert trace["iterate"].shape == (4, 3 * 64)
    assert trace["gradient_norm"][0] == pytest.approx(trace["gradient_nuclear"][0])  # the dual of the largest spectral


def test_a_run_that_diverges_in_one_block_says_so():
    problem = problems.make("layers", smoothness=(4.0, 1.0))
    trace = run(problem, methods.make("gd", lr=1e200), 20, record=("gap",))
    assert trace.stopped_by.startswith("non-finite weights at step")


def test_the_constants_of_a_separable_problem_are_those_that_random_steps_meet():
    problem = problems.make("layers", smoothness=(4.0, 1.0, 2.0), rows=3, columns=3)
    rng = np.random.default_rng(0)
    for kind in (norms.ProductMax, norms.ProductRoot):
        for block in (norms.Spectral(), norms.Frobenius()):
            norm = kind((block,) * 3)
            high, low = float(problem.smoothness(norm)), float(problem.strong_convexity(norm))
            for _ in range(50):
                d = tuple(rng.standard_normal((3, 3)) for _ in range(3))
                ratio = problem.curvature(d) / norm.value(d) ** 2
                assert low * (1 - 1e-12) <= ratio <= high * (1 + 1e-12)
    frobenius = problem.smoothness(norms.ProductRoot((norms.Frobenius(),) * 3))
    assert float(frobenius) == pytest.approx(4.0, rel=1e-12)
    with pytest.raises(TypeError, match="needs a ProductMax or ProductRoot norm"):
        problem.smoothness(norms.Spectral())


def test_noise_has_its_own_level_in_each_layer():
    problem = problems.make("layers", noise_levels=(1.0, 3.0, 10.0), rows=20, columns=20)
    noisy = problem.noisy_grad(problem.start, np.random.default_rng(0))
    spread = [np.std(a - b) for a, b in zip(noisy, problem.grad(problem.start), strict=True)]
    np.testing.assert_allclose(spread, [1, 3, 10], rtol=0.15)  # 400 draws: 4 standard errors of 3.5%
    with pytest.raises(ValueError, match="3 layers need as many noise levels; got 2"):
        problems.make("layers", noise_levels=(1.0, 2.0))


def test_what_does_not_fit_is_refused():
    w, (g, *_) = two_blocks()
    lifted = methods.lift(methods.make("gd"), 2)
    state = lifted.init(w)
    with pytest.raises(ValueError, match="a tuple with one gradient a block; got 2 weights and 1 gradients"):
        lifted.step(w, g[:1], state)
    with pytest.raises(ValueError, match="got 2 weights and a ndarray"):
        lifted.step(w, g[0], state)
    with pytest.raises(ValueError, match="Blockwise needs a tuple of methods"):
        methods.Blockwise(())
    with pytest.raises(ValueError, match="one shape and dtype"):
        lifted.step(w, (g[0], g[0]), state)
