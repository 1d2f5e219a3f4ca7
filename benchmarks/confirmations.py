"""Confirmations on draws that had no part in how a rule or a conjecture was found; too long for the ledgers.

    python benchmarks/confirmations.py [momentum-rates] [momentum-rates-all-steps] [sharpest-cycle] ...

Momentum rates: the rule of `theory.rates.momentum_rates`, with the seeds and problems below, which were fixed before
any of them was run. Sharpest cycle: random quadratics by shape, with condition numbers up to 1000; the share of runs
below the floor has the exact upper end 1 - 0.05^(1/runs) at 95 % where none is. Shrinking radius: the exponent of the
steps in the condition number by size, with a bootstrap over the problems. Results replace their part of
benchmarks/results/confirmations.json.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
from joblib import Parallel, delayed

from orthotheory.storage import machine, plain, read_json, write_json
from orthotheory.theory.conjectures import CONDITIONS, spectral_cycles, steps_needed
from orthotheory.theory.rates import MomentumRate, fit_exponent, momentum_rates

RESULTS = Path(__file__).parent / "results" / "confirmations.json"
# Of the noise, and of the problem: two on the problem of the rule, then new problems of the same class. Before, seeds
# 101 to 105 tested an earlier rule, with means over all steps, which failed.
ALL_STEPS_SEEDS = ((101, 0), (102, 0), (103, 1), (104, 2), (105, 3))
MOMENTUM_SEEDS = ((201, 0), (202, 0), (203, 4), (204, 5), (205, 6), (206, 7))
CYCLE_SHAPES = ((2, 2), (3, 2), (3, 3), (4, 3), (4, 4), (5, 5), (6, 4), (8, 8))
SHRINKING_SIZES = (4, 6, 8, 12)


def momentum() -> list[dict[str, Any]]:
    """Return the exponents of three momenta and of two wrong schedules, with their intervals, by the rule."""
    return _momentum(MOMENTUM_SEEDS, skipped=0.5)


def momentum_all_steps() -> list[dict[str, Any]]:
    """Return the same by the earlier rule."""
    return _momentum(ALL_STEPS_SEEDS, skipped=0.0)


def _momentum(pairs: tuple[tuple[int, int], ...], skipped: float) -> list[dict[str, Any]]:
    runs = Parallel(n_jobs=2)(delayed(momentum_rates)("paper", *seeds, skipped=skipped) for seeds in pairs)
    return [
        _row(name, rate, seed, problem_seed)
        for (seed, problem_seed), rates in zip(pairs, runs, strict=True)
        for name, rate in rates.items()
    ]


def _row(name: str, rate: MomentumRate, seed: int, problem_seed: int) -> dict[str, Any]:
    fit = rate.fit
    return {
        "schedule": name, "seed": seed, "problem_seed": problem_seed, "theory": rate.schedule.exponent,
        "slope": fit.slope, "low": fit.low, "high": fit.high, "verdict": rate.verdict, "runs": fit.runs,
        "local": fit.local,
    }  # fmt: skip


def cycles() -> list[dict[str, Any]]:
    """Return how many of 2500 runs of each shape end below the sharpest cycle, after up to 60,000 steps."""
    return Parallel(n_jobs=2)(delayed(_cycles)(shape) for shape in CYCLE_SHAPES)


def _cycles(shape: tuple[int, int], runs: int = 2500) -> dict[str, Any]:
    found = spectral_cycles(np.random.default_rng([20, *shape]), shape, runs, limit=60_000, decades=3.0)
    ratio = found.reached / found.floor
    below, above = int(np.sum(ratio < 1 - 1e-6)), int(np.sum(ratio > 1 + 1e-6))
    return {
        "shape": list(shape), "runs": runs, "below": below, "above": above, "smallest": ratio.min(),
        "largest": ratio.max(), "median steps": float(np.median(found.steps)), "most steps": int(found.steps.max()),
        "share below, at most": 1 - 0.05 ** (1 / runs) if below == 0 else None,
    }  # fmt: skip


def shrinking() -> list[dict[str, Any]]:
    """Return the exponent of steps in the condition number for quadratics of several sizes."""
    return Parallel(n_jobs=2)(delayed(_shrinking)(size) for size in SHRINKING_SIZES)


def _shrinking(size: int, problems: int = 32) -> dict[str, Any]:
    steps = np.array([steps_needed(np.random.default_rng([21, size, s]), size) for s in range(problems)])
    fit, medians = fit_exponent(np.array(CONDITIONS), steps), np.median(steps, axis=0)
    return {
        "size": size, "problems": problems, "exponent": fit.slope, "low": fit.low, "high": fit.high,
        "local": fit.local, **{f"median steps at {c:g}": m for c, m in zip(CONDITIONS, medians, strict=True)},
    }  # fmt: skip


PARTS = {
    "momentum-rates": momentum,
    "momentum-rates-all-steps": momentum_all_steps,
    "sharpest-cycle": cycles,
    "shrinking-radius": shrinking,
}


def main(names: list[str]) -> None:
    """Run the parts that are named, all without."""
    stored = read_json(RESULTS) if RESULTS.is_file() else {}
    for name in names or PARTS:
        stored[name] = {"machine": machine(), "rows": plain(PARTS[name]())}
        write_json(RESULTS, stored)
        for row in stored[name]["rows"]:
            print(
                *(f"{key}={value:.4g}" if isinstance(value, float) else f"{key}={value}" for key, value in row.items())
            )


if __name__ == "__main__":
    main(sys.argv[1:])
