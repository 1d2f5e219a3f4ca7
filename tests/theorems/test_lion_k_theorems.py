"""The Lion-K theorems hold on their cases, refuse what their assumptions exclude, and break with their controls."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from threadpoolctl import threadpool_limits

from orthotheory import convex, norms, problems, run
from orthotheory.convex import NormFunction
from orthotheory.methods import Muon, TrustRegion
from orthotheory.methods.contract import decay, ema
from orthotheory.methods.lion_k import LionK
from orthotheory.problems.solvers import frank_wolfe_gap, projected_gradient
from orthotheory.theory import constrained, lion_k, lion_k_flow
from orthotheory.theory.contract import AssumptionFails, check
from orthotheory.theory.lion_k import RECORD
from orthotheory.theory.lion_k_flow import LionKFlow


@pytest.fixture(autouse=True)
def one_thread():
    """Thousands of small products: threads cost ten times what they save."""
    with threadpool_limits(1):
        yield


# Discrete time: what the assumptions exclude


def quadratic(**options):
    return problems.quadratic(rows=4, columns=3, left_condition=10.0, alignment="generic", **options)


def lion_trace(k="nuclear", *, inside=0.5, problem=None, steps=20, run_options=None, **hyper):
    """A run that satisfies every assumption of the discrete theorems unless an option says otherwise."""
    problem = problem or quadratic()
    hyper = {"lr": 0.05, "weight_decay": 0.5, "warm_start": True} | hyper
    method = LionK(k, **hyper)
    start = problem.start * inside / (method.weight_decay * float(method.norm.value(problem.start)))
    return run(problem, method, steps, **({"record": RECORD, "start": start} | (run_options or {})))


def test_the_plain_run_satisfies_the_assumptions_that_the_next_tests_break():
    for theorem in (lion_k.lion_k_contraction, lion_k.lion_k_discrete, lion_k.lion_k_score):
        assert check(theorem, lion_trace()).holds


class Flipped(LionK):
    """Lion-K with the sign of the weight decay flipped."""

    def update(self, w, grad, state):
        direction = self.k.subgradient(-ema(state.momentum, grad, self.beta1))
        w = decay(w, self.lr, -self.weight_decay) + self.lr * direction
        return w, self.State(ema(state.momentum, grad, self.beta2), state.steps + 1)


@pytest.mark.parametrize(
    ("theorem", "case", "message"),
    [
        (lion_k.lion_k_discrete, lambda: lion_trace(inside=1.5), "the iterates lie in the ball of radius 1 / lambda"),
        (lion_k.lion_k_discrete, lambda: lion_trace(warm_start=False), "starts at the first gradient"),
        (lion_k.lion_k_discrete, lambda: lion_trace("huber-nuclear"), "the method is Lion-K of a norm"),
        (lion_k.lion_k_discrete, lambda: lion_trace(lr=2.5, steps=0), "lr lambda <= 1"),
        (
            lion_k.lion_k_discrete,
            lambda: lion_trace(problem=quadratic(noise=problems.Gaussian(0.1))),
            "gradients are exact",
        ),
        (
            lion_k.lion_k_discrete,
            lambda: lion_trace(run_options={"every": 2}),
            "every step",
        ),
        (lion_k.lion_k_contraction, lambda: lion_trace("half-square"), "the conjugate of K has a bounded domain"),
        (lion_k.lion_k_contraction, lambda: lion_trace(lr=2.5), "lr lambda <= 1"),
        (lion_k.lion_k_score, lambda: lion_trace("sqrt-nuclear"), "K is a norm"),
        (lion_k.lion_k_score, lambda: lion_trace(inside=1.5), "the iterates lie in the ball of radius 1 / lambda"),
        (lion_k.lion_k_stochastic, lion_trace, "the noise is Gaussian"),
        (
            lion_k.lion_k_stochastic,
            lambda: lion_trace(problem=quadratic(noise=problems.Gaussian(0.1))),
            "there are 20 independent seeds",
        ),
        (lion_k.lion_k_mix, lambda: (1.0, 0.9), r"both factors lie in \[0, 1\)"),
    ],
    ids=[
        *("discrete: start outside", "discrete: cold start", "discrete: no norm", "discrete: long steps"),
        *("discrete: noise", "discrete: skipped records", "contraction: half the square", "contraction: long steps"),
        *(
            "score: no norm",
            "score: start outside",
            "stochastic: no noise",
            "stochastic: one seed",
            "mix: beta1 of one",
        ),
    ],
)
def test_what_an_assumption_excludes_is_refused(theorem, case, message):
    with pytest.raises(AssumptionFails, match=message):
        check(theorem, case())


def projection_trace(norm=None, *, problem=None, steps=50, start=None, **hyper):
    problem = problem or problems.projection(rows=5, columns=4, scale=2.0)
    method = TrustRegion(norm or norms.Spectral(), **({"lr": 0.1, "weight_decay": 1.0} | hyper))
    return run(problem, method, steps, record=RECORD, start=start)


def test_the_frank_wolfe_theorem_holds_on_a_projection_problem():
    assert check(constrained.constrained_star_convex, projection_trace()).holds
    assert check(constrained.scion_constrained, projection_trace(momentum=0.5)).holds


class NotStarConvex(problems.Constrained):
    """Claims a minimum that is not one, so that the gradients do not point away from it."""

    def grad(self, w):
        return -super().grad(w)


def not_star_convex():
    plain = problems.projection(rows=5, columns=4, scale=2.0)
    return NotStarConvex(plain.inner, plain.ball, plain.radius, plain.optimum)


@pytest.mark.parametrize(
    ("case", "message"),
    [
        (lambda: projection_trace(momentum=0.5), "no momentum"),
        (lambda: projection_trace(weight_decay=0.0), "with weight decay"),
        (lambda: projection_trace(lr=1.5, steps=0), "lr lambda <= 1"),
        (lambda: projection_trace(start=np.ones((5, 4))), "ball of radius"),
        (lambda: projection_trace(problem=problems.quadratic(rows=5, columns=4)), "feasible set"),
        (lambda: projection_trace(norms.Nuclear()), "feasible set"),
        (lambda: projection_trace(weight_decay=0.5), "feasible set"),
        (lambda: projection_trace(problem=not_star_convex()), "star-convex"),
        (lambda: lion_trace(), "the method is a trust region"),
    ],
    ids=[
        *("momentum", "no decay", "long steps", "start outside", "no constraint", "another ball"),
        *("another radius", "not star-convex", "another method"),
    ],
)
def test_the_frank_wolfe_theorem_refuses(case, message):
    with pytest.raises(AssumptionFails, match=message):
        check(constrained.constrained_star_convex, case())


@pytest.mark.parametrize(
    "options",
    [{"plan": "exact"}, {"plan": "muon-quintic", "shape_factor": "max-aspect"}, {"weight_decay": 0.0}],
    ids=["the exact factor", "a shape factor", "no decay"],
)
def test_the_quintic_bound_refuses(options):
    hyper = {"lr": 0.1, "weight_decay": 0.5, "plan": "muon-quintic", "shape_factor": "none"} | options
    trace = run(quadratic(), Muon(**hyper), 5, record=RECORD)
    with pytest.raises(AssumptionFails, match="the quintic, no shape factor and weight decay"):
        check(constrained.iterate_bound_quintic, trace)


# Discrete time: what breaks when a part is wrong


@pytest.mark.parametrize("k", ["l1", "nuclear", "row-sum", "huber"])
def test_a_flipped_sign_of_the_weight_decay_breaks_the_contraction(k):
    problem = quadratic()
    for method, holds in ((LionK(k, 0.1, weight_decay=0.5), True), (Flipped(k, 0.1, weight_decay=0.5), False)):
        trace = run(problem, method, 40, record=RECORD, start=20 * problem.start)
        assert check(lion_k.lion_k_contraction, trace).holds is holds


def test_the_contraction_is_attained_where_every_direction_points_outward():
    """A constant gradient -W_0: for the l2 norm the iterate stays on its ray and the bound is an equality."""
    start = 10 * np.random.default_rng(1).standard_normal((4, 3))
    far = problems.KroneckerQuadratic(np.eye(4), np.eye(3), 1e9 * start, np.zeros((4, 3)))
    trace = run(far, LionK("l2", 0.1, weight_decay=0.5), 40, record=RECORD, start=start)
    distance = lion_k.distance_to_set(trace)
    np.testing.assert_allclose(distance, 0.95 ** np.arange(41) * distance[0], rtol=1e-9)  # rounding of 40 steps


@pytest.mark.parametrize("betas", [(0.9, 0.99), (0.0, 0.9), (0.95, 0.9)], ids=str)
def test_the_mix_of_the_method_itself_has_the_variance_of_the_theorem_and_the_swapped_one_has_not(betas):
    """Steps of K = |.|^2 / 2 with lr 1 and no decay are the mix itself; 40000 entries of independent noise.

    The relative standard error of a variance over n entries is sqrt(2 / n) = 0.007; five of them are allowed.
    """
    rng = np.random.default_rng(2)
    method, w = LionK("half-square", 1.0, *betas, 0.0), np.zeros((200, 200))
    state = method.init(w)
    for _ in range(int(8 / (1 - betas[1]))):  # the memory forgets its start to exp(-8)
        before = w
        w, state = method.step(w, rng.standard_normal(w.shape), state)
    measured = float(np.var(w - before))
    assert measured == pytest.approx(lion_k.averaging_variance(*betas), rel=5 * np.sqrt(2 / w.size))
    assert measured != pytest.approx(lion_k.averaging_variance(*betas[::-1]), rel=0.1)


def test_swapped_factors_break_the_identity_of_the_mix():
    swapped = dataclasses.replace(lion_k.lion_k_mix, rhs=lambda b: np.asarray([lion_k.averaging_variance(b[1], b[0])]))
    assert not check(swapped, (0.9, 0.99)).holds
    assert check(swapped, (0.9, 0.9)).holds  # equal factors cannot be told apart


def test_the_variance_is_least_at_the_mean_of_beta2_and_one():
    for beta2 in (0.0, 0.5, 0.9, 0.99):
        grid = np.linspace(0, 1, 100_001)
        values = lion_k.averaging_variance(grid, beta2)
        assert grid[np.argmin(values)] == pytest.approx((1 + beta2) / 2, abs=1e-5)
        assert values.min() == pytest.approx((1 - beta2) / 2, rel=1e-6)


@dataclasses.dataclass(frozen=True)
class WrongConjugate(NormFunction):
    """A norm whose conjugate is the indicator of its own ball instead of the dual one."""

    def conjugate(self, y):
        return np.where(self.norm.value(y) <= 1, 0.0, 1.0)


@pytest.mark.parametrize("name", ["l1", "nuclear"])
def test_a_wrong_conjugate_breaks_the_equality_of_the_scores(name):
    trace = lion_trace(name, inside=1.0)
    assert check(lion_k.lion_k_score, trace).holds
    wrong = dataclasses.replace(trace.method, k=WrongConjugate(convex.make(name).norm))
    assert not check(lion_k.lion_k_score, dataclasses.replace(trace, method=wrong)).holds


@pytest.mark.parametrize("name", ["l1", "nuclear", "l2", "row-sum", "spectral"])
def test_the_score_is_nonnegative_inside_and_vanishes_at_the_constrained_minimizer(name):
    trace = lion_trace(name, steps=50)
    assert np.all(lion_k.score(trace) >= -1e-12 * trace["gradient_norm"])
    problem, method = trace.problem, trace.method
    radius = 0.5 * float(method.norm.value(problem.optimum))
    x = projected_gradient(problem, method.norm, radius, tolerance=1e-9).x
    at_optimum = run(problem, dataclasses.replace(method, weight_decay=1 / radius), 1, record=RECORD, start=x)
    gap = frank_wolfe_gap(method.norm, radius, x, problem.grad(x))
    assert lion_k.score(at_optimum)[0] == pytest.approx(gap / radius, abs=1e-12)
    assert lion_k.score(at_optimum)[0] <= 1e-9 / radius + 1e-12
    assert at_optimum["gradient_norm"][0] > 1e-3  # while the gradient itself does not vanish


# Continuous time


def flow_trace(k="sqrt-nuclear", *, inside=0.5, uphill=2.0, times=None, cls=LionKFlow, **constants):
    """A flow from `inside` times the boundary of the constraint set, with a momentum that starts uphill."""
    problem = problems.quadratic(rows=3, columns=2, left_condition=4.0, alignment="generic")
    flow = cls(problem, convex.make(k), **constants)
    x = np.random.default_rng(0).standard_normal((3, 2))
    if flow.k.ball is not None:
        x *= inside / (flow.weight_decay * float(flow.k.ball.value(x)))
    return flow.integrate(x, uphill * problem.grad(x), np.linspace(0, 3, 3001) if times is None else times)


SMOOTH = sorted(lion_k_flow.SMOOTH)


@pytest.mark.parametrize("k", SMOOTH)
def test_the_loss_rises_while_the_lyapunov_function_falls(k):
    trace = flow_trace(k)
    scale = np.ptp(trace.lyapunov)
    assert np.diff(trace.value).max() > 0
    assert trace.value.max() > trace.value[0] + 0.01 * np.ptp(trace.value)
    assert np.diff(trace.lyapunov).max() <= 1e-12 * max(scale, 1.0)  # the integrator's tolerance
    assert trace.lyapunov[-1] < trace.lyapunov[0] - 0.01 * scale


def test_the_dissipation_terms_are_nonnegative():
    trace = flow_trace()
    terms = trace.flow.dissipation(trace.x, trace.m)
    assert terms.shape == (2, 3001)
    assert terms.min() >= -1e-12


class WrongCoupling(LionKFlow):
    """A Lyapunov function with the factor c of the coupling term half as large again."""

    @property
    def coupling(self):
        return 1.5 * super().coupling


class FlippedFlow(LionKFlow):
    """The flow with the sign of the weight decay flipped."""

    def velocity(self, x, m):
        dx, dm, t = super().velocity(x, m)
        return dx + 2 * self.weight_decay * x, dm, t


@pytest.mark.parametrize("k", SMOOTH)
def test_a_wrong_coupling_breaks_the_dissipation_identity(k):
    assert check(lion_k_flow.lion_k_dissipation, flow_trace(k)).holds
    assert not check(lion_k_flow.lion_k_dissipation, flow_trace(k, cls=WrongCoupling)).holds


@pytest.mark.parametrize("k", ["sqrt", "sqrt-nuclear", "huber", "log-cosh-nuclear"])
def test_a_flipped_sign_of_the_weight_decay_breaks_the_approach(k):
    times = np.linspace(0, 3, 301)
    assert check(lion_k_flow.lion_k_phase, flow_trace(k, inside=4.0, times=times)).holds
    assert not check(lion_k_flow.lion_k_phase, flow_trace(k, inside=4.0, times=times, cls=FlippedFlow)).holds


@pytest.mark.parametrize("k", ["huber", "huber-nuclear", "sqrt-nuclear", "log-cosh-nuclear"])
def test_the_event_marks_the_time_at_which_the_distance_reaches_zero(k):
    """From 1.5 times the boundary, with a momentum that points inward."""
    times = np.linspace(0, 3, 3001)
    trace = flow_trace(k, inside=1.5, uphill=2.0, times=times)
    assert 0 < trace.entry < 3
    assert np.all(trace.distance[times < trace.entry - 1e-9] > 0)
    np.testing.assert_array_equal(trace.distance[times > trace.entry + 1e-9], 0.0)  # and it never leaves again
    # Integrated up to the event, the distance is zero to the tolerance with which the event is located.
    up_to = flow_trace(k, inside=1.5, uphill=2.0, times=np.linspace(0, trace.entry, 11))
    assert up_to.distance[-1] <= 1e-9
    assert up_to.distance[-2] > 1e-3


def test_a_flow_that_starts_inside_or_has_no_constraint_has_no_time_of_entry():
    short = np.linspace(0, 1, 11)
    assert np.isnan(flow_trace("huber", inside=0.5, times=short).entry)
    assert np.isnan(flow_trace("half-square", times=short).entry)


def test_the_integrator_reproduces_a_closed_form():
    """A zero gradient and K = |.|^2 / 2: M = e^(-gamma t) M_0 drives X' = (1 - epsilon gamma) M - lambda X."""
    zero = np.zeros((3, 2))
    problem = problems.KroneckerQuadratic(np.zeros((3, 3)), np.zeros((2, 2)), zero, zero)
    flow = LionKFlow(problem, convex.make("half-square"), gamma=1.2, epsilon=0.3, weight_decay=0.5)
    x0, m0 = np.random.default_rng(3).standard_normal((2, 3, 2))
    trace = flow.integrate(x0, m0, np.linspace(0, 3, 31))
    t = trace.t[:, None, None]
    drive = (1 - 0.3 * 1.2) * m0 * (np.exp(-1.2 * t) - np.exp(-0.5 * t)) / (0.5 - 1.2)
    np.testing.assert_allclose(trace.m, np.exp(-1.2 * t) * m0, atol=1e-11)  # a hundred times rtol
    np.testing.assert_allclose(trace.x, np.exp(-0.5 * t) * x0 + drive, atol=1e-11)


