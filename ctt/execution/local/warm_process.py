"""Jobs as copies (os.fork) of a warm process, which has imported PyTorch and Lightning: that takes longer than a small stage.

    python -m ctt.execution.local.warm_process DESCRIPTOR

Such a job is a child of the launcher, like every other: the warm process makes a copy that makes the job and ends, and Linux gives
the job to the launcher, which asks for it (PR_SET_CHILD_SUBREAPER). Signals, exit codes and what happens when the launcher ends are
the same. Jobs with GPUs are no copies, since CUDA does not work in a copy of a process that has used it.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import importlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
import time
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path

from ctt.execution.jobs import job_process

IMPORTED = ("torch", "lightning.pytorch")
SUBREAPER = 36  # Linux's PR_SET_CHILD_SUBREAPER
READY = b"ready"
LONGEST = 65536  # bytes of a request: the job's file and a few variables
MOST_FILES = 200  # Linux passes 253 descriptors at a time
LONGEST_ANSWER = 30.0  # seconds that a copy may take


class ChildProcess:
    """A job's process, with the methods of `subprocess.Popen` that a launcher uses. It is a child of this process."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.code: int | None = None

    def poll(self) -> int | None:
        """Its exit code, negative for a signal; None while it runs."""
        if self.code is None:
            try:
                pid, status = os.waitpid(self.pid, os.WNOHANG)
            except ChildProcessError:  # SIGCHLD is ignored in this process; Popen has the same code then
                pid, status = self.pid, 0
            self.code = os.waitstatus_to_exitcode(status) if pid else None
        return self.code

    def terminate(self) -> None:
        self._send(signal.SIGTERM)

    def kill(self) -> None:
        self._send(signal.SIGKILL)

    def _send(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)


class WarmProcess:
    """A warm process, from the first question whether it is ready to `close`. environment: its variables, which jobs have too."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self.environment = dict(environment)
        self.process: subprocess.Popen[bytes] | None = None
        self.connection, self._its = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.connection.settimeout(LONGEST_ANSWER)
        self.imported = False

    @staticmethod
    def possible() -> bool:
        """Whether the kernel gives a process whose parent has ended to one further up that asks for it."""
        return sys.platform.startswith("linux") and _adopts(True) and _adopts(False)

    def ready(self) -> bool:
        """Whether `start` does not have to wait for imports; also if the process has ended, when `start` gives None."""
        if self.process is None and not self.imported:
            with self._its as its:
                self.process = subprocess.Popen(
                    [sys.executable, "-m", __name__, str(its.fileno())],
                    env=self.environment,
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                    pass_fds=[its.fileno()],
                )
        if self.awaited() and select.select(self.awaited(), [], [], 0)[0]:
            self.imported = True
            self._receive()
        return self.imported

    def awaited(self) -> list[socket.socket]:
        """What becomes readable when it is ready; nothing before its start and after its imports."""
        return [] if self.process is None or self.imported else [self.connection]

    def start(self, job: Path, environment: Mapping[str, str], log: int, files: Sequence[int]) -> ChildProcess | None:
        """Starts the job of a file with these further variables, its output going to the descriptor `log`; it keeps `files` open.

        None if that can't be done: the process has ended, or there are too many files.
        """
        if len(files) > MOST_FILES:
            return None
        request = json.dumps([str(job), dict(environment), os.getpid()]).encode()
        _adopts(True)
        try:
            socket.send_fds(self.connection, [request], [log, *files])
            pid = int(self._receive() or 0)
        except OSError:
            pid = 0
        finally:
            _adopts(False)
        if not pid:  # it has ended, or gives no answer and must not start the job later
            self.close()
        return ChildProcess(pid) if pid else None

    def close(self) -> None:
        """Ends the warm process for good; `start` gives None from then on. Jobs go on."""
        self.imported = True
        self._its.close()
        self.connection.close()
        if self.process is not None:
            self.process.kill()
            self.process.wait()

    def _receive(self) -> bytes:
        with contextlib.suppress(OSError):
            return self.connection.recv(LONGEST)
        return b""


def _adopts(on: bool) -> bool:
    """Makes this process the parent of all its descendants whose own parent ends, or no longer; whether the kernel does it."""
    with contextlib.suppress(OSError, AttributeError):
        return bool(ctypes.CDLL(None).prctl(SUBREAPER, int(on), 0, 0, 0) == 0)
    return False


def _serve(connection: socket.socket) -> tuple[str, dict[str, str], list[int]]:
    """Makes a job for each request, and returns the request in the job; ends the process when the launcher has ended."""
    connection.send(READY)
    while True:
        request, files, _, _ = socket.recv_fds(connection, LONGEST, MOST_FILES + 1)
        if not request:
            os._exit(0)
        job, environment, launcher = json.loads(request)
        reading, writing = os.pipe()
        if (between := os.fork()) == 0:
            own = os.getpid()
            if pid := os.fork():
                os.write(writing, str(pid).encode())
                os._exit(0)
            while os.getppid() == own:  # until it is the launcher's
                time.sleep(0.0005)
            os.close(reading)
            os.close(writing)
            connection.close()
            return job, environment, files
        os.waitpid(between, 0)
        with contextlib.suppress(OSError):  # the launcher has ended
            connection.send(os.read(reading, 16))
        for file in (reading, writing, *files):
            os.close(file)


def main(descriptor: int) -> int:
    """Imports, then makes jobs; in a job, runs it and returns its exit code."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the launcher's to handle
    warnings.filterwarnings(
        "ignore", "This process .* is multi-threaded", DeprecationWarning
    )  # threads of libraries that hold no locks
    for module in IMPORTED:
        importlib.import_module(module)
    gc.collect()
    gc.freeze()
    job, environment, (log, *files) = _serve(socket.socket(fileno=descriptor))
    os.dup2(log, sys.stdout.fileno())
    os.dup2(log, sys.stderr.fileno())
    os.close(log)
    os.environ |= environment | {"CTT_LEASED_FILES": ",".join(map(str, files))}
    sys.argv = [job_process.__file__, job]
    return job_process.main(sys.argv[1:])


if __name__ == "__main__":
    job_process.exit_process(main(int(sys.argv[1])))
