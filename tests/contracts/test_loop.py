"""The loop: what a trace contains, how a run ends, and files that are whole or refused."""

import json
import os

import numpy as np
import pytest
from conftest import eps_of, strict_backend

from orthotheory import Trace, methods, norms, problems, run, storage
from orthotheory.arrays import device_of, to_host
from orthotheory.loop import NEEDS_OBJECTIVES, NEEDS_STEP, RECORDERS, Moment
from orthotheory.names import UnknownName
from orthotheory.problems import Gaussian, Minibatch
from orthotheory.storage import DamagedFile

SCALARS = [name for name in RECORDERS if name not in {"iterate", "accuracy"} | NEEDS_OBJECTIVES]


def quadratic(**options):
    return problems.quadratic(**{"rows": 4, "columns": 3, "left_condition": 5.0, **options})


# What a trace contains


def test_every_record_is_its_formula_along_a_hand_written_loop(xp):
    problem = quadratic(right_condition=3.0, device=xp)
    method = methods.TrustRegion("max-entry", lr=0.1, momentum=0.5)
    trace = run(problem, method, 5, record=[*SCALARS, "iterate"])
    assert set(trace.records) == {*SCALARS, "iterate"}
    np.testing.assert_array_equal(trace.k, np.arange(6))
    numpy = quadratic(right_condition=3.0)
    a, b, optimum, w = numpy.a, numpy.b, numpy.optimum, numpy.start
    state = method.init(w)
    for k in range(6):
        error = w - optimum
        g = a @ error @ b
        following, state = method.step(w, g, state)
        step = following - w
        value = np.trace(error.T @ a @ error @ b) / 2
        expected = {
            "value": value,
            "gap": value,
            "distance": np.linalg.norm(error),
            "gradient_norm": np.abs(g).sum(),  # the dual of the method's norm
            "gradient_frobenius": np.linalg.norm(g),
            "gradient_nuclear": np.linalg.norm(g, "nuc"),
            "gradient_inner": (g * w).sum(),
            "weight_norm": np.abs(w).max(),
            "weight_spectral": np.linalg.norm(w, 2),
            "step_norm": np.abs(step).max() if k < 5 else np.nan,
            "step_curvature": np.trace(step.T @ a @ step @ b) if k < 5 else np.nan,
            "iterate": w,
        }
        assert set(expected) == set(trace.records)
        for name, number in expected.items():
            # sums of at most 12 terms; steps are differences of weights 30 times their size
            np.testing.assert_allclose(trace[name][k], number, rtol=30 * 100 * eps_of(w), err_msg=f"{name} at {k}")
        w = following
    assert trace.stopped_by == "steps"
    assert trace.steps == 5
    assert trace.seconds > 0
    assert trace.problem is problem
    assert trace.method is method
    for values in trace.records.values():
        assert type(values) is np.ndarray
    np.testing.assert_array_equal(trace.non_finite_at, -1)


def test_accuracy_is_recorded_where_the_problem_has_one():
    rng = np.random.default_rng(0)
    problem = problems.SoftmaxRegression(
        rng.standard_normal((20, 4)), rng.integers(3, size=20), classes=3, regularization=0.1
    )
    trace = run(problem, methods.make("gd", lr=0.5), 10, record=("accuracy", "gap"))
    assert trace["accuracy"][0] == pytest.approx(np.mean(problem.labels == 0))
    assert trace["accuracy"][-1] == pytest.approx(float(problem.accuracy(_last_weights(problem, 10, lr=0.5))))


def _last_weights(problem, steps, **hyper):
    method, w = methods.make("gd", **hyper), problem.start
    for _ in range(steps):
        w, _ = method.step(w, problem.grad(w), ())
    return w


def test_only_what_needs_a_following_step_is_nan_in_the_last_record():
    trace = run(quadratic(), methods.make("gd"), 3, record=SCALARS)
    for name in SCALARS:
        assert np.isnan(trace[name][-1]) == (name in NEEDS_STEP), name
        assert np.all(np.isfinite(trace[name][:-1])), name


