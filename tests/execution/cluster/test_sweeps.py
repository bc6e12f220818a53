"""Whole sweeps on a real SLURM: whatever the cluster does, all runs finish that are not faulty themselves, with the bytes of
an undisturbed sweep."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from ctt.core.processes import started
from ctt.execution.jobs import event_log
from tests.execution.cluster.small_sweep import (
    FAULTY,
    SETTINGS,
    SLURM,
    SWEEP,
    SmallSweep,
    age,
    has_pending,
    launched,
    resume,
)
from tests.tiny import artifacts, ctt, environment
from tests.waiting import until

pytestmark = [
    pytest.mark.slurm,
    pytest.mark.skipif(os.environ.get("CTT_FAULTS") != "full", reason="minutes: `make faults` runs it"),
]
RUNS = ("baseline", "ctt_inv_weight=0.2", "ctt_suf_weight=0.2")
BROKEN = {"learning_rate=1e+30": "diverged"}


@pytest.fixture(scope="module")
def sweep(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sweep file: a shared prefix, three runs, one that diverges, and one that raises."""
    path = tmp_path_factory.mktemp("small") / "small.yaml"
    path.write_text(SWEEP + FAULTY)
    return path


@pytest.fixture(scope="module")
def undisturbed(sweep: Path) -> Path:
    """A store in which the sweep has run locally."""
    store = sweep.parent / "here" / "store"
    ctt(store, "sweep", str(sweep), *SETTINGS, "tracking=off", "launch=local", check=False)
    assert len(artifacts(store)) == 2 + 3 * 3
    return store


def disturb(small: SmallSweep, cluster: Any) -> None:
    """Kills the node of the shared prefix; then cancels a run, lets one reach its time limit, and preempts one, all in training."""
    until(lambda: small.folder.exists() and small.training("shared prefix"), "the shared prefix's training")
    node = small.node("shared prefix")
    cluster.crash(node)
    cluster.start(node)
    held = small.hold(*RUNS)
    cancelled, timed_out, preempted = RUNS
    cluster.run("scancel", small.task(cancelled))
    cluster.run("scontrol", "update", f"jobid={small.task(timed_out)}", "timelimit=2")  # less than signal_delay_s
    until(lambda: has_pending(held[timed_out], signal.SIGUSR2), "SLURM's signal before the time limit")
    resume(held[timed_out])
    until(lambda: "back into the queue" in small.log(timed_out), "a job that requeues itself")
    assert small.checkpoints(timed_out)
    until(
        lambda: started(held[timed_out]) is None and small.state(timed_out) != "COMPLETING",
        "the next attempt",
    )
    cluster.run("scontrol", "update", f"jobid={small.task(timed_out)}", "timelimit=5")
    urgent = cluster.run("sbatch", "--parsable", "-pdebug", "-N2", "--exclusive", "-o/dev/null", "--wrap", "true")
    until(lambda: "back into the queue" in small.log(preempted), "the preempted job to requeue itself")
    assert small.checkpoints(preempted)
    until(
        lambda: cluster.run("sacct", "-n", "-X", "-P", "-j", urgent, "-o", "State") == "COMPLETED",
        "the urgent job",
        every=0.1,
    )


def test_a_disturbed_sweep_ends_with_the_bytes_of_an_undisturbed_one(
    cluster: Any, sweep: Path, undisturbed: Path, tmp_path: Path
) -> None:
    there = tmp_path / "store"
    arguments = ["sweep", str(sweep), *SETTINGS, "tracking=off", *SLURM, "launch.signal_delay_s=110"]
    small = SmallSweep(there, cluster)
    with launched(there, *arguments) as (process, out):
        until((there / "sweeps/small/0001/jobs/events.jsonl").exists, "jobs")
        disturb(small, cluster)
        assert process.wait(300) == 1, out.read_text()
    output = out.read_text()
    assert "1 of 4 runs are missing" in output and f"ctt sweep {sweep}" in output, output
    assert all(failure in output for failure in BROKEN.values()), output
    classes = {event["label"]: event["class"] for event in event_log.last(small.folder).values()}
    broken = {small.job(label).label: failure for label, failure in BROKEN.items()}
    assert {label: failure for label, failure in classes.items() if failure} == broken
    assert artifacts(there) == artifacts(undisturbed)
    tables = [ctt(store, "report", "small", "--format", "json", check=False).stdout for store in (undisturbed, there)]
    assert tables[0] == tables[1]
    states = {label: small.states(label) for label in ("shared prefix", *RUNS, *BROKEN)}
    print(states)
    assert "NODE_FAIL" in states["shared prefix"] and "CANCELLED" in states[RUNS[0]], states
    assert all(states[label][-1] == "FAILED" for label in BROKEN), states
    assert all(states[label][-1] == "COMPLETED" for label in ("shared prefix", *RUNS)), states
    assert all(small.log(label).count("building world_model") > 1 for label in RUNS[1:])
    assert small.queue() == []
    status = json.loads(ctt(there, "status", "small", "--json", check=False).stdout)
    assert {job["label"]: job["class"] for job in status["jobs"] if job["state"] != "done"} == broken


