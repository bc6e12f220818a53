"""Pid files of jobs, "PID STARTED HOST STAGE DEVICE": they name the process that runs a job and what it builds."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from ctt.core.atomic_files import write
from ctt.core.processes import started, this_host


def write_pid_file(pid_file: Path, stage: str, device: str = "-") -> None:
    """Records this process, the stage it builds, and on which device ("-": none), in `pid_file`."""
    write(pid_file, f"{os.getpid()} {started(os.getpid())} {this_host()} {stage} {device}".encode(), durable=False)


def write_pid_file_of(pid_file: Path, pid: int) -> None:
    """Records process `pid`, which was just started, unless it has already done so itself."""
    began = started(pid)
    if began is not None:
        with contextlib.suppress(FileExistsError), open(pid_file, "x", encoding="utf-8") as file:
            file.write(f"{pid} {began} {this_host()} -")


def of_other_records(jobs: Path) -> list[Path]:
    """Pid files of jobs that run on this host for other records of the same sweep than that of the folder `jobs`."""
    found = sorted(jobs.parent.parent.glob("[0-9]*/jobs/[0-9]*.pid"))
    return [pid_file for pid_file in found if pid_file.parent != jobs and running(pid_file) is not None]


def host_of(pid_file: Path) -> str | None:
    """The host of the process that wrote `pid_file`."""
    try:
        return pid_file.read_text(encoding="utf-8").split()[2]
    except (FileNotFoundError, IndexError, ValueError):
        return None


def running(pid_file: Path) -> int | None:
    """Id of the process recorded in `pid_file` if it still runs on this host; a recycled id does not count."""
    try:
        pid, began, host = pid_file.read_text(encoding="utf-8").split()[:3]
    except (FileNotFoundError, ValueError):
        return None
    return int(pid) if host == this_host() and began == str(started(int(pid))) else None


def stage_of(pid_file: Path) -> str | None:
    """Key of the stage recorded in `pid_file`; None if there is none."""
    return _word(pid_file, 3)


def device_of(pid_file: Path) -> str | None:
    """The device recorded in `pid_file`; None if there is none."""
    return _word(pid_file, 4)


def _word(pid_file: Path, index: int) -> str | None:
    try:
        word = pid_file.read_text(encoding="utf-8").split()[index]
    except (FileNotFoundError, IndexError, ValueError):
        return None
    return None if word == "-" else word