@pytest.mark.parametrize(
    ("every", "expected"), [(1, [*range(11)]), (3, [0, 3, 6, 9, 10]), (5, [0, 5, 10]), (99, [0, 10])]
)
def test_every_so_many_steps_are_recorded_and_the_last(every, expected):
    dense = run(quadratic(), methods.make("gd"), 10)
    trace = run(quadratic(), methods.make("gd"), 10, every=every)
    np.testing.assert_array_equal(trace.k, expected)
    np.testing.assert_array_equal(trace["gap"], dense["gap"][expected])
    assert trace.steps == 10


def test_no_steps_record_the_start():
    problem = quadratic()
    trace = run(problem, methods.make("gd"), 0, record=("value", "step_norm"))
    np.testing.assert_array_equal(trace.k, [0])
    assert trace["value"][0] == problem.value(problem.start)
    assert np.isnan(trace["step_norm"][0])
    assert trace.steps == 0


def test_a_recorder_of_ones_own_sees_the_moment():
    seen = []

    def recorder(moment: Moment):
        seen.append(moment)
        return moment.w[..., 0, 0]

    problem, method = quadratic(), methods.make("gd", lr=0.5)
    trace = run(problem, method, 2, record={"corner": recorder})
    assert list(trace.records) == ["corner"]
    assert "corner" in trace
    assert "gap" not in trace
    np.testing.assert_array_equal(trace["corner"], [m.w[0, 0] for m in seen])
    for moment in seen:
        assert moment.problem is problem
        assert moment.method is method
        np.testing.assert_array_equal(moment.grad, problem.grad(moment.w))
    # the step is what was added: -lr grad to the rounding of the weights
    np.testing.assert_allclose(seen[0].step, -0.5 * seen[0].grad, atol=4 * eps_of(problem.start))
    assert seen[-1].step is None


def test_an_unknown_record_lists_the_nearest_before_the_run_and_after():
    with pytest.raises(UnknownName, match="Unknown record 'gapp'; did you mean 'gap'"):
        run(quadratic(), methods.make("gd"), 3, record=("gapp",))
    trace = run(quadratic(), methods.make("gd"), 3)
    with pytest.raises(UnknownName, match="Unknown record 'valeu'; did you mean 'value'"):
        trace["valeu"]


@pytest.mark.parametrize(
    ("options", "message"),
    [({"steps": -1}, r"steps must lie in \[0, inf\); got -1"), ({"every": 0}, r"every must lie in \[1, inf\); got 0")],
    ids=["steps", "every"],
)
def test_impossible_numbers_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        run(quadratic(), methods.make("gd"), **options)


def test_the_configuration_says_exactly_what_ran_and_fits_in_json():
    problem = problems.make("quadratic", rows=4, columns=3, noise={"name": "gaussian", "sigma": 0.1})
    trace = run(problem, methods.make("muon", lr=np.array([0.1, 0.2])), 3, every=2, seed=7)
    config = json.loads(json.dumps(trace.config))
    assert config["problem"]["name"] == "quadratic"
    assert config["problem"]["rows"] == 4
    assert config["noise"] == "Gaussian(sigma=0.1)"
    assert config["method"]["class"] == "Muon"
    assert config["method"]["lr"] == [0.1, 0.2]
    assert config["method"]["momentum"] == 0.95
    assert (config["steps"], config["every"], config["seed"]) == (3, 2, 7)


def test_the_start_is_left_as_it_was():
    problem = quadratic()
    problem.start.flags.writeable = False  # a write would raise
    run(problem, methods.make("adam"), 3)


def test_a_start_of_ones_own_replaces_the_problems():
    problem = quadratic()
    trace = run(problem, methods.make("gd", lr=0.5), 3, start=problem.optimum, record=("gap", "distance"))
    np.testing.assert_array_equal(trace["distance"], np.zeros(4))
    several = run(problem, methods.make("gd"), 3, start=np.stack([problem.start, problem.optimum]))
    assert several["gap"].shape == (4, 2)
    np.testing.assert_array_equal(several["gap"][:, 1], np.zeros(4))


