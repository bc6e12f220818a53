"""A stage's version is explicit: code that a stage runs must not change under an unchanged version.

stage_versions.json holds, for each kind, its version and a digest of the code it runs, comments and docstrings aside. Where
that code changes its results, raise the stage's `version`; where it does not, say so: `python -m tests.test_stage_versions
"why the change is harmless"` records the new digests with that reason.
"""

import ast
import hashlib
import json
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
RECORD = ROOT / "tests" / "stage_versions.json"
ENTRIES = {
    "data": ("ctt.data.synthetic", "ctt.data.clevrer"),
    "world_model": ("ctt.training.world_model",),
    "rollout": ("ctt.training.rollout",),
    "vqa": ("ctt.training.vqa",),
    "diagnostics": ("ctt.training.diagnostics",),
    "probe": ("ctt.data.levels",),
    "reader": ("ctt.training.reader",),
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
        if path.relative_to(ROOT).parts[1] not in ("data", "models", "training"):
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
        if (
            isinstance(body, list)
            and body
            and isinstance(body[0], ast.Expr)
            and isinstance(body[0].value, ast.Constant)
        ):
            node.body = body[1:]  # type: ignore[attr-defined]
    return ast.dump(tree)


def digest_of(kind: str) -> str:
    digest = hashlib.sha256()
    for path in reached(ENTRIES[kind]):
        digest.update(f"{path.relative_to(ROOT)}\0{code_of(path)}\0".encode())
    return digest.hexdigest()


def versions() -> dict[str, int]:
    from ctt.stages.data import Data
    from ctt.stages.diagnostics import Diagnostics
    from ctt.stages.probe import Probe
    from ctt.stages.reader import Reader
    from ctt.stages.rollout import Rollout
    from ctt.stages.vqa import Vqa
    from ctt.stages.world_model import WorldModel

    return {s.kind: s.version for s in (Data, WorldModel, Rollout, Vqa, Diagnostics, Probe, Reader)}


@pytest.mark.parametrize("kind", ENTRIES)
def test_code_and_version_change_together(kind: str) -> None:
    recorded = json.loads(RECORD.read_text(encoding="utf-8"))[kind]
    assert recorded["version"] == versions()[kind] and recorded["digest"] == digest_of(kind), (
        f"the code of stage {kind} changed since it was recorded: raise its version if results change, then run "
        f'`python -m tests.test_stage_versions "REASON"`'
    )


def test_every_stage_is_watched_through_its_imports() -> None:
    assert set(ENTRIES) == set(versions())
    names = {p.name for p in reached(ENTRIES["world_model"])}
    assert {"losses.py", "predictor.py", "graph.py", "trainer.py", "windows.py"} <= names


def test_comments_say_nothing_and_code_does(tmp_path: Path) -> None:
    one, two, three = (tmp_path / f"{n}.py" for n in "abc")
    one.write_text('"""A."""\nx = 1  # one\n')
    two.write_text('"""B."""\n\nx = 1\n')
    three.write_text('"""A."""\nx = 2\n')
    assert code_of(one) == code_of(two) != code_of(three)


def main() -> None:
    record = json.loads(RECORD.read_text(encoding="utf-8")) if RECORD.exists() else {}
    for kind, version in versions().items():
        known = record.get(kind, {"harmless": []})
        if known.get("digest") == digest_of(kind) and known.get("version") == version:
            continue
        harmless = known["harmless"] if known.get("version") == version else []
        if known.get("version") == version:
            if len(sys.argv) != 2:
                raise SystemExit(f"stage {kind}: raise its version, or give the reason why the change is harmless")
            harmless = [*harmless, sys.argv[1]]
        record[kind] = {"version": version, "digest": digest_of(kind), "harmless": harmless}
    RECORD.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
