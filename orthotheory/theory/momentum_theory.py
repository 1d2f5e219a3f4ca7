"""T4: momentum at an extrapolated point.

The noise is drawn outside the method, so that the recursion of the momentum's error can be checked step by step.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np

from .. import norms
from ..polar import polar_factor
from ..problems import quadratic
from .contract import Assumption, Size, Theorem
from .descent import prefix_mean
from .rates import upper_mean

Field = Callable[[np.ndarray], np.ndarray]
SPECTRAL = norms.Spectral()


class Extrapolated(NamedTuple):
    """A run of spectral descent along the momentum of gradients at Y_k = X_k + ((1 - a)/a)(X_k - X_{k-1}).

    `iterates`, `gradients` are the exact ones at X_k, `errors` = M_k - gradient, `noise` the draws, all
    (steps, seeds, m, n). `grad` and `product`, the Hessian at x times d, are those of the function.
    """

    grad: Field
    iterates: np.ndarray
    gradients: np.ndarray
    errors: np.ndarray
    noise: np.ndarray
    share: np.ndarray  # a_k, (steps,)
    lr: float
    gap: float
    smoothness: float  # in the spectral norm
    curvature_change: float  # T, Lipschitz constant of the Hessian in the sense of the theorem
    sigma: float  # root of E |noise|_F^2
    product: Callable[[np.ndarray, np.ndarray], np.ndarray]


def extrapolated_run(
    grad: Field,
    start: np.ndarray,
    lr: float,
    share: np.ndarray,
    noise: np.ndarray,
    extrapolate: bool = True,
    **constants,
) -> Extrapolated:
    """Run X <- X - lr polar(M), M <- (1 - a) M + a (grad(Y) + noise) from M_0 = grad(X_0) + noise_0."""
    x = before = np.broadcast_to(start, noise.shape[1:])
    m = np.zeros_like(x)
    iterates, gradients, errors = [], [], []
    for k, draw in enumerate(noise):
        a = 1.0 if k == 0 else share[k]
        y = x + (1 - a) / a * (x - before) if extrapolate else x
        m = (1 - a) * m + a * (grad(y) + draw)
        g = grad(x)
        iterates.append(x)
        gradients.append(g)
        errors.append(m - g)
        x, before = x - lr * polar_factor(m), x
    return Extrapolated(grad, np.array(iterates), np.array(gradients), np.array(errors), noise, share, lr, **constants)


def _quadratic_case(
    seed: int, share, lr: float, steps: int, seeds: int, sigma: float, extrapolate: bool = True, alignment="generic"
) -> Extrapolated:
    problem = quadratic(rows=4, columns=3, left_condition=4.0, alignment=alignment, basis="standard", seed=seed)
    noise = np.random.default_rng(seed).standard_normal((steps, seeds, 4, 3)) * sigma
    shares = np.full(steps, share) if np.isscalar(share) else share
    return extrapolated_run(
        problem.grad,
        problem.start,
        lr,
        shares,
        noise,
        extrapolate,
        gap=float(problem.value(problem.start)),
        smoothness=float(problem.smoothness(SPECTRAL)),
        curvature_change=0.0,
        sigma=sigma * np.sqrt(12),
        product=lambda x, d: problem.hessian_product(d),
    )


def _cancellation_cases(size: Size, extrapolate: bool = True) -> Iterator[tuple[str, Extrapolated]]:
    for seed in range(2 if size == "smoke" else 6):
        yield f"constant a, seed {seed}", _quadratic_case(seed, 0.1, 0.02, 60, 3, 0.3, extrapolate)
        harmonic = 1 / (np.arange(60) + 1.0)
        yield f"a = 1/(k+1), seed {seed}", _quadratic_case(seed, harmonic, 0.02, 60, 3, 0.3, extrapolate)


def _is_quadratic(case: Extrapolated) -> bool:
    x, d = case.iterates[:-1], np.diff(case.iterates, axis=0)
    far = case.grad(x + 10.0 + d) - case.grad(x + 10.0)
    return bool(np.allclose(far, case.grad(x + d) - case.grad(x), rtol=0, atol=1e-12 * np.abs(case.gradients).max()))


def recursion(case: Extrapolated) -> np.ndarray:
    """Return 4 + (1 - a_k) e_{k-1} + a_k xi_k for k >= 1."""
    a = case.share[1:, None, None, None]
    return 4 + (1 - a) * case.errors[:-1] + a * case.noise[1:]


def prove_cancellation() -> list[str]:
    """Prove that the drift cancels for a linear gradient H x, in any number of dimensions (shown for one)."""
    import sympy as sp

    a, h, x, before, m, xi = sp.symbols("a H x x_- m xi")
    y = x + (1 - a) / a * (x - before)
    error = (1 - a) * m + a * (h * y + xi) - h * x
    claimed = (1 - a) * (m - h * before) + a * xi
    if sp.simplify(error - claimed) != 0:
        raise ArithmeticError(f"the drift leaves {sp.simplify(error - claimed)}")
    return [r"a\,H\bigl(X+\tfrac{1-a}{a}(X-X_-)\bigr)-HX=-(1-a)HX_-", r"e=(1-a)e_-+a\xi"]


extrapolation_cancels = Theorem(
    label="extrapolation-cancels",
    title="Extrapolation removes the momentum's lag on a quadratic",
    statement=r"M_k-\nabla f(X_k)=(1-a_k)\bigl(M_{k-1}-\nabla f(X_{k-1})\bigr)+a_k\xi_k,\quad "
    r"M_k=(1-a_k)M_{k-1}+a_k\bigl(\nabla f(Y_k)+\xi_k\bigr),\ Y_k=X_k+\tfrac{1-a_k}{a_k}(X_k-X_{k-1})",
    assumes=(Assumption("the Hessian is constant, by differences of gradients along the run", _is_quadratic),),
    kind="identity",
    lhs=lambda c: 4 + c.errors[1:],
    rhs=recursion,
    cases=_cancellation_cases,
    broken=lambda t: dataclasses.replace(t, cases=lambda size: _cancellation_cases(size, extrapolate=False)),
    mistake="the gradient at X_k, as in plain momentum",
    source="ours; the method is [arnold2019reducing]'s",
    tolerance=1e-12,
    reason="each step rounds numbers below ten, and extrapolation multiplies by at most 60",
    proof=prove_cancellation,
)


def _tilted_case(seed: int, share: float, lr: float, steps: int, seeds: int, sigma: float) -> Extrapolated:
    """Separable log cosh on the entries of a 3 x 3 matrix: L and T in the spectral norm from the entries' bounds.

    (log cosh)'' <= 1, |(log cosh)'''| <= t = 4/(3 sqrt 3) and |D|_F^2 <= r |D|_2^2 give L <= r and T <= t sqrt(r) r.
    """
    rng = np.random.default_rng(seed)
    start = 2 * rng.standard_normal((3, 3))
    noise = sigma * rng.standard_normal((steps, seeds, 3, 3))
    top = 4 / (3 * np.sqrt(3))
    return extrapolated_run(
        np.tanh,
        start,
        lr,
        np.full(steps, share),
        noise,
        gap=float(np.sum(np.log(np.cosh(start)))),
        smoothness=3.0,
        curvature_change=top * np.sqrt(3) * 3,
        sigma=sigma * 3,
        product=lambda x, d: d / np.cosh(x) ** 2,
    )


def _bound_cases(size: Size, extrapolate: bool = True) -> Iterator[tuple[str, Extrapolated]]:
    steps, seeds = (150, 20) if size == "smoke" else (600, 20)
    for share in (0.3, 0.1):
        # without a Hessian's change and almost without noise the method is spectral descent: it ends in its cycle
        weak = _quadratic_case(2, share, 0.05, steps, seeds, 1e-4, extrapolate, alignment="commuting")
        yield f"commuting, weak noise, a = {share}", weak
    for seed in range(1 if size == "smoke" else 2):
        for share, lr in ((0.3, 0.05), (0.1, 0.02)):
            yield f"quadratic, a = {share}, seed {seed}", _quadratic_case(seed, share, lr, steps, seeds, 0.3)
            yield f"log cosh, a = {share}, seed {seed}", _tilted_case(seed, share, lr, steps, seeds, 0.3)


def _is_smooth(case: Extrapolated) -> bool:
    """Test L and T on the pairs of neighbors and of ends of the run, in the spectral norm and its dual."""
    x, y = case.iterates[:-1], case.iterates[1:]
    x, y = np.concatenate([x, x]), np.concatenate([y, np.broadcast_to(y[-1:], y.shape)])
    size, change = SPECTRAL.value(y - x), case.grad(y) - case.grad(x)
    rest = change - case.product(x, y - x)
    rounding = 1e-12 * np.abs(case.gradients).max()
    lipschitz = np.all(SPECTRAL.dual(change) <= case.smoothness * size + rounding)
    return bool(lipschitz and np.all(SPECTRAL.dual(rest) <= case.curvature_change / 2 * size**2 + rounding))


def _has_the_noise(case: Extrapolated) -> bool:
    """Test mean zero and E |noise|_F^2 <= sigma^2 on the draws, to five standard errors of Gaussian entries."""
    count = case.noise[..., 0, 0].size
    entries = count * case.noise[0, 0].size
    power = np.mean(np.sum(case.noise**2, axis=(-2, -1)))
    center = np.abs(case.noise.mean(axis=(0, 1))).max()
    deviation = case.sigma / np.sqrt(case.noise[0, 0].size)
    fair = center <= 5 * deviation / np.sqrt(count)
    return bool(fair and power <= case.sigma**2 * (1 + 5 * np.sqrt(2 / entries)))


def upper_prefix_gradient(case: Extrapolated) -> np.ndarray:
    """Return the upper confidence end of the mean over seeds of (1/K) sum |grad f(X_k)|_*."""
    nuclear = np.linalg.svd(case.gradients, compute_uv=False).sum(axis=-1)
    return upper_mean(prefix_mean(nuclear))


def extrapolation_right_side(case: Extrapolated) -> np.ndarray:
    """Return the right side of theorem `extrapolation-bound` for K = 1, ..., steps."""
    k, a, lr = np.arange(1, len(case.share) + 1), float(case.share[0]), case.lr
    rho = np.sqrt(min(case.gradients.shape[-2:]))
    drift = case.smoothness * lr / 2 + case.curvature_change * lr**2 * (1 - a) / a**2
    noise = 2 * rho * case.sigma * (np.sqrt(a / (2 - a)) + 1 / (a * k))
    return case.gap / (lr * k) + drift + noise


extrapolation_bound = Theorem(
    label="extrapolation-bound",
    title="Spectral descent with extrapolated momentum",
    statement=r"\frac1K\sum_{k<K}\mathbb E\|\nabla f(X_k)\|_*\le\frac{\Delta}{\eta K}+\frac{L\eta}{2}"
    r"+T\eta^2\frac{1-a}{a^2}+2\rho\sigma\sqrt{\frac{a}{2-a}}+\frac{2\rho\sigma}{aK}",
    assumes=(
        Assumption("a is constant", lambda c: bool(np.all(c.share == c.share[0]))),
        Assumption("there are 20 independent seeds", lambda c: c.noise.shape[1] == 20),
        Assumption("L and T bound the changes of the gradient and of the Hessian along the run", _is_smooth),
        Assumption("the noise has mean zero and E|noise|_F^2 <= sigma^2", _has_the_noise),
    ),
    kind="upper",
    lhs=upper_prefix_gradient,
    rhs=extrapolation_right_side,
    cases=_bound_cases,
    broken=lambda t: dataclasses.replace(t, cases=lambda size: _bound_cases(size, extrapolate=False)),
    mistake="the gradient at X_k, as in plain momentum",
    source="ours; the rate is in the abstract of [kovalev2025understanding]",
)


THEOREMS = (extrapolation_cancels, extrapolation_bound)
