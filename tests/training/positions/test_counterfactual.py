"""Counterfactual rollouts against a plain loop, one video, frame and window at a time, with the literal predictor."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch

from ctt.core.build_context import BuildContext
from ctt.core.errors import CttError
from ctt.data.data_settings import DataSettings
from ctt.data.dataset import Dataset
from ctt.data.positions import reference_levels
from ctt.data.positions.descendants import ancestry_gaps, first_touches
from ctt.data.positions.linear_reader import LinearPositionReader
from ctt.data.positions.objects import SlotObjects
from ctt.data.positions.reader_settings import PositionReaderSettings
from ctt.data.synthetic.writing import generate
from ctt.models.model_settings import GraphSettings
from ctt.models.predictor import Predictor
from ctt.sweep import compile_sweep
from ctt.training.positions.counterfactual import Factual, imagine, without
from ctt.training.positions.position_reader import reach_of
from ctt.training.positions.removal import Reach
from ctt.training.slot_graphs import SlotGraph
from ctt.training.training_settings import WorldModelSettings
from tests.models.literal_world_model import LiteralPredictor

WIDTH, SKIP, HISTORY, AHEAD, FRAMES = 128, 5, 3, 2, 160
WORLD = WorldModelSettings(history_size=HISTORY, num_preds=AHEAD, frameskip=SKIP, depth=1, heads=2, mlp_width=16)
THRESHOLD = 0.14
PAIRS = [(0, 1), (2, 0), (3, 2), (5, 3), (7, 1), (8, 0), (8, 2)]


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    folder = tmp_path_factory.mktemp("set")
    generate(DataSettings(train=16, validation=12, seed=3, workers=1), BuildContext(folder))
    return Dataset.open(folder)


@pytest.fixture(scope="module")
def folder(dataset: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("probe")
    reference_levels.make(PositionReaderSettings(videos=16), dataset, None, 32, BuildContext(made))
    return made


@pytest.fixture(scope="module")
def predictor() -> Predictor:
    torch.manual_seed(0)
    return Predictor(WORLD, WIDTH).eval()


@pytest.fixture(scope="module")
def factual(dataset: Dataset, folder: Path) -> Factual:
    split = dataset.split("validation")
    return Factual(split.slots, np.asarray(split.future[:, :32]), SlotObjects.load(folder))


def way(name: str, dataset: Dataset, folder: Path, predictor: Predictor) -> Reach:
    reader, objects = LinearPositionReader.load(folder), SlotObjects.load(folder)
    settings = PositionReaderSettings(reach=name)
    graph = SlotGraph(WORLD.graph, THRESHOLD)
    return reach_of(settings, WORLD, graph, predictor, reader, objects, dataset.split("validation"), folder)


def literal(name: str, dataset: Dataset, folder: Path, predictor: Predictor, video: int, k: int) -> np.ndarray:
    """Slots (160,S,D) of a video without its object k."""
    model = LiteralPredictor(HISTORY, AHEAD, 1, 2, 16, WIDTH)
    model.load_state_dict(predictor.state_dict())
    model.eval()
    split, reader, objects = dataset.split("validation"), LinearPositionReader.load(folder), SlotObjects.load(folder)
    seen = np.concatenate([split.slots[video], split.future[video, :32]]).astype(np.float32)
    held = [int(slot) for slot in objects.first[video]]
    there = [o for o in range(6) if held[o] >= 0 and objects.kinds[video, o, 0] >= 0]
    world = seen.copy()
    world[:, held[k]] = reader.empty
    reached, since, before = {k}, None, 0

    def near(frames: np.ndarray, t: int, a: int, b: int) -> bool:
        one, two = (reader.read(frames[t, held[o]]) for o in (a, b))
        far = reader.reach[objects.kinds[video, a, 2], objects.kinds[video, b, 2]]
        return math.dist([float(x) for x in one], [float(x) for x in two]) < far

    for t in range(FRAMES):
        moved = [o for o in there if o in reached and o != k]
        if t >= HISTORY * SKIP and moved:
            if since is None or t - since >= AHEAD * SKIP or len(moved) != before:
                since, before = t - t % SKIP, len(moved)
                ahead = {}
                for offset in range(SKIP):
                    window = np.stack([world[since + offset - SKIP * back] for back in (3, 2, 1)])
                    with torch.no_grad():
                        found = model(torch.from_numpy(window)[None], [[]])[0][0, HISTORY:]
                    ahead |= {since + offset + SKIP * step: found[step].numpy() for step in range(AHEAD)}
            for o in moved:
                world[t, held[o]] = ahead[t][held[o]]
        now = set(reached)
        if name == "graph" and t >= (HISTORY - 1) * SKIP:
            window = np.stack([seen[t - SKIP * back] for back in (2, 1, 0)])
            with torch.no_grad():
                rows = model(torch.from_numpy(window)[None], [[]])[1][-1][0]
        for o in there:
            for other in [one for one in there if one in reached and one != o]:
                if name == "touch" and (near(seen, t, o, other) or (k not in (o, other) and near(world, t, o, other))):
                    now.add(o)
                if name == "graph" and t >= (HISTORY - 1) * SKIP:
                    own = rows[HISTORY * 7 + held[o]].view(HISTORY + AHEAD, 7)
                    depends = own.sum(0) if GraphSettings().frames == "sum" else own.mean(0)
                    if float(depends[held[other]]) >= THRESHOLD:
                        now.add(o)
            if name == "oracle":
                truth = split.truth
                apart = np.linalg.norm(truth.without_position[video, k, t, o] - truth.position[video, t, o])
                if apart > 1e-3:
                    now.add(o)
        reached = now
    return world


@pytest.mark.parametrize("name", ["touch", "graph", "oracle"])
def test_it_is_the_plain_loop(name: str, dataset: Dataset, folder: Path, predictor: Predictor, factual: Factual) -> None:
    reader = LinearPositionReader.load(folder)
    pairs = PAIRS[:3] if name == "graph" else PAIRS
    videos, removed = (np.array(column) for column in zip(*pairs, strict=True))
    found = imagine(predictor, SKIP, reader, factual, videos, removed, way(name, dataset, folder, predictor))
    for row, (video, k) in enumerate(pairs):
        np.testing.assert_allclose(found.slots[row], literal(name, dataset, folder, predictor, video, k), atol=2e-4)
    if name != "graph":
        some = (found.since < FRAMES).sum(1)
        assert some.any() and not (some == 5).all(), "some are reached, and some are not"


def test_who_is_not_reached_is_seen_as_it_was(dataset: Dataset, folder: Path, predictor: Predictor, factual: Factual) -> None:
    reader, objects = LinearPositionReader.load(folder), factual.objects
    videos, removed = (np.array(column) for column in zip(*PAIRS, strict=True))
    found = imagine(predictor, SKIP, reader, factual, videos, removed, way("oracle", dataset, folder, predictor))
    seen = factual.slots(videos)
    for row, (video, k) in enumerate(PAIRS):
        for o in range(6):
            slot = objects.first[video, o]
            if slot < 0 or o == k:
                continue
            first = found.since[row, o]
            assert np.array_equal(found.slots[row, :first, slot], seen[row, :first, slot])
            assert first == FRAMES or not np.array_equal(found.slots[row, first:, slot], seen[row, first:, slot])
        assert np.array_equal(found.slots[row, :, objects.first[video, k]], np.tile(reader.empty, (FRAMES, 1)))


def test_chunks_do_not_matter(
    dataset: Dataset, folder: Path, predictor: Predictor, factual: Factual, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reader, reach = LinearPositionReader.load(folder), way("touch", dataset, folder, predictor)
    whole = without(predictor, SKIP, reader, factual, PAIRS, reach, BuildContext(tmp_path))
    monkeypatch.setattr("ctt.training.positions.counterfactual.PAIRS", 2)
    monkeypatch.setattr("ctt.training.positions.counterfactual.CHUNK", 1)
    parts = without(predictor, SKIP, reader, factual, PAIRS, reach, BuildContext(tmp_path))
    assert list(whole) == list(parts) == PAIRS
    for pair in PAIRS:
        np.testing.assert_allclose(whole[pair], parts[pair], atol=1e-4)


def test_ancestry_leaves_out_what_descends_from_the_object() -> None:
    """0 meets 1 in frame 10, 1 meets 2 in frame 20; 3 meets 4 in frame 15, and 4 meets 2 in frame 30."""
    position = np.zeros((1, 40, 6, 2), np.float32)
    position[0, :, :, 0] = 100 * np.arange(6)
    for frame, a, b in ((10, 0, 1), (20, 1, 2), (15, 3, 4), (30, 4, 2)):
        position[0, frame, a] = position[0, frame, b] + 0.5
    kinds = np.zeros((1, 6, 3), np.int8)
    reader = LinearPositionReader(np.zeros((3, 2)), np.ones((3, 3)), np.zeros(2, np.float32))

    def met(removed: int) -> set[tuple[int, int]]:
        gaps = ancestry_gaps(first_touches(reader, kinds[..., 2], position)[0], removed)
        return {(a, b) for a in range(6) for b in range(a) if gaps[a, b] < 0}

    assert met(0) == {(4, 3)}
    assert met(3) == {(1, 0), (2, 1)}
    assert met(5) == {(1, 0), (2, 1), (4, 3), (4, 2)}


@pytest.mark.parametrize(
    "overrides, message",
    [
        (["reader.reach=graph", "world_model.graph.source=oracle", "ctt_inv_weight=0.1"], "reader.reach=oracle asks the simulator"),
        (["reader.reach=hands"], "reader.reach"),
    ],
)
def test_a_reach_that_cannot_be_known_is_refused(overrides: list[str], message: str) -> None:
    with pytest.raises(CttError, match=message):
        compile_sweep("demo", overrides)
