"""reader.reach=graph reads the run's own slot graph, whether or not losses act: in keys, in results, in tables, and refused."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import save_file

from ctt.config import compose
from ctt.core.build_context import BuildContext
from ctt.core.errors import CttError
from ctt.data.dataset import Dataset
from ctt.data.positions import reference_levels
from ctt.data.positions.linear_reader import LinearPositionReader, follow
from ctt.data.positions.objects import SlotObjects
from ctt.data.positions.position_answers import COUNTERFACTUAL, answer_counterfactual, read_questions, removed_object
from ctt.data.synthetic.writing import generate
from ctt.models.predictor import Predictor
from ctt.planning import auxiliaries_of, compile_plan, target_of
from ctt.planning.compiled_plan import Plan
from ctt.stages.auxiliary.reader import PositionReader
from ctt.study.reach import graphs_read
from ctt.sweep import compile_sweep, without_inactive
from ctt.tracking.summary import final_points, note
from ctt.tracking.tail import Tail
from ctt.tracking.tracked_runs import TrackedRun, TrackedStage
from ctt.tracking.view import MetricPoint
from ctt.training.state import MODEL

SMALL = [
    "world_model.batch_size=64",
    "data=mini", "data.train=16", "data.validation=12", "data.workers=1", "reader.videos=16", "device=cpu",
    "world_model.history_size=3", "world_model.num_preds=2", "world_model.depth=1", "world_model.heads=2",
    "world_model.mlp_width=16",
]  # fmt: skip
ALONE = [*SMALL, "ctt_inv_weight=0", "ctt_suf_weight=0"]
GRAPH = "reader.reach=graph"
OWN = "ancestry_of_rollout.parquet"


def plan_of(*overrides: str) -> Plan:
    return compile_plan(compile_sweep(None, list(overrides)))


def readers(plan: Plan) -> list[PositionReader]:
    return [stage for stages in plan.auxiliaries for stage in stages if isinstance(stage, PositionReader)]


@pytest.mark.parametrize(
    "key, values",
    [
        ("ctt_adj_threshold", "0.15,0.2"),
        ("world_model.graph.source", "attention,jacobian"),
        ("world_model.graph.frames", "sum,mean"),
    ],
)
def test_without_losses_its_graph_is_in_its_key_and_in_no_other(key: str, values: str) -> None:
    plan = plan_of(*ALONE, GRAPH, f"{key}={values}")
    assert len({reader.key for reader in readers(plan)}) == 2
    assert len({target.key for target in plan.targets}) == 1, "the world model, its rollout and ALOE are the same"
    default = compile_sweep(None, ["data=mini"]).points[0].config
    found = [reader.graph for reader in readers(plan)]
    assert None not in found and found[0] != found[1] or key == "ctt_adj_threshold"
    merged = compile_sweep(None, [*ALONE, f"{key}={values}"])
    assert len(merged.points) == 1 and merged.points[0].config.ctt_adj_threshold == default.ctt_adj_threshold


@pytest.mark.parametrize(
    "key, values", [("world_model.graph.scope", "batch,sample"), ("world_model.graph.dropout", "after,before")]
)
def test_what_only_training_reads_of_a_graph_makes_no_other_reader(key: str, values: str) -> None:
    assert len(compile_sweep(None, [*ALONE, GRAPH, f"{key}={values}"]).points) == 1


def test_other_ways_have_no_graph_in_their_keys() -> None:
    for reach in ("touch", "oracle", "all"):
        (reader,) = readers(plan_of(*ALONE, f"reader.reach={reach}"))
        assert reader.graph is None and not {"graph", "threshold"} & set(reader.settings())
    (reader,) = readers(plan_of(*ALONE, GRAPH, "reader.interventions=false"))
    assert reader.graph is None


def test_points_whose_graphs_differ_are_told_apart() -> None:
    assert graphs_read(plan_of(*ALONE, GRAPH)) == []
    (line,) = graphs_read(plan_of(*SMALL, GRAPH, "ctt_inv_weight=0,0.1", "ctt_adj_threshold=0.1,0.2"))
    assert "ctt_adj_threshold=0.1 for " in line and "ctt_adj_threshold=0.2 for " in line and "source" not in line
    (line,) = graphs_read(plan_of(*ALONE, GRAPH, "world_model.graph.source=attention,jacobian"))
    assert "world_model.graph.source=jacobian" in line and "baseline" in line


@pytest.mark.parametrize(
    "overrides",
    [
        ["ctt_inv_weight=0", "ctt_suf_weight=0"],
        ["ctt_inv_weight=0.1", "ctt_start_epoch=5", "world_model.epochs=5"],
        ["ctt_inv_weight=0,0.1"],
    ],
)
def test_a_network_that_was_not_trained_is_refused(overrides: list[str]) -> None:
    source = "world_model.graph.source=learned"
    with pytest.raises(
        CttError, match=rf"{source} is trained along with losses.* set world_model.graph.source to .*attention.* or"
    ):
        compile_sweep(None, [*SMALL, GRAPH, source, *overrides])
    compile_sweep(None, [*SMALL, source, *overrides])


def test_weights_of_a_file_are_read_with_the_graph_of_the_settings_too() -> None:
    file = [*SMALL, GRAPH, "world_model.tensors=known"]
    keys = set()
    for threshold in (0.15, 0.2):
        config = without_inactive(compose([*file, f"ctt_adj_threshold={threshold}"]))
        (reader,) = (stage for stage in auxiliaries_of(config, target_of(config)) if isinstance(stage, PositionReader))
        keys.add(reader.key)
    assert len(keys) == 2
    with pytest.raises(CttError, match="is trained along with losses"):
        compose([*file, "world_model.graph.source=learned", "ctt_inv_weight=0.1"]).check()


def test_a_network_of_the_points_and_another_graph_of_the_baseline(tmp_path: Path) -> None:
    file = tmp_path / "two.yaml"
    file.write_text("data: mini\npoints: [{ctt_inv_weight: 0.1, ctt_start_epoch: 1, world_model.graph.source: learned}]\n")
    sweep = compile_sweep(str(file), [GRAPH, "world_model.epochs=3"])
    assert [point.config.world_model.graph.source for point in sweep.points] == ["attention", "learned"]
    (line,) = graphs_read(compile_plan(sweep))
    assert "world_model.graph.source=attention" in line and "world_model.graph.source=learned" in line


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What the reader of a run without losses reads: data, an untrained world model, a rollout, and the fitted reader."""
    config = compile_sweep(None, ALONE).points[0].config
    found = {}
    for name in ("data", "world_model", "rollout", "probe"):
        found[name] = SimpleNamespace(path=tmp_path_factory.mktemp(name))
    generate(config.data, BuildContext(found["data"].path))
    torch.manual_seed(0)
    save_file(Predictor(config.world_model, 128).state_dict(), found["world_model"].path / MODEL)
    dataset = Dataset.open(found["data"].path)
    np.save(found["rollout"].path / "rollout_validation.npy", dataset.split("validation").future[:, :32])
    reference_levels.make(config.reader, dataset, None, 32, BuildContext(found["probe"].path))
    return found


