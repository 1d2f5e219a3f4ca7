"""bfloat16, float16 and tf32 products with float32 accumulation, emulated by rounding after each product.

Numbers of the format are held in float32 arrays. Products of two of them are exact in float32 (at most 22 bits), sums
are accumulated in float32, the result is rounded to the format once: what a tensor core does, up to the order of
summation. No loss of range is hidden: subnormals and overflow are those of the format.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import NamedTuple

import numpy as np

from ..arrays import Array, array_namespace, check_matrix, generator
from ..names import closest
from .normalization import Normalization
from .schedule import MUON_QUINTIC, Schedule


@dataclass(frozen=True)
class Format:
    """A binary floating-point format.

    Parameters
    ----------
    name : str
    bits : int
        Of the significand, the hidden one included; u = 2^-bits.
    low, high : int
        Exponents of the smallest and of the largest normal power of two; below 2^low the spacing stays the same.
    """

    name: str
    bits: int
    low: int
    high: int

    @property
    def unit(self) -> float:
        """Unit roundoff, half the distance from 1 to the next number."""
        return 2.0**-self.bits

    @property
    def largest(self) -> float:
        """The largest finite number."""
        return (2.0 - 2.0 ** (1 - self.bits)) * 2.0**self.high

    def round(self, x: Array) -> Array:
        """Round to the nearest number of the format, ties to even; beyond the largest to infinity. Returns float32.

        >>> FORMATS["bfloat16"].round(np.array([1.00390625, 1.01171875, 1e-41]))  # two ties, less than half the least
        array([1.      , 1.015625, 0.      ], dtype=float32)
        """
        xp = array_namespace(x)
        y = xp.astype(x, xp.float64)
        size = xp.clip(xp.abs(y), 2.0 ** (self.low - 1), 2.0 ** (self.high + 2))
        split = size * (2.0**52 + 1)
        power = split - (split - size)  # Veltkamp: the size rounded to one bit, a power of two
        power = xp.where(power > size, power / 2, power)
        spacing = xp.maximum(power, xp.full_like(power, 2.0**self.low)) * 2.0 ** (1 - self.bits)
        rounded = xp.round(y / spacing) * spacing
        infinite = xp.where(y > 0, xp.full_like(y, np.inf), xp.full_like(y, -np.inf))
        rounded = xp.where(xp.abs(rounded) > self.largest, infinite, rounded)  # NaN stays
        return xp.astype(rounded, xp.float32)

    def product(self, a: Array, b: Array, *, alpha: float = 1.0, beta: float = 0.0, c: Array | None = None) -> Array:
        """Return alpha a b + beta c, accumulated in float32 and rounded once, as one call of a matrix kernel."""
        with np.errstate(over="ignore", invalid="ignore"):  # divergence is a result here, not an accident
            out = alpha * (a @ b)
            return self.round(out if c is None else out + beta * c)

    def apply(self, schedule: Schedule, g: Array, *, steps: int | None = None) -> Array:
        """Run a schedule: normalize in the dtype of g, round, and round after each product of X X^T, h(R) and h(R) X.

        Parameters
        ----------
        g : array (..., m, n)
            Real, float32 or float64; the normalization is computed in its dtype.

        Returns
        -------
        array (..., m, n)
            Numbers of the format in float32; not finite where the iteration diverged.

        Raises
        ------
        TypeError, ValueError
            For complex or other matrices; for more steps than the schedule has.

        Notes
        -----
        h is evaluated by Horner's rule with one fused product a degree. The same products as `Schedule.apply`.
        """
        check_matrix(g, f"{self.name} apply")
        wide = g.shape[-2] <= g.shape[-1]
        x = self.round(schedule.normalization(g if wide else g.mT))
        for first, *rest in schedule.first(steps):
            if not rest:
                x = self.round(first * x)
                continue
            gram = self.product(x, x.mT)
            if len(rest) == 1:
                x = self.product(gram, x, alpha=rest[0], beta=first, c=x)
                continue
            inner = self.product(gram, gram, alpha=rest[-1], beta=rest[-2], c=gram)
            for c in reversed(rest[:-2]):
                inner = self.product(inner, gram, beta=c, c=gram)
            x = self.product(inner, x, beta=first, c=x)
        return x if wide else x.mT


FORMATS: Mapping[str, Format] = MappingProxyType(
    {
        "bfloat16": Format("bfloat16", 8, -126, 127),
        "float16": Format("float16", 11, -14, 15),
        "tf32": Format("tf32", 11, -126, 127),
        "float32": Format("float32", 24, -126, 127),
    }
)


def emulate(dtype: str) -> Format:
    """Return the format by its name: "bfloat16", "float16", "tf32" or "float32".

    >>> emulate("float16").largest
    65504.0
    """
    return closest(dtype, FORMATS, "format")


class Floor(NamedTuple):
    """Errors |X - polar(G)|_2 of one method over several draws of G; `failed` of them are not finite or above 10."""

    dtype: str
    aspect: int
    method: str
    lowest: float
    median: float
    highest: float
    failed: int
    draws: int


def log_spaced(shape: tuple[int, int], condition: float, rng: np.random.Generator | int) -> tuple[Array, Array]:
    """Return a random matrix with log-spaced singular values from 1 down to 1 / condition, and its polar factor."""
    rng = generator(rng)
    m, n = shape
    u, _ = np.linalg.qr(rng.standard_normal((m, m)))
    v, _ = np.linalg.qr(rng.standard_normal((n, m)))
    return (u * np.geomspace(1.0, 1 / condition, m)) @ v.T, u @ v.T


def precision_floors(
    methods: Mapping[str, Schedule] | None = None,
    *,
    side: int = 192,
    condition: float = 1e3,
    aspects: tuple[int, ...] = (1, 4),
    dtypes: tuple[str, ...] = ("float32", "float16", "bfloat16"),
    draws: int = 5,
    seed: int = 0,
) -> list[Floor]:
    """Measure what each precision allows: the exact polar factor of the rounded input, and schedules run in it.

    Parameters
    ----------
    methods : schedules by name, optional
        By default seven minimax quintics from 1 / condition, Polar Express and Muon's five steps, each behind the
        exact spectral norm (with the schedule's safety factor).
    side, condition, aspects, dtypes, draws, seed
        Short side, log-spaced singular values in [1 / condition, 1], long / short, formats, matrices of each kind.

    Returns
    -------
    list of Floor
        The method "floor" is the polar factor (by SVD, in float64) of the matrix rounded to the format: the error
        that no algorithm avoids.

    Notes
    -----
    float16 is much finer than bfloat16 (11 bits to 8): its floor is about 8 times lower.
    """
    methods = methods or default_methods(condition)
    table = []
    for dtype in dtypes:
        kind = emulate(dtype)
        for aspect in aspects:
            errors: dict[str, list[float]] = {name: [] for name in ("floor", *methods)}
            for draw in range(draws):
                g, factor = log_spaced((side, aspect * side), condition, seed + draw)
                u, _, vh = np.linalg.svd(kind.round(g).astype(float), full_matrices=False)
                errors["floor"].append(_distance(u @ vh, factor))
                for name, schedule in methods.items():
                    errors[name].append(_distance(kind.apply(schedule, g), factor))
            table += [_summary(dtype, aspect, name, np.array(e)) for name, e in errors.items()]
    return table


def default_methods(condition: float) -> dict[str, Schedule]:
    """Return the schedules that `precision_floors` compares, behind the exact norm."""
    from .express import POLAR_EXPRESS
    from .minimax import compose

    exact = Normalization(bound="exact")
    return {
        "minimax quintics": replace(compose((5,) * 7, 1 / condition).schedule("minimax"), normalization=exact),
        "Polar Express": replace(POLAR_EXPRESS, normalization=replace(exact, safety=1.01)),
        "Muon, five steps": replace(MUON_QUINTIC, normalization=exact),
    }


def _distance(x: np.ndarray, factor: np.ndarray) -> float:
    if not np.isfinite(x).all():
        return np.inf
    return float(np.linalg.norm(x.astype(float) - factor, 2))


def _summary(dtype: str, aspect: int, method: str, errors: np.ndarray) -> Floor:
    with np.errstate(invalid="ignore"):
        median = float(np.median(errors))
    failed = int((errors > 10).sum())
    return Floor(dtype, aspect, method, float(errors.min()), median, float(errors.max()), failed, len(errors))
