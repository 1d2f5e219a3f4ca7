"""Assumptions are checks on the problem: one that violates them is refused, with the reason."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from orthotheory.problems import quadratic
from orthotheory.theory import check, get
from orthotheory.theory import floors as fl
from orthotheory.theory import guarantees as gu
from orthotheory.theory import inexact as ie
from orthotheory.theory import momentum_theory as mt
from orthotheory.theory import one_step as os
from orthotheory.theory import order as od
from orthotheory.theory.contract import AssumptionFails

EXACT = dict(ie._exact_cases("smoke"))
BOUND = dict(mt._bound_cases("smoke"))


def refuses(label: str, case, reason: str):
    with pytest.raises(AssumptionFails, match=reason):
        check(get(label), case)


@pytest.mark.parametrize("change", [{"lo": 0.71}, {"hi": 1.19}, {"lo": 1.3}])
def test_an_oracle_that_is_worse_than_stated_is_refused(change):
    refuses("inexact-oracle", EXACT["[0.7, 1.2], turned"]._replace(**change), "every answer")


def test_an_average_of_gradients_is_refused_by_the_exact_theorem():
    refuses("inexact-oracle", EXACT["[1.0, 1.0], random"]._replace(share=0.5), "no average")


def test_five_seeds_are_refused_by_the_stochastic_theorem():
    run = ie.inexact_run(ie.isotropic(), ie.turned(0.9, 1.1), (0.9, 1.1), 0.1, 5, 0.5, 0.1, 5)
    refuses("inexact-momentum", run, "20 independent")


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"smoothness": 0.1}, "L and T"),
        ({"curvature_change": 1e-4}, "L and T"),
        ({"sigma": 0.8}, "mean zero"),
        ({"share": np.linspace(0.3, 0.2, 150)}, "a is constant"),
    ],
)
def test_constants_that_do_not_hold_along_the_run_are_refused_by_the_extrapolation_bound(change, reason):
    case = BOUND["log cosh, a = 0.3, seed 0"]
    assert check(get("extrapolation-bound"), case).holds
    refuses("extrapolation-bound", case._replace(**change), reason)


def test_noise_with_a_mean_is_refused_by_the_extrapolation_bound():
    case = BOUND["log cosh, a = 0.3, seed 0"]
    refuses("extrapolation-bound", case._replace(noise=case.noise + 0.1, sigma=2.0), "mean zero")


def test_a_hessian_that_changes_is_refused_by_the_cancellation():
    refuses("extrapolation-cancels", BOUND["log cosh, a = 0.3, seed 0"], "Hessian is constant")


@pytest.mark.parametrize(("change", "reason"), [({"b0": 0.0}, "positive"), ({"smoothness": 0.5}, "every step")])
def test_a_constant_that_the_steps_contradict_is_refused_by_the_adaptive_radius(change, reason):
    run = gu.adaptive_run(quadratic(rows=4, columns=3, left_condition=5.0, alignment="generic"), 1.0, 0.1, 20)
    refuses("adaptive-radius", run._replace(**change), reason)


def test_the_bound_of_the_adaptive_radius_is_below_its_plain_form():
    """It gives b_K <= max(b_0, lr L) + (2/lr)(gap + lr^2 L log+(lr L / b_0)), the form in the notes."""
    for lr, b0, smoothness, gap in np.random.default_rng(0).uniform(0.01, 3.0, (200, 4)):
        level, c = lr * smoothness, lr * smoothness / 2
        most = gap / lr + (2 if b0 < c else 1) * gu.turning(b0, c)
        plain = max(b0, level) + 2 / lr * (gap + lr * level * max(0.0, np.log(level / b0)))
        assert gu.turning(plain, c) >= most * (1 - 1e-12)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"noise": (2.0, 4.1)}, "mean zero"),
        ({"noise": (4.0, 2.0), "chance": 1 / 3}, "likelier"),
        ({"lr": 0.1}, "short"),
    ],
)
def test_noise_that_is_not_skewed_so_or_long_steps_are_refused_by_the_order(change, reason):
    refuses("order-matters", od.Skewed("sign-then-average", 0.1, 0.005, 20, 100)._replace(**change), reason)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"errors": np.array([1.025, 0.3])}, "rank one"),
        ({"errors": np.array([1.0, 0.0])}, "odd multiple"),
        ({"steps": 10}, "passes it"),
        ({"curvatures": np.array([1.0, -0.2])}, "positive"),
    ],
)
def test_other_errors_are_refused_by_the_price_of_low_rank(change, reason):
    refuses("low-rank-error", fl.rank_one(2, 0.0)._replace(**change), reason)


@pytest.mark.parametrize("kind", ["flat curvature, rank 4", "flat error, rank 4"])
def test_uneven_problems_wrong_steps_and_swapped_methods_are_refused_by_the_duality(kind):
    even, uneven = (dict(os._one_step_cases("smoke", uneven=u)) for u in (0.0, 1e-6))
    refuses("one-step-duality", uneven[kind], "flat")
    refuses("one-step-duality", even[kind]._replace(method=dataclasses.replace(even[kind].method, lr=0.3)), "lr fits")
    other = next(k for k in even if k.endswith("rank 4") and k != kind)
    refuses("one-step-duality", even[kind]._replace(method=even[other].method), "flat")


def test_momentum_is_refused_by_the_duality():
    case = dict(os._one_step_cases("smoke"))["flat error, rank 4"]
    refuses(
        "one-step-duality", case._replace(method=dataclasses.replace(case.method, momentum=0.5)), "without momentum"
    )
