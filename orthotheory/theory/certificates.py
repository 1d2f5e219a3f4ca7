r"""Scalar performance estimation: a bound follows from a few inequalities, with rational multipliers that are checked.

A proof of a rate on a method with a non-Euclidean norm uses values f_k, dual norms of gradients and of errors only, and
inequalities that are linear in them. The largest objective that these allow is a linear program; its dual multipliers
add up to the bound. They are found in floating point, solved again exactly over the rationals on their support, with
the parameters left as symbols, and the identity

    objective = bound' + sum_i lambda_i * (expression_i),   lambda_i >= 0,   expression_i <= 0,

is verified in SymPy. bound' is the best bound that *these* inequalities give: where it equals the theorem's, no
rearrangement of the same proof improves the constant.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from ..names import closest

Expression = Any  # a SymPy expression; SymPy is imported where it is used
Values = Mapping[str, Any]  # parameters by name, rational


@dataclass(frozen=True)
class Program:
    """Maximize a linear objective under linear inequalities.

    Parameters
    ----------
    variables : tuple of SymPy symbols
    objective : expression, linear in the variables
    inequalities : mapping
        From a sentence to an expression that is <= 0, linear in the variables, rational in the parameters.
    bound : expression
        The theorem's, in the parameters alone.
    """

    variables: tuple[Expression, ...]
    objective: Expression
    inequalities: Mapping[str, Expression]
    bound: Expression


@dataclass(frozen=True)
class Certificate:
    """A theorem's bound as a linear program.

    Parameters
    ----------
    theorem : str
        Its label in the ledger, or the name in the reference where it has none.
    program : function of a horizon
    values : mapping
        Rational parameters at which the support of the multipliers is found.
    lemmas : function
        Checks the inequalities that are not definitions; returns steps in LaTeX, raises where one fails.
    """

    theorem: str
    title: str
    program: Callable[[int], Program]
    values: Values
    lemmas: Callable[[], list[str]] = list


@dataclass(frozen=True)
class Proof:
    """Multipliers that were verified.

    Attributes
    ----------
    multipliers : dict
        From the sentence of an inequality to its multiplier, in the parameters; only those that are not zero.
    value : expression
        The best bound from these inequalities.
    slack : expression
        The theorem's bound minus `value`; every coefficient of its numerator and denominator has one sign.
    numeric : float
        The optimum of the linear program at the stated values, for comparison.
    """

    multipliers: dict[str, Expression]
    value: Expression
    slack: Expression
    numeric: float

    @property
    def tight(self) -> bool:
        """Whether the theorem's bound is the best one from these inequalities."""
        return self.slack == 0


class NotImplied(ArithmeticError):
    """The inequalities do not give the bound."""


def certify(program: Program, values: Values) -> Proof:
    """Prove that a program's inequalities imply its bound.

    Raises
    ------
    NotImplied
        Where they do not: the program is unbounded, or its optimum, verified exactly, exceeds the bound.
    ArithmeticError
        Where the multipliers of the solver can't be made exact.
    """
    import sympy
    from scipy.optimize import linprog

    at = {_parameter(name): sympy.Rational(value) for name, value in values.items()}
    rows, constants = _linear(program.inequalities.values(), program.variables)
    goal, offset = (part[0] for part in _linear([program.objective], program.variables))
    matrix, right = ([[float(x.subs(at)) for x in row] for row in rows], [-float(c.subs(at)) for c in constants])
    solved = linprog([-float(x.subs(at)) for x in goal], A_ub=matrix, b_ub=right, bounds=(None, None), method="highs")
    if solved.status != 0:
        raise NotImplied(f"the inequalities do not bound the objective: {solved.message}")
    weights = -solved.ineqlin.marginals
    support = [i for i, w in enumerate(weights) if w > 1e-9 * max(weights)]
    unknown = sympy.symbols(f"lambda:{len(support)}")
    balance = [sum(u * rows[i][j] for u, i in zip(unknown, support, strict=True)) - goal[j] for j in range(len(goal))]
    found = sympy.linsolve(balance, unknown)
    if not found or any(x.free_symbols & set(unknown) for x in next(iter(found))):
        raise ArithmeticError(f"the multipliers on {len(support)} inequalities are not unique or do not exist")
    exact = [sympy.factor(x) for x in next(iter(found))]
    value = sympy.factor(offset - sum(u * constants[i] for u, i in zip(exact, support, strict=True)))
    names = list(program.inequalities)
    multipliers = {names[i]: u for u, i in zip(exact, support, strict=True)}
    verify_multipliers(program, multipliers, value)
    slack = sympy.factor(program.bound - value)
    if not is_nonnegative(slack):
        raise NotImplied(f"the inequalities allow {value}, the bound is {program.bound}")
    return Proof(multipliers, value, slack, float(-solved.fun))


