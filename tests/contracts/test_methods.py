"""One contract for every method of the table, and each update against a straight-line NumPy re-implementation.

A file family_<name>.py beside this one says what the contract asks of its methods, in dictionaries by the name of the
method: EASY_LR, FIXED_RADIUS, PROPORTIONAL, OTHER_SCALE, ROTATION_EQUIVARIANT, REFERENCES (by label), and where needed
EASY_PROBLEM, EASY_HYPER, STILL (hyper-parameters under which a zero gradient moves nothing) and DECAY_FACTOR.
"""

import dataclasses
import functools
import importlib
import math
import re
from pathlib import Path

import numpy as np
import pytest
from conftest import eps_of, hard_matrices, rotation

from orthotheory import methods, norms, problems, run
from orthotheory.arrays import device_of, dtype_name, to_host
from orthotheory.methods import (
    SHAPE_FACTORS,
    Adam,
    AuON,
    DualScaled,
    GradientDescent,
    HeavyBall,
    HybridAuON,
    Lion,
    LionK,
    Muon,
    Nesterov,
    NormalizedGD,
    PolarGrad,
    SignDescent,
    Signum,
    TrustRegion,
)
from orthotheory.methods.contract import RANGES
from orthotheory.names import UnknownName

BIBLIOGRAPHY = (Path(__file__).parents[2] / "paper" / "references.bib").read_text(encoding="utf-8")

FAMILIES = [importlib.import_module(path.stem) for path in sorted(Path(__file__).parent.glob("family_*.py"))]


def with_families(what, own=None):
    """The dictionary of this file and those of the families, which must not overlap."""
    whole = dict(own or {})
    for family in FAMILIES:
        for key, value in getattr(family, what, {}).items():
            assert key not in whole, f"{what} has {key!r} twice"
            whole[key] = value
    return whole


STILL = with_families("STILL")  # hyper-parameters without which a zero gradient moves the weights
each_name = pytest.mark.parametrize("name", methods.names())


def hyper_parameters(name):
    """The numeric hyper-parameters of a name with the values that it gets."""
    return {k: v for k, v in methods.make(name).config().items() if k in RANGES and v is not None}


def without_decay(name, **hyper):
    """The method with weight decay switched off where it has one."""
    decay = {"weight_decay": 0.0} if "weight_decay" in hyper_parameters(name) else {}
    return methods.make(name, **{**decay, **STILL.get(name, {}), **hyper})


def random_problem(shape=(5, 4), steps=3, seed=0):
    """Weights and a sequence of gradients."""
    rng = np.random.default_rng(seed)
    return rng.standard_normal(shape), [rng.standard_normal(shape) for _ in range(steps)]


def iterate(method, w, grads, xp=None):
    """Take a step a gradient and return the last weights on the host."""
    if xp is not None:
        w, grads = xp.asarray(w), [xp.asarray(g) for g in grads]
    state = method.init(w)
    for g in grads:
        w, state = method.step(w, g, state)
    return to_host(w)


def arrays_of(state):
    """All arrays of a state, of nested ones too."""
    parts = [x for x in state if hasattr(x, "shape") or isinstance(x, tuple)]
    return [a for x in parts for a in ((x,) if hasattr(x, "shape") else arrays_of(x))]


# The contract


@each_name
@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("shape", [(5, 4), (1, 6), (6, 1), (1, 1), (3, 2, 4, 3), (0, 4, 3)], ids=str)
def test_shape_dtype_and_device_are_kept_by_weights_and_state(name, dtype, shape, xp):
    method = methods.make(name)
    w, (g, h) = random_problem(shape, 2)
    w, g, h = (xp.asarray(x, dtype=dtype) for x in (w, g, h))
    state = method.init(w)
    for grad in (g, h):
        w, state = method.step(w, grad, state)
        assert w.shape == shape
        for array in (w, *arrays_of(state)):
            assert array.shape[:-2] == shape[:-2]
            assert dtype_name(array) == dtype
            assert device_of(array) == xp.device
        assert np.all(np.isfinite(to_host(w)))


@each_name
def test_a_numpy_number_as_hyper_parameter_casts_nothing(name):
    hyper = {k: np.float64(v) for k, v in hyper_parameters(name).items()}
    method = methods.make(name, **hyper)
    w, grads = random_problem()
    w32, grads32 = w.astype(np.float32), [g.astype(np.float32) for g in grads]
    plain = iterate(methods.make(name), w32, grads32)
    numbered = iterate(method, w32, grads32)
    assert numbered.dtype == np.float32
    np.testing.assert_array_equal(numbered, plain)


def check_batch(name, hyper, xp):
    """Run three members at once with array hyper-parameters and one by one with numbers."""
    w, grads = random_problem((3, 5, 4))
    together = iterate(methods.make(name, **{k: xp.asarray(v) for k, v in hyper.items()}), w, grads, xp)
    for i in range(3):
        alone = iterate(
            methods.make(name, **{k: float(v[i]) for k, v in hyper.items()}), w[i], [g[i] for g in grads], xp
        )
        # The same operations in the same order; reductions over other strides may round differently, and the
        # polynomials amplify by at most 485 (Muon) in each of three steps: 3 * 485 * 20 eps < 1e-11.
        np.testing.assert_allclose(together[i], alone, rtol=0, atol=1e-11)


