"""What AdaPreLoRA's factor steps do exactly."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

import numpy as np

from ..methods.adaprelora import factor_steps
from .contract import Size, Theorem
from .methods_adaptive import one_plus_distance

Cases = Iterator[tuple[str, Any]]


@dataclasses.dataclass(frozen=True)
class Factors:
    """Factors B and A, a target and positive weights of rows and columns."""

    b: np.ndarray
    a: np.ndarray
    target: np.ndarray
    p: np.ndarray
    q: np.ndarray

    def steps(self) -> tuple[np.ndarray, np.ndarray]:
        """Return dB and dA."""
        return factor_steps(self.b, self.a, self.target, self.p, self.q)

    def tangent(self) -> np.ndarray:
        """Return dB A + B dA."""
        db, da = self.steps()
        return db @ self.a + self.b @ da

    def projection(self, *, weighted: bool = True) -> np.ndarray:
        """Return the projection of the target on the tangent space by dense least squares."""
        (m, r), n = self.b.shape, self.a.shape[1]
        left = np.einsum("ik,lj->ijkl", np.eye(m), self.a).reshape(m * n, m * r)
        right = np.einsum("il,jk->ijlk", self.b, np.eye(n)).reshape(m * n, r * n)
        basis = np.hstack([left, right])
        root = np.sqrt(self.p * self.q).ravel() if weighted else np.ones(m * n)
        best = np.linalg.lstsq(root[:, None] * basis, root * self.target.ravel(), rcond=1e-12)[0]
        return (basis @ best).reshape(m, n)

    def turned(self, x: np.ndarray) -> Factors:
        """Return the same product in the factors B X, X^-1 A."""
        return dataclasses.replace(self, b=self.b @ x, a=np.linalg.solve(x, self.a))

    def imbalance(self, x: np.ndarray | float = 0.0) -> float:
        """Return the weighted |dB A - B dA| for dB + B x, dA - x A."""
        db, da = self.steps()
        x = x * np.eye(self.b.shape[1]) if isinstance(x, float) else x
        gap = (db + self.b @ x) @ self.a - self.b @ (da - x @ self.a)
        return float(np.sqrt(np.sum(self.p * self.q * gap**2)))


def _factors(size: Size) -> Cases:
    rng = np.random.default_rng(5)
    for m, n, r in ((5, 4, 2), (3, 7, 1), (4, 4, 3)):
        b, a, target = (rng.standard_normal(s) for s in ((m, r), (r, n), (m, n)))
        yield f"{m} x {n}, rank {r}", Factors(b, a, target, rng.uniform(0.1, 3, (m, 1)), rng.uniform(0.1, 3, (1, n)))


def _gauge(rank: int) -> np.ndarray:
    return np.eye(rank) + 0.3 * np.random.default_rng(6).standard_normal((rank, rank))


adaprelora_projection = Theorem(
    label="adaprelora-projection",
    title="AdaPreLoRA's factor steps make the weighted projection on the tangent space",
    statement=r"\dot BA+B\dot A=\arg\min_{T\in T_{BA}}\ \sum_{ij}p_iq_j\,(T_{ij}-D_{ij})^2",
    assumes=(),
    kind="identity",
    lhs=lambda c: [one_plus_distance(c.tangent(), c.projection())],
    rhs=lambda c: [1.0],
    cases=_factors,
    broken=lambda t: dataclasses.replace(
        t, rhs=lambda c: [one_plus_distance(c.projection(weighted=False), c.projection())]
    ),
    mistake="the projection without weights",
    source="ours, on [bian2026adaprelora]",
    tolerance=1e-10,
)

adaprelora_gauge = Theorem(
    label="adaprelora-gauge",
    title="AdaPreLoRA's step of the product does not depend on its factors",
    statement=r"(B,A)\to(BX,X^{-1}A)\quad\text{leaves}\quad \dot BA+B\dot A\quad\text{as it is}",
    assumes=(),
    kind="identity",
    lhs=lambda c: [one_plus_distance(c.turned(_gauge(c.b.shape[1])).tangent(), c.tangent())],
    rhs=lambda c: [1.0],
    cases=_factors,
    broken=lambda t: dataclasses.replace(t, lhs=_plain_gradients),
    mistake="plain gradients of the factors",
    source="ours, on [bian2026adaprelora]",
    tolerance=1e-10,
)


def _plain_gradients(c: Factors) -> list[float]:
    def product_step(f: Factors) -> np.ndarray:
        return f.target @ f.a.T @ f.a + f.b @ f.b.T @ f.target

    return [one_plus_distance(product_step(c.turned(_gauge(c.b.shape[1]))), product_step(c))]


def _other_gauges(c: Factors) -> np.ndarray:
    rng, r = np.random.default_rng(7), c.b.shape[1]
    return np.array([c.imbalance(0.1 * rng.standard_normal((r, r))) for _ in range(100)])


adaprelora_balanced = Theorem(
    label="adaprelora-balanced",
    title="AdaPreLoRA's factor steps have the least imbalance of all that make the same step",
    statement=r"\|\dot BA-B\dot A\|_H\le\|(\dot B+BX)A-B(\dot A-XA)\|_H\quad\text{for all }X",
    assumes=(),
    kind="upper",
    lhs=lambda c: np.full(100, c.imbalance()),
    rhs=_other_gauges,
    cases=_factors,
    broken=lambda t: dataclasses.replace(t, lhs=lambda c: np.full(100, c.imbalance(0.5))),
    mistake="the pair shifted by X = I / 2",
    source="ours, on [bian2026adaprelora]",
    tolerance=1e-12,
)

THEOREMS = (adaprelora_projection, adaprelora_gauge, adaprelora_balanced)
