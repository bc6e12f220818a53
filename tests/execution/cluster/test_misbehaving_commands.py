"""SLURM's commands answer late, with a site's banner in Latin-1, with nothing, or with an error: on a real cluster every job runs
as often as it has to, and no more."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.execution.cluster.test_failing_jobs import Sweep
from tests.waiting import until

pytestmark = pytest.mark.slurm
BANNER = r"""printf 'Wartung am 3. M\344rz, job 42\n42\n7_0|RUNNING|n1|None\n' >&2; printf 'M\344rz: job 42 | 7 | x\n\n'"""
KINDS = {
    "banner": f'{BANNER}; exec "$real" "$@"',
    "slow": 'sleep 2; exec "$real" "$@"',
    "error": f"{BANNER}; echo 'error: Unable to contact slurm controller' >&2; exit 1",
    "lost": f'{BANNER}; "$real" "$@" > /dev/null; echo "error: Socket timed out on send/recv operation" >&2; exit 1',
    "empty": "exit 0",
}
CALLS = {
    "squeue": ("banner", "slow", "empty", "error", "empty"),
    "sacct": ("error", "banner", "empty", "slow", "banner"),
    "scancel": ("banner", "slow"),
    "sbatch": ("slow", "banner", "banner", "slow", "error", "lost", "banner"),
}
"""What the first, the second … call of a command does, and so on in turns. The submissions of a sweep that begins are accepted: one
that is refused ends it."""


def wrapper(real: str, calls: Path, kinds: Sequence[str]) -> str:
    cases = "\n".join(f"{number}) {KINDS[kind]} ;;" for number, kind in enumerate(kinds))
    return f"""#!/bin/sh
real={real}
number=$(cat {calls} 2>/dev/null || echo 0)
echo $((number + 1)) > {calls}
case $((number % {len(kinds)})) in
{cases}
esac
"""


@pytest.fixture
def misbehaving(cluster: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder first on PATH, with the commands and files that count their calls."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name, kinds in CALLS.items():
        (folder / name).write_text(wrapper(str(shutil.which(name)), folder / f"{name}.calls", kinds))
        (folder / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    return folder


def test_every_job_runs_as_often_as_it_has_to(
    cluster: Any, misbehaving: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sweep = Sweep(tmp_path, cluster, fs_delay_s=5.0)
    sweep.add(0, steps=150, prefix=True)
    for number in (1, 2):
        sweep.add(number, steps=60, needs=[0])
    sweep.add(3, raises=True)
    sweep.add(4, needs=[3])
    sweep.add(5, dies=True, steps=30)
    sweep.start()
    assert sweep.thread is not None
    thread = sweep.thread
    until(lambda: not thread.is_alive(), "the launcher", seconds=240)
    calls = {path.stem: int(path.read_text()) for path in misbehaving.glob("*.calls")}
    monkeypatch.setenv("PATH", os.environ["PATH"].partition(os.pathsep)[2])
    sweep.finish()
    assert calls["squeue"] > 10 and calls["sacct"] > 2 and calls["sbatch"] == 7, calls
    assert sweep.counted() == {0: 150, 1: 60, 2: 60, 5: 30}, sweep.story()
    assert sweep.classes() == {0: None, 1: None, 2: None, 3: "code error", 4: "blocked", 5: None}, sweep.story()
    begun = {number: sum(n == number and event == "submitted" for n, event, _ in sweep.story()) for number in range(6)}
    assert begun == {0: 1, 1: 1, 2: 1, 3: 1, 4: 1, 5: 2}, sweep.story()
    assert {n: sweep.job(n).log.read_text().count("from step") for n in (0, 1, 2)} == {0: 1, 1: 1, 2: 1}
    assert [(n, failure) for n, event, failure in sweep.story() if event == "retried"] == [(5, "killed")]