@each_name
def test_a_batch_with_an_array_of_learning_rates_is_its_members_one_by_one(name, xp):
    check_batch(name, {"lr": methods.make(name).lr * np.array([0.5, 1.0, 3.0])}, xp)


@each_name
def test_every_hyper_parameter_may_be_an_array_over_the_batch(name, xp):
    check_batch(name, {k: v * np.array([0.3, 0.8, 1.0]) for k, v in hyper_parameters(name).items()}, xp)


@each_name
def test_a_learning_rate_with_two_batch_axes_broadcasts_over_one_gradient_each(name):
    w, grads = random_problem((2, 3, 4, 4), 2)
    lr = methods.make(name).lr * np.array([[0.5], [2.0]])  # (2, 1): one per first batch axis
    together = iterate(methods.make(name, lr=lr), w, grads)
    alone = iterate(methods.make(name, lr=float(lr[1, 0])), w[1, 2], [g[1, 2] for g in grads])
    np.testing.assert_allclose(together[1, 2], alone, rtol=0, atol=1e-11)  # as in check_batch


@each_name
@pytest.mark.parametrize(
    ("lr", "error", "message"),
    [
        (np.ones(2), ValueError, r"shape \(2,\) does not broadcast over the batch axes \(3,\)"),
        (np.ones(3, dtype=np.float32), TypeError, "dtype float32 and the matrices float64"),
    ],
    ids=["shape", "dtype"],
)
def test_an_array_of_learning_rates_that_does_not_fit_is_refused(name, lr, error, message):
    w, grads = random_problem((3, 5, 4))
    with pytest.raises(error, match=message):
        iterate(methods.make(name, lr=lr), w, grads)


@each_name
def test_a_zero_gradient_moves_nothing_without_decay(name, xp):
    w, _ = random_problem()
    after = iterate(without_decay(name), w, [np.zeros_like(w)] * 3, xp)
    np.testing.assert_array_equal(after, w)


@each_name
def test_a_zero_gradient_after_others_keeps_everything_finite(name, xp):
    w, grads = random_problem()
    grads[1:] = [np.zeros_like(w)] * 30
    assert np.all(np.isfinite(iterate(methods.make(name), w, grads, xp)))


DECAY_FACTOR = with_families("DECAY_FACTOR")  # of two zero gradients at lr 1/4, weight_decay 1/2, where it differs


@each_name
def test_decay_is_decoupled_a_zero_gradient_only_shrinks_the_weights(name):
    if "weight_decay" not in hyper_parameters(name):
        assert "weight_decay" not in {f.name for f in dataclasses.fields(methods.make(name))}
        return
    if isinstance(methods.make(name), AuON | HybridAuON) and methods.make(name).variant == "paper":
        with pytest.raises(ValueError, match=r"\(variant='paper'\) has no weight decay; use variant='package'"):
            methods.make(name, weight_decay=0.1)
        return
    w, _ = random_problem()
    after = iterate(methods.make(name, lr=0.25, weight_decay=0.5), w, [np.zeros_like(w)] * 2)
    factor = DECAY_FACTOR.get(name, (1 - 0.125) ** 2)
    np.testing.assert_allclose(after, factor * w, rtol=4 * eps_of(w))  # four roundings


@each_name
@pytest.mark.parametrize("label", ["rank one", "ill-conditioned", "one zero row", "tiny", "huge"])
def test_hard_gradients_give_finite_weights(name, label):
    # "huge" is 1e150: its square, which Adam and the trace of a Gramian take, is still in range.
    g = hard_matrices()[label]
    w = random_problem(g.shape)[0]
    assert np.all(np.isfinite(iterate(methods.make(name), w, [g, -g, g])))


@each_name
def test_nothing_is_changed_in_place(name):
    method = methods.make(name)
    w, grads = random_problem()
    state = method.init(w)
    for g in grads:
        before = [x.copy() for x in (w, g, *arrays_of(state))]
        frozen = (w, g, *arrays_of(state))
        for array in frozen:
            array.flags.writeable = False  # a write would raise
        w_next, state_next = method.step(w, g, state)
        for old, now in zip(before, frozen, strict=True):
            np.testing.assert_array_equal(now, old)
        w, state = w_next.copy(), state_next


@each_name
def test_the_same_step_taken_twice_gives_the_same_result(name):
    method = methods.make(name)
    w, grads = random_problem()
    np.testing.assert_array_equal(iterate(method, w, grads), iterate(method, w, grads))


@each_name
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_gradient_that_is_not_finite_leaves_its_neighbors_untouched(name, bad, xp):
    w, grads = random_problem((3, 5, 4))
    clean = iterate(methods.make(name), w, grads, xp)
    grads[1] = grads[1].copy()
    grads[1][1, 2, 3] = bad
    with np.errstate(invalid="ignore", over="ignore"):  # as the loop does
        dirty = iterate(methods.make(name), w, grads, xp)
    np.testing.assert_array_equal(dirty[[0, 2]], clean[[0, 2]])


