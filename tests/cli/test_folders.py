"""The user's folders: what lies beside the checkout or where a command is typed is no group of settings and no sweep."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from ctt.config import config_root
from ctt.sweep import compile_sweep, find, quoted, read_overrides, shipped
from ctt.tracking.tracking_settings import database_path
from tests import forking
from tests.tiny import TINY, TINY_ONE_SEED, environment

FOLDERS = ("store", "sweep", "data", "name", "device", "demo", "quick", "world_model", "hydra")
NAMES = (
    "it's.yaml",
    "date=2026/x.yaml",
    "a b/c,d.yaml",
    'two"quotes.yaml',
    "[1]{2}.yaml",
    "back\\slash.yaml",
    "a;b$c.yaml",
    "é—.yaml",
)
SWEEP = "name: odd\ndata: mini\nworld_model: mini\naloe: mini\nseeds: [0]\npoints: [{ctt_inv_weight: 0.2}]\n"


@pytest.fixture
def crowded(tmp_path: Path) -> Path:
    """A checkout with a folder of the name of each group and of some settings."""
    for folder in ("ctt", "conf", "sweeps", "launch", "hydra_plugins"):
        shutil.copytree(config_root() / folder, tmp_path / folder, ignore=shutil.ignore_patterns("__pycache__", "devcluster"))
    for folder in FOLDERS:
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "mine.yaml").write_text("seed: 9\n")
    return tmp_path


def ctt(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    own = environment(folder / "store") | {"PYTHONPATH": str(folder)}
    with contextlib.chdir(folder):
        return forking.run(arguments, own, 300)


def test_folders_beside_the_checkout_are_no_groups(crowded: Path) -> None:
    kept = crowded / "elsewhere"
    assert ctt(crowded, "plan", "quick", f"store={kept}").returncode == 0
    shown = ctt(crowded, "run", f"store={kept}", "sweep=demo", "name=x", "device=cpu", "data=mini", "launch=local", "--cfg", "job")
    assert f"store: {kept}\nsweep: demo\nname: x\n" in shown.stdout and "kind: local" in shown.stdout, shown.stderr
    refused = ctt(crowded, "sweep", "quick", "launch=nope", f"store={kept}")
    assert refused.returncode == 2 and "there are inproc, local, slurm" in refused.stderr


@pytest.mark.parametrize("name", NAMES)
def test_a_sweep_file_may_have_any_name(name: str, tmp_path: Path) -> None:
    file = tmp_path / name
    file.parent.mkdir(exist_ok=True)
    file.write_text(SWEEP)
    assert read_overrides([f"sweep={quoted(str(file))}"]).single == {"sweep": str(file)}
    assert compile_sweep(str(file)).name == "odd"


def test_a_file_without_a_name_is_recorded_under_one_that_a_folder_can_have(tmp_path: Path) -> None:
    file = tmp_path / "it's é.yaml"
    file.write_text(SWEEP.removeprefix("name: odd\n"))
    assert compile_sweep(str(file)).name == "it-s"
    with pytest.raises(Exception, match=r"name='a/b' cannot name a folder .* \(command line\)"):
        compile_sweep(str(file), ["name=a/b"])


def test_a_sweep_of_an_odd_name_runs(tmp_path: Path) -> None:
    (tmp_path / "date=2026").mkdir()
    (tmp_path / "date=2026" / "it's.yaml").write_text(SWEEP)
    with contextlib.chdir(tmp_path):
        done = forking.run(["sweep", "date=2026/it's.yaml", "data=clevrer"], environment(tmp_path / "store"), 300)
    assert done.returncode == 2 and done.stderr.startswith("ctt: data=clevrer needs data.slots_file"), done.stderr


def test_a_sweep_of_the_users_own_folder_is_found_by_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "sweeps").mkdir()
    for name in ("mine", "demo"):
        (tmp_path / "sweeps" / f"{name}.yaml").write_text(SWEEP)
        (tmp_path / f"{name}").mkdir()
    assert find("mine") == Path("sweeps/mine.yaml") and find("demo") == config_root() / "sweeps" / "demo.yaml"
    assert compile_sweep("mine", TINY).name == "odd" and "mine" not in shipped()


def test_modules_in_the_users_folder_are_imported_by_no_process(tiny_one_seed: Path, tmp_path: Path) -> None:
    """Neither by the command, nor by those it starts: here what sends a finished sweep to MLflow."""
    store = tmp_path / "store"
    shutil.copytree(tiny_one_seed, store)
    for name in ("json", "random", "queue", "torch", "yaml", "mlflow"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('imported from the current folder')")
    done = subprocess.run(
        [sys.executable, "-P", "-m", "ctt", "sweep", *TINY_ONE_SEED, "launch=local"],  # as the script `ctt` does
        env=environment(store), cwd=tmp_path, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0 and "MLflow is not up to date" not in done.stderr, done.stderr
    assert database_path(store).exists()
