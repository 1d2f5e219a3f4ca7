"""QDWH: Halley's iteration with the best weights for the interval in which the singular values lie."""

from __future__ import annotations

import functools
import math
from typing import NamedTuple

from ..arrays import Array, array_namespace
from .reduction import through_square
from .zolotarev import Zolotarev, newton_schulz_polish, steps_to, zolotarev_image


class HalleyWeights(NamedTuple):
    """Weights of s -> s (a + b s^2) / (1 + c s^2); (3, 1, 3) is Halley's iteration."""

    a: float
    b: float
    c: float

    def step(self, low: float) -> Zolotarev:
        """Return the step as a partial fraction, b/c s + (a - b/c) s / (1 + c s^2)."""
        a, b, c = self
        return Zolotarev(gain=b / c, residues=(a / b - 1 / c,), poles=(1 / c,), input_interval=(low, 1.0))


def halley_weights(low: float) -> HalleyWeights:
    """Return the weights that map [low, 1] closest to one, in closed form: the Zolotarev function with one pole.

    g = (4 (1 - l^2) / l^4)^(1/3), a = sqrt(1 + g) + sqrt(8 - 4 g + 8 (2 - l^2) / (l^2 sqrt(1 + g))) / 2,
    b = (a - 1)^2 / 4, c = a + b - 1 [nakatsukasa2010optimizing].

    >>> [round(w, 2) for w in halley_weights(1e-3)]
    [251.99, 15749.26, 16000.25]
    """
    l2 = low * low
    g = (4 * (1 - low) * (1 + low) / (l2 * l2)) ** (1 / 3)
    root = math.sqrt(1 + g)
    a = root + math.sqrt(8 - 4 * g + 8 * (2 - l2) / (l2 * root)) / 2
    b = (a - 1) ** 2 / 4
    return HalleyWeights(a, b, a + b - 1)


@functools.lru_cache(maxsize=1024)
def qdwh_steps(low: float, target: float = 2.0**-53) -> tuple[Zolotarev, ...]:
    """Return the steps that bring [low, 1] to within target of one; six from low = 1e-16 in double precision.

    The bound moves as l <- l (a + b l^2) / (1 + c l^2) (theorem `qdwh-six-steps`).

    >>> len(qdwh_steps(1e-16)), len(qdwh_steps(1e-3))
    (6, 4)
    """
    low = float(low)
    bounds = [low, *(zolotarev_image(3**k, low) for k in range(1, steps_to(low, target, 3)))]
    return tuple(halley_weights(bound).step(bound) for bound in bounds)


def qdwh(g: Array, *, low: float | None = None, polish: bool = False) -> Array:
    """Return the polar factor by the dynamically weighted Halley iteration.

        X <- X (a I + b X^H X) (I + c X^H X)^-1

    Parameters
    ----------
    g : array (..., m, n)
        Real or complex, tall, wide or square.
    low : float, optional
        Lower bound of the smallest over the largest singular value, for all matrices; the rounding unit is the
        choice that needs no knowledge (six steps in double precision). Measured on the triangular factor where it is
        not given.
    polish : bool
        End with a Newton-Schulz step, as JAX does.

    Returns
    -------
    array (..., m, n)
        The polar factor, by the rules of `reduction.through_square`: null spaces are mapped to zero.

    Raises
    ------
    ValueError, TypeError
        As `polar_factor`; for low outside (0, 1).

    Notes
    -----
    The inverse is taken by QR of [sqrt(c) X; I] while c > 100 and with the Gram matrix after that, so the iteration is
    backward stable. Cost: at most six steps in double precision, about 4.3 products a QR step and 2 a Gram step, after
    the QR and the inverse that all algorithms here begin with [nakatsukasa2010optimizing].
    """

    def solve(x: Array, bound: float) -> Array:
        for step in qdwh_steps(bound, float(array_namespace(x).finfo(x.dtype).eps) / 2):
            x = step.apply(x)
        return newton_schulz_polish(x) if polish else x

    return through_square(g, "qdwh", solve, low=low)