# lr that suits a quadratic of curvature 1/3 to 1 in 4 x 3, an error of length about 2, and 400 steps. Fixed-radius
# methods must cross the distance, lr * 400 > 2, and hover at about L lr^2 / 2; the others descend for lr < 1 / L.
EASY_LR = {
    "gd": 1.0,
    "heavy-ball": 0.1,
    "nesterov": 0.3,
    "adam": 0.02,
    "normalized-gd": 0.02,
    "sign": 0.01,
    "signum": 0.01,
    "trust-region": 0.01,
    "dual-scaled": 0.3,
    "polargrad": 0.1,
    "muon": 0.01,
    "muon-torch": 0.01,
    "muon-moonlight": 0.03,  # shape factor 0.2 sqrt(4)
    "auon": 0.02,
    "auon-package": 0.3,
    "hybrid-auon": 0.02,
    "hybrid-auon-package": 0.02,
    "lion": 0.01,
    "lion-k": 0.01,
}
EASY_LR = with_families("EASY_LR", EASY_LR)
EASY_HYPER, EASY_PROBLEM = with_families("EASY_HYPER"), with_families("EASY_PROBLEM")


def easy_case(name):
    """A problem, and the method with a learning rate that suits it."""
    problem = EASY_PROBLEM.get(name) or problems.quadratic(rows=4, columns=3, left_condition=3.0, seed=1)
    return problem, without_decay(name, lr=EASY_LR[name], **EASY_HYPER.get(name, {}))


@each_name
def test_it_converges_on_an_easy_quadratic(name):
    problem, method = easy_case(name)
    trace = run(problem, method, 400, record=("gap",))
    assert trace["gap"][-1] < 0.01 * trace["gap"][0]


@each_name
def test_a_step_against_the_gradient_would_not_converge(name):
    """The negative control of the convergence test: the same steps up the hill."""
    problem, method = easy_case(name)
    w, state = problem.start, method.init(problem.start)
    for _ in range(40):
        w, state = method.step(w, -problem.grad(w), state)
    assert problem.value(w) > problem.value(problem.start)


@each_name
@pytest.mark.parametrize(
    ("parameter", "bad"),
    [
        ("lr", -0.1),
        ("lr", 0.0),
        ("lr", float("nan")),
        ("lr", float("inf")),
        ("lr", np.array([0.1, -1.0])),
        ("momentum", 1.0),
        ("momentum", -0.1),
        ("momentum", float("nan")),
        ("beta1", 1.0),
        ("beta2", 1.0),
        ("beta2", float("nan")),
        ("eps", -1e-8),
        ("weight_decay", -0.1),
        ("weight_decay", float("inf")),
    ],
    ids=lambda value: str(value).replace(" ", ""),
)
def test_a_bad_hyper_parameter_is_refused_by_name(name, parameter, bad):
    if parameter not in hyper_parameters(name):
        with pytest.raises(UnknownName, match=f"{name} has no option '{parameter}'; "):
            methods.make(name, **{parameter: bad})
        return
    who = methods.TABLE[name].method.__name__
    with pytest.raises(ValueError, match=rf"{who}\.{parameter} must lie in [\[(]0, "):
        methods.make(name, **{parameter: bad})


@each_name
def test_the_card_is_complete_and_its_source_is_in_the_bibliography(name):
    card = methods.make(name).card
    assert card.title
    assert card.geometry
    assert card.status in ("exact", "published", "reconstructed")
    assert isinstance(methods.make(name).norm, norms.Norm)
    if card.source == "classical":
        assert not card.arxiv
        return
    entry = re.search(rf"@\w+\{{{card.source},.*?\n\}}", BIBLIOGRAPHY, re.DOTALL)
    assert entry, f"{card.source} is not in references.bib"
    if card.arxiv:
        assert re.fullmatch(r"\d{4}\.\d{4,5}", card.arxiv)
        assert card.arxiv in entry.group()


@each_name
def test_a_method_is_frozen_and_its_configuration_builds_it_again(name):
    method = methods.make(name)
    with pytest.raises(dataclasses.FrozenInstanceError):
        method.lr = 1.0
    assert type(method)(**method.config()) == method
    assert methods.make(name, lr=0.125).lr == 0.125


@each_name
@pytest.mark.parametrize(
    ("w", "grad", "error", "message"),
    [
        (np.zeros(7), np.zeros(7), ValueError, r"needs a matrix, shape \(\.\.\., m, n\); got shape \(7,\)"),
        (np.zeros((2, 3)), np.zeros((3, 2)), ValueError, r"one shape and dtype; got \(2, 3\) float64 and \(3, 2\)"),
        (np.zeros((2, 3)), np.zeros((2, 3), np.float32), ValueError, "one shape and dtype; .*float64.*float32"),
        (np.zeros((2, 3), int), np.zeros((2, 3), int), TypeError, "needs float32, float64; got int64"),
    ],
    ids=["vector", "shapes", "dtypes", "integers"],
)
def test_weights_and_gradients_that_do_not_fit_are_refused(name, w, grad, error, message):
    method = methods.make(name)
    with pytest.raises(error, match=message):
        method.step(w, grad, method.init(np.zeros((2, 3))))


