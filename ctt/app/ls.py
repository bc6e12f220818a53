"""`ctt ls`: the sweeps that come with ctt, those of this folder, and what the store holds of each."""

from __future__ import annotations

import dataclasses
import itertools
import json
import re
import time
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from ctt.core.errors import CttError
from ctt.core.strict_yaml import YamlError, read_yaml
from ctt.store import Store
from ctt.study import record
from ctt.sweep import Composer, compile_with, find, shipped
from ctt.sweep.sweep_file import FILE_KEYS


@dataclasses.dataclass(frozen=True)
class ListedSweep:
    """A sweep: where it comes from, what it asks for, and what the store holds of its newest record.

    origin: "ctt", the path of a file, or "store" for one that only a record knows; runs, done: None where unknown.
    """

    name: str
    origin: str
    about: str
    points: int | None = None
    seeds: int | None = None
    done: int | None = None
    runs: int | None = None
    recorded: str | None = None
    error: str | None = None


def list_sweeps(store: Store | None, folder: Path, as_json: bool, console: Console) -> int:
    """Prints the sweeps; those that cannot be read are listed with the reason."""
    found = sweeps(store, folder)
    if as_json:
        print(json.dumps([dataclasses.asdict(one) for one in found], indent=1))
        return 0
    table = Table(box=None, padding=(0, 2, 0, 0))
    for title in ("sweep", "from", "points × seeds", "in the store", "about"):
        table.add_column(title, overflow="fold", no_wrap=title == "points × seeds")
    for one in found:
        size = "" if one.points is None else f"{one.points} × {one.seeds}"
        held = "" if one.runs is None else f"{one.done} of {one.runs} runs, {one.recorded}"
        table.add_row(Text(one.name, style="bold"), Text(one.origin), size, held, Text(one.error or one.about))
    console.print(table)
    where = "no store yet" if store is None else f"store {store.root}"
    console.print(f"{where}; `ctt plan NAME` shows what a sweep costs, `ctt sweep NAME` runs it", highlight=False, soft_wrap=True)
    return 0


def sweeps(store: Store | None, folder: Path) -> list[ListedSweep]:
    """Those that come with ctt, then the files of `folder` and its sweeps/, then those that only the store knows."""
    held = {} if store is None else {name: _recorded(store, name) for name in record.names(store)}
    files = [(name, find(name), "ctt") for name in shipped()]
    files += [(_name(path), path, str(path.relative_to(folder))) for path in own_files(folder)]
    composer = Composer()  # of most sweeps the groups are the same
    found = [_listed(name, path, origin, held.pop(name, {}), composer) for name, path, origin in files]
    return found + [ListedSweep(name, "store", "", **facts) for name, facts in held.items()]


def own_files(folder: Path) -> list[Path]:
    """The sweep files of a folder and its sweeps/: YAML with the keys of one, and none of ctt's own."""
    own = {find(name).resolve() for name in shipped()}
    places = (path for place in (folder, folder / "sweeps") for path in sorted(place.glob("*.yaml")))
    return [path for path in places if _is_sweep(path) and path.resolve() not in own]


def _is_sweep(path: Path) -> bool:
    try:
        content = read_yaml(path)
    except (YamlError, OSError):
        return False
    return isinstance(content, dict) and set(content) <= set(FILE_KEYS) and bool({"grid", "points"} & set(content))


def _name(path: Path) -> str:
    return str(read_yaml(path).get("name") or path.stem)


def _listed(name: str, path: Path, origin: str, held: dict[str, Any], composer: Composer) -> ListedSweep:
    about = _about(path.read_text(encoding="utf-8"))
    try:
        sweep = compile_with(composer, str(path))
    except CttError as error:
        return ListedSweep(name, origin, about, error=str(error), **held)
    return ListedSweep(name, origin, about, len(sweep.points), len(sweep.seeds), **held)


def _about(text: str) -> str:
    """The first sentence of a file's first comment, whatever lines it is on."""
    lines = itertools.dropwhile(lambda line: not line.startswith("#"), text.splitlines())
    comment = " ".join(line.lstrip("# ").strip() for line in itertools.takewhile(lambda line: line.startswith("#"), lines))
    return re.split(r"(?<=[.?!]) (?=[A-Z])", comment, maxsplit=1)[0]


def _recorded(store: Store, name: str) -> dict[str, Any]:
    """What the store holds of a sweep's newest record: done, runs, recorded."""
    folder = record.newest(store, name)
    when = time.strftime("%Y-%m-%d", time.localtime((folder / "record.json").stat().st_mtime))
    try:
        targets = record.load(folder).targets
    except CttError as error:
        return {"recorded": when, "error": str(error)}
    return {"done": sum(store.has(target.key) for target in targets), "runs": len(targets), "recorded": when}
