"""Falsification: a search for counterexamples to any statement of the table.

A case of a theorem is a function of random numbers: its `sample`, or its `cases` drawn again from other seeds. The
search moves in the space of those random numbers, where every point is a case of the same family: a step of angle t
replaces each normal z by cos(t) z + sin(t) z' and reflects each uniform u + t (v - 1/2) into [0, 1], which leaves the
law as it is (the proposal of preconditioned Crank-Nicolson). A witness is the list of seeds and angles: a few numbers,
replayable.
"""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from unittest import mock

import numpy as np

from .contract import AssumptionFails, Theorem, Verdict, check

Lineage = tuple[tuple[int, float], ...]  # seeds and angles; the angle of the first seed is not used
BUDGET, SECONDS = 200, 5.0


class Blend(np.random.Generator):
    """A generator whose normals and uniforms move continuously with a lineage; discrete draws belong to its first seed.

    >>> float(Blend(0, ((1, 0.0), (2, 0.0))).standard_normal()) == float(Blend(0, ((1, 0.0),)).standard_normal())
    True
    """

    def __init__(self, seed: Any, lineage: Lineage):
        entropy = [] if seed is None else [int(s) for s in np.atleast_1d(seed)]
        streams = [np.random.PCG64([salt, *entropy]) for salt, _ in lineage]
        super().__init__(streams[0])
        self._moves = [
            (np.random.Generator(s), angle) for s, (_, angle) in zip(streams[1:], lineage[1:], strict=True) if angle
        ]

    def standard_normal(self, size=None, *args, **kwargs):
        z = super().standard_normal(size, *args, **kwargs)
        for other, angle in self._moves:
            z = np.cos(angle) * z + np.sin(angle) * other.standard_normal(size)
        return z

    def normal(self, loc=0.0, scale=1.0, size=None):
        size = np.broadcast_shapes(np.shape(loc), np.shape(scale)) or None if size is None else size
        return loc + scale * self.standard_normal(size)

    def random(self, size=None, *args, **kwargs):
        u = super().random(size, *args, **kwargs)
        for other, angle in self._moves:
            u = np.abs(u + angle * (other.random(size) - 0.5)) % 2.0
            u = np.minimum(u, 2.0 - u)
        return u

    def uniform(self, low=0.0, high=1.0, size=None):
        size = np.broadcast_shapes(np.shape(low), np.shape(high)) or None if size is None else size
        return low + (np.asarray(high) - low) * self.random(size)


@contextlib.contextmanager
def reseeded(lineage: Lineage) -> Iterator[list[int]]:
    """Let every `default_rng(seed)` draw from a lineage; yields a list whose length counts the generators made.

    For one thread: the replacement is NumPy's own name until the block ends.
    """
    original, made = np.random.default_rng, []

    def default_rng(seed=None):
        if isinstance(seed, np.random.Generator):
            return original(seed)
        if isinstance(seed, np.random.BitGenerator):
            seed = getattr(seed.seed_seq, "entropy", None)
        made.append(1)
        return Blend(seed, lineage)

    with mock.patch.object(np.random, "default_rng", default_rng):
        yield made


@dataclass(frozen=True)
class Search:
    """The outcome of a search.

    `worst` is the largest relative error of an identity or the largest lhs / rhs of a bound; `witness` replays it:
    label, family ("sample", or "cases" at smoke size), which case, and the lineage of its random numbers.
    """

    label: str
    kind: str
    worst: float
    bound: float
    witness: dict[str, Any]
    evaluations: int
    refused: int
    falsified: bool
    seconds: float
    family: str

    def row(self) -> dict[str, Any]:
        """Return the search as a plain row."""
        return dataclasses.asdict(self)


