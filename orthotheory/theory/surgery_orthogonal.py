"""Surgery and orthogonalization: what the polar factor keeps of a projection, and what it voids."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np

from ..norms import Nuclear
from ..polar import SCHEDULES, Schedule, polar_factor
from ..polar.schedule import odd_value
from ..problems import orthogonal
from ..surgery import UPGrad
from ..surgery.orthogonal import SpectralStep, progress, spectral_mgda
from ..surgery.subspace import Subspace
from .contract import Assumption, Size, Theorem

Map = Callable[[np.ndarray], np.ndarray]
EPS = float(np.finfo(float).eps)


def elongated(a: float) -> tuple[np.ndarray, np.ndarray]:
    """Return the update diag(a, 1) and the gradient diag(1, 1 - a) of one objective."""
    return np.diag([a, 1.0]), np.diag([1.0, 1.0 - a])


def agreeing(a: float) -> np.ndarray:
    """Return gradients of two objectives, (2, 2, 2), that do not conflict: UPGrad is their mean, diag(a^2 / 2, 1).

    The second is diag(a^2 - 1, a + 1), orthogonal to the first, diag(1, 1 - a).
    """
    return np.stack([elongated(a)[1], np.diag([a * a - 1.0, a + 1.0])])


def before_and_after(a: float, orthogonalize: Map = polar_factor) -> np.ndarray:
    """Return the first-order descent of the objective along the update, and along its polar factor.

    Followed by that of the first of two agreeing objectives along UPGrad's update and its polar factor.
    """
    update, gradient = elongated(a)
    pair = agreeing(a)
    mean = UPGrad()(pair.reshape(2, 4)).reshape(2, 2)
    return np.array([np.sum(g * x) for g, u in ((gradient, update), (pair[0], mean)) for x in (u, orthogonalize(u))])


def in_closed_form(a: float) -> np.ndarray:
    """Return 1, 2 - a, (a^2 - 2 a + 2) / 2, 2 - a."""
    return np.array([1.0, 2.0 - a, (a * a - 2 * a + 2) / 2, 2.0 - a])


def prove_polar_voids_surgery() -> list[str]:
    """Prove the four numbers with SymPy for every a > 1: the polar factor of a positive diagonal matrix is I."""
    import sympy as sp

    a = sp.symbols("a", positive=True)
    update, gradient = sp.diag(a, 1), sp.diag(1, 1 - a)
    other = sp.diag(a**2 - 1, a + 1)
    mean, eye = (gradient + other) / 2, sp.eye(2)
    pair = lambda x, y: sp.expand((x.T * y).trace())  # noqa: E731
    wanted = {
        pair(gradient, update): 1, pair(gradient, eye): 2 - a, pair(gradient, other): 0,
        pair(gradient, mean): (a**2 - 2 * a + 2) / 2,
    }  # fmt: skip
    for found, value in wanted.items():
        if sp.simplify(found - value) != 0:
            raise ArithmeticError(f"{found} is not {value}.")
    return [sp.latex(found) for found in wanted]


class Saddle(NamedTuple):
    """Gradients (m, p, q) and the spectral MGDA step of them."""

    gradients: np.ndarray
    step: SpectralStep

    def guaranteed(self, direction: np.ndarray) -> np.ndarray:
        """Return min_i <G_i, D>, shape (1,)."""
        return np.atleast_1d(progress(self.gradients, direction).min())

    def combination(self) -> np.ndarray:
        """Return sum w_i G_i."""
        return np.sum(self.step.weights[:, None, None] * self.gradients, axis=0)

    def polar(self) -> np.ndarray:
        """Return the polar factor of the combination, with what the path left of a zero singular value taken as one."""
        u, s, vh = np.linalg.svd(self.combination(), full_matrices=False)
        return (u * (s > 1e-5 * s[0])) @ vh


def _saddles(size: Size) -> Iterator[tuple[str, Saddle]]:
    rng = np.random.default_rng(0)
    draws = {"diagonal, one zero singular value": np.stack([np.diag([1.0, 1.0]), np.diag([2.0, -1.0])])}
    for m, p, q in ((2, 3, 3), (3, 6, 4), (4, 5, 9), (6, 4, 4)):
        for seed in range(1 if size == "smoke" else 10):
            draws[f"{m} Gaussian ({p}, {q}), draw {seed}"] = rng.standard_normal((m, p, q))
    draws["rank one each"] = rng.standard_normal((3, 5, 1)) @ rng.standard_normal((3, 1, 4))
    draws["nearly opposite"] = np.stack([np.diag([1.0, 2.0, 3.0]), -np.diag([1.0, 2.0, 2.9])])
    for text, gradients in draws.items():
        yield text, Saddle(gradients, spectral_mgda(gradients))


def _in_the_ball(saddle: Saddle) -> bool:
    return bool(np.linalg.norm(saddle.step.direction, 2) <= 1 + 1e-12)


def _in_the_simplex(saddle: Saddle) -> bool:
    w = saddle.step.weights
    return bool((w >= 0).all() and abs(w.sum() - 1) <= 1e-10)


def _jacobians(size: Size) -> Iterator[tuple[str, np.ndarray]]:
    rng = np.random.default_rng(1)
    for m, n in ((2, 2), (3, 8), (5, 40), (4, 3)):
        for seed in range(2 if size == "smoke" else 20):
            r = min(m, n)
            u, v = orthogonal(m, rng)[:, :r], orthogonal(n, rng)[:, :r]
            yield f"{m} x {n}, draw {seed}", (u * np.geomspace(1.0, 0.02, r)) @ v.T


def from_gramian(jacobian: np.ndarray, power: float = -0.5) -> np.ndarray:
    """Return J^T B p, B = s V L^power V^T with L, V the eigenpairs of J J^T, as the authors of Aligned-MTL compute."""
    values, vectors = np.linalg.eigh(jacobian @ jacobian.T)
    alive = values > len(values) * np.finfo(float).eps * values[-1]
    kept, v = values[alive], vectors[:, alive]
    weights = np.sqrt(kept[0]) * (v * kept**power) @ v.T @ np.full(len(jacobian), 1 / len(jacobian))
    return jacobian.T @ weights


def from_polar(jacobian: np.ndarray) -> np.ndarray:
    """Return s polar(J)^T p with s the smallest nonzero singular value and p = 1/m."""
    s = np.linalg.svd(jacobian, compute_uv=False)
    return s[s > s[0] * 1e-12][-1] * polar_factor(jacobian).mean(axis=0)


class Projected(NamedTuple):
    """A momentum matrix, the subspace of old inputs, and a schedule of odd polynomials; None is the polar factor."""

    momentum: np.ndarray  # (out, in)
    old: Subspace
    schedule: Schedule | None

    def projected(self) -> np.ndarray:
        """Return G P."""
        return self.old.outside(self.momentum, "right")

    def orthogonalize(self, matrix: np.ndarray) -> np.ndarray:
        """Return the polar factor, or the schedule's approximation."""
        return polar_factor(matrix) if self.schedule is None else self.schedule.apply(matrix)

    def gain(self) -> float:
        """Return how much longer the map makes a small singular value, in units of 1 / |G P|_2.

        The slope at zero of a schedule, whose normalization divides by |G P|_2 at least; for the polar factor, which
        takes what is below rounding as zero, the inverse of the least singular value that it keeps.
        """
        if self.schedule is not None:
            return self.schedule.slope
        s = np.linalg.svd(self.projected(), compute_uv=False)
        return float(s[0] / s[s > 1e-12 * s[0]][-1])

    def largest_at_zero(self) -> bool:
        """Say whether no step of the schedule makes a singular value longer, by a factor, than one at zero."""
        s = np.linspace(0.0, 1.0, 2001)[1:]
        for step in () if self.schedule is None else self.schedule.coefficients:
            after = odd_value(step, s)
            if np.any(np.abs(after / s) > step[0] * (1 + 1e-12)):
                return False
            s = np.abs(after)
        return True

    def leak(self, change: Map | None = None) -> np.ndarray:
        """Return 1 + |X Q|_F over what one rounding of size 1 of G may become, gain |G|_F / |G P|_2, shape (1,)."""
        gp = self.projected()
        x = (change or self.orthogonalize)(gp)
        most = self.gain() * np.linalg.norm(self.momentum) / np.linalg.norm(gp, 2)
        return np.atleast_1d(1 + np.linalg.norm(x @ self.old.basis) / most)


