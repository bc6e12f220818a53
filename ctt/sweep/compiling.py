"""Compiling a sweep: a file's grid and points crossed with the command line's lists, composed, checked, merged, named."""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from ctt.config import RUN_GROUPS, Config, compose
from ctt.core.errors import SettingError, SweepError
from ctt.core.memory import paused_gc
from ctt.core.settings import FROM_FILE, active_rules, canonical_form
from ctt.setting_names import get_value, typed, with_values
from ctt.store import is_folder_name
from ctt.sweep.checkpoints import with_checkpoints
from ctt.sweep.merging import Merger, with_annotations
from ctt.sweep.overrides import CommandLine, read_overrides
from ctt.sweep.points import Point, Sweep
from ctt.sweep.sweep_file import SweepFile, read

MOST_RUNS = 100_000


def compile_sweep(name: str | None, overrides: Sequence[str] = (), record_as: str | None = None) -> Sweep:
    """The points and runs of a sweep: a name or file, and overrides as on the command line; None: overrides alone.

    record_as: the name under which it is recorded, else that in the file. Raises SweepError or SettingError, naming file and
    key, before any work.

    >>> sweep = ctt.compile_sweep("sweeps/demo.yaml", ["seed=0,1", "ctt_inv_weight=0,0.1,0.2"])
    >>> [run.name for run in sweep.runs]
    """
    return compile_with(Composer(), name, overrides, record_as)


@paused_gc()
def compile_with(composed: Composer, name: str | None, overrides: Sequence[str] = (), record_as: str | None = None) -> Sweep:
    """`compile_sweep` with a composer that several sweeps share."""
    file, line = read(name), read_overrides(overrides)
    name_override = line.single.pop("name", None)
    sweep_name = record_as or name_override or file.name
    if not is_folder_name(sweep_name):
        place = file.source if sweep_name == file.name else "command line"
        raise SweepError(f"name={sweep_name!r} cannot name a folder of the store: use letters, digits, '_', '-' and '.' ({place})")
    line.single.pop("sweep", None)
    groups = {**file.groups, **line.groups}

    def config_of(values: Mapping[str, Any], place: str) -> Config:
        """Single values of the command line first: what a point states for itself differs from point to point."""
        ordered = [(k, v, "command line") for k, v in line.single.items() if k not in values]
        ordered += [(k, v, "command line" if k in line.single or k in line.axes else place) for k, v in values.items()]
        config = composed(groups, ordered)
        try:
            config = with_annotations(with_checkpoints(config))
            config.check()
        except SettingError as error:
            raise SweepError(f"{error} ({place})") from error
        return config

    baseline = config_of(file.baseline, f"{file.source}: baseline")
    merger = Merger(baseline, dict(file.baseline))
    seeds = tuple(dict.fromkeys(line.seeds or file.seeds or [baseline.seed]))
    _check_size(file, line, len(seeds))
    count = 0
    for values, title, place in _written(file, line, plain=name is None):
        config = config_of(values, place)
        _check_screening(config, baseline, place)
        if config.data.format.categories != baseline.data.format.categories:
            asked = [", ".join(one.data.format.categories.names) or "nothing" for one in (config, baseline)]
            raise SweepError(
                f"data.kind: its data asks {asked[0]}, the baseline's {asked[1]}; compare them in two sweeps ({place})"
            )
        if config.auxiliary != baseline.auxiliary:
            raise SweepError(f"auxiliary: every run of a sweep has the same auxiliary stages as the baseline ({place})")
        merger.take(config, values, title)
        count += 1
    points = labelled(merger.points)
    return Sweep(
        name=sweep_name,
        points=points,
        seeds=seeds,
        merged=merger.merged([p.label for p in points]),
        written=count + (0 if merger.baseline_written else 1),
        overrides=tuple(overrides),
        source=file.source,
    )


def _written(file: SweepFile, line: CommandLine, plain: bool) -> Iterator[tuple[dict[str, Any], str, str]]:
    """The points as they are written, the command line's lists crossed with the file's grid and points; the label of each ("":
    none) and where it is."""
    grid = {k: v for k, v in file.grid.items() if k not in line.axes and k not in line.single}
    if not line.axes and not grid and not file.points:
        if plain:
            yield {}, "", "command line"
        return
    for crossed in itertools.product(*line.axes.values()):
        swept = dict(zip(line.axes, crossed, strict=True))
        for combination in itertools.product(*grid.values()) if grid else ([()] if not file.points else []):
            yield {**dict(zip(grid, combination, strict=True)), **swept}, "", f"{file.source}: grid"
        for i, (point, label) in enumerate(zip(file.points, file.labels, strict=True)):
            stated = {k: v for k, v in point.items() if k not in line.single}
            yield {**stated, **swept}, label, f"{file.source}: points[{i}]"


