"""Options of the command line: a schema from plain rows, and the options that a problem, a method or a noise brings."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, get_origin, get_type_hints

Size = Literal["smoke", "paper"]


REQUIRED = object()  # the default of an option that has none


class Option(NamedTuple):
    """One option: its name, what it takes, its default and a line of help."""

    name: str
    kind: Any
    default: Any
    help: str
    positional: bool = False


JSON = Option("json", bool, False, "machine-readable output")
ROOT = Option("root", Path | None, None, "the checkout; found from the current folder otherwise")
JOBS = Option("jobs", int, 2, "experiments at a time, in processes")


def names_option(help_text: str) -> Option:
    """Return the option for names without a flag."""
    return Option("names", tuple[str, ...], (), help_text, positional=True)


def size_option(default: Size) -> Option:
    """Return the option for how much is run."""
    return Option("size", Size, default, "paper: what the paper prints; smoke: seconds of it")


def parse(options: Sequence[Option], arguments: list[str], command: str, description: str) -> Any:
    """Parse arguments; wrong usage is answered with the nearest right flag and exit code 2."""
    import tyro

    fields = []
    for o in options:
        marks = (tyro.conf.Positional,) if o.positional else ()
        default = tyro.MISSING if o.default is REQUIRED else o.default
        fields.append((o.name, Annotated[(o.kind, tyro.conf.arg(help=o.help), *marks)], default))
    schema = dataclasses.make_dataclass(command.capitalize(), fields, frozen=True)
    return tyro.cli(schema, args=arguments, prog=f"orthotheory {command}", description=description)


def peek(arguments: Sequence[str], flag: str) -> str | None:
    """Return the value of a flag before the flags that depend on it are known."""
    for i, argument in enumerate(arguments):
        if argument == flag and i + 1 < len(arguments):
            return arguments[i + 1]
        if argument.startswith(f"{flag}="):
            return argument.partition("=")[2]
    return None


RUN_OPTIONS = [
    Option("problem", str, "quadratic", "see `orthotheory problems`"),
    Option("method", str, "muon", "see `orthotheory methods`"),
    Option("surgery", str | None, None, "aggregator in front of the method, see `orthotheory surgery`"),
    Option("steps", int, 200, "number of steps"),
    Option("every", int, 1, "record each so many steps"),
    Option("seed", int, 0, "seed of the gradient noise"),
    Option("noise", str | None, None, "gaussian, heavy-tailed, low-rank or minibatch"),
    Option("device", str | None, None, "cpu or cuda; ORTHOTHEORY_DEVICE decides without"),
    Option("out", Path, Path("runs"), "folder for the results"),
    Option("progress", bool, True, "show a progress bar"),
    JSON,
]


class RunSchema:
    """The options of `run` for a chosen problem, method and noise, and whose each one is."""

    def __init__(self, problem: Callable[..., Any], method: Any, noise: type | None):
        self.options = list(RUN_OPTIONS)
        self._owner: dict[str, tuple[str, str]] = {}
        hints = get_type_hints(problem)
        for p in inspect.signature(problem).parameters.values():
            if p.name not in ("noise", "device"):
                self._add("problem", p.name, hints[p.name], p.default)
        for field in dataclasses.fields(method.method):
            hint = get_type_hints(method.method)[field.name]
            default = method.preset.get(field.name, field.default)
            self._add("method", field.name, *_plain_kind(field.name, hint, default))
        for field in dataclasses.fields(noise) if noise else ():
            self._add("noise", field.name, get_type_hints(noise)[field.name], field.default)

    def given(self, owner: str, parsed: Any) -> dict[str, Any]:
        """Return the parsed options of the problem, the method or the noise, under their own names."""
        return {name: getattr(parsed, flag) for flag, (whose, name) in self._owner.items() if whose == owner}

    def _add(self, owner: str, name: str, kind: Any, default: Any) -> None:
        taken = {o.name for o in self.options}
        flag = f"{owner}_{name}" if name in taken or owner == "noise" else name
        self._owner[flag] = (owner, name)
        self.options.append(Option(flag, kind, default, f"{name} of the {owner}"))


def _plain_kind(name: str, hint: Any, default: Any) -> tuple[Any, Any]:
    """Return what the command line takes for a hyper-parameter: a choice, a number, a switch or a name."""
    from .norms import TABLE, Norm

    if get_origin(hint) is Literal:
        return hint, default
    if isinstance(default, Norm):
        return str, next(key for key, norm in TABLE.items() if norm is type(default))
    if isinstance(default, bool | int | float | str):
        return type(default), default
    optional = {"ns_steps": int | None, "plan": str | None, "shape_factor": str | None}
    return optional.get(name, float | None), default
