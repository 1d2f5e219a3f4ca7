"""Exponents with confidence intervals; a rate is never read off one run."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Exponent:
    """A fitted slope in log-log coordinates with its bootstrap interval.

    `local` holds the slopes between neighboring abscissas, of the geometric mean over the runs.
    """

    slope: float
    low: float
    high: float
    local: tuple[float, ...]
    runs: int
    level: float

    def contains(self, exponent: float) -> bool:
        """Say whether the interval contains an exponent."""
        return self.low <= exponent <= self.high

    def verdict(self, exponent: float) -> str:
        """Return "consistent", "faster" (steeper descent than the exponent) or "slower".

        The interval covers the spread between runs, not the bend of a power law that is only approached: where the
        local slopes still drift, read those.
        """
        if self.contains(exponent):
            return "consistent"
        return "faster" if self.high < exponent else "slower"


def fit_exponent(x, y, *, level: float = 0.95, resamples: int = 2000, seed: int = 0) -> Exponent:
    """Fit y ~ x^slope over several independent runs.

    Parameters
    ----------
    x : array (points,)
        Positive abscissas, e.g. budgets K.
    y : array (runs, points)
        Positive ordinates; every row is one seed. At least two runs.
    level : float
        Confidence level of the percentile bootstrap over the runs.

    Raises
    ------
    ValueError
        For one run, a single point or values that are not positive.
    """
    x, y = np.asarray(x, dtype=float), np.atleast_2d(np.asarray(y, dtype=float))
    if y.shape[0] < 2:
        raise ValueError(f"A rate is never claimed from one run; got {y.shape[0]}. Pass y of shape (runs, points).")
    if x.ndim != 1 or y.shape[1] != x.size or x.size < 2:
        raise ValueError(f"x is (points,) and y (runs, points) with at least 2 points; got {x.shape} and {y.shape}.")
    if not (np.all(x > 0) and np.all(y > 0) and np.isfinite(y).all()):
        raise ValueError("A log-log fit needs positive finite values.")
    log_x, log_y = np.log(x), np.log(y)
    centered = log_x - log_x.mean()
    slopes = log_y @ centered / (centered @ centered)  # the slope of a mean is the mean of slopes
    picks = np.random.default_rng(seed).integers(len(slopes), size=(resamples, len(slopes)))
    low, high = np.quantile(slopes[picks].mean(axis=1), [(1 - level) / 2, (1 + level) / 2])
    local = np.diff(log_y.mean(axis=0)) / np.diff(log_x)
    return Exponent(float(slopes.mean()), float(low), float(high), tuple(map(float, local)), len(slopes), level)


def upper_mean(values: np.ndarray, level: float = 0.95) -> np.ndarray:
    """Return the upper end of the one-sided Student interval of the mean over the last axis, two or more seeds."""
    from scipy.special import stdtrit

    seeds = values.shape[-1]
    if seeds < 2:
        raise ValueError(f"An interval over seeds needs at least two of them; got {seeds}.")
    return values.mean(axis=-1) + stdtrit(seeds - 1, level) * values.std(axis=-1, ddof=1) / np.sqrt(seeds)
