"""What the common contract does not ask: refusals, options, and single facts of the orthogonalized family."""

import dataclasses

import numpy as np
import pytest
from conftest import eps_of

from orthotheory import methods, norms, problems
from orthotheory.arrays import to_host
from orthotheory.methods import (
    ARO,
    LANTON,
    NAMO,
    NAMOD,
    ROOT,
    Dion,
    Dion2,
    DropMuon,
    Gluon,
    Scion,
    ShippedQDWH,
    SymmetryCompatible,
    start_law,
)
from orthotheory.methods.dion2 import select_rows
from orthotheory.methods.drop_muon import probabilities
from orthotheory.methods.root import clip_entries, plan_of_shape, quantile
from orthotheory.methods.scion import DIRECTIONS
from orthotheory.methods.spd import inverse_root
from orthotheory.methods.swan import standardize_rows
from orthotheory.names import UnknownName
from orthotheory.polar import MUON_JORDAN, polar_factor


@pytest.mark.parametrize(
    ("build", "error", "message"),
    [
        (lambda: NAMO(variant="cod"), UnknownName, "Unknown NAMO variant 'cod'; did you mean 'code'"),
        (lambda: NAMOD(clamp=0.0), ValueError, r"NAMOD\.clamp must lie in \(0, 1\]; got 0"),
        (lambda: NAMOD(clamp=1.5), ValueError, r"NAMOD\.clamp must lie in \(0, 1\]; got 1\.5"),
        (lambda: ROOT(quantile=1.1), ValueError, r"ROOT\.quantile must lie in \[0, 1\]"),
        (lambda: ROOT(threshold=0.0), ValueError, r"ROOT\.threshold must lie in \(0, "),
        (lambda: ARO(base="sing"), UnknownName, "Unknown ARO base 'sing'; did you mean 'sign'"),
        (lambda: ARO(rotation="q"), UnknownName, "Unknown ARO rotation 'q'"),
        (lambda: Dion(rank=0), ValueError, r"Dion\.rank must lie in \[1, "),
        (lambda: Dion2(fraction=0.0), ValueError, r"Dion2\.fraction must lie in \(0, 1\]"),
        (lambda: Scion(direction="spectrl"), UnknownName, "Unknown Scion direction 'spectrl'; did you mean 'spectral'"),
        (lambda: Scion(lr=1.5), ValueError, "at most 1 where constrained"),
        (lambda: Scion(direction="bias", normalized=False), ValueError, "'bias'.* has no normalized=False"),
        (lambda: Gluon(l0=0.0), ValueError, "Gluon needs l0 or l1 above zero"),
        (lambda: Gluon(norm=3), TypeError, "norm must be a norm or the name of one"),
        (lambda: ShippedQDWH(0), ValueError, r"ShippedQDWH\.steps must lie in \[1, "),
        (lambda: DropMuon(law=(0.5, 0.4)), ValueError, r"law must sum to 1; got .* sums to 0\.9"),
        (lambda: LANTON(alpha=0.0), ValueError, r"LANTON\.alpha must lie in \(0, "),
        (lambda: SymmetryCompatible(map="row"), UnknownName, "Unknown symmetry-compatible map 'row'"),
        (lambda: inverse_root(np.ones((2, 3))), ValueError, r"needs square matrices; got shape \(2, 3\)"),
    ],
)
def test_a_bad_option_is_refused_in_one_sentence(build, error, message):
    with pytest.raises(error, match=message):
        build()


# Pieces


def test_the_inverse_root_of_a_batch_is_that_of_its_members_and_nan_stays_alone(xp):
    rng = np.random.default_rng(0)
    x = rng.standard_normal((3, 4, 6))
    a = x @ x.mT
    a[1, 0, 0] = np.nan
    root = to_host(inverse_root(xp.asarray(a)))
    assert np.isnan(root[1]).all()
    for i in (0, 2):
        kappa = np.linalg.cond(a[i])
        np.testing.assert_allclose(root[i] @ a[i] @ root[i], np.eye(4), atol=20 * kappa * eps_of(a))
    singular = np.diag([1e-300, 4e-300, 0.0])
    # the power of two that normalizes is a pure factor: relative rounding of roots of 1e300
    np.testing.assert_allclose(np.diag(inverse_root(singular)) * 1e-150, [1, 0.5, 0], rtol=20 * eps_of(singular))


