"""Events, causes and responsibility, on small scenes and compared with a forward computation."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ctt.data.scene import COLORS, TOTAL, Scene, Thing
from ctt.data.synthetic.events import (
    END,
    MOVING_SPEED,
    START,
    Event,
    World,
    ancestors,
    direct_causes,
    event_responsible,
    events_of,
    object_responsible,
    speeds,
)
from tests.data.synthetic.made_scenes import made_scene


def bare_scene(inside, collisions, position=None, without=None):
    count = inside.shape[1]
    return Scene(
        index=0,
        things=[Thing(COLORS[k], "metal", "cube") for k in range(count)],
        position=np.zeros((TOTAL, count, 2), np.float32) if position is None else position,
        velocity=np.zeros((TOTAL, count, 2), np.float32),
        orientation=np.zeros((TOTAL, count), np.float32),
        inside=inside,
        collisions=collisions,
        without=without or {},
    )


@pytest.fixture
def chain():
    """0 enters and hits 1, 1 hits 2, 2 leaves; 3 enters, hits 0 and leaves after the given frames."""
    inside = np.ones((TOTAL, 4), bool)
    inside[:10, 0] = False
    inside[90:, 2] = False
    inside[:20, 3] = False
    inside[150:, 3] = False
    return bare_scene(inside, [(30, 0, 1), (60, 1, 2), (100, 0, 3), (140, 1, 3)])


def test_entering_and_leaving_are_read_from_the_view(chain):
    kinds = [(e.kind, e.frame, e.objects) for e in events_of(chain)]
    assert kinds == [
        ("in", 10, (0,)),
        ("in", 20, (3,)),
        ("collision", 30, (0, 1)),
        ("collision", 60, (1, 2)),
        ("out", 90, (2,)),
        ("collision", 100, (0, 3)),
        ("collision", 140, (1, 3)),
        ("out", 150, (3,)),
    ]


def test_events_are_unseen_from_frame_128(chain):
    chain.collisions[2:] = [(127, 0, 3), (128, 1, 3)]
    world = World(chain)
    assert world.events[-1] == Event(127, "collision", (0, 3))
    assert world.unseen == (Event(128, "collision", (1, 3)), Event(150, "out", (3,)))
    assert (START.frame, END.frame) == (0, 125)


def test_every_participant_contributes_a_cause(chain):
    enter, first, second = Event(10, "in", (0,)), Event(30, "collision", (0, 1)), Event(60, "collision", (1, 2))
    leaves, late, late_enter = Event(90, "out", (2,)), Event(100, "collision", (0, 3)), Event(20, "in", (3,))
    events = World(chain).events
    assert direct_causes(events)[late] == {first, late_enter}
    closed = ancestors(events)
    assert closed[leaves] == {enter, first, second}
    assert closed[late] == {enter, first, late_enter}
    assert closed[enter] == frozenset()
    assert event_responsible(enter, leaves, closed) and not event_responsible(late_enter, leaves, closed)
    assert not event_responsible(leaves, leaves, closed)


def test_an_object_is_responsible_by_taking_part_or_through_an_ancestor(chain):
    closed = ancestors(World(chain).events)
    leaves, first = Event(90, "out", (2,)), Event(30, "collision", (0, 1))
    assert [object_responsible(k, leaves, closed) for k in range(4)] == [True, True, True, False]
    assert [object_responsible(k, first, closed) for k in range(4)] == [True, True, False, False]


@given(st.integers(0, 10**6))
@settings(max_examples=200, deadline=None)
def test_ancestors_are_the_previous_influences_on_the_participants(seed):
    """Computed by passing influences forward in time instead of searching back."""
    events = World(made_scene(seed, least=2)).events
    closed, influence = ancestors(events), {}
    for event in events:
        before = frozenset().union(*(influence.get(k, frozenset()) for k in event.objects))
        assert closed[event] == before
        influence.update(dict.fromkeys(event.objects, before | {event}))


def test_speed_is_taken_between_the_frames_five_before_and_after():
    position = np.zeros((TOTAL, 1, 2), np.float32)
    position[:, 0, 0] = np.arange(TOTAL) / 25  # one unit per second
    position[128:] = 1000  # future frames must not count
    assert speeds(position) == pytest.approx(np.ones((128, 1)), abs=1e-5)
    position[60:, 0] = position[60, 0]
    slowed = speeds(position)[:, 0]
    assert slowed[54] == pytest.approx(1, abs=1e-5) and slowed[60] == pytest.approx(0.5, abs=1e-5)
    assert slowed[65:128].max() < 1e-5


def test_moving_and_stationary_include_only_visible_objects():
    position = np.zeros((TOTAL, 4, 2), np.float32)
    for k, pace in enumerate((0.0, MOVING_SPEED * 0.9, MOVING_SPEED * 1.1, 1.0)):
        position[:, k, 1] = np.arange(TOTAL) * pace / 25
    inside = np.ones((TOTAL, 4), bool)
    inside[40:, 3] = False
    world = World(bare_scene(inside, [], position))
    assert world.in_state(True, 20) == (2, 3) and world.in_state(False, 20) == (0, 1)
    assert world.in_state(True, 40) == (2,) and world.in_state(False, 40) == (0, 1)
    assert world.in_state(True, None) == (2, 3) and world.in_state(False, None) == (0, 1)


def test_what_happens_without_an_object_includes_the_future(chain):
    chain.without = {0: [(60, 1, 2), (170, 2, 3)]}
    world = World(chain)
    assert [e.objects for e in world.without(0)] == [(1, 2), (2, 3)]
    with pytest.raises(KeyError):
        world.without(1)
