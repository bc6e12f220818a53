"""The vocabulary: official words and ids, and a tokeniser that names unknown words."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ctt.core.errors import DataError
from ctt.data.questions.vocab import ANSWERS, CATEGORIES, QUESTION_WORDS, answer_id, tokenise, unknown_words
from tests.shared import SHARED, needs_shared


@needs_shared
def test_words_and_answers_have_the_official_ids():
    official = json.loads((SHARED / "clevrer" / "vocab.json").read_text())
    assert {word: i + 1 for i, word in enumerate(QUESTION_WORDS)} | {"PAD": 0} == official["q_vocab"]
    assert {word: i + 1 for i, word in enumerate(ANSWERS)} | {"PAD": 0} == official["a_vocab"]


def test_there_are_81_words_and_21_answers_in_alphabetical_order():
    assert len(QUESTION_WORDS) == 81 and len(ANSWERS) == 21
    assert list(ANSWERS) == sorted(ANSWERS)
    assert CATEGORIES == ("descriptive", "explanatory", "predictive", "counterfactual")


def test_commas_and_possessives_are_part_of_their_word():
    assert tokenise("If the cube is removed, what will happen?") == [41, 71, 16, 42, 59, 75, 78, 39]
    assert tokenise("the cube's entrance") == [71, 17, 29]


@given(st.lists(st.sampled_from(range(1, 82)), max_size=20), st.booleans(), st.booleans())
def test_ids_do_not_depend_on_case_or_question_mark(ids, capital, question_mark):
    text = " ".join(QUESTION_WORDS[i - 1] for i in ids) + ("?" if question_mark else "")
    assert tokenise(text.capitalize() if capital else text) == ids


@given(st.text(max_size=40))
def test_any_text_is_tokenised_or_its_first_unknown_word_is_named(text):
    unknown = unknown_words(text)
    if not unknown:
        assert all(1 <= i <= 81 for i in tokenise(text))
        return
    with pytest.raises(DataError) as error:
        tokenise(text)
    assert repr(unknown[0]) in str(error.value)


def test_answers_have_classes_from_one():
    assert (answer_id("0"), answer_id("yes"), answer_id("metal")) == (1, 21, 14)
    for wrong in ("6", "Yes", "", None, 3, ["yes"]):
        with pytest.raises(DataError, match="21 answers"):
            answer_id(wrong)


@needs_shared
def test_every_word_of_the_public_questions_is_known():
    for scene in json.loads((SHARED / "clevrer" / "real_questions_train.json").read_text()):
        for question in scene["questions"]:
            assert 0 < len(tokenise(question["question"])) <= 20
            assert all(0 < len(tokenise(choice["choice"])) <= 12 for choice in question["choices"])
