"""Runs in one batch are the runs one by one."""

from __future__ import annotations

import numpy as np
import pytest

from orthotheory import loop, norms, problems
from orthotheory.methods import LionK, TrustRegion
from orthotheory.problems import Gaussian, projection, quadratic, ramp, spectral_face, star_convex
from orthotheory.theory.batched import run_together

RECORD = ("value", "gap", "gradient_norm", "step_norm", "weight_norm", "iterate")


def _jobs():
    for seed in range(2):
        for lr in (0.1, 0.03):
            kept = {"lr": lr, "weight_decay": 0.5}
            yield f"face {seed} {lr}", spectral_face(seed=seed), TrustRegion(norms.Spectral(), **kept), 20
            yield f"projection {seed} {lr}", projection(seed=seed, ball="nuclear"), TrustRegion("nuclear", **kept), 20
            yield f"star {seed} {lr}", star_convex(seed=seed), TrustRegion(norms.Spectral(), **kept), 20
            yield f"lion {seed} {lr}", quadratic(rows=3, columns=4, seed=seed), LionK("nuclear", beta1=lr, lr=lr), 20
    yield "digits", problems.digits(), TrustRegion(norms.Spectral(), lr=0.1), 3
    yield "ramp", ramp(budget=20), TrustRegion(norms.Spectral(), lr=0.1), 20


def test_each_trace_is_that_of_its_own_run_in_the_order_of_the_jobs():
    jobs = list(_jobs())
    together = list(run_together(jobs, RECORD))
    assert [text for text, _ in together] == [job[0] for job in jobs]
    for (text, trace), (_, problem, method, steps) in zip(together, jobs, strict=True):
        alone = loop.run(problem, method, steps, record=RECORD)
        assert trace.problem is problem
        assert trace.method == method
        assert trace.non_finite_at.shape == ()
        for name in RECORD:
            scale = 1e-12 * (1 + np.nanmax(np.abs(alone[name])))
            np.testing.assert_allclose(trace[name], alone[name], rtol=0, atol=scale, err_msg=f"{text}, {name}")


def test_starts_of_ones_own_are_taken():
    problem = quadratic(rows=3, columns=3)
    ((_, trace),) = run_together([("one", problem, TrustRegion(lr=0.1), 2)], ("iterate",), [0 * problem.start])
    np.testing.assert_array_equal(trace["iterate"][0], 0)


def test_noise_is_refused():
    job = ("noisy", quadratic(rows=3, columns=3, noise=Gaussian(0.1)), TrustRegion(lr=0.1), 2)
    with pytest.raises(ValueError, match="exact gradients"):
        list(run_together([job], ("value",)))