@pytest.mark.parametrize("q", [0.0, 0.37, 0.9, 1.0])
def test_the_quantile_is_that_of_numpy(q, xp):
    x = np.random.default_rng(1).standard_normal((2, 5, 7))
    np.testing.assert_allclose(
        to_host(quantile(xp.asarray(x), q))[:, 0, 0], np.quantile(x.reshape(2, -1), q, axis=1), rtol=8 * eps_of(x)
    )


def test_what_root_orthogonalizes_is_the_clipped_momentum():
    x = np.random.default_rng(2).standard_normal((6, 4))
    e = np.array([[0.5]])
    np.testing.assert_array_equal(clip_entries(x, e), np.clip(x, -0.5, 0.5))
    outliers = np.sign(x) * np.maximum(np.abs(x) - 0.5, 0)
    np.testing.assert_allclose(clip_entries(x, e), x - outliers, atol=2 * eps_of(x) * np.abs(x).max())


def test_root_runs_muons_steps_outside_the_four_shapes_it_was_tuned_for():
    assert plan_of_shape(5, 4) is MUON_JORDAN
    assert plan_of_shape(8192, 2048).coefficients[0] == (2.9794, -3.6674, 1.6207)


def test_a_row_that_is_constant_up_to_rounding_is_standardized_to_zero():
    g = np.array([[0.1 + 0.2, 0.3, 0.3], [1.0, 2.0, 3.0]])
    s = standardize_rows(g)
    np.testing.assert_array_equal(s[0], 0)
    assert np.std(s[1]) == pytest.approx(1, rel=4 * eps_of(s))


# PolarGrad as shipped


@pytest.mark.parametrize("shape", [(32, 32), (20, 32), (32, 20)], ids=["square", "wide", "tall"])
def test_two_shipped_steps_are_far_from_the_polar_factor_and_four_are_there(shape):
    g = np.random.default_rng(0).standard_normal(shape)
    error = [np.linalg.norm(ShippedQDWH(k).apply(g) - polar_factor(g), 2) for k in (2, 4, 6)]
    assert error[0] > 0.1
    assert error[1] < 6e-7  # what the reference reports for ordinary data
    assert error[2] < 100 * eps_of(g)


def test_the_shipped_steps_take_zero_and_a_matrix_that_is_not_finite():
    g = np.random.default_rng(0).standard_normal((3, 4, 5))
    clean = ShippedQDWH().apply(g)
    g[1], g[2, 0, 0] = 0, np.inf
    out = ShippedQDWH().apply(g)
    np.testing.assert_array_equal(out[0], clean[0])
    np.testing.assert_array_equal(out[1], 0)
    assert np.isnan(out[2]).all()


# NAMO


def alphas(grads, **hyper):
    method = NAMO(lr=1e-3, weight_decay=0.0, eps=0.0, plan="exact", **hyper)
    w, state, lengths = np.zeros_like(grads[0]), None, []
    state = method.init(w)
    for g in grads:
        following, state = method.step(w, g, state)
        lengths.append(np.linalg.norm(following - w, 2))
        w = following
    return np.array(lengths) / (0.2 * np.sqrt(max(w.shape)) * 1e-3)


def test_a_constant_gradient_has_scale_one_and_the_look_ahead_approaches_it():
    g = np.random.default_rng(0).standard_normal((4, 3))
    np.testing.assert_allclose(alphas([g] * 20, nesterov=False), 1, rtol=1e-10)  # 1e-12 over 1 - momentum
    ahead = alphas([g] * 20)
    np.testing.assert_allclose(ahead[[0, 4, 19]], [1.95, 1.17, 1.03], atol=5e-3)  # the printed digits
    assert np.all(np.diff(ahead) < 0)


