"""Arrays of any backend: namespaces, devices, validation, seeded draws, the way to the host.

This is the only module that may import CuPy. Every other module asks here for the namespace of the
arrays it was given, creates new arrays on the same device and crosses to the host by `to_host` alone.
"""

from __future__ import annotations

import functools
import math
import os
from typing import Any, NamedTuple

import numpy as np

Array = Any  # an array of NumPy, CuPy or any array-API namespace
Scalar = Any  # a Python number, or an array that broadcasts over the batch axes

DEVICE_VARIABLE = "ORTHOTHEORY_DEVICE"


class Backend(NamedTuple):
    """A namespace and the device on which it creates arrays."""

    xp: Any
    device: Any

    def asarray(self, values: Any, dtype: str | None = None) -> Array:
        """Copy host values to this backend."""
        host = np.array(values, dtype=dtype)
        return self.xp.asarray(host, device=self.device)


def array_namespace(*arrays: Array) -> Any:
    """Return the array-API namespace shared by the arrays; Python scalars are skipped."""
    if all(type(a) is np.ndarray for a in arrays):  # the common case, without the general search
        return _numpy_namespace()
    import array_api_compat

    try:
        return array_api_compat.array_namespace(*arrays)
    except TypeError as error:
        kinds = ", ".join(sorted({type(a).__name__ for a in arrays}))
        raise TypeError(
            f"Expected arrays of one kind (NumPy, CuPy or another array-API library); got {kinds}. "
            "Convert with numpy.asarray, or move all of them to one library and device."
        ) from error


@functools.cache
def _numpy_namespace() -> Any:
    import array_api_compat.numpy as xp

    return xp


def device_of(x: Array) -> Any:
    """Return the device that holds `x`, as the array-API's `device=` takes it."""
    import array_api_compat

    return array_api_compat.device(x)


def backend_of(x: Array) -> Backend:
    """Return the namespace and the device of `x`."""
    return Backend(array_namespace(x), device_of(x))


def backend(device: str | Backend | None = None) -> Backend:
    """Choose where new arrays live: `"cpu"` (NumPy) or `"cuda"`, `"cuda:1"` (CuPy).

    Without an argument the environment variable ORTHOTHEORY_DEVICE decides, then the CPU.
    A GPU that is not there is refused, never replaced. A `Backend` passes through.
    """
    if isinstance(device, Backend):
        return device
    chosen = device if device is not None else os.environ.get(DEVICE_VARIABLE) or "cpu"
    kind, _, index = chosen.partition(":")
    if chosen == "cpu":
        return Backend(_numpy_namespace(), "cpu")
    if kind == "cuda" and (not index or index.isdigit()):
        if not cuda_is_available():
            raise RuntimeError(
                f"device {chosen!r} needs CuPy and a CUDA GPU, and none is available here; "
                "use device='cpu', or install orthotheory[cuda12] or [cuda13] on a machine with a GPU."
            )
        import array_api_compat.cupy as xp
        import cupy

        number = int(index or 0)
        count = cupy.cuda.runtime.getDeviceCount()
        if number >= count:
            raise RuntimeError(f"device {chosen!r} does not exist; this machine has cuda:0 to cuda:{count - 1}.")
        return Backend(xp, cupy.cuda.Device(number))
    raise ValueError(f"Unknown device {chosen!r}; allowed are 'cpu', 'cuda' and 'cuda:<number>'.")


def cuda_is_available() -> bool:
    """Say whether CuPy is installed and sees a GPU."""
    try:
        import cupy
    except ImportError:
        return False
    return bool(cupy.is_available())


def cupy_module() -> Any:
    """Return CuPy itself, for kernels and devices; no other module imports it."""
    import cupy

    return cupy


def free_memory(device: str) -> int | None:
    """Return the free bytes of a GPU, the least of all for "cuda"; None for the CPU."""
    if not device.startswith("cuda"):
        return None
    backend(device)  # refuses one that is not there
    import cupy

    index = device.partition(":")[2]
    numbers = [int(index)] if index else range(cupy.cuda.runtime.getDeviceCount())
    return min(cupy.cuda.Device(i).mem_info[0] for i in numbers)


def release_memory(device: str) -> None:
    """Give what a GPU's pool keeps for later back to it; nothing on the CPU."""
    if device.startswith("cuda"):
        import cupy

        cupy.get_default_memory_pool().free_all_blocks()


def to_host(x: Any) -> np.ndarray:
    """Copy an array of any backend to a NumPy array; the only crossing to the host."""
    if isinstance(x, np.ndarray | np.generic | float | int | bool | complex):
        return np.asarray(x)
    if hasattr(x, "get"):  # CuPy
        return np.asarray(x.get())
    info = array_namespace(x).__array_namespace_info__()
    return np.asarray(x.to_device(info.default_device()))


def dtype_name(x: Array) -> str:
    """Return the name of the dtype, e.g. `"float64"`."""
    return str(x.dtype).rsplit(".", maxsplit=1)[-1].strip("'>")


def standard_normal(shape: tuple[int, ...], rng: np.random.Generator | int, *, like: Array) -> Array:
    """Draw standard normals that are the same numbers on every backend.

    They are drawn in float64 on the host from `rng` (a NumPy generator, or a seed for one), rounded to the
    dtype of `like` and moved to its device.
    """
    draws = generator(rng).standard_normal(shape)
    where = backend_of(like)
    return where.asarray(draws.astype(dtype_name(like)))


