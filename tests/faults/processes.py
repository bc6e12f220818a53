"""Child processes for fault injection: forked, so that one costs milliseconds; they report by exit code."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path

STRIDE = 1 if os.environ.get("CTT_FAULTS") == "full" else 3  # `make faults` tries every step, `make test` every third
STEPS = ("open", "os.", "shutil.", "subprocess.", "ctt.")


def fork(body: Callable[[], None]) -> int:
    """Runs `body` in a child with exit code 0, or 1 and a traceback if it raises; returns its id."""
    pid = os.fork()
    if pid:
        return pid
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG: a failed test leaves no process behind
    code = 1
    try:
        body()
        code = 0
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(code)


def wait(pid: int, seconds: float = 20.0) -> int:
    """The child's exit code, negative for the signal that killed it; kills it and fails after `seconds`."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.005)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    raise AssertionError(f"child {pid} still ran after {seconds} s")


def at_step(number: int, act: Callable[[str], None]) -> None:
    """Calls act(event) once, just before the number-th file-system step of this process from now on.

    Steps are the interpreter's audit events (open, rename, link, mkdir, utime, …), and fsync.
    """
    count = 0
    fsync = os.fsync

    def audited_fsync(fd: int) -> None:
        sys.audit("ctt.fsync", fd)
        fsync(fd)

    os.fsync = audited_fsync

    def hook(event: str, arguments: tuple[object, ...]) -> None:
        nonlocal count
        if event.startswith(STEPS):
            count += 1
            if count == number:
                act(event)

    sys.addaudithook(hook)


def kill_myself(event: str) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def state(pid: int) -> str:
    """The kernel's letter for a process (R, S, T, Z, …), or "" if there is none."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return ""
