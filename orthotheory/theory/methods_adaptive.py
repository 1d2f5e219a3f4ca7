"""What rescaling does to an orthogonalized step: NorMuon, AdaMuon, NAMO, NAMO-D, Conda, Dion and Dion2."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..methods import NAMO, NAMOD, AdaMuon, Conda, Dion, Dion2, Method, Muon, NorMuon, OrthDion
from ..methods.namo import bias_correction
from ..problems import orthogonal
from .contract import Assumption, Size, Theorem


@dataclass(frozen=True)
class Steps:
    """A method and the gradients that it is given, in order; weights start at zero."""

    method: Any
    grads: tuple[np.ndarray, ...]


def weights_after(method: Method, grads: tuple[np.ndarray, ...]) -> np.ndarray:
    """Return the weights after each step from zero, shape (steps, m, n)."""
    w = np.zeros_like(grads[0])
    state, path = method.init(w), []
    for g in grads:
        w, state = method.step(w, g, state)
        path.append(w)
    return np.array(path)


def last_step(method: Method, grads: tuple[np.ndarray, ...]) -> np.ndarray:
    """Return the displacement of the last step."""
    path = weights_after(method, grads)
    return path[-1] - (path[-2] if len(path) > 1 else 0)


def one_plus_distance(a: np.ndarray, b: np.ndarray) -> float:
    """Return 1 + |a - b|_F / |b|_F: 1 where both agree."""
    return 1.0 + float(np.linalg.norm(a - b) / np.linalg.norm(b))


def gaussian(shape: tuple[int, int], count: int, seed: int = 0) -> tuple[np.ndarray, ...]:
    """Return a sequence of Gaussian gradients."""
    rng = np.random.default_rng(seed)
    return tuple(rng.standard_normal(shape) for _ in range(count))


def _wide(size: Size) -> Iterator[tuple[str, tuple[np.ndarray, ...]]]:
    for seed in range(2 if size == "smoke" else 20):
        for shape in ((8, 32), (16, 16), (1, 5)):
            yield f"{shape[0]} x {shape[1]}, seed {seed}", gaussian(shape, 30, seed)


def _tall(size: Size) -> Iterator[tuple[str, tuple[np.ndarray, ...]]]:
    yield "32 x 8", gaussian((32, 8), 30)


normuon_is_muon = Theorem(
    label="normuon-is-muon",
    title="NorMuon is Muon for m <= n",
    statement=r"m\le n,\ G_t\text{ of rank }m\ \Rightarrow\ W_t^{\mathrm{NorMuon}}=W_t^{\mathrm{Muon}}\quad "
    r"\text{(exact polar factors)}",
    assumes=(Assumption("m <= n", lambda grads: grads[0].shape[0] <= grads[0].shape[1]),),
    kind="identity",
    lhs=lambda grads: [
        one_plus_distance(
            weights_after(NorMuon(plan="exact", eps=0.0), grads)[-1], weights_after(Muon(plan="exact"), grads)[-1]
        )
    ],
    rhs=lambda grads: [1.0],
    cases=_wide,
    broken=lambda t: dataclasses.replace(t, assumes=(), cases=_tall),
    mistake="a tall matrix, whose rows have different lengths in the polar factor",
    source="ours",
    tolerance=1e-11,
    reason="30 steps with polar factors of momenta of condition up to 1e3: 30 * 1e3 * 10 eps",
)


def _any_rank(size: Size) -> Iterator[tuple[str, tuple[np.ndarray, ...]]]:
    rng = np.random.default_rng(1)
    for m, n in ((6, 6), (4, 9), (9, 4)):
        for rank in (1, 2, min(m, n)):
            grads = tuple(rng.standard_normal((m, rank)) @ rng.standard_normal((rank, n)) for _ in range(5))
            yield f"{m} x {n} of rank {rank}", grads


def _rms(step: np.ndarray) -> list[float]:
    return [float(np.sqrt(np.mean(step**2)))]


adamuon_rms = Theorem(
    label="adamuon-rms",
    title="AdaMuon's step has root mean square 0.2 for every gradient",
    statement=r"\frac{1}{\sqrt{mn}}\|\Delta W_t\|_F=0.2\,\eta",
    assumes=(),
    kind="identity",
    lhs=lambda grads: _rms(last_step(AdaMuon(lr=1.0, weight_decay=0.0), grads)),
    rhs=lambda grads: [0.2],
    cases=_any_rank,
    broken=lambda t: dataclasses.replace(
        t, lhs=lambda grads: _rms(last_step(Muon(variant="moonlight", plan="exact", lr=1.0), grads))
    ),
    mistake="Muon with the factor that matches it, 0.2 sqrt(rank / min(m, n)) at deficient rank",
    source="ours",
    tolerance=1e-8,
    reason="epsilon 1e-8 next to a Frobenius norm of at least 1",
)
adamuon_first_step = Theorem(
    label="adamuon-first-step",
    title="AdaMuon's first step is the sign of a polar factor",
    statement=r"\Delta W_1=-0.2\,\eta\,\operatorname{sign}(O_1),\quad O_1=\operatorname{polar}(\operatorname{sign}G_1)",
    assumes=(Assumption("there is one gradient", lambda grads: len(grads) == 1),),
    kind="identity",
    lhs=lambda grads: last_step(AdaMuon(lr=1.0, weight_decay=0.0, eps=0.0), grads),
    rhs=lambda grads: -0.2 * np.sign(last_step_direction(grads)),
    cases=lambda size: ((f"32 x 32, seed {seed}", gaussian((32, 32), 1, seed)) for seed in range(3)),
    broken=lambda t: dataclasses.replace(
        t, assumes=(), cases=lambda size: [("32 x 32, two gradients", gaussian((32, 32), 2))]
    ),
    mistake="the second step",
    source="ours",
    tolerance=1e-12,
    reason="square roots and quotients of single entries",
)


def last_step_direction(grads: tuple[np.ndarray, ...]) -> np.ndarray:
    """Return the orthogonalized sign of the last look-ahead momentum, by AdaMuon's five quintic steps."""
    from ..polar import MUON_JORDAN, polar_factor

    m = np.zeros_like(grads[0])
    for g in grads:
        m = 0.95 * m + 0.05 * g
    return polar_factor(np.sign(0.95 * m + 0.05 * grads[-1]), MUON_JORDAN)