def verify_multipliers(program: Program, multipliers: Mapping[str, Expression], value: Expression) -> None:
    """Check objective = value + sum lambda_i expression_i and lambda_i >= 0; raises ArithmeticError otherwise."""
    import sympy

    combined = value + sum(u * program.inequalities[name] for name, u in multipliers.items())
    if (residual := sympy.simplify(program.objective - combined)) != 0:
        raise ArithmeticError(f"the multipliers leave the residual {residual}")
    for name, u in multipliers.items():
        if not is_nonnegative(u):
            raise ArithmeticError(f"the multiplier of {name!r} is {u}, which can be negative")


def is_nonnegative(expression: Expression) -> bool:
    """Whether every coefficient of numerator and denominator has one sign, the parameters being positive."""
    import sympy

    numerator, denominator = sympy.fraction(sympy.together(sympy.sympify(expression)))
    signs = set()
    for part in (numerator, denominator):
        symbols = sorted(part.free_symbols, key=str)
        coefficients = sympy.Poly(part, *symbols).coeffs() if symbols else [part]
        if len({c > 0 for c in coefficients if c != 0}) > 1:
            return False
        signs.add(next((bool(c > 0) for c in coefficients if c != 0), None))
    return None in signs or len(signs) == 1


def prove(name: str, horizons: tuple[int, ...] = (1, 2, 3, 4)) -> list[str]:
    """Certify a bound for several horizons; returns steps in LaTeX, raises where one is not implied."""
    import sympy

    certificate = closest(name, TABLE, "certificate")
    steps = certificate.lemmas()
    for horizon in horizons:
        proof = certify(certificate.program(horizon), certificate.values)
        weights = ",\\ ".join(sympy.latex(u) for u in dict.fromkeys(proof.multipliers.values()))
        steps.append(
            f"K={horizon}:\\quad \\lambda\\in\\{{{weights}\\}},\\quad \\text{{best }}{sympy.latex(proof.value)}"
            f",\\quad \\text{{bound}}-\\text{{best}}={sympy.latex(proof.slack)}"
        )
    return steps


def _linear(expressions, variables) -> tuple[list[list[Expression]], list[Expression]]:
    import sympy

    expressions = list(expressions)
    matrix, right = sympy.linear_eq_to_matrix(expressions, *variables)
    return matrix.tolist(), [-c for c in right]


def _parameter(name: str) -> Expression:
    import sympy

    return sympy.Symbol(name, positive=True)


def _indexed(name: str, count: int) -> tuple[Expression, ...]:
    import sympy

    return sympy.symbols(f"{name}_:{count}", real=True)


def _descent(steps: int, gain: Expression, loss: Expression) -> Program:
    """f_{k+1} <= f_k - gain g_k + loss: the smallest g is at most gap / (gain K) + loss / gain."""
    f, g = _indexed("f", steps + 1), _indexed("g", steps)
    smallest, gap = _indexed("t", 1)[0], _parameter("Delta")
    inequalities = {"f(X_0) - f(X_K) is at most the gap": f[0] - f[-1] - gap}
    for k in range(steps):
        inequalities[f"descent at step {k}"] = f[k + 1] - f[k] + gain * g[k] - loss
        inequalities[f"the smallest is at most gradient {k}"] = smallest - g[k]
    return Program((*f, *g, smallest), smallest, inequalities, gap / (gain * steps) + loss / gain)


def trust_region(steps: int) -> Program:
    """T1: the descent lemma with a step of length eta in the norm."""
    eta, smoothness = _parameter("eta"), _parameter("L")
    return _descent(steps, eta, smoothness * eta**2 / 2)


def inexact_oracle(steps: int) -> Program:
    """N6: <G, D> <= -lo |G|_* and |D| <= hi."""
    eta, smoothness, low, high = map(_parameter, ("eta", "L", "lo", "hi"))
    return _descent(steps, low * eta, smoothness * (eta * high) ** 2 / 2)


def _decrease(g: Expression) -> Expression:
    l0, l1 = _parameter("L0"), _parameter("L1")
    return g**2 / (2 * (l0 + l1 * g))


def relaxed_smoothness(steps: int) -> Program:
    """T5: the decrease is a convex function of |G|_*, hence above its tangent at eps; the gap is what K steps need."""
    import sympy

    f, g, d = _indexed("f", steps + 1), _indexed("g", steps), _indexed("d", steps)
    smallest, eps = _indexed("t", 1)[0], _parameter("eps")
    slope = sympy.factor(sympy.diff(_decrease(eps), eps))
    inequalities = {"f(X_0) - f(X_K) is at most the gap": f[0] - f[-1] - steps * _decrease(eps)}
    for k in range(steps):
        inequalities[f"decrease at step {k}"] = f[k + 1] - f[k] + d[k]
        inequalities[f"decrease {k} is above its tangent"] = _decrease(eps) + slope * (g[k] - eps) - d[k]
        inequalities[f"the smallest is at most gradient {k}"] = smallest - g[k]
    return Program((*f, *g, *d, smallest), smallest, inequalities, eps)


