"""Files that are whole or absent: atomic writes, content hashes, Parquet tables with a manifest that is checked."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from .version import __version__


class DamagedFile(RuntimeError):
    """A result that is missing a part or does not match its manifest."""


def cache_folder() -> Path:
    """Return where measurements and compiled code are kept between processes."""
    if given := os.environ.get("ORTHOTHEORY_CACHE"):
        return Path(given)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "orthotheory"


def writable_folder(folder: str | os.PathLike) -> Path:
    """Create a folder, or say why it cannot be written and what to do."""
    path = Path(folder)
    try:
        path.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path):
            pass
    except OSError as error:
        reason = error.strerror or error
        raise OSError(f"Cannot write to the folder {path}: {reason}. Choose another with --out (out=).") from error
    return path


def write_atomically(path: Path, write: Callable[[Path], object]) -> None:
    """Call `write` on a temporary neighbor, flush it to disk, then rename it over `path`."""
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".part")
    os.close(handle)
    part = Path(name)
    mask = os.umask(0)
    os.umask(mask)
    try:
        write(part)
        part.chmod(0o666 & ~mask)  # a temporary file is private; the result is an ordinary file
        with open(part, "rb") as stream:
            os.fsync(stream.fileno())
        os.replace(part, path)
        _flush_folder(path.parent)
    finally:
        part.unlink(missing_ok=True)


def _flush_folder(folder: Path) -> None:
    """Flush a folder, so that a rename in it survives a loss of power, where the system can."""
    try:
        handle = os.open(folder, os.O_RDONLY)
    except OSError:
        return
    try:
        os.fsync(handle)
    except OSError:
        pass
    finally:
        os.close(handle)


def write_text(path: Path, text: str) -> None:
    """Write a text file atomically."""
    write_atomically(path, lambda part: part.write_text(text, encoding="utf-8"))


def write_json(path: Path, content: Any) -> None:
    """Write JSON atomically, NumPy numbers and arrays included; NaN and infinities become strings."""
    write_text(path, json.dumps(plain(content), indent=2, sort_keys=True, allow_nan=False) + "\n")


def read_json(path: Path) -> Any:
    """Read JSON, saying which file is damaged where it is."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise DamagedFile(f"{path} is missing or not complete JSON ({error}); delete it and run again.") from error


def plain(value: Any) -> Any:
    """Turn configurations and results into what JSON can hold; an object becomes its repr."""
    if isinstance(value, Mapping):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple | set):
        return [plain(v) for v in value]
    if isinstance(value, np.generic):
        return plain(value.item())
    if isinstance(value, float) and not np.isfinite(value):
        return repr(value)
    if value is None or isinstance(value, str | bool | int | float):
        return value
    if hasattr(value, "shape"):
        from .arrays import to_host

        return plain(to_host(value).tolist())
    return repr(value)


def digest(content: Any) -> str:
    """Return a short hash of a configuration."""
    return hashlib.sha256(json.dumps(plain(content), sort_keys=True).encode()).hexdigest()[:16]


def array_digest(content: Any) -> str:
    """Return a short hash of an array, or of a tuple of them: dtypes, shapes and bytes."""
    from .arrays import to_host

    found = hashlib.sha256()
    for x in content if isinstance(content, tuple) else (content,):
        host = np.ascontiguousarray(to_host(x))
        found.update(f"{host.dtype.str} {host.shape} ".encode() + host.tobytes())
    return found.hexdigest()[:16]


def file_digest(path: Path) -> str:
    """Return the SHA-256 of a file."""
    with open(path, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def machine() -> dict[str, Any]:
    """Describe what ran: versions and platform, no names of machines or users."""
    return {
        "orthotheory": __version__,
        "python": platform.python_version(),
        "numpy": np.__version__,
        "platform": f"{platform.system()} {platform.machine()}",
        "cores": os.cpu_count(),
    }


def write_table(path: Path, table, manifest: Mapping[str, Any]) -> None:
    """Write a pandas table as Parquet with its manifest next to it; the manifest comes last and seals it."""
    writable_folder(path.parent)
    write_atomically(path, lambda part: table.to_parquet(part, index=False))
    seal = {**manifest, "rows": len(table), "sha256": file_digest(path), "machine": machine()}
    write_json(path.with_suffix(".json"), seal)


def read_table(path: Path):
    """Read a sealed table; return (table, manifest). Refuses a half-written one."""
    import pandas

    manifest = read_json(path.with_suffix(".json"))
    seal = manifest.get("sha256") if isinstance(manifest, dict) else None
    if not path.exists() or file_digest(path) != seal:
        raise DamagedFile(f"{path} does not match its manifest: it was cut off or changed. Delete it and run again.")
    return pandas.read_parquet(path), manifest
