"""Compiled inner loops. Each has a NumPy reference, is used where it is installed, and changes no result."""

from __future__ import annotations

import functools
import importlib.util


@functools.cache
def compiled() -> bool:
    """Say whether numba is installed; it is imported, and its kernels compiled, at the first use."""
    return importlib.util.find_spec("numba") is not None
