"""Checks of question files: real ones have no problems, and every kind of mistake is located."""

from __future__ import annotations

import copy
import gzip
import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ctt.core.errors import DataError
from ctt.data import composition
from ctt.data.clevrer import official_figures
from ctt.data.clevrer.question_file import check_file, problem_count
from ctt.data.composition import lines, statistics
from ctt.data.questions.vocab import ANSWERS, CATEGORIES, QUESTION_WORDS, tokenise
from tests.data.clevrer.official_files import scene
from tests.shared import SHARED, needs_shared

REAL = SHARED / "clevrer" / "real_questions_train.json"
LISTS = ("unknown_words", "unknown_program_tokens", "ill_typed_programs", "errors")


@needs_shared
def test_real_questions_have_no_problems():
    found = check_file(REAL)
    scenes = json.loads(REAL.read_text())
    questions = [question for entry in scenes for question in entry["questions"]]
    assert found["scenes"] == len(scenes) and problem_count(found) == 0
    assert found["questions"] == {c: sum(q["question_type"] == c for q in questions) for c in CATEGORIES}
    assert found["without_program"] == sum("program" not in q for q in questions) > 0


@needs_shared
def test_every_real_text_has_the_ids_of_the_published_vocabulary():
    ids = json.loads((SHARED / "clevrer" / "vocab.json").read_text())
    assert {word: i + 1 for i, word in enumerate(QUESTION_WORDS)} | {"PAD": 0} == ids["q_vocab"]
    assert {word: i + 1 for i, word in enumerate(ANSWERS)} | {"PAD": 0} == ids["a_vocab"]
    for entry in json.loads(REAL.read_text()):
        for question in entry["questions"]:
            for text in (question["question"], *(c["choice"] for c in question["choices"])):
                assert tokenise(text) == [ids["q_vocab"][w] for w in text.lower().replace("?", "").split(" ")]


@needs_shared
def test_the_official_figures_equal_the_published_statistics():
    facts = json.loads((SHARED / "clevrer" / "official_statistics.json").read_text())
    train = facts["train"]
    assert {s: facts[s]["videos"] for s in official_figures.VIDEOS} == official_figures.VIDEOS
    assert {s: facts[s]["by_type"] for s in official_figures.QUESTIONS} == official_figures.QUESTIONS
    assert train["descriptive_subtypes"] == official_figures.SUBTYPES
    assert train["descriptive_answers"] == official_figures.ANSWERS
    assert train["choices_per_mc_question"] == official_figures.OPTIONS
    assert train["choice_answers"] == official_figures.VERDICTS
    assert train["n_correct"] == official_figures.CORRECT
    assert {name: train["program_tokens"][name] for name in official_figures.TOKENS} == official_figures.TOKENS
    assert official_figures.TOKENS.keys() == train["program_tokens"].keys() - {"distinct"}


def test_the_official_figures_add_up():
    assert (
        sum(official_figures.SUBTYPES.values())
        == sum(official_figures.ANSWERS.values())
        == official_figures.QUESTIONS["train"]["descriptive"]
    )
    for category, by_right in official_figures.CORRECT.items():
        assert sum(by_right.values()) == official_figures.QUESTIONS["train"][category]
    assert sum(int(n) * count for n, count in official_figures.OPTIONS.items()) == sum(official_figures.VERDICTS.values())
    right = sum(int(n) * count for by in official_figures.CORRECT.values() for n, count in by.items())
    assert right == official_figures.VERDICTS["correct"]
    assert sum(sum(split.values()) for split in official_figures.QUESTIONS.values()) == 305_280


def checked(scenes, tmp_path):
    path = tmp_path / "q.json"
    path.write_text(json.dumps(scenes))
    return check_file(path)


def test_a_valid_file(tmp_path):
    found = checked([scene(7), scene(500), scene(3)], tmp_path)
    assert found == {
        "scenes": 3,
        "questions": {"descriptive": 3, "explanatory": 0, "predictive": 3, "counterfactual": 0},
        "without_program": 0,
        "other_forms": [],
        **{name: [] for name in LISTS},
    }
    assert checked([scene(15_000, answered=False)], tmp_path)["without_program"] == 2


def question(number, **change):
    return lambda scenes: scenes[1]["questions"][number].update(change)