def test_a_training_finishes_across_ten_time_limits(cluster: Any, sweep: Path, undisturbed: Path, tmp_path: Path) -> None:
    """SLURM stops a training at its time limit ten times; each attempt continues from the checkpoint of the one before.

    SLURM checks time limits every 30 s, so its signal comes 15 to 45 s after an attempt began.
    """
    there, file = tmp_path / "store", tmp_path / "small.yaml"
    file.write_text(SWEEP.partition("points")[0])
    limits = ["launch.timeout_min=2", "launch.signal_delay_s=105"]
    arguments = ["sweep", str(file), *SETTINGS, "tracking=off", *SLURM, *limits]
    small, steps = SmallSweep(there, cluster), [0.0]
    with launched(there, *arguments) as (process, out):
        until((there / "sweeps/small/0001/jobs/events.jsonl").exists, "jobs")

        def further() -> int | None:
            """Id of the training's process, once it is further than at the end of the attempt before."""
            trained = small.training("baseline")
            return trained if trained is not None and small.done("baseline") > steps[-1] else None

        for attempt in range(1, 11):
            held = until(further, f"training in attempt {attempt}")
            with contextlib.suppress(ProcessLookupError, FileNotFoundError):  # SLURM may have been faster
                os.kill(held, signal.SIGSTOP)  # so that it does not finish in fewer attempts
                until(lambda held=held: has_pending(held, signal.SIGUSR2) or age(held) > 50, every=0.1)
            resume(held)
            until(lambda held=held: started(held) is None, f"the end of attempt {attempt}")
            steps.append(small.done("baseline"))
        assert small.log("baseline").count("back into the queue") >= 10
        assert process.wait(300) == 0, out.read_text()
    assert steps == sorted(set(steps)), "every attempt made progress"
    made, all_made = artifacts(there), artifacts(undisturbed)
    assert made and made == {key: all_made[key] for key in made}
    print(steps, small.states("baseline"))


def test_detached_then_cancelled_then_left_running(cluster: Any, undisturbed: Path, tmp_path: Path) -> None:
    """A detached sweep with its status and log, cancelled; then a sweep left running after Ctrl-C, and followed again."""
    there, file = tmp_path / "store", tmp_path / "small.yaml"
    file.write_text(SWEEP)
    arguments = ["sweep", str(file), *SETTINGS, *SLURM]
    assert "small is submitted" in ctt(there, *arguments, "--detach").stdout
    small = SmallSweep(there, cluster)
    assert sorted(small.queue())[0] == "PENDING" and len(small.queue()) == 4
    prefix = small.hold("shared prefix")["shared prefix"]
    status = {job["label"]: job for job in json.loads(ctt(there, "status", "small", "--json").stdout)["jobs"]}
    label = small.job("shared prefix").label
    assert status[label]["state"] == "running" and status[label]["job_id"] == small.task("shared prefix")
    assert status[label]["host"] == small.node("shared prefix") and status[label]["rate"] >= 0
    assert {job["state"] for job in status.values() if job["label"] != label} == {"queued"}
    follow = [sys.executable, "-m", "ctt", "logs", f"small/{label}", "-f"]
    logs = subprocess.Popen(follow, env=environment(there), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    os.kill(prefix, signal.SIGCONT)
    small.hold(*RUNS)
    shown, _ = logs.communicate(timeout=240)
    assert logs.returncode == 0 and b"built world_model" in shown, "it ends with the job, without a launcher"
    assert "3 SLURM jobs are cancelled" in ctt(there, "cancel", "small").stdout
    assert small.queue() == [] and all(map(small.checkpoints, RUNS))
    status = {job["label"]: job for job in json.loads(ctt(there, "status", "small", "--json", check=False).stdout)["jobs"]}
    assert {status[small.job(run).label]["class"] for run in RUNS} == {"cancelled"} and status[label]["state"] == "done"

    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "ctt", *arguments]
    process = subprocess.Popen(command, env=environment(there), start_new_session=True, stdin=theirs, stdout=theirs, stderr=theirs)
    os.close(theirs)
    until(
        lambda: small.folder.parent.name == "0002" and len(event_log.last(small.folder)) == 3,
        "another record and its jobs",
    )
    held = small.hold(*RUNS)
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does
    shown = b""
    while b"[C/l]" not in shown:
        shown += os.read(ours, 4096)
    os.write(ours, b"l\n")
    assert process.wait(90) == 130
    os.close(ours)
    tasks = {run: small.task(run) for run in RUNS}
    assert small.queue() == ["RUNNING"] * 3

    with launched(there, *arguments) as (process, out):
        until(lambda: small.folder.parent.name == "0003" and len(event_log.last(small.folder)) == 3, "a third record")
        assert {run: small.task(run) for run in RUNS} == tasks and len(small.queue()) == 3, "the same jobs are followed again"
        for stopped in held.values():
            os.kill(stopped, signal.SIGCONT)
        assert process.wait(300) == 0, out.read_text()
    assert artifacts(there) == artifacts(undisturbed)
    points = sqlite3.connect(there / "mlflow.db").execute("SELECT COUNT(*) FROM metrics WHERE key = 'world_model/train_loss'")
    assert points.fetchone()[0] == 3 * 3, "the sync process has sent all metrics"