# Targets


def test_a_target_stops_the_run_at_the_first_gap_below_it():
    full = run(quadratic(), methods.make("gd", lr=1.0), 100)
    target = 1e-3
    first = int(np.argmax(full["gap"] <= target))
    assert first > 5
    trace = run(quadratic(), methods.make("gd", lr=1.0), 100, target=target, every=4)
    assert trace.stopped_by == "target"
    assert trace.k[-1] == trace.steps == first
    assert trace["gap"][-1] <= target < full["gap"][first - 1]
    np.testing.assert_array_equal(trace.k, [*range(0, first, 4), first])


def test_a_target_waits_for_the_slowest_run_of_a_batch():
    lr = np.array([0.2, 1.0])
    trace = run(quadratic(), methods.make("gd", lr=lr), 500, target=1e-3)
    slow = run(quadratic(), methods.make("gd", lr=0.2), 500, target=1e-3)
    assert trace.stopped_by == "target"
    assert trace.steps == slow.steps
    assert run(quadratic(), methods.make("gd", lr=1e-9), 5, target=1e-3).stopped_by == "steps"


# Batches and seeds


def test_array_hyper_parameters_make_the_batch_and_each_run_is_the_one_alone(xp):
    problem = quadratic(device=xp)
    lr, momentum = np.array([[0.1], [0.5]]), np.array([0.0, 0.5, 0.9])
    trace = run(problem, methods.make("heavy-ball", lr=xp.asarray(lr), momentum=xp.asarray(momentum)), 8)
    assert trace["gap"].shape == (9, 2, 3)
    assert trace.non_finite_at.shape == (2, 3)
    for i, j in np.ndindex(2, 3):
        alone = run(problem, methods.make("heavy-ball", lr=float(lr[i, 0]), momentum=float(momentum[j])), 8)
        np.testing.assert_allclose(trace["gap"][:, i, j], alone["gap"], rtol=1e-12, atol=1e-14)  # sums reordered


def test_a_batch_of_seeds_gets_noise_of_its_own_each():
    problem = quadratic(noise=Gaussian(0.1))
    trace = run(problem, methods.make("gd"), 5, batch=(3,))
    assert trace["gap"].shape == (6, 3)
    np.testing.assert_array_equal(trace["gap"][0], trace["gap"][0, 0])  # one start
    assert len(set(trace["gap"][-1])) == 3


def test_a_seed_reproduces_a_run_bit_by_bit_and_another_seed_does_not():
    problem = quadratic(noise=Gaussian(0.1))
    one, same, other = (run(problem, methods.make("muon"), 10, seed=seed) for seed in (3, 3, 4))
    np.testing.assert_array_equal(one["gap"], same["gap"])
    assert np.abs(one["gap"][-1] - other["gap"][-1]) > 1e-6


def test_noise_moves_the_weights_but_the_recorded_gradient_is_the_true_one():
    problem = quadratic(noise=Gaussian(5.0))
    trace = run(problem, methods.make("gd"), 5, record=("gradient_frobenius", "iterate"))
    for norm, w in zip(trace["gradient_frobenius"], trace["iterate"], strict=True):
        assert norm == pytest.approx(np.linalg.norm(problem.grad(w)), rel=1e-13)


def test_an_empty_batch_gives_an_empty_trace(tmp_path):
    trace = run(quadratic(), methods.make("gd", lr=np.zeros(0) + 0.1), 3)
    assert trace["gap"].shape == (4, 0)
    assert len(trace.to_pandas()) == 0
    assert len(Trace.read(trace.write(tmp_path).parent)[0]) == 0


