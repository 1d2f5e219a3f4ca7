"""A real problem: softmax regression on the 1797 handwritten digits that scikit-learn ships, W of shape (64, 10)."""

from __future__ import annotations

import functools

import numpy as np

from ..arrays import Array, Backend, array_namespace, backend, backend_of, check_number, to_host
from ..norms import Norm
from .contract import Constant, Dtype, Problem
from .curvature import Form, smoothness, strong_convexity
from .noise import take_rows


class SoftmaxRegression(Problem):
    """f(W) = mean_i [log sum_c exp(x_i^T w_c) - x_i^T w_{y_i}] + (regularization / 2) |W|_F^2.

    Parameters
    ----------
    inputs : array (N, m)
    labels : array (N,) of int on the host, values 0 to classes - 1
    regularization : float
        Positive, so that the optimum is unique.

    Notes
    -----
    The Hessian lies below I / 2 (x) X^T X / N + regularization I [bohning1992multinomial]; the smoothness
    constants are those of that quadratic form and so upper bounds, strong convexity is a lower bound.
    The optimum is found by Newton's method on the host to a gradient of Frobenius norm 1e-12; by strong
    convexity its value is then within |grad|^2 / (2 regularization) of the minimum.
    """

    def __init__(self, inputs: Array, labels: np.ndarray, *, classes: int, regularization: float, noise=None):
        check_number(regularization, "regularization", open_low=True, open_high=True)
        where = backend_of(inputs)
        self.inputs, self.labels, self.classes = inputs, labels, classes
        self.regularization, self.noise, self.samples = float(regularization), noise, inputs.shape[0]
        x = to_host(inputs)
        one_hot = np.eye(classes, dtype=x.dtype)[labels]
        self._targets = where.asarray(one_hot)
        self.start = where.asarray(np.zeros((x.shape[1], classes), dtype=x.dtype))
        solution, self.optimal_value = newton_softmax(x.astype(np.float64), labels, classes, self.regularization)
        self.optimum = where.asarray(solution.astype(x.dtype))

    def value(self, w):
        xp = array_namespace(w)
        logits = self.inputs @ w
        peak = xp.max(logits, axis=-1, keepdims=True)
        log_sum = xp.log(xp.sum(xp.exp(logits - peak), axis=-1)) + peak[..., 0]
        correct = xp.sum(logits * self._targets, axis=-1)
        return xp.mean(log_sum - correct, axis=-1) + 0.5 * self.regularization * xp.sum(w * w, axis=(-2, -1))

    def grad(self, w):
        return self._grad(w, self.inputs, self._targets)

    def sample_grad(self, w: Array, rows: np.ndarray) -> Array:
        """Return the gradient of the mean over the given rows, shape (size) or (batch, size)."""
        return self._grad(w, take_rows(self.inputs, rows), take_rows(self._targets, rows))

    def accuracy(self, w: Array) -> Array:
        """Return the share of samples whose largest logit is the right one, shape (batch)."""
        xp = array_namespace(w)
        guess = xp.argmax(self.inputs @ w, axis=-1)
        right = guess == xp.argmax(self._targets, axis=-1)
        return xp.mean(xp.astype(right, w.dtype), axis=-1)

    @functools.cached_property
    def form(self) -> Form:
        """The quadratic form that dominates the Hessian."""
        x = to_host(self.inputs).astype(np.float64)
        dominating = x.T @ x / (2 * len(x))
        m = x.shape[1]
        return Form((dominating + dominating.T) / 2 + self.regularization * np.eye(m), np.eye(self.classes))

    def smoothness(self, norm: Norm) -> Constant:
        return Constant(smoothness(norm, self.form).value, "upper", "Boehning's bound on the softmax Hessian")

    def strong_convexity(self, norm: Norm) -> Constant:
        m = self.inputs.shape[1]
        floor = Form(self.regularization * np.eye(m), np.eye(self.classes))
        return Constant(strong_convexity(norm, floor).value, "lower", "the regularization alone")

    def _grad(self, w, x, targets):
        return x.mT @ softmax_residual(x @ w, targets) / x.shape[-2] + self.regularization * w


def softmax_residual(logits: Array, targets: Array) -> Array:
    """Return softmax(logits) - targets, the gradient of the cross-entropy with respect to the logits."""
    xp = array_namespace(logits)
    exponentials = xp.exp(logits - xp.max(logits, axis=-1, keepdims=True))
    return exponentials / xp.sum(exponentials, axis=-1, keepdims=True) - targets


def digits(
    *, regularization: float = 1e-3, samples: int = 1797, dtype: Dtype = "float64", noise=None,
    device: str | Backend | None = None,
) -> SoftmaxRegression:  # fmt: skip
    """Build softmax regression on the digits data [alpaydin1998optical], pixels scaled to [0, 1], no intercept.

    `samples` keeps only the first so many images.
    """
    pixels, labels = digits_data(samples)
    inputs = backend(device).asarray(pixels, dtype=dtype)
    return SoftmaxRegression(inputs, labels, classes=10, regularization=regularization, noise=noise)


@functools.cache
def digits_data(samples: int = 1797) -> tuple[np.ndarray, np.ndarray]:
    """Return the pixels scaled to [0, 1], (samples, 64), and the labels of the first images."""
    check_number(samples, "samples", low=1, high=1797)
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise ImportError("The digits problem needs scikit-learn: pip install 'orthotheory[lab]'.") from error
    data = load_digits()
    return data.data[:samples] / 16.0, data.target[:samples]


def newton_softmax(
    x: np.ndarray, labels: np.ndarray, classes: int, regularization: float, tolerance: float = 1e-12, limit: int = 100
) -> tuple[np.ndarray, float]:
    """Minimize softmax regression by damped Newton steps; return the minimizer and the minimum.

    Raises RuntimeError where the gradient does not fall below `tolerance` within `limit` steps.
    """
    count, m = x.shape
    one_hot = np.eye(classes)[labels]
    w = np.zeros((m, classes))

    def evaluate(w):
        """Return the value, the rounding error of its sums, and the probabilities."""
        logits = x @ w
        peak = logits.max(axis=1, keepdims=True)
        exponentials = np.exp(logits - peak)
        total = exponentials.sum(axis=1, keepdims=True)
        loss = float(np.mean(np.log(total) + peak) - np.sum(logits * one_hot) / count)
        value = loss + 0.5 * regularization * float(np.sum(w * w))
        rounding = 16 * np.finfo(float).eps * (abs(value) + float(np.mean(np.abs(peak))))
        return value, rounding, exponentials / total

    for _ in range(limit):
        value, rounding, p = evaluate(w)
        grad = x.T @ (p - one_hot) / count + regularization * w
        if np.linalg.norm(grad) <= tolerance:
            return w, value
        hessian = regularization * np.eye(m * classes).reshape(m, classes, m, classes)
        for c in range(classes):
            for d in range(classes):
                weight = p[:, c] * ((c == d) - p[:, d]) / count
                hessian[:, c, :, d] += (x * weight[:, None]).T @ x
        step = np.linalg.solve(hessian.reshape(m * classes, -1), grad.ravel()).reshape(m, classes)
        decrease, t = float(np.sum(step * grad)), 1.0
        while evaluate(w - t * step)[0] > value - 0.25 * t * decrease + rounding and t > 1e-10:
            t /= 2
        w = w - t * step
    raise RuntimeError(f"Newton's method left a gradient of {np.linalg.norm(grad):.1e} after {limit} steps.")
