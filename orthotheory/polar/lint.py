"""Is a coefficient set safe behind its normalization? What the numbers say before a matrix is touched.

After normalization the singular values fill (0, u] with u = 1 / safety, and u itself occurs (a matrix of rank one):
the whole interval has to go well, not the part where a table was tuned.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np

from .schedule import Schedule, critical_points, image, is_increasing, odd_value

BASIN = math.sqrt(3)  # what leaves (0, sqrt 3) no Newton-Schulz step brings back to 1
PRECISIONS = {"bfloat16": 2.0**-8, "float16": 2.0**-10, "float32": 2.0**-23, "float64": 2.0**-52}
HEADROOM = 2  # roundings of a product, each at most eps / 2 of the norm, and one of the sum, twice over


@dataclass(frozen=True)
class Finding:
    """What is wrong with a schedule.

    Parameters
    ----------
    severity : "error" or "warning"
        An error gives a wrong direction or diverges in exact arithmetic; a warning costs quality, or is a risk
        of low precision.
    rule : str
        Name of the check: "sign-flip", "overshoot", "no-gain", "non-monotone", "vanishing-top", "no-headroom",
        "not-scale-free", "biased".
    message : str
        What happens, with numbers, and what to do.
    value : float
        The deciding number.
    """

    severity: Literal["error", "warning"]
    rule: str
    message: str
    value: float


def lint(schedule: Schedule, *, dtype: str = "bfloat16") -> list[Finding]:
    """Check a schedule on the whole interval (0, 1 / safety] that its normalization allows.

    Parameters
    ----------
    schedule : Schedule
        Coefficients and normalization together.
    dtype : str
        The lowest precision it shall run in; decides the warnings "vanishing-top" and "no-headroom".

    Returns
    -------
    list of Finding
        Errors first; empty for a clean schedule.

    Notes
    -----
    Images are exact (end points and critical points of each step), in float64. Cost: no matrix product.

    >>> from orthotheory.polar import POLAR_EXPRESS
    >>> lint(POLAR_EXPRESS)
    []
    """
    if dtype not in PRECISIONS:
        raise ValueError(f"dtype must be one of {', '.join(PRECISIONS)}; got {dtype!r}.")
    eps = PRECISIONS[dtype]
    found = [
        *_sign_flip(schedule),
        *_overshoot(schedule),
        *_no_gain(schedule),
        *_non_monotone(schedule),
        *_vanishing_top(schedule, dtype, eps),
        *_no_headroom(schedule, dtype, eps),
        *_normalization(schedule),
    ]
    return sorted(found, key=lambda finding: finding.severity)  # stable: "error" before "warning"


def refuse(schedule: Schedule) -> None:
    """Raise ValueError with the reasons where `lint` finds an error."""
    errors = [f.message for f in lint(schedule) if f.severity == "error"]
    if errors:
        norm = schedule.normalization
        raise ValueError(
            f"{schedule.name} behind {norm.bound} with safety {norm.safety:g} is unsafe: " + " ".join(errors)
        )


def headroom(schedule: Schedule) -> tuple[float, int]:
    """Return the largest relative excess that every step survives, at most 1, and the step (from 1) that decides it.

    Before step k the singular values reach some high_k; a value of high_k (1 + eta), as rounding makes it, still has
    to leave the remaining steps inside (0, sqrt 3).
    """
    high, worst = schedule.normalization.top, (1.0, 0)
    for k in range(schedule.steps):
        rest = schedule.coefficients[k:]
        if not _survives(rest, high, 0.0):
            return 0.0, k + 1
        low_eta, high_eta = 0.0, 1.0
        if not _survives(rest, high, 1.0):
            while high_eta - low_eta > 1e-6:
                middle = (low_eta + high_eta) / 2
                low_eta, high_eta = (middle, high_eta) if _survives(rest, high, middle) else (low_eta, middle)
        else:
            low_eta = 1.0
        worst = min(worst, (low_eta, k + 1))
        high = image(rest[:1], 0.0, high)[1]
    return worst


def _survives(steps: tuple[tuple[float, ...], ...], high: float, eta: float) -> bool:
    low, top = high, high * (1 + eta)
    for step in steps:
        low, top = image((step,), low, top)
        if max(-low, top) > 100:  # never comes back, and would overflow later
            return False
    return low > 0 and top < BASIN


def _sign_flip(schedule: Schedule) -> list[Finding]:
    top = schedule.normalization.top
    low, _ = image(schedule.coefficients, 0.0, top)
    if low >= 0:
        return []
    s = np.linspace(0.0, top, 200_001)[1:]
    values = schedule.singular_value_map(s)
    first = float(s[int(np.argmax(values < 0))])
    once = float(odd_value(schedule.coefficients[0], np.float64(top)))
    message = (
        f"Singular values from {first:.4f} on change their sign: p({top:g}) = {once:.4f} after one step and "
        f"{float(values[-1]):.4f} after all, the least value is {low:.4f}; the update ascends along them. "
        f"Use a safety factor above {1 / first:.3f} or another table."
    )
    return [Finding("error", "sign-flip", message, low)]


def _overshoot(schedule: Schedule) -> list[Finding]:
    top = schedule.normalization.top
    _, high = image(schedule.coefficients, 0.0, top)
    if high < BASIN:
        return []
    s = np.geomspace(1e-6, top, 200_001)
    where, reason = float(s[int(np.argmax(schedule.singular_value_map(s)))]), ""
    if len(set(schedule.coefficients)) == 1:
        turning, peak, fixed = peak_and_fixed_point(schedule.coefficients[0])
        if peak > fixed:
            where = turning
            reason = (
                f" The peak p({turning:.4f}) = {peak:.5f} lies beyond the repelling fixed point {fixed:.5f}: "
                "more steps diverge."
            )
    message = f"A singular value near {where:.4f} comes out as {high:.4f}, outside the basin (0, sqrt 3).{reason}"
    return [Finding("error", "overshoot", message, high)]


def peak_and_fixed_point(step: tuple[float, ...]) -> tuple[float, float, float]:
    """Return the first maximizer of an odd polynomial, its value, and the repelling fixed point beyond it (or inf)."""
    turning = critical_points(step)
    if not turning:
        return math.inf, math.inf, math.inf
    first = turning[0]
    roots = np.roots([*step[:0:-1], step[0] - 1.0])
    fixed = [float(np.sqrt(t.real)) for t in roots if abs(t.imag) < 1e-12 * abs(t) and t.real > first**2]
    slope = [(2 * i + 1) * c for i, c in enumerate(step)]
    repelling = [x for x in fixed if abs(sum(c * x ** (2 * i) for i, c in enumerate(slope))) > 1]
    return first, float(odd_value(step, np.float64(first))), max(repelling, default=math.inf)


def _no_gain(schedule: Schedule) -> list[Finding]:
    if schedule.slope > 1:
        return []
    message = f"The gain at zero is {schedule.slope:.4g}: small singular values shrink instead of growing."
    return [Finding("error", "no-gain", message, schedule.slope)]


def _non_monotone(schedule: Schedule) -> list[Finding]:
    low = schedule.input_interval[0]
    if is_increasing(schedule.coefficients, low):
        return []
    s = np.linspace(0.0, low, 20_001)
    values = schedule.singular_value_map(s)
    turn = int(np.argmax(np.diff(values) < 0))
    message = (
        f"Below {low:g}, where the table promises nothing, the map turns at {s[turn]:.3g}: a smaller singular value "
        f"may come out larger ({values[turn]:.3g} there, {values[-1]:.3g} at {low:g}), and results that assume an "
        "increasing map there do not apply. Lower the input interval."
    )
    return [Finding("warning", "non-monotone", message, float(s[turn]))]


def _vanishing_top(schedule: Schedule, dtype: str, eps: float) -> list[Finding]:
    top, step = schedule.normalization.top, schedule.coefficients[0]
    value = abs(float(odd_value(step, np.float64(top))))
    terms = sum(abs(c) * top ** (2 * i + 1) for i, c in enumerate(step))
    if terms * eps < value / 2:
        return []
    message = (
        f"The first step sends the top singular value {top:g} to {value:.4f} by cancellation of terms of {terms:.1f}: "
        f"in {dtype} rounding changes it by up to {terms * eps:.3f}, and its sign may flip. "
        "Use a larger safety factor or more precision."
    )
    return [Finding("warning", "vanishing-top", message, value)]


def _no_headroom(schedule: Schedule, dtype: str, eps: float) -> list[Finding]:
    room, step = headroom(schedule)
    if room >= HEADROOM * eps:
        return []
    message = (
        f"A singular value that exceeds what step {step} expects by more than {room:.2%} leaves the basin, and a "
        f"product in {dtype} rounds by {eps:.2%}: the iteration may diverge. Compose with a safety factor above "
        f"{1 + HEADROOM * eps:.4g}."
    )
    return [Finding("warning", "no-headroom", message, room)]


def _normalization(schedule: Schedule) -> list[Finding]:
    norm, found = schedule.normalization, []
    if norm.epsilon > 0:
        message = (
            f"epsilon = {norm.epsilon:g} stands beside the norm: matrices not much larger than that come out short. "
            "Use epsilon = 0, which divides by a power of two first."
        )
        found.append(Finding("warning", "not-scale-free", message, norm.epsilon))
    if not norm.is_scaling:
        message = (
            "Rows are scaled one by one: the result approximates the polar factor of another matrix. "
            "Use schatten-8, which costs as little."
        )
        found.append(Finding("warning", "biased", message, norm.top))
    return found