@pytest.mark.parametrize("name", methods.names())
def test_numpy_and_the_strict_backend_give_the_same_numbers(name):
    """20 noisy steps agree to 1e-10: the same draws, and sums that may only be ordered differently."""
    traces = []
    for device in ("cpu", strict_backend()):
        problem = quadratic(noise=Gaussian(0.05), device=device)
        traces.append(run(problem, methods.make(name), 20, record=("value", "gradient_norm", "iterate")))
    for record in ("value", "gradient_norm", "iterate"):
        np.testing.assert_allclose(traces[0][record], traces[1][record], rtol=1e-10, atol=1e-10)


def test_minibatches_run_on_every_backend(xp):
    here = problems.least_squares(samples=30, rows=4, columns=3, noise=Minibatch(5), device=xp)
    numpy = problems.least_squares(samples=30, rows=4, columns=3, noise=Minibatch(5))
    method = methods.make("muon")
    one, other = run(here, method, 10, record=("gap",)), run(numpy, method, 10, record=("gap",))
    np.testing.assert_allclose(one["gap"], other["gap"], rtol=1e-10, atol=1e-10)
    assert device_of(here.start) == xp.device


# Numbers that are not finite


def test_a_diverging_run_stops_and_says_at_which_step_and_in_which_quantity(xp):
    problem, lr = quadratic(device=xp), 1e80
    w, k = to_host(problem.start), 0
    numpy = quadratic()
    with np.errstate(over="ignore", invalid="ignore"):
        while np.all(np.isfinite(w)):
            w, k = w - lr * numpy.grad(w), k + 1
    trace = run(problem, methods.make("gd", lr=lr), 100, record=("weight_spectral",))
    assert trace.stopped_by == f"non-finite weights at step {k}"
    assert trace.non_finite_at == k
    np.testing.assert_array_equal(trace.k, np.arange(k))
    assert np.all(np.isfinite(trace["weight_spectral"]))


class Wall(problems.Problem):
    """A slope whose gradient is NaN past w = -1."""

    start, optimum, optimal_value = np.zeros((2, 2)), np.zeros((2, 2)), 0.0

    def value(self, w):
        return w.sum(axis=(-2, -1))

    def grad(self, w):
        return np.where(w > -1, np.ones_like(w), np.nan)


def test_a_gradient_that_is_not_finite_is_told_from_weights_that_are_not():
    trace = run(Wall(), methods.make("gd", lr=0.25), 100, record=("value",))
    assert trace.stopped_by == "non-finite gradient at step 4"
    np.testing.assert_allclose(trace["value"], -np.arange(4.0))


def test_a_diverging_run_of_a_batch_leaves_the_others_alone(xp):
    problem = quadratic(device=xp)
    lr = np.array([0.5, 1e80, 1.0])
    trace = run(problem, methods.make("gd", lr=xp.asarray(lr)), 30)
    assert trace.stopped_by == "steps"
    assert trace.non_finite_at[0] == trace.non_finite_at[2] == -1
    bad_from = trace.non_finite_at[1]
    assert 1 < bad_from < 10
    for i in (0, 2):
        alone = run(problem, methods.make("gd", lr=float(lr[i])), 30)
        np.testing.assert_array_equal(trace["gap"][:, i], alone["gap"])
    assert np.all(np.isnan(trace["gap"][bad_from:, 1]))
    assert np.all(np.isfinite(trace["gradient_norm"][:bad_from, 1]))


def test_a_batch_stops_when_its_last_run_has_diverged():
    trace = run(quadratic(), methods.make("gd", lr=np.array([1e80, 1e150])), 100, record=("weight_spectral",))
    first, second = trace.non_finite_at
    assert second < first
    assert trace.stopped_by == f"non-finite weights at step {first}"
    assert len(trace.k) == first


# Interrupts and errors


