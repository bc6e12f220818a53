"""A small sweep on the private cluster, whose jobs can be observed and stopped: its virtual nodes are this host."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Any

from ctt.core.build_context import PROGRESS
from ctt.execution.jobs import event_log, pid_files, spec
from ctt.execution.recorded_jobs import RecordedJobs
from ctt.store import Store
from ctt.study import record
from tests.tiny import TINY, environment
from tests.waiting import until

SWEEP = """\
name: small
data: mini
world_model: mini
aloe: mini
baseline: {}
points:
  - {ctt_inv_weight: 0.2}
  - {ctt_suf_weight: 0.2}
"""
FAULTY = """\
  - {world_model.learning_rate: 1.0e+30}
"""  # it diverges, which only the job can detect
SETTINGS = [setting for setting in TINY if not setting.startswith("world_model.windows.per_epoch")] + [
    "world_model.windows.per_epoch=512", "ctt_start_epoch=1", "seed=0", "diagnostics.enabled=false", "reader.enabled=false",
]  # fmt: skip
SLURM = ["launch=slurm", "launch.partition=low", "launch.poll_s=1", "launch.timeout_min=5"]


class SmallSweep:
    """The newest record of the sweep; its jobs are named by a part of their label: "shared prefix", "ctt_inv_weight=0.2"."""

    def __init__(self, store: Path, cluster: Any) -> None:
        self.store, self.cluster = Store.open(store), cluster

    @property
    def folder(self) -> Path:
        return record.newest(self.store, "small") / "jobs"

    @cached_property
    def kinds(self) -> dict[str, str]:
        return {key: stage.kind for key, stage in record.load(self.folder.parent).stages.items()}

    def job(self, label: str) -> spec.JobSpec:
        return next(job for job in spec.read(self.folder) if label in job.label)

    def task(self, label: str) -> str:
        """SLURM's id of the job."""
        return str(event_log.last(self.folder)[self.job(label).number]["job_id"])

    def node(self, label: str) -> str:
        return str(self.cluster.run("squeue", "-h", "-j", self.task(label), "-o", "%N"))

    def state(self, label: str) -> str:
        return str(self.cluster.run("squeue", "-h", "-j", self.task(label), "-o", "%T"))

    def log(self, label: str) -> str:
        path = self.job(label).log
        return path.read_text() if path.exists() else ""

    def training(self, label: str) -> int | None:
        """Id of the job's process while it trains its world model, else None."""
        job = self.job(label)
        key = pid_files.stage_of(job.pid_file)
        if key is None or self.kinds[key] != "world_model":
            return None
        folder = self.store.unfinished(key)
        return pid_files.running(job.pid_file) if folder is not None and (folder / PROGRESS).exists() else None

    def checkpoints(self, label: str) -> list[Path]:
        """The checkpoints of the job's unfinished stages."""
        found = (self.store.unfinished(key) for key in self.job(label).stages if not self.store.has(key))
        return [path for folder in found if folder is not None for path in folder.glob("checkpoint/*")]

    def done(self, label: str) -> float:
        """Progress of the job's training in its own units, also after its process has ended."""
        trained = (key for key in self.job(label).stages if self.kinds[key] == "world_model" and not self.store.has(key))
        folder = self.store.unfinished(next(trained))
        return float(spec.progress(folder)["done"]) if folder is not None else 0.0

    def hold(self, *labels: str) -> dict[str, int]:
        """Stops the processes of these jobs when their trainings have begun, so that none ends too soon; label → id."""
        held: dict[str, int] = {}

        def all_held() -> bool:
            for label in labels:
                if label not in held and (process := self.training(label)) is not None:
                    os.kill(process, signal.SIGSTOP)
                    held[label] = process
            return len(held) == len(labels)

        until(all_held, f"trainings of {', '.join(labels)}")
        return held

    def queue(self) -> list[str]:
        """The states of the sweep's jobs in SLURM's queue."""
        name = RecordedJobs(self.folder, self.store).name
        return list(self.cluster.run("squeue", "-h", "-r", "-n", name, "-o", "%T").split())

    def states(self, label: str) -> list[str]:
        """States of all attempts of a job, from the accounting."""
        number = self.job(label).number
        tasks = {event["job_id"] for event in event_log.read(self.folder) if event["number"] == number}
        arrays = sorted({task.partition("_")[0] for task in tasks if task})
        text = self.cluster.run("sacct", "-n", "-P", "-X", "-D", "-o", "JobID,State", "-j", ",".join(arrays))
        pairs = (line.split("|") for line in text.splitlines())
        return [state.split()[0] for task, state in pairs if task in tasks]


def has_pending(process: int, number: int) -> bool:
    """Whether a stopped process has this signal pending, or has ended: SLURM may continue it when it sends one."""
    try:
        lines = Path(f"/proc/{process}/status").read_text().splitlines()
    except (FileNotFoundError, ProcessLookupError):
        return True
    masks = [int(line.split()[1], 16) for line in lines if line.startswith(("SigPnd:", "ShdPnd:"))]
    return any(mask >> (number - 1) & 1 for mask in masks)


def age(process: int) -> float:
    """Seconds since a process began. Raises FileNotFoundError if it has ended."""
    began = Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()[19]
    return float(Path("/proc/uptime").read_text().split()[0]) - int(began) / os.sysconf("SC_CLK_TCK")


def resume(process: int) -> None:
    """Continues a stopped process, if it still exists."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(process, signal.SIGCONT)


@contextlib.contextmanager
def launched(store: Path, *arguments: str) -> Iterator[tuple[subprocess.Popen[bytes], Path]]:
    """Runs `ctt` during the block; its process and output file. It is ended, with its jobs, if the test fails."""
    output = store.parent / f"{store.name}.output"
    with open(output, "wb") as out:
        command = [sys.executable, "-m", "ctt", *arguments]
        process = subprocess.Popen(command, env=environment(store), stdout=out, stderr=out)
    try:
        yield process, output
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGINT)
            process.wait(150)
