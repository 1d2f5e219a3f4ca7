"""Surgery and orthogonalization: what the polar factor keeps of a projection, and what it voids."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np

from ..norms import Nuclear
from ..polar import SCHEDULES, polar_factor
from ..problems import orthogonal
from ..problems.tasks import task_sequence
from ..surgery import UPGrad
from ..surgery.continual import GPM
from ..surgery.orthogonal import SpectralStep, progress, spectral_mgda
from ..surgery.retain import Bloop
from ..surgery.subspace import Subspace
from ..surgery.unlearning import disentangle, trust_region_step
from .contract import Assumption, Size, Theorem

Map = Callable[[np.ndarray], np.ndarray]


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
    """A momentum matrix, the subspace of old inputs and a map of matrices."""

    momentum: np.ndarray  # (out, in)
    old: Subspace
    orthogonalize: Map

    def update(self, change: Map | None = None) -> np.ndarray:
        """Return the map's value at the projected momentum."""
        return (change or self.orthogonalize)(self.old.outside(self.momentum, "right"))

    def leak(self, change: Map | None = None) -> np.ndarray:
        """Return 1 + |X Q|_F / |X|_F for the update X, shape (1,): 1 where no old output changes."""
        x = self.update(change)
        return np.atleast_1d(1 + np.linalg.norm(x @ self.old.basis) / np.linalg.norm(x))


def _projections(size: Size) -> Iterator[tuple[str, Projected]]:
    rng = np.random.default_rng(2)
    for out, inputs, rank in ((4, 10, 3), (12, 8, 5), (6, 6, 1)):
        for seed in range(1 if size == "smoke" else 5):
            old = Subspace(np.linalg.qr(rng.standard_normal((inputs, rank)))[0])
            momentum = rng.standard_normal((out, inputs))
            # AOL divides each row by a number of its own, which leaves the row space and is no polar factor
            scaling = {name: s.apply for name, s in SCHEDULES.items() if s.normalization.is_scaling}
            maps: dict[str, Map] = {"exact": polar_factor, **scaling}
            for name, orthogonalize in maps.items():
                yield f"{name}, ({out}, {inputs}), rank {rank}, {seed}", Projected(momentum, old, orthogonalize)


class Forgetting(NamedTuple):
    """What a step of GPM does to the outputs of a linear layer on the inputs of a task that it has learned."""

    gpm: GPM
    memory: Subspace
    activations: np.ndarray
    step: np.ndarray  # (out, in), projected

    def change(self) -> np.ndarray:
        """Return |dW A|_F, shape (1,)."""
        return np.atleast_1d(np.linalg.norm(self.step @ self.activations))

    def bound(self, share: float = 1.0) -> np.ndarray:
        """Return |dW|_2 (1 - energy)^1/2 |A|_F, shape (1,)."""
        missing = np.sqrt(1 - self.gpm.energy) * np.linalg.norm(self.activations)
        return np.atleast_1d(share * np.linalg.norm(self.step, 2) * missing)


def _forgetting(size: Size) -> Iterator[tuple[str, Forgetting]]:
    rng = np.random.default_rng(3)
    for energy in (0.5, 0.9, 0.99):
        for seed in range(2 if size == "smoke" else 10):
            gpm = GPM(energy=energy)
            first, second = task_sequence(tasks=2, rank=12, samples=40, seed=seed)
            memory = gpm.learn(Subspace.empty(24, like=first.inputs), first.inputs)
            step = gpm.project(memory, second.grad(rng.standard_normal((4, 24))))
            yield f"energy {energy}, tasks of seed {seed}", Forgetting(gpm, memory, first.inputs, step)
        # two equal singular values, one of them kept at energy 1/2: all discarded energy lies along the step
        if energy == 0.5:
            a, memory = np.eye(2), Subspace(np.array([[1.0], [0.0]]))
            yield "all discarded energy along the step", Forgetting(gpm, memory, a, np.array([[0.0, 1.0]]))


