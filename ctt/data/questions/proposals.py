"""Multiple-choice questions as they might be asked of a scene: drawn at random, for the Balancer to choose from."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from ctt.data.questions.candidates import Candidates, Meeting, Places, pick_name
from ctt.data.questions.forms import Form, forms_of
from ctt.data.questions.targets import SHARES

MOST = 4
"""Choices of a question at most."""


class Stated(NamedTuple):
    """A choice: its form, what fills it, whether it is correct, and what would be guessed without understanding why:
    whether the pair of a counterfactual choice collides anyway."""

    form: Form
    places: Places
    correct: bool
    anyway: bool | None = None


class Proposal(NamedTuple):
    """A question that may be asked. `subject` is what a scene is asked about once; `counted` are the values that count
    towards SHARES, as (what is counted, value)."""

    form: Form
    places: Places
    choices: list[Stated]
    subject: Any
    counted: list[tuple[str, Any]]

    def telling(self, stated: Stated) -> Iterator[str]:
        """What by itself could tell whether a choice is correct: the forms of question and choice with how many objects
        both name by the same words, and `anyway`."""
        named = set(self.places.values()) & set(stated.places.values())
        yield f"{self.form.name} {stated.form.name} {len(named)}"
        yield f"{self.form.name.partition(':')[0]} anyway {stated.anyway}"

    def words(self, stated: Stated) -> Iterator[str]:
        """What a model that sees words alone could weigh."""
        asked = self.form.name.partition(":")[0]
        yield asked
        yield f"{asked} {stated.form.template}"
        yield self.form.template
        for described in self.places.values():
            for word in described:
                yield f"asked of {word}"
        for described in stated.places.values():
            for word in described:
                yield f"{asked} {word}"

    def official(self) -> dict[str, Any]:
        """The question in CLEVRER's schema, without its id."""
        choices = [
            {
                "choice_id": number,
                "choice": stated.form.text(stated.places),
                "program": stated.form.program(stated.places),
                "answer": "correct" if stated.correct else "wrong",
            }
            for number, stated in enumerate(self.choices)
        ]
        return {
            "question": self.form.text(self.places),
            "question_type": self.form.category,
            "program": self.form.program(self.places),
            "choices": choices,
        }


def propose(category: str, candidates: Candidates, taken: set[Any], draw: random.Random) -> Proposal | None:
    """A question about a subject that is not `taken`, or None if there is none."""
    return _PROPOSE[category](candidates, taken, draw)


def _explanatory(candidates: Candidates, taken: set[Any], draw: random.Random) -> Proposal | None:
    outcomes = [o for o in candidates.outcomes if o.options and o.objects not in taken]
    if not outcomes:
        return None
    outcome = draw.choices(outcomes, [min(len(o.options), MOST) ** 2 for o in outcomes])[0]
    negated = draw.random() < 0.5
    options = _some(outcome.options, draw)
    choices = [
        Stated(_wording("explanatory", o.kind, draw), _named(o.objects, candidates, draw), o.responsible != negated)
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
    choices = [
        Stated(_wording("predictive", "collision", draw), _named(m.pair, candidates, draw), m.happens) for m in options
    ]
    form = draw.choices(forms_of("predictive", "next"), list(SHARES["predictive wordings"].values()))[0]
    return Proposal(form, {}, choices, "next", [("predictive wordings", form.template.partition(" will")[0])])


def hardest(future: Sequence[Meeting]) -> tuple[Meeting, ...]:
    """One pair that will collide and one that won't, so that going straight on would bring the wrong pair the nearest
    compared with the right one. A pair that has collided already, and so will not again, is wrong only for want of
    others. Empty if no pair will collide, or all will."""
    pairs = [(right, wrong) for right in future if right.happens for wrong in future if not wrong.happens]
    return min(pairs, key=lambda pair: (pair[1].seen, pair[1].extrapolated - pair[0].extrapolated), default=())


def _counterfactual(candidates: Candidates, taken: set[Any], draw: random.Random) -> Proposal | None:
    removals = [k for k in candidates.removals if k not in taken]
    if not removals:
        return None
    # Removing an object that changes nothing asks no more than what happens in the video.
    weights = [1 + 3 * sum(m.happens != m.seen for m in candidates.removals[k]) for k in removals]
    k = draw.choices(removals, weights)[0]
    negated = draw.random() < 0.5
    choices = [
        Stated(
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
    """Four of the options, or as many as there are; now and then fewer."""
    wanted = MOST if draw.random() < 0.93 else draw.randint(1, MOST - 1)
    return draw.sample(options, min(wanted, len(options)))


def _counted(category: str, choices: list[Stated], negated: bool) -> list[tuple[str, Any]]:
    return [
        (f"{category} options", len(choices)),
        (f"{category} correct", sum(stated.correct for stated in choices)),
        (f"{category} negated", negated),
    ]


def _wording(category: str, kind: str, draw: random.Random) -> Form:
    return draw.choice(forms_of(category, kind, choice=True))


def _named(objects: tuple[int, ...], candidates: Candidates, draw: random.Random) -> Places:
    """{X} and {Y} in either order, each by one of its unique descriptions."""
    order = objects if draw.random() < 0.5 else objects[::-1]
    return {place: pick_name(candidates.names[k], draw) for place, k in zip("XY", order, strict=False)}
