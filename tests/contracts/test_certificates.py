"""Certificates are never violated: on hard matrices, by every algorithm, against the factors from the SVD.

The reference factor of NumPy's SVD has an error of its own, at most 64 m n eps times the condition number of G;
`efficiency` and `distance` do not depend on small singular values, their references are good to 64 m n eps.
"""

import numpy as np
import pytest
from conftest import hard_matrices, rotation

from orthotheory.arrays import device_of, dtype_name, to_host
from orthotheory.polar import MUON_QUINTIC, POLAR_EXPRESS, SCHEDULES, Normalization, polar_factor
from orthotheory.polar.certificate import Certificate, certify, deficit, orthogonality, planned_efficiency
from orthotheory.polar.minimax import compose
from orthotheory.polar.newton import NewtonStep
from orthotheory.polar.planner import plan_for
from orthotheory.polar.schedule import with_image
from orthotheory.polar.spectrum import Lanczos

EPS = np.finfo(float).eps
FIELDS = list(Certificate.__dataclass_fields__)


def fields(certificate) -> dict[str, np.ndarray]:
    return {name: to_host(getattr(certificate, name)) for name in FIELDS}


def adjoint(a):
    return np.conj(np.swapaxes(a, -1, -2))


def norm(a):
    return np.sqrt((np.abs(a) ** 2).sum(axis=(-2, -1)))


def violations(g, x, plan=None, claimed=1.0) -> dict[str, np.ndarray]:
    """For each certified bound the excess of the truth over it, in units of the error of the reference.

    With `claimed` below 1 the bounds of distances are shrunk, and the gap of the efficiency to 1 as well.
    """
    c = fields(certify(g, x, plan=plan))
    for name in ("forward", "direction", "distance", "rho"):
        c[name] = claimed * c[name]
    c["efficiency"] = 1 - claimed * (1 - c["efficiency"])
    wide = g.shape[-2] <= g.shape[-1]
    g, x = (a if wide else np.swapaxes(a, -1, -2) for a in (g, x))
    work = np.complex128 if np.iscomplexobj(g) else np.float64
    g, x = g.astype(work), x.astype(work)
    m, n = g.shape[-2:]
    u, s, vh = np.linalg.svd(g, full_matrices=False)
    factor = u @ vh
    ux, sx, vx = np.linalg.svd(x, full_matrices=False)
    unit = 64 * m * n * EPS
    with np.errstate(divide="ignore", invalid="ignore"):
        reference = unit * np.where(s[..., -1] > 0, s[..., 0] / s[..., -1], np.inf)
        size = np.maximum(1.0, sx[..., 0])
        value = (g * x.conj()).real.sum(axis=(-2, -1))
        efficiency = np.where(s[..., 0] > 0, value / (sx[..., 0] * s.sum(axis=-1)), 1.0)
        excess = {
            "forward": (norm(x - factor) - c["forward"]) / (reference * size),
            "direction": (norm(ux @ vx - factor) - c["direction"]) / reference / np.maximum(1, 1 / sx[..., -1]),
            "distance": (np.abs(1 - sx).max(axis=-1) - c["distance"]) / (unit * size),
            "rho": (np.abs(1 - sx**2).max(axis=-1) - c["rho"]) / (unit * size**2),
            "efficiency": (c["efficiency"] - efficiency) / unit,
        }
        if plan is not None:
            excess["planned_efficiency"] = (c["planned_efficiency"] - efficiency) / unit
            least = np.linalg.svd(plan.normalization(g), compute_uv=False)[..., -1]
            low = plan.input_interval[0]
            excess["inside"] = np.where(c["inside"], (low - least) / unit, -np.inf)
            excess["outside"] = np.where(c["outside"], (least - low) / unit, -np.inf)
    return {name: np.where(np.isnan(value), -np.inf, value) for name, value in excess.items()}


def hard_batch(rng, count):
    """A batch of matrices of one random shape with graded, clustered, deficient or random singular values."""
    m, n = (int(k) for k in rng.integers(1, 8, size=2))
    r = min(m, n)
    complex_ = rng.random() < 0.25
    dtype = np.float64 if rng.random() < 0.5 else np.float32

    def draw(*shape):
        a = rng.standard_normal(shape)
        return a + 1j * rng.standard_normal(shape) if complex_ else a

    u, v = np.linalg.qr(draw(count, m, r))[0], np.linalg.qr(draw(count, n, r))[0]
    kind = rng.integers(5, size=(count, 1))
    exponents = rng.uniform(0, 1, (count, r)) * rng.uniform(0, 12, (count, 1))
    s = np.where(kind == 0, 10.0**-exponents, 1.0)
    s = np.where(kind == 1, 1 + 1e-9 * rng.standard_normal((count, r)), s)
    s = np.where(kind == 2, np.where(rng.random((count, r)) < 0.5, 1.0, 1e-6), s)
    s = np.where(kind == 3, np.where(rng.random((count, r)) < 0.3, 0.0, rng.random((count, r))), s)
    s = np.where(kind == 4, rng.random((count, r)), s)
    g = (u * s[:, None, :]) @ adjoint(v) * 2.0 ** rng.integers(-30, 30, (count, 1, 1))
    return g.astype(np.result_type(dtype, np.complex64) if complex_ else dtype)


