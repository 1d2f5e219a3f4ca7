"""Q4, Q5 and E1: rates on quadratics where everything commutes.

There the errors are s_i along common singular vectors, with curvatures h_i = lambda_i(A) lambda_i(B), and each method
acts on these numbers alone.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from .. import norms
from ..loop import Trace, run
from ..methods import DualScaled, GradientDescent, TrustRegion
from ..problems import KroneckerQuadratic, log_spectrum, quadratic
from .contract import Assumption, Size, Theorem
from .cycle import RECORD, common_basis, commutation_defect

SPECTRAL = norms.Spectral()


def diagonal_problem(curvatures, errors) -> KroneckerQuadratic:
    """Return f = 1/2 sum_i h_i s_i^2 as a matrix problem: A = diag(h), B = I, start diag(s), optimum 0."""
    h, s = np.asarray(curvatures, dtype=float), np.asarray(errors, dtype=float)
    return KroneckerQuadratic(np.diag(h), np.eye(len(h)), np.zeros((len(h), len(h))), np.diag(s))


def gradient_coordinates(trace: Trace) -> np.ndarray:
    """Return the predicted s_i(k) = s_i(0) (1 - lr h_i)^k of gradient descent, shape (records, r)."""
    basis = common_basis(trace)
    return basis.coordinates[0] * (1 - trace.method.lr * basis.curvatures) ** trace.k[:, None]


COMMUTES = Assumption("the errors share their singular vectors with A and B", lambda t: commutation_defect(t) <= 1e-12)


def _gradient_cases(size: Size) -> Iterator[tuple[str, Trace]]:
    for seed in range(3 if size == "smoke" else 20):
        problem = quadratic(rows=5, columns=4, left_condition=30.0, right_condition=3.0, basis="standard", seed=seed)
        top, low = (float(c(norms.Frobenius())) for c in (problem.smoothness, problem.strong_convexity))
        for lr in (1 / top, 2 / (top + low), 1.9 / top):
            yield f"seed {seed}, lr {lr:.3f}", run(problem, GradientDescent(lr=lr), 60, record=RECORD)


gradient_modes = Theorem(
    label="gradient-modes",
    title="Gradient descent contracts each mode by its curvature",
    statement=r"s_i(k)=(1-\eta h_i)^k\,s_i(0),\qquad h_i=\lambda_i(A)\lambda_i(B)",
    assumes=(Assumption("the method is gradient descent", lambda t: isinstance(t.method, GradientDescent)), COMMUTES),
    kind="identity",
    # errors are at most 1.5: measured against 4, not against themselves
    lhs=lambda t: 4 + common_basis(t).coordinates,
    rhs=lambda t: 4 + gradient_coordinates(t),
    cases=_gradient_cases,
    broken=lambda t: dataclasses.replace(t, cases=_gradient_cases, rhs=_halved_curvature),
    mistake="the curvatures halved",
    source="classical",
    tolerance=1e-12,
    reason="sixty steps of errors at most 1.5, and an SVD that finds their directions, rounded in float64",
)


def _halved_curvature(trace: Trace) -> np.ndarray:
    basis = common_basis(trace)
    return 4 + basis.coordinates[0] * (1 - trace.method.lr * basis.curvatures / 2) ** trace.k[:, None]


class Momentum(NamedTuple):
    """Heavy ball on modes: curvatures, step, momentum, steps and the first error of each."""

    curvatures: np.ndarray
    lr: float
    momentum: float
    steps: int


def polyak(curvatures: np.ndarray, steps: int) -> Momentum:
    """Return Polyak's constants for the given spectrum: lr = 4/(sqrt L + sqrt mu)^2, momentum the squared rate."""
    top, low = np.sqrt(np.max(curvatures)), np.sqrt(np.min(curvatures))
    return Momentum(np.asarray(curvatures), 4 / (top + low) ** 2, ((top - low) / (top + low)) ** 2, steps)


def heavy_ball_errors(case: Momentum) -> np.ndarray:
    """Return |x_k| of x_{k+1} = x_k - lr h x_k + b (x_k - x_{k-1}) from x_0 = x_{-1} = 1, for k = 1, ..., steps."""
    x = before = np.ones(len(case.curvatures))
    out = []
    for _ in range(case.steps):
        x, before = x - case.lr * case.curvatures * x + case.momentum * (x - before), x
        out.append(np.abs(x))
    return np.array(out)


