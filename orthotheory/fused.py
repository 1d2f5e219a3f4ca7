"""One method's steps on many matrices at once, each in one fused pass over its entries, in place.

For methods whose step is entry-wise with sums and maxima over a matrix: Lion, Adam, AuON, normalized steps. On NumPy
arrays the code is recorded from the method's own `update`, as for `trajectories`; on a GPU AuON, Lion, Signum and sign
descent have kernels, and every other method takes its own step there.
"""

from __future__ import annotations

import math
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from . import kernels
from .arrays import Array
from .kernels.programs import CompiledProgram, threads
from .kernels.recording import Program
from .methods import Lion, Method, SignDescent, Signum
from .methods.auon import AuON
from .methods.contract import leaves_of, with_leaves
from .trajectories import record_update


class Step:
    """Weights and state of a method, advanced in place by each gradient.

    Parameters
    ----------
    method : Method
        Its hyper-parameters may be arrays over the batch axes.
    w : array (..., m, n)
        First weights; they are copied. NumPy, or any other kind.

    Raises
    ------
    Unrecordable
        For NumPy arrays and a method that needs more than entry-wise operations, sums and maxima.

    >>> import numpy as np
    >>> from orthotheory import methods
    >>> step = Step(methods.make("sign", lr=0.5), np.zeros((2, 1, 2)))
    >>> step(np.array([[[1.0, -2.0]], [[0.0, 3.0]]]))
    array([[[-0.5,  0.5]],
    <BLANKLINE>
           [[ 0. , -0.5]]])
    """

    def __init__(self, method: Method, w: Array):
        method._broadcast(w)
        self._step = None if type(w) is np.ndarray else OnDevice(method, w)
        if self._step:
            self.w, self.steps = self._step.w, 0
            return
        program = Program(int(w.shape[-2]), int(w.shape[-1]), w.dtype)
        like = np.zeros(w.shape[-2:], w.dtype)
        record_update(program, method, program.matrix("w"), program.matrix("gradient"), like)
        self.code = CompiledProgram(program, flat=True)
        self.w, self.steps = np.array(w, order="C"), 0
        start = method.init(self.w)
        self.state = with_leaves(
            start, (np.array(np.broadcast_to(x, w.shape)) if np.ndim(x) else x for x in leaves_of(start))
        )
        batch = w.shape[:-2]
        count = int(np.prod(batch))
        hyper = {k: np.broadcast_to(getattr(method, k), batch).reshape(count) for k in program.scalars}
        self._scalars = self.code.pack_scalars(hyper, count)
        leaves = leaves_of(self.state)
        self._arrays = {f"state {i}": x for i, x in enumerate(leaves) if isinstance(x, np.ndarray)}
        self._workers = threads()
        self._pool = ThreadPoolExecutor(self._workers)

    def __call__(self, grad: Array) -> Array:
        """Take a step; return the weights, which the next step overwrites."""
        if self._step:
            self.w, self.steps = self._step(grad), self.steps + 1
            return self.w
        if type(grad) is not np.ndarray or grad.shape != self.w.shape or grad.dtype != self.w.dtype:
            raise ValueError(
                f"Step needs a NumPy gradient of shape {self.w.shape} and {self.w.dtype}; got "
                f"{tuple(np.shape(grad))} {getattr(grad, 'dtype', type(grad).__name__)}."
            )
        arrays = {**self._arrays, "w": self.w, "gradient": np.ascontiguousarray(grad)}
        self.code(arrays, self._scalars, self.steps, self.steps + 1, None, self._pool, self._workers)
        self.steps += 1
        return self.w


class OnDevice:
    """The same on a GPU: one kernel in place where there is one, otherwise the method's own step."""

    def __init__(self, method: Method, w: Array):
        served = type(method) in KERNELS and not hasattr(getattr(method, "gamma", None), "shape")
        gpu = kernels.gpu(w) if served else None
        self.kernels = gpu if gpu and gpu.takes_steps(w) else None
        self.method, self.w = method, self.kernels.processor.xp.ascontiguousarray(+w) if self.kernels else +w
        self.state = method.init(self.w)

    def __call__(self, grad: Array) -> Array:
        """Take a step; return the weights."""
        if self.kernels is None or grad.shape != self.w.shape or grad.dtype != self.w.dtype:  # `step` refuses it
            self.w, self.state = self.method.step(self.w, grad, self.state)
        else:
            momentum = self.state.momentum if self.state else None
            KERNELS[type(self.method)](self.kernels, self.method, self.w, momentum, grad)
        return self.w


def _auon(gpu: Any, method: AuON, w: Array, m: Array, g: Array) -> None:
    paper = method.variant == "paper"
    gamma = (1.0 if paper else 1.5) if method.gamma is None else method.gamma
    factor = math.sqrt(max(1.0, w.shape[-2] / w.shape[-1])) if paper else 1.0
    gpu.auon_step(
        w, m, g, lr=method.lr, momentum=method.momentum, weight_decay=method.weight_decay, gamma=gamma, factor=factor,
        nesterov=method.nesterov, normalized=paper,
    )  # fmt: skip


def _lion(gpu: Any, method: Lion, w: Array, m: Array, g: Array) -> None:
    rates = {"lr": method.lr, "beta1": method.beta1, "beta2": method.beta2, "weight_decay": method.weight_decay}
    gpu.sign_step("lion", w, m, g, **rates)


def _signum(gpu: Any, method: Signum, w: Array, m: Array, g: Array) -> None:
    gpu.sign_step("signum", w, m, g, lr=method.lr, beta1=method.momentum, weight_decay=method.weight_decay)


def _sign(gpu: Any, method: SignDescent, w: Array, m: None, g: Array) -> None:
    gpu.sign_step("sign", w, m, g, lr=method.lr, weight_decay=method.weight_decay)


KERNELS: dict[type, Any] = {AuON: _auon, Lion: _lion, Signum: _signum, SignDescent: _sign}
