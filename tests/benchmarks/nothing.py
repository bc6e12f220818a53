"""`ctt` with jobs that do nothing but publish an empty artifact: all else is as ever, but that no table is shown.

nothing.py sweep FILE launch=local …     the launcher
nothing.py JOB.json                      a job on this host
nothing.py JOBS_FOLDER NUMBERS           a task of SLURM
"""

from __future__ import annotations

import os
import sys
import types
from functools import partialmethod
from pathlib import Path
from typing import Any

from ctt.execution.jobs import job_process
from ctt.store import Store


def build(frozen: dict[str, Any], path: Path, store: Store, *_: Any) -> dict[str, str]:
    for key in frozen["wanted"]:
        with store.lease(key) as lease:
            store.publish(key, store.work_folder(key), lease, {"kind": "nothing", "settings": {}, "inputs": {}})
    return {}


def main(words: list[str]) -> None:
    if "SLURM_ARRAY_TASK_ID" in os.environ:
        from ctt.execution.slurm import task_process

        job_process._build = build
        job_process.exit_process(task_process.main(words))
    if words[0].endswith(".json"):
        job_process._build = build
        job_process.exit_process(job_process.main(words))
    from ctt import cli
    from ctt.execution.local import local_launcher
    from ctt.execution.slurm import slurm_launcher

    programs = local_launcher.Programs(lambda job: [sys.executable, __file__, str(job.path)])
    init = local_launcher.LocalLauncher.__init__
    local_launcher.LocalLauncher.__init__ = partialmethod(init, programs=programs)  # type: ignore[method-assign,assignment]
    init = slurm_launcher.SlurmLauncher.__init__
    slurm_launcher.SlurmLauncher.__init__ = partialmethod(init, program=[__file__])  # type: ignore[method-assign,assignment]
    sys.modules["ctt.study.report_files"] = types.SimpleNamespace(show_report=lambda *_: [])  # type: ignore[assignment]
    cli.main(words)


if __name__ == "__main__":
    main(sys.argv[1:])
