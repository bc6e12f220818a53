"""The language of CLEVRER's questions: every form as one text and one program, in one table.

A form's text has places: {X} and {Y} take the Description of one object ("red cube"), {Z} that of a set ("metal
objects"). In its program {X} becomes `objects … unique`, {Z} `objects …`.
Source: the forms of CLEVRER's public questions (https://arxiv.org/abs/1910.01442).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from itertools import product
from typing import NamedTuple

from ctt.data.scene import Thing


class Description(NamedTuple):
    """A description of one or more objects: colour, material and shape, each possibly None."""

    color: str | None = None
    material: str | None = None
    shape: str | None = None

    def text(self, plural: bool = False) -> str:
        """ "red metal cube"; without a shape "… object"; "cubes" if plural."""
        words = [word for word in (self.color, self.material, self.shape or "object") if word]
        return " ".join(words) + ("s" if plural else "")

    @property
    def words(self) -> int:
        return sum(value is not None for value in self) + (self.shape is None)

    @property
    def attributes(self) -> str:
        """What is named: "color shape"; "" of any object."""
        return " ".join(name for name, value in zip(self._fields, self, strict=True) if value)

    def filters(self) -> list[str]:
        """The program's tokens after `objects`."""
        named = ((self.color, "filter_color"), (self.material, "filter_material"), (self.shape, "filter_shape"))
        return [token for value, name in named if value for token in (value, name)]

    def fits(self, thing: Thing) -> bool:
        """Whether the description fits `thing`."""
        return self.color in (None, thing.color) and self.material in (None, thing.material) and self.shape in (None, thing.shape)


def unique_descriptions(things: Sequence[Thing]) -> list[tuple[Description, ...]]:
    """For every thing the descriptions that fit only it, the shortest first (no two things may be equal)."""
    found = []
    for thing in things:
        options = [
            Description(*(value if used else None for value, used in zip(_attributes(thing), mask, strict=True))) for mask in _MASKS
        ]
        unique = [d for d in options if sum(d.fits(other) for other in things) == 1]
        found.append(tuple(sorted(unique, key=lambda d: d.words)))
    return found


_MASKS = sorted(product((True, False), repeat=3), key=sum)[1:]  # all but the empty one


def _attributes(thing: Thing) -> tuple[str, str, str]:
    return thing.color, thing.material, thing.shape


@dataclass(frozen=True)
class Form:
    """One wording of a question or of a choice.

    name groups forms for breakdowns ("count:moving"); category is that of the question; generated: whether synthetic
    questions use it (the others are only parsed). detail is a quantity of targets.SHARES and this form's value of it: when
    a state is asked about ("moments"), which event is meant ("orders"), before or after what ("count relations").
    """

    name: str
    category: str
    template: str
    program_template: str
    choice: bool = False
    generated: bool = True
    detail: tuple[str, str] | None = None
    places: tuple[str, ...] = field(init=False)
    _parts: tuple[str, ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "places", tuple(re.findall(r"{(\w)}", self.template)))
        object.__setattr__(self, "_parts", tuple(self.program_template.split()))

    def text(self, places: Mapping[str, Description]) -> str:
        """The form's text with its places filled."""
        filled = self.template
        for place, description in places.items():
            filled = filled.replace("{" + place + "}", description.text(plural=place == "Z"))
        return filled

    def program(self, places: Mapping[str, Description]) -> list[str]:
        """The form's program with its places filled."""
        tokens: list[str] = []
        for part in self._parts:
            if part[0] == "{":
                tokens += _filled(places[part[1]], part[1] in "XY")
            else:
                tokens.append(part)
        return tokens


@cache
def _filled(description: Description, unique: bool) -> tuple[str, ...]:
    return ("objects", *description.filters(), "unique") if unique else ("objects", *description.filters())


# ---- the table ----

_STATES = ("moving", "stationary")
_CROSS = (("enters", "in"), ("exits", "out"))
_MOMENTS = (
    (" when the video begins", "start get_frame", "start"),
    (" when the video ends", "end get_frame", "end"),
    (" when the {X} enters the scene", "events {X} filter_in unique get_frame", "in"),
    (" when the {X} exits the scene", "events {X} filter_out unique get_frame", "out"),
    ("", "null", "whole video"),
)
_RELATIONS = (("", "", "none"),) + tuple(
    (f" {side} the {{X}} {verb} the scene", f" events {{X}} filter_{kind} unique filter_{side}", f"{side} {kind}")
    for side, (verb, kind) in product(("before", "after"), _CROSS)
)
_CROSSING_NAME = {"in": "entering", "out": "exiting"}


