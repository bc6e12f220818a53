"""A stage's version is explicit: the code that a stage runs must not change under an unchanged version.

versions/KIND.txt holds a stage's version, a digest of each file of the code it runs (without comments and docstrings), and
the reasons why changes were harmless. If a change affects results, raise the stage's `version`; if not, record the new
digests with the reason: `python -m tests.stages.test_stage_versions "why the change is harmless"`.

Git merges these files line by line and keeps the lines of both sides (.gitattributes): one of several digests must match.
"""

import ast
import hashlib
import sys
from pathlib import Path
from typing import Any

import pytest

from ctt.models.graphs.graph_source import SOURCES
from ctt.models.losses.loss_term import LOSSES

ROOT = Path(__file__).resolve().parents[2]
RECORDS = ROOT / "tests" / "stages" / "versions"
PARTS = [part.partition(":")[0] for registry in (LOSSES, SOURCES) for part in registry.builtin.values()]
ENTRIES = {
    "data": ("ctt.data.synthetic.writing", "ctt.data.clevrer.source_files"),
    "world_model": ("ctt.training.world_model", *PARTS),
    "rollout": ("ctt.training.rollout",),
    "vqa": ("ctt.training.vqa",),
    "diagnostics": ("ctt.training.diagnostics", *PARTS),
    "probe": ("ctt.data.positions.reference_levels",),
    "removed": ("ctt.data.positions.removed_objects",),
    "imagined": ("ctt.training.positions.imagined_videos",),
    "reader": ("ctt.training.positions.position_reader",),
}


def path_of(module: str) -> Path | None:
    base = ROOT / Path(*module.split("."))
    for path in (base.with_suffix(".py"), base / "__init__.py"):
        if path.is_file():
            return path
    return None


def reached(modules: tuple[str, ...]) -> list[Path]:
    """Every file of ctt/data, ctt/models and ctt/training that the modules import, directly or through others."""
    seen: dict[Path, None] = {}
    waiting = list(modules)
    while waiting:
        path = path_of(waiting.pop())
        if path is None or path in seen:
            continue
        if path.relative_to(ROOT).parts[1] not in ("safeload", "data", "models", "training"):
            continue
        seen[path] = None
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("ctt"):
                waiting += [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
    return sorted(seen)


def code_of(path: Path) -> str:
    """The file's code without comments, docstrings and layout."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if isinstance(body, list) and body and isinstance(body[0], ast.Expr) and isinstance(body[0].value, ast.Constant):
            node.body = body[1:]  # type: ignore[attr-defined]
    more: dict[str, Any] = {"show_empty": True} if sys.version_info >= (3, 13) else {}
    return ast.dump(tree, **more).replace(", type_params=[]", "")  # as Python 3.11 writes it


def digests_of(kind: str) -> dict[str, str]:
    """{file: digest of its code} of all that a stage runs."""
    return {
        path.relative_to(ROOT).as_posix(): hashlib.sha256(code_of(path).encode()).hexdigest()[:24]
        for path in reached(ENTRIES[kind])
    }


Record = dict[str, list[str]]
"""Name ("version", "harmless" or a file) → values; each line is a name, a space and a value."""


def recorded(text: str) -> Record:
    record: Record = {}
    for line in text.splitlines():
        name, _, value = line.partition(" ")
        record.setdefault(name, []).append(value)
    return record


def changed(record: Record, version: int, digests: dict[str, str]) -> list[str]:
    """What differs from the record of a stage: "version", or files that were changed, added or removed."""
    removed = set(record) - {"version", "harmless"} - set(digests)
    now = {"version": str(version), **digests}
    return sorted(removed | {name for name, value in now.items() if value not in record.get(name, ())})


def text_of(version: int, digests: dict[str, str], harmless: list[str]) -> str:
    code = (f"{name} {digest}" for name, digest in digests.items())
    return "".join(f"{line}\n" for line in (f"version {version}", *code, *(f"harmless {reason}" for reason in harmless)))


def versions() -> dict[str, int]:
    from ctt.stages.auxiliary.diagnostics import Diagnostics
    from ctt.stages.auxiliary.reader import PositionReader
    from ctt.stages.data import Data
    from ctt.stages.imagined import ImaginedVideos
    from ctt.stages.reader_fit import ReaderFit
    from ctt.stages.removed import RemovedObjects
    from ctt.stages.rollout import Rollout
    from ctt.stages.vqa import Vqa
    from ctt.stages.world_model import WorldModel

    stages = (Data, WorldModel, Rollout, Vqa, Diagnostics, ReaderFit, PositionReader, RemovedObjects, ImaginedVideos)
    return {s.kind: s.version for s in stages}


@pytest.mark.parametrize("kind", ENTRIES)
def test_code_and_version_change_together(kind: str) -> None:
    record = recorded((RECORDS / f"{kind}.txt").read_text(encoding="utf-8"))
    differing = changed(record, versions()[kind], digests_of(kind))
    assert not differing, (
        f"stage {kind} is not as recorded ({', '.join(differing)}): raise its version if results change, then run "
        f'`python -m tests.stages.test_stage_versions "REASON"`'
    )


def test_changes_are_named_and_a_merge_keeps_both_sides() -> None:
    digests = {"a.py": "1", "b.py": "2"}
    record = recorded(text_of(1, digests, ["only renamed"]))
    assert record["harmless"] == ["only renamed"] and changed(record, 1, digests) == []
    assert changed(record, 2, digests) == ["version"]
    assert changed(record, 1, {"a.py": "9", "c.py": "3"}) == ["a.py", "b.py", "c.py"]
    both = recorded("version 1\na.py 0\na.py 1\nb.py 0\nb.py 2\nharmless one\nharmless two\n")
    assert changed(both, 1, digests) == [] and len(both["harmless"]) == 2


def test_every_stage_is_checked_with_all_its_imports() -> None:
    assert set(ENTRIES) == set(versions())
    names = {p.name for p in reached(ENTRIES["world_model"])}
    assert {"terms.py", "predictor.py", "slot_graph.py", "trainer.py", "windows.py"} <= names


def test_comments_do_not_change_the_digest_and_code_does(tmp_path: Path) -> None:
    one, two, three = (tmp_path / f"{n}.py" for n in "abc")
    one.write_text('"""A."""\nx = 1  # one\n')
    two.write_text('"""B."""\n\nx = 1\n')
    three.write_text('"""A."""\nx = 2\n')
    assert code_of(one) == code_of(two) != code_of(three)


def main() -> None:
    for kind, version in versions().items():
        path, digests = RECORDS / f"{kind}.txt", digests_of(kind)
        previous = recorded(path.read_text(encoding="utf-8")) if path.exists() else {"version": ["new"]}
        harmless = previous.get("harmless", []) if str(version) in previous["version"] else []
        if changed(previous, version, digests) and str(version) in previous["version"]:
            if len(sys.argv) != 2:
                raise SystemExit(f"stage {kind}: raise its version, or give the reason why the change is harmless")
            harmless = [*harmless, sys.argv[1]]
        path.write_text(text_of(version, digests, list(dict.fromkeys(harmless))), encoding="utf-8")


if __name__ == "__main__":
    main()
