"""Proofs by ball arithmetic: where a stored table of coefficients sends an interval of singular values, and how near
to optimal it is.

The coefficients are taken exactly as they are stored (binary floats, fractions or decimal strings). The extremes of an
odd polynomial p(x) = x h(x^2) on [low, high] are at its ends and at the positive roots of p', a polynomial in t = x^2
with rational coefficients, whose real roots python-flint isolates with certainty. Values there are balls that contain
the true ones; every bound is rounded outward, and the bound of one step is the input of the next.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from math import inf, lcm, nextafter
from typing import Any

from .lower_bound import cells
from .minimax import check_interval
from .schedule import Interval, Schedule

Ball = Any  # flint.arb
Number = float | int | str | Fraction


class NotProven(ValueError):
    """What was claimed does not follow from the coefficients."""


@dataclass(frozen=True)
class Proof:
    """What has been proven about a chain of odd polynomials; printed, it is a certificate.

    Parameters
    ----------
    degrees : tuple of int
        Of the steps.
    intervals : tuple of (low, high)
        Every singular value in the first lies after k steps in entry k. Rounded outward to float64.
    errors : tuple of float
        After k + 1 steps |1 - p(...)| is at most entry k, to full relative accuracy.
    brackets : tuple of (low, high)
        The smallest error of all odd polynomials of the degree of a step on the interval before it lies in its
        entry (de la Vallee-Poussin: min |e(x_i)| over degree q + 2 points with alternating signs, and max |e|);
        low is 0 where e does not alternate often enough.
    optimum : (low, high)
        The smallest error of all chains of these degrees lies in it: the same bound, carried through the steps.
    precision : int
        Bits of the balls.
    """

    degrees: tuple[int, ...]
    intervals: tuple[Interval, ...]
    errors: tuple[float, ...]
    brackets: tuple[Interval, ...]
    optimum: Interval
    precision: int

    @property
    def image(self) -> Interval:
        """The proven output interval."""
        return self.intervals[-1]

    def supports(self, low: float, high: float) -> bool:
        """Return whether the proven output lies in [low, high]."""
        return low <= self.image[0] and self.image[1] <= high

    def __str__(self) -> str:
        (low, high), (first, last) = self.intervals[0], self.image
        lines = [
            f"Proven by ball arithmetic with {self.precision} bits:",
            f"singular values in [{low:.17g}, {high:.17g}] are mapped into [{first:.17g}, {last:.17g}].",
            f"{'step':>4} {'degree':>6}  {'|1 - p| at most':<23} {'the best of its degree has an error in'}",
        ]
        for k, (degree, error, bracket) in enumerate(zip(self.degrees, self.errors, self.brackets, strict=True)):
            lines.append(f"{k + 1:>4} {degree:>6}  {error:<23.17g} [{bracket[0]:.17g}, {bracket[1]:.17g}]")
        lines.append(
            f"The best chain of these degrees has an error in [{self.optimum[0]:.17g}, {self.optimum[1]:.17g}]."
        )
        return "\n".join(lines)


def prove(coefficients: Sequence[Sequence[Number]], low: Number, high: Number = 1.0, *, precision: int = 256) -> Proof:
    """Prove where a chain of odd polynomials sends [low, high].

    Parameters
    ----------
    coefficients : sequence of sequences
        (a, b, c, ...) of a x + b x^3 + c x^5 + ..., one a step: floats (taken as the binary numbers they are),
        integers, fractions, or decimal strings (taken exactly).
    low, high : number
        0 <= low <= high; low = 0 shows whether the chain keeps the sign of every singular value up to high.
    precision : int
        Bits of the balls, at least 64.

    Raises
    ------
    ValueError
        For an interval that is none, an empty table, or coefficients that are not finite.
    ModuleNotFoundError
        Without python-flint: `pip install "orthotheory[proof]"`.

    Notes
    -----
    Needs q roots a step, some milliseconds. The certificate is about exact arithmetic with the stored numbers: rounding
    in the products of a matrix iteration is not part of it.

    >>> proof = prove([(1.5, -0.5)] * 2, "0.5")
    >>> proof.image, proof.supports(0.8, 1)
    ((0.8687744140625, 1.0), True)
    """
    flint = _flint()
    table = [_exact(row) for row in coefficients]
    low, high = _fraction(low), _fraction(high)
    if not table or not all(table):
        raise ValueError("prove needs at least one step with at least one coefficient.")
    if not 0 <= low <= high:
        raise ValueError(f"An interval of singular values has 0 <= low <= high; got [{low}, {high}].")
    if precision < 64:
        raise ValueError(f"precision must be at least 64 bits; got {precision}.")
    with flint.ctx.workprec(precision):
        ends = (_ball(low).lower(), _ball(high).upper())
        best: tuple[Ball, Ball] | None = ends  # what the best chain could have reached
        intervals, errors, brackets = [ends], [], []
        for row in table:
            values = [_value(row, x) for x in _candidates(row, *intervals[-1])]
            image = (_least(v.lower() for v in values), -_least(-v.upper() for v in values))
            error = -_least(-abs(1 - end).upper() for end in image)
            brackets.append((_alternation(row, *intervals[-1]), error))
            level = _alternation(row, *best) if best else flint.arb(0)
            best = ((1 - level).upper(), (1 + level).lower()) if level > 0 else None
            intervals.append(image)
            errors.append(error)
        return Proof(
            tuple(2 * len(row) - 1 for row in table),
            tuple((_down(a), _up(b)) for a, b in intervals),
            tuple(_up(e) for e in errors),
            tuple((_down(a), _up(b)) for a, b in brackets),
            (_down(level) if best else 0.0, _up(errors[-1])),
            precision,
        )


def prove_schedule(schedule: Schedule, *, slack: float = 1e-12, precision: int = 256) -> Proof:
    """Prove that a schedule maps its input interval into its output interval, up to the rounding of the latter.

    Raises
    ------
    NotProven
        Where the proven image leaves the stored output interval by more than `slack`, or does not fill it.

    >>> from orthotheory.polar import POLAR_EXPRESS_5
    >>> round(prove_schedule(POLAR_EXPRESS_5).errors[-1], 6)
    0.153823
    """
    proof = prove(schedule.coefficients, *schedule.input_interval, precision=precision)
    if any(abs(a - b) > slack for a, b in zip(proof.image, schedule.output_interval, strict=True)):
        raise NotProven(
            f"{schedule.name} maps {schedule.input_interval} into {proof.image} (proven); "
            f"it claims {schedule.output_interval}. Rebuild it with `with_image`."
        )
    return proof


def prove_error_bound(inner_degree: int, low: float, high: float = 1.0, *, precision: int = 256) -> float:
    """Return `lower_bound.error_bound` proven in ball arithmetic, rounded down.

    No polynomial h of this degree has max |1 - x h(x^2)| on [low, high] below it. low and high are taken exactly as the
    floats they are. About 0.1 s.

    >>> prove_error_bound(827, 1e-3) > 0.1  # so that degree 2 * 827 + 1 does not reach an error of 0.1
    True
    """
    flint = _flint()
    low, high = check_interval(low, high)
    if inner_degree < 1 or low == high:
        raise ValueError(f"The bound is for degrees of at least 1 and low < high; got {inner_degree}, [{low}, {high}].")
    with flint.ctx.workprec(precision):
        n, ratio = flint.arb(inner_degree), flint.arb(low) / flint.arb(high)
        b, half = (1 - ratio) / (1 + ratio), (1 - ratio**2) / 2
        # the weights, from the zeros of U_N + b U_{N-1} in closed form: cosh(eta) = A / B
        slope = (2 * n + 1) * b
        eta = ((n + 1 + n * b**2) / slope).acosh()
        up, same = (n + 1) * eta, n * eta
        logarithmic = ((n + 1) * up.cosh() - b * n * same.cosh()) / (up.sinh() - b * same.sinh()) - eta.coth()
        weights = (1 + b) * logarithmic / (slope * eta.sinh())
        weights += 1 / (2 * (n + 1 + b * n)) + 1 / (2 * ratio * (n + 1 - b * n))
        integral, last = flint.arb(0), flint.arb(0)
        for v in map(flint.arb, cells(low / high)[1:].tolist()):
            xi = (1 + (ratio**2 + v**2) / half).acosh()
            integral += (v - last) / (xi.sinh() * (((n + 1) * xi).sinh() - b * (n * xi).sinh()))
            last = v
        return _down((2 * integral / (flint.arb.pi() * half * weights)).lower())


def _flint() -> Any:
    try:
        import flint
    except ModuleNotFoundError as missing:
        raise ModuleNotFoundError('Proofs need python-flint: pip install "orthotheory[proof]".') from missing
    return flint


def _fraction(number: Number) -> Fraction:
    try:
        return Fraction(number)
    except (OverflowError, ValueError) as bad:
        raise ValueError(f"A proof needs finite numbers; got {number!r}.") from bad


def _exact(row: Sequence[Number]) -> list[Fraction]:
    return [_fraction(c) for c in row]


def _ball(number: Fraction) -> Ball:
    import flint

    return flint.arb(flint.fmpq(number.numerator, number.denominator))


def _value(row: list[Fraction], x: Ball) -> Ball:
    t, value = x * x, _ball(row[-1])
    for c in reversed(row[:-1]):
        value = value * t + _ball(c)
    return value * x


def _critical(row: list[Fraction]) -> list[Ball]:
    """Return balls around all positive zeros of p', in ascending order, each around one."""
    import flint

    slope = [(2 * k + 1) * c for k, c in enumerate(row)]
    common = lcm(*(c.denominator for c in slope))
    roots: Any = flint.fmpz_poly([int(c * common) for c in slope]).complex_roots() if any(slope) else []
    balls = [flint.acb(root[0]) for root in roots]  # a real root has an imaginary part that is exactly zero
    return sorted((t.real.sqrt() for t in balls if t.imag == 0 and t.real > 0), key=lambda x: float(x.mid()))


