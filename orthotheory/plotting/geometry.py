"""Pictures of geometry: unit balls in the plane of two singular values (or entries), with their LMO arrows."""

from __future__ import annotations

import numpy as np

from ..norms import Norm
from .style import COLORS


def diagonal(points: np.ndarray) -> np.ndarray:
    """Return the matrices diag(x, y) of points (k, 2), shape (k, 2, 2)."""
    x = np.zeros((*points.shape[:-1], 2, 2))
    x[..., 0, 0], x[..., 1, 1] = points[..., 0], points[..., 1]
    return x


def ball_boundary(norm: Norm, points: int = 721) -> np.ndarray:
    """Return the boundary of the unit ball among diagonal matrices, shape (points, 2)."""
    angles = np.linspace(0, 2 * np.pi, points)
    rays = np.stack([np.cos(angles), np.sin(angles)], axis=-1)
    return rays / norm.value(diagonal(rays))[:, None]


def lmo_targets(norm: Norm, angles: np.ndarray) -> np.ndarray:
    """Return the LMO of diag(cos, sin) for each angle as points of the plane, shape (k, 2)."""
    gradients = np.stack([np.cos(angles), np.sin(angles)], axis=-1)
    d = norm.lmo(diagonal(gradients))
    return np.stack([d[:, 0, 0], d[:, 1, 1]], axis=-1)


def draw_ball(ax, boundary: np.ndarray, targets: np.ndarray, angles: np.ndarray, title: str) -> None:
    """Draw a ball with arrows to the LMO of each gradient; the gradients are short ticks on a circle outside."""
    ax.fill(*boundary.T, color=COLORS["sky"], alpha=0.25, lw=0)
    ax.plot(*boundary.T, color=COLORS["blue"], lw=1.2)
    for angle, (x, y) in zip(angles, targets, strict=True):
        ax.annotate(
            "",
            (x, y),
            (0, 0),
            arrowprops={
                "arrowstyle": "-|>",
                "color": COLORS["vermilion"],
                "lw": 0.9,
                "shrinkA": 0,
                "shrinkB": 0,
                "mutation_scale": 7,
            },
        )
        tick = -np.array([np.cos(angle), np.sin(angle)])
        ax.plot(*zip(1.52 * tick, 1.68 * tick, strict=True), color=COLORS["gray"], lw=0.9)
    ax.set_aspect("equal")
    ax.set_xlim(-1.8, 1.8)
    ax.set_ylim(-1.8, 1.8)
    ax.axis("off")
    ax.text(0, -1.95, title, ha="center", va="top")
