"""A problem in two matrices that is not convex: a network with one hidden layer on the digits data."""

from __future__ import annotations

import math

import numpy as np

from ..arrays import Array, Backend, array_namespace, backend, backend_of, check_number, generator, to_host
from ..norms import Norm
from .contract import Constant, Dtype, Problem
from .digits import digits_data, softmax_residual
from .noise import take_rows


class TwoLayer(Problem):
    """f(W1, W2) = mean_i cross-entropy(softmax(tanh(x_i^T W1) W2), y_i) + (regularization / 2) (|W1|_F^2 + |W2|_F^2).

    Weights are a tuple (W1, W2) of shapes (m, hidden) and (hidden, classes), gradients are written by hand. The
    optimum is not known; the value is nonnegative.

    Parameters
    ----------
    inputs : array (N, m)
    labels : array (N,) of int on the host, values 0 to classes - 1
    start : tuple of two arrays
    """

    def __init__(self, inputs: Array, labels: np.ndarray, start, *, regularization: float = 0.0, noise=None):
        check_number(regularization, "regularization", open_high=True)
        (m, hidden), (width, classes) = (tuple(w.shape) for w in start)
        if inputs.shape[-1] != m or hidden != width:
            raise ValueError(
                f"inputs (N, m) need weights (m, hidden) and (hidden, classes); got {tuple(inputs.shape)}, "
                f"{(m, hidden)} and {(width, classes)}."
            )
        self.inputs, self.start, self.samples, self.noise = inputs, tuple(start), inputs.shape[0], noise
        self.regularization = float(regularization)
        self._targets = backend_of(inputs).asarray(np.eye(classes, dtype=to_host(inputs).dtype)[labels])

    def value(self, w):
        first, second = w
        xp = array_namespace(first)
        logits = xp.tanh(self.inputs @ first) @ second
        peak = xp.max(logits, axis=-1, keepdims=True)
        log_sum = xp.log(xp.sum(xp.exp(logits - peak), axis=-1)) + peak[..., 0]
        losses = log_sum - xp.sum(logits * self._targets, axis=-1)
        squares = sum(xp.sum(x * x, axis=(-2, -1)) for x in w)
        return xp.mean(losses, axis=-1) + 0.5 * self.regularization * squares

    def grad(self, w):
        return self._grad(w, self.inputs, self._targets)

    def sample_grad(self, w, rows: np.ndarray):
        """Return the gradient of the mean over the given rows, shape (size) or (batch, size)."""
        return self._grad(w, take_rows(self.inputs, rows), take_rows(self._targets, rows))

    def accuracy(self, w) -> Array:
        """Return the share of samples whose largest logit is the right one, shape (batch)."""
        first, second = w
        xp = array_namespace(first)
        right = xp.argmax(xp.tanh(self.inputs @ first) @ second, axis=-1) == xp.argmax(self._targets, axis=-1)
        return xp.mean(xp.astype(right, first.dtype), axis=-1)

    def smoothness(self, norm: Norm) -> Constant:
        raise NotImplementedError("The two-layer network has no global smoothness constant.")

    def strong_convexity(self, norm: Norm) -> Constant:
        raise NotImplementedError("The two-layer network is not convex.")

    def _grad(self, w, x, targets):
        first, second = w
        hidden = array_namespace(first).tanh(x @ first)
        residual = softmax_residual(hidden @ second, targets) / x.shape[-2]  # df / d logits
        back = (residual @ second.mT) * (1 - hidden * hidden)  # df / d (x W1)
        decay = self.regularization
        return x.mT @ back + decay * first, hidden.mT @ residual + decay * second


def network(
    *, hidden: int = 16, regularization: float = 1e-3, samples: int = 1797, dtype: Dtype = "float64", seed: int = 0,
    noise=None, device: str | Backend | None = None,
) -> TwoLayer:  # fmt: skip
    """Build a tanh network 64 - hidden - 10 on the digits data [alpaydin1998optical], started at N(0, 1 / fan-in)."""
    check_number(hidden, "hidden", low=1)
    pixels, labels = digits_data(samples)
    where = backend(device)
    start = tuple(where.asarray(w, dtype=dtype) for w in network_start(pixels.shape[1], hidden, 10, seed))
    inputs = where.asarray(pixels, dtype=dtype)
    return TwoLayer(inputs, labels, start, regularization=regularization, noise=noise)


def network_start(inputs: int, hidden: int, classes: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Draw the first weights, entries of variance 1 / fan-in."""
    rng = generator(seed)
    shapes = ((inputs, hidden), (hidden, classes))
    return tuple(rng.standard_normal(shape) / math.sqrt(shape[0]) for shape in shapes)  # type: ignore[return-value]
