"""Growing subspaces, truncated-SVD updating, and the task sequences built on them: what old tasks keep."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse
from conftest import eps_of, rotation
from hypothesis import given, settings
from hypothesis import strategies as st

from orthotheory.arrays import device_of, dtype_name, to_host
from orthotheory.names import UnknownName
from orthotheory.polar import polar_factor
from orthotheory.problems.tasks import LinearTask, task_sequence
from orthotheory.surgery.continual import GPM, OGD, ROGO, IF2Net, federated_basis
from orthotheory.surgery.sculpting import CoSO, sculpt
from orthotheory.surgery.sparse_svd import append_sparse_columns, dense_work, factored_svd
from orthotheory.surgery.subspace import (
    Subspace,
    append_columns,
    count_below_energy,
    frequent_directions,
    principal_angles,
    truncated_svd,
)

EPS = np.finfo(float).eps


def draw(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape)


def spanned(a, n=None):
    return Subspace.empty(a.shape[0], like=a).extend(a)


def train(task, w, project, steps=300, lr=None):
    """Gradient descent on a task with projected gradients."""
    lr = lr or 1 / np.linalg.norm(task.inputs @ task.inputs.T / task.inputs.shape[1], 2)
    for _ in range(steps):
        w = w - lr * project(task.grad(w))
    return w


# The subspace


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("side", ["left", "right"])
def test_inside_and_outside_split_a_matrix_orthogonally(xp, dtype, side):
    m = Subspace.empty(8, like=xp.asarray(np.zeros(1), dtype=dtype)).extend(xp.asarray(draw(8, 3), dtype=dtype))
    x = draw(2, 5, 8, seed=1) if side == "right" else draw(2, 8, 5, seed=1)
    inside, outside = m.inside(xp.asarray(x, dtype=dtype), side), m.outside(xp.asarray(x, dtype=dtype), side)
    assert dtype_name(outside) == dtype
    assert device_of(outside) == xp.device
    eps = eps_of(outside)
    np.testing.assert_allclose(to_host(inside) + to_host(outside), x, atol=20 * eps)
    basis = to_host(m.basis)
    product = to_host(outside) @ basis if side == "right" else basis.T @ to_host(outside)
    assert np.max(np.abs(product)) <= 8 * eps
    assert m.dimension == 3
    assert m.capacity == 5
    assert m.defect() <= 10 * eps


@settings(max_examples=50, deadline=None)
@given(seed=st.integers(0, 10**6), n=st.integers(1, 9), k=st.integers(1, 12), energy=st.floats(0, 1))
def test_a_grown_subspace_is_orthonormal_monotone_and_holds_the_energy(seed, n, k, energy):
    a, b = draw(n, k, seed=seed), draw(n, k, seed=seed + 1)
    first = Subspace.empty(n, like=a).extend_by_energy(a, energy)
    second = first.extend_by_energy(b, energy)
    assert second.defect() <= 20 * n * EPS
    assert first.dimension <= second.dimension <= n
    assert np.linalg.norm(second.inside(b, "left")) ** 2 >= energy * np.linalg.norm(b) ** 2 * (1 - 1e-12)
    if first.dimension:
        np.testing.assert_allclose(second.inside(first.basis, "left"), first.basis, atol=20 * n * EPS)
    outside = second.outside(a, "left")
    np.testing.assert_allclose(second.outside(outside, "left"), outside, atol=20 * n * EPS * (1 + np.abs(a).max()))


@pytest.mark.parametrize("side", ["left", "right"])
def test_what_is_almost_inside_is_still_projected_to_the_complement(side):
    m = spanned(draw(30, 10))
    x = m.basis @ draw(10, 6, seed=1) + 1e-9 * draw(30, 6, seed=2)
    outside = m.outside(x if side == "left" else x.T, side)
    outside = outside if side == "left" else outside.T
    assert np.abs(m.basis.T @ outside).max() <= 10 * EPS * np.abs(outside).max()
    once = x - m.basis @ (m.basis.T @ x)
    assert np.abs(m.basis.T @ once).max() > 1e3 * EPS * np.abs(once).max()  # one pass, the control


def test_a_right_projection_keeps_outputs_and_a_left_one_does_not():
    m, x, w, dw = spanned(draw(8, 3)), draw(8, 3) @ draw(3, 20, seed=1), draw(8, 8, seed=2), draw(8, 8, seed=3)
    np.testing.assert_allclose((w - m.outside(dw)) @ x, w @ x, atol=1e-13 * np.abs(w @ x).max())
    assert np.abs((w - m.outside(dw, "left")) @ x - w @ x).max() > 0.1


@pytest.mark.parametrize("scale", [1e-300, 1.0, 1e300])
def test_known_directions_are_dropped_at_every_scale_and_new_ones_kept(xp, scale):
    a = draw(10, 3)
    m = Subspace.empty(10, like=xp.asarray(a)).extend(xp.asarray(scale * a))
    assert m.dimension == 3
    inside = a @ draw(3, 4, seed=1)
    assert m.extend(xp.asarray(scale * inside)).dimension == 3
    new = np.concatenate([inside, draw(10, 2, seed=2) * np.array([1e-8, 1.0])], axis=1)
    more = m.extend(xp.asarray(scale * new))
    assert more.dimension == 5
    assert more.defect() <= 1e-14
    full = more.extend(xp.asarray(draw(10, 30, seed=3)))
    assert full.dimension == 10
    assert full.capacity == 0
    assert np.abs(to_host(full.outside(xp.asarray(draw(4, 10))))).max() <= 1e-14


def test_hundreds_of_extensions_leave_the_basis_orthonormal():
    m = Subspace.empty(200, like=np.zeros(1))
    common = draw(200, 1)
    for k in range(190):  # nearly parallel vectors, where one pass of Gram-Schmidt fails
        m = m.extend(common + 1e-6 * draw(200, 1, seed=k))
    assert m.dimension == 190
    assert m.defect() <= 200 * EPS
    naive = [common[:, 0] / np.linalg.norm(common)]
    for k in range(20):  # the negative control
        v = common[:, 0] + 1e-6 * draw(200, 1, seed=k)[:, 0]
        v = v - np.stack(naive, 1) @ (np.stack(naive, 1).T @ v)
        naive.append(v / np.linalg.norm(v))
    assert np.linalg.norm(np.stack(naive) @ np.stack(naive).T - np.eye(21), 2) > 1e-11


def test_the_energy_rule_takes_the_smallest_rank_that_reaches_the_share(xp):
    s = np.array([4.0, 2.0, 1.0, 0.5])
    u, v = rotation(9, np.random.default_rng(0)), rotation(6, np.random.default_rng(1))
    a = u[:, :4] * s @ v[:, :4].T
    shares = np.cumsum(s**2) / np.sum(s**2)
    for energy, rank in [(0.0, 0), (shares[0] - 1e-9, 1), (shares[0] + 1e-9, 2), (shares[2] + 1e-9, 4), (1.0, 4)]:
        m = Subspace.empty(9, like=xp.asarray(a)).extend_by_energy(xp.asarray(a), energy)
        assert m.dimension == rank, energy
    # what an earlier subspace already holds counts
    first = spanned(u[:, :1])
    assert first.extend_by_energy(a, shares[0] - 1e-9).dimension == 1
    assert first.extend_by_energy(a, shares[1]).dimension == 2


def test_the_rank_of_the_authors_first_task_is_one_less():
    s = np.array([4.0, 2.0, 1.0])
    for energy in (0.5, 0.9, 0.99):
        text = next(r for r in range(4) if np.sum(s[:r] ** 2) >= energy * np.sum(s**2))
        assert count_below_energy(s, energy) == text - 1
    assert count_below_energy(np.zeros(3), 0.9) == 0
    a = draw(10, 30)
    empty = Subspace.empty(10, like=a)
    assert GPM(0.9, first="code").learn(empty, a).dimension == GPM(0.9).learn(empty, a).dimension - 1


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda m: m.outside(draw(4, 7)), "acts on the right"),
        (lambda m: m.outside(draw(4, 8).astype(np.float32)), "dtype float64"),
        (lambda m: m.extend(np.full((8, 1), np.nan)), "finite"),
        (lambda m: m.extend_by_energy(draw(8, 3), 1.5), "energy must lie"),
        (lambda m: Subspace(draw(3, 5)), "orthonormal basis"),
        (lambda m: truncated_svd(draw(4, 4), 0), "positive integer"),
        (lambda m: append_columns(truncated_svd(draw(4, 4), 2), draw(5, 1), 2), "append_columns needs"),
    ],
    ids=["width", "dtype", "nan", "energy", "basis", "rank", "columns"],
)
def test_bad_input_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call(spanned(draw(8, 2)))


def test_an_unknown_side_lists_the_right_ones():
    with pytest.raises(UnknownName, match="did you mean 'right'"):
        spanned(draw(8, 2)).outside(draw(8, 8), "rigt")


def test_principal_angles_are_accurate_at_both_ends(xp):
    rng = np.random.default_rng(0)
    q = rotation(12, rng)
    angles = np.array([1e-12, 1e-6, 0.3, np.pi / 2 - 1e-9])
    a = q[:, :4]
    b = a * np.cos(angles) + q[:, 4:8] * np.sin(angles)
    found = to_host(principal_angles(xp.asarray(a), xp.asarray(b @ rotation(4, rng))))
    np.testing.assert_allclose(found, angles, atol=20 * EPS)


# Truncated-SVD updating


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_low_rank_matrices_are_tracked_exactly(xp, dtype):
    a = draw(2, 20, 4) @ draw(2, 4, 40, seed=1)
    f = truncated_svd(xp.asarray(a[..., :10], dtype=dtype), 4)
    for k in range(10, 40, 3):
        f = append_columns(f, xp.asarray(a[..., k : k + 3], dtype=dtype), 4)
    assert dtype_name(f.u) == dtype
    assert device_of(f.u) == xp.device
    eps = eps_of(f.u)
    u, s, vh = (to_host(x) for x in f[:3])
    np.testing.assert_allclose((u * s[..., None, :]) @ vh, a, atol=1000 * eps)
    np.testing.assert_allclose(s, np.linalg.svd(a, compute_uv=False)[..., :4], rtol=100 * eps)
    for q in (u, np.swapaxes(vh, -1, -2)):
        assert np.max(np.abs(np.swapaxes(q, -1, -2) @ q - np.eye(4))) <= 50 * eps  # ten updates of a few eps each
    # the first update of a rank-4 matrix drops rounding alone
    assert np.all(to_host(f.discarded) <= 100 * eps * s[..., 0])


def test_the_error_stays_within_what_was_discarded():
    a = draw(30, 60)
    f = truncated_svd(a[:, :5], 5)
    for k in range(5, 60, 5):
        f = append_columns(f, a[:, k : k + 5], 5)
        error = np.linalg.norm((f.u * f.s) @ f.vh - a[:, : k + 5])
        best = np.linalg.norm(np.linalg.svd(a[:, : k + 5], compute_uv=False)[5:])
        assert best - 1e-12 <= error <= f.discarded * (1 + 1e-12)
    assert error < 1.5 * best
    assert f.discarded > 1.2 * error  # a sum of norms, not a sharp bound


def test_one_update_is_the_best_approximation_of_the_extended_truncation():
    a, e = draw(12, 9), draw(12, 4, seed=1)
    f = truncated_svd(a, 3)
    low = (f.u * f.s) @ f.vh
    g = append_columns(f, e, 3)
    expected = truncated_svd(np.concatenate([low, e], axis=1), 3)
    np.testing.assert_allclose((g.u * g.s) @ g.vh, (expected.u * expected.s) @ expected.vh, atol=1e-13)
    assert g.discarded == pytest.approx(f.discarded + expected.discarded, rel=1e-13)


@pytest.mark.parametrize("case", ["zero columns", "known columns", "tiny columns", "huge"])
def test_columns_that_bring_nothing_new_leave_the_bases_orthonormal(xp, case):
    f = truncated_svd(xp.asarray(draw(10, 6) * (1e150 if case == "huge" else 1.0)), 4)
    columns = {
        "zero columns": np.zeros((10, 2)),
        "known columns": to_host(f.u) @ draw(4, 2),
        "tiny columns": 1e-200 * draw(10, 2),
        "huge": 1e150 * draw(10, 2),
    }[case]
    for _ in range(5):
        f = append_columns(f, xp.asarray(columns), 4)
    u, vh = to_host(f.u), to_host(f.vh)
    assert np.max(np.abs(u.T @ u - np.eye(4))) <= 30 * EPS
    assert np.max(np.abs(vh @ vh.T - np.eye(4))) <= 30 * EPS
    assert np.isfinite(to_host(f.discarded))


@pytest.mark.parametrize("columns", [2, 12])
def test_a_rank_beyond_that_of_the_matrix_makes_no_directions_up(xp, columns):
    a = draw(10, 3)
    known = a @ draw(3, columns, seed=1)
    f = truncated_svd(xp.asarray(a[:, :2]), 2)
    for extra in (known, np.zeros((10, columns)), known, a):
        f = append_columns(f, xp.asarray(extra), 6)
    u, s = to_host(f.u), to_host(f.s)
    assert np.sum(s > 0) == 3
    gram = u.T @ u
    np.testing.assert_allclose(gram, np.diag((s > 0).astype(float)), atol=50 * EPS)
    everything = np.hstack([a[:, :2], known, np.zeros((10, columns)), known, a])
    np.testing.assert_allclose((u * s) @ to_host(f.vh), everything, atol=1e-12)
    np.testing.assert_allclose(s[:3], np.linalg.svd(everything, compute_uv=False)[:3], rtol=1e-12)


def test_updates_of_a_wide_subspace_follow_a_rotating_one():
    rng = np.random.default_rng(0)
    q = rotation(20, rng)
    f = truncated_svd(q[:, :3] @ draw(3, 30), 3)
    for k in range(200):
        f = append_columns(f, 3 * q[:, 3:6] @ draw(3, 5, seed=k), 3)
    assert np.max(to_host(principal_angles(f.u, q[:, 3:6]))) < 1e-3
    assert np.max(np.abs(f.u.T @ f.u - np.eye(3))) <= 200 * 5 * EPS  # a few eps an update, and no re-orthogonalization


def sparse_columns(m, c, density, seed):
    return scipy.sparse.random(m, c, density=density, random_state=seed, format="csc")


def test_sparse_updates_agree_with_dense_ones_at_a_fraction_of_the_work():
    m, k, c = 2000, 6, 6
    first = sparse_columns(m, 30, 0.02, 0).toarray()
    f, d, work = factored_svd(first, k), truncated_svd(first, k), 0
    columns = [first]
    for i in range(30):
        e = sparse_columns(m, c, 0.005, i + 1)
        f, d = append_sparse_columns(f, e), append_columns(d, e.toarray(), k)
        columns.append(e.toarray())
        work += dense_work(m, 30 + c * i, k, c)
    u, v = f.left(), f.right()
    for q in (u, v):
        assert np.linalg.norm(q.T @ q - np.eye(k)) <= 30 * 50 * EPS  # a few eps an update and direction
    np.testing.assert_allclose(f.s, d.s, rtol=1e-12)
    assert np.max(principal_angles(np.linalg.qr(u)[0], d.u)) <= 1e-11
    assert f.discarded == pytest.approx(float(d.discarded), rel=1e-12)
    a = np.hstack(columns)
    assert np.linalg.norm((u * f.s) @ v.T - a) <= f.discarded
    assert 10 * f.work < work


def test_a_low_rank_sparse_matrix_is_tracked_exactly_through_a_complete_change_of_its_subspace():
    m, k = 300, 3
    old, new = sparse_columns(m, k, 0.1, 1).toarray(), sparse_columns(m, k, 0.1, 2).toarray()
    f, d = factored_svd(old @ draw(k, 8), k), truncated_svd(old @ draw(k, 8), k)
    for i in range(12):  # ever larger columns of another subspace: the old one is forgotten, mix becomes singular
        e = 10.0 ** min(i, 10) * new @ draw(k, 4, seed=i)
        f, d = append_sparse_columns(f, scipy.sparse.csc_array(e)), append_columns(d, e, k)
    # columns nearly inside the span: orthonormality goes by the squared sine, here down to 1e-3
    assert np.linalg.norm(f.left().T @ f.left() - np.eye(k)) <= 1e-9
    # what is new by less than sqrt(eps) counts as known, so that spans agree to that
    assert np.max(principal_angles(np.linalg.qr(f.left())[0], d.u)) <= 10 * np.sqrt(EPS)
    assert np.max(principal_angles(d.u, np.linalg.qr(new)[0])) <= 1e-6
    np.testing.assert_allclose(f.s, d.s, rtol=1e-9)
    exact = factored_svd(new @ draw(k, 8), k)
    mixture = new @ draw(k, 5, seed=3)
    g = append_sparse_columns(exact, scipy.sparse.csc_array(mixture))
    whole = np.hstack([new @ draw(k, 8), mixture])
    np.testing.assert_allclose((g.left() * g.s) @ g.right().T, whole, atol=1e-12 * np.abs(whole).max() * 10)


@pytest.mark.parametrize("sine", [1e-2, 1e-4, 1e-6])
def test_the_sparse_update_loses_orthonormality_by_the_squared_sine_and_the_dense_one_does_not(sine):
    f = factored_svd(draw(50, 5), 5)
    u = f.left()
    outside = draw(50, 1, seed=1)
    outside -= u @ (u.T @ outside)
    e = u @ draw(5, 1, seed=2)
    e = 100 * (e / np.linalg.norm(e) + sine * outside / np.linalg.norm(outside))
    sparse = append_sparse_columns(f, scipy.sparse.csc_array(e))
    dense = append_columns(truncated_svd(draw(50, 5), 5), e, 6)  # the new direction is kept
    assert np.linalg.norm(sparse.left().T @ sparse.left() - np.eye(5)) <= 20 * EPS / sine**2
    assert dense.s[5] > 0
    assert np.linalg.norm(dense.u.T @ dense.u - np.eye(6)) <= 20 * EPS
    np.testing.assert_allclose(sparse.s, dense.s[:5], rtol=1e-10)


@pytest.mark.parametrize(
    ("columns", "error", "message"),
    [
        (np.zeros((20, 2)), TypeError, "SciPy sparse"),
        (scipy.sparse.csc_array((19, 2)), ValueError, r"columns \(20, c\)"),
        (scipy.sparse.csc_array(np.full((20, 1), np.nan)), ValueError, "finite"),
    ],
    ids=["dense", "rows", "nan"],
)
def test_bad_sparse_columns_are_refused(columns, error, message):
    with pytest.raises(error, match=message):
        append_sparse_columns(factored_svd(draw(20, 4), 3), columns)


def test_columns_without_entries_change_nothing_and_a_start_without_rank_is_refused():
    f = factored_svd(draw(20, 4), 3)
    g = append_sparse_columns(f, scipy.sparse.csc_array((20, 2)))
    before, after = (f.left() * f.s) @ f.right().T, (g.left() * g.s) @ g.right().T
    np.testing.assert_allclose(after[:, :4], before, atol=1e-13)
    assert not g.right()[4:].any()
    with pytest.raises(ValueError, match="rank at least 3"):
        factored_svd(draw(20, 2) @ draw(2, 5), 3)


@pytest.mark.parametrize("size", [2, 5, 12])
def test_the_sketch_never_exceeds_the_gram_matrix_and_misses_by_the_stated_share(xp, size):
    rows = draw(60, 10) * np.linspace(3, 0.1, 10)
    sketch = xp.asarray(np.zeros((size, 10)))
    for k in range(0, 60, 4):
        sketch = frequent_directions(sketch, xp.asarray(rows[k : k + 4]))
    b = to_host(sketch)
    missing = rows.T @ rows - b.T @ b
    top = np.linalg.norm(rows, 2) ** 2
    eigenvalues = np.linalg.eigvalsh(missing)
    assert eigenvalues[0] >= -100 * EPS * top
    s = np.linalg.svd(rows, compute_uv=False)
    bounds = [np.sum(s[j:] ** 2) / (size + 1 - j) for j in range(min(size, 10) + 1)]
    assert eigenvalues[-1] <= min(bounds) + 100 * EPS * top
    if size == 2:
        assert eigenvalues[-1] > 0.1 * min(bounds)


def test_a_sketch_does_not_ignore_a_direction_that_keeps_coming_below_the_largest_one(xp):
    sketch, row = xp.asarray(np.eye(1, 2)), xp.asarray(np.array([[0.0, 0.9]]))
    truncated = np.eye(1, 2)
    for _ in range(50):
        sketch = frequent_directions(sketch, row)
        _, s, vh = np.linalg.svd(np.vstack([truncated, to_host(row)]))
        truncated = s[:1, None] * vh[:1]
    gram = np.diag([1.0, 50 * 0.81])
    b = to_host(sketch)
    assert np.linalg.norm(gram - b.T @ b, 2) <= 1 + 1e-12  # |A - A_1|^2 / (1 + 1 - 1)
    assert np.linalg.norm(gram - truncated.T @ truncated, 2) > 40  # plain truncation never looks: the control


# OGD and GPM


def test_ogd_is_the_complement_of_the_stored_gradients(xp):
    stored, g = draw(4, 15), draw(3, 15, seed=1)
    memory = OGD().learn(Subspace.empty(15, like=xp.asarray(g)), xp.asarray(stored))
    projected = to_host(OGD().project(memory, xp.asarray(g)))
    assert np.max(np.abs(projected @ stored.T)) <= 1e-13
    np.testing.assert_allclose(projected, g - g @ np.linalg.pinv(stored) @ stored, atol=1e-13)


def test_ogd_keeps_old_outputs_to_first_order_at_the_stored_point_only():
    x, w0 = draw(3, 10), draw(10, seed=1)

    def outputs(w):
        return np.tanh(x @ w)

    jacobian = (1 - outputs(w0) ** 2)[:, None] * x
    memory = OGD().learn(Subspace.empty(10, like=w0), jacobian)
    d = OGD().project(memory, draw(10, seed=2))
    moved = [np.abs(outputs(w0 + h * d) - outputs(w0)).max() for h in (1e-1, 1.0)]
    assert moved[1] <= 1e-13  # here the outputs depend on x w alone: exactly kept

    def square(w):
        return x @ (w * w)

    memory = OGD().learn(Subspace.empty(10, like=w0), 2 * x * w0)
    d = OGD().project(memory, draw(10, seed=2))
    change = [np.abs(square(w0 + h * d) - square(w0)).max() for h in (1e-2, 1e-1)]
    assert change[1] / change[0] == pytest.approx(100, rel=1e-6)  # second order, not zero


def test_gpm_with_all_the_energy_forgets_nothing_until_the_capacity_is_used(xp):
    tasks = task_sequence(tasks=7, inputs=24, rank=4, seed=1, device=xp)
    gpm, w = GPM(energy=1.0), xp.asarray(np.zeros((4, 24)))
    memory, losses, capacities = Subspace.empty(24, like=w), [], []
    for task in tasks:
        before = [float(t.loss(w)) for t in tasks[: len(losses)]]
        w = train(LinearTask(*task), w, lambda g, m=memory: gpm.project(m, g), steps=150, lr=0.3)
        for old, loss in zip(tasks, before, strict=False):
            assert float(old.loss(w)) == pytest.approx(loss, abs=1e-10)
        memory = gpm.learn(memory, task.inputs)
        losses.append(float(task.loss(w)))
        capacities.append(memory.capacity)
    assert capacities == [20, 16, 12, 8, 4, 0, 0]  # the capacity curve: monotone, by the rank of each task
    assert max(losses[:3]) < 1e-3 * losses[-1]  # early tasks are learned, the seventh has nothing left
    assert losses[-1] == pytest.approx(float(tasks[-1].loss(w)), rel=1e-12)


def test_without_the_projection_the_same_sequence_is_forgotten():
    tasks = task_sequence(tasks=3, inputs=24, rank=4, shared=2, seed=1)
    w = train(tasks[0], np.zeros((4, 24)), lambda g: g)
    first = tasks[0].loss(w)
    w = train(tasks[1], w, lambda g: g)
    assert tasks[0].loss(w) > 100 * first + 0.1


@pytest.mark.parametrize("energy", [0.5, 0.8, 0.95])
def test_gpm_forgets_no_more_than_the_discarded_energy_allows(energy):
    for seed in range(20):
        a = draw(12, 40, seed=seed) * np.linspace(2, 0.05, 12)[:, None]
        memory = GPM(energy).learn(Subspace.empty(12, like=a), a)
        dw = GPM(energy).project(memory, draw(5, 12, seed=100 + seed))
        change = np.linalg.norm(dw @ a)
        assert change <= np.linalg.norm(dw, 2) * np.sqrt(1 - energy) * np.linalg.norm(a) * (1 + 1e-12)
        assert change > 0


def test_the_polar_factor_of_a_projected_gradient_keeps_old_outputs_and_the_sign_does_not():
    a = draw(20, 6) @ draw(6, 30, seed=1)
    memory = GPM(1.0).learn(Subspace.empty(20, like=a), a)
    g = GPM().project(memory, draw(8, 20, seed=2))
    size = np.abs(a).max()
    assert np.abs(polar_factor(g) @ a).max() <= 1e-13 * size
    assert np.abs(np.sign(g) @ a).max() > 0.1 * size


# ROGO


def planted_overlap(shared, seed=0):
    """An old subspace of dimension 6, and a gradient whose row space shares the given directions with it."""
    q = rotation(16, np.random.default_rng(seed))
    memory = Subspace(q[:, :6])
    directions = np.concatenate([q[:, :shared], q[:, 6:9]], axis=1)
    gradient = draw(8, shared + 3, seed=seed) @ directions.T
    return memory, gradient, q


@pytest.mark.parametrize("shared", [0, 1, 3])
def test_rogo_relaxes_exactly_the_shared_directions(xp, shared):
    memory, gradient, q = planted_overlap(shared)
    memory = Subspace(xp.asarray(memory.basis))
    frozen, relaxed, cosines = ROGO(energy=1.0).relax(memory, xp.asarray(gradient))
    assert relaxed.dimension == shared
    assert frozen.dimension == 6 - shared
    np.testing.assert_allclose(to_host(cosines)[:shared], 1.0, atol=1e-14)
    if shared:
        assert np.max(to_host(principal_angles(relaxed.basis, xp.asarray(q[:, :shared])))) <= 1e-13
    both = np.concatenate([to_host(frozen.basis), to_host(relaxed.basis)], axis=1)
    assert np.linalg.norm(both.T @ both - np.eye(6)) <= 1e-13
    assert np.max(to_host(principal_angles(xp.asarray(both), memory.basis))) <= 1e-13


def greedy(memory, gradient, cosine):
    """The authors' loop, one direction at a time; for the comparison."""
    u, s, _ = np.linalg.svd(gradient.T, full_matrices=False)
    u = u[:, s > 1e-10 * s[0]]
    m, count = memory.basis, 0
    while m.shape[1]:
        _, vectors = np.linalg.eigh(m.T @ u @ u.T @ m)
        direction = m @ vectors[:, -1]
        if np.linalg.norm(u @ (u.T @ direction)) < cosine:
            break
        m = np.linalg.svd(m - np.outer(direction, direction @ m), full_matrices=False)[0][:, : m.shape[1] - 1]
        count += 1
    return count, m