def test_pure_noise_has_scale_sqrt_of_one_minus_momentum_over_one_plus_it():
    rng = np.random.default_rng(0)
    tail = alphas([rng.standard_normal((40, 40)) for _ in range(400)], nesterov=False)[200:]
    # the momentum has about 20 independent terms in 200 steps of 1600 entries: relative spread below 1%
    assert tail.mean() == pytest.approx(np.sqrt(0.05 / 1.95), rel=0.02)


# Dion and Dion2


@pytest.mark.parametrize("rank", [1, 3, 4])
def test_error_feedback_keeps_what_was_not_captured(rank):
    rng = np.random.default_rng(0)
    method, w = Dion(rank=rank), np.zeros((6, 4))
    state = method.init(w)
    for _ in range(5):
        g = rng.standard_normal(w.shape)
        b = state.momentum + g
        p = np.linalg.qr(b @ state.basis)[0]
        w, state = method.step(w, g, state)
        captured = p @ (p.T @ b)
        np.testing.assert_allclose(state.momentum, 0.95 * captured + (b - captured), atol=100 * eps_of(b))


def test_selection_takes_the_longest_rows_and_ties_in_order(xp):
    m = np.array([[1.0, 1.0], [3.0, 0.0], [1.0, -1.0], [0.0, 0.5]])
    chosen = select_rows(xp.asarray(m), 0.5)
    np.testing.assert_array_equal(to_host(chosen.take(xp.asarray(m))), m[[1, 0]])
    back = to_host(chosen.put(xp.asarray(np.full((2, 2), 9.0)), xp.asarray(m)))
    np.testing.assert_array_equal(back, [[9, 9], [9, 9], [1, -1], [0, 0.5]])


def test_a_step_of_dion2_has_rank_k_and_norm_one_and_no_slice_waits_forever():
    rng = np.random.default_rng(0)
    method = Dion2(lr=1.0, weight_decay=0.0, plan="exact", fraction=0.25)
    w = np.zeros((8, 12))
    state, last = method.init(w), np.zeros(8, dtype=int)
    drift = rng.uniform(0.2, 1.0, (8, 1)) * np.ones((8, 12))
    # In balance the two selected slices lose 5% a step of what all slices gain: their mean size is sum(d) / (2 * 0.05),
    # which the slowest slice reaches after so many steps, give or take a factor of two for its turn.
    longest = 2 * drift[:, 0].sum() / (2 * (1 - method.momentum)) / drift.min()
    for t in range(1500):
        following, state = method.step(w, drift + 0.1 * rng.standard_normal(w.shape), state)
        moved = np.abs(following - w).max(axis=1) > 0
        assert np.all(t - last < longest)
        last[moved] = t
        if t % 100 == 0:
            s = np.linalg.svd((following - w) / np.sqrt(8 / 12), compute_uv=False)
            assert s[0] == pytest.approx(1, rel=1e-10)  # a step of 0.8 is a difference of weights below 1e3
            assert np.sum(s > 1e-10) == 2
        w = following


# Scion


@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize("shape", [(6, 4), (4, 6)], ids=["tall", "wide"])
def test_the_direction_of_scion_is_the_lmo_of_its_norm(direction, shape):
    g = np.random.default_rng(0).standard_normal(shape)
    method = Scion(lr=1.0, radius=1.0, direction=direction, constrained=False, eps=0.0, plan="exact", kernel=2)
    step, _ = method.step(np.zeros(shape), g, method.init(g))
    assert isinstance(method.norm, norms.Norm)
    np.testing.assert_allclose(step, method.norm.lmo(g), atol=20 * eps_of(g) * np.abs(step).max())
    assert float(method.norm.value(step)) == pytest.approx(1, rel=20 * eps_of(g))


def test_layers_of_several_norms_are_a_tuple_of_scions():
    layered = methods.Blockwise((Scion(), Scion(direction="sign", radius=3000.0)))
    w = (np.zeros((4, 3)), np.zeros((5, 4)))
    g = (np.ones((4, 3)), np.ones((5, 4)))
    after, _ = layered.step(w, g, layered.init(w))
    np.testing.assert_allclose(after[1], -1e-3 * 3000 / 4, rtol=4 * eps_of(w[0]))


# Layers


