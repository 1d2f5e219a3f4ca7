"""Numbers behind the theorems on quadratics, floors, momentum and the edge of stability; the ledger checks the rest."""

from __future__ import annotations

import numpy as np
import pytest

from orthotheory import norms
from orthotheory.problems import quadratic
from orthotheory.theory import edge, floors, order, quadratic_rates


@pytest.mark.parametrize(("share", "longest"), [(0.3, 4), (0.1, 7), (0.03, 14), (0.01, 24), (0.003, 44)])
def test_the_longest_symmetric_momentum_cycle_has_the_known_half_period(share, longest):
    persists = [p for p in range(1, 80) if order.swing_persists(order.Swing(share, p))[0] == 2]
    assert persists == list(range(1, longest + 1))


def test_the_ascent_meets_the_closed_form_of_the_spectral_sharpness():
    problem = quadratic(rows=4, columns=3, left_condition=20.0, right_condition=4.0, seed=2)
    hessian = np.kron(problem.form.a, problem.form.b)  # rows are stored one after another
    found = edge.generalized_sharpness((hessian + hessian.T) / 2, norms.Spectral(), (4, 3), limit=20_000)
    exact = float(problem.smoothness(norms.Spectral()))
    # the ascent ends when a step gains 1e-13 and converges linearly
    assert found.lower == pytest.approx(exact, rel=1e-8)
    assert found.lower <= exact * (1 + 1e-12) <= found.upper


def test_an_indefinite_hessian_is_refused():
    with pytest.raises(ValueError, match="positive semidefinite"):
        edge.generalized_sharpness(np.diag([1.0, -1.0]), norms.Frobenius(), (2, 1))


def test_sgd_diverges_just_above_its_critical_step_and_contracts_just_below():
    case = edge.Interpolation(np.random.default_rng(0).standard_normal((6, 3)))
    lr = edge.critical_step(case)
    below, above = (np.linalg.eigvalsh(edge.mean_square_operator(case, s * lr))[-1] for s in (0.999, 1.001))
    assert below < 1 < above


def test_the_lagging_mode_of_a_run_falls_by_the_factor_of_the_slow_mode():
    run = quadratic_rates.slow_run()
    factor = (run["scaled"][300] / run["scaled"][250]) ** (1 / 100)
    assert factor == pytest.approx(float(run["factor"]), rel=1e-2)  # an approximation: some flips are skipped
    assert run["scaled"][300] > run["gradient"][300]  # slower than gradient descent


def test_the_floor_of_spectral_descent_is_linear_in_the_noise_and_that_of_sgd_quadratic():
    floor = floors.crossover(np.array([1.0, 4.0]), m=2, n=2, chains=200, lr=0.06, steps=300)
    assert floor["sgd"][1] == pytest.approx(16 * floor["sgd"][0])
    # 200 chains of 4 entries, each at least two independent squares of relative variance 2: 3.5 % a standard error, of
    # which four for the quotient; strong noise is an expansion in lr / sigma
    assert floor["spectral"][1] / floor["spectral"][0] == pytest.approx(4.0, rel=0.15)
