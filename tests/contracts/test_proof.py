"""Proofs by ball arithmetic: they contain what is true, refuse what is not, and say how near to optimal a table is."""

import dataclasses
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orthotheory.polar import POLAR_EXPRESS_DION, SCHEDULES
from orthotheory.polar.minimax import classical_step, compose
from orthotheory.polar.multiprecision import chain_precisely
from orthotheory.polar.proof import NotProven, Proof, prove, prove_schedule


@pytest.mark.parametrize("name", SCHEDULES)
def test_every_schedule_has_the_proven_image_that_it_stores(name):
    schedule = SCHEDULES[name]
    proof = prove_schedule(schedule)
    np.testing.assert_allclose(proof.image, schedule.output_interval, atol=1e-12)
    assert proof.intervals[0] == schedule.input_interval
    assert len(proof.errors) == len(proof.brackets) == schedule.steps


@given(
    st.lists(st.lists(st.floats(-3, 3), min_size=1, max_size=4), min_size=1, max_size=3),
    st.floats(0, 1),
    st.floats(0.01, 1),
)
@settings(max_examples=60, deadline=None)
def test_exact_values_of_any_chain_lie_in_the_proven_intervals(rows, low, width):
    proof = prove(rows, low, low + width)
    largest = [Fraction(0)] * len(rows)
    for x in np.linspace(low, low + width, 23):
        value = Fraction(min(x, low + width))
        for k, row in enumerate(rows):
            value = sum(Fraction(c) * value ** (2 * i + 1) for i, c in enumerate(row))
            assert Fraction(proof.intervals[k + 1][0]) <= value <= Fraction(proof.intervals[k + 1][1])
            largest[k] = max(largest[k], abs(1 - value))
    assert all(Fraction(bound) >= found for bound, found in zip(proof.errors, largest, strict=True))


@pytest.mark.parametrize(
    ("row", "low", "high", "image"),
    [
        ((1.5, -0.5), 0, 2, (-1, 1)),  # the maximum 1 at 1, and a root at sqrt(3)
        ((1.5, -0.5), "0.5", 1, (0.6875, 1)),
        ((0.0, 1.0), 0.5, 2, (0.125, 8)),  # p' has a double zero at 0
        ((2.0,), 0.25, 0.5, (0.5, 1)),
        ((1, -2, 1), 0, 1.25, (0, 0.39550781)),  # x (1 - x^2)^2: an interior maximum, a double root, the end
    ],
)
def test_the_image_of_one_step_is_exact_at_ends_and_critical_points(row, low, high, image):
    proven = prove([row], low, high).image
    np.testing.assert_allclose(proven, image, atol=1e-8)
    inner = sum(
        c * x ** (2 * i + 1) for i, c in enumerate(row) for x in [np.linspace(float(Fraction(low)), high, 10**5)]
    )
    assert proven[0] <= inner.min() + 1e-15
    assert inner.max() - 1e-15 <= proven[1] <= inner.max() + 1e-9


def test_a_step_that_turns_the_sign_is_followed_on_both_sides_of_zero():
    """The image of the first step reaches below zero: the next one has critical points there as well."""
    rows = [(1.0, -2.0), (1.5, -0.5)]
    proof = prove(rows, 0, 1.25)
    x = np.linspace(0, 1.25, 200_001)
    y = x - 2 * x**3
    z = 1.5 * y - 0.5 * y**3
    assert y.min() < -1
    np.testing.assert_allclose(proof.image, (z.min(), z.max()), atol=1e-9)


def test_a_precise_chain_is_proven_to_be_optimal_in_all_printed_digits():
    chain = compose([5] * 8, 1e-3, digits=60)
    proof = prove(chain.decimals, 1e-3, precision=512)
    for bracket, error in zip(proof.brackets, chain.errors, strict=True):
        assert bracket[0] <= error <= bracket[1]
        assert bracket[1] - bracket[0] <= 8 * np.spacing(bracket[1])  # rounded outward to float64
    assert proof.errors[-1] == pytest.approx(6.9597564473e-29, rel=1e-9)
    assert proof.optimum[0] >= proof.optimum[1] * (1 - 1e-14)
    assert proof.errors[5] == pytest.approx(9.164721887e-4, rel=1e-9)


def test_the_bracket_of_a_stored_table_contains_the_optimum_of_its_degree():
    table = compose([5] * 5, 1e-3).coefficients
    proof = prove(table, 1e-3)
    for bracket, step in zip(proof.brackets, chain_precisely([5] * 5, 1e-3, digits=30), strict=True):
        # a step rises by up to 25 just above its interval: the rounding of one is so many times larger in the next
        assert bracket[0] - 1e-10 <= float(step.error) <= bracket[1] + 1e-10
        assert bracket[1] - bracket[0] <= 1e-10
    assert proof.optimum[0] == pytest.approx(proof.optimum[1], rel=1e-8)


