"""From theorems to the paper: ledgers and figure data, figures, tables and numbers, the PDF; only what is out of date.

Every task has a fingerprint of what it depends on (source files, size, library versions) and the hashes of what it
wrote. A task runs again where the fingerprint has changed or an output is missing or altered.
"""

from __future__ import annotations

import hashlib
import importlib.util
import io
import json
import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from .latex import TEX_HINT, build_pdf, engine_found, paper_sources
from .plotting import Figure, render
from .storage import DamagedFile, file_digest, machine, read_json, writable_folder, write_atomically, write_json
from .theory.contract import Size

# What a result does not depend on: the command, this file, and how things are drawn or printed.
NOT_SCIENCE = {
    "cli.py",
    "options.py",
    "doctor.py",
    "gpu_report.py",
    "latex.py",
    "sweep_commands.py",
    "listing.py",
    "ledger_commands.py",
    "falsify_command.py",
    "__main__.py",
    "reproduce.py",
    "typeset",
    "plotting",
    "version.py",
}


class ReproduceError(RuntimeError):
    """A step of the chain failed; the message says which and what to do."""


@dataclass(frozen=True)
class Layout:
    """Where things lie. The paper size writes the committed places, the smoke size only below `results/smoke`."""

    root: Path
    size: Size

    @property
    def results(self) -> Path:
        """Ledgers, figure data and the manifest."""
        return self.root / "results" / self.size

    @property
    def figures(self) -> Path:
        """Rendered figures."""
        return self.root / "figures" / "out" if self.size == "paper" else self.results / "figures"

    @property
    def generated(self) -> Path:
        """Tables and numbers for the paper."""
        return self.root / "paper" / "generated" if self.size == "paper" else self.results / "generated"

    @property
    def pdf(self) -> Path:
        """The paper."""
        return self.root / "paper" / "main.pdf" if self.size == "paper" else self.results / "main.pdf"


@dataclass(frozen=True)
class Task:
    """A step: what it depends on, what it writes, and how."""

    name: str
    fingerprint: str
    outputs: tuple[Path, ...]
    action: Callable[[], Any]


@dataclass
class Report:
    """What happened: names of tasks that ran and that were up to date, and remarks."""

    ran: list[str] = field(default_factory=list)
    kept: list[str] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)


def find_root(start: str | os.PathLike | None = None) -> Path:
    """Return the checkout that holds `figures/` and `paper/`, from the current folder upwards."""
    here = Path(start or Path.cwd()).resolve()
    for folder in (here, *here.parents):
        if (folder / "figures").is_dir() and (folder / "paper" / "main.tex").is_file():
            return folder
    raise ReproduceError(
        f"No checkout of orthotheory found at {here} or above (it has figures/ and paper/main.tex). "
        "Run this inside a clone, or pass --root."
    )


def load_figures(root: Path) -> dict[str, tuple[Figure, Path]]:
    """Load FIGURE from every file in `figures/`, by figure name."""
    found = {}
    for path in sorted((root / "figures").glob("*.py")):
        spec = importlib.util.spec_from_file_location(f"orthotheory_figures.{path.stem}", path)
        module = importlib.util.module_from_spec(spec)  # type: ignore[arg-type]
        sys.modules[spec.name] = module  # type: ignore[union-attr]
        spec.loader.exec_module(module)  # type: ignore[union-attr]
        if not isinstance(getattr(module, "FIGURE", None), Figure):
            raise ReproduceError(f"{path} must define FIGURE, an orthotheory.plotting.Figure.")
        found[module.FIGURE.name] = (module.FIGURE, path)
    for name, (figure, path) in found.items():
        if figure.data_name not in found or isinstance(found[figure.data_name][0].data, str):
            raise ReproduceError(f"{path}: {name} draws the data of {figure.data_name!r}, which has none of its own.")
    return found


def reproduce(
    root: Path, size: Size = "paper", *, jobs: int = 2, only: set[str] | None = None, force: bool = False,
    pdf: bool = True, say: Callable[[str], None] = lambda text: None, progress: bool = False,
) -> Report:  # fmt: skip
    """Bring everything up to date and report.

    Parameters
    ----------
    root : Path
        The checkout.
    size : "paper" or "smoke"
        The full experiments, or seconds of them written below `results/smoke`.
    jobs : int
        Experiments that run at a time, in processes with one BLAS thread each.
    only : set of str, optional
        Names of figures; other figures, ledgers and the paper are left alone.
    force : bool
        Run everything again.
    pdf : bool
        Build the paper where a TeX engine is found.
    """
    layout = Layout(root, size)
    writable_folder(layout.results)
    manifest = _Manifest(layout)
    report = Report()
    needed = None if only is None else {load_figures(root)[name][0].data_name for name in only}
    experiments = [t for t in _experiments(layout) if needed is None or t.name.removeprefix("data ") in needed]
    _run(experiments, manifest, report, jobs=jobs, force=force, say=say, progress=progress)
    drawings = [t for t in _drawings(layout, manifest) if only is None or t.name.removeprefix("figure ") in only]
    _run(drawings, manifest, report, jobs=1, force=force, say=say, progress=progress)
    if only is None:
        _run(_texts(layout, manifest), manifest, report, jobs=1, force=force, say=say, progress=False)
        if pdf and engine_found():
            _run([_paper(layout)], manifest, report, jobs=1, force=force, say=say, progress=False)
        elif pdf:
            report.remarks.append(TEX_HINT)
    return report


