"""One contract for every norm: identities over labeled hard matrices, on every backend, against independent formulas.

Where a tolerance is `rounding(...)`, it is ROUNDINGS * eps * N for N entries: the thin SVD is backward stable with
a small multiple of N eps, sums of N terms add N eps / 2, and the bisections of the l_p and product gauges end
within an eps of the root. ROUNDINGS = 32 covers the constants of all of them.
"""

import functools
import itertools
import math
from typing import NamedTuple

import numpy as np
import pytest
import scipy.optimize
from conftest import eps_of, hard_matrices, rotation, signed_permutation
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays as array_strategy

from orthotheory import norms
from orthotheory.arrays import backend, device_of, dtype_name, to_host
from orthotheory.norms import (
    ColumnMax,
    ColumnPeakSum,
    ColumnSum,
    DualKyFan,
    EntryLp,
    Euclidean,
    Frobenius,
    KyFan,
    MaxEntry,
    Nuclear,
    OneToOne,
    OneToRms,
    Product,
    ProductMax,
    ProductRoot,
    ProductSum,
    RmsToInf,
    RmsToRms,
    RowMax,
    RowSum,
    Scaled,
    Schatten,
    Spectral,
    SumEntry,
)
from orthotheory.norms import product as product_module

ROUNDINGS = 32
INF = math.inf

PLAIN = {
    "spectral": Spectral(),
    "spectral with orthonormal completion": Spectral(completion="orthonormal"),
    "nuclear": Nuclear(),
    "frobenius": Frobenius(),
    "euclidean": Euclidean(),
    "max-entry": MaxEntry(),
    "sum-entry": SumEntry(),
    "row-max": RowMax(),
    "row-sum": RowSum(),
    "column-max": ColumnMax(),
    "column-sum": ColumnSum(),
    "one-to-one": OneToOne(),
    "column-peak-sum": ColumnPeakSum(),
    **{f"schatten p={p:g}": Schatten(p) for p in (1.0, 1.5, 2.0, 3.0, INF)},
    **{f"entry-lp p={p:g}": EntryLp(p) for p in (1.0, 1.5, 2.0, 3.0, INF)},
    **{f"ky-fan k={k}": KyFan(k) for k in (1, 2, 3, 100)},
    **{f"dual-ky-fan k={k}": DualKyFan(k) for k in (1, 2, 3, 100)},
    "rms-to-rms": RmsToRms(),
    "one-to-rms": OneToRms(),
    "rms-to-inf": RmsToInf(),
    "dual of rms-to-rms": RmsToRms().dual_norm,
    "scaled nuclear": Scaled(Nuclear(), 2.5),
    "scaled rms-to-rms": Scaled(RmsToRms(), 0.3),
}
PRODUCTS = {
    "product-max": ProductMax((Scaled(Spectral(), 3.0), MaxEntry())),
    "product-sum": ProductSum((Nuclear(), ColumnMax())),
    "product-sum of scaled blocks": ProductSum((RmsToRms(), Scaled(SumEntry(), 0.5))),
    "product-root": ProductRoot((Spectral(), RowSum())),
}
CASES = PLAIN | PRODUCTS
LABELS = {norm: label for label, norm in CASES.items()}
# A projection of ProductRoot bisects within a bisection, a second a call: it has tests of its own.
PROJECTED = {label: norm for label, norm in CASES.items() if not isinstance(norm, ProductRoot)}


def bisects(norm) -> bool:
    """Whether a projection or a proximal point costs a bisection: thousands of array operations."""
    return getattr(norm, "p", 2.0) not in (1.0, 2.0, INF) or isinstance(
        norm, KyFan | DualKyFan | OneToOne | ColumnPeakSum | Product
    )


def on_backends(cases):
    """Every norm on every backend, but the bisections on the strict one: there one test compares with NumPy."""
    pairs = {
        f"{label}-{backend_name}": (norm, backend_name)
        for label, norm in cases.items()
        for backend_name in ("numpy", "strict", "cupy")
        if not (backend_name == "strict" and bisects(norm))
    }
    return pytest.mark.parametrize(("norm", "xp"), pairs.values(), ids=pairs.keys(), indirect=["xp"])


each_norm = pytest.mark.parametrize("norm", CASES.values(), ids=CASES.keys())
each_projected_norm = pytest.mark.parametrize("norm", PROJECTED.values(), ids=PROJECTED.keys())
each_projected_norm_and_backend = on_backends(PROJECTED)


# Points: a norm acts on tuples of arrays here, of one matrix for a plain norm and of one a block for a product.


def blocks_of(norm, x: np.ndarray) -> tuple[np.ndarray, ...]:
    """The point that a host matrix stands for: itself, or blocks of different shapes."""
    return (x, -0.5 * np.flip(np.swapaxes(x, -1, -2), -1)) if isinstance(norm, Product) else (x,)


def call(norm, operation: str, point, *options):
    """Call an operation on a point; arrays that the norm returns come as a tuple."""
    return_value = getattr(norm, operation)(point if isinstance(norm, Product) else point[0], *options)
    if operation in ("value", "dual"):
        return return_value
    return return_value if isinstance(return_value, tuple) else (return_value,)


class On(NamedTuple):
    """A norm on a backend, with host arrays at its doors."""

    norm: object
    xp: object

    def __call__(self, operation: str, point, *options):
        device = tuple(self.xp.asarray(p) for p in point)
        options = tuple(self.xp.asarray(o) if isinstance(o, np.ndarray) else o for o in options)
        out = call(self.norm, operation, device, *options)
        return tuple(map(to_host, out)) if isinstance(out, tuple) else to_host(out)

    @property
    def axes(self):
        return (-1,) if isinstance(self.norm, Euclidean) else (-2, -1)

    def inner(self, a, b):
        return sum((x * y).sum(axis=self.axes) for x, y in zip(a, b, strict=True))

    def length(self, a):
        return np.sqrt(self.inner(a, a))

    def scale(self, factor, point):
        """Multiply each member of the batch by its factor."""
        factor = np.asarray(factor)
        return tuple(factor[(..., *[None] * len(self.axes))] * p for p in point)

    def to_unit_size(self, point):
        """Divide each member by its largest magnitude, so that the test's own products stay in range."""
        peak = functools.reduce(np.maximum, (np.abs(p).max(axis=self.axes) for p in point))
        return self.scale(1 / np.where(peak > 0, peak, 1), point)


