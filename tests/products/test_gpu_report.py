"""The report on a GPU, with the host in its place: peaks from attributes, rates, compilers' complaints."""

from __future__ import annotations

import time

import pytest

from orthotheory import gpu_report
from orthotheory.arrays import backend
from orthotheory.kernels.cuda import nvrtc

H100 = {"ClockRate": 1980000, "MemoryClockRate": 2619000, "GlobalMemoryBusWidth": 5120, "MultiProcessorCount": 132}
A100 = {"ClockRate": 1410000, "MemoryClockRate": 1215000, "GlobalMemoryBusWidth": 5120, "MultiProcessorCount": 108}


@pytest.mark.parametrize(
    ("attributes", "capability", "sheet"),
    [(H100, (9, 0), (3.35e12, 66.9e12, 1071e12)), (A100, (8, 0), (1.555e12, 19.5e12, 312e12))],
    ids=["H100", "A100"],
)
def test_the_peaks_are_those_of_the_data_sheets(attributes, capability, sheet):
    assert gpu_report.peaks_of(attributes, capability) == pytest.approx(sheet, rel=2e-3)


def test_a_gpu_that_we_do_not_know_has_no_peak_rather_than_a_wrong_one():
    peaks = gpu_report.peaks_of(H100, (99, 0))
    assert peaks.float32 is None
    row = gpu_report._rate("product", 1e12, 1.0, "flop/s", peaks.half)
    assert row["measured"] == "1 Tflop/s"
    assert "not known" in row["expected"]


def by_clock(call) -> float:
    began = time.perf_counter()
    call()
    return time.perf_counter() - began


def test_every_rate_is_measured_with_its_result_checked(monkeypatch):
    def measure():
        peaks = gpu_report.Peaks(1e13, 1e15, 1e16)
        return gpu_report.fractions(backend("cpu"), peaks, by_clock, copied=2**12, large=32, small=(70, 8, 8))

    rows = {row["label"]: row for row in measure()}
    assert len(rows) == 5
    assert all(row["verdict"] == "works" for row in rows.values())
    monkeypatch.setattr(gpu_report, "EXPECTED_ERROR", 1e-12)  # the control: float32 is not that good
    assert measure()[-1]["verdict"] == "broken"


@pytest.mark.skipif(nvrtc.library() is None, reason="NVRTC is not installed")
def test_without_a_gpu_kernels_are_compiled_for_each_architecture():
    rows = gpu_report.compiled_without_gpu(1)  # all of them: tests/contracts/test_cuda_compile.py
    assert {row["expected"] for row in rows} == {"for sm_80", "for sm_90"}
    assert [row for row in rows if row["verdict"] != "works"] == []


def test_a_kernel_that_does_not_compile_is_a_row_with_the_complaint():
    def refuse(what):
        raise RuntimeError("line 3: expected a ;\nand more")

    from orthotheory.kernels.cuda.sources import variants

    rows = gpu_report._judged(refuse, variants()[:2], "sm_90")
    assert [row["verdict"] for row in rows] == ["broken"]
    assert rows[0]["measured"].endswith("line 3: expected a ;")
