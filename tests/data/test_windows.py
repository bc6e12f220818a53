"""Windows compared with loops."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ctt.core.errors import SettingError
from ctt.data.windows import Windows


@settings(max_examples=60, deadline=None)
@given(
    videos=st.integers(1, 4),
    frames=st.integers(2, 40),
    history=st.integers(1, 6),
    ahead=st.integers(1, 5),
    skip=st.integers(1, 6),
    all_starts=st.booleans(),
)
def test_gather_is_a_loop_over_videos_and_starts(videos, frames, history, ahead, skip, all_starts):
    rng = np.random.default_rng(0)
    slots = rng.standard_normal((videos, frames, 3, 2)).astype(np.float32)
    visible = rng.random((videos, frames + 5, 3)) < 0.5
    length = history + ahead
    expected, seen = [], []
    for v in range(videos):
        for start in range(frames):
            clip = [start + skip * t for t in range(length)]
            fits = clip[-1] < frames if all_starts else start + skip * length <= frames
            if fits:
                expected.append(slots[v, clip])
                seen.append(visible[v, clip])
    if not expected:
        with pytest.raises(SettingError, match="do not fit"):
            Windows(slots, history, ahead, skip, all_starts)
        return
    windows = Windows(slots, history, ahead, skip, all_starts, visible=visible)
    assert len(windows) == windows.count == len(expected)
    index = rng.permutation(windows.count)
    gathered = windows.gather(index)
    assert gathered.dtype == np.float32 and gathered.flags.c_contiguous
    assert np.array_equal(gathered, np.stack(expected)[index])
    assert np.array_equal(windows.visible(index), np.stack(seen)[index])


@pytest.mark.parametrize(("history", "ahead", "skip", "starts"), [(3, 1, 5, 109), (6, 10, 2, 97)])
def test_the_published_counts_of_windows(history, ahead, skip, starts):
    slots = np.zeros((2, 128, 7, 4), dtype=np.float32)
    assert Windows(slots, history, ahead, skip, all_starts=False).count == 2 * starts
    assert Windows(slots, history, ahead, skip, all_starts=True).count == 2 * (starts + skip - 1)


def test_a_window_that_does_not_exist_is_an_error():
    windows = Windows(np.zeros((2, 10, 1, 1), dtype=np.float32), 2, 1, 2, True)
    for wrong in (-1, windows.count):
        with pytest.raises(IndexError):
            windows.gather(np.array([0, wrong]))
    assert windows.gather(np.array([], dtype=np.int64)).shape == (0, 3, 1, 1)


def test_without_visibility_everything_counts_as_visible():
    assert Windows(np.zeros((1, 10, 2, 1), dtype=np.float32), 2, 1, 2, True).visible(np.array([0, 1])).all()


def test_visibility_of_another_data_set_is_refused():
    with pytest.raises(SettingError, match="does not match"):
        Windows(np.zeros((2, 10, 2, 1)), 2, 1, 2, True, visible=np.ones((3, 10, 2), dtype=bool))
