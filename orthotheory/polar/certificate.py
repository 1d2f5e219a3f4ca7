"""What can be proved about a computed polar factor from the matrices alone, whatever algorithm made it.

All of it rests on one inequality (theorem `polar-forward-bound`): for G = H Q with Q = polar(G) and any isometry Q~
and Hermitian S,

    |Q - Q~|_F <= 2 |G - S Q~|_F / (sigma_min(G) + lambda_min(S)),    sigma_min(G) >= lambda_min(S) - |G - S Q~|_2.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np

from ..arrays import Array, Magnitude, array_namespace, check_matrix, device_of, dtype_name, magnitude
from .newton import NewtonStep
from .normalization import Normalization
from .plan import Plan, Step
from .reduction import adjoint
from .schedule import Schedule, image

ROUNDOFF = {"float16": 2.0**-11, "bfloat16": 2.0**-8, "float32": 2.0**-24, "float64": 2.0**-53}
UNIT = ROUNDOFF["float64"]  # of the certificate's own arithmetic
DROP = 64  # a squared singular value of X below 64 (m + n) u times the largest counts as 0
LARGEST = 1e150  # a singular value that still has a square


@dataclass(frozen=True)
class Certificate:
    """Bounds for X as an approximation of polar(G); every field has the batch shape, in float64.

    Parameters
    ----------
    singular_low, singular_high : array
        Extreme singular values of X.
    rho : array
        Upper bound of |I - X X^H|_2 on the short side; 1 or more where X has no full rank.
    distance : array
        Upper bound of |X - polar(X)|_2 = max |1 - s_i|, at most rho / (1 + sqrt(1 - rho)) (theorem
        `orthogonality-distance`) for rho < 1.
    skew, leak, backward : array
        Relative to |G|_F: the skew-Hermitian part of G Q^H, the part of G outside the row space of Q, and both
        together, where Q = polar(X): Q is exactly the polar factor of a matrix at that relative distance from G,
        if `definite`.
    definite : array of bool
        Whether the Hermitian part of G Q^H is proved to be positive definite.
    forward : array
        Upper bound of |X - polar(G)|_F; infinite where nothing can be proved (G near a rank-deficient matrix).
    direction : array
        Upper bound of |polar(X) - polar(G)|_F, the part of `forward` that is not the spread of singular values.
    efficiency : array
        Lower bound of <G, X> / (|X|_2 |G|_*), the share of the best linear decrease in a spectral ball.
    planned_efficiency : array
        The same from the schedule alone, without a factorization (`planned_efficiency`); NaN without a plan.
    floor : array
        Upper bound of |polar(G) - polar(G + dG)|_F for a rounding |dG|_F <= u |G|_F of the input.
    limited : array of bool
        Whether the measured error is at most 4 sqrt(m) floor, what a backward stable algorithm leaves in the precision
        of the input: more steps do not help, more digits of the input would ("limited by the rounding of the input").
    inside, outside : array of bool
        Whether the singular values behind the plan's normalization are proved to lie in its input interval, or one of
        them is proved not to; both False where neither can be proved or no plan is given.
    """

    singular_low: Array
    singular_high: Array
    rho: Array
    distance: Array
    skew: Array
    leak: Array
    backward: Array
    definite: Array
    forward: Array
    direction: Array
    efficiency: Array
    planned_efficiency: Array
    floor: Array
    limited: Array
    inside: Array
    outside: Array

    def __str__(self) -> str:
        """Summarize a single matrix in one line."""
        if self.rho.ndim:
            return f"Certificate of a batch of shape {tuple(self.rho.shape)}"
        text = (
            f"singular values in [{float(self.singular_low):.6g}, {float(self.singular_high):.6g}], distance to the "
            f"polar factor at most {float(self.forward):.3g}, efficiency at least {float(self.efficiency):.6g}"
        )
        return text + ("; limited by the rounding of the input" if bool(self.limited) else "")


def certify(
    g: Array, x: Array, *, plan: Schedule | Plan | None = None, input_precision: str | None = None
) -> Certificate:
    """Prove bounds for x as an approximation of the polar factor of g.

    Parameters
    ----------
    g, x : array (..., m, n)
        The matrices and the computed factors, of one shape; real or complex.
    plan : Schedule or Plan, optional
        What made x: adds `planned_efficiency`, `inside` and `outside`, if its normalization is a proven bound of the
        spectral norm (an estimate such as `spectrum.Lanczos` is none, AOL is no scaling) and its steps end at 0 in 0.
    input_precision : str, optional
        "bfloat16", "float16", "float32" or "float64": the precision that g was rounded to; its dtype if not given.

    Returns
    -------
    Certificate

    Raises
    ------
    ValueError, TypeError
        For shapes that differ, a vector or a dtype that is not floating, an unknown precision.

    Notes
    -----
    Everything is computed in float64 or complex128, whatever the dtype, and its rounding is allowed for with k u
    |A|_F |B|_F for a product with inner dimension k and 8 k u |A|_2 for eigenvalues, u = 2^-53. Neither scale matters.
    A non-finite member gives NaN (and False). G = X = 0 is exact: forward 0, efficiency 1. At rank deficiency
    `forward` is infinite; `efficiency` stays valid. Factors with entries beyond 1e150 are at infinite distance.
    Cost, with r = long / short side: 6 r + 1 products of the short side, an eigenproblem of X X^H and the eigenvalues
    of G Q^H; the function `planned_efficiency` costs one inner product.

    >>> from orthotheory.polar import POLAR_EXPRESS, polar_factor
    >>> g = np.array([[3.0, 1.0], [0.0, 2.0]])
    >>> bool(certify(g, polar_factor(g)).forward < 1e-13)
    True
    """
    for name, a in (("g", g), ("x", x)):
        check_matrix(a, f"certify({name})", complex_allowed=True)
    if tuple(g.shape) != tuple(x.shape):
        raise ValueError(f"certify needs g and x of one shape; got {tuple(g.shape)} and {tuple(x.shape)}.")
    unit = _unit(g, input_precision)
    xp = array_namespace(g, x)
    g, x = _wide(g), _wide(x)
    y = None if plan is None else _normalized(plan, g)
    slack = 4 * float(xp.finfo(g.dtype).eps)  # of the quotients |y|_F / |g|_F
    size_g, size_x = magnitude(g), magnitude(x)
    finite = (size_g.finite & size_x.finite)[..., 0, 0]
    g, x = _double(size_g.normalize(g)), _double(size_x.normalize(x))
    m, n = g.shape[-2:]

    q, root = _polar_of(x)
    spread = (n + 8 * m) * UNIT * xp.sum(root * root, axis=-1)  # error of the squared singular values, in x's scale
    scale, huge = _factor(size_x)
    s, top = scale * root, xp.max(root, axis=-1)
    rho = xp.where(huge, np.inf + spread, xp.max(xp.abs(1 - s * s), axis=-1) + scale[..., 0] ** 2 * spread + 4 * UNIT)
    dropped = xp.sqrt(DROP * (n + m) * UNIT * top * top + spread)[..., None]  # what a singular value of 0 may be
    blur = xp.minimum(xp.sqrt(spread)[..., None], spread[..., None] / _positive(root))
    blur = scale * xp.where(root > 0, blur, dropped) + 4 * UNIT
    slip = _norm(_eye(q) - q @ adjoint(q)) + (n + 2) * UNIT * m  # how far q is from an isometry, at most

    product = g @ adjoint(q)
    hermitian, skew = _parts(product)
    norm_g, norm_s = _norm(g), _norm(hermitian)
    eigenvalues = xp.linalg.eigvalsh(hermitian)
    allowed = 8 * m * UNIT * norm_s
    lowest = xp.min(eigenvalues, axis=-1) - allowed
    largest = xp.max(xp.abs(eigenvalues), axis=-1) + allowed
    measured = _norm(g - hermitian @ q)
    residual = measured + (m + 4) * UNIT * (norm_g + m**0.5 * norm_s) + largest * slip
    smallest = lowest - residual  # of the singular values of g

    zero = norm_g == 0
    nothing, infinite = xp.zeros_like(norm_g), xp.full_like(norm_g, np.inf)
    proved = (slip < 0.5) & (lowest + smallest > 0)
    gap = xp.where(proved, lowest + smallest, xp.ones_like(norm_g))
    uneven = xp.where(huge, infinite, xp.sqrt(xp.sum((xp.abs(s - 1) + blur) ** 2, axis=-1)))
    exact = zero & (top == 0)
    direction = xp.where(exact, nothing, xp.where(proved, slip + 2 * residual / gap, infinite))
    forward = xp.where(exact, nothing, direction + uneven)

    least = xp.min(xp.where(root > 0, root, top[..., None]), axis=-1)
    stretch = xp.sqrt(1 + spread / _positive(least * least))  # |Q|_2 at most, where X is nearly deficient
    nuclear = stretch * (xp.sum(xp.abs(eigenvalues), axis=-1) + m * allowed) + m**0.5 * residual
    value = _inner(g, x) - m * n * UNIT * norm_g * _norm(x)
    efficiency = value / _positive(xp.sqrt(top * top + spread) * nuclear)
    ascends = xp.maximum(value / _positive(top * norm_g), -xp.ones_like(value))  # |G|_* >= |G|_F
    efficiency = xp.where(value >= 0, efficiency, ascends)

    rounding = unit * norm_g
    solid = proved & (2 * smallest > rounding)
    floor = xp.where(solid, 2 * rounding / xp.where(solid, 2 * smallest - rounding, xp.ones_like(norm_g)), infinite)

    planned, inside, outside = xp.full_like(norm_g, np.nan), zero & ~zero, zero & ~zero
    if plan is not None and y is not None:
        planned = _planned(plan, y, x * scale[..., None])
        tau, low = _norm(y) / _positive(norm_g), _interval(plan)[0]
        inside = tau * smallest * (1 - slack) >= low
        outside = tau * (xp.min(xp.abs(eigenvalues), axis=-1) + allowed + residual) * (1 + slack) < low

    def known(a: Array) -> Array:
        return a & finite if xp.isdtype(a.dtype, "bool") else xp.where(finite, a, xp.full_like(a, np.nan))

    relative = 1 / _positive(norm_g)
    fields = {
        "singular_low": xp.min(s, axis=-1),
        "singular_high": xp.max(s, axis=-1),
        "rho": rho,
        "distance": xp.where(huge, infinite, xp.max(xp.abs(1 - s) + blur, axis=-1)),
        "skew": _norm(skew) * relative,
        "leak": _norm(g - product @ q) * relative,
        "backward": residual * relative,
        "definite": lowest > 0,
        "forward": forward,
        "direction": direction,
        "efficiency": xp.where(zero, xp.ones_like(norm_g), efficiency),
        "planned_efficiency": planned,
        "floor": floor,
        "limited": proved & (uneven + 2 * measured / gap <= 4 * m**0.5 * floor),
        "inside": inside,
        "outside": outside,
    }
    return Certificate(**{name: known(a) for name, a in fields.items()})


def orthogonality(x: Array) -> tuple[Array, Array]:
    """Return rho = |I - X X^H|_F >= |I - X X^H|_2 and the bound of |X - polar(X)|_2, each of the batch shape.

    Infinite where the squares leave the dtype, NaN where x is not finite.
    Cost: one Gram product in the dtype of x, whose rounding it does not allow for (certify does).
    """
    check_matrix(x, "orthogonality", complex_allowed=True)
    xp = array_namespace(x)
    x, size = _wide(x), magnitude(x)
    small = size.scale < float(xp.finfo(x.dtype).max) ** 0.25 / x.shape[-2]  # fourth powers are finite
    y = xp.where(small & size.finite, x, xp.zeros_like(x))
    rho = _norm(_eye(y) - y @ adjoint(y))
    rho = xp.where(small[..., 0, 0], rho, xp.full_like(rho, np.inf)) + size.nan()[..., 0, 0]
    return rho, _distance(rho)


def planned_efficiency(plan: Schedule | Plan, g: Array, x: Array) -> Array:
    """Return a lower bound of <G, X> / (|X|_2 |G|_*) from what the plan does to any singular value.

    For X = p(G / tau) with sigma_1(G / tau) <= u and every a > 0 (theorem `lmo-efficiency`)

        |G|_* <= <G, X> / a + m tau max_{0 <= s <= u} s (1 - p(s) / a),        |X|_2 <= max |p| on [0, u].

    The best of 128 values of a is taken; p may be any map, increasing or not. The maximum is bounded from the exact
    images of 4000 cells. An X that ascends gets -1; where a plan's normalization is no proven bound the result is NaN.
    Cost: one inner product and the normalization.

    >>> from orthotheory.polar import MUON_QUINTIC
    >>> g = np.eye(4)
    >>> bool(planned_efficiency(MUON_QUINTIC, g, MUON_QUINTIC.apply(g)) > 0.5)
    True
    """
    check_matrix(g, "planned_efficiency", complex_allowed=True)
    xp = array_namespace(g, x)
    g, x, nan = _wide(g), _wide(_double(x)), magnitude(g).nan()[..., 0, 0]
    y = _normalized(plan, g)
    return xp.full_like(_norm(x), np.nan) if y is None else _planned(plan, y, x) + nan


@functools.lru_cache(maxsize=64)
def deficit(steps: tuple[Step, ...], top: float) -> tuple[np.ndarray, np.ndarray, float]:
    """Return 128 values a, upper bounds of max_{0 <= s <= top} s (1 - p(s) / a) for each, and max |p| on [0, top]."""
    edges = np.concatenate([[0.0], np.geomspace(1e-8 * top, top, 4001)])
    low, high = edges[:-1], edges[1:]
    for step in steps:
        low, high = _images(step, low, high)
    highest = max(float(high.max()), -float(low.min()))
    short = np.sort(np.concatenate([np.geomspace(1e-7, 1e-2, 64), np.linspace(0.01, 0.99, 65)[1:]]))
    a = highest * (1 - short)
    worst = (edges[1:] * np.maximum(0.0, 1 - low / a[:, None])).max(axis=1)
    return a, worst, highest


def _images(step: Step, low: np.ndarray, high: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the exact images of many intervals under one step."""
    if isinstance(step, tuple):
        return image((step,), low, high)
    ends = step(low), step(high)
    bottom, top = np.minimum(*ends), np.maximum(*ends)
    for turning in step.extremes:
        value, inside = step(turning), (low < turning) & (turning < high)
        bottom = np.where(inside, np.minimum(bottom, value), bottom)
        top = np.where(inside, np.maximum(top, value), top)
    return bottom, top


