"""What sbatch gets: a batch file with all settings, and an environment without variables of another job."""

from __future__ import annotations

import os
import shlex
from pathlib import Path

import pytest

from ctt.core.errors import UsageError
from ctt.core.resources import LaunchSettings, Resources
from ctt.execution.slurm import arrays


@pytest.fixture
def sbatch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a fake sbatch: it keeps the batch file and its environment, or fails with the text in `refusal`."""
    folder = tmp_path / "bin"
    folder.mkdir()
    script = f"""#!/bin/sh
test -e {tmp_path}/refusal && cat {tmp_path}/refusal >&2 && exit 1
cp "$2" {tmp_path}/file
env > {tmp_path}/environment
test -e {tmp_path}/answer && cat {tmp_path}/answer || echo 77
"""
    for name, text in {"sbatch": script, "srun": "#!/bin/sh\n"}.items():
        (folder / name).write_text(text)
        (folder / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    (tmp_path / "logs").mkdir()
    return tmp_path


def submitted(
    folder: Path,
    settings: LaunchSettings,
    *,
    prefix: bool = False,
    dependencies: tuple[str, ...] = (),
    environment: dict[str, str] | None = None,
) -> list[str]:
    """The lines of the batch file of an array of three tasks."""
    executor = arrays.Arrays(folder / "logs")
    given = arrays.parameters("name", settings, settings.of(prefix), environment or {}, dependencies)
    executor.update_parameters(**given)
    assert executor.submit_tasks(["python", "-m", "x", "a b"], 3) == "77"
    return (folder / "file").read_text().splitlines()


def options(lines: list[str]) -> dict[str, str | bool]:
    """The options of a batch file."""
    given = [shlex.split(line)[1].removeprefix("--") for line in lines if line.startswith("#SBATCH ")]
    return {key: value or True for key, _, value in (option.partition("=") for option in given)}


EVERYTHING = LaunchSettings(
    kind="slurm",
    partition="gpu",
    account="lab",
    qos="long",
    constraint="a100|h100",
    exclude="node7",
    gres="gpu:a100:1",
    gpus_per_node=2,
    cpus_per_task=8,
    mem_gb=2.5,
    nodes=2,
    tasks_per_node=4,
    timeout_min=90.5,
    jobs=None,
    array_parallelism=2,
    signal_delay_s=77,
    setup=["module load cuda"],
    options=["--mail-type=END", "--exclusive"],
)


def test_every_setting_reaches_slurm(sbatch: Path) -> None:
    lines = submitted(sbatch, EVERYTHING, dependencies=("5_0", "6_1"), environment={"PYTHONPATH": "/a b"})
    found = options(lines)
    assert found == found | {
        "job-name": "name",
        "partition": "gpu",
        "account": "lab",
        "qos": "long",
        "constraint": "a100|h100",
        "exclude": "node7",
        "gres": "gpu:a100:1",
        "gpus-per-node": "2",
        "cpus-per-task": "8",
        "mem": "2560M",
        "nodes": "2",
        "ntasks-per-node": "4",
        "time": "90:30",
        "array": "0-2%2",
        "signal": "USR2@77",
        "mail-type": "END",
        "exclusive": True,
        "dependency": "afterok:5_0:6_1",
        "kill-on-invalid-dep": "yes",
        "requeue": True,
        "open-mode": "append",
    }
    command = shlex.split(lines[-1] or lines[-2])
    assert command[-4:] == ["python", "-m", "x", "a b"] and command[0] == "srun"
    assert {"--cpus-per-task=8", "--kill-on-bad-exit=1"} <= set(command)
    before = lines[: lines.index(next(line for line in lines if line.startswith("srun")))]
    assert "module load cuda" in before and "export PYTHONPATH='/a b'" in before


def test_what_is_null_is_left_to_the_cluster(sbatch: Path) -> None:
    found = options(submitted(sbatch, LaunchSettings(kind="slurm", jobs=None)))
    left = ("partition", "account", "qos", "constraint", "exclude", "gres", "gpus-per-node", "cpus-per-task", "mem")
    assert not found.keys() & {*left, "time", "dependency"}
    assert found["array"] == "0-2%3"


def test_jobs_of_shared_prefixes_have_their_own_resources(sbatch: Path) -> None:
    settings = LaunchSettings(kind="slurm", timeout_min=10, prefix=Resources(timeout_min=240, partition="long"), jobs=1)
    found = [options(submitted(sbatch, settings, prefix=prefix)) for prefix in (False, True)]
    assert [(one.get("partition"), one["time"]) for one in found] == [(None, "10:00"), ("long", "240:00")]
    assert found[0]["array"] == "0-2%1"


def variables(folder: Path) -> dict[str, str]:
    """SLURM's variables that sbatch has seen."""
    seen = dict(line.partition("=")[::2] for line in (folder / "environment").read_text().splitlines())
    assert seen["HOME_OF_MINE"] == "kept"
    return {name: value for name, value in seen.items() if name.startswith(("SLURM_", "SBATCH_", "SQUEUE_"))}


