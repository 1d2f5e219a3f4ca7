"""What a computation costs, by counting: an array that counts the arithmetic done on it; nothing is timed."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

# Floating-point operations over n^3 of the factorizations of an n x n matrix, vectors included [golub2013matrix].
FACTORIZATIONS: dict[Callable, float] = {
    np.linalg.svd: 22.0,
    np.linalg.svdvals: 8 / 3,
    np.linalg.eigh: 9.0,
    np.linalg.eigvalsh: 4 / 3,
    np.linalg.qr: 8 / 3,
    np.linalg.cholesky: 1 / 3,
    np.linalg.inv: 2.0,
    np.linalg.solve: 8 / 3,
    np.linalg.pinv: 24.0,
    np.linalg.lstsq: 24.0,
}


class CountingArray(np.ndarray):
    """A NumPy array that counts the arithmetic done on it: 2 m n k for a product, one per entry otherwise.

    `operations` sums all of it, `products` those of matrix products alone, `factorizations` the calls of
    `FACTORIZATIONS` and `factored` their operations (counted for the short side and times the aspect).
    """

    operations = 0.0
    products = 0.0
    factorizations = 0
    factored = 0.0

    def __array_ufunc__(self, ufunc, method, *inputs, out=None, **options):
        plain = [np.asarray(x) if isinstance(x, CountingArray) else x for x in inputs]
        if out is not None:
            options["out"] = tuple(np.asarray(x) if isinstance(x, CountingArray) else x for x in out)
        result = getattr(ufunc, method)(*plain, **options)
        if ufunc is np.matmul:
            CountingArray.operations += (flops := 2.0 * np.size(result) * np.shape(plain[0])[-1])
            CountingArray.products += flops
        elif method == "reduce":
            CountingArray.operations += float(np.size(plain[0]))
        else:
            CountingArray.operations += float(np.size(result))
        return result.view(CountingArray) if isinstance(result, np.ndarray) else result

    def __array_function__(self, func, types, args, kwargs):
        if func not in FACTORIZATIONS:
            return _counting(super().__array_function__(func, types, args, kwargs))
        first, *others = (np.asarray(x) if isinstance(x, CountingArray) else x for x in args)
        long, short = max(first.shape[-2:]), min(first.shape[-2:])
        count = first.size // max(long * short, 1)
        flops = FACTORIZATIONS[func] * long * short**2 * count
        CountingArray.factorizations += count
        CountingArray.factored += flops
        CountingArray.operations += flops
        return _counting(func(first, *others, **kwargs))


def _counting(result):
    """Return what NumPy gave with its arrays as counting ones: np.where and its like give plain arrays."""
    if isinstance(result, np.ndarray):
        return result.view(CountingArray)
    if isinstance(result, tuple):
        views = [_counting(x) for x in result]
        return type(result)(*views) if hasattr(result, "_fields") else tuple(views)
    return result


def reset() -> None:
    """Set all counts to zero."""
    CountingArray.operations = CountingArray.products = CountingArray.factored = 0.0
    CountingArray.factorizations = 0


def count_operations(function: Callable, x: np.ndarray) -> float:
    """Return the operations of one call."""
    reset()
    function(x.view(CountingArray))
    return CountingArray.operations