def _steps(plan: Schedule | Plan) -> tuple[Step, ...]:
    return plan.steps if isinstance(plan, Plan) else plan.coefficients


def _interval(plan: Schedule | Plan) -> tuple[float, float]:
    return plan.interval if isinstance(plan, Plan) else plan.input_interval


def _normalized(plan: Schedule | Plan, g: Array) -> Array | None:
    """Return G / tau in double precision, or None where the plan proves no bound for it."""
    norm = plan.normalization
    if not isinstance(norm, Normalization) or not norm.is_scaling:
        return None
    return None if any(isinstance(step, NewtonStep) for step in _steps(plan)) else _double(norm(g))


def _planned(plan: Schedule | Plan, y: Array, x: Array) -> Array:
    xp = array_namespace(y, x)
    assert isinstance(plan.normalization, Normalization)  # `_normalized` gave y
    m = y.shape[-2]
    a, worst, highest = deficit(_steps(plan), plan.normalization.top * (1 + 1e-12))  # rounding of the normalization
    value = _inner(y, x)
    bound = xp.stack([value / float(b) + m * float(w) for b, w in zip(a, worst, strict=True)], axis=-1)
    nuclear = xp.min(xp.where(bound > 0, bound, xp.full_like(bound, np.inf)), axis=-1)
    return xp.where(value >= 0, value / (highest * nuclear), -1 + 0 * value)  # NaN stays


