"""Which degrees to compose: the best chain for every number of steps and inner products, by dynamic programming.

A chain of K steps with M inner products (products of n x n matrices that form the h of its steps) costs an increasing
function of K and M, whatever the machine. A step maps intervals monotonely (`minimax.step_map`): from the best
interval it leads to the best one. So the best chain for (K, M) extends a best chain for (K - 1, M - P), and a table
over K and M finds all of them exactly.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from .exchange import half_degree
from .minimax import Composition, check_interval, compose, step_map

DEGREES = (3, 5, 7, 9, 13, 17)


def inner_products(degree: int) -> int:
    """Return P, the products of n x n matrices that form h(R), deg h = q, for a step of degree 2q + 1.

    min over s of (s - 1) + (ceil(q / s) - 1) by [paterson1973number]; 3 for q = 8 by [sastre2018efficient]. The
    product R = X X^T itself is not counted, nor that of h(R) with X.

    >>> [inner_products(d) for d in (3, 5, 7, 9, 13, 17, 33)]
    [0, 1, 2, 2, 3, 3, 6]
    """
    q = half_degree(degree)
    return 3 if q == 8 else min(s - 1 + -(-q // s) - 1 for s in range(1, q + 1))


@dataclass(frozen=True)
class Chain:
    """A chain of optimal steps by its degrees.

    Parameters
    ----------
    degrees : tuple of int
        In order of application.
    inner_products : int
        The sum of P over the steps.
    error : float
        After the last step, on the interval it was planned for.
    interval : (low, high)
        That interval.
    """

    degrees: tuple[int, ...]
    inner_products: int
    error: float
    interval: tuple[float, float]

    @property
    def steps(self) -> int:
        """Number of steps."""
        return len(self.degrees)

    def composition(self) -> Composition:
        """Return the chain with its coefficients."""
        return compose(self.degrees, *self.interval)


def best_degrees(
    low: float,
    high: float = 1.0,
    *,
    error: float,
    cost: Callable[[int, int], float],
    degrees: tuple[int, ...] = DEGREES,
) -> Chain:
    """Return the cheapest chain of optimal steps that maps [low, high] into [1 - error, 1 + error].

    Parameters
    ----------
    low, high : float
        The interval of the singular values.
    error : float
        In (0, 1).
    cost : function of (steps, inner products)
        Increasing in both, in any unit. In products of n x n matrices, r = long / short side and s = 1/2 where
        symmetric results cost half: K r (1 + s) + s M for the ordinary iteration.
    degrees : tuple of int
        The degrees that may be used, in any order and number.

    Returns
    -------
    Chain
        Among the cheapest the one with the smallest error.

    Notes
    -----
    Exact: it minimizes over `frontier`, which contains a best chain for every cost of this kind.

    >>> chain = best_degrees(1e-3, error=1e-4, cost=lambda steps, inner: 1.5 * steps + 0.5 * inner)
    >>> chain.degrees, round(chain.error, 7)
    ((3, 17, 17, 17), 7.08e-05)
    """
    table = frontier(low, high, error=error, degrees=tuple(degrees))
    return min(table, key=lambda chain: (cost(chain.steps, chain.inner_products), chain.error))


def frontier(low: float, high: float = 1.0, *, error: float, degrees: tuple[int, ...] = DEGREES) -> tuple[Chain, ...]:
    """Return the chains that reach the error with no other having both fewer steps and fewer inner products.

    Each has the smallest error of all chains with its number of steps and inner products. Memoized.

    Raises
    ------
    ValueError
        For an interval or a degree that `minimax.optimal_step` refuses, or an error outside (0, 1).

    >>> [(chain.steps, chain.inner_products) for chain in frontier(0.1, error=1e-2)]
    [(2, 3), (3, 2), (4, 0)]
    """
    if not 0 < error < 1:
        raise ValueError(f"error must lie in (0, 1); got {error}.")
    if not degrees:
        raise ValueError("degrees must name at least one degree; got none.")
    return _frontier(*check_interval(low, high), float(error), tuple(sorted(set(degrees))))


State = tuple[float, float, tuple[int, ...]]  # floor, spread and the degrees so far


@lru_cache(maxsize=256)
def _frontier(low: float, high: float, error: float, degrees: tuple[int, ...]) -> tuple[Chain, ...]:
    interval = (low, high)
    floor, spread = 2 * low / (low + high), (high - low) / (high + low)
    layer: dict[int, State] = {0: (floor, spread, ())}  # by inner products
    best: dict[int, float] = {}  # by inner products: the best quality with up to as many steps
    found: list[Chain] = []
    while layer:
        following: dict[int, State] = {}
        for spent, state in _extended(layer, degrees):
            if any(spent >= chain.inner_products for chain in found):
                continue
            if spent not in following or _quality(state) > _quality(following[spent]):
                following[spent] = state
        layer = {}
        for spent, state in sorted(following.items()):
            if any(m <= spent and quality >= _quality(state) for m, quality in best.items()):
                continue
            best[spent] = _quality(state)
            if state[1] <= error:
                found.append(Chain(state[2], spent, state[1], interval))
                break  # more inner products for as many steps: dominated
            layer[spent] = state
    return tuple(found)


def _extended(layer: dict[int, State], degrees: tuple[int, ...]) -> Iterator[tuple[int, State]]:
    for spent, (floor, spread, chain) in layer.items():
        for degree in degrees:
            yield spent + inner_products(degree), (*step_map(degree, floor, spread), (*chain, degree))


def _quality(state: State) -> float:
    """Return log((1 - d) / d), increasing with the quality of the interval and resolved at both ends."""
    floor, spread, _ = state
    return float(np.log(floor) - np.log(spread)) if spread > 0 else np.inf