def minus(a, b):
    return tuple(x - y for x, y in zip(a, b, strict=True))


def rounding(point) -> float:
    """The relative error that is allowed: see the head of this file."""
    entries = sum(p.shape[-1] * p.shape[-2] for p in point)
    return ROUNDINGS * eps_of(point[0]) * entries


def hard_points(norm) -> dict[str, tuple[np.ndarray, ...]]:
    """The hard matrices as points, those of one shape stacked to a batch."""
    matrices = hard_matrices()
    stacked = [m for m in matrices.values() if m.shape == (5, 4)]
    others = {label: m for label, m in matrices.items() if m.shape != (5, 4)}
    points = {"stack of (5, 4): generic, rank one, rank two, repeated, ...": np.stack(stacked), **others}
    return {label: blocks_of(norm, x) for label, x in points.items()}


def generic_point(norm, seed=0, batch=()):
    return blocks_of(norm, np.random.default_rng(seed).standard_normal((*batch, 5, 4)))


def feasible_points(on: On, like, count=40, seed=1):
    """Random points of the unit ball: Gaussian, rank one, signs, single entries, partial isometries; norm one each."""
    rng = np.random.default_rng(seed)
    for index in range(count):
        point = []
        for p in like:
            *batch, m, n = p.shape
            kind = index % 5
            z = rng.standard_normal((*batch, m, n))
            if kind == 1:
                z = rng.standard_normal((*batch, m, 1)) * rng.standard_normal((*batch, 1, n))
            elif kind == 2:
                z = np.sign(z)
            elif kind == 3:
                z = np.where(np.arange(m * n).reshape(m, n) == rng.integers(m * n), z, 0.0)
            elif kind == 4 and z.size:
                u, _, vh = np.linalg.svd(z, full_matrices=False)
                z = u[..., :, : index % 3 + 1] @ vh[..., : index % 3 + 1, :]
            point.append(z * rng.choice([0.2, 1.0]))
        value = on("value", tuple(point))
        yield on.scale(1 / np.where(value > 0, value, 1), point)


# The table


def test_every_norm_of_the_table_is_under_contract():
    kinds = {type(norm) for norm in CASES.values()}
    assert set(norms.TABLE.values()) <= kinds


@pytest.mark.parametrize("name", [n for n in norms.names() if n not in ("scaled",) and "product" not in n])
def test_make_builds_a_norm_by_its_name(name):
    assert type(norms.make(name)) is norms.TABLE[name]


def test_make_passes_options_and_refuses_a_misspelt_one():
    assert norms.make("ky-fan", k=3) == KyFan(3)
    assert norms.make("scaled", norm=Spectral(), factor=2.0) == Scaled(Spectral(), 2.0)
    assert norms.make("product-max", blocks=(Spectral(),)) == ProductMax((Spectral(),))
    with pytest.raises(ValueError, match="schatten has no option 'q'; "):
        norms.make("schatten", q=3.0)
    with pytest.raises(ValueError, match="Unknown norm 'spectrl'; did you mean 'spectral'"):
        norms.make("spectrl")


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: Schatten(0.5), r"p must lie in \[1, inf\); got 0.5"),
        (lambda: EntryLp(float("nan")), r"p must lie in \[1, inf\); got nan"),
        (lambda: KyFan(0), "k must be a positive integer, the number of singular values; got 0"),
        (lambda: DualKyFan(1.5), "k must be a positive integer, the number of singular values; got 1.5"),
        (lambda: KyFan(True), "k must be a positive integer"),
        (lambda: Spectral(completion="random"), "completion must be 'zero' or 'orthonormal'; got 'random'"),
        (lambda: Scaled(Spectral(), 0.0), r"factor must lie in \(0, inf\); got 0"),
        (lambda: ProductMax(()), "ProductMax needs a tuple of norms, one a block"),
        (lambda: ProductSum((Spectral(), "nuclear")), "ProductSum needs a tuple of norms, one a block"),
        (lambda: ProductMax((Spectral(), Euclidean())), "ProductMax needs norms of matrices; use Frobenius"),
        (lambda: ProductMax((Spectral(),) * 2).value((np.eye(2),)), "ProductMax has 2 blocks; got a tuple of 1"),
    ],
    ids=[
        *("p below 1", "p not a number", "k zero", "k a fraction", "k a bool", "completion", "factor zero"),
        *("no blocks", "a block that is no norm", "a block of vectors", "too few blocks"),
    ],
)
def test_an_option_that_makes_no_norm_is_refused(build, message):
    with pytest.raises(ValueError, match=message):
        build()


# Values, against formulas written with NumPy alone


def singular_values(x):
    return np.linalg.svd(x, compute_uv=False)


