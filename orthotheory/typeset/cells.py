"""Numbers, sources and tables in LaTeX."""

from __future__ import annotations

import math
import re
from typing import Any


def number(value: Any, digits: int = 3) -> str:
    """Format a number for LaTeX: integers whole, others with three significant digits, powers of ten beyond 1e-3..1e5.

    >>> number(12), number(1.20244), number(2.4e-16)
    ('12', '1.20', '\\\\ensuremath{2.4\\\\times10^{-16}}')
    """
    if isinstance(value, bool | str):
        return escape(str(value))
    if isinstance(value, int) or (float(value).is_integer() and abs(value) < 1e5):
        whole = str(int(value))
        return whole if value >= 0 else f"\\ensuremath{{{whole}}}"
    value = float(value)
    if not math.isfinite(value):
        return "\\ensuremath{\\infty}"
    value = float(f"{value:.{digits - 1}e}")  # rounded first, so that 0.99999 and 1 look alike
    if 1e-3 <= abs(value) < 1e5:
        decimals = max(0, digits - 1 - math.floor(math.log10(abs(value))))
        text = f"{value:.{decimals}f}"
        return text if value >= 0 else f"\\ensuremath{{{text}}}"
    mantissa, exponent = f"{value:.1e}".split("e")
    return f"\\ensuremath{{{mantissa}\\times10^{{{int(exponent)}}}}}"


def escape(text: str) -> str:
    """Escape what LaTeX would take for markup; turn [key] of a bibliography key into a citation."""
    special = {"\\": "\\textbackslash{}", "^": "\\^{}", **{c: f"\\{c}" for c in "&%#_"}}
    text = "".join(special.get(c, c) for c in text)
    return re.sub(r"\[([a-z]+\d{4}[a-z]+)\]", r"\\citet{\1}", text)


def source(text: str) -> str:
    """Typeset a source: a leading bibliography key becomes a citation, the rest stays."""
    return re.sub(r"\b([a-z]+(?:19|20)\d\d[a-z][a-z0-9]*)\b", r"\\citet{\1}", re.sub(r"[\[\]]", "", text))


def table(columns: str, head: str, lines: list[str]) -> str:
    """Return a table."""
    body = "".join(lines)
    return f"\\begin{{tabular}}{{{columns}}}\n\\toprule\n{head}\\midrule\n{body}\\bottomrule\n\\end{{tabular}}\n"


def long_table(columns: str, head: str, lines: list[str]) -> str:
    """Return a table that may break across pages; \\ledgercaption, set by the paper, holds its caption and label."""
    body = "".join(lines)
    return (
        f"\\begin{{longtable}}{{{columns}}}\n\\ledgercaption\\\\\n\\toprule\n{head}\\midrule\n\\endfirsthead\n"
        f"\\toprule\n{head}\\midrule\n\\endhead\n\\bottomrule\n\\endfoot\n{body}\\end{{longtable}}\n"
    )
