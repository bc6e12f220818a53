"""A full disk, wherever it fills: a failure of its own class with path and need, no signal, nothing half-written."""

from __future__ import annotations

import dataclasses
import errno
import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from ctt.app.plan import show_plan
from ctt.core import disk_space
from ctt.core.build_context import BuildContext
from ctt.core.errors import DiskFull
from ctt.data.data_settings import DataSettings
from ctt.execution.jobs import job_process
from ctt.execution.jobs.failures import Ending, Failure, classify
from ctt.execution.jobs.retries import FINAL, Attempt, should_retry
from ctt.stages.base import Stage, build
from ctt.stages.data import Data
from ctt.store import Store
from tests.faults.counting import FULL
from tests.faults.processes import fork, wait
from tests.small_disk import small_disk
from tests.tiny import TINY, environment


@dataclasses.dataclass(frozen=True)
class Writing(Stage):
    """Writes a file, a checkpoint, half a checkpoint and a second file, for which a test leaves no space."""

    kind = "writing"
    version = 1

    def settings(self) -> Mapping[str, Any]:
        return {}

    def size(self) -> float:
        return 5e9

    def build(self, context: BuildContext, inputs: Mapping[str, Any], start: Any) -> dict[str, Any]:
        context.progress(0, 2, "file")
        (context.folder / "first").write_text("whole")
        (context.folder / "checkpoint").mkdir(exist_ok=True)
        (context.folder / "checkpoint" / "000001").write_text("whole")
        (context.folder / "checkpoint" / "000002.tmp").write_text("half")
        write(context.folder / "second")
        (context.folder / "checkpoint" / "000002.tmp").unlink()
        return {}


@dataclasses.dataclass(frozen=True)
class Resuming(Writing):
    kind = "resuming"
    resumes = True


def write(path: Path) -> None:
    path.write_text("whole")


def no_space(path: Path) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))


def work_of(store: Store, stage: Stage) -> list[str]:
    folder = store.unfinished(stage.key)
    assert folder is not None
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file() and path.name != "progress.json")


@pytest.mark.parametrize("stage, left", [(Writing(), []), (Resuming(), ["checkpoint/000001", "first"])])
def test_what_is_cut_short_goes_and_checkpoints_stay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stage: Stage, left: list[str]
) -> None:
    store = Store(tmp_path / "s")
    with monkeypatch.context() as patch:
        patch.setattr("tests.faults.test_full_disk.write", no_space)
        with pytest.raises(DiskFull, match=r"the disk is full at .*second \(.* free, about 5.0 GB needed\); free space") as raised:
            build(stage, store)
    assert [(f["failure"], f["message"]) for f in store.failures(stage.key)] == [("disk full", str(raised.value))]
    assert work_of(store, stage) == left
    assert build(stage, store).file("second").read_text() == "whole"


def test_a_data_set_without_room_is_refused_before_it_is_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stage, store = Data(DataSettings(train=8, validation=4, workers=1)), Store(tmp_path / "s")
    monkeypatch.setattr(disk_space, "free", lambda path: 1_000_000)
    with pytest.raises(DiskFull, match=r"no space for the data set at .* \(1\.0 MB free, about 8\.8 MB needed\)"):
        build(stage, store)
    assert work_of(store, stage) == []


def test_a_job_reports_by_its_exit_code_where_nothing_can_be_written(tmp_path: Path) -> None:
    """Neither its pid file nor its outcome can be written, so that the launcher has nothing else."""
    job = tmp_path / "0.json"
    job.write_text(json.dumps({"target": "ab" * 32, "label": "run", "store": str(tmp_path / "s"), "wanted": ["ab" * 32]}))

    def run() -> None:
        for name in ("write_json", "write_pid_file"):
            setattr(job_process, name, lambda path, *_: no_space(path))
        os._exit(job_process.main([str(job)]))

    code = wait(fork(run))
    assert code == os.EX_IOERR and not job.with_suffix(".outcome.json").exists()
    failed = classify(Ending(code=code))
    assert failed is not None and failed.failure == Failure.DISK_FULL


@pytest.mark.parametrize(
    "ending",
    [
        Ending(code=os.EX_IOERR),
        Ending(code=-signal.SIGBUS),
        Ending(code=128 + signal.SIGBUS),
        Ending(code=1, log="OSError: [Errno 28] No space left on device: '/store/work'\n"),
        Ending(code=1, log="safetensors_rust.SafetensorError: I/O error: Disk quota exceeded (os error 122)\n"),
        Ending(outcome={"failure": "disk full", "message": "the disk is full"}),
    ],
)
def test_a_full_disk_is_a_class_that_is_not_retried(ending: Ending) -> None:
    failed = classify(ending)
    assert failed is not None and failed.failure == Failure.DISK_FULL
    assert not should_retry([Attempt(Failure.DISK_FULL, True)]) and Failure.DISK_FULL in FINAL


def test_a_plan_warns_where_the_disk_will_not_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def printed(as_json: bool = False) -> str:
        show_plan("demo", TINY, tmp_path / "s", run=None, as_json=as_json, devices=1)
        return capsys.readouterr().out

    assert "warning" not in printed()
    monkeypatch.setattr("ctt.core.disk_space.free", lambda path: 1_000_000)
    assert f"warning: the disk of {tmp_path / 's'} has 1.0 MB free, and this needs about" in printed()
    numbers = json.loads(printed(as_json=True))
    assert numbers["disk_bytes"] > 17e6
    monkeypatch.setattr("ctt.core.disk_space.free_inodes", lambda path: 0)
    assert "has no free inode" in printed()


@pytest.mark.slow
@pytest.mark.fault(FULL)
@pytest.mark.parametrize("size, after", [("5m", "data"), ("22m", "rollout"), ("26m", "vqa")])
def test_a_run_on_a_disk_that_fills_ends_with_one_line(tmp_path: Path, size: str, after: str) -> None:
    """It fills while the data, the rollout and ALOE's weights are written."""
    small = tmp_path / "small"
    command = small_disk(small, size)
    run = [sys.executable, "-m", "ctt", "run", *TINY, "tracking=off", f"store={small / 'store'}"]
    look = f'"$@"; code=$?; find {small}/store/work {small}/store/failures -type f; exit $code'
    done = subprocess.run(
        [*command, "sh", "-c", look, "sh", *run],
        env=environment(tmp_path / "unused"), capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 1, (done.returncode, done.stderr)
    [line] = [line for line in done.stderr.splitlines() if line.startswith("ctt: ")]
    assert str(small) in line and "free" in line and "needed" in line and "Traceback" not in done.stderr + done.stdout
    assert [line for line in done.stdout.splitlines() if line.startswith("building")][-1].split()[1] == after
    files = [name.rsplit("/", 1)[-1] for name in done.stdout.splitlines() if name.startswith(str(small))]
    assert [name for name in files if name.endswith((".npy", ".tmp", ".parquet"))] == []
