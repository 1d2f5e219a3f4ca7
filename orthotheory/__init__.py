"""Theory and analysis of orthogonalized optimizers: theorems that run, claims that are judged.

    import orthotheory as ot
    trace = ot.run(ot.problems.make("quadratic"), ot.methods.make("muon", lr=0.02), steps=200)

Submodules are imported when first used, so that `import orthotheory` costs next to nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from .version import __version__

if TYPE_CHECKING:
    from . import arrays, claims, convex, methods, norms, plotting, polar, problems, reproduce, surgery, sweep, theory
    from .loop import Trace, run
    from .polar import polar_factor

_MODULES = (
    "arrays", "claims", "convex", "methods", "norms", "plotting", "polar", "problems", "reproduce", "surgery", "sweep",
    "theory",
)  # fmt: skip
_NAMES = {"run": "loop", "Trace": "loop", "polar_factor": "polar"}

__all__ = [
    "Trace",
    "__version__",
    "arrays",
    "claims",
    "convex",
    "methods",
    "norms",
    "plotting",
    "polar",
    "polar_factor",
    "problems",
    "reproduce",
    "run",
    "surgery",
    "sweep",
    "theory",
]


def __getattr__(name: str):
    if name in _NAMES:
        value = getattr(importlib.import_module(f".{_NAMES[name]}", __name__), name)
        globals()[name] = value
        return value
    if name in _MODULES:
        return importlib.import_module(f".{name}", __name__)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}; it has {', '.join(__all__)}")


def __dir__() -> list[str]:
    return __all__
