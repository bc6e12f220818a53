"""`ctt` with jobs that do nothing but publish an empty artifact: all else is as ever, but that no table is shown.

nothing.py sweep FILE launch=local …     the launcher
nothing.py JOB.json                      a job on this host
nothing.py JOBS_FOLDER NUMBERS           a task of SLURM
"""

from __future__ import annotations

import os
import sys
import types
from functools import partial
from pathlib import Path
from typing import Any

from ctt.launch import builder
from ctt.store import Store


def build(frozen: dict[str, Any], path: Path, store: Store, *_: Any) -> dict[str, str]:
    for key in frozen["wanted"]:
        with store.lease(key) as lease:
            store.publish(key, store.work_folder(key), lease, {"kind": "nothing", "settings": {}, "inputs": {}})
    return {}


def main(words: list[str]) -> None:
    if "SLURM_ARRAY_TASK_ID" in os.environ:
        from ctt.launch import task

        builder._build = build
        builder.leave(task.main(words))
    if words[0].endswith(".json"):
        builder._build = build
        builder.leave(builder.main(words))
    from ctt import cli
    from ctt.launch import local, queues, slurm

    queues.Local = partial(local.Local, command=lambda job: [sys.executable, __file__, str(job.path)])  # type: ignore[misc,assignment]
    slurm.Slurm = partial(slurm.Slurm, program=[__file__])  # type: ignore[misc,assignment]
    sys.modules["ctt.recorded.report"] = types.SimpleNamespace(show_report=lambda *_: [])  # type: ignore[assignment]
    cli.main(words)


if __name__ == "__main__":
    main(sys.argv[1:])
