r"""Zolotarev's best odd rational approximations of the sign, and the polar factor in two such steps.

On [l, 1] with n = 2 t + 1, the complete elliptic integral K = K(k') of the modulus k' = sqrt(1 - l^2) and
S_j = sn(j K / n; k') / cn(j K / n; k'), the best odd rational function of type (n, n - 1) has the

    poles -c_1, -c_3, ... and zeros -c_2, -c_4, ... in s^2, where c_j = l^2 S_j^2 = l^2 / c_(n - j),
    extremes s^2 = (1 + c_j) / (1 + S_j^2), j = 0, ..., n.

S_j sn(i u; l) / i at u = j K / n is evaluated by descending Landen steps of the *small* modulus l, for j < n / 2 only,
where nothing cancels; the other half follows from c_j c_(n - j) = l^2 [nakatsukasa2016computing].
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass, replace

from ..arrays import Array, array_namespace, device_of
from .reduction import adjoint, through_square
from .schedule import Interval

SMALLEST_QR_FREE_POLE = 0.01  # X^H X + c I then has a condition number of at most 101: QDWH's switch at 1 / c = 100
HIGHEST_T = 8  # order 17: two steps from 1e-16 to the last digit of double precision


@dataclass(frozen=True)
class Zolotarev:
    """The rational step s -> gain * s * (1 + sum_j residues_j / (s^2 + poles_j)), made by `zolotarev`.

    Parameters
    ----------
    gain : float
        The slope at infinity.
    residues, poles : tuple of t positive floats
        In units of the squared singular values.
    input_interval : (low, high)
        Where it is the best approximation. As made, its image there is (Z(low), 1), with Z(high) = 1 the maximum, so
        that a chain of steps stays in the unit ball; `centred` has the image (1 - E, 1 + E) instead, E the best error.
    """

    gain: float
    residues: tuple[float, ...]
    poles: tuple[float, ...]
    input_interval: Interval

    @property
    def order(self) -> int:
        """The type is (order, order - 1), and so is the order of convergence."""
        return 2 * len(self.poles) + 1

    def __call__(self, s: Array) -> Array:
        """Map singular values."""
        t = s * s
        return self.gain * s * (1 + sum(a / (t + c) for a, c in zip(self.residues, self.poles, strict=True)))

    def apply(self, x: Array) -> Array:
        """Map the singular values of tall matrices (..., m, k) of spectral norm about one.

        Cost: a QR factorization of a matrix m + k by k for each pole below 0.01, a Gram matrix and one solution of a
        k by k system for each other one.
        """
        total, gram = x, None
        for a, c in zip(self.residues, self.poles, strict=True):
            if c < SMALLEST_QR_FREE_POLE:
                total = total + a * _divide_by_qr(x, c)
            else:
                gram = adjoint(x) @ x if gram is None else gram
                total = total + a * _divide_by_gram(x, gram, c)
        return self.gain * total

    def image(self, low: float, high: float) -> Interval:
        """Return the exact image of [low, high], from its ends and the extremes inside."""
        points = [low, high, *(p for p in self.extremes if low < p < high)]
        values = [float(self(p)) for p in points]
        return min(values), max(values)

    @property
    def extremes(self) -> tuple[float, ...]:
        """The 2 t interior points where the error is extreme, ascending."""
        low, high = self.input_interval
        ratio2 = (low / high) ** 2
        odd = [c / high**2 for c in self.poles]
        pairs = [*((c, c / ratio2) for c in odd), *((ratio2 / c, 1 / c) for c in odd)]  # (c_j, S_j^2)
        return tuple(sorted(high * math.sqrt((1 + c) / (1 + s2)) for c, s2 in pairs))

    @property
    def error(self) -> float:
        """Largest |1 - Z| over the input interval, in the normalization that the step has."""
        low, high = self.image(*self.input_interval)
        return max(abs(1 - low), abs(high - 1))

    def centred(self) -> Zolotarev:
        """Return the multiple whose image is centred on one: the best approximation of 1, of half the error."""
        low, high = self.image(*self.input_interval)
        return replace(self, gain=self.gain * 2 / (low + high))


def landen_quotients(n: int, low: float) -> list[float]:
    """Return S_1, ..., S_((n - 1) / 2) of the module's docstring, each to about ln(4 / low) roundings."""
    complement = math.sqrt((1 - low) * (1 + low))
    moduli = []
    k, k_complement = low, complement
    while k > 1e-17:  # below, sn is the sine, up to k / 4 for the arguments used here
        shrunk = (k / (1 + k_complement)) ** 2
        k_complement = 2 * math.sqrt(k_complement) / (1 + k_complement)
        k = shrunk
        moduli.append(k)
    quotients = []
    quarter = math.pi / (2 * agm(1.0, low))
    for j in range(1, (n + 1) // 2):
        s = math.sinh(math.prod([j * quarter / n, *(1 / (1 + m) for m in moduli)]))
        for m in reversed(moduli):
            s = (1 + m) * s / (1 - m * s * s)
        quotients.append(s)
    return quotients


def agm(a: float, b: float) -> float:
    """Return the arithmetic-geometric mean, to the last digits."""
    while abs(a - b) > 1e-8 * a:  # the next mean differs from the limit by the square of this
        a, b = (a + b) / 2, math.sqrt(a * b)
    return (a + b) / 2


@functools.lru_cache(maxsize=4096)
def zolotarev(t: int, low: float, high: float = 1.0) -> Zolotarev:
    """Build the best odd rational approximation of type (2 t + 1, 2 t) to 1 on [low, high], with Z(high) = 1.

    Parameters
    ----------
    t : int
        Number of poles, at least 1. t = 1 is QDWH's step (theorem `zolotarev-is-qdwh`).
    low, high : float
        Singular values, 0 < low <= high; low / high may be as small as 1e-150. Where they agree to a rounding, the
        function is the limit.

    Raises
    ------
    ValueError
        Where t < 1 or the interval is empty or not positive.

    Notes
    -----
    All coefficients have a relative error of about ln(4 high / low) rounding units, 2e-14 at low / high = 1e-16.
    Memoized. Source [nakatsukasa2016computing]; evaluation by Landen steps as for lattice QCD [kennedy2004fast].

    >>> step = zolotarev(1, 1e-3)
    >>> round(step.gain, 8), step.order
    (0.98431324, 3)
    """
    if t < 1:
        raise ValueError(f"t, the number of poles, must be at least 1; got {t}.")
    if not 0 < low <= high < math.inf:
        raise ValueError(f"The interval needs 0 < low <= high; got ({low:g}, {high:g}).")
    low, high = float(low), float(high)  # a NumPy number would stay in the memory and meet arrays of other kinds
    ratio = low / high
    if not ratio >= 1e-150:
        raise ValueError(f"low / high must be at least 1e-150, so that its square is a number; got {ratio:g}.")
    ratio = min(ratio, 1 - 2.0**-53)
    n = 2 * t + 1
    c = [0.0] * n
    for j, quotient in enumerate(landen_quotients(n, ratio), start=1):
        c[j] = (ratio * quotient) ** 2
        c[n - j] = 1 / quotient**2
    poles, zeros = c[1::2], c[2::2]
    residues = [
        math.prod((z - p) / (q - p) if q != p else z - p for q, z in zip(poles, zeros, strict=True)) for p in poles
    ]
    gain = 1 / (1 + math.fsum(a / (1 + p) for a, p in zip(residues, poles, strict=True)))
    return Zolotarev(
        gain=gain / high,
        residues=tuple(a * high**2 for a in residues),
        poles=tuple(p * high**2 for p in poles),
        input_interval=(low, high),
    )


def zolotarev_error(order: int, low: float) -> float:
    """Return 1 - Z(low), Z(1) = 1, for the best odd rational function of type (order, order - 1) on [low, 1].

    Accurate however small it is, and for steps of orders n_1, n_2, ... as well: their composition is the best
    function of the order n_1 n_2 ... (theorem `zolotarev-composition`). The best error, centred on one, is e / (2 - e)
    of this e.

    >>> zolotarev_error(17 * 17, 1e-16) < 1e-15 < zolotarev_error(15 * 15, 1e-16)
    True
    """
    image, complement = _transformed(order, low)
    return complement**2 / (1 + image)


def zolotarev_image(order: int, low: float) -> float:
    """Return Z(low), the new lower bound of the singular values, accurate however small it is.

    >>> f"{zolotarev_image(3, 1e-16):.3e}"
    '1.170e-05'
    """
    return _transformed(order, low)[0]


def _transformed(order: int, low: float) -> tuple[float, float]:
    """Return l_1 = Z(low) and sqrt(1 - l_1^2): the modulus l_1 has order times the quotient of periods of low.

    With the nomes q = exp(-pi rho), q' = exp(-pi / rho), rho = order K(l) / K(k'), they are theta_2^2 / theta_3^2 at q'
    and at q; the theta series of the smaller nome gives one of them, and Pythagoras the other.
    """
    complement = math.sqrt((1 - low) * (1 + low))
    if complement == 0:
        return low, 0.0
    rho = order * agm(1.0, low) / agm(1.0, complement)
    modulus = _modulus(math.exp(-math.pi * max(rho, 1 / rho)))
    other = math.sqrt((1 - modulus) * (1 + modulus))
    return (modulus, other) if rho < 1 else (other, modulus)


def _modulus(nome: float) -> float:
    """Return theta_2(q)^2 / theta_3(q)^2, by the theta series, for q <= exp(-pi)."""
    two = 1 + sum(nome ** (m * m + m) for m in range(1, 5))
    three = 1 + 2 * sum(nome ** (m * m) for m in range(1, 5))
    return 4 * math.sqrt(nome) * (two / three) ** 2


def steps_to(low: float, target: float, orders: int, limit: int = 64) -> int:
    """Return how many steps of one order bring [low, 1] to within target of one."""
    return next(k for k in range(limit) if zolotarev_error(orders**k, low) <= target)


def two_step_t(low: float, target: float) -> int:
    """Return the smallest t <= 8 with which two steps bring [low, 1] to within target of one (8 where none does)."""
    return next((t for t in range(1, HIGHEST_T) if zolotarev_error((2 * t + 1) ** 2, low) <= target), HIGHEST_T)


@functools.lru_cache(maxsize=1024)
def two_steps(low: float, target: float) -> tuple[Zolotarev, Zolotarev]:
    """Return Zolo-pd's two steps on [low, 1]."""
    t = two_step_t(low, target)
    first = zolotarev(t, low)
    return first, zolotarev(t, zolotarev_image(first.order, low))


def zolo_pd(g: Array, *, low: float | None = None) -> Array:
    """Return the polar factor by two Zolotarev steps.

        X <- gain (X + sum_j a_j X (X^H X + c_j I)^-1)

    Parameters
    ----------
    g : array (..., m, n)
        Real or complex, tall, wide or square.
    low : float, optional
        Lower bound of the smallest over the largest singular value, for all matrices. Measured on the triangular
        factor where it is not given.

    Returns
    -------
    array (..., m, n)
        The polar factor, by the rules of `reduction.through_square`: null spaces are mapped to zero.

    Raises
    ------
    ValueError, TypeError
        As `polar_factor`; for low outside (0, 1].

    Notes
    -----
    t <= 8 poles, as few as two steps allow; poles below 0.01 are inverted by QR, because the Gram matrix would lose
    half the digits there. The t terms are independent. A last Newton-Schulz step removes what t = 8 leaves (5e-16 at
    low = 1e-16) and the roundings of the sum. Cost: 2 t QR or Gram solutions (2 to 4 products each), after
    the QR and the inverse that all algorithms here begin with [nakatsukasa2016computing].
    """

    def solve(x: Array, bound: float) -> Array:
        for step in two_steps(bound, float(array_namespace(x).finfo(x.dtype).eps)):
            x = step.apply(x)
        return newton_schulz_polish(x)

    return through_square(g, "zolo_pd", solve, low=low)


def newton_schulz_polish(x: Array) -> Array:
    """Return (3 X - X X^H X) / 2, which squares the distance to the polar factor where it is small."""
    return 1.5 * x - 0.5 * (x @ (adjoint(x) @ x))


def _divide_by_qr(x: Array, pole: float) -> Array:
    """Return X (X^H X + pole I)^-1 = Q1 Q2^H / sqrt(pole) from [X; sqrt(pole) I] = [Q1; Q2] R."""
    xp = array_namespace(x)
    root = math.sqrt(pole)
    rows, k = x.shape[-2:]
    eye = xp.broadcast_to(root * xp.eye(k, dtype=x.dtype, device=device_of(x)), (*x.shape[:-2], k, k))
    q, _ = xp.linalg.qr(xp.concat([x, eye], axis=-2), mode="reduced")
    return q[..., :rows, :] @ adjoint(q[..., rows:, :]) / root


def _divide_by_gram(x: Array, gram: Array, pole: float) -> Array:
    """Return X (X^H X + pole I)^-1 by solving with the Gram matrix, which is positive definite."""
    xp = array_namespace(x)
    eye = xp.eye(x.shape[-1], dtype=x.dtype, device=device_of(x))
    return adjoint(xp.linalg.solve(gram + pole * eye, adjoint(x)))
