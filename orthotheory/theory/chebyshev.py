"""Q4 in finite time: what gradient descent and heavy ball lose after k steps against Chebyshev's optimum.

On a mode of curvature h a method multiplies the error by a polynomial p_k(h) with p_k(0) = 1. The least that the
largest |p_k| on [mu, L] can be is 1 / T_k(s), s = (L + mu) / (L - mu); it is already the least over the k + 1 points
where T_k is extreme.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from .contract import Assumption, Size, Theorem
from .quadratic_rates import Momentum, heavy_ball_errors, polyak


class Spectrum(NamedTuple):
    """The ends of the spectrum and a number of steps k >= 1."""

    low: float
    high: float
    steps: int

    @property
    def center(self) -> float:
        """s = (L + mu) / (L - mu), above 1."""
        return (self.high + self.low) / (self.high - self.low)

    def extremes(self) -> np.ndarray:
        """Return the k + 1 curvatures at which T_k is extreme, both ends among them."""
        points = np.cos(np.pi * np.arange(self.steps + 1) / self.steps)
        return (self.high + self.low) / 2 - (self.high - self.low) / 2 * points


def chebyshev_value(case: Spectrum) -> float:
    """Return T_k(s) = cosh(k arcosh s), with arcosh s = log(1 / rho), rho = (sqrt kappa - 1) / (sqrt kappa + 1)."""
    return float(np.cosh(case.steps * np.arccosh(case.center)))


def chebyshev_coefficients(case: Spectrum) -> list[tuple[float, float]]:
    """Return (lr_k, b_k) of x+ = x - lr_k grad + b_k (x - x-), from T_{k+1} = 2 z T_k - T_{k-1} at z = s and scaled."""
    s, half = case.center, (case.high - case.low) / 2
    pairs = [(1 / (s * half), 0.0)]
    before, now = 1.0, s  # T_0(s), T_1(s)
    for _ in range(case.steps - 1):
        after = 2 * s * now - before
        pairs.append((2 * now / (half * after), before / after))
        before, now = now, after
    return pairs


def run_modes(curvatures: np.ndarray, coefficients: list[tuple[float, float]]) -> np.ndarray:
    """Return the errors after the last step from 1 on every mode."""
    x = before = np.ones(len(curvatures))
    for lr, b in coefficients:
        x, before = x - lr * curvatures * x + b * (x - before), x
    return x


def nesterov_errors(case: Spectrum) -> np.ndarray:
    """Return |x_k| of y = x + b (x - x-), x+ = y - grad(y) / L with b = (sqrt kappa - 1) / (sqrt kappa + 1)."""
    h, root = case.extremes(), np.sqrt(case.high / case.low)
    x = before = np.ones(len(h))
    b = (root - 1) / (root + 1)
    for _ in range(case.steps):
        y = x + b * (x - before)
        x, before = y - h * y / case.high, x
    return np.abs(x)


def worst_errors(case: Spectrum) -> np.ndarray:
    """Return max |p_k| over the extreme points: Chebyshev, gradient descent, heavy ball, Nesterov, random steps."""
    h = case.extremes()
    constant = [(2 / (case.high + case.low), 0.0)] * case.steps
    momentum = polyak(h, case.steps)
    drawn = 1 / np.random.default_rng(case.steps).uniform(case.low, case.high, case.steps)
    runs = [chebyshev_coefficients(case), constant, [(float(lr), 0.0) for lr in drawn]]
    chebyshev, descent, scattered = (np.abs(run_modes(h, c)).max() for c in runs)
    ball = heavy_ball_errors(momentum)[-1].max()
    return np.array([chebyshev, descent, ball, nesterov_errors(case).max(), scattered])


def _spectra(size: Size) -> Iterator[tuple[str, Spectrum]]:
    for kappa in (4.0, 100.0, 1e4):
        for steps in (1, 2, 7, 30) if size == "smoke" else (1, 2, 3, 5, 7, 12, 30, 60, 120):
            yield f"condition {kappa:g}, {steps} steps", Spectrum(1 / kappa, 1.0, steps)


def prove_chebyshev() -> list[str]:
    """Prove for k <= 4 that p_k = T_k(s - t h)/T_k(s) is what the momentum recursion builds, with p_k(0) = 1."""
    import sympy as sp

    h, s, half = sp.symbols("h s r", positive=True)  # r = (L - mu) / 2, s r = (L + mu) / 2
    now, before = 1 - h / (s * half), sp.Integer(1)
    for k in range(1, 4):
        t = [sp.chebyshevt(i, s) for i in (k - 1, k, k + 1)]
        lr, b = 2 * t[1] / (half * t[2]), t[0] / t[2]
        now, before = now - lr * h * now + b * (now - before), now
        residual = sp.simplify(now - sp.chebyshevt(k + 1, s - h / half) / t[2])
        if residual != 0:
            raise ArithmeticError(f"the recursion leaves {residual} at step {k + 1}")
    return [
        r"p_k(h)=T_k\bigl(s-\tfrac{2h}{L-\mu}\bigr)/T_k(s),\quad p_k(0)=1",
        r"T_{k+1}=2zT_k-T_{k-1}\ \Rightarrow\ \eta_k=\tfrac{4}{L-\mu}\tfrac{T_k(s)}{T_{k+1}(s)},\ "
        r"b_k=\tfrac{T_{k-1}(s)}{T_{k+1}(s)}",
        r"\max_{0\le j\le k}|p(h_j)|<1/T_k(s)\ \Rightarrow\ p_k-p\text{ changes sign }k\text{ times on }[\mu,L]"
        r"\text{ and vanishes at }0",
    ]


BELOW = Assumption("0 < mu < L and there is a step", lambda c: 0 < c.low < c.high and c.steps >= 1)

chebyshev_optimum = Theorem(
    label="chebyshev-optimum",
    title="The least error after k gradient steps",
    statement=r"\frac1{T_k\bigl(\frac{L+\mu}{L-\mu}\bigr)}=\frac{2\rho^k}{1+\rho^{2k}}\le\max_{\mu\le h\le L}|p(h)|"
    r"\quad\text{for every }p,\ \deg p\le k,\ p(0)=1",
    assumes=(BELOW,),
    kind="tight",
    lhs=lambda c: np.full(5, 1 / chebyshev_value(c)),
    rhs=worst_errors,
    cases=_spectra,
    broken=lambda t: dataclasses.replace(t, lhs=lambda c: np.full(5, 2 * rate(c) ** c.steps)),
    mistake="2 rho^k, the optimum for many steps",
    source="classical",
    tolerance=1e-10,
    reason="errors above 1e-12 of the start would lose digits; the recursion multiplies by 2 T_k / T_{k+1} < 2",
    proof=prove_chebyshev,
)  # fmt: skip


def rate(case: Spectrum) -> float:
    """Return rho = (sqrt kappa - 1) / (sqrt kappa + 1)."""
    root = np.sqrt(case.high / case.low)
    return float((root - 1) / (root + 1))


def measured_loss(case: Spectrum) -> np.ndarray:
    """Return the worst errors of gradient descent and of heavy ball over that of Chebyshev's steps."""
    worst = worst_errors(case)
    return worst[1:3] / worst[0]


