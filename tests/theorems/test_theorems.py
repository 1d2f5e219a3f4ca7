"""Every theorem holds on its cases, refuses what its assumptions exclude, and its control fails."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from orthotheory import loop, norms, problems, theory
from orthotheory.methods import GradientDescent, TrustRegion
from orthotheory.theory.contract import AssumptionFails, Theorem, check, combine, verify, verify_control
from orthotheory.theory.descent import RECORD


@pytest.fixture(params=theory.names())
def theorem(request) -> Theorem:
    return theory.get(request.param)


def test_the_theorem_holds_on_every_case(theorem):
    verdict = verify(theorem)
    assert verdict.holds, verdict
    assert verdict.cases >= 2


def test_the_control_with_the_deliberate_mistake_fails(theorem):
    assert theorem.mistake
    assert not verify_control(theorem).holds


def test_the_ledger_row_says_what_was_measured_and_that_the_control_failed(theorem):
    row = theory.ledger_row(theorem)
    assert row["label"] == theorem.label
    assert row["verdict"] == "holds"
    assert row["control"]["fails"] is True
    assert np.isfinite(row["measured"])
    assert row["source"]


def test_the_statement_is_latex_with_balanced_braces(theorem):
    assert theorem.statement.count("{") == theorem.statement.count("}")
    assert "\\" in theorem.statement


@pytest.mark.parametrize("name", [n for n in theory.names() if theory.get(n).proof])
def test_the_symbolic_proof_goes_through(name):
    assert theory.get(name).proof()


def test_some_theorem_has_a_symbolic_proof():
    assert any(theory.get(name).proof for name in theory.names())


@pytest.mark.slow
def test_the_theorem_holds_at_paper_size(theorem):
    assert verify(theorem, "paper").holds
    assert not verify_control(theorem, "paper").holds


def _trace(method, problem=None, **options):
    problem = problem or problems.quadratic(rows=3, columns=3)
    return loop.run(problem, method, 20, record=(*RECORD, "step_curvature", "iterate"), **options)


def test_momentum_is_refused_by_the_fixed_radius_assumption():
    with pytest.raises(AssumptionFails, match="fixed radius"):
        check(theory.trust_region_nonconvex, _trace(TrustRegion(lr=0.1, momentum=0.5)))


def test_another_method_is_refused_by_the_fixed_radius_assumption():
    with pytest.raises(AssumptionFails, match="fixed radius"):
        check(theory.trust_region_nonconvex, _trace(GradientDescent(lr=0.1)))


def test_noise_is_refused():
    noisy = problems.quadratic(rows=3, columns=3, noise=problems.Gaussian(0.1))
    with pytest.raises(AssumptionFails, match="exact"):
        check(theory.exact_accounting, _trace(TrustRegion(lr=0.1), noisy))


def test_skipped_records_are_refused():
    with pytest.raises(AssumptionFails, match="every step"):
        check(theory.trust_region_nonconvex, _trace(TrustRegion(lr=0.1), every=2))


def test_a_batch_of_runs_is_refused():
    trace = loop.run(problems.quadratic(), TrustRegion(lr=np.array([0.1, 0.2])), 5, record=RECORD)
    with pytest.raises(AssumptionFails, match="one run, not of a batch"):
        check(theory.trust_region_nonconvex, trace)


def test_a_problem_that_is_not_quadratic_is_refused_by_the_accounting():
    trace = loop.run(problems.ramp(), TrustRegion(lr=0.1), 5, record=RECORD)
    with pytest.raises(AssumptionFails, match="quadratic"):
        check(theory.exact_accounting, trace)


def test_a_non_commuting_start_is_refused_by_the_cycle_theorem():
    problem = problems.quadratic(rows=3, columns=3, alignment="generic")
    with pytest.raises(AssumptionFails, match="singular vectors"):
        check(theory.spectral_cycle_commuting, _trace(TrustRegion(lr=0.1), problem))


def test_an_error_that_is_a_multiple_of_the_step_is_refused_by_the_cycle_theorem():
    problem = problems.KroneckerQuadratic(np.diag([1.0, 0.5]), np.eye(2), np.zeros((2, 2)), np.diag([0.3, 0.5]))
    with pytest.raises(AssumptionFails, match="multiple of lr"):
        check(theory.spectral_cycle_commuting, _trace(TrustRegion(lr=0.1), problem))


def test_a_short_run_is_refused_by_the_cycle_theorem():
    problem = problems.quadratic(rows=3, columns=3, basis="standard")
    with pytest.raises(AssumptionFails, match="longer"):
        check(theory.spectral_cycle_commuting, _trace(TrustRegion(lr=0.01), problem))


@pytest.mark.parametrize("share", [0.5, 0.9])
def test_any_smaller_smoothness_constant_breaks_the_trust_region_bound(share):
    from orthotheory.theory.descent import envelope

    smaller = dataclasses.replace(theory.trust_region_nonconvex, rhs=lambda t: envelope(t, curvature_share=share))
    problem = problems.quadratic(rows=4, columns=4, basis="standard", seed=1)
    trace = loop.run(problem, TrustRegion(norms.Spectral(), lr=0.2), 2000, record=RECORD)
    assert check(theory.trust_region_nonconvex, trace).holds
    assert not check(smaller, trace).holds


class TestCheck:
    """The checker itself, on sides that are known."""

    def make(self, kind, lhs, rhs, tolerance=1e-6):
        lhs, rhs = np.atleast_1d(lhs), np.atleast_1d(rhs)
        return Theorem(
            label="known",
            title="",
            statement="",
            assumes=(),
            kind=kind,
            lhs=lambda case: lhs,
            rhs=lambda case: rhs,
            cases=lambda size: [("one", 0)],
            broken=lambda t: t,
            mistake="none",
            source="ours",
            tolerance=tolerance,
        )

    @pytest.mark.parametrize(
        ("kind", "lhs", "rhs", "holds"),
        [
            ("identity", [1.0, 2.0], [1.0, 2.0], True),
            ("identity", [1.0, 2.0], [1.0, 2.1], False),
            ("upper", [0.5, 1.0], [1.0, 1.0], True),
            ("upper", [0.5, 1.1], [1.0, 1.0], False),
            ("tight", [0.5, 1.0], [1.0, 1.0], True),
            ("tight", [0.5, 0.9], [1.0, 1.0], False),
            ("tight", [0.5, 1.1], [1.0, 1.0], False),
            ("asymptotic", [9.0, 1.0], [1.0, 1.0], True),
            ("asymptotic", [1.0, 9.0], [1.0, 1.0], False),
            ("upper", [float("nan")], [1.0], False),
            ("identity", [float("inf")], [float("inf")], False),
        ],
    )
    def test_the_verdict_is_the_right_one(self, kind, lhs, rhs, holds):
        assert check(self.make(kind, lhs, rhs), 0).holds is holds

    def test_sides_of_different_shapes_are_an_error(self):
        with pytest.raises(ValueError, match="shapes"):
            check(self.make("upper", [1.0], [1.0, 2.0]), 0)

    def test_no_cases_are_an_error_and_not_a_success(self):
        with pytest.raises(ValueError, match="at least one"):
            combine([])

    def test_one_failing_case_is_the_witness_of_all(self):
        good = check(self.make("upper", [0.9], [1.0]), 0, "good")
        bad = check(self.make("upper", [1.5], [1.0]), 0, "bad")
        combined = combine([good, bad, good])
        assert not combined.holds
        assert combined.witness == "bad"
        assert combined.cases == 3
