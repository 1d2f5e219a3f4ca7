"""The cheapest plan for a wanted accuracy or LMO efficiency, its alternatives, and how far the cheapest can be.

`sequences` finds what is cheapest in exact arithmetic; here every candidate in turn, cheapest first, is run on a
small matrix in the wanted precision, until one is accurate enough after rounding too.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np

from ..arrays import check_number
from ..names import closest
from .cost import COUNTS, CostModel, measured
from .gaussian import Spectrum, marchenko_pastur
from .lower_bound import smallest_degree
from .normalization import Normalization
from .plan import Plan, Step, value
from .probe import Trial, floor, predicted_error
from .schedule import Interval
from .sequences import DEGREES, NEWTON, POLES, Kind, Reach, cheapest, design
from .spectrum import Lanczos

DTYPES = ("float32", "float64")
SPECTRAL = Lanczos()
STANDARD = (1e-3, 1.0)
FAMILIES: dict[str, tuple[Kind, ...]] = {
    "cubic": (3,),
    "quintic": (5,),
    "degree up to 9": (3, 5, 7, 9),
    "degree up to 17": DEGREES,
    "with rational steps": (3, 5, 9, *POLES),
    "with Newton steps": (NEWTON, 3, 5, *POLES),
}


def plan_for(
    shape: tuple[int, int], dtype: str = "float64", *, accuracy: float | None = None, efficiency: float | None = None,
    interval: Interval | Spectrum | None = None, costs: CostModel | str = "counts",
    normalization: Normalization | Lanczos = SPECTRAL, families: Sequence[str] | None = None,
) -> Plan:  # fmt: skip
    """Return the cheapest plan for matrices of a shape that reaches an accuracy or an LMO efficiency.

    Parameters
    ----------
    shape : (m, n)
    dtype : "float32" or "float64"
    accuracy : float
        Wanted |X - polar(G)|_2, in (0, 1), for every matrix whose singular values lie in `interval`.
    efficiency : float
        Wanted <G, X> / (|X|_2 |G|_*), in (0, 1): what steepest descent in the spectral norm loses is the rest. Give
        one of the two.
    interval : (low, high), Spectrum or None
        Singular values in any unit, only high / low counts; or a whole spectrum, for an efficiency. None is
        (1e-3, 1) for an accuracy and the spectrum of a Gaussian matrix (Marchenko-Pastur) for an efficiency.
    costs : "counts", "measured" or a CostModel
        Operation counts with symmetric products at half, or what this machine needs (measured once, cached).
    normalization : Normalization or Lanczos
        How sigma_1 is bounded or estimated. With a bound that may be t times sigma_1 the interval starts t lower.
    families : names of `FAMILIES`, optional
        Which kinds of steps may occur; all without.

    Raises
    ------
    ValueError
        For what is out of range, and where nothing reaches the accuracy in this precision: it says what can be had.

    Notes
    -----
    Optimal over all sequences of each family under the cost model, exact arithmetic assumed (`sequences`); the first
    that also survives rounding on the probe is taken. Memoized; some hundredths of a second without.

    >>> plan = plan_for((64, 256), accuracy=1e-2)
    >>> plan.name, plan.cost
    ('z2 z1', 9.0)
    """
    return alternatives(
        shape, dtype, accuracy=accuracy, efficiency=efficiency, interval=interval, costs=costs,
        normalization=normalization, families=families,
    )[0]  # fmt: skip


def alternatives(
    shape: tuple[int, int], dtype: str = "float64", *, accuracy: float | None = None, efficiency: float | None = None,
    interval: Interval | Spectrum | None = None, costs: CostModel | str = "counts",
    normalization: Normalization | Lanczos = SPECTRAL, families: Sequence[str] | None = None,
) -> list[Plan]:  # fmt: skip
    """Return the best plan of each family, cheapest first; arguments as for `plan_for`."""
    if (accuracy is None) == (efficiency is None):
        raise ValueError("Give accuracy= or efficiency=, one of the two.")
    check_number(accuracy if efficiency is None else efficiency, "accuracy" if efficiency is None else "efficiency",
                 open_low=True, high=1.0, open_high=True)  # fmt: skip
    closest(dtype, dict.fromkeys(DTYPES), "dtype")
    if len(shape) != 2 or min(shape) < 1:
        raise ValueError(f"shape must be (m, n) with positive sides; got {tuple(shape)}.")
    if isinstance(costs, str):
        closest(costs, dict.fromkeys(("counts", "measured")), "cost model")
        costs = COUNTS if costs == "counts" else measured(shape, dtype)
    chosen = tuple(families or FAMILIES)
    for family in chosen:
        closest(family, FAMILIES, "family of steps")
    if isinstance(interval, tuple | list):
        low, high = (float(end) for end in interval)
        if not 0 < low < high < math.inf:
            raise ValueError(f"interval needs 0 < low < high < inf; got ({low:g}, {high:g}).")
        interval = (low, high)
    plans = _alternatives(tuple(shape), dtype, accuracy, efficiency, interval, costs, normalization, chosen)
    if not plans:
        low, high = interval if isinstance(interval, tuple) else STANDARD
        moved = floor(low / high, min(shape), dtype)
        raise ValueError(
            f"No plan reaches accuracy {accuracy:g} in {dtype} on this interval: rounding the input alone moves its "
            f"polar factor by about {moved:.1e}. Ask for less, or use float64."
        )
    return list(plans)


@functools.lru_cache(maxsize=512)
def _alternatives(shape, dtype, accuracy, efficiency, interval, costs, normalization, families) -> tuple[Plan, ...]:
    if efficiency is not None and not isinstance(interval, tuple):
        search = functools.partial(_for_spectrum, efficiency, interval or marchenko_pastur(shape))
    else:
        # On an interval |1 - p| <= E leaves the efficiency (1 - E) / (1 + E) at worst.
        target = accuracy if efficiency is None else (1 - efficiency) / (1 + efficiency)
        low, high = interval or STANDARD
        search = functools.partial(_for_interval, target, low / high)
    found = (search(shape, dtype, costs, normalization, family) for family in families)
    first = {p.name: p for p in reversed([p for p in found if p is not None])}  # one plan, the simplest family
    return tuple(sorted(first.values(), key=lambda p: (p.cost, p.error)))


def looseness(normalization: Normalization | Lanczos, rank: int) -> float:
    """Return the largest bound / sigma_1 that a rule can give, its safety factor included."""
    if isinstance(normalization, Lanczos):
        return normalization.safety
    exponent = {"frobenius": 1 / 2, "schatten-4": 1 / 4, "schatten-8": 1 / 8, "row-sum": 1 / 4, "exact": 0.0}
    return normalization.safety * rank ** closest(normalization.bound, exponent, "scaling by a number")


def _for_interval(target, ratio, shape, dtype, costs, normalization, family) -> Plan | None:
    aspect = max(shape) / min(shape)
    low = ratio / looseness(normalization, min(shape))
    for share in (1.0, 0.5):  # the second leaves room for rounding
        for option in priced(cheapest(low, share * target, aspect, costs, FAMILIES[family]), costs, aspect, dtype):
            steps, ends = design(option.reached.kinds, low)
            for blocks in block_sizes(option.reached, option.blocks):
                trial = Trial(steps, blocks, normalization, ratio, dtype, option.gram_dtype)
                error = predicted_error(trial, option.reached.error, shape, target)
                if error <= target:
                    return Plan(steps, blocks, normalization, (low, 1.0), ends, shape, dtype, costs, option.cost,
                                error, gram_dtype=option.gram_dtype, reason=f"cheapest {family}")  # fmt: skip
    return None


class Option(NamedTuple):
    """A sequence with a number of blocks and a precision of the Gram side, priced."""

    cost: float
    blocks: int
    reached: Reach
    gram_dtype: str | None = None


def priced(options: Iterable[tuple[float, int, Reach]], costs: CostModel, aspect: float, dtype: str) -> list[Option]:
    """Return the options, cheapest first; for float32 also with the whole Gram side in float64."""
    rows = []
    for cost, blocks, reached in options:
        rows.append(Option(cost, blocks, reached))
        if dtype == "float32" and blocks == 1 and NEWTON not in reached.kinds:
            rows.append(Option(aspect + costs.double * (cost - aspect), blocks, reached, "float64"))
    return sorted(rows, key=lambda o: (o.cost, o.blocks))


def _for_spectrum(efficiency, spectrum, shape, dtype, costs, normalization, family) -> Plan | None:
    aspect = max(shape) / min(shape)
    s = spectrum.normalized(normalization, shape)
    kinds = sorted(kind for kind in FAMILIES[family] if kind != NEWTON)
    sequences = (c for length in range(1, 7) for c in itertools.combinations_with_replacement(kinds, length))
    lists = (Reach(c, sum(map(costs.inner, c)), 0.0, 1.0) for c in sequences)
    options = (
        (costs.composed(r.inner, len(r.kinds), blocks, 0, aspect), blocks, r)
        for r in lists
        for blocks in range(1, len(r.kinds) + 1)
    )
    reachable: dict[tuple[Kind, ...], tuple[float, float]] = {}
    for option in priced(options, costs, aspect, dtype):
        sequence = option.reached.kinds
        if sequence not in reachable:
            reachable[sequence] = best_interval(sequence, s, spectrum.weights)
        low, reached = reachable[sequence]
        if reached < efficiency:
            continue
        steps, ends = design(sequence, low)
        exact = max(1 - ends[0], ends[1] - 1)
        ratio = min(1.0, low / float(s.max()))
        limit = exact + (1 - efficiency) / 10  # rounding on the planned interval must not count
        for blocks in block_sizes(option.reached, option.blocks):
            trial = Trial(steps, blocks, normalization, ratio, dtype, option.gram_dtype)
            error = predicted_error(trial, exact, shape, limit)
            if error <= limit:
                return Plan(steps, blocks, normalization, (low, 1.0), ends, shape, dtype, costs, option.cost, error,
                            reached, gram_dtype=option.gram_dtype, reason=f"cheapest {family}")  # fmt: skip
    return None


def best_interval(kinds: Sequence[Kind], s: np.ndarray, weights: np.ndarray) -> tuple[float, float]:
    """Return the low end whose optimal steps have the largest efficiency on a spectrum, and that efficiency."""

    def at(low: float) -> tuple[float, float]:
        return predicted_efficiency(design(kinds, low)[0], s, weights), low

    _, low = max(map(at, np.geomspace(0.9, 1e-4, 25) * min(1.0, float(s.max()))))
    value, low = max(map(at, np.geomspace(min(0.95, 1.35 * low), low / 1.35, 9)))
    return low, value


def predicted_efficiency(steps: Sequence[Step], s: np.ndarray, weights: np.ndarray) -> float:
    """Return sum s p(s) / (max p sum s) over a spectrum, the LMO efficiency <G, X> / (|X|_2 |G|_*)."""
    p = s
    for step in steps:
        p = value(step, p)
    return float(np.sum(weights * s * p) / (np.abs(p).max() * np.sum(weights * s)))


def block_sizes(reached: Reach, count: int) -> Iterator[tuple[int, ...]]:
    """Yield ways to cut a sequence into `count` blocks of nearly equal size, Newton steps alone."""
    newton = reached.kinds.count(NEWTON)
    rest, blocks = len(reached.kinds) - newton, count - newton
    alone = (1,) * newton
    if not rest:
        yield alone
        return
    size, larger = divmod(rest, blocks)
    even = (size,) * (blocks - larger)
    yield from dict.fromkeys([(*alone, *even, *(size + 1,) * larger), (*alone, *(size + 1,) * larger, *even)])


class ProductBound(NamedTuple):
    """What every plan of products alone must pay, proven, beside the best one found."""

    degree: int
    products: int
    cost: float
    best: Plan | None

    def __str__(self) -> str:
        found = "" if self.best is None else f"; the best one here costs {self.best.cost:.3g} ({self.best.name})"
        return (
            f"Products alone, no inverses, need degree {self.degree}, so {self.products} products, "
            f"cost {self.cost:.3g} (proven){found}."
        )


def product_bound(plans: Sequence[Plan], error: float | None = None) -> ProductBound:
    """Return the lower bound for what `plans` reach, or for an error on the interval of the first.

    No polynomial below a certain degree reaches the error (`lower_bound.smallest_degree`), and T products form at most
    degree 2^T, in whatever blocks. The first of them is a Gram matrix, the last has the shape of X, and none of the
    others is cheaper than a symmetric n x n product.
    """
    plan = plans[0]
    bound = smallest_degree(plan.interval[0], error=plan.exact_error if error is None else error)
    aspect, s = max(plan.shape) / min(plan.shape), plan.costs.symmetric
    least = aspect * (1 + s) + s * max(0, bound.products - 2)
    polynomial = (p for p in plans if all(isinstance(step, tuple) for step in p.steps))
    return ProductBound(bound.degree, bound.products, least, next(polynomial, None))
