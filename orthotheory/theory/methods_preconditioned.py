"""What Shampoo, Sophia, MKOR, PSGD and Sven do exactly."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

import numpy as np

from ..methods import Shampoo, Sven
from ..methods.mkor import rank_one_inverse
from ..methods.psgd import triangular_step, x_step
from ..methods.sophia import clipped_quotient
from ..problems import orthogonal
from .contract import Assumption, Size, Theorem
from .methods_adaptive import one_plus_distance
from .orthogonality import polar, with_values

Cases = Iterator[tuple[str, Any]]


def _full_rank(size: Size) -> Cases:
    rng = np.random.default_rng(0)
    for m, n in ((3, 3), (2, 5), (4, 4)) if size == "smoke" else ((3, 3), (2, 5), (4, 4), (8, 20), (16, 16)):
        yield f"{m} x {n}, condition 100", with_values(np.geomspace(1, 100, m), n, rng)
        yield f"{n} x {m}, condition 100", with_values(np.geomspace(1, 100, m), n, rng).T


def first_shampoo_step(g: np.ndarray, *, square: bool = False) -> np.ndarray:
    """Return Shampoo's first step from nothing accumulated, eps = 0 and lr = 1, with its sign turned."""
    method = Shampoo(lr=1.0, eps=0.0, square=square)
    return -method.step(np.zeros_like(g), g, method.init(g))[0]


shampoo_polar = Theorem(
    label="shampoo-polar",
    title="Shampoo without accumulation is the polar factor",
    statement=r"(GG^\top)^{-1/4}\,G\,(G^\top G)^{-1/4}=\operatorname{polar}(G)",
    assumes=(Assumption("G has full rank", lambda g: np.linalg.matrix_rank(g) == min(g.shape)),),
    kind="identity",
    lhs=lambda g: [one_plus_distance(first_shampoo_step(g), polar(g))],
    rhs=lambda g: [1.0],
    cases=_full_rank,
    broken=lambda t: dataclasses.replace(
        t, lhs=lambda g: [one_plus_distance(first_shampoo_step(g, square=True), polar(g))]
    ),
    mistake="powers -1/2, Shampoo's square",
    source="[gupta2018shampoo]",
    tolerance=1e-9,
    reason="the Gram matrices have condition 1e4: their eigenvalues carry 1e4 eps",
)


def _gradients(size: Size) -> Cases:
    rng = np.random.default_rng(1)
    for m, n in ((3, 4), (5, 2)) if size == "smoke" else ((3, 4), (5, 2), (6, 6), (8, 5)):
        yield f"50 gradients {m} x {n}", rng.standard_normal((50, m, n)) @ np.diag(rng.uniform(0.1, 2, n))


def power_step(grads: np.ndarray) -> np.ndarray:
    """Return R(H) vec(I_n) and R(H)^T vec(I_m) for the rearranged second moment of vec G, an (m^2, n^2) matrix."""
    count, m, n = grads.shape
    moment = np.einsum("kij,kpq->ijpq", grads, grads) / count  # H[(i, j), (p, q)]
    rearranged = moment.transpose(0, 2, 1, 3).reshape(m * m, n * n)
    return np.concatenate([rearranged @ np.eye(n).ravel(), rearranged.T @ np.eye(m).ravel()])


def shampoo_factors(grads: np.ndarray, power: float = 1.0) -> np.ndarray:
    """Return Shampoo's accumulated L and R per gradient, to a power, as one vector."""
    method, w = Shampoo(), np.zeros(grads.shape[1:])
    state = method.init(w)
    for g in grads:
        w, state = method.step(w, g, state)
    parts = []
    for a in (state.left, state.right):
        values, vectors = np.linalg.eigh(a / len(grads))
        parts.append(((vectors * np.maximum(values, 0) ** power) @ vectors.T).ravel())
    return np.concatenate(parts)


shampoo_square_power_step = Theorem(
    label="shampoo-square-power-step",
    title="The square of Shampoo is one power step towards the best Kronecker factors",
    statement=(
        r"\mathcal R(H)\operatorname{vec}(I_n)=\operatorname{vec}(\mathbb E\,GG^\top),\quad "
        r"\mathcal R(H)^\top\operatorname{vec}(I_m)=\operatorname{vec}(\mathbb E\,G^\top G)"
    ),
    assumes=(),
    kind="identity",
    lhs=lambda g: [one_plus_distance(power_step(g), shampoo_factors(g))],
    rhs=lambda g: [1.0],
    cases=_gradients,
    broken=lambda t: dataclasses.replace(t, lhs=lambda g: [one_plus_distance(power_step(g), shampoo_factors(g, 0.5))]),
    mistake="L^(1/2) and R^(1/2), Shampoo's own factors",
    source="[morwani2024new]",
    tolerance=1e-12,
    reason="sums of 50 products",
)


@dataclasses.dataclass(frozen=True)
class Bowl:
    """A quadratic w^T H w / 2, a point and a step size."""

    hessian: np.ndarray
    w: np.ndarray
    lr: float


