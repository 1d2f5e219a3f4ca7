"""One contract for every convex function K: Fenchel-Young, monotone subgradients, conjugates, domains, projections.

A tolerance `rounding(x)` is ROUNDINGS * eps * N for N entries, relative to the sum of the magnitudes of the terms that
are compared: thin SVDs are backward stable with a small multiple of N eps, sums of N terms add N eps / 2, and scalar
functions a few eps. Near the boundary of its domain the conjugate of sqrt(s^2 + epsilon^2) turns an error of eps in t
into eps |s| / 2, and that of log cosh into eps |s|: both are rounding relative to <x, t> again.
"""

import dataclasses
import functools
import itertools
import math
import re

import numpy as np
import pytest
import scipy.optimize
from conftest import eps_of, hard_matrices

from orthotheory import convex, norms
from orthotheory.arrays import device_of, dtype_name, to_host
from orthotheory.convex import HalfSquare, LogCosh, MoreauEnvelope, NormFunction, Power, RowBlocks, Separable, Sqrt
from orthotheory.convex.contract import DOMAIN_SLACK
from orthotheory.names import UnknownName

ROUNDINGS = 32
INF = math.inf

CASES = {name: convex.make(name) for name in convex.names()} | {
    "lp with p = 3": convex.make("lp", p=3.0),
    "ky-fan with k = 1": convex.make("ky-fan", k=1),
    "power with p = 3": convex.make("power", p=3.0),
    "row blocks of nuclear and huber": RowBlocks(((2, convex.make("nuclear")), (3, convex.make("huber")))),
}
SMOOTH = {label: k for label, k in CASES.items() if k.is_smooth}
# Differentiable everywhere in the interior of dom K*, so that its gradient inverts that of K.
INVERTIBLE = {label: k for label, k in SMOOTH.items() if not isinstance(k, MoreauEnvelope)}
# A strict namespace is slow: projections that bisect are compared there by one test only.
BISECTING = {"dual-ky-fan", "lp", "lp with p = 3", "schatten"}

each = pytest.mark.parametrize("k", CASES.values(), ids=CASES.keys())
each_smooth = pytest.mark.parametrize("k", SMOOTH.values(), ids=SMOOTH.keys())
each_invertible = pytest.mark.parametrize("k", INVERTIBLE.values(), ids=INVERTIBLE.keys())


