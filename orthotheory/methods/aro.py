"""ARO: a base optimizer in coordinates that an orthogonal matrix turns along with the momentum."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

from ..arrays import Array, Scalar, array_namespace, check_number, device_of
from ..names import closest
from ..polar import thin_svd
from ..polar.qr import householder_qr
from .contract import Card, Method, column_norms, decay, ema, ratio, row_norms, zeros_like


def sinkhorn(x: Array, rounds: int) -> Array:
    """Return x with its rows brought to length sqrt(n), then its columns to sqrt(m), `rounds` times; zeros stay."""
    for _ in range(rounds):
        x = math.sqrt(x.shape[-1]) * ratio(x, row_norms(x))
        x = math.sqrt(x.shape[-2]) * ratio(x, column_norms(x))
    return x


def without_rounding(x: Array) -> Array:
    """Return x with entries at rounding level, 16 max(m, n) eps times the largest, set to zero."""
    xp = array_namespace(x)
    floor = 16 * max(x.shape[-2:]) * float(xp.finfo(x.dtype).eps) * xp.max(xp.abs(x), axis=(-2, -1), keepdims=True)
    return xp.where(xp.abs(x) <= floor, zeros_like(x), x)


def qr_rotation(x: Array) -> tuple[Array, Array]:
    """Return the Q factor (positive diagonal) of square matrices, and where it is unique, (..., 1, 1)."""
    xp = array_namespace(x)
    q = householder_qr(x)
    diagonal = xp.abs(xp.sum(q * x, axis=-2, keepdims=True))
    least, most = (f(diagonal, axis=-1, keepdims=True) for f in (xp.min, xp.max))
    return q, least > 16 * x.shape[-1] * float(xp.finfo(x.dtype).eps) * most


def polar_rotation(x: Array) -> tuple[Array, Array]:
    """Return the polar factor of square matrices, and where it is unique, (..., 1, 1)."""
    u, s, vh = thin_svd(x)
    return u @ vh, (s[..., -1] > 0)[..., None, None]


ROTATIONS = {"qr": qr_rotation, "polar": polar_rotation}


@dataclass(frozen=True)
class ARO(Method):
    """Turn the momentum by R, apply a base map f, turn back; R follows from what f did to the last coordinates.

        M <- momentum M + (1 - momentum) G
        R <- rotation of M f(R^T M)^T        ("qr": its Q factor;  "polar": its polar factor)
        W <- (1 - lr weight_decay) W - lr R f(R^T M)

    Parameters
    ----------
    lr, momentum, weight_decay : float or array (batch)
    base : "sign", "sinkhorn" or "adam"
        f: the sign; alternating row and column normalization; Adam's quotient with beta2 and eps.
    rotation : "qr" or "polar"
        The paper's choice, and the maximizer of <R, M f(R^T M)^T> (ours).
    rounds : int
        Of the Sinkhorn base.

    Notes
    -----
    With f the steepest descent map of a norm, <M, R f(R^T M)> is the dual norm of R^T M, so the step descends. The
    polar rotation never lowers that dual norm, QR can (theorem `aro-polar-rotation`, claim
    `aro-rotation-raises-dual-norm`). Where M f(R^T M)^T is singular no rotation is defined, and R stays; for m > n it
    always is, so there the rule runs on the transpose. Signs of few columns often coincide: small problems turn
    seldom, and entries of R^T M that vanish for that reason count as zero (`without_rounding`), for f would make one
    of their rounding errors. Cost: 3 products with a matrix of the shorter side and a QR or SVD of one.
    """

    card = Card(
        "ARO",
        "gong2026aro",
        "2602.09006",
        "the norm of the base, in turned coordinates",
        "reconstructed",
        "The rule for R and the step were read in a transcription. Ours: the start R = I, a positive diagonal in the "
        "QR, R on the shorter side and kept where it is not defined, the scaling and rounds of the Sinkhorn base, the "
        "handling of Adam's state (it advances once a step, on the new coordinates), lr without a shape factor, the "
        "polar rotation.",
    )

    lr: Scalar = 1e-3
    momentum: Scalar = 0.95
    beta2: Scalar = 0.95
    eps: Scalar = 1e-8
    weight_decay: Scalar = 0.0
    base: Literal["sign", "sinkhorn", "adam"] = "sign"
    rotation: Literal["qr", "polar"] = "qr"
    rounds: int = 5

    class State(NamedTuple):
        """Average gradient, rotation R, second moments in turned coordinates (Adam); steps taken.

        All are those of the transpose where m > n.
        """

        momentum: Array
        rotation: Array
        second: Array
        steps: int

    def __post_init__(self):
        super().__post_init__()
        closest(self.base, {"sign": 0, "sinkhorn": 0, "adam": 0}, "ARO base")
        closest(self.rotation, ROTATIONS, "ARO rotation")
        check_number(self.rounds, "ARO.rounds", low=1)

    def init(self, w):
        xp = array_namespace(w)
        w = w.mT if w.shape[-2] > w.shape[-1] else w
        eye = xp.eye(w.shape[-2], dtype=w.dtype, device=device_of(w))
        return self.State(zeros_like(w), eye + zeros_like(w[..., :1, :1]), zeros_like(w), 0)

    def update(self, w, grad, state):
        if w.shape[-2] > w.shape[-1]:
            turned, state = self.update(w.mT, grad.mT, state)
            return turned.mT, state
        t = state.steps + 1
        m = ema(state.momentum, grad, self.momentum)
        seen, _ = self.direction(state.rotation.mT @ m, state.second, t)
        turned, defined = ROTATIONS[self.rotation](m @ seen.mT)
        r = array_namespace(w).where(defined, turned, state.rotation)
        f, second = self.direction(r.mT @ m, state.second, t)
        return decay(w, self.lr, self.weight_decay) - self.lr * (r @ f), self.State(m, r, second, t)

    def direction(self, x: Array, second: Array, t: int) -> tuple[Array, Array]:
        """Return f(x) in the turned coordinates, and Adam's second moment after it."""
        xp: Any = array_namespace(x)
        x = without_rounding(x)
        if self.base == "sign":
            return xp.sign(x), second
        if self.base == "sinkhorn":
            return sinkhorn(x, self.rounds), second
        second = ema(second, x * x, self.beta2)
        corrected = x / (1 - self.momentum**t)
        return ratio(corrected, xp.sqrt(second / (1 - self.beta2**t)) + self.eps), second
