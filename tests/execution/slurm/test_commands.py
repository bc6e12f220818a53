"""What SLURM's commands print is data: banners, other encodings and free text in fields."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ctt.execution.slurm import commands, sacct


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder first in PATH whose squeue and sacct print the files of that name, and keep their environment."""
    for name in ("squeue", "sacct"):
        (tmp_path / name).write_text(
            f'#!/bin/sh\nenv > {tmp_path}/environment\necho "$@" > {tmp_path}/arguments\ncat {tmp_path}/{name}.out\n'
        )
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    return tmp_path


def test_squeues_rows_are_those_that_begin_with_a_job(program: Path) -> None:
    rows = b"Welcome to M\xfcnchen | job 42 | down | n1\n12_3|RUNNING|n1|None\n12_4|PENDING||(a|b) launch failed requeued held\n\n"
    (program / "squeue.out").write_bytes(rows)
    held = (commands.HELD, "", "(a|b) launch failed requeued held")
    assert commands.queued("x") == {"12_3": ("RUNNING", "n1", "None"), "12_4": held}
    (program / "squeue.out").write_bytes(b"12_3|/home/a|b.sh\n")
    assert commands.scripts("x") == {"12_3": "/home/a|b.sh"}


def test_nobodys_name_and_filters_change_what_is_asked(program: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (program / "squeue.out").write_text("")
    for name in ("LOGNAME", "USER"):
        monkeypatch.setenv(name, "somebody-else")
    for name in ("SQUEUE_STATES", "SQUEUE_FORMAT", "SACCT_FORMAT", "SCANCEL_STATE", "SLURM_TIME_FORMAT"):
        monkeypatch.setenv(name, "RUNNING")
    assert commands.queued("x") == {}
    assert f"-u {os.getuid()} " in (program / "arguments").read_text()
    assert "=RUNNING" not in (program / "environment").read_text()


def test_accounts_are_read_past_banners_and_free_text(program: Path) -> None:
    header = "|".join(sacct.COLUMNS)
    text = (
        f"NOTICE | job 7 | maintenance\n{header}\n12_3|FAILED|1:0|n1|why | not\n12_3.0|FAILED|0:9|n1|\n* see |x|0:0|n|\n".encode()
    )
    (program / "sacct.out").write_bytes(text + b"12_[4-5%2]|PENDING|0:0|None assigned|M\xfcll\n")
    found = commands.accounted(["12_3", "12_4"])
    assert list(found) == ["12_3", "12_4", "12_5"]
    assert (found["12_3"].reason, found["12_3"].signal, found["12_3"].nodes) == ("why | not", 9, "n1")
    assert found["12_4"].nodes == "" and found["12_4"].alive


WORDS = ("12_3", "12_[0-2,7%4]", "12.batch", "FAILED", "CANCELLED by 7", " ", "", "1:0", "a:b", "1:", ":", "|", "Müll", "\x00")
FIELD = st.sampled_from(WORDS)


@given(st.lists(st.lists(FIELD, max_size=8).map("|".join), max_size=6))
def test_any_rows_are_read(rows: list[str]) -> None:
    """Whatever stands in them: an account, or none."""
    accounts = sacct.read("\n".join(["|".join(sacct.COLUMNS), *rows]))
    assert all(isinstance(one.code, int) and one.state for one in accounts.values())