class Interrupted(problems.Problem):
    """A quadratic that raises at a given call of its gradient."""

    def __init__(self, at, error):
        inner = quadratic()
        self.start, self.optimum, self.optimal_value, self.value = inner.start, inner.optimum, 0.0, inner.value
        self.inner, self.at, self.error, self.calls = inner, at, error, 0

    def grad(self, w):
        self.calls += 1
        if self.calls > self.at:
            raise self.error
        return self.inner.grad(w)


def test_an_interrupt_returns_what_was_recorded():
    trace = run(Interrupted(5, KeyboardInterrupt), methods.make("gd", lr=0.5), 100)
    assert trace.stopped_by == "interrupted at step 5"
    np.testing.assert_array_equal(trace.k, np.arange(5))
    np.testing.assert_array_equal(trace["gap"], run(quadratic(), methods.make("gd", lr=0.5), 100)["gap"][:5])


def test_an_interrupt_between_two_recorders_keeps_whole_rows():
    calls = []

    def second(moment):
        calls.append(moment)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return moment.w[..., 0, 0]

    trace = run(quadratic(), methods.make("gd"), 10, record={"first": lambda m: m.w[..., 0, 1], "second": second})
    assert trace.stopped_by == "interrupted at step 3"
    assert len(trace.k) == len(trace["first"]) == len(trace["second"]) == 3


def test_an_interrupt_at_once_gives_an_empty_trace():
    trace = run(Interrupted(0, KeyboardInterrupt), methods.make("gd"), 10)
    assert trace.stopped_by == "interrupted at step 0"
    assert len(trace.k) == trace.steps == 0


def test_any_other_error_is_passed_on():
    with pytest.raises(ZeroDivisionError):
        run(Interrupted(2, ZeroDivisionError), methods.make("gd"), 10)


def test_progress_is_shown_on_request_alone(capsys):
    run(quadratic(), methods.make("gd"), 3)
    quiet = capsys.readouterr()
    assert quiet.out == quiet.err == ""
    run(quadratic(), methods.make("gd"), 3, progress=True)
    loud = capsys.readouterr()
    assert "GradientDescent" in loud.err
    assert loud.out == ""


# Tables and files


def test_the_table_has_one_row_per_record_and_run_without_the_matrices():
    one = run(quadratic(), methods.make("gd"), 4, every=2, record=("gap", "iterate")).to_pandas()
    assert list(one.columns) == ["k", "gap"]
    assert list(one["k"]) == [0, 2, 4]
    trace = run(quadratic(), methods.make("gd", lr=np.array([[0.1], [0.2]])), 4, every=2, batch=(2, 3))
    table = trace.to_pandas()
    assert list(table.columns) == ["k", "run", "value", "gap", "gradient_norm"]
    assert list(table["k"]) == [0] * 6 + [2] * 6 + [4] * 6
    assert list(table["run"]) == list(range(6)) * 3
    np.testing.assert_array_equal(table["gap"].to_numpy().reshape(3, 2, 3), trace["gap"])


def test_what_is_written_is_read_back_with_its_manifest(tmp_path):
    trace = run(quadratic(), methods.make("gd", lr=np.array([0.1, 1e300])), 20, seed=5)
    path = trace.write(tmp_path / "deep" / "folder")
    assert path == tmp_path / "deep" / "folder" / "trace.parquet"
    table, manifest = Trace.read(path.parent)
    assert table.equals(trace.to_pandas())
    assert manifest["config"] == trace.config
    assert manifest["stopped_by"] == "steps"
    assert manifest["rows"] == len(table) == 42
    assert manifest["machine"]["numpy"] == np.__version__
    assert sorted(p.name for p in path.parent.iterdir()) == ["trace.json", "trace.parquet"]  # no leftovers


def test_writing_again_replaces_both_files(tmp_path):
    for steps in (3, 5):
        run(quadratic(), methods.make("gd"), steps).write(tmp_path)
    assert len(Trace.read(tmp_path)[0]) == 6


@pytest.fixture
def written(tmp_path):
    run(quadratic(), methods.make("gd"), 5).write(tmp_path)
    return tmp_path


