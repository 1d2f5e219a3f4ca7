"""Q6 and Q8: where noise leaves an optimizer at a fixed step, and what a polar factor pays for needless directions.

The chains are independent and run side by side from the optimum; what they do first is thrown away.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from ..polar import polar_factor
from .contract import Assumption, Size, Theorem
from .stochastic import farther_end


class Mode(NamedTuple):
    """One mode of a quadratic under additive noise: curvature, step, momentum of heavy ball, noise deviation."""

    curvature: float
    lr: float
    momentum: float
    sigma: float


def stationary_variance(case: Mode) -> np.ndarray:
    """Return E x^2 by iterating the exact covariance recursion of (x_k, x_{k-1}) to its fixed point, by a solve."""
    m = np.array([[1 + case.momentum - case.lr * case.curvature, -case.momentum], [1.0, 0.0]])
    noise = np.array([case.lr**2 * case.sigma**2, 0.0, 0.0, 0.0])
    return np.linalg.solve(np.eye(4) - np.kron(m, m), noise)[:1]


def variance_formula(case: Mode, power: int = 1) -> np.ndarray:
    """Return lr sigma^2 (1 + b) / (h (1 - b) (2 (1 + b) - lr h)); b = 0 is SGD."""
    h, lr, b, sigma = case
    return np.array([lr * sigma**2 * (1 + b) ** power / (h * (1 - b) * (2 * (1 + b) - lr * h))])


def prove_variance() -> list[str]:
    """Solve the Lyapunov equation of heavy ball in SymPy."""
    import sympy as sp

    h, lr, b, sigma = sp.symbols("h eta b sigma", positive=True)
    p, q, r = sp.symbols("p q r")
    covariance = sp.Matrix([[p, q], [q, r]])
    m = sp.Matrix([[1 + b - lr * h, -b], [1, 0]])
    equations = m * covariance * m.T + sp.diag(lr**2 * sigma**2, 0) - covariance
    solution = sp.solve([equations[0, 0], equations[0, 1], equations[1, 1]], [p, q, r], dict=True)[0]
    claimed = lr * sigma**2 * (1 + b) / (h * (1 - b) * (2 * (1 + b) - lr * h))
    if sp.simplify(solution[p] - claimed) != 0:
        raise ArithmeticError(f"the variance differs by {sp.simplify(solution[p] - claimed)}")
    return [r"C=MCM^\top+\eta^2\sigma^2e_1e_1^\top", rf"C_{{11}}={sp.latex(sp.factor(solution[p]))}"]


heavy_ball_variance = Theorem(
    label="heavy-ball-variance",
    title="The stationary variance of SGD and heavy ball",
    statement=r"\mathbb E x^2=\frac{\eta\sigma^2(1+b)}{h(1-b)\bigl(2(1+b)-\eta h\bigr)},\qquad "
    r"f_\infty=\tfrac12\sum_i\frac{\eta\sigma^2}{2-\eta h_i}\text{ for }b=0",
    assumes=(Assumption("the step is stable", lambda c: 0 < c.lr * c.curvature < 2 * (1 + c.momentum)),),
    kind="identity",
    lhs=stationary_variance,
    rhs=variance_formula,
    cases=lambda size: (
        (f"h = {h}, lr = {lr}, b = {b}", Mode(h, lr, b, 0.7))
        for h in (0.3, 2.0)
        for lr in (0.1, 0.9)
        for b in (0.0, 0.5, 0.9)
    ),
    broken=lambda t: dataclasses.replace(t, rhs=lambda c: variance_formula(c, power=0)),
    mistake="without the factor 1 + b",
    source="classical",
    tolerance=1e-11,
    reason="a 4 x 4 solve with condition number below a thousand",
    proof=prove_variance,
)


class Chains(NamedTuple):
    """Parallel chains of X <- X - lr polar(A X B + sigma Z): factors, shape, step, noise, chains, lengths, seed."""

    a: np.ndarray
    b: np.ndarray
    lr: float
    sigma: float
    chains: int
    burn: int
    steps: int
    seed: int


class Stationary(NamedTuple):
    """Chains and, for each of them, the time means of the loss and of <E, P>, and what the distance lost meanwhile."""

    case: Chains
    loss: np.ndarray
    aligned: np.ndarray
    drift: np.ndarray  # (|E_0|^2 - |E_K|^2) / (2 lr K)


def simulate(case: Chains) -> Stationary:
    """Run the chains from the optimum and average after the burn-in."""
    rng = np.random.default_rng(case.seed)
    m, n = len(case.a), len(case.b)
    x = np.zeros((case.chains, m, n))
    loss, aligned, begin = np.zeros(case.chains), np.zeros(case.chains), x
    for k in range(case.burn + case.steps):
        g = case.a @ x @ case.b
        noisy = g + case.sigma * rng.standard_normal(x.shape)
        p = noisy / np.linalg.norm(noisy, axis=(1, 2), keepdims=True) if min(m, n) == 1 else polar_factor(noisy)
        if k == case.burn:
            begin = x
        if k >= case.burn:
            loss += np.sum(x * g, axis=(1, 2)) / 2
            aligned += np.sum(x * p, axis=(1, 2))
        x = x - case.lr * p
    drift = (np.sum(begin**2, axis=(1, 2)) - np.sum(x**2, axis=(1, 2))) / (2 * case.lr * case.steps)
    return Stationary(case, loss / case.steps, aligned / case.steps, drift)


def chain_cases(size: Size) -> list[Chains]:
    """Return chains under strong noise in three shapes; the burn-in is four relaxation times of the loss."""
    rng = np.random.default_rng(4)
    times = 1 if size == "smoke" else 3
    out = []
    for m, n, chains in ((1, 1, 2400), (2, 2, 450), (3, 2, 300)):
        h = rng.uniform(0.6, 1.4, size=m)
        out.append(Chains(np.diag(h), np.eye(n), 0.04, 1.0, chains * times, 160, 120, 10 * m + n))
    return out


def _stationary_cases(size: Size) -> Iterator[tuple[str, Stationary]]:
    for case in chain_cases(size):
        text = f"{len(case.a)} x {len(case.b)}, lr {case.lr}, sigma {case.sigma}, {case.chains} chains"
        yield text, simulate(case)


def _short_cases(size: Size) -> Iterator[tuple[str, Stationary]]:
    for case in chain_cases("smoke"):
        yield f"{len(case.a)} x {len(case.b)}", simulate(case._replace(chains=20, burn=20, steps=60))


stationary_alignment = Theorem(
    label="stationary-alignment",
    title="What any noise leaves: the distance accounts for itself",
    statement=r"\frac1K\sum_k\langle E_k,P_k\rangle=\frac{\|E_0\|_F^2-\|E_K\|_F^2}{2\eta K}"
    r"+\frac{\eta}{2}\operatorname{rank}P\qquad\text{stationary: }\mathbb E\langle E,P\rangle=\frac{\eta r}{2}",
    assumes=(Assumption("noise keeps every polar factor at full rank", lambda c: c.case.sigma > 0),),
    kind="identity",
    lhs=lambda c: 1 + c.aligned,
    rhs=lambda c: 1 + c.drift + c.case.lr * min(len(c.case.a), len(c.case.b)) / 2,
    cases=_short_cases,
    broken=lambda t: dataclasses.replace(t, rhs=lambda c: 1 + c.drift),
    mistake="without the rank",
    source="ours",
    tolerance=1e-12,
    reason="sums of sixty terms of order one",
)


def mean_nuclear(m: int, n: int, draws: int = 20_000, seed: int = 0) -> float:
    """Return E |Z|_* of an m x n Gaussian: closed for a vector, else a seeded mean over draws (below 0.5 %)."""
    if min(m, n) == 1:
        from scipy.special import gammaln

        d = max(m, n)
        return float(np.sqrt(2) * np.exp(gammaln((d + 1) / 2) - gammaln(d / 2)))
    z = np.random.default_rng(seed).standard_normal((draws, m, n))
    return float(np.linalg.svd(z, compute_uv=False).sum(axis=-1).mean())


def high_noise_floor(case: Chains) -> np.ndarray:
    """Return r m n sigma lr / (4 E |Z|_*) for standard Gaussian Z: linear in sigma, free of the curvature."""
    m, n = len(case.a), len(case.b)
    return np.array([min(m, n) * m * n * case.sigma * case.lr / (4 * mean_nuclear(m, n))])


def measured_floor(case: Stationary) -> np.ndarray:
    """Return the mean loss over time and chains."""
    return np.array([case.loss.mean()])


def confident_floor(case: Stationary) -> np.ndarray:
    """Return the confidence end of the mean loss over chains that is farther from the stated floor."""
    return np.array([farther_end(case.loss, float(high_noise_floor(case.case)[0]))])


spectral_noise_floor = Theorem(
    label="spectral-noise-floor",
    title="The floor of spectral descent under strong noise does not see the curvature",
    statement=r"f_\infty\to\frac{r\,mn\,\sigma\,\eta}{4\,\mathbb E\|Z\|_*},\quad Z_{ij}\sim N(0,1),\ \eta/\sigma\to0"
    r"\qquad(\text{SGD: }\propto\sigma^2)",
    assumes=(
        Assumption(
            "the noise is strong: lr tr(A) / sigma <= 0.15",
            lambda c: c.case.lr * np.trace(c.case.a) <= 0.15 * c.case.sigma,
        ),
    ),
    kind="asymptotic",
    lhs=confident_floor,
    rhs=lambda c: high_noise_floor(c.case),
    cases=_stationary_cases,
    broken=lambda t: dataclasses.replace(t, rhs=lambda c: high_noise_floor(c.case) / np.sqrt(min(c.case.a.shape) + 1)),
    mistake="another power of the rank",
    source="ours",
    tolerance=0.12,
    reason="smoke: 450 chains of 4 entries, each three independent squares of relative variance 2, so 1.8 % a standard "
    "error, of which three beyond the interval's end at 1.7; the expansion in lr L / sigma adds up to 3 %",
)


class Sign(NamedTuple):
    """Sign descent on h x^2 / 2 under Gaussian noise."""

    curvature: float
    lr: float
    sigma: float
    cells: int


def sign_stationary_law(case: Sign) -> tuple[np.ndarray, np.ndarray]:
    """Return the grid j lr + lr/2 and the exact stationary law: detailed balance of a walk with steps +-lr.

    P(up at x) = Phi(-h x / sigma); the walk started at lr/2 visits this grid alone, every second point at a time.
    """
    from scipy.special import log_ndtr

    x = (np.arange(case.cells) + 0.5) * case.lr
    up, down = log_ndtr(-case.curvature * x / case.sigma), log_ndtr(case.curvature * x / case.sigma)
    half = np.exp(np.concatenate([[0.0], np.cumsum(up[:-1] - down[1:])]))  # from the center, where the mass is
    law = np.concatenate([half[::-1], half])
    return np.concatenate([-x[::-1], x]), law / law.sum()


def sign_identity(case: Sign) -> np.ndarray:
    """Return E[x erf(h x / (sqrt 2 sigma))] under the stationary law."""
    from scipy.special import erf

    x, law = sign_stationary_law(case)
    return np.array([np.sum(law * x * erf(case.curvature * x / (np.sqrt(2) * case.sigma)))])


SIGNS = (
    Sign(1.0, 0.02, 1.0, 800),
    Sign(0.1, 0.02, 1.0, 3000),
    Sign(5.0, 0.01, 0.3, 400),
    Sign(1.0, 0.5, 0.1, 60),
)

sign_floor_identity = Theorem(
    label="sign-floor-identity",
    title="What sign descent balances",
    statement=r"\mathbb E\Bigl[x\,\mathrm{erf}\Bigl(\frac{hx}{\sqrt2\,\sigma}\Bigr)\Bigr]=\frac\eta2"
    r"\quad\text{for the stationary law of }x-\eta\operatorname{sign}(hx+\sigma\xi)",
    assumes=(Assumption("the grid holds all the mass", lambda c: sign_stationary_law(c)[1][[0, -1]].max() < 1e-15),),
    kind="identity",
    lhs=sign_identity,
    rhs=lambda c: np.array([c.lr / 2]),
    cases=lambda size: ((f"h = {c.curvature}, lr = {c.lr}, sigma = {c.sigma}", c) for c in SIGNS),
    broken=lambda t: dataclasses.replace(t, rhs=lambda c: np.array([c.lr])),
    mistake="the step without its half",
    source="ours",
    tolerance=1e-12,
    reason="a sum over at most 6,000 grid points of an exact law, its tail below 1e-15",
)


def sign_loss(case: Sign) -> np.ndarray:
    """Return the stationary loss h E x^2 / 2."""
    x, law = sign_stationary_law(case)
    return np.array([case.curvature * np.sum(law * x**2) / 2])


sign_floor = Theorem(
    label="sign-floor",
    title="The floor of sign descent under strong noise",
    statement=r"f_\infty\to\tfrac14\sqrt{\tfrac\pi2}\;\eta\sigma\quad(\eta h/\sigma\to0),\text{ whatever }h",
    assumes=(Assumption("lr h / sigma <= 0.02", lambda c: c.lr * c.curvature <= 0.02 * c.sigma * (1 + 1e-12)),),
    kind="asymptotic",
    lhs=sign_loss,
    rhs=lambda c: np.array([np.sqrt(np.pi / 2) / 4 * c.lr * c.sigma]),
    cases=lambda size: ((f"h = {c.curvature}, lr = {c.lr}", c) for c in SIGNS[:2]),
    broken=lambda t: dataclasses.replace(t, rhs=lambda c: np.array([c.lr * c.sigma / 4])),
    mistake="without the Gaussian's factor sqrt(pi / 2)",
    source="ours",
    tolerance=0.02,
    reason="the next term of the expansion is of relative order lr h / sigma, at most 0.02",
)


class LowRank(NamedTuple):
    """A diagonal quadratic with errors s, of which the first is large, and how many steps of spectral descent."""

    curvatures: np.ndarray
    errors: np.ndarray
    lr: float
    steps: int


def rank_one(rank: int, kick: float, lr: float = 0.05) -> LowRank:
    """Return s = (20.5 lr, kick, ..., kick): an exact polar factor drops zeros, and a kick is what rounding leaves."""
    errors = np.full(rank, kick)
    errors[0] = 20.5 * lr
    return LowRank(np.linspace(1.0, 0.2, rank), errors, lr, 60)


def low_rank_gap(case: LowRank) -> np.ndarray:
    """Run spectral descent; return the mean loss of the last two steps."""
    h, s, losses = case.curvatures, case.errors, []
    for _ in range(case.steps):
        s = s - case.lr * np.diagonal(polar_factor(np.diag(h * s)))
        losses.append(np.sum(h * s**2) / 2)
    return np.array([np.mean(losses[-2:])])


def low_rank_floor(case: LowRank, share: float = 0.25) -> np.ndarray:
    """Return lr^2 / 8 times the curvature of the error's one mode, and lr^2 / 4 times that of the kicked ones."""
    h, kicked = case.curvatures, case.errors[1:] != 0
    return np.array([case.lr**2 * (h[0] / 8 + share * np.sum(h[1:][kicked]))])


