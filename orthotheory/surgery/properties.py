"""Properties of aggregators as data: what each guarantees, how it is measured, and a counterexample where it does not.

A property is a function of an aggregator and a batch of Jacobians that returns how far it is violated. `DECLARED` says
what holds; `table()` is what the command prints. Tests measure every "yes" over labeled samplers and evaluate the
stored counterexample of every "no", so that no cell is an opinion.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from . import make
from .contract import Aggregator
from .counterexamples import COUNTEREXAMPLES

HOLDS, FAILS = 1e-9, 1e-3  # a violation up to here is rounding; one from here on is a counterexample
VANISHES = 1e-9  # relative to the longest row: an update that counts as zero


@dataclass(frozen=True)
class Property:
    """A guarantee: `violation(aggregator, jacobians (b, m, n)) -> (b,)`, and the samplers on which it is claimed.

    `domain` is "all", "full rank", "strong" (strongly Pareto stationary) or "weak" (weakly but not strongly).
    """

    label: str
    statement: str
    violation: Callable[[Any, np.ndarray], np.ndarray]
    domain: str = "all"


def lengths(x: np.ndarray) -> np.ndarray:
    """Return the Euclidean norms over the last axis."""
    return np.sqrt(np.sum(x * x, axis=-1))


def longest(jacobian: np.ndarray) -> np.ndarray:
    """Return the length of the longest row, 1 for a zero matrix."""
    peak = lengths(jacobian).max(axis=-1)
    return np.where(peak > 0, peak, 1.0)


def floor(rule: Any, jacobian: np.ndarray) -> np.ndarray:
    """Return the length below which an update counts as zero."""
    return VANISHES * longest(jacobian) ** rule.homogeneity


def distance(rule: Any, jacobian: np.ndarray, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return |a - b| relative to the longest of a, b and the usual length of an update."""
    usual = np.maximum(np.maximum(lengths(a), lengths(b)), longest(jacobian) ** rule.homogeneity)
    return lengths(a - b) / usual


def conflict(rule, j):
    """Return the worst -cos(g_i, x), 0 where x or g_i is zero."""
    x = rule(j)
    size = lengths(j) * lengths(x)[:, None]
    inner = np.einsum("bmn,bn->bm", j, x)
    cosine = np.where(size > 0, inner / np.where(size > 0, size, 1), 0)
    return np.where(lengths(x) > floor(rule, j), np.max(-cosine, axis=1), 0).clip(0)