@pytest.mark.parametrize("share", [0.0, 0.5, 0.99])
def test_a_half_written_table_is_refused(written, share):
    path = written / "trace.parquet"
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(
        DamagedFile, match=r"trace.parquet does not match its manifest: it was cut off or changed. Delete"
    ):
        Trace.read(written)


def test_a_changed_byte_in_the_table_is_noticed(written):
    path = written / "trace.parquet"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(bytes(content))
    with pytest.raises(DamagedFile, match="does not match its manifest"):
        Trace.read(written)


@pytest.mark.parametrize("share", [0.0, 0.3, 0.95])
def test_a_half_written_manifest_is_refused(written, share):
    path = written / "trace.json"
    content = path.read_text()
    path.write_text(content[: int(share * len(content))])
    with pytest.raises(DamagedFile, match=r"trace.json is missing or not complete JSON .*delete it and run again"):
        Trace.read(written)


@pytest.mark.parametrize(
    ("name", "message"),
    [("trace.json", "trace.json is missing or not complete JSON"), ("trace.parquet", "does not match its manifest")],
)
def test_a_missing_half_is_refused(written, name, message):
    (written / name).unlink()
    with pytest.raises(DamagedFile, match=message):
        Trace.read(written)


@pytest.mark.parametrize("content", ["3", "[]", '"text"', "{}"])
def test_a_manifest_of_another_kind_is_refused(written, content):
    (written / "trace.json").write_text(content)
    with pytest.raises(DamagedFile):
        Trace.read(written)


def test_a_folder_that_cannot_be_written_is_named_with_the_remedy(tmp_path):
    (tmp_path / "taken").write_text("a file")
    for folder in (tmp_path / "taken", tmp_path / "taken" / "below"):
        with pytest.raises(OSError, match=r"Cannot write to the folder .*taken.*: .*\. Choose another with --out"):
            run(quadratic(), methods.make("gd"), 2).write(folder)


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root writes everywhere")
def test_a_folder_without_permission_is_refused(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(OSError, match=r"Cannot write to the folder .*Permission denied"):
        run(quadratic(), methods.make("gd"), 2).write(tmp_path)


def test_a_failed_write_leaves_the_old_file_and_no_part(tmp_path):
    path = tmp_path / "kept.txt"
    storage.write_text(path, "old")

    def fail(part):
        part.write_text("half")
        raise RuntimeError("power cut")

    with pytest.raises(RuntimeError, match="power cut"):
        storage.write_atomically(path, fail)
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["kept.txt"]


def test_plain_turns_configurations_into_json():
    content = {
        "array": np.array([1.0, 2.0]),
        "strict": strict_backend().asarray([3.0]),
        "number": np.float32(0.5),
        "flag": np.bool_(True),
        "nan": float("nan"),
        "infinite": -np.inf,
        "pair": (1, None),
        "norm": norms.KyFan(2),
        7: "key",
    }
    assert json.loads(json.dumps(storage.plain(content), allow_nan=False)) == {
        "array": [1.0, 2.0],
        "strict": [3.0],
        "number": 0.5,
        "flag": True,
        "nan": "nan",
        "infinite": "-inf",
        "pair": [1, None],
        "norm": "KyFan(k=2)",
        "7": "key",
    }


def test_a_digest_depends_on_the_content_and_not_on_the_order():
    assert storage.digest({"a": 1, "b": 2.0}) == storage.digest({"b": 2.0, "a": 1})
    assert storage.digest({"a": 1}) != storage.digest({"a": 2})
    assert storage.digest({"lr": np.array([0.1])}) == storage.digest({"lr": [0.1]})
    assert len(storage.digest({})) == 16


def test_the_machine_is_described_without_names_of_machines_or_users():
    description = storage.machine()
    assert set(description) == {"orthotheory", "python", "numpy", "platform", "cores"}
    node = os.uname().nodename if hasattr(os, "uname") else ""
    assert not node or node not in json.dumps(description)
