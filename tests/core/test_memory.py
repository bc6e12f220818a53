"""The memory peak covers the time since its last reset; the collection that a block pauses goes on after it."""

from __future__ import annotations

import gc
import os
from pathlib import Path

import numpy as np
import pytest

from ctt.core.memory import paused_gc, peak_mib, reset_peak


@pytest.mark.skipif(not os.access("/proc/self/clear_refs", os.W_OK), reason="this system can't reset a peak")
def test_a_peak_excludes_what_was_before_the_reset() -> None:
    np.ones(40_000_000)  # 305 MiB, freed at once
    before = peak_mib("cpu")
    reset_peak("cpu")
    reset = peak_mib("cpu")
    assert before - reset > 250
    np.ones(20_000_000)
    assert 130 < peak_mib("cpu") - reset < 170


def test_it_is_the_kernels_own_figure() -> None:
    (line,) = [at for at in Path("/proc/self/status").read_text().splitlines() if at.startswith("VmHWM")]
    assert abs(peak_mib("cpu") - int(line.split()[1]) / 1024) < 5


@pytest.mark.parametrize("collecting", [True, False])
def test_a_pause_of_the_collection_ends_with_the_block_also_by_an_error(collecting: bool) -> None:
    try:
        (gc.enable if collecting else gc.disable)()
        with pytest.raises(KeyError), paused_gc():
            assert not gc.isenabled()
            raise KeyError
        assert gc.isenabled() == collecting
    finally:
        gc.enable()
