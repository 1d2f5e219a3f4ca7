"""LANTON: LMO steps whose layers get smaller rates the noisier their gradients are, within a group."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Any, NamedTuple

from .. import norms
from ..arrays import Array, array_namespace, check_number
from .contract import BlockMethod, Blocks, Card, ema, zeros_like


def layer_rates(noise: Sequence[Array], alpha: float, groups: Sequence[int]) -> list[Array]:
    """Return sqrt(a_l / max_j a_j) over the group of l, a_l = alpha / sqrt(alpha^2 + H_l): 1 for the quietest layer."""
    xp = array_namespace(*noise)
    a = [alpha / xp.sqrt(alpha**2 + h) for h in noise]
    most = {g: reduce(xp.maximum, [x for x, k in zip(a, groups, strict=True) if k == g]) for g in set(groups)}
    return [xp.sqrt(x / most[g]) for x, g in zip(a, groups, strict=True)]


@dataclass(frozen=True)
class LANTON(BlockMethod):
    """Step to the LMO of each layer's average, with a rate that falls with its estimated noise.

        M_l <- beta1 M_l + (1 - beta1) G_l
        H_l <- beta2 H_l + (1 - beta2) |G_l - G_l'|_dual^2,   G_l' the last gradient (I) or a second sample here (II)
        a_l = alpha / sqrt(alpha^2 + H_l),   W_l <- W_l + lr_l sqrt(a_l / max_{group} a_j) lmo(M_l)

    Parameters
    ----------
    lr, beta1, beta2 : float, array (batch), or a tuple with one a layer
    alpha : float
        Noise level, in the dual norm, from which a rate falls.
    groups : tuple of int or None
        The group of each layer; None puts all in one.
    norm : Norm or str
        One for all layers.
    second : function of the weights or None
        Option II: an independent gradient at the same weights, a tuple with one a layer; None is option I.

    Notes
    -----
    The difference of two successive gradients mixes noise with drift: a layer without noise that moves fast has H > 0
    (claim `lanton-measures-noise`). Two samples at one point do not (claim `lanton-option-ii-ignores-drift`), at the
    cost of a second gradient a step. A single matrix has rate 1. Cost: an LMO and a dual norm a layer.
    """

    card = Card(
        "LANTON",
        "hao2025noise",
        "2510.14009",
        "fixed radius a layer, any norm",
        "reconstructed",
        "Abstract and a summary confirm the average, the LMO, the variance in the dual norm and a rate within a "
        "group. Ours: the square roots, the maximum as the normalizer, H = 0 at the start, all default values. "
        "Option II needs a second gradient, which the caller provides.",
    )

    lr: Any = 0.01
    beta1: Any = 0.95
    beta2: Any = 0.9
    alpha: float = 1.0
    groups: tuple[int, ...] | None = None
    norm: Any = norms.Spectral()  # type: ignore[misc]  # noqa: RUF009  # a Norm, or the name of one
    second: Callable[[Blocks], Blocks] | None = None

    class State(NamedTuple):
        """Average gradients, last gradients, mean squares of their differences (..., 1, 1), steps taken."""

        momentum: Blocks
        last: Blocks
        noise: Blocks
        steps: int

    def __post_init__(self):
        super().__post_init__()
        if isinstance(self.norm, str):
            object.__setattr__(self, "norm", norms.make(self.norm))
        check_number(self.alpha, "LANTON.alpha", open_low=True, open_high=True)

    def init_blocks(self, w):
        zeros = tuple(zeros_like(x) for x in w)
        return self.State(zeros, zeros, tuple(x[..., :1, :1] for x in zeros), 0)

    def update_blocks(self, w, grad, state):
        groups = self.groups or (0,) * len(w)
        if len(groups) != len(w):
            raise ValueError(f"LANTON.groups has {len(groups)} entries for {len(w)} layers.")
        momenta = tuple(ema(m, g, b) for m, g, b in zip(state.momentum, grad, self.beta1, strict=True))
        noise = state.noise
        if state.steps or self.second:
            others = self.second(w) if self.second else state.last
            moved = [self.norm.dual(g - o)[..., None, None] for g, o in zip(grad, others, strict=True)]
            noise = tuple(ema(h, d * d, b) for h, d, b in zip(noise, moved, self.beta2, strict=True))
        rates = layer_rates(noise, self.alpha, groups)
        w = tuple(x + lr * r * self.norm.lmo(m) for x, lr, r, m in zip(w, self.lr, rates, momenta, strict=True))
        return w, self.State(momenta, grad, noise, state.steps + 1)
