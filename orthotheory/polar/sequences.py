"""The cheapest sequence of optimal steps for an interval, by dynamic programming over steps and cost.

Everything that a step does to an interval depends on the ratio high / low alone, and this map is monotone. So among
all sequences of k steps with one cost, the one that ends in the narrowest interval is the best start of every longer
sequence, and a dynamic programme over (steps, cost) finds the optimum over all sequences exactly.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from .cost import COUNTS, CostModel
from .minimax import optimal_step, step_map
from .newton import NewtonStep
from .plan import Step, image
from .schedule import Interval
from .zolotarev import zolotarev, zolotarev_error

DEGREES = (3, 5, 7, 9, 13, 17)
POLES = (-1, -2, -3, -4)
NEWTON = 0
Kind = int  # the degree of a polynomial, minus the number of poles of a rational step, or NEWTON
LONGEST = 16


class Reach(NamedTuple):
    """Kinds of steps, their cost on the short side, and the interval [floor, 1 + error] that they end in."""

    kinds: tuple[Kind, ...]
    inner: float
    floor: float
    error: float


def design(kinds: Iterable[Kind], low: float, high: float = 1.0) -> tuple[tuple[Step, ...], Interval]:
    """Return the optimal steps of the given kinds from [low, high] on, each centered on 1, and the final image."""
    steps: list[Step] = []
    for kind in kinds:
        step: Step
        if kind == NEWTON:
            step = NewtonStep(1 / math.sqrt(low * high))
        elif kind > 0:
            step = optimal_step(kind, low, high).coefficients
        else:
            step = zolotarev(-kind, low, high).centred()
        low, high = image((step,), low, high)
        steps.append(step)
    return tuple(steps), (low, high)


@functools.lru_cache(maxsize=1 << 16)
def reach(kind: Kind, floor: float, error: float) -> tuple[float, float]:
    """Return (1 - E, E) after the best step of a kind on [floor, 1 + error], floor = 1 - error.

    Both are carried, so that neither a tiny floor nor a tiny error loses digits.
    """
    if kind > 0:
        return step_map(kind, floor, error)
    low = floor / (1 + error)
    if kind == NEWTON:  # [low, 1] -> [1, (low^(1/2) + low^(-1/2)) / 2], centered
        top = (math.sqrt(low) + 1 / math.sqrt(low)) / 2
        return 2 / (1 + top), (math.sqrt(low) - 1) ** 2 / (2 * math.sqrt(low) * (1 + top))
    loss = zolotarev_error(1 - 2 * kind, low)
    return 2 * (1 - loss) / (2 - loss), loss / (2 - loss)


def fronts(
    low: float, target: float, costs: CostModel = COUNTS, kinds: Sequence[Kind] = DEGREES
) -> Iterator[list[Reach]]:
    """Yield for one step, two steps, ... the sequences from [low, 1] that no cheaper one of that length beats.

    Each list is sorted by cost, its error falls; a sequence that has reached the target is not continued. Newton
    steps come first or not at all, since they leave the Gram side.
    """
    front = [Reach((), 0.0, 2 * low / (1 + low), (1 - low) / (1 + low))]
    for _ in range(LONGEST):
        longer = [
            Reach((*r.kinds, kind), r.inner + costs.inner(kind), *reach(kind, r.floor, r.error))
            for r in front
            for kind in kinds
            if r.error > target and (kind != NEWTON or set(r.kinds) <= {NEWTON})
        ]
        front = []
        for r in sorted(longer, key=lambda r: (r.inner, r.error, r.kinds)):
            if not front or r.error < front[-1].error:
                front.append(r)
        if not front:
            return
        yield front


def cheapest(
    low: float, target: float, aspect: float = 1.0, costs: CostModel = COUNTS, kinds: Sequence[Kind] = DEGREES,
    *, blocks: int | None = None,
) -> Iterator[tuple[float, int, Reach]]:  # fmt: skip
    """Yield (cost, number of blocks, sequence) for the cheapest sequence of each length and number of blocks.

    Parameters
    ----------
    low, target : float
        From [low, 1] to an error of at most `target`.
    aspect : float
        Longer over shorter side.
    blocks : int, optional
        Only plans with that many blocks; 0 for the direct iteration, as many blocks as steps.
    """
    for length, front in enumerate(fronts(low, target, costs, kinds), start=1):
        done = next((r for r in front if r.error <= target), None)
        if done is None:
            continue
        newton = done.kinds.count(NEWTON)
        rest = length - newton
        allowed = range(1, rest + 1) if rest else (0,)
        for count in allowed if blocks is None else (rest if blocks == 0 else min(blocks, rest),):
            yield costs.composed(done.inner, rest, count, newton, aspect), newton + count, done
