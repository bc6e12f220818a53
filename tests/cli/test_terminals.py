"""Terminals of other encodings, and python -O and -OO: every command prints, and nothing ends with a traceback."""

from __future__ import annotations

import functools
import os
import subprocess
import sys
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
    [ASCII, {"PYTHONIOENCODING": "latin-1"}, {"PYTHONOPTIMIZE": "2"}, {"COLUMNS": "0"}],
    ids=["ascii", "latin-1", "-OO", "no width"],
)
def test_it_prints(command: list[str], more: dict[str, str], store: Path) -> None:
    encoding = "ascii" if more == ASCII else more.get("PYTHONIOENCODING", "utf-8")
    done = forking.run(command, environment(store) | more, 120, place=python(*more.items()), encoding=encoding)
    assert done.returncode == 0 and "Traceback" not in done.stderr and len(done.stdout) > 100, (done.stdout, done.stderr)
    if command[0] == "plan":
        sign = {"ascii": "x", "latin-1": "×", "utf-8": "×"}[encoding]
        assert f"2 points {sign} 3 seeds" in done.stdout


@pytest.mark.parametrize("number", [0, 1, 2])
@pytest.mark.parametrize(("command", "code"), [(["report", "demo"], 0), (["plan", "nope"], 2)], ids=["report", "error"])
def test_a_stream_that_the_caller_has_closed_does_not_matter(number: int, command: list[str], code: int, store: Path) -> None:
    """And no file gets its number, so that what libraries print is not written to one."""
    look = f"open(os.environ['SEEN'], 'w').write(os.readlink('/proc/self/fd/{number}'))"
    text = f"import atexit, os; from ctt.cli import main; atexit.register(lambda: {look});"
    seen = store.parent / f"seen{number}"
    start = ["sh", "-c", f'exec "$@" {number}>&-', "sh", sys.executable, "-c", f"{text} main({command!r})"]
    done = subprocess.run(start, env=environment(store) | {"SEEN": str(seen)}, capture_output=True, timeout=120)
    assert done.returncode == code and b"Traceback" not in done.stderr, done.stderr
    assert seen.read_text() == "/dev/null"
