"""Who is ahead of whom, each tuned by the protocol of `comparison` and judged on fresh seeds."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any

import numpy as np

from ..comparison import PAPER, TASKS, Protocol, Task, compare
from ..theory.contract import Size
from .contract import Claim, Verdict

SMOKE = Protocol(extensions=1, tuning_seeds=2, seeds=6)
LEVEL = 0.95
COMPARABLE = 0.1  # share of the loss by which one method may be behind another and be called comparable
BY_LABEL = {task.label: task for task in TASKS}
WITHOUT_MOMENTUM = {"muon": {"momentum": 0.0}, "polargrad": {"momentum": 0.0}, "auon": {"momentum": 0.0},
                    "adam": {"beta1": 0.0}}  # fmt: skip


def lead(name: str, rivals: tuple[str, ...], task: Task, size: Size, hyper: Mapping[str, Mapping[str, Any]]):
    """Return the lower and upper ends of the lead over the best of the rivals in decades of final loss.

    Two one-sided Student intervals of the mean paired difference over the fresh seeds, the smallest over the rivals.
    """
    from scipy.special import stdtrit

    logs = {
        m: np.log10(_final(m, task.label, task.steps, task.every, size, tuple(hyper.get(m, {}).items())))
        for m in (name, *rivals)
    }
    ends = []
    for rival in rivals:
        if not np.isfinite(logs[name]).all():
            return -np.inf, -np.inf
        difference = logs[rival] - logs[name]
        if np.isinf(difference).any():
            continue
        half = stdtrit(len(difference) - 1, LEVEL) * difference.std(ddof=1) / np.sqrt(len(difference))
        ends.append((difference.mean() - half, difference.mean() + half))
    low, high = (min((e[i] for e in ends), default=np.inf) for i in (0, 1))
    return float(low), float(high)


@functools.lru_cache(maxsize=256)  # a claim and its control share the rivals
def _final(name: str, label: str, steps: int, every: int, size: Size, hyper: tuple) -> np.ndarray:
    task = dataclasses.replace(BY_LABEL[label], steps=steps, every=every)
    return compare(name, task, SMOKE if size == "smoke" else PAPER, **dict(hyper)).final["budget"]


def ahead(name: str, rivals: tuple[str, ...], conditions, size: Size) -> Verdict:
    """Judge whether a method is ahead of all rivals under each of the conditions: label -> (tasks, hyper)."""
    leads = {
        label: min(lead(name, rivals, task, size, hyper)[0] for task in tasks)
        for label, (tasks, hyper) in conditions(size).items()
    }
    won = [label for label, value in leads.items() if value > 0]
    outcome = "holds" if len(won) == len(leads) else "holds_if" if won else "refuted"
    return Verdict(
        outcome,  # type: ignore[arg-type]
        measured=max(leads.values()),
        expected="a lead above 0 decades with 95% confidence under every condition",
        evidence={"conditions": len(leads), "ahead under": len(won)} | {f"lead, {k}": v for k, v in leads.items()},
        condition="; ".join(won),
    )


def matrix_least_squares(size: Size):
    """AXB = C, and CX = Y in the paper size, by budget, with the default momentum and without."""
    tasks = [BY_LABEL[label] for label in ("two-sided", "least squares")[: 1 if size == "smoke" else 2]]

    def within(steps):
        return [dataclasses.replace(task, steps=steps, every=steps // 50) for task in tasks]

    return {
        "100 steps": (within(100), {}),
        "1000 steps": (within(1000), {}),
        "100 steps without momentum": (within(100), WITHOUT_MOMENTUM),
    }


def each_problem(size: Size):
    """Each problem of the comparison by itself; three of them in the smoke size."""
    labels = ("well conditioned", "aligned", "low-rank error") if size == "smoke" else BY_LABEL
    return {label: ([BY_LABEL[label]], {}) for label in labels}


def comparable(name: str, rival: str, size: Size) -> Verdict:
    """Judge whether the final loss on the digits problems is at most 10% above a rival's, with 95% confidence."""
    leads = {label: lead(name, (rival,), BY_LABEL[label], size, {}) for label in ("digits", "network")}
    behind = {label: 10.0 ** -np.array(ends[::-1]) for label, ends in leads.items()}  # quotients of losses, low to high
    worst = max(high for _, high in behind.values())
    return Verdict(
        "holds" if worst <= 1 + COMPARABLE else "refuted",
        measured=float(worst),
        expected=f"a loss at most {1 + COMPARABLE:g} times the other",
        evidence={f"{end} quotient, {label}": float(v) for label, q in behind.items()
                  for end, v in zip(("lower", "upper"), q, strict=True)},
    )  # fmt: skip


CLAIMS = (
    Claim(
        "polargrad-ahead-on-least-squares", "lau2025polargrad",
        "On matrix least squares PolarGrad at a tuned constant rate ends below Muon and Adam at theirs.",
        functools.partial(ahead, "polargrad", ("muon", "adam"), matrix_least_squares),
        functools.partial(ahead, "auon", ("muon", "adam"), matrix_least_squares),
        "AuON in place of PolarGrad", "refuted",
    ),
    Claim(
        "namo-ahead-of-muon-and-adam", "zhang2026namo",
        "Adam's moments on top of orthogonalized momentum (NAMO) improve on both Muon and Adam.",
        functools.partial(ahead, "namo", ("muon", "adam"), each_problem),
        functools.partial(ahead, "adamuon", ("muon", "adam"), each_problem),
        "AdaMuon, the other combination of the two", "refuted",
    ),
    Claim(
        "auon-comparable-to-adam", "maity2025auon",
        "AuON trains about as well as Adam.",
        functools.partial(comparable, "auon", "adam"),
        functools.partial(comparable, "nesterov", "adam"),
        "Nesterov's method in place of AuON", "holds",
    ),
)  # fmt: skip