VALUES = {
    "spectral": lambda x: np.linalg.norm(x, 2),
    "nuclear": lambda x: np.linalg.norm(x, "nuc"),
    "frobenius": lambda x: np.linalg.norm(x, "fro"),
    "max-entry": lambda x: max(abs(v) for v in x.flat),
    "sum-entry": lambda x: math.fsum(abs(v) for v in x.flat),
    "row-max": lambda x: max(math.hypot(*row) for row in x),
    "row-sum": lambda x: math.fsum(math.hypot(*row) for row in x),
    "column-max": lambda x: max(math.hypot(*column) for column in x.T),
    "column-sum": lambda x: math.fsum(math.hypot(*column) for column in x.T),
    "one-to-one": lambda x: np.linalg.norm(x, 1),
    "column-peak-sum": lambda x: math.fsum(max(abs(column)) for column in x.T),
    "schatten p=1": lambda x: singular_values(x).sum(),
    "schatten p=1.5": lambda x: (singular_values(x) ** 1.5).sum() ** (2 / 3),
    "schatten p=2": lambda x: math.hypot(*x.flat),
    "schatten p=3": lambda x: (singular_values(x) ** 3).sum() ** (1 / 3),
    "schatten p=inf": lambda x: singular_values(x)[0],
    "entry-lp p=1": lambda x: np.abs(x).sum(),
    "entry-lp p=1.5": lambda x: (np.abs(x) ** 1.5).sum() ** (2 / 3),
    "entry-lp p=2": lambda x: math.hypot(*x.flat),
    "entry-lp p=3": lambda x: (np.abs(x) ** 3).sum() ** (1 / 3),
    "entry-lp p=inf": lambda x: np.abs(x).max(),
    **{f"ky-fan k={k}": lambda x, k=k: singular_values(x)[:k].sum() for k in (1, 2, 3, 100)},
    **{
        f"dual-ky-fan k={k}": lambda x, k=k: max(singular_values(x)[0], singular_values(x).sum() / k)
        for k in (1, 2, 3, 100)
    },
    "rms-to-rms": lambda x: math.sqrt(x.shape[1] / x.shape[0]) * np.linalg.norm(x, 2),
    "one-to-rms": lambda x: max(math.hypot(*column) for column in x.T) / math.sqrt(x.shape[0]),
    "rms-to-inf": lambda x: math.sqrt(x.shape[1]) * max(math.hypot(*row) for row in x),
    "dual of rms-to-rms": lambda x: math.sqrt(x.shape[0] / x.shape[1]) * np.linalg.norm(x, "nuc"),
    "scaled nuclear": lambda x: np.linalg.norm(x, "nuc") / 2.5,
    "scaled rms-to-rms": lambda x: math.sqrt(x.shape[1] / x.shape[0]) * np.linalg.norm(x, 2) / 0.3,
}


@pytest.mark.parametrize("label", VALUES)
def test_the_value_is_the_formula_of_the_table(label, xp):
    for shape in ((5, 4), (2, 6), (1, 3), (4, 1)):
        x = np.random.default_rng(2).standard_normal(shape)
        value = On(CASES[label], xp)("value", (x,))
        np.testing.assert_allclose(value, VALUES[label](x), rtol=rounding((x,)))


def test_the_value_of_a_product_combines_the_blocks(xp):
    x, y = np.random.default_rng(3).standard_normal((2, 3, 2))
    sizes = np.array([np.linalg.norm(x, 2), np.abs(y).max() / 2])
    blocks = (Spectral(), Scaled(MaxEntry(), 2.0))
    for product, expected in (
        (ProductMax(blocks), sizes.max()),
        (ProductSum(blocks), sizes.sum()),
        (ProductRoot(blocks), math.hypot(*sizes)),
    ):
        np.testing.assert_allclose(On(product, xp)("value", (x, y)), expected, rtol=rounding((x, y)))


def test_induced_norms_bound_how_far_vectors_are_stretched():
    """RmsToRms, OneToRms and RmsToInf are operator norms: no vector beats them, and each is nearly attained."""
    rng = np.random.default_rng(4)
    x = rng.standard_normal((3, 4))

    def rms(v):
        return np.sqrt(np.mean(v**2, axis=-1))

    inputs = np.concatenate([rng.standard_normal((20_000, 4)), np.eye(4), x, np.linalg.svd(x)[2]])
    for norm, size_in, size_out in (
        (RmsToRms(), rms, rms),
        (OneToRms(), lambda v: np.abs(v).sum(axis=-1), rms),
        (RmsToInf(), rms, lambda v: np.abs(v).max(axis=-1)),
        (OneToOne(), lambda v: np.abs(v).sum(axis=-1), lambda v: np.abs(v).sum(axis=-1)),
        (Spectral(), lambda v: np.linalg.norm(v, axis=-1), lambda v: np.linalg.norm(v, axis=-1)),
    ):
        stretch = size_out(inputs @ x.T) / size_in(inputs)
        np.testing.assert_allclose(stretch.max(), norm.value(x), rtol=rounding((x,)))


# A norm is a norm


@each_norm
def test_it_is_homogeneous_subadditive_and_zero_at_zero_alone(norm, xp):
    on = On(norm, xp)
    x, y = generic_point(norm, 5, (3,)), generic_point(norm, 6, (3,))
    tol = rounding(x)
    value = on("value", x)
    np.testing.assert_allclose(on("value", tuple(-3.7 * p for p in x)), 3.7 * value, rtol=tol)
    total = on("value", tuple(a + b for a, b in zip(x, y, strict=True)))
    assert np.all(total <= (value + on("value", y)) * (1 + tol))
    assert np.all(value > 0)
    np.testing.assert_array_equal(on("value", tuple(np.zeros_like(p) for p in x)), np.zeros_like(value))


@each_norm
def test_the_dual_of_the_dual_is_the_norm(norm, xp):
    on = On(norm, xp)
    for label, x in hard_points(norm).items():
        np.testing.assert_allclose(On(norm.dual_norm, xp)("dual", x), on("value", x), rtol=rounding(x), err_msg=label)


@each_norm
def test_hoelder_bounds_the_inner_product_of_random_pairs(norm, xp):
    on = On(norm, xp)
    for seed in range(5):
        x, y = generic_point(norm, seed, (4,)), generic_point(norm, 100 + seed, (4,))
        bound = on("value", x) * on("dual", y) * (1 + rounding(x))
        assert np.all(np.abs(on.inner(x, y)) <= bound)


# The linear minimization oracle and the sharp operator


@each_norm
def test_the_lmo_has_length_one_and_attains_minus_the_dual(norm, xp):
    on = On(norm, xp)
    for label, g in hard_points(norm).items():
        d = on("lmo", g)
        dual, nonzero = on("dual", g), on("dual", g) > 0
        tol = rounding(g)
        np.testing.assert_allclose(on("value", d)[nonzero], 1, rtol=tol, err_msg=label)
        np.testing.assert_allclose(on.inner(g, d), -dual, rtol=tol, err_msg=label)


@each_norm
def test_the_lmo_is_never_beaten_by_a_feasible_point(norm, xp):
    on = On(norm, xp)
    for label, g in hard_points(norm).items():
        attained = on.inner(g, on("lmo", g))
        slack = rounding(g) * np.abs(attained)
        for z in feasible_points(on, g, count=10):
            assert np.all(on.inner(g, z) >= attained - slack), label


