"""Sampling of a data set's questions from the candidates, so that the words alone reveal little.

How to use:
    candidates = enumerate_questions(scene, rng)      # per scene, in any process, ~10 ms; picklable, ~20 KB
    balancer = Balancer(seed)                         # one per split
    official = balancer.add(candidates)               # in scene order, in one process: an official scene
or  scenes = balance(candidates_in_scene_order, seed) # the same over an iterable; collect no candidates in lists
    hidden = strip_answers(scenes)                    # the test split

The result is {"scene_index", "video_filename", "questions": [...]} in CLEVRER's official schema: question ids from 0 in
every scene; descriptive, explanatory, predictive, counterfactual. It depends only on the seed and the scenes so far.

As in CLEVRER (https://arxiv.org/abs/1910.01442, appendix) all questions are enumerated, then sampled. Of several random
proposals, the one is chosen that brings the counts so far nearest to CLEVRER's own shares and balances correct and wrong
choices for every word, for every form, and for choices that name the question's objects.
"""

from __future__ import annotations

import copy
import random
from collections.abc import Iterable
from typing import Any

from ctt.data.questions.candidates import Candidates, DescriptiveQuestion, enumerate_questions
from ctt.data.questions.forms import FORMS
from ctt.data.questions.proposals import Proposal, propose
from ctt.data.questions.shares import Evenness, Shares
from ctt.data.questions.targets import GROUPS, RATES, SHARES, joint

__all__ = ["Balancer", "Candidates", "balance", "enumerate_questions", "strip_answers"]

PROPOSALS = 24
"""Drawn per multiple-choice question."""
WORDINGS = 6
"""Tried per descriptive question."""
JITTER = 0.3
"""Random part of the cost of a form and answer (standard deviations)."""
WEIGHTS = {"options": 2, "correct": 6, "outcomes": 8, "causes": 2}
"""Weights of shares in the cost, 1 for the others. Outcomes: whether a collision or an exit is explained; with a smaller
weight, exits are twice as frequent as in CLEVRER."""
FORMS_EVEN = 5
"""Weight of balancing correct and wrong choices per form, and among choices that name the question's objects."""
ANYWAY = 0.3
"""Weight of the same balance among pairs that collide anyway; a larger one disturbs the shares."""
MOST = {"explanatory": 4, "predictive": 1, "counterfactual": 4}
"""Maximum number of questions per video."""


Kind = tuple[str, tuple[str, str] | None, str]
"""Name and detail of a descriptive question's form, and its answer."""


