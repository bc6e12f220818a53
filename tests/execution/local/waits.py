"""A launcher and its jobs for tests of interruption: `waits.py FOLDER` runs two jobs that wait for FOLDER/go, and a third.

`waits.py FOLDER/sweeps/waits/0001/jobs/0000.json` is one of the jobs: job_process with its signals.
`waits.py relauncher FOLDER/sweeps/waits/0001/jobs` follows jobs that were left running.
"""

import json
import sys
import time
from pathlib import Path
from typing import Any

from ctt.core.build_context import stopping
from ctt.core.resources import LaunchSettings
from ctt.execution.jobs import job_process, retries, spec
from ctt.execution.jobs.session import handle_interrupt, launcher_of
from ctt.execution.local import devices
from ctt.execution.local.local_launcher import LocalLauncher, Programs
from ctt.store import Store


def wait(path: Path) -> dict[str, Any]:
    failure = _wait(path)
    outcome = {"failure": failure, "message": ""}
    path.with_suffix(".outcome.json").write_text(json.dumps(outcome))
    return outcome


def _wait(path: Path) -> str | None:
    folder = path.parents[4]
    (folder / f"begun{int(path.stem)}").touch()
    while not (folder / "go").exists():
        time.sleep(0.02)
        if stopping():
            (folder / f"checkpoint{int(path.stem)}").touch()
            return "interrupted"
    (folder / f"made{int(path.stem)}").touch()
    return None


def freeze(folder: Path) -> Path:
    jobs = folder / "sweeps" / "waits" / "0001" / "jobs"
    jobs.mkdir(parents=True)
    (jobs.parent / "record.json").write_text("{}")
    for n in range(3):
        key = f"{n:064x}"
        content = dict(label=f"job {n}", target=key, kind="vqa", needs=[], stages=[key], wanted=[key])
        (jobs / f"{n:04d}.json").write_text(json.dumps(content))
    return jobs


def launch(folder: Path, jobs: Path, adopt: bool) -> None:
    devices.cores = lambda: 4  # more than may run at once
    retries.LONGEST = 0.0  # a killed job is restarted before another one takes its place
    local = LocalLauncher(
        spec.read(jobs),
        Store.open(folder),
        LaunchSettings(kind="local", jobs=2, devices=[], leases=str(folder / "locks")),
        programs=Programs(lambda job: [sys.executable, __file__, str(job.path)], [__file__, "relauncher"]),
        done=lambda key: (folder / f"made{int(key, 16)}").exists(),
    )
    if adopt:
        local.adopt()
    try:
        with launcher_of(jobs):
            local.run()
    except KeyboardInterrupt as error:
        handle_interrupt(local, jobs, error)
        sys.exit(130)


if __name__ == "__main__":
    if sys.argv[1].endswith(".json"):
        job_process.run = wait
        sys.exit(job_process.main(sys.argv[1:]))
    if sys.argv[1] == "relauncher":
        launch(Path(sys.argv[2]).parents[3], Path(sys.argv[2]), adopt=True)
    else:
        launch(Path(sys.argv[1]), freeze(Path(sys.argv[1])), adopt=False)