@pytest.mark.parametrize("cosine", [0.5, 0.7, 0.9])
def test_one_shot_relaxation_is_the_greedy_one(cosine):
    for seed in range(10):
        memory, gradient = spanned(draw(12, 6, seed=seed)), draw(5, 12, seed=50 + seed)
        frozen, relaxed, _ = ROGO(energy=1.0, cosine=cosine).relax(memory, gradient)
        count, left = greedy(memory, gradient, cosine)
        assert relaxed.dimension == count
        if left.shape[1]:
            assert np.max(principal_angles(left, frozen.basis)) <= 1e-7  # arcs of eigenvectors: square root of rounding


def test_rogo_forgets_no_more_than_the_relaxed_block_moves():
    memory, gradient, _ = planted_overlap(2)
    rogo = ROGO(energy=1.0)
    frozen, relaxed, _ = rogo.relax(memory, gradient)
    w, q = draw(8, 16, seed=1), np.eye(2) + 0.3 * draw(2, 2, seed=2)
    moved = rogo.effective_weight(w, relaxed, q)
    x = memory.basis @ draw(6, 30, seed=3)
    forgetting = np.linalg.norm((moved - w) @ x)
    bound = np.linalg.norm(w @ relaxed.basis @ (q - np.eye(2)), 2) * np.linalg.norm(relaxed.basis.T @ x)
    assert 0.2 * bound < forgetting <= bound * (1 + 1e-12)
    still = frozen.basis @ draw(4, 30, seed=4)  # what stays frozen is not forgotten at all
    assert np.abs((moved - w) @ still).max() <= 1e-13
    np.testing.assert_allclose(rogo.effective_weight(w, relaxed, np.eye(2)), w, atol=1e-14)


