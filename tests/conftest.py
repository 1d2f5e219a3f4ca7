"""Fixtures shared by all tests: the backends, and the matrices that break careless code."""

from __future__ import annotations

import numpy as np
import pytest

from orthotheory.arrays import Backend, backend, cuda_is_available, dtype_name


def pytest_addoption(parser):
    parser.addoption("--slow", action="store_true", help="run the long searches as well")


def pytest_collection_modifyitems(config, items):
    if config.getoption("--slow"):
        return
    skip = pytest.mark.skip(reason="a long search; run with --slow")
    for item in items:
        if "slow" in item.keywords:
            item.add_marker(skip)


def strict_backend() -> Backend:
    """The array-API strict namespace on its second device, the stand-in for CuPy."""
    import array_api_strict

    return Backend(array_api_strict, array_api_strict.Device("device1"))


@pytest.fixture(params=["numpy", "strict", "cupy"])
def xp(request) -> Backend:
    """A namespace with its device; `xp.asarray(host)` puts an array there."""
    if request.param == "cupy":
        if not cuda_is_available():
            pytest.skip("CuPy sees no GPU here")
        return backend("cuda")
    return backend("cpu") if request.param == "numpy" else strict_backend()


@pytest.fixture
def cli(capsys, monkeypatch, tmp_path):
    """Run a command line in an empty folder; return (exit code, stdout, stderr)."""
    from orthotheory.cli import command

    monkeypatch.chdir(tmp_path)

    def run(*arguments):
        code = command(list(arguments))
        out = capsys.readouterr()
        return code, out.out, out.err

    return run


def hard_matrices(seed: int = 0) -> dict[str, np.ndarray]:
    """Labeled matrices: the zero, rank-deficient, repeated, tiny, huge, tall, wide, thin and batched ones."""
    rng = np.random.default_rng(seed)
    generic = rng.standard_normal((5, 4))
    u, _ = np.linalg.qr(rng.standard_normal((5, 5)))
    v, _ = np.linalg.qr(rng.standard_normal((4, 4)))
    return {
        "generic": generic,
        "zero": np.zeros((4, 3)),
        "rank one": np.outer(rng.standard_normal(5), rng.standard_normal(4)),
        "rank two": rng.standard_normal((5, 2)) @ rng.standard_normal((2, 4)),
        "repeated singular values": (u[:, :4] * np.array([2.0, 2.0, 1.0, 1.0])) @ v.T,
        "isometry": u[:, :4] @ v.T,
        "ill-conditioned": (u[:, :4] * np.array([1.0, 1e-3, 1e-6, 1e-9])) @ v.T,
        "tiny": 1e-150 * generic,
        "huge": 1e150 * generic,
        "tall": rng.standard_normal((9, 2)),
        "wide": rng.standard_normal((2, 9)),
        "row": rng.standard_normal((1, 6)),
        "column": rng.standard_normal((6, 1)),
        "scalar": np.array([[-3.0]]),
        "one zero row": generic * np.array([1.0, 1.0, 0.0, 1.0, 1.0])[:, None],
        "batch": rng.standard_normal((3, 2, 4, 3)),
        "empty batch": rng.standard_normal((0, 4, 3)),
    }


def eps_of(x) -> float:
    """The rounding unit of an array's dtype, the ingredient of every tolerance."""
    return float(np.finfo(dtype_name(x)).eps)


def rotation(size: int, rng: np.random.Generator) -> np.ndarray:
    """A Haar-distributed orthogonal matrix."""
    q, r = np.linalg.qr(rng.standard_normal((size, size)))
    return q * np.sign(np.diag(r))


def signed_permutation(size: int, rng: np.random.Generator) -> np.ndarray:
    """A permutation matrix with random signs."""
    return np.eye(size)[rng.permutation(size)] * rng.choice([-1.0, 1.0], size)
