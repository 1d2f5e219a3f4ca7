"""What retaining rules keep: second order after a projection, tangent steps, relaxed subspaces, streams and merges.

`bloop-leak`, `unlearning-trust-region` and `gpm-forgetting` stand with the theorems on surgery and orthogonalization.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from ..problems.tasks import LogCosh, adapters, retain_forget, task_matrices
from ..surgery.continual import ROGO, Relaxation
from ..surgery.merging import OPCM, core_space, iso_c
from ..surgery.retain import DynamicBarrier
from ..surgery.subspace import Subspace, append_columns, truncated_svd
from ..surgery.tangent import RadialProjection
from ..surgery.unlearning import disentangle
from .contract import Assumption, Size, Theorem


class Safe(NamedTuple):
    """Retain losses, a point, a direction and step lengths."""

    retain: LogCosh
    point: np.ndarray
    direction: np.ndarray
    raw: np.ndarray
    steps: np.ndarray

    def change(self, direction: np.ndarray) -> np.ndarray:
        """Return |f_j(w + t d) - f_j(w)|, shape (steps, k)."""
        moved = self.retain.value(self.point + self.steps[:, None] * direction)
        return np.abs(moved - self.retain.value(self.point))

    def bound(self) -> np.ndarray:
        """Return L_j t^2 |d|^2 / 2."""
        return 0.5 * self.retain.smoothness() * (self.steps[:, None] * np.linalg.norm(self.direction)) ** 2


def _safe(size: Size) -> Iterator[tuple[str, Safe]]:
    for seed in range(4 if size == "smoke" else 40):
        p = retain_forget(seed=seed)
        g = p.forget.grad(p.start)[0]
        d = disentangle(g, p.retain.grad(p.start)).update
        scale = np.linalg.norm(g) / np.linalg.norm(d)
        yield f"log-cosh losses, seed {seed}", Safe(p.retain, p.start, scale * d, g, 10.0 ** np.linspace(-3, 1, 9))


unlearning_second_order = Theorem(
    label="unlearning-second-order",
    title="Retain losses change to second order only",
    statement=r"Rd=0\ \Rightarrow\ |f_j(w+td)-f_j(w)|\le\tfrac12L_j\,t^2\|d\|^2\ \text{ for every retain loss }f_j",
    assumes=(
        Assumption(
            "the direction is orthogonal to the retain gradients",
            lambda c: bool(np.abs(c.retain.grad(c.point) @ c.direction).max() <= 1e-13 * np.linalg.norm(c.direction)),
        ),
    ),
    kind="upper",
    lhs=lambda c: c.change(c.direction),
    rhs=lambda c: c.bound(),
    cases=_safe,
    broken=lambda t: dataclasses.replace(t, lhs=lambda c: c.change(c.raw)),
    mistake="the forget gradient itself, of the same length",
    source="ours, on [zhou2025geometric]",
    tolerance=1e-7,
    reason="at t = 1e-3 the bound is 1e-9 of the losses, whose rounding is 1e-16",
)


class Tangent(NamedTuple):
    """A run of momentum descent on a scale-invariant quotient: squared norms and the squared lengths of the steps."""

    norms: np.ndarray
    steps: np.ndarray


def rayleigh_run(projected: bool, seed: int, steps: int = 200, lr: float = 0.05) -> Tangent:
    """Minimize <w, A w> / |w|^2 by momentum, with or without the radial projection of the step."""
    rng = np.random.default_rng(seed)
    a = np.diag(np.linspace(1, 10, 8))
    w, momentum = rng.standard_normal((1, 8)), np.zeros((1, 8))
    norms, lengths = [np.sum(w**2)], [0.0]
    for _ in range(steps):
        value = np.sum(w @ a * w) / norms[-1]
        grad = 2 * (w @ a - value * w) / norms[-1]
        momentum = 0.9 * momentum + grad
        u = RadialProjection()(momentum, w, grad).update if projected else momentum
        w = w - lr * u
        norms.append(np.sum(w**2))
        lengths.append(lr**2 * np.sum(u**2))
    return Tangent(np.array(norms), np.array(lengths))


def _tangent(projected: bool):
    def cases(size: Size) -> Iterator[tuple[str, Tangent]]:
        for seed in range(3 if size == "smoke" else 20):
            yield f"Rayleigh quotient, seed {seed}", rayleigh_run(projected, seed)

    return cases


tangent_norm_growth = Theorem(
    label="tangent-norm-growth",
    title="The norm grows by the squares of tangent steps",
    statement=r"\langle w_k,u_k\rangle=0\ \Rightarrow\ \|w_K\|^2=\|w_0\|^2+\eta^2\sum_{k<K}\|u_k\|^2",
    assumes=(),
    kind="identity",
    lhs=lambda c: c.norms,
    rhs=lambda c: c.norms[0] + np.cumsum(c.steps),
    cases=_tangent(True),
    broken=lambda t: dataclasses.replace(t, cases=_tangent(False)),
    mistake="momentum without the projection",
    source="[heo2021adamp]",
    tolerance=1e-12,
    reason="200 steps of a few roundings each",
)


def momentum_growth(run: Tangent, beta: float = 0.9) -> np.ndarray:
    """Return |w_0|^2 + eta^2 sum_{k<K} |u_k|^2 (1 + 2 sum_{j=1}^{K-1-k} beta^j) for every K."""
    total = np.zeros(len(run.norms))
    for k, square in enumerate(run.steps[1:]):
        ages = np.arange(len(run.norms) - k - 1)  # K - 1 - k for K = k + 1, ...
        total[k + 1 :] += square * (1 + 2 * beta * (1 - beta**ages) / (1 - beta))
    return run.norms[0] + total


momentum_norm_growth = Theorem(
    label="momentum-norm-growth",
    title="Momentum makes scale-invariant weights grow",
    statement=(
        r"\langle w_k,\nabla f(w_k)\rangle=0,\ u_k=\beta u_{k-1}+\nabla f(w_k)\ \Rightarrow\ "
        r"\|w_K\|^2=\|w_0\|^2+\eta^2\sum_{k<K}\|u_k\|^2\Bigl(1+2\sum_{j=1}^{K-1-k}\beta^j\Bigr)"
    ),
    assumes=(),
    kind="identity",
    lhs=lambda c: c.norms,
    rhs=momentum_growth,
    cases=_tangent(False),
    broken=lambda t: dataclasses.replace(t, rhs=lambda c: momentum_growth(c, 0.85)),
    mistake="beta = 0.85 in place of 0.9",
    source="[heo2021adamp]",
    tolerance=1e-11,
    reason="200 steps of a few roundings each, with a factor up to 1 + 2 beta / (1 - beta) = 19",
)


class Barrier(NamedTuple):
    """A main and an auxiliary gradient, and the weight of the second."""

    main: np.ndarray
    aux: np.ndarray
    lam: float

    def descent(self) -> np.ndarray:
        """Return <x, g_main> of the dynamic barrier with the current gradient, shape (1,)."""
        rule = DynamicBarrier(lam=self.lam, averaging=1.0)
        x = rule.step(self.main, self.aux, rule.init(self.main))[0]
        return np.atleast_1d(x @ self.main)


def _barriers(size: Size) -> Iterator[tuple[str, Barrier]]:
    rng = np.random.default_rng(0)
    for i in range(50 if size == "smoke" else 1000):
        main, aux = rng.standard_normal((2, 5))
        yield f"draw {i}", Barrier(main, aux, 10.0 ** rng.uniform(-1, 1))


barrier_descent = Theorem(
    label="barrier-descent",
    title="The dynamic barrier never slows the main loss",
    statement=r"e=g\ \Rightarrow\ \langle x,g\rangle=\max\{\|g\|^2,\ \lambda\langle g_{\mathrm{aux}},g\rangle\}",
    assumes=(),
    kind="identity",
    lhs=lambda c: c.descent(),
    rhs=lambda c: np.atleast_1d(max(c.main @ c.main, c.lam * (c.aux @ c.main))),
    cases=_barriers,
    broken=lambda t: dataclasses.replace(t, rhs=lambda c: np.atleast_1d(c.main @ c.main)),
    mistake="Bloop's value, which forgoes the help of the auxiliary gradient",
    source="ours, on [gong2021automatic]",
    tolerance=1e-10,
    reason="two inner products that nearly cancel in some draws",
)


class Stream(NamedTuple):
    """Errors of a tracked truncated SVD, the sums of what was dropped, and the last drop alone."""

    errors: np.ndarray
    dropped: np.ndarray
    last: np.ndarray


def _streams(size: Size) -> Iterator[tuple[str, Stream]]:
    rng = np.random.default_rng(1)
    for seed in range(3 if size == "smoke" else 20):
        decay = np.linspace(1, 0.1, 20)[:, None]
        a = rng.standard_normal((20, 40)) * decay
        f = truncated_svd(a[:, :4], 4)
        errors, dropped = [], [float(f.discarded)]
        for k in range(4, 40, 4):
            f = append_columns(f, a[:, k : k + 4], 4)
            errors.append(np.linalg.norm((f.u * f.s) @ f.vh - a[:, : k + 4]))
            dropped.append(float(f.discarded))
        yield f"draw {seed}", Stream(np.array(errors), np.array(dropped[1:]), np.diff(dropped))


svd_update_error = Theorem(
    label="svd-update-error",
    title="What a tracked SVD may miss",
    statement=r"\|A_t-U_tS_tV_t^{\top}\|_F\le\sum_{i\le t}\delta_i,\quad\delta_i\text{ the norm dropped by update }i",
    assumes=(),
    kind="upper",
    lhs=lambda c: c.errors,
    rhs=lambda c: c.dropped,
    cases=_streams,
    broken=lambda t: dataclasses.replace(t, rhs=lambda c: c.last),
    mistake="the last drop alone",
    source="ours, on [zha1999updating]",
)


class Oblique(NamedTuple):
    """A weight, a relaxation of an old subspace, a square matrix on it, and old inputs."""

    w: np.ndarray
    split: Relaxation
    q: np.ndarray
    inputs: np.ndarray

    def forgetting(self) -> np.ndarray:
        """Return |(W_eff - W) X|_F on old inputs, shape (1,)."""
        moved = ROGO().effective_weight(self.w, self.split.relaxed, self.q)
        return np.atleast_1d(np.linalg.norm((moved - self.w) @ self.inputs))

    def bound(self, share: float = 1.0) -> np.ndarray:
        """Return |W S (Q - I)|_2 |S^T X|_F."""
        s = self.split.relaxed.basis
        block = np.linalg.norm(self.w @ s @ (self.q - np.eye(len(self.q))), 2)
        return np.atleast_1d(share * block * np.linalg.norm(s.T @ self.inputs))


def _obliques(size: Size) -> Iterator[tuple[str, Oblique]]:
    rng = np.random.default_rng(2)
    for i in range(10 if size == "smoke" else 100):
        basis = np.linalg.qr(rng.standard_normal((16, 9)))[0]
        shared = int(rng.integers(1, 4))
        gradient = rng.standard_normal((8, shared + 3)) @ np.hstack([basis[:, :shared], basis[:, 6:]]).T
        split = ROGO(energy=1.0).relax(Subspace(basis[:, :6]), gradient)
        q = np.eye(shared) + rng.standard_normal((shared, shared))
        x = basis[:, :6] @ rng.standard_normal((6, 20))
        yield f"{shared} shared directions, draw {i}", Oblique(rng.standard_normal((8, 16)), split, q, x)


rogo_forgetting = Theorem(
    label="rogo-forgetting",
    title="Relaxing a subspace forgets a bounded amount",
    statement=(
        r"\|(W_{\mathrm{eff}}-W)X\|_F\le\|WS(Q-I)\|_2\,\|S^{\top}X\|_F,"
        r"\qquad W_{\mathrm{eff}}=W(I-SS^{\top})+WSQS^{\top}"
    ),
    assumes=(Assumption("something is relaxed", lambda c: c.split.relaxed.dimension > 0),),
    kind="upper",
    lhs=lambda c: c.forgetting(),
    rhs=lambda c: c.bound(),
    cases=_obliques,
    broken=lambda t: dataclasses.replace(t, rhs=lambda c: c.bound(0.9)),
    mistake="nine tenths of the bound",
    source="ours, on [yang2023restricted]",
)


class Merged(NamedTuple):
    """The squared norm of lam T after each task of a stream, and the squared norms of what was added."""

    totals: np.ndarray
    added: np.ndarray


def _merged(rule: OPCM):
    def cases(size: Size) -> Iterator[tuple[str, Merged]]:
        for seed, shape in enumerate([(8, 8), (10, 6), (6, 10)] * (1 if size == "smoke" else 5)):
            tasks = task_matrices(tasks=8, rows=shape[0], columns=shape[1], seed=seed)
            state = rule.init(tasks[0])
            totals, added = [], [np.sum(tasks[0] ** 2)]
            for t in tasks[1:]:
                added.append(np.sum(rule.novel(state.merged, t) ** 2))
                state = rule.step(t, state)
                totals.append(float(state.scale) ** 2 * np.sum(state.merged**2))
            yield f"{shape}, seed {seed}", Merged(np.array(totals), np.cumsum(added)[1:])

    return cases


opcm_pythagoras = Theorem(
    label="opcm-pythagoras",
    title="Merging on the fly adds orthogonal parts",
    statement=r"\|\lambda_tT_t\|_F^2=\sum_{i\le t}\|C_i\|_F^2,\qquad\langle C_t,T_{t-1}\rangle=0",
    assumes=(),
    kind="identity",
    lhs=lambda c: c.totals,
    rhs=lambda c: c.added,
    cases=_merged(OPCM()),
    broken=lambda t: dataclasses.replace(t, cases=_merged(OPCM(variant="copy"))),
    mistake="the diagonal left in place, as an earlier revision of the code does",
    source="ours, on [tang2025merging]",
    tolerance=1e-12,
    reason="a few roundings a task",
)


class CoreRatio(NamedTuple):
    """Spectral norms of Iso-C in the core and in full, of one set of adapters."""

    core: float
    full: float
    expected: float


def _cores(rank_aware: bool):
    def cases(size: Size) -> Iterator[tuple[str, CoreRatio]]:
        for seed, (rows, columns, rank) in enumerate([(15, 20, 3), (20, 15, 2), (16, 16, 1)]):
            low = adapters(tasks=4, rows=rows, columns=columns, rank=rank, seed=seed)
            core = core_space(low.b, low.a)
            inside = float(np.linalg.norm(core.expand(iso_c(core.cores, rank_aware=rank_aware)), 2))
            whole = float(np.linalg.norm(iso_c(low.matrices(), rank_aware=rank_aware), 2))
            yield f"({rows}, {columns}), rank {rank}", CoreRatio(inside, whole, min(rows, columns) / (4 * rank))

    return cases


core_iso_ratio = Theorem(
    label="core-iso-ratio",
    title="Iso-C does not commute with Core Space",
    statement=(
        r"\|\mathrm{Iso}(\text{core})\|_2=\frac{\min(m,n)}{Tr}\,\|\mathrm{Iso}(\text{full})\|_2"
        r"\quad\text{for }T\text{ adapters of rank }r,\ Tr\le\min(m,n)"
    ),
    assumes=(),
    kind="identity",
    lhs=lambda c: np.atleast_1d(c.core),
    rhs=lambda c: np.atleast_1d(c.expected * c.full),
    cases=_cores(False),
    broken=lambda t: dataclasses.replace(t, cases=_cores(True)),
    mistake="the rank-aware form, which commutes",
    source="ours, on [panariello2025accurate] and [marczak2025task]",
    tolerance=1e-11,
    reason="two SVDs of well-conditioned matrices",
)

THEOREMS = (
    unlearning_second_order,
    tangent_norm_growth,
    momentum_norm_growth,
    barrier_descent,
    svd_update_error,
    rogo_forgetting,
    opcm_pythagoras,
    core_iso_ratio,
)
