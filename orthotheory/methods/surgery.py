"""Gradient surgery in front of any optimizer: the gradients of several objectives become one, and it steps on that."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

from .. import surgery
from ..arrays import Scalar, array_namespace, check_matrix
from ..surgery import Aggregator
from .contract import Card, Method


@dataclass(frozen=True)
class Surgery(Method):
    """Aggregate, then step: X_k = A(J_k) as a matrix, W <- optimizer(W, X_k).

    Parameters
    ----------
    aggregator : Aggregator or str
        What turns the Jacobian of m objectives into one gradient; a name is looked up in `surgery`.
    optimizer : Method or str
        What steps on it; a name is looked up in `methods` and built with `lr`.
    lr : float or array (batch), or None
        Learning rate of an optimizer given by name; None takes its default.

    Notes
    -----
    `step` takes the Jacobian (..., m, rows, columns) in place of the gradient. A guarantee of the aggregator is one
    about X_k: an optimizer that changes the direction (momentum, Adam, Muon) voids it, theorem `polar-voids-surgery`.
    """

    card = Card(
        "Surgery, then an optimizer",
        "quinton2024jacobian",
        "2406.16232",
        "that of the optimizer",
        "published",
        "The paper steps by gradient descent; other optimizers are ours.",
    )
    oracle = "jacobian"

    aggregator: Any = "upgrad"
    optimizer: Any = "gd"
    lr: Scalar | None = None

    class State(NamedTuple):
        """The aggregator's state, None before the first Jacobian, and the optimizer's."""

        aggregator: Any
        optimizer: Any

    def __post_init__(self) -> None:
        from . import make

        super().__post_init__()
        if isinstance(self.aggregator, str):
            object.__setattr__(self, "aggregator", surgery.make(self.aggregator))
        if not isinstance(self.aggregator, Aggregator):
            raise TypeError(f"aggregator must be an aggregator or the name of one; got {self.aggregator!r}.")
        if isinstance(self.optimizer, str):
            hyper = {} if self.lr is None else {"lr": self.lr}
            object.__setattr__(self, "optimizer", make(self.optimizer, **hyper))
        elif self.lr is not None:
            raise ValueError("lr belongs to an optimizer given by name; set it on the optimizer itself.")
        if not isinstance(self.optimizer, Method) or self.optimizer.oracle != "grad":
            raise TypeError(f"optimizer must be a method of one objective or the name of one; got {self.optimizer!r}.")

    @property
    def norm(self):  # type: ignore[override]
        return self.optimizer.norm

    def init(self, w):
        return self.State(None, self.optimizer.init(w))

    def step(self, w, grad, state):
        """Return the next weights and state.

        Parameters
        ----------
        w : array (..., rows, columns)
        grad : array (..., m, rows, columns)
            The gradients of the m objectives.
        state
            What `init` or the previous step returned.
        """
        check_matrix(w, type(self).__name__)
        if grad.ndim != w.ndim + 1 or (*grad.shape[:-3], *grad.shape[-2:]) != w.shape or w.dtype != grad.dtype:
            raise ValueError(
                "Surgery.step needs weights (..., rows, columns) and one gradient for each objective, "
                f"(..., m, rows, columns), of one dtype; got {tuple(w.shape)} {w.dtype} and {tuple(grad.shape)} "
                f"{grad.dtype}."
            )
        xp = array_namespace(w, grad)
        jacobian = xp.reshape(grad, (*grad.shape[:-2], w.shape[-2] * w.shape[-1]))
        memory = self.aggregator.init(jacobian) if state.aggregator is None else state.aggregator
        update, memory = self.aggregator.step(jacobian, memory)
        w, inner = self.optimizer.step(w, xp.reshape(update, w.shape), state.optimizer)
        return w, self.State(memory, inner)
