"""What the methods in subspaces do exactly: any law of the projector, energies of cosine columns, FRUGAL's ends."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..methods import FRUGAL, Adam, GradientDescent, SignDescent
from ..methods.dct import best_columns, dct_matrix
from ..problems import orthogonal
from .contract import Assumption, Size, Theorem
from .methods_adaptive import Steps, gaussian, one_plus_distance, weights_after

Cases = Iterator[tuple[str, Any]]


@dataclass(frozen=True)
class Moment:
    """What a law of the projector sees at the start of an interval: its number, the gradient, the last P, the flow."""

    k: int
    gradient: np.ndarray
    last: np.ndarray
    rng: np.random.Generator
    peek: Callable[[np.ndarray], float]  # P -> the value of f after the interval


Law = Callable[[Moment], np.ndarray]


def _turn(now: Moment) -> np.ndarray:
    c, s = np.cos(0.3 * now.k), np.sin(0.3 * now.k)
    turn = np.eye(len(now.last))
    turn[:3:2, :3:2] = [[c, -s], [s, c]]
    return turn[:, : now.last.shape[1]]


def _oja(now: Moment) -> np.ndarray:
    x = now.gradient / max(np.linalg.norm(now.gradient), 1e-300)
    pull = x @ (x.T @ now.last)
    return now.last + 0.3 * (pull - now.last @ (now.last.T @ pull))


def _avoid(now: Moment) -> np.ndarray:
    return np.linalg.svd(now.gradient)[0][:, -now.last.shape[1] :]


def _worst_of_many(now: Moment) -> np.ndarray:
    return max((now.rng.standard_normal(now.last.shape) for _ in range(8)), key=now.peek)


LAWS: dict[str, Law] = {
    "constant": lambda now: now.last,
    "random orthonormal": lambda now: orthogonal(len(now.last), now.rng)[:, : now.last.shape[1]],
    "random scale": lambda now: 10 ** now.rng.uniform(-1, 0.7) * now.rng.standard_normal(now.last.shape),
    "leading singular vectors": lambda now: np.linalg.svd(now.gradient)[0][:, : now.last.shape[1]],
    "Oja": _oja,
    "alternating": lambda now: np.roll(np.eye(*now.last.shape), 2 * (now.k % 3), axis=0),
    "turning": _turn,
    "on and off": lambda now: (now.k % 2) * np.eye(*now.last.shape),
    "orthogonal to the gradient": _avoid,
    "worst of eight for f": _worst_of_many,
}


@dataclass(frozen=True)
class SubspaceFlow:
    """W' = -P m, m' = a (P^T G - m) on f = <W, A W> / 2, with P chosen anew by a law on intervals of one length.

    Between choices the flow is linear, so it is solved by a matrix exponential and its dissipation, the integral of
    |m|^2, by that of a block matrix [vanloan1978computing]: nothing is discretized. `stale` projects the gradient with
    the P of the interval before.
    """

    hessian: np.ndarray
    start: np.ndarray
    law: Law
    rate: float = 1.0
    length: float = 0.2
    intervals: int = 60
    rank: int = 2
    seed: int = 0

    def matrix(self, back: np.ndarray, forth: np.ndarray) -> np.ndarray:
        """Return the generator of the flow on (W, m) that lifts with `back` and projects with `forth`."""
        n, r = back.shape
        return np.block(
            [[np.zeros((n, n)), -back], [self.rate * forth.T @ self.hessian, -self.rate * np.eye(r)]]
        )  # fmt: skip

    def path(self, *, stale: bool = False) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return the values of H = f + |m|^2 / 2a and of f at all times, and the dissipation of each interval."""
        from scipy.linalg import expm

        n, columns = self.start.shape
        x = np.vstack([self.start, np.zeros((self.rank, columns))])
        p = np.eye(n, self.rank)
        rng = np.random.default_rng(self.seed)
        energy = np.zeros((n + self.rank, n + self.rank))
        energy[:n, :n], energy[n:, n:] = self.hessian / 2, np.eye(self.rank) / (2 * self.rate)
        friction = np.diag([0.0] * n + [1.0] * self.rank)
        values, losses, lost = [np.sum(x * (energy @ x))], [np.sum(x[:n] * (self.hessian @ x[:n])) / 2], []
        for k in range(self.intervals):

            def peek(q, x=x):
                w = (expm(self.matrix(q, q) * self.length) @ x)[:n]
                return float(np.sum(w * (self.hessian @ w)))

            last, p = p, self.law(Moment(k, self.hessian @ x[:n], p, rng, peek))
            b = self.matrix(p, last if stale else p)
            block = np.block([[-b.T, friction], [np.zeros_like(b), b]])
            solved = expm(block * self.length)
            step = solved[len(b) :, len(b) :]
            lost.append(np.sum(x * (step.T @ solved[: len(b), len(b) :] @ x)))
            x = step @ x
            values.append(np.sum(x * (energy @ x)))
            losses.append(np.sum(x[:n] * (self.hessian @ x[:n])) / 2)
        return np.array(values), np.array(losses), np.array(lost)


