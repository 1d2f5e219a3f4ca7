"""Polynomial schedules: frozen sequences of odd polynomials that drive singular values towards 1.

A schedule is indivisible: coefficients, normalization, provenance and the intervals travel together, because
coefficients are only meant for the interval, the step order and the normalization they were designed for.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from .. import kernels
from ..arrays import Array, array_namespace, device_of
from . import blocked
from .normalization import Normalization

Interval = tuple[float, float]
FROBENIUS = Normalization()


@dataclass(frozen=True)
class Generation:
    """How a table was composed of minimax polynomials: what a generator needs to reproduce it.

    Parameters
    ----------
    degrees : tuple of int
        One degree a step.
    low : float
        The composition starts from [low, 1].
    cushion : float
        Each step is designed on [max(low, cushion * high), high] and recentered.
    safety : float
        Each step but the last is evaluated at x / safety while composing.
    shrink : float
        Afterwards the steps are evaluated at x / shrink (which ones, `source` says).
    decimals : int or None
        The table is printed to that many decimals; None means all digits of a double.
    """

    degrees: tuple[int, ...]
    low: float
    cushion: float = 0.0
    safety: float = 1.0
    shrink: float = 1.0
    decimals: int | None = None


@dataclass(frozen=True)
class Schedule:
    """A sequence of odd polynomials x -> a x + b x^3 + c x^5 + ..., one tuple (a, b, c, ...) a step.

    Parameters
    ----------
    name : str
        The name by which `polar_factor` finds it.
    coefficients : tuple of tuples
        One tuple a step, lowest degree first.
    source : str
        Key of `paper/references.bib`, and how the numbers were made.
    input_interval, output_interval : (low, high)
        Singular values of the normalized matrix in the first are mapped into the second (`image` computes it).
    normalization : Normalization
        What is done to the matrix before the first step.
    generation : Generation or None
        The parameters that reproduce the table, where it was composed and they are known.
    """

    name: str
    coefficients: tuple[tuple[float, ...], ...]
    source: str
    input_interval: Interval
    output_interval: Interval
    normalization: Normalization = FROBENIUS
    generation: Generation | None = None

    def __post_init__(self):  # NumPy numbers would decide the dtype of the result
        object.__setattr__(self, "coefficients", tuple(tuple(map(float, step)) for step in self.coefficients))

    @property
    def steps(self) -> int:
        """Number of polynomials."""
        return len(self.coefficients)

    @property
    def slope(self) -> float:
        """The gain of the composed map at zero, the product of the first coefficients."""
        return math.prod(step[0] for step in self.coefficients)

    def step(self, index: int) -> tuple[float, ...]:
        """Return the coefficients of one step, counted from 0; past the end is refused, never repeated."""
        if not 0 <= index < self.steps:
            raise IndexError(
                f"{self.name} has {self.steps} steps, 0 to {self.steps - 1}; got step {index}. "
                "A table is not extended by its last row: its intervals would not follow."
            )
        return self.coefficients[index]

    def first(self, steps: int | None) -> tuple[tuple[float, ...], ...]:
        """Return the coefficients of the first `steps` steps, all of them for None.

        Raises ValueError where the schedule has fewer.
        """
        if steps is None:
            return self.coefficients
        if not 1 <= steps <= self.steps:
            raise ValueError(
                f"{self.name} has {self.steps} steps; got steps={steps}. Ask for 1 to {self.steps}, "
                "or build a longer schedule with its own intervals."
            )
        return self.coefficients[:steps]

    def with_normalization(self, normalization: Normalization) -> Schedule:
        """Return the schedule behind another normalization, if the pair is safe.

        Raises
        ------
        ValueError
            With the numbers, where `lint` finds an error: the sign of a singular value flips, or one leaves the basin.
        """
        from .lint import refuse

        changed = replace(self, normalization=normalization)
        refuse(changed)
        return changed

    def singular_value_map(self, s: Array, *, steps: int | None = None) -> Array:
        """Apply the composed scalar polynomial to singular values of the normalized matrix."""
        for step in self.first(steps):
            s = odd_value(step, s)
        return s

    def apply(self, g: Array, *, steps: int | None = None) -> Array:
        """Normalize each matrix and run the steps (the first `steps` of them) on the shorter side.

        Cost for m <= n and degree 5: 4 m^2 n + 2 m^3 operations a step, cubic in the side: 6 n^3 for a square.
        """
        gpu = kernels.gpu(g)
        if gpu and gpu.takes_schedule(g, self.coefficients, self.normalization):
            return gpu.run_schedule(g, self.first(steps), self.normalization)
        xp = array_namespace(g)
        wide = g.shape[-2] <= g.shape[-1]
        x = self.normalization(g if wide else g.mT)
        if blocked.takes(x):
            x = blocked.run(x, self.first(steps))
            return x if wide else x.mT
        eye = xp.eye(x.shape[-2], dtype=x.dtype, device=device_of(x))
        for first, *rest in self.first(steps):
            if not rest:
                x = first * x
                continue
            # A @ A.T on one buffer lets NumPy use the symmetric product, which pays where matrices are large.
            gram = x @ (xp.conj(x).mT if xp.isdtype(x.dtype, "complex floating") else x.mT)
            polynomial = rest[-1] * gram
            for c in reversed(rest[:-1]):
                polynomial = (polynomial + c * eye) @ gram
            x = first * x + polynomial @ x
        return x if wide else x.mT

    def image(self, low: float, high: float) -> Interval:
        """Return the exact image of [low, high] under the composed map, from end points and critical points."""
        return image(self.coefficients, low, high)


def newton_schulz(steps: int, degree: int = 3) -> Schedule:
    """Build the classical Newton-Schulz schedule of degree 3 or 5 (Taylor expansion of (1 - t)^(-1/2)).

    Converges for singular values in (0, sqrt(3)); 1 - p(x) has a double (cubic) or triple (quintic) zero at 1
    (theorem `newton-schulz-factor`).
    """
    table = {3: (1.5, -0.5), 5: (1.875, -1.25, 0.375)}
    if degree not in table:
        raise ValueError(f"degree must be 3 or 5; got {degree}.")
    if steps < 1:
        raise ValueError(f"steps must be at least 1; got {steps}.")
    return with_image(
        name=f"newton-schulz-{'cubic' if degree == 3 else 'quintic'}",
        coefficients=(table[degree],) * steps,
        source="kovarik1970some, bjorck1971iterative",
        input_interval=(1e-3, 1.0),
    )


def with_image(**fields) -> Schedule:
    """Build a schedule whose output interval is computed, not typed."""
    draft = Schedule(output_interval=(0.0, 0.0), **fields)
    return replace(draft, output_interval=draft.image(*draft.input_interval))


def image(coefficients: tuple[tuple[float, ...], ...], low: Array, high: Array) -> tuple[Array, Array]:
    """Return the exact image of [low, high] under composed odd polynomials; images of a continuous map compose.

    Arrays of end points give arrays: the images of many intervals at once.
    """
    for step in coefficients:
        ends = odd_value(step, np.asarray(low, float)), odd_value(step, np.asarray(high, float))
        bottom, top = np.minimum(*ends), np.maximum(*ends)
        for turning in [q for p in critical_points(step) for q in (p, -p)]:
            value = odd_value(step, np.float64(turning))
            inside = (low < turning) & (turning < high)
            bottom = np.where(inside, np.minimum(bottom, value), bottom)
            top = np.where(inside, np.maximum(top, value), top)
        low, high = bottom, top
    return (low, high) if np.ndim(low) else (float(low), float(high))


def is_increasing(coefficients: tuple[tuple[float, ...], ...], high: float) -> bool:
    """Say whether composed odd polynomials increase on [0, high]: no step turns before the image of `high`."""
    for step in coefficients:
        turning = critical_points(step)
        if step[0] <= 0 or (turning and turning[0] < high):
            return False
        high = float(odd_value(step, np.float64(high)))
    return True


def odd_value(coefficients: tuple[float, ...], s: Array) -> Array:
    """Evaluate a s + b s^3 + c s^5 + ... by Horner in s^2."""
    t = s * s
    value = 0 * s
    for c in reversed(coefficients):
        value = value * t + c
    return value * s


def critical_points(coefficients: tuple[float, ...]) -> list[float]:
    """Return the positive zeros of the derivative, a polynomial in t = s^2, in ascending order."""
    slope = [(2 * i + 1) * c for i, c in enumerate(coefficients)]
    roots = np.roots(slope[::-1])
    real = roots[np.abs(roots.imag) <= 1e-12 * np.abs(roots)].real
    return sorted(float(np.sqrt(t)) for t in real if t > 0)


NEWTON_SCHULZ_CUBIC = newton_schulz(20, 3)
NEWTON_SCHULZ_QUINTIC = newton_schulz(14, 5)

MUON_QUINTIC = with_image(
    name="muon-quintic",
    coefficients=((3.4445, -4.7750, 2.0315),) * 5,
    source="jordan2024muon; epsilon dropped, so that the scale of the input does not matter",
    input_interval=(0.01, 1.0),
)
MUON_JORDAN = replace(
    MUON_QUINTIC, name="muon-jordan", source="jordan2024muon as shipped", normalization=Normalization(1e-7, "add")
)
MUON_TORCH = replace(
    MUON_QUINTIC, name="muon-torch", source="torch.optim.Muon as shipped", normalization=Normalization(1e-7, "clamp")
)
