"""The picture of a sweep: lines for a few methods, a map of distances to the best for many."""

from __future__ import annotations

import numpy as np

from orthotheory import cli
from orthotheory.sweep import Sweep, run_sweep


def test_many_methods_are_drawn_as_a_map_and_listed_by_the_best(tmp_path, capsys):
    cases = {f"{i}": {"name": "quadratic", "rows": 4, "columns": 3, "seed": i, "target": 0.5} for i in range(6)}
    rates = {f"muon {i}": {"name": "muon", "lr": [0.1, 0.2], "momentum": i / 20} for i in range(12)}
    rates["muon 3"]["not_on"] = ["5"]
    run_sweep(Sweep(cases, rates, steps=5), tmp_path)
    capsys.readouterr()
    assert cli.command(["results", str(tmp_path), "--plot"]) == 0
    said = capsys.readouterr().out
    assert "The three best methods on each problem" in said
    assert len([line for line in said.splitlines() if " muon " in line]) == 6 * 3
    assert (tmp_path / "sweep.png").is_file()


def test_the_map_shows_decades_behind_the_best_and_marks_edges():
    import pandas
    from matplotlib.figure import Figure

    from orthotheory.plotting.sweep import draw_map

    rows = [("a", 1.0, 100.0, 1e-1, False), ("b", 1.0, 10.0, 1e-3, True), ("c", 1.0, np.inf, np.inf, False)]
    best = pandas.DataFrame(rows, columns=["method", "first", "steps", "final", "at edge"]).assign(problem="p")
    figure = Figure()
    draw_map(best, True, figure)
    shown = [ax.images[0].get_array().filled(np.nan).ravel() for ax in figure.axes if ax.images]
    np.testing.assert_allclose(np.concatenate([shown[0], shown[2]]), [0.0, 2.0, np.nan])
    np.testing.assert_allclose(np.concatenate([shown[1], shown[3]]), [0.0, 1.0, np.nan])
    assert [len(line.get_xdata()) for line in figure.axes[0].lines] == [1]