# NAMO


def namo_scales(method: NAMO, grads: tuple[np.ndarray, ...]) -> np.ndarray:
    """Return a_t, read off the spectral norms of the steps."""
    path = np.concatenate([np.zeros((1, *grads[0].shape)), weights_after(method, grads)])
    lengths = np.linalg.norm(np.diff(path, axis=0), 2, axis=(1, 2))
    return lengths / (0.2 * np.sqrt(max(grads[0].shape)) * method.lr)


def _namo(momentum: float = 0.95, nesterov: bool = True) -> NAMO:
    return NAMO(lr=1e-3, momentum=momentum, weight_decay=0.0, eps=0.0, plan="exact", nesterov=nesterov)


namo_first_scale = Theorem(
    label="namo-first-scale",
    title="NAMO's first scale with the look-ahead",
    statement=r"\alpha_1=1+\mu_1\ \text{(look-ahead)},\qquad\alpha_1=1\ \text{(none)}",
    assumes=(),
    kind="identity",
    lhs=lambda case: namo_scales(case.method, case.grads),
    rhs=lambda case: [1 + case.method.momentum * case.method.nesterov],
    cases=lambda size: (
        (f"momentum {mu}, look-ahead {nesterov}", Steps(_namo(mu, nesterov), gaussian((4, 6), 1)))
        for mu in (0.5, 0.9, 0.95)
        for nesterov in (True, False)
    ),
    broken=lambda t: dataclasses.replace(t, rhs=lambda case: [1.0]),
    mistake="a bias correction that fits",
    source="ours",
    tolerance=1e-10,
    reason="1e-12 is added to 1 - momentum",
)


def scale_bound(mu1: float, mu2: float, nesterov: bool) -> float:
    """Return the least upper bound of |N|_F / sqrt(v) over all sequences of gradients, for mu1^2 < mu2."""
    if nesterov:
        return (1 - mu1) / np.sqrt(1 - mu2) * np.sqrt((1 + mu1) ** 2 + mu1**4 / (mu2 - mu1**2))
    return (1 - mu1) / np.sqrt((1 - mu2) * (1 - mu1**2 / mu2))


def _worst_gradients(size: Size) -> Iterator[tuple[str, Steps]]:
    """Cauchy-Schwarz with equality at the last step: |G| of age a is c_a / mu2^a, c_a its weight in N."""
    base, steps = gaussian((3, 3), 1)[0], 300
    for mu1, nesterov in ((0.95, False), (0.95, True), (0.9, True)):
        age = np.arange(steps - 1, -1, -1.0)
        weight = mu1 ** (age + nesterov)
        weight[-1] += nesterov  # the newest gradient enters a second time
        sizes = weight / 0.99**age
        yield f"mu1 {mu1}, look-ahead {nesterov}", Steps(_namo(mu1, nesterov), tuple(s * base for s in sizes))


def _uncorrected(case: Steps) -> np.ndarray:
    count = len(case.grads)
    corrections = [bias_correction(case.method.momentum, case.method.beta2, t) for t in range(1, count + 1)]
    return namo_scales(case.method, case.grads) / corrections


