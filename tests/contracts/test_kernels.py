"""Compiled runs and steps are the reference's, to rounding: the same method, problem, noise and records."""

import numpy as np
import pytest

from orthotheory import loop, methods, problems
from orthotheory.kernels import compiled as installed

pytestmark = pytest.mark.skipif(not installed(), reason="numba is not installed")
SERVED = [
    "gd", "heavy-ball", "nesterov", "adam", "sign", "signum", "muon", "muon-torch", "muon-moonlight", "muon-dion",
    "auon", "auon-package", "hybrid-auon", "adamuon", "lion", "amsgrad", "diffgrad", "adadagrad-coordinates",
]  # fmt: skip
ENTRYWISE = ["gd", "heavy-ball", "adam", "signum", "auon", "auon-package", "lion", "amsgrad"]


def make(name, m, n, dtype, noise=None, **hyper):
    problem = problems.make(
        "quadratic", rows=m, columns=n, alignment="generic", right_condition=10.0, dtype=dtype, noise=noise
    )
    rate = np.asarray(getattr(methods.make(name), "lr", 0.1))
    return problem, methods.make(name, lr=(rate * np.array([0.3, 1.0])).astype(dtype), **hyper)


def both(problem, method, steps=6, **options):
    from orthotheory import trajectories

    options = {"record": ("iterate", "value"), "every": 4, **options}
    return trajectories.run(problem, method, steps, **options), loop.run(problem, method, steps, **options)


def close(x, y, dtype, steps=6):
    # five quintics stretch a small singular value by 3.4445^5 < 500 and a step renews that error: eps, 500, steps
    tolerance = 500 * steps * np.finfo(dtype).eps * np.abs(y).max()
    assert np.abs(np.asarray(x, float) - y).max() <= tolerance


@pytest.mark.parametrize("name", SERVED)
@pytest.mark.parametrize("shape", [(8, 8), (3, 17), (20, 33), (40, 24), (1, 5)], ids=str)
def test_a_compiled_run_is_the_run_of_the_loop(name, shape):
    problem, method = make(name, *shape, "float64")
    mine, theirs = both(problem, method)
    assert mine.k.tolist() == theirs.k.tolist() == [0, 4, 6]
    close(mine["iterate"], theirs["iterate"], "float64")
    assert mine.stopped_by == theirs.stopped_by == "steps"
    assert mine.config["engine"] == "compiled"


@pytest.mark.parametrize("name", ["muon", "auon", "lion", "adam"])
@pytest.mark.parametrize("n", [8, 16, 32, 40, 64, 128])
def test_float32_runs_agree_to_rounding(name, n):
    problem, method = make(name, n, n, "float32")
    mine, theirs = both(problem, method)
    assert mine["iterate"].dtype == np.float32
    close(mine["iterate"], theirs["iterate"], "float32")


@pytest.mark.parametrize("name", ["muon", "gd"])
@pytest.mark.parametrize("shape", [(8, 8), (20, 33), (40, 24)], ids=str)
def test_every_recorder_gives_what_the_loop_records(name, shape):
    problem, method = make(name, *shape, "float64")
    names = ("value", "gradient_norm", "gap", "distance", "gradient_frobenius", "gradient_inner", "step_norm")
    mine, theirs = both(problem, method, record=names, every=3)
    for recorder in names:
        known = slice(None, -1 if recorder == "step_norm" else None)  # no step follows the last record
        close(mine[recorder][known], theirs[recorder][known], "float64")


def test_values_are_computed_by_the_program_and_singular_values_by_the_reference():
    from orthotheory import trajectories

    problem, method = make("muon", 8, 8, "float64")
    names = ["value", "gap", "distance", "gradient_frobenius", "gradient_norm", "iterate"]
    assert trajectories.record_look(problem, method, names)[1] == names[:4]


@pytest.mark.parametrize("noise", ["gaussian", "heavy-tailed", "low-rank"])
def test_noise_is_the_same_draws(noise):
    from orthotheory.problems.noise import NOISES

    problem, method = make("muon", 12, 20, "float64", noise=NOISES[noise](0.1))
    mine, theirs = both(problem, method, seed=5)
    close(mine["iterate"], theirs["iterate"], "float64")
    other, _ = both(problem, method, seed=6)
    assert np.abs(other["iterate"] - mine["iterate"])[-1].max() > 1e-3


@pytest.mark.parametrize("n", [8, 32])
def test_a_run_that_diverges_leaves_its_neighbors_alone(n):
    problem, _ = make("gd", n, n, "float32")
    rates = np.array([0.1, 1e30, 0.2], dtype="float32")
    mine, theirs = both(problem, methods.make("gd", lr=rates), 20, every=5)
    assert mine.non_finite_at.tolist() == theirs.non_finite_at.tolist()
    close(mine["iterate"][:, ::2], theirs["iterate"][:, ::2], "float32", 20)
    alone, _ = both(problem, methods.make("gd", lr=rates[::2]), 20, every=5)
    assert np.array_equal(alone["iterate"], mine["iterate"][:, ::2])