def choice(**change):
    return lambda scenes: scenes[1]["questions"][1]["choices"][1].update(change)


WRONG = {
    "a word": (question(0, question="How many zebras happen?"), "unknown_words", "zebras"),
    "a word of a choice": (choice(choice="The red zebra and the cube collide"), "unknown_words", "zebra"),
    "a token": (question(0, program=["events", "filter_zebra"]), "unknown_program_tokens", "filter_zebra"),
    "a token that is a number": (question(0, program=["events", 5]), "unknown_program_tokens", "5"),
    "a token of a choice": (choice(program=["objcts", "unique"]), "unknown_program_tokens", "objcts"),
    "an argument missing": (
        question(0, program=["count"]),
        "ill_typed_programs",
        "scene 8, question 0: count at position 0",
    ),
    "a wrong type": (
        question(0, program=["events", "query_color"]),
        "ill_typed_programs",
        "scene 8, question 0: query_color at position 1 takes object",
    ),
    "values left over": (question(0, program=["events", "events", "count"]), "ill_typed_programs", "leaves 2 values"),
    "an empty program": (question(0, program=[]), "ill_typed_programs", "leaves 0 values"),
    "a program of another subtype": (
        question(0, program=["events", "objects", "filter_collision", "exist"]),
        "ill_typed_programs",
        "scene 8, question 0: a count question's program gives yes or no, not number",
    ),
    "objects for an answer": (
        lambda s: s[1]["questions"][0].update(program=["objects"]) or s[1]["questions"][0].pop("question_subtype"),
        "ill_typed_programs",
        "scene 8, question 0: a descriptive question's program gives objects, which is no answer",
    ),
    "an object as a predictive option": (
        choice(program=["objects", "red", "filter_color", "unique"]),
        "ill_typed_programs",
        "scene 8, question 1, choice 1: an option of a predictive question gives object, not event",
    ),
    "a token that does not exist": (
        question(0, program=["objects", "null", "filter_resting", "count"]),
        "unknown_program_tokens",
        "filter_resting",
    ),
    "a choice that gives a number": (
        choice(program=["objects", "count"]),
        "ill_typed_programs",
        "scene 8, question 1, choice 1: belong_to",
    ),
    "a question that gives events": (
        question(1, program=["unseen_events"]),
        "ill_typed_programs",
        "question 1, choice 0: the program leaves 2",
    ),
    "a program that is a text": (
        question(0, program="events count"),
        "errors",
        "scene 8, question 0: program must be a list",
    ),
    "no question_id": (
        lambda s: s[1]["questions"][1].pop("question_id"),
        "errors",
        "scene 8, question 1: question_id is missing",
    ),
    "a question_id twice": (
        question(1, question_id=0),
        "errors",
        "scene 8, question 0: the question_id occurs twice",
    ),
    "an unknown type": (
        question(0, question_type="guess"),
        "errors",
        "scene 8, question 0: question_type must be one of",
    ),
    "no text": (lambda s: s[1]["questions"][0].pop("question"), "errors", "scene 8, question 0: question is missing"),
    "a text that is a number": (question(0, question=5), "errors", "question must be a text"),
    "an unknown answer": (question(0, answer="7"), "errors", "scene 8, question 0: '7' is not one of"),
    "no choices": (lambda s: s[1]["questions"][1].pop("choices"), "errors", "scene 8, question 1: choices is missing"),
    "choices that are empty": (question(1, choices=[]), "errors", "choices is empty"),
    "an unknown verdict": (
        choice(answer="maybe"),
        "errors",
        "scene 8, question 1: choice 1: answer must be correct or wrong",
    ),
    "a choice_id twice": (choice(choice_id=0), "errors", "the choice_id 0 occurs twice"),
    "a question that is a list": (
        lambda s: s[1]["questions"].append([]),
        "errors",
        "scene 8, question 2: a question must be an object",
    ),
    "a scene that is a text": (lambda s: s.append("x"), "errors", "entry 3: a scene must be an object"),
    "a scene without index": (lambda s: s[1].pop("scene_index"), "errors", "entry 1: scene_index is missing"),
    "an index that is a fraction": (
        lambda s: s[1].update(scene_index=8.0),
        "errors",
        "entry 1: scene_index must be an integer, got a fraction",
    ),
    "an index that is huge": (lambda s: s[1].update(scene_index=10**40), "errors", "scene_index must be from 0 to"),
    "a scene twice": (lambda s: s.append(s[0]), "errors", "scene 7: the scene occurs twice"),
    "questions that are missing": (lambda s: s[1].pop("questions"), "errors", "scene 8: questions is missing"),
    "no words": (question(0, question=" "), "errors", "scene 8, question 0: has no words"),
    "an unknown subtype": (
        question(0, question_subtype="sum"),
        "errors",
        "scene 8, question 0: question_subtype must be one of count, exist,",
    ),
    "a program for options that is a text": (
        question(1, program="unseen_events"),
        "errors",
        "scene 8, question 1: program must be a list",
    ),
    "too many words": (question(0, question="What " * 21), "errors", "has 21 words, more than the 20"),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_mistake_is_listed_once_with_its_location(case, tmp_path):
    change, name, text = WRONG[case]
    scenes = [scene(7), scene(8), scene(9)]
    change(scenes)
    found = checked(scenes, tmp_path)
    assert any(text in entry for entry in found[name]), found
    others = [other for other in LISTS if other != name]
    assert not any(found[other] for other in others), found
    assert len(found[name]) == (2 if "leaves 2" in text and name == "ill_typed_programs" and "choice" in text else 1)


def test_objects_are_options_of_explanatory_questions_only(tmp_path):
    thing, hit = ["objects", "red", "filter_color", "unique"], scene(7)["questions"][1]["choices"][0]["program"]
    for category in CATEGORIES[1:]:
        for question_program in (["unseen_events", "belong_to"], None):
            entry = scene(7)
            entry["questions"][1].update(question_type=category, program=question_program)
            for place, program in enumerate((thing, hit)):
                entry["questions"][1]["choices"][place]["program"] = program
            found = checked([entry], tmp_path)
            assert problem_count(found) == len(found["ill_typed_programs"]) == (category != "explanatory")


def test_all_mistakes_are_listed_and_valid_questions_are_counted(tmp_path):
    scenes = [scene(7), scene(8), scene(9), "x"]
    for case in ("a word", "an unknown verdict"):
        WRONG[case][0](scenes)
    scenes[2]["questions"][0]["program"] = ["count"]
    scenes[2]["questions"].append(dict(scenes[2]["questions"][1], question_id=0))
    found = checked(scenes, tmp_path)
    assert found["unknown_words"] == ["zebras"] and len(found["ill_typed_programs"]) == 1
    assert [text.split(":")[0] for text in found["errors"]] == [
        "scene 8, question 1", "scene 9, question 0", "entry 3",
    ]  # fmt: skip
    assert found["scenes"] == 3 and problem_count(found) == 5
    assert found["questions"] == {"descriptive": 3, "explanatory": 0, "predictive": 2, "counterfactual": 0}


def test_a_null_program_counts_as_missing(tmp_path):
    scenes = [scene(7)]
    for question in scenes[0]["questions"]:
        question["program"] = None
    found = checked(scenes, tmp_path)
    assert found["without_program"] == 2 and problem_count(found) == 0


def places(node):
    for key, inner in node.items() if isinstance(node, dict) else enumerate(node):
        yield node, key
        if isinstance(inner, (dict, list)):
            yield from places(inner)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=4,
)