def factors(j: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return two fixed vectors of positive row factors."""
    i = np.arange(j.shape[1])
    return (2.0 + i)[:, None], (3.0 + (i * i) % 5)[:, None]


def nonlinear_scaling(rule, j):
    """Return how far c -> A(diag(c) J) is from additive at two fixed positive vectors."""
    a, b = factors(j)
    return distance(rule, j, rule((a + b) * j), rule(a * j) + rule(b * j))


def row_scaling(rule, j):
    """Return how far A(diag(c) J) is from A(J)."""
    return distance(rule, j, rule(factors(j)[0] * j), rule(j))


def permutation(rule, j):
    """Return how far the rows in reverse, or moved by one, give another update."""
    x = rule(j)
    return np.maximum(distance(rule, j, rule(j[:, ::-1]), x), distance(rule, j, rule(np.roll(j, 1, axis=1)), x))


def inhomogeneity(rule, j):
    """Return how far A(3 J) is from 3^h A(J) with the declared degree h."""
    return distance(rule, j, rule(3.0 * j) / 3.0**rule.homogeneity, rule(j))


def rotation(n: int) -> np.ndarray:
    """Return an orthogonal matrix with rational entries that mixes neighbors: 3-4-5 rotations, -1 for n = 1."""
    q = -np.eye(n)
    for k in range(n - 1):
        turn = np.eye(n)
        turn[k : k + 2, k : k + 2] = [[0.6, -0.8], [0.8, 0.6]]
        q = q @ turn
    return q


def inequivariance(rule, j):
    """Return how far A(J Q) is from A(J) Q for a fixed orthogonal Q."""
    q = rotation(j.shape[2])
    return distance(rule, j, rule(j @ q), rule(j) @ q)


def outside_span(rule, j):
    """Return the part of the update outside the row span, relative to the update."""
    x = rule(j)
    _, s, vh = np.linalg.svd(j, full_matrices=False)
    inside = np.einsum("brn,bn->br", vh, x) * (s > 1e-12 * s[:, :1])
    return distance(rule, j, np.einsum("br,brn->bn", inside, vh), x)


def turned(rule, j, a, b):
    """Return the sine-like distance of the directions of two updates; 1 where exactly one of them vanishes."""
    x, y = lengths(a), lengths(b)
    zero_a, zero_b = x <= floor(rule, j), y <= floor(rule, j)
    apart = lengths(a / np.where(x > 0, x, 1)[:, None] - b / np.where(y > 0, y, 1)[:, None])
    return np.where(zero_a & zero_b, 0, np.where(zero_a | zero_b, 1, apart))


def zero_row(rule, j):
    """Return how far a further zero row turns the update."""
    return turned(rule, j, rule(np.concatenate([j, np.zeros_like(j[:, :1])], axis=1)), rule(j))


def duplicate(rule, j):
    """Return how far repeating the first row turns the update."""
    return turned(rule, j, rule(np.concatenate([j, j[:, :1]], axis=1)), rule(j))


def leftover(rule, j):
    """Return the length of the update at Jacobians where it should vanish."""
    return lengths(rule(j)) / longest(j) ** rule.homogeneity


def vanishing(rule, j):
    """Return 1 where the update vanishes although the Jacobian is not strongly stationary."""
    return (lengths(rule(j)) <= floor(rule, j)).astype(float)


def jump(rule, j):
    """Return how far a change of each row by 1e-9 moves the update, less what a Lipschitz map of constant 1e4 may."""
    signs = np.where((np.arange(j.shape[1])[:, None] * 7 + np.arange(j.shape[2]) * 3) % 2, 1.0, -1.0)
    moved = [distance(rule, j, rule(j + s * 1e-9 * lengths(j)[..., None]), rule(j)) for s in (signs, -signs)]
    return np.maximum(np.max(moved, axis=0) - 1e-5, 0)


PROPERTIES: dict[str, Property] = {
    p.label: p
    for p in (
        Property("non-conflicting", "g_i . x >= 0 for every row", conflict),
        Property("scaling-linear", "c -> A(diag(c) J) is linear for c > 0", nonlinear_scaling),
        Property("row-scale-invariant", "A(diag(c) J) = A(J) for c > 0", row_scaling),
        Property("permutation-invariant", "the order of the rows does not matter", permutation),
        Property("homogeneous", "A(k J) = k^h A(J) for k > 0, with the degree h", inhomogeneity),
        Property("equivariant", "A(J Q) = A(J) Q for orthogonal Q", inequivariance),
        Property("in-row-span", "x lies in the span of the rows", outside_span),
        Property("zero-row", "a further zero row does not turn x", zero_row),
        Property("duplicate-row", "repeating a row does not turn x", duplicate),
        Property("strong-zero", "x = 0 at strongly Pareto-stationary J", leftover, "strong"),
        Property("weak-zero", "x = 0 at weakly Pareto-stationary J", leftover, "weak"),
        Property("zero-only-strong", "x = 0 only at strongly Pareto-stationary J", vanishing, "not strong"),
        Property("continuous", "A is continuous at J of full row rank", jump, "full rank"),
    )
}


def stationarity(j: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Say which Jacobians are strongly (J^T w = 0, w > 0) and which weakly (w >= 0, w != 0) Pareto stationary.

    J^T (1 + z) = 0 for some z >= 0 exactly where the mean row projects to 0 on the dual cone.
    """
    size = VANISHES * longest(j)
    strong = lengths(make("dual-proj")(j)) <= size
    return strong, lengths(make("mgda")(j)) <= size


def in_domain(label: str, j: np.ndarray) -> np.ndarray:
    """Say which Jacobians the property is about."""
    domain = PROPERTIES[label].domain
    if domain == "all":
        return np.ones(len(j), bool)
    if domain == "full rank":
        return full_rank(j)
    strong, weak = stationarity(j)
    return {"strong": strong, "weak": weak & ~strong, "not strong": ~strong}[domain]


def full_rank(j: np.ndarray) -> np.ndarray:
    """Say which Jacobians have linearly independent rows."""
    if j.shape[1] > j.shape[2]:
        return np.zeros(len(j), bool)
    s = np.linalg.svd(j, compute_uv=False)
    return s[:, -1] > 1e-9 * s[:, 0]


def rule_for(name: str, m: int) -> Aggregator:
    """Return the aggregator of the table for m rows; Constant has the weights 1, 2, ..., m."""
    return make(name, weight=tuple(range(1, m + 1))) if name == "constant" else make(name)


def violation(name: str, label: str, j: np.ndarray) -> np.ndarray:
    """Return how far each Jacobian of the batch violates the property."""
    return PROPERTIES[label].violation(Sized(name, j.shape[1]), j)


class Sized:
    """An aggregator by name whose options follow the number of rows, because the properties add rows."""

    def __init__(self, name: str, m: int):
        self.name = name
        self.homogeneity = rule_for(name, m).homogeneity

    def __call__(self, jacobian: np.ndarray) -> np.ndarray:
        return rule_for(self.name, jacobian.shape[-2])(jacobian)


# In the order of PROPERTIES. y: holds; n: does not; f: at full row rank; 2: for two rows; u: up to ties, where rounding
# decides (of scores, singular values or an unstable inner loop); l: in law, and for a single Jacobian with the same
# draws; -: not claimed. Every n, f and 2 has a counterexample.
DECLARED: dict[str, str] = {
    "mean": "n y n y y y y y n n n y y",
    "sum": "n y n y y y y y n n n y y",
    "constant": "n y n n y y y y n n n y y",
    "random": "n y n n y y y l n n n y y",
    "upgrad": "y y n y y y y y n y n y y",
    "dual-proj": "y n n y y y y y n y n y y",
    "gem": "n n n n n n y y n n n n n",
    "a-gem": "2 2 n n y n y y n n n n y",
    "mgda": "y n n y y y y n y y y n y",
    "cagrad": "n n n y y y y n n n n y y",
    "cagrad-1": "y n n y y y y n n y n y y",
    "pcgrad": "2 y n 2 y y y 2 n n n y y",
    "gradvac": "2 y n 2 y y y 2 n n n y y",
    "imtl-g": "2 n n y y y y y f n n n n",
    "imtl-g-safe": "2 n n y y y y y f n n n n",
    "config": "2 y n y y y y y f n n - y",
    "nash-mtl": "y n y y y y y n n y y n y",
    "fairgrad": "y n n y y y y n n y y n y",
    "aligned-mtl": "n n n y y y y y n n n y y",
    "sdmgrad": "n n n u u u y n n n n y -",
    "modo": "n n n y n y y n n n n y y",
    "moco": "n n n y n y y n n n n y y",
    "cr-mogm": "n n n y y y y n n n n y y",
    "excess-mtl": "n y n y y y y y n n n y y",
    "db-mtl": "2 n n y y y y y n n n y y",
    "graddrop": "n n n y y n n y n n n y l",
    "krum": "n n n n u u y n n n n n n",
    "trimmed-mean": "n n n y y n n n n n n n y",
    "flag": "n n u u u u y u n n n n n",
}
WORDS = {"y": "yes", "n": "no", "f": "full rank", "2": "two rows", "u": "up to ties", "l": "in law", "-": "-"}


def table() -> list[dict[str, Any]]:
    """Return one row an aggregator: its name, title, degree of homogeneity and a cell a property.

    A cell is one of the values of `WORDS`; `counterexample(name, label)` is the matrix behind "no", "full rank" and
    "two rows".
    """
    rows = []
    for name, cells in DECLARED.items():
        rule = rule_for(name, 4)
        row: dict[str, Any] = {"name": name, "title": type(rule).card.title, "degree": rule.homogeneity}
        row |= {label: WORDS[cell] for label, cell in zip(PROPERTIES, cells.split(), strict=True)}
        rows.append(row)
    return rows


def counterexample(name: str, label: str) -> np.ndarray | None:
    """Return the stored Jacobian that violates the property, None where it holds."""
    found = COUNTEREXAMPLES.get((name, label))
    return None if found is None else np.array(found, float)
