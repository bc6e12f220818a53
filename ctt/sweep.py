"""Sweep: a sweep file and the command line become points and runs.

A sweep file is data: `name`, `baseline` (values), any of `grid` (cross product) and `points` (a list of values), `seeds`,
and the groups that say what a run computes (`world_model: mini`). On the command line overrides are Hydra's grammar;
comma lists, range() and choice() sweep; the command line wins over the file, `seed=` over `seeds`. Points are made
canonical (settings that say nothing are reset), and equal ones merge.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml

from ctt.config import RUN_GROUPS, Config, check_key, compose, config_root, get_value, identity, with_value
from ctt.data.clevrer import resolved
from ctt.errors import SettingError, SweepError
from ctt.models.losses import Rule, rules_in_force

FILE_KEYS = ("name", "baseline", "grid", "points", "seeds", *RUN_GROUPS)
DEFAULT_BASELINE = {"ctt_inv_weight": 0.0, "ctt_suf_weight": 0.0}


@dataclasses.dataclass(frozen=True)
class Point:
    """A full Config without its seed, `values` being what of it the sweep varies."""

    label: str
    values: dict[str, Any]
    baseline: bool
    config: Config

    @cached_property
    def identity(self) -> str:
        """Equal for points that compute the same."""
        return identity(dataclasses.replace(self.config, seed=0))


@dataclasses.dataclass(frozen=True)
class Run:
    """A point with a seed."""

    point: Point
    seed: int

    @cached_property
    def config(self) -> Config:
        return dataclasses.replace(self.point.config, seed=self.seed)

    @property
    def name(self) -> str:
        return f"{self.point.label} seed={self.seed}"


@dataclasses.dataclass(frozen=True)
class Merged:
    """A written point that computes what another one does, and why."""

    values: dict[str, Any]
    into: str
    reason: str


@dataclasses.dataclass(frozen=True)
class Sweep:
    """Distinct points (the baseline first) × seeds; `written` counts the points before merging."""

    name: str
    points: tuple[Point, ...]
    seeds: tuple[int, ...]
    merged: tuple[Merged, ...]
    written: int
    overrides: tuple[str, ...]
    source: str

    @property
    def baseline(self) -> Point:
        return next(p for p in self.points if p.baseline)

    @cached_property
    def runs(self) -> tuple[Run, ...]:
        return tuple(Run(p, s) for p in self.points for s in self.seeds)


@dataclasses.dataclass
class SweepFile:
    """What a sweep file says, checked for form but not yet for the settings' values."""

    source: str
    name: str
    baseline: dict[str, Any]
    grid: dict[str, list[Any]]
    points: list[dict[str, Any]]
    seeds: list[int] | None
    groups: dict[str, str]


def shipped() -> list[str]:
    """Names of the sweeps that come with ctt."""
    return sorted(p.stem for p in (config_root() / "sweeps").glob("*.yaml"))


def find(name: str) -> Path:
    """The file of a sweep given as a name of sweeps/ or as a path. Raises SweepError."""
    path = Path(name).expanduser()
    if path.suffix in (".yaml", ".yml") or path.is_file():
        if not path.is_file():
            raise SweepError(f"no sweep file {name}")
        return path
    candidate = config_root() / "sweeps" / f"{name}.yaml"
    if not candidate.is_file():
        raise SweepError(f"no sweep named {name}; there are {', '.join(shipped())}, or give the path of a YAML file")
    return candidate


def read(name: str | None) -> SweepFile:
    """The sweep file `name` (see `find`); None: an empty one, for a plain multirun. Raises SweepError naming file and key."""
    if name is None:
        return SweepFile("the command line", "multirun", dict(DEFAULT_BASELINE), {}, [], None, {})
    path = find(name)
    source = f"sweeps/{path.name}" if path.parent == config_root() / "sweeps" else str(path)
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise SweepError(f"{source} is not readable YAML: {error}") from error
    if not isinstance(content, dict):
        raise SweepError(f"{source} must hold keys and values ({', '.join(FILE_KEYS)})")
    for key in content:
        if key not in FILE_KEYS:
            hint = "; it belongs on the command line" if key in ("launch", "tracking", "store") else ""
            raise SweepError(f"{key} is not a key of a sweep file ({', '.join(FILE_KEYS)}){hint} ({source})")
    baseline, grid = content.get("baseline", DEFAULT_BASELINE) or {}, content.get("grid") or {}
    points, seeds = content.get("points") or [], content.get("seeds")
    _want(isinstance(baseline, dict), "baseline must be a mapping of settings to values", source)
    _want(isinstance(grid, dict), "grid must be a mapping of settings to lists", source)
    for key, values in grid.items():
        _want(isinstance(values, list) and bool(values), f"grid.{key} must be a list with at least one value", source)
    _want(
        isinstance(points, list) and all(isinstance(p, dict) for p in points),
        "points must be a list of mappings",
        source,
    )
    if seeds is not None:
        _want(isinstance(seeds, list) and bool(seeds), "seeds must be a list of whole numbers", source)
        _want(all(isinstance(s, int) and not isinstance(s, bool) for s in seeds), "seeds must be whole numbers", source)
    for place, mapping in [
        ("baseline", baseline),
        ("grid", grid),
        *((f"points[{i}]", p) for i, p in enumerate(points)),
    ]:
        for key in mapping:
            _want(isinstance(key, str), f"{place}: {key!r} is not the name of a setting", source)
            _want(key != "seed", f"{place}.seed: list seeds under `seeds`", source)
            _check_key(key, f"{source}: {place}")
    groups = {g: content[g] for g in RUN_GROUPS if g in content}
    for group, choice in groups.items():
        _want(
            isinstance(choice, str),
            f"{group} must name one of conf/{group}/*.yaml; set single values in points",
            source,
        )
    return SweepFile(source, str(content.get("name", path.stem)), baseline, grid, points, seeds, groups)


