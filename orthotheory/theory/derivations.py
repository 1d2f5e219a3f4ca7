"""Derivations as executable proofs: SymPy steps that a notebook renders, ended by the formula that the code uses.

Each function derives its result from a definition and raises ArithmeticError where a residual is not zero. The tests
compare every result with the numeric object it justifies, and with a wrong one. Proofs that belong to one theorem are
that theorem's `proof`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

Expression = Any  # of SymPy, which is imported only where a derivation runs


@dataclass(frozen=True)
class Derivation:
    """What is derived, in which steps (a text, the LaTeX of what equals the expression or nothing, the expression)."""

    title: str
    steps: tuple[tuple[str, str, Expression], ...]
    results: dict[str, Expression]

    def markdown(self) -> str:
        """Return the title and the steps as a numbered list with formulas, as a notebook shows it."""
        import sympy

        lines = [f"**{self.title}.**", ""]
        for i, (text, name, expression) in enumerate(self.steps, start=1):
            lines.append(f"{i}. {text}: $\\displaystyle {name + '=' if name else ''}{sympy.latex(expression)}$")
        return "\n".join(lines)

    def numeric(self, name: str, symbols: Sequence[str]) -> Callable[..., Any]:
        """Return a result as a function of numbers, in the order of the named symbols."""
        import sympy

        expression = self.results[name]
        flat = [expression] if isinstance(expression, sympy.Basic) else list(expression)
        known = {s.name: s for e in flat for s in e.free_symbols}
        missing = [s for s in known if s not in symbols]
        if missing:
            raise ValueError(f"{name} depends on {', '.join(sorted(known))}; name them all, {missing} is missing.")
        return sympy.lambdify([known.get(s, sympy.Symbol(s)) for s in symbols], expression)


def _vanishes(residual: Expression, what: str) -> None:
    import sympy

    if sympy.simplify(residual) != 0:
        raise ArithmeticError(f"{what}: the residual is {residual}")


def newton_schulz(order: int) -> Derivation:
    """Derive the odd polynomial of least degree with p(1) = 1 and order - 1 vanishing derivatives there.

    Its complement 1 - p has a zero of that order at 1: convergence of that order. Orders 2 and 3 are the cubic and
    the quintic of Newton and Schulz.
    """
    import sympy as sp

    x = sp.symbols("x")
    c = sp.symbols(f"c0:{order}")
    p = sum(ci * x ** (2 * i + 1) for i, ci in enumerate(c))
    conditions = [sp.Eq(sp.diff(p, x, k).subs(x, 1), int(k == 0)) for k in range(order)]
    solution = sp.solve(conditions, c)
    p = p.subs(solution)
    factored = sp.factor(1 - p)
    for k in range(order):
        _vanishes(sp.diff(1 - p, x, k).subs(x, 1), f"derivative {k} of 1 - p at 1")
    if sp.diff(p, x, order).subs(x, 1) == 0:
        raise ArithmeticError("the zero at 1 has a higher order than asked for")
    return Derivation(
        f"Newton-Schulz of order {order}",
        (
            (r"$p(1)=1$, $p'(1)=0$, and so on", "", conditions),
            ("solved", "c", [solution[ci] for ci in c]),
            ("the zero at 1", "1-p(x)", factored),
            ("what small singular values grow by", "p'(0)", sp.diff(p, x).subs(x, 0)),
        ),
        {"coefficients": [solution[ci] for ci in c], "complement": factored},
    )


def lmo(p: Expression, rank: int = 3) -> Derivation:
    """Derive the LMO of an l_p ball, and so of a Schatten ball, by Lagrange: max <g, x> over sum x_i^p = 1, g > 0.

    A linear function over a strictly convex ball has one maximum, so that the stationary point is it; signs and
    singular vectors follow by symmetry. The multiplier of the norm constraint is the dual norm, sum(g^q)^(1/q).
    """
    import sympy as sp

    p = sp.nsimplify(p)
    if not p > 1:
        raise ValueError(f"The ball is strictly convex for p > 1; got {p}.")
    q = p / (p - 1)
    g, x = sp.symbols(f"g1:{rank + 1}", positive=True), sp.symbols(f"x1:{rank + 1}", positive=True)
    t = sp.symbols("lambda", positive=True)
    lagrangian = sum(gi * xi for gi, xi in zip(g, x, strict=True)) - t / p * (sum(xi**p for xi in x) - 1)
    stationary = [sp.solve(sp.diff(lagrangian, xi), xi)[0] for xi in x]
    # every x_i^p is (g_i / t)^q: the constraint reads sum g^q = t^q
    for xi, gi in zip(stationary, g, strict=True):
        _vanishes(sp.powsimp(sp.expand_power_base(xi**p / (gi / t) ** q)) - 1, "the power of a stationary point")
    dual = sum(gi**q for gi in g) ** (1 / q)
    solution = [xi.subs(t, dual) for xi in stationary]
    # x_i = (g_i / dual)^(q - 1), so that <g, x> = sum g^q / dual^(q - 1) = dual
    for xi, gi in zip(solution, g, strict=True):
        _vanishes(sp.log(xi).expand(force=True) - ((q - 1) * sp.log(gi / dual)).expand(force=True), "the maximizer")
    return Derivation(
        f"The LMO of the Schatten-{p} ball",
        (
            ("Lagrangian", "", lagrangian),
            ("stationary", "0", sp.diff(lagrangian, x[0])),
            ("solved", "x_1", stationary[0]),
            ("the constraint gives the multiplier, which is the dual norm", r"\lambda", dual),
            ("maximizer", "x_1", solution[0]),
        ),
        {"maximizer": solution, "dual": dual},
    )


def commuting_smoothness(p: Expression = None, rank: int = 3) -> Derivation:
    """Derive sup <D, H D> over a Schatten-p ball, p > 2 (None: spectral), for D that commutes with H = B (x) A.

    There <D, H D> = sum a_i b_i d_i^2. The spectral ball has d_i^2 <= 1; otherwise u_i = d_i^2 lies in an l_{p/2} ball
    and the supremum is the dual l_{p/(p-2)} norm of the products. That sorting both spectra alike is best is
    `exchange`; that nothing outside the commuting case does better is the proof of theorem `smoothness-quadratic`.
    """
    import sympy as sp

    a, b = sp.symbols(f"a1:{rank + 1}", positive=True), sp.symbols(f"b1:{rank + 1}", positive=True)
    d = sp.symbols(f"d1:{rank + 1}", real=True)
    form = (sp.diag(*d).T * sp.diag(*a) * sp.diag(*d) * sp.diag(*b)).trace()
    h = [ai * bi for ai, bi in zip(a, b, strict=True)]
    _vanishes(form - sum(hi * di**2 for hi, di in zip(h, d, strict=True)), "the form on diagonal directions")
    steps = [("on commuting directions", r"\langle D,ADB\rangle", form)]
    if p is None:
        value = sum(h)
        _vanishes(form.subs({di: 1 for di in d}) - value, "the form at d = 1")
        steps.append((r"with $d_i^2\le1$ it is largest at 1", "L", value))
        return Derivation("Smoothness in the spectral norm", tuple(steps), {"smoothness": value})
    p = sp.nsimplify(p)
    if not p > 2:
        raise ValueError(f"For p <= 2 the form is largest at rank one; got {p}.")
    inner = lmo(p / 2, rank)  # over u = d^2 in the l_{p/2} ball, with the products as gradient
    symbols = sp.symbols(f"g1:{rank + 1}", positive=True)
    value = inner.results["dual"].subs(dict(zip(symbols, h, strict=True)), simultaneous=True)
    power = p / (p - 2)
    _vanishes(value**power - sum(hi**power for hi in h), "the dual norm of the products")
    u = sp.symbols(f"u1:{rank + 1}", positive=True)
    ball = rf"linear in $u_i=d_i^2$, which lies in the $\ell_{{{sp.latex(p / 2)}}}$ ball"
    steps += [
        (ball, r"\langle D,ADB\rangle", sum(hi * ui for hi, ui in zip(h, u, strict=True))),
        (rf"its dual norm, of exponent ${sp.latex(power)}$, by Lagrange as for the LMO", "L", value),
    ]
    return Derivation(f"Smoothness in the Schatten-{p} norm", tuple(steps), {"smoothness": value})


def exchange() -> Derivation:
    """Derive what undoing one inversion gains: sorting both spectra alike makes sum a_i b_{pi(i)} largest."""
    import sympy as sp

    a1, a2, b1, b2 = sp.symbols("a1 a2 b1 b2", positive=True)
    gain = sp.factor((a1 * b1 + a2 * b2) - (a1 * b2 + a2 * b1))
    _vanishes(gain - (a1 - a2) * (b1 - b2), "the gain of an exchange")
    step = ("undoing an inversion gains", r"(a_1b_1+a_2b_2)-(a_1b_2+a_2b_1)", gain)
    return Derivation("Sorting both spectra alike", (step,), {"gain": gain})


def heavy_ball_double_root() -> Derivation:
    """Derive x_k = (-r)^k (1 + k (1 + r)) x_0 at h = L under Polyak's constants, r = (sqrt k - 1)/(sqrt k + 1)."""
    import sympy as sp

    z, r, k = sp.symbols("z r k", positive=True)
    s = (1 + r) / (1 - r)  # sqrt(L / mu); mu = 1
    momentum, lr_h = sp.simplify(((s - 1) / (s + 1)) ** 2), sp.simplify(4 / (s + 1) ** 2 * s**2)
    polynomial = z**2 - (1 + momentum - lr_h) * z + momentum
    _vanishes(polynomial - (z + r) ** 2, "the characteristic polynomial")
    closed = (-r) ** k * (1 + k * (1 + r))
    moved = closed.subs(k, k + 2) - (1 + momentum - lr_h) * closed.subs(k, k + 1) + momentum * closed
    _vanishes(sp.expand(moved / (-r) ** k), "the recurrence")
    _vanishes(closed.subs(k, 0) - 1, "the start")
    _vanishes(closed.subs(k, 1) - (1 - lr_h), "the first step, from x_{-1} = x_0")
    return Derivation(
        "The double root of heavy ball",
        (
            (r"Polyak's constants at $h=L$", r"(b,\ \eta L)", (momentum, sp.factor(lr_h))),
            ("characteristic polynomial", r"z^2-(1+b-\eta L)z+b", sp.factor(polynomial)),
            ("both solutions of a double root, from $x_{-1}=x_0$", r"\frac{x_k}{x_0}", closed),
        ),
        {"errors": closed},
    )


