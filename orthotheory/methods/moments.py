"""Adam's two averages, for the methods that keep them in other coordinates or change the quotient."""

from __future__ import annotations

from typing import NamedTuple

from ..arrays import Array, Scalar, array_namespace
from .contract import ema, ratio, zeros_like


class Moments(NamedTuple):
    """Averages of a gradient and of its entrywise square."""

    first: Array
    second: Array

    @staticmethod
    def zeros(w: Array) -> Moments:
        """Return the moments before the first gradient."""
        return Moments(zeros_like(w), zeros_like(w))

    def after(self, grad: Array, beta1: Scalar, beta2: Scalar) -> Moments:
        """Return the averages with one more gradient."""
        return Moments(ema(self.first, grad, beta1), ema(self.second, grad * grad, beta2))

    def quotient(self, eps: Scalar) -> Array:
        """Return M / (sqrt(V) + eps), without corrections; 0 / 0 is 0."""
        return ratio(self.first, array_namespace(self.second).sqrt(self.second) + eps)

    def corrected(self, t: int, beta1: Scalar, beta2: Scalar, eps: Scalar) -> Array:
        """Return Adam's direction after t gradients, eps added to the corrected root."""
        root = array_namespace(self.second).sqrt(self.second / (1 - beta2**t))
        return ratio(self.first / (1 - beta1**t), root + eps)


def bias_rate(t: int, beta1: Scalar, beta2: Scalar) -> Scalar:
    """Return sqrt(1 - beta2^t) / (1 - beta1^t), which corrects `quotient`."""
    return (1 - beta2**t) ** 0.5 / (1 - beta1**t)
