"""Which methods are ahead on one problem: means in decades, paired differences to the best, what is not told apart."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np


class Standing(NamedTuple):
    """Where methods stand on one problem, in decades (log10); all of shape (methods)."""

    mean: np.ndarray
    half_width: np.ndarray
    behind: np.ndarray
    tied: np.ndarray


def standing(values: np.ndarray, *, level: float = 0.95) -> Standing:
    """Compare methods over the same seeds.

    Parameters
    ----------
    values : array (methods, seeds)
        Positive, infinite where a run is lost; two or more seeds.

    Returns
    -------
    Standing
        `mean` of log10 with the half-width of its Student interval; `behind`, how far the mean lies above the best
        one; `tied`, not distinguished from the best: the one-sided interval of the mean paired difference, at a level
        shared among all methods (Bonferroni), contains 0. A method that loses a run is infinitely far behind.
    """
    from scipy.special import stdtrit

    logs = np.log10(values)
    count, seeds = logs.shape
    if seeds < 2:
        raise ValueError(f"An interval over seeds needs at least two of them; got {seeds}.")
    whole = np.isfinite(logs).all(axis=1)
    if not whole.any():
        never = np.full(count, np.inf)
        return Standing(never, never, never, whole)
    mean, half, behind, tied = (np.full(count, x) for x in (np.inf, np.inf, np.inf, False))
    logs = logs[whole]
    mean[whole] = logs.mean(axis=1)
    half[whole] = stdtrit(seeds - 1, (1 + level) / 2) * logs.std(axis=1, ddof=1) / np.sqrt(seeds)
    difference = logs - logs[np.argmin(logs.mean(axis=1))]
    behind[whole] = difference.mean(axis=1)
    shared = stdtrit(seeds - 1, 1 - (1 - level) / count)
    tied[whole] = behind[whole] <= shared * difference.std(axis=1, ddof=1) / np.sqrt(seeds)
    return Standing(mean, half, behind, tied)
