"""The comparison: equal terms for every method, fresh seeds, honest divergence, intervals that cover, counted cost."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from orthotheory import loop, methods, problems
from orthotheory.comparison import (
    RULES,
    SMOKE,
    TASKS,
    NotComparable,
    Protocol,
    Task,
    compare,
    compare_all,
    cost,
    judge,
    participant,
    participants,
    standing,
    table,
    tuning,
    update_conditions,
)
from orthotheory.sweep import Sweep, execute, run_sweep, scheduler
from orthotheory.sweep.starts import starts

QUICK = Task("quick", {"name": "quadratic", "rows": 4, "columns": 3, "left_condition": 10.0}, steps=30)
SMALL = Protocol(per_decade=2, extensions=2, tuning_seeds=2, seeds=4)


def test_every_method_of_the_table_takes_part_or_says_why_not():
    taking_part, left_out = participants()
    assert sorted([*taking_part, *left_out]) == sorted(methods.names())
    assert {"gd", "adam", "muon", "polargrad", "auon", "lion"} <= set(taking_part)
    assert all(reason.startswith(name) for name, reason in left_out.items())


def test_a_method_takes_part_without_weight_decay_and_otherwise_at_its_defaults():
    ours, shipped = participant("muon-torch", 0.3), methods.make("muon-torch")
    assert (ours.lr, ours.weight_decay) == (0.3, 0.0)
    assert {**ours.config(), "lr": shipped.lr, "weight_decay": shipped.weight_decay} == shipped.config()


def test_a_method_whose_state_is_too_large_is_a_row_with_its_reason_and_is_not_run():
    assert "1025 numbers a weight" in participants(["m-fac"])[1]["m-fac"]
    outcome = compare("psgd-triangular", next(t for t in TASKS if t.label == "digits"), SMALL)
    assert np.isinf(outcome.final["budget"]).all()
    assert set(outcome.reasons) == {"not run: a state of 640 numbers a weight"}
    assert np.isfinite(compare("psgd-triangular", QUICK, SMALL).final["budget"]).all()


def test_a_method_without_a_learning_rate_is_left_out_by_name(monkeypatch):
    @dataclasses.dataclass(frozen=True)
    class Still(methods.Method):
        pass

    monkeypatch.setitem(methods.TABLE, "still", methods.Entry(Still))
    with pytest.raises(NotComparable, match="still has no learning rate"):
        participant("still", 1.0)
    assert "still" in participants()[1]


def test_the_chosen_rate_is_the_best_of_all_single_runs():
    """By running each rate alone and comparing the medians by hand."""
    outcome = compare("gd", QUICK, SMALL)
    problem = problems.make(**QUICK.problem)
    first = starts(problem, "generic", range(SMALL.tuning_seeds))
    medians = []
    for rate in outcome.rates:
        finals = []
        for w in first:
            trace = loop.run(problem, methods.make("gd", lr=float(rate)), QUICK.steps, every=2, start=w)
            complete = trace.stopped_by == "steps" and np.isfinite(trace["gap"]).all()
            tail = (trace["gap"] / trace["gap"][0])[trace.k > 0.8 * QUICK.steps]
            finals.append(max(tail.mean(), 1e-16) if complete else np.inf)
        medians.append(np.median(finals))
    np.testing.assert_allclose(outcome.tuned, medians, rtol=1e-10)
    assert outcome.chosen["budget"] == outcome.rates[int(np.argmin(medians))]


def test_a_comparison_in_a_folder_is_the_one_without_goes_on_where_it_was_and_computes_nothing_twice(tmp_path):
    noisy = dataclasses.replace(QUICK, label="noisy", problem={**QUICK.problem, "noise": {"name": "gaussian"}})
    whole = compare_all(["gd", "muon"], [QUICK, noisy], SMALL)
    assert set(whole) == {(m, t) for m in ("gd", "muon") for t in ("quick", "noisy")}
    computed = scheduler.run_chunk

    def dies(*arguments, **options):
        if len(list(tmp_path.glob("*.parquet"))) == 7:  # the first grid has four parts: killed in a later round
            raise KeyboardInterrupt
        return computed(*arguments, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(scheduler, "run_chunk", dies)
        with pytest.raises(KeyboardInterrupt):
            compare_all(["gd", "muon"], [QUICK, noisy], SMALL, folder=tmp_path)
    for again in range(2):
        with pytest.MonkeyPatch.context() as patch:
            if again:
                patch.setattr(scheduler, "run_chunk", lambda *a, **k: pytest.fail("computed again"))
            found = compare_all(["gd", "muon"], [QUICK, noisy], SMALL, folder=tmp_path)
        for key, outcome in whole.items():
            for rule in RULES:
                np.testing.assert_array_equal(found[key].final[rule], outcome.final[rule])
            np.testing.assert_array_equal(found[key].tuned, outcome.tuned)


def test_a_best_rate_at_the_edge_extends_the_grid_until_it_lies_inside():
    far = Protocol(per_decade=2, lowest=-5, highest=-4, extensions=6, tuning_seeds=2, seeds=2)
    outcome = compare("gd", QUICK, far)
    assert not outcome.at_edge["budget"]
    assert outcome.rates.max() > 1.0 > 1e-4
    assert outcome.rates.min() < outcome.chosen["budget"] < outcome.rates.max()


def test_a_best_rate_that_stays_at_the_edge_is_flagged():
    outcome = compare("gd", QUICK, Protocol(per_decade=2, lowest=-5, highest=-4, extensions=1, tuning_seeds=2, seeds=2))
    assert outcome.at_edge["budget"]
    assert outcome.chosen["budget"] == outcome.rates.max()


def test_reported_seeds_are_none_of_those_that_chose_the_rate(monkeypatch):
    seen = []
    original = execute.starts
    monkeypatch.setattr(execute, "starts", lambda p, e, seeds: seen.append(seeds) or original(p, e, seeds))
    compare("gd", QUICK, SMALL)
    *choosing, report = seen
    assert set(report).isdisjoint(set().union(*choosing))
    assert len(report) == SMALL.seeds


def test_every_method_meets_the_same_noise_and_starts(monkeypatch):
    noisy = dataclasses.replace(QUICK, problem={**QUICK.problem, "noise": {"name": "gaussian", "sigma": 0.1}}, steps=2)
    drawn = []
    original = problems.Gaussian.__call__

    def listen(self, problem, w, rng):
        noise = original(self, problem, w, rng)
        drawn.append(noise - problem.grad(w))
        return noise

    monkeypatch.setattr(problems.Gaussian, "__call__", listen)
    last = {}
    for name in ("gd", "sign"):
        drawn.clear()
        compare(name, noisy, dataclasses.replace(SMALL, extensions=0))
        last[name] = drawn[-1]
    # the same draws, up to the rounding of adding them to different gradients of size at most 100
    np.testing.assert_allclose(last["gd"], last["sign"], atol=1e-13)


def test_a_diverged_run_is_a_row_with_its_reason_and_never_wins():
    hot = Protocol(per_decade=1, lowest=-1, highest=8, extensions=0, tuning_seeds=2, seeds=2)
    outcome = compare("gd", dataclasses.replace(QUICK, steps=200, every=10), hot)
    rows = table([outcome])
    lost = rows[(rows["phase"] == "tuning") & (rows["diverged"] > 0)]
    assert len(lost) >= 5
    assert lost["reason"].str.match(r"non-finite at step \d+|ended above its start").all()
    assert (lost["reason"].str.startswith("non-finite")).any()
    assert (lost["lr"] > outcome.chosen["budget"]).all()
    assert len(rows) == len(outcome.rates) + 2 * hot.seeds


def test_a_method_that_raises_for_some_rates_loses_only_those(monkeypatch):
    @dataclasses.dataclass(frozen=True)
    class Fragile(methods.GradientDescent):
        def update(self, w, grad, state):
            if np.any(np.asarray(self.lr) > 5):
                raise np.linalg.LinAlgError("no factorization")
            return super().update(w, grad, state)

    monkeypatch.setitem(methods.TABLE, "fragile", methods.Entry(Fragile))
    fixed = dataclasses.replace(SMALL, extensions=0)
    fragile, whole = compare("fragile", QUICK, fixed), compare("gd", QUICK, fixed)
    assert np.isinf(fragile.tuned[fragile.rates > 5]).all()
    assert fragile.reasons[-1] == "LinAlgError: no factorization"
    np.testing.assert_allclose(fragile.tuned[fragile.rates < 5], whole.tuned[whole.rates < 5])
    assert fragile.chosen == whole.chosen


def judged(losses, reason=""):
    losses = np.asarray(losses, dtype=float)[:, None, None]
    return judge(np.arange(len(losses)), losses, np.array([[reason]], dtype=object), 0.1)


@pytest.mark.parametrize(
    ("losses", "steps"),
    [
        ([1, 0.5, 0.05, 0.04, 0.03], 2),  # reached and kept
        ([1, 0.05, 0.5, 0.05, 0.05], 3),  # left again: only the last stay counts
        ([1, 0.05, 0.05, 0.05, 0.5], np.inf),  # left at the end
        ([1, 0.9, 0.8, 0.7, 0.6], np.inf),
        ([1, np.nan, 0.01, 0.01, 0.01], 2),
    ],
)
def test_the_steps_to_a_level_are_those_after_which_the_run_stays_below(losses, steps):
    assert judged(losses)[1] == steps


def test_a_lost_run_reaches_nothing_even_where_its_records_look_well():
    final, steps, reasons = judged([1, 0.05, 0.05, 0.05, 0.05], "non-finite at step 4")
    assert np.isinf(final).all()
    assert np.isinf(steps).all()
    assert reasons.item() == "non-finite at step 4"


def test_no_level_is_reached_by_a_method_that_does_not_move(monkeypatch):
    @dataclasses.dataclass(frozen=True)
    class Stubborn(methods.GradientDescent):
        def update(self, w, grad, state):
            return w, state

    monkeypatch.setitem(methods.TABLE, "stubborn", methods.Entry(Stubborn))
    outcome = compare("stubborn", QUICK, dataclasses.replace(SMALL, extensions=1))
    assert np.isnan(outcome.chosen["level"])
    assert np.isinf(outcome.steps_to_level["level"]).all()
    np.testing.assert_allclose(outcome.final["budget"], 1.0)


def test_the_standing_ties_equal_methods_and_parts_different_ones():
    """Over 200 repetitions an equal method is called tied at least 90% of the time, one 0.5 decades behind never."""
    rng = np.random.default_rng(0)
    tied = np.zeros(3)
    for _ in range(200):
        shared = rng.standard_normal(20)
        logs = np.array([shared + 0.2 * rng.standard_normal(20) + shift for shift in (0.0, 0.0, 0.5)])
        tied += standing(10**logs).tied
    assert (tied[:2] >= 180).all()
    assert tied[2] == 0


def test_the_interval_of_the_standing_covers_the_mean():
    """The 95% Student interval of 20 normal values covers in 2000 repetitions 95% +- 1.5% (three deviations)."""
    logs = np.random.default_rng(1).standard_normal((2000, 20))
    found = standing(10**logs)
    assert np.mean(np.abs(found.mean) <= found.half_width) == pytest.approx(0.95, abs=0.015)


def test_a_method_that_lost_a_run_is_never_tied_and_disturbs_no_other():
    values = np.array([[1e-3, 2e-3, 1e-3], [1e-9, np.inf, 1e-9], [1e-1, 1e-1, 2e-1]])
    found, alone = standing(values), standing(values[[0, 2]])
    assert found.tied.tolist() == [True, False, False]
    assert np.isinf(found.behind[1])
    np.testing.assert_allclose(found.behind[[0, 2]], alone.behind)


def test_one_seed_gives_no_interval():
    with pytest.raises(ValueError, match="at least two"):
        standing(np.ones((3, 1)))


@pytest.mark.parametrize(
    ("name", "products", "factorizations"), [("gd", 0, 0), ("muon", 15, 0), ("polargrad", 1, 1), ("hybrid-auon", 3, 0)]
)
def test_the_counted_cost_of_a_step_is_that_of_its_formula(name, products, factorizations):
    """Muon: five steps of three products; PolarGrad: an SVD and the product of its factors."""
    found = cost(name)
    assert (found.products, found.factorizations) == (products, factorizations)
    assert found.total == pytest.approx(products + 11 * factorizations)


def test_the_update_of_a_scaling_keeps_the_condition_number_and_a_polar_factor_makes_it_one():
    # s_r is known to eps s_1 + eps |W|, divided by the step 1e-2 s_r = 1e-5: 3e-11 times a few
    np.testing.assert_allclose(update_conditions("heavy-ball", seeds=3), 1e3, rtol=1e-6)
    np.testing.assert_allclose(update_conditions("trust-region", seeds=3), 1.0, rtol=1e-6)
    assert np.isinf(update_conditions("dion2", seeds=3)).all()


@pytest.mark.parametrize("task", TASKS, ids=lambda t: t.label)
def test_each_problem_of_the_comparison_runs_and_gets_better(task):
    short = dataclasses.replace(task, steps=task.every * 3)
    outcome = compare("gd", short, dataclasses.replace(SMOKE, extensions=0))
    assert np.median(outcome.final["budget"]) < 1
    assert outcome.final["budget"].shape == (SMOKE.seeds,)


@pytest.mark.parametrize("error", ["generic", "commuting", "low-rank", "flat"])
def test_the_first_errors_have_the_singular_values_that_they_promise(error):
    problem = problems.make("quadratic", rows=6, columns=4, right_condition=3.0)
    w = starts(problem, error, range(3))
    s = np.linalg.svd(w - problem.optimum, compute_uv=False)
    rank = 1 if error == "low-rank" else 4
    assert ((s > 1e-10).sum(axis=1) == rank).all()
    assert error != "flat" or np.ptp(s) < 1e-12
    if error == "commuting":  # the gradient A E B then has the singular vectors of E
        e = w - problem.optimum
        np.testing.assert_allclose(problem.a @ e @ e.mT, (problem.a @ e @ e.mT).mT, atol=1e-12)
    assert not np.allclose(w[0], w[1])


# The network


def network(**options):
    return problems.make("network", samples=40, hidden=5, **options)


def test_the_gradient_of_the_network_is_the_central_difference_of_its_value():
    """Truncation h^2 f''' / 6 with h = 1e-5, third derivatives up to 100: below 2e-9; rounding eps / h = 2e-11."""
    problem, h = network(), 1e-5
    rng = np.random.default_rng(0)
    grads = problem.grad(problem.start)
    for block, (grad, w) in enumerate(zip(grads, problem.start, strict=True)):
        for _ in range(5):
            d = rng.standard_normal(w.shape)
            d /= np.linalg.norm(d)
            moved = [
                tuple(x + sign * h * d if i == block else x for i, x in enumerate(problem.start)) for sign in (1, -1)
            ]
            slope = (problem.value(moved[0]) - problem.value(moved[1])) / (2 * h)
            assert slope == pytest.approx(np.sum(grad * d), abs=4e-9)


def test_the_network_maps_over_batch_axes_and_its_minibatches_over_all_rows_are_the_gradient():
    problem = network()
    rng = np.random.default_rng(1)
    w = tuple(rng.standard_normal((2, 3, *x.shape)) for x in problem.start)
    every = np.broadcast_to(np.arange(problem.samples), (2, 3, problem.samples))
    for whole, rows in zip(problem.grad(w), problem.sample_grad(w, every), strict=True):
        np.testing.assert_allclose(rows, whole, rtol=1e-11, atol=1e-13)  # sums of 40 terms in another order
    one = tuple(x[1, 2] for x in w)
    assert problem.value(w)[1, 2] == pytest.approx(problem.value(one), rel=1e-12)
    assert problem.accuracy(w).shape == (2, 3)


def test_independent_minibatches_differ_between_the_runs_of_a_batch_and_shared_ones_do_not():
    for independent in (False, True):
        problem = network(noise={"name": "minibatch", "size": 4, "independent": independent})
        w = tuple(np.stack([x, x]) for x in problem.start)
        first, second = problem.noisy_grad(w, np.random.default_rng(0))[0]
        assert np.allclose(first, second) is not independent


def test_the_network_learns_the_digits():
    problem = problems.make("network", samples=300)
    trace = loop.run(problem, methods.make("adam", lr=0.03), 100, record=("value", "accuracy"), every=100)
    assert trace["accuracy"][-1] > 0.95 > 0.3 > trace["accuracy"][0]


def test_weights_that_do_not_fit_the_inputs_are_refused():
    with pytest.raises(ValueError, match=r"need weights \(m, hidden\)"):
        problems.TwoLayer(np.ones((3, 4)), np.zeros(3, dtype=int), (np.ones((5, 2)), np.ones((2, 3))))


def test_the_file_of_the_zoo_is_the_first_grid_of_the_protocol():
    file = Path(__file__).parents[2] / "figures" / "sweeps" / "zoo.toml"
    assert Sweep.read(file).groups() == tuning().groups()


def test_the_first_grid_as_a_sweep_gives_the_tuned_losses_of_the_protocol():
    """On one problem with noise and two methods: the medians over the tuning seeds, by the rule of the final loss."""
    task = dataclasses.replace(TASKS[7], steps=12)
    fixed = dataclasses.replace(SMALL, extensions=0)
    problem = {**task.problem, "start": task.error}
    grid = Sweep({task.label: problem}, {m: {"lr": list(fixed.rate(fixed.grid()))} for m in ("gd", "nesterov")},
                 steps=12, every=2, seeds=2)  # fmt: skip
    final = run_sweep(grid).to_pandas()
    for name in ("gd", "nesterov"):
        outcome = compare(name, task, fixed)
        for lr, tuned in zip(outcome.rates, outcome.tuned, strict=True):
            rows = final[(final["method"] == name) & (final["lr"] == lr)]
            ends = [r["loss"][r["k"] > 9.6].mean() / r["loss"].iloc[0] for _, r in rows.groupby("seed")]
            assert np.median(ends) == pytest.approx(tuned, rel=1e-12)