@each_norm
def test_the_lmo_of_zero_is_zero_where_no_completion_is_asked_for(norm, xp):
    on = On(norm, xp)
    zero = tuple(np.zeros_like(p) for p in generic_point(norm))
    d = on("lmo", zero)
    if norm == Spectral(completion="orthonormal"):
        np.testing.assert_allclose(on("value", d), 1, rtol=rounding(d))
    else:
        for block in d:
            np.testing.assert_array_equal(block, np.zeros_like(block))
    for block in on("sharp", zero):
        np.testing.assert_array_equal(block, np.zeros_like(block))


@each_norm
def test_the_sharp_point_has_the_length_of_the_dual_and_its_square_as_product(norm, xp):
    on = On(norm, xp)
    for label, g in hard_points(norm).items():
        g = on.to_unit_size(g)  # the square of the dual leaves the range at 1e-150 and 1e150
        s, dual, tol = on("sharp", g), on("dual", g), rounding(g)
        np.testing.assert_allclose(on("value", s), dual, rtol=tol, err_msg=label)
        # two roundings more: the dual enters squared
        np.testing.assert_allclose(on.inner(g, s), dual**2, rtol=2 * tol, err_msg=label)


@each_norm
def test_the_sharp_point_maximizes_the_linear_minus_half_the_square(norm, xp):
    on = On(norm, xp)
    g = generic_point(norm, 7)
    dual = on("dual", g)
    best = on.inner(g, on("sharp", g)) - on("value", on("sharp", g)) ** 2 / 2
    for z, t in itertools.product(feasible_points(on, g, count=10), (0.1, 1.0, dual.max())):
        rival = tuple(t * p for p in z)
        assert np.all(on.inner(g, rival) - on("value", rival) ** 2 / 2 <= best + rounding(g) * dual.max() ** 2)


def first_largest(values):
    """One at the first largest entry along the last axis, zero elsewhere."""
    return (np.arange(values.shape[-1]) == values.argmax(-1)[..., None]).astype(float)


def spectral_reference(g):
    u, _, vh = np.linalg.svd(g, full_matrices=False)
    return -u @ vh


def lp_reference(g, p):
    q = p / (p - 1)
    return -np.sign(g) * np.abs(g) ** (q - 1) / (np.abs(g) ** q).sum() ** ((q - 1) / q)


def schatten_reference(g, p):
    u, s, vh = np.linalg.svd(g, full_matrices=False)
    return u @ np.diag(lp_reference(s, p)) @ vh


def leading(g, k):
    u, _, vh = np.linalg.svd(g, full_matrices=False)
    return -u[:, :k] @ vh[:k]


def ky_fan_reference(g, k):
    s = singular_values(g)
    return leading(g, 1) if s[0] >= s.sum() / k else spectral_reference(g) / k


def single_entry(g):
    return -np.sign(g) * first_largest(np.abs(g).reshape(1, -1)).reshape(g.shape)


LMOS = {
    "spectral": spectral_reference,
    "nuclear": lambda g: leading(g, 1),
    "frobenius": lambda g: -g / math.sqrt((g * g).sum()),
    "euclidean": lambda g: -g / np.sqrt((g * g).sum(axis=1))[:, None],  # each row is a vector of its own
    "max-entry": lambda g: -np.sign(g),
    "sum-entry": single_entry,
    "row-max": lambda g: -g / np.sqrt((g * g).sum(axis=1))[:, None],
    "row-sum": lambda g: -(g / np.sqrt((g * g).sum(axis=1))[:, None]) * first_largest((g * g).sum(axis=1))[:, None],
    "column-max": lambda g: -g / np.sqrt((g * g).sum(axis=0)),
    "column-sum": lambda g: -(g / np.sqrt((g * g).sum(axis=0))) * first_largest((g * g).sum(axis=0)),
    "one-to-one": lambda g: -np.sign(g) * first_largest(np.abs(g).T).T,
    "column-peak-sum": lambda g: -np.sign(g) * first_largest(np.abs(g).sum(axis=0)),
    "schatten p=1": lambda g: leading(g, 1),
    "schatten p=1.5": lambda g: schatten_reference(g, 1.5),
    "schatten p=3": lambda g: schatten_reference(g, 3.0),
    "schatten p=inf": spectral_reference,
    "entry-lp p=1": single_entry,
    "entry-lp p=1.5": lambda g: lp_reference(g, 1.5),
    "entry-lp p=3": lambda g: lp_reference(g, 3.0),
    "entry-lp p=inf": lambda g: -np.sign(g),
    **{f"ky-fan k={k}": lambda g, k=k: ky_fan_reference(g, k) for k in (1, 2, 3)},
    **{f"dual-ky-fan k={k}": lambda g, k=k: leading(g, k) for k in (1, 2, 3)},
    "rms-to-rms": lambda g: math.sqrt(g.shape[0] / g.shape[1]) * spectral_reference(g),
    "one-to-rms": lambda g: -math.sqrt(g.shape[0]) * g / np.sqrt((g * g).sum(axis=0)),
    "rms-to-inf": lambda g: -g / np.sqrt(g.shape[1] * (g * g).sum(axis=1))[:, None],
    "scaled nuclear": lambda g: 2.5 * leading(g, 1),
}


@pytest.mark.parametrize("label", LMOS)
def test_the_lmo_is_the_closed_form_of_the_table(label, xp):
    # Singular vectors turn by eps / gap: the spectra of these Gaussian matrices have relative gaps and least values
    # above 0.05, which is 20 roundings more.
    for shape in ((5, 4), (3, 6)):
        g = np.random.default_rng(8).standard_normal(shape)
        s = singular_values(g)
        assert min(s[-1], -np.diff(s).max()) > 0.05 * s[0]
        (d,) = On(CASES[label], xp)("lmo", (g,))
        np.testing.assert_allclose(d, LMOS[label](g), atol=20 * rounding((g,)))


def test_the_ky_fan_lmo_takes_either_branch():
    spiked, flat = np.diag([5.0, 1.0, 1.0]), np.diag([1.2, 1.0, 1.1])
    np.testing.assert_array_equal(KyFan(2).lmo(spiked), -np.diag([1.0, 0, 0]))
    np.testing.assert_allclose(KyFan(2).lmo(flat), -np.eye(3) / 2, atol=rounding((flat,)))