def test_rogo_transfers_where_the_hard_projection_cannot():
    memory, _, q = planted_overlap(2)
    x = np.concatenate([q[:, :2], q[:, 6:9]], axis=1) @ draw(5, 40, seed=5)
    task = LinearTask(x, draw(4, 16, seed=6) @ x)
    w = train(task, draw(4, 16, seed=7), memory.outside, steps=800)
    hard = task.loss(w)
    _, relaxed, _ = ROGO(energy=1.0).relax(memory, task.grad(draw(4, 16, seed=7)))
    s = relaxed.basis
    assert relaxed.dimension == 2
    q_learned = np.linalg.lstsq(w @ s, (w + (task.targets - w @ x) @ np.linalg.pinv(x)) @ s, rcond=None)[0]
    best = task.loss(ROGO().effective_weight(w, relaxed, q_learned))
    assert best < 0.9 * hard


# Federated orthogonal training and IF2Net


def clients(count=10, inputs=30, rank=6, samples=25, seed=0):
    q = rotation(inputs, np.random.default_rng(seed))[:, :rank]
    return [q @ draw(rank, samples, seed=seed + 1 + k) for k in range(count)], q


def test_the_federated_basis_is_the_pooled_one_once_the_sketch_has_its_rank(xp):
    activations, q = clients()
    for sketch in (6, 10):
        basis = federated_basis([xp.asarray(a) for a in activations], sketch, rng=0)
        assert basis.dimension == 6
        assert np.max(to_host(principal_angles(basis.basis, xp.asarray(q)))) < 1e-10
    assert federated_basis(activations, 3, rng=0).dimension == 3  # too small a sketch misses directions


