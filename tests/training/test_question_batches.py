"""The contents of batches, compared with a loader that builds one sequence at a time."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from ctt.core.errors import DataError
from ctt.data.questions.vocab import tokenise
from ctt.models.aloe.aloe_settings import AloeSettings
from ctt.models.aloe.frame_sampling import FrameSampling
from ctt.training.batches.question_batches import ArrangedBatches, QuestionBatches
from tests.training.toy_questions import make


@pytest.fixture(scope="module")
def toy(tmp_path_factory):
    dataset, _ = make(tmp_path_factory.mktemp("toy"), train=6, validation=2)
    split = dataset.split("train")
    # every frame of every slot has its own value
    numbered = np.arange(6 * 128 * 7, dtype=np.float32).reshape(6, 128, 7, 1) + np.zeros(128, np.float32)
    predicted = -1 - np.arange(6 * 32 * 7, dtype=np.float32).reshape(6, 32, 7, 1) + np.zeros(128, np.float32)
    split.slots = numbered
    return split, predicted


def frames_of(settings: AloeSettings, category: str, start: int, rollouts: bool) -> list[int]:
    """The frames of a question, by the published rule and its two extensions."""
    stride = 128 // settings.frames
    frames = [start + stride * k for k in range(settings.frames)]
    if rollouts and (category == "predictive" or settings.rollout_frames == "all"):
        if settings.predicted_frames is None and settings.rollout_frames == "predictive":
            return [frame + 32 for frame in frames]
        more = [f for f in range(start, 160, stride) if f >= 128]
        return frames + more[: settings.predicted_frames or 32 // stride]
    return frames


@given(
    st.sampled_from([(25, None), (25, 6), (25, 3), (16, None), (16, 4), (10, 2)]),
    st.sampled_from(["predictive", "all"]),
    st.booleans(),
    st.integers(1, 6),
    st.booleans(),
    st.integers(0, 10_000),
)
@hypothesis_settings(max_examples=40, deadline=None)
def test_sequences_equal_those_built_one_by_one(toy, sizes, which, with_rollouts, pieces, by_layout, seed):
    split, predicted = toy
    frames, predicted_frames = sizes
    settings = AloeSettings(frames=frames, predicted_frames=predicted_frames, rollout_frames=which)
    batches = QuestionBatches(settings, split, predicted if with_rollouts else None)
    random = np.random.default_rng(seed)
    chosen = random.permutation(batches.questions)[: random.integers(1, batches.questions)]
    starts = random.integers(0, FrameSampling(settings).starts, batches.questions)
    table, whole = split.questions, np.concatenate([split.slots, predicted], 1)
    rows = batches.rows_of(chosen)
    assert sorted(rows) == sorted(r for q in chosen for r in range(len(table.video)) if batches.question[r] == q)
    seen = []
    for piece in batches.pieces(chosen, starts[chosen], pieces, by_layout):
        text = np.zeros((len(piece.rows), 32), np.int64)
        text[:, piece.input.columns.numpy()] = piece.input.text.numpy()
        for i, row in enumerate(piece.rows):
            seen.append(row)
            category = ["descriptive", "explanatory", "predictive", "counterfactual"][table.category[row]]
            want = frames_of(settings, category, starts[batches.question[row]], with_rollouts)
            owner = int(piece.input.owner[i])
            got = [piece.input.given[owner].numpy()]
            if piece.input.added is not None:
                got.append(piece.input.added[owner].numpy())
            np.testing.assert_array_equal(np.concatenate(got), whole[table.video[row], want])
            words = [*table.question_tokens[row], *table.choice_tokens[row]]
            np.testing.assert_array_equal(text[i], words)
            assert bool(piece.input.descriptive[i]) == (category == "descriptive") == (i < piece.descriptive)
            assert int(piece.answer[i]) == table.answer[row]
    assert sorted(seen) == sorted(rows)


@given(st.sampled_from([None, 4]), st.integers(1, 5), st.integers(1, 9), st.integers(1, 6), st.integers(0, 10_000))
@hypothesis_settings(max_examples=30, deadline=None)
def test_batches_arranged_at_once_equal_those_arranged_singly(toy, predicted_frames, many, size, count, seed):
    split, predicted = toy
    settings = AloeSettings(frames=16, predicted_frames=predicted_frames)
    batches = QuestionBatches(settings, split, predicted)
    random = np.random.default_rng(seed)
    questions = np.stack([random.permutation(batches.questions)[:size] for _ in range(many)])
    starts = random.integers(0, FrameSampling(settings).starts, questions.shape)
    arranged = ArrangedBatches(batches, questions, starts, count)
    for n in reversed(range(many)):
        pieces, single = list(arranged.pieces(n)), list(batches.pieces(questions[n], starts[n], count))
        for a, b in zip(pieces, single, strict=True):
            np.testing.assert_array_equal(a.rows, b.rows)
            assert torch.equal(a.answer, b.answer) and a.descriptive == b.descriptive
            one, other = a.tensors(), b.tensors()
            assert one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)
            assert a.input.padded == b.input.padded == bool((a.input.text == 0).any())
        kinds = batches.category[np.concatenate([piece.rows for piece in pieces])]
        assert arranged.sequences(n) == (int((kinds == 0).sum()), int((kinds != 0).sum()))


@pytest.mark.parametrize("shares", [[1.0, 1.0, 1.0, 1.0], [1.0, 0.5, 0.0, 0.1]])
@pytest.mark.parametrize("eval_start", [None, 0, 4])
@pytest.mark.parametrize(
    ("frames", "added", "which"),
    [
        (25, None, "predictive"), (25, None, "all"), (25, 3, "predictive"), (16, 4, "all"), (10, 2, "predictive"),
        (4, None, "all"), (2, None, "predictive"),
    ],
)  # fmt: skip
def test_as_many_frames_are_rolled_out_as_are_needed(toy, frames, added, which, eval_start, shares) -> None:
    """By the rule of single sequences; with one frame fewer an error is raised, and no frame of another video is used."""
    settings = AloeSettings(frames=frames, predicted_frames=added, rollout_frames=which, eval_start=eval_start, shares=shares)
    sampling = FrameSampling(settings)
    possible, kinds = range(sampling.starts), ("descriptive", "explanatory", "predictive", "counterfactual")
    read = [(kind, start) for kind, share in zip(kinds, shares, strict=True) if share for start in possible]
    read += [(kind, start) for kind in kinds for start in (possible if eval_start is None else [eval_start])]
    last = {start: max(frames_of(settings, "predictive", start, True)) - 127 for start in possible}
    needed = [last[start] for kind, start in read if which == "all" or kind == "predictive"]
    assert sampling.frames_ahead == max(0, *needed)

    split, predicted = toy
    predictive = np.flatnonzero(np.isin(split.questions.category, 2))
    start = max((s for s in possible if last[s] <= sampling.frames_ahead), key=lambda s: last[s])
    for rolled_out in {max(1, sampling.frames_ahead - 1), max(1, sampling.frames_ahead)}:
        batches = QuestionBatches(settings, split, predicted[:, :rolled_out])
        questions = np.unique(batches.question[predictive])
        starts = np.full(len(questions), start)
        if last[start] <= rolled_out:
            assert sum(len(piece.rows) for piece in batches.pieces(questions, starts, 2)) == len(predictive)
        else:
            with pytest.raises(DataError, match=f"only {rolled_out} are rolled out; set rollout.frames to at least"):
                list(batches.pieces(questions, starts, 2))


def test_pieces_by_layout_hold_less_padding(toy) -> None:
    """For sequences of equal length whose questions and choices differ in length: by length alone every piece is mixed."""
    split, _ = toy
    batches = QuestionBatches(AloeSettings(), split, None)
    every = np.arange(batches.questions)
    rows, starts = batches.rows_of(every), np.full(batches.questions, 4)
    batches.choice_length = np.array([0, 4, 5])[np.arange(len(batches.text)) % 3]
    batches.length = np.full(len(batches.text), 14)
    places = np.arange(32)
    batches.text[:] = np.where(places < 20, places < 14 - batches.choice_length[:, None], False)
    batches.text[:] |= (places >= 20) & (places < 20 + batches.choice_length[:, None])
    padded = []
    for by_layout in (True, False):
        pieces = list(batches.pieces(every, starts, len(rows) // 6, by_layout))
        padded.append(sum(bool((piece.input.text == 0).any()) for piece in pieces))
    assert padded[0] <= 2 and padded[1] == len(pieces) > 5


def test_bf16_slots_are_the_rounded_ones(toy) -> None:
    split, predicted = toy
    exact, rounded = (QuestionBatches(AloeSettings(precision=p), split, predicted) for p in ("fp32", "bf16"))
    every, starts = np.arange(exact.questions), np.full(exact.questions, 4)
    for a, b in zip(exact.pieces(every, starts, 3), rounded.pieces(every, starts, 3), strict=True):
        assert a.input.given.dtype == torch.float32 and torch.equal(a.input.given.bfloat16(), b.input.given)


def test_questions_keep_their_choices_together(toy) -> None:
    split, _ = toy
    batches = QuestionBatches(AloeSettings(), split, None)
    table = split.questions
    groups = {(int(v), int(q)) for v, q in zip(table.video, table.question_id, strict=True)}
    assert batches.questions == len(groups) == 6 * 5
    for question in range(batches.questions):
        rows = batches.rows_of(np.array([question]))
        assert len({(int(table.video[r]), int(table.question_id[r])) for r in rows}) == 1
        assert (table.choice_id[rows] == (np.arange(len(rows)) if table.category[rows[0]] else [-1])).all()


def test_texts_are_the_tokeniser_s(toy) -> None:
    split, _ = toy
    row = int(np.flatnonzero(split.questions.category == 2)[0])
    words = tokenise("What will happen next?")
    batches = QuestionBatches(AloeSettings(), split, None)
    assert batches.text[row, :20].tolist() == words + [0] * (20 - len(words))
    assert batches.text[row, 20:].any()