def test_ties_go_to_the_first_largest(xp):
    g = np.array([[2.0, -2.0], [2.0, 1.0]])
    expected = {
        SumEntry(): [[-1.0, 0], [0, 0]],
        OneToOne(): [[-1.0, 1], [0, 0]],
        RowSum(): -g / math.sqrt(8) * np.array([[1.0], [0]]),
        ColumnPeakSum(): [[-1.0, 0], [-1, 0]],
    }
    for norm, d in expected.items():
        np.testing.assert_allclose(On(norm, xp)("lmo", (g,))[0], d, atol=rounding((g,)), err_msg=norm.name)


# The spectral LMO is not unique at rank deficiency: both completions, and the ones between


@pytest.mark.parametrize("label", ["rank one", "rank two", "one zero row", "ill-conditioned", "tall", "wide", "batch"])
def test_completion_zero_is_the_partial_isometry_on_the_nonzero_singular_values(label, xp):
    g = hard_matrices()[label]
    (d,) = On(Spectral(), xp)("lmo", (g,))
    s = singular_values(d)
    ranks = np.linalg.matrix_rank(g)
    expected = (np.arange(s.shape[-1]) < ranks[..., None]).astype(float)
    np.testing.assert_allclose(s, expected, atol=rounding((g,)))


@pytest.mark.parametrize("label", ["zero", "rank one", "rank two", "tall", "wide", "batch", "row"])
def test_completion_orthonormal_has_all_singular_values_one_and_attains_the_dual(label, xp):
    g = hard_matrices()[label]
    on = On(Spectral(completion="orthonormal"), xp)
    (d,) = on("lmo", (g,))
    np.testing.assert_allclose(singular_values(d), 1, rtol=rounding((g,)))
    np.testing.assert_allclose(on.inner((g,), (d,)), -on("dual", (g,)), rtol=rounding((g,)))


def test_every_completion_on_the_null_spaces_is_an_lmo_and_zero_is_the_shortest():
    g = hard_matrices()["rank two"]
    u, _, vh = np.linalg.svd(g)
    d, dual = Spectral().lmo(g), Spectral().dual(g)
    rng = np.random.default_rng(9)
    for scale in (0.0, 0.5, 1.0):
        w = rng.standard_normal((3, 2))
        w *= scale / np.linalg.norm(w, 2)
        completed = d + u[:, 2:] @ w @ vh[2:]
        assert np.linalg.norm(completed, 2) <= 1 + rounding((g,))
        np.testing.assert_allclose((g * completed).sum(), -dual, rtol=rounding((g,)))
        assert np.linalg.norm(d) <= np.linalg.norm(completed) * (1 + rounding((g,)))
    too_long = d + u[:, 2:] @ (1.5 * np.eye(3, 2)) @ vh[2:]
    assert np.linalg.norm(too_long, 2) > 1.4  # the bound |W| <= 1 is needed


# Projection and proximal point


def radii(on: On, x, fraction):
    """A fraction of each value, and one half for a zero matrix."""
    value = on("value", x)
    return np.where(value > 0, fraction * value, 0.5)


def check_projection(on: On, x, radius, label=""):
    """Feasible, and <x - p, z - p> <= 0 for z in the ball: at random points and at the worst one, an LMO.

    The computed p is the exact projection of some x + e with |e| <= rounding |x|, so that
    <x - p, z - p> <= |e| |z - p|. The worst z of the ball gives radius * dual(x - p); z leaves the ball by a
    rounding of its length, which is worth rounding * radius * dual(x - p).
    """
    p = on("project", x, radius)
    tol = rounding(x) * on.length(x)
    assert np.all(on("value", p) <= radius * (1 + rounding(x))), label
    rest = minus(x, p)
    slack = rounding(x) * radius * on("dual", rest)
    rivals = [on.scale(radius, z) for z in feasible_points(on, x, count=10)]
    rivals.append(on.scale(-radius, on("lmo", rest)))
    for z in rivals:
        gap = minus(z, p)
        assert np.all(on.inner(rest, gap) <= tol * on.length(gap) + slack), label
    return p


@each_projected_norm_and_backend
@pytest.mark.parametrize("fraction", [0.3, 0.95])
def test_the_projection_is_feasible_and_no_point_of_the_ball_is_nearer(norm, xp, fraction):
    on = On(norm, xp)
    for label, x in hard_points(norm).items():
        x = on.to_unit_size(x)
        check_projection(on, x, radii(on, x, fraction), label)


@each_projected_norm_and_backend
def test_the_projection_leaves_the_ball_alone_and_ends_at_zero_for_radius_zero(norm, xp):
    on = On(norm, xp)
    for label, x in hard_points(norm).items():
        inside = on("project", x, radii(on, x, 1.5))
        for block, same in zip(inside, x, strict=True):
            np.testing.assert_array_equal(block, same, err_msg=label)
        for block in on("project", x, 0.0):
            np.testing.assert_array_equal(block, np.zeros_like(block), err_msg=label)


@each_projected_norm_and_backend
def test_the_projection_is_idempotent_and_brings_no_pair_apart(norm, xp):
    on = On(norm, xp)
    x, y = generic_point(norm, 10), generic_point(norm, 11)
    p, q = on("project", x, 0.7), on("project", y, 0.7)
    for once, twice in zip(p, on("project", p, 0.7), strict=True):
        np.testing.assert_allclose(twice, once, atol=rounding(x) * on.length(x).max())
    assert np.all(on.length(minus(p, q)) <= on.length(minus(x, y)) * (1 + rounding(x)))


def check_prox(on: On, x, t, label=""):
    """x - p = t s with s a subgradient at p: dual(s) <= 1, <s, p> = value(p); then p is Moreau's other half.

    x - p is exact to a rounding of |x|, which the dual sees as rounding * dual(x).
    """
    p = on("prox", x, t)
    rest = minus(x, p)
    tol = rounding(x)
    assert np.all(on("dual", rest) <= t + tol * on("dual", x)), label
    np.testing.assert_array_less(
        t * on("value", p) - on.inner(rest, p), tol * on.length(x) ** 2 + np.finfo(float).tiny, err_msg=label
    )
    moreau = On(on.norm.dual_norm, on.xp)("project", x, t)
    for a, b, whole in zip(p, moreau, x, strict=True):
        np.testing.assert_allclose(a + b, whole, atol=tol * max(1.0, np.abs(whole).max(initial=0)), err_msg=label)
    return p