def heavy_ball_envelope(case: Momentum, polynomial: bool = True) -> np.ndarray:
    """Return rate^k (1 + k (1 + rate)), rate = sqrt b: the double roots at both ends of the spectrum need the k."""
    rate, k = np.sqrt(case.momentum), np.arange(1, case.steps + 1)
    return np.broadcast_to((rate**k * (1 + polynomial * k * (1 + rate)))[:, None], (case.steps, len(case.curvatures)))


def prove_heavy_ball() -> list[str]:
    """Prove the envelope's two facts: |roots|^2 = b between the ends, and a double root at each end."""
    import sympy as sp

    z, top, low, h = sp.symbols("z L mu h", positive=True)  # square roots of L and mu stand for themselves
    lr, b = 4 / (top + low) ** 2, ((top - low) / (top + low)) ** 2
    polynomial = z**2 - (1 + b - lr * h) * z + b
    discriminant = sp.factor(sp.discriminant(polynomial, z))
    expected = 16 * (h - top**2) * (h - low**2) / (top + low) ** 4
    residual = sp.simplify(discriminant - expected)
    if residual != 0:
        raise ArithmeticError(f"the discriminant differs by {residual}")
    return [
        r"z^2-(1+b-\eta h)z+b,\quad \text{product of the roots } b",
        rf"\text{{discriminant }}{sp.latex(discriminant)}\le0\text{{ for }}\mu\le h\le L\text{{ (roots of L, mu)}}",
        r"x_k=\rho^k\bigl(U_k(\cos\theta)-\rho U_{k-1}(\cos\theta)\bigr),\ |U_k|\le k+1,\quad\rho=\sqrt b",
    ]


heavy_ball_rate = Theorem(
    label="heavy-ball-rate",
    title="Heavy ball with Polyak's constants",
    statement=r"|x_k|\le\rho^k\bigl(1+k(1+\rho)\bigr)|x_0|,\qquad\rho=\frac{\sqrt\kappa-1}{\sqrt\kappa+1}"
    r"\quad\text{on every mode }\mu\le h\le L",
    assumes=(
        Assumption(
            "the constants are Polyak's for the extreme curvatures",
            lambda c: np.isclose(c.lr, polyak(c.curvatures, 1).lr) and c.momentum == polyak(c.curvatures, 1).momentum,
        ),
    ),
    kind="tight",
    lhs=heavy_ball_errors,
    rhs=heavy_ball_envelope,
    cases=lambda size: (
        (f"condition {kappa:g}", polyak(log_spectrum(9, kappa), 200)) for kappa in (4.0, 25.0, 100.0, 900.0)
    ),
    broken=lambda t: dataclasses.replace(t, rhs=lambda c: heavy_ball_envelope(c, polynomial=False)),
    mistake="a pure exponential, without the factor of the double root",
    source="classical; the envelope is ours",
    proof=prove_heavy_ball,
)


class Arrival(NamedTuple):
    """A fixed-radius run and the accuracy for which its radius was chosen."""

    trace: Trace
    accuracy: float


def _arrivals(size: Size) -> Iterator[tuple[str, Arrival]]:
    rng = np.random.default_rng(0)
    for kappa in (1.0, 1e2, 1e4, 1e6):
        for accuracy in (1e-1, 1e-3) if size == "smoke" else (1e-1, 1e-2, 1e-3, 1e-4):
            problem = diagonal_problem(log_spectrum(6, kappa), rng.uniform(0.5, 1.5, 6))
            lr = np.sqrt(2 * accuracy / float(problem.smoothness(SPECTRAL)))
            steps = int(np.ceil(1.5 / lr)) + 3
            trace = run(problem, TrustRegion(SPECTRAL, lr=lr), steps, record=RECORD)
            yield f"condition {kappa:g}, accuracy {accuracy:g}", Arrival(trace, accuracy)


