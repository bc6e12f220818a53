"""The vocabulary of CLEVRER's questions and answers, with the ids of the reference ALOE.

Source: the vocabulary file of the reference training code (81 question words, 21 answers, 0 is padding); the order
below is the order of the ids. Text is lower-cased, question marks are dropped, words are split at blanks, so that a
comma or an 's stays part of its word ("cube," and "cube's" are separate words).
"""

from __future__ import annotations

from ctt.core.errors import DataError

CATEGORIES = ("descriptive", "explanatory", "predictive", "counterfactual")

_QUESTION_WORDS = (
    "after and any are before begins between blue brown collide collides colliding collision collisions color cube "
    "cube's cube, cubes cyan cylinder cylinder's cylinder, cylinders ends enter entering enters entrance event exit "
    "exiting exits first following for gray green happen how if is last many material metal moving next not object "
    "object's object, objects of presence purple red removed removed, responsible rubber scene second shape sphere "
    "sphere's sphere, spheres stationary that the there to video what when which will with without yellow"
)
_ANSWERS = "0 1 2 3 4 5 blue brown cube cyan cylinder gray green metal no purple red rubber sphere yellow yes"

QUESTION_WORDS = tuple(_QUESTION_WORDS.split())
"""Word number i has id i + 1."""

ANSWERS = tuple(_ANSWERS.split())
"""Answer number i has class i + 1."""

QUESTION_LENGTH = 20
CHOICE_LENGTH = 12
PADDING = 0

_WORD_ID = {word: i + 1 for i, word in enumerate(QUESTION_WORDS)}
_ANSWER_ID = {answer: i + 1 for i, answer in enumerate(ANSWERS)}


def words_of(text: str) -> list[str]:
    """The words of `text`, lower-cased, known or not."""
    return text.lower().replace("?", "").split()


def unknown_words(text: str) -> list[str]:
    """The words of `text` that have no id, in order."""
    return [word for word in words_of(text) if word not in _WORD_ID]


def tokenise(text: str) -> list[int]:
    """The ids of the words of `text`, without padding. Raises DataError naming the first unknown word."""
    try:
        return [_WORD_ID[word] for word in words_of(text)]
    except KeyError as unknown:
        raise DataError(f"the word {unknown} is not in CLEVRER's vocabulary (in {text!r})") from None


def answer_id(answer: str) -> int:
    """The class of a descriptive answer, 1..21. Raises DataError if it is not one of the 21 answers."""
    try:
        return _ANSWER_ID[answer]
    except (KeyError, TypeError):
        raise DataError(f"{answer!r} is not one of CLEVRER's 21 answers ({', '.join(ANSWERS)})") from None
