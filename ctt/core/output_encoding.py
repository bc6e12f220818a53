"""Terminals that are not UTF-8: what they cannot show is replaced by what is nearest, and nothing ends with a traceback."""

from __future__ import annotations

import codecs
import os
import sys

NEAREST = {
    "×": "x", "≥": ">=", "≤": "<=", "±": "+-", "−": "-", "–": "-", "—": "-", "…": "...", "·": "-", "→": "->", "↔": "<->",
    "✓": "+", "✗": "-", "•": "*", "Δ": "d", "≈": "~", "∞": "inf", "“": '"', "”": '"', "’": "'", "█": "#", "░": ".",
    "━": "-", "╸": "-", "╺": "-", "└": "`", "├": "|", "│": "|", "─": "-",
}  # fmt: skip


def _nearest(error: UnicodeError) -> tuple[str | bytes, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    text = error.object[error.start : error.end]
    return "".join(NEAREST.get(character, "?") for character in text), error.end


def print_anything() -> None:
    """Lets this process print any text on a terminal of any encoding; processes that it starts use UTF-8."""
    codecs.register_error("ctt.nearest", _nearest)
    for stream in (sys.stdout, sys.stderr):
        encoding = codecs.lookup(getattr(stream, "encoding", None) or "utf-8").name
        if encoding != "utf-8" and hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="ctt.nearest")
            os.environ.setdefault("PYTHONUTF8", "1")