def stated_loss(case: Spectrum, sign: int = 1) -> np.ndarray:
    """Return ((kappa - 1)/(kappa + 1))^k T_k(s) and rho^k (1 + k (1 + rho)) T_k(s), attained at h = L."""
    k, rho, top = case.steps, rate(case), chebyshev_value(case)
    return np.array([case.center**-k * top, rho**k * (1 + k * (1 + sign * rho)) * top])


momentum_finite_time = Theorem(
    label="momentum-finite-time",
    title="Heavy ball loses a factor that grows with k, gradient descent one that grows geometrically",
    statement=r"\frac{\max_h|p^{\mathrm{HB}}_k|}{\min_p\max_h|p|}=\frac{(1+k(1+\rho))(1+\rho^{2k})}{2},\qquad "
    r"\frac{\max_h|p^{\mathrm{GD}}_k|}{\min_p\max_h|p|}=\Bigl(\frac{\kappa-1}{\kappa+1}\Bigr)^k"
    r"\frac{1+\rho^{2k}}{2\rho^k},\quad\rho=\frac{\sqrt\kappa-1}{\sqrt\kappa+1}",
    assumes=(BELOW,),
    kind="identity",
    lhs=measured_loss,
    rhs=stated_loss,
    cases=_spectra,
    broken=lambda t: dataclasses.replace(t, rhs=lambda c: stated_loss(c, sign=-1)),
    mistake="the double root at the other end of the spectrum, 1 + k (1 - rho)",
    source="ours; the optimum is classical, the method [polyak1964some]'s",
    tolerance=1e-9,
    reason="a double root: an error of eps in b moves it by sqrt(eps) but its power by k^2 eps",
)


def chebyshev_drift(case: Spectrum) -> np.ndarray:
    """Return the last lr and momentum of Chebyshev's steps."""
    return np.array(chebyshev_coefficients(case)[-1])


def polyak_limit(case: Spectrum) -> np.ndarray:
    """Return Polyak's lr and momentum times their exact corrections after k steps."""
    limit: Momentum = polyak(np.array([case.low, case.high]), 1)
    k, rho = case.steps, rate(case)
    below, now, after = (1 + rho ** (2 * j) for j in (k - 2, k - 1, k))
    return np.array([limit.lr * now / after, limit.momentum * below / after])


chebyshev_is_heavy_ball = Theorem(
    label="chebyshev-heavy-ball",
    title="Heavy ball is the limit of Chebyshev's steps",
    statement=r"\eta_k=\eta_{\mathrm{HB}}\,\frac{1+\rho^{2(k-1)}}{1+\rho^{2k}},\qquad "
    r"b_k=b_{\mathrm{HB}}\,\frac{1+\rho^{2(k-2)}}{1+\rho^{2k}}",
    assumes=(BELOW, Assumption("there are two steps or more", lambda c: c.steps >= 2)),
    kind="identity",
    lhs=chebyshev_drift,
    rhs=polyak_limit,
    cases=lambda size: ((text, c) for text, c in _spectra(size) if c.steps >= 2),
    broken=lambda t: dataclasses.replace(
        t, rhs=lambda c: np.array([polyak_limit(c)[0], polyak(c.extremes(), 1).momentum])
    ),
    mistake="Polyak's momentum from the second step on",
    source="ours; both methods are classical",
    tolerance=1e-11,
    reason="the ratio of neighbors of a growing recurrence of at most 120 terms",
)

THEOREMS = (chebyshev_optimum, momentum_finite_time, chebyshev_is_heavy_ball)
