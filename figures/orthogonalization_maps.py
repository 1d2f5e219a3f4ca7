"""What the published schedules do to singular values, each with the band that ball arithmetic proves for it."""

import numpy as np

from orthotheory.plotting import COLORS, Figure
from orthotheory.polar import SCHEDULES
from orthotheory.polar.lint import peak_and_fixed_point
from orthotheory.polar.minimax import compose
from orthotheory.polar.proof import prove, prove_schedule
from orthotheory.polar.schedule import with_image

LOW, OUTSIDE = 1e-3, 1e-5
PUBLISHED = {
    "Muon, 5 quintics": "muon-quintic",
    "DeepSeek, 8 + 2": "deepseek-v4",
    "You, 6 quintics": "you-6",
    "Polar Express, 5 quintics": "polar-express-5",
    "cubic set, 5 steps": "cubic-5",
    "AOL set, 4 quintics": "emerging-aol",
}
OPTIMAL = {"optimal, 5 quintics": (5,) * 5, "optimal, 4 of degree 9": (9,) * 4}


def schedules():
    """Return all maps on one interval, by the text of their panel."""
    named = {text: SCHEDULES[name] for text, name in PUBLISHED.items()}
    named |= {text: compose(degrees, LOW).schedule(text) for text, degrees in OPTIMAL.items()}
    return {
        text: with_image(name=s.name, coefficients=s.coefficients, source=s.source, input_interval=(LOW, 1.0))
        for text, s in named.items()
    }


def data(size):
    points = 2000 if size == "smoke" else 12000
    # dense towards 1, where the map of the AOL set falls below zero within a twentieth of a decade
    s = np.unique(np.concatenate([np.geomspace(OUTSIDE, 1.0, points), np.linspace(0.5, 1.0, points // 4)]))
    out = {"s": s}
    for text, schedule in schedules().items():
        proof = prove_schedule(schedule)
        out[f"p {text}"] = schedule.singular_value_map(s)
        out[f"band {text}"] = np.array(proof.image)
    aol = out["p AOL set, 4 quintics"]
    out["flip"] = s[np.argmax(aol < 0)]
    six = prove(compose((5,) * 6, LOW).coefficients, LOW)
    out["six quintics"] = np.array([six.optimum[0], six.errors[-1]])
    _, peak, fixed = peak_and_fixed_point(SCHEDULES["root-2048x2048"].coefficients[0])
    out["ROOT"] = np.array([peak, fixed])
    return out


def draw(data, fig):
    axes = fig.subplots(2, 4, sharex=True, sharey=True)
    s = data["s"]
    texts = [key[2:] for key in data if key.startswith("p ")]
    for ax, text in zip(axes.flat, texts, strict=True):
        low, high = data[f"band {text}"]
        color = COLORS["blue"] if text.startswith("optimal") else COLORS["vermilion"]
        ax.axhline(1, color=COLORS["gray"], lw=0.6)
        ax.fill_between([LOW, 1], low, high, color=color, alpha=0.18, lw=0)
        ax.plot(s, data[f"p {text}"], color=color, lw=1.0)
        ax.text(OUTSIDE, 1.47, text, fontsize=7.5, color=color, va="center")
        ends = np.floor(1000 * low) / 1000, np.ceil(1000 * high) / 1000  # rounded outward, as a proof must be
        ax.text(1.3 * OUTSIDE, -0.75, "[{:.3f},\n {:.3f}]".format(*ends), fontsize=7, color=color, va="center")
        ax.set(xscale="log", xlim=(OUTSIDE, 1.15), ylim=(-1.2, 1.6), yticks=(-1, 0, 1))
        ax.set_xticks([1e-4, 1e-2, 1])
    for ax in axes[-1]:
        ax.set_xlabel(r"singular value $\sigma$")
    for ax in axes[:, 0]:
        ax.set_ylabel(r"$p(\sigma)$")


def numbers(data):
    lowest, reached = data["six quintics"]
    bands = {text: data[f"band {text}"] for text in (*PUBLISHED, *OPTIMAL)}
    return {
        "flip": float(data["flip"]),
        "least of the AOL set": float(bands["AOL set, 4 quintics"][0]),
        "error of five optimal": float(1 - bands["optimal, 5 quintics"][0]),
        "ROOT peak": f"{data['ROOT'][0]:.5f}",
        "ROOT fixed point": f"{data['ROOT'][1]:.5f}",
        # proven, in units of 1e-4 and rounded outward
        "six quintics reach": f"{np.ceil(1e12 * reached) / 1e8:.8f}",
        "six quintics at best": f"{np.floor(1e12 * lowest) / 1e8:.8f}",
    }


FIGURE = Figure(
    name="orthogonalization-maps",
    caption=(
        r"Published schedules (orange) and optimal chains (blue) as maps of singular values. Shaded: the image of "
        r"$[10^{-3},1]$, proven by ball arithmetic from the stored coefficients, with its ends. Optimal chains fill a "
        r"band that is centered on 1 (Theorems \texttt{equioscillation}, \texttt{greedy-composition}); tuned sets do "
        r"not, and the AOL set returns singular values above \result{orthogonalization-maps}{flip} with the wrong sign."
    ),
    shows=("equioscillation", "greedy-composition", "any-set-behind-frobenius"),
    data=data,
    draw=draw,
    numbers=numbers,
    size=(6.5, 3.0),
)