def sophia_contraction(case: Bowl) -> np.ndarray:
    """Return the factors by which the coordinates change in a step with the exact diagonal, gamma 1 and no averages."""
    step = clipped_quotient(case.hessian @ case.w, np.diag(case.hessian))
    return (case.w - case.lr * step) / case.w


def _bowls(size: Size, *, turned: bool = False) -> Cases:
    rng = np.random.default_rng(2)
    for condition in (1e1, 1e3, 1e6):
        q = orthogonal(6, rng) if turned else np.eye(6)
        h = (q * np.geomspace(1, condition, 6)) @ q.T
        yield f"condition {condition:g}", Bowl(h, rng.uniform(0.1, 1.0, 6), 0.3)


sophia_axis_aligned = Theorem(
    label="sophia-axis-aligned",
    title="Unclipped Sophia contracts a diagonal quadratic at a rate free of its condition",
    statement=r"H=\operatorname{diag}(h),\ |w_i|\le1:\quad w_i^+=(1-\eta)\,w_i",
    assumes=(Assumption("no coordinate is clipped: |w_i| <= 1", lambda c: np.abs(c.w).max() <= 1),),
    kind="identity",
    lhs=sophia_contraction,
    rhs=lambda c: np.full(6, 1 - c.lr),
    cases=_bowls,
    broken=lambda t: dataclasses.replace(t, cases=lambda size: _bowls(size, turned=True)),
    mistake="the Hessian is turned, so that its diagonal is not its spectrum",
    source="ours, on [liu2023sophia]",
    tolerance=1e-12,
)


