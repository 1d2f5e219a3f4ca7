"""Grids of runs: one schema, batched and parallel execution, a table on disk that survives being killed."""

from __future__ import annotations

from .analyse import Results
from .config import Group, Sweep, decades
from .cost import Forecast, forecast
from .execute import Chunk, run_chunk
from .scheduler import plan, run_sweep
from .store import Store

__all__ = [
    "Chunk", "Forecast", "Group", "Results", "Store", "Sweep", "decades", "forecast", "plan", "run_chunk", "run_sweep",
]  # fmt: skip