def _candidates(row: list[Fraction], low: Ball, high: Ball) -> list[Ball]:
    """Return the ends and every critical point, of either sign, that may lie between them."""
    both = [x for root in _critical(row) for x in (root, -root)]
    return [low, *(x for x in both if not (x < low or x > high)), high]


def _alternation(row: list[Fraction], low: Ball, high: Ball) -> Ball:
    """Return min |e(x_i)| over q + 2 points of [low, high] where e = 1 - p alternates in sign, or 0 without them."""
    import flint

    if not low > 0:
        return flint.arb(0)
    peaks: list[Ball] = []  # of each run of equal signs the largest |e|, with its sign
    for x in [low, *(x for x in _critical(row) if x > low and x < high), high]:
        e = 1 - _value(row, x)
        if not (e > 0 or e < 0):
            continue
        if peaks and (peaks[-1] > 0) == (e > 0):
            peaks[-1] = e if abs(e).lower() > abs(peaks[-1]).lower() else peaks[-1]
        else:
            peaks.append(e)
    if len(peaks) < len(row) + 1:
        return flint.arb(0)
    return max(
        (_least(abs(e).lower() for e in peaks[i : i + len(row) + 1]) for i in range(len(peaks) - len(row))),
        key=lambda x: float(x),
    )


def _least(exact: Any) -> Ball:
    smallest = None
    for x in exact:
        if smallest is None or x < smallest:
            smallest = x
    return smallest


def _down(x: Ball) -> float:
    """Return a float that is not above the exact ball."""
    import flint

    number = float(x)
    while not flint.arb(number) <= x:
        number = nextafter(number, -inf)
    return number


def _up(x: Ball) -> float:
    return -_down(-x)
