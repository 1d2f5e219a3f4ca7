"""Choosing a plan for this matrix, from the Gram matrix that the plan needs anyway.

For an LMO efficiency a few Lanczos steps give the spectral density, against which every step of a small menu is held.
For an accuracy the interval is given or its lower end estimated, and a shortest path over intervals is the plan. Both
weigh steps by what they cost on this machine (`cost.measured`) and remember their designs.
"""

from __future__ import annotations

import functools
import heapq
import itertools
import math
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from ..arrays import Array, array_namespace, check_matrix, check_number, dtype_name, magnitude
from . import engine
from .cost import CostModel, inner_products, measured
from .evaluate import Step
from .minimax import optimal_step
from .newton import NewtonStep
from .rational import Rational, rational
from .schedule import Interval, odd_value
from .spectrum import STEPS, Quadrature, condition, condition_of_square, density, lanczos
from .symmetric import Blas, NotPositiveDefinite, Operations, Reference, Symmetric, fits_blas, laid_out, moderate
from .zolotarev import Zolotarev, zolotarev

Kind = tuple[int, int]  # number of poles, degree of the polynomial part
NEWTON: Kind = (0, 0)
# Sequences that an efficiency may choose from, and the lower ends they are designed for.
SINGLE: tuple[Kind, ...] = ((0, 3), (0, 5), (0, 9), (1, 3), (1, 5), (2, 3), (2, 5), (3, 3), (3, 5))
SEQUENCES: tuple[tuple[Kind, ...], ...] = (
    *((kind,) for kind in SINGLE),
    *((first, second) for first in SINGLE[1:] for second in ((0, 3), (0, 5), (0, 9), (1, 3)) if first <= (2, 3)),
    ((1, 3), (1, 3), (0, 3)), ((2, 3), (1, 3), (0, 3)), ((2, 3), (2, 3), (0, 3)),
)  # fmt: skip
LOWER_ENDS = tuple(float(x) for x in np.geomspace(0.7, 1e-3, 20))
GRID = np.linspace(0.0, 1.05, 421)
POLYNOMIAL_MARGIN = 1.02  # polynomials rise steeply beyond their interval, rational steps do not
LONGEST = 9
NOISE = 0.15  # of the wanted loss: the density is a sample
# |F X| after one rational step in precision u has a relative error of about ROUNDING u / smallest pole (measured).
ROUNDING = {1: 0.6, 2: 0.2, 3: 0.1}


class Choice(NamedTuple):
    """Steps with their blocks, the divisor of the matrix, and what is predicted."""

    steps: tuple[Step, ...]
    blocks: tuple[int, ...]
    scale: float
    predicted: float  # efficiency or error
    cost: float
    gram_dtype: str | None = None
    kinds: tuple[Kind, ...] = ()