@each_projected_norm_and_backend
@pytest.mark.parametrize("fraction", [0.2, 0.9])
def test_the_proximal_point_satisfies_its_optimality_condition_and_moreau(norm, xp, fraction):
    on = On(norm, xp)
    for label, x in hard_points(norm).items():
        x = on.to_unit_size(x)
        dual = on("dual", x)
        check_prox(on, x, np.where(dual > 0, fraction * dual, 0.5), label)


@each_projected_norm_and_backend
def test_a_proximal_step_past_the_dual_norm_ends_at_zero(norm, xp):
    on = On(norm, xp)
    for label, x in hard_points(norm).items():
        dual = on("dual", x)
        for block in on("prox", x, np.where(dual > 0, 1.01 * dual, 0.5)):
            np.testing.assert_array_equal(block, np.zeros_like(block), err_msg=label)


@pytest.fixture
def fewer_halvings(monkeypatch):
    """The root bisects within a bisection: 50 halvings each end 1e-15 of the bracket from the root, below rounding."""
    monkeypatch.setattr(product_module, "BISECTIONS", 50)


@pytest.mark.usefixtures("fewer_halvings")
def test_the_product_root_projects_and_proxes_by_the_same_conditions():
    on = On(CASES["product-root"], backend("cpu"))
    x = generic_point(on.norm, 12, (2,))
    x[1][0] *= 20  # one member with a dominant second block
    check_projection(on, x, radii(on, x, 0.5))
    check_prox(on, x, 0.4 * on("dual", x))
    for block, same in zip(on("project", x, 1.5 * on("value", x)), x, strict=True):
        np.testing.assert_array_equal(block, same)


@pytest.mark.slow
@pytest.mark.parametrize("fraction", [0.1, 0.9])
def test_the_product_root_projects_every_hard_matrix(fraction):
    norm = CASES["product-root"]
    on = On(norm, backend("cpu"))
    for label, x in hard_points(norm).items():
        x = on.to_unit_size(x)
        check_projection(on, x, radii(on, x, fraction), label)


@pytest.mark.usefixtures("fewer_halvings")
@pytest.mark.parametrize("radius", [0.01, 0.8])
def test_the_product_root_of_frobenius_norms_projects_like_the_frobenius_norm_of_all_entries(radius):
    # at a small radius the multiplier exceeds every block's dual norm, as far as the root of their squares
    x, y = np.random.default_rng(13).standard_normal((2, 3, 2))
    p, q = ProductRoot((Frobenius(), Frobenius())).project((x, y), radius)
    both = Frobenius().project(np.concatenate([x, y]), radius)
    np.testing.assert_allclose(np.concatenate([p, q]), both, atol=rounding((x, y)))


def test_the_product_root_keeps_namespace_and_dtype_when_it_projects(xp, monkeypatch):
    monkeypatch.setattr(product_module, "BISECTIONS", 3)  # what is tested needs no accuracy
    norm = CASES["product-root"]
    x = tuple(xp.asarray(p, dtype="float32") for p in generic_point(norm))
    for block in (*norm.project(x, 0.5), *norm.prox(x, 0.5)):
        assert dtype_name(block) == "float32"
        assert device_of(block) == xp.device


def nearest_by_slsqp(x, constraints, start):
    """Minimize |p - x|^2 under smooth inequality constraints with SciPy's SLSQP."""
    result = scipy.optimize.minimize(
        lambda p: ((p - x) ** 2).sum(),
        start,
        jac=lambda p: 2 * (p - x),
        constraints=constraints,
        method="SLSQP",
        options={"ftol": 1e-13, "maxiter": 500},
    )
    assert result.status in (0, 8), result  # 8: no descent is left beyond rounding
    return result.x


@pytest.mark.parametrize("k", [1, 2, 3])
@pytest.mark.parametrize("values", [(4.0, 2.5, 1.0, 0.2), (3.0, 3.0, 2.9, 2.8), (5.0, 0.3, 0.2, 0.1)], ids=str)
def test_the_ky_fan_projection_agrees_with_slsqp_on_the_singular_values(k, values):
    """The ball on the singular values: each k of them sum to at most the radius. SLSQP stops at about 1e-7."""
    s, radius = np.array(values), 2.0
    rows = np.array([[float(i in chosen) for i in range(4)] for chosen in itertools.combinations(range(4), k)])
    constraints = [
        {"type": "ineq", "fun": lambda p: radius - rows @ p, "jac": lambda p: -rows},
        {"type": "ineq", "fun": lambda p: p, "jac": lambda p: np.eye(4)},
    ]
    nearest = nearest_by_slsqp(s, constraints, np.full(4, radius / 4))
    rng = np.random.default_rng(14)
    u, v = rotation(5, rng)[:, :4], rotation(4, rng)
    np.testing.assert_allclose(KyFan(k).project((u * s) @ v.T, radius), (u * nearest) @ v.T, atol=1e-6)


@pytest.mark.parametrize("p", [1.1, 1.5, 3.0, 8.0])
def test_the_lp_projection_agrees_with_slsqp(p):
    """SLSQP stops at about 1e-7; the start is inside, where the power is smooth."""
    x, radius = np.array([3.0, -1.5, 0.7, 0.05, 2.0, -2.5]), 1.3

    def slack(v):
        return radius**p - (np.abs(v) ** p).sum()

    def slope(v):
        return -p * np.sign(v) * np.abs(v) ** (p - 1)

    nearest = nearest_by_slsqp(x, [{"type": "ineq", "fun": slack, "jac": slope}], 0.1 * x)
    np.testing.assert_allclose(EntryLp(p).project(x.reshape(2, 3), radius).ravel(), nearest, atol=1e-6)
    diagonal = np.diag(np.abs(x))
    np.testing.assert_allclose(np.diag(Schatten(p).project(diagonal, radius)), np.abs(nearest), atol=1e-6)