@given(st.integers(0, 10**6), json_values)
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_value_anywhere_gives_errors_of_one_line(tmp_path, where, value):
    scenes = [scene(7), scene(8)]
    among = list(places(scenes))
    holder, key = among[where % len(among)]
    holder[key] = value
    found = checked(scenes, tmp_path)
    assert all("\n" not in text and "\ud800" not in text for text in found["errors"] + found["ill_typed_programs"])
    assert found["scenes"] >= 1 and sum(found["questions"].values()) >= 2
    json.dumps(found)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "is not valid JSON"),
        (b'[{"scene_index": 1', "is not valid JSON .*cut off"),
        (b"\xff\xfe\x00", "is not valid JSON"),
        (b'["\xff"]', "is not valid JSON: it is not UTF-8 text"),
        (gzip.compress(b"[]", mtime=0), "is compressed; unpack it first"),  # a time stamp would change the test's name
        (b'{"a": 1}', "must hold a list of scenes"),
        (b"[" * 100_000, "is not valid JSON"),
    ],
)
def test_a_file_without_questions_is_one_error(data, message, tmp_path):
    path = tmp_path / "q.json"
    path.write_bytes(data)
    with pytest.raises(DataError, match=message):
        check_file(path)


def test_a_missing_file(tmp_path):
    with pytest.raises(DataError, match=r"q\.json is missing"):
        check_file(tmp_path / "q.json")
    with pytest.raises(DataError, match="is a folder, not a file"):
        check_file(tmp_path)


