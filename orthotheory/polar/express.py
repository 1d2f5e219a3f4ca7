"""The published Polar Express tables, digit for digit, each with how it was generated.

Both come from composing minimax quintics on [l, 1]; they differ in cushion and safety factor. The table of the
paper (Algorithm 1, [amsel2025polar]) is generated with l = 1e-3 and cushion 0.02407327424182761 without a safety
factor; afterwards every step but row 8 is evaluated at x / 1.01, and the input is normalized by 1.01 |G|_F.
The table of microsoft/dion has the safety factor 1.02 inside (5 steps, cushion 0.02).
"""

from __future__ import annotations

from .schedule import Generation, Normalization, Schedule, with_image

PAPER_ROWS = (
    (8.28721201814563, -23.595886519098837, 17.300387312530933),
    (4.107059111542203, -2.9478499167379106, 0.5448431082926601),
    (3.9486908534822946, -2.908902115962949, 0.5518191394370137),
    (3.3184196573706015, -2.488488024314874, 0.51004894012372),
    (2.300652019954817, -1.6689039845747493, 0.4188073119525673),
    (1.891301407787398, -1.2679958271945868, 0.37680408948524835),
    (1.8750014808534479, -1.2500016453999487, 0.3750001645474248),
    (1.875, -1.25, 0.375),
)
DION_ROWS = (
    (8.156554524902461, -22.48329292557795, 15.878769915207462),
    (4.042929935166739, -2.808917465908714, 0.5000178451051316),
    (3.8916678022926607, -2.772484153217685, 0.5060648178503393),
    (3.285753657755655, -2.3681294933425376, 0.46449024233003106),
    (2.3465413258596377, -1.7097828382687081, 0.42323551169305323),
)
PAPER_CUSHION = (
    0.02407327424182761  # that of Emrik3/degree17PolarExpress; the table's comment says 0.02, which gives 8.3197
)
SAFETY = 1.01


def polar_express(steps: int = 8) -> Schedule:
    """Build the paper's schedule with that many steps; past eight the last row repeats.

    >>> polar_express(5).coefficients[0][0] * 1.01
    8.28721201814563
    """
    if steps < 1:
        raise ValueError(f"steps must be at least 1; got {steps}.")
    safe = [tuple(c / SAFETY ** (2 * i + 1) for i, c in enumerate(row)) for row in PAPER_ROWS[:7]]
    rows = (safe + [PAPER_ROWS[7]] * max(0, steps - 7))[:steps]
    return with_image(
        name="polar-express" if steps == 8 else f"polar-express-{steps}",
        coefficients=tuple(rows),
        source="amsel2025polar, Algorithm 1; l = 1e-3, cushion 0.02407327424182761, rows 1-7 at x / 1.01",
        input_interval=(1e-3, 1.0),
        normalization=Normalization(safety=SAFETY),
        generation=Generation((5,) * min(steps, 7), 1e-3, cushion=PAPER_CUSHION, shrink=SAFETY),
    )


POLAR_EXPRESS = polar_express(8)
POLAR_EXPRESS_5 = polar_express(5)
POLAR_EXPRESS_DION = with_image(
    name="polar-express-dion",
    coefficients=DION_ROWS,
    source="ahn2025dion, the authors' repository; l = 1e-3, safety 1.02 inside, cushion 0.02 (its comment says 2)",
    input_interval=(1e-3, 1.0),
    normalization=Normalization(safety=1.02),
    generation=Generation((5,) * 5, 1e-3, cushion=0.02, safety=1.02),
)
