"""What a careless caller hands over: views, read-only memory, wrong dtypes, non-finite entries, several threads."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest

from orthotheory.arrays import to_host
from orthotheory.polar import (
    ALGORITHMS,
    SCHEDULES,
    certify,
    polar_derivative,
    polar_factor,
    thin_svd,
)
from orthotheory.polar import engine as engine_module
from orthotheory.polar.adaptive import Adaptive
from orthotheory.polar.certificate import orthogonality
from orthotheory.polar.cost import COUNTS
from orthotheory.polar.jacobi import hermitian_sweep, off_square, rotate_hermitian
from orthotheory.polar.newton import NewtonStep, newton
from orthotheory.polar.normalization import BOUNDS, Normalization, tightness
from orthotheory.polar.parametrizations import householder_product
from orthotheory.polar.prism import prism
from orthotheory.polar.qdwh import qdwh
from orthotheory.polar.qr import cholesky_qr2, householder_qr, randomized_cholesky_qr
from orthotheory.polar.subspace import power_step, randomized_polar
from orthotheory.polar.zolotarev import zolo_pd, zolotarev

EXPRESS = SCHEDULES["polar-express"]
G = np.random.default_rng(0).standard_normal((4, 6))
SYMMETRIC = G[:, :4] + G[:, :4].T
ONTO_ITS_SHAPE = {
    **ALGORITHMS,
    "schedule": EXPRESS.apply,
    "engine": lambda g: engine_module.apply(g, EXPRESS.coefficients, None, EXPRESS.normalization),
    "prism": prism,
    "randomized polar": lambda g: randomized_polar(g, 2),
    "householder qr": householder_qr,
    "cholesky qr": cholesky_qr2,
    "randomized cholesky qr": randomized_cholesky_qr,
    "derivative": lambda g: polar_derivative(g, g),
    **{f"normalization by {name}": Normalization(bound=name) for name in BOUNDS},
}
every_function = pytest.mark.parametrize("function", ONTO_ITS_SHAPE.values(), ids=ONTO_ITS_SHAPE.keys())


def unaligned(g):
    view = np.zeros(g.nbytes + 1, np.uint8)[1:].view(g.dtype).reshape(g.shape)
    view[...] = g
    return view


LAYOUTS = {
    "in Fortran order": np.asfortranarray,
    "with strides": lambda g: np.repeat(np.repeat(g, 2, 0), 3, 1)[::2, ::3],
    "reversed": lambda g: g[::-1, ::-1].copy()[::-1, ::-1],
    "unaligned": unaligned,
    "of foreign byte order": lambda g: g.astype(g.dtype.newbyteorder()),
}


@every_function
@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS.keys())
def test_the_layout_in_memory_does_not_matter(function, layout):
    want = function(G.copy())  # the same numbers: only the order of summation differs, condition(G) is below 10
    assert np.allclose(function(layout(G)), want, atol=1e3 * np.finfo(float).eps)


@every_function
@pytest.mark.parametrize("dtype", ["float64", "complex128", "float32"])
def test_read_only_input_is_neither_changed_nor_returned(function, dtype):
    g = G.astype(dtype)
    g.flags.writeable = False
    x = function(g)
    assert np.array_equal(g, G.astype(dtype))
    assert not np.shares_memory(x, g)
    assert x.dtype == dtype
    assert x.flags.writeable


@every_function
def test_a_later_call_leaves_earlier_results_alone(function):
    first = function(G)
    kept = first.copy()
    function(2 * G[::-1])
    assert np.array_equal(first, kept)


@pytest.mark.parametrize("function", [thin_svd, *map(ONTO_ITS_SHAPE.get, ONTO_ITS_SHAPE)], ids=["svd", *ONTO_ITS_SHAPE])
@pytest.mark.parametrize("dtype", [int, bool, object])
def test_a_dtype_that_is_not_floating_is_refused_by_name(function, dtype):
    with pytest.raises(TypeError, match=r"nothing is cast silently|float"):
        function(G.astype(dtype))


def test_non_finite_members_give_nan_for_themselves_alone(xp):
    bad = np.stack([G, np.where(np.eye(4, 6) > 0, np.inf, G), np.full_like(G, np.nan)])
    functions = {
        "orthogonality": lambda a: orthogonality(a)[0],
        "tightness": lambda a: tightness(Normalization(), a),
        "householder product": householder_product,
        "direction": lambda a: polar_derivative(xp.asarray(G), a),
    }
    for name, function in functions.items():
        got, alone = to_host(function(xp.asarray(bad))), to_host(function(xp.asarray(G)))
        assert np.isfinite(got[0]).all(), name
        assert np.allclose(got[0], alone, rtol=1e3 * np.finfo(float).eps), name
        assert np.isnan(got[1:]).all(), name


def test_orthogonality_is_infinite_where_squares_overflow(xp):
    rho, distance = orthogonality(xp.asarray(np.stack([1e300 * G, polar_factor(G)])))
    assert to_host(rho)[0] == to_host(distance)[0] == np.inf
    assert to_host(rho)[1] < 100 * np.finfo(float).eps


def test_a_direction_and_a_matrix_of_any_scale_have_a_derivative():
    want = polar_derivative(G, G[::-1])
    for a, b in ((1.0, 2.0**1000), (2.0**900, 2.0**1000), (2.0**-900, 2.0**-1000)):
        assert np.array_equal(polar_derivative(a * G, b * G[::-1]), want * b / a)


def test_rotations_need_square_matrices_and_return_new_ones():
    for function in (hermitian_sweep, lambda a: rotate_hermitian(a, 0, 1)):
        with pytest.raises(ValueError, match="square"):
            function(G)
    one = np.array([[3.0]])
    assert not np.shares_memory(hermitian_sweep(one), one)
    assert off_square(hermitian_sweep(SYMMETRIC, pivots="cyclic")) < off_square(SYMMETRIC)


def test_two_threads_get_what_one_gets():
    matrices = [np.random.default_rng(i).standard_normal((60 + i % 3, 90)) for i in range(12)]
    run = ONTO_ITS_SHAPE["engine"]
    alone = [run(g) for g in matrices]
    with ThreadPoolExecutor(2) as pool:
        together = list(pool.map(run, matrices * 4))
    for got, want in zip(together, alone * 4, strict=True):
        assert np.array_equal(got, want)


def test_the_number_of_threads_of_the_library_changes_rounding_alone():
    from threadpoolctl import threadpool_limits

    g = np.random.default_rng(1).standard_normal((96, 160))
    want = ONTO_ITS_SHAPE["engine"](g)
    for threads in (2, 1):
        with threadpool_limits(threads):
            got = ONTO_ITS_SHAPE["engine"](g)
        # eight quintics from the Frobenius norm amplify roundings by at most the slope of the schedule
        assert np.abs(got - want).max() < EXPRESS.slope * 160 * np.finfo(float).eps


def test_numpy_numbers_as_parameters_do_not_decide_the_dtype():
    single, number = G.astype("float32"), np.float64(1.5)
    square = single[:, :4]
    table = tuple(tuple(np.array(step)) for step in EXPRESS.coefficients)
    results = {
        "safety": Normalization(safety=number)(single),
        "epsilon": Normalization(np.float64(1e-7))(single),
        "coefficients": replace(EXPRESS, coefficients=table).apply(single, steps=np.int64(3)),
        "weight": NewtonStep(number).apply(square),
        "newton": newton(square, low=np.float64(1e-4)),
        "qdwh": qdwh(square, low=np.float64(1e-4)),
        "zolo-pd": zolo_pd(square, low=np.float64(1e-4)),
        "step": zolotarev(2, np.float64(0.1)).apply(square),
        "power step": power_step(single, single.T[:, :2], epsilon=np.float64(1e-8)).q,
    }
    assert {name: str(x.dtype) for name, x in results.items()} == dict.fromkeys(results, "float32")


# Constants of the certificate, which sharper bounds would not satisfy


def test_the_floor_is_that_of_the_worst_rounding():
    # 2 u |G|_F / (2 s_min - u |G|_F): for diag(1, 1/2) and u = 2^-8
    certificate = certify(np.diag([1.0, 0.5]), np.eye(2), input_precision="bfloat16")
    rounding = 2.0**-8 * np.sqrt(1.25)
    assert np.isclose(float(certificate.floor), 2 * rounding / (1 - rounding), rtol=1e-12)


@pytest.mark.parametrize(("factor", "limited"), [(0.9, True), (1.1, False)])
def test_the_flag_of_the_input_turns_at_its_multiple_of_the_floor(factor, limited):
    g = np.diag([1.0, 0.5])
    floor = float(certify(g, np.eye(2), input_precision="float32").floor)
    spread = factor * 4 * 2**0.5 * floor  # all of the error: one singular value of X away from 1 by this
    certificate = certify(g, np.diag([1.0, 1.0 + spread]), input_precision="float32")
    assert bool(certificate.limited) is limited


def test_an_eigenvalue_within_its_own_rounding_is_not_proved_positive():
    g = np.diag([1.0, 1e-15])  # 8 m u |S|_F = 1.8e-15 is allowed for
    assert not bool(certify(g, np.eye(2)).definite)
    assert bool(certify(np.diag([1.0, 4e-15]), np.eye(2)).definite)


def test_a_matrix_of_foreign_byte_order_leaves_nothing_behind_for_the_next_one():
    g = np.random.default_rng(0).standard_normal((1, 2)).astype("float32")
    expected = engine_module.apply(g, ((1.5, -0.5),))
    foreign = engine_module.apply(g.astype(g.dtype.newbyteorder()), ((1.5, -0.5),))
    np.testing.assert_allclose(foreign.astype("float32"), expected, rtol=1e-6)
    np.testing.assert_array_equal(engine_module.apply(g, ((1.5, -0.5),)), expected)


def test_an_interval_that_does_not_hold_never_gives_what_is_not_finite():
    graded = np.diag(10.0 ** -np.linspace(0, 300, 6))
    x = Adaptive(accuracy=1e-3, interval=(1e-3, 1.0), costs=COUNTS).apply(graded)
    assert np.isfinite(x).all()
