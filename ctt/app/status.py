"""`ctt status`: runs × stages of a recorded sweep, and its jobs, from the store and one question to SLURM."""

from __future__ import annotations

import json
import sys
from typing import Any

from rich.console import Console
from rich.markup import escape

from ctt.app.progress import Follower
from ctt.core.errors import CttError
from ctt.core.units import duration
from ctt.execution.jobs.job_status import eta, print_jobs
from ctt.execution.jobs.job_status import standings as standings_of_jobs
from ctt.plan import parts
from ctt.store import Store
from ctt.study import record


def print_status(store: Store, name: str | None, as_json: bool) -> int:
    """Prints how far a sweep is, or a line for each; exit code 1 if a run has failed."""
    names = [name] if name else record.names(store)
    console = Console()
    out: list[dict[str, Any]] = []
    failed = False
    for each in names:
        try:
            folder = record.newest(store, each)
            plan = record.load(folder)
        except CttError as error:
            if name:
                raise
            print(f"ctt: {error}", file=sys.stderr)  # the others are shown all the same
            failed = True
            continue
        follower = Follower(plan, store, console, None)
        standings, share = follower.look()
        failed = failed or any(s.state == "failed" for s in standings.values())
        if as_json:
            runs = []
            for run, target, auxiliaries in zip(plan.sweep.runs, plan.targets, plan.auxiliaries, strict=True):
                runs.append(
                    {
                        "run": run.name,
                        "point": run.point.label,
                        "seed": run.seed,
                        "stages": {
                            s.kind: {
                                "key": s.key,
                                "state": standings[s.key].state,
                                "share": round(standings[s.key].share, 4),
                                "rate": round(standings[s.key].rate, 3),
                                "message": standings[s.key].message,
                            }
                            for s in parts(target, auxiliaries)
                        },
                    }
                )
            jobs = standings_of_jobs(store, folder / "jobs")
            about = {"sweep": each, "record": folder.name, "share": round(share, 4)}
            about["eta_seconds"] = eta(jobs, folder / "jobs")
            out.append({**about, "runs": runs, "jobs": [job.as_dict() for job in jobs]})
        elif name:
            follower.began = (folder / "record.json").stat().st_mtime
            console.print(follower.table())
            jobs = standings_of_jobs(store, folder / "jobs")
            print_jobs(jobs, console)
            if (left := eta(jobs, folder / "jobs")) is not None:
                console.print(f"about {duration(left)} to go", highlight=False)
            if not any(job.state == "failed" for job in jobs):
                for key, standing in standings.items():
                    if standing.state == "failed":
                        what = f"[red]{plan.stages[key].kind} {key[:12]}[/]"
                        console.print(f"{what} {escape(standing.message)}", soft_wrap=True)
        else:
            done = sum(store.has(t.key) for t in plan.targets)
            console.print(f"{each:20} {done}/{len(plan.targets)} runs done, {share:.0%} of the work", highlight=False)
    if as_json:
        print(json.dumps(out[0] if name else out, indent=1))
    elif not names:
        console.print(f"no sweep is recorded in {store.root}; `ctt sweep demo` makes one")
    return int(failed)
