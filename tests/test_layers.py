"""The packages: each imports only packages above it, no module imports itself by way of others, the heavy libraries live in one
package each, and a name stands for one thing."""

import ast
import subprocess
import sys
from collections import defaultdict
from collections.abc import Collection
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = (
    "core",
    "safeload",
    "store",
    "data",
    "models",
    "training",
    "stages",
    "tracking",
    "config",
    "setting_names",
    "sweep",
    "planning",
    "report",
    "study",
    "execution",
    "app",
    "cli",
    "__main__",
)
LEVEL = {name: level for level, name in enumerate(PACKAGES)}
ONLY_IN = {
    "huggingface_hub": "data",
    "lightning": "training",
    "mlflow": "tracking",
    "psutil": "core",
    "pymunk": "data",
    "submitit": "execution",
}
MOST_MODULES = 22  # of a folder, its __init__ aside
ONE_MEANING = {
    "a stage: its settings and cost, its computation, its model": ("stages", "training", "models"),
    "a command: its body, its words on the command line": ("app", "cli"),
}
"""Packages in which a file name may stand twice, and what the files then have in common."""

FILES = sorted((ROOT / "ctt").rglob("*.py"))
SCRIPTS = sorted((ROOT / "launch").rglob("*.py"))


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


def imported_at_run_time(path: Path) -> set[str]:
    """Full names of the modules that a file imports when it is imported, without those for type checkers alone."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    kept = [node for node in tree.body if not (isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING")]
    return {alias.name if isinstance(node, ast.Import) else str(node.module) for node in kept
            if isinstance(node, ast.Import | ast.ImportFrom) for alias in node.names}  # fmt: skip


def imported_modules(path: Path, known: Collection[str]) -> set[str]:
    """Those of the modules `known` that a file imports; `from package import module` imports the module alone."""
    found = imports(path) & set(known)
    return found - {name.rpartition(".")[0] for name in found if name.rpartition(".")[0] in known}


def package(path: Path) -> str:
    return path.relative_to(ROOT / "ctt").parts[0].removesuffix(".py")


def module(path: Path) -> str:
    """The name under which others import a file; the scripts of launch/ import each other by their file's name."""
    if path in SCRIPTS:
        return path.stem
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_a_package_imports_only_packages_above_it(path: Path) -> None:
    own = package(path)
    if own == "__init__":
        assert not any(n.startswith("ctt") for n in imported_at_run_time(path)), "the library's names are imported at their use"
        return
    for name in imports(path):
        parts = name.split(".")
        if parts[0] == "ctt" and len(parts) > 1 and parts[1] in LEVEL:
            assert LEVEL[parts[1]] < LEVEL[own] or parts[1] == own, f"{own} must not import {name}"
        if parts[0] in ONLY_IN:
            assert own == ONLY_IN[parts[0]], f"only ctt/{ONLY_IN[parts[0]]} imports {parts[0]}, not {path}"
        if own == "data":
            assert parts[0] not in ("hydra", "omegaconf") and not name.startswith("torch.nn"), f"{path} imports {name}"
        if own in ("planning", "report"):
            assert parts[0] not in ("hydra", "omegaconf"), f"{path} imports {name}"


def cycles(graph: dict[str, set[str]]) -> list[str]:
    """A cycle through each module that reaches itself, as "a -> b -> a"; the shortest one."""
    found = []
    for start in graph:
        paths = [[start]]
        seen = {start}
        while paths:
            path = paths.pop(0)
            if start in graph[path[-1]]:
                found.append(" -> ".join([*path, start]))
                break
            for other in graph[path[-1]] - seen:
                seen.add(other)
                paths.append([*path, other])
    return found


def test_no_module_imports_itself_by_way_of_others() -> None:
    known = {module(path): path for path in [*FILES, *SCRIPTS]}
    graph = {name: imported_modules(path, known) - {name} for name, path in known.items()}
    assert cycles(graph) == []


def test_cycles_are_found() -> None:
    assert cycles({"a": {"b"}, "b": {"c"}, "c": set()}) == []
    assert cycles({"a": {"b"}, "b": {"c"}, "c": {"b"}}) == ["b -> c -> b", "c -> b -> c"]


def test_no_command_waits_for_libraries_it_does_not_use() -> None:
    """What compiles sweeps, submits, follows and looks at them starts, and stays, without the libraries of jobs and reports."""
    commands = "ctt.cli, ctt.app.sweep, ctt.app.status, ctt.app.logs, ctt.app.cancel"
    commands += ", ctt.execution.slurm.slurm_launcher, ctt.planning.tree"
    heavy = {"torch", "lightning", "mlflow", "pandas", "matplotlib"}
    code = f"import sys, {commands}; from ctt.planning import Budget, compile_plan; from ctt.sweep import compile_sweep;"
    code += "plan = compile_plan(compile_sweep('demo', [])); plan.jobs; Budget(plan).makespan(2);"
    code += f"print(*({heavy} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.split() == []


def test_a_table_is_printed_without_the_libraries_that_draw_and_rank() -> None:
    code = "import sys, ctt.app.report, ctt.study.study, ctt.study.report_files;"
    code += "print(*({'torch', 'matplotlib', 'scipy.stats', 'mlflow'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.split() == []


def test_every_package_has_a_level() -> None:
    present = {package(p) for p in FILES} - {"__init__"}
    assert present == set(LEVEL)


def test_no_folder_is_crowded() -> None:
    counts = defaultdict(list)
    for path in FILES:
        if path.stem != "__init__":
            counts[path.parent].append(path.name)
    assert {str(folder): len(names) for folder, names in counts.items() if len(names) > MOST_MODULES} == {}


def test_every_folder_says_what_is_in_it() -> None:
    for folder in {path.parent for path in FILES}:
        assert ast.get_docstring(ast.parse((folder / "__init__.py").read_text(encoding="utf-8"))), folder


def test_a_public_class_name_stands_once() -> None:
    where = defaultdict(list)
    for path in FILES:
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                where[node.name].append(str(path.relative_to(ROOT)))
    assert {name: paths for name, paths in where.items() if len(paths) > 1} == {}


def test_a_file_name_stands_for_one_thing() -> None:
    where = defaultdict(list)
    for path in FILES:
        if path.stem not in ("__init__", "__main__"):
            where[path.stem].append(path)
    for name, paths in where.items():
        packages = {package(path) for path in paths}
        assert len(packages) == len(paths), f"{name}.py stands twice in one package: {paths}"
        one = any(packages <= set(allowed) for allowed in ONE_MEANING.values())
        assert len(paths) == 1 or one, f"{name}.py has several meanings: {paths}"


def test_the_top_level_is_what_the_design_says() -> None:
    allowed = {"ctt", "conf", "sweeps", "launch", "analysis", "docs", "tests", "hydra_plugins"}
    tracked = subprocess.run(["git", "-C", str(ROOT), "ls-files"], capture_output=True, text=True)
    if tracked.returncode != 0:
        folders = {p.name for p in ROOT.iterdir() if p.is_dir() and not p.name.startswith(".")} & allowed
    else:
        folders = {line.split("/")[0] for line in tracked.stdout.splitlines() if "/" in line and line[0] != "."}
    assert folders <= allowed