namo_scale_bound = Theorem(
    label="namo-scale-bound",
    title="NAMO's uncorrected scale is bounded, tightly",
    statement=r"\frac{\|M\|_F}{\sqrt v}\le\frac{1-\mu_1}{\sqrt{(1-\mu_2)(1-\mu_1^2/\mu_2)}},\qquad "
    r"\frac{\|N\|_F}{\sqrt v}\le\frac{1-\mu_1}{\sqrt{1-\mu_2}}\sqrt{(1+\mu_1)^2+\frac{\mu_1^4}{\mu_2-\mu_1^2}}",
    assumes=(Assumption("mu1^2 < mu2", lambda case: case.method.momentum**2 < case.method.beta2),),
    kind="tight",
    lhs=_uncorrected,
    rhs=lambda case: np.full(
        len(case.grads), scale_bound(case.method.momentum, case.method.beta2, bool(case.method.nesterov))
    ),
    cases=_worst_gradients,
    broken=lambda t: dataclasses.replace(
        t,
        rhs=lambda case: np.full(len(case.grads), scale_bound(case.method.momentum, case.method.beta2, False)),
    ),
    mistake="the bound without the look-ahead, for both",
    source="ours",
    tolerance=1e-9,
    reason="300 gradients leave out a share (mu1^2 / mu2)^300 = 1e-12 of the sum",
)


def _both_clamps(size: Size) -> Iterator[tuple[str, Steps]]:
    base = orthogonal(6, np.random.default_rng(2))[:, :4]
    for clamp in (0.5, 0.75, 0.9):
        flips = np.array([[1.0, 1, 1, 1], [1.0, -1, -1, -1]])  # one steady column, three that alternate
        grads = tuple(base * flips[t % 2] for t in range(40))
        yield f"clamp {clamp}", Steps(NAMOD(lr=1e-3, weight_decay=0.0, clamp=clamp, plan="exact"), grads)


namo_d_condition = Theorem(
    label="namo-d-condition",
    title="Condition number of NAMO-D's step",
    statement=r"\kappa(\Delta W_t)\le c^{-2}",
    assumes=(Assumption("the momentum has full column rank", lambda case: case.grads[0].shape[0] >= 4),),
    kind="tight",
    lhs=lambda case: [np.linalg.cond(last_step(case.method, case.grads))],
    rhs=lambda case: [case.method.clamp**-2],
    cases=_both_clamps,
    broken=lambda t: dataclasses.replace(t, rhs=lambda case: [1 / case.method.clamp]),
    mistake="1 / c",
    source="ours",
    tolerance=1e-9,
    reason="a step of 1e-3 is a difference of weights below 1e-1, relative 1e-13, and a polar factor",
)


# Conda


def _steady(grads: tuple[np.ndarray, ...]) -> np.ndarray:
    u, _, vh = np.linalg.svd(grads[-1], full_matrices=False)
    return -(u @ np.sign(vh) if u.shape[0] < vh.shape[1] else np.sign(u) @ vh)


def _conda_against_polar(grads: tuple[np.ndarray, ...]) -> list[float]:
    polar = last_step(Muon(lr=1.0, plan="exact", shape_factor="none"), grads)
    return [one_plus_distance(last_step(Conda(lr=1.0, eps=0.0, period=1), grads), polar)]


conda_steady_step = Theorem(
    label="conda-steady-step",
    title="Conda's step under a constant gradient",
    statement=r"G_t=U\Sigma V^\top,\ T=1\ \Rightarrow\ \Delta W_t=-\eta\,U\operatorname{sign}(V^\top)\ (m<n),\quad "
    r"-\eta\operatorname{sign}(U)V^\top\ (m\ge n)",
    assumes=(Assumption("all gradients are equal", lambda grads: all(np.array_equal(g, grads[0]) for g in grads)),),
    kind="identity",
    lhs=lambda grads: [one_plus_distance(last_step(Conda(lr=1.0, eps=0.0, period=1), grads), _steady(grads))],
    rhs=lambda grads: [1.0],
    cases=lambda size: ((f"{m} x {n}", gaussian((m, n), 1) * 8) for m, n in ((6, 9), (9, 6), (5, 5))),
    broken=lambda t: dataclasses.replace(t, lhs=_conda_against_polar),
    mistake="the polar factor in place of U sign(V^T)",
    source="ours",
    tolerance=1e-10,
    reason="a singular value decomposition of condition below 1e2, entries of V above 1e-4",
)


# Dion


