"""The contract of a method: frozen hyper-parameters, a visible state, two pure functions, a card.

`Method` acts on one matrix (..., m, n), `BlockMethod` on a tuple of them (the layers of a network). `lift` turns the
first into the second, block by block.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from .. import norms
from ..arrays import Array, Scalar, array_namespace, check_matrix, check_number, per_matrix
from ..norms import Norm, Product, ProductMax

Blocks = tuple[Array, ...]
Status = Literal["exact", "published", "reconstructed"]

# Where each hyper-parameter may lie; the names are the field's.
RANGES: dict[str, dict[str, Any]] = {
    "lr": {"open_low": True, "open_high": True},
    "momentum": {"high": 1.0, "open_high": True},
    "beta1": {"high": 1.0, "open_high": True},
    "beta2": {"high": 1.0, "open_high": True},
    "weight_decay": {"open_high": True},
    "eps": {"open_high": True},
    "gamma": {"open_low": True, "open_high": True},
}


def leaves_of(state: Any) -> list:
    """Return the leaves of a state, a tree of tuples, from left to right."""
    return [x for part in state for x in leaves_of(part)] if isinstance(state, tuple) else [state]


def with_leaves(state: Any, leaves: Iterable) -> Any:
    """Return a state of the same form with other leaves, from left to right."""
    rest = iter(leaves)

    def rebuilt(tree: Any) -> Any:
        if not isinstance(tree, tuple):
            return next(rest)
        parts = [rebuilt(part) for part in tree]
        return type(tree)(*parts) if hasattr(tree, "_fields") else tuple(parts)

    return rebuilt(state)


@dataclass(frozen=True)
class Card:
    """Where a method comes from and how faithful it is.

    `status` is "exact" (as in the authors' code), "published" (a formula of the paper) or "reconstructed".
    `differences` says where code and paper disagree, and what this implementation leaves out.
    """

    title: str
    source: str
    arxiv: str
    geometry: str
    status: Status
    differences: str = ""


@dataclass(frozen=True)
class Method:
    """Base of every optimizer; knows no problem.

    A subclass states its hyper-parameters as fields, `init`, `update` and a `card`. `step` checks the input
    and gives array hyper-parameters of shape (batch) their trailing axes, so that `update` reads like the
    paper's algorithm and a whole sweep is one call.
    """

    card: ClassVar[Card]
    norm: ClassVar[Norm] = norms.Frobenius()
    oracle: ClassVar[str] = "grad"  # what the problem is asked for; "jacobian": the gradient of each objective

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if field.name in RANGES and value is not None:
                for number in value if isinstance(value, tuple) else (value,):
                    check_number(number, f"{type(self).__name__}.{field.name}", **RANGES[field.name])

    def init(self, w: Array) -> Any:
        """Return the state before the first step."""
        raise NotImplementedError

    def step(self, w: Array, grad: Array, state: Any) -> tuple[Array, Any]:
        """Return the next weights and state; nothing is changed in place.

        Parameters
        ----------
        w, grad : array (..., m, n)
            Weights and gradient, of one shape, dtype and device.
        state
            What `init` or the previous step returned.
        """
        _check_pair(w, grad, type(self).__name__)
        return self._broadcast(w).update(w, grad, state)

    def update(self, w: Array, grad: Array, state: Any) -> tuple[Array, Any]:
        """Return the next weights and state, the paper's algorithm."""
        raise NotImplementedError

    def config(self) -> dict[str, Any]:
        """Return the hyper-parameters by name."""
        return {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}

    def batch_shapes(self) -> list[tuple[int, ...]]:
        """Return the shapes of the array hyper-parameters: their joint shape is the batch of a run."""
        values = [v for value in self.config().values() for v in (value if isinstance(value, tuple) else (value,))]
        return [tuple(v.shape) for v in values if hasattr(v, "shape")]

    def _broadcast(self, w: Array) -> Method:
        arrays = {
            name: per_matrix(value, w)
            for name, value in self.config().items()
            if name in RANGES and hasattr(value, "shape")
        }
        if not arrays:
            return self
        copy = object.__new__(type(self))  # past __init__: the values are checked already
        copy.__dict__.update({**self.__dict__, **arrays})
        return copy


@dataclass(frozen=True)
class BlockMethod(Method):
    """Base of the optimizers whose rule couples several matrices; a single matrix is a tuple of one.

    A subclass states `init_blocks` and `update_blocks`, on tuples of arrays that share their batch axes. A
    hyper-parameter may be a tuple with one value a block.
    """

    def init(self, w: Array | Blocks) -> Any:
        return self.init_blocks(w if isinstance(w, tuple) else (w,))

    def step(self, w, grad, state):
        """Return the next weights and state; `w` and `grad` are tuples of matrices, or one matrix each."""
        if not isinstance(w, tuple):
            (following,), state = self.step((w,), (grad,), state)
            return following, state
        who = type(self).__name__
        if not isinstance(grad, tuple) or len(grad) != len(w) or not w:
            got = f"{len(grad)} gradients" if isinstance(grad, tuple) else f"a {type(grad).__name__}"
            raise ValueError(f"{who}.step needs a tuple with one gradient a block; got {len(w)} weights and {got}.")
        for x, g in zip(w, grad, strict=True):
            _check_pair(x, g, who)
        return self._for_each_block(w).update_blocks(w, grad, state)

    def init_blocks(self, w: Blocks) -> Any:
        """Return the state before the first step."""
        raise NotImplementedError

    def update_blocks(self, w: Blocks, grad: Blocks, state: Any) -> tuple[Blocks, Any]:
        """Return the next weights and state, the paper's algorithm; hyper-parameters of RANGES are tuples here."""
        raise NotImplementedError

    def _for_each_block(self, w: Blocks) -> BlockMethod:
        copy = object.__new__(type(self))  # past __init__: the values are checked already
        copy.__dict__.update(self.__dict__)
        for name, value in self.config().items():
            if name in RANGES and value is not None:
                values = value if isinstance(value, tuple) else (value,) * len(w)
                if len(values) != len(w):
                    raise ValueError(f"{type(self).__name__}.{name} has {len(values)} values for {len(w)} blocks.")
                copy.__dict__[name] = tuple(per_matrix(v, x) for v, x in zip(values, w, strict=True))
        return copy


@dataclass(frozen=True)
class Blockwise(BlockMethod):
    """One method a block, each on its own matrix: Muon on hidden layers and Adam on the head, say.

    The state is the tuple of their states; `norm` the largest of the block norms.
    """

    methods: tuple[Method, ...]

    def __post_init__(self) -> None:
        if not self.methods or not all(isinstance(m, Method) for m in self.methods):
            raise ValueError(f"Blockwise needs a tuple of methods, one a block; got {self.methods!r}.")

    @property
    def card(self) -> Card:  # type: ignore[override]
        """The card of the first method."""
        return self.methods[0].card

    @property
    def norm(self) -> Product:  # type: ignore[override]
        """The largest of the block norms."""
        return ProductMax(tuple(m.norm for m in self.methods))

    def batch_shapes(self) -> list[tuple[int, ...]]:
        return [shape for m in self.methods for shape in m.batch_shapes()]

    def init_blocks(self, w):
        return tuple(m.init(x) for m, x in zip(self.methods, w, strict=True))

    def update_blocks(self, w, grad, state):
        taken = [m.step(x, g, s) for m, x, g, s in zip(self.methods, w, grad, state, strict=True)]
        return tuple(x for x, _ in taken), tuple(s for _, s in taken)


def lift(method: Method, count: int) -> BlockMethod:
    """Return the method on tuples of `count` matrices; one that already acts on tuples is returned as it is."""
    return method if isinstance(method, BlockMethod) else Blockwise((method,) * count)


def _check_pair(w: Array, grad: Array, who: str) -> None:
    check_matrix(w, who)
    if w.shape != grad.shape or w.dtype != grad.dtype:
        raise ValueError(
            f"{who}.step needs weights and gradient of one shape and dtype; got "
            f"{tuple(w.shape)} {w.dtype} and {tuple(grad.shape)} {grad.dtype}."
        )


def zeros_like(w: Array) -> Array:
    """Return zeros of the same shape, dtype and device."""
    return array_namespace(w).zeros_like(w)


def ema(average: Array, new: Array, beta: Scalar) -> Array:
    """Return beta * average + (1 - beta) * new, the exponential moving average."""
    return beta * average + (1 - beta) * new


def heavy_ball(buffer: Array, new: Array, beta: Scalar) -> Array:
    """Return beta * buffer + new, Polyak's accumulation."""
    return beta * buffer + new


def decay(w: Array, lr: Scalar, weight_decay: Scalar) -> Array:
    """Return (1 - lr * weight_decay) w, decoupled weight decay."""
    return (1 - lr * weight_decay) * w


def ratio(x: Array, y: Array) -> Array:
    """Return x / y, and 0 where y is 0; shapes broadcast."""
    xp = array_namespace(x, y)
    return xp.where(y == 0, xp.zeros_like(x), x / xp.where(y == 0, xp.ones_like(y), y))


def row_norms(x: Array) -> Array:
    """Return the Euclidean lengths of the rows of each matrix, shape (..., m, 1)."""
    xp = array_namespace(x)
    return xp.sqrt(xp.sum(x * x, axis=-1, keepdims=True))


def column_norms(x: Array) -> Array:
    """Return the Euclidean lengths of the columns of each matrix, shape (..., 1, n)."""
    return row_norms(x.mT).mT
