"""Spending: a sweep's device time, and how much of them merging, sharing and screening save."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.figure import Figure

from ctt.core.units import duration
from ctt.report.figures.style import GREY, OKABE_ITO, STYLE, save
from ctt.report.tables import row_text
from ctt.report.tables.grid import Grid

SAVED = {"merged": "equal points merged", "shared": "training shared", "screened": "ALOE screened"}
HATCHES = ("", "///", "xxx", "..")


def spending_grid(summary: Mapping[str, Any]) -> Grid:
    """The device time of a plan's summary (`ctt plan --json`): every run by itself, the savings, and what is left."""
    naive = summary["device_seconds_naive"]
    lines = [("every run by itself", *_hours(naive, naive))]
    lines += [(f"− {text}", *_hours(summary["saving"][name], naive)) for name, text in SAVED.items()]
    left = [("on an empty store", *_hours(summary["device_seconds"], naive))]
    left.append(("already in the store", *_hours(summary["saving"]["cached"], naive)))
    title = f"Device time of {summary['runs']} runs ({summary['unique_runs']} after merging)"
    return Grid(title, ("", "device time", "% of every run by itself"), (tuple(lines), tuple(left)))


def spending_picture(summary: Mapping[str, Any], path: Path | None = None) -> Figure:
    """One bar: what is computed, and what merging, sharing and screening save."""
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(7.0, 1.9), layout="constrained")
        axis = figure.subplots()
        parts = [("computed", summary["device_seconds"]), *((text, summary["saving"][what]) for what, text in SAVED.items())]
        unit, name = (3600.0, "h") if summary["device_seconds_naive"] > 2 * 3600 else (60.0, "min")
        left = 0.0
        for (text, seconds), colour, hatch in zip(parts, OKABE_ITO, HATCHES, strict=False):
            label = f"{text} {duration(seconds)}"
            axis.barh(0, seconds / unit, left=left, color=colour, hatch=hatch, edgecolor="white", label=label)
            left += seconds / unit
        axis.set(xlabel=f"device time, {name}", yticks=[], xlim=(0, max(left, 1e-9)))
        axis.spines["left"].set_visible(False)
        axis.tick_params(colors=GREY)
        figure.legend(loc="outside lower center", ncols=2)
        return save(figure, path)


def _hours(seconds: float, naive: float) -> tuple[str, str]:
    return duration(seconds), row_text.number(100 * seconds / naive if naive else None)
