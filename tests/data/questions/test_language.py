"""The language: texts and forms convert into each other, and every form has a well-typed program."""

import json
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ctt.core.errors import DataError
from ctt.data.questions.forms import FORMS, Description, unique_descriptions
from ctt.data.questions.language import form, parse_choice, parse_question
from ctt.data.questions.programs import type_check
from ctt.data.questions.vocab import CATEGORIES, CHOICE_LENGTH, QUESTION_LENGTH, tokenise
from ctt.data.scene import COLORS, MATERIALS, SHAPES, Thing
from tests.shared import SHARED, needs_shared

descriptions = st.builds(
    Description,
    st.none() | st.sampled_from(COLORS),
    st.none() | st.sampled_from(MATERIALS),
    st.none() | st.sampled_from(SHAPES),
)
LONGEST = Description("purple", "rubber", "cylinder")


@given(st.sampled_from(FORMS), st.data())
@settings(max_examples=600, deadline=None)
def test_a_text_parses_to_its_form_and_descriptions(made, data):
    places = {place: data.draw(descriptions) for place in made.places}
    parse = parse_choice if made.choice else parse_question
    parsed = parse(made.text(places), made.category)
    assert parsed.form.text(parsed.places) == made.text(places)
    assert parsed.form.program(parsed.places) == made.program(places)
    assert (parsed.form.name, parsed.form.category) == (made.name, made.category)


@pytest.mark.parametrize("made", FORMS, ids=lambda made: made.template)
def test_every_form_is_short_enough_and_well_typed(made):
    places = dict.fromkeys(made.places, LONGEST)
    assert len(tokenise(made.text(places))) <= (CHOICE_LENGTH if made.choice else QUESTION_LENGTH)
    if made.choice:
        assert type_check(made.program(places)) in ("object", "event")
    elif made.category == "descriptive":
        type_check(made.program(places))
    else:
        assert type_check(made.program(places), given=("event",)) == "yes or no"


def test_no_two_forms_have_the_same_text():
    texts = [(made.category, made.choice, made.template) for made in FORMS]
    assert len(set(texts)) == len(texts)


@pytest.mark.parametrize(
    ("text", "category", "program"),
    [
        (
            "What is the shape of the object to collide with the purple object?",
            "descriptive",
            "events objects purple filter_color unique filter_collision unique "
            "objects purple filter_color unique get_col_partner query_shape",
        ),
        (
            "Which event will happen if the cylinder is removed?",
            "counterfactual",
            "all_events objects cylinder filter_shape unique get_counterfact belong_to",
        ),
        ("What will happen next?", "predictive", "unseen_events belong_to"),
        (
            "How many stationary blue objects are there when the cube enters the scene?",
            "descriptive",
            "objects blue filter_color events objects cube filter_shape unique filter_in unique get_frame filter_stationary count",
        ),
    ],
)
def test_official_examples_have_their_official_programs(text, category, program):
    parsed = parse_question(text, category)
    assert parsed.form.program(parsed.places) == program.split()


def test_there_are_24_counterfactual_forms_with_clauses_in_both_orders():
    texts = {made.text({"X": Description(shape="cube")}) for made in FORMS if made.name in ("is", "not") and not made.choice}
    assert len(texts) == 24
    assert "Without the cube, which of the following will not happen?" in texts
    assert "What will happen if the cube is removed?" in texts


@pytest.mark.parametrize(
    "text",
    [
        "",
        "What?",
        "Which of the following is responsible for everything?",
        "What is the shape of the red object to collide with the cube?",
        "How many red cube enter the scene?",
        "what will happen next?",
        "What will happen next",
        "What will happen if the cubes is removed?",
    ],
)
def test_a_text_of_no_form_is_refused(text):
    with pytest.raises(DataError, match="none of the known forms"):
        parse_question(text)


def test_a_form_belongs_to_its_category():
    with pytest.raises(DataError, match="descriptive question"):
        parse_question("What will happen next?", "descriptive")
    with pytest.raises(DataError, match="explanatory choice"):
        parse_choice("The cube and the sphere collide", "explanatory")


things = st.lists(
    st.builds(Thing, st.sampled_from(COLORS[:3]), st.sampled_from(MATERIALS), st.sampled_from(SHAPES)),
    min_size=2,
    max_size=6,
    unique=True,
)


@given(things)
def test_unique_descriptions_are_all_those_that_fit_one_thing_only(things):
    every = [Description(c, m, s) for c in (None, *COLORS) for m in (None, *MATERIALS) for s in (None, *SHAPES)]
    for k, names in enumerate(unique_descriptions(things)):
        alone = {d for d in every if [j for j, thing in enumerate(things) if d.fits(thing)] == [k]}
        assert set(names) == alone and len(names) == len(alone) > 0
        lengths = [len(name.text().split()) for name in names]
        assert lengths == sorted(lengths) == [name.words for name in names]


def test_descriptions_read_as_english():
    assert Description().text(plural=True) == "objects"
    assert Description("red", None, "cube").text(plural=True) == "red cubes"
    assert LONGEST.text() == "purple rubber cylinder"


def test_names_of_forms_are_coarse():
    names = {}
    for made in FORMS:
        places = dict.fromkeys(made.places, LONGEST)
        if not made.choice:
            names.setdefault(made.category, set()).add(form({"question_type": made.category, "question": made.text(places)}))
    assert set(names) == set(CATEGORIES) and all(len(of) <= 21 for of in names.values())
    assert names["explanatory"] == {f"explanatory:{verb}:{outcome}" for verb in ("is", "not") for outcome in ("collision", "exit")}


def test_a_choice_refines_the_name_of_its_form():
    question = {
        "question_type": "explanatory",
        "question": "Which of the following is not responsible for the cube's exit?",
    }
    assert form(question) == "explanatory:not:exit"
    assert form(question, {"choice": "the presence of the red sphere"}) == "explanatory:not:presence"
    assert form(question, {"choice": "something else"}) == "explanatory:not:other"
    assert form({"question_type": "predictive", "question": "And then?"}) == "predictive:other"
    odd = {"question_type": "descriptive", "question_subtype": "count", "question": "How many?"}
    assert form(odd) == "descriptive:count:other"


@needs_shared
def test_every_public_question_parses_to_its_own_program():
    """The form reproduces its text exactly, and its program if the file has one."""
    texts = 0
    for scene in json.loads((SHARED / "clevrer" / "real_questions_train.json").read_text()):
        for question in scene["questions"]:
            category = question["question_type"]
            parsed = parse_question(question["question"], category)
            assert parsed.form.generated and parsed.form.text(parsed.places) == question["question"]
            assert parsed.form.program(parsed.places) == question.get("program", parsed.form.program(parsed.places))
            assert not re.search("other", form(question))
            for choice in question["choices"]:
                parsed = parse_choice(choice["choice"], category)
                assert parsed.form.text(parsed.places) == choice["choice"]
                assert parsed.form.program(parsed.places) == choice.get("program", parsed.form.program(parsed.places))
                texts += 1
    assert texts > 2000