def test_a_misspelt_name_or_option_lists_the_nearest():
    with pytest.raises(UnknownName, match="Unknown method 'lyon'; did you mean 'lion'"):
        methods.make("lyon")
    with pytest.raises(UnknownName, match="muon has no option 'momentm'; did you mean 'momentum'"):
        methods.make("muon", momentm=0.9)
    with pytest.raises(UnknownName, match="Unknown Muon variant 'jordn'; did you mean 'jordan'"):
        Muon(variant="jordn")
    with pytest.raises(UnknownName, match="Unknown shape factor 'aspct'; did you mean 'aspect'"):
        Muon(shape_factor="aspct")
    with pytest.raises(UnknownName, match="Unknown AuON variant 'papper'; did you mean 'paper'"):
        AuON(variant="papper")
    with pytest.raises(UnknownName, match="Unknown PolarGrad variant 'momentum'; did you mean 'momentum-first'"):
        PolarGrad(variant="momentum")
    with pytest.raises(UnknownName, match="Unknown norm 'spectrl'; did you mean 'spectral'"):
        TrustRegion(norm="spectrl")
    with pytest.raises(TypeError, match=r"norm must be a norm or the name of one \(spectral, .*\); got 2"):
        DualScaled(norm=2)
    with pytest.raises(ValueError, match="ns_steps must be at least 1; got 0"):
        HybridAuON(ns_steps=0)


def test_presets_of_a_name_give_way_to_what_is_passed():
    assert methods.make("muon-torch") == Muon(variant="torch", lr=1e-3, weight_decay=0.1)
    assert methods.make("muon-moonlight", lr=0.5) == Muon(variant="moonlight", lr=0.5, weight_decay=0.1)
    assert methods.make("auon-package") == AuON(variant="package", lr=0.24)
    assert methods.make("hybrid-auon-package") == HybridAuON(variant="package", lr=0.24)
    assert methods.make("trust-region", norm="nuclear").norm == norms.Nuclear()


@pytest.mark.parametrize("method", [AuON, HybridAuON])
def test_the_papers_auon_has_no_weight_decay_as_a_number_or_an_array(method):
    for decay in (0.1, np.float32(0.1), np.array([0.0, 0.1])):
        with pytest.raises(ValueError, match=f"{method.__name__}\\(variant='paper'\\) has no weight decay"):
            method(weight_decay=decay)
        assert method(variant="package", weight_decay=decay)


# Invariances. A step is what is added to the weights, without decay.


def steps_of(method, w, grads):
    """The displacement of every step."""
    state, steps = method.init(w), []
    for g in grads:
        following, state = method.step(w, g, state)
        steps.append(following - w)
        w = following
    return np.array(steps)


# What the scale of all gradients does to the steps. Muon and Hybrid-AuON take the plan without an epsilon where they
# can; the epsilons 1e-7 and 1e-8 that remain act on Frobenius norms of about 0.1 and more: a relative 1e-6.
FIXED_RADIUS = {
    "normalized-gd": ({}, 1e-12),
    "sign": ({}, 1e-12),
    "signum": ({}, 1e-12),
    "lion": ({}, 1e-12),
    "lion-k": ({}, 1e-12),
    "trust-region": ({"momentum": 0.5}, 1e-12),
    "muon": ({"plan": "exact"}, 1e-12),
    "muon-torch": ({}, 1e-12),  # its clamp at 1e-7 does not act
    "muon-moonlight": ({"plan": "polar-express"}, 1e-12),
    "adam": ({"eps": 0.0}, 1e-12),
    "auon": ({}, 2e-6),
    "hybrid-auon": ({}, 2e-6),
    "hybrid-auon-package": ({}, 2e-6),
}
PROPORTIONAL = {
    "gd": ({}, 1e-12),
    "heavy-ball": ({}, 1e-12),
    "nesterov": ({}, 1e-12),
    "dual-scaled": ({"momentum": 0.5}, 1e-12),
    "polargrad": ({}, 1e-12),
    "auon-package": ({}, 2e-6),
}
FIXED_RADIUS = with_families("FIXED_RADIUS", FIXED_RADIUS)
PROPORTIONAL = with_families("PROPORTIONAL", PROPORTIONAL)
OTHER_SCALE = with_families("OTHER_SCALE")  # by name: hyper-parameters that show it


def test_every_method_says_what_the_scale_of_the_gradient_does():
    said = [*FIXED_RADIUS, *PROPORTIONAL, *OTHER_SCALE]
    assert sorted(said) == sorted(methods.names())


@pytest.mark.parametrize("name", OTHER_SCALE)
def test_the_scale_of_the_gradient_changes_the_steps_of_the_rest_out_of_proportion(name):
    w, grads = random_problem(steps=4)
    method = without_decay(name, **OTHER_SCALE[name])
    steps, scaled = steps_of(method, w, grads), steps_of(method, w, [1000 * g for g in grads])
    for factor in (1.0, 1000.0):
        assert np.abs(scaled - factor * steps).max() > 1e-3 * factor * np.abs(steps).max()


@pytest.mark.parametrize("name", FIXED_RADIUS)
@pytest.mark.parametrize("factor", [1000.0, 0.3])
def test_the_scale_of_the_gradient_changes_no_step_of_a_fixed_radius(name, factor):
    hyper, tolerance = FIXED_RADIUS[name]
    w, grads = random_problem(steps=4)
    method = without_decay(name, **hyper)
    steps, scaled = steps_of(method, w, grads), steps_of(method, w, [factor * g for g in grads])
    # 1e-12: a factor that is no power of two rounds the gradients, amplified by at most 7000 (Polar Express)
    np.testing.assert_allclose(scaled, steps, atol=tolerance * np.abs(steps).max())


