"""Smallest counterexamples to the properties of aggregators, by trying every integer Jacobian in order of size.

    size(J) = m n + sum |J_ij|,   ties: fewer entries, then fewer rows, then the entries in order

Only finitely many Jacobians have a given size (about 2.41^size a shape), so that "smallest" is a fact about all of
them and not about a draw. A violation counts from `FAILS` = 1e-3 on: integers this small leave roundings of 1e-15
times what the aggregator amplifies, so that no verdict hangs on a rounding but that of an exact tie.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np

from .properties import DECLARED, FAILS, PROPERTIES, in_domain, rule_for, violation

Cell = tuple[str, str]
CHUNK = 4096


def size(jacobian) -> int:
    """Return m n + sum |J_ij|, the number of entries and of the units in them."""
    j = np.asarray(jacobian)
    return int(j.size + np.abs(j).sum())


def vectors(length: int, total: int) -> np.ndarray:
    """Return all integer vectors of that length whose absolute entries add up to `total`, in lexicographic order.

    >>> vectors(2, 1).tolist()
    [[-1, 0], [0, -1], [0, 1], [1, 0]]
    """
    if length == 1:
        return np.array([[-total], [total]] if total else [[0]])
    parts = []
    for first in range(-total, total + 1):
        rest = vectors(length - 1, total - abs(first))
        parts.append(np.column_stack([np.full(len(rest), first), rest]))
    return np.concatenate(parts)


def jacobians(of_size: int, *, rows: range = range(1, 1000)) -> Iterator[np.ndarray]:
    """Yield batches (b, m, n) of all integer Jacobians of one size, smaller shapes first."""
    for entries in range(1, of_size + 1):
        for m in (m for m in range(1, entries + 1) if entries % m == 0 and m in rows):
            found = vectors(entries, of_size - entries).reshape(-1, m, entries // m).astype(float)
            for start in range(0, len(found), CHUNK):
                yield found[start : start + CHUNK]


def accepts(name: str, m: int) -> bool:
    """Say whether the aggregator takes m rows: Krum needs four, the trimmed mean three."""
    try:
        rule_for(name, m)(np.ones((m, 1)))
    except ValueError:
        return False
    return True


def violations(name: str, label: str, j: np.ndarray) -> np.ndarray:
    """Return `violation`; a random aggregator sees each Jacobian alone, with the draws that a later check repeats."""
    if not rule_for(name, j.shape[1]).random:
        return violation(name, label, j)
    return np.array([violation(name, label, one[None])[0] for one in j])


def smallest(cells: Iterable[Cell], largest: int) -> dict[Cell, np.ndarray]:
    """Return the smallest counterexample of each pair of an aggregator and a property, up to size `largest`.

    A pair without one there is missing from the answer: whatever violates it is larger.
    """
    found: dict[Cell, np.ndarray] = {}
    left = list(cells)
    for of_size in range(1, largest + 1):
        if not left:
            break
        for j in jacobians(of_size):
            domains: dict[str, np.ndarray] = {}
            for name, label in [cell for cell in left if accepts(cell[0], j.shape[1])]:
                kind = PROPERTIES[label].domain
                if kind not in domains:
                    domains[kind] = in_domain(label, j)
                inside = j[domains[kind]]
                if len(inside):
                    bad = violations(name, label, inside) >= FAILS
                    if bad.any():
                        found[name, label] = inside[np.argmax(bad)].astype(int)
            left = [cell for cell in left if cell not in found]
    return found


def denied() -> list[Cell]:
    """Return the pairs that the property table denies, at least for some Jacobians."""
    rows = ((name, zip(PROPERTIES, cells.split(), strict=True)) for name, cells in DECLARED.items())
    return [(name, label) for name, row in rows for label, cell in row if cell in "nf2"]
