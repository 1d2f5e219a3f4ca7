"""How far the truncated Cayley series is from orthogonal: the parity of the number of terms decides."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from ..polar.parametrizations import cayley_neumann, cayley_neumann_defect
from ..problems import orthogonal
from .contract import Assumption, Case, Size, Theorem


@dataclass(frozen=True)
class Series:
    """A skew-symmetric matrix, its eigenvalues' moduli and a number of terms."""

    skew: np.ndarray
    angles: np.ndarray
    terms: int


def skew_with(angles: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return a skew-symmetric matrix with eigenvalues +-i times the angles, in a random basis."""
    n = 2 * len(angles)
    s = np.zeros((n, n))
    for k, theta in enumerate(angles):
        s[2 * k, 2 * k + 1], s[2 * k + 1, 2 * k] = -theta, theta
    q = orthogonal(n, rng)
    return q @ s @ q.T


def defect(case: Series) -> list[float]:
    """Return |R^T R - I|_2 of the series."""
    skew = (case.skew - case.skew.T) / 2
    r = cayley_neumann(skew, case.terms)
    return [float(np.linalg.norm(r.T @ r - np.eye(len(r)), 2))]


def _cases(size: Size) -> Iterator[tuple[str, Series]]:
    rng = np.random.default_rng(0)
    for terms in range(2, 8 if size == "smoke" else 13):
        for largest in (0.5, 0.9):
            angles = rng.uniform(0, largest, 3)
            angles[0] = largest
            yield f"{terms} terms, spectral norm {largest}", Series(skew_with(angles, rng), angles, terms)


def _skew(case: Case) -> bool:
    return bool(np.abs(case.skew + case.skew.T).max() < 1e-14)


def prove() -> list[str]:
    """Expand R_N (I - S) = (I + S)(I - S^(N-1)) for scalars, S commutes with itself; raises where it fails."""
    import sympy

    s = sympy.symbols("s")
    for terms in range(2, 10):
        series = 1 + 2 * sum(s**k for k in range(1, terms - 1)) + s ** (terms - 1)
        residual = sympy.expand(series * (1 - s) - (1 + s) * (1 - s ** (terms - 1)))
        if residual != 0:
            raise ArithmeticError(f"{terms} terms leave {residual}")
    return [r"R_N(I-S)=(I+S)(I-S^{N-1})", r"R_N^\top R_N=(I-S^{N-1})^\top(I-S^{N-1})"]


cayley_neumann_orthogonality = Theorem(
    label="cayley-neumann-defect",
    title="An even number of Cayley-Neumann terms is squared as orthogonal",
    statement=(
        r"R_N=C(S)(I-S^{N-1}),\quad \|R_N^\top R_N-I\|_2=\theta^{2(N-1)}\ (N\text{ even}),"
        r"\quad \bigl|(1\mp\theta^{N-1})^2-1\bigr|\ (N\text{ odd}),\quad\theta=\|S\|_2"
    ),
    assumes=(Assumption("S is skew-symmetric", _skew),),
    kind="identity",
    lhs=defect,
    rhs=lambda case: [float(cayley_neumann_defect(case.angles, case.terms))],
    cases=_cases,
    broken=lambda t: dataclasses.replace(
        t, rhs=lambda case: [float(cayley_neumann_defect(case.angles, case.terms | 1))]
    ),
    mistake="the formula for odd N at every N",
    source="ours, on [qiu2025orthogonal]; proved by SymPy for up to nine terms",
    tolerance=1e-8,
    reason="the least defect, 0.5^22 = 2e-7 at 12 terms, is a difference from 1 with 1e-15 of rounding",
    proof=prove,
)
