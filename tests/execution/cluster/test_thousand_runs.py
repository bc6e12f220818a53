"""Following a thousand runs takes one call of squeue for all of them every few seconds, and little memory."""

from __future__ import annotations

import json
import os
import re
import shutil
import time
from pathlib import Path
from typing import Any

import pytest

from ctt.execution.jobs import event_log, spec
from tests.execution.cluster.small_sweep import launched
from tests.tiny import TINY, ctt
from tests.waiting import until

pytestmark = pytest.mark.slurm
SWEEP = "name: big\ngrid: {ctt_inv_weight: [%s]}\nseeds: [0, 1, 2]\n"
POLL = 2.0


@pytest.fixture
def counted(tmp_path: Path, cluster: Any, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file with a line, which has the time, for every call of a SLURM command."""
    folder, calls = tmp_path / "bin", tmp_path / "calls"
    folder.mkdir()
    for name in ("squeue", "sacct", "scontrol"):
        script = f'#!/bin/sh\necho "$(date +%s.%N) {name}" >> {calls}\nexec {shutil.which(name)} "$@"\n'
        (folder / name).write_text(script)
        (folder / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    calls.touch()
    return calls


def test_a_thousand_runs_are_followed_with_one_call_and_little_memory(counted: Path, tmp_path: Path) -> None:
    """All jobs are held in the queue, so that only the launcher works."""
    file, store = tmp_path / "big.yaml", tmp_path / "store"
    file.write_text(SWEEP % ",".join(f"{0.001 * number:.3f}" for number in range(1, 334)))
    arguments = [
        "sweep",
        str(file),
        *TINY,
        "ctt_start_epoch=1",
        "launch=slurm",
        f"launch.poll_s={POLL}",
        "launch.options=[--hold]",
        "tracking=off",
    ]
    jobs = store / "sweeps/big/0001/jobs"
    with launched(store, *arguments) as (process, _):
        until(lambda: len(event_log.last(jobs)) == 3 + 1002, "all jobs in the queue")
        assert len(spec.read(jobs)) == 3 + 1002
        until(lambda: counted.read_text().count("squeue") >= 3, "three polls")
        calls = [line.split() for line in counted.read_text().splitlines()]
        assert [name for _, name in calls if name != "squeue"] == ["scontrol"] == [calls[0][1]], "one call for the largest array"
        times = [float(moment) for moment, name in calls if name == "squeue"]
        assert all(later - earlier >= POLL for earlier, later in zip(times, times[1:], strict=False))
        used = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{process.pid}/status").read_text())
        assert used is not None and int(used[1]) < 300 * 1024, used and used[0]
        print(used[0])
        before = len(counted.read_text().splitlines())
        began = time.monotonic()
        status = json.loads(ctt(store, "status", "big", "--json").stdout)
        assert [job["state"] for job in status["jobs"]] == ["queued"] * 1005
        extra = len(counted.read_text().splitlines()) - before
        assert extra <= 1 + (time.monotonic() - began) / POLL + 1
        ctt(store, "cancel", "big")
        process.wait(60)
    assert {event["class"] for event in event_log.last(jobs).values()} == {"cancelled"}
