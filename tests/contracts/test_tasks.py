"""The generators of surgery: gradients are those of the losses, and every planted structure is there."""

from __future__ import annotations

import numpy as np
import pytest

from orthotheory.arrays import device_of, dtype_name, to_host
from orthotheory.names import UnknownName
from orthotheory.problems.tasks import (
    adapters,
    chain,
    diagonal_quadratics,
    flat_valley,
    retain_forget,
    sparse_stream,
    task_matrices,
    task_sequence,
)


def numerical_gradient(f, w, h=1e-6):
    """Central differences: errors of h^2 and eps / h, below 1e-8 for functions of size 1."""
    g = np.zeros_like(w)
    for index in np.ndindex(w.shape):
        bump = np.zeros_like(w)
        bump[index] = h
        g[index] = (f(w + bump) - f(w - bump)) / (2 * h)
    return g


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_retain_and_forget_losses_have_their_gradients_as_rows_on_every_backend(xp, dtype):
    p = retain_forget(dtype=dtype, device=xp)
    r = p.retain.grad(p.start)
    assert r.shape == (4, 20)
    assert dtype_name(r) == dtype
    assert device_of(r) == xp.device
    host = retain_forget()
    for j in range(4):
        expected = numerical_gradient(lambda w, j=j: host.retain.value(w)[j], host.start)
        np.testing.assert_allclose(to_host(r)[j], expected, atol=1e-8 if dtype == "float64" else 1e-6)
    batch = np.stack([host.start, 2 * host.start])
    np.testing.assert_allclose(host.forget.grad(batch)[1], host.forget.grad(batch[1]), rtol=1e-13)
    assert host.retain.value(batch).shape == (2, 4)


def test_far_away_the_losses_neither_overflow_nor_lose_their_slope():
    p = retain_forget()
    value = p.retain.value(1e200 * p.start)
    assert np.isfinite(value).all()
    assert np.all(np.linalg.norm(p.retain.grad(1e200 * p.start), axis=1) > 0)


def test_the_smoothness_is_a_bound_and_nearly_attained_where_the_curvature_is_largest():
    p = retain_forget(samples=1)
    bound = p.retain.smoothness()
    rng = np.random.default_rng(0)
    for _ in range(100):
        x, y = rng.standard_normal((2, 20))
        change = np.linalg.norm(p.retain.grad(x) - p.retain.grad(y), axis=1) / np.linalg.norm(x - y)
        assert np.all(change <= bound * (1 + 1e-12))
    for j in range(4):  # at z = 0 along the input the slope of tanh is 1
        a = p.retain.inputs[j, 0]
        zero = a * p.retain.targets[j, 0] / (a @ a)
        change = p.retain.grad(zero + 1e-4 * a / np.linalg.norm(a))[j] - p.retain.grad(zero)[j]
        assert np.linalg.norm(change) / 1e-4 == pytest.approx(bound[j], rel=1e-4)


def test_overlap_controls_how_entangled_forgetting_is():
    def share(overlap):
        p = retain_forget(overlap=overlap, seed=3)
        g, r = p.forget.grad(p.start)[0], p.retain.grad(p.start)
        return np.linalg.norm(r.T @ np.linalg.pinv(r.T) @ g) / np.linalg.norm(g)

    assert share(0.0) < share(0.5) < share(0.95)


def test_the_valley_is_flat_where_it_says_and_its_best_point_is_known():
    p = flat_valley()
    np.testing.assert_allclose(p.main_grad(p.start), numerical_gradient(p.main, p.start), atol=1e-8)
    best = np.where(p.curvature == 0, p.target, 0.0)
    assert p.main(best) == 0
    assert p.valley_distance(best) == 0
    moved = p.start + np.where(p.curvature == 0, 5.0, 0.0)
    assert p.main(moved) == p.main(p.start)