@pytest.mark.parametrize("k", ["l1", "nuclear", "half-square-nuclear"])
def test_a_k_with_kinks_is_refused_by_the_flow(k):
    with pytest.raises(ValueError, match=r"The flow needs a smooth K; .* has kinks. Take huber, sqrt or log"):
        LionKFlow(quadratic(), convex.make(k))


@pytest.mark.parametrize(
    ("theorem", "options", "message"),
    [
        (lion_k_flow.lion_k_lyapunov, {"inside": 1.5}, "the flow starts inside the constraint set"),
        (lion_k_flow.lion_k_dissipation, {"inside": 1.5}, "the flow starts inside the constraint set"),
        (lion_k_flow.lion_k_lyapunov, {"epsilon": 1.5}, "epsilon gamma <= 1"),
        (lion_k_flow.lion_k_dissipation, {"gamma": 3.0}, "epsilon gamma <= 1"),
        (lion_k_flow.lion_k_phase, {"inside": 0.5}, "the flow starts outside the constraint set"),
        (lion_k_flow.lion_k_phase, {"k": "half-square"}, "the conjugate of K has a bounded domain"),
    ],
    ids=[
        *("lyapunov: start outside", "dissipation: start outside", "lyapunov: epsilon", "dissipation: gamma"),
        *("phase: start inside", "phase: no constraint"),
    ],
)
def test_what_an_assumption_of_the_flow_excludes_is_refused(theorem, options, message):
    with pytest.raises(AssumptionFails, match=message):
        check(theorem, flow_trace(**options, times=np.linspace(0, 1, 101)))
