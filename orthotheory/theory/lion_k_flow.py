"""L1 and L2 in continuous time: the Lion-K flow, its Lyapunov function with both dissipation terms, and the two phases.

M' = -alpha grad f(X) - gamma M,   T = M + epsilon M',   X' = dK(T) - lambda X
H  = alpha f + (gamma / lambda) K*(lambda X) + c [K*(lambda X) + K(M) - lambda <M, X>],
c  = (1 - epsilon gamma) / (1 + epsilon lambda)
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from .. import convex
from ..arrays import to_host
from ..convex import ConvexFunction
from ..problems import Problem, quadratic
from .contract import Assumption, Case, Size, Theorem

RTOL, ATOL = 1e-12, 1e-13  # of the integrator: far below the 1e-6 that the dissipation is compared to


@dataclass(frozen=True)
class LionKFlow:
    """The Lion-K differential equation on a host problem.

    Parameters
    ----------
    problem : Problem
    k : ConvexFunction
        Smooth, so that the right-hand side is continuous.
    alpha, gamma, epsilon, weight_decay : float
        The paper's constants; the Lyapunov function needs epsilon gamma <= 1.
    """

    problem: Problem
    k: ConvexFunction
    alpha: float = 1.0
    gamma: float = 1.0
    epsilon: float = 0.5
    weight_decay: float = 0.5

    def __post_init__(self) -> None:
        if not self.k.is_smooth:
            raise ValueError(f"The flow needs a smooth K; {self.k.name} has kinks. Take huber, sqrt or log-cosh forms.")

    @property
    def coupling(self) -> float:
        """The factor c of the coupling term."""
        return (1 - self.epsilon * self.gamma) / (1 + self.epsilon * self.weight_decay)

    def velocity(self, x: np.ndarray, m: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return X', M' and T."""
        dm = -self.alpha * to_host(self.problem.grad(x)) - self.gamma * m
        t = m + self.epsilon * dm
        return self.k.subgradient(t) - self.weight_decay * x, dm, t

    def lyapunov(self, x: np.ndarray, m: np.ndarray) -> np.ndarray:
        """Return H, infinite outside the constraint set; maps over leading axes."""
        conjugate = self.k.conjugate(self.weight_decay * x)
        coupling = conjugate + self.k.value(m) - self.weight_decay * np.sum(m * x, axis=(-2, -1))
        return (
            self.alpha * self.problem.value(x) + self.gamma / self.weight_decay * conjugate + self.coupling * coupling
        )

    def dissipation(self, x: np.ndarray, m: np.ndarray) -> np.ndarray:
        """Return the two nonnegative terms whose negative sum is dH/dt, shape (2, ...)."""
        _, _, t = self.velocity(x, m)
        y = self.k.conjugate_gradient(self.weight_decay * x)
        slope_t, slope_m = self.k.subgradient(t), self.k.subgradient(m)
        first = np.sum((t - y) * (slope_t - self.weight_decay * x), axis=(-2, -1))
        second = np.sum((t - m) * (slope_t - slope_m), axis=(-2, -1))
        scale = (self.gamma + self.weight_decay) / (1 + self.epsilon * self.weight_decay)
        return np.stack([scale * first, self.coupling / self.epsilon * second])

    def integrate(self, x0: np.ndarray, m0: np.ndarray, times: np.ndarray) -> FlowTrace:
        """Integrate by SciPy's DOP853 and sample at `times`; an event marks the entry into the constraint set."""
        from scipy.integrate import solve_ivp

        shape, count = x0.shape, x0.size

        def right(_, z):
            dx, dm, _ = self.velocity(z[:count].reshape(shape), z[count:].reshape(shape))
            return np.concatenate([dx.ravel(), dm.ravel()])

        def excess(_, z):
            ball = self.k.ball
            return -1.0 if ball is None else float(ball.value(z[:count].reshape(shape))) * self.weight_decay - 1.0

        solved = solve_ivp(
            right, (float(times[0]), float(times[-1])), np.concatenate([x0.ravel(), m0.ravel()]), method="DOP853",
            t_eval=times, rtol=RTOL, atol=ATOL, events=excess,
        )  # fmt: skip
        if not solved.success:
            raise RuntimeError(f"The integrator stopped: {solved.message}")
        x, m = (part.T.reshape(-1, *shape) for part in (solved.y[:count], solved.y[count:]))
        entry = float(solved.t_events[0][0]) if len(solved.t_events[0]) else float("nan")
        return FlowTrace(self, solved.t, x, m, entry)


