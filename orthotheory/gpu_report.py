"""What the GPU is, whether the kernels compile for it, and which fractions of its peak a ten-second test reaches.

Peaks are the largest clock times what the vendor's papers give for one clock of a multiprocessor; a GPU seldom holds
that clock under load, so that a good library stays well below 100 % of them.
"""

from __future__ import annotations

import functools
import operator
import statistics
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

from .arrays import Backend, backend, cuda_is_available, cupy_module, to_host
from .doctor import part

# Multiply-adds a clock of one multiprocessor, by compute capability; of 16-bit matrices, dense, summed in float32.
FLOAT32_LANES = {(7, 0): 64, (7, 5): 64, (8, 0): 64, (8, 6): 128, (8, 9): 128, (9, 0): 128}
HALF_LANES = {(7, 0): 512, (8, 0): 1024, (9, 0): 2048}
SMALL = (4096, 64, 64)  # matrices of the batched Newton-Schulz test
LARGE = 8192  # side of a matrix product
COPIED = 2**28  # bytes
EXPECTED_ERROR = 2e-5  # of five float32 steps against float64, relative to the largest entry


class Peaks(NamedTuple):
    """Bytes a second of the memory, operations a second in float32 and in 16 bits; None where it is not known."""

    copy: float
    float32: float | None
    half: float | None


def peaks_of(attributes: Mapping[str, int], capability: tuple[int, int]) -> Peaks:
    """Return the peaks that a device's attributes imply (`cupy.cuda.Device.attributes`; clocks in kHz, widths in bits).

    >>> found = {"ClockRate": 1980000, "MemoryClockRate": 2619000, "GlobalMemoryBusWidth": 5120,
    ...          "MultiProcessorCount": 132}
    >>> [round(rate / 1e12, 2) for rate in peaks_of(found, (9, 0))]
    [3.35, 66.91, 1070.53]
    """
    clocks = 1e3 * attributes["ClockRate"] * attributes["MultiProcessorCount"]
    lanes = (table.get(capability) for table in (FLOAT32_LANES, HALF_LANES))
    memory = 2 * 1e3 * attributes["MemoryClockRate"] * attributes["GlobalMemoryBusWidth"] / 8
    return Peaks(memory, *(2 * n * clocks if n else None for n in lanes))


def examine() -> list[dict[str, Any]]:
    """Return the rows of `orthotheory doctor --gpu`."""
    if not cuda_is_available():
        hint = "install orthotheory[cuda12] or [cuda13] on a machine with a GPU"
        return [part("GPU", "absent", "CuPy is not installed or sees no device", hint), *compiled_without_gpu()]
    where = backend("cuda")
    device = where.device
    capability = (int(device.compute_capability[:-1]), int(device.compute_capability[-1]))
    peaks = peaks_of(device.attributes, capability)
    return [*_description(device, capability), *_compiled(), *fractions(where, peaks, events)]


def _description(device: Any, capability: tuple[int, int]) -> list[dict[str, Any]]:
    cupy = cupy_module()
    runtime = cupy.cuda.runtime
    name = runtime.getDeviceProperties(device.id)["name"].decode()
    free, total = device.mem_info
    versions = f"driver {runtime.driverGetVersion()}, runtime {runtime.runtimeGetVersion()}, CuPy {cupy.__version__}"
    return [
        part("GPU", "works", name, f"cuda:{device.id}, one of {runtime.getDeviceCount()}"),
        part("compute capability", "works", f"{capability[0]}.{capability[1]}", "7.0 or newer for the kernels"),
        part("memory", "works", f"{free / 2**30:.1f} of {total / 2**30:.1f} GiB free", "a sweep takes what is free"),
        part("CUDA", "works", versions, "12 or 13"),
    ]


def _compiled() -> list[dict[str, Any]]:
    """Compile every variant of every kernel for this GPU, as the first use would."""
    from .kernels.cuda.processors import device_kernel
    from .kernels.cuda.sources import variants

    return _judged(lambda what: device_kernel(what).compile(), variants(), "this GPU")