def test_noisy_clients_agree_with_the_pooled_subspace_within_a_tenth_of_a_radian():
    activations, _ = clients(samples=60)
    noisy = [a + 0.02 * draw(*a.shape, seed=90 + k) for k, a in enumerate(activations)]
    pooled = np.linalg.svd(np.concatenate(noisy, axis=1), full_matrices=False)[0][:, :6]
    angles = {}
    for sketch in (6, 60):
        basis = federated_basis(noisy, sketch, rng=1, energy=0.99)
        leading = Subspace(basis.basis[:, :6])
        angles[sketch] = np.max(principal_angles(leading.basis, pooled))
    assert angles[60] < 0.1
    assert angles[60] < angles[6]


def test_one_common_mixing_can_cancel_the_inputs_of_clients():
    a = draw(12, 20)
    assert federated_basis([a, -a], 12, rng=0, common=True).dimension == 0
    assert federated_basis([a, -a], 12, rng=0).dimension == 12


def test_projecting_at_the_server_keeps_old_outputs_and_adam_at_the_clients_does_not():
    activations, _ = clients()
    memory = federated_basis(activations, 10, rng=0)
    updates = [memory.outside(draw(5, 30, seed=k)) for k in range(10)]
    adam = [u / np.abs(u) for u in updates]  # the first step of Adam is a sign
    for a in activations:
        assert np.abs(sum(updates) @ a).max() <= 1e-12
        assert np.abs(memory.outside(sum(adam)) @ a).max() <= 1e-12
        assert np.abs(sum(adam) @ a).max() > 1.0
    longer = federated_basis([draw(30, 40, seed=5)[:, :2]], 4, rng=0, memory=memory)
    assert longer.dimension == 8


