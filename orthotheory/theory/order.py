"""T10, T11 and Q7: signs of skewed noise, of subgradients, and of momentum, each in its smallest example.

A diagonal embedding makes each of them a statement about polar factors.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Literal, NamedTuple

import numpy as np

from .contract import Assumption, Size, Theorem
from .stochastic import farther_end


class Skewed(NamedTuple):
    """Sign descent on x^2 / 2 with noise -v (chance q) or w: order, averaging share, step, chains, and the noise."""

    order: Literal["sign-then-average", "average-then-sign"]
    share: float
    lr: float
    chains: int
    steps: int
    noise: tuple[float, float] = (2.0, 4.0)  # v, w
    chance: float = 2 / 3


def skewed_run(case: Skewed) -> np.ndarray:
    """Return the mean of x over the second half of the run from x = v / 2, (chains,)."""
    rng = np.random.default_rng(0)
    v, w = case.noise
    x, m, total = np.full(case.chains, v / 2), np.zeros(case.chains), np.zeros(case.chains)
    for k in range(case.steps):
        noisy = x + np.where(rng.random(case.chains) < case.chance, -v, w)
        seen = np.sign(noisy) if case.order == "sign-then-average" else noisy
        m = (1 - case.share) * m + case.share * seen
        x = x - case.lr * (m if case.order == "sign-then-average" else np.sign(m))
        total += x if k >= case.steps // 2 else 0.0
    return total / (case.steps - case.steps // 2)


def skewed_stall(case: Skewed) -> np.ndarray:
    """Return the confidence end of the mean over chains that is farther from v."""
    return np.array([farther_end(skewed_run(case), case.noise[0])])


def _orders(size: Size, order="sign-then-average") -> Iterator[tuple[str, Skewed]]:
    chains = 50 if size == "smoke" else 400
    for share in (1.0, 0.1, 0.01):
        yield f"{order}, a = {share}", Skewed(order, share, 0.005, chains, 3000)
    yield f"{order}, a = 0.1, noise -1 or 3", Skewed(order, 0.1, 0.0025, chains, 3000, (1.0, 3.0), 0.75)


def _centered(case: Skewed) -> bool:
    (v, w), q = case.noise, case.chance
    return bool(np.isclose(-q * v + (1 - q) * w, 0, atol=1e-12))


order_matters = Theorem(
    label="order-matters",
    title="Orthogonalize-then-average stalls where the noise is skewed",
    statement=r"\xi=-v\ (q>\tfrac12)\text{ or }w,\ \mathbb E\xi=0:\ \mathbb E\operatorname{sign}(g+\xi)=1-2q<0"
    r"\ (0<g<v),\quad x_k\to v\text{ for every averaging constant};\quad "
    r"\text{average-then-sign: }x_k\to0\ (a\to0)",
    assumes=(
        Assumption("the noise has mean zero", _centered),
        Assumption("its negative value is the likelier one", lambda c: c.chance > 0.5 and min(c.noise) > 0),
        Assumption("steps are short beside the noise", lambda c: c.lr <= 0.003 * c.noise[0]),
    ),
    kind="asymptotic",
    lhs=skewed_stall,
    rhs=lambda c: np.array([c.noise[0]]),
    cases=_orders,
    broken=lambda t: dataclasses.replace(t, cases=lambda size: list(_orders(size, "average-then-sign"))[1:]),
    mistake="the average first, then the sign, as Muon does",
    source="ours",
    tolerance=0.02,
    reason="x stays within a few steps of 0.0025 v of the stall, and the interval of its mean within one",
)


class Kink(NamedTuple):
    """Sign descent on e |x1 + x2| + |x1 - x2|: e, start, steps' lengths, and what the sign of 0 is."""

    slope: float
    start: tuple[float, float]
    lrs: np.ndarray
    at_kink: float


def kink_sums(case: Kink) -> np.ndarray:
    """Return 8 + x1 + x2 along the run; on the kink the subgradient is that of the side `at_kink`."""
    x, out = np.array(case.start), []
    for lr in case.lrs:
        side = np.sign(x[0] - x[1]) or case.at_kink
        g = case.slope * np.sign(x.sum()) + side * np.array([1.0, -1.0])
        x = x - lr * np.sign(g)
        out.append(8 + x.sum())
    return np.array(out)