def _want(condition: bool, message: str, source: str) -> None:
    if not condition:
        raise SweepError(f"{message} ({source})")


def _check_key(key: str, place: str) -> None:
    try:
        check_key(key)
    except SettingError as error:
        raise SweepError(f"{error} ({place})") from error


@dataclasses.dataclass
class _CommandLine:
    """Overrides, sorted: single values, swept axes, group choices, seeds, and what only Hydra reads."""

    single: dict[str, Any] = dataclasses.field(default_factory=dict)
    axes: dict[str, list[Any]] = dataclasses.field(default_factory=dict)
    groups: dict[str, str] = dataclasses.field(default_factory=dict)
    seeds: list[int] | None = None


def read_overrides(overrides: Sequence[str]) -> _CommandLine:
    """Sorts a command line's overrides. Raises SweepError, or SettingError for an unknown name."""
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.core.override_parser.types import Override, QuotedString
    from hydra.errors import HydraException

    def plain(value: Any) -> Any:
        if isinstance(value, QuotedString):
            return value.text
        if isinstance(value, list):
            return [plain(v) for v in value]
        if isinstance(value, dict):
            return {str(k): plain(v) for k, v in value.items()}
        return value

    out = _CommandLine()
    try:
        parsed: list[Override] = OverridesParser.create().parse_overrides(list(overrides))
    except HydraException as error:
        raise SweepError(f"{error} (command line)") from error
    for override in parsed:
        key, line = override.key_or_group, override.input_line
        if key == "hydra" or key.startswith(("hydra.", "hydra/")):
            continue
        if override.is_delete() or (override.is_add() and not override.is_force_add()):
            raise SweepError(f"{line}: every setting exists already; write {key}=VALUE (command line)")
        if override.package is not None:
            raise SweepError(f"{line}: packages cannot be chosen here; write {key}=VALUE (command line)")
        _check_key(key, "command line")
        values = (
            [plain(v) for v in override.sweep_iterator(_as_is)]
            if override.is_sweep_override()
            else [plain(override.value())]
        )
        if any(isinstance(v, str) and "${" in v for v in values):
            raise SweepError(f"{line}: give a value, not an interpolation (command line)")
        if key == "seed":
            if not all(isinstance(v, int) and not isinstance(v, bool) for v in values):
                raise SweepError(f"{line}: seeds are whole numbers (command line)")
            out.seeds = values
        elif key in RUN_GROUPS and not override.is_sweep_override():
            out.groups[key] = str(values[0])
        elif key in ("tracking", "launch"):
            if override.is_sweep_override():
                raise SweepError(f"{line}: {key} says where runs go and cannot be swept (command line)")
            out.groups[key] = str(values[0])
        elif override.is_sweep_override():
            out.axes[key] = values
            out.single.pop(key, None)
        else:
            out.single[key] = values[0]
            out.axes.pop(key, None)
    return out


def _as_is(value: Any) -> Any:
    return value


class _Composer:
    """Configs by groups (Hydra, once per choice of groups), then by values (typed, in memory: thousands a second)."""

    def __init__(self) -> None:
        self._bases: dict[tuple[tuple[str, str], ...], Config] = {}

    def __call__(self, groups: Mapping[str, str], values: Iterable[tuple[str, Any, str]]) -> Config:
        chosen, rest = dict(groups), []
        for key, value, place in values:
            if key in RUN_GROUPS:
                chosen[key] = str(value)
            else:
                rest.append((key, value, place))
        marker = tuple(sorted(chosen.items()))
        if marker not in self._bases:
            self._bases[marker] = compose([f"{g}={v}" for g, v in marker])
        config = self._bases[marker]
        for key, value, place in rest:
            try:
                config = with_value(config, key, value)
            except SettingError as error:
                raise SweepError(f"{error} ({place})") from error
        return config


