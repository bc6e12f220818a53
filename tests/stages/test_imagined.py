"""aloe.rollout_frames=counterfactual in plans: stages of its own that other settings do not have, what they cost, and what is
refused; and a sweep with it, from nothing to its table."""

from __future__ import annotations

import io
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from ctt.app.gc import collect, garbage, survey
from ctt.app.show import show_artifact
from ctt.app.sweep import check_inputs
from ctt.cli import main
from ctt.config import compose
from ctt.core.build_context import BuildContext
from ctt.core.errors import CttError
from ctt.data.data_settings import DataSettings
from ctt.data.dataset import Dataset
from ctt.data.positions.removals import Removals
from ctt.data.synthetic.writing import generate
from ctt.planning import Budget, Plan, compile_plan, parts
from ctt.planning.costs import Costs, Source
from ctt.planning.planned_jobs import stages_of
from ctt.planning.tree import print_plan
from ctt.planning.why import print_why
from ctt.stages.base import build
from ctt.stages.imagined import ImaginedVideos
from ctt.stages.removed import RemovedObjects
from ctt.stages.vqa import Vqa
from ctt.store import Store
from ctt.study import record
from ctt.study.loading import _warnings
from ctt.study.noise_runs import _without_seed
from ctt.study.reach import reach, unreached
from ctt.sweep import compile_sweep
from tests.app.test_gc import PROVENANCE, put
from tests.data.clevrer.official_files import write_pickle
from tests.tiny import TINY_ONE_SEED, ctt

SEES = "aloe.rollout_frames=counterfactual"
MINI = ["data=mini", "world_model=mini", "aloe=mini"]
OWN = ("removed", "imagined")


def plan_of(*overrides: str) -> Plan:
    return compile_plan(compile_sweep(None, [*MINI, *overrides]))


def imagined_of(plan: Plan) -> list[ImaginedVideos]:
    return [stage for stage in plan.stages.values() if isinstance(stage, ImaginedVideos)]


def answers_of(plan: Plan) -> Vqa:
    (target,) = plan.targets
    assert isinstance(target, Vqa)
    return target


def test_the_stages_of_other_settings_and_their_keys_stay_as_they_are() -> None:
    sees, plain = plan_of(SEES), plan_of()
    assert {kind for kind in sees.kinds} - {kind for kind in plain.kinds} == set(OWN)
    differ = set(plain.stages) ^ set(sees.stages)
    assert {(sees.stages | plain.stages)[key].kind for key in differ} == {"vqa", *OWN}
    for which in ("predictive", "all"):
        answers = answers_of(plan_of(f"aloe.rollout_frames={which}"))
        assert set(answers.inputs()) == set(answers.describe()["inputs"]) == {"data", "rollout"}
    assert list(answers_of(sees).inputs()) == ["data", "removed", "rollout", "imagined"], "what depends on data alone comes first"


def test_a_run_builds_them_between_rollout_and_aloe() -> None:
    plan = plan_of(SEES)
    (target,), (auxiliaries,) = plan.targets, plan.auxiliaries
    kinds = ["world_model", "rollout", "probe", "removed", "imagined", "vqa", "diagnostics", "reader"]
    assert [stage.kind for stage in parts(target, auxiliaries)] == ["data", *kinds]
    (job,) = plan.jobs
    assert [stage.kind for stage in stages_of(job)] == kinds
    assert plan.kinds[:5] == ("data", "world_model", "rollout", "imagined", "vqa")
    (read,) = (stage.probe for stage in auxiliaries if stage.kind == "reader")
    assert read is imagined_of(plan)[0].removed.probe, "the reader's fit is the same one"