@pytest.mark.parametrize("shared", [0, 2, 4])
def test_tasks_share_exactly_the_stated_input_directions(xp, shared):
    tasks = task_sequence(tasks=3, rank=4, shared=shared, device=xp)
    inputs = [to_host(t.inputs) for t in tasks]
    for x in inputs:
        assert np.linalg.matrix_rank(x) == 4
    assert np.linalg.matrix_rank(np.hstack(inputs[:2])) == 8 - shared
    w = np.random.default_rng(0).standard_normal((4, 24))
    g = to_host(tasks[0].grad(xp.asarray(w)))
    host = task_sequence(tasks=3, rank=4, shared=shared)[0]
    np.testing.assert_allclose(g, numerical_gradient(lambda v: float(host.loss(v)), w), atol=1e-6)
    assert device_of(tasks[0].grad(xp.asarray(w))) == xp.device


@pytest.mark.parametrize("kind", ["random", "low-rank", "planted"])
def test_task_matrices_have_the_stated_ranks(xp, kind):
    tasks = to_host(task_matrices(kind=kind, device=xp))
    ranks = [np.linalg.matrix_rank(t) for t in tasks]
    assert ranks == {"random": [12] * 4, "low-rank": [2] * 4, "planted": [4] * 4}[kind]
    if kind == "planted":
        own = [t - tasks.mean(axis=0) for t in tasks]  # the shared part cancels
        inner = [np.sum(a * b) for i, a in enumerate(own) for b in own[i + 1 :]]
        assert np.linalg.matrix_rank(np.vstack(tasks)) == 10
        np.testing.assert_allclose(inner, inner[0], atol=1e-12)


def test_adapters_and_quadratics_are_what_they_say(xp):
    low = adapters(tasks=3, rank=2, device=xp)
    for t in to_host(low.matrices()):
        assert np.linalg.matrix_rank(t) == 2
    q = diagonal_quadratics(device=xp)
    h, w = to_host(q.curvatures), to_host(q.optima)
    joint = to_host(q.joint_minimizer())
    np.testing.assert_allclose(np.sum(h * (joint - w), axis=0), 0, atol=1e-12)
    assert h.min() >= 1e-4


def test_the_stream_is_sparse_white_and_heavy_tailed():
    stream = sparse_stream(n=6, density=0.2, seed=1)
    y = stream.draw(200_000, np.random.default_rng(0))
    np.testing.assert_allclose(y @ y.T / 200_000, np.eye(6), atol=0.03)
    x = stream.truth.T @ y
    assert np.mean(np.abs(x) > 1e-12) == pytest.approx(0.2, abs=0.01)
    assert np.mean(x**4) == pytest.approx(3 / 0.2, rel=0.05)


@pytest.mark.parametrize("features", [8, 3])
def test_the_two_gradients_of_the_chain_add_up_to_the_true_one(features):
    p = chain(states=8, features=features)
    w = np.random.default_rng(1).standard_normal(features)
    forward, backward = p.gradients(w)

    def loss(v):
        return 0.5 * np.mean(p.residual(v) ** 2)

    np.testing.assert_allclose(forward + backward, numerical_gradient(loss, w), atol=1e-8)
    if features == 8:
        assert np.abs(p.residual(p.values())).max() <= 1e-15


@pytest.mark.parametrize(
    ("call", "error"),
    [
        (lambda: task_matrices(kind="sparse"), UnknownName),
        (lambda: task_matrices(kind="planted", rank=9), ValueError),
        (lambda: task_sequence(rank=30, inputs=24), ValueError),
        (lambda: task_sequence(rank=2, shared=3), ValueError),
        (lambda: retain_forget(overlap=2.0), ValueError),
        (lambda: sparse_stream(density=0.0), ValueError),
    ],
    ids=["kind", "planted ranks", "rank", "shared", "overlap", "density"],
)
def test_impossible_requests_are_refused(call, error):
    with pytest.raises(error):
        call()