def _count_and_exist() -> Iterator[Form]:
    for state, (when, frame, moment) in product(_STATES, _MOMENTS):
        motion, detail = f"{frame} filter_{state}", ("moments", moment)
        for kind, text, ending, generated in (
            ("count", f"How many {{Z}} are {state}{when}?", "count", moment not in ("in", "out")),
            ("count", f"How many {state} {{Z}} are there{when}?", "count", moment != "start"),
            ("exist", f"Are there any {state} {{Z}}{when}?", "exist", True),
        ):
            yield Form(f"{kind}:{state}", "descriptive", text, f"{{Z}} {motion} {ending}", generated=generated, detail=detail)
    for (verb, kind), (relation, relate, side) in product(_CROSS, _RELATIONS):
        name, which = _CROSSING_NAME[kind], f"events {{Z}} filter_{kind}{relate}"
        yield Form(
            f"count:{name}",
            "descriptive",
            f"How many {{Z}} {verb[:-1]} the scene{relation}?",
            f"{which} count",
            detail=("count relations", side),
        )
        yield Form(
            f"exist:{name}",
            "descriptive",
            f"Are there any {{Z}} that {verb[:-1]} the scene{relation}?",
            f"{which} exist",
            generated=bool(relation),
            detail=("exist relations", side),
        )
    for relation, relate, side in _RELATIONS:
        yield Form(
            "count:collisions",
            "descriptive",
            f"How many collisions happen{relation}?",
            f"events objects filter_collision{relate} count",
            detail=("count relations", side),
        )


def _query() -> Iterator[Form]:
    for attribute, ask in product(("color", "material", "shape"), ("What {0} is", "What is the {0} of")):
        opening, query = ask.format(attribute), f"query_{attribute}"
        for order in ("", "first", "second", "last"):
            pick, word = (f"{order} filter_order", f"{order} ") if order else ("unique", "")
            detail = ("orders", order or "only")
            yield Form(
                f"{query}:partner",
                "descriptive",
                f"{opening} the {word}object to collide with the {{X}}?",
                f"events {{X}} filter_collision {pick} {{X}} get_col_partner {query}",
                detail=detail,
            )
            for verb, kind in _CROSS:
                yield Form(
                    f"{query}:{_CROSSING_NAME[kind]}",
                    "descriptive",
                    f"{opening} the {word}object that {verb} the scene?",
                    f"events objects filter_{kind} {pick} get_object {query}",
                    generated=order != "second",
                    detail=detail,
                )
        for state, (when, frame, moment) in product(_STATES, _MOMENTS):
            name, motion, detail = f"{query}:motion", f"{frame} filter_{state} unique {query}", ("moments", moment)
            yield Form(
                name,
                "descriptive",
                f"{opening} the object that is {state}{when}?",
                f"objects {motion}",
                generated=moment not in ("in", "out"),
                detail=detail,
            )
            yield Form(name, "descriptive", f"{opening} the {state} {{S}}{when}?", f"{{S}} {motion}", detail=detail)


_EVENTS = (
    (
        "the collision between the {X} and the {Y}",
        "events {X} filter_collision {Y} filter_collision unique",
        "collision",
    ),
    ("the {X}'s colliding with the {Y}", "events {X} filter_collision {Y} filter_collision unique", "collision"),
    ("the {X}'s exit", "events {X} filter_out unique", "exit"),
    ("the {X}'s exiting the scene", "events {X} filter_out unique", "exit"),
)


def _explanatory() -> Iterator[Form]:
    for (event, program, kind), negated in product(_EVENTS, (False, True)):
        yield Form(
            f"{'not' if negated else 'is'}:{kind}",
            "explanatory",
            f"Which of the following is {'not ' if negated else ''}responsible for {event}?",
            f"events {program} filter_ancestor belong_to{' negate' if negated else ''}",
        )
    yield Form("presence", "explanatory", "the presence of the {X}", "{X}", choice=True)
    for event, program, kind in _EVENTS[:2]:
        yield Form(kind, "explanatory", event, program, choice=True)
    for event in ("the {X}'s entrance", "the {X}'s entering the scene"):
        yield Form("entrance", "explanatory", event, "events {X} filter_in unique", choice=True)


def _future() -> Iterator[Form]:
    for opening in ("What", "Which event"):
        yield Form("next", "predictive", f"{opening} will happen next?", "unseen_events belong_to")
    clauses = (
        ("{} if the {{X}} is removed?", "If the {{X}} is removed, {}?"),
        ("{} without the {{X}}?", "Without the {{X}}, {}?"),
    )
    for opening, negated, pair, first in product(
        ("What", "Which event", "Which of the following"), (False, True), clauses, (False, True)
    ):
        core = f"{opening} will {'not ' if negated else ''}happen"
        text = pair[1].format(core[0].lower() + core[1:]) if first else pair[0].format(core)
        yield Form(
            "not" if negated else "is",
            "counterfactual",
            text,
            f"all_events {{X}} get_counterfact belong_to{' negate' if negated else ''}",
        )
    for category, text in product(
        ("predictive", "counterfactual"), ("The {X} and the {Y} collide", "The {X} collides with the {Y}")
    ):
        program = "all_events {X} filter_collision {Y} filter_collision unique"
        yield Form("collision", category, text, program, choice=True)


FORMS: tuple[Form, ...] = (*_count_and_exist(), *_query(), *_explanatory(), *_future())


@cache
def forms_of(category: str, name: str, choice: bool = False) -> tuple[Form, ...]:
    """The forms of one name: different wordings of the same program."""
    return tuple(made for made in FORMS if (made.category, made.name, made.choice) == (category, name, choice))
