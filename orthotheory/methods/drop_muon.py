"""Drop-Muon: update a random set of layers, those from a drawn one to the output."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal, NamedTuple

import numpy as np

from .. import norms
from ..arrays import check_number
from ..names import closest
from .contract import BlockMethod, Blocks, Card, ema, zeros_like


def start_law(smoothness: Sequence[float]) -> tuple[float, ...]:
    """Return the law of the first updated layer under which a full update gains nothing (ours).

    Layer i is updated with probability p_i = max_{j <= i} L_j / max_j L_j; the law is p_1, p_2 - p_1, ...

    >>> start_law((1.0, 4.0, 1.0))
    (0.25, 0.75, 0.0)
    """
    for value in smoothness:
        check_number(value, "smoothness", open_low=True, open_high=True)
    reached = np.maximum.accumulate(np.asarray(smoothness, dtype=float)) / max(smoothness)
    return (float(reached[0]), *(float(b - a) for a, b in pairwise(reached)))


@dataclass(frozen=True)
class DropMuon(BlockMethod):
    """Draw a first layer s, update the layers s, ..., b (nearest to the output), leave the others alone.

        for l >= s:  M_l <- momentum_l M_l + (1 - momentum_l) G_l
                     W_l <- W_l - lr_l sharp(M_l)        ("sharp")   or   W_l + lr_l lmo(M_l)   ("lmo")
        for l < s:   M_l and W_l stay

    Parameters
    ----------
    lr, momentum : float, array (batch), or a tuple with one a layer
        Inverse smoothness ("sharp") or radius ("lmo"). `momentum` is the usual factor, one minus the paper's beta.
    law : tuple of float or None
        Probabilities of s = 1, ..., b; None updates all layers. `start_law` makes one from the layers' smoothness.
    length : "sharp" or "lmo"
    norm : Norm or str
        One for all layers.
    seed : int
        The draws are a function of it and of the number of steps taken: a step repeated is the same step.

    Notes
    -----
    With lr_l = 1 / L_l and no noise the expected decrease is at least sum_l p_l |G_l|_*^2 / (2 L_l), p_l = P(s <= l)
    (theorem `drop-muon-descent`). All members of a batch share the draws. A single matrix is the last layer: PolarGrad.
    Backpropagation may stop at layer s. Cost: one sharp operator for each updated layer.
    """

    card = Card(
        "Drop-Muon",
        "gruntkowska2025drop",
        "2510.02239",
        "any norm a layer, sharp operator or fixed radius",
        "published",
        "Read in the abstract and summaries of others; no code was found. `start_law` is ours.",
    )

    lr: Any = 0.1
    momentum: Any = 0.0
    law: tuple[float, ...] | None = None
    length: Literal["sharp", "lmo"] = "sharp"
    norm: Any = norms.Spectral()  # type: ignore[misc]  # noqa: RUF009  # a Norm, or the name of one
    seed: int = 0

    class State(NamedTuple):
        """Average gradients of the layers, and the number of steps taken."""

        momentum: Blocks
        steps: int

    def __post_init__(self):
        super().__post_init__()
        if isinstance(self.norm, str):
            object.__setattr__(self, "norm", norms.make(self.norm))
        closest(self.length, {"sharp": 0, "lmo": 0}, "Drop-Muon length")
        if self.law is not None:
            for value in self.law:
                check_number(value, "DropMuon.law", high=1.0)
            if abs(sum(self.law) - 1) > 1e-12:
                raise ValueError(f"DropMuon.law must sum to 1; got {self.law}, which sums to {sum(self.law):g}.")

    def first_updated(self, steps: int, layers: int) -> int:
        """Return the index of the first layer that step number `steps` updates."""
        if self.law is None:
            return 0
        if len(self.law) != layers:
            raise ValueError(f"DropMuon.law has {len(self.law)} probabilities for {layers} layers.")
        rng = np.random.Generator(np.random.Philox(np.random.SeedSequence([self.seed, steps])))
        return int(rng.choice(layers, p=self.law))

    def init_blocks(self, w):
        return self.State(tuple(zeros_like(x) for x in w), 0)

    def update_blocks(self, w, grad, state):
        first = self.first_updated(state.steps, len(w))
        weights, momenta = list(w), list(state.momentum)
        for i in range(first, len(w)):
            momenta[i] = ema(momenta[i], grad[i], self.momentum[i])
            weights[i] = w[i] + self.lr[i] * self._move(momenta[i])
        return tuple(weights), self.State(tuple(momenta), state.steps + 1)

    def _move(self, m):
        return -self.norm.sharp(m) if self.length == "sharp" else self.norm.lmo(m)


def probabilities(law: Sequence[float] | None, layers: int) -> np.ndarray:
    """Return p_l, the probability that layer l is updated."""
    return np.ones(layers) if law is None else np.cumsum(law)
