"""The position reader against simple counterparts: closest approaches, thresholds, linear map, matching, programs, levels."""

import dataclasses
import itertools
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from ctt.core.build_context import BuildContext
from ctt.core.errors import DataError
from ctt.data.baselines.words_only import words_only_predictions
from ctt.data.clevrer.annotations import Annotations
from ctt.data.data_settings import DataSettings
from ctt.data.dataset import Dataset
from ctt.data.positions import reference_levels
from ctt.data.positions.linear_reader import LinearPositionReader, cut, fit, follow, nearest, regress
from ctt.data.positions.matching import match
from ctt.data.positions.objects import SlotObjects, from_annotations, from_truth
from ctt.data.positions.position_answers import (
    COUNTERFACTUAL,
    PREDICTIVE,
    MultipleChoiceQuestion,
    answer_counterfactual,
    answer_predictive,
    read_questions,
    removed_object,
)
from ctt.data.positions.reader_settings import PositionReaderSettings
from ctt.data.scene import Thing
from ctt.data.synthetic.events import Event, ancestors
from ctt.data.synthetic.writing import generate

SETTINGS = DataSettings(train=40, validation=30, seed=5, noise=0.1, annotations=True, workers=1)
READER = PositionReaderSettings(videos=40)
FRAMES = 32


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    folder = tmp_path_factory.mktemp("set")
    generate(SETTINGS, BuildContext(folder))
    return Dataset.open(folder)


def made(dataset: Dataset, folder: Path, settings: PositionReaderSettings = READER, annotations: str | None = None) -> Path:
    folder.mkdir()
    reference_levels.make(settings, dataset, annotations, FRAMES, BuildContext(folder))
    return folder


