"""Bringing a matrix into the unit spectral ball by upper bounds of its spectral norm, free with a Gram matrix.

With A = X X^H and singular values s_i of X:

    frobenius    (tr A)^(1/2)           = (sum s_i^2)^(1/2)
    schatten-4   |A|_F^(1/2)            = (sum s_i^4)^(1/4)
    schatten-8   |A^2|_F^(1/4)          = (sum s_i^8)^(1/8), free in a step that forms A^2
    row-sum      (max_i sum_j |A_ij|)^(1/2)
    aol          (sum_j |A_ij|)^(1/2) for each row i: diag(d) X with |diag(d) X|_2 <= 1, another polar factor
    exact        s_1

A matrix of rank one attains each of them (for the row sum: one with rows of one length), and `aol` too:
whatever the rule, sigma_1 = 1 / safety does occur after it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from ..arrays import Array, array_namespace, check_matrix, check_number, frobenius, magnitude
from ..names import closest


def _trace(a: Array) -> Array:
    xp = array_namespace(a)
    return xp.sqrt(xp.sum(xp.abs(xp.linalg.diagonal(a)), axis=-1))[..., None, None]


def _schatten_4(a: Array) -> Array:
    return array_namespace(a).sqrt(frobenius(a, keepdims=True))


def _schatten_8(a: Array) -> Array:
    return array_namespace(a).sqrt(_schatten_4(a @ a))


def _aol(a: Array) -> Array:
    xp = array_namespace(a)
    return xp.sqrt(xp.sum(xp.abs(a), axis=-1, keepdims=True))


def _row_sum(a: Array) -> Array:
    return array_namespace(a).max(_aol(a), axis=-2, keepdims=True)


def _exact(a: Array) -> Array:
    xp = array_namespace(a)
    top = xp.linalg.eigvalsh(a)[..., -1:, None]
    return xp.sqrt(xp.maximum(top, xp.zeros_like(top)))


BOUNDS: dict[str, Callable[[Array], Array]] = {
    "frobenius": _trace,
    "schatten-4": _schatten_4,
    "schatten-8": _schatten_8,
    "row-sum": _row_sum,
    "aol": _aol,
    "exact": _exact,
}
RULES = {"add": "safety * bound + epsilon", "clamp": "max(safety * bound, epsilon)"}


@dataclass(frozen=True)
class Normalization:
    """Divide a matrix by `safety` times an upper bound of its spectral norm.

        X / (safety * bound(X)),    so that sigma_1 <= 1 / safety

    Parameters
    ----------
    epsilon, rule : float, "add" or "clamp"
        With `epsilon = 0` (ours) the result does not depend on the scale of the input. The authors' code adds
        epsilon to the norm (`rule="add"`) or clamps the norm from below (`rule="clamp"`): small matrices then
        come out short.
    safety : float
        At least 1 keeps the singular values at most 1.
    bound : str
        "frobenius", "schatten-4", "schatten-8", "row-sum", "exact", or "aol": rows divided one by one, which is
        no scaling and changes the polar factor (claim `aol-scaling-keeps-the-polar-factor`).

    Raises
    ------
    UnknownName, ValueError, TypeError
        For a name that does not exist, a negative epsilon or a safety factor that is not positive.

    Notes
    -----
    In floating point the bound comes out short by at most a relative n sqrt(m) eps / 2 or so, for an m x n matrix:
    what must not exceed 1 by that much needs a safety factor. Zero stays zero, a non-finite matrix gives NaN.
    Cost: O(mn) for "frobenius", one Gram product otherwise (none with `of_gram`), one more m x m product for
    "schatten-8" (none if the square is given), an eigenvalue problem for "exact".

    >>> import numpy as np
    >>> Normalization(bound="exact")(np.diag([3.0, 4.0]))
    array([[0.75, 0.  ],
           [0.  , 1.  ]])
    """

    epsilon: float = 0.0
    rule: str = "add"
    safety: float = 1.0
    bound: str = "frobenius"

    def __post_init__(self):
        closest(self.bound, BOUNDS, "bound of the spectral norm")
        closest(self.rule, RULES, "rule for epsilon")
        check_number(self.epsilon, "epsilon", open_high=True)
        check_number(self.safety, "safety", open_low=True, open_high=True)
        for name in ("epsilon", "safety"):  # a NumPy number would decide the dtype of the result
            object.__setattr__(self, name, float(getattr(self, name)))

    @property
    def is_scaling(self) -> bool:
        """Whether each matrix is divided by one number, which leaves its polar factor alone."""
        return self.bound != "aol"

    @property
    def top(self) -> float:
        """The largest singular value after normalization, 1 / safety; matrices of rank one attain it."""
        return 1.0 / self.safety

    def __call__(self, g: Array) -> Array:
        """Return the normalized matrices; zero stays zero. Refuses vectors and dtypes that are not floating."""
        check_matrix(g, "Normalization", complex_allowed=True)
        if self.epsilon == 0.0:
            g = g / magnitude(g).scale
        if self.bound == "frobenius":  # needs no product
            return g / self._divisor(frobenius(g, keepdims=True))
        xp = array_namespace(g)
        wide = g.shape[-2] <= g.shape[-1]
        size = magnitude(g)
        y = size.normalize(g if wide else g.mT)
        gram = y @ (xp.conj(y).mT if xp.isdtype(y.dtype, "complex floating") else y.mT)
        bound = size.scale * BOUNDS[self.bound](gram) + size.nan()
        divisor = self._divisor(bound)
        return g / (divisor if wide else divisor.mT)

    def of_gram(self, gram: Array, square: Array | None = None) -> Array:
        """Return the divisor, shape (..., 1, 1), of the matrices X whose Gram matrices X X^H are given.

        For "aol" it has shape (..., m, 1), one divisor a row. `square`, the square of `gram`, saves "schatten-8" its
        product. No matter the scale of `gram`, nothing overflows as long as its entries (and those of `square`) do not.

        >>> import numpy as np
        >>> bound = Normalization(bound="schatten-4").of_gram(np.diag([9.0, 16.0]))
        >>> round(float(bound[0, 0] ** 4), 12)
        337.0
        """
        xp = array_namespace(gram)
        if square is not None and self.bound == "schatten-8":
            return self._divisor(xp.sqrt(_schatten_4(square)))
        size = magnitude(gram)
        return self._divisor(xp.sqrt(size.scale) * BOUNDS[self.bound](size.normalize(gram)) + size.nan())

    def _divisor(self, bound: Array) -> Array:
        xp = array_namespace(bound)
        if self.epsilon == 0.0:
            return self.safety * xp.where(bound == 0, xp.ones_like(bound), bound)  # NaN stays, and spreads
        if self.rule == "clamp":
            return xp.maximum(self.safety * bound, self.epsilon + xp.zeros_like(bound))
        return self.safety * bound + self.epsilon


def tightness(normalization: Normalization, g: Array) -> Array:
    """Return sigma_1 after normalization, at most 1 / safety and the larger the tighter the bound; shape (batch).

    NaN for a matrix that is not finite.
    """
    y = normalization(g)
    size = magnitude(y)
    return (array_namespace(y).linalg.svdvals(size.normalize(y)) * size.scale[..., 0] + size.nan()[..., 0])[..., 0]