def test_sbatch_gets_a_users_defaults_but_no_variables_of_another_job(sbatch: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (
        "SLURM_JOB_ID",
        "SLURM_MEM_PER_NODE",
        "SLURM_CPU_BIND",
        "SBATCH_MEM_BIND",
        "SBATCH_CPU_BIND_TYPE",
        "SQUEUE_STATES",
    ):
        monkeypatch.setenv(name, "1")
    theirs = {"SLURM_CONF": "/etc/here", "SBATCH_ACCOUNT": "lab", "SBATCH_EXCLUSIVE": "1", "SBATCH_PARTITION": "theirs"}
    for name, value in {**theirs, "SBATCH_JOB_NAME": "x", "SBATCH_ARRAY_INX": "0-9", "HOME_OF_MINE": "kept"}.items():
        monkeypatch.setenv(name, value)
    submitted(sbatch, LaunchSettings(kind="slurm"))
    assert variables(sbatch) == theirs
    submitted(sbatch, LaunchSettings(kind="slurm", partition="gpu"))
    assert variables(sbatch) == {name: value for name, value in theirs.items() if name != "SBATCH_PARTITION"}
    assert os.environ["SLURM_JOB_ID"] == "1"


@pytest.mark.parametrize("answer", [b"job 42 is the answer\n77\n", b"M\xfcnchen, job 42\n77;here\nbye\n", b"77;here\n"])
def test_the_number_is_read_from_no_banner(sbatch: Path, answer: bytes) -> None:
    (sbatch / "answer").write_bytes(answer)
    submitted(sbatch, LaunchSettings(kind="slurm"))
    assert [path.name for path in (sbatch / "logs").iterdir()] == ["77_submission.sh"]


def test_an_answer_without_a_number_is_an_error(sbatch: Path) -> None:
    (sbatch / "answer").write_text("Submitted batch job 42\n")
    with pytest.raises(UsageError, match="sbatch answered without the number of a job: 'Submitted batch job 42'"):
        submitted(sbatch, LaunchSettings(kind="slurm"))


@pytest.mark.parametrize(
    ("message", "kind"),
    [
        ("sbatch: error: QOSMaxSubmitJobPerUserLimit", arrays.SubmitLimitReached),
        ("sbatch: error: AssocGrpSubmitJobsLimit", arrays.SubmitLimitReached),
        ("sbatch: error: invalid partition specified: nowhere", UsageError),
        ("Maintenance on Monday\n\nsbatch: error: too many nodes\nsbatch: error: refused", UsageError),
        ("sbatch: error: Batch job submission failed: Socket timed out on send/recv operation", UsageError),
    ],
)
def test_a_limit_of_jobs_has_its_own_error(sbatch: Path, message: str, kind: type[UsageError]) -> None:
    (sbatch / "refusal").write_text(message)
    with pytest.raises(UsageError, match=message.rpartition(": ")[2]) as caught:
        submitted(sbatch, LaunchSettings(kind="slurm"))
    assert type(caught.value) is kind and "\n" not in str(caught.value)