class Balancer:
    """Chooses the questions of scenes in sequence. One Balancer per split."""

    def __init__(self, seed: int, density: int = 1) -> None:
        """density: descriptive questions per scene, as a multiple of CLEVRER's eleven."""
        self._seed = seed
        self._density = density
        self._shares = {counted: Shares(targets) for counted, targets in SHARES.items()}
        self._joint = {group: Shares(joint(group)) for group in GROUPS}
        self._words: dict[tuple[str, str | None], Shares] = {}
        self._even = {category: Evenness() for category in RATES}
        self._scenes = 0
        self._chosen = dict.fromkeys(RATES, 0)

    def add(self, candidates: Candidates) -> dict[str, Any]:
        """The next scene's questions, in the official format."""
        draw = random.Random(f"{self._seed}/{candidates.index}")
        self._scenes += 1
        questions = self._descriptive(candidates, draw)
        for category in RATES:
            questions += self._multiple_choice(category, candidates, draw)
        return {
            "scene_index": candidates.index,
            "video_filename": f"video_{candidates.index:05d}.mp4",
            "questions": [{"question_id": number, **question} for number, question in enumerate(questions)],
        }

    # ---- descriptive ----

    def _descriptive(self, candidates: Candidates, draw: random.Random) -> list[dict[str, Any]]:
        available: dict[str, dict[Kind, list[DescriptiveQuestion]]] = {group: {} for group in GROUPS}
        for question in candidates.descriptive:
            form = FORMS[question.form]
            group = form.name.partition(":")[0].partition("_")[0]
            available[group].setdefault((form.name, form.detail, question.answer), []).append(question)
        chosen: list[dict[str, Any]] = []
        for group, wanted in GROUPS.items():
            taken: set[tuple[str, ...]] = set()
            for _ in range(wanted * self._density):
                picked = self._pick(group, available[group], taken, draw)
                if picked is None:
                    break
                chosen.append(picked)
        draw.shuffle(chosen)
        return chosen

    def _pick(
        self,
        group: str,
        available: dict[Kind, list[DescriptiveQuestion]],
        taken: set[tuple[str, ...]],
        draw: random.Random,
    ) -> dict[str, Any] | None:
        """The available question of the least cost whose program is not in `taken`; its kind is chosen first."""
        cost = {kind: _excess(self._entries(group, *kind)) + JITTER * draw.random() for kind in available}
        for kind in sorted(cost, key=cost.__getitem__):
            among = available[kind]
            some = draw.sample(among, min(WORDINGS, len(among)))
            for question in sorted(some, key=lambda one: _excess(self._word_entries(one))):
                form = FORMS[question.form]
                program = form.program(question.places)
                if tuple(program) in taken:
                    continue
                taken.add(tuple(program))
                for shares, value in (*self._entries(group, *kind), *self._word_entries(question)):
                    shares.add(value)
                return {
                    "question": form.text(question.places),
                    "question_type": "descriptive",
                    "question_subtype": form.name.partition(":")[0],
                    "program": program,
                    "answer": question.answer,
                }
        return None

    def _entries(self, group: str, name: str, detail: tuple[str, str] | None, answer: str) -> list[tuple[Shares, Any]]:
        subtype, _, kind = name.partition(":")
        entries = [
            (self._shares[f"{subtype} answers"], answer),
            (self._shares[f"{group} forms"], kind),
            (self._joint[group], (name, answer)),
        ]
        if group == "query":
            entries.append((self._shares["query attributes"], subtype))
        if detail:
            entries.append((self._within(f"{subtype} {answer}", detail[0]), detail[1]))
        return entries

    def _within(self, group: str, counted: str) -> Shares:
        """The shares of a quantity within a group, so that what is asked does not hint at the answer."""
        return self._words.setdefault((group, counted), Shares(SHARES[counted]))

    def _word_entries(self, question: DescriptiveQuestion) -> list[tuple[Shares, Any]]:
        """For every word of the descriptions and for the form, the shares of answers so far, with this answer."""
        form = FORMS[question.form]
        subtype = form.name.partition(":")[0]
        words = [form.template, *(f"{place} {word}" for place, name in question.places.items() for word in name)]
        targets = SHARES[f"{subtype} answers"]
        entries: list[tuple[Shares, Any]] = []
        for word in words:
            entries.append((self._words.setdefault((subtype, word), Shares(targets)), question.answer))
        given = f"{subtype} {question.answer}"
        for place, name in question.places.items():
            if place == "X":
                entries.append((self._within(given, "materials in names"), name.material is not None))
            else:
                entries.append((self._within(given, "attributes of sets"), name.attributes))
        return entries

    # ---- multiple choice ----

    def _multiple_choice(self, category: str, candidates: Candidates, draw: random.Random) -> list[dict[str, Any]]:
        due = RATES[category] * self._scenes - self._chosen[category]
        wanted = min(int(due + draw.random()), MOST[category])
        chosen: list[dict[str, Any]] = []
        subjects: set[Any] = set()
        while len(chosen) < wanted:
            drawn = (propose(category, candidates, subjects, draw) for _ in range(PROPOSALS))
            proposals = [proposal for proposal in drawn if proposal is not None]
            if not proposals:
                break
            best = min(proposals, key=lambda proposal: self._cost(category, proposal))
            subjects.add(best.subject)
            for counted, value in best.counted:
                self._shares[counted].add(value)
            for choice in best.choices:
                self._even[category].add((*best.cues(choice), *best.words(choice)), choice.correct)
            chosen.append(best.official())
        self._chosen[category] += len(chosen)
        return chosen

    def _cost(self, category: str, proposal: Proposal) -> float:
        even = self._even[category]
        cost = 0.0
        for counted, value in proposal.counted:
            cost += WEIGHTS.get(counted.rpartition(" ")[2], 1) * self._shares[counted].excess(value)
        for choice in proposal.choices:
            form, anyway = proposal.cues(choice)
            cost += FORMS_EVEN * even.cost((form,), choice.correct) + ANYWAY * even.cost((anyway,), choice.correct)
            cost += even.cost(proposal.words(choice), choice.correct)
        return cost


def balance(candidates: Iterable[Candidates], seed: int) -> list[dict[str, Any]]:
    """Official scenes for `candidates`, which must come in scene order."""
    balancer = Balancer(seed)
    return [balancer.add(one) for one in candidates]


def strip_answers(scenes: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """The scenes without answers and programs, as in the official test split."""
    hidden = copy.deepcopy(list(scenes))
    for scene in hidden:
        for question in scene["questions"]:
            for entry in (question, *question.get("choices", ())):
                entry.pop("answer", None)
                entry.pop("program", None)
    return hidden


def _excess(entries: Iterable[tuple[Shares, Any]]) -> float:
    return sum(shares.excess(value) for shares, value in entries)
