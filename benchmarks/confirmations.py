"""Confirmations on draws that had no part in how a rule or a conjecture was found; too long for the ledgers.

    python benchmarks/confirmations.py [momentum-rates] [sharpest-cycle] [shrinking-radius]

Momentum rates: the rule of `theory.rates.momentum_rates`, with the seeds and problems below, which were fixed before
any of them was run. Results replace their part of benchmarks/results/confirmations.json.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from joblib import Parallel, delayed

from orthotheory.storage import machine, plain, read_json, write_json
from orthotheory.theory.rates import MomentumRate, momentum_rates

RESULTS = Path(__file__).parent / "results" / "confirmations.json"
# Of the noise, and of the problem: two on the problem of the rule, then three new problems of the same class.
MOMENTUM_SEEDS = ((101, 0), (102, 0), (103, 1), (104, 2), (105, 3))


def momentum() -> list[dict[str, Any]]:
    """Return the exponents of three momenta and of two wrong schedules, with their intervals."""
    runs = Parallel(n_jobs=2)(delayed(momentum_rates)("paper", *seeds) for seeds in MOMENTUM_SEEDS)
    return [
        _row(name, rate, seed, problem_seed)
        for (seed, problem_seed), rates in zip(MOMENTUM_SEEDS, runs, strict=True)
        for name, rate in rates.items()
    ]


def _row(name: str, rate: MomentumRate, seed: int, problem_seed: int) -> dict[str, Any]:
    fit = rate.fit
    return {
        "schedule": name, "seed": seed, "problem_seed": problem_seed, "theory": rate.schedule.exponent,
        "slope": fit.slope, "low": fit.low, "high": fit.high, "verdict": rate.verdict, "runs": fit.runs,
        "local": fit.local,
    }  # fmt: skip


PARTS = {"momentum-rates": momentum}


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
