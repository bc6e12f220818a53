"""Peak memory is that of the work since it was last forgotten."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from ctt.core.memory import forget_peak, peak_mib


@pytest.mark.skipif(not os.access("/proc/self/clear_refs", os.W_OK), reason="this system can't forget a peak")
def test_a_peak_is_of_what_came_since() -> None:
    np.ones(40_000_000)  # 305 MiB, freed at once
    before = peak_mib("cpu")
    forget_peak("cpu")
    forgotten = peak_mib("cpu")
    assert before - forgotten > 250
    np.ones(20_000_000)
    assert 130 < peak_mib("cpu") - forgotten < 170


def test_it_is_the_kernel_s_own_figure() -> None:
    (line,) = [at for at in Path("/proc/self/status").read_text().splitlines() if at.startswith("VmHWM")]
    assert abs(peak_mib("cpu") - int(line.split()[1]) / 1024) < 5
