"""Auxiliary stages: built by the run's job after its target, reported when they fail, without an effect on the answers."""

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from ctt.app.gc import garbage, survey
from ctt.app.status import print_status
from ctt.app.sweep import missing_auxiliaries
from ctt.core.build_context import BuildContext
from ctt.core.errors import DataError, Interrupted
from ctt.execution.jobs.job_process import run
from ctt.execution.jobs.spec import freeze
from ctt.planning import Budget, Plan, compile_plan, parts
from ctt.stages.base import Stage
from ctt.stages.rollout import Rollout
from ctt.store import Store
from ctt.study import record
from ctt.study.tracked_sweep import tracked_runs
from ctt.sweep import compile_sweep
from ctt.tracking.summary import run_status
from ctt.tracking.tail import Tail
from tests.app.test_gc import put

BUILT: list[str] = []
FAILS: dict[str, Exception] = {}


@dataclasses.dataclass(frozen=True)
class Look(Stage):
    """An auxiliary stage of a rollout."""

    kind = "look"
    version = 1
    rollout: Rollout

    def settings(self) -> Mapping[str, Any]:
        return {}

    def inputs(self) -> Mapping[str, Stage]:
        return {"rollout": self.rollout}

    def build(self, job: BuildContext, inputs: Mapping[str, Any], start: Any) -> dict[str, Any]:
        BUILT.append(self.key)
        if "look" in FAILS:
            raise FAILS["look"]
        (job.folder / "metrics.json").write_text(json.dumps({"seen": len(inputs)}))
        return {}


@pytest.fixture
def with_look(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> tuple[Store, Plan]:
    """The demo with one seed, recorded, all but its auxiliary stages in the store."""
    BUILT.clear()
    FAILS.clear()

    def look(config: Any, target: Any) -> tuple[Stage, ...]:
        return (Look(target.rollout),)

    for place in ("ctt.planning.compiled_plan", "ctt.planning"):
        monkeypatch.setattr(f"{place}.auxiliaries_of", look)
    store = Store.open(tmp_path / "store")
    plan = compile_plan(compile_sweep("demo", ["seed=0", "device=cpu"]))
    for stage in plan.stages.values():
        if stage.kind != "look":
            put(store, stage)
    record.write(plan, store)
    return store, plan


def outcome_of_first(store: Store, plan: Plan, folder: Path) -> dict[str, Any]:
    """Runs the job of the plan's first run; its outcome."""
    job = next(j for j in plan.jobs if j.target.key == plan.targets[0].key)
    return run(freeze(job, store, folder, 0).path)


def test_plans_count_auxiliary_stages(with_look: tuple[Store, Plan]) -> None:
    _, plan = with_look
    kinds = [s["kind"] for s in Budget(plan, ()).numbers()["stages"]]
    assert kinds.count("look") == 2 and kinds.count("vqa") == 2
    assert plan.kinds == ("data", "world_model", "rollout", "vqa", "look")
    assert Budget(plan, ()).numbers()["stages_naive"] == 2 * 5
    order = [s.kind for s in parts(plan.targets[1], plan.auxiliaries[1])]
    assert order == ["data", "world_model", "world_model", "rollout", "vqa", "look"]


def test_a_job_is_finished_when_its_auxiliary_stages_are(with_look: tuple[Store, Plan]) -> None:
    store, plan = with_look
    runs = [j for j in plan.jobs if not j.prefix]
    assert not any(j.finished(store.has) for j in runs)
    assert all(j.finished(store.has) for j in plan.jobs if j.prefix)
    put(store, plan.auxiliaries[0][0])
    assert [j.finished(store.has) for j in runs] == [j.target.key == plan.targets[0].key for j in runs]


def test_the_runs_job_builds_them_after_the_target(with_look: tuple[Store, Plan], tmp_path: Path) -> None:
    store, plan = with_look
    outcome = outcome_of_first(store, plan, tmp_path)
    assert [plan.auxiliaries[0][0].key] == BUILT and outcome["failure"] is None and outcome["beside"] == {}
    assert store.has(plan.auxiliaries[0][0].key) and not store.has(plan.auxiliaries[1][0].key)


def test_a_failure_is_reported_and_the_run_is_complete(with_look: tuple[Store, Plan], tmp_path: Path) -> None:
    store, plan = with_look
    FAILS["look"] = DataError("no frames")
    outcome = outcome_of_first(store, plan, tmp_path)
    assert outcome["failure"] is None and "no frames" in outcome["beside"]["look"]
    first, second = missing_auxiliaries(plan, store)
    assert "baseline seed=0: look code error: no frames" in first and "not run yet" in second
    store.remove(plan.targets[1].key)
    assert len(missing_auxiliaries(plan, store)) == 1, "auxiliary stages of a missing run are not listed"
    run = tracked_runs(plan, store)[0]
    tails = [Tail(stage) for stage in run.stages]
    for tail in tails:
        tail.poll()
    assert run_status(tails) == "FINISHED"


def test_a_signal_during_an_auxiliary_stage_interrupts_the_job(with_look: tuple[Store, Plan], tmp_path: Path) -> None:
    store, plan = with_look
    FAILS["look"] = Interrupted("stopped by a signal")
    assert outcome_of_first(store, plan, tmp_path)["failure"] == "interrupted"


def test_gc_keeps_the_rollout_that_an_auxiliary_stage_needs(with_look: tuple[Store, Plan]) -> None:
    store, plan = with_look
    assert garbage(store, survey(store), rollouts=True) == []
    put(store, plan.auxiliaries[0][0])
    assert [i.key for i in garbage(store, survey(store), rollouts=True)] == [plan.targets[0].rollout.key]
    other = dataclasses.replace(plan.auxiliaries[0][0], rollout=compile_plan(compile_sweep("demo", ["seed=1"])).targets[0].rollout)
    put(store, other)
    assert [i.key for i in garbage(store, survey(store), rollouts=False)] == [other.key]


def test_status_shows_them(with_look: tuple[Store, Plan], capsys: pytest.CaptureFixture[str]) -> None:
    store, plan = with_look
    put(store, plan.auxiliaries[0][0])
    assert print_status(store, "demo", as_json=True) == 0
    runs = json.loads(capsys.readouterr().out)["runs"]
    assert [run["stages"]["look"]["state"] for run in runs] == ["done", "waiting"]
    from ctt.app.progress import Follower

    console = Console(record=True, width=140, file=open("/dev/null", "w"))  # noqa: SIM115
    console.print(Follower(plan, store, console, None).table())
    assert "look" in console.export_text()


def test_a_runs_identity_does_not_depend_on_auxiliary_stages(
    with_look: tuple[Store, Plan], monkeypatch: pytest.MonkeyPatch
) -> None:
    store, plan = with_look
    bare = dataclasses.replace(plan, auxiliaries=tuple(() for _ in plan.targets))
    assert [r.identity for r in tracked_runs(plan, store)] == [r.identity for r in tracked_runs(bare, store)]
    assert len(tracked_runs(plan, store)[0].stages) == len(tracked_runs(bare, store)[0].stages) + 1
