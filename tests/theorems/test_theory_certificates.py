"""Bounds follow from their inequalities with verified multipliers; without one of them, or with less, they do not."""

from __future__ import annotations

import dataclasses
from fractions import Fraction

import pytest
import sympy

from orthotheory import theory
from orthotheory.theory.certificates import TABLE, NotImplied, certify, is_nonnegative, prove, verify_multipliers
from orthotheory.theory.pep import worst_smallest_gradient

NAMES = sorted(TABLE)
TIGHT = ("trust-region-nonconvex", "inexact-oracle", "relaxed-smoothness")


def certified(name: str, horizon: int = 3):
    certificate = TABLE[name]
    program = certificate.program(horizon)
    return certificate, program, certify(program, certificate.values)


@pytest.mark.parametrize("name", NAMES)
def test_the_bound_follows_and_the_exact_value_is_that_of_the_linear_program(name):
    certificate, _, proof = certified(name)
    exact = proof.value.subs({sympy.Symbol(k, positive=True): sympy.Rational(v) for k, v in certificate.values.items()})
    assert exact.is_Rational
    assert float(exact) == pytest.approx(proof.numeric, rel=1e-9)
    assert prove(name, (1, 2))


@pytest.mark.parametrize("name", NAMES)
def test_the_bound_is_the_best_one_exactly_where_that_is_said(name):
    assert certified(name)[2].tight == (name in TIGHT)


@pytest.mark.parametrize("name", NAMES)
def test_three_quarters_of_the_bound_are_not_implied(name):
    certificate, program, proof = certified(name)
    less = dataclasses.replace(program, bound=proof.value * sympy.Rational(3, 4))
    with pytest.raises(NotImplied, match="the inequalities allow"):
        certify(less, certificate.values)


@pytest.mark.parametrize("name", NAMES)
def test_without_an_inequality_that_carries_weight_the_bound_is_lost(name):
    certificate, program, proof = certified(name)
    for dropped in proof.multipliers:
        rest = {text: e for text, e in program.inequalities.items() if text != dropped}
        with pytest.raises(ArithmeticError):
            certify(dataclasses.replace(program, inequalities=rest), certificate.values)


def test_altered_multipliers_are_refused():
    _, program, proof = certified("trust-region-nonconvex")
    first = next(iter(proof.multipliers))
    more = {**proof.multipliers, first: proof.multipliers[first] * 2}
    with pytest.raises(ArithmeticError, match="residual"):
        verify_multipliers(program, more, proof.value)
    # A redundant inequality with a negative multiplier: the identity holds, the proof does not.
    gap = program.inequalities[first]
    both = dataclasses.replace(program, inequalities={**program.inequalities, "doubled": 2 * gap})
    weight = proof.multipliers[first]
    with pytest.raises(ArithmeticError, match="negative"):
        verify_multipliers(both, {**proof.multipliers, first: 3 * weight, "doubled": -weight}, proof.value)


def test_a_sign_is_only_granted_where_every_coefficient_has_it():
    x, y = sympy.symbols("x y", positive=True)
    assert is_nonnegative((x + y) / (1 + x))
    assert is_nonnegative(-(x + y) / (-1 - x))
    assert is_nonnegative(0)
    assert not is_nonnegative(x - y)
    assert not is_nonnegative(-x)
    assert not is_nonnegative(sympy.Rational(-1, 3))


def parameters_of(name: str, trace) -> dict[str, float]:
    o, value = trace.method, trace["value"]
    smoothness = float(trace.problem.smoothness(o.norm))
    if name == "trust-region-nonconvex":
        return {"eta": o.lr, "L": smoothness, "Delta": trace["gap"][0]}
    if name == "lion-k-discrete":
        rest = 1 - o.beta2
        return {"eta": o.lr, "L": smoothness, "Delta": value[0] - value[3], "u": 1 / o.beta1 - 1, "w": 1 / rest - 1}
    start = value[0] - trace.problem.optimal_value
    return {"R": 1 / o.weight_decay, "L": smoothness, "u": 1 / (o.lr * o.weight_decay) - 1, "delta0": start}


@pytest.mark.parametrize("name", ["trust-region-nonconvex", "lion-k-discrete", "constrained-star-convex"])
def test_the_certified_bound_is_the_right_side_of_the_theorem_along_a_run(name):
    theorem, program = theory.get(name), TABLE[name].program(3)
    _, trace = next(iter(theorem.cases("smoke")))
    values = {k: sympy.Rational(Fraction(float(v))) for k, v in parameters_of(name, trace).items()}
    bound = float(program.bound.subs({sympy.Symbol(k, positive=True): v for k, v in values.items()}))
    assert bound == pytest.approx(theorem.rhs(trace)[2], rel=1e-12)
    assert theorem.lhs(trace)[2] <= bound


@pytest.mark.parametrize("steps", [1, 2, 3, 4, 6])
def test_over_all_norms_no_better_bound_than_t1_is_possible(steps):
    pytest.importorskip("PEPit", reason="the extra pep is not installed")
    lr = (2 / steps) ** 0.5
    assert worst_smallest_gradient(steps, lr) == pytest.approx(1 / (lr * steps) + lr / 2, rel=1e-5)
    # With half the radius the bound is another one, and still the worst case.
    assert worst_smallest_gradient(steps, lr / 2) == pytest.approx(2 / (lr * steps) + lr / 4, rel=1e-5)
