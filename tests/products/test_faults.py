"""Faults that a sweep survives: kills, dead workers, a full disk, damaged parts, company, Ctrl-C."""

from __future__ import annotations

import errno
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from orthotheory import storage
from orthotheory.sweep import Results, Store, Sweep, run_sweep, scheduler

CONFIG = """
steps = 40
every = 10
seeds = 3
[problems.noisy]
name = "quadratic"
rows = 6
columns = 4
noise = { name = "gaussian", sigma = 0.1 }
start = "generic"
[methods.muon]
lr = { from = 1e-3, to = 1.0, per_decade = 2 }
[methods.adam]
lr = { from = 1e-3, to = 1.0, per_decade = 2 }
[methods.polargrad]
lr = { from = 1e-3, to = 1.0, per_decade = 2 }
"""
QUIET = {**os.environ, "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}


@pytest.fixture
def grid(tmp_path) -> Sweep:
    (tmp_path / "grid.toml").write_text(CONFIG)
    return Sweep.read(tmp_path / "grid.toml")


def start(tmp_path: Path, folder: Path, *more: str) -> subprocess.Popen:
    arguments = ["sweep", str(tmp_path / "grid.toml"), "--out", str(folder), "--chunk", "1", *more]
    return subprocess.Popen(
        [sys.executable, "-m", "orthotheory", *arguments], env=QUIET, start_new_session=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a job in the background ignores it
    )  # fmt: skip


def wait_for_parts(folder: Path, count: int, process: subprocess.Popen) -> None:
    for _ in range(3000):
        if len(list(folder.glob("*.parquet"))) >= count or process.poll() is not None:
            return
        time.sleep(0.01)
    raise AssertionError("the sweep wrote nothing in 30 s")


def survives_kills(tmp_path: Path, grid: Sweep, kills: int) -> int:
    """Kill and resume, compare with an undisturbed sweep; return how many kills met one that was not finished."""
    whole, rng, unfinished, folder = run_sweep(grid).table, random.Random(0), 0, tmp_path / "killed"
    for i in range(kills):
        process = start(tmp_path, folder, "--jobs", str(1 + i % 2))
        wait_for_parts(folder, len(list(folder.glob("*.parquet"))) + 1, process)
        time.sleep(rng.uniform(0, 0.05))
        unfinished += process.poll() is None
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        if len(list(folder.glob("*.parquet"))) > 0.7 * grid.runs:  # begin again, so that there is something to kill
            assert run_sweep(grid, folder).table.equals(whole)
            folder = tmp_path / f"killed {i}"
    assert unfinished >= kills / 2  # the moments are in the midst of the work
    results = run_sweep(grid, folder)
    assert not results.table.duplicated(["method", "lr", "seed", "k"]).any()
    assert results.table.equals(whole)
    return unfinished


def test_a_sweep_that_is_killed_five_times_resumes_to_the_undisturbed_table(tmp_path, grid):
    survives_kills(tmp_path, grid, 5)


@pytest.mark.slow
def test_a_sweep_that_is_killed_a_hundred_times_resumes_to_the_undisturbed_table(tmp_path, grid):
    survives_kills(tmp_path, grid, 100)


def test_ctrl_c_keeps_what_is_finished_and_says_how_to_go_on(tmp_path, grid):
    process = start(tmp_path, tmp_path / "out", "--jobs", "1")
    wait_for_parts(tmp_path / "out", 3, process)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=30)
    assert process.returncode == 130
    assert "orthotheory sweep --resume --out" in said
    assert "Traceback" not in said
    kept = len(list((tmp_path / "out").glob("*.parquet")))
    assert 3 <= kept < grid.runs
    assert f"{kept} of {grid.runs} runs are kept" in said
    assert run_sweep(grid, tmp_path / "out").table.equals(run_sweep(grid).table)


