"""Questions as ALOE's input: a batch's slots gathered where they are held, its sequences grouped by length.

No Python code runs per question. The questions of a batch are drawn first, uniformly; then the batch is cut into pieces of
similar length. The pieces affect how it is computed, never what is in it.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator
from functools import cached_property

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ctt.core.errors import DataError
from ctt.data.dataset import Split
from ctt.data.frames import CPU, fits, frame_rows, place_of, size_of
from ctt.data.sending import Ahead, Packed
from ctt.models.aloe.aloe_settings import AloeSettings
from ctt.models.aloe.frame_sampling import IMAGINED, PREDICTED_FRAMES, FrameSampling
from ctt.models.aloe.model import AloeInput
from ctt.training.batches.pieces import PackedPieces, Piece
from ctt.training.imagined_frames import OBSERVED, ImaginedFrames

GATHERED = 128
"""Maximum number of questions whose slots are gathered at once (unless a single piece has more)."""
SENT = 512
"""Maximum number of questions whose slots are sent to a device at once, where they are held on the host."""


class QuestionBatches:
    """The sequences of one split under `settings`; `rollouts` (V,32,S,D), or None for given frames alone; `imagined`: what
    questions see instead of the given frames, if any do.

    With precision=bf16, slots and rollouts are held in memory as bfloat16, to which the model would round them anyway.
    device: where sequences are wanted; the frames are held there too where `settings.data_device` puts them.
    """

    def __init__(
        self,
        settings: AloeSettings,
        split: Split,
        rollouts: np.ndarray | None,
        imagined: ImaginedFrames | None = None,
        device: torch.device = CPU,
    ) -> None:
        if settings.rollout_frames == IMAGINED and imagined is None:
            raise DataError(f"aloe.rollout_frames={IMAGINED} needs the imagined videos of split {split.name}, and none are given")
        table = split.questions
        self.settings, self.sampling = settings, FrameSampling(settings, split.format)
        self.shape = split.slots.shape
        held = "bf16" if settings.precision == "bf16" else "float32"
        need = sum(size_of(slots, held) for slots in (split.slots, rollouts) if slots is not None)
        need += 0 if imagined is None else imagined.slots.nbytes
        on_device = fits(settings.data_device, need, device, "aloe.data_device")
        self.device, self.place = device, place_of(f"frames of {split.name}", need, device, on_device)
        self.held_on = device if on_device else CPU
        self.frames = frame_rows(split.slots, held, self.held_on)
        self.predicted = None if rollouts is None else frame_rows(rollouts, held, self.held_on)
        self.ahead = 0 if rollouts is None else rollouts.shape[1]
        self.video = np.asarray(table.video, np.int64)
        self.category, self.choices = np.asarray(table.category), table.has_choices
        self.answer = np.asarray(table.answer, np.int64)
        self.text = np.concatenate([np.asarray(table.question_tokens), np.asarray(table.choice_tokens)], 1).astype(np.int64)
        self.length = (self.text != 0).sum(1)
        self.choice_length = (self.text[:, split.format.vocabulary.question_length :] != 0).sum(1)
        new = np.ones(len(self.video), bool)
        question = np.asarray(table.question_id, np.int64)
        new[1:] = (self.video[1:] != self.video[:-1]) | (question[1:] != question[:-1])
        self.first = np.flatnonzero(new)
        self.options = np.diff(np.append(self.first, len(new)))
        self.question = np.cumsum(new) - 1
        self.imagined = None if imagined is None else imagined.frames.to(self.held_on)
        self.instead = np.full(len(self.first), OBSERVED)
        if imagined is not None:
            self.instead = imagined.rows_of(np.asarray(table.scene)[self.first], question[self.first])
        sees = np.isin(table.category_names, self.sampling.reading) & (rollouts is not None)
        self.adds = sees & (self.sampling.added_frames > 0)
        self.later = sees & (self.sampling.added_frames == 0)

    @property
    def questions(self) -> int:
        return len(self.first)

    def rows_of(self, questions: np.ndarray) -> np.ndarray:
        """The table rows of these questions, in the order of the questions."""
        count = self.options[questions]
        ends = np.cumsum(count)
        within = np.arange(ends[-1] if len(ends) else 0) - np.repeat(ends - count, count)
        rows: np.ndarray = np.repeat(self.first[questions], count) + within
        return rows

    def predicted_rows(self, video: np.ndarray, ahead: np.ndarray) -> Tensor:
        """The rows of `predicted` with the frames `ahead` (from 0) of these videos. Raises DataError if one was not rolled out."""
        if ahead.size and ahead.max() >= self.ahead:
            raise DataError(
                f"ALOE needs predicted frame {ahead.max() + 1}, but only {self.ahead} are rolled out; "
                f"set rollout.frames to at least {self.sampling.frames_ahead}"
            )
        return torch.from_numpy(video * self.ahead + ahead)

    def pieces(self, questions: np.ndarray, starts: np.ndarray, count: int, by_layout: bool = False) -> Iterator[Piece]:
        """The sequences of `questions` in about `count` pieces (see `ArrangedBatches`). starts (Q,): their first frames."""
        return ArrangedBatches(self, questions[None], starts[None], count, by_layout).pieces(0)


class ArrangedBatches:
    """N batches of Q questions each, cut into pieces. Rows and frames are computed for all batches at once, because
    vectorised operations on a single batch would be slow.

    questions (N,Q): numbers of the split's questions, unique within a batch; starts (N,Q): their first frames. A batch's
    sequences are divided into about `count` pieces of similar length. by_layout: sequences whose words occupy the same
    positions are grouped, so that most small pieces have no padding.
    """

    def __init__(
        self, batches: QuestionBatches, questions: np.ndarray, starts: np.ndarray, count: int, by_layout: bool = False
    ) -> None:
        rows = batches.rows_of(questions.reshape(-1))
        drawn = np.repeat(np.arange(questions.size), batches.options[questions.reshape(-1)])
        batch = drawn // max(questions.shape[1], 1)
        layout = (batches.choice_length[rows],) if by_layout else ()
        order = np.lexsort((rows, *layout, batches.length[rows], batches.adds[rows], batch))
        rows, drawn = rows[order], drawn[order]
        sizes, self._ends = _sizes(batches.adds[rows], batch, len(questions), count)
        piece = np.repeat(np.arange(len(sizes)), sizes)
        order = np.argsort(2 * piece + batches.choices[rows], kind="stable")
        rows, drawn = rows[order], drawn[order]
        # within a piece, slots are in the order of their questions
        key = piece * batches.questions + batches.question[rows]
        unique, first, owner = np.unique(key, return_index=True, return_inverse=True)
        owned = np.searchsorted(unique, np.arange(len(sizes) + 1) * batches.questions)
        self._windows = QuestionWindows(batches, unique % batches.questions, starts.reshape(-1)[drawn[first]])
        self._owned = owned.tolist()
        text, descriptive = batches.text[rows], ~batches.choices[rows]
        cuts = np.append(0, np.cumsum(sizes))
        self._rows, self._cuts = rows, cuts.tolist()
        self._used = np.logical_or.reduceat(text != 0, cuts[:-1], axis=0) if len(rows) else text != 0
        self._adds = batches.adds[rows[cuts[:-1]]]
        self._kinds = np.append(0, np.cumsum(descriptive))[cuts].tolist()
        words = np.add.reduceat((text != 0).sum(1), cuts[:-1]) if len(rows) else np.empty(0, np.int64)
        widths = self._used.sum(1)
        self._padded = words < sizes * widths
        self._columns = np.append(0, np.cumsum(widths)).tolist()
        self._packed = Packed(
            {
                "owner": torch.from_numpy(owner.reshape(-1) - owned[piece]),
                "text": torch.from_numpy(text),
                "descriptive": torch.from_numpy(descriptive),
                "answer": torch.from_numpy(batches.answer[rows]),
                "columns": torch.from_numpy(np.nonzero(self._used)[1]),
                **self._windows.tensors,
            },
            batches.held_on,
        )
        self._device = batches.device
        self._ahead: Ahead[range, PackedPieces] | None = Ahead(threaded=True) if batches.device != batches.held_on else None

    def sequences(self, batch: int) -> tuple[int, int]:
        """The numbers of a batch's questions without choices and of its options."""
        a, b = self._ends[batch], self._ends[batch + 1]
        descriptive = self._kinds[b] - self._kinds[a]
        return descriptive, self._cuts[b] - self._cuts[a] - descriptive

    def pieces(self, batch: int) -> Iterator[Piece]:
        """Yields the pieces of one batch, on the device where they are wanted."""
        if self._ahead is None:
            yield from self._made(range(self._ends[batch], self._ends[batch + 1]))
            return
        groups = [*self._sent_at_once(batch), *self._sent_at_once(batch + 1)[:1], None]
        for group, following in zip(groups, groups[1:], strict=False):
            if group is not None and group.start < self._ends[batch + 1]:
                yield from self._ahead.take(
                    lambda numbers: PackedPieces(self._made(numbers), self._device), group, following
                ).sent()

    def _sent_at_once(self, batch: int) -> list[range]:
        """The pieces of a batch that are sent by one transfer: all, unless they have more than SENT questions."""
        found: list[range] = []
        first, end = (self._ends[batch], self._ends[batch + 1]) if batch + 1 < len(self._ends) else (0, 0)
        while first < end:
            last = self._until(first, end, SENT)
            found.append(range(first, last))
            first = last
        return found

    def _until(self, first: int, end: int, questions: int) -> int:
        """The end of the pieces from number `first` on that have at most so many questions, one piece at least."""
        return max(first + 1, min(bisect_right(self._owned, self._owned[first] + questions) - 1, end))

    def _made(self, numbers: range) -> Iterator[Piece]:
        """The pieces with these numbers; slots are gathered for several pieces at once, when the first of them is due."""
        on = self._there
        gathered = numbers.start
        for n in numbers:
            if n == gathered:
                gathered = self._until(n, numbers.stop, GATHERED)
                block = slice(self._owned[n], self._owned[gathered])
                given = self._windows.given(block)
            mine, owned = slice(self._cuts[n], self._cuts[n + 1]), slice(self._owned[n], self._owned[n + 1])
            columns = on["columns"][self._columns[n] : self._columns[n + 1]]
            piece_input = AloeInput(
                given=given[owned.start - block.start : owned.stop - block.start],
                added=self._windows.added(owned) if self._adds[n] else None,
                owner=on["owner"][mine],
                text=on["text"][mine].index_select(1, columns),
                columns=columns,
                descriptive=on["descriptive"][mine],
                padded=bool(self._padded[n]),
            )
            yield Piece(piece_input, self._rows[mine], on["answer"][mine], self._kinds[n + 1] - self._kinds[n])

    @cached_property
    def _there(self) -> dict[str, Tensor]:
        """The tensors of all batches where the frames are held; sent there when the first piece is due."""
        self._windows.tensors = self._packed.sent()
        return self._windows.tensors