@pytest.mark.parametrize(
    "override, differ",
    [
        ("reader.reach=touch,oracle", 2),
        ("reader.reach=touch,all", 2),
        ("rollout.dtype=float32,float16", 2),
        ("world_model.epochs=4,12", 2),
        ("seed=0,1", 2),
        ("aloe.epochs=1,2", 1),
        ("rollout.batch=4,8", 1),
        ("ctt_adj_threshold=0.15,0.2", 1),
    ],
)
def test_the_world_model_and_the_reader_decide_what_is_imagined(override: str, differ: int) -> None:
    plan = plan_of(SEES, override)
    assert len({stage.key for stage in imagined_of(plan)}) == differ
    removed = {stage.key for stage in plan.stages.values() if isinstance(stage, RemovedObjects)}
    assert len(removed) == (2 if "all" in override else 1), "the data alone decide what is removed"


def test_of_the_run_s_graph_it_reads_what_the_reader_reads() -> None:
    plan = plan_of(SEES, "reader.reach=graph", "ctt_adj_threshold=0.15,0.2")
    assert len(imagined_of(plan)) == 2
    settings = imagined_of(plan)[0].settings()
    assert settings["reach"] == "graph" and settings["threshold"] == 0.15 and settings["graph"]["source"] == "attention"
    assert len(imagined_of(plan_of(SEES, "reader.reach=graph", "world_model.graph.dropout=before,after"))) == 1


def test_the_graph_that_is_read_stays_where_objects_are_known_by_annotations(tmp_path: Path) -> None:
    read = ["data=clevrer", f"data.annotation_files={tmp_path}", "reader.reach=graph", "world_model.graph.source=jacobian"]
    (point,) = compile_sweep(None, read).points
    assert point.config.world_model.graph.source == "jacobian" and point.config.reads_graph


def test_a_shared_aloe_is_the_run_s_own_only_where_it_sees_the_same() -> None:
    plan = plan_of(SEES, "aloe.protocol=shared", "reader.reach=touch,oracle")
    baseline = next(line.answers for run, line in zip(plan.sweep.runs, plan.lines, strict=True) if run.point.baseline)
    other = next(line.answers for run, line in zip(plan.sweep.runs, plan.lines, strict=True) if not run.point.baseline)
    assert baseline is not None and other is not None
    assert baseline.aloe_from is None and other.aloe_from is baseline and other.rollout.key == baseline.rollout.key
    kinds = [stage.kind for stage in parts(other)]
    assert kinds == ["data", "world_model", "rollout", "probe", "removed", "imagined", "vqa"], "without the shared ALOE"
    assert [stage.kind for stage in stages_of(plan.jobs[-1])].count("vqa") == 1
    assert other.imagined is not None and other.imagined.key != baseline.imagined.key  # type: ignore[union-attr]
    assert _without_seed(baseline) != _without_seed(other), "nor are these runs of one A/A pair"


def test_a_plan_knows_what_it_takes_at_clevrer_s_size(tmp_path: Path) -> None:
    clevrer = ["data=clevrer", f"data.annotation_files={tmp_path}", SEES]
    (stage,) = imagined_of(compile_plan(compile_sweep(None, clevrer)))
    assert stage.size() == pytest.approx((18_642 + 9_333) * 128 * 7 * 128 * 4, rel=1e-3)
    (half,) = imagined_of(compile_plan(compile_sweep(None, [*clevrer, "rollout.dtype=float16"])))
    assert half.size() == stage.size() / 2
    estimate = Costs().of(stage, None)
    assert estimate.source is Source.PUBLISHED and 60 < estimate.seconds < 3600
    assert Costs().of(imagined_of(plan_of(SEES))[0], None).source is Source.DEMO
    console = Console(file=io.StringIO(), width=160)
    plan = compile_plan(compile_sweep(None, clevrer))
    print_plan(Budget(plan), Store.open(tmp_path / "store"), 1, console)
    text = console.file.getvalue()  # type: ignore[attr-defined]
    assert "epochs 0 to 30, rollout, imagined videos, ALOE" in text and "│ imagined videos" in text and "12.8 GB" in text
    why = Console(file=io.StringIO(), width=160)
    print_why(plan, plan.sweep.runs[0].name, set(), why)
    assert f"imagined {stage.key} (to run; this run's own)" in why.file.getvalue()  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    "overrides, words",
    [
        (["data=clevrer"], "set data.annotation_files (`ctt data fetch annotations`), or set aloe.rollout_frames=predictive"),
        ([*MINI, "reader.enabled=false"], "reader.enabled=false; set it to true"),
        ([*MINI, "reader.interventions=false"], "reader.interventions=false; set it to true"),
        (["data=clevrer", "data.annotation_files=.", "reader.reach=oracle"], "reader.reach=oracle needs simulated data"),
    ],
)
def test_what_cannot_be_imagined_is_refused_when_the_sweep_is_compiled(overrides: list[str], words: str) -> None:
    with pytest.raises(CttError) as caught:
        compile_sweep(None, [*overrides, SEES])
    assert words in str(caught.value)
    if "oracle" not in words:
        with pytest.raises(CttError, match="aloe.rollout_frames=counterfactual"):
            compose([*overrides, SEES]).check()
        compile_sweep(None, overrides)