def compile_sweep(name: str | None, overrides: Sequence[str] = (), record_as: str | None = None) -> Sweep:
    """The runs of a sweep file and a command line. Raises SweepError or SettingError, naming file and key, before any work."""
    file, line = read(name), read_overrides(overrides)
    name_override = line.single.pop("name", None)
    line.single.pop("sweep", None)
    groups = {**file.groups, **line.groups}
    compose_point = _Composer()

    def config_of(values: Mapping[str, Any], place: str) -> Config:
        """Single values of the command line first: what a point states for itself differs from point to point."""
        ordered = [(k, v, "command line") for k, v in line.single.items() if k not in values]
        ordered += [(k, v, "command line" if k in line.single or k in line.axes else place) for k, v in values.items()]
        return compose_point(groups, ordered)

    grid = {k: v for k, v in file.grid.items() if k not in line.axes and k not in line.single}
    written: list[tuple[dict[str, Any], str]] = []
    axes = list(line.axes.items())
    for crossed in itertools.product(*(values for _, values in axes)):
        swept = dict(zip((k for k, _ in axes), crossed, strict=True))
        for combination in itertools.product(*grid.values()) if grid else ([()] if not file.points else []):
            written.append(({**dict(zip(grid, combination, strict=True)), **swept}, f"{file.source}: grid"))
        for i, point in enumerate(file.points):
            stated = {k: v for k, v in point.items() if k not in line.single}
            written.append(({**stated, **swept}, f"{file.source}: points[{i}]"))
    if not axes and not grid and not file.points:
        written = [({}, "command line")] if name is None else []

    base_config = config_of(file.baseline, f"{file.source}: baseline")
    base_canonical, _ = canonical(base_config)
    points: list[Point] = [Point("baseline", dict(file.baseline), True, base_canonical)]
    where, merged = {points[0].identity: 0}, []
    baseline_written = False
    for values, place in written:
        config, reasons = canonical(config_of(values, place))
        candidate = Point("", values, False, config)
        seen = where.get(candidate.identity)
        if seen is None:
            where[candidate.identity] = len(points)
            points.append(candidate)
        elif seen == 0 and not baseline_written:
            baseline_written = True  # the file writes its baseline among its points too
        else:
            merged.append((values, seen, "; ".join(r.reason for r in reasons) or "written twice"))
    labelled = _labelled(points)
    seeds = line.seeds or file.seeds or [base_config.seed]
    count = len(written) + (0 if baseline_written else 1)
    return Sweep(
        name=record_as or name_override or file.name,
        points=labelled,
        seeds=tuple(dict.fromkeys(seeds)),
        merged=tuple(Merged(v, labelled[i].label, why) for v, i, why in merged),
        written=count,
        overrides=tuple(overrides),
        source=file.source,
    )


def canonical(config: Config) -> tuple[Config, list[Rule]]:
    """`config` with every setting that says nothing reset to its default, and the rules that did so.

    Of real data it then says what is in the files: that, and not where they are, is what a run is known by.
    """
    in_force = rules_in_force(config.method(), config.world_model.epochs)
    plain = Config()
    for rule in in_force:
        for key in rule.silences:
            config = _reset(config, key.split("."), get_value(plain, key))
    if (data := resolved(config.data)) != config.data:
        config = dataclasses.replace(config, data=data)
    return config, in_force


def _reset(node: Any, path: list[str], value: Any) -> Any:
    if len(path) > 1:
        value = _reset(getattr(node, path[0]), path[1:], value)
    return dataclasses.replace(node, **{path[0]: value})


def _labelled(points: list[Point]) -> tuple[Point, ...]:
    """Points with the values that vary among them, read from their configs, and labels made of these."""
    keys = list(dict.fromkeys(k for p in points for k in p.values if k not in RUN_GROUPS))
    groups = list(dict.fromkeys(k for p in points for k in p.values if k in RUN_GROUPS))
    varying = [k for k in keys if len({repr(get_value(p.config, k)) for p in points}) > 1]
    out = []
    for point in points:
        values: dict[str, Any] = {g: point.values[g] for g in groups if g in point.values}
        values |= {k: get_value(point.config, k) for k in varying}
        label = "baseline" if point.baseline else " ".join(f"{_short(k)}={_text(v)}" for k, v in values.items())
        out.append(dataclasses.replace(point, label=label or "the only point", values=values))
    return tuple(out)


def _short(key: str) -> str:
    return key.removeprefix("ctt_").removeprefix("world_model.")


def _text(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
