"""QuestionTable: an official file as arrays; errors name file, scene and question."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ctt.core.errors import DataError
from ctt.data.questions.question_table import QuestionTable
from ctt.data.questions.sampling import balance, enumerate_questions, strip_answers
from ctt.data.questions.vocab import ANSWERS, CATEGORIES, QUESTION_WORDS, tokenise
from tests.data.synthetic.made_scenes import made_scene
from tests.shared import SHARED, needs_shared

SCENES = 12


@pytest.fixture(scope="module")
def official():
    candidates = [enumerate_questions(made_scene(seed), np.random.default_rng(seed)) for seed in range(SCENES)]
    return balance(candidates, seed=0)


def fresh(official):
    return json.loads(json.dumps(official))


def flat(scenes):
    """The expected rows, computed with plain loops."""
    for scene in scenes:
        for question in scene["questions"]:
            for choice in question.get("choices", [None]):
                yield scene["scene_index"], question, choice


def text_of(ids):
    return " ".join(QUESTION_WORDS[i - 1] for i in ids if i)


def test_every_row_has_the_values_of_the_file(official):
    order = np.array([3, 1, 0, 2, *range(4, SCENES)])  # videos need not be in the order of the scenes
    table = QuestionTable.build(official, order)
    rows = list(flat(official))
    assert len(table) == len(rows) and table.answered
    for row, (scene, question, choice) in enumerate(rows):
        assert (table.scene[row], order[table.video[row]]) == (scene, scene)
        assert table.question_id[row] == question["question_id"]
        assert CATEGORIES[table.category[row]] == question["question_type"]
        assert table.forms[table.form[row]].startswith(question["question_type"])
        assert text_of(table.question_tokens[row]) == question["question"].lower().removesuffix("?")
        if choice is None:
            assert table.choice_id[row] == -1 and not table.choice_tokens[row].any()
            assert ANSWERS[table.answer[row] - 1] == question["answer"]
        else:
            assert table.choice_id[row] == choice["choice_id"]
            assert text_of(table.choice_tokens[row]) == choice["choice"].lower()
            assert table.answer[row] == (choice["answer"] == "correct")


def test_types_and_shapes(official):
    table = QuestionTable.build(official, np.arange(SCENES))
    assert table.question_tokens.shape == (len(table), 20) and table.choice_tokens.shape == (len(table), 12)
    kinds = {name: getattr(table, name).dtype.name for name in ("video", "category", "question_tokens", "answer")}
    assert kinds == {"video": "int32", "category": "int8", "question_tokens": "uint8", "answer": "int8"}


def test_a_test_split_has_unknown_answers(official):
    table = QuestionTable.build(strip_answers(official), np.arange(SCENES))
    assert set(table.answer.tolist()) == {-1} and not table.answered
    known = QuestionTable.build(official, np.arange(SCENES))
    assert (table.question_tokens == known.question_tokens).all() and table.forms == known.forms


def test_a_loaded_table_equals_the_saved_one(official, tmp_path):
    table = QuestionTable.build(official, np.arange(SCENES))
    table.save(tmp_path / "table.npz")
    loaded = QuestionTable.load(tmp_path / "table.npz")
    assert loaded.forms == table.forms
    for name in ("video", "scene", "question_id", "choice_id", "category", "form", "answer", "choice_tokens"):
        assert (getattr(loaded, name) == getattr(table, name)).all()
        assert getattr(loaded, name).dtype == getattr(table, name).dtype


def test_a_damaged_table_is_refused(official, tmp_path):
    path = tmp_path / "table.npz"
    QuestionTable.build(official, np.arange(SCENES)).save(path)
    whole = path.read_bytes()
    for damaged in (b"", whole[: len(whole) // 2], b"no table at all", whole[:-40]):
        path.write_bytes(damaged)
        with pytest.raises(DataError, match=r"table\.npz"):
            QuestionTable.load(path)
    with pytest.raises(DataError, match=r"gone\.npz"):
        QuestionTable.load(tmp_path / "gone.npz")


def test_reading_a_file(official, tmp_path):
    path = tmp_path / "validation.json"
    path.write_text(json.dumps(official))
    assert len(QuestionTable.read(path, np.arange(SCENES))) == len(list(flat(official)))
    path.write_text(json.dumps(official)[:-200])
    with pytest.raises(DataError, match=r"validation\.json is not valid JSON"):
        QuestionTable.read(path, np.arange(SCENES))
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(DataError, match=r"validation\.json is not valid JSON"):
        QuestionTable.read(path, np.arange(SCENES))
    with pytest.raises(DataError, match=r"train\.json is missing"):
        QuestionTable.read(tmp_path / "train.json", np.arange(SCENES))


def choices_of(question):
    question["choices"] = [dict(choice_id=0, choice="The cube and the sphere collide", answer="correct")]
    question.update(question_type="predictive", question="What will happen next?")
    return question["choices"]


MALFORMED = {
    "questions is missing": lambda s, q: s.pop("questions"),
    "questions must be a list, got an object": lambda s, q: s.update(questions={}),
    "question 0: question_id is missing": lambda s, q: q.pop("question_id"),
    "question 0: question_id must be an integer, got true or false": lambda s, q: q.update(question_id=True),
    "question 0: question_id must be from 0": lambda s, q: q.update(question_id=-1),
    "question 1: the question_id occurs twice": lambda s, q: q.update(question_id=1),
    "question 0: question_type must be one of": lambda s, q: q.update(question_type="funny"),
    "question 0: question_type is missing": lambda s, q: q.pop("question_type"),
    "question 0: question must be a text, got null": lambda s, q: q.update(question=None),
    "question 0: the word 'elephants' is not": lambda s, q: q.update(question="How many elephants enter the scene?"),
    "question 0: .* more than the 20": lambda s, q: q.update(question="how " * 21),
    "question 0: '6' is not one of": lambda s, q: q.update(answer="6"),
    "question 0: None is not one of": lambda s, q: q.update(answer=None),
    "question 0: choices is missing": lambda s, q: q.update(question_type="predictive"),
    "question 0: choices is empty": lambda s, q: choices_of(q).clear(),
    "question 0: choice 0 must be an object, got|question 0: choice 0 must be an object": lambda s, q: choices_of(q).insert(
        0, "The cube"
    ),
    "question 0: choice 0: choice_id is missing": lambda s, q: choices_of(q)[0].pop("choice_id"),
    "question 0: choice 1: the choice_id 0 occurs twice": lambda s, q: choices_of(q).append(q["choices"][0]),
    "question 0: choice 0: choice must be a text": lambda s, q: choices_of(q)[0].update(choice=["x"]),
    "question 0: choice 0: answer must be correct or wrong, got 'yes'": lambda s, q: choices_of(q)[0].update(answer="yes"),
    "question 0: choice 0: answer must be correct or wrong, got None": lambda s, q: choices_of(q)[0].update(answer=None),
    "question 0: .* more than the 12": lambda s, q: choices_of(q)[0].update(choice="cube " * 13),
    "question 0: a question must be an object, not a text": lambda s, q: s["questions"].insert(0, "What?"),
}


@pytest.mark.parametrize("complaint", MALFORMED)
def test_malformed_questions_are_named_with_file_scene_and_question(official, complaint):
    broken = fresh(official)
    scene = broken[4]
    MALFORMED[complaint](scene, scene["questions"][0])
    with pytest.raises(DataError, match=f"some file, scene 4(, |: )({complaint})"):
        QuestionTable.build(broken, np.arange(SCENES), "some file")


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (lambda d: d.append("scene"), "entry 12: a scene must be an object, not a text"),
        (lambda d: d[3].pop("scene_index"), "entry 3: scene_index is missing"),
        (lambda d: d[3].update(scene_index="3"), "entry 3: scene_index must be an integer, got a text"),
        (lambda d: d.append(d[5]), "scene 5: the scene occurs twice"),
        (lambda d: d[0].update(scene_index=99), "scene 99: the split has no video of this scene"),
    ],
)
def test_malformed_scenes_are_named(official, change, complaint):
    broken = fresh(official)
    change(broken)
    with pytest.raises(DataError, match=complaint):
        QuestionTable.build(broken, np.arange(SCENES), "some file")


@pytest.mark.parametrize("content", [{}, None, "x", 3])
def test_a_file_without_a_list_is_refused(content, tmp_path):
    (tmp_path / "q.json").write_text(json.dumps(content))
    with pytest.raises(DataError, match=r"q\.json must hold a list of scenes"):
        QuestionTable.read(tmp_path / "q.json", np.arange(3))


def test_an_empty_file_is_an_empty_table():
    table = QuestionTable.build([], np.arange(3))
    assert len(table) == 0 and table.question_tokens.shape == (0, 20) and table.forms == []


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


@given(st.integers(0, 10**6), json_values)
@settings(max_examples=300, deadline=None)
def test_any_value_anywhere_gives_a_table_or_one_clear_error(official, where, value):
    """One random value of the file is replaced by an arbitrary JSON value."""
    broken = fresh(official[:2])
    places = list(_places(broken))
    holder, key = places[where % len(places)]
    holder[key] = value
    try:
        table = QuestionTable.build(broken, np.arange(SCENES), "some file")
    except DataError as error:
        assert "some file" in str(error)
    else:
        assert table.question_tokens.shape == (len(table), 20)


def _places(node):
    for key, inner in node.items() if isinstance(node, dict) else enumerate(node):
        yield node, key
        if isinstance(inner, (dict, list)):
            yield from _places(inner)


@needs_shared
def test_the_public_questions_become_a_table():
    path = SHARED / "clevrer" / "real_questions_train.json"
    table = QuestionTable.read(path, np.arange(10000))
    rows = list(flat(json.loads(path.read_text())))
    assert len(table) == len(rows) and table.answered
    assert table.answer.tolist() == [int(choice["answer"] == "correct") for _, _, choice in rows]
    assert [t[t > 0].tolist() for t in table.choice_tokens] == [tokenise(c["choice"]) for _, _, c in rows]
