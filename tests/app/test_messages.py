"""Messages of failures are printed literally: brackets are no markup."""

from __future__ import annotations

import io
from pathlib import Path

from rich.console import Console

from ctt.app.status import print_status
from ctt.app.sweep import print_missing
from ctt.execution.jobs import event_log
from ctt.execution.jobs.spec import freeze
from ctt.planning import compile_plan
from ctt.store import Store
from ctt.study import record
from ctt.sweep import compile_sweep
from tests.tiny import TINY

STRANGE = "RuntimeError: [/pytorch/pair.cc:553] Connection closed by peer [bold]"


def test_a_message_is_no_markup(tmp_path: Path, capsys) -> None:  # type: ignore[no-untyped-def]
    store = Store.open(tmp_path / "store")
    plan = compile_plan(compile_sweep("demo", [*TINY, "seed=0"]))
    for target in plan.targets:
        store.record_failure(target.key, "killed", STRANGE)
    out = io.StringIO()
    assert print_missing(plan, store, Console(file=out, width=80))
    assert out.getvalue().count(STRANGE) == len(plan.targets)
    folder = record.write(plan, store, None)
    assert print_status(store, "demo", as_json=False) == 1
    assert capsys.readouterr().out.count(STRANGE) == len(plan.targets)
    job = freeze(plan.jobs[0], store, folder / "jobs", 0)
    event_log.append(job.path.parent, 0, job.label, job.target, "ended", job_id="1", failure="killed", message=STRANGE)
    print_status(store, "demo", as_json=False)
    assert f"killed: {STRANGE} (job 1)" in capsys.readouterr().out
