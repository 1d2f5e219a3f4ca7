"""Task sequences in one linear layer: OGD, GPM, ROGO, federated orthogonal training and IF2Net.

Each keeps what old tasks used by a projection I - M M^T; weights are (out, in), inputs are columns (in, samples),
gradients of the layer are delta x^T, so that a right projection keeps W x for x in the span of M.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np

from ..arrays import Array, array_namespace, check_matrix, check_number, device_of, standard_normal
from ..names import closest
from ..polar.svd import thin_svd
from .subspace import Subspace, count_below_energy


@dataclass(frozen=True)
class OGD:
    """Project a gradient on the complement of the stored gradients of old outputs.

        x = g - V V^T g,   V an orthonormal basis of the stored gradients

    Notes
    -----
    Gradients are flat, (..., n), and the subspace lies in the space of all weights: memory n times the number
    stored. Old outputs stay to first order at the point where they were stored [farajtabar2019orthogonal].
    """

    def learn(self, memory: Subspace, gradients: Array) -> Subspace:
        """Store gradients of old outputs (k, n)."""
        return memory.extend(gradients.mT)

    def project(self, memory: Subspace, gradient: Array) -> Array:
        """Return the part of a gradient (..., n) that the stored ones do not see."""
        return memory.outside(gradient[..., None, :])[..., 0, :]


@dataclass(frozen=True)
class GPM:
    """Project gradients on the complement of the input subspace that old tasks used, to a share of energy.

        dW <- dW (I - M M^T);   after a task: M <- [M, U_r] with U_r the leading left singular vectors of (I - M M^T) A

    Parameters
    ----------
    energy : float
        Share of |A|_F^2 that the subspace must hold after a task; 1 keeps every input direction.
    first : "text" or "code"
        After the first task the code keeps one vector less than the smallest number that reaches the energy.

    Notes
    -----
    energy = 1 gives no forgetting at all in a linear layer; otherwise |dW A|_F <= |dW|_2 sqrt(1 - energy) |A|_F,
    theorem `gpm-forgetting` [saha2021gradient].
    """

    energy: float = 0.95
    first: Literal["text", "code"] = "text"

    def __post_init__(self) -> None:
        check_number(self.energy, "GPM.energy", high=1.0)
        closest(self.first, {"text": 0, "code": 0}, "rule")

    def learn(self, memory: Subspace, activations: Array) -> Subspace:
        """Return the subspace after a task with inputs (in, samples)."""
        if self.first == "code" and not memory.dimension:
            u, s, _ = thin_svd(activations)
            count = count_below_energy(s, self.energy)
            return memory.extend(u[:, :count]) if count else memory
        return memory.extend_by_energy(activations, self.energy)

    def project(self, memory: Subspace, gradient: Array) -> Array:
        """Return dW (I - M M^T)."""
        return memory.outside(gradient, "right")


class Relaxation(NamedTuple):
    """The frozen subspace split in two: what stays frozen, and what a small square matrix may change."""

    frozen: Subspace
    relaxed: Subspace
    cosines: Array  # of all principal angles between the old subspace and the new gradient subspace, descending


@dataclass(frozen=True)
class ROGO:
    """Relax the directions of the frozen subspace that a new task's gradient shares with it.

        M^T U_g = P C Q^T,   relaxed S = M P[:, C > cosine],   W_eff = W (I - S S^T) + W S Q S^T

    Parameters
    ----------
    energy : float
        Share of the gradient's energy that spans U_g (0.97 to 0.99 in the code).
    cosine : float
        A direction is relaxed where the cosine of its principal angle is larger; 0.9 in the code.

    Notes
    -----
    The authors relax one direction at a time; all at once is the same for distinct singular values. Their code
    returns a frozen basis that is not orthonormal; only its span matters, and here it is orthonormal. dW itself stays
    projected by the whole old subspace, so that forgetting on old inputs X is |W S (Q - I) S^T X|, at most
    |W S (Q - I)|_2 |S^T X|_F [yang2023restricted].
    """

    energy: float = 0.98
    cosine: float = 0.9

    def __post_init__(self) -> None:
        check_number(self.energy, "ROGO.energy", high=1.0)
        check_number(self.cosine, "ROGO.cosine", high=1.0)

    def relax(self, memory: Subspace, gradient: Array) -> Relaxation:
        """Split the old subspace by a gradient (out, in) of the new task."""
        new = Subspace.empty(memory.basis.shape[0], like=memory.basis).extend_by_energy(gradient.mT, self.energy)
        xp = array_namespace(gradient)
        if not (memory.dimension and new.dimension):
            nothing = Subspace.empty(memory.basis.shape[0], like=memory.basis)
            return Relaxation(memory, nothing, xp.zeros((0,), dtype=gradient.dtype, device=device_of(gradient)))
        p, cosines, _ = xp.linalg.svd(memory.basis.mT @ new.basis, full_matrices=True)
        count = int(xp.sum(xp.astype(cosines > self.cosine, xp.int64)))
        rotated = memory.basis @ p
        return Relaxation(Subspace(rotated[:, count:]), Subspace(rotated[:, :count]), cosines)

    def effective_weight(self, w: Array, relaxed: Subspace, q: Array) -> Array:
        """Return W (I - S S^T) + W S Q S^T for a square matrix Q of the relaxed dimension."""
        s = relaxed.basis
        return w + (w @ s) @ (q - array_namespace(q).eye(q.shape[-1], dtype=q.dtype, device=device_of(q))) @ s.mT


def federated_basis(
    activations: Sequence[Array],
    sketch: int,
    *,
    rng: np.random.Generator | int,
    memory: Subspace | None = None,
    energy: float = 1.0,
    common: bool = False,
) -> Subspace:
    """Return the input subspace of all clients from the sum of their random sketches A_c Omega_c (in, sketch).

    Parameters
    ----------
    activations : sequence of arrays (in, samples)
        Inputs of each client; they never leave it, only the sums of sketches do.
    sketch : int
        Columns of a sketch.
    memory : Subspace or None
        What earlier tasks hold; the new directions are appended.
    common : bool
        One Omega for all clients, whose inputs are then summed and can cancel (and need equal sample counts);
        otherwise each its own.

    Notes
    -----
    Private Gaussian Omega_c: the sketch is that of the pooled activations, and its span is theirs with probability one
    once `sketch` reaches their rank. Reconstructed from the abstract of [bakman2023federated].
    """
    if not activations:
        raise ValueError("federated_basis needs at least one client.")
    generator = np.random.Generator(np.random.Philox(rng)) if isinstance(rng, int) else rng
    sketches, omega = [], None
    for a in activations:
        check_matrix(a, "federated_basis")
        if omega is None or not common:
            omega = standard_normal((a.shape[-1], sketch), generator, like=a)
        sketches.append(a @ omega)
    start = memory if memory is not None else Subspace.empty(sketches[0].shape[0], like=sketches[0])
    return start.extend_by_energy(sum(sketches), energy)


@dataclass(frozen=True)
class IF2Net:
    """Learn output weights on frozen random features h, in what earlier features leave free.

        P <- P - P h h^T P / (alpha + h^T P h),   dW <- dW P

    Parameters
    ----------
    alpha : float
        Ridge. 0 gives P = I - M M^T exactly, M the span of the features so far; features then drop out where h^T P h
        is at rounding level, n eps |h|^2.

    Notes
    -----
    After features H the projector is (I + H H^T / alpha)^-1. The number of independent features is at most their
    dimension: then P = 0 and nothing more can be learned, claim `if2net-unlimited`. Reconstructed; the re-tuning of
    representations is not [li2023if2net].
    """

    alpha: float = 0.0

    def __post_init__(self) -> None:
        check_number(self.alpha, "IF2Net.alpha", open_high=True)

    def init(self, n: int, *, like: Array) -> Array:
        """Return P = I."""
        return array_namespace(like).eye(n, dtype=like.dtype, device=device_of(like))

    def learn(self, p: Array, features: Array) -> Array:
        """Return the projector after features (n, samples), one after the other."""
        check_matrix(features, "IF2Net (features)")
        xp = array_namespace(p)
        eps = float(xp.finfo(p.dtype).eps)
        for j in range(features.shape[1]):
            h = features[:, j : j + 1]
            ph = p @ h
            if self.alpha == 0:
                ph = p @ ph  # P is idempotent here: the second product removes rounding
            free = (h.mT @ ph)[0, 0]
            known = self.alpha == 0 and bool(free <= h.shape[0] * eps * (h.mT @ h)[0, 0])
            if not known and bool(free > 0):
                p = p - ph @ ph.mT / (self.alpha + ((ph.mT @ ph)[0, 0] if self.alpha == 0 else free))
        return p

    def project(self, p: Array, gradient: Array) -> Array:
        """Return dW P."""
        return gradient @ p


__all__ = ["GPM", "OGD", "ROGO", "IF2Net", "Relaxation", "federated_basis"]
