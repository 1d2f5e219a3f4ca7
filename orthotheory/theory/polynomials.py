"""N5: the classical Newton-Schulz polynomials have a multiple zero of 1 - p at 1, by symbolic factorization."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import numpy as np

from ..polar import MUON_QUINTIC, NEWTON_SCHULZ_CUBIC, NEWTON_SCHULZ_QUINTIC, Schedule
from .contract import Assumption, Case, Size, Theorem

# 1 - p(x) as (1 - x)^order times a quotient, lowest power first.
FACTORS = {3: (2, (1.0, 0.5)), 5: (3, (1.0, 9 / 8, 3 / 8))}


def complement(schedule: Schedule) -> np.ndarray:
    """Return the coefficients of 1 - p(x), lowest power first, from the first step of a schedule."""
    odd = schedule.coefficients[0]
    c = np.zeros(2 * len(odd))
    c[0] = 1.0
    c[1::2] -= odd
    return c


def factored(schedule: Schedule) -> np.ndarray:
    """Return the expansion of the stated factorization of 1 - p(x), for the degree of the schedule."""
    order, quotient = FACTORS[2 * len(schedule.coefficients[0]) - 1]
    c = np.asarray(quotient)
    for _ in range(order):
        c = np.convolve(c, [1.0, -1.0])
    return c


def prove() -> list[str]:
    """Factor 1 - p(x) with SymPy for the coefficients that the code uses; returns the steps in LaTeX.

    Raises ArithmeticError where a residual is not the zero polynomial.
    """
    import sympy

    x = sympy.symbols("x", positive=True)
    steps = []
    for schedule in (NEWTON_SCHULZ_CUBIC, NEWTON_SCHULZ_QUINTIC):
        odd = [sympy.nsimplify(c) for c in schedule.coefficients[0]]
        p = sum(c * x ** (2 * i + 1) for i, c in enumerate(odd))
        order, quotient = FACTORS[2 * len(odd) - 1]
        claim = (1 - x) ** order * sum(sympy.nsimplify(c) * x**i for i, c in enumerate(quotient))
        residual = sympy.expand(1 - p - claim)
        if residual != 0:
            raise ArithmeticError(f"1 - p differs from its factorization by {residual}")
        slope = sympy.diff(p, x).subs(x, 0)
        steps.append(f"1-p(x)={sympy.latex(sympy.factor(1 - p))},\\quad p'(0)={sympy.latex(slope)}")
    return steps


def _cases(size: Size) -> Iterator[tuple[str, Schedule]]:
    yield "cubic", NEWTON_SCHULZ_CUBIC
    yield "quintic", NEWTON_SCHULZ_QUINTIC


def _constant_step(case: Case) -> bool:
    return len(set(case.coefficients)) == 1


newton_schulz_factor = Theorem(
    label="newton-schulz-factor",
    title="Newton-Schulz converges with order two and three",
    statement=(
        r"1-\tfrac12(3x-x^3)=\tfrac12(1-x)^2(2+x),\qquad "
        r"1-\tfrac18(15x-10x^3+3x^5)=\tfrac18(1-x)^3(8+9x+3x^2)"
    ),
    assumes=(Assumption("all steps use one polynomial", _constant_step),),
    kind="identity",
    lhs=complement,
    rhs=factored,
    cases=_cases,
    broken=lambda t: dataclasses.replace(t, cases=lambda size: [("Muon's quintic", MUON_QUINTIC)]),
    mistake="Muon's coefficients, which do not converge to 1",
    source="[kovarik1970some], [bjorck1971iterative]; proved by SymPy",
    tolerance=1e-15,
    reason="the coefficients are dyadic fractions, exact in float64",
    proof=prove,
)