@pytest.mark.parametrize("name", PROPORTIONAL)
@pytest.mark.parametrize("factor", [1000.0, 0.3])
def test_the_steps_of_the_other_methods_are_proportional_to_the_gradient(name, factor):
    hyper, tolerance = PROPORTIONAL[name]
    w, grads = random_problem(steps=4)
    method = without_decay(name, **hyper)
    steps, scaled = steps_of(method, w, grads), steps_of(method, w, [factor * g for g in grads])
    np.testing.assert_allclose(scaled, factor * steps, atol=tolerance * factor * np.abs(steps).max())
    assert np.abs(scaled - steps).max() > 0.5 * np.abs(steps).max()  # so they are not scale invariant


ROTATION_EQUIVARIANT = {
    "gd": {},
    "heavy-ball": {},
    "nesterov": {},
    "normalized-gd": {},
    "trust-region": {"momentum": 0.5},
    "dual-scaled": {"momentum": 0.5},
    "polargrad": {},
    "muon": {"plan": "exact"},
    "muon-torch": {},
    "muon-moonlight": {},
    "lion-k": {},  # of the nuclear norm
}
ROTATION_EQUIVARIANT = with_families("ROTATION_EQUIVARIANT", ROTATION_EQUIVARIANT)
NOT_EQUIVARIANT_HYPER = with_families("NOT_EQUIVARIANT_HYPER")  # that show it, where the defaults do not on 2 x 2
NOT_ROTATION_EQUIVARIANT = [name for name in methods.names() if name not in ROTATION_EQUIVARIANT]


def rotated_steps(name, hyper, shape=(5, 4)):
    """The steps turned by rotations from both sides, and the steps of the turned problem."""
    w, grads = random_problem(shape, steps=4)
    rng = np.random.default_rng(9)
    q, r = rotation(shape[0], rng), rotation(shape[1], rng)
    method = without_decay(name, **hyper)
    return q @ steps_of(method, w, grads) @ r, steps_of(method, q @ w @ r, [q @ g @ r for g in grads])


@pytest.mark.parametrize("name", ROTATION_EQUIVARIANT)
def test_rotations_from_left_and_right_turn_the_steps_along(name):
    turned, steps = rotated_steps(name, ROTATION_EQUIVARIANT[name])
    # roundings of the rotations, 20 eps, amplified by at most 485 (Muon's polynomial) or the condition (below 100)
    np.testing.assert_allclose(steps, turned, atol=485 * 20 * eps_of(steps) * np.abs(turned).max())


@pytest.mark.parametrize("name", NOT_ROTATION_EQUIVARIANT)
def test_entrywise_methods_do_not_turn_with_rotations(name):
    # AuON's cosh sees entries, to O(1 / N) only: a 2 x 2 problem shows it.
    turned, steps = rotated_steps(name, NOT_EQUIVARIANT_HYPER.get(name, {}), (2, 2))
    assert np.abs(steps - turned).max() > 1e-3 * np.abs(turned).max()


@pytest.mark.parametrize("name", ["row-max", "column-max", "max-entry"])
def test_a_trust_region_in_an_entry_row_or_column_norm_does_not_turn_with_rotations(name):
    turned, steps = rotated_steps("trust-region", {"norm": name})
    assert np.abs(steps - turned).max() > 0.1 * np.abs(turned).max()


@pytest.mark.parametrize("norm", ["spectral", "nuclear", "max-entry", "row-max", "column-sum", "rms-to-rms"])
def test_a_trust_region_step_has_length_lr_and_a_dual_scaled_one_lr_times_the_dual(norm):
    w, (g,) = random_problem(steps=1)
    region, scaled = TrustRegion(norm, lr=0.3), DualScaled(norm, lr=0.3)
    (step,), (sharp,) = steps_of(region, w, [g]), steps_of(scaled, w, [g])
    # the step is a difference of weights of size 3: their roundings, of 20 entries, over a step of 0.3 / 20 an entry
    tolerance = 20 * 20 * 3 / 0.3 * eps_of(w)
    np.testing.assert_allclose(region.norm.value(step), 0.3, rtol=tolerance)
    np.testing.assert_allclose(scaled.norm.value(sharp), 0.3 * scaled.norm.dual(g), rtol=tolerance)
    np.testing.assert_allclose((g * step).sum(), -0.3 * region.norm.dual(g), rtol=tolerance)


