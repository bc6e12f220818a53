"""Why a job waits is shown in the status and once in the sweep's output, with the remedy where it does not clear by itself."""

from __future__ import annotations

from pathlib import Path

import pytest

from ctt.execution.slurm import queue_tasks, slurm_launcher
from ctt.execution.slurm.reasons import PATIENCE, STUCK, WaitReasons, message
from tests.execution.slurm.fake_slurm import FakeSlurm, launcher, record

PROSE = "Nodes required for job are DOWN, DRAINED or reserved for jobs in higher priority partitions"
NODES = "nodes are down, drained or reserved; `sinfo -R` shows which and why; or set another launch.partition"


@pytest.mark.parametrize(
    "state, reason, text",
    [
        ("PENDING", "None", "pending"),
        ("PENDING", "Resources", "pending: Resources"),
        ("SUSPENDED", "None", "suspended"),
        ("PENDING", "QOSMaxJobsPerUserLimit", "pending: QOSMaxJobsPerUserLimit"),
        ("PENDING", "(ReqNodeNotAvail, UnavailableNodes:n[1-2])", f"pending: ReqNodeNotAvail, UnavailableNodes:n[1-2] ({NODES})"),
        ("PENDING", PROSE, f"pending: {PROSE} ({NODES})"),
        (
            "PENDING",
            "AssocGrpBillingMinutes",
            "pending: AssocGrpBillingMinutes (the budget of the account is used up; set "
            "launch.account or launch.qos, or ask for more)",
        ),
        ("PENDING", "AssocGrpCPURunMinutesLimit", "pending: AssocGrpCPURunMinutesLimit"),
        ("PENDING", "JobHeldUser", "pending: JobHeldUser (it is held; `scontrol release` it)"),
    ],
)
def test_a_queued_job_has_its_reason(state: str, reason: str, text: str) -> None:
    assert message(state, reason) == text


LASTING = (
    "AccountNotAllowed", "AssocGrpBillingMinutes", "AssocGrpCPUMinutesLimit", "AssocGrpGRESMinutes", "AssocGrpWallLimit",
    "AssocMaxBBPerNode", "AssocMaxBillingMinutesPerJob", "AssocMaxBillingPerJob", "AssocMaxCpuMinutesPerJobLimit",
    "AssocMaxCpuPerJobLimit", "AssocMaxCpuPerNode", "AssocMaxGRESMinutesPerJob", "AssocMaxGRESPerJob", "AssocMaxGRESPerNode",
    "AssocMaxMemPerJob", "AssocMaxMemPerNode", "AssocMaxNodePerJobLimit", "AssocMaxWallDurationPerJobLimit",
    "AssociationTimeLimit", "BadConstraints", "DependencyNeverSatisfied", "InvalidAccount", "InvalidQOS", "JobHeldAdmin",
    "JobHeldUser", "MaxMemPerLimit", "PartitionConfig", "PartitionDown", "PartitionInactive", "PartitionMinNodes",
    "PartitionNodeLimit", "PartitionTimeLimit", "QOSGrpCPUMinutesLimit", "QOSGrpMemoryMinutes", "QOSGrpWallLimit",
    "QOSMaxCpuMinutesPerJobLimit", "QOSMaxCpuPerJobLimit", "QOSMaxCpuPerNode", "QOSMaxGRESMinutesPerJob", "QOSMaxGRESPerJob",
    "QOSMaxGRESPerNode", "QOSMaxMemoryPerJob", "QOSMaxMemoryPerNode", "QOSMaxNodePerJobLimit", "QOSMaxWallDurationPerJobLimit",
    "QOSMinCpuNotSatisfied", "QOSMinGRES", "QOSMinMemory", "QOSMinNode", "QOSNotAllowed", "QOSTimeLimit", "QOSUsageThreshold",
    "RequiresReservation", "ReservationDeleted",
)  # fmt: skip
PASSING = (
    "AssocGrpCPURunMinutesLimit", "AssocGrpCpuLimit", "AssocGrpGRES", "AssocGrpGRESRunMinutes", "AssocGrpJobsLimit",
    "AssocGrpMemLimit", "AssocGrpNodeLimit", "AssocMaxJobsLimit", "BeginTime", "Dependency", "JobArrayTaskLimit",
    "MaxCpuPerAccount", "MaxJobsPerAccount", "NodeFeatures", "Priority", "QOSGrpCpuLimit", "QOSGrpGRES", "QOSGrpMemoryRunMinutes",
    "QOSMaxCpuPerUserLimit", "QOSMaxGRESPerUser", "QOSMaxJobsPerUserLimit", "QOSMaxNodePerUserLimit",
    "Reservation", "Resources", "SchedDefer",
)  # fmt: skip


