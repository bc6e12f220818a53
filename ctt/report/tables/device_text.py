"""Texts of a table on devices: on what the stages of each point ran."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ctt.report.tables.row import Row

NAMED = 3
"""Points that a line names."""


def devices(found: Mapping[str, Sequence[str]]) -> str:
    """ "all stages on cpu", or "world model on cuda (NVIDIA H200); rollout, ALOE on cpu"; "" if none is recorded."""
    groups: dict[str, list[str]] = {}
    for label, names in found.items():
        groups.setdefault(" and ".join(names), []).append(label)
    if len(groups) == 1:
        return f"all stages on {next(iter(groups))}"
    return "; ".join(f"{', '.join(labels)} on {names}" for names, labels in groups.items())


def device_notes(rows: Sequence[Row]) -> list[str]:
    """A line of all points, or one for each group of points whose stages ran on the same devices."""
    groups: dict[str, list[str]] = {}
    for row in rows:
        if text := devices(row.devices):
            groups.setdefault(text, []).append(row.label)
    if len(groups) == 1:
        return [f"devices: {next(iter(groups))}"]
    lines = []
    for text, labels in groups.items():
        more = f" and {len(labels) - NAMED} more" if len(labels) > NAMED else ""
        lines.append(f"devices ({', '.join(labels[:NAMED])}{more}): {text}")
    return lines
