"""The terminal that ctt prints to: its console, and what is nearest to a character that its encoding does not have."""

from __future__ import annotations

import codecs
import contextlib
import os
import re
import shutil
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # rich takes a tenth of a second to import, and completion needs none
    from rich.console import Console

NEAREST = {
    "×": "x", "≥": ">=", "≤": "<=", "±": "+-", "−": "-", "–": "-", "—": "-", "…": "...", "·": "-", "→": "->", "↔": "<->",
    "✓": "+", "✗": "-", "•": "*", "Δ": "d", "≈": "~", "∞": "inf", "“": '"', "”": '"', "’": "'", "█": "#", "░": ".",
    "━": "-", "╸": "-", "╺": "-", "└": "`", "├": "|", "│": "|", "─": "-",
}  # fmt: skip

NARROWEST, USUAL = 10, 80
"""Columns: a terminal that claims fewer than the first (COLUMNS=0 of a terminal without a size) has the second; rich would print
nothing."""


def _nearest(error: UnicodeError) -> tuple[str | bytes, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    text = error.object[error.start : error.end]
    return "".join(NEAREST.get(character, "?") for character in text), error.end


def print_anything() -> None:
    """Lets this process print any text on a terminal of any encoding; processes that it starts use UTF-8."""
    codecs.register_error("ctt.nearest", _nearest)
    _replace_closed()
    for stream in (sys.stdout, sys.stderr):
        encoding = codecs.lookup(getattr(stream, "encoding", None) or "utf-8").name
        if encoding != "utf-8" and hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="ctt.nearest")
            os.environ.setdefault("PYTHONUTF8", "1")


def _replace_closed() -> None:
    """Gives this process the null device for standard streams that its caller has closed (`>&-`): the next file that is opened
    would get their numbers, and what libraries print would be written to it."""
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is None:
            with contextlib.suppress(OSError):
                os.fstat(number)
                continue  # it is in use by now
            file = os.open(os.devnull, os.O_RDWR)
            if file != number:
                os.dup2(file, number, inheritable=True)
                os.close(file)
            os.set_inheritable(number, True)
            setattr(sys, name, open(number, "w" if number else "r", encoding="utf-8", closefd=False))  # noqa: SIM115  # to the end


def line_starts(line: str, width: int) -> list[int]:
    """Where a line is broken to fit `width` columns: before words, never within one."""
    starts, used = [], 0
    for word in re.finditer(r"\s*\S+\s*", line):
        if used and used + len(word[0].rstrip()) > width:
            starts.append(word.start())
            used = 0
        used += len(word[0])
    return starts


def print_error(text: str) -> None:
    """Prints a line on standard error, broken between words where that is a terminal."""
    if sys.stderr.isatty():
        lines = []
        for line in text.split("\n"):
            starts = line_starts(line, shutil.get_terminal_size().columns)
            lines += [line[a:b].rstrip() for a, b in zip([0, *starts], [*starts, None], strict=True)]
        text = "\n".join(lines)
    print(text, file=sys.stderr)


def terminal(**options: Any) -> Console:
    """A console on standard output, or of these options. Where NO_COLOR is set it writes no style at all, bold neither. A pipe
    whose reader has gone is BrokenPipeError, as of `print`; rich would end the process with exit code 1. soft_wrap means a line
    as it is in files and pipes, and one that is broken between words on a terminal; with no_wrap, as of what people copy, not."""
    from rich.console import Console
    from rich.text import Text

    class Terminal(Console):
        def print(self, *objects: Any, **options: Any) -> None:
            if options.get("soft_wrap") and not options.get("no_wrap") and self.is_terminal and len(objects) == 1:
                highlight, markup = options.get("highlight"), options.get("markup")
                text = (
                    self.render_str(objects[0], highlight=highlight, markup=markup) if isinstance(objects[0], str) else objects[0]
                )
                objects = (Text("\n").join(part for line in text.split("\n") for part in self._broken(line)),)
            super().print(*objects, **options)

        def _broken(self, line: Text) -> Iterator[Text]:
            indent = line.plain[: len(line.plain) - len(line.plain.lstrip(" "))]
            parts = line.divide(line_starts(line.plain, self.width - len(indent)))
            for i, part in enumerate(parts):
                part.rstrip()
                yield Text(indent) + part if i else part

        def on_broken_pipe(self) -> None:
            raise  # the BrokenPipeError in whose handler rich calls this

    console = Terminal(color_system=None if os.environ.get("NO_COLOR") else "auto", **options)
    if console.width < NARROWEST:
        console.width = USUAL
    return console
