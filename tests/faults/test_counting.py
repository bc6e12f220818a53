"""The count of faults at the end of a session: what was tried, what has held, by kind, over all processes that run tests."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.faults.counting import line

FOUR = """
import pytest
from tests.faults.counting import fault, pytest_runtest_makereport, pytest_terminal_summary

def test_loop(fault):
    for number in range(3):
        with fault("SIGKILL"):
            assert number < 2

@pytest.mark.fault("clock jumps")
def test_one():
    pass

@pytest.mark.fault("clock jumps")
def test_another():
    raise ValueError

def test_no_fault():
    pass
"""


def test_the_line() -> None:
    assert line([("b", True), ("a", True), ("a", False)]) == "faults: 3 tried, 2 held (a 1 of 2, b 1 of 1)"


@pytest.mark.parametrize("processes", ["0", "2"])
def test_a_session_prints_one_count(tmp_path: Path, processes: str) -> None:
    (tmp_path / "conftest.py").write_text(FOUR.partition("def test_loop")[0])
    (tmp_path / "test_some.py").write_text("import pytest\n\ndef test_loop" + FOUR.partition("def test_loop")[2])
    (tmp_path / "pytest.ini").write_text("[pytest]\nmarkers = fault: counted\n")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-n", processes, "-p", "no:cacheprovider", str(tmp_path)],
        cwd=Path(__file__).parents[2], capture_output=True, text=True,
    )  # fmt: skip
    found = [text for text in done.stdout.splitlines() if text.startswith("faults: ")]
    assert found == ["faults: 5 tried, 3 held (SIGKILL 2 of 3, clock jumps 1 of 2)"], done.stdout + done.stderr