def _projections(size: Size) -> Iterator[tuple[str, Projected]]:
    rng = np.random.default_rng(2)
    # AOL divides each row by a number of its own, which leaves the row space and is no polar factor
    schedules = {name: s for name, s in SCHEDULES.items() if s.normalization.is_scaling}
    for out, inputs, rank in ((4, 10, 3), (12, 8, 5), (6, 6, 1)):
        for seed in range(1 if size == "smoke" else 5):
            old = Subspace(np.linalg.qr(rng.standard_normal((inputs, rank)))[0])
            momentum = rng.standard_normal((out, inputs))
            for name, schedule in {"exact": None, **schedules}.items():
                yield f"{name}, ({out}, {inputs}), rank {rank}, {seed}", Projected(momentum, old, schedule)


def _random_slope(rng: np.random.Generator) -> tuple[str, float]:
    a = 1 + float(10 ** rng.uniform(-2, 2))
    return f"a = {a:.17g}", a


polar_voids_surgery = Theorem(
    label="polar-voids-surgery",
    title="Orthogonalizing after surgery voids its guarantee",
    statement=(
        r"\begin{gathered}G=\diag(1,1-a),\ M=\diag(a,1):\quad\langle G,M\rangle=1,\quad "
        r"\langle G,\polar M\rangle=2-a,\\ G'=\diag(a^2-1,a+1):\quad\langle G,G'\rangle=0,\quad "
        r"\langle G,\polar\tfrac{G+G'}2\rangle=2-a\end{gathered}"
    ),
    assumes=(Assumption("a exceeds 1", lambda a: a > 1),),
    kind="identity",
    lhs=before_and_after,
    rhs=in_closed_form,
    cases=lambda size: ((f"a = {a:g}", a) for a in (1.5, 3.0, 10.0, 100.0)),
    sample=_random_slope,
    broken=lambda t: dataclasses.replace(t, lhs=lambda a: before_and_after(a, lambda m: m / np.linalg.norm(m, 2))),
    mistake="normalized instead of orthogonalized",
    source="ours",
    tolerance=1e-12,
    reason="sums of two products in float64",
    proof=prove_polar_voids_surgery,
)

