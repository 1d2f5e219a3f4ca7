"""AdAdaGrad: AdaGrad with a batch that grows when the gradient drowns in its noise."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

from ..arrays import Array, Scalar, array_namespace, check_number, to_host
from .contract import Card, Method, decay, ratio, zeros_like
from .psgd import squared


@dataclass(frozen=True)
class AdAdaGrad(Method):
    """AdaGrad's step, and the norm test that sizes the next batch.

        S <- S + |G|_F^2  (or S + G * G),   W <- (1 - lr weight_decay) W - lr G / sqrt(eps^2 + S)
        next_batch:  V / B > threshold^2 |G|_F^2   gives   B <- ceil(V / (threshold^2 |G|_F^2)),  never less

    Parameters
    ----------
    coordinates : bool
        One sum an entry instead of one a matrix.
    eps : float or array (batch)
        b, the start of the sum.
    threshold : float
        theta of the norm test; V is the sample variance of single gradients.

    Notes
    -----
    Who draws the samples calls `next_batch`; a step needs a gradient only. The batch grows like 1 / |G|^2 (claim
    `adadagrad-batch-growth`), so the O(1/K) counts iterations, not samples.
    """

    card = Card(
        "AdAdaGrad",
        "lau2024adadagrad",
        "2402.11215",
        "Frobenius norm with a falling radius; adaptive diagonal by coordinates",
        "reconstructed",
        "Read in the abstract; the test is the norm test of the batch-size literature, its details are ours.",
    )

    lr: Scalar = 0.1
    eps: Scalar = 1e-8
    weight_decay: Scalar = 0.0
    coordinates: bool = False
    threshold: float = 0.5

    class State(NamedTuple):
        """Sum of squares, (..., 1, 1) or (..., m, n)."""

        total: Array

    def __post_init__(self):
        super().__post_init__()
        check_number(self.threshold, "AdAdaGrad.threshold", open_low=True, open_high=True)

    def init(self, w):
        return self.State(zeros_like(w if self.coordinates else w[..., :1, :1]))

    def update(self, w, grad, state):
        total = state.total + (grad * grad if self.coordinates else squared(grad))
        root = array_namespace(w).sqrt(self.eps**2 + total)
        return decay(w, self.lr, self.weight_decay) - self.lr * ratio(grad, root), self.State(total)

    def next_batch(self, samples: Array) -> int:
        """Return the next batch size from the gradients of single samples (B, m, n), B >= 2.

        A batch gradient of 0 keeps the size: no finite batch passes the test there.
        """
        size = samples.shape[0]
        if samples.ndim != 3 or size < 2:
            raise ValueError(f"next_batch needs at least two gradients, shape (B, m, n); got {tuple(samples.shape)}.")
        g = to_host(samples)
        mean = g.mean(axis=0)
        variance, signal = float(((g - mean) ** 2).sum() / (size - 1)), float((mean**2).sum())
        if signal == 0 or variance <= self.threshold**2 * signal * size:
            return size
        return math.ceil(variance / (self.threshold**2 * signal))
