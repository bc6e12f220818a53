"""What ALOE sees with aloe.rollout_frames=counterfactual: in counterfactual questions the imagined video without the object that
the question's own program removes, in others what it always sees."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from ctt.core.build_context import BuildContext
from ctt.core.errors import DataError, Interrupted, StoreError
from ctt.data.data_settings import DataSettings
from ctt.data.dataset import Dataset
from ctt.data.positions import reference_levels
from ctt.data.positions.linear_reader import LinearPositionReader
from ctt.data.positions.objects import SlotObjects
from ctt.data.positions.position_answers import COUNTERFACTUAL, read_questions, removed_object
from ctt.data.positions.reader_settings import PositionReaderSettings
from ctt.data.positions.removals import SPLITS, Removals
from ctt.data.positions.removed_objects import NO_SLOT, removals_of
from ctt.data.positions.removed_objects import make as find_removed
from ctt.data.synthetic.writing import generate
from ctt.models.aloe.aloe_settings import AloeSettings
from ctt.models.aloe.frame_sampling import FrameSampling
from ctt.models.predictor import Predictor
from ctt.training.batches.question_batches import QuestionBatches
from ctt.training.imagined_frames import OBSERVED, ImaginedFrames, file_of
from ctt.training.positions import imagined_videos
from ctt.training.positions.counterfactual import Factual, imagine
from ctt.training.positions.imagined_videos import imagine_videos
from ctt.training.positions.removal import Everybody, Graph, Oracle, Touch
from ctt.training.slot_graphs import SlotGraph, StateGraphs
from ctt.training.state import MODEL
from ctt.training.training_settings import WorldModelSettings
from ctt.training.vqa import SUBMISSION, TEST_PREDICTIONS, screen
from tests.data.positions.test_unread import UNKNOWN, edited
from tests.training.small_aloe import SMALL, run

WORLD = WorldModelSettings(history_size=3, num_preds=2, frameskip=5, depth=1, heads=2, mlp_width=16)
READER = PositionReaderSettings(videos=12)
GRAPH = SlotGraph(WORLD.graph, 0.14)
SEES = {"rollout_frames": "counterfactual"}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("set")
    generate(DataSettings(train=12, validation=6, test=2, seed=3, workers=1), BuildContext(folder))
    return folder


@pytest.fixture(scope="module")
def state(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("state")
    torch.manual_seed(0)
    save_file(Predictor(WORLD, 128).state_dict(), folder / MODEL)
    return folder


def fitted(data: Path, folder: Path) -> Path:
    folder.mkdir()
    reference_levels.make(READER, Dataset.open(data), None, 32, BuildContext(folder))
    return folder


@pytest.fixture(scope="module")
def probe(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return fitted(data, tmp_path_factory.mktemp("fit") / "probe")


def removed_of(data: Path, probe: Path, folder: Path) -> dict[str, Any]:
    """Writes what the questions remove into a new folder; returns the facts."""
    folder.mkdir()
    reader, objects = LinearPositionReader.load(probe), SlotObjects.load(probe)
    return find_removed(reader, READER.stride, objects, Dataset.open(data), None, BuildContext(folder))


@pytest.fixture(scope="module")
def removed(data: Path, probe: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("asked") / "removed"
    facts = removed_of(data, probe, folder)
    assert "unread" not in facts and "warning" not in facts
    return folder


def imagined(
    data: Path, probe: Path, removed: Path, state: Path, folder: Path, reach: str = "touch", dtype: str = "float32"
) -> dict[str, ImaginedFrames]:
    folder.mkdir(exist_ok=True)
    settings = dataclasses.replace(READER, reach=reach)
    graph = GRAPH if reach == "graph" else None
    imagine_videos(settings, WORLD, graph, dtype, probe, removed, state, Dataset.open(data), context=BuildContext(folder))
    return ImaginedFrames.open(removed, folder)


def shown(batches: QuestionBatches, starts: np.ndarray) -> dict[int, tuple[np.ndarray, np.ndarray | None]]:
    """{question: its given and its added frames}, as ALOE gets them."""
    found = {}
    for piece in batches.pieces(np.arange(batches.questions), starts, 5):
        for i, row in enumerate(piece.rows):
            owner = int(piece.input.owner[i])
            added = None if piece.input.added is None else piece.input.added[owner].float().numpy()
            found[int(batches.question[row])] = (piece.input.given[owner].float().numpy(), added)
    return found


@pytest.mark.parametrize(
    "reach, dtype, changes",
    [
        ("touch", "float32", {}),
        ("touch", "float16", {"frames": 16, "predicted_frames": 4}),
        ("touch", "float32", {"precision": "bf16"}),
        ("graph", "float32", {"frames": 10}),
        ("oracle", "float32", {}),
        ("all", "float32", {}),
    ],
)
def test_aloe_gets_the_video_without_the_object_and_nothing_else_changes(
    reach: str,
    dtype: str,
    changes: dict[str, Any],
    data: Path,
    probe: Path,
    removed: Path,
    state: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Each question's video imagined by itself, with the object that its program names, and its frames sampled: bit for bit."""
    monkeypatch.setattr("ctt.training.positions.counterfactual.PAIRS", 1)
    videos = imagined(data, probe, removed, state, tmp_path / "out", reach, dtype)
    dataset, reader = Dataset.open(data), LinearPositionReader.load(probe)
    predictor = Predictor(WORLD, 128).eval()
    predictor.load_state_dict(imagined_videos.load(state, WORLD).state_dict())
    settings, plain = AloeSettings(**SEES, **changes), AloeSettings(**changes)
    sampling = FrameSampling(settings)
    for name in ("train", "validation"):
        split = dataset.split(name)
        predicted = np.asarray(split.future[:, :32], dtype)
        new, old = QuestionBatches(settings, split, predicted, videos[name]), QuestionBatches(plain, split, predicted)
        starts = np.random.default_rng(0).integers(0, sampling.starts, new.questions)
        now, before = shown(new, starts), shown(old, starts)
        truth, objects = split.truth, Removals.load(removed, name).objects
        assert np.array_equal(objects.first, truth.slot_of[:, 0])
        factual = Factual(split.slots, split.slots[:, :0], objects)
        graphs = StateGraphs(predictor, WORLD.graph, None)
        ways = {
            "touch": Touch(reader, objects),
            "graph": Graph(graphs, GRAPH.threshold, WORLD.frameskip, objects),
            "oracle": Oracle(truth),
            "all": Everybody(),
        }
        asked = {(q.scene, q.question_id): q for q in read_questions(split.questions_file, split.scene_index, (COUNTERFACTUAL,))}
        table = split.questions
        changed = 0
        for question, (given, added) in now.items():
            row = new.first[question]
            category = table.category_names[row]
            assert (added is None) == (before[question][1] is None)
            if added is not None:
                assert np.array_equal(added, before[question][1]) and category == "predictive"
            if category != COUNTERFACTUAL:
                assert np.array_equal(given, before[question][0])
                continue
            one = asked[int(table.scene[row]), int(table.question_id[row])]
            k = removed_object(one, objects.things(one.video))
            alone = imagine(predictor, WORLD.frameskip, reader, factual, np.array([one.video]), np.array([k]), ways[reach]).slots[0]
            frames = starts[question] + sampling.stride * np.arange(settings.frames)
            expected = torch.from_numpy(alone[frames].astype(dtype)).to(new.frames.dtype).float().numpy()
            assert np.array_equal(given, expected)
            changed += not np.array_equal(given, before[question][0])
        assert changed == len(asked) > 5


