"""Sweeps on other libraries and devices: the same numbers to a stated tolerance, and memory that runs out."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from orthotheory import cli, methods, problems
from orthotheory.arrays import backend
from orthotheory.sweep import Sweep, execute, plan, run_chunk, run_sweep
from orthotheory.sweep.starts import starts

ROOT = Path(__file__).parents[2]
NOISY = {"name": "quadratic", "rows": 4, "columns": 3, "noise": {"name": "gaussian", "sigma": 0.01}}
GRID = Sweep({"p": NOISY}, {"gd": {"lr": [0.1, 1.0]}, "muon": {"lr": [0.05, 0.01]}}, steps=6, every=3, seeds=2)
AMPLIFYING = {"m-fac", "aro-adam", "online-subspace-descent", "scion", "scion-unconstrained", "sophia"}
STEADY = {"name": "quadratic", "rows": 6, "columns": 4, "noise": {"name": "gaussian", "sigma": 0.1}, "dtype": "float32"}


def one_unit_off(problem, error, seeds):
    """First weights with each entry off by one unit of rounding: what another order of sums does."""
    first = starts(problem, error, seeds)
    signs = np.random.default_rng(0).choice([-1, 1], size=first.shape)
    return first * (1 + signs * np.finfo(first.dtype).eps).astype(first.dtype)


def difference(name, device="cpu", other=starts, steps=20, **hyper):
    """The largest difference of the losses from those on NumPy, in rounding units of the first."""
    setup = (STEADY, {"name": name, **hyper}, [0.01, 0.003], [0, 1], steps, 5, ["loss"], "generic")
    here = run_chunk(*setup).records["loss"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(execute, "starts", other)
        there = run_chunk(*setup, device=device).records["loss"]
    return np.max(np.abs(here - there) / here[0]) / np.finfo("float32").eps


def test_backends_agree_to_as_many_rounding_units_of_the_first_loss_as_steps(xp):
    device = "cpu" if xp == backend("cpu") else xp  # NumPy against itself: first weights off by a unit
    other = one_unit_off if device == "cpu" else starts
    assert type(execute.build_problem(STEADY, device).start) is type(xp.asarray(np.zeros(1)))
    worst = {name: difference(name, device, other) for name in methods.names() if name not in AMPLIFYING}
    assert max(worst.values()) <= 20, max(worst, key=worst.__getitem__)
    assert device != "cpu" or max(worst.values()) > 0


@pytest.mark.parametrize("name", ["scion", "scion-unconstrained"])
def test_scion_amplifies_rounding_at_its_default_radius_and_not_at_one_of_the_size_of_the_problem(name):
    """Its default radius of 50 makes steps of 0.5, with which it jumps about the optimum."""
    assert difference(name, other=one_unit_off, steps=100) > 100
    assert difference(name, other=one_unit_off, steps=100, radius=1.0) <= 100


def test_an_absent_gpu_is_refused_with_one_sentence_before_anything_is_written(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("orthotheory.arrays.cuda_is_available", lambda: False)
    with pytest.raises(RuntimeError, match="needs CuPy and a CUDA GPU"):
        run_sweep(GRID, tmp_path / "out", device="cuda")
    assert not (tmp_path / "out").exists()
    example = str(ROOT / "figures" / "sweeps" / "example.toml")
    for more in ([], ["--dry-run"]):
        assert cli.command(["sweep", example, "--device", "cuda", "--out", str(tmp_path / "out"), *more]) != 0
        assert "needs CuPy and a CUDA GPU" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_gpu_takes_the_batch_that_half_its_free_memory_holds(monkeypatch):
    problem = problems.make("quadratic", rows=32, columns=32)  # 8 kB a matrix, eight of them a run
    for free, runs in ((2**30, 2**13), (2**40, 2**16), (2**10, 8)):
        monkeypatch.setattr(execute, "free_memory", lambda device, free=free: free)
        assert execute.largest_chunk(problem, "cuda") == runs
    monkeypatch.setattr(execute, "free_memory", lambda device: 2**30)
    assert [work.runs for work in plan(GRID, {}, device="cuda")] == [4, 4]


def limited(monkeypatch, most):
    """An allocator with room for so many runs; returns the sizes of the batches that asked."""
    asked, original = [], methods.GradientDescent.update

    def update(self, w, grad, state):
        asked.append(int(np.prod(w.shape[:-2])))
        if asked[-1] > most:
            raise MemoryError(f"no room for {asked[-1]} runs")
        return original(self, w, grad, state)

    monkeypatch.setattr(methods.GradientDescent, "update", update)
    return asked


def test_a_batch_that_runs_out_of_memory_goes_on_in_halves_with_the_same_bits(monkeypatch):
    grid = Sweep({"p": NOISY}, {"gd": {"lr": [0.1, 0.2, 0.3, 0.4, 0.5]}}, steps=4, seeds=3)
    whole = run_sweep(grid, chunk=15).table
    asked = limited(monkeypatch, 4)
    assert run_sweep(grid, chunk=15).table.equals(whole)
    assert asked[:3] == [15, 9, 6]  # rates first: 5 x 3, 3 x 3, then seeds: 3 x 2
    assert min(asked) > 1


def test_a_single_run_without_room_is_a_reason(monkeypatch):
    limited(monkeypatch, 0)
    lost = run_sweep(GRID).diverged()
    assert lost["reason"].tolist() == ["MemoryError: one run alone does not fit"] * 4
    assert set(lost["method"]) == {"gd"}
