"""A notebook is a script and its twin: the same cells, and no outputs committed. `make notebooks` runs them."""

from __future__ import annotations

from pathlib import Path

import jupytext
import pytest

NOTEBOOKS = sorted((Path(__file__).parents[2] / "notebooks").glob("*.py"))


def cells(path):
    return [(c.cell_type, c.source.strip()) for c in jupytext.read(path).cells]


@pytest.mark.parametrize("script", NOTEBOOKS, ids=lambda path: path.stem)
def test_the_notebook_has_the_cells_of_its_script_and_no_outputs(script):
    twin = script.with_suffix(".ipynb")
    assert cells(twin) == cells(script)
    code = [c for c in jupytext.read(twin).cells if c.cell_type == "code"]
    assert code
    assert not any(c.get("outputs") or c.get("execution_count") for c in code)


def test_there_is_a_notebook_for_every_room():
    assert [path.stem[:2] for path in NOTEBOOKS] == [f"{i:02d}" for i in range(1, 9)]
