"""Questions as ALOE's input: a batch's slots gathered from memory maps, its sequences grouped by length.

No Python runs per question. A batch is chosen first (questions, uniformly); only then is it cut into pieces of similar length, so
the pieces decide how it is computed and never what is in it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ctt.data.dataset import Split
from ctt.data.frames import frame_rows
from ctt.models.aloe import AloeInput
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

    With precision=bf16 the slots are held in memory as bfloat16: the model would round them to it anyway, bit for bit.
    """

    def __init__(self, settings: AloeSettings, split: Split, rollouts: np.ndarray | None) -> None:
        table = split.questions
        self.settings = settings
        self.shape = split.slots.shape
        self.frames = frame_rows(split.slots, "bf16" if settings.precision == "bf16" else "float32")
        self.rollouts = rollouts
        self.video = np.asarray(table.video, np.int64)
        self.category = np.asarray(table.category)
        self.answer = np.asarray(table.answer, np.int64)
        self.text = np.concatenate([np.asarray(table.question_tokens), np.asarray(table.choice_tokens)], 1).astype(
            np.int64
        )
        self.length = (self.text != 0).sum(1)
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

    def pieces(self, rows: np.ndarray, starts: np.ndarray, count: int) -> Iterator[Piece]:
        """`rows` in about `count` pieces of similar length, each made when it is asked for.

        starts (questions of the split,): each question's first frame.
        """
        order = np.lexsort((rows, self.length[rows], self.adds[rows]))
        rows = rows[order]
        with_added = int(self.adds[rows].sum())
        for group in (rows[: len(rows) - with_added], rows[len(rows) - with_added :]):
            if len(group):
                parts = max(1, round(count * len(group) / len(rows)))
                for part in np.array_split(group, min(parts, len(group))):
                    yield self._piece(part, starts)

    def _piece(self, rows: np.ndarray, starts: np.ndarray) -> Piece:
        choice = self.category[rows] != DESCRIPTIVE
        rows = rows[np.argsort(choice, kind="stable")]
        questions, owner = np.unique(self.question[rows], return_inverse=True)
        text = self.text[rows]
        columns = np.flatnonzero(text.any(0))
        first = self.first[questions]
        adds = bool(self.adds[rows[0]])
        descriptive = self.category[rows] == DESCRIPTIVE
        piece = AloeInput(
            given=self._given(first, starts[questions]),
            added=torch.from_numpy(self._added(first, starts[questions])) if adds else None,
            owner=torch.from_numpy(owner.reshape(-1).astype(np.int64)),
            text=torch.from_numpy(np.ascontiguousarray(text[:, columns])),
            columns=torch.from_numpy(columns),
            descriptive=torch.from_numpy(descriptive),
        )
        return Piece(piece, rows, torch.from_numpy(self.answer[rows]), int(descriptive.sum()))

    def _given(self, rows: np.ndarray, starts: np.ndarray) -> Tensor:
        """The sampled window of each row's question: (Q,F,S,D)."""
        video = self.video[rows]
        frames = starts[:, None] + self.settings.stride * np.arange(self.settings.frames)
        frames = frames + PREDICTED_FRAMES * self.later[rows][:, None]
        given = video[:, None] * self.shape[1] + np.minimum(frames, GIVEN_FRAMES - 1)
        out = self.frames.index_select(0, torch.from_numpy(given.reshape(-1))).view(*frames.shape, *self.shape[2:])
        late, at = np.nonzero(frames >= GIVEN_FRAMES)
        if len(late) and self.rollouts is not None:
            predicted = np.asarray(self.rollouts[video[late], frames[late, at] - GIVEN_FRAMES], np.float32)
            out[torch.from_numpy(late), torch.from_numpy(at)] = torch.from_numpy(predicted).to(out.dtype)
        return out

    def _added(self, rows: np.ndarray, starts: np.ndarray) -> np.ndarray:
        """The first predicted frames that continue each question's sampling: (Q,P,S,D) float32."""
        assert self.rollouts is not None
        stride = self.settings.stride
        first = (starts - GIVEN_FRAMES) % stride
        frames = first[:, None] + stride * np.arange(self.settings.added_frames)
        return np.asarray(self.rollouts[self.video[rows][:, None], frames], np.float32)