def test_no_clients_are_refused():
    with pytest.raises(ValueError, match="at least one client"):
        federated_basis([], 3, rng=0)


@pytest.mark.parametrize("alpha", [1e-2, 1e-4, 1e-6])
def test_the_recursive_projector_is_the_ridge_inverse(xp, alpha):
    h = draw(10, 4)
    p = to_host(IF2Net(alpha).learn(IF2Net(alpha).init(10, like=xp.asarray(h)), xp.asarray(h)))
    expected = np.linalg.inv(np.eye(10) + h @ h.T / alpha)
    np.testing.assert_allclose(p, expected, atol=1e4 * EPS / alpha**0.5)
    limit = spanned(h).outside(np.eye(10))
    assert np.abs(p - limit).max() <= alpha / np.linalg.svd(h, compute_uv=False)[-1] ** 2


def test_without_a_ridge_the_projector_is_exact_and_old_outputs_stay_until_the_features_are_exhausted(xp):
    rule = IF2Net()
    p = rule.init(20, like=xp.asarray(np.zeros(1)))
    w, kept, ranks = xp.asarray(draw(3, 20)), [], []
    for task in range(10):
        h = xp.asarray(np.tanh(draw(20, 3, seed=task)))
        w = w + rule.project(p, xp.asarray(draw(3, 20, seed=50 + task)))
        for old, outputs in kept:
            assert np.abs(to_host(w @ old) - outputs).max() <= 1e-8
        kept.append((h, to_host(w @ h)))
        p = rule.learn(p, h)
        host = to_host(p)
        np.testing.assert_allclose(host @ host, host, atol=1e-11)
        ranks.append(round(float(np.trace(host))))
    assert ranks == [17, 14, 11, 8, 5, 2, 0, 0, 0, 0]  # nothing more can be learned: capacity ends at the dimension


