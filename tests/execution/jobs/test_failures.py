"""Failure classes from recorded ends of jobs. The sacct text is the output of SLURM 22.05 for jobs on the private cluster of
launch/devcluster, except where a job ran out of memory: without cgroups that can't happen there, so those lines follow
SLURM's documentation (sacct, JOB STATE CODES), and torch's and Python's errors are raised here."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ctt.core.errors import StageFailed
from ctt.execution.jobs.failures import BEGINS, Ending, Failure, classify, last_lines, log_tail
from ctt.execution.slurm import sacct
from ctt.execution.slurm.sacct import Account
from ctt.stages.base import Stage, build
from ctt.store import Store

RECORDED = """\
JobID|State|ExitCode|DerivedExitCode|Reason|NodeList|Start|Elapsed
1|COMPLETED|0:0|0:0|None|node1|2026-11-22T16:50:49|00:00:00
1.batch|COMPLETED|0:0|||node1|2026-11-22T16:50:49|00:00:00
2|FAILED|3:0|0:0|None|node1|2026-11-22T16:50:49|00:00:00
2.batch|FAILED|3:0|||node1|2026-11-22T16:50:49|00:00:00
3|FAILED|0:9|0:0|None|node1|2026-11-22T16:50:49|00:00:00
3.batch|CANCELLED|0:9|||node1|2026-11-22T16:50:49|00:00:00
4|FAILED|15:0|0:15|None|node1|2026-11-22T16:50:49|00:00:00
4.batch|FAILED|15:0|||node1|2026-11-22T16:50:49|00:00:00
4.0|CANCELLED|0:15|||node1|2026-11-22T16:50:49|00:00:00
6|CANCELLED|0:0|0:0|Dependency|None assigned|2026-11-22T16:50:49|00:00:00
7|CANCELLED by 0|0:0|0:0|None|node1|2026-11-22T16:50:49|00:00:00
7.batch|CANCELLED|0:15|||node1|2026-11-22T16:50:49|00:00:00
8|CANCELLED by 0|0:0|0:0|JobHeldUser|None assigned|2026-11-22T16:50:49|00:00:00
9|FAILED|0:10|0:0|None|node1|2026-11-22T16:50:49|00:00:27
9.batch|CANCELLED|0:10|||node1|2026-11-22T16:50:49|00:00:27
10_0|COMPLETED|0:0|0:0|None|node1|2026-11-22T16:50:49|00:00:01
10_1|FAILED|1:0|0:0|JobArrayTaskLimit|node1|2026-11-22T16:50:51|00:00:00
10_[2-3,7%1]|PENDING|0:0|0:0|JobArrayTaskLimit|None assigned|Unknown|00:00:00
15|NODE_FAIL|0:0|0:0|None|node2|2026-11-22T16:51:06|00:00:03
15.batch|CANCELLED||||node2|2026-11-22T16:51:06|00:00:03
16_1|FAILED|9:0|0:9|None|node1|2026-11-23T00:38:02|00:00:03
16_1.batch|FAILED|9:0|||node1|2026-11-23T00:38:02|00:00:03
16_1.0|CANCELLED|0:9|||node1|2026-11-23T00:38:02|00:00:03
20|PREEMPTED|0:0|0:0|None|node1|2026-11-22T16:52:36|00:00:10
20.batch|CANCELLED|0:15|||node1|2026-11-22T16:52:36|00:00:10
23|TIMEOUT|0:0|0:0|None|node1|2026-11-22T16:53:03|00:01:13
23.batch|CANCELLED|0:15|||node1|2026-11-22T16:53:03|00:01:13
30|OUT_OF_MEMORY|0:125|0:0|None|node1|2026-11-22T16:53:03|00:01:13
30.batch|OUT_OF_MEMORY|0:125|||node1|2026-11-22T16:53:03|00:01:13
31|FAILED|1:0|0:0|None|node1|2026-11-22T16:53:03|00:01:13
31.batch|FAILED|1:0|||node1|2026-11-22T16:53:03|00:01:13
31.0|OUT_OF_MEMORY|0:125|||node1|2026-11-22T16:53:03|00:01:13
"""
BY_JOB = {
    "2": Failure.CODE_ERROR,
    "3": Failure.KILLED,
    "6": Failure.BLOCKED,
    "7": Failure.CANCELLED,
    "8": Failure.CANCELLED,
    "9": Failure.INTERRUPTED,
    "10_1": Failure.CODE_ERROR,
    "4": Failure.INTERRUPTED,
    "15": Failure.NODE_FAILURE,
    "16_1": Failure.KILLED,
    "20": Failure.PREEMPTED,
    "23": Failure.TIMEOUT,
    "30": Failure.OUT_OF_MEMORY,
    "31": Failure.OUT_OF_MEMORY,
}
BY_LOG = {  # written by slurmstepd there, but for the memory ones
    "slurmstepd-node1: error: *** JOB 23 ON node1 CANCELLED AT 2026-11-22T16:54:16 DUE TO TIME LIMIT ***": "timeout",
    "slurmstepd-node1: error: *** JOB 20 ON node1 CANCELLED AT 2026-11-22T16:52:46 DUE TO PREEMPTION ***": "preempted",
    "slurmstepd: error: *** JOB 5 ON node1 CANCELLED AT 2026-11-22T16:52:46 DUE TO NODE FAILURE ***": "node failure",
    "slurmstepd-node1: error: *** JOB 7 ON node1 CANCELLED AT 2026-11-22T16:50:49 ***": "cancelled",
    "slurmstepd: error: Detected 1 oom_kill event in StepId=4.0. Some of the step tasks have been OOM Killed.": "out of memory",
    "RuntimeError: [enforce fail at alloc_cpu.cpp:117] . DefaultCPUAllocator: can't allocate memory": "out of memory",
    "fork: Cannot allocate memory": "out of memory",
    "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB": "out of memory",
    "ctt.core.errors.Diverged: train_loss became nan in step 3 of epoch 1": "diverged",
    '    failure = "out of memory" if name in ("MemoryError", "Diverged") else "code error"': "code error",
}


@pytest.mark.parametrize("job", BY_JOB)
def test_classes_from_the_accounting(job: str) -> None:
    failed = classify(Ending(account=sacct.read(RECORDED)[job]))
    assert failed is not None and failed.failure == BY_JOB[job]
    assert f"job {job} is" in failed.message


def test_accounts_of_arrays_and_steps_and_whether_they_may_still_run() -> None:
    accounts = sacct.read(RECORDED)
    assert {job for job, account in accounts.items() if account.alive} == {"10_2", "10_3", "10_7"}
    assert accounts["10_1"] == Account("10_1", "FAILED", 1, 0, "JobArrayTaskLimit", "node1")
    assert accounts["30"].signal == 125 and accounts["6"].nodes == "" and not any("." in job for job in accounts)
    assert sacct.read("") == {} == sacct.read("JobID|State\n")
    assert sacct.command(["1", "2_3"])[-1] == "--jobs=1,2_3"


@given(st.text(max_size=200))
def test_any_text_from_sacct_or_a_log_is_classified(text: str) -> None:
    sacct.read("JobID|State\n" + text)
    assert classify(Ending(log=text, error=text)) is not None


@pytest.mark.parametrize("line", BY_LOG)
def test_a_log_decides_where_the_accounting_does_not(line: str) -> None:
    log = f"epoch 3\n{line}\n"
    for account in (None, Account("1", "FAILED", 1)):
        failed = classify(Ending(account=account, log=log, code=1))
        assert failed is not None and failed.failure == BY_LOG[line] and failed.lines == ("epoch 3", line)


def test_the_jobs_outcome_comes_first_unless_it_was_only_interrupted() -> None:
    lost = Account("1", "TIMEOUT", nodes="node1")
    outcome = {"failure": "diverged", "message": "train_loss became nan in step 3 of epoch 1"}
    failed = classify(Ending(outcome=outcome, account=lost))
    assert failed is not None and (failed.failure, failed.message) == (Failure.DIVERGED, outcome["message"])
    stopped = {"failure": "interrupted", "message": "stopped by a signal"}
    for account, failure in ((lost, "timeout"), (Account("1", "FAILED", 1), "interrupted"), (None, "interrupted")):
        failed = classify(Ending(outcome=stopped, account=account))
        assert failed is not None and failed.failure == failure
    failed = classify(Ending(outcome=stopped, hung=True))
    assert failed is not None and failed.failure == Failure.HANG
    assert classify(Ending(outcome={"failure": None}, account=lost)) is None


@pytest.mark.parametrize(
    ("code", "failure"),
    [(f"exit {code}", Failure.CODE_ERROR) for code in (1, 2, 255)]
    + [(f"kill -{number} $$", Failure.KILLED if number == 9 else Failure.INTERRUPTED) for number in (9, 15, 2, 10)]
    + [(f"kill -{signal.SIGSEGV.value} $$", Failure.CODE_ERROR)]
    + [("bash -c 'kill -9 $$'; exit $?", Failure.KILLED)],  # a shell returns 137
)
def test_a_process_that_ended_by_itself_or_by_a_signal(code: str, failure: Failure) -> None:
    ended = subprocess.run(["bash", "-c", code], stderr=subprocess.DEVNULL)
    failed = classify(Ending(code=ended.returncode))
    assert failed is not None and failed.failure == failure


def test_a_job_that_ended_without_a_message_was_killed() -> None:
    failed = classify(Ending())
    assert failed is not None and failed.failure == Failure.KILLED


def test_what_submitit_raises_is_understood(tmp_path: Path) -> None:
    """Real errors of submitit's local executor, and the state it quotes for a job that left no result."""
    from submitit import LocalExecutor
    from submitit.core.utils import FailedJobError, UncompletedJobError

    def fail(error: type[Exception]) -> None:
        raise error("raised by the test")

    def kill() -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    executor = LocalExecutor(tmp_path)
    jobs = {"out of memory": executor.submit(fail, MemoryError), "code error": executor.submit(fail, KeyError)}
    killed = executor.submit(kill)
    killed._results_timeout_s = 0
    for failure, job in jobs.items():
        with pytest.raises(FailedJobError) as caught:
            job.result()
        failed = classify(Ending(error=str(caught.value)))
        assert failed is not None and failed.failure == failure
    with pytest.raises(UncompletedJobError) as unfinished:
        killed.result()
    lost = str(unfinished.value)
    assert "has not produced any output (state: FINISHED)" in lost
    failed = classify(Ending(error=lost))
    assert failed is not None and failed.failure == Failure.KILLED
    failed = classify(Ending(error=lost.replace("FINISHED", "NODE_FAIL")))
    assert failed is not None and failed.failure == Failure.NODE_FAILURE


