"""Inside a loop nothing waits for the device: counted on the strict second device, the stand-in for CuPy."""

from __future__ import annotations

import collections
import contextlib

import numpy as np
import pytest
from conftest import strict_backend

from orthotheory import counting, methods, polar, problems, run, surgery
from orthotheory.arrays import backend, cuda_is_available

# How a number leaves a device.
WAYS = (
    "__bool__",
    "__float__",
    "__int__",
    "__index__",
    "__complex__",
    "to_device",
)


@contextlib.contextmanager
def crossings():
    """Count every number that leaves an array of the strict namespace for the host."""
    from array_api_strict._array_object import Array

    count: collections.Counter[str] = collections.Counter()

    def counted(name, original):
        def crossing(self, *arguments, **options):
            count[name] += 1
            return original(self, *arguments, **options)

        return crossing

    with pytest.MonkeyPatch.context() as patch:
        for name in WAYS:
            patch.setattr(Array, name, counted(name, getattr(Array, name)))
        yield count


def crossings_of_run(problem, method, steps: int, every: int) -> int:
    with crossings() as count:
        run(problem, method, steps, every=every, record=("value",))
    return count.total()


@pytest.mark.parametrize("name", methods.names())
def test_steps_between_two_records_ask_the_device_nothing(name):
    quadratic = problems.make("quadratic", rows=4, columns=3, device=strict_backend())
    method = methods.make(name)
    assert crossings_of_run(quadratic, method, 24, 24) == crossings_of_run(quadratic, method, 8, 8)


@pytest.mark.parametrize("name", ["quadratic", "layer-tasks", "star-convex", "network"])
def test_a_gradient_asks_the_device_nothing(name):
    problem = problems.make(name, device=strict_backend())
    w = problem.start
    with crossings() as count:
        problem.grad(w)
    assert not count


@pytest.mark.parametrize("every", [1, 4])
def test_each_record_crosses_once_for_its_values_and_once_for_what_is_finite(every):
    """The control: a crossing in every step is counted."""
    quadratic = problems.make("quadratic", rows=4, columns=3, device=strict_backend())
    more = crossings_of_run(quadratic, methods.make("muon"), 24, every)
    fewer = crossings_of_run(quadratic, methods.make("muon"), 8, every)
    assert more - fewer == 2 * 16 // every


@pytest.mark.parametrize("every", [1, 16, 500])
def test_a_run_that_is_lost_on_a_device_ends_with_the_step_that_lost_it(xp, every):
    """The same words whatever is recorded and wherever it ran."""
    problem = problems.make("quadratic", rows=3, columns=3, device=xp)
    trace = run(problem, methods.make("gd", lr=1e6), 500, every=every, record=("value",))
    host = run(problems.make("quadratic", rows=3, columns=3), methods.make("gd", lr=1e6), 500, record=("value",))
    assert trace.stopped_by == host.stopped_by
    assert trace.stopped_by.startswith("non-finite")
    assert (trace.non_finite_at == host.non_finite_at).all()


def test_lost_runs_on_a_device_are_noticed_between_distant_records(monkeypatch):
    problem = problems.make("quadratic", rows=3, columns=3, device=strict_backend())
    original, steps = type(problem).grad, []
    monkeypatch.setattr(type(problem), "grad", lambda self, w: steps.append(0) or original(self, w))
    with crossings() as count:
        trace = run(problem, methods.make("gd", lr=1e150), 1000, every=1000, record=("value",))
    assert 0 < trace.non_finite_at < 10
    assert len(steps) == 1 + 64  # the step that was recorded, and 64 of the thousand that were asked for
    assert count.total() == 3  # the first record with its look, and one look after 64 steps


@pytest.mark.parametrize("name", polar.SCHEDULES)
def test_a_schedule_asks_the_device_nothing(name):
    xp = strict_backend()
    g = xp.asarray(np.random.default_rng(0).standard_normal((5, 6, 4)))
    with crossings() as count:
        polar.polar_factor(g, name)
    assert not count


NEEDS = {"constant": {"weight": (0.5, 0.25, 0.125, 0.125)}}


@pytest.mark.parametrize("name", surgery.names())
def test_an_aggregator_asks_the_device_for_the_batch_and_never_for_each_jacobian(name):
    """It asks whether a Jacobian is finite, to name the row, and iterations whether all have converged."""
    xp = strict_backend()
    jacobians = xp.asarray(np.random.default_rng(0).standard_normal((400, 4, 5)))
    with crossings() as count:
        surgery.make(name, **NEEDS.get(name, {}))(jacobians)
    assert 2 <= count.total() <= 100


@pytest.mark.skipif(not cuda_is_available(), reason="CuPy sees no GPU here")
@pytest.mark.parametrize("name", methods.names())
def test_on_a_gpu_a_step_of_products_waits_for_nothing(name):
    """CuPy itself refuses to synchronize here; a factorization waits inside the vendor's library."""
    import warnings

    from cupyx import allow_synchronize

    there, method = backend("cuda"), methods.make(name)
    host = np.random.default_rng(0).standard_normal((6, 4))
    counted = host.view(counting.CountingArray)
    counting.reset()
    method.step(counted, counted, method.init(counted))
    if counting.CountingArray.factorizations:
        pytest.skip("its factorizations wait inside the library")
    w = there.asarray(host)
    _, state = method.step(w, w, method.init(w))  # the first step compiles
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the guard is marked as heuristic by its authors
        with allow_synchronize(False):
            method.step(w, w, state)
