"""What the README shows is what happens."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "README.md").read_text()


EXAMPLES = re.findall(r"```python\n([^`]*)```\n+```text\n([^`]*)```", TEXT)


@pytest.mark.parametrize(("code", "shown"), EXAMPLES, ids=["ten lines", "orthogonalizing"])
def test_an_example_prints_the_output_that_the_readme_shows(code, shown):
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == shown


CHECK_K = """
x = np.random.default_rng(0).standard_normal((5, 4))
g = k.subgradient(x)
fenchel_young = k.value(x) + k.conjugate(g) - np.sum(x * g)
print(abs(fenchel_young) < 1e-12 and trace["gap"][-1] < 0.5 * trace["gap"][0])
"""


def test_the_lion_k_example_defines_a_convex_function_and_runs():
    code = re.search(r"```python\n(  import.*?)  ```", TEXT, re.DOTALL)[1]
    code = "\n".join(line[2:] for line in code.splitlines()) + CHECK_K
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "True"


def test_the_shell_lines_run(tmp_path):
    lines = re.findall(r"^\.venv/bin/orthotheory (.*)$", TEXT, re.MULTILINE)
    assert len(lines) >= 3
    shutil.copytree(ROOT / "figures" / "sweeps", tmp_path / "figures" / "sweeps")  # as in a checkout
    for line in lines:
        arguments = shlex.split(line, comments=True)
        done = subprocess.run([sys.executable, "-m", "orthotheory", *arguments], cwd=tmp_path, capture_output=True)
        assert done.returncode == 0, (line, done.stderr)


def test_the_pictures_and_files_that_the_readme_names_exist():
    names = [*re.findall(r"!\[.*?\]\((.*?)\)", TEXT), "CITATION.cff", "environment.yml", "LICENSE", "CHANGELOG.md"]
    assert all((ROOT / name).is_file() for name in names)


def test_the_make_targets_that_the_readme_names_exist():
    makefile = (ROOT / "Makefile").read_text()
    listed = re.search(r"lists the other targets: (.*?)\.", TEXT)[1]
    for target in ["reproduce", "test", *re.findall(r"`(\w+)`", listed)]:
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target
