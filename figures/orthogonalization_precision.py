"""Error against condition number in four precisions, with the floor that the rounded input leaves to any algorithm."""

from dataclasses import replace

import numpy as np

from orthotheory.plotting import COLORS, Figure
from orthotheory.polar import Normalization, polar_express
from orthotheory.polar.engine import apply
from orthotheory.polar.lint import HEADROOM
from orthotheory.polar.minimax import compose
from orthotheory.polar.precision import FORMATS, default_methods, log_spaced, precision_floors

EXACT = Normalization(bound="exact")
DTYPES = ("float64", "float32", "float16", "bfloat16")
UNIT = {"float64": 2.0**-53} | {name: kind.unit for name, kind in FORMATS.items()}
FLOOR, PLAIN, SAFE = "exact factor of the rounded input", "optimal quintics", "the same, safety factor"
EXPRESS, ONCE, GRAM = "Polar Express", "Gram side, one restart", "Gram side"
METHODS = (FLOOR, PLAIN, SAFE, EXPRESS, ONCE, GRAM)


def quintics(condition, dtype, safe=True):
    """Return optimal quintics from 1 / condition, as many as bring the error below the unit roundoff.

    `safe` means with twice the safety factor that the linter asks for.
    """
    steps, safety = 1, 1 + safe * 4 * HEADROOM * UNIT[dtype]
    while (chain := compose((5,) * steps, 1 / condition, safety=safety)).error > UNIT[dtype] / 8:
        steps += 1
    return replace(chain.schedule("optimal"), normalization=EXACT)


def in_blocks(kind, steps, x, blocks):
    """Run steps composed on the Gram matrix, every product rounded to the format; X is updated once a block."""
    eye, start = np.eye(len(x), dtype=np.float32), 0
    for size in blocks:
        gram, total = kind.product(x, x.T), None
        for a, b, c in steps[start : start + size]:
            h = kind.round(a * eye + kind.product(gram, gram, alpha=c, beta=b, c=gram))
            total = h if total is None else kind.product(total, h)
            gram = kind.product(kind.product(gram, h), h)
        start += size
        x = kind.product(total, x)
    return x


def run(dtype, method, g, condition):
    """Return what a method makes of a matrix in a precision."""
    kind = FORMATS.get(dtype)
    if method == FLOOR:
        u, _, vh = np.linalg.svd((kind.round(g) if kind else g).astype(float), full_matrices=False)
        return u @ vh
    if method == EXPRESS:
        schedule = replace(polar_express(24), normalization=replace(EXACT, safety=1.01))
    else:
        schedule = quintics(condition, dtype, safe=method != PLAIN)
    k = schedule.steps
    blocks = {GRAM: (k,), ONCE: (k // 2, k - k // 2)}.get(method, (1,) * k)
    if kind is None:
        return apply(g, schedule.coefficients, blocks, schedule.normalization)
    if len(blocks) < k:
        return in_blocks(kind, schedule.coefficients, kind.round(EXACT(g)), blocks)
    return kind.apply(schedule, g)


def data(size):
    side, draws, points = (32, 1, 6) if size == "smoke" else (96, 3, 13)
    conditions = np.geomspace(10, 1e7, points)
    out = {"condition": conditions, "side": np.array(side)}
    for dtype in DTYPES:
        errors = np.empty((len(METHODS), points, draws))
        for j, condition in enumerate(conditions):
            for draw in range(draws):
                g, factor = log_spaced((side, side), condition, draw)
                for i, method in enumerate(METHODS):
                    with np.errstate(all="ignore"):
                        x = np.asarray(run(dtype, method, g, condition), dtype=float)
                    errors[i, j, draw] = np.linalg.norm(x - factor, 2) if np.isfinite(x).all() else np.inf
        out[dtype] = errors.max(axis=-1)
    for dtype in DTYPES[1:]:
        methods = default_methods(1e3)
        plain = methods.pop("minimax quintics")
        chosen = {PLAIN: plain, SAFE: quintics(1e3, dtype), **methods}
        rows = precision_floors(chosen, dtypes=(dtype,), **({"side": 48, "draws": 2} if size == "smoke" else {}))
        out["floors methods"] = np.array(["floor", *chosen])
        # medians, and how many draws diverged, by aspect and method
        out[f"floors {dtype}"] = np.array([(r.median, r.failed) for r in rows]).reshape(2, len(chosen) + 1, 2)
        out["floors draws"] = np.array(rows[0].draws)
    return out


LOOK = {
    FLOOR: ("black", "-", 1.8), PLAIN: ("sky", "-", 1.0), SAFE: ("blue", "-", 1.0), EXPRESS: ("orange", "--", 1.0),
    ONCE: ("green", "--", 1.0), GRAM: ("green", "-", 1.0),
}  # fmt: skip
TOP = 10.0


def draw(data, fig):
    axes = fig.subplots(1, 4, sharey=True)
    for ax, dtype in zip(axes, DTYPES, strict=True):
        for method, errors in zip(METHODS, data[dtype], strict=True):
            color, ls, lw = LOOK[method]
            lines = ax.plot(data["condition"], np.minimum(errors, TOP), ls=ls, lw=lw, color=COLORS[color])
            if dtype == "float64":
                lines[0].set_label(method)
        ax.text(0.95, 0.04, dtype, transform=ax.transAxes, fontsize=8, ha="right")
        ax.set(xscale="log", yscale="log", xlim=(10, 1e7), ylim=(1e-15, TOP), xlabel=r"condition number")
        ax.set_xticks([1e1, 1e3, 1e5, 1e7])
    axes[0].set_ylabel(r"$\|X-\mathrm{polar}(G)\|_2$")
    fig.legend(loc="outside lower center", ncols=3, fontsize=7.5, handlelength=1.8)


def numbers(data):
    out = {"side": int(data["side"])}
    at = int(np.argmin(np.abs(np.log(data["condition"] / 1e3))))
    for dtype in DTYPES:
        rows = zip(METHODS, data[dtype][:, at], strict=True)
        out |= {f"{dtype} {method}": float(error) for method, error in rows if error < TOP}
    return out


FIGURE = Figure(
    name="orthogonalization-precision",
    caption=(
        r"Spectral-norm error against condition number, log-spaced singular values, square matrices of side "
        r"\result{orthogonalization-precision}{side}, the worst of three draws; products rounded to the format after accumulation in float32. "
        r"Black: the exact polar factor of the rounded input, which no algorithm avoids (Theorem "
        r"\texttt{input-rounding-floor}). Direct iterations stay near it, if a safety factor keeps singular values that "
        r"rounding lifts above 1 from diverging. Steps composed on one Gram matrix square the condition number; a restart "
        r"helps and is not enough. Errors above 10 and divergence are drawn at the top."
    ),
    shows=("input-rounding-floor",),
    data=data,
    draw=draw,
    numbers=numbers,
    size=(6.5, 2.9),
)
