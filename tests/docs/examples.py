"""The fenced blocks of pages as examples: files to write, commands and Python to run, output to compare.

```sh          commands, run one after another; each has to succeed
```console     `$ command` and what it prints; `…` stands for any lines, or for the rest of a line
```python      run, where it is no file
a first line `# NAME.yaml` (.toml, .py): a file, written into the working folder

A comment before a block changes that: `<!-- not run: REASON -->`, `<!-- slurm -->` (run on the tests' cluster),
`<!-- exact -->` (numbers are compared, too; otherwise each stands for any number), `<!-- exit: 0, 1 -->` (the codes that are fine).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
BLOCK = re.compile(r"^(?:<!-- (.+?) -->\n)?^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
FILE = re.compile(r"# (\S+\.(?:yaml|toml|py))\b")
NUMBER = re.compile(r"[+−-]?\d[\d.,]*(?<![.,])°?")
RUN = ("sh", "console", "python")


@dataclass(frozen=True)
class Block:
    """A fenced block: its language, text, mark, and the line of the page where it begins."""

    language: str
    text: str
    mark: str
    line: int

    @property
    def file(self) -> str | None:
        """The name of the file that it is, if it is one."""
        found = FILE.match(self.text)
        return found[1] if found and self.language in ("yaml", "toml", "python") else None

    @property
    def runs(self) -> bool:
        return self.language in RUN and self.file is None and not self.mark.startswith(("not run", "slurm"))

    @property
    def codes(self) -> tuple[int, ...]:
        """Exit codes that are fine."""
        found = re.fullmatch(r"exit: (\d+(?:, \d+)*)", self.mark)
        return tuple(map(int, found[1].split(", "))) if found else (0,)

    @property
    def commands(self) -> list[tuple[str, list[str]]]:
        """Commands, and the lines that each is shown to print (none for `sh`)."""
        if self.language == "sh":
            lines = (line.partition("  #")[0].strip() for line in self.text.splitlines())
            return [(line, []) for line in lines if line and not line.startswith("#")]
        found: list[tuple[str, list[str]]] = []
        for line in self.text.splitlines():
            if line.startswith("$ "):
                found.append((line[2:].partition("  #")[0].strip(), []))
            else:
                found[-1][1].append(line)
        return found


def blocks(page: str) -> list[Block]:
    """The fenced blocks of a page, a path relative to the checkout."""
    text = (ROOT / page).read_text(encoding="utf-8")
    return [Block(m[2], m[3], m[1] or "", text[: m.start()].count("\n") + 1) for m in BLOCK.finditer(text)]


def missing(shown: Sequence[str], printed: str, exact: bool = False) -> str | None:
    """The first shown line that was not printed where it should be; None if all were."""
    lines = [_plain(line, exact) for line in printed.splitlines()]
    lines = [line for line in lines if line]
    at, anywhere = 0, False
    for line in shown:
        wanted = _plain(line, exact)
        if wanted in ("", "…"):
            anywhere = anywhere or wanted == "…"
            continue
        found = next((k for k in range(at, len(lines)) if _fits(wanted, lines[k])), None)
        if found is None or (found > at and not anywhere):
            return line
        at, anywhere = found + 1, False
    return None


def _fits(wanted: str, line: str) -> bool:
    return line.startswith(wanted[:-1].rstrip()) if wanted.endswith("…") else line == wanted


def _plain(line: str, exact: bool) -> str:
    line = re.sub(r"[─━]+", "─", line)
    return " ".join((line if exact else NUMBER.sub("#", line)).split())