@dataclass
class _Searcher:
    theorem: Theorem
    budget: int
    deadline: float
    evaluations: int = 0
    refused: int = 0
    random: bool = False
    best: Verdict | None = None
    index: int = 0
    lineage: Lineage = ()

    def evaluate(self, lineage: Lineage, last: int | None = None) -> bool:
        """Check the cases of a lineage, up to the one at `last`; say whether one is worse than all before."""
        improved = False
        with reseeded(lineage) as made:
            for i, (text, case) in enumerate(_draw(self.theorem, lineage)):
                self.evaluations += 1
                try:
                    verdict = check(self.theorem, case, text)
                except AssumptionFails:
                    self.refused += 1
                else:
                    if self.best is None or _rank(verdict) > _rank(self.best):
                        self.best, self.index, self.lineage, improved = verdict, i, lineage, True
                if self.done or i == last:
                    break
            self.random |= bool(made) or self.theorem.sample is not None
        return improved

    @property
    def done(self) -> bool:
        over = self.evaluations >= self.budget or time.process_time() > self.deadline
        return over or (self.best is not None and not self.best.holds)


def _rank(verdict: Verdict) -> tuple[bool, float]:
    return (not verdict.holds, verdict.worst)


def _draw(theorem: Theorem, lineage: Lineage) -> Iterator[tuple[str, Any]]:
    if theorem.sample is not None:
        yield theorem.sample(Blend(None, lineage))
    else:
        yield from theorem.cases("smoke")


def falsify(theorem: Theorem | str, budget: int = BUDGET, seed: int = 0, *, seconds: float = SECONDS) -> Search:
    """Search for a case in which a statement fails: half of the budget drawn afresh, half climbing from the worst.

    Parameters
    ----------
    theorem : Theorem or label
        What is to be refuted: of the table, a conjecture's, or a claim by `claims.contract.as_theorem`.
    budget : int
        Number of cases that are checked.
    seed : int
        Of the search; the fixed cases of the theorem are never among those drawn.
    seconds : float
        Of processor time; the search ends then, even within its budget.

    Returns
    -------
    Search
        Whether it was refuted, and the worst case found. A theorem that survives is not proved by that.

    Raises
    ------
    ValueError
        For an empty budget, or where every drawn case is refused by an assumption.
    """
    theorem = statement(theorem) if isinstance(theorem, str) else theorem
    if budget < 1:
        raise ValueError(f"A search needs a budget of at least one case; got {budget}.")
    start = time.perf_counter()
    s = _Searcher(theorem, budget, time.process_time() + seconds)
    salts = itertools.count(1 + 1_000_000 * seed)
    while not s.done and s.evaluations <= budget // 2:
        s.evaluate(((next(salts), 0.0),))
        if not s.random:  # a fixed list: there is nothing else to draw
            break
    angle = 0.5
    while s.random and s.best is not None and not s.done:
        better = s.evaluate((*s.lineage, (next(salts), angle)), s.index)
        angle = min(1.5, angle * 1.5) if better else max(1e-6, angle * 1.5**-0.25)  # one step in five succeeds
    if s.best is None:
        raise ValueError(f"{theorem.label}: all {s.refused} drawn cases are refused by an assumption.")
    family = "sample" if theorem.sample is not None else "cases" if s.random else "fixed"
    witness = {
        "label": theorem.label,
        "family": family,
        "case": s.index,
        "description": s.best.witness,
        "lineage": [list(step) for step in s.lineage],
    }
    return Search(
        theorem.label, theorem.kind, s.best.worst, s.best.bound, witness, s.evaluations, s.refused,
        not s.best.holds, time.perf_counter() - start, family,
    )  # fmt: skip


def statements() -> dict[str, Theorem]:
    """Return what a label asks to be refuted: the theorems of the table, and those of the conjectures."""
    from . import TABLE
    from .conjectures import CONJECTURES

    return {**TABLE, **{label: c.theorem for label, c in CONJECTURES.items()}}


def statement(label: str) -> Theorem:
    """Return the statement behind a label."""
    from ..names import closest

    return closest(label, statements(), "theorem or conjecture")


def replay(witness: dict[str, Any], theorem: Theorem | None = None) -> Verdict:
    """Check the case of a witness again; the verdict is the one that the search saw."""
    theorem = theorem or statement(witness["label"])
    lineage = tuple((int(salt), float(angle)) for salt, angle in witness["lineage"])
    with reseeded(lineage):
        text, case = next(itertools.islice(_draw(theorem, lineage), witness["case"], None))
        return check(theorem, case, text)
