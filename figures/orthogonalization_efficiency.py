"""What an optimizer needs of an orthogonalization, its LMO efficiency, against cost."""

import numpy as np

from orthotheory.plotting import COLORS, Figure
from orthotheory.polar import MUON_QUINTIC, Normalization, polar_express
from orthotheory.polar.cost import COUNTS
from orthotheory.polar.gaussian import Spectrum, marchenko_pastur
from orthotheory.polar.planner import best_interval, predicted_efficiency
from orthotheory.polar.sequences import design

CONDITION = 1e3
SPECTRA = ("Gaussian", "log-spaced")
EXACT, FROBENIUS = Normalization(bound="exact"), Normalization()
PUBLISHED = {
    "Muon": [(MUON_QUINTIC.coefficients[:1] * k, FROBENIUS) for k in range(1, 9)],
    "Polar Express": [(polar_express(k).coefficients, Normalization(safety=1.01)) for k in range(1, 8)],
}
DESIGNED = {
    "optimal quintics": ([(5,) * k for k in range(1, 7)], FROBENIUS),
    "the same, norm known": ([(5,) * k for k in range(1, 6)], EXACT),
    "Zolotarev, norm known": ([(-1,), (-2,), (-3,), (-4,), (-2, -2)], EXACT),
}


def spectra(n):
    """Return what the steps are designed for and what they meet, by name: a Gaussian draw, and log-spaced values."""
    s = np.linalg.svd(np.random.default_rng(0).standard_normal((n, n)), compute_uv=False)
    spaced = Spectrum(np.geomspace(1, 1 / CONDITION, n), np.full(n, 1 / n))
    return {
        "Gaussian": (marchenko_pastur((n, n)), Spectrum(s / s[0], np.full(n, 1 / n))),
        "log-spaced": (spaced, spaced),
    }


def cost(kinds):
    """Return the products of a square matrix; restarts are free there."""
    return COUNTS.composed(sum(map(COUNTS.inner, kinds)), len(kinds), 1, 0, 1.0)


def data(size):
    n = 64 if size == "smoke" else 256
    out = {"n": np.array(n)}
    for spectrum, (expected, met) in spectra(n).items():
        weights = met.weights
        for name, tables in PUBLISHED.items():
            out[f"{name}|{spectrum}"] = np.array([
                (cost((5,) * len(rows)), predicted_efficiency(rows, met.normalized(norm, (n, n)), weights))
                for rows, norm in tables
            ]).T  # fmt: skip
        for name, (sequences, norm) in DESIGNED.items():
            points = []
            for kinds in sequences:
                low, _ = best_interval(kinds, expected.normalized(norm, (n, n)), expected.weights)
                s = met.normalized(norm, (n, n))
                points.append((cost(kinds), predicted_efficiency(design(kinds, low)[0], s, weights)))
            out[f"{name}|{spectrum}"] = np.array(points).T
    return out


# Color, and where the label stands: panel, cost, lost efficiency.
LOOK = {
    "Muon": ("vermilion", (0, 14.0, 0.32)),
    "Polar Express": ("orange", (0, 11.8, 0.025)),
    "optimal quintics": ("sky", (0, 6.5, 0.06)),
    "the same, norm known": ("blue", (1, 4.1, 0.0065)),
    "Zolotarev, norm known": ("green", (1, 4.1, 0.0017)),
}
TEXTS = {
    "optimal quintics": "optimal\nquintics,\nFrobenius",
    "the same, norm known": "quintics,\n$\\sigma_1$ known",
    "Zolotarev, norm known": "Zolotarev,\n$\\sigma_1$ known",
}


def draw(data, fig):
    axes = fig.subplots(1, 2, sharey=True)
    for ax, spectrum in zip(axes, SPECTRA, strict=True):
        for name, (color, _) in LOOK.items():
            costs, efficiency = data[f"{name}|{spectrum}"]
            ax.plot(costs, 1 - efficiency, "o-", ms=3, color=COLORS[color])
        ax.set(yscale="log", xlim=(0, 18), ylim=(1e-3, 1), xlabel="cost in products", xticks=range(0, 19, 3))
    for name, (color, (panel, cost, lost)) in LOOK.items():
        axes[panel].text(cost, lost, TEXTS.get(name, name), color=COLORS[color], fontsize=8, va="center")
    axes[0].text(17.8, 1.0, "Gaussian", fontsize=8, va="top", ha="right")
    axes[1].text(17.8, 1.0, "log-spaced, $\\kappa=10^3$", fontsize=8, va="top", ha="right")
    axes[0].set_ylabel("efficiency lost, $1-e$")


def numbers(data):
    out = {"n": int(data["n"])}
    for spectrum in SPECTRA:
        out[f"Muon {spectrum}"] = float(data[f"Muon|{spectrum}"][1][4])
        out[f"four quintics {spectrum}"] = float(data[f"optimal quintics|{spectrum}"][1][3])
    return out


FIGURE = Figure(
    name="orthogonalization-efficiency",
    caption=(
        r"What steepest descent in the spectral norm loses to an inexact polar factor: $1-e$ with "
        r"$e=\langle G,X\rangle/(\|X\|_2\|G\|_*)$, against cost, for square matrices of side "
        r"\result{orthogonalization-efficiency}{n}. Muon's five quintics have "
        r"$e=\result{orthogonalization-efficiency}{Muon Gaussian}$ and \result{orthogonalization-efficiency}{Muon log-spaced}; "
        r"more of them, or the first steps of Polar Express, do not help. Optimal quintics from the best $\ell$ are "
        r"designed for the limiting spectrum (Marchenko--Pastur) and met by a draw. Knowing $\sigma_1$ saves a step or more, "
        r"and a single Zolotarev step, half a product per pole by operation counts, does the work of three quintics."
    ),
    shows=("lmo-efficiency",),
    data=data,
    draw=draw,
    numbers=numbers,
    size=(6.5, 2.8),
)
