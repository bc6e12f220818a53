"""The syncer in a separate process: it logs while a sweep runs, is up to date at its end, and ends with its parent."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from ctt.core.build_context import BuildContext
from ctt.planning import Plan, compile_plan
from ctt.store import Store
from ctt.study import record
from ctt.study.sync_process import syncing
from ctt.sweep import compile_sweep
from ctt.tracking.tracking_settings import database_path
from tests.tracking.made_up_runs import ROOT, SQLITE, curve, rows
from tests.waiting import until

PARENT = """
import sys, time
from pathlib import Path
from ctt.study.sync_process import syncing
from tests.tracking.made_up_runs import SQLITE
with syncing(Path(sys.argv[1]), SQLITE):
    time.sleep(300)
"""


def recorded(store: Path) -> tuple[Plan, Path, BuildContext]:
    """The demo with one seed, its record, and the work folder of its shared prefix."""
    plan = compile_plan(compile_sweep("demo", ["seed=0"]))
    opened = Store.open(store)
    folder = record.write(plan, opened)
    [prefix] = plan.prefixes.values()
    with opened.lease(prefix.key):
        return plan, folder, BuildContext(opened.work_folder(prefix.key))


def sync_processes(folder: Path) -> list[str]:
    """Ids of the processes that sync a record."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            arguments = path.read_bytes().split(b"\0")
        except OSError:
            continue
        if b"ctt.study.sync_process" in arguments and str(folder).encode() in arguments:
            found.append(path.parent.name)
    return found


def test_curves_are_live_and_files_are_logged_at_the_end(store: Path) -> None:
    plan, folder, job = recorded(store)
    name, table = f"seed=0 {plan.sweep.runs[0].point.label}", store / "table.md"
    table.write_text("| a table |\n")
    job.log(1, train_loss=0.5)
    with syncing(folder, SQLITE) as publish:
        until(lambda: curve(store, name, "world_model/train_loss") == [(1, 0.5)])
        job.log(2, train_loss=0.25)
        until(lambda: len(curve(store, name, "world_model/train_loss")) == 2)
        job.log(3, train_loss=0.125)
        publish([table])
        assert sync_processes(folder)
    assert curve(store, name, "world_model/train_loss") == [(1, 0.5), (2, 0.25), (3, 0.125)]
    assert len(rows(database_path(store), "SELECT 1 FROM runs")) == 1 + len(plan.targets), (
        "the sweep's own run, and one for each run"
    )
    assert [path.read_text() for path in store.rglob("artifacts/table.md")] == ["| a table |\n"]
    assert not sync_processes(folder)


def test_it_ends_with_its_parent(store: Path) -> None:
    plan, folder, job = recorded(store)
    job.log(1, train_loss=0.5)
    parent = subprocess.Popen([sys.executable, "-c", PARENT, str(folder)], cwd=ROOT)
    try:
        until(lambda: curve(store, f"seed=0 {plan.sweep.runs[0].point.label}", "world_model/train_loss") == [(1, 0.5)])
    finally:
        parent.kill()
        parent.wait()
    until(lambda: not sync_processes(folder))
