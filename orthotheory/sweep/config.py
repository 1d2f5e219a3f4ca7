"""Grids as frozen configurations, from Python, TOML or flags: one schema, misspelt keys refused with the nearest."""

from __future__ import annotations

import dataclasses
import inspect
import itertools
import math
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from .. import methods as optimizers
from .. import problems as functions
from ..loop import NEEDS_OBJECTIVES, RECORDERS
from ..names import UnknownName, closest, suggestion
from ..storage import digest, plain
from ..version import __version__
from .starts import STARTS

RANGE = ("from", "to", "per_decade")
LOSS = "loss"  # value minus the optimal value where that is known, the value elsewhere
OWN_PROBLEM_KEYS = ("name", "start", "steps", "every", "target")
OWN_METHOD_KEYS = ("name", "surgery", "on", "not_on")


class Group(NamedTuple):
    """The runs that share everything but learning rate and seed: one batched array operation."""

    problem: str
    method: str
    problem_config: dict[str, Any]
    method_config: dict[str, Any]
    varied: dict[str, Any]
    lrs: tuple[float | None, ...]
    seeds: tuple[int, ...]
    steps: int
    every: int
    record: tuple[str, ...]
    start: str | list | None

    def key(self, device: str, engine: str) -> str:
        """Return what its numbers depend on, as a hash; neither labels nor learning rates nor seeds are part of it."""
        science = [self.problem_config, self.method_config, self.steps, self.every, self.record, self.start]
        return digest([science, device.partition(":")[0], engine, __version__])