@dataclass(frozen=True)
class Adaptive:
    """The cheapest plan for one matrix, chosen when the matrix is there.

    Parameters
    ----------
    efficiency : float
        Wanted <G, X> / (|X|_2 |G|_*), in (0, 1); predicted from a sample of the spectrum, so reached on average and
        within a few tenths of the allowed loss. Give this or `accuracy`.
    accuracy : float
        Wanted |X - polar(G)|_2, in (0, 1), down to what rounding the input does to its polar factor.
    interval : (low, high), optional
        For an accuracy: bounds of the singular values in any unit; only low / high counts. Estimated where it is not
        given, by a factorization.
    costs : CostModel, optional
        Weights of the operations; measured on this machine, once, where not given.

    Raises
    ------
    ValueError
        Unless exactly one of efficiency and accuracy is given, in (0, 1).

    Notes
    -----
    Choosing costs eight matrix-vector products for an efficiency and, without an interval, a Cholesky factorization
    for an accuracy (LU where the Gram matrix cannot show the condition). Members of a batch are served one by one.
    Matrices whose condition number is beyond the precision, and those outside the interval that was given by so much
    that a factorization fails, get the exact factor.
    """

    efficiency: float | None = None
    accuracy: float | None = None
    interval: Interval | None = None
    costs: CostModel | None = None

    def __post_init__(self):
        if (self.efficiency is None) == (self.accuracy is None):
            raise ValueError("Adaptive needs efficiency= or accuracy=, one of the two.")
        name = "efficiency" if self.accuracy is None else "accuracy"
        check_number(getattr(self, name), name, open_low=True, high=1.0, open_high=True)
        if self.interval is not None and not 0 < self.interval[0] < self.interval[1] < math.inf:
            raise ValueError(f"interval needs 0 < low < high < inf; got {self.interval}.")

    def apply(self, g: Array) -> Array:
        """Orthogonalize each matrix; zero stays zero, a non-finite matrix gives NaN for itself alone."""
        check_matrix(g, "Adaptive", complex_allowed=True)
        if g.ndim == 2:
            return self._apply_one(g)
        xp = array_namespace(g)
        members = xp.reshape(g, (math.prod(g.shape[:-2]), *g.shape[-2:]))
        done = [self._apply_one(members[i, ...]) for i in range(members.shape[0])]
        return xp.reshape(xp.stack(done), g.shape) if done else xp.zeros_like(g)

    def _apply_one(self, g: Array) -> Array:
        wide = g.shape[0] <= g.shape[1]
        x = g if wide else g.mT
        ops: Operations = Blas.of_thread() if fits_blas(g) else Reference()
        if isinstance(ops, Blas):
            x = laid_out(x)
        else:  # here an overflow would be reported, so it is prevented
            size = magnitude(g)
            if not (bool(size.finite[0, 0]) and 1 / 256 <= float(size.scale[0, 0]) <= 256):
                return self._rescaled(g)
        single = dtype_name(x) in ("float32", "complex64")
        precision = np.dtype("float32" if single else "float64")
        costs = self.costs or measured(x.shape, precision.name)
        aspect = round(x.shape[1] / x.shape[0], 3)
        choice, double = None, None
        if self.accuracy is not None:
            double = {"float32": "float64", "complex64": "complex128"}.get(dtype_name(x))
            if self.interval is not None:
                low = _bucket(self.interval[0] / self.interval[1] / POLYNOMIAL_MARGIN)
                choice = by_interval(low, self.accuracy, single, costs, aspect)
                double = double if choice and choice.gram_dtype else None
        gram = ops.gram(ops.cast(x, double) if double else x)
        if not moderate(float(ops.trace(gram)), precision):
            return self._rescaled(g)
        factored = None
        if self.efficiency is not None:
            choice = by_density(density(ops, gram), self.efficiency, costs, aspect)
        else:
            top = POLYNOMIAL_MARGIN * float(lanczos(ops, gram, 2 * STEPS).top)
            if self.interval is None:
                kappa = condition(ops, gram, top)
                if math.isinf(kappa) and isinstance(ops, Blas) and not single:
                    factored = ops.qr(x) if aspect > 1 else None
                    kappa = condition_of_square(factored[1] if factored else x, top)
                if 2 * kappa * max(x.shape) * float(np.finfo(precision).eps) < 1:
                    choice = by_interval(_bucket(0.5 / kappa), self.accuracy, single, costs, aspect)
            choice = choice and choice._replace(scale=top)
        if choice is not None:
            if double and not choice.gram_dtype:
                ops.free(gram)
                gram, double = ops.gram(x), None
            try:
                y = _run(ops, x, gram, choice, double, factored)
                if bool(array_namespace(y).all(array_namespace(y).isfinite(y))):
                    return y if wide else y.mT
            except (NotPositiveDefinite, np.linalg.LinAlgError):  # the interval that was given does not hold
                pass
        from . import polar_factor

        return polar_factor(g)

    def _rescaled(self, g: Array) -> Array:
        """Start again from a matrix with entries of moderate size; zero and non-finite matrices end here."""
        xp = array_namespace(g)
        size = magnitude(g)
        y = size.normalize(g)
        if not bool(xp.all(size.finite)) or not bool(xp.any(y != 0)):
            return y + size.nan()
        return self._apply_one(y)