class Leak(NamedTuple):
    """Bloop with an averaged main gradient that lags behind the main one."""

    main: np.ndarray
    aux: np.ndarray
    average: np.ndarray
    lam: float

    def leak(self) -> np.ndarray:
        """Return |<x, g_main> - |g_main|^2|, shape (1,)."""
        rule = Bloop(lam=self.lam, averaging=0.1)
        start = (self.average - 0.1 * self.main) / 0.9  # the rule moves it to `average`
        update, _ = rule.step(self.main, self.aux, rule.State(start))
        return np.atleast_1d(abs(update @ self.main - self.main @ self.main))

    def bound(self, share: float = 1.0) -> np.ndarray:
        """Return lam |g_aux| |g_main| sin(angle between g_main and its average), shape (1,)."""
        a, g = self.average / np.linalg.norm(self.average), self.main
        return np.atleast_1d(share * self.lam * np.linalg.norm(self.aux) * np.linalg.norm(g - (a @ g) * a))


def _leaks(size: Size) -> Iterator[tuple[str, Leak]]:
    rng = np.random.default_rng(4)
    for i in range(20 if size == "smoke" else 500):
        n = int(rng.integers(2, 12))
        main, aux, noise = rng.standard_normal((3, n))
        yield f"draw {i}", Leak(main, aux, main + 10.0 ** rng.uniform(-3, 1) * noise, 10.0 ** rng.uniform(-2, 2))
    turn = np.array([np.cos(0.3), np.sin(0.3)])
    yield "auxiliary gradient across the average", Leak(turn, np.array([0.0, 2.0]), np.array([1.0, 0.0]), 0.7)


class Budget(NamedTuple):
    """A forget gradient, retain gradients, a metric and a radius; the feasible steps that the theorem compares."""

    forget: np.ndarray
    retain: np.ndarray
    metric: np.ndarray
    radius: float
    rivals: np.ndarray  # (count, n), with R d = 0 and <d, M^-1 d> = radius^2

    def gains(self) -> np.ndarray:
        """Return <g, d> of the solution and of the rivals."""
        best = trust_region_step(self.forget, self.retain, self.radius, self.metric)
        return np.vstack([best, self.rivals]) @ self.forget

    def value(self, share: float = 1.0) -> np.ndarray:
        """Return the radius times the gain, for each."""
        gain = disentangle(self.forget, self.retain, self.metric).gain
        return np.full(1 + len(self.rivals), share * self.radius * float(gain))

    def feasible(self) -> bool:
        """Say whether the solution satisfies R d = 0 and the budget, to rounding."""
        d = trust_region_step(self.forget, self.retain, self.radius, self.metric)
        scale = np.linalg.norm(self.retain, axis=1).max() * np.linalg.norm(d)
        inside = abs(d @ (d / self.metric) - self.radius**2) <= 1e-10 * self.radius**2
        return bool(np.abs(self.retain @ d).max() <= 1e-11 * scale and inside)


def _budgets(size: Size) -> Iterator[tuple[str, Budget]]:
    rng = np.random.default_rng(5)
    for i in range(4 if size == "smoke" else 30):
        n, k = 12, int(rng.integers(1, 6))
        forget, retain = rng.standard_normal(n), rng.standard_normal((k, n))
        metric = np.ones(n) if i % 2 == 0 else 10.0 ** rng.uniform(-2, 2, n)
        kernel = np.linalg.svd(retain)[2][k:]  # an orthonormal basis of R d = 0, found without the rule
        rivals = rng.standard_normal((500, n - k)) @ kernel
        # every other rival is pulled towards the projected gradient, so that some come close
        rivals[::2] += 10 * (kernel @ (metric * forget)) @ kernel
        radius = 10.0 ** rng.uniform(-2, 2)
        rivals *= radius / np.sqrt(np.sum(rivals**2 / metric, axis=1))[:, None]
        yield f"{k} retain gradients, draw {i}", Budget(forget, retain, metric, radius, rivals)


