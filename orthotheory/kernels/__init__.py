"""Compiled inner loops. Each has a NumPy reference, is used where it is installed, and changes no result."""

from __future__ import annotations

import functools
import importlib.util
from typing import Any

import numpy as np


@functools.cache
def compiled() -> bool:
    """Say whether numba is installed; it is imported, and its kernels compiled, at the first use."""
    return importlib.util.find_spec("numba") is not None


def gpu(x: Any) -> Any:
    """Return the CUDA kernels (`cuda.Kernels`) where x lies on a GPU that they serve, otherwise None."""
    if type(x) is np.ndarray:
        return None
    from . import cuda

    return cuda.device if cuda.serves(x) else None