def test_the_product_sum_projection_agrees_with_slsqp():
    """Of Frobenius blocks only the lengths matter: the nearest point with t_1 + t_2 + t_3 <= radius."""
    rng = np.random.default_rng(15)
    x = tuple(rng.standard_normal((2, 2)) * scale for scale in (3.0, 1.0, 0.2))
    lengths = np.array([np.linalg.norm(block) for block in x])
    simplex = [
        {"type": "ineq", "fun": lambda t: 2.0 - t.sum(), "jac": lambda t: -np.ones(3)},
        {"type": "ineq", "fun": lambda t: t, "jac": lambda t: np.eye(3)},
    ]
    nearest = nearest_by_slsqp(lengths, simplex, np.full(3, 0.5))
    projected = ProductSum((Frobenius(),) * 3).project(x, 2.0)
    np.testing.assert_allclose([np.linalg.norm(block) for block in projected], nearest, atol=1e-6)


# Ties, zeros and repeated values, as Hypothesis finds them

SMALL_INTEGERS = array_strategy(
    np.float64, st.tuples(st.integers(1, 4), st.integers(1, 4)), elements=st.integers(-3, 3).map(float)
)


@each_projected_norm
@settings(max_examples=8, deadline=None)
@given(x=SMALL_INTEGERS, fraction=st.floats(0.05, 0.95))
def test_attainment_and_optimality_hold_for_matrices_full_of_ties(norm, x, fraction):
    on = On(norm, backend("cpu"))
    point = blocks_of(norm, x)
    d, dual = on("lmo", point), on("dual", point)
    np.testing.assert_allclose(on.inner(point, d), -dual, rtol=rounding(point))
    np.testing.assert_allclose(on("value", d)[dual > 0], 1, rtol=rounding(point))
    check_projection(on, point, radii(on, point, fraction))
    check_prox(on, point, np.where(dual > 0, fraction * dual, 0.5))


# Symmetry


def act(norm, point, rng, left="declared", right="declared"):
    """Multiply by random group elements; returns the map, so that it can act on results as well."""

    def element(group, size):
        return {"orthogonal": rotation, "signed permutations": signed_permutation}[group](size, rng)

    parts = norm.blocks if isinstance(norm, Product) else (norm,)
    pairs = [
        (
            element(part.left_group if left == "declared" else left, p.shape[-2]),
            element(part.right_group if right == "declared" else right, p.shape[-1]),
        )
        for part, p in zip(parts, point, strict=True)
    ]
    return lambda q: tuple(a @ b @ c for (a, c), b in zip(pairs, q, strict=True))


MATRIX_NORMS = {label: norm for label, norm in PROJECTED.items() if not isinstance(norm, Euclidean)}


@on_backends(MATRIX_NORMS)
def test_every_operation_is_equivariant_under_the_declared_groups(norm, xp):
    # The LMO turns with the singular vectors, which move by eps / gap: 100 covers gaps down to 0.01.
    on = On(norm, xp)
    x = generic_point(norm, 16)
    t = act(norm, x, np.random.default_rng(17))
    tol = 100 * rounding(x)
    np.testing.assert_allclose(on("value", t(x)), on("value", x), rtol=tol)
    for operation, options in (("lmo", ()), ("sharp", ()), ("project", (0.6,)), ("prox", (0.3,))):
        for moved, expected in zip(on(operation, t(x), *options), t(on(operation, x, *options)), strict=True):
            np.testing.assert_allclose(moved, expected, atol=tol * on("dual", x), err_msg=operation)


NOT_ROTATION_INVARIANT = {
    (label, side): norm
    for label, norm in PLAIN.items()
    for side in ("left", "right")
    if getattr(norm, f"{side}_group") == "signed permutations"
    # l_2 of the entries is the Frobenius norm, and a vector has no two sides: both are more symmetric than they say.
    and label not in ("entry-lp p=2", "euclidean")
}


@pytest.mark.parametrize(
    ("norm", "side"),
    [(norm, side) for (_, side), norm in NOT_ROTATION_INVARIANT.items()],
    ids=[f"{label}-{side}" for label, side in NOT_ROTATION_INVARIANT],
)
def test_the_declared_group_is_not_too_small_a_rotation_from_that_side_changes_the_value(norm, side):
    x = generic_point(norm, 18)[0]
    rng = np.random.default_rng(19)
    turned = [x @ rotation(4, rng) if side == "right" else rotation(5, rng) @ x for _ in range(10)]
    changes = [abs(float(norm.value(y) / norm.value(x)) - 1) for y in turned]
    assert max(changes) > 0.01


@pytest.mark.parametrize("label", ["spectral", "nuclear", "frobenius", "schatten p=3", "ky-fan k=2"])
def test_rotation_invariant_norms_are_not_invariant_under_a_shear(label):
    x = generic_point(CASES[label], 20)[0]
    shear = np.eye(5) + 3 * np.eye(5, k=1)  # of determinant one
    assert abs(float(CASES[label].value(shear @ x) / CASES[label].value(x)) - 1) > 0.1


def test_the_euclidean_norm_of_a_vector_is_invariant_under_rotations(xp):
    rng = np.random.default_rng(21)
    v, q = rng.standard_normal(6), rotation(6, rng)
    value = On(Euclidean(), xp)("value", (v @ q,))
    np.testing.assert_allclose(value, math.hypot(*v), rtol=ROUNDINGS * eps_of(v) * 6)


# Batches, dtypes, bad members, scale

BISECTING = {label: norm for label, norm in PROJECTED.items() if bisects(norm)}


@pytest.mark.parametrize("norm", BISECTING.values(), ids=BISECTING.keys())
def test_a_bisection_finds_the_same_point_on_every_backend(norm, xp):
    x = generic_point(norm, 27, (3,))
    here, numpy = On(norm, xp), On(norm, backend("cpu"))
    radius = np.array([0.1, 0.5, 100.0])
    for a, b in zip(here("project", x, radius), numpy("project", x, radius), strict=True):
        np.testing.assert_allclose(a, b, atol=rounding(x) * numpy.length(x).max())


OPERATIONS = (("value", ()), ("dual", ()), ("lmo", ()), ("sharp", ()), ("project", (0.5,)), ("prox", (0.5,)))


def results(on: On, point, operations=OPERATIONS):
    """All results as one dict of tuples."""
    out = {}
    for operation, options in operations:
        result = on(operation, point, *options)
        out[operation] = result if isinstance(result, tuple) else (result,)
    return out


