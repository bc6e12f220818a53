"""Annotations and programs that do not fit each other, as files that `ctt sweep` and `ctt data check` are given."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from ctt.cli import main
from ctt.data.clevrer import source_files
from ctt.data.scene import GIVEN
from tests.data.clevrer.official_files import FIRST, scene, slots_tree, write_pickle

COUNTS = {"train": 3, "val": 2}
SMALL = ["reader.videos=3", "device=cpu", "world_model.batch_size=32"]
SETTINGS = [*SMALL, "launch=local", "seed=0"]
KINDS = [("red", "metal", "cube"), ("blue", "rubber", "sphere"), ("green", "metal", "cylinder")]


def annotation(index: int, kinds: list[tuple[str, str, str]]) -> dict[str, Any]:
    things = [dict(zip(("color", "material", "shape"), kind, strict=True)) | {"object_id": k} for k, kind in enumerate(kinds)]
    seen = [{"object_id": k, "location": [k, 0.5, 0.1], "inside_camera_view": True} for k in range(len(kinds))]
    frames = [{"frame_id": f, "objects": seen} for f in range(GIVEN)]
    return {"scene_index": index, "object_property": things, "motion_trajectory": frames, "collision": []}


def counterfactual(removed: list[str]) -> dict[str, Any]:
    """A question about a collision of red and blue, both of whose options are false."""
    hit = ["all_events", "objects", "red", "filter_color", "unique", "filter_collision"]
    hit += ["objects", "blue", "filter_color", "unique", "filter_collision", "unique"]
    program = ["all_events"]
    for color in removed:
        program += ["objects", color, "filter_color", "unique", "get_counterfact"]
    choices = [
        {"choice_id": i, "choice": "The red object and the blue cube collide", "program": hit, "answer": "wrong"} for i in range(2)
    ]
    text = "Which event will happen without the green cylinder?"
    return {
        "question_id": 2, "question": text, "question_type": "counterfactual",
        "program": [*program, "belong_to"], "choices": choices,
    }  # fmt: skip


class Files:
    """Official files in a folder: slots, questions, and annotations of every scene, which a test then breaks."""

    def __init__(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.folder, self.capsys = folder, capsys
        write_pickle(folder / "slots.pkl", slots_tree(COUNTS))
        assert self.ctt("data", "import", "slots.pkl")[0] == 0
        (folder / "questions").mkdir()
        (folder / "annotations").mkdir()
        for split, count in COUNTS.items():
            self.asks(split, [["green"]] * count)
            for index in range(FIRST[split], FIRST[split] + count):
                self.annotates(index, KINDS)

    def asks(self, split: str, removed: list[list[str]]) -> None:
        scenes = [scene(FIRST[split] + i) for i in range(len(removed))]
        for one, names in zip(scenes, removed, strict=True):
            one["questions"].append(counterfactual(names))
        name = {"train": "train", "val": "validation"}[split]
        (self.folder / "questions" / f"{name}.json").write_text(json.dumps(scenes))

    def annotates(self, index: int, kinds: list[tuple[str, str, str]]) -> None:
        (self.folder / "annotations" / f"annotation_{index:05d}.json").write_text(json.dumps(annotation(index, kinds)))

    @property
    def overrides(self) -> list[str]:
        places = {"slots_file": "slots", "questions": "questions", "annotation_files": "annotations"}
        return ["data=clevrer", *(f"data.{name}={self.folder / place}" for name, place in places.items())]

    def ctt(self, *arguments: str) -> tuple[int, str, str]:
        """Exit code, what was printed, and the errors."""
        with pytest.raises(SystemExit) as ended:
            main(list(arguments))
        captured = self.capsys.readouterr()
        return int(ended.value.code or 0), captured.out, captured.err

    def refused(self, verb: str = "sweep", *more: str, remedy: str = "reader.enabled=false") -> str:
        """The message with which a sweep ends before anything is built; it names the remedy."""
        command = ["sweep", "baseline_only.yaml", *SETTINGS] if verb == "sweep" else ["run", *SMALL]
        (self.folder / "baseline_only.yaml").write_text("data: clevrer\n")
        code, out, err = self.ctt(*command, *self.overrides, *more)
        assert code == 2, out + err
        assert not list((self.folder / "store").glob("artifacts/*/*")), "nothing was built"
        assert remedy in err
        return " ".join(err.split())


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Files:
    monkeypatch.chdir(tmp_path)
    for name in ("store", "cache", "config"):
        monkeypatch.setenv({"store": "CTT_STORE"}.get(name, f"XDG_{name.upper()}_HOME"), str(tmp_path / name))
    source_files._known_hash.cache_clear()
    return Files(tmp_path, capsys)


def test_annotations_without_the_removed_object_are_refused(files: Files) -> None:
    for index in range(FIRST["val"], FIRST["val"] + COUNTS["val"]):
        files.annotates(index, KINDS[:2])
    found = files.refused()
    assert "validation.json and" in found and "annotations: none of the 2 counterfactual questions can be read" in found
    assert "scene 10000, question 2: unique at position 16: there are 0, not one" in found
    assert files.refused("run") == found


@pytest.mark.parametrize(
    "removed, reason",
    [([], "its program removes no objects, not one"), (["green", "red"], "its program removes 2 objects, not one")],
)
def test_programs_that_do_not_remove_one_object_are_refused(files: Files, removed: list[str], reason: str) -> None:
    files.asks("val", [removed] * 2)
    assert reason in files.refused()


def test_videos_without_annotations_are_refused(files: Files) -> None:
    (files.folder / "annotations" / "annotation_10001.json").unlink()
    assert "has no annotation of 1 of 2 validation videos that the position reader needs (scenes 10001)" in files.refused()


def test_one_that_cannot_be_read_is_listed_by_data_check(files: Files) -> None:
    code, out, _ = files.ctt("data", "check", *files.overrides)
    assert code == 0 and "not readable" not in out
    files.annotates(FIRST["val"] + 1, KINDS[:2])
    code, out, _ = files.ctt("data", "check", *files.overrides)
    assert code == 0 and "1 validation question not readable from positions, counted as wrong by the position reader" in out
    assert "scene 10001, question 2: unique at position 16: there are 0, not one" in out
    files.annotates(FIRST["val"], KINDS[:2])
    code, out, _ = files.ctt("data", "check", *files.overrides)
    assert code == 0 and "the position reader cannot be used:" in out and "none of the 2 counterfactual questions" in out


SEES, OTHERWISE = "aloe.rollout_frames=counterfactual", "aloe.rollout_frames=predictive"


@pytest.mark.parametrize("split, name", [("train", "train"), ("val", "validation")])
def test_what_aloe_is_to_see_without_an_object_is_refused_where_no_question_removes_one(
    files: Files, split: str, name: str
) -> None:
    files.asks(split, [[]] * COUNTS[split])
    remedy = OTHERWISE if split == "train" else "reader.enabled=false"  # of validation, the position reader needs them too
    found = files.refused("sweep", SEES, remedy=remedy)
    assert f"{name}.json and" in found and "its program removes no objects, not one" in found
    assert files.refused("run", SEES, remedy=remedy) == found


def test_training_programs_and_annotations_are_needed_for_what_aloe_is_to_see(files: Files) -> None:
    path = files.folder / "questions" / "train.json"
    scenes = json.loads(path.read_text())
    whole = json.dumps(scenes)
    del scenes[1]["questions"][2]["program"]
    path.write_text(json.dumps(scenes))
    found = files.refused("sweep", SEES, remedy=OTHERWISE)
    assert "train.json, scene 1, question 2: program is missing" in found
    path.write_text(whole)
    (files.folder / "annotations" / "annotation_00002.json").unlink()
    found = files.refused("sweep", SEES, "reader.videos=2", remedy=OTHERWISE)
    assert "no annotation of 1 of 3 train videos that aloe.rollout_frames=counterfactual needs (scenes 2)" in found
    assert "ctt data fetch annotations" in found