@dataclass(frozen=True)
class FlowTrace:
    """Samples of a flow: times (T,), X and M (T, m, n), and the time of entry into the constraint set (NaN: none)."""

    flow: LionKFlow
    t: np.ndarray
    x: np.ndarray
    m: np.ndarray
    entry: float

    @property
    def lyapunov(self) -> np.ndarray:
        """H along the flow."""
        return self.flow.lyapunov(self.x, self.m)

    @property
    def value(self) -> np.ndarray:
        """alpha f along the flow."""
        return self.flow.alpha * to_host(self.flow.problem.value(self.x))

    @property
    def distance(self) -> np.ndarray:
        """Frobenius distance of X to the constraint set."""
        return self.flow.k.distance(self.x, 1 / self.flow.weight_decay)


def lyapunov_slope(trace: FlowTrace) -> np.ndarray:
    """Return -dH/dt at interior samples by a sixth-order difference; the samples are equally spaced."""
    weights = np.array([-1, 9, -45, 0, 45, -9, 1]) / 60
    return -np.convolve(trace.lyapunov, weights[::-1], mode="valid") / (trace.t[1] - trace.t[0])


def total_dissipation(trace: FlowTrace, share: float = 1.0) -> np.ndarray:
    """Return the sum of the two dissipation terms at interior samples; `share` multiplies the second."""
    first, second = trace.flow.dissipation(trace.x, trace.m)
    return (first + share * second)[3:-3]


def prove() -> list[str]:
    """Prove the dissipation identity with SymPy, the pairings as products of commuting symbols.

    Every term of dH/dt pairs one of M, T, Y with one of dK(M), dK(T), lambda X, so that the identity is one of
    bilinear forms and a polynomial identity in six scalars proves it. Raises ArithmeticError otherwise.
    """
    import sympy

    m, t, y, u, v, z = sympy.symbols("M T Y U V Z")  # U = dK(M), V = dK(T), Z = lambda X = dK(Y)
    gamma, epsilon, decay = sympy.symbols("gamma epsilon lambda", positive=True)
    c = (1 - epsilon * gamma) / (1 + epsilon * decay)
    dm = (t - m) / epsilon
    alpha_grad = -dm - gamma * m  # from the equation of M
    dx = v - z
    slope = alpha_grad * dx + (gamma / decay + c) * decay * y * dx + c * (u * dm - dm * z - decay * m * dx)
    claimed = -(gamma + decay) / (1 + epsilon * decay) * (t - y) * (v - z) - c / epsilon * (t - m) * (v - u)
    residual = sympy.simplify(sympy.expand(slope - claimed))
    if residual != 0:
        raise ArithmeticError(f"dH/dt differs from the claimed dissipation by {residual}")
    return [f"\\frac{{dH}}{{dt}}={sympy.latex(claimed)}"]


# K and K* are twice continuously differentiable, so that a difference of H is accurate.
SMOOTH = {name: convex.make(name) for name in ("sqrt", "sqrt-nuclear", "log-cosh", "log-cosh-nuclear", "half-square")}
BOUNDED = {name: convex.make(name) for name in ("sqrt", "sqrt-nuclear", "huber", "huber-nuclear", "log-cosh-nuclear")}


def _flows(size: Size, *, inside: bool) -> Iterator[tuple[str, FlowTrace]]:
    for name, k in (SMOOTH if inside else BOUNDED).items():
        for seed in range(1 if size == "smoke" else 5):
            rng = np.random.default_rng(seed)
            problem = quadratic(rows=3, columns=2, left_condition=4.0, alignment="generic", seed=seed)
            flow = LionKFlow(problem, k)
            x0 = rng.standard_normal((3, 2))
            if flow.k.ball is not None:
                x0 *= (0.5 if inside else 4.0) / (flow.weight_decay * float(flow.k.ball.value(x0)))
            times = np.linspace(0, 3, 3001 if inside else 301)
            # The momentum starts uphill, so that the loss itself rises at first.
            yield f"K = {name}, seed {seed}", flow.integrate(x0, 2 * problem.grad(x0), times)


