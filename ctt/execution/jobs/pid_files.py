"""Pid files beside frozen jobs, "PID STARTED HOST STAGE", by which others see which process is at work on a job."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from ctt.core.atomic_files import write
from ctt.core.processes import started, this_host


def write_pid_file(pid_file: Path, stage: str) -> None:
    """Names this process as the one at work on what `pid_file` is called after."""
    write(pid_file, f"{os.getpid()} {started(os.getpid())} {this_host()} {stage}".encode(), durable=False)


def write_pid_file_of(pid_file: Path, pid: int) -> None:
    """Names process `pid`, just started, until it does so itself."""
    began = started(pid)
    if began is not None:
        with contextlib.suppress(FileExistsError), open(pid_file, "x", encoding="utf-8") as file:
            file.write(f"{pid} {began} {this_host()} -")


def elsewhere(jobs: Path) -> list[Path]:
    """The pid files of jobs that run on this host for other records of the sweep one of whose records' `jobs` folder this is."""
    found = sorted(jobs.parent.parent.glob("[0-9]*/jobs/[0-9]*.pid"))
    return [pid_file for pid_file in found if pid_file.parent != jobs and running(pid_file) is not None]


def host_of(pid_file: Path) -> str | None:
    """Where the process of `pid_file` runs, or ran if it could not remove the file."""
    try:
        return pid_file.read_text(encoding="utf-8").split()[2]
    except (FileNotFoundError, IndexError):
        return None


def running(pid_file: Path) -> int | None:
    """Process id of the job that wrote `pid_file`, if it runs on this host still (a recycled id does not count)."""
    try:
        pid, began, host = pid_file.read_text(encoding="utf-8").split()[:3]
    except (FileNotFoundError, ValueError):
        return None
    return int(pid) if host == this_host() and began == str(started(int(pid))) else None


def stage_of(pid_file: Path) -> str | None:
    """Key of the stage that the job of `pid_file` builds."""
    try:
        key = pid_file.read_text(encoding="utf-8").split()[3]
    except (FileNotFoundError, IndexError):
        return None
    return None if key == "-" else key
