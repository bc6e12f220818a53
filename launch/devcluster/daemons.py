"""Daemons: background processes recorded in a file, so that a later process can find and end them."""

from __future__ import annotations

import json
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import processes
from slurm_files import write


class Daemons:
    """The daemons recorded in `file`, by name, with id and start time, so that another process with a recycled id is not
    taken for one of them."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self._children: dict[int, subprocess.Popen[bytes]] = {}

    def start(self, name: str, command: Sequence[str], environment: Mapping[str, str], log: Path) -> None:
        """Starts a command that stays in the foreground, in a session of its own, unless it is alive."""
        if self.alive(name):
            return
        with open(log, "ab") as output:
            child = subprocess.Popen(
                command,
                env=environment,
                cwd=self.file.parent,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        self._children[child.pid] = child
        self._record(name, {"pid": child.pid, "began": processes.began(child.pid)})

    def end(self, name: str, patience: float, first: int = signal.SIGTERM) -> None:
        """Sends the signal `first`, and SIGKILL if the daemon is alive after `patience` seconds."""
        pid = self.recorded().get(name)
        for number in (first, signal.SIGKILL):
            if pid is not None and self.alive(name):
                processes.kill(pid, number)
                until(lambda: not self.alive(name), patience)
        self._record(name, None)

    def alive(self, name: str) -> bool:
        """Whether the recorded process is alive."""
        record = self._records().get(name)
        if record is None:
            return False
        if child := self._children.get(record["pid"]):
            child.poll()
        return record["began"] > 0 and processes.began(record["pid"]) == record["began"]

    def recorded(self) -> dict[str, int]:
        """Name → process id of all recorded daemons, alive or not."""
        return {name: record["pid"] for name, record in self._records().items()}

    def _records(self) -> dict[str, dict[str, int]]:
        try:
            records: dict[str, dict[str, int]] = json.loads(self.file.read_text())
            return records
        except FileNotFoundError:
            return {}

    def _record(self, name: str, record: dict[str, int] | None) -> None:
        records = {**self._records(), name: record}
        write(self.file, json.dumps({k: v for k, v in records.items() if v is not None}))


def until(condition: Callable[[], bool], seconds: float) -> bool:
    """Waits until the condition holds, for `seconds` at most; whether it does."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(0.05)
    return True