def _polar_of(x: Array) -> tuple[Array, Array]:
    """Return the polar factor of x from its Gram matrix, and its singular values, ascending."""
    xp = array_namespace(x)
    m, n = x.shape[-2:]
    values, vectors = xp.linalg.eigh(x @ adjoint(x))
    kept = values > DROP * (n + m) * UNIT * xp.max(values, axis=-1, keepdims=True)
    root = xp.sqrt(xp.where(kept, values, xp.zeros_like(values)))
    inverse = xp.where(kept, 1 / _positive(root), xp.zeros_like(root))
    return ((vectors * inverse[..., None, :]) @ adjoint(vectors)) @ x, root


def _factor(size: Magnitude) -> tuple[Array, Array]:
    """Return the power of two that x was divided by, in float64, clipped at 1e150, and where it was clipped."""
    xp = array_namespace(size.scale)
    factor = xp.astype(size.scale[..., 0, 0], xp.float64)
    return xp.minimum(factor, xp.full_like(factor, LARGEST))[..., None], factor > LARGEST


def _distance(rho: Array) -> Array:
    """rho / (1 + sqrt(1 - rho)) below 1; beyond, singular values lie in [0, sqrt(1 + rho)]."""
    xp = array_namespace(rho)
    below = rho / (1 + xp.sqrt(xp.maximum(1 - rho, xp.zeros_like(rho))))
    return xp.where(rho < 1, below, xp.maximum(xp.sqrt(1 + rho) - 1, xp.ones_like(rho)))