def first_arrival(case: Arrival) -> np.ndarray:
    """Return the first step with a gap of at most the accuracy."""
    below = np.flatnonzero(case.trace["gap"] <= case.accuracy * (1 + 1e-12))
    return np.array([case.trace.k[below[0]] if below.size else np.inf])


def promised_arrival(case: Arrival, norm: norms.Norm = SPECTRAL) -> np.ndarray:
    """Return the first integer of at least |E_0|_2 sqrt(L / (2 accuracy))."""
    radius = float(SPECTRAL.value(case.trace["iterate"][0] - case.trace.problem.optimum))
    smoothness = float(case.trace.problem.smoothness(norm))
    return np.array([np.ceil(radius * np.sqrt(smoothness / (2 * case.accuracy)))])


spectral_condition_free = Theorem(
    label="spectral-condition-free",
    title="Fixed-radius spectral descent does not see the condition number",
    statement=r"f(X_k)-f^*\le\varepsilon\text{ for some }k\le\Bigl\lceil\|E_0\|_2\sqrt{L/(2\varepsilon)}\Bigr\rceil,"
    r"\qquad\eta=\sqrt{2\varepsilon/L},\ L=\sum_ih_i",
    assumes=(
        Assumption("the errors commute with the curvature", lambda c: commutation_defect(c.trace) <= 1e-12),
        Assumption(
            "the radius is that of the accuracy",
            lambda c: np.isclose(c.trace.method.lr**2 * float(c.trace.problem.smoothness(SPECTRAL)), 2 * c.accuracy),
        ),
    ),
    kind="upper",
    lhs=first_arrival,
    rhs=promised_arrival,
    cases=_arrivals,
    broken=lambda t: dataclasses.replace(t, rhs=lambda c: promised_arrival(c, norms.Frobenius())),
    mistake="the Frobenius constant in place of the spectral one",
    source="ours",
)


class Overshoot(NamedTuple):
    """A run of scaled spectral descent with step c / L on a commuting quadratic."""

    trace: Trace
    relative: float


def _overshoots(size: Size) -> Iterator[tuple[str, Overshoot]]:
    rng = np.random.default_rng(2)
    for seed in range(3 if size == "smoke" else 12):
        h = rng.uniform(0.2, 2.0, 5)
        # errors this even stay below the step, so every coordinate changes its sign every time
        problem = diagonal_problem(h, 1 + 0.05 * rng.uniform(-1, 1, 5))
        for relative in (1.9, 2.0, 2.05, 2.3):
            method = DualScaled(SPECTRAL, lr=relative / float(problem.smoothness(SPECTRAL)))
            yield f"c = {relative}, seed {seed}", Overshoot(run(problem, method, 12, record=RECORD), relative)


scaled_threshold = Theorem(
    label="scaled-threshold",
    title="The exact threshold of dual-scaled spectral descent",
    statement=r"\|G_{k+1}\|_*=(c-1)\,\|G_k\|_*\quad\text{once }\tfrac cL\|G_k\|_*\ge\max_i|s_i|,\qquad "
    r"X_{k+1}=X_k-\tfrac cL\|G_k\|_*\operatorname{polar}(G_k):\text{ divergence iff }c>2",
    assumes=(
        Assumption("the errors commute with the curvature", lambda c: commutation_defect(c.trace) <= 1e-10),
        Assumption("every step passes every error", lambda c: bool(_passes(c))),
    ),
    kind="identity",
    lhs=lambda c: c.trace["gradient_norm"][1:] / c.trace["gradient_norm"][:-1],
    rhs=lambda c: np.full(c.trace.steps, c.relative - 1),
    cases=_overshoots,
    broken=lambda t: dataclasses.replace(t, rhs=lambda c: np.full(c.trace.steps, c.relative / 2)),
    mistake="the factor c / 2, which is 1 at the same threshold",
    source="ours",
    tolerance=1e-11,
    reason="each gradient norm is rounded by 1e-15 of the step that changed its sign, at most a hundred times larger",
)


def _passes(case: Overshoot) -> bool:
    step = case.trace.method.lr * case.trace["gradient_norm"][:-1]
    return bool(np.all(step >= np.abs(common_basis(case.trace).coordinates[:-1]).max(axis=1) * (1 - 1e-12)))