# One method is another


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (TrustRegion("max-entry", lr=0.1, weight_decay=0.2), SignDescent(lr=0.1, weight_decay=0.2)),
        (TrustRegion("frobenius", lr=0.1, weight_decay=0.2), NormalizedGD(lr=0.1, weight_decay=0.2)),
        (
            TrustRegion("spectral", lr=0.1, weight_decay=0.2),
            Muon(lr=0.1, momentum=0.0, plan="exact", shape_factor="none", weight_decay=0.2),
        ),
        (
            TrustRegion("rms-to-rms", lr=0.1),
            Muon(lr=0.1, momentum=0.0, plan="exact", shape_factor="aspect"),
        ),
        (DualScaled("spectral", lr=0.1, weight_decay=0.2), PolarGrad(lr=0.1, momentum=0.0, weight_decay=0.2)),
        (DualScaled("frobenius", lr=0.1, weight_decay=0.2), GradientDescent(lr=0.1, weight_decay=0.2)),
        (PolarGrad(momentum=0.0), PolarGrad(momentum=0.0, variant="polar-first")),
        (HeavyBall(lr=0.1, momentum=0.0), GradientDescent(lr=0.1)),
        (Nesterov(lr=0.1, momentum=0.0), GradientDescent(lr=0.1)),
        (Signum(lr=0.1, momentum=0.0), SignDescent(lr=0.1)),
        (Lion(lr=0.1, beta1=0.7, beta2=0.7), Signum(lr=0.1, momentum=0.7)),
        (Adam(lr=0.1, beta1=0.0, beta2=0.0, eps=0.0), SignDescent(lr=0.1)),
        (
            Muon(plan="exact", shape_factor="none"),
            Muon(variant="moonlight", plan="exact", shape_factor="none"),
        ),
    ],
    ids=[
        "trust region in the max-entry norm is sign descent",
        "trust region in the frobenius norm is normalized gd",
        "trust region in the spectral norm is exact muon without momentum",
        "trust region in rms to rms is exact muon with the aspect factor",
        "dual scaled in the spectral norm is polargrad without momentum",
        "dual scaled in the frobenius norm is gd",
        "polargrad without momentum has one variant",
        "heavy ball without momentum is gd",
        "nesterov without momentum is gd",
        "signum without momentum is sign descent",
        "lion with one beta is signum",
        "adam without averages is sign descent",
        "ema and heavy ball give muon one direction",
    ],
)
def test_one_method_is_another(one, other):
    w, grads = random_problem(steps=6)
    # equal but for the order of a few products: 6 steps, condition of the gradients below 100
    np.testing.assert_allclose(iterate(one, w, grads), iterate(other, w, grads), rtol=0, atol=6 * 100 * 20 * eps_of(w))


def test_the_first_trust_region_average_is_the_first_gradient():
    w, grads = random_problem(steps=1)
    np.testing.assert_array_equal(
        iterate(TrustRegion("frobenius", momentum=0.9), w, grads), iterate(TrustRegion("frobenius"), w, grads)
    )


# Straight-line re-implementations, in NumPy alone


def newton_schulz(m, steps, rule="add"):
    """Muon's quintic as its repository runs it: transpose, normalize with epsilon, iterate, transpose back."""
    a, b, c = 3.4445, -4.7750, 2.0315
    x = m.T if m.shape[0] > m.shape[1] else m
    norm = np.sqrt((x**2).sum())
    x = x / (norm + 1e-7 if rule == "add" else max(norm, 1e-7))
    for _ in range(steps):
        gram = x @ x.T
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x.T if m.shape[0] > m.shape[1] else x


def svd_polar(m):
    u, _, vh = np.linalg.svd(m, full_matrices=False)
    return u @ vh


def gd(w, grads, lr, wd=0.0):
    for g in grads:
        w = (1 - lr * wd) * w - lr * g
    return w


def heavy_ball(w, grads, lr, beta, wd=0.0):
    m = 0
    for g in grads:
        m = beta * m + g
        w = (1 - lr * wd) * w - lr * m
    return w


def nesterov(w, grads, lr, beta):
    """Sutskever's form, v <- beta v - lr g at the look-ahead point, rewritten for the point where g is taken."""
    x, y = w, w
    for g in grads:
        x_next = y - lr * g
        y = x_next + beta * (x_next - x)
        x = x_next
    return y


def normalized(w, grads, lr, wd=0.0):
    for g in grads:
        w = (1 - lr * wd) * w - lr * g / np.sqrt((g**2).sum())
    return w


def signum(w, grads, lr, beta, wd=0.0):
    m = 0
    for g in grads:
        m = beta * m + (1 - beta) * g
        w = (1 - lr * wd) * w - lr * np.sign(m)
    return w


def lion(w, grads, lr, beta1, beta2, wd):
    m = np.zeros_like(w)
    for g in grads:
        c = beta1 * m + (1 - beta1) * g
        w = w - lr * (np.sign(c) + wd * w)
        m = beta2 * m + (1 - beta2) * g
    return w


def lion_nuclear(w, grads, lr, beta1, beta2, wd):
    m = np.zeros_like(w)
    for g in grads:
        w = w - lr * (svd_polar(beta1 * m + (1 - beta1) * g) + wd * w)
        m = beta2 * m + (1 - beta2) * g
    return w


def adam(w, grads, lr, beta1, beta2, eps, wd):
    m = v = np.zeros_like(w)
    for t, g in enumerate(grads, start=1):
        m = beta1 * m + (1 - beta1) * g
        v = beta2 * v + (1 - beta2) * g**2
        w = w - lr * wd * w
        w = w - lr * (m / (1 - beta1**t)) / (np.sqrt(v / (1 - beta2**t)) + eps)
    return w


def muon(w, grads, lr, beta, wd, *, accumulate, look_ahead=True, orthogonalize, factor):
    m = np.zeros_like(w)
    for g in grads:
        new = (1 - beta) * g if accumulate == "average" else g
        m = beta * m + new
        d = beta * m + new if look_ahead else m
        w = (1 - lr * wd) * w - lr * factor(*w.shape) * orthogonalize(d)
    return w


