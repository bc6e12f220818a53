"""Terminals of other encodings, and python -O and -OO: every command prints, and nothing ends with a traceback."""

from __future__ import annotations

import functools
import os
from pathlib import Path

import pytest

from tests import forking
from tests.made_store import made_store
from tests.tiny import environment

COMMANDS = (
    ["--help"],
    ["sweep", "--help"],
    ["plan", "demo"],
    ["report", "demo"],
    ["status", "demo"],
    ["settings", "ctt_adj_threshold"],
    ["ls"],
)
ASCII = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
IMPORTED = ("torch", "pandas", "scipy.optimize", "hydra", "rich.table")


@functools.cache
def python(*more: tuple[str, str]) -> str:
    """The address of a Python that was started with these variables and imports once what the commands do (tests/forking.py)."""
    return forking.start(dict(os.environ) | dict(more), IMPORTED)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made_store(tmp_path_factory.mktemp("terminals") / "store", "demo")[0].root


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
@pytest.mark.parametrize(
    "more",
    [ASCII, {"PYTHONIOENCODING": "latin-1"}, {"PYTHONOPTIMIZE": "2"}],
    ids=["ascii", "latin-1", "-OO"],
)
def test_it_prints(command: list[str], more: dict[str, str], store: Path) -> None:
    encoding = "utf-8" if "PYTHONOPTIMIZE" in more else more.get("PYTHONIOENCODING", "ascii")
    done = forking.run(command, environment(store) | more, 120, place=python(*more.items()), encoding=encoding)
    assert done.returncode == 0 and "Traceback" not in done.stderr, done.stderr
    if command[0] == "plan":
        sign = {"ascii": "x", "latin-1": "×", "utf-8": "×"}[encoding]
        assert f"2 points {sign} 3 seeds" in done.stdout
