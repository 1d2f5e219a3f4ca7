"""T4 and N6: momentum at an extrapolated point, and the price of an inexact linear minimization oracle.

The noise is drawn outside the method, so that the recursion of the momentum's error can be checked step by step.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np

from ..polar import polar_factor
from ..problems import quadratic
from . import certificates
from .contract import Assumption, Size, Theorem
from .descent import prefix_mean
from .rates import upper_mean

Field = Callable[[np.ndarray], np.ndarray]


class Extrapolated(NamedTuple):
    """A run of spectral descent along the momentum of gradients at Y_k = X_k + ((1 - a)/a)(X_k - X_{k-1}).

    `gradients` are the exact ones at X_k, `errors` = M_k - gradient, `noise` the draws, all (steps, seeds, m, n).
    """

    gradients: np.ndarray
    errors: np.ndarray
    noise: np.ndarray
    share: np.ndarray  # a_k, (steps,)
    lr: float
    gap: float
    smoothness: float  # in the spectral norm
    curvature_change: float  # T, Lipschitz constant of the Hessian in the sense of the theorem
    sigma: float  # root of E |noise|_F^2


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
    gradients, errors = [], []
    for k, draw in enumerate(noise):
        a = 1.0 if k == 0 else share[k]
        y = x + (1 - a) / a * (x - before) if extrapolate else x
        m = (1 - a) * m + a * (grad(y) + draw)
        g = grad(x)
        gradients.append(g)
        errors.append(m - g)
        x, before = x - lr * polar_factor(m), x
    return Extrapolated(np.array(gradients), np.array(errors), noise, share, lr, **constants)


def _quadratic_case(seed: int, share, lr: float, steps: int, seeds: int, sigma: float, extrapolate: bool = True):
    problem = quadratic(rows=4, columns=3, alignment="generic", basis="standard", seed=seed)
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
        smoothness=float(problem.smoothness(_spectral())),
        curvature_change=0.0,
        sigma=sigma * np.sqrt(12),
    )


@functools.cache
def _spectral():
    from ..norms import Spectral

    return Spectral()


def _cancellation_cases(size: Size, extrapolate: bool = True) -> Iterator[tuple[str, Extrapolated]]:
    for seed in range(2 if size == "smoke" else 6):
        yield f"constant a, seed {seed}", _quadratic_case(seed, 0.1, 0.02, 60, 3, 0.3, extrapolate)
        harmonic = 1 / (np.arange(60) + 1.0)
        yield f"a = 1/(k+1), seed {seed}", _quadratic_case(seed, harmonic, 0.02, 60, 3, 0.3, extrapolate)


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
    statement=r"M_k-\nabla f(X_k)=(1-a_k)\bigl(M_{k-1}-\nabla f(X_{k-1})\bigr)+a_k\xi_k,\quad"
    r"M_k=(1-a_k)M_{k-1}+a_k\bigl(\nabla f(Y_k)+\xi_k\bigr),\ Y_k=X_k+\tfrac{1-a_k}{a_k}(X_k-X_{k-1})",
    assumes=(Assumption("the Hessian is constant", lambda c: c.curvature_change == 0),),
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
    )


def _bound_cases(size: Size) -> Iterator[tuple[str, Extrapolated]]:
    steps, seeds = (150, 20) if size == "smoke" else (600, 20)
    for seed in range(1 if size == "smoke" else 2):
        for share, lr in ((0.3, 0.05), (0.1, 0.02)):
            yield f"quadratic, a = {share}, seed {seed}", _quadratic_case(seed, share, lr, steps, seeds, 0.3)
            yield f"log cosh, a = {share}, seed {seed}", _tilted_case(seed, share, lr, steps, seeds, 0.3)


def upper_prefix_gradient(case: Extrapolated) -> np.ndarray:
    """Return the upper confidence end of the mean over seeds of (1/K) sum |grad f(X_k)|_*."""
    nuclear = np.linalg.svd(case.gradients, compute_uv=False).sum(axis=-1)
    return upper_mean(prefix_mean(nuclear))


def extrapolation_right_side(case: Extrapolated, noise_share: float = 1.0) -> np.ndarray:
    """Return the right side of theorem `extrapolation-bound` for K = 1, ..., steps."""
    k, a, lr = np.arange(1, len(case.share) + 1), float(case.share[0]), case.lr
    rho = np.sqrt(min(case.gradients.shape[-2:]))
    drift = case.smoothness * lr / 2 + case.curvature_change * lr**2 * (1 - a) / a**2
    noise = 2 * rho * case.sigma * (np.sqrt(a / (2 - a)) + 1 / (a * k))
    return case.gap / (lr * k) + drift + noise_share * noise


extrapolation_bound = Theorem(
    label="extrapolation-bound",
    title="Spectral descent with extrapolated momentum",
    statement=r"\frac1K\sum_{k<K}\mathbb E\|\nabla f(X_k)\|_*\le\frac{\Delta}{\eta K}+\frac{L\eta}{2}"
    r"+T\eta^2\frac{1-a}{a^2}+2\rho\sigma\sqrt{\frac{a}{2-a}}+\frac{2\rho\sigma}{aK}",
    assumes=(
        Assumption("a is constant", lambda c: bool(np.all(c.share == c.share[0]))),
        Assumption("there are 20 independent seeds", lambda c: c.noise.shape[1] == 20),
    ),
    kind="upper",
    lhs=upper_prefix_gradient,
    rhs=extrapolation_right_side,
    cases=_bound_cases,
    broken=lambda t: dataclasses.replace(t, rhs=lambda c: c.smoothness * c.lr / 2 + 0 * extrapolation_right_side(c)),
    mistake="neither the initial gap nor the noise",
    source="ours; the rate is in the abstract of [kovalev2025understanding]",
)


class Inexact(NamedTuple):
    """A run along directions with singular values in [lo, hi]: gradients' dual norms, and the constants."""

    duals: np.ndarray
    lo: float
    hi: float
    lr: float
    gap: float
    smoothness: float


