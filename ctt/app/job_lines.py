"""The lines of `ctt status` on jobs: those that run, why others wait, and those that failed, alike ones together."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from ctt.core.plain_text import shortened
from ctt.core.units import count, duration
from ctt.execution.jobs.failures import Failure, last_lines, log_tail, reason
from ctt.execution.jobs.job_status import JobStatus

SHOWN, LEAST_LABEL, GROUPS = 12, 16, 5
COUNTED = (Failure.CANCELLED, Failure.BLOCKED)
"""Classes whose jobs are only counted: their logs hold no reason."""
WAITING = ("queued", "waiting", "lost", "unknown", "not started")
_VARYING = re.compile(r"\b[0-9a-f]{8,64}\b|\d+(\.\d+)?|/\S+")
"""Keys, numbers and paths, in which messages of one kind differ."""


def print_jobs(
    found: Sequence[JobStatus],
    console: Console,
    *,
    running: bool = True,
    failed: bool = True,
    every: bool = False,
) -> None:
    """Prints the running jobs, a line each, why others wait, their numbers, and the failed jobs by class and message with the end
    of a log. running, failed: what to print; every: all jobs instead of the first ones and the number of the others."""
    if running:
        _print_running([job for job in found if job.state == "running"], console, None if every else SHOWN)
        _print_waiting(found, console)
    if failed:
        _print_failed([job for job in found if job.state == "failed"], console, every)


def _print_running(running: Sequence[JobStatus], console: Console, most: int | None) -> None:
    if running:
        console.print(_running_table(running[:most], console.width))
    if most is not None and len(running) > most:
        console.print(f"and {len(running) - most:,} more running (--running lists them)", highlight=False)


def _print_waiting(found: Sequence[JobStatus], console: Console) -> None:
    reasons = Counter(job.message for job in found if job.state == "queued" and job.message)
    for why, number in reasons.most_common(GROUPS):
        console.print(f"queued, {why}: {count(number, 'job')}", highlight=False, markup=False)
    counts = {state: sum(job.state == state for job in found) for state in WAITING}
    if any(counts.values()):
        console.print(", ".join(f"{count(n, 'job')} {state}" for state, n in counts.items() if n), highlight=False)
    if counts["lost"]:
        console.print("no launcher follows the lost jobs; run the same sweep command again to run them", highlight=False)
    if counts["unknown"]:
        why = next(job.message for job in found if job.state == "unknown")
        console.print(f"unknown: {why}", highlight=False, markup=False, soft_wrap=True)


def _print_failed(failed: Sequence[JobStatus], console: Console, every: bool) -> None:
    """The failed jobs by class and message, the most frequent first; of each group the first job with the end of its log."""
    groups: dict[tuple[str, str], list[JobStatus]] = defaultdict(list)
    for job in failed:
        alike = "" if job.failure in COUNTED else _VARYING.sub("…", job.message.replace(job.label, "…"))
        groups[job.failure or "", alike].append(job)
    ordered = sorted(groups.items(), key=lambda group: (group[0][0] in COUNTED, -len(group[1])))
    for (failure, _), jobs in ordered if every else ordered[:GROUPS]:
        if failure in COUNTED and not every:
            names = ", ".join(job.label for job in jobs[:2]) + (", …" if len(jobs) > 2 else "")
            console.print(f"[red]{count(len(jobs), 'job')} {failure}[/]: {escape(names)}", highlight=False, soft_wrap=True)
            continue
        for job in jobs if every else jobs[:1]:
            _print_one(job, console)
        if len(jobs) > 1 and not every:
            console.print(f"  and {count(len(jobs) - 1, 'job')} alike (--failed lists them)", highlight=False)
    if len(ordered) > GROUPS and not every:
        rest = sum(len(jobs) for _, jobs in ordered[GROUPS:])
        console.print(f"and {count(rest, 'job')} failed for other reasons (--failed lists them)", highlight=False)


def _print_one(job: JobStatus, console: Console) -> None:
    host = f" on {job.host}" if job.host else ""
    where = f"job {job.job_id}{host}" if job.job_id else "never started"
    why = reason(job.failure, job.message)
    console.print(f"[red]{escape(job.label)}[/]: {escape(why)} ({where})", highlight=False, soft_wrap=True)
    if job.log and job.failure not in COUNTED:
        console.print(f"  {job.log}", highlight=False, soft_wrap=True, no_wrap=True, style="dim")
        for line in last_lines(log_tail(Path(job.log)), 3):
            console.print(f"  | {line}", highlight=False, soft_wrap=True, no_wrap=True, style="dim", markup=False)


def _running_table(running: Sequence[JobStatus], width: int) -> Table:
    """A line for each running job: its name, shortened to what the other columns leave, where it runs, how far it is."""
    lines = []
    for job in running:
        rate = f"{job.rate:.1f} {job.unit}/s" if job.rate else ""
        left = f"{duration(job.left)} left" if job.left is not None else ""
        lines.append((job.job_id or "", job.host or "", job.message, rate, left))
    titles = ("job", "host", "progress", "rate", "time to go")
    taken = sum(max(map(len, column)) + 2 for column in zip(titles, *lines, strict=True))
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for title in ("running", *titles):
        table.add_column(title, no_wrap=True)
    for job, line in zip(running, lines, strict=True):
        table.add_row(*map(Text, (shortened(job.label, max(LEAST_LABEL, width - taken - 2)), *line)))
    return table
