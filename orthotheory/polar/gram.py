"""The polar factor from the eigendecomposition of the Gram matrix: cheap, and accurate where the condition is small."""

from __future__ import annotations

from ..arrays import Array, array_namespace, check_matrix, magnitude
from .reduction import adjoint
from .svd import partial_isometry
from .zolotarev import newton_schulz_polish


def gram_eigen(g: Array) -> Array:
    """Return the polar factor G (G^H G)^(-1/2) by eigendecomposition, with one Newton-Schulz step.

        G^H G = V diag(w) V^H,    X = G V diag(w)^(-1/2) V^H,    polar(G) = (3 X - X X^H X) / 2

    Parameters
    ----------
    g : array (..., m, n)
        Real or complex, tall, wide or square.

    Returns
    -------
    array (..., m, n)
        The polar factor with orthonormal columns (rows) to rounding, and with an error of order eps kappa^2, where the
        exact one has eps kappa.

    Raises
    ------
    ValueError, TypeError
        As `polar_factor`.

    Notes
    -----
    The Gram matrix squares the condition number kappa: it cannot see singular values below sqrt(eps) s_1. Where its
    smallest eigenvalue is not above sqrt(eps) times the largest (kappa above 8e3 in double, 54 in single precision),
    one Newton-Schulz step would no longer restore orthonormality, and the factor is taken from the SVD, with null
    spaces mapped to zero. Cost: about 9 products of eigendecomposition for the short side and 5 others
    [higham2008functions].
    """
    check_matrix(g, "gram_eigen", complex_allowed=True)
    xp = array_namespace(g)
    size = magnitude(g)
    y = size.normalize(g)
    wide = y.shape[-2] < y.shape[-1]
    x = adjoint(y) if wide else y
    w, v = xp.linalg.eigh(adjoint(x) @ x)
    sure = (w[..., :1] > float(xp.finfo(x.dtype).eps) ** 0.5 * w[..., -1:])[..., None]
    root = xp.sqrt(xp.where(sure, w[..., None, :], xp.ones_like(w[..., None, :])))
    p = newton_schulz_polish(x @ ((v / root) @ adjoint(v)))
    p = adjoint(p) if wide else p
    if not bool(xp.all(sure)):
        p = xp.where(sure, p, partial_isometry(y))
    return p + size.nan()
