"""Tables and numbers of the section on orthogonalization."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from ..polar import MUON_QUINTIC, SCHEDULES
from ..polar.cost import COUNTS
from ..polar.lint import lint
from ..polar.lower_bound import smallest_degree
from ..polar.minimax import compose
from ..polar.planner import FAMILIES
from ..polar.schedule import critical_points
from ..polar.sequences import cheapest
from ..storage import read_json
from .cells import escape, number, table

COMPARED = (
    "muon-quintic", "muon-10", "you-5", "you-6", "polar-express-5", "polar-express-dion", "polar-express-gram",
    "polar-express-raw-5", "polar-express-raw-6", "polar-express-raw-7", "cans-5", "deepseek-v4", "cubic-5",
    "emerging-aol", "flash-aol", "root-2048x2048", "root-2048x3072", "root-2048x8192", "root-2048x16384",
)  # fmt: skip
OPTIMAL = {"optimal quintics": (5,) * 5, "optimal degree 9": (9,) * 4}
LOW, TARGETS = 1e-3, (1e-1, 1e-2, 1e-4, 1e-8)
# Families of steps that the table of plans compares, by the number of blocks; 0 is the direct iteration.
FORMS = {
    0: ("cubic", "quintic", "degree up to 9", "degree up to 17"),
    2: ("quintic", "degree up to 17"),
    1: ("quintic", "degree up to 9", "degree up to 17"),
}
DIVERGED = 10.0
PRECISION = "orthogonalization-precision"  # the figure whose data the table of precisions shows
BLOCKS = {0: "direct", 2: "one restart", 1: "Gram side"}
Races = dict[tuple[str, str], dict[str, dict[str, Any]]]


def quintic_numbers() -> dict[tuple[str, str], str]:
    """Return the facts about Muon's quintic p that the paper quotes, to four digits."""
    first = replace(MUON_QUINTIC, coefficients=MUON_QUINTIC.coefficients[:1])
    peak, dip = critical_points(MUON_QUINTIC.coefficients[0])
    low, high = MUON_QUINTIC.image(*MUON_QUINTIC.input_interval)
    facts = {
        "peak at": peak, "peak": float(first.singular_value_map(np.float64(peak))),
        "dip at": dip, "dip": float(first.singular_value_map(np.float64(dip))),
        "peak again": float(first.singular_value_map(first.singular_value_map(np.float64(peak)))),
        "at one": float(first.singular_value_map(np.float64(1.0))),
        "image low": low, "image high": high, "largest": MUON_QUINTIC.image(0.0, 1.0)[1],
    }  # fmt: skip
    return {("muon-quintic", key): f"{value:.4f}" for key, value in facts.items()}


def schedule_table() -> str:
    """Return what the published tables and two optimal chains do to singular values, and what the linter finds."""
    optimal = [compose(degrees, LOW).schedule(name) for name, degrees in OPTIMAL.items()]
    lines = []
    for schedule in [*(SCHEDULES[name] for name in COMPARED), *optimal]:
        ends = [schedule.image(10.0**-k, 1.0) for k in (3, 2, 1)]
        cells = [f"{ends[0][0]:.3f}", f"{ends[0][1]:.3f}", *(number(max(1 - a, b - 1), 2) for a, b in ends)]
        found = ", ".join(f.rule + (" (error)" if f.severity == "error" else "") for f in lint(schedule)) or "clean"
        slope = number(schedule.slope) if schedule.slope < 1e4 else f"\\ensuremath{{{schedule.slope:.0f}}}"
        cells = [c if c[0] != "-" else f"\\ensuremath{{{c}}}" for c in cells]
        lines.append(f"{schedule.name} & {schedule.steps} & {' & '.join([*cells, slope])} & {found} \\\\\n")
    head = "table & steps & low & high & $\\ell=10^{-3}$ & $10^{-2}$ & $10^{-1}$ & slope at 0 & linter, bfloat16 \\\\\n"
    return table("lrrrrrrrl", head, lines)


def cheapest_cost(target: float, aspect: float, family: str, blocks: int | None = None) -> tuple[float, str]:
    """Return the least cost from [1e-3, 1] to an error, and the degrees of the plan."""
    options = cheapest(LOW, target, aspect, COUNTS, FAMILIES[family], blocks=blocks)
    cost, _, reached = min(options, key=lambda option: option[0])
    return cost, " ".join(map(str, reached.kinds))