def positive(values: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return a symmetric matrix with the given eigenvalues in a random basis."""
    q = orthogonal(len(values), rng)
    return (q * values) @ q.T


def flow(law: Law, seed: int = 0) -> SubspaceFlow:
    """Return a flow of 6 x 2 weights, rank 2, on a quadratic of condition 10."""
    rng = np.random.default_rng(seed)
    return SubspaceFlow(positive(np.geomspace(0.3, 3, 6), rng), rng.standard_normal((6, 2)), law)


def _flows(size: Size) -> Cases:
    for seed in range(1 if size == "smoke" else 5):
        for name, law in LAWS.items():
            yield f"{name}, seed {seed}", dataclasses.replace(flow(law, seed), seed=seed)


def _accounted(case: SubspaceFlow, *, stale: bool = False) -> np.ndarray:
    values, _, lost = case.path(stale=stale)
    return values[1:] + lost


online_subspace_lyapunov = Theorem(
    label="online-subspace-lyapunov",
    title="Momentum in a subspace dissipates the same Hamiltonian under every law of the projector",
    statement=(
        r"\dot W=-Pm,\ \dot m=a(P^\top\nabla f-m):\quad "
        r"\tfrac{d}{dt}\bigl[f(W)+\tfrac1{2a}\|m\|_F^2\bigr]=-\|m\|_F^2\quad\text{for every }P(t)"
    ),
    assumes=(),
    kind="identity",
    lhs=_accounted,
    rhs=lambda c: c.path()[0][:-1],
    cases=_flows,
    broken=lambda t: dataclasses.replace(
        t, lhs=lambda c: _accounted(c, stale=True), rhs=lambda c: c.path(stale=True)[0][:-1]
    ),
    mistake="the gradient is projected with the P of the interval before",
    source="[liang2024memory]",
    tolerance=1e-9,
    reason="matrix exponentials of generators of norm up to 50 over 0.2: exp(10) roundings at worst, 5e-12",
)


@dataclass(frozen=True)
class AdamFlow:
    """A point of W' = -P m / sqrt(v), m' = a (P^T G - m), v' = b ((P^T G)^2 - v) on <W, A W> / 2."""

    hessian: np.ndarray
    w: np.ndarray
    m: np.ndarray
    v: np.ndarray
    p: np.ndarray
    a: float
    b: float

    def hamiltonian(self, w, m, v):
        """Return f + sum m^2 / sqrt(v) / 2a, for complex arguments too."""
        return np.sum(w * (self.hessian @ w)) / 2 + np.sum(m**2 / np.sqrt(v)) / (2 * self.a)

    def friction(self) -> float:
        """Return sum m^2 / sqrt(v)."""
        return float(np.sum(self.m**2 / np.sqrt(self.v)))

    def derivative(self) -> float:
        """Return the derivative of H along the flow by a complex step, exact to rounding."""
        g, h = self.p.T @ self.hessian @ self.w, 1e-30j
        moved = (
            self.w - h * self.p @ (self.m / np.sqrt(self.v)),
            self.m + h * self.a * (g - self.m),
            self.v + h * self.b * (g**2 - self.v),
        )
        return float(np.imag(self.hamiltonian(*moved)) / 1e-30)


def _adam_flows(size: Size) -> Cases:
    rng = np.random.default_rng(1)
    for i in range(40 if size == "smoke" else 400):
        hessian = positive(np.geomspace(0.1, 10, 5), rng)
        w, m = rng.standard_normal((5, 2)), rng.standard_normal((2, 2))
        v = 10 ** rng.uniform(-4, 1, (2, 2))
        avoiding = i % 4 == 0  # P^T G = 0: the second moment decays as fast as it can, and the bound is attained
        p = np.linalg.svd(hessian @ w)[0][:, -2:] if avoiding else rng.standard_normal((5, 2))
        a, b = rng.uniform(0.3, 3, 2)
        text = f"draw {i}, a {a:.2f}, b {b:.2f}" + (", P orthogonal to G" if avoiding else "")
        yield text, AdamFlow(hessian, w, m, v, p, float(a), float(b))


online_subspace_adam = Theorem(
    label="online-subspace-adam",
    title="Adam in a subspace dissipates its Hamiltonian for b <= 4a, under every law of the projector",
    statement=(
        r"\mathcal H=f(W)+\tfrac1{2a}\langle m,m/\sqrt v\rangle:\quad "
        r"\dot{\mathcal H}\le-\Bigl(1-\tfrac b{4a}\Bigr)\langle m,m/\sqrt v\rangle"
    ),
    assumes=(),
    kind="upper",
    lhs=lambda c: [c.derivative() + c.friction()],
    rhs=lambda c: [c.b / (4 * c.a) * c.friction()],
    cases=_adam_flows,
    broken=lambda t: dataclasses.replace(t, rhs=lambda c: [c.b / (8 * c.a) * c.friction()]),
    mistake="b / 8a in place of b / 4a",
    source="ours, on [liang2024memory]",
    tolerance=1e-10,
    reason="the derivative is a sum that cancels to some 1e-4 of its largest term",
)


def energies(x: np.ndarray, rank: int) -> dict[str, float]:
    """Return the energy of x, |.|_F^2, in its best directions, best and first cosine columns, and in all."""
    basis = dct_matrix(x.shape[1])

    def inside(q):
        return float(np.sum((x @ q) ** 2))

    return {
        "svd": float(np.sum(np.linalg.svd(x, compute_uv=False)[:rank] ** 2)),
        "cosine": inside(best_columns(x, basis, rank, "l2")),
        "first": inside(basis[:, :rank]),
        "all": float(np.sum(x**2)),
    }


def _spectra(size: Size) -> Cases:
    rng = np.random.default_rng(2)
    n, rank = 12, 4
    basis = dct_matrix(n)
    yield "orthogonal: every column is as good", (orthogonal(n, rng), rank)
    yield "cosine singular vectors: as good as an SVD", (
        orthogonal(n, rng) @ np.diag(np.geomspace(100, 1, n)) @ basis.T, rank,
    )  # fmt: skip
    for i in range(10 if size == "smoke" else 100):
        yield f"Gaussian, draw {i}", (rng.standard_normal((9, n)), rank)
        yield f"low rank, draw {i}", (rng.standard_normal((9, rank)) @ rng.standard_normal((rank, n)), rank)
        yield f"heavy tails, draw {i}", (rng.standard_t(1.5, (9, n)), rank)


def _between(case: tuple[np.ndarray, int], choice: str = "cosine") -> list[float]:
    e = energies(*case)
    return [case[1] / case[0].shape[1] * e["all"], e[choice]]


dct_energy = Theorem(
    label="dct-energy",
    title="The best cosine columns hold between their share and the energy of the leading singular vectors",
    statement=r"\frac rn\,\|X\|_F^2\le\max_{|S|=r}\|XQ_S\|_F^2\le\sum_{i\le r}\sigma_i^2(X)",
    assumes=(),
    kind="upper",
    lhs=lambda c: _between(c),
    rhs=lambda c: [energies(*c)["cosine"], energies(*c)["svd"]],
    cases=_spectra,
    broken=lambda t: dataclasses.replace(
        t, lhs=lambda c: _between(c, "first"), rhs=lambda c: [energies(*c)[k] for k in ("first", "svd")]
    ),
    mistake="the first columns in place of the best",
    source="ours, on [modoranu2025fft]; the upper side is Ky Fan's [fan1949theorem]",
    tolerance=1e-10,
    reason="rounding; both sides are attained, each in one of the first two cases",
)


def _ends(size: Size, density: float = -1.0) -> Cases:
    options: dict[str, Any] = {"lr": 0.1, "beta1": 0.9, "beta2": 0.99, "eps": 1e-6, "weight_decay": 0.1}
    pairs: tuple[tuple[str, float, dict[str, Any], Any], ...] = (
        ("nothing inside, signs outside", 0.0, {"residual": "sign"}, SignDescent(lr=0.1, weight_decay=0.1)),
        ("nothing inside, gradients outside", 0.0, {"residual": "gradient"}, GradientDescent(lr=0.1, weight_decay=0.1)),
        ("everything inside", 1.0, {}, Adam(**options)),
    )
    for m, n in ((4, 3), (3, 5)):
        for text, end, extra, other in pairs:
            frugal = FRUGAL(**options, density=end if density < 0 else density, period=1000, **extra)
            yield f"{text}, {m} x {n}", (Steps(frugal, gaussian((m, n), 25, 3)), other)


def _at_the_end(case: tuple[Steps, Any]) -> list[float]:
    steps, other = case
    return [one_plus_distance(weights_after(steps.method, steps.grads), weights_after(other, steps.grads))]


frugal_ends = Theorem(
    label="frugal-ends",
    title="FRUGAL with density 0 is sign descent (or gradient descent), with density 1 Adam",
    statement=r"\rho=0:\ W_{t+1}=W_t-\eta\operatorname{sign}G_t;\qquad \rho=1:\ \text{Adam}",
    assumes=(),
    kind="identity",
    lhs=_at_the_end,
    rhs=lambda c: [1.0],
    cases=_ends,
    broken=lambda t: dataclasses.replace(t, cases=lambda size: _ends(size, 0.5)),
    mistake="half of the columns inside",
    source="[zmushko2024frugal]",
    tolerance=1e-13,
    reason="columns are chosen, not mixed: sums of 25 steps, rounded",
)


def state_entries(method: Any, shape: tuple[int, int]) -> int:
    """Return how many numbers the state of a method holds."""

    def count(part):
        return sum(map(count, part)) if isinstance(part, tuple) else int(np.size(part)) if np.ndim(part) else 0

    return count(method.init(np.zeros(shape)))


def _densities(size: Size) -> Cases:
    for m, n in ((32, 16), (12, 40), (8, 8)):
        for density in (0.0, 0.25, 0.5, 1.0):
            yield f"{m} x {n}, density {density:g}", (density, (m, n))


frugal_state = Theorem(
    label="frugal-state",
    title="FRUGAL keeps two moments and a basis of its subspace, Adam's two moments times the density and that basis",
    statement=r"r=\rho\min(m,n):\quad 2r\max(m,n)+r\min(m,n)\ \text{numbers},\qquad\text{Adam: }2mn",
    assumes=(Assumption("the density gives whole ranks", lambda c: (c[0] * min(c[1])) % 1 == 0),),
    kind="identity",
    lhs=lambda c: [1 + state_entries(FRUGAL(density=c[0]), c[1])],
    rhs=lambda c: [1 + c[0] * (state_entries(Adam(), c[1]) + min(c[1]) ** 2)],
    cases=_densities,
    broken=lambda t: dataclasses.replace(t, rhs=lambda c: [1 + c[0] * state_entries(Adam(), c[1])]),
    mistake="the basis is not counted",
    source="ours, on [zmushko2024frugal]",
    tolerance=0.0,
    reason="integers",
)

THEOREMS = (
    online_subspace_lyapunov,
    online_subspace_adam,
    dct_energy,
    frugal_ends,
    frugal_state,
)
