"""N2 to N4, T7, T9, G1 and G2: what guarantees compare, and the constants that they hide."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from .. import norms
from ..norms import Norm
from ..problems import KroneckerQuadratic, quadratic
from ..surgery import make
from .contract import Assumption, Size, Theorem

FROBENIUS, SPECTRAL = norms.Frobenius(), norms.Spectral()


class Model(NamedTuple):
    """A gradient, a norm, L, and a trust radius."""

    gradient: np.ndarray
    norm: Norm
    smoothness: float
    radius: float


def _models(size: Size) -> Iterator[tuple[str, Model]]:
    rng = np.random.default_rng(0)
    for kind in (norms.Spectral, norms.Frobenius, norms.MaxEntry, norms.RowMax, norms.Nuclear):
        norm: Norm = kind()
        for radius in (0.05, 50.0):
            yield f"{norm.name}, radius {radius}", Model(rng.standard_normal((4, 3)), norm, 2.0, radius)


def model_decrease(case: Model) -> np.ndarray:
    """Return -(<G, D> + L |D|^2 / 2) at D = min(radius, |G|_* / L) lmo(G)."""
    g, norm, smoothness, radius = case
    d = min(radius, float(norm.dual(g)) / smoothness) * norm.lmo(g)
    return np.array([-(np.sum(g * d) + smoothness / 2 * float(norm.value(d)) ** 2)])


def claimed_decrease(case: Model, clipped: bool = True) -> np.ndarray:
    """Return t |G|_* - L t^2 / 2 with t = min(radius, |G|_* / L): |G|_*^2 / (2 L) where the radius is long."""
    dual = float(case.norm.dual(case.gradient))
    t = min(case.radius, dual / case.smoothness) if clipped else dual / case.smoothness
    return np.array([t * dual - case.smoothness * t**2 / 2])


clipped_steepest = Theorem(
    label="clipped-steepest",
    title="Trust region, steepest descent and clipping are one step",
    statement=r"\min_{\|D\|\le\eta}\langle G,D\rangle+\tfrac L2\|D\|^2=-t\|G\|_*+\tfrac L2t^2,\quad "
    r"D=t\,\mathrm{lmo}(G),\ t=\min(\eta,\|G\|_*/L)",
    assumes=(Assumption("the gradient is not zero", lambda c: bool(np.any(c.gradient))),),
    kind="identity",
    lhs=model_decrease,
    rhs=claimed_decrease,
    cases=_models,
    broken=lambda t: dataclasses.replace(t, rhs=lambda c: claimed_decrease(c, clipped=False)),
    mistake="the radius forgotten",
    source="classical",
    tolerance=1e-12,
    reason="a dozen operations",
)


def _chains(size: Size) -> Iterator[tuple[str, KroneckerQuadratic]]:
    rng = np.random.default_rng(2)
    for seed in range(8 if size == "smoke" else 60):
        m, n = (int(k) for k in rng.integers(2, 8, size=2))
        left, right = (float(10 ** rng.uniform(0, 3)) for _ in range(2))
        yield (
            f"{m} x {n}, conditions {left:.0f}, {right:.0f}",
            quadratic(rows=m, columns=n, left_condition=left, right_condition=right, seed=seed),
        )
    yield "flat", quadratic(rows=4, columns=4, left_condition=1.0)


def _constants(problem: KroneckerQuadratic) -> np.ndarray:
    return np.array([float(problem.smoothness(FROBENIUS)), float(problem.smoothness(SPECTRAL))])


smoothness_chain = Theorem(
    label="smoothness-chain",
    title="Muon's guarantee against that of gradient descent, in either metric",
    statement=r"L_F\le L_{\mathrm{spec}}\le rL_F:\quad K_{\mathrm{Muon}}=\frac{2L_{\mathrm{spec}}\Delta}{\epsilon^2}"
    r"\le K_{\mathrm{GD}}=\frac{2rL_F\Delta}{\epsilon^2}\text{ for }\|\nabla f\|_*\le\epsilon,\ \ "
    r"K_{\mathrm{GD}}=\frac{2L_F\Delta}{\epsilon^2}\le K_{\mathrm{Muon}}\text{ for }\|\nabla f\|_F\le\epsilon",
    assumes=(Assumption("the constants are exact", lambda p: p.smoothness(SPECTRAL).kind == "exact"),),
    kind="tight",
    lhs=_constants,
    rhs=lambda p: np.array([float(p.smoothness(SPECTRAL)), min(p.form.shape) * float(p.smoothness(FROBENIUS))]),
    cases=lambda size: (
        ("flat, 4 x 4", quadratic(rows=4, columns=4, left_condition=1.0)),
        ("flat, 3 x 6", quadratic(rows=3, columns=6, left_condition=1.0)),
    ),
    broken=lambda t: dataclasses.replace(t, rhs=lambda p: _constants(p)[0] * np.ones(2)),
    mistake="the spectral constant no larger than the Frobenius one",
    source="ours",
    tolerance=1e-12,
    reason="eigenvalues of one symmetric matrix",
)
smoothness_order = dataclasses.replace(
    smoothness_chain,
    label="smoothness-order",
    title="The order of the smoothness constants",
    statement=r"L_F\le L_{\mathrm{spec}}\le rL_F",
    kind="upper",
    cases=_chains,
)


class Indefinite(NamedTuple):
    """A symmetric H on vectors with the maximum norm."""

    hessian: np.ndarray


def lipschitz_constant(case: Indefinite) -> np.ndarray:
    """Return max <D, H E> over the cube, at corners: max |H s|_1 over signs s."""
    signs = np.array(list(itertools.product((-1.0, 1.0), repeat=len(case.hessian))))
    return np.abs(signs @ case.hessian).sum(axis=1).max(keepdims=True)


def descent_constant(case: Indefinite) -> np.ndarray:
    """Return max |<D, H D>| over {-1, 0, 1}^n, at most the constant of the descent lemma."""
    grid = np.array(list(itertools.product((-1.0, 0.0, 1.0), repeat=len(case.hessian))))
    return np.abs(np.sum(grid @ case.hessian * grid, axis=1)).max(keepdims=True)


def _indefinite(size: Size) -> Iterator[tuple[str, Indefinite]]:
    rng = np.random.default_rng(5)
    for n in (2, 3, 5):
        for seed in range(4 if size == "smoke" else 30):
            h = rng.choice([-1.0, 1.0], size=(n, n)) if seed % 2 else rng.standard_normal((n, n))
            yield f"n = {n}, seed {seed}", Indefinite((h + h.T) / 2)
    yield "diag(1, -1) turned", Indefinite(np.array([[1.0, 1.0], [1.0, -1.0]]))


lipschitz_against_descent = Theorem(
    label="lipschitz-against-descent",
    title="The constant of the gradient is at most twice that of the descent lemma",
    statement=r"\sup\langle D,HE\rangle\le2\sup|\langle D,HD\rangle|,\qquad "
    r"\langle D,HE\rangle=q\bigl(\tfrac{D+E}2\bigr)-q\bigl(\tfrac{D-E}2\bigr)",
    assumes=(Assumption("H is symmetric", lambda c: np.array_equal(c.hessian, c.hessian.T)),),
    kind="upper",
    lhs=lipschitz_constant,
    rhs=lambda c: 2 * descent_constant(c),
    cases=_indefinite,
    broken=lambda t: dataclasses.replace(t, rhs=descent_constant),
    mistake="the two constants equal, as for a semidefinite H",
    source="ours",
)


class Adaptive(NamedTuple):
    """AdaGrad-norm along the sharp operator: values f_0, ..., f_K, dual norms of gradients and of steps, <G, step>."""

    values: np.ndarray
    duals: np.ndarray
    lengths: np.ndarray
    slopes: np.ndarray
    lr: float
    b0: float
    smoothness: float

    @property
    def memory(self) -> np.ndarray:
        """b_1, ..., b_K."""
        return np.sqrt(self.b0**2 + np.cumsum(self.duals**2))

    @property
    def turn(self) -> float:
        """c = lr L / 2: with b below it a step may rise."""
        return self.lr * self.smoothness / 2


def adaptive_run(problem: KroneckerQuadratic, lr: float, b0: float, steps: int = 300) -> Adaptive:
    """Run b+^2 = b^2 + |G|_*^2, X+ = X - (lr / b+) G^# in the spectral norm."""
    x, square, records, values = problem.start, b0**2, [], [float(problem.value(problem.start))]
    for _ in range(steps):
        g = problem.grad(x)
        dual = float(SPECTRAL.dual(g))
        square += dual**2
        step = -lr / np.sqrt(square) * SPECTRAL.sharp(g)
        x = x + step
        records.append((dual, float(SPECTRAL.value(step)), float(np.sum(g * step))))
        values.append(float(problem.value(x)))
    duals, lengths, slopes = np.array(records).T
    return Adaptive(np.array(values), duals, lengths, slopes, lr, b0, float(problem.smoothness(SPECTRAL)))


