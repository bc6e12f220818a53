"""Events: what happened to the jobs of a record, one JSON line each in jobs/events.jsonl, written by the launcher.

{time, number, label, target, event, job_id, host, class, message, log}; `event` is submitted, started, ended (class null
if the target is in the store) or retried; then `progressed` is whether the attempt got further than those before it.
"""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

from ctt.execution.jobs.failures import CLASSES

NAME = "events.jsonl"
FIELDS = {"time", "number", "label", "target", "event", "job_id", "host", "class", "message", "log"}
CANCELLED = "cancelled"  # a file in the same folder; while it exists, the launcher ends all jobs


def append(jobs: Path, number: int, label: str, target: str, event: str, **more: Any) -> None:
    """Adds a line; `more` may hold job_id, host, failure (written as "class"), message and log."""
    line = dict(time=round(time.time(), 3), number=number, label=label, target=target, event=event)
    line |= {"job_id": more.get("job_id"), "host": more.get("host"), "class": more.get("failure")}
    line |= {"message": more.get("message", ""), "log": more.get("log")}
    if "progressed" in more:
        line["progressed"] = more["progressed"]
    text = json.dumps(line) + "\n"
    file = os.open(jobs / NAME, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
    try:
        os.write(file, text.encode())
    finally:
        os.close(file)


def read(jobs: Path) -> list[dict[str, Any]]:
    """All events, oldest first; a line that was cut off or damaged is skipped."""
    try:
        text = (jobs / NAME).read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return []
    events = []
    for line in text.splitlines():
        try:
            event = json.loads(line)
        except ValueError:
            continue
        if isinstance(event, dict) and event.keys() >= FIELDS and event["class"] in CLASSES:
            events.append(event)
    return events


def last(jobs: Path) -> dict[int, dict[str, Any]]:
    """The last event of each job, by its number."""
    return {event["number"]: event for event in read(jobs)}
