"""Learning tasks one after the other: which optimizers keep what a projection protects, and for how long."""

from __future__ import annotations

import functools

import numpy as np

from ..methods import Adam, HeavyBall, Method, Muon, SignDescent
from ..polar import MUON_QUINTIC
from ..problems.tasks import task_sequence
from ..surgery.continual import GPM, IF2Net
from ..surgery.sculpting import Sculpted, sculpt
from ..surgery.subspace import Subspace
from ..theory.contract import Size
from .contract import Claim, Verdict

KEPT = 1e-9  # of the size of the step; rounding, multiplied by the slope of the polynomials at 0
STEPS = 50
EXACT_MUON = Muon(lr=0.02, plan="exact", shape_factor="none")
OPTIMIZERS: dict[str, Method] = {
    "Muon, exact polar factor": EXACT_MUON,
    "Muon, five quintic steps": Muon(lr=0.02),
    "heavy ball": HeavyBall(lr=0.02, momentum=0.9),
    "Adam": Adam(lr=0.02),
    "sign descent": SignDescent(lr=0.02),
}


def change_of_old_outputs(method: Method, seed: int) -> float:
    """Return |dW A|_F / (|dW|_2 |A|_F) of the change dW by a second task on projected gradients, A the old inputs.

    The projected gradient is all that the optimizer sees: GPM with energy 1.
    """
    first, second = task_sequence(tasks=2, rank=6, seed=seed)
    gpm = GPM(energy=1.0)
    memory = gpm.learn(Subspace.empty(first.inputs.shape[0], like=first.inputs), first.inputs)
    start = w = np.random.default_rng(seed).standard_normal((4, first.inputs.shape[0]))
    state = method.init(w)
    for _ in range(STEPS):
        w, state = method.step(w, gpm.project(memory, second.grad(w)), state)
    moved = w - start
    size = np.linalg.norm(moved, 2) * np.linalg.norm(first.inputs)
    return float(np.linalg.norm(moved @ first.inputs) / size)


def leak_in(dtype: str, seed: int = 0) -> float:
    """Return |X Q|_2 for five steps of Muon's quintic in a dtype, at G (I - Q Q^T) rounded to it; |X|_2 is about 1."""
    rng = np.random.default_rng(seed)
    q = np.linalg.qr(rng.standard_normal((64, 16)))[0]
    g = rng.standard_normal((32, 64))
    g -= (g @ q) @ q.T
    x = (g / np.linalg.norm(g)).astype(dtype)
    for a, b, c in MUON_QUINTIC.coefficients:
        gram = x @ x.T
        x = (x.dtype.type(a) * x + (x.dtype.type(b) * gram + x.dtype.type(c) * (gram @ gram)) @ x).astype(dtype)
    return float(np.linalg.norm(x.astype(float) @ q, 2))


def keeps_old_outputs(method: Method, size: Size) -> Verdict:
    """Judge whether an optimizer that sees projected gradients leaves the outputs on old inputs as they were."""
    seeds = range(3 if size == "smoke" else 20)
    worst = max(change_of_old_outputs(method, seed) for seed in seeds)
    evidence = {name: max(change_of_old_outputs(m, s) for s in seeds) for name, m in OPTIMIZERS.items()}
    precision = {f"quintic in {dtype}": leak_in(dtype) for dtype in ("float64", "float32", "float16")}
    return Verdict(
        "holds" if worst <= KEPT else "refuted", worst, f"relative change of old outputs below {KEPT:g}",
        {"runs": len(seeds), "steps": STEPS, **evidence, **precision},
    )  # fmt: skip


def keeps_the_frozen_block(project_update: bool, size: Size) -> Verdict:
    """Judge whether Adam on the trained factors leaves the frozen block alone, its gradients (or updates) projected."""
    worst, seeds = 0.0, range(3 if size == "smoke" else 20)
    for seed in seeds:
        rng = np.random.default_rng(seed)
        w, target = rng.standard_normal((2, 8, 6))
        factors = sculpt(w, 3)
        adam = Adam(lr=0.02)
        parts = [factors.u_low, factors.s_low[None, :], factors.vh_low]
        states = [adam.init(p) for p in parts]
        for _ in range(STEPS):
            du, ds, dvh = factors.gradients(factors.weight() - target)
            if not project_update:
                du, ds, dvh = factors.project(du, ds, dvh)
            moves = []
            for i, (part, grad) in enumerate(zip(parts, (du, ds[None, :], dvh), strict=True)):
                new, states[i] = adam.step(part, grad, states[i])
                moves.append(new - part)
            change = (moves[0], moves[1][0], moves[2])
            factors = factors.move(*(factors.project(*change) if project_update else change))
            parts = [factors.u_low, factors.s_low[None, :], factors.vh_low]
        worst = max(worst, _block_change(factors, w))
    return Verdict(
        "holds" if worst <= KEPT else "refuted", worst, f"relative change of the frozen block below {KEPT:g}",
        {"runs": len(seeds), "steps": STEPS},
    )  # fmt: skip


def _block_change(factors: Sculpted, w: np.ndarray) -> float:
    u, v = factors.u_high, factors.vh_high.T
    return float(np.linalg.norm(u.T @ (factors.weight() - w) @ v) / np.linalg.norm(factors.s_high))


def learns_without_limit(features_per_task: int, size: Size) -> Verdict:
    """Judge whether ten tasks on 20 frozen random features each find room: the projector must not vanish before."""
    n, tasks = 20, 10
    rng = np.random.default_rng(0)
    rule, room = IF2Net(), []
    p = rule.init(n, like=np.zeros(n))
    for _ in range(tasks):
        p = rule.learn(p, rng.standard_normal((n, features_per_task)))
        room.append(float(np.trace(p)))
    return Verdict(
        "holds" if room[-1] > 0.5 else "refuted", room[-1], "a projector of rank at least 1 after ten tasks",
        {"features": n, "samples a task": features_per_task, "tasks until full": sum(r > 0.5 for r in room) + 1},
    )  # fmt: skip


CLAIMS = (
    Claim(
        "muon-keeps-old-outputs", "ours, on saha2021gradient and jordan2024muon",
        "Muon on gradients projected away from old inputs leaves a linear layer's old outputs unchanged.",
        functools.partial(keeps_old_outputs, EXACT_MUON),
        functools.partial(keeps_old_outputs, OPTIMIZERS["Adam"]),
        "Adam on the same gradients", "refuted",
    ),
    Claim(
        "sculpting-keeps-critical", "nayak2025sculpting",
        "Projected gradients of the low block leave the frozen singular directions alone, under Adam too.",
        functools.partial(keeps_the_frozen_block, False),
        functools.partial(keeps_the_frozen_block, True),
        "Adam's update projected, in place of the gradient", "holds",
    ),
    Claim(
        "if2net-unlimited", "li2023if2net",
        "One network with frozen features learns any number of tasks without forgetting.",
        functools.partial(learns_without_limit, 4),
        functools.partial(learns_without_limit, 1),
        "tasks of one sample each, ten in twenty features", "holds",
    ),
)  # fmt: skip
