"""Processes as /proc shows them: names, start times, environments, children."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path


def kill(pid: int, number: int) -> None:
    """Sends a signal; it is no error if the process has ended."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)


def processes() -> list[int]:
    """The ids of all processes."""
    return [int(name) for name in os.listdir("/proc") if name.isdigit()]


def stat(pid: int) -> list[str]:
    """The fields of /proc/PID/stat after the name, [] if there is no such process: state, parent, ..."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return []


def began(pid: int) -> int:
    """When a live process began, in clock ticks since boot; 0 if it has ended. Id and start time identify a process."""
    fields = stat(pid)
    return int(fields[19]) if fields and fields[0] != "Z" else 0


def name(pid: int) -> str:
    """The name of a process's program, "" if it has ended."""
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/comm").read_text().strip()
    return ""


def environment(pid: int) -> dict[str, str]:
    """The environment a process was started with; {} without permission."""
    try:
        text = Path(f"/proc/{pid}/environ").read_bytes().decode(errors="replace")
    except OSError:
        return {}
    return dict(entry.split("=", 1) for entry in text.split("\0") if "=" in entry)


def descendants(pid: int) -> list[int]:
    """The ids of a process's children, their children and so on."""
    parents = {p: int(fields[1]) for p in processes() if (fields := stat(p))}
    found = [pid]
    for parent in found:
        found += [child for child, of in parents.items() if of == parent]
    return found[1:]
