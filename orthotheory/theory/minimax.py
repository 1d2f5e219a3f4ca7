"""Optimal odd polynomials: equioscillation, greedy composition, asymptotics, and what no polynomial can do."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from ..polar.lower_bound import error_bound
from ..polar.minimax import (
    Composition,
    OptimalStep,
    classical_step,
    compose,
    contraction,
    delta_orthogonalization,
    optimal_step,
    step_map,
)
from ..polar.schedule import Schedule
from .contract import Assumption, Case, Size, Theorem

INTERVALS = ((3, 1e-3), (5, 1e-3), (9, 1e-2), (17, 1e-2), (5, 0.3), (33, 1e-4), (7, 1e-8))


def _signed_errors(step: OptimalStep, p=None) -> np.ndarray:
    points = np.array(step.points)
    return (-1.0) ** np.arange(len(points)) * (1 - (p or step)(points))


def _largest_errors(step: OptimalStep) -> np.ndarray:
    grid = np.geomspace(*step.interval, 100_001)
    largest = max(np.max(np.abs(1 - step(x))) for x in (grid, np.array(step.points)))
    return np.full(len(step.points), largest)


def _classical_errors(step: OptimalStep) -> np.ndarray:
    h = classical_step(step.degree)
    return _signed_errors(step, lambda x: x * np.polynomial.polynomial.polyval(x * x, h))


def _enough_points(step: OptimalStep) -> bool:
    inside = np.array(step.points)
    return len(inside) == len(step.coefficients) + 1 and bool(np.all(np.diff(inside) > 0))


def _random_step(rng: np.random.Generator) -> tuple[str, OptimalStep]:
    degree, low = 2 * int(rng.integers(1, 9)) + 1, float(10 ** rng.uniform(-5, -1))  # E is at least 1e-2
    return f"degree {degree} on [{low:.3e}, 1]", optimal_step(degree, low)


equioscillation = Theorem(
    label="equioscillation",
    title="The optimal step equioscillates",
    statement=r"\min_{p\ \mathrm{odd},\ \deg p\le 2q+1}\ \max_{[l,u]}|1-p|=E\iff"
    r"1-p(x_i)=(-1)^iE=(-1)^i\max_{[l,u]}|1-p|\text{ at some }l=x_0<\dots<x_{q+1}=u",
    assumes=(Assumption("there are q + 2 points in ascending order", _enough_points),),
    kind="identity",
    lhs=_signed_errors,
    rhs=_largest_errors,
    cases=lambda size: [(f"degree {d} on [{low:g}, 1]", optimal_step(d, low)) for d, low in INTERVALS],
    sample=_random_step,
    broken=lambda t: dataclasses.replace(t, lhs=_classical_errors),
    mistake="the classical Newton-Schulz polynomial of the degree in place of the optimal one",
    source="Chebyshev, de la Vallee-Poussin; for the polar factor [amsel2025polar], [grishina2025accelerating]",
    tolerance=1e-12,
    reason="e is accurate to 1e-14 in Chebyshev form, and E is at least 1e-2 in the cases",
)


class Contest(NamedTuple):
    """A chain, and the errors of other chains of its degrees on its interval."""

    chain: Composition
    others: np.ndarray


def image_error(steps: tuple[tuple[float, ...], ...], low: float, high: float = 1.0) -> float:
    """Return the largest |1 - p| of a composition on [low, high], from exact images."""
    a, b = Schedule("", steps, "", (low, high), (0.0, 0.0)).image(low, high)
    return max(abs(1 - a), abs(1 - b))


def competitors(degrees: tuple[int, ...], low: float, count: int, rng: np.random.Generator) -> np.ndarray:
    """Return the errors of chains whose steps are drawn around optimal ones; the last step answers optimally.

    Each step but the last is optimal for another interval, stretched and with perturbed coefficients; the last is
    the best for the image that they leave. What is drawn is near the greedy chain or far from it, by the scale.
    """
    errors = []
    for _ in range(count):
        scale = 10.0 ** rng.uniform(-4, -0.5)
        interval, steps = (low, 1.0), []
        for degree in degrees[:-1]:
            guess = min(0.99, interval[0] / interval[1] * np.exp(scale * rng.standard_normal())) * interval[1]
            row = np.array(optimal_step(degree, guess, interval[1]).coefficients)
            row *= np.exp(0.1 * scale * rng.standard_normal() + 1e-2 * scale * rng.standard_normal(row.shape))
            steps.append(tuple(row.tolist()))
            interval = Schedule("", (steps[-1],), "", interval, interval).image(*interval)
            if interval[0] <= 0:
                break
        else:
            errors.append(optimal_step(degrees[-1], *interval).error)
    return np.array(errors)


def _contests(size: Size) -> Iterator[tuple[str, Contest]]:
    rng = np.random.default_rng(7)
    for degrees, low in (((3, 3), 0.05), ((3, 5), 0.05), ((5, 3), 0.05), ((5, 5, 5), 1e-2), ((9, 5), 1e-2)):
        others = competitors(degrees, low, 40 if size == "smoke" else 400, rng)
        yield f"degrees {degrees} on [{low:g}, 1], {len(others)} competitors", Contest(compose(degrees, low), others)


def _careless(case: Case) -> np.ndarray:
    """Return the error of the chain whose first step is designed for an interval 10 percent too short."""
    chain = case.chain
    degrees, (low, high) = chain.degrees, chain.intervals[0]
    steps = [optimal_step(degrees[0], 1.1 * low, high).coefficients]
    for degree in degrees[1:]:
        image = Schedule("", tuple(steps), "", (low, high), (low, high)).image(low, high)
        steps.append(optimal_step(degree, *image).coefficients)
    return np.full(len(case.others), image_error(tuple(steps), low, high))


greedy_composition = Theorem(
    label="greedy-composition",
    title="The greedy composition of optimal steps is optimal",
    statement=r"\max_{[l,u]}|1-p_K\circ\dots\circ p_1|\le\max_{[l,u]}|1-\tilde p_K\circ\dots\circ\tilde p_1|"
    r"\quad\text{for all odd }\tilde p_k\text{ with }\deg\tilde p_k\le\deg p_k",
    assumes=(
        Assumption(
            "the chain is greedy: no cushion, no safety factor", lambda c: (c.chain.cushion, c.chain.safety) == (0, 1)
        ),
        Assumption("there are competitors", lambda c: len(c.others) > 0),
    ),
    kind="upper",
    lhs=lambda c: np.full(len(c.others), c.chain.error),
    rhs=lambda c: c.others,
    cases=_contests,
    broken=lambda t: dataclasses.replace(t, lhs=_careless),
    mistake="a first step designed for an interval 10 percent too short: some competitor beats that chain",
    source="[amsel2025polar]; here since the error of a step is a monotone function of the ratio of its interval",
    tolerance=1e-12,
    reason="errors above 1e-3 from images accurate to 1e-15",
)

SPREADS = 10.0 ** -np.arange(1, 8)


def _scaled_errors(degree: int) -> np.ndarray:
    return np.array([step_map(degree, 1 - d, d)[1] / d ** ((degree + 1) // 2) for d in SPREADS])


minimax_asymptotics = Theorem(
    label="minimax-asymptotics",
    title="The optimal step near 1",
    statement=r"E_q[1-d,1+d]=2c_{q+1}\,d^{q+1}(1+O(d)),\qquad c_k=\binom{2k}{k}4^{-k}",
    assumes=(),
    kind="asymptotic",
    lhs=_scaled_errors,
    rhs=lambda degree: np.full(len(SPREADS), contraction(degree)),
    cases=lambda size: [(f"degree {d}", d) for d in (3, 5, 7, 9, 13, 17)],
    broken=lambda t: dataclasses.replace(t, rhs=lambda d: np.full(len(SPREADS), 2 ** ((d - 1) // 2) * contraction(d))),
    mistake="the constant c_{q+1} 2^{q+1} of the classical step, which is 2^q times larger",
    source="ours: near 1 the error is c_{q+1} (1 - x^2)^{q+1} less its best approximation, a Chebyshev polynomial",
    tolerance=1e-6,
    reason="the last d is 1e-7, and the next term is smaller than d",
)


def _errors_by_step(chain: Composition) -> np.ndarray:
    return np.array(chain.errors)


def published_bound(chain: Composition, power: float = 1.0) -> np.ndarray:
    """Return (1 - l^2)^((q + 1)^k) for k = 1, 2, ... steps."""
    order = len(chain.coefficients[0])
    steps = np.arange(1, len(chain.degrees) + 1)
    return np.exp(power * np.log1p(-(chain.intervals[0][0] ** 2)) * float(order) ** steps)


def _chains(size: Size) -> Iterator[tuple[str, Composition]]:
    for degree, steps, low in ((3, 6, 0.1), (5, 7, 1e-3), (9, 4, 1e-2), (5, 2, 0.9), (3, 2, 0.99)):
        yield f"{steps} steps of degree {degree} on [{low:g}, 1]", compose([degree] * steps, low)


def _random_chain(rng: np.random.Generator) -> tuple[str, Composition]:
    degree, steps, low = 2 * int(rng.integers(1, 5)) + 1, int(rng.integers(1, 5)), float(10 ** rng.uniform(-3, -0.005))
    return f"{steps} steps of degree {degree} on [{low:.3e}, 1]", compose([degree] * steps, low)


published_error_bound = Theorem(
    label="polar-express-bound",
    title="A closed error bound of the composition, and how loose it is",
    statement=r"\max_{[l,1]}|1-p_K\circ\dots\circ p_1|\le(1-l^2)^{(q+1)^K}",
    assumes=(
        Assumption("all steps have one degree", lambda c: len(set(c.degrees)) == 1),
        Assumption("the interval is [l, 1]", lambda c: c.intervals[0][1] == 1),
    ),
    kind="upper",
    lhs=_errors_by_step,
    rhs=published_bound,
    cases=_chains,
    sample=_random_chain,
    broken=lambda t: dataclasses.replace(t, rhs=lambda chain: published_bound(chain, 2.0)),
    mistake="twice the exponent",
    source="attributed to [amsel2025polar], not re-read; follows from greedy-composition, as classical steps obey it",
    reason="rounding; the bound is loose by orders of magnitude from the second step on",
)


def _optimum(case: tuple[int, float]) -> float:
    degree, low = case
    return optimal_step(degree, low).error


def _asymptotic_size(case: tuple[int, float]) -> float:
    """Return (1 - l) / sqrt(pi l N) ((1 - l) / (1 + l))^N."""
    degree, low = case
    n = (degree - 1) / 2
    return float((1 - low) / np.sqrt(np.pi * low * n) * ((1 - low) / (1 + low)) ** n)


def _random_degree(rng: np.random.Generator) -> tuple[str, tuple[int, float]]:
    degree, low = 2 * int(rng.integers(1, 17)) + 1, float(10 ** rng.uniform(-8, -0.02))
    return f"degree {degree} on [{low:.3e}, 1]", (degree, low)


polynomial_lower_bound = Theorem(
    label="polynomial-lower-bound",
    title="What no odd polynomial of a degree can do",
    statement=r"\max_{[l,1]}|1-xh(x^2)|\ge\frac{\frac1\pi\int_0^\infty|\omega(-s)|^{-1}s^{-1/2}ds}"
    r"{\sum_i1/(x_i|\omega'(x_i^2)|)}\quad\text{for }\deg h\le N,\quad\allowbreak "
    r"\omega(t)=(\tau^2-1)(U_N(\tau)+\beta U_{N-1}(\tau)),\ \omega(x_i^2)=0,"
    r"\ \tau=\tfrac{2t-1-l^2}{1-l^2},\ \beta=\tfrac{1-l}{1+l}",
    assumes=(Assumption("the degree is odd and at least 3", lambda c: c[0] % 2 == 1 and c[0] >= 3),),
    kind="upper",
    lhs=lambda c: error_bound((c[0] - 1) // 2, c[1]),
    rhs=_optimum,
    cases=lambda size: [
        (f"degree {d} on [{low:g}, 1]", (d, low)) for d in (3, 5, 9, 17, 33) for low in (1e-8, 1e-3, 0.1, 0.3, 0.9)
    ],
    sample=_random_degree,
    broken=lambda t: dataclasses.replace(t, lhs=_asymptotic_size),
    mistake="the asymptotic size of the optimum [eremenko2007uniform] taken for a bound",
    source="ours",
    reason="rounding of positive sums",
)


class Steepest(NamedTuple):
    """A step with the error delta, and the slopes at zero of others that stay within delta."""

    step: Composition
    others: np.ndarray


def _within(degree: int, delta: float, count: int, rng: np.random.Generator) -> Steepest:
    """Draw polynomials with |1 - p| <= delta on [x_1, 1]: optimal ones for shorter intervals, stretched to delta.

    x_1 is the first interior extremum of the steepest one.
    """
    step = delta_orthogonalization([degree], delta)
    low = step.intervals[0][0]
    first = optimal_step(degree, low).points[1]
    slopes = []
    for _ in range(count):
        other = optimal_step(degree, low + (first - low) * 10 ** rng.uniform(-6, 0))
        slopes.append((1 + delta) / (1 + other.error) * other.coefficients[0])
    return Steepest(step, np.array(slopes))


def _slopes(size: Size) -> Iterator[tuple[str, Steepest]]:
    rng = np.random.default_rng(11)
    for degree, delta in ((3, 0.3), (5, 0.3), (5, 0.9), (9, 0.1)):
        yield f"degree {degree}, delta {delta}", _within(degree, delta, 20 if size == "smoke" else 200, rng)


steepest_step = Theorem(
    label="steepest-step",
    title="The steepest step within a tolerance",
    statement=r"|1-p|\le\delta\text{ on }[x_1,u]\implies p'(0)\le p_\delta'(0),"
    r"\quad p_\delta\text{ optimal on }[l,u]\text{ with }E=\delta,\ x_1\text{ its first interior extremum}",
    assumes=(Assumption("there are competitors", lambda c: len(c.others) > 0),),
    kind="upper",
    lhs=lambda c: c.others,
    rhs=lambda c: np.full(len(c.others), c.step.slope),
    cases=_slopes,
    broken=lambda t: dataclasses.replace(
        t, rhs=lambda c: np.full(len(c.others), delta_orthogonalization(c.step.degrees, 0.9 * c.step.error).slope)
    ),
    mistake="the step of a tolerance that is 10 percent smaller",
    source="ours, by counting zeros of a difference; the aim is that of [grishina2025accelerating]",
    tolerance=1e-12,
    reason="slopes accurate to 1e-15",
)

THEOREMS = (
    equioscillation,
    greedy_composition,
    minimax_asymptotics,
    published_error_bound,
    polynomial_lower_bound,
    steepest_step,
)
