"""`ctt status` of a large sweep: a bounded number of lines, all of them on request, no failure while a retry is due, and a share of
the work that never falls."""

from __future__ import annotations

import json
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from ctt.app.job_lines import print_jobs
from ctt.app.progress import Follower, stage_status
from ctt.app.status import print_status
from ctt.core.build_context import BuildContext
from ctt.core.errors import UsageError
from ctt.execution.jobs import event_log, spec
from ctt.execution.jobs.failures import Ending, classify, reason
from ctt.execution.jobs.job_status import JobStatus, due
from ctt.execution.jobs.spec import freeze
from ctt.planning import Plan, compile_plan, costs
from ctt.store import Store
from ctt.study import record
from ctt.sweep import compile_sweep
from tests.made_store import MINI


def printed(found: list[JobStatus], width: int = 100, **more: bool) -> list[str]:
    out = StringIO()
    print_jobs(found, Console(file=out, width=width), **more)
    return out.getvalue().splitlines()


def failed(number: int, failure: str, message: str) -> JobStatus:
    return JobStatus(number, f"ctt_inv_weight=0.{number} seed=0", "failed", f"77_{number}", "node1", failure, message)


def test_a_thousand_cancelled_jobs_are_one_line() -> None:
    found = [failed(n, "cancelled", "cancelled by user 1000") for n in range(1035)]
    found += [failed(n, "blocked", f"job {n - 9} has failed") for n in range(12)]
    lines = printed(found)
    assert len(lines) == 2
    assert lines[0].startswith("1,035 jobs cancelled: ctt_inv_weight=0.0 seed=0, ctt_inv_weight=0.1 seed=0, …")
    assert lines[1].startswith("12 jobs blocked: ")
    assert len(printed(found, every=True)) == 1047
    assert printed(found, failed=False) == []


def test_jobs_that_failed_alike_are_counted_and_kinds_are_bounded() -> None:
    """Alike: but for numbers, keys and paths, which differ from job to job."""
    alike = [failed(n, "code error", f"loss {n}.5 of {n:064x} is not finite; see store/{n}.log") for n in range(300)]
    lines = printed(alike)
    assert len(lines) == 2 and "loss 0.5" in lines[0] and lines[1] == "  and 299 jobs alike (--failed lists them)"
    words = ["alpha", "beta", "gamma", "delta", "epsilon", "zeta", "eta", "theta"]
    lines = printed([failed(n, "code error", f"{word} is missing") for n, word in enumerate(words)])
    assert len(lines) == 6 and lines[-1] == "and 3 jobs failed for other reasons (--failed lists them)"


def test_a_class_stands_once() -> None:
    ended = classify(Ending(code=1))
    assert ended is not None and ended.message == "code error, exit code 1"
    assert printed([failed(0, "code error", ended.message)])[0].count("code error") == 1
    assert printed([failed(0, "code error", "code error")])[0].count("code error") == 1
    assert reason("diverged", "the loss is NaN") == "diverged: the loss is NaN" and reason("hang", "") == "hang"


@pytest.fixture(scope="module")
def plan() -> Plan:
    weights = ",".join(f"{n / 1000:g}" for n in range(1, 81))
    return compile_plan(compile_sweep(None, [*MINI, f"ctt_inv_weight={weights}", "seed=0,1,2"]))


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "s")


def lines_of(store: Store, capsys: pytest.CaptureFixture[str], only: str | None = None) -> list[str]:
    print_status(store, "multirun", False, only)
    return [line for line in capsys.readouterr().out.splitlines() if line.strip()]