def generator(rng: np.random.Generator | int) -> np.random.Generator:
    """Return a counter-based generator (Philox) for a seed; pass a generator through."""
    if isinstance(rng, np.random.Generator):
        return rng
    return np.random.default_rng(np.random.Philox(rng))


def check_matrix(x: Array, who: str, *, axes: int = 2, hint: str = "", complex_allowed: bool = False) -> None:
    """Refuse what is not a floating-point array of shape (..., m, n), saying what came and what to do."""
    xp = array_namespace(x)
    if x.ndim < axes:
        shape = "(..., m, n)" if axes == 2 else "(..., n)"
        what = "matrix" if axes == 2 else "vector"
        hint = hint or (" Use Euclidean for vectors." if x.ndim == 1 else "")
        raise ValueError(f"{who} needs a {what}, shape {shape}; got shape {tuple(x.shape)}.{hint}")
    if 0 in x.shape[-axes:]:
        raise ValueError(
            f"{who} needs at least one entry in each matrix; got shape {tuple(x.shape)}. "
            "Only the batch axes, which come first, may be empty."
        )
    kinds = ("real floating", "complex floating") if complex_allowed else "real floating"
    if not xp.isdtype(x.dtype, kinds):
        allowed = "float32, float64" + (", complex64 or complex128" if complex_allowed else "")
        raise TypeError(f"{who} needs {allowed}; got {dtype_name(x)}. Convert first: nothing is cast silently.")


def check_number(
    value: Any, name: str, *, low: float = 0.0, high: float = math.inf, open_low: bool = False, open_high: bool = False
) -> None:
    """Refuse a number, or an array with an entry, outside the interval or not finite (an infinite end allows inf)."""
    host = to_host(value)
    if host.dtype.kind not in "fiu":
        raise TypeError(f"{name} must be a real number or an array of them; got {value!r}.")
    good = (host > low if open_low else host >= low) & (host < high if open_high else host <= high)
    if not bool(np.all(good)):
        left, right = "(" if open_low else "[", ")" if open_high or math.isinf(high) else "]"
        bad = host[~good].ravel()[0] if host.ndim else host[()]
        raise ValueError(f"{name} must lie in {left}{low:g}, {high:g}{right}; got {bad:g}.")


def per_matrix(value: Scalar, like: Array, axes: int = 2) -> Scalar:
    """Give a hyper-parameter array of shape (batch) trailing axes, so that it multiplies (batch, m, n).

    A Python number is returned as it is, a NumPy number as a Python number, which takes the dtype of the
    matrices. The dtype of an array must be that of `like`: nothing is cast.
    """
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, bool | int | float):
        return value
    if dtype_name(value) != dtype_name(like):
        raise TypeError(
            f"A hyper-parameter array has dtype {dtype_name(value)} and the matrices {dtype_name(like)}; "
            "convert the hyper-parameters to the dtype of the matrices."
        )
    if value.ndim == 0:
        return value
    batch = like.shape[: like.ndim - axes]
    if value.ndim > len(batch) or any(a not in (1, b) for a, b in zip(value.shape[::-1], batch[::-1], strict=False)):
        raise ValueError(
            f"A hyper-parameter of shape {tuple(value.shape)} does not broadcast over the batch axes {tuple(batch)}."
        )
    return value[(..., *([None] * axes))]


class Magnitude(NamedTuple):
    """A power of two next to the largest magnitude of each matrix, and whether all its entries are finite."""

    scale: Array  # (..., 1, 1); 1 for the zero matrix and for one that is not finite
    finite: Array  # (..., 1, 1), bool

    def normalize(self, x: Array) -> Array:
        """Return x / scale, with entries in [-2, 2]; zero where the matrix is not finite."""
        xp = array_namespace(x)
        return xp.where(self.finite, x / self.scale, xp.zeros_like(x))

    def nan(self) -> Array:
        """Return 0 for finite matrices and NaN for the others, to be added to a result."""
        xp = array_namespace(self.scale)
        return xp.where(self.finite, xp.zeros_like(self.scale), xp.full_like(self.scale, math.nan))


def magnitude(x: Array, axes: int = 2) -> Magnitude:
    """Measure each matrix once. Dividing by a power of two is exact, and squares then neither overflow nor vanish."""
    xp = array_namespace(x)
    peak = xp.max(xp.abs(x), axis=tuple(range(-axes, 0)), keepdims=True)  # a NaN or infinity shows in the maximum
    finite = xp.isfinite(peak)
    peak = xp.where(finite & (peak > 0), peak, xp.ones_like(peak))
    info = xp.finfo(peak.dtype)  # 2 / scale and the power itself stay finite at both ends of the range
    peak = xp.clip(peak, float(info.smallest_normal), float(info.max) / 2)
    return Magnitude(2.0 ** xp.floor(xp.log2(peak)), finite)


def inner(a: Array, b: Array) -> Array:
    """Return the real Frobenius inner product of each pair of matrices, shape (batch)."""
    xp = array_namespace(a, b)
    return xp.sum(a * b, axis=(-2, -1))


def frobenius(x: Array, *, keepdims: bool = False) -> Array:
    """Return the Frobenius norm of each matrix without overflow or underflow, shape (batch)."""
    xp = array_namespace(x)
    size = magnitude(x)
    y = xp.abs(size.normalize(x))
    value = size.scale * xp.sqrt(xp.sum(y * y, axis=(-2, -1), keepdims=True)) + size.nan()
    return value if keepdims else value[..., 0, 0]
