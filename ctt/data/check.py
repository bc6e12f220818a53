"""Checking question files and data sets: what is in them beside what is in CLEVRER, and what is wrong with them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ctt.data import official
from ctt.data.blind import blind_levels
from ctt.data.clevrer import read_scenes
from ctt.data.dataset import Dataset
from ctt.data.programs import known_token, type_check
from ctt.data.question_table import QuestionTable
from ctt.data.vocab import CATEGORIES, tokenise, unknown_words
from ctt.data.words_only import words_only_levels
from ctt.errors import DataError

_GIVES = {"count": "number", "exist": "yes or no", "color": "color", "material": "material", "shape": "shape"}


def check_file(path: Path) -> dict[str, Any]:
    """What `ctt data check --questions` says of one official question file: scenes, questions {category: count},
    without_program, and the lists unknown_words, unknown_program_tokens (each word and token once), ill_typed_programs
    and errors (a sentence each). Raises DataError if the file cannot be read as a list."""
    found: dict[str, Any] = {
        "scenes": 0,
        "questions": dict.fromkeys(CATEGORIES, 0),
        "without_program": 0,
        "unknown_words": [],
        "unknown_program_tokens": [],
        "ill_typed_programs": [],
        "errors": [],
    }
    seen: set[int] = set()
    scenes = read_scenes(Path(path))
    sound = not _refused(scenes, {s["scene_index"] for s in scenes if _numbered(s)})
    for place, scene in enumerate(scenes):
        index = scene.get("scene_index") if isinstance(scene, dict) else None
        where = f"scene {index}" if type(index) is int else f"entry {place}"
        if type(index) is int and index in seen:
            found["errors"].append(f"{where}: the scene is there twice")
            continue
        wrong = [] if sound else _malformed(scene)
        if wrong:
            found["errors"] += [f"{where}{text}" for text in wrong]
            continue
        seen.add(scene["scene_index"])
        found["scenes"] += 1
        for question in scene["questions"]:
            _check_question(question, f"{where}, question {question['question_id']}", found)
    for name in ("unknown_words", "unknown_program_tokens"):
        found[name] = list(dict.fromkeys(found[name]))
    return found


def troubles(found: dict[str, Any]) -> int:
    """How many things of a checked file are wrong."""
    return sum(len(found[name]) for name in ("unknown_words", "unknown_program_tokens", "ill_typed_programs", "errors"))


def _malformed(scene: Any) -> list[str]:
    """What keeps a scene from being read, one sentence per question at most; unknown words alone do not."""
    if not _numbered(scene):
        return [": a scene must be an object with a scene_index"]
    if not isinstance(scene.get("questions"), list):
        return [": questions must be a list"]
    wrong, seen = [], set()
    for number, question in enumerate(scene["questions"]):
        text = _refused([{**scene, "questions": [_worded(question)]}], {scene["scene_index"]})
        identity = question.get("question_id") if isinstance(question, dict) else None
        if not text and identity in seen:
            text = f", question {identity}: the question_id is there twice"
        if text:
            text = text.removeprefix(f", scene {scene['scene_index']}")
            wrong.append(text if type(identity) is int else text.replace("question 0", f"question {number}", 1))
        seen.add(identity if type(identity) is int else None)
    return wrong


def _numbered(scene: Any) -> bool:
    return isinstance(scene, dict) and type(scene.get("scene_index")) is int and 0 <= scene["scene_index"] < 2**31


def _refused(scenes: list[Any], known: set[int]) -> str:
    """What the reader of question files says of the scenes, or nothing."""
    try:
        QuestionTable.build(scenes, np.array(sorted(known)), "")
    except DataError as error:
        return str(error)
    return ""


def _worded(question: Any) -> Any:
    """The question with texts that can be read, so that its form alone is looked at (unknown words are listed apart)."""
    if not isinstance(question, dict):
        return question
    plain = {**question}
    if isinstance(plain.get("question"), str) and unknown_words(plain["question"]):
        plain["question"] = "what"
    if isinstance(plain.get("choices"), list):
        plain["choices"] = [
            {**c, "choice": "the"} if isinstance(c, dict) and isinstance(c.get("choice"), str) else c
            for c in plain["choices"]
        ]
    return plain


def _check_question(question: dict[str, Any], where: str, found: dict[str, Any]) -> None:
    category = question["question_type"]
    found["questions"][category] += 1
    parts = [(where, question)]
    choices = question["choices"] if category != "descriptive" else []
    parts += [(f"{where}, choice {choice['choice_id']}", choice) for choice in choices]
    for at, part in parts:
        text = part["choice"] if "choice" in part else part["question"]
        unknown = unknown_words(text)
        found["unknown_words"] += unknown
        most = 12 if "choice" in part else 20
        if not unknown and len(tokenise(text)) > most:
            found["errors"].append(f"{at}: has more than the {most} words that there is room for")
    if "program" not in question:
        found["without_program"] += 1
    for at, program, given in _programs(question, where, choices):
        if not isinstance(program, list):
            found["errors"].append(f"{at}: program must be a list of tokens")
            continue
        strange = [token for token in program if not known_token(token)]
        found["unknown_program_tokens"] += [str(token) for token in strange]
        if not strange:
            wrong = _ill_typed(program, given, question)
            if wrong:
                found["ill_typed_programs"].append(f"{at}: {wrong}")


def _programs(
    question: dict[str, Any], where: str, choices: list[dict[str, Any]]
) -> Iterator[tuple[str, Any, tuple[str, ...]]]:
    """(where, program, types on the stack before it): a choice's program alone gives what the question's takes, so the two
    are looked at as one where both are there."""
    program = question.get("program")
    told = [choice for choice in choices if "program" in choice]
    if program is not None and not told:
        yield where, program, () if question["question_type"] == "descriptive" else ("event",)
    for choice in told:
        at = f"{where}, choice {choice['choice_id']}"
        whole = choice["program"]
        if isinstance(whole, list) and isinstance(program, list):
            whole = whole + program
        yield at, whole, ()
    if told and program is not None and not isinstance(program, list):
        yield where, program, ()


def _ill_typed(program: list[str], given: tuple[str, ...], question: dict[str, Any]) -> str:
    try:
        gives = type_check(program, given)
    except DataError as error:
        return str(error)
    if question["question_type"] != "descriptive":
        wanted = "yes or no" if "program" in question else ""
        return "" if gives == wanted or (not wanted and gives in ("object", "event")) else f"gives {gives}"
    wanted = _GIVES.get(str(question.get("question_subtype")).removeprefix("query_"), gives)
    return "" if gives == wanted else f"a {question['question_subtype']} question's program gives {gives}, not {wanted}"


# ---- what is in a data set ----


def statistics(scenes: Iterable[dict[str, Any]]) -> dict[str, Any]:
    """Counts of official scenes: videos, questions {category}, subtypes, answers, options (questions by their number of
    options), verdicts, correct {category: {number of right options: questions}}."""
    counts = {name: Counter[str]() for name in ("questions", "subtypes", "answers", "options", "verdicts")}
    correct = {category: Counter[str]() for category in CATEGORIES[1:]}
    videos = 0
    for scene in scenes:
        videos += 1
        for question in scene["questions"]:
            category = question["question_type"]
            counts["questions"][category] += 1
            if category == "descriptive":
                counts["subtypes"][str(question.get("question_subtype"))] += 1
                counts["answers"].update([question["answer"]] if "answer" in question else [])
                continue
            said = [choice["answer"] for choice in question["choices"] if "answer" in choice]
            counts["options"][str(len(question["choices"]))] += 1
            counts["verdicts"].update(said)
            if said:
                correct[category][str(said.count("correct"))] += 1
    return {
        "videos": videos,
        **{k: dict(v) for k, v in counts.items()},
        "correct": {k: dict(v) for k, v in correct.items()},
    }


@dataclass(frozen=True)
class Line:
    """One figure of a split beside CLEVRER's: shares in percent of their group, None where there is nothing to share."""

    group: str
    name: str
    count: int
    share: float | None
    official: float | None

    @property
    def apart(self) -> float | None:
        return None if self.share is None or self.official is None else self.share - self.official


