"""Drawing with sliders in a notebook."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any


def explore(draw: Callable[..., Any], **sliders: Callable[[], Any]) -> None:
    """Draw with sliders; without them where nobody can move them (ORTHOTHEORY_SLIDERS=0, as `make notebooks` sets).

    Parameters
    ----------
    draw : function with a default for every argument
    sliders : functions that make a widget, by argument (ipywidgets, of the extra `lab`)
    """
    if os.environ.get("ORTHOTHEORY_SLIDERS", "1") == "0":
        draw()
        return
    from ipywidgets import interact

    interact(draw, **{name: slider() for name, slider in sliders.items()})
