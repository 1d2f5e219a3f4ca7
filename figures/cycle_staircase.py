"""The cycle of fixed-step spectral descent: errors walk down a staircase, whatever the curvature, to their rest mod eta."""

import numpy as np

from orthotheory import loop, norms
from orthotheory.methods import TrustRegion
from orthotheory.plotting import COLORS, Figure
from orthotheory.problems import KroneckerQuadratic, log_spectrum
from orthotheory.theory.cycle import RECORD, common_basis, staircase

LR = 0.11
LINES = (COLORS["vermilion"], COLORS["blue"], COLORS["green"], COLORS["purple"])


def data(size):
    curvatures = np.diag(log_spectrum(4, 250.0))
    optimum, start = np.zeros((4, 4)), np.diag([0.6, 0.95, 0.35, 0.8])
    problem = KroneckerQuadratic(curvatures, np.eye(4), optimum, start)
    trace = loop.run(problem, TrustRegion(norms.Spectral(), lr=LR), 26, record=RECORD)
    basis = common_basis(trace)
    s = basis.coordinates
    sign = np.sign(s[0])
    smoothness = float(problem.smoothness(norms.Spectral()))
    return {
        "k": trace.k, "measured": s * sign, "predicted": staircase(s[0], LR, 26) * sign,
        "rest": np.abs(s[0]) % LR, "curvature": basis.curvatures,
        "gradient": trace["gradient_norm"], "floor": np.array(smoothness * LR / 2),
    }  # fmt: skip


def draw(data, fig):
    left, right = fig.subplots(1, 2, width_ratios=(1.5, 1))
    k = data["k"]
    for i, color in enumerate(LINES):
        left.step(k, data["predicted"][:, i], where="post", color=color, lw=0.9, alpha=0.7)
        left.plot(k, data["measured"][:, i], "o", ms=3, color=color)
        left.annotate(
            rf"$h_{i + 1}={data['curvature'][i]:.2g}$",
            (k[0], data["measured"][0, i]),
            (-4, 0),
            ha="right",
            textcoords="offset points",
            color=color,
            va="center",
            fontsize=8,
        )
    left.axhspan(-LR, LR, color=COLORS["gray"], alpha=0.15, lw=0)
    left.axhline(0, color=COLORS["gray"], lw=0.6)
    left.annotate(
        r"$\pm\eta$", (k[-1], LR), (3, 0), textcoords="offset points", fontsize=8, va="center", annotation_clip=False
    )
    left.set(
        xlabel="step $k$",
        ylabel=r"error coordinate $s_i(k)$",
        xlim=(-7, k[-1]),
        ylim=(-0.15, 1.05),
        xticks=range(0, 26, 5),
    )
    mean = (data["gradient"][:-1] + data["gradient"][1:]) / 2
    right.plot(k, data["gradient"], "o", ms=2.5, color=COLORS["sky"])
    right.plot(k[:-1] + 0.5, mean, color=COLORS["blue"])
    right.axhline(float(data["floor"]), color=COLORS["blue"], ls=(0, (4, 2)), lw=0.9)
    right.annotate(
        r"$L\eta/2$",
        (k[0], float(data["floor"])),
        (0, -9),
        textcoords="offset points",
        fontsize=8,
        color=COLORS["blue"],
    )
    right.set(xlabel="step $k$", ylabel=r"$\|\nabla f(X_k)\|_*$", yscale="log")


FIGURE = Figure(
    name="cycle-staircase",
    caption=(
        r"Theorem \texttt{spectral-cycle-commuting}. Left: where error and curvature commute, each singular value of the error "
        r"falls by $\eta$ a step (dots: run; lines: prediction), whatever its curvature $h_i$, and then alternates between "
        r"$s_i(0)\bmod\eta$ and that minus $\eta$. Right: the nuclear norm of the gradient (dots) and its mean over two "
        r"neighboring steps (line), which ends exactly on $L\eta/2$ (dashed), the floor of the upper bound."
    ),
    shows=("spectral-cycle-commuting", "smoothness-quadratic"),
    data=data,
    draw=draw,
    size=(6.5, 2.6),
)
