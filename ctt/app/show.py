"""`ctt show`: the settings, inputs, provenance and numbers of an artifact, found by its key or by the name of a run."""

from __future__ import annotations

import difflib
import json
import time
from pathlib import Path
from typing import Any

from rich.console import Console

from ctt.core.errors import CttError, UsageError
from ctt.core.units import duration, size
from ctt.stages.base import seconds_of
from ctt.store import Artifact, Store
from ctt.study import record
from ctt.sweep import run_name


def show_artifact(store: Store, name: str, as_json: bool, console: Console) -> int:
    """Prints an artifact's settings, inputs, provenance and metrics; `name` as for `find_artifact`."""
    key = find_artifact(store, name)
    artifact = store.get(key)
    if artifact is None:
        raise UsageError(f"{name} is not in the store {store.root} (never built, or damaged and quarantined)")
    path = artifact.path / "metrics.json"
    metrics = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    if as_json:
        place = {"key": key, "path": str(artifact.path)}
        print(json.dumps({**place, **artifact.manifest, "metrics": metrics}, indent=1))
    else:
        _print_artifact(store, artifact, metrics, console)
    return 0


def _print_artifact(store: Store, artifact: Artifact, metrics: dict[str, Any], console: Console) -> None:
    manifest = artifact.manifest
    console.print(f"[bold]{manifest['kind']}[/] {artifact.path.name}", highlight=False, soft_wrap=True)
    console.print(str(artifact.path), highlight=False, soft_wrap=True)
    for input_name, other in manifest["inputs"].items():
        console.print(f"  input {input_name}: {other}", highlight=False, soft_wrap=True)
    if manifest.get("started_from"):
        console.print(f"  continued from: {manifest['started_from']}", highlight=False, soft_wrap=True)
    console.print_json(json.dumps(manifest["settings"]))
    _print_provenance(store, manifest["provenance"], console)
    for file_name, file in sorted(manifest["files"].items()):
        console.print(f"  {size(file['size']):>9}  {file_name}", highlight=False)
    if facts := manifest.get("facts"):
        console.print_json(json.dumps(facts))
    if metrics:
        console.print_json(json.dumps({k: v for k, v in metrics.items() if k not in ("blind", "per_frame")}))


def _print_provenance(store: Store, provenance: dict[str, Any], console: Console) -> None:
    took = provenance["ended"] - provenance["began"]
    earlier = seconds_of(provenance) - took
    before = f", after {duration(earlier)} of interrupted work," if earlier >= 1 else ""
    when = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(provenance["began"]))
    where = f"{provenance['host']}, {provenance.get('device', 'cpu')} ({provenance['numerics']})"
    console.print(f"built {when} in {duration(took)}{before} on {where}", soft_wrap=True)
    versions = ", ".join(f"{name} {version}" for name, version in provenance["packages"].items())
    console.print(f"code {provenance['git']}, Python {provenance['python']}, {versions}", soft_wrap=True)
    if plugin := provenance.get("plugin"):
        console.print(
            f"plugin {plugin['distribution']} {plugin['version']} (code {plugin['code']})", soft_wrap=True, highlight=False
        )
    if provenance.get("diff"):
        console.print(f"uncommitted changes: {store.root / 'diffs' / provenance['diff']}", soft_wrap=True)


def find_artifact(store: Store, name: str) -> str:
    """The key of the artifact `name`: a key, its first letters (4 or more), or a run (`demo/baseline seed=0`).

    Raises UsageError where that is none or several.
    """
    if len(name) >= 4 and not set(name) - set("0123456789abcdef"):
        folder = Path(store.root) / "artifacts" / name[:2]
        found = [p.name for p in folder.glob(f"{name}*")] if folder.is_dir() else []
        if len(found) == 1:
            return found[0]
        raise UsageError(f"{len(found) or 'no'} artifacts of {store.root} begin with {name}")
    runs: dict[str, str] = {}
    unreadable = []
    for sweep in record.names(store):
        try:
            plan = record.load(record.newest(store, sweep))
        except CttError as error:
            unreadable.append(f"; {error}")
            continue
        runs |= {f"{sweep}/{run.name}": t.key for run, t in zip(plan.sweep.runs, plan.targets, strict=True)}
    wanted = run_name(name)
    matches = [run for run in runs if run == wanted or run.endswith(f"/{wanted}")]
    if len(matches) != 1:
        near = sorted(difflib.get_close_matches(name, runs, 3, 0.5))
        listed = ", ".join(sorted(matches)[:8] or near or sorted(runs)[:8]) or "none yet"
        count = len(matches) or "no"
        raise UsageError(f"{name!r} names {count} runs; names of runs: {listed}{''.join(unreadable)}")
    return runs[matches[0]]
