"""Accounting: what SLURM's `sacct` says of jobs, as read from its text.

Ask for jobs by number (`-j`): without it sacct leaves out those that never began, among them the jobs that were cancelled
because what they waited for had failed.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

COLUMNS = ("JobID", "State", "ExitCode", "Reason", "NodeList")
ALIVE = ("PENDING", "CONFIGURING", "RUNNING", "COMPLETING", "SUSPENDED", "RESIZING", "REQUEUED", "REQUEUE_HOLD")


@dataclass(frozen=True)
class Account:
    """One job (or array task, "12_3"): its state in one word, exit code, signal, reason and nodes.

    `state` is the job's own, or OUT_OF_MEMORY if a step's is that: the job of a killed step often just FAILED. Likewise
    `signal`: where one ended the step, the batch script that ran it has failed with a code.
    """

    job: str
    state: str
    code: int = 0
    signal: int = 0
    reason: str = ""
    nodes: str = ""

    @property
    def alive(self) -> bool:
        """Whether it runs or may yet run. NODE_FAIL and PREEMPTED may, too, if the job is requeued: then the next
        answer says PENDING."""
        return self.state in ALIVE


def command(jobs: Iterable[str]) -> list[str]:
    """One sacct call for all these jobs; array numbers ("12") stand for their tasks. `read` reads its output."""
    return ["sacct", "--parsable2", f"--format={','.join(COLUMNS)}", f"--jobs={','.join(jobs)}"]


def read(text: str) -> dict[str, Account]:
    """Job → Account from sacct's output with its header; pending array tasks ("12_[3-5%2]") each get their own."""
    lines = text.splitlines()
    names = lines[0].split("|") if lines else []
    accounts: dict[str, Account] = {}
    for line in lines[1:]:
        fields = dict(zip(names, line.split("|"), strict=False))
        number, _, step = fields.get("JobID", "").partition(".")
        state = (fields.get("State") or "UNKNOWN").split()[0]  # "CANCELLED by 1000"
        code, _, signal = (fields.get("ExitCode") or "0:0").partition(":")
        if step:
            if (known := accounts.get(number)) and state == "OUT_OF_MEMORY":
                accounts[number] = replace(known, state=state)
            elif known and known.state == "FAILED" and not known.signal:
                accounts[number] = replace(known, signal=int(signal or 0))
            continue
        nodes = fields.get("NodeList", "")
        for job in _expanded(number):
            accounts[job] = Account(
                job,
                state,
                int(code or 0),
                int(signal or 0),
                "" if (reason := fields.get("Reason", "")) == "None" else reason,
                "" if nodes == "None assigned" else nodes,
            )
    return accounts


def _expanded(job: str) -> Iterator[str]:
    """12_[0-2,7%4] → 12_0 12_1 12_2 12_7; every other number is itself."""
    match = re.fullmatch(r"(\d+)_\[([\d,:-]+)(?:%\d+)?\]", job)
    if match is None:
        yield job
        return
    for part in match[2].split(","):
        span, _, step = part.partition(":")
        first, _, last = span.partition("-")
        for task in range(int(first), int(last or first) + 1, int(step or 1)):
            yield f"{match[1]}_{task}"