@each_projected_norm_and_backend
def test_a_batch_is_its_members_one_by_one(norm, xp):
    on = On(norm, xp)
    x = blocks_of(norm, hard_matrices()["batch"])
    together = results(on, x)
    for index in [(0, 0), (2, 1)]:
        alone = results(on, tuple(p[index] for p in x))
        for operation, blocks in alone.items():
            for one, many in zip(blocks, together[operation], strict=True):
                np.testing.assert_allclose(
                    many[index], one, rtol=rounding(x), atol=rounding(x) * on.length(x).max(), err_msg=operation
                )


@each_projected_norm_and_backend
def test_a_radius_may_be_an_array_over_the_batch(norm, xp):
    on = On(norm, xp)
    x = blocks_of(norm, hard_matrices()["batch"])
    per_member, per_column = np.array([[0.1, 0.2], [0.3, 0.4], [0.5, 50.0]]), np.array([0.2, 0.6])
    if isinstance(norm, Euclidean):
        per_member, per_column = per_member[..., None], per_column[:, None]
    for operation in ("project", "prox"):
        for radius in (per_member, per_column):
            together = on(operation, x, radius)
            full = np.broadcast_to(radius, (3, 2, 1) if isinstance(norm, Euclidean) else (3, 2))
            for index in [(0, 1), (1, 0), (2, 1)]:
                alone = on(operation, tuple(p[index] for p in x), full[index].item())
                for one, many in zip(alone, together, strict=True):
                    np.testing.assert_allclose(
                        many[index], one, rtol=rounding(x), atol=rounding(x) * on.length(x).max()
                    )


@each_projected_norm_and_backend
@pytest.mark.parametrize("number", [0.5, np.float64(0.5)], ids=["python radius", "numpy radius"])
def test_float32_stays_float32_on_the_same_device(norm, xp, number):
    x = tuple(xp.asarray(p, dtype="float32") for p in generic_point(norm))
    for operation, options in OPERATIONS:
        out = call(norm, operation, x, *(number for _ in options))
        for block in out if isinstance(out, tuple) else (out,):
            assert dtype_name(block) == "float32", operation
            assert device_of(block) == xp.device, operation


@pytest.mark.parametrize(
    "norm",
    [Scaled(Spectral(), np.float64(2.0)), Schatten(np.float64(3.0)), EntryLp(np.float64(1.5))],
    ids=["factor", "schatten p", "entry p"],
)
def test_an_option_given_as_a_numpy_number_casts_nothing(norm):
    x = generic_point(norm)[0].astype(np.float32)
    for operation, options in OPERATIONS:
        assert getattr(norm, operation)(x, *options).dtype == np.float32, operation


@each_norm
def test_float32_is_accurate_to_its_own_rounding(norm):
    on = On(norm, backend("cpu"))
    x = tuple(p.astype(np.float32) for p in generic_point(norm, 22))
    value, exact = on("value", x), on("value", tuple(p.astype(np.float64) for p in x))
    np.testing.assert_allclose(value, exact, rtol=rounding(x))
    np.testing.assert_allclose(on("value", on("lmo", x)), 1, rtol=rounding(x))


@each_projected_norm_and_backend
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_member_that_is_not_finite_gives_nan_and_leaves_its_neighbors_untouched(norm, xp, bad):
    on = On(norm, xp)
    clean = np.random.default_rng(23).standard_normal((3, 5, 4))
    dirty = clean.copy()
    dirty[1, 2, 3] = bad
    expected, actual = results(on, blocks_of(norm, clean)), results(on, blocks_of(norm, dirty))
    for operation, blocks in expected.items():
        for before, after in zip(blocks, actual[operation], strict=True):
            np.testing.assert_array_equal(after[[0, 2]], before[[0, 2]], err_msg=operation)
            sick = after[1, 2] if isinstance(norm, Euclidean) else after[1]
            assert np.all(np.isnan(sick)), operation


@each_projected_norm_and_backend
def test_a_power_of_two_passes_through_without_a_rounding(norm, xp):
    on = On(norm, xp)
    x = generic_point(norm, 24)
    base = results(on, x)
    for exponent in (-900, 900):
        c = 2.0**exponent
        scaled = results(
            on,
            tuple(c * p for p in x),
            [(operation, tuple(c * o for o in options)) for operation, options in OPERATIONS],
        )
        for operation, blocks in scaled.items():
            undo = 1.0 if operation == "lmo" else 1 / c
            for after, before in zip(blocks, base[operation], strict=True):
                np.testing.assert_array_equal(after * undo, before, err_msg=operation)


@each_norm
@pytest.mark.parametrize("factor", [1e-300, 1e-150, 1e150, 1e300])
def test_any_factor_passes_through_to_rounding(norm, factor, xp):
    on = On(norm, xp)
    x = tuple(p / 100 for p in generic_point(norm, 25))  # sums of a few entries of 1e300 stay in range
    scaled = tuple(factor * p for p in x)
    tol = rounding(x)
    np.testing.assert_allclose(on("value", scaled) / factor, on("value", x), rtol=tol)
    np.testing.assert_allclose(on("dual", scaled) / factor, on("dual", x), rtol=tol)
    # an LMO turns with the singular vectors by eps / gap; 100 covers gaps down to 0.01
    for after, before in zip(on("lmo", scaled), on("lmo", x), strict=True):
        np.testing.assert_allclose(after, before, atol=100 * tol * np.abs(before).max())
    for after, before in zip(on("sharp", scaled), on("sharp", x), strict=True):
        np.testing.assert_allclose(after / factor, before, atol=100 * tol * np.abs(before).max())


@each_norm
def test_one_by_n_and_n_by_one_are_vectors(norm, xp):
    """On a single row or column every norm is a gauge of one vector: the dual pair and the LMO agree with it."""
    on = On(norm, xp)
    for shape in ((1, 6), (6, 1), (1, 1)):
        g = blocks_of(norm, np.random.default_rng(26).standard_normal(shape))
        d = on("lmo", g)
        np.testing.assert_allclose(on("value", d), 1, rtol=rounding(g))
        np.testing.assert_allclose(on.inner(g, d), -on("dual", g), rtol=rounding(g))


def test_labels_are_unique():
    assert len(LABELS) == len(CASES)
