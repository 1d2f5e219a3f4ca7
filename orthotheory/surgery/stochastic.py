"""Weights that are learned or averaged along the way: the state is the last weights, or averaged rows."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from ..arrays import Array, array_namespace, backend_of, check_number, device_of, to_host
from . import simplex_descent
from .cone import flat, put
from .contract import Aggregator, Card, Rows, Weighted, check_jacobian, combine, divide, gram, preference, rows_of
from .mgda import MGDA
from .simplex_descent import HUGE, project_simplex

SETTLED = 1e-11  # error of weights that float64 may leave
Update = Literal["projection", "softmax"]


def softmax(v: Array) -> Array:
    """Return exp(v) / sum exp(v) over the last axis."""
    xp = array_namespace(v)
    e = xp.exp(v - xp.max(v, axis=-1, keepdims=True))
    return e / xp.sum(e, axis=-1, keepdims=True)


def uniform(jacobian: Array) -> Array:
    """Return the weights 1/m in float64, (..., m)."""
    xp, m = array_namespace(jacobian), jacobian.shape[-2]
    return xp.full(jacobian.shape[:-1], 1 / m, dtype=xp.float64, device=device_of(jacobian))


def square(peak: Array) -> Array:
    """Return peak^2, kept finite."""
    xp = array_namespace(peak)
    return xp.clip(peak, None, HUGE**0.5) ** 2


def _weigh(rows: Rows, w: Array) -> Array:
    return rows.peak * combine(w * rows.scale, rows.unit)


class _TwoSample(Aggregator):
    """A rule whose weights want J1 J2^T of two independent samples; without a second one, one serves for both."""

    def step(self, jacobian: Array, state: Any, second: Array | None = None) -> tuple[Array, Any]:
        """Return the update of `jacobian` and the next weights; `second` is an independent Jacobian of its shape."""
        if second is None:
            return super().step(jacobian, state)
        check_jacobian(jacobian, type(self).__name__)
        check_jacobian(second, f"{type(self).__name__}, second sample,")
        if second.shape != jacobian.shape or second.dtype != jacobian.dtype:
            raise ValueError(
                f"{type(self).__name__} needs two Jacobians of one shape and dtype; got {tuple(jacobian.shape)} and "
                f"{tuple(second.shape)}."
            )
        update, state = self.advance(jacobian, state, second)
        return self._restore(update, jacobian), state

    def start(self, jacobian):
        return uniform(jacobian)

    def advance(self, jacobian: Array, state: Any, second: Array | None = None) -> tuple[Array, Any]:
        raise NotImplementedError


@dataclass(frozen=True)
class SDMGrad(_TwoSample):
    """Direction-oriented MGDA: weights near those of least norm, pulled to the preference p.

        repeat:  v <- momentum v + A (w + lam p),   w <- projection of w - lr v on the simplex,       A = J1 J2^T / s^2
        x = J1^T (w + lam p) / (1 + lam),                                       s = mean of the roots of diag(J1 J2^T)

    The state is w. For one sample it tends to argmin |J^T (w + lam p)|. Steps of lr = 10 amplify roundings about ten
    times each until a vertex of the simplex forgets them: where a bound of that is above 1e-11 the loop runs again in
    whole numbers on the host, one Jacobian after the other. Cost: the Gramian, `iterations` steps on the weights.

    Parameters
    ----------
    lr, momentum, iterations, lam : numbers
        Of the inner loop, and the pull.
    preference : sequence of m numbers, optional
    """

    lr: float = 10.0
    momentum: float = 0.5
    iterations: int = 20
    lam: float = 0.3
    preference: Any = None
    card = Card("SDMGrad", "xiao2023direction", "exact", "no epsilon beside the scale s^2")
    stateful = True

    def __post_init__(self):
        check_number(self.lr, "SDMGrad.lr", open_low=True, open_high=True)
        check_number(self.momentum, "SDMGrad.momentum", high=1.0, open_high=True)
        check_number(self.lam, "SDMGrad.lam", open_high=True)

    def advance(self, jacobian, state, second=None):
        rows = rows_of(jacobian)
        xp, (*batch, m, _) = array_namespace(rows.unit), rows.unit.shape
        one = flat(rows)
        two = one if second is None else flat(rows_of(second))
        pull, start = self.lam * preference(self.preference, rows), xp.reshape(state, (-1, m))
        w, bound = simplex_descent.descend(self, one, two, start, pull)
        open_ = xp.nonzero(~(bound <= SETTLED))[0]
        if open_.shape[0]:
            host, p = [to_host(xp.take(x, open_, axis=0)) for x in (one.relative, two.relative, start)], to_host(pull)
            items = zip(*host, strict=True)
            exact = [simplex_descent.exactly(self, x, x if second is None else y, z, p) for x, y, z in items]
            w = put(w, open_, backend_of(w).asarray(exact, "float64"))
        w = xp.reshape(w, (*batch, m))
        return _weigh(rows, (w + pull) / (1 + self.lam)), w


@dataclass(frozen=True)
class MoDo(_TwoSample):
    """Multi-objective descent with double sampling: one projected step of the weights, then the update.

        w <- projection of w - gamma (J1 J2^T + rho I) w on the simplex,        x = J1^T w

    The state is w. `gamma` is absolute, so scaling J changes the weights.

    Parameters
    ----------
    gamma, rho : float
        Step and regularization of the weights.
    update_rule : "projection" or "softmax"
        The paper projects; LibMTL applies a softmax, which pulls w to uniform even at a fixed point.
    """

    gamma: float = 0.1
    rho: float = 0.1
    update_rule: Update = "projection"
    card = Card("MoDo", "chen2023three", "exact", "the authors' code may take a third sample for x")
    stateful = True

    def __post_init__(self):
        _check_rule(self)

    def advance(self, jacobian, state, second=None):
        rows = rows_of(jacobian)
        xp = array_namespace(rows.unit)
        other = rows if second is None else rows_of(second)
        a = rows.relative @ xp.matrix_transpose(other.relative)
        gain = xp.clip(rows.peak, None, HUGE**0.5) * xp.clip(other.peak, None, HUGE**0.5)
        w = _descend(self, state, a, self.gamma * gain)
        return _weigh(rows, w), w


@dataclass(frozen=True)
class MoCo(Aggregator):
    """Multi-objective gradient correction: averaged rows, one step of the weights on them, then the update.

        Y <- Y - beta_k (Y - J),   w <- softmax(w - gamma_k (Y Y^T + rho I) w),   x = Y^T w
        beta_k = beta / k^beta_decay,   gamma_k = gamma / k^gamma_decay

    The state is (Y, w, k). Steps are absolute, so scaling J changes the weights.

    Parameters
    ----------
    beta, beta_decay, gamma, gamma_decay, rho : float
    update_rule : "softmax" or "projection"
        The code's softmax pulls w to uniform even at a fixed point; the paper projects on the simplex.
    """

    beta: float = 0.5
    beta_decay: float = 0.5
    gamma: float = 0.1
    gamma_decay: float = 0.5
    rho: float = 0.0
    update_rule: Update = "softmax"
    card = Card(
        "MoCo",
        "fernando2023mitigating",
        "exact",
        "the code divides each row by its norm and multiplies by its loss first",
    )
    stateful = True

    def __post_init__(self):
        check_number(self.beta, "MoCo.beta", high=1.0)
        _check_rule(self)

    def start(self, jacobian):
        xp = array_namespace(jacobian)
        return xp.zeros_like(xp.astype(jacobian, xp.float64)), uniform(jacobian), 1

    def advance(self, jacobian, state):
        y, w, k = state
        xp = array_namespace(jacobian)
        rate = self.beta / k**self.beta_decay
        y = (1 - rate) * y + rate * xp.astype(jacobian, xp.float64, copy=False)
        rows = rows_of(y)
        w = _descend(self, w, gram(rows.relative), self.gamma / k**self.gamma_decay * square(rows.peak))
        return _weigh(rows, w), (y, w, k + 1)


def _check_rule(rule: Any) -> None:
    who = type(rule).__name__
    check_number(rule.gamma, f"{who}.gamma", open_low=True, open_high=True)
    check_number(rule.rho, f"{who}.rho", open_high=True)
    if rule.update_rule not in ("projection", "softmax"):
        raise ValueError(f"{who}.update_rule must be projection or softmax; got {rule.update_rule!r}.")


def _descend(rule: Any, w: Array, a: Array, gain: Array) -> Array:
    """Return the weights after one step along (gain a + rho step) w; `gain` carries the scale of the Jacobians."""
    xp = array_namespace(w)
    step = xp.clip(gain, None, HUGE) * (a @ w[..., None])[..., 0] + rule.gamma * rule.rho * w
    return (project_simplex if rule.update_rule == "projection" else softmax)(w - xp.clip(step, -HUGE, HUGE))


@dataclass(frozen=True)
class CRMOGM(Aggregator):
    """Composite weights: average those of another rule over the steps, w <- alpha w + (1 - alpha) w_hat, x = J^T w.

    The state is w, 1/m at first.

    Parameters
    ----------
    alpha : float
        Memory.
    inner : Weighted
        Where w_hat comes from.
    """

    alpha: float = 0.9
    inner: Weighted = field(default_factory=MGDA)
    card = Card("CR-MOGM", "zhou2022convergence", "exact")
    stateful = True

    def __post_init__(self):
        check_number(self.alpha, "CRMOGM.alpha", high=1.0)
        if not isinstance(self.inner, Weighted) or self.inner.random:
            raise TypeError(f"CRMOGM.inner must be a deterministic aggregator with weights; got {self.inner!r}.")

    def start(self, jacobian):
        return uniform(jacobian)

    def advance(self, jacobian, state):
        xp = array_namespace(jacobian)
        fresh = self.inner.weights(xp.astype(jacobian, xp.float64, copy=False))
        w = self.alpha * state + (1 - self.alpha) * xp.clip(fresh, -HUGE, HUGE)
        return _weigh(rows_of(jacobian), w), w


@dataclass(frozen=True)
class ExcessMTL(Aggregator):
    """Robust weights by excess risk: objectives far from their optimum gain weight.

        S <- S + J^2,   e_i = sum_k J_ik^2 / sqrt(S_ik + 1e-7),   w_i <- w_i exp(eta e_i / e_i^0), rescaled to sum m
        x = J^T w

    e^0 is the mean of the first `warmup` steps, during which the weights stay 1. The state is (sqrt S, log w, e^0, k).

    Parameters
    ----------
    eta : float
        Step of the weights.
    warmup : int
        At least 1.
    """

    eta: float = 1.0
    warmup: int = 1
    card = Card("ExcessMTL", "he2024robust", "exact", "1e-7 is added to e^0, so that a zero gradient gives no 0 / 0")
    stateful = True

    def __post_init__(self):
        check_number(self.eta, "ExcessMTL.eta", open_high=True)
        check_number(self.warmup, "ExcessMTL.warmup", low=1.0, open_high=True)

    def start(self, jacobian):
        xp = array_namespace(jacobian)
        zero = 0 * uniform(jacobian)
        return xp.zeros_like(xp.astype(jacobian, xp.float64)), zero, zero, 0

    def advance(self, jacobian, state):
        root, log_w, start, k = state
        xp, m = array_namespace(jacobian), jacobian.shape[-2]
        size = xp.abs(xp.astype(jacobian, xp.float64, copy=False))
        root = xp.hypot(root, size)
        share = size / xp.hypot(root, xp.full_like(root, 1e-7**0.5))  # at most 1
        excess = xp.sum(xp.clip(size, None, HUGE) * share, axis=-1)
        if k < self.warmup:
            start = start + excess / self.warmup
        else:
            log_w = log_w + self.eta * xp.clip(excess / (start + 1e-7), None, HUGE)
        w = m * softmax(log_w)
        log_w = log_w - xp.max(log_w, axis=-1, keepdims=True)
        return _weigh(rows_of(jacobian), w), (root, log_w, start, k + 1)


@dataclass(frozen=True)
class DBMTL(Aggregator):
    """Dual balancing, gradient part: averaged rows, all lengthened to the longest.

        Y <- J + beta / k^decay (Y - J),        x = sum_i (max_j |y_j| / |y_i|) y_i

    The loss part of the method is to take the gradients of log losses. The state is (Y, k).

    Parameters
    ----------
    beta, decay : float
    """

    beta: float = 0.9
    decay: float = 0.5
    card = Card(
        "DB-MTL", "lin2023dual", "exact", "no epsilon beside the norms; a zero row stays zero; defaults are ours"
    )
    stateful = True

    def __post_init__(self):
        check_number(self.beta, "DBMTL.beta", high=1.0)
        check_number(self.decay, "DBMTL.decay", open_high=True)

    def start(self, jacobian):
        xp = array_namespace(jacobian)
        return xp.zeros_like(xp.astype(jacobian, xp.float64)), 1

    def advance(self, jacobian, state):
        y, k = state
        xp = array_namespace(jacobian)
        rate = self.beta / k**self.decay
        y = (1 - rate) * xp.astype(jacobian, xp.float64, copy=False) + rate * y
        rows = rows_of(y)
        longest = xp.max(rows.length, axis=-1, keepdims=True)
        return rows.peak * combine(divide(longest, rows.norm), rows.unit), (y, k + 1)
