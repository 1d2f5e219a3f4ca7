"""Task sequences: subspaces of the gradient, relaxed subspaces and federated ones; `continual` has the optimizers."""

from __future__ import annotations

import functools
from collections.abc import Callable

import numpy as np

from ..problems import orthogonal
from ..problems.tasks import LinearTask, task_sequence
from ..surgery.continual import ROGO, Relaxation, federated_basis
from ..surgery.sculpting import CoSO
from ..surgery.sparse_svd import append_sparse_columns, dense_work, factored_svd
from ..surgery.subspace import Subspace, append_columns, principal_angles, truncated_svd
from ..theory.contract import Size
from .contract import Claim, Verdict

ROUNDING = 1e-11


def keeps_memory(step: Callable[..., tuple[np.ndarray, Subspace]], size: Size) -> Verdict:
    """Judge a training rule by M^T (W_end - W_start) over five tasks, M what earlier tasks stored."""
    worst, learned, forgotten = 0.0, [], 0.0
    for seed in range(1 if size == "smoke" else 5):
        w, memory = np.zeros((24, 4)), Subspace.empty(24, like=np.zeros(1))
        rule = CoSO(lr=0.05, rank=3, sketch_rank=6, interval=5, energy=0.999)
        tasks = task_sequence(tasks=5, inputs=24, rank=4, seed=seed)
        for i, task in enumerate(tasks):
            start, before = w, [float(t.loss(w.T)) for t in tasks]
            w, memory_next = step(rule, w, task, memory)
            if memory.dimension:
                worst = max(worst, float(np.abs(memory.basis.T @ (w - start)).max()))
            forgotten = max([forgotten, *(float(t.loss(w.T)) - b for t, b in zip(tasks[:i], before, strict=False))])
            learned.append(float(task.loss(w.T)) / before[i])
            memory = memory_next
    return Verdict(
        "holds" if worst <= 1e-12 else "refuted",
        measured=worst,
        expected="no change inside the stored subspace",
        evidence={
            "largest loss after over before": max(learned),
            "largest rise of an old loss": forgotten,
            "dimension stored": memory.dimension,
        },
    )


def _coso(rule: CoSO, w: np.ndarray, task: LinearTask, memory: Subspace) -> tuple[np.ndarray, Subspace]:
    state = rule.init(w, memory)
    for _ in range(40):
        w, state = rule.step(w, task.grad(w.T).T, state)
    return w, rule.end_task(state)


def _adam_in_full_space(rule: CoSO, w: np.ndarray, task: LinearTask, memory: Subspace) -> tuple[np.ndarray, Subspace]:
    grown = _coso(rule, w, task, memory)[1]
    m = v = 0.0 * w
    for k in range(1, 41):
        g = memory.outside(task.grad(w.T).T, "left")
        m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g * g
        w = w - rule.lr * (m / (1 - 0.9**k)) / (np.sqrt(v / (1 - 0.999**k)) + 1e-8)
    return w, grown


def transfers_without_forgetting(relax: Callable[..., Relaxation], size: Size) -> Verdict:
    """Judge whether relaxing shared directions beats the hard projection on the new task, at a bounded forgetting."""
    gains, shares, forgotten = [], [], []
    for seed in range(4 if size == "smoke" else 30):
        rng = np.random.default_rng(seed)
        q = orthogonal(16, rng)
        memory, x = Subspace(q[:, :6]), np.hstack([q[:, :2], q[:, 6:9]]) @ rng.standard_normal((5, 40))
        w, task = rng.standard_normal((6, 16)), LinearTask(x, rng.standard_normal((6, 16)) @ x)
        old = memory.basis @ rng.standard_normal((6, 40))
        hard = w + memory.outside((task.targets - w @ x) @ np.linalg.pinv(memory.outside(x, "left")))
        split = relax(memory, task.grad(w))
        s = split.relaxed.basis
        missing = task.targets - (hard - hard @ s @ s.T) @ x  # the best Q: min |W S Q S^T X - missing|
        block = np.linalg.pinv(hard @ s) @ missing @ np.linalg.pinv(s.T @ x) if s.size else np.eye(0)
        moved = ROGO().effective_weight(hard, split.relaxed, block)
        gains.append(float(task.loss(moved) / task.loss(hard)))
        change = float(np.linalg.norm((moved - hard) @ old))
        if s.size:
            moves = hard @ s @ (block - np.eye(s.shape[1]))
            shares.append(change / float(np.linalg.norm(moves, 2) * np.linalg.norm(s.T @ old)))
        forgotten.append(change / float(np.linalg.norm(hard @ old)))
    transfers = max(gains) < 1 - 1e-6 and max(shares, default=0.0) <= 1 + 1e-9
    return Verdict(
        "holds_if" if transfers else "refuted",
        measured=float(np.median(forgotten)),
        expected="a lower loss on the new task than under the hard projection, and no forgetting",
        evidence={
            "largest new loss over the hard projection's": max(gains),
            "largest forgetting over its bound": max(shares, default=0.0),
            "largest relative change of old outputs": max(forgotten),
        },
        condition="forgetting is bounded by |W S (Q - I)|_2 |S^T X|_F, and zero only for Q = I" if transfers else "",
    )


