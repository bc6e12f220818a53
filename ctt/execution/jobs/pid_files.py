"""Marks: files beside a frozen job, "PID STARTED HOST STAGE", by which others see who is at work on it."""

from __future__ import annotations

import contextlib
import os
import platform
from pathlib import Path


def write_mark(mark: Path, stage: str) -> None:
    """Marks this process as the one at work on what `mark` is named after."""
    temporary = mark.with_suffix(f".{os.getpid()}.tmp")
    temporary.write_text(f"{os.getpid()} {started(os.getpid())} {this_host()} {stage}", encoding="utf-8")
    os.replace(temporary, mark)


def mark_child(mark: Path, pid: int) -> None:
    """Marks process `pid`, just started, until it does so itself."""
    began = started(pid)
    if began != "gone":
        with contextlib.suppress(FileExistsError), open(mark, "x", encoding="utf-8") as file:
            file.write(f"{pid} {began} {this_host()} -")


def beside(jobs: Path) -> list[Path]:
    """The marks of jobs that run on this host for other records of the sweep one of whose records' `jobs` folder this is."""
    found = sorted(jobs.parent.parent.glob("[0-9]*/jobs/[0-9]*.pid"))
    return [mark for mark in found if mark.parent != jobs and running(mark) is not None]


def this_host() -> str:
    return platform.node() or "localhost"


def host_of(mark: Path) -> str | None:
    """Where the process of `mark` runs, or ran if it could not take its mark away."""
    try:
        return mark.read_text(encoding="utf-8").split()[2]
    except (FileNotFoundError, IndexError):
        return None


def running(mark: Path) -> int | None:
    """Process id of the job that wrote `mark`, if it runs on this host still (a recycled id does not count)."""
    try:
        pid, began, host = mark.read_text(encoding="utf-8").split()[:3]
    except (FileNotFoundError, ValueError):
        return None
    return int(pid) if host == this_host() and began == started(int(pid)) else None


def stage_of(mark: Path) -> str | None:
    """Key of the stage that the job of `mark` builds."""
    try:
        key = mark.read_text(encoding="utf-8").split()[3]
    except (FileNotFoundError, IndexError):
        return None
    return None if key == "-" else key


def started(pid: int) -> str:
    """When a process started, in the kernel's ticks; "gone" if there is none of that id, or only a zombie."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rsplit(")", 1)[1].split()
    except (OSError, IndexError):
        return "gone"
    return "gone" if fields[0] == "Z" else fields[19]