class Greedy(Stage):
    """A stage that runs out of memory with the error of torch on a GPU, of Python, or (None) of torch on a CPU."""

    kind, version = "greedy", 1

    def __init__(self, error: type[Exception] | None) -> None:
        object.__setattr__(self, "error", error)

    def settings(self) -> dict[str, str]:
        return {"error": str(self.error)}  # type: ignore[attr-defined]

    def build(self, job, inputs, start):  # type: ignore[no-untyped-def]
        if self.error is None:  # type: ignore[attr-defined]
            torch.empty(1 << 55, dtype=torch.uint8)
        raise self.error("CUDA out of memory. Tried to allocate 2.00 GiB")  # type: ignore[attr-defined]


@pytest.mark.parametrize("error", [torch.OutOfMemoryError, MemoryError, None])
def test_running_out_of_memory_is_recorded_and_recognized_in_the_traceback(tmp_path: Path, error: type[Exception] | None) -> None:
    store = Store.open(tmp_path)
    stage = Greedy(error)
    with pytest.raises(StageFailed):
        build(stage, store)
    [recorded] = store.failures(stage.key)
    for ending in (Ending(outcome=recorded), Ending(code=1, log=recorded["log"])):
        failed = classify(ending)
        assert failed is not None and failed.failure == Failure.OUT_OF_MEMORY