spectral_mgda_saddle = Theorem(
    label="spectral-mgda-saddle",
    title="Spectral MGDA",
    statement=(r"\max_{\|D\|_2\le1}\min_i\langle G_i,D\rangle=\min_{w\ge0,\ \sum_iw_i=1}\Bigl\|\sum_iw_iG_i\Bigr\|_*"),
    assumes=(
        Assumption("D lies in the spectral ball", _in_the_ball),
        Assumption("the weights lie in the simplex", _in_the_simplex),
    ),
    kind="identity",
    lhs=lambda s: s.guaranteed(s.step.direction),
    rhs=lambda s: np.atleast_1d(Nuclear().value(s.combination())),
    cases=_saddles,
    broken=lambda t: dataclasses.replace(t, lhs=lambda s: s.guaranteed(s.polar())),
    mistake="the polar factor in place of D, at rank deficiency",
    source="ours; a minimax theorem",
    tolerance=1e-11,
    reason="the solver stops at a gap of 1e-13 of the largest gradient, which is up to 60 times the value here",
)

aligned_is_polar = Theorem(
    label="aligned-is-polar",
    title="Aligned-MTL orthogonalizes the Jacobian",
    statement=r"\text{Aligned-MTL}(J)=\sigma_{\min}(J)\,\polar(J)^{\top}\bigl(\tfrac1m,\dots,\tfrac1m\bigr)",
    assumes=(Assumption("the condition number is at most 100", lambda j: np.linalg.cond(j) <= 100),),
    kind="identity",
    lhs=from_gramian,
    rhs=from_polar,
    cases=_jacobians,
    broken=lambda t: dataclasses.replace(t, lhs=lambda j: from_gramian(j, power=-0.4)),
    mistake="the power -2/5 of the Gramian in place of -1/2",
    source="ours, on [senushkin2023independent]",
    tolerance=1e-9,
    reason="the eigenvalues of the Gramian carry eps times the squared condition, 1e4, and entries may be 1e-3",
)

polar_keeps_projection = Theorem(
    label="polar-keeps-projection",
    title="Orthogonalized steps keep old outputs",
    statement=(
        r"q(GP)\,(I-P)=0\quad\text{for }P=I-QQ^{\top},\ Q^{\top}Q=I,\ q=\polar\text{ or any odd matrix polynomial}"
    ),
    assumes=(
        Assumption(
            "Q is orthonormal",
            lambda c: np.allclose(c.old.basis.T @ c.old.basis, np.eye(c.old.dimension), atol=1e-12),
        ),
        Assumption("each step's gain is largest at zero", lambda c: c.largest_at_zero()),
    ),
    kind="identity",
    lhs=lambda c: c.leak(),
    rhs=lambda c: np.ones(1),
    cases=_projections,
    broken=lambda t: dataclasses.replace(t, lhs=lambda c: c.leak(np.sign)),
    mistake="the sign of each entry in place of the polar factor",
    source="ours, on [saha2021gradient]",
    tolerance=36 * EPS,
    reason=(
        "in units of the gain of a rounding: products of up to 12 terms round by 12 eps, and what later steps add is "
        "multiplied by fewer slopes of at least 3/2, three times the first in all"
    ),
)

THEOREMS = (
    polar_voids_surgery,
    spectral_mgda_saddle,
    aligned_is_polar,
    polar_keeps_projection,
)
