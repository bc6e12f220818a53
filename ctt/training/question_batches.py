"""Questions as ALOE's input: a batch's slots gathered from memory maps, its sequences grouped by length.

No Python runs per question. A batch is chosen first (questions, uniformly); only then is it cut into pieces of similar length, so
the pieces decide how it is computed and never what is in it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ctt.data.dataset import Split
from ctt.data.frames import frame_rows
from ctt.models.aloe import QUESTION_LENGTH, AloeInput
from ctt.models.aloe_settings import GIVEN_FRAMES, PREDICTED_FRAMES, AloeSettings

DESCRIPTIVE, PREDICTIVE = 0, 2


@dataclass
class Piece:
    """Some sequences of a batch: `input` for the model, the table's `rows` (B,), their `answer` (B,), how many are descriptive.

    Descriptive sequences come first.
    """

    input: AloeInput
    rows: np.ndarray
    answer: Tensor
    descriptive: int


class QuestionBatches:
    """The sequences of one split under `settings`; `rollouts` (V,32,S,D) or None (then nobody sees predicted frames).

    With precision=bf16 slots and rollouts are held in memory as bfloat16: the model would round them to it anyway, bit for bit.
    """

    def __init__(self, settings: AloeSettings, split: Split, rollouts: np.ndarray | None) -> None:
        table = split.questions
        self.settings = settings
        self.shape = split.slots.shape
        held = "bf16" if settings.precision == "bf16" else "float32"
        self.frames = frame_rows(split.slots, held)
        self.predicted = None if rollouts is None else frame_rows(rollouts, held)
        self.ahead = 0 if rollouts is None else rollouts.shape[1]
        self.video = np.asarray(table.video, np.int64)
        self.category = np.asarray(table.category)
        self.answer = np.asarray(table.answer, np.int64)
        self.text = np.concatenate([np.asarray(table.question_tokens), np.asarray(table.choice_tokens)], 1).astype(
            np.int64
        )
        self.length = (self.text != 0).sum(1)
        self.choice_length = (self.text[:, QUESTION_LENGTH:] != 0).sum(1)
        new = np.ones(len(self.video), bool)
        question = np.asarray(table.question_id, np.int64)
        new[1:] = (self.video[1:] != self.video[:-1]) | (question[1:] != question[:-1])
        self.first = np.flatnonzero(new)
        self.options = np.diff(np.append(self.first, len(new)))
        self.question = np.cumsum(new) - 1
        sees = self.category == PREDICTIVE if settings.rollout_frames == "predictive" else np.ones(len(new), bool)
        sees = sees & (rollouts is not None)
        self.adds = sees & (settings.added_frames > 0)
        self.later = sees & (settings.added_frames == 0)

    @property
    def questions(self) -> int:
        return len(self.first)

    def rows_of(self, questions: np.ndarray) -> np.ndarray:
        """The table rows of these questions, question after question."""
        count = self.options[questions]
        ends = np.cumsum(count)
        within = np.arange(ends[-1] if len(ends) else 0) - np.repeat(ends - count, count)
        return np.repeat(self.first[questions], count) + within

    def pieces(self, rows: np.ndarray, starts: np.ndarray, count: int, by_layout: bool = False) -> Iterator[Piece]:
        """`rows` in about `count` pieces of similar length; each one's slots are gathered when it is asked for.

        starts (questions of the split,): each question's first frame. by_layout: rows whose words fill the same places come
        together, so that most small pieces hold no padding.
        """
        layout = (self.choice_length[rows],) if by_layout else ()
        rows = rows[np.lexsort((rows, *layout, self.length[rows], self.adds[rows]))]
        sizes = self._sizes(rows, count)
        piece = np.repeat(np.arange(len(sizes)), sizes)
        rows = rows[np.argsort(2 * piece + (self.category[rows] != DESCRIPTIVE), kind="stable")]
        ends = np.cumsum(sizes)
        asked, owner = np.unique(piece * self.questions + self.question[rows], return_inverse=True)
        first = np.searchsorted(asked, np.arange(len(sizes) + 1) * self.questions)
        owners = torch.from_numpy(owner.reshape(-1) - first[piece])
        questions = asked % self.questions
        windows = Windows(self, questions, starts[questions])
        text, is_descriptive = self.text[rows], self.category[rows] == DESCRIPTIVE
        used = np.logical_or.reduceat(text != 0, ends - sizes, axis=0)
        answers, descriptive = torch.from_numpy(self.answer[rows]), torch.from_numpy(is_descriptive)
        for n, (a, b) in enumerate(zip(ends - sizes, ends, strict=True)):
            columns = np.flatnonzero(used[n])
            mine = slice(first[n], first[n + 1])
            piece_input = AloeInput(
                given=windows.given(mine),
                added=windows.added(mine) if self.adds[rows[a]] else None,
                owner=owners[a:b],
                text=torch.from_numpy(text[a:b].take(columns, 1)),
                columns=torch.from_numpy(columns),
                descriptive=descriptive[a:b],
            )
            yield Piece(piece_input, rows[a:b], answers[a:b], int(np.count_nonzero(is_descriptive[a:b])))

    def _sizes(self, rows: np.ndarray, count: int) -> np.ndarray:
        """Rows of each piece: those that get predicted frames added come last, in pieces of their own."""
        adding = int(np.count_nonzero(self.adds[rows]))
        sizes = []
        for group in (len(rows) - adding, adding):
            if group:
                parts = min(max(1, round(count * group / len(rows))), group)
                sizes.append(np.full(parts, group // parts) + (np.arange(parts) < group % parts))
        return np.concatenate(sizes)


class Windows:
    """The slots that `questions` of `batches` see from their first frames `starts` on (both (Q,)): which frames these are is
    found for all of them at once, their slots are gathered for a slice of them at a time."""

    def __init__(self, batches: QuestionBatches, questions: np.ndarray, starts: np.ndarray) -> None:
        self.batches, self.starts = batches, starts
        rows, settings = batches.first[questions], batches.settings
        self.video = batches.video[rows]
        later = PREDICTED_FRAMES * batches.later[rows]
        frames = (starts + later)[:, None] + settings.stride * np.arange(settings.frames)
        self.frames = torch.from_numpy(self.video[:, None] * GIVEN_FRAMES + np.minimum(frames, GIVEN_FRAMES - 1))
        self.late = np.flatnonzero(frames >= GIVEN_FRAMES) if later.any() else np.empty(0, np.int64)
        ahead = frames.reshape(-1)[self.late] - GIVEN_FRAMES
        self.predicted = torch.from_numpy(self.video[self.late // settings.frames] * batches.ahead + ahead)

    def given(self, part: slice) -> Tensor:
        """The sampled frames (Q,F,S,D), predicted ones where they lie past the given."""
        out = F.embedding(self.frames[part], self.batches.frames)
        if len(self.late):
            width = out.shape[1]
            at = slice(*np.searchsorted(self.late, (part.start * width, part.stop * width)))
            here = torch.from_numpy(self.late[at] - part.start * width)
            assert self.batches.predicted is not None
            out.view(-1, out.shape[-1]).index_copy_(0, here, F.embedding(self.predicted[at], self.batches.predicted))
        return out.view(*out.shape[:2], *self.batches.shape[2:])

    def added(self, part: slice) -> Tensor:
        """The first predicted frames that continue the sampling: (Q,P,S,D)."""
        batches, stride = self.batches, self.batches.settings.stride
        assert batches.predicted is not None
        frames = ((self.starts[part] - GIVEN_FRAMES) % stride)[:, None]
        frames = frames + stride * np.arange(batches.settings.added_frames)
        there = torch.from_numpy(self.video[part][:, None] * batches.ahead + frames)
        return F.embedding(there, batches.predicted).view(*frames.shape, *batches.shape[2:])