# CoSO


@pytest.mark.parametrize("carry", ["rotate", "reset"])
def test_coso_never_moves_what_is_in_the_memory_whatever_adam_does(xp, carry):
    tasks = task_sequence(tasks=5, outputs=12, inputs=8, rank=8, seed=2, device=xp)
    rule = CoSO(lr=0.05, rank=2, sketch_rank=4, interval=5, energy=0.9, carry=carry)
    w, memory = xp.asarray(draw(12, 8)), None
    for task in tasks:
        state, start = rule.init(w, memory), w
        loss = float(task.loss(w))
        for _ in range(40):
            w, state = rule.step(w, task.grad(w), state)
        if memory is not None and memory.dimension:
            change = to_host(memory.basis).T @ to_host(w - start)
            assert np.abs(change).max() <= 1e-12
        if memory is None or memory.capacity > 4:
            assert float(task.loss(w)) < 0.9 * loss
        grown = rule.end_task(state)
        assert grown.dimension >= (memory.dimension if memory else 0)
        assert grown.defect() <= 1e-13
        memory = grown
    assert memory.dimension > 4


def test_coso_captures_the_energy_of_a_low_rank_gradient():
    g = draw(10, 2) @ draw(2, 6, seed=1)
    rule = CoSO(rank=2)
    w = np.zeros((10, 6))
    _, state = rule.step(w, g, rule.init(w))
    assert np.linalg.norm(state.p @ (state.p.T @ g) - g) <= 1e-13 * np.linalg.norm(g)
    assert rule.end_task(state).dimension == 2


