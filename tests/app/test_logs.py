"""Logs are found by run, shared prefix and key, and followed through a retry to the end of the job."""

from __future__ import annotations

import io
import threading
from pathlib import Path

import pytest

from ctt.app import logs
from ctt.cli import main
from ctt.core.errors import UsageError
from ctt.execution.jobs import event_log
from ctt.execution.jobs.spec import JobSpec, freeze
from ctt.planning import Plan, compile_plan
from ctt.store import Store
from ctt.study import record
from ctt.sweep import compile_sweep


@pytest.fixture
def recorded(tmp_path: Path) -> tuple[Store, Plan, list[JobSpec]]:
    """A record of the demo with all its jobs, and a newer one with the last job alone."""
    store = Store.open(tmp_path)
    plan = compile_plan(compile_sweep("demo", ["seed=0"]))
    first = record.write(plan, store) / "jobs"
    jobs = [freeze(job, store, first, number) for number, job in enumerate(plan.jobs)]
    for job in jobs:
        job.log.write_text(f"log of {job.label}\n")
        event_log.append(first, job.number, job.label, job.target, "ended", job_id="7_1", host="node1")
    newer = freeze(plan.jobs[-1], store, record.write(plan, store) / "jobs", 0)
    newer.log.write_text("the newer one\n")
    return store, plan, [*jobs[:-1], newer]


def printed(store: Store, name: str, follow: bool = False) -> str:
    out = io.StringIO()
    assert logs.print_log(store, name, follow=follow, out=out) == 0
    return out.getvalue()


def test_a_job_is_found_by_run_shared_prefix_and_key(recorded, capsys) -> None:
    store, plan, jobs = recorded
    for job in jobs:
        text = job.log.read_text()
        assert printed(store, f"demo/{job.label}") == printed(store, job.label) == printed(store, job.target[:12]) == text
    assert "7_1 on node1" in capsys.readouterr().err
    data = plan.targets[0].rollout.state.data.key
    assert printed(store, data) == jobs[-1].log.read_text(), "the newest job that builds it on the way"
    with pytest.raises(SystemExit) as ended:
        main(["logs", "demo/baseline", "seed=0", f"store={store.root}"])
    assert ended.value.code == 0 and capsys.readouterr().out == "the newer one\n"
    assert printed(store, "demo/seed=0 baseline") == printed(store, "seed=0 baseline") == printed(store, "baseline seed=0")


def test_unknown_names_and_missing_logs_are_refused_with_a_reason(recorded) -> None:
    store, _, jobs = recorded
    with pytest.raises(UsageError, match=r"'baseline seed=7' names no jobs .* names of jobs: demo/baseline seed=0"):
        logs.find_job(store, "baseline seed=7")
    with pytest.raises(UsageError, match="names no jobs"):
        logs.find_job(store, "abcdef0123456789")
    with pytest.raises(UsageError, match="names no jobs .* none yet"):
        logs.find_job(Store.open(store.root / "empty"), "baseline seed=0")
    run = jobs[-1]
    run.log.unlink()
    with pytest.raises(UsageError, match=r"has printed nothing: it waits for [0-9a-f]{12}"):
        printed(store, run.label)
    event_log.append(run.path.parent, 0, run.label, run.target, "ended", failure="node failure", message="node1 is gone")
    waiting_for = store.root / "x"
    assert not waiting_for.exists()
    with pytest.raises(UsageError, match="it ended: node failure node1 is gone"):
        printed(store, run.label)


def test_following_ends_with_the_job_and_goes_through_retries(recorded, monkeypatch) -> None:
    """The log is a link that a retry redirects; what a job writes just before its end is printed, too."""
    monkeypatch.setattr(logs, "LOOK_EVERY", 0.01)
    store, _, jobs = recorded
    job = jobs[-1]
    job.log.unlink()
    append = lambda event, **more: event_log.append(job.path.parent, 0, job.label, job.target, event, **more)  # noqa: E731
    append("started")
    seen = io.StringIO()
    result: list[int] = []
    thread = threading.Thread(target=lambda: result.append(logs.print_log(store, job.label, follow=True, out=seen)))
    thread.start()

    def until(text: str) -> None:
        for _ in range(2000):
            if seen.getvalue() == text:
                return
            threading.Event().wait(0.01)
        raise AssertionError(f"{seen.getvalue()!r} instead of {text!r}")

    first, second = store.root / "first.out", store.root / "second.out"
    first.write_bytes(b"epoch 1\nhal" + "ß".encode()[:1])
    job.log.symlink_to(first)
    until("epoch 1\nhal")
    with open(first, "ab") as file:
        file.write("ß".encode()[1:] + b"f\n")
    until("epoch 1\nhalßf\n")
    append("retried", failure="node failure")
    second.write_text("again\n")
    link = job.log.with_suffix(".new")
    link.symlink_to(second)
    link.replace(job.log)
    until("epoch 1\nhalßf\nagain\n")
    with open(second, "a") as file:
        file.write("the end\n")
    append("ended", failure="code error")
    thread.join(20)
    assert seen.getvalue() == "epoch 1\nhalßf\nagain\nthe end\n" and result == [1]