def ledger(root: Path, size: Size, kind: str) -> list[dict[str, Any]]:
    """Return the stored rows of the theorem or claims ledger."""
    return [read_json(path) for path in _ledger_paths(Layout(root, size), kind)]


def read_data(path: Path) -> dict[str, np.ndarray]:
    """Read stored figure data; executes nothing that the file contains."""
    try:
        with np.load(path, allow_pickle=False) as stored:
            return dict(stored)
    except (OSError, ValueError, EOFError) as error:
        raise DamagedFile(f"{path} is missing or damaged ({error}); delete it and run again.") from error


class _Manifest:
    """Fingerprints and output hashes of finished tasks, saved after each."""

    def __init__(self, layout: Layout):
        self.path, self.root = layout.results / "manifest.json", layout.root
        try:
            self.tasks = read_json(self.path)["tasks"]
        except (DamagedFile, KeyError, TypeError):
            self.tasks = {}

    def is_current(self, task: Task) -> bool:
        entry = self.tasks.get(task.name)
        if not entry or entry["fingerprint"] != task.fingerprint:
            return False
        return all(
            path.is_file() and file_digest(path) == entry["outputs"].get(self._key(path)) for path in task.outputs
        )

    def record(self, task: Task) -> None:
        outputs = {self._key(path): file_digest(path) for path in task.outputs}
        self.tasks[task.name] = {"fingerprint": task.fingerprint, "outputs": outputs}
        write_json(self.path, {"tasks": self.tasks, "machine": machine()})

    def _key(self, path: Path) -> str:
        return path.relative_to(self.root).as_posix()


def _run(tasks: list[Task], manifest: _Manifest, report: Report, *, jobs, force, say, progress) -> None:
    stale = [t for t in tasks if force or not manifest.is_current(t)]
    report.kept += [t.name for t in tasks if t not in stale]
    if not stale:
        return
    from joblib import Parallel, delayed

    workers = min(jobs, len(stale))
    outcomes = Parallel(n_jobs=workers, return_as="generator_unordered")(
        delayed(_perform)(i, task.action) for i, task in enumerate(stale)
    )
    bar = None
    if progress:
        from tqdm import tqdm

        bar = tqdm(total=len(stale), unit="task", dynamic_ncols=True)
    failures = []
    for i, error in outcomes:
        task = stale[i]
        if bar is not None:
            bar.set_postfix_str(task.name)
            bar.update()
        if error:
            failures.append(f"{task.name}: {error}")
            continue
        manifest.record(task)
        report.ran.append(task.name)
        say(f"done: {task.name}")
    if bar is not None:
        bar.close()
    if failures:
        raise ReproduceError("Some tasks failed; what finished is kept.\n" + "\n".join(failures))


def _perform(i: int, action: Callable[[], Any]) -> tuple[int, str]:
    try:
        action()
    except Exception as error:  # reported by name at the end, after the other tasks have finished
        return i, f"{type(error).__name__}: {error}"
    return i, ""


def _experiments(layout: Layout) -> Iterator[Task]:
    from . import claims, theory

    science = _fingerprint(layout, _sources(science_only=True))
    for kind, names in (("claims", claims.names()), ("theorems", theory.names())):
        for label in names:
            path = layout.results / kind / f"{label}.json"
            yield Task(f"{kind[:-1]} {label}", science, (path,), _LedgerAction(kind, label, layout.size, path))
    for name, (figure, source) in load_figures(layout.root).items():
        if isinstance(figure.data, str):
            continue
        path = layout.results / "data" / f"{name}.npz"
        mark = _fingerprint(layout, [*_sources(science_only=True), source])
        yield Task(f"data {name}", mark, (path,), _DataAction(layout.root, name, layout.size, path))


def _drawings(layout: Layout, manifest: _Manifest) -> Iterator[Task]:
    for name, (figure, source) in load_figures(layout.root).items():
        stored = _stored(layout, figure)
        if not stored.is_file():
            continue
        mark = _fingerprint(layout, [*_package("plotting"), source, stored])
        outputs = tuple(layout.figures / f"{name}.{kind}" for kind in ("pdf", "png"))
        yield Task(f"figure {name}", mark, outputs, _DrawAction(layout.root, name, stored, layout.figures))