@pytest.mark.parametrize("carry", ["rotate", "reset"])
def test_a_change_of_subspace_carries_the_momentum_as_a_matrix(carry):
    rule, w = CoSO(rank=2, interval=3, carry=carry), np.zeros((6, 5))
    state = rule.init(w)
    for k in range(3):
        w, state = rule.step(w, draw(6, 5, seed=k), state)
    g, momentum = draw(6, 5, seed=9), state.p @ state.first
    _, after = rule.step(w, g, state)
    kept = momentum if carry == "rotate" else 0 * momentum
    inside = after.p @ after.p.T
    assert np.linalg.norm(inside - state.p @ state.p.T) > 0.1  # the subspace did change
    np.testing.assert_allclose(after.p @ after.first, inside @ (0.9 * kept + 0.1 * g), atol=1e-13)


def test_a_zero_gradient_moves_nothing():
    rule = CoSO()
    w = draw(6, 5)
    moved, state = rule.step(w, np.zeros((6, 5)), rule.init(w))
    assert np.array_equal(moved, w)
    assert rule.end_task(state).dimension == 0


# Sculpting subspaces


def sculpted_run(w, project_gradient, project_update, adam, steps=50):
    s = sculpt(w, 3)
    target = draw(*w.shape, seed=9)
    moments = None
    for k in range(steps):
        grads = s.gradients(s.weight() - target)
        if project_gradient:
            grads = s.project(*grads)
        if adam:
            if moments is None:
                moments = [(0 * g, 0 * g) for g in grads]
            moments = [(0.9 * m + 0.1 * g, 0.99 * v + 0.01 * g * g) for (m, v), g in zip(moments, grads, strict=True)]
            grads = [(m / (1 - 0.9 ** (k + 1))) / (np.sqrt(v / (1 - 0.99 ** (k + 1))) + 1e-8) for m, v in moments]
        if project_update:
            grads = s.project(*grads)
        s = s.move(*(-0.02 * g for g in grads))
    return sculpt(w, 3).leak(s.weight()), np.linalg.norm(s.weight() - target), np.linalg.norm(w - target)


