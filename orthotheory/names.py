"""Finding things by name: an unknown name or option answers with the nearest right ones."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar

Item = TypeVar("Item")


class UnknownName(ValueError):
    """A name that is not in a table; the message lists the nearest right ones."""


def suggestion(name: str, known: Iterable[str]) -> str:
    """Return `did you mean ...?`, or the whole list where nothing is near."""
    known = list(known)
    near = difflib.get_close_matches(name.lower(), known, n=3, cutoff=0.5)
    return f"did you mean {' or '.join(map(repr, near))}?" if near else f"known are {', '.join(known)}."


def closest(name: str, table: Mapping[str, Item], kind: str) -> Item:
    """Return table[name], or refuse with the nearest right names."""
    if name not in table:
        raise UnknownName(f"Unknown {kind} {name!r}; {suggestion(str(name), table)}")
    return table[name]


def build(factory: Callable[..., Item], options: Mapping[str, Any], what: str) -> Item:
    """Call a factory, refusing an option that it does not have with the nearest right ones."""
    known = [p.name for p in inspect.signature(factory).parameters.values()]
    for option in options:
        if option not in known:
            raise UnknownName(f"{what} has no option {option!r}; {suggestion(option, known)}")
    return factory(**options)