def test_statistics_are_counted(tmp_path):
    extra = copy.deepcopy(scene(3))
    extra["questions"].append({**copy.deepcopy(extra["questions"][1]), "question_id": 2, "question_type": "counterfactual"})
    extra["questions"][2]["choices"] = extra["questions"][2]["choices"][:1]
    found = statistics([scene(0), scene(1), extra])
    tokens = found["tokens"]
    assert tokens["events"] == tokens["count"] == 3
    # three questions about objects, and seven options of two objects each
    assert (tokens["all_events"], tokens["objects"], tokens["filter_collision"]) == (7, 3 + 14, 3 + 14)
    assert found == {
        "tokens": tokens,
        "videos": 3,
        "questions": {"descriptive": 3, "predictive": 3, "counterfactual": 1},
        "subtypes": {"count": 3},
        "answers": {"0": 2, "1": 1},
        "options": {"2": 3, "1": 1},
        "verdicts": {"correct": 3, "wrong": 4},
        "outcomes": {},
        "negated": {},
        "causes": {},
        "correct": {"explanatory": {}, "predictive": {"1": 3}, "counterfactual": {"0": 1}},
    }
    by_name = {(line.group, line.name): line for line in lines(found, "train")}
    line = by_name["answers", "0"]
    assert (line.count, round(line.share, 3), round(line.official, 3)) == (2, 66.667, round(100 * 9862 / 109952, 3))
    assert line.difference == line.share - line.official
    assert by_name["questions per 100 videos", "predictive"].share == 100
    assert by_name["questions per 100 videos", "predictive"].official == pytest.approx(71.79)
    hidden = lines(statistics([scene(15_000, answered=False)]), "test")
    assert all(line.share is None for line in hidden if line.group in ("answers", "options"))


@needs_shared
def test_the_wordings_of_the_real_explanatory_questions_are_counted():
    """Compared with a search for words; the shares agree with those of a larger sample."""
    scenes = json.loads(REAL.read_text())
    found = statistics(scenes)
    questions = [q for entry in scenes for q in entry["questions"] if q["question_type"] == "explanatory"]
    assert found["negated"]["not responsible"] == sum("not responsible" in q["question"] for q in questions)
    assert found["outcomes"]["the X's exit"] == sum(q["question"].endswith("exit?") for q in questions)
    assert sum(found["outcomes"].values()) == len(questions)
    choices = [c["choice"] for q in questions for c in q["choices"]]
    assert found["causes"]["the X's entrance"] == sum(text.endswith("'s entrance") for text in choices)
    compared = [line for line in lines(found, "train") if line.group.startswith("expla")]
    assert len(compared) == 11 and all(abs(line.difference) < 3 for line in compared)
    odd = dict(questions[0], question="Why?", choices=[dict(questions[0]["choices"][0], choice="who")])
    assert statistics([{"questions": [odd]}])["outcomes"] == statistics([{"questions": [odd]}])["causes"] == {"other": 1}


def test_official_counts_do_not_differ_from_themselves():
    found = {
        "videos": official_figures.VIDEOS["train"],
        "questions": official_figures.QUESTIONS["train"],
        "subtypes": official_figures.SUBTYPES,
        "answers": official_figures.ANSWERS,
        "options": official_figures.OPTIONS,
        "verdicts": official_figures.VERDICTS,
        "correct": official_figures.CORRECT,
        "outcomes": official_figures.OUTCOMES,
        "negated": official_figures.NEGATED,
        "causes": official_figures.CAUSES,
        "tokens": official_figures.TOKENS,
    }
    assert all(line.difference == 0 for line in composition.lines(found, "train"))
