"""The kernel of cone projections, compiled by g++, against the pivoting in NumPy and the exact projector.

Tolerance: a solution on a Gramian with pivots of at least `least` has error eps / least, in multipliers of size |v|.
"""

import numpy as np
import pytest
from conftest import eps_of
from hypothesis import given, settings
from hypothesis import strategies as st
from jacobians import families, length, project, unit

from orthotheory import kernels
from orthotheory.arrays import backend, cuda_is_available, to_host
from orthotheory.kernels import cuda
from orthotheory.kernels.cuda import Kernels
from orthotheory.kernels.cuda.processors import Host, host_compiler
from orthotheory.surgery import cone, make, pivoting

pytestmark = pytest.mark.skipif(host_compiler() is None, reason="g++ is not installed")


def problems(jacobian, dtype="float64"):
    """The Gramians (m, m, lanes) of unit rows and their products with each row in turn, (m, lanes)."""
    h = unit(jacobian)
    c = h @ np.swapaxes(h, 1, 2)
    b, m, _ = c.shape
    lanes = np.repeat(np.moveaxis(c, 0, -1), m, axis=-1)
    return np.ascontiguousarray(lanes, dtype), np.ascontiguousarray(np.moveaxis(c, -1, 0).reshape(m, b * m), dtype)


@pytest.mark.parametrize("label", families(1, 3, 4))
def test_the_kernel_takes_the_sweeps_of_the_reference(label):
    for m, n in [(1, 4), (2, 5), (3, 12), (5, 3), (8, 6)]:
        c, q = problems(families(25, m, n)[label])
        mine, theirs = cuda.host.cone_pivot(c, q), pivoting.pivot(pivoting.Normal(c, q), q.shape[1], m)
        good, also = (found.solved & (found.least >= cone.PIVOT) for found in (theirs, mine))  # the rest goes elsewhere
        # on the way past a dependent support, whose pivots are rounding errors, one of the two may be lost
        assert np.mean(good != also) <= (0.05 if m > n or label not in ("generic", "conflicting") else 0)
        good &= also
        if not good.any():
            continue
        size = 1 + np.abs(theirs.v[:, good])
        assert np.all(np.abs(mine.v - theirs.v)[:, good] <= 16 * m * eps_of(q) / cone.PIVOT * size)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("label", ["generic", "conflicting", "a zero row", "small integers", "opposite rows"])
def test_what_is_called_solved_satisfies_every_condition(label, dtype):
    for m, n in [(2, 3), (4, 9), (8, 20)]:
        c, q = problems(families(25, m, n, seed=2)[label], dtype)
        found = cuda.host.cone_pivot(c, q)
        v, wide = found.v.astype(float), c.astype(float)
        y = q + np.einsum("ijl,jl->il", wide, v)
        slack = 16 * m * eps_of(q) * (1 + v.max(axis=0)) / np.maximum(found.least, eps_of(q))
        assert found.v.dtype == dtype
        assert np.all(found.v >= 0)
        kkt = np.abs(np.minimum(v, y)).max(axis=0)
        assert np.all(kkt[found.solved] <= slack[found.solved])
        assert np.all(found.residual[found.solved] <= slack[found.solved])
        assert found.solved.mean() > 0.5


def test_a_certificate_notices_a_wrong_solution():
    """The residual of a problem that is cut short by a dependent support is not small."""
    c, q = np.ones((2, 2, 1)), np.array([[-1.0], [-0.5]])  # equal rows, unequal products: no multipliers of both
    found = cuda.host.cone_pivot(c, q)
    assert not found.solved[0]
    assert found.least[0] <= 1e-13


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 8), st.integers(1, 12), st.integers(1, 200), st.integers(0, 99))
def test_a_projection_of_any_size_is_feasible_and_complementary(m, n, lanes, seed):
    rng = np.random.default_rng(seed)
    h = unit(rng.standard_normal((lanes, m, n + m)))
    g = rng.standard_normal((lanes, n + m))
    c = np.ascontiguousarray(np.moveaxis(h @ np.swapaxes(h, 1, 2), 0, -1))
    q = np.ascontiguousarray((h @ g[..., None])[..., 0].T)
    found = cuda.host.cone_pivot(c, q)
    assert found.solved.all()
    x = g + (found.v.T[:, None, :] @ h)[:, 0, :]
    tolerance = 64 * m * eps_of(q) * (1 + np.abs(q).max()) / found.least.min() ** 1.5
    assert (h @ x[..., None]).min() >= -tolerance
    assert np.abs(np.sum(x * (x - g), axis=-1)).max() <= tolerance * np.abs(g).sum(axis=-1).max()  # Moreau


