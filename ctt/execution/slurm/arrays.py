"""Job arrays: batch files, written and submitted by submitit. A task runs a command, so nothing is pickled."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import uuid
from collections.abc import Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

from submitit.slurm.slurm import SlurmExecutor

from ctt.core.compute_device import REQUESTED
from ctt.core.errors import UsageError
from ctt.core.process_group import JOIN
from ctt.core.resources import Resources, SlurmSettings
from ctt.execution.jobs.failures import SETUP_FAILED
from ctt.execution.site_defaults import site_file
from ctt.execution.slurm.commands import plain_environment
from ctt.execution.slurm.refusals import SubmitLimitReached
from ctt.store.shared_files import FS_DELAY, SUCCEEDED

LARGEST = 1000  # tasks of an array at most
GIVEN = ("partition", "account", "qos", "constraint", "exclude", "gres", "gpus_per_node", "cpus_per_task", "nodes")


BAD_SETUP = 78  # exit code of a job whose setup has failed (sysexits.h: EX_CONFIG)
PATIENCE = 300  # seconds for an answer of sbatch
NUMBER = re.compile(r"^(\d+)(?:;\S+)?$", re.MULTILINE)
"""What `sbatch --parsable` prints, on a line of its own; whatever else is printed is a site's message."""
NEEDED = (
    "ARRAY_INX", "JOB_NAME", "OUTPUT", "ERROR", "OPEN_MODE", "REQUEUE", "NO_REQUEUE", "SIGNAL", "WAIT", "EXPORT", "EXPORT_FILE",
    "KILL_INVALID_DEP", "GET_USER_ENV",
)  # fmt: skip
"""Options of sbatch that the batch file sets, or that would change what a job is."""
DEFAULTS = {
    "partition": ("PARTITION",), "account": ("ACCOUNT",), "qos": ("QOS",), "constraint": ("CONSTRAINT",), "time": ("TIMELIMIT",),
    "gres": ("GRES",), "gpus_per_node": ("GPUS", "GPUS_PER_NODE", "GPUS_PER_TASK"), "exclude": (), "nodes": (),
    "mem": ("MEM_PER_CPU", "MEM_PER_GPU", "MEM_PER_NODE"), "cpus_per_task": ("CPUS_PER_GPU",),
}  # fmt: skip
"""submitit's parameters and the variables by which a user gives them a default."""


class Arrays(SlurmExecutor):
    """submitit's executor for its batch files."""

    def submit_tasks(self, command: Sequence[str], count: int) -> str:
        """Submits an array of `count` tasks that run `command`; returns its number. Raises UsageError if SLURM refuses."""
        self.parameters["map_count"] = count
        name = uuid.uuid4().hex
        path = Path(self.folder).absolute() / f".submission_file_{name}.sh"
        path.write_text(self._make_submission_file_text(shlex.join(command), name), encoding="utf-8")
        try:
            done = subprocess.run(
                ["sbatch", "--parsable", str(path)],
                capture_output=True,
                encoding="utf-8",
                errors="replace",
                env=submission_environment(self.parameters),
                timeout=PATIENCE,
            )
        except (OSError, subprocess.SubprocessError) as error:
            raise UsageError(f"sbatch does not answer: {error}") from error
        if done.returncode:
            lines = (done.stderr.strip() or done.stdout).splitlines()
            raise _refused("; ".join(filter(None, map(str.strip, lines))) or f"exit code {done.returncode}")
        numbers = NUMBER.findall(done.stdout)
        if not numbers:
            raise UsageError(f"sbatch answered without the number of a job: {done.stdout.strip()!r}")
        os.replace(path, path.with_name(f"{numbers[-1]}_submission.sh"))
        return str(numbers[-1])


def _refused(answer: str) -> UsageError:
    if re.search("(Max|Grp)SubmitJob", answer):
        return SubmitLimitReached(
            f"SLURM's limit of submitted jobs is reached: {answer}; without --detach they are submitted bit by bit"
        )
    return UsageError(f"sbatch refused the jobs: {answer}; check the settings launch.* and {site_file()}")


def submission_environment(given: Mapping[str, Any]) -> dict[str, str]:
    """The environment of sbatch. A user's defaults (SBATCH_ACCOUNT …) stay, except where `given` (submitit's parameters) has a
    value, and those of the options that ctt needs: SLURM would prefer them to what is in the batch file."""
    taken = {f"SBATCH_{name}" for name in NEEDED} | {
        f"SBATCH_{name}" for key, names in DEFAULTS.items() if given.get(key) is not None for name in names
    }
    theirs = {
        key: value
        for key, value in os.environ.items()
        if key.startswith("SBATCH_") and key not in taken and not key.startswith(("SBATCH_CPU_BIND", "SBATCH_MEM_BIND"))
    }
    return {**plain_environment(), **theirs}


def log_of(folder: Path, task: str) -> Path:
    """The log of the first process of a task ("12_3"), in the folder of its batch file."""
    return folder / f"{task}_0_log.out"


def task_logs(log: Path) -> list[Path]:
    """The logs of a task's processes, by rank; `log` is that of the first."""
    first = log.resolve()
    stem = first.name.removesuffix("_0_log.out")
    others = set(first.parent.glob(f"{stem}_*_log.out")) - {first} if stem != first.name else set()
    return [log, *sorted(others, key=lambda other: int(other.name.split("_")[2]))]


def requested_gpus(settings: SlurmSettings, resources: Resources) -> str | None:
    """The setting by which a job asks SLURM for GPUs; None if it does not."""
    if resources.gpus_per_node:
        return f"launch.gpus_per_node={resources.gpus_per_node}"
    if resources.gres and "gpu" in resources.gres:
        return f"launch.gres={resources.gres}"
    asks = re.compile(r"-+(gpus|(gres|tres-per-\w+)=\S*gpu)")
    return next((f"launch.options ({option})" for option in settings.options if asks.match(option)), None)


def checked(line: str) -> list[str]:
    """A line of `launch.setup`, and one that ends the job if it has failed, before any work."""
    text = shlex.quote(f"{SETUP_FAILED}: {line}")
    return [line, f'ctt_code=$?; test $ctt_code = 0 || {{ echo {text} "(exit code $ctt_code)" >&2; exit {BAD_SETUP}; }}']


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
    exported = {**environment, JOIN: "srun", FS_DELAY: f"{settings.fs_delay_s:g}"}
    if asked := requested_gpus(settings, resources):
        exported[REQUESTED] = asked
    if dependencies:
        exported[SUCCEEDED] = "1"
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
        "setup": [
            *chain(*map(checked, settings.setup)),
            *(f"export {key}={shlex.quote(value)}" for key, value in exported.items()),
        ],
        "srun_args": srun,
        "additional_parameters": options,
    }
