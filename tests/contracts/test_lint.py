"""The schedule linter: each defect is found in the set that has it, with its number, and the clean sets are clean."""

import dataclasses
import math

import numpy as np
import pytest

from orthotheory.polar import MUON_QUINTIC, NEWTON_SCHULZ_CUBIC, POLAR_EXPRESS, SCHEDULES, Normalization, newton_schulz
from orthotheory.polar.lint import BASIN, Finding, headroom, lint, peak_and_fixed_point
from orthotheory.polar.presets import root
from orthotheory.polar.schedule import with_image


def rules(schedule, **options) -> set[str]:
    return {finding.rule for finding in lint(schedule, **options)}


def finding(schedule, rule) -> Finding:
    (found,) = [f for f in lint(schedule) if f.rule == rule]
    return found


CLEAN = [
    "newton-schulz-cubic",
    "newton-schulz-quintic",
    "polar-express",
    "polar-express-5",
    "polar-express-dion",
    "you-6",
]


@pytest.mark.parametrize("name", CLEAN)
def test_the_sets_with_headroom_and_a_safe_top_are_clean(name):
    assert lint(SCHEDULES[name]) == []


EXPECTED = {  # errors and warnings of every other set
    "muon-quintic": {"non-monotone"},
    "muon-jordan": {"non-monotone", "not-scale-free"},
    "muon-torch": {"non-monotone", "not-scale-free"},
    "muon-10": {"non-monotone"},
    "you-5": set(),
    "polar-express-raw-5": {"no-headroom"},
    "polar-express-raw-6": {"no-headroom"},
    "polar-express-raw-7": {"no-headroom"},
    "polar-express-gram": set(),
    "cans-5": {"no-headroom"},
    "deepseek-v4": {"non-monotone"},
    "cubic-5": {"vanishing-top", "no-headroom"},
    "emerging-aol": {"sign-flip", "no-headroom"},
    "flash-aol": {"biased"},
    "root-2048x2048": {"overshoot", "no-headroom"},
    "root-2048x3072": set(),
    "root-2048x8192": set(),
    "root-2048x16384": set(),
}


def test_every_set_of_the_registry_is_judged_here():
    assert set(CLEAN) | set(EXPECTED) == set(SCHEDULES)


@pytest.mark.parametrize("name", EXPECTED)
def test_the_findings_of_each_published_set(name):
    assert rules(SCHEDULES[name]) == EXPECTED[name]


@pytest.mark.parametrize("name", EXPECTED)
def test_errors_come_first(name):
    severities = [f.severity for f in lint(SCHEDULES[name])]
    assert severities == sorted(severities)


# Each finding tells the truth about matrices


def test_the_sign_flip_is_there_a_rank_one_matrix_comes_out_reversed():
    flips = SCHEDULES["emerging-aol"]
    rng = np.random.default_rng(0)
    u, v = rng.standard_normal(5), rng.standard_normal(7)
    direction = np.outer(u, v) / (np.linalg.norm(u) * np.linalg.norm(v))
    out = flips.apply(np.outer(u, v))
    np.testing.assert_allclose(out, -0.9935 * direction, atol=5e-5)
    assert finding(flips, "sign-flip").value == pytest.approx(-1.0844, abs=5e-5)
    assert "0.8837" in finding(flips, "sign-flip").message
    # and it starts there: just below, the sign is right
    assert flips.singular_value_map(0.883) > 0 > flips.singular_value_map(0.884)
    first = 0.8837  # of the norm: 78 % of its square
    assert round(first**2, 2) == 0.78


@pytest.mark.parametrize("bound", ["frobenius", "schatten-8", "aol"])
def test_no_bound_protects_the_aol_set_from_a_matrix_of_rank_one(bound):
    rng = np.random.default_rng(1)
    g = np.outer(rng.standard_normal(6), rng.standard_normal(6))
    out = dataclasses.replace(SCHEDULES["emerging-aol"], normalization=Normalization(bound=bound)).apply(g)
    assert np.sum(out * g) < -0.8 * np.linalg.norm(out) * np.linalg.norm(g)


def test_roots_square_set_leaves_its_basin_next_to_0559():
    square = root((2048, 2048))
    assert finding(square, "overshoot").value == pytest.approx(3.3138, abs=5e-5)
    turning, peak, fixed = peak_and_fixed_point(square.coefficients[0])
    assert (round(turning, 4), round(peak, 5), round(fixed, 5)) == (0.5591, 1.22459, 1.22355)
    assert peak > fixed
    # the iterates from the peak, as far as five, six and seven steps
    s, trace = turning, []
    for _ in range(6):
        s = float(square.singular_value_map(s, steps=1))
        trace.append(s)
    np.testing.assert_allclose(trace[:5], [1.2246, 1.2292, 1.2553, 1.4191, 3.3138], atol=5e-5)
    assert trace[5] > 600
    with pytest.raises(ValueError, match="more steps diverge"):
        square.with_normalization(Normalization())