def _sizes(adds: np.ndarray, batch: np.ndarray, batches: int, count: int) -> tuple[np.ndarray, list[int]]:
    """The number of rows of each piece, and each batch's first piece and the end (N+1,).

    adds, batch (R,): whether predicted frames are added to a row, and its batch. Rows are sorted by batch, then by adds;
    rows with added frames are in separate pieces."""
    groups = np.bincount(2 * batch + adds, minlength=2 * batches).reshape(batches, 2)
    parts = np.rint(count * groups / np.maximum(groups.sum(1, keepdims=True), 1)).astype(np.int64)
    parts = np.minimum(np.maximum(parts, 1), groups)
    flat, rows = parts.reshape(-1), groups.reshape(-1)
    within = np.arange(flat.sum()) - np.repeat(np.cumsum(flat) - flat, flat)
    rows, flat = np.repeat(rows, flat), np.repeat(flat, flat)
    return rows // flat + (within < rows % flat), np.append(0, np.cumsum(parts.sum(1))).tolist()


class QuestionWindows:
    """The slots of `questions` of `batches` from their first frames `starts` on (both (Q,)). Frame numbers are computed for
    all questions at once, slots are gathered for a part of them at a time. `tensors` holds the numbers, which must be where
    the frames are held. Raises DataError if a frame was not rolled out."""

    def __init__(self, batches: QuestionBatches, questions: np.ndarray, starts: np.ndarray) -> None:
        self.batches = batches
        rows, settings, sampling = batches.first[questions], batches.settings, batches.sampling
        given, video = sampling.given, batches.video[rows]
        later = PREDICTED_FRAMES * batches.later[rows]
        frames = (starts + later)[:, None] + sampling.stride * np.arange(settings.frames)
        self.late = np.flatnonzero(frames >= given) if later.any() else np.empty(0, np.int64)
        ahead = frames.reshape(-1)[self.late] - given
        instead = np.repeat(batches.instead[questions], 0 if batches.imagined is None else settings.frames)
        self.without = np.flatnonzero(instead != OBSERVED)
        self.tensors = {
            "frames": torch.from_numpy(video[:, None] * given + np.minimum(frames, given - 1)),
            "late": torch.from_numpy(self.late),
            "predicted": batches.predicted_rows(video[self.late // settings.frames], ahead),
            "without": torch.from_numpy(self.without),
            "imagined": torch.from_numpy(instead[self.without] * given + frames.reshape(-1)[self.without]),
            "added": self._added(batches.adds[rows], video, starts),
        }

    def _added(self, adds: np.ndarray, video: np.ndarray, starts: np.ndarray) -> Tensor:
        """The rows (Q,P) of the first predicted frames that continue the sampling, of the questions that add them."""
        sampling = self.batches.sampling
        found = torch.zeros(len(adds), sampling.added_frames, dtype=torch.int64)
        if adds.any():
            frames = ((starts[adds] - sampling.given) % sampling.stride)[:, None]
            frames = frames + sampling.stride * np.arange(sampling.added_frames)
            found[torch.from_numpy(adds)] = self.batches.predicted_rows(video[adds][:, None], frames)
        return found

    def given(self, part: slice) -> Tensor:
        """The sampled frames (Q,F,S,D); those past the given frames are predicted ones, those without an object imagined."""
        out = F.embedding(self.tensors["frames"][part], self.batches.frames)
        width = out.shape[1]
        for there, name, rows, frames in (
            (self.late, "late", "predicted", self.batches.predicted),
            (self.without, "without", "imagined", self.batches.imagined),
        ):
            mine = slice(*np.searchsorted(there, (part.start * width, part.stop * width)).tolist())
            if mine.start < mine.stop:
                assert frames is not None
                here = self.tensors[name][mine] - part.start * width
                new = F.embedding(self.tensors[rows][mine], frames).to(out.dtype)
                out.view(-1, out.shape[-1]).index_copy_(0, here, new)
        return out.view(*out.shape[:2], *self.batches.shape[2:])

    def added(self, part: slice) -> Tensor:
        """The first predicted frames (Q,P,S,D) that continue the sampling, of questions that add them."""
        assert self.batches.predicted is not None
        rows = self.tensors["added"][part]
        return F.embedding(rows, self.batches.predicted).view(*rows.shape, *self.batches.shape[2:])
