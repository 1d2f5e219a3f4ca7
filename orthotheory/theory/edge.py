"""E2 to E4: generalized sharpness between two certificates, and the steps at which methods become unstable."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from .. import norms
from ..loop import Trace, run
from ..methods import DualScaled
from ..norms import Norm
from ..problems import quadratic
from ..problems.curvature import Form, smoothness
from . import cycle
from .contract import Assumption, Size, Theorem


class Sharpness(NamedTuple):
    """Certificates lower <= sup_{|D| <= 1} <D, H D> <= upper, and the direction that attains `lower`."""

    lower: float
    upper: float
    direction: np.ndarray


def generalized_sharpness(
    hessian: np.ndarray, norm: Norm, shape: tuple[int, int], *, starts: int = 8, limit: int = 500, seed: int = 0
) -> Sharpness:
    """Enclose sup <D, H D> over the unit ball of a norm for a positive semidefinite H of shape (mn, mn).

    Lower: the ascent D <- argmax <H D, .> from random starts; each step maximizes a linear minorant of the convex
    form. Upper: lambda_1(H) times the largest |D|_F^2 of the ball, and for the entries' maximum also sum |H_ij|.
    Where H is a Kronecker product, `problem.smoothness(norm)` is sharper, often exact.
    """
    if hessian.shape != (shape[0] * shape[1],) * 2 or not np.allclose(hessian, hessian.T, rtol=1e-10, atol=0):
        raise ValueError(f"H must be symmetric of size mn = {shape[0] * shape[1]}; got shape {hessian.shape}.")
    top = np.linalg.eigvalsh(hessian)
    if top[0] < -1e-8 * abs(top[-1]):
        raise ValueError(f"H must be positive semidefinite; its smallest eigenvalue is {top[0]:g}.")

    def apply(d):
        return (d.reshape(-1, len(hessian)) @ hessian).reshape(d.shape)

    d = -norm.lmo(np.random.default_rng(seed).standard_normal((starts, *shape)))
    values = np.zeros(starts)
    for _ in range(limit):
        d = -norm.lmo(apply(d))
        before, values = values, np.sum(d * apply(d), axis=(1, 2))
        if np.all(values - before <= 1e-13 * values):
            break
    best = int(np.argmax(values))
    upper = float(top[-1]) * _radius(norm, shape)
    if isinstance(norm, norms.MaxEntry):
        upper = min(upper, float(np.abs(hessian).sum()))
    return Sharpness(float(values[best]), upper, d[best])


def _radius(norm: Norm, shape: tuple[int, int]) -> float:
    """Return the largest |D|_F^2 in the unit ball: the smoothness of the identity Hessian, exact or an upper bound."""
    constant = smoothness(norm, Form(np.eye(shape[0]), np.eye(shape[1])))
    if constant.kind == "lower":
        raise ValueError(f"{norm.name} has no upper bound of |D|_F on its ball.")
    return constant.value


class Enclosure(NamedTuple):
    """A Hessian, a norm, and its enclosure."""

    hessian: np.ndarray
    norm: Norm
    found: Sharpness


def _enclosures(size: Size) -> Iterator[tuple[str, Enclosure]]:
    rng = np.random.default_rng(0)
    geometries: tuple[Norm, ...] = (
        norms.Spectral(),
        norms.MaxEntry(),
        norms.Frobenius(),
        norms.RowMax(),
        norms.Nuclear(),
    )
    for norm in geometries:
        for seed in range(1 if size == "smoke" else 4):
            factor = rng.standard_normal((12, 8))
            for text, h in (("random", factor @ factor.T), ("identity", np.eye(12))):
                yield (
                    f"{text} Hessian, {norm.name}, seed {seed}",
                    Enclosure(h, norm, generalized_sharpness(h, norm, (4, 3))),
                )


sharpness_enclosure = Theorem(
    label="sharpness-enclosure",
    title="Generalized sharpness between an ascent and a trace bound",
    statement=r"\langle D_k,HD_k\rangle\le\sup_{\|D\|\le1}\langle D,HD\rangle\le\lambda_1(H)\sup_{\|D\|\le1}\|D\|_F^2,"
    r"\qquad D_{k+1}\in\operatorname{argmax}_{\|D\|\le1}\langle HD_k,D\rangle",
    assumes=(Assumption("H is positive semidefinite", lambda c: np.linalg.eigvalsh(c.hessian)[0] > -1e-9),),
    kind="upper",
    lhs=lambda c: np.array([c.found.lower]),
    rhs=lambda c: np.array([c.found.upper]),
    cases=_enclosures,
    broken=lambda t: dataclasses.replace(t, rhs=lambda c: np.array([np.linalg.eigvalsh(c.hessian)[-1]])),
    mistake="the largest eigenvalue in every norm",
    source="ours",
)


def _scaled_cases(size: Size, relative: float = 1.99) -> Iterator[tuple[str, Trace]]:
    for seed in range(2 if size == "smoke" else 8):
        for alignment in ("generic", "commuting"):
            problem = quadratic(rows=4, columns=3, left_condition=5.0, alignment=alignment, basis="standard", seed=seed)
            for norm in (norms.Spectral(), norms.MaxEntry(), norms.Frobenius()):
                method = DualScaled(norm, lr=relative / float(problem.smoothness(norm)))
                yield f"{alignment}, {norm.name}, seed {seed}", run(problem, method, 15, record=("gap", "value"))


scaled_edge = Theorem(
    label="scaled-edge",
    title="Dual-scaled descent below twice the inverse generalized sharpness",
    statement=r"f(X-\eta G^\sharp)\le f(X)-\eta\Bigl(1-\frac{\eta L}{2}\Bigr)\|G\|_*^2,\qquad "
    r"\eta<\frac2L\ \Rightarrow\ f\text{ falls},\quad L=\sup_{\|D\|\le1}\langle D,HD\rangle",
    assumes=(
        Assumption(
            "the method is dual-scaled without momentum",
            lambda t: isinstance(t.method, DualScaled) and t.method.momentum == 0,
        ),
    ),
    kind="upper",
    lhs=lambda t: t["gap"][1:] / t["gap"][:-1],
    rhs=lambda t: np.ones(t.steps),
    cases=_scaled_cases,
    broken=lambda t: dataclasses.replace(t, cases=lambda size: _scaled_cases(size, relative=2.4)),
    mistake="a step above 2 / L",
    source="ours",
    tolerance=1e-10,
    reason="gaps far above rounding in fifteen steps",
)

fixed_radius_edge = Theorem(
    label="fixed-radius-edge",
    title="Fixed-radius methods end at the edge",
    statement=r"\frac{\eta}{\operatorname{mean}_{\text{cycle}}\|\nabla f\|_*}=\frac2L,\quad\text{whatever }\eta",
    assumes=cycle.spectral_cycle_commuting.assumes,
    kind="identity",
    lhs=lambda t: t.method.lr / cycle.cycle_mean_gradient(t),
    rhs=lambda t: np.full(4, 2 / float(t.problem.smoothness(norms.Spectral()))),
    cases=cycle.spectral_cycle_commuting.cases,
    broken=lambda t: dataclasses.replace(
        t, rhs=lambda c: np.full(4, 2 / float(c.problem.smoothness(norms.Frobenius())))
    ),
    mistake="the largest eigenvalue as sharpness",
    source="ours",
    tolerance=1e-12,
    reason="as for spectral-cycle-commuting",
)


class Interpolation(NamedTuple):
    """Samples a_i of least squares with zero residual, shape (N, d), and the batch size."""

    samples: np.ndarray
    batch: int = 1


def mean_square_operator(case: Interpolation, lr: float) -> np.ndarray:
    """Return T with E[e+ e+^T] = T(E[e e^T]), shape (d^2, d^2): C - lr (H C + C H) + lr^2 E[H_B C H_B]."""
    a, b = case.samples, case.batch
    h, one = a.T @ a / len(a), np.eye(a.shape[1])
    pairs = (a[:, :, None] * a[:, None, :]).reshape(len(a), -1)
    second = pairs.T @ pairs / len(a) / b + (1 - 1 / b) * np.kron(h, h)
    return np.kron(one, one) - lr * (np.kron(h, one) + np.kron(one, h)) + lr**2 * second


def critical_step(case: Interpolation) -> float:
    """Return the largest step at which SGD is mean-square stable, by bisection on the operator's largest eigenvalue.

    The operator is self-adjoint and its largest eigenvalue a supremum of parabolas in lr, hence convex, 1 at lr = 0.
    """
    a = case.samples
    low, high = 1e-6 / np.sum(a**2) * len(a), 2 / np.linalg.eigvalsh(a.T @ a / len(a))[-1]  # that of GD
    for _ in range(60):
        middle = (low + high) / 2
        stable = np.linalg.eigvalsh(mean_square_operator(case, middle))[-1] < 1
        low, high = (middle, high) if stable else (low, middle)
    return low


def stability_products(case: Interpolation) -> np.ndarray:
    """Return lr (E|a|^4 / b + (1 - 1/b)|H|_F^2) / tr H at the critical lr, and for batch 1 also lr tr H."""
    a, b = case.samples, case.batch
    h = a.T @ a / len(a)
    fourth = np.mean(np.sum(a**2, axis=1) ** 2)
    lr = critical_step(case)
    refined = lr * (fourth / b + (1 - 1 / b) * np.sum(h**2)) / np.trace(h)
    return np.array([refined, lr * np.trace(h)] if b == 1 else [refined])


def _interpolations(size: Size) -> Iterator[tuple[str, Interpolation]]:
    rng = np.random.default_rng(6)
    for d, count in ((2, 4), (3, 12), (4, 10)) if size == "smoke" else ((2, 4), (3, 12), (4, 10), (5, 30), (4, 200)):
        a = rng.standard_normal((count, d)) * np.linspace(1, 0.3, d)
        for b in (1, 2, 4):
            yield f"{count} samples in {d}, batch {b}", Interpolation(a, b)


def _equal_norms(size: Size) -> Iterator[tuple[str, Interpolation]]:
    for text, case in _interpolations(size):
        if case.batch == 1:
            yield f"{text}, equal norms", Interpolation(case.samples / np.linalg.norm(case.samples, axis=1)[:, None])


def _spans(case: Interpolation) -> bool:
    a = case.samples
    return bool(np.linalg.eigvalsh(a.T @ a / len(a))[0] > 1e-9)


SPANS = Assumption("the samples span the space", _spans)

mean_square_edge = Theorem(
    label="mean-square-edge",
    title="Mean-square stability of SGD bounds the step by the trace",
    statement=r"\rho(T)\le1\ \Rightarrow\ \eta\Bigl[\tfrac1b\mathbb E\|a\|^4+\bigl(1-\tfrac1b\bigr)\|H\|_F^2\Bigr]"
    r"\le2\operatorname{tr}H,\qquad b=1:\ \eta\operatorname{tr}H\le2",
    assumes=(SPANS,),
    kind="upper",
    lhs=stability_products,
    rhs=lambda c: np.full(2 if c.batch == 1 else 1, 2.0),
    cases=_interpolations,
    broken=lambda t: dataclasses.replace(t, rhs=lambda c: np.full(2 if c.batch == 1 else 1, 1.0)),
    mistake="1 in place of 2",
    source="[wu2023implicit]; this proof is ours",
)

equal_norm_edge = Theorem(
    label="equal-norm-edge",
    title="For samples of equal length the trace threshold is exact",
    statement=r"\|a_i\|\equiv\text{const}\ \Rightarrow\ \eta_{\mathrm{crit}}\operatorname{tr}H=2",
    assumes=(
        SPANS,
        Assumption("all samples have one norm", lambda c: bool(np.ptp(np.linalg.norm(c.samples, axis=1)) < 1e-12)),
    ),
    kind="identity",
    lhs=lambda c: stability_products(c)[1:],
    rhs=lambda c: np.array([2.0]),
    cases=_equal_norms,
    broken=lambda t: dataclasses.replace(
        t,
        rhs=lambda c: (
            2
            * np.trace(c.samples.T @ c.samples)
            / len(c.samples)
            / np.linalg.eigvalsh(c.samples.T @ c.samples / len(c.samples))[-1:]
        ),
    ),
    mistake="the threshold of gradient descent, 2 / lambda_1",
    source="ours",
    tolerance=1e-9,
    reason="sixty bisections on an eigenvalue rounded to 1e-15, whose slope in lr is of order tr H",
)

THEOREMS = (sharpness_enclosure, scaled_edge, fixed_radius_edge, mean_square_edge, equal_norm_edge)