def answered(inputs: dict[str, Any], folder: Path, *overrides: str) -> pd.DataFrame:
    (reader,) = readers(plan_of(*ALONE, *overrides))
    folder.mkdir()
    reader.build(BuildContext(folder), inputs, None)
    table = pd.read_parquet(folder / "answers.parquet")
    return table[table["category"] == "counterfactual"].reset_index(drop=True)


def test_a_run_without_losses_is_read_with_its_own_graph(inputs: dict[str, Any], tmp_path: Path) -> None:
    """At the threshold 1 nobody depends on another, so all is as it was; at 0 everybody depends on everybody."""
    nobody = answered(inputs, tmp_path / "1", GRAPH, "ctt_adj_threshold=1")
    everybody = answered(inputs, tmp_path / "2", GRAPH, "ctt_adj_threshold=0")
    assert (nobody["prediction"] != everybody["prediction"]).any()
    split = Dataset.open(inputs["data"].path).split("validation")
    reader, objects = LinearPositionReader.load(inputs["probe"].path), SlotObjects.load(inputs["probe"].path)
    seen = reader.gaps(
        follow(reader.read(np.concatenate([split.slots, split.future[:, :32]], 1)), objects.first[:, None]), objects.shape
    )
    questions = read_questions(split.questions_file, split.scene_index, (COUNTERFACTUAL,))
    literal = []
    for question in questions:
        things = objects.things(question.video)
        gap = np.array(seen[question.video])
        gap[removed_object(question, things)] = gap[:, removed_object(question, things)] = np.inf
        literal += answer_counterfactual(question, things, gap)
    assert nobody["prediction"].tolist() == literal
    other = answered(inputs, tmp_path / "3", GRAPH, "ctt_adj_threshold=0.15", "world_model.graph.source=jacobian")
    own = answered(inputs, tmp_path / "4", GRAPH, "ctt_adj_threshold=0.15")
    assert (other["prediction"] != own["prediction"]).any()