def _check_size(file: SweepFile, line: CommandLine, seeds: int) -> None:
    """Raises SweepError for more runs than a plan can be made of."""
    grid = math.prod(len(v) for k, v in file.grid.items() if k not in line.axes and k not in line.single)
    points = math.prod(map(len, line.axes.values())) * (grid * bool(file.grid) + len(file.points) or 1)
    if points * seeds > MOST_RUNS:
        raise SweepError(
            f"{points:,} points × {seeds:,} seeds are {points * seeds:,} runs, and a sweep has at most {MOST_RUNS:,}; "
            f"sweep fewer values ({file.source})"
        )


def _check_screening(config: Config, baseline: Config, place: str) -> None:
    """Raises SweepError where a point would be screened by an ALOE that is not its own."""
    if config.aloe.protocol != "shared" or config.aloe is baseline.aloe:
        return
    mine, theirs = canonical_form(config.aloe), canonical_form(baseline.aloe)
    for key in {**mine, **theirs}:
        if key != "protocol" and mine.get(key) != theirs.get(key):
            raise SweepError(
                f"aloe.{key} cannot differ from the baseline's under aloe.protocol=shared, which evaluates every run "
                f"with the baseline's ALOE; write aloe.protocol=train ({place})"
            )


class Composer:
    """Configs by groups (Hydra, once per choice of groups), then by values (typed, in memory: thousands a second)."""

    def __init__(self) -> None:
        self._bases: dict[tuple[tuple[str, str], ...], Config] = {}

    def __call__(self, groups: Mapping[str, str], values: Iterable[tuple[str, Any, str]]) -> Config:
        chosen, rest = dict(groups), []
        for key, value, place in values:
            if key in RUN_GROUPS:
                if not isinstance(value, str):
                    raise SweepError(f"{key} names one of conf/{key}/*.yaml, and {value!r} is no name ({place})")
                chosen[key] = value
            else:
                rest.append((key, value, place))
        marker = tuple(sorted(chosen.items()))
        if marker not in self._bases:
            self._bases[marker] = compose([f"{g}={v}" for g, v in marker])
        held: dict[str, Any] = {}
        where = ""
        try:
            for key, value, place in rest:
                where = place
                held[key] = typed(key, value)
            return with_values(self._bases[marker], held)
        except SettingError as error:
            raise SweepError(f"{error} ({where})") from error


def labelled(points: list[Point]) -> tuple[Point, ...]:
    """Points with the values that vary among them, read from their configs, and labels made of these."""
    keys = list(dict.fromkeys(k for p in points for k in p.values if k not in RUN_GROUPS))
    groups = list(dict.fromkeys(k for p in points for k in p.values if k in RUN_GROUPS))
    varying = [k for k in keys if len({repr(get_value(p.config, k)) for p in points}) > 1]
    out = []
    for point in points:
        values: dict[str, Any] = {g: point.values[g] for g in groups if g in point.values}
        values |= {k: get_value(point.config, k) for k in varying}
        out.append(dataclasses.replace(point, values=values))
    labels = _labels(out, _text)
    if len(set(labels)) < len(labels):  # values that differ past the twelfth digit
        labels = _labels(out, repr)
    return tuple(dataclasses.replace(point, label=label) for point, label in zip(out, labels, strict=True))


def _labels(points: list[Point], text: Callable[[Any], str]) -> list[str]:
    """What points are called, no two alike: by their files, with the values that vary among points of one label; others by the
    values that vary."""
    shown = [_shown(point) for point in points]
    alike: dict[str, list[int]] = {}
    for place, point in enumerate(points):
        alike.setdefault(point.title, []).append(place)
    labels = []
    for point, values in zip(points, shown, strict=True):
        if point.title and not point.baseline:
            same = [shown[place] for place in alike[point.title]]
            values = {key: value for key, value in values.items() if len({repr(other.get(key)) for other in same}) > 1}
        parts = [point.title] * bool(point.title) + [f"{key}={text(value)}" for key, value in values.items()]
        labels.append("baseline" if point.baseline else " ".join(parts) or "the only point")
    return labels


def _shown(point: Point) -> dict[str, Any]:
    """The values of a label: of a point with weights of a file without the settings of a training, of others without a file."""
    silent = {key for rule in active_rules(point.config) if rule.reason == FROM_FILE for key in rule.inactive}
    return {
        key: value
        for key, value in point.values.items()
        if not any(key == name or key.startswith(f"{name}.") for name in silent)
        and not (value is None and key in ("world_model.checkpoint", "aloe.checkpoint"))
    }


def _text(value: Any) -> str:
    return f"{value:.12g}" if isinstance(value, float) else str(value)
