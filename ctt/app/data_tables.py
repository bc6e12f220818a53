"""The tables of `ctt data check`: a split beside CLEVRER's figures, and what is answered without the video."""

from __future__ import annotations

from typing import Any

from rich.table import Table

from ctt.data import composition


def shares(split: str, found: dict[str, Any]) -> Table:
    """A split's counts (`check.statistics`) beside the official ones."""
    table = Table(title=f"{split}: {found['videos']} videos, {sum(found['questions'].values())} questions")
    for column in ("", "", "count", "%", "CLEVRER %", "apart"):
        table.add_column(column, justify="left" if not column else "right")
    group = ""
    for line in composition.lines(found, split):
        shown = [_percent(value) for value in (line.share, line.official)]
        apart = f"{line.apart:+.1f}" if line.apart is not None else "–"
        table.add_row(line.group if line.group != group else "", line.name, str(line.count), *shown, apart)
        group = line.group
    return table


def blind(levels: dict[str, dict[str, Any]]) -> Table:
    """The levels of `check.blind`."""
    said = "the most frequent answer of the question's form; a model of the question's words"
    table = Table(title=f"answered without the video, in %: {said}")
    for column in ("", "form, per question", "per option", "words, per question", "per option"):
        table.add_column(column, justify="left" if not column else "right")
    for category in levels["form"]["per_question"]:
        values = [level[per][category] for level in levels.values() for per in ("per_question", "per_option")]
        table.add_row(category, *map(_percent, values))
    form, words = (_percent(levels[name]["average"]) for name in ("form", "words"))
    table.add_row("average", form, "", words, "")
    return table


def _percent(value: float | None) -> str:
    return "–" if value is None else f"{value:.1f}"