def _starts_inside(case: Case) -> bool:
    return bool(np.isfinite(case.lyapunov).all())


def _lyapunov_sides(shift_of: Any = None):
    def after(trace: FlowTrace) -> np.ndarray:
        h = trace.lyapunov if shift_of is None else shift_of(trace)
        return h[1:] - h.min() + 1.0

    def before(trace: FlowTrace) -> np.ndarray:
        h = trace.lyapunov if shift_of is None else shift_of(trace)
        return h[:-1] - h.min() + 1.0

    return after, before


INSIDE = Assumption("the flow starts inside the constraint set", _starts_inside)
WEAK_MIX = Assumption("epsilon gamma <= 1", lambda t: t.flow.epsilon * t.flow.gamma <= 1)

lion_k_dissipation = Theorem(
    label="lion-k-dissipation",
    title="The dissipation of Lion-K",
    statement=(
        r"-\frac{dH}{dt}=\frac{\gamma+\lambda}{1+\varepsilon\lambda}\langle T-Y,\nabla K(T)-\nabla K(Y)\rangle"
        r"+\frac{c}{\varepsilon}\langle T-M,\nabla K(T)-\nabla K(M)\rangle,\qquad Y=\nabla K^*(\lambda X)"
    ),
    assumes=(INSIDE, WEAK_MIX),
    kind="identity",
    lhs=lyapunov_slope,
    rhs=total_dissipation,
    cases=lambda size: _flows(size, inside=True),
    broken=lambda t: dataclasses.replace(t, rhs=lambda trace: total_dissipation(trace, share=0.9)),
    mistake="the second term short by a tenth",
    source="ours; the Lyapunov function is that of [chen2023lion]",
    tolerance=1e-6,
    reason="sixth-order differences of H at spacing 1e-3, with rounding of 1e-15 / 1e-3 in the quotient",
    proof=prove,
)

lion_k_lyapunov = Theorem(
    label="lion-k-lyapunov",
    title="The Lyapunov function of Lion-K never rises",
    statement=r"H(t_2)\le H(t_1)\quad\text{for }t_1\le t_2",
    assumes=(INSIDE, WEAK_MIX),
    kind="upper",
    lhs=_lyapunov_sides()[0],
    rhs=_lyapunov_sides()[1],
    cases=lambda size: _flows(size, inside=True),
    broken=lambda t: dataclasses.replace(
        t, lhs=_lyapunov_sides(lambda f: f.value)[0], rhs=_lyapunov_sides(lambda f: f.value)[1]
    ),
    mistake="the loss alpha f in place of H",
    source="[chen2023lion]",
    tolerance=1e-12,
    reason="the integrator's tolerance",
)

lion_k_phase = Theorem(
    label="lion-k-phase",
    title="Lion-K approaches its constraint set exponentially",
    statement=r"\operatorname{dist}(X(t),C)\le e^{-\lambda t}\operatorname{dist}(X(0),C),\qquad "
    r" C=\tfrac1\lambda\,\overline{\operatorname{dom}K^*}",
    assumes=(
        Assumption("the conjugate of K has a bounded domain", lambda t: t.flow.k.ball is not None),
        Assumption("the flow starts outside the constraint set", lambda t: t.distance[0] > 0),
    ),
    kind="upper",
    lhs=lambda t: t.distance,
    rhs=lambda t: np.exp(-t.flow.weight_decay * t.t) * t.distance[0],
    cases=lambda size: _flows(size, inside=False),
    broken=lambda t: dataclasses.replace(
        t, rhs=lambda trace: np.exp(-2 * trace.flow.weight_decay * trace.t) * trace.distance[0]
    ),
    mistake="twice the rate",
    source="ours; the two phases are those of [chen2023lion]",
    tolerance=1e-9,
    reason="the integrator's tolerance over distances down to a tenth of the first",
)