def test_tables_name_what_a_world_model_reaches() -> None:
    plan = plan_of(SEES, "ctt_inv_weight=0,0.1")
    (line,) = reach(plan)
    assert "predictive questions read predicted frames and only counterfactual ones imagined videos" in line
    assert "descriptive and explanatory ones through ALOE's shared weights alone (aloe.rollout_frames=counterfactual)" in line
    configs = [point.config for point in plan.sweep.points]
    assert unreached(configs[1], configs[0], True) == ("descriptive", "explanatory")
    shares = plan_of(SEES, "ctt_inv_weight=0,0.1", "aloe.shares=[1,1,0,0.1]").sweep.points
    assert unreached(shares[1].config, shares[0].config, False) == (), "it is trained on imagined videos"
    none = plan_of(SEES, "ctt_inv_weight=0,0.1", "aloe.shares=[1,1,0,0]").sweep.points
    assert unreached(none[1].config, none[0].config, False) == ("descriptive", "explanatory")


def test_gc_removes_imagined_videos_with_rollouts(tmp_path: Path) -> None:
    store, plan = Store.open(tmp_path / "store"), plan_of(SEES, "seed=0,1")
    for stage in plan.stages.values():
        put(store, stage)
    record.write(plan, store)
    assert garbage(store, survey(store), rollouts=False) == []
    store.remove(plan.targets[0].key)
    going = {item.kind: item.key for item in garbage(store, survey(store), rollouts=True)}
    finished = plan.lines[1].answers
    assert finished is not None and finished.imagined is not None
    assert going == {"rollout": finished.rollout.key, "imagined": finished.imagined.key}, "the other run needs its own"


def test_questions_that_see_their_observed_video_are_counted_below_the_table(tmp_path: Path) -> None:
    store, plan = Store.open(tmp_path / "store"), plan_of(SEES)
    (line,), (stage,) = plan.lines, imagined_of(plan)
    for other in line.own:
        facts = {"facts": {"warning": "2 of 9 counterfactual questions"}} if other is stage else {}
        with store.lease(other.key) as lease:
            store.publish(other.key, store.work_folder(other.key), lease, {**other.describe(), **facts, "provenance": PROVENANCE})
    last = store.get(line.target.key)
    assert last is not None and _warnings(line, last, (), store) == ["2 of 9 counterfactual questions"]


