"""CUDA kernels of our own, where CuPy's products are not enough; the same sources run on a processor by g++.

    cuda.small_polar(x, ...)            CuPy arrays, on the GPU that holds them
    cuda.host.small_polar(x, ...)       NumPy arrays, compiled by g++: how the tests check the arithmetic
    cuda.available(device), serves(x)   whether the kernels run there; if not, the callers stay with plain CuPy

Each kernel is a `.cu` file of phases between barriers (phases.cuh) with its formula, cost and occupancy at the top.
"""

from __future__ import annotations

import contextlib
import functools
import logging
from collections.abc import Iterator
from typing import Any

from ...arrays import Array, cuda_is_available, cupy_module
from .calls import Kernels
from .processors import Device, Host
from .sources import OLDEST

_log = logging.getLogger(__name__)
_plain = False

device = Kernels(Device())
host = Kernels(Host())


def available(device: Any = None) -> bool:
    """Say whether the kernels run on a GPU, a number or a CuPy device; None takes the current one.

    False without CuPy and a GPU, and for one that is too old, which is logged once in a sentence.
    """
    if not cuda_is_available():
        return False
    number = cupy_module().cuda.Device().id if device is None else getattr(device, "id", device)
    return _available(int(number))


@functools.cache
def _available(number: int) -> bool:
    return _capable(number, cupy_module().cuda.Device(number).compute_capability)


@functools.cache
def _capable(number: int, capability: str) -> bool:
    found = int(capability[:-1]), int(capability[-1])
    if found < OLDEST:
        _log.warning(
            "cuda:%d has compute capability %d.%d and the kernels need %d.%d; plain CuPy is used instead.",
            number, *found, *OLDEST,
        )  # fmt: skip
    return found >= OLDEST


def serves(x: Array) -> bool:
    """Say whether x lies on the current GPU and the kernels run there, outside `plain()`."""
    if _plain or type(x).__module__.split(".")[0] != "cupy":
        return False
    number = int(x.device.id)
    return number == cupy_module().cuda.Device().id and _available(number)


@contextlib.contextmanager
def plain() -> Iterator[None]:
    """Switch the kernels off inside a `with` block, for comparisons with plain CuPy."""
    global _plain
    before, _plain = _plain, True
    try:
        yield
    finally:
        _plain = before


def __getattr__(name: str) -> Any:
    """Return a kernel on the device: `cuda.small_polar` is `cuda.device.small_polar`."""
    if not name.startswith("_") and hasattr(Kernels, name):
        return getattr(device, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


__all__ = ["Kernels", "available", "device", "host", "plain", "serves"]
