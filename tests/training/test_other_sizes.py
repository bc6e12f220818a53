"""Data of other sizes and questions than CLEVRER's: it trains, rolls out, is diagnosed and asked about."""

import json
from pathlib import Path

import numpy as np
import pytest

from ctt.core.build_context import BuildContext
from ctt.core.errors import SettingError
from ctt.data.categories import Categories, Category
from ctt.data.data_format import DataFormat
from ctt.data.dataset import Dataset, write_manifest
from ctt.data.questions.vocab import Vocabulary
from ctt.models.aloe.aloe_settings import AloeSettings
from ctt.models.aloe.frame_sampling import FrameSampling
from ctt.models.method import Method
from ctt.models.model_settings import RolloutSettings
from ctt.training.diagnostics import diagnose
from ctt.training.diagnostics_settings import DiagnosticsSettings
from ctt.training.rollout import roll_out
from ctt.training.vqa import train as train_aloe
from tests.training.small_aloe import SMALL
from tests.training.small_world_model import run, settings

AFTER = 20
SIZES = {
    "the fewest slots, the narrowest": (40, 5, 32),
    "the third source's": (96, 11, 64),
    "the most slots": (150, 24, 48),
    "the widest": (33, 7, 512),
}
CATEGORIES = Categories((Category("soon", future=True), Category("colour", choices=False), Category("shape", choices=False)))
ANSWERS = tuple(f"a{k}" for k in range(200))  # more than a signed byte holds
WORDS = (*(f"w{k}" for k in range(300)), "red", "blue")  # more than a byte holds


def make(folder: Path, frames: int, slots: int, width: int, categories: Categories = CATEGORIES) -> Dataset:
    """Noise that drifts, and questions that the category alone decides."""
    folder.mkdir()
    random, videos, first = np.random.default_rng(0), {"train": 6, "validation": 4}, {"train": 0, "validation": 100}
    for split, count in videos.items():
        all_of_it = random.standard_normal((count, 1, slots, width)) + 0.02 * np.arange(frames + AFTER)[:, None, None]
        np.save(folder / f"slots_{split}.npy", all_of_it[:, :frames].astype(np.float32))
        np.save(folder / f"future_{split}.npy", all_of_it[:, frames:].astype(np.float32))
        if categories:
            scenes = [{"scene_index": first[split] + v, "questions": questions()} for v in range(count)]
            (folder / f"questions_{split}.json").write_text(json.dumps(scenes))
    vocabulary = Vocabulary(words=WORDS, answers=ANSWERS, question_length=5, choice_length=3)
    write_manifest(folder, "other", DataFormat(frames, slots, width, categories, vocabulary), videos, first)
    return Dataset.open(folder)


def questions() -> list[dict]:
    choices = [{"choice_id": 0, "choice": "w7", "answer": "correct"}, {"choice_id": 1, "choice": "red w299", "answer": "wrong"}]
    return [
        {"question_id": 0, "question_type": "colour", "question": "w298 blue?", "answer": "a199"},
        {"question_id": 1, "question_type": "soon", "question": "w1", "choices": choices},
        {"question_id": 2, "question_type": "shape", "question": "w1 w2 w3 w4 w5", "answer": "a0"},
    ]


@pytest.mark.parametrize("name", SIZES)
def test_a_world_model_trains_rolls_out_and_is_diagnosed(name: str, tmp_path: Path) -> None:
    frames, slots, width = SIZES[name]
    data = make(tmp_path / "data", *SIZES[name], Categories())
    method = Method(inv_weight=0.2, suf_weight=0.1, adj_threshold=0.01, start_epoch=0)
    metrics = run(tmp_path / "state", 1, method=method, data=data)
    assert 0 < metrics["validation"]["error"] < 10
    (tmp_path / "rollout").mkdir()
    context = BuildContext(tmp_path / "rollout")
    found = roll_out(settings(), RolloutSettings(frames=12), tmp_path / "state", data, context=context)
    assert np.load(tmp_path / "rollout" / "rollout_validation.npy").shape == (4, 12, slots, width)
    assert len(found["per_frame"]["error"]) == 12 and found["linear"] < found["copy_last"]
    (tmp_path / "diagnosis").mkdir()
    wanted, context = DiagnosticsSettings(windows=8), BuildContext(tmp_path / "diagnosis")
    out = diagnose(settings(epochs=1), method, 2, 3, wanted, tmp_path / "state", data, context=context)
    assert np.array(out["readings"]["attention"]["mean"]).shape == (slots, slots)


@pytest.mark.parametrize("tokens", ["trajectory", "frames"])
def test_aloe_answers_the_categories_that_the_data_declares(tokens: str, tmp_path: Path) -> None:
    data = make(tmp_path / "data", 96, 11, 64)
    rollouts = {split: np.array(data.split(split).future) for split in data.splits}
    (tmp_path / "aloe").mkdir()
    aloe = AloeSettings(**(SMALL | {"tokens": tokens, "epochs": 6, "batch_size": 6, "predicted_frames": 1, "learning_rate": 1e-2}))
    metrics = train_aloe(aloe, 0, data, rollouts, context=BuildContext(tmp_path / "aloe"))
    assert list(metrics["per_question"]) == ["soon", "colour", "shape"] and "multiple_choice" not in metrics
    assert metrics["per_question"]["colour"] == metrics["per_question"]["shape"] == 100.0
    assert set(metrics["curve"]["last"]) == {"epoch", "soon", "colour", "shape", "average"}
    assert metrics["blind"]["average"] == pytest.approx(200 / 3)


def test_samples_of_frames_follow_the_length_of_videos(tmp_path: Path) -> None:
    data_format = make(tmp_path / "data", 96, 11, 64).format
    sampling = FrameSampling(AloeSettings(frames=25), data_format)
    assert (sampling.stride, sampling.starts, sampling.reading) == (3, 24, ("soon",)) and sampling.shares == [1.0, 1.0, 1.0]
    for changes, words in (
        ({"frames": 97}, "aloe.frames must be at most 96"),
        ({"frames": 96, "eval_start": 1}, "aloe.eval_start must be less than 1"),
        ({"shares": [1.0, 0.5, 1.0, 1.0]}, r"a number for each category \(soon, colour, shape\)"),
    ):
        with pytest.raises(SettingError, match=words):
            FrameSampling(AloeSettings(**changes), data_format)