def compiled_without_gpu(some: int | None = None) -> list[dict[str, Any]]:
    """Compile every variant (or the first so many) with NVIDIA's run-time compiler where it is installed."""
    from .kernels.cuda import nvrtc
    from .kernels.cuda.sources import ARCHITECTURES, source, variants

    if nvrtc.library() is None:
        return [part("kernels", "absent", "NVRTC is not installed", "pip install 'orthotheory[test]'")]
    rows = []
    for architecture in ARCHITECTURES:

        def compile_one(what: Any, architecture: str = architecture) -> object:
            return nvrtc.compile_source(source(what.kernel), architecture, what.options)

        rows += _judged(compile_one, variants()[:some], architecture)
    return rows


def _judged(compile_one: Callable[[Any], object], variants: list[Any], where: str) -> list[dict[str, Any]]:
    """Return a row a kernel: how many of its variants compiled, or the first complaint."""
    counts: dict[str, int] = {}
    complaints: dict[str, str] = {}
    for what in variants:
        counts[what.kernel] = counts.get(what.kernel, 0) + 1
        try:
            compile_one(what)
        except Exception as error:  # whatever a compiler raises is the row
            first = (str(error) or repr(error)).splitlines()[0]
            complaints.setdefault(what.kernel, f"{what}: {first}")
    return [
        part(f"kernel {kernel}", "broken" if kernel in complaints else "works",
             complaints.get(kernel, f"{count} variants compiled"), f"for {where}")
        for kernel, count in counts.items()
    ]  # fmt: skip


Timer = Callable[[Callable[[], object]], float]  # seconds of one call, the median of several


def events(call: Callable[[], object], calls: int = 15) -> float:
    """Return the median seconds of a call between two events of the device."""
    cupy = cupy_module()
    times = []
    for _ in range(calls + 2):
        began, ended = cupy.cuda.Event(), cupy.cuda.Event()
        began.record()
        call()
        ended.record()
        ended.synchronize()
        times.append(cupy.cuda.get_elapsed_time(began, ended) / 1e3)
    return statistics.median(times[2:])


def fractions(
    where: Backend, peaks: Peaks, timer: Timer, *, copied: int = COPIED, large: int = LARGE, small=SMALL
) -> list[dict[str, Any]]:
    """Measure a copy, two matrix products and the batched Newton-Schulz steps beside their peaks."""
    from .polar.schedule import MUON_QUINTIC

    x = where.asarray(np.zeros(copied // 4, np.float32))
    y = where.xp.empty_like(x)

    def copy() -> None:
        y[...] = x

    rows = [_rate("copy", 2 * copied, timer(copy), "B/s", peaks.copy)]
    for dtype, peak in (("float32", peaks.float32), ("float16", peaks.half)):
        a = where.asarray(np.random.default_rng(0).standard_normal((large, large)).astype(dtype))
        seconds = timer(functools.partial(operator.matmul, a, a))
        rows.append(_rate(f"product of {large} x {large}, {dtype}", 2 * large**3, seconds, "flop/s", peak))
    count, m, n = small
    host = np.random.default_rng(0).standard_normal(small).astype(np.float32)
    g, steps = where.asarray(host), MUON_QUINTIC.steps
    label = f"{steps} Newton-Schulz steps of {count} matrices {m} x {n}, float32"
    seconds = timer(lambda: MUON_QUINTIC.apply(g))
    rows.append(_rate(label, count * steps * (4 * m * m * n + 2 * m**3), seconds, "flop/s", peaks.float32))
    few = host[:64].astype(np.float64)
    error = float(np.max(np.abs(to_host(MUON_QUINTIC.apply(g))[:64] - MUON_QUINTIC.apply(few))))
    verdict = "works" if error < EXPECTED_ERROR else "broken"
    return [*rows, part("their error", verdict, f"{error:.1e}", f"below {EXPECTED_ERROR:g} beside float64")]


def _rate(label: str, amount: float, seconds: float, unit: str, peak: float | None) -> dict[str, Any]:
    rate = amount / seconds
    share = f", {rate / peak:.0%} of the peak" if peak else ""
    expected = f"peak {peak / 1e12:.3g} T{unit} at the largest clock" if peak else "the peak is not known to us"
    return part(label, "works", f"{rate / 1e12:.3g} T{unit}{share}", expected)
