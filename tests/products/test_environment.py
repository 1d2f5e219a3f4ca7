"""environment.yml mirrors pyproject.toml; the package metadata and the citation agree; imports stay light."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml

import orthotheory

ROOT = Path(__file__).parents[2]


def _split(requirement: str) -> tuple[str, str]:
    name = requirement
    for sign in "<>=!~ ":
        name = name.split(sign)[0]
    return name, requirement[len(name) :].replace(" ", "")


@pytest.fixture(scope="module")
def project():
    return tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def test_environment_and_pyproject_list_the_same_packages_and_versions(project):
    extras = project["optional-dependencies"]
    wanted = dict(_split(r) for r in [*project["dependencies"], *extras["lab"], *extras["fast"], *extras["test"]])
    wanted["python"] = project["requires-python"].replace(" ", "")
    listed = yaml.safe_load((ROOT / "environment.yml").read_text())["dependencies"]
    by_pip = next(d for d in listed if isinstance(d, dict))["pip"]  # what conda-forge names otherwise
    by_conda = [d for d in listed if isinstance(d, str) and d != "pip"]
    found = dict(_split(d) for d in [*by_conda, *by_pip] if not d.startswith("--"))
    assert found == wanted


def test_cupy_is_an_extra_and_never_a_plain_dependency(project):
    assert not any("cupy" in r for r in project["dependencies"])
    assert all("cupy" in r for kind in ("cuda12", "cuda13") for r in project["optional-dependencies"][kind])


def test_the_citation_carries_the_version_and_the_license():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert citation["version"] == orthotheory.__version__
    assert citation["license"] == "Apache-2.0"
    assert orthotheory.__version__ in (ROOT / "CHANGELOG.md").read_text()


HEAVY = (
    "scipy",
    "sympy",
    "matplotlib",
    "pandas",
    "pyarrow",
    "numba",
    "cupy",
    "sklearn",
    "joblib",
    "tyro",
    "tqdm",
    "flint",
)


@pytest.mark.parametrize(
    "statement",
    [
        "import orthotheory",
        "import orthotheory as ot; ot.norms.Spectral(); ot.methods.make('muon'); ot.problems.make('quadratic')",
        "import orthotheory as ot; ot.run(ot.problems.make('quadratic'), ot.methods.make('muon'), steps=2)",
        "import orthotheory as ot; ot.theory.names(); ot.claims.names()",
    ],
)
def test_no_heavy_module_is_imported_before_it_is_used(statement):
    probe = f"import sys; {statement}; print([m for m in {HEAVY!r} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_only_arrays_imports_cupy():
    for path in (ROOT / "orthotheory").rglob("*.py"):
        if path.name != "arrays.py":
            assert "import cupy" not in path.read_text(), path


# The rooms of DESIGN section 1, from the bottom up: a module imports only from its own room and those below.
ROOMS = [
    "version", "names", "arrays", "counting", "storage", "kernels", "polar", "norms", "convex", "problems", "surgery",
    "methods", "loop", "trajectories", "captured", "fused", "sweep", "comparison_tasks", "ranking", "comparison",
    "theory", "regimes", "claims", "plotting", "typeset", "latex", "reproduce", "doctor", "gpu_report", "options",
    "sweep_commands", "listing", "ledger_commands", "falsify_command", "cli", "__main__",
]  # fmt: skip


def test_imports_point_downward():
    import ast

    for path in (ROOT / "orthotheory").rglob("*.py"):
        relative = path.relative_to(ROOT / "orthotheory")
        room = relative.parts[0].removesuffix(".py")
        if room == "__init__":
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if not isinstance(node, ast.ImportFrom) or node.level == 0:
                continue
            base = relative.parts[: len(relative.parts) - node.level]
            targets = (
                [[*base, *(node.module or "").split(".")]] if node.module else [[*base, n.name] for n in node.names]
            )
            for target in targets:
                below = next(part for part in target if part)
                assert below in ROOMS, (relative, target)
                assert ROOMS.index(below) <= ROOMS.index(room), f"{relative} imports {'.'.join(target)}"


def test_methods_know_no_problem_and_problems_know_no_method():
    for room, stranger in (("methods", "problems"), ("problems", "methods")):
        for path in (ROOT / "orthotheory" / room).glob("*.py"):
            text = path.read_text()
            assert f"from ..{stranger}" not in text, path
            assert f"from .. import {stranger}" not in text, path
