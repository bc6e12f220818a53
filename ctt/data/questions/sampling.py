"""Questions of a data set: chosen from what could be asked, so that words alone give little away.

How to use:
    candidates = enumerate_questions(scene, rng)      # per scene, in any process, ~10 ms; picklable, ~20 KB
    balancer = Balancer(seed)                         # one per split
    official = balancer.add(candidates)               # as they come, in scene order, in one process: an official scene
or  scenes = balance(candidates_in_scene_order, seed) # the same over an iterable; collect no candidates in lists
    hidden = strip_answers(scenes)                    # the test split

The result is {"scene_index", "video_filename", "questions": [...]} in CLEVRER's official schema: question ids from 0 in
every scene; descriptive, explanatory, predictive, counterfactual. It depends on the seed and the scenes so far alone.

As in CLEVRER (https://arxiv.org/abs/1910.01442, appendix) all questions are enumerated, then sampled. Of several drawn
proposals the one is taken that brings the counts so far nearest to CLEVRER's own shares and that evens out right and
wrong for every word, for every form, and for choices that name what the question names.
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
"""How much chance has a say in which form and answer is the most due (standard deviations)."""
WEIGHTS = {"options": 2, "correct": 6, "outcomes": 8, "causes": 2}
"""How much some shares count beside the others. Outcomes: whether a collision or an exit is explained; with less, exits
come twice as often as in CLEVRER."""
FORMS_EVEN = 5
"""How much it counts that choices of a form, and those that name what is asked about, are right as often as wrong."""
ANYWAY = 0.3
"""How much it counts that what collides anyway is right as often as wrong; more costs the shares."""
MOST = {"explanatory": 4, "predictive": 1, "counterfactual": 4}
"""Questions a video at most."""


class Balancer:
    """Chooses the questions of one scene after the other. One Balancer per split."""

    def __init__(self, seed: int, density: int = 1) -> None:
        """density: how many times CLEVRER's eleven descriptive questions a scene is asked."""
        self._seed = seed
        self._density = density
        self._shares = {counted: Shares(targets) for counted, targets in SHARES.items()}
        self._joint = {group: Shares(joint(group)) for group in GROUPS}
        self._words: dict[tuple[str, str | None], Shares] = {}
        self._even = {category: Evenness() for category in RATES}
        self._scenes = 0
        self._asked = dict.fromkeys(RATES, 0)

    def add(self, candidates: Candidates) -> dict[str, Any]:
        """The next scene's questions, as an official scene."""
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
        cells: dict[str, dict[tuple[str, str], list[DescriptiveQuestion]]] = {group: {} for group in GROUPS}
        for asked in candidates.descriptive:
            name = FORMS[asked.form].name
            cells[name.partition(":")[0].partition("_")[0]].setdefault((name, asked.answer), []).append(asked)
        chosen: list[dict[str, Any]] = []
        for group, wanted in GROUPS.items():
            taken: set[tuple[str, ...]] = set()
            for _ in range(wanted * self._density):
                picked = self._pick(group, cells[group], taken, draw)
                if picked is None:
                    break
                chosen.append(picked)
        draw.shuffle(chosen)
        return chosen

    def _pick(
        self,
        group: str,
        cells: dict[tuple[str, str], list[DescriptiveQuestion]],
        taken: set[tuple[str, ...]],
        draw: random.Random,
    ) -> dict[str, Any] | None:
        """A question whose form and answer are due, worded as is due; none whose program is `taken`."""
        cost = {cell: self._cell_cost(group, *cell) + JITTER * draw.random() for cell in cells}
        for name, said in sorted(cost, key=cost.__getitem__):
            among = cells[name, said]
            some = draw.sample(among, min(WORDINGS, len(among)))
            for asked in sorted(some, key=lambda one: _excess(self._worded(one))):
                form = FORMS[asked.form]
                program = form.program(asked.places)
                if tuple(program) in taken:
                    continue
                taken.add(tuple(program))
                for shares, value in (*self._entries(group, name, said), *self._worded(asked)):
                    shares.add(value)
                return {
                    "question": form.text(asked.places),
                    "question_type": "descriptive",
                    "question_subtype": name.partition(":")[0],
                    "program": program,
                    "answer": said,
                }
        return None

    def _cell_cost(self, group: str, name: str, said: str) -> float:
        return _excess(self._entries(group, name, said))

    def _entries(self, group: str, name: str, said: str) -> list[tuple[Shares, Any]]:
        subtype, _, kind = name.partition(":")
        entries = [
            (self._shares[f"{subtype} answers"], said),
            (self._shares[f"{group} forms"], kind),
            (self._joint[group], (name, said)),
        ]
        if group == "query":
            entries.append((self._shares["query attributes"], subtype))
        return entries

    def _worded(self, asked: DescriptiveQuestion) -> list[tuple[Shares, str]]:
        """For every word said of an object, and for the form, how often each answer came with it."""
        form = FORMS[asked.form]
        subtype = form.name.partition(":")[0]
        words = [form.template, *(f"{place} {word}" for place, name in asked.places.items() for word in name)]
        targets = SHARES[f"{subtype} answers"]
        return [(self._words.setdefault((subtype, word), Shares(targets)), asked.answer) for word in words]

    # ---- multiple choice ----

    def _multiple_choice(self, category: str, candidates: Candidates, draw: random.Random) -> list[dict[str, Any]]:
        due = RATES[category] * self._scenes - self._asked[category]
        wanted = min(int(due + draw.random()), MOST[category])
        asked: list[dict[str, Any]] = []
        subjects: set[Any] = set()
        while len(asked) < wanted:
            drawn = (propose(category, candidates, subjects, draw) for _ in range(PROPOSALS))
            proposals = [proposal for proposal in drawn if proposal is not None]
            if not proposals:
                break
            best = min(proposals, key=lambda proposal: self._cost(category, proposal))
            subjects.add(best.subject)
            for counted, value in best.counted:
                self._shares[counted].add(value)
            for stated in best.choices:
                self._even[category].add((*best.telling(stated), *best.words(stated)), stated.correct)
            asked.append(best.official())
        self._asked[category] += len(asked)
        return asked

    def _cost(self, category: str, proposal: Proposal) -> float:
        even = self._even[category]
        cost = 0.0
        for counted, value in proposal.counted:
            cost += WEIGHTS.get(counted.rpartition(" ")[2], 1) * self._shares[counted].excess(value)
        for stated in proposal.choices:
            form, anyway = proposal.telling(stated)
            cost += FORMS_EVEN * even.cost((form,), stated.correct) + ANYWAY * even.cost((anyway,), stated.correct)
            cost += even.cost(proposal.words(stated), stated.correct)
        return cost


def balance(candidates: Iterable[Candidates], seed: int) -> list[dict[str, Any]]:
    """Official scenes for `candidates`, which must come in scene order."""
    balancer = Balancer(seed)
    return [balancer.add(one) for one in candidates]


def strip_answers(scenes: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """The scenes as the official test split has them: no answers, no programs."""
    hidden = copy.deepcopy(list(scenes))
    for scene in hidden:
        for question in scene["questions"]:
            for entry in (question, *question.get("choices", ())):
                entry.pop("answer", None)
                entry.pop("program", None)
    return hidden


def _excess(entries: Iterable[tuple[Shares, Any]]) -> float:
    return sum(shares.excess(value) for shares, value in entries)