def _adaptive(size: Size) -> Iterator[tuple[str, Adaptive]]:
    for seed in range(1 if size == "smoke" else 4):
        problem = quadratic(rows=4, columns=3, left_condition=5.0, alignment="generic", seed=seed)
        for lr, b0 in ((1.0, 0.1), (0.2, 1.0), (5.0, 0.1), (0.1, 0.01)):
            yield f"lr {lr}, b0 {b0}, seed {seed}", adaptive_run(problem, lr, b0)


def _descends(case: Adaptive) -> bool:
    model = case.values[:-1] + case.slopes + case.smoothness / 2 * case.lengths**2
    return bool(np.all(case.values[1:] <= model + 1e-12 * case.values[0]))


def turning(b, c: float):
    """Return Psi(b) = b - c - c log(b / c), convex with its minimum 0 at c."""
    return b - c - c * np.log(b / c)


def adaptive_loss(case: Adaptive) -> np.ndarray:
    """Return Psi(b_K) where b_K has passed c, else 0."""
    return np.where(case.memory >= case.turn, turning(case.memory, case.turn), 0.0)


def adaptive_bound(case: Adaptive, share: float = 1.0) -> np.ndarray:
    """Return (f_0 - f_K) / lr + w Psi(b_0), w = 2 below c and 1 above."""
    weight = 2 if case.b0 < case.turn else 1
    return share * (case.values[0] - case.values[1:]) / case.lr + weight * turning(case.b0, case.turn)


