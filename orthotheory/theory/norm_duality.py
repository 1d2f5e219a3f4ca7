"""N1: the table of norms with their duals, linear minimization oracles, projections and proximal points.

The formulas stand here once more, in plain NumPy, so that `norms` is compared with the table and not with itself.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np

from .. import norms
from ..norms import Norm
from .contract import Assumption, Size, Theorem

Formula = Callable[[np.ndarray], float]


def _s(x: np.ndarray) -> np.ndarray:
    return np.linalg.svd(x, compute_uv=False)


def _rows(x: np.ndarray) -> np.ndarray:
    return np.linalg.norm(x, axis=1)


def _lp(p: float) -> Callable[[np.ndarray], float]:
    return lambda v: float(np.sum(np.abs(v) ** p) ** (1 / p))


def _ratio(x: np.ndarray) -> float:
    return float(np.sqrt(x.shape[1] / x.shape[0]))  # X maps R^n to R^m


TABLE: dict[str, tuple[Norm, Formula, Formula]] = {
    "l1 of entries": (norms.SumEntry(), lambda x: np.abs(x).sum(), lambda g: np.abs(g).max()),
    "Frobenius": (norms.Frobenius(), lambda x: np.sqrt(np.sum(x**2)), lambda g: np.sqrt(np.sum(g**2))),
    "l_inf of entries": (norms.MaxEntry(), lambda x: np.abs(x).max(), lambda g: np.abs(g).sum()),
    "l3 of entries": (norms.EntryLp(3.0), _lp(3.0), _lp(1.5)),
    "spectral": (norms.Spectral(), lambda x: _s(x)[0], lambda g: _s(g).sum()),
    "nuclear": (norms.Nuclear(), lambda x: _s(x).sum(), lambda g: _s(g)[0]),
    "Schatten 3": (norms.Schatten(3.0), lambda x: _lp(3.0)(_s(x)), lambda g: _lp(1.5)(_s(g))),
    "Ky Fan 2": (norms.KyFan(2), lambda x: _s(x)[:2].sum(), lambda g: max(_s(g)[0], _s(g).sum() / 2)),
    "dual Ky Fan 2": (norms.DualKyFan(2), lambda x: max(_s(x)[0], _s(x).sum() / 2), lambda g: _s(g)[:2].sum()),
    "1 -> 2": (norms.ColumnMax(), lambda x: _rows(x.T).max(), lambda g: _rows(g.T).sum()),
    "2 -> inf": (norms.RowMax(), lambda x: _rows(x).max(), lambda g: _rows(g).sum()),
    "1 -> 1": (norms.OneToOne(), lambda x: np.abs(x).sum(axis=0).max(), lambda g: np.abs(g).max(axis=0).sum()),
    "RMS -> RMS": (norms.RmsToRms(), lambda x: _ratio(x) * _s(x)[0], lambda g: _s(g).sum() / _ratio(g)),
    "1 -> RMS": (norms.OneToRms(), lambda x: _rows(x.T).max() / np.sqrt(len(x)),
                 lambda g: np.sqrt(len(g)) * _rows(g.T).sum()),
    "RMS -> inf": (norms.RmsToInf(), lambda x: np.sqrt(x.shape[1]) * _rows(x).max(),
                   lambda g: _rows(g).sum() / np.sqrt(g.shape[1])),
}  # fmt: skip


class Row(NamedTuple):
    """A row of the table at a matrix: its name, the norm, and both formulas."""

    name: str
    matrix: np.ndarray
    norm: Norm
    value: Formula
    dual: Formula


def _matrices(size: Size) -> Iterator[tuple[str, np.ndarray]]:
    rng = np.random.default_rng(0)
    for seed in range(1 if size == "smoke" else 3):
        yield f"4 x 3, seed {seed}", rng.standard_normal((4, 3))
        yield f"2 x 5, seed {seed}", rng.standard_normal((2, 5))
        yield f"rank one, seed {seed}", np.outer(rng.standard_normal(4), rng.standard_normal(3))


def _cells(size: Size) -> Iterator[tuple[str, Row]]:
    for text, matrix in _matrices(size):
        for name, row in TABLE.items():
            yield f"{name}, {text}", Row(name, matrix, *row)


def _is_a_norm(case: Row) -> bool:
    """Test homogeneity and the triangle inequality on the matrix and random ones."""
    x, y = case.matrix, np.random.default_rng(1).standard_normal((5, *case.matrix.shape))
    sums = np.array([case.norm.value(x + z) for z in y])
    parts = np.array([case.norm.value(x) + case.norm.value(z) for z in y])
    twice = float(case.norm.value(-2.0 * x))
    return bool(np.all(sums <= parts * (1 + 1e-12)) and np.isclose(twice, 2 * float(case.norm.value(x)), rtol=1e-12))


NORM = Assumption("the value is a norm, tried on random matrices", _is_a_norm)
NONZERO = Assumption("the matrix is not zero", lambda c: bool(np.any(c.matrix)))

norm_table = Theorem(
    label="norm-table",
    title="Norms and their duals in closed form",
    statement=r"\|X\|,\ \|G\|_*=\max_{\|D\|\le1}\langle G,D\rangle:\quad s_1\leftrightarrow\textstyle\sum_is_i,\quad "
    r"\sum_{i\le k}s_i\leftrightarrow\max\bigl(s_1,\tfrac1k\sum_is_i\bigr),\quad "
    r"\max_j\|x^j\|\leftrightarrow\sum_j\|g^j\|,\ \dots",
    assumes=(NORM,),
    kind="identity",
    lhs=lambda c: np.array([c.norm.value(c.matrix), c.norm.dual(c.matrix)]),
    rhs=lambda c: np.array([c.value(c.matrix), c.dual(c.matrix)]),
    cases=_cells,
    broken=lambda t: dataclasses.replace(t, rhs=lambda c: np.array([c.value(c.matrix), _forgetful(c)])),
    mistake="the dual of Ky Fan's norm without its maximum",
    source="classical",
    tolerance=1e-12,
    reason="an SVD of a 5 x 4 matrix, or sums of twenty entries",
)


def _forgetful(case: Row) -> float:
    return _s(case.matrix).sum() / 2 if case.name == "Ky Fan 2" else case.dual(case.matrix)


def feasible(case: Row, count: int = 20) -> np.ndarray:
    """Return directions of length one: the negative LMO last, before it random ones of several kinds."""
    rng = np.random.default_rng(2)
    shape = case.matrix.shape
    d = rng.standard_normal((count, *shape))
    d[::4] = np.sign(d[::4])
    d[1::4] = rng.standard_normal((len(d[1::4]), shape[0], 1)) * rng.standard_normal((len(d[1::4]), 1, shape[1]))
    d[2::4] += 10 * case.matrix
    d = d / np.array([case.value(x) for x in d])[:, None, None]
    return np.concatenate([d, -case.norm.lmo(case.matrix)[None]])


lmo_attains = Theorem(
    label="lmo-attains-dual",
    title="The linear minimization oracle attains the dual norm",
    statement=r"\langle G,D\rangle\le\|G\|_*\,\|D\|\text{ for all }D,\qquad "
    r"\langle G,-\mathrm{lmo}(G)\rangle=\|G\|_*,\ \|\mathrm{lmo}(G)\|=1",
    assumes=(
        NORM,
        NONZERO,
        Assumption(
            "the directions have length one, by the table's formula",
            lambda c: bool(np.allclose([c.value(d) for d in feasible(c)], 1, rtol=1e-12)),
        ),
    ),
    kind="tight",
    lhs=lambda c: np.sum(c.matrix * feasible(c), axis=(1, 2)),
    rhs=lambda c: np.full(21, c.dual(c.matrix)),
    cases=_cells,
    broken=lambda t: dataclasses.replace(t, rhs=lambda c: np.full(21, c.value(c.matrix))),
    mistake="the norm itself in place of its dual",
    source="classical",
    tolerance=1e-11,
    reason="an inner product of twenty terms, over a length from an SVD",
)


def _pairings(case: Row, prox: Callable[[Row], np.ndarray]) -> np.ndarray:
    """Return |p|/R, <v-p, p>/(R |v-p|_*) at the projection p, and |v-q|_*/t, <v-q, q>/(t |q|) at the proximal q."""
    v, radius, t = case.matrix, *lengths(case)
    p, q = case.norm.project(v, radius), prox(case)
    return np.array([
        case.value(p) / radius,
        np.sum((v - p) * p) / (radius * case.dual(v - p)),
        case.dual(v - q) / t,
        np.sum((v - q) * q) / (t * case.value(q)),
    ])  # fmt: skip


def lengths(case: Row) -> tuple[float, float]:
    """Return a radius below |v| and a proximal step below |v|_*: both constraints are active."""
    return 0.6 * case.value(case.matrix), 0.4 * case.dual(case.matrix)


moreau = Theorem(
    label="norm-moreau",
    title="Projection on the ball and proximal point of the norm",
    statement=r"p=\mathrm{proj}_{\|\cdot\|\le R}(v):\ \langle v-p,p\rangle=R\,\|v-p\|_*,\qquad "
    r"q=\mathrm{prox}_{t\|\cdot\|}(v)=v-\mathrm{proj}_{\|\cdot\|_*\le t}(v):\ \langle v-q,q\rangle=t\,\|q\|,\ "
    r"\|v-q\|_*=t",
    assumes=(NORM, NONZERO),
    kind="identity",
    lhs=lambda c: _pairings(c, lambda c: c.norm.prox(c.matrix, lengths(c)[1])),
    rhs=lambda c: np.ones(4),
    cases=_cells,
    broken=lambda t: dataclasses.replace(
        t, lhs=lambda c: _pairings(c, lambda c: c.matrix - c.norm.project(c.matrix, lengths(c)[0]))
    ),
    mistake="the ball of the norm itself in Moreau's decomposition",
    source="classical",
    tolerance=1e-12,
    reason="bisections end at rounding of the multiplier, and at least four tenths of the matrix lie outside of a ball",
)

THEOREMS = (norm_table, lmo_attains, moreau)
