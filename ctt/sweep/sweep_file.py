"""Sweep file: `name`, `baseline` (values), any of `grid` (cross product) and `points` (a list of values, each with a
`label` if it is to be called by another name than its values), `seeds`, and the groups that decide what a run computes
(`world_model: mini`). It is data: nothing in it is evaluated."""

from __future__ import annotations

import dataclasses
import difflib
import re
from pathlib import Path
from typing import Any

from ctt.config import RUN_GROUPS, config_root
from ctt.core.errors import SettingError, SweepError
from ctt.core.strict_yaml import YamlError, read_yaml
from ctt.models.losses.loss_term import loss_terms
from ctt.setting_names import check_key, known_keys

FILE_KEYS = ("name", "baseline", "grid", "points", "seeds", *RUN_GROUPS)
LABEL, LONGEST_LABEL = "label", 60
DEFAULT_BASELINE = {term.flag: 0.0 for term in loss_terms().values()}


@dataclasses.dataclass
class SweepFile:
    """What a sweep file holds, checked for form but not yet for the settings' values."""

    source: str
    name: str
    baseline: dict[str, Any]
    grid: dict[str, list[Any]]
    points: list[dict[str, Any]]
    labels: list[str]  # one a point; "": made of its values
    seeds: list[int] | None
    groups: dict[str, str]


def shipped() -> list[str]:
    """Names of the sweeps that come with ctt."""
    return sorted(p.stem for p in (config_root() / "sweeps").glob("*.yaml"))


def find(name: str) -> Path:
    """The file of a sweep given as a name of ctt's sweeps/ or of this folder's, or as a path. Raises SweepError."""
    path = Path(name).expanduser()
    if path.suffix in (".yaml", ".yml") or path.is_file():
        if not path.is_file():
            what = " (it is a folder)" if path.is_dir() else " (it is not a regular file)" if path.exists() else _near(path)
            raise SweepError(f"no sweep file {name}{what}")
        return path
    candidate, own = config_root() / "sweeps" / f"{name}.yaml", Path("sweeps") / f"{name}.yaml"
    if not candidate.is_file() and own.is_file():
        return own
    if not candidate.is_file():
        if (path.parent / f"{path.name}.yaml").is_file():
            raise SweepError(f"no sweep named {name}; a file is given with its ending: {name}.yaml")
        near = difflib.get_close_matches(name, shipped(), 1)
        hint = f"did you mean {near[0]}? there" if near else "there"
        raise SweepError(f"no sweep named {name}; {hint} are {', '.join(shipped())}, or give the path of a YAML file")
    return candidate


def _near(path: Path) -> str:
    """Which sweep files are where one was looked for."""
    if not path.parent.is_dir():
        return f" (there is no folder {path.parent})"
    there = {one.stem: one for one in path.parent.iterdir() if one.suffix in (".yaml", ".yml")}
    near = difflib.get_close_matches(path.stem, there, 1)
    hint = f"; did you mean {there[near[0]]}?" if near else ""
    return f" in {path.parent.resolve()}{hint}"


def read(name: str | None) -> SweepFile:
    """The sweep file `name` (see `find`); None: an empty one, for a plain multirun. Raises SweepError naming file and key."""
    if name is None:
        return SweepFile("the command line", "multirun", dict(DEFAULT_BASELINE), {}, [], [], None, {})
    path = find(name)
    source = f"sweeps/{path.name}" if path.parent == config_root() / "sweeps" else str(path)
    try:
        content = _shortened(read_yaml(path))
    except YamlError as error:
        raise SweepError(f"{source} is not readable YAML: {error}") from error
    except OSError as error:
        raise SweepError(f"{source} cannot be read ({error.strerror})") from error
    if not isinstance(content, dict):
        raise SweepError(f"{source} must hold keys and values ({', '.join(FILE_KEYS)})")
    for key in content:
        if key not in FILE_KEYS:
            raise SweepError(f"{key} is not a key of a sweep file ({', '.join(FILE_KEYS)}){_hint(str(key))} ({source})")
    baseline, grid = content.get("baseline", DEFAULT_BASELINE) or {}, content.get("grid") or {}
    points, seeds = content.get("points") or [], content.get("seeds")
    _want(isinstance(baseline, dict), "baseline must be a mapping of settings to values", source)
    _want(isinstance(grid, dict), "grid must be a mapping of settings to lists", source)
    for key, values in grid.items():
        _want(isinstance(values, list) and bool(values), f"grid.{key} must be a list with at least one value", source)
    _want(
        isinstance(points, list) and all(isinstance(p, dict) for p in points),
        "points must be a list of mappings, one a point, as in `- {ctt_inv_weight: 0.2}`",
        source,
    )
    labels = _taken_labels(points, source)
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
            check_known(key, f"{source}: {place}")
    groups = {g: content[g] for g in RUN_GROUPS if g in content}
    for group, choice in groups.items():
        _want(
            isinstance(choice, str),
            f"{group} must name one of conf/{group}/*.yaml; set single values in points",
            source,
        )
    name = content.get("name", re.sub(r"[^A-Za-z0-9._]+", "-", path.stem).strip("-.") or "sweep")
    _want(isinstance(name, str) and bool(name), f"name must be a text, got {name!r}", source)
    return SweepFile(source, name, baseline, grid, points, labels, seeds, groups)


def _hint(key: str) -> str:
    """What was meant by this key of a sweep file, where that is plain."""
    if key in ("launch", "tracking", "store"):
        return "; it belongs on the command line"
    if key in known_keys():
        return "; it is a setting: indent it below baseline, or give its values below grid or in points"
    near = difflib.get_close_matches(key, FILE_KEYS, 1)
    return f"; did you mean {near[0]}?" if near else ""


def _taken_labels(points: list[dict[str, Any]], source: str) -> list[str]:
    """The points' labels, which are taken out of them. Raises SweepError for one that cannot be a row's name."""
    labels: list[str] = []
    for i, point in enumerate(points):
        label = point.pop(LABEL, "")
        place = f"points[{i}].{LABEL}"
        _want(isinstance(label, str), f"{place} must be a text, got {label!r}", source)
        plain = label == " ".join(label.split()) and label.isprintable() and "=" not in label and len(label) <= LONGEST_LABEL
        _want(plain, f"{place} must be at most {LONGEST_LABEL} characters in one line, without '=', got {label!r}", source)
        _want(label != "baseline", f"{place}: only the baseline is called so", source)
        twin = labels.index(label) if label in labels else None
        _want(not label or twin is None, f"{place}: points[{twin}] has the label {label!r} too", source)
        labels.append(label)
    return labels


def shortest(value: float) -> float:
    """`value` with at most twelve significant digits: 0.1 + 0.2 and 0.3 are one value, with one key."""
    return float(f"{value:.12g}")


def _shortened(value: Any) -> Any:
    if isinstance(value, float):
        return shortest(value)
    if isinstance(value, list):
        return [_shortened(item) for item in value]
    return {k: _shortened(v) for k, v in value.items()} if isinstance(value, dict) else value


def _want(condition: bool, message: str, source: str) -> None:
    if not condition:
        raise SweepError(f"{message} ({source})")


def check_known(key: str, place: str) -> None:
    """Raises SweepError, naming `place` and the nearest known names, if `key` is no setting."""
    try:
        check_key(key)
    except SettingError as error:
        raise SweepError(f"{error} ({place})") from error