def test_the_last_lines_are_kept_without_overwritten_text(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_bytes(b"\xff" * 100_000 + b"\n" + b"".join(b"%d\n" % i for i in range(100)) + b"10%\r20%\r\n\n  \n")
    lines = last_lines(log_tail(path))
    assert lines == (*(str(i) for i in range(81, 100)), "20%")
    assert log_tail(tmp_path / "none") == "" and last_lines("") == ()


def test_a_job_that_a_signal_ended_while_it_started_was_not_cancelled() -> None:
    """For example preempted before it handles the signal: SLURM calls the job FAILED and its step CANCELLED."""
    log = "slurmstepd-node1: error: *** STEP 4.0 ON node1 CANCELLED AT 2026-11-22T21:42:02 ***"
    failed = classify(Ending(account=sacct.read(RECORDED)["4"], log=log))
    assert failed is not None and failed.failure is Failure.INTERRUPTED


def test_a_job_that_had_waited_for_another_and_ran_was_cancelled_not_blocked() -> None:
    began, unbegun = (Account("1_2", "CANCELLED", reason="Dependency", nodes=nodes) for nodes in ("node1", ""))
    failed = [classify(Ending(account=account)) for account in (began, unbegun)]
    assert [one and one.failure for one in failed] == [Failure.CANCELLED, Failure.BLOCKED]


REQUEUED = """\
ctt: building world_model 02c67b7ae51d from step 40
ctt: the checkpoint is written; back into the queue
slurmstepd-node1: error: *** STEP 4.0 ON node1 CANCELLED AT 2026-11-22T22:12:48 DUE TO JOB REQUEUE ***
slurmstepd-node1: error: *** JOB 4 ON node1 CANCELLED AT 2026-11-22T22:12:48 DUE TO JOB REQUEUE ***
srun: got SIGCONT
srun: Job step aborted: Waiting up to 7 seconds for job step to finish.
"""


@pytest.mark.parametrize(
    ("before", "since", "account", "failure"),
    [
        (REQUEUED, "", Account("4", "FAILED", signal=9, nodes="node1"), Failure.KILLED),
        (REQUEUED, "", Account("4", "FAILED", code=139, nodes="node1"), Failure.CODE_ERROR),
        (REQUEUED, f"{BEGINS} on node1\nRuntimeError: x\n", Account("4", "FAILED", code=1), Failure.CODE_ERROR),
        ("torch.OutOfMemoryError: CUDA out of memory\n", f"{BEGINS} on node1\n", None, Failure.KILLED),
        (REQUEUED, f"{BEGINS} on node1\nMemoryError\n", None, Failure.OUT_OF_MEMORY),
    ],
)
def test_the_output_of_an_earlier_attempt_does_not_decide_the_class_of_the_last(
    tmp_path: Path, before: str, since: str, account: Account | None, failure: Failure
) -> None:
    """Logs of a requeued task, as on the private cluster, and of a local job that was retried."""
    log = tmp_path / "log"
    log.write_text(f"{BEGINS} on node1\n{before}{since}")
    failed = classify(Ending(account=account, log=log_tail(log)))
    assert failed is not None and failed.failure == failure
    assert not set(failed.lines) & set(before.splitlines()[:-2]) and "checkpoint" not in "".join(failed.lines)


def test_a_job_held_by_slurm_is_a_node_failure() -> None:
    failed = classify(Ending(account=Account("4", "CANCELLED"), held=True))
    assert failed is not None and failed.failure == Failure.NODE_FAILURE