def _texts(layout: Layout, manifest: _Manifest) -> list[Task]:
    from .typeset import FILES, typeset

    stored = sorted({_stored(layout, figure) for figure, _ in load_figures(layout.root).values()})
    sources = [source for _, source in load_figures(layout.root).values()]
    inputs = [*_sources(science_only=True), *_package("typeset"), *sources, *stored]
    benchmarks = layout.root / "benchmarks" / "results" / "orthogonalization.json"
    inputs += [*_ledger_paths(layout, "theorems"), *_ledger_paths(layout, "claims"), benchmarks]
    inputs += [benchmarks.with_name(f"{name}.json") for name in ("falsify", "confirmations", "sweeps", "surgery")]

    def write() -> None:
        figures = {
            name: (figure, read_data(_stored(layout, figure)))
            for name, (figure, _) in load_figures(layout.root).items()
        }
        rows = {kind: ledger(layout.root, layout.size, kind) for kind in ("theorems", "claims")}
        typeset(writable_folder(layout.generated), rows["theorems"], rows["claims"], figures, benchmarks)

    tables = [f"{name}.tex" for name, (figure, _) in load_figures(layout.root).items() if figure.table]
    outputs = tuple(layout.generated / f for f in (*FILES, *tables))
    return [Task("tables and numbers", _fingerprint(layout, inputs), outputs, write)]


def _stored(layout: Layout, figure: Figure) -> Path:
    return layout.results / "data" / f"{figure.data_name}.npz"


def _paper(layout: Layout) -> Task:
    paper, build = layout.root / "paper", layout.results / "tex"
    inputs = [*paper_sources(paper), *sorted(layout.generated.glob("*.tex")), *sorted(layout.figures.glob("*.pdf"))]

    def action() -> None:
        build_pdf(paper, layout.generated, layout.figures, build, layout.pdf)

    return Task("paper", _fingerprint(layout, inputs, versions=False), (layout.pdf,), action)


@dataclass(frozen=True)
class _LedgerAction:
    kind: str
    label: str
    size: Size
    path: Path

    def __call__(self) -> None:
        from . import claims, theory

        module: Any = claims if self.kind == "claims" else theory
        with _one_blas_thread():
            row = module.ledger_row(module.get(self.label), self.size)
        write_json(writable_folder(self.path.parent) / self.path.name, row)


@dataclass(frozen=True)
class _DataAction:
    root: Path
    name: str
    size: Size
    path: Path

    def __call__(self) -> None:
        figure, _ = load_figures(self.root)[self.name]
        if isinstance(figure.data, str):
            raise ReproduceError(f"{self.name} draws the data of {figure.data}.")
        with _one_blas_thread():
            data = {key: np.asarray(value) for key, value in figure.data(self.size).items()}
        buffer = io.BytesIO()
        np.savez(buffer, allow_pickle=False, **data)
        writable_folder(self.path.parent)
        write_atomically(self.path, lambda part: part.write_bytes(buffer.getvalue()))


@dataclass(frozen=True)
class _DrawAction:
    root: Path
    name: str
    stored: Path
    folder: Path

    def __call__(self) -> None:
        figure, _ = load_figures(self.root)[self.name]
        render(figure, read_data(self.stored), writable_folder(self.folder))


def _one_blas_thread():
    try:
        from threadpoolctl import threadpool_limits
    except ImportError:
        import contextlib

        return contextlib.nullcontext()
    return threadpool_limits(1)


def _ledger_paths(layout: Layout, kind: str) -> list[Path]:
    from . import claims, theory

    names = claims.names() if kind == "claims" else theory.names()
    return [layout.results / kind / f"{label}.json" for label in names]


def _package(part: str) -> list[Path]:
    here = Path(__file__).parent / part
    return sorted(here.rglob("*.py")) if here.is_dir() else [here]


def _sources(*, science_only: bool) -> list[Path]:
    here = Path(__file__).parent
    files = sorted(here.rglob("*.py"))
    return [f for f in files if f.relative_to(here).parts[0] not in NOT_SCIENCE] if science_only else files


def _fingerprint(layout: Layout, files: list[Path], versions: bool = True) -> str:
    total = hashlib.sha256(json.dumps([layout.size, _versions() if versions else None]).encode())
    for path in files:
        total.update(path.name.encode())
        total.update(file_digest(path).encode() if path.is_file() else b"absent")
    return total.hexdigest()


def _versions() -> list[str]:
    from importlib.metadata import version

    return [f"{name} {version(name)}" for name in ("numpy", "scipy", "sympy", "matplotlib")]