def lion_k_dissipation() -> Derivation:
    """Derive dH/dt of the Lion-K flow from its two equations, the pairings as products of commuting symbols.

    M, T, Y stand for the arguments and U, V, Z for grad K(M), grad K(T) and lambda X = grad K(Y): every term pairs one
    of the former with one of the latter. Both products of the result are nonnegative because grad K is monotone.
    """
    import sympy as sp

    m, t, y, u, v, z = sp.symbols("M T Y U V Z")
    gamma, epsilon, decay = sp.symbols("gamma epsilon lambda", positive=True)
    c = (1 - epsilon * gamma) / (1 + epsilon * decay)
    dm, dx = (t - m) / epsilon, v - z  # M' from T = M + epsilon M', and X'
    gradient = -dm - gamma * m  # alpha grad f, from the equation of M'
    loss, barrier = gradient * dx, gamma * y * dx  # <grad K*(lambda X), lambda X'> = <Y, lambda X'>
    coupling = decay * y * dx + u * dm - dm * z - decay * m * dx
    slope = loss + barrier + c * coupling
    factors = (gamma + decay) / (1 + epsilon * decay), c / epsilon
    claimed = -factors[0] * (t - y) * (v - z) - factors[1] * (t - m) * (v - u)
    _vanishes(sp.expand(slope - claimed), "the dissipation")
    return Derivation(
        "Dissipation of the Lion-K flow",
        (
            ("the equations", r"(M',\ X',\ \alpha\nabla f)", (dm, dx, gradient)),
            ("loss", r"\alpha\frac{df}{dt}", loss),
            ("barrier", r"\frac{\gamma}{\lambda}\frac{d}{dt}K^*(\lambda X)", barrier),
            ("coupling, to be multiplied by $c$", r"\frac{d}{dt}[K^*+K-\lambda\langle M,X\rangle]", coupling),
            ("the factor", "c", c),
            ("the sum, factored", r"\frac{dH}{dt}", claimed),
        ),
        {"slope": slope, "dissipation": [factors[0] * (t - y) * (v - z), factors[1] * (t - m) * (v - u)]},
    )
