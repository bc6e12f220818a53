"""The terminal that ctt prints to."""

from __future__ import annotations

import os
from typing import Any

from rich.console import Console


def terminal(**options: Any) -> Console:
    """A console on standard output, or of these options. Where NO_COLOR is set it writes no style at all, bold neither."""
    return Console(color_system=None if os.environ.get("NO_COLOR") else "auto", **options)
