"""Schedules on large matrices in float16: the norm in float32, the state in float16, sums in float32.

A normalized n x n matrix has entries near 1/n and a Gram matrix with entries near n^(-3/2): beyond n = 1000 these are
subnormal in float16. The state is therefore Y = X / x and S = R / r with powers of two x, r next to the largest entry,
and the polynomial of a step is taken without its first term, F = c_1 S + c_2 r S^2, so that nothing small stands beside
the identity.
"""

from __future__ import annotations

from dataclasses import dataclass

from .. import kernels
from ..arrays import Array, array_namespace, dtype_name, magnitude, to_host
from .schedule import MUON_QUINTIC, Schedule


@dataclass(frozen=True)
class HalfPrecision:
    """A schedule of odd polynomials of degree 3 or 5, carried out in float16; `polar_factor` takes it as a plan.

    Parameters
    ----------
    schedule : Schedule
        Behind a Frobenius normalization, the only one that needs no product.
    triangles : bool
        On a GPU compute one triangle of each symmetric product by our tensor-core kernel. Off by default: no GPU has
        yet shown that it is faster than twice the work in the vendor's product.

    Notes
    -----
    Cost for m <= n and degree 5: 4 m^2 n + 2 m^3 a step; with `triangles` 3 m^2 n + m^3. Each step rounds the state
    once, to 2^-11 of its largest entry; small singular values carry that error times the slope of what follows, so
    use it for efficiency, not for accuracy. Input and result are float32 or float64. A kernel asks for one number a
    product from the device. On the CPU products of float16 have no BLAS: use float32 there.

    >>> import numpy as np
    >>> g = np.random.default_rng(0).standard_normal((6, 4)).astype(np.float32)
    >>> s = np.linalg.svd(HalfPrecision().apply(g), compute_uv=False)
    >>> bool(0.6 < s.min() and s.max() < 1.3)
    True
    """

    schedule: Schedule = MUON_QUINTIC
    triangles: bool = False

    def __post_init__(self) -> None:
        wrong = [step for step in self.schedule.coefficients if len(step) not in (2, 3)]
        if wrong:
            raise ValueError(f"HalfPrecision has steps of degree 3 and 5; {self.schedule.name} has {wrong[0]}.")
        if self.schedule.normalization.bound != "frobenius":
            raise ValueError(
                f"HalfPrecision needs a Frobenius normalization; {self.schedule.name} has "
                f"{self.schedule.normalization.bound!r}. See Schedule.with_normalization."
            )

    def apply(self, g: Array) -> Array:
        """Return the schedule's value at each matrix, shape (..., m, n), in the dtype of g.

        Zero gives zero, a matrix that is not finite NaN for itself alone.

        Raises
        ------
        TypeError
            For complex matrices, and for an array library without float16.
        """
        xp = array_namespace(g)
        if dtype_name(g) not in ("float32", "float64") or not hasattr(xp, "float16"):
            raise TypeError(f"HalfPrecision needs float32 or float64 and a library with float16; got {dtype_name(g)}.")
        wide = g.shape[-2] <= g.shape[-1]
        single = xp.astype(self.schedule.normalization(g if wide else g.mT), xp.float32)
        x = magnitude(single).scale
        y = xp.astype(single / x, xp.float16)
        for step in self.schedule.coefficients:
            y, x = _step(step, y, x, self.triangles)
        result = xp.astype(xp.astype(y, xp.float32) * x, g.dtype)
        return result if wide else result.mT


def _step(step: tuple[float, ...], y: Array, x: Array, triangles: bool) -> tuple[Array, Array]:
    """Return (Y, x) of the next state c_0 X + c_1 R X + c_2 R^2 X from that of X = x Y."""
    xp = array_namespace(y)
    single = xp.astype(y, xp.float32)
    r = magnitude(xp.sum(single * single, axis=-1, keepdims=True)).scale
    s = _symmetric(triangles, y, y, 1 / r)  # S = Y Y^T / r has entries up to 2; R = x^2 r S
    r = r * x * x
    first, second, third = (*step, 0.0)[:3]
    f = (
        _symmetric(triangles, s, s, third * r, s, second)
        if third
        else xp.astype(second * xp.astype(s, xp.float32), xp.float16)
    )
    update = xp.astype(f @ y, xp.float32)
    following = x * (first * single + r * update)
    x = magnitude(following).scale
    return xp.astype(following / x, xp.float16), x


def _symmetric(triangles: bool, a: Array, b: Array, alpha: Array, d: Array | None = None, beta: float = 0.0) -> Array:
    """Return alpha A B^T + beta D in float16, one triangle of it where a kernel shall."""
    xp = array_namespace(a)
    gpu = kernels.gpu(a) if triangles else None
    if gpu and alpha.size == 1:
        return gpu.symmetric_tensor(a, b, d, alpha=float(to_host(alpha).ravel()[0]), beta=beta)
    # the product is rounded once before alpha, which a power of two forgives; sums of float32 accumulate inside it
    product = alpha * xp.astype(a @ b.mT, xp.float32)
    return xp.astype(product if d is None else product + beta * xp.astype(d, xp.float32), xp.float16)