def fit(k, x):
    """The function for matrices with the rows of x: row blocks are cut to them."""
    rows = x.shape[-2]
    if not isinstance(k, RowBlocks) or rows == sum(count for count, _ in k.blocks):
        return k
    first, last = (part for _, part in k.blocks)
    blocks = ((rows // 2, first), (rows - rows // 2, last))
    return RowBlocks(tuple(block for block in blocks if block[0]))


def parts(k, x):
    """The functions with a ball of their own, each with its rows of x."""
    return [(k, x)] if not isinstance(k, RowBlocks) else list(k._parts(x))


def is_bounded(k):
    return isinstance(k, RowBlocks) or k.ball is not None


def rounding(x):
    return ROUNDINGS * eps_of(x) * x.shape[-1] * x.shape[-2]


def inner(a, b):
    return (a * b).sum(axis=(-2, -1))


def on_host(k, xp, operation, x, *options):
    return to_host(getattr(k, operation)(xp.asarray(x), *options))


def peak(x):
    """The largest magnitude of each matrix, 1 for zero, shape (batch, 1, 1)."""
    largest = np.abs(x).max(axis=(-2, -1), keepdims=True)
    return np.where(largest > 0, largest, 1.0)


def points(k):
    """The hard matrices, those of one shape as a batch; where |s|^3 overflows, the huge one is of size 1e50."""
    matrices = hard_matrices()
    if isinstance(k, Separable) and k.scalar == Power(3.0):
        matrices["huge"] = 1e-100 * matrices["huge"]
    yield "(5, 4): generic, low ranks, tiny, huge, ...", np.stack([x for x in matrices.values() if x.shape == (5, 4)])
    yield from ((label, x) for label, x in matrices.items() if x.shape != (5, 4))


def moderate_points(k):
    """The same divided by their largest magnitude."""
    yield from ((label, x / peak(x)) for label, x in points(k))


def rivals(x, seed=1):
    """Other points of the same shape and size: far, near, rank one, sparse, opposite, zero and along the ray."""
    rng = np.random.default_rng(seed)
    size = peak(x)
    for kind in range(7):
        z = rng.standard_normal(x.shape)
        if kind == 1:
            z = rng.standard_normal((*x.shape[:-1], 1)) * rng.standard_normal((*x.shape[:-2], 1, x.shape[-1]))
        elif kind == 2:
            z = np.where(rng.random(x.shape) < 0.3, z, 0.0)
        yield [size * z, size * z, size * z, x + 1e-3 * size * z, -x + 0.1 * size * z, 0 * z, 1.5 * x][kind]


def to_boundary(k, z):
    """Scale each part of z to the boundary of dom K*; where that is everything, leave it."""
    scaled = []
    for part, block in parts(k, z):
        length = 1.0 if part.ball is None else part.ball.value(block)[..., None, None]
        scaled.append(block / np.where(length > 0, length, 1.0))
    return np.concatenate(scaled, axis=-2)


def domain_points(k, x, seed=2):
    """Points of the domain of the conjugate, inside and on its boundary."""
    for index, z in enumerate(rivals(np.ones_like(x), seed=seed)):
        yield (0.999, 0.5, 0.01)[index % 3] * to_boundary(k, z)


# The checks, as functions, so that the controls can hand them a wrong K


def check_fenchel_young_equality(k, x, xp, label=""):
    s = on_host(k, xp, "subgradient", x)
    value, conjugate = on_host(k, xp, "value", x), on_host(k, xp, "conjugate", s)
    scale = np.abs(value) + np.abs(conjugate) + np.abs(x * s).sum(axis=(-2, -1))
    assert np.all(np.isfinite(conjugate)), label
    assert np.all(np.abs(value + conjugate - inner(x, s)) <= rounding(x) * scale), label


def check_fenchel_young_inequality(k, x, xp, label=""):
    value, s = on_host(k, xp, "value", x), on_host(k, xp, "subgradient", x)
    for y in (0.999 * s, *domain_points(k, x)):  # the first is close to where the supremum is attained
        conjugate = on_host(k, xp, "conjugate", y)
        assert np.all(np.isfinite(conjugate)), label
        scale = np.abs(value) + np.abs(conjugate) + np.abs(x * y).sum(axis=(-2, -1))
        assert np.all(value + conjugate - inner(x, y) >= -rounding(x) * scale), label


def check_subgradient_inequality(k, x, xp, label=""):
    s, value = on_host(k, xp, "subgradient", x), on_host(k, xp, "value", x)
    for y in rivals(x):
        other = on_host(k, xp, "value", y)
        scale = np.abs(value) + np.abs(other) + np.abs(s * (np.abs(x) + np.abs(y))).sum(axis=(-2, -1))
        assert np.all(other - value - inner(s, y - x) >= -rounding(x) * scale), label


def check_monotone(k, x, xp, label=""):
    s = on_host(k, xp, "subgradient", x)
    for y in rivals(x):
        t = on_host(k, xp, "subgradient", y)
        # an error of eps in the direction of s and t meets x and y themselves, not only their difference
        scale = ((np.abs(s) + np.abs(t)) * (np.abs(x) + np.abs(y))).sum(axis=(-2, -1))
        assert np.all(inner(s - t, x - y) >= -rounding(x) * scale), label


def check_differences(k, x, label=""):
    """Central differences at step 1e-6; all gradients here are Lipschitz with constant 1 / 0.1 or less.

    The error for a direction of length 1 is then at most 10 * 1e-6 / 2 plus eps K / 1e-6 from rounding, and an
    entrywise power, which is not Lipschitz at 0, is even there: its central difference is exact.
    """
    step, rng = 1e-6, np.random.default_rng(3)
    s = k.subgradient(x)
    for _ in range(5):
        z = rng.standard_normal(x.shape)
        z /= np.sqrt(inner(z, z))[..., None, None]
        slope = (k.value(x + step * z) - k.value(x - step * z)) / (2 * step)
        allowed = 5 * step + 8 * eps_of(x) * np.abs(k.value(x)) * x.shape[-2] * x.shape[-1] / step
        assert np.all(np.abs(slope - inner(s, z)) <= allowed), label


# Fenchel-Young


@each
def test_fenchel_young_is_an_equality_at_the_subgradient(k, xp):
    for label, x in points(k):
        check_fenchel_young_equality(fit(k, x), x, xp, label)


@each
def test_fenchel_young_is_an_inequality_elsewhere_so_the_conjugate_of_the_conjugate_is_k(k, xp):
    """With the equality at the subgradient: sup over the domain of <x, y> - K*(y) is K(x), and is attained."""
    for label, x in points(k):
        check_fenchel_young_inequality(fit(k, x), x, xp, label)


@each
def test_the_subgradient_supports_k_from_below(k, xp):
    for label, x in points(k):
        check_subgradient_inequality(fit(k, x), x, xp, label)


@each
def test_the_subgradient_is_monotone(k, xp):
    for label, x in points(k):
        check_monotone(fit(k, x), x, xp, label)


@each_smooth
def test_the_gradient_is_the_limit_of_differences(k):
    for label, x in moderate_points(k):
        check_differences(fit(k, x), x, label)


@pytest.mark.parametrize("label", [label for label, k in CASES.items() if not k.is_smooth])
def test_a_k_that_is_said_not_to_be_smooth_has_a_kink(label):
    """The slopes from the right and from the left differ at zero, or at rank two for half the squared nuclear norm."""
    k, z, step, kinks = CASES[label], np.ones((5, 4)) - np.eye(5, 4), 1e-6, []
    for x in (np.zeros((5, 4)), np.diag([1.0, 1.0, 0.0, 0.0, 0.0])[:, :4]):
        kinks.append((k.value(x + step * z) - 2 * k.value(x) + k.value(x - step * z)) / step)
    assert max(kinks) > 0.1  # a gradient that is Lipschitz with constant 10 would give at most 10 * 1e-6 * 16


# Controls: a wrong K fails the check that is meant to catch it


@dataclasses.dataclass(frozen=True)
class Wrong(NormFunction):
    """The l1 norm with one part wrong."""

    part: str = ""

    def value(self, x):
        return super().value(x) * (1.01 if self.part == "value" else 1.0)

    def subgradient(self, x):
        s = super().subgradient(x)
        return {"sign": -s, "length": 0.99 * s, "too long": 1.01 * s}.get(self.part, s)

    def conjugate(self, y):
        return super().conjugate(y) - (0.01 if self.part == "conjugate" else 0.0)


@pytest.mark.parametrize(
    ("check", "part"),
    [
        (check_fenchel_young_equality, "value"),
        (check_fenchel_young_equality, "length"),
        (check_fenchel_young_equality, "too long"),
        (check_fenchel_young_equality, "conjugate"),
        (check_fenchel_young_inequality, "conjugate"),
        (check_subgradient_inequality, "too long"),
        (check_subgradient_inequality, "sign"),
        (check_monotone, "sign"),
    ],
    ids=lambda value: value if isinstance(value, str) else value.__name__,
)
def test_a_wrong_part_is_caught_by_its_check(check, part, xp):
    x = 0.01 * hard_matrices()["generic"]  # small, so that an error of 0.01 in K* is not hidden by the margin
    check(Wrong(), x, xp)
    with pytest.raises(AssertionError):
        check(Wrong(part=part), x, xp)


@pytest.mark.parametrize("label", SMOOTH)
def test_a_gradient_that_is_off_by_a_thousandth_is_caught_by_the_differences(label):
    k, x = SMOOTH[label], hard_matrices()["generic"]

    class Off:
        value = staticmethod(k.value)

        @staticmethod
        def subgradient(x):
            return 1.001 * k.subgradient(x)

    with pytest.raises(AssertionError):
        check_differences(Off, x)


# The conjugate from its definition


@functools.cache
def small_domain_point(label, seed=4):
    k = CASES[label]
    y = to_boundary(fit(k, np.zeros((2, 2))), np.random.default_rng(seed).standard_normal((2, 2)))
    return 0.7 * y


@pytest.mark.parametrize("label", CASES)
def test_the_conjugate_is_the_supremum_that_an_optimizer_finds(label):
    """sup_x <x, y> - K(x) over 2 x 2 matrices, by a search that knows nothing of the conjugate.

    Where K is smooth a quasi-Newton method reaches a gradient of 1e-8, and the supremum to its square times the
    condition number; else differential evolution stops once its population agrees to 1e-9. 1e-6 covers both.
    """
    y = small_domain_point(label)
    k = fit(CASES[label], y)

    def minus_objective(flat):  # shape (4,), or (4, population)
        x = np.moveaxis(flat, 0, -1).reshape((*flat.shape[1:], 2, 2))
        return k.value(x) - inner(x, y)

    if k.is_smooth:
        start = 0.3 * np.random.default_rng(14).standard_normal(4)
        slope = lambda flat: (k.subgradient(flat.reshape(2, 2)) - y).ravel()  # noqa: E731
        found = scipy.optimize.minimize(minus_objective, start, jac=slope, method="BFGS", tol=1e-8)
    else:
        found = scipy.optimize.differential_evolution(
            minus_objective, [(-3, 4)] * 4, rng=14, tol=0, atol=1e-9, maxiter=2000, polish=False, vectorized=True,
            updating="deferred",
        )  # fmt: skip
    best, conjugate = -float(found.fun), float(k.conjugate(y))
    assert best <= conjugate + 1e-12  # a supremum is never exceeded, up to rounding of numbers of order 1
    assert best == pytest.approx(conjugate, rel=1e-6, abs=1e-6)


@pytest.mark.parametrize("label", [label for label, k in CASES.items() if is_bounded(k)])
def test_outside_the_domain_the_supremum_is_unbounded_along_a_ray(label):
    """<t d, y> - K(t d) grows like t (|y| - 1) for the direction d where the dual norm of the ball is attained."""
    y = 1.1 * to_boundary(CASES[label], np.random.default_rng(5).standard_normal((5, 4)))
    k = CASES[label]
    assert float(k.conjugate(y)) == INF
    ray = np.concatenate([-part.ball.dual_norm.lmo(block) for part, block in parts(k, y)], axis=-2)
    heights = [float(inner(t * ray, y) - k.value(t * ray)) for t in (1e3, 1e6)]
    # The excess is 0.1 a unit of t; smoothing takes off at most 0.1 an entry, 20 in all.
    assert heights[0] >= 0.1 * 1e3 - 20
    assert heights[1] >= 0.1 * 1e6 - 20


# The domain


@each
def test_the_conjugate_is_finite_up_to_the_boundary_and_infinite_beyond(k, xp):
    for label, x in points(k):
        fitted = fit(k, x)
        edge = to_boundary(fitted, np.random.default_rng(6).standard_normal(x.shape))
        for factor in (0.0, 0.5, 1.0, 1.0 + DOMAIN_SLACK / 2):
            assert np.all(np.isfinite(on_host(fitted, xp, "conjugate", factor * edge))), label
        beyond = on_host(fitted, xp, "conjugate", (1 + 1e-6) * edge)
        if is_bounded(fitted):
            np.testing.assert_array_equal(beyond, np.full(x.shape[:-2], INF), err_msg=label)
        else:
            assert np.all(np.isfinite(on_host(fitted, xp, "conjugate", 1e6 * edge))), label


def test_the_balls_are_those_of_the_table():
    balls = {
        "l1": norms.MaxEntry(),
        "l2": norms.Frobenius(),
        "max-entry": norms.SumEntry(),
        "nuclear": norms.Spectral(),
        "spectral": norms.Nuclear(),
        "ky-fan": norms.DualKyFan(2),
        "dual-ky-fan": norms.KyFan(2),
        "row-sum": norms.RowMax(),
        "column-sum": norms.ColumnMax(),
        "huber": norms.MaxEntry(),
        "huber-nuclear": norms.Spectral(),
        "huber-rows": norms.RowMax(),
        "sqrt": norms.MaxEntry(),
        "sqrt-nuclear": norms.Spectral(),
        "log-cosh": norms.MaxEntry(),
        "log-cosh-nuclear": norms.Spectral(),
        "power": None,
        "half-square": None,
        "half-square-nuclear": None,
    }
    assert {name: CASES[name].ball for name in balls} == balls
    # p = 1.5 and its conjugate exponent 3: the balls of two families whose names carry no exponent
    x = hard_matrices()["generic"]
    assert float(CASES["lp"].ball.value(x)) == pytest.approx(np.sum(np.abs(x) ** 3) ** (1 / 3), rel=rounding(x))
    s = np.linalg.svdvals(x)
    assert float(CASES["schatten"].ball.value(x)) == pytest.approx(np.sum(s**3) ** (1 / 3), rel=rounding(x))


@each
def test_the_subgradient_lies_in_the_domain(k, xp):
    for label, x in points(k):
        fitted = fit(k, x)
        s = on_host(fitted, xp, "subgradient", x)
        for part, block in parts(fitted, s):
            if part.ball is not None:
                assert np.all(part.ball.value(block) <= 1 + rounding(x)), label


def on_backends(labels):
    """Every case on every backend, but the bisections on the strict one: there one test compares with NumPy."""
    pairs = {
        f"{label} on {name}": (label, name)
        for label in labels
        for name in ("numpy", "strict", "cupy")
        if not (name == "strict" and label in BISECTING)
    }
    return pytest.mark.parametrize(("label", "xp"), pairs.values(), ids=pairs.keys(), indirect=["xp"])


@on_backends(CASES)
def test_the_projection_is_feasible_and_no_point_of_the_domain_is_nearer(label, xp):
    """<y - p, z - p> <= 0 for every z of the domain, which is what makes p the nearest point."""
    k = CASES[label]
    radius = 0.7
    for where, x in moderate_points(k):
        fitted, y = fit(k, x), 3 * x
        p = on_host(fitted, xp, "project", y, radius)
        if not is_bounded(fitted):
            np.testing.assert_array_equal(p, y, err_msg=where)
            continue
        for part, block in parts(fitted, p):
            assert np.all(part.ball.value(block) <= radius * (1 + rounding(x))), where
        scale = np.abs(y).sum(axis=(-2, -1)) + 1
        for z in domain_points(fitted, y):
            assert np.all(inner(y - p, radius * z - p) <= rounding(x) * scale**2), where


@on_backends(CASES)
def test_the_distance_is_that_to_the_projection_and_zero_inside(label, xp):
    k = CASES[label]
    edge = to_boundary(k, np.random.default_rng(7).standard_normal((2, 5, 4)))
    np.testing.assert_array_equal(on_host(k, xp, "distance", 0.9 * 0.7 * edge, 0.7), [0.0, 0.0])
    far = on_host(k, xp, "distance", 3 * edge, 0.7)
    if is_bounded(k):
        moved = 3 * edge - on_host(k, xp, "project", 3 * edge, 0.7)
        np.testing.assert_allclose(far, np.sqrt(inner(moved, moved)), rtol=rounding(edge))
        assert np.all(far > 0.5)
    else:
        np.testing.assert_array_equal(far, [0.0, 0.0])


@pytest.mark.parametrize("exponent", [-900, 900])
def test_the_distance_neither_overflows_nor_vanishes(exponent):
    y, c = hard_matrices()["generic"], 2.0**exponent
    for label in ("l1", "nuclear", "l2"):
        k = CASES[label]
        assert k.distance(c * y, c * 0.1) / c == pytest.approx(k.distance(y, 0.1), rel=rounding(y))


@pytest.mark.parametrize("label", sorted(BISECTING))
def test_a_projection_that_bisects_is_the_same_on_the_strict_backend_as_in_numpy(label, xp):
    y = np.random.default_rng(8).standard_normal((3, 2))
    np.testing.assert_allclose(on_host(CASES[label], xp, "project", y, 0.5), CASES[label].project(y, 0.5), rtol=1e-13)


@pytest.mark.parametrize("label", [label for label, k in CASES.items() if is_bounded(k)])
def test_the_radius_may_be_an_array_over_the_batch(label):
    k, y, radius = CASES[label], np.random.default_rng(9).standard_normal((3, 5, 4)), np.array([0.1, 0.5, 100.0])
    together, distances = k.project(y, radius), k.distance(y, radius)
    for index in range(3):
        alone = k.project(y[index], float(radius[index]))
        np.testing.assert_allclose(together[index], alone, atol=rounding(y) * np.abs(y).sum())
        assert distances[index] == pytest.approx(k.distance(y[index], float(radius[index])), abs=1e-12)
    np.testing.assert_array_equal(together[2], y[2])


# The gradient of the conjugate


@each_smooth
def test_the_gradient_undoes_the_gradient_of_the_conjugate(k, xp):
    for label, x in points(k):
        fitted = fit(k, x)
        for y in domain_points(fitted, x):
            y = 0.9 * y
            there = on_host(fitted, xp, "conjugate_gradient", y)
            # At most 1 / (1 - 0.9^2)^(3/2) = 12 units of rounding are amplified on the way.
            size = 12 * np.abs(y).max(initial=0.0)
            np.testing.assert_allclose(
                on_host(fitted, xp, "subgradient", there), y, rtol=0, atol=rounding(x) * size, err_msg=label
            )


@each_invertible
def test_the_gradient_of_the_conjugate_undoes_the_gradient(k, xp):
    for label, x in moderate_points(k):
        x = 0.3 * x
        s = on_host(k, xp, "subgradient", x)
        # |x| <= 0.3 sqrt(45) < 2.1: an error of eps in s grows by (1 + |x|^2 / epsilon^2)^(3/2) < 1e4 for sqrt.
        back = on_host(k, xp, "conjugate_gradient", s)
        np.testing.assert_allclose(back, x, rtol=0, atol=1e4 * rounding(x) * 0.3, err_msg=label)


@pytest.mark.parametrize("label", [*SMOOTH, "half-square-nuclear"])
def test_the_gradient_of_the_conjugate_is_where_its_supremum_is_attained(label, xp):
    k = CASES[label]
    for where, x in moderate_points(k):
        for y in domain_points(k, x):
            y = 0.9 * y
            there = on_host(k, xp, "conjugate_gradient", y)
            value, conjugate = on_host(k, xp, "value", there), on_host(k, xp, "conjugate", y)
            scale = np.abs(value) + np.abs(conjugate) + np.abs(there * y).sum(axis=(-2, -1))
            assert np.all(np.abs(inner(there, y) - value - conjugate) <= rounding(x) * scale), where


@each_smooth
def test_the_gradient_of_the_conjugate_is_the_limit_of_its_differences(k):
    """Its slope inside 0.5 of the domain is at most 2 here, or Hoelder: central differences at 1e-6 err by < 1e-5."""
    x = hard_matrices()["generic"]
    rng = np.random.default_rng(10)
    y = 0.5 * to_boundary(k, rng.standard_normal(x.shape))
    for _ in range(5):
        z = rng.standard_normal(x.shape)
        z *= 1e-6 / np.sqrt(inner(z, z))
        slope = (k.conjugate(y + z) - k.conjugate(y - z)) / 2
        assert slope == pytest.approx(float(inner(k.conjugate_gradient(y), z)), abs=1e-5 * 1e-6)


@pytest.mark.parametrize("label", ["l1", "nuclear", "ky-fan"])
def test_a_norm_refuses_the_gradient_of_its_conjugate(label):
    with pytest.raises(TypeError, match="conjugate of NormFunction has no gradient of use; take a smooth K"):
        CASES[label].conjugate_gradient(np.zeros((2, 2)))


def test_row_blocks_have_the_conjugate_gradient_of_each_block():
    k = RowBlocks(((2, CASES["sqrt"]), (3, CASES["log-cosh-nuclear"])))
    y = 0.2 * hard_matrices()["generic"] / 3
    expected = [CASES["sqrt"].conjugate_gradient(y[:2]), CASES["log-cosh-nuclear"].conjugate_gradient(y[2:])]
    np.testing.assert_array_equal(k.conjugate_gradient(y), np.concatenate(expected))


# At zero


@each
def test_k_is_least_at_zero_where_its_subgradient_is_zero(k, xp):
    for label, x in points(k):
        fitted, zero = fit(k, x), np.zeros_like(x)
        least = on_host(fitted, xp, "value", zero)
        np.testing.assert_array_equal(on_host(fitted, xp, "subgradient", zero), zero, err_msg=label)
        assert np.all(on_host(fitted, xp, "value", x) >= least), label
        np.testing.assert_allclose(
            on_host(fitted, xp, "conjugate", zero), -least, rtol=rounding(x), atol=0, err_msg=label
        )


# Against formulas written with NumPy alone


def singular(x, function):
    u, s, vh = np.linalg.svd(x, full_matrices=False)
    return u @ np.diag(function(s)) @ vh


def sqrt_slope(s):
    return s / np.sqrt(s**2 + 0.01)


GRADIENTS = {
    "l1": np.sign,
    "l2": lambda x: x / np.sqrt((x * x).sum()),
    "nuclear": lambda x: singular(x, np.ones_like),
    "spectral": lambda x: singular(x, lambda s: (s == s.max()).astype(float)),
    "dual-ky-fan": lambda x: (
        singular(x, lambda s: np.where(s == s.max(), 1.0, 0.0))
        if np.linalg.svdvals(x)[0] >= np.linalg.svdvals(x).sum() / 2
        else singular(x, np.ones_like) / 2
    ),
    "ky-fan": lambda x: singular(x, lambda s: (s >= np.sort(s)[-2]).astype(float)),
    "row-sum": lambda x: x / np.sqrt((x * x).sum(axis=1, keepdims=True)),
    "column-sum": lambda x: x / np.sqrt((x * x).sum(axis=0)),
    "huber": lambda x: np.clip(x / 0.1, -1, 1),
    "huber-nuclear": lambda x: singular(x, lambda s: np.minimum(s / 0.1, 1)),
    "sqrt": sqrt_slope,
    "sqrt-nuclear": lambda x: singular(x, sqrt_slope),
    "log-cosh": np.tanh,
    "log-cosh-nuclear": lambda x: singular(x, np.tanh),
    "power": lambda x: np.sign(x) * np.sqrt(np.abs(x)),
    "half-square": lambda x: x,
    "half-square-nuclear": lambda x: np.linalg.svdvals(x).sum() * singular(x, np.ones_like),
}


@pytest.mark.parametrize("label", GRADIENTS)
def test_the_subgradient_is_the_closed_form_of_the_theory_notes(label, xp):
    for scale in (0.05, 1.0):  # Huber's function has a quadratic and a linear part
        x = scale * hard_matrices()["generic"]
        s = np.linalg.svdvals(x)
        assert min(s[-1], -np.diff(s).max()) > 0.05 * s[0]  # singular vectors turn by at most 20 roundings
        np.testing.assert_allclose(
            on_host(CASES[label], xp, "subgradient", x), GRADIENTS[label](x), rtol=0, atol=20 * rounding(x) * (1 + s[0])
        )


def test_row_blocks_add_values_and_stack_subgradients():
    k, x = CASES["row blocks of nuclear and huber"], hard_matrices()["generic"]
    first, last = CASES["nuclear"], CASES["huber"]
    assert k.value(x) == first.value(x[:2]) + last.value(x[2:])
    np.testing.assert_array_equal(k.subgradient(x), np.concatenate([first.subgradient(x[:2]), last.subgradient(x[2:])]))
    y = np.concatenate([0.5 * np.eye(2, 4), 0.3 * np.ones((3, 4))])
    assert k.conjugate(y) == first.conjugate(y[:2]) + last.conjugate(y[2:])
    y[0, 0] = 2.0
    assert k.conjugate(y) == INF
    assert not k.is_smooth
    assert RowBlocks(((2, last), (3, CASES["sqrt"]))).is_smooth


# Arrays


OPERATIONS = ("value", "subgradient", "conjugate", "project", "distance")


def operations(label, k, xp):
    """Those of a case; without the slow projections where the backend is the strict one."""
    slow = label in BISECTING and xp.xp.__name__.startswith("array_api_strict")
    smooth = ("conjugate_gradient",) if k.is_smooth else ()
    return (*OPERATIONS[:3], *(() if slow else OPERATIONS[3:]), *smooth)


@pytest.mark.parametrize("label", CASES)
def test_dtype_device_and_shape_are_kept(label, xp):
    k = CASES[label]
    for shape in ((5, 4), (2, 5, 4), (0, 5, 4)):
        x = xp.asarray(0.1 * np.random.default_rng(11).standard_normal(shape), dtype="float32")
        for operation in operations(label, k, xp):
            out = getattr(k, operation)(x)
            assert dtype_name(out) == "float32", operation
            assert device_of(out) == xp.device, operation
            scalar = operation in ("value", "conjugate", "distance")
            assert out.shape == (shape[:-2] if scalar else shape), operation


@each
def test_float32_is_accurate_to_its_own_rounding_and_its_subgradients_are_inside_the_domain(k, xp):
    for label, x in moderate_points(k):
        fitted, x = fit(k, x), x.astype(np.float32)
        assert np.all(np.isfinite(on_host(fitted, xp, "conjugate", on_host(fitted, xp, "subgradient", x)))), label
        check_fenchel_young_equality(fitted, x, xp, label)
        exact = fitted.value(x.astype(np.float64))
        np.testing.assert_allclose(on_host(fitted, xp, "value", x), exact, rtol=rounding(x), err_msg=label)


@pytest.mark.parametrize(
    "k",
    [
        MoreauEnvelope(norms.SumEntry(), np.float64(0.1)),
        Separable(Sqrt(np.float64(0.1))),
        Separable(Sqrt(np.float64(0.1)), "singular values"),
        Separable(Power(np.float64(1.5))),
    ],
    ids=["delta", "epsilon", "epsilon over singular values", "p"],
)
def test_an_option_given_as_a_numpy_number_casts_nothing(k):
    x = 0.1 * hard_matrices()["generic"].astype(np.float32)
    for operation in ("value", "subgradient", "conjugate", "conjugate_gradient", "distance"):
        assert getattr(k, operation)(x).dtype == np.float32, operation


@pytest.mark.parametrize("label", CASES)
def test_a_batch_is_its_members_one_by_one(label, xp):
    k, x = CASES[label], 0.05 * np.random.default_rng(12).standard_normal((3, 2, 5, 4))
    x[1, 1] *= 100  # one member outside the domain
    for operation in operations(label, k, xp):
        if operation == "conjugate_gradient":
            x = np.clip(x, -0.1, 0.1)
        together = on_host(k, xp, operation, x)
        for index in itertools.product(range(3), range(2)):
            alone = on_host(k, xp, operation, x[index])
            np.testing.assert_allclose(
                together[index], alone, rtol=rounding(x), atol=rounding(x) * np.abs(x).max(), err_msg=operation
            )


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("label", CASES)
def test_a_member_that_is_not_finite_leaves_its_neighbors_untouched(label, bad, xp):
    k, clean = CASES[label], 0.05 * np.random.default_rng(13).standard_normal((3, 5, 4))
    dirty = clean.copy()
    dirty[1, 0, 3] = bad
    for operation in operations(label, k, xp):
        before = on_host(k, xp, operation, clean)
        with np.errstate(invalid="ignore"):  # as the loop does
            after = on_host(k, xp, operation, dirty)
        np.testing.assert_array_equal(after[[0, 2]], before[[0, 2]], err_msg=operation)
        if math.isnan(bad):
            scalar = operation in ("value", "conjugate")
            unconstrained = not is_bounded(k) and operation == "distance"
            assert unconstrained or np.isnan(after[1]).any(), operation
            assert not scalar or np.isnan(after[1]), operation


@each
def test_nothing_is_changed_in_place(k):
    x = 0.1 * hard_matrices()["generic"]
    before = x.copy()
    x.flags.writeable = False
    for operation in (*OPERATIONS, *(("conjugate_gradient",) if k.is_smooth else ())):
        getattr(k, operation)(x)
    np.testing.assert_array_equal(x, before)


# Names and errors


def test_an_unknown_name_answers_with_the_nearest_ones():
    with pytest.raises(UnknownName, match="Unknown convex function 'nuclar'; did you mean 'nuclear'"):
        convex.make("nuclar")
    with pytest.raises(UnknownName, match=r"known are .*l1.*half-square-nuclear"):
        convex.make("?")


def test_options_are_passed_and_a_misspelt_one_is_refused():
    assert convex.make("huber", delta=0.5) == MoreauEnvelope(norms.SumEntry(), 0.5)
    assert convex.make("ky-fan", k=3) == NormFunction(norms.KyFan(3))
    assert convex.make("power", p=3.0) == Separable(Power(3.0))
    with pytest.raises(UnknownName, match="huber has no option 'dleta'; did you mean 'delta'"):
        convex.make("huber", dleta=0.5)
    with pytest.raises(UnknownName, match="l1 has no option 'p'"):
        convex.make("l1", p=2.0)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: convex.make("huber", delta=0.0), r"delta must lie in \(0, inf\); got 0"),
        (lambda: convex.make("huber-nuclear", delta=math.nan), r"delta must lie in \(0, inf\); got nan"),
        (lambda: convex.make("sqrt", epsilon=-0.1), r"epsilon must lie in \(0, inf\); got -0.1"),
        (lambda: convex.make("sqrt-nuclear", epsilon=INF), r"epsilon must lie in \(0, inf\); got inf"),
        (lambda: convex.make("power", p=1.0), r"p must lie in \(1, inf\); got 1"),
        (lambda: convex.make("lp", p=0.5), r"p must lie in \[1, inf\); got 0.5"),
        (lambda: convex.make("ky-fan", k=0), "k must be a positive integer"),
        (lambda: Separable(LogCosh(), "rows"), "over must be 'entries' or 'singular values'; got 'rows'"),
        (lambda: RowBlocks(), r"RowBlocks needs \(rows, function\) pairs with positive rows; got \(\)"),
        (lambda: RowBlocks(((0, NormFunction()),)), "pairs with positive rows"),
    ],
    ids=[
        *("delta zero", "delta not a number", "epsilon negative", "epsilon infinite", "power 1", "exponent below 1"),
        *("no singular value", "an unknown spectrum", "no blocks", "a block without rows"),
    ],
)
def test_an_option_that_makes_no_convex_function_is_refused(build, message):
    with pytest.raises(ValueError, match=message):
        build()


