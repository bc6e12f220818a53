"""Job arrays: batch files, written and submitted by submitit. A task runs a command, so nothing is pickled."""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from submitit.core.utils import FailedJobError, FailedSubmissionError
from submitit.slurm.slurm import SlurmExecutor

from ctt.core.errors import UsageError
from ctt.core.resources import Resources, SlurmSettings
from ctt.execution.site_defaults import site_file
from ctt.execution.slurm.commands import plain_environment

LARGEST = 1000  # tasks of an array at most
GIVEN = ("partition", "account", "qos", "constraint", "exclude", "gres", "gpus_per_node", "cpus_per_task", "nodes")


class SubmitLimitReached(UsageError):
    """SLURM accepts no more jobs of this user for now (a limit like MaxSubmitJobs); a smaller array may be accepted."""


class Arrays(SlurmExecutor):
    """submitit's executor for its batch files."""

    def _make_submission_command(self, submission_file_path: Path) -> list[str]:
        foreign = sorted(os.environ.keys() - plain_environment().keys())
        return ["env", *(f"--unset={name}" for name in foreign), "sbatch", str(submission_file_path)]

    def submit_tasks(self, command: Sequence[str], count: int) -> str:
        """Submits an array of `count` tasks that run `command`; returns its number. Raises UsageError if SLURM refuses."""
        self.parameters["map_count"] = count
        try:
            return str(self._submit_command(shlex.join(command)).job_id)
        except (FailedJobError, FailedSubmissionError) as error:
            if re.search("(Max|Grp)SubmitJob", str(error)):
                raise SubmitLimitReached(
                    f"SLURM's limit of submitted jobs is reached: {error}; without --detach they are submitted bit by bit"
                ) from error
            raise UsageError(f"sbatch refused the jobs: {error}; check the settings launch.* and {site_file()}") from error


def log_of(folder: Path, task: str) -> Path:
    """The log of the first process of a task ("12_3"), in the folder of its batch file."""
    return folder / f"{task}_0_log.out"


def task_logs(log: Path) -> list[Path]:
    """The logs of a task's processes, by rank; `log` is that of the first."""
    first = log.resolve()
    stem = first.name.removesuffix("_0_log.out")
    others = set(first.parent.glob(f"{stem}_*_log.out")) - {first} if stem != first.name else set()
    return [log, *sorted(others, key=lambda other: int(other.name.split("_")[2]))]


def parameters(
    name: str,
    settings: SlurmSettings,
    resources: Resources,
    environment: Mapping[str, str],
    dependencies: Sequence[str],
) -> dict[str, Any]:
    """submitit's parameters of an array called `name` that starts when all of `dependencies` have succeeded."""
    found: dict[str, Any] = {key: value for key in GIVEN if (value := getattr(resources, key)) is not None}
    if resources.tasks_per_node is not None:
        found["ntasks_per_node"] = resources.tasks_per_node
    if resources.mem_gb is not None:
        found["mem"] = f"{int(resources.mem_gb * 1024)}M"
    if dependencies:
        found["dependency"] = "afterok:" + ":".join(dependencies)
    if resources.timeout_min is not None:
        seconds = int(60 * resources.timeout_min)
        time = f"{seconds // 60}:{seconds % 60:02d}"
    else:
        time = None  # the partition's limit; SIGUSR2 precedes that, too
    options: dict[str, Any] = {"kill-on-invalid-dep": "yes", "requeue": True}
    for option in settings.options:
        key, _, value = option.lstrip("-").partition("=")
        options[key] = value or True
    srun = ["--kill-on-bad-exit=1"]
    if resources.cpus_per_task is not None:  # srun does not inherit it from sbatch
        srun.append(f"--cpus-per-task={resources.cpus_per_task}")
    return {
        **found,
        "job_name": name,
        "time": time,
        "signal_delay_s": settings.signal_delay_s,
        "array_parallelism": settings.jobs or settings.array_parallelism,
        "stderr_to_stdout": True,
        "setup": [*settings.setup, *(f"export {key}={shlex.quote(value)}" for key, value in environment.items())],
        "srun_args": srun,
        "additional_parameters": options,
    }