def answers(rng, g):
    """Factors of a batch: of a schedule with its plan, the exact one perturbed by any size, noise, the batch itself."""
    name = rng.choice(sorted(SCHEDULES))
    yield polar_factor(g, SCHEDULES[name]), SCHEDULES[name]
    perturbation = rng.standard_normal(g.shape) * 10.0 ** rng.uniform(-16, 0, (len(g), 1, 1))
    yield (polar_factor(g) + perturbation.astype(g.dtype)), None
    yield rng.standard_normal(g.shape).astype(g.dtype), MUON_QUINTIC.with_normalization(Normalization(bound="exact"))
    yield g, None


# A plan says how X was made: for another X, and beyond its rounding in float32, `planned_efficiency` says nothing.
def search(count, seed=0, claimed=1.0):
    rng = np.random.default_rng(seed)
    cases, worst = 0, {}
    while cases < count:
        g = hard_batch(rng, 100)
        for x, plan in answers(rng, g):
            for name, excess in violations(g, x, plan, claimed).items():
                made_by_plan = plan is not None and plan.normalization.bound != "exact"
                if name == "planned_efficiency" and (not made_by_plan or dtype_name(g) in ("float32", "complex64")):
                    continue
                worst[name] = max(worst.get(name, -np.inf), float(excess.max()))
            cases += len(g)
    return cases, worst


def test_no_certificate_is_violated_on_random_hard_matrices():
    cases, worst = search(4_000)
    assert cases >= 4_000
    assert set(worst) >= {"forward", "distance", "rho", "efficiency", "planned_efficiency", "inside", "outside"}
    assert max(worst.values()) <= 1, worst


@pytest.mark.parametrize("name", ["direction", "forward", "distance", "rho", "efficiency"])
def test_a_bound_that_promises_one_percent_more_is_caught(name):
    _, worst = search(4_000, claimed=0.99)
    assert worst[name] > 1


@pytest.mark.slow
def test_no_certificate_is_violated_on_a_hundred_thousand_hard_matrices(capsys):
    cases, worst = search(100_000, seed=1)
    with capsys.disabled():
        print(f"\n{cases} certificates, none violated; largest excess in units of the reference's error: {worst}")
    assert cases >= 100_000
    assert max(worst.values()) <= 1, worst


@pytest.mark.parametrize("label", hard_matrices())
@pytest.mark.parametrize("plan", ["exact", "polar-express", "muon-quintic"])
def test_the_hard_matrices_have_certificates_that_hold(xp, label, plan):
    g = hard_matrices()[label]
    schedule = SCHEDULES.get(plan)
    x = polar_factor(xp.asarray(g), plan)
    certificate = certify(xp.asarray(g), x, plan=schedule)
    for name in FIELDS:
        value = getattr(certificate, name)
        assert value.shape == g.shape[:-2], name
        assert device_of(value) == xp.device
        assert dtype_name(value) == ("bool" if name in ("definite", "limited", "inside", "outside") else "float64")
    host = fields(certificate)
    assert not any(np.isnan(host[name]).any() for name in FIELDS if name != "planned_efficiency")
    for excess in violations(g, to_host(x), schedule).values():
        assert excess.max(initial=-np.inf) <= 1
    deficient = label in ("rank one", "rank two")
    if deficient:
        assert host["forward"] == np.inf


def test_zero_is_its_own_polar_factor_exactly(xp):
    zero = xp.asarray(np.zeros((3, 4)))
    c = fields(certify(zero, zero, plan=POLAR_EXPRESS))
    assert c["forward"] == c["direction"] == 0
    assert c["efficiency"] == 1
    assert c["rho"] == pytest.approx(1)
    assert fields(certify(zero, zero + 1))["forward"] == np.inf


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("which", ["g", "x"])
def test_a_member_that_is_not_finite_is_certified_nothing_and_its_neighbors_everything(xp, which, bad):
    g = np.random.default_rng(3).standard_normal((3, 4, 5))
    x = polar_factor(g, "polar-express")
    before = fields(certify(xp.asarray(g), xp.asarray(x), plan=POLAR_EXPRESS))
    spoiled = {"g": g.copy(), "x": x.copy()}
    spoiled[which][1, 2, 3] = bad
    after = fields(certify(xp.asarray(spoiled["g"]), xp.asarray(spoiled["x"]), plan=POLAR_EXPRESS))
    for name in FIELDS:
        np.testing.assert_array_equal(after[name][[0, 2]], before[name][[0, 2]])
        assert not after[name][1] or np.isnan(after[name][1])


