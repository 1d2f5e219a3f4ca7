"""The contract of an aggregator: a Jacobian of objectives in, one update out; and the rows that all of them work on."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, NamedTuple

import numpy as np

from ..arrays import Array, array_namespace, backend_of, check_matrix, check_number, generator, magnitude

Status = Literal["exact", "secondary", "reconstructed"]


HINT = " A single gradient is a Jacobian of one row, shape (1, n)."


@dataclass(frozen=True)
class Card:
    """Where an aggregator comes from and how faithful it is.

    `status` is "exact" (the authors' code or a textbook identity), "secondary" (a summary by others) or
    "reconstructed". `differences` says where code and paper disagree, and what is ours.
    """

    title: str
    source: str
    status: Status
    differences: str = ""


class Rows(NamedTuple):
    """The rows of J in float64, each divided by a power of two that brings its norm to [1, 2): nothing is rounded.

    The cone {x : J x >= 0} does not depend on the length of a row, so it is read from `unit`.
    """

    unit: Array  # (..., m, n); a zero row stays zero
    norm: Array  # (..., m), in [1, 2), 0 for a zero row
    scale: Array  # (..., m), power of two relative to `peak`, at most 2; 0 for a zero row
    peak: Array  # (..., 1), power of two of the longest row: row = peak * scale * unit

    @property
    def length(self) -> Array:
        """Norm of each row relative to `peak`, shape (..., m)."""
        return self.norm * self.scale

    @property
    def relative(self) -> Array:
        """The Jacobian divided by `peak`."""
        return self.scale[..., None] * self.unit


def rows_of(jacobian: Array) -> Rows:
    """Equilibrate by powers of two; one pass over the Jacobian for the largest entries, one for the norms."""
    xp = array_namespace(jacobian)
    j = xp.astype(jacobian, xp.float64, copy=False)
    size = magnitude(j, axes=1)
    unit = j / size.scale
    norm = xp.sqrt(xp.sum(unit * unit, axis=-1))
    alive = norm > 0
    step = 2.0 ** xp.floor(xp.log2(xp.where(alive, norm, xp.ones_like(norm))))
    unit, norm = unit / step[..., None], norm / step
    low = float(xp.finfo(xp.float64).smallest_normal)
    scale = xp.where(alive, size.scale[..., 0], xp.full_like(norm, low))
    peak = xp.max(scale, axis=-1, keepdims=True)
    peak = xp.where(xp.any(alive, axis=-1, keepdims=True), peak, xp.ones_like(peak))
    return Rows(unit, norm, xp.where(alive, scale / peak * step, xp.zeros_like(norm)), peak)


def check_jacobian(jacobian: Array, who: str) -> None:
    """Refuse what is not a finite floating-point array of shape (..., m, n); the bad row is named."""
    check_matrix(jacobian, who, hint=HINT)
    xp = array_namespace(jacobian)
    with np.errstate(over="ignore", invalid="ignore"):
        finite = bool(xp.isfinite(xp.sum(jacobian)))
    if not finite:  # the sum may also overflow: look closer
        good = xp.all(xp.isfinite(jacobian), axis=-1)
        if not bool(xp.all(good)):
            from ..arrays import to_host

            *batch, row = np.argwhere(~to_host(good))[0]
            where = f"row {row}" + (f" of Jacobian {tuple(int(i) for i in batch)}" if batch else "")
            raise ValueError(
                f"{who} needs a finite Jacobian; {where} has an entry that is infinite or not a number. "
                "Find the objective whose gradient it is, or drop that row."
            )


@dataclass(frozen=True)
class Aggregator:
    """Base of every aggregator: a frozen dataclass of options; knows no problem and no optimizer.

    A subclass states its options as fields, a `card` and `update(jacobian)`. Calling it checks the Jacobian.
    The arithmetic is in float64 and the update has the kind, dtype and device of the Jacobian.

    Attributes
    ----------
    homogeneity : float
        The degree h of A(k J) = k^h A(J) for k > 0.
    random : bool
        Whether `rng` changes the result; the law is that of the published method.
    """

    card: ClassVar[Card]
    random: ClassVar[bool] = False
    stateful: ClassVar[bool] = False

    @property
    def homogeneity(self) -> float:
        return 1.0

    def __call__(self, jacobian: Array) -> Array:
        """Return the update, the direction of descent being its negative.

        Parameters
        ----------
        jacobian : array (..., m, n)
            One gradient a row.

        Returns
        -------
        array (..., n)

        Raises
        ------
        ValueError
            For an axis m or n that is empty, or a row that is not finite, which is named.
        TypeError
            For a dtype that is not real floating.
        """
        return self.step(jacobian, self.init(jacobian))[0]

    def init(self, jacobian: Array) -> Any:
        """Return the state before the first step, for Jacobians like this one."""
        check_jacobian(jacobian, type(self).__name__)
        return self.start(jacobian)

    def start(self, jacobian: Array) -> Any:
        """Return the first state; a random aggregator counts its steps."""
        return 0 if self.random else ()

    def step(self, jacobian: Array, state: Any) -> tuple[Array, Any]:
        """Return the update and the next state; nothing is changed in place."""
        check_jacobian(jacobian, type(self).__name__)
        if 0 in jacobian.shape:
            return self._restore(array_namespace(jacobian).sum(jacobian, axis=-2), jacobian), state
        update, state = self.advance(jacobian, state)
        return self._restore(update, jacobian), state

    def advance(self, jacobian: Array, state: Any) -> tuple[Array, Any]:
        """Return the update in float64 and the next state, for a checked Jacobian."""
        if self.random:
            return self.update(jacobian, self.draws(state)), state + 1
        return self.update(jacobian), state

    def update(self, jacobian: Array, *rng: np.random.Generator) -> Array:
        """Return the update in float64, the method's formula."""
        raise NotImplementedError

    def draws(self, count: int) -> np.random.Generator:
        """Return the generator of step `count`: the field `seed` and the count decide every draw."""
        return generator(
            np.random.Generator(np.random.Philox(np.random.SeedSequence([getattr(self, "seed", 0), count])))
        )

    def config(self) -> dict[str, Any]:
        """Return the options by name."""
        return {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}

    @staticmethod
    def _restore(update: Array, jacobian: Array) -> Array:
        return array_namespace(update).astype(update, jacobian.dtype, copy=False)


@dataclass(frozen=True)
class Weighted(Aggregator):
    """An aggregator whose update is `weights @ jacobian` with weights that depend on the Gramian J J^T alone.

    A subclass states `coefficients(rows) -> (..., m)`, the weights of the equilibrated rows `rows.unit` in units of
    `rows.peak ** homogeneity`: they stay moderate where the weights of the rows themselves would overflow.
    """

    def coefficients(self, rows: Rows, *rng: np.random.Generator) -> Array:
        """Return the weights of `rows.unit`."""
        raise NotImplementedError

    def point(self, rows: Rows, *rng: np.random.Generator) -> Array:
        """Return the update in units of `rows.peak ** homogeneity`; overridden where combining rows would cancel."""
        return combine(self.coefficients(rows, *rng), rows.unit)

    def update(self, jacobian: Array, *rng: np.random.Generator) -> Array:
        rows = rows_of(jacobian)
        return rows.peak**self.homogeneity * self.point(rows, *rng)

    def weights(self, jacobian: Array) -> Array:
        """Return w of shape (..., m) with update = w @ jacobian; 0 for a zero row, infinite where it overflows."""
        check_jacobian(jacobian, type(self).__name__)
        xp = array_namespace(jacobian)
        if 0 in jacobian.shape:
            return xp.sum(jacobian, axis=-1)
        rows = rows_of(jacobian)
        rng = (self.draws(0),) if self.random else ()
        w = divide(self.coefficients(rows, *rng), rows.scale)
        if self.homogeneity != 1:
            w = xp.where(w != 0, rows.peak ** (self.homogeneity - 1), xp.zeros_like(w)) * w
        return self._restore(w, jacobian)


def combine(weights: Array, rows: Array) -> Array:
    """Return sum_i w_i row_i, shapes (..., m) and (..., m, n)."""
    return (weights[..., None, :] @ rows)[..., 0, :]


def gram(rows: Array) -> Array:
    """Return the Gramian of the rows, shape (..., m, m)."""
    return rows @ array_namespace(rows).matrix_transpose(rows)


def reduce(rows: Rows) -> tuple[Array, Array | None]:
    """Return (c, q) with rows.relative = c @ q^T and orthonormal columns q, None for the identity where n <= m.

    By QR, so that the condition is not squared.
    """
    xp = array_namespace(rows.unit)
    m, n = rows.unit.shape[-2:]
    if n <= m:
        return rows.relative, None
    q, r = xp.linalg.qr(xp.matrix_transpose(rows.unit))
    return xp.matrix_transpose(r) * rows.scale[..., None], q


def expand(x: Array, q: Array | None) -> Array:
    """Return q x, the point with coordinates x."""
    return x if q is None else (q @ x[..., None])[..., 0]


def factor(gramian: Array) -> Array:
    """Return a Jacobian (..., m, m) with this Gramian, for when J J^T is all there is: its `weights` are those of J.

    The Gramian is scaled to unit diagonal before its eigenvalues are taken, and zero rows stay exactly zero. It holds
    the square of the condition of J: relative errors of the weights are eps / lambda_min of the scaled Gramian.
    """
    xp = array_namespace(gramian)
    check_matrix(gramian, "factor")
    if gramian.shape[-1] != gramian.shape[-2]:
        raise ValueError(f"factor needs a Gramian, shape (..., m, m); got {tuple(gramian.shape)}.")
    g = xp.astype(gramian, xp.float64, copy=False)
    diagonal = xp.linalg.diagonal(g)
    if not bool(xp.all(xp.isfinite(g))) or bool(xp.any(diagonal < 0)):
        raise ValueError("factor needs a finite Gramian with a diagonal of squared lengths, which are not negative.")
    d = xp.sqrt(diagonal)
    c = divide(divide(g, d[..., None] + xp.zeros_like(g)), d[..., None, :] + xp.zeros_like(g))
    value, vector = xp.linalg.eigh((c + xp.matrix_transpose(c)) / 2)
    root = vector * xp.sqrt(xp.clip(value, 0.0, None))[..., None, :]
    return xp.astype(d[..., None] * xp.where(d[..., None] > 0, root, xp.zeros_like(root)), gramian.dtype, copy=False)


def divide(a: Array, b: Array) -> Array:
    """Return a / b, 0 where b is 0."""
    xp = array_namespace(a, b)
    safe = xp.where(b != 0, b, xp.ones_like(b))
    return xp.where(b != 0, a / safe, xp.zeros_like(a / safe))


def preference(values: Any, rows: Rows | Array) -> Array:
    """Return preference weights p of shape (m,): 1/m where None, otherwise what the user gave, checked."""
    like = rows.unit if isinstance(rows, Rows) else rows
    m, where = like.shape[-2], backend_of(like)
    if values is None:
        return where.xp.full((m,), 1.0 / m, dtype=where.xp.float64, device=where.device)
    check_number(np.asarray(values), "preference", open_high=True)
    if np.shape(values) != (m,):
        raise ValueError(f"preference needs one weight a row, shape ({m},); got shape {np.shape(values)}.")
    return where.asarray(values, "float64")


__all__ = [
    "Aggregator",
    "Card",
    "Rows",
    "Weighted",
    "check_jacobian",
    "combine",
    "divide",
    "expand",
    "factor",
    "gram",
    "preference",
    "reduce",
    "rows_of",
]
