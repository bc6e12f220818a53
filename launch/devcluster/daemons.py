"""Daemons: processes started in the background, noted in a file, and found and ended again by whoever reads it."""

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
    """The daemons noted in `file`, by name. Each is known by its id and the time it began, so that no stranger who
    has got its id since is taken for it."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self._children: dict[int, subprocess.Popen[bytes]] = {}

    def start(self, name: str, command: Sequence[str], environment: Mapping[str, str], log: Path) -> None:
        """Starts a daemon that stays in the foreground, in a session of its own, unless it is alive already."""
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
        self._note(name, {"pid": child.pid, "began": processes.began(child.pid)})

    def end(self, name: str, patience: float, first: int = signal.SIGTERM) -> None:
        """Sends `first`, and SIGKILL if the daemon still lives after `patience` seconds."""
        pid = self.noted().get(name)
        for number in (first, signal.SIGKILL):
            if pid is not None and self.alive(name):
                processes.kill(pid, number)
                until(lambda: not self.alive(name), patience)
        self._note(name, None)

    def alive(self, name: str) -> bool:
        """True if the very process that was noted lives."""
        record = self._records().get(name)
        if record is None:
            return False
        if child := self._children.get(record["pid"]):
            child.poll()
        return record["began"] > 0 and processes.began(record["pid"]) == record["began"]

    def noted(self) -> dict[str, int]:
        """Name → process id of all that are noted, alive or not."""
        return {name: record["pid"] for name, record in self._records().items()}

    def _records(self) -> dict[str, dict[str, int]]:
        try:
            return json.loads(self.file.read_text())
        except FileNotFoundError:
            return {}

    def _note(self, name: str, record: dict[str, int] | None) -> None:
        records = {**self._records(), name: record}
        write(self.file, json.dumps({k: v for k, v in records.items() if v is not None}))


def until(condition: Callable[[], bool], seconds: float) -> bool:
    """Waits until the condition holds; False if it didn't within so many seconds."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(0.05)
    return True
