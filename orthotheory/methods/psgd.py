"""PSGD: a preconditioner fitted on a Lie group, so that it stays invertible and needs no damping."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

from ..arrays import Array, Scalar, array_namespace, check_number, device_of, generator, standard_normal
from ..names import closest
from .contract import Card, Method, decay, ratio, zeros_like
from .sophia import HessianProduct

Geometry = Literal["triangular", "x-shape", "low-rank", "kronecker"]


def squared(x: Array) -> Array:
    """Return |x|^2 of each vector or matrix, shape (..., 1, 1)."""
    return array_namespace(x).sum(x * x, axis=(-2, -1), keepdims=True)


def triangular_step(q: Array, h: Array, v: Array, step: float) -> Array:
    """Return Q - mu triu(a a^T - b b^T) Q with a = Q h, b = Q^-T v, mu = step / (|a|^2 + |b|^2).

    Shapes: Q (..., k, k) upper triangular, h and v (..., k, 1). The gradient, up to a factor, of h^T P h + v^T P^-1 v
    with P = Q^T Q along Q -> (I + E) Q. The diagonal keeps its sign for step < 1, so Q stays invertible.
    """
    xp = array_namespace(q)
    a, b = q @ h, xp.linalg.solve(q.mT, v)
    mu = ratio(step * xp.ones_like(q[..., :1, :1]), squared(a) + squared(b))
    return q - mu * (xp.triu(a @ a.mT - b @ b.mT) @ q)


def _flip(x: Array) -> Array:
    return array_namespace(x).flip(x, axis=-2)


def x_times(d: Array, e: Array, x: Array) -> Array:
    """Return Q x for the X-shaped Q with diagonal d and antidiagonal e, from its top; all of shape (..., k, 1)."""
    return d * x + e * _flip(x)


def x_step(d: Array, e: Array, h: Array, v: Array, step: float) -> tuple[Array, Array]:
    """Return the diagonal and antidiagonal of Q - mu X(a a^T - b b^T) Q, a, b and mu as in `triangular_step`.

    X keeps the diagonal and the antidiagonal. Q pairs entry i with entry k + 1 - i in blocks of 2 x 2, so a product
    and an inverse cost O(k); for an odd k the middle entry of e is 0. Q stays invertible for step < 1.
    """
    xp = array_namespace(d)
    a = x_times(d, e, h)
    b = ratio(x_times(_flip(d), -_flip(e), v), d * _flip(d) - e * _flip(e))
    places = xp.arange(d.shape[-2], device=device_of(d))[:, None]
    anti = xp.where(2 * places == d.shape[-2] - 1, xp.zeros_like(d), a * _flip(a) - b * _flip(b))
    diagonal = a * a - b * b
    mu = ratio(step * xp.ones_like(d[..., :1, :]), squared(a) + squared(b))
    return d - mu * (diagonal * d + anti * _flip(e)), e - mu * (diagonal * e + anti * _flip(d))


def kronecker_gradients(left: Array, right: Array, h: Array, v: Array) -> tuple[Array, Array, Array, Array]:
    """Return A A^T, B B^T, A^T A, B^T B with A = Q_L H Q_R^T and B = Q_L^-T V Q_R^-1."""
    xp = array_namespace(h)
    a = left @ h @ right.mT
    b = xp.linalg.solve(right.mT, xp.linalg.solve(left.mT, v).mT).mT
    return a @ a.mT, b @ b.mT, a.mT @ a, b.mT @ b


@dataclass(frozen=True)
class PSGD(Method):
    """Step along P G, where P = Q^T Q fits E[h^T P h + v^T P^-1 v] by multiplicative steps of Q.

        v ~ N(0, I),   h = H v (Newton) or vec G (whitening),   a = Q h,   b = Q^-T v
        triangular:  Q <- Q - mu triu(a a^T - b b^T) Q
        X-shape:     the same with the diagonal and antidiagonal in place of triu, and Q of that shape
        Kronecker:   Q_L <- Q_L - lr_Q / L triu(A A^T - B B^T) Q_L,  the same for Q_R;  L = max(0.9 L + 0.1 l, l)
        low rank:    Q = (I + U V^T) diag(d);  d, then U or V at random, on the same criterion
        W <- (1 - lr weight_decay) W - lr P G

    Parameters
    ----------
    geometry : "triangular", "x-shape", "low-rank" or "kronecker"
        The group; the first three act on vec W, of mn entries.
    curvature : function (w, d) -> H(w) d, or None
        What Newton's kind needs beyond a gradient, a pure function; None whitens the gradient.
    precond_lr, rank, seed : float, int, int
        Step of Q, below 1; rank of U V^T; of the probes, the same for all members of a batch.

    Notes
    -----
    The fixed point is P = |H|^-1, or (E g g^T)^(-1/2), where the group holds it (claim `psgd-fixed-point`). Steps of Q
    commute with Q -> Q A for A in the group (theorems `psgd-equivariance` and `psgd-x-shape`). Scaling all gradients
    changes no whitened step. Cost: with k = mn, O(k^2) triangular, O(k) X-shape, O(k rank) low rank; 8 products with a
    side for Kronecker.
    """

    card = Card(
        "PSGD",
        "pooladzandi2024curvature",
        "2402.04553",
        "a metric learned on a group of matrices",
        "published",
        "Group, criterion and multiplicative steps as in the authors' code [li2015preconditioned]. Ours: the start "
        "Q = (mean v^2 / mean h^2)^(1/4) I; exact row sums for l in place of a randomized lower bound; |a|^2 + |b|^2 "
        "as normalizer; no clipping of the step, probe damping or balancing of factors; other group geometries than "
        "these are left out.",
    )

    lr: Scalar = 0.01
    weight_decay: Scalar = 0.0
    geometry: Geometry = "kronecker"
    curvature: HessianProduct | None = None
    precond_lr: float = 0.1
    rank: int = 10
    seed: int = 0

    class State(NamedTuple):
        """Factors by geometry: (Q,), (d, e), (Q_L, Q_R, L_L, L_R) or (U, V, d); steps taken."""

        factors: tuple[Array, ...]
        steps: int

    def __post_init__(self):
        super().__post_init__()
        closest(self.geometry, {"triangular": 0, "x-shape": 0, "low-rank": 0, "kronecker": 0}, "PSGD geometry")
        check_number(self.precond_lr, "PSGD.precond_lr", high=1.0, open_high=True)
        check_number(self.rank, "PSGD.rank", low=1)

    def init(self, w):
        xp = array_namespace(w)
        one = 1 + zeros_like(w[..., :1, :1])

        def eye(k):
            return xp.eye(k, dtype=w.dtype, device=device_of(w)) * one

        m, n = w.shape[-2:]
        ones = xp.reshape(1 + zeros_like(w), (*w.shape[:-2], m * n, 1))
        if self.geometry == "triangular":
            factors: tuple[Array, ...] = (eye(m * n),)
        elif self.geometry == "kronecker":
            factors = (eye(m), eye(n), zeros_like(one), zeros_like(one))
        elif self.geometry == "x-shape":
            factors = (ones, zeros_like(ones))
        else:
            u, v = (0.1 * standard_normal((m * n, self.rank), self.seed + i, like=w) for i in (1, 2))
            scale = (m * n * self.rank) ** -0.5
            factors = (scale * u * one, scale * v * one, ones)
        return self.State(factors, 0)

    def update(self, w, grad, state):
        xp = array_namespace(w)
        v = standard_normal(w.shape[-2:], self.seed + 10 + state.steps, like=w) + zeros_like(w)
        h = grad if self.curvature is None else self.curvature(w, v)
        start = 1.0
        if state.steps == 0:  # (mean v^2 / mean h^2)^(1/4), and 1 for h = 0
            start = ratio(squared(v), squared(h)) ** 0.25
            start = xp.where(start == 0, xp.ones_like(start), start)
        if self.geometry == "kronecker":
            factors, direction = self.kronecker(state.factors, grad, h, v, start)
        else:
            fit = {"triangular": self.triangular, "x-shape": self.x_shape, "low-rank": self.low_rank}[self.geometry]
            g, h, v = (xp.reshape(x, (*w.shape[:-2], w.shape[-2] * w.shape[-1], 1)) for x in (grad, h, v))
            factors, direction = fit(state.factors, g, h, v, start, state.steps)
            direction = xp.reshape(direction, w.shape)
        return decay(w, self.lr, self.weight_decay) - self.lr * direction, self.State(factors, state.steps + 1)

    def triangular(self, factors, g, h, v, start, step):
        """Return Q after one step, and Q^T Q g."""
        q = triangular_step(start * factors[0], h, v, self.precond_lr)
        return (q,), q.mT @ (q @ g)

    def x_shape(self, factors, g, h, v, start, step):
        """Return the diagonal and antidiagonal of Q after one step, and Q^T Q g."""
        d, e = x_step(start * factors[0], start * factors[1], h, v, self.precond_lr)
        return (d, e), x_times(d, _flip(e), x_times(d, e, g))

    def kronecker(self, factors, g, h, v, start):
        """Return Q_L, Q_R and their smoothness estimates after one step, and Q_L^T Q_L G Q_R^T Q_R."""
        xp = array_namespace(g)
        root = start**0.5
        left, right, *smooth = factors
        left, right = root * left, root * right
        a_left, b_left, a_right, b_right = kronecker_gradients(left, right, h, v)
        moved = []
        for q, a, b, size in ((left, a_left, b_left, smooth[0]), (right, a_right, b_right, smooth[1])):
            bound = xp.max(xp.sum(xp.abs(a + b), axis=-1, keepdims=True), axis=-2, keepdims=True)
            size = xp.maximum(0.9 * size + 0.1 * bound, bound)
            moved.append((q - ratio(self.precond_lr * xp.ones_like(size), size) * (xp.triu(a - b) @ q), size))
        (left, l_left), (right, l_right) = moved
        return (left, right, l_left, l_right), left.mT @ (left @ g @ right.mT) @ right

    def low_rank(self, factors, g, h, v, start, step):
        """Return U, V, d after one step, and P g with Q = (I + U V^T) diag(d)."""
        xp = array_namespace(g)
        u, w, d = factors
        d = start * d
        inside = xp.eye(u.shape[-1], dtype=g.dtype, device=device_of(g)) + w.mT @ u

        def times(x):
            x = d * x
            return x + u @ (w.mT @ x)

        def transposed(x):
            return d * (x + w @ (u.mT @ x))

        def inverse_transposed(x):
            x = x / d
            return x - w @ xp.linalg.solve(inside.mT, u.mT @ x)

        def inverse(x):
            return (x - u @ xp.linalg.solve(inside, w.mT @ x)) / d

        a, b = times(h), inverse_transposed(v)
        slope = transposed(a) * h - v * inverse(b)
        moved = d - self.precond_lr * d * ratio(slope, xp.max(xp.abs(slope), axis=-2, keepdims=True))
        first = bool(generator(self.seed + step).integers(2))
        x, y = (u, w) if first else (w, u)  # the factor that moves, and the other
        pulls = [(z @ (z.mT @ y)) if first else (z + w @ (u.mT @ z)) @ (z.mT @ u) for z in (a, b)]
        bound = sum(xp.sqrt(squared(z) * squared(y @ (y.mT @ z))) for z in (a, b))
        pull = (pulls[0] - pulls[1]) @ inside if first else pulls[0] - pulls[1]
        x = x - ratio(self.precond_lr * xp.ones_like(bound), bound) * pull
        u, w = (x, w) if first else (u, x)
        d = moved  # the closures below read the new factors
        return (u, w, d), transposed(times(g))
