"""Batches of ALOE's training: questions from random first frames, in pieces of similar length."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from ctt.core.build_context import BuildContext
from ctt.models.aloe.aloe_settings import AloeSettings
from ctt.training.vqa import VqaLearner
from tests.training.numbered import first_frames, numbered
from tests.training.small_aloe import SMALL
from tests.training.toy_questions import make


@pytest.fixture(scope="module")
def toy(tmp_path_factory):
    return numbered(*make(tmp_path_factory.mktemp("toy"), train=40, validation=2))


def learner(toy: tuple[Any, Any], seed: int = 0, rollouts: bool = True, **changes: Any) -> VqaLearner:
    dataset, predicted = toy
    settings = AloeSettings(**(SMALL | changes))
    return VqaLearner(settings, seed, dataset, predicted if rollouts else None, BuildContext(dataset.folder))


def starts(learner: VqaLearner, epochs: int = 2) -> np.ndarray:
    """(epochs, steps, questions of a step): the first frames in the order in which the questions were drawn."""
    found = []
    for epoch in range(epochs):
        for step in range(learner.steps):
            frames = first_frames(learner, epoch, step)
            found.append([frames[question] for question in learner.questions_of(epoch, step).tolist()])
    return np.array(found).reshape(epochs, learner.steps, learner.batch)


@pytest.mark.parametrize("frames, count", [(25, 8), (8, 16)])
def test_training_draws_every_question_s_first_frame_at_random(toy, frames: int, count: int) -> None:
    """Evaluation's fixed one (`eval_start`) has no effect on training."""
    settings = dict(frames=frames, eval_start=4)
    drawn = starts(learner(toy, rollouts=False, **settings))
    assert drawn.size == 2 * 6 * 32 and drawn.min() == 0 and drawn.max() == count - 1
    each = np.bincount(drawn.reshape(-1), minlength=count) / drawn.size
    assert len(each) == count and abs(each - 1 / count).max() < 4.5 * (1 / count / drawn.size) ** 0.5
    assert all(len({*step}) > 3 for epoch in drawn for step in epoch)
    assert len({tuple(step) for epoch in drawn for step in epoch}) == 12  # no two steps, and no two epochs, draw alike
    assert (starts(learner(toy, rollouts=False, **settings | {"eval_start": None})) == drawn).all()
    assert (starts(learner(toy, seed=1, rollouts=False, **settings)) != drawn).any()


@pytest.mark.parametrize("added", [None, 2])
@pytest.mark.parametrize("buckets", [1, 4])
def test_a_batch_is_cut_into_the_configured_number_of_pieces_by_length(toy, buckets: int, added: int | None) -> None:
    """Questions with added predicted frames are in separate pieces, which are cut by length too."""
    made = learner(toy, buckets=buckets, predicted_frames=added)
    split = made.train_split
    for step in range(made.steps):
        pieces = list(made.arranged(0, 0).pieces(step))
        groups = [[p for p in pieces if (p.input.added is not None) == adds] for adds in (False, True)]
        assert bool(groups[1]) == (added is not None)
        assert len(pieces) == buckets or (added is not None and len(pieces) == buckets + 1)
        assert sorted(np.concatenate([piece.rows for piece in pieces])) == sorted(split.rows_of(made.questions_of(0, step)))
        for group in groups:
            lengths = [split.length[piece.rows] for piece in group]
            assert all(shorter.max() <= longer.min() for shorter, longer in zip(lengths, lengths[1:], strict=False))
            sizes = [len(piece.rows) for piece in group]
            assert not sizes or max(sizes) - min(sizes) <= 1
        if buckets == 4:
            computed = sum(piece.input.text.numel() for piece in pieces)
            widest = max(len(piece.input.columns) for piece in pieces)
            assert computed < 0.9 * widest * sum(len(piece.rows) for piece in pieces)