def prove_adaptive() -> list[str]:
    """Prove the two comparisons of a step with the integral of 1 - c/s, with a = b_k, b = b_{k+1}."""
    import sympy as sp

    a, b, c = sp.symbols("a b c", positive=True)
    gain = (b**2 - a**2) / b * (1 - c / b)  # (f_k - f_{k+1}) / lr is at least this
    if sp.simplify(gain - (b - a) * (1 - c / b) - (b - a) * a / b * (1 - c / b)) != 0:
        raise ArithmeticError("a step above c does not gain (b - a)(1 - c/b) and a nonnegative rest")
    if sp.simplify(sp.diff((1 - c / b) / b, b) - (2 * c - b) / b**3) != 0:
        raise ArithmeticError("(1 - c/b)/b does not rise below 2 c")
    return [
        r"\tfrac1\eta(f_k-f_{k+1})\ge\tfrac{b^2-a^2}{b}\bigl(1-\tfrac cb\bigr),\quad a=b_k,\ b=b_{k+1}",
        r"b\ge c:\ \tfrac{b^2-a^2}b\bigl(1-\tfrac cb\bigr)\ge(b-a)\bigl(1-\tfrac cb\bigr)"
        r"\ge\int_{\max(a,c)}^b\bigl(1-\tfrac cs\bigr)ds",
        r"b\le c:\ \tfrac{b^2-a^2}b\bigl(1-\tfrac cb\bigr)\ge2\int_a^b\bigl(1-\tfrac cs\bigr)ds",
    ]