def _rests(case: LowRank) -> bool:
    share = case.errors[0] / case.lr
    return bool(np.isclose(share - np.floor(share), 0.5, atol=1e-9) and share + 2 < case.steps)


def _is_rank_one(case: LowRank) -> bool:
    # what polar_factor keeps beside the largest singular value: kicks above its threshold, and below a step
    small = np.abs(case.errors[1:])
    return bool(case.errors[0] > 0 and np.all((small == 0) | ((small >= 1e-13) & (small <= 1e-9 * case.lr))))


low_rank_error = Theorem(
    label="low-rank-error",
    title="Spectral descent pays for directions that were already right",
    statement=r"\text{rank-one error: }f_\infty=\tfrac{\eta^2}{8}h_1\ \text{(zero singular values dropped)},\qquad "
    r"f_\infty=\tfrac{\eta^2}{8}h_1+\tfrac{\eta^2}{4}\sum_{i>1}h_i\ \text{(kicked by rounding)}",
    assumes=(
        Assumption("all curvatures are positive", lambda c: bool(np.all(c.curvatures > 0))),
        Assumption("the error has rank one, up to kicks of the size of rounding", _is_rank_one),
        Assumption("the first error is an odd multiple of lr / 2 and the run passes it", _rests),
    ),
    kind="identity",
    lhs=low_rank_gap,
    rhs=low_rank_floor,
    cases=lambda size: (
        (f"rank {r}, {'kicked' if kick else 'exact'}", rank_one(r, kick)) for r in (2, 5) for kick in (0.0, 1e-12)
    ),
    broken=lambda t: dataclasses.replace(t, rhs=lambda c: low_rank_floor(c, 0.125)),
    mistake="kicked directions at rest at +-lr / 2, like the error's own",
    source="ours",
    tolerance=1e-9,
    reason="kicks of 1e-12 beside a step of 0.05",
)