def test_a_sweep_with_it_from_its_data_to_its_table(store_with_data: Path) -> None:
    sweep = [*TINY_ONE_SEED, SEES, "tracking=off"]
    done = ctt(store_with_data, "sweep", *sweep)
    assert "imagined videos" in done.stdout and "only counterfactual ones imagined videos" in " ".join(done.stdout.split())
    store = Store.open(store_with_data)
    plan = record.load(record.newest(store, "demo"))
    assert all(store.has(key) for key in plan.stages) and len(imagined_of(plan)) == 2
    one, two = (store.get(stage.key) for stage in imagined_of(plan))
    assert one is not None and two is not None
    facts = one.manifest["facts"]
    assert set(facts) == {"questions", "pairs"} and min(facts["pairs"].values()) > 0
    arrays = [np.load(artifact.path / "imagined_train.npy", mmap_mode="r") for artifact in (one, two)]
    assert arrays[0].shape == arrays[1].shape == (facts["pairs"]["train"], 128, 7, 128)
    assert sorted(one.manifest["files"]) == ["imagined_train.npy", "imagined_validation.npy"]
    status = json.loads(ctt(store_with_data, "status", "demo", "--json").stdout)
    assert all(run["stages"]["imagined"]["state"] == "done" for run in status["runs"])
    assert "imagined" in ctt(store_with_data, "status", "demo").stdout
    shown = Console(file=io.StringIO(), width=200)
    show_artifact(store, one.key, False, shown)
    assert '"pairs"' in shown.file.getvalue()  # type: ignore[attr-defined]
    assert "jobs in" not in ctt(store_with_data, "sweep", *sweep).stdout, "nothing is left to do"
    collect(store, rollouts=True, yes=True, console=Console(quiet=True))
    assert not any(store.has(stage.key) for stage in imagined_of(plan)) and all(store.has(target.key) for target in plan.targets)
    assert "jobs in" not in ctt(store_with_data, "sweep", *sweep).stdout, "what was made from them is there"


@pytest.fixture
def official(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, list[str]]:
    """Simulated scenes in a folder, and the same as CLEVRER's files: imported slots, questions, and annotations of the objects."""
    for name in ("cache", "config"):
        monkeypatch.setenv(f"XDG_{name.upper()}_HOME", str(tmp_path / name))
    simulated, files = tmp_path / "simulated", tmp_path / "files"
    for folder in (simulated, files / "questions", files / "annotations"):
        folder.mkdir(parents=True)
    generate(DataSettings(train=48, validation=8, seed=1, workers=1, annotations=True), BuildContext(simulated))
    tree = {}
    for split, name in (("train", "train"), ("validation", "val")):
        part = Dataset.open(simulated).split(split)
        tree[name] = {f"video_{s:05d}.mp4": np.array(slots) for s, slots in zip(part.scene_index, part.slots, strict=True)}
        shutil.copy(simulated / f"questions_{split}.json", files / "questions" / f"{split}.json")
        shutil.copy(simulated / f"annotations_{split}.zip", files / "annotations")
    write_pickle(files / "slots.pkl", tree)
    with pytest.raises(SystemExit):
        main(["data", "import", str(files / "slots.pkl")])
    places = {"slots_file": "slots", "questions": "questions", "annotation_files": "annotations"}
    return simulated, ["data=clevrer", *(f"data.{key}={files / place}" for key, place in places.items())]


@pytest.mark.slow
def test_clevrer_s_objects_are_matched_to_slots_by_their_annotations(official: tuple[Path, list[str]], tmp_path: Path) -> None:
    simulated, files = official
    small = ["world_model=mini", "world_model.epochs=1", "world_model.windows.per_epoch=64", "world_model.windows.validation=16"]
    plan = compile_plan(compile_sweep(None, [*files, *small, SEES, "reader.videos=48", "diagnostics.enabled=false"]))
    check_inputs(plan.stages.values(), store := Store.open(tmp_path / "store"))
    (stage,) = imagined_of(plan)
    artifact = build(stage, store)
    removed = store.get(stage.removed.key)
    assert removed is not None
    for name in ("train", "validation"):
        truth, found = Dataset.open(simulated).split(name).truth, Removals.load(removed.path, name)
        held = np.array([found.objects.first[video, k] for video, k in found.pairs])
        true = np.array([truth.slot_of[video, 0, k] for video, k in found.pairs])
        assert len(held) > 5 and (held == true).mean() > 0.9
        slots = np.load(artifact.path / f"imagined_{name}.npy", mmap_mode="r")
        empty = np.load(store.get(stage.removed.probe.key).path / "probe.npz")["empty"]  # type: ignore[union-attr]
        assert all((slots[row, :, slot] == empty).all() for row, slot in enumerate(held))
    assert artifact.manifest["facts"]["pairs"] == {
        "train": len(Removals.load(removed.path, "train").pairs),
        "validation": len(held),
    }