def test_everything_that_all_reaches_is_imagined(data: Path, probe: Path, removed: Path, state: Path, tmp_path: Path) -> None:
    videos = imagined(data, probe, removed, state, tmp_path / "out", "all")["train"]
    found, split = Removals.load(removed, "train"), Dataset.open(data).split("train")
    for row, (video, k) in enumerate(found.pairs[:5]):
        first = found.objects.first[video]
        others = [slot for o, slot in enumerate(first) if slot >= 0 and o != k]
        assert np.array_equal(videos.slots[row, :15, others], split.slots[video, :15, others])
        assert all((videos.slots[row, f, others] != split.slots[video, f, others]).any() for f in range(15, 128))


def test_a_video_that_several_questions_ask_for_is_imagined_once(data: Path, probe: Path) -> None:
    split, objects = Dataset.open(data).split("validation"), SlotObjects.load(probe)
    once = read_questions(split.questions_file, split.scene_index, (COUNTERFACTUAL,))
    twice = [dataclasses.replace(question, question_id=question.question_id + 100 * n) for question in once for n in range(2)]
    found, (again, listed) = removals_of(once, objects)[0], removals_of(twice, objects)
    assert np.array_equal(found.pairs, again.pairs) and listed == []
    for removals, questions in ((found, once), (again, twice)):
        assert removals.questions.tolist() == [[question.scene, question.question_id] for question in questions]
        expected = [(q.video, removed_object(q, objects.things(q.video))) for q in questions]
        assert [tuple(removals.pairs[row]) for row in removals.row] == expected