def _run(ops: Operations, x: Array, gram: Symmetric, choice: Choice, double: str | None, factored: Any) -> Array:
    if not isinstance(choice.steps[0], NewtonStep):
        return engine.run(ops, x, gram, choice.steps, choice.blocks, choice.scale, double)
    ops.free(gram)
    if x.shape[0] == x.shape[1]:
        return engine.run(ops, x, None, choice.steps, choice.blocks, choice.scale)
    back, square = factored or ops.qr(x)
    return back(engine.run(ops, square, None, choice.steps, choice.blocks, choice.scale))


def _value(step: Step, s):
    return odd_value(step, s) if isinstance(step, tuple) else step(s)


def design(kind: Kind, low: float, high: float) -> tuple[Step, Interval]:
    """Return the best step of a kind on [low, high], centered on 1, and its image."""
    poles, degree = kind
    step: Step
    if kind == NEWTON:
        step = NewtonStep(1 / math.sqrt(low * high))
    elif not poles:
        best = optimal_step(degree, low, high)
        return best.coefficients, (1 - best.error, 1 + best.error)
    else:
        try:
            step = rational(poles, low, high, degree=degree)
        except ValueError:  # too narrow to level the error in double precision
            step = zolotarev(poles, low, high).centred()
    return step, step.image(low, high)


def price(kind: Kind, costs: CostModel) -> float:
    """Return what a step costs on the short side."""
    poles, degree = kind
    return (
        costs.inverse if kind == NEWTON else poles * costs.cholesky_inverse + costs.symmetric * inner_products(degree)
    )


class Table(NamedTuple):
    """One sequence on several intervals: the composed function on `GRID`, divided by its maximum."""

    steps: tuple[tuple[Step, ...], ...]
    values: np.ndarray  # (intervals, grid)


@functools.cache
def table(kinds: tuple[Kind, ...]) -> Table:
    """Design a sequence for every lower end."""
    rows, steps = [], []
    for low in LOWER_ENDS:
        ends, chain, values = (low, 1.0), [], GRID
        for kind in kinds:
            step, ends = design(kind, *ends)
            chain.append(step)
            values = _value(step, values)
        steps.append(tuple(chain))
        rows.append(values / np.abs(values[GRID <= 1.0]).max())
    return Table(tuple(steps), np.stack(rows))


def by_density(quadrature: Quadrature, efficiency: float, costs: CostModel, aspect: float) -> Choice:
    """Return the cheapest sequence with the predicted efficiency; where none has it, the best one.

    sum s p(s) / (max p sum s) over the quantiles of the density, for every design in the menu.
    """
    wanted = efficiency + NOISE * (1 - efficiency)
    s = quadrature.quantiles()
    share = s / s.sum()
    best: Choice | None = None
    for cost, kinds, blocks in _menu(costs, aspect):
        rises = kinds[-1][0] == 0
        scale = float(quadrature.top) * (POLYNOMIAL_MARGIN if rises else 1.0)
        steps, values = table(kinds)
        reached = values[:, np.rint(s * ((len(GRID) - 1) / (GRID[-1] * scale))).astype(int)] @ share
        i = int(np.argmax(reached))
        if best is None or reached[i] > best.predicted:
            best = Choice(steps[i], blocks, scale, float(reached[i]), cost, None, kinds)
        if reached[i] >= wanted:
            break
    assert best is not None
    return best


@functools.lru_cache(maxsize=64)
def _menu(costs: CostModel, aspect: float) -> list[tuple[float, tuple[Kind, ...], tuple[int, ...]]]:
    """Return (cost, sequence, blocks), cheapest first; only two polynomials may share a Gram matrix."""
    rows = []
    for kinds in SEQUENCES:
        inner = sum(price(kind, costs) for kind in kinds)
        sizes = [(1,) * len(kinds)]
        if len(kinds) == 2 and not any(poles for poles, _ in kinds):
            sizes.append((2,))
        rows += [(costs.composed(inner, len(kinds), len(b), 0, aspect), kinds, b) for b in sizes]
    return sorted(rows)


