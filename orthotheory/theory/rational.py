"""How the singular values move under scaled Newton, QDWH and Zolotarev's functions, and how many steps they need."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator

import numpy as np

from ..polar.newton import excess_after, newton_steps
from ..polar.qdwh import HalleyWeights, halley_weights
from ..polar.zolotarev import zolotarev, zolotarev_error, zolotarev_image
from .contract import Assumption, Case, Size, Theorem

UNIT = 2.0**-53  # the rounding unit of double precision
SMALLEST = 1e-16

_in_range = Assumption("the lower bound of the singular values is in [1e-16, 1)", lambda low: SMALLEST <= low < 1)


def _lows(size: Size) -> Iterator[tuple[str, float]]:
    for low in np.geomspace(SMALLEST, 0.9, 5 if size == "smoke" else 200).tolist():
        yield f"singular values in [{low:.1e}, 1]", low


def _random_low(rng: np.random.Generator) -> tuple[str, float]:
    low = float(SMALLEST ** rng.uniform(1e-3, 1.0))
    return f"singular values in [{low:.3e}, 1]", low


# Scaled Newton


def newton_images(low: float, *, scaled: bool = True) -> np.ndarray:
    """Return the ends of the interval of the singular values after each step, rows (low, high)."""
    interval, rows = (low, 1.0), []
    for step in newton_steps(low):
        step = step if scaled else dataclasses.replace(step, weight=1.0)
        interval = step.image(*interval)
        rows.append(interval)
    return np.array(rows)


def cosine_recursion(low: float) -> np.ndarray:
    """Return the rows (1, h_k) with h_0 = 1 / low, h_k = cosh(ln(h_(k - 1)) / 2)."""
    h, rows = 1 / low, []
    for _ in newton_steps(low):
        h = math.cosh(math.log(h) / 2)
        rows.append((1.0, h))
    return np.array(rows)


def prove_newton() -> list[str]:
    """Prove with SymPy that the weight h^(-1/2) maps [1, h] onto [1, cosh(ln(h) / 2)], and [low, 1] likewise.

    Raises ArithmeticError where a residual is not zero.
    """
    import sympy

    s, w, h = sympy.symbols("s w h", positive=True)
    image = (w * s + 1 / (w * s)) / 2
    best = image.subs(w, h ** sympy.Rational(-1, 2))
    residuals = {
        r"\tfrac12\bigl(ws+\tfrac1{ws}\bigr)-1=\frac{(ws-1)^2}{2ws}": image - 1 - (w * s - 1) ** 2 / (2 * w * s),
        r"f(1)=f(h)": best.subs(s, 1) - best.subs(s, h),
        r"f(h)=\cosh(\tfrac12\ln h)": best.subs(s, h) - sympy.cosh(sympy.log(h) / 2).rewrite(sympy.exp),
        r"f(h^{1/2})=1": best.subs(s, sympy.sqrt(h)) - 1,
    }
    for text, residual in residuals.items():
        if sympy.simplify(residual) != 0:
            raise ArithmeticError(f"{text} leaves {residual}")
    return list(residuals)


newton_scaling_interval = Theorem(
    label="newton-scaling-interval",
    title="Scaled Newton maps an interval onto [1, h]",
    statement=(
        r"\sigma\in[\ell,1],\quad \zeta_0=\ell^{-1/2},\ \zeta_k=h_k^{-1/2}\ (k\ge1):\qquad "
        r"\sigma(X_k)\in[1,h_k],\quad h_k=\cosh\bigl(\tfrac12\ln h_{k-1}\bigr),\quad h_0=1/\ell"
    ),
    assumes=(_in_range,),
    kind="identity",
    lhs=newton_images,
    rhs=cosine_recursion,
    cases=_lows,
    sample=_random_low,
    broken=lambda t: dataclasses.replace(t, lhs=lambda low: newton_images(low, scaled=False)),
    mistake="Newton's iteration without scaling",
    source="[byers2008new]; the closed form of the recursion is ours, proved by SymPy",
    tolerance=1e-13,
    reason="ln(h) <= 37 carries its rounding into h, and nine steps add theirs",
    proof=prove_newton,
)

newton_nine_steps = Theorem(
    label="newton-nine-steps",
    title="Scaled Newton needs at most nine steps in double precision",
    statement=r"\ell\ge10^{-16}\ \Longrightarrow\ h_9-1\le 2^{-53},\qquad h_k=\cosh\bigl(\tfrac12\ln h_{k-1}\bigr)",
    assumes=(_in_range,),
    kind="upper",
    lhs=lambda low: [next(k for k in range(99) if excess_after(k, low) <= UNIT)],
    rhs=lambda low: [9.0],
    cases=_lows,
    sample=_random_low,
    broken=lambda t: dataclasses.replace(t, rhs=lambda low: [8.0]),
    mistake="eight steps, which leave 3.6e-14",
    source="[byers2008new]",
)


# QDWH and Zolotarev


def halley_recursion(low: float) -> int:
    """Return how many steps l <- l (a + b l^2) / (1 + c l^2) bring l to within two rounding units of one."""
    steps = 0
    while 1 - low > 2 * UNIT:
        a, b, c = halley_weights(low)
        low = low * (a + b * low**2) / (1 + c * low**2)
        steps += 1
    return steps


qdwh_six_steps = Theorem(
    label="qdwh-six-steps",
    title="QDWH needs at most six steps in double precision",
    statement=(
        r"\ell_0\ge10^{-16},\quad \ell_{k+1}=\ell_k\frac{a_k+b_k\ell_k^2}{1+c_k\ell_k^2}"
        r"\ \Longrightarrow\ 1-\ell_6\le 2^{-52}"
    ),
    assumes=(_in_range,),
    kind="upper",
    lhs=lambda low: [halley_recursion(low)],
    rhs=lambda low: [6.0],
    cases=_lows,
    sample=_random_low,
    broken=lambda t: dataclasses.replace(t, rhs=lambda low: [5.0]),
    mistake="five steps, which leave 1.9e-13",
    source="[nakatsukasa2010optimizing]",
)


def _step_of(weights: HalleyWeights, low: float) -> list[float]:
    step = weights.step(low)
    return [step.gain, *step.residues, *step.poles]


def _step_of_zolotarev(low: float) -> list[float]:
    step = zolotarev(1, low)
    return [step.gain, *step.residues, *step.poles]


zolotarev_is_qdwh = Theorem(
    label="zolotarev-is-qdwh",
    title="Zolotarev's function with one pole is QDWH's step",
    statement=(
        r"Z_{3}(x;\ell)=C\,x\,\frac{x^2+c_2}{x^2+c_1}=x\,\frac{a+bx^2}{1+cx^2},\qquad "
        r"C=\frac bc,\quad c_1=\frac1c,\quad c_2=\frac ab"
    ),
    assumes=(_in_range,),
    kind="identity",
    lhs=_step_of_zolotarev,
    rhs=lambda low: _step_of(halley_weights(low), low),
    cases=_lows,
    sample=_random_low,
    broken=lambda t: dataclasses.replace(t, rhs=lambda low: _step_of(HalleyWeights(3.0, 1.0, 3.0), low)),
    mistake="Halley's weights (3, 1, 3), which are the limit as the interval shrinks to one",
    source="[nakatsukasa2016computing]",
    tolerance=1e-13,
    reason="elliptic functions carry ln(4 / l) <= 39 roundings",
)

zolotarev_two_steps = Theorem(
    label="zolotarev-two-steps",
    title="Two Zolotarev steps with eight poles suffice in double precision",
    statement=(
        r"\ell\ge10^{-16}\ \Longrightarrow\ 1-Z_{17}\bigl(Z_{17}(\ell;\ell);\ell_1\bigr)\le 5\cdot2^{-53},"
        r"\qquad \ell_1=Z_{17}(\ell;\ell)"
    ),
    assumes=(_in_range,),
    kind="upper",
    lhs=lambda low: [zolotarev_error(17 * 17, low)],
    rhs=lambda low: [5 * UNIT],
    cases=_lows,
    sample=_random_low,
    broken=lambda t: dataclasses.replace(t, lhs=lambda low: [zolotarev_error(15 * 15, low)]),
    mistake="seven poles, which leave 1.9e-12",
    source="[nakatsukasa2016computing]; the constant is ours",
)


def composed(case: tuple[int, int, float], *, updated: bool = True) -> np.ndarray:
    """Apply a Zolotarev step and a second one for the image of the interval, on a grid of singular values."""
    first, second, low = case
    image = zolotarev_image(2 * first + 1, low) if updated else low
    return zolotarev(second, image)(zolotarev(first, low)(np.geomspace(low, 1.0, 301)))


def at_once(case: tuple[int, int, float]) -> np.ndarray:
    """Apply the single Zolotarev step whose order is the product of the two orders."""
    first, second, low = case
    return zolotarev(((2 * first + 1) * (2 * second + 1) - 1) // 2, low)(np.geomspace(low, 1.0, 301))


def _pairs(size: Size) -> Iterator[tuple[str, Case]]:
    lows = (SMALLEST, 1e-8, 1e-3, 0.3) if size == "smoke" else np.geomspace(SMALLEST, 0.9, 12).tolist()
    for low in lows:
        for first, second in ((1, 1), (1, 2), (2, 1), (3, 2), (8, 8)):
            yield f"{first} then {second} poles on [{low:.1e}, 1]", (first, second, low)


def _random_pair(rng: np.random.Generator) -> tuple[str, Case]:
    low, (first, second) = _random_low(rng)[1], rng.integers(1, 9, size=2).tolist()
    return f"{first} then {second} poles on [{low:.3e}, 1]", (first, second, low)


zolotarev_composition = Theorem(
    label="zolotarev-composition",
    title="Zolotarev functions compose to Zolotarev functions",
    statement=r"Z_{n}\bigl(Z_{m}(x;\ell);\,Z_{m}(\ell;\ell)\bigr)=Z_{mn}(x;\ell),\qquad m,n\ \text{odd}",
    assumes=(Assumption("the lower bound is in [1e-16, 1)", lambda case: SMALLEST <= case[2] < 1),),
    kind="identity",
    lhs=composed,
    rhs=at_once,
    cases=_pairs,
    sample=_random_pair,
    broken=lambda t: dataclasses.replace(t, lhs=lambda case: composed(case, updated=False)),
    mistake="a second step for the first interval",
    source="[nakatsukasa2016computing]",
    tolerance=1e-12,
    reason="poles carry about 100 roundings, and the product has up to 144 of them",
)

THEOREMS = (
    newton_scaling_interval,
    newton_nine_steps,
    qdwh_six_steps,
    zolotarev_is_qdwh,
    zolotarev_two_steps,
    zolotarev_composition,
)