def test_two_percent_of_the_unit_interval_come_out_above_two_from_roots_square_set():
    square = root((2048, 2048))
    s = np.linspace(0, 1, 1_000_001)
    out = square.singular_value_map(s)
    assert np.mean(out > 1.25) == pytest.approx(0.040, abs=5e-4)
    assert np.mean(out > 2) == pytest.approx(0.021, abs=5e-4)
    fixed = peak_and_fixed_point(square.coefficients[0])[2]
    window = s[square.singular_value_map(s, steps=1) > fixed]
    np.testing.assert_allclose([window.min(), window.max()], [0.5438, 0.5745], atol=5e-5)
    top = 0.5591  # of the norm: stable rank 1 / top^2 = 3.2
    assert round(top**-2, 1) == 3.2
    g = np.diag([top, *np.full(15, np.sqrt((1 - top**2) / 15))])
    assert np.linalg.norm(square.apply(g), 2) == pytest.approx(3.31, abs=0.01)


@pytest.mark.parametrize("shape", [(2048, 3072), (2048, 8192), (2048, 16384)])
def test_roots_other_sets_map_the_unit_interval_into_a_bounded_one_for_ever(shape):
    turning, peak, fixed = peak_and_fixed_point(root(shape).coefficients[0])
    assert peak < fixed
    assert root(shape, steps=200).image(0.0, 1.0)[1] == pytest.approx(peak)
    assert 0 < turning < 1


def test_the_headroom_is_what_a_set_survives():
    for name in ("polar-express", "polar-express-dion", "you-5", "cubic-5", "muon-quintic"):
        schedule = SCHEDULES[name]
        room, step = headroom(schedule)
        high = schedule.normalization.top
        for k in range(step - 1):
            high = step_image(schedule.coefficients[k], high)
        rest = dataclasses.replace(schedule, coefficients=schedule.coefficients[step - 1 :])
        inside = rest.singular_value_map(np.linspace(high, high * (1 + 0.999 * room), 10_001))
        assert 0 < inside.min() <= inside.max() < BASIN
        outside = rest.singular_value_map(np.linspace(high * (1 + room), high * (1 + 1.01 * room + 1e-5), 10_001))
        assert outside.min() <= 0 or outside.max() >= BASIN


def step_image(step, high):
    grid = np.linspace(0, high, 1_000_001)
    return max(sum(c * grid ** (2 * i + 1) for i, c in enumerate(step)))


def test_the_headroom_of_polar_express_is_its_safety_factor():
    assert headroom(POLAR_EXPRESS)[0] == pytest.approx(0.01, rel=0.1)
    assert headroom(SCHEDULES["polar-express-dion"])[0] == pytest.approx(0.02, rel=0.1)
    assert headroom(SCHEDULES["polar-express-raw-5"])[0] < 1e-4
    assert headroom(NEWTON_SCHULZ_CUBIC)[0] == pytest.approx(BASIN - 1, rel=1e-4)  # (0, sqrt 3) itself


def test_low_precision_decides_the_warnings_of_precision_alone():
    raw, cubic = SCHEDULES["polar-express-raw-7"], SCHEDULES["cubic-5"]
    assert rules(raw, dtype="bfloat16") == rules(raw, dtype="float16") == {"no-headroom"}
    assert rules(cubic, dtype="float32") == rules(cubic, dtype="float64") == set()
    assert "sign-flip" in rules(SCHEDULES["emerging-aol"], dtype="float64")
    with pytest.raises(ValueError, match="dtype must be one of bfloat16, float16, float32, float64; got 'int8'"):
        lint(raw, dtype="int8")


def test_the_vanishing_top_is_the_cancellation_at_one():
    value = finding(SCHEDULES["cubic-5"], "vanishing-top").value
    assert value == pytest.approx(3.3656576 - 3.3420992, rel=1e-12)
    # with a safety factor the top is no longer next to the zero of the polynomial
    assert "vanishing-top" not in rules(
        dataclasses.replace(SCHEDULES["cubic-5"], normalization=Normalization(safety=1.02))
    )


def test_the_map_of_muon_turns_where_the_linter_says():
    turn = finding(MUON_QUINTIC, "non-monotone").value
    assert MUON_QUINTIC.singular_value_map(turn) == pytest.approx(1.2024, abs=5e-5)
    assert MUON_QUINTIC.singular_value_map(0.009) < 1.2
    lower = dataclasses.replace(MUON_QUINTIC, input_interval=(1e-3, 1.0))
    assert "non-monotone" not in rules(lower)


def test_a_set_without_gain_and_a_set_that_diverges_are_errors():
    shrinks = with_image(name="shrinks", coefficients=((0.9, 0.05),), source="here", input_interval=(1e-3, 1.0))
    assert finding(shrinks, "no-gain").severity == "error"
    diverges = with_image(name="diverges", coefficients=((3.0, 0.5),) * 2, source="here", input_interval=(1e-3, 1.0))
    assert finding(diverges, "overshoot").severity == "error"
    assert not math.isnan(finding(diverges, "overshoot").value)


def test_an_epsilon_and_a_biased_scaling_are_named():
    shipped = dataclasses.replace(newton_schulz(20), normalization=Normalization(1e-7, bound="aol"))
    assert rules(shipped) == {"not-scale-free", "biased"}


def test_the_headroom_of_what_diverges_below_zero_is_nothing_and_overflows_nowhere():
    steep = with_image(name="down", coefficients=((1.0, -3.0), (2.0, 1.0)), source="test", input_interval=(0.1, 0.3))
    steep = dataclasses.replace(steep, coefficients=(steep.coefficients[0], *(steep.coefficients[1],) * 20))
    assert headroom(steep) == (0.0, 1)
