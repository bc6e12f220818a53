"""A sweep over time, with made-up artifacts: points are added and removed, its status is read, it is promoted."""

import json
from pathlib import Path

import pytest
import yaml
from rich.console import Console

from ctt.app import gc
from ctt.app.status import print_status
from ctt.cli import main
from ctt.core.build_context import BuildContext
from ctt.core.errors import SweepError, UsageError
from ctt.planning import Budget, Plan, compile_plan
from ctt.planning.why import print_why
from ctt.stages.base import Stage
from ctt.stages.vqa import Vqa
from ctt.store import Store
from ctt.study import promotion, record
from ctt.sweep import compile_sweep
from tests.app.test_gc import PROVENANCE
from tests.report.made_up_answers import predictions, questions

ALONE = ["diagnostics.enabled=false", "reader.enabled=false"]
MINI = ["data=mini", "world_model=mini", "aloe=mini", *ALONE]
ASKED = questions(30)


def put(store: Store, stage: Stage, **shift: float) -> None:
    """Publishes a made-up artifact under the stage's key; the larger `shift`, the more of a run's answers are right."""
    with store.lease(stage.key) as lease:
        folder = store.work_folder(stage.key)
        metrics = {"validation": {"error": 0.5, "error_visible": 0.4}} if stage.kind == "world_model" else {}
        (folder / "metrics.json").write_text(json.dumps(metrics))
        if isinstance(stage, Vqa):
            table = predictions(ASKED, stage.seed, shift)
            table["video"] = table["scene"] - table["scene"].min()
            table.to_parquet(folder / "predictions.parquet", index=False)
        store.publish(stage.key, folder, lease, {**stage.describe(), "provenance": PROVENANCE})


def plan_of(*overrides: str, name: str | None = None) -> Plan:
    return compile_plan(compile_sweep(name, [*MINI, *overrides]))


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store.open(tmp_path / "store")


def missing(plan: Plan, store: Store) -> list[Stage]:
    return [stage for key, stage in plan.stages.items() if not store.has(key)]


