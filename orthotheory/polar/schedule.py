"""Polynomial schedules: frozen sequences of odd polynomials that drive singular values towards 1.

A schedule is indivisible: coefficients, normalization, provenance and the intervals travel together, because
coefficients are only meant for the interval, the step order and the normalization they were designed for.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from ..arrays import Array, array_namespace, device_of, frobenius, magnitude

Interval = tuple[float, float]


@dataclass(frozen=True)
class Normalization:
    """How a matrix is brought into the unit spectral ball: division by `safety` times its Frobenius norm.

    With `epsilon = 0` (ours) the result does not depend on the scale of the input. The authors' code adds
    epsilon to the norm (`rule="add"`) or clamps the norm from below (`rule="clamp"`): small matrices then
    come out short.
    """

    epsilon: float = 0.0
    rule: str = "add"
    safety: float = 1.0

    def __call__(self, g: Array) -> Array:
        """Return the normalized matrices; zero stays zero."""
        xp = array_namespace(g)
        if self.epsilon == 0.0:
            g = g / magnitude(g).scale
            norm = frobenius(g, keepdims=True)
            return g / (self.safety * xp.where(norm == 0, xp.ones_like(norm), norm))  # NaN stays, and spreads
        norm = frobenius(g, keepdims=True)
        if self.rule == "clamp":
            return g / xp.maximum(self.safety * norm, self.epsilon + xp.zeros_like(norm))
        return g / (self.safety * norm + self.epsilon)


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
    """

    name: str
    coefficients: tuple[tuple[float, ...], ...]
    source: str
    input_interval: Interval
    output_interval: Interval
    normalization: Normalization = Normalization()

    @property
    def steps(self) -> int:
        """Number of polynomials."""
        return len(self.coefficients)

    def singular_value_map(self, s: Array) -> Array:
        """Apply the composed scalar polynomial to singular values of the normalized matrix."""
        for step in self.coefficients:
            s = _odd(step, s)
        return s

    def apply(self, g: Array) -> Array:
        """Normalize each matrix and run the steps on the shorter side.

        Cost for m <= n and degree 5: 4 m^2 n + 2 m^3 operations a step, cubic in the side: 6 n^3 for a square.
        """
        xp = array_namespace(g)
        wide = g.shape[-2] <= g.shape[-1]
        x = self.normalization(g if wide else g.mT)
        eye = xp.eye(x.shape[-2], dtype=x.dtype, device=device_of(x))
        for first, *rest in self.coefficients:
            if not rest:
                x = first * x
                continue
            # A @ A.T on one buffer lets NumPy use the symmetric product.
            gram = x @ (xp.conj(x).mT if xp.isdtype(x.dtype, "complex floating") else x.mT)
            polynomial = rest[-1] * gram
            for c in reversed(rest[:-1]):
                polynomial = (polynomial + c * eye) @ gram
            x = first * x + polynomial @ x
        return x if wide else x.mT

    def image(self, low: float, high: float) -> Interval:
        """Return the exact image of [low, high] under the composed map, from end points and critical points."""
        for step in self.coefficients:
            points = [low, high, *(p for p in critical_points(step) if low < p < high)]
            values = [float(_odd(step, np.float64(p))) for p in points]
            low, high = min(values), max(values)
        return low, high


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


def _odd(coefficients: tuple[float, ...], s: Array) -> Array:
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