def auon(w, grads, lr, beta, *, package, wd=0.0):
    m = np.zeros_like(w)
    rows, columns = w.shape
    for g in grads:
        m = beta * m + (1 - beta) * g
        d = (1 - beta) * g + beta * m
        x = d / (np.sqrt((d**2).sum()) + 1e-7)
        if package:
            r = np.sqrt(np.mean(np.cosh(1.5 * x) ** 2))
            w = (1 - lr * wd) * w - lr * d / (r + 1e-8)
        else:
            r = np.sqrt(np.mean(np.cosh(x) ** 2))
            w = w - lr * math.sqrt(max(1, rows / columns)) * x / (r + 1e-8)
    return w


def hybrid_auon(w, grads, lr, beta, *, package, wd=0.0):
    m = np.zeros_like(w)
    for g in grads:
        m = beta * m + (1 - beta) * g
        d = (1 - beta) * g + beta * m
        if package:
            x = newton_schulz(d, 5)
            unit = x / (np.sqrt((x**2).sum()) + 1e-7)
            u = x / (np.sqrt(np.mean(np.cosh(1.5 * unit) ** 2)) + 1e-8)
        else:
            x = newton_schulz(d, 1)
            u = x / (np.mean(np.cosh(x) ** 2) + 1e-8)
        w = (1 - lr * wd) * w - lr * u
    return w


def polargrad(w, grads, lr, beta, wd, *, polar_first):
    m = np.zeros_like(w)
    for g in grads:
        if polar_first:
            u = svd_polar(g)
            nu = (g * u).sum()
            m = beta * m + (1 - beta) * u
            w = (1 - lr * wd) * w - lr * nu * m
        else:
            m = beta * m + (1 - beta) * g
            u = svd_polar(m)
            w = (1 - lr * wd) * w - lr * (m * u).sum() * u
    return w


def trust_region(w, grads, lr, beta, wd, *, scaled):
    m = grads[0]
    for k, g in enumerate(grads):
        m = m if k == 0 else beta * m + (1 - beta) * g
        u, s, vh = np.linalg.svd(m, full_matrices=False)
        w = (1 - lr * wd) * w - lr * (s.sum() if scaled else 1.0) * u @ vh
    return w


def max_aspect(m, n):
    return math.sqrt(max(1.0, m / n))


def match_rms(m, n):
    return 0.2 * math.sqrt(max(m, n))


ns5, ns5_torch = functools.partial(newton_schulz, steps=5), functools.partial(newton_schulz, steps=5, rule="clamp")
REFERENCES = {
    "gd": (GradientDescent(lr=0.1, weight_decay=0.3), lambda w, g: gd(w, g, 0.1, 0.3)),
    "heavy ball": (HeavyBall(lr=0.1, momentum=0.8), lambda w, g: heavy_ball(w, g, 0.1, 0.8)),
    "heavy ball with decay": (
        HeavyBall(lr=0.1, momentum=0.8, weight_decay=0.3),
        lambda w, g: heavy_ball(w, g, 0.1, 0.8, 0.3),
    ),
    "nesterov": (Nesterov(lr=0.1, momentum=0.8), lambda w, g: nesterov(w, g, 0.1, 0.8)),
    "normalized gd": (NormalizedGD(lr=0.1, weight_decay=0.3), lambda w, g: normalized(w, g, 0.1, 0.3)),
    "sign descent": (SignDescent(lr=0.1, weight_decay=0.3), lambda w, g: signum(w, g, 0.1, 0.0, 0.3)),
    "signum": (Signum(lr=0.1, momentum=0.8, weight_decay=0.3), lambda w, g: signum(w, g, 0.1, 0.8, 0.3)),
    "lion": (
        Lion(lr=0.1, beta1=0.9, beta2=0.95, weight_decay=0.3),
        lambda w, g: lion(w, g, 0.1, 0.9, 0.95, 0.3),
    ),
    "lion with its defaults": (Lion(), lambda w, g: lion(w, g, 1e-3, 0.9, 0.99, 0.0)),
    "lion-k of the nuclear norm": (
        LionK(lr=0.1, beta1=0.8, beta2=0.9, weight_decay=0.3),
        lambda w, g: lion_nuclear(w, g, 0.1, 0.8, 0.9, 0.3),
    ),
    "lion-k of the entries is lion": (
        LionK(k="l1", lr=0.1, beta1=0.9, beta2=0.95, weight_decay=0.3),
        lambda w, g: lion(w, g, 0.1, 0.9, 0.95, 0.3),
    ),
    "adam": (
        Adam(lr=0.1, beta1=0.8, beta2=0.9, eps=1e-3, weight_decay=0.3),
        lambda w, g: adam(w, g, 0.1, 0.8, 0.9, 1e-3, 0.3),
    ),
    "adam with its defaults": (Adam(), lambda w, g: adam(w, g, 1e-3, 0.9, 0.999, 1e-8, 0.0)),
    "muon of jordan": (
        Muon(weight_decay=0.3),
        lambda w, g: muon(w, g, 0.02, 0.95, 0.3, accumulate="average", orthogonalize=ns5, factor=max_aspect),
    ),
    "muon of jordan without nesterov": (
        Muon(nesterov=False),
        lambda w, g: muon(
            w, g, 0.02, 0.95, 0, accumulate="average", look_ahead=False, orthogonalize=ns5, factor=max_aspect
        ),
    ),
    "muon of torch": (
        methods.make("muon-torch"),
        lambda w, g: muon(w, g, 1e-3, 0.95, 0.1, accumulate="average", orthogonalize=ns5_torch, factor=max_aspect),
    ),
    "muon of moonlight": (
        methods.make("muon-moonlight"),
        lambda w, g: muon(w, g, 1e-3, 0.95, 0.1, accumulate="sum", orthogonalize=ns5, factor=match_rms),
    ),
    "muon with the exact factor and aspect": (
        Muon(plan="exact", shape_factor="aspect"),
        lambda w, g: muon(
            w, g, 0.02, 0.95, 0, accumulate="average", orthogonalize=svd_polar, factor=lambda m, n: math.sqrt(m / n)
        ),
    ),
    "auon of the paper": (AuON(), lambda w, g: auon(w, g, 0.055, 0.95, package=False)),
    "auon of the package": (
        AuON(lr=0.24, variant="package", weight_decay=0.3),
        lambda w, g: auon(w, g, 0.24, 0.95, package=True, wd=0.3),
    ),
    "hybrid auon of the paper": (HybridAuON(), lambda w, g: hybrid_auon(w, g, 0.055, 0.95, package=False)),
    "hybrid auon of the package": (
        HybridAuON(lr=0.24, variant="package", weight_decay=0.3),
        lambda w, g: hybrid_auon(w, g, 0.24, 0.95, package=True, wd=0.3),
    ),
    "polargrad, momentum first": (
        PolarGrad(lr=0.02, momentum=0.8, weight_decay=0.3),
        lambda w, g: polargrad(w, g, 0.02, 0.8, 0.3, polar_first=False),
    ),
    "polargrad, polar first": (
        PolarGrad(lr=0.02, momentum=0.8, weight_decay=0.3, variant="polar-first"),
        lambda w, g: polargrad(w, g, 0.02, 0.8, 0.3, polar_first=True),
    ),
    "trust region": (
        TrustRegion(lr=0.1, momentum=0.8, weight_decay=0.3),
        lambda w, g: trust_region(w, g, 0.1, 0.8, 0.3, scaled=False),
    ),
    "dual scaled": (
        DualScaled(lr=0.02, momentum=0.8, weight_decay=0.3),
        lambda w, g: trust_region(w, g, 0.02, 0.8, 0.3, scaled=True),
    ),
}

