"""What works on this machine: versions, optional parts, the GPU, TeX, and a calculation whose answer is known."""

from __future__ import annotations

import sys
from importlib.metadata import PackageNotFoundError, requires, version
from typing import Any

import numpy as np

from .latex import engine_found


def examine() -> list[dict[str, Any]]:
    """Return one row per part; a verdict is "works", "absent" (optional) or "broken"."""
    rows = [part("Python", "works" if (3, 11) <= sys.version_info[:2] <= (3, 12) else "broken",
                 ".".join(map(str, sys.version_info[:3])), "3.11 or 3.12")]  # fmt: skip
    for name, wanted, optional in _requirements():
        try:
            found = version(name)
        except PackageNotFoundError:
            hint = f"pip install 'orthotheory[{optional}]'" if optional else "pip install orthotheory"
            rows.append(part(name, "absent" if optional else "broken", "not installed", f"{wanted}; {hint}"))
            continue
        good = _satisfies(found, wanted)
        rows.append(part(name, "works" if good else "broken", found, wanted))
    rows.append(_gpu())
    tex = engine_found()
    rows.append(part("TeX", "works" if tex else "absent", "latexmk and pdflatex" if tex else "not found",
                     "for the paper; Debian: latexmk texlive-latex-extra"))  # fmt: skip
    rows.append(_arithmetic())
    return rows


def part(label: str, verdict: str, measured: str, expected: str) -> dict[str, Any]:
    """Return a row of the report."""
    return {"label": label, "source": "this machine", "kind": "part", "verdict": verdict, "measured": measured,
            "expected": expected, "control": None}  # fmt: skip


def _requirements() -> list[tuple[str, str, str]]:
    """Return (package, versions, extra) from the installed metadata; CUDA extras are judged by the GPU row."""
    out = []
    for line in requires("orthotheory") or []:
        requirement, _, marker = line.partition(";")
        extra = marker.split("==")[-1].strip(" \"'") if "extra" in marker else ""
        name = requirement
        for sign in "<>=!~ ":
            name = name.split(sign)[0]
        if not extra.startswith("cuda"):
            out.append((name, requirement[len(name) :].strip() or "any", extra))
    return out


def _satisfies(found: str, wanted: str) -> bool:
    try:
        from packaging.specifiers import SpecifierSet
    except ImportError:
        return True
    return wanted == "any" or found in SpecifierSet(wanted, prereleases=True)


def _gpu() -> dict[str, Any]:
    from .arrays import cuda_is_available

    if cuda_is_available():
        return part("GPU", "works", "CuPy sees a CUDA device", "--device cuda")
    return part("GPU", "absent", "CuPy is not installed or sees no device", "optional; orthotheory[cuda12] or [cuda13]")


def _arithmetic() -> dict[str, Any]:
    """Check the polar factor of a matrix whose factor is known."""
    from .polar import polar_factor

    angle = 0.3
    rotation = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    error = float(np.abs(polar_factor(rotation @ np.diag([3.0, 1e-3])) - rotation).max())
    return part("arithmetic", "works" if error < 1e-12 else "broken", f"polar factor error {error:.1e}", "below 1e-12")
