"""The program language: types, answers on a small scene, and the names of the released executor."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ctt.core.errors import DataError
from ctt.data.questions.programs import ALIASES, TOKENS, Unanswerable, answer, execute, known_token, type_check
from ctt.data.scene import TOTAL, Scene, Thing
from ctt.data.synthetic.events import Event, World
from tests.data.synthetic.made_scenes import made_scene
from tests.shared import SHARED, needs_shared


@pytest.fixture(scope="module")
def world():
    """A red metal cube (0) enters at 10 and hits the blue rubber cube (1) at 30, which hits the red sphere (2) at 60;
    the sphere leaves at 90. The sphere and the cylinder (3) collide at 140. The cylinder rests; 0 and 1 move."""
    things = [
        Thing("red", "metal", "cube"),
        Thing("blue", "rubber", "cube"),
        Thing("red", "rubber", "sphere"),
        Thing("gray", "metal", "cylinder"),
    ]
    inside = np.ones((TOTAL, 4), bool)
    inside[:10, 0] = False
    inside[90:, 2] = False
    position = np.zeros((TOTAL, 4, 2), np.float32)
    position[:, :2, 0] = np.arange(TOTAL)[:, None] * 0.01
    return World(
        Scene(
            index=0,
            things=things,
            position=position,
            velocity=np.zeros_like(position),
            orientation=np.zeros((TOTAL, 4), np.float32),
            inside=inside,
            collisions=[(30, 0, 1), (60, 1, 2), (140, 2, 3)],
            without={0: [(50, 1, 3)], 1: [(70, 0, 2)], 2: [(30, 0, 1)], 3: [(30, 0, 1), (60, 1, 2)]},
        )
    )


CUBE0, SPHERE, CYLINDER = (
    "objects metal filter_material cube filter_shape unique",
    "objects sphere filter_shape unique",
    "objects gray filter_color unique",
)
CUBE1 = "objects blue filter_color unique"
OUTCOME = f"events events {SPHERE} filter_out unique filter_ancestor belong_to"


@pytest.mark.parametrize(
    ("program", "expected"),
    [
        ("objects red filter_color count", "2"),
        ("objects start get_frame filter_moving count", "1"),
        ("objects end get_frame filter_moving count", "2"),
        ("objects end get_frame filter_stationary unique query_shape", "cylinder"),
        ("objects null filter_stationary count", "2"),
        (f"objects cube filter_shape events {CUBE0} filter_in unique get_frame filter_moving exist", "yes"),
        ("events objects filter_collision count", "2"),
        ("unseen_events objects filter_collision count", "1"),
        ("all_events count", "6"),
        (f"events objects filter_collision events {SPHERE} filter_out unique filter_before count", "2"),
        (f"events objects filter_collision events {SPHERE} filter_out unique filter_after exist", "no"),
        (f"events {CUBE1} filter_collision first filter_order {CUBE1} get_col_partner query_material", "metal"),
        (f"events {CUBE1} filter_collision second filter_order {CUBE1} get_col_partner query_shape", "sphere"),
        (f"events {CUBE1} filter_collision last filter_order {CUBE1} get_col_partner query_color", "red"),
        ("events objects filter_in unique get_object query_color", "red"),
        (f"{CUBE0} {OUTCOME}", "yes"),
        (f"{CYLINDER} {OUTCOME}", "no"),
        (f"{CYLINDER} {OUTCOME} negate", "yes"),
        (f"{SPHERE} {OUTCOME}", "yes"),
        (f"events {CUBE0} filter_in unique {OUTCOME}", "yes"),
        (f"events {SPHERE} filter_out unique {OUTCOME}", "no"),
        (f"all_events {SPHERE} filter_collision {CYLINDER} filter_collision unique unseen_events belong_to", "yes"),
        (f"all_events {SPHERE} filter_collision {CUBE1} filter_collision unique unseen_events belong_to", "no"),
        (
            f"all_events {CUBE1} filter_collision {CYLINDER} filter_collision unique all_events {CUBE0} get_counterfact belong_to",
            "yes",
        ),
        (
            f"all_events {CUBE1} filter_collision {CYLINDER} filter_collision unique "
            f"all_events {SPHERE} get_counterfact belong_to negate",
            "yes",
        ),
    ],
)
def test_programs_give_the_expected_answers(world, program, expected):
    type_check(program.split())
    assert answer(program.split(), world) == expected


def test_a_program_may_leave_an_object_or_an_event(world):
    assert execute(SPHERE.split(), world) == 2
    assert execute(f"events {CUBE0} filter_in unique".split(), world) == Event(10, "in", (0,))


@pytest.mark.parametrize(
    ("program", "complaint"),
    [
        ("objects red filter_color unique query_shape", "unique at position 3: there are 2"),
        ("events objects filter_out second filter_order get_object query_color", "filter_order at position 4"),
        (f"events objects filter_collision first filter_order {CYLINDER} get_col_partner", "get_col_partner"),
        ("events objects filter_collision first filter_order get_object", "get_object at position 5"),
        ("objects all_events first filter_order get_frame filter_moving", "get_frame at position 4"),
    ],
)
def test_errors_of_unanswerable_programs_name_position_and_reason(world, program, complaint):
    type_check(program.split())
    with pytest.raises(Unanswerable, match=complaint):
        execute(program.split(), world)


@pytest.mark.parametrize(
    ("program", "complaint"),
    [
        ("objects pink filter_color", "'pink' at position 1"),
        ("objects red filter_shape", "filter_shape at position 2 takes shape as value 2, got color"),
        ("red objects filter_color", "filter_color at position 2 takes objects as value 1, got color"),
        ("filter_color", "filter_color at position 0 takes 2 values, the stack holds 0"),
        ("objects unique unique", "unique at position 2"),
        ("objects count negate", "negate at position 2 takes yes or no"),
        ("events first unique", "unique at position 2"),
        ("objects objects", "leaves 2 values at its end"),
        ("", "leaves 0 values"),
        ("unseen_events belong_to", "belong_to at position 1"),
        ("objects events filter_moving", "filter_moving at position 2 takes frame"),
    ],
)
def test_ill_typed_programs_are_refused_by_token_and_position(program, complaint):
    with pytest.raises(DataError, match=complaint):
        type_check(program.split())


def test_tokens_that_are_not_text_are_refused():
    for token in (3, None, ["objects"], {"a": 1}):
        assert not known_token(token)
        with pytest.raises(DataError, match="position 0"):
            type_check([token])


def test_a_question_is_checked_with_its_choice_on_the_stack():
    assert type_check(["unseen_events", "belong_to"], given=("event",)) == "yes or no"
    with pytest.raises(DataError, match="belong_to"):
        type_check(["unseen_events", "belong_to"], given=("yes or no",))


def test_aliases_are_equivalent(world):
    pairs = [
        (f"events {CUBE1} filter_collision last filter_order {CUBE1} query_collision_partner query_color", "red"),
        ("events objects filter_in unique query_object query_color", "red"),
        ("objects events filter_end query_frame filter_moving count", "2"),
        ("objects events filter_start query_frame filter_moving count", "1"),
        (f"all_events {CUBE0} filter_counterfact count", "1"),
    ]
    for program, expected in pairs:
        type_check(program.split())
        assert answer(program.split(), world) == expected
    assert all(known_token(alias) and official in TOKENS for alias, official in ALIASES.items())


def test_other_names_are_unknown():
    assert not known_token("filter_resting") and not known_token("counterfact_events")


def test_there_are_47_tokens():
    assert len(TOKENS) == 47 and not TOKENS & set(ALIASES)


KINDS = {
    "objects": lambda v: isinstance(v, tuple) and all(isinstance(k, int) for k in v),
    "events": lambda v: isinstance(v, tuple) and all(isinstance(e, Event) for e in v),
    "object": lambda v: type(v) is int,
    "event": lambda v: isinstance(v, Event),
    "number": lambda v: type(v) is int,
    "frame": lambda v: v is None or type(v) is int,
    "yes or no": lambda v: v in ("yes", "no"),
    "color": lambda v: isinstance(v, str),
    "material": lambda v: v in ("metal", "rubber"),
    "shape": lambda v: v in ("cube", "sphere", "cylinder"),
    "order": lambda v: v in ("first", "second", "last"),
}
ANY_TOKENS = sorted(TOKENS) + sorted(ALIASES)


@given(st.data(), st.integers(0, 50))
@settings(max_examples=400, deadline=None)
def test_a_well_typed_program_runs_to_a_value_of_its_type(data, seed):
    """Random programs, extended by tokens that keep them well typed."""
    program = []
    for _ in range(data.draw(st.integers(1, 14))):
        fitting = [token for token in ANY_TOKENS if _stack_holds(program + [token])]
        program.append(data.draw(st.sampled_from(fitting)))
    try:
        kind = type_check(program)
    except DataError as error:
        assert "leaves" in str(error)
        return
    try:
        assert KINDS[kind](execute(program, World(made_scene(seed))))
    except Unanswerable as reason:
        assert "position" in str(reason)


def _stack_holds(program):
    """Whether every token of `program` has its arguments, regardless of the values left."""
    try:
        type_check(program)
    except DataError as error:
        return "leaves" in str(error)
    return True


@given(st.lists(st.sampled_from([*ANY_TOKENS, "pink", ""]), max_size=12))
@settings(max_examples=300, deadline=None)
def test_any_list_of_tokens_is_typed_or_refused(program):
    try:
        assert type_check(program) in KINDS
    except DataError as error:
        assert "position" in str(error)


@needs_shared
def test_programs_of_the_public_questions_type_check():
    checked = 0
    for scene in json.loads((SHARED / "clevrer" / "real_questions_train.json").read_text()):
        for question in scene["questions"]:
            for choice in question["choices"]:
                if "program" in question and "program" in choice:
                    assert type_check(choice["program"] + question["program"]) == "yes or no"
                    checked += 1
    assert checked > 2000
