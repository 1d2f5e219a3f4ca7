"""Three ways to lift a gauge to matrices: to the entries, to the rows or columns, to the singular values.

Cost per call: one pass over the entries for the first two, one thin SVD for the third.
"""

from __future__ import annotations

from dataclasses import dataclass

from ..arrays import Array, array_namespace
from ..polar.svd import svd_of_moderate
from .contract import Norm
from .gauges import L1, L2, Gauge, LInf, _divide, project_by_dual


@dataclass(frozen=True)
class EntrywiseNorm(Norm):
    """A gauge of all entries; invariant under permutations and signs of them."""

    @property
    def gauge(self) -> Gauge:
        """The gauge of the entries."""
        raise NotImplementedError

    def _value(self, x):
        return self.gauge.value(self._flat(x))

    def _lmo(self, g):
        return array_namespace(g).reshape(self.gauge.lmo(self._flat(g)), g.shape)

    def _project(self, x, radius):
        flat = self.gauge.project(self._flat(x), array_namespace(x).reshape(radius, (*x.shape[: -self.core_axes], 1)))
        return array_namespace(x).reshape(flat, x.shape)

    def _flat(self, x: Array) -> Array:
        count = 1
        for axis in x.shape[-self.core_axes :]:
            count *= axis
        return array_namespace(x).reshape(x, (*x.shape[: -self.core_axes], count))


@dataclass(frozen=True)
class LineNorm(Norm):
    """An outer gauge (L1 or LInf) of the inner gauge of each row, or of each column where `by_columns`."""

    by_columns = False

    @property
    def inner_gauge(self) -> Gauge:
        """The gauge within a line."""
        return L2()

    @property
    def outer_gauge(self) -> Gauge:
        """The gauge across the lines."""
        raise NotImplementedError

    def _lines(self, x):
        return x.mT if self.by_columns else x

    def _value(self, x):
        return self.outer_gauge.value(self.inner_gauge.value(self._lines(x)))

    def _lmo(self, g):
        lines = self._lines(g)
        weights = -self.outer_gauge.lmo(self.inner_gauge.dual.value(lines))
        return self._lines(weights[..., None] * self.inner_gauge.lmo(lines))

    def _project(self, x, radius):
        lines = self._lines(x)
        if isinstance(self.outer_gauge, LInf):
            return self._lines(self.inner_gauge.project(lines, radius))
        if isinstance(self.inner_gauge, L2):
            lengths = self.inner_gauge.value(lines)
            shorter = self.outer_gauge.project(lengths, radius[..., 0])
            return self._lines(lines * _divide(shorter, lengths)[..., None])
        return project_by_dual(_Unscaled(self), x, radius)


@dataclass(frozen=True)
class SingularValueNorm(Norm):
    """A gauge of the singular values; invariant under orthogonal matrices from both sides.

    At rank deficiency the LMO uses the singular vectors of the nonzero singular values only.
    """

    left_group = "orthogonal"
    right_group = "orthogonal"

    @property
    def gauge(self) -> Gauge:
        """The gauge of the singular values."""
        raise NotImplementedError

    def _value(self, x):
        return self.gauge.value(array_namespace(x).linalg.svdvals(x))

    def _lmo(self, g):
        u, s, vh = svd_of_moderate(g)
        return (u * self.gauge.lmo(s)[..., None, :]) @ vh

    def _project(self, x, radius):
        xp = array_namespace(x)
        u, s, vh = svd_of_moderate(x)
        projected = (u * self.gauge.project(s, radius[..., 0])[..., None, :]) @ vh
        return xp.where(self._value(x)[..., None, None] > radius, projected, x)


class _Unscaled:
    """A norm and its dual without the scaling at the door, as `project_by_dual` wants them."""

    def __init__(self, norm: Norm):
        self._norm = norm
        self.value = norm._value
        self.project = norm._project

    @property
    def dual(self) -> _Unscaled:
        return _Unscaled(self._norm.dual_norm)


__all__ = ["L1", "L2", "EntrywiseNorm", "LInf", "LineNorm", "SingularValueNorm"]