def test_a_sweep_that_takes_anothers_name_says_which_points_tables_lose(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    def swept(weights: str, *more: str) -> str:
        arguments = [
            *MINI,
            f"ctt_inv_weight={weights}",
            *(more or ["seed=0,1"]),
            f"store={store.root}",
            "tracking=off",
            "launch=local",
        ]
        plan = compile_plan(compile_sweep(None, arguments))
        for stage in missing(plan, store):
            put(store, stage)
        with pytest.raises(SystemExit) as ended:
            main(["-m", *arguments])
        assert ended.value.code == 0
        return " ".join(capsys.readouterr().out.split())

    assert "of before" not in swept("0.1,0.2") and "of before" not in swept("0.1,0.2,0.3")
    shown = "tables of multirun show this command's points and seeds from now on, without"
    text = swept("0.1,0.4")
    assert f"{shown} ctt_inv_weight=0.2 and 1 more of before" in text and "name=OTHER keeps both" in text
    # a point is what it computes, whatever its label
    assert f"{shown} seed=1 of before" in swept("0.1,0.4", "ctt_start_epoch=4,5", "seed=0")
    assert f"{shown} baseline and" in swept("0.1,0.4", "world_model.epochs=11", "seed=0")


def test_an_added_point_costs_only_its_own_stages(store: Store) -> None:
    before = plan_of("ctt_inv_weight=0.1,0.2", "seed=0,1")
    for stage in before.stages.values():
        put(store, stage)
    after = plan_of("ctt_inv_weight=0.1,0.2,0.3", "seed=0,1")
    assert [s.kind for s in missing(after, store)] == ["world_model", "rollout", "vqa"] * 2
    statuses = [s["status"] for s in Budget(after, [k for k in after.stages if store.has(k)]).numbers()["stages"]]
    assert statuses.count("run") == 6
    (begin,) = {s.branch_points()[0].key for s in missing(after, store) if s.kind == "world_model" and s.seed == 0}
    assert store.has(begin), "the new point's training continues from the shared prefix in the store"
    other_seed = plan_of("ctt_inv_weight=0.1", "seed=0,1,2")
    assert {getattr(s, "seed", 2) for s in missing(other_seed, store)} == {2}


def test_a_later_start_trains_only_the_epochs_between(store: Store) -> None:
    """The new branch point at 6 continues from the stored state 4; the finished baseline is not trained again."""
    for stage in plan_of("ctt_inv_weight=0.1", "seed=0").stages.values():
        put(store, stage)
    after = plan_of("ctt_inv_weight=0.1", "ctt_start_epoch=4,6", "seed=0")
    new = missing(after, store)
    assert [(s.kind, getattr(s, "epoch", None)) for s in new][0] == ("world_model", 6)
    assert len(new) == 4 and [f.epoch for f in new[0].branch_points()] == [4]


def test_a_removed_point_is_garbage_but_shared_stages_are_not(store: Store) -> None:
    before, after = plan_of("ctt_inv_weight=0.1,0.2"), plan_of("ctt_inv_weight=0.1")
    for stage in before.stages.values():
        put(store, stage)
    record.write(before, store)
    assert gc.garbage(store, gc.survey(store), rollouts=False) == []
    record.write(after, store)
    gone = gc.garbage(store, gc.survey(store), rollouts=False)
    assert {item.key for item in gone} == set(before.stages) - set(after.stages)
    assert [item.kind for item in gone] == ["rollout", "vqa", "world_model"], "rollouts first"


def test_gc_leaves_work_in_progress_alone(store: Store) -> None:
    plan = plan_of("ctt_inv_weight=0.1")
    unfinished = plan.targets[0].rollout.state.key
    with store.lease(unfinished):
        (store.work_folder(unfinished) / "checkpoint").write_text("half")
    put(store, plan.targets[1].rollout)
    gc.collect(store, rollouts=True, yes=True, console=Console(quiet=True))
    assert list(store.keys()) == [] and store.unfinished(unfinished) is not None
    assert (store.unfinished(unfinished) / "checkpoint").read_text() == "half"


def test_status_reads_each_stage_once_whatever_else_is_in_the_store(store: Store, monkeypatch, capsys) -> None:
    """O(1) per run: no listing of the store, no manifest, one composition for all points, a few reads per stage."""
    plan = plan_of("ctt_inv_weight=0.1,0.2,0.3", "ctt_suf_weight=0,0.1", "seed=0,1,2")
    record.write(plan, store)
    put(store, next(iter(plan.stages.values())))
    reads: dict[str, int] = {}

    def counted(name: str, function):
        def call(self, key, *more):
            reads[name] = reads.get(name, 0) + 1
            return function(self, key, *more)

        return call

    for name in ("has", "failures", "unfinished"):
        monkeypatch.setattr(Store, name, counted(name, getattr(Store, name)))
    for name in ("keys", "manifest", "get", "working"):
        monkeypatch.setattr(Store, name, None)
    composed = []
    monkeypatch.setattr(record, "from_dict", lambda values, whole=record.from_dict: (composed.append(1), whole(values))[1])
    assert print_status(store, "multirun", as_json=True) == 0
    assert len(json.loads(capsys.readouterr().out)["runs"]) == len(plan.targets) == 21
    assert len(composed) == 1 and all(count <= len(plan.stages) for count in reads.values()), reads


def test_status_shows_what_a_running_stage_warns_of(store: Store, capsys) -> None:
    plan = plan_of("ctt_inv_weight=0.1", "seed=0")
    record.write(plan, store)
    state = plan.targets[0].rollout.state
    with store.lease(state.key):
        context = BuildContext(store.work_folder(state.key))
        context.warn("it predicts worse than copying")
        context.progress(0, 9, "step")
        assert print_status(store, "multirun", as_json=False) == 0
        printed = " ".join(capsys.readouterr().out.split())
        assert f"warning: world model {state.key[:12]} it predicts worse than copying" in printed
        assert print_status(store, "multirun", as_json=True) == 0
        run = json.loads(capsys.readouterr().out)["runs"][0]
        assert run["stages"]["world_model"]["message"] == "it predicts worse than copying"


def test_a_record_gives_back_the_points_it_was_made_of(store: Store) -> None:
    plan = plan_of("ctt_inv_weight=0.1,0.2", "ctt_start_epoch=3,5", "aloe.shares=[1,1,1,1]", "seed=4,5")
    back = record.load(record.write(plan, store))
    assert back.sweep.points == plan.sweep.points and back.sweep.seeds == plan.sweep.seeds
    assert list(back.stages) == list(plan.stages) and [j.label for j in back.jobs] == [j.label for j in plan.jobs]


@pytest.fixture
def screened(store: Store) -> Plan:
    """A finished screened sweep: of three weights 0.2 is best, then 0.3."""
    plan = plan_of("ctt_inv_weight=0.1,0.2,0.3", "aloe.protocol=shared", "seed=0,1,2")
    best = {0.1: 0.0, 0.2: 0.9, 0.3: 0.4}
    for stage in plan.stages.values():
        weight = stage.rollout.state.method.inv_weight if isinstance(stage, Vqa) else 0
        put(store, stage, predictive=best.get(weight, -0.2))
    record.write(plan, store)
    return plan


def test_promoting_retrains_the_best_points_on_existing_rollouts(store: Store, screened: Plan) -> None:
    plan, table = promotion.screened(store, "multirun")
    labels = promotion.best(plan, table, 2, "predictive")
    weights = {p.label: p.config.ctt_inv_weight for p in plan.sweep.points}
    assert [weights[label] for label in labels] == [0.2, 0.3]
    path = promotion.write_sweep(store, plan, labels)
    promoted = compile_plan(compile_sweep(path))
    assert promoted.sweep.name == "multirun-promoted" and promoted.sweep.seeds == (0, 1, 2)
    assert {s.kind for s in missing(promoted, store)} == {"vqa"}, "world models and rollouts are those of the screening"
    assert len(missing(promoted, store)) == 2 * 3, "the baseline had an ALOE of its own already"
    assert all(t.aloe_from is None for t in promoted.targets)


def test_promotion_compares_the_rankings(store: Store, screened: Plan) -> None:
    plan, table = promotion.screened(store, "multirun")
    promoted = compile_plan(compile_sweep(promotion.write_sweep(store, plan, promotion.best(plan, table, 3, "predictive"))))
    record.write(promoted, store)
    reversed_order = {0.1: 0.9, 0.2: 0.0, 0.3: 0.4}
    for stage in missing(promoted, store):
        put(store, stage, predictive=reversed_order[stage.rollout.state.method.inv_weight])
    console = Console(record=True, width=120, file=open("/dev/null", "w"))  # noqa: SIM115
    promotion.compare(store, "multirun", "predictive", console)
    assert "Spearman) -1.00" in console.export_text(), "retraining reversed the order"


def test_a_sweep_without_screening_cannot_be_promoted(store: Store) -> None:
    record.write(plan_of("ctt_inv_weight=0.1"), store)
    with pytest.raises(UsageError, match="aloe.protocol=shared"):
        promotion.screened(store, "multirun")


def test_an_aloe_that_differs_cannot_be_shared(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump({"points": [{"aloe.epochs": 3, "ctt_inv_weight": 0.1}]}))
    with pytest.raises(SweepError, match=r"aloe.epochs cannot differ.*points\[0\]"):
        compile_sweep(str(path), [*MINI, "aloe.protocol=shared"])
    both = compile_sweep(None, [*MINI, "ctt_inv_weight=0,0.1", "aloe.protocol=train,shared"])
    assert [p.config.aloe.protocol for p in both.points] == ["train", "train", "shared"]
    assert [m.reason for m in both.merged] == ["the ALOE that is shared is the baseline's own"]


def test_why_names_what_differs_what_is_shared_and_what_is_not_read() -> None:
    plan = plan_of("ctt_inv_weight=0,0.2", "ctt_start_epoch=4,5", "seed=0")
    names = [run.name for run in plan.sweep.runs]
    console = Console(record=True, width=200, file=open("/dev/null", "w"))  # noqa: SIM115
    print_why(plan, names[1], {plan.targets[1].rollout.key}, console)
    text = console.export_text()
    for stage in (plan.targets[1], plan.targets[1].rollout, plan.targets[1].rollout.state):
        assert stage.key in text
    assert "ctt_inv_weight=0.2 (not read)" in text and "its inputs alone" in text
    assert f"shared with {names[0]}, {names[2]}" in text and "(cached; this run's own)" in text
    assert "not read: world_model.dropout_kind" in text
    console = Console(record=True, width=200, file=open("/dev/null", "w"))  # noqa: SIM115
    print_why(plan, names[0], set(), console)
    assert "because both CTT weights are 0" in console.export_text()
    with pytest.raises(UsageError, match="runs are called like"):
        print_why(plan, "baseline seed=7", set())