@pytest.mark.parametrize("operation", ["value", "subgradient", "conjugate", "project"])
def test_row_blocks_refuse_a_matrix_with_other_rows(operation):
    message = re.escape("RowBlocks has 5 rows in its blocks; got a matrix of shape (4, 3).")
    with pytest.raises(ValueError, match=message):
        getattr(CASES["row blocks of nuclear and huber"], operation)(np.zeros((4, 3)))


def test_row_blocks_have_no_single_ball():
    assert CASES["row blocks of nuclear and huber"].ball is None


@each
@pytest.mark.parametrize("operation", ["value", "subgradient", "conjugate"])
def test_what_is_no_matrix_of_floats_is_refused(k, operation):
    with pytest.raises(ValueError, match=r"needs a matrix, shape \(\.\.\., m, n\); got shape \(5,\)"):
        getattr(k, operation)(np.zeros(5))
    with pytest.raises(TypeError, match="needs float32, float64; got int64"):
        getattr(k, operation)(np.zeros((5, 4), dtype=np.int64))


def test_a_function_is_frozen_and_says_its_name():
    k = HalfSquare(norms.Nuclear())
    assert k.name == "HalfSquare"
    with pytest.raises(dataclasses.FrozenInstanceError):
        k.norm = norms.Frobenius()


def test_the_base_class_states_nothing():
    base, x = convex.ConvexFunction(), np.zeros((2, 2))
    for operation in ("value", "subgradient", "conjugate"):
        with pytest.raises(NotImplementedError):
            getattr(base, operation)(x)
    with pytest.raises(NotImplementedError):
        _ = base.ball
