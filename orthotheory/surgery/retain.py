"""Keep one loss while descending another: Bloop, the dynamic barrier and ODICE's orthogonal gradient.

All three take the component along a kept gradient out of another gradient; they differ in which one is kept (its
exponential average, or itself) and in how much of the component goes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

from ..arrays import Array, Scalar, array_namespace, check_matrix, check_number, dtype_name, magnitude, per_matrix
from .contract import divide


def check_vectors(who: str, axes: int = 1, **named: Array) -> None:
    """Refuse gradients that are not floating-point arrays of one shape and dtype."""
    first = next(iter(named.values()))
    for name, x in named.items():
        check_matrix(x, f"{who} ({name})", axes=axes)
        if x.shape != first.shape or x.dtype != first.dtype:
            came = ", ".join(f"{key} {tuple(v.shape)} {dtype_name(v)}" for key, v in named.items())
            raise ValueError(f"{who} needs arrays of one shape and dtype; got {came}.")


def dot(a: Array, b: Array) -> Array:
    """Return the inner product over the last axis, kept as an axis of length 1."""
    return array_namespace(a, b).sum(a * b, axis=-1, keepdims=True)


class Component(NamedTuple):
    """The coefficient of a vector along another one, and what is left."""

    ratio: Array  # (..., 1), <x, a> / (|a|^2 + eps); 0 where a = 0, and short of overflow
    rest: Array  # (..., n), x - ratio a


def component(x: Array, along: Array, *, eps: float = 0.0, at_most: Scalar | None = None) -> Component:
    """Split x = ratio a + rest, with <rest, a> = 0 for eps = 0 and no bound.

    Parameters
    ----------
    x, along : array (..., n)
        Of one shape and dtype.
    eps : float
        Added to |a|^2 as some authors do; it is absolute, so that a short `along` is then hardly removed at all.
    at_most : number or array (..., 1) or None
        Upper bound of the ratio: a larger component is removed only in part.

    Notes
    -----
    Both vectors are scaled by powers of two first. The full component is removed twice, which leaves an error
    of one rounding of |x|, not of |x| |a| / |rest|. A vector that is not finite gives NaN for its own member of
    the batch. Cost: three passes over the entries.
    """
    xp = array_namespace(x, along)
    size_x, size_a = magnitude(x, axes=1), magnitude(along, axes=1)
    y, a = size_x.normalize(x), size_a.normalize(along)
    nan = size_x.nan() + size_a.nan()
    square = dot(a, a)
    # (x.a)/(a.a + eps) with both scales taken out; eps / scale^2 may overflow to infinity, and the ratio is then 0
    shifted = square + (eps / size_a.scale) / size_a.scale if eps else square
    share = divide(dot(y, a), shifted)
    power = xp.log2(size_x.scale) - xp.log2(size_a.scale)
    limit = math.log2(float(xp.finfo(x.dtype).max)) - 8  # a larger ratio saturates
    ratio = share * 2.0 ** xp.clip(power, -limit, limit)
    rest = y - share * a
    if not eps:
        rest = rest - divide(dot(rest, a), square) * a
    rest = rest * size_x.scale
    if at_most is not None:
        kept = xp.minimum(ratio, xp.zeros_like(ratio) + at_most)
        rest = xp.where(kept < ratio, x - kept * along, rest)
        ratio = kept
    return Component(ratio + nan, rest + nan)


@dataclass(frozen=True)
class Bloop:
    """Descend an auxiliary loss only where it does not touch the main one, judged by an averaged main gradient.

        e <- e + averaging (g_main - e),   r = <e, g_aux> / (|e|^2 + eps)
        x = g_main + lam (g_aux - r e)

    Parameters
    ----------
    lam : float or array (batch)
        Weight of the auxiliary gradient, nonnegative.
    averaging : float or array (batch)
        Share of the new gradient in the average, in (0, 1]; 1 projects on the current gradient.
    eps : float
        Added to |e|^2. The authors' code has 1e-7, which is absolute: it stops projecting where |e| < 3e-4. Zero
        keeps the update homogeneous.
    rescale : bool
        Divide the update by 1 + lam.
    ratio_only : bool
        Take r from the average but remove r g_main instead of r e.

    Notes
    -----
    <x, g_main> = |g_main|^2 + lam <g_aux - r e, g_main>: the last term vanishes for e parallel to g_main and is at
    most lam |g_aux| |g_main| sin(angle between them), theorem `bloop-leak` [hsieh2024careful]. A zero average
    removes nothing. Cost: a few passes over the entries.
    """

    lam: Scalar = 0.1
    averaging: Scalar = 0.1
    eps: float = 0.0
    rescale: bool = False
    ratio_only: bool = False

    class State(NamedTuple):
        """The averaged main gradient."""

        average: Array

    def __post_init__(self) -> None:
        who = type(self).__name__
        check_number(self.lam, f"{who}.lam", open_high=True)
        check_number(self.averaging, f"{who}.averaging", high=1.0, open_low=True)
        check_number(self.eps, f"{who}.eps", open_high=True)

    def init(self, main: Array) -> State:
        """Return the state before the first step: the average starts at the first main gradient."""
        check_matrix(main, type(self).__name__, axes=1)
        return self.State(main)

    def step(self, main: Array, aux: Array, state: State) -> tuple[Array, State]:
        """Return the update, to be subtracted from the weights, and the state; gradients have shape (..., n)."""
        check_vectors(type(self).__name__, main=main, aux=aux, average=state.average)
        lam, averaging = (per_matrix(v, main, axes=1) for v in (self.lam, self.averaging))
        average = state.average + averaging * (main - state.average)
        ratio, rest = component(aux, average, eps=self.eps, at_most=self._bound(lam))
        update = (1 - lam * ratio) * main + lam * aux if self.ratio_only else main + lam * rest
        return (update / (1 + lam) if self.rescale else update), self.State(average)

    def _bound(self, lam: Scalar) -> Scalar | None:
        return None


@dataclass(frozen=True)
class DynamicBarrier(Bloop):
    """As Bloop, but remove the component along the averaged main gradient only up to 1 / lam of it.

        x = g_main + lam (g_aux - min(r, 1 / lam) e)

    Notes
    -----
    With e = g_main this is lam g_aux + max(1 - lam r, 0) g_main, and <x, g_main> = max(|g_main|^2, lam <g_aux,
    g_main>): the main loss falls at least as fast as under its own gradient, and faster where the auxiliary one
    helps [gong2021automatic]. The form with the average is that of the Bloop authors' code.
    """

    def __post_init__(self) -> None:
        super().__post_init__()
        check_number(self.lam, "DynamicBarrier.lam", open_low=True, open_high=True)

    def _bound(self, lam: Scalar) -> Scalar | None:
        return 1 / lam


@dataclass(frozen=True)
class OrthogonalGradient:
    """Add to the forward gradient the part of the backward gradient that is orthogonal to it.

        x = f + eta (b - (<f, b> / |f|^2) f)

    Parameters
    ----------
    eta : float or array (batch)
        Weight of the backward gradient.

    Notes
    -----
    <x, f> = |f|^2 whatever b is, also where <f, b> > 0: unlike a projection on a cone it discards agreement too. The
    authors floor |f|^2 at 1e-10; here only f = 0 is special, and x = eta b there [mao2024odice].
    """

    eta: Scalar = 1.0

    def __post_init__(self) -> None:
        check_number(self.eta, "OrthogonalGradient.eta", open_high=True)

    def __call__(self, forward: Array, backward: Array) -> Array:
        """Return the update for forward and backward gradients of shape (..., n)."""
        check_vectors("OrthogonalGradient", forward=forward, backward=backward)
        return forward + per_matrix(self.eta, forward, axes=1) * component(backward, forward).rest


__all__ = ["Bloop", "Component", "DynamicBarrier", "OrthogonalGradient", "check_vectors", "component", "dot"]