def test_reasons_that_nothing_but_a_person_clears_have_a_remedy() -> None:
    """Of the names in SLURM's library (`job_reason_string`)."""
    assert [reason for reason in LASTING if "; " not in message("PENDING", reason)] == []
    assert [reason for reason in PASSING if message("PENDING", reason) != f"pending: {reason}"] == []


def test_each_reason_is_reported_once_and_again_if_it_does_not_clear() -> None:
    reasons = WaitReasons()
    assert reasons.report({"Priority": 3, "None": 1}, 0.0) == []
    assert reasons.report({"PartitionTimeLimit": 2, "ReqNodeNotAvail, UnavailableNodes:n1": 1}, 1.0) == [
        "2 jobs wait: PartitionTimeLimit", "1 job waits: ReqNodeNotAvail",
    ]  # fmt: skip
    assert reasons.report({"PartitionTimeLimit": 2}, PATIENCE) == []
    (line,) = reasons.report({"PartitionTimeLimit": 2}, 1.0 + PATIENCE)
    assert line == f"2 jobs wait, and PartitionTimeLimit does not clear by itself: {STUCK['PartitionTimeLimit']}"
    assert reasons.report({"PartitionTimeLimit": 2, "ReqNodeNotAvail": 1}, 3 * PATIENCE) == []


def test_a_sentence_stands_whole_and_a_used_up_budget_does_not_clear() -> None:
    reasons = WaitReasons()
    assert reasons.report({PROSE: 2, "QOSGrpCPUMinutesLimit": 1}, 0.0) == [
        f"2 jobs wait: {PROSE}",
        "1 job waits: QOSGrpCPUMinutesLimit",
    ]
    nodes, budget = reasons.report({PROSE: 2, "QOSGrpCPUMinutesLimit": 1}, PATIENCE)
    assert nodes == f"2 jobs wait, and {PROSE} may last long: {NODES}"
    assert "QOSGrpCPUMinutesLimit does not clear by itself: the budget" in budget


def test_suspended_jobs_are_reported_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    slurm = FakeSlurm(monkeypatch)
    one = launcher(tmp_path, record(tmp_path, 1, {0: [], 1: []}))
    one.submit()
    for task in slurm.queue.values():
        task.state, task.node = "SUSPENDED", "n1"
    one.poll()
    one.poll()
    assert capsys.readouterr().out.count("2 jobs wait: Suspended") == 1


def test_the_launcher_prints_it_and_the_status_has_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    slurm = FakeSlurm(monkeypatch)
    one = launcher(tmp_path, record(tmp_path, 1, {0: [], 1: []}))
    one.submit()
    for task in slurm.queue.values():
        task.reason = "PartitionTimeLimit"
    one.poll()
    one.poll()
    assert capsys.readouterr().out.count("2 jobs wait: PartitionTimeLimit") == 1
    states = queue_tasks.states(one.folder, one.name)
    assert states is not None and all("launch.timeout_min" in state.message for state in states.values())


def test_a_job_that_nobody_lists_is_unknown_for_a_minute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    slurm = FakeSlurm(monkeypatch)
    monkeypatch.setattr(slurm_launcher, "UNKNOWN", 60.0)
    one = launcher(tmp_path, record(tmp_path, 1, {0: []}))
    one.submit()
    slurm.queue.clear()
    for _ in range(5):
        one.poll()
    assert list(one.alive) == [0], "neither the queue nor the accounting has it: it may run"
    one.alive[0].since -= 61
    one.poll()
    assert one.waiting and not one.alive, "killed, and to be submitted again"