REFERENCES = with_families("REFERENCES", REFERENCES)


@pytest.mark.parametrize("label", REFERENCES)
@pytest.mark.parametrize("shape", [(5, 4), (3, 7), (4, 4)], ids=["tall", "wide", "square"])
def test_twenty_steps_are_those_of_the_straight_line_reference(label, shape, xp):
    method, reference = REFERENCES[label]
    w, grads = random_problem(shape, steps=20, seed=3)
    # 20 steps with errors of at most lr * 485 * 30 eps (the polynomial's gain, the order of sums): 20 * 3e-13 at lr
    # 0.1, and far less on average; 1e-12 is what the project asks for.
    np.testing.assert_allclose(iterate(method, w, grads, xp), reference(w, grads), rtol=1e-12, atol=1e-12)


def test_every_name_has_a_reference():
    covered = {type(method) for method, _ in REFERENCES.values()}
    assert {entry.method for entry in methods.TABLE.values()} == covered


def test_shape_factors_are_the_published_ones():
    for m, n in ((8, 2), (2, 8), (3, 3)):
        assert SHAPE_FACTORS["none"](m, n) == 1.0
        assert SHAPE_FACTORS["max-aspect"](m, n) == math.sqrt(max(1, m / n))
        assert SHAPE_FACTORS["aspect"](m, n) == math.sqrt(m / n)
        assert SHAPE_FACTORS["match-rms"](m, n) == 0.2 * math.sqrt(max(m, n))


@pytest.mark.parametrize("shape", [(6, 3), (3, 6), (4, 4)], ids=["tall", "wide", "square"])
def test_the_moonlight_factor_gives_an_exact_step_the_rms_of_one_fifth(shape):
    w, (g,) = random_problem(shape, steps=1)
    method = methods.make("muon-moonlight", plan="exact", lr=1.0, weight_decay=0.0)
    (step,) = steps_of(method, w, [g])
    # weights of size 3 round the step of 0.2 by 3 eps / 0.2 an entry
    np.testing.assert_allclose(np.sqrt((step**2).mean()), 0.2, rtol=15 * step.size * eps_of(step))


def test_auon_divides_by_a_scalar_between_its_two_ends():
    """cosh(gamma / sqrt N) for equal magnitudes, sqrt(1 + sinh(gamma)^2 / N) for a single entry; 1 + O(1/N)."""
    flat, spike = np.full((4, 5), 1 / math.sqrt(20)), np.eye(4, 5) * (np.arange(4) == 2)[:, None]
    for gamma in (1.0, 1.5):
        ends = [float(methods.auon.cosh_rms(x, gamma)[0, 0]) for x in (flat, spike)]
        expected = [math.cosh(gamma / math.sqrt(20)), math.sqrt(1 + math.sinh(gamma) ** 2 / 20)]
        np.testing.assert_allclose(ends, expected, rtol=20 * eps_of(flat))
        x = random_problem((4, 5))[0]
        between = float(methods.auon.cosh_rms(x / np.linalg.norm(x), gamma)[0, 0])
        assert ends[0] < between < ends[1]