class Lag(NamedTuple):
    """One lagging mode of share q = h / L beside alternating ones, with relative step c, and a number of steps."""

    share: float
    relative: float
    steps: int


def lagging_errors(case: Lag) -> np.ndarray:
    """Run the two-number map: x the lagging error, v = sum of h |s| over the others; return x after the first step.

    The step is t = (c / L)(h x + v), the lagging error falls to x - t, the others flip: v <- (L - h) t - v.
    """
    x, v, out = 1.0, 0.1, []
    for _ in range(case.steps):
        t = case.relative * (case.share * x + v)  # L = 1
        x, v = x - t, (1 - case.share) * t - v
        out.append(x)
    return np.array(out)


def lagging_prediction(case: Lag, share_factor: float = 2.0) -> np.ndarray:
    """Return the same errors from z^2 - c (1 - 2 q) z + (c - 1) and the first two of them."""
    x = list(lagging_errors(case._replace(steps=2)))
    while len(x) < case.steps:
        x.append(case.relative * (1 - share_factor * case.share) * x[-1] - (case.relative - 1) * x[-2])
    return np.array(x)


def prove_slow_mode() -> list[str]:
    """Derive the characteristic polynomial of the slow mode."""
    import sympy as sp

    z, c, h, top = sp.symbols("z c h L", positive=True)
    step = sp.Matrix([[c * h / top, c / top]])
    matrix = sp.Matrix([[1, 0], [0, -1]]) + sp.Matrix([[-1], [top - h]]) * step
    found = sp.expand((z * sp.eye(2) - matrix).det())
    residual = sp.simplify(found - (z**2 - c * (1 - 2 * h / top) * z + (c - 1)))
    if residual != 0:
        raise ArithmeticError(f"the characteristic polynomial differs by {residual}")
    return [rf"\det(z-M)={sp.latex(sp.collect(found, z))}", r"c=1:\ z\in\{0,\,1-2h/L\}"]


slow_mode = Theorem(
    label="slow-mode",
    title="The slow mode of dual-scaled spectral descent",
    statement=r"x_{k+2}=c\Bigl(1-\frac{2h}{L}\Bigr)x_{k+1}-(c-1)x_k,\quad c=1:\ x_{k+1}=\Bigl(1-\frac{2h}{L}\Bigr)x_k"
    r",\ \text{all other modes alternating}",
    assumes=(Assumption("the share is below one half", lambda c: 0 < c.share < 0.5),),
    kind="identity",
    lhs=lagging_errors,
    rhs=lagging_prediction,
    cases=lambda size: (
        (f"h/L = {share}, c = {c}", Lag(share, c, 20)) for share in (0.0025, 0.0125, 0.06) for c in (0.7, 1.0, 1.4)
    ),
    broken=lambda t: dataclasses.replace(t, rhs=lambda c: lagging_prediction(c, share_factor=1.0)),
    mistake="1 - h / L, the rate of gradient descent with that step",
    source="ours",
    tolerance=1e-9,
    reason="a linear recurrence of twenty steps whose values may fall to 1e-4",
    proof=prove_slow_mode,
)


def slow_run(
    curvatures=(1.0, 0.8, 0.6, 0.02), errors=(0.11, -0.13, 0.17, 3.0), steps: int = 400
) -> dict[str, np.ndarray]:
    """Run the method itself where one mode lags: its gaps, those of gradient descent, and the predicted factor.

    The map of theorem `slow-mode` skips the steps at which another error does not pass zero, so it is an approximation.
    """
    problem = diagonal_problem(curvatures, errors)
    spectral, euclidean = (float(problem.smoothness(norm)) for norm in (SPECTRAL, norms.Frobenius()))
    scaled = run(problem, DualScaled(SPECTRAL, lr=1 / spectral), steps, record=RECORD)
    descent = run(problem, GradientDescent(lr=1 / euclidean), steps, record=RECORD)
    return {
        "k": scaled.k,
        "scaled": scaled["gap"],
        "gradient": descent["gap"],
        "factor": np.array(1 - 2 * min(curvatures) / spectral),
    }


THEOREMS = (
    gradient_modes,
    heavy_ball_rate,
    spectral_condition_free,
    scaled_threshold,
    slow_mode,
)
