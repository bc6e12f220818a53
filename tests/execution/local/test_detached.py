"""A detached sweep on this host: its status, its log, and its cancellation, which leaves no process."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from ctt.core.processes import started
from ctt.execution.jobs import pid_files, spec
from ctt.execution.jobs.session import LAUNCHER
from tests.tiny import TINY, ctt, environment
from tests.waiting import until


@pytest.mark.skipif(not hasattr(signal, "pidfd_send_signal"), reason="this test needs Linux")
def test_a_detached_sweep_is_seen_followed_and_cancelled(store_with_data: Path) -> None:
    store = store_with_data
    settings = [*TINY, "world_model.windows.per_epoch=1024", "ctt_start_epoch=1", "seed=0", "tracking=off"]
    shown = ctt(store, "sweep", "demo", *settings, "launch=local", "launch.jobs=1", "--detach").stdout
    jobs = store / "sweeps/demo/0001/jobs"
    until(lambda: pid_files.running(jobs / LAUNCHER))
    launcher = pid_files.running(jobs / LAUNCHER)
    assert f"runs as process {launcher}" in shown and launcher is not None and os.getsid(launcher) == launcher
    [prefix] = [job for job in spec.read(jobs) if job.prefix]
    folder = store / "work" / prefix.target
    until(lambda: list(folder.glob("*/progress.json")))
    process = pid_files.running(prefix.pid_file)
    assert process is not None
    os.kill(process, signal.SIGSTOP)
    status = json.loads(ctt(store, "status", "demo", "--json").stdout)
    states = {job["label"]: job for job in status["jobs"]}
    assert states[prefix.label]["state"] == "running" and states[prefix.label]["job_id"] == str(process)
    assert [job["state"] for job in states.values()].count("waiting") == 2
    shown = ctt(store, "status", "demo").stdout
    line = next(line for line in shown.splitlines() if line.startswith(prefix.label))
    assert str(process) in line.split() and "2 jobs waiting" in shown
    follow = [sys.executable, "-m", "ctt", "logs", f"demo/{prefix.label}", "-f"]
    logs = subprocess.Popen(follow, env=environment(store), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    os.kill(process, signal.SIGCONT)
    out, _ = logs.communicate(timeout=240)
    assert logs.returncode == 0 and b"built world_model" in out
    until(lambda: any(pid_files.running(job.pid_file) for job in spec.read(jobs)))
    assert f"process {launcher} ends the jobs" in ctt(store, "cancel", "demo").stdout
    until(lambda: started(launcher) is None)
    assert not list(jobs.glob("*.pid"))
    status = json.loads(ctt(store, "status", "demo", "--json", check=False).stdout)
    assert [job["state"] for job in status["jobs"]] == ["done", "failed", "not started"]
    assert "the jobs write their checkpoints and end" not in (store / "sweeps/demo/detached.log").read_text()