@dataclass(frozen=True)
class Sweep:
    """A grid: problems x methods with grids of their hyper-parameters x seeds.

    Parameters
    ----------
    problems : mapping
        From a label to the options of `problems.make`, with the label as `name` unless given. Also `start` (a first
        error, one draw a seed: see `sweep.starts`; or a matrix, the first weights), `target` (a loss in units of the
        first, for the time to it), `steps` and `every` where they differ from those of the sweep.
    methods : mapping
        From a label to the hyper-parameters of `methods.make`, with the label as `name` unless given, and `surgery`, an
        aggregator in front. A list is a grid of that hyper-parameter; `lr` may be {from, to, per_decade}. `on` lists
        the only problems that the method runs on, `not_on` those that it leaves out.
    steps, every : int
        Steps of each run, and how many lie between records.
    seeds : int or sequence of int
        Seeds of noise and start; a number stands for 0, 1, ...
    record : tuple of str
        Recorders that give a number, or "loss": value minus minimum, where that is known.

    Raises
    ------
    UnknownName
        For a key, name or option that does not exist, with the nearest that do.

    >>> grid = Sweep({"quadratic": {}}, {"gd": {"lr": {"from": 0.1, "to": 1.0, "per_decade": 2}}}, seeds=3)
    >>> [round(lr, 3) for lr in grid.groups()[0].lrs], grid.runs
    ([0.1, 0.316, 1.0], 9)
    """

    problems: Mapping[str, Mapping[str, Any]]
    methods: Mapping[str, Mapping[str, Any]]
    steps: int = 100
    every: int = 1
    seeds: int | tuple[int, ...] = 1
    record: tuple[str, ...] = (LOSS,)
    _groups: tuple[Group, ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        for name in ("problems", "methods"):
            value = getattr(self, name)
            if not isinstance(value, Mapping) or not value or not all(isinstance(v, Mapping) for v in value.values()):
                raise ValueError(f"{name} maps labels to tables of options, at least one; got {value!r}.")
        object.__setattr__(self, "record", tuple(self.record))
        for name in self.record:
            closest(name, {**RECORDERS, LOSS: None}, "record")
            if name == "iterate" or name in NEEDS_OBJECTIVES - {"pareto_distance", "stationarity"}:
                raise ValueError(f"A sweep records one number a run and step; {name!r} is an array.")
        _check_count(self.steps, "steps", 0)
        _check_count(self.every, "every", 1)
        object.__setattr__(self, "seeds", _seeds(self.seeds))
        object.__setattr__(self, "_groups", tuple(self._expand()))

    def groups(self) -> tuple[Group, ...]:
        """Return the batched runs of the grid, one a problem and point of the hyper-parameters other than lr."""
        return self._groups

    @property
    def runs(self) -> int:
        """How many runs there are."""
        return sum(len(g.lrs) * len(g.seeds) for g in self._groups)

    @property
    def targets(self) -> dict[str, float]:
        """The target of each problem that has one."""
        return {label: float(p["target"]) for label, p in self.problems.items() if "target" in p}

    def config(self) -> dict[str, Any]:
        """Return the configuration as plain data that `from_mapping` takes."""
        return plain({f.name: getattr(self, f.name) for f in dataclasses.fields(self) if f.init})

    @property
    def digest(self) -> str:
        """A hash of the configuration."""
        return digest(self.config())

    @classmethod
    def from_mapping(cls, content: Mapping[str, Any]) -> Sweep:
        """Build a sweep from nested mappings, as in TOML; unknown keys are refused."""
        known = [f.name for f in dataclasses.fields(cls) if f.init]
        _refuse_unknown(content, known, "A sweep")
        for name, example in (("problems", "quadratic"), ("methods", "muon")):
            if name not in content:
                raise ValueError(f"A sweep needs {name}: a table for each, such as [{name}.{example}].")
        return cls(**content)

    @classmethod
    def read(cls, path: str | Path, changes: Iterable[str] = ()) -> Sweep:
        """Read a TOML file; changes such as `methods.muon.lr=[0.01, 0.02]` come on top."""
        try:
            content = tomllib.loads(Path(path).read_text(encoding="utf-8"))
        except FileNotFoundError as error:
            raise ValueError(f"There is no file {path}; for a grid see figures/sweeps/example.toml.") from error
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise ValueError(f"{path} is not TOML: {error}") from error
        return cls.from_mapping(change(content, changes))

    def _expand(self) -> Iterator[Group]:
        variants = [
            (_problems_of(str(label), options, self.problems), v)
            for label, options in self.methods.items()
            for v in _variants(str(label), options)
        ]
        for label, options in self.problems.items():
            config = {"name": label, **options}
            name = str(config["name"])
            factory = closest(name, functions.TABLE, "problem")
            known = [*OWN_PROBLEM_KEYS, *(p for p in inspect.signature(factory).parameters if p != "device")]
            _refuse_unknown(config, known, f"The problem {label}")
            _check_noise(config.get("noise"), label)
            own = {key: config.pop(key) for key in OWN_PROBLEM_KEYS[1:] if key in config}
            start = own.get("start")
            if isinstance(start, str):
                closest(start, STARTS, "start")
            elif start is not None:
                start = _matrix(start, label)
            steps, every = own.get("steps", self.steps), own.get("every", self.every)
            _check_count(steps, f"steps of {label}", 0)
            _check_count(every, f"every of {label}", 1)
            for wanted, (method, hyper, varied, lrs) in variants:
                if label in wanted:
                    yield Group(str(label), method, plain(config), hyper, varied, lrs, _seeds(self.seeds), steps, every,
                                self.record, start)  # type: ignore[arg-type]  # fmt: skip


def decades(low: float, high: float, per_decade: int) -> tuple[float, ...]:
    """Return the rates 10^(j / per_decade) from `low` to `high`, both on that grid.

    >>> decades(0.01, 1.0, 1)
    (0.01, 0.1, 1.0)
    """
    if not 0 < low <= high < math.inf or per_decade < 1:
        raise ValueError(f"A range of rates needs 0 < from <= to and per_decade >= 1; got {low}, {high}, {per_decade}.")
    ends = [math.log10(x) * per_decade for x in (low, high)]
    if any(abs(x - round(x)) > 1e-9 * max(abs(x), 1) for x in ends):
        raise ValueError(f"{low:g} and {high:g} must be powers of 10^(1/{per_decade}); grids then share points.")
    return tuple(rate(j, per_decade) for j in range(round(ends[0]), round(ends[1]) + 1))


def rate(j: int, per_decade: int) -> float:
    """Return 10^(j / per_decade); exact for whole decades up to the rounding of the literal."""
    return float(f"1e{j // per_decade}") if j % per_decade == 0 else 10.0 ** (j / per_decade)


def change(content: Mapping[str, Any], changes: Iterable[str]) -> dict[str, Any]:
    """Apply changes `a.b.c=VALUE` in TOML's syntax to nested mappings; a value that is no TOML is a string."""
    result = _copied(content)
    for text in changes:
        key, sign, value = text.partition("=")
        if not sign:
            raise ValueError(f"A change is KEY=VALUE, such as methods.muon.lr=[0.01,0.02]; got {text!r}.")
        try:
            new = tomllib.loads(text)
        except tomllib.TOMLDecodeError:
            try:
                new = tomllib.loads(f'{key} = "{value}"')
            except tomllib.TOMLDecodeError as error:
                raise ValueError(f"{text!r} is not KEY=VALUE in TOML: {error}") from error
        _merge(result, new)
    return result


def _copied(value: Any) -> Any:
    return {k: _copied(v) for k, v in value.items()} if isinstance(value, Mapping) else value


def _merge(into: dict[str, Any], new: Mapping[str, Any]) -> None:
    for key, value in new.items():
        both = isinstance(into.get(key), dict) and isinstance(value, Mapping)
        if both and not set(value) & set(RANGE):
            _merge(into[key], value)
        else:
            into[key] = value


def _variants(label: str, options: Mapping[str, Any]) -> Iterator[tuple[str, dict, dict, tuple[float | None, ...]]]:
    """Return the points of the grid of the hyper-parameters other than lr: label, configuration, what varies, rates."""
    config = {"name": label, **options}
    entry = closest(str(config["name"]), {**optimizers.TABLE, **optimizers.NEEDS_MORE}, "method")
    fields = [f.name for f in dataclasses.fields(entry.method)]
    _refuse_unknown(config, [*OWN_METHOD_KEYS, *fields], f"The method {label}")
    if "surgery" in config:
        from .. import surgery

        closest(config["surgery"], surgery.TABLE, "aggregator")
    for key in ("on", "not_on"):
        config.pop(key, None)
    lrs = _rates(config.pop("lr", None), label)
    if None in lrs and "lr" in fields and "lr" not in entry.preset and _required(entry.method, "lr"):
        raise ValueError(f"The method {label} needs lr: a number, a list, or {{from, to, per_decade}}.")
    grids = {key: value for key, value in config.items() if isinstance(value, list)}
    for name, values in grids.items():
        if not values:
            raise ValueError(f"The grid of {name} of {label} is empty.")
    for point in itertools.product(*grids.values()):
        varied = dict(zip(grids, point, strict=True))
        suffix = " ".join(f"{key}={value}" for key, value in varied.items())
        yield (f"{label} {suffix}" if varied else label), plain({**config, **varied}), plain(varied), lrs


def _problems_of(label: str, options: Mapping[str, Any], problems: Mapping[str, Any]) -> set[str]:
    """Return the problems that a method runs on."""
    for key in ("on", "not_on"):
        if not isinstance(options.get(key, ()), list | tuple):
            raise ValueError(f"{key} of {label} is a list of problems, such as ['digits']; got {options[key]!r}.")
        for name in options.get(key, ()):
            closest(name, problems, "problem of this sweep")
    wanted = set(options.get("on", problems)) - set(options.get("not_on", ()))
    if not wanted:
        raise ValueError(f"The method {label} is left with no problem to run on; see its on and not_on.")
    return wanted


def _matrix(value: Any, label: str) -> list[list[float]]:
    """Return first weights as nested lists of numbers."""
    rows = plain(value)
    good = isinstance(rows, list) and rows and all(isinstance(r, list) and len(r) == len(rows[0]) > 0 for r in rows)
    if not good or not all(isinstance(x, int | float) and math.isfinite(x) for row in rows for x in row):
        raise ValueError(f"start of {label} is {', '.join(STARTS)} or a matrix of finite numbers; got {value!r}.")
    return [[float(x) for x in row] for row in rows]


def _required(method: type, name: str) -> bool:
    default = next(f.default for f in dataclasses.fields(method) if f.name == name)
    return default is dataclasses.MISSING


def _rates(value: Any, label: str) -> tuple[float | None, ...]:
    if value is None:
        return (None,)
    if isinstance(value, Mapping):
        _refuse_unknown(value, RANGE, f"The range of rates of {label}")
        if missing := [key for key in RANGE if key not in value]:
            raise ValueError(
                f"The range of rates of {label} lacks {', '.join(missing)}; it is {{from, to, per_decade}}."
            )
        return decades(*(value[key] for key in RANGE))
    values = list(value) if isinstance(value, list | tuple) or hasattr(value, "tolist") else [value]
    if not values or any(isinstance(x, bool | str) or not 0 < x < math.inf for x in values):
        raise ValueError(f"lr of {label} must be positive finite numbers; got {value!r}.")
    rates = tuple(float(x) for x in values)
    if len(set(rates)) < len(rates):
        raise ValueError(f"lr of {label} names a rate twice: {value!r}.")
    return rates


def _seeds(value: Any) -> tuple[int, ...]:
    seeds = tuple(range(value)) if isinstance(value, int) and not isinstance(value, bool) else value
    good = isinstance(seeds, tuple | list | range) and all(isinstance(s, int) and s >= 0 for s in seeds)
    if not good or not seeds or len(set(seeds)) < len(seeds):
        raise ValueError(f"seeds is a positive number of them, or a list of different ones, all >= 0; got {value!r}.")
    return tuple(seeds)


def _check_count(value: Any, name: str, low: int) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or value < low:
        raise ValueError(f"{name} must be a whole number >= {low}; got {value!r}.")


def _check_noise(noise: Any, label: str) -> None:
    if noise is None:
        return
    if not isinstance(noise, Mapping) or "name" not in noise:
        raise ValueError(f"noise of {label} is a table such as {{name = 'gaussian', sigma = 0.1}}; got {noise!r}.")
    kind = closest(noise["name"], functions.NOISES, "noise")
    _refuse_unknown(noise, ["name", *(f.name for f in dataclasses.fields(kind))], f"The noise of {label}")


def _refuse_unknown(content: Mapping[str, Any], known: Iterable[str], what: str) -> None:
    known = list(known)
    for key in content:
        if key not in known:
            raise UnknownName(f"{what} has no option {key!r}; {suggestion(str(key), known)}")