polar_voids_surgery = Theorem(
    label="polar-voids-surgery",
    title="Orthogonalizing after surgery voids its guarantee",
    statement=(
        r"\begin{gathered}G=\diag(1,1-a),\ M=\diag(a,1):\quad\langle G,M\rangle=1,\quad"
        r"\langle G,\polar M\rangle=2-a,\\ G'=\diag(a^2-1,a+1):\quad\langle G,G'\rangle=0,\quad"
        r"\langle G,\polar\tfrac{G+G'}2\rangle=2-a\end{gathered}"
    ),
    assumes=(Assumption("a exceeds 1", lambda a: a > 1),),
    kind="identity",
    lhs=before_and_after,
    rhs=in_closed_form,
    cases=lambda size: ((f"a = {a:g}", a) for a in (1.5, 3.0, 10.0, 100.0)),
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
    tolerance=1e-9,
    reason="the solver stops at a gap of 1e-11 of the largest gradient, which is up to 60 times the value here",
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
    assumes=(Assumption("Q is orthonormal", lambda c: np.allclose(c.old.basis.T @ c.old.basis, np.eye(c.old.dimension),
                                                                  atol=1e-12)),),
    kind="identity",
    lhs=lambda c: c.leak(),
    rhs=lambda c: np.ones(1),
    cases=_projections,
    broken=lambda t: dataclasses.replace(t, lhs=lambda c: c.leak(np.sign)),
    mistake="the sign of each entry in place of the polar factor",
    source="ours, on [saha2021gradient]",
    tolerance=4e-10,
    reason="steps multiply what rounding puts outside by their slope at 0: ten of Muon's by 3.4445^10 = 2.4e5",
)  # fmt: skip

gpm_forgetting = Theorem(
    label="gpm-forgetting",
    title="Forgetting under gradient projection",
    statement=r"\|\Delta W A\|_F\le\|\Delta W\|_2\,\sqrt{1-\varepsilon}\,\|A\|_F\quad\text{for energy }\varepsilon",
    assumes=(
        Assumption("the step is projected", lambda c: np.allclose(c.step @ c.memory.basis, 0, atol=1e-10)),
        Assumption(
            "the memory holds the energy",
            lambda c: (
                np.linalg.norm(c.memory.inside(c.activations, "left")) ** 2
                >= c.gpm.energy * np.linalg.norm(c.activations) ** 2 * (1 - 1e-12)
            ),
        ),
    ),
    kind="upper",
    lhs=lambda c: c.change(),
    rhs=lambda c: c.bound(),
    cases=_forgetting,
    broken=lambda t: dataclasses.replace(t, rhs=lambda c: c.bound(0.9)),
    mistake="nine tenths of the bound",
    source="ours, on [saha2021gradient]",
)

bloop_leak = Theorem(
    label="bloop-leak",
    title="What Bloop leaks",
    statement=(
        r"\bigl|\langle x,g\rangle-\|g\|^2\bigr|\le\lambda\,\|g_{\mathrm{aux}}\|\,\|g\|\sin\angle(e,g),\qquad"
        r"\text{so that }e\parallel g\ \Rightarrow\ \langle x,g\rangle=\|g\|^2"
    ),
    assumes=(Assumption("the average is not zero", lambda c: bool(np.any(c.average != 0))),),
    kind="upper",
    lhs=lambda c: c.leak(),
    rhs=lambda c: c.bound(),
    cases=_leaks,
    broken=lambda t: dataclasses.replace(t, rhs=lambda c: c.bound(0.9)),
    mistake="nine tenths of the bound",
    source="ours, on [hsieh2024careful]",
)

unlearning_trust_region = Theorem(
    label="unlearning-trust-region",
    title="Geometric disentanglement is a trust-region step",
    statement=(
        r"\max\{\langle g,d\rangle:Rd=0,\ \langle d,M^{-1}d\rangle\le\rho^2\}"
        r"=\rho\,\sqrt{\langle g_\perp,Mg_\perp\rangle},\qquad g_\perp=g-R^{\top}(RMR^{\top})^{+}RMg"
    ),
    assumes=(Assumption("the solution is feasible", lambda c: c.feasible()),),
    kind="tight",
    lhs=lambda c: c.gains(),
    rhs=lambda c: c.value(),
    cases=_budgets,
    broken=lambda t: dataclasses.replace(t, rhs=lambda c: c.value(1.01)),
    mistake="a value that no feasible step attains",
    source="ours, on [zhou2025geometric]",
    tolerance=1e-9,
    reason="attained by the solution up to rounding times the condition of R M^1/2",
)

THEOREMS = (
    polar_voids_surgery,
    spectral_mgda_saddle,
    aligned_is_polar,
    polar_keeps_projection,
    gpm_forgetting,
    bloop_leak,
    unlearning_trust_region,
)