def test_a_problem_that_is_not_finite_leaves_its_neighbors_alone():
    c, q = problems(families(10, 3, 5)["conflicting"])
    q[0, 4] = -1.0  # a support that needs C
    clean = cuda.host.cone_pivot(c, q)
    c[:, :, 4], q[:, 7] = np.nan, np.nan
    found = cuda.host.cone_pivot(c, q)
    rest = np.delete(np.arange(q.shape[1]), [4, 7])
    assert np.array_equal(found.v[:, rest], clean.v[:, rest])
    assert not found.solved[[4, 7]].any()
    assert cuda.host.cone_pivot(np.zeros((2, 2, 0)), np.zeros((2, 0))).v.shape == (2, 0)


def test_the_order_of_the_threads_changes_no_bit():
    c, q = problems(families(100, 4, 5)["conflicting"])
    backwards = Kernels(Host(backwards=True)).cone_pivot(c, q)
    for x, y in zip(cuda.host.cone_pivot(c, q), backwards, strict=True):
        assert np.array_equal(x, y)


@pytest.mark.parametrize("label", families(1, 3, 4))
def test_projections_through_the_kernel_are_the_enumerated_ones(label, monkeypatch):
    """The host build stands in for the GPU: the path of a CuPy array, on the hard suite."""
    served = []

    class Counted(Kernels):
        def cone_pivot(self, c, q):
            served.append(q.shape)
            return super().cone_pivot(c, q)

    monkeypatch.setattr(kernels, "gpu", lambda x: Counted(Host()))
    for m, n in [(3, 12), (5, 3)]:
        jacobian = families(10, m, n, seed=3)[label]
        scale = np.max(np.abs(jacobian), axis=(-2, -1), keepdims=True)
        scale = np.where(scale > 0, scale, 1.0)
        g = scale * np.random.default_rng(m).standard_normal((10, 2, n))
        found = cone.project(jacobian, g)
        assert served
        assert found.residual.max() <= 1e-12
        error = length(found.point / scale - project(jacobian, g / scale))
        assert (error / length(g / scale)).max() <= 1e-12  # as for the reference: test_cone
        x = make("upgrad", kernel="numpy")(jacobian)
        monkeypatch.setattr(kernels, "gpu", lambda x: None)
        y = make("upgrad", kernel="numpy")(jacobian)
        monkeypatch.setattr(kernels, "gpu", lambda x: Counted(Host()))
        assert np.abs(x - y).max() <= 1e-12 * np.abs(jacobian).max()


def test_more_rows_and_other_dtypes_are_refused_and_left_to_array_operations(monkeypatch):
    c, q = problems(families(2, 9, 12)["generic"])
    with pytest.raises(ValueError, match="m <= 8"):
        cuda.host.cone_pivot(c, q)
    with pytest.raises(TypeError, match="float16"):
        cuda.host.cone_pivot(c[:2, :2].astype("float16"), q[:2].astype("float16"))
    with pytest.raises(ValueError, match="cone_pivot needs c"):
        cuda.host.cone_pivot(c[:2, :3], q[:2])
    monkeypatch.setattr(kernels, "gpu", lambda x: cuda.host)
    assert pivoting.pivot(pivoting.Normal(c, q), q.shape[1], 9).solved.all()


@pytest.mark.skipif(not cuda_is_available(), reason="CuPy sees no GPU here")
def test_the_gpu_agrees_with_the_host_build():
    c, q = problems(families(100, 5, 9)["conflicting"])
    where = backend("cuda")
    found, expected = cuda.cone_pivot(where.asarray(c), where.asarray(q)), cuda.host.cone_pivot(c, q)
    good = expected.solved & (expected.least >= cone.PIVOT)
    assert np.abs(to_host(found.v) - expected.v)[:, good].max() <= 1e-11
