"""The spectrum that a plan is made for: any list of singular values with weights, or that of a Gaussian matrix."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from ..names import closest
from .normalization import Normalization
from .spectrum import Lanczos

NODES = 512
POWERS = {"frobenius": 2, "schatten-4": 4, "schatten-8": 8}


@dataclass(frozen=True, eq=False)
class Spectrum:
    """Singular values in units of the largest, each with its share.

    Parameters
    ----------
    values : array (k)
        In (0, 1], the largest 1 or near it.
    weights : array (k)
        Positive, adding up to 1.
    """

    values: np.ndarray
    weights: np.ndarray

    def normalized(self, normalization: Normalization | Lanczos, shape: tuple[int, int]) -> np.ndarray:
        """Return the singular values of a matrix of that shape after a normalization.

        A Schatten norm of n values with these shares is (n sum w s^p)^(1/p).

        Raises
        ------
        UnknownName
            For a bound that depends on more than the singular values ("row-sum", "aol").
        """
        if isinstance(normalization, Lanczos) or normalization.bound == "exact":
            return self.values / normalization.safety
        power = closest(normalization.bound, POWERS, "bound that the singular values decide")
        bound = (min(shape) * float(np.sum(self.weights * self.values**power))) ** (1 / power)
        return self.values / (normalization.safety * bound)


def marchenko_pastur(shape: tuple[int, int], nodes: int = NODES) -> Spectrum:
    """Return the limiting spectrum of an n x m matrix of independent standard normals, n <= m.

    With a = (sqrt(m) - sqrt(n)) / (sqrt(m) + sqrt(n)) the squares t of the singular values, in units of the largest,
    have the density sqrt((t - a^2) (1 - t)) / t on [a^2, 1] up to a factor [marchenko1967distribution]. Midpoint rule
    in the angle of t, which converges exponentially for n < m.

    >>> spectrum = marchenko_pastur((100, 400))
    >>> round(float(spectrum.values.min()), 3)  # (20 - 10) / (20 + 10)
    0.333
    """
    n, m = sorted(shape)
    low = ((math.sqrt(m) - math.sqrt(n)) / (math.sqrt(m) + math.sqrt(n))) ** 2
    angle = math.pi * (np.arange(nodes) + 0.5) / nodes
    t = (1 + low) / 2 + (1 - low) / 2 * np.cos(angle)
    weights = np.sin(angle) ** 2 / t if low < 1 else np.ones_like(t)
    return Spectrum(np.sqrt(t), weights / weights.sum())
