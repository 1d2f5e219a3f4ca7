"""Merging of task matrices, adapters, hulls, Procrustes and the orthogonal dictionary: what each keeps."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.linalg
from conftest import eps_of, rotation

from orthotheory.arrays import device_of, dtype_name, to_host
from orthotheory.polar import MUON_QUINTIC, POLAR_EXPRESS, polar_factor
from orthotheory.problems.tasks import adapters, diagonal_quadratics, sparse_stream, task_matrices
from orthotheory.surgery.dictionary import OrthogonalDictionary, frank_wolfe_gap, signed_permutation_error
from orthotheory.surgery.merging import (
    OPCM,
    core_space,
    decouple,
    frank_wolfe,
    interference,
    iso_c,
    iso_cts,
    isotropic,
    orthogonalize_factors,
    osrm,
    ota,
)
from orthotheory.surgery.procrustes import compatible_alignment, lambda_orthogonality, procrustes

EPS = np.finfo(float).eps


def draw(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape)


def singular_values(x):
    return np.linalg.svd(to_host(x), compute_uv=False)


def cos(a, b):
    return np.sum(a * b) / (np.linalg.norm(a) * np.linalg.norm(b))


# Isotropic merging


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("shape", [(6, 4), (4, 6), (1, 5), (5, 1)], ids=str)
def test_iso_c_is_the_polar_factor_of_the_sum_times_its_mean_singular_value(xp, dtype, shape):
    tasks = xp.asarray(draw(3, *shape), dtype=dtype)
    merged = iso_c(tasks)
    assert dtype_name(merged) == dtype
    assert device_of(merged) == xp.device
    total = to_host(tasks).sum(axis=0)
    s = singular_values(total)
    condition = s[0] / s[-1]
    expected = s.mean() * to_host(polar_factor(xp.asarray(total)))
    np.testing.assert_allclose(to_host(merged), expected, atol=50 * condition * eps_of(merged))
    np.testing.assert_allclose(singular_values(merged), s.mean(), rtol=50 * eps_of(merged))


@pytest.mark.parametrize("scale", [1e-150, 1.0, 1e150])
def test_the_nuclear_norm_is_kept_and_the_rank_aware_form_makes_no_directions_up(xp, scale):
    total = scale * draw(8, 2) @ draw(2, 6, seed=1)
    nuclear = singular_values(total).sum()
    for rank_aware, rank in ((False, 6), (True, 2)):
        merged = to_host(isotropic(xp.asarray(total), rank_aware=rank_aware))
        s = singular_values(merged)
        assert s.sum() == pytest.approx(nuclear, rel=1e-13)
        assert np.sum(s > 1e-10 * s[0]) == rank
    row_space = np.linalg.svd(total)[2][:2]
    assert np.linalg.norm(merged - merged @ row_space.T @ row_space) <= 1e-13 * np.linalg.norm(merged)
    assert np.array_equal(to_host(isotropic(xp.asarray(np.zeros((3, 4))))), np.zeros((3, 4)))


def test_a_flat_spectrum_raises_the_alignment_with_weak_tasks_and_the_filler_directions_hurt():
    tasks = task_matrices(tasks=4, rows=16, columns=12, kind="planted", rank=2, common=2.0)
    tasks[0] *= 4  # one dominant task
    total, flat = tasks.sum(axis=0), iso_c(tasks)
    aware = iso_c(tasks, rank_aware=True)
    for t in range(1, 4):
        subspace = np.linalg.svd(tasks[t])[0][:, 2:4]  # the weak part of a task of its own
        alignment = [np.linalg.norm(subspace.T @ m) / np.linalg.norm(m) for m in (total, flat, aware)]
        assert alignment[1] > 2 * alignment[0]
        assert alignment[2] > alignment[1]  # the sum has rank 10 of 12: the filler takes its share
    rank = np.linalg.matrix_rank(total)
    assert rank == 10
    outside = np.eye(12) - np.linalg.pinv(total) @ total
    assert np.linalg.norm(flat @ outside) > 0.1 * np.linalg.norm(flat)
    assert np.linalg.norm(aware @ outside) <= 1e-12 * np.linalg.norm(aware)


def straight_iso_cts(tasks, common):
    count, size = len(tasks), min(tasks.shape[1:])
    each = round((size - int(size * common)) / count)
    k = size - each * count
    u, s, vh = np.linalg.svd(tasks.sum(axis=0), full_matrices=False)
    us, ss, vs = [], [], []
    for t in tasks:
        ut, st, vt = np.linalg.svd(t - u[:, :k] @ u[:, :k].T @ t, full_matrices=False)
        us.append(ut[:, :each]), ss.append(st[:each]), vs.append(vt[:each])
    big_u, big_v = np.hstack([*us, u[:, :k]]), np.vstack([*vs, vh[:k]])
    mean = np.concatenate([*ss, s[:k]]).mean()
    return mean * scipy.linalg.polar(big_u)[0] @ scipy.linalg.polar(big_v)[0]


@pytest.mark.parametrize("common", [0.5, 0.8, 1.0])
@pytest.mark.parametrize("shape", [(16, 12), (12, 16)], ids=str)
def test_iso_cts_is_its_definition_with_a_flat_spectrum(xp, common, shape):
    tasks = task_matrices(tasks=3, rows=shape[0], columns=shape[1])
    merged = to_host(iso_cts(xp.asarray(tasks), common))
    np.testing.assert_allclose(merged, straight_iso_cts(tasks, common), atol=1e-11)
    s = singular_values(merged)
    np.testing.assert_allclose(s, s[0], rtol=1e-12)
    if common == 1.0:
        np.testing.assert_allclose(merged, iso_c(tasks), atol=1e-11)


def test_iso_cts_gives_weak_tasks_more_room_than_iso_c():
    tasks = task_matrices(tasks=4, rows=20, columns=20, kind="planted", rank=3, common=1.0)
    noisy = tasks + 0.02 * draw(*tasks.shape, seed=5)
    own = [np.linalg.svd(t)[0][:, 3:6] for t in tasks]
    share = [[np.linalg.norm(q.T @ m) ** 2 / np.linalg.norm(m) ** 2 for q in own] for m in
             (noisy.sum(axis=0), iso_cts(noisy, 0.4))]  # fmt: skip
    assert min(share[1]) > 2 * max(share[0])


# OPCM


@pytest.mark.parametrize("shape", [(8, 8), (9, 5), (5, 9)], ids=str)
def test_what_opcm_adds_is_orthogonal_to_what_is_merged_and_the_early_revision_of_the_code_is_not(xp, shape):
    tasks = task_matrices(tasks=12, rows=shape[0], columns=shape[1], seed=2)
    worst = {}
    for variant in ("zeroed", "copy"):
        rule = OPCM(variant=variant)
        state, inner = rule.init(xp.asarray(tasks[0])), []
        for t in tasks[1:]:
            c, merged = to_host(rule.novel(state.merged, xp.asarray(t))), to_host(state.merged)
            inner.append(abs(cos(c, merged)))
            state = rule.step(xp.asarray(t), state)
            running = np.mean([np.linalg.norm(x) for x in tasks[: state.tasks]])
            assert np.linalg.norm(to_host(state.merged)) == pytest.approx(running, rel=1e-13)
        worst[variant] = max(inner)
        if variant == "zeroed":
            # the parts are orthogonal, so lam^2 adds the squared shares: between 1 and sqrt(t)
            assert 1 < float(state.scale) < np.sqrt(12)
    assert worst["zeroed"] <= 1e-13
    assert worst["copy"] > 1e-2


def test_opcm_is_the_definition_with_complete_bases():
    merged, task, alpha = draw(7, 4), draw(7, 4, seed=1), 0.5
    u, s, vh = np.linalg.svd(merged, full_matrices=True)
    k = int(np.argmax(np.cumsum(s) / s.sum() > alpha))
    for variant in ("zeroed", "copy"):
        n = u.T @ task @ vh.T
        if variant == "zeroed":
            np.fill_diagonal(n, 0)
        n[:k, :k] = 0
        np.testing.assert_allclose(OPCM(alpha, variant).novel(merged, task), u @ n @ vh, atol=1e-13)


def test_the_order_of_the_tasks_matters_little_on_average_but_not_nothing():
    tasks = task_matrices(tasks=6, rows=10, columns=10)

    def merge(order):
        rule = OPCM()
        state = rule.init(tasks[order[0]])
        for i in order[1:]:
            state = rule.step(tasks[i], state)
        return state.merged

    orders = [np.random.default_rng(k).permutation(6) for k in range(10)]
    merged = [merge(o) for o in orders]
    spread = [cos(a, merged[0]) for a in merged[1:]]
    assert max(spread) < 1 - 1e-3  # not invariant
    assert min(spread) > 0.5


@pytest.mark.parametrize("scale", [0.0, 1e-200, 1e200])
def test_extreme_tasks_have_a_defined_merge(scale):
    task = scale * draw(4, 3)
    rule = OPCM()
    state = rule.step(task, rule.step(task, rule.init(task)))
    assert np.isfinite(state.merged).all()
    assert np.isfinite(state.scale)


# DO-Merging


def test_decoupled_directions_serve_a_small_task_as_well_as_a_large_one(xp):
    ratios = np.array([1.0, 10.0, 100.0])
    tasks = draw(3, 30, 20) * ratios[:, None, None]
    merged = to_host(decouple(xp.asarray(tasks)))
    plain = tasks.mean(axis=0)
    assert cos(merged, tasks[0]) > 0.3 > 0.1 > cos(plain, tasks[0])
    aligned = [cos(merged, t) for t in tasks]
    assert max(aligned) - min(aligned) < 0.3
    norms = np.linalg.norm(tasks, axis=1).mean(axis=0)
    np.testing.assert_allclose(np.linalg.norm(to_host(decouple(xp.asarray(tasks), renormalize=True)), axis=0), norms)
    rows = np.swapaxes(to_host(decouple(xp.asarray(np.swapaxes(tasks, 1, 2)), axis="rows")), 0, 1)
    np.testing.assert_allclose(rows, merged, rtol=1e-13)


def test_equal_tasks_are_merged_to_themselves_and_zero_columns_stay_zero():
    t = draw(5, 4)
    t[:, 2] = 0
    np.testing.assert_allclose(decouple(np.stack([t, t, t])), t, atol=1e-15)


def test_orthogonalizing_factors_lowers_the_interference_at_a_bounded_change(xp):
    factors = draw(4, 2, 12)
    values = []
    for steps in (0, 10, 100, 1000):
        moved = to_host(orthogonalize_factors(xp.asarray(factors), gamma=0.1, steps=steps))
        values.append(interference(moved) + 0.1 * np.sum((moved - factors) ** 2))
    assert np.all(np.diff(values) < 0)
    assert interference(moved) < 0.1 * interference(factors)
    # the penalty alone bounds the change: gamma |delta|^2 <= interference at the start
    assert 0.1 * np.sum((moved - factors) ** 2) <= interference(factors)
    tight = orthogonalize_factors(factors, gamma=1e4, steps=1000)
    assert np.linalg.norm(tight - factors) < 0.05 * np.linalg.norm(moved - factors)


def test_interference_counts_ordered_pairs_of_different_tasks():
    a = draw(3, 2, 5)
    expected = sum(np.linalg.norm(a[i] @ a[j].T) ** 2 for i in range(3) for j in range(3) if i != j)
    assert interference(a) == pytest.approx(expected, rel=1e-12)


# OTA


def test_with_the_true_curvatures_it_is_the_joint_minimizer(xp):
    q = diagonal_quadratics(device=xp)
    base = xp.asarray(draw(6, 5, seed=3))
    merged = to_host(ota(q.optima, q.curvatures, base, power=1.0, eps=0.0))
    np.testing.assert_allclose(merged, to_host(q.joint_minimizer()), rtol=1e-12, atol=1e-13)
    proxy = to_host(ota(q.optima, q.curvatures, base, power=0.5, eps=0.0))
    assert np.abs(proxy - merged).max() > 0.1  # the default power is not the exact one


def test_the_second_moment_is_the_curvature_only_up_to_the_gradient_noise():
    q, rng = diagonal_quadratics(tasks=3), np.random.default_rng(0)
    errors = []
    for noise in (0.0, 0.3, 3.0):
        # E[grad^2] at the optimum is the noise, scaled by the curvature where samples scatter the optimum
        draws = np.sqrt(q.curvatures) * rng.standard_normal((4000, *q.curvatures.shape)) + noise * rng.standard_normal(
            (4000, *q.curvatures.shape)
        )
        merged = ota(q.optima, np.mean(draws**2, axis=0), np.zeros((6, 5)), power=1.0, eps=0.0)
        errors.append(np.linalg.norm(merged - q.joint_minimizer()))
    assert errors[0] < 0.05 * errors[2]
    assert errors[0] < errors[1] < errors[2]


def test_masks_normalization_and_rank_one_storage_are_the_authors():
    w, v, base = draw(2, 3, 4), draw(2, 3, 4, seed=1) ** 2, draw(3, 4, seed=2)
    p = np.sqrt(v)
    p = p / (p.mean(axis=(1, 2), keepdims=True) + 1e-8) + 1e-8
    p[v * (w - base) ** 2 < 0.5] = 0
    total = p.sum(axis=0)
    expected = np.where(total > 0, (p * w).sum(axis=0) / np.where(total > 0, total, 1), base)
    np.testing.assert_allclose(ota(w, v, base, normalize=True, threshold=0.5), expected, rtol=1e-13)
    assert (total == 0).any()
    one = np.outer(np.arange(1, 4), np.arange(1, 5)) * np.ones((2, 1, 1))
    np.testing.assert_allclose(ota(w, one, base, rank_one=True), ota(w, one, base), rtol=1e-13)


def test_bad_moments_are_refused():
    w = draw(2, 3)
    with pytest.raises(ValueError, match="v >= 0"):
        ota(w, -np.ones((2, 3)), w[0])
    with pytest.raises(ValueError, match="needs weights and moments"):
        ota(w, np.ones((2, 4)), w[0])


# Frank-Wolfe merging


def planted_models(seed=0):
    """Twenty models, of which four matter for the target."""
    models = draw(20, 4, 3, seed=seed)
    weights = np.array([0.4, 0.3, 0.2, 0.1])
    target = np.tensordot(weights, models[:4], axes=1)
    h = 10 ** np.random.default_rng(seed + 1).uniform(-1, 0, size=(4, 3))
    return models, target, h


def best_hull_point(models, target, h):
    """The minimizer on the simplex, by nonnegative least squares with a heavy sum constraint."""
    a = (np.sqrt(h) * models).reshape(len(models), -1).T
    b = (np.sqrt(h) * target).ravel()
    big = 1e4
    weights = scipy.optimize.nnls(np.vstack([a, big * np.ones(len(models))]), np.append(b, big))[0]
    return weights / weights.sum()


def test_the_linear_rule_converges_to_the_best_point_of_the_hull_with_the_stated_gap(xp):
    models, target, h = planted_models()
    target = target + 0.5 * draw(4, 3, seed=9)  # outside the hull
    where, curvature = xp.asarray(target), xp.asarray(h)
    result = frank_wolfe(xp.asarray(models), lambda w: curvature * (w - where), steps=400)
    weights = to_host(result.weights)
    assert weights.sum() == pytest.approx(1, rel=1e-12)
    assert np.all(weights >= 0)

    def value(w):
        return 0.5 * np.sum(h * (w - target) ** 2)

    optimum = value(np.tensordot(best_hull_point(models, target, h), models, axes=1))
    diameter2 = max(np.sum(h * (a - b) ** 2) for a in models for b in models)
    gap = value(to_host(result.point)) - optimum
    assert -1e-6 <= gap <= 2 * diameter2 / 402  # Jaggi's bound, with L in the norm of h
    best = np.minimum.accumulate(to_host(result.gaps))
    k = np.arange(2, 400)
    assert np.all(best[2:] <= 6.75 * diameter2 / (k + 2))  # the duality gap, same source
    at_end = h * (to_host(result.point) - target)
    scores = np.sum(at_end * models, axis=(1, 2))
    assert np.sum(at_end * to_host(result.point)) - scores.min() >= gap - 1e-9  # the certificate


def test_the_first_step_goes_to_a_vertex_and_the_second_two_thirds_of_the_way():
    models, target, h = planted_models()

    def grad(w):
        return h * (w - target)

    first = int(np.argmin(np.sum(grad(models.mean(axis=0)) * models, axis=(1, 2))))
    np.testing.assert_allclose(frank_wolfe(models, grad, steps=1).weights, np.eye(20)[first])
    second = int(np.argmin(np.sum(grad(models[first]) * models, axis=(1, 2))))
    expected = np.eye(20)[first] / 3 + 2 / 3 * np.eye(20)[second]
    np.testing.assert_allclose(frank_wolfe(models, grad, steps=2).weights, expected, rtol=1e-14)


def test_irrelevant_models_get_little_weight_from_the_linear_rule():
    models, target, h = planted_models()
    models[:4, 3, 2] = target[3, 2] = 0.0
    models[4:, 3, 2] = 4.0 + models[4:, 3, 2]  # a direction that no mixture can cancel
    result = frank_wolfe(models, lambda w: h * (w - target), steps=2000)
    assert result.weights[:4].sum() > 0.9
    assert 0.5 * np.sum(h * (result.point - target) ** 2) < 1e-3


def test_the_cosine_rule_misses_the_minimizer_that_the_linear_one_finds():
    # two models on one ray: the cosine cannot tell the near one from the far one
    models = np.stack([np.eye(2), 10 * np.eye(2) + 0.5 * np.diag([1.0, -1.0]), np.diag([-1.0, -1.2])])
    target = 2.0 * np.eye(2)

    def grad(w):
        return w - target

    linear = frank_wolfe(models, grad, steps=500)
    by_cosine = frank_wolfe(models, grad, steps=500, rule="cosine")
    values = [0.5 * np.sum((r.point - target) ** 2) for r in (linear, by_cosine)]
    best = np.tensordot(best_hull_point(models, target, np.ones((2, 2))), models, axes=1)
    optimum = 0.5 * np.sum((best - target) ** 2)
    assert values[0] - optimum < 0.05
    assert values[1] - optimum > 10 * (values[0] - optimum)


# Core space and OSRM


def test_the_core_is_lossless_and_merging_there_is_merging_in_full_for_the_right_rules(xp):
    low = adapters(device=xp)
    core = core_space(low.b, low.a)
    full = to_host(low.matrices())
    np.testing.assert_allclose(to_host(core.expand(core.cores)), full, atol=1e-13 * np.abs(full).max() * 10)
    for basis in (to_host(core.u).T, to_host(core.vh)):
        np.testing.assert_allclose(basis @ basis.T, np.eye(12), atol=1e-14)
    total = to_host(core.expand(xp.xp.sum(core.cores, axis=0)))
    np.testing.assert_allclose(total, full.sum(axis=0), atol=1e-12)
    aware = to_host(core.expand(iso_c(core.cores, rank_aware=True)))
    np.testing.assert_allclose(aware, to_host(iso_c(xp.asarray(full), rank_aware=True)), atol=1e-12)
    # plain Iso-C takes the mean over 4 * 3 values in the core and over min(15, 20) in full
    plain, whole = to_host(core.expand(iso_c(core.cores))), iso_c(full)
    assert singular_values(plain)[0] / singular_values(whole)[0] == pytest.approx(15 / 12, rel=1e-12)
    # a rule by coordinate does not commute at all
    signs = to_host(core.expand(xp.xp.sign(xp.xp.sum(core.cores, axis=0))))
    assert np.abs(signs - np.sign(full.sum(axis=0))).max() > 0.1


def test_dependent_adapters_and_more_ranks_than_rows_are_lossless_too():
    low = adapters(tasks=6, rows=8, columns=9, rank=2)
    b = low.b.copy()
    b[1] = b[0]
    core = core_space(b, low.a)
    assert core.cores.shape == (6, 8, 9)
    np.testing.assert_allclose(core.expand(core.cores), b @ low.a, atol=1e-13)


def test_osrm_changes_no_output_of_other_tasks_while_the_rank_allows_it(xp):
    z = draw(40, 6) @ draw(6, 16, seed=1)
    for rank in (1, 10, 12):
        a = to_host(osrm(xp.asarray(z), rank))
        np.testing.assert_allclose(a @ a.T, np.eye(rank), atol=1e-14)
        shift = np.linalg.norm(z @ a.T)
        if rank <= 10:
            assert shift <= 1e-13 * np.linalg.norm(z) * 10
        s = singular_values(z)
        smallest = np.sqrt(np.sum(np.sort(np.append(s, []))[:rank] ** 2))
        assert shift == pytest.approx(smallest, abs=1e-11)
        random = np.linalg.qr(draw(16, rank, seed=2))[0].T  # the negative control
        assert np.linalg.norm(z @ random.T) > max(2 * shift, 1.0)


def test_osrm_costs_fit_where_the_inputs_overlap():
    q = rotation(12, np.random.default_rng(0))
    own = draw(50, 4, seed=1) @ q[:, :4].T
    target = own @ draw(12, 3, seed=2)
    residuals = {}
    for overlap in (0, 2, 4):
        z = draw(50, 4, seed=3) @ np.concatenate([q[:, :overlap], q[:, 4 : 8 - overlap]], axis=1).T
        a = osrm(z, 8)
        features = own @ a.T
        features = np.where(np.abs(features) > 1e-12, features, 0.0)  # rounding could be fitted
        b = np.linalg.lstsq(features, target, rcond=None)[0]
        residuals[overlap] = np.linalg.norm(features @ b - target) / np.linalg.norm(target)
    assert residuals[0] <= 1e-12
    assert residuals[0] < residuals[2] < residuals[4]
    assert residuals[4] > 0.99


def test_the_best_second_factor_after_training_is_the_product_with_the_transpose():
    task, a = draw(5, 12), osrm(draw(4, 12, seed=1), 6)
    np.testing.assert_allclose(task @ a.T, task @ np.linalg.pinv(a), atol=1e-13)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: iso_c(draw(4, 3)), "stack of at least one task"),
        (lambda: iso_c(np.full((2, 3, 3), np.nan)), "task 0 has an entry that is not finite"),
        (lambda: iso_c(np.zeros((0, 3, 3))), "at least one task"),
        (lambda: iso_cts(draw(3, 5, 5), 0.0), "raise it"),
        (lambda: core_space(draw(2, 4, 3), draw(2, 2, 5)), "core_space needs B"),
        (lambda: osrm(draw(4, 5), 6), "rank must lie between 1 and n = 5"),
        (lambda: osrm(np.full((4, 5), np.inf), 2), "not finite"),
        (lambda: OPCM(alpha=2.0), "alpha must lie"),
        (lambda: OPCM(variant="torch"), "variant"),
        (lambda: frank_wolfe(draw(2, 3, 3), np.sin, rule="angle"), "rule"),
        (lambda: procrustes(draw(5, 3), draw(5, 4)), "compatible_alignment"),
        (lambda: compatible_alignment(draw(5, 3), draw(5, 4)), "at least as wide"),
        (lambda: lambda_orthogonality(draw(2, 3), draw(2, 3), 1.0), "samples >= n"),
    ],
)
def test_bad_input_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()


# Procrustes


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("scale", [1e-20, 1.0, 1e15])
def test_a_planted_rotation_is_recovered(xp, dtype, scale):
    b = np.stack([rotation(5, np.random.default_rng(k)) for k in range(3)])
    x = draw(3, 30, 5)
    y = x @ np.swapaxes(b, -1, -2)
    found = procrustes(xp.asarray(scale * x, dtype=dtype), xp.asarray(y, dtype=dtype))
    assert dtype_name(found.b) == dtype
    assert device_of(found.b) == xp.device
    eps = eps_of(found.b)
    np.testing.assert_allclose(to_host(found.b), b, atol=200 * eps)
    gram = np.swapaxes(to_host(found.b), -1, -2) @ to_host(found.b)
    assert np.abs(gram - np.eye(5)).max() <= 20 * eps


def test_it_is_scipys_solution_and_better_than_random_ones():
    x, y = draw(20, 4), draw(20, 4, seed=1)
    b = procrustes(x, y).b
    np.testing.assert_allclose(b.T, scipy.linalg.orthogonal_procrustes(x, y)[0], atol=1e-13)
    value = np.linalg.norm(x @ b.T - y) ** 2
    s = procrustes(x, y).s
    assert value == pytest.approx(np.sum(x**2) + np.sum(y**2) - 2 * s.sum(), rel=1e-12)
    others = [np.linalg.norm(x @ rotation(4, np.random.default_rng(k)).T - y) ** 2 for k in range(500)]
    assert value < min(others)


def test_rotations_alone_flip_the_last_singular_vector(xp):
    x = draw(20, 3)
    reflection = rotation(3, np.random.default_rng(0))
    reflection *= -np.sign(np.linalg.det(reflection))
    y = x @ reflection.T
    free, proper = procrustes(x, y), procrustes(xp.asarray(x), xp.asarray(y), rotation=True)
    assert np.linalg.det(free.b) == pytest.approx(-1)
    assert np.linalg.det(to_host(proper.b)) == pytest.approx(1)
    value = np.linalg.norm(x @ to_host(proper.b).T - y)
    rotations = [rotation(3, np.random.default_rng(k)) for k in range(3000)]
    rotations = [r * np.sign(np.linalg.det(r)) for r in rotations]
    assert value <= min(np.linalg.norm(x @ r.T - y) for r in rotations)
    assert value > 1.0


def test_rank_deficient_and_zero_data_still_give_an_orthogonal_matrix(xp):
    for x, y in ((draw(2, 5), draw(2, 5, seed=1)), (np.zeros((4, 3)), np.zeros((4, 3)))):
        b = to_host(procrustes(xp.asarray(x), xp.asarray(y)).b)
        np.testing.assert_allclose(b @ b.T, np.eye(len(b)), atol=1e-14)
    x = draw(3, 6, 4)
    x[1, 0, 0] = np.nan
    b = to_host(procrustes(xp.asarray(x), xp.asarray(np.nan_to_num(x))).b)
    assert np.isnan(b[1]).all()
    assert np.isfinite(b[[0, 2]]).all()


def test_old_features_are_recovered_inside_wider_new_ones_and_the_geometry_is_kept():
    q = rotation(8, np.random.default_rng(0))
    latent = draw(200, 8)
    latent[:, 5:] *= 0.0  # the extra dimensions carry nothing: exact recovery
    old, new = latent[:, :5], latent @ q.T
    b = compatible_alignment(new, old).b
    np.testing.assert_allclose((new @ b.T)[:, :5], old, atol=1e-12)
    np.testing.assert_allclose(b @ b.T, np.eye(8), atol=1e-14)
    latent[:, 5:] = 0.3 * draw(200, 3, seed=1)  # and with content of their own: close
    new = latent @ q.T
    b = compatible_alignment(new, old).b
    gap = 1 - np.mean(np.sum((new @ b.T)[:, :5] * old, axis=1) / np.linalg.norm((new @ b.T)[:, :5], axis=1)
                      / np.linalg.norm(old, axis=1))  # fmt: skip
    assert gap < 1e-3
    np.testing.assert_allclose(np.linalg.norm(new @ b.T, axis=1), np.linalg.norm(new, axis=1), rtol=1e-13)
    np.testing.assert_allclose(compatible_alignment(old, old).b, np.eye(5), atol=1e-13)


def test_the_path_between_procrustes_and_least_squares_is_monotone(xp):
    x = draw(30, 4)
    y = x @ draw(4, 4, seed=1) + 0.3 * draw(30, 4, seed=2)
    lams = [0.0, 0.01, 0.1, 0.5, 1.0, 2.0, 1e3]
    path = [lambda_orthogonality(xp.asarray(x), xp.asarray(y), lam) for lam in lams]
    fits, defects = np.array([p.fit for p in path]), np.array([p.defect for p in path])
    assert np.all(np.diff(fits) <= 1e-6)
    assert np.all(np.diff(defects) >= -1e-6)
    np.testing.assert_allclose(defects[1:-1], lams[1:-1], atol=1e-6)
    assert path[0].fit == pytest.approx(np.linalg.norm(x @ procrustes(x, y).b.T - y), rel=1e-12)
    assert path[-1].fit == pytest.approx(np.linalg.norm(x @ np.linalg.lstsq(x, y, rcond=None)[0] - y), rel=1e-12)
    assert device_of(path[2].w) == xp.device


def test_on_whitened_inputs_the_penalized_solution_has_its_closed_form():
    # X^T X = I: W = U diag(w) V^T with w - s + mu w (w^2 - 1) = 0 for each singular value s of X^T Y
    x = np.linalg.qr(draw(20, 3))[0]
    y = draw(20, 3, seed=1)
    result = lambda_orthogonality(x, y, 0.4)
    u, s, vh = np.linalg.svd(x.T @ y)
    w = np.diag(u.T @ result.w @ vh.T)
    np.testing.assert_allclose(u @ np.diag(w) @ vh, result.w, atol=1e-7)
    mu = (s - w) / (w * (w**2 - 1))
    np.testing.assert_allclose(mu, mu.mean(), rtol=1e-5)
    assert mu.mean() > 0


# The orthogonal dictionary


@pytest.mark.parametrize("power", [3.0, 4.0])
def test_a_planted_dictionary_is_recovered_up_to_signs_and_order_inside_the_ball(power):
    stream, rng = sparse_stream(n=16, seed=1), np.random.default_rng(0)
    rule = OrthogonalDictionary(power)
    d = rotation(16, rng)
    state, start = rule.init(d), signed_permutation_error(d, stream.truth)
    held_out = stream.draw(20_000, np.random.default_rng(9))
    first_gap = None
    for k in range(1500):
        d, state = rule.step(d, stream.draw(64, rng), state)
        if k % 100 == 0:
            assert np.linalg.norm(d, 2) <= 1 + 1e-14
        if k == 20:
            first_gap = frank_wolfe_gap(d, rule.gradient(d, held_out))
    assert start > 0.5
    assert signed_permutation_error(d, stream.truth) < 0.05
    assert frank_wolfe_gap(d, rule.gradient(d, held_out)) < 0.2 * first_gap


def test_the_step_is_momentum_polar_and_decay(xp):
    rule = OrthogonalDictionary(4.0)
    d, y = 0.5 * rotation(5, np.random.default_rng(0)), draw(5, 40)
    state = rule.init(xp.asarray(d))
    d1, state = rule.step(xp.asarray(d), xp.asarray(y), state)
    np.testing.assert_allclose(to_host(d1), to_host(polar_factor(state.average)), atol=1e-14)  # gamma_0 = rho_0 = 1
    d2, later = rule.step(d1, xp.asarray(2 * y), state)
    gamma, rho = 2**-0.75, 2**-0.5
    average = (1 - rho) * to_host(state.average) + rho * rule.gradient(to_host(d1), 2 * y)
    np.testing.assert_allclose(to_host(later.average), average, rtol=1e-12)
    expected = (1 - gamma) * to_host(d1) + gamma * polar_factor(average)
    np.testing.assert_allclose(to_host(d2), expected, atol=1e-13)


def test_the_gradient_is_that_of_the_objective():
    rule, d, y, h = OrthogonalDictionary(3.0), 0.5 * rotation(4, np.random.default_rng(1)), draw(4, 30), 1e-6

    def value(m):
        return np.mean(np.sum(np.abs(m.T @ y) ** 3, axis=0))

    g = rule.gradient(d, y)
    for i, j in np.ndindex(4, 4):
        bump = np.zeros((4, 4))
        bump[i, j] = h
        assert g[i, j] == pytest.approx((value(d + bump) - value(d - bump)) / (2 * h), abs=1e-7)


def test_the_gap_is_zero_at_the_vertex_of_the_gradient_and_positive_elsewhere(xp):
    g, d = draw(5, 5), 0.5 * rotation(5, np.random.default_rng(0))
    assert abs(to_host(frank_wolfe_gap(polar_factor(xp.asarray(g)), xp.asarray(g)))) <= 1e-13
    assert to_host(frank_wolfe_gap(xp.asarray(d), xp.asarray(g))) > 0.5


def test_an_accurate_schedule_changes_nothing_and_muons_quintic_biases_the_gap_and_leaves_the_ball():
    stream, held_out = sparse_stream(n=8, seed=2), sparse_stream(n=8, seed=2).draw(20_000, np.random.default_rng(5))
    gaps, norms = {}, {}
    for plan in ("exact", POLAR_EXPRESS, MUON_QUINTIC):
        rng = np.random.default_rng(0)
        rule, d = OrthogonalDictionary(4.0, plan), rotation(8, rng)
        state = rule.init(d)
        for _ in range(500):
            d, state = rule.step(d, stream.draw(64, rng), state)
        gaps[plan], norms[plan] = float(frank_wolfe_gap(d, rule.gradient(d, held_out))), np.linalg.norm(d, 2)
    assert norms["exact"] <= 1 + 1e-14
    assert gaps[POLAR_EXPRESS] == pytest.approx(gaps["exact"], rel=1e-6)
    assert 1.01 < norms[MUON_QUINTIC] <= MUON_QUINTIC.image(0.0, 1.0)[1] + 1e-12  # its own ball
    assert abs(gaps[MUON_QUINTIC] - gaps["exact"]) > 0.5 * gaps["exact"]


def test_a_permuted_dictionary_with_flipped_signs_has_no_error():
    truth = rotation(6, np.random.default_rng(0))
    moved = truth[:, np.random.default_rng(1).permutation(6)] * np.array([1, -1, 1, -1, -1, 1])
    assert signed_permutation_error(moved, truth) <= 1e-15
    assert signed_permutation_error(rotation(6, np.random.default_rng(5)), truth) > 0.3