def three(seed=0):
    rng = np.random.default_rng(seed)
    return tuple(rng.standard_normal(s) for s in ((4, 3), (3, 5), (2, 2)))


def test_drop_muon_freezes_the_layers_before_the_first_and_their_momenta():
    w, g = three(), three(1)
    method = DropMuon(momentum=0.5, law=(0.0, 1.0, 0.0))
    after, state = method.step(w, g, method.init(w))
    np.testing.assert_array_equal(after[0], w[0])
    np.testing.assert_array_equal(state.momentum[0], 0)
    for i in (1, 2):
        assert np.abs(after[i] - w[i]).max() > 0


def test_the_draws_of_drop_muon_follow_the_law_and_repeat():
    law = start_law((1.0, 4.0, 2.0))
    assert law == (0.25, 0.75, 0.0)
    np.testing.assert_array_equal(probabilities(law, 3), [0.25, 1, 1])
    method = DropMuon(law=law)
    draws = [method.first_updated(t, 3) for t in range(2000)]
    assert draws == [method.first_updated(t, 3) for t in range(2000)]
    assert np.mean(np.array(draws) == 0) == pytest.approx(0.25, abs=4 * np.sqrt(0.25 * 0.75 / 2000))  # four sigma
    with pytest.raises(ValueError, match="law has 3 probabilities for 2 layers"):
        method.first_updated(0, 2)


def test_layers_may_have_rates_of_their_own():
    w, g = three(), three(1)
    together, _ = DropMuon(lr=(0.1, 0.2, 0.3)).step(w, g, DropMuon().init(w))
    for i, lr in enumerate((0.1, 0.2, 0.3)):
        alone, _ = DropMuon(lr=lr).step(w[i], g[i], DropMuon().init(w[i]))
        np.testing.assert_array_equal(together[i], alone)
    with pytest.raises(ValueError, match=r"DropMuon\.lr has 2 values for 3 blocks"):
        DropMuon(lr=(0.1, 0.2)).step(w, g, DropMuon().init(w))
    with pytest.raises(ValueError, match=r"DropMuon\.lr must lie in \(0"):
        DropMuon(lr=(0.1, -0.2))


def test_lantons_rates_lie_in_the_unit_interval_and_groups_do_not_mix():
    problem = problems.make("layers", noise_levels=(1.0, 3.0, 10.0))
    rng = np.random.default_rng(0)
    moved = {}
    for groups in (None, (0, 1, 1)):
        method = LANTON(lr=1e-3, groups=groups)
        w, state = problem.start, method.init(problem.start)
        for _ in range(30):
            before = w
            w, state = method.step(w, problem.noisy_grad(w, rng), state)
        moved[groups] = [np.linalg.norm(a - b, 2) / 1e-3 for a, b in zip(w, before, strict=True)]
    assert moved[None][0] == pytest.approx(1, rel=1e-9)
    assert 1 > moved[None][1] > moved[None][2] > 0
    np.testing.assert_allclose(moved[0, 1, 1][:2], 1, rtol=1e-9)  # each the quietest of its group
    with pytest.raises(ValueError, match="groups has 2 entries for 3 layers"):
        dataclasses.replace(method, groups=(0, 1)).step(w, problem.grad(w), state)


def test_aro_keeps_an_orthogonal_rotation_and_turns_it():
    rng = np.random.default_rng(0)
    for rotation in ("qr", "polar"):
        method, w = ARO(rotation=rotation), np.zeros((6, 30))
        state = method.init(w)
        for _ in range(10):
            w, state = method.step(w, rng.standard_normal(w.shape), state)
        np.testing.assert_allclose(state.rotation @ state.rotation.T, np.eye(6), atol=50 * eps_of(w))
        assert np.abs(state.rotation - np.eye(6)).max() > 0.1


def test_aro_with_one_column_never_turns():
    method, w = ARO(), np.zeros((6, 1))
    after, state = method.step(w, np.arange(1.0, 7.0)[:, None], method.init(w))
    np.testing.assert_allclose(np.abs(state.rotation), 1)  # 1 x 1, on the transpose
    np.testing.assert_allclose(after, -1e-3)
