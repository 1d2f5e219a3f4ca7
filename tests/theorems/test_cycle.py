"""The cycle theorem beyond its ledger row: the staircase, the loss in the cycle, what rounding does to commutation."""

from __future__ import annotations

import numpy as np
import pytest

from orthotheory import loop, norms, problems
from orthotheory.methods import TrustRegion
from orthotheory.problems import KroneckerQuadratic, log_spectrum
from orthotheory.theory import cycle

LR = 0.11


def _run(problem, steps=60, lr=LR):
    return loop.run(problem, TrustRegion(norms.Spectral(), lr=lr), steps, record=cycle.RECORD)


@pytest.fixture
def diagonal():
    curvatures = np.diag(log_spectrum(4, 250.0))
    return KroneckerQuadratic(curvatures, np.eye(4), np.zeros((4, 4)), np.diag([0.6, 0.95, 0.35, 0.8]))


def test_the_errors_walk_down_the_staircase_whatever_the_curvature(diagonal):
    trace = _run(diagonal)
    basis = cycle.common_basis(trace)
    predicted = cycle.staircase(basis.coordinates[0], LR, 60)
    # sixty subtractions of numbers of order one
    np.testing.assert_allclose(basis.coordinates, predicted, atol=60 * np.finfo(float).eps)


def test_each_error_rests_at_its_first_value_modulo_the_step(diagonal):
    trace = _run(diagonal)
    s = np.abs(cycle.common_basis(trace).coordinates)
    rest = s[0] % LR
    np.testing.assert_allclose(np.sort([s[-1], s[-2]], axis=0), np.sort([rest, LR - rest], axis=0), atol=1e-13)


def test_the_loss_in_the_cycle_lies_between_an_eighth_and_a_half_of_l_lr_squared(diagonal):
    trace = _run(diagonal)
    smoothness = float(diagonal.smoothness(norms.Spectral()))
    mean = trace["gap"][-2:].mean()
    assert smoothness * LR**2 / 8 <= mean <= smoothness * LR**2 / 2


def test_the_sharpest_start_with_unit_rest_attains_the_lower_end_of_the_loss():
    curvatures = np.diag([1.0, 0.5])
    problem = KroneckerQuadratic(curvatures, np.eye(2), np.zeros((2, 2)), 2.5 * LR * np.eye(2))
    trace = _run(problem)
    assert trace["gap"][-1] == pytest.approx(1.5 * LR**2 / 8, rel=1e-10)


def test_rounding_breaks_commutation_in_a_random_basis_and_the_run_still_ends_on_the_floor():
    """Numerical evidence for the conjecture that the sharpest cycle attracts; no theorem says so."""
    problem = problems.quadratic(rows=5, columns=5, left_condition=50.0, right_condition=7.0, seed=16)
    trace = _run(problem, steps=1000, lr=0.104)
    early = loop.run(problem, TrustRegion(norms.Spectral(), lr=0.104), 2, record=cycle.RECORD)
    assert cycle.commutation_defect(early) < 1e-14
    assert cycle.commutation_defect(trace) > 1e-3  # grown from rounding by ten orders of magnitude
    np.testing.assert_allclose(cycle.cycle_mean_gradient(trace), cycle.cycle_floor(trace), rtol=1e-9)


def test_a_pair_out_of_order_is_always_repelled():
    from orthotheory.theory.multiplier import CyclePair, predicted_multiplier

    rng = np.random.default_rng(5)
    for _ in range(500):
        a, b = np.sort(rng.uniform(0.1, 1, size=(2, 2)), axis=1)
        pair = CyclePair(a, b[::-1], LR * rng.uniform(0.01, 0.99, size=2), LR, (0, 1))
        assert predicted_multiplier(pair)[0] > 1
        in_order = pair._replace(b=b)
        assert predicted_multiplier(in_order)[0] <= 1


def test_the_multiplier_predicts_how_fast_rounding_breaks_commutation():
    """The run of the test above leaves by its largest multiplier; the growth is fitted while the defect is small."""
    from orthotheory.theory.multiplier import CyclePair, predicted_multiplier

    problem = problems.quadratic(rows=5, columns=5, left_condition=50.0, right_condition=7.0, seed=16)
    trace = _run(problem, steps=40, lr=0.104)
    basis, defects = cycle.common_basis(trace), cycle.commutation_defects(trace)
    arrived = int(np.max(np.abs(basis.coordinates[0])) / 0.104) + 1
    a, b = (np.linalg.eigvalsh(f)[::-1] for f in (problem.form.a, problem.form.b))
    rest = np.abs(basis.coordinates[0]) % 0.104
    pairs = [(i, j) for i in range(5) for j in range(i)]
    largest = max(abs(predicted_multiplier(CyclePair(a, b, rest, 0.104, p))[0]) for p in pairs)
    window = [k for k in range(arrived, 39) if 1e-12 < defects[k] < 1e-5]
    growth = (defects[window[-1]] / defects[window[0]]) ** (2 / (window[-1] - window[0]))
    assert len(window) >= 4
    assert growth == pytest.approx(largest, rel=0.25)  # a short window, in which slower pairs still count


@pytest.mark.slow
def test_no_random_problem_ends_on_a_cycle_below_the_floor():
    """A search for a counterexample to the conjecture; repeated eigenvalues are excluded by the log-spaced spectra."""
    rng = np.random.default_rng(7)
    for seed in range(200):
        m, n = (int(k) for k in rng.integers(2, 6, size=2))
        problem = problems.quadratic(
            rows=m, columns=n, left_condition=20.0, right_condition=3.0, alignment="generic", seed=seed
        )
        trace = loop.run(problem, TrustRegion(norms.Spectral(), lr=0.05), 6000, record=cycle.RECORD, every=1)
        ratio = cycle.cycle_mean_gradient(trace)[-1] / cycle.cycle_floor(trace)[-1]
        assert ratio > 1 - 1e-6, (seed, m, n, ratio)
