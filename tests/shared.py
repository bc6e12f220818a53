"""Where the reference material lies for those who have it; tests that read it skip with a reason elsewhere."""

from pathlib import Path

import pytest

SHARED = Path(__file__).resolve().parents[2] / "shared"
needs_shared = pytest.mark.skipif(not SHARED.is_dir(), reason="the CLEVRER samples lie in ../shared, which is absent")