@pytest.fixture(scope="module")
def fitted(dataset: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made(dataset, tmp_path_factory.mktemp("probe") / "made")


def test_closest_approaches_agree_with_a_fine_grid() -> None:
    rng = np.random.default_rng(0)
    position = rng.normal(size=(3, 6, 4, 2))
    position[0, 2, 1] = position[1, :, 3] = np.nan
    near = nearest(position)
    share = np.linspace(0, 1, 2001)[:, None]
    for v, a, b in itertools.product(range(3), range(4), range(4)):
        found = [np.inf]
        for f in range(5):
            apart = position[v, f : f + 2, a] - position[v, f : f + 2, b]
            ways = (1 - share) * apart[0] + share * apart[1] if np.isfinite(apart).all() else apart
            found += [d for d in np.hypot(*ways.T) if np.isfinite(d)]
        assert near[v, a, b] == (np.inf if a == b else pytest.approx(min(found), abs=2e-3)) or not np.isfinite(min(found))


def test_objects_that_pass_each_other_between_two_frames_are_near() -> None:
    way = np.array([[[0.0, 0.0], [1.0, 1.0]], [[2.0, 0.0], [1.0, -1.0]]])[None]
    assert nearest(way)[0, 0, 1] == pytest.approx(0, abs=1e-9)
    assert nearest(way[:, :1])[0, 0, 1] == pytest.approx(np.sqrt(2))


def test_the_threshold_has_the_fewest_errors() -> None:
    rng = np.random.default_rng(1)
    for _ in range(20):
        met = rng.random(30) < 0.4
        distance = rng.normal(1 - 0.8 * met, 0.4)
        tries = np.convolve(np.sort(distance), [0.5, 0.5], "valid")
        errors = [((distance < c) != met).sum() for c in tries]
        assert ((distance < cut(distance, met)) != met).sum() == min(errors)
    assert np.isnan(cut(np.ones(3), np.zeros(3, bool)))


def test_the_linear_map_is_recovered_from_redundant_slots() -> None:
    rng = np.random.default_rng(2)
    small = rng.normal(size=(500, 4))
    slots = small @ rng.normal(size=(4, 9))
    position = small @ rng.normal(size=(4, 2)) + [3.0, -1.0]
    weights = regress(slots, position)
    np.testing.assert_allclose(slots @ weights[:-1] + weights[-1], position, atol=1e-5)


def test_positions_are_read_with_a_small_error(dataset: Dataset, fitted: Path) -> None:
    """On videos and frames that the reader was not fitted on."""
    reader, split = LinearPositionReader.load(fitted), dataset.split("validation")
    truth = split.truth
    seen = follow(reader.read(split.future), truth.slot_of[:, 128:])
    inside = truth.inside[:, 128:]
    assert np.sqrt(((seen - truth.position[:, 128:])[inside] ** 2).mean()) < 0.06
    shown = reader.read(reader.empty)
    assert np.isfinite(shown).all() and np.abs(shown).max() < 4


def test_the_reach_agrees_with_the_shapes(fitted: Path) -> None:
    """Round objects touch at 0.44, the corners of two cubes at 0.62; forty videos have few pairs of each kind."""
    reach = LinearPositionReader.load(fitted).reach
    assert (reach > 0.38).all() and (reach < 0.68).all()
    np.testing.assert_array_equal(reach, reach.T)


def test_slots_are_matched_to_objects_by_positions_only(dataset: Dataset) -> None:
    split = dataset.split("train")
    known = from_truth(split, split.videos)
    found = match(np.array(split.slots), dataclasses.replace(known, slot=None), 8)
    seen = known.inside.any(1)
    assert (found.slots[:, 0] == known.slots[:, 0])[seen].mean() > 0.99


def test_annotations_give_the_same_answers_as_the_truth(dataset: Dataset, fitted: Path, tmp_path: Path) -> None:
    """The same data without truth and future, as in CLEVRER: positions from official annotation files."""
    bare = tmp_path / "bare"
    bare.mkdir()
    for path in dataset.folder.iterdir():
        if not path.name.startswith(("truth", "future", "visible")):
            (bare / path.name).symlink_to(path)
    official = made(Dataset.open(bare), tmp_path / "official", annotations=str(dataset.folder))
    one, two = SlotObjects.load(fitted), SlotObjects.load(official)
    np.testing.assert_array_equal(one.kinds, two.kinds)
    assert ((one.last == two.last) | (two.last < 0)).mean() > 0.99
    for name in ("linear", "copy_last"):
        mine, theirs = (pd.read_parquet(folder / f"{name}.parquet") for folder in (fitted, official))
        assert (mine["prediction"] == theirs["prediction"]).mean() > 0.9
    assert not (official / "true_future.parquet").exists()
    with pytest.raises(DataError, match="annotation_files"):
        made(Dataset.open(bare), tmp_path / "nothing")


def test_annotations_and_truth_agree(dataset: Dataset) -> None:
    split = dataset.split("validation")
    known = from_truth(split, 5)
    annotated = from_annotations(Annotations(dataset.folder), split.scene_index[:5].tolist())
    assert annotated.things == known.things
    np.testing.assert_allclose(annotated.position, known.position, atol=2e-5)
    np.testing.assert_array_equal(annotated.inside, known.inside)
    np.testing.assert_array_equal(annotated.met, known.met)
    assert Annotations(dataset.folder).digest == Annotations(dataset.folder).digest


THINGS = [Thing("red", "metal", "cube"), Thing("blue", "rubber", "sphere"), Thing("green", "metal", "cylinder")]
OBJECT = {t.color: ["objects", t.color, "filter_color", "unique"] for t in THINGS}


def collision(one: str, other: str) -> list[str]:
    return ["all_events", *OBJECT[one], "filter_collision", *OBJECT[other], "filter_collision", "unique"]


def question(category: str, program: list[str], *pairs: tuple[str, str]) -> MultipleChoiceQuestion:
    return MultipleChoiceQuestion(0, 0, 0, category, "form", program, [(i, collision(*p), True) for i, p in enumerate(pairs)])


def gaps(red_blue: float, red_green: float, blue_green: float) -> np.ndarray:
    out = np.full((6, 6), np.inf)
    for (a, b), value in {(0, 1): red_blue, (0, 2): red_green, (1, 2): blue_green}.items():
        out[a, b] = out[b, a] = value
    return out


def test_the_closest_pair_answers_a_predictive_question() -> None:
    next_ = question(PREDICTIVE, ["unseen_events", "belong_to"], ("red", "blue"), ("green", "blue"))
    # No pair of the options touches, but green and blue come closest.
    assert answer_predictive(next_, THINGS, gaps(0.5, -1.0, 0.4)) == [False, True]
    assert answer_predictive(next_, THINGS, gaps(-0.3, 0.0, -0.2)) == [True, False]
    assert answer_predictive(next_, THINGS, gaps(np.inf, np.inf, np.inf)) == [False, False]


def test_collisions_without_the_object_answer_counterfactual_questions() -> None:
    happens = ["all_events", *OBJECT["green"], "get_counterfact", "belong_to"]
    will = question(COUNTERFACTUAL, happens, ("red", "blue"), ("red", "green"))
    assert removed_object(will, THINGS) == 2
    assert answer_counterfactual(will, THINGS, gaps(-0.1, np.inf, np.inf)) == [True, False]
    assert answer_counterfactual(will, THINGS, gaps(0.1, np.inf, np.inf)) == [False, False]
    not_ = dataclasses.replace(will, program=[*happens, "negate"])
    assert answer_counterfactual(not_, THINGS, gaps(-0.1, np.inf, np.inf)) == [False, True]


def described(tokens: list[str], things: list[Thing]) -> int:
    """The object that a program's tokens describe."""
    values = {token for token in tokens if any(token in (t.color, t.material, t.shape) for t in things)}
    (found,) = [k for k, t in enumerate(things) if values <= {t.color, t.material, t.shape}]
    return found


def test_the_true_future_gives_nearly_correct_answers(dataset: Dataset, fitted: Path) -> None:
    """And agrees with a simple reader: true positions, and the pair whose centres come nearest."""
    split = dataset.split("validation")
    plain = {}
    for scene in json.loads(split.questions_file.read_bytes()):
        v = scene["scene_index"] - int(split.scene_index[0])
        things = split.truth.scene(v).things
        position = split.truth.position[v, 128 : 128 + FRAMES]
        for q in scene["questions"]:
            if q["question_type"] == "predictive":
                near = []
                for choice in q["choices"]:
                    middle = choice["program"].index("filter_collision")
                    halves = choice["program"][:middle], choice["program"][middle:]
                    a, b = (described(half, things) for half in halves)
                    near.append(min(np.hypot(*(position[:, a] - position[:, b]).T)))
                plain[scene["scene_index"], q["question_id"]] = q["choices"][int(np.argmin(near))]["answer"] == "correct"
    table = pd.read_parquet(fitted / "true_future.parquet")
    mine = table[table["category"] == "predictive"].groupby(["scene", "question_id"])["correct"].all()
    assert len(mine) == len(plain) > 10
    assert mine.mean() >= 0.9 and np.mean([mine[place] == right for place, right in plain.items()]) >= 0.9


def test_the_order_of_the_levels(fitted: Path) -> None:
    found = {name: json.loads((fitted / "metrics.json").read_text())["levels"][name] for name in reference_levels.LEVELS}
    predictive = {name: level["per_question"].get("predictive") for name, level in found.items()}
    assert predictive["true_future"] > predictive["copy_last"] and predictive["linear"] >= predictive["copy_last"]
    imagined = {name: level["per_option"].get("counterfactual") for name, level in found.items()}
    assert imagined["true_future"] > 90 > imagined["unchanged"] and imagined["linear"] is None


def test_a_question_without_a_program_is_an_error(dataset: Dataset, tmp_path: Path) -> None:
    split = dataset.split("validation")
    scenes = json.loads(split.questions_file.read_bytes())
    first = next(q for scene in scenes for q in scene["questions"] if q["question_type"] == "predictive")
    del first["program"]
    (tmp_path / "q.json").write_text(json.dumps(scenes))
    with pytest.raises(DataError, match=r"q\.json, scene 10\d+, question \d+: program is missing"):
        read_questions(tmp_path / "q.json", split.scene_index, (PREDICTIVE,))


def test_no_object_in_view_is_an_error(dataset: Dataset) -> None:
    split = dataset.split("train")
    known = from_truth(split, 2)
    with pytest.raises(DataError, match="in view"):
        fit(np.array(split.slots[:2]), dataclasses.replace(known, inside=np.zeros_like(known.inside)), 8)


def test_ancestry_is_what_happened_less_what_descends_from_the_object(dataset: Dataset, fitted: Path) -> None:
    """By the causes of the simulator's events: a collision is left if the object is neither in it nor in a cause of it."""
    split = dataset.split("validation")
    literal = []
    for q in read_questions(split.questions_file, split.scene_index, (COUNTERFACTUAL,)):
        scene = split.truth.scene(q.video)
        k = removed_object(q, scene.things)
        events = [Event(frame, "collision", (a, b)) for frame, a, b in scene.collisions if frame < 128 + FRAMES]
        gap = np.full((6, 6), np.inf)
        for event, causes in ancestors(events).items():
            if not any(k in one.objects for one in (event, *causes)):
                gap[event.objects] = gap[event.objects[::-1]] = -1
        literal += answer_counterfactual(q, scene.things, gap)
    table = pd.read_parquet(fitted / "ancestry.parquet")
    assert len(literal) > 100 and table["prediction"].tolist() == literal


def test_the_words_alone_answer_as_they_do_for_all_categories(dataset: Dataset, fitted: Path) -> None:
    train, validation = dataset.split("train").questions, dataset.split("validation").questions
    whole = words_only_predictions(train, validation)
    whole = whole[whole["category"].isin([PREDICTIVE, COUNTERFACTUAL])]
    table = pd.read_parquet(fitted / "words.parquet")
    assert len(table) > 100 and table["correct"].tolist() == whole["correct"].tolist()


def test_stores_of_before_have_no_later_levels(dataset: Dataset, tmp_path: Path) -> None:
    old = made(dataset, tmp_path / "old", dataclasses.replace(READER, reach="all"))
    assert not any((old / f"{name}.parquet").exists() for name in ("ancestry", "words")) and (old / "unchanged.parquet").exists()
    assert set(json.loads((old / "metrics.json").read_text())["levels"]) == {"true_future", "linear", "copy_last", "unchanged"}