def test_a_table_that_is_not_optimal_gets_a_bracket_that_says_so():
    optimal = np.array(compose([5], 1e-2).coefficients[0])
    low, high = prove([tuple(optimal * [1, 1, 1.001])], 1e-2).brackets[0]
    assert 0 < low < high * (1 - 1e-3)
    assert low <= compose([5], 1e-2).error <= high
    assert prove([classical_step(5)], 1e-2).brackets[0][0] == 0  # 1 - p does not alternate at all


@pytest.mark.parametrize("index", [(0, 0), (2, 1), (4, 2)])
@pytest.mark.parametrize("change", [1e-6, -1e-3])
def test_a_perturbed_table_is_refused(index, change):
    schedule = compose([5] * 5, 1e-3).schedule("pure chain")
    rows = [list(row) for row in schedule.coefficients]
    rows[index[0]][index[1]] *= 1 + change
    perturbed = dataclasses.replace(schedule, coefficients=tuple(map(tuple, rows)))
    with pytest.raises(NotProven, match="pure chain maps"):
        prove_schedule(perturbed)
    assert prove_schedule(schedule).errors[-1] < prove(perturbed.coefficients, 1e-3).errors[-1]


def test_a_perturbation_that_later_steps_absorb_is_seen_in_the_intervals_between():
    """With a cushion the extremes of the Dion table are those of its last steps: the image alone does not tell."""
    rows = [list(row) for row in POLAR_EXPRESS_DION.coefficients]
    rows[0][0] *= 1 + 1e-6
    ours, theirs = prove(rows, 1e-3), prove_schedule(POLAR_EXPRESS_DION)
    assert ours.image == pytest.approx(theirs.image, abs=1e-12)
    assert ours.intervals[1] != pytest.approx(theirs.intervals[1], rel=1e-8)


def test_a_claim_is_supported_exactly_when_it_contains_the_proven_image():
    proof = prove([(1.5, -0.5)] * 2, 0.5)
    low, high = proof.image
    assert proof.supports(low, high)
    assert not proof.supports(low, np.nextafter(high, 0))
    assert not proof.supports(np.nextafter(low, 1), high)


def test_a_set_that_turns_the_direction_is_found_out():
    proof = prove(SCHEDULES["emerging-aol"].coefficients, 0.0, 1.0)
    assert proof.image[0] < -1
    assert not proof.supports(0.0, 2.0)
    assert prove(SCHEDULES["polar-express"].coefficients, 0.0, 1.0).supports(0.0, 2.0)


def test_the_certificate_prints_what_it_proves():
    text = str(prove(compose([5, 5], 0.1).coefficients, 0.1))
    assert text.startswith("Proven by ball arithmetic with 256 bits:\nsingular values in [0.1")
    assert len(text.splitlines()) == 6
    assert "0.45341690543" in text
    assert text.splitlines()[-1].startswith("The best chain of these degrees has an error in [0.0")


def test_a_proof_is_frozen_and_compares_by_value():
    one, two = (prove([(1.5, -0.5)], 0.5) for _ in range(2))
    assert one == two
    assert isinstance(one, Proof)
    with pytest.raises(dataclasses.FrozenInstanceError):
        one.errors = ()


def test_decimals_are_taken_exactly_and_floats_as_the_binary_numbers_they_are():
    assert prove([("0.1",)], 1, 1).intervals[1] != prove([(0.1,)], 1, 1).intervals[1]
    assert prove([(0.1,)], 1, 1).image == (0.1, 0.1)
    low, high = prove([("0.1",)], 1, 1).image
    assert Fraction(low) < Fraction(1, 10) < Fraction(high)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([], 0.1), "at least one step"),
        (([()], 0.1), "at least one step"),
        (([(1.0,)], 2.0, 1.0), "0 <= low <= high"),
        (([(1.0,)], -1.0), "0 <= low <= high"),
        (([(np.nan,)], 0.1), "finite numbers"),
        (([(np.inf,)], 0.1), "finite numbers"),
        (([("one",)], 0.1), "finite numbers"),
    ],
)
def test_what_cannot_be_proven_about_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        prove(*arguments)


def test_too_few_bits_are_refused():
    with pytest.raises(ValueError, match="at least 64 bits; got 53"):
        prove([(1.0,)], 0.1, precision=53)


def test_a_bound_between_two_floats_is_rounded_outward():
    import flint

    from orthotheory.polar.proof import _down, _up

    for sign in (1, -1):
        with flint.ctx.workprec(256):
            x = sign * (1 + flint.arb(2) ** -60)
            assert (_down(x), _up(x)) == ((1.0, 1 + 2.0**-52) if sign > 0 else (-1 - 2.0**-52, -1.0))