def _bucket(low: float) -> float:
    """Round a lower bound down to a quarter of an octave, so that designs are found again."""
    return 2.0 ** (math.floor(4 * math.log2(min(low, 0.9))) / 4)


@functools.lru_cache(maxsize=1024)
def by_interval(low: float, accuracy: float, single: bool, costs: CostModel, aspect: float) -> Choice | None:
    """Return the cheapest steps from [low, 1] to within `accuracy` of one, None where nothing arrives.

    For float32 either every step re-forms its Gram matrix, the first perhaps in float64, or all of them are composed
    on one Gram matrix in float64, which wins where the matrix is wide.
    """
    ways = [
        _shortest(low, accuracy, single, costs, aspect, composed)
        for composed in ((False, True) if single else (False,))
    ]
    return min((way for way in ways if way is not None), key=lambda way: way.cost, default=None)


def _shortest(
    low: float, accuracy: float, single: bool, costs: CostModel, aspect: float, composed: bool
) -> Choice | None:
    """Find the cheapest steps by a shortest path over intervals.

    A rational step is allowed where its rounding error, ROUNDING u / (smallest pole), stays below half the accuracy.
    Where in float64 rounding the input alone may spoil the accuracy, by u / low, a step on [low, high] may make five
    times the error u high / low: orthogonality and the backward error are still reached. Newton steps, in float64 only,
    come first.
    """
    unit = 2.0**-24 if single else 2.0**-53
    within_reach = single or accuracy > unit / low
    setup = 2 * aspect * costs.factorization if aspect > 1 else 0.0
    kinds = [*SINGLE] if single else [NEWTON, *SINGLE]
    serial = itertools.count()
    queue: list[tuple] = [(0.0, next(serial), low, 1.0, Choice((), (), 1.0, 0.0, 0.0))]
    settled: list[tuple[float, bool]] = []
    while queue:
        cost, _, lo, hi, path = heapq.heappop(queue)
        error = max(1 - lo, hi - 1)
        if path.steps and error <= 0.9 * accuracy:
            blocks = (len(path.steps),) if composed else (1,) * len(path.steps)
            return path._replace(predicted=error, cost=cost, blocks=blocks)
        newton = NEWTON in path.kinds
        if len(path.steps) >= LONGEST or any(r >= lo / hi and n == newton for r, n in settled):
            continue
        settled.append((lo / hi, newton))
        for kind in kinds:
            if set(path.kinds) - {NEWTON} if kind == NEWTON else lo / hi < 1e-4:
                continue
            step, (after, top) = design(kind, lo, hi)
            first = single and not path.steps and kind[0] > 0
            for gram_dtype in ("float64",) if composed else (None, "float64") if first else (None,):
                if isinstance(step, Rational | Zolotarev):
                    u = 2.0**-53 if gram_dtype else unit
                    allowed = accuracy / 2 if within_reach else 5 * unit * hi / lo
                    if ROUNDING[kind[0]] * u * hi**2 / min(step.poles) > allowed:
                        continue
                factor = costs.double if gram_dtype else 1.0
                if kind == NEWTON:
                    more = costs.inverse + (0.0 if newton else setup)
                elif composed and path.steps:
                    more = factor * (3 * costs.symmetric + price(kind, costs))
                else:
                    long = 1.0 if newton else aspect
                    more = long * (1 + factor * costs.symmetric) + factor * price(kind, costs)
                longer = path._replace(
                    steps=(*path.steps, step), kinds=(*path.kinds, kind), gram_dtype=path.gram_dtype or gram_dtype,
                )  # fmt: skip
                heapq.heappush(queue, (cost + more, next(serial), after, top, longer))
    return None