def _kinks(size: Size, at_kink: float = 1.0) -> Iterator[tuple[str, Kink]]:
    for slope in (0.1, 0.9):
        for name, lrs in (("constant", np.full(200, 0.25)), ("halving", 2.0 ** -np.arange(1, 30))):
            # multiples of powers of two: every operation is exact, and the constant radius meets the kink
            yield f"e = {slope}, {name} radius", Kink(slope, (1.5, 0.5), lrs, at_kink)


nonsmooth_stall = Theorem(
    label="nonsmooth-stall",
    title="Sign descent does not converge on a convex Lipschitz function",
    statement=r"f=\epsilon|x_1+x_2|+|x_1-x_2|,\ \epsilon<1:\quad x_1+x_2\text{ is invariant,}"
    r"\ f(x_k)\ge\epsilon|x_1(0)+x_2(0)|\text{ for every schedule}",
    assumes=(Assumption("e is below 1", lambda c: 0 < c.slope < 1),),
    kind="identity",
    lhs=kink_sums,
    rhs=lambda c: np.full(len(c.lrs), 8 + sum(c.start)),
    cases=_kinks,
    broken=lambda t: dataclasses.replace(t, cases=lambda size: _kinks(size, at_kink=0.0)),
    mistake="sign(0) = 0 at the kink, which is not the sign of a subgradient that the proof allows",
    source="ours; the statement with momentum is in an abstract and was not derived",
    tolerance=1e-15,
    reason="all numbers are dyadic: exact",
)


class Swing(NamedTuple):
    """A symmetric cycle of sign descent along an average: averaging share a, half-period p."""

    share: float
    half_period: int


def swing_persists(case: Swing) -> np.ndarray:
    """Return 2 where the triangle wave of half-period p reproduces itself, else 1.

    x falls from p/2 to -p/2 (in units of lr) and back; its average, summed over the whole past, must have the sign
    that each of the 2 p steps needs.
    """
    p, q, i = case.half_period, 1 - case.share, np.arange(2 * case.half_period)
    x = np.where(i <= p, p / 2 - i, i - 1.5 * p)
    m = np.array([np.sum(q**i * x[(k - i) % (2 * p)]) for k in i])
    return np.array([1.0 + (np.all(m[:p] > 0) and np.all(m[p:] < 0))])


def swing_allowed(case: Swing, newest: float = 1.0) -> np.ndarray:
    """Return 2 where 0 < sum_{i<p} q^i (1 - p/2 + i) < (p/2)(1 + q^p)/q, else 1."""
    p, q, i = case.half_period, 1 - case.share, np.arange(case.half_period)
    middle = np.sum(q**i * (newest - p / 2 + i))
    return np.array([1.0 + (0 < middle < p / 2 * (1 + q**p) / q)])


momentum_cycle = Theorem(
    label="momentum-cycle",
    title="Which cycles momentum allows",
    statement=r"\text{amplitude }\frac{p\eta}{2},\text{ half-period }p\iff"
    r"0<\sum_{i<p}q^i\bigl(1-\tfrac p2+i\bigr)<\frac p2\,\frac{1+q^p}{q},\quad q=1-a",
    assumes=(Assumption("0 < a < 1", lambda c: 0 < c.share < 1),),
    kind="identity",
    lhs=swing_persists,
    rhs=swing_allowed,
    cases=lambda size: (
        (f"a = {a}, p = {p}", Swing(a, p))
        for a in (0.5, 0.3, 0.1, 0.03, 0.01)
        for p in range(1, int(4 / np.sqrt(a)) + 4)
    ),
    broken=lambda t: dataclasses.replace(t, rhs=lambda c: swing_allowed(c, newest=0.0)),
    mistake="an average that lags one step more",
    source="ours, for symmetric cycles",
    tolerance=1e-15,
    reason="both sides are 1 or 2",
)

THEOREMS = (order_matters, nonsmooth_stall, momentum_cycle)
