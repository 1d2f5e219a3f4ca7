"""Orthogonal fine-tuning: how many Cayley-Neumann terms, and what n - 1 rotations can reach."""

from __future__ import annotations

import functools
from collections.abc import Callable

import numpy as np

from ..polar.parametrizations import align, cayley_neumann_defect, givens_product, tree_pairs
from ..theory.contract import Size
from .contract import Claim, Verdict

Pairs = Callable[[int], list[tuple[int, int]]]


def more_terms_are_more_orthogonal(fewer: int, more: int, size: Size) -> Verdict:
    """Judge whether the longer series is nearer to orthogonal for every spectral norm below 1."""
    theta = np.linspace(0.02, 0.98, 25 if size == "smoke" else 1000)[:, None]
    ratio = cayley_neumann_defect(theta, more) / cayley_neumann_defect(theta, fewer)
    half = np.array([0.5])
    return Verdict(
        "holds" if ratio.max() < 1 else "refuted",
        measured=float(ratio.max()),
        expected=f"the defect of {more} terms below that of {fewer}",
        evidence={
            f"defect of {fewer} terms at 1/2": float(cayley_neumann_defect(half, fewer)),
            f"defect of {more} terms at 1/2": float(cayley_neumann_defect(half, more)),
            "smallest ratio": float(ratio.min()),
        },
    )


def all_pairs(n: int) -> list[tuple[int, int]]:
    """Return the n (n - 1) / 2 planes of the classical factorization of SO(n)."""
    return [(i, j) for i in range(n) for j in range(i + 1, n)]


def reaches_every_rotation(pairs_of: Pairs, size: Size) -> Verdict:
    """Judge whether the rotations reach an open set of SO(n): the rank of the map from angles against the dimension."""
    rng = np.random.default_rng(0)
    share = 1.0
    evidence: dict[str, float] = {}
    for n in (3, 4, 6) if size == "smoke" else (3, 4, 6, 8, 12):
        pairs = pairs_of(n)
        angles = rng.uniform(-1, 1, len(pairs))
        h = 1e-6
        columns = [
            (givens_product(angles + h * e, pairs, n) - givens_product(angles - h * e, pairs, n)).ravel() / (2 * h)
            for e in np.eye(len(pairs))
        ]
        rank = int(np.linalg.matrix_rank(np.array(columns), tol=1e-6))
        share = min(share, rank / (n * (n - 1) / 2))
        evidence |= {f"rank for n = {n}": rank, f"dimension of SO({n})": n * (n - 1) // 2}
    v = rng.standard_normal(8)
    sent = givens_product(align(v), tree_pairs(8), 8) @ v
    return Verdict(
        "holds" if share == 1 else "refuted",
        measured=share,
        expected="as many independent directions as SO(n) has dimensions",
        evidence={**evidence, "one vector sent to another, error": float(np.linalg.norm(sent[1:]))},
    )


CLAIMS = (
    Claim(
        "cayley-neumann-five-terms", "qiu2025orthogonal, the authors' code has five terms",
        "Five terms of the Cayley-Neumann series are nearer to orthogonal than four.",
        functools.partial(more_terms_are_more_orthogonal, 4, 5),
        functools.partial(more_terms_are_more_orthogonal, 5, 6),
        "six terms against five", "holds",
    ),
    Claim(
        "givens-tree-reaches-every-rotation", "ma2024parameter",
        "A product of n - 1 Givens rotations expresses any orthogonal transformation of SO(n).",
        functools.partial(reaches_every_rotation, tree_pairs),
        functools.partial(reaches_every_rotation, all_pairs),
        "rotations in all n (n - 1) / 2 planes", "holds",
    ),
)  # fmt: skip
