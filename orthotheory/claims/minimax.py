"""Claims about the published minimax tables: how they were generated."""

from __future__ import annotations

import functools

import numpy as np

from ..polar.express import DION_ROWS, PAPER_ROWS
from ..polar.minimax import compose
from ..polar.schedule import Interval
from ..theory.contract import Size
from .contract import Claim, Verdict

LOW = 1e-3
CUSHION = 0.02407327424182761

Rows = tuple[tuple[float, ...], ...]


def generated(rows: Rows, cushion: float, safety: float, size: Size) -> Verdict:
    """Judge whether a published table is the greedy chain from l = 1e-3 with this cushion and safety factor.

    The authors' float64 exchange loses digits once the error falls below 1e-8: the rows before that decide.
    """
    chain = compose([5] * len(rows), LOW, cushion=cushion, safety=safety)
    counted = [i for i, error in enumerate(chain.errors) if error > 1e-8]
    differences = [np.max(np.abs(np.array(rows[i]) / np.array(chain.coefficients[i]) - 1)) for i in counted]
    return Verdict(
        "holds" if max(differences) <= 1e-12 else "refuted",
        measured=float(max(differences)),
        expected="every coefficient equal to 1e-12 of itself",
        evidence={"rows compared": len(counted), "first slope": chain.coefficients[0][0]},
    )


def decimals(rows: Rows, places: int, size: Size) -> Verdict:
    """Judge whether a table is the pure minimax chain from l = 1e-3, rounded to so many decimals."""
    chain = compose([5] * len(rows), LOW)
    largest = float(np.max(np.abs(np.array(rows) - np.array(chain.coefficients))))
    error = chain.error
    image: Interval = chain.schedule("pure chain").image(LOW, 1.0)
    return Verdict(
        "holds" if largest <= 0.5 * 10.0**-places * (1 + 1e-9) else "refuted",
        measured=largest,
        expected=f"at most half a unit of decimal {places}",
        evidence={"error of the unrounded chain": error, "error by its image": max(1 - image[0], image[1] - 1)},
    )


def _cans_rows() -> Rows:
    from ..polar import SCHEDULES

    return SCHEDULES["cans-5"].coefficients


CLAIMS = (
    Claim(
        "polar-express-cushion", "amsel2025polar, the comment beside the table in the authors' code",
        "The published Polar Express table is generated from l = 1e-3 with the cushion 0.02.",
        functools.partial(generated, PAPER_ROWS, 0.02, 1.0),
        functools.partial(generated, PAPER_ROWS, CUSHION, 1.0),
        "the cushion 0.02407327424182761", "holds",
    ),
    Claim(
        "dion-table", "ahn2025dion, the authors' code",
        "The Polar Express table of the Dion repository is generated with the safety factor 1.02 and the cushion 0.02.",
        functools.partial(generated, DION_ROWS, 0.02, 1.02),
        functools.partial(generated, DION_ROWS, CUSHION, 1.02),
        "the cushion of the paper's table", "refuted",
    ),
    Claim(
        "cans-is-polar-express", "grishina2025accelerating and amsel2025polar",
        "The CANS table is the chain of Polar Express without cushion and safety factor.",
        lambda size: decimals(_cans_rows(), 4, size),
        lambda size: decimals(PAPER_ROWS[:5], 4, size),
        "the table of Polar Express, which has a cushion", "refuted",
    ),
)  # fmt: skip
