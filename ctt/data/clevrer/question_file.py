"""Checking an official question file: its counts and all its errors."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from ctt.core.build_context import stopping
from ctt.core.errors import DataError, Interrupted
from ctt.core.regular_files import read_regular
from ctt.data.clevrer.official_figures import SUBTYPES
from ctt.data.questions.other_forms import as_json, other_texts
from ctt.data.questions.programs import known_token, type_check
from ctt.data.questions.question_table import LARGEST, QuestionTable, read_scenes
from ctt.data.questions.vocab import CATEGORIES, CHOICE_LENGTH, QUESTION_LENGTH, tokenise, unknown_words

_BLANK = re.compile(r"[ \t\n\r]*")
LISTS = ("errors", "unknown_words", "unknown_program_tokens", "ill_typed_programs")
_GIVES = {"count": "number", "exist": "yes or no", "color": "color", "material": "material", "shape": "shape"}


def check_file(path: Path) -> dict[str, Any]:
    """The report of `ctt data check --questions` on one official question file.

    Keys: scenes, questions {category: count}, without_program, and the lists unknown_words, unknown_program_tokens (each
    once), ill_typed_programs and errors (a sentence each); other_forms: texts of no known form, which are
    no error. Malformed questions are listed and not counted.
    Raises DataError if the file cannot be read as a list."""
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
    others: Counter[tuple[str, str]] = Counter()
    scenes = read_scenes(Path(path))
    sound = not _refused(scenes)  # checking the whole file at once is fast, and most files are sound
    for place, scene in enumerate(scenes):
        index = scene.get("scene_index") if isinstance(scene, dict) else None
        where = f"scene {index}" if type(index) is int else f"entry {place}"
        twice = type(index) is int and index in seen
        wrong = "the scene occurs twice" if twice else "" if sound else _bare(scene)
        if wrong:
            found["errors"].append(f"{where}: {wrong}")
            continue
        seen.add(scene["scene_index"])
        found["scenes"] += 1
        malformed = {} if sound else _malformed(scene)
        found["errors"] += [f"{where}{text}" for text in malformed.values()]
        for number, question in enumerate(scene["questions"]):
            if number not in malformed:
                _check_question(question, f"{where}, question {question['question_id']}", found)
                others.update(other_texts([question]))
    found["other_forms"] = as_json(others)
    for name in ("unknown_words", "unknown_program_tokens"):
        found[name] = list(dict.fromkeys(found[name]))
    return found


def scenes_of(path: Path) -> Iterator[Any]:
    """The entries of a question file, parsed one by one, so that a signal is obeyed in between. Raises Interrupted, and DataError
    as `read_scenes` does."""
    try:
        text = read_regular(path, LARGEST).decode("utf-8")
    except UnicodeDecodeError:
        text = ""
    decoder = json.JSONDecoder()
    sign, place = _following(text, 0)
    ends, after = _following(text, place)
    if sign != "[":
        sign = ""
    elif ends == "]":
        sign, place = "]", after
    while sign in ("[", ","):
        if stopping():
            raise Interrupted(f"stopped while {path} was read; the same command continues")
        try:
            scene, place = decoder.raw_decode(text, _following(text, place)[1] - 1)
        except (ValueError, RecursionError):
            break
        yield scene
        sign, place = _following(text, place)
    if sign != "]" or _following(text, place)[0]:
        read_scenes(path)
        raise DataError(f"{path} is not valid JSON")


def _following(text: str, place: int) -> tuple[str, int]:
    """The first character from `place` that is no white space ("" at the end), and the place after it."""
    start = _BLANK.match(text, place).end()  # type: ignore[union-attr]  # it matches everywhere
    return text[start : start + 1], start + 1


def problem_count(found: dict[str, Any]) -> int:
    """Number of problems in the report of `check_file`."""
    return sum(len(found[name]) for name in LISTS)


def _refused(scenes: list[Any]) -> str:
    """The error message of the question table for these scenes, or ""."""
    stated = [scene.get("scene_index") for scene in scenes if isinstance(scene, dict)]
    known = {index for index in stated if type(index) is int and 0 <= index < 2**31}
    try:
        QuestionTable.build(scenes, np.array(sorted(known)), "")
    except DataError as error:
        return str(error)
    return ""


def _bare(scene: Any) -> str:
    """The error of a scene apart from its questions, or ""."""
    empty = isinstance(scene, dict) and isinstance(scene.get("questions"), list)
    return _refused([{**scene, "questions": []} if empty else scene]).partition(": ")[2]


def _malformed(scene: dict[str, Any]) -> dict[int, str]:
    """Error messages of the malformed questions by position; unknown words alone are no error."""
    wrong: dict[int, str] = {}
    if not _refused([scene]):
        return wrong
    seen = set()
    for number, question in enumerate(scene["questions"]):
        text = _refused([{**scene, "questions": [_worded(question)]}])
        identity = question.get("question_id") if isinstance(question, dict) else None
        if not text and identity in seen:
            text = f", question {identity}: the question_id occurs twice"
        if text:
            text = text.removeprefix(f", scene {scene['scene_index']}")
            wrong[number] = text if type(identity) is int else text.replace("question 0", f"question {number}", 1)
        else:
            seen.add(identity)
    return wrong


def _worded(question: Any) -> Any:
    """The question with known words as its texts, so that only its form is checked (unknown words are listed separately)."""
    if not isinstance(question, dict):
        return question
    plain = {**question}
    if isinstance(plain.get("question"), str) and unknown_words(plain["question"]):
        plain["question"] = "what"
    if isinstance(plain.get("choices"), list):
        plain["choices"] = [
            {**c, "choice": "the"} if isinstance(c, dict) and isinstance(c.get("choice"), str) else c for c in plain["choices"]
        ]
    return plain


def _check_question(question: dict[str, Any], where: str, found: dict[str, Any]) -> None:
    category = question["question_type"]
    found["questions"][category] += 1
    choices = question["choices"] if category != "descriptive" else []
    parts = [(where, question["question"], QUESTION_LENGTH)]
    parts += [(f"{where}, choice {c['choice_id']}", c["choice"], CHOICE_LENGTH) for c in choices]
    for at, text, most in parts:
        unknown = unknown_words(text)
        found["unknown_words"] += unknown
        if not unknown and not 0 < len(tokenise(text)) <= most:
            count = f"more than the {most} words allowed" if tokenise(text) else "no words"
            found["errors"].append(f"{at}: has {count}")
    subtype = question.get("question_subtype")
    if category == "descriptive" and subtype is not None and subtype not in list(SUBTYPES):
        found["errors"].append(f"{where}: question_subtype must be one of {', '.join(SUBTYPES)}, got {subtype!r}")
    if question.get("program") is None:
        found["without_program"] += 1
    for at, program, given, option in _programs(question, where, choices):
        if not isinstance(program, list):
            found["errors"].append(f"{at}: program must be a list of tokens")
            continue
        strange = [token for token in program if not known_token(token)]
        found["unknown_program_tokens"] += [str(token) for token in strange]
        if not strange and (wrong := _ill_typed(program, given, question) or _no_option(option, category)):
            found["ill_typed_programs"].append(f"{at}: {wrong}")


def _programs(
    question: dict[str, Any], where: str, choices: list[dict[str, Any]]
) -> Iterator[tuple[str, Any, tuple[str, ...], Any]]:
    """(where, program, types on the stack before it, the choice's own program or None); a choice's program yields the input
    of the question's, so the two are checked as one where both exist."""
    program = question.get("program")
    programmed = [choice for choice in choices if choice.get("program") is not None]
    if program is not None and (not programmed or not isinstance(program, list)):
        yield where, program, () if question["question_type"] == "descriptive" else ("event",), None
        return
    for choice in programmed:
        own = choice["program"]
        whole = own + (program or []) if isinstance(own, list) else own
        yield f"{where}, choice {choice['choice_id']}", whole, (), own


def _ill_typed(program: list[str], given: tuple[str, ...], question: dict[str, Any]) -> str:
    try:
        gives = type_check(program, given)
    except DataError as error:
        return str(error)
    if question["question_type"] != "descriptive":
        return "" if gives == "yes or no" or question.get("program") is None else f"gives {gives}"
    subtype = question.get("question_subtype")
    if wanted := _GIVES.get(str(subtype).removeprefix("query_"), ""):
        return "" if gives == wanted else f"a {subtype} question's program gives {gives}, not {wanted}"
    return "" if gives in _GIVES.values() else f"a descriptive question's program gives {gives}, which is no answer"


def _no_option(program: list[str] | None, category: str) -> str:
    """The error of a choice's own program, or "": it must give an event (explanatory questions: or an object)."""
    if program is None:
        return ""
    try:
        gives = type_check(program)
    except DataError as error:
        return str(error)
    if gives == "event" or (gives == "object" and category == "explanatory"):
        return ""
    return f"an option of a {category} question gives {gives}, not event"
