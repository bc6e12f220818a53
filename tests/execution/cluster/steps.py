"""A task whose job counts steps instead of training: it writes checkpoints, continues from them, and publishes the count.

python steps.py JOBS_FOLDER NUMBERS runs `ctt.execution.slurm.task_process` with this job.
"""

import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

from ctt.core.atomic_files import write_json
from ctt.core.build_context import CHECKPOINT, stopping
from ctt.execution.jobs import job_process
from ctt.execution.slurm import task_process
from ctt.store import Store


def run(path: Path, on_event: object = None) -> dict[str, Any]:
    """In place of `ctt.execution.jobs.job_process.run`, for a job {store, target, stages, needs, steps, raises, hangs, dies}:
    a step takes 0.1 s; a job hangs, or is killed, in its first attempt only."""
    job = json.loads(path.read_text())
    outcome: dict[str, Any] = {"failure": None, "message": "", "target": job["target"]}
    store = Store(job["store"], heartbeat=0.5, expiry=5)
    needed = [store.manifest(key)["steps"] for key in job["needs"]]  # raises if SLURM started it too early
    if job["raises"]:
        outcome |= {"failure": "code error", "message": "it raises"}
        write_json(path.with_suffix(".outcome.json"), outcome)
        return outcome
    with store.lease(job["target"]) as lease:
        if store.has(job["target"]):
            return outcome
        folder = store.work_folder(job["target"])
        checkpoints = folder / CHECKPOINT
        checkpoints.mkdir(exist_ok=True)
        step = max((int(p.name) for p in checkpoints.iterdir()), default=0)
        print(f"from step {step}", flush=True)
        if job.get("hangs") and not (folder / "hung").exists():
            (folder / "hung").touch()
            time.sleep(600)
        if job.get("dies") and not (folder / "died").exists():
            (folder / "died").touch()
            os.kill(os.getpid(), signal.SIGKILL)
        while step < job["steps"]:
            step += 1
            time.sleep(0.1)
            if stopping() or step % 10 == 0:
                (checkpoints / f"{step:09d}").touch()
            if stopping():
                outcome |= {"failure": "interrupted", "message": f"at step {step}"}
                write_json(path.with_suffix(".outcome.json"), outcome)
                return outcome
        (folder / "steps").write_text(str(step))
        manifest = dict(kind="steps", settings={}, inputs={}, steps=step, needed=needed)
        store.publish(job["target"], folder, lease, manifest)
    return outcome


if __name__ == "__main__":
    job_process.run = run
    sys.exit(task_process.main(sys.argv[1:]))