def _unit(g: Array, precision: str | None) -> float:
    name = precision or {"complex64": "float32", "complex128": "float64"}.get(dtype_name(g), dtype_name(g))
    if name not in ROUNDOFF:
        raise ValueError(f"input_precision must be one of {', '.join(ROUNDOFF)}; got {name!r}.")
    return ROUNDOFF[name]


def _is_complex(a: Array) -> bool:
    return bool(array_namespace(a).isdtype(a.dtype, "complex floating"))


def _wide(a: Array) -> Array:
    return a if a.shape[-2] <= a.shape[-1] else a.mT


def _double(a: Array) -> Array:
    xp = array_namespace(a)
    return xp.astype(a, xp.complex128 if _is_complex(a) else xp.float64)


def _inner(a: Array, b: Array) -> Array:
    """Re <a, b> of each pair."""
    xp = array_namespace(a, b)
    return xp.sum(xp.real(a * xp.conj(b)) if _is_complex(a) else a * b, axis=(-2, -1))


def _eye(a: Array) -> Array:
    xp = array_namespace(a)
    return xp.eye(a.shape[-2], dtype=a.dtype, device=device_of(a))


def _norm(a: Array) -> Array:
    xp = array_namespace(a)
    b = xp.abs(a)
    return xp.sqrt(xp.sum(b * b, axis=(-2, -1)))


def _parts(a: Array) -> tuple[Array, Array]:
    return (a + adjoint(a)) / 2, (a - adjoint(a)) / 2


def _positive(a: Array) -> Array:
    xp = array_namespace(a)
    return xp.where(a > 0, a, xp.ones_like(a))
