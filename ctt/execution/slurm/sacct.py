"""Accounting: the records of jobs in the output of SLURM's `sacct`.

sacct gets the numbers of jobs (`-j`): without them it omits those that never began, for example the jobs that were
cancelled because a job they depend on had failed.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

COLUMNS = ("JobID", "State", "ExitCode", "NodeList", "Reason")
"""The last one may hold any text."""
_JOB = re.compile(r"\d+(_(\d+|\[[\d,:%-]+\]))?(\.\S+)?$")
ALIVE = ("PENDING", "CONFIGURING", "RUNNING", "COMPLETING", "SUSPENDED", "RESIZING", "REQUEUED", "REQUEUE_HOLD")


@dataclass(frozen=True)
class Account:
    """One job (or array task, "12_3"): its state, exit code, signal, reason and nodes.

    state: the job's, or OUT_OF_MEMORY if a step's is that, because the job is then often just FAILED. signal: likewise that
    of a step, because the batch script that ran it then fails with an exit code.
    """

    job: str
    state: str
    code: int = 0
    signal: int = 0
    reason: str = ""
    nodes: str = ""

    @property
    def alive(self) -> bool:
        """Whether it runs or may still run. NODE_FAIL and PREEMPTED count as ended: a requeued job becomes PENDING."""
        return self.state in ALIVE

    @property
    def exit_code(self) -> int | None:
        """That of a job which ended by itself; None if SLURM or a signal ended it."""
        if self.state == "COMPLETED":
            return 0
        return self.code if self.state == "FAILED" and self.code and not self.signal else None


def command(jobs: Iterable[str]) -> list[str]:
    """The sacct command for all these jobs; an array's number ("12") stands for its tasks. `read` parses its output."""
    return ["sacct", "--parsable2", f"--format={','.join(COLUMNS)}", f"--jobs={','.join(jobs)}"]


def read(text: str) -> dict[str, Account]:
    """Job → Account from sacct's output with its header; pending array tasks ("12_[3-5%2]") each get their own.

    Lines before the header, and those that do not begin with a job, are a site's messages.
    """
    lines = text.splitlines()
    header = next((number for number, line in enumerate(lines) if line.startswith("JobID|")), len(lines))
    names = lines[header].split("|") if header < len(lines) else []
    accounts: dict[str, Account] = {}
    for line in lines[header + 1 :]:
        fields = dict(zip(names, line.split("|", len(names) - 1), strict=False))
        if not _JOB.match(fields["JobID"]):
            continue
        number, _, step = fields.get("JobID", "").partition(".")
        state = (fields.get("State", "").split() or ["UNKNOWN"])[0]  # "CANCELLED by 1000"
        ended = re.match(r"(\d{1,9}):(\d{1,9})", fields.get("ExitCode", ""))
        code, signal = (int(ended[1]), int(ended[2])) if ended else (0, 0)
        if step:
            if (known := accounts.get(number)) and state == "OUT_OF_MEMORY":
                accounts[number] = replace(known, state=state)
            elif known and known.state == "FAILED" and not known.signal:
                accounts[number] = replace(known, signal=signal)
            continue
        nodes = fields.get("NodeList", "")
        for job in _expanded(number):
            accounts[job] = Account(
                job,
                state,
                code,
                signal,
                "" if (reason := fields.get("Reason", "")) == "None" else reason,
                "" if nodes == "None assigned" else nodes,
            )
    return accounts


def _expanded(job: str) -> Iterator[str]:
    """12_[0-2,7%4] → 12_0 12_1 12_2 12_7; any other number stays as it is."""
    match = re.fullmatch(r"(\d+)_\[([\d,:-]+)(?:%\d+)?\]", job)
    if match is None:
        yield job
        return
    for part in match[2].split(","):
        span, _, step = part.partition(":")
        first, _, last = span.partition("-")
        for task in range(int(first), int(last or first) + 1, int(step or 1)):
            yield f"{match[1]}_{task}"
