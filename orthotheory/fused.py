"""One method's steps on many matrices at once, each in one fused pass over its entries, in place.

For methods whose step is entry-wise with sums and maxima over a matrix: Lion, Adam, AuON, normalized steps. The code is
recorded from the method's own `update`, as for `trajectories`.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np

from .kernels.programs import CompiledProgram, threads
from .kernels.recording import Program
from .methods import Method
from .trajectories import _leaves, _rebuild, record_update


class Step:
    """Weights and state of a method, advanced in place by each gradient.

    Parameters
    ----------
    method : Method
        Its hyper-parameters may be arrays over the batch axes.
    w : array (..., m, n)
        First weights; they are copied.

    Raises
    ------
    Unrecordable
        For a method that needs more than entry-wise operations, sums and maxima.

    >>> import numpy as np
    >>> from orthotheory import methods
    >>> step = Step(methods.make("sign", lr=0.5), np.zeros((2, 1, 2)))
    >>> step(np.array([[[1.0, -2.0]], [[0.0, 3.0]]]))
    array([[[-0.5,  0.5]],
    <BLANKLINE>
           [[ 0. , -0.5]]])
    """

    def __init__(self, method: Method, w: np.ndarray):
        method._broadcast(w)
        program = Program(int(w.shape[-2]), int(w.shape[-1]), w.dtype)
        like = np.zeros(w.shape[-2:], w.dtype)
        record_update(program, method, program.matrix("w"), program.matrix("gradient"), like)
        self.code = CompiledProgram(program, flat=True)
        self.w, self.steps = np.array(w, order="C"), 0
        start = method.init(self.w)
        self.state = _rebuild(start, lambda i, x: np.array(np.broadcast_to(x, w.shape)) if np.ndim(x) else x)
        batch = w.shape[:-2]
        count = int(np.prod(batch))
        hyper = {k: np.broadcast_to(getattr(method, k), batch).reshape(count) for k in program.scalars}
        self._scalars = self.code.pack_scalars(hyper, count)
        leaves = _leaves(self.state)
        self._arrays = {f"state {i}": x for i, x in enumerate(leaves) if isinstance(x, np.ndarray)}
        self._workers = threads()
        self._pool = ThreadPoolExecutor(self._workers)

    def __call__(self, grad: np.ndarray) -> np.ndarray:
        """Take a step; return the weights, which the next step overwrites."""
        if type(grad) is not np.ndarray or grad.shape != self.w.shape or grad.dtype != self.w.dtype:
            raise ValueError(
                f"Step needs a NumPy gradient of shape {self.w.shape} and {self.w.dtype}; got "
                f"{tuple(np.shape(grad))} {getattr(grad, 'dtype', type(grad).__name__)}."
            )
        arrays = {**self._arrays, "w": self.w, "gradient": np.ascontiguousarray(grad)}
        self.code(arrays, self._scalars, self.steps, self.steps + 1, None, self._pool, self._workers)
        self.steps += 1
        return self.w
