"""The algorithms that return the polar factor itself, by name."""

from __future__ import annotations

import functools
from collections.abc import Callable

from ..arrays import Array
from .gram import gram_eigen
from .jacobi import jacobi
from .newton import newton
from .qdwh import qdwh
from .svd import exact
from .zolotarev import zolo_pd

# Each maps (..., m, n) to the polar factors, null spaces to zero. QR is not here: it returns another orthonormal basis.
ALGORITHMS: dict[str, Callable[[Array], Array]] = {
    "exact": exact,
    "newton": newton,
    "newton-higham": functools.partial(newton, scaling="higham"),
    "newton-optimal": functools.partial(newton, scaling="optimal"),
    "qdwh": qdwh,
    "zolo-pd": zolo_pd,
    "jacobi": jacobi,
    "jacobi-random": functools.partial(jacobi, pivots="random"),
    "gram-eigen": gram_eigen,
}
