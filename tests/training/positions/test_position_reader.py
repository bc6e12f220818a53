"""The position reader on a world model: it reads what was rolled out, without any influence of the removed object."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch

from ctt.core.build_context import BuildContext
from ctt.data.data_settings import DataSettings
from ctt.data.dataset import Dataset
from ctt.data.positions import reference_levels
from ctt.data.positions.linear_reader import LinearPositionReader
from ctt.data.positions.objects import SlotObjects
from ctt.data.positions.reader_settings import PositionReaderSettings
from ctt.data.synthetic.writing import generate
from ctt.models.model_settings import RolloutSettings
from ctt.models.predictor import Predictor
from ctt.training.positions.position_reader import intervene, read
from ctt.training.state import MODEL
from ctt.training.training_settings import WorldModelSettings
from tests.models.literal_world_model import LiteralPredictor

WORLD = WorldModelSettings(history_size=3, num_preds=2, frameskip=5, depth=1, heads=2, mlp_width=16)
WIDTH = 128


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    folder = tmp_path_factory.mktemp("set")
    generate(DataSettings(train=16, validation=12, seed=3, workers=1), BuildContext(folder))
    return Dataset.open(folder)


@pytest.fixture(scope="module")
def reader_folder(dataset: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("probe")
    reference_levels.make(PositionReaderSettings(videos=16), dataset, None, 32, BuildContext(folder))
    return folder


def predictor() -> Predictor:
    torch.manual_seed(0)
    return Predictor(WORLD, WIDTH).eval()


def imagined(split: object, reader_folder: Path, pairs: list[tuple[int, int]], tmp_path: Path, batch: int = 1) -> dict:
    reader, objects = LinearPositionReader.load(reader_folder), SlotObjects.load(reader_folder)
    return dict(
        intervene(predictor(), 5, RolloutSettings(batch=batch), reader, objects, split, pairs, BuildContext(tmp_path))  # type: ignore[arg-type]
    )


def test_frames_without_an_object_are_rolled_out_step_by_step(dataset: Dataset, reader_folder: Path, tmp_path: Path) -> None:
    """Against a plain loop over the literal predictor, one window at a time."""
    split, reader, objects = (
        dataset.split("validation"),
        LinearPositionReader.load(reader_folder),
        SlotObjects.load(reader_folder),
    )
    literal = LiteralPredictor(3, 2, 1, 2, 16, WIDTH)
    literal.load_state_dict(predictor().state_dict())
    literal.eval()
    pairs = [(0, 1), (2, 0), (5, 3)]
    found = imagined(split, reader_folder, pairs, tmp_path)
    for video, k in pairs:
        frames = [torch.tensor(np.array(split.slots[video, f])) for f in (0, 5, 10)]
        for frame in frames:
            frame[objects.first[video, k]] = torch.tensor(reader.empty)
        while len(frames) * 5 < 160:
            with torch.no_grad():
                frames += list(literal(torch.stack(frames[-3:])[None], [[]])[0][0, 3:])
        frames = frames[:32]
        where = np.stack([reader.read(f.numpy()) for f in frames])
        count = int((objects.kinds[video, :, 0] >= 0).sum())
        for a in range(count):
            for b in range(a):
                gap = found[video, k][a, b]
                if k in (a, b):
                    assert gap == np.inf
                    continue
                one, two = (where[:, objects.first[video, o]] for o in (a, b))
                grid = np.linspace(0, 1, 501)[:, None, None]
                between = (1 - grid) * (one - two)[:-1] + grid * (one - two)[1:]
                shapes = [int(objects.shape[video, o]) for o in (a, b)]
                assert gap == pytest.approx(np.linalg.norm(between, axis=-1).min() - reader.reach[*shapes], abs=2e-3)


def test_the_removed_object_has_no_influence(dataset: Dataset, reader_folder: Path, tmp_path: Path) -> None:
    split, objects = dataset.split("validation"), SlotObjects.load(reader_folder)
    before = imagined(split, reader_folder, [(4, 0)], tmp_path)[4, 0]
    for k, same in ((0, True), (1, False)):
        slots = np.array(split.slots)
        slots[4, :, objects.first[4, k]] = 7.0
        after = imagined(SimpleNamespace(slots=slots), reader_folder, [(4, 0)], tmp_path)[4, 0]
        assert np.array_equal(before, after) == same


def test_the_batch_size_does_not_matter(dataset: Dataset, reader_folder: Path, tmp_path: Path) -> None:
    pairs = [(v, k) for v in range(6) for k in range(3)]
    one, two = (imagined(dataset.split("validation"), reader_folder, pairs, tmp_path, batch=b) for b in (1, 8))
    for pair in pairs:
        np.testing.assert_allclose(one[pair], two[pair], atol=1e-4)


def test_the_true_future_as_a_rollout_gives_the_answers_of_the_reference_level(
    dataset: Dataset, reader_folder: Path, tmp_path: Path
) -> None:
    from safetensors.torch import save_file

    save_file(predictor().state_dict(), tmp_path / MODEL)
    split = dataset.split("validation")
    out = tmp_path / "out"
    out.mkdir()
    predicted, context = split.future[:, :32], BuildContext(out)
    folders = reader_folder, tmp_path
    metrics = read(PositionReaderSettings(), WORLD, None, RolloutSettings(), *folders, predicted, dataset, context=context)
    table, level = (pd.read_parquet(path) for path in (out / "answers.parquet", reader_folder / "true_future.parquet"))
    assert list(table.columns) == list(level.columns) and len(table) == len(level)
    predictive = table["category"] == "predictive"
    pd.testing.assert_frame_equal(table[predictive], level[predictive])
    expected = json.loads((reader_folder / "metrics.json").read_text())["levels"]["true_future"]["per_question"]
    assert metrics["predictive"] == expected["predictive"] and set(metrics["per_option"]) == set(expected)
    correct = table[~predictive].groupby(["scene", "question_id"])["correct"].all()
    assert metrics["counterfactual"] == pytest.approx(100 * correct.mean())
    settings = PositionReaderSettings(interventions=False)
    metrics = read(settings, WORLD, None, RolloutSettings(), *folders, predicted, dataset, context=context)
    assert set(metrics) == {"predictive", "per_option"}