class Stopping(BuildContext):
    """Asks to stop once so many videos are done."""

    def __init__(self, folder: Path, most: int) -> None:
        super().__init__(folder)
        self.most, self.done = most, 0.0

    def progress(self, done: float, total: float, unit: str, **extra: Any) -> None:
        self.done = done

    @property
    def stopping(self) -> bool:
        return self.done >= self.most


@pytest.mark.parametrize("damaged", [False, True], ids=["whole", "damaged"])
@pytest.mark.parametrize("most", [1, 9, 21])
def test_interrupted_it_continues_and_gives_the_same_bytes(
    most: int, damaged: bool, data: Path, probe: Path, removed: Path, state: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ctt.training.positions.counterfactual.PAIRS", 4)
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    imagined(data, probe, removed, state, whole)
    parts.mkdir()
    with pytest.raises(Interrupted):
        imagine_videos(READER, WORLD, None, "float32", probe, removed, state, Dataset.open(data), context=Stopping(parts, most))
    total = sum(len(Removals.load(removed, name).pairs) for name in ("train", "validation"))
    done = sum(videos for videos, _ in json.loads((parts / "imagined.json").read_text()).values())
    assert most <= done < total
    if damaged:  # it is then imagined again
        path = parts / "imagined_train.npy"
        content = bytearray(path.read_bytes())
        content[200] ^= 1
        path.write_bytes(content)
    again: list[int] = []

    def counted(*arguments: Any) -> Any:
        again.append(len(arguments[4]))
        return imagine(*arguments)

    monkeypatch.setattr(imagined_videos, "imagine", counted)
    with pytest.warns(UserWarning, match="imagined_train.npy is damaged") if damaged else contextlib.nullcontext():
        imagined(data, probe, removed, state, parts)
    assert sum(again) > total - done if damaged else sum(again) == total - done
    files = sorted(path.name for path in whole.glob("imagined*"))
    assert files == sorted(path.name for path in parts.glob("imagined*")) == ["imagined_train.npy", "imagined_validation.npy"]
    assert all((whole / name).read_bytes() == (parts / name).read_bytes() for name in files)


def test_a_question_that_cannot_be_read_sees_what_was_observed_and_is_listed(data: Path, state: Path, tmp_path: Path) -> None:
    ((scene, identity),) = edited(data, tmp_path / "odd", UNKNOWN, 1)
    probe = fitted(tmp_path / "odd", tmp_path / "probe")
    facts = removed_of(tmp_path / "odd", probe, tmp_path / "removed")
    (listed,) = facts["unread"]
    assert (listed["split"], listed["scene"], listed["question_id"]) == ("validation", scene, identity)
    assert "there are 0, not one" in listed["reason"] and facts["warning"].startswith("1 of ")
    videos = imagined(tmp_path / "odd", probe, tmp_path / "removed", state, tmp_path / "out")["validation"]
    split = Dataset.open(tmp_path / "odd").split("validation")
    new = QuestionBatches(AloeSettings(**SEES), split, split.future[:, :32], videos)
    old = QuestionBatches(AloeSettings(), split, split.future[:, :32])
    starts = np.zeros(new.questions, np.int64)
    now, before, table = shown(new, starts), shown(old, starts), split.questions
    for question, (given, _) in now.items():
        row = new.first[question]
        odd = (int(table.scene[row]), int(table.question_id[row])) == (scene, identity)
        same = table.category_names[row] != COUNTERFACTUAL or odd
        assert np.array_equal(given, before[question][0]) == same and (new.instead[question] == OBSERVED) == same


def test_an_object_that_no_slot_holds_is_listed_and_nothing_else_is_refused(data: Path, probe: Path, tmp_path: Path) -> None:
    split, objects = Dataset.open(data).split("validation"), SlotObjects.load(probe)
    questions = read_questions(split.questions_file, split.scene_index, (COUNTERFACTUAL,))
    whole, none = removals_of(questions, objects)
    assert none == []
    video, k = whole.pairs[0]
    first = np.array(objects.first)
    first[video, k] = -1
    found, listed = removals_of(questions, dataclasses.replace(objects, first=first))
    assert len(found.pairs) == len(whole.pairs) - 1 and (video, k) not in map(tuple, found.pairs)
    assert len(listed) == (whole.row == 0).sum() and {one["reason"] for one in listed} == {NO_SLOT}
    gone = tmp_path / "gone"
    gone.mkdir()
    shutil.copy(probe / "probe.npz", gone)
    dataclasses.replace(objects, first=np.full_like(first, -1)).save(gone)
    with pytest.raises(DataError, match=rf"questions_validation.json: none of its {len(questions)} .*{NO_SLOT}.*rollout_frames="):
        removed_of(data, gone, tmp_path / "removed")


@pytest.mark.parametrize("split", ["train", "validation"])
@pytest.mark.parametrize("damage", ["programs that remove nobody", "no programs"])
def test_a_split_that_cannot_be_read_is_refused(damage: str, split: str, data: Path, probe: Path, tmp_path: Path) -> None:
    shutil.copytree(data, tmp_path / "odd")
    path = tmp_path / "odd" / f"questions_{split}.json"
    scenes = json.loads(path.read_text())
    for question in (question for scene in scenes for question in scene["questions"]):
        if question["question_type"] == COUNTERFACTUAL:
            if damage == "no programs":
                del question["program"]
            else:
                question["program"] = ["all_events", "belong_to"]
    path.write_text(json.dumps(scenes))
    reason = "program is missing" if damage == "no programs" else "counterfactual questions can be read.*removes no objects"
    with pytest.raises(DataError, match=f"questions_{split}.json.*{reason}.*set aloe.rollout_frames=predictive"):
        removed_of(tmp_path / "odd", probe, tmp_path / "removed")


def test_without_imagined_videos_nothing_is_shown_in_their_place(data: Path) -> None:
    split = Dataset.open(data).split("train")
    with pytest.raises(DataError, match="aloe.rollout_frames=counterfactual needs the imagined videos of split train"):
        QuestionBatches(AloeSettings(**SEES), split, split.future[:, :32])


def test_other_videos_than_were_asked_for_are_an_error(data: Path, probe: Path, removed: Path, state: Path, tmp_path: Path) -> None:
    imagined(data, probe, removed, state, tmp_path / "out")
    path = file_of(tmp_path / "out", "train")
    np.save(path, np.load(path)[1:])
    with pytest.raises(StoreError, match="imagined_train.npy has .* videos"):
        ImaginedFrames.open(removed, tmp_path / "out")


def test_aloe_is_trained_and_evaluated_on_them_and_not_on_the_test_split(
    data: Path, probe: Path, removed: Path, state: Path, tmp_path: Path
) -> None:
    """Other imagined videos give other weights; with the same weights they change answers to counterfactual questions alone."""
    import pandas as pd

    dataset = Dataset.open(data)
    rollouts = {name: np.asarray(dataset.split(name).future[:, :32]) for name in ("train", "validation")}
    rollouts["test"] = np.asarray(dataset.split("test").slots[:, :32])
    videos = imagined(data, probe, removed, state, tmp_path / "out")
    other = {name: dataclasses.replace(found, slots=found.slots[::-1].copy()) for name, found in videos.items()}
    settings = {**SMALL, **SEES, "epochs": 1}
    for name, seen in (("one", videos), ("two", other)):
        run(tmp_path / name, (dataset, rollouts), imagined=seen, **settings)
        assert not (tmp_path / name / TEST_PREDICTIONS).exists() and not (tmp_path / name / SUBMISSION).exists()
    assert (tmp_path / "one" / MODEL).read_bytes() != (tmp_path / "two" / MODEL).read_bytes()
    (tmp_path / "three").mkdir()
    context = BuildContext(tmp_path / "three")
    screen(AloeSettings(**settings), 0, tmp_path / "one", dataset, rollouts, other, context=context)
    first, second = (pd.read_parquet(tmp_path / name / "predictions.parquet") for name in ("one", "three"))
    differ = first["logit"] != second["logit"]
    assert set(first["category"][differ]) == {COUNTERFACTUAL}
    assert tuple(videos) == SPLITS