def _tangent_lemma() -> list[str]:
    import sympy

    g, eps = _parameter("g"), _parameter("eps")
    gap = sympy.factor(_decrease(g) - _decrease(eps) - sympy.diff(_decrease(eps), eps) * (g - eps))
    square = sympy.factor(gap / (g - eps) ** 2)
    if not is_nonnegative(square):
        raise ArithmeticError(f"the decrease is not above its tangent: {gap}")
    return [f"\\varphi(g)-\\varphi(\\varepsilon)-\\varphi'(\\varepsilon)(g-\\varepsilon)={sympy.latex(gap)}\\ge0"]


def frank_wolfe(steps: int, *, shrinking: bool = False) -> Program:
    """T3: star-convexity, the LMO against the minimizer, the descent lemma with a step of length at most 2 R gamma.

    gamma = 1 / (1 + u), u > 0; with `shrinking` gamma_k = 2 / (k + 2).
    """
    import sympy

    radius, smoothness, u = map(_parameter, ("R", "L", "u"))
    delta, dual = _indexed("delta", steps + 1), _indexed("g", steps)
    now, best = _indexed("x", steps), _indexed("y", steps)  # <G, X_k> and <G, X*>
    start = _parameter("delta0")
    inequalities = {"the first gap": delta[0] - start}
    for k in range(steps):
        gamma = sympy.Rational(2, k + 2) if shrinking else 1 / (1 + u)
        step = gamma * (-radius * dual[k] - now[k])
        inequalities[f"descent at step {k}"] = delta[k + 1] - delta[k] - step - 2 * smoothness * (radius * gamma) ** 2
        inequalities[f"star-convexity at step {k}"] = delta[k] - (now[k] - best[k])
        inequalities[f"the minimizer is feasible, step {k}"] = -best[k] - radius * dual[k]
    constant = (1 - 1 / (1 + u)) ** steps * start + 2 * smoothness * radius**2 / (1 + u)
    bound = 8 * smoothness * radius**2 / (steps + 2) if shrinking else sympy.together(constant)
    return Program((*delta, *dual, *now, *best), delta[-1], inequalities, bound)


def lion_k(steps: int) -> Program:
    """L3: the mean score, with e_k = |M_k + G_k| the lag of the momentum; beta1 = 1/(1+u), 1 - beta2 = 1/(1+w)."""
    eta, smoothness, gap, u, w = map(_parameter, ("eta", "L", "Delta", "u", "w"))
    beta1, rest = 1 / (1 + u), 1 / (1 + w)
    f, score, lag = _indexed("f", steps + 1), _indexed("S", steps), _indexed("e", steps)
    inequalities = {"f(X_0) - f(X_K) is at most the gap": f[0] - f[-1] - gap, "the momentum starts exact": lag[0]}
    for k in range(steps):
        error = 2 * eta * beta1 * lag[k]
        inequalities[f"descent at step {k}"] = f[k + 1] - f[k] + eta * score[k] - error - 2 * smoothness * eta**2
        if k + 1 < steps:
            inequalities[f"drift at step {k}"] = lag[k + 1] - (1 - rest) * lag[k] - 2 * smoothness * eta
    bound = gap / (eta * steps) + 2 * smoothness * eta + 4 * smoothness * eta * beta1 / rest
    return Program((*f, *score, *lag), sum(score) / steps, inequalities, bound)


_STEP = {"eta": "1/7", "L": "3", "Delta": "2"}
_BALL = {"R": "3/2", "L": "2", "u": "4", "delta0": "5"}
TABLE: dict[str, Certificate] = {
    certificate.theorem: certificate
    for certificate in (
        Certificate("trust-region-nonconvex", "T1, fixed-radius steepest descent", trust_region, _STEP),
        Certificate("inexact-oracle", "N6, an inexact oracle", inexact_oracle, {**_STEP, "lo": "2/3", "hi": "6/5"}),
        Certificate("relaxed-smoothness", "T5, (L0, L1)-smoothness", relaxed_smoothness,
                    {"L0": "2", "L1": "3", "eps": "1/5"}, _tangent_lemma),
        Certificate("constrained-star-convex", "T3, weight decay as Frank-Wolfe", frank_wolfe, _BALL),
        Certificate("constrained-star-convex-shrinking", "T3 with gamma_k = 2 / (k + 2)",
                    lambda steps: frank_wolfe(steps, shrinking=True), _BALL),
        Certificate("lion-k-discrete", "L3, the score of Lion-K", lion_k, {**_STEP, "u": "1/9", "w": "99"}),
    )
}  # fmt: skip
