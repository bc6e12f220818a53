"""Vocabularies of questions and answers; CLEVRER's has the ids of the reference ALOE.

Source of CLEVRER's: the vocabulary file of the reference training code (81 question words, 21 answers, 0 is padding); the order
below is the order of the ids. Text is lower-cased, question marks are dropped, words are split at blanks, so that a
comma or an 's stays part of its word ("cube," and "cube's" are separate words).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from ctt.core.errors import DataError
from ctt.data.categories import CLEVRER_CATEGORIES

CATEGORIES = CLEVRER_CATEGORIES.names
"""CLEVRER's categories."""

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


@dataclass(frozen=True)
class Vocabulary:
    """The words of questions and options, the answers of questions without options, and the maximum numbers of words.

    Word number i has id i + 1, answer number i has class i + 1. Raises DataError for a word or an answer that is there twice
    or is not text.
    """

    words: tuple[str, ...] = QUESTION_WORDS
    answers: tuple[str, ...] = ANSWERS
    question_length: int = QUESTION_LENGTH
    choice_length: int = CHOICE_LENGTH

    def __post_init__(self) -> None:
        for name, lowest in (("question_length", 1), ("choice_length", 0)):
            value = getattr(self, name)
            if type(value) is not int or not lowest <= value <= 255:
                raise DataError(f"{name} must be a number from {lowest} to 255, got {value!r}")
        for name in ("words", "answers"):
            values = getattr(self, name)
            if not isinstance(values, tuple):
                raise DataError(f"{name} must be a list of texts, got {values!r}")
            for value in values:
                if not isinstance(value, str) or not value:
                    raise DataError(f"{name} must be a list of texts; it has {value!r}")
            if len(set(values)) < len(values):
                twice = next(value for value in values if values.count(value) > 1)
                raise DataError(f"{name}: {twice!r} is there twice")
        for word in self.words:
            if words_of(word) != [word]:
                raise DataError(f"words: {word!r} is no single word in lower case without question mark")

    @cached_property
    def _word_id(self) -> dict[str, int]:
        return {word: i + 1 for i, word in enumerate(self.words)}

    @cached_property
    def _answer_id(self) -> dict[str, int]:
        return {answer: i + 1 for i, answer in enumerate(self.answers)}

    @property
    def text_length(self) -> int:
        """Number of word positions, those of the question first, then those of the choice."""
        return self.question_length + self.choice_length

    @property
    def owner(self) -> str:
        """Whose it is, for messages."""
        return "CLEVRER" if (self.words, self.answers) == (QUESTION_WORDS, ANSWERS) else "the data set"

    def _remedy(self, field: str) -> str:
        return "" if self.owner == "CLEVRER" else f"; add it to {field} where the source declares them"

    def unknown_words(self, text: str) -> list[str]:
        """The words of `text` that have no id, in order."""
        return [word for word in words_of(text) if word not in self._word_id]

    def tokenise(self, text: str) -> list[int]:
        """The ids of the words of `text`, without padding. Raises DataError naming the first unknown word."""
        try:
            return [self._word_id[word] for word in words_of(text)]
        except KeyError as unknown:
            raise DataError(
                f"the word {unknown} is not in {self.owner}'s vocabulary (in {text!r}){self._remedy('words')}"
            ) from None

    def answer_id(self, answer: str) -> int:
        """The class of an answer, 1 to their number. Raises DataError if it is none of them."""
        try:
            return self._answer_id[answer]
        except (KeyError, TypeError):
            known = f"{self.owner}'s {len(self.answers)} answers ({', '.join(self.answers)})"
            raise DataError(f"{answer!r} is not one of {known}{self._remedy('answers')}") from None


def words_of(text: str) -> list[str]:
    """The words of `text`, lower-cased, known or not."""
    return text.lower().replace("?", "").split()


CLEVRER_VOCABULARY = Vocabulary()
unknown_words = CLEVRER_VOCABULARY.unknown_words
tokenise = CLEVRER_VOCABULARY.tokenise
answer_id = CLEVRER_VOCABULARY.answer_id
