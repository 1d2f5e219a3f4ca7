"""The contract of a method: frozen hyper-parameters, a visible state, two pure functions, a card."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from .. import norms
from ..arrays import Array, Scalar, array_namespace, check_matrix, check_number, per_matrix
from ..norms import Norm

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
                check_number(value, f"{type(self).__name__}.{field.name}", **RANGES[field.name])

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
        check_matrix(w, type(self).__name__)
        if w.shape != grad.shape or w.dtype != grad.dtype:
            raise ValueError(
                f"{type(self).__name__}.step needs weights and gradient of one shape and dtype; got "
                f"{tuple(w.shape)} {w.dtype} and {tuple(grad.shape)} {grad.dtype}."
            )
        return self._broadcast(w).update(w, grad, state)

    def update(self, w: Array, grad: Array, state: Any) -> tuple[Array, Any]:
        """Return the next weights and state, the paper's algorithm."""
        raise NotImplementedError

    def config(self) -> dict[str, Any]:
        """Return the hyper-parameters by name."""
        return {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}

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