def test_a_sweep_of_hundreds_of_runs_has_a_screen_of_lines_and_all_on_request(
    plan: Plan, store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    record.write(plan, store)
    states = [line.world_model for line in plan.lines]
    for state in states[:100]:
        store.record_failure(state.key, "diverged", "the loss is NaN")
    with store.lease(states[100].key):
        BuildContext(store.work_folder(states[100].key)).progress(1, 9, "step")
        default, everything = lines_of(store, capsys), lines_of(store, capsys, "all")
        running, bad = lines_of(store, capsys, "running"), lines_of(store, capsys, "failed")
    assert len(default) < 48 < len(plan.targets) == 243 <= len(everything)
    assert sum("failed" in line and "seed=" in line for line in bad) == 100 and sum("diverged" in line for line in bad) == 100
    assert sum("seed=" in line for line in running) == 1 and "failed" not in " ".join(running)
    with pytest.raises(UsageError, match="--failed lists the runs of one sweep"):
        print_status(store, None, False, "failed")


def test_nothing_has_failed_while_a_retry_is_due(plan: Plan, store: Store) -> None:
    """The launcher's events say so: of a job that was killed and is retried, and of one that has ended for good."""
    folder = record.write(plan, store)
    jobs = [freeze(job, store, folder / "jobs", number) for number, job in enumerate(plan.jobs[:2])]
    for job, event in zip(jobs, ("retried", "ended"), strict=True):
        store.record_failure(job.target, "killed", "killed, ended by SIGKILL")
        event_log.append(folder / "jobs", job.number, job.label, job.target, event, job_id="1", failure="killed")
    read = spec.read(folder / "jobs")
    keys = due(read, folder / "jobs")
    assert jobs[0].target in keys and jobs[1].target not in keys
    follower = Follower(plan, store, Console(), 2, due=lambda: keys)
    statuses, _ = follower.look()
    assert [statuses[job.target].state for job in jobs] == ["waiting", "failed"]
    assert statuses[jobs[0].target].message == "killed, ended by SIGKILL"
    assert "1 failed" in follower.line().plain


def test_the_share_of_a_stage_never_falls(plan: Plan, store: Store) -> None:
    """Not when its unit changes, when an attempt fails, when the next one begins anew, nor when it says nothing for long."""
    state = plan.lines[0].world_model
    shares = []

    def look() -> None:
        shares.append(stage_status(store, state).share)

    with store.lease(state.key):
        folder = store.work_folder(state.key)
        context = BuildContext(folder)
        for done, total, unit in ((5, 10, "step"), (10, 10, "step"), (1, 1, "video")):
            context.progress(done, total, unit)
            look()
        context._last = 0.0
        context.progress(1, 500, "window")
        look()
        store.record_failure(state.key, "killed", "killed")
        look()
        BuildContext(folder).progress(1, 10, "step")
        look()
        report = json.loads((folder / "progress.json").read_text())
        (folder / "progress.json").write_text(json.dumps(report | {"updated": report["updated"] - 1000}))
        look()
    assert shares == sorted(shares) and shares[0] == 0.5 and shares[-1] == 0.99


def test_the_share_of_a_sweep_does_not_change_with_the_estimates(
    plan: Plan, store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    """A stage that took much less than was estimated would weigh less from then on."""

    def share() -> float:
        print_status(store, "multirun", True)
        found: float = json.loads(capsys.readouterr().out)["share"]
        return found

    record.write(plan, store)
    [data] = [stage for stage in plan.stages.values() if stage.kind == "data"]
    with store.lease(data.key) as lease:
        BuildContext(store.work_folder(data.key)).progress(9, 10, "video")
        before = share()
        (store.work_folder(data.key) / "progress.json").unlink()
        store.publish(data.key, store.work_folder(data.key), lease, {"kind": "data"})
    costs.record(store, data, None, "cpu", 0.1)
    assert 0 < before < share()


def test_the_time_left_is_known_from_history_while_jobs_are_queued(
    store: Store, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = compile_plan(compile_sweep(None, [*MINI, "ctt_inv_weight=0.1", "seed=0", "launch.jobs=1"]))
    record.write(plan, store)
    queued = JobStatus(0, "run", "queued", "1", message="Priority")
    monkeypatch.setattr("ctt.app.status.job_statuses", lambda *_: [queued])
    print_status(store, "multirun", True)
    assert json.loads(capsys.readouterr().out)["eta_seconds"] is None, "no history"
    for stage in plan.stages.values():
        costs.record(store, stage, plan.start_of(stage), "cpu", 60.0)
    print_status(store, "multirun", True)
    assert json.loads(capsys.readouterr().out)["eta_seconds"] == pytest.approx(60.0 * len(plan.stages), rel=0.05)