@pytest.mark.parametrize("size", [1e-300, 1e-9, 1e9, 1e300])
def test_huge_and_tiny_factors_are_measured_not_overflowed(size):
    g = np.random.default_rng(4).standard_normal((4, 5))
    c = fields(certify(g, size * polar_factor(g)))
    assert c["direction"] < 1e-10  # the direction does not depend on the size of X
    expected = np.inf if size > 1e150 else 2 * abs(size - 1)  # four equal singular values
    assert c["forward"] == pytest.approx(expected, rel=1e-10)
    assert c["efficiency"] == pytest.approx(1.0, abs=1e-10)


@pytest.mark.parametrize("exponent", [-900, -3, 40, 900])
def test_a_power_of_two_on_the_matrix_changes_no_bit_of_the_certificate(xp, exponent):
    g = np.random.default_rng(5).standard_normal((3, 5))
    x = xp.asarray(polar_factor(g, "polar-express"))
    before = fields(certify(xp.asarray(g), x, plan=POLAR_EXPRESS))
    after = fields(certify(xp.asarray(g * 2.0**exponent), x, plan=POLAR_EXPRESS))
    for name in FIELDS:
        np.testing.assert_array_equal(after[name], before[name])


def test_a_small_turn_attains_the_bound_of_the_direction():
    """A turn by t in the plane of two singular values s: 2 |K| / (s + s cos t) = |Q - Q~| (1 + O(t^2))."""
    t = 1e-3
    turn = np.eye(4)
    turn[2:, 2:] = [[np.cos(t), -np.sin(t)], [np.sin(t), np.cos(t)]]
    g = np.diag([1.0, 0.5, 0.01, 0.01])
    c = fields(certify(g, turn))
    true = np.linalg.norm(turn - np.eye(4))
    assert true <= c["forward"] <= true * (1 + 1e-2)
    assert c["skew"] == pytest.approx(np.sqrt(2) * 0.01 * np.sin(t) / np.linalg.norm(g), rel=1e-6)
    assert c["leak"] < 1e-15
    assert c["definite"]


def test_a_reflected_factor_is_not_definite_and_gets_no_bound():
    g = np.diag([1.0, 0.5, 0.25])
    c = fields(certify(g, np.diag([1.0, 1.0, -1.0])))
    assert not c["definite"]
    assert c["forward"] == np.inf
    assert c["efficiency"] == pytest.approx((1.5 - 0.25) / 1.75, rel=1e-12)
    c = fields(certify(g, -np.eye(3)))
    assert c["efficiency"] == -1


def test_the_orthogonality_bound_of_the_survey():
    """rho = 1.87e-3 bounds the distance by 0.935e-3; 0.933e-3 was the truth."""
    s = np.array([1.0, 1 - 0.935e-3, 1 + 0.9e-3])
    x = (rotation(3, np.random.default_rng(6)) * s) @ rotation(3, np.random.default_rng(7))
    rho, bound = orthogonality(np.sqrt(0.5) * np.concatenate([x, x], axis=1))  # a wide one with the same values
    c = fields(certify(x, x))
    assert c["rho"] == pytest.approx(1.87e-3, rel=1e-3)
    assert c["distance"] == pytest.approx(0.935e-3, rel=1e-6)
    assert rho == pytest.approx(np.linalg.norm(1 - s**2), rel=1e-9)
    assert bound == pytest.approx(rho / (1 + np.sqrt(1 - rho)), rel=1e-12)
    assert bound >= c["distance"]


@pytest.mark.parametrize(
    ("shape", "name", "expected"),
    [
        ((256, 256), "muon-quintic", 0.723),
        ((256, 1024), "muon-quintic", 0.832),
        ((256, 1024), "polar-express-5", 0.899),
    ],
)
def test_the_efficiency_of_gaussian_matrices_is_the_surveys(shape, name, expected):
    # one draw of the survey against one of ours: the third digit moves between draws
    g = np.random.default_rng(8).standard_normal(shape)
    c = fields(certify(g, polar_factor(g, name), plan=SCHEDULES[name]))
    assert c["efficiency"] == pytest.approx(expected, abs=4e-3)
    assert 0.5 < c["planned_efficiency"] < c["efficiency"]


