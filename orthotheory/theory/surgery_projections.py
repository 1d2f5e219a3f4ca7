"""What projections against old gradients keep: forgetting under GPM, leak of Bloop, unlearning in a trust region."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from ..problems.tasks import task_sequence
from ..surgery.continual import GPM
from ..surgery.retain import Bloop
from ..surgery.subspace import Subspace
from ..surgery.unlearning import disentangle, trust_region_step
from .contract import Assumption, Size, Theorem


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
        r"\bigl|\langle x,g\rangle-\|g\|^2\bigr|\le\lambda\,\|g_{\mathrm{aux}}\|\,\|g\|\sin\angle(e,g),\qquad "
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

THEOREMS = (gpm_forgetting, bloop_leak, unlearning_trust_region)
