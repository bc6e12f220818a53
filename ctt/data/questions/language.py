"""Parser of CLEVRER's questions: from a text to its form and descriptions, and to a coarse name of the form."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache, lru_cache
from typing import Any, NamedTuple

from ctt.core.errors import DataError
from ctt.data.questions.forms import FORMS, Description, Form
from ctt.data.questions.vocab import CATEGORIES
from ctt.data.scene import COLORS, MATERIALS, SHAPES


class Parsed(NamedTuple):
    """A parsed text: its form and the descriptions in its places."""

    form: Form
    places: dict[str, Description]


_PHRASE = re.compile(
    rf"(?<![\w])((?:(?:{'|'.join(COLORS)}) )?(?:(?:{'|'.join(MATERIALS)}) )?)(object|{'|'.join(SHAPES)})(s?)(?![\w])"
)


def _skeleton(text: str) -> tuple[str, list[tuple[Description, bool]]]:
    """The text with every noun phrase replaced by a placeholder, and the phrases: (description, plural)."""
    phrases: list[tuple[Description, bool]] = []

    def replace(match: re.Match[str]) -> str:
        words, noun, plural = match.group(1).split(), match.group(2), bool(match.group(3))
        color = next((w for w in words if w in COLORS), None)
        material = next((w for w in words if w in MATERIALS), None)
        phrases.append((Description(color, material, None if noun == "object" else noun), plural))
        return "@@" if plural else "@"

    return _PHRASE.sub(replace, text), phrases


def _example(form: Form) -> str:
    return re.sub(r"{(\w)}", lambda place: "objects" if place.group(1) == "Z" else "object", form.template)


def _places_in_order(form: Form) -> tuple[str, ...]:
    """The place of every noun phrase of the form, "" for the word "object" in the form itself."""
    template = re.sub(r"{(\w)}", r"<\1>", form.template)
    return tuple(match.group(1) or "" for match in re.finditer(r"<(\w)>|(?<![\w])objects?(?![\w])", template))


@cache
def _forms_by_skeleton() -> dict[tuple[str, bool], list[tuple[Form, tuple[str, ...]]]]:
    table: dict[tuple[str, bool], list[tuple[Form, tuple[str, ...]]]] = {}
    for made in FORMS:
        table.setdefault((_skeleton(_example(made))[0], made.choice), []).append((made, _places_in_order(made)))
    return table


@lru_cache(maxsize=1 << 16)
def _parse(text: str, choice: bool, category: str | None) -> Parsed | None:
    skeleton, phrases = _skeleton(text)
    for form, places in _forms_by_skeleton().get((skeleton, choice), ()):
        if category not in (None, form.category):
            continue
        filled: dict[str, Description] = {}
        for place, (description, _) in zip(places, phrases, strict=True):
            if filled.setdefault(place, description) != description or (not place and any(description)):
                break
        else:
            filled.pop("", None)
            return Parsed(form, filled)
    return None


def parse_question(text: str, category: str | None = None) -> Parsed:
    """The form of a question's text and its descriptions. Raises DataError if the text fits no form."""
    return _parsed(text, False, category)


def parse_choice(text: str, category: str | None = None) -> Parsed:
    """The same for the text of a choice; predictive and counterfactual choices have the same forms."""
    return _parsed(text, True, category)


def _parsed(text: str, choice: bool, category: str | None) -> Parsed:
    parsed = _parse(text, choice, category)
    if parsed is None:
        of = f"{category} " if category else ""
        raise DataError(f"{text!r} has none of the known forms of a {of}{'choice' if choice else 'question'}")
    return parsed


def form(question: Mapping[str, Any], choice: Mapping[str, Any] | None = None) -> str:
    """A coarse name for breakdowns and blind baselines: "descriptive:count:moving", "explanatory:not:presence",
    "predictive:next", "counterfactual:is". A text of no known form gets its category (and subtype) and "other"; a question of a
    category that CLEVRER lacks is known by its question_subtype, if it has one: "where:side"."""
    category = question["question_type"]
    if category not in CATEGORIES:
        return f"{category}:{question.get('question_subtype') or 'all'}"
    parsed = _parse(question["question"], False, category)
    if category == "descriptive":
        return f"descriptive:{parsed.form.name}" if parsed else f"descriptive:{question.get('question_subtype')}:other"
    if parsed is None:
        return f"{category}:other"
    if category != "explanatory" or choice is None:
        return f"{category}:{parsed.form.name}"
    parsed_choice = _parse(choice["choice"], True, category)
    return f"{category}:{parsed.form.name.split(':')[0]}:{parsed_choice.form.name if parsed_choice else 'other'}"
