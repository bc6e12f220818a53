"""`ctt run`: one run in this process, with a bar for each stage."""

from __future__ import annotations

import json
from typing import Any

from ctt.app.progress_bars import Bars
from ctt.app.sweep import check_inputs
from ctt.config import Config
from ctt.core.terminal_console import terminal
from ctt.execution.jobs.job_process import build_auxiliaries
from ctt.planning import auxiliaries_of, costs, parts, target_of
from ctt.stages.base import build
from ctt.store import Store
from ctt.store.ownership import check_owner
from ctt.sweep import with_checkpoints, without_inactive


def run_single(config: Config) -> int:
    """Builds the run of `config`; prints its accuracies (%) and key. Exit code 1 if an auxiliary stage failed."""
    console = terminal()
    config = without_inactive(with_checkpoints(config))
    config.check()
    target = target_of(config)
    auxiliaries = auxiliaries_of(config, target)
    store = Store.open(config.store)
    check_owner(store.root)
    check_inputs(parts(target, auxiliaries), store)
    with Bars(store, console) as bars:
        more: Any = dict(device=config.device, on_event=bars.event, on_built=lambda *built: costs.record(store, *built))
        artifact = build(target, store, **more)
        failed = build_auxiliaries(auxiliaries, store, **more)
    metrics = json.loads(artifact.file("metrics.json").read_text(encoding="utf-8"))
    for category, value in metrics["per_question"].items():
        console.print(f"{category:16} {value:6.2f} %")
    console.print(f"{'average':16} {metrics['average']:6.2f} %")
    console.print(f"run {target.key}\n{artifact.path}", soft_wrap=True, highlight=False)
    for kind, message in failed.items():
        console.print(f"{kind} failed: {message}", soft_wrap=True, highlight=False, markup=False)
    return int(bool(failed))