def page_of(probe: Path, reader: Path) -> dict[str, float]:
    """The metrics of a run in MLflow, of the position reader; its description has a table of the levels among them."""
    folders = {"probe": probe, "reader": reader}
    stages = tuple(TrackedStage(kind, kind, place, place, columns=PositionReader.columns) for kind, place in folders.items())
    tails = [Tail(stage) for stage in stages]
    for tail in tails:
        tail.poll()
    points = final_points(tails)
    finals = [*points, MetricPoint("accuracy/average", 1.0, 0, 0)]
    text = note(TrackedRun("demo", "baseline-0", "baseline", 0, stages=stages), tails, finals)
    value = {point.name: point.value for point in points}
    for name, label in (("words", "words"), ("ancestry_of_rollout", "ancestry of rollout")):
        (line,) = (line for line in text.splitlines() if line.startswith(f"| {label} |"))
        assert line.endswith(f"| {value[f'reader/levels/{name}/per_question/counterfactual']:.1f} |")
    return value


def test_its_own_ancestry_is_that_of_its_rollout(inputs: dict[str, Any], tmp_path: Path) -> None:
    """With the true future as rollout: by positions, nearly what the true collisions give; with a rollout that stands still, the
    collisions of the given frames alone."""
    answered(inputs, tmp_path / "1", "reader.reach=touch")
    mine, true = (pd.read_parquet(path) for path in (tmp_path / "1" / OWN, inputs["probe"].path / "ancestry.parquet"))
    assert (mine["prediction"] == true["prediction"]).mean() > 0.85
    still = dict(inputs, rollout=SimpleNamespace(path=tmp_path))
    future = np.load(inputs["rollout"].path / "rollout_validation.npy")
    slots = Dataset.open(inputs["data"].path).split("validation").slots
    np.save(tmp_path / "rollout_validation.npy", np.repeat(slots[:, -1:], future.shape[1], 1))
    answered(still, tmp_path / "2", "reader.reach=touch")
    later = pd.read_parquet(tmp_path / "2" / OWN)
    assert (later["prediction"] != mine["prediction"]).any()
    page = page_of(inputs["probe"].path, tmp_path / "1")
    metrics = json.loads((tmp_path / "1" / "metrics.json").read_text())["levels"]["ancestry_of_rollout"]
    assert page["reader/levels/ancestry_of_rollout/per_question/counterfactual"] == metrics["per_question"]["counterfactual"]
    assert {"true_future", "linear", "copy_last", "unchanged", "ancestry", "words"} < {
        name.split("/")[2] for name in page if "levels" in name
    }
    answered(inputs, tmp_path / "3", "reader.reach=all")
    assert not (tmp_path / "3" / OWN).exists(), "stores of before have no such level"
