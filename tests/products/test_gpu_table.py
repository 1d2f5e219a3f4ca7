"""The README's table of GPU results is made from the stored results, and says so where nothing was measured."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture
def benchmark(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    spec = importlib.util.spec_from_file_location("gpu_benchmark", ROOT / "benchmarks" / "gpu.py")
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "gpu_benchmark", module)
    spec.loader.exec_module(module)
    return module


def test_the_readme_shows_the_stored_results(benchmark):
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert readme == benchmark.with_table(readme), "run: python benchmarks/gpu.py --table"
    assert readme.count(benchmark.BEGIN) == 1


def test_a_row_holds_the_ratio_to_the_fastest_peer_and_nothing_where_none_was_measured(benchmark):
    first = benchmark.COMPARISONS[0]
    times = {"kernel": 2.0, "torch": 30.0, "torch compile": 12.0}
    rows = {name: {"milliseconds": t} for name, t in times.items()}
    table = benchmark.table({"gpu-x.json": {"device": "X", "comparisons": {first.title: rows}}}).splitlines()
    assert table[2] == f"| {first.title} | 6 | {first.goal} | X |"
    assert len(table) == 2 + len(benchmark.COMPARISONS)
    assert all("not measured" in line for line in table[3:])
    assert first.reached({"torch": {"milliseconds": 1.0}}) is None