def test_the_frozen_block_stays_under_projected_gradient_descent_and_under_adam_only_if_the_update_is_projected():
    w = draw(8, 10)
    plain, loss, start = sculpted_run(w, True, False, adam=False)
    assert plain <= 1e-13
    assert loss < start
    assert sculpted_run(w, True, False, adam=True)[0] > 1e-3
    projected, loss, start = sculpted_run(w, True, True, adam=True)
    assert projected <= 1e-13
    assert loss < start
    assert sculpted_run(w, False, False, adam=False)[0] > 1e-3  # without a projection, the negative control


def test_the_factor_gradients_are_those_of_the_loss(xp):
    w, target, h = draw(5, 6), draw(5, 6, seed=1), 1e-6
    s = sculpt(xp.asarray(w), 2)
    grads = [to_host(g) for g in s.gradients(s.weight() - xp.asarray(target))]

    def loss(*change):
        moved = s.move(*(xp.asarray(c) for c in change))
        return 0.5 * np.sum((to_host(moved.weight()) - target) ** 2)

    for i, g in enumerate(grads):
        index = tuple(0 for _ in g.shape)
        change = [np.zeros(x.shape) for x in grads]
        change[i][index] = h
        up = loss(*change)
        change[i][index] = -h
        assert g[index] == pytest.approx((up - loss(*change)) / (2 * h), abs=1e-7)
    np.testing.assert_allclose(to_host(s.weight()), w, atol=1e-14)
    assert float(s.leak(s.weight())) <= 1e-14


def test_a_rank_without_a_low_block_is_refused():
    with pytest.raises(ValueError, match="rank must lie between 1 and"):
        sculpt(draw(4, 4), 4)
