"""Random multiple-choice questions about a scene, from which the Balancer chooses."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from ctt.data.questions.candidates import Candidates, Places, PossibleCollision, pick_name
from ctt.data.questions.forms import Form, forms_of
from ctt.data.questions.targets import SHARES

MOST = 4
"""Maximum number of choices of a question."""


class Choice(NamedTuple):
    """A choice: its form, the descriptions in its places, whether it is correct, and `anyway`: whether the pair of a
    counterfactual choice collides with nothing removed (None for other categories)."""

    form: Form
    places: Places
    correct: bool
    anyway: bool | None = None


class Proposal(NamedTuple):
    """A possible question. `subject` identifies what it is about, to be used once per scene; `counted` are the values
    that count towards SHARES, as (key of SHARES, value)."""

    form: Form
    places: Places
    choices: list[Choice]
    subject: Any
    counted: list[tuple[str, Any]]

    def cues(self, choice: Choice) -> Iterator[str]:
        """Features that could reveal by themselves whether a choice is correct: the forms of question and choice with the
        number of descriptions that both share, and `anyway`."""
        named = set(self.places.values()) & set(choice.places.values())
        yield f"{self.form.name} {choice.form.name} {len(named)}"
        yield f"{self.form.name.partition(':')[0]} anyway {choice.anyway}"

    def words(self, choice: Choice) -> Iterator[str]:
        """Features available to a model that reads only the words."""
        polarity = self.form.name.partition(":")[0]
        yield polarity
        yield f"{polarity} {choice.form.template}"
        yield self.form.template
        for described in self.places.values():
            for word in described:
                yield f"asked of {word}"
        for described in choice.places.values():
            for word in described:
                yield f"{polarity} {word}"

    def official(self) -> dict[str, Any]:
        """The question in CLEVRER's schema, without its id."""
        choices = [
            {
                "choice_id": number,
                "choice": choice.form.text(choice.places),
                "program": choice.form.program(choice.places),
                "answer": "correct" if choice.correct else "wrong",
            }
            for number, choice in enumerate(self.choices)
        ]
        return {
            "question": self.form.text(self.places),
            "question_type": self.form.category,
            "program": self.form.program(self.places),
            "choices": choices,
        }


def propose(category: str, candidates: Candidates, taken: set[Any], draw: random.Random) -> Proposal | None:
    """A random question about a subject that is not in `taken`, or None if there is none."""
    return _PROPOSE[category](candidates, taken, draw)


def _explanatory(candidates: Candidates, taken: set[Any], draw: random.Random) -> Proposal | None:
    outcomes = [o for o in candidates.outcomes if o.options and o.objects not in taken]
    if not outcomes:
        return None
    outcome = draw.choices(outcomes, [min(len(o.options), MOST) ** 2 for o in outcomes])[0]
    negated = draw.random() < 0.5
    options = _some(outcome.options, draw)
    choices = [
        Choice(_wording("explanatory", o.kind, draw), _named(o.objects, candidates, draw, "choices"), o.responsible != negated)
        for o in options
    ]
    counted = _counted("explanatory", choices, negated)
    counted.append(("explanatory outcomes", outcome.kind))
    counted += [("explanatory causes", option.kind) for option in options]
    form = draw.choice(forms_of("explanatory", f"{'not' if negated else 'is'}:{outcome.kind}"))
    return Proposal(form, _named(outcome.objects, candidates, draw), choices, outcome.objects, counted)


def _predictive(candidates: Candidates, taken: set[Any], draw: random.Random) -> Proposal | None:
    options = list(hardest(candidates.future))
    if not options:
        return None
    draw.shuffle(options)
    choices = [Choice(_wording("predictive", "collision", draw), _named(m.pair, candidates, draw), m.happens) for m in options]
    form = draw.choices(forms_of("predictive", "next"), list(SHARES["predictive wordings"].values()))[0]
    return Proposal(form, {}, choices, "next", [("predictive wordings", form.template.partition(" will")[0])])


def hardest(future: Sequence[PossibleCollision]) -> tuple[PossibleCollision, ...]:
    """A pair that will collide (correct) and one that will not (wrong), chosen so that straight extrapolation brings the
    wrong pair nearest compared with the correct one. A pair that has already collided is the wrong one only if there is
    no other. Empty if no pair or every pair will collide."""
    pairs = [(right, wrong) for right in future if right.happens for wrong in future if not wrong.happens]
    return min(pairs, key=lambda pair: (pair[1].seen, pair[1].extrapolated - pair[0].extrapolated), default=())


def _counterfactual(candidates: Candidates, taken: set[Any], draw: random.Random) -> Proposal | None:
    removals = [k for k in candidates.removals if k not in taken]
    if not removals:
        return None
    # Removing an object without effect asks only about what happens in the video.
    weights = [1 + 3 * sum(m.happens != m.seen for m in candidates.removals[k]) for k in removals]
    k = draw.choices(removals, weights)[0]
    negated = draw.random() < 0.5
    choices = [
        Choice(
            _wording("counterfactual", "collision", draw),
            _named(m.pair, candidates, draw),
            m.happens != negated,
            m.seen,
        )
        for m in _some(candidates.removals[k], draw)
    ]
    form = draw.choice(forms_of("counterfactual", "not" if negated else "is"))
    counted = _counted("counterfactual", choices, negated)
    return Proposal(form, _named((k,), candidates, draw), choices, k, counted)


_PROPOSE = {"explanatory": _explanatory, "predictive": _predictive, "counterfactual": _counterfactual}


def _some(options: Sequence[Any], draw: random.Random) -> list[Any]:
    """MOST of the options or as many as there are; sometimes fewer."""
    wanted = MOST if draw.random() < 0.93 else draw.randint(1, MOST - 1)
    return draw.sample(options, min(wanted, len(options)))


def _counted(category: str, choices: list[Choice], negated: bool) -> list[tuple[str, Any]]:
    return [
        (f"{category} options", len(choices)),
        (f"{category} correct", sum(choice.correct for choice in choices)),
        (f"{category} negated", negated),
    ]


def _wording(category: str, kind: str, draw: random.Random) -> Form:
    return draw.choice(forms_of(category, kind, choice=True))


def _named(objects: tuple[int, ...], candidates: Candidates, draw: random.Random, where: str = "questions") -> Places:
    """{X} and {Y} in either order, each by one of its unique descriptions, picked for `where`."""
    order = objects if draw.random() < 0.5 else objects[::-1]
    return {place: pick_name(candidates.names[k], draw, where) for place, k in zip("XY", order, strict=False)}