def relaxation(case: Chains) -> float:
    """Return 1 / (lr c h), c = E|Z|_* / (mn sigma): steps in which the slowest error falls by e under strong noise."""
    m, n = len(case.a), len(case.b)
    slowest = np.linalg.eigvalsh(case.a)[0] * np.linalg.eigvalsh(case.b)[0]
    return m * n * case.sigma / (mean_nuclear(m, n) * case.lr * slowest)


def crossover(
    sigmas: np.ndarray, m: int = 3, n: int = 3, chains: int = 200, lr: float = 0.02, steps: int = 400
) -> dict:
    """Return the floors of spectral descent and SGD against sigma, with both asymptotes, at one step size.

    The burn-in is two relaxation times, which grow with sigma, so the last sigma takes the most steps.
    """
    a, b = np.diag(np.linspace(1.0, 0.5, m)), np.eye(n)
    h = np.repeat(np.diagonal(a), n)
    cases = [Chains(a, b, lr, float(sigma), chains, 0, steps, 3) for sigma in sigmas]
    cases = [case._replace(burn=int(np.ceil(2 * relaxation(case))) + 50) for case in cases]
    return {
        "sigma": np.asarray(sigmas),
        "spectral": np.array([measured_floor(simulate(case))[0] for case in cases]),
        "high": np.array([high_noise_floor(case)[0] for case in cases]),
        "low": np.array(np.trace(a) * lr**2 / 8),
        "sgd": 0.5 * np.asarray(sigmas) ** 2 * np.sum(lr / (2 - lr * h)),
    }


THEOREMS = (
    heavy_ball_variance,
    stationary_alignment,
    spectral_noise_floor,
    sign_floor_identity,
    sign_floor,
    low_rank_error,
)
