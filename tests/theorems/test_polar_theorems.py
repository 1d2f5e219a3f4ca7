"""The theorems on rational steps and random pivots: where they are refused, and laws seen in samples and matrices."""

from __future__ import annotations

import numpy as np
import pytest

from orthotheory import theory
from orthotheory.polar.jacobi import hermitian_sweep, off_square
from orthotheory.polar.newton import newton_steps
from orthotheory.polar.zolotarev import zolotarev, zolotarev_error, zolotarev_image
from orthotheory.theory.contract import AssumptionFails, check
from orthotheory.theory.pivots import mean_after_one_rotation
from orthotheory.theory.rational import THEOREMS, at_once, composed, halley_recursion, newton_images

EPS = float(np.finfo(float).eps)


def symmetric(trials: int, n: int, rng: np.random.Generator) -> np.ndarray:
    a = rng.standard_normal((trials, n, n))
    return a + np.swapaxes(a, -1, -2)


# Random pivots


def test_a_sweep_of_random_rotations_contracts_by_one_over_e_on_average():
    n, trials, rng = 16, 400, np.random.default_rng(0)
    a = symmetric(trials, n, rng)
    contraction = off_square(hermitian_sweep(a, rng=rng)) / off_square(a)
    expected = (1 - 2 / (n * (n - 1))) ** (n * (n - 1) // 2)
    assert round(expected, 3) == 0.366
    assert expected == pytest.approx(np.exp(-1), rel=5e-3)
    deviation = contraction.std(ddof=1) / np.sqrt(trials)
    assert deviation < 0.005  # the sample can tell 0.366 from 0.35
    assert abs(contraction.mean() - expected) < 4 * deviation


def test_a_cyclic_sweep_contracts_more_than_a_random_one():
    a = symmetric(20, 16, np.random.default_rng(1))
    contraction = off_square(hermitian_sweep(a, pivots="cyclic")) / off_square(a)
    assert contraction.max() < np.exp(-1)
    assert contraction.mean() < 0.3


def test_the_rate_does_not_depend_on_the_matrix():
    rng = np.random.default_rng(2)
    ratios = []
    for a in (*symmetric(5, 7, rng), np.diag(np.arange(7.0)) + 1e-8 * symmetric(1, 7, rng)[0]):
        ratios.append(float(mean_after_one_rotation(a)[0] / off_square(a)))
    np.testing.assert_allclose(ratios, 1 - 2 / 42, rtol=1e-7)  # the small matrix is seen through eps / 1e-8


@pytest.mark.parametrize("a", [np.eye(3), np.array([[1.0, 2.0], [3.0, 1.0]])], ids=["diagonal", "not symmetric"])
def test_what_no_rotation_can_improve_is_refused(a):
    with pytest.raises(AssumptionFails):
        check(theory.get("jacobi-random-pivot"), a)


# Steps


@pytest.mark.parametrize("theorem", THEOREMS, ids=lambda theorem: theorem.label)
def test_a_bound_below_1e_minus_16_is_refused(theorem):
    case = (1, 1, 1e-17) if theorem.label == "zolotarev-composition" else 1e-17
    with pytest.raises(AssumptionFails, match=r"1e-16"):
        check(theorem, case)


@pytest.mark.parametrize("low", [1e-16, 1e-9, 1e-2])
def test_the_images_of_newtons_steps_are_those_of_a_dense_set_of_singular_values(low):
    s = np.geomspace(low, 1, 20001)
    for step, (bottom, top) in zip(newton_steps(low), newton_images(low), strict=True):
        s = step(s)
        assert s.max() == pytest.approx(top, rel=1e-13)
        # the points are ln(1e16) / 20000 apart in the beginning, and a step halves the distance or more
        assert bottom * (1 - 4 * EPS) <= s.min() <= bottom * (1 + 1e-3**2)


def test_nine_six_and_two_are_attained_at_1e_minus_16_and_not_far_above():
    newton = theory.get("newton-nine-steps").lhs
    assert [newton(low) for low in (1e-16, 1e-14, 1e-13, 1e-3)] == [[9], [9], [8], [7]]
    assert [halley_recursion(low) for low in (1e-16, 1e-14, 1e-13, 1e-3)] == [6, 6, 5, 4]
    assert zolotarev_error(15 * 15, 1e-13) > 5 * 2.0**-53 > zolotarev_error(15 * 15, 1e-12)  # the eighth pole is needed
    assert zolotarev_error(17 * 17, 1e-16) > 4 * 2.0**-53  # and so are five units


@pytest.mark.parametrize("low", [1e-16, 1e-6, 0.2])
def test_three_steps_compose_as_well_and_the_image_and_error_agree(low):
    bound, values = low, np.geomspace(low, 1, 301)
    for t in (1, 2, 1):
        values = zolotarev(t, bound)(values)
        bound = zolotarev_image(2 * t + 1, bound)
    np.testing.assert_allclose(values, at_once((7, 1, low)), rtol=1e-12)  # 3 * 5 * 3 = 45 = 15 * 3
    assert bound == pytest.approx(zolotarev_image(45, low), rel=1e-12)
    assert 1 - bound == pytest.approx(zolotarev_error(45, low), abs=8 * EPS)
    np.testing.assert_allclose(composed((1, 2, low)), composed((2, 1, low)), rtol=1e-12)  # the order is free
