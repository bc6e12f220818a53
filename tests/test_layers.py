"""The rooms: each imports only rooms above it, and the heavy libraries live in one room each."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
ROOMS = (
    ("errors",),
    ("units",),
    ("settings",),
    ("resources",),
    ("memory",),
    ("world",),
    ("job",),
    ("data",),
    ("models",),
    ("training",),
    ("store",),
    ("stages",),
    ("tracking",),
    ("config",),
    ("costs",),
    ("sweep",),
    ("plan",),
    ("report",),
    ("recorded",),
    ("launch",),
    ("cli",),
    ("__main__",),
)
LEVEL = {name: level for level, names in enumerate(ROOMS) for name in names}
ONLY_IN = {
    "huggingface_hub": "data",
    "lightning": "training",
    "mlflow": "tracking",
    "pymunk": "data",
    "submitit": "launch",
}
FILES = sorted((ROOT / "ctt").rglob("*.py"))


def imports(path: Path) -> set[str]:
    """Full names of the modules a file imports, anywhere in it."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: import by full name"
            module = node.module or ""
            names |= {f"{module}.{alias.name}" for alias in node.names} | {module}
    return names


def room(path: Path) -> str:
    return path.relative_to(ROOT / "ctt").parts[0].removesuffix(".py")


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_a_room_imports_only_rooms_above_it(path: Path) -> None:
    own = room(path)
    if own == "__init__":
        assert not any(n.startswith("ctt") for n in imports(path))
        return
    for name in imports(path):
        parts = name.split(".")
        if parts[0] == "ctt" and len(parts) > 1 and parts[1] in LEVEL:
            assert LEVEL[parts[1]] < LEVEL[own] or parts[1] == own, f"{own} must not import {name}"
        if parts[0] in ONLY_IN:
            assert own == ONLY_IN[parts[0]], f"only ctt/{ONLY_IN[parts[0]]} imports {parts[0]}, not {path}"
        if own == "data":
            assert parts[0] not in ("hydra", "omegaconf") and not name.startswith("torch.nn"), f"{path} imports {name}"
        if own in ("plan", "report"):
            assert parts[0] not in ("hydra", "omegaconf"), f"{path} imports {name}"


def test_no_command_waits_for_libraries_it_does_not_use() -> None:
    """What compiles sweeps, submits, follows and looks at them starts, and stays, without the libraries of jobs and reports."""
    verbs = "ctt.cli, ctt.launch.run, ctt.launch.slurm, ctt.launch.status, ctt.launch.logs, ctt.launch.cancel, ctt.plan.tree"
    heavy = {"torch", "lightning", "mlflow", "pandas", "matplotlib"}
    code = f"import sys, {verbs}; from ctt.plan import Budget, compile_plan; from ctt.sweep import compile_sweep;"
    code += "plan = compile_plan(compile_sweep('demo', [])); plan.jobs; Budget(plan).makespan(2);"
    code += f"print(*({heavy} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.split() == []


def test_every_room_has_a_level() -> None:
    present = {room(p) for p in FILES} - {"__init__"}
    assert present == set(LEVEL)


def test_the_top_level_is_what_the_design_says() -> None:
    allowed = {"ctt", "conf", "sweeps", "launch", "analysis", "tests", "hydra_plugins"}
    tracked = subprocess.run(["git", "-C", str(ROOT), "ls-files"], capture_output=True, text=True)
    if tracked.returncode != 0:
        folders = {p.name for p in ROOT.iterdir() if p.is_dir() and not p.name.startswith(".")} & allowed
    else:
        folders = {line.split("/")[0] for line in tracked.stdout.splitlines() if "/" in line and line[0] != "."}
    assert folders <= allowed
