"""What MKOR and M-FAC cost, by counting their arithmetic, and that the cheap form of M-FAC solves the same system."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from ..counting import CountingArray, count_operations
from ..methods.mfac import gram_solve, replace_oldest, window_solve
from ..methods.mkor import rank_one_inverse
from .contract import Size, Theorem
from .methods_adaptive import one_plus_distance

Cases = Iterator[tuple[str, Any]]


def products(function: Callable, x: np.ndarray) -> float:
    """Return the operations of matrix products and factorizations of one call."""
    count_operations(function, x)
    return CountingArray.products + CountingArray.factored


def inverse_anew(j: np.ndarray, v: np.ndarray) -> np.ndarray:
    """Return what `rank_one_inverse` returns, by two inverses."""
    return np.linalg.inv(np.linalg.inv(0.95 * j + 0.05 * np.eye(len(j))) + v @ v.T)


def _sides(size: Size) -> Cases:
    rng = np.random.default_rng(0)
    for k in (1, 2, 8, 32) if size == "smoke" else (1, 2, 8, 32, 128, 512):
        yield f"{k} entries", (np.eye(k), rng.standard_normal((k, 1)))


mkor_cost = Theorem(
    label="mkor-cost",
    title="MKOR's factor update multiplies 4 k^2 + 2 k numbers",
    statement=r"J\in\mathbb R^{k\times k}:\quad\text{operations of products}=4k^2+2k",
    assumes=(),
    kind="identity",
    lhs=lambda c: [products(lambda j: rank_one_inverse(j, c[1]), c[0])],
    rhs=lambda c: [4 * len(c[0]) ** 2 + 2 * len(c[0])],
    cases=_sides,
    broken=lambda t: dataclasses.replace(t, lhs=lambda c: [products(lambda j: inverse_anew(j, c[1]), c[0])]),
    mistake="the inverse is formed anew",
    source="ours, on [mozaffari2023mkor]",
    tolerance=0.0,
    reason="integers",
)


@dataclasses.dataclass(frozen=True)
class Stream:
    """Gradients that pass through a window of m rows, zeros at the start, and a damping."""

    grads: np.ndarray
    window: int
    damping: float

    def solve(self, *, keep: bool = False) -> np.ndarray:
        """Return the damped inverse times the last gradient from a window and Gram matrix that were only updated.

        `keep` forgets to move the Gram matrix along when the oldest gradient leaves.
        """
        rows, gram = np.zeros((self.window, self.grads.shape[1])), np.zeros((self.window, self.window))
        for g in self.grads:
            old, (rows, gram) = gram, replace_oldest(rows, gram, g[:, None])
            if keep:
                gram[:-1, :-1] = old[:-1, :-1]
        return gram_solve(rows, gram, self.grads[-1][:, None], self.damping)

    def rows(self) -> np.ndarray:
        """Return the window, built at once."""
        padded = np.vstack([np.zeros((self.window, self.grads.shape[1])), self.grads])
        return padded[-self.window :]

    def dense(self) -> np.ndarray:
        """Return the same by a dense solve."""
        r = self.rows()
        f = self.damping * np.eye(r.shape[1]) + r.T @ r / self.window
        return np.linalg.solve(f, self.grads[-1][:, None])


def _streams(size: Size) -> Cases:
    rng = np.random.default_rng(1)
    for window, count, p in ((4, 3, 10), (5, 12, 10), (12, 40, 6)) if size == "smoke" else (
        (4, 3, 10), (5, 12, 10), (12, 40, 6), (32, 100, 60),
    ):  # fmt: skip
        for damping in (1e-5, 1e-2):
            stream = Stream(rng.standard_normal((count, p)), window, damping)
            yield f"window {window}, {count} gradients of {p} entries, damping {damping:g}", stream


mfac_window = Theorem(
    label="mfac-window",
    title="M-FAC's product from an updated window equals the dense solve",
    statement=(
        r"\bigl(\delta I+\tfrac1mR^\top R\bigr)^{-1}g"
        r"=\tfrac1\delta\bigl[g-R^\top(m\delta I+RR^\top)^{-1}Rg\bigr],\ RR^\top\text{ updated row by row}"
    ),
    assumes=(),
    kind="identity",
    lhs=lambda c: [
        one_plus_distance(c.solve(), c.dense()),
        one_plus_distance(window_solve(c.rows(), c.grads[-1][:, None], c.damping), c.dense()),
    ],
    rhs=lambda c: [1.0, 1.0],
    cases=_streams,
    broken=lambda t: dataclasses.replace(t, lhs=lambda c: [one_plus_distance(c.solve(keep=True), c.dense()), 1.0]),
    mistake="the Gram matrix is not moved along when the oldest gradient leaves",
    source="[frantar2021mfac]",
    tolerance=1e-9,
    reason="|R|^2 / m delta below 1e7 times rounding: the target that the survey states",
)


def _windows(size: Size) -> Cases:
    rng = np.random.default_rng(2)
    for m in (4, 16):
        for p in (8, 64, 512) if size == "smoke" else (8, 64, 512, 4096):
            yield f"window {m}, {p} entries", (rng.standard_normal((m, p)), rng.standard_normal((p, 1)))


def gram_step(rows: np.ndarray, g: np.ndarray) -> np.ndarray:
    """Return M-FAC's direction after g entered a window whose Gram matrix is known."""
    gram = np.asarray(rows) @ np.asarray(rows).T
    return gram_solve(*replace_oldest(rows, gram.view(CountingArray), g), g, 1e-3)


mfac_cost = Theorem(
    label="mfac-cost",
    title="M-FAC's step costs 6 m d operations of products, beside the solution of one m x m system",
    statement=r"R\in\mathbb R^{m\times d}:\quad\text{operations of products}=6md",
    assumes=(),
    kind="identity",
    lhs=lambda c: [products(lambda rows: gram_step(rows, c[1]), c[0])],
    rhs=lambda c: [6 * c[0].size],
    cases=_windows,
    broken=lambda t: dataclasses.replace(
        t, lhs=lambda c: [products(lambda rows: window_solve(rows, c[1], 1e-3), c[0])]
    ),
    mistake="a thin singular value decomposition of the window, as our method has it",
    source="ours, on [frantar2021mfac]",
    tolerance=0.0,
    reason="integers",
)

THEOREMS = (mkor_cost, mfac_window, mfac_cost)
