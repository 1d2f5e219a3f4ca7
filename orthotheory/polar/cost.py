"""What the operations of a plan cost, in units of one n x n x n product: by operation counts, or measured here.

n is the shorter side of the matrix, r = longer / shorter side. A product with the long side costs r. Flops are not
time: a Cholesky inverse is half a product by count and one and a half to two by the clock, so a planner that should
be right on a machine needs `measured`.
"""

from __future__ import annotations

import contextlib
import functools
import math
import os
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from ..storage import DamagedFile, cache_folder, digest, machine, read_json, write_json
from .exchange import half_degree

SIDES = (64, 128, 256, 512, 1024)  # where machines are measured; the nearest one speaks for a matrix


@dataclass(frozen=True)
class CostModel:
    """Costs relative to an n x n x n product.

    Parameters
    ----------
    symmetric : float
        A product of which the result is known to be symmetric: X X^T with r = 1, or two commuting symmetric factors.
    cholesky_inverse, inverse : float
        (R + c I)^{-1} by Cholesky; X^{-1} by LU.
    factorization : float
        An orthogonal factorization of an n x n matrix with its factor formed (QR), which a Newton step on a
        matrix that is not square needs once, times r.
    svd : float
        A thin singular value decomposition of an n x n matrix with both factors, times r.
    double : float
        A float64 product in units of a float32 one.
    seconds : float or None
        Time of one n x n x n product, None for a pure count.
    source : str
        "operation counts", or what was measured where.
    """

    symmetric: float = 0.5
    cholesky_inverse: float = 0.5
    inverse: float = 1.0
    factorization: float = 4 / 3
    svd: float = 11.0
    double: float = 2.0
    seconds: float | None = None
    source: str = "operation counts, symmetric products at half"

    def inner(self, kind: int) -> float:
        """Return the cost of one step on the n x n side, h(R) from R; of a Newton step (kind 0) the whole step.

        `kind` is the degree of a polynomial, or minus the number of poles of a rational step.
        """
        if kind == 0:
            return self.inverse
        return -kind * self.cholesky_inverse if kind < 0 else self.symmetric * inner_products(kind)

    def composed(self, inner: float, steps: int, blocks: int, newton: int, aspect: float) -> float:
        """Return the cost of `newton` Newton steps, then `steps` others in blocks.

        B r (1 + s) + sum of the inner costs + 3 s (K - B): a block needs a Gram matrix and one product with X, and
        between two steps of a block the composed factor takes one product and the Gram matrix two.
        """
        reduction = 2 * aspect * self.factorization if newton and aspect > 1 else 0.0  # QR before, Q after
        if reduction:
            aspect = 1.0
        return blocks * aspect * (1 + self.symmetric) + inner + 3 * self.symmetric * (steps - blocks) + reduction


PLAIN = CostModel(symmetric=1.0, source="operation counts, every product in full")
COUNTS = CostModel()


def inner_products(degree: int) -> int:
    """Return P, the products of n x n matrices that form h(R), deg h = q, for a polynomial step of degree 2q + 1.

    min over s of (s - 1) + (ceil(q / s) - 1) by [paterson1973number]; 3 for q = 8 by [sastre2018efficient]. The
    product R = X X^T itself is not counted, nor that of h(R) with X.

    >>> [inner_products(d) for d in (3, 5, 7, 9, 13, 17, 33)]
    [0, 1, 2, 2, 3, 3, 6]
    """
    q = half_degree(degree)
    return 3 if q == 8 else min(s - 1 + -(-q // s) - 1 for s in range(1, q + 1))


def measured(shape: tuple[int, int], dtype: str = "float64", *, folder: Path | None = None) -> CostModel:
    """Return the costs on this machine for matrices of about this size, measured once and cached.

    Parameters
    ----------
    shape : (m, n)
        The shorter side picks the nearest of `SIDES`.
    dtype : "float32" or "float64"
    folder : Path, optional
        Where the measurements are kept; by default ORTHOTHEORY_CACHE, or orthotheory below the user's cache folder.

    Notes
    -----
    The fastest of seven rounds in rotation, the least disturbed one, after one that is not counted: a tenth of a second
    at side 256, two seconds at 1024. A change of machine, thread count or library version means a new measurement; a
    folder that cannot be written means one a process.
    """
    if dtype not in ("float32", "float64"):
        raise ValueError(f"Costs are measured for float32 and float64; got {dtype}. Pass a CostModel, e.g. COUNTS.")
    side = min(SIDES, key=lambda n: abs(math.log(n / min(shape))))
    return _measured(side, dtype, folder or cache_folder())


@functools.lru_cache(maxsize=64)
def _measured(side: int, dtype: str, folder: Path) -> CostModel:
    threads = os.environ.get("OPENBLAS_NUM_THREADS") or os.environ.get("OMP_NUM_THREADS") or "all"
    here = {**machine(), "threads": threads, "side": side, "dtype": dtype}
    path = folder / f"cost-{digest(here)}.json"
    if path.is_file():
        try:
            return CostModel(**read_json(path)["costs"])
        except (DamagedFile, KeyError, TypeError):
            path.unlink(missing_ok=True)
    model = measure(side, dtype)
    with contextlib.suppress(OSError):  # an unwritable cache costs time, never a result
        folder.mkdir(parents=True, exist_ok=True)
        write_json(path, {"machine": here, "costs": asdict(model)})
    return model


def measure(side: int, dtype: str, *, rounds: int = 7) -> CostModel:
    """Time the operations of a plan on n x n matrices, in rotation; the costs are ratios of the fastest."""
    from scipy.linalg import lapack

    from .symmetric import Blas

    rng = np.random.Generator(np.random.Philox(0))
    twice = np.asfortranarray(rng.standard_normal((side, side)))
    x = twice.astype(dtype)
    blas = Blas()
    r, r_twice = blas.gram(x), blas.gram(twice)
    shift = 0.1 * side
    getrf, getri, geqrf, gesdd = lapack.get_lapack_funcs(("getrf", "getri", "geqrf", "gesdd"), (x,))
    orgqr = lapack.get_lapack_funcs("orgqr", (x,))

    def by_lu() -> None:
        lu, pivots, _ = getrf(x)
        getri(lu, pivots)

    def by_qr() -> None:
        qr, tau, *_ = geqrf(x)
        orgqr(qr, tau)

    operations: dict[str, Callable[[], object]] = {
        "product": lambda: blas.apply(r, x),
        "symmetric": lambda: blas.free(blas.gram(x)),
        "cholesky_inverse": lambda: blas.free(blas.inverse(r, shift)),
        "inverse": by_lu,
        "factorization": by_qr,
        "svd": lambda: gesdd(x, full_matrices=0),
        "double": lambda: blas.apply(r_twice, twice),
    }
    samples: dict[str, list[float]] = {name: [] for name in operations}
    for _ in range(rounds + 1):
        for name, operation in operations.items():
            if name == "svd" and len(samples[name]) > 2:  # dear, and never close to a decision
                continue
            began = time.perf_counter()
            operation()
            samples[name].append(time.perf_counter() - began)
    fastest = {name: min(values[1:]) for name, values in samples.items()}
    unit = fastest.pop("product")
    return CostModel(
        **{name: t / unit for name, t in fastest.items()}, seconds=unit, source=f"measured here, n = {side}, {dtype}"
    )
