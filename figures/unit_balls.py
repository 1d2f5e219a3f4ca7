"""Unit balls in the plane of two singular values, with the LMO of gradients all around."""

import numpy as np

from orthotheory import norms
from orthotheory.plotting import Figure
from orthotheory.plotting.geometry import ball_boundary, draw_ball, lmo_targets

BALLS = {
    "nuclear": norms.Nuclear(),
    "Schatten-4/3": norms.Schatten(4 / 3),
    "Frobenius": norms.Frobenius(),
    "Schatten-4": norms.Schatten(4.0),
    "spectral": norms.Spectral(),
}
ANGLES = np.deg2rad(np.arange(16) * 22.5 + 11.25)


def data(size):
    return {
        **{f"ball {name}": ball_boundary(norm, 181 if size == "smoke" else 721) for name, norm in BALLS.items()},
        **{f"lmo {name}": lmo_targets(norm, ANGLES) for name, norm in BALLS.items()},
    }


def draw(data, fig):
    for ax, name in zip(fig.subplots(1, len(BALLS)), BALLS, strict=True):
        draw_ball(ax, data[f"ball {name}"], data[f"lmo {name}"], ANGLES, name)


FIGURE = Figure(
    name="unit-balls",
    caption=(
        r"Unit balls among the matrices $\mathrm{diag}(x,y)$, so that the axes are signed singular values, with the steepest "
        r"descent direction (arrow) of sixteen gradients (ticks, drawn at $-G$). A rank-one corner attracts every gradient in "
        r"the nuclear ball: one singular direction moves. In the spectral ball every gradient is sent to a corner of full "
        r"rank: all directions move by the same length, which is orthogonalization. The Frobenius ball keeps the gradient's "
        r"own direction."
    ),
    shows=(),
    data=data,
    draw=draw,
    size=(6.5, 1.6),
)