@pytest.mark.parametrize("every", [1, 7])
def test_a_sweep_whose_runs_all_diverge_stops_where_the_loop_does(every):
    problem, _ = make("gd", 8, 8, "float32")
    mine, theirs = both(problem, methods.make("gd", lr=np.array([1e20, 1e30], "float32")), 20, every=every)
    assert mine.stopped_by == theirs.stopped_by != "steps"
    assert mine.k.tolist() == theirs.k.tolist()


def test_a_run_does_not_depend_on_the_threads_or_on_who_shares_its_registers():
    from orthotheory import trajectories

    problem, _ = make("muon", 8, 8, "float32")
    rates = np.geomspace(0.01, 0.1, 37).astype("float32")
    whole = trajectories.run(problem, methods.make("muon", lr=rates), 5, record=("iterate",), threads=2)["iterate"]
    for i in (0, 17, 36):
        one = trajectories.run(problem, methods.make("muon", lr=rates[i : i + 1]), 5, record=("iterate",), threads=1)
        assert np.array_equal(one["iterate"][:, 0], whole[:, i])


@pytest.mark.parametrize("name", ["shampoo", "dion", "random-scaling", "mkor", "normuon"])
def test_what_cannot_be_recorded_is_refused_with_the_reason(name):
    from orthotheory import trajectories

    problem, method = problems.make("quadratic", rows=6, columns=6), methods.make(name)
    assert not trajectories.serves(problem, method)
    with pytest.raises(ValueError, match="do not serve"):
        trajectories.run(problem, method, 1)


def test_another_value_of_a_hyper_parameter_needs_no_other_code():
    from orthotheory import trajectories
    from orthotheory.kernels import programs

    problem, method = make("muon", 9, 9, "float64", momentum=0.9)
    trajectories.run(problem, method, 1, record=("iterate", "value"))
    before = len(programs._CODE)
    mine, theirs = both(*make("muon", 9, 9, "float64", momentum=0.7))
    assert len(programs._CODE) == before
    close(mine["iterate"], theirs["iterate"], "float64")


@pytest.mark.parametrize("name", ENTRYWISE)
@pytest.mark.parametrize("shape", [(3, 5, 7), (2, 2, 4, 16), (4, 1, 1)], ids=str)
def test_a_fused_step_is_the_step_of_the_method(name, shape):
    from orthotheory.fused import Step

    rng = np.random.default_rng(0)
    w, grads = rng.standard_normal(shape), rng.standard_normal((4, *shape))
    method = methods.make(name)
    step, state = Step(method, w), method.init(w)
    for g in grads:
        mine = step(g)
        w, state = method.step(w, g, state)
        close(mine, w, "float64", 4)


@pytest.mark.parametrize("scale", [0.0, 1e-300, 1e300])
def test_fused_steps_keep_the_range_of_the_reference(scale):
    from orthotheory.fused import Step

    g = np.random.default_rng(0).standard_normal((5, 6, 4)) * scale
    for name in ("auon", "lion"):
        method = methods.make(name)
        close(Step(method, 0 * g)(g), method.step(0 * g, g, method.init(g))[0], "float64")


def test_the_hyperbolic_cosine_is_accurate_over_its_range():
    from orthotheory.kernels.programs import CompiledProgram
    from orthotheory.kernels.recording import Program

    for dtype, top in (("float32", 87.0), ("float64", 700.0)):
        x = np.linspace(-top, top, 4096).astype(dtype).reshape(1, 64, 64)
        program = Program(64, 64, np.dtype(dtype))
        w = program.matrix("w")
        program.output("w", w.__array_namespace__().cosh(w))
        code, y = CompiledProgram(program, flat=True), x.copy()
        code({"w": y}, code.pack_scalars({}, 1), 0, 1)
        truth = np.cosh(x.astype(np.longdouble))
        # r = |x| - k log 2 carries an error of eps at most, and e^r as much again
        assert np.max(np.abs(y - truth) / truth) <= 4 * np.finfo(dtype).eps


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("n", [3, 8, 16, 17, 33, 64, 70])
def test_tiles_multiply_matrices_of_any_size(n, dtype):
    from orthotheory.kernels.programs import CompiledProgram
    from orthotheory.kernels.recording import Program

    rng = np.random.default_rng(n)
    a = rng.standard_normal((n, n)).astype(dtype)
    a = a + a.T
    x = rng.standard_normal((3, n, n + 2)).astype(dtype)
    program = Program(n, n + 2, np.dtype(dtype))
    w = program.matrix("w")
    gram = w @ w.mT
    program.output("w", 0.5 * w + ((2.0 * gram) @ gram) @ (a @ w))
    code = CompiledProgram(program)
    packed = code.pack(x)
    code({"w": packed}, code.pack_scalars({}, 3), 0, 1)
    gram = x.astype(float) @ x.astype(float).swapaxes(1, 2)
    truth = 0.5 * x + 2 * gram @ gram @ a.astype(float) @ x
    size = np.linalg.norm(gram, axis=(1, 2)).max() ** 2 * np.linalg.norm(a) * np.linalg.norm(x, axis=(1, 2)).max()
    assert np.abs(code.unpack(packed, 3) - truth).max() <= 8 * n * np.finfo(dtype).eps * size
