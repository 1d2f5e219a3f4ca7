"""Published coefficient sets, digit for digit, each with its provenance; those composed by a rule carry its parameters.

What a table does to singular values is never typed here: the intervals are computed, and `lint` says what is wrong
with some of these sets.
"""

from __future__ import annotations

from .express import PAPER_CUSHION, PAPER_ROWS
from .normalization import Normalization
from .schedule import MUON_QUINTIC, Generation, Schedule, with_image

WIDE = (1e-3, 1.0)  # the interval on which the tables of the literature are compared

MUON_10 = with_image(
    name="muon-10",
    coefficients=MUON_QUINTIC.coefficients[:1] * 10,
    source="jordan2024muon, ten steps; converges to a band around 1, not to 1",
    input_interval=WIDE,
)
YOU_6 = with_image(
    name="you-6",
    coefficients=tuple(
        tuple(c / 1024 for c in row)
        for row in (
            (3955, -8306, 5008),
            (3735, -6681, 3463),
            (3799, -6499, 3211),
            (4019, -6385, 2906),
            (2677, -3029, 1162),
            (2172, -1833, 682),
        )
    ),
    source="You Jiacheng's six steps in units of 1/1024, compared in amsel2025polar; tuned, not composed by a rule",
    input_interval=WIDE,
)
YOU_5 = with_image(
    name="you-5",
    coefficients=(
        (4.0848, -6.8946, 2.9270),
        (3.9505, -6.3029, 2.6377),
        (3.7418, -5.5913, 2.3037),
        (2.8769, -3.1427, 1.2046),
        (2.8366, -3.0525, 1.2012),
    ),
    source="You Jiacheng's five steps, as in the repository of ahn2025dion; tuned, not composed by a rule",
    input_interval=WIDE,
)


def polar_express_raw(steps: int) -> Schedule:
    """Return the first 1 to 7 rows of the paper's table as printed, without the division by 1.01.

    A singular value above 1 by rounding then leaves the basin: lint says "no-headroom".
    """
    if not 1 <= steps <= 7:
        raise ValueError(f"The table has 7 rows of its own, then Newton-Schulz; steps must be 1 to 7, got {steps}.")
    return with_image(
        name=f"polar-express-raw-{steps}",
        coefficients=PAPER_ROWS[:steps],
        source="amsel2025polar, Algorithm 1 without its safety factor",
        input_interval=WIDE,
        generation=Generation((5,) * steps, 1e-3, cushion=PAPER_CUSHION),
    )


POLAR_EXPRESS_RAW = tuple(polar_express_raw(steps) for steps in (5, 6, 7))
POLAR_EXPRESS_GRAM = with_image(
    name="polar-express-gram",
    coefficients=tuple(tuple(c / 1.05 ** (2 * i + 1) for i, c in enumerate(row)) for row in PAPER_ROWS[:5]),
    source="daoailab2026gram: five rows of amsel2025polar, each at x / 1.05",
    input_interval=WIDE,
    generation=Generation((5,) * 5, 1e-3, cushion=PAPER_CUSHION, shrink=1.05),
)
CANS_5 = with_image(
    name="cans-5",
    coefficients=(
        (8.4703, -25.1081, 18.6293),
        (4.1828, -3.1087, 0.5806),
        (3.9619, -2.9541, 0.5630),
        (3.2866, -2.4647, 0.5074),
        (2.2737, -1.6447, 0.4162),
    ),
    source="grishina2025accelerating, as in nvidia2025emerging: the minimax chain from l = 1e-3 to four decimals",
    input_interval=WIDE,
    generation=Generation((5,) * 5, 1e-3, decimals=4),
)
DEEPSEEK_V4 = with_image(
    name="deepseek-v4",
    coefficients=MUON_QUINTIC.coefficients[:1] * 8 + ((2.0, -1.5, 0.5),) * 2,
    source="deepseek2026v4: eight steps of jordan2024muon, then two of (2, -3/2, 1/2), which fixes 1 to second order",
    input_interval=WIDE,
)
CUBIC_5 = with_image(
    name="cubic-5",
    coefficients=(
        (3.3656576, -3.3420992),
        (2.5744352, -1.4957376),
        (2.5368962, -1.4312570),
        (2.4418906, -1.2764040),
        (2.2230472, -0.9630650),
    ),
    source="huang2026how; designed for a band from l = 7e-3, not for accuracy",
    input_interval=WIDE,
)
EMERGING_AOL = with_image(
    name="emerging-aol",
    coefficients=(
        (4.0098, -7.0585, 2.4635),
        (3.4585, -5.5479, 2.5959),
        (2.7573, -3.2939, 1.4254),
        (2.7215, -3.0494, 1.3169),
    ),
    source="nvidia2025emerging, the set for AOL scaling, which its code runs behind the Frobenius norm: a sign flips",
    input_interval=WIDE,
)
FLASH_AOL = with_image(
    name="flash-aol",
    coefficients=(
        (4.6051, -9.6552, 5.6769),
        (4.7505, -6.0861, 2.1790),
        (2.7763, -2.3190, 0.5523),
        (2.4231, -2.2861, 0.8193),
    ),
    source="boissin2025turbo, the authors' repository, tuned behind AOL scaling",
    input_interval=WIDE,
    normalization=Normalization(bound="aol"),
)


ROOT_ROWS = {
    (2048, 2048): (3.4916, -4.8224, 2.1095),
    (2048, 3072): (3.4509, -4.5790, 1.9325),
    (2048, 8192): (2.9794, -3.6674, 1.6207),
    (2048, 16384): (3.1943, -3.8221, 1.5322),
}


def root(shape: tuple[int, int], steps: int = 5) -> Schedule:
    """Return ROOT's schedule for a shape it was tuned for; its code runs Muon's coefficients on all others.

    Raises ValueError for another shape: what the authors run there is `muon-quintic`.
    """
    key = (min(shape), max(shape))
    if key not in ROOT_ROWS:
        known = ", ".join(f"{m}x{n}" for m, n in ROOT_ROWS)
        raise ValueError(f"ROOT has coefficients for {known}; got {shape[0]}x{shape[1]}. It runs muon-quintic there.")
    if steps < 1:
        raise ValueError(f"steps must be at least 1; got {steps}.")
    return with_image(
        name=f"root-{key[0]}x{key[1]}",
        coefficients=(ROOT_ROWS[key],) * steps,
        source="he2025root, the authors' repository; tuned offline on spectra of that shape",
        input_interval=WIDE,
    )


ROOT = tuple(root(shape) for shape in ROOT_ROWS)

PRESETS: tuple[Schedule, ...] = (
    MUON_10,
    YOU_6,
    YOU_5,
    *POLAR_EXPRESS_RAW,
    POLAR_EXPRESS_GRAM,
    CANS_5,
    DEEPSEEK_V4,
    CUBIC_5,
    EMERGING_AOL,
    FLASH_AOL,
    *ROOT,
)
