"""Sliders where somebody can move them, one picture where not."""

from __future__ import annotations

import pytest

from orthotheory.plotting.sliders import explore


@pytest.mark.parametrize(("variable", "made"), [("0", 0), ("1", 1)])
def test_widgets_are_made_only_where_they_are_wanted(monkeypatch, variable, made):
    ipywidgets = pytest.importorskip("ipywidgets", reason="the extra lab is not installed")
    monkeypatch.setenv("ORTHOTHEORY_SLIDERS", variable)
    drawn, widgets = [], []
    monkeypatch.setattr(ipywidgets, "interact", lambda draw, **options: draw(**options))
    explore(lambda x=1: drawn.append(x), x=lambda: widgets.append(0) or 7)
    assert (drawn, len(widgets)) == ([7 if made else 1], made)
