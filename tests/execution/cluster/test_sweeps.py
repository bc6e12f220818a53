"""Whole sweeps on a real SLURM. The promise: whatever a cluster does to them, all but what is broken in itself finishes,
with the bytes of a sweep that nothing disturbed."""

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
from tests.execution.cluster.day import DIVERGING, RAISING, SLURM, SWEEP, WORDS, Day, age, awaits, go_on, launched
from tests.tiny import artifacts, ctt, environment
from tests.waiting import until

pytestmark = [
    pytest.mark.slurm,
    pytest.mark.skipif(os.environ.get("CTT_FAULTS") != "full", reason="minutes: `make faults` runs it"),
]
RUNS = ("baseline", "inv_weight=0.2", "suf_weight=0.2")
BROKEN = {"learning_rate=1e+30": "diverged", "history_size=30": "code error"}


@pytest.fixture(scope="module")
def sweep(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sweep file: a shared prefix, three runs, one that diverges, and one that raises."""
    path = tmp_path_factory.mktemp("day") / "day.yaml"
    path.write_text(SWEEP + DIVERGING + RAISING)
    return path


@pytest.fixture(scope="module")
def undisturbed(sweep: Path) -> Path:
    """A store in which the sweep has run on this host."""
    store = sweep.parent / "here" / "store"
    ctt(store, "sweep", str(sweep), *WORDS, "tracking=off", "launch=local", check=False)
    assert len(artifacts(store)) == 2 + 3 * 3
    return store


def disturb(day: Day, cluster: Any) -> None:
    """Kills a node under the shared prefix; cancels a run, lets another's time run out, and preempts the third, all in training."""
    until(lambda: day.folder.exists() and day.training("shared prefix"), "the shared prefix's training")
    node = day.node("shared prefix")
    cluster.crash(node)
    cluster.start(node)
    held = day.hold(*RUNS)
    cancelled, timed_out, preempted = RUNS
    cluster.run("scancel", day.task(cancelled))
    cluster.run("scontrol", "update", f"jobid={day.task(timed_out)}", "timelimit=2")  # less than signal_delay_s
    until(lambda: awaits(held[timed_out], signal.SIGUSR2), "SLURM's signal before the time limit")
    go_on(held[timed_out])
    until(lambda: "back into the queue" in day.log(timed_out), "a job that requeues itself")
    assert day.checkpoints(timed_out)
    until(
        lambda: started(held[timed_out]) is None and day.state(timed_out) != "COMPLETING",
        "the next attempt",
    )
    cluster.run("scontrol", "update", f"jobid={day.task(timed_out)}", "timelimit=5")
    urgent = cluster.run("sbatch", "--parsable", "-pdebug", "-N2", "--exclusive", "-o/dev/null", "--wrap", "true")
    until(lambda: "back into the queue" in day.log(preempted), "a job that makes room")
    assert day.checkpoints(preempted)
    until(
        lambda: cluster.run("sacct", "-n", "-X", "-P", "-j", urgent, "-o", "State") == "COMPLETED",
        "the urgent job",
        every=0.1,
    )


def test_a_disturbed_sweep_ends_with_the_bytes_of_an_undisturbed_one(
    cluster: Any, sweep: Path, undisturbed: Path, tmp_path: Path
) -> None:
    there = tmp_path / "store"
    words = ["sweep", str(sweep), *WORDS, "tracking=off", *SLURM, "launch.signal_delay_s=110"]
    day = Day(there, cluster)
    with launched(there, *words) as (process, out):
        until((there / "sweeps/day/0001/jobs/events.jsonl").exists, "jobs")
        disturb(day, cluster)
        assert process.wait(300) == 1, out.read_text()
    said = out.read_text()
    assert "2 of 5 runs are missing" in said and f"ctt sweep {sweep}" in said, said
    assert all(failure in said for failure in BROKEN.values()), said
    classes = {event["label"]: event["class"] for event in event_log.last(day.folder).values()}
    broken = {day.job(label).label: failure for label, failure in BROKEN.items()}
    assert {label: failure for label, failure in classes.items() if failure} == broken
    assert artifacts(there) == artifacts(undisturbed)
    tables = [ctt(store, "report", "day", "--format", "json", check=False).stdout for store in (undisturbed, there)]
    assert tables[0] == tables[1]
    states = {label: day.states(label) for label in ("shared prefix", *RUNS, *BROKEN)}
    print(states)
    assert "NODE_FAIL" in states["shared prefix"] and "CANCELLED" in states[RUNS[0]], states
    assert all(states[label][-1] == "FAILED" for label in BROKEN), states
    assert all(states[label][-1] == "COMPLETED" for label in ("shared prefix", *RUNS)), states
    assert all(day.log(label).count("building world_model") > 1 for label in RUNS[1:])
    assert day.queue() == []
    status = json.loads(ctt(there, "status", "day", "--json", check=False).stdout)
    assert {job["label"]: job["class"] for job in status["jobs"] if job["state"] != "done"} == broken


def test_a_training_finishes_across_ten_time_slots(
    cluster: Any, sweep: Path, undisturbed: Path, tmp_path: Path
) -> None:
    """Ten times SLURM ends a training's time before it is through; each slot begins where the last one stopped.

    SLURM looks at the time of its jobs every 30 s, so its signal comes when a slot is 15 to 45 s old.
    """
    there, file = tmp_path / "store", tmp_path / "day.yaml"
    file.write_text(SWEEP.partition("points")[0])
    words = ["sweep", str(file), *WORDS, "tracking=off", *SLURM, "launch.timeout_min=2", "launch.signal_delay_s=105"]
    day, steps = Day(there, cluster), [0.0]
    with launched(there, *words) as (process, out):
        until((there / "sweeps/day/0001/jobs/events.jsonl").exists, "jobs")

        def further() -> int | None:
            """The training's process, once it is further than at the end of the slot before."""
            trained = day.training("baseline")
            return trained if trained is not None and day.done("baseline") > steps[-1] else None

        for slot in range(1, 11):
            held = until(further, f"training in slot {slot}")
            with contextlib.suppress(ProcessLookupError, FileNotFoundError):  # SLURM may have been faster
                os.kill(held, signal.SIGSTOP)  # so that ten slots are not too many for it
                until(lambda held=held: awaits(held, signal.SIGUSR2) or age(held) > 50, every=0.1)
            go_on(held)
            until(lambda held=held: started(held) is None, f"the end of slot {slot}")
            steps.append(day.done("baseline"))
        assert day.log("baseline").count("back into the queue") >= 10
        assert process.wait(300) == 0, out.read_text()
    assert steps == sorted(set(steps)), "every slot got further"
    made, all_made = artifacts(there), artifacts(undisturbed)
    assert made and made == {key: all_made[key] for key in made}
    print(steps, day.states("baseline"))


def test_detached_cancelled_and_left_running(cluster: Any, undisturbed: Path, tmp_path: Path) -> None:
    """Submitted by a process that ends, looked at, cancelled; then followed by one that Ctrl-C makes leave."""
    there, file = tmp_path / "store", tmp_path / "day.yaml"
    file.write_text(SWEEP)
    words = ["sweep", str(file), *WORDS, *SLURM]
    assert "day is submitted" in ctt(there, *words, "--detach").stdout
    day = Day(there, cluster)
    assert sorted(day.queue())[0] == "PENDING" and len(day.queue()) == 4
    prefix = day.hold("shared prefix")["shared prefix"]
    status = {job["label"]: job for job in json.loads(ctt(there, "status", "day", "--json").stdout)["jobs"]}
    label = day.job("shared prefix").label
    assert status[label]["state"] == "running" and status[label]["job_id"] == day.task("shared prefix")
    assert status[label]["host"] == day.node("shared prefix") and status[label]["rate"] >= 0
    assert {job["state"] for job in status.values() if job["label"] != label} == {"queued"}
    follow = [sys.executable, "-m", "ctt", "logs", f"day/{label}", "-f"]
    logs = subprocess.Popen(follow, env=environment(there), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    os.kill(prefix, signal.SIGCONT)
    day.hold(*RUNS)
    said, _ = logs.communicate(timeout=60)
    assert logs.returncode == 0 and b"built world_model" in said, (
        "it ends with the job, though no launcher tells of that"
    )
    assert "3 jobs of SLURM are cancelled" in ctt(there, "cancel", "day").stdout
    assert day.queue() == [] and all(map(day.checkpoints, RUNS))
    status = {
        job["label"]: job for job in json.loads(ctt(there, "status", "day", "--json", check=False).stdout)["jobs"]
    }
    assert {status[day.job(run).label]["class"] for run in RUNS} == {"cancelled"} and status[label]["state"] == "done"

    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "ctt", *words]
    process = subprocess.Popen(
        command, env=environment(there), start_new_session=True, stdin=theirs, stdout=theirs, stderr=theirs
    )
    os.close(theirs)
    until(
        lambda: day.folder.parent.name == "0002" and len(event_log.last(day.folder)) == 3, "another record and its jobs"
    )
    held = day.hold(*RUNS)
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does
    shown = b""
    while b"[C/l]" not in shown:
        shown += os.read(ours, 4096)
    os.write(ours, b"l\n")
    assert process.wait(90) == 130
    os.close(ours)
    tasks = {run: day.task(run) for run in RUNS}
    assert day.queue() == ["RUNNING"] * 3

    with launched(there, *words) as (process, out):
        until(lambda: day.folder.parent.name == "0003" and len(event_log.last(day.folder)) == 3, "a third record")
        assert {run: day.task(run) for run in RUNS} == tasks and len(day.queue()) == 3, (
            "the same jobs are followed again"
        )
        for stopped in held.values():
            os.kill(stopped, signal.SIGCONT)
        assert process.wait(300) == 0, out.read_text()
    assert artifacts(there) == artifacts(undisturbed)
    points = sqlite3.connect(there / "mlflow.db").execute(
        "SELECT COUNT(*) FROM metrics WHERE key = 'world_model/train_loss'"
    )
    assert points.fetchone()[0] == 3 * 3, "a process of its own brought MLflow up to date"