def test_the_planned_bound_is_tight_where_all_singular_values_are_equal():
    """G = I / sqrt(n): every s is 1 / sqrt n, and a = p(s) gives equality up to max p / p(s) and the deficit."""
    g = np.eye(9)
    x = POLAR_EXPRESS.apply(g)
    c = fields(certify(g, x, plan=POLAR_EXPRESS))
    assert c["efficiency"] == pytest.approx(1.0, rel=1e-12)
    assert c["planned_efficiency"] == pytest.approx(1.0, abs=2e-3)
    assert planned_efficiency(POLAR_EXPRESS, g, x) == pytest.approx(c["planned_efficiency"], rel=1e-12)


@pytest.mark.parametrize("name", ["muon-quintic", "polar-express", "emerging-aol"])
def test_the_deficit_bounds_the_map_on_a_fine_grid(name):
    schedule = SCHEDULES[name]
    top = schedule.normalization.top
    a, worst, highest = deficit(schedule.coefficients, top)
    s = np.concatenate([np.geomspace(1e-9, top, 300_001), np.linspace(1e-9, top, 300_001)])
    p = schedule.singular_value_map(s)
    assert p.max() <= highest <= p.max() * (1 + 1e-6)
    for value, bound in zip(a[::7], worst[::7], strict=True):
        grid = np.maximum(0, s * (1 - p / value)).max()
        assert grid <= bound * (1 + 1e-12)
        assert bound <= grid * 1.05 + 1e-4  # the cells are 0.5 % wide


def test_the_interval_of_a_plan_is_checked_against_the_spectrum():
    rng = np.random.default_rng(9)
    u, v = rotation(5, rng), rotation(5, rng)
    for least, inside, outside in ((0.1, True, False), (1e-5, False, True)):
        g = (u * np.array([1.0, 0.8, 0.5, 0.3, least])) @ v
        c = fields(certify(g, polar_factor(g), plan=POLAR_EXPRESS))
        assert (bool(c["inside"]), bool(c["outside"])) == (inside, outside)
    # on the end of the interval nothing is proved
    norm = 1.01 * np.sqrt(1 + 3 * 0.25)
    edge = np.array([1.0, 0.5, 0.5, 0.5, 0.0])
    edge[4] = 1e-3 * norm / np.sqrt(1 - (1e-3 * 1.01) ** 2)
    g = (u * edge) @ v
    c = fields(certify(g, polar_factor(g), plan=POLAR_EXPRESS))
    assert not c["inside"]
    assert not c["outside"]
    c = fields(certify(g, polar_factor(g)))
    assert not c["inside"]
    assert not c["outside"]


@pytest.mark.parametrize("precision", ["bfloat16", "float16", "float32"])
def test_the_floor_bounds_what_rounding_the_input_does(precision):
    unit = {"bfloat16": 2.0**-8, "float16": 2.0**-11, "float32": 2.0**-24}[precision]
    rng = np.random.default_rng(10)
    u, v = rotation(6, rng), rotation(6, rng)
    g = (u * np.geomspace(1, 0.05, 6)) @ v
    worst = 0.0
    for _ in range(50):
        rounded = g * (1 + unit * rng.uniform(-1, 1, g.shape))
        x = polar_factor(rounded)
        floor = float(certify(rounded, x, input_precision=precision).floor)
        true = np.linalg.norm(x - polar_factor(g))
        assert true <= floor
        worst = max(worst, true / floor)
    assert worst > 0.02  # the bound is for the worst rounding, this one is random


def test_the_flag_says_when_the_rounding_of_the_input_is_the_limit():
    rng = np.random.default_rng(11)
    g = rng.standard_normal((16, 16)).astype(np.float32)
    exact = certify(g, polar_factor(g))
    assert exact.limited
    assert "limited by the rounding of the input" in str(exact)
    early = certify(g, polar_factor(g, "muon-quintic"))
    assert not early.limited  # more steps would help
    assert "limited" not in str(early)
    g = rng.standard_normal((8, 32))
    x = polar_factor(g + 1e-3 * rng.standard_normal(g.shape))
    coarse, fine = certify(g, x, input_precision="bfloat16"), certify(g, x)
    assert coarse.limited
    assert not fine.limited
    assert coarse.floor > 1e3 * fine.floor


def test_a_batch_says_what_it_is():
    g = np.random.default_rng(12).standard_normal((2, 3, 3))
    assert str(certify(g, polar_factor(g))) == "Certificate of a batch of shape (2,)"