def _inexact_cases(size: Size) -> Iterator[tuple[str, Inexact]]:
    steps = 200 if size == "smoke" else 800
    rng = np.random.default_rng(3)
    for lo, hi in ((1.0, 1.0), (0.7, 1.2), (0.3, 1.0)):
        for adverse in (False, True):
            problem = quadratic(rows=5, columns=4, alignment="commuting" if adverse else "generic", basis="standard")
            smoothness = float(problem.smoothness(_spectral()))
            lr = 0.05 * np.sqrt(smoothness)
            x, duals = problem.start, []
            for k in range(steps):
                u, s, vh = np.linalg.svd(problem.grad(x), full_matrices=False)
                late = hi if k > steps // 4 else lo
                factors = np.full(4, late) if adverse else rng.uniform(lo, hi, 4)
                duals.append(s.sum())
                x = x - lr * (u * factors) @ vh
            gap = float(problem.value(problem.start))
            text = f"[{lo}, {hi}], {'adverse' if adverse else 'random'}"
            yield text, Inexact(np.array(duals), lo, hi, lr, gap, smoothness)


def inexact_bound(case: Inexact, power: int = 2) -> np.ndarray:
    """Return gap / (lo lr K) + L lr hi^2 / (2 lo)."""
    k = np.arange(1, len(case.duals) + 1)
    return case.gap / (case.lo * case.lr * k) + case.smoothness * case.lr * case.hi**power / (2 * case.lo)


inexact_oracle = Theorem(
    label="inexact-oracle",
    title="The price of an inexact oracle",
    statement=r"\frac1K\sum_{k<K}\|\nabla f(X_k)\|_*\le\frac{\Delta}{\ell\eta K}+\frac{L\eta h^2}{2\ell},\qquad"
    r"\langle G,D\rangle\le-\ell\|G\|_*,\ \|D\|\le h;\quad\text{best }\eta:\ \frac h\ell\sqrt{2L\Delta/K}",
    assumes=(Assumption("0 < lo <= hi", lambda c: 0 < c.lo <= c.hi),),
    kind="upper",
    lhs=lambda c: prefix_mean(c.duals),
    rhs=inexact_bound,
    cases=_inexact_cases,
    broken=lambda t: dataclasses.replace(
        t, rhs=lambda c: inexact_bound(c) - c.smoothness * c.lr * c.hi**2 / (4 * c.lo)
    ),
    mistake="the second term halved",
    source="ours; consistent with [kim2026convergence]",
    proof=functools.partial(certificates.prove, "inexact-oracle"),
)

THEOREMS = (extrapolation_cancels, extrapolation_bound, inexact_oracle)
