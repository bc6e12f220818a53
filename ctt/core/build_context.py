"""BuildContext: what a stage's code is given: a private folder, a device, and methods to report metrics and progress.

The folder survives interruption: the next attempt finds the checkpoints, metrics and elapsed time of the one before.
Metrics are lines appended to `metrics.jsonl`; progress is `progress.json`, rewritten at most once a second.
MLflow is not used here: the sync process reads these files.
"""

from __future__ import annotations

import contextlib
import json
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from ctt.core.atomic_files import read_json, write, write_json
from ctt.core.device_use import DeviceUse
from ctt.core.errors import Interrupted
from ctt.core.memory import peak_mib
from ctt.core.process_group import ALONE, ProcessGroup

METRICS = "metrics.jsonl"
PROGRESS = "progress.json"
CHECKPOINT = "checkpoint"  # a folder; the names in it sort by training progress
STATE = "state.json"  # next to model.safetensors: the training has finished


class BuildContext:
    """One stage being built in `folder`.

    device: a torch device string; threads: intra-op threads; workers: processes a CPU-bound stage may use.
    group: the processes that build it; only its writer writes to the folder.
    `beat` is called with every progress report (the store's lease uses it to detect that it was lost).
    """

    def __init__(
        self,
        folder: Path,
        *,
        device: str = "cpu",
        threads: int = 1,
        workers: int = 1,
        group: ProcessGroup = ALONE,
        beat: Callable[[], None] = lambda: None,
    ) -> None:
        self.folder = Path(folder)
        self.device = device
        self.threads = threads
        self.workers = workers
        self.group = group
        self._beat = beat
        self._started = time.time()
        report = self._last_report()
        self._before = float(report.get("seconds", 0.0))  # of earlier attempts
        self._peak = float(report.get("peak_mib", 0.0))
        self.rates: dict[str, float] = dict(report.get("rates", {}))
        """Units per second by unit, as measured by `progress`; from an earlier attempt where this one did not reach the unit."""
        self._furthest = float(report.get("furthest", 0.0))
        self._warning: str | None = None
        self._last = 0.0
        self._record: dict[str, Any] = {}
        self._unit, self._first, self._began = "", 0.0, 0.0
        self._done = self._logged = 0.0
        self._logged_at = 0.0
        self._use = DeviceUse(device)

    def log(self, step: int, **values: float) -> None:
        """Appends one line {"t", "step", name: value…}; `step` grows within a stage (an epoch or a batch count).

        In stages whose progress is counted in steps with the throughput and the device's use since the last line (`MEASURED`)."""
        if not self.group.writer:
            return
        line = json.dumps({"t": round(time.time(), 3), "step": step, **values, **self._measured()})
        with open(self.folder / METRICS, "a", encoding="utf-8") as f:
            f.write(line + "\n")

    def _measured(self) -> dict[str, float]:
        """The numbers of `MEASURED` since the last call; {} in stages without steps."""
        if self._unit != "step":
            return {}
        steps, seconds = self._done - self._logged, time.time() - self._logged_at
        self._logged, self._logged_at = self._done, time.time()
        rate = {"steps_per_second": round(steps / seconds, 4)} if steps > 0 and seconds > 0 else {}
        return rate | self._use.since_last()

    def rewind(self, step: int) -> None:
        """Drops the metric lines after `step`; called when work continues from a checkpoint taken at `step`."""
        path = self.folder / METRICS
        if not self.group.writer or not path.exists():
            return
        kept = [line for line in read_metrics(path) if line["step"] <= step]
        write(path, "".join(json.dumps(line) + "\n" for line in kept).encode(), durable=False)

    def progress(self, done: float, total: float, unit: str, **extra: Any) -> None:
        """Reports the progress of the stage, or of its part measured in `unit`.

        Written at most once a second and at the end, so it may be called at every step. The rate counts from the first report
        of the unit."""
        if not self.group.writer:
            return
        now = time.time()
        if unit != self._unit:
            self._unit, self._first, self._began = unit, done, now
            self._logged, self._logged_at = done, now
        self._done = done
        if now - self._last < 1.0 and done < total:
            return
        self._last = now
        self._beat()
        self._use.sample()
        rate = (done - self._first) / max(now - self._began, 1e-9)
        if rate > 0:
            self.rates[unit] = rate
        self._furthest = max(self._furthest, min(done / max(total, 1e-9), 1.0))
        self._record = dict(done=done, total=total, unit=unit, rate=rate, started=self._started, updated=now, **extra)
        if self._warning:
            self._record["warning"] = self._warning
        self._write_report(self._record)

    def warn(self, text: str | None) -> None:
        """Reports what is wrong with the work so far, on stderr once and in every progress report until it is None again."""
        if text and not self._warning and self.group.writer:
            print(f"warning: {text}", file=sys.stderr, flush=True)
        self._warning = text

    def report(self, text: str | None) -> None:
        """Writes a line to stderr, the job's log; None: nothing."""
        if text and self.group.writer:
            print(text, file=sys.stderr, flush=True)

    def alive(self) -> None:
        """Reports that the process is alive during work that progress does not count; written at most once a second."""
        now = time.time()
        if self._record and now - self._last >= 1.0:
            self._last = now
            self._beat()
            self._write_report(self._record | {"updated": now})

    @property
    def seconds(self) -> float:
        """Elapsed seconds of this attempt and all earlier ones; of a killed attempt, up to its last progress report."""
        return self._before + max(time.time() - self._started, 0.0)

    @property
    def peak(self) -> float:
        """Peak memory in MiB (`peak_mib`) of this attempt and all earlier ones; of those, up to their last report."""
        return max(self._peak, peak_mib(self.device))

    @contextlib.contextmanager
    def timed(self) -> Iterator[None]:
        """Records the attempt's elapsed time for the next one if the block raises; the progress report stays as it is."""
        try:
            yield
        except BaseException:
            begun = dict(done=0.0, total=1.0, unit="stage", rate=0.0, started=self._started, updated=self._started)
            with contextlib.suppress(OSError):  # the process that took the work over has moved the folder
                if self.group.writer:
                    self._write_report(begun | self._last_report())
            raise

    def _write_report(self, record: dict[str, Any]) -> None:
        all_attempts = {"seconds": self.seconds, "peak_mib": self.peak, "rates": self.rates, "furthest": round(self._furthest, 4)}
        write_json(self.folder / PROGRESS, record | all_attempts, durable=False, indent=None)

    def _last_report(self) -> dict[str, Any]:
        """The last progress report in the folder, from any attempt; {} if there is none."""
        return read_json(self.folder / PROGRESS) or {}

    @property
    def stopping(self) -> bool:
        """True once a signal has asked this process to stop; then write a checkpoint and call `stop`."""
        return stopping()

    def stop(self) -> None:
        """Raises Interrupted; call after the checkpoint is on disk."""
        raise Interrupted(f"stopped by a signal; the checkpoint is in {self.folder}")


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """The metric lines of a file; an incomplete last line, left by a crash, and damaged ones are skipped."""
    lines = []
    with open(path, encoding="utf-8", errors="replace") as f:
        for text in f:
            with contextlib.suppress(ValueError):
                line = json.loads(text) if text.endswith("\n") else None
                if isinstance(line, dict) and isinstance(line.get("step"), int):
                    lines.append(line)
    return lines


_stop = threading.Event()


def stopping() -> bool:
    """True once a signal has asked this process to stop."""
    return _stop.is_set()


def stop_on_signals(*numbers: int) -> None:
    """Makes the given signals (default SIGTERM and SIGINT) ask running stages to write a checkpoint and stop."""
    for number in numbers or (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: _stop.set())
