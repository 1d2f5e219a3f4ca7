"""SOAP: Adam in the eigenbasis of Shampoo's Gram matrices."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from .. import norms
from ..arrays import Array, Scalar, array_namespace, check_number, magnitude
from ..polar import thin_svd
from ..polar.qr import householder_qr
from .contract import Card, Method, decay, ema, zeros_like
from .moments import Moments, bias_rate


def fixed_signs(u: Array) -> Array:
    """Return the columns with signs that make their largest entries positive."""
    xp = array_namespace(u)
    high, low = xp.max(u, axis=-2, keepdims=True), xp.min(u, axis=-2, keepdims=True)
    return xp.where(high >= -low, u, -u)


def complete_basis(u: Array) -> Array:
    """Return an orthogonal matrix whose first columns are those of u, which are orthonormal.

    The rest comes from a QR factorization of u: deterministic, and as smooth in u as an arbitrary choice can be.
    """
    xp = array_namespace(u)
    size = magnitude(u)  # a matrix that is not finite must not stop its neighbors
    q = xp.linalg.qr(size.normalize(u), mode="complete")[0]
    return xp.concat([u, q[..., :, u.shape[-1] :]], axis=-1) + size.nan()


def refreshed(basis: Array, gram: Array) -> tuple[Array, Array]:
    """Return the basis after a power step and a QR, and the order that sorted its columns by their Rayleigh quotients.

    The order is a permutation matrix, by which the coordinates of the second moment move along.
    """
    xp = array_namespace(basis)
    quotients = xp.sum(basis * (gram @ basis), axis=-2)
    order = xp.argsort(quotients, axis=-1, descending=True)
    places = xp.arange(order.shape[-1], dtype=order.dtype, device=order.device)
    permutation = xp.astype(places[:, None] == order[..., None, :], basis.dtype)
    return householder_qr(gram @ (basis @ permutation)), permutation


@dataclass(frozen=True)
class SOAP(Method):
    """Adam on the gradient seen in the eigenbases of averaged Gram matrices.

        first call:  L, R <- (1 - beta2) (G G^T, G^T G),  Q = their eigenvectors, descending; no step
        G' = Q_L^T G Q_R,   M <- beta1 M + (1 - beta1) G,   V <- beta2 V + (1 - beta2) G' * G'
        W <- W - lr sqrt(1 - beta2^t) / (1 - beta1^t) Q_L [Q_L^T M Q_R / (sqrt(V) + eps)] Q_R^T
        W <- (1 - lr weight_decay) W
        L, R averaged with beta2;  every `period` steps  Q <- qr(L Q), after sorting by Rayleigh quotients

    Notes
    -----
    V is permuted with the columns of Q but not rotated. Turning the gradients from both sides turns the steps along;
    the signs of eigenvectors cancel. On the null space of the first Gram matrix eigenvectors are arbitrary and change
    the trajectory: ours come from a QR factorization, and the basis in the state may be replaced. Cost: 6 products of
    the size of W with a side, and two QRs every `period` steps.
    """

    card = Card(
        "SOAP",
        "vyas2024soap",
        "2409.11321",
        "adaptive diagonal in Shampoo's eigenbasis",
        "exact",
        "As in the authors' code for one matrix, with shampoo_beta = beta2; signs and null spaces of the first "
        "eigenbasis, and a positive diagonal in the QR, are ours.",
    )
    norm = norms.MaxEntry()

    lr: Scalar = 3e-3
    beta1: Scalar = 0.95
    beta2: Scalar = 0.95
    eps: Scalar = 1e-8
    weight_decay: Scalar = 0.01
    period: int = 10

    class State(NamedTuple):
        """Moments (the second in the basis), Gram matrices and bases of both sides, steps after the first call."""

        moments: Moments
        left: Array
        right: Array
        left_basis: Array
        right_basis: Array
        steps: int

    def __post_init__(self):
        super().__post_init__()
        check_number(self.period, "SOAP.period", low=1)

    def init(self, w):
        left, right = zeros_like(w @ w.mT), zeros_like(w.mT @ w)
        return self.State(Moments.zeros(w), left, right, left, right, -1)

    def update(self, w, grad, state):
        left, right = (ema(a, b, self.beta2) for a, b in ((state.left, grad @ grad.mT), (state.right, grad.mT @ grad)))
        if state.steps < 0:
            u, _, vh = thin_svd(grad)
            bases = complete_basis(fixed_signs(u)), complete_basis(fixed_signs(vh.mT))
            return w, self.State(state.moments, left, right, *bases, 0)
        t, ql, qr = state.steps + 1, state.left_basis, state.right_basis
        first = ema(state.moments.first, grad, self.beta1)
        second = ema(state.moments.second, (ql.mT @ grad @ qr) ** 2, self.beta2)
        direction = ql @ Moments(ql.mT @ first @ qr, second).quotient(self.eps) @ qr.mT
        w = decay(w - self.lr * bias_rate(t, self.beta1, self.beta2) * direction, self.lr, self.weight_decay)
        if t % self.period == 0:
            ql, rows = refreshed(ql, left)
            qr, columns = refreshed(qr, right)
            second = rows.mT @ second @ columns
        return w, self.State(Moments(first, second), left, right, ql, qr, t)