adaptive_radius = Theorem(
    label="adaptive-radius",
    title="AdaGrad-norm along the sharp operator needs no constant",
    statement=r"\Psi(b_K)\le\tfrac1\eta\bigl(f(X_0)-f(X_K)\bigr)+w\,\Psi(b_0),\quad\Psi(b)=b-c-c\log\tfrac bc,\ "
    r"c=\tfrac{\eta L}2\le b_K,\ w=2\text{ if }b_0<c,\text{ else }1:\quad "
    r"\min_{k<K}\|G_k\|_*^2=O\bigl(\tfrac1K\bigr),\quad b_{k+1}^2=b_k^2+\|G_k\|_*^2,\ "
    r"X_{k+1}=X_k-\frac\eta{b_{k+1}}G_k^\sharp",
    assumes=(
        Assumption("b0 is positive", lambda c: c.b0 > 0),
        Assumption("L bounds the function along every step", _descends),
    ),
    kind="upper",
    lhs=adaptive_loss,
    rhs=adaptive_bound,
    cases=_adaptive,
    broken=lambda t: dataclasses.replace(t, rhs=lambda c: adaptive_bound(c, 0.5)),
    mistake="the gap halved",
    source="ours",
    proof=prove_adaptive,
)


class Pair(NamedTuple):
    """Two gradients, as rows, and the factor of the second."""

    jacobian: np.ndarray
    factor: float


def _pairs(size: Size) -> Iterator[tuple[str, Pair]]:
    rng = np.random.default_rng(8)
    for seed in range(10):
        jacobian = rng.standard_normal((2, 5))
        if jacobian[0] @ jacobian[1] > 0:
            jacobian[1] *= -1
        yield f"conflicting pair {seed}", Pair(jacobian, float(rng.uniform(0.1, 3)))


def projected_progress(case: Pair, project: bool = True) -> np.ndarray:
    """Return <g1, g1 + a proj(g2)> / |g1|^2, then PCGrad's <g1, d> / |g1|^2 for the sum of both repairs."""
    first, second = case.jacobian
    square = first @ first
    other = second - (second @ first) / square * first if project else second
    repaired = make("pcgrad")(case.jacobian) @ first / square if project else case.jacobian.sum(axis=0) @ first / square
    return np.array([1 + case.factor * (first @ other) / square, float(repaired)])


def claimed_progress(case: Pair) -> np.ndarray:
    """Return 1 and sin^2 of the angle."""
    first, second = case.jacobian
    return np.array([1.0, 1 - (first @ second) ** 2 / (first @ first) / (second @ second)])


surgery_progress = Theorem(
    label="surgery-progress",
    title="What a projection and PCGrad keep of the first objective's progress",
    statement=r"\langle g_1,g_1+a\,P_{g_1^\perp}g_2\rangle=\|g_1\|^2,\qquad "
    r"\langle g_1,d_{\mathrm{PCGrad}}\rangle=\|g_1\|^2\sin^2\theta\quad(\langle g_1,g_2\rangle<0)",
    assumes=(Assumption("the pair conflicts", lambda c: c.jacobian[0] @ c.jacobian[1] < 0),),
    kind="identity",
    lhs=projected_progress,
    rhs=claimed_progress,
    cases=_pairs,
    broken=lambda t: dataclasses.replace(t, lhs=lambda c: projected_progress(c, project=False)),
    mistake="without the projection",
    source="ours; PCGrad is [yu2020gradient]'s",
    tolerance=1e-11,
    reason="inner products of five numbers, cancelling to sin^2 above 1e-3",
)

THEOREMS = (
    clipped_steepest,
    smoothness_chain,
    smoothness_order,
    lipschitz_against_descent,
    adaptive_radius,
    surgery_progress,
)
