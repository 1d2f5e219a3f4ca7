"""Replayed runs: the numbers of `run`, from record to record; on a GPU through a CUDA graph, elsewhere pass by pass."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from orthotheory import captured, methods, problems, run, trajectories
from orthotheory.sweep.execute import _loop_of

RATES = np.array([1e-3, 1e-1, 1e160])  # the last loses its run


def served() -> list[str]:
    quadratic = problems.make("quadratic", rows=4, columns=3)
    return [name for name in methods.names() if not captured.why_not(quadratic, methods.make(name))]


def assert_same(replayed, stepped, tolerance):
    assert replayed.stopped_by == stepped.stopped_by
    np.testing.assert_array_equal(replayed.k, stepped.k)
    np.testing.assert_array_equal(replayed.non_finite_at, stepped.non_finite_at)
    for name, values in stepped.records.items():
        np.testing.assert_allclose(replayed[name], values, rtol=tolerance, atol=tolerance * np.abs(values[0]).max())


def tolerance_of(xp) -> float:
    """Off the GPU the same operations run in the same order; there a library may choose its kernels anew."""
    return 1e-10 if captured._on_gpu(xp.asarray(0.0)) else 0.0


@pytest.mark.parametrize("name", served())
def test_a_replayed_run_is_the_run(xp, name):
    problem = problems.make("quadratic", rows=4, columns=3, device=xp)
    method = methods.make(name)
    options = {"record": ("value", "gradient_norm", "step_norm"), "every": 10}
    replayed, stepped = captured.run(problem, method, 23, **options), run(problem, method, 23, **options)
    assert_same(replayed, stepped, tolerance_of(xp))


@pytest.mark.parametrize("every", [1, 7, 96, 131, 500])
def test_runs_that_are_lost_are_lost_at_the_same_step(xp, every):
    """Also between two records, where only the device looks."""
    problem = problems.make("quadratic", rows=4, columns=3, device=xp)
    method = methods.make("gd", lr=xp.asarray(RATES))
    assert_same(*(go(problem, method, 200, every=every) for go in (captured.run, run)), tolerance_of(xp))
    alone = methods.make("gd", lr=1e160)
    assert_same(*(go(problem, alone, 200, every=every) for go in (captured.run, run)), tolerance_of(xp))


def test_a_gradient_that_is_lost_before_the_weights_is_named(xp):
    """Weights of 1e160 are finite, their gradient at a curvature of 1e150 is not."""
    problem = problems.make("quadratic", rows=4, columns=3, device=xp)
    problem.a = problem.a * 1e150
    traces = [go(problem, methods.make("gd", lr=1e10), 50, every=25) for go in (captured.run, run)]
    assert_same(*traces, tolerance_of(xp))
    assert traces[0].stopped_by == "non-finite gradient at step 1"


@pytest.mark.parametrize("name", ["network", "layers"])
def test_problems_of_several_matrices_are_replayed(xp, name):
    problem = problems.make(name, device=xp)
    method = methods.make("muon")
    traces = (go(problem, method, 12, every=5, record=("value",)) for go in (captured.run, run))
    assert_same(*traces, tolerance_of(xp))


def test_an_empty_batch_and_no_steps_give_the_shapes_of_the_run(xp):
    problem = problems.make("quadratic", rows=4, columns=3, device=xp)
    for steps, batch in ((0, ()), (0, (2,)), (6, (0,))):
        replayed, stepped = (go(problem, methods.make("muon"), steps, batch=batch) for go in (captured.run, run))
        assert {n: v.shape for n, v in replayed.records.items()} == {n: v.shape for n, v in stepped.records.items()}


@pytest.mark.parametrize(
    ("options", "name", "reason"),
    [
        ({}, "adam", "the state of Adam holds a number that is not on the device"),
        ({"noise": "gaussian"}, "muon", "noise is drawn on the host"),
    ],
)
def test_what_is_not_served_is_refused_with_its_reason(options, name, reason):
    problem = problems.make("quadratic", rows=4, columns=3)
    if options:
        problem.noise = problems.Gaussian(0.1)
    with pytest.raises(ValueError, match=reason):
        captured.run(problem, methods.make(name), 10)


def test_a_state_that_changes_its_shape_is_refused():
    @dataclasses.dataclass(frozen=True)
    class Growing(methods.Method):
        lr: float = 0.1

        def init(self, w):
            return (w[:1],)

        def update(self, w, grad, state):
            return w - self.lr * grad, (np.concat([state[0], w[:1]]),)

    problem = problems.make("quadratic", rows=4, columns=3)
    assert captured.why_not(problem, Growing()) == "the state of Growing changes its shape"


def test_the_compiled_engine_of_a_sweep_is_the_replayed_run_off_the_host(xp):
    problem = problems.make("quadratic", rows=4, columns=3, device=xp)
    on_host = isinstance(problem.start, np.ndarray)
    assert _loop_of("compiled", problem, methods.make("muon")) is (trajectories.run if on_host else captured.run)


def test_a_pass_that_no_graph_holds_is_repeated_and_says_so(monkeypatch, caplog):
    """Where capture fails the buffers are as they were, and one sentence is logged."""

    class Refusing(captured.Repeated):
        def __init__(self, advance, buffers):
            buffers[0][...] = np.nan
            raise captured.NotCaptured("a factorization waits for the host")

    monkeypatch.setattr(captured, "Graph", Refusing)
    monkeypatch.setattr(captured, "_on_gpu", lambda x: True)
    problem = problems.make("quadratic", rows=4, columns=3)
    replayed = captured.run(problem, methods.make("muon"), 20, every=10)
    assert_same(replayed, run(problem, methods.make("muon"), 20, every=10), 0.0)
    assert caplog.messages == [
        "Steps are launched one by one, no CUDA graph holds them: a factorization waits for the host"
    ]
