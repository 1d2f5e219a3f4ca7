"""The sources of the kernels and the variants in which each is compiled: element types, tile sizes, options."""

from __future__ import annotations

import functools
from itertools import product
from pathlib import Path
from typing import NamedTuple

HERE = Path(__file__).parent
ARCHITECTURES = ("sm_80", "sm_90")  # what CI compiles for; a GPU compiles for itself
OLDEST = (7, 0)  # compute capability: more than 48 KiB of shared memory in a block
C_TYPES = {"float32": "float", "float64": "double", "float16": "float16", "bfloat16": "bfloat16"}
ACCUMULATORS = {"float32": "float", "float64": "double", "float16": "float", "bfloat16": "float"}
TILES = (2, 4, 8)
PATCHES = (4, 8)
MOST_ROWS = 8  # of a cone: its triangle stays in registers


class Variant(NamedTuple):
    """A kernel with its macros: what one compilation makes."""

    kernel: str
    macros: tuple[tuple[str, str], ...] = ()

    def __str__(self) -> str:
        return " ".join([self.kernel, *(f"{k}={v}" if v else k for k, v in self.macros)])

    @property
    def options(self) -> tuple[str, ...]:
        """The macros as options of a compiler."""
        return tuple(f"-D{k}={v}" if v else f"-D{k}" for k, v in self.macros)


def variant(kernel: str, dtype: str, **macros: int) -> Variant:
    """Return the variant of a kernel for an element type, accumulating in float32 or float64."""
    types = [("IN", C_TYPES[dtype]), ("ACC", ACCUMULATORS[dtype])]
    half = [("WITH_HALF", "")] if dtype in ("float16", "bfloat16") else []
    return Variant(kernel, tuple([*half, *types, *((k, str(v)) for k, v in macros.items())]))


def variants() -> list[Variant]:
    """Return every variant that the package launches."""
    polar = [variant("small_polar", dtype, TILE=tile) for dtype, tile in product(C_TYPES, TILES)]
    cone = [variant("cone_pivot", dtype, M=m) for dtype, m in product(("float32", "float64"), range(1, MOST_ROWS + 1))]
    products = [variant("symmetric_product", dtype, PATCH=patch) for dtype, patch in product(C_TYPES, PATCHES)]
    steps = [variant(kernel, dtype) for kernel, dtype in product(("sign_step", "auon_step"), ("float32", "float64"))]
    return [*polar, *cone, *products, *steps, *tensor_variants()]


def tensor_variants() -> list[Variant]:
    """Return the variants for tensor cores: the host build emulates their products, and only a GPU can judge them."""
    half = [tensor(kernel, d) for kernel in ("small_polar_tensor", "symmetric_tensor") for d in ("float16", "bfloat16")]
    return [*half, tensor("symmetric_tensor", "float32")]


def tensor(kernel: str, dtype: str) -> Variant:
    """Return a variant for tensor cores: float16, bfloat16, or float32 rounded to tf32."""
    kind = {"float16": (), "bfloat16": (("BFLOAT16", ""),), "float32": (("TF32", ""),)}[dtype]
    plain = variant(kernel, dtype)
    return Variant(kernel, (*plain.macros, *kind))


@functools.cache
def source(kernel: str) -> str:
    """Return the text of a kernel with its headers in place, so that it compiles without a path."""
    text = (HERE / f"{kernel}.cu").read_text(encoding="utf-8")
    for header in sorted(HERE.glob("*.cuh")):
        text = text.replace(f'#include "{header.name}"', header.read_text(encoding="utf-8").replace("#pragma once", ""))
    return text