def lines(found: dict[str, Any], split: str) -> list[Line]:
    """A split's counts beside the official figures. Questions are a video's mean times 100, the rest are shares."""
    out = []
    for category in CATEGORIES:
        count = found["questions"].get(category, 0)
        per_video = 100 * count / max(found["videos"], 1)
        out.append(Line("questions a 100 videos", category, count, per_video, _per_video(split, category)))
    groups: list[tuple[str, dict[str, int], dict[str, int]]] = [
        ("descriptive questions", found["subtypes"], official.SUBTYPES),
        ("answers", found["answers"], official.ANSWERS),
        ("options a question", found["options"], official.OPTIONS),
        ("options", found["verdicts"], official.VERDICTS),
    ]
    groups += [(f"right options, {c}", found["correct"].get(c, {}), official.CORRECT[c]) for c in CATEGORIES[1:]]
    for group, counts, facts in groups:
        total = sum(counts.values())
        for name in [*facts, *(name for name in counts if name not in facts)]:
            share = 100 * counts.get(name, 0) / total if total else None
            expected = 100 * facts.get(name, 0) / sum(facts.values())
            out.append(Line(group, name, counts.get(name, 0), share, expected))
    return out


def _per_video(split: str, category: str) -> float:
    return 100 * official.QUESTIONS[split][category] / official.VIDEOS[split]


def blind(dataset: Dataset) -> dict[str, dict[str, Any]]:
    """The accuracies of answering without the video, learnt in train and measured in validation: "form", the most frequent
    answer of the question's form, and "words", a model that reads the words. Empty without both splits."""
    if not {"train", "validation"} <= set(dataset.splits):
        return {}
    tables = dataset.split("train").questions, dataset.split("validation").questions
    return {"form": blind_levels(*tables), "words": words_only_levels(*tables)}
