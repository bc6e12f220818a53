"""A launcher and its jobs for tests of interruption: `waits.py FOLDER` runs two jobs that wait for FOLDER/go, and a third.

`waits.py FOLDER/sweeps/waits/0001/jobs/0000.json` is one of the jobs: a frozen job's process with its signals.
"""

import sys
import time
from pathlib import Path
from typing import Any

from ctt.job import stopping
from ctt.launch import builder
from ctt.launch.frozen import Frozen
from ctt.launch.local import Local
from ctt.launch.session import interrupted, launcher_of
from ctt.resources import LaunchSettings
from ctt.store import Store


def wait(path: Path) -> dict[str, Any]:
    folder = path.parents[4]
    (folder / f"begun{int(path.stem)}").touch()
    while not (folder / "go").exists():
        time.sleep(0.02)
        if stopping():
            (folder / f"checkpoint{int(path.stem)}").touch()
            return {"failure": "interrupted"}
    (folder / f"made{int(path.stem)}").touch()
    return {"failure": None}


def launch(folder: Path) -> None:
    jobs_folder = folder / "sweeps" / "waits" / "0001" / "jobs"
    jobs_folder.mkdir(parents=True)
    (jobs_folder.parent / "record.json").write_text("{}")
    keys = [f"{number:064x}" for number in range(3)]
    jobs = [
        Frozen(n, jobs_folder / f"{n:04d}.json", f"job {n}", key, frozenset(), (key,), (key,))
        for n, key in enumerate(keys)
    ]
    local = Local(
        jobs,
        Store.open(folder),
        LaunchSettings(kind="local", jobs=2, devices=[], leases=str(folder / "locks")),
        command=lambda job: [sys.executable, __file__, str(job.path)],
        done=lambda key: (folder / f"made{int(key, 16)}").exists(),
    )
    try:
        with launcher_of(jobs_folder):
            local.run()
    except KeyboardInterrupt as error:
        interrupted(local, jobs_folder, error)
        sys.exit(130)


if __name__ == "__main__":
    if sys.argv[1].endswith(".json"):
        builder.run = wait
        sys.exit(builder.main(sys.argv[1:]))
    given, sys.argv[1:] = sys.argv[1], ["--version"]  # what is started again when the jobs are left
    launch(Path(given))
