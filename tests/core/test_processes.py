"""Processes are identified by id and start time; a zombie counts as ended."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from ctt.core.processes import send, started
from tests.waiting import until


def test_a_start_time_is_the_kernels_whatever_the_clock_shows(monkeypatch: pytest.MonkeyPatch) -> None:
    ticks = Path("/proc/self/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[19]
    assert started(os.getpid()) == int(ticks)
    day_later = psutil.boot_time() + 86_400  # setting the clock forward moves the boot time
    monkeypatch.setattr("psutil._pslinux.boot_time", lambda: day_later)
    monkeypatch.setattr("psutil.boot_time", lambda: day_later)
    assert started(os.getpid()) == int(ticks)


def test_a_zombie_has_ended_and_gets_no_signal() -> None:
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    began = started(child.pid)
    assert began is not None
    send(child.pid, began + 1, signal.SIGKILL)  # another process of that id
    assert started(child.pid) == began
    send(child.pid, began, signal.SIGKILL)
    until(lambda: started(child.pid) is None)
    assert child.wait() == -signal.SIGKILL and started(child.pid) is None
