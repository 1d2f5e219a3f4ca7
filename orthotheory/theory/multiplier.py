"""How the commuting cycle of fixed-step spectral descent repels or attracts what does not commute, to first order.

The part of the error outside the common singular basis splits into pairs (i, j), (j, i). With signs put in, one
combination of a pair is invariant and the other is multiplied by 1 - lr (a_i b_j + a_j b_i) / D at each step, with D
the sum of the two singular values of the gradient; over a period D + D' = lr (h_i + h_j), h_i = a_i b_i.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from .. import norms
from ..loop import run
from ..methods import TrustRegion
from ..problems import KroneckerQuadratic
from .contract import Assumption, Case, Size, Theorem

PERTURBATION = 1e-8  # the remainder is of second order in it


class CyclePair(NamedTuple):
    """A diagonal quadratic in its cycle: eigenvalues of A and B, resting errors in (0, lr), the step, and a pair."""

    a: np.ndarray
    b: np.ndarray
    rest: np.ndarray
    lr: float
    pair: tuple[int, int]

    @property
    def coupling(self) -> np.ndarray:
        """The weights a_i b_j and a_j b_i of the two entries."""
        i, j = self.pair
        return np.array([self.a[i] * self.b[j], self.a[j] * self.b[i]])

    @property
    def curvatures(self) -> np.ndarray:
        """h_i and h_j."""
        return (self.a * self.b)[list(self.pair)]


def measured_multiplier(case: CyclePair) -> np.ndarray:
    """Return the factor by which two steps multiply a small perturbation of the pair."""
    i, j = case.pair
    start = np.diag(case.rest)
    start[i, j], start[j, i] = PERTURBATION, -PERTURBATION
    problem = KroneckerQuadratic(np.diag(case.a), np.diag(case.b), np.zeros_like(start), start)
    method = TrustRegion(norms.Spectral(), lr=case.lr)
    x = run(problem, method, 2, record=("iterate",))["iterate"]
    mode = case.coupling[0] * x[:, i, j] - case.coupling[1] * x[:, j, i]
    return np.asarray([mode[2] / mode[0]])


def predicted_multiplier(case: CyclePair, joint: bool = True) -> np.ndarray:
    """Return 1 - x (1 - x) / (theta (1 - theta)); without `joint`, theta of the first coordinate alone (a mistake)."""
    h = case.curvatures
    rest = case.rest[list(case.pair)]
    x = case.coupling.sum() / h.sum()
    theta = float(h @ rest / (case.lr * h.sum())) if joint else float(rest[0] / case.lr)
    return np.asarray([1 - x * (1 - x) / (theta * (1 - theta))])


def prove() -> list[str]:
    """Prove with SymPy that a period's two factors multiply to the stated one. Raises ArithmeticError otherwise."""
    import sympy

    x, theta = sympy.symbols("x theta", positive=True)
    product = (1 - x / theta) * (1 - x / (1 - theta))
    residual = sympy.simplify(product - (1 - x * (1 - x) / (theta * (1 - theta))))
    if residual != 0:
        raise ArithmeticError(f"the period's factors differ from the multiplier by {residual}")
    return [f"{sympy.latex(product)}=1-\\frac{{x(1-x)}}{{\\theta(1-\\theta)}}"]


def _cases(size: Size) -> Iterator[tuple[str, CyclePair]]:
    rng = np.random.default_rng(11)
    for i in range(40 if size == "smoke" else 400):
        n = int(rng.integers(2, 6))
        a, b = 10 ** rng.uniform(-1, 0, size=(2, n))
        in_order = i % 2 == 0
        if in_order:
            a, b = np.sort(a)[::-1], np.sort(b)[::-1]
        pair = tuple(int(k) for k in rng.choice(n, size=2, replace=False))
        lr = float(rng.uniform(0.05, 0.2))
        case = CyclePair(a, b, lr * rng.uniform(0.1, 0.9, size=n), lr, (pair[0], pair[1]))
        yield f"{n} x {n}, {'in order' if in_order else 'shuffled'}, pair {pair}", case


def _rests_inside(case: Case) -> bool:
    return bool(np.all((case.rest > 0) & (case.rest < case.lr)))


cycle_multiplier = Theorem(
    label="cycle-multiplier",
    title="What the commuting cycle attracts and repels",
    statement=(
        r"\mu_{ij}=1-\frac{x(1-x)}{\theta(1-\theta)},\qquad x=\frac{a_ib_j+a_jb_i}{h_i+h_j},\quad "
        r"\theta=\frac{h_i\rho_i+h_j\rho_j}{\eta(h_i+h_j)}"
    ),
    assumes=(
        Assumption("A and B are positive definite", lambda c: bool(np.all(c.a > 0) and np.all(c.b > 0))),
        Assumption("the errors rest in (0, lr)", _rests_inside),
        Assumption("the pair has two different indices", lambda c: c.pair[0] != c.pair[1]),
    ),
    kind="identity",
    lhs=lambda c: 3 + measured_multiplier(c),
    rhs=lambda c: 3 + predicted_multiplier(c),
    cases=_cases,
    broken=lambda t: dataclasses.replace(t, rhs=lambda c: 3 + predicted_multiplier(c, joint=False)),
    mistake="theta of one coordinate alone",
    source="ours",
    tolerance=1e-8,
    reason="first order in a perturbation of 1e-8; both sides are shifted by 3, since a multiplier may be near zero",
    proof=prove,
)