@pytest.mark.parametrize("damage", ["cut", "flipped", "emptied"])
def test_a_damaged_part_is_found_named_and_computed_again(tmp_path, grid, damage):
    whole = run_sweep(grid, tmp_path / "out").table
    victim = sorted((tmp_path / "out").glob("*.parquet"))[1]
    content = bytearray(victim.read_bytes())
    content[len(content) // 2] ^= 1
    victim.write_bytes({"cut": content[:-100], "flipped": content, "emptied": b""}[damage])
    results = run_sweep(grid, tmp_path / "out")
    assert results.damaged == [victim]
    assert results.table.equals(whole)
    assert run_sweep(grid, tmp_path / "out").damaged == []


def test_a_part_of_another_name_is_not_taken_for_its_group(tmp_path, grid):
    run_sweep(grid, tmp_path / "out")
    first, second = sorted((tmp_path / "out").glob("*.parquet"))[:2]
    first.write_bytes(second.read_bytes())
    assert run_sweep(grid, tmp_path / "out").damaged == [first]


def test_a_full_disk_is_reported_and_what_was_written_stays(tmp_path, grid, monkeypatch):
    room = [2]
    original = storage.write_atomically

    def write(path, do):
        if path.suffix == ".parquet":
            room[0] -= 1
            if room[0] < 0:
                part = path.with_name(f".{path.name}.x.part")
                part.write_bytes(b"half")  # what a write leaves that could not even clean up
                raise OSError(errno.ENOSPC, "No space left on device", str(path))
        original(path, do)

    monkeypatch.setattr("orthotheory.sweep.store.write_atomically", write)
    with pytest.raises(OSError, match="No space left"):
        run_sweep(grid, tmp_path / "out", chunk=1)
    monkeypatch.undo()
    assert len(list((tmp_path / "out").glob("*.parquet"))) == 2
    results = run_sweep(grid, tmp_path / "out")
    assert results.damaged == []
    assert results.table.equals(run_sweep(grid).table)


@pytest.fixture
def small_disk(tmp_path):
    folder = tmp_path / "small"
    folder.mkdir()
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=40k", "tmpfs", str(folder)], capture_output=True)
    if done.returncode:
        pytest.skip("mounting a small disk needs root")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_a_disk_that_is_really_full_leaves_whole_parts_and_more_room_finishes(tmp_path, grid, small_disk):
    process = start(tmp_path, small_disk, "--jobs", "1")
    _, said = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "No space left" in said
    assert "--resume" in said
    assert 0 < len(list(small_disk.glob("*.parquet"))) < grid.runs
    subprocess.run(["mount", "-o", "remount,size=4m", str(small_disk)], check=True)
    results = run_sweep(grid, small_disk)
    assert results.damaged == []
    assert results.table.equals(run_sweep(grid).table)


def dies_once(i, work, device, engine, parent):
    mark = Path(os.environ["ORTHOTHEORY_TEST_MARK"])
    if i == 4 and not mark.exists():
        mark.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return ORIGINAL(i, work, device, engine, parent)


def dies_always(i, work, device, engine, parent):
    os.kill(os.getpid(), signal.SIGKILL)


ORIGINAL = scheduler._perform


@pytest.mark.filterwarnings("ignore:A worker stopped:UserWarning")
def test_the_chunk_of_a_worker_that_dies_is_run_again(tmp_path, grid, monkeypatch):
    monkeypatch.setenv("ORTHOTHEORY_TEST_MARK", str(tmp_path / "died"))
    monkeypatch.setattr(scheduler, "_perform", dies_once)
    from joblib.externals.loky import get_reusable_executor

    get_reusable_executor().shutdown(wait=True)  # workers see the environment they were started in
    results = run_sweep(grid, tmp_path / "out", jobs=2, chunk=3)
    assert (tmp_path / "died").exists()
    assert results.table.equals(run_sweep(grid).table)


@pytest.mark.filterwarnings("ignore:A worker stopped:UserWarning")
def test_workers_that_die_again_and_again_end_the_sweep_with_a_sentence(tmp_path, grid, monkeypatch):
    monkeypatch.setattr(scheduler, "_perform", dies_always)
    with pytest.raises(scheduler.WorkerDied, match=r"Workers died 3 times.*Fewer --jobs"):
        run_sweep(grid, tmp_path / "out", jobs=2, chunk=3)


def test_two_sweeps_at_once_in_one_folder_both_finish_with_each_run_once(tmp_path, grid):
    both = [start(tmp_path, tmp_path / "out", "--jobs", "1") for _ in range(2)]
    for process in both:
        _, said = process.communicate(timeout=60)
        assert process.returncode == 0, said
    read = Results.read(tmp_path / "out")
    assert read.table.equals(run_sweep(grid).table)
    assert read.damaged == []


def test_a_temporary_file_of_a_crash_is_cleared_away_and_that_of_a_living_sweep_is_not(tmp_path):
    old, new = tmp_path / ".x.parquet.1.part", tmp_path / ".y.parquet.2.part"
    for path in (old, new):
        path.write_bytes(b"half")
    os.utime(old, (0, 0))
    Store(tmp_path)
    assert (old.exists(), new.exists()) == (False, True)


CLUSTER = """
import os, signal, sys, threading, time
from pathlib import Path
from distributed import LocalCluster
from orthotheory.sweep import Sweep, run_sweep

if __name__ == "__main__":
    folder = Path(sys.argv[2])
    options = dict(n_workers=2, threads_per_worker=1, processes=True, host="127.0.0.1", dashboard_address=None)
    with LocalCluster(**options) as cluster:
        victim = next(iter(cluster.workers.values())).pid

        def kill():
            while len(list(folder.glob("*.parquet"))) < 3:
                time.sleep(0.005)
            os.kill(victim, signal.SIGKILL)
            print("killed", len(list(folder.glob("*.parquet"))))

        threading.Thread(target=kill, daemon=True).start()
        grid = Sweep.read(sys.argv[1])
        results = run_sweep(grid, folder, scheduler=cluster.scheduler_address, chunk=1)
        print("equal", results.table.equals(run_sweep(grid).table))
"""


def test_a_dask_cluster_that_loses_a_worker_finishes_with_the_same_rows(tmp_path, grid):
    (tmp_path / "out").mkdir()
    (tmp_path / "cluster.py").write_text(CLUSTER)
    command = [sys.executable, str(tmp_path / "cluster.py"), str(tmp_path / "grid.toml"), str(tmp_path / "out")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, env=QUIET)
    assert done.returncode == 0, done.stderr[-3000:]
    assert "equal True" in done.stdout
    killed = int(next(line.split()[1] for line in done.stdout.splitlines() if line.startswith("killed")))
    assert 3 <= killed < grid.runs
