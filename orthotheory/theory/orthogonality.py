"""What the certificates of `polar.certificate` rest on: distances to the polar factor, efficiency of an update."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from ..polar import MUON_QUINTIC, POLAR_EXPRESS, SCHEDULES, Schedule
from ..polar.certificate import deficit
from ..problems import orthogonal
from .contract import Assumption, Case, Size, Theorem


def polar(g: np.ndarray) -> np.ndarray:
    """Return U V^T of a matrix of full rank."""
    u, _, vh = np.linalg.svd(g, full_matrices=False)
    return u @ vh


def smallest(g: np.ndarray) -> float:
    """Return the smallest singular value."""
    return float(np.linalg.svd(g, compute_uv=False)[-1])


def nuclear(g: np.ndarray) -> float:
    """Return the sum of the singular values."""
    return float(np.linalg.svd(g, compute_uv=False).sum())


def with_values(s: np.ndarray, n: int, rng: np.random.Generator) -> np.ndarray:
    """Return a matrix with the given singular values and n columns, in random bases."""
    return (orthogonal(len(s), rng) * s) @ orthogonal(n, rng)[: len(s)]


# |X - polar(X)|


def orthogonality_defect(x: np.ndarray) -> float:
    """Return rho = |I - X X^T|_2."""
    return float(np.linalg.norm(np.eye(len(x)) - x @ x.T, 2))


def _near_isometries(size: Size) -> Iterator[tuple[str, np.ndarray]]:
    rng = np.random.default_rng(0)
    for i in range(20 if size == "smoke" else 500):
        m = int(rng.integers(1, 8))
        n = m + int(rng.integers(0, 8))
        spread = 10 ** rng.uniform(-4, 0)
        s = np.sqrt(1 - spread * rng.uniform(-0.9, 0.99, m))
        s[0] = np.sqrt(1 - spread * 0.99)  # the largest deviation lies below 1: the bound is attained
        yield f"{m} x {n}, rho about {spread:.0e}, draw {i}", with_values(s, n, rng)


def prove_distance() -> list[str]:
    """Show that 1 - s = rho / (1 + sqrt(1 - rho)) for s = sqrt(1 - rho), and less for s = sqrt(1 + rho).

    Raises ArithmeticError where a residual is not zero.
    """
    import sympy

    rho = sympy.symbols("rho", positive=True)
    bound = rho / (1 + sympy.sqrt(1 - rho))
    below = sympy.simplify(sympy.radsimp(bound) - (1 - sympy.sqrt(1 - rho)))
    above = sympy.simplify(sympy.sqrt(1 + rho) - 1 - rho / (1 + sympy.sqrt(1 + rho)))
    if below != 0 or above != 0:
        raise ArithmeticError(f"residuals {below} and {above}")
    return [
        r"1-\sqrt{1-\rho}=\frac{\rho}{1+\sqrt{1-\rho}}",
        r"\sqrt{1+\rho}-1=\frac{\rho}{1+\sqrt{1+\rho}}\le\frac{\rho}{1+\sqrt{1-\rho}}",
    ]


def _distance_bound(x: np.ndarray) -> list[float]:
    rho = orthogonality_defect(x)
    return [rho / (1 + np.sqrt(1 - rho))]


orthogonality_distance = Theorem(
    label="orthogonality-distance",
    title="Distance to the polar factor from one Gram product",
    statement=r"\|X-\operatorname{polar}(X)\|_2\le\frac{\rho}{1+\sqrt{1-\rho}},\quad\rho=\|I-XX^\top\|_2<1",
    assumes=(Assumption("rho = |I - X X^T|_2 < 1", lambda x: orthogonality_defect(x) < 1),),
    kind="tight",
    lhs=lambda x: [np.linalg.norm(x - polar(x), 2)],
    rhs=_distance_bound,
    cases=_near_isometries,
    broken=lambda t: dataclasses.replace(t, rhs=lambda x: [orthogonality_defect(x) / 2]),
    mistake="rho / 2, the first order of the bound",
    source="[higham2008functions]",
    tolerance=1e-8,
    reason="rho from 1e-4 is a difference from 1 with 1e-15 of rounding; the bound is attained below 1",
    proof=prove_distance,
)


# |polar(G) - Q|


@dataclass(frozen=True)
class Candidate:
    """A matrix G, a candidate isometry Q for its polar factor and a symmetric S for its positive factor."""

    g: np.ndarray
    q: np.ndarray
    s: np.ndarray


def symmetric_part(g: np.ndarray, q: np.ndarray) -> np.ndarray:
    """Return (G Q^T + Q G^T) / 2."""
    return (g @ q.T + q @ g.T) / 2


def _is_isometry(case: Case) -> bool:
    return orthogonality_defect(case.q) < 1e-12


def _gap(case: Case) -> float:
    return smallest(case.g) + float(np.linalg.eigvalsh(case.s)[0])


def _candidates(size: Size) -> Iterator[tuple[str, Candidate]]:
    rng = np.random.default_rng(1)
    for i in range(20 if size == "smoke" else 500):
        m = int(rng.integers(2, 7))
        n = m + int(rng.integers(0, 5))
        s = 10.0 ** -np.sort(rng.uniform(0, 3, m))
        g = with_values(s, n, rng)
        q = polar(polar(g) + 10 ** rng.uniform(-8, -0.5) * s[-1] * rng.standard_normal((m, n)))
        yield f"{m} x {n}, condition {s[0] / s[-1]:.0f}, draw {i}", Candidate(g, q, symmetric_part(g, q))
    t = 1e-3
    turn = np.eye(4)
    turn[2:, 2:] = [[np.cos(t), -np.sin(t)], [np.sin(t), np.cos(t)]]
    g = np.diag([1.0, 0.5, 0.01, 0.01])
    yield "a turn in the plane of the smallest singular values", Candidate(g, turn, symmetric_part(g, turn))


polar_forward_bound = Theorem(
    label="polar-forward-bound",
    title="Distance of an isometry from the polar factor, from a residual",
    statement=(
        r"\|\operatorname{polar}(G)-Q\|_F\le\frac{2\,\|G-SQ\|_F}{\sigma_{\min}(G)+\lambda_{\min}(S)},"
        r"\quad QQ^\top=I,\ S=S^\top"
    ),
    assumes=(
        Assumption("Q has orthonormal rows", _is_isometry),
        Assumption("sigma_min(G) + lambda_min(S) > 0", lambda c: _gap(c) > 0),
    ),
    kind="upper",
    lhs=lambda c: [np.linalg.norm(polar(c.g) - c.q)],
    rhs=lambda c: [2 * np.linalg.norm(c.g - c.s @ c.q) / _gap(c)],
    cases=_candidates,
    broken=lambda t: dataclasses.replace(t, rhs=lambda c: [np.linalg.norm(c.g - c.s @ c.q) / _gap(c)]),
    mistake="without the factor 2",
    source="ours, from the inner products of G and S Q with polar(G) - Q; for squares [higham2008functions]",
    tolerance=1e-6,
    reason="the reference factor has an error of eps times the condition number, 1e-13, on distances from 1e-8",
)


# <G, X> / (|X|_2 |G|_*)


@dataclass(frozen=True)
class Update:
    """A matrix and the schedule that orthogonalizes it."""

    g: np.ndarray
    plan: Schedule


def efficiency_bounds(case: Update, deficits: float = 1.0) -> np.ndarray:
    """Return <G, X> / a + m tau max s (1 - p(s) / a) for 128 values of a; `deficits` scales the second term."""
    x = case.plan.apply(case.g)
    tau = np.linalg.norm(case.g) / np.linalg.norm(case.plan.normalization(case.g))
    a, worst, _ = deficit(case.plan.coefficients, case.plan.normalization.top * (1 + 1e-12))
    return np.sum(case.g * x) / a + deficits * min(case.g.shape) * tau * worst


def _updates(size: Size) -> Iterator[tuple[str, Update]]:
    rng = np.random.default_rng(2)
    plans = [MUON_QUINTIC, POLAR_EXPRESS, *(SCHEDULES[n] for n in ("you-6", "cubic-5", "deepseek-v4"))]
    for i in range(3 if size == "smoke" else 30):
        for plan in plans:
            m, n = (int(k) for k in rng.integers(2, 9, size=2))
            g = rng.standard_normal((m, n)) if i % 2 else with_values(10.0 ** -rng.uniform(0, 6, m), m + n, rng)
            yield f"{plan.name}, {g.shape[0]} x {g.shape[1]}, draw {i}", Update(g, plan)
    # equal singular values are where p attains a: there the bound is nearly an equality
    yield "equal singular values", Update(np.eye(9), POLAR_EXPRESS)


def _in_range(case: Case) -> bool:
    top = np.linalg.norm(case.plan.normalization(case.g), 2)
    return bool(top <= case.plan.normalization.top * (1 + 1e-12)) and case.plan.normalization.is_scaling


lmo_efficiency = Theorem(
    label="lmo-efficiency",
    title="The nuclear norm is bounded by the inner product with any polynomial update",
    statement=(
        r"\|G\|_*\le\frac{\langle G,X\rangle}{a}+m\,\tau\max_{0\le s\le u}s\Bigl(1-\frac{p(s)}{a}\Bigr)"
        r"\quad\text{for every }a>0,\ X=p(G/\tau),\ \sigma_1(G)\le u\tau"
    ),
    assumes=(Assumption("the singular values of G / tau lie in [0, u]", _in_range),),
    kind="upper",
    lhs=lambda case: np.full(128, nuclear(case.g)),
    rhs=efficiency_bounds,
    cases=_updates,
    broken=lambda t: dataclasses.replace(t, rhs=lambda case: efficiency_bounds(case, 0.0)),
    mistake="without the loss on the singular values that p leaves short",
    source="ours: sum s_i = sum s_i p(s_i) / a + sum s_i (1 - p(s_i) / a)",
    tolerance=1e-10,
)


# |polar(G) - polar(G + dG)|


@dataclass(frozen=True)
class Rounded:
    """A matrix and what a rounding made of it."""

    g: np.ndarray
    rounded: np.ndarray


def _rounded(size: Size) -> Iterator[tuple[str, Rounded]]:
    rng = np.random.default_rng(3)
    for bits in (8, 11, 24):
        for i in range(5 if size == "smoke" else 100):
            m = int(rng.integers(2, 9))
            n = m + int(rng.integers(0, 5))
            g = with_values(10.0 ** -np.linspace(0, rng.uniform(0, 0.7) * bits * np.log10(2), m), n, rng)
            exponent = np.floor(np.log2(np.abs(g)))
            unit = 2.0 ** (exponent - bits + 1)
            yield f"{m} x {n} rounded to {bits} bits, draw {i}", Rounded(g, np.round(g / unit) * unit)
    turn = np.array([[0.0, 1e-6], [-1e-6, 0.0]])
    g = np.diag([1.0, 1e-2, 1e-2])
    changed = g.copy()
    changed[1:, 1:] += turn
    yield "a skew change of two equal singular values", Rounded(g, changed)


def _rounding_bound(case: Rounded, least=smallest) -> list[float]:
    return [2 * np.linalg.norm(case.g - case.rounded) / (least(case.g) + least(case.rounded))]


input_rounding_floor = Theorem(
    label="input-rounding-floor",
    title="What rounding the input costs any algorithm",
    statement=(
        r"\|\operatorname{polar}(G)-\operatorname{polar}(\tilde G)\|_F"
        r"\le\frac{2\,\|G-\tilde G\|_F}{\sigma_{\min}(G)+\sigma_{\min}(\tilde G)}"
    ),
    assumes=(Assumption("one of the matrices has full rank", lambda c: max(smallest(c.g), smallest(c.rounded)) > 0),),
    kind="upper",
    lhs=lambda c: [np.linalg.norm(polar(c.g) - polar(c.rounded))],
    rhs=_rounding_bound,
    cases=_rounded,
    broken=lambda t: dataclasses.replace(t, rhs=lambda c: _rounding_bound(c, lambda g: float(np.linalg.norm(g, 2)))),
    mistake="the largest singular values in place of the smallest",
    source="[higham2008functions], with our proof for rectangles: theorem `polar-forward-bound`",
    tolerance=1e-6,
    reason="reference factors with an error of eps times the condition number, at most 1e-11 of distances from 1e-6",
)

THEOREMS = (orthogonality_distance, polar_forward_bound, lmo_efficiency, input_rounding_floor)
