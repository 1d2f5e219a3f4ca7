"""Robust and coordinate-wise aggregation: outlying gradients are dropped, voted down or projected away."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from ..arrays import array_namespace, backend_of, check_number
from ..polar.svd import svd_of_moderate
from .contract import Aggregator, Card, Weighted, divide, rows_of


def _check_count(value: Any, name: str, low: int = 0) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < low:
        raise ValueError(f"{name} must be a whole number of at least {low}; got {value!r}.")


@dataclass(frozen=True)
class Krum(Weighted):
    """The mean of the gradients closest to their neighbors, for at most f adversarial rows.

        score_i = sum of |g_i - g_j|^power over the m - f - 2 nearest j;    x = mean of the k rows of least score

    Distances are taken from differences, not from the Gramian, where they would cancel. Of equal scores the first row
    wins. Robust for 2 f + 2 < m.

    Parameters
    ----------
    byzantine, selected : int
        f and k; f + 3 <= m and k <= m are needed.
    power : float
        2 in the paper, 1 in TorchJD.
    """

    byzantine: int = 1
    selected: int = 1
    power: float = 2.0
    card = Card("Krum", "blanchard2017machine", "exact", "ties go to the first row; power = 1 is TorchJD's distance")

    def __post_init__(self):
        _check_count(self.byzantine, "Krum.byzantine")
        _check_count(self.selected, "Krum.selected", 1)
        check_number(self.power, "Krum.power", open_low=True, open_high=True)

    def coefficients(self, rows, *rng):
        xp = array_namespace(rows.unit)
        m = rows.unit.shape[-2]
        if m < self.byzantine + 3 or m < self.selected:
            raise ValueError(
                f"Krum with byzantine={self.byzantine} and selected={self.selected} needs at least "
                f"{max(self.byzantine + 3, self.selected)} rows; got {m}."
            )
        g = rows.relative
        apart = [xp.sum((g - g[..., i : i + 1, :]) ** 2, axis=-1) for i in range(m)]
        near = xp.sort(xp.stack(apart, axis=-2), axis=-1)[..., 1 : m - self.byzantine - 1]
        score = xp.sum(near ** (self.power / 2), axis=-1)  # exact ties of whole numbers stay ties at power 2
        rank = xp.argsort(xp.argsort(score, axis=-1, stable=True), axis=-1, stable=True)
        return xp.where(rank < self.selected, rows.scale / self.selected, xp.zeros_like(rows.scale))


@dataclass(frozen=True)
class TrimmedMean(Aggregator):
    """The coordinate-wise mean without the t smallest and the t largest entries.

    Parameters
    ----------
    trim : int
        t, with 2 t < m.
    """

    trim: int = 1
    card = Card("Trimmed mean", "yin2018byzantine", "exact")

    def __post_init__(self):
        _check_count(self.trim, "TrimmedMean.trim")

    def update(self, jacobian, *rng):
        rows = rows_of(jacobian)
        xp, m = array_namespace(rows.unit), rows.unit.shape[-2]
        if 2 * self.trim >= m:
            raise ValueError(f"TrimmedMean with trim={self.trim} needs more than {2 * self.trim} rows; got {m}.")
        ordered = xp.sort(rows.relative, axis=-2)
        return rows.peak * xp.mean(ordered[..., self.trim : m - self.trim, :], axis=-2)


@dataclass(frozen=True)
class GradDrop(Aggregator):
    """Gradient sign dropout: in each coordinate keep the positive or the negative entries, by chance.

        P = (1 + sum_i g_i / sum_i |g_i|) / 2,  U uniform;  keep g_i > 0 where P > U and g_i < 0 where P < U;  x = sum

    Depends on the basis. A coordinate of zeros gives 0.

    Parameters
    ----------
    leak : sequence of m numbers, optional
        The share of a row that is kept in any case; 0 if not given.
    seed : int
        Decides the draws together with the number of the step.
    """

    leak: Any = None
    seed: int = 0
    card = Card("GradDrop", "chen2020just", "exact")
    random = True

    def __post_init__(self):
        if self.leak is not None:
            check_number(np.asarray(self.leak), "GradDrop.leak", high=1.0)

    def update(self, jacobian, *rng):
        rows = rows_of(jacobian)
        xp, where = array_namespace(rows.unit), backend_of(rows.unit)
        g = rows.relative
        u = where.asarray(rng[0].random((*g.shape[:-2], g.shape[-1])))
        p = (1 + divide(xp.sum(g, axis=-2), xp.sum(xp.abs(g), axis=-2))) / 2
        kept = xp.where((p > u)[..., None, :], xp.maximum(g, 0 * g), xp.zeros_like(g))
        kept = kept + xp.where((p < u)[..., None, :], xp.minimum(g, 0 * g), xp.zeros_like(g))
        if self.leak is not None:
            if np.shape(self.leak) != (g.shape[-2],):
                raise ValueError(f"GradDrop.leak needs {g.shape[-2]} numbers; got shape {np.shape(self.leak)}.")
            leak = where.asarray(self.leak, "float64")[:, None]
            kept = leak * g + (1 - leak) * kept
        return rows.peak * xp.sum(kept, axis=-2)


@dataclass(frozen=True)
class Flag(Weighted):
    """The flag aggregator: project the sum of the unit rows on the subspace that most of them agree on.

        Y = argmin over Y^T Y = I_r of sum_i sqrt(1 - |Y^T h_i|^2),      x = 1/r Y Y^T sum_i h_i

    By iteratively reweighted least squares: Y is made of the top r left singular vectors of the columns a_i h_i with
    a_i = (1 - |Y^T h_i|^2 + 1e-7)^(-1/4) and, for lambda > 0, of b_ij (h_i - h_j) for all i != j with
    b_ij = lambda / (m (m - 1)) (|1 - |Y^T (h_i - h_j)|^2| + 1e-7)^(-1/4). Row lengths are lost.
    Cost: one SVD of m, with pairs m (m + 1) / 2 rows, an iteration.

    Parameters
    ----------
    rank, iterations : int
        r <= min(m, n), and the reweightings after the first subspace, which has a = 1 and b = lambda / (m (m - 1)).
    pairs : float
        lambda, the weight of the pairwise terms.
    """

    rank: int = 1
    iterations: int = 10
    pairs: float = 0.0
    card = Card(
        "Flag aggregator",
        "almasi2024flag",
        "exact",
        "starts from equal weights instead of a random subspace, and iterates where the authors' default is one pass "
        "that may return the random start; as in their code lambda scales the columns, so that its square enters Y",
    )

    def __post_init__(self):
        _check_count(self.rank, "Flag.rank", 1)
        _check_count(self.iterations, "Flag.iterations")
        check_number(self.pairs, "Flag.pairs", open_high=True)

    @property
    def homogeneity(self) -> float:
        return 0.0

    def coefficients(self, rows, *rng):
        xp, m = array_namespace(rows.unit), rows.unit.shape[-2]
        if self.rank > min(rows.unit.shape[-2:]):
            raise ValueError(f"Flag needs rank <= min(m, n) = {min(rows.unit.shape[-2:])}; got {self.rank}.")
        h = divide(rows.unit, rows.norm[..., None] + xp.zeros_like(rows.unit))
        mix, factor = self._columns(m)
        mix, factor = (backend_of(h).asarray(x, "float64") for x in (mix, factor))
        columns = mix @ h
        a = factor + xp.zeros_like(columns[..., 0])
        for iteration in range(self.iterations + 1):
            u, s, vh = svd_of_moderate(a[..., None] * columns)
            y = xp.matrix_transpose(vh[..., : self.rank, :])
            if iteration < self.iterations:
                a = factor * (xp.abs(1 - xp.sum((columns @ y) ** 2, axis=-1)) + 1e-7) ** -0.25
        total = xp.sum(h @ y, axis=-2) / self.rank  # coordinates of x in Y = columns^T diag(a) U / s
        c = a * (u[..., : self.rank] @ divide(total, s[..., : self.rank])[..., None])[..., 0]
        return divide((c[..., None, :] @ mix)[..., 0, :], rows.norm)

    def _columns(self, m: int) -> tuple[np.ndarray, np.ndarray]:
        """Return the combinations of unit rows that Y is fitted to, and their factors; one stands for ij and ji."""
        one = np.eye(m)
        if not self.pairs or m == 1:
            return one, np.ones(m)
        i, j = np.triu_indices(m, 1)
        share = 2**0.5 * self.pairs / (m * (m - 1))
        return np.concatenate([one, one[i] - one[j]]), np.concatenate([np.ones(m), np.full(len(i), share)])