def plan_table() -> str:
    """Return the least costs from [1e-3, 1] by family, aspect ratio and blocks, with the proven lower bound."""
    lines = []
    for aspect in (1, 4):
        lines += ["\\addlinespace\n"] * (aspect > 1)
        for target in TARGETS:
            costs = [
                cheapest_cost(target, aspect, family, blocks)[0]
                for blocks, families in FORMS.items()
                for family in families
            ]
            costs.append(cheapest_cost(target, aspect, "with rational steps")[0])
            needed = smallest_degree(LOW, error=target)
            costs.append(aspect * (1 + COUNTS.symmetric) + COUNTS.symmetric * needed.inner_products)
            degrees = cheapest_cost(target, aspect, "degree up to 17", 1)[1]
            cells = " & ".join(f"{cost:g}" for cost in costs)
            lines.append(f"{aspect} & $10^{{{math.log10(target):.0f}}}$ & {cells} & {needed.degree} & {degrees} \\\\\n")
    short = {"cubic": "3", "quintic": "5", "degree up to 9": "$\\le9$", "degree up to 17": "$\\le17$"}
    kinds = " & ".join(short[family] for families in FORMS.values() for family in families)
    groups = [f"\\multicolumn{{{len(f)}}}{{c}}{{{BLOCKS[blocks]}}}" for blocks, f in FORMS.items()]
    head = (
        f" & & {' & '.join(groups)} & & \\multicolumn{{2}}{{c}}{{bound}} & \\\\\n"
        f"aspect & error & {kinds} & Zolotarev & cost & degree & degrees of the best \\\\\n"
    )
    gap = "@{\\hspace{1.2em}}"
    return table("rr" + "".join(gap + "r" * len(f) for f in FORMS.values()) + f"{gap}r{gap}rr{gap}l", head, lines)


def plan_numbers() -> dict[tuple[str, str], float]:
    """Return the smallest and largest share that the best polynomial plan saves over direct optimal quintics."""
    out: dict[tuple[str, str], float] = {}
    for aspect in (1, 4):
        saved = [
            1 - cheapest_cost(t, aspect, "degree up to 17")[0] / cheapest_cost(t, aspect, "quintic", 0)[0]
            for t in TARGETS
        ]
        out["plans", f"least percent saved {aspect}"] = round(100 * min(saved))
        out["plans", f"most percent saved {aspect}"] = round(100 * max(saved))
    return out


def precision_table(data: Mapping[str, np.ndarray]) -> str:
    """Return the errors at condition 1e3 by precision and aspect ratio; how many draws diverged, in parentheses."""
    lines = []
    for dtype in ("float32", "float16", "bfloat16"):
        for aspect, rows in zip((1, 4), data[f"floors {dtype}"], strict=True):
            cells = [
                (number(error, 2) if error < DIVERGED else "--")
                + (f" ({failed:.0f} of {int(data['floors draws'])} diverged)" if failed else "")
                for error, failed in rows
            ]
            lines.append(f"{dtype} & {aspect} & {' & '.join(cells)} \\\\\n")
    head = f"precision & aspect & {' & '.join(map(str, data['floors methods']))} \\\\\n"
    return table("lr" + "r" * len(data["floors methods"]), head, lines)


def read_races(path: Path | None) -> Races:
    """Return what `benchmarks/orthogonalization.py` recorded, by (what is wanted, matrix) and number of threads.

    Empty without results; races without a peer are left out.
    """
    races: Races = {}
    if path is not None and path.is_file():
        for label, race in read_json(path)["rows"].items():
            target, shape, threads = label.split(", ")
            if "peer" in race["verdict"]:
                races.setdefault((target, shape.replace(" x ", "$\\times$")), {})[threads.split()[0]] = race
    return races


def race_numbers(races: Races) -> dict[tuple[str, str], float]:
    """Return how many races there are, and the smallest and largest ratio of those with two threads."""
    ratios = [by_threads["2"]["verdict"]["ratio"] for by_threads in races.values() if "2" in by_threads]
    ends = {"least ratio": min(ratios), "largest ratio": max(ratios)} if ratios else {}
    return {("races", key): value for key, value in {"count": float(len(ratios)), **ends}.items()}


def benchmark_table(races: Races) -> str:
    """Return times, what was reached in them, and the ratio to the best peer; two threads and one stand in one row."""
    if not races:
        return ""
    lines = []
    for (target, shape), by_threads in races.items():
        kind, value = target.split()
        measure = {"efficiency": "efficiency", "error": "error"}.get(kind, "orthogonality")
        power = f"10^{{{value.removeprefix('1e')}}}"
        wanted = {
            "efficiency": f"$e\\ge0.98$, {value}",
            "error": f"error ${power}$",
            "polar": f"rounding, $\\kappa={power}$",
        }[kind]
        cells = [wanted, shape]
        for race in (by_threads.get("2"), by_threads.get("1")):
            if race is None:
                cells += [""] * 4
                continue
            own, verdict = next(iter(race["contestants"].values())), race["verdict"]
            peer = race["contestants"][verdict["peer"]]
            missed = "" if verdict["peer reached"] else "*"
            digits = 3 if kind == "efficiency" else 2
            cells += [f"{own['milliseconds']:.1f}", number(own[measure], digits)]
            cells += [escape(verdict["peer"]) + missed, f"{peer['milliseconds'] / own['milliseconds']:.2f}"]
        lines.append(" & ".join(cells) + " \\\\\n")
    titles = "ms & reached & best peer & ratio"
    head = (
        " & & \\multicolumn{4}{c}{two threads} & \\multicolumn{4}{c}{one thread} \\\\\n"
        f"wanted & matrix & {titles} & {titles} \\\\\n"
    )
    return table("llrrlrrrlr", head, lines)
