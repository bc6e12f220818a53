"""The composition of a data set compared with CLEVRER's, and the accuracies that are reached without the video."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from ctt.core.errors import DataError
from ctt.data.baselines.blind import blind_levels
from ctt.data.baselines.questions_asked import levels_where_asked
from ctt.data.baselines.words_only import words_only_levels
from ctt.data.categories import CLEVRER_CATEGORIES, Categories
from ctt.data.clevrer import official_figures
from ctt.data.data_format import DataFormat
from ctt.data.dataset import Dataset
from ctt.data.questions.language import parse_choice, parse_question
from ctt.data.questions.programs import ALIASES
from ctt.data.questions.vocab import CATEGORIES

TOKEN_GROUP = "program tokens per 100 questions"


def statistics(scenes: Iterable[dict[str, Any]], categories: Categories = CLEVRER_CATEGORIES) -> dict[str, Any]:
    """Counts of the scenes of a question file: videos, questions {category}, subtypes, answers, options (questions by number of
    options), verdicts, tokens (of all programs), correct {category: {number of correct options: questions}}; of explanatory
    questions also outcomes (the events to explain), negated and causes (the options)."""
    names = ("questions", "subtypes", "answers", "options", "verdicts", "outcomes", "negated", "causes", "tokens")
    counts = {name: Counter[str]() for name in names}
    correct = {category: Counter[str]() for category in categories.with_choices}
    videos = 0
    for scene in scenes:
        videos += 1
        for question in scene["questions"]:
            category = question["question_type"]
            counts["questions"][category] += 1
            for entry in (question, *question.get("choices", ())):
                counts["tokens"].update(ALIASES.get(token, token) for token in entry.get("program", ()))
            if "choices" not in question:
                counts["subtypes"][str(question.get("question_subtype"))] += 1
                counts["answers"].update([question["answer"]] if "answer" in question else [])
                continue
            verdicts = [choice["answer"] for choice in question["choices"] if "answer" in choice]
            counts["options"][str(len(question["choices"]))] += 1
            counts["verdicts"].update(verdicts)
            if category == "explanatory" and categories == CLEVRER_CATEGORIES:
                opening, _, outcome = _wording(question["question"], choice=False).partition("responsible for ")
                counts["outcomes"][outcome.removesuffix("?") or "other"] += 1
                counts["negated"]["not responsible" if " not " in opening else "responsible"] += 1
                counts["causes"].update(_wording(choice["choice"], choice=True) for choice in question["choices"])
            if verdicts:
                correct[category][str(verdicts.count("correct"))] += 1
    return {
        "videos": videos,
        **{k: dict(v) for k, v in counts.items()},
        "correct": {k: dict(v) for k, v in correct.items()},
    }


def _wording(text: str, choice: bool) -> str:
    """The wording of an explanatory question or choice, with X and Y in place of the objects."""
    try:
        parsed = (parse_choice if choice else parse_question)(text, "explanatory")
    except DataError:
        return "other"
    return parsed.form.template.replace("{", "").replace("}", "")


@dataclass(frozen=True)
class ShareLine:
    """One figure of a split and CLEVRER's: shares in percent of their group, None where the group is empty. Program tokens
    are counted per 100 questions."""

    group: str
    name: str
    count: int
    share: float | None
    official: float | None

    @property
    def difference(self) -> float | None:
        return None if self.share is None or self.official is None else self.share - self.official


def counts_alone(found: dict[str, Any], data_format: DataFormat) -> list[ShareLine]:
    """A split's counts, of data that has other questions than CLEVRER."""
    videos = max(found["videos"], 1)
    out = []
    for name in data_format.categories.names:
        count = found["questions"].get(name, 0)
        out.append(ShareLine("questions per 100 videos", name, count, 100 * count / videos, None))
    answers = {answer: found["answers"].get(answer, 0) for answer in data_format.vocabulary.answers}
    groups = [("answers", answers), ("options per question", found["options"]), ("options", found["verdicts"])]
    groups += [(f"correct options, {name}", counts) for name, counts in found["correct"].items()]
    for group, counts in groups:
        if total := sum(counts.values()):
            out += [ShareLine(group, name, count, 100 * count / total, None) for name, count in counts.items()]
    return out


def lines(found: dict[str, Any], split: str) -> list[ShareLine]:
    """A split's counts and the official figures. Questions are per 100 videos, all others are shares."""
    out = []
    for category in CATEGORIES:
        count = found["questions"].get(category, 0)
        per_video = 100 * count / max(found["videos"], 1)
        out.append(ShareLine("questions per 100 videos", category, count, per_video, _per_video(split, category)))
    groups: list[tuple[str, dict[str, int], dict[str, int]]] = [
        ("descriptive questions", found["subtypes"], official_figures.SUBTYPES),
        ("answers", found["answers"], official_figures.ANSWERS),
        ("options per question", found["options"], official_figures.OPTIONS),
        ("options", found["verdicts"], official_figures.VERDICTS),
    ]
    groups += [(f"correct options, {c}", found["correct"].get(c, {}), official_figures.CORRECT[c]) for c in CATEGORIES[1:]]
    groups += [
        ("explained events", found["outcomes"], official_figures.OUTCOMES),
        ("explanatory questions", found["negated"], official_figures.NEGATED),
        ("explanatory options", found["causes"], official_figures.CAUSES),
    ]
    for group, counts, facts in groups:
        total = sum(counts.values())
        for name in [*facts, *(name for name in counts if name not in facts)]:
            share = 100 * counts.get(name, 0) / total if total else None
            expected = 100 * facts.get(name, 0) / sum(facts.values())
            out.append(ShareLine(group, name, counts.get(name, 0), share, expected))
    if found["tokens"]:
        out += [_token_line(found, name) for name in official_figures.TOKENS]
    return out


def _token_line(found: dict[str, Any], token: str) -> ShareLine:
    asked, official = sum(found["questions"].values()), sum(official_figures.QUESTIONS["train"].values())
    count = found["tokens"].get(token, 0)
    return ShareLine(TOKEN_GROUP, token, count, 100 * count / asked, 100 * official_figures.TOKENS[token] / official)


def _per_video(split: str, category: str) -> float:
    return 100 * official_figures.QUESTIONS[split][category] / official_figures.VIDEOS[split]


def blind(dataset: Dataset) -> dict[str, dict[str, Any]]:
    """The accuracies of answering without the video, learnt on train and measured on validation: "form", the most frequent
    answer of the question's form, and "words", a model of the question's words. Empty if either split is missing."""
    if not dataset.format.categories or not {"train", "validation"} <= set(dataset.splits):
        return {}
    tables = dataset.split("train").questions, dataset.split("validation").questions
    levels = {"form": blind_levels, "words": words_only_levels}
    return {name: levels_where_asked(level, *tables) for name, level in levels.items()}
