"""Derivations about averages and noise: what momentum leaves of it, and what a sign or a polar factor pays."""

from __future__ import annotations

from .derivations import Derivation, _vanishes


def average_variance() -> Derivation:
    """Derive the variance of e <- (1 - a) e + a xi, Var xi = s^2: s^2 a / (2 - a) at constant a, s^2 / K at 1/(k+1)."""
    import sympy as sp

    a, s, v, k = sp.symbols("a sigma v k", positive=True)
    recursion = (1 - a) ** 2 * v + a**2 * s**2
    (fixed,) = sp.solve(sp.Eq(v, recursion), v)
    _vanishes(fixed - s**2 * a / (2 - a), "the fixed point")
    step = recursion.subs({a: 1 / (k + 1), v: s**2 / k})
    _vanishes(step - s**2 / (k + 1), "the induction of the plain average")
    return Derivation(
        "The noise in an average",
        (
            ("variance of one step", "v_+", recursion),
            ("fixed point", "v", sp.factor(fixed)),
            (r"from $v=\sigma^2/k$ with $a=1/(k+1)$", "v_+", sp.simplify(step)),
        ),
        {"constant": fixed, "plain": s**2 / k},
    )


def extrapolation(size: int = 2) -> Derivation:
    """Derive, for a symmetric H of symbols, that momentum at Y = X + ((1-a)/a)(X - X_-) lags by nothing.

    The same with the gradient at X leaves the drift -(1 - a) H (X - X_-).
    """
    import sympy as sp

    a = sp.symbols("a", positive=True)
    h = sp.Matrix(size, size, lambda i, j: sp.Symbol(f"h{min(i, j)}{max(i, j)}"))
    x, before, error, xi = (sp.Matrix(sp.symbols(f"{name}0:{size}")) for name in ("x", "y", "e", "xi"))
    momentum = h * before + error  # M_- = grad(X_-) + e_-

    def lag(point):
        return ((1 - a) * momentum + a * (h * point + xi) - h * x).applyfunc(sp.expand)

    averaged = ((1 - a) * error + a * xi).applyfunc(sp.expand)
    extrapolated = lag(x + (1 - a) / a * (x - before))
    _vanishes(sum((entry**2 for entry in extrapolated - averaged), sp.Integer(0)), "the lag of extrapolated momentum")
    pull = (a * h * (x + (1 - a) / a * (x - before)) - h * x).applyfunc(lambda e: sp.factor(sp.expand(e)))
    drift = (lag(x) - averaged).applyfunc(sp.factor)
    _vanishes(sum((e**2 for e in drift + (1 - a) * h * (x - before)), sp.Integer(0)), "the drift of plain momentum")
    return Derivation(
        "Extrapolation cancels the lag",
        (
            (r"at $Y=X+\frac{1-a}{a}(X-X_-)$, where $x$ and $y$ are $X$ and $X_-$", "aHY-HX", pull),
            (r"which cancels $(1-a)HX_-$ in the momentum", "M-HX", extrapolated),
            ("gradient at $X$ instead, the drift in addition", "-(1-a)H(X-X_-)", drift),
        ),
        {"extrapolated": list(extrapolated), "drift": list(drift)},
    )


def sign_floor() -> Derivation:
    """Derive the floor of sign descent under strong Gaussian noise, eta sigma sqrt(pi/2) / 4, whatever the curvature.

    From the exact balance E[x erf(h x / (sqrt 2 sigma))] = eta / 2 (theorem `sign-floor-identity`), to leading order
    in h x / sigma.
    """
    import sympy as sp

    x, h, sigma, eta, second = sp.symbols("x h sigma eta m2", positive=True)
    series = sp.series(x * sp.erf(h * x / (sp.sqrt(2) * sigma)), x, 0, 4).removeO()
    balance = sp.Eq(series.subs(x**2, second), eta / 2)
    (moment,) = sp.solve(balance, second)
    floor = sp.simplify(h * moment / 2)
    _vanishes(floor - eta * sigma * sp.sqrt(sp.pi / 2) / 4, "the floor")
    return Derivation(
        "The floor of sign descent",
        (
            ("leading term", r"x\,\mathrm{erf}\frac{hx}{\sqrt2\sigma}", series),
            (r"balance, with $m_2=\mathbb{E}x^2$", "", balance),
            ("loss", r"f_\infty=\frac{h\,m_2}{2}", floor),
        ),
        {"floor": floor},
    )


def strong_noise_price() -> Derivation:
    """Derive what a polar factor pays under strong noise: its floor over that of gradient descent at equal speed.

    A step of radius eta moves like gradient descent of rate eta nu / (mn sigma), nu = E |Z|_*. At that rate gradient
    descent has the floor mn sigma^2 rate / 4 (theorem `heavy-ball-variance` without momentum, small rate); the spectral
    floor is that of theorem `spectral-noise-floor`. The quotient r mn / nu^2 is at least 1, as |Z|_*^2 <= r |Z|_F^2.
    """
    import sympy as sp

    m, n, r, sigma, eta, nu, h = sp.symbols("m n r sigma eta nu h", positive=True)
    variance = eta * sigma**2 / (h * (2 - eta * h))  # of one mode under SGD of rate eta
    rate = eta * nu / (m * n * sigma)
    gradient = m * n * sp.limit(h * variance / 2 / eta, eta, 0) * rate
    spectral = r * m * n * sigma * eta / (4 * nu)
    price = sp.simplify(spectral / gradient)
    _vanishes(price - r * m * n / nu**2, "the price")
    scalar = price.subs({m: 1, n: 1, r: 1, nu: sp.sqrt(2 / sp.pi)})
    large = sp.simplify(price.subs({m: n, r: n, nu: 8 * n ** sp.Rational(3, 2) / (3 * sp.pi)}))
    return Derivation(
        "The price of a polar factor under strong noise",
        (
            ("rate of the same speed", r"\eta_{\mathrm{GD}}", rate),
            ("floor of gradient descent there", "", gradient),
            ("spectral floor", "", spectral),
            ("quotient", "", price),
            (r"one entry, $\nu=\sqrt{2/\pi}$", "", sp.simplify(scalar)),
            (r"large and square, $\nu\to\frac{8}{3\pi}n^{3/2}$", "", large),
        ),
        {"price": price, "scalar": scalar, "square": large},
    )
