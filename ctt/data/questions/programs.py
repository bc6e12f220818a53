"""CLEVRER's question programs: a postfix language on a stack, type-checked and run on a world.

It has the 47 tokens of the official files and the names of the paper's released executor (ALIASES). A choice is
evaluated by its program followed by the question's: "yes" is correct. Where the paper's text and its executor differ,
the text is followed: an object is also responsible for the events that it takes part in.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from ctt.core.errors import DataError
from ctt.data.scene import COLORS, MATERIALS, SHAPES
from ctt.data.synthetic.events import END, START, Event, World

ALIASES = {
    "query_frame": "get_frame",
    "query_object": "get_object",
    "query_collision_partner": "get_col_partner",
    "filter_counterfact": "get_counterfact",
}

_VALUES = {
    **dict.fromkeys(COLORS, "color"),
    **dict.fromkeys(MATERIALS, "material"),
    **dict.fromkeys(SHAPES, "shape"),
    **dict.fromkeys(("first", "second", "last"), "order"),
    "null": "frame",
}
_INPUTS = {
    "objects": "objects",
    "events": "events",
    "unseen_events": "events",
    "all_events": "events",
    "start": "event",
    "end": "event",
}
_ONE_OR_MORE = ("objects", "object")
# token: ((the types it takes, the last from the top of the stack), the type it gives); None: the type of one element
_SIGNATURES: dict[str, tuple[tuple[tuple[str, ...], ...], str | None]] = {
    "filter_color": ((("objects",), ("color",)), "objects"),
    "filter_material": ((("objects",), ("material",)), "objects"),
    "filter_shape": ((("objects",), ("shape",)), "objects"),
    "filter_moving": ((("objects",), ("frame",)), "objects"),
    "filter_stationary": ((("objects",), ("frame",)), "objects"),
    "filter_in": ((("events",), _ONE_OR_MORE), "events"),
    "filter_out": ((("events",), _ONE_OR_MORE), "events"),
    "filter_collision": ((("events",), _ONE_OR_MORE), "events"),
    "filter_before": ((("events",), ("event",)), "events"),
    "filter_after": ((("events",), ("event",)), "events"),
    "filter_order": ((("events",), ("order",)), "event"),
    "filter_ancestor": ((("events",), ("event",)), "events"),
    "filter_start": ((("events",),), "event"),
    "filter_end": ((("events",),), "event"),
    "get_frame": ((("event",),), "frame"),
    "get_object": ((("event",),), "object"),
    "get_col_partner": ((("event",), ("object",)), "object"),
    "get_counterfact": ((("events",), ("object",)), "events"),
    "unique": ((("objects", "events"),), None),
    "count": ((("objects", "events"),), "number"),
    "exist": ((("objects", "events"),), "yes or no"),
    "query_color": ((("object",),), "color"),
    "query_material": ((("object",),), "material"),
    "query_shape": ((("object",),), "shape"),
    "belong_to": ((("object", "event"), ("events",)), "yes or no"),
    "negate": ((("yes or no",),), "yes or no"),
}

_EXECUTOR_ONLY = {"filter_start", "filter_end"}
TOKENS = frozenset(_VALUES) | frozenset(_INPUTS) | (frozenset(_SIGNATURES) - _EXECUTOR_ONLY)
"""The 47 tokens of the official files."""


class Unanswerable(DataError):
    """A well-typed program without an answer in this scene, such as `unique` of two objects."""


def known_token(token: object) -> bool:
    """Whether `token` belongs to the language, by its official name or an alias."""
    return isinstance(token, str) and (token in TOKENS or token in _SIGNATURES or token in ALIASES)


def type_check(program: Sequence[str], given: Sequence[str] = ()) -> str:
    """The type of the value that `program` leaves on a stack with values of the types `given`, the last on top.

    The question part of a multiple-choice program is checked with given=("event",) or after its choice's program.
    Raises DataError naming token and position (from 0) if a token is unknown, lacks an argument or takes one of the
    wrong type, or if the program does not leave exactly one value.
    """
    stack = list(given)
    for position, written in enumerate(program):
        if not known_token(written):
            raise DataError(f"unknown program token {written!r} at position {position}")
        token = ALIASES.get(written, written)
        if token in _VALUES or token in _INPUTS:
            stack.append(_VALUES.get(token) or _INPUTS[token])
            continue
        takes, gives = _SIGNATURES[token]
        if len(stack) < len(takes):
            raise DataError(f"{written} at position {position} takes {len(takes)} values, the stack holds {len(stack)}")
        arguments = stack[-len(takes) :]
        del stack[-len(takes) :]
        for number, (accepted, got) in enumerate(zip(takes, arguments, strict=True), start=1):
            if got not in accepted:
                raise DataError(f"{written} at position {position} takes {' or '.join(accepted)} as value {number}, got {got}")
        stack.append(gives or arguments[0].removesuffix("s"))
    if len(stack) != 1:
        raise DataError(f"the program leaves {len(stack)} values at its end (position {len(program)}), not one")
    return stack[0]


class _Causes(tuple[Event, ...]):
    """The ancestors of `outcome` among some events."""

    outcome: Event


def execute(program: Sequence[str], world: World) -> Any:
    """The result of `program`: a number, a word ("yes", "red" …), an object's number, an Event or a tuple of them.

    The program must be well typed (`type_check`). Raises Unanswerable naming token and position if it has no answer in
    this scene.
    """
    stack: list[Any] = []
    position = -1
    try:
        for token in program:
            position += 1
            takes, run = _STEPS[token]
            if takes == 2:
                last = stack.pop()
                stack[-1] = run(world, stack[-1], last)
            elif takes == 1:
                stack[-1] = run(world, stack[-1])
            else:
                stack.append(run(world))
    except Unanswerable as reason:
        raise Unanswerable(f"{program[position]} at position {position}: {reason}") from None
    return stack[-1]


def answer(program: Sequence[str], world: World) -> str:
    """The answer of a complete program in the notation of the official files: "2", "yes", "red"."""
    return str(execute(program, world))


def _filter_attribute(attribute: str) -> Callable[..., tuple[int, ...]]:
    def run(world: World, objects: tuple[int, ...], value: str) -> tuple[int, ...]:
        things = world.things
        return tuple([k for k in objects if getattr(things[k], attribute) == value])

    return run


def _filter_motion(moving: bool) -> Callable[..., tuple[int, ...]]:
    def run(world: World, objects: tuple[int, ...], frame: int | None) -> tuple[int, ...]:
        chosen = world.in_state(moving, frame)
        return tuple([k for k in objects if k in chosen])

    return run


def _filter_kind(kind: str) -> Callable[..., tuple[Event, ...]]:
    def run(world: World, events: tuple[Event, ...], objects: int | tuple[int, ...]) -> tuple[Event, ...]:
        wanted = {objects} if isinstance(objects, int) else set(objects)
        return tuple([e for e in events if e.kind == kind and not wanted.isdisjoint(e.objects)])

    return run


def _unique(world: World, found: tuple[Any, ...]) -> Any:
    if len(found) != 1:
        raise Unanswerable(f"there are {len(found)}, not one")
    return found[0]


def _filter_order(world: World, events: tuple[Event, ...], order: str) -> Event:
    at = {"first": 0, "second": 1, "last": -1}[order]
    if not -1 <= at < len(events) or not events:
        raise Unanswerable(f"there are {len(events)} events, so no {order} one")
    return events[at]


def _filter_ancestor(world: World, events: tuple[Event, ...], outcome: Event) -> _Causes:
    closed = world.ancestors.get(outcome, frozenset())
    causes = _Causes(e for e in events if e in closed)
    causes.outcome = outcome
    return causes


def _get_object(world: World, event: Event) -> int:
    if event.kind not in ("in", "out"):
        raise Unanswerable(f"the event is a {event.kind}, which has no single object")
    return event.objects[0]


def _get_frame(world: World, event: Event) -> int:
    if event.frame < 0:
        raise Unanswerable("a hypothetical event has no frame")
    return event.frame


def _get_col_partner(world: World, event: Event, k: int) -> int:
    if event.kind != "collision" or k not in event.objects:
        raise Unanswerable("the event is not a collision of that object")
    return event.objects[0] if event.objects[1] == k else event.objects[1]


def _get_counterfact(world: World, events: tuple[Event, ...], k: int) -> tuple[Event, ...]:
    happens = {(e.kind, e.objects) for e in world.without(k)}
    return tuple(e for e in events if (e.kind, e.objects) in happens)


def _belong_to(world: World, entry: int | Event, events: tuple[Event, ...]) -> str:
    if isinstance(entry, Event):
        return _yes(any(e.kind == entry.kind and e.objects == entry.objects for e in events))
    takes_part = isinstance(events, _Causes) and entry in events.outcome.objects
    return _yes(takes_part or any(entry in e.objects for e in events))


def _yes(truth: bool) -> str:
    return "yes" if truth else "no"


_READ: dict[str, Callable[[World], Any]] = {
    "objects": lambda world: world.objects,
    "events": lambda world: world.events,
    "unseen_events": lambda world: world.unseen,
    "all_events": lambda world: world.hypothetical,
    "start": lambda world: START,
    "end": lambda world: END,
}
_RUN: dict[str, Callable[..., Any]] = {
    "filter_color": _filter_attribute("color"),
    "filter_material": _filter_attribute("material"),
    "filter_shape": _filter_attribute("shape"),
    "filter_moving": _filter_motion(True),
    "filter_stationary": _filter_motion(False),
    "filter_in": _filter_kind("in"),
    "filter_out": _filter_kind("out"),
    "filter_collision": _filter_kind("collision"),
    "filter_before": lambda world, events, event: tuple(e for e in events if e.frame < event.frame),
    "filter_after": lambda world, events, event: tuple(e for e in events if e.frame > event.frame),
    "filter_order": _filter_order,
    "filter_ancestor": _filter_ancestor,
    "filter_start": lambda world, events: START,
    "filter_end": lambda world, events: END,
    "get_frame": _get_frame,
    "get_object": _get_object,
    "get_col_partner": _get_col_partner,
    "get_counterfact": _get_counterfact,
    "unique": _unique,
    "count": lambda world, found: len(found),
    "exist": lambda world, found: _yes(len(found) > 0),
    "query_color": lambda world, k: world.things[k].color,
    "query_material": lambda world, k: world.things[k].material,
    "query_shape": lambda world, k: world.things[k].shape,
    "belong_to": _belong_to,
    "negate": lambda world, answer: _yes(answer == "no"),
}


def _value(token: str) -> Callable[[World], Any]:
    value = None if token == "null" else token
    return lambda world: value


_STEPS: dict[str, tuple[int, Callable[..., Any]]] = {
    **{token: (0, _value(token)) for token in _VALUES},
    **{token: (0, run) for token, run in _READ.items()},
    **{token: (len(_SIGNATURES[token][0]), run) for token, run in _RUN.items()},
}
"""Per token: the number of values it takes, and its function."""
_STEPS |= {alias: _STEPS[token] for alias, token in ALIASES.items()}
