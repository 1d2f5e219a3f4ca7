"""Bloop, the dynamic barrier, ODICE, geometric disentanglement, AdamP's projection and Lattice: what each keeps."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from conftest import eps_of
from hypothesis import given, settings
from hypothesis import strategies as st

from orthotheory.arrays import device_of, dtype_name, to_host
from orthotheory.names import UnknownName
from orthotheory.problems.tasks import chain, flat_valley, retain_forget
from orthotheory.surgery import rules
from orthotheory.surgery.retain import Bloop, DynamicBarrier, OrthogonalGradient, component
from orthotheory.surgery.tangent import Lattice, RadialProjection
from orthotheory.surgery.unlearning import disentangle, joint_update, row_basis, safe_step, trust_region_step

BIBLIOGRAPHY = (Path(__file__).parents[2] / "paper" / "references.bib").read_text(encoding="utf-8")
BAD = [np.nan, np.inf, -np.inf]


def draw(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape)


def norm(x):
    """Norms over the last axis, safe at 1e300."""
    peak = np.max(np.abs(x), axis=-1, keepdims=True)
    peak = np.where(peak > 0, peak, 1.0)
    return np.linalg.norm(x / peak, axis=-1) * peak[..., 0]


def cosine(a, b):
    return np.sum(a / norm(a)[..., None] * (b / norm(b)[..., None]), axis=-1)


# The component along a vector


@pytest.mark.parametrize("scale", [1e-300, 1e-150, 1.0, 1e150, 1e300])
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_what_is_left_is_orthogonal_at_every_scale(xp, scale, dtype):
    if dtype == "float32" and not 1e-30 < scale < 1e30:
        pytest.skip("outside the range of float32")
    x, a = draw(3, 2, 7), draw(3, 2, 7, seed=1)
    ratio, rest = component(xp.asarray(scale * x, dtype=dtype), xp.asarray(a / scale, dtype=dtype) / 4)
    assert dtype_name(rest) == dtype
    assert device_of(rest) == xp.device
    assert rest.shape == (3, 2, 7)
    assert ratio.shape == (3, 2, 1)
    host = to_host(rest).astype(float)
    # after the second pass the rest is orthogonal up to one rounding of itself and of the products: 2 n eps
    assert np.max(np.abs(cosine(host, a))) <= 14 * eps_of(rest)


def test_a_vector_that_is_almost_parallel_is_still_made_orthogonal(xp):
    a = draw(50)
    x = 3 * a + 1e-10 * draw(50, seed=1)
    rest = to_host(component(xp.asarray(x), xp.asarray(a)).rest)
    # one pass would leave n eps |x| / |rest|, about 1e-5: the negative control
    assert abs(cosine(rest, a)) <= 1e-14 * norm(x) / norm(rest) * 0.01
    once = x - (x @ a) / (a @ a) * a
    assert abs(cosine(once, a)) > 10 * abs(cosine(rest, a))


def test_nothing_is_removed_along_zero_and_zero_stays_zero(xp):
    x = draw(5)
    assert np.array_equal(to_host(component(xp.asarray(x), xp.asarray(0 * x)).rest), x)
    assert np.array_equal(to_host(component(xp.asarray(0 * x), xp.asarray(x)).rest), 0 * x)


@pytest.mark.parametrize("bad", BAD)
@pytest.mark.parametrize("side", [0, 1])
def test_a_member_that_is_not_finite_is_nan_and_leaves_its_neighbors(xp, bad, side):
    pair = [draw(3, 6), draw(3, 6, seed=1)]
    clean = component(*pair).rest
    pair[side] = pair[side].copy()
    pair[side][1, 2] = bad
    rest = to_host(component(xp.asarray(pair[0]), xp.asarray(pair[1])).rest)
    assert np.isnan(rest[1]).all()
    np.testing.assert_allclose(rest[[0, 2]], clean[[0, 2]], atol=1e-14)


@pytest.mark.parametrize(
    ("x", "along", "error"),
    [
        (draw(4), draw(5), ValueError),
        (draw(4), draw(4).astype(np.float32), ValueError),
        (np.arange(4), np.arange(4), TypeError),
        (draw(4) + 0j, draw(4) + 0j, TypeError),
        (np.zeros(0), np.zeros(0), ValueError),
    ],
    ids=["shape", "dtype", "integers", "complex", "empty"],
)
def test_bad_gradients_are_refused(x, along, error):
    with pytest.raises(error, match="needs"):
        OrthogonalGradient()(x, along)


# Bloop and the dynamic barrier


def straight_bloop(main, aux, average, lam, eps=0.0, bound=np.inf):
    ratio = min(average @ aux / (average @ average + eps), bound)
    return main + lam * (aux - ratio * average)


@pytest.mark.parametrize("eps", [0.0, 1e-7, 0.5])
@pytest.mark.parametrize("make", [Bloop, DynamicBarrier])
def test_the_update_is_the_formula_of_the_authors(xp, make, eps):
    method = make(lam=0.7, averaging=0.1, eps=eps)
    mains, auxes = draw(4, 6), draw(4, 6, seed=1)
    average = mains[0]
    state = method.init(xp.asarray(mains[0]))
    for main, aux in zip(mains, auxes, strict=True):
        average = average + 0.1 * (main - average)
        update, state = method.step(xp.asarray(main), xp.asarray(aux), state)
        bound = np.inf if make is Bloop else 1 / 0.7
        np.testing.assert_allclose(to_host(update), straight_bloop(main, aux, average, 0.7, eps, bound), rtol=1e-12)


def test_with_the_current_gradient_the_main_loss_falls_as_fast_as_under_its_own(xp):
    main, aux = draw(200, 8), draw(200, 8, seed=1)
    method = Bloop(lam=3.0, averaging=1.0)
    update = to_host(method.step(xp.asarray(main), xp.asarray(aux), method.init(xp.asarray(main)))[0])
    own = np.sum(main**2, axis=1)
    np.testing.assert_allclose(np.sum(update * main, axis=1), own, rtol=3 * 8 * 2 * np.finfo(float).eps * 20)
    mixed = np.sum((main + 3.0 * aux) * main, axis=1)  # the plain sum, the negative control
    assert np.min(mixed) < 0


def test_the_dynamic_barrier_never_makes_the_main_loss_slower_and_lets_the_auxiliary_one_help():
    main, aux = draw(500, 4), draw(500, 4, seed=1)
    method = DynamicBarrier(lam=2.0, averaging=1.0)
    update = method.step(main, aux, method.init(main))[0]
    own, help_ = np.sum(main**2, axis=1), 2.0 * np.sum(main * aux, axis=1)
    np.testing.assert_allclose(np.sum(update * main, axis=1), np.maximum(own, help_), rtol=1e-12)
    assert np.any(help_ > own)
    assert np.any(help_ < own)


def test_a_scale_of_the_gradients_comes_through_unless_eps_is_added():
    main, aux = draw(6), draw(6, seed=1)
    for method, homogeneous in ((Bloop(averaging=1.0), True), (Bloop(averaging=1.0, eps=1e-7), False)):
        small = method.step(1e-6 * main, 1e-6 * aux, method.init(1e-6 * main))[0] / 1e-6
        whole = method.step(main, aux, method.init(main))[0]
        assert np.allclose(small, whole, rtol=1e-10) is homogeneous


def test_the_options_are_the_authors_branches():
    main, aux, old = draw(5), draw(5, seed=1), draw(5, seed=2)
    state = Bloop.State(old)
    average = old + 0.1 * (main - old)
    ratio = average @ aux / (average @ average)
    only = Bloop(lam=0.5, ratio_only=True).step(main, aux, state)[0]
    np.testing.assert_allclose(only, (1 - 0.5 * ratio) * main + 0.5 * aux, rtol=1e-13)
    scaled = Bloop(lam=0.5, rescale=True).step(main, aux, state)[0]
    np.testing.assert_allclose(scaled, straight_bloop(main, aux, average, 0.5) / 1.5, rtol=1e-13)


def test_every_hyper_parameter_may_be_an_array_over_the_batch(xp):
    main, aux, old = draw(3, 5), draw(3, 5, seed=1), draw(3, 5, seed=2)
    lam, averaging = np.array([0.1, 1.0, 4.0]), np.array([0.1, 0.5, 1.0])
    for make in (Bloop, DynamicBarrier):
        method = make(lam=xp.asarray(lam), averaging=xp.asarray(averaging))
        together = to_host(method.step(xp.asarray(main), xp.asarray(aux), method.State(xp.asarray(old)))[0])
        for i in range(3):
            alone = make(lam=float(lam[i]), averaging=float(averaging[i]))
            np.testing.assert_allclose(together[i], alone.step(main[i], aux[i], alone.State(old[i]))[0], rtol=1e-13)


@pytest.mark.parametrize("options", [{"lam": -1.0}, {"averaging": 0.0}, {"averaging": 1.5}, {"eps": -1.0}], ids=str)
def test_bad_options_are_refused(options):
    with pytest.raises(ValueError, match=r"Bloop\.\w+ must lie in"):
        Bloop(**options)


def test_in_a_noisy_valley_the_average_keeps_the_main_loss_and_reaches_the_best_auxiliary_point():
    p = flat_valley(seed=3)
    rng = np.random.default_rng(0)

    def final(averaging):
        w, state, main = p.start, None, []
        method = Bloop(lam=1.0, averaging=averaging)
        for k in range(4000):
            g = p.main_grad(w) + 1.0 * rng.standard_normal(w.shape)
            state = method.init(g) if state is None else state
            update = g + p.aux_grad(w) if averaging is None else None
            if update is None:
                update, state = method.step(g, p.aux_grad(w), state)
            w = w - 0.02 * update
            if k >= 2000:
                main.append(p.main(w))
        return np.mean(main), p.valley_distance(w)

    averaged, current = final(0.05), final(1.0)
    w, plain = p.start, []
    for k in range(4000):
        w = w - 0.02 * (p.main_grad(w) + rng.standard_normal(w.shape) + p.aux_grad(w))
        if k >= 2000:
            plain.append(p.main(w))
    assert averaged[0] < 0.7 * current[0]
    assert averaged[0] < 0.7 * np.mean(plain)


# ODICE


def test_the_orthogonal_gradient_keeps_the_forward_one_for_every_backward_one(xp):
    f, b = draw(300, 9), 10 * draw(300, 9, seed=1)
    x = to_host(OrthogonalGradient(eta=2.0)(xp.asarray(f), xp.asarray(b)))
    np.testing.assert_allclose(np.sum(x * f, axis=1), np.sum(f * f, axis=1), rtol=1e-12)
    true = np.sum((f + 2.0 * b) * f, axis=1)  # the true gradient, the negative control
    assert np.min(true) < 0
    # also where the two agree, unlike a projection on a cone
    agree = np.sum(f * b, axis=1) > 0
    assert agree.any()
    assert np.all(np.sum(x * f, axis=1)[agree] < true[agree])


def test_on_a_chain_the_orthogonal_gradient_solves_what_the_true_gradient_slows_down():
    p = chain(states=8)
    errors = {}
    for name in ("semi", "true", "orthogonal"):
        w = np.zeros(8)
        for _ in range(400):
            f, b = p.gradients(w)
            update = {"semi": f, "true": f + b, "orthogonal": OrthogonalGradient()(f, b)}[name]
            w = w - 2.0 * update
        errors[name] = np.linalg.norm(p.features @ w - p.values())
    assert errors["semi"] < 1e-3
    assert errors["orthogonal"] < errors["true"]


# Geometric disentanglement


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("metric", [False, True], ids=["euclidean", "metric"])
def test_no_retain_loss_changes_to_first_order(xp, dtype, metric):
    g, r = draw(2, 3, 20), draw(2, 3, 4, 20, seed=1)
    m = np.exp(draw(2, 3, 20, seed=2)) if metric else None
    result = disentangle(
        xp.asarray(g, dtype=dtype), xp.asarray(r, dtype=dtype), None if m is None else xp.asarray(m, dtype=dtype)
    )
    assert result.update.shape == g.shape
    assert result.gain.shape == (2, 3)
    assert dtype_name(result.update) == dtype
    assert device_of(result.update) == xp.device
    d = to_host(result.update)
    # rounding of sqrt(M) in the basis and in the update: a few eps of |r| |d|, n = 20 products
    bound = 100 * eps_of(d) * norm(r) * norm(d)[..., None]
    assert np.all(np.abs((r.astype(dtype) @ d[..., None])[..., 0]) <= bound)
    weights = m if metric else np.ones_like(g)
    np.testing.assert_allclose(to_host(result.gain), np.sqrt(np.sum(d**2 / weights, axis=-1)), rtol=100 * eps_of(d))
    np.testing.assert_allclose(d, weights * to_host(result.gradient), rtol=100 * eps_of(d))


def test_it_is_the_formula_with_the_pseudoinverse():
    g, r, m = draw(20), draw(4, 20, seed=1), np.exp(draw(20, seed=2))
    expected = g - r.T @ np.linalg.pinv(r @ np.diag(m) @ r.T) @ r @ (m * g)
    np.testing.assert_allclose(disentangle(g, r, m).gradient, expected, atol=1e-12)


def test_projecting_before_the_metric_does_not_keep_the_retain_losses():
    g, r, m = draw(20), draw(4, 20, seed=1), np.exp(2 * draw(20, seed=2))
    right = disentangle(g, r, m).update
    wrong = m * disentangle(g, r).gradient
    assert norm(r @ right) <= 1e-13 * norm(r).max() * norm(right)
    assert norm(r @ wrong) > 0.1 * norm(wrong)


@settings(max_examples=50, deadline=None)
@given(seed=st.integers(0, 10**6), powers=st.lists(st.integers(-900, 900), min_size=4, max_size=4))
def test_powers_of_two_pass_through_every_projection_without_a_trace(seed, powers):
    g, r, rows = draw(6, seed=seed), draw(3, 6, seed=seed + 1), 2.0 ** np.array(powers[:3])
    scale = 2.0 ** powers[3]
    np.testing.assert_array_equal(component(scale * g, rows[0] * r[0]).rest, scale * component(g, r[0]).rest)
    plain, scaled = disentangle(g, r), disentangle(scale * g, rows[:, None] * r)
    np.testing.assert_array_equal(scaled.update, scale * plain.update)
    np.testing.assert_array_equal(scaled.gain, scale * plain.gain)


@settings(max_examples=50, deadline=None)
@given(seed=st.integers(0, 10**6), k=st.integers(1, 8), n=st.integers(1, 8), rank=st.integers(1, 8))
def test_the_projection_is_idempotent_and_never_lengthens(seed, k, n, rank):
    rank = min(rank, k, n)
    r, g = draw(k, rank, seed=seed) @ draw(rank, n, seed=seed + 1), draw(n, seed=seed + 2)
    once = disentangle(g, r)
    np.testing.assert_allclose(disentangle(once.gradient, r).gradient, once.gradient, atol=1e-10 * norm(g))
    assert once.gain <= norm(g) * (1 + 1e-14)
    assert g @ once.update == pytest.approx(float(once.gain) ** 2, abs=1e-12 * norm(g) ** 2)
    assert (once.gain == 0) == (rank == n)


def test_a_metric_over_many_orders_of_magnitude_neither_overflows_nor_leaks(xp):
    g, r = 1e250 * draw(10), 1e300 * draw(3, 10, seed=1)
    metric = np.geomspace(1e-8, 1e8, 10)
    d = to_host(disentangle(xp.asarray(g), xp.asarray(r), xp.asarray(metric)).update)
    assert np.isfinite(d).all()
    # d = M^1/2 (projected): rounding of a component shows as eps times the largest root over the others
    assert np.max(np.abs(cosine(d, r))) <= 1e-11


@pytest.mark.parametrize("case", ["dependent rows", "row scales", "zero row", "tiny", "huge", "one row", "more rows"])
def test_the_rank_of_the_retain_gradients_is_found(xp, case):
    g, r = draw(12), draw(3, 12, seed=1)
    rank = 3
    if case == "dependent rows":
        r = np.concatenate([r, r[:1] - 2 * r[1:2]])
    elif case == "row scales":
        r = r * np.array([1e-12, 1.0, 1e12])[:, None]
    elif case == "zero row":
        r = np.concatenate([r, np.zeros((1, 12))])
    elif case == "tiny":
        g, r = 1e-300 * g, 1e-300 * r
    elif case == "huge":
        g, r = 1e300 * g, 1e300 * r
    elif case == "one row":
        r, rank = r[:1], 1
    else:
        r = draw(20, 3, seed=3) @ r
    d = to_host(disentangle(xp.asarray(g), xp.asarray(r)).update)
    unit = r / np.where(norm(r) > 0, norm(r), 1.0)[:, None]
    assert np.max(np.abs(unit @ (d / norm(d)))) <= 1e-13
    q = np.linalg.svd(unit)[2][:rank]
    expected = g / norm(g) - q.T @ (q @ (g / norm(g)))
    np.testing.assert_allclose(d / norm(g), expected, atol=1e-12)
    assert np.linalg.matrix_rank(to_host(row_basis(xp.asarray(r)))) == rank


def test_a_forget_gradient_in_the_retain_span_has_no_safe_direction(xp):
    r = draw(4, 20, seed=1)
    for k in range(50):
        g = r.T @ draw(4, seed=k)
        result = disentangle(xp.asarray(g), xp.asarray(r))
        assert to_host(result.gain) == 0
        assert not to_host(result.update).any()
        assert not to_host(trust_region_step(xp.asarray(g), xp.asarray(r), 1.0)).any()
    nearly = to_host(disentangle(xp.asarray(g + 1e-9 * draw(20, seed=7)), xp.asarray(r)).gain)
    assert nearly > 1e-10


@pytest.mark.parametrize("share", [1e-3, 1e-6, 1e-9])
def test_an_almost_entangled_forget_gradient_still_gives_a_direction_that_is_orthogonal(xp, share):
    r, g = draw(4, 20, seed=1), draw(4) @ draw(4, 20, seed=1)
    g = g + share * norm(g) * draw(20, seed=2)
    d = to_host(disentangle(xp.asarray(g), xp.asarray(r)).update)
    q = np.linalg.qr(r.T)[0]
    once = g - q @ (q.T @ g)  # one pass leaves eps |g| along the retain gradients: the control
    assert np.abs(cosine(d, r)).max() <= 1e-14
    assert np.abs(cosine(once, r)).max() > 1e-17 / share
    # what is left is right to the rounding of g
    np.testing.assert_allclose(d, once, atol=50 * np.finfo(float).eps * norm(g))


def test_the_step_is_the_best_of_many_feasible_ones():
    g, r, m = draw(12), draw(4, 12, seed=1), np.exp(draw(12, seed=2))
    step = trust_region_step(g, r, 0.5, m)
    assert np.sum(step**2 / m) == pytest.approx(0.25, rel=1e-12)
    value = g @ step
    assert value == pytest.approx(0.5 * disentangle(g, r, m).gain, rel=1e-12)
    null = np.linalg.svd(r)[2][4:].T
    draws = draw(20000, 8, seed=3) @ null.T
    draws *= 0.5 / np.sqrt(np.sum(draws**2 / m, axis=1))[:, None]
    best = np.max(draws @ g)
    assert best <= value
    assert best > 0.8 * value  # the search is not vacuous
    euclid = m * disentangle(g, r).gradient  # feasible for the budget, not for R d = 0
    assert norm(r @ euclid) > 1e-2


def test_the_joint_update_lowers_the_weighted_retain_loss_whatever_the_forgetting():
    p = retain_forget(seed=1)
    r, g = p.retain.grad(p.start), p.forget.grad(p.start)[0]
    mean = r.mean(axis=0)
    for ascend in (0.0, 1.0, 100.0):
        x = joint_update(g, r, ascend=ascend)
        assert mean @ x == pytest.approx(mean @ mean, rel=1e-10)
    weights = np.array([0.1, 0.2, 0.3, 0.4])
    np.testing.assert_allclose(joint_update(g, r, weights=weights, ascend=0.0), weights @ r, rtol=1e-13)
    assert g @ joint_update(g, r, descend=0.0) < 0  # subtracting it raises the forget loss
    entangled = mean - 100.0 * g  # without the projection, the negative control
    assert mean @ entangled < 0


def test_the_joint_update_is_the_best_mixture_of_a_retain_part_and_a_safe_part():
    p, a, b = retain_forget(seed=2), 0.7, 1.9
    r, g = p.retain.grad(p.start), p.forget.grad(p.start)[0]
    mean, kernel = r.mean(axis=0), np.linalg.svd(r)[2][len(r) :]
    best = -joint_update(g, r, descend=a, ascend=b)
    rng = np.random.default_rng(0)
    parts = rng.standard_normal((20_000, 1 + len(kernel)))
    aim = np.append(a * norm(mean), b * kernel @ g)
    parts[::2] += 20 * aim / norm(aim)  # half of the rivals near the optimum
    parts *= (norm(best) / norm(parts))[:, None]
    values = a * norm(mean) * parts[:, 0] + b * (parts[:, 1:] @ kernel @ g)
    attained = a * norm(mean) * (-best @ mean / norm(mean)) + b * (g @ (best - mean * (best @ mean) / (mean @ mean)))
    assert attained == pytest.approx(norm(best) ** 2, rel=1e-12)
    assert values.max() <= attained
    assert values.max() > 0.95 * attained


def test_allowing_retain_losses_to_fall_forgets_at_least_as_fast(xp):
    wins = 0
    for seed in range(20):
        p = retain_forget(seed=seed)
        r, g = p.retain.grad(p.start), p.forget.grad(p.start)[0]
        d = to_host(safe_step(xp.asarray(g), xp.asarray(r), 1.0))
        assert np.max(r @ d) <= 1e-12
        assert norm(d) == pytest.approx(1.0, rel=1e-12)
        value, restricted = g @ d, g @ trust_region_step(g, r, 1.0)
        assert value >= restricted - 1e-12
        wins += value > restricted + 1e-6
    assert wins > 0


def test_the_retain_change_has_slope_two_after_the_projection_and_one_before():
    p = retain_forget(seed=0)
    r, g = p.retain.grad(p.start), p.forget.grad(p.start)[0]
    steps = 10.0 ** -np.arange(1, 4)
    slopes = {}
    for name, d in {"projected": disentangle(g, r).update, "raw": g}.items():
        change = np.abs(p.retain.value(p.start + steps[:, None] * d) - p.retain.value(p.start)).max(axis=1)
        slopes[name] = np.polyfit(np.log(steps), np.log(change), 1)[0]
    assert slopes["projected"] == pytest.approx(2, abs=0.02)
    assert slopes["raw"] == pytest.approx(1, abs=0.02)


def test_a_batch_with_a_member_that_is_not_finite(xp):
    g, r = draw(3, 8), draw(3, 2, 8, seed=1)
    clean = disentangle(g, r).update
    r[1, 0, 3] = np.nan
    update = to_host(disentangle(xp.asarray(g), xp.asarray(r)).update)
    assert np.isnan(update[1]).all()
    np.testing.assert_allclose(update[[0, 2]], clean[[0, 2]], atol=1e-14)
    assert disentangle(np.zeros((0, 5)), np.zeros((0, 2, 5))).update.shape == (0, 5)


@pytest.mark.parametrize(
    ("g", "r", "metric", "message"),
    [
        (draw(5), draw(2, 6), None, "one dtype"),
        (draw(5), draw(5), None, "one row"),
        (draw(5), draw(2, 5), -np.ones(5), "metric must lie"),
        (draw(5), draw(2, 5), np.ones(4), "diagonal of M"),
    ],
    ids=["widths", "one gradient", "negative metric", "metric shape"],
)
def test_bad_retain_input_is_refused(g, r, metric, message):
    with pytest.raises(ValueError, match=message):
        disentangle(g, r, metric)


# AdamP and SGDP


def test_the_projected_step_is_tangent_and_the_norm_grows_by_the_square_of_the_step(xp):
    w = draw(2, 6, 5)
    grad = draw(2, 6, 5, seed=1)
    grad -= w * (np.sum(grad * w, axis=-1) / np.sum(w * w, axis=-1))[..., None]  # as of a scale-invariant loss
    u = draw(2, 6, 5, seed=2)
    result = RadialProjection()(xp.asarray(u), xp.asarray(w), xp.asarray(grad))
    projected = to_host(result.update)
    assert (to_host(result.view) == 1).all()
    assert (to_host(result.decay_factor) == 0.1).all()
    assert np.max(np.abs(cosine(projected, w))) <= 1e-15 * 10
    moved = w - 0.3 * projected
    np.testing.assert_allclose(
        np.sum(moved**2, axis=-1), np.sum(w**2, axis=-1) + 0.09 * np.sum(projected**2, axis=-1), rtol=1e-14
    )


def test_the_trigger_looks_at_rows_then_at_the_matrix_then_leaves_the_update_alone():
    w, u = np.ones((3, 4)), draw(3, 4)
    by_row = np.tile([1.0, -1.0, 1.0, -1.0], (3, 1))
    by_matrix = np.repeat([[1.0], [-1.0], [0.0]], 4, axis=1)  # each row parallel to w, the whole orthogonal
    neither = np.ones((3, 4))
    for grad, view, factor in ((by_row, 1, 0.1), (by_matrix, 2, 0.1), (neither, 0, 1.0)):
        result = RadialProjection()(u, w, grad)
        assert result.view == view
        assert result.decay_factor == factor
    assert np.sum(RadialProjection()(u, w, by_matrix).update * w) == pytest.approx(0, abs=1e-14)
    assert np.array_equal(RadialProjection()(u, w, neither).update, u)


def test_the_threshold_is_delta_over_the_root_of_the_dimension():
    w = np.eye(1, 100)
    for cos, triggered in ((0.0099, True), (0.0101, False)):
        grad = cos * np.eye(1, 100) + np.sqrt(1 - cos**2) * np.eye(1, 100, 1)
        assert (RadialProjection()(draw(1, 100), w, grad).view > 0) == triggered


def test_on_a_scale_invariant_loss_momentum_grows_the_norm_faster_without_the_projection():
    a = np.diag(np.linspace(1, 10, 6))

    def run(project):
        w, m, cross, squares = draw(1, 6, seed=4), np.zeros((1, 6)), 0.0, 0.0
        start = np.sum(w**2)
        for _ in range(300):
            n2 = np.sum(w**2)
            value = (w @ a @ w.T)[0, 0] / n2
            grad = 2 * (w @ a - value * w) / n2
            m = 0.9 * m + grad
            u = RadialProjection()(m, w, grad).update if project else m
            cross += -2 * 0.05 * np.sum(w * u)
            squares += 0.05**2 * np.sum(u**2)
            w = w - 0.05 * u
        return np.sum(w**2) - start, cross, squares, value

    growth, cross, squares, value = run(True)
    assert growth == pytest.approx(squares, rel=1e-10)
    assert abs(cross) <= 1e-12 * squares
    free_growth, free_cross, free_squares, free_value = run(False)
    assert free_growth == pytest.approx(free_cross + free_squares, rel=1e-10)
    assert free_cross > free_squares  # the positive cross term
    assert free_growth > 1.5 * growth
    assert value == pytest.approx(1.0, abs=1e-3)  # both find the smallest eigenvalue
    assert free_value == pytest.approx(1.0, abs=0.1)


def test_zero_rows_and_zero_weights_are_left_alone(xp):
    u = draw(2, 3)
    w = np.array([[1.0, 0.0, 0.0], [0.0, 0.0, 0.0]])
    grad = np.array([[0.0, 1.0, 0.0], [0.0, 0.0, 1.0]])
    update = to_host(RadialProjection()(xp.asarray(u), xp.asarray(w), xp.asarray(grad)).update)
    assert update[0, 0] == 0
    np.testing.assert_array_equal(update[1], u[1])


@pytest.mark.parametrize("which", [0, 1, 2])
def test_a_matrix_that_is_not_finite_is_nan_and_leaves_its_neighbors(xp, which):
    arrays = [draw(3, 4, 5, seed=k) for k in range(3)]
    clean = RadialProjection()(*arrays).update
    arrays[which] = arrays[which].copy()
    arrays[which][1, 0, 0] = np.inf
    update = to_host(RadialProjection()(*(xp.asarray(a) for a in arrays)).update)
    assert np.isnan(update[1]).all()
    np.testing.assert_allclose(update[[0, 2]], clean[[0, 2]], atol=1e-14)


def test_empty_batches_give_empty_batches(xp):
    none = xp.asarray(np.zeros((0, 4, 5)))
    assert RadialProjection()(none, none, none).update.shape == (0, 4, 5)
    assert Lattice().write(none, none[..., 0], none[:, 0, :]).shape == (0, 4, 5)
    flat = none[:, 0, :]
    assert OrthogonalGradient()(flat, flat).shape == (0, 5)
    for make in (Bloop, DynamicBarrier):
        assert make().step(flat, flat, make().init(flat))[0].shape == (0, 5)
    assert trust_region_step(flat, none, 1.0).shape == (0, 5)
    assert safe_step(flat, none, 1.0).shape == (0, 5)
    assert joint_update(flat, none).shape == (0, 5)


# Lattice


@pytest.mark.parametrize("scale", [1e-100, 1.0, 1e100])
def test_every_write_is_orthogonal_to_its_slot(xp, scale):
    slots, key, value = scale * draw(2, 5, 8), draw(2, 5, seed=1), draw(2, 8, seed=2)
    # exact only up to the rounding of slots + change: compare with changes of the size of the slots
    change = to_host(Lattice(rate=scale**2).write(xp.asarray(slots), xp.asarray(key), xp.asarray(value))) - slots
    assert np.max(np.abs(cosine(change, slots))) <= 1e-14
    free = Lattice(rate=scale**2, orthogonal=False).write(slots, key, value) - slots
    assert np.max(np.abs(cosine(free, slots))) > 0.1  # the delta rule, the negative control


def test_the_write_is_a_gradient_step_through_the_normalization():
    slots, key, value = draw(4, 6), draw(4, seed=1), draw(6, seed=2)
    lattice = Lattice(rate=1.0)

    def loss(s):
        return 0.5 * np.sum((value - lattice.readout(s, key)) ** 2)

    change = lattice.write(slots, key, value) - slots
    h = 1e-5
    for i, j in np.ndindex(4, 6):
        bump = np.zeros((4, 6))
        bump[i, j] = h
        slope = (loss(slots + bump) - loss(slots - bump)) / (2 * h)
        assert change[i, j] == pytest.approx(-slope, abs=1e-8)  # central difference: h^2 and eps / h


def test_slots_never_get_shorter_and_a_parallel_one_stays():
    slots, lattice = draw(4, 6), Lattice(rate=0.5)
    lengths = norm(slots)
    for k in range(50):
        slots = lattice.write(slots, draw(4, seed=k), draw(6, seed=100 + k))
        assert np.all(norm(slots) >= lengths * (1 - 1e-15))
        lengths = norm(slots)
    slots = np.eye(2, 3)
    written = lattice.write(slots, np.array([1.0, 0.0]), np.array([5.0, 0.0, 0.0]))
    np.testing.assert_allclose(written, slots, atol=1e-15)


def test_repeated_writes_of_one_pair_are_recalled_and_a_zero_slot_stays_zero():
    slots, key, value = draw(6, 4), draw(6, seed=1), 0.5 * draw(4, seed=2)
    lattice = Lattice(rate=0.5)
    before = norm(value - lattice.readout(slots, key))
    for _ in range(200):
        slots = lattice.write(slots, key, value)
    assert norm(value - lattice.readout(slots, key)) < 1e-3 * before
    slots[0] = 0
    assert not lattice.write(slots, key, value)[0].any()


def test_wrong_keys_are_refused():
    with pytest.raises(ValueError, match="keys of shape"):
        Lattice().readout(draw(4, 6), draw(6))


# The registry


def test_every_rule_has_a_card_whose_sources_are_in_the_bibliography():
    for name in rules.names():
        card = rules.get(name).card
        assert card.status in ("exact", "secondary", "reconstructed")
        for key in [card.source, *re.findall(r"\[(\w+)\]", card.differences)]:
            assert f"{{{key}," in BIBLIOGRAPHY, (name, key)
        assert card.status == "exact" or card.differences, name


def test_every_citation_of_the_docstrings_is_in_the_bibliography():
    modules = {rule.rule.__module__ for rule in rules.RULES.values()}
    import importlib

    for module in modules:
        text = Path(importlib.import_module(module).__file__).read_text(encoding="utf-8")
        for group in re.findall(r"\[((?:[a-z]+\d{4}\w+(?:, )?)+)\]", text):
            for key in group.split(", "):
                assert f"{{{key}," in BIBLIOGRAPHY, (module, key)


def test_an_unknown_rule_lists_the_nearest_names():
    with pytest.raises(UnknownName, match="did you mean 'bloop'"):
        rules.get("blop")