def _no_relaxation(memory: Subspace, gradient: np.ndarray) -> Relaxation:
    return Relaxation(memory, Subspace.empty(16, like=gradient), np.zeros(0))


def keeps_outputs_across_clients(adam: bool, at_server: bool, size: Size) -> Verdict:
    """Judge federated orthogonal updates: angle of the federated subspace, change of all clients' old outputs."""
    worst = angle = 0.0
    for seed in range(2 if size == "smoke" else 10):
        rng = np.random.default_rng(seed)
        q = orthogonal(30, rng)[:, :6]
        activations = [q @ rng.standard_normal((6, 25)) for _ in range(10)]
        memory = federated_basis(activations, 10, rng=seed)
        angle = max(angle, float(np.max(principal_angles(memory.basis, q))))
        updates = [memory.outside(rng.standard_normal((5, 30))) for _ in range(10)]
        if adam:
            updates = [np.sign(u) for u in updates]  # the first step of Adam
        total = sum(updates) / 10
        total = memory.outside(total) if at_server else total
        worst = max(worst, *(float(np.abs(total @ a).max()) for a in activations))
    return Verdict(
        "holds" if worst <= ROUNDING and angle < 0.1 else "refuted",
        measured=worst,
        expected="old outputs of every client unchanged, principal angle below 0.1",
        evidence={"largest principal angle": angle},
    )


def updates_cheaply(density: float, size: Size) -> Verdict:
    """Judge the sparse SVD update by multiplications against the dense one, and by its agreement with it."""
    from scipy import sparse

    m, k, c, steps = 4000, 8, 8, 10 if size == "smoke" else 60
    first = sparse.random(m, 40, density=0.01, random_state=0).toarray()
    f, d, work, defect = factored_svd(first, k), truncated_svd(first, k), 0, 0.0
    for i in range(steps):
        e = sparse.random(m, c, density=density, random_state=i + 1, format="csc")
        f, d = append_sparse_columns(f, e), append_columns(d, e.toarray(), k)
        work += dense_work(m, 40 + c * i, k, c)
        defect = max(defect, float(np.linalg.norm(f.left().T @ f.left() - np.eye(k))))
    angle = float(np.max(principal_angles(np.linalg.qr(f.left())[0], d.u)))
    ratio, error = work / f.work, float(np.abs(f.s / d.s - 1).max())
    holds = ratio >= 10 and error <= 1e-10 and angle <= 1e-7
    return Verdict(
        "holds_if" if holds else "refuted",
        measured=ratio,
        expected="at least ten times fewer multiplications than the dense update, at the same result",
        evidence={
            "share of nonzeros": density,
            "largest relative error of a singular value": error,
            "largest principal angle": angle,
            "largest loss of orthonormality": defect,
        },
        condition="the new columns are sparse; seconds were not judged" if holds else "",
    )


CLAIMS = (
    Claim(
        "coso-keeps-memory", "cheng2025continuous",
        "Training in successive subspaces orthogonal to the old ones changes nothing that old tasks stored.",
        functools.partial(keeps_memory, _coso),
        functools.partial(keeps_memory, _adam_in_full_space),
        "projected gradients with Adam's moments in the full space", "refuted",
    ),
    Claim(
        "rogo-transfers", "yang2023restricted",
        "Oblique moves in the shared part of the old subspace help a new task without forgetting.",
        functools.partial(transfers_without_forgetting, ROGO(energy=1.0).relax),
        functools.partial(transfers_without_forgetting, _no_relaxation),
        "the hard projection, which relaxes nothing", "refuted",
    ),
    Claim(
        "federated-orthogonal", "bakman2023federated",
        "A subspace from summed random sketches keeps the old outputs of all clients under aggregated updates.",
        functools.partial(keeps_outputs_across_clients, True, True),
        functools.partial(keeps_outputs_across_clients, True, False),
        "Adam at the clients without a projection at the server", "refuted",
    ),
    Claim(
        "svd-update-work", "deng2024fast",
        "A truncated SVD of a growing sparse matrix can be updated with an order of magnitude less work.",
        functools.partial(updates_cheaply, 0.002),
        functools.partial(updates_cheaply, 0.5),
        "columns half full", "refuted",
    ),
)  # fmt: skip
