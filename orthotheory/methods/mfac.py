"""M-FAC: the inverse of an empirical Fisher matrix over a window of gradients, without the matrix."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from ..arrays import Array, Scalar, array_namespace, check_number, device_of
from ..polar import thin_svd
from .contract import Card, Method, ema, zeros_like


def window_solve(rows: Array, g: Array, damping: float) -> Array:
    """Return (damping I + R^T R / m)^-1 g for rows R (..., m, p) and g (..., p, 1).

    From R = U S V^T:  V (damping + S^2 / m)^-1 V^T g, and 1 / damping times what V does not see of g. Cost: a thin SVD.
    """
    _, s, vh = thin_svd(rows)
    seen = vh @ g
    solved = vh.mT @ (seen / (damping + s * s / rows.shape[-2])[..., None])
    return solved if vh.shape[-2] == vh.shape[-1] else solved + (g - vh.mT @ seen) / damping


def gram_solve(rows: Array, gram: Array, g: Array, damping: float) -> Array:
    """Return the same as `window_solve` from the kept Gram matrix K = R R^T (..., m, m).

    (damping I + R^T R / m)^-1 g = (g - R^T (m damping + K)^-1 R g) / damping.

    The form of cost O(m p + m^3) that the authors' recursion has too. It cancels |R|^2 / (m damping) digits.
    """
    xp = array_namespace(rows)
    m = rows.shape[-2]
    damped = gram + m * damping * xp.eye(m, dtype=rows.dtype, device=device_of(rows))
    return (g - rows.mT @ xp.linalg.solve(damped, rows @ g)) / damping


def replace_oldest(rows: Array, gram: Array, g: Array) -> tuple[Array, Array]:
    """Return the window with g (..., p, 1) in place of its oldest row, the first, and its Gram matrix. Cost: 2 m p."""
    xp = array_namespace(rows)
    rows = xp.concat([rows[..., 1:, :], g.mT], axis=-2)
    new = rows @ g
    gram = xp.concat([gram[..., 1:, 1:], new[..., :-1, :].mT], axis=-2)
    return rows, xp.concat([gram, new], axis=-1)


@dataclass(frozen=True)
class MFAC(Method):
    """Natural gradient of the last m gradients.

        G <- G + l2 W;   the oldest of m gradients is replaced by G (zeros at the start)
        U = (damping I + 1/m sum_i g_i g_i^T)^-1 G,   V <- momentum V + (1 - momentum) U
        W <- W - lr V

    Parameters
    ----------
    window, damping : int, float
        m, 1024 in the authors' code; the multiple of the identity.

    Notes
    -----
    1/m stands fixed while the window fills, so early steps are longer by up to m / t within the span of the gradients
    seen, and by 1 / damping outside (claim `mfac-warm-up`). `l2` decay enters the gradient. The
    stream of gradients is all it needs. Cost: a thin SVD of m x mn; `gram_solve` needs 6 m mn and a
    solve of m x m a step (theorems `mfac-window` and `mfac-cost`).
    """

    card = Card(
        "M-FAC",
        "frantar2021mfac",
        "2107.03356",
        "empirical Fisher metric over a window",
        "exact",
        "The rule of the authors' code; the solve is by an SVD, not their recursion, and equal to a dense one.",
    )

    lr: Scalar = 1e-3
    momentum: Scalar = 0.0
    l2: float = 0.0
    window: int = 1024
    damping: float = 1e-5

    class State(NamedTuple):
        """The window (..., m, mn), averaged direction, steps taken."""

        window: Array
        momentum: Array
        steps: int

    def __post_init__(self):
        super().__post_init__()
        check_number(self.window, "MFAC.window", low=1)
        check_number(self.damping, "MFAC.damping", open_low=True, open_high=True)
        check_number(self.l2, "MFAC.l2", open_high=True)

    def init(self, w):
        xp = array_namespace(w)
        row = zeros_like(xp.reshape(w, (*w.shape[:-2], 1, w.shape[-2] * w.shape[-1])))
        return self.State(xp.concat([row] * self.window, axis=-2), zeros_like(w), 0)

    def update(self, w, grad, state):
        xp = array_namespace(w)
        g = xp.reshape(grad + self.l2 * w, (*w.shape[:-2], w.shape[-2] * w.shape[-1], 1))
        window = xp.concat([state.window[..., 1:, :], g.mT], axis=-2)
        u = xp.reshape(window_solve(window, g, self.damping), w.shape)
        v = ema(state.momentum, u, self.momentum)
        return w - self.lr * v, self.State(window, v, state.steps + 1)