def _buffers(method: Dion, grads: tuple[np.ndarray, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Return Dion's last buffer B = M / momentum and the heavy-ball buffer."""
    w = np.zeros_like(grads[0])
    state, heavy = method.init(w), w
    for g in grads:
        heavy = method.momentum * heavy + g
        w, state = method.step(w, g, state)
    return state.momentum / method.momentum, heavy


dion_full_rank_momentum = Theorem(
    label="dion-full-rank-momentum",
    title="Dion at full rank has the heavy-ball buffer",
    statement=r"r=\min(m,n)\ \Rightarrow\ M_t=\mu B_t,\quad B_t=\mu B_{t-1}+G_t",
    assumes=(Assumption("the rank is min(m, n)", lambda c: (c.method.rank or 10**9) >= min(c.grads[0].shape)),),
    kind="identity",
    lhs=lambda case: [one_plus_distance(*_buffers(case.method, case.grads))],
    rhs=lambda case: [1.0],
    cases=lambda size: ((f"{m} x {n}", Steps(Dion(), gaussian((m, n), 30))) for m, n in ((6, 9), (9, 6), (5, 5))),
    broken=lambda t: dataclasses.replace(
        t, assumes=(), cases=lambda size: [("6 x 9 at rank 5", Steps(Dion(rank=5), gaussian((6, 9), 30)))]
    ),
    mistake="one rank less",
    source="ours",
    tolerance=1e-12,
    reason="30 steps, projections to rounding",
)


@dataclass(frozen=True)
class ColdStart:
    """A buffer next to rank one, with a start basis that misses its right singular vector."""

    buffer: np.ndarray
    basis: np.ndarray
    turn: Any  # Dion, or Orth-Dion


def _cold(size: Size, turn: type[Dion] = Dion) -> Iterator[tuple[str, ColdStart]]:
    for rank in (2, 4, 6):
        rng = np.random.default_rng(rank)
        u, v = orthogonal(16, rng)[:, 0], orthogonal(16, rng)
        basis = v[:, 1 : rank + 1] + 1e-12 * v[:, :1]
        buffer = np.outer(u, v[:, 0]) + 1e-7 * rng.standard_normal((16, 16))
        yield f"rank {rank}", ColdStart(buffer, basis, turn(rank=rank, weight_decay=0.0, lr=1.0, eps=0.0))


def _update_norm(case: ColdStart) -> list[float]:
    w = np.zeros_like(case.buffer)
    state = case.turn.init(w)._replace(basis=case.basis)
    return [float(np.linalg.norm(case.turn.step(w, case.buffer, state)[0], 2))]


dion_root_rank = Theorem(
    label="dion-root-rank",
    title="Dion's update reaches sqrt(r)",
    statement=r"\|PQ^\top\|_2\le\sqrt r",
    assumes=(),
    kind="tight",
    lhs=_update_norm,
    rhs=lambda case: [np.sqrt(case.basis.shape[1])],
    cases=_cold,
    broken=lambda t: dataclasses.replace(t, cases=lambda size: _cold(size, OrthDion)),
    mistake="Orth-Dion's orthonormal right factor, whose update has norm one: the bound is not attained",
    source="ours",
    tolerance=1e-3,
    reason="the columns of Q differ from the singular vector by 1e-7 over the component of u in a column of P",
)
dion2_whole_is_muon = Theorem(
    label="dion2-whole-is-muon",
    title="Dion2 on all slices is heavy-ball Muon",
    statement=r"\phi=1\ \Rightarrow\ W_t^{\mathrm{Dion2}}=W_t^{\mathrm{Muon}}",
    assumes=(Assumption("the fraction is 1", lambda case: case.method.fraction == 1),),
    kind="identity",
    lhs=lambda case: [
        one_plus_distance(
            weights_after(case.method, case.grads)[-1],
            weights_after(Muon(variant="dion", nesterov=False, lr=0.01, weight_decay=0.01), case.grads)[-1],
        )
    ],
    rhs=lambda case: [1.0],
    cases=lambda size: (
        (f"{m} x {n}", Steps(Dion2(fraction=1.0), gaussian((m, n), 20))) for m, n in ((6, 9), (9, 6), (5, 5))
    ),
    broken=lambda t: dataclasses.replace(
        t, assumes=(), cases=lambda size: [("half", Steps(Dion2(fraction=0.5), gaussian((6, 9), 20)))]
    ),
    mistake="half of the slices",
    source="ours",
    tolerance=1e-10,
    reason="rows in another order, rounding amplified by at most 7000 (Polar Express)",
)

THEOREMS = (
    normuon_is_muon,
    adamuon_rms,
    adamuon_first_step,
    namo_first_scale,
    namo_scale_bound,
    namo_d_condition,
    conda_steady_step,
    dion_full_rank_momentum,
    dion_root_rank,
    dion2_whole_is_muon,
)
