"""Texts of no known form, which breakdowns and blind baselines count together under a name that ends in ":other"."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Any

from ctt.core.errors import DataError
from ctt.data.questions.language import form, parse_choice

OTHER = ":other"


def other_texts(questions: Iterable[dict[str, Any]]) -> Counter[tuple[str, str]]:
    """{(coarse form, text): how often it is asked} of well-formed official questions and their options."""
    found: Counter[tuple[str, str]] = Counter()
    for question in questions:
        category, name = question["question_type"], form(question)
        if name.endswith(OTHER):
            found[name, question["question"]] += 1
        for choice in question.get("choices", ()) if category != "descriptive" else ():
            try:
                parse_choice(choice["choice"], category)
            except DataError:
                named = form(question, choice) if category == "explanatory" else ""
                found[named if named.endswith(OTHER) else f"{category}:option{OTHER}", choice["choice"]] += 1
    return found


def as_json(found: Counter[tuple[str, str]]) -> list[dict[str, Any]]:
    """A record for each text, the most frequent first."""
    ordered = sorted(found.items(), key=lambda item: (-item[1], item[0]))
    return [dict(form=name, text=text, count=count) for (name, text), count in ordered]