def largest_eigenvalues(case: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
    """Return the largest eigenvalue of an inverse factor of MKOR after each of its updates."""
    j, vectors = case
    values = []
    for v in vectors:
        j = rank_one_inverse(j, v[:, None])
        values.append(np.linalg.eigvalsh((j + j.T) / 2)[-1])
    return np.array(values)


def _vectors(size: Size, *, start: float = 1.0) -> Cases:
    rng = np.random.default_rng(3)
    for scale in (1e-3, 1.0, 1e3):
        for k in (1, 4, 12):
            yield f"{k} entries of size {scale:g}", (start * np.eye(k), scale * rng.standard_normal((60, k)))


mkor_no_reset = Theorem(
    label="mkor-no-reset",
    title="MKOR's inverse factors never pass the identity, so its reset is never reached",
    statement=r"J_0=I:\quad \lambda_{\max}(J_t)\le1\quad\text{for all }t\text{ and all vectors}",
    assumes=(),
    kind="upper",
    lhs=largest_eigenvalues,
    rhs=lambda c: np.ones(len(c[1])),
    cases=_vectors,
    broken=lambda t: dataclasses.replace(t, cases=lambda size: _vectors(size, start=3.0)),
    mistake="the recursion starts at 3 I",
    source="ours, on [mozaffari2023mkor]",
    tolerance=1e-12,
)


def psgd_turned(case: dict[str, np.ndarray], *, dual: bool = True) -> float:
    """Return 1 + the relative distance of step(Q A, A^-1 h, A^T v) from step(Q, h, v) A."""
    q, a, h, v = (case[k] for k in "qahv")
    plain = triangular_step(q, h, v, 0.1) @ a
    turned = triangular_step(q @ a, np.linalg.solve(a, h), a.T @ v if dual else v, 0.1)
    return one_plus_distance(turned, plain)


def _groups(size: Size) -> Cases:
    rng = np.random.default_rng(4)
    for k in (2, 4, 6, 8):
        upper = [np.triu(rng.standard_normal((k, k)), 1) + np.diag(rng.uniform(0.5, 2, k)) for _ in range(2)]
        yield f"{k} entries", {"q": upper[0], "a": upper[1], **{x: rng.standard_normal((k, 1)) for x in "hv"}}


psgd_equivariance = Theorem(
    label="psgd-equivariance",
    title="The step of PSGD's triangular factor commutes with the group",
    statement=r"\operatorname{step}(QA,\,A^{-1}h,\,A^\top v)=\operatorname{step}(Q,h,v)\,A,\ A\text{ upper triangular}",
    assumes=(),
    kind="identity",
    lhs=lambda c: [psgd_turned(c)],
    rhs=lambda c: [1.0],
    cases=_groups,
    broken=lambda t: dataclasses.replace(t, lhs=lambda c: [psgd_turned(c, dual=False)]),
    mistake="the probe v is not turned along",
    source="[pooladzandi2024curvature]",
    tolerance=1e-10,
    reason="solves with products of two triangular factors, of condition below 1e5 in these draws",
)


def x_matrix(d: np.ndarray, e: np.ndarray) -> np.ndarray:
    """Return the matrix with diagonal d and antidiagonal e."""
    return np.diag(d[:, 0]) + np.diag(e[:, 0])[:, ::-1]


def x_parts(q: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the diagonal and antidiagonal of a matrix, the middle entry in the first alone."""
    d, e = np.diag(q)[:, None].copy(), np.diag(q[:, ::-1])[:, None].copy()
    if len(q) % 2:
        e[len(q) // 2] = 0.0
    return d, e


def psgd_x_turned(case: dict[str, np.ndarray], *, dual: bool = True) -> float:
    """Return 1 + the relative distance of step(Q A, A^-1 h, A^T v) from step(Q, h, v) A, in dense matrices."""
    q, a, h, v = (case[k] for k in "qahv")
    plain = x_matrix(*x_step(*x_parts(q), h, v, 0.1)) @ a
    turned = x_step(*x_parts(q @ a), np.linalg.solve(a, h), a.T @ v if dual else v, 0.1)
    return one_plus_distance(x_matrix(*turned), plain)


def _x_groups(size: Size) -> Cases:
    rng = np.random.default_rng(6)
    for k in (1, 2, 5, 8):
        q, a = (x_matrix(*x_parts(rng.standard_normal((k, k)) + 3 * np.eye(k))) for _ in range(2))
        yield f"{k} entries", {"q": q, "a": a, **{x: rng.standard_normal((k, 1)) for x in "hv"}}


psgd_x_shape = Theorem(
    label="psgd-x-shape",
    title="The step of PSGD's X-shaped factor commutes with its group",
    statement=r"\operatorname{step}(QA,\,A^{-1}h,\,A^\top v)=\operatorname{step}(Q,h,v)\,A,\ A\text{ X-shaped}",
    assumes=(),
    kind="identity",
    lhs=lambda c: [psgd_x_turned(c)],
    rhs=lambda c: [1.0],
    cases=_x_groups,
    broken=lambda t: dataclasses.replace(t, lhs=lambda c: [psgd_x_turned(c, dual=False)]),
    mistake="the probe v is not turned along",
    source="[pooladzandi2024curvature]",
    tolerance=1e-10,
    reason="inverses of 2 x 2 blocks, of condition below 1e3 in these draws",
)


@dataclasses.dataclass(frozen=True)
class Fit:
    """A linear least-squares fit A w = y with at most as many samples as weights, and a step size."""

    inputs: np.ndarray
    targets: np.ndarray
    lr: float

    def error(self, w: np.ndarray) -> np.ndarray:
        """Return f(w) - y."""
        return self.inputs @ w.ravel() - self.targets

    def contraction(self, *, squared: bool, steps: int = 8) -> np.ndarray:
        """Return |f - y| over its start after each step of Sven on signed or squared residuals."""

        def residuals(w):
            e = self.error(w)
            return (e**2, 2 * e[:, None] * self.inputs) if squared else (e, self.inputs)

        method = Sven(lr=self.lr, residuals=residuals, rtol=1e-10)
        w = np.zeros((1, self.inputs.shape[1]))
        lengths = [np.linalg.norm(self.error(w))]
        for _ in range(steps):
            w, _ = method.step(w, w, method.init(w))
            lengths.append(np.linalg.norm(self.error(w)))
        return np.array(lengths[1:]) / lengths[0]


def _fits(size: Size) -> Cases:
    rng = np.random.default_rng(5)
    for samples, weights in ((1, 1), (3, 8), (6, 6)):
        for lr in (0.1, 0.5, 1.0):
            fit = Fit(with_values(np.geomspace(1, 50, samples), weights, rng), rng.uniform(1, 2, samples), lr)
            yield f"{samples} samples, {weights} weights, lr {lr:g}", fit


def _rate(factor: float) -> np.ndarray:
    return 1 + factor ** np.arange(1, 9)


sven_linear = Theorem(
    label="sven-linear",
    title="Sven on signed linear residuals contracts them by one minus the step, and solves for step one",
    statement=r"B\le P,\ \operatorname{rank}J=B:\quad \|r_t\|=(1-\eta)^t\,\|r_0\|",
    assumes=(Assumption("the Jacobian has full row rank", lambda c: np.linalg.matrix_rank(c.inputs) == len(c.inputs)),),
    kind="identity",
    lhs=lambda c: 1 + c.contraction(squared=False),
    rhs=lambda c: _rate(1 - c.lr),
    cases=_fits,
    broken=lambda t: dataclasses.replace(t, lhs=lambda c: 1 + c.contraction(squared=True)),
    mistake="squared residuals",
    source="[brightthonney2026sven]",
    tolerance=1e-10,
    reason="condition 50; 1 + the contraction is compared, so that 0 is",
)

sven_double_root = Theorem(
    label="sven-double-root",
    title="Sven on squared residuals halves its rate: Newton at a double root",
    statement=r"r=(f-y)^2:\quad \|f_t-y\|=(1-\eta/2)^t\,\|f_0-y\|",
    assumes=sven_linear.assumes,
    kind="identity",
    lhs=lambda c: 1 + c.contraction(squared=True),
    rhs=lambda c: _rate(1 - c.lr / 2),
    cases=_fits,
    broken=lambda t: dataclasses.replace(t, rhs=lambda c: _rate(1 - c.lr)),
    mistake="the rate of signed residuals",
    source="ours, on [brightthonney2026sven]",
    tolerance=1e-10,
    reason="as sven-linear",
)

THEOREMS = (
    shampoo_polar,
    shampoo_square_power_step,
    sophia_axis_aligned,
    mkor_no_reset,
    psgd_equivariance,
    psgd_x_shape,
    sven_linear,
    sven_double_root,
)