def test_aol_scaling_gets_no_planned_bound():
    g = np.random.default_rng(13).standard_normal((4, 4))
    flash = SCHEDULES["flash-aol"]
    c = fields(certify(g, flash.apply(g), plan=flash))
    assert np.isnan(c["planned_efficiency"])
    assert not c["inside"]
    assert np.isnan(planned_efficiency(flash, g, flash.apply(g)))
    assert 0 < c["efficiency"] < 1  # the bound from the matrices knows no plan


@pytest.mark.parametrize(
    ("g", "x", "options", "error", "message"),
    [
        (np.eye(3), np.eye(2), {}, ValueError, r"one shape; got \(3, 3\) and \(2, 2\)"),
        (np.ones(3), np.ones(3), {}, ValueError, r"certify\(g\) needs a matrix"),
        (np.eye(2, dtype=int), np.eye(2), {}, TypeError, r"certify\(g\) needs float32, float64"),
        (np.eye(2), np.eye(2), {"input_precision": "fp8"}, ValueError, "input_precision must be one of float16, bf"),
    ],
    ids=["shapes", "vector", "integers", "precision"],
)
def test_what_cannot_be_certified_is_refused(g, x, options, error, message):
    with pytest.raises(error, match=message):
        certify(g, x, **options)


@pytest.mark.parametrize(("low", "steps"), [(1e-2, 4), (1e-3, 5), (1e-3, 6)])
@pytest.mark.parametrize("shape", [(128, 128), (128, 512)], ids=["square", "wide"])
def test_the_planned_bound_is_sharper_than_the_one_that_gives_up_all_small_singular_values(low, steps, shape):
    """(1 - E) / (1 + E) (1 - m l tau / |G|_*) counts every singular value as lost below l; ours only what p leaves."""
    composition = compose((5,) * steps, low)
    schedule, error = composition.schedule("minimax"), composition.error
    g = np.random.default_rng(14).standard_normal(shape)
    s = np.linalg.svd(g, compute_uv=False)
    x = schedule.apply(g)
    true = (g * x).sum() / np.linalg.norm(x, 2) / s.sum()
    coarse = (1 - error) / (1 + error) * (1 - shape[0] * low * np.linalg.norm(g) / s.sum())
    ours = float(planned_efficiency(schedule, g, x))
    assert coarse < ours <= true
    if low == 1e-2:
        assert true - ours < 0.3 * (true - coarse)


@pytest.mark.parametrize("families", [["quintic"], ["with rational steps"], ["with Newton steps"]], ids=lambda f: f[0])
@pytest.mark.parametrize("normalization", [Normalization(bound="schatten-8"), Lanczos()], ids=["bound", "estimate"])
def test_what_a_plan_made_is_certified_against_the_plan(families, normalization):
    """A proven bound of the spectral norm and steps with 0 -> 0 give a planned bound; an estimate or 1 / s does not."""
    g = np.random.default_rng(15).standard_normal((24, 36))
    plan = plan_for(g.shape, accuracy=1e-4, interval=(1e-2, 1.0), families=families, normalization=normalization)
    x = polar_factor(g, plan)
    c = fields(certify(g, x, plan=plan))
    s = np.linalg.svd(g, compute_uv=False)
    true = (g * x).sum() / np.linalg.norm(x, 2) / s.sum()
    assert c["efficiency"] <= true
    newton = any(isinstance(step, NewtonStep) for step in plan.steps)
    if isinstance(normalization, Normalization) and not newton:
        assert 0.99 < c["planned_efficiency"] <= true
        assert c["inside"]
        assert planned_efficiency(plan, g, x) == pytest.approx(c["planned_efficiency"], rel=1e-12)
    else:
        assert np.isnan(c["planned_efficiency"])
        assert not c["inside"]
        assert np.isnan(planned_efficiency(plan, g, x))


def test_the_planned_bound_is_attained_by_the_identity_step():
    # |G|_* <= <G, X> / a + m max s (1 - s / a): with all s equal to 1/4, equality at a = 1/2
    identity = with_image(name="identity", coefficients=((1.0,),), source="test", input_interval=(0.1, 1.0))
    g = np.eye(16)
    planned = float(planned_efficiency(identity, g, identity.apply(g)))
    assert 0.25 * (1 - 5e-3) < planned <= 0.25 * (1 + 1e-12)  # 5e-3: the width of the cells


def test_the_largest_modulus_of_a_map_counts_whatever_its_sign():
    assert deficit(((1.0, -3.0),), 1.0)[2] == 2.0
