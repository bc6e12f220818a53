"""The package: wheel and sdist are whole, and the wheel alone does everything in an empty folder, without a checkout.

Nothing is downloaded: a fresh environment gets the wheel, and sees what this one has installed.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import sysconfig
import tarfile
import tomllib
import urllib.request
import venv
import zipfile
from pathlib import Path

import pytest

from tests.tiny import TINY, environment

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[1]
SMALL = [one for one in TINY if not one.startswith(("data=", "world_model=", "aloe="))]


def build(source: Path, kind: str, to: Path) -> Path:
    """Builds the wheel or sdist of a source tree; returns its file."""
    command = [sys.executable, "-m", "hatchling", "build", "-t", kind, "-d", str(to)]
    subprocess.run(command, cwd=source, check=True, capture_output=True, timeout=120)
    [built] = to.iterdir()
    return built


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(ROOT, "wheel", tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the programs of an environment with the wheel."""
    place = tmp_path_factory.mktemp("environment")
    venv.create(place, with_pip=False, symlinks=True)
    names = {"base": str(place), "platbase": str(place)}
    here, there = sysconfig.get_path("purelib"), Path(sysconfig.get_path("purelib", "venv", vars=names))
    (there / "others.pth").write_text(f"{here}\n")  # its own .pth files, such as that of a checkout, are not read from there
    pip = [sys.executable, "-m", "pip", "--python", str(place), "install", "--quiet", "--no-deps", "--no-index", str(wheel)]
    subprocess.run(pip, check=True, timeout=120)
    return place / "bin"


def test_a_wheel_of_the_sdist_is_the_wheel(wheel: Path, tmp_path: Path) -> None:
    sdist = build(ROOT, "sdist", tmp_path / "sdist")
    with tarfile.open(sdist) as archive:
        archive.extractall(tmp_path / "source", filter="data")
    [source] = (tmp_path / "source").iterdir()
    with zipfile.ZipFile(wheel) as one, zipfile.ZipFile(build(source, "wheel", tmp_path / "wheel")) as other:
        assert {name: one.read(name) for name in one.namelist()} == {name: other.read(name) for name in other.namelist()}
        names = set(one.namelist())
    assert {
        "ctt/py.typed",
        "ctt/tracking/mlflow_page.js",
        "ctt/_config/conf/config.yaml",
        "ctt/_config/analysis/ablation.ipynb",
    } <= names
    assert {name.partition("/")[0] for name in names} == {"ctt", "hydra_plugins", "ctt_jepa-0.2.0.dist-info"}
    assert (source / "tests" / "test_package.py").is_file() and (source / "Makefile").is_file()


def test_extras_bring_what_they_are_for() -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]
    assert {"notebooks", "server", "docs", "dev"} <= set(extras)
    named = {extra: " ".join(requirements) for extra, requirements in extras.items()}
    assert "jupyterlab" in named["notebooks"] and "ipywidgets" in named["notebooks"] and "psycopg" in named["server"]


def test_everything_works_without_a_checkout(installed: Path, tmp_path: Path) -> None:
    folder, own = tmp_path / "empty", environment(tmp_path / "unused")
    folder.mkdir()
    for name in ("PYTHONPATH", "CTT_STORE"):
        own.pop(name, None)
    own["JUPYTER_PATH"] = str(Path(sys.prefix) / "share" / "jupyter")  # nbconvert's templates, which no .pth file leads to

    def ctt(*arguments: str) -> str:
        done = subprocess.run([installed / "ctt", *arguments], env=own, cwd=folder, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, f"ctt {arguments}: {done.stdout}{done.stderr}"
        return done.stdout

    place = "import ctt, hydra_plugins.ctt_sweeper as plugin; print(ctt.__file__, plugin.__file__)"
    found = subprocess.run([installed / "python", "-c", place], env=own, cwd=folder, capture_output=True, text=True, check=True)
    assert [Path(one).is_relative_to(installed.parent) for one in found.stdout.split()] == [True, True]
    assert "baseline" in ctt("sweep", "quick", *SMALL)
    assert {path.name for path in folder.iterdir()} == {"store"}
    assert " jobs in " in ctt("sweep", "quick", *SMALL, "diagnostics.windows=8", "launch=local", "name=other", "tracking=off")
    page = folder / ctt("report", "quick", "--notebook").strip()
    assert page.stat().st_size > 10_000 and "quick" in ctt("ls")
    assert "compdef" in ctt("completion", "zsh")
    _serves(installed, folder, own)


def _serves(installed: Path, folder: Path, own: dict[str, str]) -> None:
    """`ctt ui` answers, and ends by Ctrl-C."""
    server = subprocess.Popen(
        [installed / "ctt", "ui", "--port", "0"], env=own, cwd=folder, stdout=subprocess.PIPE, text=True, start_new_session=True
    )
    assert server.stdout is not None
    try:
        address = server.stdout.readline().removeprefix("MLflow: ").partition("/#")[0].strip()
        with urllib.request.urlopen(f"{address}/health", timeout=30) as answer:
            assert answer.status == 200
        assert {server.stdout.readline().split(":")[0].strip() for _ in range(2)} == {"other", "quick"}
    finally:
        os.kill(server.pid, signal.SIGINT)
        assert server.wait(60) == 0
